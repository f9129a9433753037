-- 33_operators.sql: registering operators and their versions. Their further life is in 33_operator_versions.sql.
--
-- Decided: a version is immutable but for its status; activating chooses which one new revisions of workflows get. A published revision keeps the version it
-- was published with, so nothing that runs changes under its users. A version's configuration is the node it stands for, without
-- key and input: it is checked by the validator of workflows, so that an operator cannot be registered that no workflow could use.
-- A new version is published at once unless something else is asked for; a draft may be as wrong as it likes until it is tested.
-- Must hold: version numbers of an operator grow by one; a wrong schema or configuration is refused with every problem listed.

CREATE TRIGGER operators_bump BEFORE UPDATE ON goya.operators FOR EACH ROW EXECUTE FUNCTION goya_private.bump_row_version();

-- Raises 22023 with the errors of a definition, up to 20 lines of them.
CREATE FUNCTION goya_private.refuse_errors(subject text, definition jsonb) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    total bigint;
    lines text;
BEGIN
    SELECT count(*), string_agg(p.code || coalesce(' at ' || nullif(p.path, ''), '') || ': ' || p.message, E'\n' ORDER BY p.ordinal)
                     FILTER (WHERE p.ordinal <= 20)
    INTO total, lines
    FROM (SELECT v.*, row_number() OVER () AS ordinal FROM goya.validate_workflow(refuse_errors.definition) v WHERE v.severity = 'error') p;
    IF total > 0 THEN
        RAISE EXCEPTION USING ERRCODE = '22023',
            MESSAGE = format('%s has %s error%s', refuse_errors.subject, total, CASE WHEN total > 1 THEN 's' ELSE '' END),
            DETAIL = lines || CASE WHEN total > 20 THEN format(E'\n… and %s more', total - 20) ELSE '' END,
            HINT = 'goya.validate_workflow(definition) lists all of them with hints.';
    END IF;
END;
$$;

-- Raises 22023 when mode, configuration or schemas of a version are wrong. What fields a mode has is the validator's to say; the ones refused here belong to the
-- node that uses the operator.
CREATE FUNCTION goya_private.check_operator(mode text, config jsonb, input_schema jsonb, output_schema jsonb) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    foreign_fields text;
BEGIN
    IF check_operator.mode IS NULL OR check_operator.mode NOT IN ('sql', 'http', 'ai_model', 'mcp', 'cli', 'worker') THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad operator mode',
            DETAIL = format('"%s" is none of sql, http, ai_model, mcp, cli, worker.', check_operator.mode),
            HINT = 'sql calls a function f(jsonb) of this database, http a service, ai_model a model, mcp a tool of a server, cli a registered program; worker hands work out.';
    END IF;
    IF check_operator.config IS NULL OR jsonb_typeof(check_operator.config) <> 'object' THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad operator configuration', DETAIL = 'It is not an object.',
            HINT = format('It is what a node of kind %s has, without key and input.', check_operator.mode);
    END IF;
    SELECT string_agg(format('"%s"', k), ', ' ORDER BY k) INTO foreign_fields
    FROM jsonb_object_keys(check_operator.config) k
    WHERE k IN ('key', 'kind', 'input', 'join', 'compensate', 'writes', 'operator', 'version', 'input_schema', 'output_schema', 'idempotent', 'position', 'ui');
    IF foreign_fields IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad operator configuration', DETAIL = format('Not in a configuration: %s.', foreign_fields),
            HINT = 'These belong to the node that uses the operator; schemas and idempotent are arguments of their own.';
    END IF;
    PERFORM goya_private.refuse_errors('the operator''s configuration', jsonb_build_object('nodes',
        jsonb_build_array(check_operator.config || jsonb_build_object('key', 'operator', 'kind', check_operator.mode))));
    -- These raise 22023 when the schema itself is wrong; whether null fits it is of no interest.
    PERFORM goya.check_schema(coalesce(check_operator.input_schema, '{}'), 'null');
    PERFORM goya.check_schema(coalesce(check_operator.output_schema, '{}'), 'null');
END;
$$;

