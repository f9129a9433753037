-- 00_schema.sql: schemas, roles and the two roles that goya's own processes use.
--
-- goya (the extension's schema) holds only what users may see and call; goya_private holds queues, plans and internals.
-- goya_owner owns every object, so that SECURITY DEFINER functions run with no more than goya's own tables; it and
-- goya_executor may be used by background workers only: LOGIN with CONNECTION LIMIT 0 admits a background worker and
-- refuses every client. Roles are cluster-wide: an earlier or parallel installation may have made them already.

CREATE SCHEMA goya_private;
COMMENT ON SCHEMA goya_private IS 'goya internals: queues, timers, references. Nothing here is an interface.';
COMMENT ON SCHEMA goya IS 'goya: AI and media workflows inside PostgreSQL.';

DO $$
DECLARE
    wanted record;
BEGIN
    FOR wanted IN
        SELECT * FROM (VALUES
            ('goya_owner',    'LOGIN CONNECTION LIMIT 0', 'owns goya''s objects; session of the goya engine'),
            ('goya_executor', 'LOGIN CONNECTION LIMIT 0', 'powerless session role of goya executors'),
            ('goya_listener', 'LOGIN CONNECTION LIMIT 8', 'role of the engine''s LISTEN connection; may connect and listen, nothing else'),
            ('goya_admin',    'NOLOGIN', 'goya platform administration: tenants, members, prices, top-ups'),
            ('goya_user',     'NOLOGIN', 'may define and run workflows in its own tenant'),
            ('goya_reader',   'NOLOGIN', 'may read its own tenant')) AS r(name, options, description)
    LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wanted.name) THEN
            EXECUTE pg_catalog.format('CREATE ROLE %I %s', wanted.name, wanted.options);
            EXECUTE pg_catalog.format('COMMENT ON ROLE %I IS %L', wanted.name, wanted.description);
        END IF;
    END LOOP;
    -- Somebody who may create roles could have made these before, to come in through them.
    IF EXISTS (SELECT FROM pg_catalog.pg_roles
               WHERE rolname IN ('goya_owner', 'goya_executor', 'goya_listener')
                     AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication OR (rolconnlimit <> 0 AND rolname <> 'goya_listener'))) THEN
        RAISE EXCEPTION 'role goya_owner, goya_executor or goya_listener has privileges it must not have'
            USING ERRCODE = '42501', HINT = 'Drop the role, or take SUPERUSER, BYPASSRLS, CREATEROLE, CREATEDB and REPLICATION from it and set CONNECTION LIMIT 0.';
    END IF;
    IF EXISTS (SELECT FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles r ON r.oid IN (m.roleid, m.member)
               WHERE r.rolname IN ('goya_owner', 'goya_executor', 'goya_listener')
                     AND NOT EXISTS (SELECT FROM pg_catalog.pg_roles o WHERE o.oid = m.member AND o.rolsuper)) THEN
        RAISE EXCEPTION 'role goya_owner, goya_executor or goya_listener has a member or is one'
            USING ERRCODE = '42501', DETAIL = 'A member of goya_owner can read and change everything of every tenant.', HINT = 'Revoke the membership, or drop the role.';
    END IF;
    -- The grants let the workers connect, and mark the database: the launcher starts an engine where goya_owner has CONNECT.
    EXECUTE pg_catalog.format('GRANT CONNECT ON DATABASE %I TO goya_owner, goya_executor, goya_listener', pg_catalog.current_database());
END;
$$;
