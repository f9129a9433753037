-- 33_operators.sql: registering operators and their versions.
--
-- Decided: a version is immutable; activating chooses which one new revisions of workflows get. A published revision keeps the version it
-- was published with, so nothing that runs changes under its users. A version's configuration is the node it stands for, without
-- key and input: it is checked by the validator of workflows, so that an operator cannot be registered that no workflow could use.
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

-- Raises 22023 when mode, configuration or schemas of a version are wrong.
CREATE FUNCTION goya_private.check_operator(mode text, config jsonb, input_schema jsonb, output_schema jsonb) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    problem text;
    hint    text;
    allowed text[] := ARRAY['retry', 'timeout', 'price', 'artifact']
        || CASE check_operator.mode WHEN 'sql' THEN ARRAY['function']
                                    ELSE ARRAY['method', 'url', 'headers', 'body', 'success', 'output', 'max_response'] END;
    wanted  text := CASE check_operator.mode WHEN 'sql' THEN 'function' ELSE 'url' END;
    unknown text;
BEGIN
    IF check_operator.mode IS NULL OR check_operator.mode NOT IN ('sql', 'http') THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad operator mode',
            DETAIL = format('"%s" is none of sql, http.', check_operator.mode),
            HINT = 'sql calls a function f(jsonb) of this database, http calls a service.';
    END IF;
    hint := CASE check_operator.mode WHEN 'sql' THEN 'The configuration of mode sql is {"function": "schema.f"}.'
                 ELSE 'The configuration of mode http is {"url": "…"} with method, headers, body, success, output, max_response as needed.' END;
    IF check_operator.config IS NULL OR jsonb_typeof(check_operator.config) <> 'object' THEN
        problem := 'It is not an object.';
    ELSIF jsonb_typeof(check_operator.config -> wanted) IS DISTINCT FROM 'string' OR check_operator.config ->> wanted = '' THEN
        problem := format('"%s" is missing or not a string.', wanted);
    ELSE
        SELECT string_agg(format('"%s"', k), ', ' ORDER BY k) INTO unknown
        FROM jsonb_object_keys(check_operator.config) k WHERE k <> ALL (allowed);
        problem := 'Unknown: ' || unknown || '.';
    END IF;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad operator configuration', DETAIL = problem, HINT = hint;
    END IF;
    PERFORM goya_private.refuse_errors('the operator''s configuration', jsonb_build_object('nodes',
        jsonb_build_array(check_operator.config || jsonb_build_object('key', 'operator', 'kind', check_operator.mode))));
    -- These raise 22023 when the schema itself is wrong; whether null fits it is of no interest.
    PERFORM goya.check_schema(coalesce(check_operator.input_schema, '{}'), 'null');
    PERFORM goya.check_schema(coalesce(check_operator.output_schema, '{}'), 'null');
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
    category text DEFAULT 'processing', kind text DEFAULT 'operator', description text DEFAULT '', idempotent boolean DEFAULT true) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := goya_private.require_writer();
    made   uuid := goya.new_id();
BEGIN
    IF create_operator.name IS NULL OR create_operator.name !~ '^[A-Za-z][A-Za-z0-9_.-]{0,62}$' THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad operator name',
            DETAIL = format('"%s" is not a name of up to 63 letters, digits, "_", "." and "-".', create_operator.name),
            HINT = 'Names begin with a letter, as in media.probe.';
    END IF;
    IF create_operator.category IS NULL OR create_operator.category NOT IN ('analysis', 'processing', 'generation', 'utility') THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad operator category',
            DETAIL = format('"%s" is none of analysis, processing, generation, utility.', create_operator.category),
            HINT = 'Without one it is processing.';
    END IF;
    IF create_operator.kind IS NULL OR create_operator.kind NOT IN ('operator', 'skill') THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad operator kind',
            DETAIL = format('"%s" is none of operator, skill.', create_operator.kind), HINT = 'Without one it is operator.';
    END IF;
    PERFORM goya_private.check_operator(create_operator.mode, create_operator.config, create_operator.input_schema,
                                        create_operator.output_schema);
    INSERT INTO goya.operators (id, tenant_id, name, category, kind, description, active_version, owner_role)
    VALUES (made, tenant, create_operator.name, create_operator.category, create_operator.kind, coalesce(create_operator.description, ''),
            1, goya.current_caller())
    ON CONFLICT (tenant_id, name) DO NOTHING;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = '23505', MESSAGE = format('operator "%s" already exists', create_operator.name),
            HINT = 'goya.add_operator_version gives it a new version.';
    END IF;
    INSERT INTO goya.operator_versions (operator_id, version, tenant_id, mode, config, input_schema, output_schema, idempotent)
    VALUES (made, 1, tenant, create_operator.mode, create_operator.config, coalesce(create_operator.input_schema, '{}'),
            coalesce(create_operator.output_schema, '{}'), coalesce(create_operator.idempotent, true));
    RETURN made;
