-- badinput.sql: everything that must be refused: each a clear error with its code, a detail or a hint, and nothing half-written.
--
-- refused(statement, SQLSTATE, words, description) runs the statement as the role: it must fail with that code, message or detail must hold the words, there
-- must be a detail or a hint, and not one row may have changed in any table of goya and goya_private. What fails only at run time must be data on the run.

\set file badinput
\ir lib/tasks.psql
SELECT no_plan();

CREATE FUNCTION pg_temp.count_rows() RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    total bigint := 0;
    n bigint;
    name regclass;
BEGIN
    FOR name IN SELECT c.oid::regclass FROM pg_class c WHERE c.relkind IN ('r', 'p') AND c.relnamespace IN ('goya'::regnamespace, 'goya_private'::regnamespace) LOOP
        EXECUTE format('SELECT count(*) FROM %s', name) INTO n;
        total := total + n;
    END LOOP;
    RETURN total;
END $$;

CREATE FUNCTION pg_temp.refused(statement text, code text, words text, description text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    before bigint := pg_temp.count_rows();
    result text;
    message text;
    detail text;
    hint text;
    state text := 'no error';
BEGIN
    BEGIN
        PERFORM pg_temp.become(true);
        EXECUTE statement INTO result;
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    END;
    PERFORM pg_temp.become(false);
    RETURN is(format('%s %s%s %s', state, CASE WHEN strpos(concat_ws(E'\n', message, detail), words) > 0 THEN words ELSE concat_ws(E'\n', message, detail) END,
                     CASE WHEN detail = '' AND hint = '' AND code NOT IN ('42501', '42883', '22P02', '22021') THEN ', without detail and hint' ELSE '' END,
                     pg_temp.count_rows() - before),
              format('%s %s %s', code, words, 0), description);
END $$;

-- What create_workflow(…, publish => true) says of a definition.
CREATE FUNCTION pg_temp.refused_definition(definition text, words text, description text) RETURNS text LANGUAGE sql AS $$
    SELECT pg_temp.refused(format('SELECT goya.create_workflow(''bad'', %L, publish => true)', definition), '22023', words, description)
$$;

SELECT pg_temp.define('bad good', '{"input": {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0}}, "required": ["n"]}, "nodes": [{"key": "a", "kind": "noop"}]}');
SELECT pg_temp.define('bad disabled', '{"nodes": [{"key": "a", "kind": "noop"}]}');
SELECT pg_temp.try($$SELECT goya.disable_workflow('bad disabled')$$) \g /dev/null
SELECT pg_temp.try($$SELECT goya.create_workflow('bad draft', '{"nodes": [{"key": "a", "kind": "noop"}]}')$$) \g /dev/null
CREATE FUNCTION regress_badinput.echo(input jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT input';
CREATE FUNCTION regress_badinput.nan(input jsonb) RETURNS double precision LANGUAGE sql AS $$ SELECT 'NaN'::double precision $$;
CREATE FUNCTION regress_badinput.two(a integer, b integer) RETURNS integer LANGUAGE sql AS 'SELECT a + b';

-- ---- definitions ----

SELECT pg_temp.refused_definition('[]', 'not an object', 'a definition that is no object');
SELECT pg_temp.refused_definition('{}', 'nodes', 'no nodes');
SELECT pg_temp.refused_definition('{"nodes": [{"key": "a", "kind": "operator", "operator": "no.such"}]}', 'unknown_operator', 'an unknown operator');
SELECT pg_temp.refused_definition('{"nodes": [{"key": "a", "kind": "noop"}, {"key": "b", "kind": "noop"}, {"key": "c", "kind": "noop"}], "edges": [{"from": "a", "to": "b"}, {"from": "b", "to": "c"}, {"from": "c", "to": "b"}]}', 'cycle', 'a cycle');
SELECT pg_temp.refused_definition('{"nodes": [{"key": "a", "kind": "noop"}], "edges": [{"from": "a", "to": "a"}]}', 'self_edge', 'an edge to itself');
SELECT pg_temp.refused_definition('{"nodes": [{"key": "a", "kind": "noop"}], "edges": [{"from": "a", "to": "z"}]}', 'dangling_edge', 'an edge to nowhere');
SELECT pg_temp.refused_definition('{"nodes": [{"key": "a", "kind": "transform", "output": "{{ nodes. }}"}]}', 'bad_', 'a bad path');
SELECT pg_temp.refused_definition('{"nodes": [{"key": "a", "kind": "transform", "output": "{{ $.input[ }}"}]}', 'bad_', 'a bad jsonpath');
SELECT pg_temp.refused_definition('{"nodes": [{"key": "a", "kind": "transform", "output": "{{ somewhere.x }}"}]}', 'unknown_root', 'an unknown root');
SELECT pg_temp.refused_definition('{"nodes": [{"key": "a", "kind": "transform", "output": "{{ nodes.b.output }}"}, {"key": "b", "kind": "noop"}]}', 'not_upstream', 'a node that is not before it');
SELECT pg_temp.refused_definition('{"nodes": [{"key": "a", "kind": "noop", "timeout": []}]}', 'wrong_type', 'a wrong type');
SELECT pg_temp.refused_definition('{"nodes": [{"key": "a", "kind": "nop"}]}', 'unknown_kind', 'an unknown kind');
SELECT pg_temp.refused_definition('{"nodes": [{"key": "a", "kind": "noop", "retries": 3}]}', 'unknown_field', 'an unknown field');
SELECT pg_temp.refused_definition('{"nodes": [{"key": "a", "kind": "noop"}, {"key": "a", "kind": "noop"}]}', 'duplicate_key', 'a key twice');
SELECT pg_temp.refused_definition('{"nodes": [{"key": "1 a", "kind": "noop"}]}', 'bad_key', 'a bad key');
SELECT pg_temp.refused_definition('{"nodes": [{"key": "a", "kind": "sql", "function": "regress_badinput.nothing"}]}', 'unknown_function', 'an unknown function');
SELECT pg_temp.refused_definition('{"nodes": [{"key": "a", "kind": "sql", "function": "regress_badinput.two"}]}', 'bad_function_signature', 'a function with other arguments');
SELECT pg_temp.refused_definition('{"nodes": [{"key": "a", "kind": "sql", "function": "regress_badinput.echo; DROP TABLE x"}]}', 'bad_value', 'a function that is none');
SELECT pg_temp.refused_definition('{"input": {"type": "objekt"}, "nodes": [{"key": "a", "kind": "noop"}]}', 'bad_schema', 'a bad schema');
SELECT pg_temp.refused_definition('{"nodes": [{"key": "a", "kind": "noop", "writes": {"vars": {"x": 1}}}]}', 'undeclared_key', 'an undeclared key');
SELECT pg_temp.refused_definition('{"nodes": [{"key": "a", "kind": "noop", "retry": {"max_attempts": 0}}]}', 'retry', 'no attempts');
SELECT pg_temp.refused_definition('{"nodes": [{"key": "a", "kind": "http", "url": "gopher://x"}]}', 'bad_value', 'a bad url');
SELECT pg_temp.refused_definition(format('{"description": "%s", "nodes": [{"key": "a", "kind": "noop"}]}', repeat('x', 1048576)), 'too_large', 'a definition of more than 1 MB');
SELECT pg_temp.refused_definition((SELECT jsonb_build_object('nodes', jsonb_agg(jsonb_build_object('key', 'n' || n, 'kind', 'noop'))) FROM generate_series(1, 10001) n)::text, 'too_many_nodes', 'more than 10,000 nodes');
SELECT pg_temp.refused_definition(format('{"nodes": [{"key": "a", "kind": "transform", "output": %s1%s}]}', repeat('[', 70), repeat(']', 70)), 'too_deep', 'deeper than 64');
SELECT pg_temp.refused(format('SELECT goya.save_draft(''bad good'', %L)', format('{"description": "%s"}', repeat('x', 1048576))), '22023', 'too_large', 'a draft of more than 1 MB');
SELECT pg_temp.refused($$SELECT goya.create_workflow('bad', NULL)$$, '22023', 'null', 'no definition');
SELECT pg_temp.refused($$SELECT goya.create_workflow('bad/name', '{"nodes": [{"key": "a", "kind": "noop"}]}')$$, '22023', 'name', 'a bad name');
SELECT pg_temp.refused($$SELECT goya.create_workflow('bad good', '{"nodes": [{"key": "a", "kind": "noop"}]}')$$, '23505', 'already exists', 'a name that is taken');
SELECT pg_temp.refused($$SELECT goya.create_workflow('bad', '{"nodes": [{"key": "a", "kind": NaN}]}')$$, '22P02', 'invalid input syntax for type json', 'NaN is no JSON');
SELECT pg_temp.refused($$SELECT goya.create_workflow('bad', convert_from('\x7b22ff223a317d', 'UTF8')::jsonb)$$, '22021', 'invalid byte sequence', 'invalid UTF-8');
SELECT pg_temp.refused($$SELECT goya.create_workflow('bad', '{"description": "\u0000", "nodes": []}')$$, '22P05', 'Unicode', 'a NUL');
SELECT pg_temp.refused($$SELECT goya.publish_workflow('nobody')$$, 'PT404', 'nobody', 'publish: no workflow');
SELECT is((SELECT count(*) FROM goya.validate_workflow('{"nodes": [{"key": "a", "kind": "nop"}, {"key": "a", "kind": "noop", "timeout": []}], "edges": [{"from": "x", "to": "a"}]}') WHERE severity = 'error') >= 4, true,
    'all problems are listed at once');
SELECT is((SELECT count(*) FROM goya.validate_workflow('{"nodes": [{"key": "a", "kind": "nop"}]}') WHERE hint LIKE '%noop%'), 1::bigint, 'with a hint for what was meant');

-- ---- starting tasks ----

SELECT pg_temp.refused($$SELECT goya.run('nobody')$$, 'PT404', 'nobody', 'run: no workflow');
SELECT pg_temp.refused($$SELECT goya.run('bad disabled')$$, '55000', 'disabled', 'run: a disabled workflow');
SELECT pg_temp.refused($$SELECT goya.run('bad draft')$$, '55000', 'not published', 'run: an unpublished workflow');
SELECT pg_temp.refused($$SELECT goya.run('bad good', '{}')$$, '22023', 'does not fit', 'run: input without what it needs');
SELECT pg_temp.refused($$SELECT goya.run('bad good', '{"n": "one"}')$$, '22023', '/n', 'run: input of a wrong type, with its path');
SELECT pg_temp.refused($$SELECT goya.run('bad good', '{"n": -1}')$$, '22023', 'does not fit', 'run: input out of range');
SELECT pg_temp.refused($$SELECT goya.run('bad good', '[1]')$$, '22023', 'does not fit', 'run: input that is no object');
SELECT pg_temp.refused($$SELECT goya.run('bad good', '{"n": NaN}')$$, '22P02', 'invalid input syntax for type json', 'run: NaN');
SELECT pg_temp.refused($$SELECT goya.run('bad good', '{"n": 1}', asset => goya.new_id())$$, 'PT404', 'asset', 'run: an absent asset');
SELECT pg_temp.refused($$SELECT goya.run('bad good', '{"n": 1}', priority => 1000)$$, '22023', 'priority', 'run: a bad priority');
SELECT pg_temp.refused($$SELECT goya.run('bad good', '{"n": 1}', max_cost => -5)$$, '22023', 'max_cost', 'run: a bad max_cost');
SELECT pg_temp.refused($$SELECT goya.run('bad good', '{"n": 1}', idempotency_key => repeat('x', 300))$$, '22023', 'idempotency_key', 'run: a key that is too long');
SELECT pg_temp.run('first', format('SELECT goya.run(''bad good'', ''{"n": 1}'', idempotency_key => %L)', 'bad ' || now()));
SELECT is((pg_temp.task('first')).status::text, 'succeeded', 'a good one');
SELECT pg_temp.refused(format('SELECT goya.run(''bad good'', ''{"n": 2}'', idempotency_key => %L)', (pg_temp.task('first')).idempotency_key), '23505', 'was used for another request', 'run: a key with another body');
SELECT throws_ok($$SELECT goya.run('bad good', '{"n": 1}')$$, '42501', NULL, 'run: as a superuser');
CREATE ROLE regress_badinput_nobody;
SELECT set_config('test.role', 'regress_badinput_nobody', false) \g /dev/null
SELECT pg_temp.refused($$SELECT goya.run('bad good', '{"n": 1}')$$, '42501', 'permission denied', 'run: as a role without goya_user');
SELECT pg_temp.refused($$SELECT id FROM goya.tasks$$, '42501', 'permission denied', 'nor may it read');
GRANT goya_reader TO regress_badinput_nobody;
SELECT pg_temp.refused($$SELECT goya.run('bad good', '{"n": 1}')$$, '42501', 'permission denied', 'run: as a reader');
SELECT set_config('test.role', 'regress_badinput', false) \g /dev/null
DROP ROLE regress_badinput_nobody;

-- ---- writing to tables directly ----

SELECT pg_temp.refused($$INSERT INTO goya.tasks (id, tenant_id, workflow_id, revision, run_as, trace_id) VALUES (goya.new_id(), goya.current_tenant(), goya.new_id(), 1, current_user, '')$$, '42501', 'permission denied', 'no insert into goya.tasks');
SELECT pg_temp.refused($$UPDATE goya.tasks SET status = 'succeeded'$$, '42501', 'permission denied', 'no update of goya.tasks');
SELECT pg_temp.refused($$DELETE FROM goya.events$$, '42501', 'permission denied', 'no delete of events');
SELECT pg_temp.refused($$SELECT count(*) FROM goya_private.ready$$, '42501', 'permission denied', 'nothing of goya_private');
SELECT pg_temp.refused($$INSERT INTO goya.assets (name, depth) VALUES ('x', 3)$$, '42501', 'permission denied', 'no depth of one''s own');
SELECT pg_temp.refused($$SELECT goya.register_asset('file:///x', 'smell')$$, '22023', 'smell', 'an asset of an unknown type');
SELECT pg_temp.refused($$SELECT goya.register_asset(NULL)$$, '22023', 'uri or content', 'an asset of nothing');
SELECT pg_temp.refused($$SELECT goya.register_asset('x', content => decode(repeat('00', 1048577), 'hex'))$$, '22023', '1 MB', 'content of more than 1 MB');
SELECT pg_temp.refused($$SELECT goya.register_asset('x', duration => 'NaN')$$, '22023', 'duration', 'a duration of NaN');
SELECT pg_temp.refused($$SELECT goya.create_operator('bad op', 'sql', '{"function": "x.y"}')$$, '22023', 'name', 'an operator with a bad name');
SELECT pg_temp.refused($$SELECT goya.create_operator('bad.op', 'telepathy', '{}')$$, '22023', 'telepathy', 'an operator with a bad mode');
SELECT pg_temp.refused($$SELECT goya.create_operator('bad.op', 'sql', '{"url": "http://x"}')$$, '22023', 'function', 'an operator without a function');

-- ---- what shows at run time only is data on the run, and stops nobody ----

SELECT pg_temp.start('bad nan', '{"nodes": [{"key": "a", "kind": "sql", "function": "regress_badinput.nan"}]}');
SELECT pg_temp.start('bad arithmetic', '{"nodes": [{"key": "a", "kind": "transform", "output": "{{ $.input.a / $.input.b }}"}]}', '{"a": 1, "b": 0}');
CREATE FUNCTION regress_badinput.stack(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN regress_badinput.stack(input); END $$;
CREATE FUNCTION regress_badinput.big(input jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb(repeat('x', 5000000)) $$;
CREATE FUNCTION regress_badinput.huge(input jsonb) RETURNS text LANGUAGE sql AS $$ SELECT repeat(repeat('x', 1000), 300000) $$;
CREATE FUNCTION regress_badinput.escape(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN COMMIT; RETURN 'null'; END $$;
CREATE FUNCTION regress_badinput.leave(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS
$$ BEGIN PERFORM set_config('work_mem', '123kB', false); PERFORM set_config('search_path', 'nowhere', false); PERFORM pg_advisory_lock(4711); CREATE TEMP TABLE left_behind AS SELECT 1; RETURN 'null'; END $$;
CREATE FUNCTION regress_badinput.find(input jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('work_mem', current_setting('work_mem'), 'path', current_setting('search_path'), 'temp', to_regclass('pg_temp.left_behind') IS NOT NULL) $$;
SELECT pg_temp.start('bad ' || f, format('{"nodes": [{"key": "a", "kind": "sql", "function": "regress_badinput.%s"}]}', f)::jsonb) FROM unnest('{stack,big,huge,escape,leave}'::text[]) f \g /dev/null
SELECT pg_temp.start('good beside', '{"nodes": [{"key": "a", "kind": "sql", "function": "regress_badinput.echo"}]}', '{"n": 1}');
SELECT alike(pg_temp.outcome('bad nan'), '%NaN%', 'NaN as result: text, or an error, and no crash');
SELECT is(pg_temp.outcome('bad arithmetic'), 'failed VALIDATION 22012: division by zero', 'a value that cannot be computed');
SELECT matches(pg_temp.outcome('bad stack'), '^failed RESOURCE_LIMIT 54001: stack depth', 'endless recursion');
SELECT is(length(pg_temp.output('bad big', 'a') #>> '{}'), 5000000, 'a result of 5 MB');
SELECT matches(pg_temp.outcome('bad huge'), '^failed (RESOURCE_LIMIT|UNKNOWN|VALIDATION) (54000|53200|22023)', 'a result of 300 MB is refused');
SELECT matches(pg_temp.outcome('bad escape'), '^failed [A-Z_]+ 2D000: invalid transaction termination', 'a COMMIT inside a function');
SELECT is(pg_temp.outcome('bad leave'), 'succeeded null', 'settings, locks and tables left behind');
SELECT pg_temp.start('bad find', '{"nodes": [{"key": "a", "kind": "sql", "function": "regress_badinput.find"}]}');
SELECT is(pg_temp.output('bad find', 'a') ->> 'work_mem', current_setting('work_mem'), 'are gone: settings');
SELECT isnt(pg_temp.output('bad find', 'a') ->> 'path', 'nowhere', 'the search path');
SELECT is(pg_temp.output('bad find', 'a') ->> 'temp', 'false', 'temporary tables');
SELECT is(pg_try_advisory_lock(4711) AND pg_advisory_unlock(4711), true, 'and advisory locks');
SELECT is(pg_temp.outcome('good beside'), 'succeeded {"n": 1}', 'and whoever ran beside them is well');
\ir lib/finish.psql
