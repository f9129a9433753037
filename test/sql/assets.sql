-- assets: events and notifications on insert and on becoming ready, what users may not set, and the calls around assets.
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
GRANT goya_user TO regress_alice, regress_bob, regress_carol;
SELECT goya.create_tenant('regress-a') IS NOT NULL, goya.create_tenant('regress-b') IS NOT NULL;
SELECT goya.add_member('regress_alice', 'regress-a'), goya.add_member('regress_bob', 'regress-a'), goya.add_member('regress_carol', 'regress-b');
-- The events of this test's tenants that were not seen before, in order.
CREATE TEMP TABLE seen AS SELECT id FROM goya.events;
CREATE FUNCTION pg_temp.news() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER AS $$
    WITH new AS (INSERT INTO pg_temp.seen SELECT e.id FROM goya.events e JOIN goya.tenants t ON t.id = e.tenant_id AND t.name LIKE 'regress-_'
                 WHERE e.id NOT IN (SELECT id FROM pg_temp.seen) RETURNING id)
    SELECT concat_ws(' ', e.type, coalesce(a.name, '-'), e.data ->> 'status', 'depth ' || e.depth, (CASE WHEN q.event_id IS NOT NULL THEN 'queued' END))
    FROM new n JOIN goya.events e USING (id) LEFT JOIN goya.assets a ON a.id = e.subject_id LEFT JOIN goya_private.event_queue q ON q.event_id = e.id
    ORDER BY e.id $$;

-- Rows of an insert: asset_new for each, asset_done for those that are ready. Nothing is queued: no trigger wants it.
SET LOCAL ROLE regress_alice;
INSERT INTO goya.assets (name, media_type, uri, status) VALUES ('a', 'video', 'file:///a', 'new'), ('b', 'video', 'file:///b', 'ready');
SELECT * FROM pg_temp.news();
SELECT a.name, t.name, a.owner_role, a.row_version FROM goya.assets a JOIN goya.tenants t ON t.id = a.tenant_id WHERE a.name IN ('a', 'b') ORDER BY 1;
INSERT INTO goya.assets (name) SELECT 'none' WHERE false;
SELECT count(*) FROM pg_temp.news();
-- Becoming ready: once.
UPDATE goya.assets SET status = 'processing' WHERE name IN ('a', 'b');
SELECT count(*) FROM pg_temp.news();
UPDATE goya.assets SET status = 'ready' WHERE name IN ('a', 'b');
SELECT * FROM pg_temp.news();
UPDATE goya.assets SET status = 'ready', tags = '{x}' WHERE name IN ('a', 'b');
SELECT count(*) FROM pg_temp.news();
SELECT a.name, a.row_version FROM goya.assets a WHERE a.name IN ('a', 'b') ORDER BY 1;
-- Many rows are one statement and one set of events.
INSERT INTO goya.assets (name, status) SELECT 'bulk', 'ready' FROM generate_series(1, 1000);
SELECT n, count(*) FROM pg_temp.news() n GROUP BY 1 ORDER BY 1;

-- Queued only where an enabled trigger of the tenant wants the type.
SELECT goya.create_workflow('regress watch', '{"nodes": [{"key": "start", "kind": "noop"}]}', publish => true) IS NOT NULL;
SELECT goya.create_trigger('regress watch', 'done', 'event', event => 'asset_done') IS NOT NULL;
SELECT * FROM pg_temp.news();
INSERT INTO goya.assets (name, status) VALUES ('c', 'ready');
SELECT * FROM pg_temp.news();
SELECT goya.disable_workflow('regress watch');
INSERT INTO goya.assets (name, status) VALUES ('d', 'ready');
SELECT * FROM pg_temp.news();
SET LOCAL ROLE regress_carol;
INSERT INTO goya.assets (name, status) VALUES ('e', 'ready');
SELECT * FROM pg_temp.news();
RESET ROLE;

