-- 51_control.sql: what people and the engine do to tasks that exist: cancel, pause, resume, signal, approve, wait, progress, and the end of
-- failed and cancelled tasks. Retry is in 53_retry.sql, artifacts in 54_artifacts.sql.
--
-- Decided:
-- - A cancel is a row in goya_private.cancel_requests and never touches goya.tasks, so that it waits for no batch. The engine turns requests
--   into ends (process_cancels): first it lets go, after the grace it interrupts, and it ends the task as soon as its row can be locked.
-- - A pause only keeps new node runs from starting. pause, resume, approve and a person's patch of the context do lock the task's row, for at most 5 s (55P03 with a hint).
-- - Whoever changes anything of a task that a worker may have to change too (approvals, the sessions of agents, node runs) locks the task's row first. So a
--   worker that finds that row locked knows to leave the task alone for now, and waits for nothing else (src/held.c).
-- - end_unsettled is the only SQL that makes a task failed or cancelled. It takes its locks in the engine's order: task, node runs, wallets by id.
-- Must hold: a terminal status never changes; every event gets the next number of its task, taken under the lock of the task's row;
-- a task of another tenant does not exist (PT404).

-- ---- helpers ----

CREATE FUNCTION goya_private.is_terminal(status goya.task_status) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN status IN ('succeeded', 'failed', 'cancelled');

-- Who acts, for records that people read: the front end's user, else the role.
CREATE FUNCTION goya_private.actor() RETURNS text
    LANGUAGE sql STABLE
    RETURN coalesce(goya.current_end_user(), goya.current_caller()::text);

-- The task, if the caller may know of it; writing: and may act on it. VOLATILE, so that every call sees what was committed before it.
CREATE FUNCTION goya_private.own_task(task_id uuid, writing boolean DEFAULT false) RETURNS goya.tasks
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    task goya.tasks;
    admin boolean := goya.is_admin();
    tenant uuid := CASE WHEN admin THEN goya.current_tenant() WHEN own_task.writing THEN goya_private.require_writer()
                        ELSE goya_private.require_tenant() END;
BEGIN
    SELECT * INTO task FROM goya.tasks t WHERE t.id = own_task.task_id AND (t.tenant_id = tenant OR admin);
    IF NOT FOUND THEN
        PERFORM goya_private.not_found('task', coalesce(own_task.task_id::text, 'null'), 'goya.task_summary lists the tasks you can see.');
    END IF;
    RETURN task;
END;
$$;

-- The same with its row locked; callers set lock_timeout.
CREATE FUNCTION goya_private.lock_own_task(task_id uuid) RETURNS goya.tasks
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    task goya.tasks := goya_private.own_task(lock_own_task.task_id, true);
BEGIN
    SELECT * INTO task FROM goya.tasks t WHERE t.id = lock_own_task.task_id FOR NO KEY UPDATE;
    RETURN task;
EXCEPTION WHEN lock_not_available THEN
    RAISE EXCEPTION USING ERRCODE = '55P03', MESSAGE = 'task is busy',
        DETAIL = format('Node runs of task %s are being recorded and did not end within 5 s.', lock_own_task.task_id),
        HINT = 'Try again; goya.activity shows what runs, and goya.cancel does not wait.';
END;
$$;

