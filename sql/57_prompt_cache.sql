-- 57_prompt_cache.sql: a call of an AI model, from its node's configuration to what is asked of whom; and answers that are kept.
--
-- Decided: the engine calls prepare_model_call in the transaction in which it claims a call (src/model_config.c), with the node's evaluated fields: everything that is read from tables
-- is read there, in one statement. Models are looked up by name at that moment, so what is behind a name can change while tasks run. An answer is kept only where the node says so
-- ("cache"), by the hash of all that decides it, for that tenant only. The cache is unlogged: a crash empties it.
-- A tenant whose setting encrypt_prompts is true has its answers sealed, and none is kept while there is no master key.
-- Must hold: only what the task's role may see goes into a prompt; a kept answer is never given to another tenant.

CREATE UNLOGGED TABLE goya_private.prompt_cache (
    tenant_id   uuid NOT NULL,
    key         text NOT NULL,                     -- SHA-256 of the request, hex
    output      jsonb,
    sealed      bytea,                             -- instead of it
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, key),
    CHECK ((output IS NULL) <> (sealed IS NULL))
);
CREATE INDEX prompt_cache_expires_idx ON goya_private.prompt_cache (expires_at);

CREATE FUNCTION goya_private.refuse_call(problem text, advice text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'the model cannot be called', DETAIL = problem, HINT = advice;
END;
$$;

-- Text with {{ variables }}, dotted names for what is inside. One pass: what a variable says is never a template.
CREATE FUNCTION goya_private.render_prompt(template text, variables jsonb) RETURNS text
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    pattern constant text := '\{\{\s*([A-Za-z_][A-Za-z0-9_.]*)\s*\}\}';
    pieces  text[] := regexp_split_to_array(render_prompt.template, pattern);
    names   text[] := ARRAY(SELECT m[1] FROM regexp_matches(render_prompt.template, pattern, 'g') m);
    done    text := pieces[1];
    value   jsonb;
BEGIN
    FOR i IN 1 .. cardinality(names) LOOP
        value := render_prompt.variables #> string_to_array(names[i], '.');
        IF value IS NULL THEN
            PERFORM goya_private.refuse_call(format('The prompt has {{ %s }}, and there is no such variable.', names[i]), 'Give it in "variables".');
        END IF;
        done := done || CASE jsonb_typeof(value) WHEN 'string' THEN value #>> '{}' WHEN 'null' THEN '' ELSE value::text END || pieces[i + 1];
    END LOOP;
    RETURN done;
END;
$$;

-- A part of a message as services take it: a string is text, {"asset": id} is the asset, {"image": url} a picture; anything else stays.
CREATE FUNCTION goya_private.model_part(tenant_id uuid, run_as name, part jsonb) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    a   goya.assets;
    url text;
BEGIN
    IF jsonb_typeof(part) = 'string' THEN
        RETURN jsonb_build_object('type', 'text', 'text', part);
    ELSIF jsonb_typeof(part -> 'image') = 'string' THEN
        RETURN jsonb_build_object('type', 'image_url', 'image_url', jsonb_build_object('url', part -> 'image'));
    ELSIF jsonb_typeof(part -> 'asset') IS DISTINCT FROM 'string' THEN
        RETURN part;
    ELSIF part ->> 'asset' !~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN
        PERFORM goya_private.refuse_call(format('"%s" is no id of an asset.', left(part ->> 'asset', 100)), 'As in {"asset": "{{ asset.id }}"}.');
    END IF;
    SELECT x.* INTO a FROM goya.assets x
    WHERE x.id = (part ->> 'asset')::uuid AND (x.tenant_id = model_part.tenant_id OR x.visibility = 'public')
      AND goya_private.role_may_see(model_part.run_as, x.visibility, x.owner_role, x.visible_roles);
    IF NOT FOUND THEN
        PERFORM goya_private.refuse_call(format('There is no asset %s.', part ->> 'asset'), 'The role that the task runs as must be allowed to see it.');
    END IF;
    IF a.content IS NOT NULL AND (a.media_type = 'text' OR a.mime_type LIKE 'text/%') THEN
        BEGIN
            RETURN jsonb_build_object('type', 'text', 'text', convert_from(a.content, 'UTF8'));
        EXCEPTION WHEN character_not_in_repertoire OR untranslatable_character THEN
            PERFORM goya_private.refuse_call(format('Asset %s is not UTF-8.', a.id), 'Only such text can be put into a prompt.');
        END;
    END IF;
    url := CASE WHEN a.content IS NOT NULL THEN 'data:' || coalesce(a.mime_type, CASE a.media_type WHEN 'image' THEN 'image/' || coalesce(a.format, 'png') ELSE 'application/octet-stream' END)
                    || ';base64,' || translate(encode(a.content, 'base64'), E'\n', '')
                WHEN a.uri ~ '^(https?|data):' THEN a.uri END;
    IF url IS NULL THEN
        PERFORM goya_private.refuse_call(format('Asset %s has neither content nor an http address.', a.id), 'A service can be shown bytes that are here, or an address that it can reach.');
    END IF;
    RETURN jsonb_build_object('type', 'image_url', 'image_url', jsonb_build_object('url', url));
END;
$$;

CREATE FUNCTION goya_private.model_content(tenant_id uuid, run_as name, content jsonb) RETURNS jsonb
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    RETURN CASE WHEN jsonb_typeof(content) = 'array'
                THEN (SELECT coalesce(jsonb_agg(goya_private.model_part(tenant_id, run_as, p.value) ORDER BY p.ordinality), '[]')
                      FROM jsonb_array_elements(content) WITH ORDINALITY p)
                WHEN jsonb_typeof(content) = 'object' THEN jsonb_build_array(goya_private.model_part(tenant_id, run_as, content))
                ELSE content END;

-- The prompt that a node's fields make: {"system", "user"}, as far as there are.
CREATE FUNCTION goya_private.model_prompt(tenant_id uuid, config jsonb) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    wanted    text[] := regexp_match(config ->> 'prompt_template', '^(.*?)(?:@([0-9]{1,9}))?$');
    variables jsonb := coalesce(nullif(config -> 'variables', 'null'), '{}');
    p         goya.prompts;
    wrong     text;
BEGIN
    IF coalesce(config -> 'prompt_template', 'null') = 'null' THEN
        RETURN jsonb_strip_nulls(jsonb_build_object('system', config -> 'system', 'user', config ->> 'prompt'));
    END IF;
    SELECT x.* INTO p FROM goya.prompts x
    WHERE x.tenant_id = model_prompt.tenant_id AND x.name = wanted[1] AND x.version = coalesce(wanted[2]::integer, x.version) ORDER BY x.version DESC LIMIT 1;
    IF NOT FOUND THEN
        PERFORM goya_private.refuse_call(format('There is no prompt "%s".', config ->> 'prompt_template'), 'SELECT name, version FROM goya.prompts lists them; "name@3" is a version.');
    END IF;
    SELECT string_agg(format('%s: %s', coalesce(nullif(c.path, ''), '/'), c.message), '; ') INTO wrong FROM goya.check_schema(p.variables, variables, 5) c;
    IF wrong IS NOT NULL THEN
        PERFORM goya_private.refuse_call(format('The variables do not fit prompt "%s" version %s: %s.', p.name, p.version, wrong), 'goya.prompts.variables is their JSON Schema.');
    END IF;
    RETURN jsonb_strip_nulls(jsonb_build_object(
        'system', coalesce(config ->> 'system', nullif(goya_private.render_prompt(p.system, variables), '')),
        'user', goya_private.render_prompt(p.template, variables)));
END;
$$;

-- The messages of a chat.
CREATE FUNCTION goya_private.model_messages(tenant_id uuid, run_as name, config jsonb) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    prompt   jsonb := goya_private.model_prompt(tenant_id, config);
    content  jsonb := nullif(config -> 'content', 'null');
    messages jsonb := '[]';
BEGIN
    IF jsonb_typeof(config -> 'messages') = 'array' THEN
        SELECT coalesce(jsonb_agg(CASE WHEN jsonb_typeof(m.value -> 'content') IN ('array', 'object')
                                       THEN jsonb_set(m.value, '{content}', goya_private.model_content(tenant_id, run_as, m.value -> 'content')) ELSE m.value END
                                  ORDER BY m.ordinality), '[]')
        INTO messages FROM jsonb_array_elements(config -> 'messages') WITH ORDINALITY m;
        IF EXISTS (SELECT FROM jsonb_array_elements(messages) m WHERE jsonb_typeof(m -> 'role') IS DISTINCT FROM 'string') THEN
            PERFORM goya_private.refuse_call('A message has no role.', 'Messages are [{"role": "user", "content": "…"}].');
        END IF;
    END IF;
    IF content IS NOT NULL THEN
        content := CASE jsonb_typeof(content) WHEN 'array' THEN content ELSE jsonb_build_array(content) END;
        IF prompt ? 'user' THEN
            content := jsonb_build_array(prompt -> 'user') || content;
        END IF;
        messages := messages || jsonb_build_object('role', 'user', 'content', goya_private.model_content(tenant_id, run_as, content));
    ELSIF prompt ? 'user' THEN
        messages := messages || jsonb_build_object('role', 'user', 'content', prompt -> 'user');
    END IF;
    IF prompt ? 'system' THEN
        messages := jsonb_build_array(jsonb_build_object('role', 'system', 'content', prompt -> 'system')) || messages;
    END IF;
    IF messages = '[]' THEN
        PERFORM goya_private.refuse_call('There is nothing to say to it.', 'Give "prompt", "prompt_template", "messages" or "content".');
    END IF;
    RETURN messages;
END;
$$;

-- What is turned into vectors: text, or an array of texts; or of which a picture is made: text.
CREATE FUNCTION goya_private.model_input(tenant_id uuid, config jsonb, operation text) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    input jsonb := coalesce(nullif(config -> 'content', 'null'), goya_private.model_prompt(tenant_id, config) -> 'user');
BEGIN
    IF jsonb_typeof(input) = 'string' AND input <> '""'
       OR operation = 'embedding' AND jsonb_typeof(input) = 'array' AND input <> '[]'
          AND NOT EXISTS (SELECT FROM jsonb_array_elements(input) i WHERE jsonb_typeof(i) <> 'string') THEN
        RETURN input;
    END IF;
    PERFORM goya_private.refuse_call(CASE operation WHEN 'embedding' THEN 'The content of an embedding is a text, or an array of texts.' ELSE 'The prompt of an image is a text.' END,
                                     'Give "content" or "prompt".');
END;
$$;

-- The models that may answer, in the order in which they are asked.
CREATE FUNCTION goya_private.model_targets(tenant_id uuid, config jsonb, operation text) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    wanted  text := config ->> 'model';
    served_by text := config ->> 'provider';       -- null: whoever serves it
    main    goya.models;
    names   text[];
    targets jsonb;
BEGIN
    SELECT x.* INTO main FROM goya.models x
    WHERE x.name = wanted AND (x.tenant_id = model_targets.tenant_id OR x.visibility = 'public') AND (served_by IS NULL OR x.provider = served_by) ORDER BY x.tenant_id = model_targets.tenant_id DESC, x.id LIMIT 1;
    IF NOT FOUND THEN
        PERFORM goya_private.refuse_call(format('There is no model "%s"%s.', wanted, ' of provider "' || served_by || '"'), 'goya.create_model registers one.');
    ELSIF NOT operation = ANY (main.capabilities) THEN
        PERFORM goya_private.refuse_call(format('Model "%s" can do %s.', wanted, array_to_string(main.capabilities, ', ')), format('Operation "%s" needs a model that can.', operation));
    END IF;
    names := ARRAY[main.name] || CASE WHEN jsonb_typeof(config -> 'fallback') = 'array'
                                      THEN ARRAY(SELECT f.value FROM jsonb_array_elements_text(config -> 'fallback') WITH ORDINALITY f ORDER BY f.ordinality)
                                      ELSE main.fallback_models END;
    SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object('id', t.id, 'tenant', t.tenant_id, 'name', t.name, 'remote', t.remote_model, 'endpoint', t.endpoint,
               'secret', t.secret, 'parameters', t.parameters, 'timeout_ms', ceil(extract(epoch FROM t.timeout) * 1000), 'requests', t.requests_per_minute,
               'tokens', t.tokens_per_minute, 'at_once', t.max_concurrency, 'json_schema', 'json_schema' = ANY (t.capabilities))) ORDER BY t.place)
    INTO targets
    FROM (SELECT DISTINCT ON (n.place) m.*, n.place FROM unnest(names[:9]) WITH ORDINALITY n(name, place)
          JOIN goya.models m ON m.name = n.name AND (m.tenant_id = model_targets.tenant_id OR m.visibility = 'public')
          WHERE m.status <> 'disabled' AND (served_by IS NULL OR m.provider = served_by) AND operation = ANY (m.capabilities) ORDER BY n.place, m.tenant_id = model_targets.tenant_id DESC, m.id) t;
    IF targets IS NULL THEN
        PERFORM goya_private.refuse_call(format('Model "%s" is disabled, and so is what it falls back to%s.', wanted, ' of provider "' || served_by || '"'), 'goya.set_model_status(name, ''active'') enables it.');
    END IF;
    RETURN targets;
