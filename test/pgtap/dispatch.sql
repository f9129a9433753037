-- dispatch.sql: turning many events into tasks at once (src/dispatch.c) makes of them what turning them one by one does (sql/36_firing.sql).
--
-- In one transaction that is rolled back: the same queue is dispatched twice, each time from a savepoint, and what came of it is compared: tasks
-- with input, cause, depth and money, slots, events of failures. Then a batch in which one trigger fails.

\set QUIET 1
\pset format unaligned
\pset tuples_only on
\pset pager off
SET client_min_messages = warning;
SET search_path = public, pg_catalog;
BEGIN;
SELECT no_plan();
SET LOCAL timezone = 'Asia/Kolkata';

CREATE ROLE regress_ann;
CREATE ROLE regress_ben;
CREATE ROLE regress_cleo;
CREATE ROLE regress_team;
GRANT goya_user TO regress_ann, regress_ben, regress_cleo;
GRANT regress_team TO regress_ann;
SELECT goya.create_tenant('dispatch-a', max_priority => 3), goya.create_tenant('dispatch-b') \g /dev/null
SELECT goya.add_member('regress_ann', 'dispatch-a'), goya.add_member('regress_ben', 'dispatch-a'), goya.add_member('regress_cleo', 'dispatch-b') \g /dev/null
SELECT goya.top_up(1000, 'dispatch-a', 'dispatch-a'), goya.top_up(1000, 'dispatch-b', 'dispatch-b'),
       goya.set_price('dispatch', 10, tenant => 'dispatch-a'), goya.set_price('dispatch', 7, tenant => 'dispatch-b') \g /dev/null

CREATE FUNCTION pg_temp.make(workflow text, definition jsonb DEFAULT '{"nodes": [{"key": "a", "kind": "noop"}]}') RETURNS uuid LANGUAGE sql AS
$$ SELECT goya.create_workflow(make.workflow, make.definition, publish => true) $$;

SET LOCAL ROLE regress_ann;
SELECT pg_temp.make(n) FROM unnest('{plain,filtered,templated,own,ended}'::text[]) n \g /dev/null
SELECT goya.create_workflow('paid', '{"nodes": [{"key": "a", "kind": "wait", "signal": "never", "price": {"name": "dispatch"}}]}', publish => true) \g /dev/null
SELECT goya.create_trigger('plain', 'plain', 'event', event => 'asset_new', priority => 3) \g /dev/null
SELECT goya.create_trigger('filtered', 'video', 'event', event => 'asset_new', filter => '$.asset.media_type == "video"') \g /dev/null
SELECT goya.create_trigger('filtered', 'ours', 'event', event => 'asset_new', filter => '$.asset.tags[*] ? (@ == "x")', max_depth => 1) \g /dev/null
SELECT goya.create_trigger('templated', 'done', 'event', event => 'asset_done', input => '{"uri": "{{ asset.uri }}", "what": "{{ event.data }}", "by": "{{ task.id }}"}') \g /dev/null
SELECT goya.create_trigger('own', 'own', 'event', event => 'asset_new', allow_own_output => true) \g /dev/null
SELECT goya.create_trigger('ended', 'ended', 'event', event => 'task_completed') \g /dev/null
SELECT goya.create_trigger('paid', 'paid', 'event', event => 'asset_new', filter => '$.asset.name starts with "a"') \g /dev/null
SELECT goya.create_trigger('plain', 'off', 'event', event => 'asset_new', enabled => false) \g /dev/null
SET LOCAL ROLE regress_cleo;
SELECT pg_temp.make('plain') \g /dev/null
SELECT goya.create_workflow('paid', '{"nodes": [{"key": "a", "kind": "wait", "signal": "never", "price": {"name": "dispatch"}}]}', publish => true) \g /dev/null
SELECT goya.create_trigger('plain', 'plain', 'event', event => 'asset_new'), goya.create_trigger('paid', 'paid', 'event', event => 'asset_new') \g /dev/null

