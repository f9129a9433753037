-- 54_artifacts.sql: what tasks leave behind: storing it with the node's result, its maturity, changing it.
--
-- Decided: executors store all artifacts of a batch in one call, in the transaction of the node runs; wrong data is the node's error (22023).
-- Must hold: an artifact of type asset and its child asset appear together; a locked artifact does not change, whoever writes.

-- Raises for the first row whose data cannot be stored, naming node and field.
CREATE FUNCTION goya_private.check_artifacts(rows jsonb) RETURNS void
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    wrong record;
BEGIN
    SELECT a.r ->> 'node' AS node, f.field, f.problem, f.wants INTO wrong
    FROM jsonb_array_elements(rows) WITH ORDINALITY a(r, n), LATERAL (
        SELECT a.r -> 'data' AS data, jsonb_typeof(a.r -> 'data') = 'object' AND a.r ->> 'type' = 'asset' AS asset) d,
    LATERAL (VALUES
        ('type', coalesce(a.r ->> 'type', '') NOT IN ('asset', 'result', 'timeline', 'report'), 'asset, result, timeline or report'),
        ('data', a.r ->> 'type' = 'asset' AND NOT d.asset, 'an object that describes the asset'),
        ('data.media_type', d.asset AND coalesce(d.data ->> 'media_type', 'data')
            NOT IN ('video', 'image', 'audio', 'text', 'document', 'stream', 'data'), 'video, image, audio, text, document, stream or data'),
        ('data.status', d.asset AND coalesce(d.data ->> 'status', 'ready')
            NOT IN ('new', 'processing', 'ready', 'failed', 'archived'), 'new, processing, ready, failed or archived'),
        ('data.size_bytes', d.asset AND NOT coalesce(jsonb_path_match(d.data, '!exists($.size_bytes ? (@ != null)) || ($.size_bytes >= 0 && $.size_bytes <= 9223372036854775807)'), false),
            'a number of bytes'),
        ('data.duration', d.asset AND NOT coalesce(jsonb_path_match(d.data, '!exists($.duration ? (@ != null)) || $.duration >= 0'), false),
            'a number of seconds'),
        ('data.sha256', d.asset AND coalesce(d.data ->> 'sha256', repeat('0', 64)) !~ '^[0-9a-f]{64}$', '64 lower-case hexadecimal digits'),
        ('data.metadata', d.asset AND coalesce(jsonb_typeof(d.data -> 'metadata'), 'null') NOT IN ('object', 'null'), 'an object'),
        ('data.tags', d.asset AND NOT (coalesce(jsonb_typeof(d.data -> 'tags'), 'null') IN ('array', 'null')
            AND NOT coalesce(jsonb_path_exists(d.data, '$.tags[*] ? (@.type() != "string")'), false)), 'an array of strings')
        ) f(field, problem, wants)
    WHERE f.problem
    ORDER BY a.n LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('node "%s" makes an artifact with a wrong %s', wrong.node, wrong.field),
            DETAIL = format('%s must be %s.', wrong.field, wrong.wants), HINT = 'See the artifact of the node in the workflow''s definition.';
    END IF;
END;
$$;

-- rows: [{"task_id", "tenant_id", "node", "item", "type", "name", "data", "created_by"?}]; for executors, in the transaction of the node runs.
CREATE FUNCTION goya_private.store_artifacts(rows jsonb) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    PERFORM goya_private.check_artifacts(rows);
    WITH given AS MATERIALIZED (
        SELECT goya.new_id() AS id, CASE WHEN r.type = 'asset' THEN goya.new_id() END AS asset_id, r.task_id, r.tenant_id, r.node,
               coalesce(r.item, 0) AS item, r.type::goya.artifact_type AS type, coalesce(r.name, '') AS name, coalesce(r.data, 'null') AS data,
               r.created_by, t.asset_id AS parent_id, t.depth, t.run_as, t.created_by AS task_user, n
        FROM jsonb_array_elements(rows) WITH ORDINALITY a(value, n),
             LATERAL jsonb_to_record(a.value) AS r(task_id uuid, tenant_id uuid, node text, item integer, type text, name text, data jsonb, created_by text)
        JOIN goya.tasks t ON t.id = r.task_id AND t.tenant_id = r.tenant_id),
    children AS (
        INSERT INTO goya.assets (id, tenant_id, name, media_type, mime_type, uri, source, status, sha256, size_bytes, duration, format, metadata,
                                 tags, visibility, owner_role, created_by, parent_id, task_id, node, item, depth)
        SELECT g.asset_id, g.tenant_id, coalesce(g.data ->> 'name', g.name),
               coalesce(g.data ->> 'media_type', CASE
                   WHEN split_part(g.data ->> 'mime_type', '/', 1) IN ('video', 'image', 'audio', 'text') THEN split_part(g.data ->> 'mime_type', '/', 1)
                   WHEN g.data ->> 'mime_type' = 'application/pdf' THEN 'document' ELSE 'data' END),
               g.data ->> 'mime_type', g.data ->> 'uri', 'operator', coalesce(g.data ->> 'status', 'ready'), g.data ->> 'sha256',
               (g.data ->> 'size_bytes')::numeric::bigint, (g.data ->> 'duration')::double precision, g.data ->> 'format',
               coalesce(nullif(g.data -> 'metadata', 'null'), '{}'),
               CASE WHEN jsonb_typeof(g.data -> 'tags') = 'array' THEN ARRAY(SELECT jsonb_array_elements_text(g.data -> 'tags')) ELSE '{}' END,
               'tenant', g.run_as, coalesce(g.created_by, g.task_user), g.parent_id, g.task_id, g.node, g.item, g.depth
        FROM given g WHERE g.type = 'asset' ORDER BY g.n)
    INSERT INTO goya.artifacts (id, tenant_id, task_id, node, item, type, name, data, asset_id)
    SELECT g.id, g.tenant_id, g.task_id, g.node, g.item, g.type, g.name, g.data, g.asset_id FROM given g ORDER BY g.n;
