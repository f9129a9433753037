-- validate: every problem a definition can have, each with its code, place and hint, and several at once.
-- Functions of pg_catalog stand in for the author's own: jsonb_pretty(jsonb) fits a node, jsonb_object_keys(jsonb) returns a set, jsonb_set has more arguments.
\pset format unaligned
\pset tuples_only on
\pset null (null)

-- Right: nothing is reported.
SELECT * FROM goya.validate_workflow('{"nodes": [{"key": "start", "kind": "noop"}]}'::jsonb);
SELECT * FROM goya.validate_workflow('{
  "description": "d", "version": 1, "name": "n", "ui": {}, "settings": {}, "tags": ["t"],
  "input": {"type": "object", "properties": {"limit": {"type": "number"}}},
  "context": {"vars": {"seen": {"type": "integer", "default": 0}}, "shared": {"log": {"type": "array", "conflict": "append", "cas": false}}},
  "nodes": [
    {"key": "probe", "kind": "sql", "function": "pg_catalog.jsonb_pretty", "timeout": "2s", "label": "Probe", "description": "", "position": {"x": 1}, "tags": [], "ui": {},
     "retry": {"max_attempts": 5, "backoff": "linear", "initial": "500ms", "max": "1 minute", "jitter": 0.5, "on": ["transient", "timeout"]}},
    {"key": "frames", "kind": "http", "method": "POST", "url": "https://media.example/frames/{{ params.id }}", "headers": {"x-task": "{{ task.id }}"},
     "body": {"uri": "{{ nodes.probe.output.uri }}", "all": "{{ $.nodes.probe.output.streams[*].id }}"}, "success": "$.output.status < 300", "output": "$.output.body",
     "max_response": 100000, "idempotent": false,
     "artifact": [{"type": "asset", "each": "{{ output.frames }}", "name": "frame {{ index }}", "data": "{{ item }}"}, {"type": "report"}],
     "compensate": {"kind": "http", "url": "https://media.example/undo", "body": "{{ output.id }}"}},
    {"key": "each", "kind": "map", "over": "{{ nodes.frames.output.frames }}", "max_parallel": 4, "error_budget": "all",
     "node": {"kind": "transform", "output": "{{ item.uri }}-{{ index }} of {{ nodes.probe.output.n }}"}},
    {"key": "switch", "kind": "switch", "cases": [{"name": "big", "when": "$.nodes.each.output.size() > 3"}], "default": "small"},
    {"key": "ask", "kind": "approval", "message": "Keep {{ nodes.probe.output.uri }}?", "form": {"type": "object"}, "timeout": 3600},
    {"key": "hold", "kind": "wait", "signal": "go", "timeout": "1 day"},
    {"key": "nap", "kind": "sleep", "duration": "{{ input.limit }}"},
    {"key": "later", "kind": "sleep", "until": "2031-01-01 00:00:00+00"},
    {"key": "done", "kind": "transform", "join": "any", "output": {"params": "{{ params }}", "said": "\\{{ no path }}", "seen": "{{ vars.seen }}"},
     "writes": {"vars": {"seen": 1}, "shared": {"log": ["{{ output.seen }}"]}}}],
  "edges": [{"from": "probe", "to": "frames", "when": "$.nodes.probe.output.duration > 1"}, {"from": "frames", "to": "each"}, {"from": "each", "to": "switch"},
    {"from": "switch", "to": "ask", "case": "big"}, {"from": "switch", "to": "hold", "case": "small"}, {"from": "ask", "to": "nap"}, {"from": "hold", "to": "later"},
    {"from": "nap", "to": "done"}, {"from": "later", "to": "done", "on": "always"}, {"from": "later", "to": "done", "on": "failure"}],
  "output": {"frames": "{{ nodes.each.output }}", "first": "{{ nodes.frames.output.frames[0].\"the uri\" }}"}}'::jsonb);

