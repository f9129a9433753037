-- 33_operator_trials.sql: running an operator or asking a model once, to see whether it works; and the workflows of one node that stand for operators.
--
-- Decided: a trial is a task as any other, so that what is tried is what will run: same process, role, limits, policies and records. It belongs to a workflow of goya's own,
-- whose one node has neither price nor artifacts, so that it costs nothing and no trigger sees it. A function cannot commit, and a task begins at commit: so
-- goya.test_operator returns the task's id, and goya.test_result, in the next transaction, waits for it and says how it went.
-- Workflows with stands_for are disabled: nobody runs them by name, publishes or triggers them. What is started of them is started with workflow and revision.
-- Must hold: one workflow for each version of an operator and each use; a revision of it for each way to run it (timeouts differ), found again by what it says.

-- The revision of one of goya's own workflows whose resolved form is this; made when there is none.
CREATE FUNCTION goya_private.stand_in(tenant_id uuid, name text, stands_for text, definition jsonb, resolved jsonb, OUT workflow_id uuid, OUT revision integer)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    w goya.workflows;
BEGIN
    stand_in.resolved := goya_private.bundle_definition(stand_in.tenant_id, stand_in.resolved);
    SELECT r.workflow_id, r.revision INTO stand_in.workflow_id, stand_in.revision
    FROM goya.workflows x JOIN goya.workflow_revisions r ON r.workflow_id = x.id AND r.resolved = stand_in.resolved
    WHERE x.tenant_id = stand_in.tenant_id AND x.name = stand_in.name ORDER BY r.revision DESC LIMIT 1;
    IF FOUND THEN
        RETURN;
    END IF;
    PERFORM goya_private.refuse_errors(format('"%s"', stand_in.name), stand_in.resolved);
    INSERT INTO goya.workflows (tenant_id, name, description, enabled, stands_for, owner_role)
    VALUES (stand_in.tenant_id, stand_in.name, 'goya''s own', false, stand_in.stands_for, goya.current_caller())
    ON CONFLICT (tenant_id, name) DO NOTHING;
    SELECT x.* INTO w FROM goya.workflows x WHERE x.tenant_id = stand_in.tenant_id AND x.name = stand_in.name FOR UPDATE;
    stand_in.workflow_id := w.id;
    stand_in.revision := coalesce(w.revision, 0) + 1;
    INSERT INTO goya.workflow_revisions (workflow_id, revision, tenant_id, definition, resolved, published_by)
    VALUES (w.id, stand_in.revision, stand_in.tenant_id, stand_in.definition, stand_in.resolved, goya.current_caller());
    UPDATE goya.workflows x SET revision = stand_in.revision WHERE x.id = w.id;
END;
$$;

-- A node with the operator version in it: what publishing makes of a node of kind operator.
CREATE FUNCTION goya_private.pin_operator(node jsonb, v goya.operator_versions) RETURNS jsonb
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
    RETURN jsonb_build_object('idempotent', (v).idempotent) || (v).config || node
        || jsonb_build_object('kind', (v).mode, 'version', (v).version, 'input_schema', (v).input_schema, 'output_schema', (v).output_schema);

-- Trials of this minute, of tenants that made some: they cost nothing, so they are counted. A row is locked by whoever starts one until that commits.
CREATE TABLE goya_private.trial_rates (
    tenant_id   uuid PRIMARY KEY,
    minute      timestamptz NOT NULL,
    trials      integer NOT NULL
);

-- One more trial of the tenant. Raises PT429 when this minute has had as many as its setting trials_per_minute says.
CREATE FUNCTION goya_private.count_trial(tenant_id uuid) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    allowed integer := coalesce((SELECT CASE jsonb_typeof(t.settings -> 'trials_per_minute') WHEN 'number' THEN least((t.settings ->> 'trials_per_minute')::numeric, 1e9)::integer END
                                 FROM goya.tenants t WHERE t.id = count_trial.tenant_id), 60);
    made    integer;
    ends    timestamptz;
