-- nodes.sql: every kind of node, and everything any node may have: edges, joins, retries, timeouts, compensation, templates, artifacts, context, price.
--
-- Each case is a workflow of its own, started here and judged below by how its task ended and which node runs it left; see lib/tasks.psql. Most are
-- started together, so that they run in batches beside each other, good and failing ones mixed.

\set file nodes
\ir lib/tasks.psql
SELECT no_plan();

CREATE TABLE regress_nodes.effects (at serial, what text);
GRANT ALL ON ALL TABLES IN SCHEMA regress_nodes TO regress_nodes;
GRANT ALL ON ALL SEQUENCES IN SCHEMA regress_nodes TO regress_nodes;
SET check_function_bodies = off;
CREATE FUNCTION regress_nodes.echo(input jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT input';
CREATE FUNCTION regress_nodes.note(input jsonb) RETURNS jsonb LANGUAGE sql AS
$$ INSERT INTO regress_nodes.effects (what) VALUES (input ->> 'what') RETURNING to_jsonb(what) $$;
CREATE FUNCTION regress_nodes.as_text(input jsonb) RETURNS text LANGUAGE sql AS $$ SELECT 'text "' || (input ->> 'x') || '"' $$;
CREATE FUNCTION regress_nodes.as_number(input jsonb) RETURNS numeric LANGUAGE sql AS $$ SELECT 1.50 $$;
CREATE TYPE regress_nodes.pair AS (a integer, b text);
CREATE FUNCTION regress_nodes.as_pair(input jsonb) RETURNS regress_nodes.pair LANGUAGE sql AS $$ SELECT (7, 'seven')::regress_nodes.pair $$;
CREATE FUNCTION regress_nodes.as_array(input jsonb) RETURNS integer[] LANGUAGE sql AS $$ SELECT '{1,2,3}'::integer[] $$;
CREATE FUNCTION regress_nodes.as_void(input jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO regress_nodes.effects (what) VALUES ('void') $$;
CREATE FUNCTION regress_nodes.as_null(input jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT NULL::jsonb $$;
CREATE FUNCTION regress_nodes.as_set(input jsonb) RETURNS SETOF jsonb LANGUAGE sql AS $$ SELECT input $$;
CREATE FUNCTION regress_nodes.who(input jsonb) RETURNS jsonb LANGUAGE sql AS
$$ SELECT jsonb_build_object('current_user', current_user, 'session_user', session_user, 'tenant', goya.current_tenant() IS NOT NULL) $$;
CREATE FUNCTION regress_nodes.boom(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO regress_nodes.effects (what) VALUES ('boom');
    RAISE EXCEPTION USING ERRCODE = coalesce(input ->> 'code', 'P0001'), MESSAGE = coalesce(input ->> 'message', 'boom'), DETAIL = 'the detail', HINT = 'The hint.';
END $$;
-- A statement that fails is made again by itself, to find whose error it was: a sequence would count that too.
CREATE FUNCTION regress_nodes.third_time(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT count(*) FROM goya.node_runs r WHERE r.task_id = ($1 ->> 'task')::uuid) < 2 THEN
        RAISE EXCEPTION USING ERRCODE = '55P03', MESSAGE = 'not yet';
    END IF;
    RETURN '"at last"';
END $$;
CREATE FUNCTION regress_nodes.slow(input jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb(true) FROM pg_sleep(coalesce((input ->> 'seconds')::float, 30)) $$;
CREATE FUNCTION regress_nodes.forbidden(input jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT input';
CREATE FUNCTION regress_nodes.vanishing(input jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT input';
CREATE FUNCTION regress_nodes.set_role(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS
$$ BEGIN EXECUTE 'SET ROLE ' || (input ->> 'role'); RETURN 'null'; END $$;
CREATE FUNCTION regress_nodes.late_check(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS
$$ BEGIN INSERT INTO regress_nodes.deferred VALUES ((input ->> 'n')::integer); RETURN '"inserted"'; END $$;
CREATE TABLE regress_nodes.deferred (n integer UNIQUE DEFERRABLE INITIALLY DEFERRED);
GRANT ALL ON regress_nodes.deferred TO regress_nodes;
INSERT INTO regress_nodes.deferred VALUES (1);
REVOKE EXECUTE ON FUNCTION regress_nodes.forbidden(jsonb) FROM PUBLIC;

-- ---- noop, transform, condition, switch ----

SELECT pg_temp.start('noop', '{"nodes": [{"key": "a", "kind": "noop"}]}', '{"x": [1, null, "ä"]}');
SELECT pg_temp.start('transform', '{"nodes": [{"key": "a", "kind": "transform", "output": {"sum": "{{ input.x }}", "text": "x is {{ input.x }}!",
    "list": ["{{ input.y }}", 3], "none": "{{ input.none }}", "const": true}}]}', '{"x": 41.50, "y": {"deep": [1]}}');
SELECT pg_temp.start('templates', '{"nodes": [{"key": "a", "kind": "transform", "output": {"frames": [{"uri": "u1", "n": 1}, {"uri": "u2", "n": 2}]}},
    {"key": "b", "kind": "transform", "output": {
        "path": "{{ $.nodes.a.output.frames[*].uri }}", "filter": "{{ $.nodes.a.output.frames[*] ? (@.n > 1).uri }}", "index": "{{ nodes.a.output.frames[1].n }}",
        "status": "{{ nodes.a.status }}", "task": "{{ task.id }}", "workflow": "{{ task.run_as }}", "inside": "<{{ nodes.a.output.frames[0] }}>",
        "two": "{{ input.a }}{{ input.b }}", "missing": "[{{ input.nothing }}]", "whole": "{{ input }}", "deep": {"er": ["{{ input.a }}"]}}}],
    "edges": [{"from": "a", "to": "b"}], "output": {"last": "{{ nodes.b.output.index }}", "all": "{{ $.nodes.a.output.frames.size() }}"}}', '{"a": 1, "b": "two"}');
SELECT pg_temp.start('condition true', '{"nodes": [{"key": "c", "kind": "condition", "when": "$.input.n > 10"}, {"key": "yes", "kind": "noop"}, {"key": "no", "kind": "noop"}],
    "edges": [{"from": "c", "to": "yes", "case": "true"}, {"from": "c", "to": "no", "case": "false"}]}', '{"n": 11}');
SELECT pg_temp.run('condition false', $$SELECT goya.run('condition true', '{"n": 10}')$$);
SELECT pg_temp.run('condition absent', $$SELECT goya.run('condition true', '{}')$$);
SELECT pg_temp.start('switch', '{"nodes": [{"key": "s", "kind": "switch", "cases": [{"name": "big", "when": "$.input.n > 10"}, {"name": "odd", "when": "$.input.n % 2 == 1"}],
    "default": "rest"}, {"key": "big", "kind": "noop"}, {"key": "odd", "kind": "noop"}, {"key": "rest", "kind": "noop"}],
    "edges": [{"from": "s", "to": "big", "case": "big"}, {"from": "s", "to": "odd", "case": "odd"}, {"from": "s", "to": "rest", "case": "rest"}]}', '{"n": 11}');
SELECT pg_temp.run('switch odd', $$SELECT goya.run('switch', '{"n": 3}')$$);
SELECT pg_temp.run('switch rest', $$SELECT goya.run('switch', '{"n": 4}')$$);
SELECT pg_temp.start('switch none', '{"nodes": [{"key": "s", "kind": "switch", "cases": [{"name": "big", "when": "$.input.n > 10"}]}, {"key": "big", "kind": "noop"},
    {"key": "after", "kind": "noop"}], "edges": [{"from": "s", "to": "big", "case": "big"}, {"from": "big", "to": "after"}]}', '{"n": 1}');

SELECT is(pg_temp.outcome('noop'), 'succeeded {"x": [1, null, "ä"]}', 'noop: its output is its input, at a root the task''s');
SELECT is((pg_temp.last_run('noop', 'a')).input, '{"x": [1, null, "ä"]}', 'noop: the input is kept on the run');
SELECT is(pg_temp.outcome('transform'), 'succeeded {"sum": 41.50, "list": [{"deep": [1]}, 3], "none": null, "text": "x is 41.50!", "const": true}',
    'transform: whole values keep their type and scale, paths inside text are interpolated, what is missing is null');
SELECT is(pg_temp.outcome('templates'), 'succeeded {"all": 2, "last": 2}', 'templates: output of the workflow, with a method of jsonpath');
SELECT is(pg_temp.output('templates', 'b') -> 'path', '["u1", "u2"]', 'templates: a path with a wildcard gives an array');
SELECT is(pg_temp.output('templates', 'b') -> 'filter', '["u2"]', 'templates: a path with a filter gives an array of what it finds');
SELECT is(pg_temp.output('templates', 'b') -> 'index', '2', 'templates: an index');
SELECT is(pg_temp.output('templates', 'b') -> 'status', '"succeeded"', 'templates: nodes.<key>.status');
SELECT is(pg_temp.output('templates', 'b') ->> 'task', pg_temp.task_id('templates')::text, 'templates: task.id');
SELECT is(pg_temp.output('templates', 'b') ->> 'workflow', 'regress_nodes', 'templates: task.run_as');
SELECT is(pg_temp.output('templates', 'b') ->> 'inside', '<{"n": 1, "uri": "u1"}>', 'templates: an object inside text is its JSON');
SELECT is(pg_temp.output('templates', 'b') ->> 'two', '1two', 'templates: two paths in one text');
SELECT is(pg_temp.output('templates', 'b') ->> 'missing', '[]', 'templates: what is missing leaves nothing in a text');
SELECT is(pg_temp.output('templates', 'b') -> 'whole', '{"a": 1, "b": "two"}', 'templates: a root alone');
SELECT is(pg_temp.output('templates', 'b') #> '{deep,er}', '[1]', 'templates: at any depth');
SELECT is(pg_temp.runs('condition true'), 'c:succeeded yes:succeeded no:skipped', 'condition: true');
SELECT is(pg_temp.output('condition true', 'c'), '{"case": "true", "result": true}', 'condition: its output');
SELECT is((pg_temp.last_run('condition true', 'no')).message, 'no edge to it fired', 'a skipped node says why');
SELECT is(pg_temp.outcome('condition true'), 'succeeded {"yes": {"case": "true", "result": true}}', 'several sinks: an object of those that ran');
SELECT is(pg_temp.runs('condition false'), 'c:succeeded yes:skipped no:succeeded', 'condition: false');
SELECT is(pg_temp.output('condition absent', 'c') -> 'result', 'false', 'condition: what cannot be compared is false');
SELECT is(pg_temp.output('switch', 's'), '{"case": "big"}', 'switch: the first case that holds');
SELECT is(pg_temp.runs('switch'), 's:succeeded big:succeeded odd:skipped rest:skipped', 'switch: only its edge fires');
SELECT is(pg_temp.output('switch odd', 's'), '{"case": "odd"}', 'switch: a later case');
SELECT is(pg_temp.output('switch rest', 's'), '{"case": "rest"}', 'switch: the default');
SELECT is(pg_temp.runs('switch none'), 's:succeeded big:skipped after:skipped', 'switch: no case and no default skips all that follows');
SELECT is(pg_temp.outcome('switch none'), 'succeeded null', 'and the task succeeds with nothing');

-- ---- map ----

SELECT pg_temp.start('map', '{"nodes": [{"key": "m", "kind": "map", "over": "{{ input.names }}", "max_parallel": 2,
    "node": {"key": "each", "kind": "sql", "function": "regress_nodes.echo", "input": {"name": "{{ item }}", "at": "{{ index }}"}}}, {"key": "after", "kind": "noop"}],
    "edges": [{"from": "m", "to": "after"}]}', '{"names": ["a", "b", "c", "d", "e"]}');
SELECT pg_temp.run('map empty', $$SELECT goya.run('map', '{"names": []}')$$);
SELECT pg_temp.run('map none', $$SELECT goya.run('map', '{}')$$);
SELECT pg_temp.run('map text', $$SELECT goya.run('map', '{"names": "abc"}')$$);
SELECT pg_temp.run('map one', $$SELECT goya.run('map', '{"names": [null]}')$$);
SELECT pg_temp.run('map 300', $$SELECT goya.run('map', jsonb_build_object('names', (SELECT jsonb_agg(n) FROM generate_series(0, 299) n)))$$);
SELECT pg_temp.start('map default', '{"nodes": [{"key": "m", "kind": "map", "over": [3, {"x": 1}], "node": {"kind": "noop"}}]}');
SELECT pg_temp.start('map transform', '{"nodes": [{"key": "m", "kind": "map", "over": "{{ $.input.list[*].n }}", "node": {"kind": "transform",
    "output": "{{ $.item + 1 }}"}}]}', '{"list": [{"n": 1}, {"n": 2}]}');
