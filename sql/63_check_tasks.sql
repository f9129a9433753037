-- 63_check_tasks.sql: what goya.check() asks of tasks: their own row, what it refers to, their counters against what is really open, children.
-- See 63_check.sql for how.

-- Of one row; null when it is as it must be.
CREATE FUNCTION goya_private.check_task_row(t goya.tasks, ended boolean) RETURNS text
    LANGUAGE sql STABLE
    RETURN nullif(concat_ws(' ',
        CASE WHEN ended <> (t.finished_at IS NOT NULL) OR ended <> (t.finished_seq IS NOT NULL) THEN 'Ended and finished_at, finished_seq do not agree.' END,
        CASE WHEN ended AND t.finished_seq <> t.last_seq THEN format('Its end is event %s, and the newest is %s.', t.finished_seq, t.last_seq) END,
        CASE WHEN ended AND (t.active <> 0 OR t.waiting <> 0) THEN format('It has ended with active %s, waiting %s.', t.active, t.waiting) END,
        CASE WHEN ended AND (t.failing OR t.paused) THEN 'It has ended and is failing or paused.' END,
        CASE WHEN t.active < 0 OR t.waiting < 0 OR t.waiting > t.active THEN format('active is %s, waiting %s.', t.active, t.waiting) END,
        CASE WHEN (t.status IN ('failed', 'cancelled') OR t.failing) <> (t.error IS NOT NULL) THEN 'Failure and error do not agree.' END,
        CASE WHEN (t.status = 'succeeded') <> (t.output IS NOT NULL) THEN 'Success and output do not agree.' END,
        CASE WHEN (t.started_at IS NULL) <> (t.started_seq IS NULL) THEN 'started_at and started_seq do not agree.' END,
        CASE WHEN CASE WHEN t.status = 'pending' THEN t.started_seq IS NOT NULL
                       WHEN t.status IN ('running', 'waiting', 'succeeded', 'failed') THEN t.started_seq IS NULL END THEN 'Status and start do not agree.' END,
        CASE WHEN t.started_seq > t.last_seq OR t.last_seq < 1 THEN format('Its start is event %s, and the newest is %s.', t.started_seq, t.last_seq) END,
        CASE WHEN NOT t.progress BETWEEN 0 AND 100 OR (t.status = 'succeeded' AND t.progress <> 100) THEN format('progress is %s.', t.progress) END,
        CASE WHEN (t.parent_node IS NULL) <> (t.parent_item IS NULL) OR (t.parent_node IS NOT NULL AND t.parent_task_id IS NULL)
             THEN 'parent_task_id, parent_node and parent_item do not agree.' END,
        CASE WHEN (t.trigger_id IS NULL) <> (t.trigger IS NULL) THEN 'trigger_id and trigger do not agree.' END,
        CASE WHEN t.hold_id <> t.id THEN format('Its hold is %s.', t.hold_id) END), '');