-- Assets of two tenants in turn; of others, for some, for a role; made by a task of a workflow that waits for such; deep ones; a task's end; an asset since deleted.
SET LOCAL ROLE regress_ann;
INSERT INTO goya.assets (name, media_type, uri, tags, status) VALUES ('a1', 'video', 'file:///ä "1"', '{x}', 'new'), ('a2', 'image', NULL, '{}', 'ready'), ('b1', 'video', 'file:///b', '{x,y}', 'ready');
SET LOCAL ROLE regress_cleo;
INSERT INTO goya.assets (name) VALUES ('c1'), ('c2');
SET LOCAL ROLE regress_ben;
INSERT INTO goya.assets (name, visibility, visible_roles) VALUES ('ben private', 'private', '{}'), ('ben shared', 'role', '{regress_team}'), ('ben other', 'role', '{regress_cleo}'), ('ben', 'tenant', '{}'), ('gone', 'tenant', '{}');
SET LOCAL ROLE regress_ann;
INSERT INTO goya.assets (name, visibility) VALUES ('ann private', 'private');
SELECT goya.run('plain') AS plain, goya.run('own') AS own \gset
SET LOCAL ROLE goya_owner;
INSERT INTO goya.assets (tenant_id, owner_role, name, task_id, depth, status)
SELECT t.id, 'regress_ann', 'made', k, d, 'ready' FROM goya.tenants t, unnest('{0,1,7,8}'::int[]) d, unnest(ARRAY[:'plain', :'own']::uuid[]) k WHERE t.name = 'dispatch-a';
SELECT goya_private.publish_event(t.id, 'task_completed', :'plain', '{"status": "succeeded"}', :'plain', 0), goya_private.publish_event(t.id, 'task_completed', NULL, '[1]', NULL, 3)
FROM goya.tenants t WHERE t.name = 'dispatch-a' \g /dev/null
DELETE FROM goya.assets WHERE name = 'gone';
RESET ROLE;
UPDATE goya.tenants SET max_priority = 2 WHERE name = 'dispatch-a';	-- less than its trigger has
CREATE TEMP TABLE queued AS SELECT q.* FROM goya_private.event_queue q JOIN goya.tenants t ON t.id = q.tenant_id AND t.name LIKE 'dispatch-_' ORDER BY q.event_id;
DELETE FROM goya_private.event_queue;
-- One of them has had its task.
INSERT INTO goya_private.trigger_slots (trigger_id, slot) SELECT t.id, 'event:' || q.event_id FROM goya.triggers t, queued q WHERE t.name = 'own' ORDER BY q.event_id LIMIT 1;

-- Everything that came of it, without ids and times of its own.
CREATE FUNCTION pg_temp.outcome() RETURNS SETOF text LANGUAGE sql AS $$
    SELECT concat_ws(' | ', n.name, w.name, k.run_as, k.status, k.priority, k.depth, k.input, k.trigger, coalesce(k.asset_id::text, 'no asset'), k.revision, coalesce(k.created_by, 'nobody'),
                     k.trace_id = k.id::text, h.amount, (SELECT count(*) FROM goya_private.ready r WHERE r.task_id = k.id AND r.node = -1 AND r.lane IN (0, 3)),
                     (SELECT s.slot FROM goya_private.trigger_slots s WHERE s.task_id = k.id AND s.trigger_id = k.trigger_id))
    FROM goya.tasks k JOIN goya.tenants n ON n.id = k.tenant_id AND n.name LIKE 'dispatch-_' JOIN goya.workflows w ON w.id = k.workflow_id LEFT JOIN goya.holds h ON h.id = k.hold_id
    WHERE k.trigger_id IS NOT NULL
    UNION ALL
    SELECT concat_ws(' | ', n.name, e.type, e.subject_id, e.depth, e.data) FROM goya.events e JOIN goya.tenants n ON n.id = e.tenant_id AND n.name LIKE 'dispatch-_' WHERE e.type = 'trigger_failed'
    UNION ALL
    SELECT concat_ws(' | ', n.name, w.balance, w.frozen) FROM goya.wallets w JOIN goya.tenants n ON n.id = w.tenant_id AND n.name LIKE 'dispatch-_'
    ORDER BY 1 $$;