CREATE FUNCTION regress_nodes.maybe(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS
$$ BEGIN IF input = '1' THEN RAISE EXCEPTION 'item is one'; END IF; RETURN input; END $$;
SELECT pg_temp.start('map fails', '{"nodes": [{"key": "m", "kind": "map", "over": "{{ input.codes }}",
    "node": {"key": "each", "kind": "sql", "function": "regress_nodes.maybe"}}]}', '{"codes": [0, 1, 0]}');
SELECT pg_temp.start('map budget', '{"nodes": [{"key": "m", "kind": "map", "over": "{{ input.codes }}", "error_budget": 1,
    "node": {"key": "each", "kind": "sql", "function": "regress_nodes.maybe"}}]}', '{"codes": [0, 1, 0]}');
SELECT pg_temp.run('map over budget', $$SELECT goya.run('map budget', '{"codes": [1, 0, 1, 0]}')$$);
SELECT pg_temp.start('map budget all', '{"nodes": [{"key": "m", "kind": "map", "over": "{{ input.codes }}", "error_budget": "all", "max_parallel": 1,
    "node": {"key": "each", "kind": "sql", "function": "regress_nodes.maybe"}}]}', '{"codes": [1, 1, 1]}');
SELECT pg_temp.start('map fails handled', '{"nodes": [{"key": "m", "kind": "map", "over": "{{ input.codes }}", "max_parallel": 1,
    "node": {"key": "each", "kind": "sql", "function": "regress_nodes.maybe"}}, {"key": "mend", "kind": "transform", "output": "{{ nodes.m.error.message }}"}],
    "edges": [{"from": "m", "to": "mend", "on": "failure"}]}', '{"codes": [0, 1, 0, 0]}');
SELECT pg_temp.start('map retry', '{"nodes": [{"key": "m", "kind": "map", "over": [0, 1], "node": {"key": "each", "kind": "sql", "function": "regress_nodes.maybe",
    "retry": {"max_attempts": 2, "initial": 0, "on": ["UNKNOWN"]}}, "error_budget": 1}]}');
SELECT pg_temp.define('child', '{"nodes": [{"key": "double", "kind": "transform", "output": {"twice": "{{ $.input.n * 2 }}"}}], "output": "{{ nodes.double.output.twice }}"}');
SELECT pg_temp.start('map workflow', '{"nodes": [{"key": "m", "kind": "map", "over": [{"n": 1}, {"n": 2}, {"n": 3}], "workflow": "child", "max_parallel": 2}]}');

SELECT is(pg_temp.outcome('map'), 'succeeded [{"at": 0, "name": "a"}, {"at": 1, "name": "b"}, {"at": 2, "name": "c"}, {"at": 3, "name": "d"}, {"at": 4, "name": "e"}]',
    'map: outputs of the items in their order, with item and index');
