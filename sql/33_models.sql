-- 33_models.sql: the registry of AI models, their profiles, and prompt templates.
--
-- Decided: a model is named in workflows by the tenant's own name, so that what is behind it (address, key, provider's name) can change without publishing anything
-- again; it is looked up when a node calls it. Its price is pinned when a workflow is published (34_workflows.sql), as any price is. The key is the name of a
-- secret, never the key. Prompts are versions that never change: a node names one, or gets the newest.
-- Must hold: what a model falls back to is there, and is another model.

CREATE TRIGGER models_bump BEFORE UPDATE ON goya.models FOR EACH ROW EXECUTE FUNCTION goya_private.bump_row_version();

-- Raises 22023 for what the table's constraints would refuse with fewer words, and for fallbacks that lead nowhere.
CREATE FUNCTION goya_private.check_model(m goya.models) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known constant text[] := '{chat,vision,image,video,embedding,tools,json_schema,stream}';
    problem text;
    lost text;
BEGIN
    SELECT string_agg(format('"%s"', f), ', ' ORDER BY f) INTO lost FROM unnest(m.fallback_models) f
    WHERE f IS NULL OR f = m.name OR NOT EXISTS (SELECT FROM goya.models o WHERE o.tenant_id = m.tenant_id AND o.name = f);
    problem := CASE
        WHEN m.name IS NULL OR m.name !~ '^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,126}$' THEN
            format('"%s" is not a name of up to 127 letters, digits, "_", ".", ":", "/" and "-".', m.name)
        WHEN m.provider IS NULL OR m.provider !~ '^[a-z][a-z0-9_.-]{0,62}$' THEN
            format('provider "%s" is not a word of up to 63 small letters, digits, "_", "." and "-".', m.provider)
        WHEN m.endpoint IS NULL OR m.endpoint !~ '^https?://[^ ]+$' THEN format('endpoint "%s" is no http:// or https:// address.', m.endpoint)
        WHEN coalesce(m.remote_model, '') = '' THEN 'remote_model is empty.'
        WHEN m.capabilities IS NULL OR NOT m.capabilities <@ known OR cardinality(m.capabilities) = 0 THEN
            format('capabilities are some of %s, not "%s".', array_to_string(known, ', '), array_to_string(m.capabilities, ', '))
        WHEN m.parameters IS NULL OR jsonb_typeof(m.parameters) <> 'object' THEN 'parameters is not an object.'
        WHEN least(m.context_window, m.requests_per_minute, m.tokens_per_minute, m.max_concurrency) < 1 THEN
            'context_window, requests_per_minute, tokens_per_minute and max_concurrency are at least 1, or null for no limit.'
        WHEN m.timeout IS NULL OR m.timeout <= interval '0' OR m.timeout > interval '1 hour' THEN format('timeout %s is not between 0 and 1 hour.', m.timeout)
        WHEN m.status IS NULL OR m.status NOT IN ('active', 'disabled', 'deprecated') THEN format('status "%s" is none of active, disabled, deprecated.', m.status)
        WHEN m.visibility IS NULL OR m.visibility = 'role' THEN 'visibility is private, tenant or public.'
        WHEN lost IS NOT NULL OR m.fallback_models IS NULL THEN format('fallback_models: there is no other model %s.', lost) END;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad model', DETAIL = problem,
            HINT = 'goya.models lists models; \df+ goya.create_model says what each argument is.';
    END IF;
    IF m.visibility = 'public' AND NOT goya.is_admin() THEN
        RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = 'only a platform administrator may make a model public',
            DETAIL = 'Public models are seen by every tenant.', HINT = 'Use visibility tenant.';
    END IF;
END;
$$;

-- The model of that name in the caller's tenant, locked against other changes.
CREATE FUNCTION goya_private.lock_model(name text) RETURNS goya.models
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := goya_private.require_writer();
    m      goya.models;
BEGIN
    SELECT x.* INTO m FROM goya.models x
    WHERE x.tenant_id = tenant AND x.name = lock_model.name AND goya_private.may_see(x.visibility, x.owner_role, '{}')
    FOR UPDATE;
    IF NOT FOUND THEN
        PERFORM goya_private.not_found('model', lock_model.name, 'SELECT name FROM goya.models lists them.');
    END IF;
    RETURN m;
END;
$$;

CREATE FUNCTION goya.create_model(name text, endpoint text, remote_model text DEFAULT NULL, secret text DEFAULT NULL, capabilities text[] DEFAULT '{chat}',
    parameters jsonb DEFAULT '{}', context_window integer DEFAULT NULL, requests_per_minute integer DEFAULT NULL, tokens_per_minute integer DEFAULT NULL,
    max_concurrency integer DEFAULT NULL, timeout interval DEFAULT '60 s', price text DEFAULT NULL, fallback_models text[] DEFAULT '{}',
    provider text DEFAULT 'openai_compatible', description text DEFAULT '', visibility goya.visibility DEFAULT 'tenant') RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := goya_private.require_writer();
    m      goya.models;
