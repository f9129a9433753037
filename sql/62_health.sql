-- 62_health.sql: why a task does not advance (diagnose), how the installation is (health), and what must always hold (check).
--
-- Decided: check is the oracle of the tests: one statement, so one snapshot, set-based, and it says nothing about a sound database while the
-- engine works, since every transition is one transaction. health reads private tables with goya's rights and the server's processes with
-- the caller's, so that an administrator without pg_monitor sees what it may see.
-- Must hold: diagnose always gives at least one row; check gives none, ever.

-- ---- diagnose ----

-- What waiting node runs wait for.
CREATE FUNCTION goya_private.diagnose_waiting(task goya.tasks, definition jsonb, OUT finding text, OUT node text, OUT detail text, OUT hint text)
    RETURNS SETOF record
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        WITH n AS MATERIALIZED (
            SELECT p.node AS place, p.key, p.kind,
                   CASE WHEN p.listed THEN own.value ELSE coalesce(body.value -> 'node', '{}') END AS spec
            FROM goya_private.plan_nodes(definition) p
            LEFT JOIN LATERAL (SELECT d AS value FROM jsonb_array_elements(definition -> 'nodes') d WHERE d ->> 'key' = p.key) own ON p.listed
            LEFT JOIN LATERAL (SELECT d AS value FROM jsonb_array_elements(definition -> 'nodes') WITH ORDINALITY x(d, i)
                               WHERE x.i = p.owner + 1) body ON NOT p.listed),
        w AS (
            SELECT r.*, n.place, n.kind, n.spec,
                   (SELECT min(t.due) FROM goya_private.timers t WHERE t.task_id = r.task_id AND t.node = n.place AND t.item = r.item AND t.verb = 1) AS due
            FROM goya.node_runs r LEFT JOIN n ON n.key = r.node
            WHERE r.task_id = (task).id AND r.status = 'waiting'
            ORDER BY r.seq LIMIT 100)
        SELECT CASE w.kind WHEN 'wait' THEN 'waiting for a signal' WHEN 'approval' THEN 'waiting for a decision' WHEN 'sleep' THEN 'sleeping'
                           WHEN 'workflow' THEN 'waiting for a child task' WHEN 'map' THEN 'running items' ELSE 'waiting' END,
               w.node || CASE WHEN w.item > 0 THEN '[' || w.item || ']' ELSE '' END,
               CASE w.kind
                   WHEN 'wait' THEN format('Signal "%s", since %s.', w.spec ->> 'signal', w.started_at)
                   WHEN 'approval' THEN (SELECT format('"%s", since %s.', a.message, a.requested_at) FROM goya.approvals a
                                         WHERE a.task_id = w.task_id AND a.node = w.node AND a.item = w.item AND a.attempt = w.attempt)
                   WHEN 'workflow' THEN coalesce((SELECT format('Task %s is %s.', c.id, c.status) FROM goya.tasks c
                                         WHERE c.parent_task_id = w.task_id AND c.parent_node = w.place AND c.parent_item = w.item
                                         ORDER BY c.id DESC LIMIT 1), 'Its child task is not there.')
                   WHEN 'map' THEN (SELECT format('%s of %s items have ended, %s of them failed.', m.done + m.failed, m.total, m.failed)
                                    FROM goya_private.maps m WHERE m.task_id = w.task_id AND m.node = w.place)
                   ELSE format('Since %s.', w.started_at) END
               || coalesce(' Its time is over at ' || w.due || '.', ''),
               CASE w.kind WHEN 'wait' THEN format('SELECT goya.signal(%L, %L);', w.task_id, w.spec ->> 'signal')
                           WHEN 'approval' THEN format('SELECT goya.approve(%L, %L, item => %s);', w.task_id, w.node, w.item)
                           WHEN 'workflow' THEN 'Diagnose the child task.' END
        FROM w;
    END;