SELECT is((SELECT count(*) FROM goya.node_runs WHERE task_id = pg_temp.task_id('map') AND node = 'each' AND status = 'succeeded'), 5::bigint, 'map: a run per item');
SELECT is((pg_temp.last_run('map', 'm')).input, '{"items": ["a", "b", "c", "d", "e"]}', 'map: the array is kept as its input');
SELECT is(pg_temp.outcome('map empty'), 'succeeded []', 'map: over nothing gives nothing');
SELECT is(pg_temp.runs('map empty'), 'm:succeeded after:succeeded', 'and what follows runs');
SELECT is(pg_temp.outcome('map none'), 'failed VALIDATION 22023: map "m" needs an array, got null', 'map: a missing array');
SELECT is(pg_temp.outcome('map text'), 'failed VALIDATION 22023: map "m" needs an array, got string', 'map: no array');
SELECT is(pg_temp.outcome('map one'), 'succeeded [{"at": 0, "name": null}]', 'map: an item may be null');
SELECT is(pg_temp.output('map 300', 'm') @> '[{"at": 299, "name": 299}]' AND jsonb_array_length(pg_temp.output('map 300', 'm')) = 300, true, 'map: 300 items, two at a time');
SELECT is(pg_temp.outcome('map default'), 'succeeded [3, {"x": 1}]', 'map: the body''s input is the item');
SELECT is(pg_temp.outcome('map transform'), 'succeeded [2, 3]', 'map: over a path with a wildcard, jsonpath arithmetic on the item');
SELECT is(pg_temp.outcome('map fails'), 'failed DEPENDENCY P0001: 1 of 3 items failed', 'map: no budget, one failure');
SELECT is((pg_temp.task('map fails')).error ->> 'detail', 'item is one', 'its detail is the item''s error');
SELECT is(pg_temp.outcome('map budget'), 'succeeded [0, null, 0]', 'map: within its budget; a failed item is null');
SELECT matches(pg_temp.outcome('map over budget'), '^failed DEPENDENCY P0001: 2 of 4 items failed', 'map: over its budget');
SELECT is(pg_temp.outcome('map budget all'), 'succeeded [null, null, null]', 'map: all may fail');
SELECT is(pg_temp.outcome('map fails handled'), 'succeeded "1 of 4 items failed"', 'map: an edge on failure takes over');
SELECT is((SELECT count(*) FROM goya.node_runs WHERE task_id = pg_temp.task_id('map fails handled') AND node = 'each'), 2::bigint, 'and items that had not begun never do');
SELECT is(pg_temp.outcome('map retry'), 'succeeded [0, null]', 'map: retries of an item');
SELECT is((pg_temp.last_run('map retry', 'each', 1)).attempt, 2::smallint, 'both attempts are there');
SELECT is(pg_temp.outcome('map workflow'), 'succeeded [2, 4, 6]', 'map: a workflow as body');
SELECT is((SELECT count(*) FROM goya.tasks WHERE parent_task_id = pg_temp.task_id('map workflow') AND status = 'succeeded'), 3::bigint, 'a child task per item');

-- ---- sql ----

SELECT pg_temp.start('sql ' || f, format('{"nodes": [{"key": "f", "kind": "sql", "function": "regress_nodes.%s"}]}', f)::jsonb, '{"x": "y"}')
FROM unnest('{echo,as_text,as_number,as_pair,as_array,as_void,as_null,who,vanishing,forbidden}'::text[]) f \g /dev/null
SELECT pg_temp.run('sql vanished', $$SELECT goya.run('sql vanishing', run_at => clock_timestamp() + interval '1 s')$$);
SELECT is(pg_temp.try($$SELECT goya.create_workflow('sql set', '{"nodes": [{"key": "f", "kind": "sql", "function": "regress_nodes.as_set"}]}', publish => true)$$),
    '22023: workflow "sql set" has 1 error', 'sql: a function that returns a set is refused');
SELECT is(pg_temp.outcome('sql vanishing'), 'succeeded {"x": "y"}', 'sql: while it is there');
DROP FUNCTION regress_nodes.vanishing(jsonb);
SELECT pg_temp.start('sql raises', '{"nodes": [{"key": "f", "kind": "sql", "function": "regress_nodes.boom"}]}', '{"code": "23514", "message": "no such thing"}');
SELECT pg_temp.start('sql set role', '{"nodes": [{"key": "f", "kind": "sql", "function": "regress_nodes.set_role"}]}', '{"role": "postgres"}');
SELECT pg_temp.start('sql deferred', '{"nodes": [{"key": "f", "kind": "sql", "function": "regress_nodes.late_check"}]}', '{"n": 1}');
SELECT pg_temp.run('sql deferred good', $$SELECT goya.run('sql deferred', '{"n": 2}')$$);
SELECT pg_temp.start('sql timeout', '{"nodes": [{"key": "f", "kind": "sql", "function": "regress_nodes.slow", "timeout": "100ms"}]}');
SELECT pg_temp.start('sql input', '{"nodes": [{"key": "a", "kind": "transform", "output": {"n": 1}}, {"key": "b", "kind": "transform", "output": {"n": 2}},
    {"key": "one", "kind": "sql", "function": "regress_nodes.echo"}, {"key": "two", "kind": "sql", "function": "regress_nodes.echo"}],
    "edges": [{"from": "a", "to": "one"}, {"from": "a", "to": "two"}, {"from": "b", "to": "two"}]}');

SELECT is(pg_temp.outcome('sql echo'), 'succeeded {"x": "y"}', 'sql: jsonb');
SELECT is(pg_temp.outcome('sql as_text'), 'succeeded "text \"y\""', 'sql: text');
SELECT is(pg_temp.outcome('sql as_number'), 'succeeded 1.50', 'sql: numeric');
SELECT is(pg_temp.outcome('sql as_pair'), 'succeeded {"a": 7, "b": "seven"}', 'sql: a composite');
SELECT is(pg_temp.outcome('sql as_array'), 'succeeded [1, 2, 3]', 'sql: an array');
SELECT is(pg_temp.outcome('sql as_void'), 'succeeded null', 'sql: void');
SELECT is((SELECT count(*) FROM regress_nodes.effects WHERE what = 'void'), 1::bigint, 'and it ran once');
SELECT is(pg_temp.outcome('sql as_null'), 'succeeded null', 'sql: null');
SELECT is(pg_temp.outcome('sql who'), 'succeeded {"tenant": true, "current_user": "regress_nodes", "session_user": "goya_executor"}',
    'sql: it runs as the role that called run, in a powerless session, in its tenant');
SELECT is(pg_temp.outcome('sql forbidden'), 'failed POLICY_DENY 42501: permission denied for function regress_nodes.forbidden', 'sql: no privilege');
SELECT is((pg_temp.last_run('sql forbidden', 'f')).status::text, 'failed', 'is on the run');
SELECT matches(pg_temp.outcome('sql vanished'), '^failed TOOL_BUG 42883: function regress_nodes.vanishing\(jsonb\) does not exist', 'sql: a function that is gone');
SELECT is(pg_temp.outcome('sql raises'), 'failed VALIDATION 23514: no such thing', 'sql: an exception is the run''s error');
SELECT is((pg_temp.task('sql raises')).error, '{"code": "23514", "class": "VALIDATION", "message": "no such thing", "detail": "the detail", "hint": "The hint.",
    "node": "f", "attempt": 1}', 'with detail, hint, node and attempt');
SELECT is((SELECT count(*) FROM regress_nodes.effects WHERE what = 'boom'), 0::bigint, 'and what it did before is undone');
SELECT matches(pg_temp.outcome('sql set role'), '^failed POLICY_DENY 42501: cannot set parameter "role" within security-restricted operation|^failed POLICY_DENY 42501', 'sql: no other role can be had');
SELECT matches(pg_temp.outcome('sql deferred'), '^failed VALIDATION 23505: duplicate key', 'sql: a deferred constraint is the node''s error');
SELECT is(pg_temp.outcome('sql deferred good'), 'succeeded "inserted"', 'and does not hurt its neighbours');
SELECT is(pg_temp.outcome('sql timeout'), 'failed TIMEOUT 57014: canceling statement due to statement timeout', 'sql: its timeout');
SELECT ok((t.finished_at - t.created_at) < interval '5 s', 'which is a short one') FROM pg_temp.task('sql timeout') t;
SELECT is(pg_temp.output('sql input', 'one'), '{"n": 1}', 'input: one upstream node: its output');
SELECT is(pg_temp.output('sql input', 'two'), '{"a": {"n": 1}, "b": {"n": 2}}', 'input: several: an object of theirs');

-- ---- wait, approval, sleep ----

SELECT pg_temp.start('wait', '{"nodes": [{"key": "w", "kind": "wait", "signal": "go"}]}');
SELECT pg_temp.run('wait early', $$SELECT goya.run('wait', run_at => clock_timestamp() + interval '300 ms')$$);
SELECT is(pg_temp.try($$SELECT goya.signal(pg_temp.task_id('wait early'), 'go', '{"early": 1}') IS NOT NULL$$), 'true', 'a signal before the node waits');
SELECT pg_temp.start('wait timeout', '{"nodes": [{"key": "w", "kind": "wait", "signal": "go", "timeout": 0.1}]}');
SELECT pg_temp.start('wait timeout handled', '{"nodes": [{"key": "w", "kind": "wait", "signal": "go", "timeout": "100 ms"}, {"key": "late", "kind": "transform",
    "output": "{{ nodes.w.error.class }}"}], "edges": [{"from": "w", "to": "late", "on": "failure"}]}');
