-- 63_check_runs.sql: what goya.check() asks of node runs, of ended tasks too: their own row, their attempts, that nothing ran before what it waits for, that
-- a task that succeeded did every node, and the numbers of events. See 63_check.sql for how.

CREATE FUNCTION goya_private.check_run_row(r goya.node_runs) RETURNS text
    LANGUAGE sql STABLE
    RETURN nullif(concat_ws(' ',
        CASE WHEN (r.status IN ('ready', 'running', 'waiting')) <> (r.finished_at IS NULL) THEN 'Status and finished_at do not agree.' END,
        CASE WHEN r.status NOT IN ('skipped', 'cancelled') AND r.started_at IS NULL THEN 'It has no start.' END,
        CASE WHEN (r.status IN ('failed', 'cancelled')) <> (r.error IS NOT NULL) THEN 'Status and error do not agree.' END,
        CASE WHEN (r.status IN ('succeeded', 'compensated')) <> (r.output IS NOT NULL) THEN 'Status and output do not agree.' END,
        CASE WHEN r.status IN ('running', 'waiting') AND r.started_seq IS NULL THEN 'It is open and no event tells its start.' END,
        CASE WHEN r.status = 'running' AND r.epoch IS NULL THEN 'It is running and belongs to no start of the engine.' END,
        CASE WHEN r.status = 'pending' OR (r.status = 'skipped' AND (r.attempt > 1 OR r.item > 0)) THEN 'No node run can be so.' END,
        CASE WHEN r.item < 0 OR r.attempt < 1 THEN 'Item and attempt begin at 0 and 1.' END,
        CASE WHEN r.seq < 1 OR r.started_seq > r.seq THEN format('Its start is event %s, its newest %s.', r.started_seq, r.seq) END,
        CASE WHEN r.cost < 0 OR (r.cost IS NOT NULL AND r.status NOT IN ('succeeded', 'compensated')
                                -- An outside call that failed or was cut may have used something all the same.
                                AND (r.status NOT IN ('failed', 'cancelled') OR r.epoch IS NULL)) THEN format('It cost %s.', r.cost) END), '');

