-- 53_retry.sql: running an ended task again from where it failed, or from a chosen node.
--
-- Decided: a retry is a new task of the same revision in which what succeeded, and depends on nothing that runs again, counts as done: its
-- node runs are copied (no usage, no cost) and the queue starts at the frontier. Skipped nodes are copied too, since they are a decision.
-- Must hold: a node that runs again has heard of each copied upstream node exactly once (goya_private.joins), as if it had ended just now.

-- Value of an edge's condition over the roots, as the engine takes it: true, or anything found by a path with a filter.
CREATE FUNCTION goya_private.test_edge(condition text, roots jsonb) RETURNS boolean
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
    RETURN coalesce(jsonb_path_query_first(roots, condition::jsonpath, '{}', true) NOT IN ('false', 'null'), false);

-- Which nodes of an ended task run again: the seed and what did not succeed, and all that comes after them.
CREATE FUNCTION goya_private.nodes_to_rerun(task_id uuid, definition jsonb, from_node text) RETURNS SETOF text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        WITH RECURSIVE edges AS MATERIALIZED (
            SELECT e ->> 'from' AS source, e ->> 'to' AS target FROM jsonb_array_elements(definition -> 'edges') e),
        seeds AS (
            SELECT n ->> 'key' AS key
            FROM jsonb_array_elements(definition -> 'nodes') n
            WHERE n ->> 'key' = from_node
               OR coalesce((SELECT r.status FROM goya.node_runs r
                            WHERE r.task_id = nodes_to_rerun.task_id AND r.node = n ->> 'key' AND r.item = 0
                            ORDER BY r.attempt DESC LIMIT 1) NOT IN ('succeeded', 'skipped'), true)),
        rerun AS (
            SELECT key FROM seeds
            UNION
            SELECT e.target FROM edges e JOIN rerun ON e.source = rerun.key)
        SELECT key FROM rerun;
    END;

-- Copies results, takes the queue rows start_task made away and puts those of the frontier in their place.
CREATE FUNCTION goya_private.seed_retry(old_task goya.tasks, new_task_id uuid, resolved jsonb, rerun text[]) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    copied integer;
    started integer := 0;
    done integer;
    roots jsonb;
    target record;
BEGIN
    DELETE FROM goya_private.ready q WHERE q.task_id = new_task_id;
    DELETE FROM goya_private.timers q WHERE q.task_id = new_task_id;
    DELETE FROM goya_private.joins q WHERE q.task_id = new_task_id;

    -- The last attempt of each listed node that stays, and of the items of its body if it is a map.
    INSERT INTO goya.node_runs (task_id, node, item, attempt, tenant_id, status, seq, message, input, output, error, started_at, finished_at)
    SELECT new_task_id, r.node, r.item, 1, r.tenant_id, r.status, 1 + row_number() OVER (ORDER BY r.seq),
           format('copied from task %s', old_task.id), goya_private.keep_value(r.tenant_id, r.input), goya_private.keep_value(r.tenant_id, r.output), r.error, r.started_at, r.finished_at
    FROM (SELECT DISTINCT ON (n.node, n.item) n.* FROM goya.node_runs n WHERE n.task_id = old_task.id
          ORDER BY n.node, n.item, n.attempt DESC) r
    JOIN goya_private.plan_nodes(resolved) p ON p.key = r.node
    LEFT JOIN goya_private.plan_nodes(resolved) o ON o.node = p.owner
    WHERE (p.listed AND p.key <> ALL (rerun) AND r.item = 0)
       OR (NOT p.listed AND o.kind = 'map' AND o.key <> ALL (rerun));
    GET DIAGNOSTICS copied = ROW_COUNT;
    SELECT count(*) INTO done FROM jsonb_array_elements(resolved -> 'nodes') n WHERE n ->> 'key' <> ALL (rerun);
    PERFORM goya_private.copy_context(old_task.id, new_task_id, rerun);

    roots := jsonb_build_object('input', goya_private.open_value(old_task.tenant_id, old_task.input), 'trigger', old_task.trigger,
        'asset', (SELECT to_jsonb(a) FROM goya.assets a WHERE a.id = old_task.asset_id),
        'nodes', (SELECT coalesce(jsonb_object_agg(r.node, jsonb_build_object('output', goya_private.open_value(r.tenant_id, r.output), 'status', r.status, 'error', r.error)), '{}')
                  FROM goya.node_runs r WHERE r.task_id = new_task_id AND r.item = 0),
        'task', jsonb_build_object('id', new_task_id, 'trace_id', old_task.trace_id))
        || coalesce((SELECT c.state FROM goya.task_contexts c WHERE c.task_id = new_task_id), '{}');

    -- What each node that runs again has already heard of those that do not.
    FOR target IN
        WITH heard AS (
            SELECT e.edge ->> 'to' AS key,
                   CASE WHEN e.edge ->> 'from' = ANY (rerun) THEN NULL
                        ELSE r.status = 'succeeded' AND coalesce(e.edge ->> 'on', 'success') IN ('success', 'always')
                             AND (NOT e.edge ? 'case' OR goya_private.open_value(r.tenant_id, r.output) ->> 'case' = e.edge ->> 'case')
                             AND (NOT e.edge ? 'when' OR goya_private.test_edge(e.edge ->> 'when', roots)) END AS fired
            FROM jsonb_array_elements(resolved -> 'edges') e(edge)
            LEFT JOIN goya.node_runs r ON r.task_id = new_task_id AND r.node = e.edge ->> 'from' AND r.item = 0)
        SELECT p.node, p.kind, count(h.key) AS edges, count(*) FILTER (WHERE h.fired) AS fired,
               count(*) FILTER (WHERE NOT h.fired) AS dead, coalesce(n.definition ->> 'join', 'all') = 'any' AS join_any
        FROM goya_private.plan_nodes(resolved) p
        JOIN LATERAL (SELECT d AS definition FROM jsonb_array_elements(resolved -> 'nodes') d WHERE d ->> 'key' = p.key) n ON true
        LEFT JOIN heard h ON h.key = p.key
        WHERE p.listed AND p.key = ANY (rerun)
        GROUP BY p.node, p.kind, n.definition
        ORDER BY p.node
    LOOP
        IF target.edges = target.fired + target.dead OR (target.join_any AND target.fired > 0) THEN
            PERFORM goya_private.enqueue(new_task_id, old_task.tenant_id, old_task.priority, target.node, 0, 1, 0,
                                         CASE WHEN target.kind IN ('http', 'ai_model', 'mcp', 'cli') THEN 1 ELSE 0 END);
            started := started + 1;
        END IF;
        -- A complete join has no row; join any that has begun keeps one until its last edge, so that it begins once.
        IF target.edges > target.fired + target.dead AND target.fired + target.dead > 0 THEN
            INSERT INTO goya_private.joins (task_id, node, fired, dead, started)
            VALUES (new_task_id, target.node, target.fired, target.dead, target.join_any AND target.fired > 0);
        END IF;
    END LOOP;
    UPDATE goya.tasks t
    SET active = started, done_nodes = done, last_seq = greatest(t.last_seq, copied + 1),
        progress = 100.0 * done / greatest(jsonb_array_length(resolved -> 'nodes'), 1)
    WHERE t.id = new_task_id;
