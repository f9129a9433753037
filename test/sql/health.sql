-- health: diagnose for every reason to wait; health and check for administrators only; views. Rolled back. What check finds is in test/pgtap/check.sql.
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
CREATE ROLE regress_admin;
GRANT goya_admin TO regress_admin;
SELECT goya.create_tenant('regress-a') IS NOT NULL, goya.create_tenant('regress-b') IS NOT NULL;
SELECT goya.add_member('regress_alice', 'regress-a', 'admin');
SELECT goya.add_member('regress_bob', 'regress-b');
SELECT id AS tenant FROM goya.tenants WHERE name = 'regress-a' \gset

-- start → (left, right) → joined → ask → end, with a map, a branch that is not taken, and an alternative to the join.
INSERT INTO goya.workflows (id, tenant_id, name, revision, owner_role)
VALUES ('00000000-0000-7000-8000-00000000c001', :'tenant', 'regress-health', 1, 'regress_alice');
INSERT INTO goya.workflow_revisions (workflow_id, revision, tenant_id, definition, resolved)
SELECT '00000000-0000-7000-8000-00000000c001', 1, :'tenant', d, d FROM (SELECT '{
  "context": {"vars": {"tone": {"type": "string", "default": "calm"}}, "shared": {"log": {"conflict": "append"}}},
  "nodes": [
    {"key": "start", "kind": "condition", "cases": [{"name": "go", "when": "true == true"}], "default": "stop"},
    {"key": "left", "kind": "map", "over": "{{ input.list }}", "node": {"key": "each", "kind": "noop"}},
    {"key": "right", "kind": "http", "method": "GET", "url": "http://127.0.0.1:9/"},
    {"key": "stopped", "kind": "noop"},
    {"key": "joined", "kind": "noop"},
    {"key": "either", "kind": "noop", "join": "any"},
    {"key": "ask", "kind": "approval", "message": "ok?", "form": {"type": "object", "required": ["note"], "properties": {"note": {"type": "string"}}}},
    {"key": "end", "kind": "noop"}],
  "edges": [
    {"from": "start", "to": "left", "case": "go"}, {"from": "start", "to": "right", "when": "$.nodes.start.output.case == \"go\""},
    {"from": "start", "to": "stopped", "case": "stop"},
    {"from": "left", "to": "joined"}, {"from": "right", "to": "joined"},
    {"from": "left", "to": "either"}, {"from": "right", "to": "either"}, {"from": "stopped", "to": "either"},
    {"from": "joined", "to": "ask"}, {"from": "ask", "to": "end"}]}'::jsonb AS d) x;

CREATE FUNCTION pg_temp.id(number integer) RETURNS uuid LANGUAGE sql AS $$
    SELECT ('00000000-0000-7000-8000-0000000000' || lpad(number::text, 2, '0'))::uuid $$;
-- A task by number, in the state a number of its nodes would have left it.
CREATE FUNCTION pg_temp.task(number integer, status goya.task_status DEFAULT 'running', active integer DEFAULT 1, waiting integer DEFAULT 0,
    parent integer DEFAULT NULL) RETURNS uuid LANGUAGE sql AS $$
    INSERT INTO goya.tasks (id, tenant_id, workflow_id, revision, status, run_as, trace_id, active, waiting, last_seq, started_seq, created_at, started_at,
                            parent_task_id, parent_node, parent_item, finished_seq, finished_at, error)
    SELECT pg_temp.id(number), t.id, '00000000-0000-7000-8000-00000000c001', 1, task.status,
           'regress_alice', 'trace', task.active, task.waiting, CASE WHEN ended THEN 20 ELSE 10 END, 2, '2026-01-01 10:00:00Z', '2026-01-01 10:00:00Z',
           pg_temp.id(parent), CASE WHEN parent IS NOT NULL THEN 3 END,
           CASE WHEN parent IS NOT NULL THEN 0 END, CASE WHEN ended THEN 20 END, CASE WHEN ended THEN timestamptz '2026-01-01 10:01:00Z' END,
           CASE WHEN task.status = 'failed' THEN '{"code": "P0001", "message": "boom"}'::jsonb END
    FROM goya.tenants t, LATERAL (SELECT task.status IN ('succeeded', 'failed', 'cancelled') AS ended) e WHERE t.name = 'regress-a'
    RETURNING id;