BEGIN
    INSERT INTO goya_private.trial_rates AS r (tenant_id, minute, trials) VALUES (count_trial.tenant_id, date_trunc('minute', clock_timestamp()), 1)
    ON CONFLICT (tenant_id) DO UPDATE SET trials = CASE WHEN r.minute < excluded.minute THEN 1 ELSE r.trials + 1 END, minute = greatest(r.minute, excluded.minute)
    RETURNING r.trials, r.minute + interval '1 minute' INTO made, ends;
    IF made > allowed THEN
        RAISE EXCEPTION USING ERRCODE = 'PT429', MESSAGE = 'too many trials',
            DETAIL = format('The tenant may make %s a minute, since they are not billed.', allowed),
            HINT = format('Try again after %s, or run a workflow. An administrator sets trials_per_minute in the settings of the tenant.', ends);
    END IF;
END;
$$;

CREATE FUNCTION goya_private.start_trial(tenant_id uuid, name text, node jsonb, input jsonb) RETURNS uuid
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    w record := goya_private.stand_in(start_trial.tenant_id, start_trial.name, 'trial', jsonb_build_object('nodes', jsonb_build_array(start_trial.node)),
                                      jsonb_build_object('nodes', jsonb_build_array(start_trial.node)));
BEGIN
    PERFORM goya_private.count_trial(start_trial.tenant_id);
    RETURN goya_private.start_task(start_trial.tenant_id, goya.current_caller(), goya.current_end_user(), w.workflow_id, coalesce(start_trial.input, '{}'),
        NULL, NULL, 0, NULL, NULL, NULL, coalesce((SELECT c.depth + 1 FROM goya_private.current_task() c WHERE c.task_id IS NOT NULL), 0), NULL, NULL, NULL, NULL, NULL, w.revision);
END;
$$;

-- Raises 22023 unless it is a time that a trial may take.
CREATE FUNCTION goya_private.check_trial_timeout(timeout interval) RETURNS void
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF check_trial_timeout.timeout IS NULL OR check_trial_timeout.timeout <= interval '0' OR check_trial_timeout.timeout > interval '1 hour' THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'timeout must be an interval of more than 0 and at most 1 hour';
    END IF;
END;
$$;

CREATE FUNCTION goya.test_operator(name text, input jsonb DEFAULT '{}', version integer DEFAULT NULL, timeout interval DEFAULT '30 s') RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := goya_private.require_writer();
    op     goya.operators;
    v      goya.operator_versions;
BEGIN
    PERFORM goya_private.check_trial_timeout(test_operator.timeout);
    SELECT o.* INTO op FROM goya.operators o
    WHERE o.tenant_id = tenant AND o.name = test_operator.name AND goya_private.may_see(o.visibility, o.owner_role, '{}');
    IF NOT FOUND THEN
        PERFORM goya_private.not_found('operator', test_operator.name, 'SELECT name FROM goya.operators lists them.');
    END IF;
    v := goya_private.find_operator_version(op, test_operator.version);
    IF v.status = 'archived' THEN
        RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('version %s of operator "%s" is archived', v.version, op.name), HINT = 'Test another version.';
    END IF;
    PERFORM goya_private.check_operator(v.mode, v.config, v.input_schema, v.output_schema);
    RETURN goya_private.start_trial(tenant, format('~trial operator %s@%s', op.name, v.version),
        (goya_private.pin_operator(jsonb_build_object('key', 'operator', 'operator', op.name), v) - '{price,artifact,retry}'::text[])
        || jsonb_build_object('timeout', extract(epoch FROM test_operator.timeout)), test_operator.input);
END;
$$;
COMMENT ON FUNCTION goya.test_operator(text, jsonb, integer, interval) IS
'Runs a version of an operator once, as a task that costs nothing and triggers nothing, and returns the task''s id; goya.test_result says how it went.
Without a version the newest, whatever its status but archived. No retries. The task begins when the transaction commits. What the operator does outside, it does.
A tenant may make 60 trials a minute, those of models included, or as many as trials_per_minute in its settings says.
Errors: PT404 unknown operator or version, PT429 too many trials, 22023 bad configuration, schema or timeout, 55000 it is archived, 42501 no tenant or reader.
Example: SELECT goya.test_operator(''media.probe'', ''{"uri": "file:///a.mp4"}'') AS task \gset
         SELECT * FROM goya.test_result(:''task'');';

CREATE FUNCTION goya.test_model(name text, timeout interval DEFAULT '30 s') RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := goya_private.require_writer();
    m      goya.models;
    node   jsonb;
