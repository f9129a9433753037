-- 23_tables_tasks.sql: tasks, node runs, events of tasks, artifacts, context, and the engine's queue and counters.
--
-- Hot tables. No foreign keys to tasks, tenants or wallets (they would take multixacts); no index on a column that changes
-- while a task runs, and room on a page of tasks for a second version of each, so that updates stay HOT: else every end of a task pays
-- for an entry in each index. Ids of tasks are UUIDv7: joins and pruning go by (task_id, …).

CREATE TABLE goya.tasks (
    id          uuid PRIMARY KEY,
    tenant_id   uuid NOT NULL,
    workflow_id uuid NOT NULL,
    revision    integer NOT NULL,
    status      goya.task_status NOT NULL DEFAULT 'pending',
    run_as      text COLLATE "C" NOT NULL,         -- the role its SQL runs as
    created_by  text,                              -- the front end's user, from the verified claims
    priority    smallint NOT NULL DEFAULT 0,       -- -100 … 100, higher first
    depth       smallint NOT NULL DEFAULT 0,
    paused      boolean NOT NULL DEFAULT false,
    failing     boolean NOT NULL DEFAULT false,    -- its error is set; compensations are running
    active      integer NOT NULL DEFAULT 0,        -- node runs ready, running or waiting; 0 = nothing left to do
    waiting     integer NOT NULL DEFAULT 0,        -- … of them waiting for a signal, approval, timer or child
    done_nodes  integer NOT NULL DEFAULT 0,
    last_seq    integer NOT NULL DEFAULT 1,        -- sequence of its newest event
    started_seq integer,
    finished_seq integer,
    progress    real NOT NULL DEFAULT 0,           -- percent; keeps its last true value on failure
    message     text,
    input       jsonb NOT NULL DEFAULT '{}',
    output      jsonb,
    error       jsonb,                             -- {"code","class","message","detail","hint","node","item","attempt"}
    asset_id    uuid,
    parent_task_id uuid,                           -- the task that started it (workflow node), or that it retries
    parent_node integer,                           -- node of the parent that waits for it; null for a retry
    parent_item integer,
    trigger_id  uuid,
    trigger     jsonb,                             -- what the trigger saw: {"kind","slot","event"…}
    trace_id    text COLLATE "C" NOT NULL,
    idempotency_key text,
    max_cost    bigint,                            -- nano-units of the wallet's currency
    hold_id     uuid,
    run_at      timestamptz,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at  timestamptz,
    finished_at timestamptz
) WITH (fillfactor = 45, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);
COMMENT ON TABLE goya.tasks IS 'Runs of workflows: input, output, status, error. One row per run; terminal status never changes.';
CREATE INDEX tasks_tenant_idx ON goya.tasks (tenant_id, id);
CREATE INDEX tasks_workflow_idx ON goya.tasks (workflow_id, id);
CREATE INDEX tasks_parent_idx ON goya.tasks (parent_task_id) WHERE parent_task_id IS NOT NULL;
CREATE INDEX tasks_asset_idx ON goya.tasks (asset_id) WHERE asset_id IS NOT NULL;
CREATE INDEX tasks_trace_idx ON goya.tasks (trace_id, id) WHERE trace_id <> id::text;    -- most are a trace of their own

CREATE TABLE goya.node_runs (
    task_id     uuid NOT NULL,
    node        text COLLATE "C" NOT NULL,         -- key of the node; of a map's body: its own key, item = index
    item        integer NOT NULL DEFAULT 0,
    attempt     smallint NOT NULL DEFAULT 1,
    tenant_id   uuid NOT NULL,
    status      goya.node_run_status NOT NULL,
    seq         integer NOT NULL,                  -- sequence, within the task, of its newest event
    started_seq integer,                           -- of the event that it started waiting or running, if that was seen apart
    epoch       integer,                           -- claim of an outside call: the engine start that made it
    progress    real,
    message     text,                              -- "will retry 1/3" while retrying
    input       jsonb,
    output      jsonb,
    error       jsonb,
    cost        bigint,                            -- nano-units captured for it
    started_at  timestamptz,
    finished_at timestamptz,
    PRIMARY KEY (task_id, node, item, attempt)
) WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX node_runs_running_idx ON goya.node_runs (epoch) WHERE status = 'running';      -- outside calls in flight
COMMENT ON TABLE goya.node_runs IS 'One row per attempt of a node in a task: status, input, output, error, times, cost.';

