/*-------------------------------------------------------------------------
 * table.h
 *		goya's own hot tables, read and written directly through table and index access methods.  See table.c.
 *
 *		GoyaTable  *t = goya_table_open(GOYA_TABLE_NODE_RUNS);
 *		TupleTableSlot *row = goya_table_row(t);			all columns null; the values must live until close
 *
 *		goya_row_set(t, row, GOYA_RUNS_TASK_ID, UUIDPGetDatum(&id));
 *		goya_table_append(t);
 *		...
 *		goya_table_close(t);								written, and visible to the transaction's next statement
 *-------------------------------------------------------------------------
 */
#ifndef GOYA_TABLE_H
#define GOYA_TABLE_H

#include "postgres.h"

#include "access/skey.h"
#include "access/tableam.h"
#include "executor/tuptable.h"
#include "nodes/execnodes.h"
#include "utils/relcache.h"
#include "utils/uuid.h"

typedef enum GoyaTableId
{
	GOYA_TABLE_TASKS,
	GOYA_TABLE_NODE_RUNS,
	GOYA_TABLE_READY,
	GOYA_TABLE_EVENTS,
	GOYA_TABLE_EVENT_QUEUE,
	GOYA_TABLE_HOLDS,
	GOYA_TABLE_WALLETS,
	GOYA_TABLE_ENTRIES,
	GOYA_TABLE_USAGE,
	GOYA_TABLE_SLOTS,
	GOYA_N_TABLES
} GoyaTableId;

/* Columns by table, in the order of the names in table.c. */
typedef enum GoyaTasksColumn
{
	GOYA_TASKS_ID, GOYA_TASKS_TENANT_ID, GOYA_TASKS_WORKFLOW_ID, GOYA_TASKS_REVISION, GOYA_TASKS_STATUS, GOYA_TASKS_RUN_AS,
	GOYA_TASKS_CREATED_BY, GOYA_TASKS_PRIORITY, GOYA_TASKS_DEPTH, GOYA_TASKS_PAUSED, GOYA_TASKS_FAILING, GOYA_TASKS_ACTIVE,
	GOYA_TASKS_WAITING, GOYA_TASKS_DONE_NODES, GOYA_TASKS_LAST_SEQ, GOYA_TASKS_STARTED_SEQ, GOYA_TASKS_FINISHED_SEQ, GOYA_TASKS_PROGRESS,
	GOYA_TASKS_MESSAGE, GOYA_TASKS_INPUT, GOYA_TASKS_OUTPUT, GOYA_TASKS_ERROR, GOYA_TASKS_ASSET_ID, GOYA_TASKS_PARENT_TASK_ID,
	GOYA_TASKS_PARENT_NODE, GOYA_TASKS_PARENT_ITEM, GOYA_TASKS_TRIGGER_ID, GOYA_TASKS_TRIGGER, GOYA_TASKS_TRACE_ID,
	GOYA_TASKS_IDEMPOTENCY_KEY, GOYA_TASKS_MAX_COST, GOYA_TASKS_HOLD_ID, GOYA_TASKS_RUN_AT, GOYA_TASKS_CREATED_AT, GOYA_TASKS_STARTED_AT,
	GOYA_TASKS_FINISHED_AT, GOYA_TASKS_N
} GoyaTasksColumn;

typedef enum GoyaRunsColumn
{
	GOYA_RUNS_TASK_ID, GOYA_RUNS_NODE, GOYA_RUNS_ITEM, GOYA_RUNS_ATTEMPT, GOYA_RUNS_TENANT_ID, GOYA_RUNS_STATUS, GOYA_RUNS_SEQ,
	GOYA_RUNS_STARTED_SEQ, GOYA_RUNS_EPOCH, GOYA_RUNS_MESSAGE, GOYA_RUNS_INPUT, GOYA_RUNS_OUTPUT, GOYA_RUNS_ERROR, GOYA_RUNS_COST,
	GOYA_RUNS_STARTED_AT, GOYA_RUNS_FINISHED_AT, GOYA_RUNS_N
} GoyaRunsColumn;

typedef enum GoyaReadyColumn
{
	GOYA_READY_RANK, GOYA_READY_LANE, GOYA_READY_VERB, GOYA_READY_TASK_ID, GOYA_READY_NODE, GOYA_READY_ITEM, GOYA_READY_ATTEMPT,
	GOYA_READY_TRIES, GOYA_READY_N
} GoyaReadyColumn;

