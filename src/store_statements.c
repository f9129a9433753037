/*-------------------------------------------------------------------------
 * store_statements.c
 *		Every SQL statement that goya's C code runs itself.
 *
 * They are set-based: a batch gives its rows as arrays, one per column.  What must hold: locks are taken in the order ready rows (skip
 * locked), tasks by id, joins and maps, holds by id, wallets by id.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "goya.h"
#include "store_statements.h"

#define AGENT_DEEDS	\
	" AS d(deed text, node text, item int, attempt int, status text, due timestamptz, outcome jsonb)"

const GoyaStatementText goya_statements[GOYA_N_STATEMENTS] = {
	[GOYA_STMT_ACTIVE_TENANTS] = {"SELECT id FROM goya.tenants WHERE id = ANY ($1) AND status = 'active'", 1, {UUIDARRAYOID}},
	[GOYA_STMT_CANCEL_WANTED] = {"SELECT task_id FROM goya_private.cancel_requests WHERE task_id = ANY ($1)", 1, {UUIDARRAYOID}},
	[GOYA_STMT_MCP_SERVER] = {
		"SELECT s.id, s.revision, s.url, s.headers, s.auth, s.protocol, s.protocol_version, s.status, s.enabled, s.trusted, s.capabilities IS NOT NULL,"
		" (coalesce(EXTRACT(epoch FROM s.timeout), 0) * 1000)::bigint, coalesce(s.max_concurrency, 0),"
		" t.hash, t.removed_at IS NOT NULL, t.input_schema, t.output_schema, t.annotations"
		" FROM goya.mcp_servers s LEFT JOIN goya.mcp_tools t ON t.server_id = s.id AND t.name = $3 WHERE s.tenant_id = $1 AND s.name = $2",
	3, {UUIDOID, TEXTOID, TEXTOID}},
	[GOYA_STMT_MCP_NOTE] = {"SELECT goya_private.note_mcp_call($1, $2)", 2, {JSONBOID, JSONBOID}},
	[GOYA_STMT_EGRESS_RULES] = {
		"SELECT r.id, r.by_admin, r.action, r.scheme, r.host, r.port_from, r.port_to, pg_catalog.host(r.network), pg_catalog.masklen(r.network)"
		" FROM goya.egress_rules r WHERE r.tenant_id = $1 OR r.tenant_id IS NULL ORDER BY r.ordinal, r.id",
	1, {UUIDOID}},
	[GOYA_STMT_SPILL_ASSET] = {
		"INSERT INTO goya.assets (id, tenant_id, name, media_type, mime_type, content, source, status, sha256, size_bytes, owner_role, created_by,"
		" task_id, node, item, depth) VALUES ($1, $2, $3, $4, $5, $6, 'operator', 'ready', pg_catalog.encode(pg_catalog.sha256($6), 'hex'),"
		" pg_catalog.octet_length($6), $7::name, $8, $9, $3, $10, $11) RETURNING sha256",
	11, {UUIDOID, UUIDOID, TEXTOID, TEXTOID, TEXTOID, BYTEAOID, TEXTOID, TEXTOID, UUIDOID, INT4OID, INT4OID}},
	[GOYA_STMT_ASSET_BYTES] = {
		"SELECT a.content, a.mime_type, a.name FROM goya.assets a WHERE a.id = $1 AND a.content IS NOT NULL AND (a.visibility = 'public' OR (a.tenant_id = $2"
		" AND coalesce(goya_private.role_may_see($3::name, a.visibility, CASE WHEN coalesce(a.created_by = $4, true) THEN a.owner_role END,"
		" a.visible_roles), false)))",
	4, {UUIDOID, UUIDOID, TEXTOID, TEXTOID}},
	[GOYA_STMT_ADD_CALLBACK] = {
		"INSERT INTO goya_private.callbacks (token_hash, task_id, node, plan_node, item, attempt, expires_at)"
		" VALUES (pg_catalog.sha256(pg_catalog.convert_to($1, 'UTF8')), $2, $3, $4, $5, $6, $7)",
	7, {TEXTOID, UUIDOID, TEXTOID, INT4OID, INT4OID, INT2OID, TIMESTAMPTZOID}},
	[GOYA_STMT_FIND_CALLBACK] = {
		"SELECT c.failed, c.payload FROM goya_private.callbacks c WHERE c.task_id = $1 AND c.node = $2 AND c.item = $3 AND c.attempt = $4"
		" AND c.called_at IS NOT NULL ORDER BY c.called_at LIMIT 1",
	4, {UUIDOID, TEXTOID, INT4OID, INT2OID}},
	[GOYA_STMT_LOAD_VALUES] = {
		"SELECT n.task_id, n.node, n.status::text, n.output, n.error FROM unnest($1, $2) AS u(task_id, node)"
		" JOIN goya.node_runs n ON n.task_id = u.task_id AND n.node = u.node AND n.item = 0"
		" WHERE n.status IN ('succeeded', 'failed', 'skipped', 'compensated') ORDER BY n.attempt",
	2, {UUIDARRAYOID, TEXTARRAYOID}},
	[GOYA_STMT_LOAD_ITEMS] = {
		"SELECT n.input FROM goya.node_runs n WHERE n.task_id = $1 AND n.node = $2 AND n.item = 0 ORDER BY n.attempt DESC LIMIT 1",
	2, {UUIDOID, TEXTOID}},
	[GOYA_STMT_LOAD_CONTEXTS] = {
		"SELECT task_id, state FROM goya.task_contexts WHERE task_id = ANY ($1)", 1, {UUIDARRAYOID}},
	[GOYA_STMT_LOAD_ASSET] = {
		"SELECT pg_catalog.to_jsonb(a) - 'content' FROM goya.assets a WHERE a.id = $1 AND a.tenant_id = $2", 2, {UUIDOID, UUIDOID}},
	[GOYA_STMT_UPSERT_RUNS] = {
		"INSERT INTO goya.node_runs AS n (task_id, node, item, attempt, tenant_id, status, seq, started_seq, epoch, message, input, output,"
		" error, cost, started_at, finished_at)"
		" SELECT u.task_id, u.node, u.item, u.attempt, u.tenant_id, u.status::goya.node_run_status, u.seq, u.started_seq, u.epoch, u.message,"
		" u.input, u.output, u.error, u.cost, u.started_at, u.finished_at"
		" FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)"
		" AS u(task_id, node, item, attempt, tenant_id, status, seq, started_seq, epoch, message, input, output, error, cost, started_at, finished_at)"
		" ON CONFLICT (task_id, node, item, attempt) DO UPDATE SET status = excluded.status, seq = excluded.seq,"
		" started_seq = coalesce(excluded.started_seq, n.started_seq), epoch = excluded.epoch, message = excluded.message,"
		" started_at = excluded.started_at, output = excluded.output, error = excluded.error, cost = excluded.cost, finished_at = excluded.finished_at"
		" WHERE n.status = 'ready'",
		16, {UUIDARRAYOID, TEXTARRAYOID, INT4ARRAYOID, INT2ARRAYOID, UUIDARRAYOID, TEXTARRAYOID, INT4ARRAYOID, INT4ARRAYOID, INT4ARRAYOID,
	TEXTARRAYOID, JSONBARRAYOID, JSONBARRAYOID, JSONBARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID}},
	[GOYA_STMT_UPDATE_RUNS] = {
		"UPDATE goya.node_runs n SET status = u.status::goya.node_run_status, seq = u.seq, message = u.message,"
		" output = u.output, error = u.error, cost = u.cost, finished_at = u.finished_at"
		" FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
		" AS u(task_id, node, item, attempt, status, seq, message, output, error, cost, finished_at)"
		" WHERE n.task_id = u.task_id AND n.node = u.node AND n.item = u.item AND n.attempt = u.attempt",
		11, {UUIDARRAYOID, TEXTARRAYOID, INT4ARRAYOID, INT2ARRAYOID, TEXTARRAYOID, INT4ARRAYOID, TEXTARRAYOID, JSONBARRAYOID, JSONBARRAYOID,
	INT8ARRAYOID, TIMESTAMPTZARRAYOID}},
	[GOYA_STMT_INSERT_PARKED] = {
		"INSERT INTO goya_private.parked (rank, lane, verb, task_id, node, item, attempt, tries)"
		" SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8)",
	8, {INT8ARRAYOID, INT2ARRAYOID, INT2ARRAYOID, UUIDARRAYOID, INT4ARRAYOID, INT4ARRAYOID, INT2ARRAYOID, INT2ARRAYOID}},
	[GOYA_STMT_INSERT_TIMERS] = {
		"INSERT INTO goya_private.timers (rank, lane, verb, task_id, node, item, attempt, due, tries)"
		" SELECT u.rank, u.lane, u.verb, u.task_id, u.node, u.item, u.attempt, u.due, coalesce(u.tries, 0::int2)"
		" FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9) AS u(rank, lane, verb, task_id, node, item, attempt, due, tries)",
		9, {INT8ARRAYOID, INT2ARRAYOID, INT2ARRAYOID, UUIDARRAYOID, INT4ARRAYOID, INT4ARRAYOID, INT2ARRAYOID, TIMESTAMPTZARRAYOID,
	INT2ARRAYOID}},
	[GOYA_STMT_UPSERT_JOINS] = {
		"INSERT INTO goya_private.joins AS j (task_id, node, fired, dead, failed) SELECT * FROM unnest($1, $2, $3, $4, $5)"
		" ON CONFLICT (task_id, node) DO UPDATE SET fired = j.fired + excluded.fired, dead = j.dead + excluded.dead,"
		" failed = j.failed + excluded.failed RETURNING task_id, node, fired, dead, failed, started",
	5, {UUIDARRAYOID, INT4ARRAYOID, INT4ARRAYOID, INT4ARRAYOID, INT4ARRAYOID}},
	[GOYA_STMT_START_JOINS] = {
		"UPDATE goya_private.joins j SET started = true FROM unnest($1, $2) AS u(task_id, node) WHERE j.task_id = u.task_id AND j.node = u.node",
	2, {UUIDARRAYOID, INT4ARRAYOID}},
	[GOYA_STMT_DELETE_JOINS] = {
		"DELETE FROM goya_private.joins j USING unnest($1, $2) AS u(task_id, node) WHERE j.task_id = u.task_id AND j.node = u.node",
	2, {UUIDARRAYOID, INT4ARRAYOID}},
	[GOYA_STMT_INSERT_MAPS] = {
		"INSERT INTO goya_private.maps (task_id, node, total, next_item) SELECT * FROM unnest($1, $2, $3, $4)"
		" ON CONFLICT (task_id, node) DO UPDATE SET total = excluded.total, next_item = excluded.next_item, done = 0, failed = 0",
	4, {UUIDARRAYOID, INT4ARRAYOID, INT4ARRAYOID, INT4ARRAYOID}},
	[GOYA_STMT_UPDATE_MAPS] = {
		"UPDATE goya_private.maps m SET done = m.done + u.done, failed = m.failed + u.failed, next_item = m.next_item + u.done + u.failed"
		" FROM unnest($1, $2, $3, $4) AS u(task_id, node, done, failed) WHERE m.task_id = u.task_id AND m.node = u.node"
		" RETURNING m.task_id, m.node, m.total, m.next_item, m.done, m.failed",
	4, {UUIDARRAYOID, INT4ARRAYOID, INT4ARRAYOID, INT4ARRAYOID}},
	[GOYA_STMT_DELETE_MAP] = {"DELETE FROM goya_private.maps WHERE task_id = $1 AND node = $2", 2, {UUIDOID, INT4OID}},
	[GOYA_STMT_MAP_OUTPUT] = {
		"SELECT coalesce(pg_catalog.jsonb_agg(goya_private.open_value(i.tenant_id, i.output) ORDER BY i.item), '[]')"
		" FROM (SELECT DISTINCT ON (n.item) n.item, n.tenant_id, CASE WHEN n.status = 'succeeded' THEN n.output END AS output"
		" FROM goya.node_runs n WHERE n.task_id = $1 AND n.node = $2 ORDER BY n.item, n.attempt DESC) i",
	2, {UUIDOID, TEXTOID}},
	[GOYA_STMT_FORGET_TASKS] = {
		"WITH j AS (DELETE FROM goya_private.joins WHERE task_id = ANY ($1)) DELETE FROM goya_private.maps WHERE task_id = ANY ($1)",
	1, {UUIDARRAYOID}},
	[GOYA_STMT_EXTEND_HOLDS] = {"SELECT goya_private.extend_holds($1, $2)", 2, {UUIDARRAYOID, INT8ARRAYOID}},
	[GOYA_STMT_CHARGED] = {
		"SELECT t.tenant_id, t.created_at, t.trace_id, (SELECT sum(x.cost)::bigint FROM goya.usage_records x WHERE x.tenant_id = t.tenant_id"
		" AND x.task_id = u.task_id AND x.node = u.node AND x.item = u.item AND x.attempt = u.attempt)"
		" FROM unnest($1, $2, $3, $4) WITH ORDINALITY AS u(task_id, node, item, attempt, ordinal) LEFT JOIN goya.tasks t ON t.id = u.task_id"
		" ORDER BY u.ordinal",
	4, {UUIDARRAYOID, TEXTARRAYOID, INT4ARRAYOID, INT2ARRAYOID}},
	[GOYA_STMT_OPEN_WALLET] = {"SELECT goya_private.open_wallet($1, NULL)", 1, {UUIDOID}},
	[GOYA_STMT_PRICES] = {
		"SELECT p.unit, p.tenant_id IS NOT NULL, p.amount, p.per_units, p.effective_at, p.generation FROM goya.prices p"
		" WHERE (p.tenant_id = $1 OR p.tenant_id IS NULL) AND p.currency = $2 AND p.name = $3"
		" ORDER BY p.unit, p.tenant_id IS NULL, p.effective_at DESC",
	3, {UUIDOID, TEXTOID, TEXTOID}},
	[GOYA_STMT_PRICES_NEWEST] = {
		"SELECT coalesce(max(p.generation), 0), min(p.effective_at) FILTER (WHERE p.effective_at > pg_catalog.clock_timestamp())"
		" FROM goya.prices p", 0, {0}},
	[GOYA_STMT_STORE_ARTIFACTS] = {"SELECT goya_private.store_artifacts($1)", 1, {JSONBOID}},
	[GOYA_STMT_APPLY_CONTEXT] = {
		"SELECT goya_private.apply_context($1, $2, $3, $4, $5)", 5, {UUIDOID, TEXTOID, INT4OID, JSONBOID, JSONBOID}},
	[GOYA_STMT_OPEN_RUNS] = {
		"SELECT u.ordinal::int, n.status::text, n.epoch, n.started_at, n.attempt, n.item"
		" FROM unnest($1, $2, $3, $4) WITH ORDINALITY AS u(task_id, node, item, attempt, ordinal)"
		" JOIN goya.node_runs n ON n.task_id = u.task_id AND n.node = u.node AND n.item BETWEEN coalesce(u.item, 0) AND coalesce(u.item, 2147483647)"
		" WHERE n.status IN ('waiting', 'running') AND n.attempt BETWEEN coalesce(u.attempt, 0::int2) AND coalesce(u.attempt, 32767::int2) ORDER BY u.ordinal, n.item",
	4, {UUIDARRAYOID, TEXTARRAYOID, INT4ARRAYOID, INT2ARRAYOID}},
	[GOYA_STMT_TAKE_SIGNAL] = {
		"UPDATE goya_private.signals SET consumed_by = $3 WHERE id = (SELECT id FROM goya_private.signals"
		" WHERE task_id = $1 AND name = $2 AND consumed_by IS NULL ORDER BY id LIMIT 1) RETURNING payload",
	3, {UUIDOID, TEXTOID, TEXTOID}},
	[GOYA_STMT_INSERT_APPROVAL] = {
		"INSERT INTO goya.approvals (task_id, node, item, attempt, tenant_id, message, form) VALUES ($1, $2, $3, $4, $5, $6, $7)",
	7, {UUIDOID, TEXTOID, INT4OID, INT2OID, UUIDOID, TEXTOID, JSONBOID}},
	[GOYA_STMT_LOAD_APPROVAL] = {
		"SELECT status, response, decided_by FROM goya.approvals WHERE task_id = $1 AND node = $2 AND item = $3 AND attempt = $4",
	4, {UUIDOID, TEXTOID, INT4OID, INT2OID}},
	[GOYA_STMT_EXPIRE_APPROVAL] = {
		"UPDATE goya.approvals SET status = 'expired', decided_at = pg_catalog.clock_timestamp()"
		" WHERE task_id = $1 AND node = $2 AND item = $3 AND attempt = $4 AND status = 'pending'",
	4, {UUIDOID, TEXTOID, INT4OID, INT2OID}},
	[GOYA_STMT_OFFER_WORK] = {
		"SELECT goya_private.offer_work($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
	11, {UUIDOID, TEXTOID, INT4OID, INT2OID, INT4OID, UUIDOID, INT4OID, TEXTOID, INT8OID, INT8OID, INT4OID}},
	[GOYA_STMT_TAKE_WORK] = {
		"DELETE FROM goya_private.work WHERE task_id = $1 AND node = $2 AND item = $3 AND attempt = $4 AND result IS NOT NULL RETURNING result",
	4, {UUIDOID, TEXTOID, INT4OID, INT2OID}},
	[GOYA_STMT_DROP_WORK] = {
		"DELETE FROM goya_private.work WHERE ctid = (SELECT ctid FROM goya_private.work WHERE task_id = $1 AND node = $2 AND item = $3"
		" AND attempt = $4 FOR UPDATE SKIP LOCKED)",
	4, {UUIDOID, TEXTOID, INT4OID, INT2OID}},
	[GOYA_STMT_EXPIRE_LEASE] = {
		"SELECT x.verdict, x.due, x.worker, x.claims FROM goya_private.expire_lease($1, $2, $3, $4) x",
	4, {UUIDOID, TEXTOID, INT4OID, INT2OID}},
	[GOYA_STMT_LOAD_PROGRAM] = {
		"SELECT pg_catalog.to_jsonb(p) FROM goya_private.programs p WHERE p.name = $1 AND (p.tenants IS NULL OR $2 = ANY (p.tenants))",
	2, {TEXTOID, UUIDOID}},
	[GOYA_STMT_CALL_PROGRESS] = {
		"UPDATE goya.node_runs r SET progress = coalesce(k.progress::real, r.progress), message = coalesce(left(k.message, 1000), r.message)"
		" FROM (SELECT n.ctid AS at, u.progress, u.message FROM unnest($1, $2, $3, $4, $5, $6) AS u(task_id, node, item, attempt, progress, message)"
		" JOIN goya.node_runs n ON n.task_id = u.task_id AND n.node = u.node AND n.item = u.item AND n.attempt = u.attempt AND n.status = 'running'"
		" FOR NO KEY UPDATE OF n SKIP LOCKED) k WHERE r.ctid = k.at",
	6, {UUIDARRAYOID, TEXTARRAYOID, INT4ARRAYOID, INT2ARRAYOID, TEXTARRAYOID, TEXTARRAYOID}},
	[GOYA_STMT_LOAD_CHILD] = {
		"SELECT id, status::text, output, error FROM goya.tasks WHERE parent_task_id = $1 AND parent_node = $2 AND parent_item = $3"
		" ORDER BY id DESC LIMIT 1",
	3, {UUIDOID, INT4OID, INT4OID}},
	[GOYA_STMT_AGENT_BEGIN] = {
		"SELECT * FROM pg_catalog.jsonb_to_recordset(goya_private.agent_begin($1, $2, $3, $4, $5, $6, $7))" AGENT_DEEDS,
	7, {UUIDOID, TEXTOID, UUIDOID, UUIDOID, TEXTOID, JSONBOID, JSONBOID}},
	[GOYA_STMT_AGENT_STEP] = {
		"SELECT * FROM pg_catalog.jsonb_to_recordset(goya_private.agent_step($1, $2, $3, $4, $5, $6))" AGENT_DEEDS,
	6, {UUIDOID, TEXTOID, TEXTOID, INT4OID, BOOLOID, JSONBOID}},
	[GOYA_STMT_AGENT_WAKE] = {
		"SELECT * FROM pg_catalog.jsonb_to_recordset(goya_private.agent_wake($1, $2))" AGENT_DEEDS, 2, {UUIDOID, TEXTOID}},
	[GOYA_STMT_AGENT_ITEM] = {
		"SELECT goya_private.agent_item($1, $2, $3, $4)", 4, {UUIDOID, TEXTOID, TEXTOID, INT4OID}},
	[GOYA_STMT_END_TASK] = {
		"SELECT goya_private.end_task($1, $2::goya.task_status, $3)", 3, {UUIDOID, TEXTOID, JSONBOID}},
	[GOYA_STMT_LOCK_WALLETS] = {"SELECT FROM goya.wallets WHERE tenant_id = ANY ($1) ORDER BY tenant_id FOR NO KEY UPDATE", 1, {UUIDARRAYOID}},
	[GOYA_STMT_COMPLETION] = {
		"SELECT w.id, w.name, EXISTS (SELECT FROM goya.triggers g WHERE g.tenant_id = w.tenant_id AND g.event = 'task_completed'"
		" AND g.enabled AND g.kind = 'event')"
		" FROM goya.workflows w WHERE w.id = ANY ($1)", 1, {UUIDARRAYOID}},
	[GOYA_STMT_PUBLISH_COMPLETED] = {"SELECT goya_private.publish_completed($1)", 1, {UUIDARRAYOID}},
	[GOYA_STMT_COMPENSABLE] = {
		"SELECT n.node FROM goya.node_runs n WHERE n.task_id = $1 AND n.item = 0 AND n.status = 'succeeded' AND NOT EXISTS"
		" (SELECT FROM goya.node_runs c WHERE c.task_id = $1 AND c.node = n.node || '.compensate') ORDER BY n.seq DESC", 1, {UUIDOID}},
	[GOYA_STMT_COMPENSATED] = {
		/* The row's event becomes another: the one that people have seen stays, in the log. */
		"WITH undone AS (SELECT * FROM goya.node_runs n WHERE n.task_id = $1 AND n.node = $2 AND n.item = 0 AND n.status = 'succeeded'),"
		" told AS (INSERT INTO goya_private.task_log (task_id, seq, tenant_id, type, node, item, attempt, data, created_at)"
		"  SELECT u.task_id, u.seq, u.tenant_id, 'node_succeeded', u.node, u.item, u.attempt, pg_catalog.jsonb_strip_nulls("
		"   pg_catalog.jsonb_build_object('message', pg_catalog.left(u.message, 1000), 'cost', u.cost)), u.finished_at FROM undone u)"
		" UPDATE goya.node_runs n SET status = 'compensated', seq = $3 FROM undone u"
		" WHERE n.task_id = u.task_id AND n.node = u.node AND n.item = u.item AND n.attempt = u.attempt",
	3, {UUIDOID, TEXTOID, INT4OID}},
	[GOYA_STMT_CANCEL_OPEN_RUNS] = {
		"SELECT goya_private.cancel_open_runs($1)", 1, {UUIDOID}},
	[GOYA_STMT_DUE_TIMERS] = {
		"WITH due AS (DELETE FROM goya_private.timers WHERE ctid = ANY (ARRAY(SELECT ctid FROM goya_private.timers"
		" WHERE due <= pg_catalog.clock_timestamp() AND NOT EXISTS (SELECT FROM goya_private.engine WHERE system_id <> $2 AND NOT adopted)"
		" ORDER BY due LIMIT $1)) RETURNING *)"
		" INSERT INTO goya_private.ready (rank, lane, verb, task_id, node, item, attempt, tries)"
		" SELECT rank, lane, verb, task_id, node, item, attempt, tries FROM due RETURNING lane, rank",
	2, {INT4OID, TEXTOID}},
	[GOYA_STMT_NEXT_TIMER] = {"SELECT due FROM goya_private.timers ORDER BY due LIMIT 1", 0, {0}},
	[GOYA_STMT_DISPATCH_EVENTS] = {"SELECT goya_private.dispatch_events($1)", 1, {INT4OID}},
	[GOYA_STMT_DISPATCH_SINGLY] = {"SELECT goya_private.dispatch_singly($1, $2)", 2, {UUIDARRAYOID, UUIDARRAYOID}},
	[GOYA_STMT_EVENT_DOCUMENTS] = {
		"SELECT event_id, document FROM goya_private.event_documents($1, $2)", 2, {UUIDARRAYOID, UUIDARRAYOID}},
	[GOYA_STMT_ROLE_MAY_SEE] = {
		"SELECT goya_private.role_may_see($1, $2::goya.visibility, $3, $4)", 4, {NAMEOID, TEXTOID, NAMEOID, NAMEARRAYOID}},
	[GOYA_STMT_FIRE_INTERVALS] = {"SELECT goya_private.fire_intervals()", 0, {0}},
	[GOYA_STMT_PROCESS_CANCELS] = {
		"SELECT goya_private.process_cancels($1), (SELECT count(*) FROM goya_private.cancel_requests)::int", 1, {INT4OID}},
	[GOYA_STMT_HAS_WORK] = {
		"SELECT EXISTS (SELECT FROM goya_private.ready WHERE lane = 0), EXISTS (SELECT FROM goya_private.ready WHERE lane = 1)"
		" OR EXISTS (SELECT FROM goya_private.ready WHERE lane = 5),"
		" EXISTS (SELECT FROM goya_private.ready WHERE lane = 2), EXISTS (SELECT FROM goya_private.ready WHERE lane = 3),"
		" EXISTS (SELECT FROM goya_private.cancel_requests), EXISTS (SELECT FROM goya_private.event_queue),"
		" EXISTS (SELECT FROM goya_private.timers WHERE due <= pg_catalog.clock_timestamp()),"
		" EXISTS (SELECT FROM goya_private.live_triggers l WHERE CASE l.kind WHEN 'interval' THEN l.next_due <= pg_catalog.clock_timestamp()"
		"  WHEN 'cron' THEN l.missed <> 'skip' AND l.next_due <= pg_catalog.clock_timestamp() - '91 s'::interval END),"
		" EXISTS (SELECT FROM goya_private.ready WHERE lane = 4)", 0, {0}},
	[GOYA_STMT_LOAD_REVISION] = {
		"SELECT resolved, xmin FROM goya.workflow_revisions WHERE workflow_id = $1 AND revision = $2", 2, {UUIDOID, INT4OID}},
	[GOYA_STMT_START_EPOCH] = {
		/* Newer than every start it knows of, those of the database it was copied from too.  No upsert: see replace_first_row. */
		"WITH newest AS (SELECT coalesce(max(epoch), 0) + 1 AS epoch FROM goya_private.engine),"
		" again AS (UPDATE goya_private.engine e SET epoch = n.epoch, started_at = pg_catalog.clock_timestamp() FROM newest n"
		" WHERE e.system_id = $1 RETURNING e.epoch),"
		" first AS (INSERT INTO goya_private.engine (system_id, epoch, started_at) SELECT $1, n.epoch, pg_catalog.clock_timestamp() FROM newest n"
		" WHERE NOT EXISTS (SELECT FROM goya_private.engine WHERE system_id = $1) RETURNING epoch)"
		" SELECT epoch FROM again UNION ALL SELECT epoch FROM first", 1, {TEXTOID}},
	[GOYA_STMT_IS_COPY] = {
		"SELECT EXISTS (SELECT FROM goya_private.engine WHERE system_id <> $1 AND NOT adopted)", 1, {TEXTOID}},
	[GOYA_STMT_RECOVER_CALLS] = {
		"SELECT n.task_id, n.node, n.item, n.attempt, n.started_at, n.epoch FROM goya.node_runs n WHERE n.status = 'running' AND n.epoch < $1"
		" AND n.task_id <> ALL ($2) LIMIT 1000",
	2, {INT4OID, UUIDARRAYOID}},
	[GOYA_STMT_LOST_CALLS] = {
		"UPDATE goya.node_runs n SET status = 'ready', message = 'called again: its outcome was lost'"
		" FROM unnest($1, $2, $3, $4) AS u(task_id, node, item, attempt)"
		" WHERE n.task_id = u.task_id AND n.node = u.node AND n.item = u.item AND n.attempt = u.attempt AND n.status = 'running'",
	4, {UUIDARRAYOID, TEXTARRAYOID, INT4ARRAYOID, INT2ARRAYOID}},
	[GOYA_STMT_CHANNELS] = {"SELECT goya_private.notify_channels()", 0, {0}},
	[GOYA_STMT_FIRE_CHANNEL] = {"SELECT goya_private.fire_channel($1, $2)", 2, {TEXTOID, TEXTOID}},
	[GOYA_STMT_INSERT_KEY] = {
		"INSERT INTO goya_private.idempotency_keys (tenant_id, key, request_hash, task_id) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING RETURNING task_id",
	4, {UUIDOID, TEXTOID, BYTEAOID, UUIDOID}},
	[GOYA_STMT_FIND_KEY] = {
		"SELECT task_id, request_hash = $3 FROM goya_private.idempotency_keys WHERE tenant_id = $1 AND key = $2", 3, {UUIDOID, TEXTOID, BYTEAOID}},
	[GOYA_STMT_INSERT_KEYS] = {
		/* In one order everywhere, so that two loads of the same keys do not deadlock. */
		"INSERT INTO goya_private.idempotency_keys (tenant_id, key, request_hash, task_id)"
		" SELECT u.tenant_id, u.key, u.hash, u.id FROM unnest($1, $2, $3, $4, $5) AS u(place, tenant_id, key, hash, id)"
		" ORDER BY u.key COLLATE \"C\", u.place ON CONFLICT DO NOTHING",
	5, {INT4ARRAYOID, UUIDARRAYOID, TEXTARRAYOID, BYTEAARRAYOID, UUIDARRAYOID}},
	[GOYA_STMT_FIND_KEYS] = {
		"SELECT u.place, k.task_id, k.request_hash = u.hash FROM unnest($1, $2, $3, $4, $5) AS u(place, tenant_id, key, hash, id)"
		" JOIN goya_private.idempotency_keys k ON k.tenant_id = u.tenant_id AND k.key = u.key",
	5, {INT4ARRAYOID, UUIDARRAYOID, TEXTARRAYOID, BYTEAARRAYOID, UUIDARRAYOID}},
	[GOYA_STMT_INIT_CONTEXT] = {
		"SELECT goya_private.init_context($1, $2, $3, $4)", 4, {UUIDOID, UUIDOID, JSONBOID, JSONBOID}},
	[GOYA_STMT_QUOTE] = {
		"SELECT goya_private.quote_resolved($1, $2, pg_catalog.clock_timestamp())", 2, {UUIDOID, JSONBOID}},
	[GOYA_STMT_MISSING_ASSET] = {
		"SELECT u.id FROM unnest($1) AS u(id) WHERE u.id IS NOT NULL"
		" AND NOT EXISTS (SELECT FROM goya.assets a WHERE a.id = u.id AND a.tenant_id = $2) LIMIT 1", 2, {UUIDARRAYOID, UUIDOID}},
	[GOYA_STMT_CHOOSE_CANDIDATE] = {"SELECT workflow_id, revision FROM goya_private.choose_candidate($1, $2)", 2, {UUIDOID, JSONBOID}},
	[GOYA_STMT_ASSET_EXISTS] = {"SELECT FROM goya.assets WHERE id = $1 AND tenant_id = $2", 2, {UUIDOID, UUIDOID}},
	[GOYA_STMT_COUNT_CRASH] = {
		"INSERT INTO goya_private.crashes AS c (task_id, node, item, signal) SELECT t.id, $2, $3, $4 FROM goya.tasks t"
		" WHERE t.id = $1 AND t.finished_at IS NULL"
		" ON CONFLICT (task_id, node, item) DO UPDATE SET crashes = c.crashes + 1, signal = excluded.signal, last_at = excluded.last_at"
		" RETURNING crashes", 4, {UUIDOID, INT4OID, INT4OID, INT4OID}},
	[GOYA_STMT_SWEEP_CRASHES] = {
		"DELETE FROM goya_private.crashes c WHERE NOT EXISTS (SELECT FROM goya.tasks t WHERE t.id = c.task_id AND t.finished_at IS NULL)", 0, {0}},
	[GOYA_STMT_ANY_CRASHES] = {"SELECT count(*)::int FROM goya_private.crashes", 0, {0}},
	[GOYA_STMT_LOAD_CRASHES] = {"SELECT task_id, node, item, crashes, signal FROM goya_private.crashes", 0, {0}},
	[GOYA_STMT_FORGET_CRASHES] = {
		"DELETE FROM goya_private.crashes c USING unnest($1, $2, $3) AS u(task_id, node, item)"
		" WHERE c.task_id = u.task_id AND c.node = u.node AND c.item = u.item", 3, {UUIDARRAYOID, INT4ARRAYOID, INT4ARRAYOID}},
	[GOYA_STMT_WRITE_STREAMS] = {
		"WITH w AS (INSERT INTO goya_private.stream_chunks AS c (task_id, node, item, attempt, position, flags, delta, sealed)"
		" SELECT u.task_id, u.node, u.item, u.attempt, u.position, u.flags & 3, CASE WHEN u.flags & 4 = 0 THEN u.delta END, CASE WHEN u.flags & 4 > 0"
		" THEN (SELECT goya_private.seal(u.tenant_id, 'completion', pg_catalog.format('%s/%s/%s', u.task_id, u.node, u.item), u.delta)"
		" WHERE (SELECT goya_private.has_master_key())) END"
		" FROM unnest($1, $2, $3, $4, $5, $6, $7, $8) AS u(task_id, node, item, attempt, position, flags, delta, tenant_id) RETURNING c.task_id, c.node, c.item, c.seq)"
		" SELECT pg_catalog.pg_notify('goya_stream', pg_catalog.jsonb_build_object('task_id', w.task_id, 'node', w.node, 'item', w.item, 'seq', w.seq)::text)"
		" FROM w WHERE pg_catalog.pg_notification_queue_usage() < 0.5",
	8, {UUIDARRAYOID, TEXTARRAYOID, INT4ARRAYOID, INT2ARRAYOID, INT8ARRAYOID, INT2ARRAYOID, TEXTARRAYOID, UUIDARRAYOID}},
	[GOYA_STMT_TRIM_STREAMS] = {
		"DELETE FROM goya_private.stream_chunks c USING unnest($1, $2, $3, $4) AS u(task_id, node, item, upto)"
		" WHERE c.task_id = u.task_id AND c.node = u.node AND c.item = u.item AND c.position < u.upto",
	4, {UUIDARRAYOID, TEXTARRAYOID, INT4ARRAYOID, INT8ARRAYOID}},
	[GOYA_STMT_END_STREAMS] = {
		"DELETE FROM goya_private.stream_chunks c USING unnest($1, $2, $3, $4) AS u(task_id, node, item, attempt)"
		" WHERE c.task_id = u.task_id AND c.node = u.node AND c.item = u.item AND c.attempt = u.attempt",
	4, {UUIDARRAYOID, TEXTARRAYOID, INT4ARRAYOID, INT8ARRAYOID}},
	[GOYA_STMT_SWEEP_STREAMS] = {"DELETE FROM goya_private.stream_chunks c WHERE c.created_at < $1", 1, {TIMESTAMPTZOID}},
	[GOYA_STMT_MODEL_CALL] = {"SELECT goya_private.prepare_model_call($1, $2, $3)", 3, {UUIDOID, TEXTOID, JSONBOID}},
	[GOYA_STMT_KEEP_ANSWER] = {"SELECT goya_private.keep_answer($1, $2, $3, $4)", 4, {UUIDOID, TEXTOID, JSONBOID, INT4OID}},
	[GOYA_STMT_LOAD_SECRET] = {
		"SELECT s.hosts, s.version, v.sealed, s.last_used_at IS NULL OR s.last_used_at < now() - interval '1 minute'"
		" FROM goya.secrets s JOIN goya_private.secret_values v ON v.tenant_id = s.tenant_id AND v.name = s.name WHERE s.tenant_id = $1 AND s.name = $2",
	2, {UUIDOID, TEXTOID}},
	/* Whoever sets the secret meanwhile holds its row, and is not waited for. */
	[GOYA_STMT_USE_SECRET] = {
		"WITH free AS (SELECT s.tenant_id, s.name FROM goya.secrets s WHERE s.tenant_id = $1 AND s.name = $2 FOR NO KEY UPDATE SKIP LOCKED)"
		" UPDATE goya.secrets s SET last_used_at = now() FROM free f WHERE s.tenant_id = f.tenant_id AND s.name = f.name",
	2, {UUIDOID, TEXTOID}},
};
