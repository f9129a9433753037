-- 91_grants.sql: who may use what. Everything is goya_owner's; nothing is PUBLIC's; the rest is in the lists below.
--
-- Decided: reading is a matter of policies (90_policies.sql), so all three roles may select from every table and view of schema goya; writing goes
-- through functions, but for assets, whose plain columns goya_user may insert and update. goya_admin may all that goya_user may, and the functions
-- of administrators, which also ask goya.is_admin() themselves. goya_executor and goya_listener get nothing.
-- Must hold: a function or view of schema goya that no list names, or a name in a list that does not exist, stops the installation.
-- The owner is set before anything is granted, so that what pg_init_privs remembers is what stays, and a dump repeats none of it.

DO $$
DECLARE
    object record;
BEGIN
    FOR object IN
        SELECT 'SCHEMA' AS kind, n.oid::pg_catalog.regnamespace::text AS name
        FROM pg_catalog.pg_namespace n WHERE n.nspname IN ('goya', 'goya_private')
        UNION ALL
        SELECT CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.oid::pg_catalog.regclass::text
        FROM pg_catalog.pg_class c
        WHERE c.relnamespace IN ('goya'::pg_catalog.regnamespace, 'goya_private'::pg_catalog.regnamespace) AND c.relkind IN ('r', 'p', 'v', 'S')
        UNION ALL
        SELECT 'ROUTINE', p.oid::pg_catalog.regprocedure::text FROM pg_catalog.pg_proc p
        WHERE p.pronamespace IN ('goya'::pg_catalog.regnamespace, 'goya_private'::pg_catalog.regnamespace)
        UNION ALL
        SELECT 'TYPE', t.oid::pg_catalog.regtype::text FROM pg_catalog.pg_type t
        WHERE t.typnamespace IN ('goya'::pg_catalog.regnamespace, 'goya_private'::pg_catalog.regnamespace)
              AND (t.typtype IN ('e', 'd', 'r') OR EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = t.typrelid AND c.relkind = 'c'))
    LOOP
        EXECUTE pg_catalog.format('ALTER %s %s OWNER TO goya_owner', object.kind, object.name);
    END LOOP;

    -- Also what ALTER DEFAULT PRIVILEGES of the installing role gave to anybody.
    FOR object IN
        SELECT DISTINCT o.kind, o.name, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::pg_catalog.regrole::text END AS grantee
        FROM (SELECT 'SCHEMA' AS kind, n.oid::pg_catalog.regnamespace::text AS name, n.nspowner AS owner,
                     coalesce(n.nspacl, pg_catalog.acldefault('n', n.nspowner)) AS acl
              FROM pg_catalog.pg_namespace n WHERE n.nspname IN ('goya', 'goya_private')
              UNION ALL
              SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.oid::pg_catalog.regclass::text, c.relowner, c.relacl
              FROM pg_catalog.pg_class c
              WHERE c.relnamespace IN ('goya'::pg_catalog.regnamespace, 'goya_private'::pg_catalog.regnamespace) AND c.relkind IN ('r', 'p', 'v', 'S')
              UNION ALL
              SELECT 'ROUTINE', p.oid::pg_catalog.regprocedure::text, p.proowner, coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))
              FROM pg_catalog.pg_proc p WHERE p.pronamespace IN ('goya'::pg_catalog.regnamespace, 'goya_private'::pg_catalog.regnamespace)
              UNION ALL
              SELECT 'TYPE', t.oid::pg_catalog.regtype::text, t.typowner, coalesce(t.typacl, pg_catalog.acldefault('T', t.typowner))
              FROM pg_catalog.pg_type t
              WHERE t.typnamespace IN ('goya'::pg_catalog.regnamespace, 'goya_private'::pg_catalog.regnamespace)
                    AND (t.typtype IN ('e', 'd', 'r') OR EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = t.typrelid AND c.relkind = 'c'))) o
             CROSS JOIN LATERAL pg_catalog.aclexplode(o.acl) a
        WHERE a.grantee <> o.owner
              AND a.grantee NOT IN ('goya_reader'::pg_catalog.regrole, 'goya_user'::pg_catalog.regrole, 'goya_admin'::pg_catalog.regrole)
    LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON %s %s FROM %s CASCADE', object.kind, object.name, object.grantee);
    END LOOP;
