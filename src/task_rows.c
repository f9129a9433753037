/*-------------------------------------------------------------------------
 * task_rows.c
 *		The rows of a batch's tasks: loading, locking, writing.
 *
 * Tasks are loaded without a lock, because what runs between may be slow; they are locked once, in the order of their ids, and what may
 * have changed meanwhile is read again from the locked version; that version, with the batch's changes, is what is written.  A task that
 * somebody keeps locked is left out of the batch (held.c).
 *
 * What must hold: nothing else in the transaction updates a task's row between lock and write.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "batch.h"
#include "guc.h"
#include "held.h"
#include "json_util.h"
#include "table.h"
#include "value.h"

static const Oid uuid_column[] = {UUIDOID};

static GoyaTask *
add_task(GoyaBatch *b, const pg_uuid_t *id)
{
	bool		found;
	GoyaTaskEntry *entry = hash_search(b->tasks, id, HASH_ENTER, &found);

	if (found)
		return entry->task;
	entry->task = MemoryContextAllocZero(b->cxt, sizeof(GoyaTask));
	entry->task->id = *id;
	if (b->n_tasks == b->max_tasks)
	{
		b->max_tasks = b->max_tasks ? b->max_tasks * 2 : 64;
		if (b->task_list == NULL)
			b->task_list = MemoryContextAlloc(b->cxt, sizeof(GoyaTask *) * b->max_tasks);
		else
			b->task_list = repalloc(b->task_list, sizeof(GoyaTask *) * b->max_tasks);
	}
	b->task_list[b->n_tasks++] = entry->task;
	return entry->task;
}

GoyaTask *
goya_batch_task(GoyaBatch *b, const pg_uuid_t *id)
{
	GoyaTaskEntry *entry = hash_search(b->tasks, id, HASH_FIND, NULL);

	return entry ? entry->task : NULL;
}

/* ----- loading ----- */

static bool
status_is_open(int status)
{
	return status == GOYA_TASK_PENDING || status == GOYA_TASK_RUNNING || status == GOYA_TASK_WAITING;
}

/* Columns, copied into the current context; NULL, 0 or false for null. */
static Datum
get(GoyaTable *t, int column)
{
	bool		isnull;
	Datum		value = goya_row_get(t, t->found, column, &isnull);

	return isnull ? (Datum) 0 : value;
}

static bool
get_uuid(GoyaTable *t, int column, pg_uuid_t *value)
{
	Datum		datum = get(t, column);

	if (datum == (Datum) 0)
		return false;
	*value = *DatumGetUUIDP(datum);
	return true;
}

static char *
get_text(GoyaTable *t, int column)
{
	Datum		datum = get(t, column);

	return datum == (Datum) 0 ? NULL : TextDatumGetCString(datum);
}

static Jsonb *
get_jsonb(GoyaTable *t, int column)
{
	Datum		datum = get(t, column);

	return datum == (Datum) 0 ? NULL : DatumGetJsonbPCopy(datum);
}

static void
fill_task(GoyaTask *task, GoyaTable *t)
{
	Datum		parent_node = get(t, GOYA_TASKS_PARENT_NODE);
	pg_uuid_t	hold;
	bool		no_parent_node;

	task->tid = t->found->tts_tid;
	task->tenant = *DatumGetUUIDP(goya_row_get(t, t->found, GOYA_TASKS_TENANT_ID, NULL));
	task->workflow = *DatumGetUUIDP(goya_row_get(t, t->found, GOYA_TASKS_WORKFLOW_ID, NULL));
	task->revision = DatumGetInt32(get(t, GOYA_TASKS_REVISION));
	task->run_as = get_text(t, GOYA_TASKS_RUN_AS);
	task->created_by = get_text(t, GOYA_TASKS_CREATED_BY);
	task->priority = DatumGetInt16(get(t, GOYA_TASKS_PRIORITY));
	task->depth = DatumGetInt16(get(t, GOYA_TASKS_DEPTH));
	task->paused = DatumGetBool(get(t, GOYA_TASKS_PAUSED));
	task->failing = DatumGetBool(get(t, GOYA_TASKS_FAILING));
	task->input = get_jsonb(t, GOYA_TASKS_INPUT);
	task->input_stored = true;
	task->has_asset = get_uuid(t, GOYA_TASKS_ASSET_ID, &task->asset);
	task->trigger = get_jsonb(t, GOYA_TASKS_TRIGGER);
	task->trace_id = get_text(t, GOYA_TASKS_TRACE_ID);
	task->created_at = DatumGetTimestampTz(get(t, GOYA_TASKS_CREATED_AT));
	task->has_hold = get_uuid(t, GOYA_TASKS_HOLD_ID, &hold);
	(void) goya_row_get(t, t->found, GOYA_TASKS_PARENT_NODE, &no_parent_node);
	task->has_parent = get_uuid(t, GOYA_TASKS_PARENT_TASK_ID, &task->parent) && !no_parent_node;
	task->parent_node = DatumGetInt32(parent_node);
	task->parent_item = DatumGetInt32(get(t, GOYA_TASKS_PARENT_ITEM));
	task->runnable = status_is_open(goya_table_label_of(t, get(t, GOYA_TASKS_STATUS)));
}

