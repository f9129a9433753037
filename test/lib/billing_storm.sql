-- billing_storm.sql: random operations of every kind on one wallet, by many sessions at once, and what must be true afterwards (B1, B2).
--
-- Included by test/tap/026_billing.pl (short) and test/soak/billing (long). Makes tenant "storm" with role storm_user (its admin), a priced workflow of three
-- steps, and schema storm:
--   attempt(seed, client, n)   one random operation, the caller's transaction; an expected refusal is an answer, anything else an error of the session
--   audit()                    what is wrong afterwards, a row each: seen from outside, from ledger, holds and what the sessions were told
-- Decided: money is scarce, so that many operations are refused; references come from small ranges, so that most are used again, often for another request.
-- What a session was told is in storm.told, written in the same transaction, so it is known if and only if it was committed. Outcomes are counted by
-- sequences, which no rollback takes back.

CREATE ROLE storm_user; GRANT goya_user TO storm_user;
SELECT goya.create_tenant('storm') IS NOT NULL AS made \g /dev/null
SELECT goya.add_member('storm_user', 'storm', 'admin') \g /dev/null
SELECT (goya.set_price('storm', 700)).amount \g /dev/null
SELECT (goya.top_up(5000000, 'start', 'storm')).seq \g /dev/null
CREATE SCHEMA storm;
GRANT USAGE ON SCHEMA storm TO storm_user;
CREATE FUNCTION storm.same(input jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT input';
SET ROLE storm_user;
SELECT goya.create_workflow('storm', '{"nodes": [
    {"key": "a", "kind": "sql", "function": "storm.same", "price": {"name": "storm", "quantity": "{{ input.a }}", "estimate": 2}},
    {"key": "b", "kind": "sql", "function": "storm.same", "price": {"name": "storm", "quantity": "{{ input.b }}", "estimate": 2}},
    {"key": "c", "kind": "sql", "function": "storm.same", "price": "storm"}],
    "edges": [{"from": "a", "to": "b"}, {"from": "b", "to": "c"}]}', publish => true) IS NOT NULL AS made \g /dev/null
RESET ROLE;

CREATE TABLE storm.told (reference text NOT NULL, answer uuid NOT NULL);
CREATE SEQUENCE storm.done;
CREATE SEQUENCE storm.refused_money;         -- PT402
CREATE SEQUENCE storm.refused_reference;     -- 23505
CREATE SEQUENCE storm.refused_other;         -- no such hold, settled, more than was captured

