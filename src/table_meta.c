/*-------------------------------------------------------------------------
 * table_meta.c
 *		What table.c has to know of goya's hot tables: columns and labels by name, the index to seek in, prepared check constraints.
 *
 * Kept per process until the table changes: an upgrade may have columns in another order, and preparing a check constraint costs more
 * than writing a row.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "nodes/nodes.h"
#include "optimizer/optimizer.h"
#include "storage/proc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "table.h"

#if PG_VERSION_NUM >= 170000
#define MY_LXID MyProc->vxid.lxid
#else
#define MY_LXID MyProc->lxid
#endif

typedef struct TableText
{
	const char *schema;
	const char *name;
	const char *key;			/* the index to seek in */
	const char *columns[GOYA_TABLE_MAX_COLUMNS + 1];
	const char *label_type;
	const char *labels[GOYA_TABLE_MAX_LABELS + 1];
} TableText;

static const TableText texts[GOYA_N_TABLES] = {
	[GOYA_TABLE_TASKS] = {
		"goya", "tasks", "tasks_pkey",
		{"id", "tenant_id", "workflow_id", "revision", "status", "run_as", "created_by", "priority", "depth", "paused", "failing", "active",
			"waiting", "done_nodes", "last_seq", "started_seq", "finished_seq", "progress", "message", "input", "output", "error", "asset_id",
			"parent_task_id", "parent_node", "parent_item", "trigger_id", "trigger", "trace_id", "idempotency_key", "max_cost", "hold_id",
		"run_at", "created_at", "started_at", "finished_at"},
		"task_status", {"pending", "running", "waiting", "cancelling", "succeeded", "failed", "cancelled"}
	},
	[GOYA_TABLE_NODE_RUNS] = {
		"goya", "node_runs", "node_runs_pkey",
		{"task_id", "node", "item", "attempt", "tenant_id", "status", "seq", "started_seq", "epoch", "message", "input", "output", "error",
		"cost", "started_at", "finished_at"},
		"node_run_status", {"pending", "ready", "running", "waiting", "succeeded", "failed", "skipped", "cancelled", "compensated"}
	},
	[GOYA_TABLE_READY] = {
		"goya_private", "ready", "ready_rank_idx",
		{"rank", "lane", "verb", "task_id", "node", "item", "attempt", "tries"}
	},
	[GOYA_TABLE_EVENTS] = {
		"goya", "events", NULL,
		{"id", "tenant_id", "type", "subject_id", "data", "task_id", "depth", "created_at"}
	},
	[GOYA_TABLE_EVENT_QUEUE] = {
		"goya_private", "event_queue", "event_queue_pkey", {"event_id", "tenant_id"}
	},
	[GOYA_TABLE_HOLDS] = {
		"goya", "holds", "holds_pkey",
		{"id", "wallet_id", "tenant_id", "task_id", "reference", "currency", "amount", "captured", "posted", "status", "price_generation",
		"created_at", "settled_at", "capture_seq"}
	},
	[GOYA_TABLE_WALLETS] = {
		"goya", "wallets", "wallets_tenant_id_key",
		{"id", "tenant_id", "currency", "balance", "frozen", "last_seq", "updated_at"}
	},
	[GOYA_TABLE_ENTRIES] = {
		"goya", "wallet_entries", NULL,
		{"id", "wallet_id", "seq", "tenant_id", "kind", "amount", "moved", "balance_after", "frozen_after", "reference", "hold_id", "task_id",
		"created_at"}
	},
	[GOYA_TABLE_USAGE] = {
		"goya", "usage_records", NULL,
		{"task_id", "node", "item", "attempt", "line", "tenant_id", "price_name", "unit", "quantity", "cost", "currency", "estimated",
		"hold_id", "trace_id", "cost_tag", "created_at"}
	},
	[GOYA_TABLE_SLOTS] = {
		"goya_private", "trigger_slots", "trigger_slots_pkey", {"trigger_id", "slot", "task_id", "created_at"}
	},
};

static GoyaTableMeta metas[GOYA_N_TABLES];
static bool callback_registered = false;

/* ----- names ----- */