-- not_an_object, missing_field, no_nodes
SELECT * FROM goya.validate_workflow('[]'::jsonb);
SELECT * FROM goya.validate_workflow('null'::jsonb);
SELECT * FROM goya.validate_workflow('"NaN"'::jsonb);
SELECT * FROM goya.validate_workflow(NULL);
SELECT * FROM goya.validate_workflow('{}'::jsonb);
SELECT * FROM goya.validate_workflow('{"nodes": []}'::jsonb);
SELECT * FROM goya.validate_workflow('{"nodes": {"a": {}}}'::jsonb);

-- limits: 1 MB, 64 levels, 10,000 nodes; what is just within them is fine
SELECT * FROM goya.validate_workflow(jsonb_build_object('nodes', '[{"key": "a", "kind": "noop"}]'::jsonb, 'description', repeat('x', 1048600)));
SELECT count(*) FROM goya.validate_workflow(jsonb_build_object('nodes', '[{"key": "a", "kind": "noop"}]'::jsonb, 'description', repeat('x', 1048000)));
SELECT * FROM goya.validate_workflow(('{"nodes": [{"key": "a", "kind": "noop"}], "ui": ' || repeat('[', 64) || repeat(']', 64) || '}')::jsonb);
SELECT count(*) FROM goya.validate_workflow(('{"nodes": [{"key": "a", "kind": "noop"}], "ui": ' || repeat('[', 63) || repeat(']', 63) || '}')::jsonb);
SELECT severity, code, message FROM goya.validate_workflow(('{"nodes": [], "ui": ' || repeat('[', 6000) || repeat(']', 6000) || '}')::jsonb);
SELECT * FROM goya.validate_workflow((SELECT jsonb_build_object('nodes', jsonb_agg(jsonb_build_object('key', 'n' || i, 'kind', 'noop'))) FROM generate_series(1, 10001) i));
SELECT count(*) FROM goya.validate_workflow((SELECT jsonb_build_object('nodes', jsonb_agg(jsonb_build_object('key', 'n' || i, 'kind', 'noop'))) FROM generate_series(1, 10000) i));

-- missing_field: what each kind must have
SELECT * FROM goya.validate_workflow('{"nodes": [{"kind": "noop"}, {"key": "a"}, {"key": "b", "kind": "transform"}, {"key": "c", "kind": "condition"},
  {"key": "d", "kind": "map"}, {"key": "e", "kind": "sql"}, {"key": "f", "kind": "http"}, {"key": "g", "kind": "operator"}, {"key": "h", "kind": "wait"},
  {"key": "i", "kind": "sleep"}, {"key": "j", "kind": "workflow"}, {"key": "k", "kind": "switch", "cases": [{}]},
  {"key": "l", "kind": "noop", "price": {}, "artifact": {}}], "edges": [{}]}'::jsonb);

-- unknown_field, at every level, with the nearest known one
SELECT * FROM goya.validate_workflow('{"nodez": 1, "nodes": [
  {"key": "a", "kind": "noop", "retrys": {}, "function": "f.g", "retry": {"attempts": 3}, "price": {"name": "p", "qty": 1}, "artifact": {"type": "result", "dta": 1}, "writes": {"var": {}}},
  {"key": "m", "kind": "map", "over": [], "node": {"kind": "noop", "join": "any", "edges": []}},
  {"key": "c", "kind": "noop", "compensate": {"key": "x", "kind": "noop"}},
  {"key": "s", "kind": "switch", "cases": [{"name": "x", "when": "true", "then": 1}]}],
  "edges": [{"from": "a", "to": "m", "wen": "x"}], "context": {"var": {}, "shared": {"k": {"conflicts": "reject"}}}}'::jsonb);