-- Rows older than their transaction are a restore: no news.
INSERT INTO goya.assets (tenant_id, name, status, created_at) SELECT id, 'restored', 'ready', now() - interval '1 day' FROM goya.tenants WHERE name = 'regress-a';
SELECT count(*) FROM pg_temp.news();
-- What goya itself writes carries its depth and task.
SET LOCAL ROLE goya_owner;
INSERT INTO goya.assets (tenant_id, name, owner_role, status, depth, task_id, node)
    SELECT id, 'made', 'regress_alice', 'ready', 3, goya.new_id(), 'cut' FROM goya.tenants WHERE name = 'regress-a';
RESET ROLE;
SELECT * FROM pg_temp.news();
SELECT count(*) FROM goya.events e JOIN goya.assets a ON a.id = e.subject_id WHERE a.name = 'made' AND e.task_id = a.task_id;

-- What users may not say, whatever columns they are granted.
GRANT INSERT, UPDATE ON goya.assets TO regress_alice;
SET LOCAL ROLE regress_alice;
SELECT pg_temp.try($$ INSERT INTO goya.assets (name, depth) VALUES ('x', 1) $$);
SELECT pg_temp.try($$ INSERT INTO goya.assets (name, task_id) VALUES ('x', goya.new_id()) $$);
SELECT pg_temp.try($$ INSERT INTO goya.assets (name, node) VALUES ('x', 'n') $$);
SELECT pg_temp.try($$ INSERT INTO goya.assets (name, item) VALUES ('x', 1) $$);
SELECT pg_temp.try($$ INSERT INTO goya.assets (name, created_at) VALUES ('x', '2020-01-01') $$);
SELECT pg_temp.try($$ INSERT INTO goya.assets (name, row_version) VALUES ('x', 7) $$);
SELECT pg_temp.try($$ INSERT INTO goya.assets (name, owner_role) VALUES ('x', 'regress_bob') $$);
SELECT pg_temp.try($$ INSERT INTO goya.assets (name, created_by) VALUES ('x', 'somebody') $$);
SELECT pg_temp.try($$ INSERT INTO goya.assets (name, visibility) VALUES ('x', 'public') $$);
SELECT pg_temp.try($$ UPDATE goya.assets SET depth = 1 WHERE name = 'a' $$);
SELECT pg_temp.try($$ UPDATE goya.assets SET owner_role = 'regress_bob' WHERE name = 'a' $$);
SELECT pg_temp.try($$ UPDATE goya.assets SET created_at = '2020-01-01' WHERE name = 'a' $$);
SELECT pg_temp.try($$ UPDATE goya.assets SET visibility = 'public' WHERE name = 'a' $$);
SELECT count(*) FROM pg_temp.news();

-- register_asset
SELECT goya.register_asset('https://media.example/clips/talk.mp4?token=1', 'video', tags => '{interview,raw}', metadata => '{"lang": "en"}', duration => 12.5) IS NOT NULL;
SELECT goya.register_asset(NULL, 'text', name => 'note', content => 'hello', status => 'ready') IS NOT NULL;
SELECT * FROM pg_temp.news();
SELECT a.name, a.media_type, a.source, a.status, a.size_bytes, left(a.sha256, 8), a.tags, a.metadata, a.duration, a.owner_role
FROM goya.assets a WHERE a.name IN ('talk.mp4', 'note') ORDER BY 1;
SELECT pg_temp.try($$ SELECT goya.register_asset(NULL) $$);
SELECT pg_temp.try($$ SELECT goya.register_asset('file:///x', 'smell') $$);
SELECT pg_temp.try($$ SELECT goya.register_asset('file:///x', source => 'theft') $$);
SELECT pg_temp.try($$ SELECT goya.register_asset('file:///x', status => 'done') $$);
SELECT pg_temp.try($$ SELECT goya.register_asset('file:///x', sha256 => 'abc') $$);
SELECT pg_temp.try($$ SELECT goya.register_asset('file:///x', size_bytes => -1) $$);
SELECT pg_temp.try($$ SELECT goya.register_asset('file:///x', duration => 'NaN') $$);
SELECT pg_temp.try($$ SELECT goya.register_asset('file:///x', metadata => '[]') $$);
SELECT pg_temp.try($$ SELECT goya.register_asset('file:///x', content => convert_to(repeat('x', 1048577), 'UTF8')) $$);
SELECT pg_temp.try($$ SELECT goya.register_asset('file:///x', visibility => 'public') $$);
SELECT pg_temp.try($$ SELECT goya.register_asset('file:///x', parent_id => '00000000-0000-7000-8000-00000000dead') $$);

