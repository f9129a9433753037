-- 34_workflows.sql: drafts, published revisions, enabling and disabling.
--
-- Decided: a draft saves freely, wrong or half done; only publishing checks it, and makes an immutable revision with its operators
-- replaced by the versions active at that moment ("resolved"), which is all the engine reads. Rolling back points to an older
-- revision and copies nothing. Disabling takes the triggers of a workflow off the schedule in the same transaction.
-- Must hold: a revision never changes; a definition with any error is refused whole, with its errors listed; another tenant's workflow, and
-- one the caller may not see, is "not found" like one that does not exist.

CREATE TRIGGER workflows_bump BEFORE UPDATE ON goya.workflows FOR EACH ROW EXECUTE FUNCTION goya_private.bump_row_version();

-- The workflow of that name in the caller's tenant; locked against other changes on request.
CREATE FUNCTION goya_private.find_workflow(name text, lock boolean DEFAULT false) RETURNS goya.workflows
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := goya_private.require_tenant();
    w      goya.workflows;
BEGIN
    IF find_workflow.lock THEN
        PERFORM FROM goya.workflows x WHERE x.tenant_id = tenant AND x.name = find_workflow.name FOR UPDATE;
    END IF;
    SELECT x.* INTO w FROM goya.workflows x
    WHERE x.tenant_id = tenant AND x.name = find_workflow.name AND x.stands_for IS NULL
      AND goya_private.may_see(x.visibility, x.owner_role, x.visible_roles);
    IF NOT FOUND THEN
        PERFORM goya_private.not_found('workflow', find_workflow.name, 'SELECT name FROM goya.workflows lists them.');
    END IF;
    RETURN w;
END;
$$;

-- What may not even be saved: something that is no object, or too big.
CREATE FUNCTION goya_private.check_draft(definition jsonb) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF check_draft.definition IS NULL OR jsonb_typeof(check_draft.definition) <> 'object' THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad definition',
            DETAIL = format('It is %s, not an object.', coalesce('a JSON ' || jsonb_typeof(check_draft.definition), 'null')),
            HINT = 'The smallest one is {"nodes": [{"key": "start", "kind": "noop"}]}.';
    END IF;
    IF octet_length(check_draft.definition::text) > 1048576 THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad definition',
            DETAIL = format('too_large: it has %s bytes, at most 1048576 are allowed.', octet_length(check_draft.definition::text)),
            HINT = 'Move parts into workflows of their own (kind workflow), and data into tables.';
    END IF;
END;
$$;

-- A node of kind ai_model with what its model says when the workflow is published: the price, unless it has one, and the profile it asks for.
CREATE FUNCTION goya_private.complete_model_node(tenant_id uuid, node jsonb) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    m       goya.models;
    other   text;
    profile jsonb;
    done    jsonb := complete_model_node.node;
