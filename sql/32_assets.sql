-- 32_assets.sql: what happens when assets change, and the calls to register, finish, find and trace them.
--
-- Decided: events are published by statement-level triggers from transition tables: a bulk insert of any size writes its events in bulk and is one
-- NOTIFY. Only events that an enabled trigger of the tenant wants are queued for the engine, so an
-- installation without triggers pays for no queue. Rows older than their transaction are no news: pg_restore and imports by the superuser load
-- them, and must not start every workflow again.
-- Must hold: asset_new once per insert and asset_done once per change to ready, in the transaction that made them; what says
-- where an asset came from (tenant, owner, producing task, depth, creation time) is never a user's to set.

CREATE FUNCTION goya_private.publish_event(tenant_id uuid, type text, subject_id uuid, data jsonb, task_id uuid, depth integer) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    event uuid := goya.new_id();
BEGIN
    INSERT INTO goya.events (id, tenant_id, type, subject_id, data, task_id, depth)
    VALUES (event, publish_event.tenant_id, publish_event.type, publish_event.subject_id, coalesce(publish_event.data, '{}'),
            publish_event.task_id, least(coalesce(publish_event.depth, 0), 32767));
    IF EXISTS (SELECT FROM goya.triggers t JOIN goya.workflows w ON w.id = t.workflow_id
               WHERE t.tenant_id = publish_event.tenant_id AND t.event = publish_event.type AND t.kind = 'event' AND t.enabled
                 AND w.enabled AND w.revision IS NOT NULL) THEN
        INSERT INTO goya_private.event_queue (event_id, tenant_id) VALUES (event, publish_event.tenant_id);
        PERFORM goya_private.wake();
    END IF;
    RETURN event;
END;
$$;

