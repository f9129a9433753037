-- 37_secrets.sql: setting and deleting secrets, changing the master key, sealed text, personal data.
--
-- Decided: write-only. What was set cannot be read back by SQL, by a superuser neither; calls get it in the engine (src/secret.h). Hosts are set together with
-- the value, since who may say where a secret goes can have it. A value is sealed in the session that sets it: a backend runs as the server's user and
-- can read the master key, an SQL role cannot (docs/design/secrets.md).
-- Must hold: goya_private.hide_statement() comes first in set_secret; no error has the value. Every table with sealed values is named twice below: in
-- reseal_secrets or reseal_values, and in list_master_keys (but for those whose rows go away by themselves: kept answers, streams).

CREATE FUNCTION goya_private.hide_statement() RETURNS void
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'goya_hide_statement_sql';
CREATE FUNCTION goya_private.secret_hosts(hosts text[]) RETURNS text[]
    LANGUAGE c IMMUTABLE STRICT AS 'MODULE_PATHNAME', 'goya_secret_hosts_sql';
CREATE FUNCTION goya_private.seal_secret(tenant uuid, name text, version integer, hosts text[], value text) RETURNS bytea
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'goya_seal_secret_sql';

-- Text at rest. kind says what it is (prompt, completion …; secret and key are refused), ref which row's: it opens with the same tenant, kind and ref only.
CREATE FUNCTION goya_private.seal(tenant uuid, kind text, ref text, value text) RETURNS bytea
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'goya_seal_sql';
CREATE FUNCTION goya_private.open_sealed(tenant uuid, kind text, ref text, sealed bytea) RETURNS text
    LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'goya_open_sealed_sql';
-- The same under the active master key.
CREATE FUNCTION goya_private.rewrap(sealed bytea) RETURNS bytea
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'goya_rewrap_sql';
-- The id of its master key, null for what is no sealed value; needs no key, so an index may be on it.
CREATE FUNCTION goya_private.sealed_with(sealed bytea) RETURNS text
    LANGUAGE c IMMUTABLE STRICT AS 'MODULE_PATHNAME', 'goya_sealed_with_sql';
-- Ids of the master keys that are here, the active one first.
CREATE FUNCTION goya_private.master_keys() RETURNS SETOF text
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'goya_master_keys_sql';

-- For what goes on without, as streams do: they are everybody's.
CREATE FUNCTION goya_private.has_master_key() RETURNS boolean
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN EXISTS (SELECT FROM goya_private.master_keys());
EXCEPTION WHEN object_not_in_prerequisite_state THEN
    RETURN false;
END;
$$;

CREATE FUNCTION goya_private.make_key(tenant uuid, purpose text) RETURNS bytea
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'goya_make_key_sql';
CREATE FUNCTION goya_private.keyed_hash(tenant uuid, purpose text, sealed bytea, value text) RETURNS text
    LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'goya_keyed_hash_sql';

-- Are prompts and completions of the tenant to be sealed? Its setting encrypt_prompts.
CREATE FUNCTION goya_private.encrypts_prompts(tenant uuid) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        SELECT coalesce((SELECT t.settings -> 'encrypt_prompts' = 'true'::jsonb FROM goya.tenants t WHERE t.id = encrypts_prompts.tenant), false);
    END;

-- Inputs and outputs at rest (src/value.c): jsonb, or text in columns of type text. Sealed if the tenant's setting says so.
CREATE FUNCTION goya_private.seal_value(tenant uuid, value jsonb) RETURNS jsonb
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'goya_seal_value_sql';
CREATE FUNCTION goya_private.seal_text(tenant uuid, value text) RETURNS text
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'goya_seal_text_sql';
-- What was sealed for the tenant; anything else as it is. 55000 when its master key is not here.
CREATE FUNCTION goya_private.open_value(tenant uuid, value jsonb) RETURNS jsonb
    LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'goya_open_value_of_sql';
