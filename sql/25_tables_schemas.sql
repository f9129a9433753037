-- 25_tables_schemas.sql: JSON Schemas that other schemas refer to.

CREATE TABLE goya.schemas (
    tenant_id   uuid NOT NULL,
    uri         text NOT NULL CHECK (uri ~ '^[A-Za-z][A-Za-z0-9+.-]*:[^#[:space:]]+$' AND octet_length(uri) <= 1000),
    document    jsonb NOT NULL CHECK (jsonb_typeof(document) = 'object'),
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, uri)
);
COMMENT ON TABLE goya.schemas IS 'JSON Schemas by URI that $ref reaches in the schemas of their tenant; nothing is fetched from the network.';