SELECT pg_temp.start('wait map', '{"nodes": [{"key": "m", "kind": "map", "over": [1, 2], "node": {"kind": "wait", "signal": "go", "timeout": "5 s"}}]}');
SELECT is(pg_temp.until($$SELECT status::text FROM goya.node_runs WHERE task_id = pg_temp.task_id('wait')$$, 'waiting'), 'waiting', 'wait: the run waits');
SELECT is(pg_temp.until($$SELECT status::text FROM goya.tasks WHERE id = pg_temp.task_id('wait')$$, 'waiting'), 'waiting', 'and so does the task');
SELECT is((goya.wait_for_task(pg_temp.task_id('wait'), '0 s')).status::text, 'waiting', 'wait_for_task gives it as it is when its time is over');
SELECT pg_temp.try($$SELECT goya.signal(pg_temp.task_id('wait'), 'stop', '1')$$) \g /dev/null
SELECT pg_temp.try($$SELECT goya.signal(pg_temp.task_id('wait'), 'go', '{"n": 1}')$$) \g /dev/null
SELECT is(pg_temp.until($$SELECT count(*)::text FROM goya.node_runs WHERE task_id = pg_temp.task_id('wait map') AND status = 'waiting'$$, '3'), '3', 'a map of waits waits');
SELECT pg_temp.try($$SELECT goya.signal(pg_temp.task_id('wait map'), 'go', '"first"')$$) \g /dev/null
SELECT pg_temp.try($$SELECT goya.signal(pg_temp.task_id('wait map'), 'go', '"second"')$$) \g /dev/null
SELECT is(pg_temp.outcome('wait'), 'succeeded {"n": 1}', 'wait: the payload of its signal, and of no other');
SELECT is(pg_temp.outcome('wait early'), 'succeeded {"early": 1}', 'wait: a signal sent before');
SELECT is(pg_temp.outcome('wait timeout'), 'failed TIMEOUT 57014: no signal "go" came in time', 'wait: its timeout');
SELECT is(pg_temp.outcome('wait timeout handled'), 'succeeded "TIMEOUT"', 'wait: an edge on failure takes the timeout');
SELECT is(pg_temp.outcome('wait map'), 'succeeded ["first", "second"]', 'wait: as body of a map each item takes a signal, in order');
SELECT is(pg_temp.try($$SELECT goya.signal(pg_temp.task_id('wait'), 'go')$$), '55000: cannot signal a task that has ended', 'signal: too late');
SELECT is(pg_temp.try($$SELECT goya.signal(pg_temp.task_id('wait'), '')$$), '22023: a signal needs a name of 1 to 200 characters', 'signal: no name');
SELECT is(pg_temp.try($$SELECT goya.signal(goya.new_id(), 'go')$$), 'PT404: task not found', 'signal: no task');

SELECT pg_temp.start('approval', '{"nodes": [{"key": "ask", "kind": "approval", "message": "Publish {{ input.name }}?",
    "form": {"type": "object", "required": ["note"], "properties": {"note": {"type": "string"}}}}, {"key": "yes", "kind": "noop"}, {"key": "no", "kind": "noop"}],
    "edges": [{"from": "ask", "to": "yes", "when": "$.nodes.ask.output.approved == true"}, {"from": "ask", "to": "no", "when": "$.nodes.ask.output.approved == false"}]}',
    '{"name": "the film"}');
SELECT pg_temp.run('approval rejected', $$SELECT goya.run('approval')$$);
SELECT pg_temp.start('approval timeout', '{"nodes": [{"key": "ask", "kind": "approval", "timeout": "50ms"}]}');
SELECT is(pg_temp.until($$SELECT count(*)::text FROM goya.approvals WHERE status = 'pending'
    AND task_id IN (pg_temp.task_id('approval'), pg_temp.task_id('approval rejected'))$$, '2'), '2', 'approval: the questions are asked');
SELECT is((SELECT message FROM goya.approvals WHERE task_id = pg_temp.task_id('approval')), 'Publish the film?', 'with the message');
SELECT is(pg_temp.try($$SELECT goya.approve(pg_temp.task_id('approval'), 'ask', true, '{"note": 1}')$$), '22023: the response does not fit the form', 'approve: a bad form');
SELECT is(pg_temp.try($$SELECT goya.approve(pg_temp.task_id('approval'), 'ask', true)$$), '22023: the response does not fit the form', 'approve: no form');
SELECT is(pg_temp.try($$SELECT goya.approve(pg_temp.task_id('approval'), 'ask', NULL)$$), '22023: approved must be true or false', 'approve: no answer');
SELECT is(pg_temp.try($$SELECT goya.approve(pg_temp.task_id('approval'), 'nobody')$$), 'PT404: approval not found', 'approve: no such question');
SELECT is((SELECT status FROM goya.approvals WHERE task_id = pg_temp.task_id('approval')), 'pending', 'none of which decides it');
SELECT is(pg_temp.try($$SELECT status FROM goya.approve(pg_temp.task_id('approval'), 'ask', true, '{"note": "fine"}')$$), 'approved', 'approve');
SELECT is(pg_temp.try($$SELECT status FROM goya.approve(pg_temp.task_id('approval'), 'ask', true, '{"note": "again"}')$$), 'approved', 'approve: again changes nothing');
SELECT is(pg_temp.try($$SELECT goya.approve(pg_temp.task_id('approval'), 'ask', false)$$), '23505: already approved', 'approve: a decision is final');
SELECT is(pg_temp.try($$SELECT status FROM goya.approve(pg_temp.task_id('approval rejected'), 'ask', false, '{"why": "dull"}')$$), 'rejected', 'reject, with any response');
SELECT is(pg_temp.runs('approval'), 'ask:succeeded yes:succeeded no:skipped', 'approval: approved');
SELECT is(pg_temp.output('approval', 'ask'), '{"by": "regress_nodes", "approved": true, "response": {"note": "fine"}}', 'its output');
SELECT is(pg_temp.runs('approval rejected'), 'ask:succeeded yes:skipped no:succeeded', 'approval: rejected');
SELECT is(pg_temp.outcome('approval timeout'), 'failed TIMEOUT 57014: nobody decided in time', 'approval: its timeout');
SELECT is((SELECT status FROM goya.approvals WHERE task_id = pg_temp.task_id('approval timeout')), 'expired', 'and the question is expired');
SELECT is(pg_temp.try($$SELECT goya.approve(pg_temp.task_id('approval timeout'), 'ask')$$), '55000: the approval is expired', 'approve: too late');

SELECT pg_temp.start('sleep', '{"nodes": [{"key": "s", "kind": "sleep", "duration": "{{ input.for }}"}, {"key": "after", "kind": "transform", "output": "woke"}],
    "edges": [{"from": "s", "to": "after"}]}', '{"for": "120 ms"}');
SELECT pg_temp.run('sleep number', $$SELECT goya.run('sleep', '{"for": 0.05}')$$);
SELECT pg_temp.run('sleep zero', $$SELECT goya.run('sleep', '{"for": 0}')$$);
SELECT pg_temp.run('sleep bad', $$SELECT goya.run('sleep', '{"for": "a while"}')$$);
SELECT pg_temp.run('sleep negative', $$SELECT goya.run('sleep', '{"for": -1}')$$);
SELECT pg_temp.run('sleep object', $$SELECT goya.run('sleep', '{"for": {}}')$$);
SELECT pg_temp.start('sleep until', '{"nodes": [{"key": "s", "kind": "sleep", "until": "{{ input.at }}"}]}', jsonb_build_object('at', clock_timestamp() + interval '150 ms'));
SELECT pg_temp.run('sleep past', $$SELECT goya.run('sleep until', '{"at": "2001-01-01 00:00Z"}')$$);
SELECT pg_temp.run('sleep never', $$SELECT goya.run('sleep until', '{"at": "sometime"}')$$);
SELECT is(pg_temp.outcome('sleep'), 'succeeded "woke"', 'sleep: interval text');
SELECT ok(r.finished_at - r.started_at BETWEEN interval '120 ms' AND interval '3 s', 'for as long as it says') FROM pg_temp.last_run('sleep', 's') r;
SELECT is(pg_temp.outcome('sleep number'), 'succeeded "woke"', 'sleep: seconds');
SELECT is(pg_temp.outcome('sleep zero'), 'succeeded "woke"', 'sleep: not at all');
SELECT matches(pg_temp.outcome('sleep bad'), '^failed VALIDATION 22007: invalid input syntax for type interval', 'sleep: bad text');
SELECT is(pg_temp.outcome('sleep negative'), 'failed VALIDATION 22023: duration of a sleep is out of range', 'sleep: less than nothing');
SELECT is(pg_temp.outcome('sleep object'), 'failed VALIDATION 22023: duration of a sleep must be seconds or an interval', 'sleep: no duration');
SELECT is(pg_temp.outcome('sleep until'), 'succeeded null', 'sleep: until');
SELECT ok(r.finished_at >= (t.input ->> 'at')::timestamptz, 'not before that time') FROM pg_temp.last_run('sleep until', 's') r, pg_temp.task('sleep until') t;
SELECT is(pg_temp.outcome('sleep past'), 'succeeded null', 'sleep: until a time that is over');
SELECT matches(pg_temp.outcome('sleep never'), '^failed VALIDATION 22007', 'sleep: until no time');