CREATE FUNCTION goya_private.open_text(tenant uuid, value text) RETURNS text
    LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'goya_open_text_of_sql';
-- The id of its master key, null for what is not sealed; needs no key. With checked, which does: null also where a user wrote the id of a key that is here.
CREATE FUNCTION goya_private.value_key(value jsonb, checked boolean DEFAULT false) RETURNS text
    LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'goya_value_key_sql';
CREATE FUNCTION goya_private.text_key(value text, checked boolean DEFAULT false) RETURNS text
    LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'goya_text_key_sql';
-- The same under the active master key.
CREATE FUNCTION goya_private.rewrap_value(value jsonb) RETURNS jsonb
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'goya_rewrap_value_sql';
CREATE FUNCTION goya_private.rewrap_text(value text) RETURNS text
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'goya_rewrap_text_sql';

-- A stored value for another row of the tenant.
CREATE FUNCTION goya_private.keep_value(tenant uuid, value jsonb) RETURNS jsonb
    LANGUAGE sql VOLATILE
    RETURN CASE WHEN goya_private.value_key(value) IS NULL THEN goya_private.seal_value(tenant, value) ELSE value END;

-- Opened, or as it is when its master key is not here: for what must go on without.
CREATE FUNCTION goya_private.try_open_value(tenant uuid, value jsonb) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN goya_private.open_value(try_open_value.tenant, try_open_value.value);
EXCEPTION WHEN object_not_in_prerequisite_state THEN
    RETURN try_open_value.value;
END;
$$;
CREATE FUNCTION goya_private.try_open_text(tenant uuid, value text) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN goya_private.open_text(try_open_text.tenant, try_open_text.value);
EXCEPTION WHEN object_not_in_prerequisite_state THEN
    RETURN try_open_text.value;
END;
$$;
CREATE FUNCTION goya_private.peek_value(tenant uuid, value jsonb) RETURNS jsonb
    LANGUAGE sql STABLE
    RETURN CASE WHEN goya_private.value_key(value) IS NULL THEN value ELSE goya_private.try_open_value(tenant, value) END;
CREATE FUNCTION goya_private.peek_text(tenant uuid, value text) RETURNS text
    LANGUAGE sql STABLE
    RETURN CASE WHEN goya_private.text_key(value) IS NULL THEN value ELSE goya_private.try_open_text(tenant, value) END;

CREATE FUNCTION goya.open_value(value jsonb) RETURNS jsonb
    LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'goya_open_value_sql';
COMMENT ON FUNCTION goya.open_value(jsonb) IS
'Opens a sealed input, output or message of the caller''s tenant; gives anything else back as it is.
Of a tenant with the setting encrypt_prompts, inputs and outputs of tasks and node runs, what agents and their tools say, and answers of approvals are stored as
{"$sealed": "…"}. What was sealed for another tenant, or was changed, stays closed. Null gives null.
Errors: 55000 the master key it was sealed with is not here; 42501 no tenant.
Example: SELECT id, goya.open_value(output) FROM goya.tasks;';
CREATE FUNCTION goya.open_text(value text) RETURNS text
    LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'goya_open_text_sql';
COMMENT ON FUNCTION goya.open_text(text) IS
'Opens a sealed text of the caller''s tenant, as goya.open_value does; gives anything else back as it is.
For goya.approvals.message, goya.agent_sessions.last_message and goya.tool_calls.result.
Errors: 55000 the master key it was sealed with is not here; 42501 no tenant.
Example: SELECT task_id, node, goya.open_text(message) FROM goya.approvals WHERE status = ''pending'';';

CREATE FUNCTION goya.set_secret(name text, value text, hosts text[], description text DEFAULT NULL) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    tenant uuid;
    patterns text[];
    active text;
    made integer;
    closed bytea;