-- wrong_type
SELECT * FROM goya.validate_workflow('{"nodes": [1, {"key": 5, "kind": true}, {"key": "a", "kind": "noop", "retry": 3, "timeout": [], "join": 1, "price": 5, "artifact": "result", "writes": [], "idempotent": "yes", "compensate": []},
  {"key": "b", "kind": "noop", "retry": {"max_attempts": "NaN", "backoff": 1, "initial": {}, "jitter": "1", "on": "transient"}, "price": {"name": 1, "quantity": [1], "estimate": "1"}, "artifact": [1, {"type": 1, "each": 5}]},
  {"key": "c", "kind": "http", "url": 1, "method": {}, "headers": [], "success": true, "output": 1, "max_response": "1"},
  {"key": "d", "kind": "sql", "function": 1}, {"key": "e", "kind": "map", "over": 5, "workflow": 1, "max_parallel": "2", "error_budget": []},
  {"key": "f", "kind": "map", "over": {"a": "{{ input }}"}, "node": []}, {"key": "g", "kind": "condition", "when": true}, {"key": "h", "kind": "switch", "cases": {}},
  {"key": "i", "kind": "switch", "cases": [1]}, {"key": "j", "kind": "wait", "signal": 1}, {"key": "k", "kind": "approval", "message": 1, "form": true},
  {"key": "l", "kind": "sleep", "duration": {"s": "{{ input.s }}"}}, {"key": "m", "kind": "sleep", "until": 5}, {"key": "n", "kind": "workflow", "workflow": {}}, {"key": "o", "kind": "operator", "operator": 1, "version": "1"}],
  "edges": [5, {"from": 1, "to": null, "on": 1, "case": 1}], "input": true, "context": {"vars": [], "shared": {"k": 1, "l": {"type": "string", "default": 5, "cas": 1}}}}'::jsonb);
SELECT * FROM goya.validate_workflow('{"nodes": [{"key": "a", "kind": "noop"}], "edges": {}, "context": 1}'::jsonb);

-- bad_key, duplicate_key
SELECT * FROM goya.validate_workflow('{"nodes": [{"key": "1a", "kind": "noop"}, {"key": "a b", "kind": "noop"}, {"key": "é", "kind": "noop"}, {"key": "", "kind": "noop"},
  {"key": "a234567890123456789012345678901234567890123456789012345678901234", "kind": "noop"}, {"key": "a23456789012345678901234567890123456789012345678901234567890123", "kind": "noop"},
  {"key": "a", "kind": "noop"}, {"key": "a", "kind": "noop"}, {"key": "m", "kind": "map", "over": [], "node": {"key": "a", "kind": "noop"}}],
  "context": {"vars": {"a b": {}}}}'::jsonb);

-- unknown_kind
SELECT * FROM goya.validate_workflow('{"nodes": [{"key": "a", "kind": "sqll"}, {"key": "b", "kind": "quantum"}, {"key": "c", "kind": "noop", "compensate": {"kind": "htttp"}}]}'::jsonb);

-- dangling_edge, self_edge, duplicate_edge
SELECT * FROM goya.validate_workflow('{"nodes": [{"key": "probe", "kind": "noop"}, {"key": "b", "kind": "noop"}, {"key": "m", "kind": "map", "over": [], "node": {"key": "inner", "kind": "noop"}}],
  "edges": [{"from": "prob", "to": "b"}, {"from": "b", "to": "inner"}, {"from": "b", "to": "b"}, {"from": "probe", "to": "b"}, {"from": "probe", "to": "b", "on": "success"},
            {"from": "probe", "to": "b", "on": "failure"}, {"from": "probe", "to": "b", "when": "$.input.x == 1"}, {"from": "probe", "to": "b", "when": "$.input.x == 1"}]}'::jsonb);

-- cycle: each is named once; nodes behind one are not reported as not upstream
SELECT * FROM goya.validate_workflow('{"nodes": [{"key": "a", "kind": "noop"}, {"key": "b", "kind": "noop"}, {"key": "c", "kind": "noop"}, {"key": "d", "kind": "noop", "input": "{{ nodes.a.output }}"},
  {"key": "x", "kind": "noop"}, {"key": "y", "kind": "noop"}, {"key": "start", "kind": "noop"}],
  "edges": [{"from": "start", "to": "a"}, {"from": "a", "to": "b"}, {"from": "b", "to": "c"}, {"from": "c", "to": "a"}, {"from": "c", "to": "d"}, {"from": "x", "to": "y"}, {"from": "y", "to": "x"}]}'::jsonb);