-- Where its rows of the queue stand.
CREATE FUNCTION goya_private.diagnose_queue(task goya.tasks, definition jsonb, OUT finding text, OUT node text, OUT detail text, OUT hint text)
    RETURNS SETOF record
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        WITH mine AS (
            SELECT q.*, coalesce(p.key, 'all roots') AS key,
                   (SELECT count(*) FROM goya_private.ready b WHERE b.lane = q.lane AND b.rank < q.rank) AS before
            FROM goya_private.ready q LEFT JOIN goya_private.plan_nodes(definition) p ON p.node = q.node
            WHERE q.task_id = (task).id AND NOT EXISTS (SELECT FROM goya_private.activity() a WHERE a.task_id = q.task_id AND a.node = p.key AND a.item = q.item)
            ORDER BY q.rank LIMIT 20)
        SELECT 'in the queue', m.key || CASE WHEN m.item > 0 THEN '[' || m.item || ']' ELSE '' END,
               format('%s rows are before it for %s.', m.before, CASE m.lane WHEN 1 THEN 'outside calls' WHEN 2 THEN 'wake-ups' WHEN 3 THEN 'slow functions'
                                                                             ELSE 'executors' END)
               || CASE WHEN m.tries > 0 THEN format(' %s processes died while they ran it.', m.tries) ELSE '' END,
               CASE WHEN m.before > 1000 THEN 'A higher priority goes first; goya.max_executors says how many run at once.' END
        FROM mine m
        UNION ALL
        SELECT 'parked', coalesce(p.key, 'all roots'), 'It waits until the task is resumed.', format('SELECT goya.resume(%L);', (task).id)
        FROM goya_private.parked q LEFT JOIN goya_private.plan_nodes(definition) p ON p.node = q.node
        WHERE q.task_id = (task).id
        UNION ALL
        SELECT CASE WHEN q.node < 0 THEN 'not due yet' ELSE 'will retry' END, coalesce(p.key, 'all roots'),
               format('At %s', q.due) || coalesce(', after: ' || (SELECT r.error ->> 'message' FROM goya.node_runs r
                   WHERE r.task_id = q.task_id AND r.node = p.key AND r.item = q.item ORDER BY r.attempt DESC LIMIT 1), '.'),
               CASE WHEN q.due < clock_timestamp() - interval '5 s' THEN 'That is over: the engine does not run. See goya.health().' END
        FROM goya_private.timers q LEFT JOIN goya_private.plan_nodes(definition) p ON p.node = q.node
        WHERE q.task_id = (task).id AND q.verb = 0;
    END;

CREATE FUNCTION goya.diagnose(task_id uuid, OUT finding text, OUT node text, OUT detail text, OUT hint text) RETURNS SETOF record
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp ROWS 10 AS $$
#variable_conflict use_column
DECLARE
    task goya.tasks := goya_private.own_task(diagnose.task_id);
    definition jsonb := (SELECT r.resolved FROM goya.workflow_revisions r WHERE r.workflow_id = task.workflow_id AND r.revision = task.revision);
    role record;
    findings integer;
    work record;
