-- 56_work.sql: outside workers: they claim work of a queue, keep their lease with heartbeats, and complete it or fail.
--
-- Decided:
-- - Everything a worker says names the token of its lease, a random UUID; a token that is no longer the lease (it ran out and another worker has the
--   work, the task was cancelled, the node timed out) changes nothing, and the answer is false: an everyday answer, not an error.
-- - A lease that has run out but that nobody took stays good: late work is not thrown away.
-- - complete_work and fail_work write the result and a wake-up of the node run in the caller's transaction, as goya.approve does; an executor
--   takes it from there.
-- - An expired lease gives the work back without counting an attempt; after max_claims (the node's, 3) the run fails with class TIMEOUT.
-- Must hold: one token at a time for a run, and one result; nothing here waits for the lock of a task or of a node run.

-- Tells the engine at commit that a timer may be due earlier than it knows.
CREATE FUNCTION goya_private.wake_timers() RETURNS void
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'goya_wake_timers_sql';

-- What sessions in wait_for_work sleep on.
CREATE FUNCTION goya_private.work_topic(tenant_id uuid, queue text) RETURNS uuid
    LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
    RETURN md5('goya work ' || tenant_id::text || ' ' || queue)::uuid;

-- A worker node waits: offer its work. For the engine and executors.
CREATE FUNCTION goya_private.offer_work(task_id uuid, node text, item integer, attempt smallint, plan_node integer, tenant_id uuid, priority integer,
    queue text, rank bigint, lease_ms bigint, max_claims integer) RETURNS void
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        INSERT INTO goya_private.work (task_id, node, item, attempt, plan_node, tenant_id, priority, queue, rank, lease_ms, max_claims)
        VALUES (offer_work.task_id, offer_work.node, offer_work.item, offer_work.attempt, offer_work.plan_node, offer_work.tenant_id, offer_work.priority,
                offer_work.queue, coalesce(nullif(offer_work.rank, 0), goya_private.next_rank(offer_work.tenant_id, offer_work.priority)),
                offer_work.lease_ms, offer_work.max_claims);
        SELECT goya_private.announce(goya_private.work_topic(offer_work.tenant_id, offer_work.queue));
    END;

-- A timer of a worker node's lease has fired. verdict: gone (nothing to do), open (others may claim it), later (look again at due), failed
-- (claimed too often). Never waits for a row that a client has locked.
CREATE FUNCTION goya_private.expire_lease(task_id uuid, node text, item integer, attempt smallint, OUT verdict text, OUT due timestamptz, OUT worker text, OUT claims integer)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    work goya_private.work;
BEGIN
    SELECT * INTO work FROM goya_private.work w
    WHERE w.task_id = expire_lease.task_id AND w.node = expire_lease.node AND w.item = expire_lease.item AND w.attempt = expire_lease.attempt
    FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        IF EXISTS (SELECT FROM goya_private.work w WHERE w.task_id = expire_lease.task_id AND w.node = expire_lease.node AND w.item = expire_lease.item
                                                         AND w.attempt = expire_lease.attempt) THEN
            verdict := 'later';
            due := clock_timestamp() + interval '1 s';     -- a client has it locked
        ELSE
            verdict := 'gone';
        END IF;
        RETURN;
    END IF;
    worker := work.worker;
    claims := work.claims;
    IF work.result IS NOT NULL THEN
        verdict := 'gone';
    ELSIF work.token IS NULL THEN
        verdict := 'open';
    ELSIF work.lease_until > clock_timestamp() THEN
        verdict := 'later';
        due := work.lease_until;
    ELSIF work.claims >= work.max_claims THEN
        verdict := 'failed';
        DELETE FROM goya_private.work w
        WHERE w.task_id = work.task_id AND w.node = work.node AND w.item = work.item AND w.attempt = work.attempt;
    ELSE
        verdict := 'open';                         -- its token stays good until somebody else claims it
        PERFORM goya_private.announce(goya_private.work_topic(work.tenant_id, work.queue));
    END IF;
END;
$$;

-- Raises 22023 for a bad name of a queue or worker.
CREATE FUNCTION goya_private.check_work_name(what text, name text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF coalesce(check_work_name.name, '') = '' OR length(check_work_name.name) > 200 THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('bad %s name', check_work_name.what),
            DETAIL = 'It must be 1 to 200 characters long.';
    END IF;
END;
$$;

CREATE FUNCTION goya.claim_work(queue text, worker text, max integer DEFAULT 1, lease interval DEFAULT NULL)
    RETURNS TABLE (token uuid, task_id uuid, node text, item integer, attempt integer, input jsonb, lease_until timestamptz, trace_id text)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := goya_private.require_writer();
    claimed integer;
BEGIN
    PERFORM goya_private.check_work_name('queue', claim_work.queue);
    PERFORM goya_private.check_work_name('worker', claim_work.worker);
    IF claim_work.max IS NULL OR claim_work.max NOT BETWEEN 1 AND 1000 THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'max must be from 1 to 1000';
    ELSIF claim_work.lease < interval '1 s' OR claim_work.lease > interval '1 day' THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'a lease must be from 1 s to 1 day', HINT = 'goya.heartbeat makes it longer while the work goes on.';
    END IF;
    -- A restored copy hands out nothing before somebody says that it may.
    IF EXISTS (SELECT FROM goya_private.engine e WHERE e.system_id <> goya_private.system_id() AND NOT e.adopted) THEN
        RETURN;
    END IF;
    RETURN QUERY
        WITH free AS MATERIALIZED (
            SELECT w.ctid AS at FROM goya_private.work w
            WHERE w.tenant_id = tenant AND w.queue = claim_work.queue AND w.result IS NULL
                  AND (w.token IS NULL OR (w.lease_until < clock_timestamp() AND w.claims < w.max_claims))
                  AND EXISTS (SELECT FROM goya.tasks t WHERE t.id = w.task_id AND NOT t.paused AND NOT t.failing
                                                             AND t.status IN ('pending', 'running', 'waiting'))
                  AND EXISTS (SELECT FROM goya.node_runs r WHERE r.task_id = w.task_id AND r.node = w.node AND r.item = w.item
                                                                 AND r.attempt = w.attempt AND r.status = 'waiting')
            ORDER BY w.rank LIMIT claim_work.max FOR UPDATE SKIP LOCKED),
        taken AS (
            UPDATE goya_private.work w
            SET token = gen_random_uuid(), worker = claim_work.worker, claims = w.claims + 1, claimed_at = clock_timestamp(), heartbeat_at = NULL,
                lease = coalesce(claim_work.lease, make_interval(secs => w.lease_ms / 1000.0)), progress = NULL, message = NULL,
                lease_until = clock_timestamp() + coalesce(claim_work.lease, make_interval(secs => w.lease_ms / 1000.0))
            FROM free WHERE w.ctid = free.at
            RETURNING w.*),
        timer AS (
            INSERT INTO goya_private.timers (due, verb, task_id, node, item, attempt, rank, lane)
            SELECT k.lease_until, 1, k.task_id, k.plan_node, k.item, k.attempt, k.rank, 2 FROM taken k)
        SELECT k.token, k.task_id, k.node, k.item, k.attempt::integer, goya_private.open_value(k.tenant_id, r.input), k.lease_until, t.trace_id
        FROM taken k
        JOIN goya.tasks t ON t.id = k.task_id
        JOIN goya.node_runs r ON r.task_id = k.task_id AND r.node = k.node AND r.item = k.item AND r.attempt = k.attempt
        ORDER BY k.rank;
    GET DIAGNOSTICS claimed = ROW_COUNT;
    IF claimed > 0 THEN
        PERFORM goya_private.wake_timers();
    END IF;
    IF claimed < claim_work.max THEN
        -- Little is left in the queue: what its task's end could not take away, because it was locked.
        DELETE FROM goya_private.work w
        WHERE w.ctid = ANY (ARRAY(SELECT x.ctid FROM goya_private.work x
                                  WHERE x.tenant_id = tenant AND x.queue = claim_work.queue
                                        AND NOT EXISTS (SELECT FROM goya.node_runs r WHERE r.task_id = x.task_id AND r.node = x.node AND r.item = x.item
                                                                                           AND r.attempt = x.attempt AND r.status = 'waiting')
                                  LIMIT 1000 FOR UPDATE SKIP LOCKED));
    END IF;
END;
$$;
COMMENT ON FUNCTION goya.claim_work(text, text, integer, interval) IS
'Takes up to max pieces of work of a queue of the caller''s tenant, in the order of their tasks; no rows when there is none.
Commit before you start working. token is the lease: heartbeat, complete_work and fail_work want it. worker is the name that goya.list_work shows. lease is how
long the work is yours without a heartbeat, 1 s to 1 day; by default the node''s, or 30 s. When it runs out another worker may take the work; after the
node''s max_claims (3) the node run fails with class TIMEOUT.
Errors: 22023 bad queue, worker, max or lease; 42501 no tenant or reader.
Example: SELECT token, input FROM goya.claim_work(''render'', ''gpu-7'', 1, ''2 min'');';

CREATE FUNCTION goya.wait_for_work(queue text, timeout interval DEFAULT '30 s') RETURNS boolean
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := goya_private.require_writer();
    deadline timestamptz := clock_timestamp() + least(wait_for_work.timeout, interval '1 min');
    left_ms integer;
BEGIN
    PERFORM goya_private.check_work_name('queue', wait_for_work.queue);
    IF wait_for_work.timeout IS NULL OR wait_for_work.timeout < interval '0' THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'timeout must be an interval of 0 s or more';
    END IF;
    LOOP
        IF EXISTS (SELECT FROM goya_private.work w
                   WHERE w.tenant_id = tenant AND w.queue = wait_for_work.queue AND w.result IS NULL
                         AND (w.token IS NULL OR (w.lease_until < clock_timestamp() AND w.claims < w.max_claims))
                         AND EXISTS (SELECT FROM goya.tasks t WHERE t.id = w.task_id AND NOT t.paused AND NOT t.failing
                                                                    AND t.status IN ('pending', 'running', 'waiting'))) THEN
            RETURN true;
        END IF;
        left_ms := ceil(extract(epoch FROM deadline - clock_timestamp()) * 1000);
        IF left_ms <= 0 OR current_setting('transaction_isolation') <> 'read committed' THEN
            RETURN false;
        END IF;
        PERFORM goya_private.wait_announcement(goya_private.work_topic(tenant, wait_for_work.queue), least(left_ms, 1000));
    END LOOP;
END;
$$;
COMMENT ON FUNCTION goya.wait_for_work(text, interval) IS
'Waits until a queue has work to claim: true, or false when the timeout (at most 1 minute) is over.
Call it in a transaction of its own, then goya.claim_work; of several waiting workers one gets the work, the others wait again.
Errors: 22023 bad queue or timeout, 42501 no tenant or reader. Example: SELECT goya.wait_for_work(''render'', ''20 s'');';

CREATE FUNCTION goya.heartbeat(token uuid, progress real DEFAULT NULL, message text DEFAULT NULL) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := goya_private.require_writer();
    work goya_private.work;
    was_over boolean;
BEGIN
    IF heartbeat.progress NOT BETWEEN 0 AND 100 OR heartbeat.progress = 'NaN' THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'progress must be a number from 0 to 100';
    END IF;
    -- A lease that had run out is a new one: its timer has fired.
    was_over := EXISTS (SELECT FROM goya_private.work w WHERE w.token = heartbeat.token AND w.lease_until < clock_timestamp());
    UPDATE goya_private.work w
    SET heartbeat_at = clock_timestamp(), lease_until = greatest(w.lease_until, clock_timestamp() + w.lease),
        progress = coalesce(heartbeat.progress, w.progress), message = coalesce(left(heartbeat.message, 1000), w.message)
    WHERE w.token = heartbeat.token AND w.tenant_id = tenant AND w.result IS NULL
    RETURNING w.* INTO work;
    IF NOT FOUND OR EXISTS (SELECT FROM goya_private.cancel_requests c WHERE c.task_id = work.task_id)
       OR NOT EXISTS (SELECT FROM goya.tasks t WHERE t.id = work.task_id AND t.status IN ('pending', 'running', 'waiting') AND NOT t.failing) THEN
        RETURN false;
    END IF;
    IF was_over THEN
        INSERT INTO goya_private.timers (due, verb, task_id, node, item, attempt, rank, lane)
        VALUES (work.lease_until, 1, work.task_id, work.plan_node, work.item, work.attempt, work.rank, 2);
        PERFORM goya_private.wake_timers();
    END IF;
    IF heartbeat.progress IS NOT NULL OR heartbeat.message IS NOT NULL THEN
        -- A hint for people: never waits for who writes the node run, and whoever writes it later sees by the task's lock that this one has it.
        PERFORM FROM goya.tasks t WHERE t.id = work.task_id FOR SHARE SKIP LOCKED;
        IF NOT FOUND THEN
            RETURN true;
        END IF;
        UPDATE goya.node_runs r SET progress = coalesce(heartbeat.progress, r.progress), message = coalesce(left(heartbeat.message, 1000), r.message)
        WHERE r.ctid = (SELECT x.ctid FROM goya.node_runs x
                        WHERE x.task_id = work.task_id AND x.node = work.node AND x.item = work.item AND x.attempt = work.attempt AND x.status = 'waiting'
                        FOR NO KEY UPDATE SKIP LOCKED);
    END IF;
    RETURN true;
END;
$$;
COMMENT ON FUNCTION goya.heartbeat(uuid, real, text) IS
'Says that a worker is still at it, and how far: true while its work is wanted, false when it should stop.
Makes the lease as long again as it was claimed for. progress is 0 … 100, message up to 1000 characters; both are seen in goya.node_runs and goya.list_work.
False: the task was or is being cancelled, has failed or timed out, or the lease went to another worker; what is done after that is for nothing.
Errors: 22023 bad progress, 42501 no tenant or reader. Example: SELECT goya.heartbeat(''5d5b…'', 40, ''frame 120 of 300'');';

-- What came of a piece of work; false: it is no longer the caller's.
CREATE FUNCTION goya_private.finish_work(token uuid, result jsonb) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := goya_private.require_writer();
    work goya_private.work;
BEGIN
    UPDATE goya_private.work w SET result = finish_work.result, heartbeat_at = clock_timestamp()
    WHERE w.token = finish_work.token AND w.tenant_id = tenant AND w.result IS NULL
    RETURNING w.* INTO work;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF NOT EXISTS (SELECT FROM goya.node_runs r WHERE r.task_id = work.task_id AND r.node = work.node AND r.item = work.item
                                                      AND r.attempt = work.attempt AND r.status = 'waiting') THEN
        DELETE FROM goya_private.work w WHERE w.token = finish_work.token;     -- left behind when the task ended
        RETURN false;
    END IF;
    PERFORM goya_private.enqueue(work.task_id, work.tenant_id, work.priority, work.plan_node, work.item, work.attempt, 4);
    RETURN true;
END;
$$;

CREATE FUNCTION goya.complete_work(token uuid, output jsonb DEFAULT NULL, usage jsonb DEFAULT NULL) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- A bad quantity would fail the node where it is billed: it is the worker's mistake, and told to it.
    IF (CASE jsonb_typeof(complete_work.usage) WHEN 'null' THEN false WHEN 'number' THEN (complete_work.usage #>> '{}')::numeric < 0
            WHEN 'object' THEN EXISTS (SELECT FROM jsonb_each(complete_work.usage) u
                                       WHERE jsonb_typeof(u.value) <> 'number' OR CASE WHEN jsonb_typeof(u.value) = 'number' THEN (u.value #>> '{}')::numeric < 0 END)
            ELSE complete_work.usage IS NOT NULL END) THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad usage',
            DETAIL = format('%s is not a number of units, nor an object of such numbers.', left(complete_work.usage::text, 200)),
            HINT = 'Give usage as {"second": 12.5}; none may be negative.';
    END IF;
    RETURN goya_private.finish_work(complete_work.token, jsonb_build_object(
        'output', goya_private.seal_value(goya_private.require_writer(), complete_work.output), 'usage', complete_work.usage));
END;
$$;
COMMENT ON FUNCTION goya.complete_work(uuid, jsonb, jsonb) IS
'Says that claimed work is done, with its output: true, or false when it is no longer the caller''s and nothing was changed.
usage is what a priced node without a quantity of its own is billed for: {"unit": number, …} or a number. False: the lease went to another worker, the task ended, the node timed
out, or this was said before; after an answer that was lost, the task''s node run tells which.
Errors: 22023 bad usage, 42501 no tenant or reader. Example: SELECT goya.complete_work(''5d5b…'', ''{"frames": 300}'', ''{"second": 12.5}'');';

CREATE FUNCTION goya.fail_work(token uuid, error jsonb, class text DEFAULT 'TOOL_BUG', retry boolean DEFAULT true, retry_after interval DEFAULT NULL) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known constant text[] := ARRAY['TRANSIENT', 'TIMEOUT', 'RESOURCE_LIMIT', 'VALIDATION', 'POLICY_DENY', 'DEPENDENCY', 'TOOL_BUG', 'MODEL_REASONING', 'UNKNOWN'];
    said jsonb := CASE jsonb_typeof(fail_work.error) WHEN 'object' THEN fail_work.error
                       ELSE jsonb_build_object('message', coalesce(fail_work.error #>> '{}', 'the worker failed')) END;
BEGIN
    IF fail_work.class IS NULL OR fail_work.class <> ALL (known) THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad class of error',
            DETAIL = format('"%s" is none of %s.', fail_work.class, array_to_string(known, ', ')), HINT = 'Without one it is TOOL_BUG.';
    ELSIF fail_work.retry_after < interval '0' OR fail_work.retry_after > interval '30 days' THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'retry_after must be from 0 s to 30 days';
    END IF;
    RETURN goya_private.finish_work(fail_work.token, jsonb_strip_nulls(jsonb_build_object(
        'error', jsonb_build_object('code', left(coalesce(said ->> 'code', '38000'), 20), 'class', fail_work.class,
                                    'message', left(coalesce(said ->> 'message', 'the worker failed'), 2000),
                                    'detail', left(said ->> 'detail', 8000), 'hint', left(said ->> 'hint', 2000)),
        'retry', coalesce(fail_work.retry, true), 'retry_after_ms', ceil(extract(epoch FROM fail_work.retry_after) * 1000)::bigint)));
END;
$$;
COMMENT ON FUNCTION goya.fail_work(uuid, jsonb, text, boolean, interval) IS
'Says that claimed work failed: true, or false when it is no longer the caller''s and nothing was changed.
error is a message, or {"message", "code", "detail", "hint"}. class: TRANSIENT, TIMEOUT, RESOURCE_LIMIT, VALIDATION, POLICY_DENY, DEPENDENCY, TOOL_BUG, MODEL_REASONING,
UNKNOWN. The node''s retry rules decide whether it is tried again, as a new attempt that is new work; retry false: never. retry_after: not before that.
Errors: 22023 bad class or retry_after, 42501 no tenant or reader. Example: SELECT goya.fail_work(''5d5b…'', ''"no GPU left"'', ''TRANSIENT'', true, ''1 min'');';

CREATE FUNCTION goya.list_work(queue text DEFAULT NULL)
    RETURNS TABLE (queue text, status text, task_id uuid, node text, item integer, attempt integer, worker text, claims integer, progress real, message text,
                   offered_at timestamptz, claimed_at timestamptz, heartbeat_at timestamptz, lease_until timestamptz)
    LANGUAGE sql STABLE SECURITY DEFINER ROWS 100 SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        SELECT goya_private.require_tenant();      -- also where there is no work
        SELECT w.queue, CASE WHEN w.result IS NOT NULL THEN 'done' WHEN w.token IS NULL THEN 'open' WHEN w.lease_until < clock_timestamp() THEN 'expired' ELSE 'claimed' END,
               w.task_id, w.node, w.item, w.attempt::integer, w.worker, w.claims, w.progress, w.message, w.offered_at, w.claimed_at, w.heartbeat_at, w.lease_until
        FROM goya_private.work w
        WHERE w.tenant_id = goya_private.require_tenant() AND (list_work.queue IS NULL OR w.queue = list_work.queue)
        ORDER BY w.queue, w.rank;
    END;
COMMENT ON FUNCTION goya.list_work(text) IS
'Lists the work that waits for outside workers or is in their hands, of one queue or all of the caller''s tenant, in the order it is claimed.
status: open, claimed, expired (the lease has run out and nobody took it yet), done (its result is about to be recorded). Errors: 42501 no tenant.
Example: SELECT queue, status, count(*) FROM goya.list_work() GROUP BY 1, 2;';
