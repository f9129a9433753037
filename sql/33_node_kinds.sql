-- 33_node_kinds.sql: kinds of nodes as rows.
--
-- Decided: a node {"kind": "my_kind", …} becomes, when its workflow is published, a node of kind sql that calls the kind's function with {"config": the node's own fields,
-- evaluated, "input": the node's input}. So a published workflow is not changed by what becomes of the kind, and the engine knows nothing of it. The fields all nodes have keep
-- their meaning.
-- Must hold: a kind has no name that goya has a kind of, and no field that every node has.

CREATE TRIGGER node_kinds_bump BEFORE UPDATE ON goya.node_kinds FOR EACH ROW EXECUTE FUNCTION goya_private.bump_row_version();

-- Fields that every node has (src/plan_node.c).
CREATE FUNCTION goya_private.common_fields() RETURNS text[]
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
    RETURN '{key,kind,input,retry,timeout,join,compensate,price,cost_tag,artifact,writes,idempotent,label,description,position,tags,ui}'::text[];

CREATE FUNCTION goya.create_node_kind(name text, function text, schema jsonb DEFAULT '{}', description text DEFAULT '') RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := goya_private.require_writer();
    taken  text;
    made   uuid;
BEGIN
    IF create_node_kind.name IS NULL OR create_node_kind.name !~ '^[a-z][a-z0-9_]{0,62}$' THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad name of a kind', DETAIL = format('"%s" is not a word of up to 63 small letters, digits and "_".', create_node_kind.name),
            HINT = 'As in resize_image.';
    END IF;
    IF create_node_kind.name = ANY ('{noop,transform,condition,switch,map,sleep,wait,approval,workflow,sql,http,ai_model,mcp,cli,worker,agent,operator,algorithm}') THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('goya has a kind "%s" itself', create_node_kind.name), HINT = 'Choose another name.';
    END IF;
    PERFORM goya_private.refuse_errors('the kind''s function',
        jsonb_build_object('nodes', jsonb_build_array(jsonb_build_object('key', 'node', 'kind', 'sql', 'function', create_node_kind.function))));
    PERFORM goya.check_schema(coalesce(create_node_kind.schema, '{}'), 'null');
    IF jsonb_typeof(create_node_kind.schema -> 'properties') = 'object' THEN
        SELECT string_agg(format('"%s"', k), ', ' ORDER BY k) INTO taken
        FROM jsonb_object_keys(create_node_kind.schema -> 'properties') k WHERE k = ANY (goya_private.common_fields());
        IF taken IS NOT NULL THEN
            RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad schema of a kind', DETAIL = format('Every node has %s.', taken), HINT = 'Give the fields other names.';
        END IF;
    END IF;
    INSERT INTO goya.node_kinds (tenant_id, name, function, schema, description, owner_role)
    VALUES (tenant, create_node_kind.name, create_node_kind.function, coalesce(create_node_kind.schema, '{}'), coalesce(create_node_kind.description, ''), goya.current_caller())
    ON CONFLICT (tenant_id, name) DO UPDATE SET function = excluded.function, schema = excluded.schema, description = excluded.description
    RETURNING id INTO made;
    RETURN made;
END;
$$;
COMMENT ON FUNCTION goya.create_node_kind(text, text, jsonb, text) IS
'Makes a kind of nodes, or changes it, and returns its id; workflows published from then on may use it.
A node {"key": "k", "kind": "resize_image", "width": 640, "input": {…}} calls function(jsonb) with {"config": {"width": 640}, "input": {…}}; fields may be templates.
schema: JSON Schema of the fields, as an object; it is checked when a workflow is validated, and again with the real values when the node runs.
Published workflows keep the function they were published with.
Errors: 22023 bad name, function or schema, 42501 no tenant or reader.
Example: SELECT goya.create_node_kind(''resize_image'', ''app.resize'', ''{"required": ["width"], "properties": {"width": {"type": "integer"}}}'');';

CREATE FUNCTION goya.drop_node_kind(name text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := goya_private.require_writer();
BEGIN
    DELETE FROM goya.node_kinds k WHERE k.tenant_id = tenant AND k.name = drop_node_kind.name;
    IF NOT FOUND THEN
        PERFORM goya_private.not_found('kind', drop_node_kind.name, 'SELECT name FROM goya.node_kinds lists them.');
    END IF;
END;
$$;
COMMENT ON FUNCTION goya.drop_node_kind(text) IS
'Removes a kind of nodes; published workflows that use it go on.
Errors: PT404 unknown kind, 42501 no tenant or reader.';
