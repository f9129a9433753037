-- 38_mcp.sql: registering MCP servers, listing their tools, making operators of them.
--
-- Decided: tools are listed by a task like any other call outside, of the workflow goya.mcp_sync, which a tenant gets when it first asks; its node
-- calls the tool "*". An operator keeps the hash of the tool it was made of: a tool that has changed since is refused until it is installed again,
-- as somebody has looked at what it was, and nobody at what it is now.
-- Must hold: a tool is never deleted while its server is registered, so that one that comes back is known.

CREATE FUNCTION goya_private.check_mcp_server(url text, auth jsonb, headers jsonb, protocol text, timeout interval, max_concurrency integer) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    problem text;
    hint    text;
BEGIN
    IF check_mcp_server.url IS NULL OR check_mcp_server.url !~ '^https?://[^\s]+$' OR length(check_mcp_server.url) > 2000 THEN
        problem := format('"%s" is no http or https address.', left(check_mcp_server.url, 100));
        hint := 'Give the address of its endpoint, as in https://tools.example.com/mcp.';
    ELSIF check_mcp_server.protocol IS NULL OR check_mcp_server.protocol NOT IN ('auto', '2025-11-25', '2026-07-28') THEN
        problem := format('protocol "%s" is none of auto, 2025-11-25, 2026-07-28.', check_mcp_server.protocol);
        hint := 'auto asks the server.';
    ELSIF check_mcp_server.headers IS NULL OR jsonb_typeof(check_mcp_server.headers) <> 'object'
          OR EXISTS (SELECT FROM jsonb_each(check_mcp_server.headers) h WHERE jsonb_typeof(h.value) <> 'string') THEN
        problem := 'headers is not an object of strings.';
        hint := 'Write {"X-Team": "media"}.';
    ELSIF check_mcp_server.auth IS NULL OR jsonb_typeof(check_mcp_server.auth) <> 'object' OR (check_mcp_server.auth <> '{}'
          AND NOT (coalesce(check_mcp_server.auth ->> 'type' IN ('bearer', 'basic', 'api_key'), false)
                   AND coalesce(jsonb_typeof(check_mcp_server.auth -> 'secret') = 'string', false)
                   AND (check_mcp_server.auth ->> 'type' <> 'basic' OR coalesce(jsonb_typeof(check_mcp_server.auth -> 'username') = 'string', false))
                   AND (check_mcp_server.auth ->> 'type' <> 'api_key' OR coalesce(jsonb_typeof(check_mcp_server.auth -> 'name') = 'string', false)))) THEN
        problem := 'auth is not an object with type bearer, basic (and username) or api_key (and name of a header), and the name of a secret.';
        hint := 'Write {"type": "bearer", "secret": "tools-token"}; the secret itself never stands here.';
    ELSIF check_mcp_server.timeout < interval '0' OR check_mcp_server.max_concurrency < 0 THEN
        problem := 'timeout and max_concurrency may not be negative.';
        hint := '0 takes them away.';
    END IF;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad MCP server', DETAIL = problem, HINT = hint;
    END IF;
END;
$$;

-- The server of that name in the caller's tenant, locked.
CREATE FUNCTION goya_private.lock_mcp_server(name text) RETURNS goya.mcp_servers
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := goya_private.require_writer();
    s      goya.mcp_servers;
BEGIN
    SELECT m.* INTO s FROM goya.mcp_servers m WHERE m.tenant_id = tenant AND m.name = lock_mcp_server.name FOR UPDATE;
    IF NOT FOUND THEN
        PERFORM goya_private.not_found('MCP server', lock_mcp_server.name, 'SELECT name FROM goya.mcp_servers lists them.');
    END IF;
    RETURN s;
END;
$$;

CREATE FUNCTION goya.create_mcp_server(name text, url text, auth jsonb DEFAULT '{}', headers jsonb DEFAULT '{}', protocol text DEFAULT 'auto',
    timeout interval DEFAULT NULL, max_concurrency integer DEFAULT NULL, trusted boolean DEFAULT true, description text DEFAULT '') RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := goya_private.require_writer();
    made   uuid := goya.new_id();