static void
read_rows(GoyaBatch *b, int first)
{
	GoyaTable  *t = goya_table_open(GOYA_TABLE_TASKS);
	MemoryContext old = MemoryContextSwitchTo(b->cxt);

	for (int i = first; i < b->n_tasks; i++)
		if (goya_table_seek(t, UUIDPGetDatum(&b->task_list[i]->id)))
			fill_task(b->task_list[i], t);
	MemoryContextSwitchTo(old);
	goya_table_close(t);
}

/* Tasks of tenants that are not active are refused. */
static void
refuse_suspended(GoyaBatch *b, int first)
{
	GoyaRows   *rows = goya_rows_create(1, uuid_column);
	pg_uuid_t  *active;
	int			n;

	for (int i = first; i < b->n_tasks; i++)
	{
		GoyaTask   *t = b->task_list[i];

		if (t->run_as == NULL || (rows->n > 0 && goya_uuid_equal(&t->tenant, DatumGetUUIDP(rows->values[0][rows->n - 1]))))
			continue;
		goya_rows_add(rows);
		goya_rows_uuid(rows, 0, &t->tenant);
	}
	if (rows->n == 0)
		return;
	goya_rows_run(GOYA_STMT_ACTIVE_TENANTS, rows);
	n = SPI_processed;
	active = palloc(sizeof(pg_uuid_t) * Max(n, 1));
	for (int i = 0; i < n; i++)
		active[i] = goya_result_uuid(i, 1);
	qsort(active, n, sizeof(pg_uuid_t), goya_uuid_compare);
	for (int i = first; i < b->n_tasks; i++)
		if (b->task_list[i]->run_as != NULL && bsearch(&b->task_list[i]->tenant, active, n, sizeof(pg_uuid_t), goya_uuid_compare) == NULL)
			b->task_list[i]->refusal = "the tenant is suspended";
}

/* Nothing new is begun for a task that somebody wants cancelled. */
static void
stop_cancelled(GoyaBatch *b, int first)
{
	GoyaRows   *rows = goya_rows_create(1, uuid_column);

	for (int i = first; i < b->n_tasks; i++)
	{
		goya_rows_add(rows);
		goya_rows_uuid(rows, 0, &b->task_list[i]->id);
	}
	goya_rows_run(GOYA_STMT_CANCEL_WANTED, rows);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		pg_uuid_t	id = goya_result_uuid(i, 1);

		goya_batch_task(b, &id)->runnable = false;
	}
}

/* Of a task whose revision is gone or damaged: so that it can end like any other. */
static const GoyaPlan no_plan;

static void
attach_plan(GoyaTask *t)
{
	GoyaRevision *r;

	if (t->run_as == NULL)
		return;
	t->seals = goya_tenant_seals(&t->tenant);
	r = goya_plan_cache_get(&t->workflow, t->revision);
	if (r != NULL && r->plan != NULL)
		t->plan = r->plan;
	else
	{
		t->plan = &no_plan;
		t->broken = goya_error_make("42704", GOYA_ERR_TOOL_BUG, psprintf("revision %d of the task's workflow is not there or does not compile", t->revision),
									NULL, "Its workflow was deleted, or changed by hand. Start a new task.");
	}
}

/*
 * Load the tasks that are not loaded yet.  One that does not exist has no run_as afterwards.
 */
void
goya_batch_load_tasks(GoyaBatch *b, int n, const pg_uuid_t *ids)
{
	int			first = b->n_tasks;
	GoyaStoreScope scope;

	for (int i = 0; i < n; i++)
		(void) add_task(b, &ids[i]);
	if (b->n_tasks == first)
		return;
	goya_store_enter(&scope);
	read_rows(b, first);
	refuse_suspended(b, first);
	stop_cancelled(b, first);
	for (int i = first; i < b->n_tasks; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(b->cxt);

		attach_plan(b->task_list[i]);
		MemoryContextSwitchTo(old);
	}
	goya_store_leave(&scope);
}

