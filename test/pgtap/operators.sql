-- operators.sql: the life of operators and of what is made of them: versions, dependencies, templates, trials, schemas when connected and when run, kinds of nodes as rows.

\set file operators
\ir lib/tasks.psql
SELECT no_plan();

CREATE FUNCTION regress_operators.echo(input jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT input';
CREATE FUNCTION regress_operators.size(input jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('area', (input #>> '{config,width}')::integer * 2, 'of', input -> 'input') $$;
CREATE TABLE regress_operators.noted (n integer);
GRANT INSERT, SELECT ON regress_operators.noted TO regress_operators;
CREATE FUNCTION regress_operators.note(input jsonb) RETURNS jsonb LANGUAGE sql AS $$ INSERT INTO regress_operators.noted VALUES (1); SELECT input $$;
CREATE FUNCTION pg_temp.state(operator text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT format('%s, active %s: %s', o.status, coalesce(o.active_version::text, 'none'), (SELECT string_agg(v.status, ' ' ORDER BY v.version) FROM goya.operator_versions v WHERE v.operator_id = o.id))
    FROM goya.operators o WHERE o.name = state.operator $$;
-- Starts a test, and says how it went: status, output, class of the error, problems.
CREATE FUNCTION pg_temp.test(call text) RETURNS uuid LANGUAGE sql VOLATILE AS $$ SELECT pg_temp.try(call)::uuid $$;
CREATE FUNCTION pg_temp.told(task uuid) RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT concat_ws(' ', r.status, r.output, r.error ->> 'class', nullif(r.problems, '[]')) FROM goya.test_result(task, '20 s') r $$;
SELECT set_config('test.n', extract(epoch FROM clock_timestamp())::bigint::text, false) AS n \gset
\set op 'op' :n
\set need 'need' :n

-- ---- versions ----
SELECT isnt(pg_temp.try(format($$SELECT goya.create_operator(%L, 'sql', '{"function": "regress_operators.missing"}', status => 'draft', type => 'echo', tags => '{a,b}')$$, :'op')), NULL, 'a draft may be wrong');
SELECT is(pg_temp.state(:'op'), 'draft, active none: draft', 'and is not active');
SELECT matches(pg_temp.try(format('SELECT goya.set_operator_status(%L, ''testing'')', :'op')), '^22023: the operator''s configuration has 1 error', 'what is tested is checked');
SELECT is(pg_temp.try(format($$SELECT goya.add_operator_version(%L, '{"function": "regress_operators.echo"}', status => 'testing')$$, :'op')), '2', 'a version to be tested');
SELECT is(pg_temp.state(:'op'), 'testing, active none: draft testing', 'the operator is as its newest version');
SELECT matches(pg_temp.try(format('SELECT goya.activate_operator_version(%L, 2)', :'op')), '^55000: version 2 of operator .* is not published', 'only what is published is activated');
SELECT matches(pg_temp.try(format($$SELECT goya.create_workflow('w%s', '{"nodes": [{"key": "a", "kind": "operator", "operator": "%s", "version": 2}]}', publish => true)$$, :'n', :'op')), '^22023', 'or published with');
SELECT is((SELECT string_agg(p.code || ': ' || p.message, ' ') FROM goya.validate_workflow(format('{"nodes": [{"key": "a", "kind": "operator", "operator": "%s", "version": 2}]}', :'op')::jsonb) p),
    format('operator_not_published: the version of operator "%s" is testing, not published', :'op'), 'which validation says');
SELECT is(pg_temp.try(format('SELECT goya.publish_operator(%L)', :'op')), '2', 'publishing takes the newest');
SELECT is(pg_temp.try(format($$SELECT goya.add_operator_version(%L, '{"function": "regress_operators.echo", "timeout": 5}')$$, :'op')), '3', 'by default a version is published at once');
SELECT is(pg_temp.try(format($$SELECT goya.add_operator_version(%L, '{"function": "regress_operators.echo", "timeout": 6}')$$, :'op')), '4', 'and another');
SELECT is(pg_temp.try(format('SELECT goya.rollback_operator(%L)', :'op')), '3', 'rolling back goes to the version active before');
SELECT is(pg_temp.try(format('SELECT goya.rollback_operator(%L)', :'op')), '2', 'and to the one before that');
SELECT matches(pg_temp.try(format('SELECT goya.rollback_operator(%L)', :'op')), '^55000', 'until there is none');
SELECT is(pg_temp.try(format('SELECT goya.activate_operator_version(%L, 4)', :'op')), '', 'any published version can be activated');
SELECT is(pg_temp.try(format('SELECT goya.set_operator_status(%L, ''deprecated'', 2)', :'op')), '', 'one that was active before is deprecated');
SELECT matches(pg_temp.try(format('SELECT goya.rollback_operator(%L)', :'op')), '^55000', 'and is not gone back to');
SELECT is((SELECT string_agg(f || '>' || t || ':' || left(pg_temp.try(format('SELECT goya.set_operator_status(%L, %L, %s)', 'moves' || :'n', t, v)), 5), ' ' ORDER BY f, t) FROM (VALUES
        ('draft', 'deprecated', 1), ('published', 'draft', 2), ('published', 'archived', 2), ('published', 'magic', 2)) m(f, t, v),
        (SELECT pg_temp.try(format($$SELECT goya.create_operator('moves%s', 'sql', '{}', status => 'draft')$$, :'n')),
                pg_temp.try(format($$SELECT goya.add_operator_version('moves%s', '{"function": "regress_operators.echo"}')$$, :'n'))) made),
    'draft>deprecated:55000 published>archived:55000 published>draft:55000 published>magic:22023', 'only the moves of goya.operator_moves are made');
SELECT is((SELECT count(*) FROM goya.operator_moves WHERE from_status = 'archived'), 0::bigint, 'what is archived stays so');
SELECT is(pg_temp.try(format('SELECT goya.set_operator_status(%L, ''deprecated'')', :'op')) || pg_temp.try(format('SELECT goya.set_operator_status(%L, ''archived'')', :'op')), '', 'the active version is deprecated, and archived');
SELECT is(pg_temp.state(:'op'), 'archived, active none: draft deprecated published archived', 'and not active any more');

-- ---- dependencies ----
SELECT matches(pg_temp.try(format($$SELECT goya.create_operator(%L, 'sql', '{"function": "regress_operators.echo"}', dependencies => '["x%s", {"operator": "y%s", "version": 2}]')$$, :'need', :'n', :'n')),
    '^55000: operator .* cannot be published', 'publishing asks for dependencies');
SELECT isnt(pg_temp.try(format($$SELECT goya.create_operator(%L, 'sql', '{"function": "regress_operators.echo"}', status => 'draft', dependencies => '["x%s", {"operator": "y%s", "version": 2}]')$$, :'need', :'n', :'n')), NULL, 'a draft does not');
SELECT is((SELECT goya_private.missing_dependencies(o) FROM goya.operators o WHERE o.name = :'need'),
    format('"x%s" does not exist, "y%s" version 2 does not exist', :'n', :'n'), 'all that is missing is listed');
SELECT isnt(pg_temp.try(format($$SELECT goya.create_operator('x%s', 'sql', '{"function": "regress_operators.echo"}')$$, :'n')), NULL, 'one is made');
SELECT isnt(pg_temp.try(format($$SELECT goya.create_operator('y%s', 'sql', '{"function": "regress_operators.echo"}')$$, :'n')), NULL, 'the other, in version 1');
SELECT is((SELECT goya_private.missing_dependencies(o) FROM goya.operators o WHERE o.name = :'need'), format('"y%s" version 2 is not published', :'n'), 'of which version 2 is asked for');
SELECT is(pg_temp.try(format($$SELECT goya.set_operator_dependencies(%L, '["y%s"]')$$, :'need', :'n')), '', 'any version will do');
SELECT is(pg_temp.try(format('SELECT goya.publish_operator(%L)', :'need')), '1', 'and it is published');
SELECT is(pg_temp.try(format('SELECT goya.set_operator_dependencies(%L, %L)', :'need', d)), '22023: bad dependencies', 'refused: ' || d)
FROM unnest(ARRAY['{}', '[5]', '[{"operator": "a", "version": 0}]', format('["%s"]', :'need')]) d;

-- ---- templates ----
SELECT is((SELECT array_agg(t.name ORDER BY t.name) FROM goya.operator_templates t WHERE t.origin = 'builtin'), '{ai.chat,ai.embed,cli.ffprobe,http.json,mcp.tool,sql.function,worker.queue}', 'goya''s own templates');
SELECT unalike(pg_temp.try(format($$SELECT goya.install_template(%L, %L, %L)$$, t, t || '.' || :'n', p)), '_____: %', 'installs ' || t) FROM (VALUES
    ('http.json', '{"url": "http://media.example/tag", "attempts": 5}'), ('sql.function', '{"function": "regress_operators.echo"}'), ('ai.chat', '{"model": "writer", "system": "Be brief."}'),
    ('ai.embed', '{"model": "embedder"}'), ('mcp.tool', '{"server": "s", "tool": "t"}'), ('cli.ffprobe', '{}'), ('worker.queue', '{"queue": "q"}')) v(t, p);
SELECT is((SELECT v.config::text FROM goya.operators o JOIN goya.operator_versions v ON v.operator_id = o.id WHERE o.name = 'http.json.' || :'n'),
    '{"url": "http://media.example/tag", "body": "{{ params }}", "retry": {"max_attempts": 5}, "method": "POST", "output": "$.output.body", "timeout": 30}', 'parameters and defaults are put in, what was not given is left out');
SELECT is((SELECT o.origin || ' ' || o.type FROM goya.operators o WHERE o.name = 'ai.chat.' || :'n'), 'template ai.chat', 'where it comes from is kept');
SELECT matches(pg_temp.try(format($$SELECT goya.install_template('http.json', 'bad%s', %L)$$, :'n', p)), '^22023: parameters do not fit template "http.json"', p) FROM unnest(ARRAY['{}', '{"url": 5}', '{"url": "http://x", "colour": 1}', '[]']) p;
SELECT matches(pg_temp.try($$SELECT goya.install_template('nix', 'nix')$$), '^PT404', 'an unknown template');
SELECT is(goya_private.fill_template('{"a": "${x}", "b": "n ${x} ${y}${z}", "c": ["${x}", "${y}"], "d": "{{ params.x }}"}', '{"x": 1, "y": "${x}"}')::text,
    '{"a": 1, "b": "n 1 ${x}", "c": [1, "${x}"], "d": "{{ params.x }}"}', 'what a parameter brings in is not filled again');
SELECT matches(pg_temp.try($$SELECT goya.create_operator_template('mine', 'sql', '{}')$$), '^42501', 'templates are added by administrators');
SELECT isnt(goya.create_operator_template('t' || :'n', 'sql', '{"function": "${f}"}', '{"required": ["f"]}'), NULL, 'who may');
SELECT unalike(pg_temp.try(format($$SELECT goya.install_template('t%1$s', 'of_t%1$s', '{"f": "regress_operators.echo"}')$$, :'n')), '_____: %', 'for all to install');
SELECT is(goya.drop_operator_template('t' || :'n')::text, '', 'and remove them');
SELECT throws_ok($$SELECT goya.drop_operator_template('http.json')$$, 'PT404', NULL, 'but not goya''s own');

-- ---- trials ----
SELECT unalike(pg_temp.try(format($$SELECT goya.create_operator('try%s', 'sql', '{"function": "regress_operators.echo", "price": "no-such-price", "artifact": {"type": "asset", "data": {"media_type": "image"}}}',
    '{"required": ["a"]}', '{"properties": {"a": {"type": "integer"}}}')$$, :'n')), '_____: %', 'an operator with a price that does not exist');
SELECT pg_temp.test(format($$SELECT goya.test_operator('try%s', '{"a": 1}')$$, :'n')) AS fits, pg_temp.test(format($$SELECT goya.test_operator('try%s', '{"b": 1}')$$, :'n')) AS bad_input,
       pg_temp.test(format($$SELECT goya.test_operator('try%s', '{"a": "x"}')$$, :'n')) AS bad_output \gset
SELECT is(pg_temp.told(:'fits'), 'succeeded {"a": 1}', 'a trial costs nothing');
SELECT is(pg_temp.told(:'bad_input'), 'failed VALIDATION [{"of": "input", "path": "", "message": "key \"a\" is missing"}]', 'it tells what is wrong with the input');
SELECT is(pg_temp.told(:'bad_output'), 'failed TOOL_BUG [{"of": "output", "path": "/a", "message": "expected integer, got string"}]', 'and with the output');
SELECT is((SELECT count(*) FROM goya.artifacts a WHERE a.task_id = :'fits') + (SELECT count(*) FROM goya.usage_records u WHERE u.task_id = :'fits'), 0::bigint, 'leaves nothing, and uses nothing that is billed');
SELECT is((SELECT count(*) FROM goya.workflow_revisions r JOIN goya.workflows w ON w.id = r.workflow_id WHERE w.name = format('~trial operator try%s@1', :'n')), 1::bigint, 'all in one revision of goya''s own workflow');
SELECT matches(pg_temp.try(format('SELECT goya.%s', call)), e, call) FROM (VALUES
    (format('run(%L)', '~trial operator try' || :'n' || '@1'), '^55000'), (format('enable_workflow(%L)', '~trial operator try' || :'n' || '@1'), '^PT404'),
    (format('publish_workflow(%L)', '~trial operator try' || :'n' || '@1'), '^PT404'), (format('create_workflow(%L, ''{}'')', '~mine'), '^22023'),
    ('test_operator(''nix'')', '^PT404'), (format('test_operator(%L, timeout => ''0'')', :'need'), '^22023'), (format('test_operator(%L, version => 4)', :'op'), '^55000'),
    (format('test_operator(%L, version => 1)', :'op'), '^22023')) v(call, e);
SELECT matches(pg_temp.try(format('SELECT (goya.test_result(goya.test_operator(%L))).status', :'need')), '^55000', 'a result is for another transaction');
UPDATE goya.tenants t SET settings = t.settings || '{"trials_per_minute": 2}' WHERE t.name = 'default';
DELETE FROM goya_private.trial_rates;
SELECT matches(pg_temp.try(format($$SELECT goya.test_operator('try%s', '{"a": 1}') FROM generate_series(1, 3)$$, :'n')), '^PT429: too many trials', 'no more than the tenant may make in a minute');
SELECT is((SELECT count(*) FROM goya_private.trial_rates), 0::bigint, 'those of a statement that failed do not count');
INSERT INTO goya_private.trial_rates SELECT t.id, date_trunc('minute', clock_timestamp()) + i, 2 FROM goya.tenants t, (VALUES (interval '0'), ('1 minute')) v(i) WHERE t.name = 'default'
    ORDER BY i DESC LIMIT 1;
SELECT matches(pg_temp.try($$SELECT goya.create_model('tried' || current_setting('test.n'), 'http://127.0.0.1:9/v1')$$), '^.{36}$', 'a model');
SELECT matches(pg_temp.try($$SELECT goya.test_model('tried' || current_setting('test.n'))$$), '^PT429: too many trials', 'those of models are among them');
UPDATE goya_private.trial_rates SET minute = minute - interval '2 minutes';
SELECT matches(pg_temp.try(format($$SELECT goya.test_operator('try%s', '{"a": 1}')$$, :'n')), '^.{36}$', 'another minute, another trial');
UPDATE goya.tenants t SET settings = t.settings - 'trials_per_minute' WHERE t.name = 'default';
SELECT is((SELECT count(*) FROM goya_private.trial_rates WHERE trials = 1), 1::bigint, 'the first of it');

-- ---- schemas: connected ----
SELECT unalike(pg_temp.try(format($$SELECT goya.create_operator('count%s', 'sql', '{"function": "regress_operators.echo"}', '{"type": "object", "required": ["n"], "properties": {"n": {"type": "number"}}}',
    '{"type": "object", "properties": {"n": {"type": "integer"}, "s": {"type": "string"}}}')$$, :'n')), '_____: %', 'an operator that takes a number and gives an integer and a string');
CREATE FUNCTION pg_temp.mismatches(nodes jsonb, edges jsonb DEFAULT '[{"from": "a", "to": "b"}]') RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(format('%s %s %s: %s', v.severity, v.code, v.node, v.message), '; ' ORDER BY v.node) FROM goya.validate_workflow(jsonb_build_object('nodes',
        (SELECT jsonb_agg(CASE n ->> 'kind' WHEN 'operator' THEN n || jsonb_build_object('operator', 'count' || current_setting('test.n')) ELSE n END) FROM jsonb_array_elements(nodes) n),
        'edges', edges, 'input', '{"type": "object", "properties": {"n": {"type": "string"}}, "additionalProperties": false}'::jsonb)) v $$;
SELECT is(pg_temp.mismatches(nodes::jsonb, coalesce(edges, '[{"from": "a", "to": "b"}]')::jsonb), expected, what) FROM (VALUES
    ('an integer is a number', '[{"key": "a", "kind": "operator", "input": {"n": 1}}, {"key": "b", "kind": "operator"}]', NULL, NULL),
    ('a string is not', '[{"key": "a", "kind": "operator", "input": {"n": 1}}, {"key": "b", "kind": "operator", "input": {"n": "{{ nodes.a.output.s }}"}}]', NULL, 'error schema_mismatch b: "n" of the input is string, and the node takes number'),
    ('nor is text with a path in it', '[{"key": "a", "kind": "operator", "input": {"n": "{{ input.n }} m"}}]', '[]', 'error schema_mismatch a: "n" of the input is string, and the node takes number'),
    ('nor the workflow''s own input', '[{"key": "a", "kind": "operator"}]', '[]', 'error schema_mismatch a: "n" of the input is string, and the node takes number'),
    ('a constant is looked at', '[{"key": "a", "kind": "operator", "input": {"n": "x"}}]', '[]', 'error schema_mismatch a: "n" of the input is string, and the node takes number'),
    ('what is missing is said', '[{"key": "a", "kind": "operator", "input": {"m": 1}}]', '[]', 'error schema_mismatch a: the node requires "n", which its input does not have'),
    ('what is not promised is a warning', '[{"key": "a", "kind": "sql", "function": "regress_operators.echo", "output_schema": {"properties": {"m": {}}}}, {"key": "b", "kind": "operator"}]', NULL, 'warning schema_mismatch b: the node requires "n", which nothing upstream promises'),
    ('what is not known is no problem', '[{"key": "a", "kind": "sql", "function": "regress_operators.echo"}, {"key": "b", "kind": "operator"}]', NULL, NULL),
    ('several predecessors give their outputs by key', '[{"key": "a", "kind": "noop"}, {"key": "n", "kind": "noop"}, {"key": "b", "kind": "operator"}, {"key": "c", "kind": "noop"}, {"key": "d", "kind": "operator"}]',
     '[{"from": "a", "to": "b"}, {"from": "n", "to": "b"}, {"from": "a", "to": "d"}, {"from": "c", "to": "d"}]', 'error schema_mismatch d: the node requires "n", which its input does not have'),
    ('behind a failure there is no output', '[{"key": "a", "kind": "operator", "input": {"n": 1}}, {"key": "b", "kind": "sql", "function": "regress_operators.echo", "input_schema": {"required": ["z"]}}]', '[{"from": "a", "to": "b", "on": "failure"}]', NULL)
    ) v(what, nodes, edges, expected);

-- ---- schemas: run ----
SELECT unalike(pg_temp.try(format($$SELECT goya.create_operator('noting%s', 'sql', '{"function": "regress_operators.note"}', '{"required": ["a"]}', '{"properties": {"a": {"type": "integer"}}}')$$, :'n')), '_____: %', 'an operator that writes');
SELECT pg_temp.start('ok', format('{"nodes": [{"key": "a", "kind": "operator", "operator": "noting%s"}]}', :'n')::jsonb, '{"a": 1}');
SELECT pg_temp.start('wrong input', format('{"nodes": [{"key": "a", "kind": "operator", "operator": "noting%s", "retry": {"max_attempts": 3, "initial": 0.01}}]}', :'n')::jsonb, '{"b": 1}');
SELECT pg_temp.start('wrong output', format('{"nodes": [{"key": "a", "kind": "operator", "operator": "noting%s"}, {"key": "b", "kind": "noop"}], "edges": [{"from": "a", "to": "b", "on": "failure"}]}', :'n')::jsonb, '{"a": "x"}');
SELECT is(pg_temp.outcome('ok'), 'succeeded {"a": 1}', 'what fits goes through');
SELECT is(pg_temp.outcome('wrong input'), 'failed VALIDATION 22023: the input does not fit the input schema of node "a"', 'a wrong input fails the node');
SELECT is(pg_temp.runs('wrong input'), 'a:failed', 'and is not tried again');
SELECT is(pg_temp.runs('wrong output'), 'a:failed b:succeeded', 'a wrong output too, as any failure');
SELECT is((SELECT r.error ->> 'class' || ' ' || (r.error ->> 'detail') FROM pg_temp.last_run('wrong output', 'a') r), 'TOOL_BUG /a: expected integer, got string', 'as the operator''s mistake');
SELECT is((SELECT count(*) FROM regress_operators.noted), 1::bigint, 'whose effects are undone');

-- ---- kinds ----
SELECT unalike(pg_temp.try(format($$SELECT goya.create_node_kind('resize_%s', 'regress_operators.size', '{"type": "object", "required": ["width"], "additionalProperties": false, "properties": {"width": {"type": "integer"}}}')$$, :'n')), '_____: %', 'a kind of nodes');
SELECT pg_temp.start('kind', format('{"nodes": [{"key": "a", "kind": "resize_%1$s", "width": "{{ params.w }}"}, {"key": "b", "kind": "map", "over": [1, 2], "node": {"key": "each", "kind": "resize_%1$s", "width": 7}}],
    "edges": [{"from": "a", "to": "b"}]}', :'n')::jsonb, '{"w": 21}');
SELECT is(pg_temp.output('kind', 'a')::text, '{"of": {"w": 21}, "area": 42}', 'its function gets fields and input');
SELECT is(pg_temp.outcome('kind'), 'succeeded [{"of": 1, "area": 14}, {"of": 2, "area": 14}]', 'in maps too');
SELECT pg_temp.run('kind, wrong value', $$SELECT goya.run('kind', '{"w": "wide"}')$$);
SELECT is(pg_temp.outcome('kind, wrong value'), 'failed VALIDATION 22023: the input does not fit the input schema of node "a"', 'fields are checked with their values');
SELECT is(pg_temp.try(format('SELECT goya.drop_node_kind(''resize_%s'')', :'n')), '', 'the kind goes');
SELECT pg_temp.run('kind, gone', $$SELECT goya.run('kind', '{"w": 1}')$$);
SELECT is(pg_temp.outcome('kind, gone'), 'succeeded [{"of": 1, "area": 14}, {"of": 2, "area": 14}]', 'what was published stays');
SELECT matches(pg_temp.try($$SELECT goya.publish_workflow('kind')$$), '^22023', 'and cannot be published again');
SELECT unalike(pg_temp.try($$SELECT goya.create_node_kind('crop', 'regress_operators.size', '{"required": ["width"], "properties": {"width": {"type": "integer"}}}')$$), '_____: %', 'another kind');
SELECT pg_temp.become(true);
SELECT is((SELECT string_agg(v.code || ' ' || v.message, '; ' ORDER BY v.node) FROM goya.validate_workflow('{"nodes": [{"key": "a", "kind": "crop", "width": "wide"}, {"key": "b", "kind": "crop"}, {"key": "c", "kind": "crop", "width": "{{ input.w }}"}]}') v),
    'bad_field width: expected integer, got string; bad_field key "width" is missing', 'fields are checked when the workflow is, but for what a template gives');
SELECT is((SELECT v.code || ' ' || v.hint FROM goya.validate_workflow('{"nodes": [{"key": "a", "kind": "htp"}]}') v), 'unknown_kind Did you mean "http"?', 'another word is no kind');
SELECT is(left(pg_temp.try(format('SELECT goya.create_node_kind(%s)', a)), 5), '22023', a) FROM unnest(ARRAY['''sql'', ''regress_operators.size''', '''Bad Name'', ''regress_operators.size''',
    '''x'', ''regress_operators.absent''', '''x'', ''regress_operators.size'', ''{"properties": {"input": {}}}''', '''x'', ''regress_operators.size'', ''{"type": 5}''']) a;
SELECT is(pg_temp.try('SELECT goya.drop_node_kind(''crop'')'), '', 'it goes');

SELECT pg_temp.try(format('SELECT goya.cancel(%L)', id)) FROM goya.tasks t WHERE NOT goya_private.is_terminal(t.status) AND t.run_as = 'regress_operators' \g /dev/null
\ir lib/finish.psql
