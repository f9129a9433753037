-- 42_bills.sql: reading what was used and paid, and the reconciliation of all money.
--
-- Decided: views run as their reader, so row-level security decides; check_billing is one statement and so sees one moment.
-- Must hold: check_billing finds every rule broken that sql/24_tables_billing.sql states; test/pgtap/billing.sql breaks each.

-- ---- Reading ----

CREATE VIEW goya.bill_details WITH (security_invoker = true) AS
    SELECT u.task_id, w.name AS workflow, u.node, u.item, u.attempt, u.price_name AS price, u.unit, u.quantity, u.cost, u.currency, u.estimated,
           u.trace_id, u.created_at, u.tenant_id
    FROM goya.usage_records u LEFT JOIN goya.tasks t ON t.id = u.task_id LEFT JOIN goya.workflows w ON w.id = t.workflow_id;
COMMENT ON VIEW goya.bill_details IS
'What each node run used and cost, a line per unit; cost is nano-units of currency.
Example: SELECT workflow, node, sum(cost) FROM goya.bill_details GROUP BY 1, 2;';

CREATE VIEW goya.wallet_summary WITH (security_invoker = true) AS
    SELECT w.id AS wallet_id, t.name AS tenant, w.currency, w.balance, w.frozen, e.topped_up, e.granted, e.captured, e.refunded, h.open_holds,
           e.entries, e.last_entry_at, w.tenant_id
    FROM goya.wallets w
    LEFT JOIN goya.tenants t ON t.id = w.tenant_id
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(x.amount) FILTER (WHERE x.kind = 'top_up'), 0) AS topped_up,
               coalesce(sum(x.amount) FILTER (WHERE x.kind = 'grant'), 0) AS granted,
               coalesce(-sum(x.amount) FILTER (WHERE x.kind = 'capture'), 0) AS captured,
               coalesce(sum(x.amount) FILTER (WHERE x.kind = 'refund'), 0) AS refunded,
               count(*) AS entries, max(x.created_at) AS last_entry_at
        FROM goya.wallet_entries x WHERE x.tenant_id = w.tenant_id) e
    CROSS JOIN LATERAL (SELECT count(*) AS open_holds FROM goya.holds x WHERE x.tenant_id = w.tenant_id AND x.status = 'open') h;
COMMENT ON VIEW goya.wallet_summary IS
'Wallets with totals by kind of entry, in nano-units.
balance + frozen = topped_up + granted + refunded - captured. What running tasks have used so far is captured when they end; goya.holds has it now.';

-- ---- Reconciliation ----

