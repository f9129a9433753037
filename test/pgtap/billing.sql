-- billing.sql: the contracts of everything that moves money, function by function: amounts, idempotence, refusals that change nothing, rounding,
-- pinned prices, holds of tasks from start to settlement; and the invariants after 500 random operations.
--
-- try(role, statement) runs a statement as a role and gives its first column, or SQLSTATE and message: an expected refusal is one line.
-- Everything is in one transaction that is rolled back.

BEGIN;
SET LOCAL search_path = public, pg_catalog;
SET client_min_messages = warning;
SELECT plan(162);

CREATE ROLE bill_ada; CREATE ROLE bill_bob; CREATE ROLE bill_boss; CREATE ROLE bill_reader; CREATE ROLE bill_admin;
GRANT goya_user TO bill_ada, bill_bob, bill_boss;
GRANT goya_reader TO bill_reader;
GRANT goya_admin TO bill_admin;

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
CREATE FUNCTION pg_temp.wallet(tenant text) RETURNS text LANGUAGE sql AS
$$ SELECT w.balance || ' + ' || w.frozen FROM goya.wallets w JOIN goya.tenants t ON t.id = w.tenant_id WHERE t.name = tenant $$;
CREATE FUNCTION pg_temp.tenant(name text) RETURNS uuid LANGUAGE sql AS $$ SELECT id FROM goya.tenants t WHERE t.name = tenant.name $$;
-- A task as goya.run would make it, without running it.
CREATE FUNCTION pg_temp.make_task(tenant text, held bigint, max_cost bigint DEFAULT NULL, at timestamptz DEFAULT clock_timestamp()) RETURNS uuid
LANGUAGE plpgsql AS $$
DECLARE
    id uuid := goya.new_id();
BEGIN
    INSERT INTO goya.tasks (id, tenant_id, workflow_id, revision, status, run_as, trace_id, max_cost, created_at, hold_id)
    VALUES (id, pg_temp.tenant(tenant), goya.new_id(), 1, 'running', 'bill_ada', 'trace-1', max_cost, at,
            CASE WHEN held IS NOT NULL THEN goya_private.hold_for_task(pg_temp.tenant(tenant), id, held) END);
    RETURN id;
END;
$$;
CREATE FUNCTION pg_temp.use(task uuid, node text, price text, quantity jsonb DEFAULT NULL, item integer DEFAULT 0) RETURNS bigint LANGUAGE sql AS
$$ SELECT cost FROM goya_private.record_usage(ARRAY[task], ARRAY[node], ARRAY[item], ARRAY[1::smallint], ARRAY[price], ARRAY[quantity]) $$;

SELECT is(pg_temp.try('bill_admin', $$SELECT goya.create_tenant('bill-acme') IS NOT NULL$$), 'true', 'an administrator makes a tenant');
SELECT is(pg_temp.try('bill_admin', $$SELECT goya.create_tenant('bill-rival') IS NOT NULL$$), 'true', 'and another');
SELECT is(pg_temp.try('bill_admin', $$SELECT goya.add_member('bill_ada', 'bill-acme'), goya.add_member('bill_boss', 'bill-acme', 'admin'),
    goya.add_member('bill_reader', 'bill-acme', 'reader'), goya.add_member('bill_bob', 'bill-rival')$$), '', 'with members');

-- top_up and grant_credit
SELECT is(pg_temp.try('bill_ada', $$SELECT (goya.top_up(5, 'x')).amount$$), '42501: permission denied for function top_up', 'a user may not add money');
SELECT is(pg_temp.try('bill_ada', $$SELECT (goya.grant_credit(5, 'x')).amount$$), '42501: permission denied for function grant_credit', 'nor grant it');
SELECT is(pg_temp.try('bill_admin', $$SELECT (goya.top_up(0, 't0', 'bill-acme')).amount$$), '22023: amount must be positive', 'zero is refused');
SELECT is(pg_temp.try('bill_admin', $$SELECT (goya.top_up(-1, 't0', 'bill-acme')).amount$$), '22023: amount must be positive', 'less is refused');
SELECT is(pg_temp.try('bill_admin', $$SELECT (goya.top_up(NULL, 't0', 'bill-acme')).amount$$), '22023: amount must be positive', 'null is refused');
SELECT is(pg_temp.try('bill_admin', $$SELECT (goya.top_up(1, NULL, 'bill-acme')).amount$$), '22023: bad reference', 'a reference is needed');
SELECT is(pg_temp.try('bill_admin', $$SELECT (goya.top_up(1, '', 'bill-acme')).amount$$), '22023: bad reference', 'an empty one is none');
SELECT is(pg_temp.try('bill_admin', $$SELECT (goya.top_up(1, repeat('x', 201), 'bill-acme')).amount$$), '22023: bad reference', 'nor a very long one');
SELECT is(pg_temp.try('bill_admin', $$SELECT (goya.top_up(1, 'task:1', 'bill-acme')).amount$$), '22023: bad reference', 'task: is goya''s own');
SELECT is(pg_temp.try('bill_admin', $$SELECT (goya.top_up(1, 't0', 'bill-none')).amount$$), 'PT404: tenant not found', 'an unknown tenant');
SELECT is(pg_temp.try('bill_admin', $$SELECT (goya.top_up(1, 't0', 'bill-acme', 'usd')).amount$$), '22023: bad currency', 'a bad currency');
SELECT is((SELECT count(*) FROM goya.wallets), 0::bigint, 'refusals leave no wallet');
SELECT is((SELECT count(*) FROM goya_private.billing_references), 0::bigint, 'and no reference');
SELECT is(pg_temp.try('bill_admin', $$SELECT to_jsonb(e) - '{id,wallet_id,tenant_id,created_at}'::text[] FROM goya.top_up(1000, 't1', 'bill-acme', note => 'first') e$$)::jsonb,
    '{"kind": "top_up", "amount": 1000, "moved": 0, "seq": 1, "balance_after": 1000, "frozen_after": 0, "reference": "t1", "note": "first",
      "hold_id": null, "task_id": null, "capture_id": null}'::jsonb, 'top_up returns its entry');
