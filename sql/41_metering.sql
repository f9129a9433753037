-- 41_metering.sql: money as the engine moves it: a task's hold when it starts, usage and captures with each result, settlement at its end.
--
-- Decided:
-- * A task's hold row is its escrow. Captures change only that row; the wallet is touched when the task starts, when a hold is too small, and when the
--   task settles, each time last and in order of the wallets' ids. Holds of tasks are touched by nobody who has not locked the task.
-- * Routines take batches: 1,000 node runs of 1,000 tenants are one call and a handful of statements.
-- * Their plans are forced: nested loops into indexes (LATERAL … OFFSET 0, enable_* off) and one generic plan per session. They are made when tables are
--   empty and must be right when they hold millions of rows, whatever the statistics say.
-- Must hold: a node run is charged once, by its key in usage_records; a refused capture (PT402) leaves nothing behind in its transaction.

-- What a task of this definition is expected to cost. Raises 22023 when a node names a price that is not set, 22003 when it is too much.
CREATE FUNCTION goya_private.quote_resolved(tenant_id uuid, resolved jsonb, at timestamptz, input jsonb DEFAULT NULL) RETURNS bigint
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    RETURN (SELECT coalesce(sum(l.amount), 0)::bigint
            FROM goya_private.quote_lines(quote_resolved.tenant_id, quote_resolved.resolved, quote_resolved.input, quote_resolved.at) l);

-- Escrow of a task that has a price, also when the estimate is 0. Raises PT402. The wallet stays locked until the transaction ends.
CREATE FUNCTION goya_private.hold_for_task(tenant_id uuid, task_id uuid, amount bigint) RETURNS uuid
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    hold_id uuid := goya.new_id();
    reference text := 'task:' || task_id;
    wallet_id uuid;
BEGIN
    SELECT w.id INTO wallet_id FROM goya.wallets w WHERE w.tenant_id = hold_for_task.tenant_id;
    IF NOT FOUND THEN
        wallet_id := (goya_private.open_wallet(hold_for_task.tenant_id, NULL)).id;
    END IF;
    INSERT INTO goya.holds (id, wallet_id, tenant_id, task_id, reference, amount, price_generation)
    VALUES (hold_id, wallet_id, hold_for_task.tenant_id, hold_for_task.task_id, reference, hold_for_task.amount,
            (SELECT coalesce(max(p.generation), 0) FROM goya.prices p));
    IF hold_for_task.amount > 0 THEN
        PERFORM goya_private.post_entry(goya.new_id(), hold_for_task.tenant_id, 'hold', -hold_for_task.amount, hold_for_task.amount, reference, NULL,
                                        hold_id, hold_for_task.task_id);
    END IF;
    RETURN hold_id;
END;
$$;

-- Enlarges holds that are too small for what is captured now (costs), and captures it. Each gets what is missing and, where the wallet has
-- plenty, half of what it holds, so that a task with a low estimate does not come back to the wallet for each of a thousand items.
-- Nothing beyond tasks.max_cost. Raises PT402 if any cannot be paid, 55000 if one is settled. The tasks are locked by the caller.
CREATE FUNCTION goya_private.extend_holds(hold_ids uuid[], costs bigint[]) RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    balances bigint[];                             -- of the wallets concerned, in order of their ids
    frozens bigint[];
    seqs bigint[];
    extras bigint[];                               -- as hold_ids
    refused jsonb;
