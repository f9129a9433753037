-- 63_check.sql: goya.check(), what must always hold, whatever happened: a row per violation. The modules 63_check_*.sql after this one do the work.
--
-- Decided:
-- * It is the oracle of every test of faults, so it is complete: each rule that ties rows of goya's tables together is asked for. What a constraint
--   already forbids is left to the constraint.
-- * One statement, so one snapshot. Every transition of a task is one transaction, so a sound database has no violation at any moment, also
--   while the engine works. What may be out of step for a moment is not asked for: rows of the queue of a task that somebody wants cancelled
--   are thrown away before the task ends; those of tasks that have ended, and of failing tasks but for compensations, wait to be thrown away.
-- * Set-based: whole tables are joined by hash, never row by row, whatever the statistics say. Helpers first reduce rows to what the rules
--   need. No parallel workers: those would be slots that executors want.
-- * A rule reads tables and the published definitions (plan_nodes), not the engine's memory. A definition that cannot be compiled is a row.
-- * subject is the id of the task, wallet, hold, workflow, trigger or asset; detail says what is wrong in a sentence.
-- Must hold: no false alarm; no code without a test that breaks the rule and sees its row (test/pgtap/check.sql compares the two lists).
--
-- Codes, by module:
--   tasks   task_row task_revision task_asset task_parent task_key task_hold hold_settled task_trigger
--           active_count waiting_count task_status task_lost cancel_lost parked_running open_run_of_ended_task leftover_of_ended_task
--           child_missing child_not_told child_orphan
--   queue   queue_row queued_twice queued_again retry_lost call_lost wait_lost signal_lost signal_taken approval_lost
--           node_lost join_count map_count
--   runs    run_without_task run_node run_row run_attempt done_twice done_count task_incomplete run_too_early compensation_run seq_twice seq_high epoch_ahead
--   callbacks  callback_lost callback_row
--   rest    row_without_task tenant_missing completion_told event_twice event_row event_queue slot_row revision_row trigger_row
--           context_version context_state artifact_row asset_row
--   capabilities  operator_row operator_dependency algorithm_row implementation_row evaluation_row model_row profile_row prompt_row stand_in_row
--   agents  agent_session agent_count tool_call_row tool_not_allowed
--   money   wallet_total wallet_frozen wallet_negative ledger_missing ledger_order ledger_last entry_row entry_orphan reference_twice reference_lost
--           hold_row hold_usage hold_posted hold_entries hold_capture hold_open hold_limit hold_currency refund_excess usage_row usage_unpaid
--           usage_without_run charged_twice node_cost not_charged usage_price price_row

CREATE FUNCTION goya.check(OUT code text, OUT subject text, OUT detail text) RETURNS SETOF record
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    SET enable_nestloop = off SET enable_mergejoin = off SET work_mem = '128MB' SET jit = off SET max_parallel_workers_per_gather = 0 AS $$
BEGIN
    PERFORM goya_private.require_admin();
    RETURN QUERY
        SELECT c.code, c.subject, c.detail FROM (
            SELECT * FROM goya_private.check_tasks()
            UNION ALL SELECT * FROM goya_private.check_queue()
            UNION ALL SELECT * FROM goya_private.check_runs()
            UNION ALL SELECT * FROM goya_private.check_rest()
            UNION ALL SELECT * FROM goya_private.check_agents()
            UNION ALL SELECT * FROM goya_private.check_callbacks()
            UNION ALL SELECT * FROM goya_private.check_capabilities()
            UNION ALL SELECT * FROM goya_private.check_money()
            UNION ALL SELECT * FROM goya_private.check_usage()
            UNION ALL SELECT * FROM goya_private.check_charges()) c
        ORDER BY c.code, c.subject, c.detail;
END;
$$;
COMMENT ON FUNCTION goya.check() IS
'Looks for anything that must not be, and returns a row per violation; none: all is well. For administrators.
code is a stable word (docs/operations.md lists them), subject the id of what is wrong (task, wallet, hold, workflow, trigger, asset), detail says how.
Asked for are: tasks against their queue, node runs, timers, signals, approvals, children, joins and maps; node runs against their workflow (nothing lost, done
twice, out of order or uncharged); events, triggers, definitions, context, artifacts; wallets against ledger, holds, usage and pinned prices; one tenant along
every reference. Sees one moment and may be called while goya works. Reads whole tables: some seconds per 100,000 tasks.
Errors: 42501 not an administrator. Example: SELECT * FROM goya.check();';

