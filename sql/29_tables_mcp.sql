-- 29_tables_mcp.sql: MCP servers, what tools they were seen to have, and the calls made of them.

CREATE TABLE goya.mcp_servers (
    id          uuid PRIMARY KEY DEFAULT goya.new_id(),
    tenant_id   uuid NOT NULL,
    name        text NOT NULL CHECK (name ~ '^[A-Za-z][A-Za-z0-9_.-]{0,62}$'),
    description text NOT NULL DEFAULT '',
    url         text NOT NULL CHECK (url ~ '^https?://[^\s]+$' AND length(url) <= 2000),
    headers     jsonb NOT NULL DEFAULT '{}',       -- sent with every request; no secrets, everybody of the tenant sees them
    auth        jsonb NOT NULL DEFAULT '{}',       -- {"type": "bearer" | "basic" | "api_key", "secret": name, "username", "name"}
    protocol    text NOT NULL DEFAULT 'auto' CHECK (protocol IN ('auto', '2025-11-25', '2026-07-28')),     -- what is to be spoken
    timeout     interval CHECK (timeout > interval '0'),       -- of a call, where its node has none; null: goya.http_timeout
    max_concurrency integer CHECK (max_concurrency > 0),       -- calls at once; null: any number
    trusted     boolean NOT NULL DEFAULT true,     -- its annotations say which tools may run twice
    enabled     boolean NOT NULL DEFAULT true,
    revision    integer NOT NULL DEFAULT 1,        -- of the configuration: a new one ends the session
    status      text NOT NULL DEFAULT 'new' CHECK (status IN ('new', 'ready', 'failing')),     -- how the last call went
    protocol_version text,                         -- spoken at the last call
    capabilities jsonb,
    server_info jsonb,
    last_synced_at timestamptz,
    created_by  name NOT NULL DEFAULT current_user,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, name)
);
COMMENT ON TABLE goya.mcp_servers IS 'Servers of the Model Context Protocol that nodes of kind mcp call; goya.create_mcp_server registers one.';

CREATE TABLE goya.mcp_tools (
    server_id   uuid NOT NULL REFERENCES goya.mcp_servers (id) ON DELETE CASCADE,
    name        text COLLATE "C" NOT NULL,
    tenant_id   uuid NOT NULL,
    server      text NOT NULL,                     -- its name
    title       text,
    description text NOT NULL DEFAULT '',
    input_schema jsonb NOT NULL DEFAULT '{}',
    output_schema jsonb,
    annotations jsonb NOT NULL DEFAULT '{}',       -- what the server says of it: readOnlyHint, idempotentHint, destructiveHint, …
    hash        text NOT NULL,                     -- of schemas and annotations
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    last_seen_at timestamptz NOT NULL DEFAULT now(),
    changed_at  timestamptz NOT NULL DEFAULT now(),    -- the hash
    removed_at  timestamptz,                       -- the server no longer lists it
    PRIMARY KEY (server_id, name)
);
COMMENT ON TABLE goya.mcp_tools IS 'Tools of MCP servers as they were last listed; goya.sync_mcp_server asks, goya.install_mcp_tool makes an operator of one.';
CREATE INDEX mcp_tools_tenant_idx ON goya.mcp_tools (tenant_id);

CREATE TABLE goya.mcp_calls (
    task_id     uuid NOT NULL,
    node        text COLLATE "C" NOT NULL,
    item        integer NOT NULL,
    attempt     smallint NOT NULL,
    tenant_id   uuid NOT NULL,
    server_id   uuid NOT NULL,
    server      text NOT NULL,
    tool        text NOT NULL,                     -- "*": its tools were listed
    protocol_version text,
    session_hash text,                             -- tells sessions apart and says nothing else of them; null: none
    requests    integer NOT NULL,                  -- made for it, sessions included
    resumed     integer NOT NULL,                  -- how often a stream that had ended was taken up again
    progress    integer NOT NULL,                  -- notifications of progress
    asked       integer NOT NULL,                  -- questions of the server, which were declined
    message     text,                              -- of the last progress
    succeeded   boolean NOT NULL,
    error_class text,
    started_at  timestamptz NOT NULL,
    finished_at timestamptz NOT NULL,
    PRIMARY KEY (task_id, node, item, attempt)
);
COMMENT ON TABLE goya.mcp_calls IS
'One row per call of an MCP tool that was recorded: server, tool, protocol and session; input, output and error are in goya.node_runs.';
CREATE INDEX mcp_calls_tenant_idx ON goya.mcp_calls (tenant_id, started_at);
