-- mutations.sql: random changes of definitions and inputs through the public functions with a running engine, and each limit at its edge and beyond it.
--
-- A definition changed at random is validated, created, run with inputs changed at random, and its tasks come to an end: every answer is yes or an error of
-- the documented kind with a detail or a hint, validate_workflow and create_workflow agree, nothing is stuck, goya.check() is empty at the end.
-- GOYA_SEED repeats a run, GOYA_MUTATIONS says how many definitions (300). Changes: members dropped, doubled under another key, swapped, moved; values replaced by others,
-- by huge numbers, deep nesting, long and odd texts, paths and patterns. Fuzzing by coverage is test/soak/fuzz.

\set file mutations
\ir lib/tasks.psql
\getenv seed GOYA_SEED
\getenv mutations GOYA_MUTATIONS
-- Set where everything takes ten times as long: times are not looked at.
\getenv untimed GOYA_UNTIMED
\if :{?untimed}
\else
\set untimed 0
\endif
\if :{?seed}
\else
SELECT (random() * 1000000000)::int AS seed \gset
\endif
\if :{?mutations}
\else
\set mutations 300
\endif
SELECT no_plan();
SELECT diag('seed ' || :'seed');
SELECT setseed((:'seed'::bigint % 1000003) / 1000003.0) \g /dev/null
-- Names of workflows stay taken: they hold the time.
SELECT set_config('test.mutations', extract(epoch FROM now())::bigint::text, false) \g /dev/null