CREATE FUNCTION goya_private.refuse_terminal(task goya.tasks, deed text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF goya_private.is_terminal(task.status) THEN
        RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('cannot %s a task that has ended', deed),
            DETAIL = format('Task %s is %s since %s.', task.id, task.status, task.finished_at),
            HINT = 'goya.retry makes a new task of it.';
    END IF;
END;
$$;

-- Appends to the task's log, under the lock of the task's row; returns the event's number.
CREATE FUNCTION goya_private.log_event(task_id uuid, type text, data jsonb DEFAULT NULL, node text DEFAULT NULL, item integer DEFAULT NULL,
    attempt integer DEFAULT NULL) RETURNS integer
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        WITH numbered AS (
            UPDATE goya.tasks t SET last_seq = t.last_seq + 1 WHERE t.id = log_event.task_id RETURNING t.last_seq, t.tenant_id)
        INSERT INTO goya_private.task_log AS l (task_id, seq, tenant_id, type, node, item, attempt, data)
        SELECT log_event.task_id, numbered.last_seq, numbered.tenant_id, log_event.type, log_event.node, log_event.item,
               log_event.attempt::smallint, log_event.data
        FROM numbered
        RETURNING l.seq;
    END;

-- ---- the end of tasks ----

-- Cancels what a task still has open (node runs, questions, children) and forgets its counters, under the lock of its row. Returns the number
-- of its newest event, which the caller writes to goya.tasks with whatever else changes there: an executor's batch has written node runs
-- whose numbers goya.tasks does not know yet, so the newest is looked for in both.
CREATE FUNCTION goya_private.cancel_open_runs(task_id uuid) RETURNS integer
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    ended timestamptz := clock_timestamp();
    newest integer := greatest((SELECT t.last_seq FROM goya.tasks t WHERE t.id = cancel_open_runs.task_id),
                               (SELECT max(n.seq) FROM goya.node_runs n WHERE n.task_id = cancel_open_runs.task_id));
    open_runs integer;
BEGIN
    UPDATE goya.node_runs r
    SET status = 'cancelled', seq = newest + o.n, finished_at = ended,
        error = coalesce(r.error, '{"code": "57014", "class": "CANCELLED", "message": "cancelled with the task"}')
    FROM (SELECT n.node, n.item, n.attempt, (row_number() OVER (ORDER BY n.seq))::integer AS n
          FROM goya.node_runs n
          WHERE n.task_id = cancel_open_runs.task_id AND n.status IN ('pending', 'ready', 'running', 'waiting')) o
    WHERE r.task_id = cancel_open_runs.task_id AND r.node = o.node AND r.item = o.item AND r.attempt = o.attempt;
    GET DIAGNOSTICS open_runs = ROW_COUNT;
    UPDATE goya.approvals a SET status = 'cancelled', decided_at = ended
    WHERE a.task_id = cancel_open_runs.task_id AND a.status = 'pending';
    PERFORM goya_private.cancel_sessions(cancel_open_runs.task_id);
    DELETE FROM goya_private.joins j WHERE j.task_id = cancel_open_runs.task_id;
    DELETE FROM goya_private.maps m WHERE m.task_id = cancel_open_runs.task_id;
    DELETE FROM goya_private.parked p WHERE p.task_id = cancel_open_runs.task_id;
    DELETE FROM goya_private.signals s WHERE s.task_id = cancel_open_runs.task_id AND s.consumed_by IS NULL;
    -- A row that a worker has locked stays: the next claim takes it away.
    DELETE FROM goya_private.work w
    WHERE w.ctid = ANY (ARRAY(SELECT x.ctid FROM goya_private.work x WHERE x.task_id = cancel_open_runs.task_id FOR UPDATE SKIP LOCKED));
    INSERT INTO goya_private.cancel_requests (task_id, by_goya, reason, requested_by)
    SELECT c.id, true, format('parent task %s has ended', cancel_open_runs.task_id), 'goya'
    FROM goya.tasks c
    WHERE c.parent_task_id = cancel_open_runs.task_id AND c.parent_node IS NOT NULL AND NOT goya_private.is_terminal(c.status)
    ON CONFLICT DO NOTHING;
    IF FOUND THEN
        PERFORM goya_private.wake();
    END IF;
    PERFORM goya_private.interrupt_task(cancel_open_runs.task_id);
    RETURN newest + open_runs;
END;
$$;

-- What the event task_completed says of a task; more is in the task itself. completion.c says the same of tasks that succeed.
CREATE FUNCTION goya_private.completion(task goya.tasks) RETURNS jsonb
    LANGUAGE sql STABLE AS
    $$SELECT pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object('workflow_id', (task).workflow_id,
        'workflow', (SELECT w.name FROM goya.workflows w WHERE w.id = (task).workflow_id), 'status', (task).status,
        'asset_id', (task).asset_id, 'error', goya_private.brief_error((task).error)))$$;

-- Tells the world, once per task and in the transaction that ended it. On the path of every batch: two statements, however many tasks.
CREATE FUNCTION goya_private.publish_completed(task_ids uuid[]) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM goya.triggers g WHERE g.enabled AND g.kind = 'event' AND g.event = 'task_completed') THEN
        PERFORM goya_private.publish_event(t.tenant_id, 'task_completed', t.id, goya_private.completion(t), t.id, t.depth)
        FROM goya.tasks t WHERE t.id = ANY (publish_completed.task_ids);
    ELSE
        INSERT INTO goya.events (tenant_id, type, subject_id, data, task_id, depth)
        SELECT t.tenant_id, 'task_completed', t.id, goya_private.completion(t), t.id, t.depth
        FROM goya.tasks t WHERE t.id = ANY (publish_completed.task_ids);
    END IF;