-- Events that are not a change of a task's or node run's own row (retry hints, progress, signals, pauses).
CREATE TABLE goya_private.task_log (
    task_id     uuid NOT NULL,
    seq         integer NOT NULL,
    tenant_id   uuid NOT NULL,
    type        text NOT NULL,
    node        text COLLATE "C",
    item        integer,
    attempt     smallint,
    data        jsonb,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (task_id, seq)
);

CREATE TABLE goya.artifacts (
    id          uuid PRIMARY KEY DEFAULT goya.new_id(),
    tenant_id   uuid NOT NULL,
    task_id     uuid NOT NULL,
    node        text COLLATE "C" NOT NULL,
    item        integer NOT NULL DEFAULT 0,
    type        goya.artifact_type NOT NULL,
    name        text NOT NULL DEFAULT '',
    data        jsonb NOT NULL DEFAULT '{}',
    asset_id    uuid,                              -- type asset: the child asset
    maturity    text NOT NULL DEFAULT 'draft' CHECK (maturity IN ('draft', 'review', 'locked')),
    row_version integer NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE goya.artifacts IS 'What tasks leave: child assets, results, timelines, reports, by task and node.';
CREATE INDEX artifacts_task_idx ON goya.artifacts (task_id);
CREATE INDEX artifacts_tenant_idx ON goya.artifacts (tenant_id, id);

CREATE TABLE goya.approvals (
    task_id     uuid NOT NULL,
    node        text COLLATE "C" NOT NULL,
    item        integer NOT NULL DEFAULT 0,
    attempt     smallint NOT NULL DEFAULT 1,
    tenant_id   uuid NOT NULL,
    message     text NOT NULL DEFAULT '',
    form        jsonb NOT NULL DEFAULT '{}',       -- JSON Schema of what the approver fills in
    status      text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'approved', 'rejected', 'expired', 'cancelled')),
    response    jsonb,                             -- the form as filled in
    decided_by  text,
    requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    decided_at  timestamptz,
    PRIMARY KEY (task_id, node, item, attempt)
);
COMMENT ON TABLE goya.approvals IS 'Questions to people: approval nodes with their form and the answer.';
CREATE INDEX approvals_tenant_idx ON goya.approvals (tenant_id, task_id) WHERE status = 'pending';

-- Context of a task: variables and shared keys, as patches with a snapshot every 20 versions.
CREATE TABLE goya.task_contexts (
    task_id     uuid PRIMARY KEY,
    tenant_id   uuid NOT NULL,
    version     integer NOT NULL DEFAULT 0,
    state       jsonb NOT NULL                     -- {"vars": {…}, "shared": {…}}
) WITH (fillfactor = 70);
COMMENT ON TABLE goya.task_contexts IS 'Current context (vars, shared keys) of tasks whose workflow declares one.';
CREATE TABLE goya.context_patches (
    task_id     uuid NOT NULL,
    version     integer NOT NULL,                  -- the version this patch makes
    tenant_id   uuid NOT NULL,
    node        text COLLATE "C",                  -- who wrote it; null: from outside
    item        integer,
    diff        jsonb NOT NULL,                    -- {"set": {"shared": {…}, "vars": {…}}, "unset": ["shared.k", …]}
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (task_id, version)
);
COMMENT ON TABLE goya.context_patches IS 'Every change of a task''s context, in order.';
CREATE TABLE goya.context_snapshots (
    task_id     uuid NOT NULL,
    version     integer NOT NULL,
    tenant_id   uuid NOT NULL,
    state       jsonb NOT NULL,
    PRIMARY KEY (task_id, version)
);
COMMENT ON TABLE goya.context_snapshots IS 'Whole context states, every 20 versions.';

