-- hostile_caller.sql: whom goya takes for its caller when a tenant's function is run by somebody else's session.
--
-- PostgreSQL runs functions of a table's owner in other sessions: for an index, statistics or a materialized view when an administrator or autovacuum
-- maintains the table, for a foreign key when somebody deletes what it refers to. And a SECURITY DEFINER function runs as its owner whoever calls it. In
-- each of these eve's code runs while the session is the administrator's or another tenant's, and asks goya for what that one may see.
-- Must hold: each way is seen to have run eve's code.

BEGIN;
SET LOCAL search_path = public, pg_catalog;
SET client_min_messages = error;
SELECT no_plan();

CREATE ROLE call_ada; CREATE ROLE call_eve; CREATE ROLE call_admin; CREATE ROLE call_dba SUPERUSER; CREATE ROLE call_web; CREATE ROLE call_front NOINHERIT;
GRANT goya_user TO call_ada, call_eve, call_web; GRANT goya_admin TO call_admin; GRANT call_web TO call_front;
SELECT goya.create_tenant('call-a'), goya.create_tenant('call-e'), goya.add_member('call_ada', 'call-a'), goya.add_member('call_eve', 'call-e'), goya.register_authenticator('call_front');
CREATE SCHEMA eve AUTHORIZATION call_eve;
GRANT USAGE ON SCHEMA eve TO PUBLIC;
CREATE TABLE eve.target AS SELECT goya.new_id() AS task, goya.new_id() AS done;
GRANT SELECT ON eve.target TO call_eve;
SET LOCAL session_replication_role = replica;
INSERT INTO goya.tasks (id, tenant_id, workflow_id, revision, run_as, trace_id, input, status)
SELECT unnest(ARRAY[task, done]), (SELECT id FROM goya.tenants WHERE name = 'call-a'), goya.new_id(), 1, 'call_ada', 'trace', '{"x": "canary-91e2"}',
       unnest('{pending,succeeded}'::goya.task_status[]) FROM eve.target;
SET LOCAL session_replication_role = origin;

