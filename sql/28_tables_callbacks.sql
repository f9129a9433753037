-- 28_tables_callbacks.sql: tokens that http nodes with a callback gave to services.

CREATE TABLE goya_private.callbacks (
    token_hash  bytea PRIMARY KEY,                 -- the token itself is nowhere
    task_id     uuid NOT NULL,
    node        text COLLATE "C" NOT NULL,
    plan_node   integer NOT NULL,
    item        integer NOT NULL,
    attempt     smallint NOT NULL,
    expires_at  timestamptz NOT NULL,
    called_at   timestamptz,                       -- null: not yet
    failed      boolean NOT NULL DEFAULT false,
    payload     jsonb
);
CREATE INDEX callbacks_run_idx ON goya_private.callbacks (task_id, node, item, attempt);
CREATE INDEX callbacks_expires_idx ON goya_private.callbacks (expires_at);
