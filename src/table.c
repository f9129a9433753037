/*-------------------------------------------------------------------------
 * table.c
 *		goya's own hot tables, read and written directly through table and index access methods, as COPY and the apply worker of logical
 *		replication do: no parser, no planner, no executor nodes.
 *
 * Decided: tasks, node runs, the queue and completion events only, because a step writes little else; everything rarer is SQL in
 * store.c.  A table that somebody gave a row trigger or a generated column is written row by row with the executor's routines that
 * know about them (ExecSimpleRelation...); any other in bulk, one WAL record per page.  Constraints are always checked.  Triggers for
 * each statement do not fire: there is no statement.
 *
 * What must hold: only code that acts as goya_owner gets here, because nothing below checks privileges or row security.  Rows are
 * updated only under a lock taken with goya_table_lock in the same transaction.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "crash_point.h"
#include "table.h"

#define BUFFERED_ROWS 64		/* enough to fill a few pages at once */

/* ----- open, close ----- */

static void
see_triggers(GoyaTable *t)
{
	TriggerDesc *triggers = t->rel->trigdesc;
	TupleConstr *constr = t->rel->rd_att->constr;
	bool		generated = constr != NULL && constr->has_generated_stored;

	t->plain_insert = !generated && (triggers == NULL || !(triggers->trig_insert_before_row || triggers->trig_insert_after_row));
	t->plain_update = !generated && (triggers == NULL || !(triggers->trig_update_before_row || triggers->trig_update_after_row));
	if (!t->plain_insert || !t->plain_update)
		AfterTriggerBeginQuery();
}

GoyaTable *
goya_table_open(GoyaTableId id)
{
	GoyaTable  *t;

	PreventCommandIfReadOnly("a change of goya's tables");	/* what INSERT and UPDATE would have asked */
	PreventCommandIfParallelMode("a change of goya's tables");
	t = palloc0(sizeof(GoyaTable));
	t->cxt = CurrentMemoryContext;
	t->meta = goya_table_meta(id, &t->rel);
	t->estate = CreateExecutorState();
	t->estate->es_output_cid = GetCurrentCommandId(true);
	t->info = makeNode(ResultRelInfo);
	InitResultRelInfo(t->info, t->rel, 0, NULL, 0);
	ExecOpenIndices(t->info, false);
#if PG_VERSION_NUM >= 180000
	t->info->ri_CheckConstraintExprs = t->meta->checks;
#else
	t->info->ri_ConstraintExprs = t->meta->checks;
#endif
	see_triggers(t);
	return t;
}

static void
write_one(GoyaTable *t, TupleTableSlot *row)
{
	ExecSimpleRelationInsert(t->info, t->estate, row);
	ResetPerTupleExprContext(t->estate);
}

static void
insert_index_entries(GoyaTable *t, TupleTableSlot *row, bool update)
{
	if (t->info->ri_NumIndices == 0)
		return;
#if PG_VERSION_NUM >= 160000
	list_free(ExecInsertIndexTuples(t->info, row, t->estate, update, false, NULL, NIL, false));
#else
	list_free(ExecInsertIndexTuples(t->info, row, t->estate, update, false, NULL, NIL));
#endif
	ResetPerTupleExprContext(t->estate);
}

static void
write_rows(GoyaTable *t)
{
	if (t->n == 0)
		return;
	if (t->plain_insert && t->n > 1)
		table_multi_insert(t->rel, t->slots, t->n, GetCurrentCommandId(true), 0, NULL);
	for (int i = 0; i < t->n; i++)
	{
		if (!t->plain_insert)
			write_one(t, t->slots[i]);
		else
		{
			if (t->n == 1)
				table_tuple_insert(t->rel, t->slots[i], GetCurrentCommandId(true), 0, NULL);
			GOYA_CRASH_POINT(TABLE_HEAP_INSERTED);
			insert_index_entries(t, t->slots[i], false);
		}
		ExecClearTuple(t->slots[i]);
	}
	t->n = 0;
}

void
goya_table_flush(GoyaTable *t)
{
	write_rows(t);
}

void
goya_table_close(GoyaTable *t)
{
	write_rows(t);
	for (int i = 0; i < t->max && t->slots[i] != NULL; i++)
		ExecDropSingleTupleTableSlot(t->slots[i]);
	if (t->scan != NULL)
	{
		index_endscan(t->scan);
		index_close(t->index, NoLock);
	}
	if (t->found != NULL)
		ExecDropSingleTupleTableSlot(t->found);
	if (t->changed != NULL)
		ExecDropSingleTupleTableSlot(t->changed);
	if (!t->plain_insert || !t->plain_update)
	{
		AfterTriggerEndQuery(t->estate);
		ExecResetTupleTable(t->estate->es_tupleTable, false);	/* rows that triggers saw */
		ExecCloseResultRelations(t->estate);	/* opened for the triggers */
	}
	ExecCloseIndices(t->info);
	table_close(t->rel, NoLock);
	FreeExecutorState(t->estate);
	CommandCounterIncrement();
}

