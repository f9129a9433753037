-- 58_agents.sql: what is said and decided in sessions of agents; the policy of their tools.
--
-- Decided:
-- - src/node_agent.c runs what a session asks for and tells it what came of that, in the transaction that recorded it and under the lock of the task. The
--   session answers with deeds (an array of objects, see there). So a session is never out of step with the node runs of its task.
-- - An error of a tool is something the model can do about, so it is told, after the tool's own retries; what of it is to end the agent instead is said by
--   class (on_error). An error of the model ends it. Budgets are looked at between calls: the last one may go beyond.
-- - A policy decides before a call, and again when a person has approved it. An approval is for a digest: for that tool, that version, those arguments.
--   The digest is taken anew of what is about to be called, when it is called.
-- Must hold: nothing of a tool runs before its row in goya.tool_calls says that it may; a session ends when nothing of it runs.

CREATE TRIGGER tool_policies_bump BEFORE UPDATE ON goya.tool_policies FOR EACH ROW EXECUTE FUNCTION goya_private.bump_row_version();

-- ---- publishing ----

-- An agent with its tools pinned: each entry gets the node that its operator's version stands for, and what the model is told of it.
CREATE FUNCTION goya_private.resolve_agent(tenant_id uuid, agent jsonb) RETURNS jsonb
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    done    jsonb := resolve_agent.agent;
    entry   jsonb;
    node    jsonb;
    tools   jsonb := '[]';
BEGIN
    -- What the model says of its price and parameters.
    node := goya_private.complete_model_node(resolve_agent.tenant_id, done || '{"kind": "ai_model"}');
    done := node || '{"kind": "agent"}';
    FOR entry IN SELECT t.value FROM jsonb_array_elements(CASE jsonb_typeof(done -> 'tools') WHEN 'array' THEN done -> 'tools' ELSE '[]' END)
                                     WITH ORDINALITY t ORDER BY t.ordinality LOOP
        IF jsonb_typeof(entry) = 'string' THEN
            entry := jsonb_build_object('operator', entry);
        END IF;
        IF entry ? 'node' THEN
            node := goya_private.resolve_node(resolve_agent.tenant_id, entry -> 'node');
        ELSE
            node := goya_private.resolve_node(resolve_agent.tenant_id,
                (entry - '{name,description,input_schema}'::text[]) || '{"kind": "operator"}');
        END IF;
        entry := jsonb_strip_nulls(jsonb_build_object(
                'operator', node -> 'operator', 'version', node -> 'version',
                'description', (SELECT nullif(o.description, '') FROM goya.operators o
                                WHERE o.tenant_id = resolve_agent.tenant_id AND o.name = node ->> 'operator')))
            || jsonb_build_object('input_schema', coalesce(node -> 'input_schema', '{}'))
            || (entry - '{input,retry,timeout,price,idempotent}'::text[]) || jsonb_build_object('node', node)
            || CASE WHEN node ? 'version' THEN jsonb_build_object('version', node -> 'version') ELSE '{}' END;
        tools := tools || jsonb_build_array(entry);
    END LOOP;
    IF done ? 'tools' THEN
        done := done || jsonb_build_object('tools', tools);
    END IF;
    IF done ? 'verify' THEN
        done := done || jsonb_build_object('verify', goya_private.resolve_node(resolve_agent.tenant_id, done -> 'verify'));
    END IF;
    RETURN done;
END;
$$;

-- The specification of a hidden node of an agent as far as goya.check() asks for it. part: the node's key behind the agent's.
CREATE FUNCTION goya_private.agent_part(agent jsonb, part text) RETURNS jsonb
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        SELECT CASE part WHEN 'model' THEN jsonb_strip_nulls(jsonb_build_object('price', agent -> 'price'))
                         WHEN 'approval' THEN jsonb_strip_nulls(jsonb_build_object('timeout', agent -> 'approval_timeout'))
                         WHEN 'verify' THEN agent -> 'verify'
                         ELSE (SELECT t -> 'node' FROM jsonb_array_elements(CASE jsonb_typeof(agent -> 'tools') WHEN 'array' THEN agent -> 'tools' ELSE '[]' END) t
                               WHERE coalesce(t ->> 'name', regexp_replace(t ->> 'operator', '[^A-Za-z0-9_-]', '_', 'g')) = part LIMIT 1) END;
    END;

-- ---- policy ----