typedef enum GoyaEventsColumn
{
	GOYA_EVENTS_ID, GOYA_EVENTS_TENANT_ID, GOYA_EVENTS_TYPE, GOYA_EVENTS_SUBJECT_ID, GOYA_EVENTS_DATA, GOYA_EVENTS_TASK_ID,
	GOYA_EVENTS_DEPTH, GOYA_EVENTS_CREATED_AT, GOYA_EVENTS_N
} GoyaEventsColumn;

typedef enum GoyaEventQueueColumn
{
	GOYA_EVENT_QUEUE_EVENT_ID, GOYA_EVENT_QUEUE_TENANT_ID, GOYA_EVENT_QUEUE_N
} GoyaEventQueueColumn;

typedef enum GoyaHoldsColumn
{
	GOYA_HOLDS_ID, GOYA_HOLDS_WALLET_ID, GOYA_HOLDS_TENANT_ID, GOYA_HOLDS_TASK_ID, GOYA_HOLDS_REFERENCE, GOYA_HOLDS_CURRENCY,
	GOYA_HOLDS_AMOUNT, GOYA_HOLDS_CAPTURED, GOYA_HOLDS_POSTED, GOYA_HOLDS_STATUS, GOYA_HOLDS_PRICE_GENERATION, GOYA_HOLDS_CREATED_AT,
	GOYA_HOLDS_SETTLED_AT, GOYA_HOLDS_CAPTURE_SEQ, GOYA_HOLDS_N
} GoyaHoldsColumn;

typedef enum GoyaWalletsColumn
{
	GOYA_WALLETS_ID, GOYA_WALLETS_TENANT_ID, GOYA_WALLETS_CURRENCY, GOYA_WALLETS_BALANCE, GOYA_WALLETS_FROZEN, GOYA_WALLETS_LAST_SEQ,
	GOYA_WALLETS_UPDATED_AT, GOYA_WALLETS_N
} GoyaWalletsColumn;

typedef enum GoyaEntriesColumn
{
	GOYA_ENTRIES_ID, GOYA_ENTRIES_WALLET_ID, GOYA_ENTRIES_SEQ, GOYA_ENTRIES_TENANT_ID, GOYA_ENTRIES_KIND, GOYA_ENTRIES_AMOUNT,
	GOYA_ENTRIES_MOVED, GOYA_ENTRIES_BALANCE_AFTER, GOYA_ENTRIES_FROZEN_AFTER, GOYA_ENTRIES_REFERENCE, GOYA_ENTRIES_HOLD_ID,
	GOYA_ENTRIES_TASK_ID, GOYA_ENTRIES_CREATED_AT, GOYA_ENTRIES_N
} GoyaEntriesColumn;

typedef enum GoyaUsageColumn
{
	GOYA_USAGE_TASK_ID, GOYA_USAGE_NODE, GOYA_USAGE_ITEM, GOYA_USAGE_ATTEMPT, GOYA_USAGE_LINE, GOYA_USAGE_TENANT_ID, GOYA_USAGE_PRICE_NAME,
	GOYA_USAGE_UNIT, GOYA_USAGE_QUANTITY, GOYA_USAGE_COST, GOYA_USAGE_CURRENCY, GOYA_USAGE_ESTIMATED, GOYA_USAGE_HOLD_ID,
	GOYA_USAGE_TRACE_ID, GOYA_USAGE_COST_TAG, GOYA_USAGE_CREATED_AT, GOYA_USAGE_N
} GoyaUsageColumn;

typedef enum GoyaSlotsColumn
{
	GOYA_SLOTS_TRIGGER_ID, GOYA_SLOTS_SLOT, GOYA_SLOTS_TASK_ID, GOYA_SLOTS_CREATED_AT, GOYA_SLOTS_N
} GoyaSlotsColumn;

#define GOYA_TABLE_MAX_COLUMNS GOYA_TASKS_N
#define GOYA_TABLE_MAX_LABELS 12
#define GOYA_TABLE_MAX_KEYS 4