BEGIN
    IF create_mcp_server.name IS NULL OR create_mcp_server.name !~ '^[A-Za-z][A-Za-z0-9_.-]{0,62}$' THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad name of an MCP server',
            DETAIL = format('"%s" is not a name of up to 63 letters, digits, "_", "." and "-".', create_mcp_server.name),
            HINT = 'Names begin with a letter.';
    END IF;
    PERFORM goya_private.check_mcp_server(create_mcp_server.url, coalesce(create_mcp_server.auth, '{}'), coalesce(create_mcp_server.headers, '{}'),
        create_mcp_server.protocol, create_mcp_server.timeout, create_mcp_server.max_concurrency);
    INSERT INTO goya.mcp_servers (id, tenant_id, name, description, url, headers, auth, protocol, timeout, max_concurrency, trusted, created_by)
    VALUES (made, tenant, create_mcp_server.name, coalesce(create_mcp_server.description, ''), create_mcp_server.url,
            coalesce(create_mcp_server.headers, '{}'), coalesce(create_mcp_server.auth, '{}'), create_mcp_server.protocol,
            nullif(create_mcp_server.timeout, interval '0'), nullif(create_mcp_server.max_concurrency, 0),
            coalesce(create_mcp_server.trusted, true), goya.current_caller())
    ON CONFLICT (tenant_id, name) DO NOTHING;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = '23505', MESSAGE = format('MCP server "%s" already exists', create_mcp_server.name),
            HINT = 'goya.update_mcp_server changes it.';
    END IF;
    RETURN made;