END;
$$;

CREATE FUNCTION goya.retry(task_id uuid, from_node text DEFAULT NULL) RETURNS uuid
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    task goya.tasks := goya_private.own_task(retry.task_id, true);
    caller name := goya.current_caller();
    revision goya.workflow_revisions;
    rerun text[];
    new_task_id uuid;
BEGIN
    IF NOT goya_private.is_terminal(task.status) THEN
        RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = 'cannot retry a task that has not ended',
            DETAIL = format('Task %s is %s.', task.id, task.status), HINT = 'goya.cancel ends it; goya.wait_for_task waits for its end.';
    END IF;
    SELECT r.* INTO revision FROM goya.workflow_revisions r
    WHERE r.workflow_id = task.workflow_id AND r.revision = task.revision;
    IF NOT FOUND THEN
        PERFORM goya_private.not_found('workflow', task.workflow_id::text, 'It was deleted since the task ran.');
    END IF;
    IF retry.from_node IS NOT NULL AND NOT EXISTS (
        SELECT FROM jsonb_array_elements(revision.resolved -> 'nodes') n WHERE n ->> 'key' = retry.from_node) THEN
        RAISE EXCEPTION USING ERRCODE = 'PT404', MESSAGE = 'node not found',
            DETAIL = format('Revision %s of the workflow has no node "%s".', task.revision, retry.from_node),
            HINT = 'goya.explain_workflow shows its nodes.';
    END IF;
    rerun := ARRAY(SELECT goya_private.nodes_to_rerun(task.id, revision.resolved, retry.from_node));
    IF cardinality(rerun) = 0 THEN
        RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = 'nothing to retry',
            DETAIL = format('Every node of task %s succeeded or was skipped.', task.id),
            HINT = 'Name the node to run again from, or start a new task with goya.run.';
    END IF;
    -- The new task acts for the same role when the caller may act for it, otherwise for the caller.
    new_task_id := goya_private.start_task(task.tenant_id,
        CASE WHEN to_regrole(quote_ident(task.run_as)) IS NOT NULL AND pg_has_role(caller, task.run_as, 'MEMBER')
                  AND (caller = task.run_as OR NOT (SELECT rolsuper FROM pg_roles WHERE rolname = task.run_as))
             THEN task.run_as ELSE caller END,
        coalesce(goya.current_end_user(), task.created_by), task.workflow_id, goya_private.open_value(task.tenant_id, task.input), task.asset_id, NULL, task.priority::integer,
        task.trace_id, task.max_cost, NULL, task.depth::integer, task.trigger_id, task.trigger, task.id, NULL, NULL, task.revision);
    PERFORM goya_private.seed_retry(task, new_task_id, revision.resolved, rerun);
    PERFORM goya_private.wake();
    RETURN new_task_id;
END;
$$;
COMMENT ON FUNCTION goya.retry(uuid, text) IS
'Runs an ended task again, as a new task of the same revision with parent_task_id, and returns the new task''s id.
Without from_node: what failed, was cancelled or never ran, and all that comes after it; with it: that node too, and what comes after it. The
other nodes'' results are copied and cost nothing again; the context is rebuilt from what they wrote.
Errors: PT404 no such task or node, 55000 it has not ended, there is nothing to retry, or what it has is sealed with a master key that is not here; PT402 not enough money.
Example: SELECT goya.retry(''0190…'', ''transcode'');';