-- finish_asset: by id, as an sql node calls it.
SELECT goya.register_asset('file:///slow', 'video', name => 'slow', visibility => 'private') AS slow \gset
SELECT goya.finish_asset(jsonb_build_object('asset_id', :'slow')) ->> 'status';
SELECT goya.finish_asset(jsonb_build_object('asset_id', :'slow')) ->> 'status';
SELECT * FROM pg_temp.news();
SELECT goya.finish_asset(jsonb_build_object('asset_id', :'slow', 'status', 'archived')) ->> 'status';
SELECT pg_temp.try($$ SELECT goya.finish_asset('{}') $$);
SELECT pg_temp.try($$ SELECT goya.finish_asset(NULL) $$);
SELECT pg_temp.try($$ SELECT goya.finish_asset('{"asset_id": "x"}') $$);
SELECT pg_temp.try($$ SELECT goya.finish_asset('{"asset_id": "00000000-0000-7000-8000-00000000dead"}') $$);
SELECT pg_temp.try(format($$ SELECT goya.finish_asset('{"asset_id": "%s", "status": "eaten"}') $$, :'slow'));
-- Private to its owner, and nothing to another tenant.
SET LOCAL ROLE regress_bob;
SELECT pg_temp.try(format($$ SELECT goya.finish_asset('{"asset_id": "%s"}') $$, :'slow'));
SET LOCAL ROLE regress_carol;
SELECT pg_temp.try(format($$ SELECT goya.finish_asset('{"asset_id": "%s"}') $$, :'slow'));
SELECT pg_temp.try(format($$ SELECT goya.derivation_tree('%s') $$, :'slow'));
SELECT count(*) FROM goya.search_assets('slow');
-- Shared with a role, and seen by its members only.
SET LOCAL ROLE regress_alice;
SELECT goya.register_asset('file:///shared', name => 'shared', visibility => 'role', visible_roles => '{regress_bob,regress_gone}') IS NOT NULL;
SET LOCAL ROLE regress_bob;
SELECT count(*) FROM goya.search_assets('shared');
RESET ROLE;
CREATE ROLE regress_dave;
GRANT goya_user TO regress_dave;
SELECT goya.add_member('regress_dave', 'regress-a');
SET LOCAL ROLE regress_dave;
SELECT count(*) FROM goya.search_assets('shared');
RESET ROLE;
SELECT goya.add_member('regress_dave', 'regress-a', 'admin');
SET LOCAL ROLE regress_dave;
SELECT count(*) FROM goya.search_assets('shared');

-- Behind a front end, private things of one role belong to the end user who made them.
RESET ROLE;
INSERT INTO goya_private.authenticators (role_name) VALUES (session_user);
SET LOCAL ROLE regress_alice;
SET LOCAL request.jwt.claims = '{"tenant": "regress-a", "user": "ann"}';
SELECT goya.register_asset('file:///diary', name => 'diary', visibility => 'private') AS diary \gset
SELECT name, created_by FROM goya.search_assets('diary');
SET LOCAL request.jwt.claims = '{"tenant": "regress-a", "user": "ben"}';
SELECT count(*) FROM goya.search_assets('diary');
SELECT pg_temp.try(format($$ SELECT goya.finish_asset('{"asset_id": "%s"}') $$, :'diary'));
SET LOCAL request.jwt.claims = '{"tenant": "regress-b", "user": "ann"}';
SELECT count(*) FROM goya.search_assets('diary');
SET LOCAL request.jwt.claims = '';
RESET ROLE;
DELETE FROM goya_private.authenticators WHERE role_name = session_user;