SAVEPOINT queued;
SELECT goya_private.dispatch_singly(array_agg(event_id), array_agg(tenant_id)) AS singly FROM queued \gset
SELECT array_agg(o) AS singly_outcome FROM pg_temp.outcome() o \gset
ROLLBACK TO queued;
INSERT INTO goya_private.event_queue SELECT * FROM queued;
SELECT is(goya_private.dispatch_events(1000), (SELECT count(*)::integer FROM queued), 'all events are taken');
SELECT is(array_agg(o), :'singly_outcome'::text[], 'many at once: what one by one makes') FROM pg_temp.outcome() o;
SELECT is((SELECT count(*) FROM goya.tasks k JOIN goya.triggers t ON t.id = k.trigger_id JOIN goya.tenants n ON n.id = k.tenant_id AND n.name LIKE 'dispatch-_'), :singly::bigint, 'as many tasks');
SELECT cmp_ok(:singly, '>', 30, 'and they are many');
SELECT is((SELECT count(*) FROM goya_private.event_queue), 0::bigint, 'the queue is empty');
SELECT is((SELECT max(k.priority)::integer FROM goya.tasks k JOIN goya.tenants n ON n.id = k.tenant_id AND n.name = 'dispatch-a'), 2, 'no priority is higher than the tenant may have now');
SELECT is((SELECT count(*) FROM goya.tasks k JOIN goya.tenants n ON n.id = k.tenant_id WHERE n.name = 'dispatch-b' AND k.trigger_id IS NOT NULL AND k.hold_id = k.id), 2::bigint, 'money is held for what costs some');
SELECT is((SELECT w.frozen FROM goya.wallets w JOIN goya.tenants n ON n.id = w.tenant_id WHERE n.name = 'dispatch-b'), 14::bigint, 'as much as the tenant''s price says');
SELECT is((SELECT count(*) FROM goya.events e JOIN goya.tenants n ON n.id = e.tenant_id AND n.name LIKE 'dispatch-_' WHERE e.type = 'trigger_failed'), 0::bigint, 'nothing failed');
INSERT INTO goya_private.event_queue SELECT * FROM queued;
SELECT goya_private.dispatch_events(1000) \g /dev/null
SELECT is(array_agg(o), :'singly_outcome'::text[], 'queued again, they make nothing more') FROM pg_temp.outcome() o;

-- One trigger of many fails: of a tenant without money for the second task, and of a role that is gone.
ROLLBACK TO queued;
UPDATE goya.wallets w SET balance = 10 FROM goya.tenants n WHERE n.id = w.tenant_id AND n.name = 'dispatch-b';
UPDATE goya.triggers SET run_as = 'regress_nobody' WHERE name = 'own';
INSERT INTO goya_private.event_queue SELECT * FROM queued;
SELECT goya_private.dispatch_events(1000) \g /dev/null
SELECT is((SELECT array_agg(DISTINCT format('%s %s %s', n.name, e.data ->> 'trigger', e.data #>> '{error,code}')) FROM goya.events e JOIN goya.tenants n ON n.id = e.tenant_id AND n.name LIKE 'dispatch-_'
           WHERE e.type = 'trigger_failed'), '{dispatch-a own 42501,dispatch-b paid PT402}', 'what fails is told');
SELECT is((SELECT array_agg(concat_ws(' ', w.name, c.n) ORDER BY w.name) FROM (SELECT k.workflow_id, count(*) AS n FROM goya.tasks k JOIN goya.tenants n ON n.id = k.tenant_id AND n.name = 'dispatch-b'
           WHERE k.trigger_id IS NOT NULL GROUP BY 1) c JOIN goya.workflows w ON w.id = c.workflow_id), '{paid 1,plain 2}', 'and stops no other task');
SELECT * FROM finish();
ROLLBACK;
