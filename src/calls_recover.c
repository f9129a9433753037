/*-------------------------------------------------------------------------
 * calls_recover.c
 *		Outside calls that an earlier engine left running.
 *
 * After a restart every older epoch is dead at once: runs left running are called again with the same key when their node is
 * idempotent, else they fail with class UNKNOWN.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "attempt.h"
#include "calls_internal.h"
#include "crash_point.h"
#include "worker.h"

static void
finish_lost(GoyaBatch *b, const GoyaWork *w, TimestampTz started_at)
{
	GoyaOutcome o = {.ok = false,.retry_after_ms = -1,.error_class = GOYA_ERR_UNKNOWN};

	o.error = goya_error_make("08007", GOYA_ERR_UNKNOWN, "the outcome of the call was lost", "The server stopped while the call was made.",
							  "The node is not idempotent, so it was not called again. Look at the service, then goya.retry.");
	goya_advance_finish(b, w, &o, NULL, started_at, true);
}

/* Not those of tasks that were found locked. */
static List *
lost_calls(GoyaCalls *c, ArrayType *held)
{
	GoyaStoreScope scope;
	List	   *lost = NIL;
	Datum		args[2];

	args[0] = Int32GetDatum(c->epoch);
	args[1] = PointerGetDatum(held);
	goya_store_enter(&scope);
	goya_store_run(GOYA_STMT_RECOVER_CALLS, args, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		GoyaAction *a = palloc0(sizeof(GoyaAction));	/* as a carrier of (node key, item, attempt) */

		a->json = (Jsonb *) palloc(sizeof(pg_uuid_t));
		*(pg_uuid_t *) a->json = goya_result_uuid(i, 1);
		a->text = goya_result_text(i, 2, CurrentMemoryContext);
		a->item = goya_result_int4(i, 3);
		a->attempt = DatumGetInt16(goya_result_datum(i, 4));
		a->started_at = goya_result_isnull(i, 5) ? 0 : DatumGetTimestampTz(goya_result_datum(i, 5));
		lost = lappend(lost, a);
	}
	goya_store_leave(&scope);
	return lost;
}

static void
recover_batch(GoyaCalls *c, GoyaBatch *b, List *lost)
{
	static const Oid columns[] = {UUIDOID, TEXTOID, INT4OID, INT2OID};
	GoyaRows   *again = goya_rows_create(4, columns);
	int			n = list_length(lost);
	pg_uuid_t  *ids = palloc(sizeof(pg_uuid_t) * n);
	ListCell   *lc;
	int			i = 0;

	foreach(lc, lost)
		ids[i++] = *(pg_uuid_t *) ((GoyaAction *) lfirst(lc))->json;
	goya_batch_load_tasks(b, n, ids);
	goya_batch_lock_tasks(b);
	foreach(lc, lost)
	{
		GoyaAction *a = lfirst(lc);
		GoyaTask   *t = goya_batch_task(b, (pg_uuid_t *) a->json);
		int			node;

		if (t->broken != NULL && t->runnable)
			goya_advance_fail_task(b, t, t->broken);
		if (t->plan == NULL || !t->runnable || (node = goya_plan_node_index(t->plan, a->text)) < 0)
			continue;
		t->touched = true;
		if (t->plan->nodes[node].idempotent)
		{
			goya_rows_add(again);
			goya_rows_uuid(again, 0, &t->id);
			goya_rows_text(again, 1, a->text);
			goya_rows_int4(again, 2, a->item);
			goya_rows_int2(again, 3, a->attempt);
			goya_batch_queue(b, t, GOYA_LANE_ENGINE, GOYA_VERB_RUN, node, a->item, a->attempt, 0)->tries = 1;
		}
		else
		{
			GoyaWork	w = {.task = t,.node = node,.item = a->item,.attempt = a->attempt};

			finish_lost(b, &w, a->started_at);
		}
	}
	if (again->n > 0)
	{
		GoyaStoreScope scope;

		goya_store_enter(&scope);
		goya_rows_run(GOYA_STMT_LOST_CALLS, again);
		GOYA_CRASH_POINT(RECOVER_MARKED);
		goya_store_leave(&scope);
	}
	goya_batch_run(b);
}

#define LOOK_AGAIN_MS 2000

/* The tasks of which calls were left for later. */
typedef struct Held
{
	MemoryContext cxt;
	ArrayBuildState *ids;
	bool		more;			/* one was added */
} Held;

static void
leave_for_later(Held *held, GoyaBatch *b)
{
	for (int i = 0; i < b->n_tasks; i++)
		if (b->task_list[i]->held)
		{
			held->ids = accumArrayResult(held->ids, UUIDPGetDatum(&b->task_list[i]->id), false, UUIDOID, held->cxt);
			held->more = true;
		}
}

static int
recover_some(GoyaCalls *c, Held *held)
{
	GoyaBatch  *b;
	MemoryContext old;
	List	   *lost;
	int			n;

	goya_worker_begin("recovering outside calls");
	if (held->ids == NULL)
		held->ids = initArrayResult(UUIDOID, held->cxt, false);
	b = goya_attempt_batch(c->records, GOYA_BATCH_ADVANCE, 1000);
	old = MemoryContextSwitchTo(b->cxt);
	lost = lost_calls(c, DatumGetArrayTypeP(makeArrayResult(held->ids, b->cxt)));
	n = list_length(lost);
	if (n > 0)
	{
		recover_batch(c, b, lost);
		leave_for_later(held, b);
	}
	MemoryContextSwitchTo(old);
	goya_worker_commit();
	return n;
}

/*
 * Take over what an earlier engine left running, a thousand at a time.  What belongs to tasks that somebody keeps locked is looked at again
 * later.
 */
void
goya_calls_recover(GoyaCalls *c)
{
	Held		held = {.more = false};
	int			n;

	held.cxt = AllocSetContextCreate(c->cxt, "goya held calls", ALLOCSET_SMALL_SIZES);
	do
	{
		n = recover_some(c, &held);
		if (n > 0)
		{
			ereport(held.more ? DEBUG1 : LOG, (errmsg("goya took over %d outside calls of an earlier start", n)));
			GOYA_CRASH_POINT(RECOVER_DONE);
		}
	} while (n == 1000);
	c->next_recover = held.more ? TimestampTzPlusMilliseconds(GetCurrentTimestamp(), LOOK_AGAIN_MS) : DT_NOEND;
	MemoryContextDelete(held.cxt);
}
