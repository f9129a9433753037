-- security.sql: two tenants that must not notice each other, asked as every kind of caller: member, reader, admin of a tenant, somebody in no
-- tenant, somebody without any grant, a front end with claims, a session that only pretends to be one, the platform's administrator.
--
-- Every table gets a row of each tenant first, so that "sees nothing foreign" is not true for want of rows; each table and view is then read by
-- each caller. Nothing here lists tables by name but what makes the rows: a table without rows fails the test.

BEGIN;
SET LOCAL search_path = public, pg_catalog;
SET client_min_messages = warning;
SELECT no_plan();

CREATE ROLE sec_ada; CREATE ROLE sec_ann; CREATE ROLE sec_chief; CREATE ROLE sec_looker; CREATE ROLE sec_bob; CREATE ROLE sec_nobody; CREATE ROLE sec_stranger;
CREATE ROLE sec_suspended; CREATE ROLE sec_admin; CREATE ROLE sec_web; CREATE ROLE sec_front NOINHERIT; CREATE ROLE sec_fake NOINHERIT; CREATE ROLE sec_club;
GRANT goya_user TO sec_ada, sec_ann, sec_chief, sec_bob, sec_suspended, sec_web;
GRANT goya_reader TO sec_looker;
GRANT goya_admin TO sec_admin;
GRANT sec_web, sec_admin TO sec_front; GRANT sec_web TO sec_fake;
GRANT sec_club TO sec_ann;

