-- hostile_matrix.sql: every relation and every function of goya against another tenant, nobody's role, a stranger and pooled connections.
--
-- Tenant host-a has a row in every table, with a canary in every text and jsonb column that nobody has to name to use it. Then everybody else reads each
-- relation and calls each function with host-a's ids and names: neither a canary nor the tenant's id comes back, in a result or in any part of an error, and host-a's rows are the
-- same as before. Relations and functions are found in the catalog; arguments are made by name. So a new function is tried as soon as it exists, and one
-- with an argument that nothing is known of fails the test.
-- Decided: the same calls are made for host-a itself first and must at least find the thing that they name: a call that could not work proves nothing.
-- Each call is a subtransaction that stays, so that what a call did would be seen.

BEGIN;
SET LOCAL search_path = public, pg_catalog;
SET client_min_messages = error;
SELECT no_plan();

CREATE SCHEMA host;
GRANT USAGE ON SCHEMA host TO PUBLIC;
CREATE FUNCTION host.canary() RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'canary-7f3a' $$;

-- ---- Who ----
CREATE ROLE host_ada; CREATE ROLE host_bob; CREATE ROLE host_bchief; CREATE ROLE host_breader; CREATE ROLE host_late; CREATE ROLE host_nobody; CREATE ROLE host_anon; CREATE ROLE host_web;
CREATE ROLE host_front NOINHERIT; CREATE ROLE host_fake NOINHERIT; CREATE ROLE host_admin; CREATE ROLE host_dba SUPERUSER;
GRANT goya_user TO host_ada, host_bob, host_bchief, host_late, host_web;
GRANT goya_reader TO host_breader;
GRANT goya_admin TO host_admin;
GRANT host_web, host_anon TO host_front, host_fake;
SELECT goya.create_tenant('host-a'), goya.create_tenant('host-b'), goya.create_tenant('host-c');
SELECT goya.add_member('host_ada', 'host-a', 'admin'), goya.add_member('host_bob', 'host-b'), goya.add_member('host_bchief', 'host-b', 'admin'),
       goya.add_member('host_breader', 'host-b', 'reader'), goya.add_member('host_late', 'host-c'), goya.suspend_tenant('host-c'), goya.register_authenticator('host_front');

CREATE TABLE host.callers (who text PRIMARY KEY, session name, role name, claims text, after_claims text);
INSERT INTO host.callers VALUES
    ('another tenant', 'postgres', 'host_bob', NULL, NULL), ('another tenant''s admin', 'postgres', 'host_bchief', NULL, NULL),
    ('another tenant''s reader', 'postgres', 'host_breader', NULL, NULL), ('a role in no tenant', 'postgres', 'host_late', NULL, NULL),
    ('a role without a grant', 'postgres', 'host_nobody', NULL, NULL),
    -- One session of a front end, whose last request was host-a's.
    ('a pooled connection', 'host_front', 'host_web', '{"tenant": "host-b", "user": "eve"}', '{"tenant": "host-a", "user": "zoe"}'),
    ('a pooled connection of no tenant', 'host_front', 'host_web', '{"tenant": "none", "user": "eve"}', '{"tenant": "host-a", "user": "zoe"}'),
    ('anonymous behind a front end', 'host_front', 'host_anon', '{"tenant": "host-a"}', '{"tenant": "host-a"}'),
    ('a session that is no front end', 'host_fake', 'host_web', '{"tenant": "host-a", "user": "zoe"}', NULL);