-- search_assets
SET LOCAL ROLE regress_alice;
SELECT name FROM goya.search_assets('TALK');
SELECT name FROM goya.search_assets('interv');
SELECT name FROM goya.search_assets(tags => '{raw,interview}');
SELECT count(*) FROM goya.search_assets(tags => '{raw,absent}');
SELECT name FROM goya.search_assets(metadata => '{"lang": "en"}', media_type => 'video', status => 'new');
SELECT count(*) FROM goya.search_assets('100%');
SELECT count(*), count(DISTINCT id) FROM goya.search_assets('bulk', limit_rows => 1000);
SELECT count(*) FROM goya.search_assets('bulk');
-- Pages follow each other without gap or overlap.
CREATE TEMP TABLE page AS SELECT 1 AS n, id FROM goya.search_assets('bulk', limit_rows => 300);
INSERT INTO page SELECT 2, id FROM goya.search_assets('bulk', limit_rows => 300, after => (SELECT id FROM page ORDER BY id LIMIT 1));
INSERT INTO page SELECT 3, id FROM goya.search_assets('bulk', limit_rows => 900, after => (SELECT id FROM page ORDER BY id LIMIT 1));
SELECT n, count(*) FROM page GROUP BY n ORDER BY n;
SELECT count(DISTINCT id), bool_and(in_order) FROM (SELECT id, n >= max(n) OVER (ORDER BY id DESC) AS in_order FROM page) p;
SELECT pg_temp.try($$ SELECT goya.search_assets(limit_rows => 0) $$);
SELECT pg_temp.try($$ SELECT goya.search_assets(limit_rows => 1001) $$);
SELECT pg_temp.try($$ SELECT goya.search_assets(limit_rows => NULL) $$);

SELECT tag, count FROM goya.asset_tags ORDER BY 1;

-- Derivation: children of children, and a circle that ends.
SELECT goya.register_asset('file:///root', 'video', name => 'root') AS root \gset
SELECT goya.register_asset('file:///frame1', 'image', name => 'frame 1', parent_id => :'root') AS frame \gset
SELECT goya.register_asset('file:///frame2', 'image', name => 'frame 2', parent_id => :'root') IS NOT NULL;
SELECT goya.register_asset('file:///face1', 'image', name => 'face 1', parent_id => :'frame') AS face \gset
SELECT goya.register_asset('file:///face2', 'image', name => 'face 2', parent_id => :'frame', visibility => 'private') IS NOT NULL;
SELECT depth, name, media_type, parent_id IS NOT NULL, line FROM goya.derivation_tree(:'root');
SELECT line FROM goya.derivation_tree(:'frame');
UPDATE goya.assets SET parent_id = :'face' WHERE id = :'root';
SELECT line FROM goya.derivation_tree(:'root');
SET LOCAL ROLE regress_bob;
SELECT line FROM goya.derivation_tree(:'root');
SELECT pg_temp.try($$ SELECT goya.derivation_tree('00000000-0000-7000-8000-00000000dead') $$);
RESET ROLE;

-- publish_event, as other modules call it.
SET LOCAL ROLE regress_alice;
SELECT goya.enable_workflow('regress watch');
RESET ROLE;
SELECT count(*) FROM pg_temp.news();
SELECT goya_private.publish_event(t.id, 'asset_done', NULL, NULL, NULL, 99999) IS NOT NULL, goya_private.publish_event(t.id, 'unwanted', NULL, '{"a": 1}', NULL, NULL) IS NOT NULL
FROM goya.tenants t WHERE t.name = 'regress-a';
SELECT * FROM pg_temp.news();
ROLLBACK;

-- One NOTIFY per statement, with the ids of up to 20 rows; none when the setting is off. The process id it prints is of no interest.
\setenv PGDATABASE :DBNAME
\! psql -X -q -v ON_ERROR_STOP=1 -c 'LISTEN goya_asset' -c "INSERT INTO goya.assets (id, tenant_id, name) SELECT ('00000000-0000-7000-8000-0000000000a' || n)::uuid, '00000000-0000-7000-8000-000000000001', 'regress' FROM generate_series(1, 2) n" -c 'SET goya.notify_assets = off' -c "INSERT INTO goya.assets (tenant_id, name) VALUES ('00000000-0000-7000-8000-000000000001', 'regress')" -c 'RESET goya.notify_assets' -c "INSERT INTO goya.assets (tenant_id, name) SELECT '00000000-0000-7000-8000-000000000001', 'regress' FROM generate_series(1, 21)" 2>&1 | sed 's/ received from.*//'
-- Their events stay: events cannot be deleted.
DELETE FROM goya.assets WHERE name = 'regress';
