-- control: cancel, pause, resume, signal, approve, retry, waiting, progress, artifacts. One transaction, rolled back: no engine sees these rows, and states
-- are set by hand.
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
CREATE ROLE regress_carol;
GRANT goya_user TO regress_carol;
SELECT goya.create_tenant('regress-a') IS NOT NULL, goya.create_tenant('regress-b') IS NOT NULL;
SELECT goya.add_member('regress_alice', 'regress-a', 'admin');
SELECT goya.add_member('regress_carol', 'regress-a', 'member');
SELECT goya.add_member('regress_bob', 'regress-b');
SELECT id AS tenant FROM goya.tenants WHERE name = 'regress-a' \gset

-- start → (left, right) → joined → ask → end, with a map, a branch that is not taken, and an alternative to the join.
INSERT INTO goya.workflows (id, tenant_id, name, revision, owner_role)
VALUES ('00000000-0000-7000-8000-00000000c001', :'tenant', 'regress-control', 1, 'regress_alice');
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
CREATE VIEW pg_temp.queue AS
    SELECT q.task_id, q.place, q.lane, q.verb, q.node, coalesce(p.key, '-') AS key, q.item, q.attempt
    FROM (SELECT 'ready' AS place, r.* FROM goya_private.ready r UNION ALL SELECT 'parked', p.* FROM goya_private.parked p) q
    JOIN goya.tasks t ON t.id = q.task_id JOIN goya.workflow_revisions v ON v.workflow_id = t.workflow_id AND v.revision = t.revision
    LEFT JOIN goya_private.plan_nodes(v.resolved) p ON p.node = q.node
    WHERE t.workflow_id = '00000000-0000-7000-8000-00000000c001' ORDER BY 1, 2, 4, 5;

\echo == cancel
SELECT count(*) FROM (SELECT pg_temp.task(1, 'running', 3, 2), pg_temp.task(2, parent => 1), pg_temp.task(3, 'succeeded', 0), pg_temp.task(4, 'pending'),
                             pg_temp.task(5, 'waiting', 1, 1)) x;
SELECT pg_temp.node(1, 'start', 'succeeded', 3), pg_temp.node(1, 'left', 'waiting', 8), pg_temp.node(1, 'ask', 'waiting', 9), pg_temp.node(1, 'right', 'succeeded', 7),
       pg_temp.node(5, 'ask', 'waiting', 5) \g /dev/null
INSERT INTO goya.approvals (task_id, node, tenant_id, message) VALUES ('00000000-0000-7000-8000-000000000001', 'ask', :'tenant', 'ok?');
INSERT INTO goya_private.joins (task_id, node, fired) VALUES ('00000000-0000-7000-8000-000000000001', 4, 1);
INSERT INTO goya_private.maps (task_id, node, total, next_item) VALUES ('00000000-0000-7000-8000-000000000001', 1, 3, 3);
SET LOCAL ROLE regress_bob;
SELECT pg_temp.try($$ SELECT goya.cancel('00000000-0000-7000-8000-000000000001') $$);
SET LOCAL ROLE regress_alice;
SELECT goya.cancel('00000000-0000-7000-8000-000000000001', 'wrong video'), goya.cancel('00000000-0000-7000-8000-000000000003'),
       goya.cancel('00000000-0000-7000-8000-000000000004'), goya.cancel('00000000-0000-7000-8000-000000000001', 'again');
SELECT pg_temp.try($$ SELECT goya.cancel(NULL) $$);
RESET ROLE;
SELECT right(task_id::text, 2), reason, requested_by FROM goya_private.cancel_requests WHERE task_id < pg_temp.id(99) ORDER BY 1;
-- Parent, its child and the pending one end in one call: nothing of them runs.
SELECT goya_private.process_cancels(60000);
SELECT right(id::text, 2), status, active, waiting, last_seq, finished_seq, finished_at IS NOT NULL, error FROM goya.tasks WHERE tenant_id = :'tenant' ORDER BY id;
SELECT node, status, seq, started_seq, error ->> 'message' FROM goya.node_runs WHERE task_id = '00000000-0000-7000-8000-000000000001' ORDER BY seq;
SELECT status, decided_at IS NOT NULL FROM goya.approvals WHERE tenant_id = :'tenant';
SELECT (SELECT count(*) FROM goya_private.cancel_requests WHERE task_id = pg_temp.id(1)), (SELECT count(*) FROM goya_private.joins WHERE task_id = pg_temp.id(1)),
       (SELECT count(*) FROM goya_private.maps WHERE task_id = pg_temp.id(1));
