-- tenancy: tenants, members and authenticators, and who is refused. One transaction, rolled back: roles and rows leave no trace.
\set VERBOSITY terse
\pset format unaligned
\pset tuples_only on
\pset null (null)
SET client_min_messages = warning;
BEGIN;
-- Runs a command and says how it ended. Ids in messages are of no interest.
CREATE FUNCTION pg_temp.try(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    state text; message text; detail text; hint text;
BEGIN
    EXECUTE command;
    RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN regexp_replace(concat_ws(' | ', state || ' ' || message, nullif(detail, ''), nullif(hint, '')),
                          '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}', '<id>', 'g');
END;
$$;
CREATE ROLE regress_admin;
GRANT goya_admin TO regress_admin;
CREATE ROLE regress_alice;
GRANT goya_user TO regress_alice;
CREATE ROLE regress_bob;
GRANT goya_user TO regress_bob;
CREATE ROLE regress_nobody;
CREATE ROLE regress_super SUPERUSER;

-- Administration is for administrators.
SET LOCAL ROLE regress_alice;
SELECT pg_temp.try($$ SELECT goya.create_tenant('regress-a') $$);
SELECT pg_temp.try($$ SELECT goya.suspend_tenant('default') $$);
SELECT pg_temp.try($$ SELECT goya.activate_tenant('default') $$);
SELECT pg_temp.try($$ SELECT goya.add_member('regress_alice', 'default') $$);
SELECT pg_temp.try($$ SELECT goya.remove_member('regress_alice') $$);
SELECT pg_temp.try($$ SELECT goya.register_authenticator('regress_alice') $$);
SELECT pg_temp.try($$ SELECT goya.unregister_authenticator('regress_alice') $$);
RESET ROLE;
-- A privilege on the functions alone makes none.
GRANT EXECUTE ON FUNCTION goya.create_tenant, goya.suspend_tenant, goya.activate_tenant, goya.add_member, goya.remove_member,
    goya.register_authenticator, goya.unregister_authenticator TO regress_alice;
SET LOCAL ROLE regress_alice;
SELECT pg_temp.try($$ SELECT goya.create_tenant('regress-a') $$);
SELECT pg_temp.try($$ SELECT goya.suspend_tenant('default') $$);
SELECT pg_temp.try($$ SELECT goya.activate_tenant('default') $$);
SELECT pg_temp.try($$ SELECT goya.add_member('regress_alice', 'default') $$);
SELECT pg_temp.try($$ SELECT goya.remove_member('regress_alice') $$);
SELECT pg_temp.try($$ SELECT goya.register_authenticator('regress_alice') $$);
SELECT pg_temp.try($$ SELECT goya.unregister_authenticator('regress_alice') $$);
RESET ROLE;

SET LOCAL ROLE regress_admin;
SELECT goya.create_tenant('regress-a') IS NOT NULL;
SELECT goya.create_tenant('regress-b', weight => 5, settings => '{"region": "eu"}') IS NOT NULL;
SELECT pg_temp.try($$ SELECT goya.create_tenant('regress-a') $$);
SELECT pg_temp.try($$ SELECT goya.create_tenant('Regress A') $$);
SELECT pg_temp.try($$ SELECT goya.create_tenant(NULL) $$);
SELECT pg_temp.try($$ SELECT goya.create_tenant('regress-c', 0) $$);
SELECT pg_temp.try($$ SELECT goya.create_tenant('regress-c', max_priority => 101) $$);
SELECT pg_temp.try($$ SELECT goya.create_tenant('regress-c', max_priority => NULL) $$);
SELECT goya.create_tenant('regress-c', max_priority => -100) IS NOT NULL;
SELECT pg_temp.try($$ SELECT goya.add_member('regress_alice', 'regress-a', 'admin') $$);
SELECT pg_temp.try($$ SELECT goya.add_member('regress_alice', 'regress-a') $$);
SELECT pg_temp.try($$ SELECT goya.add_member('regress_alice', 'regress-b') $$);
SELECT pg_temp.try($$ SELECT goya.add_member('regress_bob', 'regress-b', 'reader') $$);
SELECT pg_temp.try($$ SELECT goya.add_member('regress_absent', 'regress-a') $$);
SELECT pg_temp.try($$ SELECT goya.add_member('regress_bob', 'regress-absent') $$);
SELECT pg_temp.try($$ SELECT goya.add_member('regress_bob', 'regress-b', 'king') $$);
SELECT pg_temp.try($$ SELECT goya.add_member('goya_owner', 'regress-b') $$);
RESET ROLE;
SELECT t.name, t.status, t.weight, t.max_priority, t.settings FROM goya.tenants t WHERE t.name ~ '^regress-[abc]$' OR t.name = 'default' ORDER BY 1;
SELECT m.role_name, t.name, m.access FROM goya.members m JOIN goya.tenants t ON t.id = m.tenant_id WHERE m.role_name LIKE 'regress%' ORDER BY 1;

-- Everybody acts in its own tenant; readers change nothing; who has no tenant is refused.
SET LOCAL ROLE regress_alice;
SELECT t.name FROM goya.tenants t WHERE t.id = goya.current_tenant();
SELECT pg_temp.try($$ SELECT goya.create_workflow('one', '{"nodes": []}') $$);
SET LOCAL ROLE regress_bob;
SELECT pg_temp.try($$ SELECT goya.create_workflow('one', '{"nodes": []}') $$);
SELECT pg_temp.try($$ SELECT goya.export_workflow('one') $$);
RESET ROLE;
GRANT USAGE ON SCHEMA goya TO regress_nobody;
GRANT EXECUTE ON FUNCTION goya.search_assets TO regress_nobody;
SET LOCAL ROLE regress_nobody;
SELECT pg_temp.try($$ SELECT goya.search_assets() $$);
RESET ROLE;

-- A suspended tenant's members are refused, until it is active again.
SET LOCAL ROLE regress_admin;
SELECT pg_temp.try($$ SELECT goya.suspend_tenant('regress-a') $$);
SELECT pg_temp.try($$ SELECT goya.suspend_tenant('regress-absent') $$);
SET LOCAL ROLE regress_alice;
SELECT goya.current_tenant() IS NULL;
SELECT pg_temp.try($$ SELECT goya.export_workflow('one') $$);
SET LOCAL ROLE regress_admin;
SELECT pg_temp.try($$ SELECT goya.activate_tenant('regress-a') $$);
SELECT pg_temp.try($$ SELECT goya.activate_tenant('regress-absent') $$);
SET LOCAL ROLE regress_alice;
SELECT pg_temp.try($$ SELECT goya.export_workflow('one') $$);

-- Without its membership a goya_user is in tenant default.
SET LOCAL ROLE regress_admin;
SELECT pg_temp.try($$ SELECT goya.remove_member('regress_alice') $$);
SELECT pg_temp.try($$ SELECT goya.remove_member('regress_alice') $$);
SET LOCAL ROLE regress_alice;
SELECT goya.current_tenant() = '00000000-0000-7000-8000-000000000001';

-- Authenticators.
SET LOCAL ROLE regress_admin;
SELECT pg_temp.try($$ SELECT goya.register_authenticator('regress_bob') $$);
SELECT pg_temp.try($$ SELECT goya.register_authenticator('regress_bob') $$);
SELECT pg_temp.try($$ SELECT goya.register_authenticator('regress_absent') $$);
SELECT pg_temp.try($$ SELECT goya.register_authenticator('regress_super') $$);
RESET ROLE;
SELECT count(*) FROM goya_private.authenticators WHERE role_name LIKE 'regress%';
SET LOCAL ROLE regress_admin;
SELECT pg_temp.try($$ SELECT goya.unregister_authenticator('regress_bob') $$);
SELECT pg_temp.try($$ SELECT goya.unregister_authenticator('regress_bob') $$);
RESET ROLE;
SELECT count(*) FROM goya_private.authenticators WHERE role_name LIKE 'regress%';
ROLLBACK;
