/*-------------------------------------------------------------------------
 * store.c
 *		Every SQL statement that goya's C code runs itself, and how it runs them.
 *
 * Statements run as goya_owner with search_path pg_catalog, pg_temp (identity.c), as plans prepared once per process with generic
 * plans: hot statements must not change their plan with the statistics of the day.  They are set-based: a batch gives its rows as
 * arrays, one per column.
 *
 * What must hold: locks are taken in the order ready rows (skip locked), tasks by id, joins and maps, holds by id, wallets by id.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "jit/jit.h"
#include "optimizer/cost.h"
#include "optimizer/plancat.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "goya.h"
#include "store.h"

typedef struct StatementText
{
	const char *sql;
	int			nargs;
	Oid			args[GOYA_MAX_COLUMNS];
} StatementText;

#define MANY_ROWS	1000000.0
#define MANY_PAGES	20000

static const StatementText statements[GOYA_N_STATEMENTS] = {
	[GOYA_STMT_ACTIVE_TENANTS] = {"SELECT id FROM goya.tenants WHERE id = ANY ($1) AND status = 'active'", 1, {UUIDARRAYOID}},
	[GOYA_STMT_CANCEL_WANTED] = {"SELECT task_id FROM goya_private.cancel_requests WHERE task_id = ANY ($1)", 1, {UUIDARRAYOID}},
	[GOYA_STMT_LOAD_VALUES] = {
		"SELECT n.task_id, n.node, n.status::text, n.output, n.error FROM unnest($1, $2) AS u(task_id, node)"
		" JOIN goya.node_runs n ON n.task_id = u.task_id AND n.node = u.node AND n.item = 0"
		" WHERE n.status IN ('succeeded', 'failed', 'skipped', 'compensated') ORDER BY n.attempt",
	2, {UUIDARRAYOID, TEXTARRAYOID}},
	[GOYA_STMT_LOAD_ITEMS] = {
		"SELECT n.input -> 'items' FROM goya.node_runs n WHERE n.task_id = $1 AND n.node = $2 AND n.item = 0 ORDER BY n.attempt DESC LIMIT 1",
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
		"INSERT INTO goya_private.timers (rank, lane, verb, task_id, node, item, attempt, due) SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8)",
	8, {INT8ARRAYOID, INT2ARRAYOID, INT2ARRAYOID, UUIDARRAYOID, INT4ARRAYOID, INT4ARRAYOID, INT2ARRAYOID, TIMESTAMPTZARRAYOID}},
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
		"SELECT coalesce(pg_catalog.jsonb_agg(i.output ORDER BY i.item), '[]') FROM (SELECT DISTINCT ON (n.item) n.item,"
		" CASE WHEN n.status = 'succeeded' THEN n.output END AS output FROM goya.node_runs n"
		" WHERE n.task_id = $1 AND n.node = $2 ORDER BY n.item, n.attempt DESC) i",
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
	[GOYA_STMT_LOAD_CHILD] = {
		"SELECT id, status::text, output, error FROM goya.tasks WHERE parent_task_id = $1 AND parent_node = $2 AND parent_item = $3"
		" ORDER BY id DESC LIMIT 1",
	3, {UUIDOID, INT4OID, INT4OID}},
	[GOYA_STMT_END_TASK] = {
		"SELECT goya_private.end_task($1, $2::goya.task_status, $3)", 3, {UUIDOID, TEXTOID, JSONBOID}},
	[GOYA_STMT_LOCK_WALLETS] = {"SELECT FROM goya.wallets WHERE tenant_id = ANY ($1) ORDER BY id FOR NO KEY UPDATE", 1, {UUIDARRAYOID}},
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
		" INSERT INTO goya_private.ready (rank, lane, verb, task_id, node, item, attempt)"
		" SELECT rank, lane, verb, task_id, node, item, attempt FROM due RETURNING lane, rank",
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
		"SELECT EXISTS (SELECT FROM goya_private.ready WHERE lane = 0), EXISTS (SELECT FROM goya_private.ready WHERE lane = 1),"
		" EXISTS (SELECT FROM goya_private.ready WHERE lane = 2), EXISTS (SELECT FROM goya_private.ready WHERE lane = 3),"
		" EXISTS (SELECT FROM goya_private.cancel_requests), EXISTS (SELECT FROM goya_private.event_queue),"
		" EXISTS (SELECT FROM goya_private.timers WHERE due <= pg_catalog.clock_timestamp()),"
		" EXISTS (SELECT FROM goya_private.live_triggers l WHERE CASE l.kind WHEN 'interval' THEN l.next_due <= pg_catalog.clock_timestamp()"
		"  WHEN 'cron' THEN l.missed <> 'skip' AND l.next_due <= pg_catalog.clock_timestamp() - '91 s'::interval END)", 0, {0}},
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
		"SELECT n.task_id, n.node, n.item, n.attempt, n.started_at, n.epoch FROM goya.node_runs n WHERE n.status = 'running' AND n.epoch < $1 LIMIT 1000",
	1, {INT4OID}},
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
};

static SPIPlanPtr plans[GOYA_N_STATEMENTS];
static get_relation_info_hook_type previous_relation_info_hook = NULL;
static bool hook_installed = false;
static bool assuming_many = false;

/*
 * While one of our statements is planned, every table has at least a million rows.  A plan made when node_runs had two rows joins it by
 * scanning all of it for each key, and stays for as long as nothing analyzes the table: seconds instead of milliseconds soon after.
 */