END;
$$;
COMMENT ON FUNCTION goya.create_operator(text, text, jsonb, jsonb, jsonb, text, text, text, boolean) IS
'Registers an operator with version 1 active, and returns its id.
mode sql: config {"function": "schema.f"}, called as f(jsonb); mode http: config {"method", "url", "headers", "body", "success", "output", "max_response"}, url
required. Either may set retry, timeout, price and artifact, which a node overrides. Schemas are JSON Schemas of input and output. category: analysis,
processing, generation, utility; kind: operator, skill. idempotent: may be called again when the outcome of a call is unknown.
Errors: 22023 bad name, mode, configuration or schema; 23505 the name is taken; 42501 no tenant or reader.
Example: SELECT goya.create_operator(''media.probe'', ''http'', ''{"method": "POST", "url": "http://media/probe", "body": "{{ params }}"}'');';

CREATE FUNCTION goya.add_operator_version(name text, config jsonb, input_schema jsonb DEFAULT NULL, output_schema jsonb DEFAULT NULL,
    mode text DEFAULT NULL, idempotent boolean DEFAULT NULL, activate boolean DEFAULT true) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    op     goya.operators := goya_private.lock_operator(add_operator_version.name);
    newest goya.operator_versions;
BEGIN
    SELECT v.* INTO newest FROM goya.operator_versions v WHERE v.operator_id = op.id ORDER BY v.version DESC LIMIT 1;
    newest.version := newest.version + 1;
    newest.mode := coalesce(add_operator_version.mode, newest.mode);
    newest.config := add_operator_version.config;
    newest.input_schema := coalesce(add_operator_version.input_schema, newest.input_schema);
    newest.output_schema := coalesce(add_operator_version.output_schema, newest.output_schema);
    newest.idempotent := coalesce(add_operator_version.idempotent, newest.idempotent);
    newest.created_at := now();
    PERFORM goya_private.check_operator(newest.mode, newest.config, newest.input_schema, newest.output_schema);
    INSERT INTO goya.operator_versions SELECT newest.*;
    IF add_operator_version.activate THEN
        UPDATE goya.operators o SET active_version = newest.version WHERE o.id = op.id;
    END IF;
    RETURN newest.version;
END;
$$;
COMMENT ON FUNCTION goya.add_operator_version(text, jsonb, jsonb, jsonb, text, boolean, boolean) IS
'Adds a version to an operator, activates it unless told not to, and returns its number.
What is null (schemas, mode, idempotent) stays as in the newest version. Published workflows keep the version they were published with.
Errors: PT404 unknown operator; 22023 bad mode, configuration or schema; 42501 no tenant or reader.';

CREATE FUNCTION goya.activate_operator_version(name text, version integer) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    op goya.operators := goya_private.lock_operator(activate_operator_version.name);
BEGIN
    IF NOT EXISTS (SELECT FROM goya.operator_versions v WHERE v.operator_id = op.id AND v.version = activate_operator_version.version) THEN
        PERFORM goya_private.not_found('operator version', activate_operator_version.name || '@' || activate_operator_version.version,
                                       'SELECT version FROM goya.operator_versions lists them.');
    END IF;
    UPDATE goya.operators o SET active_version = activate_operator_version.version WHERE o.id = op.id;
END;
$$;
COMMENT ON FUNCTION goya.activate_operator_version(text, integer) IS
'Chooses the version of an operator that workflows published from now on get; an earlier one to roll back.
Errors: PT404 unknown operator or version, 42501 no tenant or reader.';