SELECT type, right(subject_id::text, 2), data ->> 'status', data ->> 'workflow', data #>> '{error,code}' FROM goya.events WHERE tenant_id = :'tenant' ORDER BY 2;
-- Something runs: first it is only cancelling; after the grace it is interrupted and ended.
SELECT pg_temp.task(6, 'running', 1) \g /dev/null
SELECT pg_temp.node(6, 'right', 'running', 4) \g /dev/null
SELECT goya.cancel('00000000-0000-7000-8000-000000000006', 'slow'), goya_private.process_cancels(60000), goya_private.process_cancels(60000);
SELECT status, last_seq FROM goya.tasks WHERE id = '00000000-0000-7000-8000-000000000006';
SELECT goya_private.process_cancels(0);
SELECT count(*) FROM goya_private.cancel_requests WHERE task_id = pg_temp.id(6);
SELECT seq, type, node, data FROM goya.task_events WHERE task_id = '00000000-0000-7000-8000-000000000006' ORDER BY seq;
-- Ended is ended; one that compensates stays failed.
SELECT goya_private.end_task('00000000-0000-7000-8000-000000000006', 'failed', '{"code": "XX000"}'), pg_temp.try($$ SELECT goya_private.end_task(NULL, 'succeeded', NULL) $$);
SELECT pg_temp.task(7) \g /dev/null
UPDATE goya.tasks SET failing = true, error = '{"code": "P0001", "message": "boom"}' WHERE id = '00000000-0000-7000-8000-000000000007';
SELECT goya.cancel('00000000-0000-7000-8000-000000000007'), goya_private.process_cancels(0);
SELECT status, error FROM goya.tasks WHERE id = '00000000-0000-7000-8000-000000000007';
-- A child that ends tells its parent, once, at the node that waits.
SELECT pg_temp.task(8, 'waiting', 1, 1), pg_temp.task(9, parent => 8) \g /dev/null
SELECT goya_private.end_task('00000000-0000-7000-8000-000000000009', 'failed', '{"code": "XX000"}');
SELECT right(task_id::text, 2), place, lane, verb, node, key, item, attempt FROM pg_temp.queue WHERE task_id < pg_temp.id(99);
DELETE FROM goya_private.ready WHERE task_id = '00000000-0000-7000-8000-000000000008';

\echo == pause and resume
SET LOCAL ROLE regress_bob;
SELECT pg_temp.try($$ SELECT goya.pause('00000000-0000-7000-8000-000000000005') $$);
SET LOCAL ROLE regress_alice;
SELECT paused, last_seq FROM goya.pause('00000000-0000-7000-8000-000000000005');
SELECT paused, last_seq FROM goya.pause('00000000-0000-7000-8000-000000000005');
SELECT pg_temp.try($$ SELECT goya.pause('00000000-0000-7000-8000-000000000003') $$);
RESET ROLE;
INSERT INTO goya_private.parked (rank, lane, verb, task_id, node, item, attempt, tries) VALUES (7, 0, 0, '00000000-0000-7000-8000-000000000005', 7, 0, 1, 0);
SELECT right(task_id::text, 2), place, lane, verb, node, key, item, attempt FROM pg_temp.queue WHERE task_id < pg_temp.id(99);
SET LOCAL ROLE regress_alice;
SELECT paused, last_seq FROM goya.resume('00000000-0000-7000-8000-000000000005');
SELECT paused, last_seq FROM goya.resume('00000000-0000-7000-8000-000000000005');
SELECT seq, type, data FROM goya.task_events_since('00000000-0000-7000-8000-000000000005', 10);
RESET ROLE;
SELECT right(task_id::text, 2), place, lane, verb, node, key, item, attempt FROM pg_temp.queue WHERE task_id < pg_temp.id(99);
SELECT rank FROM goya_private.ready WHERE task_id = '00000000-0000-7000-8000-000000000005';
DELETE FROM goya_private.ready WHERE task_id = '00000000-0000-7000-8000-000000000005';