/* What is known of a table, per process. */
typedef struct GoyaTableMeta
{
	bool		valid;
	Oid			relid;
	Oid			keyid;			/* the index that goya_table_seek uses; InvalidOid: none */
	AttrNumber	att[GOYA_TABLE_MAX_COLUMNS];
	Oid			labels[GOYA_TABLE_MAX_LABELS];	/* of the type of its status */
	ExprState **checks;			/* NULL: none */
	MemoryContext cxt;			/* of checks */
	uint32		used;			/* the transaction that opened it last */
} GoyaTableMeta;

typedef struct GoyaTable
{
	GoyaTableMeta *meta;
	MemoryContext cxt;
	Relation	rel;
	EState	   *estate;
	ResultRelInfo *info;
	bool		plain_insert;	/* no row trigger, no generated column: rows are written many at once */
	bool		plain_update;
	TupleTableSlot **slots;		/* rows not yet written */
	int			n;
	int			max;
	Relation	index;			/* of goya_table_seek, when it was used */
	struct IndexScanDescData *scan;
	ScanKeyData keys[GOYA_TABLE_MAX_KEYS];	/* seek: first column = …, second column >= …; find: all = … */
	int			n_equal;		/* keys that are set for goya_table_find */
	TupleTableSlot *found;
	TupleTableSlot *changed;
} GoyaTable;

/* table_meta.c */
extern GoyaTableMeta *goya_table_meta(GoyaTableId id, Relation *rel);

/* In a transaction with an active snapshot.  The table lives in the current memory context, until close or the transaction's abort. */
extern GoyaTable *goya_table_open(GoyaTableId id);
extern void goya_table_close(GoyaTable *t);

/* Appending.  The slot is valid until goya_table_append. */
extern TupleTableSlot *goya_table_row(GoyaTable *t);
extern void goya_table_append(GoyaTable *t);
extern void goya_table_flush(GoyaTable *t); /* write what was appended: its values may go */

/*
 * By the key index's first column: the first (or next) row the active snapshot sees, in t->found; false: none.  seek_from: and its second
 * column at least from.
 */
extern bool goya_table_seek(GoyaTable *t, Datum key);
extern bool goya_table_seek_from(GoyaTable *t, Datum key, Datum from);
extern bool goya_table_next(GoyaTable *t);

/* From the row whose first column is at least this on, NULL: from the first (and then by nothing else with this t). */
extern bool goya_table_seek_least(GoyaTable *t, const Datum *least);

/* By all columns of the key index (and then by nothing else with this t). */
extern bool goya_table_find(GoyaTable *t, int n, const Datum *keys);

/*
 * Lock the row at tid, waiting, in its newest version, into t->found.  OURS: this transaction has changed it since, so it is to be looked
 * for again with a newer snapshot.  try_lock does not wait: HELD when it would have to.
 */
typedef enum GoyaLockResult
{
	GOYA_LOCK_DONE, GOYA_LOCK_GONE, GOYA_LOCK_OURS, GOYA_LOCK_HELD
} GoyaLockResult;

extern GoyaLockResult goya_table_lock(GoyaTable *t, ItemPointer tid);
extern GoyaLockResult goya_table_try_lock(GoyaTable *t, ItemPointer tid);

/* Replace the row at tid, locked by this transaction: row is a copy of it, changed (goya_table_change). */
extern TupleTableSlot *goya_table_change(GoyaTable *t, HeapTuple old);
extern void goya_table_update(GoyaTable *t, ItemPointer tid, TupleTableSlot *row);

/* Delete the row in t->found unless somebody else has it; false: somebody has. */
extern bool goya_table_take(GoyaTable *t);

static inline void
goya_row_set(GoyaTable *t, TupleTableSlot *row, int column, Datum value)
{
	int			i = t->meta->att[column] - 1;

	row->tts_values[i] = value;
	row->tts_isnull[i] = false;
}

static inline void
goya_row_null(GoyaTable *t, TupleTableSlot *row, int column)
{
	row->tts_isnull[t->meta->att[column] - 1] = true;
}

static inline Datum
goya_row_get(GoyaTable *t, TupleTableSlot *row, int column, bool *isnull)
{
	int			i = t->meta->att[column] - 1;

	if (isnull != NULL)
		*isnull = row->tts_isnull[i];
	return row->tts_values[i];
}

/* Status columns: by the position of the label in its type. */
static inline Datum
goya_table_label(GoyaTable *t, int label)
{
	return ObjectIdGetDatum(t->meta->labels[label]);
}

extern int	goya_table_label_of(GoyaTable *t, Datum value);

#endif
