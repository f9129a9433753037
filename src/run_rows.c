/*-------------------------------------------------------------------------
 * run_rows.c
 *		Rows of node runs, written without SQL (table.c): new ones, and those of outside calls that have ended.
 *
 * A call's row is found by its key under the lock of its task, and written as it was found: nobody changes a node run without that lock.
 * (Should somebody have done it by hand, the update fails, and the batch is tried again.)
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "batch.h"
#include "table.h"

/* What a new row and an old one are given alike; what the record does not have stays as it is in the row. */
static void
set_outcome(GoyaTable *t, TupleTableSlot *row, const GoyaRecord *r)
{
	goya_row_set(t, row, GOYA_RUNS_STATUS, goya_table_label(t, r->status));
	goya_row_set(t, row, GOYA_RUNS_SEQ, Int32GetDatum(r->seq));
	if (r->message != NULL)
		goya_row_set(t, row, GOYA_RUNS_MESSAGE, CStringGetTextDatum(r->message));
	if (r->output != NULL)
		goya_row_set(t, row, GOYA_RUNS_OUTPUT, JsonbPGetDatum(r->output));
	if (r->error != NULL)
		goya_row_set(t, row, GOYA_RUNS_ERROR, JsonbPGetDatum(r->error));
	if (r->has_cost)
		goya_row_set(t, row, GOYA_RUNS_COST, Int64GetDatum(r->cost));
}

/* A row of a node run that has none yet. */
void
goya_run_row_append(GoyaTable *t, GoyaRecord *r, int epoch)
{
	TupleTableSlot *row = goya_table_row(t);
	bool		open = r->status == GOYA_RUN_WAITING || r->status == GOYA_RUN_RUNNING;

	goya_row_set(t, row, GOYA_RUNS_TASK_ID, UUIDPGetDatum(&r->task->id));
	goya_row_set(t, row, GOYA_RUNS_NODE, CStringGetTextDatum(r->task->plan->nodes[r->node].key));
	goya_row_set(t, row, GOYA_RUNS_ITEM, Int32GetDatum(r->item));
	goya_row_set(t, row, GOYA_RUNS_ATTEMPT, Int16GetDatum(r->attempt));
	goya_row_set(t, row, GOYA_RUNS_TENANT_ID, UUIDPGetDatum(&r->task->tenant));
	set_outcome(t, row, r);
	if (open)
		goya_row_set(t, row, GOYA_RUNS_STARTED_SEQ, Int32GetDatum(r->seq));
	if (r->status == GOYA_RUN_RUNNING)
		goya_row_set(t, row, GOYA_RUNS_EPOCH, Int32GetDatum(epoch));
	if (r->input != NULL)
		goya_row_set(t, row, GOYA_RUNS_INPUT, JsonbPGetDatum(r->input));
	if (r->started_at != 0)
		goya_row_set(t, row, GOYA_RUNS_STARTED_AT, TimestampTzGetDatum(r->started_at));
	if (!open && r->finished_at != 0)
		goya_row_set(t, row, GOYA_RUNS_FINISHED_AT, TimestampTzGetDatum(r->finished_at));
	goya_table_append(t);
}

/*
 * A copy of the row of an outside call, if it is still running and of this epoch.  The active snapshot must be younger than the lock.
 */
HeapTuple
goya_run_row_running(GoyaTable *t, const GoyaWork *w, int epoch)
{
	Datum		keys[4];
	Datum		value;
	bool		isnull;

	keys[0] = UUIDPGetDatum(&w->task->id);
	keys[1] = CStringGetTextDatum(w->task->plan->nodes[w->node].key);
	keys[2] = Int32GetDatum(w->item);
	keys[3] = Int16GetDatum(w->attempt);
	if (!goya_table_find(t, 4, keys))
		return NULL;
	if (goya_table_label_of(t, goya_row_get(t, t->found, GOYA_RUNS_STATUS, NULL)) != GOYA_RUN_RUNNING)
		return NULL;
	value = goya_row_get(t, t->found, GOYA_RUNS_EPOCH, &isnull);
	if (isnull || DatumGetInt32(value) != epoch)
		return NULL;
	return ExecCopySlotHeapTuple(t->found);
}

/*
 * Write the end of a node run over its row.
 */
void
goya_run_row_write(GoyaTable *t, GoyaRecord *r)
{
	TupleTableSlot *row = goya_table_change(t, r->row);

	goya_row_null(t, row, GOYA_RUNS_MESSAGE);
	set_outcome(t, row, r);
	if (r->finished_at != 0)
		goya_row_set(t, row, GOYA_RUNS_FINISHED_AT, TimestampTzGetDatum(r->finished_at));
	goya_table_update(t, &r->row->t_self, row);
}
