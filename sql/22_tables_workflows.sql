-- 22_tables_workflows.sql: operators, workflows, revisions, triggers.

CREATE TABLE goya.operators (
    id          uuid PRIMARY KEY DEFAULT goya.new_id(),
    tenant_id   uuid NOT NULL,
    name        text NOT NULL CHECK (name ~ '^[A-Za-z][A-Za-z0-9_.-]{0,62}$'),
    category    text NOT NULL DEFAULT 'processing' CHECK (category IN ('analysis', 'processing', 'generation', 'utility')),
    kind        text NOT NULL DEFAULT 'operator' CHECK (kind IN ('operator', 'skill')),
    type        text NOT NULL DEFAULT '',          -- the job it does, in the tenant's own words
    origin      text NOT NULL DEFAULT 'custom' CHECK (origin IN ('builtin', 'custom', 'template', 'mcp', 'import')),
    tags        text[] NOT NULL DEFAULT '{}',
    description text NOT NULL DEFAULT '',
    status      text NOT NULL DEFAULT 'published' CHECK (status IN ('draft', 'testing', 'published', 'deprecated', 'archived')),  -- of the active version, else of the newest
    active_version integer,
    former_versions integer[] NOT NULL DEFAULT '{}',   -- those active before, the last one last: where rolling back goes
    visibility  goya.visibility NOT NULL DEFAULT 'tenant',
    owner_role  name NOT NULL DEFAULT current_user,
    row_version integer NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, name)
);
COMMENT ON TABLE goya.operators IS 'Named capabilities that nodes use: kind of execution, configuration and schemas live in their versions.';

CREATE TABLE goya.operator_versions (
    operator_id uuid NOT NULL REFERENCES goya.operators (id) ON DELETE CASCADE,
    version     integer NOT NULL,
    tenant_id   uuid NOT NULL,
    mode        text NOT NULL CHECK (mode IN ('sql', 'http', 'ai_model', 'mcp', 'cli', 'worker')),
    config      jsonb NOT NULL,                    -- as the node of that kind, without key and input: {"function": …}, {"method", "url", …}, {"model": …}
    input_schema  jsonb NOT NULL DEFAULT '{}',
    output_schema jsonb NOT NULL DEFAULT '{}',
    idempotent  boolean NOT NULL DEFAULT true,     -- may be called again when the outcome of a call is unknown
    status      text NOT NULL DEFAULT 'published' CHECK (status IN ('draft', 'testing', 'published', 'deprecated', 'archived')),
    created_at  timestamptz NOT NULL DEFAULT now(),
    published_at timestamptz,
    PRIMARY KEY (operator_id, version)
);
COMMENT ON TABLE goya.operator_versions IS 'Versions of operators; one is active, and a published workflow revision keeps the one it was published with.';

-- By name: what an operator depends on may come later than it, but not later than its publishing.
CREATE TABLE goya.operator_dependencies (
    operator_id uuid NOT NULL REFERENCES goya.operators (id) ON DELETE CASCADE,
    depends_on  text NOT NULL,                     -- name of an operator of the tenant
    version     integer CHECK (version > 0),       -- this one, published; null: any published one
    tenant_id   uuid NOT NULL,
    PRIMARY KEY (operator_id, depends_on)
);
COMMENT ON TABLE goya.operator_dependencies IS 'Which operators an operator needs; without them none of its versions is published.';

CREATE TABLE goya.workflows (
    id          uuid PRIMARY KEY DEFAULT goya.new_id(),
    tenant_id   uuid NOT NULL,
    name        text NOT NULL,
    description text NOT NULL DEFAULT '',
    tags        text[] NOT NULL DEFAULT '{}',
    enabled     boolean NOT NULL DEFAULT true,
    draft       jsonb,                             -- what is being edited; publishing makes a revision of it
    revision    integer,                           -- the active revision; null until published
    visibility  goya.visibility NOT NULL DEFAULT 'tenant',
    visible_roles name[] NOT NULL DEFAULT '{}',
    owner_role  name NOT NULL DEFAULT current_user,
    row_version integer NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    stands_for  text CHECK (stands_for IN ('trial', 'implementation')),     -- one node that runs an operator: goya's own, hidden from people
    UNIQUE (tenant_id, name),
    CHECK (CASE WHEN stands_for IS NULL THEN name ~ '^[A-Za-z0-9][A-Za-z0-9_. -]{0,126}$' ELSE name LIKE '~%' AND NOT enabled END)
);
COMMENT ON TABLE goya.workflows IS 'Workflows: a draft being edited and the active revision that run uses. Those with stands_for are goya''s own: trials and implementations of operators.';

CREATE TABLE goya.workflow_revisions (
    workflow_id uuid NOT NULL REFERENCES goya.workflows (id) ON DELETE CASCADE,
    revision    integer NOT NULL,
    tenant_id   uuid NOT NULL,
    definition  jsonb NOT NULL,                    -- as published
    resolved    jsonb NOT NULL,                    -- the same with operators replaced by their pinned versions: what the engine compiles
    note        text NOT NULL DEFAULT '',
    published_by name NOT NULL DEFAULT current_user,
    published_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workflow_id, revision)
);
COMMENT ON TABLE goya.workflow_revisions IS 'Immutable published definitions; a task keeps the revision it started with.';

CREATE TABLE goya.triggers (
    id          uuid PRIMARY KEY DEFAULT goya.new_id(),
    tenant_id   uuid NOT NULL,
    workflow_id uuid NOT NULL REFERENCES goya.workflows (id) ON DELETE CASCADE,
    name        text NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('cron', 'interval', 'event', 'notify')),
    schedule    text,                              -- cron: five fields as pg_cron takes them
    every       interval CHECK (every >= interval '1 second'),
    event       text,                              -- event: asset_new, asset_done, task_completed …
    channel     text,                              -- notify: channel an application notifies
    filter      jsonpath,                          -- predicate over {"event": {…}, "asset": {…}} (or {"payload": …})
    input       jsonb NOT NULL DEFAULT '{}',       -- task input; templates over event, asset, payload, slot
    priority    smallint NOT NULL DEFAULT 0,
    missed      text NOT NULL DEFAULT 'skip' CHECK (missed IN ('skip', 'once', 'all')),
    allow_own_output boolean NOT NULL DEFAULT false,   -- may an asset made by this workflow trigger it again
    max_depth   smallint NOT NULL DEFAULT 8,
    enabled     boolean NOT NULL DEFAULT false,
    run_as      name NOT NULL DEFAULT current_user,    -- the role that enabled it
    cron_job_id bigint,
    last_slot   timestamptz,                       -- cron, interval: the newest slot that was handled
    next_due    timestamptz,                       -- interval: the next slot
    created_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (workflow_id, name),
    CHECK (CASE kind WHEN 'cron' THEN schedule IS NOT NULL WHEN 'interval' THEN every IS NOT NULL
                     WHEN 'event' THEN event IS NOT NULL ELSE channel IS NOT NULL END)
);
COMMENT ON TABLE goya.triggers IS 'What starts a workflow by itself: cron schedules, intervals, events, NOTIFY channels.';
CREATE INDEX triggers_event_idx ON goya.triggers (tenant_id, event) WHERE enabled AND kind = 'event';
CREATE INDEX triggers_due_idx ON goya.triggers (next_due) WHERE enabled AND kind = 'interval';

-- One row per slot that was turned into a task: two schedulers or a restart make one task.
CREATE TABLE goya_private.trigger_slots (
    trigger_id  uuid NOT NULL,
    slot        text NOT NULL,                     -- due time, or event:<event id>
    task_id     uuid,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (trigger_id, slot)
);
