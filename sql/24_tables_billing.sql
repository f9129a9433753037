-- 24_tables_billing.sql: wallets, append-only entries, holds, prices, usage, references.
--
-- Money is bigint nano-units (10^-9) of the wallet's currency. balance + frozen = sum(entries.amount), always.
-- A task's hold row is its escrow: captures of node runs touch only the hold row (captured += cost), in the node's own
-- transaction; the wallet row is touched when a task starts (hold) and when it settles (one capture entry, one release), last
-- in lock order. hold.posted is what has already left wallet.frozen; wallet.frozen = sum(amount - posted) of open holds.
-- A task's hold has the task's id. No index on what changes in a hold, so that its one or two updates stay HOT.
-- Rows of these tables are written by src/escrow.c and src/usage.c too: a column there is a column here.

CREATE TABLE goya.wallets (
    id          uuid PRIMARY KEY DEFAULT goya.new_id(),
    tenant_id   uuid NOT NULL UNIQUE,
    currency    text NOT NULL DEFAULT 'USD' CHECK (currency ~ '^[A-Z]{3,8}$'),
    balance     bigint NOT NULL DEFAULT 0 CHECK (balance >= 0),
    frozen      bigint NOT NULL DEFAULT 0 CHECK (frozen >= 0),
    last_seq    bigint NOT NULL DEFAULT 0,         -- of its newest entry
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
COMMENT ON TABLE goya.wallets IS 'One wallet per tenant: balance and frozen, in nano-units (10^-9) of its currency; never negative.';

CREATE TABLE goya.wallet_entries (
    id          uuid NOT NULL DEFAULT goya.new_id(),
    wallet_id   uuid NOT NULL,
    seq         bigint NOT NULL,                   -- 1, 2, 3 … in a wallet: the order in which money moved
    tenant_id   uuid NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('top_up', 'grant', 'hold', 'capture', 'release', 'refund')),
    amount      bigint NOT NULL,                   -- change of balance + frozen: 0 for hold and release
    moved       bigint NOT NULL DEFAULT 0,         -- hold, release: what moved between balance and frozen
    balance_after bigint NOT NULL,
    frozen_after  bigint NOT NULL,
    reference   text NOT NULL,
    hold_id     uuid,
    task_id     uuid,
    capture_id  uuid,                              -- refund: the capture it gives back
    note        text,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, seq)                   -- a tenant has one wallet
);
COMMENT ON TABLE goya.wallet_entries IS 'Ledger of a wallet, append-only; the sum of amounts is balance + frozen.';
CREATE INDEX wallet_entries_id_idx ON goya.wallet_entries (id) WHERE task_id IS NULL;    -- those of people's operations

CREATE TABLE goya.holds (
    id          uuid PRIMARY KEY DEFAULT goya.new_id(),
    wallet_id   uuid NOT NULL,
    tenant_id   uuid NOT NULL,
    task_id     uuid CHECK (task_id = id),         -- escrow of a task, or null for a hold made by hand
    reference   text NOT NULL,
    currency    text NOT NULL,                     -- the wallet's, which cannot change any more
    amount      bigint NOT NULL CHECK (amount >= 0),
    captured    bigint NOT NULL DEFAULT 0,
    posted      bigint NOT NULL DEFAULT 0,         -- part of captured (and released) that has left wallet.frozen
    status      text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'settled')),
    price_generation bigint,                       -- task: the newest generation of prices when it started; later ones are not for it
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    settled_at  timestamptz,
    capture_seq bigint,                            -- task: number of the ledger entry that took what was captured
    CHECK (captured >= 0 AND captured <= amount), CHECK (posted >= 0 AND posted <= amount)
) WITH (fillfactor = 40);
COMMENT ON TABLE goya.holds IS 'Money set aside: for a task until it settles, or by goya.hold until captured or released.';
CREATE INDEX holds_tenant_idx ON goya.holds (tenant_id, id);
CREATE UNIQUE INDEX holds_reference_idx ON goya.holds (tenant_id, reference) WHERE task_id IS NULL;

CREATE TABLE goya.prices (
    id          uuid PRIMARY KEY DEFAULT goya.new_id(),
    tenant_id   uuid,                              -- null: for every tenant
    name        text NOT NULL,                     -- what nodes name in "price"
    unit        text NOT NULL DEFAULT 'request',   -- request, second, token_in, token_out, …
    amount      bigint NOT NULL CHECK (amount >= 0),           -- nano-units …
    per_units   bigint NOT NULL DEFAULT 1 CHECK (per_units > 0),   -- … for so many units
    currency    text NOT NULL DEFAULT 'USD',
    effective_at timestamptz NOT NULL DEFAULT now(),
    generation  bigint NOT NULL UNIQUE,            -- 1, 2, 3 … in the order in which prices were committed
    created_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE NULLS NOT DISTINCT (tenant_id, name, unit, effective_at)
);
COMMENT ON TABLE goya.prices IS 'Prices by name and unit with an effective date; a task uses those in force when it started.';

CREATE TABLE goya.usage_records (
    task_id     uuid NOT NULL,
    node        text COLLATE "C" NOT NULL,
    item        integer NOT NULL,
    attempt     smallint NOT NULL,
    line        smallint NOT NULL DEFAULT 1,       -- one node run may use several units
    tenant_id   uuid NOT NULL,
    price_name  text NOT NULL,
    unit        text NOT NULL,
    quantity    numeric NOT NULL CHECK (quantity >= 0),
    cost        bigint NOT NULL CHECK (cost >= 0), -- nano-units, rounded once, half up
    currency    text NOT NULL,
    estimated   boolean NOT NULL DEFAULT false,
    hold_id     uuid,
    trace_id    text,
    cost_tag    text COLLATE "C",                  -- the node's word for what it is spent on; null: it has none
    details     jsonb,                             -- provider, model, tokens …
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, task_id, node, item, attempt, line)     -- the idempotency reference of the capture
);
COMMENT ON TABLE goya.usage_records IS 'What each node run used and what it cost; captured from the task''s hold in the same transaction.';

-- Operation ids of hold, capture, release, refund, top_up: same reference and request, same result.
CREATE TABLE goya_private.billing_references (
    tenant_id   uuid NOT NULL,
    reference   text NOT NULL,
    request_hash bytea NOT NULL,
    result      jsonb NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, reference)
);