END;
$$;

GRANT USAGE ON SCHEMA goya TO goya_reader, goya_user, goya_admin;
GRANT USAGE ON TYPE goya.task_status, goya.node_run_status, goya.artifact_type, goya.visibility, goya."image/svg+xml"
    TO goya_reader, goya_user, goya_admin;

DO $$
DECLARE
    -- Views are listed so that a new one is looked at: it must run as its reader.
    views constant text[] := ARRAY[
        'activity', 'asset_tags', 'bill_details', 'bill_summary', 'stuck_tasks', 'task_events', 'task_summary', 'wallet_summary', 'workflow_statistics',
        'model_prices', 'operator_moves'];
    -- Who may call what. Functions that change something are nobody's before they are in "user" or "admin".
    readers constant text[] := ARRAY[
        'list_programs', 'list_work', 'check_schema', 'context_at', 'current_caller', 'current_end_user', 'current_tenant', 'derivation_tree', 'diagnose',
        'search_mcp_tools',
        'diff_workflow', 'explain_tool_policy', 'explain_workflow', 'export_workflow', 'graph', 'is_admin', 'new_id', 'quote', 'search_assets', 'task_context', 'task_events_since',
        'task_svg', 'tasks_of_trace', 'timeline', 'validate_workflow', 'wait_for_task',
        'choose_implementation', 'get_prompt', 'open_text', 'open_value', 'redact_pii', 'read_stream'];
    users constant text[] := ARRAY[
        'create_mcp_server', 'drop_mcp_server', 'install_mcp_tool', 'sync_mcp_server', 'update_mcp_server',
        'wait_for_work', 'heartbeat', 'fail_work', 'complete_work', 'claim_work', 'allow_egress', 'callback', 'deny_egress', 'drop_egress_rule',
        'activate_operator_version', 'add_operator_version', 'approve', 'cancel', 'capture', 'create_operator', 'create_trigger',
        'create_workflow', 'delete_workflow', 'disable_trigger', 'disable_workflow', 'drop_schema', 'drop_trigger', 'enable_trigger', 'enable_workflow', 'finish_asset', 'hold', 'patch_context', 'pause', 'publish_workflow',
        'refund', 'register_asset', 'register_schema', 'release', 'report_progress', 'resume', 'retry', 'rollback_workflow', 'run', 'run_many', 'save_draft',
        'drop_tool_policy', 'set_tool_policy', 'stop_agent', 'set_artifact_maturity', 'signal', 'update_artifact',
        'activate_algorithm_version', 'add_algorithm_version', 'add_implementation', 'create_algorithm', 'create_model', 'create_node_kind',
        'drop_implementation', 'drop_model', 'drop_model_profile', 'drop_node_kind', 'drop_prompt', 'install_template', 'publish_operator',
        'record_evaluation', 'rollback_operator', 'set_model_profile', 'set_model_status', 'set_operator_dependencies', 'set_operator_status',
        'set_prompt', 'test_model', 'test_operator', 'test_result', 'update_model', 'delete_secret', 'set_secret', 'hash_pii'];
    admins constant text[] := ARRAY[
        'drop_program', 'create_program', 'allow_program', 'adopt_copy',
        'activate_tenant', 'add_member', 'check', 'create_tenant', 'grant_credit', 'health', 'register_authenticator', 'remove_member', 'set_price',
        'suspend_tenant', 'top_up', 'unregister_authenticator',
        'create_operator_template', 'drop_operator_template', 'list_master_keys', 'reseal_secrets', 'reseal_values'];
    -- Internals that a view, a default or a policy runs as its reader; none of them says anything a reader may not know.
    internals constant text[] := ARRAY['brief_error', 'caller_is_reader', 'in_task', 'find_stuck_tasks', 'iso_time', 'visible_activity'];
    admin_internals constant text[] := ARRAY['health_inside', 'health_outside'];
    item record;
    problem text;
