-- 63_check_money.sql: what goya.check() asks of money: wallets, ledger, holds (check_money), and what node runs used and cost (check_charges). See 63_check.sql
-- for how, sql/24_tables_billing.sql for the rules.
--
-- Decided: the ledger of a wallet is checked entry by entry: each follows from the one before it, so by induction the last one is the sum of all. What a
-- usage record must cost is computed again from the prices that were in force when its task started (B5); each price is in force for one interval, so that
-- one join finds it.
-- Must hold: check_billing() finds what concerns money only; test/pgtap/billing.sql and test/isolation use it on rows that no engine made.

-- sum() of bigint is numeric and takes a hundred bytes of memory for each group; money of one hold or node run is bigint.
CREATE AGGREGATE goya_private.total(bigint) (SFUNC = int8pl, STYPE = bigint, INITCOND = '0');

CREATE FUNCTION goya_private.check_money(OUT code text, OUT subject text, OUT detail text) RETURNS SETOF record
    LANGUAGE sql STABLE ROWS 100 SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        WITH wallets AS MATERIALIZED (SELECT w.id, w.tenant_id, w.currency, w.balance, w.frozen, w.last_seq FROM goya.wallets w),
        by_wallet AS (SELECT e.wallet_id, sum(e.amount) AS total, count(*) AS entries FROM goya.wallet_entries e GROUP BY e.wallet_id),
        held AS (SELECT h.wallet_id, sum(h.amount - h.posted) AS held FROM goya.holds h WHERE h.status = 'open' GROUP BY h.wallet_id),
        by_hold AS (
            SELECT e.hold_id, e.wallet_id, goya_private.total(e.moved) FILTER (WHERE e.kind = 'hold') AS held, goya_private.total(e.moved) FILTER (WHERE e.kind = 'release') AS released,
                   -goya_private.total(e.amount) FILTER (WHERE e.kind = 'capture') AS captured, count(*) FILTER (WHERE e.kind = 'capture') AS captures,
                   count(*) FILTER (WHERE e.kind = 'release') AS releases, max(e.seq) FILTER (WHERE e.kind = 'capture') AS capture_seq,
                   bool_or(e.kind <> 'refund' AND e.task_id IS NULL) AS by_hand, bool_or(e.task_id IS NOT NULL) AS by_task, min(e.seq) AS first
            FROM goya.wallet_entries e WHERE e.hold_id IS NOT NULL GROUP BY e.hold_id, e.wallet_id),
        used_by_hold AS (SELECT u.hold_id, goya_private.total(u.cost) AS cost FROM goya.usage_records u WHERE u.hold_id IS NOT NULL GROUP BY u.hold_id),
        own AS MATERIALIZED (SELECT e.id, e.tenant_id, e.wallet_id, e.seq, e.kind, e.hold_id, e.reference FROM goya.wallet_entries e WHERE e.reference NOT LIKE 'task:%'),
        given AS (
            SELECT r.tenant_id, r.reference, (r.result ->> 'entry')::uuid AS entry, (r.result ->> 'hold')::uuid AS hold FROM goya_private.billing_references r)
        SELECT v.code, w.id::text, v.detail
        FROM wallets w LEFT JOIN by_wallet b ON b.wallet_id = w.id LEFT JOIN held o ON o.wallet_id = w.id
        CROSS JOIN LATERAL (VALUES
            ('wallet_total', w.balance::numeric + w.frozen <> coalesce(b.total, 0),
                format('Balance %s + frozen %s is not the sum of its entries, %s.', w.balance, w.frozen, coalesce(b.total, 0))),
            ('wallet_frozen', w.frozen <> coalesce(o.held, 0), format('Frozen %s is not what its open holds hold, %s.', w.frozen, coalesce(o.held, 0))),
            ('wallet_negative', w.balance < 0 OR w.frozen < 0, format('Balance %s, frozen %s.', w.balance, w.frozen)),
            ('ledger_missing', w.last_seq <> coalesce(b.entries, 0), format('It has %s entries, and %s were made.', coalesce(b.entries, 0), w.last_seq))) v(code, broken, detail)
        WHERE v.broken
        UNION ALL
        SELECT v.code, l.wallet_id::text, format('Entry %s, %s: %s', l.seq, l.kind, v.detail)
        FROM (SELECT e.wallet_id, e.seq, e.kind, e.balance_after, e.frozen_after, w.id AS wallet, w.balance, w.frozen,
                     nullif(concat_ws(' ',
                         CASE WHEN NOT CASE WHEN e.kind IN ('top_up', 'grant', 'refund') THEN e.amount > 0 AND e.moved = 0 WHEN e.kind = 'capture' THEN e.amount < 0 AND e.moved = 0
                                            ELSE e.amount = 0 AND e.moved > 0 END THEN format('amount is %s, moved %s.', e.amount, e.moved) END,
                         CASE WHEN (e.kind IN ('top_up', 'grant')) <> (e.hold_id IS NULL) OR (e.kind = 'refund') <> (e.capture_id IS NOT NULL) OR e.task_id <> e.hold_id
                              THEN 'its hold, task or capture is not of its kind.' END,
                         CASE WHEN e.balance_after < 0 OR e.frozen_after < 0 THEN format('it left %s + %s.', e.balance_after, e.frozen_after) END,
                         CASE WHEN CASE WHEN e.task_id IS NULL OR e.kind = 'refund' THEN e.reference LIKE 'task:%'
                                        WHEN e.kind = 'hold' THEN e.reference <> 'task:' || e.task_id || coalesce(substring(e.reference FROM ':hold:[0-9]+$'), '')
                                        ELSE e.reference <> 'task:' || e.task_id || ':' || e.kind END THEN format('its reference is "%s".', e.reference) END), '') AS wrong, w.tenant_id IS DISTINCT FROM e.tenant_id AS orphan,
                     e.step <> 1
                     OR e.balance_change <> CASE e.kind WHEN 'hold' THEN -e.moved WHEN 'release' THEN e.moved WHEN 'capture' THEN 0 ELSE e.amount END
                     OR e.frozen_change <> CASE e.kind WHEN 'hold' THEN e.moved WHEN 'release' THEN -e.moved WHEN 'capture' THEN e.amount ELSE 0 END AS apart,
                     e.seq = w.last_seq AND (e.balance_after <> w.balance OR e.frozen_after <> w.frozen) AS last
              FROM (SELECT x.wallet_id, x.tenant_id, x.seq, x.kind, x.amount, x.moved, x.balance_after, x.frozen_after, x.hold_id, x.task_id, x.capture_id, x.reference,
                           x.balance_after - lag(x.balance_after, 1, 0::bigint) OVER ledger AS balance_change, x.frozen_after - lag(x.frozen_after, 1, 0::bigint) OVER ledger AS frozen_change,
                           x.seq - lag(x.seq, 1, 0::bigint) OVER ledger AS step
                    FROM goya.wallet_entries x WINDOW ledger AS (PARTITION BY x.tenant_id ORDER BY x.seq)) e
              LEFT JOIN wallets w ON w.id = e.wallet_id) l
        CROSS JOIN LATERAL (VALUES
            ('entry_row', l.wrong IS NOT NULL, l.wrong),
            ('entry_orphan', l.orphan, CASE WHEN l.wallet IS NULL THEN 'its wallet is not there.' ELSE 'its wallet is of another tenant.' END),
            ('ledger_order', l.apart, 'it does not follow from the one before it.'),
            ('ledger_last', l.last, format('the last, it left %s + %s, and the wallet has %s + %s.', l.balance_after, l.frozen_after, l.balance, l.frozen))) v(code, broken, detail)
        WHERE (l.wrong IS NOT NULL OR l.orphan OR l.apart OR l.last) AND v.broken
        UNION ALL
        -- Those of tasks are counted by hold; what makes a hold larger and people's own have references that can be compared.
        SELECT 'reference_twice', e.wallet_id::text, format('%s entries have reference "%s".', count(*), e.reference)
        FROM goya.wallet_entries e WHERE e.reference NOT LIKE 'task:%' OR e.reference LIKE '%:hold:%' GROUP BY e.wallet_id, e.reference HAVING count(*) > 1
        UNION ALL
        -- A reference and its effect are one.
        SELECT 'reference_lost', coalesce(l.tenant_id, g.tenant_id)::text, CASE WHEN g.reference IS NULL THEN format('Entry %s has reference "%s", which nobody gave.', l.seq, l.reference)
                                                                                ELSE format('Reference "%s" was given, and its entry is not there.', g.reference) END
        FROM own l FULL JOIN given g ON g.tenant_id = l.tenant_id AND g.reference = l.reference AND coalesce(g.entry = l.id, g.hold = l.hold_id AND l.kind = 'hold')
        WHERE g.reference IS NULL OR l.id IS NULL
        UNION ALL
        SELECT v.code, coalesce(h.id, h.hold_id)::text, v.detail
        FROM (SELECT h.id, h.status, h.amount, h.captured, h.posted, h.capture_seq, h.currency, b.hold_id, b.first, b.held, b.captured AS taken, b.released, b.captures, b.releases, u.cost AS used,
                     w.currency AS wallet_currency, t.id AS task, t.status AS task_status, t.max_cost,
                     (h.task_id IS NOT NULL AND (t.tenant_id, t.hold_id) IS DISTINCT FROM (h.tenant_id, h.id)) OR w.tenant_id IS DISTINCT FROM h.tenant_id
                     OR (h.task_id IS NOT NULL AND h.reference <> 'task:' || h.id) OR (h.task_id IS NULL) <> (h.price_generation IS NULL) AS wrong,
                     h.captured NOT BETWEEN 0 AND h.amount OR h.posted NOT BETWEEN 0 AND h.amount OR (h.status = 'settled') <> (h.settled_at IS NOT NULL)
                     OR CASE WHEN h.status = 'settled' THEN h.posted <> h.amount WHEN h.task_id IS NOT NULL THEN h.posted <> 0 ELSE h.posted <> h.captured END AS misposted,
                     coalesce(b.held, 0) <> h.amount OR coalesce(b.captured, 0) <> CASE WHEN h.status = 'settled' THEN h.captured ELSE h.posted END
                     OR coalesce(b.released, 0) <> CASE WHEN h.status = 'settled' THEN h.amount - h.captured ELSE 0 END
                     OR coalesce(CASE WHEN h.task_id IS NULL THEN b.by_task ELSE b.by_hand END, false) AS apart,
                     h.task_id IS NOT NULL AND h.capture_seq IS DISTINCT FROM CASE WHEN h.status = 'settled' THEN b.capture_seq END AS miscaptured,
                     h.task_id IS NOT NULL AND h.captured <> coalesce(u.cost, 0) AS misused
              FROM goya.holds h FULL JOIN by_hold b ON b.hold_id = h.id AND b.wallet_id = h.wallet_id
              LEFT JOIN used_by_hold u ON u.hold_id = h.id LEFT JOIN goya.tasks t ON t.id = h.task_id LEFT JOIN wallets w ON w.id = h.wallet_id) h
        CROSS JOIN LATERAL (VALUES
            ('hold_row', h.wrong, 'Its task or wallet is not there or of another tenant, or it has another reference, or does not say which prices are for it.'),
            ('hold_posted', h.misposted, format('It is %s: amount %s, captured %s, posted %s.', h.status, h.amount, h.captured, h.posted)),
            ('hold_entries', h.apart, format('It is %s: entries hold %s, capture %s, release %s; it has amount %s, captured %s.', h.status, coalesce(h.held, 0), coalesce(h.taken, 0),
                                             coalesce(h.released, 0), h.amount, h.captured)),
            ('hold_capture', h.miscaptured, format('It names entry %s as its capture; that is not the one.', h.capture_seq)),
            ('hold_usage', h.misused, format('Captured %s, usage %s.', h.captured, coalesce(h.used, 0))),
            ('hold_open', h.status = 'open' AND h.task_status IN ('succeeded', 'failed', 'cancelled'), format('Task %s is %s and the hold is open.', h.task, h.task_status)),
            ('hold_limit', h.amount > h.max_cost, format('It holds %s, and the task may spend %s.', h.amount, h.max_cost)),
            ('hold_currency', h.currency <> h.wallet_currency, format('It is in %s, the wallet in %s.', h.currency, h.wallet_currency)),
            ('reference_twice', h.task IS NOT NULL AND (h.captures > 1 OR h.releases > 1), format('It has %s captures and %s releases.', h.captures, h.releases)),
            ('entry_orphan', h.id IS NULL, format('Entry %s is of this hold, which is not there or of another wallet.', h.first))) v(code, broken, detail)
        WHERE (h.wrong OR h.misposted OR h.apart OR h.miscaptured OR h.misused OR (h.status = 'open' AND h.task_status IN ('succeeded', 'failed', 'cancelled'))
               OR h.amount > h.max_cost OR h.currency <> h.wallet_currency OR h.captures > 1 OR h.releases > 1 OR h.id IS NULL) AND v.broken
        UNION ALL
        SELECT 'refund_excess', r.wallet_id::text, CASE WHEN c.id IS NULL THEN format('Entry %s gives back a capture that is not there.', min(r.seq))
                                                        ELSE format('Capture %s of %s has refunds of %s.', c.seq, -c.amount, sum(r.amount)) END
        FROM goya.wallet_entries r LEFT JOIN goya.wallet_entries c ON c.id = r.capture_id AND c.wallet_id = r.wallet_id AND c.kind = 'capture' AND c.hold_id = r.hold_id
        WHERE r.kind = 'refund' GROUP BY r.wallet_id, c.id, c.seq, c.amount HAVING c.id IS NULL OR sum(r.amount) > -c.amount
        UNION ALL
        SELECT 'price_row', p.id::text, format('Price "%s" has generation %s of %s and begins at %s.', p.name, p.generation, s.prices, p.effective_at)
        FROM goya.prices p CROSS JOIN (SELECT count(*) AS prices FROM goya.prices) s
        WHERE p.generation NOT BETWEEN 1 AND s.prices OR p.effective_at < p.created_at OR p.amount < 0 OR p.per_units < 1;
    END;