/* ----- appending ----- */

static TupleTableSlot *
make_slot(GoyaTable *t)
{
	MemoryContext old = MemoryContextSwitchTo(t->cxt);
	TupleTableSlot *slot = table_slot_create(t->rel, NULL);

	MemoryContextSwitchTo(old);
	return slot;
}

TupleTableSlot *
goya_table_row(GoyaTable *t)
{
	TupleTableSlot *row;

	if (t->n == t->max)
	{
		int			max = t->max ? Min(t->max * 8, BUFFERED_ROWS) : 8;

		if (t->n == BUFFERED_ROWS)
			write_rows(t);
		else
		{
			t->slots = t->slots ? repalloc(t->slots, sizeof(TupleTableSlot *) * max) : MemoryContextAlloc(t->cxt, sizeof(TupleTableSlot *) * max);
			memset(t->slots + t->max, 0, sizeof(TupleTableSlot *) * (max - t->max));
			t->max = max;
		}
	}
	if (t->slots[t->n] == NULL)
		t->slots[t->n] = make_slot(t);
	row = t->slots[t->n];
	memset(row->tts_isnull, true, sizeof(bool) * row->tts_tupleDescriptor->natts);
	memset(row->tts_values, 0, sizeof(Datum) * row->tts_tupleDescriptor->natts);
	return row;
}

void
goya_table_append(GoyaTable *t)
{
	TupleTableSlot *row = t->slots[t->n];

	ExecStoreVirtualTuple(row);
	row->tts_tableOid = RelationGetRelid(t->rel);
	if (t->plain_insert && t->rel->rd_att->constr != NULL)
		ExecConstraints(t->info, row, t->estate);
	t->n++;
}

/* ----- finding ----- */

static void
init_key(GoyaTable *t, int i, StrategyNumber strategy)
{
	Oid			type = t->index->rd_opcintype[i];

	ScanKeyEntryInitialize(&t->keys[i], 0, i + 1, strategy, InvalidOid, t->index->rd_indcollation[i],
						   get_opcode(get_opfamily_member(t->index->rd_opfamily[i], type, type, strategy)), (Datum) 0);
}

static void
start_scan(GoyaTable *t)
{
	MemoryContext old = MemoryContextSwitchTo(t->cxt);

	t->index = index_open(t->meta->keyid, RowExclusiveLock);
	init_key(t, 0, BTEqualStrategyNumber);
	if (IndexRelationGetNumberOfKeyAttributes(t->index) > 1)
		init_key(t, 1, BTGreaterEqualStrategyNumber);
#if PG_VERSION_NUM >= 180000
	t->scan = index_beginscan(t->rel, t->index, GetActiveSnapshot(), NULL, GOYA_TABLE_MAX_KEYS, 0);
#else
	t->scan = index_beginscan(t->rel, t->index, GetActiveSnapshot(), GOYA_TABLE_MAX_KEYS, 0);
#endif
	MemoryContextSwitchTo(old);
	if (t->found == NULL)
		t->found = make_slot(t);
}

static bool
seek(GoyaTable *t, int n)
{
	t->scan->numberOfKeys = n;
	index_rescan(t->scan, t->keys, n, NULL, 0);
	return goya_table_next(t);
}

bool
goya_table_seek(GoyaTable *t, Datum key)
{
	if (t->scan == NULL)
		start_scan(t);
	t->keys[0].sk_argument = key;
	return seek(t, 1);
}

bool
goya_table_seek_from(GoyaTable *t, Datum key, Datum from)
{
	if (t->scan == NULL)
		start_scan(t);
	t->keys[0].sk_argument = key;
	t->keys[1].sk_argument = from;
	return seek(t, 2);
}

bool
goya_table_seek_least(GoyaTable *t, const Datum *least)
{
	if (t->scan == NULL)
		start_scan(t);
	init_key(t, 0, BTGreaterEqualStrategyNumber);
	if (least != NULL)
		t->keys[0].sk_argument = *least;
	return seek(t, least != NULL ? 1 : 0);
}

bool
goya_table_find(GoyaTable *t, int n, const Datum *keys)
{
	if (t->scan == NULL)
		start_scan(t);
	for (int i = t->n_equal; i < n; i++)
		init_key(t, i, BTEqualStrategyNumber);
	t->n_equal = n;
	for (int i = 0; i < n; i++)
		t->keys[i].sk_argument = keys[i];
	return seek(t, n);
}