SELECT severity, code, node, path, message FROM goya.validate_workflow((SELECT jsonb_build_object('nodes', jsonb_agg(jsonb_build_object('key', 'n' || i, 'kind', 'noop') ORDER BY i),
  'edges', jsonb_agg(jsonb_build_object('from', 'n' || i, 'to', 'n' || i % 1000 + 1) ORDER BY i)) FROM generate_series(1, 1000) i));

-- unknown_node, not_upstream: in inputs, conditions, bodies, compensations, edges, cases and the output
SELECT * FROM goya.validate_workflow('{"nodes": [{"key": "probe", "kind": "noop"},
  {"key": "b", "kind": "noop", "input": {"x": ["{{ nodes.prob.output }}", "{{ nodes.b.output }}"], "y": "{{ nodes.c.output }}", "z": "{{ nodes.probe.output }}"}},
  {"key": "c", "kind": "condition", "when": "$.nodes.d.output.n > 1 && $.nodes.\"probe\".status == \"succeeded\" && $.nodes.nobody.output == 1"},
  {"key": "d", "kind": "map", "over": "{{ nodes.c.output }}", "node": {"key": "inner", "kind": "noop", "input": "{{ nodes.side.output }}{{ nodes.probe.output }}{{ nodes.d.output }}"}},
  {"key": "side", "kind": "noop", "compensate": {"kind": "noop", "input": {"mine": "{{ nodes.side.output }}", "other": "{{ nodes.probe.output }}"}}},
  {"key": "e", "kind": "noop", "input": "{{ nodes.inner.output }}", "artifact": {"type": "result", "data": "{{ nodes.e.output }}"}}],
  "edges": [{"from": "probe", "to": "b"}, {"from": "b", "to": "c", "when": "$.nodes.b.output.n == 1 && $.nodes.c.output.n == 1"}, {"from": "c", "to": "d"}],
  "output": ["{{ nodes.d.output }}", "{{ nodes.q.output }}"]}'::jsonb);
-- from one end of a long chain to the other, and backwards
SELECT severity, code, node, path, message FROM goya.validate_workflow((SELECT jsonb_build_object(
  'nodes', jsonb_agg(jsonb_build_object('key', 'n' || i, 'kind', 'noop', 'input', '{{ nodes.n' || CASE WHEN i = 5 THEN 4999 WHEN i < 3 THEN i ELSE i % 64 / 32 + 1 END || '.output }}') ORDER BY i),
  'edges', jsonb_agg(jsonb_build_object('from', 'n' || i, 'to', 'n' || i + 1) ORDER BY i) FILTER (WHERE i < 5000)) FROM generate_series(1, 5000) i));

-- bad_template, bad_path, unknown_root
SELECT * FROM goya.validate_workflow('{"nodes": [{"key": "a", "kind": "noop", "input": {"no end": "{{ input.a", "empty": "{{ }}", "pipe": "{{ input.a | upper }}", "dots": "{{ input..a }}", "sub/script": "{{ input.a[x] }}",
    "root": "{{ inptu.a }}", "item": "{{ item }}", "params": "{{ params.x }}", "output": "{{ output.x }}", "event": "{{ event }}", "field": "{{ nodes.a.outputs }}", "no node": "{{ nodes[0] }}", "two": "{{ foo }} and {{ bar }}"}},
  {"key": "h", "kind": "http", "url": "http://localhost/", "success": "$.input.x == 1", "output": "$.nodes.a.output", "body": "{{ output }}"},
  {"key": "c", "kind": "noop", "compensate": {"kind": "noop", "input": "{{ output.id }}{{ item }}"}}],
  "edges": [{"from": "a", "to": "h", "when": "$.output.x == 1"}], "output": "{{ output }}"}'::jsonb);