-- Usage against holds and prices.
CREATE FUNCTION goya_private.check_usage(OUT code text, OUT subject text, OUT detail text) RETURNS SETOF record
    LANGUAGE sql STABLE ROWS 100 SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        -- Prices that may be for what was used, each from when until when: the tenant's own before everybody's, the newest that has begun.
        WITH buyers AS (SELECT h.tenant_id, h.currency, h.price_generation FROM goya.holds h WHERE h.task_id IS NOT NULL GROUP BY h.tenant_id, h.currency, h.price_generation),
        offers AS (
            SELECT b.*, p.name, p.unit, p.tenant_id IS NOT NULL AS own, p.amount, p.per_units, p.effective_at AS begins,
                   min(p.effective_at) FILTER (WHERE p.tenant_id IS NOT NULL) OVER same AS own_begins
            FROM buyers b JOIN goya.prices p ON p.currency = b.currency AND (p.tenant_id = b.tenant_id OR p.tenant_id IS NULL) AND p.generation <= b.price_generation
            WINDOW same AS (PARTITION BY b.tenant_id, b.currency, b.price_generation, p.name, p.unit)),
        in_force AS MATERIALIZED (
            SELECT o.*, least(lead(o.begins) OVER later, CASE WHEN NOT o.own THEN o.own_begins END) AS ends
            FROM offers o WINDOW later AS (PARTITION BY o.tenant_id, o.currency, o.price_generation, o.name, o.unit, o.own ORDER BY o.begins))
        SELECT v.code, u.task_id::text, format('Node "%s" item %s attempt %s line %s: %s', u.node, u.item, u.attempt, u.line, v.detail)
        FROM (SELECT u.task_id, u.node, u.item, u.attempt, u.line, u.quantity, u.unit, u.price_name, u.cost, u.hold_id, h.id IS NULL AND u.cost > 0 AS unpaid,
                     h.id IS NOT NULL AND (h.tenant_id <> u.tenant_id OR h.currency <> u.currency OR h.task_id IS DISTINCT FROM u.task_id) OR u.cost < 0 OR u.quantity < 0 AS wrong,
                     CASE WHEN h.id IS NOT NULL AND t.id IS NOT NULL THEN CASE WHEN p.name IS NULL THEN 0 WHEN u.quantity = 1 AND p.per_units = 1 THEN p.amount
                                                                              ELSE goya_private.cost(u.quantity, p.amount, p.per_units) END END AS due
              FROM goya.usage_records u LEFT JOIN goya.holds h ON h.id = u.hold_id LEFT JOIN goya.tasks t ON t.id = u.task_id
              LEFT JOIN in_force p ON p.tenant_id = u.tenant_id AND p.currency = u.currency AND p.price_generation = h.price_generation AND p.name = u.price_name
                   AND p.unit = u.unit AND t.created_at >= p.begins AND (p.ends IS NULL OR t.created_at < p.ends)) u
        CROSS JOIN LATERAL (VALUES
            ('usage_unpaid', u.unpaid, format('it cost %s, and hold %s is not there.', u.cost, coalesce(u.hold_id::text, 'null'))),
            ('usage_row', u.wrong, 'its hold has another tenant, task or currency, or it is negative.'),
            ('usage_price', u.cost <> u.due, format('%s %s of "%s" cost %s, and %s by the price when the task started.', u.quantity, u.unit, u.price_name, u.cost, u.due))) v(code, broken, detail)
        WHERE (u.unpaid OR u.wrong OR u.cost <> u.due) AND v.broken;
    END;