static void
assume_many_rows(PlannerInfo *root, Oid relation, bool inhparent, RelOptInfo *rel)
{
	ListCell   *lc;

	if (previous_relation_info_hook != NULL)
		previous_relation_info_hook(root, relation, inhparent, rel);
	if (!assuming_many || relation < FirstNormalObjectId || rel->tuples >= MANY_ROWS)
		return;
	rel->tuples = MANY_ROWS;
	rel->pages = MANY_PAGES;
	foreach(lc, rel->indexlist)
	{
		IndexOptInfo *index = lfirst(lc);

		index->tuples = MANY_ROWS;
		index->pages = MANY_PAGES / 4;
		index->tree_height = 2;
	}
}

void
goya_store_enter(GoyaStoreScope *scope)
{
	scope->caller = CurrentMemoryContext;
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	goya_owner_enter(&scope->owner);
	MemoryContextSwitchTo(scope->caller);
}

void
goya_store_leave(GoyaStoreScope *scope)
{
	goya_owner_leave(&scope->owner);
	SPI_finish();
	MemoryContextSwitchTo(scope->caller);
}

static SPIPlanPtr
get_plan(GoyaStatement statement)
{
	const StatementText *text = &statements[statement];
	SPIPlanPtr	plan = plans[statement];

	if (plan != NULL)
		return plan;
	if (!hook_installed)
	{
		hook_installed = true;
		previous_relation_info_hook = get_relation_info_hook;
		get_relation_info_hook = assume_many_rows;
	}
	plan = SPI_prepare_cursor(text->sql, text->nargs, (Oid *) text->args, CURSOR_OPT_GENERIC_PLAN);
	if (plan == NULL)
		elog(ERROR, "could not prepare statement %d: %s", statement, SPI_result_code_string(SPI_result));
	if (SPI_keepplan(plan) != 0)
		elog(ERROR, "could not keep statement %d", statement);
	plans[statement] = plan;
	return plan;
}

/*
 * goya's tables grow from nothing to millions of rows while a plan lives, and every statement here is a matter of a few index look-ups:
 * so none of them may become a scan or a hash join, whatever the statistics say when it happens to be planned.
 */
void
goya_store_run(GoyaStatement statement, Datum *args, const char *nulls)
{
	MemoryContext caller = CurrentMemoryContext;
	bool		seqscan = enable_seqscan;
	bool		hashjoin = enable_hashjoin;
	bool		mergejoin = enable_mergejoin;
	bool		material = enable_material;
	bool		jit = jit_enabled;
	bool		many = assuming_many;
	volatile int rc = 0;

	PG_TRY();
	{
		enable_seqscan = enable_hashjoin = enable_mergejoin = enable_material = jit_enabled = false;
		assuming_many = true;
		rc = SPI_execute_plan(get_plan(statement), args, nulls, false, 0);
	}
	PG_FINALLY();
	{
		enable_seqscan = seqscan;
		enable_hashjoin = hashjoin;
		enable_mergejoin = mergejoin;
		enable_material = material;
		jit_enabled = jit;
		assuming_many = many;
	}
	PG_END_TRY();
	if (rc < 0)
		elog(ERROR, "statement %d failed: %s", statement, SPI_result_code_string(rc));
	MemoryContextSwitchTo(caller);
}

/* ----- rows by column ----- */