BEGIN
    IF done ->> 'kind' IS DISTINCT FROM 'ai_model' THEN
        RETURN done;
    END IF;
    -- One of another provider is not taken, as when it is called (goya_private.model_targets); what a template will ask for is not known.
    SELECT x.* INTO m FROM goya.models x
    WHERE x.name = done ->> 'model' AND (x.tenant_id = complete_model_node.tenant_id OR x.visibility = 'public')
      AND (done ->> 'provider' IS NULL OR done ->> 'provider' LIKE '%{{%' OR x.provider = done ->> 'provider')
    ORDER BY x.tenant_id = complete_model_node.tenant_id DESC, x.id LIMIT 1;
    IF NOT FOUND THEN
        SELECT string_agg(DISTINCT format('"%s"', x.provider), ', ') INTO other FROM goya.models x
        WHERE x.name = done ->> 'model' AND (x.tenant_id = complete_model_node.tenant_id OR x.visibility = 'public');
        IF other IS NOT NULL THEN
            RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('no model "%s" of provider "%s"', done ->> 'model', done ->> 'provider'),
                DETAIL = format('Node "%s" asks for it; the model of that name is of provider %s.', done ->> 'key', other),
                HINT = 'SELECT name, provider FROM goya.models lists them.';
        END IF;
        RETURN done;                               -- a template, or a model that is still to come
    END IF;
    IF m.price IS NOT NULL AND NOT done ? 'price' THEN
        done := done || jsonb_build_object('price', m.price);
    END IF;
    IF jsonb_typeof(done -> 'parameters') = 'object' AND done -> 'parameters' ? 'profile' THEN
        SELECT p.parameters INTO profile FROM goya.model_profiles p
        WHERE p.tenant_id = m.tenant_id AND p.model = m.name AND p.name = done #>> '{parameters,profile}';
        IF NOT FOUND THEN
            PERFORM goya_private.not_found('profile', m.name || ':' || (done #>> '{parameters,profile}'), 'SELECT model, name FROM goya.model_profiles lists them.');
        END IF;
        done := jsonb_set(done, '{parameters}', profile || ((done -> 'parameters') - 'profile'));
    END IF;
    RETURN done;
END;
$$;

-- A node as the engine takes it: operators replaced by the version they name, or the active one; algorithms by their candidates; kinds of the tenant's own by a call of their
-- function; bodies of maps and compensations too.
CREATE FUNCTION goya_private.resolve_node(tenant_id uuid, node jsonb) RETURNS jsonb
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    pinned goya.operator_versions;
    custom goya.node_kinds;
    done   jsonb := resolve_node.node;
    part   text;
BEGIN
    IF jsonb_typeof(done) <> 'object' THEN
        RETURN done;
    END IF;
    IF done ->> 'kind' = 'operator' THEN
        SELECT v.* INTO pinned
        FROM goya.operators o JOIN goya.operator_versions v ON v.operator_id = o.id
        WHERE o.tenant_id = resolve_node.tenant_id AND o.name = done ->> 'operator'
          AND v.version = coalesce((done ->> 'version')::integer, o.active_version)
          AND goya_private.may_see(o.visibility, o.owner_role, '{}');
        IF NOT FOUND THEN
            PERFORM goya_private.not_found('operator', (done ->> 'operator') || coalesce('@' || (done ->> 'version'), ''),
                                           'SELECT name, active_version FROM goya.operators lists them.');
        END IF;
        done := goya_private.pin_operator(done, pinned);
    ELSIF done ->> 'kind' = 'algorithm' THEN
        done := goya_private.resolve_algorithm(resolve_node.tenant_id, done);
    ELSE
        SELECT k.* INTO custom FROM goya.node_kinds k WHERE k.tenant_id = resolve_node.tenant_id AND k.name = done ->> 'kind';
        IF FOUND THEN
            -- Its schema is checked with the real values when it runs; not one that refers to places in itself, which are elsewhere then.
            done := (SELECT coalesce(jsonb_object_agg(f.key, f.value) FILTER (WHERE f.key = ANY (goya_private.common_fields())), '{}')
                        || jsonb_build_object('kind', 'sql', 'function', custom.function,
                               'config', coalesce(jsonb_object_agg(f.key, f.value) FILTER (WHERE f.key <> ALL (goya_private.common_fields())), '{}'))
                     FROM jsonb_each(done) f)
                || CASE WHEN custom.schema = '{}' OR custom.schema::text LIKE '%"$ref"%' THEN '{}'
                        ELSE jsonb_build_object('input_schema', jsonb_build_object('properties', jsonb_build_object('config', custom.schema))) END;
        END IF;
    END IF;
    done := goya_private.complete_model_node(resolve_node.tenant_id, done);
    IF done ->> 'kind' = 'agent' THEN
        done := goya_private.resolve_agent(resolve_node.tenant_id, done);
    END IF;
    FOREACH part IN ARRAY ARRAY['node', 'compensate'] LOOP
        IF done ? part THEN
            done := done || jsonb_build_object(part, goya_private.resolve_node(resolve_node.tenant_id, done -> part));
        END IF;
    END LOOP;
    RETURN done;
END;
$$;

-- Most definitions have nothing to resolve, and are what they were.
CREATE FUNCTION goya_private.resolve_definition(tenant_id uuid, definition jsonb) RETURNS jsonb
    LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE WHEN EXISTS (SELECT FROM jsonb_path_query(resolve_definition.definition, '$.nodes[*].**.kind') k
                             WHERE k #>> '{}' <> ALL ('{noop,transform,condition,switch,map,sleep,wait,approval,workflow,sql,http,mcp,cli,worker}'))
        THEN resolve_definition.definition || jsonb_build_object('nodes',
            (SELECT jsonb_agg(goya_private.resolve_node(resolve_definition.tenant_id, n.node) ORDER BY n.ordinal)
             FROM jsonb_array_elements(resolve_definition.definition -> 'nodes') WITH ORDINALITY AS n (node, ordinal)))
        ELSE resolve_definition.definition END
$$;

-- Makes the draft the next revision. The caller has locked the row.
CREATE FUNCTION goya_private.publish_draft(w goya.workflows, note text) RETURNS integer
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    done   jsonb;
    number integer;
BEGIN
    IF w.draft IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('workflow "%s" has no draft', w.name),
            HINT = 'goya.save_draft saves one.';
    END IF;
    PERFORM goya_private.refuse_errors(format('workflow "%s"', w.name), w.draft);
    done := goya_private.bundle_definition(w.tenant_id, goya_private.resolve_definition(w.tenant_id, w.draft));
    -- A node and its operator are each right but may not be so together.
    IF done <> w.draft THEN
        PERFORM goya_private.refuse_errors(format('workflow "%s" with its operators', w.name), done);
    END IF;
    SELECT coalesce(max(r.revision), 0) + 1 INTO number FROM goya.workflow_revisions r WHERE r.workflow_id = w.id;
    INSERT INTO goya.workflow_revisions (workflow_id, revision, tenant_id, definition, resolved, note, published_by)
    VALUES (w.id, number, w.tenant_id, w.draft, done, coalesce(publish_draft.note, ''), goya.current_caller());
    UPDATE goya.workflows x SET revision = number WHERE x.id = w.id;
    PERFORM goya_private.publish_event(w.tenant_id, 'workflow_published', w.id,
                                       jsonb_build_object('workflow', w.name, 'revision', number), NULL, 0);
    RETURN number;
END;
$$;

CREATE FUNCTION goya.create_workflow(name text, definition jsonb, description text DEFAULT '', tags text[] DEFAULT '{}',
    publish boolean DEFAULT false, visibility goya.visibility DEFAULT 'tenant', visible_roles name[] DEFAULT '{}') RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := goya_private.require_writer();
    w      goya.workflows;
BEGIN
    IF create_workflow.name IS NULL OR create_workflow.name !~ '^[A-Za-z0-9][A-Za-z0-9_. -]{0,126}$' THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad workflow name',
            DETAIL = format('"%s" is not a name of up to 127 letters, digits, spaces, "_", "." and "-".', create_workflow.name),
            HINT = 'Names begin with a letter or digit, as in take-apart.';
    END IF;
    IF create_workflow.visibility = 'public' AND NOT goya.is_admin() THEN
        RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = 'only a platform administrator may make a workflow public',
            DETAIL = 'Public workflows are seen by every tenant.', HINT = 'Use visibility tenant, or role with visible_roles.';
    END IF;
    PERFORM goya_private.check_draft(create_workflow.definition);
    INSERT INTO goya.workflows (tenant_id, name, description, tags, draft, visibility, visible_roles, owner_role)
    VALUES (tenant, create_workflow.name, coalesce(create_workflow.description, ''), coalesce(create_workflow.tags, '{}'),
            create_workflow.definition, coalesce(create_workflow.visibility, 'tenant'), coalesce(create_workflow.visible_roles, '{}'),
            goya.current_caller())
    ON CONFLICT (tenant_id, name) DO NOTHING
    RETURNING * INTO w;
    IF w.id IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = '23505', MESSAGE = format('workflow "%s" already exists', create_workflow.name),
            HINT = 'goya.save_draft changes it.';
    END IF;
    IF create_workflow.publish THEN
        PERFORM goya_private.publish_draft(w, '');
    END IF;
    RETURN w.id;
END;
$$;
COMMENT ON FUNCTION goya.create_workflow(text, jsonb, text, text[], boolean, goya.visibility, name[]) IS
'Makes a workflow with a draft, publishes it on request, and returns its id.
A draft may be wrong or half done; publishing checks it. visibility: private (its owner), role (visible_roles), tenant; public for administrators.
Errors: 22023 bad name, a definition that is no object or over 1 MB, with publish any error of it; 23505 the name is taken; 42501 no tenant or reader.
Example: SELECT goya.create_workflow(''hello'', ''{"nodes": [{"key": "say", "kind": "transform", "output": {"text": "hello {{ input.name }}"}}]}'', publish => true);';

CREATE FUNCTION goya.save_draft(workflow text, definition jsonb, row_version integer DEFAULT NULL) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    w     goya.workflows;
    saved integer;
BEGIN
    PERFORM goya_private.require_writer();
    w := goya_private.find_workflow(save_draft.workflow, true);
    PERFORM goya_private.check_draft(save_draft.definition);
    IF save_draft.row_version <> w.row_version THEN
        RAISE EXCEPTION USING ERRCODE = 'PT409', MESSAGE = 'draft was changed by somebody else',
            DETAIL = format('Workflow "%s" is at row_version %s, the change was made on %s.', w.name, w.row_version, save_draft.row_version),
            HINT = 'Read the draft again and repeat the change on it.';
    END IF;
    UPDATE goya.workflows x SET draft = save_draft.definition WHERE x.id = w.id RETURNING x.row_version INTO saved;
    RETURN saved;
END;
$$;
COMMENT ON FUNCTION goya.save_draft(text, jsonb, integer) IS
'Saves the draft of a workflow and returns its new row_version; what runs does not change until it is published.
row_version: what the editor read; null saves whatever was saved meanwhile.
Errors: PT404 unknown workflow, PT409 the draft was changed by somebody else, 22023 no object or over 1 MB, 42501 no tenant or reader.';

CREATE FUNCTION goya.publish_workflow(name text, note text DEFAULT '') RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM goya_private.require_writer();
    RETURN goya_private.publish_draft(goya_private.find_workflow(publish_workflow.name, true), publish_workflow.note);
END;
$$;
COMMENT ON FUNCTION goya.publish_workflow(text, text) IS
'Makes the draft of a workflow its next revision, which new tasks run, and returns the revision''s number.
Operators are pinned at the version they have now. Tasks that run keep their revision. Publishes the event workflow_published.
Errors: 22023 the definition has errors (the detail lists up to 20 of them; warnings do not matter), PT404 unknown workflow, 42501 no tenant or reader.';

CREATE FUNCTION goya.rollback_workflow(name text, revision integer DEFAULT NULL) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    w      goya.workflows;
    wanted integer;
BEGIN
    PERFORM goya_private.require_writer();
    w := goya_private.find_workflow(rollback_workflow.name, true);
    SELECT max(r.revision) INTO wanted FROM goya.workflow_revisions r
    WHERE r.workflow_id = w.id
      AND CASE WHEN rollback_workflow.revision IS NULL THEN r.revision < w.revision ELSE r.revision = rollback_workflow.revision END;
    IF wanted IS NULL THEN
        PERFORM goya_private.not_found('revision', w.name || ' ' || coalesce(rollback_workflow.revision::text, 'before ' || w.revision, 'before the first'),
                                       'SELECT revision, published_at, note FROM goya.workflow_revisions lists them.');
    END IF;
    IF wanted IS DISTINCT FROM w.revision THEN
        UPDATE goya.workflows x SET revision = wanted WHERE x.id = w.id;
        PERFORM goya_private.publish_event(w.tenant_id, 'workflow_rolled_back', w.id,
            jsonb_build_object('workflow', w.name, 'revision', wanted, 'from_revision', w.revision), NULL, 0);
    END IF;
    RETURN wanted;
END;
$$;
COMMENT ON FUNCTION goya.rollback_workflow(text, integer) IS
'Makes an older revision the one that new tasks run, and returns its number; without a revision the one before.
The draft stays as it is. A newer revision can be chosen again the same way.
Errors: PT404 unknown workflow or revision, 42501 no tenant or reader.';

CREATE FUNCTION goya_private.set_workflow_enabled(name text, enabled boolean) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    w     goya.workflows;
    fired goya.triggers;
BEGIN
    PERFORM goya_private.require_writer();
    w := goya_private.find_workflow(set_workflow_enabled.name, true);
    IF w.enabled = set_workflow_enabled.enabled THEN
        RETURN;
    END IF;
    UPDATE goya.workflows x SET enabled = set_workflow_enabled.enabled WHERE x.id = w.id;
    FOR fired IN SELECT t.* FROM goya.triggers t WHERE t.workflow_id = w.id AND t.enabled ORDER BY t.id FOR UPDATE LOOP
        IF set_workflow_enabled.enabled THEN
            PERFORM goya_private.schedule_trigger(fired);
        ELSE
            PERFORM goya_private.unschedule_trigger(fired);
        END IF;
    END LOOP;
END;
$$;

CREATE FUNCTION goya.enable_workflow(name text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM goya_private.set_workflow_enabled(enable_workflow.name, true);
END;
$$;
COMMENT ON FUNCTION goya.enable_workflow(text) IS
'Lets a workflow run again; its enabled triggers are scheduled in the same transaction, from now on.
Errors: PT404 unknown workflow, 0A000 a cron trigger and no pg_cron, 42501 no tenant or reader.';

CREATE FUNCTION goya.disable_workflow(name text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM goya_private.set_workflow_enabled(disable_workflow.name, false);
END;
$$;
COMMENT ON FUNCTION goya.disable_workflow(text) IS
'Refuses new tasks of a workflow and takes its triggers off the schedule, in the same transaction. Running tasks go on.
Errors: PT404 unknown workflow, 42501 no tenant or reader.';

CREATE FUNCTION goya.delete_workflow(name text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    w     goya.workflows;
    fired goya.triggers;
BEGIN
    PERFORM goya_private.require_writer();
    w := goya_private.find_workflow(delete_workflow.name, true);
    IF EXISTS (SELECT FROM goya.tasks k WHERE k.workflow_id = w.id) THEN
        RAISE EXCEPTION USING ERRCODE = '23503', MESSAGE = format('workflow "%s" has tasks', w.name),
            DETAIL = 'Tasks keep the workflow and revision they ran.', HINT = 'goya.disable_workflow refuses new ones.';
    END IF;
    FOR fired IN SELECT t.* FROM goya.triggers t WHERE t.workflow_id = w.id ORDER BY t.id FOR UPDATE LOOP
        PERFORM goya_private.unschedule_trigger(fired);
        DELETE FROM goya_private.trigger_slots s WHERE s.trigger_id = fired.id;
    END LOOP;
    DELETE FROM goya.workflows x WHERE x.id = w.id;
END;
$$;
COMMENT ON FUNCTION goya.delete_workflow(text) IS
'Deletes a workflow that never ran, with its draft, revisions and triggers.
Errors: PT404 unknown workflow, 23503 it has tasks (disable it instead), 42501 no tenant or reader.';

-- A definition of a workflow: of a revision, or with null of the draft.
CREATE FUNCTION goya_private.revision_definition(w goya.workflows, revision integer) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    found_definition jsonb;
BEGIN
    IF revision_definition.revision IS NULL THEN
        RETURN coalesce(w.draft, '{}');
    END IF;
    SELECT r.definition INTO found_definition FROM goya.workflow_revisions r
    WHERE r.workflow_id = w.id AND r.revision = revision_definition.revision;
    IF NOT FOUND THEN
        PERFORM goya_private.not_found('revision', w.name || ' ' || revision_definition.revision,
                                       'SELECT revision, published_at, note FROM goya.workflow_revisions lists them.');
    END IF;
    RETURN found_definition;
END;
$$;

CREATE FUNCTION goya.export_workflow(name text, revision integer DEFAULT NULL) RETURNS jsonb
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    w      goya.workflows := goya_private.find_workflow(export_workflow.name);
    number integer := coalesce(export_workflow.revision, w.revision);
BEGIN
    RETURN goya_private.revision_definition(w, number)
        || jsonb_build_object('name', w.name, 'description', w.description, 'tags', to_jsonb(w.tags))
        || CASE WHEN number IS NULL THEN '{}' ELSE jsonb_build_object('version', number) END;
END;
$$;
COMMENT ON FUNCTION goya.export_workflow(text, integer) IS
'Returns a definition with its name, description, tags and version (the revision), as create_workflow takes it.
Without a revision the active one; of a workflow that was never published, the draft.
Errors: PT404 unknown workflow or revision, 42501 no tenant.';

-- Nodes, edges and other fields of a definition as rows with comparable keys.
CREATE FUNCTION goya_private.definition_parts(definition jsonb, OUT kind text, OUT key text, OUT value jsonb) RETURNS SETOF record
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'node', coalesce(n ->> 'key', '?'), n
    FROM jsonb_array_elements(CASE jsonb_typeof(definition_parts.definition -> 'nodes') WHEN 'array' THEN definition_parts.definition -> 'nodes' ELSE '[]' END) n
    UNION ALL
    SELECT 'edge', coalesce(e ->> 'from', '?') || ' → ' || coalesce(e ->> 'to', '?') || coalesce(' on ' || nullif(e ->> 'on', 'success'), '')
           || coalesce(' case ' || (e ->> 'case'), ''), e
    FROM jsonb_array_elements(CASE jsonb_typeof(definition_parts.definition -> 'edges') WHEN 'array' THEN definition_parts.definition -> 'edges' ELSE '[]' END) e
    UNION ALL
    SELECT 'field', f.key, f.value FROM jsonb_each(definition_parts.definition) f WHERE f.key NOT IN ('nodes', 'edges')
$$;

CREATE FUNCTION goya.diff_workflow(name text, from_revision integer DEFAULT NULL, to_revision integer DEFAULT NULL,
    OUT change text, OUT kind text, OUT key text, OUT detail text) RETURNS SETOF record
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    w      goya.workflows := goya_private.find_workflow(diff_workflow.name);
    before jsonb := CASE WHEN coalesce(diff_workflow.from_revision, w.revision) IS NULL THEN '{}'
                         ELSE goya_private.revision_definition(w, coalesce(diff_workflow.from_revision, w.revision)) END;
    after  jsonb := goya_private.revision_definition(w, diff_workflow.to_revision);
BEGIN
    RETURN QUERY
    SELECT CASE WHEN a.key IS NULL THEN 'added' WHEN b.key IS NULL THEN 'removed' ELSE 'changed' END,
           coalesce(a.kind, b.kind), coalesce(a.key, b.key),
           CASE WHEN a.key IS NULL THEN coalesce(b.value ->> 'kind', '')
                WHEN b.key IS NULL THEN coalesce(a.value ->> 'kind', '')
                WHEN jsonb_typeof(a.value) = 'object' AND jsonb_typeof(b.value) = 'object' THEN
                    (SELECT string_agg(k, ', ' ORDER BY k)
                     FROM (SELECT jsonb_object_keys(a.value || b.value) AS k) names WHERE a.value -> k IS DISTINCT FROM b.value -> k)
                ELSE '' END
    FROM (SELECT p.*, row_number() OVER (PARTITION BY p.kind, p.key ORDER BY p.value) AS copy
          FROM goya_private.definition_parts(before) p) a
    FULL JOIN (SELECT p.*, row_number() OVER (PARTITION BY p.kind, p.key ORDER BY p.value) AS copy
               FROM goya_private.definition_parts(after) p) b ON b.kind = a.kind AND b.key = a.key AND b.copy = a.copy
    WHERE a.value IS DISTINCT FROM b.value
    ORDER BY array_position(ARRAY['node', 'edge', 'field'], coalesce(a.kind, b.kind)), coalesce(a.key, b.key) COLLATE "C",
             coalesce(a.copy, b.copy);
END;
$$;
COMMENT ON FUNCTION goya.diff_workflow(text, integer, integer) IS
'Lists the differences between two revisions of a workflow.
change: added, removed, changed; kind: node, edge, field; detail: the kind of a node, or the fields that differ. from_revision defaults to the active
one, to_revision to the draft: what publishing would change.
Errors: PT404 unknown workflow or revision, 42501 no tenant.';
