-- 27_tables_work.sql: work that waits for outside workers, and the programs that cli nodes may run.
--
-- Decided: a row of work is there from the moment a worker node waits until its run has ended; what comes of it is in the node run. token is the
-- present lease: whoever cannot name it changes nothing. Rows are locked by clients in transactions of any length, so goya's processes never
-- wait for them: they skip what is locked, and what is left behind is swept by the next claim.

CREATE TABLE goya_private.work (
    task_id     uuid NOT NULL,
    node        text COLLATE "C" NOT NULL,
    item        integer NOT NULL,
    attempt     smallint NOT NULL,
    plan_node   integer NOT NULL,                  -- its index in the plan, for the queue
    tenant_id   uuid NOT NULL,
    priority    smallint NOT NULL,
    queue       text COLLATE "C" NOT NULL,
    rank        bigint NOT NULL,                   -- as in ready: what is claimed first
    lease_ms    bigint NOT NULL,                   -- unless the claim says otherwise
    max_claims  integer NOT NULL,
    claims      integer NOT NULL DEFAULT 0,
    token       uuid UNIQUE,                       -- null: open
    worker      text,
    claimed_at  timestamptz,
    lease       interval,
    lease_until timestamptz,
    heartbeat_at timestamptz,
    progress    real,
    message     text,
    result      jsonb,                             -- {"output", "usage"} or {"error", "retry", "retry_after_ms"}: waits for an executor
    offered_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (task_id, node, item, attempt)
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);
CREATE INDEX work_queue_idx ON goya_private.work (tenant_id, queue, rank);

CREATE TABLE goya_private.programs (
    name        text COLLATE "C" PRIMARY KEY,
    path        text NOT NULL,
    arguments   text[] NOT NULL,                   -- templates: each becomes one argument
    tenants     uuid[],                            -- who may use it; null: all
    description text NOT NULL,
    timeout_ms  bigint NOT NULL,
    memory_kb   bigint,                            -- limits: null is none
    cpu_s       bigint,
    file_kb     bigint,
    processes   integer,
    output_kb   integer NOT NULL,
    environment text[] NOT NULL,
    os_user     text,
    progress_pattern text,
    created_at  timestamptz NOT NULL DEFAULT now()
);