-- ---- what definitions say ----

-- A definition as rows, nothing when it cannot be compiled. part: listed (a node of the definition), body (of a map), undo (a compensation).
CREATE FUNCTION goya_private.check_plan(resolved jsonb, OUT node integer, OUT key text, OUT kind text, OUT part text, OUT owner text, OUT edges_in integer,
    OUT join_any boolean, OUT handles_failure boolean, OUT priced boolean, OUT timed boolean, OUT signal text) RETURNS SETOF record
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
        WITH edges AS (
            SELECT e ->> 'from' AS source, e ->> 'to' AS target, coalesce(e ->> 'on', 'success') AS outcome
            FROM jsonb_array_elements(CASE jsonb_typeof(resolved -> 'edges') WHEN 'array' THEN resolved -> 'edges' ELSE '[]' END) e),
        arriving AS (SELECT e.target, count(*)::integer AS edges FROM edges e GROUP BY e.target),
        handled AS (SELECT DISTINCT e.source FROM edges e WHERE e.outcome IN ('failure', 'always')),
        specs AS (SELECT n.spec, n.place - 1 AS node, n.spec ->> 'key' AS key FROM jsonb_array_elements(resolved -> 'nodes') WITH ORDINALITY n(spec, place)),
        parts AS (
            SELECT p.*, s.key AS owner_key, s.spec AS owner_spec,
                   CASE WHEN p.listed THEN 'listed'
                        WHEN p.key = s.key || '.compensate' AND jsonb_typeof(s.spec -> 'compensate') = 'object' THEN 'undo' ELSE 'body' END AS part
            FROM goya_private.plan_nodes(resolved) p JOIN specs s ON s.node = coalesce(p.owner, p.node)),
        own AS (SELECT p.*, CASE p.part WHEN 'listed' THEN p.owner_spec WHEN 'undo' THEN p.owner_spec -> 'compensate'
                                        ELSE coalesce(CASE p.owner_spec ->> 'kind' WHEN 'agent' THEN goya_private.agent_part(p.owner_spec, substr(p.key, length(p.owner_key) + 2))
                                                                                   ELSE p.owner_spec -> 'node' END, '{}') END AS spec FROM parts p)
        SELECT o.node, o.key, o.kind, o.part, CASE WHEN o.part <> 'listed' THEN o.owner_key END, coalesce(a.edges, 0), coalesce(o.spec ->> 'join', 'all') = 'any',
               h.source IS NOT NULL, coalesce(jsonb_typeof(o.spec -> 'price'), 'null') <> 'null' AND o.kind <> 'agent',
               o.kind = 'sleep' OR (o.kind IN ('wait', 'approval', 'workflow') AND coalesce(jsonb_typeof(o.spec -> 'timeout'), 'null') <> 'null'),
               o.spec ->> 'signal'
        FROM own o LEFT JOIN arriving a ON o.part = 'listed' AND a.target = o.key LEFT JOIN handled h ON o.part = 'listed' AND h.source = o.key;
EXCEPTION WHEN OTHERS THEN
    RETURN;
END;
$$;

CREATE FUNCTION goya_private.check_nodes(OUT workflow_id uuid, OUT revision integer, OUT node integer, OUT key text, OUT kind text, OUT part text, OUT owner text,
    OUT edges_in integer, OUT join_any boolean, OUT handles_failure boolean, OUT priced boolean, OUT timed boolean, OUT signal text) RETURNS SETOF record
    LANGUAGE sql STABLE ROWS 10000 SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        SELECT r.workflow_id, r.revision, p.* FROM goya.workflow_revisions r CROSS JOIN LATERAL goya_private.check_plan(r.resolved) p;
    END;

CREATE FUNCTION goya_private.check_edges(OUT workflow_id uuid, OUT revision integer, OUT source text, OUT target text) RETURNS SETOF record
    LANGUAGE sql STABLE ROWS 10000 SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        SELECT r.workflow_id, r.revision, e ->> 'from', e ->> 'to'
        FROM goya.workflow_revisions r
        CROSS JOIN LATERAL jsonb_array_elements(CASE jsonb_typeof(r.resolved -> 'edges') WHEN 'array' THEN r.resolved -> 'edges' ELSE '[]' END) e;
    END;