-- Every broken rule of money, one row each; none is what must be. One statement, so that it sees one moment.
CREATE FUNCTION goya_private.check_billing(OUT code text, OUT detail text) RETURNS SETOF record
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
    BEGIN ATOMIC
        WITH ledger AS MATERIALIZED (
            SELECT e.*, row_number() OVER w AS place, sum(e.amount) OVER w AS total,
                   e.balance_after - coalesce(lag(e.balance_after) OVER w, 0) AS balance_change,
                   e.frozen_after - coalesce(lag(e.frozen_after) OVER w, 0) AS frozen_change,
                   CASE e.kind WHEN 'hold' THEN -e.moved WHEN 'release' THEN e.moved WHEN 'capture' THEN 0 ELSE e.amount END AS balance_due,
                   CASE e.kind WHEN 'hold' THEN e.moved WHEN 'release' THEN -e.moved WHEN 'capture' THEN e.amount ELSE 0 END AS frozen_due
            FROM goya.wallet_entries e WINDOW w AS (PARTITION BY e.wallet_id ORDER BY e.seq)
        ), by_wallet AS (
            SELECT l.wallet_id, sum(l.amount) AS total, count(*) AS entries FROM ledger l GROUP BY l.wallet_id
        ), by_hold AS (
            SELECT l.hold_id, coalesce(sum(l.moved) FILTER (WHERE l.kind = 'hold'), 0) AS held,
                   coalesce(sum(l.moved) FILTER (WHERE l.kind = 'release'), 0) AS released,
                   coalesce(-sum(l.amount) FILTER (WHERE l.kind = 'capture'), 0) AS captured
            FROM ledger l WHERE l.hold_id IS NOT NULL GROUP BY l.hold_id
        ), open_by_wallet AS (
            SELECT h.wallet_id, sum(h.amount - h.posted) AS held FROM goya.holds h WHERE h.status = 'open' GROUP BY h.wallet_id
        ), used_by_hold AS (
            SELECT u.hold_id, sum(u.cost) AS cost FROM goya.usage_records u GROUP BY u.hold_id
        ), used_by_run AS (
            SELECT u.task_id, u.node, u.item, u.attempt, sum(u.cost) AS cost FROM goya.usage_records u GROUP BY 1, 2, 3, 4
        )
        SELECT 'wallet_total', format('Wallet %s: balance %s + frozen %s is not the sum of its entries, %s.', w.id, w.balance, w.frozen, coalesce(b.total, 0))
        FROM goya.wallets w LEFT JOIN by_wallet b ON b.wallet_id = w.id WHERE w.balance::numeric + w.frozen <> coalesce(b.total, 0)
        UNION ALL
        SELECT 'wallet_frozen', format('Wallet %s: frozen %s is not what its open holds hold, %s.', w.id, w.frozen, coalesce(o.held, 0))
        FROM goya.wallets w LEFT JOIN open_by_wallet o ON o.wallet_id = w.id WHERE w.frozen <> coalesce(o.held, 0)
        UNION ALL
        SELECT 'wallet_negative', format('Wallet %s: balance %s, frozen %s.', w.id, w.balance, w.frozen)
        FROM goya.wallets w WHERE w.balance < 0 OR w.frozen < 0
        UNION ALL
        SELECT 'ledger_missing', format('Wallet %s has %s entries, and %s were made.', w.id, coalesce(b.entries, 0), w.last_seq)
        FROM goya.wallets w LEFT JOIN by_wallet b ON b.wallet_id = w.id WHERE w.last_seq <> coalesce(b.entries, 0)
        UNION ALL
        SELECT 'ledger_order', format('Entry %s of wallet %s does not follow from the one before it.', l.seq, l.wallet_id)
        FROM ledger l
        WHERE l.seq <> l.place OR l.balance_after + l.frozen_after <> l.total OR l.balance_change <> l.balance_due OR l.frozen_change <> l.frozen_due
              OR l.balance_after < 0 OR l.frozen_after < 0
        UNION ALL
        SELECT 'entry_orphan', format('Entry %s belongs to wallet %s, which is not there.', l.id, l.wallet_id)
        FROM ledger l WHERE NOT EXISTS (SELECT FROM goya.wallets w WHERE w.id = l.wallet_id)
        UNION ALL
        SELECT 'reference_twice', format('Wallet %s has %s entries with reference "%s".', l.wallet_id, count(*), l.reference)
        FROM ledger l GROUP BY l.wallet_id, l.reference HAVING count(*) > 1
        UNION ALL
        SELECT 'hold_usage', format('Hold %s of task %s: captured %s, usage %s.', h.id, h.task_id, h.captured, coalesce(u.cost, 0))
        FROM goya.holds h LEFT JOIN used_by_hold u ON u.hold_id = h.id WHERE h.task_id IS NOT NULL AND h.captured <> coalesce(u.cost, 0)
        UNION ALL
        SELECT 'usage_unpaid', format('Usage of %s nano-units belongs to hold %s, which is not there.', u.cost, coalesce(u.hold_id::text, 'null'))
        FROM used_by_hold u LEFT JOIN goya.holds h ON h.id = u.hold_id WHERE h.id IS NULL AND u.cost > 0
        UNION ALL
        SELECT 'hold_posted', format('Hold %s is %s: amount %s, captured %s, posted %s.', h.id, h.status, h.amount, h.captured, h.posted)
        FROM goya.holds h
        WHERE CASE WHEN h.status = 'settled' THEN h.posted <> h.amount OR h.settled_at IS NULL
                   WHEN h.task_id IS NOT NULL THEN h.posted <> 0 ELSE h.posted <> h.captured END
        UNION ALL
        SELECT 'hold_entries', format('Hold %s is %s: entries hold %s, capture %s, release %s; it has amount %s, captured %s.', h.id, h.status,
                                      coalesce(b.held, 0), coalesce(b.captured, 0), coalesce(b.released, 0), h.amount, h.captured)
        FROM goya.holds h LEFT JOIN by_hold b ON b.hold_id = h.id
        WHERE coalesce(b.held, 0) <> h.amount
              OR coalesce(b.captured, 0) <> CASE WHEN h.status = 'settled' THEN h.captured ELSE h.posted END
              OR coalesce(b.released, 0) <> CASE WHEN h.status = 'settled' THEN h.amount - h.captured ELSE 0 END
        UNION ALL
        SELECT 'hold_capture', format('Hold %s names entry %s as its capture; that is %s.', h.id, h.capture_seq, coalesce(l.reference, 'not there'))
        FROM goya.holds h LEFT JOIN ledger l ON l.tenant_id = h.tenant_id AND l.seq = h.capture_seq
        WHERE h.task_id IS NOT NULL AND h.status = 'settled' AND h.captured > 0
              AND (l.hold_id IS DISTINCT FROM h.id OR l.kind <> 'capture' OR l.amount <> -h.captured)
        UNION ALL
        SELECT 'hold_open', format('Task %s is %s and its hold %s is open.', t.id, t.status, h.id)
        FROM goya.holds h JOIN goya.tasks t ON t.id = h.task_id
        WHERE h.status = 'open' AND t.status IN ('succeeded', 'failed', 'cancelled')
        UNION ALL
        SELECT 'refund_excess', format('Capture %s of %s nano-units has refunds of %s.', c.id, -c.amount, sum(r.amount))
        FROM goya.wallet_entries r JOIN goya.wallet_entries c ON c.id = r.capture_id
        WHERE r.kind = 'refund' GROUP BY c.id, c.amount HAVING sum(r.amount) > -c.amount
        UNION ALL
        SELECT 'node_cost', format('Node "%s" item %s attempt %s of task %s: cost %s, usage %s.', n.node, n.item, n.attempt, n.task_id, n.cost, u.cost)
        FROM used_by_run u JOIN goya.node_runs n ON n.task_id = u.task_id AND n.node = u.node AND n.item = u.item AND n.attempt = u.attempt
        WHERE coalesce(n.cost, 0) <> u.cost;
    END;