-- bad_jsonpath
SELECT * FROM goya.validate_workflow('{"nodes": [{"key": "a", "kind": "condition", "when": "$.input.x = 1"}, {"key": "b", "kind": "condition", "when": "{{ input.x }}"}, {"key": "c", "kind": "condition", "when": ""},
  {"key": "d", "kind": "noop", "input": "{{ $.input.[ }}"}, {"key": "e", "kind": "condition", "when": "$input.x == 1"}, {"key": "f", "kind": "condition", "when": "$.input.x like_regex \"(\""},
  {"key": "g", "kind": "condition", "when": "$.inptu.x == 1"}], "edges": [{"from": "a", "to": "b", "when": "not"}]}'::jsonb);
SELECT severity, code, node, path, message FROM goya.validate_workflow(jsonb_build_object('nodes', jsonb_build_array(jsonb_build_object('key', 'a', 'kind', 'condition', 'when', repeat('!(', 2000) || '1 == 1' || repeat(')', 2000)))));

-- bad_schema
SELECT severity, code, node, path FROM goya.validate_workflow('{"input": {"type": "strin"}, "nodes": [{"key": "a", "kind": "approval", "form": {"properties": {"x": {"pattern": "("}}}}]}'::jsonb);

-- unknown_function, bad_function_signature
SELECT * FROM goya.validate_workflow('{"nodes": [{"key": "a", "kind": "sql", "function": "pg_catalog.jsonb_prety"}, {"key": "b", "kind": "sql", "function": "nowhere.f"}, {"key": "c", "kind": "sql", "function": "pg_catalog.jsonb_set"},
  {"key": "d", "kind": "sql", "function": "pg_catalog.jsonb_object_keys"}, {"key": "e", "kind": "sql", "function": "PG_Catalog.\"jsonb_pretty\""}, {"key": "f", "kind": "sql", "function": "jsonb_pretty"},
  {"key": "g", "kind": "sql", "function": "pg_catalog.jsonb_pretty(jsonb)"}, {"key": "h", "kind": "sql", "function": "a.b; DROP TABLE x"}, {"key": "i", "kind": "sql", "function": "a.b.c"}, {"key": "j", "kind": "sql", "function": "\"a\"\"b\".\"c"},
  {"key": "k", "kind": "sql", "function": "pg_catalog.\"Jsonb_pretty\""}, {"key": "l", "kind": "noop", "compensate": {"kind": "sql", "function": "nowhere.undo"}},
  {"key": "m", "kind": "map", "over": [], "node": {"kind": "sql", "function": "nowhere.f"}}]}'::jsonb);

-- unknown_operator; unknown_workflow and unknown_price are warnings
SELECT * FROM goya.validate_workflow('{"nodes": [{"key": "a", "kind": "operator", "operator": "no-such-operator"}, {"key": "b", "kind": "operator", "operator": "no-such-operator", "version": 3}, {"key": "c", "kind": "operator", "operator": "x", "version": 0},
  {"key": "d", "kind": "workflow", "workflow": "no such workflow"}, {"key": "e", "kind": "map", "over": [], "workflow": "no such workflow"}, {"key": "f", "kind": "noop", "price": "no-such-price"},
  {"key": "g", "kind": "noop", "price": {"name": "no-such-price", "quantity": {"second": "{{ output.duration }}"}}}]}'::jsonb);

-- undeclared_key (read: warning), readonly_var
SELECT * FROM goya.validate_workflow('{"context": {"vars": {"lang": {"readonly": true, "required": true}, "n": {"type": "number"}}, "shared": {"log": {}}}, "nodes": [
  {"key": "a", "kind": "noop", "writes": {"vars": {"lang": "en", "m": 1, "n": "{{ output.n }}"}, "shared": {"log": 1, "lgo": 1}}},
  {"key": "b", "kind": "noop", "input": "{{ vars.n }} {{ vars.m }} {{ shared.log }}", "writes": {"vars": "{{ output }}"}},
  {"key": "c", "kind": "condition", "when": "$.shared.lock == true"}]}'::jsonb);