SELECT is(pg_temp.wallet('bill-acme'), '1000 + 0', 'and the money is there');
SELECT is((SELECT currency FROM goya.wallets), 'USD', 'in USD');
SELECT is(pg_temp.try('bill_admin', $$SELECT (goya.top_up(1000, 't1', 'bill-acme', note => 'first')).seq$$), '1', 'the same reference gives the same entry');
SELECT is(pg_temp.wallet('bill-acme'), '1000 + 0', 'and no more money');
SELECT is(pg_temp.try('bill_admin', $$SELECT (goya.top_up(1001, 't1', 'bill-acme', note => 'first')).seq$$), '23505: reference was used for another request',
    'with another amount it is an error');
SELECT is(pg_temp.try('bill_admin', $$SELECT (goya.grant_credit(1000, 't1', 'bill-acme', note => 'first')).seq$$), '23505: reference was used for another request',
    'and for another operation');
SELECT is(pg_temp.try('bill_admin', $$SELECT (goya.top_up(1, 't2', 'bill-acme', 'CNY')).seq$$), '22023: the wallet has another currency', 'one currency per wallet');
SELECT is(pg_temp.try('bill_admin', $$SELECT kind || ' ' || amount FROM goya.grant_credit(24, 'g1', 'bill-acme')$$), 'grant 24', 'grant_credit');
SELECT is(pg_temp.try('bill_admin', $$SELECT (goya.top_up(9223372036854775807, 't3', 'bill-acme')).seq$$), '22003: bigint out of range', 'too much for a wallet');
SELECT is(pg_temp.wallet('bill-acme'), '1024 + 0', 'is not half done');
SELECT is(pg_temp.try('bill_admin', $$SELECT (goya.top_up(7, 't1', 'bill-rival', 'CNY')).balance_after$$), '7', 'another tenant has its own references and currency');
SELECT is(pg_temp.try('bill_admin', $$SELECT tenant_id::text FROM goya.top_up(1, 't-default')$$), '00000000-0000-7000-8000-000000000001', 'without a tenant: the caller''s');