BEGIN
    SELECT array_agg(w.balance ORDER BY w.id), array_agg(w.frozen ORDER BY w.id), array_agg(w.last_seq ORDER BY w.id)
    INTO balances, frozens, seqs
    FROM (SELECT DISTINCT h.wallet_id AS id
          FROM unnest(hold_ids) u(id) CROSS JOIN LATERAL (SELECT x.wallet_id FROM goya.holds x WHERE x.id = u.id OFFSET 0) h ORDER BY 1) d
         CROSS JOIN LATERAL (SELECT x.id, x.balance, x.frozen, x.last_seq FROM goya.wallets x WHERE x.id = d.id FOR NO KEY UPDATE OFFSET 0) w;

    WITH short AS MATERIALIZED (
        SELECT u.place, h.id, h.task_id, h.amount, h.captured, h.status, u.cost, t.max_cost, greatest(h.captured + u.cost - h.amount, 0) AS missing,
               dense_rank() OVER (ORDER BY h.wallet_id)::integer AS wallet
        FROM unnest(hold_ids, costs) WITH ORDINALITY u(id, cost, place)
             CROSS JOIN LATERAL (SELECT x.* FROM goya.holds x WHERE x.id = u.id OFFSET 0) h
             LEFT JOIN LATERAL (SELECT x.max_cost FROM goya.tasks x WHERE x.id = h.task_id OFFSET 0) t ON true
    ), sized AS (
        SELECT s.*, g.generous, sum(s.missing) OVER wallet AS wallet_missing, sum(g.generous) OVER wallet AS wallet_generous
        FROM short s CROSS JOIN LATERAL (
            SELECT least(greatest(s.missing, (s.amount + s.missing) / 2),
                         CASE WHEN s.max_cost IS NOT NULL THEN greatest(s.max_cost - s.amount, s.missing) END) AS generous) g
        WINDOW wallet AS (PARTITION BY s.wallet)
    ), judged AS (
        SELECT s.*, CASE WHEN s.wallet_generous <= balances[s.wallet] / 4 THEN s.generous ELSE s.missing END AS extra,
               CASE WHEN s.status <> 'open' THEN 'settled' WHEN s.captured + s.cost > s.max_cost THEN 'limit'
                    WHEN s.wallet_missing > balances[s.wallet] THEN 'balance' END AS refusal
        FROM sized s
    )
    SELECT array_agg(j.extra ORDER BY j.place),
           (array_agg(to_jsonb(j) || jsonb_build_object('available', balances[j.wallet]) ORDER BY j.id) FILTER (WHERE j.refusal IS NOT NULL))[1]
    INTO extras, refused FROM judged j;

    IF refused ->> 'refusal' = 'settled' THEN
        RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = 'the hold is settled',
            DETAIL = format('Task %s has ended; nothing can be captured for it any more.', refused ->> 'task_id');
    ELSIF refused ->> 'refusal' = 'limit' THEN
        RAISE EXCEPTION USING ERRCODE = 'PT402', MESSAGE = 'the task would cost more than its max_cost',
            DETAIL = format('Task %s has used %s nano-units; %s more are needed, and its max_cost is %s.', refused ->> 'task_id',
                            refused ->> 'captured', refused ->> 'cost', refused ->> 'max_cost'),
            HINT = 'Run it again with a higher max_cost.';
    ELSIF refused IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'PT402', MESSAGE = 'not enough balance',
            DETAIL = format('Needed: %s nano-units beyond the hold of task %s; available: %s.', refused ->> 'missing', refused ->> 'task_id',
                            refused ->> 'available'),
            HINT = 'Ask an administrator for goya.top_up, or release holds.';
    END IF;

    -- Everything is locked: from here on the numbers are the last ones.
    WITH grown AS MATERIALIZED (
        SELECT h.id, h.wallet_id, h.tenant_id, h.task_id, h.amount + u.extra AS amount, u.extra, u.cost,
               dense_rank() OVER (ORDER BY h.wallet_id)::integer AS wallet
        FROM unnest(hold_ids, costs, extras) u(id, cost, extra)
             CROSS JOIN LATERAL (SELECT x.* FROM goya.holds x WHERE x.id = u.id OFFSET 0) h
    ), paid AS (
        UPDATE goya.holds h SET amount = g.amount, captured = h.captured + g.cost FROM grown g WHERE h.id = g.id
    ), moved AS (
        UPDATE goya.wallets w
        SET balance = w.balance - g.extra, frozen = w.frozen + g.extra, last_seq = w.last_seq + g.entries, updated_at = clock_timestamp()
        FROM (SELECT wallet_id, sum(extra)::bigint AS extra, count(*) AS entries FROM grown WHERE extra > 0 GROUP BY wallet_id ORDER BY wallet_id) g
        WHERE w.id = g.wallet_id
    )
    INSERT INTO goya.wallet_entries (wallet_id, seq, tenant_id, kind, amount, moved, balance_after, frozen_after, reference, hold_id, task_id)
    SELECT g.wallet_id, seqs[g.wallet] + row_number() OVER so_far, g.tenant_id, 'hold', 0, g.extra,
           balances[g.wallet] - sum(g.extra) OVER so_far, frozens[g.wallet] + sum(g.extra) OVER so_far,
           'task:' || g.task_id || ':hold:' || g.amount, g.id, g.task_id
    FROM grown g WHERE g.extra > 0
    WINDOW so_far AS (PARTITION BY g.wallet ORDER BY g.id);
