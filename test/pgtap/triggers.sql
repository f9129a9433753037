-- triggers.sql: what starts tasks by itself: events of assets and tasks, intervals, cron, NOTIFY channels; and how soon, with each way of waking alone.
--
-- An asset's metadata.case says which of the triggers below it is for. settle() waits until every event is a task or nothing, and every task has
-- ended: so that "no task" is an answer and not a race. The latency is measured from the start of the inserting transaction to the start of the
-- node run, best of five, since the machine is shared, or of up to 25 if none of five was in time; all are printed.

\set file triggers
\ir lib/tasks.psql
SELECT no_plan();
SELECT set_config('test.began', clock_timestamp()::text, false) \g /dev/null
SELECT format('SELECT goya.drop_trigger(%L, %L)', w.name, t.name)
FROM goya.triggers t JOIN goya.workflows w ON w.id = t.workflow_id WHERE t.run_as = :'role' \gexec

CREATE FUNCTION pg_temp.settle() RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT pg_temp.until('SELECT (NOT EXISTS (SELECT FROM goya_private.event_queue)
        AND NOT EXISTS (SELECT FROM goya.tasks t WHERE NOT goya_private.is_terminal(t.status)))::text', 'true', 15)
$$;
-- Tasks of a workflow since this file began.
CREATE FUNCTION pg_temp.tasks_of(workflow text) RETURNS SETOF goya.tasks LANGUAGE sql VOLATILE AS $$
    SELECT t.* FROM goya.tasks t JOIN goya.workflows w ON w.id = t.workflow_id
    WHERE w.name = tasks_of.workflow AND t.created_at > current_setting('test.began')::timestamptz ORDER BY t.id
$$;
CREATE FUNCTION pg_temp.number_of(workflow text) RETURNS bigint LANGUAGE sql VOLATILE AS $$ SELECT count(*) FROM pg_temp.tasks_of(workflow) $$;
CREATE FUNCTION pg_temp.insert_asset(case_name text, more text DEFAULT 'data') RETURNS uuid LANGUAGE sql VOLATILE AS $$
    SELECT pg_temp.try(format('INSERT INTO goya.assets (name, media_type, uri, metadata) VALUES (%L, %L, %L, %L) RETURNING id',
        case_name, more, 'file:///' || case_name, jsonb_build_object('case', case_name)))::uuid
$$;
SELECT pg_temp.define(name, '{"nodes": [{"key": "a", "kind": "noop"}]}') FROM unnest('{on new,on video,on missing,on done,on ended,on input,quiet,ticking,yearly,channel,probe,latency}'::text[]) name \g /dev/null

-- ---- events of assets ----

SELECT is(pg_temp.try($$SELECT goya.create_trigger('on new', 'new', 'event', event => 'asset_new', filter => '$.asset.metadata.case == "new"') IS NOT NULL$$), 'true', 'a trigger on asset_new');
SELECT pg_temp.try($$SELECT goya.create_trigger('on video', 'video', 'event', event => 'asset_new', filter => '$.asset.media_type == "video" && $.asset.metadata.case == "new"')$$) \g /dev/null
SELECT pg_temp.try($$SELECT goya.create_trigger('on missing', 'missing', 'event', event => 'asset_new', filter => '$.asset.metadata.nothing.deeper == 1')$$) \g /dev/null
SELECT pg_temp.try($$SELECT goya.create_trigger('on done', 'done', 'event', event => 'asset_done', filter => '$.asset.metadata.case == "done"')$$) \g /dev/null
SELECT pg_temp.try($$SELECT goya.create_trigger('on ended', 'ended', 'event', event => 'task_completed',
    filter => (SELECT format('$.event.data.workflow_id == "%s" && $.task.status == "succeeded"', id) FROM goya.workflows WHERE name = 'on new'))$$) \g /dev/null
SELECT pg_temp.try($$SELECT goya.create_trigger('on input', 'input', 'event', event => 'asset_new', filter => '$.asset.metadata.case == "input"',
    input => '{"uri": "{{ asset.uri }}", "text": "{{ event.type }}!"}', priority => 7)$$) \g /dev/null
SELECT pg_temp.try($$SELECT goya.create_trigger('quiet', 'disabled', 'event', event => 'asset_new', enabled => false)$$) \g /dev/null

