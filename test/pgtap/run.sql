-- run.sql: starting, holding, ending and repeating tasks: the arguments of goya.run, cancel, pause, resume, retry, waiting, long poll, progress, and the views.

\set file run
\ir lib/tasks.psql
SELECT no_plan();
SELECT set_config('test.began', clock_timestamp()::text, false) \g /dev/null
CREATE TABLE regress_run.done (at serial, what text);
GRANT ALL ON ALL TABLES IN SCHEMA regress_run TO regress_run;
GRANT ALL ON ALL SEQUENCES IN SCHEMA regress_run TO regress_run;
CREATE FUNCTION regress_run.note(input jsonb) RETURNS jsonb LANGUAGE sql AS $$ INSERT INTO regress_run.done (what) VALUES (input ->> 'what') RETURNING to_jsonb(what) $$;
CREATE FUNCTION regress_run.slow(input jsonb) RETURNS jsonb LANGUAGE sql AS $$ INSERT INTO regress_run.done (what) VALUES ('slow'); SELECT to_jsonb(true) FROM pg_sleep(60) $$;
CREATE FUNCTION regress_run.stubborn(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_sleep(60); RETURN 'null'; EXCEPTION WHEN OTHERS THEN PERFORM pg_sleep(0.1); RETURN '"went on"'; END $$;
CREATE TABLE regress_run.gate (open boolean);
INSERT INTO regress_run.gate VALUES (false);
GRANT SELECT ON regress_run.gate TO regress_run;
CREATE FUNCTION regress_run.when_open(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS
$$ BEGIN IF NOT (SELECT open FROM regress_run.gate) THEN RAISE EXCEPTION 'the gate is shut'; END IF; RETURN '"through"'; END $$;
CREATE FUNCTION regress_run.progress(input jsonb) RETURNS jsonb LANGUAGE sql AS
$$ SELECT to_jsonb(goya.report_progress((input ->> 'task')::uuid, 40, 'almost half')) $$;
SELECT pg_temp.define('run noop', '{"nodes": [{"key": "a", "kind": "noop"}]}');
SELECT pg_temp.define('run wait', '{"nodes": [{"key": "before", "kind": "noop"}, {"key": "w", "kind": "wait", "signal": "go"}, {"key": "after", "kind": "sql", "function": "regress_run.note", "input": {"what": "after {{ input.x }}"}}],
    "edges": [{"from": "before", "to": "w"}, {"from": "w", "to": "after"}]}');
SELECT pg_temp.define('run slow', '{"nodes": [{"key": "s", "kind": "sql", "function": "regress_run.slow"}, {"key": "after", "kind": "noop"}], "edges": [{"from": "s", "to": "after"}]}');
SELECT pg_temp.define('run chain', '{"nodes": [{"key": "a", "kind": "sql", "function": "regress_run.note", "input": {"what": "a {{ input.x }}"}},
    {"key": "b", "kind": "sql", "function": "regress_run.when_open"}, {"key": "side", "kind": "transform", "output": "aside"}, {"key": "c", "kind": "transform", "output": ["{{ nodes.a.output }}", "{{ nodes.b.output }}", "{{ nodes.side.output }}"]}],
    "edges": [{"from": "a", "to": "b"}, {"from": "b", "to": "c"}, {"from": "a", "to": "side"}, {"from": "side", "to": "c"}]}');

-- ---- arguments ----

SELECT pg_temp.run('key', $$SELECT goya.run('run noop', '{"x": 1}', idempotency_key => 'run.sql ' || current_setting('test.began'))$$);
SELECT is(pg_temp.try($$SELECT goya.run('run noop', '{"x": 1}', idempotency_key => 'run.sql ' || current_setting('test.began'))$$)::uuid, pg_temp.task_id('key'), 'idempotency_key: the same request gives the same task');
SELECT is(pg_temp.try($$SELECT goya.run('run noop', '{"x": 2}', idempotency_key => 'run.sql ' || current_setting('test.began'))$$),
    format('23505: idempotency key "run.sql %s" was used for another request', current_setting('test.began')), 'idempotency_key: another input is refused');
SELECT alike(pg_temp.try($$SELECT goya.run('run wait', '{"x": 1}', idempotency_key => 'run.sql ' || current_setting('test.began'))$$), '23505: %', 'idempotency_key: and another workflow');
SELECT alike(pg_temp.try($$SELECT goya.run('run noop', '{"x": 1}', priority => 5, idempotency_key => 'run.sql ' || current_setting('test.began'))$$), '23505: %', 'idempotency_key: and another priority');
SELECT is((pg_temp.task('key')).status::text, 'succeeded', 'it runs');
SELECT is(pg_temp.try($$SELECT goya.run('run noop', '{"x": 1}', idempotency_key => 'run.sql ' || current_setting('test.began'))$$)::uuid, pg_temp.task_id('key'), 'idempotency_key: also when it has ended');
SELECT is((SELECT count(*) FROM goya.tasks WHERE idempotency_key = 'run.sql ' || current_setting('test.began')), 1::bigint, 'one task');
SELECT is(pg_temp.try($$SELECT goya.run('run noop', idempotency_key => repeat('k', 256))$$), '22023: idempotency_key is longer than 255 bytes', 'idempotency_key: too long');

SELECT pg_temp.run('trace', $$SELECT goya.run('run noop', trace_id => 'trace-7')$$);
SELECT pg_temp.run('no trace', $$SELECT goya.run('run noop')$$);
SELECT is((pg_temp.task('trace')).trace_id, 'trace-7', 'trace_id');
SELECT is((pg_temp.task('no trace')).trace_id, pg_temp.task_id('no trace')::text, 'trace_id: its own id without one');
SELECT is(pg_temp.try($$SELECT goya.run('run noop', priority => 101)$$), '22023: priority must be from -100 to 100', 'priority: too high');
SELECT is(pg_temp.try($$SELECT goya.run('run noop', priority => -101)$$), '22023: priority must be from -100 to 100', 'priority: too low');
SELECT is(pg_temp.try($$SELECT goya.run('run noop', max_cost => -1)$$), '22023: max_cost must not be negative', 'max_cost: less than nothing');
SELECT pg_temp.run('max_cost', $$SELECT goya.run('run noop', max_cost => 0)$$);
SELECT is((pg_temp.task('max_cost')).status::text, 'succeeded', 'max_cost: nothing, for what costs nothing');
SELECT is(pg_temp.try($$SELECT goya.run(NULL)$$), '22023: workflow must not be null', 'workflow: null');
SELECT pg_temp.run('null input', $$SELECT goya.run('run noop', NULL)$$);
SELECT is((pg_temp.task('null input')).output, '{}', 'input: null is nothing');
SELECT is(pg_temp.try($$SELECT goya.register_asset('file:///run.mp4', 'video', metadata => '{"fps": 25}')$$) IS NOT NULL, true, 'an asset');
SELECT pg_temp.define('run asset', '{"nodes": [{"key": "a", "kind": "transform", "output": "{{ asset.uri }} {{ asset.metadata.fps }}"}]}');
SELECT pg_temp.run('asset', $$SELECT goya.run('run asset', asset => (SELECT id FROM goya.assets WHERE uri = 'file:///run.mp4' ORDER BY id DESC LIMIT 1))$$);
SELECT is(pg_temp.outcome('asset'), 'succeeded "file:///run.mp4 25"', 'asset: its fields are there for templates');

-- priority: one executor, a queue that is full before it looks.
SELECT pg_temp.define('run order', '{"nodes": [{"key": "n", "kind": "sql", "function": "regress_run.note", "input": {"what": "order {{ input.p }}"}}]}');
SELECT is(pg_temp.try($$SELECT count(goya.run('run order', jsonb_build_object('p', p), priority => p)) FROM unnest('{0,-100,50,100,-3,0}'::integer[]) p$$), '6', 'six tasks of one transaction');
SELECT is(pg_temp.until($$SELECT count(*)::text FROM regress_run.done WHERE what LIKE 'order %'$$, '6'), '6', 'have run');
SELECT is((SELECT string_agg(what, ', ' ORDER BY at) FROM regress_run.done WHERE what LIKE 'order %'), 'order 100, order 50, order 0, order 0, order -3, order -100', 'priority: higher first');

SELECT pg_temp.run('later', $$SELECT goya.run('run noop', run_at => clock_timestamp() + interval '400 ms')$$);
SELECT pg_temp.run('earlier', $$SELECT goya.run('run noop', run_at => '2001-01-01')$$);
SELECT is((SELECT status::text FROM goya.tasks WHERE id = pg_temp.task_id('later')), 'pending', 'run_at: not before');
SELECT ok(EXISTS (SELECT FROM goya.diagnose(pg_temp.task_id('later')) d WHERE d.finding = 'not due yet'), 'diagnose says so');
SELECT is((pg_temp.task('later')).status::text, 'succeeded', 'run_at: then');
SELECT ok(t.started_at >= t.run_at AND t.started_at < t.run_at + interval '3 s', 'run_at: at that time') FROM pg_temp.task('later') t;
SELECT is((pg_temp.task('earlier')).status::text, 'succeeded', 'run_at: a time that is over is now');

-- ---- transactions ----

SELECT count(*) AS tasks FROM goya.tasks \gset
SELECT count(*) AS holds FROM goya.holds \gset
BEGIN;
SELECT pg_temp.run('rolled back', $$SELECT goya.run('run noop', idempotency_key => 'rolled back')$$);
SELECT is((SELECT count(*) FROM goya.tasks), :'tasks'::bigint + 1, 'a task is there in its transaction');
SELECT is(pg_temp.try($$SELECT status FROM goya.wait_for_task(pg_temp.task_id('rolled back'), '1 s')$$), '55000: the task cannot end before this transaction does', 'wait_for_task: not in the transaction that started it');
SELECT is(pg_temp.try($$SELECT count(*) FROM goya.task_events_since(pg_temp.task_id('rolled back'), 1, '1 s')$$), '55000: the task cannot end before this transaction does', 'nor task_events_since');
ROLLBACK;
SELECT is((SELECT count(*) FROM goya.tasks), :'tasks'::bigint, 'rolled back it never was');
SELECT is((SELECT count(*) FROM goya_private.idempotency_keys WHERE key = 'rolled back'), 0::bigint, 'nor its key');
SELECT is((SELECT count(*) FROM goya.holds), :'holds'::bigint, 'nor a hold');
BEGIN;
SAVEPOINT a;
SELECT pg_temp.run('undone', $$SELECT goya.run('run noop')$$);
ROLLBACK TO a;
SELECT pg_temp.run('kept', $$SELECT goya.run('run noop')$$);
COMMIT;
SELECT is((pg_temp.task('kept')).status::text, 'succeeded', 'a task after a savepoint that was rolled back');
SELECT is((SELECT count(*) FROM goya.tasks), :'tasks'::bigint + 1, 'and only that');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT is(pg_temp.try($$SELECT goya.run('run noop') IS NOT NULL$$), 'true', 'run in a repeatable read transaction');
COMMIT;

-- ---- waiting ----

SELECT pg_temp.run('open', $$SELECT goya.run('run wait', '{"x": "open"}')$$);
SELECT is(pg_temp.until($$SELECT status::text FROM goya.tasks WHERE id = pg_temp.task_id('open')$$, 'waiting'), 'waiting', 'a task that waits');
SELECT clock_timestamp() AS asked \gset
SELECT is((goya.wait_for_task(pg_temp.task_id('open'), '200 ms')).status::text, 'waiting', 'wait_for_task: as it is when the time is over');
SELECT ok(clock_timestamp() - :'asked'::timestamptz BETWEEN interval '200 ms' AND interval '2 s', 'after that time');
SELECT is(pg_temp.try($$SELECT status FROM goya.wait_for_task(pg_temp.task_id('open'), '-1 s')$$), '22023: timeout must be an interval of 0 s or more', 'wait_for_task: less than nothing');
SELECT is(pg_temp.try($$SELECT status FROM goya.wait_for_task(pg_temp.task_id('open'), NULL)$$), '22023: timeout must be an interval of 0 s or more', 'wait_for_task: no time');
SELECT is(pg_temp.try($$SELECT status FROM goya.wait_for_task(goya.new_id(), '1 s')$$), 'PT404: task not found', 'wait_for_task: no task');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT is(pg_temp.try($$SELECT status FROM goya.wait_for_task(pg_temp.task_id('open'), '1 s')$$), '55000: cannot wait in this isolation level', 'wait_for_task: where nothing new is visible');
COMMIT;

SELECT is((SELECT string_agg(type || coalesce(' ' || node, ''), ', ' ORDER BY seq) FROM goya.task_events_since(pg_temp.task_id('open'))), 'task_created, task_started, node_succeeded before, node_started w',
    'task_events_since: all there are');
SELECT max(seq) AS seen FROM goya.task_events WHERE task_id = pg_temp.task_id('open') \gset
SELECT is((SELECT count(*) FROM goya.task_events_since(pg_temp.task_id('open'), :seen)), 0::bigint, 'task_events_since: none without waiting');
SELECT is((SELECT array_agg(seq) FROM goya.task_events_since(pg_temp.task_id('open'), 1, limit_rows => 2)), '{2,3}', 'task_events_since: a page');
SELECT clock_timestamp() AS asked \gset
SELECT is((SELECT count(*) FROM goya.task_events_since(pg_temp.task_id('open'), :seen, '150 ms')), 0::bigint, 'task_events_since: none in that time');
SELECT ok(clock_timestamp() - :'asked'::timestamptz BETWEEN interval '150 ms' AND interval '2 s', 'which it waits for');
SELECT is(pg_temp.try($$SELECT count(*) FROM goya.task_events_since(pg_temp.task_id('open'), limit_rows => 0)$$), '22023: limit_rows must be from 1 to 10000', 'task_events_since: no rows');
-- A signal sent by this session, and the long poll that hears of what it does.
SELECT pg_temp.try($$SELECT goya.signal(pg_temp.task_id('open'), 'go', '{"ok": 1}')$$) \g /dev/null
SELECT clock_timestamp() AS asked \gset
SELECT ok(count(*) > 0, 'task_events_since: hears of the next') FROM goya.task_events_since(pg_temp.task_id('open'), :seen, '20 s');
SELECT ok(clock_timestamp() - :'asked'::timestamptz < interval '5 s', 'soon');
SELECT is(pg_temp.outcome('open'), 'succeeded "after open"', 'and the task ends');
SELECT is((SELECT string_agg(type || coalesce(' ' || node, ''), ', ' ORDER BY seq) FROM goya.task_events_since(pg_temp.task_id('open'), :seen) WHERE type NOT LIKE 'signal%'),
    'node_succeeded w, node_succeeded after, task_succeeded', 'its events to the end');
SELECT clock_timestamp() AS asked \gset
SELECT is((SELECT count(*) FROM goya.task_events_since(pg_temp.task_id('open'), 1000, '20 s')), 0::bigint, 'task_events_since: nothing after the end');
SELECT ok(clock_timestamp() - :'asked'::timestamptz < interval '2 s', 'at once');

-- ---- pause and resume ----

SELECT pg_temp.run('pause', $$SELECT goya.run('run wait', '{"x": "paused"}')$$);
SELECT is(pg_temp.until($$SELECT status::text FROM goya.tasks WHERE id = pg_temp.task_id('pause')$$, 'waiting'), 'waiting', 'a task that waits');
SELECT is(pg_temp.try($$SELECT paused FROM goya.pause(pg_temp.task_id('pause'))$$), 'true', 'pause');
SELECT is(pg_temp.try($$SELECT paused FROM goya.pause(pg_temp.task_id('pause'))$$), 'true', 'pause: twice is once');
SELECT pg_temp.try($$SELECT goya.signal(pg_temp.task_id('pause'), 'go')$$) \g /dev/null
SELECT is(pg_temp.until($$SELECT count(*)::text FROM goya_private.parked WHERE task_id = pg_temp.task_id('pause')$$, '1'), '1', 'pause: what would start is parked');
SELECT ok(EXISTS (SELECT FROM goya.diagnose(pg_temp.task_id('pause')) d WHERE d.finding = 'paused'), 'diagnose says so');
SELECT is((SELECT count(*) FROM goya.node_runs WHERE task_id = pg_temp.task_id('pause') AND node = 'after'), 0::bigint, 'and does not run');
SELECT is(pg_temp.try($$SELECT paused FROM goya.resume(pg_temp.task_id('pause'))$$), 'false', 'resume');
SELECT is(pg_temp.outcome('pause'), 'succeeded "after paused"', 'resume: it goes on');
SELECT is((SELECT count(*) FROM regress_run.done WHERE what = 'after paused'), 1::bigint, 'once');
SELECT is((SELECT string_agg(type, ', ' ORDER BY seq) FROM goya.task_events WHERE task_id = pg_temp.task_id('pause') AND type IN ('task_paused', 'task_resumed')), 'task_paused, task_resumed', 'both are events');
SELECT is(pg_temp.try($$SELECT goya.pause(pg_temp.task_id('pause'))$$), '55000: cannot pause a task that has ended', 'pause: too late');
SELECT is(pg_temp.try($$SELECT goya.resume(pg_temp.task_id('pause'))$$), '55000: cannot resume a task that has ended', 'resume: too late');
SELECT is(pg_temp.try($$SELECT goya.pause(goya.new_id())$$), 'PT404: task not found', 'pause: no task');
BEGIN;
SELECT pg_temp.run('pause first', $$SELECT goya.run('run noop')$$);
SELECT pg_temp.try($$SELECT goya.pause(pg_temp.task_id('pause first'))$$) \g /dev/null
COMMIT;
SELECT is(pg_temp.until($$SELECT count(*)::text FROM goya_private.parked WHERE task_id = pg_temp.task_id('pause first')$$, '1'), '1', 'pause: before it has begun');
SELECT is((SELECT status::text FROM goya.tasks WHERE id = pg_temp.task_id('pause first')), 'pending', 'it stays pending');
SELECT is(pg_temp.try($$SELECT goya.cancel(pg_temp.task_id('pause first'))$$), 'true', 'cancel: a paused task');
SELECT is(pg_temp.outcome('pause first'), 'cancelled', 'ends it');

-- ---- cancel ----

SELECT pg_temp.run('cancel waiting', $$SELECT goya.run('run wait')$$);
SELECT pg_temp.run('cancel later', $$SELECT goya.run('run noop', run_at => clock_timestamp() + interval '1 hour')$$);
SELECT is(pg_temp.until($$SELECT status::text FROM goya.tasks WHERE id = pg_temp.task_id('cancel waiting')$$, 'waiting'), 'waiting', 'a task that waits');
SELECT is(pg_temp.try($$SELECT goya.cancel(pg_temp.task_id('cancel waiting'), 'no need')$$), 'true', 'cancel: of a task that waits');
SELECT is(pg_temp.try($$SELECT goya.cancel(pg_temp.task_id('cancel later'))$$), 'true', 'cancel: of one that has not begun');
SELECT is(pg_temp.outcome('cancel waiting'), 'cancelled', 'cancelled');
SELECT ok((pg_temp.task('cancel waiting')).error ->> 'message' IS NOT NULL AND (pg_temp.task('cancel waiting')).error::text LIKE '%no need%', 'with the reason');
SELECT is(pg_temp.runs('cancel waiting'), 'before:succeeded w:cancelled', 'its open node run is cancelled');
SELECT is(pg_temp.outcome('cancel later'), 'cancelled', 'cancelled');
SELECT is(pg_temp.try($$SELECT goya.cancel(pg_temp.task_id('cancel later'))$$), 'false', 'cancel: what has ended stays as it is');
SELECT is(pg_temp.try($$SELECT goya.cancel(goya.new_id())$$), 'PT404: task not found', 'cancel: no task');

SELECT pg_temp.run('cancel running', $$SELECT goya.run('run slow')$$);
SELECT is(pg_temp.until($$SELECT string_agg(node, ',') FROM goya.activity WHERE task_id = pg_temp.task_id('cancel running')$$, 's'), 's', 'a running statement shows in goya.activity');
SELECT pg_temp.start_time() AS before, clock_timestamp() AS asked \gset
SELECT is(pg_temp.try($$SELECT goya.cancel(pg_temp.task_id('cancel running'))$$), 'true', 'cancel: of a running statement');
SELECT is(pg_temp.outcome('cancel running'), 'cancelled', 'cancelled');
SELECT ok((pg_temp.task('cancel running')).finished_at - :'asked'::timestamptz <= interval '1 s' + 10 * greatest(:'before'::interval, pg_temp.start_time()), 'within a second');
SELECT is((SELECT count(*) FROM regress_run.done WHERE what = 'slow'), 0::bigint, 'and what it had done is undone');
SELECT pg_temp.start('cancel stubborn', '{"nodes": [{"key": "s", "kind": "sql", "function": "regress_run.stubborn"}]}');
SELECT is(pg_temp.until($$SELECT string_agg(node, ',') FROM goya.activity WHERE task_id = pg_temp.task_id('cancel stubborn')$$, 's'), 's', 'a statement that catches errors');
SELECT pg_temp.start_time() AS before, clock_timestamp() AS asked \gset
SELECT is(pg_temp.try($$SELECT goya.cancel(pg_temp.task_id('cancel stubborn'))$$), 'true', 'cancel');
SELECT is(pg_temp.outcome('cancel stubborn'), 'cancelled', 'is cancelled too');
SELECT ok((pg_temp.task('cancel stubborn')).finished_at - :'asked'::timestamptz <= interval '2 s' + 10 * greatest(:'before'::interval, pg_temp.start_time()), 'soon');
SELECT is(pg_temp.outcome('cancel stubborn'), 'cancelled', 'and stays so');

SELECT pg_temp.start('cancel parent', '{"nodes": [{"key": "sub", "kind": "workflow", "workflow": "run wait"}]}');
SELECT is(pg_temp.until($$SELECT status::text FROM goya.tasks WHERE parent_task_id = pg_temp.task_id('cancel parent')$$, 'waiting'), 'waiting', 'a child that waits');
SELECT is(pg_temp.try($$SELECT goya.cancel(pg_temp.task_id('cancel parent'))$$), 'true', 'cancel: of its parent');
SELECT is(pg_temp.outcome('cancel parent'), 'cancelled', 'cancelled');
SELECT is(pg_temp.until($$SELECT status::text FROM goya.tasks WHERE parent_task_id = pg_temp.task_id('cancel parent')$$, 'cancelled'), 'cancelled', 'cancels the child');
SELECT pg_temp.start('cancel child', '{"nodes": [{"key": "sub", "kind": "workflow", "workflow": "run wait"}]}');
SELECT is(pg_temp.until($$SELECT status::text FROM goya.tasks WHERE parent_task_id = pg_temp.task_id('cancel child')$$, 'waiting'), 'waiting', 'another');
SELECT pg_temp.try($$SELECT goya.cancel((SELECT id FROM goya.tasks WHERE parent_task_id = pg_temp.task_id('cancel child')))$$) \g /dev/null
SELECT matches(pg_temp.outcome('cancel child'), '^failed .*child task [0-9a-f-]{36} cancelled', 'cancel: of a child fails the parent''s node');
SELECT is(pg_temp.try($$SELECT count(goya.cancel(goya.run('run wait'))) FROM generate_series(1, 50)$$), '50', 'cancel: fifty in the transaction that starts them');

-- ---- retry ----

SELECT pg_temp.run('chain', $$SELECT goya.run('run chain', '{"x": 1}')$$);
SELECT is(pg_temp.outcome('chain'), 'failed UNKNOWN P0001: the gate is shut', 'a chain that fails in its middle');
SELECT is(pg_temp.try($$SELECT goya.retry(pg_temp.task_id('chain'), 'nothing')$$), 'PT404: node not found', 'retry: no such node');
SELECT is(pg_temp.try($$SELECT goya.retry(goya.new_id())$$), 'PT404: task not found', 'retry: no task');
UPDATE regress_run.gate SET open = true;
SELECT pg_temp.run('chain again', $$SELECT goya.retry(pg_temp.task_id('chain'))$$);
SELECT is(pg_temp.outcome('chain again'), 'succeeded ["a 1", "through", "aside"]', 'retry: from where it failed');
SELECT is((SELECT count(*) FROM regress_run.done WHERE what = 'a 1'), 1::bigint, 'retry: what had succeeded is not done again');
SELECT is((SELECT message FROM goya.node_runs WHERE task_id = pg_temp.task_id('chain again') AND node = 'a'), 'copied from task ' || pg_temp.task_id('chain'), 'retry: it is copied, and says so');
SELECT is((pg_temp.task('chain again')).parent_task_id, pg_temp.task_id('chain'), 'retry: a new task, which knows the old one');
SELECT is((pg_temp.task('chain')).status::text, 'failed', 'retry: the old one stays as it is');
SELECT is(pg_temp.try($$SELECT goya.retry(pg_temp.task_id('chain again'))$$), '55000: nothing to retry', 'retry: all has succeeded');
SELECT pg_temp.run('chain from a', $$SELECT goya.retry(pg_temp.task_id('chain again'), 'a')$$);
SELECT is(pg_temp.outcome('chain from a'), 'succeeded ["a 1", "through", "aside"]', 'retry: from a node that succeeded');
SELECT is((SELECT count(*) FROM regress_run.done WHERE what = 'a 1'), 2::bigint, 'which is done again');
SELECT pg_temp.run('chain from side', $$SELECT goya.retry(pg_temp.task_id('chain again'), 'side')$$);
SELECT is(pg_temp.outcome('chain from side'), 'succeeded ["a 1", "through", "aside"]', 'retry: a join with one branch copied');
SELECT is((SELECT string_agg(node, ',' ORDER BY node) FROM goya.node_runs WHERE task_id = pg_temp.task_id('chain from side') AND message LIKE 'copied%'), 'a,b', 'retry: what is not after the node is copied');
SELECT pg_temp.run('retry cancelled', $$SELECT goya.retry(pg_temp.task_id('cancel waiting'))$$);
SELECT is(pg_temp.try($$SELECT goya.signal(pg_temp.task_id('retry cancelled'), 'go') IS NOT NULL$$), 'true', 'retry: of a cancelled task');
SELECT is((pg_temp.task('retry cancelled')).status::text, 'succeeded', 'goes on from where it was');
SELECT pg_temp.run('running', $$SELECT goya.run('run wait')$$);
SELECT is(pg_temp.try($$SELECT goya.retry(pg_temp.task_id('running'))$$), '55000: cannot retry a task that has not ended', 'retry: not before its end');
SELECT pg_temp.try($$SELECT goya.cancel(pg_temp.task_id('running'))$$) \g /dev/null

-- ---- revisions ----

SELECT pg_temp.define('run revisions', '{"nodes": [{"key": "w", "kind": "wait", "signal": "go"}, {"key": "v", "kind": "transform", "output": "old"}], "edges": [{"from": "w", "to": "v"}]}');
SELECT pg_temp.run('old', $$SELECT goya.run('run revisions')$$);
SELECT pg_temp.define('run revisions', '{"nodes": [{"key": "v", "kind": "transform", "output": "new"}]}');
SELECT pg_temp.run('new', $$SELECT goya.run('run revisions')$$);
SELECT is(pg_temp.outcome('new'), 'succeeded "new"', 'a published revision is what new tasks run');
SELECT pg_temp.try($$SELECT goya.signal(pg_temp.task_id('old'), 'go')$$) \g /dev/null
SELECT is(pg_temp.outcome('old'), 'succeeded "old"', 'and a task keeps the one it started with');

-- ---- progress and views ----

SELECT pg_temp.start('progress', '{"nodes": [{"key": "p", "kind": "sql", "function": "regress_run.progress", "input": {"task": "{{ task.id }}"}}]}');
SELECT is(pg_temp.outcome('progress'), 'succeeded true', 'report_progress from within a node');
SELECT is((SELECT data FROM goya.task_events WHERE task_id = pg_temp.task_id('progress') AND type = 'progress'), '{"percent": 40, "message": "almost half"}', 'is an event');
SELECT is((pg_temp.task('progress')).progress, 100::real, 'and the end is 100');
SELECT is(pg_temp.try($$SELECT goya.report_progress(pg_temp.task_id('progress'), 'NaN')$$), '22023: percent must be a number from 0 to 100', 'report_progress: NaN');
SELECT is(pg_temp.try($$SELECT goya.report_progress(pg_temp.task_id('progress'), 50)$$), 'false', 'report_progress: too late');
SELECT ok((pg_temp.task('chain')).progress BETWEEN 1 AND 99, 'a failed task keeps its last true progress');
SELECT is((SELECT format('%s %s %s %s', s.workflow, s.status, s.succeeded, s.failed) FROM goya.task_summary s WHERE id = pg_temp.task_id('chain')), 'run chain failed 2 1', 'task_summary');
SELECT ok(s.tasks >= 4 AND s.succeeded >= 3 AND s.failed >= 1 AND s.open = 0 AND s.success_percent < 100 AND s.p95_ms >= s.p50_ms, 'workflow_statistics') FROM goya.workflow_statistics s WHERE s.workflow = 'run chain';
SELECT ok(EXISTS (SELECT FROM goya.diagnose(pg_temp.task_id('chain')) d WHERE d.finding = 'failed' AND d.node = 'b' AND d.hint LIKE '%goya.retry%'), 'diagnose: a failed task');
SELECT is((SELECT count(*) FROM goya.stuck_tasks s JOIN goya.tasks t ON t.id = s.task_id WHERE t.run_as = 'regress_run'), 0::bigint, 'stuck_tasks: none');
\ir lib/finish.psql
