-- 20_tables_tenancy.sql: tenants, members, and the session roles whose JWT claims count.

CREATE TABLE goya.tenants (
    id          uuid PRIMARY KEY DEFAULT goya.new_id(),
    name        text NOT NULL UNIQUE CHECK (name ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    status      text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
    weight      integer NOT NULL DEFAULT 1 CHECK (weight BETWEEN 1 AND 1000),     -- share of the executors
    max_priority smallint NOT NULL DEFAULT 0 CHECK (max_priority BETWEEN -100 AND 100),   -- of its tasks: priority goes before all tenants' work
    settings    jsonb NOT NULL DEFAULT '{}',
    created_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE goya.tenants IS 'Organizations. A new installation has one, default, and one team never meets the word.';

CREATE TABLE goya.members (
    role_name   name PRIMARY KEY,                  -- a PostgreSQL role belongs to at most one tenant
    tenant_id   uuid NOT NULL REFERENCES goya.tenants (id),
    access      text NOT NULL DEFAULT 'member' CHECK (access IN ('admin', 'member', 'reader')),
    created_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE goya.members IS 'Which tenant a PostgreSQL role belongs to; a goya_user without a row here belongs to tenant default.';

CREATE TABLE goya_private.authenticators (
    role_name   name PRIMARY KEY                   -- session users whose request.jwt.claims are believed
);

INSERT INTO goya.tenants (id, name, max_priority) VALUES ('00000000-0000-7000-8000-000000000001', 'default', 100);
