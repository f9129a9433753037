-- context.sql: vars and shared keys of running tasks: their first values, what nodes and people write, versions, conflicts, and what a retry keeps.

\set file context
\ir lib/tasks.psql
SELECT no_plan();

-- ---- first values ----

SELECT pg_temp.define('ctx first', '{"context": {"vars": {"lang": {"type": "string", "required": true}, "tone": {"default": "calm"}, "none": {}}, "shared": {"list": {"default": [1]}, "empty": {}}},
    "nodes": [{"key": "a", "kind": "transform", "output": ["{{ vars.lang }}", "{{ vars.tone }}", "{{ vars.none }}", "{{ shared.list }}", "{{ shared.empty }}"]}]}');
SELECT pg_temp.run('first', $$SELECT goya.run('ctx first', '{"lang": "de"}')$$);
SELECT pg_temp.run('first tone', $$SELECT goya.run('ctx first', '{"lang": "de", "tone": "loud", "list": "not of shared"}')$$);
SELECT is(pg_temp.outcome('first'), 'succeeded ["de", "calm", null, [1], null]', 'a var takes the input of its name, else its default');
SELECT is(pg_temp.outcome('first tone'), 'succeeded ["de", "loud", null, [1], null]', 'the input before the default; a shared key only its default');
SELECT is(goya.task_context(pg_temp.task_id('first')), '{"version": 0, "vars": {"lang": "de", "tone": "calm"}, "shared": {"list": [1]}}', 'task_context');
SELECT count(*) AS tasks FROM goya.tasks \gset
SELECT alike(pg_temp.try($$SELECT goya.run('ctx first', '{}')$$), '22023: context key vars.lang is required%', 'a required var without a value');
SELECT alike(pg_temp.try($$SELECT goya.run('ctx first', '{"lang": 5}')$$), '22023: context key vars.lang must be of type string%', 'a var of a wrong type');
SELECT is((SELECT count(*) FROM goya.tasks), :'tasks'::bigint, 'start no task');
SELECT pg_temp.start('no context', '{"nodes": [{"key": "w", "kind": "wait", "signal": "go"}]}');
SELECT is(goya.task_context(pg_temp.task_id('no context')), NULL, 'no context was declared');
SELECT is(pg_temp.try($$SELECT goya.patch_context(pg_temp.task_id('no context'), '{"vars": {"x": 1}}')$$), '22023: the task has no context', 'and none can be written');
SELECT is(pg_temp.try($$SELECT goya.context_at(pg_temp.task_id('no context'), 0)$$), 'PT404: context version not found', 'or looked at');
SELECT pg_temp.try($$SELECT goya.cancel(pg_temp.task_id('no context'))$$) \g /dev/null

-- ---- from outside ----

SELECT pg_temp.define('ctx people', '{"context": {"vars": {"fixed": {"readonly": true, "default": 1}, "tone": {"type": "string", "default": "calm"}, "must": {"required": true, "default": 0}}, "shared": {"scores": {"type": "array", "conflict": "append"}}},
    "nodes": [{"key": "w", "kind": "wait", "signal": "go"}, {"key": "a", "kind": "transform", "output": {"vars": "{{ vars }}", "shared": "{{ shared }}"}}], "edges": [{"from": "w", "to": "a"}]}');