-- The queue: rows deleted when done. verb says what to do with the node: see src/README.md.
CREATE TABLE goya_private.ready (
    rank        bigint NOT NULL,                   -- fair order: priority above start-time fair queueing per tenant
    lane        smallint NOT NULL,                 -- 0 executors, 1 engine (outside calls), 2 wake-ups (verb > 0), 3 executors, alone; 4 executors, latecomers; 5 engine, calls of tenants that had their share
    verb        smallint NOT NULL,                 -- 0 run, 1 timer, 2 signal, 3 child done, 4 decision
    task_id     uuid NOT NULL,
    node        integer NOT NULL,                  -- index in the plan of the task's revision; -1: the task itself (run: all roots)
    item        integer NOT NULL,
    attempt     smallint NOT NULL,
    tries       smallint NOT NULL DEFAULT 0        -- claims that came to nothing: the process died, or others were in the way;
                                                   -- and a hundred for each time it was put aside because its task was locked
) WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX ready_rank_idx ON goya_private.ready (lane, rank);

CREATE TABLE goya_private.parked (LIKE goya_private.ready);       -- ready rows of paused tasks
CREATE INDEX parked_task_idx ON goya_private.parked (task_id);

-- Nodes that ran when their process died, of open tasks: see src/crashes.c.
CREATE TABLE goya_private.crashes (
    task_id     uuid NOT NULL,
    node        integer NOT NULL,                  -- index in the plan, as in ready
    item        integer NOT NULL,
    crashes     integer NOT NULL DEFAULT 1,
    signal      integer NOT NULL,                  -- of the last one; 0 unknown, -1 the process ended itself, -2 goya ended it
    last_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (task_id, node, item)
);

CREATE TABLE goya_private.timers (
    due         timestamptz NOT NULL,
    verb        smallint NOT NULL,                 -- 0: becomes a run (retry, run_at); 1: wakes a waiting node run; any: put aside (tries >= 100)
    task_id     uuid NOT NULL,
    node        integer NOT NULL,
    item        integer NOT NULL,
    attempt     smallint NOT NULL,
    rank        bigint NOT NULL,
    lane        smallint NOT NULL,
    tries       smallint NOT NULL DEFAULT 0        -- as in ready
);
CREATE INDEX timers_due_idx ON goya_private.timers (due);

-- What a node with several incoming edges, or a map, still waits for.
CREATE TABLE goya_private.joins (
    task_id     uuid NOT NULL,
    node        integer NOT NULL,
    fired       integer NOT NULL DEFAULT 0,
    dead        integer NOT NULL DEFAULT 0,
    failed      integer NOT NULL DEFAULT 0,        -- dead because the source failed
    started     boolean NOT NULL DEFAULT false,    -- join any: it has run
    PRIMARY KEY (task_id, node)
) WITH (fillfactor = 50);
CREATE TABLE goya_private.maps (
    task_id     uuid NOT NULL,
    node        integer NOT NULL,                  -- the map node
    total       integer NOT NULL,
    next_item   integer NOT NULL,                  -- items below it were handed out
    done        integer NOT NULL DEFAULT 0,
    failed      integer NOT NULL DEFAULT 0,
    PRIMARY KEY (task_id, node)
) WITH (fillfactor = 50);

CREATE TABLE goya_private.signals (
    id          uuid PRIMARY KEY DEFAULT goya.new_id(),
    task_id     uuid NOT NULL,
    name        text NOT NULL,
    payload     jsonb NOT NULL DEFAULT '{}',
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    consumed_by text                               -- node/item/attempt that took it
);
CREATE INDEX signals_task_idx ON goya_private.signals (task_id, name) WHERE consumed_by IS NULL;

-- Those of goya are written under the lock of the parent's row, and conflict with none that a client has not committed yet.
CREATE TABLE goya_private.cancel_requests (
    task_id     uuid NOT NULL,
    by_goya     boolean NOT NULL DEFAULT false,    -- because the parent ended
    reason      text,
    requested_by text,
    requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (task_id, by_goya)
);

CREATE TABLE goya_private.idempotency_keys (
    tenant_id   uuid NOT NULL,
    key         text NOT NULL,
    request_hash bytea NOT NULL,
    task_id     uuid NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, key)
);

-- One row per copy of this database that an engine was started in. epoch counts those starts and fences claims. A row of another
-- copy (dump and restore, file copy) pauses everything until goya.adopt_copy() says go: a clone must not send or charge.
CREATE TABLE goya_private.engine (
    system_id   text PRIMARY KEY,                  -- system identifier of the cluster and oid of the database
    epoch       integer NOT NULL DEFAULT 0,
    started_at  timestamptz,
    adopted     boolean NOT NULL DEFAULT false     -- a row of another copy: looked at and accepted
);