-- hold, capture, release
SELECT is(pg_temp.try('bill_reader', $$SELECT (goya.hold(1, 'r')).amount$$), '42501: permission denied for function hold', 'a reader holds nothing');
SELECT is(pg_temp.try('bill_ada', $$SELECT (goya.hold(1025, 'h1')).amount$$), 'PT402: not enough balance', 'more than there is');
SELECT is(pg_temp.try('bill_ada', $$SELECT (goya.hold(0, 'h1')).amount$$), '22023: amount must be positive', 'or nothing');
SELECT is(pg_temp.try('bill_ada', $$SELECT concat_ws(' ', reference, amount, captured, posted, status) FROM goya.hold(600, 'h1')$$), 'h1 600 0 0 open', 'a hold');
SELECT is(pg_temp.wallet('bill-acme'), '424 + 600', 'moves money from balance to frozen');
SELECT is(pg_temp.try('bill_ada', $$SELECT amount FROM goya.hold(600, 'h1')$$), '600', 'once');
SELECT is(pg_temp.wallet('bill-acme'), '424 + 600', 'only');
SELECT is(pg_temp.try('bill_ada', $$SELECT amount FROM goya.hold(601, 'h1')$$), '23505: reference was used for another request', 'another amount under its reference');
SELECT is(pg_temp.try('bill_bob', $$SELECT (goya.capture('h1', 1, 'c')).amount$$), 'PT404: hold not found', 'another tenant does not see it');
SELECT is(pg_temp.try('bill_bob', $$SELECT (goya.release('h1', 'c')).amount$$), 'PT404: hold not found', 'nor release it');
SELECT is(pg_temp.try('bill_ada', $$SELECT (goya.capture('nope', 1, 'c')).amount$$), 'PT404: hold not found', 'an absent hold reads the same');
SELECT is(pg_temp.try('bill_ada', $$SELECT (goya.capture('h1', 601, 'c')).amount$$), 'PT402: not enough money in the hold', 'capture more than held');
SELECT is(pg_temp.try('bill_ada', $$SELECT (goya.capture('h1', 0, 'c')).amount$$), '22023: amount must be positive', 'or nothing');
SELECT is(pg_temp.try('bill_ada', $$SELECT concat_ws(' ', kind, amount, balance_after, frozen_after) FROM goya.capture('h1', 200, 'c1')$$), 'capture -200 424 400', 'capture a part');
SELECT is(pg_temp.try('bill_ada', $$SELECT amount FROM goya.capture('h1', 200, 'c1')$$), '-200', 'once');
SELECT is(pg_temp.wallet('bill-acme'), '424 + 400', 'only');
SELECT is(pg_temp.try('bill_ada', $$SELECT amount FROM goya.capture('h1', 201, 'c1')$$), '23505: reference was used for another request', 'another amount under its reference');
SELECT is(pg_temp.try('bill_ada', $$SELECT concat_ws(' ', kind, amount, moved, balance_after, frozen_after) FROM goya.release('h1', 'r1')$$), 'release 0 400 824 0', 'release gives the rest back');
SELECT is(pg_temp.try('bill_ada', $$SELECT moved FROM goya.release('h1', 'r1')$$), '400', 'once');
SELECT is(pg_temp.wallet('bill-acme'), '824 + 0', 'only');
SELECT is(pg_temp.try('bill_ada', $$SELECT (goya.release('h1', 'r2')).moved$$), '55000: the hold is settled', 'a settled hold is over');
SELECT is(pg_temp.try('bill_ada', $$SELECT (goya.capture('h1', 1, 'c2')).moved$$), '55000: the hold is settled', 'for captures too');
SELECT is(pg_temp.try('bill_ada', $$SELECT concat_ws(' ', status, captured, posted) FROM goya.hold(600, 'h1')$$), 'settled 200 600', 'a repeated hold shows it as it is');
SELECT is(pg_temp.try('bill_ada', $$SELECT (goya.hold(24, 'h2')).amount + (goya.capture('h2', 24, 'c3')).amount$$), '0', 'a hold used up');
SELECT is((SELECT status FROM goya.holds WHERE reference = 'h2'), 'settled', 'is settled');
SELECT is(pg_temp.try('bill_ada', $$SELECT (goya.top_up(5, 'x')).amount$$), '42501: permission denied for function top_up', 'still no money for users');

-- refund
SELECT is(pg_temp.try('bill_ada', $$SELECT (goya.refund('c1', 5, 'f1')).amount$$), '42501: only an administrator may refund', 'a member does not refund');
SELECT is(pg_temp.try('bill_boss', $$SELECT (goya.refund('c1', 201, 'f1')).amount$$), '22023: more than was captured', 'no more than captured');
SELECT is(pg_temp.try('bill_boss', $$SELECT (goya.refund('h1', 1, 'f1')).amount$$), 'PT404: capture not found', 'a hold is no capture');
SELECT is(pg_temp.try('bill_boss', $$SELECT (goya.refund('r1', 1, 'f1')).amount$$), 'PT404: capture not found', 'a release is none either');
SELECT is(pg_temp.try('bill_boss', $$SELECT concat_ws(' ', kind, amount, balance_after) FROM goya.refund('c1', 150, 'f1')$$), 'refund 150 950', 'an admin of the tenant refunds');
SELECT is(pg_temp.try('bill_boss', $$SELECT amount FROM goya.refund('c1', 150, 'f1')$$), '150', 'once');
SELECT is(pg_temp.try('bill_boss', $$SELECT amount FROM goya.refund('c1', 51, 'f2')$$), '22023: more than was captured', 'all refunds together count');
SELECT is(pg_temp.try('bill_boss', $$SELECT balance_after FROM goya.refund('c1', 50, 'f2')$$), '1000', 'up to the whole capture');
SELECT is(pg_temp.try('bill_bob', $$SELECT (goya.refund('c1', 1, 'f3')).amount$$), '42501: only an administrator may refund', 'not from outside');