/* ----- locking ----- */

static int
compare_tasks(const void *a, const void *b)
{
	return memcmp(&(*(GoyaTask *const *) a)->id, &(*(GoyaTask *const *) b)->id, UUID_LEN);
}

/* A node's own SQL may have changed the row (goya.report_progress): then it is another one now. */
static GoyaLockResult
lock_row(GoyaTable *t, GoyaTask *task, long ms)
{
	GoyaLockResult result = goya_held_lock(t, &task->tid, ms);

	if (result == GOYA_LOCK_OURS && goya_table_seek(t, UUIDPGetDatum(&task->id)))
	{
		ItemPointerData tid = t->found->tts_tid;

		result = goya_held_lock(t, &tid, ms);
	}
	return result;
}

static void
lock_task(GoyaBatch *b, GoyaTable *t, GoyaTask *task, long ms)
{
	GoyaLockResult result = lock_row(t, task, ms);
	bool		failing;

	task->locked = result == GOYA_LOCK_DONE;
	task->held = result == GOYA_LOCK_HELD;
	if (!task->locked)
	{
		task->runnable = false;
		return;
	}
	task->row = ExecCopySlotHeapTuple(t->found);
	task->tid = t->found->tts_tid;
	if (!status_is_open(goya_table_label_of(t, get(t, GOYA_TASKS_STATUS))))
	{
		task->runnable = false;
		if (task->touched)
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("task %s ended while its node ran", goya_uuid_text(&task->id))));
	}
	task->paused = DatumGetBool(get(t, GOYA_TASKS_PAUSED));
	failing = DatumGetBool(get(t, GOYA_TASKS_FAILING));
	if (failing && !task->failing && task->touched)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("task %s failed while another node of it ran", goya_uuid_text(&task->id))));
	task->failing = failing;
	task->active = DatumGetInt32(get(t, GOYA_TASKS_ACTIVE));
	task->waiting = DatumGetInt32(get(t, GOYA_TASKS_WAITING));
	task->last_seq = DatumGetInt32(get(t, GOYA_TASKS_LAST_SEQ));
	task->done = DatumGetInt32(get(t, GOYA_TASKS_DONE_NODES));
	(void) goya_row_get(t, t->found, GOYA_TASKS_STARTED_AT, &task->started);
	task->started = !task->started;
}

/*
 * How long to wait for the first task that is locked.  Whoever locks its tasks before anything runs waits less: it loses nothing by trying
 * again.
 */
static long
patience(const GoyaBatch *b)
{
	return b->mode == GOYA_BATCH_ADVANCE ? goya_guc_lock_wait / 5 : goya_guc_lock_wait;
}

/* Lock them, all together within the batch's patience; returns one that ran and could not be locked, else NULL. */
static GoyaTask *
lock_wanted(GoyaBatch *b, GoyaTable *t, GoyaTask **wanted, int n)
{
	long		ms = patience(b);
	GoyaTask   *blocked = NULL;

	for (int i = 0; i < n; i++)
	{
		bool		ran = wanted[i]->touched && b->mode != GOYA_BATCH_ADVANCE;
		bool		waits = ran || (b->mode == GOYA_BATCH_ADVANCE && !wanted[i]->impatient);

		lock_task(b, t, wanted[i], waits ? ms : 0);
		if (!wanted[i]->held)
			continue;
		if (waits)
			ms = 0;				/* it has been waited for */
		if (!ran)
			continue;
		goya_held_note_task(&wanted[i]->id);
		blocked = wanted[i];
	}
	return blocked;
}

/*
 * Lock the batch's tasks, once, in id order, and read what may have changed since they were loaded.  In EXECUTE mode a task that has
 * ended meanwhile, undoes what it did, or is locked by somebody else ends the batch: what its nodes did must not stay.
 */
