-- run_many.sql: many tasks in one call: ids in the order of the inputs, the same checks and rows as goya.run, all or nothing. And what a session
-- keeps in memory about workflows, which must be right after what the same transaction did and after its rollback.

\set file run_many
\ir lib/tasks.psql
SELECT no_plan();
SELECT set_config('test.began', clock_timestamp()::text, false) \g /dev/null
CREATE FUNCTION pg_temp.made() RETURNS bigint LANGUAGE sql AS $$ SELECT count(*) FROM goya.tasks t WHERE t.run_as = current_setting('test.role') $$;
SELECT pg_temp.define('many', '{"input": {"type": "object", "properties": {"x": {"type": "integer", "minimum": 0}}, "required": ["x"]},
    "nodes": [{"key": "a", "kind": "transform", "output": "{{ input.x }}"}]}');
SELECT pg_temp.define('many any', '{"nodes": [{"key": "a", "kind": "transform", "output": ["{{ input }}", "{{ asset.uri }}"]}]}');
CREATE TEMP TABLE ids (label text, place bigint, id uuid);
GRANT ALL ON ids TO :role;
CREATE FUNCTION pg_temp.many(label text, call text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN pg_temp.try(format('WITH made AS (INSERT INTO pg_temp.ids SELECT %L, m.place, m.id FROM %s WITH ORDINALITY AS m(id, place) RETURNING id)
                               SELECT count(*) || '' '' || count(DISTINCT id) FROM made', many.label, many.call));
END $$;
CREATE FUNCTION pg_temp.outputs(label text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg((goya.wait_for_task(i.id, '20 s')).output::text, ' ' ORDER BY i.place) FROM pg_temp.ids i WHERE i.label = outputs.label $$;

-- ---- what it starts ----

SELECT is(pg_temp.many('three', $$goya.run_many('many', '[{"x": 1}, {"x": 2}, {"x": 3}]')$$), '3 3', 'a task for each input');
SELECT is(pg_temp.outputs('three'), '1 2 3', 'in the order of the inputs');
SELECT is((SELECT string_agg(DISTINCT format('%s %s %s %s', t.priority, t.trace_id = t.id::text, t.depth, t.run_as = current_setting('test.role')), ',')
           FROM goya.tasks t JOIN ids USING (id) WHERE label = 'three'), '0 t 0 t', 'with what run would have given them');
SELECT is(pg_temp.many('none', $$goya.run_many('many', '[]')$$), '0 0', 'no input, no task');
SELECT is(pg_temp.many('thousand', $$goya.run_many('many', (SELECT jsonb_agg(jsonb_build_object('x', i)) FROM generate_series(1, 1234) i))$$), '1234 1234', 'more than are written at once');
SELECT is((SELECT count(*) FROM ids JOIN LATERAL goya.wait_for_task(ids.id, '30 s') t ON true WHERE label = 'thousand' AND t.status = 'succeeded' AND t.output = to_jsonb(place)), 1234::bigint, 'each has run, with its own input');
SELECT is(pg_temp.many('options', $$goya.run_many('many', '[{"x": 1}, {"x": 2}]', priority => 7, trace_id => 'load-1', max_cost => 5, run_at => clock_timestamp() + interval '1 s')$$), '2 2', 'options');
SELECT is((SELECT string_agg(format('%s %s %s %s %s', t.status, t.priority, t.trace_id, t.max_cost, t.run_at > t.created_at), ',') FROM goya.tasks t JOIN ids USING (id) WHERE label = 'options'),
          'pending 7 load-1 5 t,pending 7 load-1 5 t', 'are those of every task; none runs before its time');
SELECT is(pg_temp.outputs('options'), '1 2', 'then they run');
SELECT is(pg_temp.many('nulls', $$goya.run_many('many any', '[null, 1, "a", [], {}]')$$), '5 5', 'inputs of any type');
SELECT is(pg_temp.outputs('nulls'), '[null, null] [1, null] ["a", null] [[], null] [{}, null]', 'reach the tasks as they are');

SELECT pg_temp.try($$SELECT goya.register_asset('file:///many-1.mp4', 'video')$$) \g /dev/null
SELECT pg_temp.try($$SELECT goya.register_asset('file:///many-2.mp4', 'video')$$) \g /dev/null
CREATE FUNCTION pg_temp.assets() RETURNS uuid[] LANGUAGE sql AS $$ SELECT array_agg(id ORDER BY uri) FROM (SELECT DISTINCT ON (uri) id, uri FROM goya.assets WHERE uri LIKE 'file:///many-%' ORDER BY uri, id DESC) a $$;
SELECT is(pg_temp.many('assets', $$goya.run_many('many any', assets => pg_temp.assets())$$), '2 2', 'a task for each asset');
SELECT is(pg_temp.outputs('assets'), '[{}, "file:///many-1.mp4"] [{}, "file:///many-2.mp4"]', 'which is its asset');
SELECT is(pg_temp.many('some assets', $$goya.run_many('many any', '[1, 2]', assets => ARRAY[NULL, (pg_temp.assets())[1]])$$), '2 2', 'inputs and assets');
SELECT is(pg_temp.outputs('some assets'), '[1, null] [2, "file:///many-1.mp4"]', 'null is none');

-- ---- refused, with nothing left behind ----

SELECT pg_temp.made() AS made \gset
SELECT is(pg_temp.many('x', $$goya.run_many('many', '[{"x": 1}, {"x": -1}, {"y": 1}]')$$), '22023: inputs[1] does not fit the workflow''s input schema', 'the first wrong input is named by its place');
SELECT is(pg_temp.many('x', $$goya.run_many('many', (SELECT jsonb_agg(jsonb_build_object('x', 500 - i)) FROM generate_series(0, 600) i))$$), '22023: inputs[501] does not fit the workflow''s input schema', 'also far behind');
SELECT is(pg_temp.many('x', $$goya.run_many('many', '{"x": 1}')$$), '22023: inputs is not an array', 'inputs: an object');
SELECT is(pg_temp.many('x', $$goya.run_many('many', '1')$$), '22023: inputs is not an array', 'inputs: a number');
SELECT is(pg_temp.many('x', $$goya.run_many('many')$$), '22023: inputs must not be null', 'inputs: null');
SELECT is(pg_temp.many('x', $$goya.run_many(NULL, '[]')$$), '22023: workflow must not be null', 'workflow: null');
SELECT is(pg_temp.many('x', $$goya.run_many('not there', '[]')$$), 'PT404: workflow "not there" not found', 'workflow: unknown, even for no input');
SELECT is(pg_temp.many('x', $$goya.run_many('many', '[{"x": 1}]', assets => '{}')$$), '22023: assets has 0 elements, not 1', 'assets: too few');
SELECT is(pg_temp.many('x', $$goya.run_many('many', '[{"x": 1}]', idempotency_keys => '{a,b}')$$), '22023: idempotency_keys has 2 elements, not 1', 'keys: too many');
SELECT is(pg_temp.many('x', $$goya.run_many('many', '[{"x": 1}]', idempotency_keys => '{{a},{b}}')$$), '22023: idempotency_keys has more than one dimension', 'keys: two dimensions');
SELECT is(pg_temp.many('x', $$goya.run_many('many any', '[1, 2]', assets => ARRAY[NULL, '00000000-0000-7000-8000-00000000dead']::uuid[])$$), 'PT404: asset 00000000-0000-7000-8000-00000000dead not found', 'assets: unknown');
SELECT is(pg_temp.many('x', $$goya.run_many('many', '[{"x": 1}]', priority => 101)$$), '22023: priority must be from -100 to 100', 'priority');
SELECT is(pg_temp.many('x', $$goya.run_many('many', '[{"x": 1}]', max_cost => -1)$$), '22023: max_cost must not be negative', 'max_cost');
SELECT is(pg_temp.made(), :'made'::bigint, 'nothing of these is there');

-- ---- idempotency ----

SELECT is(pg_temp.many('first', format($$goya.run_many('many', '[{"x": 1}, {"x": 2}, {"x": 3}]', idempotency_keys => ARRAY[%1$L || 'a', NULL, %1$L || 'b'])$$, current_setting('test.began'))), '3 3', 'keys');
SELECT is(pg_temp.many('again', format($$goya.run_many('many', '[{"x": 3}, {"x": 4}, {"x": 1}, {"x": 4}]', idempotency_keys => ARRAY[%1$L || 'b', %1$L || 'c', %1$L || 'a', %1$L || 'c'])$$, current_setting('test.began'))), '4 3', 'keys used before, here or earlier');
SELECT is((SELECT string_agg(coalesce(f.place::text, 'new'), ' ' ORDER BY a.place) FROM ids a LEFT JOIN ids f ON f.id = a.id AND f.label = 'first' WHERE a.label = 'again'), '3 new 1 new', 'give the task they started');
SELECT is(pg_temp.try(format($$SELECT goya.run('many', '{"x": 1}', idempotency_key => %L || 'a')$$, current_setting('test.began')))::uuid, (SELECT id FROM ids WHERE label = 'first' AND place = 1), 'the keys are those of run');
SELECT pg_temp.made() AS made \gset
SELECT is(pg_temp.many('x', format($$goya.run_many('many', '[{"x": 9}, {"x": 9}]', idempotency_keys => ARRAY[%1$L || 'new', %1$L || 'a'])$$, current_setting('test.began'))),
    format('23505: idempotency key "%sa" was used for another request', current_setting('test.began')), 'another request under a key is refused');
SELECT is(pg_temp.many('x', format($$goya.run_many('many', '[{"x": 8}, {"x": 9}]', idempotency_keys => ARRAY[%1$L || 'd', %1$L || 'd'])$$, current_setting('test.began'))),
    format('23505: idempotency key "%sd" was used for another request', current_setting('test.began')), 'also by the same call');
SELECT is(pg_temp.many('x', $$goya.run_many('many', '[{"x": 8}]', idempotency_keys => ARRAY[repeat('k', 256)])$$), '22023: idempotency_key is longer than 255 bytes', 'a key that is too long');
SELECT is(pg_temp.made(), :'made'::bigint, 'and leaves nothing');
SELECT is((SELECT count(*) FROM goya_private.idempotency_keys WHERE key = current_setting('test.began') || 'new'), 0::bigint, 'no key either');

-- ---- context and price ----

SELECT pg_temp.define('many context', '{"context": {"vars": {"n": {"default": 5}}}, "nodes": [{"key": "a", "kind": "transform", "output": "{{ vars.n }}"}]}');
SELECT is(pg_temp.many('context', $$goya.run_many('many context', '[{}, {}]')$$), '2 2', 'a workflow with context');
SELECT is(pg_temp.outputs('context'), '5 5', 'has one for each task');
SELECT goya.create_tenant('many-' || to_char(current_setting('test.began')::timestamptz, 'yyyymmddhh24miss')) \g /dev/null
CREATE ROLE regress_run_many_paying; GRANT goya_user TO regress_run_many_paying;
SELECT goya.add_member('regress_run_many_paying', 'many-' || to_char(current_setting('test.began')::timestamptz, 'yyyymmddhh24miss')) \g /dev/null
SELECT goya.top_up(100, 'many', 'many-' || to_char(current_setting('test.began')::timestamptz, 'yyyymmddhh24miss')), goya.set_price('many', 10, tenant => 'many-' || to_char(current_setting('test.began')::timestamptz, 'yyyymmddhh24miss')) \g /dev/null
BEGIN;
SET LOCAL ROLE regress_run_many_paying;
SELECT goya.create_workflow('many paid', '{"nodes": [{"key": "a", "kind": "wait", "signal": "never", "price": {"name": "many"}}]}', publish => true) \g /dev/null
SELECT is((SELECT count(*) FROM goya.run_many('many paid', '[1, 2, 3]')), 3::bigint, 'a workflow with a price');
SELECT is((SELECT format('%s %s', count(*), sum(h.amount)) FROM goya.holds h JOIN goya.tasks t ON t.hold_id = h.id), '3 30', 'holds for each task');
SELECT is((SELECT format('%s %s', w.balance, w.frozen) FROM goya.wallets w), '70 30', 'from the wallet');
SELECT throws_ok($$SELECT goya.run_many('many paid', (SELECT jsonb_agg(i) FROM generate_series(1, 8) i))$$, 'PT402', NULL, 'not more than there is');
SELECT is((SELECT count(*) FROM goya.tasks), 3::bigint, 'and then none');

-- ---- the highest priority that a tenant's tasks may have ----

SELECT goya.create_workflow('ranked', '{"nodes": [{"key": "a", "kind": "noop"}]}', publish => true) \g /dev/null
SELECT goya.current_tenant() AS tenant, w.id AS workflow FROM goya.workflows w WHERE w.name = 'ranked' \gset
SELECT throws_ok($$SELECT goya.run('ranked', priority => 1)$$, '22023', 'priority 1 is higher than this tenant''s tasks may have', 'a new tenant''s is 0: goya.run');
SELECT throws_ok($$SELECT goya.run_many('ranked', '[1]', priority => 100)$$, '22023', 'priority 100 is higher than this tenant''s tasks may have', '... and goya.run_many');
SELECT lives_ok($$SELECT goya.run('ranked'), goya.run('ranked', priority => -100), goya.run_many('ranked', '[1]', priority => 0)$$, 'that and less are free');
RESET ROLE;
UPDATE goya.tenants SET max_priority = 7 WHERE id = :'tenant';
SET LOCAL ROLE regress_run_many_paying;
SELECT lives_ok($$SELECT goya.run('ranked', priority => 7)$$, 'an administrator gives more, and it counts at once');
SELECT throws_ok($$SELECT goya.run('ranked', priority => 8)$$, '22023', NULL, '... no more than that');
RESET ROLE;
UPDATE goya.tenants SET max_priority = -10 WHERE id = :'tenant';
SET LOCAL ROLE regress_run_many_paying;
SELECT goya.run('ranked') AS lowly \gset
SELECT is((SELECT priority::integer FROM goya.tasks WHERE id = :'lowly'), -10, 'one below 0 is that of tasks which ask for none');
SELECT throws_ok($$SELECT goya.run('ranked', priority => -9)$$, '22023', NULL, '... and more is refused');
RESET ROLE;
SELECT goya_private.start_task(:'tenant', 'regress_run_many_paying', NULL, :'workflow', '{}', NULL, NULL, 50, NULL, NULL, NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL) AS again,
       goya_private.start_task(:'tenant', 'regress_run_many_paying', NULL, :'workflow', '{}', NULL, NULL, 50, NULL, NULL, NULL, 1, NULL, NULL, :'lowly', 0, 0, NULL) AS child \gset
SELECT is((SELECT priority::integer FROM goya.tasks WHERE id = :'again'), -10, 'a task that nobody asks for has no more than the tenant may have now');
SELECT is((SELECT priority::integer FROM goya.tasks WHERE id = :'child'), 50, 'a child has its parent''s');
ROLLBACK;
DROP OWNED BY regress_run_many_paying;
SELECT goya.remove_member('regress_run_many_paying') \g /dev/null
DROP ROLE regress_run_many_paying;

-- ---- what is kept in memory ----

CREATE FUNCTION pg_temp.twice() RETURNS text LANGUAGE sql AS $$ SELECT pg_temp.try('SELECT goya.run(''many kept'', ''{}'') IS NOT NULL') $$;
SELECT pg_temp.define('many kept', '{"nodes": [{"key": "a", "kind": "noop"}]}');
SELECT is(pg_temp.twice(), 'true', 'a workflow that this session knows');
SELECT pg_temp.try($$SELECT goya.disable_workflow('many kept')$$) \g /dev/null
SELECT is(pg_temp.twice(), '55000: workflow "many kept" is disabled', 'disabled');
SELECT pg_temp.try($$SELECT goya.enable_workflow('many kept')$$) \g /dev/null
SELECT is(pg_temp.twice(), 'true', 'enabled');
UPDATE goya.workflows SET name = 'many other' WHERE name = 'many kept';
SELECT is(pg_temp.twice(), 'PT404: workflow "many kept" not found', 'renamed');
UPDATE goya.workflows SET name = 'many kept' WHERE name = 'many other';
SELECT is(pg_temp.twice(), 'true', 'and back');
UPDATE goya.workflows SET owner_role = 'postgres', visibility = 'private' WHERE name = 'many kept';
SELECT is(pg_temp.twice(), 'PT404: workflow "many kept" not found', 'somebody else''s, private');
UPDATE goya.workflows SET visibility = 'role', visible_roles = ARRAY[current_setting('test.role')::name] WHERE name = 'many kept';
SELECT is(pg_temp.twice(), 'true', 'shared with the role');
UPDATE goya.workflows SET visible_roles = '{}' WHERE name = 'many kept';
SELECT is(pg_temp.twice(), 'PT404: workflow "many kept" not found', 'no longer');
UPDATE goya.workflows SET owner_role = current_setting('test.role') WHERE name = 'many kept';
BEGIN;
SET LOCAL session_replication_role = replica;
UPDATE goya.workflows SET enabled = false WHERE name = 'many kept';
SELECT is(pg_temp.twice(), '55000: workflow "many kept" is disabled', 'changed by replication, in the same transaction');
ROLLBACK;
SELECT is(pg_temp.twice(), 'true', 'and rolled back');
BEGIN;
SELECT pg_temp.define('many kept', '{"input": {"type": "string"}, "nodes": [{"key": "a", "kind": "noop"}]}');
SELECT is(pg_temp.twice(), '22023: input does not fit the workflow''s input schema', 'a revision of this transaction');
ROLLBACK;
SELECT is(pg_temp.twice(), 'true', 'is gone with it');
SELECT pg_temp.define('many kept', '{"input": {"type": "array"}, "nodes": [{"key": "a", "kind": "noop"}]}');
SELECT is(pg_temp.try($$SELECT goya.run('many kept', '[]') IS NOT NULL$$), 'true', 'and another of the same number is not taken for it');

\ir lib/finish.psql
