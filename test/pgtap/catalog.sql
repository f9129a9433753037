-- catalog.sql: what must hold for every object of the extension, found in the catalog, so that an object made tomorrow is tested too.
--
-- Each rule is one query that lists the offenders; none is right. The list of SECURITY DEFINER functions is the one place to name them.

BEGIN;
SET LOCAL search_path = public, pg_catalog;
SELECT plan(22);

CREATE TEMP VIEW functions AS
    SELECT p.oid, n.nspname || '.' || p.proname AS name, p.proname, n.nspname, p.prosecdef, p.proconfig, p.proowner, p.provolatile, p.prosrc, l.lanname,
           coalesce(p.proacl, acldefault('f', p.proowner)) AS acl
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang WHERE n.nspname IN ('goya', 'goya_private');
CREATE TEMP VIEW relations AS
    SELECT c.oid, n.nspname || '.' || c.relname AS name, n.nspname, c.relname, c.relkind, c.relrowsecurity, c.relforcerowsecurity, c.reloptions, c.relowner,
           coalesce(c.relacl, acldefault('r', c.relowner)) AS acl
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname IN ('goya', 'goya_private') AND c.relkind IN ('r', 'p', 'v', 'S');

SELECT cmp_ok((SELECT count(*) FROM functions), '>', 100::bigint, 'there are functions to look at');
SELECT cmp_ok((SELECT count(*) FROM relations), '>', 30::bigint, 'and relations');

-- Said to people
SELECT is_empty($$SELECT name FROM functions WHERE nspname = 'goya' AND coalesce(obj_description(oid, 'pg_proc'), '') = ''$$, 'every public function has a comment');
SELECT is_empty($$SELECT name FROM relations WHERE nspname = 'goya' AND coalesce(obj_description(oid, 'pg_class'), '') = ''$$, 'every public table and view has a comment');
SELECT is_empty($$SELECT t.oid::regtype FROM pg_type t WHERE t.typnamespace = 'goya'::regnamespace AND t.typtype IN ('e', 'd')
    AND coalesce(obj_description(t.oid, 'pg_type'), '') = ''$$, 'every public type has a comment');
SELECT is_empty($$SELECT name FROM functions WHERE nspname = 'goya'
    AND length(split_part(obj_description(oid, 'pg_proc'), E'\n', 1)) > 160$$, 'whose first line is a summary');
SELECT is_empty($$SELECT p.oid::regprocedure, a FROM pg_proc p CROSS JOIN unnest(p.proargnames) a WHERE p.pronamespace = 'goya'::regnamespace
    AND (a = '' OR a LIKE 'p\_%')$$, 'arguments are named as their JSON keys');
SELECT is_empty($$SELECT name, count(*) FROM functions WHERE nspname = 'goya' GROUP BY name HAVING count(*) > 1$$, 'no public function is overloaded');

-- Privileges
SELECT is_empty($$SELECT f.name FROM functions f CROSS JOIN aclexplode(f.acl) a WHERE a.grantee = 0$$, 'no function is granted to PUBLIC');
SELECT is_empty($$SELECT r.name FROM relations r CROSS JOIN aclexplode(r.acl) a WHERE a.grantee = 0
    UNION SELECT r.name FROM relations r JOIN pg_attribute t ON t.attrelid = r.oid CROSS JOIN aclexplode(t.attacl) a WHERE a.grantee = 0$$, 'no relation or column is');
SELECT is_empty($$SELECT n.nspname FROM pg_namespace n CROSS JOIN aclexplode(n.nspacl) a WHERE n.nspname IN ('goya', 'goya_private') AND a.grantee = 0$$, 'no schema is');
SELECT is_empty($$SELECT t.oid::regtype FROM pg_type t CROSS JOIN aclexplode(coalesce(t.typacl, acldefault('T', t.typowner))) a
    WHERE t.typnamespace IN ('goya'::regnamespace, 'goya_private'::regnamespace) AND t.typtype IN ('e', 'd', 'r') AND a.grantee = 0$$, 'no type is');
SELECT set_eq($$SELECT DISTINCT r.name || ' ' || a.privilege_type || ' ' || a.grantee::regrole FROM relations r CROSS JOIN aclexplode(r.acl) a
                WHERE a.grantee <> r.relowner AND (a.privilege_type <> 'SELECT' OR r.nspname = 'goya_private')$$,
    $$SELECT 'goya_private.task_log SELECT ' || unnest('{goya_reader,goya_user,goya_admin}'::text[])$$,
    'beside SELECT in schema goya nothing is granted on whole tables; of the internals only the log of tasks, which has policies');
