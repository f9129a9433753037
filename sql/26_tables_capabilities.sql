-- 26_tables_capabilities.sql: templates of operators, kinds of nodes, algorithms, models, prompts.
--
-- Rows, not code: adding one changes what workflows published from then on may use, and nothing restarts. They name each other
-- by name, within the tenant; goya.check() looks for names that lead nowhere. No foreign keys between them, so that a dump's tables may be loaded
-- in any order.

CREATE TABLE goya.operator_templates (
    id          uuid PRIMARY KEY DEFAULT goya.new_id(),
    tenant_id   uuid,                              -- null: for every tenant
    name        text NOT NULL CHECK (name ~ '^[A-Za-z][A-Za-z0-9_.-]{0,62}$'),
    origin      text NOT NULL DEFAULT 'custom' CHECK (origin IN ('builtin', 'custom')),
    description text NOT NULL DEFAULT '',
    category    text NOT NULL DEFAULT 'processing' CHECK (category IN ('analysis', 'processing', 'generation', 'utility')),
    kind        text NOT NULL DEFAULT 'operator' CHECK (kind IN ('operator', 'skill')),
    mode        text NOT NULL CHECK (mode IN ('sql', 'http', 'ai_model', 'mcp', 'cli', 'worker')),
    config      jsonb NOT NULL,                    -- with "${parameter}" where a parameter belongs
    input_schema  jsonb NOT NULL DEFAULT '{}',
    output_schema jsonb NOT NULL DEFAULT '{}',
    parameters  jsonb NOT NULL DEFAULT '{}',       -- JSON Schema of the parameters, an object; "default" is honoured
    idempotent  boolean NOT NULL DEFAULT true,
    created_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE NULLS NOT DISTINCT (tenant_id, name)
);
COMMENT ON TABLE goya.operator_templates IS 'What goya.install_template makes operators of; goya''s own and those of administrators.';

CREATE TABLE goya.node_kinds (
    id          uuid PRIMARY KEY DEFAULT goya.new_id(),
    tenant_id   uuid NOT NULL,
    name        text NOT NULL CHECK (name ~ '^[a-z][a-z0-9_]{0,62}$'),
    function    text NOT NULL,                     -- schema.f, called with {"config": the node's fields, "input": the node's input}
    schema      jsonb NOT NULL DEFAULT '{}',       -- JSON Schema of the fields, as an object
    description text NOT NULL DEFAULT '',
    owner_role  name NOT NULL DEFAULT current_user,
    row_version integer NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, name)
);
COMMENT ON TABLE goya.node_kinds IS 'Kinds of nodes of a tenant''s own: a name, the function that runs them, and what fields they have.';

-- ---- algorithms ----

CREATE TABLE goya.algorithms (
    id          uuid PRIMARY KEY DEFAULT goya.new_id(),
    tenant_id   uuid NOT NULL,
    name        text NOT NULL CHECK (name ~ '^[A-Za-z][A-Za-z0-9_.-]{0,62}$'),     -- the intent: detect.people
    description text NOT NULL DEFAULT '',
    policy      text NOT NULL DEFAULT 'stable' CHECK (policy IN ('stable', 'high_quality', 'low_cost')),    -- of nodes that say none
    active_version integer NOT NULL DEFAULT 1,
    owner_role  name NOT NULL DEFAULT current_user,
    row_version integer NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, name)
);
COMMENT ON TABLE goya.algorithms IS 'Intents above operators ("detect.people"): what is wanted; implementations say how it can be had.';

CREATE TABLE goya.algorithm_versions (
    tenant_id   uuid NOT NULL,
    algorithm   text NOT NULL,
    version     integer NOT NULL,
    input_schema  jsonb NOT NULL DEFAULT '{}',     -- what every implementation takes …
    output_schema jsonb NOT NULL DEFAULT '{}',     -- … and gives
    note        text NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, algorithm, version)
);
COMMENT ON TABLE goya.algorithm_versions IS 'Versions of an algorithm: the contract its implementations keep.';

CREATE TABLE goya.algorithm_implementations (
    tenant_id   uuid NOT NULL,
    algorithm   text NOT NULL,
    version     integer NOT NULL,
    operator    text NOT NULL,
    operator_version integer NOT NULL,
    tier        text NOT NULL DEFAULT 'standard',  -- standard, premium …: a node may ask for one
    cost        bigint NOT NULL DEFAULT 0 CHECK (cost >= 0),               -- as declared: nano-units for a call …
    latency_ms  integer NOT NULL DEFAULT 0 CHECK (latency_ms >= 0),        -- … how long it takes …
    quality     double precision NOT NULL DEFAULT 0.5 CHECK (quality BETWEEN 0 AND 1),     -- … how good the result is
    enabled     boolean NOT NULL DEFAULT true,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, algorithm, version, operator, operator_version)
);
COMMENT ON TABLE goya.algorithm_implementations IS 'Operators that do what an algorithm asks for, with declared cost (nano-units), latency and quality (0 to 1).';

