-- billing_rejected.sql: a rejected operation changes nothing (B3): every table of goya is the same before and after each kind of refusal; and what a node did
-- is taken back with the charge that was refused. B5: a running task keeps the prices of its start.
--
-- Each refusal is a statement that is rolled back to a savepoint in a transaction that commits, as a client would do it.

\set file rejected
\ir lib/tasks.psql
SELECT no_plan();

CREATE FUNCTION pg_temp.state() RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    item record;
    digest text;
    result jsonb := '{}';
BEGIN
    FOR item IN SELECT c.oid::regclass AS name FROM pg_class c
                WHERE c.relkind = 'r' AND c.relnamespace IN ('goya'::regnamespace, 'goya_private'::regnamespace) AND c.relname <> 'engine' LOOP
        EXECUTE format('SELECT count(*) || '' '' || md5(coalesce(string_agg(x::text, '''' ORDER BY x::text), '''')) FROM %s x', item.name) INTO digest;
        result := result || jsonb_build_object(item.name, digest);
    END LOOP;
    RETURN result;
END $$;
CREATE FUNCTION pg_temp.tables_changed(before jsonb) RETURNS text LANGUAGE sql AS $$
    SELECT coalesce(string_agg(a.key, ', ' ORDER BY a.key COLLATE "C"), 'none') FROM jsonb_each_text(pg_temp.state()) a WHERE before ->> a.key IS DISTINCT FROM a.value $$;

-- ---- money, prices, tasks to refuse with ----

CREATE TABLE regress_rejected.notes (n jsonb);
CREATE FUNCTION regress_rejected.note(input jsonb) RETURNS jsonb LANGUAGE sql AS 'INSERT INTO regress_rejected.notes VALUES (input) RETURNING n';
GRANT ALL ON regress_rejected.notes TO regress_rejected;
SELECT goya.create_tenant('regress-rejected') AS tenant, goya.create_tenant('regress-poor') AS poor \gset
SELECT goya.add_member('regress_rejected', 'regress-rejected', 'admin') \g /dev/null
SELECT (goya.set_price('regress-rejected', 1000)).amount, (goya.set_price('regress-rejected', 500, 'second')).amount, (goya.set_price('regress-costly', 9000000)).amount,
       (goya.top_up(100000, 'rejected-1', 'regress-rejected')).seq \g /dev/null
SELECT pg_temp.define('paid', '{"nodes": [{"key": "a", "kind": "noop", "price": {"name": "regress-rejected", "quantity": {"request": 1}}}]}');
SELECT pg_temp.define('costly', '{"nodes": [{"key": "a", "kind": "noop", "price": "regress-costly"}]}');
SELECT pg_temp.define('unpriced', '{"nodes": [{"key": "a", "kind": "noop", "price": "regress-not-set"}]}');
SELECT pg_temp.define('shaped', '{"input": {"type": "object", "required": ["x"]}, "nodes": [{"key": "a", "kind": "noop", "price": "regress-rejected"}]}');
SELECT pg_temp.run('paid', $$SELECT goya.run('paid', idempotency_key => 'rejected-key')$$);
SELECT is(pg_temp.outcome('paid'), 'succeeded {}', 'a paid task');
SELECT pg_temp.try($$SELECT goya.hold(100, 'h1')$$), pg_temp.try($$SELECT goya.capture('h1', 60, 'c1')$$), pg_temp.try($$SELECT goya.hold(10, 'h2')$$),
       pg_temp.try($$SELECT goya.release('h2', 'r2')$$), pg_temp.try($$SELECT goya.refund('c1', 10, 'f1')$$) \g /dev/null

-- ---- refusals ----