-- Runs a statement as a caller: what it gave, or all of the error. Undoes nothing.
CREATE FUNCTION host.try(caller host.callers, statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
    p1 text; p2 text; p3 text; p4 text; p5 text; p6 text; p7 text; p8 text; p9 text;
BEGIN
    IF caller.after_claims IS NOT NULL THEN
        PERFORM set_config('session_authorization', caller.session, true), set_config('role', 'host_web', true), set_config('request.jwt.claims', caller.after_claims, true);
        PERFORM goya.current_tenant();
    END IF;
    PERFORM set_config('session_authorization', caller.session, true), set_config('role', caller.role, true), set_config('request.jwt.claims', coalesce(caller.claims, ''), true);
    BEGIN
        IF statement LIKE 'MERGE%' THEN
            EXECUTE statement;
        ELSE
            EXECUTE format(CASE WHEN statement ~ '^(INSERT|UPDATE|DELETE)' THEN 'WITH x AS (%s) SELECT string_agg(x::text, '' '') FROM x'
                                ELSE 'SELECT string_agg(x::text, '' '') FROM (%s) x' END, statement) INTO result;
        END IF;
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS p1 = RETURNED_SQLSTATE, p2 = MESSAGE_TEXT, p3 = PG_EXCEPTION_DETAIL, p4 = PG_EXCEPTION_HINT, p5 = PG_EXCEPTION_CONTEXT, p6 = COLUMN_NAME,
            p7 = CONSTRAINT_NAME, p8 = TABLE_NAME, p9 = PG_DATATYPE_NAME;
        result := concat_ws(' ', p1, p2, p3, p4, p5, p6, p7, p8, p9);
    END;
    PERFORM set_config('session_authorization', 'postgres', true), set_config('role', 'none', true), set_config('request.jwt.claims', '', true);
    RETURN coalesce(result, '');
END;
$$;

-- ---- What host-a has ----
CREATE FUNCTION host.id(thing integer) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$ SELECT ('00000000-0000-7000-8000-00000abc' || lpad(thing::text, 4, '0'))::uuid $$;
CREATE FUNCTION host.tenant() RETURNS uuid LANGUAGE sql STABLE AS $$ SELECT id FROM goya.tenants WHERE name = 'host-a' $$;
CREATE FUNCTION host.tells(said text) RETURNS boolean LANGUAGE sql STABLE AS $$ SELECT said LIKE '%' || host.canary() || '%' OR said LIKE '%' || host.tenant() || '%' $$;
SELECT goya.top_up(1000000, 'top-a', 'host-a'), goya.set_price('price-a', 1, tenant => 'host-a');
SELECT unalike(host.try(('host-a', 'postgres', 'host_ada', NULL, NULL)::host.callers, s), '_____ %', s) FROM unnest(ARRAY[
    $$SELECT goya.create_operator('op-a', 'sql', '{"function": "pg_catalog.jsonb_pretty"}')$$,
    $$SELECT goya.create_workflow('flow-a', '{"nodes": [{"key": "n", "kind": "noop"}, {"key": "ask", "kind": "approval"}]}', publish => true)$$,
    $$SELECT goya.create_trigger('flow-a', 'hook', 'event', event => 'asset_new', enabled => true)$$,
    $$SELECT goya.hold(100, 'hold-a')$$, $$SELECT goya.hold(100, 'hold-b')$$, $$SELECT goya.capture('hold-b', 10, 'capture-a')$$]) s;
SET LOCAL session_replication_role = replica;
INSERT INTO goya.assets (id, tenant_id, name, owner_role) VALUES (host.id(1), host.tenant(), 'x', 'host_ada');
INSERT INTO goya.events (tenant_id, type) VALUES (host.tenant(), 'asset_new');
INSERT INTO goya.tasks (id, tenant_id, workflow_id, revision, status, run_as, trace_id, idempotency_key, active, waiting, input)
SELECT host.id(6), host.tenant(), w.id, 1, 'waiting', 'host_ada', 'trace-a', 'key-a', 1, 1, '{}' FROM goya.workflows w WHERE w.name = 'flow-a';
INSERT INTO goya.node_runs (task_id, node, tenant_id, status, seq) VALUES (host.id(6), 'n', host.tenant(), 'succeeded', 2), (host.id(6), 'ask', host.tenant(), 'waiting', 3);
INSERT INTO goya.secrets (tenant_id, name, hosts, key_id) VALUES (host.tenant(), 'secret-a', '{a.example.com}', 'k1');
INSERT INTO goya_private.secret_values (tenant_id, name, sealed) VALUES (host.tenant(), 'secret-a', '\x474f5901026b316465666768696a6b6c6d6e6ffe11c457b1ecc4f6c9b5ca1a2c10c7fd72ee1cdb8efa5c51626786e40f57c4ccbe56dc4a618b48cfa67dd571758d47a9c8c9cacbcccdcecfd0d1d2d3560aa26745539e0c54d8a728f99367cafa95b39196739b1a210884bc817373');
INSERT INTO goya_private.tenant_keys (tenant_id, purpose, sealed) VALUES (host.tenant(), 'pii', '\x474f5901026b316465666768696a6b6c6d6e6ffe11c457b1ecc4f6c9b5ca1a2c10c7fd72ee1cdb8efa5c51626786e40f57c4ccbe56dc4a618b48cfa67dd571758d47a9c8c9cacbcccdcecfd0d1d2d3560aa26745539e0c54d8a728f99367cafa95b39196739b1a210884bc817373');
INSERT INTO goya.operator_dependencies (operator_id, depends_on, tenant_id) SELECT o.id, 'x', o.tenant_id FROM goya.operators o WHERE o.name = 'op-a';
INSERT INTO goya.operator_templates (tenant_id, name, mode, config) SELECT t, 'op-a', 'sql', '{"function": "pg_catalog.jsonb_pretty"}' FROM unnest(ARRAY[NULL, host.tenant()]) t;
INSERT INTO goya.node_kinds (tenant_id, name, function) VALUES (host.tenant(), 'kind_a', 'pg_catalog.jsonb_pretty');
INSERT INTO goya.algorithms (tenant_id, name) VALUES (host.tenant(), 'algo-a');
INSERT INTO goya.algorithm_versions (tenant_id, algorithm, version) VALUES (host.tenant(), 'algo-a', 1);
INSERT INTO goya.algorithm_implementations (tenant_id, algorithm, version, operator, operator_version) VALUES (host.tenant(), 'algo-a', 1, 'op-a', 1);
INSERT INTO goya.algorithm_evaluations (tenant_id, algorithm, version, operator, operator_version) VALUES (host.tenant(), 'algo-a', 1, 'op-a', 1);
INSERT INTO goya.models (tenant_id, name, endpoint, remote_model, price, owner_role) VALUES (host.tenant(), 'model-a', 'http://x', 'x', 'price-a', 'host_ada');
INSERT INTO goya.model_profiles (tenant_id, model, name, parameters) VALUES (host.tenant(), 'model-a', 'profile-a', '{}');
INSERT INTO goya.prompts (tenant_id, name, version, template) VALUES (host.tenant(), 'prompt-a', 1, 'x');
INSERT INTO goya.artifacts (id, tenant_id, task_id, node, type) VALUES (host.id(7), host.tenant(), host.id(6), 'n', 'result');
INSERT INTO goya.approvals (task_id, node, tenant_id) VALUES (host.id(6), 'ask', host.tenant());
INSERT INTO goya.schemas (tenant_id, uri, document) VALUES (host.tenant(), 'urn:host:schema', '{}');
INSERT INTO goya.task_contexts (task_id, tenant_id, state, version) VALUES (host.id(6), host.tenant(), '{"vars": {}, "shared": {}}', 1);
INSERT INTO goya.context_patches (task_id, version, tenant_id, diff) VALUES (host.id(6), 1, host.tenant(), '{"set": {}}');
INSERT INTO goya.context_snapshots (task_id, version, tenant_id, state) VALUES (host.id(6), 0, host.tenant(), '{"vars": {}, "shared": {}}');
INSERT INTO goya.usage_records (task_id, node, item, attempt, tenant_id, price_name, unit, quantity, cost, currency) VALUES (host.id(6), 'n', 0, 1, host.tenant(), 'price-a', 'request', 1, 1, 'USD');
INSERT INTO goya_private.task_log (task_id, seq, tenant_id, type) VALUES (host.id(6), 4, host.tenant(), 'progress');
INSERT INTO goya_private.ready (rank, lane, verb, task_id, node, item, attempt) VALUES (1, 0, 0, host.id(6), 0, 0, 1);
INSERT INTO goya_private.parked SELECT * FROM goya_private.ready WHERE task_id = host.id(6);
INSERT INTO goya_private.timers (due, verb, task_id, node, item, attempt, rank, lane) VALUES (now() + interval '1 day', 1, host.id(6), 1, 0, 1, 1, 0);
INSERT INTO goya_private.joins (task_id, node) VALUES (host.id(6), 0);
INSERT INTO goya_private.maps (task_id, node, total, next_item) VALUES (host.id(6), 0, 1, 1);
INSERT INTO goya_private.signals (task_id, name) VALUES (host.id(6), 'go');
INSERT INTO goya_private.cancel_requests (task_id) VALUES (host.id(6));
INSERT INTO goya_private.idempotency_keys (tenant_id, key, request_hash, task_id) VALUES (host.tenant(), 'key-a', '', host.id(6));
INSERT INTO goya_private.trigger_slots (trigger_id, slot, task_id) SELECT t.id, 'slot', host.id(6) FROM goya.triggers t WHERE t.name = 'hook';
INSERT INTO goya_private.event_queue (event_id, tenant_id) VALUES (host.id(2), host.tenant());
INSERT INTO goya.egress_rules (id, tenant_id, by_admin, action, host, created_by)
VALUES (-11, host.tenant(), false, 'deny', 'a.example.com', 'host_ada'), (-12, host.tenant(), true, 'allow', 'b.example.com', 'host_admin');
INSERT INTO goya.mcp_servers (id, tenant_id, name, url, auth) VALUES (host.id(9), host.tenant(), 'mcp-a', 'http://x', jsonb_build_object('type', 'bearer', 'secret', host.canary()));
INSERT INTO goya.mcp_tools (server_id, name, tenant_id, server, title, hash) VALUES (host.id(9), 'tool-a', host.tenant(), 'mcp-a', 'x', 'x');
INSERT INTO goya.mcp_calls (task_id, node, item, attempt, tenant_id, server_id, server, tool, requests, resumed, progress, asked, succeeded, started_at, finished_at)
VALUES (host.id(6), 'n', 0, 1, host.tenant(), host.id(9), 'mcp-a', 'tool-a', 1, 0, 0, 0, true, now(), now());
INSERT INTO goya.agent_sessions (task_id, node, tenant_id, workflow, run_as, budget, settings) VALUES (host.id(6), 'ask', host.tenant(), 'flow-a', 'host_ada', '{}', '{}');
INSERT INTO goya.agent_messages (task_id, node, seq, tenant_id, role, message) VALUES (host.id(6), 'ask', 1, host.tenant(), 'user', '{}');
INSERT INTO goya.tool_calls (task_id, node, item, tenant_id, tool, arguments, digest, decision, status) VALUES (host.id(6), 'ask', 0, host.tenant(), 'tool-a', '{}', 'x', 'allow', 'running');
INSERT INTO goya.tool_policies (tenant_id, name, decision, condition) VALUES (host.tenant(), 'policy-a', 'deny', format('$.x == "%s"', host.canary()));
INSERT INTO goya_private.callbacks (token_hash, task_id, node, plan_node, item, attempt, expires_at) VALUES (sha256('token-a'), host.id(6), 'ask', 1, 0, 1, now() + interval '1 day');
INSERT INTO goya_private.programs (name, path, arguments, tenants, description, timeout_ms, output_kb, environment)
VALUES ('program-a', '/bin/' || host.canary(), ARRAY[host.canary()], ARRAY[host.tenant()], host.canary(), 1000, 1, '{}');
INSERT INTO goya_private.trial_rates VALUES (host.tenant(), now(), 1);
INSERT INTO goya_private.prompt_cache (tenant_id, key, output, expires_at) VALUES (host.tenant(), 'x', '{}', now() + interval '1 day');
INSERT INTO goya_private.stream_chunks (task_id, node, item, seq, attempt, position, flags, delta) VALUES (host.id(6), 'ask', 0, 1, 1, 0, 3, 'x');
-- One that nobody has claimed, and one of host-a's worker.
INSERT INTO goya_private.work (task_id, node, item, attempt, plan_node, tenant_id, priority, queue, rank, lease_ms, max_claims, token, worker, lease, lease_until)
VALUES (host.id(6), 'work', 0, 1, 1, host.tenant(), 0, 'queue-a', 1, 30000, 3, NULL, NULL, NULL, NULL),
       (host.id(6), 'work', 1, 1, 1, host.tenant(), 0, 'queue-a', 2, 30000, 3, host.id(8), 'worker-a', '1 day', now() + interval '1 day');
INSERT INTO goya.node_runs (task_id, node, item, tenant_id, status, seq) VALUES (host.id(6), 'work', 0, host.tenant(), 'waiting', 5), (host.id(6), 'work', 1, host.tenant(), 'waiting', 6);

-- Which rows of a table are host-a's: by tenant, by task, else all.
CREATE TABLE host.relations AS
SELECT c.oid::regclass AS relation, n.nspname || '.' || c.relname AS name, c.relkind,
       CASE WHEN has.tenant_id THEN '(tenant_id = host.tenant() OR tenant_id IS NULL)' WHEN has.task_id THEN 'task_id = host.id(6)' ELSE 'true' END AS mine
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     CROSS JOIN LATERAL (SELECT bool_or(a.attname = 'tenant_id') AS tenant_id, bool_or(a.attname = 'task_id') AS task_id FROM pg_attribute a WHERE a.attrelid = c.oid AND NOT a.attisdropped) has
WHERE n.nspname IN ('goya', 'goya_private') AND c.relkind IN ('r', 'p', 'v', 'm', 'f');

-- The canary, wherever a column takes it.
DO $$
DECLARE
    col record;
BEGIN
    FOR col IN
        SELECT r.relation, r.mine, a.attname, a.atttypid, a.attndims FROM host.relations r JOIN pg_attribute a ON a.attrelid = r.relation
        WHERE r.relkind IN ('r', 'p') AND a.attnum > 0 AND a.atttypid IN ('text'::regtype, 'jsonb'::regtype, 'text[]'::regtype)
              AND r.name NOT IN ('goya_private.authenticators', 'goya_private.engine', 'goya.tenants', 'goya.members') AND r.mine <> 'true'
              -- What a call names, and what the engine reads as a program.
              AND a.attname NOT IN ('node', 'name', 'reference', 'trace_id', 'idempotency_key', 'key', 'run_as', 'resolved', 'definition', 'draft', 'config', 'price_name', 'event', 'slot',
                                    'algorithm', 'operator', 'model', 'depends_on', 'function', 'stands_for', 'server', 'tool', 'queue', 'auth', 'condition')
    LOOP
        BEGIN
            EXECUTE format('UPDATE %s SET %I = %s WHERE %s', col.relation, col.attname,
                CASE col.atttypid WHEN 'jsonb'::regtype THEN format('coalesce(%I, ''{}'') || jsonb_build_object(''x'', host.canary())', col.attname)
                                  WHEN 'text'::regtype THEN 'host.canary()' ELSE 'ARRAY[host.canary()]' END, replace(col.mine, ' OR tenant_id IS NULL', ''));
        EXCEPTION WHEN check_violation OR invalid_parameter_value THEN
            NULL;                                  -- a list of words
        END;
    END LOOP;
END;
$$;
UPDATE goya_private.work SET result = NULL WHERE task_id = host.id(6);     -- there is still something to claim and to complete
SET LOCAL session_replication_role = origin;
SELECT isnt_empty(format('SELECT FROM %s WHERE %s', relation, mine), format('%s has a row of the tenant', name))
FROM host.relations WHERE relkind IN ('r', 'p') AND name <> 'goya_private.crashes' ORDER BY name;
SELECT cmp_ok((SELECT count(*) FROM host.relations r WHERE r.relkind IN ('r', 'p')
               AND (xpath('/row/c/text()', query_to_xml(format('SELECT count(*) AS c FROM %s x WHERE x::text LIKE ''%%'' || host.canary() || ''%%''', relation), false, true, '')))[1]::text <> '0'),
              '>=', 20::bigint, 'many tables hold the canary');

CREATE FUNCTION host.checksum() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    r record;
    one text;
    result text := '';
BEGIN
    FOR r IN SELECT * FROM host.relations x WHERE x.relkind IN ('r', 'p') ORDER BY x.name LOOP
        EXECUTE format('SELECT count(*) || '':'' || coalesce(sum(hashtextextended(x::text, 0))::text, '''') FROM %s x WHERE %s', r.relation, r.mine) INTO one;
        result := result || r.name || ' ' || one || E'\n';
    END LOOP;
    RETURN result;
END;
$$;
CREATE FUNCTION host.changed(before text, after text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(b, ', ') FROM (SELECT unnest(string_to_array(before, E'\n')) EXCEPT SELECT unnest(string_to_array(after, E'\n'))) x(b) $$;
CREATE TABLE host.before AS SELECT host.checksum() AS sum;

-- ---- Reading ----
-- A function that is cheap, so that the planner would like to ask it before the policy, and tells what it was asked.
CREATE TABLE host.leaked (who name, x text);
GRANT INSERT ON host.leaked TO PUBLIC;
CREATE FUNCTION host.leak(x text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$ BEGIN INSERT INTO host.leaked VALUES (current_user, x); RETURN true; END $$;
ANALYZE goya.assets; ANALYZE goya.tasks; ANALYZE goya.node_runs; ANALYZE goya.events; ANALYZE goya.artifacts; ANALYZE goya_private.task_log;

CREATE TABLE host.read AS
SELECT c.who, r.name, s.n, host.try(c, format(s.query, r.name)) AS said
FROM host.callers c CROSS JOIN host.relations r
     CROSS JOIN (VALUES (1, 'SELECT * FROM %s'), (2, 'TABLE %s ORDER BY 1 DESC LIMIT 1'), (3, 'SELECT * FROM %s x WHERE host.leak(x::text)')) s(n, query);
SELECT is((SELECT string_agg(left(said, 300), E'\n' ORDER BY n) FROM host.read r WHERE r.who = x.who AND r.name = x.name AND (host.tells(said) OR said LIKE '%host-a%')), NULL,
          format('%s reads nothing of the tenant in %s', who, name))
FROM (SELECT DISTINCT who, name FROM host.read) x ORDER BY who, name;
SELECT is_empty($$SELECT * FROM host.leaked WHERE host.tells(x) OR x LIKE '%host-a%'$$, 'no function in a WHERE clause was asked about a row of the tenant');
SELECT isnt_empty('SELECT * FROM host.leaked', 'and such functions were asked');
SELECT ok(NOT host.tells(host.try(c, s)), format('%s: %s', c.who, s))
FROM host.callers c CROSS JOIN unnest(ARRAY[
    'SELECT * FROM pg_stats', 'SELECT * FROM pg_stats_ext', 'SELECT * FROM pg_statistic', 'SELECT * FROM pg_stat_activity', 'SELECT * FROM pg_prepared_statements', 'SELECT * FROM pg_largeobject',
    'SELECT query_to_xml(''EXPLAIN (ANALYZE, VERBOSE) SELECT * FROM goya.assets'', true, true, '''')', 'SELECT table_to_xml(''goya.tasks'', true, true, '''')', 'SELECT schema_to_xml(''goya'', true, true, '''')',
    'SELECT * FROM goya.assets TABLESAMPLE SYSTEM (100)', 'SELECT count(*) FROM goya.assets a RIGHT JOIN goya.tasks t ON true WHERE host.leak(a::text) OR host.leak(t::text)',
    'SELECT has_table_privilege(''goya.tasks'', ''SELECT''), pg_relation_size(''goya.tasks'')', 'SELECT * FROM heap_page_items(get_raw_page(''goya.tasks'', 0))', 'SELECT pg_get_viewdef(''goya.task_events'')']) s
