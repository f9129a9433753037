-- 63_check_agents.sql: what goya.check() asks of sessions of agents: that they stand as their node runs do, that something of an open one goes on, and that
-- no tool ran which was not allowed to. See 63_check.sql for how.

CREATE FUNCTION goya_private.check_agents(OUT code text, OUT subject text, OUT detail text) RETURNS SETOF record
    LANGUAGE sql STABLE ROWS 100 SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        WITH agents AS MATERIALIZED (SELECT n.workflow_id, n.revision, n.node, n.key FROM goya_private.check_nodes() n WHERE n.kind = 'agent'),
        parts AS MATERIALIZED (
            SELECT n.workflow_id, n.revision, n.node, n.key, n.owner, substr(n.key, length(n.owner) + 2) AS part
            FROM goya_private.check_nodes() n
            JOIN agents a ON a.workflow_id = n.workflow_id AND a.revision = n.revision AND a.key = n.owner WHERE n.part = 'body'),
        tasks AS MATERIALIZED (
            SELECT t.id, t.workflow_id, t.revision, t.status IN ('pending', 'running', 'waiting') AND NOT t.failing AND c.task_id IS NULL AS going,
                   t.status IN ('succeeded', 'failed', 'cancelled') AS ended
            FROM goya.tasks t LEFT JOIN (SELECT DISTINCT x.task_id FROM goya_private.cancel_requests x) c ON c.task_id = t.id
            WHERE EXISTS (SELECT FROM agents a WHERE a.workflow_id = t.workflow_id AND a.revision = t.revision)),
        runs AS MATERIALIZED (
            SELECT r.task_id, r.node, r.item, r.status, r.message, p.owner, p.part, t.going
            FROM tasks t JOIN goya.node_runs r ON r.task_id = t.id
            JOIN parts p ON p.workflow_id = t.workflow_id AND p.revision = t.revision AND p.key = r.node),
        queued AS MATERIALIZED (
            SELECT q.task_id, p.key AS node, q.item, p.owner
            FROM (SELECT r.task_id, r.node, r.item, r.verb FROM goya_private.ready r
                  UNION ALL SELECT k.task_id, k.node, k.item, k.verb FROM goya_private.parked k
                  UNION ALL SELECT m.task_id, m.node, m.item, m.verb FROM goya_private.timers m) q
            JOIN tasks t ON t.id = q.task_id JOIN parts p ON p.workflow_id = t.workflow_id AND p.revision = t.revision AND p.node = q.node
            WHERE q.verb = 0),
        -- What goes on of each session.
        open AS MATERIALIZED (
            SELECT o.task_id, o.owner, count(*) AS calls
            FROM (SELECT r.task_id, r.owner, r.node, r.item FROM runs r WHERE r.status IN ('ready', 'running', 'waiting')
                  UNION SELECT q.task_id, q.owner, q.node, q.item FROM queued q) o
            GROUP BY o.task_id, o.owner),
        said AS MATERIALIZED (
            SELECT c.task_id, c.node, count(*) FILTER (WHERE c.status IN ('asking', 'running')) AS calls FROM goya.tool_calls c GROUP BY c.task_id, c.node)
        SELECT 'agent_session', coalesce(s.task_id, r.task_id)::text,
               format('The session of agent "%s" %s, and its node run %s.', coalesce(s.node, r.node), coalesce('is ' || s.status, 'is not there'), coalesce('is ' || r.status, 'is not there'))
        FROM goya.agent_sessions s
        FULL JOIN (SELECT x.task_id, x.node, x.status, t.going
                   FROM tasks t JOIN agents a ON a.workflow_id = t.workflow_id AND a.revision = t.revision JOIN goya.node_runs x ON x.task_id = t.id AND x.node = a.key
                   WHERE coalesce(x.message, '') NOT LIKE 'copied from task %') r ON r.task_id = s.task_id AND r.node = s.node
        WHERE coalesce(s.status = 'open', false) <> coalesce(r.status = 'waiting', false)
           OR (s.status = 'succeeded') <> (r.status IN ('succeeded', 'compensated')) OR (s.status = 'failed' AND r.status <> 'failed')
        UNION ALL
        SELECT 'agent_count', s.task_id::text,
               format('The session of agent "%s" has %s calls open, and %s node runs go on.', s.node, (s.open_item IS NOT NULL)::integer + coalesce(c.calls, 0), coalesce(o.calls, 0))
        FROM goya.agent_sessions s JOIN tasks t ON t.id = s.task_id AND t.going
        LEFT JOIN said c ON c.task_id = s.task_id AND c.node = s.node LEFT JOIN open o ON o.task_id = s.task_id AND o.owner = s.node
        WHERE s.status = 'open' AND ((s.open_item IS NOT NULL)::integer + coalesce(c.calls, 0) <> coalesce(o.calls, 0) OR coalesce(o.calls, 0) = 0)
        UNION ALL
        SELECT 'tool_call_row', c.task_id::text, format('Call %s of agent "%s" is %s: %s', c.item, c.node, c.status, v.wrong)
        FROM goya.tool_calls c LEFT JOIN goya.agent_sessions s ON s.task_id = c.task_id AND s.node = c.node
        -- Sealed still: its master key is not here.
        CROSS JOIN LATERAL (SELECT goya_private.peek_value(c.tenant_id, c.arguments) AS arguments) a
        CROSS JOIN LATERAL (SELECT concat_ws(' ',
            CASE WHEN s.task_id IS NULL OR s.tenant_id <> c.tenant_id THEN 'There is no such session of its tenant.' END,
            CASE WHEN c.item >= s.next_item THEN format('The next call of its session is %s.', s.next_item) END,
            CASE WHEN goya_private.value_key(a.arguments) IS NULL AND c.digest <> goya_private.tool_digest(coalesce(c.operator, c.tool), c.version, a.arguments) THEN 'Its digest is not that of its arguments.' END,
            CASE WHEN (c.status IN ('asking', 'running')) <> (c.finished_at IS NULL) THEN 'Status and finished_at do not agree.' END,
            CASE WHEN c.status IN ('asking', 'running') AND s.status <> 'open' THEN 'Its session is over.' END,
            CASE WHEN c.decision = 'approve' AND c.status IN ('running', 'succeeded', 'failed') AND c.approved_digest IS DISTINCT FROM c.digest THEN 'Nobody approved it.' END) AS wrong) v
        WHERE v.wrong <> ''
        UNION ALL
        -- What failed may have been refused at the last moment; nothing else may have begun without leave.
        SELECT 'tool_not_allowed', r.task_id::text, format('Tool "%s" of agent "%s" ran as call %s, which %s.', r.part, r.owner, r.item,
                                                           CASE WHEN c.task_id IS NULL THEN 'is not recorded' ELSE format('is "%s" of tool "%s"', c.decision, c.tool) END)
        FROM runs r LEFT JOIN goya.tool_calls c ON c.task_id = r.task_id AND c.node = r.owner AND c.item = r.item
        WHERE r.part NOT IN ('model', 'approval', 'verify') AND r.status NOT IN ('failed', 'cancelled')
          AND (c.task_id IS NULL OR c.tool <> r.part OR c.decision IN ('deny', 'invalid') OR (c.decision = 'approve' AND c.approved_digest IS NULL));
    END;