\echo == signals
SET LOCAL ROLE regress_bob;
SELECT pg_temp.try($$ SELECT goya.signal('00000000-0000-7000-8000-000000000005', 'go') $$);
SET LOCAL ROLE regress_alice;
SELECT goya.signal('00000000-0000-7000-8000-000000000005', 'go', '{"a": 1}') IS NOT NULL;
SELECT pg_temp.try($$ SELECT goya.signal('00000000-0000-7000-8000-000000000005', '') $$);
SELECT pg_temp.try($$ SELECT goya.signal('00000000-0000-7000-8000-000000000003', 'go') $$);
RESET ROLE;
SELECT name, payload, consumed_by FROM goya_private.signals WHERE task_id = '00000000-0000-7000-8000-000000000005';
SELECT right(task_id::text, 2), place, lane, verb, node, key, item, attempt FROM pg_temp.queue WHERE task_id < pg_temp.id(99);
DELETE FROM goya_private.ready WHERE task_id = '00000000-0000-7000-8000-000000000005';

\echo == approvals
INSERT INTO goya.approvals (task_id, node, tenant_id, message, form)
SELECT '00000000-0000-7000-8000-000000000005', 'ask', :'tenant', 'ok?', n -> 'form' FROM goya.workflow_revisions, jsonb_array_elements(definition -> 'nodes') n
WHERE workflow_id = '00000000-0000-7000-8000-00000000c001' AND n ->> 'key' = 'ask';
SET LOCAL ROLE regress_bob;
SELECT pg_temp.try($$ SELECT goya.approve('00000000-0000-7000-8000-000000000005', 'ask') $$);
SET LOCAL ROLE regress_alice;
SELECT pg_temp.try($$ SELECT goya.approve('00000000-0000-7000-8000-000000000005', 'end') $$);
SELECT pg_temp.try($$ SELECT goya.approve('00000000-0000-7000-8000-000000000005', 'ask', NULL) $$);
SELECT split_part(pg_temp.try($$ SELECT goya.approve('00000000-0000-7000-8000-000000000005', 'ask', true, '{}') $$), ' | ', 1);
SELECT node, status, response, decided_by FROM goya.approve('00000000-0000-7000-8000-000000000005', 'ask', true, '{"note": "fine"}');
SELECT node, status, response FROM goya.approve('00000000-0000-7000-8000-000000000005', 'ask', true, '{"note": "other"}');
SELECT pg_temp.try($$ SELECT goya.approve('00000000-0000-7000-8000-000000000005', 'ask', false) $$);
RESET ROLE;
SELECT right(task_id::text, 2), place, lane, verb, node, key, item, attempt FROM pg_temp.queue WHERE task_id < pg_temp.id(99);
UPDATE goya.approvals SET status = 'expired' WHERE task_id = '00000000-0000-7000-8000-000000000005';
SELECT pg_temp.try($$ SELECT goya.approve('00000000-0000-7000-8000-000000000005', 'ask') $$);
DELETE FROM goya_private.ready WHERE task_id = '00000000-0000-7000-8000-000000000005';

\echo == waiting and progress
SET LOCAL ROLE regress_alice;
SELECT status FROM goya.wait_for_task('00000000-0000-7000-8000-000000000003');
SELECT pg_temp.try($$ SELECT goya.wait_for_task('00000000-0000-7000-8000-000000000005') $$);
SELECT pg_temp.try($$ SELECT goya.wait_for_task('00000000-0000-7000-8000-000000000005', '-1 s') $$);
SELECT pg_temp.try($$ SELECT * FROM goya.task_events_since('00000000-0000-7000-8000-000000000005', 99, '1 s') $$);
SELECT pg_temp.try($$ SELECT * FROM goya.task_events_since('00000000-0000-7000-8000-000000000005', 0, '0', 0) $$);
SELECT count(*) FROM goya.task_events_since('00000000-0000-7000-8000-000000000003', 99, '1 min');
SELECT goya.report_progress('00000000-0000-7000-8000-000000000005', 40, 'halfway'), goya.report_progress('00000000-0000-7000-8000-000000000003', 40);
SELECT pg_temp.try($$ SELECT goya.report_progress('00000000-0000-7000-8000-000000000005', 101) $$);
SELECT progress, message FROM goya.tasks WHERE id = '00000000-0000-7000-8000-000000000005';
SET LOCAL ROLE regress_carol;
SELECT pg_temp.try($$ SELECT goya.report_progress('00000000-0000-7000-8000-000000000005', 50) $$);
RESET ROLE;