void
goya_batch_lock_tasks(GoyaBatch *b)
{
	GoyaTask  **wanted = palloc(sizeof(GoyaTask *) * Max(b->n_tasks, 1));
	int			n = 0;
	GoyaStoreScope scope;
	GoyaTable  *t;
	GoyaTask   *blocked;
	MemoryContext old;

	for (int i = 0; i < b->n_tasks; i++)
		if (!b->task_list[i]->locked && b->task_list[i]->plan != NULL && b->task_list[i]->runnable)
			wanted[n++] = b->task_list[i];
	if (n == 0)
		return;
	qsort(wanted, n, sizeof(GoyaTask *), compare_tasks);
	goya_store_enter(&scope);
	PushActiveSnapshot(GetTransactionSnapshot());
	t = goya_table_open(GOYA_TABLE_TASKS);
	old = MemoryContextSwitchTo(b->cxt);
	blocked = lock_wanted(b, t, wanted, n);
	MemoryContextSwitchTo(old);
	goya_table_close(t);
	PopActiveSnapshot();
	goya_store_leave(&scope);
	if (blocked != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE), errmsg("the row of task %s stayed locked", goya_uuid_text(&blocked->id)),
				 errhint("A session has changed the task in a transaction that is still open.")));
}

/*
 * Before anything runs: tasks that are known to be locked, or that would have to settle with a wallet that is, are not for this batch.
 */
void
goya_batch_leave_held(GoyaBatch *b)
{
	if (b->aside == NULL && !goya_held_suspects_any())
		return;
	goya_held_refresh();
	for (int i = 0; i < b->n_tasks; i++)
	{
		GoyaTask   *t = b->task_list[i];

		if (!t->runnable || t->run_as == NULL)
			continue;
		if ((b->aside != NULL && goya_uuid_equal(b->aside, &t->id)) || (!t->locked && goya_held_suspect(&t->id)) ||
			(t->has_hold && goya_held_suspect(&t->tenant)))
		{
			t->held = true;
			t->runnable = false;
		}
	}
}

/* ----- writing ----- */

static void
change_row(GoyaTable *t, TupleTableSlot *row, GoyaBatch *b, GoyaTask *task)
{
	bool		isnull;
	float4		progress = DatumGetFloat4(goya_row_get(t, row, GOYA_TASKS_PROGRESS, NULL));

	goya_row_set(t, row, GOYA_TASKS_STATUS, goya_table_label(t, task->status));
	goya_row_set(t, row, GOYA_TASKS_ACTIVE, Int32GetDatum(task->active));
	goya_row_set(t, row, GOYA_TASKS_WAITING, Int32GetDatum(task->waiting));
	goya_row_set(t, row, GOYA_TASKS_DONE_NODES, Int32GetDatum(task->done));
	goya_row_set(t, row, GOYA_TASKS_LAST_SEQ, Int32GetDatum(task->last_seq));
	goya_row_set(t, row, GOYA_TASKS_FAILING, BoolGetDatum(task->failing || task->end == GOYA_END_FAILING));
	goya_row_set(t, row, GOYA_TASKS_PROGRESS, Float4GetDatum(Max(progress, task->progress)));
	(void) goya_row_get(t, row, GOYA_TASKS_STARTED_SEQ, &isnull);
	if (isnull && task->started_seq > 0)
	{
		goya_row_set(t, row, GOYA_TASKS_STARTED_SEQ, Int32GetDatum(task->started_seq));
		goya_row_set(t, row, GOYA_TASKS_STARTED_AT, TimestampTzGetDatum(b->now));
	}
	if (task->end == GOYA_END_SUCCEEDED)
	{
		goya_row_set(t, row, GOYA_TASKS_PAUSED, BoolGetDatum(false));	/* what was paused had nothing left to start */
		goya_row_set(t, row, GOYA_TASKS_FINISHED_SEQ, Int32GetDatum(task->last_seq));
		goya_row_set(t, row, GOYA_TASKS_FINISHED_AT, TimestampTzGetDatum(task->finished_at));
		if (task->output != NULL)
			goya_row_set(t, row, GOYA_TASKS_OUTPUT, JsonbPGetDatum(task->output));
	}
	if (task->error != NULL)
		goya_row_set(t, row, GOYA_TASKS_ERROR, JsonbPGetDatum(task->error));
}

/*
 * Write tasks that were locked and decided (finish.c).
 */
void
goya_batch_write_tasks(GoyaBatch *b, List *tasks)
{
	GoyaTable  *t;
	ListCell   *lc;

	if (tasks == NIL)
		return;
	t = goya_table_open(GOYA_TABLE_TASKS);
	foreach(lc, tasks)
	{
		GoyaTask   *task = lfirst(lc);
		TupleTableSlot *row = goya_table_change(t, task->row);

		change_row(t, row, b, task);
		goya_table_update(t, &task->tid, row);
	}
	goya_table_close(t);
}