BEGIN
    FOR item IN
        SELECT c.oid::pg_catalog.regclass AS name, c.relkind, c.relname = ANY (views) AS listed,
               coalesce('security_invoker=true' = ANY (c.reloptions), false) AS as_reader
        FROM pg_catalog.pg_class c WHERE c.relnamespace = 'goya'::pg_catalog.regnamespace AND c.relkind IN ('r', 'p', 'v')
    LOOP
        IF item.relkind = 'v' AND NOT (item.listed AND item.as_reader) THEN
            RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = pg_catalog.format('view %s is not ready to be granted', item.name),
                HINT = 'Make it WITH (security_invoker = true) and name it in sql/91_grants.sql.';
        END IF;
        EXECUTE pg_catalog.format('GRANT SELECT ON %s TO goya_reader, goya_user, goya_admin', item.name);
    END LOOP;

    FOR item IN
        SELECT p.oid::pg_catalog.regprocedure AS signature, n.nspname,
               CASE WHEN n.nspname = 'goya_private' THEN CASE WHEN p.proname = ANY (internals) THEN 'goya_reader, goya_user, goya_admin'
                                                              WHEN p.proname = ANY (admin_internals) THEN 'goya_admin' ELSE '' END
                    WHEN p.proname = ANY (readers) THEN 'goya_reader, goya_user, goya_admin'
                    WHEN p.proname = ANY (users) THEN 'goya_user, goya_admin'
                    WHEN p.proname = ANY (admins) THEN 'goya_admin' END AS grantees
        FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname IN ('goya', 'goya_private')
    LOOP
        IF item.grantees IS NULL THEN
            RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = pg_catalog.format('function %s is in no list of sql/91_grants.sql', item.signature),
                HINT = 'Add its name to readers, users or admins.';
        ELSIF item.grantees <> '' THEN
            EXECUTE pg_catalog.format('GRANT EXECUTE ON ROUTINE %s TO %s', item.signature, item.grantees);
        END IF;
    END LOOP;

    SELECT pg_catalog.string_agg(l.name, ', ') INTO problem
    FROM (SELECT 'goya' AS schema, name FROM pg_catalog.unnest(readers || users || admins) name
          UNION ALL SELECT 'goya_private', name FROM pg_catalog.unnest(internals || admin_internals) name) l
    WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_proc p
                      WHERE p.proname = l.name AND p.pronamespace = l.schema::pg_catalog.regnamespace);
    SELECT pg_catalog.concat_ws(', ', problem, pg_catalog.string_agg(name, ', ')) INTO problem FROM pg_catalog.unnest(views) name
    WHERE pg_catalog.to_regclass('goya.' || name) IS NULL;
    IF problem <> '' THEN
        RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = 'sql/91_grants.sql names what does not exist',
            DETAIL = pg_catalog.format('There is no %s.', problem), HINT = 'Take the names out of the lists.';
    END IF;
END;
$$;

-- Granted where it was made, before its owner changed: said again, so that a dump has no need to.
GRANT SELECT ON goya_private.task_log TO goya_reader, goya_user, goya_admin;

-- What a person may say about an asset; the rest is goya's to say (32_assets.sql refuses it too).
GRANT INSERT (id, tenant_id, name, media_type, mime_type, uri, content, source, status, sha256, size_bytes, duration, format, metadata, tags,
              visibility, visible_roles, parent_id) ON goya.assets TO goya_user, goya_admin;
GRANT UPDATE (name, media_type, mime_type, uri, content, source, status, sha256, size_bytes, duration, format, metadata, tags,
              visibility, visible_roles) ON goya.assets TO goya_user, goya_admin;
GRANT UPDATE (weight, max_priority, settings) ON goya.tenants TO goya_admin;
