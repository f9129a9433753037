-- tool_policy.sql: policies about tools of agents: what may be said in one, which decides, what each word means; definitions of agents that are wrong.
-- Sessions themselves are in test/tap/046_agent.pl.

\set file tool_policy
\ir lib/tasks.psql
SELECT no_plan();
SELECT goya.create_tenant('regress-tool-policy') AS tenant, goya.create_tenant('regress-tool-policy-2') AS other \gset
SELECT goya.add_member('regress_tool_policy', 'regress-tool-policy') \g /dev/null
CREATE FUNCTION regress_tool_policy.echo(input jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT input';

-- ---- saying it ----

SELECT is(pg_temp.try(format('SELECT (goya.set_tool_policy(%s)).decision', arguments)), said, what) FROM (VALUES
    ($$'a', 'x.*', 'allow'$$, 'allow', 'a policy allows'), ($$'a', 'x.*', 'approve'$$, 'approve', 'asks, the same again changes it'), ($$'a', 'x.*', 'deny'$$, 'deny', 'denies'),
    ($$'a', 'x.*'$$, 'allow', 'without a word it follows from the risk: low'), ($$'a', 'x.*', risk => 'medium'$$, 'allow', 'medium'),
    ($$'a', 'x.*', risk => 'high'$$, 'approve', 'high'), ($$'a', 'x.*', risk => 'critical'$$, 'deny', 'critical'), ($$'a', 'x.*', 'allow', 'critical'$$, 'allow', 'a word goes before the risk'),
    ($$NULL$$, '22023: bad tool policy', 'no name'), ($$''$$, '22023: bad tool policy', 'an empty name'), ($$repeat('a', 128)$$, '22023: bad tool policy', 'a long name'),
    ($$'b', ''$$, '22023: bad tool policy', 'an empty pattern'), ($$'b', NULL$$, '22023: bad tool policy', 'no pattern'), ($$'b', decision => 'maybe'$$, '22023: bad tool policy', 'no such decision'),
    ($$'b', risk => 'huge'$$, '22023: bad tool policy', 'no such risk'), ($$'b', risk => NULL$$, '22023: bad tool policy', 'no risk'), ($$'b', data_access => 'all'$$, '22023: bad tool policy', 'no such access'),
    ($$'b', condition => '$.a >'$$, '22023: bad tool policy', 'a condition that is no path'), ($$'b', max_calls => -1$$, '22023: bad tool policy', 'fewer than no calls'),
    ($$'b', precedence => NULL$$, '22023: bad tool policy', 'no precedence')) v(arguments, said, what);
SELECT is(pg_temp.try($$SELECT count(*) FROM goya.tool_policies$$), '1', 'the last word counts, and nothing that was refused');
SELECT is(pg_temp.try($$SELECT row_version FROM goya.tool_policies$$), '8', 'each change is a version');
SELECT is(pg_temp.try($$SELECT goya.drop_tool_policy('a')$$), '', 'it can be dropped');
SELECT matches(pg_temp.try($$SELECT goya.drop_tool_policy('a')$$), '^PT404', 'once');
SELECT matches(pg_temp.try($$INSERT INTO goya.tool_policies (tenant_id, name, decision) SELECT id, 'x', 'allow' FROM goya.tenants$$), '^42501', 'the table is not written by hand');
SELECT matches(pg_temp.try(format($$%s$$, s)), '^42501', 'nor are ' || t) FROM (VALUES ('calls', 'DELETE FROM goya.tool_calls'), ('messages', 'UPDATE goya.agent_messages SET role = ''user'''), ('sessions', 'UPDATE goya.agent_sessions SET stop = true')) v(t, s);

-- ---- which decides ----

CREATE FUNCTION pg_temp.decides(arguments text) RETURNS text LANGUAGE sql AS
$$ SELECT pg_temp.try(format('SELECT concat_ws('' '', coalesce(policy, ''none''), decision, nullif(reason, '''')) FROM goya.explain_tool_policy(%s) WHERE decides', arguments)) $$;
SELECT is(pg_temp.decides($$'any'$$), 'none allow', 'without a policy a call is allowed');
SELECT pg_temp.try($$SELECT goya.set_tool_policy('rest', '*', 'approve', precedence => 900)$$), pg_temp.try($$SELECT goya.set_tool_policy('mail', 'mail.*', 'allow', precedence => 10)$$),
       pg_temp.try($$SELECT goya.set_tool_policy('big', 'pay.*', 'approve', condition => '$.amount > 100', precedence => 20)$$),
       pg_temp.try($$SELECT goya.set_tool_policy('small', 'pay.*', 'allow', condition => '$.amount <= 100', precedence => 30)$$),
       pg_temp.try($$SELECT goya.set_tool_policy('gifts', 'pay.*', 'deny', condition => '$ ? (@.kind == "gift")', precedence => 5, reason => 'no gifts')$$),
       pg_temp.try($$SELECT goya.set_tool_policy('night', 'db.?rop', 'deny', workflow => 'night-*', agent => 'bot', precedence => 5)$$),
       pg_temp.try($$SELECT goya.set_tool_policy('b', 'same', 'deny', precedence => 50)$$), pg_temp.try($$SELECT goya.set_tool_policy('a', 'same', 'allow', precedence => 50)$$),
       pg_temp.try($$SELECT goya.set_tool_policy('staff', 'staff.*', 'allow', permissions => '{regress_tool_policy}')$$),
       pg_temp.try($$SELECT goya.set_tool_policy('boss', 'boss.*', 'allow', permissions => '{goya_user,goya_admin,no_such_role}')$$),
       pg_temp.try($$SELECT goya.set_tool_policy('literal', 'a_b%c\d', 'deny', precedence => 1)$$) \g /dev/null
SELECT is(pg_temp.decides(arguments), said, what) FROM (VALUES
    ($$'any'$$, 'rest approve', 'the last one takes what is left'), ($$'mail.send'$$, 'mail allow', 'one for a family of operators'), ($$'email.send'$$, 'rest approve', '... and only for that'),
    ($$'pay.now', '{"amount": 500}'$$, 'big approve', 'a condition that is met'), ($$'pay.now', '{"amount": 5}'$$, 'small allow', 'one that is not, and the next'),
    ($$'pay.now', '{"amount": 5, "kind": "gift"}'$$, 'gifts deny no gifts', 'a filter'), ($$'pay.now', '{"amount": "much"}'$$, 'big approve', 'what cannot be compared counts as met where it asks'),
    ($$'pay.now', '{}'$$, 'rest approve', 'what is not there is not met'), ($$'same'$$, 'a allow', 'of equal precedence the name decides'),
    ($$'db.drop', '{}', 'night-1', 'bot'$$, 'night deny', 'workflow and agent'), ($$'db.drop', '{}', 'day', 'bot'$$, 'rest approve', 'another workflow'), ($$'db.drop', '{}', 'night-1', 'rob'$$, 'rest approve', 'another agent'),
    ($$'db.drrop', '{}', 'night-1', 'bot'$$, 'rest approve', '? is one character'), ($$'staff.x'$$, 'staff allow', 'permissions that the caller has'),
    ($$'boss.x'$$, 'boss deny it needs membership in goya_admin, no_such_role', 'permissions that are missing, or of roles that are not there'),
    ($$'a_b%c\d'$$, 'literal deny', 'other signs stand for themselves'), ($$'axb%c\d'$$, 'rest approve', '... and nothing else')) v(arguments, said, what);
SELECT is(pg_temp.try($$SELECT string_agg(coalesce(policy, 'none') || CASE WHEN matches THEN '+' ELSE '-' END, ' ') FROM goya.explain_tool_policy('pay.now', '{"amount": 500}')$$),
          'literal- gifts- night- mail- big+ small- a- b- boss- staff- rest+ none+', 'all are explained in their order');
SELECT is(goya_private.meets_condition('{"a": 1}', c), m, c) FROM (VALUES (NULL, true), ('$.a == 1', true), ('$.a == 2', false), ('$.b', false), ('$.a', true), ('strict $.b', NULL), ('$.a > "x"', NULL)) v(c, m);
UPDATE goya.tool_policies SET tenant_id = :'other' WHERE name = 'rest';
SELECT is(pg_temp.decides($$'any'$$), 'none allow', 'a policy of another tenant is none');
SELECT is(pg_temp.try($$SELECT count(*) FROM goya.tool_policies WHERE name = 'rest'$$), '0', '... and not seen');

-- ---- digests ----

SELECT is(goya_private.tool_digest('t', 1, '{"a": 1, "b": 2}'), goya_private.tool_digest('t', 1, '{"b": 2, "a": 1}'), 'the order of keys makes no digest');
SELECT is(count(DISTINCT d)::integer, 5, 'tool, version and arguments do') FROM (VALUES (goya_private.tool_digest('t', 1, '{"a": 1}')), (goya_private.tool_digest('t', 1, '{"a": 2}')),
    (goya_private.tool_digest('t', 2, '{"a": 1}')), (goya_private.tool_digest('u', 1, '{"a": 1}')), (goya_private.tool_digest('u', NULL, '{"a": 1}'))) v(d);
SELECT is(goya_private.clip_bytes(repeat('ä', 10), 10), E'äääää\n[cut: 10 of 20 bytes]', 'a result is cut between characters');
SELECT is(goya_private.clip_bytes('short', 10), 'short', 'a short one is not');

-- ---- definitions ----

SELECT pg_temp.try($$SELECT goya.create_operator('op.one', 'sql', '{"function": "regress_tool_policy.echo"}', '{"type": "object"}', description => 'One')$$) \g /dev/null
CREATE FUNCTION pg_temp.problems(agent text) RETURNS text LANGUAGE sql AS $$
    SELECT pg_temp.try(format('SELECT string_agg(code || '' '' || path || '' '' || message, ''; '') FROM goya.validate_workflow(%L) WHERE severity = ''error''',
        jsonb_build_object('nodes', jsonb_build_array('{"key": "bot", "kind": "agent", "model": "m", "prompt": "p"}'::jsonb || agent::jsonb)))) $$;
SELECT is(pg_temp.problems(agent), said, left(agent, 100)) FROM (VALUES
    ('{}', 'null'), ('{"tools": ["op.one", {"operator": "op.one", "name": "two"}], "budget": {"steps": 5, "time": "1 min", "tokens": 10, "cost": 0}}', 'null'),
    ('{"model": null}', 'missing_field /nodes/0 "model" is missing'), ('{"prompt": null}', 'missing_field /nodes/0 an agent has "prompt" or "messages", and not both'),
    ('{"messages": []}', 'bad_value /nodes/0 an agent has "prompt" or "messages", and not both'), ('{"prompt": null, "messages": "x"}', 'wrong_type /nodes/0/messages an array of messages is expected here, not a string'),
    ('{"tools": {}}', 'wrong_type /nodes/0/tools an array of tools is expected here, not an object'), ('{"tools": [7]}', 'wrong_type /nodes/0/tools/0 the name of an operator, or an object with "operator" or "node", is expected here, not a number'),
    ('{"tools": ["op.none"]}', 'unknown_operator /nodes/0/tools/0/operator there is no operator "op.none" with an active version'),
    ('{"tools": ["op.one", "op.one"]}', 'duplicate_key /nodes/0/tools/1/key another node has the key "bot.op_one"'),
    ('{"tools": [{"name": "model", "operator": "op.one"}]}', 'bad_value /nodes/0/tools/0/name a tool cannot be called "model"'),
    ('{"tools": [{"name": "a b", "operator": "op.one"}]}', 'bad_value /nodes/0/tools/0/name "a b" is not a name of a tool'),
    ('{"tools": [{}]}', 'missing_field /nodes/0/tools/0 "operator" is missing'), ('{"tools": [{"node": {"kind": "noop"}}]}', 'missing_field /nodes/0/tools/0 "name" is missing'),
    ('{"tools": [{"name": "m", "node": {"kind": "map"}}]}', 'bad_value /nodes/0/tools/0/node/kind a node of this kind cannot stand here'),
    ('{"tools": [{"name": "m", "node": {"kind": "transform"}}]}', 'missing_field /nodes/0/tools/0/node "output" is missing'),
    ('{"tools": [{"operator": "op.one", "colour": 1}]}', 'unknown_field /nodes/0/tools/0/colour unknown field "colour"'),
    ('{"tools": [{"name": "m", "node": {"kind": "noop"}, "price": "step"}]}', 'unknown_field /nodes/0/tools/0/price unknown field "price"'),
    ('{"budget": {"steps": 0}}', 'bad_value /nodes/0/budget/steps "steps" must be a whole number between 1 and 1000'), ('{"budget": 5}', 'wrong_type /nodes/0/budget an object with steps, tokens, cost or time is expected here, not a number'),
    ('{"on_error": {"NOVEL": "tell"}}', 'bad_value /nodes/0/on_error/NOVEL there is no class of errors "NOVEL"'),
    ('{"verify": {"kind": "agent", "model": "m", "prompt": "x"}}', 'bad_value /nodes/0/verify/kind a node of this kind cannot stand here'),
    ('{"verify": 7}', 'wrong_type /nodes/0/verify a node without key (an object) is expected here, not a number')) v(agent, said);
SELECT matches(pg_temp.problems(agent), said, left(agent, 100)) FROM (VALUES ('{"on_budget": "explode"}', 'bad_value /nodes/0/on_budget'), ('{"on_error": {"TIMEOUT": "explode"}}', 'bad_value /nodes/0/on_error'),
    ('{"max_result": 1}', 'bad_value /nodes/0/max_result'), ('{"approval_timeout": "never"}', '/nodes/0/approval_timeout'), ('{"response_schema": {"type": 7}}', '/nodes/0/response_schema')) v(agent, said);
SELECT is(pg_temp.try($$SELECT string_agg(code || ' ' || path, ' ') FROM goya.validate_workflow('{"nodes": [{"key": "m", "kind": "map", "over": [1], "node": {"kind": "agent", "model": "m", "prompt": "p"}}]}')$$),
          'bad_value /nodes/0/node/kind', 'an agent is no body of a map');
SELECT pg_temp.define('agents', '{"nodes": [{"key": "bot", "kind": "agent", "model": "m", "prompt": "p", "tools": ["op.one", {"operator": "op.one", "name": "again", "version": 1}]}]}');
SELECT pg_temp.try($$SELECT goya.add_operator_version('op.one', '{"function": "regress_tool_policy.echo"}', '{"type": "object", "required": ["x"]}')$$) \g /dev/null
SELECT is((SELECT string_agg(concat_ws(' ', t ->> 'operator', t ->> 'version', t ->> 'description', t -> 'input_schema', t #> '{node,kind}'), ', ')
           FROM goya.workflow_revisions r, jsonb_array_elements(r.resolved #> '{nodes,0,tools}') t WHERE r.tenant_id = :'tenant' AND r.resolved #>> '{nodes,0,key}' = 'bot'),
          'op.one 1 One {"type": "object"} "sql", op.one 1 One {"type": "object"} "sql"', 'publishing pins tools');
SELECT is((SELECT string_agg(p.key || ' ' || p.kind, ', ' ORDER BY p.node) FROM goya.workflow_revisions r, goya_private.plan_nodes(r.resolved) p WHERE r.tenant_id = :'tenant' AND r.resolved #>> '{nodes,0,key}' = 'bot'),
          'bot agent, bot.op_one sql, bot.again sql, bot.model ai_model, bot.approval approval', 'and what an agent calls are nodes of its own');

-- ---- the end ----

DELETE FROM goya.tool_policies WHERE tenant_id IN (:'tenant', :'other');
\ir lib/finish.psql