-- prices
SELECT is(pg_temp.try('bill_ada', $$SELECT (goya.set_price('p', 1)).amount$$), '42501: permission denied for function set_price', 'users set no prices');
SELECT is(pg_temp.try('bill_admin', $$SELECT (goya.set_price('p', -1)).amount$$), '22023: bad price', 'none below zero');
SELECT is(pg_temp.try('bill_admin', $$SELECT (goya.set_price('', 1)).amount$$), '22023: bad price', 'none without a name');
SELECT is(pg_temp.try('bill_admin', $$SELECT (goya.set_price('p', 1, per_units => 0)).amount$$), '22023: bad price', 'none for no units');
SELECT is(pg_temp.try('bill_admin', $$SELECT (goya.set_price('p', 1, 'Token In')).amount$$), '22023: bad price', 'none for a unit that is no word');
SELECT is(pg_temp.try('bill_admin', $$SELECT (goya.set_price('p', 1, effective_at => now() - interval '1 s')).amount$$), '22023: bad price', 'none in the past');
SELECT is(pg_temp.try('bill_admin', $$SELECT (goya.set_price('p', 1, effective_at => 'infinity')).amount$$), '22023: bad price', 'none at the end of time');
SELECT is(pg_temp.try('bill_admin', $$SELECT (goya.set_price('p', 1, tenant => 'bill-none')).amount$$), 'PT404: tenant not found', 'none for nobody');
SELECT is(pg_temp.try('bill_admin', $$SELECT amount || ' per ' || per_units || ' ' || unit FROM goya.set_price('frame', 10)$$), '10 per 1 request', 'a price');
SELECT is(pg_temp.try('bill_admin', $$SELECT (goya.set_price('llm', 3, 'token_in', 2)).amount + (goya.set_price('llm', 7, 'token_out')).amount$$), '10', 'a price per unit each');
SELECT is(pg_temp.try('bill_admin', $$SELECT (goya.set_price('later', 1, effective_at => now() + interval '1 day')).amount
    + (goya.set_price('later', 1, effective_at => now() + interval '1 day')).amount$$), '2', 'set twice the same is one price');
SELECT is((SELECT count(*) FROM goya.prices WHERE name = 'later'), 1::bigint, 'and one row');
SELECT is(pg_temp.try('bill_admin', $$SELECT (goya.set_price('later', 2, effective_at => now() + interval '1 day')).amount$$), '23505: another price begins at that time', 'another at that time is refused');
SELECT is(pg_temp.try('bill_admin', $$SELECT (goya.set_price('frame', 4, tenant => 'bill-acme')).amount$$), '4', 'a price for one tenant');

-- cost: exact, half up
SELECT results_eq($$SELECT goya_private.cost(q, a, p) FROM (VALUES (1, 3, 2), (3, 1, 2), (1, 1, 3), (2, 1, 3), (0.5, 1, 1), (0.49999999999999999999, 1, 1),
    (0, 9, 1), (1000000, 9223372036854, 1000000)) v(q, a, p)$$, $$SELECT unnest('{2,2,0,1,1,0,0,9223372036854}'::bigint[])$$, 'costs are exact and rounded half up');
SELECT throws_ok($$SELECT goya_private.cost(1e19, 1000, 1)$$, '22003', NULL, 'a cost that does not fit is an error');

-- a task: hold, usage, settlement
SELECT pg_temp.make_task('bill-acme', 100) AS t1 \gset
SELECT is(pg_temp.wallet('bill-acme'), '900 + 100', 'a task holds its estimate');
SELECT is(pg_temp.try('bill_ada', format($$SELECT (goya.capture('task:%s', 1, 'c9')).amount$$, :'t1')), '55000: the hold belongs to a task', 'nobody captures it by hand');
SELECT is(pg_temp.try('bill_ada', format($$SELECT (goya.release('task:%s', 'r9')).amount$$, :'t1')), '55000: the hold belongs to a task', 'or releases it');
SELECT is(pg_temp.use(:'t1', 'a', 'frame'), 4::bigint, 'the tenant''s own price comes first');
SELECT is(pg_temp.use(:'t1', 'b', 'frame', '2.5'), 10::bigint, 'times a quantity');
SELECT is(pg_temp.use(:'t1', 'c', 'llm', '{"token_in": 3, "token_out": 2, "token_cached": 9}'), 19::bigint, 'units each have their price, rounded each; unpriced ones are free');
SELECT is(pg_temp.use(:'t1', 'd', 'llm', '1'), 9::bigint, 'a number counts for all units of a name');
SELECT is(pg_temp.use(:'t1', 'e', 'llm', '{}'), 0::bigint, 'nothing used, nothing paid');
SELECT is(pg_temp.use(:'t1', 'b', 'frame', '2.5'), 10::bigint, 'a node run recorded twice');
SELECT is((SELECT captured || ' of ' || amount FROM goya.holds WHERE task_id = :'t1'), '42 of 100', 'is paid once');
SELECT is((SELECT string_agg(concat_ws(' ', unit, quantity, cost), ', ' ORDER BY line) FROM goya.usage_records WHERE node = 'c'),
    'token_cached 9 0, token_in 3 5, token_out 2 14', 'a line per unit is kept');