END;
$$;

CREATE FUNCTION goya_private.guard_locked_artifact() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF OLD.maturity = 'locked' AND (NEW.data, NEW.name, NEW.type, NEW.asset_id) IS DISTINCT FROM (OLD.data, OLD.name, OLD.type, OLD.asset_id) THEN
        RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = 'the artifact is locked',
            DETAIL = format('Artifact %s "%s" cannot be changed any more.', OLD.id, OLD.name),
            HINT = 'An administrator of the tenant can set its maturity back to review.';
    END IF;
    RETURN NEW;
END;
$$;
CREATE TRIGGER artifacts_guard_locked BEFORE UPDATE ON goya.artifacts
    FOR EACH ROW EXECUTE FUNCTION goya_private.guard_locked_artifact();
CREATE TRIGGER artifacts_row_version BEFORE UPDATE ON goya.artifacts
    FOR EACH ROW EXECUTE FUNCTION goya_private.bump_row_version();

CREATE FUNCTION goya_private.lock_own_artifact(artifact_id uuid) RETURNS goya.artifacts
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    tenant uuid := goya_private.require_writer();
    artifact goya.artifacts;
BEGIN
    SELECT * INTO artifact FROM goya.artifacts a WHERE a.id = lock_own_artifact.artifact_id AND a.tenant_id = tenant FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        PERFORM goya_private.not_found('artifact', coalesce(lock_own_artifact.artifact_id::text, 'null'), 'goya.artifacts lists those of your tenant.');
    END IF;
    RETURN artifact;
END;
$$;

CREATE FUNCTION goya.set_artifact_maturity(artifact_id uuid, maturity text) RETURNS goya.artifacts
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    artifact goya.artifacts := goya_private.lock_own_artifact(set_artifact_maturity.artifact_id);
BEGIN
    IF coalesce(set_artifact_maturity.maturity, '') NOT IN ('draft', 'review', 'locked') THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'maturity must be draft, review or locked';
    END IF;
    IF artifact.maturity = set_artifact_maturity.maturity THEN
        RETURN artifact;
    END IF;
    IF artifact.maturity = 'locked' AND NOT goya.is_admin() AND NOT EXISTS (
        SELECT FROM goya.members m WHERE m.role_name = goya.current_caller() AND m.tenant_id = artifact.tenant_id AND m.access = 'admin') THEN
        RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = 'the artifact is locked',
            DETAIL = format('Artifact %s "%s" was locked; only an administrator of its tenant may unlock it.', artifact.id, artifact.name);
    END IF;
    UPDATE goya.artifacts a SET maturity = set_artifact_maturity.maturity WHERE a.id = artifact.id RETURNING * INTO artifact;
    RETURN artifact;
END;
$$;
COMMENT ON FUNCTION goya.set_artifact_maturity(uuid, text) IS
'Sets how finished an artifact is: draft, review or locked. Returns it.
A locked artifact cannot be changed; only an administrator of the tenant takes the lock away. Errors: PT404, 22023, 42501.';

CREATE FUNCTION goya.update_artifact(artifact_id uuid, data jsonb, row_version integer) RETURNS goya.artifacts
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    artifact goya.artifacts := goya_private.lock_own_artifact(update_artifact.artifact_id);
BEGIN
    IF update_artifact.data IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'data must not be null';
    END IF;
    IF update_artifact.row_version IS DISTINCT FROM artifact.row_version THEN
        RAISE EXCEPTION USING ERRCODE = 'PT409', MESSAGE = 'the artifact was changed by somebody else',
            DETAIL = format('Its row_version is %s, not %s.', artifact.row_version, coalesce(update_artifact.row_version::text, 'null')),
            HINT = 'Read it again, apply your change to that, and pass its row_version.';
    END IF;
    UPDATE goya.artifacts a SET data = update_artifact.data WHERE a.id = artifact.id RETURNING * INTO artifact;
    RETURN artifact;
END;
$$;
COMMENT ON FUNCTION goya.update_artifact(uuid, jsonb, integer) IS
'Replaces the data of an artifact; row_version is the one that was read. Returns it with the next row_version.
Errors: PT404 no such artifact, 22023 no data, 55000 it is locked, PT409 changed since it was read.';
