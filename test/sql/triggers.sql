-- triggers: making, enabling and firing every kind, slots, missed slots, depth, own output, failures; and every refusal. Rolled back.
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
CREATE ROLE regress_alice;
CREATE ROLE regress_bob;
CREATE ROLE regress_carol;
CREATE ROLE regress_reader;
GRANT goya_user TO regress_alice, regress_bob, regress_carol, regress_reader;
SELECT goya.create_tenant('regress-a', max_priority => 5) IS NOT NULL, goya.create_tenant('regress-b') IS NOT NULL;
SELECT goya.add_member('regress_alice', 'regress-a'), goya.add_member('regress_bob', 'regress-a'), goya.add_member('regress_carol', 'regress-b'),
       goya.add_member('regress_reader', 'regress-a', 'reader');
-- Tasks of this test's workflows that were not told before, as workflow, role, depth, input and trigger without ids and times.
CREATE TEMP TABLE told (id uuid);
CREATE FUNCTION pg_temp.plain(document jsonb) RETURNS text LANGUAGE sql AS $$
    SELECT regexp_replace(regexp_replace(document::text, '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}', '<id>', 'g'),
                          '\d{4}-\d\d-\d\d[T ]\d\d:\d\d:[0-9.]+(Z|\+00:00)', '<time>', 'g') $$;
CREATE FUNCTION pg_temp.news() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER AS $$
    WITH new AS (INSERT INTO pg_temp.told SELECT k.id FROM goya.tasks k JOIN goya.tenants t ON t.id = k.tenant_id AND t.name LIKE 'regress-_'
                 WHERE k.id NOT IN (SELECT id FROM pg_temp.told) RETURNING id)
    SELECT concat_ws(' ', w.name, k.run_as, 'depth ' || k.depth, pg_temp.plain(k.input), k.trigger ->> 'name', CASE WHEN k.asset_id IS NOT NULL THEN 'with asset' END)
    FROM new n JOIN goya.tasks k USING (id) JOIN goya.workflows w ON w.id = k.workflow_id ORDER BY 1 $$;