SELECT is(pg_temp.wallet('bill-acme'), '900 + 100', 'captures leave the wallet alone');
SELECT throws_ok(format($$SELECT pg_temp.use(%L, 'x', 'frame', '-1')$$, :'t1'), '22023', 'bad quantity of a price', 'no negative quantity');
SELECT throws_ok(format($$SELECT pg_temp.use(%L, 'x', 'frame', '"2"')$$, :'t1'), '22023', 'bad quantity of a price', 'no text');
SELECT throws_ok(format($$SELECT pg_temp.use(%L, 'x', 'llm', '{"token_in": [1]}')$$, :'t1'), '22023', 'bad quantity of a price', 'no list');
SELECT throws_ok(format($$SELECT pg_temp.use(%L, 'x', 'nobody')$$, :'t1'), '22023', 'no price is called "nobody"', 'no free lunch by a misspelt price');
SELECT throws_ok(format($$SELECT pg_temp.use(%L, 'x', 'later')$$, :'t1'), '22023', 'no price is called "later"', 'a price of tomorrow is none today');
SELECT is(pg_temp.use(:'t1', 'f', 'frame', '20'), 80::bigint, 'a hold that is too small');
SELECT is((SELECT captured || ' of ' || amount FROM goya.holds WHERE task_id = :'t1'), '122 of 161', 'is enlarged from the wallet');
SELECT is(pg_temp.wallet('bill-acme'), '839 + 161', 'which froze more');
SELECT throws_ok(format($$SELECT pg_temp.use(%L, 'x', 'frame', '220')$$, :'t1'), 'PT402', 'not enough balance', 'as long as there is money');
SELECT is((SELECT captured FROM goya.holds WHERE task_id = :'t1')::text || (SELECT count(*) FROM goya.usage_records WHERE node = 'x'), '1220', 'a refused capture changes nothing');
SELECT pg_temp.make_task('bill-acme', 5, 6) AS t2 \gset
SELECT throws_ok(format($$SELECT pg_temp.use(%L, 'x', 'frame', '2')$$, :'t2'), 'PT402', 'the task would cost more than its max_cost', 'max_cost is a limit');
SELECT pg_temp.make_task('bill-acme', 0, NULL, now() - interval '1 day') AS t3 \gset
SELECT throws_ok(format($$SELECT pg_temp.use(%L, 'x', 'frame')$$, :'t3'), '22023', 'no price is called "frame"', 'a task knows no price from after its start');
SELECT lives_ok(format('SELECT goya_private.settle_tasks(%L)', ARRAY[:'t2', :'t1', :'t3', :'t1']), 'tasks settle');
SELECT is(pg_temp.wallet('bill-acme'), '878 + 0', 'what was used is gone, the rest is back');
SELECT lives_ok(format('SELECT goya_private.settle_tasks(%L)', ARRAY[:'t1', :'t2']), 'settling again');
SELECT is(pg_temp.wallet('bill-acme'), '878 + 0', 'changes nothing');
SELECT throws_ok(format($$SELECT pg_temp.use(%L, 'late', 'frame')$$, :'t1'), '55000', 'the hold is settled', 'nothing is captured after the end');
SELECT is(pg_temp.try('bill_boss', format($$SELECT balance_after FROM goya.refund('task:%s:capture', 122, 'f9')$$, :'t1')), '1000', 'a task''s capture can be refunded');
SELECT is(pg_temp.try('bill_ada', $$SELECT string_agg(concat_ws(' ', node, cost), ', ' ORDER BY node, cost) FROM goya.bill_details$$),
    'a 4, b 10, c 0, c 5, c 14, d 2, d 7, f 80', 'bill_details lists it');
SELECT is(pg_temp.try('bill_bob', $$SELECT count(*) FROM goya.bill_details$$), '0', 'to its tenant only');
SELECT is(pg_temp.try('bill_ada', $$SELECT concat_ws(' ', sum(node_runs), sum(cost), count(cost_tag)) FROM goya.bill_summary$$), '5 122 0', 'bill_summary sums it: node runs, of which some have many lines');
SELECT is(pg_temp.try('bill_bob', $$SELECT count(*) FROM goya.bill_summary$$), '0', 'to its tenant only');
SELECT is(pg_temp.try('bill_ada', $$SELECT concat_ws(' ', balance, frozen, topped_up, granted, captured, refunded, open_holds) FROM goya.wallet_summary$$),
    '1000 0 1000 24 346 322 0', 'wallet_summary adds up');
SELECT throws_ok($$SELECT goya_private.hold_for_task(pg_temp.tenant('bill-acme'), goya.new_id(), 1001)$$, 'PT402', 'not enough balance', 'a task without money does not start');