BEGIN
    PERFORM goya_private.hide_statement();
    tenant := goya_private.require_writer();
    IF set_secret.name IS NULL OR set_secret.name !~ '^[A-Za-z][A-Za-z0-9_.-]{0,62}$' THEN
        -- Not what was given: it may be the value, in the wrong place.
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad name of a secret',
            DETAIL = 'It is not a name of up to 63 letters, digits, "_", "." and "-" that begins with a letter.',
            HINT = 'The arguments are name, value, hosts, as in goya.set_secret(''openai'', $1, ARRAY[''api.openai.com'']).';
    END IF;
    IF set_secret.value IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad value of a secret', DETAIL = 'It is null.',
            HINT = 'Hosts are changed together with the value; goya.delete_secret takes a secret away.';
    END IF;
    patterns := goya_private.secret_hosts(coalesce(set_secret.hosts, '{}'));
    SELECT k INTO active FROM goya_private.master_keys() k LIMIT 1;
    INSERT INTO goya.secrets AS s (tenant_id, name, hosts, description, key_id)
    VALUES (tenant, set_secret.name, patterns, coalesce(set_secret.description, ''), active)
    ON CONFLICT (tenant_id, name) DO UPDATE SET hosts = excluded.hosts, description = coalesce(set_secret.description, s.description),
        key_id = excluded.key_id, version = s.version + 1, updated_at = now(), rotated_at = now()
    RETURNING s.version INTO made;
    -- Not in the statement below: of statements plans are made, and plans are logged by some.
    closed := goya_private.seal_secret(tenant, set_secret.name, made, patterns, set_secret.value);
    INSERT INTO goya_private.secret_values AS v (tenant_id, name, sealed) VALUES (tenant, set_secret.name, closed)
    ON CONFLICT (tenant_id, name) DO UPDATE SET sealed = excluded.sealed;
    RETURN made;
END;
$$;
COMMENT ON FUNCTION goya.set_secret(text, text, text[], text) IS
'Sets a secret of the tenant, a new one or a new value, and returns the version of its value.
value: 8 bytes to 64 kB; nobody can read it back. hosts: where calls may send it, as api.example.com, *.example.com, api.example.com:8443; over TLS only, but for
http://host. A name that exists gets this value and these hosts; description null leaves the old one.
Pass the value as a parameter of the statement, not in its text: a text can reach logs before goya is asked (docs/security.md).
Errors: 22023 bad name, value or host; 55000 no master key; 42501 no tenant or reader.
Example: SELECT goya.set_secret(''openai'', $1, ARRAY[''api.openai.com'']);';