SELECT set_eq($$SELECT DISTINCT f.name FROM functions f CROSS JOIN aclexplode(f.acl) a WHERE a.grantee <> f.proowner AND f.nspname = 'goya_private'$$,
    $$SELECT 'goya_private.' || unnest('{brief_error,caller_is_reader,find_stuck_tasks,health_inside,health_outside,in_task,iso_time,visible_activity}'::text[])$$,
    'of the internal functions only those that views need are granted');
SELECT is_empty($$SELECT name FROM functions f CROSS JOIN aclexplode(f.acl) a
    WHERE a.grantee NOT IN (f.proowner, 'goya_reader'::regrole, 'goya_user'::regrole, 'goya_admin'::regrole)$$, 'nobody but goya''s three roles is granted anything');
SELECT is_empty($$SELECT name FROM functions WHERE proowner <> 'goya_owner'::regrole UNION ALL SELECT name FROM relations WHERE relowner <> 'goya_owner'::regrole
    UNION ALL SELECT nspname FROM pg_namespace WHERE nspname IN ('goya', 'goya_private') AND nspowner <> 'goya_owner'::regrole$$, 'everything belongs to goya_owner');
SELECT is_empty($$SELECT rolname FROM pg_roles WHERE rolname IN ('goya_owner', 'goya_executor', 'goya_listener')
    AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication)
    UNION ALL SELECT member::regrole::name FROM pg_auth_members WHERE member IN ('goya_owner'::regrole, 'goya_executor'::regrole, 'goya_listener'::regrole)$$,
    'the roles of the processes have no power of their own and are members of nothing');

-- SECURITY DEFINER
SELECT is_empty($$SELECT name FROM functions WHERE prosecdef AND NOT coalesce(proconfig @> '{"search_path=pg_catalog, pg_temp"}', false)$$,
    'SECURITY DEFINER functions have a fixed search_path');
SELECT set_eq($$SELECT nspname || '.' || proname FROM functions WHERE prosecdef$$, $list$SELECT 'goya.' || unnest(string_to_array(
    'activate_operator_version activate_tenant add_member add_operator_version adopt_copy approve cancel capture check context_at create_operator create_tenant '
    'create_trigger create_workflow delete_workflow derivation_tree diagnose diff_workflow disable_trigger disable_workflow drop_schema drop_trigger '
    'enable_trigger enable_workflow explain_workflow export_workflow finish_asset grant_credit graph hold patch_context pause publish_workflow '
    'delete_secret hash_pii list_master_keys reseal_secrets reseal_values set_secret '
    'quote refund register_asset register_authenticator register_schema release remove_member report_progress resume retry rollback_workflow save_draft '
    'search_assets set_artifact_maturity set_price signal suspend_tenant task_context task_events_since task_svg timeline top_up '
    'activate_algorithm_version add_algorithm_version add_implementation choose_implementation create_algorithm create_model create_node_kind create_operator_template '
    'drop_implementation drop_model drop_model_profile drop_node_kind drop_operator_template drop_prompt get_prompt install_template publish_operator record_evaluation '
    'rollback_operator set_model_profile set_model_status set_operator_dependencies set_operator_status set_prompt test_model test_operator test_result update_model '
    'unregister_authenticator update_artifact read_stream wait_for_task '
    'allow_egress deny_egress drop_egress_rule callback claim_work wait_for_work heartbeat complete_work fail_work list_work '
    'create_mcp_server update_mcp_server drop_mcp_server sync_mcp_server install_mcp_tool '
    'create_program drop_program allow_program list_programs '
    'set_tool_policy drop_tool_policy explain_tool_policy stop_agent', ' '))
    UNION ALL SELECT 'goya_private.' || unnest(string_to_array(
    'find_asset find_stuck_tasks find_workflow health_inside mark_origin not_found publish_event publish_ready_assets '
    'require_admin require_tenant require_writer schedule_cron set_tenant_status unschedule_trigger visible_activity', ' '))$list$, 'and are those of this list');

-- Tables
SELECT is_empty($$SELECT name FROM relations WHERE nspname = 'goya' AND relkind IN ('r', 'p') AND NOT (relrowsecurity AND relforcerowsecurity)$$,
    'every public table has row-level security, enabled and forced');
SELECT is_empty($$SELECT name FROM relations WHERE relkind = 'v' AND nspname = 'goya' AND NOT coalesce(reloptions @> '{security_invoker=true}', false)$$,
    'every public view runs as its reader');
SELECT is_empty($$SELECT name FROM relations WHERE relkind IN ('r', 'p', 'S')
    AND NOT oid = ANY ((SELECT extconfig FROM pg_extension WHERE extname = 'goya')::oid[])$$, 'a dump keeps every table');

SELECT * FROM finish();
ROLLBACK;