-- ---- workflow ----

SELECT pg_temp.start('workflow', '{"nodes": [{"key": "sub", "kind": "workflow", "workflow": "child", "input": {"n": "{{ input.k }}"}}, {"key": "after", "kind": "noop"}],
    "edges": [{"from": "sub", "to": "after"}]}', '{"k": 21}');
SELECT pg_temp.define('failing child', '{"nodes": [{"key": "b", "kind": "sql", "function": "regress_nodes.boom"}]}');
SELECT pg_temp.start('workflow fails', '{"nodes": [{"key": "sub", "kind": "workflow", "workflow": "failing child", "input": {"code": "22012", "message": "inner"}}]}');
SELECT pg_temp.start('workflow unknown', '{"nodes": [{"key": "sub", "kind": "workflow", "workflow": "no such workflow"}]}');
SELECT pg_temp.start('workflow unknown handled', '{"nodes": [{"key": "sub", "kind": "workflow", "workflow": "no such workflow"}, {"key": "mend", "kind": "transform", "output": "{{ nodes.sub.error.code }}"}],
    "edges": [{"from": "sub", "to": "mend", "on": "failure"}]}');
SELECT pg_temp.start('workflow itself', '{"nodes": [{"key": "sub", "kind": "workflow", "workflow": "workflow itself"}]}');
SELECT pg_temp.start('workflow timeout', '{"nodes": [{"key": "sub", "kind": "workflow", "workflow": "wait", "timeout": "100 ms"}]}');
SELECT is(pg_temp.outcome('workflow'), 'succeeded 42', 'workflow: the child''s output');
SELECT is((SELECT jsonb_build_object('status', c.status, 'input', c.input, 'run_as', c.run_as, 'depth', c.depth, 'trace', c.trace_id = p.trace_id)
           FROM goya.tasks c JOIN goya.tasks p ON p.id = c.parent_task_id WHERE p.id = pg_temp.task_id('workflow')),
    '{"status": "succeeded", "input": {"n": 21}, "run_as": "regress_nodes", "depth": 1, "trace": true}', 'workflow: the child is a task of its own');
SELECT matches(pg_temp.outcome('workflow fails'), '^failed VALIDATION 22012: child task [0-9a-f-]{36} failed$', 'workflow: a failed child, with its class and code');
SELECT is((pg_temp.task('workflow fails')).error ->> 'detail', 'inner', 'and its message as detail');
SELECT is(pg_temp.outcome('workflow unknown'), 'failed VALIDATION PT404: workflow "no such workflow" not found', 'workflow: an unknown one fails the node');
SELECT is(pg_temp.outcome('workflow unknown handled'), 'succeeded "PT404"', 'and an edge on failure takes it');
SELECT matches(pg_temp.outcome('workflow itself'), '^failed RESOURCE_LIMIT 54000: child task', 'workflow: one that starts itself ends at goya.max_depth');
SELECT is(pg_temp.outcome('workflow timeout'), 'failed TIMEOUT 57014: the child task did not end in time', 'workflow: its timeout');
SELECT is(pg_temp.until($$SELECT status::text FROM goya.tasks WHERE parent_task_id = pg_temp.task_id('workflow timeout')$$, 'cancelled'), 'cancelled',
    'and the child nobody waits for is cancelled');

-- ---- edges and joins ----

SELECT pg_temp.start('edges', '{"nodes": [{"key": "bad", "kind": "sql", "function": "regress_nodes.boom"}, {"key": "good", "kind": "noop"},
    {"key": "on_success", "kind": "noop"}, {"key": "on_failure", "kind": "transform", "output": "{{ nodes.bad.error.message }}"}, {"key": "always1", "kind": "noop"},
    {"key": "always2", "kind": "noop"}, {"key": "never", "kind": "noop"}, {"key": "when", "kind": "noop"}, {"key": "after_skip", "kind": "noop"}],
    "edges": [{"from": "bad", "to": "on_success"}, {"from": "bad", "to": "on_failure", "on": "failure"}, {"from": "bad", "to": "always1", "on": "always"},
              {"from": "good", "to": "always2", "on": "always"}, {"from": "good", "to": "never", "on": "failure"},
              {"from": "good", "to": "when", "when": "$.nodes.good.output.n == 5 && $.input.n > 4"}, {"from": "on_success", "to": "after_skip"}]}', '{"n": 5}');
SELECT pg_temp.start('when compares', '{"nodes": [{"key": "a", "kind": "noop"}, {"key": "text", "kind": "noop"}, {"key": "missing", "kind": "noop"}, {"key": "filter", "kind": "noop"},
    {"key": "zero", "kind": "noop"}], "edges": [{"from": "a", "to": "text", "when": "$.input.n > \"4\""}, {"from": "a", "to": "missing", "when": "$.input.none.deeper == 1"},
    {"from": "a", "to": "filter", "when": "exists($.input.list[*] ? (@ == 2))"}, {"from": "a", "to": "zero", "when": "1 / $.input.zero == 1"}]}', '{"n": 5, "list": [1, 2], "zero": 0}');
SELECT pg_temp.start('join all', '{"nodes": [{"key": "c", "kind": "condition", "when": "$.input.left == true"}, {"key": "l", "kind": "noop"}, {"key": "r", "kind": "noop"},
    {"key": "j", "kind": "noop"}, {"key": "jl", "kind": "noop"}, {"key": "none", "kind": "noop"}, {"key": "after", "kind": "noop"}],
    "edges": [{"from": "c", "to": "l", "case": "true"}, {"from": "c", "to": "r", "case": "false"}, {"from": "l", "to": "j"}, {"from": "r", "to": "j"},
              {"from": "r", "to": "none"}, {"from": "c", "to": "none", "case": "false"}, {"from": "none", "to": "after"}, {"from": "l", "to": "jl"}]}', '{"left": true}');
SELECT pg_temp.start('join all failed', '{"nodes": [{"key": "a", "kind": "noop"}, {"key": "b", "kind": "sql", "function": "regress_nodes.boom"}, {"key": "j", "kind": "noop"},
    {"key": "after", "kind": "noop"}, {"key": "mend", "kind": "noop"}], "edges": [{"from": "a", "to": "j"}, {"from": "b", "to": "j"}, {"from": "j", "to": "after"}, {"from": "b", "to": "mend", "on": "failure"}]}');
SELECT pg_temp.start('join any', '{"nodes": [{"key": "fast", "kind": "noop"}, {"key": "slow", "kind": "sleep", "duration": 2}, {"key": "j", "kind": "sql", "function": "regress_nodes.note",
    "join": "any", "input": {"what": "join any"}}], "edges": [{"from": "fast", "to": "j"}, {"from": "slow", "to": "j"}]}');
SELECT pg_temp.start('join any failed', '{"nodes": [{"key": "bad", "kind": "sql", "function": "regress_nodes.boom"}, {"key": "slow", "kind": "sleep", "duration": 0.1}, {"key": "j", "kind": "noop", "join": "any"},
    {"key": "mend", "kind": "noop"}], "edges": [{"from": "bad", "to": "j"}, {"from": "slow", "to": "j"}, {"from": "bad", "to": "mend", "on": "failure"}]}');