SELECT pg_temp.run('people', $$SELECT goya.run('ctx people')$$);
SELECT is(pg_temp.until($$SELECT status::text FROM goya.tasks WHERE id = pg_temp.task_id('people')$$, 'waiting'), 'waiting', 'a task that waits');
SELECT is(pg_temp.try($$SELECT goya.patch_context(pg_temp.task_id('people'), '{"vars": {"tone": "loud"}, "shared": {"scores": [1, 2]}}')$$), '1', 'patch_context gives the new version');
SELECT is(pg_temp.try($$SELECT goya.patch_context(pg_temp.task_id('people'), '{"shared": {"scores": [3]}}', expected_version => 1)$$), '2', 'with the version expected');
SELECT is(pg_temp.try($$SELECT goya.patch_context(pg_temp.task_id('people'), '{"shared": {"scores": [4]}}', expected_version => 1)$$), 'PT409: the context was changed by somebody else', 'and with another');
SELECT is(pg_temp.try($$SELECT goya.patch_context(pg_temp.task_id('people'), '{"vars": {"fixed": 2}}')$$), '22023: context key vars.fixed is readonly', 'a readonly var');
SELECT is(pg_temp.try($$SELECT goya.patch_context(pg_temp.task_id('people'), '{"vars": {"new": 2}}')$$), '22023: context key vars.new is not declared', 'an undeclared one');
SELECT is(pg_temp.try($$SELECT goya.patch_context(pg_temp.task_id('people'), '{"vars": {"tone": 2}}')$$), '22023: context key vars.tone must be of type string, not number', 'a wrong type');
SELECT is(pg_temp.try($$SELECT goya.patch_context(pg_temp.task_id('people'), unset => '{vars.must}')$$), '22023: context key vars.must is required', 'a required one unset');
SELECT is(pg_temp.try($$SELECT goya.patch_context(pg_temp.task_id('people'), '[]')$$), '22023: set must be an object of vars and shared', 'no object');
SELECT is(pg_temp.try($$SELECT goya.patch_context(pg_temp.task_id('people'), '{"other": {}}')$$), '22023: set must be an object of vars and shared', 'another root');
SELECT is((goya.task_context(pg_temp.task_id('people')) ->> 'version')::integer, 2, 'refusals make no version');
SELECT is(pg_temp.try($$SELECT goya.patch_context(pg_temp.task_id('people'), unset => '{vars.tone}')$$), '3', 'unset');
SELECT pg_temp.try($$SELECT goya.signal(pg_temp.task_id('people'), 'go')$$) \g /dev/null
SELECT is(pg_temp.outcome('people'), 'succeeded {"vars": {"must": 0, "fixed": 1}, "shared": {"scores": [3]}}', 'later nodes see what people wrote');
SELECT is((SELECT string_agg(data ->> 'version', ',' ORDER BY seq) FROM goya.task_events WHERE task_id = pg_temp.task_id('people') AND type = 'context_patched'), '1,2,3', 'each is an event');
SELECT is(pg_temp.try($$SELECT goya.patch_context(pg_temp.task_id('people'), '{"vars": {"tone": "late"}}')$$), '55000: cannot change the context of a task that has ended', 'too late');

-- ---- many writers ----

SELECT pg_temp.start('appends', '{"context": {"shared": {"log": {"conflict": "append", "default": []}, "sum": {"conflict": "merge", "default": {}}}},
    "nodes": [{"key": "m", "kind": "map", "over": "{{ input.list }}", "node": {"key": "i", "kind": "noop", "writes": {"shared": {"log": "{{ item }}", "sum": {"last": "{{ item }}"}}}}},
              {"key": "end", "kind": "transform", "output": "{{ shared.log }}"}], "edges": [{"from": "m", "to": "end"}]}', jsonb_build_object('list', (SELECT jsonb_agg(n) FROM generate_series(1, 50) n)));
