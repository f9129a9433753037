-- 21_tables_assets.sql: assets and the domain events their changes publish.

CREATE TABLE goya.assets (
    id          uuid PRIMARY KEY DEFAULT goya.new_id(),
    tenant_id   uuid NOT NULL,                     -- default set by trigger-free column default in 30_tenancy.sql
    name        text NOT NULL DEFAULT '',
    media_type  text NOT NULL DEFAULT 'data' CHECK (media_type IN ('video', 'image', 'audio', 'text', 'document', 'stream', 'data')),
    mime_type   text,
    uri         text,                              -- where the bytes are: file, http(s), s3 …
    content     bytea CHECK (octet_length(content) <= 1048576),   -- small bytes inline
    source      text NOT NULL DEFAULT 'upload' CHECK (source IN ('upload', 'url', 'stream', 'generated', 'operator')),
    status      text NOT NULL DEFAULT 'new' CHECK (status IN ('new', 'processing', 'ready', 'failed', 'archived')),
    sha256      text CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    size_bytes  bigint CHECK (size_bytes >= 0),
    duration    double precision CHECK (duration >= 0),           -- seconds
    format      text,
    metadata    jsonb NOT NULL DEFAULT '{}',
    tags        text[] NOT NULL DEFAULT '{}',
    visibility  goya.visibility NOT NULL DEFAULT 'tenant',
    visible_roles name[] NOT NULL DEFAULT '{}',
    owner_role  name NOT NULL DEFAULT current_user,
    created_by  text,
    parent_id   uuid,                              -- derivation: the asset this one was made from
    task_id     uuid,                              -- … by this task and node run
    node        text,
    item        integer,
    depth       smallint NOT NULL DEFAULT 0,       -- generations of event-triggered tasks behind it
    row_version integer NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE goya.assets IS 'Media and data that workflows work on. INSERT publishes asset_new; status becoming ready publishes asset_done.';
CREATE INDEX assets_tenant_idx ON goya.assets (tenant_id, id);
CREATE INDEX assets_parent_idx ON goya.assets (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX assets_task_idx ON goya.assets (task_id) WHERE task_id IS NOT NULL;
CREATE INDEX assets_metadata_idx ON goya.assets USING gin (metadata jsonb_path_ops);
CREATE INDEX assets_tags_idx ON goya.assets USING gin (tags);

CREATE TABLE goya.events (
    id          uuid NOT NULL DEFAULT goya.new_id(),
    tenant_id   uuid NOT NULL,
    type        text NOT NULL,                     -- asset_new, asset_done, task_completed, workflow_published …
    subject_id  uuid,                              -- asset, task or workflow
    data        jsonb NOT NULL DEFAULT '{}',
    task_id     uuid,                              -- the task whose output caused it, if any
    depth       smallint NOT NULL DEFAULT 0,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, id)                    -- the only index: every insert of an asset and every end of a task pays for it
);
COMMENT ON TABLE goya.events IS 'Domain events, append-only, each published exactly once in the transaction that caused it.';

-- Events some enabled trigger wants, until the engine has turned them into tasks.
CREATE TABLE goya_private.event_queue (
    event_id    uuid PRIMARY KEY,
    tenant_id   uuid NOT NULL
);