END;
$$;

-- Makes a task failed or cancelled, for the engine, executors and process_cancels; false: it had ended before. Its money is the caller's to settle:
-- of several tasks at once, so that wallets are locked in their order.
CREATE FUNCTION goya_private.end_unsettled(task_id uuid, status goya.task_status, error jsonb) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    task goya.tasks;
    parent goya.tasks;
    newest integer;
BEGIN
    IF end_unsettled.status NOT IN ('failed', 'cancelled') THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'end_task ends failed and cancelled tasks only';
    END IF;
    SELECT * INTO task FROM goya.tasks t WHERE t.id = end_unsettled.task_id FOR NO KEY UPDATE;
    IF NOT FOUND OR goya_private.is_terminal(task.status) THEN
        RETURN false;
    END IF;
    newest := goya_private.cancel_open_runs(task.id) + 1;
    UPDATE goya.tasks t
    SET status = end_unsettled.status, error = coalesce(end_unsettled.error, t.error), finished_at = clock_timestamp(), finished_seq = newest, last_seq = newest,
        active = 0, waiting = 0, paused = false, failing = false
    WHERE t.id = task.id;
    DELETE FROM goya_private.cancel_requests c WHERE c.task_id = task.id;
    IF task.parent_node IS NOT NULL THEN
        SELECT * INTO parent FROM goya.tasks p WHERE p.id = task.parent_task_id;
        IF FOUND AND NOT goya_private.is_terminal(parent.status) THEN
            PERFORM goya_private.enqueue(parent.id, parent.tenant_id, parent.priority, task.parent_node, task.parent_item, 1, 3);
        END IF;
    END IF;
    PERFORM goya_private.publish_completed(ARRAY[task.id]);
    PERFORM goya_private.announce(task.id);
    RETURN true;
END;
$$;

-- The same for one task, with its money.
CREATE FUNCTION goya_private.end_task(task_id uuid, status goya.task_status, error jsonb) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT goya_private.end_unsettled(end_task.task_id, end_task.status, end_task.error) THEN
        RETURN false;
    END IF;
    PERFORM goya_private.settle_tasks(ARRAY[end_task.task_id]);
    RETURN true;
END;
$$;

-- ---- cancel ----

CREATE FUNCTION goya.cancel(task_id uuid, reason text DEFAULT NULL) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    task goya.tasks := goya_private.own_task(cancel.task_id, true);
BEGIN
    IF goya_private.is_terminal(task.status) THEN
        RETURN false;
    END IF;
    INSERT INTO goya_private.cancel_requests (task_id, reason, requested_by)
    VALUES (task.id, left(cancel.reason, 1000), goya_private.actor())
    ON CONFLICT DO NOTHING;
    PERFORM goya_private.wake();
    RETURN true;
END;
$$;
COMMENT ON FUNCTION goya.cancel(uuid, text) IS
'Asks for the end of a task; true when it was not over yet.
Never waits. The task is cancelling when the request is seen and cancelled when it has ended: waiting tasks at once, a running statement or
transfer after its grace time, child tasks with it. What it has paid for stays captured, a model''s call that is cut is billed for what it has used so
far, the rest of the hold is released.
Errors: PT404 no such task. Example: SELECT goya.cancel(''0190…'', ''wrong video'');';

-- Calls of the task that are about to be cut are billed for what they have used so far, if there is money for it. In the engine, with the task locked.
CREATE FUNCTION goya_private.bill_cut_calls(task_id uuid) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    used jsonb := goya_private.calls_used(bill_cut_calls.task_id);
    cut record;