CREATE TABLE goya.algorithm_evaluations (
    id          uuid PRIMARY KEY DEFAULT goya.new_id(),
    tenant_id   uuid NOT NULL,
    algorithm   text NOT NULL,
    version     integer NOT NULL,
    operator    text NOT NULL,
    operator_version integer NOT NULL,
    quality     double precision CHECK (quality BETWEEN 0 AND 1),
    latency_ms  double precision CHECK (latency_ms >= 0),
    cost        bigint CHECK (cost >= 0),
    samples     integer NOT NULL DEFAULT 1 CHECK (samples > 0),
    data        jsonb NOT NULL DEFAULT '{}',       -- data set, metric, whatever explains the figures
    evaluated_by name NOT NULL DEFAULT current_user,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX algorithm_evaluations_idx ON goya.algorithm_evaluations (tenant_id, algorithm, version, operator, operator_version);
COMMENT ON TABLE goya.algorithm_evaluations IS 'Measured figures of implementations; they go before the declared ones.';

-- ---- models ----

CREATE TABLE goya.models (
    id          uuid PRIMARY KEY DEFAULT goya.new_id(),
    tenant_id   uuid NOT NULL,
    name        text NOT NULL CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,126}$'),
    provider    text NOT NULL DEFAULT 'openai_compatible' CHECK (provider ~ '^[a-z][a-z0-9_.-]{0,62}$'),   -- who serves it: a word that nodes may ask for
    endpoint    text NOT NULL CHECK (endpoint ~ '^https?://[^ ]+$'),     -- base address: …/v1
    remote_model text NOT NULL,                    -- what the provider calls it
    secret      text,                              -- name of the secret that holds its key; null: none is sent
    capabilities text[] NOT NULL DEFAULT '{chat}' CHECK (capabilities <@ '{chat,vision,image,video,embedding,tools,json_schema,stream}'::text[]),
    parameters  jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(parameters) = 'object'),   -- those of a node that says nothing else
    context_window integer CHECK (context_window > 0),             -- tokens
    requests_per_minute integer CHECK (requests_per_minute > 0),   -- null: no limit
    tokens_per_minute integer CHECK (tokens_per_minute > 0),
    max_concurrency integer CHECK (max_concurrency > 0),
    timeout     interval NOT NULL DEFAULT '60 s' CHECK (timeout > interval '0'),
    price       text,                              -- name in goya.prices; null: free
    fallback_models text[] NOT NULL DEFAULT '{}',  -- asked in this order when this one cannot answer
    status      text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'disabled', 'deprecated')),
    description text NOT NULL DEFAULT '',
    visibility  goya.visibility NOT NULL DEFAULT 'tenant',
    owner_role  name NOT NULL DEFAULT current_user,
    row_version integer NOT NULL DEFAULT 1,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, name)
);
COMMENT ON TABLE goya.models IS 'AI models that nodes of kind ai_model name: where they are, what they can do, limits, price, and what to ask instead.';

CREATE TABLE goya.model_profiles (
    tenant_id   uuid NOT NULL,
    model       text NOT NULL,
    name        text NOT NULL CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$'),
    parameters  jsonb NOT NULL CHECK (jsonb_typeof(parameters) = 'object'),
    description text NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, model, name)
);
COMMENT ON TABLE goya.model_profiles IS 'Named sets of parameters of a model (precise, creative …): a node asks for one with "parameters": {"profile": "precise"}.';

CREATE TABLE goya.prompts (
    tenant_id   uuid NOT NULL,
    name        text NOT NULL CHECK (name ~ '^[A-Za-z][A-Za-z0-9_.-]{0,62}$'),
    version     integer NOT NULL,
    system      text NOT NULL DEFAULT '',
    template    text NOT NULL,                     -- of the user's message, with {{ variables }}
    variables   jsonb NOT NULL DEFAULT '{}',       -- JSON Schema of the variables, an object
    note        text NOT NULL DEFAULT '',
    created_by  name NOT NULL DEFAULT current_user,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, name, version)
);
COMMENT ON TABLE goya.prompts IS 'Prompt templates by name and version; the newest version is the one that is used unless another is named.';