-- append-only
SELECT is(pg_temp.try('goya_owner', format('UPDATE goya.%I SET tenant_id = tenant_id', t)) , '42501: rows of goya.' || t || ' cannot be changed', 'no UPDATE of ' || t)
FROM unnest('{wallet_entries,usage_records,prices,events}'::text[]) t;
SELECT is(pg_temp.try('goya_owner', format('DELETE FROM goya.%I', t)), '42501: rows of goya.' || t || ' cannot be changed', 'no DELETE from ' || t)
FROM unnest('{wallet_entries,usage_records,prices,events}'::text[]) t;
SELECT is(pg_temp.try('goya_owner', format('TRUNCATE goya.%I', t)), '42501: rows of goya.' || t || ' cannot be changed', 'no TRUNCATE of ' || t)
FROM unnest('{wallet_entries,usage_records,prices,events}'::text[]) t;

-- quote
INSERT INTO goya.workflows (id, tenant_id, name, revision, owner_role, visibility) VALUES
    ('00000000-0000-7000-8000-0000000000a1', pg_temp.tenant('bill-acme'), 'bill-flow', 1, 'bill_ada', 'tenant'),
    ('00000000-0000-7000-8000-0000000000a2', pg_temp.tenant('bill-acme'), 'bill-draft', NULL, 'bill_ada', 'tenant'),
    ('00000000-0000-7000-8000-0000000000a3', pg_temp.tenant('bill-acme'), 'bill-secret', 1, 'bill_boss', 'private'),
    ('00000000-0000-7000-8000-0000000000a4', pg_temp.tenant('bill-acme'), 'bill-unpriced', 1, 'bill_ada', 'tenant');
INSERT INTO goya.workflow_revisions (workflow_id, revision, tenant_id, definition, resolved) VALUES
    ('00000000-0000-7000-8000-0000000000a1', 1, pg_temp.tenant('bill-acme'), '{}', '{"nodes": [
        {"key": "free", "kind": "noop"},
        {"key": "one", "kind": "sql", "price": "frame"},
        {"key": "many", "kind": "map", "over": "{{ input.frames }}", "node": {"kind": "http", "price": {"name": "frame"}}},
        {"key": "talk", "kind": "http", "price": {"name": "llm", "quantity": {"token_in": "{{ input.words }}", "token_out": "{{ output.n }}"}, "estimate": 20}},
        {"key": "undone", "kind": "sql", "compensate": {"kind": "sql", "price": "frame"}}]}'),
    ('00000000-0000-7000-8000-0000000000a3', 1, pg_temp.tenant('bill-acme'), '{}', '{"nodes": []}'),
    ('00000000-0000-7000-8000-0000000000a4', 1, pg_temp.tenant('bill-acme'), '{}', '{"nodes": [{"key": "n", "price": "later"}]}');
SELECT is(pg_temp.try('bill_ada', $$SELECT string_agg(concat_ws(' ', node, price_name, unit, quantity, amount, currency), ', ') FROM goya.quote('bill-flow',
        '{"frames": [1, 2, 3], "words": 7}')$$),
    'one frame request 1 4 USD, many.item frame request 3 12 USD, talk llm token_in 7 11 USD, talk llm token_out 20 140 USD, 167 USD',
    'quote reads what the input tells, estimates the rest, and sums up');
SELECT is(pg_temp.try('bill_reader', $$SELECT amount FROM goya.quote('bill-flow') WHERE node IS NULL$$), '178', 'without input: estimates; readers may ask');
SELECT is((SELECT goya_private.quote_resolved(tenant_id, resolved, clock_timestamp()) FROM goya.workflow_revisions
           WHERE workflow_id = '00000000-0000-7000-8000-0000000000a1'), 178::bigint, 'which is what a task holds');
SELECT is((SELECT goya_private.quote_resolved(pg_temp.tenant('bill-acme'), '{"nodes": [{"key": "n", "price": "later"}]}', now() + interval '2 days')), 1::bigint,
    'at the prices of that time');
SELECT is(pg_temp.try('bill_bob', $$SELECT amount FROM goya.quote('bill-flow')$$), 'PT404: workflow not found', 'another tenant''s workflow is not there');
SELECT is(pg_temp.try('bill_ada', $$SELECT amount FROM goya.quote('bill-none')$$), 'PT404: workflow not found', 'as one that is not');
SELECT is(pg_temp.try('bill_ada', $$SELECT amount FROM goya.quote('bill-secret')$$), 'PT404: workflow not found', 'or a private one of somebody else');
SELECT is(pg_temp.try('bill_ada', $$SELECT amount FROM goya.quote('bill-draft')$$), '55000: workflow "bill-draft" is not published', 'a draft has no price');
SELECT is(pg_temp.try('bill_ada', $$SELECT amount FROM goya.quote('bill-unpriced')$$), '22023: no price is called "later"', 'a price that is not set is told');
SELECT is((SELECT goya_private.quote_resolved(pg_temp.tenant('bill-rival'), '{"nodes": []}', now())), 0::bigint, 'nothing priced costs nothing');
SELECT throws_ok($$SELECT goya_private.quote_resolved(pg_temp.tenant('bill-rival'), '{"nodes": [{"key": "n", "price": "frame"}]}', now())$$,
    '22023', 'no price is called "frame"', 'a price in another currency is none');

