-- context: how it starts, what nodes and people may write, conflict policies, versions and snapshots. One transaction, rolled back.
\set VERBOSITY terse
\pset format unaligned
\pset tuples_only on
\pset null (null)
SET client_min_messages = warning;
SET datestyle = ISO;
SET timezone = 'UTC';
BEGIN;
CREATE FUNCTION pg_temp.try(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    state text; message text; detail text; hint text;
BEGIN
    EXECUTE command;
    RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN regexp_replace(regexp_replace(concat_ws(' | ', state || ' ' || message, nullif(detail, ''), nullif(hint, '')),
                          '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}', '<id>', 'g'), '\d{4}-\d\d-\d\d [0-9:.+-]+', '<time>', 'g');
END;
$$;
CREATE ROLE regress_alice;
GRANT goya_user TO regress_alice;
CREATE ROLE regress_bob;
GRANT goya_user TO regress_bob;
SELECT goya.create_tenant('regress-a') IS NOT NULL, goya.create_tenant('regress-b') IS NOT NULL;
SELECT goya.add_member('regress_alice', 'regress-a');
SELECT goya.add_member('regress_bob', 'regress-b');
SELECT id AS tenant FROM goya.tenants WHERE name = 'regress-a' \gset
\set task '00000000-0000-7000-8000-000000000001'
SELECT '{"vars": {"tone": {"type": "string", "default": "calm"}, "lang": {"type": "string", "required": true, "readonly": true}, "n": {"type": "integer"}},
  "shared": {"last": {}, "once": {"conflict": "reject", "type": "string"}, "all": {"conflict": "append", "type": "array"}, "facts": {"conflict": "merge", "type": "object", "default": {"a": 1}},
             "turn": {"cas": true, "type": "number", "default": 0}}}' AS spec \gset
INSERT INTO goya.workflows (id, tenant_id, name, revision, owner_role) VALUES ('00000000-0000-7000-8000-00000000c001', :'tenant', 'regress-context', 1, 'regress_alice');
INSERT INTO goya.workflow_revisions (workflow_id, revision, tenant_id, definition, resolved)
SELECT '00000000-0000-7000-8000-00000000c001', 1, :'tenant', d, d FROM (SELECT jsonb_build_object('context', :'spec'::jsonb, 'nodes', '[{"key": "a", "kind": "noop"}]'::jsonb) AS d) x;
INSERT INTO goya.tasks (id, tenant_id, workflow_id, revision, status, run_as, trace_id, active)
VALUES (:'task', :'tenant', '00000000-0000-7000-8000-00000000c001', 1, 'running', 'regress_alice', 'trace', 1);

\echo == how it starts
SELECT pg_temp.try(format($$ SELECT goya_private.init_context(%L, %L, %L, %L) $$, :'task', :'tenant', :'spec', i.input))
FROM (VALUES (1, '{}'), (2, '{"lang": 7}'), (3, '{"lang": "en", "n": 1.5}'), (4, '[]')) i(n, input) ORDER BY n;
SELECT goya_private.init_context(:'task', :'tenant', :'spec', '{"lang": "en", "n": 3.0, "other": true}');
SELECT version, state FROM goya.context_snapshots WHERE task_id = :'task';

\echo == what nodes write
CREATE FUNCTION pg_temp.write(node text, writes jsonb, item integer DEFAULT 0) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
BEGIN
    result := pg_temp.try(format('SELECT goya_private.apply_context(%L, %L, %L, %L, (SELECT definition -> ''context'' FROM goya.workflow_revisions
        WHERE workflow_id = ''00000000-0000-7000-8000-00000000c001''))', '00000000-0000-7000-8000-000000000001', node, item, writes));
    IF result = 'ok' THEN
        SELECT version || ' ' || (state -> 'shared') || ' ' || (state -> 'vars') INTO result
        FROM goya.task_contexts WHERE task_id = '00000000-0000-7000-8000-000000000001';
    END IF;
    RETURN result;