ORDER BY 1;

-- ---- Writing tables, and what errors tell ----
CREATE TABLE host.statements AS
SELECT format(f, r.name) AS s FROM host.relations r CROSS JOIN unnest(ARRAY['DELETE FROM %s RETURNING *', 'INSERT INTO %1$s SELECT * FROM %1$s ON CONFLICT DO NOTHING RETURNING *']) f
UNION ALL SELECT format('UPDATE %s SET %I = DEFAULT RETURNING *', r.name, (SELECT a.attname FROM pg_attribute a WHERE a.attrelid = r.relation AND a.attnum > 0 ORDER BY a.attnum DESC LIMIT 1)) FROM host.relations r
UNION ALL SELECT unnest(ARRAY[
    format('INSERT INTO goya.assets (id, name) VALUES (%L, ''x'') RETURNING *', host.id(1)),
    format('INSERT INTO goya.assets (id, name) VALUES (%L, ''x'') ON CONFLICT DO NOTHING RETURNING *', host.id(1)),
    format('INSERT INTO goya.assets (id, name) VALUES (%L, ''x'') ON CONFLICT (id) DO UPDATE SET name = ''mine'' RETURNING *', host.id(1)),
    format('INSERT INTO goya.assets (name, tenant_id) VALUES (''x'', %L) RETURNING *', host.tenant()),
    'INSERT INTO goya.assets (name, uri) VALUES (''of host-b'', ''file:///x'') RETURNING *',
    format('INSERT INTO goya.assets (name, uri, parent_id) VALUES (''child of host-b'', ''file:///x'', %L) RETURNING *', host.id(1)),
    format('UPDATE goya.assets SET name = ''mine'' WHERE id = %L RETURNING *', host.id(1)), 'UPDATE goya.assets SET uri = uri || ''x'', metadata = metadata || ''{"y": 1}'' RETURNING *',
    format('UPDATE goya.assets SET visibility = ''public'' WHERE id = %L RETURNING *', host.id(1)), 'UPDATE goya.tenants SET weight = 1000 RETURNING *',
    format('MERGE INTO goya.assets a USING (SELECT %L::uuid AS id) s ON a.id = s.id WHEN MATCHED THEN UPDATE SET name = ''mine'' WHEN NOT MATCHED THEN DO NOTHING', host.id(1))]);