SELECT pg_temp.insert_asset('new') AS asset \gset
SELECT is(pg_temp.until($$SELECT count(*)::text FROM pg_temp.tasks_of('on new')$$, '1'), '1', 'event: an insert starts a task');
SELECT is((SELECT jsonb_build_object('asset', t.asset_id = :'asset', 'input', t.input, 'depth', t.depth, 'run_as', t.run_as, 'kind', t.trigger -> 'kind', 'event', t.trigger #> '{event,type}')
           FROM pg_temp.tasks_of('on new') t),
    jsonb_build_object('asset', true, 'input', jsonb_build_object('event', 'asset_new', 'asset_id', :'asset'), 'depth', 1, 'run_as', 'regress_triggers', 'kind', 'event', 'event', 'asset_new'),
    'event: with the asset, as the role that enabled it, and what the trigger saw');
SELECT is(pg_temp.settle(), 'true', 'all is quiet');
SELECT is(pg_temp.number_of('on video'), 0::bigint, 'event: a filter that does not hold');
SELECT is(pg_temp.number_of('on ended'), 1::bigint, 'event: the end of a task starts another');
SELECT ok(pg_temp.insert_asset('new', 'video') IS NOT NULL, 'a video');
SELECT is(pg_temp.settle(), 'true', 'all is quiet');
SELECT is(pg_temp.number_of('on video'), 1::bigint, 'event: a filter that holds');
SELECT is(pg_temp.number_of('on new'), 2::bigint, 'event: each trigger for itself');
SELECT is(pg_temp.number_of('on missing'), 0::bigint, 'event: a filter over what is not there does not hold');
SELECT is(pg_temp.number_of('quiet'), 0::bigint, 'event: a disabled trigger does nothing');
SELECT is((SELECT count(*) FROM goya.events e WHERE e.type = 'trigger_failed' AND e.created_at > current_setting('test.began')::timestamptz), 0::bigint, 'and nothing has failed');

SELECT pg_temp.insert_asset('input') AS asset \gset
SELECT is(pg_temp.until($$SELECT t.input || jsonb_build_object('priority', t.priority) FROM pg_temp.tasks_of('on input') t$$, '{"uri": "file:///input", "text": "asset_new!", "priority": 7}'::jsonb::text)::jsonb,
    '{"uri": "file:///input", "text": "asset_new!", "priority": 7}', 'event: the input of the trigger, and its priority');

SELECT pg_temp.insert_asset('done') AS asset \gset
SELECT is(pg_temp.settle(), 'true', 'all is quiet');
SELECT is(pg_temp.number_of('on done'), 0::bigint, 'asset_done: not while the asset is new');
SELECT is(pg_temp.try(format('UPDATE goya.assets SET status = ''processing'' WHERE id = %L RETURNING status', :'asset')), 'processing', 'nor processed');
SELECT is(pg_temp.try(format('SELECT goya.finish_asset(jsonb_build_object(''asset_id'', %L))->>''status''', :'asset')), 'ready', 'finish_asset');
SELECT is(pg_temp.until($$SELECT count(*)::text FROM pg_temp.tasks_of('on done')$$, '1'), '1', 'asset_done: when it becomes ready');
SELECT is(pg_temp.try(format('SELECT goya.finish_asset(jsonb_build_object(''asset_id'', %L))->>''status''', :'asset')), 'ready', 'again');
SELECT is(pg_temp.try($$SELECT goya.register_asset('file:///r', status => 'ready', metadata => '{"case": "done"}') IS NOT NULL$$), 'true', 'an asset that is ready from the start');
SELECT is(pg_temp.until($$SELECT count(*)::text FROM pg_temp.tasks_of('on done')$$, '2'), '2', 'asset_done: also');
SELECT is(pg_temp.settle(), 'true', 'all is quiet');
SELECT is(pg_temp.number_of('on done'), 2::bigint, 'asset_done: once each');

BEGIN;
SELECT ok(pg_temp.insert_asset('new') IS NOT NULL, 'an asset');
ROLLBACK;
SELECT is(pg_temp.settle(), 'true', 'all is quiet');
SELECT is(pg_temp.number_of('on new'), 2::bigint, 'event: an insert that is rolled back starts nothing');
SELECT is(pg_temp.try($$WITH made AS (INSERT INTO goya.assets (name, uri, metadata) SELECT 'many', 'file:///' || n, '{"case": "new"}' FROM generate_series(1, 50) n RETURNING id)
    SELECT count(*) FROM made$$), '50', 'fifty assets in one statement');
SELECT is(pg_temp.until($$SELECT count(*)::text FROM pg_temp.tasks_of('on new')$$, '52'), '52', 'event: a task for each');
SELECT is(pg_temp.settle(), 'true', 'all is quiet');
SELECT is((SELECT count(*) || ' ' || count(DISTINCT asset_id) FROM pg_temp.tasks_of('on new')), '52 52', 'event: and one only');

-- ---- what tasks make themselves ----

SELECT pg_temp.define('maker', '{"nodes": [{"key": "make", "kind": "transform", "output": {"uri": "file:///child", "metadata": {"case": "make"}}, "artifact": {"type": "asset", "name": "child"}}]}');
SELECT pg_temp.define('deep maker', '{"nodes": [{"key": "make", "kind": "transform", "output": {"uri": "file:///child", "metadata": {"case": "deep"}}, "artifact": {"type": "asset", "name": "child"}}]}');
SELECT pg_temp.define('watcher', '{"nodes": [{"key": "a", "kind": "noop"}]}');
CREATE FUNCTION regress_triggers.insert_asset(input jsonb) RETURNS jsonb LANGUAGE sql AS $$
    INSERT INTO goya.assets (name, uri, metadata) VALUES ('made by sql', 'file:///sql', '{"case": "sql"}') RETURNING to_jsonb(id) $$;
SELECT pg_temp.define('sql maker', '{"nodes": [{"key": "make", "kind": "sql", "function": "regress_triggers.insert_asset"}]}');
SELECT pg_temp.try($$SELECT goya.create_trigger('maker', 't', 'event', event => 'asset_new', filter => '$.asset.metadata.case == "make"')$$) \g /dev/null
SELECT pg_temp.try($$SELECT goya.create_trigger('watcher', 't', 'event', event => 'asset_new', filter => '$.asset.metadata.case == "make"')$$) \g /dev/null
SELECT pg_temp.try($$SELECT goya.create_trigger('deep maker', 't', 'event', event => 'asset_new', filter => '$.asset.metadata.case == "deep"', allow_own_output => true, max_depth => 3)$$) \g /dev/null
SELECT pg_temp.try($$SELECT goya.create_trigger('sql maker', 't', 'event', event => 'asset_new', filter => '$.asset.metadata.case == "sql"')$$) \g /dev/null
SELECT pg_temp.insert_asset('make') AS make, pg_temp.insert_asset('deep') AS deep, pg_temp.insert_asset('sql') AS sql \gset
SELECT is(pg_temp.until($$SELECT count(*)::text FROM pg_temp.tasks_of('watcher')$$, '2'), '2', 'a child asset starts the tasks of others');
SELECT is(pg_temp.until($$SELECT count(*)::text FROM pg_temp.tasks_of('deep maker')$$, '3'), '3', 'and its own, where that is allowed');
SELECT is(pg_temp.until($$SELECT count(*)::text FROM pg_temp.tasks_of('sql maker')$$, '1'), '1', 'an asset inserted by a statement of a task');
SELECT is(pg_temp.settle(), 'true', 'all is quiet');
SELECT is(pg_temp.number_of('maker'), 1::bigint, 'its own output does not start a workflow again');
SELECT is((SELECT array_agg(depth ORDER BY id) FROM pg_temp.tasks_of('watcher')), '{1,2}', 'the depth grows with the generation');
SELECT is((SELECT array_agg(depth ORDER BY id) FROM pg_temp.tasks_of('deep maker')), '{1,2,3}', 'and ends at max_depth');
SELECT is((SELECT count(*) FROM goya.assets a WHERE a.parent_id = :'make' AND a.node = 'make'), 1::bigint, 'the child asset knows its parent');
SELECT is(pg_temp.number_of('sql maker'), 1::bigint, 'an asset that a task''s own statement inserted is its output too');

-- ---- a trigger that fails ----

SELECT pg_temp.define('picky', '{"input": {"type": "object", "required": ["never"]}, "nodes": [{"key": "a", "kind": "noop"}]}');
SELECT pg_temp.define('beside', '{"nodes": [{"key": "a", "kind": "noop"}]}');
SELECT pg_temp.try($$SELECT goya.create_trigger('picky', 't', 'event', event => 'asset_new', filter => '$.asset.metadata.case == "picky"')$$) \g /dev/null
SELECT pg_temp.try($$SELECT goya.create_trigger('beside', 't', 'event', event => 'asset_new', filter => '$.asset.metadata.case == "picky"')$$) \g /dev/null
SELECT pg_temp.insert_asset('picky') AS asset \gset
SELECT is(pg_temp.until($$SELECT count(*)::text FROM pg_temp.tasks_of('beside')$$, '1'), '1', 'the error of one trigger does not stop another');
SELECT is(pg_temp.settle(), 'true', 'all is quiet');
SELECT is(pg_temp.number_of('picky'), 0::bigint, 'the one that failed has no task');
SELECT is((SELECT string_agg(format('%s %s', e.data ->> 'workflow', e.data #>> '{error,code}'), ',') FROM goya.events e
           WHERE e.type = 'trigger_failed' AND e.created_at > current_setting('test.began')::timestamptz), 'picky 22023', 'and an event says why');

-- ---- intervals ----

SELECT is(pg_temp.try($$SELECT goya.create_trigger('ticking', 'every', 'interval', every => '1 s', input => '{"slot": "{{ slot }}"}') IS NOT NULL$$), 'true', 'an interval trigger');
CREATE FUNCTION pg_temp.gaps() RETURNS SETOF interval LANGUAGE sql VOLATILE AS
$$ SELECT s - lag(s) OVER (ORDER BY s) FROM (SELECT (t.input ->> 'slot')::timestamptz AS s FROM pg_temp.tasks_of('ticking') t) x $$;
SELECT is(pg_temp.until($$SELECT bool_or(g = interval '1 s')::text FROM pg_temp.gaps() g$$, 'true', 20), 'true', 'interval: it ticks every second');
SELECT is(pg_temp.try($$SELECT goya.disable_trigger('ticking', 'every')$$), '', 'disable_trigger');
SELECT pg_temp.number_of('ticking') AS ticks \gset
SELECT is((SELECT min(g) FROM pg_temp.gaps() g), interval '1 s', 'interval: and no sooner');
SELECT is((SELECT count(DISTINCT t.input ->> 'slot') FROM pg_temp.tasks_of('ticking') t), :'ticks'::bigint, 'interval: one task for each slot');
SELECT ok((SELECT next_due IS NULL FROM goya.triggers WHERE name = 'every'), 'and disabled it has no next time');

-- ---- cron ----

CREATE FUNCTION pg_temp.jobs() RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT count(*) FROM cron.job j JOIN goya.triggers t ON j.jobname = 'goya:' || t.id WHERE t.name = 'yearly' $$;
SELECT count(*) AS before FROM cron.job \gset
BEGIN;
SELECT is(pg_temp.try($$SELECT goya.create_trigger('yearly', 'yearly', 'cron', schedule => '0 0 1 1 *') IS NOT NULL$$), 'true', 'a cron trigger');
SELECT is(pg_temp.jobs(), 1::bigint, 'cron: writes its job in the same transaction');
ROLLBACK;
SELECT is((SELECT count(*) FROM cron.job), :'before'::bigint, 'cron: which goes with it when it is rolled back');
SELECT pg_temp.try($$SELECT goya.create_trigger('yearly', 'yearly', 'cron', schedule => '0 0 1 1 *')$$) \g /dev/null
SELECT is(pg_temp.jobs(), 1::bigint, 'cron: committed');
SELECT is((SELECT format('%s %s %s', j.schedule, j.username, j.active) FROM cron.job j JOIN goya.triggers t ON t.cron_job_id = j.jobid WHERE t.name = 'yearly'), '0 0 1 1 * goya_owner t', 'cron: the job');
SELECT t.id AS trigger, t.next_due AS due FROM goya.triggers t WHERE t.name = 'yearly' \gset
SELECT is(:'due'::timestamptz, date_trunc('year', now()) + interval '1 year', 'cron: its next time');
SELECT ok(goya_private.fire_trigger(:'trigger', :'due') IS NOT NULL, 'cron: it fires');
SELECT ok(goya_private.fire_trigger(:'trigger', :'due') IS NOT NULL, 'cron: and again for the same slot');
SELECT ok(goya_private.fire_trigger(:'trigger', :'due'::timestamptz + interval '1 min') IS NOT NULL, 'cron: and a minute late');
SELECT is(pg_temp.settle(), 'true', 'all is quiet');
SELECT is(pg_temp.number_of('yearly'), 1::bigint, 'cron: one slot, one task');
SELECT is((SELECT t.trigger ->> 'slot' FROM pg_temp.tasks_of('yearly') t), to_char(:'due'::timestamptz, 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), 'cron: which knows it');
SELECT is((SELECT status::text FROM pg_temp.tasks_of('yearly')), 'succeeded', 'and has run');
SELECT is(pg_temp.try($$SELECT goya.disable_workflow('yearly')$$), '', 'disable_workflow');
SELECT is(pg_temp.jobs(), 0::bigint, 'cron: takes the job away');
SELECT is(pg_temp.try($$SELECT goya.enable_workflow('yearly')$$), '', 'enable_workflow');
SELECT is(pg_temp.jobs(), 1::bigint, 'cron: brings it back');
SELECT is(pg_temp.try($$SELECT goya.disable_trigger('yearly', 'yearly')$$), '', 'disable_trigger');
SELECT is(pg_temp.jobs(), 0::bigint, 'cron: takes it away');
SELECT is(goya_private.fire_trigger(:'trigger', :'due'::timestamptz + interval '1 year'), NULL, 'cron: a job that was under way does nothing any more');
SELECT is(pg_temp.try($$SELECT goya.create_trigger('yearly', 'wrong', 'cron', schedule => '0 0 31 2 *')$$), '22023: bad trigger', 'cron: a schedule that never comes');
SELECT is(pg_temp.try($$SELECT goya.create_trigger('yearly', 'wrong', 'cron', schedule => '99 * * * *')$$), '22023: bad cron schedule', 'cron: a bad schedule');
SELECT is((SELECT count(*) FROM cron.job), :'before'::bigint, 'cron: refused ones leave no job');

-- ---- channels ----

SELECT is(pg_temp.try($$SELECT goya.create_trigger('channel', 'c', 'notify', channel => 'regress_channel', filter => '$.payload.n > 0') IS NOT NULL$$), 'true', 'a trigger on a channel');
SELECT pg_temp.try($$SELECT goya.create_trigger('probe', 'c', 'notify', channel => 'regress_channel', filter => '$.payload == "probe"')$$) \g /dev/null
-- LISTEN takes a moment: what is sent before it is lost, as with every listener.
CREATE PROCEDURE pg_temp.notify_until_heard() LANGUAGE plpgsql AS $$
DECLARE
    before bigint := pg_temp.number_of('probe');
BEGIN
    FOR i IN 1 .. 400 LOOP
        PERFORM pg_notify('regress_channel', 'probe');
        COMMIT;
        EXIT WHEN pg_temp.number_of('probe') > before;
        PERFORM pg_sleep(0.025);
    END LOOP;
END $$;
CALL pg_temp.notify_until_heard();
SELECT ok(pg_temp.number_of('probe') > 0, 'channel: a payload that is no JSON is text');
SELECT pg_notify('regress_channel', '{"n": 5, "who": "Zoë"}'), pg_notify('regress_channel', '{"n": 0}'), pg_notify('regress_channel', ''), pg_notify('regress_other', '{"n": 6}') \g /dev/null
SELECT is(pg_temp.until($$SELECT count(*)::text FROM pg_temp.tasks_of('channel')$$, '1'), '1', 'channel: a notification starts a task');
SELECT is((SELECT t.input FROM pg_temp.tasks_of('channel') t), '{"payload": {"n": 5, "who": "Zoë"}}', 'channel: its payload is the input');
SELECT is(pg_temp.settle(), 'true', 'all is quiet');
SELECT is(pg_temp.number_of('channel'), 1::bigint, 'channel: the filter has kept the others out');
SELECT ok(count(*) = 1, 'one connection listens') FROM pg_stat_activity WHERE application_name = 'goya listener' AND datname = current_database();
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'goya listener' AND datname = current_database() \g /dev/null
CALL pg_temp.notify_until_heard();
SELECT pg_notify('regress_channel', '{"n": 7}') \g /dev/null
SELECT is(pg_temp.until($$SELECT count(*)::text FROM pg_temp.tasks_of('channel')$$, '2'), '2', 'channel: it comes back when its connection was lost');

-- ---- errors ----

SELECT is(pg_temp.try($$SELECT goya.create_trigger('on new', 'new', 'event', event => 'asset_new')$$), '23505: trigger "new" already exists', 'a name that is taken');
SELECT is(pg_temp.try($$SELECT goya.create_trigger('nobody', 'x', 'event', event => 'asset_new')$$), 'PT404: workflow not found', 'no workflow');
SELECT is(pg_temp.try($$SELECT goya.create_trigger('on new', 'x', 'event', event => 'asset_new', filter => '$.asset.(')$$), '22023: bad trigger filter', 'a bad filter');
SELECT is(pg_temp.try($$SELECT goya.create_trigger('on new', 'x', 'interval', every => '0.5 s')$$), '22023: bad trigger', 'too often');
SELECT is(pg_temp.try($$SELECT goya.create_trigger('on new', 'x', 'notify', channel => 'goya_asset')$$), '22023: bad trigger', 'a channel of goya''s own');
SELECT throws_ok($$SELECT goya.enable_trigger('quiet', 'disabled')$$, '42501', NULL, 'a superuser may not enable one');

-- ---- latency ----

SELECT pg_temp.try($$SELECT goya.create_trigger('latency', 't', 'event', event => 'asset_new', filter => '$.asset.metadata.case == "latency"')$$) \g /dev/null
-- Milliseconds from the start of the transaction that inserts an asset to the start of the node run; five times as often while it is not within 50.
CREATE PROCEDURE pg_temp.measure(times integer, INOUT best numeric, INOUT all_of_them text) LANGUAGE plpgsql AS $$
DECLARE
    asset uuid;
    ms numeric;
BEGIN
    FOR i IN 1 .. 5 * times LOOP
        EXIT WHEN i > times AND best <= 50;
        COMMIT;
        asset := pg_temp.insert_asset('latency');
        COMMIT;
        PERFORM pg_temp.until(format('SELECT count(*)::text FROM goya.node_runs r JOIN goya.tasks t ON t.id = r.task_id WHERE t.asset_id = %L', asset), '1');
        SELECT round(extract(epoch FROM r.started_at - a.created_at) * 1000, 1) INTO ms
        FROM goya.node_runs r JOIN goya.tasks t ON t.id = r.task_id JOIN goya.assets a ON a.id = t.asset_id WHERE a.id = asset;
        best := least(best, ms);
        all_of_them := concat_ws(', ', all_of_them, coalesce(ms::text, 'never'));
    END LOOP;
END $$;
CREATE FUNCTION pg_temp.listeners() RETURNS text LANGUAGE sql VOLATILE AS
$$ SELECT count(*)::text FROM pg_stat_get_activity(NULL) a WHERE a.application_name = 'goya listener' $$;
CALL pg_temp.measure(1, NULL, NULL) \g /dev/null
SELECT is(pg_temp.until('SELECT pg_stat_clear_snapshot()::text || pg_temp.listeners()', '1'), '1', 'the LISTEN connection is there');
SET goya.wake_by_latch = off;
CALL pg_temp.measure(5, NULL, NULL) \gset
RESET goya.wake_by_latch;
SELECT diag('asset insert to node run, by the LISTEN connection alone: ' || :'all_of_them' || ' ms');
SELECT cmp_ok(:'best'::numeric, '<=', 50::numeric, 'LISTEN alone starts a task within 50 ms');

ALTER SYSTEM SET goya.listen = off;
SELECT pg_reload_conf() \g /dev/null
SELECT is(pg_temp.until('SELECT pg_stat_clear_snapshot()::text || pg_temp.listeners()', '0'), '0', 'the LISTEN connection is gone');
CALL pg_temp.measure(5, NULL, NULL) \gset
SELECT diag('asset insert to node run, by the latch alone: ' || :'all_of_them' || ' ms');
SELECT cmp_ok(:'best'::numeric, '<=', 50::numeric, 'the latch alone starts a task within 50 ms');
ALTER SYSTEM RESET goya.listen;
SELECT pg_reload_conf() \g /dev/null
SELECT is(pg_temp.until('SELECT pg_stat_clear_snapshot()::text || pg_temp.listeners()', '1'), '1', 'and it comes back');

SELECT format('SELECT goya.drop_trigger(%L, %L)', w.name, t.name)
FROM goya.triggers t JOIN goya.workflows w ON w.id = t.workflow_id WHERE t.run_as = :'role' \gexec
SELECT is((SELECT count(*) FROM cron.job), :'before'::bigint, 'no cron job is left');
\ir lib/finish.psql
