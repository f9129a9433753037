-- bench/setup.sql: what all workloads use: role bench, schema app with a function that does nothing, and the tables and procedures of the
-- limit probe. The probe does only the unavoidable writes of a chain of three steps (one task row written and updated, one row per
-- step) in batches, and nothing else: no queue, no plan, no user, no checks.
\set ON_ERROR_STOP 1
\set QUIET 1
CREATE ROLE bench; GRANT goya_user TO bench;
CREATE SCHEMA app AUTHORIZATION bench;
CREATE FUNCTION app.same(input jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS 'SELECT input';
ALTER FUNCTION app.same(jsonb) OWNER TO bench;

CREATE TABLE app.probe_tasks (id uuid PRIMARY KEY, place bigint, status text, input jsonb, output jsonb, created_at timestamptz, finished_at timestamptz)
    WITH (fillfactor = 70);
CREATE TABLE app.probe_runs (task_id uuid, node text, item integer, attempt smallint, status text, input jsonb, output jsonb,
    started_at timestamptz, finished_at timestamptz, PRIMARY KEY (task_id, node, item, attempt));

CREATE PROCEDURE app.probe(first bigint, last bigint, batch integer) LANGUAGE plpgsql AS $$
DECLARE
    ids uuid[];
BEGIN
    WHILE first <= last LOOP
        SELECT array_agg(id) INTO ids FROM app.probe_ids WHERE place BETWEEN first AND least(first + batch - 1, last);
        INSERT INTO app.probe_runs
        SELECT id, node, 0, 1, 'succeeded', '{"x": 1}', '{"x": 1}', clock_timestamp(), clock_timestamp()
        FROM unnest(ids) id, unnest(ARRAY['a', 'b', 'c']) node;
        UPDATE app.probe_tasks SET status = 'succeeded', output = '{"x": 1}', finished_at = clock_timestamp() WHERE id = ANY (ids);
        COMMIT;
        first := first + batch;
    END LOOP;
END;
$$;

SET ROLE bench;
SELECT goya.create_workflow('chain', '{"nodes": [{"key": "a", "kind": "sql", "function": "app.same"}, {"key": "b", "kind": "sql", "function": "app.same"},
    {"key": "c", "kind": "sql", "function": "app.same"}], "edges": [{"from": "a", "to": "b"}, {"from": "b", "to": "c"}]}', publish => true) \g /dev/null
SELECT goya.create_workflow('fan', jsonb_build_object(
    'nodes', jsonb_build_array(jsonb_build_object('key', 'root', 'kind', 'sql', 'function', 'app.same')) ||
        (SELECT jsonb_agg(jsonb_build_object('key', 'n' || i, 'kind', 'sql', 'function', 'app.same')) FROM generate_series(1, 8) i) ||
        jsonb_build_array(jsonb_build_object('key', 'join', 'kind', 'sql', 'function', 'app.same', 'input', '{{ input }}')),
    'edges', (SELECT jsonb_agg(jsonb_build_object('from', 'root', 'to', 'n' || i)) || jsonb_agg(jsonb_build_object('from', 'n' || i, 'to', 'join'))
              FROM generate_series(1, 8) i)), publish => true) \g /dev/null
SELECT goya.create_workflow('map', '{"nodes": [{"key": "root", "kind": "sql", "function": "app.same"},
    {"key": "each", "kind": "map", "over": "{{ nodes.root.output.items }}", "node": {"kind": "sql", "function": "app.same", "input": {"i": "{{ item }}"}}},
    {"key": "join", "kind": "sql", "function": "app.same", "input": {}}],
    "edges": [{"from": "root", "to": "each"}, {"from": "each", "to": "join"}]}', publish => true) \g /dev/null
RESET ROLE;