END;
$$;

-- {"operation", "sealed", "targets", "messages" or "input", "cache_key", "cache_seconds", "cached"}: all that the engine must know to make the call. Raises 22023.
CREATE FUNCTION goya_private.prepare_model_call(tenant_id uuid, run_as text, config jsonb) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    operation text := coalesce(config ->> 'operation', 'chat');
    seconds   integer := CASE jsonb_typeof(config -> 'cache') WHEN 'boolean' THEN CASE WHEN (config -> 'cache')::boolean THEN 3600 END
                                                              WHEN 'number' THEN least((config ->> 'cache')::numeric, 2592000)::integer END;
    call      jsonb;
    kept      jsonb;
BEGIN
    IF operation NOT IN ('chat', 'embedding', 'image') THEN
        PERFORM goya_private.refuse_call(format('Operation "%s" is none of chat, embedding, image.', operation), 'Without one it is chat.');
    END IF;
    call := jsonb_build_object('operation', operation, 'sealed', goya_private.encrypts_prompts(prepare_model_call.tenant_id), 'targets', goya_private.model_targets(tenant_id, config, operation))
        || CASE operation WHEN 'chat' THEN jsonb_build_object('messages', goya_private.model_messages(tenant_id, run_as, config))
                          ELSE jsonb_build_object('input', goya_private.model_input(tenant_id, config, operation)) END;
    IF seconds > 0 THEN
        call := call || jsonb_build_object('cache_seconds', seconds, 'cache_key', encode(sha256(convert_to(jsonb_build_array(
            operation, call #>> '{targets,0,id}', call #>> '{targets,0,endpoint}', call #>> '{targets,0,remote}', call #> '{targets,0,parameters}', call -> 'messages', call -> 'input',
            config -> 'parameters', config -> 'tools', config -> 'tool_choice', config -> 'response_schema')::text, 'UTF8')), 'hex'));
        SELECT call || jsonb_build_object('cached', coalesce(c.output, goya_private.open_sealed(c.tenant_id, 'completion', c.key, c.sealed)::jsonb)) INTO kept
        FROM goya_private.prompt_cache c
        WHERE c.tenant_id = prepare_model_call.tenant_id AND c.key = call ->> 'cache_key' AND c.expires_at > clock_timestamp()
          AND (c.sealed IS NULL OR goya_private.sealed_with(c.sealed) IN (SELECT goya_private.master_keys()));
        call := coalesce(kept, call);
    END IF;
    RETURN call;