BEGIN
    PERFORM goya_private.check_trial_timeout(test_model.timeout);
    SELECT x.* INTO m FROM goya.models x
    WHERE x.tenant_id = tenant AND x.name = test_model.name AND goya_private.may_see(x.visibility, x.owner_role, '{}');
    IF NOT FOUND THEN
        PERFORM goya_private.not_found('model', test_model.name, 'SELECT name FROM goya.models lists them.');
    END IF;
    node := CASE WHEN 'chat' = ANY (m.capabilities) OR NOT 'embedding' = ANY (m.capabilities)
                 THEN '{"messages": [{"role": "user", "content": "Say OK."}], "parameters": {"max_tokens": 8}}'::jsonb
                 ELSE '{"operation": "embedding", "content": "OK"}'::jsonb END;
    RETURN goya_private.start_trial(tenant, format('~trial model %s', m.name),
        node || jsonb_build_object('key', 'model', 'kind', 'ai_model', 'model', m.name, 'fallback', '[]'::jsonb, 'timeout', extract(epoch FROM test_model.timeout)), '{}');
END;
$$;
COMMENT ON FUNCTION goya.test_model(text, interval) IS
'Asks a model for a few tokens (an embedding model for one vector), as a task that is not billed, and returns the task''s id; goya.test_result says how it went.
A connection test: endpoint, key, name and answer are right when it succeeds. Fallbacks are not asked.
Errors: PT404 unknown model, PT429 too many trials (see goya.test_operator), 22023 bad timeout, 42501 no tenant or reader.';

CREATE FUNCTION goya.test_result(task_id uuid, timeout interval DEFAULT '30 s',
    OUT status goya.task_status, OUT output jsonb, OUT error jsonb, OUT seconds double precision, OUT problems jsonb)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    task    goya.tasks := goya.wait_for_task(test_result.task_id, test_result.timeout);
    tried   record;
    node    jsonb;
BEGIN
    SELECT w.stands_for, r.resolved INTO tried FROM goya.workflows w
    JOIN goya.workflow_revisions r ON r.workflow_id = w.id AND r.revision = task.revision WHERE w.id = task.workflow_id;
    IF tried.stands_for IS DISTINCT FROM 'trial' THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('task %s is no test', task.id), HINT = 'goya.test_operator and goya.test_model start tests.';
    END IF;
    node := tried.resolved #> '{nodes,0}';
    status := task.status;
    output := task.output;
    error := task.error;
    seconds := round(extract(epoch FROM coalesce(task.finished_at, clock_timestamp()) - coalesce(task.started_at, task.created_at))::numeric, 3);
    SELECT coalesce(jsonb_agg(p.problem), '[]') INTO problems FROM (
        SELECT jsonb_strip_nulls(jsonb_build_object('of', 'input', 'path', c.path, 'message', c.message, 'hint', c.hint)) AS problem
        FROM goya.check_schema(coalesce(node -> 'input_schema', '{}'), task.input, 20) c
        UNION ALL
        SELECT jsonb_build_object('of', 'output', 'path', split_part(line, ': ', 1), 'message', substr(line, length(split_part(line, ': ', 1)) + 3))
        FROM regexp_split_to_table(task.error ->> 'detail', E'\n') line
        WHERE task.error ->> 'class' = 'TOOL_BUG' AND task.error ->> 'message' LIKE 'the output does not fit %') p;
END;
$$;
COMMENT ON FUNCTION goya.test_result(uuid, interval) IS
'Waits for a task of goya.test_operator or goya.test_model, and says how it went: status, output, error, seconds, and problems with the schemas.
problems: [{"of": "input" or "output", "path", "message", "hint"}]. When the timeout is over, status is that of the task as it is then.
Errors: PT404 no such task, 22023 it is no test, 55000 it was started by this very transaction.';

-- The workflow that runs an operator version as an implementation of an algorithm: it has the operator's price and artifacts.
CREATE FUNCTION goya_private.implementation_workflow(op goya.operators, v goya.operator_versions, OUT workflow_id uuid, OUT revision integer)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    node jsonb := jsonb_build_object('key', 'operator', 'kind', 'operator', 'operator', op.name, 'version', v.version);
    w    record := goya_private.stand_in(op.tenant_id, format('~operator %s@%s', op.name, v.version), 'implementation',
        jsonb_build_object('nodes', jsonb_build_array(node)),
        jsonb_build_object('nodes', jsonb_build_array(goya_private.complete_model_node(op.tenant_id, goya_private.pin_operator(node, v)))));
BEGIN
    workflow_id := w.workflow_id;
    revision := w.revision;
END;
$$;