SELECT is((SELECT jsonb_agg(e ORDER BY e::integer) FROM jsonb_array_elements((pg_temp.task('appends')).output) e), (SELECT jsonb_agg(n) FROM generate_series(1, 50) n), 'fifty items append: none is lost');
SELECT is((goya.task_context(pg_temp.task_id('appends')) ->> 'version')::integer, 50, 'a version each');
SELECT is((SELECT array_agg(version ORDER BY version) FROM goya.context_snapshots WHERE task_id = pg_temp.task_id('appends')), '{0,20,40}', 'a snapshot every twenty');
SELECT is((SELECT count(*) FROM generate_series(0, 50) v WHERE jsonb_array_length(goya.context_at(pg_temp.task_id('appends'), v) #> '{shared,log}') <> v), 0::bigint, 'context_at: every version is right');
SELECT is(goya.context_at(pg_temp.task_id('appends'), 50), goya.task_context(pg_temp.task_id('appends')), 'and the last is the state');
SELECT is(pg_temp.try($$SELECT goya.context_at(pg_temp.task_id('appends'), 51)$$), 'PT404: context version not found', 'there is no later one');
SELECT is(pg_temp.try($$SELECT goya.context_at(pg_temp.task_id('appends'), -1)$$), 'PT404: context version not found', 'nor an earlier one');

-- ---- conflicts ----

SELECT pg_temp.start('reject', '{"context": {"shared": {"winner": {"conflict": "reject"}}}, "nodes": [{"key": "a", "kind": "noop", "writes": {"shared": {"winner": "a"}}},
    {"key": "same", "kind": "noop", "writes": {"shared": {"winner": "a"}}}, {"key": "b", "kind": "noop", "writes": {"shared": {"winner": "b"}}}, {"key": "end", "kind": "transform", "output": "{{ shared.winner }} {{ nodes.b.error.code }} {{ nodes.b.error.class }}"}],
    "edges": [{"from": "a", "to": "same"}, {"from": "same", "to": "b"}, {"from": "b", "to": "end", "on": "failure"}]}');
SELECT pg_temp.start('merge', '{"context": {"shared": {"k": {"conflict": "merge", "default": {"a": {"x": 1}}}}}, "nodes": [{"key": "a", "kind": "noop", "writes": {"shared": {"k": {"a": {"y": 2}, "b": [1]}}}},
    {"key": "b", "kind": "noop", "writes": {"shared": {"k": {"b": [2]}}}}, {"key": "end", "kind": "transform", "output": "{{ shared.k }}"}], "edges": [{"from": "a", "to": "b"}, {"from": "b", "to": "end"}]}');
SELECT pg_temp.start('merge text', '{"context": {"shared": {"k": {"conflict": "merge"}}}, "nodes": [{"key": "a", "kind": "noop", "writes": {"shared": {"k": "text"}}}]}');
SELECT matches(pg_temp.outcome('reject'), '^succeeded "a PT409 [A-Z_]+"$', 'reject: the first writer wins; the same value is no conflict');
SELECT is(pg_temp.outcome('merge'), 'succeeded {"a": {"x": 1, "y": 2}, "b": [2]}', 'merge: objects deeply, arrays whole');
SELECT is(pg_temp.outcome('merge text'), 'failed VALIDATION 22023: context key shared.k merges objects only', 'merge: objects only');

-- ---- retry ----

CREATE TABLE regress_context.gate (open boolean);
INSERT INTO regress_context.gate VALUES (false);
GRANT SELECT ON regress_context.gate TO regress_context;
CREATE FUNCTION regress_context.gated(input jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN IF NOT (SELECT open FROM regress_context.gate) THEN RAISE EXCEPTION 'shut'; END IF; RETURN '"through"'; END $$;
SELECT pg_temp.start('again', '{"context": {"shared": {"log": {"conflict": "append", "default": []}}}, "nodes": [{"key": "a", "kind": "noop", "writes": {"shared": {"log": "a"}}},
    {"key": "b", "kind": "sql", "function": "regress_context.gated", "writes": {"shared": {"log": "b"}}}, {"key": "end", "kind": "transform", "output": "{{ shared.log }}"}],
    "edges": [{"from": "a", "to": "b"}, {"from": "b", "to": "end"}]}');
SELECT is(pg_temp.outcome('again'), 'failed UNKNOWN P0001: shut', 'a node that fails');
SELECT is(goya.task_context(pg_temp.task_id('again')) -> 'shared', '{"log": ["a"]}', 'writes nothing');
UPDATE regress_context.gate SET open = true;
SELECT pg_temp.run('again retried', $$SELECT goya.retry(pg_temp.task_id('again'))$$);
SELECT is(pg_temp.outcome('again retried'), 'succeeded ["a", "b"]', 'a retry begins with what the copied nodes wrote');
SELECT pg_temp.run('again from a', $$SELECT goya.retry(pg_temp.task_id('again retried'), 'a')$$);
SELECT is(pg_temp.outcome('again from a'), 'succeeded ["a", "b"]', 'and one from the first node with nothing');
\ir lib/finish.psql