\echo == retry
-- right failed in its second try; left, its items and start succeeded.
SELECT pg_temp.task(11, 'failed', 0) \g /dev/null
SELECT pg_temp.node(11, 'start', 'succeeded', 3, '{"case": "go"}'), pg_temp.node(11, 'stopped', 'skipped', 4), pg_temp.node(11, 'each', 'succeeded', 5, '1', 0),
       pg_temp.node(11, 'each', 'failed', 6, NULL, 1), pg_temp.node(11, 'each', 'succeeded', 7, '2', 1, 2), pg_temp.node(11, 'left', 'succeeded', 8, '[1, 2]'),
       pg_temp.node(11, 'right', 'failed', 9), pg_temp.node(11, 'right', 'failed', 10, NULL, 0, 2), pg_temp.node(11, 'either', 'succeeded', 11, '{}') \g /dev/null
INSERT INTO goya.task_contexts (task_id, tenant_id, version, state)
VALUES ('00000000-0000-7000-8000-000000000011', :'tenant', 3, '{"vars": {"tone": "loud"}, "shared": {"log": [1, 9]}}');
INSERT INTO goya.context_patches (task_id, version, tenant_id, node, item, diff) VALUES
    ('00000000-0000-7000-8000-000000000011', 1, :'tenant', 'left', 0, '{"set": {}, "append": {"shared": {"log": [1]}}}'),
    ('00000000-0000-7000-8000-000000000011', 2, :'tenant', 'either', 0, '{"set": {}, "append": {"shared": {"log": [9]}}}'),
    ('00000000-0000-7000-8000-000000000011', 3, :'tenant', NULL, NULL, '{"set": {"vars": {"tone": "loud"}}}');
SET LOCAL ROLE regress_bob;
SELECT pg_temp.try($$ SELECT goya.retry('00000000-0000-7000-8000-000000000011') $$);
SET LOCAL ROLE regress_alice;
SELECT pg_temp.try($$ SELECT goya.retry('00000000-0000-7000-8000-000000000005') $$);
SELECT pg_temp.try($$ SELECT goya.retry('00000000-0000-7000-8000-000000000011', 'absent') $$);
SELECT goya.retry('00000000-0000-7000-8000-000000000011') AS retried \gset
RESET ROLE;
SELECT status, revision, run_as, right(parent_task_id::text, 2) AS parent, parent_node, active, done_nodes, last_seq, progress FROM goya.tasks WHERE id = :'retried';
SELECT node, item, attempt, status, seq, output, cost FROM goya.node_runs WHERE task_id = :'retried' ORDER BY seq;
SELECT place, lane, verb, key, item, attempt FROM pg_temp.queue WHERE task_id = :'retried';
SELECT p.key, j.fired, j.dead, j.failed, j.started FROM goya_private.joins j, goya.workflow_revisions r, goya_private.plan_nodes(r.resolved) p
WHERE j.task_id = :'retried' AND r.workflow_id = '00000000-0000-7000-8000-00000000c001' AND p.node = j.node ORDER BY 1;
SELECT version, state FROM goya.task_contexts WHERE task_id = :'retried';
-- From a node that succeeded: it and what follows run again. From the root: everything.
SET LOCAL ROLE regress_carol;
SELECT goya.retry('00000000-0000-7000-8000-000000000011', 'left') AS from_left, goya.retry('00000000-0000-7000-8000-000000000011', 'start') AS from_start \gset
RESET ROLE;
SELECT run_as, active FROM goya.tasks WHERE id IN (:'from_left', :'from_start') ORDER BY active;
SELECT node, status FROM goya.node_runs WHERE task_id = :'from_left' ORDER BY seq;
SELECT key, lane FROM pg_temp.queue WHERE task_id = :'from_left' ORDER BY 1;
SELECT count(*) FROM goya.node_runs WHERE task_id = :'from_start';
-- All succeeded: nothing to retry.
UPDATE goya.node_runs SET status = 'succeeded' WHERE task_id = '00000000-0000-7000-8000-000000000011';
SELECT pg_temp.node(11, 'joined', 'succeeded', 12), pg_temp.node(11, 'ask', 'succeeded', 13), pg_temp.node(11, 'end', 'succeeded', 14) \g /dev/null
SELECT pg_temp.try($$ SELECT goya.retry('00000000-0000-7000-8000-000000000011') $$);

