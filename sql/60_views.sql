-- 60_views.sql: what happens and has happened, to read: events of tasks, activity, stuck tasks, summaries, statistics.
--
-- Decided: an event of a node run is its row, and is not written twice; only what changes no row (retry hints, progress, pauses) is in task_log.
-- Views run with the rights of their reader (security_invoker), so row-level security decides. What they need of the queue and of shared memory
-- comes from SECURITY DEFINER functions in goya_private that return the reader's tenant only; administrators see every tenant.
-- Must hold: an event, once seen, keeps its seq, type and data; one task's events are found by its id alone, through primary keys.

-- ---- task events ----

ALTER TABLE goya_private.task_log ENABLE ROW LEVEL SECURITY;
ALTER TABLE goya_private.task_log FORCE ROW LEVEL SECURITY;
CREATE POLICY task_log_owner ON goya_private.task_log TO goya_owner USING (true) WITH CHECK (true);
CREATE POLICY task_log_tenant ON goya_private.task_log FOR SELECT TO goya_reader, goya_user, goya_admin
    USING (tenant_id = (SELECT goya.current_tenant()) OR (SELECT goya.is_admin()));
GRANT SELECT ON goya_private.task_log TO goya_reader, goya_user, goya_admin;

-- An error as events carry it: without payloads.
CREATE FUNCTION goya_private.brief_error(error jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN jsonb_strip_nulls(jsonb_build_object('code', error -> 'code', 'class', error -> 'class', 'message', left(error ->> 'message', 2000),
                                                'node', error -> 'node', 'item', error -> 'item'));

CREATE VIEW goya.task_events WITH (security_invoker = true) AS
    SELECT t.id AS task_id, 1 AS seq, 'task_created'::text AS type, NULL::text AS node, NULL::integer AS item, NULL::smallint AS attempt,
           jsonb_build_object('workflow_id', t.workflow_id, 'revision', t.revision) AS data, t.created_at, t.tenant_id
    FROM goya.tasks t
    UNION ALL
    SELECT t.id, t.started_seq, 'task_started', NULL, NULL, NULL, '{}'::jsonb, t.started_at, t.tenant_id
    FROM goya.tasks t WHERE t.started_seq IS NOT NULL
    UNION ALL
    SELECT t.id, t.finished_seq, 'task_' || t.status::text, NULL, NULL, NULL,
           CASE WHEN t.error IS NULL THEN '{}'::jsonb ELSE jsonb_build_object('error', goya_private.brief_error(t.error)) END,
           t.finished_at, t.tenant_id
    FROM goya.tasks t WHERE t.finished_seq IS NOT NULL
    UNION ALL
    SELECT r.task_id, r.started_seq, 'node_started', r.node, r.item, r.attempt, '{}'::jsonb, r.started_at, r.tenant_id
    FROM goya.node_runs r WHERE r.started_seq IS NOT NULL
    UNION ALL
    SELECT r.task_id, r.seq, 'node_' || r.status::text, r.node, r.item, r.attempt,
           CASE WHEN r.error IS NULL THEN '{}'::jsonb ELSE jsonb_build_object('error', goya_private.brief_error(r.error)) END
           || CASE WHEN r.message IS NULL THEN '{}'::jsonb ELSE jsonb_build_object('message', left(r.message, 1000)) END
           || CASE WHEN r.cost IS NULL THEN '{}'::jsonb ELSE jsonb_build_object('cost', r.cost) END,
           -- The row of an undone node keeps the time of its own end; it was undone when its compensation ended.
           CASE WHEN r.status = 'compensated'
                THEN coalesce((SELECT max(c.finished_at) FROM goya.node_runs c WHERE c.task_id = r.task_id AND c.node = r.node || '.compensate'), r.finished_at)
                ELSE r.finished_at END, r.tenant_id
    FROM goya.node_runs r WHERE r.status IN ('succeeded', 'failed', 'skipped', 'cancelled', 'compensated')
    UNION ALL
    SELECT l.task_id, l.seq, l.type, l.node, l.item, l.attempt,
           CASE WHEN l.data IS NULL THEN '{}'::jsonb WHEN pg_column_size(l.data) > 8192 THEN '{"truncated": true}'::jsonb ELSE l.data END,
           l.created_at, l.tenant_id
    FROM goya_private.task_log l;
COMMENT ON VIEW goya.task_events IS
'What happened to tasks, one row per event, numbered by seq within a task; ask for one task_id.
type: task_created, task_started, task_succeeded|failed|cancelled, node_started, node_succeeded|failed|skipped|cancelled|compensated, and
progress, task_paused, task_resumed, cancel_requested, context_patched … data is small; results are in goya.node_runs.
Example: SELECT seq, type, node FROM goya.task_events WHERE task_id = ''0190…'' ORDER BY seq;';

CREATE FUNCTION goya.task_events_since(task_id uuid, seq integer DEFAULT 0, wait interval DEFAULT '0', limit_rows integer DEFAULT 1000)
    RETURNS SETOF goya.task_events
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp ROWS 100 AS $$
DECLARE
    task goya.tasks := goya_private.own_task(task_events_since.task_id);
    deadline timestamptz := clock_timestamp() + least(task_events_since.wait, interval '1 min');
    left_ms integer;
    over    boolean;
BEGIN
    IF task_events_since.limit_rows IS NULL OR task_events_since.limit_rows NOT BETWEEN 1 AND 10000 THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'limit_rows must be from 1 to 10000';
    END IF;
    LOOP
        -- Before the events are looked at: a task that has ended, or that this transaction started, says nothing more after them.
        SELECT * INTO task FROM goya.tasks t WHERE t.id = task.id;
        over := NOT FOUND OR goya_private.is_terminal(task.status);
        RETURN QUERY
            SELECT e.* FROM goya.task_events e
            WHERE e.task_id = task_events_since.task_id AND e.seq > coalesce(task_events_since.seq, 0)
            ORDER BY e.seq LIMIT task_events_since.limit_rows;
        EXIT WHEN FOUND OR over;
        left_ms := ceil(extract(epoch FROM deadline - clock_timestamp()) * 1000);
        EXIT WHEN coalesce(left_ms, 0) <= 0;
        PERFORM goya_private.refuse_endless_wait(task_events_since.task_id);
        PERFORM goya_private.wait_announcement(task_events_since.task_id, least(left_ms, 1000));
    END LOOP;
END;
$$;
COMMENT ON FUNCTION goya.task_events_since(uuid, integer, interval, integer) IS
'Returns the events of a task after seq, in order; with wait (at most 1 min) it waits for the next one when there is none yet.
A long poll for front ends: pass the last seq seen. Returns at once when the task has ended.
Errors: PT404 no such task, 22023 bad limit_rows, 55000 waiting for a task this transaction started.
Example: SELECT * FROM goya.task_events_since(id, 17, ''20 s'');';

-- ---- traces ----

CREATE FUNCTION goya.tasks_of_trace(trace_id text) RETURNS SETOF goya.tasks
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT t.* FROM goya.tasks t WHERE t.trace_id = tasks_of_trace.trace_id AND t.trace_id <> t.id::text
    UNION ALL
    SELECT t.* FROM goya.tasks t
    WHERE t.id = CASE WHEN tasks_of_trace.trace_id ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN tasks_of_trace.trace_id::uuid END
      AND t.trace_id = tasks_of_trace.trace_id
$$;
COMMENT ON FUNCTION goya.tasks_of_trace(text) IS
'Returns the tasks of a trace: those started with this trace_id, by people, triggers and other tasks.
A task without a trace_id of its own is a trace by its id; child tasks and retries take their parent''s. Of a tenant''s tasks only the caller''s.
Example: SELECT id, status FROM goya.tasks_of_trace(''order-4711'') ORDER BY id;';

-- ---- activity ----

CREATE FUNCTION goya_private.visible_activity(OUT process text, OUT pid integer, OUT state text, OUT task_id uuid, OUT workflow text, OUT node text,
    OUT item integer, OUT since timestamptz, OUT detail text) RETURNS SETOF record
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        WITH shown AS MATERIALIZED (SELECT * FROM goya_private.activity())
        SELECT a.process, a.pid, a.state, a.task_id, w.name, a.node, a.item, a.since, a.detail
        FROM shown a LEFT JOIN goya.tasks t ON t.id = a.task_id LEFT JOIN goya.workflows w ON w.id = t.workflow_id
        WHERE t.tenant_id = goya.current_tenant() OR goya.is_admin()
        UNION ALL
        SELECT 'outside call', NULL, r.status::text, r.task_id, w.name, r.node, r.item, r.started_at, r.message
        FROM goya.tasks t JOIN goya.node_runs r ON r.task_id = t.id AND r.status = 'running' JOIN goya.workflows w ON w.id = t.workflow_id
        WHERE t.status IN ('pending', 'running', 'waiting', 'cancelling') AND (t.tenant_id = goya.current_tenant() OR goya.is_admin())
          AND NOT EXISTS (SELECT FROM shown a WHERE a.task_id = r.task_id AND a.node = r.node AND a.item = r.item);
    END;
GRANT EXECUTE ON FUNCTION goya_private.visible_activity() TO goya_reader, goya_user, goya_admin;

CREATE VIEW goya.activity WITH (security_invoker = true) AS
    SELECT a.process, a.pid, a.state, a.task_id, a.workflow, a.node, a.item, a.since, statement_timestamp() - a.since AS running_for, a.detail
    FROM goya_private.visible_activity() a;
COMMENT ON VIEW goya.activity IS
'What goya does at this moment, from shared memory: node runs of your tenant, for administrators every goya process.
A statement that runs for an hour is here though its node run has no row yet; goya.cancel(task_id) interrupts it.';

-- ---- stuck tasks ----

-- What each task that has not ended has to do: rows of the queue, timers, node runs. Set-based: one pass over the queue. tenant null: all.
CREATE FUNCTION goya_private.task_work(tenant uuid, OUT task_id uuid, OUT ready bigint, OUT parked bigint, OUT timers bigint, OUT running bigint,
    OUT waiting bigint, OUT wakeups bigint, OUT waiting_since timestamptz) RETURNS SETOF record
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        WITH open AS MATERIALIZED (
            SELECT t.id FROM goya.tasks t
            WHERE t.status IN ('pending', 'running', 'waiting', 'cancelling') AND (tenant IS NULL OR t.tenant_id = tenant)),
        work AS (
            SELECT q.task_id, CASE WHEN q.verb = 0 THEN 'ready' ELSE 'wakeup' END AS what, NULL::timestamptz AS since FROM goya_private.ready q
            UNION ALL
            SELECT q.task_id, CASE WHEN q.verb = 0 THEN 'parked' ELSE 'wakeup' END, NULL FROM goya_private.parked q
            UNION ALL
            SELECT q.task_id, 'timer', NULL FROM goya_private.timers q WHERE q.verb = 0
            UNION ALL
            SELECT r.task_id, r.status::text, r.started_at FROM open o JOIN goya.node_runs r ON r.task_id = o.id
            WHERE r.status IN ('running', 'waiting'))
        SELECT o.id, count(*) FILTER (WHERE w.what = 'ready'), count(*) FILTER (WHERE w.what = 'parked'), count(*) FILTER (WHERE w.what = 'timer'),
               count(*) FILTER (WHERE w.what = 'running'), count(*) FILTER (WHERE w.what = 'waiting'), count(*) FILTER (WHERE w.what = 'wakeup'),
               min(w.since) FILTER (WHERE w.what = 'waiting')
        FROM open o LEFT JOIN work w ON w.task_id = o.id
        GROUP BY o.id;
    END;

CREATE FUNCTION goya_private.find_stuck_tasks(OUT task_id uuid, OUT reason text, OUT since timestamptz) RETURNS SETOF record
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        SELECT t.id, r.reason, coalesce(w.waiting_since, t.started_at, t.created_at)
        FROM goya_private.task_work(CASE WHEN goya.is_admin() THEN NULL
                                         ELSE coalesce(goya.current_tenant(), '00000000-0000-0000-0000-000000000000') END) w
        JOIN goya.tasks t ON t.id = w.task_id
        CROSS JOIN LATERAL (SELECT CASE
            WHEN w.ready + w.parked + w.timers + w.running + w.waiting + w.wakeups = 0
                 AND t.created_at < clock_timestamp() - interval '10 s' THEN 'nothing left to do, and not ended'
            WHEN t.paused AND t.created_at < clock_timestamp() - interval '1 hour' THEN 'paused'
            WHEN w.running > 0 AND t.status = 'cancelling' THEN 'cancelling, and still running'
            WHEN w.waiting_since < clock_timestamp() - interval '1 hour' THEN 'waiting for more than an hour'
            WHEN w.ready > 0 AND t.status = 'pending' AND greatest(t.created_at, t.run_at) < clock_timestamp() - interval '5 min'
                 THEN 'in the queue for more than five minutes' END AS reason) r
        WHERE r.reason IS NOT NULL;
    END;
GRANT EXECUTE ON FUNCTION goya_private.find_stuck_tasks() TO goya_reader, goya_user, goya_admin;

CREATE VIEW goya.stuck_tasks WITH (security_invoker = true) AS
    SELECT s.task_id, w.name AS workflow, t.status, s.reason, s.since, t.active, t.waiting, t.tenant_id
    FROM goya_private.find_stuck_tasks() s JOIN goya.tasks t ON t.id = s.task_id LEFT JOIN goya.workflows w ON w.id = t.workflow_id;
COMMENT ON VIEW goya.stuck_tasks IS
'Tasks that have not ended and seem not to advance, and why it seems so.
Waiting for long or being paused may be meant; "nothing left to do" never is. goya.diagnose(task_id) says more.';

-- ---- summaries ----

CREATE FUNCTION goya_private.iso_time(at timestamptz) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"');

CREATE VIEW goya.task_summary WITH (security_invoker = true) AS
    SELECT t.id, w.name AS workflow, t.revision, t.status, t.paused, t.progress, t.message, t.error ->> 'message' AS error,
           goya_private.iso_time(t.created_at) AS created, goya_private.iso_time(t.started_at) AS started,
           goya_private.iso_time(t.finished_at) AS finished,
           round(extract(epoch FROM coalesce(t.finished_at, statement_timestamp()) - coalesce(t.started_at, t.created_at)) * 1000)::bigint AS duration_ms,
           n.succeeded, n.failed, n.skipped, n.open, n.retries, n.cost, t.priority, t.asset_id, t.parent_task_id, t.trigger_id, t.trace_id,
           t.created_by, t.run_as, t.tenant_id
    FROM goya.tasks t
    LEFT JOIN goya.workflows w ON w.id = t.workflow_id
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE r.status IN ('succeeded', 'compensated')) AS succeeded,
               count(*) FILTER (WHERE r.status = 'failed') AS failed,
               count(*) FILTER (WHERE r.status = 'skipped') AS skipped,
               count(*) FILTER (WHERE r.status IN ('ready', 'running', 'waiting')) AS open,
               count(*) FILTER (WHERE r.attempt > 1) AS retries,
               sum(r.cost)::bigint AS cost
        FROM goya.node_runs r WHERE r.task_id = t.id) n;