CREATE TABLE host.writes AS SELECT c.who, x.s, host.try(c, x.s) AS said FROM host.callers c CROSS JOIN host.statements x;
SELECT is((SELECT string_agg(who || ': ' || s, E'\n') FROM host.writes WHERE host.tells(replace(said, s, ''))), NULL, 'nothing that a write gave or said has the canary, or the tenant''s id');
SELECT is(host.changed((SELECT sum FROM host.before), host.checksum()), NULL, 'and no write changed a row of the tenant');
SELECT isnt_empty($$SELECT FROM goya.assets WHERE name LIKE '%of host-b' AND tenant_id <> host.tenant()$$, 'writes of one''s own go through');
SELECT ok(host.try(('host-a', 'postgres', 'host_ada', NULL, NULL)::host.callers, format('SELECT * FROM goya.derivation_tree(%L)', host.id(1))) NOT LIKE '%host-b%', 'an asset of another tenant is nobody''s child');

-- ---- Calling functions ----
CREATE FUNCTION host.argument(function text, argument text, type regtype) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN argument = 'name' AND function ~ 'mcp_server' THEN CASE WHEN function ~ '^create' THEN '''new-mcp''' ELSE '''mcp-a''' END
        WHEN argument = 'name' AND function ~ 'program' THEN CASE WHEN function ~ '^create' THEN '''new-program''' ELSE '''program-a''' END
        WHEN argument = 'name' AND function ~ 'tool_policy' THEN '''policy-a''' WHEN argument = 'server' THEN '''mcp-a''' WHEN argument = 'tool' THEN '''tool-a''' WHEN argument = 'queue' THEN '''queue-a'''
        WHEN argument = 'id' AND function ~ 'egress' THEN '-11'
        -- The token of a callback is a right, which the others do not have; that of a worker's lease is none in another tenant.
        WHEN argument = 'token' THEN CASE WHEN function = 'callback' THEN 'current_setting(''host.token'')' ELSE quote_literal(host.id(8)) END
        WHEN argument = 'host' THEN '''a.example.com''' WHEN argument = 'network' THEN '''8.8.8.0/24''' WHEN argument = 'ports' THEN '''443''' WHEN argument = 'scheme' THEN '''https'''
        WHEN argument = 'url' THEN '''http://x''' WHEN argument IN ('auth', 'headers', 'usage', 'output', 'error') THEN '''{}''' WHEN argument = 'protocol' THEN '''auto'''
        WHEN argument = 'arguments' THEN CASE type WHEN 'jsonb'::regtype THEN '''{}''' ELSE '''{x}''' END WHEN argument = 'tenants' THEN '''{host-a}''' WHEN argument = 'path' THEN '''/bin/true'''
        WHEN argument IN ('environment', 'permissions') THEN '''{}''' WHEN argument = 'os_user' THEN '''nobody''' WHEN argument = 'progress_pattern' THEN '''([0-9]+)%'''
        WHEN argument IN ('ordinal', 'precedence', 'memory_mb', 'file_mb', 'processes', 'output_kb', 'max_calls', 'max', 'progress') THEN '1'
        WHEN argument IN ('lease', 'cpu', 'retry_after') THEN '''1 min''' WHEN argument = 'worker' THEN '''worker-a''' WHEN argument = 'class' THEN '''TIMEOUT'''
        WHEN argument = 'decision' THEN '''allow''' WHEN argument = 'risk' THEN '''low''' WHEN argument = 'data_access' THEN '''none''' WHEN argument = 'agent' THEN '''ask''' WHEN argument = 'condition' THEN '''$.x == 1'''
        WHEN argument IN ('allowed', 'failed', 'retry', 'trusted', 'include_removed', 'count_values') THEN 'true'
        WHEN argument = 'timeout' AND function !~ '^(wait|read|test_result)' THEN '''10 s'''
        WHEN argument = 'status' AND function ~ 'model' THEN '''active''' WHEN argument = 'status' AND function ~ 'operator|template' THEN '''draft'''
        WHEN argument = 'name' AND function ~ 'workflow|draft' THEN CASE WHEN function ~ '^create' THEN '''new-flow''' ELSE '''flow-a''' END
        WHEN argument = 'name' AND function ~ 'node_kind' THEN '''kind_a''' WHEN argument = 'name' AND function ~ 'algorithm' THEN CASE WHEN function ~ '^create' THEN '''new-algo''' ELSE '''algo-a''' END
        WHEN argument = 'name' AND function ~ 'profile' THEN '''profile-a''' WHEN argument = 'name' AND function ~ 'model' THEN CASE WHEN function ~ '^create' THEN '''new-model''' ELSE '''model-a''' END
        WHEN argument = 'name' AND function ~ 'prompt' THEN '''prompt-a''' WHEN argument = 'name' AND function = 'install_template' THEN '''new-op'''
        WHEN argument IN ('algorithm', 'operator', 'model', 'template') THEN format('%L', CASE argument WHEN 'algorithm' THEN 'algo-a' WHEN 'model' THEN 'model-a' ELSE 'op-a' END)
        WHEN argument IN ('operator_version', 'cost', 'latency_ms', 'quality', 'samples', 'context_window', 'requests_per_minute', 'tokens_per_minute', 'max_concurrency') THEN '1'
        WHEN argument IN ('parameters', 'variables', 'changes') THEN '''{}''' WHEN argument = 'dependencies' THEN '''[]''' WHEN argument = 'function' THEN '''pg_catalog.jsonb_pretty'''
        WHEN argument IN ('tier', 'type', 'system', 'remote_model', 'secret', 'price') THEN '''x''' WHEN argument = 'policy' THEN '''stable''' WHEN argument = 'origin' THEN '''custom'''
        WHEN argument = 'endpoint' THEN '''http://x''' WHEN argument = 'provider' THEN '''openai_compatible''' WHEN argument = 'capabilities' THEN '''{chat}''' WHEN argument = 'fallback_models' THEN '''{}'''
        WHEN argument = 'name' AND function ~ 'operator' THEN CASE WHEN function ~ '^create' THEN '''new-op''' ELSE '''op-a''' END
        WHEN argument = 'name' AND function ~ 'trigger' THEN CASE WHEN function ~ '^create' THEN '''new-hook''' ELSE '''hook''' END
        WHEN argument = 'name' AND function ~ 'tenant' THEN CASE WHEN function ~ '^create' THEN '''new-tenant''' ELSE '''host-a''' END
        WHEN argument = 'name' AND function ~ 'secret' THEN '''secret-a''' WHEN argument = 'value' AND function ~ 'secret|pii|open' THEN CASE type WHEN 'jsonb'::regtype THEN '''{}''' ELSE '''long enough''' END WHEN argument = 'hosts' THEN '''{a.example.com}'''
        WHEN argument = 'uri' AND function ~ 'schema$' THEN '''urn:host:schema''' WHEN argument = 'document' THEN '''{}'''
        WHEN argument = 'name' AND function = 'signal' THEN '''go'''
        WHEN argument = 'name' AND function = 'set_price' THEN '''price-a'''
        WHEN argument = 'name' AND function = 'register_asset' THEN '''new'''
        WHEN argument IN ('workflow', 'what') THEN '''flow-a''' WHEN argument = 'task_id' THEN quote_literal(host.id(6)) WHEN argument IN ('asset', 'asset_id', 'parent_id') THEN quote_literal(host.id(1))
        WHEN argument = 'assets' THEN format('ARRAY[%L]::uuid[]', host.id(1)) WHEN argument = 'artifact_id' THEN quote_literal(host.id(7)) WHEN argument = 'after' THEN 'NULL'
        WHEN argument = 'inputs' THEN '''[{}]''' WHEN argument = 'idempotency_keys' THEN '''{key-a}''' WHEN argument = 'idempotency_key' THEN '''key-a'''
        WHEN argument = 'node' THEN '''ask''' WHEN argument = 'from_node' THEN '''n''' WHEN argument = 'hold_reference' THEN '''hold-a''' WHEN argument = 'entry_reference' THEN '''capture-a'''
        WHEN argument = 'reference' THEN '''hold-a''' WHEN argument = 'trace_id' THEN '''trace-a''' WHEN argument = 'tenant' THEN '''host-a''' WHEN argument = 'role_name' THEN CASE WHEN function ~ 'authenticator' THEN '''host_front''' ELSE '''host_bob''' END
        WHEN argument = 'definition' THEN $d$'{"nodes": [{"key": "x", "kind": "workflow", "workflow": "flow-a"}, {"key": "y", "kind": "operator", "operator": "op-a"}]}'$d$
        WHEN argument IN ('from_revision', 'to_revision', 'revision', 'version', 'expected_version', 'row_version') THEN '1'
        WHEN argument IN ('amount', 'per_units', 'limit_rows', 'limit_tasks', 'item', 'seq', 'priority', 'max_priority', 'weight', 'max_errors', 'width', 'max_depth', 'percent', 'size_bytes', 'duration') THEN CASE argument WHEN 'item' THEN '0' WHEN 'seq' THEN '0' WHEN 'width' THEN '60' ELSE '1' END
        WHEN argument = 'max_cost' THEN '100' WHEN argument IN ('run_at', 'effective_at') THEN '''2040-01-01''' WHEN argument IN ('timeout', 'wait') THEN '''0''' WHEN argument = 'unset' THEN '''{}'''
        WHEN argument IN ('set', 'response', 'payload', 'metadata', 'data', 'schema', 'instance', 'input_schema', 'output_schema', 'settings', 'input', 'filter') THEN CASE type WHEN 'jsonb'::regtype THEN '''{}''' ELSE '''$''' END
        WHEN argument = 'config' THEN $c$'{"function": "pg_catalog.jsonb_pretty"}'$c$ WHEN argument = 'mode' THEN '''sql''' WHEN argument = 'category' THEN '''utility'''
        WHEN argument = 'kind' THEN CASE WHEN function ~ 'trigger' THEN '''event''' ELSE '''skill''' END WHEN argument = 'event' THEN '''asset_new'''
        WHEN argument IN ('schedule', 'every', 'channel', 'content', 'sha256') THEN 'NULL' WHEN argument = 'missed' THEN '''skip''' WHEN argument IN ('tags', 'visible_roles') THEN '''{}'''
        WHEN argument = 'uri' THEN '''file:///x''' WHEN argument = 'visibility' THEN '''tenant''' WHEN argument = 'status' THEN '''ready''' WHEN argument = 'media_type' THEN '''video''' WHEN argument = 'source' THEN '''upload'''
        WHEN argument = 'unit' THEN '''request''' WHEN argument = 'currency' THEN '''USD''' WHEN argument = 'access' THEN '''admin''' WHEN argument = 'maturity' THEN '''locked''' WHEN argument = 'format' THEN '''svg'''
        WHEN argument IN ('description', 'note', 'reason', 'message', 'query', 'mime_type') THEN '''x'''
        WHEN argument IN ('publish', 'approved', 'idempotent', 'activate', 'enabled', 'allow_own_output') THEN 'true' END $$;