CREATE FUNCTION pg_temp.try(role_name name, statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
BEGIN
    PERFORM set_config('role', role_name, true);
    EXECUTE statement INTO result;
    PERFORM set_config('role', 'none', true);
    RETURN coalesce(result, 'null');
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ': ' || SQLERRM;
END;
$$;
-- As a front end does it: a session of its own role, the claims, the role of its users.
CREATE FUNCTION pg_temp.try_web(front name, role_name name, claims jsonb, statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
BEGIN
    PERFORM set_config('session_authorization', front, true), set_config('role', role_name, true), set_config('request.jwt.claims', claims::text, true);
    EXECUTE statement INTO result;
    PERFORM set_config('session_authorization', 'postgres', true), set_config('request.jwt.claims', '', true);
    RETURN coalesce(result, 'null');
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ': ' || SQLERRM;
END;
$$;

SELECT goya.create_tenant('sec-a'), goya.create_tenant('sec-b'), goya.create_tenant('sec-c');
SELECT goya.add_member('sec_ada', 'sec-a'), goya.add_member('sec_ann', 'sec-a'), goya.add_member('sec_chief', 'sec-a', 'admin'),
       goya.add_member('sec_looker', 'sec-a', 'reader'), goya.add_member('sec_bob', 'sec-b'), goya.add_member('sec_suspended', 'sec-c');
SELECT goya.suspend_tenant('sec-c'), goya.register_authenticator('sec_front');

-- A row of each tenant in every table. One task, workflow … per tenant, with ids that end in its letter.
CREATE FUNCTION pg_temp.id(letter text, thing integer) RETURNS uuid LANGUAGE sql IMMUTABLE AS
$$ SELECT ('00000000-0000-7000-8000-0000000' || lpad(thing::text, 4, '0') || letter)::uuid $$;
CREATE FUNCTION pg_temp.fill(letter text, owner name) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    tenant uuid := (SELECT id FROM goya.tenants WHERE name = 'sec-' || letter);
BEGIN
    PERFORM goya.top_up(1000, 'start', 'sec-' || letter);
    PERFORM goya.set_price('sec', 1, tenant => 'sec-' || letter);
    SET LOCAL session_replication_role = replica;
    INSERT INTO goya.assets (id, tenant_id, name, tags, owner_role) VALUES (pg_temp.id(letter, 1), tenant, 'asset', ARRAY['tag-' || letter], owner);
    INSERT INTO goya.events (id, tenant_id, type) VALUES (pg_temp.id(letter, 2), tenant, 'asset_new');
    INSERT INTO goya.secrets (tenant_id, name, hosts, key_id) VALUES (tenant, 'secret', '{a.example.com}', 'k1');
    INSERT INTO goya.schemas (tenant_id, uri, document) VALUES (tenant, 'urn:sec', '{}');
    INSERT INTO goya.operators (id, tenant_id, name, active_version, owner_role) VALUES (pg_temp.id(letter, 3), tenant, 'op', 1, owner);
    INSERT INTO goya.operator_versions (operator_id, version, tenant_id, mode, config) VALUES (pg_temp.id(letter, 3), 1, tenant, 'sql', '{}');
    INSERT INTO goya.workflows (id, tenant_id, name, revision, owner_role) VALUES (pg_temp.id(letter, 4), tenant, 'flow-' || letter, 1, owner);
    INSERT INTO goya.workflow_revisions (workflow_id, revision, tenant_id, definition, resolved)
    VALUES (pg_temp.id(letter, 4), 1, tenant, '{"nodes": []}', '{"nodes": []}');
    INSERT INTO goya.operator_dependencies (operator_id, depends_on, tenant_id) VALUES (pg_temp.id(letter, 3), 'x', tenant);
    INSERT INTO goya.operator_templates (tenant_id, name, mode, config) VALUES (tenant, 'tpl', 'sql', '{}');
    INSERT INTO goya.node_kinds (tenant_id, name, function) VALUES (tenant, 'mine', 'a.b');
    INSERT INTO goya.algorithms (tenant_id, name) VALUES (tenant, 'algo');
    INSERT INTO goya.algorithm_versions (tenant_id, algorithm, version) VALUES (tenant, 'algo', 1);
    INSERT INTO goya.algorithm_implementations (tenant_id, algorithm, version, operator, operator_version) VALUES (tenant, 'algo', 1, 'op', 1);
    INSERT INTO goya.algorithm_evaluations (tenant_id, algorithm, version, operator, operator_version) VALUES (tenant, 'algo', 1, 'op', 1);
    INSERT INTO goya.models (tenant_id, name, endpoint, remote_model, price, owner_role) VALUES (tenant, 'model', 'http://x', 'x', 'sec', owner);
    INSERT INTO goya.model_profiles (tenant_id, model, name, parameters) VALUES (tenant, 'model', 'precise', '{}');
    INSERT INTO goya.prompts (tenant_id, name, version, template) VALUES (tenant, 'prompt', 1, 'x');
    INSERT INTO goya.triggers (id, tenant_id, workflow_id, name, kind, event) VALUES (pg_temp.id(letter, 5), tenant, pg_temp.id(letter, 4), 'hook', 'event', 'asset_new');
    INSERT INTO goya.tasks (id, tenant_id, workflow_id, revision, status, run_as, trace_id, created_at, started_at)
    VALUES (pg_temp.id(letter, 6), tenant, pg_temp.id(letter, 4), 1, 'running', owner, 'trace', now() - interval '1 hour', now() - interval '1 hour');
    INSERT INTO goya.node_runs (task_id, node, tenant_id, status, seq) VALUES (pg_temp.id(letter, 6), 'n', tenant, 'succeeded', 2);
    INSERT INTO goya.artifacts (id, tenant_id, task_id, node, type) VALUES (pg_temp.id(letter, 7), tenant, pg_temp.id(letter, 6), 'n', 'result');
    INSERT INTO goya.approvals (task_id, node, tenant_id) VALUES (pg_temp.id(letter, 6), 'ask', tenant);
    INSERT INTO goya.task_contexts (task_id, tenant_id, state) VALUES (pg_temp.id(letter, 6), tenant, '{}');
    INSERT INTO goya.context_patches (task_id, version, tenant_id, diff) VALUES (pg_temp.id(letter, 6), 1, tenant, '{}');
    INSERT INTO goya.context_snapshots (task_id, version, tenant_id, state) VALUES (pg_temp.id(letter, 6), 0, tenant, '{}');
    INSERT INTO goya_private.task_log (task_id, seq, tenant_id, type) VALUES (pg_temp.id(letter, 6), 3, tenant, 'progress');
    INSERT INTO goya.egress_rules (tenant_id, by_admin, action, host, created_by) VALUES (tenant, false, 'deny', 'a.example.com', owner), (tenant, true, 'allow', 'b.example.com', 'sec_admin');
    INSERT INTO goya.mcp_servers (id, tenant_id, name, url) VALUES (pg_temp.id(letter, 8), tenant, 'mcp', 'http://x');
    INSERT INTO goya.mcp_tools (server_id, name, tenant_id, server, hash) VALUES (pg_temp.id(letter, 8), 'tool', tenant, 'mcp', 'x');
    INSERT INTO goya.mcp_calls (task_id, node, item, attempt, tenant_id, server_id, server, tool, requests, resumed, progress, asked, succeeded, started_at, finished_at)
    VALUES (pg_temp.id(letter, 6), 'n', 0, 1, tenant, pg_temp.id(letter, 8), 'mcp', 'tool', 1, 0, 0, 0, true, now(), now());
    INSERT INTO goya.agent_sessions (task_id, node, tenant_id, workflow, run_as, budget, settings) VALUES (pg_temp.id(letter, 6), 'agent', tenant, 'flow-' || letter, owner, '{}', '{}');
    INSERT INTO goya.agent_messages (task_id, node, seq, tenant_id, role, message) VALUES (pg_temp.id(letter, 6), 'agent', 1, tenant, 'user', '{"content": "x"}');
    INSERT INTO goya.tool_calls (task_id, node, item, tenant_id, tool, arguments, digest, decision, status) VALUES (pg_temp.id(letter, 6), 'agent', 0, tenant, 'tool', '{}', 'x', 'allow', 'running');
    INSERT INTO goya.tool_policies (tenant_id, name, decision) VALUES (tenant, 'policy', 'deny');
    INSERT INTO goya_private.work (task_id, node, item, attempt, plan_node, tenant_id, priority, queue, rank, lease_ms, max_claims)
    VALUES (pg_temp.id(letter, 6), 'work', 0, 1, 0, tenant, 0, 'queue', 1, 30000, 3);
    SET LOCAL session_replication_role = origin;
    PERFORM goya_private.hold_for_task(tenant, pg_temp.id(letter, 6), 10);
    UPDATE goya.tasks t SET hold_id = (SELECT h.id FROM goya.holds h WHERE h.task_id = t.id), created_at = clock_timestamp() WHERE id = pg_temp.id(letter, 6);
    PERFORM goya_private.record_usage(ARRAY[pg_temp.id(letter, 6)], ARRAY['n'], ARRAY[0], ARRAY[1::smallint], ARRAY['sec'], ARRAY[NULL]::jsonb[]);
END;
$$;
SELECT pg_temp.fill('a', 'sec_ada'), pg_temp.fill('b', 'sec_bob');

-- ---- Reading: every relation × every caller ----

CREATE TEMP TABLE relations AS
SELECT c.relname::text AS name, c.relkind, EXISTS (SELECT FROM pg_attribute t WHERE t.attrelid = c.oid AND t.attname = 'tenant_id') AS has_tenant
FROM pg_class c WHERE c.relnamespace = 'goya'::regnamespace AND c.relkind IN ('r', 'p', 'v');
CREATE FUNCTION pg_temp.count_rows(name text, has_tenant boolean) RETURNS text LANGUAGE sql AS $$
    SELECT CASE WHEN name = 'tenants' THEN 'SELECT count(*) FILTER (WHERE name = ''sec-a'') || ''/'' || count(*) FILTER (WHERE name = ''sec-b'') FROM goya.tenants'
                WHEN name = 'asset_tags' THEN 'SELECT count(*) FILTER (WHERE tag = ''tag-a'') || ''/'' || count(*) FILTER (WHERE tag = ''tag-b'') FROM goya.asset_tags'
                WHEN NOT has_tenant THEN format('SELECT count(*) || ''/'' || 0 FROM goya.%I', name)
                ELSE format('SELECT count(*) FILTER (WHERE tenant_id = %L) || ''/'' || count(*) FILTER (WHERE tenant_id = %L) FROM goya.%I',
                            (SELECT id FROM goya.tenants t WHERE t.name = 'sec-a'), (SELECT id FROM goya.tenants t WHERE t.name = 'sec-b'), name) END $$;

SELECT unalike(pg_temp.try('postgres', pg_temp.count_rows(name, has_tenant)), '%0%', format('%s has rows of both tenants', name))
FROM relations WHERE has_tenant AND name NOT IN ('stuck_tasks') ORDER BY name;
SELECT ok(pg_temp.try(caller, pg_temp.count_rows(name, has_tenant)) ~ CASE WHEN name IN ('activity', 'stuck_tasks') THEN '^[0-9]+/0$' ELSE '^[1-9][0-9]*/0$' END,
          format('%s sees its own rows of %s and none of the other tenant: %s', caller, name, pg_temp.try(caller, pg_temp.count_rows(name, has_tenant))))
FROM relations CROSS JOIN unnest('{sec_ada,sec_ann,sec_chief,sec_looker}'::text[]) caller ORDER BY caller, name;
SELECT ok(pg_temp.try('sec_bob', pg_temp.count_rows(name, has_tenant)) ~ CASE WHEN name IN ('activity', 'stuck_tasks') THEN '^0/[0-9]+$' ELSE '^0/[1-9][0-9]*$' END,
          format('the other tenant likewise: %s', name)) FROM relations WHERE name NOT IN ('activity', 'operator_moves') ORDER BY name;
SELECT is(pg_temp.try('sec_bob', 'SELECT count(*) FROM goya.operator_moves'), pg_temp.try('sec_ada', 'SELECT count(*) FROM goya.operator_moves'), 'which moves there are is nobody''s own');
SELECT is(pg_temp.try('sec_suspended', pg_temp.count_rows(name, has_tenant)), '0/0', format('a member of a suspended tenant sees nothing of %s', name)) FROM relations ORDER BY name;
SELECT ok(pg_temp.try('sec_nobody', pg_temp.count_rows(name, has_tenant)) LIKE '42501: permission denied%', format('somebody without a grant may not ask for %s', name))
FROM relations ORDER BY name;
SELECT ok(pg_temp.try('sec_admin', pg_temp.count_rows(name, has_tenant)) ~ '^[1-9][0-9]*/[1-9][0-9]*$', format('the administrator sees %s of both', name))
FROM relations WHERE has_tenant AND name <> 'stuck_tasks' ORDER BY name;
SELECT is(pg_temp.try_web('sec_front', 'sec_web', '{"tenant": "sec-a", "user": "zoe"}', pg_temp.count_rows(name, has_tenant)),
          pg_temp.try('sec_ann', pg_temp.count_rows(name, has_tenant)), format('a front end''s claims make it the same as a member: %s', name))
FROM relations ORDER BY name;
SELECT ok(pg_temp.try_web('sec_fake', 'sec_web', '{"tenant": "sec-a", "user": "zoe"}', pg_temp.count_rows(name, has_tenant)) IN ('0/0'),
          format('a session that pretends sees nothing of %s', name)) FROM relations WHERE has_tenant OR name IN ('tenants', 'asset_tags') ORDER BY name;
SELECT is(pg_temp.try_web('sec_front', 'sec_web', '{"tenant": "sec-none"}', 'SELECT count(*) FROM goya.tasks'), '0', 'an unknown tenant in the claims is no tenant');
SELECT is(pg_temp.try_web('sec_front', 'sec_web', '{"tenant": "sec-c"}', 'SELECT count(*) FROM goya.tasks'), '0', 'nor is a suspended one');

-- ---- Writing tables ----

SELECT ok(pg_temp.try(caller, format(statement, name)) ~ '^42501: (permission denied for (table|view)|rows of)', format('%s may not: ' || statement, caller, name))
FROM relations CROSS JOIN unnest('{sec_ada,sec_looker,sec_chief,sec_admin}'::text[]) caller
     CROSS JOIN unnest(ARRAY['DELETE FROM goya.%I', 'TRUNCATE goya.%I', 'INSERT INTO goya.%I DEFAULT VALUES']) statement
WHERE relkind <> 'v' AND NOT (name = 'assets' AND statement LIKE 'INSERT%') ORDER BY caller, name, statement;
SELECT ok(pg_temp.try('sec_ada', format('UPDATE goya.%I SET tenant_id = tenant_id', name)) LIKE '42501: permission denied%', format('nor change %s', name))
FROM relations WHERE relkind <> 'v' AND has_tenant ORDER BY name;
SELECT is_empty($$SELECT c.oid::regclass, r FROM pg_class c CROSS JOIN unnest('{goya_user,goya_reader,goya_admin,goya_executor,goya_listener}'::name[]) r
    WHERE c.relnamespace = 'goya_private'::regnamespace AND c.relkind IN ('r', 'p') AND c.relname <> 'task_log'
          AND has_table_privilege(r, c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')$$, 'internal tables are nobody''s');
SELECT is_empty($$SELECT r FROM unnest('{goya_user,goya_reader,goya_admin,goya_executor,goya_listener,sec_nobody}'::name[]) r
    WHERE has_schema_privilege(r, 'goya_private', 'USAGE') OR has_schema_privilege(r, 'goya', 'CREATE')$$, 'nobody may use goya_private or make things in goya');
SELECT is(pg_temp.try('sec_ada', 'SELECT goya_private.settle_tasks(''{}'')'), '42501: permission denied for schema goya_private', 'internal functions cannot be called');
SELECT is(pg_temp.try('sec_ada', 'SELECT count(*) FROM goya_private.task_log'), '42501: permission denied for schema goya_private', 'nor internal tables read');

-- ---- Assets: the table people write ----

SELECT is(pg_temp.try('sec_ada', $$INSERT INTO goya.assets (name, uri) VALUES ('mine', 'file:///x') RETURNING tenant_id = goya.current_tenant() AND owner_role = 'sec_ada'$$),
    'true', 'a member inserts an asset, which is its tenant''s and its own');
SELECT is(pg_temp.try('sec_ada', format($$INSERT INTO goya.assets (name, tenant_id) VALUES ('x', %L) RETURNING 1$$, (SELECT id FROM goya.tenants WHERE name = 'sec-b'))),
    '42501: new row violates row-level security policy for table "assets"', 'not into another tenant');
SELECT ok(pg_temp.try('sec_ada', format($$INSERT INTO goya.assets (name, %I) VALUES ('x', %s) RETURNING 1$$, c, v)) LIKE '42501: permission denied%', format('and may not say its %s', c))
FROM (VALUES ('owner_role', '''sec_bob'''), ('created_by', '''eve'''), ('depth', '-5'), ('task_id', 'gen_random_uuid()'), ('row_version', '9'), ('created_at', 'now()')) f(c, v);
SELECT is(pg_temp.try('sec_looker', $$INSERT INTO goya.assets (name) VALUES ('x') RETURNING 1$$), '42501: permission denied for table assets', 'a reader inserts none');
GRANT goya_user TO sec_looker;
SELECT is(pg_temp.try('sec_looker', $$INSERT INTO goya.assets (name) VALUES ('x') RETURNING 1$$), '42501: new row violates row-level security policy for table "assets"',
    'even a reader of the tenant who is granted goya_user');
SELECT is(pg_temp.try('sec_looker', $$WITH u AS (UPDATE goya.assets SET name = 'x' RETURNING 1) SELECT count(*) FROM u$$), '0', 'or changes any');
REVOKE goya_user FROM sec_looker;
SELECT is(pg_temp.try('sec_suspended', $$INSERT INTO goya.assets (name) VALUES ('x') RETURNING 1$$),
    '42501: new row violates row-level security policy for table "assets"', 'a suspended tenant''s member inserts none');
SELECT is(pg_temp.try('sec_ada', $$WITH u AS (UPDATE goya.assets SET name = 'new' RETURNING tenant_id) SELECT count(DISTINCT tenant_id) FROM u$$), '1', 'an update reaches the own tenant only');
SELECT is((SELECT name FROM goya.assets WHERE id = pg_temp.id('b', 1)), 'asset', 'and not the other');
SELECT is(pg_temp.try('sec_ada', $$UPDATE goya.assets SET owner_role = 'sec_bob' RETURNING 1$$), '42501: permission denied for table assets', 'an owner cannot be given away');

-- ---- Visibility ----

UPDATE goya.assets SET visibility = 'private' WHERE id = pg_temp.id('a', 1);
UPDATE goya.workflows SET visibility = 'private' WHERE id = pg_temp.id('a', 4);
UPDATE goya.operators SET visibility = 'private' WHERE id = pg_temp.id('a', 3);
CREATE TEMP TABLE shared (name text, query text);
INSERT INTO shared VALUES ('asset', format('SELECT count(*) FROM goya.assets WHERE id = %L', pg_temp.id('a', 1))),
    ('workflow', format('SELECT count(*) FROM goya.workflows WHERE id = %L', pg_temp.id('a', 4))),
    ('revision', format('SELECT count(*) FROM goya.workflow_revisions WHERE workflow_id = %L', pg_temp.id('a', 4))),
    ('operator', format('SELECT count(*) FROM goya.operators WHERE id = %L', pg_temp.id('a', 3))),
    ('operator version', format('SELECT count(*) FROM goya.operator_versions WHERE operator_id = %L', pg_temp.id('a', 3)));
SELECT is(pg_temp.try(caller, query), seen, format('private %s: %s sees %s', name, caller, seen))
FROM shared CROSS JOIN (VALUES ('sec_ada', '1'), ('sec_ann', '0'), ('sec_chief', '1'), ('sec_looker', '0'), ('sec_bob', '0'), ('sec_admin', '1')) c(caller, seen);
UPDATE goya.assets SET visibility = 'role', visible_roles = '{sec_club,sec_gone}' WHERE id = pg_temp.id('a', 1);
UPDATE goya.workflows SET visibility = 'role', visible_roles = '{sec_club,sec_gone}' WHERE id = pg_temp.id('a', 4);
SELECT is(pg_temp.try(caller, query), seen, format('%s shared with a role: %s sees %s', name, caller, seen))
FROM shared CROSS JOIN (VALUES ('sec_ada', '1'), ('sec_ann', '1'), ('sec_looker', '0'), ('sec_bob', '0')) c(caller, seen) WHERE name IN ('asset', 'workflow', 'revision');
GRANT sec_club TO sec_bob;
SELECT is(pg_temp.try('sec_bob', query), '0', format('%s: a role does not cross tenants', name)) FROM shared;
SELECT is(pg_temp.try('sec_ada', format($$UPDATE goya.assets SET visibility = 'public' WHERE id = %L RETURNING 1$$, pg_temp.id('a', 1))),
    '42501: only a platform administrator may make an asset public', 'a member makes nothing public');
UPDATE goya.assets SET visibility = 'public' WHERE id = pg_temp.id('a', 1);
SELECT is(pg_temp.try('sec_bob', (SELECT query FROM shared WHERE name = 'asset')), '1', 'a public asset is seen by all');
SELECT is(pg_temp.try('sec_bob', format($$WITH u AS (UPDATE goya.assets SET name = 'hacked' WHERE id = %L RETURNING 1) SELECT count(*) FROM u$$, pg_temp.id('a', 1))), '0', 'and changed by none of them');
SELECT is(pg_temp.try('sec_suspended', (SELECT query FROM shared WHERE name = 'operator')), '0', 'a private thing by no one else');
-- Behind a front end all users are one role: private is each one's own.
SELECT is(pg_temp.try_web('sec_front', 'sec_web', '{"tenant": "sec-a", "user": "zoe"}', $$INSERT INTO goya.assets (name, visibility) VALUES ('diary', 'private') RETURNING created_by$$), 'zoe', 'an end user keeps a diary');
SELECT is(pg_temp.try_web('sec_front', 'sec_web', '{"tenant": "sec-a", "user": "zoe"}', $$SELECT count(*) FROM goya.assets WHERE name = 'diary'$$), '1', 'and reads it');
SELECT is(pg_temp.try_web('sec_front', 'sec_web', '{"tenant": "sec-a", "user": "yan"}', $$SELECT count(*) FROM goya.assets WHERE name = 'diary'$$), '0', 'another one does not');
SELECT is(pg_temp.try('sec_ada', $$SELECT count(*) FROM goya.assets WHERE name = 'diary'$$), '0', 'nor another role');

-- ---- Functions on another tenant's things ----

SELECT is(pg_temp.try('sec_bob', format(call, pg_temp.id('a', thing))), expected, format('another tenant''s id: %s', call))
FROM (VALUES
    ('SELECT goya.cancel(%L)', 6, 'PT404: task not found'), ('SELECT goya.pause(%L)', 6, 'PT404: task not found'), ('SELECT goya.resume(%L)', 6, 'PT404: task not found'),
    ('SELECT goya.signal(%L, ''go'')', 6, 'PT404: task not found'), ('SELECT goya.retry(%L)', 6, 'PT404: task not found'),
    ('SELECT goya.wait_for_task(%L)', 6, 'PT404: task not found'), ('SELECT goya.task_events_since(%L)', 6, 'PT404: task not found'),
    ('SELECT goya.timeline(%L)', 6, 'PT404: task not found'), ('SELECT goya.diagnose(%L)', 6, 'PT404: task not found'), ('SELECT goya.task_svg(%L)', 6, 'PT404: task not found'),
    ('SELECT goya.task_context(%L)', 6, 'PT404: task not found'), ('SELECT goya.context_at(%L, 1)', 6, 'PT404: task not found'),
    ('SELECT goya.set_artifact_maturity(%L, ''review'')', 7, 'PT404: artifact not found'),
    ('SELECT goya.finish_asset(jsonb_build_object(''asset_id'', %L))', 1, 'PT404: asset not found')) f(call, thing, expected);
SELECT matches(pg_temp.try('sec_bob', call), '^PT404: workflow( "flow-a")? not found$', format('another tenant''s name: %s', call))
FROM unnest(ARRAY['SELECT goya.run(''flow-a'')', 'SELECT goya.quote(''flow-a'')', 'SELECT goya.publish_workflow(''flow-a'')', 'SELECT goya.disable_workflow(''flow-a'')',
    'SELECT goya.delete_workflow(''flow-a'')', 'SELECT goya.export_workflow(''flow-a'')', 'SELECT goya.explain_workflow(''flow-a'')',
    'SELECT goya.enable_trigger(''flow-a'', ''hook'')', 'SELECT goya.drop_trigger(''flow-a'', ''hook'')']) call;
SELECT is(pg_temp.try('sec_bob', format('SELECT goya.stop_agent(%L, ''agent'')', pg_temp.id('a', 6))), 'PT404: task not found', 'another tenant''s agent');
SELECT is(pg_temp.try('sec_bob', format('SELECT goya.read_stream(%L, ''agent'', timeout => ''0'')', pg_temp.id('a', 6))), 'PT404: task not found', 'another tenant''s stream');
SELECT is(pg_temp.try('sec_bob', format('SELECT goya.drop_egress_rule(%s)', r.id)), 'PT404: egress rule not found', format('a rule of %s, by_admin %s, is not the other''s to drop', t.name, by_admin))
FROM goya.egress_rules r JOIN goya.tenants t ON t.id = r.tenant_id WHERE t.name = 'sec-a' OR (t.name = 'sec-b' AND by_admin);
SELECT is(pg_temp.try('sec_bob', 'SELECT goya.deny_egress(''x'', tenant => ''sec-a'')'), '42501: only a platform administrator makes rules for other tenants', 'nor to make');
SELECT goya.create_program('sec-all', '/bin/true', tenants => NULL);
SELECT is(pg_temp.try('sec_suspended', 'SELECT count(*) FROM goya.list_programs()'), '42501: the tenant of role "sec_suspended" is suspended', 'a program for all tenants is none for who has no tenant');
SELECT goya.create_program('sec-mine', '/bin/true', tenants => '{sec-a}');
SELECT is(pg_temp.try(caller, query), said, format('%s: %s: %s', caller, query, said))
FROM (VALUES ('sec_ada', 'SELECT string_agg(name, '' '') FROM goya.list_programs()', 'sec-all sec-mine'), ('sec_looker', 'SELECT string_agg(name, '' '') FROM goya.list_programs()', 'sec-all sec-mine'),
             ('sec_bob', 'SELECT string_agg(name, '' '') FROM goya.list_programs()', 'sec-all'), ('sec_ada', 'SELECT count(*) FROM goya.list_work()', '1'), ('sec_bob', 'SELECT count(*) FROM goya.list_work()', '1'),
             ('sec_suspended', 'SELECT count(*) FROM goya.list_programs()', '42501: the tenant of role "sec_suspended" is suspended'),
             ('sec_suspended', 'SELECT count(*) FROM goya.list_work()', '42501: the tenant of role "sec_suspended" is suspended')) v(caller, query, said);
SELECT is(pg_temp.try('sec_admin', format('SELECT goya.%s', call)), '42501: only a superuser may do this', 'programs are for superusers, not for administrators: ' || call)
FROM unnest(ARRAY['create_program(''x'', ''/bin/true'')', 'drop_program(''sec-all'')', 'allow_program(''sec-mine'', ''sec-b'')']) call;
SELECT is(pg_temp.try('sec_bob', format('SELECT goya.refund(''task:%s:capture'', 1, ''r'')', pg_temp.id('a', 6))), '42501: only an administrator may refund', 'nor another''s money');

-- ---- Each function × callers who may not ----

CREATE TEMP TABLE functions AS
SELECT p.oid, p.proname::text AS name,
       format('SELECT goya.%I(%s)', p.proname, (SELECT string_agg(format('NULL::%s', t::regtype), ', ' ORDER BY n) FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY a(t, n))) AS call
FROM pg_proc p WHERE p.pronamespace = 'goya'::regnamespace;
SELECT ok(pg_temp.try('sec_nobody', call) LIKE '42501: permission denied%', format('without a grant: %s', name)) FROM functions ORDER BY name;
SELECT ok(pg_temp.try('sec_ada', call) LIKE '42501: permission denied%', format('an administrator''s function is not a member''s: %s', name)) FROM functions
WHERE NOT has_function_privilege('goya_user', oid, 'EXECUTE') AND name <> 'health' ORDER BY name;
SELECT ok(pg_temp.try('sec_looker', call) LIKE '42501: permission denied%', format('a reader changes nothing: %s', name)) FROM functions
WHERE NOT has_function_privilege('goya_reader', oid, 'EXECUTE') ORDER BY name;
SELECT is_empty($$SELECT name FROM functions f JOIN pg_proc p ON p.oid = f.oid WHERE has_function_privilege('goya_reader', f.oid, 'EXECUTE') AND p.provolatile = 'v'
    AND p.proname NOT IN ('new_id', 'task_events_since', 'wait_for_task', 'graph', 'timeline', 'task_svg', 'diagnose', 'explain_workflow', 'context_at', 'task_context', 'read_stream')$$,
    'what readers may call is known to change nothing');
SELECT ok(pg_temp.try('sec_suspended', call) ~ '^(42501|22023|PT404|null|22004)', format('a suspended tenant''s member gets nothing from %s: %s', name, pg_temp.try('sec_suspended', call)))
FROM functions WHERE has_function_privilege('goya_user', oid, 'EXECUTE')
     AND name NOT IN ('current_caller', 'is_admin', 'new_id', 'check_schema', 'validate_workflow') ORDER BY name;
-- An administrator's role is one behind a front end too, whatever the claims say: front ends should not be members of such a role.
SELECT is(pg_temp.try_web('sec_front', 'sec_admin', '{"tenant": "sec-a"}', 'SELECT goya.is_admin()'), 'true', 'a goya_admin behind a front end is an administrator');
SELECT is(pg_temp.try_web('sec_front', 'sec_admin', '{"tenant": "sec-a"}', 'SELECT count(*) > 0 FROM goya.tasks WHERE tenant_id = ' || quote_literal((SELECT id FROM goya.tenants WHERE name = 'sec-b'))),
    pg_temp.try_web('sec_front', 'sec_admin', '{"tenant": "sec-a"}', 'SELECT goya.is_admin()'), 'the administrators'' policy and is_admin() agree behind a front end');
SELECT is(pg_temp.try('sec_ada', $$SELECT set_config('request.jwt.claims', '{"tenant": "sec-b"}', true) IS NOT NULL AND goya.current_tenant() = (SELECT id FROM goya.tenants)$$), 'true',
    'claims set by just anybody mean nothing');

-- ---- What a session remembers of who it is ----

SELECT is(pg_temp.try_web('sec_front', 'sec_web', '{"tenant": "sec-a", "user": "zoe"}', 'SELECT goya.current_tenant() || goya.current_end_user()'),
          (SELECT id || 'zoe' FROM goya.tenants WHERE name = 'sec-a'), 'claims say who it is');
SELECT is(pg_temp.try_web('sec_front', 'sec_web', '{"tenant": "sec-b", "sub": "yan"}', 'SELECT goya.current_tenant() || goya.current_end_user()'),
          (SELECT id || 'yan' FROM goya.tenants WHERE name = 'sec-b'), 'other claims say otherwise');
SELECT is(pg_temp.try_web('sec_front', 'sec_web', '{"tenant": "sec-a", "user": "zoe"}', 'SELECT goya.current_end_user()'), 'zoe', 'and the first again');
SELECT is(pg_temp.try_web('sec_fake', 'sec_web', '{"tenant": "sec-a", "user": "zoe"}', 'SELECT coalesce(goya.current_tenant() || goya.current_end_user(), ''nobody'')'),
          'nobody', 'not for a session user that is none, with the same role and the same claims');
SELECT goya.unregister_authenticator('sec_front');
SELECT is(pg_temp.try_web('sec_front', 'sec_web', '{"tenant": "sec-a", "user": "zoe"}', 'SELECT coalesce(goya.current_end_user(), ''nobody'')'), 'nobody', 'nor for one that no longer is');
SELECT goya.register_authenticator('sec_front');
SELECT is(pg_temp.try_web('sec_front', 'sec_web', '{"tenant": "sec-a", "user": "zoe"}', 'SELECT goya.current_end_user()'), 'zoe', 'registered again, it is');
UPDATE goya.tenants SET name = 'sec-z' WHERE name = 'sec-a';
SELECT is(pg_temp.try_web('sec_front', 'sec_web', '{"tenant": "sec-a", "user": "zoe"}', 'SELECT coalesce(goya.current_tenant()::text, ''none'')'), 'none', 'a tenant that was renamed');
UPDATE goya.tenants SET name = 'sec-a' WHERE name = 'sec-z';
SELECT is(pg_temp.try('sec_ada', 'SELECT goya.current_caller()'), 'sec_ada', 'SET ROLE');
SELECT isnt(pg_temp.try('sec_bob', 'SELECT goya.current_tenant()'), pg_temp.try('sec_ada', 'SELECT goya.current_tenant()'), 'to a role of another tenant');

SELECT * FROM finish();
ROLLBACK;
