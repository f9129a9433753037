-- 41_metering.sql: money as the engine moves it: a task's hold when it starts, usage and captures with each result, settlement at its end.
--
-- Decided:
-- * A task's hold row is its escrow. Captures change only that row; the wallet is touched when the task starts, when a hold is too small, and when the
--   task settles, each time last and in order of the wallets' ids. Holds of tasks are touched by nobody who has not locked the task.
-- * All of it but the rare enlarging of a hold is C (src/escrow.c, usage.c, prices.c), which writes the rows without SQL: a batch of 500 node runs
--   costs microseconds for each.
-- * extend_holds takes a batch; its plans are forced: nested loops into indexes (LATERAL … OFFSET 0, enable_* off) and one generic plan per session.
--   They are made when tables are empty and must be right when they hold millions of rows, whatever the statistics say.
-- Must hold: a node run is charged once, by its key in usage_records; a refused capture (PT402) leaves nothing behind in its transaction.

-- What a task of this definition is expected to cost. Raises 22023 when a node names a price that is not set, 22003 when it is too much.
CREATE FUNCTION goya_private.quote_resolved(tenant_id uuid, resolved jsonb, at timestamptz, input jsonb DEFAULT NULL) RETURNS bigint
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    RETURN (SELECT coalesce(sum(l.amount), 0)::bigint
            FROM goya_private.quote_lines(quote_resolved.tenant_id, quote_resolved.resolved, quote_resolved.input, quote_resolved.at, false) l);

-- Escrow of a task that has a price, also when the estimate is 0: returns its hold's id, which is the task's. Raises PT402. The wallet stays
-- locked until the transaction ends.
CREATE FUNCTION goya_private.hold_for_task(tenant_id uuid, task_id uuid, amount bigint) RETURNS uuid
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'goya_hold_for_task_sql';

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
    FROM (SELECT DISTINCT h.tenant_id, h.wallet_id AS id      -- locked in the order of tenants, as everywhere
          FROM unnest(hold_ids) u(id) CROSS JOIN LATERAL (SELECT x.tenant_id, x.wallet_id FROM goya.holds x WHERE x.id = u.id OFFSET 0) h ORDER BY 1) d
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

-- Meters node runs and captures what they cost from their tasks' holds, as a batch does (src/usage.c). Returns a row per element. quantities: null is
-- 1; a number counts for every unit priced under the name; an object gives each unit its own, and a unit in it that nobody priced is recorded
-- and free. estimated and cost_tags are empty, or have an element for each. A node run that was recorded before costs nothing again and returns what it did cost. The caller has locked the tasks.
-- Raises PT402 when a hold cannot be enlarged, 22023 for a bad quantity or a price that is not set, 55000 when a hold is settled.
CREATE FUNCTION goya_private.record_usage(task_ids uuid[], nodes text[], items integer[], attempts smallint[], price_names text[], quantities jsonb[],
    estimated boolean[] DEFAULT '{}', cost_tags text[] DEFAULT '{}')
    RETURNS TABLE (ordinal integer, cost bigint)
    LANGUAGE c VOLATILE STRICT ROWS 100 AS 'MODULE_PATHNAME', 'goya_record_usage_sql';

-- Ends the holds of tasks that have ended: one capture entry of what was used, one release entry of the rest, each wallet updated once, in order
-- of their ids. A hold that is settled already is left alone. The caller has locked the tasks.
CREATE FUNCTION goya_private.settle_tasks(task_ids uuid[]) RETURNS void
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'goya_settle_tasks_sql';