GoyaRows *
goya_rows_create(int ncols, const Oid *types)
{
	GoyaRows   *rows = palloc0(sizeof(GoyaRows));

	rows->ncols = ncols;
	rows->max = 16;
	for (int i = 0; i < ncols; i++)
	{
		rows->types[i] = types[i];
		rows->values[i] = palloc(sizeof(Datum) * rows->max);
		rows->nulls[i] = palloc(sizeof(bool) * rows->max);
	}
	return rows;
}

void
goya_rows_add(GoyaRows *rows)
{
	if (rows->n == rows->max)
	{
		rows->max *= 2;
		for (int i = 0; i < rows->ncols; i++)
		{
			rows->values[i] = repalloc(rows->values[i], sizeof(Datum) * rows->max);
			rows->nulls[i] = repalloc(rows->nulls[i], sizeof(bool) * rows->max);
		}
	}
	for (int i = 0; i < rows->ncols; i++)
	{
		rows->values[i][rows->n] = (Datum) 0;
		rows->nulls[i][rows->n] = true;
	}
	rows->n++;
}

static void
set_column(GoyaRows *rows, int col, Datum value)
{
	rows->values[col][rows->n - 1] = value;
	rows->nulls[col][rows->n - 1] = false;
}

void
goya_rows_uuid(GoyaRows *rows, int col, const pg_uuid_t *value)
{
	set_column(rows, col, UUIDPGetDatum(value));
}

void
goya_rows_text(GoyaRows *rows, int col, const char *value)
{
	if (value != NULL)
		set_column(rows, col, CStringGetTextDatum(value));
}

void
goya_rows_int4(GoyaRows *rows, int col, int32 value)
{
	set_column(rows, col, Int32GetDatum(value));
}

void
goya_rows_int2(GoyaRows *rows, int col, int16 value)
{
	set_column(rows, col, Int16GetDatum(value));
}

void
goya_rows_int8(GoyaRows *rows, int col, int64 value)
{
	set_column(rows, col, Int64GetDatum(value));
}

void
goya_rows_time(GoyaRows *rows, int col, TimestampTz value)
{
	if (value != 0)
		set_column(rows, col, TimestampTzGetDatum(value));
}

void
goya_rows_jsonb(GoyaRows *rows, int col, Jsonb *value)
{
	if (value != NULL)
		set_column(rows, col, JsonbPGetDatum(value));
}

void
goya_rows_run(GoyaStatement statement, GoyaRows *rows)
{
	Datum		args[GOYA_MAX_COLUMNS];
	int			dims[1];
	int			lower[1] = {1};

	Assert(statements[statement].nargs == rows->ncols);
	dims[0] = rows->n;
	for (int i = 0; i < rows->ncols; i++)
	{
		int16		len;
		bool		byval;
		char		align;

		get_typlenbyvalalign(rows->types[i], &len, &byval, &align);
		args[i] = PointerGetDatum(construct_md_array(rows->values[i], rows->nulls[i], 1, dims, lower, rows->types[i], len, byval, align));
	}
	goya_store_run(statement, args, NULL);
}

/* ----- results ----- */

bool
goya_result_isnull(int row, int col)
{
	bool		isnull;

	(void) SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, col, &isnull);
	return isnull;
}

Datum
goya_result_datum(int row, int col)
{
	bool		isnull;

	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, col, &isnull);
}

pg_uuid_t
goya_result_uuid(int row, int col)
{
	return *DatumGetUUIDP(goya_result_datum(row, col));
}

char *
goya_result_text(int row, int col, MemoryContext cxt)
{
	MemoryContext old;
	char	   *result;

	if (goya_result_isnull(row, col))
		return NULL;
	old = MemoryContextSwitchTo(cxt);
	result = TextDatumGetCString(goya_result_datum(row, col));
	MemoryContextSwitchTo(old);
	return result;
}

Jsonb *
goya_result_jsonb(int row, int col, MemoryContext cxt)
{
	MemoryContext old;
	Jsonb	   *result;

	if (goya_result_isnull(row, col))
		return NULL;
	old = MemoryContextSwitchTo(cxt);
	result = DatumGetJsonbPCopy(goya_result_datum(row, col));
	MemoryContextSwitchTo(old);
	return result;
}

int
goya_result_int4(int row, int col)
{
	return DatumGetInt32(goya_result_datum(row, col));
}

int64
goya_result_int8(int row, int col)
{
	return DatumGetInt64(goya_result_datum(row, col));
}

bool
goya_result_bool(int row, int col)
{
	return DatumGetBool(goya_result_datum(row, col));
}
