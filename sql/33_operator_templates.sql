-- 33_operator_templates.sql: operators made from templates.
--
-- Decided: a template is an operator with places for parameters. A string that is "${name}" becomes the parameter whatever its type, "…${name}…" its text; a field whose
-- whole value is a parameter that was not given, and has no default, is left out. "{{ paths }}" stay what they are: templates of the node. goya's own templates come with the
-- extension, and are not in a dump.
-- Must hold: an installed operator knows nothing of its template: changing a template changes no operator.

-- value with its parameters put in; null: it is a parameter that is not there.
CREATE FUNCTION goya_private.fill_template(value jsonb, parameters jsonb) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    content text;
    hit text[];
BEGIN
    CASE jsonb_typeof(value)
        WHEN 'object' THEN
            RETURN (SELECT coalesce(jsonb_object_agg(e.key, e.filled) FILTER (WHERE e.filled IS NOT NULL), '{}')
                    FROM (SELECT x.key, goya_private.fill_template(x.value, parameters) AS filled FROM jsonb_each(fill_template.value) x) e);
        WHEN 'array' THEN
            RETURN (SELECT coalesce(jsonb_agg(e.filled ORDER BY e.place) FILTER (WHERE e.filled IS NOT NULL), '[]')
                    FROM (SELECT x.place, goya_private.fill_template(x.value, parameters) AS filled
                          FROM jsonb_array_elements(fill_template.value) WITH ORDINALITY x (value, place)) e);
        WHEN 'string' THEN
            content := value #>> '{}';
            hit := regexp_match(content, '^\$\{([A-Za-z_][A-Za-z0-9_]*)\}$');
            IF hit IS NOT NULL THEN
                RETURN parameters -> hit[1];
            END IF;
            -- Each place once, from left to right: what a parameter brings in is not looked at again.
            RETURN to_jsonb((SELECT string_agg(CASE WHEN part ~ '^\$\{[A-Za-z_][A-Za-z0-9_]*\}$' THEN coalesce(parameters ->> substr(part, 3, length(part) - 3), '')
                                                    ELSE part END, '' ORDER BY place)
                             FROM regexp_matches(content, '\$\{[A-Za-z_][A-Za-z0-9_]*\}|(?:(?!\$\{[A-Za-z_][A-Za-z0-9_]*\}).)+', 'g') WITH ORDINALITY m (parts, place)
                             CROSS JOIN LATERAL (SELECT m.parts[1] AS part) p));
        ELSE
            RETURN value;
    END CASE;
END;
$$;

CREATE FUNCTION goya.create_operator_template(name text, mode text, config jsonb, parameters jsonb DEFAULT '{}', description text DEFAULT '',
    input_schema jsonb DEFAULT '{}', output_schema jsonb DEFAULT '{}', category text DEFAULT 'processing', kind text DEFAULT 'operator',
    idempotent boolean DEFAULT true) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    made uuid;
BEGIN
    PERFORM goya_private.require_admin();
    PERFORM goya_private.check_name('template', create_operator_template.name, 'http.json');
    PERFORM goya_private.check_word('operator mode', create_operator_template.mode, '{sql,http,ai_model,mcp,cli,worker}');
    PERFORM goya_private.check_word('operator category', create_operator_template.category, '{processing,analysis,generation,utility}');
    PERFORM goya_private.check_word('operator kind', create_operator_template.kind, '{operator,skill}');
    IF create_operator_template.config IS NULL OR jsonb_typeof(create_operator_template.config) <> 'object' THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad operator configuration', DETAIL = 'It is not an object.',
            HINT = 'It is that of an operator, with "${parameter}" where a parameter belongs.';
    END IF;
    PERFORM goya.check_schema(coalesce(create_operator_template.parameters, '{}'), 'null');
    PERFORM goya.check_schema(coalesce(create_operator_template.input_schema, '{}'), 'null');
    PERFORM goya.check_schema(coalesce(create_operator_template.output_schema, '{}'), 'null');
    INSERT INTO goya.operator_templates (name, mode, config, parameters, description, input_schema, output_schema, category, kind, idempotent)
    VALUES (create_operator_template.name, create_operator_template.mode, create_operator_template.config, coalesce(create_operator_template.parameters, '{}'),
            coalesce(create_operator_template.description, ''), coalesce(create_operator_template.input_schema, '{}'),
            coalesce(create_operator_template.output_schema, '{}'), create_operator_template.category, create_operator_template.kind,
            coalesce(create_operator_template.idempotent, true))
    ON CONFLICT (tenant_id, name) DO NOTHING RETURNING id INTO made;
    IF made IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = '23505', MESSAGE = format('template "%s" already exists', create_operator_template.name),
            HINT = 'goya.drop_operator_template removes it; operators made of it stay.';
    END IF;
    RETURN made;