$$;
CREATE FUNCTION pg_temp.node(number integer, node text, status goya.node_run_status, seq integer, output jsonb DEFAULT NULL, item integer DEFAULT 0, attempt integer DEFAULT 1)
    RETURNS void LANGUAGE sql AS $$
    INSERT INTO goya.node_runs (task_id, tenant_id, node, item, attempt, status, seq, output, started_seq, started_at, finished_at)
    SELECT t.id, t.tenant_id, node.node, node.item, node.attempt::smallint, node.status, node.seq, node.output,
           CASE WHEN node.status IN ('waiting', 'running') THEN node.seq END, t.started_at,
           CASE WHEN node.status NOT IN ('waiting', 'running') THEN t.started_at + interval '1 s' END
    FROM goya.tasks t WHERE t.id = pg_temp.id(number);
$$;

-- A task in the middle: left goes over three items, two of them ended; right is done; joined and either have heard of it.
CREATE FUNCTION pg_temp.sound(number integer) RETURNS void LANGUAGE sql AS $$
    SELECT pg_temp.task(number, 'running', 2, 1);
    SELECT pg_temp.node(number, 'start', 'succeeded', 3, '{"case": "go"}'), pg_temp.node(number, 'stopped', 'skipped', 4), pg_temp.node(number, 'left', 'waiting', 5),
           pg_temp.node(number, 'right', 'failed', 6), pg_temp.node(number, 'right', 'succeeded', 7, '{}', 0, 2), pg_temp.node(number, 'each', 'succeeded', 8, '1', 0),
           pg_temp.node(number, 'either', 'succeeded', 9, '{}'), pg_temp.node(number, 'each', 'succeeded', 10, '2', 1);
    UPDATE goya.node_runs SET message = 'will retry 1/1' WHERE task_id = pg_temp.id(number) AND node = 'right' AND attempt = 1;
    INSERT INTO goya_private.maps VALUES (pg_temp.id(number), 1, 3, 3, 2, 0);
    INSERT INTO goya_private.joins VALUES (pg_temp.id(number), 4, 1, 0, 0, false), (pg_temp.id(number), 5, 1, 1, 0, true);
    INSERT INTO goya_private.ready (rank, lane, verb, task_id, node, item, attempt) VALUES (-9223372036854775000, 0, 0, pg_temp.id(number), 8, 2, 1);
$$;
SELECT pg_temp.sound(n) FROM generate_series(1, 3) n \g /dev/null
SELECT pg_temp.task(4, 'succeeded', 0), pg_temp.node(4, 'start', 'succeeded', 3, '{"case": "stop"}') \g /dev/null

\echo == diagnose
CREATE FUNCTION pg_temp.diagnose(number integer) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT regexp_replace(concat_ws(' | ', finding, coalesce(node, '-'), detail, hint), '\d{4}-\d\d-\d\d [0-9:.+-]+\d', '<time>', 'g')
    FROM goya.diagnose(pg_temp.id(number)) WHERE finding NOT IN ('no engine runs') $$;
SET LOCAL ROLE regress_bob;
SELECT pg_temp.try('SELECT goya.diagnose(pg_temp.id(1))');
SET LOCAL ROLE regress_alice;
SELECT pg_temp.diagnose(1);
RESET ROLE;
SELECT pg_temp.task(11, 'waiting', 4, 4), pg_temp.node(11, 'ask', 'waiting', 5), pg_temp.task(12, 'pending'), pg_temp.task(13), pg_temp.task(14, 'failed', 0), pg_temp.task(15),
       pg_temp.task(16, 'pending') \g /dev/null
INSERT INTO goya.approvals (task_id, node, tenant_id, message) VALUES (pg_temp.id(11), 'ask', :'tenant', 'ok?');
INSERT INTO goya_private.timers (due, verb, task_id, node, item, attempt, rank, lane) VALUES ('2100-01-01', 1, pg_temp.id(11), 6, 0, 1, 1, 2),
    ('2100-01-01', 0, pg_temp.id(13), 2, 0, 2, 1, 1), ('2020-01-01', 0, pg_temp.id(16), -1, 0, 1, 1, 1);
