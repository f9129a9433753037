-- operators: registering, versions, and every refusal. One transaction, rolled back.
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
CREATE ROLE regress_reader;
GRANT goya_user TO regress_alice, regress_bob, regress_reader;
SELECT goya.create_tenant('regress-a') IS NOT NULL, goya.create_tenant('regress-b') IS NOT NULL;
SELECT goya.add_member('regress_alice', 'regress-a'), goya.add_member('regress_bob', 'regress-b'), goya.add_member('regress_reader', 'regress-a', 'reader');
CREATE SCHEMA regress_app;
GRANT USAGE ON SCHEMA regress_app TO PUBLIC;
CREATE FUNCTION regress_app.score(input jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT input $$;

SET LOCAL ROLE regress_alice;
SELECT goya.create_operator('score', 'sql', '{"function": "regress_app.score"}', description => 'scores', category => 'analysis') IS NOT NULL;
SELECT goya.create_operator('media.probe', 'http',
    '{"method": "POST", "url": "http://media.example/probe", "body": "{{ params }}", "success": "$.output.status < 300", "output": "$.output.body", "retry": {"max_attempts": 3}, "timeout": "5s"}',
    input_schema => '{"type": "object", "required": ["uri"]}', output_schema => '{"type": "object"}', kind => 'skill', idempotent => false) IS NOT NULL;
SELECT o.name, o.category, o.kind, o.status, o.active_version, o.owner_role, o.description, v.version, v.mode, v.idempotent, v.input_schema
FROM goya.operators o JOIN goya.operator_versions v ON v.operator_id = o.id ORDER BY 1;

-- Refused.
SELECT pg_temp.try($$ SELECT goya.create_operator('score', 'sql', '{"function": "regress_app.score"}') $$);
SELECT pg_temp.try($$ SELECT goya.create_operator('1 score', 'sql', '{"function": "regress_app.score"}') $$);
SELECT pg_temp.try($$ SELECT goya.create_operator(NULL, 'sql', '{"function": "regress_app.score"}') $$);
SELECT pg_temp.try($$ SELECT goya.create_operator('x', 'cobol', '{}') $$);
SELECT pg_temp.try($$ SELECT goya.create_operator('x', NULL, '{}') $$);
SELECT pg_temp.try($$ SELECT goya.create_operator('x', 'sql', '{}') $$);
SELECT pg_temp.try($$ SELECT goya.create_operator('x', 'sql', NULL) $$);
SELECT pg_temp.try($$ SELECT goya.create_operator('x', 'sql', '"f"') $$);
SELECT pg_temp.try($$ SELECT goya.create_operator('x', 'sql', '{"function": 5}') $$);
SELECT pg_temp.try($$ SELECT goya.create_operator('x', 'sql', '{"function": "regress_app.score", "url": "http://x", "body": 1}') $$);
SELECT pg_temp.try($$ SELECT goya.create_operator('x', 'http', '{"method": "GET"}') $$);
SELECT pg_temp.try($$ SELECT goya.create_operator('x', 'http', '{"url": "http://x", "key": "k"}') $$);
SELECT pg_temp.try($$ SELECT goya.create_operator('x', 'sql', '{"function": "regress_app.score"}', category => 'magic') $$);
SELECT pg_temp.try($$ SELECT goya.create_operator('x', 'sql', '{"function": "regress_app.score"}', kind => 'magic') $$);
-- The validator's and the schema checker's own words are tested with them.
SELECT left(pg_temp.try($$ SELECT goya.create_operator('x', 'sql', '{"function": "regress_app.absent"}') $$), 68);
SELECT left(pg_temp.try($$ SELECT goya.create_operator('x', 'sql', '{"function": "regress_app.score"}', input_schema => '{"type": "sometimes"}') $$), 5);
SELECT left(pg_temp.try($$ SELECT goya.create_operator('x', 'sql', '{"function": "regress_app.score"}', output_schema => '{"type": 7}') $$), 5);
SELECT count(*) FROM goya.operators WHERE name = 'x';

-- Versions.
SELECT goya.add_operator_version('media.probe', '{"url": "http://media.example/v2/probe"}');
SELECT goya.add_operator_version('media.probe', '{"function": "regress_app.score"}', mode => 'sql', idempotent => true, output_schema => '{}', activate => false);
SELECT v.version, v.mode, v.config, v.input_schema, v.output_schema, v.idempotent, v.version = o.active_version
FROM goya.operators o JOIN goya.operator_versions v ON v.operator_id = o.id WHERE o.name = 'media.probe' ORDER BY 1;
SELECT pg_temp.try($$ SELECT goya.activate_operator_version('media.probe', 1) $$);
SELECT active_version, row_version FROM goya.operators WHERE name = 'media.probe';
SELECT pg_temp.try($$ SELECT goya.activate_operator_version('media.probe', 9) $$);
SELECT pg_temp.try($$ SELECT goya.activate_operator_version('absent', 1) $$);
SELECT pg_temp.try($$ SELECT goya.add_operator_version('absent', '{"function": "regress_app.score"}') $$);
SELECT pg_temp.try($$ SELECT goya.add_operator_version('score', '{"url": "http://x"}') $$);
SELECT pg_temp.try($$ SELECT goya.add_operator_version('score', NULL) $$);

-- Their life: what an operator version may become, and how that is refused.
SELECT from_status, to_status FROM goya.operator_moves ORDER BY 1, 2;
SELECT goya.create_operator('ocr', 'worker', '{"queue": "ocr"}', status => 'draft', type => 'read', origin => 'import', tags => '{text}', dependencies => '["score", {"operator": "media.probe", "version": 9}]') IS NOT NULL;
SELECT pg_temp.try($$ SELECT goya.publish_operator('ocr') $$);
SELECT depends_on, version FROM goya.operator_dependencies ORDER BY 1;
SELECT pg_temp.try($$ SELECT goya.set_operator_dependencies('ocr', '[{"operator": "score"}]') $$), pg_temp.try($$ SELECT goya.publish_operator('ocr') $$);
SELECT pg_temp.try($$ SELECT goya.set_operator_status('ocr', 'draft') $$);
SELECT pg_temp.try($$ SELECT goya.set_operator_status('ocr', 'gone') $$);
SELECT pg_temp.try($$ SELECT goya.rollback_operator('ocr') $$);
SELECT pg_temp.try($$ SELECT goya.add_operator_version('ocr', '{"queue": "ocr2"}') $$), pg_temp.try($$ SELECT goya.rollback_operator('ocr') $$);
SELECT o.name, o.type, o.origin, o.tags, o.status, o.active_version, v.version, v.mode, v.config, v.status FROM goya.operators o JOIN goya.operator_versions v ON v.operator_id = o.id WHERE o.name = 'ocr' ORDER BY v.version;
SELECT pg_temp.try($$ SELECT goya.create_operator('x', 'worker', '{}') $$);
SELECT pg_temp.try($$ SELECT goya.create_operator('x', 'ai_model', '{"modell": "m"}') $$);
SELECT pg_temp.try($$ SELECT goya.create_operator('x', 'mcp', '{"server": "s", "tool": 5, "input": {}}') $$);
SELECT pg_temp.try($$ SELECT goya.create_operator('x', 'cli', '{"program": "ffprobe"}', status => 'archived') $$);
SELECT name, mode, category FROM goya.operator_templates WHERE origin = 'builtin' ORDER BY 1;
SELECT pg_temp.try($$ SELECT goya.install_template('worker.queue', 'queue', '{"lease": true}') $$);

-- Readers and other tenants.
SET LOCAL ROLE regress_reader;
SELECT pg_temp.try($$ SELECT goya.create_operator('x', 'sql', '{"function": "regress_app.score"}') $$);
SELECT pg_temp.try($$ SELECT goya.activate_operator_version('media.probe', 2) $$);
SET LOCAL ROLE regress_bob;
SELECT pg_temp.try($$ SELECT goya.add_operator_version('score', '{"function": "regress_app.score"}') $$);
SELECT pg_temp.try($$ SELECT goya.activate_operator_version('media.probe', 2) $$);
SELECT goya.create_operator('score', 'sql', '{"function": "regress_app.score"}') IS NOT NULL;
RESET ROLE;
SELECT t.name, count(*) FROM goya.operators o JOIN goya.tenants t ON t.id = o.tenant_id WHERE t.name LIKE 'regress%' GROUP BY 1 ORDER BY 1;
ROLLBACK;