BEGIN
    IF used IS NULL THEN
        RETURN;
    END IF;
    FOR cut IN
        SELECT u.* FROM jsonb_to_recordset(used) u(node text, item integer, attempt smallint, price text, cost_tag text, quantity jsonb)
        JOIN goya.node_runs r ON r.task_id = bill_cut_calls.task_id AND r.node = u.node AND r.item = u.item AND r.attempt = u.attempt AND r.status = 'running'
    LOOP
        UPDATE goya.node_runs r SET cost = b.cost
        FROM goya_private.record_usage(ARRAY[bill_cut_calls.task_id], ARRAY[cut.node], ARRAY[cut.item], ARRAY[cut.attempt], ARRAY[cut.price], ARRAY[cut.quantity],
                                       ARRAY[true], ARRAY[cut.cost_tag]) b
        WHERE r.task_id = bill_cut_calls.task_id AND r.node = cut.node AND r.item = cut.item AND r.attempt = cut.attempt;
    END LOOP;
EXCEPTION WHEN SQLSTATE 'PT402' THEN
    NULL;                                          -- the wallet has no more: a cancel is never refused
END;
$$;

-- Turns requests into ends, for the engine; a request that cannot be met yet stays. Returns how many tasks have ended.
CREATE FUNCTION goya_private.process_cancels(grace_ms integer) RETURNS integer
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    request record;
    task goya.tasks;
    running uuid[];
    over uuid[] := '{}';
    busy boolean;
    ended integer;
    total integer := 0;
    seen integer;
    after uuid := '00000000-0000-0000-0000-000000000000';
    ended_of_all integer := 0;
BEGIN
    running := ARRAY(SELECT a.task_id FROM goya_private.activity() a WHERE a.task_id IS NOT NULL);
    -- A thousand at a time, since any number may have to stay. Each end may ask for the end of children: another round takes them.
    FOR round IN 1 .. 1000 LOOP
        ended := 0;
        seen := 0;
        FOR request IN
            SELECT * FROM goya_private.cancel_requests c WHERE c.task_id > after ORDER BY c.task_id LIMIT 1000 FOR UPDATE SKIP LOCKED
        LOOP
            seen := seen + 1;
            after := request.task_id;
            SELECT * INTO task FROM goya.tasks t WHERE t.id = request.task_id;
            IF NOT FOUND OR goya_private.is_terminal(task.status) THEN
                DELETE FROM goya_private.cancel_requests c WHERE c.task_id = request.task_id;
                CONTINUE;
            END IF;
            busy := request.task_id = ANY (running)
                OR EXISTS (SELECT FROM goya.node_runs r WHERE r.task_id = request.task_id AND r.status = 'running');
            IF busy AND request.requested_at + make_interval(secs => process_cancels.grace_ms / 1000.0) <= clock_timestamp() THEN
                -- Its end interrupts it too. What costs money is cut in the transaction that bills it, and not before.
                IF task.hold_id IS NULL THEN
                    PERFORM goya_private.interrupt_task(request.task_id);
                END IF;
                busy := false;
            END IF;
            SELECT * INTO task FROM goya.tasks t WHERE t.id = request.task_id FOR NO KEY UPDATE SKIP LOCKED;
            CONTINUE WHEN NOT FOUND;               -- a batch is recording, or somebody keeps it locked: next time
            IF NOT busy OR goya_private.is_terminal(task.status) THEN
                CONTINUE WHEN task.hold_id IS NOT NULL AND goya_private.wallet_is_held(task.tenant_id);
                -- One that had failed already, and was undoing what it did, stays failed.
                over := over || task.id;
                IF task.hold_id IS NOT NULL THEN
                    PERFORM goya_private.bill_cut_calls(task.id);
                END IF;
                PERFORM goya_private.end_unsettled(task.id, CASE WHEN task.failing THEN 'failed' ELSE 'cancelled' END::goya.task_status,
                    CASE WHEN task.failing AND task.error IS NOT NULL THEN task.error ELSE jsonb_build_object('code', '57014', 'class', 'CANCELLED',
                         'message', 'cancelled' || coalesce(': ' || request.reason, ''), 'by', request.requested_by) END);
                DELETE FROM goya_private.cancel_requests c WHERE c.task_id = request.task_id;
                ended := ended + 1;
            ELSIF task.status <> 'cancelling' THEN
                UPDATE goya.tasks t SET status = 'cancelling' WHERE t.id = task.id;
                PERFORM goya_private.log_event(task.id, 'cancel_requested',
                    jsonb_build_object('reason', request.reason, 'by', request.requested_by));
            END IF;
        END LOOP;
        total := total + ended;
        ended_of_all := ended_of_all + ended;
        IF seen < 1000 THEN
            EXIT WHEN ended_of_all = 0;
            ended_of_all := 0;
            after := '00000000-0000-0000-0000-000000000000';
        END IF;
    END LOOP;
    PERFORM goya_private.settle_tasks(over);
    RETURN total;