CREATE FUNCTION goya_private.check_runs(OUT code text, OUT subject text, OUT detail text) RETURNS SETOF record
    LANGUAGE sql STABLE ROWS 100 SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        WITH plan AS MATERIALIZED (
            SELECT n.workflow_id, n.revision, n.node AS place, n.key, n.part, n.owner, n.edges_in, n.join_any, n.handles_failure FROM goya_private.check_nodes() n),
        -- Targets before sources: left alone, the planner joins all nodes of a revision with each other first.
        targets AS MATERIALIZED (
            SELECT e.workflow_id, e.revision, e.source, p.place AS target, p.join_any
            FROM goya_private.check_edges() e
            JOIN plan p ON p.workflow_id = e.workflow_id AND p.revision = e.revision AND p.key = e.target AND p.part = 'listed'),
        edges AS MATERIALIZED (
            SELECT e.workflow_id, e.revision, e.target, o.place AS source, o.key AS source_key, e.join_any
            FROM targets e JOIN plan o ON o.workflow_id = e.workflow_id AND o.revision = e.revision AND o.key = e.source AND o.part = 'listed'),
        tasks AS MATERIALIZED (
            SELECT t.id, t.tenant_id, t.workflow_id, t.revision, t.status, t.failing, t.done_nodes, t.last_seq, t.started_seq, t.finished_seq FROM goya.tasks t),
        newest AS MATERIALIZED (SELECT coalesce(max(e.epoch), 0) AS epoch FROM goya_private.engine e),
        -- Each run with its task and node, what is wrong with it, and, for runs of listed nodes, what decides about others.
        runs AS MATERIALIZED (
            SELECT r.task_id, r.node, r.item, r.attempt, r.status, r.seq, r.started_seq, r.epoch, t.id AS task, t.last_seq, t.workflow_id, t.revision, p.place, p.key,
                   p.part, p.edges_in, p.join_any,
                   CASE WHEN r.status = 'compensated' THEN 0
                        WHEN r.status IN ('succeeded', 'skipped') OR (r.status = 'failed' AND coalesce(r.message, '') NOT LIKE 'will retry %') THEN r.seq END AS ended,
                   r.status IN ('succeeded', 'skipped', 'compensated')
                   OR (r.status = 'failed' AND p.handles_failure AND coalesce(r.message, '') NOT LIKE 'will retry %') AS done,
                   goya_private.check_run_row(r) AS wrong, t.tenant_id IS DISTINCT FROM r.tenant_id AS no_task,
                   t.id IS NOT NULL AND (p.key IS NULL OR (r.item > 0 AND p.part <> 'body')) AS no_node,
                   r.seq > t.last_seq AS high, r.seq IN (t.started_seq, t.finished_seq) OR r.started_seq IN (t.started_seq, t.finished_seq) AS twice,
                   r.status = 'running' AND r.epoch > n.epoch AS ahead
            FROM goya.node_runs r CROSS JOIN newest n LEFT JOIN tasks t ON t.id = r.task_id
            LEFT JOIN plan p ON p.workflow_id = t.workflow_id AND p.revision = t.revision AND p.key = r.node),
        listed AS NOT MATERIALIZED (
            SELECT r.task_id, r.place, r.workflow_id, r.revision, r.edges_in, r.join_any, r.attempt, r.status, coalesce(r.started_seq, r.seq) AS began, r.ended, r.done
            FROM runs r WHERE r.part = 'listed' AND r.item = 0),
        done AS (SELECT l.task_id, count(*) AS nodes FROM listed l WHERE l.done GROUP BY l.task_id),
        sizes AS (SELECT x.workflow_id, x.revision, count(*) AS nodes FROM plan x WHERE x.part = 'listed' GROUP BY x.workflow_id, x.revision),
        -- A run and a node before it that had not ended; of join any, which needs one of them, all.
        early AS (
            SELECT r.task_id, r.place, r.began, e.join_any, e.source_key, f.ended
            FROM listed r JOIN edges e ON e.workflow_id = r.workflow_id AND e.revision = r.revision AND e.target = r.place
            LEFT JOIN listed f ON f.task_id = r.task_id AND f.place = e.source AND f.ended IS NOT NULL
            WHERE r.edges_in > 0 AND r.attempt = 1 AND r.status NOT IN ('compensated', 'cancelled') AND (f.ended IS NULL OR f.ended > r.began OR e.join_any))
        SELECT v.code, r.task_id::text, format('Node "%s" item %s attempt %s is %s: %s', r.node, r.item, r.attempt, r.status, v.detail)
        FROM runs r
        CROSS JOIN LATERAL (VALUES
            ('run_row', r.wrong IS NOT NULL, r.wrong),
            ('run_without_task', r.no_task, CASE WHEN r.task IS NULL THEN 'its task is not there.' ELSE 'its task is of another tenant.' END),
            ('run_node', r.no_node, CASE WHEN r.key IS NULL THEN 'the workflow has no such node.' ELSE 'only items of a map have a number.' END),
            ('seq_high', r.high, format('it has event %s, and the newest of the task is %s.', r.seq, r.last_seq)),
            ('seq_twice', r.twice, 'it has the number of the task''s start or end.'),
            ('epoch_ahead', r.ahead, format('it began at start %s of the engine, which is not yet.', r.epoch))) v(code, broken, detail)
        WHERE (r.wrong IS NOT NULL OR r.no_task OR r.no_node OR r.high OR r.twice OR r.ahead) AND v.broken
        UNION ALL
        -- Attempts follow each other: each but the first comes after one that failed and said that there would be another.
        SELECT CASE WHEN p.status IN ('succeeded', 'compensated') THEN 'done_twice' ELSE 'run_attempt' END, r.task_id::text,
               format('Node "%s" item %s has attempt %s, and attempt %s %s.', r.node, r.item, r.attempt, r.attempt - 1, coalesce('is ' || p.status, 'is not there'))
        FROM goya.node_runs r LEFT JOIN goya.node_runs p ON p.task_id = r.task_id AND p.node = r.node AND p.item = r.item AND p.attempt = r.attempt - 1
        WHERE r.attempt > 1 AND NOT coalesce(p.status = 'failed' AND p.message LIKE 'will retry %', false)
        UNION ALL
        SELECT v.code, c.id::text, format(v.detail, c.done_nodes, c.ended, c.nodes)
        FROM (SELECT t.id, t.done_nodes, coalesce(d.nodes, 0) AS ended, s.nodes, t.done_nodes <> coalesce(d.nodes, 0) AS miscounted,
                     t.status = 'succeeded' AND coalesce(d.nodes, 0) <> s.nodes AS incomplete
              FROM tasks t LEFT JOIN done d ON d.task_id = t.id LEFT JOIN sizes s ON s.workflow_id = t.workflow_id AND s.revision = t.revision) c
        CROSS JOIN LATERAL (VALUES ('done_count', c.miscounted, 'done_nodes is %s; %s nodes have ended.'),
                                   ('task_incomplete', c.incomplete, 'It has succeeded; done_nodes is %s, and %s of %s nodes have ended.')) v(code, broken, detail)
        WHERE (c.miscounted OR c.incomplete) AND v.broken
        UNION ALL
        SELECT 'run_too_early', b.task_id::text, format('Node %s began at event %s, before "%s" had ended.', b.place, b.began, min(b.source_key))
        FROM early b GROUP BY b.task_id, b.place, b.began, b.join_any
        HAVING NOT b.join_any OR coalesce(min(b.ended) > b.began, true)
        UNION ALL
        -- A node is undone exactly when its compensation has succeeded, and only when the task has failed.
        SELECT 'compensation_run', coalesce(u.task_id, n.task_id)::text,
               format('Node "%s" %s, and its compensation %s; the task is %s.', coalesce(n.node, u.owner), coalesce('is ' || n.status, 'has not succeeded'),
                      coalesce('is ' || u.status, 'has not run'), coalesce(u.task_status, n.task_status))
        FROM (SELECT x.task_id, x.status, p.owner, t.status AS task_status, t.failing OR t.status IN ('failed', 'cancelling') AS may
              FROM plan p JOIN tasks t ON t.workflow_id = p.workflow_id AND t.revision = p.revision JOIN goya.node_runs x ON x.task_id = t.id AND x.node = p.key
              WHERE p.part = 'undo' AND x.status <> 'cancelled' AND NOT (x.status = 'failed' AND coalesce(x.message, '') LIKE 'will retry %')) u
        FULL JOIN (SELECT y.task_id, y.node, y.status, t.status AS task_status
                   FROM plan p JOIN tasks t ON t.workflow_id = p.workflow_id AND t.revision = p.revision JOIN goya.node_runs y ON y.task_id = t.id AND y.node = p.owner
                   WHERE p.part = 'undo' AND y.item = 0 AND y.status IN ('succeeded', 'compensated')) n
             ON n.task_id = u.task_id AND n.node = u.owner
        WHERE coalesce(n.status = 'compensated', false) <> coalesce(u.status = 'succeeded', false) OR (u.task_id IS NOT NULL AND (n.task_id IS NULL OR NOT u.may))
        UNION ALL
        -- With those above, every event of a task has a number of its own.
        SELECT 'seq_twice', e.task_id::text, format('%s events have number %s.', count(*), e.seq)
        FROM (SELECT r.task_id, r.seq FROM runs r
              UNION ALL SELECT r.task_id, r.started_seq FROM runs r WHERE r.started_seq < r.seq
              UNION ALL SELECT l.task_id, l.seq FROM goya_private.task_log l) e
        GROUP BY e.task_id, e.seq HAVING count(*) > 1
        UNION ALL
        SELECT CASE WHEN l.seq > t.last_seq THEN 'seq_high' ELSE 'seq_twice' END, l.task_id::text, format('Its log has event %s; the newest is %s.', l.seq, t.last_seq)
        FROM goya_private.task_log l JOIN tasks t ON t.id = l.task_id WHERE l.seq > t.last_seq OR l.seq IN (t.started_seq, t.finished_seq);
    END;
