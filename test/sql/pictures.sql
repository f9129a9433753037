-- pictures: workflows and tasks as text, Mermaid, DOT and SVG; hostile text in all of them. One transaction, rolled back.
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
CREATE FUNCTION pg_temp.workflow(name text, number integer, definition jsonb, revision integer DEFAULT 3) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    id uuid := ('00000000-0000-7000-8000-00000000c0' || lpad(number::text, 2, '0'))::uuid;
    tenant uuid := (SELECT t.id FROM goya.tenants t WHERE t.name = 'regress-a');
BEGIN
    INSERT INTO goya.workflows (id, tenant_id, name, revision, draft, owner_role) VALUES (id, tenant, name, revision, definition, 'regress_alice');
    INSERT INTO goya.workflow_revisions (workflow_id, revision, tenant_id, definition, resolved) SELECT id, revision, tenant, definition, definition WHERE revision IS NOT NULL;
END;
$$;
SELECT pg_temp.workflow('film', 1, '{
  "description": "probe, look at every frame,\nlisten, ask, publish",
  "context": {"vars": {"tone": {}}, "shared": {"scores": {}, "log": {}}},
  "nodes": [
    {"key": "probe", "kind": "sql", "function": "media.probe", "operator": "ffprobe", "version": 2, "retry": {"max_attempts": 3, "backoff": "linear"}, "timeout": "10s"},
    {"key": "is_video", "kind": "condition", "when": "$.nodes.probe.output.kind == \"video\""},
    {"key": "frames", "kind": "map", "over": "{{ nodes.probe.output.frames }}", "node": {"kind": "http", "method": "POST", "url": "https://vision.example/"}},
    {"key": "sound", "kind": "http", "url": "https://asr.example/v1?a=1&b=<2>", "price": {"name": "asr"}},
    {"key": "image", "kind": "noop"},
    {"key": "joined", "kind": "transform", "output": {}},
    {"key": "review", "kind": "approval", "message": "Publish \"{{ input.title }}\" & go?"},
    {"key": "publish", "kind": "sql", "function": "media.publish", "compensate": {"kind": "sql", "function": "media.unpublish"}},
    {"key": "alarm", "kind": "workflow", "workflow": "alarm"},
    {"key": "done", "kind": "noop", "join": "any"}],
  "edges": [
    {"from": "probe", "to": "is_video"}, {"from": "is_video", "to": "frames", "case": "true"}, {"from": "is_video", "to": "sound", "case": "true"},
    {"from": "is_video", "to": "image", "case": "false"}, {"from": "frames", "to": "joined"}, {"from": "sound", "to": "joined"},
    {"from": "joined", "to": "review"}, {"from": "review", "to": "publish", "when": "$.nodes.review.output.approved == true"},
    {"from": "frames", "to": "alarm", "on": "failure"}, {"from": "publish", "to": "done", "on": "always"}, {"from": "image", "to": "done"}]}');
SELECT pg_temp.workflow('hostile', 2, '{"nodes": [{"key": "a\"]</text><script>alert(1)</script>", "kind": "sql", "function": "x\\\"; }\u0001"},
    {"key": "b`#;", "kind": "http", "url": "--> |x| \"\n%% ]"}], "edges": [{"from": "a\"]</text><script>alert(1)</script>", "to": "b`#;", "when": "\"|\" </svg> \\"}]}');
-- A draft with mistakes is drawn as far as it goes: a cycle, an edge to nowhere, a node without a kind.
SELECT pg_temp.workflow('broken', 3, '{"nodes": [{"key": "a"}, {"key": "b", "kind": "noop"}, {"key": "c", "kind": "noop"}, {"kind": "noop"}, 7],
    "edges": [{"from": "a", "to": "b"}, {"from": "b", "to": "c"}, {"from": "c", "to": "b"}, {"from": "c", "to": "nowhere"}, {"from": "a", "to": "a"}, 7], "context": 3}', NULL);
SELECT pg_temp.workflow('empty', 4, '{}', NULL);
SELECT pg_temp.workflow('wide', 5, (SELECT jsonb_build_object('nodes', (SELECT jsonb_agg(jsonb_build_object('key', 'n' || i, 'kind', 'noop')) FROM generate_series(0, 399) i),
    'edges', (SELECT jsonb_agg(jsonb_build_object('from', 'n' || i / 3, 'to', 'n' || i)) FROM generate_series(1, 399) i WHERE i / 3 <> i))));

