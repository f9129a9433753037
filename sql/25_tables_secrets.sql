-- 25_tables_secrets.sql: secrets of tenants: what is known of them, and, apart from that, their sealed values.
--
-- Decided: goya.secrets is what people may see and has nothing of a value; values are in goya_private, sealed (src/envelope.c) for tenant, name, version and
-- hosts. No foreign key between the two: rows of an extension's tables are restored in any order. goya.check() looks after it.

CREATE TABLE goya.secrets (
    tenant_id    uuid NOT NULL,
    name         text NOT NULL CHECK (name ~ '^[A-Za-z][A-Za-z0-9_.-]{0,62}$'),
    hosts        text[] NOT NULL CHECK (cardinality(hosts) > 0),   -- where it may be sent: patterns [http://][*.]host[:port]
    description  text NOT NULL DEFAULT '',
    key_id       text NOT NULL,                    -- the master key that it is sealed with
    version      integer NOT NULL DEFAULT 1,       -- of the value
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    rotated_at   timestamptz NOT NULL DEFAULT now(),    -- when the value was last set
    last_used_at timestamptz,                      -- by a call; to the minute
    PRIMARY KEY (tenant_id, name)
);
COMMENT ON TABLE goya.secrets IS
'Names of secrets and the hosts they may be sent to. Their values cannot be read by anybody; goya.set_secret sets them, calls send them.';

CREATE TABLE goya_private.secret_values (
    tenant_id   uuid NOT NULL,
    name        text NOT NULL,
    sealed      bytea NOT NULL,
    PRIMARY KEY (tenant_id, name)
);

-- Random keys of tenants for keyed hashes, sealed: they outlive a master key.
CREATE TABLE goya_private.tenant_keys (
    tenant_id   uuid NOT NULL,
    purpose     text NOT NULL,
    sealed      bytea NOT NULL,
    PRIMARY KEY (tenant_id, purpose)
);