END;
$$;

-- Meters node runs and captures what they cost from their tasks' holds, for a whole batch, in the transaction that records their results. Returns
-- a row per element. quantities: null is 1; a number counts for every unit priced under the name; an object gives each unit its own, and
-- a unit in it that nobody priced is recorded and free. A node run that was recorded before costs nothing again and returns what it did cost.
-- The caller has locked the tasks. Raises PT402 when a hold cannot be enlarged (then nothing of the batch is done: go one by one),
-- 22023 for a bad quantity or a price that is not set.
CREATE FUNCTION goya_private.record_usage(task_ids uuid[], nodes text[], items integer[], attempts smallint[], price_names text[], quantities jsonb[])
    RETURNS TABLE (ordinal integer, cost bigint)
    LANGUAGE plpgsql VOLATILE ROWS 100
    SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    ordinals integer[];
    costs bigint[];
    unpriced integer;
    due_holds uuid[];
    due_costs bigint[];
    paid_holds uuid[];
    problem text;
BEGIN
    SELECT q::text INTO problem FROM unnest(quantities) q
    WHERE q IS NOT NULL AND
          CASE jsonb_typeof(q) WHEN 'number' THEN q::numeric < 0 WHEN 'null' THEN false
               WHEN 'object' THEN EXISTS (SELECT FROM jsonb_each(q) e WHERE CASE jsonb_typeof(e.value) WHEN 'number' THEN e.value::numeric < 0 ELSE true END)
               ELSE true END
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad quantity of a price',
            DETAIL = format('%s is not a number of units, nor an object of such numbers.', left(problem, 200)),
            HINT = 'Use "quantity": 12 or "quantity": {"token_in": 5, "token_out": 7}; none may be negative.';
    END IF;

    WITH RECURSIVE given AS MATERIALIZED (
        SELECT u.*, t.tenant_id, t.created_at, t.hold_id, t.max_cost, t.trace_id, w.currency, h.price_generation, r.cost AS recorded,
               jsonb_typeof(u.quantity) IS NOT DISTINCT FROM 'object' AS by_unit
        FROM unnest(task_ids, nodes, items, attempts, price_names, quantities)
                 WITH ORDINALITY u(task_id, node, item, attempt, name, quantity, ordinal)
             CROSS JOIN LATERAL (SELECT x.tenant_id, x.created_at, x.hold_id, x.max_cost, x.trace_id
                                 FROM goya.tasks x WHERE x.id = u.task_id OFFSET 0) t
             LEFT JOIN LATERAL (SELECT x.price_generation, x.wallet_id FROM goya.holds x WHERE x.id = t.hold_id OFFSET 0) h ON true
             LEFT JOIN LATERAL (SELECT x.currency FROM goya.wallets x WHERE x.id = h.wallet_id OFFSET 0) w ON true
             CROSS JOIN LATERAL (SELECT sum(x.cost)::bigint AS cost FROM goya.usage_records x
                                 WHERE x.task_id = u.task_id AND x.node = u.node AND x.item = u.item AND x.attempt = u.attempt) r
    ), names AS (                                  -- the units of each name, one index probe each
        SELECT d.name, (SELECT p.unit FROM goya.prices p WHERE p.name = d.name ORDER BY p.unit LIMIT 1) AS unit
        FROM (SELECT DISTINCT g.name FROM given g WHERE NOT g.by_unit) d
        UNION ALL
        SELECT n.name, (SELECT p.unit FROM goya.prices p WHERE p.name = n.name AND p.unit > n.unit ORDER BY p.unit LIMIT 1)
        FROM names n WHERE n.unit IS NOT NULL
    ), units AS MATERIALIZED (
        SELECT jsonb_object_agg(n.name, n.units) AS by_name
        FROM (SELECT name, coalesce(jsonb_agg(unit) FILTER (WHERE unit IS NOT NULL), '[]') AS units FROM names GROUP BY name) n
    ), lines AS MATERIALIZED (
        SELECT g.ordinal, g.task_id, g.node, g.item, g.attempt, row_number() OVER (PARTITION BY g.ordinal ORDER BY q.unit) AS line, g.tenant_id,
               g.name, q.unit, q.quantity, coalesce(goya_private.cost(q.quantity, p.amount, p.per_units), 0) AS cost,
               coalesce(g.currency, 'USD') AS currency, g.hold_id, g.max_cost, g.trace_id
        FROM given g
             CROSS JOIN LATERAL (
                 SELECT e.key AS unit, e.value::numeric AS quantity FROM jsonb_each(CASE WHEN g.by_unit THEN g.quantity ELSE '{}' END) e
                 UNION ALL
                 SELECT a.unit, CASE jsonb_typeof(g.quantity) WHEN 'number' THEN g.quantity::numeric ELSE 1 END
                 FROM jsonb_array_elements_text(CASE WHEN g.by_unit THEN '[]' ELSE (SELECT u.by_name FROM units u) -> g.name END) a(unit)) q
             LEFT JOIN LATERAL (
                 (SELECT x.amount, x.per_units FROM goya.prices x
                  WHERE x.name = g.name AND x.unit = q.unit AND x.tenant_id = g.tenant_id AND x.currency = coalesce(g.currency, 'USD')
                        AND x.effective_at <= g.created_at AND x.generation <= g.price_generation ORDER BY x.effective_at DESC LIMIT 1)
                 UNION ALL
                 (SELECT x.amount, x.per_units FROM goya.prices x
                  WHERE x.name = g.name AND x.unit = q.unit AND x.tenant_id IS NULL AND x.currency = coalesce(g.currency, 'USD')
                        AND x.effective_at <= g.created_at AND x.generation <= g.price_generation ORDER BY x.effective_at DESC LIMIT 1)
                 LIMIT 1) p ON true
        WHERE g.recorded IS NULL AND (g.by_unit OR p.amount IS NOT NULL)
    ), recorded AS (
        INSERT INTO goya.usage_records (task_id, node, item, attempt, line, tenant_id, price_name, unit, quantity, cost, currency, hold_id, trace_id)
        SELECT l.task_id, l.node, l.item, l.attempt, l.line, l.tenant_id, l.name, l.unit, l.quantity, l.cost, l.currency, l.hold_id, l.trace_id
        FROM lines l
    ), due AS MATERIALIZED (
        SELECT l.hold_id, sum(l.cost)::bigint AS cost, min(l.max_cost) AS max_cost
        FROM lines l GROUP BY l.hold_id HAVING sum(l.cost) > 0 ORDER BY l.hold_id
    ), paid AS (
        UPDATE goya.holds h SET captured = h.captured + d.cost FROM due d
        WHERE h.id = d.hold_id AND h.status = 'open' AND h.captured + d.cost <= least(h.amount, d.max_cost)
        RETURNING h.id
    ), results AS (
        SELECT x.ordinal, sum(x.cost)::bigint AS cost, count(x.cost) = 0 AS unpriced
        FROM (SELECT l.ordinal, l.cost FROM lines l
              UNION ALL SELECT g.ordinal, CASE WHEN g.by_unit AND g.recorded IS NULL THEN 0 ELSE g.recorded END FROM given g) x
        GROUP BY x.ordinal
    )
    SELECT array_agg(r.ordinal ORDER BY r.ordinal), array_agg(r.cost ORDER BY r.ordinal), min(r.ordinal) FILTER (WHERE r.unpriced),
           (SELECT array_agg(d.hold_id) FROM due d), (SELECT array_agg(d.cost) FROM due d), (SELECT array_agg(p.id) FROM paid p)
    INTO ordinals, costs, unpriced, due_holds, due_costs, paid_holds FROM results r;

    IF unpriced IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('no price is called "%s"', price_names[unpriced]),
            DETAIL = format('Node "%s" of task %s has this price; none was in force in the wallet''s currency, or the task has no hold.',
                            nodes[unpriced], task_ids[unpriced]),
            HINT = 'Ask an administrator for goya.set_price, and start the task again.';
    END IF;
    IF cardinality(due_holds) > coalesce(cardinality(paid_holds), 0) THEN
        SELECT array_agg(u.id), array_agg(u.cost) INTO due_holds, due_costs
        FROM unnest(due_holds, due_costs) u(id, cost) WHERE u.id <> ALL (coalesce(paid_holds, '{}'));
        PERFORM goya_private.extend_holds(due_holds, due_costs);
    END IF;
    RETURN QUERY SELECT * FROM unnest(ordinals, costs);
