-- 62_health.sql: why a task does not advance (diagnose) and how the installation is (health). What must always hold is in 63_check.sql.
--
-- Decided: health reads private tables with goya's rights and the server's processes with the caller's, so that an administrator without
-- pg_monitor sees what it may see.
-- Must hold: diagnose always gives at least one row.

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
                   WHEN 'approval' THEN (SELECT format('"%s", since %s.', goya_private.peek_text(a.tenant_id, a.message), a.requested_at) FROM goya.approvals a
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
               format('%s rows are before it for %s.', m.before, CASE m.lane WHEN 1 THEN 'outside calls' WHEN 5 THEN 'outside calls, whose tenants have as many in flight as they may' WHEN 2 THEN 'wake-ups' WHEN 3 THEN 'slow functions'
                                                                             ELSE 'executors' END)
               || CASE WHEN m.tries > 0 THEN format(' It has been tried %s times.', m.tries) ELSE '' END,
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
            (SELECT format('By %s at %s%s.', c.requested_by, c.requested_at, coalesce(': ' || c.reason, '')) FROM goya_private.cancel_requests c
                WHERE c.task_id = task.id ORDER BY c.requested_at LIMIT 1),
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
        (EXISTS (SELECT FROM goya.workflows w WHERE w.id = task.workflow_id AND NOT w.enabled AND w.stands_for IS NULL), 'workflow disabled',
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
            SELECT 'crashed', p.key || CASE WHEN c.item > 0 THEN '[' || c.item || ']' ELSE '' END,
                   format('Its process ended while it ran, %s of 3 times, last at %s%s.', c.crashes, c.last_at,
                          CASE WHEN c.signal > 0 THEN ' by signal ' || c.signal ELSE '' END),
                   'The server log says more. It runs alone now; after the third time it fails with class CRASH.'
            FROM goya_private.crashes c JOIN goya_private.plan_nodes(definition) p ON p.node = c.node WHERE c.task_id = task.id;
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

-- Can what is sealed be opened? Secrets and keys of tenants are counted by the key they are sealed with, which needs no key; other values, of which there may be
-- millions, by goya.list_master_keys().
CREATE FUNCTION goya_private.health_of_master_key(OUT component text, OUT status text, OUT detail text, OUT hint text) RETURNS SETOF record
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    used    jsonb;                                 -- key: how many
    sealed  bigint;
    wanted  bigint := (SELECT count(*) FROM goya.tenants t WHERE t.settings -> 'encrypt_prompts' = 'true');
    present text[];
    missing text;
    problem text;
BEGIN
    SELECT coalesce(jsonb_object_agg(coalesce(u.key_id, 'unknown'), u.n), '{}'), coalesce(sum(u.n), 0) INTO used, sealed
    FROM goya_private.count_sealed_secrets() u;
    component := 'master key';
    BEGIN
        present := ARRAY(SELECT k FROM goya_private.master_keys() k);
    EXCEPTION WHEN object_not_in_prerequisite_state THEN
        GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
        hint := nullif(hint, '');
    END;
    SELECT string_agg(format('"%s" (%s)', u.key, u.value), ', ' ORDER BY u.key) INTO missing FROM jsonb_each_text(used) u WHERE u.key <> ALL (coalesce(present, '{}'));
    status := CASE WHEN missing IS NOT NULL OR (problem IS NOT NULL AND (wanted > 0 OR problem <> 'goya has no master key')) THEN 'error' ELSE 'ok' END;
    detail := CASE
        WHEN problem IS NULL AND missing IS NULL THEN format('Key "%s" seals; %s values are sealed.', present[1], sealed)
        WHEN problem IS NULL THEN format('Values are sealed with keys that are not here: %s. They cannot be opened.', missing)
        WHEN missing IS NOT NULL THEN format('%s, and %s values are sealed, with %s: they cannot be opened.', problem, sealed, missing)
        WHEN wanted > 0 THEN format('%s, and %s tenants want their prompts to be sealed.', problem, wanted)
        WHEN status = 'error' THEN problem || '.'
        ELSE 'None is set, and nothing is sealed.' END;
    hint := CASE WHEN status = 'ok' THEN NULL WHEN problem IS NULL THEN 'Put their lines back into the file of master keys, from its backup, and reload.' ELSE hint END;
    RETURN NEXT;
END;
$$;

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
    IF loaded AND pg_is_in_recovery() THEN
        RETURN QUERY SELECT 'standby', 'ok', 'This server is a standby: nothing of goya runs here, and its tables can be read. Its workers start when it is promoted.',
            NULL;
    ELSIF loaded THEN
        RETURN QUERY SELECT 'launcher', CASE WHEN count(*) > 0 THEN 'ok' ELSE 'error' END,
            CASE WHEN count(*) > 0 THEN format('Process %s.', min(a.pid)) ELSE 'The launcher does not run.' END,
            CASE WHEN count(*) = 0 THEN 'The postmaster starts it again; see the server log, and max_worker_processes.' END
        FROM goya_private.activity() a WHERE a.process = 'launcher';
        SELECT a.* INTO engine FROM goya_private.activity() a WHERE a.process = 'engine' LIMIT 1;
        RETURN QUERY SELECT 'engine', CASE WHEN engine.state = 'running' THEN 'ok' WHEN engine.state = 'starting' THEN 'warning' ELSE 'error' END,
            CASE WHEN engine.process IS NULL THEN 'No engine for this database.'
                 ELSE format('%s%s, %s node runs, %s transfers in flight.', engine.state, ', process ' || engine.pid, engine.node_runs, engine.transfers) END,
            CASE WHEN engine.state IS DISTINCT FROM 'running' THEN 'See the server log for "goya engine"; goya.max_databases and max_worker_processes limit it.' END;
        RETURN QUERY SELECT 'executors', CASE WHEN count(a.pid) = 0 AND work.waits THEN 'warning' ELSE 'ok' END,
            format('%s run, %s of them busy; at most %s.', count(a.pid), count(*) FILTER (WHERE a.state = 'running'), current_setting('goya.max_executors', true)),
            CASE WHEN count(a.pid) = 0 AND work.waits THEN 'Work waits. If this stays so: max_worker_processes, and whether the server log says "could not fork".' END
        FROM (SELECT EXISTS (SELECT FROM goya_private.ready q WHERE q.lane IN (0, 2, 3, 4)) AS waits) work
        LEFT JOIN goya_private.activity() a ON a.process = 'executor' GROUP BY work.waits;
        RETURN QUERY SELECT 'listener', CASE WHEN current_setting('goya.listen', true) = 'off' THEN 'ok' WHEN engine.detail = 'listening' THEN 'ok' ELSE 'warning' END,
            CASE WHEN current_setting('goya.listen', true) = 'off' THEN 'Switched off (goya.listen); notify triggers do not fire.'
                 WHEN engine.detail = 'listening' THEN 'Connected.' ELSE coalesce(nullif(engine.detail, ''), 'Not connected.') END,
            CASE WHEN current_setting('goya.listen', true) IS DISTINCT FROM 'off' AND engine.detail IS DISTINCT FROM 'listening'
                 THEN 'Only notify triggers need it. Let goya_listener connect locally (pg_hba.conf, goya.listen_conninfo).' END;
    END IF;

    RETURN QUERY SELECT * FROM goya_private.health_of_master_key();
    RETURN QUERY SELECT 'copy', CASE WHEN count(*) = 0 THEN 'ok' ELSE 'error' END,
        CASE WHEN count(*) = 0 THEN 'This database is the one that ran before.' ELSE 'This database is a copy of another: everything is paused.' END,
        CASE WHEN count(*) > 0 THEN 'If the original no longer runs, SELECT goya.adopt_copy();' END
    FROM goya_private.engine e
    WHERE NOT e.adopted AND e.system_id <> goya_private.system_id();

    RETURN QUERY SELECT 'role ' || w.name, CASE WHEN r.rolname IS NULL OR r.rolsuper OR r.rolbypassrls OR r.rolcreaterole OR r.rolcreatedb OR w.login AND NOT r.rolcanlogin THEN 'error'
            WHEN w.login AND NOT has_database_privilege(w.name, current_database(), 'CONNECT') THEN 'error' ELSE 'ok' END,
        CASE WHEN r.rolname IS NULL THEN 'It does not exist.' WHEN r.rolsuper OR r.rolbypassrls OR r.rolcreaterole OR r.rolcreatedb THEN 'It has privileges it must not have.'
            WHEN w.login AND NOT r.rolcanlogin THEN 'It may not log in.'
            WHEN w.login AND NOT has_database_privilege(w.name, current_database(), 'CONNECT') THEN format('It may not connect to database "%s".', current_database()) END,
        CASE WHEN r.rolname IS NULL THEN 'Create it as the extension''s script does, or restore the globals of the dump (pg_dumpall -g).'
            WHEN w.login AND NOT has_database_privilege(w.name, current_database(), 'CONNECT') THEN format('GRANT CONNECT ON DATABASE %I TO %I;', current_database(), w.name) END
    FROM (VALUES ('goya_owner', true), ('goya_executor', true), ('goya_listener', true), ('goya_admin', false), ('goya_user', false), ('goya_reader', false)) w(name, login)
    LEFT JOIN pg_roles r ON r.rolname = w.name
    ORDER BY w.name;

    RETURN QUERY SELECT 'queue', CASE WHEN count(*) > 0 AND oldest.age > interval '5 min' THEN 'warning' ELSE 'ok' END,
        format('%s rows: %s for executors, %s outside calls, %s wake-ups%s.', count(*), count(*) FILTER (WHERE q.lane IN (0, 3, 4)), count(*) FILTER (WHERE q.lane IN (1, 5)),
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
    RETURN QUERY SELECT 'crashes', 'warning', format('%s nodes of open tasks have ended their process, up to %s times.', count(*), max(c.crashes)),
        'goya.diagnose(task) and the server log say which and how. They run alone; after the third time they fail.'
    FROM goya_private.crashes c HAVING count(*) > 0;
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
    standby boolean := pg_is_in_recovery();
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
        (here AND coalesce(background, 'off') = 'on' AND all_seen AND launchers = 0 AND NOT standby, 'error', 'Its launcher does not run: no cron trigger fires.',
            'It stays dead once terminated; restart the server.'),
        (here AND coalesce(background, 'off') = 'on' AND (launchers > 0 OR NOT all_seen OR standby), 'ok',
            CASE WHEN standby THEN 'It runs when this server is promoted.' WHEN all_seen THEN 'Its launcher runs.' ELSE 'Installed; whether its launcher runs shows to members of pg_monitor.' END, NULL)
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