BEGIN
    IF goya_private.is_terminal(task.status) THEN
        RETURN QUERY SELECT task.status::text, task.error ->> 'node', concat_ws(' ', task.error ->> 'code', task.error ->> 'message', task.error ->> 'detail'),
            CASE task.status WHEN 'failed' THEN format('%sSELECT goya.retry(%L);', (task.error ->> 'hint') || ' ', task.id) END;
        RETURN;
    END IF;

    -- What keeps every task of its kind from running.
    SELECT r.rolname, r.rolsuper OR r.rolbypassrls AS mighty INTO role FROM pg_roles r WHERE r.rolname = task.run_as;
    RETURN QUERY SELECT f.finding, NULL, f.detail, f.hint FROM (VALUES
        (NOT goya_private.preloaded(), 'goya is not preloaded', 'No engine and no executor can run.', 'Add goya to shared_preload_libraries and restart the server.'),
        (goya_private.preloaded() AND NOT EXISTS (SELECT FROM goya_private.activity() a WHERE a.process = 'engine' AND a.state = 'running'),
            'no engine runs', (SELECT format('It is %s. %s', a.state, a.detail) FROM goya_private.activity() a WHERE a.process = 'engine' LIMIT 1),
            'See goya.health(), and the server log for "goya engine".'),
        (EXISTS (SELECT FROM goya_private.cancel_requests c WHERE c.task_id = task.id), 'cancel requested',
            (SELECT format('By %s at %s%s.', c.requested_by, c.requested_at, coalesce(': ' || c.reason, '')) FROM goya_private.cancel_requests c WHERE c.task_id = task.id),
            'It ends when its running node has been interrupted.'),
        (task.paused, 'paused', 'It starts no node run.', format('SELECT goya.resume(%L);', task.id)),
        (task.failing, 'compensating', concat_ws(' ', 'It has failed and undoes what was done:', task.error ->> 'code', task.error ->> 'message'), NULL),
        (EXISTS (SELECT FROM goya.tenants t WHERE t.id = task.tenant_id AND t.status = 'suspended'), 'tenant suspended', 'Tasks of a suspended tenant do not run.',
            'An administrator can end this with goya.activate_tenant.'),
        (role.rolname IS NULL, 'role dropped', format('The task runs as role "%s", which is not there.', task.run_as), 'Create the role again, or cancel the task.'),
        (role.mighty AND NOT coalesce(current_setting('goya.allow_superuser_tasks', true), 'off')::boolean, 'role too powerful',
            format('Role "%s" is a superuser or bypasses row-level security; such roles may not run tasks.', task.run_as),
            'Run it as another role, or set goya.allow_superuser_tasks.'),
        (task.status = 'pending' AND task.run_at > clock_timestamp(), 'not due yet', format('run_at is %s.', task.run_at), NULL),
        (EXISTS (SELECT FROM goya.workflows w WHERE w.id = task.workflow_id AND NOT w.enabled), 'workflow disabled',
            'No new task of it starts; this one goes on.', NULL),
        (definition IS NULL, 'revision deleted', 'Its workflow was deleted: it cannot go on.', format('SELECT goya.cancel(%L);', task.id))
        ) f(holds, finding, detail, hint) WHERE f.holds;

    -- Functions it may not call, or that are gone.
    RETURN QUERY
        SELECT CASE WHEN f.oid IS NULL THEN 'function missing' ELSE 'privilege missing' END, s.key,
               CASE WHEN f.oid IS NULL THEN format('There is no function %s(jsonb).', s.function)
                    ELSE format('Role "%s" may not execute %s(jsonb).', task.run_as, s.function) END,
               CASE WHEN f.oid IS NOT NULL
                    THEN format('GRANT EXECUTE ON FUNCTION %s(jsonb) TO %I; and USAGE on its schema.', s.function, task.run_as) END
        FROM (SELECT d ->> 'key' AS key, d ->> 'function' AS function FROM jsonb_array_elements(coalesce(definition -> 'nodes', '[]')) d
              WHERE d ->> 'kind' = 'sql' AND d ->> 'function' ~ '^[A-Za-z_"][^()]*$') s
        -- Not by to_regprocedure: that fails for a schema that goya's owner may not use.
        LEFT JOIN LATERAL (SELECT p.oid FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
                           WHERE ARRAY[n.nspname, p.proname]::text[] = parse_ident(s.function)
                             AND p.proargtypes = ARRAY['jsonb'::regtype]::oidvector) f ON true
        WHERE role.rolname IS NOT NULL
          AND NOT EXISTS (SELECT FROM goya.node_runs r WHERE r.task_id = task.id AND r.node = s.key AND r.status IN ('succeeded', 'skipped'))
          AND (f.oid IS NULL OR NOT has_function_privilege(task.run_as, f.oid, 'EXECUTE'));

    IF definition IS NOT NULL THEN
        RETURN QUERY
            SELECT 'running', r.node || CASE WHEN r.item > 0 THEN '[' || r.item || ']' ELSE '' END,
                   format('Outside call since %s, attempt %s.', r.started_at, r.attempt), 'It ends at its timeout; goya.cancel interrupts it.'
            FROM goya.node_runs r WHERE r.task_id = task.id AND r.status = 'running' LIMIT 20;
        RETURN QUERY
            SELECT 'running', a.node, format('In process %s since %s.', a.pid, a.since), 'goya.cancel interrupts it.'
            FROM goya_private.activity() a WHERE a.task_id = task.id;
        RETURN QUERY SELECT * FROM goya_private.diagnose_waiting(task, definition);
        RETURN QUERY SELECT * FROM goya_private.diagnose_queue(task, definition);
    END IF;
    RETURN QUERY
        SELECT 'money nearly spent', NULL, format('%s of %s nano-units are captured.', h.captured, coalesce(task.max_cost, h.amount)),
               'A larger max_cost, or more money in the wallet, lets priced nodes go on.'
        FROM goya.holds h WHERE h.id = task.hold_id AND h.captured >= 0.95 * coalesce(task.max_cost, h.amount) AND h.captured > 0;

    SELECT * INTO work FROM goya_private.task_work(task.tenant_id) w WHERE w.task_id = task.id;
    IF FOUND AND work.ready + work.parked + work.timers + work.running + work.waiting + work.wakeups = 0
       AND NOT EXISTS (SELECT FROM goya_private.activity() a WHERE a.task_id = task.id) THEN
        RETURN QUERY SELECT 'nothing left to do', NULL::text, 'No node run is ready, running or waiting, and the task has not ended. This is an error of goya.',
            'If it stays so, cancel it, and report what goya.check() says.';
    ELSIF NOT FOUND THEN
        RETURN QUERY SELECT 'ended just now', NULL::text, NULL::text, NULL::text;
    END IF;
END;
$$;
COMMENT ON FUNCTION goya.diagnose(uuid) IS
'Says why a task does not advance, or how it ended: a row per finding, with the node it is about, and a hint what to do.
Looks at the task, its role and privileges, the queue, timers, signals, approvals, children, money, and goya''s own processes.
Errors: PT404 no such task. Example: SELECT * FROM goya.diagnose(''0190…'');';

-- ---- health ----