END;
$$;
COMMENT ON FUNCTION goya.create_mcp_server(text, text, jsonb, jsonb, text, interval, integer, boolean, text) IS
'Registers a server of the Model Context Protocol and returns its id. Nothing is called yet; goya.sync_mcp_server lists its tools.
url: its endpoint for streamable HTTP. auth: {"type": "bearer", "secret": name}, {"type": "basic", "username", "secret"} or {"type": "api_key", "name",
"prefix", "secret"}, where name is a header; goya.set_secret makes the secret, bound to the host of the server. headers: sent with every request; everybody
of the tenant sees them. protocol: 2025-11-25, 2026-07-28 or auto, which asks. timeout: of a call whose node has none. max_concurrency: calls at once.
trusted: believe its annotations about which tools may run twice.
Errors: 22023 bad name or configuration, 23505 the name is taken, 42501 no tenant or reader.
Example: SELECT goya.create_mcp_server(''tools'', ''https://tools.example.com/mcp'', auth => ''{"type": "bearer", "secret": "tools-token"}'');';

CREATE FUNCTION goya.update_mcp_server(name text, url text DEFAULT NULL, auth jsonb DEFAULT NULL, headers jsonb DEFAULT NULL, protocol text DEFAULT NULL,
    timeout interval DEFAULT NULL, max_concurrency integer DEFAULT NULL, trusted boolean DEFAULT NULL, description text DEFAULT NULL,
    enabled boolean DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    s goya.mcp_servers := goya_private.lock_mcp_server(update_mcp_server.name);
BEGIN
    s.url := coalesce(update_mcp_server.url, s.url);
    s.auth := coalesce(update_mcp_server.auth, s.auth);
    s.headers := coalesce(update_mcp_server.headers, s.headers);
    s.protocol := coalesce(update_mcp_server.protocol, s.protocol);
    s.timeout := coalesce(update_mcp_server.timeout, s.timeout);
    s.max_concurrency := coalesce(update_mcp_server.max_concurrency, s.max_concurrency);
    PERFORM goya_private.check_mcp_server(s.url, s.auth, s.headers, s.protocol, s.timeout, s.max_concurrency);
    UPDATE goya.mcp_servers m
    SET url = s.url, auth = s.auth, headers = s.headers, protocol = s.protocol, timeout = nullif(s.timeout, interval '0'),
        max_concurrency = nullif(s.max_concurrency, 0), trusted = coalesce(update_mcp_server.trusted, s.trusted),
        description = coalesce(update_mcp_server.description, s.description), enabled = coalesce(update_mcp_server.enabled, s.enabled),
        revision = s.revision + 1, updated_at = clock_timestamp()
    WHERE m.id = s.id;
END;
$$;
COMMENT ON FUNCTION goya.update_mcp_server(text, text, jsonb, jsonb, text, interval, integer, boolean, text, boolean) IS
'Changes an MCP server; what is null stays. Calls from now on open a new session; those under way end as they began.
timeout and max_concurrency: 0 takes them away. enabled: calls of a disabled server fail.
Errors: PT404 unknown server, 22023 bad configuration, 42501 no tenant or reader.';

CREATE FUNCTION goya.drop_mcp_server(name text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    s goya.mcp_servers := goya_private.lock_mcp_server(drop_mcp_server.name);
BEGIN
    DELETE FROM goya.mcp_servers m WHERE m.id = s.id;
END;
$$;
COMMENT ON FUNCTION goya.drop_mcp_server(text) IS
'Forgets an MCP server and its tools. Records of its calls stay; operators made of its tools stay too, and fail until a server of that name is there again.
Errors: PT404 unknown server, 42501 no tenant or reader.';

CREATE FUNCTION goya.sync_mcp_server(name text) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := goya_private.require_writer();
BEGIN
    IF NOT EXISTS (SELECT FROM goya.mcp_servers m WHERE m.tenant_id = tenant AND m.name = sync_mcp_server.name) THEN
        PERFORM goya_private.not_found('MCP server', sync_mcp_server.name, 'SELECT name FROM goya.mcp_servers lists them.');
    END IF;
    IF NOT EXISTS (SELECT FROM goya.workflows w WHERE w.tenant_id = tenant AND w.name = 'goya.mcp_sync') THEN
        BEGIN
            PERFORM goya.create_workflow('goya.mcp_sync', '{"nodes": [{"key": "list", "kind": "mcp", "server": "{{ input.server }}", "tool": "*"}]}',
                description => 'Lists the tools of an MCP server: goya.sync_mcp_server.', publish => true);
        EXCEPTION WHEN unique_violation THEN
            NULL;               -- somebody else of the tenant asked for the first time too
        END;
    END IF;
    RETURN goya.run('goya.mcp_sync', jsonb_build_object('server', sync_mcp_server.name));
END;
$$;
COMMENT ON FUNCTION goya.sync_mcp_server(text) IS
'Starts a task that lists the tools of an MCP server into goya.mcp_tools, and returns its id; goya.wait_for_task waits for it.
The task''s output says what was found: {"tools": number, "added": [names], "changed": [names], "removed": [names]}.
Errors: PT404 unknown server, 42501 no tenant or reader; those of goya.run.
Example: SELECT goya.sync_mcp_server(''tools'');';

CREATE FUNCTION goya.search_mcp_tools(query text DEFAULT NULL, server text DEFAULT NULL, include_removed boolean DEFAULT false) RETURNS SETOF goya.mcp_tools
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT t.* FROM goya.mcp_tools t
    WHERE (search_mcp_tools.server IS NULL OR t.server = search_mcp_tools.server) AND (search_mcp_tools.include_removed OR t.removed_at IS NULL)
          AND (coalesce(search_mcp_tools.query, '') = '' OR NOT EXISTS (
              SELECT FROM regexp_split_to_table(btrim(search_mcp_tools.query), '\s+') word
              WHERE position(lower(word) IN lower(concat_ws(' ', t.name, t.title, t.description))) = 0))
    ORDER BY t.server, t.name
$$;
COMMENT ON FUNCTION goya.search_mcp_tools(text, text, boolean) IS
'Finds tools of MCP servers by words of their name, title and description; all words must be there. Without arguments all tools.
Example: SELECT server, name, description FROM goya.search_mcp_tools(''weather'');';

CREATE FUNCTION goya.install_mcp_tool(server text, tool text, operator text DEFAULT NULL, category text DEFAULT 'processing') RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    tenant     uuid := goya_private.require_writer();
    t          goya.mcp_tools;
    believed   boolean;
    wanted     text;
    config     jsonb;
    repeatable boolean;
BEGIN
    SELECT m.* INTO t FROM goya.mcp_tools m WHERE m.tenant_id = tenant AND m.server = install_mcp_tool.server AND m.name = install_mcp_tool.tool;
    IF NOT FOUND THEN
        PERFORM goya_private.not_found('MCP tool', concat_ws('/', install_mcp_tool.server, install_mcp_tool.tool),
            'goya.search_mcp_tools() lists them; goya.sync_mcp_server asks the server.');
    ELSIF t.removed_at IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('tool "%s" of MCP server "%s" is gone', t.name, t.server),
            DETAIL = format('The server no longer lists it since %s.', t.removed_at), HINT = 'goya.sync_mcp_server asks the server again.';
    END IF;
    SELECT m.trusted INTO believed FROM goya.mcp_servers m WHERE m.id = t.server_id;
    wanted := coalesce(install_mcp_tool.operator, left(regexp_replace(t.server || '.' || t.name, '[^A-Za-z0-9_.-]', '_', 'g'), 63));
    config := jsonb_build_object('server', t.server, 'tool', t.name, 'tool_hash', t.hash);
    repeatable := believed AND coalesce(t.annotations -> 'readOnlyHint' = 'true' OR t.annotations -> 'idempotentHint' = 'true', false);
    IF EXISTS (SELECT FROM goya.operators o WHERE o.tenant_id = tenant AND o.name = wanted) THEN
        PERFORM goya.add_operator_version(wanted, config, t.input_schema, coalesce(t.output_schema, '{}'), 'mcp', repeatable);
    ELSE
        PERFORM goya.create_operator(wanted, 'mcp', config, t.input_schema, coalesce(t.output_schema, '{}'), category => install_mcp_tool.category,
            description => coalesce(nullif(t.description, ''), t.title, ''), idempotent => repeatable, origin => 'mcp');
    END IF;
    RETURN wanted;
END;
$$;
COMMENT ON FUNCTION goya.install_mcp_tool(text, text, text, text) IS
'Makes an operator of mode mcp of a tool that was listed, or a new version of the operator if it is there, and returns its name.
operator: null is server.tool. The tool''s schemas become the operator''s; it is idempotent when the server is trusted and says the tool is read-only or
idempotent. When schemas or annotations of the tool change, its calls are refused with class VALIDATION until it is installed again.
Errors: PT404 no such tool listed, 55000 the tool is gone, those of goya.create_operator.
Example: SELECT goya.install_mcp_tool(''tools'', ''get-sum'');';

-- ----- for the engine -----

-- Writes what a server listed; what was found, as the node's output.
CREATE FUNCTION goya_private.store_mcp_tools(server uuid, tools jsonb) RETURNS jsonb
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    s       goya.mcp_servers;
    listed  jsonb;
    added   jsonb;
    changed jsonb;
    removed jsonb;
    total   bigint;
BEGIN
    UPDATE goya.mcp_servers m SET last_synced_at = clock_timestamp() WHERE m.id = store_mcp_tools.server RETURNING m.* INTO s;
    IF NOT FOUND THEN
        RETURN jsonb_build_object('tools', 0, 'added', '[]'::jsonb, 'changed', '[]'::jsonb, 'removed', '[]'::jsonb);
    END IF;
    WITH said AS (
        SELECT DISTINCT ON (i.tool ->> 'name') i.tool ->> 'name' AS name, i.tool
        FROM jsonb_array_elements(store_mcp_tools.tools) WITH ORDINALITY AS i(tool, ordinal)
        WHERE length(i.tool ->> 'name') BETWEEN 1 AND 256 ORDER BY i.tool ->> 'name', i.ordinal
    ), meant AS (
        SELECT x.name, coalesce(x.tool ->> 'title', x.tool #>> '{annotations,title}') AS title, coalesce(x.tool ->> 'description', '') AS description,
               CASE jsonb_typeof(x.tool -> 'inputSchema') WHEN 'object' THEN x.tool -> 'inputSchema' ELSE '{}' END AS input_schema,
               CASE jsonb_typeof(x.tool -> 'outputSchema') WHEN 'object' THEN x.tool -> 'outputSchema' END AS output_schema,
               CASE jsonb_typeof(x.tool -> 'annotations') WHEN 'object' THEN x.tool -> 'annotations' ELSE '{}' END AS annotations
        FROM said x
    ), hashed AS (
        SELECT x.*, encode(sha256(convert_to(jsonb_build_array(x.input_schema, x.output_schema, x.annotations)::text, 'UTF8')), 'hex') AS hash FROM meant x
    ), old AS (
        SELECT t.name, t.hash, t.removed_at FROM goya.mcp_tools t WHERE t.server_id = s.id
    ), written AS (
        INSERT INTO goya.mcp_tools AS t (server_id, name, tenant_id, server, title, description, input_schema, output_schema, annotations, hash)
        SELECT s.id, h.name, s.tenant_id, s.name, h.title, h.description, h.input_schema, h.output_schema, h.annotations, h.hash FROM hashed h
        ON CONFLICT (server_id, name) DO UPDATE
        SET title = excluded.title, description = excluded.description, input_schema = excluded.input_schema, output_schema = excluded.output_schema,
            annotations = excluded.annotations, hash = excluded.hash, last_seen_at = now(), removed_at = NULL,
            changed_at = CASE WHEN t.hash = excluded.hash THEN t.changed_at ELSE now() END
    ), gone AS (
        UPDATE goya.mcp_tools t SET removed_at = now()
        WHERE t.server_id = s.id AND t.removed_at IS NULL AND NOT EXISTS (SELECT FROM hashed h WHERE h.name = t.name) RETURNING t.name
    )
    SELECT (SELECT count(*) FROM hashed),
           (SELECT jsonb_agg(h.name ORDER BY h.name) FROM hashed h WHERE NOT EXISTS (SELECT FROM old o WHERE o.name = h.name AND o.removed_at IS NULL)),
           (SELECT jsonb_agg(h.name ORDER BY h.name) FROM hashed h JOIN old o ON o.name = h.name WHERE o.removed_at IS NULL AND o.hash <> h.hash),
           (SELECT jsonb_agg(g.name ORDER BY g.name) FROM gone g)
    INTO total, added, changed, removed;
    RETURN jsonb_build_object('tools', total, 'added', coalesce(added, '[]'), 'changed', coalesce(changed, '[]'), 'removed', coalesce(removed, '[]'));
END;
$$;

-- A call ended: its record, and what it showed of its server. tools: what was listed, else null.
CREATE FUNCTION goya_private.note_mcp_call(note jsonb, tools jsonb) RETURNS jsonb
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    called uuid := (note_mcp_call.note ->> 'server_id')::uuid;
BEGIN
    INSERT INTO goya.mcp_calls AS c (task_id, node, item, attempt, tenant_id, server_id, server, tool, protocol_version, session_hash, requests, resumed,
        progress, asked, message, succeeded, error_class, started_at, finished_at)
    SELECT r.task_id, r.node, r.item, r.attempt, r.tenant_id, called, r.server, r.tool, r.protocol_version, r.session_hash, r.requests, r.resumed,
        r.progress, r.asked, r.message, r.ok, r.error_class, timestamptz '2000-01-01 00:00:00+00' + r.started_us * interval '1 microsecond',
        clock_timestamp()
    FROM jsonb_to_record(note_mcp_call.note) AS r(task_id uuid, node text, item integer, attempt smallint, tenant_id uuid, server text, tool text,
        protocol_version text, session_hash text, requests integer, resumed integer, progress integer, asked integer, message text, ok boolean,
        error_class text, started_us bigint)
    ON CONFLICT (task_id, node, item, attempt) DO UPDATE        -- a call that was lost and made again
    SET protocol_version = excluded.protocol_version, session_hash = excluded.session_hash, requests = excluded.requests, resumed = excluded.resumed,
        progress = excluded.progress, asked = excluded.asked, message = excluded.message, succeeded = excluded.succeeded,
        error_class = excluded.error_class, finished_at = excluded.finished_at;
    UPDATE goya.mcp_servers m
    SET status = note_mcp_call.note ->> 'status', protocol_version = coalesce(note_mcp_call.note ->> 'protocol_version', m.protocol_version),
        capabilities = coalesce(note_mcp_call.note -> 'capabilities', m.capabilities),
        server_info = coalesce(note_mcp_call.note -> 'server_info', m.server_info), updated_at = clock_timestamp()
    WHERE m.id = called
          AND (m.status <> note_mcp_call.note ->> 'status'
               OR m.protocol_version IS DISTINCT FROM coalesce(note_mcp_call.note ->> 'protocol_version', m.protocol_version)
               OR m.capabilities IS DISTINCT FROM coalesce(note_mcp_call.note -> 'capabilities', m.capabilities));
    IF note_mcp_call.tools IS NULL THEN
        RETURN NULL;
    END IF;
    RETURN goya_private.store_mcp_tools(called, note_mcp_call.tools);
END;
$$;
