-- workflows: drafts, publishing with pinned operators, rollback, diff, export, enabling, deleting; and every refusal. Rolled back.
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
SELECT goya.create_tenant('regress-a') IS NOT NULL, goya.create_tenant('regress-b') IS NOT NULL;
SELECT goya.add_member('regress_alice', 'regress-a'), goya.add_member('regress_bob', 'regress-a'), goya.add_member('regress_carol', 'regress-b'),
       goya.add_member('regress_reader', 'regress-a', 'reader');
CREATE SCHEMA regress_app;
GRANT USAGE ON SCHEMA regress_app TO PUBLIC;
CREATE FUNCTION regress_app.score(input jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT input $$;
CREATE FUNCTION regress_app.score2(input jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT input $$;

SET LOCAL ROLE regress_alice;
-- create_workflow
SELECT goya.create_workflow('cut', '{"nodes": [{"key": "start", "kind": "noop"}]}', 'cuts things', '{media}') IS NOT NULL;
SELECT name, description, tags, enabled, revision, visibility, owner_role, row_version FROM goya.workflows WHERE name = 'cut';
SELECT pg_temp.try($$ SELECT goya.create_workflow('cut', '{"nodes": []}') $$);
SELECT pg_temp.try($$ SELECT goya.create_workflow('', '{"nodes": []}') $$);
SELECT pg_temp.try($$ SELECT goya.create_workflow(NULL, '{"nodes": []}') $$);
SELECT pg_temp.try($$ SELECT goya.create_workflow('x', '[]') $$);
SELECT pg_temp.try($$ SELECT goya.create_workflow('x', NULL) $$);
SELECT pg_temp.try($$ SELECT goya.create_workflow('x', jsonb_build_object('nodes', repeat('x', 1048576))) $$);
SELECT pg_temp.try($$ SELECT goya.create_workflow('x', '{"nodes": []}', visibility => 'public') $$);
SELECT left(pg_temp.try($$ SELECT goya.create_workflow('x', '{"nodes": [{"key": "a", "kind": "dance"}]}', publish => true) $$), 57);
SELECT count(*) FROM goya.workflows WHERE name = 'x';

-- save_draft
SELECT goya.save_draft('cut', '{"nodes": [{"key": "start", "kind": "noop"}, {"key": "end", "kind": "noop"}], "edges": [{"from": "start", "to": "end"}]}');
SELECT goya.save_draft('cut', '{"nodes": [{"key": "start", "kind": "dance"}]}', row_version => 2);
SELECT pg_temp.try($$ SELECT goya.save_draft('cut', '{"nodes": []}', row_version => 2) $$);
SELECT pg_temp.try($$ SELECT goya.save_draft('absent', '{"nodes": []}') $$);
SELECT pg_temp.try($$ SELECT goya.save_draft('cut', '7') $$);

-- publish_workflow: refused whole, with all errors (up to 20 lines); then revisions.
SELECT left(pg_temp.try($$ SELECT goya.publish_workflow('cut') $$), 59);
SELECT goya.save_draft('cut', jsonb_build_object('nodes', (SELECT jsonb_agg(jsonb_build_object('key', 'n' || n, 'kind', 'dance')) FROM generate_series(1, 30) n)));
SELECT split_part(report, ' | ', 1), array_length(string_to_array(split_part(report, ' | ', 2), E'\n'), 1), report LIKE E'%\n… and 10 more |%'
FROM pg_temp.try($$ SELECT goya.publish_workflow('cut') $$) report;
SELECT revision FROM goya.workflows WHERE name = 'cut';
SELECT pg_temp.try($$ SELECT goya.rollback_workflow('cut') $$);
SELECT goya.save_draft('cut', '{"nodes": [{"key": "start", "kind": "noop"}]}') > 0;
SELECT goya.publish_workflow('cut', 'first');
SELECT goya.save_draft('cut', '{"nodes": [{"key": "start", "kind": "noop", "price": "regress-unpriced"}, {"key": "end", "kind": "noop"}, {"key": "oops", "kind": "noop"}], "edges": [{"from": "start", "to": "end"}, {"from": "start", "to": "oops", "on": "failure"}], "output": {"a": 1}}') > 0;
-- Warnings do not matter.
SELECT count(*) > 0 FROM goya.workflows w, goya.validate_workflow(w.draft) v WHERE w.name = 'cut' AND v.severity = 'warning';
SELECT goya.publish_workflow('cut');
SELECT r.revision, r.note, r.published_by, r.resolved = r.definition FROM goya.workflow_revisions r JOIN goya.workflows w ON w.id = r.workflow_id AND w.name = 'cut' ORDER BY 1;
SELECT pg_temp.try($$ SELECT goya.publish_workflow('absent') $$);

-- Operators are pinned, in nodes, bodies of maps and compensations; the node's own fields win.
SELECT goya.create_operator('score', 'sql', '{"function": "regress_app.score", "timeout": "9s"}', input_schema => '{"type": "object"}', idempotent => false) IS NOT NULL;
SELECT goya.create_operator('probe', 'http', '{"url": "http://media.example/probe"}') IS NOT NULL;
SELECT goya.create_workflow('pinned', '{"nodes": [
    {"key": "a", "kind": "operator", "operator": "score", "timeout": "1s", "compensate": {"kind": "operator", "operator": "probe"}},
    {"key": "b", "kind": "map", "over": "{{ input.list }}", "node": {"kind": "operator", "operator": "score", "version": 1, "idempotent": true}},
    {"key": "c", "kind": "transform", "output": {"kind": "operator", "operator": "not one"}}]}', publish => true) IS NOT NULL;
SELECT goya.add_operator_version('score', '{"function": "regress_app.score2"}');
SELECT goya.publish_workflow('pinned');
SELECT r.revision, n ->> 'key', n - 'key' - 'compensate' - 'node', n -> 'compensate', n -> 'node'
FROM goya.workflow_revisions r JOIN goya.workflows w ON w.id = r.workflow_id AND w.name = 'pinned', jsonb_array_elements(r.resolved -> 'nodes') n ORDER BY 1, 2;
SELECT goya.create_workflow('unknown operator', '{"nodes": [{"key": "a", "kind": "operator", "operator": "absent"}]}') IS NOT NULL;
SELECT report LIKE '22023 workflow "unknown operator" has 1 error | unknown_operator at /nodes/0%' FROM pg_temp.try($$ SELECT goya.publish_workflow('unknown operator') $$) report;

-- rollback_workflow
SELECT goya.rollback_workflow('cut');
SELECT pg_temp.try($$ SELECT goya.rollback_workflow('cut') $$);
SELECT goya.rollback_workflow('cut', 2);
SELECT goya.rollback_workflow('cut', 2);
SELECT pg_temp.try($$ SELECT goya.rollback_workflow('cut', 9) $$);
SELECT pg_temp.try($$ SELECT goya.rollback_workflow('absent') $$);
RESET ROLE;
SELECT e.type, e.data FROM goya.events e JOIN goya.workflows w ON w.id = e.subject_id WHERE w.name = 'cut' ORDER BY e.id;
SET LOCAL ROLE regress_alice;

-- diff_workflow, export_workflow
SELECT * FROM goya.diff_workflow('cut', 1, 2);
SELECT count(*) FROM goya.diff_workflow('cut');
SELECT goya.save_draft('cut', '{"nodes": [{"key": "start", "kind": "noop", "label": "go", "timeout": 5}], "description": "new"}') > 0;
SELECT * FROM goya.diff_workflow('cut');
SELECT * FROM goya.diff_workflow('unknown operator');
SELECT pg_temp.try($$ SELECT goya.diff_workflow('cut', 9) $$);
SELECT pg_temp.try($$ SELECT goya.diff_workflow('absent') $$);
SELECT goya.export_workflow('cut', 1);
SELECT goya.export_workflow('unknown operator');
SELECT goya.create_workflow('copy', goya.export_workflow('cut'), publish => true) IS NOT NULL;
SELECT pg_temp.try($$ SELECT goya.export_workflow('cut', 9) $$);
SELECT pg_temp.try($$ SELECT goya.export_workflow('absent') $$);

-- enable, disable
SELECT goya.disable_workflow('cut');
SELECT goya.disable_workflow('cut');
SELECT enabled FROM goya.workflows WHERE name = 'cut';
SELECT goya.enable_workflow('cut');
SELECT enabled FROM goya.workflows WHERE name = 'cut';
SELECT pg_temp.try($$ SELECT goya.enable_workflow('absent') $$);
SELECT pg_temp.try($$ SELECT goya.disable_workflow('absent') $$);

-- Private, and shared with a role; other tenants; readers.
SELECT goya.create_workflow('secret', '{"nodes": [{"key": "start", "kind": "noop"}]}', visibility => 'private') IS NOT NULL;
SELECT goya.create_workflow('ours', '{"nodes": [{"key": "start", "kind": "noop"}]}', visibility => 'role', visible_roles => '{regress_bob}') IS NOT NULL;
SET LOCAL ROLE regress_bob;
SELECT pg_temp.try($$ SELECT goya.publish_workflow('secret') $$);
SELECT pg_temp.try($$ SELECT goya.export_workflow('secret') $$);
SELECT pg_temp.try($$ SELECT goya.delete_workflow('secret') $$);
SELECT goya.publish_workflow('ours');
SET LOCAL ROLE regress_carol;
SELECT pg_temp.try($$ SELECT goya.publish_workflow('cut') $$);
SELECT pg_temp.try($$ SELECT goya.save_draft('cut', '{}') $$);
SELECT pg_temp.try($$ SELECT goya.disable_workflow('cut') $$);
SELECT pg_temp.try($$ SELECT goya.export_workflow('cut') $$);
SELECT goya.create_workflow('cut', '{"nodes": []}') IS NOT NULL;
SET LOCAL ROLE regress_reader;
SELECT goya.export_workflow('cut', 1) ->> 'name';
SELECT pg_temp.try($$ SELECT goya.create_workflow('x', '{}') $$);
SELECT pg_temp.try($$ SELECT goya.save_draft('cut', '{}') $$);
SELECT pg_temp.try($$ SELECT goya.publish_workflow('cut') $$);
SELECT pg_temp.try($$ SELECT goya.rollback_workflow('cut') $$);
SELECT pg_temp.try($$ SELECT goya.enable_workflow('cut') $$);
SELECT pg_temp.try($$ SELECT goya.disable_workflow('cut') $$);
SELECT pg_temp.try($$ SELECT goya.delete_workflow('cut') $$);

-- delete_workflow: not with tasks.
SET LOCAL ROLE regress_alice;
SELECT goya.create_trigger('pinned', 'every', 'interval', every => '1 hour') IS NOT NULL;
SELECT goya.delete_workflow('pinned');
SELECT pg_temp.try($$ SELECT goya.delete_workflow('pinned') $$);
RESET ROLE;
SELECT count(*) FROM goya.workflow_revisions r WHERE r.workflow_id NOT IN (SELECT id FROM goya.workflows);
SELECT count(*) FROM goya.triggers t WHERE t.workflow_id NOT IN (SELECT id FROM goya.workflows);
SELECT goya_private.start_task(w.tenant_id, 'regress_alice', NULL, w.id, '{}', NULL, NULL, 0, NULL, NULL, NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL) IS NOT NULL
FROM goya.workflows w JOIN goya.tenants t ON t.id = w.tenant_id AND t.name = 'regress-a' WHERE w.name = 'ours';
SET LOCAL ROLE regress_alice;
SELECT pg_temp.try($$ SELECT goya.delete_workflow('ours') $$);
ROLLBACK;
