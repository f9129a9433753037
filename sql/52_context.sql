-- 52_context.sql: the context of a task: declared variables and shared keys, written by nodes and, from outside, by people.
--
-- Decided:
-- - state is {"vars": {…}, "shared": {…}}; each change is a patch with the next version, and every 20th version is kept whole.
-- - A patch's diff holds operations, not results, so that a thousand appends cost a thousand elements and not half a million:
--   {"set": {"vars": {…}, "shared": {…}}, "merge": {"shared": {…}}, "append": {"shared": {"k": […]}}, "unset": ["shared.k", …]}.
-- - A declared var takes the task's input of the same name, else its default; a required one must come from either.
-- - conflict reject: a key that has a value other than its default keeps it (writing the same value is no conflict); overwrite: the last
--   writer wins; merge: objects, key by key, deeply; append: arrays, an array written adds its elements, anything else adds itself.
-- - A shared key with cas takes {"expect": what the writer saw (null: nothing), "value": new}, and refuses when that is no longer so.
-- Must hold: only declared keys exist; a readonly var never changes; state = snapshot + later patches, for every version.

CREATE FUNCTION goya_private.fits_type(value jsonb, type text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN type IS NULL OR type = 'any' OR value IS NULL OR jsonb_typeof(value) = type
        OR (type = 'integer' AND jsonb_typeof(value) = 'number' AND coalesce((value #>> '{}')::numeric % 1 = 0, false));

CREATE FUNCTION goya_private.refuse_context(code text, key text, problem text, advice text DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = code, MESSAGE = format('context key %s %s', key, problem),
        DETAIL = 'The context of a workflow is declared in its definition under "context".',
        HINT = coalesce(advice, 'Declare the key there, or write another one.');
END;
$$;

-- Objects key by key, deeply; anything else: the new value.
CREATE FUNCTION goya_private.merge_deep(old jsonb, new jsonb) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    merged jsonb := old;
    member record;
BEGIN
    IF jsonb_typeof(old) IS DISTINCT FROM 'object' OR jsonb_typeof(new) IS DISTINCT FROM 'object' THEN
        RETURN new;
    END IF;
    FOR member IN SELECT * FROM jsonb_each(new) LOOP
        merged := merged || jsonb_build_object(member.key, CASE WHEN old ? member.key
            THEN goya_private.merge_deep(old -> member.key, member.value) ELSE member.value END);
    END LOOP;
    RETURN merged;
END;
$$;

-- One patch applied to a state.
CREATE FUNCTION goya_private.fold_context(state jsonb, diff jsonb) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    folded jsonb := '{"vars": {}, "shared": {}}'::jsonb || state;
    part record;
    path text;
BEGIN
    FOR part IN SELECT p.key AS root, p.value FROM jsonb_each(coalesce(diff -> 'set', '{}')) p LOOP
        folded := jsonb_set(folded, ARRAY[part.root], (folded -> part.root) || part.value);
    END LOOP;
    FOR part IN SELECT p.key, p.value FROM jsonb_each(coalesce(diff #> '{merge,shared}', '{}')) p LOOP
        folded := jsonb_set(folded, ARRAY['shared', part.key],
                            goya_private.merge_deep(coalesce(folded -> 'shared' -> part.key, '{}'), part.value));
    END LOOP;
    FOR part IN SELECT p.key, p.value FROM jsonb_each(coalesce(diff #> '{append,shared}', '{}')) p LOOP
        folded := jsonb_set(folded, ARRAY['shared', part.key], coalesce(folded -> 'shared' -> part.key, '[]') || part.value);
    END LOOP;
    FOR path IN SELECT jsonb_array_elements_text(coalesce(diff -> 'unset', '[]')) LOOP
        folded := folded #- ARRAY[split_part(path, '.', 1), substr(path, strpos(path, '.') + 1)];
    END LOOP;
    RETURN folded;
END;
$$;

-- Makes the next version of a task's context, whose row the caller has locked.
CREATE FUNCTION goya_private.write_context(old goya.task_contexts, node text, item integer, diff jsonb) RETURNS integer
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    folded jsonb := goya_private.fold_context(old.state, diff);
    next_version integer := old.version + 1;
BEGIN
    UPDATE goya.task_contexts c SET version = next_version, state = folded WHERE c.task_id = old.task_id;
    INSERT INTO goya.context_patches (task_id, version, tenant_id, node, item, diff)
    VALUES (old.task_id, next_version, old.tenant_id, write_context.node, write_context.item, write_context.diff);
    IF next_version % 20 = 0 THEN
        INSERT INTO goya.context_snapshots (task_id, version, tenant_id, state) VALUES (old.task_id, next_version, old.tenant_id, folded);
    END IF;
    RETURN next_version;
END;
$$;

-- Called by start_task; spec is the definition's "context". Returns the first state. Raises 22023.
CREATE FUNCTION goya_private.init_context(task_id uuid, tenant_id uuid, spec jsonb, input jsonb) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    declared record;
    given jsonb;
    state jsonb := '{"vars": {}, "shared": {}}';
BEGIN
    FOR declared IN
        SELECT 'vars' AS root, v.key, v.value FROM jsonb_each(coalesce(spec -> 'vars', '{}')) v
        UNION ALL
        SELECT 'shared', s.key, s.value FROM jsonb_each(coalesce(spec -> 'shared', '{}')) s
    LOOP
        given := declared.value -> 'default';
        IF declared.root = 'vars' AND jsonb_typeof(input) = 'object' AND input ? declared.key THEN
            given := input -> declared.key;
        END IF;
        IF given IS NULL THEN
            IF declared.root = 'vars' AND declared.value -> 'required' = 'true' THEN
                PERFORM goya_private.refuse_context('22023', 'vars.' || declared.key, 'is required and has no value',
                    format('Give the input a field "%s".', declared.key));
            END IF;
            CONTINUE;
        END IF;
        IF NOT goya_private.fits_type(given, declared.value ->> 'type') THEN
            PERFORM goya_private.refuse_context('22023', declared.root || '.' || declared.key,
                format('must be of type %s, not %s', declared.value ->> 'type', jsonb_typeof(given)), 'Give a value of that type.');
        END IF;
        state := jsonb_set(state, ARRAY[declared.root, declared.key], given);
    END LOOP;
    INSERT INTO goya.task_contexts (task_id, tenant_id, version, state) VALUES (init_context.task_id, init_context.tenant_id, 0, state);
    INSERT INTO goya.context_snapshots (task_id, version, tenant_id, state) VALUES (init_context.task_id, 0, init_context.tenant_id, state);
    RETURN state;
END;
$$;

-- What a node wants to write, as a diff; raises for what it may not. key by key, since policies are by key.
CREATE FUNCTION goya_private.plan_writes(state jsonb, writes jsonb, spec jsonb) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    diff jsonb := '{"set": {}}';
    wanted record;
    declared jsonb;
    current jsonb;
    value jsonb;
    policy text;
    name text;
BEGIN
    FOR wanted IN
        SELECT r.root, w.key, w.value
        FROM (VALUES ('vars'), ('shared')) r(root), LATERAL jsonb_each(coalesce(nullif(writes -> r.root, 'null'), '{}')) w
    LOOP
        name := wanted.root || '.' || wanted.key;
        declared := spec -> wanted.root -> wanted.key;
        current := state -> wanted.root -> wanted.key;
        value := wanted.value;
        policy := CASE wanted.root WHEN 'shared' THEN coalesce(declared ->> 'conflict', 'overwrite') ELSE 'overwrite' END;
        IF declared IS NULL THEN
            PERFORM goya_private.refuse_context('22023', name, 'is not declared');
        ELSIF wanted.root = 'vars' AND declared -> 'readonly' = 'true' THEN
            PERFORM goya_private.refuse_context('22023', name, 'is readonly', 'Nodes may write shared keys and vars that are not readonly.');
        END IF;
        IF wanted.root = 'shared' AND declared -> 'cas' = 'true' THEN
            IF jsonb_typeof(value) IS DISTINCT FROM 'object' OR NOT value ?& ARRAY['expect', 'value'] THEN
                PERFORM goya_private.refuse_context('22023', name, 'is written by compare and set',
                    'Write {"expect": the value that was read, "value": the new value}.');
            ELSIF coalesce(current, 'null') <> value -> 'expect' THEN
                PERFORM goya_private.refuse_context('PT409', name, 'was changed by somebody else', 'Read the key again and repeat the node.');
            END IF;
            value := value -> 'value';
        END IF;
        IF NOT goya_private.fits_type(CASE WHEN policy = 'append' THEN NULL ELSE value END, declared ->> 'type') THEN
            PERFORM goya_private.refuse_context('22023', name,
                format('must be of type %s, not %s', declared ->> 'type', jsonb_typeof(value)), 'Write a value of that type.');
        END IF;
        CASE policy
            WHEN 'merge' THEN
                IF jsonb_typeof(value) <> 'object' OR jsonb_typeof(coalesce(current, '{}')) <> 'object' THEN
                    PERFORM goya_private.refuse_context('22023', name, 'merges objects only', 'Write an object, or declare conflict overwrite.');
                END IF;
                diff := goya_private.merge_deep(diff, jsonb_build_object('merge', jsonb_build_object('shared', jsonb_build_object(wanted.key, value))));
            WHEN 'append' THEN
                IF jsonb_typeof(coalesce(current, '[]')) <> 'array' THEN
                    PERFORM goya_private.refuse_context('22023', name, 'appends to arrays only', 'Give the key an array as its default.');
                END IF;
                diff := goya_private.merge_deep(diff, jsonb_build_object('append', jsonb_build_object('shared', jsonb_build_object(wanted.key,
                    CASE jsonb_typeof(value) WHEN 'array' THEN value ELSE jsonb_build_array(value) END))));
            ELSE
                IF policy = 'reject' AND current IS NOT NULL AND current IS DISTINCT FROM declared -> 'default' AND current <> value THEN
                    PERFORM goya_private.refuse_context('PT409', name, 'has a value already',
                        'Its conflict policy is reject: the first writer wins.');
                END IF;
                diff := jsonb_set(diff, ARRAY['set', wanted.root], coalesce(diff #> ARRAY['set', wanted.root], '{}')
                                  || jsonb_build_object(wanted.key, value));
        END CASE;
    END LOOP;
    RETURN diff;
END;
$$;

-- Called by executors and the engine in the transaction of the node's result. Raises 22023, PT409: the node's error.
CREATE FUNCTION goya_private.apply_context(task_id uuid, node text, item integer, writes jsonb, spec jsonb) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    context goya.task_contexts;
    diff jsonb;
BEGIN
    IF jsonb_typeof(writes) IS DISTINCT FROM 'object' OR jsonb_typeof(coalesce(nullif(writes -> 'vars', 'null'), '{}')) <> 'object'
       OR jsonb_typeof(coalesce(nullif(writes -> 'shared', 'null'), '{}')) <> 'object' THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'writes must be an object of vars and shared',
            DETAIL = format('Node "%s" wrote %s.', node, left(coalesce(writes::text, 'null'), 200));
    END IF;
    SELECT * INTO context FROM goya.task_contexts c WHERE c.task_id = apply_context.task_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'the task has no context',
            DETAIL = format('Node "%s" writes to the context, and the workflow declares none.', node);
    END IF;
    diff := goya_private.plan_writes(context.state, writes, coalesce(spec, '{}'));
    IF diff <> '{"set": {}}' THEN
        PERFORM goya_private.write_context(context, node, item, diff);
    END IF;
END;
$$;

-- For a retry: the new task's context is what outside and the nodes that do not run again had written.
CREATE FUNCTION goya_private.copy_context(old_task_id uuid, new_task_id uuid, rerun text[]) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    context goya.task_contexts;
    patch goya.context_patches;
BEGIN
    FOR patch IN
        SELECT p.* FROM goya.context_patches p
        WHERE p.task_id = old_task_id
          AND (p.node IS NULL OR EXISTS (SELECT FROM goya.node_runs r WHERE r.task_id = new_task_id AND r.node = p.node
                                                                        AND r.item = coalesce(p.item, 0)))
        ORDER BY p.version
    LOOP
        SELECT * INTO context FROM goya.task_contexts c WHERE c.task_id = new_task_id FOR NO KEY UPDATE;
        EXIT WHEN NOT FOUND;
        PERFORM goya_private.write_context(context, patch.node, patch.item, patch.diff);
    END LOOP;
END;
$$;

CREATE FUNCTION goya.task_context(task_id uuid) RETURNS jsonb
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    task goya.tasks := goya_private.own_task(task_context.task_id);
BEGIN
    RETURN (SELECT jsonb_build_object('version', c.version) || c.state FROM goya.task_contexts c WHERE c.task_id = task.id);
END;
$$;
COMMENT ON FUNCTION goya.task_context(uuid) IS
'Returns the context of a task as it is now: {"version": 7, "vars": {…}, "shared": {…}}; null when its workflow declares none.
Errors: PT404 no such task.';

CREATE FUNCTION goya.context_at(task_id uuid, version integer) RETURNS jsonb
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    task goya.tasks := goya_private.own_task(context_at.task_id);
    newest integer;
    start record;
    state jsonb;
    diff jsonb;
BEGIN
    SELECT c.version INTO newest FROM goya.task_contexts c WHERE c.task_id = task.id;
    IF NOT FOUND OR context_at.version IS NULL OR context_at.version NOT BETWEEN 0 AND newest THEN
        RAISE EXCEPTION USING ERRCODE = 'PT404', MESSAGE = 'context version not found',
            DETAIL = CASE WHEN newest IS NULL THEN format('Task %s has no context.', task.id)
                          ELSE format('Task %s has the versions 0 to %s.', task.id, newest) END;
    END IF;
    SELECT s.version, s.state INTO start FROM goya.context_snapshots s
    WHERE s.task_id = task.id AND s.version <= context_at.version ORDER BY s.version DESC LIMIT 1;
    state := start.state;
    FOR diff IN
        SELECT p.diff FROM goya.context_patches p
        WHERE p.task_id = task.id AND p.version > start.version AND p.version <= context_at.version ORDER BY p.version
    LOOP
        state := goya_private.fold_context(state, diff);
    END LOOP;
    RETURN jsonb_build_object('version', context_at.version) || state;
END;
$$;
COMMENT ON FUNCTION goya.context_at(uuid, integer) IS
'Returns the context of a task as of a version (0: as it started), rebuilt from the nearest snapshot and the patches after it.
Shape as goya.task_context. Errors: PT404 no such task or version. Example: SELECT goya.context_at(id, 12);';

CREATE FUNCTION goya.patch_context(task_id uuid, set jsonb DEFAULT '{}', unset text[] DEFAULT '{}', expected_version integer DEFAULT NULL)
    RETURNS integer
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
#variable_conflict use_column
DECLARE
    task goya.tasks := goya_private.lock_own_task(patch_context.task_id);
    context goya.task_contexts;
    spec jsonb;
    given jsonb := coalesce(patch_context.set, '{}');
    taken text[] := coalesce(patch_context.unset, '{}');
    wanted record;
    declared jsonb;
    new_version integer;
BEGIN
    PERFORM goya_private.refuse_terminal(task, 'change the context of');
    SELECT * INTO context FROM goya.task_contexts c WHERE c.task_id = task.id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'the task has no context', DETAIL = 'Its workflow declares none.';
    END IF;
    IF patch_context.expected_version <> context.version THEN
        RAISE EXCEPTION USING ERRCODE = 'PT409', MESSAGE = 'the context was changed by somebody else',
            DETAIL = format('Its version is %s, not %s.', context.version, patch_context.expected_version),
            HINT = 'Read it with goya.task_context and pass its version.';
    END IF;
    IF jsonb_typeof(given) <> 'object' OR EXISTS (
        SELECT FROM jsonb_each(given) s WHERE s.key NOT IN ('vars', 'shared') OR jsonb_typeof(s.value) <> 'object') THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'set must be an object of vars and shared',
            HINT = 'For example {"vars": {"tone": "calm"}, "shared": {"scores": [1, 2]}}.';
    END IF;
    SELECT r.definition -> 'context' INTO spec FROM goya.workflow_revisions r
    WHERE r.workflow_id = task.workflow_id AND r.revision = task.revision;
    FOR wanted IN
        SELECT s.key AS root, v.key, v.value FROM jsonb_each(given) s, LATERAL jsonb_each(s.value) v
        UNION ALL
        SELECT split_part(u, '.', 1), substr(u, strpos(u, '.') + 1), NULL FROM unnest(taken) u
    LOOP
        declared := CASE WHEN wanted.root IN ('vars', 'shared') THEN spec -> wanted.root -> wanted.key END;
        IF declared IS NULL THEN
            PERFORM goya_private.refuse_context('22023', wanted.root || '.' || wanted.key, 'is not declared');
        ELSIF wanted.root = 'vars' AND declared -> 'readonly' = 'true' THEN
            PERFORM goya_private.refuse_context('22023', 'vars.' || wanted.key, 'is readonly', 'It keeps its first value.');
        ELSIF wanted.value IS NULL AND declared -> 'required' = 'true' THEN
            PERFORM goya_private.refuse_context('22023', 'vars.' || wanted.key, 'is required', 'Set it to another value instead.');
        ELSIF NOT goya_private.fits_type(wanted.value, declared ->> 'type') THEN
            PERFORM goya_private.refuse_context('22023', wanted.root || '.' || wanted.key,
                format('must be of type %s, not %s', declared ->> 'type', jsonb_typeof(wanted.value)), 'Give a value of that type.');
        END IF;
    END LOOP;
    new_version := goya_private.write_context(context, NULL, NULL, jsonb_build_object('set', given)
        || CASE WHEN cardinality(taken) > 0 THEN jsonb_build_object('unset', taken) ELSE '{}' END);
    PERFORM goya_private.log_event(task.id, 'context_patched', jsonb_build_object('version', new_version, 'by', goya_private.actor()));
    RETURN new_version;
END;
$$;
COMMENT ON FUNCTION goya.patch_context(uuid, jsonb, text[], integer) IS
'Changes the context of a task that has not ended, from outside; returns the new version.
set: {"vars": {…}, "shared": {…}}, values replaced whatever the keys'' conflict policy; unset: {"shared.k", "vars.k"}. expected_version: refuse
when the context has another version. Nodes that start later see the change.
Errors: PT404 no such task, 22023 undeclared or readonly key or wrong type, PT409 another version, 55000 ended, 55P03 busy for 5 s.
Example: SELECT goya.patch_context(id, ''{"vars": {"tone": "calm"}}'');';