-- With goya's rights; refuses callers who are not administrators.
CREATE FUNCTION goya_private.health_inside(OUT component text, OUT status text, OUT detail text, OUT hint text) RETURNS SETOF record
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    loaded boolean := goya_private.preloaded();
    engine record;
    value text;
BEGIN
    PERFORM goya_private.require_admin();
    RETURN QUERY SELECT 'preload', CASE WHEN loaded THEN 'ok' ELSE 'error' END,
        CASE WHEN loaded THEN 'goya is loaded by the server.' ELSE 'goya is not in shared_preload_libraries: nothing runs.' END,
        CASE WHEN NOT loaded THEN 'Add goya to shared_preload_libraries and restart the server.' END;
    IF loaded THEN
        RETURN QUERY SELECT 'launcher', CASE WHEN count(*) > 0 THEN 'ok' ELSE 'error' END,
            CASE WHEN count(*) > 0 THEN format('Process %s.', min(a.pid)) ELSE 'The launcher does not run.' END,
            CASE WHEN count(*) = 0 THEN 'The postmaster starts it again; see the server log, and max_worker_processes.' END
        FROM goya_private.activity() a WHERE a.process = 'launcher';
        SELECT a.* INTO engine FROM goya_private.activity() a WHERE a.process = 'engine' LIMIT 1;
        RETURN QUERY SELECT 'engine', CASE WHEN engine.state = 'running' THEN 'ok' WHEN engine.state = 'starting' THEN 'warning' ELSE 'error' END,
            CASE WHEN engine.process IS NULL THEN 'No engine for this database.'
                 ELSE format('%s%s, %s node runs, %s transfers in flight.', engine.state, ', process ' || engine.pid, engine.node_runs, engine.transfers) END,
            CASE WHEN engine.state IS DISTINCT FROM 'running' THEN 'See the server log for "goya engine"; goya.max_databases and max_worker_processes limit it.' END;
        RETURN QUERY SELECT 'executors', 'ok', format('%s run, %s of them busy; at most %s.', count(*), count(*) FILTER (WHERE a.state = 'running'),
                                                      current_setting('goya.max_executors', true)), NULL
        FROM goya_private.activity() a WHERE a.process = 'executor';
        RETURN QUERY SELECT 'listener', CASE WHEN current_setting('goya.listen', true) = 'off' THEN 'ok' WHEN engine.detail = 'listening' THEN 'ok' ELSE 'warning' END,
            CASE WHEN current_setting('goya.listen', true) = 'off' THEN 'Switched off (goya.listen); notify triggers do not fire.'
                 WHEN engine.detail = 'listening' THEN 'Connected.' ELSE coalesce(nullif(engine.detail, ''), 'Not connected.') END,
            CASE WHEN current_setting('goya.listen', true) IS DISTINCT FROM 'off' AND engine.detail IS DISTINCT FROM 'listening'
                 THEN 'Only notify triggers need it. Let goya_listener connect locally (pg_hba.conf, goya.listen_conninfo).' END;
    END IF;

    RETURN QUERY SELECT 'copy', CASE WHEN count(*) = 0 THEN 'ok' ELSE 'error' END,
        CASE WHEN count(*) = 0 THEN 'This database is the one that ran before.' ELSE 'This database is a copy of another: everything is paused.' END,
        CASE WHEN count(*) > 0 THEN 'If the original no longer runs, SELECT goya.adopt_copy();' END
    FROM goya_private.engine e
    WHERE NOT e.adopted AND e.system_id <> goya_private.system_id();

    RETURN QUERY SELECT 'role ' || w.name, CASE WHEN r.rolname IS NULL OR r.rolsuper OR r.rolbypassrls OR r.rolcreaterole OR w.login AND NOT r.rolcanlogin THEN 'error'
            WHEN w.login AND NOT has_database_privilege(w.name, current_database(), 'CONNECT') THEN 'error' ELSE 'ok' END,
        CASE WHEN r.rolname IS NULL THEN 'It does not exist.' WHEN r.rolsuper OR r.rolbypassrls OR r.rolcreaterole THEN 'It has privileges it must not have.'
            WHEN w.login AND NOT r.rolcanlogin THEN 'It may not log in.'
            WHEN w.login AND NOT has_database_privilege(w.name, current_database(), 'CONNECT') THEN format('It may not connect to database "%s".', current_database()) END,
        CASE WHEN r.rolname IS NULL THEN 'Create it as the extension''s script does, or restore the globals of the dump (pg_dumpall -g).'
            WHEN w.login AND NOT has_database_privilege(w.name, current_database(), 'CONNECT') THEN format('GRANT CONNECT ON DATABASE %I TO %I;', current_database(), w.name) END
    FROM (VALUES ('goya_owner', true), ('goya_executor', true), ('goya_listener', true), ('goya_admin', false), ('goya_user', false), ('goya_reader', false)) w(name, login)
    LEFT JOIN pg_roles r ON r.rolname = w.name
    ORDER BY w.name;

    RETURN QUERY SELECT 'queue', CASE WHEN count(*) > 0 AND oldest.age > interval '5 min' THEN 'warning' ELSE 'ok' END,
        format('%s rows: %s for executors, %s outside calls, %s wake-ups%s.', count(*), count(*) FILTER (WHERE q.lane IN (0, 3)), count(*) FILTER (WHERE q.lane = 1),
               count(*) FILTER (WHERE q.lane = 2), coalesce('; the oldest pending task waits for ' || date_trunc('second', oldest.age), '')),
        CASE WHEN count(*) > 0 AND oldest.age > interval '5 min' THEN 'Raise goya.max_executors, or see goya.activity for what keeps them busy.' END
    FROM goya_private.ready q
    CROSS JOIN (SELECT max(clock_timestamp() - t.created_at) AS age FROM goya.tasks t JOIN goya_private.ready r ON r.task_id = t.id
                WHERE t.status = 'pending' AND NOT t.paused) oldest
    GROUP BY oldest.age
    UNION ALL
    SELECT 'queue', 'ok', 'Empty.', NULL WHERE NOT EXISTS (SELECT FROM goya_private.ready);
    RETURN QUERY SELECT 'timers', CASE WHEN count(*) FILTER (WHERE t.due < clock_timestamp() - interval '5 s') > 0 THEN 'error' ELSE 'ok' END,
        format('%s set, %s overdue.', count(*), count(*) FILTER (WHERE t.due < clock_timestamp() - interval '5 s')),
        CASE WHEN count(*) FILTER (WHERE t.due < clock_timestamp() - interval '5 s') > 0 THEN 'The engine does not handle them: see component engine.' END
    FROM goya_private.timers t;
    RETURN QUERY SELECT 'tasks', CASE WHEN count(*) > 0 THEN 'warning' ELSE 'ok' END, format('%s seem stuck.', count(*)),
        CASE WHEN count(*) > 0 THEN 'SELECT * FROM goya.stuck_tasks;' END
    FROM goya_private.find_stuck_tasks();
    RETURN QUERY SELECT 'superuser tasks', CASE WHEN s.value = 'on' THEN 'warning' ELSE 'ok' END,
        CASE WHEN s.value = 'on' THEN 'Superusers may run tasks: whoever edits their workflows has their power.' ELSE 'Refused, as they should be.' END,
        CASE WHEN s.value = 'on' THEN 'Set goya.allow_superuser_tasks = off.' END
    FROM (SELECT coalesce(current_setting('goya.allow_superuser_tasks', true), 'off') AS value) s;

    -- pg_cron, as far as goya's own jobs show it.
    IF EXISTS (SELECT FROM pg_extension e WHERE e.extname = 'pg_cron') AND has_schema_privilege('cron', 'USAGE') THEN
        BEGIN
            EXECUTE $cron$
                SELECT format('%s jobs of goya; last run %s, %s failed in the last day.', (SELECT count(*) FROM cron.job j WHERE j.jobname LIKE 'goya:%'),
                              coalesce(max(d.start_time)::text, 'never'),
                              count(*) FILTER (WHERE d.status = 'failed' AND d.start_time > now() - interval '1 day'))
                FROM cron.job_run_details d WHERE d.jobid IN (SELECT j.jobid FROM cron.job j WHERE j.jobname LIKE 'goya:%') $cron$ INTO value;
            RETURN QUERY SELECT 'cron jobs', CASE WHEN value LIKE '% 0 failed in%' THEN 'ok' ELSE 'warning' END, value,
                CASE WHEN value NOT LIKE '% 0 failed in%' THEN 'See cron.job_run_details.return_message.' END;
        EXCEPTION WHEN insufficient_privilege OR undefined_table OR undefined_column THEN
            RETURN QUERY SELECT 'cron jobs', 'warning', 'goya may not read them: ' || SQLERRM, 'GRANT SELECT ON cron.job, cron.job_run_details TO goya_owner;';
        END;
    END IF;
