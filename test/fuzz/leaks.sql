-- leaks.sql: work for the leak checker (test/soak/sanitizers): calls that answer, fail, are denied, time out and are cancelled, and notifications.
\set ON_ERROR_STOP 1
CREATE ROLE leaks;
GRANT goya_user TO leaks;
SET ROLE leaks;
SELECT goya.create_workflow('leaks', jsonb_build_object('nodes', jsonb_build_array(jsonb_build_object('key', 'h', 'kind', 'http', 'url', 'http://127.0.0.1:' || :'port' || '{{ input.path }}',
    'timeout', '300 ms', 'headers', '{"X-A": "{{ input.n }}", "X-Empty": ""}'::jsonb))), publish => true) \g /dev/null
SELECT goya.create_workflow('told', '{"nodes": [{"key": "a", "kind": "noop"}]}', publish => true) \g /dev/null
SELECT goya.create_trigger('told', 'told', 'notify', channel => 'leaks') \g /dev/null
SELECT count(goya.run('leaks', jsonb_build_object('n', n, 'path', (ARRAY['/ok', '/status/503', '/hang', '/resethead', '/delay?ms=20', '/gzip', '/headers?kb=100', '/big?mb=1'])[1 + n % 8]))) AS started FROM generate_series(1, 500) n;
SELECT count(goya.cancel(id)) AS cancelled FROM (SELECT id FROM goya.tasks WHERE status IN ('pending', 'running') LIMIT 20) t;
SELECT count(pg_notify('leaks', n::text)) AS told FROM generate_series(1, 500) n;
RESET ROLE;
DO $$
BEGIN
    FOR i IN 1 .. 600 LOOP
        EXIT WHEN NOT EXISTS (SELECT FROM goya.tasks WHERE NOT goya_private.is_terminal(status)) AND (SELECT count(*) FROM goya.tasks t JOIN goya.workflows w ON w.id = t.workflow_id WHERE w.name = 'told') >= 500;
        PERFORM pg_sleep(0.05);
    END LOOP;
END $$;
SELECT w.name, t.status, count(*) FROM goya.tasks t JOIN goya.workflows w ON w.id = t.workflow_id GROUP BY 1, 2 ORDER BY 1, 2;
DO $$ BEGIN ASSERT NOT EXISTS (SELECT FROM goya.tasks WHERE NOT goya_private.is_terminal(status)), 'tasks are open'; END $$;
