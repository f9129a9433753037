-- 37_schemas.sql: JSON Schemas that other schemas refer to.
--
-- Decided: a reference out of a schema reaches what its tenant has registered under that URI, never the network. What is published carries
-- the documents it refers to along, under "$documents", so that a registration that changes later changes nothing that was published.
-- Must hold: bundling ends, as every turn adds a document that was not there; only documents of the tenant given are read.

-- The URIs of documents that a schema refers to and does not carry along. Raises 22023 when the schema is wrong.
CREATE FUNCTION goya_private.missing_schemas(schema jsonb) RETURNS text[]
    LANGUAGE c IMMUTABLE STRICT AS 'MODULE_PATHNAME', 'goya_missing_schemas_sql';

-- Where in a definition schemas are that refer to documents they do not carry along, as JSON Pointers.
CREATE FUNCTION goya_private.unbound_schemas(definition jsonb) RETURNS text[]
    LANGUAGE c IMMUTABLE STRICT AS 'MODULE_PATHNAME', 'goya_unbound_schemas_sql';

-- A schema with the registered documents that it refers to, and that these refer to. What is not registered is left to whoever compiles it.
CREATE FUNCTION goya_private.bundle_schema(tenant_id uuid, schema jsonb) RETURNS jsonb
    LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    whole   jsonb := schema;
    number  bigint;
    missing text[];
    found   jsonb;
BEGIN
    LOOP
        missing := goya_private.missing_schemas(whole);
        EXIT WHEN missing = '{}';
        SELECT jsonb_object_agg(s.uri, s.document) INTO found
        FROM goya.schemas s WHERE s.tenant_id = bundle_schema.tenant_id AND s.uri = ANY (missing);
        EXIT WHEN found IS NULL;
        whole := whole || jsonb_build_object('$documents', coalesce(whole -> '$documents', '{}') || found);
        number := (SELECT count(*) FROM jsonb_object_keys(whole -> '$documents'));
        IF number > 200 THEN
            RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'schema refers to too many documents',
                DETAIL = 'It needs more than 200 registered documents.', HINT = 'Put schemas that belong together into one document, under "definitions".';
        ELSIF octet_length(whole::text) > 1000000 THEN
            RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'schema is too large',
                DETAIL = format('With the %s registered documents that it refers to it is over 1 MB.', number),
                HINT = 'Register smaller documents, so that a schema refers to what it needs.';
        END IF;
    END LOOP;
    RETURN whole;
END;
$$;

-- A definition whose schemas all carry along what they refer to.
CREATE FUNCTION goya_private.bundle_definition(tenant_id uuid, definition jsonb) RETURNS jsonb
    LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    whole  jsonb := definition;
    before jsonb;
    place  text;
    path   text[];
BEGIN
    IF definition::text !~ '"\$(ref|dynamicRef|schema)"' THEN
        RETURN definition;
    END IF;
    LOOP
        before := whole;
        FOREACH place IN ARRAY goya_private.unbound_schemas(whole) LOOP
            SELECT array_agg(replace(replace(s.step, '~1', '/'), '~0', '~') ORDER BY s.ordinal) INTO path
            FROM string_to_table(substr(place, 2), '/') WITH ORDINALITY AS s (step, ordinal);
            whole := jsonb_set(whole, path, goya_private.bundle_schema(bundle_definition.tenant_id, whole #> path));
        END LOOP;
        EXIT WHEN whole = before;
    END LOOP;
    RETURN whole;
END;
$$;

CREATE FUNCTION goya.register_schema(uri text, document jsonb) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := goya_private.require_writer();
    bare   text := regexp_replace(register_schema.uri, '#$', '');
BEGIN
    IF bare IS NULL OR bare !~ '^[A-Za-z][A-Za-z0-9+.-]*:[^#[:space:]]+$' OR octet_length(bare) > 1000 THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad URI of a schema',
            DETAIL = format('"%s" is not an absolute URI of up to 1000 bytes without a fragment.', left(register_schema.uri, 200)),
            HINT = 'It is only a name, nothing is fetched from it: https://example.com/clip.json, or urn:example:clip.';
    END IF;
    IF bare ~ '^https?://json-schema\.org/' THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'the schemas of json-schema.org are built in',
            DETAIL = format('"%s" cannot be registered.', bare), HINT = 'Take a URI of your own.';
    END IF;
    IF register_schema.document IS NULL OR jsonb_typeof(register_schema.document) <> 'object'
       OR octet_length(register_schema.document::text) > 500000 OR register_schema.document ? '$documents' THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad schema document',
            DETAIL = 'A document is a JSON object of up to 500 kB without "$documents".',
            HINT = 'Other documents it refers to are registered by themselves.';
    END IF;
    PERFORM goya_private.missing_schemas(register_schema.document);
    INSERT INTO goya.schemas AS s (tenant_id, uri, document) VALUES (tenant, bare, register_schema.document)
    ON CONFLICT (tenant_id, uri) DO UPDATE SET document = excluded.document, updated_at = now()
    WHERE s.document <> excluded.document;
END;
$$;
COMMENT ON FUNCTION goya.register_schema(text, jsonb) IS
'Registers a JSON Schema under a URI, or replaces it: $ref reaches it from the schemas of the same tenant.
The URI is a name; nothing is fetched from it. The document may refer to others that are registered later. What was published before keeps the document
it was published with; goya.check_schema takes the newest. The metaschemas of draft 7 and 2020-12 are built in.
Errors: 22023 bad URI or schema (DETAIL names the place in it), 42501 no tenant or reader.
Example: SELECT goya.register_schema(''https://example.com/clip.json'', ''{"type": "object", "required": ["uri"]}'');';

CREATE FUNCTION goya.drop_schema(uri text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := goya_private.require_writer();
BEGIN
    DELETE FROM goya.schemas s WHERE s.tenant_id = tenant AND s.uri = regexp_replace(drop_schema.uri, '#$', '');
    IF NOT FOUND THEN
        PERFORM goya_private.not_found('schema', drop_schema.uri, 'SELECT uri FROM goya.schemas lists them.');
    END IF;
END;
$$;
COMMENT ON FUNCTION goya.drop_schema(text) IS
'Removes a registered JSON Schema; what was published with it keeps it.
Errors: PT404 unknown URI, 42501 no tenant or reader.';

-- What a version's schemas refer to is fixed when they are written. A draft may be wrong: then it stays as it is.
CREATE FUNCTION goya_private.bundle_schemas() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.input_schema := goya_private.bundle_schema(NEW.tenant_id, NEW.input_schema);
    NEW.output_schema := goya_private.bundle_schema(NEW.tenant_id, NEW.output_schema);
    RETURN NEW;
EXCEPTION WHEN invalid_parameter_value THEN
    RETURN NEW;
END;
$$;

CREATE TRIGGER operator_versions_bundle BEFORE INSERT OR UPDATE OF input_schema, output_schema ON goya.operator_versions FOR EACH ROW
    WHEN (NEW.input_schema::text || NEW.output_schema::text ~ '"\$(ref|dynamicRef|schema)"') EXECUTE FUNCTION goya_private.bundle_schemas();
CREATE TRIGGER algorithm_versions_bundle BEFORE INSERT OR UPDATE OF input_schema, output_schema ON goya.algorithm_versions FOR EACH ROW
    WHEN (NEW.input_schema::text || NEW.output_schema::text ~ '"\$(ref|dynamicRef|schema)"') EXECUTE FUNCTION goya_private.bundle_schemas();
