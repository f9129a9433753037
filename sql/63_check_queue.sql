-- 63_check_queue.sql: what goya.check() asks of open tasks: that everything that waits will be woken, everything begun goes on, nothing is queued twice,
-- and that the counters of joins and maps are those of the node runs. See 63_check.sql for how.
--
-- Must hold: rows of the queue that will be thrown away (of ended, failing and stopping tasks) are no violation.

CREATE FUNCTION goya_private.check_queue(OUT code text, OUT subject text, OUT detail text) RETURNS SETOF record
    LANGUAGE sql STABLE ROWS 100 SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        WITH plan AS MATERIALIZED (SELECT * FROM goya_private.check_nodes()),
        open AS MATERIALIZED (
            SELECT t.id, t.status, t.failing, t.workflow_id, t.revision, c.task_id IS NOT NULL AS stopping
            FROM goya.tasks t LEFT JOIN (SELECT DISTINCT x.task_id FROM goya_private.cancel_requests x) c ON c.task_id = t.id
            WHERE t.status IN ('pending', 'running', 'waiting', 'cancelling')),
        -- Those that go on as their definition says.
        going AS MATERIALIZED (SELECT o.id, o.status, o.workflow_id, o.revision FROM open o WHERE NOT o.failing AND NOT o.stopping),
        queued AS MATERIALIZED (
            SELECT q.*, o.id AS open_task, o.status AS task_status, o.failing OR o.stopping AS ending, p.key, p.part, p.kind, o.workflow_id, o.revision
            FROM (SELECT r.task_id, r.node, r.item, r.attempt, r.verb, r.lane, r.tries, 'ready' AS place FROM goya_private.ready r
                  UNION ALL SELECT k.task_id, k.node, k.item, k.attempt, k.verb, k.lane, k.tries, 'parked' FROM goya_private.parked k
                  UNION ALL SELECT m.task_id, m.node, m.item, m.attempt, m.verb, m.lane, m.tries, 'timers' FROM goya_private.timers m) q
            LEFT JOIN open o ON o.id = q.task_id
            LEFT JOIN plan p ON p.workflow_id = o.workflow_id AND p.revision = o.revision AND p.node = q.node),
        runs AS MATERIALIZED (
            SELECT r.task_id, r.node AS key, r.item, r.attempt, r.status, r.status = 'failed' AND coalesce(r.message, '') LIKE 'will retry %' AS retrying,
                   p.node, p.kind, p.part, p.owner, p.timed, p.signal, g.id IS NOT NULL AS going,
                   CASE r.status WHEN 'waiting' THEN jsonb_array_length(CASE WHEN p.kind = 'map' THEN goya_private.peek_value(r.tenant_id, r.input) -> 'items' END) END AS items
            FROM open o JOIN goya.node_runs r ON r.task_id = o.id LEFT JOIN going g ON g.id = o.id
            LEFT JOIN plan p ON p.workflow_id = o.workflow_id AND p.revision = o.revision AND p.key = r.node),
        wakeups AS MATERIALIZED (SELECT DISTINCT q.task_id, q.node, q.item, q.attempt, q.verb FROM queued q WHERE q.verb > 0),
        -- Nodes of the definition that have ended for good, and which node of each going task has been begun.
        final AS MATERIALIZED (
            SELECT r.task_id, r.key FROM runs r
            WHERE r.going AND r.part = 'listed' AND (r.status IN ('succeeded', 'skipped', 'compensated') OR (r.status = 'failed' AND NOT r.retrying))),
        begun AS MATERIALIZED (
            SELECT r.task_id, r.node FROM runs r WHERE r.going AND r.part = 'listed'
            UNION SELECT q.task_id, q.node FROM queued q WHERE q.verb = 0 AND q.node >= 0),
        starting AS MATERIALIZED (SELECT q.task_id FROM queued q WHERE q.verb = 0 AND q.node = -1 GROUP BY q.task_id),
        heard AS MATERIALIZED (
            SELECT g.id, p.node, p.key, p.edges_in, p.join_any, count(f.key) AS ended
            FROM going g JOIN plan p ON p.workflow_id = g.workflow_id AND p.revision = g.revision AND p.part = 'listed'
            LEFT JOIN goya_private.check_edges() e ON e.workflow_id = p.workflow_id AND e.revision = p.revision AND e.target = p.key
            LEFT JOIN final f ON f.task_id = g.id AND f.key = e.source
            GROUP BY g.id, p.node, p.key, p.edges_in, p.join_any),
        bodies AS MATERIALIZED (
            SELECT r.task_id, r.owner, count(*) FILTER (WHERE r.status IN ('succeeded', 'compensated')) AS done,
                   count(*) FILTER (WHERE r.status = 'failed' AND NOT r.retrying) AS failed, count(*) FILTER (WHERE r.status IN ('running', 'waiting')) AS open
            FROM runs r WHERE r.going AND r.part = 'body' GROUP BY r.task_id, r.owner),
        handed AS MATERIALIZED (
            SELECT q.task_id, p.owner, count(*) AS queued FROM queued q JOIN plan p ON p.workflow_id = q.workflow_id AND p.revision = q.revision AND p.node = q.node
            WHERE q.verb = 0 AND q.part = 'body' GROUP BY q.task_id, p.owner)
        SELECT 'queue_row', q.task_id::text, format('goya_private.%s: lane %s, verb %s, node %s, item %s, attempt %s, tries %s.', q.place, q.lane, q.verb, q.node, q.item,
                                                    q.attempt, q.tries)
        FROM queued q
        WHERE q.verb NOT BETWEEN 0 AND 4 OR q.lane NOT BETWEEN 0 AND 5 OR (q.verb > 0 AND q.lane <> 2) OR (q.place = 'timers' AND q.verb > 1 AND q.tries < 100)
           OR (q.place = 'parked' AND q.verb <> 0) OR q.item < 0 OR q.attempt < 1 OR q.tries < 0
           OR CASE WHEN q.node = -1 THEN q.verb NOT IN (0, 2) OR q.item <> 0 OR q.attempt <> 1 ELSE q.open_task IS NOT NULL AND q.key IS NULL END
        UNION ALL
        SELECT 'queued_twice', q.task_id::text, format('Node %s item %s attempt %s, verb %s, is queued %s times: %s.', q.node, q.item, q.attempt, q.verb, count(*),
                                                       string_agg(q.place, ', ' ORDER BY q.place))
        FROM queued q WHERE q.open_task IS NOT NULL AND NOT q.ending AND (q.verb = 0 OR (q.verb = 1 AND q.place = 'timers' AND q.tries < 100))
        GROUP BY q.task_id, q.node, q.item, q.attempt, q.verb HAVING count(*) > 1
        UNION ALL
        SELECT 'queued_again', q.task_id::text, format('Node "%s" item %s attempt %s is queued, and %s.', q.key, q.item, q.attempt,
                                                       coalesce('it is ' || r.status, 'attempt ' || p.attempt || ' is ' || p.status, 'there was no attempt before'))
        FROM queued q
        LEFT JOIN runs r ON r.task_id = q.task_id AND r.node = q.node AND r.item = q.item AND r.attempt = q.attempt
        LEFT JOIN runs p ON p.task_id = q.task_id AND p.node = q.node AND p.item = q.item AND p.attempt = q.attempt - 1
        WHERE q.verb = 0 AND q.node >= 0 AND q.open_task IS NOT NULL AND NOT q.ending
          AND (r.status <> 'ready' OR (r.status IS NULL AND q.attempt > 1 AND NOT coalesce(p.retrying, false)))
        UNION ALL
        SELECT DISTINCT 'queued_again', q.task_id::text, 'Its start is queued, and nodes of it have run.'
        FROM queued q JOIN runs r ON r.task_id = q.task_id WHERE q.verb = 0 AND q.node = -1 AND NOT q.ending
        UNION ALL
        SELECT 'retry_lost', r.task_id::text, format('Node "%s" item %s will be tried again after attempt %s, and is not queued.', r.key, r.item, r.attempt)
        FROM runs r
        WHERE r.going AND r.retrying
          AND NOT EXISTS (SELECT FROM queued q WHERE q.verb = 0 AND q.task_id = r.task_id AND q.node = r.node AND q.item = r.item AND q.attempt = r.attempt + 1)
          AND NOT EXISTS (SELECT FROM runs x WHERE x.task_id = r.task_id AND x.node = r.node AND x.item = r.item AND x.attempt = r.attempt + 1)
        UNION ALL
        SELECT 'call_lost', r.task_id::text, format('Node "%s" item %s attempt %s is to be called again, and is not queued.', r.key, r.item, r.attempt)
        FROM runs r
        WHERE r.going AND r.status = 'ready'
          AND NOT EXISTS (SELECT FROM queued q WHERE q.verb = 0 AND q.task_id = r.task_id AND q.node = r.node AND q.item = r.item AND q.attempt = r.attempt)
        UNION ALL
        SELECT 'wait_lost', r.task_id::text, format('Node "%s" item %s waits for a time, and has no timer.', r.key, r.item)
        FROM runs r
        WHERE r.going AND r.status = 'waiting' AND r.timed
          AND NOT EXISTS (SELECT FROM wakeups q WHERE q.verb = 1 AND q.task_id = r.task_id AND q.node = r.node AND q.item = r.item AND q.attempt = r.attempt)
        UNION ALL
        SELECT 'signal_lost', r.task_id::text, format('Node "%s" item %s waits for signal "%s", which has come.', r.key, r.item, r.signal)
        FROM runs r
        WHERE r.going AND r.status = 'waiting' AND r.kind = 'wait'
          AND EXISTS (SELECT FROM goya_private.signals s WHERE s.task_id = r.task_id AND s.name = r.signal AND s.consumed_by IS NULL)
          AND NOT EXISTS (SELECT FROM wakeups q WHERE q.verb = 2 AND q.task_id = r.task_id)
        UNION ALL
        SELECT 'signal_taken', s.task_id::text, format('Signal %s was taken by "%s", which %s.', s.id, s.consumed_by, coalesce('is ' || r.status, 'did not run'))
        FROM goya_private.signals s
        LEFT JOIN goya.node_runs r ON r.task_id = s.task_id AND r.node || '/' || r.item || '/' || r.attempt = s.consumed_by
        WHERE s.consumed_by IS NOT NULL AND (r.task_id IS NULL OR r.status NOT IN ('succeeded', 'failed', 'compensated'))
        UNION ALL
        -- A question and the node run that asks it: both open, or answered and on its way, or both over.
        SELECT 'approval_lost', r.task_id::text, format('Node "%s" item %s waits for a decision, and the question %s.', r.key, r.item, coalesce('is ' || a.status, 'is not there'))
        FROM runs r LEFT JOIN goya.approvals a ON a.task_id = r.task_id AND a.node = r.key AND a.item = r.item AND a.attempt = r.attempt
        WHERE r.going AND r.status = 'waiting' AND r.kind = 'approval' AND a.status IS DISTINCT FROM 'pending'
          AND (a.status IS NULL OR a.status NOT IN ('approved', 'rejected')
               OR NOT EXISTS (SELECT FROM wakeups q WHERE q.verb = 4 AND q.task_id = r.task_id AND q.node = r.node AND q.item = r.item))
        UNION ALL
        SELECT 'approval_lost', a.task_id::text, format('The question of node "%s" item %s is open, and the node run %s.', a.node, a.item, coalesce('is ' || r.status, 'is not there'))
        FROM goya.approvals a JOIN open o ON o.id = a.task_id
        LEFT JOIN runs r ON r.task_id = a.task_id AND r.key = a.node AND r.item = a.item AND r.attempt = a.attempt
        WHERE a.status = 'pending' AND r.status IS DISTINCT FROM 'waiting'
        UNION ALL
        SELECT 'node_lost', h.id::text, CASE WHEN h.edges_in = 0 THEN format('Node "%s" is a root, the task has begun, and the node has not.', h.key)
                                             ELSE format('Node "%s" was not begun though all %s before it have ended.', h.key, h.ended) END
        FROM heard h LEFT JOIN begun b ON b.task_id = h.id AND b.node = h.node LEFT JOIN starting s ON s.task_id = h.id
        WHERE h.ended = h.edges_in AND b.task_id IS NULL AND (h.edges_in > 0 OR s.task_id IS NULL)
        UNION ALL
        -- A join has a row while some, and not all, of its edges are decided.
        SELECT 'join_count', coalesce(j.task_id, h.id)::text,
               format('Node "%s": %s of %s nodes before it have ended, its join %s.', coalesce(h.key, j.node::text), h.ended, h.edges_in,
                      coalesce(format('counts %s fired, %s dead, %s failed%s', j.fired, j.dead, j.failed, CASE WHEN j.started THEN ', started' END), 'has no row'))
        FROM (SELECT x.* FROM goya_private.joins x JOIN going g ON g.id = x.task_id) j
        FULL JOIN (SELECT y.* FROM heard y WHERE y.edges_in > 1) h ON h.id = j.task_id AND h.node = j.node
        LEFT JOIN begun b ON b.task_id = h.id AND b.node = h.node
        WHERE CASE WHEN j.task_id IS NULL THEN h.ended > 0 AND h.ended < h.edges_in
                   ELSE h.id IS NULL OR j.fired < 0 OR j.dead < 0 OR j.failed < 0 OR j.fired + j.dead + j.failed <> h.ended OR h.ended NOT BETWEEN 1 AND h.edges_in - 1
                        OR j.started <> (h.join_any AND j.fired > 0) OR j.started <> (b.task_id IS NOT NULL) END
        UNION ALL
        SELECT 'map_count', coalesce(r.task_id, m.task_id)::text,
               format('Map "%s" %s: %s of %s items have ended, %s failed, %s are open; its row %s.', coalesce(r.key, m.node::text), coalesce(r.status::text, 'does not run'),
                      coalesce(b.done + b.failed, 0), r.items, coalesce(b.failed, 0), coalesce(b.open, 0) + coalesce(q.queued, 0),
                      coalesce(format('says %s of %s, %s failed, %s handed out', m.done + m.failed, m.total, m.failed, m.next_item), 'is not there'))
        FROM (SELECT x.* FROM goya_private.maps x JOIN going g ON g.id = x.task_id) m
        FULL JOIN (SELECT y.* FROM runs y WHERE y.going AND y.kind = 'map' AND y.status = 'waiting') r ON r.task_id = m.task_id AND r.node = m.node
        LEFT JOIN bodies b ON b.task_id = r.task_id AND b.owner = r.key
        LEFT JOIN handed q ON q.task_id = r.task_id AND q.owner = r.key
        WHERE m.task_id IS NULL OR r.task_id IS NULL OR m.total <> r.items OR m.done <> coalesce(b.done, 0) OR m.failed <> coalesce(b.failed, 0)
           OR m.done + m.failed >= m.total OR least(m.next_item, m.total) - m.done - m.failed <> coalesce(b.open, 0) + coalesce(q.queued, 0);
    END;