-- a batch: several tasks, tenants and prices at once
SELECT is(pg_temp.try('bill_admin', $$SELECT (goya.top_up(10000, 't5', 'bill-rival')).amount + (goya.top_up(10000, 't5', 'bill-acme')).amount$$), '20000', 'more for both');
SELECT is(pg_temp.try('bill_admin', $$SELECT amount FROM goya.set_price('frame', 3, currency => 'CNY', tenant => 'bill-rival')$$), '3', 'and a price');
CREATE TEMP TABLE batch AS
SELECT n, CASE WHEN n % 2 = 0 THEN 'bill-acme' ELSE 'bill-rival' END AS tenant, pg_temp.make_task(CASE WHEN n % 2 = 0 THEN 'bill-acme' ELSE 'bill-rival' END, n % 3) AS task
FROM generate_series(1, 40) n;
SELECT results_eq($$SELECT ordinal, cost FROM goya_private.record_usage((SELECT array_agg(task ORDER BY n) FROM batch), (SELECT array_agg('n' || n ORDER BY n) FROM batch),
        (SELECT array_agg(0) FROM batch), (SELECT array_agg(1::smallint) FROM batch), (SELECT array_agg('frame'::text) FROM batch),
        (SELECT array_agg(CASE WHEN n % 5 <> 0 THEN to_jsonb(n) END ORDER BY n) FROM batch))$$,
    $$SELECT n, (CASE WHEN n % 2 = 0 THEN 4 ELSE 3 END * CASE WHEN n % 5 <> 0 THEN n ELSE 1 END)::bigint FROM batch ORDER BY n$$, 'record_usage answers for each node run, in order');
SELECT is((SELECT count(*) FROM batch b JOIN goya.holds h ON h.task_id = b.task JOIN goya.usage_records u ON u.task_id = b.task WHERE h.captured = u.cost), 40::bigint,
    'each task paid its own');
SELECT lives_ok($$SELECT goya_private.settle_tasks((SELECT array_agg(task) FROM batch))$$, 'and all settle at once');
SELECT is((SELECT count(*) FROM batch b JOIN goya.holds h ON h.task_id = b.task WHERE h.status = 'open'), 0::bigint, 'every one');
SELECT is_empty('SELECT * FROM goya_private.check_billing()', 'the books are right');

-- 500 random operations with a fixed seed: some are refused, some repeated; afterwards the books are right.
SELECT setseed(0.42);
DO $$
DECLARE
    open_tasks uuid[] := '{}';
    task uuid;
    done integer := 0;
    refused integer := 0;
    reference text;
BEGIN
    PERFORM set_config('role', 'bill_admin', true);
    PERFORM goya.top_up(3000, 'random', 'bill-acme');
    FOR step IN 1..500 LOOP
        reference := 'random-' || (random() * 120)::integer;
        BEGIN
            CASE (random() * 9)::integer
                WHEN 0 THEN
                    PERFORM set_config('role', 'bill_admin', true);
                    PERFORM goya.top_up((random() * 60)::integer, reference, 'bill-acme');
                WHEN 1, 2 THEN
                    PERFORM set_config('role', 'bill_ada', true);
                    PERFORM goya.hold((random() * 400)::integer, 'hold-' || (random() * 40)::integer);
                WHEN 3, 4 THEN
                    PERFORM set_config('role', 'bill_ada', true);
                    PERFORM goya.capture('hold-' || (random() * 40)::integer, (random() * 200)::integer, reference);
                WHEN 5 THEN
                    PERFORM set_config('role', 'bill_ada', true);
                    PERFORM goya.release('hold-' || (random() * 40)::integer, reference);
                WHEN 6 THEN
                    PERFORM set_config('role', 'bill_boss', true);
                    PERFORM goya.refund('random-' || (random() * 120)::integer, (random() * 50)::integer, reference);
                WHEN 7 THEN
                    PERFORM set_config('role', 'none', true);
                    open_tasks := open_tasks || pg_temp.make_task('bill-acme', (random() * 100)::integer, (random() * 2000)::integer + 100);
                WHEN 8 THEN
                    PERFORM set_config('role', 'none', true);
                    task := open_tasks[1 + (random() * (cardinality(open_tasks) - 1))::integer];
                    PERFORM pg_temp.use(task, 'n' || step, 'frame', to_jsonb((random() * 60)::integer));
                ELSE
                    PERFORM set_config('role', 'none', true);
                    task := open_tasks[1 + (random() * (cardinality(open_tasks) - 1))::integer];
                    PERFORM goya_private.settle_tasks(ARRAY[task]);
            END CASE;
            done := done + 1;
        EXCEPTION WHEN SQLSTATE 'PT402' OR SQLSTATE 'PT404' OR SQLSTATE '22023' OR SQLSTATE '55000' OR unique_violation OR null_value_not_allowed THEN
            refused := refused + 1;
        END;
        IF step % 50 = 0 THEN
            PERFORM set_config('role', 'none', true);
            IF EXISTS (SELECT FROM goya_private.check_billing()) THEN
                RAISE EXCEPTION 'after step %: %', step, (SELECT string_agg(detail, ' ') FROM goya_private.check_billing());
            END IF;
        END IF;
    END LOOP;
    PERFORM set_config('role', 'none', true);
    PERFORM set_config('bill.done', done::text, true), set_config('bill.refused', refused::text, true);