END;
$$;
SELECT pg_temp.write('a', '{"shared": {"last": 1}}');
SELECT pg_temp.write('b', '{"shared": {"last": 2}, "vars": {"tone": "loud"}}');
SELECT pg_temp.write('b', '{"vars": {"lang": "de"}}');
SELECT pg_temp.write('b', '{"vars": {"n": "x"}}');
SELECT pg_temp.write('b', '{"shared": {"other": 2}}');
SELECT pg_temp.write('b', '{"shared": 2}');
SELECT pg_temp.write('b', '[]');
SELECT pg_temp.write('b', '{}'), pg_temp.write('b', '{"vars": null, "shared": {}}');
-- reject: the first writer wins, and may say it again.
SELECT pg_temp.write('a', '{"shared": {"once": "first"}}');
SELECT pg_temp.write('b', '{"shared": {"once": "second"}}');
SELECT pg_temp.write('b', '{"shared": {"once": "first"}}');
-- append: arrays add their elements.
SELECT pg_temp.write('a', '{"shared": {"all": 1}}');
SELECT pg_temp.write('b', '{"shared": {"all": [2, 3]}}', 4);
-- merge: deep, objects only.
SELECT pg_temp.write('a', '{"shared": {"facts": {"b": {"x": 1}}}}');
SELECT pg_temp.write('b', '{"shared": {"facts": {"a": 2, "b": {"y": 2}}}}');
SELECT pg_temp.write('b', '{"shared": {"facts": 1}}');
-- compare and set.
SELECT pg_temp.write('a', '{"shared": {"turn": 1}}');
SELECT pg_temp.write('a', '{"shared": {"turn": {"expect": 0, "value": 1}}}');
SELECT pg_temp.write('b', '{"shared": {"turn": {"expect": 0, "value": 2}}}');
SELECT pg_temp.write('b', '{"shared": {"turn": {"expect": 1, "value": "two"}}}');
SELECT version, node, item, diff FROM goya.context_patches WHERE task_id = :'task' ORDER BY version;
-- All or nothing: one refused key keeps the others out.
SELECT pg_temp.write('a', '{"shared": {"last": 99, "once": "third"}}');
SELECT state #> '{shared,last}' FROM goya.task_contexts WHERE task_id = :'task';

\echo == people
SET LOCAL ROLE regress_bob;
SELECT pg_temp.try(format('SELECT goya.task_context(%L)', :'task')), pg_temp.try(format('SELECT goya.context_at(%L, 1)', :'task')),
       pg_temp.try(format('SELECT goya.patch_context(%L)', :'task'));
SELECT count(*) FROM goya.task_contexts;
SET LOCAL ROLE regress_alice;
SELECT goya.task_context(:'task');
SELECT v, goya.context_at(:'task', v) FROM generate_series(0, 9) v ORDER BY v;
SELECT pg_temp.try(format('SELECT goya.context_at(%L, %s)', :'task', v)) FROM (VALUES ('-1'), ('10'), ('NULL')) x(v) ORDER BY v;
SELECT goya.patch_context(:'task', '{"shared": {"once": "by hand"}, "vars": {"tone": "soft"}}', '{shared.last}', 9);
SELECT pg_temp.try(format('SELECT goya.patch_context(%L, expected_version => 9)', :'task'));
SELECT pg_temp.try(format('SELECT goya.patch_context(%L, %L, %L)', :'task', x.s, x.u))
FROM (VALUES (1, '{"vars": {"lang": "de"}}', '{}'), (2, '{"vars": {"nope": 1}}', '{}'), (3, '{"else": {}}', '{}'), (4, '{"vars": 1}', '{}'), (5, '{"vars": {"n": "x"}}', '{}'),
             (6, '{}', '{vars.lang}'), (7, '{}', '{odd}'), (8, '{}', '{else.k}')) x(n, s, u) ORDER BY n;
SELECT goya.task_context(:'task');
RESET ROLE;
SELECT type, data FROM goya.task_events WHERE task_id = :'task' AND type = 'context_patched';

\echo == snapshots: every version, rebuilt, is what it was
CREATE TEMP TABLE seen (version integer, state jsonb);
DO $$
BEGIN
    FOR i IN 1 .. 55 LOOP
        PERFORM goya_private.apply_context('00000000-0000-7000-8000-000000000001', 'n' || i, 0, jsonb_build_object('shared', jsonb_build_object('all', i, 'last', i)),
            (SELECT definition -> 'context' FROM goya.workflow_revisions WHERE workflow_id = '00000000-0000-7000-8000-00000000c001'));
        INSERT INTO seen SELECT version, jsonb_build_object('version', version) || state FROM goya.task_contexts WHERE task_id = '00000000-0000-7000-8000-000000000001';
    END LOOP;
END;
$$;
SELECT version FROM goya.context_snapshots WHERE task_id = :'task' ORDER BY 1;
SELECT count(*), bool_and(s.state = goya.context_at(:'task', s.version)) FROM seen s;

\echo == over
UPDATE goya.tasks SET status = 'succeeded', finished_at = now() WHERE id = :'task';
SELECT pg_temp.try(format('SELECT goya.patch_context(%L)', :'task'));
SELECT pg_temp.try($$ SELECT goya_private.apply_context('00000000-0000-7000-8000-000000000002', 'a', 0, '{}', '{}') $$);
ROLLBACK;
