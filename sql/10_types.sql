-- 10_types.sql: the status dictionary (one for the database, every view and every document) and row versions.

CREATE TYPE goya.task_status AS ENUM ('pending', 'running', 'waiting', 'cancelling', 'succeeded', 'failed', 'cancelled');
COMMENT ON TYPE goya.task_status IS 'Status of a task: pending → running ⇄ waiting → succeeded | failed | cancelled, with cancelling on the way. Terminal never changes.';

CREATE TYPE goya.node_run_status AS ENUM
    ('pending', 'ready', 'running', 'waiting', 'succeeded', 'failed', 'skipped', 'cancelled', 'compensated');
COMMENT ON TYPE goya.node_run_status IS 'Status of one attempt of one node (and item of a map).';

CREATE TYPE goya.artifact_type AS ENUM ('asset', 'result', 'timeline', 'report');
COMMENT ON TYPE goya.artifact_type IS 'What a node leaves behind: a child asset, a result, a timeline or a report.';

CREATE TYPE goya.visibility AS ENUM ('private', 'role', 'tenant', 'public');
COMMENT ON TYPE goya.visibility IS 'Who sees a shared resource: its owner, roles named on it, its tenant, or everybody.';

CREATE FUNCTION goya.new_id() RETURNS uuid
    LANGUAGE c VOLATILE PARALLEL SAFE AS 'MODULE_PATHNAME', 'goya_uuid_new_sql';
COMMENT ON FUNCTION goya.new_id() IS
'Makes a time-ordered id (UUID version 7).
Ids from one session never repeat and sort by creation time to the millisecond, then by a counter.';

CREATE FUNCTION goya_private.bump_row_version() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.row_version := OLD.row_version + 1;
    NEW.updated_at := pg_catalog.clock_timestamp();
    RETURN NEW;
END;
$$;