END;
$$;

-- ---- pause and resume ----

CREATE FUNCTION goya.pause(task_id uuid) RETURNS goya.tasks
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    task goya.tasks := goya_private.lock_own_task(pause.task_id);
BEGIN
    PERFORM goya_private.refuse_terminal(task, 'pause');
    IF NOT task.paused THEN
        UPDATE goya.tasks t SET paused = true WHERE t.id = task.id;
        PERFORM goya_private.log_event(task.id, 'task_paused', jsonb_build_object('by', goya_private.actor()));
        SELECT * INTO task FROM goya.tasks t WHERE t.id = task.id;
    END IF;
    RETURN task;
END;
$$;
COMMENT ON FUNCTION goya.pause(uuid) IS
'Keeps a task from starting more node runs; those that run now end. Returns the task.
Waiting for signals, approvals and timers goes on; what they release starts after goya.resume. Pausing twice changes nothing.
Errors: PT404 no such task, 55000 it has ended, 55P03 its row stayed busy for 5 s.';

CREATE FUNCTION goya.resume(task_id uuid) RETURNS goya.tasks
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    task goya.tasks := goya_private.lock_own_task(resume.task_id);
BEGIN
    PERFORM goya_private.refuse_terminal(task, 'resume');
    IF task.paused THEN
        UPDATE goya.tasks t SET paused = false WHERE t.id = task.id;
        PERFORM goya_private.log_event(task.id, 'task_resumed', jsonb_build_object('by', goya_private.actor()));
        SELECT * INTO task FROM goya.tasks t WHERE t.id = task.id;
    END IF;
    -- Whoever parks a row holds the task's lock, so that none can be parked after this looked.
    WITH released AS (DELETE FROM goya_private.parked p WHERE p.task_id = task.id RETURNING p.*)
    INSERT INTO goya_private.ready SELECT * FROM released;
    PERFORM goya_private.wake();
    RETURN task;
END;
$$;
COMMENT ON FUNCTION goya.resume(uuid) IS
'Lets a paused task go on where it was, at its old place in the queue. Returns the task; a task that is not paused stays as it is.
Errors: PT404 no such task, 55000 it has ended, 55P03 its row stayed busy for 5 s.';

-- ---- signals and approvals ----

CREATE FUNCTION goya.signal(task_id uuid, name text, payload jsonb DEFAULT '{}') RETURNS uuid
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    task goya.tasks := goya_private.own_task(signal.task_id, true);
    signal_id uuid;
BEGIN
    IF coalesce(signal.name, '') = '' OR length(signal.name) > 200 THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'a signal needs a name of 1 to 200 characters';
    END IF;
    PERFORM goya_private.refuse_terminal(task, 'signal');
    INSERT INTO goya_private.signals (task_id, name, payload) VALUES (task.id, signal.name, goya_private.seal_value(task.tenant_id, coalesce(signal.payload, '{}')))
    RETURNING id INTO signal_id;
    PERFORM goya_private.enqueue(task.id, task.tenant_id, task.priority, -1, 0, 1, 2);
    RETURN signal_id;
END;
$$;
COMMENT ON FUNCTION goya.signal(uuid, text, jsonb) IS
'Sends a signal to a task; a wait node of that name takes it, now or when it gets there, and its output is the payload.
Each signal is taken once, in the order sent. Returns the signal''s id.
Errors: PT404 no such task, 22023 no name, 55000 the task has ended. Example: SELECT goya.signal(id, ''reviewed'', ''{"ok": true}'');';

CREATE FUNCTION goya.approve(task_id uuid, node text, approved boolean DEFAULT true, response jsonb DEFAULT '{}', item integer DEFAULT 0)
    RETURNS goya.approvals
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    task goya.tasks := goya_private.lock_own_task(approve.task_id);
    question goya.approvals;
    decision text := CASE WHEN approve.approved THEN 'approved' ELSE 'rejected' END;
    problems text;
    plan_node integer;
