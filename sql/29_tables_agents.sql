-- 29_tables_agents.sql: sessions of agents, what was said in them, each call of a tool, and the policy that decides about those.
--
-- Decided: a session is one row and its messages are rows, only ever added, so that a step costs as much at the end as at the beginning. A call is kept
-- whatever came of it, with its arguments, their digest and who decided. Nothing here is on the path of a task without agents.
-- No foreign keys to tasks, as in 23_tables_tasks.sql.

CREATE TABLE goya.agent_sessions (
    task_id     uuid NOT NULL,
    node        text COLLATE "C" NOT NULL,         -- key of the agent
    tenant_id   uuid NOT NULL,
    workflow    text COLLATE "C" NOT NULL,         -- its name, for the policy
    run_as      text COLLATE "C" NOT NULL,
    status      text COLLATE "C" NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'succeeded', 'failed', 'cancelled')),
    stopped     text COLLATE "C" CHECK (stopped IN ('steps', 'tokens', 'cost', 'time', 'size', 'stop', 'error')),   -- why it ends, other than by an answer
    steps       integer NOT NULL DEFAULT 0,        -- calls of the model and of tools, those refused included
    tokens      bigint NOT NULL DEFAULT 0,
    cost        bigint NOT NULL DEFAULT 0,         -- nano-units, of the model's calls and the tools'
    bytes       bigint NOT NULL DEFAULT 0,         -- of its messages
    last_message text,
    budget      jsonb NOT NULL,                    -- {"steps", "tokens", "cost", "time"}
    settings    jsonb NOT NULL,                    -- tools, on_budget, on_error, max_result, verify, parse
    next_item   integer NOT NULL DEFAULT 0,        -- number of its next call
    open_item   integer,                           -- the call of the model, or check of the answer, that runs
    stop        boolean NOT NULL DEFAULT false,    -- goya.stop_agent was called
    reply       jsonb,                             -- the model's answer that is being checked, or the last one
    error       jsonb,
    deadline    timestamptz,
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    PRIMARY KEY (task_id, node)
) WITH (fillfactor = 50);
COMMENT ON TABLE goya.agent_sessions IS 'Sessions of agents: what each has used of its budget, how it stands, the last thing said.';
CREATE INDEX agent_sessions_tenant_idx ON goya.agent_sessions (tenant_id, task_id);

CREATE TABLE goya.agent_messages (
    task_id     uuid NOT NULL,
    node        text COLLATE "C" NOT NULL,
    seq         integer NOT NULL,
    tenant_id   uuid NOT NULL,
    role        text COLLATE "C" NOT NULL,         -- system, user, assistant, tool
    message     jsonb NOT NULL,                    -- as the model is sent it
    item        integer,                           -- the call that it came of: of the model, or of a tool
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (task_id, node, seq)
);
COMMENT ON TABLE goya.agent_messages IS 'What was said in sessions of agents, in order: instructions, answers of the model, results of tools.';

CREATE TABLE goya.tool_policies (
    id          uuid PRIMARY KEY DEFAULT goya.new_id(),
    tenant_id   uuid NOT NULL REFERENCES goya.tenants (id),
    name        text COLLATE "C" NOT NULL,
    precedence  integer NOT NULL DEFAULT 100,      -- lower first; the first that matches decides
    operator    text COLLATE "C" NOT NULL DEFAULT '*',   -- patterns: * any text, ? one character
    workflow    text COLLATE "C" NOT NULL DEFAULT '*',
    agent       text COLLATE "C" NOT NULL DEFAULT '*',
    condition   text,                              -- SQL/JSON path over the arguments
    decision    text COLLATE "C" NOT NULL CHECK (decision IN ('allow', 'approve', 'deny')),
    risk        text COLLATE "C" NOT NULL DEFAULT 'low' CHECK (risk IN ('low', 'medium', 'high', 'critical')),
    data_access text COLLATE "C" NOT NULL DEFAULT 'none' CHECK (data_access IN ('none', 'read', 'write', 'external')),
    permissions name[] NOT NULL DEFAULT '{}',      -- roles that the task's owner must be a member of
    max_calls   integer CHECK (max_calls >= 0),    -- of the operator, in one session
    reason      text NOT NULL DEFAULT '',          -- told to who approves, and to the model when denied
    row_version integer NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, name)
);
COMMENT ON TABLE goya.tool_policies IS 'Which calls of tools agents may make: allowed, denied or asked about, by operator, workflow, agent and arguments.';

CREATE TABLE goya.tool_calls (
    task_id     uuid NOT NULL,
    node        text COLLATE "C" NOT NULL,         -- key of the agent
    item        integer NOT NULL,                  -- number of the call in its session; its node run is <node>.<tool>, of this item
    tenant_id   uuid NOT NULL,
    call_id     text,                              -- what the model calls it
    tool        text COLLATE "C" NOT NULL,         -- as the model named it
    operator    text COLLATE "C",                  -- null: a node written in the agent, or no such tool
    version     integer,
    arguments   jsonb NOT NULL,
    digest      text COLLATE "C" NOT NULL,         -- sha256 of tool, version and arguments: what an approval is for
    decision    text COLLATE "C" NOT NULL CHECK (decision IN ('allow', 'approve', 'deny', 'invalid')),
    policy      text COLLATE "C",                  -- name of the policy that decided; null: none did
    risk        text COLLATE "C" NOT NULL DEFAULT 'low',
    data_access text COLLATE "C" NOT NULL DEFAULT 'none',
    status      text COLLATE "C" NOT NULL CHECK (status IN ('asking', 'running', 'succeeded', 'failed', 'denied', 'rejected', 'expired', 'invalid', 'cancelled')),
    approved_digest text COLLATE "C",              -- what a person said yes to
    decided_by  text,
    class       text COLLATE "C",                  -- of the error
    result      text,                              -- what the model was told
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    decided_at  timestamptz,
    finished_at timestamptz,
    PRIMARY KEY (task_id, node, item)
) WITH (fillfactor = 70);
COMMENT ON TABLE goya.tool_calls IS 'Every call of a tool that an agent asked for: arguments and their digest, what was decided by which policy and whom, what came of it.';
CREATE INDEX tool_calls_tenant_idx ON goya.tool_calls (tenant_id, task_id);