CREATE FUNCTION goya_private.check_tasks(OUT code text, OUT subject text, OUT detail text) RETURNS SETOF record
    LANGUAGE sql STABLE ROWS 100 SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        WITH revisions AS MATERIALIZED (
            SELECT r.workflow_id, r.revision, r.tenant_id, coalesce(bool_or(n.priced), false) AS priced, count(n.node) AS nodes
            FROM goya.workflow_revisions r LEFT JOIN goya_private.check_nodes() n ON n.workflow_id = r.workflow_id AND n.revision = r.revision
            GROUP BY r.workflow_id, r.revision, r.tenant_id),
        known AS MATERIALIZED (
            SELECT t.id, t.tenant_id, t.workflow_id, t.revision, t.status, t.status IN ('succeeded', 'failed', 'cancelled') AS ended, t.paused, t.failing,
                   t.active, t.waiting, t.depth, t.asset_id, t.parent_task_id, t.parent_node, t.parent_item, t.trigger_id, t.trigger ->> 'slot' AS slot,
                   t.idempotency_key, t.hold_id,
                   goya_private.check_task_row(t, t.status IN ('succeeded', 'failed', 'cancelled')) AS wrong
            FROM goya.tasks t),
        cancelling AS MATERIALIZED (SELECT DISTINCT c.task_id FROM goya_private.cancel_requests c),
        open AS MATERIALIZED (
            SELECT k.id, k.status, k.paused, k.failing, k.active, k.waiting, k.workflow_id, k.revision, c.task_id IS NOT NULL AS stopping
            FROM known k LEFT JOIN cancelling c ON c.task_id = k.id WHERE NOT k.ended),
        undo AS MATERIALIZED (SELECT n.workflow_id, n.revision, n.node, n.key FROM goya_private.check_nodes() n WHERE n.part = 'undo'),
        queued AS (
            SELECT q.task_id, q.node, q.verb, 'ready' AS place FROM goya_private.ready q
            UNION ALL SELECT p.task_id, p.node, p.verb, 'parked' FROM goya_private.parked p
            UNION ALL SELECT m.task_id, m.node, m.verb, 'timer' FROM goya_private.timers m WHERE m.verb = 0),
        -- What counts as active: for a failing task its compensations only.
        work AS MATERIALIZED (
            SELECT o.id, count(*) FILTER (WHERE w.what = 'ready') AS ready, count(*) FILTER (WHERE w.what = 'parked') AS parked,
                   count(*) FILTER (WHERE w.what = 'timer') AS timers, count(*) FILTER (WHERE w.what = 'running') AS running,
                   count(*) FILTER (WHERE w.what = 'waiting') AS waiting, count(*) FILTER (WHERE w.what = 'wakeup') AS wakeups
            FROM open o LEFT JOIN (
                SELECT q.task_id, CASE WHEN q.verb = 0 THEN q.place ELSE 'wakeup' END AS what
                FROM queued q JOIN open o ON o.id = q.task_id
                LEFT JOIN undo u ON u.workflow_id = o.workflow_id AND u.revision = o.revision AND u.node = q.node
                WHERE NOT o.failing OR q.verb <> 0 OR u.node IS NOT NULL
                UNION ALL
                SELECT r.task_id, r.status::text FROM open o JOIN goya.node_runs r ON r.task_id = o.id WHERE r.status IN ('running', 'waiting')) w ON w.task_id = o.id
            GROUP BY o.id),
        children AS MATERIALIZED (
            SELECT DISTINCT ON (c.parent_task_id, c.parent_node, c.parent_item) c.id, c.status, c.ended, c.parent_task_id, c.parent_node, c.parent_item
            FROM known c JOIN open o ON o.id = c.parent_task_id WHERE c.parent_node IS NOT NULL
            ORDER BY c.parent_task_id, c.parent_node, c.parent_item, c.id DESC)
        SELECT 'task_row', k.id::text, format('Status %s: %s', k.status, k.wrong) FROM known k WHERE k.wrong IS NOT NULL
        UNION ALL
        SELECT 'task_revision', k.id::text, CASE WHEN r.revision IS NULL THEN format('Revision %s of workflow %s is not there.', k.revision, k.workflow_id)
                                                 ELSE format('Its tenant is %s, that of its workflow %s.', k.tenant_id, r.tenant_id) END
        FROM known k LEFT JOIN revisions r ON r.workflow_id = k.workflow_id AND r.revision = k.revision WHERE r.tenant_id IS DISTINCT FROM k.tenant_id
        UNION ALL
        SELECT 'task_asset', k.id::text, format('Asset %s %s.', k.asset_id, CASE WHEN a.id IS NULL THEN 'is not there' ELSE 'is of another tenant' END)
        FROM known k LEFT JOIN goya.assets a ON a.id = k.asset_id WHERE k.asset_id IS NOT NULL AND a.tenant_id IS DISTINCT FROM k.tenant_id
        UNION ALL
        SELECT 'task_parent', k.id::text, CASE WHEN p.id IS NULL THEN format('Its parent %s is not there.', k.parent_task_id)
                                               WHEN p.tenant_id <> k.tenant_id THEN format('Its parent %s is of another tenant.', p.id)
                                               ELSE format('Its depth is %s, that of its parent %s.', k.depth, p.depth) END
        FROM known k LEFT JOIN known p ON p.id = k.parent_task_id
        WHERE k.parent_task_id IS NOT NULL
          AND (p.tenant_id IS DISTINCT FROM k.tenant_id OR NOT (k.depth = p.depth + 1 OR (k.depth = p.depth AND k.parent_node IS NULL)))
        UNION ALL
        SELECT 'task_key', coalesce(k.id, i.task_id)::text,
               CASE WHEN k.id IS NULL THEN format('Key "%s" stands for it, and it has another or is not there.', i.key)
                    ELSE format('It has key "%s", which does not stand for it.', k.idempotency_key) END
        FROM (SELECT x.id, x.tenant_id, x.idempotency_key FROM known x WHERE x.idempotency_key IS NOT NULL) k
        FULL JOIN goya_private.idempotency_keys i ON i.task_id = k.id AND i.key = k.idempotency_key AND i.tenant_id = k.tenant_id
        WHERE k.id IS NULL OR i.task_id IS NULL
        UNION ALL
        SELECT 'task_hold', k.id::text, CASE WHEN k.hold_id IS NULL THEN 'Its workflow has prices and it has no hold.' WHEN h.id IS NULL THEN 'Its hold is not there.'
                                             ELSE 'Its hold is of another tenant or task.' END
        FROM known k LEFT JOIN goya.holds h ON h.id = k.hold_id LEFT JOIN revisions r ON r.workflow_id = k.workflow_id AND r.revision = k.revision
        WHERE (k.hold_id IS NULL AND r.priced) OR (k.hold_id IS NOT NULL AND (h.tenant_id, h.task_id) IS DISTINCT FROM (k.tenant_id, k.id))
        UNION ALL
        SELECT 'hold_settled', k.id::text, format('It is %s, and its hold is settled.', k.status)
        FROM known k JOIN goya.holds h ON h.id = k.hold_id WHERE NOT k.ended AND h.status = 'settled'
        UNION ALL
        -- Of triggers that are still there; a retry has its trigger from the task it retries.
        SELECT 'task_trigger', k.id::text, format('Trigger %s fired at "%s" and that slot %s.', g.id, k.slot,
                                                  coalesce('has task ' || s.task_id, 'has no task'))
        FROM known k JOIN goya.triggers g ON g.id = k.trigger_id LEFT JOIN goya_private.trigger_slots s ON s.trigger_id = k.trigger_id AND s.slot = k.slot
        WHERE k.slot IS NOT NULL AND k.parent_task_id IS NULL AND s.task_id IS DISTINCT FROM k.id
        UNION ALL
        SELECT 'active_count', o.id::text, format('active is %s; ready %s, parked %s, on timers %s, running %s, waiting %s.', o.active, w.ready, w.parked, w.timers,
                                                  w.running, w.waiting)
        FROM work w JOIN open o ON o.id = w.id WHERE NOT o.stopping AND o.active <> w.ready + w.parked + w.timers + w.running + w.waiting
        UNION ALL
        SELECT 'waiting_count', o.id::text, format('waiting is %s; %s node runs wait.', o.waiting, w.waiting)
        FROM work w JOIN open o ON o.id = w.id WHERE o.waiting <> w.waiting
        UNION ALL
        SELECT 'task_status', o.id::text, format('It is %s with %s active, %s of them waiting.', o.status, o.active, o.waiting)
        FROM open o WHERE CASE o.status WHEN 'waiting' THEN o.active < 1 OR o.waiting < o.active WHEN 'running' THEN o.active < 1 OR o.waiting >= o.active
                                        WHEN 'pending' THEN o.active < 1 OR o.waiting > 0 OR o.failing END
        UNION ALL
        SELECT 'task_lost', o.id::text, format('It is %s and has nothing to do.', o.status)
        FROM work w JOIN open o ON o.id = w.id WHERE NOT o.stopping AND w.ready + w.parked + w.timers + w.running + w.waiting + w.wakeups = 0
        UNION ALL
        SELECT 'cancel_lost', o.id::text, 'It is cancelling, and nobody asked for it.' FROM open o WHERE o.status = 'cancelling' AND NOT o.stopping
        UNION ALL
        SELECT 'parked_running', o.id::text, format('%s node runs are parked and the task is not paused.', w.parked)
        FROM work w JOIN open o ON o.id = w.id WHERE w.parked > 0 AND NOT o.paused
        UNION ALL
        SELECT 'open_run_of_ended_task', k.id::text, format('The task is %s, node "%s" item %s is %s.', k.status, r.node, r.item, r.status)
        FROM goya.node_runs r JOIN known k ON k.id = r.task_id WHERE k.ended AND r.status IN ('pending', 'ready', 'running', 'waiting')
        UNION ALL
        SELECT 'leftover_of_ended_task', k.id::text, format('The task is %s and has rows in %s.', k.status, x.name)
        FROM (SELECT DISTINCT p.task_id, 'goya_private.parked' AS name FROM goya_private.parked p
              UNION SELECT j.task_id, 'goya_private.joins' FROM goya_private.joins j
              UNION SELECT m.task_id, 'goya_private.maps' FROM goya_private.maps m
              UNION SELECT a.task_id, 'goya.approvals, pending' FROM goya.approvals a WHERE a.status = 'pending') x
        JOIN known k ON k.id = x.task_id WHERE k.ended
        UNION ALL
        SELECT CASE WHEN c.id IS NULL THEN 'child_missing' ELSE 'child_not_told' END, coalesce(c.id, o.id)::text,
               CASE WHEN c.id IS NULL THEN format('Node "%s" item %s waits for a child task that is not there.', r.node, r.item)
                    ELSE format('It is %s, and task %s still waits for it at node "%s" item %s.', c.status, o.id, r.node, r.item) END
        FROM open o JOIN goya.node_runs r ON r.task_id = o.id AND r.status = 'waiting'
        JOIN goya_private.check_nodes() n ON n.workflow_id = o.workflow_id AND n.revision = o.revision AND n.key = r.node AND n.kind = 'workflow'
        LEFT JOIN children c ON c.parent_task_id = o.id AND c.parent_node = n.node AND c.parent_item = r.item
        LEFT JOIN (SELECT DISTINCT q.task_id, q.node, q.item FROM goya_private.ready q WHERE q.verb = 3) q
             ON q.task_id = o.id AND q.node = n.node AND q.item = r.item
        WHERE NOT o.stopping AND (c.id IS NULL OR (c.ended AND q.task_id IS NULL))
        UNION ALL
        SELECT 'child_orphan', k.id::text, format('Its parent %s is %s and waits no more, and nobody wants it cancelled.', p.id, p.status)
        FROM known k JOIN known p ON p.id = k.parent_task_id LEFT JOIN cancelling c ON c.task_id = k.id
        WHERE k.parent_node IS NOT NULL AND NOT k.ended AND p.status IN ('failed', 'cancelled') AND c.task_id IS NULL;
    END;
