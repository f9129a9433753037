-- check.sql: goya.check(), the oracle of all other tests, is itself tested: every rule is broken on purpose, and exactly its rows are seen.
--
-- Decided: the engine makes one sound world in a tenant of its own: tasks that wait for everything there is to wait for, ended ones of every kind, money,
-- triggers, assets. In one transaction, rolled back at the end, that world is copied once for each breach (all its ids begin with the
-- copy's number, so a row that check gives belongs to one copy); each copy is broken in its own way, as by a bad disk, with triggers and constraints out of
-- the way; check is asked once. First of all the copies unbroken: nothing may be found.
-- A breach is a line: what check must say, as code@subject with a name for the subject, and the deed, with {name} for the copy's id of that name.
-- Must hold: every code that the functions of goya.check() know is in some line: the last test compares them.

\set file check
\ir lib/tasks.psql
SELECT no_plan();

-- ---- the world ----

SELECT goya.create_tenant('regress-check') AS tenant \gset
SELECT goya.add_member('regress_check', 'regress-check', 'admin') \g /dev/null
SELECT (goya.set_price('regress-check', 1000)).amount, (goya.top_up(1000000, 'check-1', 'regress-check')).seq \g /dev/null
CREATE FUNCTION regress_check.echo(input jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT input';
CREATE FUNCTION regress_check.boom(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'boom'; END $$;
CREATE FUNCTION regress_check.busy(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION USING ERRCODE = '55P03', MESSAGE = 'not yet'; END $$;

SELECT pg_temp.define('kid', '{"nodes": [{"key": "w", "kind": "wait", "signal": "never"}]}');
SELECT pg_temp.define('spare', '{"nodes": [{"key": "a", "kind": "noop"}]}');
SELECT pg_temp.start('zoo', '{"context": {"shared": {"k": {}}},
    "nodes": [{"key": "start", "kind": "sql", "function": "regress_check.echo", "price": "regress-check",
               "artifact": {"type": "asset", "name": "frame", "data": {"media_type": "image", "uri": "file:///f.png"}}},
              {"key": "ask", "kind": "approval", "message": "ok?"}, {"key": "nap", "kind": "sleep", "duration": 86400},
              {"key": "sig", "kind": "wait", "signal": "never", "timeout": 86400}, {"key": "kid", "kind": "workflow", "workflow": "kid"},
              {"key": "many", "kind": "map", "over": [0, 86400, 86400], "node": {"key": "each", "kind": "sleep", "duration": "{{ item }}"}},
              {"key": "later", "kind": "sql", "function": "regress_check.busy", "retry": {"max_attempts": 3, "initial": 86400, "max": 86400}},
              {"key": "left", "kind": "noop", "writes": {"shared": {"k": 1}}}, {"key": "both", "kind": "noop"}, {"key": "either", "kind": "noop", "join": "any"}],
    "edges": [{"from": "start", "to": "ask"}, {"from": "start", "to": "nap"}, {"from": "start", "to": "sig"}, {"from": "start", "to": "kid"},
              {"from": "start", "to": "many"}, {"from": "start", "to": "later"}, {"from": "start", "to": "left"}, {"from": "left", "to": "both"},
              {"from": "nap", "to": "both"}, {"from": "left", "to": "either"}, {"from": "nap", "to": "either"}]}');
SELECT pg_temp.start('done', '{"nodes": [{"key": "a", "kind": "sql", "function": "regress_check.echo", "price": "regress-check"}, {"key": "b", "kind": "noop"}],
    "edges": [{"from": "a", "to": "b"}]}');
SELECT pg_temp.start('undone', '{"nodes": [{"key": "r", "kind": "noop", "compensate": {"kind": "noop"}}, {"key": "b", "kind": "sql", "function": "regress_check.boom"}],
    "edges": [{"from": "r", "to": "b"}]}');
SELECT pg_temp.start('half', '{"nodes": [{"key": "a", "kind": "noop"}, {"key": "b", "kind": "sql", "function": "regress_check.boom"}], "edges": [{"from": "a", "to": "b"}]}');
SELECT pg_temp.start('gate', '{"nodes": [{"key": "w", "kind": "wait", "signal": "go"}, {"key": "after", "kind": "sql", "function": "regress_check.echo"}],
    "edges": [{"from": "w", "to": "after"}]}');
SELECT pg_temp.run('kept', $$SELECT goya.run('gate', idempotency_key => 'check-key', run_at => now() + interval '1 day')$$);
SELECT pg_temp.run('stopped', $$SELECT goya.run('gate', run_at => now() + interval '1 day')$$);
SELECT pg_temp.try(format('SELECT goya.cancel(%L)', pg_temp.task_id('stopped'))) \g /dev/null
SELECT pg_temp.until($$SELECT string_agg(status::text, ' ') FROM goya.node_runs WHERE task_id = pg_temp.task_id('gate')$$, 'waiting') \g /dev/null
SELECT pg_temp.try(format('SELECT goya.pause(%L)', pg_temp.task_id('gate'))) \g /dev/null
SELECT pg_temp.try(format('SELECT goya.signal(%L, ''go'')', pg_temp.task_id('gate'))) \g /dev/null
SELECT pg_temp.outcome('half') \g /dev/null
SELECT pg_temp.run('again', format('SELECT goya.retry(%L)', pg_temp.task_id('half')));
SELECT pg_temp.try($$SELECT goya.create_trigger('done', 'on-asset', 'event', event => 'asset_new', filter => '$.asset.name == "wanted"')$$) \g /dev/null
SELECT pg_temp.try($$SELECT goya.create_trigger('spare', 'daily', 'interval', every => '1 day')$$) \g /dev/null
SELECT pg_temp.try($$SELECT goya.register_asset('file:///wanted', name => 'wanted')$$) AS asset \gset
SELECT pg_temp.try($$SELECT goya.hold(100, 'h1')$$), pg_temp.try($$SELECT goya.capture('h1', 40, 'c1')$$), pg_temp.try($$SELECT goya.refund('c1', 10, 'f1')$$),
       pg_temp.try($$SELECT goya.hold(50, 'h2')$$), pg_temp.try($$SELECT goya.release('h2', 'r2')$$), pg_temp.try($$SELECT goya.hold(30, 'h3')$$) \g /dev/null

SELECT is(pg_temp.outcome(l), o, l) FROM (VALUES ('done', 'succeeded {}'), ('stopped', 'cancelled')) v(l, o);
SELECT matches(pg_temp.outcome(l), '^failed.*boom', l) FROM unnest('{undone,half,again}'::text[]) l;
SELECT is(pg_temp.until($$SELECT string_agg(concat_ws(':', node, nullif(item, 0), status), ' ' ORDER BY node, item) FROM goya.node_runs WHERE task_id = pg_temp.task_id('zoo')$$,
    $$ask:waiting each:succeeded each:1:waiting each:2:waiting either:succeeded kid:waiting later:failed left:succeeded many:waiting nap:waiting sig:waiting start:succeeded$$, 20),
    $$ask:waiting each:succeeded each:1:waiting each:2:waiting either:succeeded kid:waiting later:failed left:succeeded many:waiting nap:waiting sig:waiting start:succeeded$$,
    'the zoo waits for everything');
SELECT is(pg_temp.until($$SELECT count(*)::text FROM goya_private.parked WHERE task_id = pg_temp.task_id('gate')$$, '1'), '1', 'the gate is paused behind its signal');
SELECT is(pg_temp.until($$SELECT count(*)::text FROM goya.tasks t WHERE t.trigger_id IS NOT NULL AND t.status = 'succeeded' AND t.run_as = 'regress_check'$$, '1'), '1', 'the trigger has fired');

SELECT pg_temp.try($$SELECT goya.create_operator('tool', 'sql', '{"function": "regress_check.echo"}')$$),
       pg_temp.try($$SELECT goya.add_operator_version('tool', '{"function": "regress_check.echo"}', idempotent => false)$$),
       pg_temp.try($$SELECT goya.create_algorithm('algo')$$), pg_temp.try($$SELECT goya.add_implementation('algo', 'tool')$$),
       pg_temp.try($$SELECT goya.record_evaluation('algo', 'tool', 2, quality => 0.7)$$), pg_temp.try($$SELECT goya.create_node_kind('kind_a', 'regress_check.echo')$$),
       pg_temp.try($$SELECT goya.create_model('small', 'http://127.0.0.1:9/v1')$$), pg_temp.try($$SELECT goya.create_model('large', 'http://127.0.0.1:9/v1', fallback_models => '{small}')$$),
       pg_temp.try($$SELECT goya.set_model_profile('large', 'precise', '{}')$$), pg_temp.try($$SELECT goya.set_prompt('hello', 'hello')$$) \g /dev/null

SELECT pg_temp.start('bot', '{"nodes": [{"key": "a", "kind": "agent", "model": "small", "prompt": "x", "tools": [{"name": "echo", "node": {"kind": "sql", "function": "regress_check.echo"}}],
    "retry": {"max_attempts": 3, "initial": 86400, "max": 86400, "on": ["DEPENDENCY", "POLICY_DENY", "VALIDATION", "TRANSIENT", "UNKNOWN"]}}]}');
SELECT is(pg_temp.until($$SELECT string_agg(node || ':' || status, ' ' ORDER BY node) FROM goya.node_runs WHERE task_id = pg_temp.task_id('bot')$$, 'a:waiting a.model:failed'),
          'a:waiting a.model:failed', 'an agent waits to call its model again');

\getenv port GOYA_HTTP_PORT
ALTER SYSTEM SET goya.http_allow_loopback = on;
SELECT pg_reload_conf() \g /dev/null
SELECT pg_temp.start('called', format('{"nodes": [{"key": "c", "kind": "http", "url": "http://127.0.0.1:%s/ok", "callback": true, "retry": {"max_attempts": 50, "initial": 0.05, "on": ["POLICY_DENY"]}}]}', :'port')::jsonb);
SELECT is(pg_temp.until($$SELECT max(status::text) FROM goya.node_runs WHERE task_id = pg_temp.task_id('called')$$, 'waiting'), 'waiting', 'a call waits for its answer');
ALTER SYSTEM RESET goya.http_allow_loopback;
SELECT pg_reload_conf() \g /dev/null

CREATE TEMP TABLE world (label text PRIMARY KEY, id uuid NOT NULL);
INSERT INTO world SELECT label, id FROM started
UNION ALL SELECT 'kid', id FROM goya.tasks WHERE parent_task_id = pg_temp.task_id('zoo')
UNION ALL SELECT 'fired', id FROM goya.tasks WHERE trigger_id IS NOT NULL AND tenant_id = :'tenant'
UNION ALL SELECT 'tenant', :'tenant'
UNION ALL SELECT 'wallet', id FROM goya.wallets WHERE tenant_id = :'tenant'
UNION ALL SELECT reference, id FROM goya.holds WHERE tenant_id = :'tenant' AND task_id IS NULL
UNION ALL SELECT 'wanted', :'asset'
UNION ALL SELECT 'frame', id FROM goya.assets WHERE task_id = pg_temp.task_id('zoo')
UNION ALL SELECT 'artifact', id FROM goya.artifacts WHERE task_id = pg_temp.task_id('zoo')
UNION ALL SELECT 'workflow ' || name, id FROM goya.workflows WHERE tenant_id = :'tenant'
UNION ALL SELECT 'trigger ' || name, id FROM goya.triggers WHERE tenant_id = :'tenant'
UNION ALL SELECT 'news', id FROM goya.events WHERE tenant_id = :'tenant' AND subject_id = :'asset'
UNION ALL SELECT 'operator', id FROM goya.operators WHERE tenant_id = :'tenant'
UNION ALL SELECT 'algorithm', id FROM goya.algorithms WHERE tenant_id = :'tenant'
UNION ALL SELECT 'evaluation', id FROM goya.algorithm_evaluations WHERE tenant_id = :'tenant'
UNION ALL SELECT 'model ' || name, id FROM goya.models WHERE tenant_id = :'tenant'
UNION ALL SELECT 'nobody', goya.new_id();

-- ---- copies ----

CREATE FUNCTION pg_temp.moved(content text, n integer) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT regexp_replace(content, '\m[0-9a-f]{8}((-[0-9a-f]{4}){3}-[0-9a-f]{12})', 'cc' || lpad(to_hex(n), 6, '0') || '\1', 'g') $$;

CREATE FUNCTION pg_temp.copy_world(copies integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    item record;
    tenant uuid := (SELECT id FROM pg_temp.world WHERE label = 'tenant');
BEGIN
    FOR item IN
        SELECT c.oid::regclass AS name, CASE
            WHEN c.oid = 'goya.tenants'::regclass THEN 'x.id = $1'
            WHEN 'tenant_id' = ANY (a.names) THEN 'x.tenant_id = $1'
            WHEN 'task_id' = ANY (a.names) AND c.relname <> 'trigger_slots' THEN 'x.task_id IN (SELECT t.id FROM goya.tasks t WHERE t.tenant_id = $1)'
            WHEN c.relname = 'trigger_slots' THEN 'x.trigger_id IN (SELECT t.id FROM goya.triggers t WHERE t.tenant_id = $1)' END AS mine
        FROM pg_class c CROSS JOIN LATERAL (SELECT array_agg(attname) AS names FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0) a
        WHERE c.relnamespace IN ('goya'::regnamespace, 'goya_private'::regnamespace) AND c.relkind = 'r' AND c.relname NOT IN ('members', 'callbacks')
    LOOP
        CONTINUE WHEN item.mine IS NULL;
        EXECUTE format('INSERT INTO %1$s SELECT r.* FROM (SELECT to_jsonb(x) AS content FROM %1$s x WHERE %2$s) o CROSS JOIN generate_series(1, $2) n
                        CROSS JOIN LATERAL jsonb_populate_record(NULL::%1$s, pg_temp.moved(%3$s::text, n)::jsonb) r', item.name, item.mine,
                       CASE WHEN item.name = 'goya.tenants'::regclass THEN $j$(o.content || jsonb_build_object('name', 'regress-check-' || n))$j$ ELSE 'o.content' END)
        USING tenant, copies;
    END LOOP;
    INSERT INTO goya_private.callbacks (token_hash, task_id, node, plan_node, item, attempt, expires_at)
    SELECT sha256(c.token_hash || n::text::bytea), pg_temp.moved(c.task_id::text, n)::uuid, c.node, c.plan_node, c.item, c.attempt, c.expires_at
    FROM goya_private.callbacks c CROSS JOIN generate_series(1, copies) n WHERE c.task_id = pg_temp.task_id('called') AND c.attempt = (SELECT max(attempt) FROM goya_private.callbacks x WHERE x.task_id = c.task_id);
    -- A JSON null has become no value on the way.
    UPDATE goya.node_runs SET output = 'null' WHERE output IS NULL AND status IN ('succeeded', 'compensated') AND task_id::text LIKE 'cc%';
END $$;

-- What check says of copy n, as code@name.
CREATE FUNCTION pg_temp.said(found jsonb, n integer) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT string_agg(f ->> 'code' || '@' || coalesce((SELECT min(w.label) FROM pg_temp.world w WHERE pg_temp.moved(w.id::text, n) = f ->> 'subject'), '?'), ' '
                      ORDER BY f ->> 'code', f ->> 'subject')
    FROM jsonb_array_elements(found) f WHERE f ->> 'subject' LIKE 'cc' || lpad(to_hex(n), 6, '0') || '-%' $$;

-- ---- breaches ----

CREATE TEMP TABLE breaches (n serial PRIMARY KEY, expected text NOT NULL, deed text NOT NULL, said text, details text);
INSERT INTO breaches (expected, deed) VALUES
-- A task's own row.
('task_row@zoo', $$UPDATE goya.tasks SET finished_at = now() WHERE id = {zoo}$$),
('task_row@done', $$UPDATE goya.tasks SET finished_seq = NULL WHERE id = {done}$$),
('task_row@done', $$UPDATE goya.tasks SET last_seq = last_seq + 1 WHERE id = {done}$$),
('task_row@done', $$UPDATE goya.tasks SET active = 1 WHERE id = {done}$$),
('task_row@done', $$UPDATE goya.tasks SET paused = true WHERE id = {done}$$),
('task_row@undone', $$UPDATE goya.tasks SET failing = true WHERE id = {undone}$$),
('task_row@zoo waiting_count@zoo', $$UPDATE goya.tasks SET waiting = -1 WHERE id = {zoo}$$),
('task_row@zoo', $$UPDATE goya.tasks SET error = '{}' WHERE id = {zoo}$$),
('task_row@undone', $$UPDATE goya.tasks SET error = NULL WHERE id = {undone}$$),
('task_row@done', $$UPDATE goya.tasks SET output = NULL WHERE id = {done}$$),
('task_row@zoo', $$UPDATE goya.tasks SET started_at = NULL WHERE id = {zoo}$$),
('task_row@zoo', $$UPDATE goya.tasks SET started_at = NULL, started_seq = NULL WHERE id = {zoo}$$),
('task_row@kept', $$UPDATE goya.tasks SET started_at = now(), started_seq = 1 WHERE id = {kept}$$),
('task_row@kept', $$UPDATE goya.tasks SET last_seq = 0 WHERE id = {kept}$$),
('task_row@zoo', $$UPDATE goya.tasks SET progress = 101 WHERE id = {zoo}$$),
('task_row@done', $$UPDATE goya.tasks SET progress = 99 WHERE id = {done}$$),
('child_missing@zoo task_row@kid', $$UPDATE goya.tasks SET parent_item = NULL WHERE id = {kid}$$),
('task_row@fired', $$UPDATE goya.tasks SET trigger = NULL WHERE id = {fired}$$),
('hold_row@done task_hold@done task_row@done', $$UPDATE goya.tasks SET hold_id = {zoo} WHERE id = {done}$$),
-- What it refers to.
('task_revision@kept', $$UPDATE goya.tasks SET revision = 99 WHERE id = {kept}$$),
('task_asset@kept', $$UPDATE goya.tasks SET asset_id = {nobody} WHERE id = {kept}$$),
('task_parent@kept', $$UPDATE goya.tasks SET parent_task_id = {nobody} WHERE id = {kept}$$),
('task_parent@kid', $$UPDATE goya.tasks SET depth = 7 WHERE id = {kid}$$),
('task_key@kept', $$DELETE FROM goya_private.idempotency_keys WHERE task_id = {kept}$$),
('task_key@done task_key@kept', $$UPDATE goya_private.idempotency_keys SET task_id = {done} WHERE task_id = {kept}$$),
('hold_row@done task_hold@done', $$UPDATE goya.tasks SET hold_id = NULL WHERE id = {done}$$),
('hold_entries@zoo hold_posted@zoo hold_settled@zoo wallet_frozen@wallet', $$UPDATE goya.holds SET status = 'settled', settled_at = now() WHERE id = {zoo}$$),
('slot_row@trigger on-asset task_trigger@fired', $$UPDATE goya_private.trigger_slots SET task_id = {kept} WHERE task_id = {fired}$$),
-- Its counters, and what is open.
('active_count@zoo', $$UPDATE goya.tasks SET active = active + 1 WHERE id = {zoo}$$),
('waiting_count@zoo', $$UPDATE goya.tasks SET waiting = waiting - 1 WHERE id = {zoo}$$),
('task_status@zoo', $$UPDATE goya.tasks SET status = 'waiting' WHERE id = {zoo}$$),
('active_count@kept node_lost@kept task_lost@kept', $$DELETE FROM goya_private.timers WHERE task_id = {kept}$$),
('cancel_lost@zoo', $$UPDATE goya.tasks SET status = 'cancelling' WHERE id = {zoo}$$),
('parked_running@gate', $$UPDATE goya.tasks SET paused = false WHERE id = {gate}$$),
('done_count@done open_run_of_ended_task@done task_incomplete@done', $$UPDATE goya.node_runs SET status = 'waiting', finished_at = NULL, output = NULL, started_seq = seq
    WHERE task_id = {done} AND node = 'b'$$),
('leftover_of_ended_task@done', $$INSERT INTO goya_private.joins (task_id, node) VALUES ({done}, 1)$$),
('leftover_of_ended_task@done', $$INSERT INTO goya.approvals (task_id, node, tenant_id) VALUES ({done}, 'a', {tenant})$$),
('child_missing@zoo', $$UPDATE goya.tasks SET parent_node = 0 WHERE id = {kid}$$),
('child_not_told@kid', $$UPDATE goya.tasks SET status = 'cancelled', active = 0, waiting = 0, last_seq = last_seq + 2, finished_seq = last_seq + 2, finished_at = now(), error = '{}' WHERE id = {kid};
    UPDATE goya.node_runs SET status = 'cancelled', error = '{}', finished_at = now(), seq = seq + 1 WHERE task_id = {kid};
    INSERT INTO goya.events (id, tenant_id, type, subject_id, task_id, depth) VALUES ({nobody}, {tenant}, 'task_completed', {kid}, {kid}, 1)$$),
('child_missing@zoo child_orphan@kid', $$UPDATE goya.tasks SET parent_task_id = {undone} WHERE id = {kid}$$),
-- Its queue.
('queue_row@kept', $$UPDATE goya_private.timers SET lane = 9 WHERE task_id = {kept}$$),
('queue_row@zoo wait_lost@zoo', $$UPDATE goya_private.timers SET node = 99 WHERE task_id = {zoo} AND node = 2$$),
('node_lost@gate queued_again@gate', $$UPDATE goya_private.parked SET node = -1 WHERE task_id = {gate}$$),
('active_count@zoo queued_twice@zoo', $$INSERT INTO goya_private.timers SELECT * FROM goya_private.timers WHERE task_id = {zoo} AND verb = 0$$),
('queued_twice@zoo', $$INSERT INTO goya_private.timers SELECT * FROM goya_private.timers WHERE task_id = {zoo} AND verb = 1 AND node = 2$$),
('queued_again@zoo', $$INSERT INTO goya_private.ready (rank, lane, verb, task_id, node, item, attempt) VALUES (9, 0, 0, {zoo}, 7, 0, 1); UPDATE goya.tasks SET active = active + 1 WHERE id = {zoo}$$),
('queued_again@zoo', $$INSERT INTO goya_private.ready (rank, lane, verb, task_id, node, item, attempt) VALUES (9, 0, 0, {zoo}, 7, 0, 3); UPDATE goya.tasks SET active = active + 1 WHERE id = {zoo}$$),
('active_count@zoo retry_lost@zoo', $$DELETE FROM goya_private.timers WHERE task_id = {zoo} AND verb = 0$$),
('call_lost@zoo', $$UPDATE goya.node_runs SET status = 'ready' WHERE task_id = {zoo} AND node = 'sig'; UPDATE goya.tasks SET active = active - 1, waiting = waiting - 1 WHERE id = {zoo}$$),
('wait_lost@zoo', $$DELETE FROM goya_private.timers WHERE task_id = {zoo} AND verb = 1 AND node = 2$$),
('signal_lost@zoo', $$INSERT INTO goya_private.signals (task_id, name) VALUES ({zoo}, 'never')$$),
('signal_taken@gate', $$UPDATE goya_private.signals SET consumed_by = 'x/0/1' WHERE task_id = {gate}$$),
('approval_lost@zoo', $$DELETE FROM goya.approvals WHERE task_id = {zoo}$$),
('approval_lost@zoo', $$UPDATE goya.approvals SET status = 'approved' WHERE task_id = {zoo}$$),
('approval_lost@zoo', $$INSERT INTO goya.approvals (task_id, node, tenant_id) VALUES ({zoo}, 'left', {tenant})$$),
('active_count@gate node_lost@gate task_lost@gate', $$DELETE FROM goya_private.parked WHERE task_id = {gate}$$),
('join_count@zoo', $$UPDATE goya_private.joins SET fired = 2 WHERE task_id = {zoo} AND node = 8$$),
('join_count@zoo', $$UPDATE goya_private.joins SET started = false WHERE task_id = {zoo} AND node = 9$$),
('join_count@zoo', $$DELETE FROM goya_private.joins WHERE task_id = {zoo} AND node = 8$$),
('join_count@zoo', $$INSERT INTO goya_private.joins (task_id, node, fired) VALUES ({zoo}, 1, 1)$$),
('map_count@zoo', $$UPDATE goya_private.maps SET done = 2 WHERE task_id = {zoo}$$),
('map_count@zoo', $$UPDATE goya_private.maps SET next_item = 2 WHERE task_id = {zoo}$$),
('map_count@zoo', $$DELETE FROM goya_private.maps WHERE task_id = {zoo}$$),
-- Node runs.
('run_without_task@done', $$UPDATE goya.node_runs SET tenant_id = {nobody} WHERE task_id = {done} AND node = 'b'$$),
('done_count@done run_node@done task_incomplete@done', $$UPDATE goya.node_runs SET node = 'x' WHERE task_id = {done} AND node = 'b'$$),
('done_count@done run_node@done task_incomplete@done', $$UPDATE goya.node_runs SET item = 1 WHERE task_id = {done} AND node = 'b'$$),
('run_row@done', $$UPDATE goya.node_runs SET finished_at = NULL WHERE task_id = {done} AND node = 'b'$$),
('run_row@done', $$UPDATE goya.node_runs SET started_at = NULL WHERE task_id = {done} AND node = 'b'$$),
('run_row@done', $$UPDATE goya.node_runs SET error = '{}' WHERE task_id = {done} AND node = 'b'$$),
('run_row@half', $$UPDATE goya.node_runs SET error = NULL WHERE task_id = {half} AND node = 'b'$$),
('run_row@done', $$UPDATE goya.node_runs SET output = NULL WHERE task_id = {done} AND node = 'b'$$),
('run_row@zoo', $$UPDATE goya.node_runs SET started_seq = NULL WHERE task_id = {zoo} AND node = 'sig'$$),
('run_row@zoo', $$UPDATE goya.node_runs SET started_seq = seq + 1 WHERE task_id = {zoo} AND node = 'left'$$),
('run_row@zoo', $$UPDATE goya.node_runs SET status = 'running' WHERE task_id = {zoo} AND node = 'nap'; UPDATE goya.tasks SET waiting = waiting - 1 WHERE id = {zoo}$$),
('node_cost@done run_row@done', $$UPDATE goya.node_runs SET cost = -1 WHERE task_id = {done} AND node = 'b'$$),
('run_attempt@half', $$UPDATE goya.node_runs SET attempt = 2 WHERE task_id = {half} AND node = 'b'$$),
('run_attempt@zoo', $$UPDATE goya.node_runs SET attempt = 2 WHERE task_id = {zoo} AND node = 'left'$$),
('done_count@done done_twice@done task_incomplete@done', $$INSERT INTO goya.node_runs SELECT (jsonb_populate_record(r, '{"attempt": 2, "seq": 9}')).* FROM goya.node_runs r WHERE task_id = {done} AND node = 'b';
    UPDATE goya.tasks SET last_seq = 10, finished_seq = 10 WHERE id = {done}$$),
('done_count@done', $$UPDATE goya.tasks SET done_nodes = done_nodes + 1 WHERE id = {done}$$),
('done_count@zoo', $$UPDATE goya.tasks SET done_nodes = done_nodes + 1 WHERE id = {zoo}$$),
('task_incomplete@done', $$DELETE FROM goya.node_runs WHERE task_id = {done} AND node = 'b'; UPDATE goya.tasks SET done_nodes = done_nodes - 1 WHERE id = {done}$$),
('run_too_early@done', $$UPDATE goya.node_runs SET seq = 7 - seq WHERE task_id = {done}$$),
('run_too_early@zoo', $$UPDATE goya.node_runs SET seq = (SELECT seq FROM goya.node_runs WHERE task_id = {zoo} AND node = 'left') + 30 WHERE task_id = {zoo} AND node = 'left';
    UPDATE goya.tasks SET last_seq = last_seq + 60 WHERE id = {zoo}$$),
('compensation_run@undone run_too_early@undone', $$UPDATE goya.node_runs SET status = 'succeeded' WHERE task_id = {undone} AND node = 'r'$$),
('compensation_run@undone', $$DELETE FROM goya.node_runs WHERE task_id = {undone} AND node = 'r.compensate'$$),
('seq_twice@done', $$UPDATE goya.node_runs SET seq = 3 WHERE task_id = {done} AND node = 'b'$$),
('seq_twice@zoo', $$UPDATE goya.node_runs SET seq = 2, started_seq = 2 WHERE task_id = {zoo} AND node = 'start'$$),
('seq_high@zoo', $$UPDATE goya.node_runs SET seq = 99 WHERE task_id = {zoo} AND node = 'either'$$),
('seq_high@kept', $$INSERT INTO goya_private.task_log (task_id, seq, tenant_id, type) VALUES ({kept}, 9, {tenant}, 'x')$$),
('epoch_ahead@zoo', $$UPDATE goya.node_runs SET status = 'running', epoch = 999999 WHERE task_id = {zoo} AND node = 'nap'; UPDATE goya.tasks SET waiting = waiting - 1 WHERE id = {zoo}$$),
-- Everything else.
('row_without_task@nobody', $$INSERT INTO goya_private.ready (rank, lane, verb, task_id, node, item, attempt) VALUES (1, 0, 0, {nobody}, -1, 0, 1)$$),
('row_without_task@zoo', $$UPDATE goya.task_contexts SET tenant_id = {nobody} WHERE task_id = {zoo}$$),
(rtrim(repeat('tenant_missing@tenant ', 14)), $$DELETE FROM goya.tenants WHERE id = {tenant}$$),
('completion_told@done', $$DELETE FROM goya.events WHERE task_id = {done}$$),
('completion_told@done', $$INSERT INTO goya.events SELECT (jsonb_populate_record(e, jsonb_build_object('id', {nobody}))).* FROM goya.events e WHERE task_id = {done}$$),
('completion_told@zoo', $$INSERT INTO goya.events (id, tenant_id, type, subject_id, task_id) VALUES ({nobody}, {tenant}, 'task_completed', {zoo}, {zoo})$$),
('event_twice@wanted', $$INSERT INTO goya.events SELECT (jsonb_populate_record(e, jsonb_build_object('id', {nobody}))).* FROM goya.events e WHERE id = {news}$$),
('event_row@news', $$UPDATE goya.events SET depth = 5 WHERE id = {news}$$),
('event_queue@nobody', $$INSERT INTO goya_private.event_queue (event_id, tenant_id) VALUES ({nobody}, {tenant})$$),
('slot_row@trigger on-asset task_trigger@fired', $$UPDATE goya_private.trigger_slots SET task_id = NULL WHERE task_id = {fired}$$),
('slot_row@nobody', $$INSERT INTO goya_private.trigger_slots (trigger_id, slot, task_id) VALUES ({nobody}, 'x', {kept})$$),
('revision_row@workflow spare', $$UPDATE goya.workflows SET revision = 7 WHERE id = {workflow spare}$$),
('revision_row@workflow spare', $$UPDATE goya.workflows SET revision = NULL WHERE id = {workflow spare}$$),
('revision_row@workflow spare', $$UPDATE goya.workflow_revisions SET resolved = '{"nodes": [{"key": "a"}]}' WHERE workflow_id = {workflow spare}$$),
('revision_row@workflow spare', $$UPDATE goya.workflow_revisions SET tenant_id = {nobody} WHERE workflow_id = {workflow spare}$$),
('secret_row@tenant', $$INSERT INTO goya.secrets (tenant_id, name, hosts, key_id) VALUES ({tenant}, 'lost', '{a.example.com}', 'k1')$$),
('secret_row@tenant', $$INSERT INTO goya_private.secret_values (tenant_id, name, sealed) VALUES ({tenant}, 'stray', '')$$),
-- Calls that are answered later.
('callback_lost@called', $$DELETE FROM goya_private.callbacks WHERE task_id = {called}$$),
('callback_lost@called callback_row@called', $$UPDATE goya_private.callbacks SET item = 1 WHERE task_id = {called}$$),
('callback_lost@called', $$UPDATE goya_private.callbacks SET called_at = now(), payload = '{}' WHERE task_id = {called}$$),
('callback_lost@called', $$DELETE FROM goya_private.timers WHERE task_id = {called} AND verb = 1$$),
('callback_row@called', $$UPDATE goya_private.callbacks SET plan_node = 5 WHERE task_id = {called}$$),
('callback_row@called', $$UPDATE goya_private.callbacks SET payload = '{}' WHERE task_id = {called}$$),
('row_without_task@nobody', $$UPDATE goya_private.callbacks SET task_id = {nobody} WHERE task_id = {called};
    INSERT INTO goya_private.callbacks SELECT 'x'::bytea || decode(replace({called}::text, '-', ''), 'hex'), {called}, node, plan_node, item, attempt, expires_at FROM goya_private.callbacks WHERE task_id = {nobody}$$),
('operator_row@nobody', $$INSERT INTO goya.operators (id, tenant_id, name, active_version) VALUES ({nobody}, {tenant}, 'op', 1)$$),
('operator_row@operator', $$UPDATE goya.operator_versions SET status = 'draft' WHERE operator_id = {operator} AND version = 2$$),
('operator_row@operator', $$UPDATE goya.operators SET status = 'archived' WHERE id = {operator}$$),
('operator_row@operator', $$UPDATE goya.operators SET former_versions = '{1,9}' WHERE id = {operator}$$),
('operator_row@operator', $$DELETE FROM goya.operator_versions WHERE operator_id = {operator} AND version = 1$$),
('operator_dependency@operator', $$INSERT INTO goya.operator_dependencies (operator_id, depends_on, tenant_id) VALUES ({operator}, 'x', {nobody})$$),
('algorithm_row@algorithm', $$UPDATE goya.algorithms SET active_version = 7 WHERE id = {algorithm}$$),
('algorithm_row@algorithm implementation_row@tenant', $$DELETE FROM goya.algorithm_versions WHERE tenant_id = {tenant}$$),
('evaluation_row@evaluation implementation_row@tenant', $$UPDATE goya.algorithm_implementations SET operator_version = 9 WHERE tenant_id = {tenant}$$),
('evaluation_row@evaluation', $$DELETE FROM goya.algorithm_implementations WHERE tenant_id = {tenant}$$),
('model_row@model large', $$UPDATE goya.models SET fallback_models = '{gone}' WHERE id = {model large}$$),
('model_row@model large', $$UPDATE goya.models SET fallback_models = '{large}' WHERE id = {model large}$$),
('profile_row@tenant', $$UPDATE goya.model_profiles SET model = 'gone' WHERE tenant_id = {tenant}$$),
('prompt_row@tenant', $$UPDATE goya.prompts SET version = 5 WHERE tenant_id = {tenant}$$),
('stand_in_row@workflow spare trigger_row@trigger daily', $$UPDATE goya.workflows SET stands_for = 'trial', enabled = false, name = '~x' WHERE id = {workflow spare}$$),
('trigger_row@trigger daily', $$UPDATE goya.triggers SET next_due = NULL WHERE id = {trigger daily}$$),
('trigger_row@trigger daily', $$UPDATE goya.triggers SET enabled = false WHERE id = {trigger daily}$$),
('agent_session@bot', $$UPDATE goya.agent_sessions SET status = 'failed', open_item = NULL WHERE task_id = {bot}$$),
('agent_session@bot', $$DELETE FROM goya.agent_sessions WHERE task_id = {bot}$$),
('agent_count@bot', $$UPDATE goya.agent_sessions SET open_item = NULL WHERE task_id = {bot}$$),
('tool_call_row@bot', $$INSERT INTO goya.tool_calls (task_id, node, item, tenant_id, tool, arguments, digest, decision, status, finished_at)
    VALUES ({bot}, 'a', 0, {tenant}, 'echo', '{}', 'x', 'allow', 'succeeded', now())$$),
('tool_not_allowed@bot', $$INSERT INTO goya.node_runs (task_id, node, item, tenant_id, status, seq, output, started_at, finished_at) VALUES ({bot}, 'a.echo', 1, {tenant}, 'succeeded', 99, '{}', now(), now());
    UPDATE goya.tasks SET last_seq = 99 WHERE id = {bot}$$),
('context_version@zoo', $$DELETE FROM goya.context_patches WHERE task_id = {zoo}; UPDATE goya.task_contexts SET state = '{"vars": {}, "shared": {}}' WHERE task_id = {zoo}$$),
('context_state@zoo', $$UPDATE goya.task_contexts SET state = '{"vars": {}, "shared": {"k": 2}}' WHERE task_id = {zoo}$$),
('artifact_row@artifact', $$UPDATE goya.artifacts SET asset_id = NULL WHERE id = {artifact}$$),
('artifact_row@artifact', $$UPDATE goya.artifacts SET asset_id = {wanted} WHERE id = {artifact}$$),
('artifact_row@artifact', $$UPDATE goya.artifacts SET node = 'nap', asset_id = NULL, type = 'result' WHERE id = {artifact}$$),
('asset_row@frame event_row@?', $$UPDATE goya.assets SET depth = 9 WHERE id = {frame}$$),
('asset_row@wanted', $$UPDATE goya.assets SET node = 'x' WHERE id = {wanted}$$),
-- Money.
('ledger_last@wallet wallet_total@wallet', $$UPDATE goya.wallets SET balance = balance + 1 WHERE id = {wallet}$$),
('ledger_last@wallet wallet_frozen@wallet', $$UPDATE goya.wallets SET balance = balance + 1, frozen = frozen - 1 WHERE id = {wallet}$$),
('ledger_last@wallet wallet_negative@wallet wallet_total@wallet', $$ALTER TABLE goya.wallets DROP CONSTRAINT wallets_balance_check; UPDATE goya.wallets SET balance = -1 WHERE id = {wallet}$$),
('ledger_missing@wallet', $$UPDATE goya.wallets SET last_seq = last_seq + 1 WHERE id = {wallet}$$),
('ledger_order@wallet ledger_order@wallet', $$UPDATE goya.wallet_entries SET balance_after = balance_after + 1, frozen_after = frozen_after - 1 WHERE wallet_id = {wallet} AND seq = 3$$),
('ledger_missing@wallet ledger_order@wallet reference_lost@tenant wallet_total@wallet', $$DELETE FROM goya.wallet_entries WHERE wallet_id = {wallet} AND seq = 1$$),
('entry_row@wallet hold_entries@h3', $$UPDATE goya.wallet_entries SET task_id = {done} WHERE wallet_id = {wallet} AND reference = 'h3'$$),
('entry_row@wallet', $$UPDATE goya.wallet_entries SET moved = 5 WHERE wallet_id = {wallet} AND kind = 'top_up'$$),
('entry_row@wallet', $$UPDATE goya.wallet_entries SET reference = 'task:x' WHERE wallet_id = {wallet} AND task_id = {done} AND kind = 'capture'$$),
('entry_orphan@nobody entry_orphan@h3 hold_entries@h3 ledger_missing@wallet', $$UPDATE goya.wallet_entries SET wallet_id = {nobody} WHERE wallet_id = {wallet} AND reference = 'h3'$$),
('reference_lost@tenant', $$DELETE FROM goya_private.billing_references WHERE tenant_id = {tenant} AND reference = 'c1'$$),
('reference_lost@tenant', $$INSERT INTO goya_private.billing_references (tenant_id, reference, request_hash, result) VALUES ({tenant}, 'x', '', jsonb_build_object('entry', {nobody}))$$),
('reference_lost@tenant reference_lost@tenant reference_twice@wallet', $$UPDATE goya.wallet_entries SET reference = 'c1' WHERE wallet_id = {wallet} AND reference = 'r2'$$),
('hold_capture@done hold_entries@done ledger_missing@wallet ledger_order@wallet reference_twice@done wallet_total@wallet', $$INSERT INTO goya.wallet_entries
    SELECT (jsonb_populate_record(e, jsonb_build_object('id', {nobody}, 'seq', 999))).* FROM goya.wallet_entries e WHERE task_id = {done} AND kind = 'capture'$$),
('hold_row@h3', $$UPDATE goya.holds SET price_generation = 1 WHERE id = {h3}$$),
('hold_row@done', $$UPDATE goya.holds SET reference = 'x' WHERE id = {done}$$),
('hold_usage@zoo', $$UPDATE goya.holds SET captured = captured - 1 WHERE id = {zoo}$$),
('hold_posted@h2', $$UPDATE goya.holds SET settled_at = NULL WHERE id = {h2}$$),
('hold_entries@h3 wallet_frozen@wallet', $$UPDATE goya.holds SET amount = amount + 1 WHERE id = {h3}$$),
('hold_capture@done', $$UPDATE goya.holds SET capture_seq = capture_seq - 1 WHERE id = {done}$$),
('hold_capture@done', $$UPDATE goya.holds SET capture_seq = NULL WHERE id = {done}$$),
('hold_entries@done hold_open@done hold_capture@done wallet_frozen@wallet', $$UPDATE goya.holds SET status = 'open', settled_at = NULL, posted = 0 WHERE id = {done}$$),
('hold_limit@zoo', $$UPDATE goya.tasks SET max_cost = 1 WHERE id = {zoo}$$),
('hold_currency@h3', $$UPDATE goya.holds SET currency = 'CNY' WHERE id = {h3}$$),
('refund_excess@wallet', $$UPDATE goya.wallet_entries SET capture_id = {nobody} WHERE wallet_id = {wallet} AND kind = 'refund'$$),
('price_row@nobody', $$INSERT INTO goya.prices (id, tenant_id, name, amount, generation) VALUES ({nobody}, {tenant}, 'regress-none', 1, 999999)$$),
('usage_row@done usage_price@done', $$UPDATE goya.usage_records SET currency = 'CNY' WHERE task_id = {done}$$),
('hold_usage@done usage_unpaid@done', $$UPDATE goya.usage_records SET hold_id = NULL WHERE task_id = {done}$$),
('node_cost@done usage_without_run@done', $$UPDATE goya.usage_records SET node = 'x' WHERE task_id = {done}$$),
('charged_twice@done usage_without_run@done', $$INSERT INTO goya.usage_records SELECT (jsonb_populate_record(u, '{"attempt": 2, "cost": 0, "quantity": 0}')).* FROM goya.usage_records u WHERE task_id = {done}$$),
('node_cost@done', $$UPDATE goya.node_runs SET cost = cost + 1 WHERE task_id = {done} AND node = 'a'$$),
('hold_usage@done not_charged@done', $$DELETE FROM goya.usage_records WHERE task_id = {done}; UPDATE goya.node_runs SET cost = NULL WHERE task_id = {done}$$),
('usage_price@done', $$UPDATE goya.usage_records SET quantity = 2 WHERE task_id = {done}$$);

CREATE FUNCTION pg_temp.commit_breaches() RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    breach record;
    world record;
    deed text;
    sound jsonb;
    found jsonb;
BEGIN
    BEGIN
        SET LOCAL session_replication_role = replica;
        PERFORM pg_temp.copy_world((SELECT max(n) FROM pg_temp.breaches));
        sound := (SELECT coalesce(jsonb_agg(to_jsonb(c)), '[]') FROM goya.check() c);
        FOR breach IN SELECT * FROM pg_temp.breaches ORDER BY n LOOP
            deed := breach.deed;
            FOR world IN SELECT * FROM pg_temp.world LOOP
                deed := replace(deed, '{' || world.label || '}', quote_literal(pg_temp.moved(world.id::text, breach.n)) || '::uuid');
            END LOOP;
            BEGIN
                EXECUTE deed;
            EXCEPTION WHEN OTHERS THEN
                RAISE EXCEPTION '%: %', SQLERRM, deed;
            END;
        END LOOP;
        found := (SELECT coalesce(jsonb_agg(to_jsonb(c)), '[]') FROM goya.check() c);
        RAISE EXCEPTION USING ERRCODE = 'P0099';
    EXCEPTION WHEN SQLSTATE 'P0099' THEN
        RETURN jsonb_build_object('sound', sound, 'found', found);
    END;
END $$;
CREATE TEMP TABLE answers AS SELECT pg_temp.commit_breaches() AS answer;
SELECT is((SELECT answer -> 'sound' FROM answers), '[]', 'goya.check() finds nothing in sound copies');
UPDATE breaches b SET said = pg_temp.said(a.answer -> 'found', b.n) FROM answers a;
SELECT is(b.said, (SELECT string_agg(e, ' ' ORDER BY split_part(e, '@', 1), e) FROM regexp_split_to_table(b.expected, ' (?=[a-z_]+@)') e), regexp_replace(left(b.deed, 140), '\s+', ' ', 'g'))
FROM breaches b ORDER BY n;
SELECT is((SELECT count(*) FROM answers, jsonb_array_elements(answer -> 'found') f WHERE f ->> 'subject' NOT LIKE 'cc0000%'), 0::bigint, 'and of nothing that was not broken');
SELECT is((SELECT array_agg(DISTINCT split_part(e, '@', 1)) FROM breaches, regexp_split_to_table(expected, ' (?=[a-z_]+@)') e),
    (SELECT array_agg(DISTINCT w.word)
     FROM pg_proc c CROSS JOIN LATERAL regexp_matches(c.prosrc, 'goya_private\.(check_\w+)\(\)', 'g') f
     JOIN pg_proc p ON p.proname = f[1] AND p.pronamespace = 'goya_private'::regnamespace
     CROSS JOIN LATERAL (SELECT m[1] AS word FROM regexp_matches(pg_get_functiondef(p.oid), '''([a-z]+(?:_[a-z]+)+)''', 'g') m) w
     WHERE c.oid = 'goya.check'::regproc AND w.word NOT IN ('asset_new', 'task_completed', 'top_up', 'pg_catalog', 'pg_temp')),
    'every code that check knows has a breach');
\set documented `cat docs/operations.md 2>/dev/null`
SELECT is((SELECT array_agg(DISTINCT m[1]) FROM regexp_matches(substring(:'documented' FROM 'What `goya.check\(\)` looks for(.*?)\n\nFor a'), '`([a-z]+(?:_[a-z]+)+)`', 'g') m),
    (SELECT array_agg(DISTINCT split_part(e, '@', 1)) FROM breaches, regexp_split_to_table(expected, ' (?=[a-z_]+@)') e), 'and is in docs/operations.md') WHERE :'documented' <> '';
SELECT matches(pg_temp.try('SELECT code FROM goya.check()'), '^42501', 'only administrators may ask');

-- ---- the end ----

SELECT pg_temp.try(format('SELECT goya.cancel(%L)', id)) FROM goya.tasks WHERE tenant_id = :'tenant' AND NOT goya_private.is_terminal(status) \g /dev/null
-- The world goes with its money and its events, which nobody may delete: other tests count them.
CREATE FUNCTION pg_temp.forget(tenant uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    item record;
BEGIN
    SET LOCAL session_replication_role = replica;
    FOR item IN SELECT a.attrelid::regclass AS name FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
                WHERE a.attname = 'tenant_id' AND c.relkind = 'r' AND c.relnamespace IN ('goya'::regnamespace, 'goya_private'::regnamespace)
    LOOP
        EXECUTE format('DELETE FROM %s WHERE tenant_id = $1', item.name) USING tenant;
    END LOOP;
    DELETE FROM goya_private.trigger_slots s WHERE NOT EXISTS (SELECT FROM goya.triggers t WHERE t.id = s.trigger_id);
    DELETE FROM goya_private.signals s WHERE NOT EXISTS (SELECT FROM goya.tasks t WHERE t.id = s.task_id);
    DELETE FROM goya_private.callbacks s WHERE NOT EXISTS (SELECT FROM goya.tasks t WHERE t.id = s.task_id);
    DELETE FROM goya_private.timers s WHERE NOT EXISTS (SELECT FROM goya.tasks t WHERE t.id = s.task_id);
    DELETE FROM goya.tenants WHERE id = tenant;
END $$;
SELECT is(pg_temp.until($$SELECT count(*)::text FROM goya.tasks t WHERE NOT goya_private.is_terminal(t.status) AND t.run_as = 'regress_check'$$, '0', 20), '0', 'all of the world was cancelled');
SELECT is_empty('SELECT * FROM goya.check()', 'which leaves nothing');
SELECT pg_temp.forget(:'tenant') \g /dev/null
\ir lib/finish.psql
