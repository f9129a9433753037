-- 90_policies.sql: row-level security, on and forced for every table of schema goya.
--
-- Decided: three kinds of policy, all permissive.
-- * goya_owner sees and writes everything: goya's own SECURITY DEFINER functions and its processes, which filter by tenant themselves.
-- * goya_reader, goya_user and goya_admin see their tenant, (SELECT goya.current_tenant()) once per query so that the index on tenant_id
--   serves it; things with a visibility only as far as that allows. Null, for a role in no tenant, matches nothing.
--   What is checked of a row that is written has no index to use, and is asked for each row: the answers are kept (src/identity.c).
-- * goya_admin sees all tenants when goya.is_admin() says so; inside a task it does not. Behind a front end it does: let none become such a role.
-- Visibility: private is its owner's and, behind a front end, only of the end user who made it; role adds members of visible_roles; tenant
-- and public are the whole tenant's. Only administrators can make a thing public (32_assets.sql, 34_workflows.sql): that is the permission with which it
-- crosses tenants. The tenant's own admins see private things too. The same rules as goya_private.may_see, written out because a
-- policy runs as its reader, who may not use goya_private, and because an expression is inlined where a function is not.
-- Must hold: a table of goya that is not named here stops the installation.

DO $$
DECLARE
    own constant text := 'tenant_id = (SELECT goya.current_tenant())';
    visible constant text := $v$tenant_id = (SELECT goya.current_tenant()) AND (
        visibility IN ('tenant', 'public') OR owner_role = (SELECT goya.current_caller())%s
        %s
        OR (SELECT EXISTS (SELECT FROM goya.members m WHERE m.role_name = goya.current_caller() AND m.access = 'admin')))
        OR visibility = 'public'$v$;
    -- A member of a role that is gone is no error: pg_has_role would raise one.
    shared constant text := $v$OR (visibility = 'role' AND EXISTS (
            SELECT FROM pg_catalog.pg_roles r
            WHERE r.rolname = ANY (visible_roles) AND pg_catalog.pg_has_role((SELECT goya.current_caller()), r.oid, 'MEMBER')))$v$;
    -- Of two end users of one role, each has its own.
    end_user constant text := $v$ AND (created_by IS NULL OR (SELECT goya.current_end_user()) IS NULL
                                      OR created_by = (SELECT goya.current_end_user()))$v$;
    rules constant jsonb := jsonb_build_object(
        'tenants', 'id = (SELECT goya.current_tenant())',
        'members', own, 'triggers', own, 'tasks', own, 'node_runs', own, 'artifacts', own, 'agent_sessions', own, 'agent_messages', own, 'tool_calls', own, 'tool_policies', own, 'approvals', own, 'events', own,
        'secrets', own, 'task_contexts', own, 'context_patches', own, 'context_snapshots', own,
        'mcp_servers', own, 'mcp_tools', own, 'mcp_calls', own,
        'wallets', own, 'wallet_entries', own, 'holds', own, 'usage_records', own,
        'prices', own || ' OR tenant_id IS NULL', 'operator_templates', own || ' OR tenant_id IS NULL',
        'node_kinds', own, 'algorithms', own, 'algorithm_versions', own, 'algorithm_implementations', own, 'algorithm_evaluations', own, 'prompts', own,
        'models', format(visible, '', ''), 'model_profiles', own || ' AND EXISTS (SELECT FROM goya.models m WHERE m.tenant_id = model_profiles.tenant_id AND m.name = model)', 'egress_rules', own || ' OR tenant_id IS NULL',
        'assets', format(visible, end_user, shared), 'workflows', format(visible, '', shared), 'operators', format(visible, '', ''), 'schemas', own,
        -- Parents decide: their policy applies to the sub-select.
        'workflow_revisions', own || ' AND EXISTS (SELECT FROM goya.workflows w WHERE w.id = workflow_id)',
        'operator_dependencies', own || ' AND EXISTS (SELECT FROM goya.operators o WHERE o.id = operator_id)',
        'operator_versions', own || ' AND EXISTS (SELECT FROM goya.operators o WHERE o.id = operator_id)');
    relation record;
BEGIN
    FOR relation IN
        SELECT c.relname AS name, rules ->> c.relname::text AS rule FROM pg_catalog.pg_class c
        WHERE c.relnamespace = 'goya'::pg_catalog.regnamespace AND c.relkind IN ('r', 'p') ORDER BY c.relname
    LOOP
        IF relation.rule IS NULL THEN
            RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = pg_catalog.format('table goya.%s has no rule in sql/90_policies.sql', relation.name),
                HINT = 'Say there who sees its rows.';
        END IF;
        EXECUTE pg_catalog.format('ALTER TABLE goya.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', relation.name);
        EXECUTE pg_catalog.format('CREATE POLICY owner ON goya.%I TO goya_owner USING (true) WITH CHECK (true)', relation.name);
        EXECUTE pg_catalog.format('CREATE POLICY tenant ON goya.%I FOR SELECT TO goya_reader, goya_user, goya_admin USING (%s)',
                                  relation.name, relation.rule);
        EXECUTE pg_catalog.format('CREATE POLICY admin ON goya.%I FOR SELECT TO goya_admin USING ((SELECT goya.is_admin()))', relation.name);
    END LOOP;

    -- Assets are the one table that people write themselves; what they may see of their own tenant they may change.
    CREATE POLICY tenant_insert ON goya.assets FOR INSERT TO goya_user, goya_admin
        WITH CHECK (tenant_id = goya.current_tenant() AND owner_role = goya.current_caller() AND NOT goya_private.caller_is_reader());
    EXECUTE format('CREATE POLICY tenant_update ON goya.assets FOR UPDATE TO goya_user, goya_admin
        USING (tenant_id = (SELECT goya.current_tenant()) AND (%s)
               AND NOT (SELECT goya_private.caller_is_reader()))
        WITH CHECK (%s)', rules ->> 'assets', own);
    CREATE POLICY admin_update ON goya.tenants FOR UPDATE TO goya_admin USING ((SELECT goya.is_admin())) WITH CHECK ((SELECT goya.is_admin()));
END;
$$;