CREATE TEMP TABLE refusals (n serial, as_admin boolean, code text, statement text);
INSERT INTO refusals (as_admin, code, statement) VALUES
(true, '22023', $$goya.top_up(0, 'x', 'regress-rejected')$$), (true, '22023', $$goya.top_up(-5, 'x', 'regress-rejected')$$), (true, '22023', $$goya.top_up(NULL, 'x', 'regress-rejected')$$),
(true, '22023', $$goya.top_up(1, NULL, 'regress-rejected')$$), (true, '22023', $$goya.top_up(1, 'task:x', 'regress-rejected')$$), (true, '22023', $$goya.top_up(1, repeat('x', 201), 'regress-rejected')$$),
(true, 'PT404', $$goya.top_up(1, 'x', 'regress-nobody')$$), (true, '22023', $$goya.top_up(1, 'x', 'regress-poor', 'usd')$$), (true, '22023', $$goya.top_up(1, 'x', 'regress-rejected', 'CNY')$$),
(true, '23505', $$goya.top_up(2, 'rejected-1', 'regress-rejected')$$), (true, '23505', $$goya.grant_credit(100000, 'rejected-1', 'regress-rejected')$$),
(true, '22003', $$goya.top_up(9223372036854775807, 'x', 'regress-rejected')$$), (false, '42501', $$goya.top_up(1, 'x')$$), (false, '42501', $$goya.grant_credit(1, 'x')$$),
(false, '22023', $$goya.hold(0, 'x')$$), (false, 'PT402', $$goya.hold(1000000000, 'x')$$), (false, '23505', $$goya.hold(101, 'h1')$$), (false, '23505', $$goya.hold(100, 'h1', 'another note')$$),
(false, '23505', $$goya.hold(60, 'c1')$$), (false, 'PT404', $$goya.capture('none', 1, 'x')$$), (false, 'PT402', $$goya.capture('h1', 41, 'x')$$), (false, '22023', $$goya.capture('h1', 0, 'x')$$),
(false, '23505', $$goya.capture('h1', 59, 'c1')$$), (false, '23505', $$goya.capture('h2', 60, 'c1')$$), (false, '55000', $$goya.capture('h2', 1, 'x')$$),
(false, '55000', format($$goya.capture('task:%s', 1, 'x')$$, pg_temp.task_id('paid'))), (false, 'PT404', $$goya.release('none', 'x')$$), (false, '55000', $$goya.release('h2', 'x')$$),
(false, '23505', $$goya.release('h1', 'r2')$$), (false, '55000', format($$goya.release('task:%s', 'x')$$, pg_temp.task_id('paid'))),
(false, '22023', $$goya.refund('c1', 51, 'x')$$), (false, 'PT404', $$goya.refund('h1', 1, 'x')$$), (false, 'PT404', $$goya.refund('r2', 1, 'x')$$), (false, '23505', $$goya.refund('c1', 11, 'f1')$$),
(false, '22023', format($$goya.refund('task:%s:capture', 1001, 'x')$$, pg_temp.task_id('paid'))), (false, 'PT404', format($$goya.refund('task:%s:capture', 1, 'x')$$, goya.new_id())),
(true, '22023', $$goya.set_price('regress-x', -1)$$), (true, '22023', $$goya.set_price('regress-x', 1, per_units => 0)$$), (true, '22023', $$goya.set_price('regress-x', 1, effective_at => now() - interval '1 h')$$),
(true, 'PT404', $$goya.set_price('regress-x', 1, tenant => 'regress-nobody')$$), (false, '42501', $$goya.set_price('regress-x', 1)$$),
(false, 'PT402', $$goya.run('costly')$$), (false, 'PT402', $$goya.run('costly', idempotency_key => 'x')$$), (false, 'PT402', $$goya.run('costly', run_at => now() + interval '1 day')$$),
(false, '22023', $$goya.run('paid', max_cost => -1)$$), (false, '22023', $$goya.run('unpriced')$$), (false, '23505', $$goya.run('paid', '{"x": 1}', idempotency_key => 'rejected-key')$$),
(false, '23505', $$goya.run('paid', max_cost => 5, idempotency_key => 'rejected-key')$$), (false, '23505', $$goya.run('paid', max_cost => 0, idempotency_key => 'rejected-key')$$),
(false, '22023', $$goya.run('shaped')$$), (false, '22023', $$count(*) FROM goya.run_many('shaped', '[{"x": 1}, {"y": 1}]')$$),
(false, 'PT402', $$count(*) FROM goya.run_many('paid', (SELECT jsonb_agg('{}'::jsonb) FROM generate_series(1, 1000)))$$),
(false, '23505', $$count(*) FROM goya.run_many('paid', '[{}, {"x": 1}]', idempotency_keys => '{new-key,rejected-key}')$$),
(false, '55000', format($$goya.retry(%L)$$, pg_temp.task_id('paid')));
CREATE FUNCTION pg_temp.refuse(r refusals) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    before jsonb := pg_temp.state();
    said text;