COMMENT ON VIEW goya.task_summary IS
'Tasks for people: workflow name, ISO times in UTC, milliseconds, attempts of node runs by status, cost in nano-units.
Example: SELECT id, workflow, status, duration_ms, error FROM goya.task_summary ORDER BY id DESC LIMIT 20;';

CREATE VIEW goya.workflow_statistics WITH (security_invoker = true) AS
    SELECT w.id AS workflow_id, w.name AS workflow, w.enabled, w.revision, coalesce(s.tasks, 0) AS tasks, coalesce(s.open, 0) AS open,
           coalesce(s.succeeded, 0) AS succeeded, coalesce(s.failed, 0) AS failed, coalesce(s.cancelled, 0) AS cancelled,
           round(100.0 * s.succeeded / nullif(s.succeeded + s.failed, 0), 2) AS success_percent,
           round(s.p50_ms)::bigint AS p50_ms, round(s.p95_ms)::bigint AS p95_ms, s.last_created_at, w.tenant_id
    FROM goya.workflows w
    LEFT JOIN (
        SELECT t.workflow_id, count(*) AS tasks, count(*) FILTER (WHERE t.finished_at IS NULL) AS open,
               count(*) FILTER (WHERE t.status = 'succeeded') AS succeeded, count(*) FILTER (WHERE t.status = 'failed') AS failed,
               count(*) FILTER (WHERE t.status = 'cancelled') AS cancelled, max(t.created_at) AS last_created_at,
               percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM t.finished_at - t.created_at) * 1000)
                   FILTER (WHERE t.status = 'succeeded') AS p50_ms,
               percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM t.finished_at - t.created_at) * 1000)
                   FILTER (WHERE t.status = 'succeeded') AS p95_ms
        FROM goya.tasks t GROUP BY t.workflow_id) s ON s.workflow_id = w.id;
COMMENT ON VIEW goya.workflow_statistics IS
'Per workflow: tasks by status, share that succeeded of those that succeeded or failed, and the median and 95th percentile of the
milliseconds from creation to success.';