CREATE FUNCTION goya_private.fits_pattern(value text, pattern text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN value LIKE translate(replace(replace(replace(pattern, '\', '\\'), '%', '\%'), '_', '\_'), '*?', '%_');

-- Whether arguments meet a condition; null: that cannot be said.
CREATE FUNCTION goya_private.meets_condition(arguments jsonb, condition text) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found_value jsonb;
BEGIN
    IF meets_condition.condition IS NULL THEN
        RETURN true;
    END IF;
    found_value := jsonb_path_query_first(meets_condition.arguments, meets_condition.condition::jsonpath);
    RETURN CASE WHEN found_value IS NULL OR found_value = 'false' THEN false WHEN found_value = 'null' THEN NULL ELSE true END;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END;
$$;

-- What an approval is for.
CREATE FUNCTION goya_private.tool_digest(tool text, version integer, arguments jsonb) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    RETURN encode(sha256(convert_to(jsonb_build_object('tool', tool, 'version', version, 'arguments', arguments)::text, 'UTF8')), 'hex');

-- Each policy of a tenant against one call, in their order, and last what holds without any. The first that matches decides. A condition of which
-- nobody can say whether it is met counts against the call: as met by what denies or asks, as not met by what allows.
CREATE FUNCTION goya_private.weigh_policies(tenant_id uuid, operator text, arguments jsonb, workflow text, agent text, run_as text,
    OUT policy text, OUT matches boolean, OUT decision text, OUT risk text, OUT data_access text, OUT max_calls integer, OUT reason text, OUT missing text)
    RETURNS SETOF record
    LANGUAGE sql STABLE ROWS 10 SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        SELECT w.policy, w.matches, w.decision, w.risk, w.data_access, w.max_calls, w.reason, w.missing FROM (
            SELECT p.name AS policy,
                   goya_private.fits_pattern(weigh_policies.operator, p.operator)
                   AND (weigh_policies.workflow IS NULL OR goya_private.fits_pattern(weigh_policies.workflow, p.workflow))
                   AND (weigh_policies.agent IS NULL OR goya_private.fits_pattern(weigh_policies.agent, p.agent))
                   AND coalesce(goya_private.meets_condition(weigh_policies.arguments, p.condition), p.decision <> 'allow') AS matches,
                   p.decision, p.risk, p.data_access, p.max_calls, p.reason,
                   (SELECT string_agg(quote_ident(r.name), ', ') FROM unnest(p.permissions) r(name)
                    WHERE NOT coalesce((SELECT pg_has_role(m.oid, s.oid, 'MEMBER') FROM pg_roles m, pg_roles s
                                        WHERE m.rolname = weigh_policies.run_as AND s.rolname = r.name), false)) AS missing,
                   p.precedence::bigint AS place
            FROM goya.tool_policies p WHERE p.tenant_id = weigh_policies.tenant_id
            UNION ALL
            SELECT NULL, true, 'allow', 'low', 'none', NULL, '', NULL, 9999999999) w
        ORDER BY w.place, w.policy;
    END;

-- The decision about one call. earlier: how often the session has called the operator. Where something forbids it, decision is deny and reason says what.
CREATE FUNCTION goya_private.judge_tool(session goya.agent_sessions, operator text, arguments jsonb, own_item integer, OUT decision text, OUT policy text,
    OUT risk text, OUT data_access text, OUT reason text, OUT class text)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    rule record;
    earlier bigint;
BEGIN
    SELECT * INTO rule FROM goya_private.weigh_policies(session.tenant_id, judge_tool.operator, judge_tool.arguments, session.workflow, session.node, session.run_as) w
    WHERE w.matches LIMIT 1;
    decision := rule.decision;
    policy := rule.policy;
    risk := rule.risk;
    data_access := rule.data_access;
    reason := rule.reason;
    IF decision = 'deny' THEN
        class := 'POLICY_DENY';
    ELSIF rule.missing IS NOT NULL THEN
        decision := 'deny';
        class := 'POLICY_DENY';
        reason := format('it needs membership in %s', rule.missing);
    ELSIF rule.max_calls IS NOT NULL THEN
        SELECT count(*) INTO earlier FROM goya.tool_calls c
        WHERE c.task_id = session.task_id AND c.node = session.node AND c.item <> judge_tool.own_item
          AND coalesce(c.operator, c.tool) = judge_tool.operator AND c.status IN ('asking', 'running', 'succeeded', 'failed');
        IF earlier >= rule.max_calls THEN
            decision := 'deny';
            class := 'RESOURCE_LIMIT';
            reason := format('it may be called %s times in a session', rule.max_calls);
        END IF;
    END IF;
END;
$$;

CREATE FUNCTION goya.set_tool_policy(name text, operator text DEFAULT '*', decision text DEFAULT NULL, risk text DEFAULT 'low', precedence integer DEFAULT 100,
    workflow text DEFAULT '*', agent text DEFAULT '*', condition text DEFAULT NULL, permissions name[] DEFAULT '{}', data_access text DEFAULT 'none',
    max_calls integer DEFAULT NULL, reason text DEFAULT '') RETURNS goya.tool_policies
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := goya_private.require_writer();
    made goya.tool_policies;
    problem text;
    tried jsonpath;
BEGIN
    problem := CASE
        WHEN set_tool_policy.name IS NULL OR set_tool_policy.name !~ '^[A-Za-z0-9][A-Za-z0-9_. -]{0,126}$'
            THEN format('"%s" is not a name of up to 127 letters, digits, spaces, "_", "." and "-".', set_tool_policy.name)
        WHEN set_tool_policy.risk IS NULL OR set_tool_policy.risk NOT IN ('low', 'medium', 'high', 'critical')
            THEN format('risk "%s" is none of low, medium, high, critical.', set_tool_policy.risk)
        WHEN set_tool_policy.decision NOT IN ('allow', 'approve', 'deny')
            THEN format('decision "%s" is none of allow, approve, deny.', set_tool_policy.decision)
        WHEN set_tool_policy.data_access IS NULL OR set_tool_policy.data_access NOT IN ('none', 'read', 'write', 'external')
            THEN format('data_access "%s" is none of none, read, write, external.', set_tool_policy.data_access)
        WHEN set_tool_policy.max_calls < 0 THEN 'max_calls is less than 0.'
        WHEN coalesce(set_tool_policy.operator, '') = '' OR coalesce(set_tool_policy.workflow, '') = '' OR coalesce(set_tool_policy.agent, '') = ''
            THEN 'A pattern is empty; * stands for any text.'
        WHEN set_tool_policy.precedence IS NULL THEN 'precedence is null.' END;
    IF problem IS NULL AND set_tool_policy.condition IS NOT NULL THEN
        BEGIN
            tried := set_tool_policy.condition::jsonpath;
        EXCEPTION WHEN syntax_error OR data_exception THEN
            problem := format('The condition is no SQL/JSON path: %s.', SQLERRM);
        END;
    END IF;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad tool policy', DETAIL = problem,
            HINT = 'SELECT goya.set_tool_policy(''big payments'', ''pay.*'', ''approve'', condition => ''$.amount > 100'') asks about some.';
    END IF;
    INSERT INTO goya.tool_policies AS p (tenant_id, name, precedence, operator, workflow, agent, condition, decision, risk, data_access, permissions, max_calls, reason)
    VALUES (tenant, set_tool_policy.name, set_tool_policy.precedence, set_tool_policy.operator, set_tool_policy.workflow, set_tool_policy.agent,
            set_tool_policy.condition,
            coalesce(set_tool_policy.decision, CASE set_tool_policy.risk WHEN 'high' THEN 'approve' WHEN 'critical' THEN 'deny' ELSE 'allow' END),
            set_tool_policy.risk, set_tool_policy.data_access, coalesce(set_tool_policy.permissions, '{}'), set_tool_policy.max_calls,
            coalesce(set_tool_policy.reason, ''))
    ON CONFLICT (tenant_id, name) DO UPDATE SET precedence = excluded.precedence, operator = excluded.operator, workflow = excluded.workflow,
        agent = excluded.agent, condition = excluded.condition, decision = excluded.decision, risk = excluded.risk, data_access = excluded.data_access,
        permissions = excluded.permissions, max_calls = excluded.max_calls, reason = excluded.reason
    RETURNING p.* INTO made;
    RETURN made;
END;
$$;
COMMENT ON FUNCTION goya.set_tool_policy(text, text, text, text, integer, text, text, text, name[], text, integer, text) IS
'Makes or replaces a policy about tools of agents, and returns it.
The first policy, by precedence and name, that matches operator, workflow and agent (patterns: * any text, ? a character) and whose condition, an SQL/JSON
path over the arguments, is met decides about a call; without one it is allowed. decision: allow, approve (a person is asked: goya.approvals), deny; null
follows from risk: low and medium allow, high asks, critical denies. permissions: roles that the task''s owner must be a member of. max_calls: of the operator in
one session. data_access (none, read, write, external) is recorded with each call. A tool that is no operator goes by its name.
Errors: 22023 bad name, pattern, condition or word; 42501 no tenant or reader.
Example: SELECT goya.set_tool_policy(''big payments'', ''pay.*'', ''approve'', condition => ''$.amount > 100'');';

CREATE FUNCTION goya.drop_tool_policy(name text) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    tenant uuid := goya_private.require_writer();
BEGIN
    DELETE FROM goya.tool_policies p WHERE p.tenant_id = tenant AND p.name = drop_tool_policy.name;
    IF NOT FOUND THEN
        PERFORM goya_private.not_found('tool policy', drop_tool_policy.name, 'SELECT name FROM goya.tool_policies lists them.');
    END IF;
END;
$$;
COMMENT ON FUNCTION goya.drop_tool_policy(text) IS
'Removes a policy about tools. Calls already decided stay decided; one that waits for approval is judged again when it is answered.
Errors: PT404 no such policy, 42501 no tenant or reader.';

CREATE FUNCTION goya.explain_tool_policy(operator text, arguments jsonb DEFAULT '{}', workflow text DEFAULT NULL, agent text DEFAULT NULL,
    OUT policy text, OUT matches boolean, OUT decides boolean, OUT decision text, OUT risk text, OUT reason text) RETURNS SETOF record
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp ROWS 10 AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := goya_private.require_tenant();
    caller text := goya.current_caller();
BEGIN
    RETURN QUERY
        SELECT w.policy, w.matches, w.matches AND w.place = min(w.place) FILTER (WHERE w.matches) OVER (),
               CASE WHEN w.missing IS NULL THEN w.decision ELSE 'deny' END, w.risk,
               CASE WHEN w.missing IS NULL THEN w.reason ELSE format('it needs membership in %s', w.missing) END
        FROM (SELECT x.*, row_number() OVER () AS place
              FROM goya_private.weigh_policies(tenant, explain_tool_policy.operator, coalesce(explain_tool_policy.arguments, '{}'),
                                               explain_tool_policy.workflow, explain_tool_policy.agent, caller) x) w
        ORDER BY w.place;
END;
$$;
COMMENT ON FUNCTION goya.explain_tool_policy(text, jsonb, text, text) IS
'Says what the policies about tools make of a call: a row per policy in their order, and a last one, policy null, for what holds without any.
decides: this one does. workflow and agent: null is any. Permissions are looked at for the caller. How often a session has called is not known here.
Errors: 42501 no tenant. Example: SELECT policy, decision FROM goya.explain_tool_policy(''pay.invoice'', ''{"amount": 500}'') WHERE decides;';

-- ---- sessions ----

CREATE FUNCTION goya_private.agent_deed(deed text, node text, item integer DEFAULT 0, outcome jsonb DEFAULT NULL, attempt integer DEFAULT 1, status text DEFAULT NULL,
    due timestamptz DEFAULT NULL) RETURNS jsonb
    LANGUAGE sql STABLE
    RETURN jsonb_build_array(jsonb_build_object('deed', deed, 'node', node, 'item', item, 'attempt', attempt, 'status', status, 'due', due, 'outcome', outcome));

CREATE FUNCTION goya_private.agent_error(code text, class text, message text, hint text DEFAULT NULL) RETURNS jsonb
    LANGUAGE sql IMMUTABLE
    RETURN jsonb_strip_nulls(jsonb_build_object('code', code, 'class', class, 'message', message, 'hint', hint));

-- Text cut to so many bytes, with a note that says so.
CREATE FUNCTION goya_private.clip_bytes(value text, most integer) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        SELECT CASE WHEN octet_length(value) <= most THEN value
                    ELSE left(value, greatest(most * char_length(value)::bigint / octet_length(value), 0)::integer)
                         || format(E'\n[cut: %s of %s bytes]', most, octet_length(value)) END;
    END;

CREATE FUNCTION goya_private.agent_say(session goya.agent_sessions, message jsonb, item integer) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    INSERT INTO goya.agent_messages (task_id, node, seq, tenant_id, role, message, item)
    SELECT session.task_id, session.node, coalesce(max(m.seq), 0) + 1, session.tenant_id, coalesce(agent_say.message ->> 'role', 'user'),
           goya_private.seal_value(session.tenant_id, agent_say.message), agent_say.item
    FROM goya.agent_messages m WHERE m.task_id = session.task_id AND m.node = session.node;
    UPDATE goya.agent_sessions a
    SET bytes = a.bytes + octet_length(agent_say.message::text),
        last_message = coalesce(goya_private.seal_text(session.tenant_id, left(nullif(CASE jsonb_typeof(agent_say.message -> 'content')
                                                           WHEN 'string' THEN agent_say.message ->> 'content'
                                                           ELSE (agent_say.message -> 'content')::text END, 'null'), 1000)), a.last_message)
    WHERE a.task_id = session.task_id AND a.node = session.node;
END;
$$;

-- What the agent's node leaves.
CREATE FUNCTION goya_private.agent_output(session goya.agent_sessions) RETURNS jsonb
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        SELECT jsonb_build_object('text', goya_private.open_value(session.tenant_id, session.reply) -> 'text', 'stopped', session.stopped, 'steps', session.steps,
                'usage', jsonb_build_object('tokens', session.tokens, 'cost', session.cost),
                'calls', (SELECT coalesce(jsonb_agg(jsonb_build_object('tool', c.tool, 'item', c.item, 'decision', c.decision, 'status', c.status) ORDER BY c.item), '[]')
                          FROM goya.tool_calls c WHERE c.task_id = session.task_id AND c.node = session.node))
            || CASE WHEN (session.settings -> 'parse')::boolean THEN jsonb_build_object('output', goya_private.open_value(session.tenant_id, session.reply) -> 'output') ELSE '{}' END;
    END;

-- Ends a session; error: it failed. stopped by its budget, it has failed when the agent says so.
CREATE FUNCTION goya_private.agent_end(task_id uuid, agent text, error jsonb DEFAULT NULL) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    s goya.agent_sessions;
    cause jsonb;
BEGIN
    SELECT * INTO s FROM goya.agent_sessions a WHERE a.task_id = agent_end.task_id AND a.node = agent_end.agent;
    cause := coalesce(agent_end.error, s.error);
    IF cause IS NULL AND s.stopped NOT IN ('stop', 'error') AND s.settings ->> 'on_budget' = 'fail' THEN
        cause := goya_private.agent_error('54000', 'RESOURCE_LIMIT', format('the agent''s budget of %s is used up', s.stopped),
                                          'Raise it in "budget", or take what there is with "on_budget": "return".');
    END IF;
    UPDATE goya.agent_sessions a
    SET status = CASE WHEN cause IS NULL THEN 'succeeded' ELSE 'failed' END, error = cause, finished_at = clock_timestamp(), open_item = NULL
    WHERE a.task_id = s.task_id AND a.node = s.node;
    RETURN goya_private.agent_deed('end', s.node, 0,
        CASE WHEN cause IS NULL THEN jsonb_build_object('output', goya_private.agent_output(s)) ELSE jsonb_build_object('error', cause) END);
END;
$$;

-- Which dimension of its budget is used up, or null.
CREATE FUNCTION goya_private.agent_exhausted(session goya.agent_sessions) RETURNS text
    LANGUAGE sql VOLATILE
    RETURN CASE WHEN session.stop THEN 'stop'
                WHEN session.deadline <= clock_timestamp() THEN 'time'
                WHEN session.steps >= (session.budget ->> 'steps')::integer THEN 'steps'
                WHEN session.tokens >= (session.budget ->> 'tokens')::bigint THEN 'tokens'
                WHEN session.cost >= (session.budget ->> 'cost')::bigint THEN 'cost'
                WHEN session.bytes > 16000000 THEN 'size' END;

-- What comes next when a call has ended: nothing yet, the end, or the next call of the model.
CREATE FUNCTION goya_private.agent_next(task_id uuid, agent text) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    s goya.agent_sessions;
    told record;
BEGIN
    SELECT * INTO s FROM goya.agent_sessions a WHERE a.task_id = agent_next.task_id AND a.node = agent_next.agent;
    IF s.open_item IS NOT NULL OR EXISTS (SELECT FROM goya.tool_calls c WHERE c.task_id = s.task_id AND c.node = s.node AND c.status IN ('asking', 'running')) THEN
        RETURN '[]';
    END IF;
    -- In the order the model called, whichever came first.
    FOR told IN
        SELECT c.item, c.call_id, c.result FROM goya.tool_calls c
        WHERE c.task_id = s.task_id AND c.node = s.node
          AND c.item > coalesce((SELECT max(m.item) FROM goya.agent_messages m WHERE m.task_id = s.task_id AND m.node = s.node), -1)
        ORDER BY c.item
    LOOP
        PERFORM goya_private.agent_say(s, jsonb_build_object('role', 'tool', 'tool_call_id', told.call_id, 'content', goya_private.open_text(s.tenant_id, told.result)), told.item);
    END LOOP;
    SELECT * INTO s FROM goya.agent_sessions a WHERE a.task_id = agent_next.task_id AND a.node = agent_next.agent;
    IF s.stopped IS NULL THEN
        s.stopped := goya_private.agent_exhausted(s);
    END IF;
    IF s.stopped IS NOT NULL THEN
        UPDATE goya.agent_sessions a SET stopped = s.stopped WHERE a.task_id = s.task_id AND a.node = s.node;
        RETURN goya_private.agent_end(s.task_id, s.node);
    END IF;
    UPDATE goya.agent_sessions a SET open_item = a.next_item, next_item = a.next_item + 1, steps = a.steps + 1 WHERE a.task_id = s.task_id AND a.node = s.node;
    RETURN goya_private.agent_deed('run', s.node || '.model', s.next_item);
END;
$$;

-- A whole number of a budget; 22023.
CREATE FUNCTION goya_private.budget_number(budget jsonb, dimension text, least_value bigint, most_value bigint) RETURNS bigint
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    given jsonb := budget_number.budget -> budget_number.dimension;
BEGIN
    IF given IS NULL OR given = 'null' THEN
        RETURN NULL;
    END IF;
    IF jsonb_typeof(given) <> 'number' OR given::numeric NOT BETWEEN budget_number.least_value AND budget_number.most_value THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('bad budget of an agent: %s is %s', budget_number.dimension, left(given::text, 100)),
            HINT = format('It is a number from %s to %s.', budget_number.least_value, budget_number.most_value);
    END IF;
    RETURN trunc(given::numeric)::bigint;
END;
$$;

CREATE FUNCTION goya_private.budget_time(budget jsonb) RETURNS interval
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    given jsonb := budget_time.budget -> 'time';
    span interval;
BEGIN
    span := CASE jsonb_typeof(given) WHEN 'number' THEN make_interval(secs => given::double precision) WHEN 'string' THEN (given #>> '{}')::interval END;
    IF span <= interval '0' OR span > interval '10 years' OR jsonb_typeof(given) NOT IN ('number', 'string', 'null') THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad budget of an agent: time is out of range', HINT = 'Write seconds, or an interval such as "5 min".';
    END IF;
    RETURN span;
END;
$$;

-- The session begins. opening: system, prompt or messages, budget, as its templates came out.
CREATE FUNCTION goya_private.agent_begin(task_id uuid, agent text, tenant_id uuid, workflow_id uuid, run_as text, opening jsonb, settings jsonb) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    s goya.agent_sessions;
    given jsonb := coalesce(nullif(opening -> 'budget', 'null'), '{}');
    said jsonb := CASE WHEN opening ? 'messages' THEN opening -> 'messages'
                       ELSE jsonb_build_array(jsonb_build_object('role', 'user', 'content', opening -> 'prompt')) END;
    message jsonb;
BEGIN
    s.budget := jsonb_strip_nulls(jsonb_build_object('steps', coalesce(goya_private.budget_number(given, 'steps', 1, 1000), 20),
        'tokens', goya_private.budget_number(given, 'tokens', 1, 1000000000000), 'cost', goya_private.budget_number(given, 'cost', 0, 9223372036854775807)));
    s.deadline := clock_timestamp() + goya_private.budget_time(given);
    IF s.deadline IS NOT NULL THEN
        s.budget := s.budget || jsonb_build_object('time', given -> 'time');
    END IF;
    IF jsonb_typeof(said) IS DISTINCT FROM 'array' THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'messages of an agent must be an array';
    END IF;
    INSERT INTO goya.agent_sessions (task_id, node, tenant_id, workflow, run_as, budget, settings, deadline)
    VALUES (agent_begin.task_id, agent_begin.agent, agent_begin.tenant_id,
            coalesce((SELECT w.name FROM goya.workflows w WHERE w.id = agent_begin.workflow_id), ''), agent_begin.run_as, s.budget, agent_begin.settings, s.deadline)
    RETURNING * INTO s;
    IF coalesce(opening -> 'system', 'null') <> 'null' THEN
        PERFORM goya_private.agent_say(s, jsonb_build_object('role', 'system', 'content', opening -> 'system'), NULL);
    END IF;
    FOR message IN SELECT m.value FROM jsonb_array_elements(said) WITH ORDINALITY m ORDER BY m.ordinality LOOP
        IF jsonb_typeof(message) <> 'object' OR message ->> 'role' IS NULL THEN
            RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'a message of an agent must be an object with role and content',
                DETAIL = left(message::text, 200);
        END IF;
        PERFORM goya_private.agent_say(s, message, NULL);
    END LOOP;
    RETURN CASE WHEN s.deadline IS NULL THEN '[]' ELSE goya_private.agent_deed('timer', s.node, due => s.deadline) END
        || goya_private.agent_next(s.task_id, s.node);
END;
$$;

-- Arguments as the model gave them: a value, or the text of one; null: they are not valid JSON.
CREATE FUNCTION goya_private.read_arguments(asked jsonb) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    given jsonb := coalesce(asked -> 'arguments', asked #> '{function,arguments}', '{}');
BEGIN
    RETURN CASE WHEN jsonb_typeof(given) <> 'string' THEN given ELSE coalesce(nullif(btrim(given #>> '{}'), ''), '{}')::jsonb END;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END;
$$;

-- Why arguments do not fit a tool, or null.
CREATE FUNCTION goya_private.bad_arguments(schema jsonb, arguments jsonb) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF jsonb_typeof(bad_arguments.arguments) IS DISTINCT FROM 'object' THEN
        RETURN 'the arguments are no JSON object';
    END IF;
    RETURN (SELECT string_agg(format('%s: %s', CASE e.path WHEN '' THEN '/' ELSE e.path END, e.message), '; ')
            FROM goya.check_schema(coalesce(bad_arguments.schema, '{}'), bad_arguments.arguments, 10) e);
EXCEPTION WHEN invalid_parameter_value THEN
    RETURN format('the tool''s schema is wrong: %s', SQLERRM);
END;
$$;

-- One call that the model asks for: recorded, judged, and begun or refused.
CREATE FUNCTION goya_private.agent_call(task_id uuid, agent text, asked jsonb) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    s goya.agent_sessions;
    c goya.tool_calls;
    tool jsonb;
    given jsonb := goya_private.read_arguments(asked);
    problem text;
    ruling record;
BEGIN
    SELECT * INTO s FROM goya.agent_sessions a WHERE a.task_id = agent_call.task_id AND a.node = agent_call.agent;
    c.tool := left(coalesce(asked ->> 'name', asked #>> '{function,name}', ''), 200);
    IF given IS NULL THEN
        given := coalesce(asked -> 'arguments', asked #> '{function,arguments}');
        problem := 'the arguments are not valid JSON';
    END IF;
    SELECT t INTO tool FROM jsonb_array_elements(s.settings -> 'tools') t WHERE t ->> 'name' = c.tool LIMIT 1;
    c.operator := tool ->> 'operator';
    c.version := (tool ->> 'version')::integer;
    c.arguments := given;
    c.status := 'invalid';
    c.decision := 'invalid';
    IF s.stopped IS NOT NULL OR s.steps >= (s.budget ->> 'steps')::integer THEN
        problem := 'not called: the session is over';
        c.class := 'RESOURCE_LIMIT';
    ELSIF tool IS NULL THEN
        problem := format('there is no tool "%s"; there are: %s', c.tool,
                          coalesce((SELECT string_agg(t ->> 'name', ', ') FROM jsonb_array_elements(s.settings -> 'tools') t), 'none'));
    ELSE
        problem := coalesce(problem, goya_private.bad_arguments(tool -> 'input_schema', given));
    END IF;
    IF problem IS NULL THEN
        SELECT * INTO ruling FROM goya_private.judge_tool(s, coalesce(c.operator, c.tool), given, s.next_item);
        c.decision := ruling.decision;
        c.class := ruling.class;
        c.policy := ruling.policy;
        c.risk := ruling.risk;
        c.data_access := ruling.data_access;
        c.status := CASE ruling.decision WHEN 'allow' THEN 'running' WHEN 'approve' THEN 'asking' ELSE 'denied' END;
        IF c.status = 'denied' THEN
            problem := 'this call is not allowed' || coalesce(': ' || nullif(ruling.reason, ''), '');
        END IF;
    END IF;
    INSERT INTO goya.tool_calls (task_id, node, item, tenant_id, call_id, tool, operator, version, arguments, digest, decision, policy, risk, data_access, status,
                                 class, result, decided_by, decided_at, finished_at)
    VALUES (s.task_id, s.node, s.next_item, s.tenant_id, left(asked ->> 'id', 200), c.tool, c.operator, c.version,
            goya_private.seal_value(s.tenant_id, given), goya_private.tool_digest(coalesce(c.operator, c.tool), c.version, given), c.decision, c.policy, coalesce(c.risk, 'low'), coalesce(c.data_access, 'none'), c.status,
            CASE WHEN c.status = 'invalid' THEN coalesce(c.class, 'VALIDATION') ELSE c.class END,
            goya_private.seal_text(s.tenant_id, 'error: ' || problem),
            CASE WHEN c.status = 'asking' THEN NULL ELSE coalesce('policy ' || c.policy, 'goya') END,
            CASE WHEN c.status <> 'asking' THEN clock_timestamp() END, CASE WHEN c.status IN ('invalid', 'denied') THEN clock_timestamp() END);
    UPDATE goya.agent_sessions a SET next_item = a.next_item + 1, steps = a.steps + CASE WHEN c.class = 'RESOURCE_LIMIT' AND c.status = 'invalid' THEN 0 ELSE 1 END
    WHERE a.task_id = s.task_id AND a.node = s.node;
    RETURN CASE c.status WHEN 'running' THEN goya_private.agent_deed('run', s.node || '.' || c.tool, s.next_item)
                         WHEN 'asking' THEN goya_private.agent_deed('run', s.node || '.approval', s.next_item)
                         ELSE goya_private.agent_on_error(s.task_id, s.node, c.class, NULL) END;
END;
$$;

-- What the agent says is to be done about an error of a tool, by its class: it is told (nothing to do), or the session ends when what runs has ended.
CREATE FUNCTION goya_private.agent_on_error(task_id uuid, agent text, class text, error jsonb) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    action text;
BEGIN
    SELECT coalesce(CASE agent_on_error.class WHEN 'CRASH' THEN 'fail' END, a.settings -> 'on_error' ->> agent_on_error.class, 'tell') INTO action
    FROM goya.agent_sessions a WHERE a.task_id = agent_on_error.task_id AND a.node = agent_on_error.agent;
    IF action <> 'tell' THEN
        UPDATE goya.agent_sessions a
        SET stopped = coalesce(a.stopped, 'error'),
            error = CASE WHEN action = 'fail' THEN coalesce(a.error, agent_on_error.error,
                        goya_private.agent_error('42501', agent_on_error.class, 'a call of a tool was refused', 'goya.tool_calls says which.')) ELSE a.error END
        WHERE a.task_id = agent_on_error.task_id AND a.node = agent_on_error.agent;
    END IF;
    RETURN '[]';
END;
$$;

-- The model has answered.
CREATE FUNCTION goya_private.agent_reply(task_id uuid, agent text, item integer, output jsonb) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    s goya.agent_sessions;
    said text := nullif(output ->> 'text', '');
    used jsonb := output -> 'usage';
    calls jsonb := CASE jsonb_typeof(output -> 'tool_calls') WHEN 'array' THEN output -> 'tool_calls' ELSE '[]' END;
    asked jsonb;
    wired jsonb := '[]';
    deeds jsonb := '[]';
    place integer := 0;
BEGIN
    UPDATE goya.agent_sessions a
    SET open_item = NULL,
        tokens = a.tokens + coalesce((used ->> 'total_tokens')::numeric, coalesce((used ->> 'input_tokens')::numeric, (used ->> 'prompt_tokens')::numeric, 0)
                                     + coalesce((used ->> 'output_tokens')::numeric, (used ->> 'completion_tokens')::numeric, 0))::bigint,
        reply = CASE WHEN said IS NOT NULL OR output ? 'output' OR calls = '[]'
                     THEN goya_private.seal_value(a.tenant_id, jsonb_build_object('text', said, 'output', coalesce(output -> 'output', output -> 'json')))
                     ELSE a.reply END
    WHERE a.task_id = agent_reply.task_id AND a.node = agent_reply.agent RETURNING * INTO s;
    FOR asked IN SELECT t.value FROM jsonb_array_elements(calls) WITH ORDINALITY t ORDER BY t.ordinality LOOP
        place := place + 1;
        asked := asked || jsonb_build_object('id', coalesce(asked ->> 'id', format('call_%s_%s', agent_reply.item, place)));
        wired := wired || jsonb_build_array(jsonb_build_object('id', asked -> 'id', 'type', 'function', 'function', jsonb_build_object(
            'name', coalesce(asked -> 'name', asked #> '{function,name}', '""'),
            -- Services take back only what is valid.
            'arguments', coalesce(goya_private.read_arguments(asked)::text, '{}'))));
        calls := jsonb_set(calls, ARRAY[(place - 1)::text], asked);
    END LOOP;
    PERFORM goya_private.agent_say(s, jsonb_build_object('role', 'assistant', 'content', said)
                                      || CASE WHEN wired = '[]' THEN '{}' ELSE jsonb_build_object('tool_calls', wired) END, agent_reply.item);
    IF calls <> '[]' THEN
        FOR asked IN SELECT t.value FROM jsonb_array_elements(calls) WITH ORDINALITY t ORDER BY t.ordinality LOOP
            deeds := deeds || goya_private.agent_call(s.task_id, s.node, asked);
        END LOOP;
        RETURN deeds || goya_private.agent_next(s.task_id, s.node);
    END IF;
    IF said IS NULL AND coalesce(goya_private.open_value(s.tenant_id, s.reply) -> 'output', 'null') = 'null' THEN
        RETURN goya_private.agent_end(s.task_id, s.node, goya_private.agent_error('38000', 'MODEL_REASONING', 'the model answered nothing and called nothing'));
    END IF;
    IF (s.settings -> 'verify')::boolean AND s.stopped IS NULL THEN
        s.stopped := goya_private.agent_exhausted(s);
        IF s.stopped IS NULL THEN
            UPDATE goya.agent_sessions a SET open_item = a.next_item, next_item = a.next_item + 1, steps = a.steps + 1 WHERE a.task_id = s.task_id AND a.node = s.node;
            RETURN goya_private.agent_deed('run', s.node || '.verify', s.next_item);
        END IF;
        UPDATE goya.agent_sessions a SET stopped = s.stopped WHERE a.task_id = s.task_id AND a.node = s.node;
    END IF;
    RETURN goya_private.agent_end(s.task_id, s.node);
END;
$$;

-- The answer was checked: true, or an object with ok true, is a yes. Anything else is told to the model, which goes on.
CREATE FUNCTION goya_private.agent_verified(session goya.agent_sessions, item integer, verdict jsonb) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE goya.agent_sessions a SET open_item = NULL WHERE a.task_id = session.task_id AND a.node = session.node;
    IF coalesce(verdict = 'true' OR verdict -> 'ok' = 'true', false) THEN
        RETURN goya_private.agent_end(session.task_id, session.node);
    END IF;
    PERFORM goya_private.agent_say(session, jsonb_build_object('role', 'user', 'content',
        'Your answer was checked and is not accepted: ' || goya_private.clip_bytes(coalesce(verdict ->> 'message', verdict::text, 'no reason given'),
                                                                                  (session.settings ->> 'max_result')::integer)), agent_verified.item);
    RETURN goya_private.agent_next(session.task_id, session.node);
END;
$$;

-- A person has decided, or nobody in time. What was approved is judged again: the policy may have changed, and it is for those arguments only.
CREATE FUNCTION goya_private.agent_answered(session goya.agent_sessions, item integer, ok boolean, answer jsonb) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    c goya.tool_calls;
    shown text;
    ruling record;
    problem text;
    outcome text := 'denied';
    cause text := 'POLICY_DENY';
BEGIN
    SELECT * INTO c FROM goya.tool_calls x WHERE x.task_id = session.task_id AND x.node = session.node AND x.item = agent_answered.item AND x.status = 'asking';
    IF NOT FOUND THEN
        RETURN '[]';
    END IF;
    c.arguments := goya_private.open_value(c.tenant_id, c.arguments);
    SELECT goya_private.open_value(r.tenant_id, r.input) ->> 'digest' INTO shown FROM goya.node_runs r
    WHERE r.task_id = c.task_id AND r.node = c.node || '.approval' AND r.item = c.item ORDER BY r.attempt DESC LIMIT 1;
    SELECT * INTO ruling FROM goya_private.judge_tool(session, coalesce(c.operator, c.tool), c.arguments, c.item);
    IF NOT agent_answered.ok THEN
        problem := 'nobody approved this call in time';
        outcome := 'expired';
        cause := 'TIMEOUT';
    ELSIF NOT coalesce((answer -> 'approved')::boolean, false) THEN
        problem := 'a person rejected this call' || coalesce(': ' || nullif(coalesce(answer #>> '{response,reason}', answer #>> '{response,note}'), ''), '');
        outcome := 'rejected';
    ELSIF shown IS DISTINCT FROM c.digest OR goya_private.tool_digest(coalesce(c.operator, c.tool), c.version, c.arguments) <> c.digest THEN
        problem := 'the approval was for other arguments';
    ELSIF ruling.decision = 'deny' THEN
        problem := 'this call is not allowed' || coalesce(': ' || nullif(ruling.reason, ''), '');
        cause := ruling.class;
    ELSIF session.stopped IS NOT NULL OR session.stop THEN
        problem := 'not called: the session is over';
        outcome := 'cancelled';
        cause := 'RESOURCE_LIMIT';
    END IF;
    UPDATE goya.tool_calls x
    SET status = CASE WHEN problem IS NULL THEN 'running' ELSE outcome END, approved_digest = CASE WHEN problem IS NULL THEN shown END,
        decided_by = CASE WHEN agent_answered.ok THEN answer ->> 'by' END, decided_at = clock_timestamp(), class = CASE WHEN problem IS NOT NULL THEN cause END,
        result = goya_private.seal_text(x.tenant_id, 'error: ' || problem), finished_at = CASE WHEN problem IS NOT NULL THEN clock_timestamp() END
    WHERE x.task_id = c.task_id AND x.node = c.node AND x.item = c.item;
    IF problem IS NULL THEN
        RETURN goya_private.agent_deed('run', c.node || '.' || c.tool, c.item);
    END IF;
    PERFORM goya_private.agent_on_error(c.task_id, c.node, cause, goya_private.agent_error('42501', cause, format('tool "%s": %s', c.tool, problem)));
    RETURN goya_private.agent_next(c.task_id, c.node);
END;
$$;

-- A tool has ended.
CREATE FUNCTION goya_private.agent_called(session goya.agent_sessions, item integer, ok boolean, result jsonb) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    most integer := (session.settings ->> 'max_result')::integer;
    tool_name text;
BEGIN
    UPDATE goya.tool_calls c
    SET status = CASE WHEN agent_called.ok THEN 'succeeded' ELSE 'failed' END, finished_at = clock_timestamp(),
        class = CASE WHEN NOT agent_called.ok THEN agent_called.result ->> 'class' END,
        result = goya_private.seal_text(c.tenant_id, goya_private.clip_bytes(CASE
            WHEN agent_called.ok THEN CASE jsonb_typeof(agent_called.result) WHEN 'string' THEN agent_called.result #>> '{}' ELSE coalesce(agent_called.result::text, 'null') END
            ELSE format('error: %s', concat_ws(E'\n', agent_called.result ->> 'message', agent_called.result ->> 'detail')) END, most))
    WHERE c.task_id = session.task_id AND c.node = session.node AND c.item = agent_called.item AND c.status = 'running'
    RETURNING c.tool INTO tool_name;
    IF NOT FOUND THEN
        RETURN '[]';
    END IF;
    IF NOT agent_called.ok THEN
        PERFORM goya_private.agent_on_error(session.task_id, session.node, agent_called.result ->> 'class',
            agent_called.result || jsonb_build_object('message', format('tool "%s": %s', tool_name, agent_called.result ->> 'message')));
    END IF;
    RETURN goya_private.agent_next(session.task_id, session.node);
END;
$$;

-- What was said cannot be sealed, or opened again, because a master key is not here: the session ends, with that as its error, when nothing of it runs.
CREATE FUNCTION goya_private.agent_speechless(task_id uuid, agent text, item integer, problem text) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    s goya.agent_sessions;
BEGIN
    UPDATE goya.tool_calls c
    SET status = CASE c.status WHEN 'asking' THEN 'cancelled' ELSE 'failed' END, class = 'RESOURCE_LIMIT', finished_at = clock_timestamp()
    WHERE c.task_id = agent_speechless.task_id AND c.node = agent_speechless.agent AND c.item = agent_speechless.item AND c.status IN ('asking', 'running');
    UPDATE goya.agent_sessions a
    SET open_item = nullif(a.open_item, agent_speechless.item), stopped = coalesce(a.stopped, 'error'),
        error = coalesce(a.error, goya_private.agent_error('53400', 'RESOURCE_LIMIT', agent_speechless.problem, 'An administrator puts the master key back; then goya.retry.'))
    WHERE a.task_id = agent_speechless.task_id AND a.node = agent_speechless.agent RETURNING * INTO s;
    IF s.open_item IS NOT NULL OR EXISTS (SELECT FROM goya.tool_calls c WHERE c.task_id = s.task_id AND c.node = s.node AND c.status IN ('asking', 'running')) THEN
        RETURN '[]';
    END IF;
    RETURN goya_private.agent_end(s.task_id, s.node);
END;
$$;

-- A run of a hidden node has ended for good. part: model, approval, verify or the name of a tool; empty: the agent itself failed when its end was
-- written. result: its output or error.
CREATE FUNCTION goya_private.agent_step(task_id uuid, agent text, part text, item integer, ok boolean, result jsonb) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    s goya.agent_sessions;
    spent bigint;
BEGIN
    IF agent_step.part = '' THEN
        UPDATE goya.agent_sessions a SET status = 'failed', error = agent_step.result WHERE a.task_id = agent_step.task_id AND a.node = agent_step.agent;
        RETURN '[]';
    END IF;
    SELECT sum(r.cost)::bigint INTO spent FROM goya.node_runs r
    WHERE r.task_id = agent_step.task_id AND r.node = agent_step.agent || '.' || agent_step.part AND r.item = agent_step.item;
    UPDATE goya.agent_sessions a SET cost = a.cost + coalesce(spent, 0)
    WHERE a.task_id = agent_step.task_id AND a.node = agent_step.agent AND a.status = 'open' RETURNING * INTO s;
    IF NOT FOUND THEN
        RETURN '[]';
    END IF;
    IF agent_step.part = 'approval' THEN
        RETURN goya_private.agent_answered(s, agent_step.item, agent_step.ok, agent_step.result);
    ELSIF agent_step.part NOT IN ('model', 'verify') THEN
        RETURN goya_private.agent_called(s, agent_step.item, agent_step.ok, agent_step.result);
    ELSIF s.open_item IS DISTINCT FROM agent_step.item THEN
        RETURN '[]';
    ELSIF NOT agent_step.ok THEN
        UPDATE goya.agent_sessions a SET open_item = NULL WHERE a.task_id = s.task_id AND a.node = s.node;
        -- Out of time: what was cut off is no failure of the model.
        RETURN CASE WHEN s.stopped IS NULL THEN goya_private.agent_end(s.task_id, s.node, agent_step.result) ELSE goya_private.agent_next(s.task_id, s.node) END;
    ELSIF agent_step.part = 'verify' THEN
        RETURN goya_private.agent_verified(s, agent_step.item, agent_step.result);
    END IF;
    RETURN goya_private.agent_reply(s.task_id, s.node, agent_step.item, agent_step.result);
EXCEPTION WHEN object_not_in_prerequisite_state THEN
    -- All of the above is undone; what the call cost stays true.
    UPDATE goya.agent_sessions a SET cost = a.cost + coalesce(spent, 0) WHERE a.task_id = agent_step.task_id AND a.node = agent_step.agent;
    RETURN goya_private.agent_speechless(agent_step.task_id, agent_step.agent, agent_step.item, SQLERRM);
END;
$$;

-- Its time is over, or somebody wants it to stop: what waits for a person or hangs is not waited for, what was to be tried again is not.
CREATE FUNCTION goya_private.agent_wake(task_id uuid, agent text) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    s goya.agent_sessions;
    r record;
    deeds jsonb := '[]';
    cause jsonb;
BEGIN
    SELECT * INTO s FROM goya.agent_sessions a WHERE a.task_id = agent_wake.task_id AND a.node = agent_wake.agent AND a.status = 'open';
    IF NOT FOUND OR NOT (s.stop OR coalesce(s.deadline <= clock_timestamp(), false)) THEN
        RETURN '[]';
    END IF;
    s.stopped := coalesce(s.stopped, CASE WHEN s.stop THEN 'stop' ELSE 'time' END);
    UPDATE goya.agent_sessions a SET stopped = s.stopped WHERE a.task_id = s.task_id AND a.node = s.node;
    cause := CASE s.stopped WHEN 'stop' THEN goya_private.agent_error('57014', 'TIMEOUT', 'the agent was stopped')
                            ELSE goya_private.agent_error('57014', 'TIMEOUT', 'the agent''s time was over') END;
    FOR r IN
        SELECT p.node AS place, p.key, n.item, n.attempt, n.status, n.started_at
        FROM goya.tasks t JOIN goya.workflow_revisions v ON v.workflow_id = t.workflow_id AND v.revision = t.revision
        CROSS JOIN LATERAL goya_private.plan_nodes(v.resolved) p JOIN goya_private.plan_nodes(v.resolved) o ON o.node = p.owner AND o.key = s.node
        JOIN goya.node_runs n ON n.task_id = t.id AND n.node = p.key
        WHERE t.id = s.task_id AND p.key <> s.node || '.compensate'
          AND (n.status = 'waiting' OR (n.status = 'running' AND s.stopped <> 'stop') OR (n.status = 'failed' AND n.message LIKE 'will retry %'))
    LOOP
        IF r.status = 'failed' THEN
            DELETE FROM goya_private.timers q WHERE q.task_id = s.task_id AND q.node = r.place AND q.item = r.item AND q.verb = 0;
            CONTINUE WHEN NOT FOUND;
            UPDATE goya.node_runs n SET message = 'not tried again: the session is over'
            WHERE n.task_id = s.task_id AND n.node = r.key AND n.item = r.item AND n.attempt = r.attempt;
            UPDATE goya.tool_calls c SET status = 'failed', class = n.error ->> 'class', result = 'error: ' || (n.error ->> 'message'), finished_at = clock_timestamp()
            FROM goya.node_runs n
            WHERE n.task_id = s.task_id AND n.node = r.key AND n.item = r.item AND n.attempt = r.attempt
              AND c.task_id = s.task_id AND c.node = s.node AND c.item = r.item AND c.status = 'running';
            UPDATE goya.agent_sessions a SET open_item = NULL WHERE a.task_id = s.task_id AND a.node = s.node AND a.open_item = r.item;
            deeds := deeds || goya_private.agent_deed('drop', r.key, r.item);
        ELSE
            UPDATE goya.approvals a SET status = 'expired', decided_at = clock_timestamp()
            WHERE a.task_id = s.task_id AND a.node = r.key AND a.item = r.item AND a.attempt = r.attempt AND a.status = 'pending';
            INSERT INTO goya_private.cancel_requests (task_id, by_goya, reason, requested_by)
            SELECT c.id, true, cause ->> 'message', 'goya' FROM goya.tasks c
            WHERE c.parent_task_id = s.task_id AND c.parent_node = r.place AND c.parent_item = r.item AND NOT goya_private.is_terminal(c.status)
            ON CONFLICT DO NOTHING;
            deeds := deeds || goya_private.agent_deed('expire', r.key, r.item, jsonb_build_object('error', cause), r.attempt, r.status::text, r.started_at);
        END IF;
    END LOOP;
    PERFORM goya_private.wake();
    BEGIN
        RETURN deeds || goya_private.agent_next(s.task_id, s.node);
    EXCEPTION WHEN object_not_in_prerequisite_state THEN
        RETURN deeds || goya_private.agent_speechless(s.task_id, s.node, -1, SQLERRM);
    END;
END;
$$;

-- What a run of a hidden node is given. Raises 42501 for what may not run: this is the last look before a tool is called.
CREATE FUNCTION goya_private.agent_item(task_id uuid, agent text, part text, item integer) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    s goya.agent_sessions;
    c goya.tool_calls;
BEGIN
    SELECT * INTO s FROM goya.agent_sessions a WHERE a.task_id = agent_item.task_id AND a.node = agent_item.agent;
    IF agent_item.part = 'verify' THEN
        RETURN goya_private.open_value(s.tenant_id, s.reply);
    ELSIF agent_item.part = 'model' AND (s.status <> 'open' OR s.stopped IS NOT NULL) THEN
        RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = 'the agent''s session is over';
    ELSIF agent_item.part = 'model' THEN
        RETURN jsonb_build_object(
            'messages', (SELECT jsonb_agg(goya_private.open_value(m.tenant_id, m.message) ORDER BY m.seq) FROM goya.agent_messages m WHERE m.task_id = s.task_id AND m.node = s.node),
            'tools', (SELECT jsonb_agg(jsonb_build_object('type', 'function', 'function', jsonb_strip_nulls(jsonb_build_object('name', t -> 'name', 'description', t -> 'description'))
                                                          || jsonb_build_object('parameters', CASE WHEN coalesce(t -> 'input_schema', '{}') IN ('{}', 'true')
                                                                                                   THEN '{"type": "object"}' ELSE t -> 'input_schema' END))
                                       ORDER BY x.ordinality)
                      FROM jsonb_array_elements(s.settings -> 'tools') WITH ORDINALITY x(t, ordinality)));
    END IF;
    SELECT * INTO c FROM goya.tool_calls x WHERE x.task_id = s.task_id AND x.node = s.node AND x.item = agent_item.item;
    c.arguments := goya_private.open_value(c.tenant_id, c.arguments);
    IF agent_item.part = 'approval' THEN
        RETURN jsonb_build_object('message', format('Agent "%s" wants to call %s with %s', s.node, coalesce(c.operator, c.tool), goya_private.clip(c.arguments::text, 2000))
                || coalesce((SELECT E'\n' || nullif(p.reason, '') FROM goya.tool_policies p WHERE p.tenant_id = s.tenant_id AND p.name = c.policy), ''),
            'tool', coalesce(c.operator, c.tool), 'version', c.version, 'arguments', c.arguments, 'risk', c.risk, 'data_access', c.data_access, 'digest', c.digest);
    END IF;
    IF c.status IS DISTINCT FROM 'running' OR c.tool <> agent_item.part OR c.digest <> goya_private.tool_digest(coalesce(c.operator, c.tool), c.version, c.arguments)
       OR NOT (c.decision = 'allow' OR (c.decision = 'approve' AND coalesce(c.approved_digest = c.digest, false))) THEN
        RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = 'this call of a tool was not allowed',
            DETAIL = format('Call %s of agent "%s" is %s, and its arguments are %s.', agent_item.item, s.node, coalesce(c.status, 'not there'),
                            CASE WHEN c.digest = goya_private.tool_digest(coalesce(c.operator, c.tool), c.version, c.arguments) THEN 'those that were asked for' ELSE 'others' END);
    END IF;
    RETURN c.arguments;
END;
$$;

-- The sessions of a task that has ended otherwise.
CREATE FUNCTION goya_private.cancel_sessions(task_id uuid) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    UPDATE goya.agent_sessions a SET status = 'cancelled', open_item = NULL, finished_at = clock_timestamp()
    WHERE a.task_id = cancel_sessions.task_id AND a.status = 'open';
    IF FOUND THEN
        UPDATE goya.tool_calls c
        SET finished_at = clock_timestamp(),
            status = CASE WHEN EXISTS (SELECT FROM goya.node_runs n WHERE n.task_id = c.task_id AND n.node = c.node || '.' || c.tool AND n.item = c.item AND n.status = 'succeeded')
                          THEN 'succeeded' ELSE 'cancelled' END
        WHERE c.task_id = cancel_sessions.task_id AND c.status IN ('asking', 'running');
    END IF;
END;
$$;

CREATE FUNCTION goya.stop_agent(task_id uuid, node text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    task goya.tasks := goya_private.lock_own_task(stop_agent.task_id);
    s goya.agent_sessions;
    place integer;
BEGIN
    SELECT * INTO s FROM goya.agent_sessions a WHERE a.task_id = task.id AND a.node = stop_agent.node;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'PT404', MESSAGE = 'agent not found',
            DETAIL = format('Task %s has no session of an agent "%s".', task.id, stop_agent.node), HINT = 'goya.agent_sessions lists those that have begun.';
    END IF;
    IF s.status <> 'open' OR s.stop THEN
        RETURN s.status = 'open';
    END IF;
    SELECT p.node INTO place FROM goya.workflow_revisions r, goya_private.plan_nodes(r.resolved) p
    WHERE r.workflow_id = task.workflow_id AND r.revision = task.revision AND p.key = stop_agent.node;
    UPDATE goya.agent_sessions a SET stop = true WHERE a.task_id = task.id AND a.node = stop_agent.node;
    PERFORM goya_private.enqueue(task.id, task.tenant_id, task.priority, place, 0, 1, 1);
    RETURN true;
END;
$$;
COMMENT ON FUNCTION goya.stop_agent(uuid, text) IS
'Ends the session of an agent after the call that runs; true when it was not over yet.
The task goes on with what the agent has so far: its output says stopped "stop". What waits for an approval, or to be tried again, is not waited for.
goya.cancel ends the whole task instead.
Errors: PT404 no such task or no session of that node, 55P03 the task''s row stayed busy for 5 s. Example: SELECT goya.stop_agent(task, ''research'');';