-- unknown_case
SELECT * FROM goya.validate_workflow('{"nodes": [{"key": "yes", "kind": "condition", "when": "true"}, {"key": "sw", "kind": "switch", "cases": [{"name": "small", "when": "$.input.n < 5"}, {"name": "big", "when": "$.input.n > 5"}], "default": "even"},
  {"key": "n", "kind": "noop"}, {"key": "z", "kind": "noop"}],
  "edges": [{"from": "yes", "to": "z", "case": "true"}, {"from": "yes", "to": "n", "case": "maybe"}, {"from": "sw", "to": "n", "case": "huge"}, {"from": "sw", "to": "z", "case": "even"},
            {"from": "n", "to": "z", "case": "true"}, {"from": "sw", "to": "z", "case": "big", "on": "failure"}]}'::jsonb);

-- bad_value
SELECT * FROM goya.validate_workflow('{"nodes": [
  {"key": "a", "kind": "noop", "timeout": 0, "join": "some", "retry": {"max_attempts": 0, "backoff": "quadratic", "initial": -1, "max": "soon", "jitter": 2, "on": ["transiant"]}},
  {"key": "b", "kind": "noop", "timeout": "-5 s", "retry": {"max_attempts": 101, "initial": 20, "max": 10, "on": []}, "price": {"name": "p", "quantity": -1, "estimate": -1}, "artifact": {"type": "video"}},
  {"key": "c", "kind": "noop", "timeout": "infinity", "retry": {"max_attempts": 1.5}, "price": {"name": "", "quantity": {"second": -1}}},
  {"key": "d", "kind": "noop", "timeout": 1e400, "retry": {"max_attempts": 1e400}},
  {"key": "e", "kind": "http", "url": "ftp://x/", "method": "FETCH", "max_response": 0}, {"key": "f", "kind": "http", "url": "file:///{{ input.x }}", "method": "{{ input.method }}"},
  {"key": "g", "kind": "map", "over": [], "node": {"kind": "noop"}, "workflow": "w", "max_parallel": 0, "error_budget": "some"},
  {"key": "h", "kind": "map", "over": [], "node": {"kind": "map", "over": [], "workflow": "w"}, "error_budget": -1},
  {"key": "i", "kind": "map", "over": "{{ input.a }},{{ input.b }}", "node": {"kind": "noop", "compensate": {"kind": "noop"}}},
  {"key": "j", "kind": "sleep", "duration": "long", "until": "2031-01-01"}, {"key": "k", "kind": "sleep", "until": "someday"}, {"key": "l", "kind": "sleep", "duration": -1},
  {"key": "m", "kind": "wait", "signal": "{{ input.x }}"}, {"key": "n", "kind": "noop", "compensate": {"kind": "wait", "signal": "x"}}, {"key": "nn", "kind": "noop", "compensate": {"kind": "map", "over": []}},
  {"key": "o", "kind": "condition", "when": "true", "cases": []}, {"key": "p", "kind": "switch", "cases": []}, {"key": "q", "kind": "condition", "when": "true", "default": "x"},
  {"key": "r", "kind": "switch", "cases": [{"name": "x", "when": "true"}, {"name": "x", "when": "false"}]}],
  "edges": [{"from": "a", "to": "b", "on": "maybe"}], "context": {"shared": {"k": {"conflict": "win", "type": "text"}}}}'::jsonb);

-- Several at once, of different kinds, counted by code.
SELECT severity, code, count(*) FROM goya.validate_workflow('{"nodez": 1, "input": {"type": 5}, "nodes": [{"key": "a", "kind": "nope", "input": "{{ nodes.z.output }}"}, {"key": "a", "kind": "sql", "function": "nowhere.f"},
  {"key": "b", "kind": "workflow", "workflow": "no such workflow", "input": "{{ nope }}"}, {"key": "c", "kind": "condition", "when": "1 ="}],
  "edges": [{"from": "a", "to": "b"}, {"from": "b", "to": "a"}, {"from": "b", "to": "x"}, {"from": "b", "to": "b"}]}'::jsonb) GROUP BY 1, 2 ORDER BY severity, code COLLATE "C";
