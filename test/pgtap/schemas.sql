-- schemas.sql: JSON Schemas that refer to others: what goya.register_schema takes, who reaches it, when a change is seen, and that what was
-- published stays as it was.

\set file schemas
\ir lib/tasks.psql
SELECT no_plan();
CREATE FUNCTION pg_temp.says(schema jsonb, instance jsonb) RETURNS text LANGUAGE sql AS
$$ SELECT pg_temp.try(format('SELECT coalesce(string_agg(e.path || '' '' || e.message || '' '' || e.schema_path, ''; ''), ''fine'') FROM goya.check_schema(%L, %L) e', schema, instance)) $$;
CREATE FUNCTION pg_temp.detail(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    detail text;
BEGIN
    PERFORM pg_temp.become(true);
    EXECUTE statement;
    PERFORM pg_temp.become(false);
    RETURN 'fine';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
    RETURN SQLSTATE || ' ' || detail;
END $$;

-- ---- registering ----

SELECT is(pg_temp.detail($$SELECT goya.check_schema('{"items": {"$ref": "https://example.com/clip.json"}}', '[]')$$),
          '22023 no schema "https://example.com/clip.json" is known, register it with goya.register_schema or copy it into "definitions" and refer to it there (at #/items/$ref).',
          'what is not registered is refused, and what to do is said');
SELECT is(pg_temp.try($$SELECT goya.register_schema('https://example.com/clip.json#', '{"type": "object", "required": ["uri"], "properties": {"in": {"$ref": "time.json"}}}')$$), '', 'a document may refer to one that comes later');
SELECT is(pg_temp.says('{"items": {"$ref": "https://example.com/clip.json"}}', '[]'), '22023: schema is not a valid JSON Schema', 'which is missed when it is used');
SELECT is(pg_temp.try($$SELECT goya.register_schema('https://example.com/time.json', '{"type": "number", "minimum": 0}')$$), '', 'then it is there');
SELECT is(pg_temp.says('{"items": {"$ref": "https://example.com/clip.json"}}', '[{"in": -1}]'),
          '/0 key "uri" is missing https://example.com/clip.json#/required; /0/in must be at least 0, got -1 https://example.com/time.json#/minimum', 'references are followed from document to document');
SELECT is(pg_temp.try('SELECT string_agg(uri, '' '' ORDER BY uri) FROM goya.schemas'), 'https://example.com/clip.json https://example.com/time.json', 'they can be read');
SELECT is(pg_temp.try(format('SELECT goya.register_schema(%L, %L)', uri, document)), said, what) FROM (VALUES
    ('clip.json', '{}', '22023: bad URI of a schema', 'a relative URI'),
    ('https://example.com/a#b', '{}', '22023: bad URI of a schema', 'a fragment'),
    ('https://example.com/' || repeat('a', 1000), '{}', '22023: bad URI of a schema', 'a long URI'),
    (NULL, '{}', '22023: bad URI of a schema', 'no URI'),
    ('http://json-schema.org/draft-07/schema#', '{}', '22023: the schemas of json-schema.org are built in', 'a metaschema'),
    ('urn:a', 'true', '22023: bad schema document', 'no object'),
    ('urn:a', NULL, '22023: bad schema document', 'no document'),
    ('urn:a', '{"$documents": {}}', '22023: bad schema document', 'documents in a document'),
    ('urn:a', '{"type": "txt"}', '22023: schema is not a valid JSON Schema', 'a wrong schema'),
    ('urn:a', '{"$ref": "#/definitions/none"}', '22023: schema is not a valid JSON Schema', 'a reference to what is not in itself')) AS v (uri, document, said, what);
SELECT is(pg_temp.try($$SELECT goya.drop_schema('urn:none')$$), 'PT404: schema not found', 'what is not there cannot be dropped');

-- ---- whose they are ----

SELECT format('DROP ROLE IF EXISTS %1$I_other', :'role') \gexec
SELECT format('CREATE ROLE %1$I_other', :'role') \gexec
SELECT format('GRANT goya_user TO %1$I_other', :'role') \gexec
SELECT goya.create_tenant('schemas-other') WHERE NOT EXISTS (SELECT FROM goya.tenants WHERE name = 'schemas-other') \g /dev/null
SELECT goya.add_member(:'role' || '_other', 'schemas-other') \g /dev/null
SELECT set_config('test.role', :'role' || '_other', false) \g /dev/null
SELECT is(pg_temp.try('SELECT count(*) FROM goya.schemas'), '0', 'another tenant sees none');
SELECT is(pg_temp.says('{"$ref": "https://example.com/time.json"}', '-1'), '22023: schema is not a valid JSON Schema', 'and reaches none');
SELECT is(pg_temp.try($$SELECT goya.register_schema('https://example.com/time.json', '{"type": "string"}')$$), '', 'it may use the URI itself');
SELECT is(pg_temp.says('{"$ref": "https://example.com/time.json"}', '-1'), ' expected string, got number https://example.com/time.json#/type', 'for its own');
SELECT set_config('test.role', :'role', false) \g /dev/null
SELECT is(pg_temp.says('{"$ref": "https://example.com/time.json"}', '-1'), ' must be at least 0, got -1 https://example.com/time.json#/minimum', 'the first tenant''s is untouched');

-- One call site, through changes, roles and transactions.
CREATE FUNCTION pg_temp.one_site(instance jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    said text;
BEGIN
    said := (SELECT e.message FROM goya.check_schema('{"$ref": "https://example.com/time.json"}', instance) e);
    RETURN coalesce(said, 'fine');
EXCEPTION WHEN invalid_parameter_value THEN
    RETURN 'refused';
END $$;
CREATE FUNCTION pg_temp.as_role(name text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('role', name, true); RETURN pg_temp.one_site('-1'); END $$;
BEGIN;
SELECT is(pg_temp.as_role(current_setting('test.role')), 'must be at least 0, got -1', 'one call site: the first tenant''s document');
SELECT is(pg_temp.as_role(current_setting('test.role') || '_other'), 'expected string, got number', 'the other''s');
CREATE FUNCTION pg_temp.switch(name text) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('role', name, true); RETURN '-1'; END $$;
SELECT is((SELECT string_agg(e.message, '; ' ORDER BY v.n)
           FROM (VALUES (1, current_setting('test.role')), (2, current_setting('test.role')), (3, current_setting('test.role') || '_other'), (4, current_setting('test.role'))) AS v (n, r),
                LATERAL goya.check_schema('{"$ref": "https://example.com/time.json"}', pg_temp.switch(v.r)) e),
          'must be at least 0, got -1; must be at least 0, got -1; expected string, got number; must be at least 0, got -1', 'also within one statement, where the compiled schema is kept');
SET LOCAL ROLE :role;
SAVEPOINT a;
SELECT goya.register_schema('https://example.com/time.json', '{"maximum": -5}') \g /dev/null
SELECT is(pg_temp.one_site('-1'), 'must be at most -5, got -1', 'a change of this transaction is seen');
ROLLBACK TO a;
SELECT is(pg_temp.one_site('-1'), 'must be at least 0, got -1', 'and no longer when it is rolled back');
SELECT goya.drop_schema('https://example.com/time.json') \g /dev/null
SELECT is(pg_temp.one_site('-1'), 'refused', 'what is dropped is gone');
SET LOCAL ROLE NONE;
SELECT is(pg_temp.one_site('-1'), 'refused', 'a caller without a tenant has none');
ROLLBACK;
SET ROLE :role;
SELECT is(pg_temp.one_site('-1'), 'must be at least 0, got -1', 'after all that the document is as before');
RESET ROLE;

-- ---- what is published ----

SELECT pg_temp.define('clips', '{"input": {"type": "object", "properties": {"clips": {"items": {"$ref": "https://example.com/clip.json"}}}},
    "nodes": [{"key": "a", "kind": "transform", "output": "{{ input.clips }}"},
              {"key": "ask", "kind": "approval", "message": "?", "form": {"properties": {"at": {"$ref": "https://example.com/time.json"}}}}],
    "edges": [{"from": "a", "to": "ask"}]}');
SELECT is(pg_temp.try($$SELECT goya.run('clips', '{"clips": [{"in": -1}]}')$$), '22023: input does not fit the workflow''s input schema', 'the input is checked by what the schema refers to');
SELECT is(pg_temp.try($$SELECT string_agg(k, ' ' ORDER BY k) FROM goya.workflow_revisions r JOIN goya.workflows w ON w.id = r.workflow_id, jsonb_object_keys(r.resolved #> '{input,$documents}') k WHERE w.name = 'clips' AND r.revision = w.revision$$),
          'https://example.com/clip.json https://example.com/time.json', 'the revision carries along what it refers to');
SELECT is(pg_temp.try($$SELECT (definition #> '{input,$documents}') IS NULL FROM goya.workflow_revisions r JOIN goya.workflows w ON w.id = r.workflow_id WHERE w.name = 'clips' AND r.revision = w.revision$$), 'true', 'its definition is as it was written');
SELECT is(pg_temp.try($$SELECT goya.register_schema('https://example.com/clip.json', '{"required": ["never"]}')$$), '', 'then a document is replaced');
SELECT is(pg_temp.try($$SELECT goya.drop_schema('https://example.com/time.json')$$), '', 'and the other dropped');
SELECT pg_temp.run('published', $$SELECT goya.run('clips', '{"clips": [{"uri": "x", "in": 1}]}')$$);
SELECT is(pg_temp.until($$SELECT pg_temp.try('SELECT form -> ''$documents'' IS NOT NULL FROM goya.approvals WHERE status = ''pending''')$$, 'true'), 'true', 'what was published goes on as it was');
SELECT is(pg_temp.try(format('SELECT goya.approve(%L, ''ask'', true, ''{"at": -1}'')', pg_temp.task_id('published'))), '22023: the response does not fit the form', 'and so does its form');
SELECT is(pg_temp.try(format('SELECT (goya.approve(%L, ''ask'', true, ''{"at": 1}'')).status', pg_temp.task_id('published'))), 'approved', 'which takes what fits');
SELECT matches(pg_temp.outcome('published'), '^succeeded', 'the task ends well');
SELECT is(pg_temp.try($$SELECT string_agg(code || ' ' || path, ', ' ORDER BY path) FROM goya.validate_workflow((SELECT draft FROM goya.workflows WHERE name = 'clips'))$$), 'unknown_schema /nodes/1/form', 'the draft now refers to what is not there');
SELECT is(pg_temp.try($$SELECT goya.publish_workflow('clips')$$), '22023: workflow "clips" has 1 error', 'and cannot be published');
CREATE FUNCTION regress_schemas.f(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1';
SELECT matches(pg_temp.try($$SELECT goya.create_operator('schemas.op' || extract(epoch FROM clock_timestamp())::bigint, 'sql', '{"function": "regress_schemas.f"}', '{"$ref": "https://example.com/clip.json"}')$$), '^[0-9a-f-]{36}$', 'an operator refers to a document');
SELECT is(pg_temp.try($$SELECT input_schema FROM goya.operator_versions v ORDER BY created_at DESC LIMIT 1$$), '{"$ref": "https://example.com/clip.json", "$documents": {"https://example.com/clip.json": {"required": ["never"]}}}', 'its version carries it along');

-- ---- limits ----

SELECT is(pg_temp.try($$SELECT count(goya.register_schema('urn:big:' || i, jsonb_build_object('description', repeat('x', 300000), 'allOf', jsonb_build_array(jsonb_build_object('$ref', 'urn:big:' || i + 1))))) FROM generate_series(1, 4) i$$), '4', 'large documents');
SELECT is(pg_temp.says('{"$ref": "urn:big:1"}', '1'), '22023: schema is too large', 'too much together is refused');
SELECT is(pg_temp.try($$SELECT count(goya.register_schema('urn:chain:' || i, jsonb_build_object('items', jsonb_build_object('$ref', 'urn:chain:' || i + 1)))) FROM generate_series(1, 400) i$$), '400', 'many documents, each in another');
SELECT is(pg_temp.try($$SELECT goya.register_schema('urn:chain:401', '{}')$$), '', 'with an end');
SELECT is(pg_temp.says('{"$ref": "urn:chain:1"}', '1'), '22023: schema refers to too many documents', 'are too many');
SELECT is(pg_temp.says('{"$ref": "urn:chain:300"}', '1'), 'fine', 'fewer are not');

SELECT pg_temp.try('SELECT count(goya.drop_schema(uri)) FROM goya.schemas') \g /dev/null
SELECT set_config('test.role', :'role' || '_other', false) \g /dev/null
SELECT pg_temp.try('SELECT count(goya.drop_schema(uri)) FROM goya.schemas') \g /dev/null
SELECT set_config('test.role', :'role', false) \g /dev/null
SELECT goya.remove_member(:'role' || '_other') \g /dev/null
SELECT format('DROP ROLE %1$I_other', :'role') \gexec
\ir lib/finish.psql