END;
$$;

-- Keeps an answer; and drops some that are too old.
CREATE FUNCTION goya_private.keep_answer(tenant_id uuid, key text, output jsonb, seconds integer) RETURNS void
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    DELETE FROM goya_private.prompt_cache c WHERE (c.tenant_id, c.key) IN (
        SELECT o.tenant_id, o.key FROM goya_private.prompt_cache o WHERE o.expires_at < clock_timestamp() ORDER BY o.expires_at LIMIT 100 FOR UPDATE SKIP LOCKED);
    INSERT INTO goya_private.prompt_cache (tenant_id, key, output, sealed, expires_at)
    SELECT keep_answer.tenant_id, keep_answer.key, CASE WHEN NOT s.yes THEN keep_answer.output END,
           CASE WHEN s.yes THEN goya_private.seal(keep_answer.tenant_id, 'completion', keep_answer.key, keep_answer.output::text) END,
           clock_timestamp() + make_interval(secs => keep_answer.seconds)
    FROM (SELECT goya_private.encrypts_prompts(keep_answer.tenant_id) AS yes) s
    WHERE pg_column_size(keep_answer.output) <= 1048576 AND (NOT s.yes OR goya_private.has_master_key())
    ON CONFLICT (tenant_id, key) DO UPDATE SET output = excluded.output, sealed = excluded.sealed, created_at = excluded.created_at, expires_at = excluded.expires_at;
$$;