-- One NOTIFY per statement; it carries the ids of at most 20 rows, never data: whoever listens reads the table under its own rights.
CREATE FUNCTION goya_private.notify_assets(ids uuid[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF coalesce(nullif(current_setting('goya.notify_assets', true), ''), 'on')::boolean THEN
        PERFORM pg_notify('goya_asset', CASE WHEN cardinality(ids) <= 20 THEN jsonb_build_object('ids', ids)::text ELSE '' END);
    END IF;
END;
$$;

-- asset_new, and asset_done for those that are ready, and the NOTIFY; src/assets.c.
CREATE FUNCTION goya_private.publish_inserted_assets() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'goya_publish_inserted_sql';

CREATE FUNCTION goya_private.publish_ready_assets() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    ids    uuid[];
    queued bigint;
BEGIN
    SELECT array_agg(a.id ORDER BY a.id) INTO ids
    FROM after_update a JOIN before_update b ON b.id = a.id WHERE a.status = 'ready' AND b.status <> 'ready';
    IF ids IS NULL THEN
        RETURN NULL;
    END IF;
    WITH published AS (
        INSERT INTO goya.events (tenant_id, type, subject_id, data, task_id, depth)
        SELECT a.tenant_id, 'asset_done', a.id, jsonb_build_object('name', a.name, 'media_type', a.media_type, 'status', a.status),
               coalesce(c.task_id, a.task_id), greatest(c.depth, a.depth)
        FROM after_update a CROSS JOIN goya_private.current_task() c WHERE a.id = ANY (ids)
        ORDER BY a.id
        RETURNING id, tenant_id, type)
    INSERT INTO goya_private.event_queue (event_id, tenant_id)
    SELECT p.id, p.tenant_id FROM published p
    WHERE EXISTS (SELECT FROM goya.triggers t JOIN goya.workflows w ON w.id = t.workflow_id
                  WHERE t.tenant_id = p.tenant_id AND t.event = p.type AND t.kind = 'event' AND t.enabled
                    AND w.enabled AND w.revision IS NOT NULL);
    GET DIAGNOSTICS queued = ROW_COUNT;
    IF queued > 0 THEN
        PERFORM goya_private.wake();
    END IF;
    PERFORM goya_private.notify_assets(ids);
    RETURN NULL;
END;
$$;

-- Refuses what only goya may say about an asset. Called for the rare rows that its triggers' WHEN lets through; superusers may (restores).
CREATE FUNCTION goya_private.guard_asset() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    column_name text;
BEGIN
    IF EXISTS (SELECT FROM pg_roles r WHERE r.rolname = current_user AND r.rolsuper) THEN
        RETURN NEW;
    END IF;
    IF NEW.visibility = 'public' AND (TG_OP = 'INSERT' OR OLD.visibility <> 'public') AND NOT goya.is_admin() THEN
        RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = 'only a platform administrator may make an asset public',
            DETAIL = 'Public assets are seen by every tenant.', HINT = 'Use visibility tenant, or role with visible_roles.';
    END IF;
    IF TG_OP = 'INSERT' THEN
        column_name := CASE WHEN NEW.depth <> 0 THEN 'depth' WHEN NEW.task_id IS NOT NULL THEN 'task_id'
            WHEN NEW.node IS NOT NULL THEN 'node' WHEN NEW.item IS NOT NULL THEN 'item' WHEN NEW.created_at <> now() THEN 'created_at'
            WHEN NEW.updated_at <> now() THEN 'updated_at' WHEN NEW.row_version <> 1 THEN 'row_version'
            WHEN NEW.owner_role <> goya.current_caller() THEN 'owner_role' WHEN NEW.created_by IS DISTINCT FROM goya.current_end_user() THEN 'created_by' END;
    ELSE
        column_name := CASE WHEN NEW.id <> OLD.id THEN 'id' WHEN NEW.tenant_id <> OLD.tenant_id THEN 'tenant_id'
            WHEN NEW.depth <> OLD.depth THEN 'depth' WHEN NEW.task_id IS DISTINCT FROM OLD.task_id THEN 'task_id'
            WHEN NEW.node IS DISTINCT FROM OLD.node THEN 'node' WHEN NEW.item IS DISTINCT FROM OLD.item THEN 'item'
            WHEN NEW.created_at <> OLD.created_at THEN 'created_at' WHEN NEW.owner_role <> OLD.owner_role THEN 'owner_role'
            WHEN NEW.created_by IS DISTINCT FROM OLD.created_by THEN 'created_by' END;
    END IF;
    IF column_name IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = format('column "%s" of an asset is set by goya', column_name),
            DETAIL = 'It tells where the asset came from.', HINT = 'Leave the column out.';
    END IF;
    RETURN NEW;
END;
$$;

CREATE TRIGGER assets_1_guard_insert BEFORE INSERT ON goya.assets FOR EACH ROW
    WHEN (current_user <> 'goya_owner'
          AND (NEW.depth <> 0 OR NEW.task_id IS NOT NULL OR NEW.node IS NOT NULL OR NEW.item IS NOT NULL OR NEW.created_at <> now()
               OR NEW.updated_at <> now() OR NEW.row_version <> 1 OR NEW.owner_role <> current_user OR NEW.created_by IS NOT NULL
               OR NEW.visibility = 'public'))
    EXECUTE FUNCTION goya_private.guard_asset();
CREATE TRIGGER assets_1_guard_update BEFORE UPDATE ON goya.assets FOR EACH ROW
    WHEN (current_user <> 'goya_owner'
          AND ((NEW.id, NEW.tenant_id, NEW.depth, NEW.task_id, NEW.node, NEW.item, NEW.created_at, NEW.owner_role, NEW.created_by)
               IS DISTINCT FROM (OLD.id, OLD.tenant_id, OLD.depth, OLD.task_id, OLD.node, OLD.item, OLD.created_at, OLD.owner_role, OLD.created_by)
               OR (NEW.visibility = 'public' AND OLD.visibility <> 'public')))
    EXECUTE FUNCTION goya_private.guard_asset();
-- An asset that a node's SQL inserts comes from that node run: so that depth and own output limit what it may trigger.
CREATE FUNCTION goya_private.mark_origin() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    origin record;
BEGIN
    SELECT c.task_id, c.node, c.item, c.depth INTO origin FROM goya_private.current_task() c;
    NEW.task_id := origin.task_id;
    NEW.node := origin.node;
    NEW.item := origin.item;
    NEW.depth := origin.depth;
    RETURN NEW;
END;
$$;
CREATE TRIGGER assets_2_origin BEFORE INSERT ON goya.assets FOR EACH ROW WHEN (NEW.task_id IS NULL AND goya_private.in_task())
    EXECUTE FUNCTION goya_private.mark_origin();
CREATE TRIGGER assets_2_bump BEFORE UPDATE ON goya.assets FOR EACH ROW EXECUTE FUNCTION goya_private.bump_row_version();
CREATE TRIGGER assets_inserted AFTER INSERT ON goya.assets REFERENCING NEW TABLE AS inserted
    FOR EACH STATEMENT EXECUTE FUNCTION goya_private.publish_inserted_assets();
CREATE TRIGGER assets_updated AFTER UPDATE ON goya.assets REFERENCING OLD TABLE AS before_update NEW TABLE AS after_update
    FOR EACH STATEMENT EXECUTE FUNCTION goya_private.publish_ready_assets();

-- The asset of the caller's tenant that the caller may see; public assets of others only where reading is all that is wanted.
CREATE FUNCTION goya_private.find_asset(id uuid, reading boolean) RETURNS goya.assets
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    tenant uuid := goya_private.require_tenant();
    found_asset goya.assets;
BEGIN
    SELECT a.* INTO found_asset FROM goya.assets a
    WHERE a.id = find_asset.id
      AND ((a.tenant_id = tenant AND goya_private.may_see(a.visibility, a.owner_role, a.visible_roles, a.created_by))
           OR (find_asset.reading AND a.visibility = 'public'));
    IF NOT FOUND THEN
        PERFORM goya_private.not_found('asset', find_asset.id::text, 'goya.search_assets lists what you can see.');
    END IF;
    RETURN found_asset;
END;
$$;

CREATE FUNCTION goya.register_asset(uri text, media_type text DEFAULT 'data', name text DEFAULT NULL, mime_type text DEFAULT NULL,
    source text DEFAULT NULL, status text DEFAULT 'new', metadata jsonb DEFAULT '{}', tags text[] DEFAULT '{}', content bytea DEFAULT NULL,
    sha256 text DEFAULT NULL, size_bytes bigint DEFAULT NULL, duration double precision DEFAULT NULL, format text DEFAULT NULL,
    visibility goya.visibility DEFAULT 'tenant', visible_roles name[] DEFAULT '{}', parent_id uuid DEFAULT NULL) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    tenant  uuid := goya_private.require_writer();
    made    uuid := goya.new_id();
    problem text;
    parent  goya.assets;
BEGIN
    problem := CASE
        WHEN register_asset.uri IS NULL AND register_asset.content IS NULL THEN 'An asset has a uri or content.'
        WHEN octet_length(register_asset.content) > 1048576 THEN 'content is longer than 1 MB: store the bytes elsewhere and give a uri.'
        WHEN register_asset.media_type IS NULL
             OR register_asset.media_type NOT IN ('video', 'image', 'audio', 'text', 'document', 'stream', 'data')
            THEN format('media_type "%s" is none of video, image, audio, text, document, stream, data.', register_asset.media_type)
        WHEN register_asset.source NOT IN ('upload', 'url', 'stream', 'generated', 'operator')
            THEN format('source "%s" is none of upload, url, stream, generated, operator.', register_asset.source)
        WHEN register_asset.status IS NULL OR register_asset.status NOT IN ('new', 'processing', 'ready', 'failed', 'archived')
            THEN format('status "%s" is none of new, processing, ready, failed, archived.', register_asset.status)
        WHEN register_asset.sha256 !~ '^[0-9a-f]{64}$' THEN 'sha256 is not 64 lower-case hexadecimal digits.'
        WHEN register_asset.size_bytes < 0 THEN 'size_bytes is negative.'
        WHEN NOT register_asset.duration >= 0 OR register_asset.duration = 'NaN' OR register_asset.duration = 'Infinity'
            THEN 'duration is not a number of seconds.'
        WHEN jsonb_typeof(register_asset.metadata) <> 'object' THEN 'metadata is not an object.' END;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad asset', DETAIL = problem,
            HINT = 'SELECT goya.register_asset(''file:///data/a.mp4'', ''video'') is the short form.';
    END IF;
    IF register_asset.visibility = 'public' AND NOT goya.is_admin() THEN
        RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = 'only a platform administrator may make an asset public',
            DETAIL = 'Public assets are seen by every tenant.', HINT = 'Use visibility tenant, or role with visible_roles.';
    END IF;
    IF register_asset.parent_id IS NOT NULL THEN
        parent := goya_private.find_asset(register_asset.parent_id, true);
    END IF;
    INSERT INTO goya.assets (id, tenant_id, name, media_type, mime_type, uri, content, source, status, sha256, size_bytes, duration, format,
                             metadata, tags, visibility, visible_roles, owner_role, created_by, parent_id)
    VALUES (made, tenant,
            coalesce(register_asset.name, regexp_replace(split_part(split_part(register_asset.uri, '?', 1), '#', 1), '^.*/', ''), ''),
            register_asset.media_type, register_asset.mime_type, register_asset.uri, register_asset.content,
            coalesce(register_asset.source, CASE WHEN register_asset.media_type = 'stream' THEN 'stream'
                                                 WHEN register_asset.uri ~* '^https?:' THEN 'url' ELSE 'upload' END),
            register_asset.status,
            coalesce(register_asset.sha256, encode(sha256(register_asset.content), 'hex')),
            coalesce(register_asset.size_bytes, octet_length(register_asset.content)),
            register_asset.duration, register_asset.format, coalesce(register_asset.metadata, '{}'), coalesce(register_asset.tags, '{}'),
            coalesce(register_asset.visibility, 'tenant'), coalesce(register_asset.visible_roles, '{}'),
            goya.current_caller(), goya.current_end_user(), parent.id);
    RETURN made;
END;
$$;
COMMENT ON FUNCTION goya.register_asset(text, text, text, text, text, text, jsonb, text[], bytea, text, bigint, double precision, text,
    goya.visibility, name[], uuid) IS
'Registers an asset of the caller''s tenant and returns its id; publishes asset_new, and asset_done when status is ready.
uri: where the bytes are (file, http, s3 …); small bytes (up to 1 MB) may be given as content instead. name defaults to the last part of the uri, source
to url, stream or upload, sha256 and size_bytes to those of content. duration is in seconds, size_bytes in bytes. parent_id: the asset it was made from.
Errors: 22023 bad argument, PT404 unknown parent, 42501 no tenant, reader, or visibility public without goya_admin.
Example: SELECT goya.register_asset(''https://media.example/a.mp4'', ''video'', tags => ''{interview}'');';

CREATE FUNCTION goya.finish_asset(input jsonb) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    wanted text := finish_asset.input ->> 'asset_id';
    state  text := coalesce(finish_asset.input ->> 'status', 'ready');
    target goya.assets;
BEGIN
    PERFORM goya_private.require_writer();
    IF wanted IS NULL OR wanted !~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad asset_id',
            DETAIL = format('asset_id is %s, not the id of an asset.', coalesce('"' || wanted || '"', 'missing')),
            HINT = 'Input is {"asset_id": "…", "status": "ready"}.';
    END IF;
    IF state NOT IN ('new', 'processing', 'ready', 'failed', 'archived') THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad status',
            DETAIL = format('"%s" is none of new, processing, ready, failed, archived.', state),
            HINT = 'Without a status the asset becomes ready.';
    END IF;
    target := goya_private.find_asset(wanted::uuid, false);
    UPDATE goya.assets a SET status = state WHERE a.id = target.id AND a.status <> state;
    RETURN jsonb_build_object('asset_id', target.id, 'status', state);
END;
$$;
COMMENT ON FUNCTION goya.finish_asset(jsonb) IS
'Sets the status of an asset, ready when none is given; becoming ready publishes asset_done. Also usable as an sql node.
Input and result: {"asset_id": uuid, "status": new|processing|ready|failed|archived}. An asset that has the status already is left alone.
Errors: 22023 bad asset_id or status, PT404 unknown asset, 42501 no tenant or reader.
Example: {"key": "finish", "kind": "sql", "function": "goya.finish_asset", "input": {"asset_id": "{{ asset.id }}"}}';

CREATE INDEX assets_public_idx ON goya.assets (id) WHERE visibility = 'public';

CREATE FUNCTION goya.search_assets(query text DEFAULT NULL, tags text[] DEFAULT NULL, metadata jsonb DEFAULT NULL, media_type text DEFAULT NULL,
    status text DEFAULT NULL, after uuid DEFAULT NULL, limit_rows integer DEFAULT 50) RETURNS SETOF goya.assets
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    tenant uuid := goya_private.require_tenant();
    wanted text;
BEGIN
    IF limit_rows IS NULL OR limit_rows NOT BETWEEN 1 AND 1000 THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'bad limit_rows',
            DETAIL = format('%s is not between 1 and 1000.', coalesce(limit_rows::text, 'null')),
            HINT = 'Give the last id of a page as after to get the next page.';
    END IF;
    -- Only the conditions that are asked for, so that each query gets the index that serves it; public assets of others in a branch of their own.
    wanted := CASE WHEN query <> '' THEN ' AND (strpos(lower(a.name), lower($2)) > 0 OR strpos(lower(a.uri), lower($2)) > 0'
                                         ' OR EXISTS (SELECT FROM unnest(a.tags) t WHERE strpos(lower(t), lower($2)) > 0))' ELSE '' END
        || CASE WHEN tags IS NOT NULL THEN ' AND a.tags @> $3' ELSE '' END
        || CASE WHEN metadata IS NOT NULL THEN ' AND a.metadata @> $4' ELSE '' END
        || CASE WHEN media_type IS NOT NULL THEN ' AND a.media_type = $5' ELSE '' END
        || CASE WHEN status IS NOT NULL THEN ' AND a.status = $6' ELSE '' END
        || CASE WHEN after IS NOT NULL THEN ' AND a.id < $7' ELSE '' END
        || ' ORDER BY a.id DESC LIMIT $8';
    RETURN QUERY EXECUTE
        'SELECT * FROM ((SELECT a.* FROM goya.assets a WHERE a.tenant_id = $1'
        ' AND (a.visibility IN (''tenant'', ''public'') OR goya_private.may_see(a.visibility, a.owner_role, a.visible_roles, a.created_by))' || wanted
        || ') UNION ALL (SELECT a.* FROM goya.assets a WHERE a.visibility = ''public'' AND a.tenant_id <> $1' || wanted
        || ')) found ORDER BY found.id DESC LIMIT $8'
        USING tenant, query, tags, metadata, media_type, status, after, limit_rows;
END;
$$;
COMMENT ON FUNCTION goya.search_assets(text, text[], jsonb, text, text, uuid, integer) IS
'Finds assets that the caller can see, newest first.
query: part of the name, the uri or a tag, whatever the case; tags: all of them; metadata: contained in the asset''s; null means any.
after: the id of the last row of the page before; limit_rows: 1 to 1000.
Errors: 22023 bad limit_rows, 42501 no tenant.
Example: SELECT id, name FROM goya.search_assets(''interview'', media_type => ''video'', metadata => ''{"lang": "en"}'');';

CREATE VIEW goya.asset_tags WITH (security_invoker = true) AS
    SELECT t.tag, count(*) AS count FROM goya.assets a CROSS JOIN LATERAL (SELECT DISTINCT unnest(a.tags) AS tag) t GROUP BY t.tag;
COMMENT ON VIEW goya.asset_tags IS 'Tags of the assets that the caller can see, and how many assets have each.';

CREATE FUNCTION goya.derivation_tree(asset_id uuid, OUT depth integer, OUT asset_id uuid, OUT parent_id uuid, OUT name text,
    OUT media_type text, OUT task_id uuid, OUT node text, OUT line text) RETURNS SETOF record
    LANGUAGE sql STABLE SECURITY DEFINER ROWS 100 SET search_path = pg_catalog, pg_temp AS $$
    -- One level per step. path orders depth first and stops at circles; stem is what stands to the left of a row's own branch.
    WITH RECURSIVE tree AS (
        SELECT 0 AS level, r AS asset, ARRAY[r.id] AS path, ''::text AS branch, ''::text AS stem
        FROM goya_private.find_asset(derivation_tree.asset_id, true) r
        UNION ALL
        SELECT t.level + 1, c, t.path || c.id,
               t.stem || CASE WHEN lead(c.id) OVER siblings IS NULL THEN '└─ ' ELSE '├─ ' END,
               t.stem || CASE WHEN lead(c.id) OVER siblings IS NULL THEN '   ' ELSE '│  ' END
        FROM tree t
        JOIN goya.assets c ON c.parent_id = (t.asset).id AND c.tenant_id = (t.asset).tenant_id AND c.id <> ALL (t.path)
                          AND ((c.tenant_id = goya.current_tenant() AND (c.visibility IN ('tenant', 'public')
                                OR goya_private.may_see(c.visibility, c.owner_role, c.visible_roles, c.created_by))) OR c.visibility = 'public')
        WHERE t.level < 100
        WINDOW siblings AS (PARTITION BY t.path ORDER BY c.id))
    SELECT t.level, (t.asset).id, (t.asset).parent_id, (t.asset).name, (t.asset).media_type, (t.asset).task_id, (t.asset).node,
           t.branch || coalesce(nullif((t.asset).name, ''), (t.asset).id::text) || ' · ' || (t.asset).media_type
               || coalesce(' ← ' || (t.asset).node, '')
    FROM tree t ORDER BY t.path
$$;
COMMENT ON FUNCTION goya.derivation_tree(uuid) IS
'Lists an asset and everything made from it, as a tree: depth 0 is the asset itself.
line is the tree drawn for psql; task_id and node tell what made each one. At most 100 generations.
Errors: PT404 unknown asset, 42501 no tenant.
Example: SELECT line FROM goya.derivation_tree(''…'');';