SELECT pg_temp.node(13, 'right', 'failed', 5) \g /dev/null
UPDATE goya.node_runs SET error = '{"code": "08006", "message": "no route"}' WHERE task_id = pg_temp.id(13);
INSERT INTO goya_private.parked (rank, lane, verb, task_id, node, item, attempt, tries) VALUES (7, 0, 0, pg_temp.id(12), -1, 0, 1, 0);
UPDATE goya.tasks SET paused = true WHERE id = pg_temp.id(12);
UPDATE goya.tasks SET error = error || '{"node": "right", "detail": "why", "hint": "Do this."}' WHERE id = pg_temp.id(14);
INSERT INTO goya_private.cancel_requests (task_id, reason, requested_by) VALUES (pg_temp.id(13), 'slow', 'ann');
UPDATE goya.tasks SET run_as = 'regress_gone' WHERE id = pg_temp.id(15);
UPDATE goya.tasks SET run_at = '2100-01-01' WHERE id = pg_temp.id(16);
UPDATE goya.workflow_revisions SET resolved = jsonb_set(resolved, '{nodes,7}', '{"key": "end", "kind": "sql", "function": "regress_absent.f"}')
WHERE workflow_id = '00000000-0000-7000-8000-00000000c001';
SELECT n, pg_temp.diagnose(n) FROM unnest(ARRAY[11, 12, 13, 14, 15, 16]) n;
UPDATE goya.tasks SET run_as = 'postgres' WHERE id = pg_temp.id(15);
SELECT count(*) FROM pg_temp.diagnose(15) d WHERE d LIKE 'role too powerful%';
UPDATE goya.tenants SET status = 'suspended' WHERE name = 'regress-a';
SELECT count(*) FROM pg_temp.diagnose(12) d WHERE d LIKE 'tenant suspended%';
UPDATE goya.tenants SET status = 'active' WHERE name = 'regress-a';

\echo == views
SET LOCAL ROLE regress_alice;
SELECT right(task_id::text, 2), workflow, status, reason FROM goya.stuck_tasks ORDER BY 1;
SELECT right(id::text, 2), workflow, status, created, started, finished, CASE WHEN finished IS NOT NULL THEN duration_ms END, succeeded, failed, skipped, open, retries, error FROM goya.task_summary WHERE status = 'failed' OR id = pg_temp.id(1) ORDER BY 1;
SELECT workflow, tasks, open, succeeded, failed, cancelled, success_percent, p50_ms, p95_ms FROM goya.workflow_statistics;
SELECT count(*) FROM goya.activity WHERE task_id = pg_temp.id(1);
SELECT seq, type, node, item, attempt, data FROM goya.task_events WHERE task_id = pg_temp.id(1) ORDER BY seq;
SET LOCAL ROLE regress_bob;
SELECT count(*) FROM goya.stuck_tasks;
SELECT count(*) FROM goya.task_summary;
SELECT count(*) FROM goya.task_events WHERE task_id = pg_temp.id(1);
SELECT count(*) FROM goya.workflow_statistics;
SELECT pg_temp.try('SELECT * FROM goya_private.task_log'), pg_temp.try('SELECT * FROM goya_private.find_stuck_tasks()');
RESET ROLE;
-- An outside call that runs is shown to its tenant only.
UPDATE goya.node_runs SET status = 'running' WHERE task_id = pg_temp.id(11);
SET LOCAL ROLE regress_alice;
SELECT process, state, right(task_id::text, 2), workflow, node, item FROM goya.activity;
SET LOCAL ROLE regress_bob;
SELECT count(*) FROM goya.activity;

\echo == health
SELECT pg_temp.try('SELECT * FROM goya.health()');
SELECT pg_temp.try('SELECT * FROM goya.check()');
SET LOCAL ROLE regress_admin;
SELECT component, status, detail FROM goya.health() WHERE component IN ('preload', 'copy', 'superuser tasks') OR component LIKE 'role %' ORDER BY 1;
SELECT component, status, hint FROM goya.health() WHERE component = 'timers';
SELECT count(*) > 10 FROM goya.health() WHERE status IN ('ok', 'warning', 'error');
RESET ROLE;
ALTER ROLE goya_executor NOLOGIN;
SELECT component, status, detail FROM goya.health() WHERE component = 'role goya_executor';
ROLLBACK;