CREATE FUNCTION goya.delete_secret(name text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := goya_private.require_writer();
BEGIN
    DELETE FROM goya.secrets s WHERE s.tenant_id = tenant AND s.name = delete_secret.name;
    IF NOT FOUND THEN
        PERFORM goya_private.not_found('secret', delete_secret.name, 'SELECT name FROM goya.secrets lists them.');
    END IF;
    DELETE FROM goya_private.secret_values v WHERE v.tenant_id = tenant AND v.name = delete_secret.name;
END;
$$;
COMMENT ON FUNCTION goya.delete_secret(text) IS
'Deletes a secret: calls that need it fail from now on.
Errors: PT404 unknown secret, 42501 no tenant or reader.';

CREATE FUNCTION goya.reseal_secrets(limit_rows integer DEFAULT 1000) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    known text[];
    done  integer := 0;
    part  integer;
BEGIN
    PERFORM goya_private.require_admin();
    IF reseal_secrets.limit_rows IS NULL OR reseal_secrets.limit_rows NOT BETWEEN 1 AND 1000000 THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad number of rows',
            DETAIL = format('%s is not between 1 and 1000000.', coalesce(reseal_secrets.limit_rows::text, 'null')),
            HINT = 'Call it again until it returns 0.';
    END IF;
    SELECT array_agg(k) INTO known FROM goya_private.master_keys() k;      -- the active one is the first
    -- One statement for each table that has sealed values, in the order in which others lock them; what somebody else holds is left for the next call.
    WITH old AS (
        SELECT s.tenant_id, s.name FROM goya.secrets s WHERE s.key_id = ANY (known[2:])
        LIMIT reseal_secrets.limit_rows FOR NO KEY UPDATE SKIP LOCKED),
    wrapped AS (
        UPDATE goya_private.secret_values v SET sealed = goya_private.rewrap(v.sealed) FROM old o
        WHERE v.tenant_id = o.tenant_id AND v.name = o.name)
    UPDATE goya.secrets s SET key_id = known[1] FROM old o WHERE s.tenant_id = o.tenant_id AND s.name = o.name;
    GET DIAGNOSTICS part = ROW_COUNT;
    done := done + part;
    WITH old AS (
        SELECT k.tenant_id, k.purpose FROM goya_private.tenant_keys k WHERE goya_private.sealed_with(k.sealed) = ANY (known[2:])
        LIMIT reseal_secrets.limit_rows - done FOR NO KEY UPDATE SKIP LOCKED)
    UPDATE goya_private.tenant_keys k SET sealed = goya_private.rewrap(k.sealed) FROM old o WHERE k.tenant_id = o.tenant_id AND k.purpose = o.purpose;
    GET DIAGNOSTICS part = ROW_COUNT;
    done := done + part;
    RETURN done;
END;
$$;
COMMENT ON FUNCTION goya.reseal_secrets(integer) IS
'Seals again, with the active master key, what was sealed with an older one; returns how many values. For administrators.
Of all tenants, at most limit_rows at once: call it until it returns 0; then goya.list_master_keys says that the old key may go. What is sealed with a key that
is not here is left as it is.
Errors: 42501 not an administrator; 55000 no master key; XX001 a value that was changed; 22023 bad limit_rows.';

CREATE FUNCTION goya.reseal_values(after uuid DEFAULT NULL, limit_tasks integer DEFAULT 1000, OUT last_task uuid, OUT resealed bigint) RETURNS record
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    old  text[];
    ids  uuid[];
    part bigint;
BEGIN
    PERFORM goya_private.require_admin();
    IF reseal_values.limit_tasks IS NULL OR reseal_values.limit_tasks NOT BETWEEN 1 AND 1000000 THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad number of tasks',
            DETAIL = format('%s is not between 1 and 1000000.', coalesce(reseal_values.limit_tasks::text, 'null')),
            HINT = 'Call it again with after => last_task until that is null.';
    END IF;
    SELECT (array_agg(k))[2:] INTO old FROM goya_private.master_keys() k;
    ids := ARRAY(SELECT t.id FROM goya.tasks t WHERE t.id > coalesce(reseal_values.after, '00000000-0000-0000-0000-000000000000')
                 ORDER BY t.id LIMIT reseal_values.limit_tasks);
    last_task := ids[cardinality(ids)];
    resealed := 0;
    -- Nobody writes to what belongs to a task that has ended; a client may hold its row, and is not waited for.
    ids := ARRAY(SELECT t.id FROM goya.tasks t WHERE t.id = ANY (ids) AND goya_private.is_terminal(t.status) ORDER BY t.id FOR NO KEY UPDATE SKIP LOCKED);
    UPDATE goya.tasks t SET input = goya_private.rewrap_value(t.input), output = goya_private.rewrap_value(t.output)
    WHERE t.id = ANY (ids) AND (goya_private.value_key(t.input, true) = ANY (old) OR goya_private.value_key(t.output, true) = ANY (old));
    GET DIAGNOSTICS part = ROW_COUNT;
    resealed := resealed + part;
    UPDATE goya.node_runs r SET input = goya_private.rewrap_value(r.input), output = goya_private.rewrap_value(r.output)
    WHERE r.task_id = ANY (ids) AND (goya_private.value_key(r.input, true) = ANY (old) OR goya_private.value_key(r.output, true) = ANY (old));
    GET DIAGNOSTICS part = ROW_COUNT;
    resealed := resealed + part;
    UPDATE goya.agent_sessions a SET reply = goya_private.rewrap_value(a.reply), last_message = goya_private.rewrap_text(a.last_message)
    WHERE a.task_id = ANY (ids) AND (goya_private.value_key(a.reply, true) = ANY (old) OR goya_private.text_key(a.last_message, true) = ANY (old));
    GET DIAGNOSTICS part = ROW_COUNT;
    resealed := resealed + part;
    UPDATE goya.agent_messages m SET message = goya_private.rewrap_value(m.message)
    WHERE m.task_id = ANY (ids) AND goya_private.value_key(m.message, true) = ANY (old);
    GET DIAGNOSTICS part = ROW_COUNT;
    resealed := resealed + part;
    UPDATE goya.tool_calls c SET arguments = goya_private.rewrap_value(c.arguments), result = goya_private.rewrap_text(c.result)
    WHERE c.task_id = ANY (ids) AND (goya_private.value_key(c.arguments, true) = ANY (old) OR goya_private.text_key(c.result, true) = ANY (old));
    GET DIAGNOSTICS part = ROW_COUNT;
    resealed := resealed + part;
    UPDATE goya.approvals a SET message = goya_private.rewrap_text(a.message), response = goya_private.rewrap_value(a.response)
    WHERE a.task_id = ANY (ids) AND (goya_private.text_key(a.message, true) = ANY (old) OR goya_private.value_key(a.response, true) = ANY (old));
    GET DIAGNOSTICS part = ROW_COUNT;
    resealed := resealed + part;
    UPDATE goya_private.signals s SET payload = goya_private.rewrap_value(s.payload)
    WHERE s.task_id = ANY (ids) AND goya_private.value_key(s.payload, true) = ANY (old);
    GET DIAGNOSTICS part = ROW_COUNT;
    resealed := resealed + part;
    UPDATE goya_private.callbacks c SET payload = goya_private.rewrap_value(c.payload)
    WHERE c.task_id = ANY (ids) AND goya_private.value_key(c.payload, true) = ANY (old);
    GET DIAGNOSTICS part = ROW_COUNT;
    resealed := resealed + part;
END;
$$;
COMMENT ON FUNCTION goya.reseal_values(uuid, integer) IS
'Seals again, with the active master key, inputs, outputs and messages of tasks that have ended; returns how many rows, and the last task looked at. For
administrators.
It goes through the tasks of all tenants in the order of their ids, limit_tasks in one call: pass last_task as after until it is null, in a transaction each. Tasks
that have not ended, or that somebody has locked, are left as they are: call it all again when they have. goya.list_master_keys counts what is left.
Errors: 42501 not an administrator; 55000 no master key; XX001 a value that was changed; 22023 bad limit_tasks.
Example: SELECT * FROM goya.reseal_values(limit_tasks => 10000);';

-- What is sealed besides values of tasks: secrets and keys of tenants, by master key.
CREATE FUNCTION goya_private.count_sealed_secrets(OUT key_id text, OUT n bigint) RETURNS SETOF record
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT k.id, count(*) FROM (
        SELECT s.key_id FROM goya.secrets s UNION ALL SELECT goya_private.sealed_with(t.sealed) FROM goya_private.tenant_keys t) k(id) GROUP BY k.id
$$;

CREATE FUNCTION goya.list_master_keys(count_values boolean DEFAULT true, OUT key_id text, OUT active boolean, OUT present boolean, OUT sealed_values bigint) RETURNS SETOF record
    LANGUAGE plpgsql SECURITY DEFINER ROWS 5 SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    PERFORM goya_private.require_admin();
    RETURN QUERY
        WITH used AS (
            SELECT s.key_id AS id, s.n FROM goya_private.count_sealed_secrets() s
            UNION ALL
            SELECT v.id, count(*) FROM (
                SELECT goya_private.value_key(t.input, true) AS id FROM goya.tasks t UNION ALL SELECT goya_private.value_key(t.output, true) FROM goya.tasks t
                UNION ALL SELECT goya_private.value_key(r.input, true) FROM goya.node_runs r UNION ALL SELECT goya_private.value_key(r.output, true) FROM goya.node_runs r
                UNION ALL SELECT goya_private.value_key(a.reply, true) FROM goya.agent_sessions a UNION ALL SELECT goya_private.text_key(a.last_message, true) FROM goya.agent_sessions a
                UNION ALL SELECT goya_private.value_key(m.message, true) FROM goya.agent_messages m
                UNION ALL SELECT goya_private.value_key(c.arguments, true) FROM goya.tool_calls c UNION ALL SELECT goya_private.text_key(c.result, true) FROM goya.tool_calls c
                UNION ALL SELECT goya_private.text_key(q.message, true) FROM goya.approvals q UNION ALL SELECT goya_private.value_key(q.response, true) FROM goya.approvals q
                UNION ALL SELECT goya_private.value_key(s.payload, true) FROM goya_private.signals s
                UNION ALL SELECT goya_private.value_key(b.payload, true) FROM goya_private.callbacks b
                UNION ALL SELECT goya_private.value_key(w.result -> 'output', true) FROM goya_private.work w) v
            WHERE list_master_keys.count_values AND v.id IS NOT NULL GROUP BY v.id),
        counted AS (SELECT u.id, sum(u.n)::bigint AS n FROM used u GROUP BY u.id)
        SELECT coalesce(m.id, c.id), coalesce(m.place = 1, false), m.id IS NOT NULL, coalesce(c.n, 0)
        FROM goya_private.master_keys() WITH ORDINALITY m(id, place) FULL JOIN counted c ON c.id = m.id
        ORDER BY m.place, 1;
END;
$$;
COMMENT ON FUNCTION goya.list_master_keys(boolean) IS
'Lists the master keys by id: which is active, which are here, and how many values each has sealed. For administrators.
present false: values were sealed with a key that is no longer in the file or the command''s output, and cannot be opened. count_values: inputs, outputs and
messages of tasks are counted too, for which all tasks and node runs are read; false: secrets and keys of tenants only. A key whose count is not 0 must stay.
Errors: 42501 not an administrator, 55000 no master key.';

CREATE FUNCTION goya.redact_pii(value text) RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'goya_redact_pii_sql';
COMMENT ON FUNCTION goya.redact_pii(text) IS
'Returns the text with e-mail addresses, phone numbers, IBANs and card numbers replaced by [email], [phone], [iban] and [card].
Found by their form and check sums alone; names and postal addresses are not found.
Example: SELECT goya.redact_pii(''write to ann@example.com''); gives ''write to [email]''.';

CREATE FUNCTION goya.hash_pii(value text) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := goya_private.require_tenant();
    key    bytea;
BEGIN
    SELECT k.sealed INTO key FROM goya_private.tenant_keys k WHERE k.tenant_id = tenant AND k.purpose = 'pii';
    IF NOT FOUND THEN
        INSERT INTO goya_private.tenant_keys (tenant_id, purpose, sealed) VALUES (tenant, 'pii', goya_private.make_key(tenant, 'pii')) ON CONFLICT DO NOTHING;
        SELECT k.sealed INTO STRICT key FROM goya_private.tenant_keys k WHERE k.tenant_id = tenant AND k.purpose = 'pii';
    END IF;
    RETURN goya_private.keyed_hash(tenant, 'pii', key, lower(btrim(hash_pii.value, E' \t\r\n')));
END;
$$;
COMMENT ON FUNCTION goya.hash_pii(text) IS
'Returns a keyed hash of a text (HMAC-SHA256, 64 hexadecimal digits), so that equal values can be found without keeping them.
Blanks around the text and upper case do not count. Each tenant has a random key of its own, sealed with the master key: hashes of two tenants differ, and they stay
the same when the master key is changed. Whoever may call this can try guesses.
Errors: 55000 no master key, 42501 no tenant.';