CREATE FUNCTION pg_temp.failures() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER AS $$
    SELECT concat_ws(' ', e.data ->> 'workflow', e.data ->> 'trigger', 'depth ' || e.depth, e.data #>> '{error,code}')
    FROM goya.events e JOIN goya.tenants t ON t.id = e.tenant_id AND t.name LIKE 'regress-_' WHERE e.type = 'trigger_failed' ORDER BY e.id $$;

SET LOCAL ROLE regress_alice;
SELECT goya.create_workflow(n, '{"nodes": [{"key": "start", "kind": "noop"}]}', publish => true) IS NOT NULL FROM unnest('{one,two}'::text[]) n;

-- create_trigger: every refusal.
SELECT pg_temp.try($$ SELECT goya.create_trigger('absent', 't', 'event', event => 'asset_new') $$);
SELECT pg_temp.try($$ SELECT goya.create_trigger('one', NULL, 'event', event => 'asset_new') $$);
SELECT pg_temp.try($$ SELECT goya.create_trigger('one', '*', 'event', event => 'asset_new') $$);
SELECT pg_temp.try($$ SELECT goya.create_trigger('one', 't', 'moon') $$);
SELECT pg_temp.try($$ SELECT goya.create_trigger('one', 't', 'cron') $$);
SELECT pg_temp.try($$ SELECT goya.create_trigger('one', 't', 'interval') $$);
SELECT pg_temp.try($$ SELECT goya.create_trigger('one', 't', 'event') $$);
SELECT pg_temp.try($$ SELECT goya.create_trigger('one', 't', 'notify') $$);
SELECT pg_temp.try($$ SELECT goya.create_trigger('one', 't', 'event', event => 'asset_new', schedule => '* * * * *') $$);
SELECT pg_temp.try($$ SELECT goya.create_trigger('one', 't', 'event', event => 'asset_new', every => '1 hour') $$);
SELECT pg_temp.try($$ SELECT goya.create_trigger('one', 't', 'interval', every => '1 hour', event => 'asset_new') $$);
SELECT pg_temp.try($$ SELECT goya.create_trigger('one', 't', 'interval', every => '1 hour', channel => 'c') $$);
SELECT pg_temp.try($$ SELECT goya.create_trigger('one', 't', 'interval', every => '1 hour', filter => '$.a == 1') $$);
SELECT pg_temp.try($$ SELECT goya.create_trigger('one', 't', 'interval', every => '0.5 seconds') $$);
SELECT pg_temp.try($$ SELECT goya.create_trigger('one', 't', 'interval', every => '-1 hour') $$);
SELECT pg_temp.try($$ SELECT goya.create_trigger('one', 't', 'event', event => 'Asset New') $$);
SELECT pg_temp.try($$ SELECT goya.create_trigger('one', 't', 'notify', channel => 'goya_asset') $$);
SELECT pg_temp.try($$ SELECT goya.create_trigger('one', 't', 'notify', channel => repeat('c', 64)) $$);
SELECT pg_temp.try($$ SELECT goya.create_trigger('one', 't', 'event', event => 'asset_new', filter => '$.asset.') $$);
SELECT pg_temp.try($$ SELECT goya.create_trigger('one', 't', 'event', event => 'asset_new', filter => '$.asset.name == $who') $$);
SELECT pg_temp.try($$ SELECT goya.create_trigger('one', 't', 'event', event => 'asset_new', input => '[]') $$);
SELECT left(pg_temp.try($$ SELECT goya.create_trigger('one', 't', 'event', event => 'asset_new', input => '{"a": "{{ moon.phase }}"}') $$), 27);
SELECT pg_temp.try($$ SELECT goya.create_trigger('one', 't', 'event', event => 'asset_new', priority => 101) $$);
SELECT pg_temp.try($$ SELECT goya.create_trigger('one', 't', 'event', event => 'asset_new', priority => 6) $$);
SELECT pg_temp.try($$ SELECT goya.create_trigger('one', 't', 'event', event => 'asset_new', missed => 'perhaps') $$);
SELECT pg_temp.try($$ SELECT goya.create_trigger('one', 't', 'event', event => 'asset_new', max_depth => 0) $$);
SELECT pg_temp.try(format($$ SELECT goya.create_trigger('one', 't', 'cron', schedule => %L) $$, s))
FROM unnest(ARRAY['often', '* * * *', '60 * * * *', '* 24 * * *', '* * 0 * *', '* * * 13 *', '* * * * 8', '*/0 * * * *', '5/10 * * * *', '9-5 * * * *',
                  '* * * foo *', '30 seconds', '0 0 30 2 *']) s;
SELECT count(*) FROM goya.triggers t JOIN goya.workflows w ON w.id = t.workflow_id WHERE w.name = 'one';

-- Schedules are read as pg_cron reads them.
RESET ROLE;
SELECT s, to_char(goya_private.cron_next(s, '2026-02-27 23:59:30+00') AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI Dy')
FROM unnest(ARRAY['* * * * *', '*/15 * * * *', '0 9 * * *', '30 8-18/2 * * mon-fri', '0 0 1 * *', '0 0 1 * 1', '0 0 */10 * 1', '0 12 29 2 *', '0 0 * jun,dec sun',
                  '0 0 * * 7', '@hourly', '@daily', '@weekly', '@monthly', '@yearly', ' 5,10 * * * * ']) s;
SELECT array_agg(to_char(s AT TIME ZONE 'UTC', 'DD HH24:MI')) FROM unnest(goya_private.cron_slots('0 */6 * * *', '2026-02-27 06:00+00', '2026-02-28 06:00+00', 3)) s;
SELECT goya_private.cron_slots('0 0 1 1 *', '2026-02-27 06:00+00', '2026-02-28 06:00+00', 3) IS NULL;

-- Events.
SET LOCAL ROLE regress_alice;
SELECT goya.create_trigger('one', 'videos', 'event', event => 'asset_new', filter => '$.asset.media_type == "video"', priority => 5) IS NOT NULL;
SELECT pg_temp.try($$ SELECT goya.create_trigger('one', 'videos', 'event', event => 'asset_new') $$);
SELECT goya.create_trigger('two', 'tagged', 'event', event => 'asset_new', filter => '$.asset.tags[*] ? (@ == "new")',
    input => '{"uri": "{{ asset.uri }}", "type": "{{ event.type }}", "n": 1}', max_depth => 2) IS NOT NULL;
SELECT goya.create_trigger('two', 'off', 'event', event => 'asset_new', enabled => false) IS NOT NULL;
SELECT name, kind, enabled, run_as, filter, priority, missed, max_depth FROM goya.triggers ORDER BY name;
INSERT INTO goya.assets (name, media_type, uri, tags) VALUES ('a', 'video', 'file:///a', '{old}'), ('b', 'image', 'file:///b', '{new}'), ('c', 'video', 'file:///c', '{new}'), ('d', 'image', 'file:///d', '{}');
SET LOCAL ROLE regress_carol;
INSERT INTO goya.assets (name, media_type) VALUES ('other tenant', 'video');
RESET ROLE;
SELECT goya_private.dispatch_events(0);
SELECT goya_private.dispatch_events(3);
SELECT goya_private.dispatch_events(100);
SELECT * FROM pg_temp.news();
SELECT goya_private.dispatch_events(100);
SELECT count(*) FROM pg_temp.news();
-- An event that is queued again makes no second task.
INSERT INTO goya_private.event_queue SELECT e.id, e.tenant_id FROM goya.events e JOIN goya.assets a ON a.id = e.subject_id AND a.name IN ('a', 'b', 'c') WHERE e.type = 'asset_new';
SELECT goya_private.dispatch_events(100);
SELECT count(*) FROM pg_temp.news();
SELECT k.priority, k.trigger - 'slot' - 'event', k.trigger ->> 'slot' = 'event:' || (k.trigger #>> '{event,id}'), k.trigger #>> '{event,type}'
FROM goya.tasks k JOIN goya.workflows w ON w.id = k.workflow_id JOIN goya.tenants t ON t.id = w.tenant_id AND t.name = 'regress-a' WHERE w.name = 'one' ORDER BY k.id;

-- What a workflow makes does not trigger it again; others it does, down to their depth.
SET LOCAL ROLE goya_owner;
INSERT INTO goya.assets (tenant_id, owner_role, name, media_type, tags, uri, task_id, depth)
SELECT k.tenant_id, 'regress_alice', 'child', 'video', '{new}', 'file:///child', k.id, k.depth
FROM goya.tasks k JOIN goya.workflows w ON w.id = k.workflow_id JOIN goya.tenants t ON t.id = w.tenant_id AND t.name = 'regress-a' WHERE w.name = 'one' ORDER BY k.id LIMIT 1;
RESET ROLE;
SELECT goya_private.dispatch_events(100);
SELECT * FROM pg_temp.news();
SET LOCAL ROLE goya_owner;
INSERT INTO goya.assets (tenant_id, owner_role, name, media_type, tags, depth) SELECT t.id, 'regress_alice', 'too deep for two', 'video', '{new}', 2 FROM goya.tenants t WHERE t.name = 'regress-a';
INSERT INTO goya.assets (tenant_id, owner_role, name, media_type, tags, depth) SELECT t.id, 'regress_alice', 'too deep for all', 'video', '{new}', 8 FROM goya.tenants t WHERE t.name = 'regress-a';
RESET ROLE;
SELECT goya_private.dispatch_events(100);
SELECT * FROM pg_temp.news();
SET LOCAL ROLE regress_alice;
SELECT goya.drop_trigger('one', 'videos');
SELECT goya.create_trigger('one', 'videos', 'event', event => 'asset_new', filter => 'exists($.asset ? (@.media_type == "video"))', allow_own_output => true) IS NOT NULL;
SELECT goya.disable_trigger('two', 'tagged');
SET LOCAL ROLE goya_owner;
INSERT INTO goya.assets (tenant_id, owner_role, name, media_type, task_id, depth)
SELECT k.tenant_id, 'regress_alice', 'child', 'video', k.id, k.depth
FROM goya.tasks k JOIN goya.workflows w ON w.id = k.workflow_id JOIN goya.tenants t ON t.id = w.tenant_id AND t.name = 'regress-a' WHERE w.name = 'one' ORDER BY k.id LIMIT 1;
RESET ROLE;
SELECT goya_private.dispatch_events(100);
SELECT * FROM pg_temp.news();

-- A private asset of another role is not shown to the trigger's role.
SET LOCAL ROLE regress_bob;
INSERT INTO goya.assets (name, media_type, visibility) VALUES ('bob only', 'video', 'private');
RESET ROLE;
SELECT goya_private.dispatch_events(100);
SELECT count(*) FROM pg_temp.news();

-- A trigger that fails is told of, and stops no other; one on trigger_failed that fails itself comes to an end.
SET LOCAL ROLE regress_alice;
SELECT goya.create_workflow('strict', '{"input": {"type": "object", "required": ["must"]}, "nodes": [{"key": "start", "kind": "noop"}]}', publish => true) IS NOT NULL;
SELECT goya.create_trigger('strict', 'fails', 'event', event => 'asset_new', max_depth => 3) IS NOT NULL;
SELECT goya.create_trigger('strict', 'fails on failure', 'event', event => 'trigger_failed', max_depth => 3) IS NOT NULL;
SELECT goya.create_trigger('two', 'all', 'event', event => 'asset_new') IS NOT NULL;
INSERT INTO goya.assets (name, media_type) VALUES ('e', 'video');
RESET ROLE;
SELECT goya_private.dispatch_events(100);
SELECT * FROM pg_temp.news();
SELECT * FROM pg_temp.failures();
SELECT goya_private.dispatch_events(100);
SELECT goya_private.dispatch_events(100);
SELECT goya_private.dispatch_events(100);
SELECT * FROM pg_temp.failures();
SET LOCAL ROLE regress_alice;
SELECT goya.drop_trigger('strict', 'fails'), goya.drop_trigger('strict', 'fails on failure');

-- Disabled workflows and suspended tenants: nothing fires.
SELECT goya.disable_workflow('two');
INSERT INTO goya.assets (name, media_type) VALUES ('f', 'video');
RESET ROLE;
SELECT goya_private.dispatch_events(100);
SELECT * FROM pg_temp.news();
SET LOCAL ROLE regress_alice;
INSERT INTO goya.assets (name, media_type) VALUES ('g', 'video');
RESET ROLE;
SELECT goya.suspend_tenant('regress-a');
SELECT goya_private.dispatch_events(100);
SELECT count(*) FROM pg_temp.news();
SELECT goya.activate_tenant('regress-a');
SET LOCAL ROLE regress_alice;
SELECT goya.enable_workflow('two');
SELECT goya.drop_trigger('one', 'videos'), goya.drop_trigger('two', 'all');

-- Intervals: the first slot is one interval after enabling; slots are told apart by their due time.
SELECT goya.create_trigger('one', 'hourly', 'interval', every => '1 hour') IS NOT NULL;
RESET ROLE;
CREATE FUNCTION pg_temp.late(trigger_name text, by interval) RETURNS void LANGUAGE sql SECURITY DEFINER AS $$
    UPDATE goya.triggers SET next_due = date_trunc('second', clock_timestamp()) - by,
        last_slot = CASE kind WHEN 'cron' THEN date_trunc('minute', clock_timestamp()) - by - interval '1 minute' ELSE last_slot END WHERE name = trigger_name $$;
SELECT next_due BETWEEN now() + interval '59 minutes' AND clock_timestamp() + interval '1 hour' FROM goya.triggers WHERE name = 'hourly';
SELECT goya_private.fire_intervals() <= clock_timestamp() + interval '1 hour';
SELECT count(*) FROM pg_temp.news();
SELECT pg_temp.late('hourly', '10 seconds');
SELECT goya_private.fire_intervals() IS NOT NULL;
SELECT * FROM pg_temp.news();
SELECT next_due - last_slot, next_due > clock_timestamp() FROM goya.triggers WHERE name = 'hourly';
SELECT goya_private.fire_intervals() IS NOT NULL;
SELECT count(*) FROM pg_temp.news();
-- Late by five hours and ten minutes: by policy none, one, six (of them the newest also late); with an hour-old slot on time, one more.
CREATE TEMP TABLE outcome (policy text, late interval, tasks bigint);
DO $$
DECLARE
    c record;
BEGIN
    FOR c IN SELECT * FROM (VALUES ('skip', '5:10'::interval), ('once', '5:10'), ('all', '5:10'), ('skip', '5:00:10'), ('once', '5:00:10'), ('all', '5:00:10'), ('all', '500:00:10')) v (policy, late) LOOP
        UPDATE goya.triggers SET missed = c.policy WHERE name = 'hourly';
        DELETE FROM goya_private.trigger_slots;
        PERFORM pg_temp.late('hourly', c.late);
        PERFORM goya_private.fire_intervals();
        INSERT INTO outcome SELECT c.policy, c.late, count(*) FROM pg_temp.news();
    END LOOP;
END;
$$;
SELECT * FROM outcome;
-- A failing one is told of and comes again.
SET LOCAL ROLE regress_alice;
SELECT goya.drop_trigger('one', 'hourly');
SELECT goya.create_trigger('strict', 'fast', 'interval', every => '1 second') IS NOT NULL;
RESET ROLE;
SELECT pg_temp.late('fast', '0.5 seconds');
SELECT goya_private.fire_intervals() IS NOT NULL;
SELECT count(*) FROM pg_temp.news();
SELECT * FROM pg_temp.failures() OFFSET 3;
SELECT next_due > clock_timestamp() - interval '1 second' FROM goya.triggers WHERE name = 'fast';
SET LOCAL ROLE regress_alice;
SELECT goya.drop_trigger('strict', 'fast');

-- NOTIFY channels.
SELECT goya.create_trigger('one', 'doorbell', 'notify', channel => 'regress door', filter => '$.payload.who != "cat"') IS NOT NULL;
SELECT goya.create_trigger('two', 'doorbell', 'notify', channel => 'regress door', input => '{"who": "{{ payload.who }}"}') IS NOT NULL;
RESET ROLE;
SELECT * FROM goya_private.notify_channels() c WHERE c LIKE 'regress%';
SELECT goya_private.fire_channel('regress door', '{"who": "postman"}');
SELECT * FROM pg_temp.news();
SELECT goya_private.fire_channel('regress door', '{"who": "cat"}');
SELECT * FROM pg_temp.news();
SELECT goya_private.fire_channel('regress door', 'not json');
SELECT * FROM pg_temp.news();
SELECT goya_private.fire_channel('regress door', '');
SELECT * FROM pg_temp.news();
SELECT goya_private.fire_channel('regress window', 'x');
SET LOCAL ROLE regress_alice;
SELECT goya.disable_workflow('one'), goya.disable_workflow('two');
RESET ROLE;
SELECT count(*) FROM goya_private.notify_channels() c WHERE c LIKE 'regress%';
SET LOCAL ROLE regress_alice;
SELECT goya.enable_workflow('one'), goya.enable_workflow('two');

-- pg_cron: the job is made, changed and removed in the same transaction.
SELECT goya.create_trigger('one', 'nightly', 'cron', schedule => '30 2 * * *', missed => 'all') IS NOT NULL;
RESET ROLE;
CREATE FUNCTION pg_temp.jobs() RETURNS SETOF text LANGUAGE sql AS $$
    SELECT concat_ws(' | ', pg_temp.plain(to_jsonb(j.jobname)), j.schedule, pg_temp.plain(to_jsonb(j.command)), j.username)
    FROM cron.job j JOIN goya.triggers t ON t.cron_job_id = j.jobid AND j.jobname = 'goya:' || t.id WHERE t.name = 'nightly' $$;
SELECT * FROM pg_temp.jobs();
SET LOCAL ROLE regress_alice;
SELECT goya.disable_trigger('one', 'nightly');
RESET ROLE;
SELECT count(*) FROM cron.job j JOIN goya.triggers t ON j.jobname = 'goya:' || t.id;
SET LOCAL ROLE regress_bob;
SELECT goya.enable_trigger('one', 'nightly');
SELECT goya.enable_trigger('one', 'nightly');
RESET ROLE;
SELECT count(*), max(t.run_as) FROM cron.job j JOIN goya.triggers t ON j.jobname = 'goya:' || t.id;
SET LOCAL ROLE regress_alice;
SELECT goya.disable_workflow('one');
RESET ROLE;
SELECT count(*) FROM cron.job j JOIN goya.triggers t ON j.jobname = 'goya:' || t.id;
SET LOCAL ROLE regress_alice;
SELECT goya.enable_workflow('one');
RESET ROLE;
SELECT count(*) FROM cron.job j JOIN goya.triggers t ON j.jobname = 'goya:' || t.id;
-- Fired: the slot is the schedule's, whenever the job came; twice is one task.
UPDATE goya.triggers SET last_slot = '2026-03-01 02:30+00', next_due = '2026-03-02 02:30+00' WHERE name = 'nightly';
SELECT id AS nightly FROM goya.triggers WHERE name = 'nightly' \gset
SELECT goya_private.fire_trigger(:'nightly', '2026-03-02 02:30+00') AS first \gset
SELECT goya_private.fire_trigger(:'nightly', '2026-03-02 02:31+00') = :'first', goya_private.fire_trigger(:'nightly', '2026-03-02 02:30+00') = :'first';
SELECT input, run_as, depth, trigger ->> 'slot' FROM goya.tasks WHERE id = :'first';
SELECT count(*) FROM pg_temp.news();
SELECT last_slot AT TIME ZONE 'UTC', next_due AT TIME ZONE 'UTC' FROM goya.triggers WHERE name = 'nightly';
-- Three nights were missed: policy all makes them up, then once, then skip.
SELECT goya_private.fire_trigger(:'nightly', '2026-03-06 02:30+00') IS NOT NULL;
SELECT input ->> 'slot' FROM goya.tasks WHERE trigger_id = :'nightly' ORDER BY 1;
UPDATE goya.triggers SET missed = 'once' WHERE name = 'nightly';
SELECT goya_private.fire_trigger(:'nightly', '2026-03-10 02:30+00') IS NOT NULL;
UPDATE goya.triggers SET missed = 'skip' WHERE name = 'nightly';
SELECT goya_private.fire_trigger(:'nightly', '2026-03-14 02:30+00') IS NOT NULL;
SELECT input ->> 'slot' FROM goya.tasks WHERE trigger_id = :'nightly' ORDER BY 1 OFFSET 5;
SELECT count(*) FROM pg_temp.news();
-- pg_cron is silent: the engine's watch makes up what the policy asks for, and the job that comes late makes none again.
UPDATE goya.triggers SET schedule = '* * * * *', missed = 'all' WHERE name = 'nightly';
SELECT pg_temp.late('nightly', '10 minutes');
SELECT goya_private.fire_intervals() IS NOT NULL;
SELECT count(*) BETWEEN 8 AND 10 FROM pg_temp.news();
SELECT goya_private.fire_intervals() IS NOT NULL;
SELECT count(*) FROM pg_temp.news();
SELECT goya_private.fire_trigger(:'nightly', last_slot) IS NOT NULL FROM goya.triggers WHERE name = 'nightly';
SELECT count(*) FROM pg_temp.news();
UPDATE goya.triggers SET missed = 'skip' WHERE name = 'nightly';
SELECT pg_temp.late('nightly', '10 minutes');
SELECT FROM goya_private.fire_intervals();
SELECT count(*) FROM pg_temp.news();
-- A job that outlived its trigger, or whose workflow is disabled, does nothing.
SELECT goya_private.fire_trigger('00000000-0000-7000-8000-00000000dead', now()) IS NULL;
SET LOCAL ROLE regress_alice;
SELECT goya.disable_workflow('one');
RESET ROLE;
SELECT goya_private.fire_trigger(:'nightly', now()) IS NULL;
SET LOCAL ROLE regress_alice;
SELECT goya.enable_workflow('one');
SELECT goya.drop_trigger('one', 'nightly');
RESET ROLE;
SELECT count(*) FROM cron.job j WHERE j.jobname = 'goya:' || :'nightly';
SELECT count(*) FROM goya_private.trigger_slots WHERE trigger_id = :'nightly';
-- pg_cron that goya may not use, and no pg_cron at all. (The name of the database is of no interest.)
REVOKE USAGE ON SCHEMA cron FROM goya_owner;
SET LOCAL ROLE regress_alice;
SELECT regexp_replace(pg_temp.try($$ SELECT goya.create_trigger('one', 'nightly', 'cron', schedule => '30 2 * * *') $$), '(["''])' || current_database() || '\1', '\1<database>\1', 'g');
RESET ROLE;
DROP EXTENSION pg_cron;
SET LOCAL ROLE regress_alice;
SELECT regexp_replace(pg_temp.try($$ SELECT goya.create_trigger('one', 'nightly', 'cron', schedule => '30 2 * * *') $$), '(["''])' || current_database() || '\1', '\1<database>\1', 'g');
SELECT goya.create_trigger('one', 'nightly', 'cron', schedule => '30 2 * * *', enabled => false) IS NOT NULL;
SELECT regexp_replace(pg_temp.try($$ SELECT goya.enable_trigger('one', 'nightly') $$), '(["''])' || current_database() || '\1', '\1<database>\1', 'g');
SELECT goya.drop_trigger('one', 'nightly');

-- Who may.
SELECT pg_temp.try($$ SELECT goya.enable_trigger('one', 'absent') $$);
SELECT pg_temp.try($$ SELECT goya.disable_trigger('one', 'absent') $$);
SELECT pg_temp.try($$ SELECT goya.drop_trigger('one', 'absent') $$);
SELECT pg_temp.try($$ SELECT goya.enable_trigger('absent', 'doorbell') $$);
SET LOCAL ROLE regress_carol;
SELECT pg_temp.try($$ SELECT goya.create_trigger('one', 't', 'event', event => 'asset_new') $$);
SELECT pg_temp.try($$ SELECT goya.enable_trigger('one', 'doorbell') $$);
SELECT pg_temp.try($$ SELECT goya.drop_trigger('one', 'doorbell') $$);
SET LOCAL ROLE regress_reader;
SELECT pg_temp.try($$ SELECT goya.create_trigger('one', 't', 'event', event => 'asset_new') $$);
SELECT pg_temp.try($$ SELECT goya.enable_trigger('one', 'doorbell') $$);
SELECT pg_temp.try($$ SELECT goya.disable_trigger('one', 'doorbell') $$);
SELECT pg_temp.try($$ SELECT goya.drop_trigger('one', 'doorbell') $$);
-- Superusers' tasks are refused, so their triggers are.
RESET ROLE;
SET LOCAL goya.allow_superuser_tasks = off;
CREATE ROLE regress_super SUPERUSER;
SET LOCAL ROLE regress_super;
SELECT goya.create_workflow('super', '{"nodes": [{"key": "start", "kind": "noop"}]}') IS NOT NULL;
SELECT pg_temp.try($$ SELECT goya.create_trigger('super', 't', 'event', event => 'asset_new') $$);
SELECT pg_temp.try($$ SELECT goya.create_trigger('super', 't', 'event', event => 'asset_new', enabled => false) $$);
SELECT pg_temp.try($$ SELECT goya.enable_trigger('super', 't') $$);
SET LOCAL goya.allow_superuser_tasks = on;
SELECT pg_temp.try($$ SELECT goya.enable_trigger('super', 't') $$);
ROLLBACK;