\echo == artifacts
INSERT INTO goya.assets (id, tenant_id, name, owner_role) VALUES ('00000000-0000-7000-8000-0000000000a1', :'tenant', 'film', 'regress_alice');
UPDATE goya.tasks SET asset_id = '00000000-0000-7000-8000-0000000000a1', depth = 2, created_by = 'ann' WHERE id = '00000000-0000-7000-8000-000000000005';
SELECT pg_temp.try(format($$ SELECT goya_private.store_artifacts('[{"task_id": "00000000-0000-7000-8000-000000000005", "tenant_id": "%s", "node": "ask", "item": 0, "type": %s, "data": %s}]') $$,
    :'tenant', a.type, a.data))
FROM (VALUES (1, '"poem"', '{}'), (2, '"asset"', '[]'), (3, '"asset"', '{"media_type": "smell"}'), (4, '"asset"', '{"size_bytes": "big"}'), (5, '"asset"', '{"size_bytes": -1}'),
             (6, '"asset"', '{"duration": "long"}'), (7, '"asset"', '{"sha256": "x"}'), (8, '"asset"', '{"tags": [1]}'), (9, '"asset"', '{"tags": "x"}'), (10, '"asset"', '{"metadata": 1}'),
             (11, '"asset"', '{"status": "odd"}')) a(n, type, data) ORDER BY n;
SELECT goya_private.store_artifacts(jsonb_build_array(
    jsonb_build_object('task_id', '00000000-0000-7000-8000-000000000005', 'tenant_id', :'tenant', 'node', 'ask', 'item', 3, 'type', 'asset', 'name', 'thumb',
        'data', '{"uri": "file:///t.png", "mime_type": "image/png", "size_bytes": 12, "tags": ["a", "b"], "metadata": {"w": 1}, "duration": null}'::jsonb),
    jsonb_build_object('task_id', '00000000-0000-7000-8000-000000000005', 'tenant_id', :'tenant', 'node', 'end', 'type', 'result', 'name', 'score', 'data', '0.5'::jsonb)));
SELECT a.node, a.item, a.type, a.name, a.data, a.maturity, a.asset_id = c.id AS linked, c.name, c.media_type, c.source, c.status, c.size_bytes, c.tags, c.metadata,
       right(c.parent_id::text, 2) AS parent, right(c.task_id::text, 2) AS task, c.node, c.item, c.depth, c.owner_role, c.created_by, c.visibility
FROM goya.artifacts a LEFT JOIN goya.assets c ON c.id = a.asset_id WHERE a.tenant_id = :'tenant' ORDER BY a.node;
SELECT id AS artifact FROM goya.artifacts WHERE tenant_id = :'tenant' AND type = 'result' \gset
SET LOCAL ROLE regress_bob;
SELECT pg_temp.try(format($$ SELECT goya.update_artifact(%L, '1', 1) $$, :'artifact')), pg_temp.try(format($$ SELECT goya.set_artifact_maturity(%L, 'locked') $$, :'artifact'));
SET LOCAL ROLE regress_carol;
SELECT data, row_version FROM goya.update_artifact(:'artifact', '0.6', 1);
SELECT pg_temp.try(format($$ SELECT goya.update_artifact(%L, '0.7', 1) $$, :'artifact'));
SELECT maturity, row_version FROM goya.set_artifact_maturity(:'artifact', 'locked');
SELECT pg_temp.try(format($$ SELECT goya.update_artifact(%L, '0.7', 3) $$, :'artifact'));
SELECT pg_temp.try(format($$ SELECT goya.set_artifact_maturity(%L, 'draft') $$, :'artifact'));
SELECT pg_temp.try(format($$ SELECT goya.set_artifact_maturity(%L, 'done') $$, :'artifact'));
SET LOCAL ROLE regress_alice;
SELECT maturity FROM goya.set_artifact_maturity(:'artifact', 'review');
RESET ROLE;
ROLLBACK;