CREATE FUNCTION regress_mutations.echo(input jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT input';
CREATE FUNCTION regress_mutations.fail(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE 'no' USING ERRCODE = '22012'; END $$;

-- ---- limits: each at its edge, and one beyond ----

-- The codes of the errors that validate_workflow finds, and that it took less than so many seconds of wall-clock time.
CREATE FUNCTION pg_temp.verdict(definition jsonb, seconds numeric DEFAULT 20) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    began timestamptz := clock_timestamp();
    found text;
BEGIN
    PERFORM pg_temp.become(true);
    SELECT coalesce(string_agg(DISTINCT p.code, ' ' ORDER BY p.code), 'fine') INTO found FROM goya.validate_workflow(definition) p WHERE p.severity = 'error';
    PERFORM pg_temp.become(false);
    IF clock_timestamp() - began > make_interval(secs => seconds) THEN
        RETURN format('%s, after %s', found, clock_timestamp() - began);
    END IF;
    RETURN found;
END $$;

CREATE FUNCTION pg_temp.nested(depth integer, objects boolean DEFAULT false) RETURNS jsonb LANGUAGE sql AS $$
    SELECT CASE WHEN objects THEN repeat('{"a": ', depth) || '1' || repeat('}', depth) ELSE repeat('[', depth) || '1' || repeat(']', depth) END::jsonb
$$;
CREATE FUNCTION pg_temp.of_output(output jsonb) RETURNS jsonb LANGUAGE sql AS
$$ SELECT jsonb_build_object('nodes', jsonb_build_array(jsonb_build_object('key', 'a', 'kind', 'transform', 'output', output))) $$;
-- n nodes with long keys, joined by edges to the next ones.
CREATE FUNCTION pg_temp.many(n integer, edges_each integer DEFAULT 0, more jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('nodes', (SELECT jsonb_agg(jsonb_build_object('key', 'n' || i, 'kind', 'noop') || more ORDER BY i) FROM generate_series(1, n) i),
                              'edges', (SELECT coalesce(jsonb_agg(jsonb_build_object('from', 'n' || i, 'to', 'n' || i + d)), '[]')
                                        FROM generate_series(1, n) i, generate_series(1, edges_each) d WHERE i + d <= n))
$$;

-- a definition's own object, its array of nodes and the node are three levels
SELECT is(pg_temp.verdict(pg_temp.of_output(pg_temp.nested(61))), 'fine', '64 levels of JSON');
SELECT is(pg_temp.verdict(pg_temp.of_output(pg_temp.nested(62))), 'too_deep', '65 levels');
SELECT is(pg_temp.verdict(pg_temp.of_output(pg_temp.nested(62, true))), 'too_deep', '65 levels of objects');
SELECT is(pg_temp.verdict(pg_temp.of_output(pg_temp.nested(6000))), 'too_deep', 'thousands of levels');
SELECT is(pg_temp.verdict(pg_temp.many(10000)), 'fine', '10,000 nodes');
SELECT is(pg_temp.verdict(pg_temp.many(10001)), 'too_many_nodes', '10,001 nodes');
SELECT is(pg_temp.verdict(jsonb_build_object('description', repeat('x', 1048576 - 70), 'nodes', '[{"key": "a", "kind": "noop"}]'::jsonb)), 'fine', 'just below 1 MB');
SELECT is(pg_temp.verdict(jsonb_build_object('description', repeat('x', 1048577), 'nodes', '[{"key": "a", "kind": "noop"}]'::jsonb)), 'too_large', 'beyond 1 MB');
SELECT is(pg_temp.verdict(jsonb_build_object('description', repeat('x', 200000000), 'nodes', '[]'::jsonb)), 'too_large', '200 MB');
SELECT is(pg_temp.verdict(pg_temp.of_output((SELECT jsonb_agg(i) FROM generate_series(1, 300000) i))), 'too_large', 'beyond 1 MB in small numbers');
SELECT is(pg_temp.verdict(jsonb_build_object('nodes', jsonb_build_array(jsonb_build_object('key', repeat('k', 63), 'kind', 'noop')))), 'fine', 'a key of 63 characters');
SELECT is(pg_temp.verdict(jsonb_build_object('nodes', jsonb_build_array(jsonb_build_object('key', repeat('k', 64), 'kind', 'noop')))), 'bad_key', 'a key of 64');

SELECT is((SELECT string_agg(p.code, ' ') FROM goya.validate_workflow(pg_temp.of_output('"{{ $ .5é2 }}"')) p WHERE convert_from(textsend(p.message), 'UTF8') <> ''), 'bad_jsonpath',
    'a message is valid text where the parser quotes half a character');

-- ---- time: what grows with the square of something would show ----

\if :untimed
\else

SELECT is(pg_temp.verdict(pg_temp.many(2500, 10)), 'fine', 'time: 25,000 edges');
SELECT is(pg_temp.verdict(pg_temp.many(10000, 1)), 'fine', 'time: a chain of 10,000');
SELECT is(pg_temp.verdict((SELECT jsonb_build_object('nodes', jsonb_agg(jsonb_build_object('key', repeat('k', 57) || i, 'kind', 'noop'))) FROM generate_series(10000, 19999) i)), 'fine',
    'time: 10,000 long keys that begin alike');
SELECT is(pg_temp.verdict((SELECT jsonb_build_object('nodes', jsonb_agg(jsonb_build_object('key', 'k' || i, 'kind', 'nop', 'x' || i, 1))) FROM generate_series(1, 10000) i)), 'unknown_kind',
    'time: 20,000 problems');
SELECT is(pg_temp.verdict((SELECT jsonb_build_object('nodes', '[{"key": "a", "kind": "noop"}]'::jsonb, 'edges', jsonb_agg(jsonb_build_object('from', 'a', 'to', 'x' || i)))
                           FROM generate_series(1, 20000) i)), 'dangling_edge', 'time: 20,000 edges to nowhere');
SELECT is(pg_temp.verdict(pg_temp.many(4000, 1, '{"input": {"n": "{{ nodes.n1.output }}"}}') #- '{nodes,0,input}'), 'fine', 'time: 4,000 nodes that read the first of a chain');
SELECT is(pg_temp.verdict(jsonb_set(pg_temp.many(1500, 1), '{nodes,1499}', jsonb_build_object('key', 'n1500', 'kind', 'transform', 'output',
    (SELECT string_agg('{{ nodes.n' || i || '.output }}', '') FROM generate_series(1, 1499) i)))), 'fine', 'time: a text of 1,499 paths');
SELECT is(pg_temp.verdict(pg_temp.of_output(to_jsonb(repeat('{{ input.a }}', 70000)))), 'fine', 'time: 70,000 paths in a text');
SELECT is(pg_temp.verdict(pg_temp.of_output(to_jsonb(repeat('{{', 500000)))), 'bad_template', 'time: 500,000 braces that open');
SELECT is(pg_temp.verdict(pg_temp.of_output(to_jsonb(repeat('{{}}', 200000)))), 'bad_template', 'time: 200,000 empty paths');
SELECT is((SELECT count(*) FROM goya.validate_workflow(pg_temp.of_output(to_jsonb(repeat('{{}}', 200000))))), 1000::bigint, 'of 200,000 problems 1,000 are listed');
SELECT matches(pg_temp.verdict(pg_temp.of_output(to_jsonb('{{ $' || repeat('.a', 400000) || ' }}'))), '^(unknown_root|bad_jsonpath)$', 'time: a jsonpath of 800 kB');
SELECT matches(pg_temp.verdict(pg_temp.of_output(to_jsonb('{{ ' || repeat('(', 400000) || '$.input' || repeat(')', 400000) || ' }}'))), '^bad_', 'time: 400,000 parentheses');
SELECT matches(pg_temp.verdict(pg_temp.of_output(to_jsonb('{{ $.input ? (' || repeat('!(', 2000) || '@ == 1' || repeat(')', 2001) || ' }}'))), '^bad_jsonpath$', 'time: a filter 2,000 deep');
SELECT is(pg_temp.verdict(pg_temp.of_output(to_jsonb('{{ input' || repeat('.a', 400000) || ' }}'))), 'fine', 'time: 400,000 steps');

-- What check_schema says, within the time: "fine", "refused", or the keywords of the errors.
CREATE FUNCTION pg_temp.schema_says(schema jsonb, instance jsonb, seconds numeric DEFAULT 20) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    began timestamptz := clock_timestamp();
    found text;
BEGIN
    BEGIN
        SELECT coalesce(string_agg(DISTINCT e.keyword, ' ' ORDER BY e.keyword), 'fine') INTO found FROM goya.check_schema(schema, instance) e;
    EXCEPTION WHEN invalid_parameter_value THEN
        found := 'refused';
    END;
    IF clock_timestamp() - began > make_interval(secs => seconds) THEN
        RETURN format('%s, after %s', found, clock_timestamp() - began);
    END IF;
    RETURN found;
END $$;

SELECT is(pg_temp.schema_says('{"pattern": "^(a+)+$"}', to_jsonb(repeat('a', 100000) || 'b')), 'pattern', 'time: a pattern that backtracks elsewhere');
SELECT is(pg_temp.schema_says('{"pattern": "^(a?){30}a{30}$"}', to_jsonb(repeat('a', 30))), 'fine', 'time: another one');
SELECT is(pg_temp.schema_says(jsonb_build_object('pattern', repeat('(', 100000) || repeat(')', 100000)), '"x"'), 'refused', 'time: 100,000 groups');
SELECT is(pg_temp.schema_says(jsonb_build_object('pattern', '(' || repeat('a{200}', 2) || '){200}'), '"x"') IN ('refused', 'pattern'), true, 'time: repetitions of repetitions');
SELECT is(pg_temp.schema_says(jsonb_build_object('enum', (SELECT jsonb_agg(i) FROM generate_series(1, 100000) i)), '-1'), 'enum', 'time: 100,000 values');
SELECT is(pg_temp.schema_says('{"uniqueItems": true}', (SELECT jsonb_agg(i) FROM generate_series(1, 100000) i)), 'fine', 'time: 100,000 different elements');
SELECT is(pg_temp.schema_says('{"uniqueItems": true}', (SELECT jsonb_agg(jsonb_build_object('a', i)) FROM generate_series(1, 20000) i)), 'fine', 'time: 20,000 different objects');
SELECT is(pg_temp.schema_says((SELECT jsonb_build_object('properties', jsonb_object_agg('p' || i, true)) FROM generate_series(1, 50000) i),
                              (SELECT jsonb_object_agg('p' || i, i) FROM generate_series(1, 50000) i)), 'fine', 'time: 50,000 properties');
SELECT isnt(pg_temp.schema_says((SELECT jsonb_build_object('definitions', jsonb_object_agg('d' || i, jsonb_build_object('$ref', '#/definitions/d' || i + 1)) || '{"d20001": {"type": "null"}}',
                                                         '$ref', '#/definitions/d1') FROM generate_series(1, 20000) i), '1'), NULL, 'time: a chain of 20,000 references');
SELECT isnt(pg_temp.schema_says((SELECT jsonb_build_object('definitions', jsonb_object_agg('d' || i, jsonb_build_object('anyOf',
                jsonb_build_array(jsonb_build_object('$ref', '#/definitions/d' || i + 1), jsonb_build_object('$ref', '#/definitions/d' || i + 1)))) || '{"d31": {"type": "null"}}',
                                                         '$ref', '#/definitions/d1') FROM generate_series(1, 30) i), '1'), NULL, 'time: 2^30 ways through references');
SELECT isnt(pg_temp.schema_says(pg_temp.nested(5000), '1'), NULL, 'a schema of 5,000 levels that is none');
SELECT isnt(pg_temp.schema_says((repeat('{"not": ', 3000) || 'true' || repeat('}', 3000))::jsonb, '1'), NULL, 'a schema of 3,000 levels');
SELECT isnt(pg_temp.schema_says('{"items": {"$ref": "#"}}', pg_temp.nested(5000)), NULL, 'an instance of 5,000 levels');

\endif

-- ---- time while running: a path that multiplies what it finds stops nobody else, neither in the engine nor in an executor ----

-- A filter in a filter, eight deep: each of them looks at all that is below.
SELECT '? (' || string_agg('exists(@.** ? (', '') || '@ == 2' || repeat('))', 8) || ')' AS endless FROM generate_series(1, 8) \gset
SELECT pg_temp.start('endless ' || kind, replace(definition, 'ENDLESS', :'endless')::jsonb, (repeat('{"a": ', 60) || '1' || repeat('}', 60))::jsonb)
FROM (VALUES ('url', '{"nodes": [{"key": "a", "kind": "http", "url": "http://127.0.0.1:1/{{ $.input.** ENDLESS }}"}]}'),
             ('output', '{"nodes": [{"key": "a", "kind": "transform", "output": "{{ $.input.** ENDLESS }}"}]}'),
             ('when', '{"nodes": [{"key": "a", "kind": "condition", "when": "exists($.input.** ENDLESS)"}]}')) v(kind, definition) \g /dev/null
SELECT is((SELECT string_agg(code, ' ') FROM goya.validate_workflow('{"nodes": [{"key": "a", "kind": "condition", "when": "exists($.input.**.a.**.b.**)"}]}')), 'bad_jsonpath',
    'a path with three .** is refused: what it finds has no bounds');
SELECT pg_temp.start('beside endless', '{"nodes": [{"key": "a", "kind": "http", "url": "http://127.0.0.1:1/"}]}');
SELECT pg_temp.define('beside filter', '{"nodes": [{"key": "a", "kind": "noop"}]}');
SELECT pg_temp.try(format($$SELECT goya.create_trigger('beside filter', 'endless', 'event', event => 'asset_new', filter => %L)$$, 'exists($.asset.metadata.** ' || :'endless' || ')')) \g /dev/null
SELECT is(pg_temp.try($$SELECT goya.create_trigger('beside filter', 'plain', 'event', event => 'asset_new') IS NOT NULL$$), 'true', 'a trigger beside one with an endless filter');
SELECT is(pg_temp.try($$SELECT goya.register_asset('file:///endless', 'video', metadata => (repeat('{"a": ', 60) || '1' || repeat('}', 60))::jsonb) IS NOT NULL$$), 'true', 'an event that both look at');
SELECT is(pg_temp.until($$SELECT count(*)::text FROM goya.tasks t JOIN goya.workflows w ON w.id = t.workflow_id WHERE w.name = 'beside filter' AND t.status = 'succeeded'$$, '1', 20), '1',
    'an event starts the task beside an endless filter');
SELECT pg_temp.try(format('SELECT goya.drop_trigger(%L, %L)', 'beside filter', name)) FROM unnest('{endless,plain}'::text[]) name \g /dev/null
SELECT matches(pg_temp.outcome('beside endless'), '^failed [A-Z_]+ 08000', 'a call beside endless paths is made');
SELECT matches(pg_temp.outcome('endless ' || kind), '^failed RESOURCE_LIMIT 54000', 'an endless path is ended: ' || kind) FROM unnest('{url,output,when}'::text[]) kind;

-- ---- random changes ----

CREATE FUNCTION pg_temp.pick(list anyarray) RETURNS anyelement LANGUAGE sql VOLATILE AS $$ SELECT list[1 + floor(random() * cardinality(list))::int] $$;

-- All paths of a document, as text arrays.
CREATE FUNCTION pg_temp.paths(document jsonb) RETURNS SETOF text[] LANGUAGE sql AS $$
    WITH RECURSIVE p(path, value) AS (
        SELECT '{}'::text[], document
        UNION ALL
        SELECT p.path || m.key, m.value
        FROM p, LATERAL (SELECT o.key, o.value FROM jsonb_each(CASE jsonb_typeof(p.value) WHEN 'object' THEN p.value ELSE '{}' END) o
                         UNION ALL
                         SELECT (a.n - 1)::text, a.value FROM jsonb_array_elements(CASE jsonb_typeof(p.value) WHEN 'array' THEN p.value ELSE '[]' END) WITH ORDINALITY a(value, n)) m)
    SELECT path FROM p WHERE path <> '{}'
$$;

CREATE FUNCTION pg_temp.odd_value() RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF random() < 0.05 THEN
        RETURN pg_temp.nested(pg_temp.pick('{2,20,59,60,61,62,63,64,65,200,2000}'::int[]), random() < 0.5);
    ELSIF random() < 0.1 THEN
        RETURN to_jsonb(repeat(pg_temp.pick('{x,é,{{,}},😀,"\"",\\,/,~}'::text[]), pg_temp.pick('{1,63,64,65,300,5000}'::int[])));
    ELSIF random() < 0.4 THEN
        RETURN pg_temp.pick('{null,true,false,0,1,-1,2,0.5,1e400,-1e400,1e-400,9223372036854775807,9223372036854775808,-9223372036854775809,2147483648,"[]","{}","\"\"",
                              "[null]","{\"\": 1}","\"\\u0001\"","\"\\uffff\"","\"\\ud83d\\ude00\""}'::jsonb[]);
    END IF;
    RETURN to_jsonb(pg_temp.pick(ARRAY['a', 'b', 'c', 'input', 'noop', 'transform', 'condition', 'map', 'sql', 'http', 'sleep', 'wait', 'approval', 'workflow', 'operator', 'any', 'all', 'success',
        'failure', 'always', 'fixed', 'TIMEOUT', 'object', 'string', 'integer', 'regress_mutations.echo', 'regress_mutations.fail', 'pg_catalog.pg_sleep', '10 ms', '-1 s', 'infinity', 'P1D', '1e999 years',
        'http://127.0.0.1:1/', 'http://169.254.169.254/', 'file:///etc/passwd', E'http://a/\r\nX: y', '{{ input }}', '{{ input.a }}', '{{ nodes.a.output }}', '{{ nodes.b.output.x[0] }}', '{{ item }}',
        '{{ $.input.** }}', '{{ $.input.a / 0 }}', '{{ $.nodes.*.output }}', '{{ $.input ? (@.a like_regex "(") }}', '{{ $.input.a.datetime() }}', '{{ vars.x }} {{ shared.y }}', '{{', '}}', '\{{',
        '$.input.a > 1', '$.input.a == "x" || exists($.input.b)', 'strict $.input.a.b', '$', '^(a+)+$', '(?=x', '[\d-z]', '__proto__', '%s%n', '../..', repeat('9', 40)]));
END $$;

CREATE FUNCTION pg_temp.mutate(document jsonb) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    paths text[];               -- paths as text: arrays of different lengths are no array
    path text[];
    other text[];
    words text[] := '{key,kind,input,output,when,cases,default,retry,timeout,join,price,artifact,writes,compensate,function,url,method,headers,body,success,over,node,max_parallel,
                      error_budget,signal,message,form,duration,until,workflow,from,to,on,case,name,type,required,properties,pattern,nodes,edges,context,"",ü}';
BEGIN
    FOR n IN 1 .. 1 + floor(random() * 2)::int LOOP
        SELECT array_agg(p::text) INTO paths FROM pg_temp.paths(document) p;
        EXIT WHEN paths IS NULL;
        path := pg_temp.pick(paths)::text[];
        other := pg_temp.pick(paths)::text[];
        CASE floor(random() * 7)::int
            WHEN 0 THEN document := document #- path;
            WHEN 1 THEN document := jsonb_insert(document, path[:cardinality(path) - 1] || CASE WHEN path[cardinality(path)] ~ '^\d+$' THEN '0' ELSE pg_temp.pick(words) || floor(random() * 3)::int END,
                                                 document #> path);
            WHEN 2 THEN document := jsonb_set(jsonb_set(document, path, document #> other), other, document #> path);
            WHEN 3 THEN document := jsonb_set(document, path, document #> other);
            WHEN 4 THEN IF jsonb_typeof(document #> path) = 'object' THEN document := jsonb_set(document, path || pg_temp.pick(words), pg_temp.odd_value()); END IF;
            ELSE document := jsonb_set(document, path, pg_temp.odd_value());
        END CASE;
        document := coalesce(document, 'null');
    END LOOP;
    RETURN document;
EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
    RETURN document;            -- a change that is none: a key inserted twice, a value set in a scalar that another change has made
END $$;

CREATE TABLE pg_temp.originals (n serial, definition jsonb, input jsonb);
INSERT INTO pg_temp.originals (definition, input) VALUES
    ('{"input": {"type": "object", "properties": {"a": {"type": "integer"}, "s": {"type": "string", "pattern": "^x"}}},
       "nodes": [{"key": "a", "kind": "sql", "function": "regress_mutations.echo", "input": {"v": "{{ input.a }}"}, "retry": {"max_attempts": 2, "initial": "1 ms", "on": ["TIMEOUT"]}},
                 {"key": "b", "kind": "transform", "output": {"t": "{{ nodes.a.output.v }} of {{ $.input.s }}", "l": [1, 2, 3]}},
                 {"key": "c", "kind": "condition", "when": "$.nodes.b.output.l[0] > 0"},
                 {"key": "d", "kind": "noop"}, {"key": "e", "kind": "noop", "join": "any"}],
       "edges": [{"from": "a", "to": "b"}, {"from": "b", "to": "c"}, {"from": "c", "to": "d", "case": "true"}, {"from": "c", "to": "e", "case": "false"}, {"from": "d", "to": "e"}],
       "output": {"r": "{{ nodes.b.output.t }}"}}', '{"a": 1, "s": "xy"}'),
    ('{"context": {"vars": {"x": {"type": "number", "default": 1}}, "shared": {"y": {"type": "array", "conflict": "append"}}},
       "nodes": [{"key": "m", "kind": "map", "over": "{{ input.list }}", "max_parallel": 2, "error_budget": 1,
                  "node": {"key": "i", "kind": "transform", "output": {"n": "{{ $.item.n * 2 }}", "i": "{{ index }}"}}},
                 {"key": "w", "kind": "transform", "output": "{{ nodes.m.output }}", "writes": {"shared": {"y": ["{{ output }}"]}, "vars": {"x": 2}},
                  "artifact": {"type": "result", "name": "r", "each": "{{ output }}", "data": "{{ item }}"}},
                 {"key": "f", "kind": "sql", "function": "regress_mutations.fail", "compensate": {"kind": "sql", "function": "regress_mutations.echo"}},
                 {"key": "h", "kind": "noop"}],
       "edges": [{"from": "m", "to": "w"}, {"from": "w", "to": "f"}, {"from": "f", "to": "h", "on": "failure"}]}', '{"list": [{"n": 1}, {"n": "x"}, {"n": 3}]}'),
    ('{"nodes": [{"key": "a", "kind": "http", "url": "http://127.0.0.1:1/{{ input.p }}", "method": "POST", "headers": {"X-A": "{{ input.p }}"}, "body": {"b": "{{ input }}"}, "timeout": "1 s",
                  "success": "$.output.status < 300", "output": "$.output.body"},
                 {"key": "s", "kind": "sleep", "duration": 0.01}, {"key": "wait", "kind": "wait", "signal": "go", "timeout": "20 ms"},
                 {"key": "ok", "kind": "approval", "message": "{{ input.p }}?", "form": {"type": "object", "properties": {"yes": {"type": "boolean"}}}, "timeout": "20 ms"},
                 {"key": "z", "kind": "noop", "join": "any"}],
       "edges": [{"from": "a", "to": "s", "on": "failure"}, {"from": "s", "to": "wait"}, {"from": "wait", "to": "ok", "on": "always"}, {"from": "ok", "to": "z", "on": "always"}]}', '{"p": "q"}');

CREATE TEMP TABLE answers (n integer, what text, code text, message text, explained boolean, document jsonb);
GRANT ALL ON answers, originals TO regress_mutations;

-- One changed definition: validated, created, run three times. The answers are noted; whether they are good ones is asserted below.
CREATE FUNCTION pg_temp.try_one(n integer, definition jsonb, input jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    valid boolean;
    code text := 'fine';
    message text;
    detail text;
    hint text;
    id uuid;
BEGIN
    PERFORM pg_temp.become(true);
    SELECT count(*) = 0 INTO valid FROM goya.validate_workflow(definition) p WHERE p.severity = 'error';
    BEGIN
        PERFORM goya.create_workflow(format('mutation %s of %s', n, current_setting('test.mutations')), definition, publish => true);
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    END;
    INSERT INTO pg_temp.answers VALUES (n, 'create', code, message, detail || hint <> '', definition);
    IF valid <> (code = 'fine') THEN
        INSERT INTO pg_temp.answers VALUES (n, 'validate', format('%s, but create: %s', valid, code), message, false, definition);
    END IF;
    FOR i IN 1 .. CASE code WHEN 'fine' THEN 3 ELSE 0 END LOOP
        code := 'fine';
        BEGIN
            id := goya.run(format('mutation %s of %s', n, current_setting('test.mutations')), input);
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
        END;
        INSERT INTO pg_temp.answers VALUES (n, 'run', code, message, detail || hint <> '', input);
        input := pg_temp.mutate(input);
    END LOOP;
    PERFORM pg_temp.become(false);
END $$;

-- Each definition is a transaction of its own, so that its tasks run while others are made.
SELECT format('SELECT pg_temp.try_one(%s, pg_temp.mutate(o.definition), o.input) FROM pg_temp.originals o WHERE o.n = %s', i, 1 + i % 3) FROM generate_series(1, :mutations) i \gexec

SELECT is((SELECT count(*)::int FROM answers WHERE what = 'create'), :mutations, 'every changed definition had an answer');
SELECT is((SELECT string_agg(format('%s %s: %s: %s', what, code, message, left(document::text, 1000)), E'\n') FROM answers WHERE what = 'create' AND code NOT IN ('fine', '22023')), NULL,
    'a definition is created, or refused with 22023');
SELECT is((SELECT string_agg(format('%s: %s', message, left(document::text, 1000)), E'\n') FROM answers WHERE code <> 'fine' AND NOT explained), NULL, 'every refusal has a detail or a hint');
SELECT is((SELECT string_agg(format('%s: %s', code, left(document::text, 1000)), E'\n') FROM answers WHERE what = 'validate'), NULL, 'validate_workflow and create_workflow agree');
SELECT is((SELECT string_agg(format('%s: %s: %s', code, message, left(document::text, 1000)), E'\n') FROM answers WHERE what = 'run' AND code NOT IN ('fine', '22023')), NULL,
    'a run is started, or refused with 22023');
SELECT cmp_ok((SELECT count(*) FROM answers WHERE what = 'create' AND code = 'fine'), '>=', (:mutations / 20)::bigint, 'not all changes spoil a definition');
SELECT cmp_ok((SELECT count(*) FROM answers WHERE what = 'create' AND code <> 'fine'), '>=', (:mutations / 10)::bigint, 'and many do');
SELECT cmp_ok((SELECT count(*) FROM answers WHERE what = 'run' AND code = 'fine'), '>=', (:mutations / 20)::bigint, 'tasks were started');

-- What waits for what never comes is cancelled; all else ends by itself.
CREATE FUNCTION pg_temp.open_tasks(also_waiting boolean) RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT count(*)::text FROM goya.tasks t WHERE t.run_as = 'regress_mutations' AND NOT goya_private.is_terminal(t.status) AND (also_waiting OR t.status <> 'waiting')
$$;
SELECT is(pg_temp.until('SELECT pg_temp.open_tasks(false)', '0', 60), '0', 'every task ends, or waits');
SELECT goya.cancel(t.id) FROM goya.tasks t WHERE t.run_as = 'regress_mutations' AND NOT goya_private.is_terminal(t.status) \g /dev/null
SELECT is(pg_temp.until('SELECT pg_temp.open_tasks(true)', '0', 30), '0', 'a task that waits can be cancelled');
SELECT is((SELECT string_agg(DISTINCT format('%s %s', t.error ->> 'code', t.error ->> 'message'), E'\n') FROM goya.tasks t
           WHERE t.run_as = 'regress_mutations' AND t.status = 'failed' AND (t.error ->> 'code' LIKE 'XX%' OR coalesce(t.error ->> 'message', '') = '')), NULL, 'no task failed with an internal error');
\ir lib/finish.psql
