-- 50_run.sql: the only entry of work. run() and run_many() are plain inserts in the caller's transaction.

CREATE FUNCTION goya.validate_workflow(definition jsonb,
    OUT severity text, OUT code text, OUT node text, OUT path text, OUT message text, OUT hint text) RETURNS SETOF record
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'goya_validate_workflow_sql';
COMMENT ON FUNCTION goya.validate_workflow(jsonb) IS
'Lists every problem of a workflow definition, at once; no row: it can be published.
severity is error or warning; code is a stable word; path is a JSON pointer into the definition.';

CREATE FUNCTION goya.check_schema(schema jsonb, instance jsonb, max_errors integer DEFAULT 100,
    OUT path text, OUT keyword text, OUT message text, OUT hint text, OUT schema_path text) RETURNS SETOF record
    LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'goya_schema_check_sql';
COMMENT ON FUNCTION goya.check_schema(jsonb, jsonb, integer) IS
'Lists where a value breaks a JSON Schema (draft 7, core of 2020-12); no row: it is valid.
path is a JSON pointer into the value, keyword the one that is broken and schema_path its place in the schema; message says what is wrong, hint what to do.
"$schema" chooses the dialect; without it a schema is draft 7 unless it has a newer keyword such as $defs. $ref reaches the schema itself, the metaschemas
and what goya.register_schema has registered, never the network. Errors: 22023 when the schema itself is wrong or refers to what is not known.
Example: SELECT path, message, hint FROM goya.check_schema(''{"properties": {"fps": {"type": "integer"}}}'', ''{"fps": "25"}'');';

-- Everything that starts a task goes through here, with an identity that was decided before. Returns the task's id.
-- asset_id, idempotency_key, parent… may be null. id: what the task is to be called, null: a new one.
CREATE FUNCTION goya_private.start_task(tenant_id uuid, run_as name, created_by text, workflow_id uuid, input jsonb, asset_id uuid,
    idempotency_key text, priority integer, trace_id text, max_cost bigint, run_at timestamptz, depth integer,
    trigger_id uuid, trigger jsonb, parent_task_id uuid, parent_node integer, parent_item integer, revision integer, id uuid DEFAULT NULL) RETURNS uuid
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'goya_start_task_sql';

CREATE FUNCTION goya.run(workflow text, input jsonb DEFAULT '{}', asset uuid DEFAULT NULL, idempotency_key text DEFAULT NULL,
    priority integer DEFAULT 0, trace_id text DEFAULT NULL, max_cost bigint DEFAULT NULL, run_at timestamptz DEFAULT NULL) RETURNS uuid
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'goya_run_sql';
COMMENT ON FUNCTION goya.run(text, jsonb, uuid, text, integer, text, bigint, timestamptz) IS
'Starts a task of a published workflow and returns its id; it runs when the transaction commits.
input is checked against the workflow''s input schema. idempotency_key: the same key with the same request returns the first task.
priority: -100 … 100, higher first, before the work of all tenants; no more than goya.tenants.max_priority, which administrators set. max_cost: nano-units of the wallet''s currency that the task may spend at most. run_at: not before.
Errors: PT404 unknown workflow or asset, 22023 bad argument or input, 42501 no privilege, 55000 disabled, unpublished or goya not preloaded,
23505 idempotency key used with another request, PT402 not enough money.
Example: SELECT goya.run(''hello'', ''{"name": "world"}'');';

CREATE FUNCTION goya.run_many(workflow text, inputs jsonb DEFAULT NULL, assets uuid[] DEFAULT NULL, idempotency_keys text[] DEFAULT NULL,
    priority integer DEFAULT 0, trace_id text DEFAULT NULL, max_cost bigint DEFAULT NULL, run_at timestamptz DEFAULT NULL) RETURNS SETOF uuid
    LANGUAGE c VOLATILE ROWS 1000 AS 'MODULE_PATHNAME', 'goya_run_many_sql';
COMMENT ON FUNCTION goya.run_many(text, jsonb, uuid[], text[], integer, text, bigint, timestamptz) IS
'Starts a task of a published workflow for each of many inputs and returns their ids, in that order; all of them or none.
Much faster than as many calls of goya.run, and the same otherwise. inputs: a JSON array with the input of each task. assets, idempotency_keys: one for each
task too, null for none; with assets alone the inputs are empty. priority, trace_id, max_cost (of each task) and run_at are as in goya.run.
Errors: those of goya.run; 22023 also when the lists are of different lengths. One about an input names its place, from 0.
Example: SELECT goya.run_many(''hello'', ''[{"name": "world"}, {"name": "moon"}]'');';

-- Plan of a definition as rows: for pictures and diagnosis. listed false: body of a map or compensation.
CREATE FUNCTION goya_private.plan_nodes(resolved jsonb, OUT node integer, OUT key text, OUT kind text, OUT listed boolean, OUT owner integer) RETURNS SETOF record
    LANGUAGE c IMMUTABLE AS 'MODULE_PATHNAME', 'goya_plan_nodes_sql';