BEGIN
    BEGIN
        PERFORM set_config('role', CASE WHEN r.as_admin THEN 'none' ELSE 'regress_rejected' END, true);
        EXECUTE 'SELECT ' || r.statement;
        said := 'was done';
    EXCEPTION WHEN OTHERS THEN
        said := SQLSTATE;
    END;
    PERFORM set_config('role', 'none', true);
    RETURN NEXT is(said || ', changed ' || pg_temp.tables_changed(before), r.code || ', changed none', r.statement);
END $$;
SELECT pg_temp.refuse(r) FROM refusals r ORDER BY n;
-- The comparison would have seen something.
SELECT pg_temp.state() AS before \gset
SELECT pg_temp.try($$SELECT goya.hold(1, 'seen')$$) \g /dev/null
SELECT is(pg_temp.tables_changed(:'before'), 'goya.holds, goya.wallet_entries, goya.wallets, goya_private.billing_references', 'an operation that is done changes its tables');

-- ---- a refused charge takes the node's work with it ----

SELECT pg_temp.define('limited', '{"nodes": [{"key": "a", "kind": "sql", "function": "regress_rejected.note", "input": 1, "price": {"name": "regress-rejected", "quantity": {"request": 2}, "estimate": 0}},
    {"key": "b", "kind": "sql", "function": "regress_rejected.note", "input": 2, "price": {"name": "regress-rejected", "quantity": {"request": "{{ input.b }}"}, "estimate": 0}},
    {"key": "c", "kind": "noop"}], "edges": [{"from": "a", "to": "b"}, {"from": "b", "to": "c"}]}');
SELECT pg_temp.run('limited', $$SELECT goya.run('limited', '{"b": 4}', max_cost => 5000)$$);
SELECT matches(pg_temp.outcome('limited'), '^failed RESOURCE_LIMIT PT402|^failed .* PT402', 'a node beyond max_cost fails');
SELECT is((SELECT string_agg(n::text, ' ' ORDER BY n) FROM regress_rejected.notes), '1', 'and what it did is not there');
SELECT is((SELECT string_agg(concat_ws(' ', node, cost), ', ') FROM goya.usage_records WHERE task_id = pg_temp.task_id('limited')), 'a 2000', 'nor is it charged');
SELECT is((SELECT concat_ws(' ', status, captured, posted = amount) FROM goya.holds WHERE id = pg_temp.task_id('limited')), 'settled 2000 t', 'its task pays for the other, and no more');

-- ---- prices of the start ----

SELECT pg_temp.define('pinned', '{"nodes": [{"key": "w", "kind": "wait", "signal": "go"}, {"key": "a", "kind": "noop", "price": {"name": "regress-rejected", "quantity": {"request": 1}}},
    {"key": "u", "kind": "noop", "price": {"name": "regress-rejected", "quantity": {"request": 1, "second": 2, "unpriced": 9}}}], "edges": [{"from": "w", "to": "a"}, {"from": "a", "to": "u"}]}');
SELECT pg_temp.run('pinned', $$SELECT goya.run('pinned')$$);
SELECT (goya.set_price('regress-rejected', 7)).amount, (goya.set_price('regress-rejected', 8, tenant => 'regress-rejected')).amount, (goya.set_price('regress-rejected', 3, 'unpriced')).amount \g /dev/null
SELECT pg_temp.run('later', $$SELECT goya.run('pinned')$$);
SELECT pg_temp.try(format('SELECT goya.signal(%L, ''go'')', pg_temp.task_id(l))) FROM unnest('{pinned,later}'::text[]) l \g /dev/null
SELECT matches(pg_temp.outcome(l), '^succeeded', l) FROM unnest('{pinned,later}'::text[]) l;
SELECT is((SELECT string_agg(concat_ws(' ', node, unit, cost), ', ' ORDER BY node, unit) FROM goya.usage_records WHERE task_id = pg_temp.task_id('pinned')),
    'a request 1000, u request 1000, u second 1000, u unpriced 0', 'a task that began before pays the prices of then');
SELECT is((SELECT string_agg(concat_ws(' ', node, unit, cost), ', ' ORDER BY node, unit) FROM goya.usage_records WHERE task_id = pg_temp.task_id('later')),
    'a request 8, u request 8, u second 1000, u unpriced 27', 'one that began after, those of now');

\ir lib/finish.psql
SELECT goya.remove_member('regress_rejected') IS NOT NULL \g /dev/null