BEGIN
    m.id := goya.new_id();
    m.tenant_id := tenant;
    m.name := create_model.name;
    m.provider := create_model.provider;
    m.endpoint := rtrim(create_model.endpoint, '/');
    m.remote_model := coalesce(create_model.remote_model, create_model.name);
    m.secret := create_model.secret;
    m.capabilities := create_model.capabilities;
    m.parameters := coalesce(create_model.parameters, '{}');
    m.context_window := create_model.context_window;
    m.requests_per_minute := create_model.requests_per_minute;
    m.tokens_per_minute := create_model.tokens_per_minute;
    m.max_concurrency := create_model.max_concurrency;
    m.timeout := create_model.timeout;
    m.price := create_model.price;
    m.fallback_models := coalesce(create_model.fallback_models, '{}');
    m.status := 'active';
    m.description := coalesce(create_model.description, '');
    m.visibility := create_model.visibility;
    m.owner_role := goya.current_caller();
    m.row_version := 1;
    m.created_at := now();
    m.updated_at := now();
    PERFORM goya_private.check_model(m);
    INSERT INTO goya.models SELECT m.* ON CONFLICT (tenant_id, name) DO NOTHING;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = '23505', MESSAGE = format('model "%s" already exists', create_model.name), HINT = 'goya.update_model changes it.';
    END IF;
    RETURN m.id;
