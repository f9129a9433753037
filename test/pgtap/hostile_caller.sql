-- hostile_caller.sql: whom goya takes for its caller when a tenant's function is run by somebody else's session.
--
-- PostgreSQL runs functions of a table's owner in other sessions: for an index, statistics or a materialized view when an administrator or autovacuum
-- maintains the table, for a foreign key when somebody deletes what it refers to. And a SECURITY DEFINER function runs as its owner whoever calls it. In
-- each of these eve's code runs while the session is the administrator's or another tenant's, and asks goya for what that one may see.
-- Behind a front end the session's claims are about its own role: eve's function there is eve, also when it goes through an administrator's function.
-- Must hold: each way is seen to have run eve's code, and that parallel workers did.

BEGIN;
SET LOCAL search_path = public, pg_catalog;
SET client_min_messages = error;
SELECT no_plan();

CREATE ROLE call_ada; CREATE ROLE call_eve; CREATE ROLE call_admin; CREATE ROLE call_dba SUPERUSER; CREATE ROLE call_web; CREATE ROLE call_front NOINHERIT; CREATE ROLE call_api;
GRANT goya_user TO call_ada, call_eve, call_web, call_api; GRANT goya_admin TO call_admin; GRANT call_web TO call_front;
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
        'SELECT CASE WHEN goya.current_tenant() <> (SELECT id FROM goya.tenants WHERE name = ''call-e'') THEN ''canary: tenant'' END',
        'SELECT ''canary: '' || goya.current_end_user()', 'SELECT public.call_serve(''canary'')'] LOOP
        BEGIN
            IF current_setting('eve.worker', true) = 'yes' THEN
                EXECUTE 'SELECT eve.safe($1)' INTO answer USING question;
            ELSE
                EXECUTE question INTO answer;
            END IF;
        EXCEPTION WHEN OTHERS THEN
            answer := SQLSTATE || ' ' || SQLERRM;
        END;
        INSERT INTO eve.told VALUES (way, question || ': ' || coalesce(answer, 'null'));
    END LOOP;
