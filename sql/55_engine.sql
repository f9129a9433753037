-- 55_engine.sql: routines the engine calls, and what administrators say to it.

-- Which copy of which cluster this is.
CREATE FUNCTION goya_private.system_id() RETURNS text
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'goya_system_id_sql';

-- Publishes task_completed for tasks that succeeded, where an enabled trigger of the tenant wants it.
CREATE FUNCTION goya_private.publish_completed(task_ids uuid[]) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM goya.triggers WHERE enabled AND kind = 'event' AND event = 'task_completed') THEN
        RETURN;
    END IF;
    PERFORM goya_private.publish_event(t.tenant_id, 'task_completed', t.id,
                jsonb_build_object('task_id', t.id, 'workflow_id', t.workflow_id, 'status', t.status), t.id, t.depth::integer)
        FROM goya.tasks t
        WHERE t.id = ANY (task_ids)
          AND EXISTS (SELECT FROM goya.triggers g WHERE g.tenant_id = t.tenant_id AND g.enabled AND g.kind = 'event' AND g.event = 'task_completed');
END;
$$;

-- A failing task begins to compensate: whatever else of it is open ends now. Its row is locked by the caller, who writes it.
CREATE FUNCTION goya_private.cancel_open_runs(task_id uuid) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE goya.node_runs n SET status = 'cancelled', finished_at = clock_timestamp(), message = 'the task failed'
        WHERE n.task_id = cancel_open_runs.task_id AND n.status IN ('pending', 'ready', 'running', 'waiting');
    UPDATE goya.approvals a SET status = 'cancelled', decided_at = clock_timestamp()
        WHERE a.task_id = cancel_open_runs.task_id AND a.status = 'pending';
    DELETE FROM goya_private.joins j WHERE j.task_id = cancel_open_runs.task_id;
    DELETE FROM goya_private.maps m WHERE m.task_id = cancel_open_runs.task_id;
    PERFORM goya_private.interrupt_task(cancel_open_runs.task_id);
END;
$$;

CREATE FUNCTION goya.adopt_copy() RETURNS integer
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    adopted_rows integer;
BEGIN
    IF NOT goya.is_admin() THEN
        RAISE EXCEPTION 'only an administrator may adopt a copy' USING ERRCODE = '42501',
            DETAIL = 'A restored copy would send its webhooks and charge its wallets a second time.',
            HINT = 'Ask for the role goya_admin.';
    END IF;
    UPDATE goya_private.engine SET adopted = true WHERE system_id <> goya_private.system_id() AND NOT adopted;
    GET DIAGNOSTICS adopted_rows = ROW_COUNT;
    PERFORM goya_private.wake();
    RETURN adopted_rows;
END;
$$;
COMMENT ON FUNCTION goya.adopt_copy() IS
'Lets a restored copy of a database run: until then goya starts nothing in it.
Returns the number of origins adopted; 0 when this is no copy. Errors: 42501 for others than administrators.';