END;
$$;

-- With the caller's own rights: processes, and pg_cron's settings.
CREATE FUNCTION goya_private.health_outside(OUT component text, OUT status text, OUT detail text, OUT hint text) RETURNS SETOF record
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    home text;
    here boolean := EXISTS (SELECT FROM pg_extension e WHERE e.extname = 'pg_cron');
    background text;
    all_seen boolean := pg_has_role('pg_read_all_stats', 'USAGE');
    launchers integer := (SELECT count(*) FROM pg_stat_activity a WHERE a.backend_type LIKE 'pg_cron%' OR a.application_name LIKE 'pg_cron%');
    workers integer := current_setting('max_worker_processes')::integer;
BEGIN
    -- Settings of pg_cron are for superusers and pg_read_all_settings; so is whether its launcher runs for pg_read_all_stats.
    BEGIN
        home := current_setting('cron.database_name', true);
        background := current_setting('cron.use_background_workers', true);
    EXCEPTION WHEN insufficient_privilege THEN
        background := 'on';
        all_seen := false;
    END;
    RETURN QUERY SELECT 'pg_cron', f.status, f.detail, f.hint FROM (VALUES
        (NOT here, 'warning', CASE WHEN home <> current_database() THEN format('It works in database "%s", not here.', home) ELSE 'It is not installed.' END,
            'Only cron triggers need it: shared_preload_libraries, cron.database_name, CREATE EXTENSION pg_cron.'),
        (here AND coalesce(background, 'off') <> 'on', 'warning', 'It connects to run jobs, which pg_hba.conf may refuse.', 'Set cron.use_background_workers = on and restart.'),
        (here AND coalesce(background, 'off') = 'on' AND all_seen AND launchers = 0, 'error', 'Its launcher does not run: no cron trigger fires.',
            'It stays dead once terminated; restart the server.'),
        (here AND coalesce(background, 'off') = 'on' AND (launchers > 0 OR NOT all_seen), 'ok',
            CASE WHEN all_seen THEN 'Its launcher runs.' ELSE 'Installed; whether its launcher runs shows to members of pg_monitor.' END, NULL)
        ) f(holds, status, detail, hint) WHERE f.holds;
    RETURN QUERY SELECT 'worker processes', CASE WHEN workers < 6 THEN 'warning' ELSE 'ok' END,
        format('max_worker_processes is %s, for all extensions and parallel queries.', workers),
        CASE WHEN workers < 6 THEN 'goya takes one per cluster, one per database and goya.max_executors per busy database.' END;
