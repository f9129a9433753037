-- setup.sql: what scenarios of test/model need: role studio, functions that fail as they are told, money, and a record of what people did.
--
-- Decided: effects are in a table without a unique key, so that doing something twice is seen and not refused. Which attempt a function is, it
-- reads from goya.node_runs: a count of its own would not survive the rollback of a failure.
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'studio') THEN CREATE ROLE studio LOGIN; END IF;
END $$;
GRANT goya_user TO studio;
CREATE SCHEMA app;
GRANT USAGE ON SCHEMA app TO studio;
CREATE TABLE app.effects (task uuid, node text, item integer, attempt integer);
CREATE INDEX ON app.effects (task);
GRANT SELECT, INSERT ON app.effects TO studio;
CREATE TABLE app.acts (n bigserial, task uuid, kind text, name text, payload jsonb, first boolean);
CREATE INDEX ON app.acts (task);
GRANT SELECT, INSERT ON app.acts TO studio;
GRANT USAGE ON SEQUENCE app.acts_n_seq TO studio;

CREATE FUNCTION app.work(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    fails integer := coalesce((input ->> 'fails')::integer, 0);
    work_item integer := coalesce((input ->> 'item')::integer, 0);
    attempt integer := 1;
BEGIN
    IF fails > 0 THEN
        SELECT 1 + count(*) INTO attempt FROM goya.node_runs r
        WHERE r.task_id = (input ->> 'task')::uuid AND r.node = input ->> 'node' AND r.item = work_item AND r.status = 'failed';
    END IF;
    INSERT INTO app.effects VALUES ((input ->> 'task')::uuid, input ->> 'node', work_item, attempt);
    IF input ? 'ms' THEN
        PERFORM pg_sleep((input ->> 'ms')::float8 / 1000);
    END IF;
    IF attempt <= fails THEN
        RAISE EXCEPTION USING ERRCODE = input ->> 'code', MESSAGE = format('%s fails at %s', input ->> 'node', attempt);
    END IF;
    RETURN jsonb_build_object('n', input -> 'n', 'in', input -> 'in');
END;
$$;
CREATE FUNCTION app.echo(input jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT input';

-- What somebody does to a task, in a transaction of its own; false: its row was busy, try again.
CREATE FUNCTION app.act(task uuid, kind text, name text, payload jsonb, first boolean DEFAULT false) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    CASE kind
        WHEN 'signal' THEN PERFORM goya.signal(task, name, payload);
        WHEN 'cancel' THEN
            IF NOT goya.cancel(task, 'enough') THEN
                RETURN true;
            END IF;
        WHEN 'pause' THEN PERFORM goya.pause(task);
        WHEN 'resume' THEN PERFORM goya.resume(task);
        WHEN 'approval' THEN PERFORM goya.approve(task, name, (payload ->> 'approved')::boolean, payload -> 'response', (payload ->> 'item')::integer);
    END CASE;
    INSERT INTO app.acts (task, kind, name, payload, first) VALUES (task, kind, name, payload, first);
    RETURN true;
EXCEPTION
    WHEN SQLSTATE '55000' THEN RETURN true;     -- it has ended
    WHEN SQLSTATE '55P03' THEN RETURN false;
END;
$$;

-- Starts a task; what is to happen at once happens in the same transaction.
CREATE FUNCTION app.start(scenario jsonb) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    task uuid := goya.run('model ' || (scenario ->> 'name'), scenario -> 'input', max_cost => (scenario ->> 'max_cost')::bigint,
                          run_at => CASE WHEN scenario ? 'delay' THEN clock_timestamp() + make_interval(secs => (scenario ->> 'delay')::float8) END);
BEGIN
    PERFORM app.act(task, a ->> 1, a ->> 2, a -> 3, true) FROM jsonb_array_elements(scenario -> 'actions') WITH ORDINALITY u(a, n)
    WHERE (a ->> 0)::integer = 0 ORDER BY n;
    RETURN task;
END;
$$;

CREATE FUNCTION app.epoch(at timestamptz) RETURNS float8 LANGUAGE sql IMMUTABLE AS 'SELECT extract(epoch FROM at)::float8';

-- Everything that is recorded of a task, for the model. Values may be sealed: tap/012_model.pl changes that all the time.
CREATE FUNCTION app.seen(task uuid) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object('id', t.id, 'status', t.status, 'input', goya.open_value(t.input), 'output', goya.open_value(t.output), 'error', nullif(t.error, 'null'), 'last_seq', t.last_seq,
        'started', app.epoch(t.started_at), 'finished', app.epoch(t.finished_at), 'run_at', app.epoch(t.run_at), 'item', t.parent_item, 'at', goya.open_value(t.input) -> 'at',
        'workflow', (SELECT w.name FROM goya.workflows w WHERE w.id = t.workflow_id),
        'runs', (SELECT coalesce(jsonb_agg(jsonb_build_object('node', r.node, 'item', r.item, 'attempt', r.attempt, 'status', r.status, 'message', r.message,
                        'input', goya.open_value(r.input), 'output', goya.open_value(r.output), 'error', r.error, 'cost', r.cost, 'started', app.epoch(r.started_at),
                        'finished', app.epoch(r.finished_at))), '[]') FROM goya.node_runs r WHERE r.task_id = t.id),
        'events', (SELECT jsonb_agg(jsonb_build_object('seq', e.seq, 'type', e.type, 'node', e.node, 'item', e.item, 'attempt', e.attempt, 'at', app.epoch(e.created_at))
                        ORDER BY e.seq) FROM goya.task_events e WHERE e.task_id = t.id),
        'effects', (SELECT coalesce(jsonb_object_agg(f.run, f.times), '{}') FROM
                        (SELECT format('%s/%s/%s', f.node, f.item, f.attempt) AS run, count(*) AS times FROM app.effects f WHERE f.task = t.id GROUP BY 1) f),
        'acts', (SELECT coalesce(jsonb_agg(jsonb_build_object('kind', a.kind, 'name', a.name, 'payload', a.payload, 'first', a.first) ORDER BY a.n), '[]')
                        FROM app.acts a WHERE a.task = t.id),
        'approvals', (SELECT coalesce(jsonb_agg(jsonb_build_object('node', a.node, 'item', a.item, 'attempt', a.attempt, 'status', a.status)), '[]')
                        FROM goya.approvals a WHERE a.task_id = t.id),
        'hold', (SELECT jsonb_build_object('amount', h.amount, 'captured', h.captured, 'open', h.status = 'open', 'used',
                        (SELECT coalesce(sum(u.cost), 0) FROM goya.usage_records u WHERE u.task_id = t.id)) FROM goya.holds h WHERE h.id = t.hold_id),
        'context', (SELECT c.state FROM goya.task_contexts c WHERE c.task_id = t.id),
        'patches', (SELECT coalesce(jsonb_agg(jsonb_build_object('node', p.node, 'diff', p.diff) ORDER BY p.version), '[]')
                        FROM goya.context_patches p WHERE p.task_id = t.id),
        'children', (SELECT coalesce(jsonb_agg(app.seen(c.id) ORDER BY c.id), '[]') FROM goya.tasks c WHERE c.parent_task_id = t.id AND c.parent_node IS NOT NULL))
    FROM goya.tasks t WHERE t.id = task
$$;

SELECT count(goya.set_price('look', 1000));
SELECT count(goya.top_up(1000000000000000, 'model'))