bool
goya_table_next(GoyaTable *t)
{
	if (!index_getnext_slot(t->scan, ForwardScanDirection, t->found))
		return false;
	slot_getallattrs(t->found);
	return true;
}

/* ----- changing ----- */

static GoyaLockResult
lock_tuple(GoyaTable *t, ItemPointer tid, LockWaitPolicy policy)
{
	TM_FailureData tmfd;
	TM_Result	result;

	if (t->found == NULL)
		t->found = make_slot(t);
	result = table_tuple_lock(t->rel, tid, GetActiveSnapshot(), t->found, GetCurrentCommandId(true), LockTupleNoKeyExclusive, policy,
							  TUPLE_LOCK_FLAG_LOCK_UPDATE_IN_PROGRESS | TUPLE_LOCK_FLAG_FIND_LAST_VERSION, &tmfd);
	if (result == TM_Deleted)
		return GOYA_LOCK_GONE;
	if (result == TM_WouldBlock)
		return GOYA_LOCK_HELD;
	if (result == TM_SelfModified || result == TM_Invisible)
		return GOYA_LOCK_OURS;
	if (result != TM_Ok)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("a row of table %s changed while it was being locked", RelationGetRelationName(t->rel))));
	slot_getallattrs(t->found);
	return GOYA_LOCK_DONE;
}

GoyaLockResult
goya_table_lock(GoyaTable *t, ItemPointer tid)
{
	return lock_tuple(t, tid, LockWaitBlock);
}

GoyaLockResult
goya_table_try_lock(GoyaTable *t, ItemPointer tid)
{
	return lock_tuple(t, tid, LockWaitSkip);
}

TupleTableSlot *
goya_table_change(GoyaTable *t, HeapTuple old)
{
	if (t->changed == NULL)
	{
		MemoryContext cxt = MemoryContextSwitchTo(t->cxt);

		t->changed = MakeSingleTupleTableSlot(RelationGetDescr(t->rel), &TTSOpsVirtual);
		MemoryContextSwitchTo(cxt);
	}
	ExecClearTuple(t->changed);
	heap_deform_tuple(old, RelationGetDescr(t->rel), t->changed->tts_values, t->changed->tts_isnull);
	return t->changed;
}

/* The executor's way, for a table with triggers. */
static void
update_one(GoyaTable *t, ItemPointer tid, TupleTableSlot *row)
{
	EPQState	epq;
	TupleTableSlot *old = table_slot_create(t->rel, NULL);

	if (!table_tuple_fetch_row_version(t->rel, tid, SnapshotAny, old))
		elog(ERROR, "row of table %s not found", RelationGetRelationName(t->rel));
	EvalPlanQualInit(&epq, t->estate, NULL, NIL, -1
#if PG_VERSION_NUM >= 160000
					 ,NIL
#endif
		);
	ExecSimpleRelationUpdate(t->info, t->estate, &epq, old, row);
	EvalPlanQualEnd(&epq);
	ExecDropSingleTupleTableSlot(old);
}

void
goya_table_update(GoyaTable *t, ItemPointer tid, TupleTableSlot *row)
{
	TM_FailureData tmfd;
	LockTupleMode lockmode;
	TM_Result	result;
#if PG_VERSION_NUM >= 160000
	TU_UpdateIndexes indexes;
#else
	bool		indexes;
#endif

	ExecStoreVirtualTuple(row);
	row->tts_tableOid = RelationGetRelid(t->rel);
	if (!t->plain_update)
	{
		update_one(t, tid, row);
		return;
	}
	if (t->rel->rd_att->constr != NULL)
		ExecConstraints(t->info, row, t->estate);
	result = table_tuple_update(t->rel, tid, row, GetCurrentCommandId(true), GetActiveSnapshot(), InvalidSnapshot, true, &tmfd, &lockmode, &indexes);
	if (result != TM_Ok)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("a row of table %s changed while it was being updated", RelationGetRelationName(t->rel))));
	GOYA_CRASH_POINT(TABLE_HEAP_UPDATED);
#if PG_VERSION_NUM >= 160000
	if (indexes != TU_None)
#else
	if (indexes)
#endif
		insert_index_entries(t, row, true);
	ResetPerTupleExprContext(t->estate);
}

bool
goya_table_take(GoyaTable *t)
{
	TM_FailureData tmfd;

	return table_tuple_delete(t->rel, &t->found->tts_tid, GetCurrentCommandId(true), GetActiveSnapshot(), InvalidSnapshot, false, &tmfd, false) == TM_Ok;
}