CREATE TABLE host.calls AS
SELECT p.oid AS function, p.proname::text AS name, v.variant, a.missing,
       format('SELECT goya.%I(%s) AS r', p.proname, a.list) AS statement
FROM pg_proc p CROSS JOIN (VALUES ('all arguments'), ('as few as possible')) v(variant)
     CROSS JOIN LATERAL (
        SELECT coalesce(string_agg(CASE WHEN p.proargnames IS NULL THEN x.value ELSE format('%I => %s', x.argument, x.value) END, ', ' ORDER BY x.n), '') AS list,
               string_agg(x.argument, ', ') FILTER (WHERE x.value IS NULL) AS missing
        FROM (SELECT n, p.proargnames[n] AS argument, host.argument(p.proname, p.proargnames[n], t::regtype) AS value FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY u(t, n)
              -- Nobody waits here.
              WHERE v.variant = 'all arguments' OR n <= p.pronargs - p.pronargdefaults OR (p.proname ~ '^(wait|read)' AND p.proargnames[n] = 'timeout')) x) a
WHERE p.pronamespace = 'goya'::regnamespace;
-- Subjects that are named in more than one way.
INSERT INTO host.calls SELECT function, name, 'a task', NULL, format('SELECT goya.graph(%L) AS r', host.id(6)) FROM host.calls WHERE name = 'graph' AND variant = 'all arguments';
INSERT INTO host.calls SELECT function, name, 'a file', NULL, format('SELECT goya.finish_asset(%L) AS r', jsonb_build_object('asset_id', host.id(1), 'id', host.id(1), 'status', 'ready', 'uri', 'file:///y'))
FROM host.calls WHERE name = 'finish_asset' AND variant = 'all arguments';
SELECT is((SELECT string_agg(format('%s(%s)', name, missing), '; ') FROM host.calls WHERE missing IS NOT NULL), NULL, 'there is a value for every argument of every function');
SELECT is((SELECT string_agg(p.oid::regprocedure::text, ', ') FROM pg_proc p WHERE p.pronamespace = 'goya'::regnamespace AND p.oid NOT IN (SELECT function FROM host.calls)), NULL, 'every function is called');