END;
$$;

GRANT EXECUTE ON FUNCTION goya_private.health_inside(), goya_private.health_outside() TO goya_admin;

CREATE FUNCTION goya.health(OUT component text, OUT status text, OUT detail text, OUT hint text) RETURNS SETOF record
    LANGUAGE sql VOLATILE
    BEGIN ATOMIC
        SELECT h.component, h.status, h.detail, h.hint FROM goya_private.health_inside() h
        UNION ALL
        SELECT h.component, h.status, h.detail, h.hint FROM goya_private.health_outside() h;
    END;
COMMENT ON FUNCTION goya.health() IS
'Says how this installation is: a row per component, status ok, warning or error, and a hint what to do. For administrators.
Errors: 42501 not an administrator. Example: SELECT * FROM goya.health() WHERE status <> ''ok'';';

-- ---- check ----

-- Edges of a revision by key, with whether they can fire when their source failed.
CREATE FUNCTION goya_private.check_edges(OUT workflow_id uuid, OUT revision integer, OUT source text, OUT target text, OUT node integer, OUT join_any boolean)
    RETURNS SETOF record
    LANGUAGE sql STABLE ROWS 10000 SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        SELECT r.workflow_id, r.revision, e ->> 'from', e ->> 'to', (n.place - 1)::integer, coalesce(n.spec ->> 'join', 'all') = 'any'
        FROM goya.workflow_revisions r
        CROSS JOIN LATERAL jsonb_array_elements(CASE jsonb_typeof(r.resolved -> 'edges') WHEN 'array' THEN r.resolved -> 'edges' ELSE '[]' END) e
        JOIN LATERAL (SELECT x.spec, x.place FROM jsonb_array_elements(r.resolved -> 'nodes') WITH ORDINALITY x(spec, place)
                      WHERE x.spec ->> 'key' = e ->> 'to') n ON true;
    END;