SELECT pg_temp.start('join any none', '{"nodes": [{"key": "c", "kind": "switch", "cases": [{"name": "x", "when": "$.input.x == 1"}]}, {"key": "a", "kind": "noop"}, {"key": "b", "kind": "noop"},
    {"key": "j", "kind": "noop", "join": "any"}], "edges": [{"from": "c", "to": "a", "case": "x"}, {"from": "c", "to": "b", "case": "x"}, {"from": "a", "to": "j"}, {"from": "b", "to": "j"}]}');
SELECT pg_temp.start('mixed lanes', '{"nodes": [{"key": "s", "kind": "sleep", "duration": 0}, {"key": "q", "kind": "sql", "function": "regress_nodes.echo"}, {"key": "w", "kind": "workflow", "workflow": "child", "input": {"n": 1}},
    {"key": "j", "kind": "transform", "output": "joined"}], "edges": [{"from": "s", "to": "j"}, {"from": "q", "to": "j"}, {"from": "w", "to": "j"}]}');

SELECT is((SELECT jsonb_object_agg(node, status) FROM goya.node_runs WHERE task_id = (pg_temp.task('edges')).id),
    '{"bad": "failed", "good": "succeeded", "on_success": "skipped", "on_failure": "succeeded", "always1": "succeeded", "always2": "succeeded", "never": "skipped",
      "when": "succeeded", "after_skip": "skipped"}', 'edges: on success, failure, always; when');
SELECT is(pg_temp.output('edges', 'on_failure'), '"boom"', 'edges: the error can be read');
SELECT is((pg_temp.task('edges')).status::text, 'succeeded', 'edges: a failure that is handled is no failure of the task');
SELECT is((pg_temp.last_run('edges', 'after_skip')).message, 'a node before it failed', 'edges: a node skipped by a failure says so');
SELECT is(pg_temp.runs('when compares'), 'a:succeeded text:skipped missing:skipped filter:succeeded zero:skipped', 'edges: a condition that cannot be judged does not hold');
SELECT is((SELECT jsonb_object_agg(node, status) FROM goya.node_runs WHERE task_id = (pg_temp.task('join all')).id),
    '{"c": "succeeded", "l": "succeeded", "r": "skipped", "j": "succeeded", "jl": "succeeded", "none": "skipped", "after": "skipped"}',
    'join all: runs when some edge fired and the others are dead, is skipped when none fired');
SELECT is((SELECT jsonb_object_agg(node, status) FROM goya.node_runs WHERE task_id = (pg_temp.task('join all failed')).id),
    '{"a": "succeeded", "b": "failed", "j": "skipped", "after": "skipped", "mend": "succeeded"}', 'join all: skipped when an edge failed');
SELECT is(pg_temp.runs('join any'), 'fast:succeeded j:succeeded slow:succeeded', 'join any: runs at the first edge');
SELECT is((SELECT count(*) FROM regress_nodes.effects WHERE what = 'join any'), 1::bigint, 'and once');
SELECT is((pg_temp.last_run('join any failed', 'j')).status::text, 'succeeded', 'join any: a failed edge does not stop it');
SELECT is(pg_temp.runs('join any none'), 'c:succeeded a:skipped b:skipped j:skipped', 'join any: no edge fired');
SELECT is(pg_temp.outcome('mixed lanes'), 'succeeded "joined"', 'join all: of a sleep, a statement and a child task');

-- ---- retry ----

SELECT pg_temp.start('retry', '{"nodes": [{"key": "f", "kind": "sql", "function": "regress_nodes.third_time", "input": {"task": "{{ task.id }}"}, "retry": {"max_attempts": 5, "initial": "20ms", "backoff": "fixed", "jitter": 0}}]}');
SELECT pg_temp.start('retry spent', '{"nodes": [{"key": "f", "kind": "sql", "function": "regress_nodes.boom", "retry": {"max_attempts": 3, "initial": "10ms", "backoff": "exponential", "jitter": 0}}]}',
    '{"code": "40P01"}');
SELECT pg_temp.run('retry not this', $$SELECT goya.run('retry spent', '{"code": "22023"}')$$);
SELECT pg_temp.start('retry on', '{"nodes": [{"key": "f", "kind": "sql", "function": "regress_nodes.boom", "retry": {"max_attempts": 2, "initial": 0, "on": ["VALIDATION"]}}]}', '{"code": "22023"}');
SELECT pg_temp.run('retry not on', $$SELECT goya.run('retry on', '{"code": "40001"}')$$);
SELECT pg_temp.start('retry timeout', '{"nodes": [{"key": "w", "kind": "wait", "signal": "go", "timeout": "30ms", "retry": {"max_attempts": 3, "initial": 0, "on": ["TIMEOUT"]}}]}');
SELECT is(pg_temp.outcome('retry'), 'succeeded "at last"', 'retry: the third attempt succeeds');
SELECT is(pg_temp.runs('retry'), 'f:failed f#2:failed f#3:succeeded', 'a row per attempt');
SELECT is((SELECT string_agg(message, ', ' ORDER BY attempt) FROM goya.node_runs WHERE task_id = pg_temp.task_id('retry') AND status = 'failed'), 'will retry 1/4, will retry 2/4', 'which say so');
SELECT ok(min(n.started_at - p.finished_at) >= interval '20 ms', 'retry: not before its delay')
FROM goya.node_runs n JOIN goya.node_runs p ON p.task_id = n.task_id AND p.attempt = n.attempt - 1 WHERE n.task_id = pg_temp.task_id('retry');
SELECT is(pg_temp.runs('retry spent'), 'f:failed f#2:failed f#3:failed', 'retry: as often as allowed');
SELECT ok(t.finished_at - t.created_at < interval '3 s', 'a node that raises a deadlock itself holds nothing up') FROM pg_temp.task('retry spent') t;
SELECT is((pg_temp.task('retry spent')).error ->> 'attempt', '3', 'the task''s error is the last one''s');
SELECT is(pg_temp.runs('retry not this'), 'f:failed', 'retry: a wrong argument is not tried again');
SELECT is(pg_temp.runs('retry on'), 'f:failed f#2:failed', 'retry: unless "on" says so');
SELECT is(pg_temp.runs('retry not on'), 'f:failed', 'and then nothing else is');
SELECT is(pg_temp.runs('retry timeout'), 'w:failed w#2:failed w#3:failed', 'retry: of a wait');

-- ---- compensation ----

SELECT pg_temp.start('compensate', '{"nodes": [
    {"key": "a", "kind": "sql", "function": "regress_nodes.note", "input": {"what": "do a"}, "compensate": {"kind": "sql", "function": "regress_nodes.note", "input": {"what": "undo {{ output }}"}}},
    {"key": "b", "kind": "sql", "function": "regress_nodes.note", "input": {"what": "do b"}, "compensate": {"kind": "sql", "function": "regress_nodes.note", "input": {"what": "undo {{ output }}"}}},
    {"key": "none", "kind": "noop"},
    {"key": "bad", "kind": "sql", "function": "regress_nodes.boom"}, {"key": "after", "kind": "noop"}],
    "edges": [{"from": "a", "to": "b"}, {"from": "b", "to": "none"}, {"from": "none", "to": "bad"}, {"from": "bad", "to": "after"}]}');
SELECT pg_temp.start('compensate fails', '{"nodes": [
    {"key": "a", "kind": "sql", "function": "regress_nodes.note", "input": {"what": "do x"}, "compensate": {"kind": "sql", "function": "regress_nodes.note", "input": {"what": "undo x"}}},
    {"key": "b", "kind": "noop", "compensate": {"kind": "sql", "function": "regress_nodes.boom", "input": {"message": "cannot undo"}}},
    {"key": "bad", "kind": "sql", "function": "regress_nodes.boom"}], "edges": [{"from": "a", "to": "b"}, {"from": "b", "to": "bad"}]}');
SELECT is(pg_temp.outcome('compensate'), 'failed UNKNOWN P0001: boom', 'compensate: the task has failed with the first error');
SELECT is((SELECT string_agg(what, ', ' ORDER BY at) FROM regress_nodes.effects WHERE what ~ 'do [ab]$'), 'do a, do b, undo do b, undo do a', 'newest first, with the output of what is undone');
SELECT is((SELECT jsonb_object_agg(node, status) FROM goya.node_runs WHERE task_id = pg_temp.task_id('compensate') AND node IN ('a', 'b', 'none', 'bad')),
    '{"a": "compensated", "b": "compensated", "none": "succeeded", "bad": "failed"}', 'undone nodes say so');