END;
$$;
COMMENT ON FUNCTION goya.create_operator_template(text, text, jsonb, jsonb, text, jsonb, jsonb, text, text, boolean) IS
'Adds a template that every tenant may make operators of, and returns its id. For administrators.
config is that of an operator of the mode, with "${name}" where a parameter belongs; parameters is the JSON Schema of the parameters, whose defaults count.
Errors: 22023 bad name, mode, configuration or schema, 23505 the name is taken, 42501 not an administrator.';

CREATE FUNCTION goya.drop_operator_template(name text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    PERFORM goya_private.require_admin();
    DELETE FROM goya.operator_templates t WHERE t.name = drop_operator_template.name AND t.tenant_id IS NULL AND t.origin = 'custom';
    IF NOT FOUND THEN
        PERFORM goya_private.not_found('template', drop_operator_template.name, 'SELECT name, origin FROM goya.operator_templates lists them; goya''s own stay.');
    END IF;
END;
$$;
COMMENT ON FUNCTION goya.drop_operator_template(text) IS
'Removes a template that an administrator added; operators made of it stay. For administrators.
Errors: PT404 unknown template, or one of goya''s own; 42501 not an administrator.';

CREATE FUNCTION goya.install_template(template text, name text, parameters jsonb DEFAULT '{}', status text DEFAULT 'published') RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := goya_private.require_writer();
    t      goya.operator_templates;
    given  jsonb;
    lines  text;
BEGIN
    SELECT x.* INTO t FROM goya.operator_templates x
    WHERE x.name = install_template.template AND (x.tenant_id = tenant OR x.tenant_id IS NULL) ORDER BY x.tenant_id IS NULL LIMIT 1;
    IF NOT FOUND THEN
        PERFORM goya_private.not_found('template', install_template.template, 'SELECT name, description FROM goya.operator_templates lists them.');
    END IF;
    SELECT coalesce(jsonb_object_agg(p.key, p.value -> 'default') FILTER (WHERE jsonb_typeof(p.value) = 'object' AND p.value ? 'default'), '{}')
    INTO given FROM jsonb_each(coalesce(t.parameters -> 'properties', '{}')) p;
    given := given || CASE WHEN jsonb_typeof(install_template.parameters) = 'object' THEN install_template.parameters ELSE '{}' END;
    SELECT string_agg(coalesce(nullif(c.path, ''), 'parameters') || ': ' || c.message, E'\n') INTO lines
    FROM goya.check_schema(t.parameters, CASE WHEN jsonb_typeof(install_template.parameters) = 'object' THEN given ELSE coalesce(install_template.parameters, 'null') END, 20) c;
    IF lines IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('parameters do not fit template "%s"', t.name), DETAIL = lines,
            HINT = format('SELECT parameters FROM goya.operator_templates WHERE name = %L says what they are.', t.name);
    END IF;
    RETURN goya.create_operator(install_template.name, t.mode, goya_private.fill_template(t.config, given), goya_private.fill_template(t.input_schema, given),
        goya_private.fill_template(t.output_schema, given), t.category, t.kind, t.description, t.idempotent, t.name, 'template', '{}', install_template.status);
END;
$$;
COMMENT ON FUNCTION goya.install_template(text, text, jsonb, text) IS
'Makes an operator of a template, published unless status says draft or testing, and returns its id; its type is the template''s name.
parameters: an object that fits the template''s schema of parameters; what is left out has its default.
Errors: PT404 unknown template, 22023 bad parameters or name, 23505 the operator''s name is taken, 42501 no tenant or reader.
Example: SELECT goya.install_template(''http.json'', ''media.tag'', ''{"url": "http://media.example/tag"}'');';

-- ---- goya's own ----

INSERT INTO goya.operator_templates (name, origin, category, mode, description, config, parameters, input_schema, output_schema, idempotent) VALUES
('http.json', 'builtin', 'processing', 'http', 'Sends its input as JSON to a service, and gives the JSON that comes back.',
 '{"method": "${method}", "url": "${url}", "headers": "${headers}", "body": "{{ params }}", "output": "$.output.body", "timeout": "${timeout}", "retry": {"max_attempts": "${attempts}"}}',
 '{"type": "object", "required": ["url"], "additionalProperties": false, "properties": {"url": {"type": "string", "pattern": "^https?://"},
   "method": {"enum": ["POST", "PUT", "PATCH"], "default": "POST"}, "headers": {"type": "object"}, "timeout": {"type": ["string", "number"], "default": 30},
   "attempts": {"type": "integer", "minimum": 1, "maximum": 10, "default": 3}}}', '{}', '{}', true),