END;
$$;
COMMENT ON FUNCTION goya.create_model(text, text, text, text, text[], jsonb, integer, integer, integer, integer, interval, text, text[], text, text, goya.visibility) IS
'Registers an AI model, active, and returns its id. Nodes of kind ai_model and operators of that mode name it.
endpoint: base address of an OpenAI-compatible service, as https://host/v1; remote_model: what the service calls it, the name unless said. secret: name of the
secret that holds the key. capabilities: of chat, vision, image, video, embedding, tools, json_schema, stream. parameters: temperature and the like, for nodes that
say nothing else. context_window in tokens. Limits per minute and max_concurrency: null for none. timeout of a call. price: name in goya.prices, of units token_in,
token_out or request. fallback_models: asked in this order when this one cannot answer. provider: who serves it, a word of your own, as mistral; nodes with "provider"
take models of that one only. How a service is called does not depend on it.
Errors: 22023 bad argument or unknown fallback, 23505 the name is taken, 42501 no tenant or reader.
Example: SELECT goya.create_model(''writer'', ''http://127.0.0.1:8080/v1'', ''llama-3'', capabilities => ''{chat,stream}'');';

CREATE FUNCTION goya.update_model(name text, changes jsonb, row_version integer DEFAULT NULL) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    m       goya.models := goya_private.lock_model(update_model.name);
    wrong   text;
    saved   integer;
BEGIN
    IF update_model.row_version <> m.row_version THEN
        RAISE EXCEPTION USING ERRCODE = 'PT409', MESSAGE = 'model was changed by somebody else',
            DETAIL = format('Model "%s" is at row_version %s, the change was made on %s.', m.name, m.row_version, update_model.row_version),
            HINT = 'Read the model again and repeat the change on it.';
    END IF;
    IF update_model.changes IS NULL OR jsonb_typeof(update_model.changes) <> 'object' THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad changes', DETAIL = 'They are not an object.', HINT = 'Write {"endpoint": "https://…", "max_concurrency": null}.';
    END IF;
    SELECT string_agg(format('"%s"', k), ', ' ORDER BY k) INTO wrong FROM jsonb_object_keys(update_model.changes) k
    WHERE k NOT IN ('endpoint', 'remote_model', 'secret', 'capabilities', 'parameters', 'context_window', 'requests_per_minute', 'tokens_per_minute', 'max_concurrency',
                    'timeout', 'price', 'fallback_models', 'provider', 'description', 'visibility', 'status');
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad changes', DETAIL = format('There is nothing to change as %s.', wrong),
            HINT = 'They are named as the arguments of goya.create_model.';
    END IF;
    BEGIN
        m := jsonb_populate_record(m, update_model.changes);
    EXCEPTION WHEN data_exception OR invalid_text_representation OR numeric_value_out_of_range THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad changes', DETAIL = SQLERRM || '.', HINT = 'They are typed as the arguments of goya.create_model.';
    END;
    m.endpoint := rtrim(m.endpoint, '/');
    PERFORM goya_private.check_model(m);
    UPDATE goya.models x SET (provider, endpoint, remote_model, secret, capabilities, parameters, context_window, requests_per_minute, tokens_per_minute,
                              max_concurrency, timeout, price, fallback_models, description, visibility, status)
        = (m.provider, m.endpoint, m.remote_model, m.secret, m.capabilities, m.parameters, m.context_window, m.requests_per_minute, m.tokens_per_minute,
           m.max_concurrency, m.timeout, m.price, m.fallback_models, coalesce(m.description, ''), m.visibility, m.status)
    WHERE x.id = m.id RETURNING x.row_version INTO saved;
    RETURN saved;
END;
$$;
COMMENT ON FUNCTION goya.update_model(text, jsonb, integer) IS
'Changes some columns of a model, named as the arguments of goya.create_model, and returns its new row_version; the next call of a node sees them.
Null takes a limit away. row_version: what the editor read; null changes whatever is there.
Errors: PT404 unknown model, PT409 it was changed by somebody else, 22023 bad changes, 42501 no tenant or reader.
Example: SELECT goya.update_model(''writer'', ''{"max_concurrency": 4, "fallback_models": ["small"]}'');';

CREATE FUNCTION goya.set_model_status(name text, status text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM goya.update_model(set_model_status.name, jsonb_build_object('status', set_model_status.status));
END;
$$;
COMMENT ON FUNCTION goya.set_model_status(text, text) IS
'Makes a model active, deprecated (called as before, but not for new work) or disabled (not called; its fallbacks are).
Errors: PT404 unknown model, 22023 bad status, 42501 no tenant or reader.';

CREATE FUNCTION goya.drop_model(name text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    m    goya.models := goya_private.lock_model(drop_model.name);
    used text;
BEGIN
    SELECT string_agg(format('"%s"', x.name), ', ' ORDER BY x.name) INTO used
    FROM goya.models x WHERE x.tenant_id = m.tenant_id AND m.name = ANY (x.fallback_models);
    IF used IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = '23503', MESSAGE = format('model "%s" is a fallback', m.name), DETAIL = format('Of %s.', used),
            HINT = 'goya.update_model takes it out of their fallback_models.';
    END IF;
    DELETE FROM goya.model_profiles p WHERE p.tenant_id = m.tenant_id AND p.model = m.name;
    DELETE FROM goya.models x WHERE x.id = m.id;
END;
$$;
COMMENT ON FUNCTION goya.drop_model(text) IS
'Removes a model and its profiles. Nodes that name it fail from then on: goya.set_model_status(name, ''disabled'') is the gentler way.
Errors: PT404 unknown model, 23503 other models fall back to it, 42501 no tenant or reader.';

-- ---- profiles ----

CREATE FUNCTION goya.set_model_profile(model text, name text, parameters jsonb, description text DEFAULT '') RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    m goya.models := goya_private.lock_model(set_model_profile.model);
BEGIN
    PERFORM goya_private.check_name('profile', set_model_profile.name, 'precise');
    IF set_model_profile.parameters IS NULL OR jsonb_typeof(set_model_profile.parameters) <> 'object' THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad profile', DETAIL = 'parameters is not an object.', HINT = 'Write {"temperature": 0.2}.';
    END IF;
    INSERT INTO goya.model_profiles (tenant_id, model, name, parameters, description)
    VALUES (m.tenant_id, m.name, set_model_profile.name, set_model_profile.parameters, coalesce(set_model_profile.description, ''))
    ON CONFLICT (tenant_id, model, name) DO UPDATE SET parameters = excluded.parameters, description = excluded.description, updated_at = now();
END;
$$;
COMMENT ON FUNCTION goya.set_model_profile(text, text, jsonb, text) IS
'Makes or changes a profile of a model: a named set of parameters that go before the model''s own.
A node asks for it with "parameters": {"profile": "precise"}; what else is there goes before the profile. Publishing a workflow pins the profile''s parameters.
Errors: PT404 unknown model, 22023 bad name or parameters, 42501 no tenant or reader.
Example: SELECT goya.set_model_profile(''writer'', ''precise'', ''{"temperature": 0.1}'');';

CREATE FUNCTION goya.drop_model_profile(model text, name text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    m goya.models := goya_private.lock_model(drop_model_profile.model);
BEGIN
    DELETE FROM goya.model_profiles p WHERE p.tenant_id = m.tenant_id AND p.model = m.name AND p.name = drop_model_profile.name;
    IF NOT FOUND THEN
        PERFORM goya_private.not_found('profile', drop_model_profile.model || ':' || drop_model_profile.name, 'SELECT model, name FROM goya.model_profiles lists them.');
    END IF;
END;
$$;
COMMENT ON FUNCTION goya.drop_model_profile(text, text) IS
'Removes a profile of a model.
Errors: PT404 unknown model or profile, 42501 no tenant or reader.';

-- ---- prices ----

-- Of each unit of a model's price the one in force: the tenant's own before everybody's, then the latest (as goya_private.prices_in_force).
CREATE VIEW goya.model_prices WITH (security_invoker = true) AS
    SELECT m.tenant_id, m.name AS model, m.provider, m.remote_model, m.capabilities, m.context_window, m.status, m.price, p.unit, p.amount, p.per_units, p.currency, p.effective_at
    FROM goya.models m
    LEFT JOIN LATERAL (
        SELECT DISTINCT ON (x.unit, x.currency) x.unit, x.amount, x.per_units, x.currency, x.effective_at
        FROM goya.prices x
        WHERE x.name = m.price AND (x.tenant_id = m.tenant_id OR x.tenant_id IS NULL) AND x.effective_at <= now()
        ORDER BY x.unit, x.currency, x.tenant_id IS NULL, x.effective_at DESC) p ON true;
COMMENT ON VIEW goya.model_prices IS 'Models with the prices in force, a row per unit: amount in nano-units (10^-9) of the currency for so many units. Null unit: no price.';

-- ---- prompts ----

CREATE FUNCTION goya.set_prompt(name text, template text, system text DEFAULT '', variables jsonb DEFAULT '{}', note text DEFAULT '') RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := goya_private.require_writer();
    newest goya.prompts;
BEGIN
    PERFORM goya_private.check_name('prompt', set_prompt.name, 'summary.short');
    IF coalesce(set_prompt.template, '') = '' OR octet_length(set_prompt.template) + octet_length(coalesce(set_prompt.system, '')) > 1048576 THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad prompt', DETAIL = 'Its template is empty, or it is longer than 1 MB.',
            HINT = 'Write text with {{ variables }}.';
    END IF;
    PERFORM goya.check_schema(coalesce(set_prompt.variables, '{}'), 'null');
    -- Two at once take the same number: the second waits for the first, as its row says, and then counts again.
    LOOP
        SELECT p.* INTO newest FROM goya.prompts p WHERE p.tenant_id = tenant AND p.name = set_prompt.name ORDER BY p.version DESC LIMIT 1;
        IF (newest.template, newest.system, newest.variables) IS NOT DISTINCT FROM
           (set_prompt.template, coalesce(set_prompt.system, ''), coalesce(set_prompt.variables, '{}')) THEN
            RETURN newest.version;
        END IF;
        INSERT INTO goya.prompts (tenant_id, name, version, system, template, variables, note, created_by)
        VALUES (tenant, set_prompt.name, coalesce(newest.version, 0) + 1, coalesce(set_prompt.system, ''), set_prompt.template,
                coalesce(set_prompt.variables, '{}'), coalesce(set_prompt.note, ''), goya.current_caller())
        ON CONFLICT (tenant_id, name, version) DO NOTHING;
        IF FOUND THEN
            RETURN coalesce(newest.version, 0) + 1;
        END IF;
    END LOOP;
END;
$$;
COMMENT ON FUNCTION goya.set_prompt(text, text, text, jsonb, text) IS
'Makes the next version of a prompt template, and returns its number; the same text again is the same version.
template: the user''s message with {{ variables }}; system: what goes before it; variables: JSON Schema of the variables, an object.
Errors: 22023 bad name, text or schema, 42501 no tenant or reader.
Example: SELECT goya.set_prompt(''summary'', ''Summarize in {{ words }} words: {{ text }}'', ''You are brief.'');';

CREATE FUNCTION goya.get_prompt(name text, version integer DEFAULT NULL) RETURNS goya.prompts
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := goya_private.require_tenant();
    p      goya.prompts;
BEGIN
    SELECT x.* INTO p FROM goya.prompts x
    WHERE x.tenant_id = tenant AND x.name = get_prompt.name AND x.version = coalesce(get_prompt.version, x.version) ORDER BY x.version DESC LIMIT 1;
    IF NOT FOUND THEN
        PERFORM goya_private.not_found('prompt', get_prompt.name || coalesce('@' || get_prompt.version, ''), 'SELECT name, version FROM goya.prompts lists them.');
    END IF;
    RETURN p;
END;
$$;
COMMENT ON FUNCTION goya.get_prompt(text, integer) IS
'Returns a version of a prompt template, the newest unless one is named.
Errors: PT404 unknown prompt or version, 42501 no tenant.';

CREATE FUNCTION goya.drop_prompt(name text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := goya_private.require_writer();
BEGIN
    DELETE FROM goya.prompts p WHERE p.tenant_id = tenant AND p.name = drop_prompt.name;
    IF NOT FOUND THEN
        PERFORM goya_private.not_found('prompt', drop_prompt.name, 'SELECT name, version FROM goya.prompts lists them.');
    END IF;
END;
$$;
COMMENT ON FUNCTION goya.drop_prompt(text) IS
'Removes a prompt template with all its versions. Nodes that name it fail from then on.
Errors: PT404 unknown prompt, 42501 no tenant or reader.';