-- For the tenant itself, or else the administrator, or the superuser: found, whatever else is wrong; then undone.
CREATE FUNCTION host.for_itself(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    said text;
BEGIN
    BEGIN
        PERFORM set_config('host.token', 'token-a', true);
        said := host.try(('host-a', 'postgres', 'host_ada', NULL, NULL)::host.callers, statement);
        IF said LIKE '42501 permission denied for function%' THEN
            said := host.try(('admin', 'postgres', 'host_admin', NULL, NULL)::host.callers, statement);
        END IF;
        IF said LIKE '42501 only a superuser%' THEN
            said := host.try(('superuser', 'postgres', 'host_dba', NULL, NULL)::host.callers, statement);
        END IF;
        RAISE EXCEPTION USING ERRCODE = 'HOST0', MESSAGE = said;
    EXCEPTION WHEN SQLSTATE 'HOST0' THEN
        RETURN SQLERRM;
    END;
END;
$$;
CREATE TABLE host.own AS SELECT name, host.for_itself(statement) AS said FROM host.calls;
SELECT ok(bool_or(said !~ '^(PT404|42501|42883|42601|22P02|42804) '), format('goya.%s works, or at least finds what is named: %s', name, string_agg(left(replace(said, E'\n', ' '), 100), ' / ')))
FROM host.own GROUP BY name ORDER BY name;
SELECT ok(bool_and(said !~ '^[0-9A-Z]{5} ' AND said NOT IN ('', '(f)')), format('goya.%s does it: %s', name, string_agg(left(said, 100), ' / ')))
FROM host.own WHERE name IN ('callback', 'claim_work', 'complete_work', 'fail_work', 'list_programs', 'list_work', 'read_stream', 'stop_agent', 'wait_for_work') GROUP BY name ORDER BY name;

CREATE TABLE host.said (who text, name text, variant text, said text, changed text);
-- What somebody could know without the token.
SELECT set_config('host.token', encode(sha256('token-a'), 'hex'), false);
DO $$
DECLARE
    call record;
    before text := (SELECT sum FROM host.before);
    after text;
BEGIN
    FOR call IN SELECT * FROM host.calls c ORDER BY c.name, c.variant LOOP
        INSERT INTO host.said SELECT c.who, call.name, call.variant, host.try(c, call.statement) FROM host.callers c;
        after := host.checksum();
        IF after <> before THEN
            UPDATE host.said s SET changed = host.changed(before, after) WHERE s.name = call.name AND s.variant = call.variant;
            before := after;
        END IF;
    END LOOP;
END;
$$;
SELECT unnest(ARRAY[is((SELECT string_agg(format('%s (%s): %s', s.who, s.variant, left(s.said, 300)), E'\n') FROM host.said s WHERE s.name = n AND host.tells(s.said)), NULL, format('goya.%s tells nobody anything', n)),
       is((SELECT string_agg(DISTINCT s.changed, E'\n') FROM host.said s WHERE s.name = n), NULL, format('goya.%s, called by others, changes no row of the tenant', n))])
FROM (SELECT DISTINCT name AS n FROM host.calls) f ORDER BY n;
SELECT is((SELECT string_agg(DISTINCT s.name, ', ') FROM host.said s WHERE s.who IN ('a role without a grant', 'anonymous behind a front end') AND s.said NOT LIKE '42501 permission denied for schema goya%'), NULL,
    'who has no grant may call nothing');
SELECT is((SELECT string_agg(DISTINCT s.who || ' ' || s.name, ', ') FROM host.said s JOIN pg_proc p ON p.proname = s.name AND p.pronamespace = 'goya'::regnamespace
           WHERE s.said !~ '^(42501|PT|22|23|55|42|0A)' AND s.who IN ('a role in no tenant', 'a pooled connection of no tenant') AND p.provolatile = 'v' AND p.proname NOT IN ('new_id', 'health')), NULL,
    'and who is in no tenant changes nothing');
SELECT cmp_ok((SELECT count(*) FROM host.said WHERE said !~ '^[0-9A-Z]{5} '), '>', 50::bigint, 'many calls do go well, for the callers'' own things');

-- goya_private: nobody gets in, by any name.
SELECT is((SELECT string_agg(c.who || ' ' || p.oid::regprocedure, ', ')
           FROM host.callers c CROSS JOIN pg_proc p
           WHERE p.pronamespace = 'goya_private'::regnamespace AND p.prorettype <> 'trigger'::regtype
                 AND host.try(c, format('SELECT goya_private.%I(%s)', p.proname, (SELECT string_agg(format('NULL::%s', t::regtype), ', ' ORDER BY n) FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY u(t, n))))
                     NOT LIKE '42501 permission denied for schema goya%'), NULL, 'no function of goya_private can be called');
SELECT is(host.changed((SELECT sum FROM host.before), host.checksum()), NULL, 'after everything the tenant''s rows are what they were');

-- What a token is: of a callback the right to call back once, for whoever may call; of a lease nothing in another tenant (above, with the true one).
SELECT set_config('host.token', 'token-a', false);
SELECT ok(host.try(c, $$SELECT goya.callback(current_setting('host.token')) AS r$$) LIKE v.said || '%', format('%s calls back: %s', c.who, v.said))
FROM (VALUES (1, 'a role without a grant', '42501 permission denied for schema goya'), (2, 'another tenant''s reader', '42501 permission denied for function callback'),
             (3, 'another tenant', '(t)'), (4, 'a pooled connection', 'PT404 callback not found')) v(n, name, said) JOIN host.callers c ON c.who = v.name ORDER BY n;

SELECT * FROM finish();
ROLLBACK;