INSERT INTO goya.tasks (id, tenant_id, workflow_id, revision, status, run_as, trace_id, active, waiting, last_seq, started_seq, created_at, started_at, finished_at)
VALUES (:'task', :'tenant', '00000000-0000-7000-8000-00000000c001', 3, 'failed', 'regress_alice', 'trace', 0, 0, 30, 2, '2026-01-01 10:00:00Z', '2026-01-01 10:00:00Z', '2026-01-01 10:00:06Z');
UPDATE goya.tasks SET error = '{"code": "P0001", "message": "no\nentry"}', finished_seq = 30 WHERE id = :'task';
INSERT INTO goya.node_runs (task_id, tenant_id, node, item, attempt, status, seq, started_at, finished_at, error, cost)
SELECT :'task', :'tenant', n, i, a, s::goya.node_run_status, q, '2026-01-01 10:00:00Z'::timestamptz + f * interval '1 ms', '2026-01-01 10:00:00Z'::timestamptz + t * interval '1 ms', e::jsonb, c
FROM (VALUES ('probe', 0, 1, 'failed', 3, 0, 500, '{"code": "40001", "message": "again & <now>"}', NULL::bigint), ('probe', 0, 2, 'succeeded', 4, 1000, 1500, NULL, NULL),
             ('is_video', 0, 1, 'succeeded', 5, 1500, 1500.2, NULL, NULL), ('image', 0, 1, 'skipped', 6, NULL, 1501, NULL, NULL), ('sound', 0, 1, 'succeeded', 20, 1500, 4000, NULL, 12000000),
             ('frames', 0, 1, 'succeeded', 21, 1500, 4500, NULL, NULL), ('alarm', 0, 1, 'skipped', 22, NULL, 4500, NULL, NULL), ('joined', 0, 1, 'succeeded', 23, 4500, 4501, NULL, NULL),
             ('review', 0, 1, 'failed', 24, 4501, 6000, '{"code": "P0001", "message": "no\nentry"}', NULL)) v(n, i, a, s, q, f, t, e, c);
INSERT INTO goya.node_runs (task_id, tenant_id, node, item, attempt, status, seq, started_at, finished_at)
SELECT :'task', :'tenant', 'frames.item', i, 1, CASE WHEN i = 3 THEN 'failed' ELSE 'succeeded' END::goya.node_run_status, 7 + i, '2026-01-01 10:00:01.5Z'::timestamptz + i * interval '400 ms',
       '2026-01-01 10:00:02.5Z'::timestamptz + i * interval '400 ms' FROM generate_series(0, 5) i;

\echo == text
SET LOCAL ROLE regress_alice;
SELECT goya.explain_workflow('film');
SELECT goya.explain_workflow('broken');
SELECT goya.explain_workflow('empty');
SELECT goya.timeline(:'task', 48);
SELECT count(*), bool_and(char_length(l) < 320) FROM goya.timeline(:'task', 100000) l;
\echo == mermaid
SELECT goya.graph('film');
SELECT goya.graph(:'task', 'mermaid');
SELECT goya.graph('hostile'), goya.graph('empty');
\echo == dot
SELECT goya.graph(:'task', 'dot');
SELECT goya.graph('hostile', 'dot');
\echo == svg
-- All are well-formed XML without a script, and say what is in them.
CREATE FUNCTION pg_temp.svg(what text) RETURNS xml LANGUAGE sql AS $$ SELECT xmlparse(document goya.graph(what, 'svg')) $$;
CREATE FUNCTION pg_temp.found(picture xml, path text) RETURNS text[] LANGUAGE sql AS $$
    SELECT xpath(path, picture, ARRAY[ARRAY['s', 'http://www.w3.org/2000/svg']])::text[] $$;
SELECT what, cardinality(pg_temp.found(pg_temp.svg(what), '//s:g')) AS nodes, cardinality(pg_temp.found(pg_temp.svg(what), '/s:svg/s:path')) AS edges,
       cardinality(pg_temp.found(pg_temp.svg(what), '//s:script')) AS scripts, pg_temp.found(pg_temp.svg(what), '/s:svg/s:title/text()')
FROM (VALUES ('film'), ('hostile'), ('broken'), ('empty'), ('wide'), ('00000000-0000-7000-8000-000000000001')) w(what) ORDER BY what;
SELECT unnest(pg_temp.found(pg_temp.svg(:'task'), '//s:text/text()'));
SELECT unnest(pg_temp.found(pg_temp.svg(:'task'), '//s:g[2]/s:title/text()'));
-- No two boxes overlap, however wide the workflow is.
WITH boxes AS (SELECT (regexp_matches(goya.graph('wide', 'svg'), '</title><rect x="([\d.]+)" y="([\d.]+)" width="(\d+)" height="(\d+)"', 'g'))::numeric[] AS b)
SELECT count(*), count(DISTINCT b[1]) AS columns, (SELECT count(*) FROM boxes p, boxes q WHERE p.b <> q.b AND p.b[1] = q.b[1] AND p.b[2] < q.b[2] AND p.b[2] + p.b[4] > q.b[2]) AS overlaps FROM boxes;
SELECT pg_typeof(goya.task_svg(:'task')), goya.task_svg(:'task') = goya.graph(:'task', 'svg');
\echo == refused
SET LOCAL ROLE regress_bob;
SELECT pg_temp.try(format(c, :'task')) FROM (VALUES (1, 'SELECT goya.timeline(%L)'), (2, 'SELECT goya.graph(%L)'), (3, 'SELECT goya.task_svg(%L)'),
    (4, $$SELECT goya.graph('film')$$), (5, $$SELECT goya.explain_workflow('film')$$), (6, $$SELECT goya.graph('film', 'png')$$), (7, 'SELECT goya.graph(NULL)'), (8, 'SELECT goya.task_svg(NULL)'),
    (9, 'SELECT goya.timeline(NULL)')) x(n, c) ORDER BY n;
SET LOCAL ROLE regress_alice;
SELECT pg_temp.try($$ SELECT goya.explain_workflow('film', 9) $$);
ROLLBACK;
