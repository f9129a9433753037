-- 28_tables_egress.sql: which addresses outside calls may reach, beyond the settings goya.http_allow_loopback and goya.http_allow_private.

CREATE SEQUENCE goya_private.egress_rule_ids;
CREATE TABLE goya.egress_rules (
    id          bigint PRIMARY KEY DEFAULT nextval('goya_private.egress_rule_ids'),
    tenant_id   uuid REFERENCES goya.tenants (id),  -- null: for every tenant
    by_admin    boolean NOT NULL,                   -- decides what is allowed at all; a tenant's own rules only narrow that
    ordinal     integer NOT NULL DEFAULT 100,       -- smaller ones are asked first, equal ones by id
    action      text NOT NULL CHECK (action IN ('allow', 'deny')),
    scheme      text CHECK (scheme IN ('http', 'https')),                       -- null: both
    host        text CHECK (host ~ '^[a-z0-9._:*-]{1,253}$'),                   -- pattern with *; null: any
    port_from   integer NOT NULL DEFAULT 1 CHECK (port_from BETWEEN 1 AND 65535),
    port_to     integer NOT NULL DEFAULT 65535 CHECK (port_to BETWEEN 1 AND 65535),
    network     cidr,                               -- of the address called; null: any
    note        text,
    created_by  name NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    CHECK (port_from <= port_to),
    CHECK (by_admin OR tenant_id IS NOT NULL)
);
COMMENT ON TABLE goya.egress_rules IS 'Rules for the addresses that outside calls may reach; see goya.allow_egress and goya.deny_egress.';
CREATE INDEX egress_rules_tenant_idx ON goya.egress_rules (tenant_id);