SELECT is(pg_temp.outcome('compensate fails'), 'failed UNKNOWN P0001: boom', 'compensate: one that fails does not change the task''s error');
SELECT is((SELECT string_agg(what, ', ' ORDER BY at) FROM regress_nodes.effects WHERE what ~ 'do x$'), 'do x, undo x', 'and the others are undone all the same');
SELECT is((SELECT jsonb_object_agg(node, status) FROM goya.node_runs WHERE task_id = pg_temp.task_id('compensate fails') AND node IN ('a', 'b')), '{"a": "compensated", "b": "succeeded"}',
    'the node that could not be undone is not marked so');

-- ---- artifacts ----

SELECT pg_temp.start('artifacts', '{"nodes": [{"key": "cut", "kind": "transform", "output": {"frames": [{"uri": "file:///f0.jpg", "mime_type": "image/jpeg", "size_bytes": 10},
        {"uri": "file:///f1.jpg", "mime_type": "image/jpeg", "metadata": {"n": 1}, "tags": ["t"]}], "score": 0.5},
     "artifact": [{"type": "asset", "each": "{{ output.frames }}", "name": "frame {{ index }}"}, {"type": "result", "name": "score", "data": {"value": "{{ output.score }}"}},
                  {"type": "timeline"}, {"type": "report", "name": "report of {{ input.name }}", "data": "free text"}]},
    {"key": "m", "kind": "map", "over": [1, 2], "node": {"key": "item", "kind": "noop", "artifact": {"type": "result", "name": "item {{ index }}", "data": "{{ item }}"}}}],
    "edges": [{"from": "cut", "to": "m"}]}', '{"name": "film"}');
SELECT pg_temp.start('artifact bad', '{"nodes": [{"key": "a", "kind": "transform", "output": {"media_type": "smell"}, "artifact": {"type": "asset"}}]}');
SELECT is((pg_temp.task('artifacts')).status::text, 'succeeded', 'artifacts: the task');
SELECT is((SELECT string_agg(format('%s/%s/%s/%s', node, item, type, name), ' ' ORDER BY node, type, item, name) FROM goya.artifacts WHERE task_id = pg_temp.task_id('artifacts')),
    'cut/0/asset/frame 0 cut/1/asset/frame 1 cut/0/result/score cut/0/timeline/cut cut/0/report/report of film item/0/result/item 0 item/1/result/item 1', 'artifacts: one each, by type and name');
SELECT is((SELECT jsonb_agg(data ORDER BY item) FROM goya.artifacts WHERE task_id = pg_temp.task_id('artifacts') AND node = 'item'), '[1, 2]', 'artifacts: their data');
SELECT is((SELECT data FROM goya.artifacts WHERE task_id = pg_temp.task_id('artifacts') AND type = 'timeline'), pg_temp.output('artifacts', 'cut'), 'artifacts: without data, the output');
SELECT is((SELECT jsonb_agg(to_jsonb(x) ORDER BY x.name) FROM (SELECT a.name, a.media_type, a.uri, a.status, a.source, a.size_bytes, a.metadata, a.tags, a.node, a.item, a.owner_role, a.task_id = pg_temp.task_id('artifacts') AS mine
           FROM goya.assets a JOIN goya.artifacts f ON f.asset_id = a.id WHERE f.task_id = pg_temp.task_id('artifacts')) x),
    '[{"name": "frame 0", "media_type": "image", "uri": "file:///f0.jpg", "status": "ready", "source": "operator", "size_bytes": 10, "metadata": {}, "tags": [], "node": "cut", "item": 0, "owner_role": "regress_nodes", "mine": true},
      {"name": "frame 1", "media_type": "image", "uri": "file:///f1.jpg", "status": "ready", "source": "operator", "size_bytes": null, "metadata": {"n": 1}, "tags": ["t"], "node": "cut", "item": 1, "owner_role": "regress_nodes", "mine": true}]',
    'artifacts: child assets with what the data says');
SELECT is(pg_temp.outcome('artifact bad'), 'failed VALIDATION 22023: node "a" makes an artifact with a wrong data.media_type', 'artifacts: wrong data is the node''s error');
SELECT is((SELECT count(*) FROM goya.artifacts WHERE task_id = pg_temp.task_id('artifact bad')), 0::bigint, 'and leaves none');

-- ---- context ----

SELECT pg_temp.start('writes', '{"context": {"vars": {"lang": {"type": "string", "readonly": true, "default": "en"}, "n": {"type": "number", "default": 0}},
        "shared": {"list": {"conflict": "append", "default": []}, "map": {"conflict": "merge"}, "last": {}}},
    "nodes": [{"key": "a", "kind": "noop", "writes": {"vars": {"n": "{{ $.vars.n + 1 }}"}, "shared": {"list": "{{ output.x }}", "map": {"a": 1}, "last": "a"}}},
              {"key": "b", "kind": "sql", "function": "regress_nodes.echo", "input": {"x": "{{ vars.n }}"}, "writes": {"vars": {"n": "{{ $.vars.n + 1 }}"}, "shared": {"list": "{{ output.x }}", "map": {"b": 2}, "last": "b"}}},
              {"key": "c", "kind": "transform", "output": {"vars": "{{ vars }}", "shared": "{{ shared }}"}}],
    "edges": [{"from": "a", "to": "b"}, {"from": "b", "to": "c"}]}', '{"x": "first"}');
SELECT pg_temp.start('writes wrong', '{"context": {"vars": {"n": {"type": "number"}}}, "nodes": [{"key": "a", "kind": "noop", "writes": {"vars": {"n": "text"}}}]}');
SELECT pg_temp.start('writes cas', '{"context": {"shared": {"k": {"cas": true, "default": 1}}}, "nodes": [{"key": "a", "kind": "noop", "writes": {"shared": {"k": {"expect": 1, "value": 2}}}},
    {"key": "b", "kind": "noop", "writes": {"shared": {"k": {"expect": 1, "value": 3}}}}, {"key": "c", "kind": "transform", "output": "{{ nodes.b.error.code }} {{ shared.k }}"}],
    "edges": [{"from": "a", "to": "b"}, {"from": "b", "to": "c", "on": "failure"}]}');
SELECT is(pg_temp.outcome('writes'), 'succeeded {"vars": {"n": 2, "lang": "en"}, "shared": {"map": {"a": 1, "b": 2}, "last": "b", "list": ["first", 1]}}', 'writes: vars and shared keys, read by later nodes');
SELECT is(goya.context_at(pg_temp.task_id('writes'), 1) -> 'shared', '{"map": {"a": 1}, "last": "a", "list": ["first"]}', 'context_at: the version between');
SELECT matches(pg_temp.outcome('writes wrong'), '^failed VALIDATION 22023: context key vars.n must be of type number, not string', 'writes: a wrong type is the node''s error');
SELECT is(pg_temp.outcome('writes cas'), 'succeeded "PT409 2"', 'writes: compare and set refuses what was changed');

-- ---- price ----

CREATE ROLE regress_nodes_admin;
GRANT goya_admin TO regress_nodes_admin;
SELECT set_config('test.reference', 'nodes ' || now(), false) \g /dev/null
SET ROLE regress_nodes_admin;
SELECT goya.top_up(1000, current_setting('test.reference')) \g /dev/null
SELECT goya.set_price('nodes.frame', 7) \g /dev/null
SELECT goya.set_price('nodes.call', 100) \g /dev/null
RESET ROLE;
DROP ROLE regress_nodes_admin;
SELECT pg_temp.define('price', '{"nodes": [{"key": "cut", "kind": "transform", "output": {"n": "{{ input.n }}"}, "price": {"name": "nodes.frame", "quantity": "{{ output.n }}", "estimate": 10}},
    {"key": "call", "kind": "sql", "function": "regress_nodes.maybe", "input": "{{ input.fail }}", "price": "nodes.call"}], "edges": [{"from": "cut", "to": "call"}]}');