END;
$$;

-- Ends the holds of tasks that have ended: one capture entry of what was used, one release entry of the rest, each wallet updated once, in order
-- of their ids. A hold that is settled already is left alone. The caller has locked the tasks.
CREATE FUNCTION goya_private.settle_tasks(task_ids uuid[]) RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET jit = off
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    hold_ids uuid[];
    balances bigint[];                             -- of the wallets concerned, in order of their ids
    frozens bigint[];
    seqs bigint[];
BEGIN
    SELECT array_agg(h.id ORDER BY h.id) INTO hold_ids
    FROM (SELECT DISTINCT id FROM unnest(task_ids) u(id) ORDER BY 1) u
         CROSS JOIN LATERAL (SELECT x.id FROM goya.holds x WHERE x.task_id = u.id AND x.status <> 'settled' FOR NO KEY UPDATE OFFSET 0) h;
    IF hold_ids IS NULL THEN
        RETURN;
    END IF;

    SELECT array_agg(w.balance ORDER BY w.id), array_agg(w.frozen ORDER BY w.id), array_agg(w.last_seq ORDER BY w.id)
    INTO balances, frozens, seqs
    FROM (SELECT DISTINCT h.wallet_id AS id
          FROM unnest(hold_ids) u(id) CROSS JOIN LATERAL (SELECT x.wallet_id FROM goya.holds x WHERE x.id = u.id OFFSET 0) h ORDER BY 1) d
         CROSS JOIN LATERAL (SELECT x.id, x.balance, x.frozen, x.last_seq FROM goya.wallets x WHERE x.id = d.id FOR NO KEY UPDATE OFFSET 0) w;

    WITH ended AS MATERIALIZED (
        SELECT h.id, h.wallet_id, h.tenant_id, h.task_id, h.amount, h.captured, dense_rank() OVER (ORDER BY h.wallet_id)::integer AS wallet
        FROM unnest(hold_ids) u(id) CROSS JOIN LATERAL (SELECT x.* FROM goya.holds x WHERE x.id = u.id OFFSET 0) h
    ), entries AS MATERIALIZED (
        SELECT e.*, l.kind, l.amount AS change, l.moved, row_number() OVER so_far AS place,
               sum(l.moved) OVER so_far AS released, sum(l.amount - l.moved) OVER so_far AS thawed
        FROM ended e CROSS JOIN LATERAL (VALUES ('capture', -e.captured, 0::bigint), ('release', 0, e.amount - e.captured)) l(kind, amount, moved)
        WHERE l.amount <> 0 OR l.moved <> 0
        WINDOW so_far AS (PARTITION BY e.wallet ORDER BY e.id, l.kind)
    ), settled AS (
        UPDATE goya.holds h SET status = 'settled', posted = h.amount, settled_at = clock_timestamp() FROM ended e WHERE h.id = e.id
    ), moved AS (
        UPDATE goya.wallets w
        SET balance = w.balance + e.released, frozen = w.frozen + e.thawed, last_seq = w.last_seq + e.entries, updated_at = clock_timestamp()
        FROM (SELECT wallet_id, sum(moved)::bigint AS released, sum(change - moved)::bigint AS thawed, count(*) AS entries
              FROM entries GROUP BY wallet_id ORDER BY wallet_id) e
        WHERE w.id = e.wallet_id
    )
    INSERT INTO goya.wallet_entries (wallet_id, seq, tenant_id, kind, amount, moved, balance_after, frozen_after, reference, hold_id, task_id)
    SELECT e.wallet_id, seqs[e.wallet] + e.place, e.tenant_id, e.kind, e.change, e.moved, balances[e.wallet] + e.released,
           frozens[e.wallet] + e.thawed, 'task:' || e.task_id || ':' || e.kind, e.id, e.task_id
    FROM entries e;
END;
$$;
