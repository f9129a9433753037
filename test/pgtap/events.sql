-- events.sql: the log of each task, numbered without gaps or doubles; and domain events, published exactly once.
--
-- Fifty tasks of every shape (retries, maps, waits, children, failures, cancels, compensation) run beside each other; then each one's events must be
-- 1, 2, 3 … in the order of their times, begin with task_created, end with its end, and agree with goya.tasks and goya.node_runs.

\set file events
\ir lib/tasks.psql
SELECT no_plan();
SELECT set_config('test.began', clock_timestamp()::text, false) \g /dev/null
CREATE FUNCTION regress_events.boom(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'boom'; END $$;
CREATE FUNCTION regress_events.echo(input jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT input';
CREATE FUNCTION regress_events.busy(input jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb(goya.report_progress((input ->> 'task')::uuid, 10)) $$;

SELECT pg_temp.define('ev chain', '{"nodes": [{"key": "a", "kind": "noop"}, {"key": "b", "kind": "sql", "function": "regress_events.echo"}, {"key": "c", "kind": "noop"}], "edges": [{"from": "a", "to": "b"}, {"from": "b", "to": "c"}]}');
SELECT pg_temp.define('ev retry', '{"nodes": [{"key": "f", "kind": "sql", "function": "regress_events.boom", "retry": {"max_attempts": 3, "initial": "5ms", "on": ["UNKNOWN"]}}]}');
SELECT pg_temp.define('ev map', '{"nodes": [{"key": "m", "kind": "map", "over": [1, 2, 3, 4, 5], "max_parallel": 2, "node": {"key": "i", "kind": "sql", "function": "regress_events.echo"}}]}');
SELECT pg_temp.define('ev wait', '{"nodes": [{"key": "w", "kind": "wait", "signal": "go"}, {"key": "after", "kind": "sql", "function": "regress_events.busy", "input": {"task": "{{ task.id }}"}}], "edges": [{"from": "w", "to": "after"}]}');
SELECT pg_temp.define('ev child', '{"nodes": [{"key": "s", "kind": "workflow", "workflow": "ev chain"}, {"key": "z", "kind": "sleep", "duration": 0.01}], "edges": [{"from": "s", "to": "z"}]}');
SELECT pg_temp.define('ev undo', '{"nodes": [{"key": "a", "kind": "noop", "compensate": {"kind": "sql", "function": "regress_events.echo"}}, {"key": "b", "kind": "sql", "function": "regress_events.boom"}], "edges": [{"from": "a", "to": "b"}]}');
SELECT pg_temp.define('ev skip', '{"nodes": [{"key": "c", "kind": "condition", "when": "1 == 2"}, {"key": "y", "kind": "noop"}, {"key": "n", "kind": "noop"}, {"key": "j", "kind": "noop"}],
    "edges": [{"from": "c", "to": "y", "case": "true"}, {"from": "c", "to": "n", "case": "false"}, {"from": "y", "to": "j"}, {"from": "n", "to": "j"}]}');

CREATE TEMP TABLE mine AS SELECT w.name, NULL::uuid AS id FROM unnest('{ev chain,ev retry,ev map,ev wait,ev child,ev undo,ev skip}'::text[]) w(name), generate_series(1, 7);
GRANT ALL ON mine TO regress_events;
SELECT is(pg_temp.try($$WITH started AS (UPDATE pg_temp.mine SET id = goya.run(name) RETURNING 1) SELECT count(*) FROM started$$), '49', 'tasks of every shape');
SELECT is(pg_temp.until($$SELECT count(*)::text FROM mine m JOIN goya.tasks t USING (id) WHERE m.name = 'ev wait' AND t.status = 'waiting'$$, '7'), '7', 'seven wait');
CREATE TEMP TABLE seen AS SELECT e.* FROM goya.task_events e JOIN mine m ON m.id = e.task_id;
SELECT is(pg_temp.try($$SELECT count(goya.pause(id)) FROM (SELECT id FROM pg_temp.mine WHERE name = 'ev wait' ORDER BY id LIMIT 2) x$$), '2', 'two are held');
SELECT is(pg_temp.try($$SELECT count(goya.signal(id, 'go')) FROM (SELECT id FROM pg_temp.mine WHERE name = 'ev wait' ORDER BY id LIMIT 5) x$$), '5', 'five get their signal');
SELECT is(pg_temp.try($$SELECT count(goya.cancel(id)) FROM (SELECT id FROM pg_temp.mine WHERE name = 'ev wait' ORDER BY id DESC LIMIT 2) x$$), '2', 'two are cancelled');
SELECT is(pg_temp.try($$SELECT count(goya.resume(id)) FROM (SELECT id FROM pg_temp.mine WHERE name = 'ev wait' ORDER BY id LIMIT 2) x$$), '2', 'and the two go on');
SELECT is(pg_temp.until($$SELECT count(*)::text FROM mine m JOIN goya.tasks t USING (id) WHERE t.finished_at IS NOT NULL$$, '49', 20), '49', 'all end');
SELECT is((SELECT string_agg(DISTINCT t.status::text, ',' ORDER BY t.status::text) FROM mine m JOIN goya.tasks t USING (id) WHERE m.name = 'ev wait'), 'cancelled,succeeded', 'those that waited: cancelled or succeeded');
SELECT is((SELECT string_agg(DISTINCT format('%s %s', m.name, t.status), ', ' ORDER BY format('%s %s', m.name, t.status)) FROM mine m JOIN goya.tasks t USING (id) WHERE m.name <> 'ev wait'),
    'ev chain succeeded, ev child succeeded, ev map succeeded, ev retry failed, ev skip succeeded, ev undo failed', 'the others as they should');

-- ---- numbers ----

CREATE TEMP TABLE events AS SELECT e.*, m.name FROM goya.task_events e JOIN mine m ON m.id = e.task_id;
SELECT is((SELECT count(*) FROM (SELECT task_id FROM events GROUP BY task_id HAVING count(*) <> max(seq) OR count(DISTINCT seq) <> count(*) OR min(seq) <> 1) x), 0::bigint, 'each task''s events are 1, 2, 3 … without gaps and doubles');
SELECT is((SELECT count(*) FROM events e JOIN goya.tasks t ON t.id = e.task_id WHERE e.seq > t.last_seq), 0::bigint, 'last_seq is the last');
SELECT is((SELECT count(*) FROM mine m JOIN goya.tasks t USING (id) WHERE t.last_seq <> (SELECT max(seq) FROM events e WHERE e.task_id = m.id)), 0::bigint, 'and no number was given away for nothing');
SELECT is((SELECT count(*) FROM events WHERE seq = 1 AND type <> 'task_created'), 0::bigint, 'the first is task_created');
SELECT is((SELECT count(*) FROM events WHERE seq = 2 AND type <> 'task_started'), 0::bigint, 'the second is task_started');
SELECT is((SELECT count(*) FROM (SELECT DISTINCT ON (task_id) type FROM events ORDER BY task_id, seq DESC) x WHERE type !~ '^task_(succeeded|failed|cancelled)$'), 0::bigint, 'the last is its end');
SELECT is((SELECT count(*) FROM events WHERE type ~ '^task_(succeeded|failed|cancelled)$'), 49::bigint, 'of which each has one');
SELECT is((SELECT count(*) FROM goya.node_runs r JOIN mine m ON m.id = r.task_id WHERE NOT EXISTS (SELECT FROM events e WHERE (e.task_id, e.node, e.item, e.attempt, e.seq, e.type) = (r.task_id, r.node, r.item, r.attempt, r.seq, 'node_' || r.status))),
    0::bigint, 'every node run has the event of its end');
SELECT is((SELECT count(*) FROM (SELECT created_at < lag(created_at) OVER (PARTITION BY task_id ORDER BY seq) - interval '5 ms' AS back FROM events) x WHERE back), 0::bigint, 'times go with the numbers');
SELECT is((SELECT count(*) FROM seen s WHERE NOT EXISTS (SELECT FROM events e WHERE (e.task_id, e.seq, e.type) = (s.task_id, s.seq, s.type) AND e.node IS NOT DISTINCT FROM s.node AND e.data = s.data)), 0::bigint, 'an event once seen stays as it was');
SELECT is((SELECT count(*) FROM events WHERE created_at IS NULL), 0::bigint, 'every event has a time');
SELECT is((SELECT DISTINCT string_agg(type || coalesce(' ' || node, ''), ', ' ORDER BY seq) FROM events WHERE name = 'ev chain' GROUP BY task_id),
    'task_created, task_started, node_succeeded a, node_succeeded b, node_succeeded c, task_succeeded', 'a chain: always the same');
SELECT is((SELECT DISTINCT string_agg(format('%s %s', type, attempt), ', ' ORDER BY seq) FROM events WHERE name = 'ev retry' AND node IS NOT NULL GROUP BY task_id), 'node_failed 1, node_failed 2, node_failed 3', 'retries: each attempt');
SELECT is((SELECT DISTINCT count(*) FROM events WHERE name = 'ev map' AND node = 'i' GROUP BY task_id), 5::bigint, 'a map: each item');
SELECT is((SELECT DISTINCT string_agg(type || ' ' || node, ', ' ORDER BY seq) FROM events WHERE name = 'ev undo' AND node IS NOT NULL GROUP BY task_id),
    'node_succeeded a, node_failed b, node_succeeded a.compensate, node_compensated a', 'compensation: what was done, what failed, and what was undone');
SELECT is((SELECT DISTINCT string_agg(type || ' ' || node, ', ' ORDER BY type, node) FROM events WHERE name = 'ev skip' AND node IS NOT NULL GROUP BY task_id),
    'node_skipped y, node_succeeded c, node_succeeded j, node_succeeded n', 'a skipped node has its event');
SELECT is((SELECT count(DISTINCT task_id) FROM events WHERE type = 'progress'), 5::bigint, 'progress');
SELECT is((SELECT count(*) FROM events WHERE type = 'task_paused') || ' ' || (SELECT count(*) FROM events WHERE type = 'task_resumed'), '2 2', 'pauses');

-- ---- domain events ----

SELECT is((SELECT count(*) || ' ' || count(DISTINCT e.subject_id) FROM goya.events e JOIN mine m ON m.id = e.subject_id WHERE e.type = 'task_completed'), '49 49', 'task_completed: once for each task');
SELECT is((SELECT count(*) FROM goya.events e JOIN goya.tasks t ON t.id = e.subject_id JOIN mine m ON m.id = t.id WHERE e.type = 'task_completed' AND e.data ->> 'status' IS DISTINCT FROM t.status::text), 0::bigint, 'with its status');
SELECT is((SELECT count(*) FROM goya.events e JOIN goya.tasks c ON c.id = e.subject_id JOIN mine m ON m.id = c.parent_task_id WHERE e.type = 'task_completed'), 7::bigint, 'and of children');
SELECT pg_temp.start('ev assets', '{"nodes": [{"key": "a", "kind": "transform", "output": [{"uri": "a"}, {"uri": "b"}, {"uri": "c", "status": "processing"}], "artifact": {"type": "asset", "each": "{{ output }}"}}]}');
SELECT is((pg_temp.task('ev assets')).status::text, 'succeeded', 'a task that makes three assets');
SELECT is((SELECT string_agg(format('%s %s', e.type, n), ', ' ORDER BY e.type) FROM (SELECT e.type, count(*) AS n FROM goya.events e WHERE e.task_id = pg_temp.task_id('ev assets') GROUP BY e.type) e),
    'asset_done 2, asset_new 3, task_completed 1', 'asset_new for each, asset_done for those that are ready, all with their task');
SELECT count(*) AS events FROM goya.events \gset
BEGIN;
SELECT pg_temp.try($$SELECT goya.register_asset('file:///nothing')$$) \g /dev/null
SELECT is((SELECT count(*) FROM goya.events), :'events'::bigint + 1, 'an event in its transaction');
ROLLBACK;
SELECT is((SELECT count(*) FROM goya.events), :'events'::bigint, 'goes with it');
\ir lib/finish.psql
