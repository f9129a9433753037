-- 63_check_rest.sql: what goya.check() asks of everything beside tasks and money: references to tasks and tenants, events, slots of triggers, definitions,
-- context, artifacts and assets. See 63_check.sql for how.
--
-- Decided: what a user may write as it likes is not asked for: an asset's parent_id, a role's name. Events, slots and keys are never deleted by goya
-- while what they tell of is there.

-- State of a context as its snapshots and patches say.
CREATE FUNCTION goya_private.check_context(task_id uuid, version integer) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    known record;
    patch jsonb;
BEGIN
    SELECT s.version, s.state INTO known FROM goya.context_snapshots s
    WHERE s.task_id = check_context.task_id AND s.version <= check_context.version ORDER BY s.version DESC LIMIT 1;
    FOR patch IN SELECT p.diff FROM goya.context_patches p
                 WHERE p.task_id = check_context.task_id AND p.version > known.version AND p.version <= check_context.version ORDER BY p.version LOOP
        known.state := goya_private.fold_context(known.state, patch);
    END LOOP;
    RETURN known.state;
END;
$$;

CREATE FUNCTION goya_private.check_rest(OUT code text, OUT subject text, OUT detail text) RETURNS SETOF record
    LANGUAGE sql STABLE ROWS 100 SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        WITH tasks AS MATERIALIZED (
            SELECT t.id, t.tenant_id, t.workflow_id, t.revision, t.depth, t.trigger_id, t.status, t.status IN ('succeeded', 'failed', 'cancelled') AS ended FROM goya.tasks t),
        nodes AS MATERIALIZED (SELECT n.workflow_id, n.revision, n.node, n.key FROM goya_private.check_nodes() n),
        -- Everything that names a task; tenant null: the table has no such column.
        refers AS (
            SELECT 'goya_private.ready' AS name, x.task_id, NULL::uuid AS tenant_id FROM goya_private.ready x
            UNION ALL SELECT 'goya_private.parked', x.task_id, NULL FROM goya_private.parked x
            UNION ALL SELECT 'goya_private.timers', x.task_id, NULL FROM goya_private.timers x
            UNION ALL SELECT 'goya_private.joins', x.task_id, NULL FROM goya_private.joins x
            UNION ALL SELECT 'goya_private.maps', x.task_id, NULL FROM goya_private.maps x
            UNION ALL SELECT 'goya_private.signals', x.task_id, NULL FROM goya_private.signals x
            UNION ALL SELECT 'goya_private.cancel_requests', x.task_id, NULL FROM goya_private.cancel_requests x
            UNION ALL SELECT 'goya_private.work', x.task_id, x.tenant_id FROM goya_private.work x
            UNION ALL SELECT 'goya_private.callbacks', x.task_id, NULL FROM goya_private.callbacks x
            UNION ALL SELECT 'goya_private.task_log', x.task_id, x.tenant_id FROM goya_private.task_log x
            UNION ALL SELECT 'goya.approvals', x.task_id, x.tenant_id FROM goya.approvals x
            UNION ALL SELECT 'goya.artifacts', x.task_id, x.tenant_id FROM goya.artifacts x
            UNION ALL SELECT 'goya.agent_sessions', x.task_id, x.tenant_id FROM goya.agent_sessions x
            UNION ALL SELECT 'goya.agent_messages', x.task_id, x.tenant_id FROM goya.agent_messages x
            UNION ALL SELECT 'goya.tool_calls', x.task_id, x.tenant_id FROM goya.tool_calls x
            UNION ALL SELECT 'goya.task_contexts', x.task_id, x.tenant_id FROM goya.task_contexts x
            UNION ALL SELECT 'goya.context_patches', x.task_id, x.tenant_id FROM goya.context_patches x
            UNION ALL SELECT 'goya.context_snapshots', x.task_id, x.tenant_id FROM goya.context_snapshots x
            UNION ALL SELECT 'goya.assets', x.task_id, x.tenant_id FROM goya.assets x WHERE x.task_id IS NOT NULL
            UNION ALL SELECT 'goya.events', x.task_id, x.tenant_id FROM goya.events x WHERE x.task_id IS NOT NULL),
        owned AS (
            SELECT 'goya.tasks' AS name, x.tenant_id FROM goya.tasks x GROUP BY x.tenant_id
            UNION ALL SELECT 'goya.assets', x.tenant_id FROM goya.assets x GROUP BY x.tenant_id
            UNION ALL SELECT 'goya.events', x.tenant_id FROM goya.events x GROUP BY x.tenant_id
            UNION ALL SELECT 'goya_private.event_queue', x.tenant_id FROM goya_private.event_queue x GROUP BY x.tenant_id
            UNION ALL SELECT 'goya.workflows', x.tenant_id FROM goya.workflows x GROUP BY x.tenant_id
            UNION ALL SELECT 'goya.operators', x.tenant_id FROM goya.operators x GROUP BY x.tenant_id
            UNION ALL SELECT 'goya.tool_policies', x.tenant_id FROM goya.tool_policies x GROUP BY x.tenant_id
            UNION ALL SELECT 'goya.node_kinds', x.tenant_id FROM goya.node_kinds x GROUP BY x.tenant_id
            UNION ALL SELECT 'goya.algorithms', x.tenant_id FROM goya.algorithms x GROUP BY x.tenant_id
            UNION ALL SELECT 'goya.models', x.tenant_id FROM goya.models x GROUP BY x.tenant_id
            UNION ALL SELECT 'goya.prompts', x.tenant_id FROM goya.prompts x GROUP BY x.tenant_id
            UNION ALL SELECT 'goya.schemas', x.tenant_id FROM goya.schemas x GROUP BY x.tenant_id
            UNION ALL SELECT 'goya.secrets', x.tenant_id FROM goya.secrets x GROUP BY x.tenant_id
            UNION ALL SELECT 'goya_private.tenant_keys', x.tenant_id FROM goya_private.tenant_keys x GROUP BY x.tenant_id
            UNION ALL SELECT 'goya_private.trial_rates', x.tenant_id FROM goya_private.trial_rates x
            UNION ALL SELECT 'goya.wallets', x.tenant_id FROM goya.wallets x
            UNION ALL SELECT 'goya.wallet_entries', x.tenant_id FROM goya.wallet_entries x GROUP BY x.tenant_id
            UNION ALL SELECT 'goya.holds', x.tenant_id FROM goya.holds x GROUP BY x.tenant_id
            UNION ALL SELECT 'goya.prices', x.tenant_id FROM goya.prices x WHERE x.tenant_id IS NOT NULL GROUP BY x.tenant_id
            UNION ALL SELECT 'goya_private.idempotency_keys', x.tenant_id FROM goya_private.idempotency_keys x GROUP BY x.tenant_id
            UNION ALL SELECT 'goya_private.billing_references', x.tenant_id FROM goya_private.billing_references x GROUP BY x.tenant_id),
        told AS MATERIALIZED (
            SELECT e.task_id, count(*) AS events, min(e.subject_id::text) AS subject FROM goya.events e WHERE e.type = 'task_completed' GROUP BY e.task_id),
        contexts AS MATERIALIZED (
            SELECT c.task_id, c.version, coalesce(p.patches, 0) AS patches, coalesce(p.newest, 0) AS newest, coalesce(s.snapshots, 0) AS snapshots, coalesce(s.aside, 0) AS aside
            FROM goya.task_contexts c
            LEFT JOIN (SELECT x.task_id, count(*) AS patches, max(x.version) AS newest FROM goya.context_patches x GROUP BY x.task_id) p ON p.task_id = c.task_id
            LEFT JOIN (SELECT x.task_id, count(*) AS snapshots, count(*) FILTER (WHERE x.version % 20 <> 0) AS aside FROM goya.context_snapshots x GROUP BY x.task_id) s
                 ON s.task_id = c.task_id)
        SELECT 'row_without_task', r.task_id::text, format('%s has %s rows of it, and %s.', r.name, count(*),
                                                           CASE WHEN t.id IS NULL THEN 'there is no such task' ELSE 'they are of another tenant' END)
        FROM refers r LEFT JOIN tasks t ON t.id = r.task_id WHERE t.id IS NULL OR r.tenant_id <> t.tenant_id GROUP BY r.task_id, r.name, t.id
        UNION ALL
        SELECT 'tenant_missing', o.tenant_id::text, format('%s has rows of a tenant that is not there.', o.name)
        FROM owned o LEFT JOIN goya.tenants n ON n.id = o.tenant_id WHERE n.id IS NULL
        UNION ALL
        SELECT 'completion_told', coalesce(t.id, d.task_id)::text, format('It is %s, and its end was told %s times%s.', t.status, coalesce(d.events, 0),
                                                                     CASE WHEN d.subject <> d.task_id::text THEN ', of another subject' END)
        FROM tasks t FULL JOIN told d ON d.task_id = t.id
        WHERE t.id IS NOT NULL AND (coalesce(d.events, 0) <> t.ended::integer OR d.subject <> d.task_id::text)
        UNION ALL
        SELECT 'secret_row', coalesce(s.tenant_id, v.tenant_id)::text, format('Secret "%s" %s.', coalesce(s.name, v.name),
               CASE WHEN v.name IS NULL THEN 'has no value' WHEN s.name IS NULL THEN 'is not there, and its value is'
                    ELSE format('is sealed with key "%s", not "%s"', goya_private.sealed_with(v.sealed), s.key_id) END)
        FROM goya.secrets s FULL JOIN goya_private.secret_values v ON v.tenant_id = s.tenant_id AND v.name = s.name
        WHERE s.name IS NULL OR v.name IS NULL OR goya_private.sealed_with(v.sealed) IS DISTINCT FROM s.key_id
        UNION ALL
        SELECT 'event_twice', e.subject_id::text, format('The asset was published as new %s times.', count(*))
        FROM goya.events e WHERE e.type = 'asset_new' GROUP BY e.subject_id HAVING count(*) > 1
        UNION ALL
        SELECT 'event_row', e.id::text, format('Event %s has depth %s, what it tells of %s.', e.type, e.depth, coalesce(t.depth, a.depth))
        FROM goya.events e
        LEFT JOIN tasks t ON t.id = e.subject_id AND e.type = 'task_completed'
        LEFT JOIN goya.assets a ON a.id = e.subject_id AND e.type = 'asset_new'
        WHERE e.depth < 0 OR e.depth <> coalesce(t.depth, a.depth)
        UNION ALL
        SELECT 'event_queue', q.event_id::text, 'It is queued, and there is no such event of that tenant.'
        FROM goya_private.event_queue q LEFT JOIN goya.events e ON e.id = q.event_id AND e.tenant_id = q.tenant_id WHERE e.id IS NULL
        UNION ALL
        SELECT 'slot_row', s.trigger_id::text, format('Its slot "%s" %s.', s.slot, CASE WHEN g.id IS NULL THEN 'is of a trigger that is not there' WHEN s.task_id IS NULL THEN 'has no task'
                                                      WHEN t.id IS NULL THEN 'has task ' || s.task_id || ', which is not there' ELSE 'has a task of another trigger or tenant' END)
        FROM goya_private.trigger_slots s LEFT JOIN goya.triggers g ON g.id = s.trigger_id LEFT JOIN tasks t ON t.id = s.task_id
        WHERE g.id IS NULL OR t.trigger_id IS DISTINCT FROM s.trigger_id OR t.tenant_id IS DISTINCT FROM g.tenant_id
        UNION ALL
        SELECT 'revision_row', w.id::text, concat_ws(' ',
                   CASE WHEN w.revision IS NOT NULL AND coalesce(r.active, 0) <> 1 THEN format('Its active revision %s is not there.', w.revision) END,
                   CASE WHEN r.newest <> r.revisions OR (r.newest IS NOT NULL AND w.revision IS NULL) THEN format('It has %s revisions up to %s, and %s is active.', r.revisions, r.newest, coalesce(w.revision::text, 'none')) END,
                   CASE WHEN r.foreign_rows > 0 THEN 'Revisions are of another tenant.' END,
                   CASE WHEN r.broken > 0 THEN format('%s revisions cannot be compiled.', r.broken) END)
        FROM goya.workflows w
        LEFT JOIN (SELECT v.workflow_id, count(*) AS revisions, max(v.revision) AS newest, count(*) FILTER (WHERE v.tenant_id <> x.tenant_id) AS foreign_rows,
                          count(*) FILTER (WHERE v.revision = x.revision) AS active, count(*) FILTER (WHERE n.workflow_id IS NULL) AS broken
                   FROM goya.workflow_revisions v JOIN goya.workflows x ON x.id = v.workflow_id
                   LEFT JOIN (SELECT DISTINCT m.workflow_id, m.revision FROM nodes m) n ON n.workflow_id = v.workflow_id AND n.revision = v.revision
                   GROUP BY v.workflow_id) r ON r.workflow_id = w.id
        WHERE (w.revision IS NOT NULL AND coalesce(r.active, 0) <> 1) OR r.newest <> r.revisions OR (r.newest IS NOT NULL AND w.revision IS NULL)
           OR r.foreign_rows > 0 OR r.broken > 0
        UNION ALL
        SELECT 'trigger_row', g.id::text, concat_ws(' ',
                   CASE WHEN g.tenant_id <> w.tenant_id THEN 'Its workflow is of another tenant.' END,
                   CASE WHEN g.enabled AND w.enabled AND ((g.kind = 'interval' AND g.next_due IS NULL) OR (g.kind = 'cron' AND g.cron_job_id IS NULL))
                        THEN 'It is enabled, and has no next slot or job.' END,
                   CASE WHEN NOT (g.enabled AND w.enabled) AND (g.next_due IS NOT NULL OR g.cron_job_id IS NOT NULL) THEN 'It does not fire, and has a next slot or job.' END)
        FROM goya.triggers g JOIN goya.workflows w ON w.id = g.workflow_id
        WHERE g.tenant_id <> w.tenant_id OR (g.enabled AND w.enabled AND g.kind = 'interval' AND g.next_due IS NULL)
           OR (g.enabled AND w.enabled AND g.kind = 'cron' AND g.cron_job_id IS NULL)
           OR (NOT (g.enabled AND w.enabled) AND (g.next_due IS NOT NULL OR g.cron_job_id IS NOT NULL))
        UNION ALL
        SELECT 'context_version', c.task_id::text, format('Version %s has %s patches up to %s and %s snapshots.', c.version, c.patches, c.newest, c.snapshots)
        FROM contexts c WHERE c.version <> c.patches OR c.version <> c.newest OR c.snapshots <> c.version / 20 + 1 OR c.aside > 0
        UNION ALL
        SELECT 'context_state', c.task_id::text, format('Its state is not what version %s comes to.', c.version)
        FROM contexts c JOIN goya.task_contexts k ON k.task_id = c.task_id
        WHERE k.state IS DISTINCT FROM goya_private.check_context(c.task_id, c.version)
        UNION ALL
        -- An artifact comes from a node run that succeeded; of type asset it has its child asset, from the same task and node.
        SELECT 'artifact_row', a.id::text, concat_ws(' ',
                   CASE WHEN r.task_id IS NULL THEN format('Node "%s" of task %s has not succeeded.', a.node, a.task_id) END,
                   CASE WHEN (a.type = 'asset') <> (a.asset_id IS NOT NULL) THEN 'Type and asset_id do not agree.' END,
                   CASE WHEN a.asset_id IS NOT NULL AND s.id IS NULL THEN format('Its asset %s is not there, or of another task.', a.asset_id) END)
        FROM goya.artifacts a
        LEFT JOIN (SELECT DISTINCT x.task_id, x.node FROM goya.node_runs x JOIN (SELECT DISTINCT y.task_id FROM goya.artifacts y) y ON y.task_id = x.task_id
                   WHERE x.status IN ('succeeded', 'compensated')) r ON r.task_id = a.task_id AND r.node = a.node
        LEFT JOIN goya.assets s ON s.id = a.asset_id AND s.tenant_id = a.tenant_id AND s.task_id = a.task_id AND s.node = a.node
        WHERE r.task_id IS NULL OR (a.type = 'asset') <> (a.asset_id IS NOT NULL) OR (a.asset_id IS NOT NULL AND s.id IS NULL)
        UNION ALL
        SELECT 'asset_row', s.id::text, concat_ws(' ',
                   CASE WHEN s.task_id IS NULL OR s.node IS NULL OR s.item IS NULL THEN 'task_id, node and item do not agree.' END,
                   CASE WHEN s.depth <> coalesce(t.depth, 0) THEN format('Its depth is %s, that of task %s %s.', s.depth, s.task_id, t.depth) END,
                   CASE WHEN s.node IS NOT NULL AND t.id IS NOT NULL AND r.task_id IS NULL THEN format('It was made by node "%s" of task %s, which has not succeeded.', s.node, t.id) END)
        FROM goya.assets s LEFT JOIN tasks t ON t.id = s.task_id
        LEFT JOIN (SELECT DISTINCT x.task_id, x.node FROM goya.node_runs x JOIN (SELECT DISTINCT y.task_id FROM goya.assets y WHERE y.task_id IS NOT NULL) y ON y.task_id = x.task_id
                   WHERE x.status IN ('succeeded', 'compensated')) r ON r.task_id = s.task_id AND r.node = s.node
        WHERE (s.task_id IS NULL) <> (s.node IS NULL) OR (s.task_id IS NULL) <> (s.item IS NULL) OR (t.id IS NOT NULL AND s.depth <> t.depth)
           OR (s.task_id IS NULL AND s.depth <> 0) OR (t.id IS NOT NULL AND s.node IS NOT NULL AND r.task_id IS NULL);
    END;