CREATE FUNCTION goya_private.check_tasks(OUT code text, OUT subject text, OUT detail text) RETURNS SETOF record
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        WITH work AS MATERIALIZED (SELECT w.*, w.ready + w.parked + w.timers + w.running + w.waiting AS open FROM goya_private.task_work(NULL) w),
        ended AS MATERIALIZED (SELECT t.id, t.status FROM goya.tasks t WHERE t.status IN ('succeeded', 'failed', 'cancelled'))
        SELECT 'active_count', t.id::text, format('active is %s; ready %s, parked %s, on timers %s, running %s, waiting %s.', t.active, w.ready, w.parked, w.timers,
                                                  w.running, w.waiting)
        FROM work w JOIN goya.tasks t ON t.id = w.task_id WHERE t.active <> w.open AND NOT t.failing
        UNION ALL
        SELECT 'waiting_count', t.id::text, format('waiting is %s; %s node runs wait.', t.waiting, w.waiting)
        FROM work w JOIN goya.tasks t ON t.id = w.task_id WHERE t.waiting <> w.waiting AND NOT t.failing
        UNION ALL
        SELECT 'task_lost', t.id::text, format('It is %s and has nothing to do.', t.status)
        FROM work w JOIN goya.tasks t ON t.id = w.task_id WHERE w.open + w.wakeups = 0
        UNION ALL
        SELECT 'parked_running', t.id::text, format('%s node runs are parked and the task is not paused.', w.parked)
        FROM work w JOIN goya.tasks t ON t.id = w.task_id WHERE w.parked > 0 AND NOT t.paused
        UNION ALL
        SELECT 'task_row', t.id::text, format('status %s, active %s, finished_at %s, finished_seq %s, last_seq %s.', t.status, t.active, t.finished_at, t.finished_seq, t.last_seq)
        FROM goya.tasks t
        WHERE goya_private.is_terminal(t.status) <> (t.finished_at IS NOT NULL) OR goya_private.is_terminal(t.status) <> (t.finished_seq IS NOT NULL)
           OR (goya_private.is_terminal(t.status) AND t.active <> 0) OR t.active < 0 OR t.waiting < 0 OR t.waiting > t.active
           OR (t.status = 'failed' AND t.error IS NULL) OR t.finished_seq > t.last_seq OR t.started_seq > t.last_seq
        UNION ALL
        SELECT 'open_run_of_ended_task', e.id::text, format('The task is %s, node "%s" item %s is %s.', e.status, r.node, r.item, r.status)
        FROM goya.node_runs r JOIN ended e ON e.id = r.task_id WHERE r.status IN ('pending', 'ready', 'running', 'waiting')
        UNION ALL
        SELECT 'leftover_of_ended_task', e.id::text, format('The task is %s and has rows in %s.', e.status, x.name)
        FROM (SELECT DISTINCT p.task_id, 'goya_private.parked' AS name FROM goya_private.parked p
              UNION SELECT j.task_id, 'goya_private.joins' FROM goya_private.joins j
              UNION SELECT m.task_id, 'goya_private.maps' FROM goya_private.maps m
              UNION SELECT a.task_id, 'goya.approvals, pending' FROM goya.approvals a WHERE a.status = 'pending') x
        JOIN ended e ON e.id = x.task_id
        UNION ALL
        SELECT 'child_not_told', c.id::text, format('It is %s, and task %s still waits for it at node %s item %s.', c.status, p.id, r.node, r.item)
        FROM goya.tasks c
        JOIN goya.tasks p ON p.id = c.parent_task_id AND NOT goya_private.is_terminal(p.status) AND NOT p.failing
        JOIN goya.workflow_revisions v ON v.workflow_id = p.workflow_id AND v.revision = p.revision
        CROSS JOIN LATERAL goya_private.plan_nodes(v.resolved) n
        JOIN goya.node_runs r ON r.task_id = p.id AND r.node = n.key AND r.item = c.parent_item AND r.status = 'waiting'
        WHERE c.parent_node = n.node AND goya_private.is_terminal(c.status)
          AND NOT EXISTS (SELECT FROM goya_private.ready q WHERE q.task_id = p.id AND q.node = n.node AND q.item = c.parent_item AND q.verb = 3)
          AND NOT EXISTS (SELECT FROM goya.tasks later WHERE later.parent_task_id = p.id AND later.parent_node = c.parent_node
                          AND later.parent_item = c.parent_item AND later.id > c.id);
    END;