END;
$$;
CREATE FUNCTION eve.spy(x int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM eve.ask(current_setting('eve.way', true)); RETURN x; END $$;
CREATE FUNCTION eve.trusted() RETURNS void SECURITY DEFINER LANGUAGE plpgsql AS $$ BEGIN PERFORM eve.ask(current_setting('eve.way', true)); END $$;
-- Says that it may run in a parallel worker, where goya sees nothing of what is around it.
CREATE FUNCTION eve.safe(question text) RETURNS text PARALLEL SAFE LANGUAGE plpgsql AS $$
DECLARE
    answer text;
BEGIN
    EXECUTE question INTO answer;
    RETURN answer;
END;
$$;
CREATE FUNCTION eve.in_worker() RETURNS void SECURITY DEFINER LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('force_parallel_mode', 'on', true), set_config('eve.worker', 'yes', true);
    PERFORM eve.ask(current_setting('eve.way', true));
    PERFORM set_config('force_parallel_mode', 'off', true), set_config('eve.worker', 'no', true);
END;
$$;
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

-- An administrator's function that serves whoever calls it; in a session without claims, as its owner.
CREATE FUNCTION public.call_serve(word text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN RETURN (SELECT word || ': ' || t.name || coalesce(' ' || goya.current_end_user(), '') FROM goya.tenants t WHERE t.id = goya.current_tenant() AND t.name <> 'default'); END $$;
ALTER FUNCTION public.call_serve(text) OWNER TO call_dba;

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
       pg_temp.way('a SECURITY DEFINER trigger, fired by another tenant', 'call_ada', 'INSERT INTO eve.inbox VALUES (1)'),
       pg_temp.way('a SECURITY DEFINER function behind a front end', 'call_web', 'SELECT eve.trusted()', 'call_front', '{"tenant": "call-a", "user": "zoe"}'),
       pg_temp.way('a SECURITY DEFINER trigger behind a front end', 'call_web', 'INSERT INTO eve.inbox VALUES (1)', 'call_front', '{"tenant": "call-a", "user": "zoe"}'),
       pg_temp.way('a parallel worker of the administrator', 'call_dba', 'SELECT eve.in_worker()'), pg_temp.way('a parallel worker of a goya_admin', 'call_admin', 'SELECT eve.in_worker()'),
       pg_temp.way('a parallel worker behind a front end', 'call_web', 'SELECT eve.in_worker()', 'call_front', '{"tenant": "call-a", "user": "zoe"}');
SELECT unnest(ARRAY[isnt_empty(format('SELECT FROM eve.told WHERE way = %L', w), format('%s ran eve''s code', w)),
       is((SELECT string_agg(said, E'\n') FROM eve.told WHERE way = w AND said ~ ': .*(canary-|canary:)'), NULL, format('%s: eve was told nothing', w))])
FROM unnest(ARRAY['her own session', 'ANALYZE by the administrator', 'REINDEX by the administrator', 'REFRESH by the administrator', 'CLUSTER by the administrator', 'a foreign key, by the administrator',
    'maintenance in a function of the administrator', 'a SECURITY DEFINER function, called by the administrator', 'a SECURITY DEFINER function, called by a goya_admin',
    'a SECURITY DEFINER function, called by another tenant', 'a SECURITY DEFINER trigger, fired by another tenant', 'a SECURITY DEFINER function behind a front end',
    'a SECURITY DEFINER trigger behind a front end', 'a parallel worker of the administrator', 'a parallel worker of a goya_admin', 'a parallel worker behind a front end']) w;
SELECT results_eq($$SELECT count(*), count(DISTINCT way) FROM eve.told WHERE way ~ 'parallel worker' AND said ~ 'current_caller.*: 0A000'$$, 'VALUES (3::bigint, 3::bigint)', 'workers did run');
SELECT is_empty($$SELECT * FROM eve.told WHERE way ~ 'parallel worker' AND said !~ ': (0A000|42501 permission denied) '$$, 'and goya says nothing at all in them');
SELECT is((SELECT t.status::text || t.progress FROM goya.tasks t JOIN eve.target ON task = id), 'pending0', 'the task is as it was');
SELECT is_empty($$SELECT FROM goya_private.cancel_requests c JOIN eve.target ON task = task_id$$, 'and nobody asked for its end');
SELECT is_empty($$SELECT FROM goya.members WHERE role_name = 'call_eve' AND access = 'admin'$$, 'eve is no admin');

-- What stays possible: a function of the administrator serves whoever calls it.
CREATE FUNCTION public.call_mine() RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN goya.cancel((SELECT task FROM eve.target)); END $$;
GRANT SELECT ON eve.target TO call_ada, call_web;
SELECT throws_ok($$SELECT pg_temp.way('', 'call_web', 'SELECT public.call_mine()')$$, 'PT404', NULL, 'a function with a search_path of its own is no more than its caller');
SELECT lives_ok($$SELECT pg_temp.way('', 'call_ada', 'SELECT public.call_mine()')$$, 'and no less');

-- Functions of an API that a front end's users call. Whose tenant they act for is their owner's, or one asks an administrator for more.
CREATE FUNCTION public.call_whose() RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN RETURN concat_ws(' ', goya.current_caller(), coalesce((SELECT t.name FROM goya.tenants t WHERE t.id = goya.current_tenant()), 'none'), goya.current_end_user(), (SELECT count(*) FROM goya.tasks)); END $$;
CREATE FUNCTION public.call_run() RETURNS uuid LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ SELECT goya.run('none') $$;
CREATE FUNCTION public.call_list() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ SELECT count(*) FROM goya.list_work() $$;
CREATE FUNCTION public.call_front_whose() RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$ SELECT public.call_whose() $$;
CREATE FUNCTION eve.through() RETURNS text SECURITY DEFINER LANGUAGE sql AS $$ SELECT public.call_whose() $$;
ALTER FUNCTION eve.through() OWNER TO call_eve;
CREATE FUNCTION pg_temp.behind(statement text, claims text DEFAULT '{"tenant": "call-a", "user": "zoe"}') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer text;
    code text; detail text; hint text;
BEGIN
    PERFORM set_config('session_authorization', 'call_front', true), set_config('role', 'call_web', true), set_config('request.jwt.claims', claims, true);
    BEGIN
        EXECUTE statement INTO answer;
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
        answer := concat_ws(' ', code, SQLERRM, detail, hint);
    END;
    PERFORM set_config('session_authorization', 'postgres', true), set_config('role', 'none', true), set_config('request.jwt.claims', '', true);
    RETURN answer;
END;
$$;
SELECT is(pg_temp.behind('SELECT public.call_serve(''serves'')'), 'serves: call-a zoe', 'a superuser''s function acts for the front end''s user');
ALTER FUNCTION public.call_whose() OWNER TO call_web;
SELECT is(pg_temp.behind('SELECT public.call_front_whose()'), 'call_web call-a zoe 2', 'and one of the role that the front end has become');
SELECT is(pg_temp.behind('SELECT eve.through()'), 'call_web none 0', 'not when eve''s function calls it');
ALTER FUNCTION public.call_whose() OWNER TO call_api; ALTER FUNCTION public.call_run() OWNER TO call_api; ALTER FUNCTION public.call_list() OWNER TO call_api;
SELECT is(pg_temp.behind('SELECT public.call_whose()'), 'call_api none 0', 'one of another role has no tenant: not the user''s, not default');
SELECT matches(pg_temp.behind(s), '^42501 role "call_api" belongs to no tenant It owns a SECURITY DEFINER function .* goya.register_authenticator lets', 'and is told what to do: ' || s)
FROM unnest(ARRAY['SELECT public.call_run()', 'SELECT public.call_list()']) s;
SELECT is(pg_temp.behind('SELECT public.call_whose()', '{"user": "zoe"}'), 'call_api default ' || (SELECT count(*) FROM goya.tasks t JOIN goya.tenants n ON n.id = t.tenant_id WHERE n.name = 'default'),
    'claims without a tenant leave it in default, without the user');
SELECT goya.register_authenticator('call_api');
SELECT is(pg_temp.behind('SELECT public.call_whose()'), 'call_api call-a zoe 2', 'registered, it acts for the user of the request');
SELECT matches(pg_temp.behind('SELECT public.call_run()'), '^PT404 ', 'in the user''s tenant');
SELECT is(pg_temp.behind('SELECT eve.through()'), 'call_api none 0', 'but not when eve''s function calls it');
SELECT is(pg_temp.behind('SELECT public.call_whose()'), 'call_api call-a zoe 2', 'both answers are kept apart');
SELECT goya.unregister_authenticator('call_api'), goya.add_member('call_api', 'call-e');
SELECT is(pg_temp.behind('SELECT public.call_whose()'), 'call_api call-e 0', 'a member of a tenant acts for that one');

SELECT * FROM finish();
ROLLBACK;
