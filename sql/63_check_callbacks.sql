-- 63_check_callbacks.sql: what goya.check() asks of calls that are answered later: node runs that wait and the tokens that end their wait. See 63_check.sql for how.
--
-- Decided: a token stays a day longer than it counts, whatever became of its run, so that a late call is told apart from a made-up one: a token of a run that
-- has ended is no violation. Only http nodes with a callback wait.

CREATE FUNCTION goya_private.check_callbacks(OUT code text, OUT subject text, OUT detail text) RETURNS SETOF record
    LANGUAGE sql STABLE ROWS 10 SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        WITH nodes AS MATERIALIZED (SELECT n.workflow_id, n.revision, n.node AS place, n.key, n.kind FROM goya_private.check_nodes() n),
        waits AS MATERIALIZED (
            SELECT r.task_id, r.node, r.item, r.attempt, n.place, t.status = 'cancelling' OR t.failing AS ending
            FROM goya.node_runs r JOIN goya.tasks t ON t.id = r.task_id
            JOIN nodes n ON n.workflow_id = t.workflow_id AND n.revision = t.revision AND n.key = r.node
            WHERE r.status = 'waiting' AND n.kind = 'http'),
        tokens AS (
            SELECT c.task_id, c.node, c.item, c.attempt, count(*) AS tokens, bool_or(c.called_at IS NOT NULL) AS called
            FROM goya_private.callbacks c GROUP BY c.task_id, c.node, c.item, c.attempt),
        -- What will look at the run again: its time is over, or it was called.
        moves AS MATERIALIZED (
            SELECT q.task_id, q.node, q.item, bool_or(q.verb = 1) AS timer, bool_or(q.verb = 4) AS decision
            FROM (SELECT x.task_id, x.node, x.item, x.verb FROM goya_private.ready x UNION ALL SELECT x.task_id, x.node, x.item, x.verb FROM goya_private.parked x
                  UNION ALL SELECT x.task_id, x.node, x.item, x.verb FROM goya_private.timers x) q
            WHERE q.verb IN (1, 4) GROUP BY q.task_id, q.node, q.item)
        SELECT 'callback_lost', w.task_id::text, format('Node run %s/%s/%s waits for a callback, and %s.', w.node, w.item, w.attempt,
               CASE WHEN k.tokens IS NULL THEN 'nobody has a token for it' WHEN k.called AND m.decision IS NOT TRUE THEN 'the one that came will not be looked at'
                    ELSE 'its time is never over' END)
        FROM waits w
        LEFT JOIN tokens k ON k.task_id = w.task_id AND k.node = w.node AND k.item = w.item AND k.attempt = w.attempt
        LEFT JOIN moves m ON m.task_id = w.task_id AND m.node = w.place AND m.item = w.item
        WHERE NOT w.ending AND (k.tokens IS NULL OR (k.called AND m.decision IS NOT TRUE) OR m.timer IS NOT TRUE)
        UNION ALL
        SELECT 'callback_row', c.task_id::text, concat_ws(' ', format('A token is for node run %s/%s/%s.', c.node, c.item, c.attempt),
               CASE WHEN r.task_id IS NULL THEN 'There is none.' END, CASE WHEN n.key IS DISTINCT FROM c.node THEN format('Its place %s is of node %s.', c.plan_node, coalesce(n.key, 'none')) END,
               CASE WHEN c.called_at IS NULL AND (c.payload IS NOT NULL OR c.failed) THEN 'It was not called, and has what came.' END)
        FROM goya_private.callbacks c JOIN goya.tasks t ON t.id = c.task_id
        LEFT JOIN goya.node_runs r ON r.task_id = c.task_id AND r.node = c.node AND r.item = c.item AND r.attempt = c.attempt
        LEFT JOIN nodes n ON n.workflow_id = t.workflow_id AND n.revision = t.revision AND n.place = c.plan_node
        WHERE r.task_id IS NULL OR n.key IS DISTINCT FROM c.node OR (c.called_at IS NULL AND (c.payload IS NOT NULL OR c.failed));
    END;