('sql.function', 'builtin', 'processing', 'sql', 'Calls a function f(jsonb) of this database.',
 '{"function": "${function}", "timeout": "${timeout}"}',
 '{"type": "object", "required": ["function"], "additionalProperties": false, "properties": {"function": {"type": "string"}, "timeout": {"type": ["string", "number"]}}}', '{}', '{}', true),
('ai.chat', 'builtin', 'generation', 'ai_model', 'Asks a model; the input is {"prompt": text}.',
 '{"model": "${model}", "system": "${system}", "prompt": "{{ params.prompt }}", "parameters": "${parameters}"}',
 '{"type": "object", "required": ["model"], "additionalProperties": false, "properties": {"model": {"type": "string"}, "system": {"type": "string"}, "parameters": {"type": "object"}}}',
 '{"type": "object", "required": ["prompt"], "properties": {"prompt": {"type": "string"}}}', '{"type": "object"}', true),
('ai.embed', 'builtin', 'analysis', 'ai_model', 'Makes vectors of text; the input is {"content": text or array of texts}.',
 '{"model": "${model}", "operation": "embedding", "content": "{{ params.content }}"}',
 '{"type": "object", "required": ["model"], "additionalProperties": false, "properties": {"model": {"type": "string"}}}',
 '{"type": "object", "required": ["content"], "properties": {"content": {"type": ["string", "array"]}}}', '{"type": "object"}', true),
('mcp.tool', 'builtin', 'utility', 'mcp', 'Calls a tool of an MCP server with the input as its arguments.',
 '{"server": "${server}", "tool": "${tool}", "arguments": "{{ params }}"}',
 '{"type": "object", "required": ["server", "tool"], "additionalProperties": false, "properties": {"server": {"type": "string"}, "tool": {"type": "string"}}}',
 '{"type": "object"}', '{}', false),
('cli.ffprobe', 'builtin', 'analysis', 'cli', 'Looks into a media file with ffprobe, which an administrator has registered; the input is {"file": path}.',
 '{"program": "${program}", "arguments": {"file": "{{ params.file }}"}}',
 '{"type": "object", "additionalProperties": false, "properties": {"program": {"type": "string", "default": "ffprobe"}}}',
 '{"type": "object", "required": ["file"], "properties": {"file": {"type": "string"}}}', '{}', true),
('worker.queue', 'builtin', 'processing', 'worker', 'Hands its input to a process outside that asks for work with goya.claim_work.',
 '{"queue": "${queue}", "lease": "${lease}"}',
 '{"type": "object", "required": ["queue"], "additionalProperties": false, "properties": {"queue": {"type": "string"}, "lease": {"type": ["string", "number"], "default": 60}}}', '{}', '{}', true);
-- The same in every database: what refers to one is right in a restored copy, too.
UPDATE goya.operator_templates SET id = pg_catalog.md5('goya ' || name)::uuid, created_at = '2026-01-01 00:00:00+00' WHERE origin = 'builtin';