CREATE FUNCTION goya_private.check_node_runs(OUT code text, OUT subject text, OUT detail text) RETURNS SETOF record
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        WITH edges AS MATERIALIZED (SELECT * FROM goya_private.check_edges()),
        -- The end of each node of a task: its last attempt, when it will not be tried again. Undoing a node gives its row a later number.
        final AS MATERIALIZED (
            SELECT r.task_id, r.node, CASE r.status WHEN 'compensated' THEN 0 ELSE r.seq END AS seq
            FROM goya.node_runs r
            WHERE r.item = 0 AND (r.status IN ('succeeded', 'skipped', 'compensated') OR (r.status = 'failed' AND coalesce(r.message, '') NOT LIKE 'will retry%')))
        SELECT 'done_twice', r.task_id::text, format('Node "%s" item %s succeeded in attempt %s, and there is attempt %s.', r.node, r.item, r.attempt, l.attempt)
        FROM goya.node_runs r JOIN goya.node_runs l ON l.task_id = r.task_id AND l.node = r.node AND l.item = r.item AND l.attempt > r.attempt AND l.attempt > 1
        WHERE r.status IN ('succeeded', 'compensated')
        UNION ALL
        SELECT 'run_too_early', r.task_id::text, format('Node "%s" began at event %s, before "%s" had ended.', r.node, coalesce(r.started_seq, r.seq), min(e.source))
        FROM goya.node_runs r
        JOIN goya.tasks t ON t.id = r.task_id
        JOIN edges e ON e.workflow_id = t.workflow_id AND e.revision = t.revision AND e.target = r.node
        LEFT JOIN final f ON f.task_id = r.task_id AND f.node = e.source
        WHERE r.item = 0 AND r.attempt = 1 AND r.status NOT IN ('pending', 'compensated', 'cancelled')
        GROUP BY r.task_id, r.node, r.seq, r.started_seq, e.join_any
        HAVING CASE WHEN e.join_any AND count(f.seq) > 0 THEN min(f.seq) > coalesce(r.started_seq, r.seq)
                    ELSE count(f.seq) < count(*) OR max(f.seq) > coalesce(r.started_seq, r.seq) END
        UNION ALL
        SELECT 'join_count', j.task_id::text, format('Join at node %s counts %s; %s of its upstream nodes have ended.', j.node, j.fired + j.dead + j.failed, count(f.seq))
        FROM goya_private.joins j
        JOIN goya.tasks t ON t.id = j.task_id
        JOIN edges e ON e.workflow_id = t.workflow_id AND e.revision = t.revision AND e.node = j.node
        LEFT JOIN final f ON f.task_id = j.task_id AND f.node = e.source
        WHERE NOT t.failing AND NOT goya_private.is_terminal(t.status)
        GROUP BY j.task_id, j.node, j.fired, j.dead, j.failed
        HAVING j.fired + j.dead + j.failed <> count(f.seq)
        UNION ALL
        SELECT 'seq_twice', e.task_id::text, format('%s events have number %s.', count(*), e.seq)
        FROM goya.task_events e GROUP BY e.task_id, e.seq HAVING count(*) > 1
        UNION ALL
        SELECT 'seq_high', r.task_id::text, format('Node "%s" has event %s; the task''s newest is %s.', r.node, r.seq, t.last_seq)
        FROM goya.node_runs r JOIN goya.tasks t ON t.id = r.task_id WHERE r.seq > t.last_seq
        UNION ALL
        SELECT 'run_without_task', r.task_id::text, format('Node "%s" has run for a task that is not there.', r.node)
        FROM goya.node_runs r WHERE NOT EXISTS (SELECT FROM goya.tasks t WHERE t.id = r.task_id)
        UNION ALL
        SELECT 'usage_without_run', u.task_id::text, format('Node "%s" item %s attempt %s was charged %s and has not run.', u.node, u.item, u.attempt, sum(u.cost))
        FROM goya.usage_records u
        WHERE NOT EXISTS (SELECT FROM goya.node_runs r WHERE r.task_id = u.task_id AND r.node = u.node AND r.item = u.item AND r.attempt = u.attempt)
        GROUP BY u.task_id, u.node, u.item, u.attempt
        UNION ALL
        SELECT 'charged_twice', u.task_id::text, format('Node "%s" item %s was charged for attempts %s.', u.node, u.item, string_agg(DISTINCT u.attempt::text, ', '))
        FROM goya.usage_records u JOIN goya.node_runs r ON r.task_id = u.task_id AND r.node = u.node AND r.item = u.item AND r.attempt = u.attempt
        WHERE r.status IN ('succeeded', 'compensated')
        GROUP BY u.task_id, u.node, u.item HAVING count(DISTINCT u.attempt) > 1;
    END;

-- All of it in one statement and so of one snapshot. Whole tables are joined: never row by row, whatever the statistics say.
CREATE FUNCTION goya_private.check_all(OUT code text, OUT subject text, OUT detail text) RETURNS SETOF record
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET enable_nestloop = off SET work_mem = '64MB' SET jit = off
    BEGIN ATOMIC
        SELECT * FROM goya_private.check_tasks()
        UNION ALL SELECT * FROM goya_private.check_node_runs()
        UNION ALL SELECT b.code, 'billing', b.detail FROM goya_private.check_billing() b;
    END;

CREATE FUNCTION goya.check(OUT code text, OUT subject text, OUT detail text) RETURNS SETOF record
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM goya_private.require_admin();
    RETURN QUERY SELECT c.code, c.subject, c.detail FROM goya_private.check_all() c ORDER BY c.code, c.subject, c.detail;
END;
$$;
COMMENT ON FUNCTION goya.check() IS
'Looks for anything that must not be, and returns a row per violation; none: all is well. For administrators.
code is a stable word, subject a task''s id or billing: counters against the queue, lost tasks, nodes done twice or too early, leftovers of ended
tasks, events with one number, usage without a run, money that does not add up. Reads whole tables: some seconds per 100,000 tasks.
Errors: 42501 not an administrator. Example: SELECT * FROM goya.check();';