SELECT balance + frozen AS money FROM goya.wallets w WHERE w.tenant_id = '00000000-0000-7000-8000-000000000001' \gset
SELECT pg_temp.run('price', $$SELECT goya.run('price', '{"n": 5, "fail": 0}')$$);
SELECT is((pg_temp.task('price')).status::text, 'succeeded', 'price: a task that costs something');
SELECT is((SELECT string_agg(node || ' ' || cost, ', ' ORDER BY seq) FROM goya.node_runs WHERE task_id = pg_temp.task_id('price')), 'cut 35, call 100', 'price: by quantity, and per call');
SELECT is((SELECT balance || ' ' || frozen FROM goya.wallets w WHERE w.tenant_id = '00000000-0000-7000-8000-000000000001'), (:'money'::bigint - 135) || ' 0', 'price: what was used is paid, the rest released');
SELECT pg_temp.run('price fails', $$SELECT goya.run('price', '{"n": 2, "fail": 1}')$$);
SELECT is((pg_temp.task('price fails')).status::text, 'failed', 'price: a task that fails');
SELECT is((SELECT string_agg(node || ' ' || coalesce(cost::text, '-'), ', ' ORDER BY seq) FROM goya.node_runs WHERE task_id = pg_temp.task_id('price fails')), 'cut 14, call -', 'price: pays for what succeeded only');
SELECT is((SELECT balance || ' ' || frozen FROM goya.wallets w WHERE w.tenant_id = '00000000-0000-7000-8000-000000000001'), (:'money'::bigint - 149) || ' 0', 'price: and gets the rest back');
SELECT is((SELECT count(*) || ' ' || sum(cost) FROM goya.usage_records WHERE task_id IN (pg_temp.task_id('price'), pg_temp.task_id('price fails'))), '3 149', 'price: a usage record for each');
SELECT pg_temp.start('price beyond', '{"nodes": [{"key": "cut", "kind": "transform", "output": {"n": 1000000}, "price": {"name": "nodes.frame", "quantity": "{{ output.n }}", "estimate": 1}}]}');
SELECT alike(pg_temp.outcome('price beyond'), 'failed POLICY_DENY PT402: %', 'price: more than there is: the node has failed');
SELECT is((SELECT balance || ' ' || frozen FROM goya.wallets w WHERE w.tenant_id = '00000000-0000-7000-8000-000000000001'), (:'money'::bigint - 149) || ' 0', 'price: and nothing is paid');

SELECT is((SELECT string_agg(p.code || ' ' || p.path, ', ' ORDER BY p.path) FROM goya.validate_workflow(jsonb_build_object('nodes', (
        SELECT jsonb_agg(jsonb_build_object('key', 'n' || n, 'kind', 'noop', 'cost_tag', t) ORDER BY n)
        FROM jsonb_array_elements(jsonb_build_array('A1_.:/-z', repeat('t', 63), repeat('t', 64), 'two words', '{{ input.tag }}', '', 5, '-x')) WITH ORDINALITY v(t, n)))) p),
    'bad_value /nodes/2/cost_tag, bad_value /nodes/3/cost_tag, bad_value /nodes/4/cost_tag, bad_value /nodes/5/cost_tag, wrong_type /nodes/6/cost_tag, bad_value /nodes/7/cost_tag',
    'cost_tag: a word, no template');
SELECT pg_temp.try($$SELECT goya.create_operator('nodes.tagged', 'sql', '{"function": "regress_nodes.note", "price": "nodes.call", "cost_tag": "operator"}')$$) \g /dev/null
SELECT pg_temp.start('tags', '{"nodes": [
    {"key": "own", "kind": "noop", "price": "nodes.frame", "cost_tag": "media/cut", "compensate": {"kind": "noop", "price": "nodes.frame"}},
    {"key": "plain", "kind": "noop", "price": "nodes.frame"},
    {"key": "each", "kind": "map", "over": [1, 2], "cost_tag": "batch", "node": {"kind": "noop", "price": "nodes.frame"}},
    {"key": "mixed", "kind": "map", "over": [1], "cost_tag": "batch", "node": {"kind": "noop", "price": "nodes.frame", "cost_tag": "other"}},
    {"key": "op", "kind": "operator", "operator": "nodes.tagged", "input": {"what": "tag"}},
    {"key": "op2", "kind": "operator", "operator": "nodes.tagged", "input": {"what": "tag"}, "cost_tag": "mine"},
    {"key": "bad", "kind": "sql", "function": "regress_nodes.boom", "input": {"message": "boom"}}],
    "edges": [{"from": "own", "to": "bad"}, {"from": "plain", "to": "bad"}, {"from": "each", "to": "bad"}, {"from": "mixed", "to": "bad"}, {"from": "op", "to": "bad"}, {"from": "op2", "to": "bad"}]}');
SELECT is(pg_temp.outcome('tags'), 'failed UNKNOWN P0001: boom', 'cost_tag: of a task that is undone, too');
SELECT is((SELECT string_agg(concat_ws(' ', node, cost_tag), ', ' ORDER BY node, item) FROM goya.usage_records WHERE task_id = pg_temp.task_id('tags')),
    'each.item batch, each.item batch, mixed.item other, op operator, op2 mine, own media/cut, own.compensate media/cut, plain',
    'cost_tag: the node''s own, or that of what it runs for, or its operator''s, or none');
SELECT is(pg_temp.try($$SELECT string_agg(concat_ws(' ', coalesce(b.cost_tag, '-'), b.node_runs / t.n, b.cost / t.n, b.estimated_cost, b.currency), ', ' ORDER BY b.cost_tag)
    FROM goya.bill_summary b, (SELECT count(*) AS n FROM goya.tasks JOIN goya.workflows w ON w.id = workflow_id WHERE w.name = 'tags') t
    WHERE b.workflow = 'tags' AND b.day >= (now() AT TIME ZONE 'UTC')::date - 1$$), 'batch 2 14 0 USD, media/cut 2 14 0 USD, mine 1 100 0 USD, operator 1 100 0 USD, other 1 7 0 USD, - 1 7 0 USD',
    'bill_summary: by tag, workflow and day');

-- ---- many, with failures among them ----

CREATE FUNCTION regress_nodes.picky(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS
$$ BEGIN IF input::integer % 10 = 3 THEN RAISE EXCEPTION 'not %', input; END IF; RETURN input; END $$;
SELECT pg_temp.define('many', '{"nodes": [{"key": "first", "kind": "sql", "function": "regress_nodes.note", "input": {"what": "many {{ input.n }}"}},
    {"key": "check", "kind": "sql", "function": "regress_nodes.picky", "input": "{{ input.n }}"}, {"key": "last", "kind": "sql", "function": "regress_nodes.note", "input": {"what": "end {{ input.n }}"}}],
    "edges": [{"from": "first", "to": "check"}, {"from": "check", "to": "last"}]}');
CREATE TEMP TABLE many AS SELECT n, NULL::uuid AS id FROM generate_series(1, 200) n;
GRANT ALL ON many TO regress_nodes;
SELECT pg_temp.try($$WITH started AS (UPDATE pg_temp.many SET id = goya.run('many', jsonb_build_object('n', n)) RETURNING n) SELECT count(*) FROM started$$) \g /dev/null
SELECT is(pg_temp.until($$SELECT count(*)::text FROM many m JOIN goya.tasks t ON t.id = m.id WHERE t.finished_at IS NOT NULL$$, '200', 30), '200', 'many: 200 tasks end');
SELECT is((SELECT array_agg(m.n ORDER BY m.n) FROM many m JOIN goya.tasks t ON t.id = m.id WHERE t.status = 'failed'), ARRAY(SELECT generate_series(3, 193, 10)),
    'many: exactly the twenty that fail have failed');
SELECT is((SELECT count(*) FROM many m JOIN goya.tasks t ON t.id = m.id WHERE t.status = 'succeeded'), 180::bigint, 'and all others have succeeded');
SELECT is((SELECT count(*) || '/' || count(DISTINCT what) FROM regress_nodes.effects WHERE what LIKE 'many %'), '200/200', 'many: the first step of each was done exactly once');
SELECT is((SELECT count(*) || '/' || count(DISTINCT what) FROM regress_nodes.effects WHERE what LIKE 'end %'), '180/180', 'and the last of those that succeeded');
SELECT is((SELECT count(*) FROM regress_nodes.effects WHERE what LIKE 'end %3'), 0::bigint, 'and of none that failed');
SELECT is((SELECT string_agg(DISTINCT t.error ->> 'message', ',') FROM many m JOIN goya.tasks t ON t.id = m.id WHERE m.n = 113), 'not 113', 'each with its own error');

\ir lib/finish.psql