-- A number from 0 to most - 1, the same for the same arguments.
CREATE FUNCTION storm.pick(seed bigint, client integer, n bigint, what integer, most bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS
$$ SELECT (hashint8extended(n * 64 + what, seed * 1000003 + client) & 9223372036854775807) % most $$;

CREATE FUNCTION storm.attempt(seed bigint, client integer, n bigint) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    kind bigint := storm.pick(seed, client, n, 1, 100);
    x bigint := storm.pick(seed, client, n, 2, 400);             -- which hold or key
    amount bigint := 1 + storm.pick(seed, client, n, 3, 3) * 2500;
    other bigint := storm.pick(seed, client, n, 4, 3);           -- which reference of several for the same thing
    -- Holds come in generations, so that settled ones make room.
    hold text := format('h%s-%s', n / 60, x % 40);
    reference text;
    answer uuid;
BEGIN
    PERFORM set_config('role', CASE WHEN kind < 4 THEN 'none' ELSE 'storm_user' END, true);
    IF kind < 4 THEN
        reference := format('t%s-%s', n / 20, x % 20);
        SELECT e.id INTO answer FROM goya.top_up(amount * 12, reference, 'storm') e;
    ELSIF kind < 24 THEN
        reference := hold;
        SELECT h.id INTO answer FROM goya.hold(amount * 10, reference) h;
    ELSIF kind < 44 THEN
        reference := format('c%s-%s', hold, other);
        SELECT e.id INTO answer FROM goya.capture(hold, amount, reference) e;
    ELSIF kind < 56 THEN
        reference := format('r%s-%s', hold, other % 2);
        SELECT e.id INTO answer FROM goya.release(hold, reference) e;
    ELSIF kind < 66 THEN
        reference := format('f%s-%s', hold, other);
        SELECT e.id INTO answer FROM goya.refund(format('c%s-%s', hold, other), 1 + amount / 2, reference) e;
    ELSIF kind < 94 THEN
        reference := CASE WHEN other = 0 THEN format('k%s-%s', n / 40, x % 60) END;
        answer := goya.run('storm', jsonb_build_object('a', 1 + x % 7, 'b', other), idempotency_key => reference, max_cost => CASE WHEN x % 5 = 0 THEN 2000 + amount END);
    ELSE
        PERFORM goya.cancel(t.id) FROM (SELECT k.id FROM goya.tasks k WHERE k.tenant_id = goya.current_tenant() ORDER BY k.id DESC LIMIT 1) t;
    END IF;
    PERFORM set_config('role', 'none', true);
    IF reference IS NOT NULL THEN
        INSERT INTO storm.told VALUES (reference, answer);
    END IF;
    PERFORM nextval('storm.done');
    RETURN 'done';
EXCEPTION
    WHEN SQLSTATE 'PT402' THEN PERFORM nextval('storm.refused_money'); RETURN 'money';
    WHEN unique_violation THEN PERFORM nextval('storm.refused_reference'); RETURN 'reference';
    WHEN SQLSTATE 'PT404' OR SQLSTATE '55000' OR SQLSTATE '22023' THEN PERFORM nextval('storm.refused_other'); RETURN 'other';
END;
$$;

CREATE FUNCTION storm.audit() RETURNS SETOF text LANGUAGE sql AS $$
    WITH tenant AS (SELECT id FROM goya.tenants WHERE name = 'storm'),
    entries AS (SELECT e.* FROM goya.wallet_entries e JOIN tenant ON e.tenant_id = tenant.id),
    moved AS (SELECT e.hold_id, sum(e.moved) FILTER (WHERE e.kind = 'hold') AS held, coalesce(-sum(e.amount) FILTER (WHERE e.kind = 'capture'), 0) AS captured,
                     coalesce(sum(e.moved) FILTER (WHERE e.kind = 'release'), 0) AS released, count(*) FILTER (WHERE e.kind = 'release') AS releases
              FROM entries e WHERE e.hold_id IS NOT NULL GROUP BY e.hold_id)
    SELECT format('the wallet went to %s + %s', min(balance_after), min(frozen_after)) FROM entries HAVING min(balance_after) < 0 OR min(frozen_after) < 0
    UNION ALL SELECT format('balance %s + frozen %s, and the entries come to %s', w.balance, w.frozen, (SELECT sum(amount) FROM entries))
    FROM goya.wallets w JOIN tenant ON w.tenant_id = tenant.id WHERE w.balance + w.frozen <> (SELECT sum(amount) FROM entries)
    UNION ALL SELECT format('hold %s of %s: held %s, captured %s, released %s in %s', h.reference, h.amount, m.held, m.captured, m.released, m.releases)
    FROM goya.holds h JOIN tenant ON h.tenant_id = tenant.id LEFT JOIN moved m ON m.hold_id = h.id
    WHERE coalesce(m.held, 0) <> h.amount OR coalesce(m.releases, 0) > 1
       OR CASE WHEN h.status = 'settled' THEN coalesce(m.captured + m.released, 0) <> h.amount ELSE coalesce(m.released, 0) <> 0 END
    UNION ALL SELECT format('task %s paid %s in %s captures, and used %s', t.id, coalesce(c.paid, 0), coalesce(c.times, 0), coalesce(u.cost, 0))
    FROM goya.tasks t JOIN tenant ON t.tenant_id = tenant.id
    LEFT JOIN (SELECT e.task_id, -sum(e.amount) AS paid, count(*) AS times FROM entries e WHERE e.kind = 'capture' AND e.task_id IS NOT NULL GROUP BY e.task_id) c ON c.task_id = t.id
    LEFT JOIN (SELECT x.task_id, sum(x.cost) AS cost FROM goya.usage_records x GROUP BY x.task_id) u ON u.task_id = t.id
    WHERE coalesce(c.paid, 0) <> coalesce(u.cost, 0) OR c.times > 1 OR (t.max_cost IS NOT NULL AND u.cost > t.max_cost)
       OR (t.status = 'succeeded' AND u.cost IS DISTINCT FROM 700 * ((t.input ->> 'a')::integer + (t.input ->> 'b')::integer + 1))
    UNION ALL SELECT format('reference %s was answered in %s ways', reference, count(DISTINCT answer)) FROM storm.told GROUP BY reference HAVING count(DISTINCT answer) > 1
    UNION ALL SELECT format('reference %s has %s entries', e.reference, count(*)) FROM entries e GROUP BY e.reference HAVING count(*) > 1
    UNION ALL SELECT format('reference %s was answered, and its effect is not there', t.reference)
    FROM (SELECT DISTINCT reference, answer FROM storm.told) t LEFT JOIN entries e ON e.id = t.answer LEFT JOIN goya.holds h ON h.id = t.answer LEFT JOIN goya.tasks k ON k.id = t.answer
    WHERE e.id IS NULL AND h.id IS NULL AND k.id IS NULL
    UNION ALL SELECT format('entry %s of nobody who was told', e.reference) FROM entries e
    WHERE e.reference NOT LIKE 'task:%' AND e.reference <> 'start' AND NOT EXISTS (SELECT FROM storm.told t WHERE t.reference = e.reference)
$$;
