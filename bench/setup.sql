-- setup.sql: what the workloads use in each database: role bench, schema app with a function that does nothing, and the workflows.
--
-- Decided: the steps of W1, W2, W4 and W6 call an SQL function of the task's owner: real steps, that do nothing. Those that show how cost grows
-- with the graph are noops: 10,000 of them fit into the 1 MB that a definition may have.
-- Must hold: can run in several databases of one cluster.
\set ON_ERROR_STOP 1
\set QUIET 1
SET client_min_messages = warning;
SELECT 'CREATE ROLE bench' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'bench') \gexec
GRANT goya_user TO bench;
CREATE SCHEMA app AUTHORIZATION bench;
GRANT USAGE ON SCHEMA app TO PUBLIC;
CREATE FUNCTION app.same(input jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS 'SELECT input';
ALTER FUNCTION app.same(jsonb) OWNER TO bench;

-- A chain of `depth` steps n1, n2 …; more: further fields of each node.
CREATE FUNCTION app.chain(depth integer, node jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object(
        'nodes', (SELECT jsonb_agg(jsonb_build_object('key', 'n' || i) || node ORDER BY i) FROM generate_series(1, depth) i),
        'edges', (SELECT coalesce(jsonb_agg(jsonb_build_object('from', 'n' || i, 'to', 'n' || i + 1) ORDER BY i), '[]') FROM generate_series(1, depth - 1) i))
$$;
-- One root, `width` steps at once, one join.
CREATE FUNCTION app.fan(width integer, node jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object(
        'nodes', jsonb_build_array(jsonb_build_object('key', 'r') || node, jsonb_build_object('key', 'j', 'input', '{{ input }}'::text) || node)
            || (SELECT jsonb_agg(jsonb_build_object('key', 'n' || i) || node ORDER BY i) FROM generate_series(1, width) i),
        'edges', (SELECT jsonb_agg(jsonb_build_object('from', 'r', 'to', 'n' || i)) || jsonb_agg(jsonb_build_object('from', 'n' || i, 'to', 'j'))
                  FROM generate_series(1, width) i))
$$;

SET ROLE bench;
SELECT goya.create_workflow('chain', app.chain(3, '{"kind": "sql", "function": "app.same"}'), publish => true) \g /dev/null
SELECT goya.create_workflow('fan', app.fan(8, '{"kind": "sql", "function": "app.same"}'), publish => true) \g /dev/null
SELECT goya.create_workflow('map', '{"nodes": [{"key": "root", "kind": "sql", "function": "app.same"},
    {"key": "each", "kind": "map", "over": "{{ nodes.root.output.items }}", "node": {"kind": "sql", "function": "app.same", "input": {"i": "{{ item }}"}}},
    {"key": "join", "kind": "sql", "function": "app.same", "input": {}}],
    "edges": [{"from": "root", "to": "each"}, {"from": "each", "to": "join"}]}', publish => true) \g /dev/null
RESET ROLE;