END;
$$;
SELECT cmp_ok(current_setting('bill.done')::integer, '>', 200, 'many random operations were done');
SELECT cmp_ok(current_setting('bill.refused')::integer, '>', 50, 'and many refused');
SELECT is_empty('SELECT * FROM goya_private.check_billing()', 'the books are right after all of them');

-- Prices are kept in memory: one that is rolled back is forgotten, one that is set is seen.
CREATE FUNCTION pg_temp.set_and_charge() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM goya.set_price('frame', 9, tenant => 'bill-acme');
    RAISE EXCEPTION 'charged %', pg_temp.use(pg_temp.make_task('bill-acme', 0), 'new', 'frame');
END;
$$;
SELECT is(pg_temp.use(pg_temp.make_task('bill-acme', 0), 'before', 'frame'), 4::bigint, 'a price');
SELECT throws_ok('SELECT pg_temp.set_and_charge()', 'P0001', 'charged 9', 'another one is used at once');
SELECT is(pg_temp.use(pg_temp.make_task('bill-acme', 0), 'after', 'frame'), 4::bigint, 'and rolled back it is not');

-- The check itself is checked: each kind of damage is found.
CREATE FUNCTION pg_temp.codes(damage text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
BEGIN
    SET LOCAL session_replication_role = replica;  -- triggers off: damage as of a broken disk
    EXECUTE damage;
    SELECT string_agg(DISTINCT code, ' ' ORDER BY code) INTO result FROM goya_private.check_billing();
    RAISE EXCEPTION USING MESSAGE = coalesce(result, 'nothing'), ERRCODE = 'P0009';
EXCEPTION WHEN SQLSTATE 'P0009' THEN
    RETURN SQLERRM;
END;
$$;
SELECT is(pg_temp.codes('SELECT'), 'nothing', 'without damage it finds nothing');
SELECT is(pg_temp.codes($$UPDATE goya.wallets SET balance = balance + 1 WHERE tenant_id = pg_temp.tenant('bill-acme')$$), 'ledger_last wallet_total', 'a balance that is off');
SELECT is(pg_temp.codes($$UPDATE goya.wallets SET balance = balance + 1, frozen = frozen - 1 WHERE tenant_id = pg_temp.tenant('bill-acme')$$), 'ledger_last wallet_frozen', 'frozen that is off');
SELECT is(pg_temp.codes($$DELETE FROM goya.wallet_entries WHERE seq = 2 AND tenant_id = pg_temp.tenant('bill-acme')$$), 'ledger_missing ledger_order reference_lost wallet_total', 'an entry that is gone');
SELECT is(pg_temp.codes($$UPDATE goya.wallet_entries SET balance_after = balance_after + 1, frozen_after = frozen_after - 1 WHERE seq = 30$$), 'ledger_order', 'an entry that was changed');
SELECT is(pg_temp.codes($$DELETE FROM goya.usage_records WHERE node = 'n2'$$), 'hold_usage', 'a usage record that is gone');
SELECT is(pg_temp.codes($$UPDATE goya.holds SET capture_seq = capture_seq + 1 WHERE id = (SELECT id FROM goya.holds
    WHERE status = 'settled' AND capture_seq IS NOT NULL LIMIT 1)$$), 'hold_capture', 'a hold that names another capture');
SELECT is(pg_temp.codes($$UPDATE goya.holds SET status = 'open' WHERE id = (SELECT id FROM goya.holds
    WHERE task_id IS NOT NULL AND captured > 0 AND captured < amount AND status = 'settled' LIMIT 1)$$), 'hold_capture hold_entries hold_posted', 'a hold opened again');
SELECT is(pg_temp.codes($$UPDATE goya.tasks SET status = 'failed' WHERE id = (SELECT task_id FROM goya.holds WHERE task_id IS NOT NULL AND status = 'open' LIMIT 1)$$),
    'hold_open', 'an ended task that was not settled');
SELECT is(pg_temp.codes($$UPDATE goya.wallet_entries SET reference = 't1' WHERE reference = 'g1'$$), 'reference_lost reference_twice', 'a reference used twice');

SELECT * FROM finish();
ROLLBACK;