SET LOCAL ROLE call_eve;
CREATE TABLE eve.told (way text, said text);
-- Asks goya for everything it should not get, and notes what was said.
CREATE FUNCTION eve.ask(way text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    question text;
    answer text;
BEGIN
    FOREACH question IN ARRAY ARRAY[
        'SELECT goya.wait_for_task(done, ''0'')::text FROM eve.target', 'SELECT goya.diagnose(task)::text FROM eve.target', 'SELECT goya.cancel(task)::text FROM eve.target',
        'SELECT goya.report_progress(task, 50)::text FROM eve.target', 'SELECT string_agg(t::text, '''') FROM goya.tasks t', 'SELECT string_agg(s::text, '''') FROM goya.stuck_tasks s',
        'SELECT string_agg(a::text, '''') FROM goya.activity a', 'SELECT goya.top_up(1, ''call'', ''call-e'')::text', 'SELECT goya.add_member(''call_eve'', ''call-a'', ''admin'')::text',
        'SELECT CASE WHEN goya.is_admin() THEN ''canary: administrator'' END', 'SELECT CASE WHEN goya.current_caller() <> ''call_eve'' THEN ''canary: '' || goya.current_caller() END',
        'SELECT CASE WHEN goya.current_tenant() <> (SELECT id FROM goya.tenants WHERE name = ''call-e'') THEN ''canary: tenant'' END'] LOOP
        BEGIN
            EXECUTE question INTO answer;
        EXCEPTION WHEN OTHERS THEN
            answer := SQLSTATE || ' ' || SQLERRM;
        END;
        INSERT INTO eve.told VALUES (way, question || ': ' || coalesce(answer, 'null'));
    END LOOP;
END;
$$;
CREATE FUNCTION eve.spy(x int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM eve.ask(current_setting('eve.way', true)); RETURN x; END $$;
CREATE FUNCTION eve.trusted() RETURNS void SECURITY DEFINER LANGUAGE plpgsql AS $$ BEGIN PERFORM eve.ask(current_setting('eve.way', true)); END $$;
CREATE FUNCTION eve.before_delete() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM eve.ask(current_setting('eve.way', true)); RETURN OLD; END $$;
CREATE FUNCTION eve.in_definer() RETURNS trigger SECURITY DEFINER LANGUAGE plpgsql AS $$ BEGIN PERFORM eve.ask(current_setting('eve.way', true)); RETURN NEW; END $$;
CREATE TABLE eve.bait (x int PRIMARY KEY);
INSERT INTO eve.bait SELECT generate_series(1, 3);
SELECT set_config('eve.way', 'her own session', true);
CREATE INDEX spy ON eve.bait ((eve.spy(x)));
CREATE TABLE eve.child (x int REFERENCES eve.bait ON DELETE CASCADE);
INSERT INTO eve.child VALUES (1), (2);
CREATE TRIGGER before_delete BEFORE DELETE ON eve.child FOR EACH ROW EXECUTE FUNCTION eve.before_delete();
CREATE MATERIALIZED VIEW eve.matter AS SELECT 1 AS x;
DROP MATERIALIZED VIEW eve.matter;
CREATE MATERIALIZED VIEW eve.matter AS SELECT eve.spy(1) AS x WITH NO DATA;
CREATE TABLE eve.inbox (x int);
CREATE TRIGGER in_definer BEFORE INSERT ON eve.inbox FOR EACH ROW EXECUTE FUNCTION eve.in_definer();
GRANT INSERT ON eve.inbox TO PUBLIC;
GRANT DELETE, SELECT ON eve.bait TO PUBLIC;
GRANT INSERT ON eve.told TO PUBLIC;
RESET ROLE;

-- The administrator's own functions, which eve's code runs inside of.
CREATE FUNCTION public.call_maintain() RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ BEGIN EXECUTE 'ANALYZE eve.bait'; EXECUTE 'DELETE FROM eve.bait WHERE x = 2'; END $$;
ALTER FUNCTION public.call_maintain() OWNER TO call_dba;

CREATE FUNCTION pg_temp.way(way text, role_name name, statement text, session name DEFAULT 'postgres', claims text DEFAULT '') RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('eve.way', way, true), set_config('session_authorization', session, true), set_config('role', role_name, true), set_config('request.jwt.claims', claims, true);
    EXECUTE statement;
    PERFORM set_config('session_authorization', 'postgres', true), set_config('role', 'none', true), set_config('request.jwt.claims', '', true);
END;
$$;
SELECT pg_temp.way('ANALYZE by the administrator', 'call_dba', 'ANALYZE eve.bait'), pg_temp.way('REINDEX by the administrator', 'call_dba', 'REINDEX TABLE eve.bait'),
       pg_temp.way('REFRESH by the administrator', 'call_dba', 'REFRESH MATERIALIZED VIEW eve.matter'), pg_temp.way('CLUSTER by the administrator', 'call_dba', 'CLUSTER eve.bait USING bait_pkey'),
       pg_temp.way('a foreign key, by the administrator', 'call_dba', 'DELETE FROM eve.bait WHERE x = 1'), pg_temp.way('maintenance in a function of the administrator', 'call_dba', 'SELECT public.call_maintain()'),
       pg_temp.way('a SECURITY DEFINER function, called by the administrator', 'call_dba', 'SELECT eve.trusted()'),
       pg_temp.way('a SECURITY DEFINER function, called by a goya_admin', 'call_admin', 'SELECT eve.trusted()'), pg_temp.way('a SECURITY DEFINER function, called by another tenant', 'call_ada', 'SELECT eve.trusted()'),
       pg_temp.way('a SECURITY DEFINER trigger, fired by another tenant', 'call_ada', 'INSERT INTO eve.inbox VALUES (1)');
SELECT unnest(ARRAY[isnt_empty(format('SELECT FROM eve.told WHERE way = %L', w), format('%s ran eve''s code', w)),
       is((SELECT string_agg(said, E'\n') FROM eve.told WHERE way = w AND said ~ ': .*(canary-|canary:)'), NULL, format('%s: eve was told nothing', w))])
FROM unnest(ARRAY['her own session', 'ANALYZE by the administrator', 'REINDEX by the administrator', 'REFRESH by the administrator', 'CLUSTER by the administrator', 'a foreign key, by the administrator',
    'maintenance in a function of the administrator', 'a SECURITY DEFINER function, called by the administrator', 'a SECURITY DEFINER function, called by a goya_admin',
    'a SECURITY DEFINER function, called by another tenant', 'a SECURITY DEFINER trigger, fired by another tenant']) w;
SELECT is((SELECT t.status::text || t.progress FROM goya.tasks t JOIN eve.target ON task = id), 'pending0', 'the task is as it was');
SELECT is_empty($$SELECT FROM goya_private.cancel_requests c JOIN eve.target ON task = task_id$$, 'and nobody asked for its end');
SELECT is_empty($$SELECT FROM goya.members WHERE role_name = 'call_eve' AND access = 'admin'$$, 'eve is no admin');

-- What stays possible: a function of the administrator serves whoever calls it.
CREATE FUNCTION public.call_mine() RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN goya.cancel((SELECT task FROM eve.target)); END $$;
GRANT SELECT ON eve.target TO call_ada, call_web;
SELECT throws_ok($$SELECT pg_temp.way('', 'call_web', 'SELECT public.call_mine()')$$, 'PT404', NULL, 'a function with a search_path of its own is no more than its caller');
SELECT lives_ok($$SELECT pg_temp.way('', 'call_ada', 'SELECT public.call_mine()')$$, 'and no less');

SELECT * FROM finish();
ROLLBACK;