BEGIN
    IF approve.approved IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'approved must be true or false';
    END IF;
    SELECT * INTO question FROM goya.approvals a
    WHERE a.task_id = task.id AND a.node = approve.node AND a.item = approve.item
    ORDER BY a.attempt DESC LIMIT 1 FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'PT404', MESSAGE = 'approval not found',
            DETAIL = format('Task %s asks nothing at node "%s", item %s.', task.id, approve.node, approve.item),
            HINT = 'goya.approvals lists the open questions of your tenant.';
    END IF;
    question.message := goya_private.open_text(question.tenant_id, question.message);
    question.response := goya_private.open_value(question.tenant_id, question.response);
    IF question.status = decision THEN
        RETURN question;
    ELSIF question.status IN ('approved', 'rejected') THEN
        RAISE EXCEPTION USING ERRCODE = '23505', MESSAGE = format('already %s', question.status),
            DETAIL = format('%s decided node "%s" of task %s at %s.', question.decided_by, approve.node, task.id, question.decided_at),
            HINT = 'A decision is final; goya.retry runs the task again from that node.';
    ELSIF question.status <> 'pending' THEN
        RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('the approval is %s', question.status),
            DETAIL = format('Node "%s" of task %s no longer waits for a decision.', approve.node, task.id),
            HINT = 'goya.retry runs the task again from that node.';
    END IF;
    PERFORM goya_private.refuse_terminal(task, 'approve');

    IF approve.approved AND question.form <> '{}' THEN
        SELECT string_agg(format('%s: %s', CASE e.path WHEN '' THEN '/' ELSE e.path END, e.message), E'\n') INTO problems
        FROM goya.check_schema(question.form, coalesce(approve.response, '{}')) e;
        IF problems IS NOT NULL THEN
            RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'the response does not fit the form', DETAIL = problems,
                HINT = 'The form is the JSON Schema in goya.approvals.form.';
        END IF;
    END IF;
    SELECT p.node INTO plan_node
    FROM goya.workflow_revisions r, goya_private.plan_nodes(r.resolved) p
    WHERE r.workflow_id = task.workflow_id AND r.revision = task.revision AND p.key = approve.node;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'PT404', MESSAGE = 'node not found',
            DETAIL = format('Revision %s of the workflow has no node "%s".', task.revision, approve.node);
    END IF;
    UPDATE goya.approvals a
    SET status = decision, response = goya_private.seal_value(a.tenant_id, coalesce(approve.response, '{}')), decided_by = goya_private.actor(), decided_at = clock_timestamp()
    WHERE a.task_id = question.task_id AND a.node = question.node AND a.item = question.item AND a.attempt = question.attempt
    RETURNING * INTO question;
    question.message := goya_private.open_text(question.tenant_id, question.message);
    question.response := coalesce(approve.response, '{}');
    PERFORM goya_private.enqueue(task.id, task.tenant_id, task.priority, plan_node, question.item, question.attempt, 4);
    RETURN question;
END;
$$;
COMMENT ON FUNCTION goya.approve(uuid, text, boolean, jsonb, integer) IS
'Answers the question of an approval node: approved true or false, and the form filled in. Returns the approval.
The response of an approval is checked against the form''s schema; of a rejection it is free. Answering the same again changes nothing.
Errors: PT404 nothing asked there, 22023 response does not fit (DETAIL lists why), 23505 decided otherwise before, 55000 no longer waiting, 55P03 the task''s row
stayed busy for 5 s.
Example: SELECT goya.approve(task, ''review'', true, ''{"note": "fine"}'');';

-- ---- waiting ----

-- Raises when this transaction has itself written the task: nobody else can then finish it before the commit.
CREATE FUNCTION goya_private.refuse_endless_wait(task_id uuid) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    top xid8 := pg_snapshot_xmax(pg_current_snapshot());
    writer bigint;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = 'cannot wait in this isolation level',
            DETAIL = format('In a %s transaction nothing that others commit becomes visible.', current_setting('transaction_isolation')),
            HINT = 'Wait in a READ COMMITTED transaction.';
    END IF;
    IF pg_current_xact_id_if_assigned() IS NULL THEN
        RETURN;
    END IF;
    SELECT t.xmin::text::bigint INTO writer FROM goya.tasks t WHERE t.id = refuse_endless_wait.task_id;
    writer := (top::text::bigint & ~4294967295::bigint) | writer;
    IF writer >= top::text::bigint + 1000000 THEN
        writer := writer - 4294967296;
    END IF;
    -- Visible to us and in progress: written by this transaction or one of its subtransactions.
    IF writer > 2 AND pg_xact_status(writer::text::xid8) = 'in progress' THEN
        RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = 'the task cannot end before this transaction does',
            DETAIL = format('Task %s was started or changed by this transaction, which has not committed.', refuse_endless_wait.task_id),
            HINT = 'Commit first, then wait.';
    END IF;