-- Raises 22023 unless value is one of them.
CREATE FUNCTION goya_private.check_word(thing text, value text, words text[], hint text DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF check_word.value IS NULL OR check_word.value <> ALL (check_word.words) THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad ' || check_word.thing,
            DETAIL = format('"%s" is none of %s.', check_word.value, array_to_string(check_word.words, ', ')),
            HINT = coalesce(check_word.hint, format('Without one it is %s.', check_word.words[1]));
    END IF;
END;
$$;

-- Raises 22023 for what is no name of an operator, algorithm, template or prompt.
CREATE FUNCTION goya_private.check_name(thing text, name text, example text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF check_name.name IS NULL OR check_name.name !~ '^[A-Za-z][A-Za-z0-9_.-]{0,62}$' THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('bad %s name', check_name.thing),
            DETAIL = format('"%s" is not a name of up to 63 letters, digits, "_", "." and "-".', check_name.name),
            HINT = format('Names begin with a letter, as in %s.', check_name.example);
    END IF;
END;
$$;

-- The operator of that name in the caller's tenant, locked against other changes.
CREATE FUNCTION goya_private.lock_operator(name text) RETURNS goya.operators
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := goya_private.require_writer();
    op     goya.operators;
BEGIN
    SELECT o.* INTO op FROM goya.operators o
    WHERE o.tenant_id = tenant AND o.name = lock_operator.name AND goya_private.may_see(o.visibility, o.owner_role, '{}')
    FOR UPDATE;
    IF NOT FOUND THEN
        PERFORM goya_private.not_found('operator', lock_operator.name, 'SELECT name FROM goya.operators lists them.');
    END IF;
    RETURN op;
END;
$$;

CREATE FUNCTION goya.create_operator(name text, mode text, config jsonb, input_schema jsonb DEFAULT '{}', output_schema jsonb DEFAULT '{}',
    category text DEFAULT 'processing', kind text DEFAULT 'operator', description text DEFAULT '', idempotent boolean DEFAULT true,
    type text DEFAULT '', origin text DEFAULT 'custom', tags text[] DEFAULT '{}', status text DEFAULT 'published', dependencies jsonb DEFAULT '[]') RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := goya_private.require_writer();
    made   uuid := goya.new_id();
    op     goya.operators;
BEGIN
    PERFORM goya_private.check_name('operator', create_operator.name, 'media.probe');
    PERFORM goya_private.check_word('operator category', create_operator.category, '{processing,analysis,generation,utility}');
    PERFORM goya_private.check_word('operator kind', create_operator.kind, '{operator,skill}');
    PERFORM goya_private.check_word('operator origin', create_operator.origin, '{custom,builtin,template,mcp,import}');
    PERFORM goya_private.check_word('operator status', create_operator.status, '{published,draft,testing}');
    IF create_operator.status <> 'draft' THEN
        PERFORM goya_private.check_operator(create_operator.mode, create_operator.config, create_operator.input_schema, create_operator.output_schema);
    ELSE
        PERFORM goya_private.check_word('operator mode', create_operator.mode, '{sql,http,ai_model,mcp,cli,worker}');
    END IF;
    INSERT INTO goya.operators (id, tenant_id, name, category, kind, type, origin, tags, description, status, active_version, owner_role)
    VALUES (made, tenant, create_operator.name, create_operator.category, create_operator.kind, coalesce(create_operator.type, ''),
            create_operator.origin, coalesce(create_operator.tags, '{}'), coalesce(create_operator.description, ''), create_operator.status,
            CASE create_operator.status WHEN 'published' THEN 1 END, goya.current_caller())
    ON CONFLICT (tenant_id, name) DO NOTHING
    RETURNING * INTO op;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = '23505', MESSAGE = format('operator "%s" already exists', create_operator.name),
            HINT = 'goya.add_operator_version gives it a new version.';
    END IF;
    INSERT INTO goya.operator_versions (operator_id, version, tenant_id, mode, config, input_schema, output_schema, idempotent, status, published_at)
    VALUES (made, 1, tenant, create_operator.mode, coalesce(create_operator.config, '{}'), coalesce(create_operator.input_schema, '{}'),
            coalesce(create_operator.output_schema, '{}'), coalesce(create_operator.idempotent, true), create_operator.status,
            CASE create_operator.status WHEN 'published' THEN now() END);
    PERFORM goya_private.write_dependencies(op, create_operator.dependencies);
    IF create_operator.status = 'published' THEN
        PERFORM goya_private.refuse_missing_dependencies(op);
    END IF;
    RETURN made;
END;
$$;
COMMENT ON FUNCTION goya.create_operator(text, text, jsonb, jsonb, jsonb, text, text, text, boolean, text, text, text[], text, jsonb) IS
'Registers an operator with version 1, published and active unless status says draft or testing, and returns its id.
mode: sql, http, ai_model, mcp, cli or worker; config is what a node of that kind has, without key and input: {"function": "schema.f"} for sql, {"url": …} for http
and so on. It may set retry, timeout, price, cost_tag and artifact, which a node overrides. Schemas are JSON Schemas of input and output: a node whose input does not fit
fails with class VALIDATION, one whose output does not with TOOL_BUG. category: analysis, processing, generation, utility; kind: operator, skill; type and
tags are your own words; origin: custom, builtin, template, mcp, import. idempotent: may be called again when the outcome of a call is unknown.
dependencies: operators it needs, ["name", {"operator": "name", "version": 2}].
Errors: 22023 bad name, mode, configuration or schema; 23505 the name is taken; 55000 dependencies are missing; 42501 no tenant or reader.
Example: SELECT goya.create_operator(''media.probe'', ''http'', ''{"method": "POST", "url": "http://media/probe", "body": "{{ params }}"}'');';

CREATE FUNCTION goya.add_operator_version(name text, config jsonb, input_schema jsonb DEFAULT NULL, output_schema jsonb DEFAULT NULL,
    mode text DEFAULT NULL, idempotent boolean DEFAULT NULL, activate boolean DEFAULT true, status text DEFAULT 'published') RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    op     goya.operators := goya_private.lock_operator(add_operator_version.name);
    newest goya.operator_versions;
BEGIN
    PERFORM goya_private.check_word('operator status', add_operator_version.status, '{published,draft,testing}');
    SELECT v.* INTO newest FROM goya.operator_versions v WHERE v.operator_id = op.id ORDER BY v.version DESC LIMIT 1;
    newest.version := newest.version + 1;
    newest.mode := coalesce(add_operator_version.mode, newest.mode);
    newest.config := add_operator_version.config;
    newest.input_schema := coalesce(add_operator_version.input_schema, newest.input_schema);
    newest.output_schema := coalesce(add_operator_version.output_schema, newest.output_schema);
    newest.idempotent := coalesce(add_operator_version.idempotent, newest.idempotent);
    newest.status := add_operator_version.status;
    newest.created_at := now();
    newest.published_at := CASE newest.status WHEN 'published' THEN now() END;
    IF newest.status <> 'draft' THEN
        PERFORM goya_private.check_operator(newest.mode, newest.config, newest.input_schema, newest.output_schema);
    ELSE
        PERFORM goya_private.check_word('operator mode', newest.mode, '{sql,http,ai_model,mcp,cli,worker}');
        newest.config := coalesce(newest.config, '{}');
    END IF;
    IF newest.status = 'published' THEN
        PERFORM goya_private.refuse_missing_dependencies(op);
    END IF;
    INSERT INTO goya.operator_versions SELECT newest.*;
    IF add_operator_version.activate AND newest.status = 'published' THEN
        PERFORM goya_private.activate_version(op, newest.version);
    ELSE
        PERFORM goya_private.note_operator_status(op.id);
    END IF;
    RETURN newest.version;
END;
$$;
COMMENT ON FUNCTION goya.add_operator_version(text, jsonb, jsonb, jsonb, text, boolean, boolean, text) IS
'Adds a version to an operator, publishes and activates it unless told not to, and returns its number.
What is null (schemas, mode, idempotent) stays as in the newest version. status: published, draft or testing; only a published one is activated.
Published workflows keep the version they were published with.
Errors: PT404 unknown operator; 22023 bad mode, configuration or schema; 55000 dependencies are missing; 42501 no tenant or reader.';