-- Usage against node runs.
CREATE FUNCTION goya_private.check_charges(OUT code text, OUT subject text, OUT detail text) RETURNS SETOF record
    LANGUAGE sql STABLE ROWS 100 SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        WITH plan AS MATERIALIZED (SELECT n.workflow_id, n.revision, n.key FROM goya_private.check_nodes() n WHERE n.priced),
        used AS (SELECT u.task_id, u.node, u.item, u.attempt, goya_private.total(u.cost) AS cost FROM goya.usage_records u GROUP BY u.task_id, u.node, u.item, u.attempt)
        SELECT CASE WHEN r.task_id IS NULL THEN 'usage_without_run' ELSE 'node_cost' END, coalesce(r.task_id, u.task_id)::text,
               format('Node "%s" item %s attempt %s: cost %s, usage %s.', coalesce(r.node, u.node), coalesce(r.item, u.item), coalesce(r.attempt, u.attempt),
                      CASE WHEN r.task_id IS NULL THEN 'of a node run that is not there' ELSE coalesce(r.cost::text, 'null') END, coalesce(u.cost, 0))
        FROM goya.node_runs r FULL JOIN used u ON u.task_id = r.task_id AND u.node = r.node AND u.item = r.item AND u.attempt = r.attempt
        WHERE r.task_id IS NULL OR coalesce(r.cost, 0) <> coalesce(u.cost, 0)
        UNION ALL
        SELECT 'charged_twice', u.task_id::text, format('Node "%s" item %s was charged for attempts %s and %s.', u.node, u.item, u.attempt, l.attempt)
        FROM goya.usage_records l JOIN goya.usage_records u ON u.task_id = l.task_id AND u.node = l.node AND u.item = l.item AND u.attempt < l.attempt
        WHERE l.attempt > 1 AND l.line = 1 AND u.line = 1
        UNION ALL
        -- Copied results cost nothing again.
        SELECT 'not_charged', r.task_id::text, format('Node "%s" item %s attempt %s has a price, is %s, and was not charged.', r.node, r.item, r.attempt, r.status)
        FROM goya.node_runs r JOIN goya.tasks t ON t.id = r.task_id JOIN plan p ON p.workflow_id = t.workflow_id AND p.revision = t.revision AND p.key = r.node
        WHERE r.cost IS NULL AND r.status IN ('succeeded', 'compensated') AND coalesce(r.message, '') NOT LIKE 'copied from task %';
    END;

-- Money alone, for tests whose tasks no engine ran.
CREATE FUNCTION goya_private.check_billing(OUT code text, OUT detail text) RETURNS SETOF record
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET jit = off
    BEGIN ATOMIC
        SELECT m.code, m.subject || ': ' || m.detail FROM goya_private.check_money() m
        UNION ALL SELECT u.code, u.subject || ': ' || u.detail FROM goya_private.check_usage() u;
    END;