EXCEPTION WHEN invalid_parameter_value THEN
    RETURN;                                        -- pg_xact_status of a transaction far back: it is over
END;
$$;

CREATE FUNCTION goya.wait_for_task(task_id uuid, timeout interval DEFAULT '30 s') RETURNS goya.tasks
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    task goya.tasks := goya_private.own_task(wait_for_task.task_id);
    deadline timestamptz := clock_timestamp() + least(wait_for_task.timeout, interval '1 hour');
    left_ms integer;
BEGIN
    IF wait_for_task.timeout IS NULL OR wait_for_task.timeout < interval '0' THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'timeout must be an interval of 0 s or more';
    END IF;
    IF NOT goya_private.is_terminal(task.status) THEN
        PERFORM goya_private.refuse_endless_wait(task.id);
    END IF;
    LOOP
        SELECT * INTO task FROM goya.tasks t WHERE t.id = wait_for_task.task_id;
        EXIT WHEN NOT FOUND OR goya_private.is_terminal(task.status);
        left_ms := ceil(extract(epoch FROM deadline - clock_timestamp()) * 1000);
        EXIT WHEN left_ms <= 0;
        -- A second at most: tasks are announced at commit, but for those of a process that died there.
        PERFORM goya_private.wait_announcement(wait_for_task.task_id, least(left_ms, 1000));
    END LOOP;
    task.input := goya_private.peek_value(task.tenant_id, task.input);
    task.output := goya_private.peek_value(task.tenant_id, task.output);
    RETURN task;
END;
$$;
COMMENT ON FUNCTION goya.wait_for_task(uuid, interval) IS
'Waits until a task has ended, and returns it; when the timeout (at most 1 hour) is over, as it is then.
Must be called in another transaction than the one that started the task. A waiting session holds a snapshot: prefer short timeouts.
input and output are opened when they are sealed (goya.open_value), unless their master key is not here.
Errors: PT404 no such task, 22023 bad timeout, 55000 the task was started by this very transaction, or the isolation level hides its end.
Example: SELECT status, output FROM goya.wait_for_task(''0190…'', ''1 min'');';

-- ---- progress ----

CREATE FUNCTION goya.report_progress(task_id uuid, percent real, message text DEFAULT NULL) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    task goya.tasks := goya_private.own_task(report_progress.task_id, true);
    caller name := goya.current_caller();
BEGIN
    IF report_progress.percent IS NULL OR NOT report_progress.percent BETWEEN 0 AND 100 THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'percent must be a number from 0 to 100';
    END IF;
    IF caller <> task.run_as AND NOT goya.is_admin()
       AND NOT (to_regrole(quote_ident(task.run_as)) IS NOT NULL AND pg_has_role(caller, task.run_as, 'MEMBER')) THEN
        RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = 'permission denied to report progress',
            DETAIL = format('Task %s runs as role "%s".', task.id, task.run_as), HINT = 'Only that role and its members report its progress.';
    END IF;
    SELECT * INTO task FROM goya.tasks t WHERE t.id = task.id FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND OR goya_private.is_terminal(task.status) THEN
        RETURN false;
    END IF;
    UPDATE goya.tasks t SET progress = report_progress.percent, message = coalesce(left(report_progress.message, 1000), t.message)
    WHERE t.id = task.id;
    PERFORM goya_private.log_event(task.id, 'progress',
        jsonb_build_object('percent', report_progress.percent, 'message', left(report_progress.message, 1000)));
    PERFORM goya_private.announce(task.id);
    RETURN true;
END;
$$;
COMMENT ON FUNCTION goya.report_progress(uuid, real, text) IS
'Sets percent (0 … 100) and message of a running task; false when it is over or busy at this moment.
Never waits: progress is a hint. Called inside a SQL node it is seen when the node commits.
Errors: PT404 no such task, 22023 bad percent, 42501 the caller is not the role the task runs as.';