static void
table_changed(Datum arg, Oid relid)
{
	for (int i = 0; i < GOYA_N_TABLES; i++)
		if (!OidIsValid(relid) || metas[i].relid == relid)
			metas[i].valid = false;
}

static void
find_labels(const TableText *text, Oid namespace, Oid *labels)
{
	Oid			type;

	if (text->label_type == NULL)
		return;
	type = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum(text->label_type), ObjectIdGetDatum(namespace));
	for (int i = 0; text->labels[i] != NULL; i++)
	{
		labels[i] = GetSysCacheOid2(ENUMTYPOIDNAME, Anum_pg_enum_oid, ObjectIdGetDatum(type), CStringGetDatum(text->labels[i]));
		if (!OidIsValid(labels[i]))
			elog(ERROR, "type %s.%s has no label %s", text->schema, text->label_type, text->labels[i]);
	}
}

/* What a table opened earlier in this transaction may still be using stays, until the next time. */
static void
forget_checks(GoyaTableMeta *meta)
{
	if (meta->cxt != NULL && meta->used != MY_LXID)
		MemoryContextReset(meta->cxt);
	meta->checks = NULL;
}

static void
find_names(GoyaTableId id)
{
	const TableText *text = &texts[id];
	GoyaTableMeta *meta = &metas[id];
	Oid			namespace = get_namespace_oid(text->schema, false);

	if (!callback_registered)
	{
		CacheRegisterRelcacheCallback(table_changed, (Datum) 0);
		callback_registered = true;
	}
	meta->relid = get_relname_relid(text->name, namespace);
	if (!OidIsValid(meta->relid))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("table %s.%s does not exist", text->schema, text->name)));
	meta->valid = true;			/* from here on an invalidation is not lost */
	forget_checks(meta);
	meta->keyid = text->key ? get_relname_relid(text->key, namespace) : InvalidOid;
	for (int i = 0; text->columns[i] != NULL; i++)
	{
		meta->att[i] = get_attnum(meta->relid, text->columns[i]);
		if (meta->att[i] <= 0)
			elog(ERROR, "table %s.%s has no column %s", text->schema, text->name, text->columns[i]);
	}
	find_labels(text, namespace, meta->labels);
}

int
goya_table_label_of(GoyaTable *t, Datum value)
{
	for (int i = 0; i < GOYA_TABLE_MAX_LABELS; i++)
		if (t->meta->labels[i] == DatumGetObjectId(value))
			return i;
	elog(ERROR, "label %u of table %s is not known", DatumGetObjectId(value), RelationGetRelationName(t->rel));
}

/* Locked before it is looked at: an invalidation that the lock brought in starts again. */
static Relation
open_relation(GoyaTableId id)
{
	for (;;)
	{
		Relation	rel;

		if (!metas[id].valid)
			find_names(id);
		rel = try_table_open(metas[id].relid, RowExclusiveLock);
		if (rel != NULL && metas[id].valid)
			return rel;
		if (rel != NULL)
			table_close(rel, RowExclusiveLock);
		metas[id].valid = false;
	}
}

/* As ExecRelCheck would for each open: here once. */
static void
prepare_checks(GoyaTableMeta *meta, Relation rel)
{
	TupleConstr *constr = rel->rd_att->constr;
	MemoryContext old;
	ExprState **checks;

	if (constr == NULL || constr->num_check == 0 || meta->checks != NULL)
		return;
	if (meta->cxt == NULL)
		meta->cxt = AllocSetContextCreate(TopMemoryContext, "goya table checks", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(meta->cxt);
	checks = palloc(sizeof(ExprState *) * constr->num_check);
	for (int i = 0; i < constr->num_check; i++)
		checks[i] = ExecInitExpr(expression_planner((Expr *) stringToNode(constr->check[i].ccbin)), NULL);
	MemoryContextSwitchTo(old);
	meta->checks = checks;
}

/*
 * Open a table, locked for writing, and say what is known of it.
 */
GoyaTableMeta *
goya_table_meta(GoyaTableId id, Relation *rel)
{
	GoyaTableMeta *meta = &metas[id];

	*rel = open_relation(id);
	prepare_checks(meta, *rel);
	meta->used = MY_LXID;
	return meta;
}
