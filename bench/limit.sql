-- limit.sql: the limit probe: the writes that nobody can do without, and nothing else: no queue, no plan, no user, no checks.
--
-- Decided: two forms, both with set-based statements in batches, each process with tasks of its own, so that nothing is ever contended:
-- * narrow: a task row and a node-run row with the fewest columns that could hold the work, and the primary keys only.
-- * same: tables with the columns, indexes and storage parameters of goya.tasks and goya.node_runs, filled as goya fills them: what
--   remains when the engine costs nothing but its rows are kept.
-- A task: written as pending before the clock starts, as goya.run does; then one row per step and one update.
-- Must hold: app.limit_times says when each process began its first batch and committed its last.
\set ON_ERROR_STOP 1
\set QUIET 1
SET client_min_messages = warning;
CREATE TABLE app.limit_ids (place bigint PRIMARY KEY, id uuid NOT NULL);
CREATE TABLE app.limit_times (began timestamptz, ended timestamptz);

CREATE TABLE app.narrow_tasks (id uuid PRIMARY KEY, status text, input jsonb, output jsonb, created_at timestamptz, finished_at timestamptz)
    WITH (fillfactor = 70);
CREATE TABLE app.narrow_runs (task_id uuid, node text, item integer, attempt smallint, status text, input jsonb, output jsonb,
    started_at timestamptz, finished_at timestamptz, PRIMARY KEY (task_id, node, item, attempt));
CREATE TABLE app.same_tasks (LIKE goya.tasks INCLUDING ALL);
CREATE TABLE app.same_runs (LIKE goya.node_runs INCLUDING ALL);
SELECT format('ALTER TABLE app.%s SET (%s)', copy, array_to_string(reloptions, ', '))
FROM (VALUES ('goya.tasks'::regclass, 'same_tasks'), ('goya.node_runs', 'same_runs')) c(original, copy), pg_class
WHERE oid = original AND reloptions IS NOT NULL \gexec

-- Fresh pending tasks, places 1 … tasks.
CREATE PROCEDURE app.limit_submit(form text, tasks integer) LANGUAGE plpgsql AS $$
DECLARE
    workflow goya.workflows;
BEGIN
    SELECT * INTO STRICT workflow FROM goya.workflows WHERE name = 'chain';
    TRUNCATE app.limit_ids, app.limit_times, app.narrow_tasks, app.narrow_runs, app.same_tasks, app.same_runs;
    INSERT INTO app.limit_ids SELECT i, goya.new_id() FROM generate_series(1, tasks) i;
    IF form = 'narrow' THEN
        INSERT INTO app.narrow_tasks SELECT id, 'pending', '{"x": 1}', NULL, clock_timestamp(), NULL FROM app.limit_ids ORDER BY place;
    ELSE
        INSERT INTO app.same_tasks (id, tenant_id, workflow_id, revision, run_as, active, input, trace_id, created_at)
        SELECT id, workflow.tenant_id, workflow.id, 1, 'bench', 1, '{"x": 1}', id::text, clock_timestamp() FROM app.limit_ids ORDER BY place;
    END IF;
    COMMIT;
END;
$$;

CREATE PROCEDURE app.limit_narrow(first bigint, last bigint, batch integer, nodes text[]) LANGUAGE plpgsql AS $$
DECLARE
    began timestamptz := clock_timestamp();
    ids uuid[];
BEGIN
    WHILE first <= last LOOP
        SELECT array_agg(id) INTO ids FROM app.limit_ids WHERE place BETWEEN first AND least(first + batch - 1, last);
        INSERT INTO app.narrow_runs
        SELECT id, node, 0, 1, 'succeeded', '{"x": 1}', '{"x": 1}', clock_timestamp(), clock_timestamp() FROM unnest(ids) id, unnest(nodes) node;
        UPDATE app.narrow_tasks SET status = 'succeeded', output = '{"x": 1}', finished_at = clock_timestamp() WHERE id = ANY (ids);
        COMMIT;
        first := first + batch;
    END LOOP;
    INSERT INTO app.limit_times VALUES (began, clock_timestamp());
END;
$$;

CREATE PROCEDURE app.limit_same(first bigint, last bigint, batch integer, nodes text[]) LANGUAGE plpgsql AS $$
DECLARE
    began timestamptz := clock_timestamp();
    steps integer := cardinality(nodes);
    tenant uuid := (SELECT tenant_id FROM goya.workflows WHERE name = 'chain');
    ids uuid[];
BEGIN
    WHILE first <= last LOOP
        SELECT array_agg(id) INTO ids FROM app.limit_ids WHERE place BETWEEN first AND least(first + batch - 1, last);
        INSERT INTO app.same_runs (task_id, node, tenant_id, status, seq, input, output, started_at, finished_at)
        SELECT id, n.node, tenant, 'succeeded', n.place + 2, '{"x": 1}', '{"x": 1}', clock_timestamp(), clock_timestamp()
        FROM unnest(ids) id, unnest(nodes) WITH ORDINALITY n(node, place);
        UPDATE app.same_tasks SET status = 'succeeded', active = 0, done_nodes = steps, last_seq = steps + 3, started_seq = 2, finished_seq = steps + 3,
            progress = 100, output = '{"x": 1}', started_at = clock_timestamp(), finished_at = clock_timestamp() WHERE id = ANY (ids);
        COMMIT;
        first := first + batch;
    END LOOP;
    INSERT INTO app.limit_times VALUES (began, clock_timestamp());
END;
$$;
