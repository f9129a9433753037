/*-------------------------------------------------------------------------
 * calls.c
 *		Outside calls of the engine.
 *
 *		claim:	rows of the engine's lane are taken, a running node run with this engine's epoch is written, commit; then the
 *				transfers start.  Nothing is open while they run: no transaction, no snapshot.
 *		record:	results are written under the tasks' locks, if the run is still running and of this epoch and attempt; else somebody
 *				ended it meanwhile, and the late result changes nothing.
 *
 * After a restart every older epoch is dead at once: runs left running are called again with the same key when their node is
 * idempotent, else they fail with class UNKNOWN.
 *
 * Memory: transfers in flight are in a hash table in "goya calls"; a result lives in its own context until it is recorded.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/wait_event.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "attempt.h"
#include "batch.h"
#include "calls.h"
#include "crash_point.h"
#include "guc.h"
#include "shmem.h"
#include "worker.h"

#define RECORD_AT_ONCE 500

typedef struct InFlight
{
	uint64		id;				/* hash key: the transfer's */
	pg_uuid_t	task;
	int			node;
	int			item;
	int			attempt;
	int64		rank;
	TimestampTz started_at;
} InFlight;

/* A result that waits to be recorded. */
typedef struct CallResult
{
	InFlight	call;
	GoyaHttpResult *http;
	MemoryContext cxt;
} CallResult;

struct GoyaCalls
{
	MemoryContext cxt;
	GoyaHttp   *http;
	HTAB	   *in_flight;
	uint64		next_id;
	int			epoch;
	Oid			extension;
	GoyaAttempt *claims;
	GoyaAttempt *records;
	List	   *results;		/* CallResult*, oldest first */
};

GoyaCalls *
goya_calls_create(GoyaHttp *http, int epoch, Oid extension)
{
	MemoryContext cxt = AllocSetContextCreate(TopMemoryContext, "goya calls", ALLOCSET_DEFAULT_SIZES);
	GoyaCalls  *c = MemoryContextAllocZero(cxt, sizeof(GoyaCalls));
	HASHCTL		ctl;

	c->cxt = cxt;
	c->http = http;
	c->epoch = epoch;
	c->extension = extension;
	c->next_id = 1;
	memset(&ctl, 0, sizeof(ctl));
	ctl.keysize = sizeof(uint64);
	ctl.entrysize = sizeof(InFlight);
	ctl.hcxt = cxt;
	c->in_flight = hash_create("goya calls in flight", 256, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	c->claims = goya_attempt_create();
	c->records = goya_attempt_create();
	return c;
}

int
goya_calls_in_flight(GoyaCalls *c)
{
	return hash_get_num_entries(c->in_flight);
}

static int
room(GoyaCalls *c)
{
	return Min(goya_guc_max_transfers, goya_http_capacity(c->http)) - goya_calls_in_flight(c);
}

bool
goya_calls_full(GoyaCalls *c)
{
	return room(c) <= 0;
}

void
goya_calls_interrupt(GoyaCalls *c, const pg_uuid_t *task)
{
	HASH_SEQ_STATUS seq;
	InFlight   *f;

	hash_seq_init(&seq, c->in_flight);
	while ((f = hash_seq_search(&seq)) != NULL)
		if (goya_uuid_equal(&f->task, task))
			goya_http_cancel(c->http, f->id);
}

/* After repeated errors: not the whole processor for trying again. */
static void
rest(long ms)
{
	if (ms <= 0)
		return;
	(void) WaitLatch(MyLatch, WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, Min(ms, 500), PG_WAIT_EXTENSION);
	CHECK_FOR_INTERRUPTS();
}

/* ----- claiming ----- */

static void
start_transfers(GoyaCalls *c, List *calls, TimestampTz now)
{
	ListCell   *lc;

	foreach(lc, calls)
	{
		GoyaCall   *call = lfirst(lc);
		uint64		id = c->next_id++;
		InFlight   *f = hash_search(c->in_flight, &id, HASH_ENTER, NULL);

		f->task = call->task;
		f->node = call->node;
		f->item = call->item;
		f->attempt = call->attempt;
		f->rank = 0;
		f->started_at = now;
		call->request.id = id;
		goya_http_start(c->http, &call->request);
	}
	if (goya_my_engine != NULL)
		pg_atomic_write_u32(&goya_my_engine->transfers, goya_calls_in_flight(c));
}

bool
goya_calls_claim(GoyaCalls *c)
{
	int			limit = Min(room(c), goya_guc_batch_size);
	volatile int claimed = 0;
	volatile long pause = 0;
	GoyaBatch  *volatile b = NULL;

	if (limit <= 0)
		return false;
	PG_TRY();
	{
		goya_worker_begin("claiming outside calls");
		if (goya_worker_extension() != c->extension)
			proc_exit(0);
		b = goya_attempt_batch(c->claims, GOYA_BATCH_ADVANCE, limit);
		b->in_engine = true;
		b->epoch = c->epoch;
		b->max_calls = room(c);
		claimed = goya_batch_claim(b, GOYA_LANE_ENGINE);
		if (claimed > 0)
			goya_batch_run(b);
		goya_worker_commit();
		goya_attempt_succeeded(c->claims, claimed);
	}
	PG_CATCH();
	{
		pause = goya_attempt_failed(c->claims, claimed, "claiming outside calls");
		b = NULL;
	}
	PG_END_TRY();
	rest(pause);
	if (b == NULL)
		return true;
	if (b->calls != NIL)
		GOYA_CRASH_POINT(CALL_CLAIMED);
	start_transfers(c, b->calls, b->now);
	if (b->calls != NIL)
		GOYA_CRASH_POINT(CALL_STARTED);
	return claimed >= limit || c->claims->care == GOYA_CARE_SINGLE;
}

/* ----- recording ----- */

static void
collect(GoyaCalls *c)
{
	for (;;)
	{
		MemoryContext cxt = AllocSetContextCreate(c->cxt, "goya call result", ALLOCSET_SMALL_SIZES);
		MemoryContext old = MemoryContextSwitchTo(cxt);
		GoyaHttpResult *http = goya_http_take(c->http);
		InFlight   *f = http ? hash_search(c->in_flight, &http->id, HASH_FIND, NULL) : NULL;
		CallResult	   *r;

		if (http == NULL)
		{
			MemoryContextSwitchTo(old);
			MemoryContextDelete(cxt);
			return;
		}
		r = palloc0(sizeof(CallResult));
		r->http = http;
		r->cxt = cxt;
		if (f != NULL)
		{
			r->call = *f;
			hash_search(c->in_flight, &http->id, HASH_REMOVE, NULL);
			MemoryContextSwitchTo(c->cxt);
			c->results = lappend(c->results, r);
		}
		MemoryContextSwitchTo(old);
		if (f == NULL)
			MemoryContextDelete(cxt);
	}
}

static void
finish_lost(GoyaBatch *b, const GoyaWork *w, TimestampTz started_at)
{
	GoyaOutcome o = {.ok = false,.retry_after_ms = -1,.error_class = GOYA_ERR_UNKNOWN};

	o.error = goya_error_make("08007", GOYA_ERR_UNKNOWN, "the outcome of the call was lost", "The server stopped while the call was made.",
							  "The node is not idempotent, so it was not called again. Look at the service, then goya.retry.");
	goya_advance_finish(b, w, &o, NULL, started_at, true);
}

/*
 * The rows of the results that are still this engine's to write, NULL for the others.  Under the tasks' locks, with a snapshot taken since.
 */
static HeapTuple *
still_ours(GoyaBatch *b, GoyaCalls *c, List *results, int n)
{
	HeapTuple  *ours = palloc0(sizeof(HeapTuple) * Max(n, 1));
	GoyaStoreScope scope;
	GoyaTable  *t;

	goya_store_enter(&scope);
	PushActiveSnapshot(GetTransactionSnapshot());
	t = goya_table_open(GOYA_TABLE_NODE_RUNS);
	for (int i = 0; i < n; i++)
	{
		CallResult *r = list_nth(results, i);
		GoyaWork	w = {.task = goya_batch_task(b, &r->call.task),.node = r->call.node,.item = r->call.item,.attempt = r->call.attempt};

		if (w.task != NULL && w.task->broken != NULL)
			goya_advance_fail_task(b, w.task, w.task->broken);
		else if (w.task != NULL && w.task->plan != NULL && w.task->runnable && w.task->locked)
			ours[i] = goya_run_row_running(t, &w, c->epoch);
	}
	goya_table_close(t);
	PopActiveSnapshot();
	goya_store_leave(&scope);
	return ours;
}

static void
record_one(GoyaBatch *b, CallResult *r, HeapTuple row)
{
	GoyaWork	w = {.task = goya_batch_task(b, &r->call.task),.node = r->call.node,.item = r->call.item,.attempt = r->call.attempt,.row = row};

	w.task->rank = r->call.rank;
	w.task->touched = true;
	b->blame->valid = true;
	b->blame->task = r->call.task;
	b->blame->node = w.node;
	b->blame->item = w.item;
	b->blame->attempt = w.attempt;
	if (goya_batch_convicted(b, &w))
	{
		GoyaOutcome o = {.ok = false,.retry_after_ms = -1,.error = b->convict_error,.error_class = b->convict_class};

		goya_advance_finish(b, &w, &o, NULL, r->call.started_at, true);
	}
	else
		goya_node_finish_call(b, &w, r->http, r->call.started_at);
}

static void
record_batch(GoyaCalls *c, int n)
{
	GoyaBatch  *b = goya_attempt_batch(c->records, GOYA_BATCH_ADVANCE, n);
	MemoryContext old = MemoryContextSwitchTo(b->cxt);
	pg_uuid_t  *ids = palloc(sizeof(pg_uuid_t) * n);
	HeapTuple  *ours;

	b->in_engine = true;
	b->epoch = c->epoch;
	for (int i = 0; i < n; i++)
		ids[i] = ((CallResult *) list_nth(c->results, i))->call.task;
	goya_batch_load_tasks(b, n, ids);
	for (int i = 0; i < b->n_tasks; i++)
		b->task_list[i]->runnable = b->task_list[i]->run_as != NULL && b->task_list[i]->plan != NULL;
	goya_batch_lock_tasks(b);
	ours = still_ours(b, c, c->results, n);
	for (int i = 0; i < n; i++)
		if (ours[i] != NULL)
		{
			record_one(b, list_nth(c->results, i), ours[i]);
			GOYA_CRASH_POINT(CALL_RECORDING);
		}
	if (!b->single)
		b->blame->valid = false;
	b->in_engine = false;		/* further calls of these tasks go through the queue */
	goya_batch_run(b);
	MemoryContextSwitchTo(old);
	if (goya_my_engine != NULL)
		pg_atomic_fetch_add_u64(&goya_my_engine->node_runs, n);
}

static void
drop_results(GoyaCalls *c, int n)
{
	for (int i = 0; i < n; i++)
		MemoryContextDelete(((CallResult *) list_nth(c->results, i))->cxt);
	c->results = list_delete_first_n(c->results, n);
}

bool
goya_calls_record(GoyaCalls *c)
{
	volatile int n;
	volatile long pause = 0;
	volatile bool done = false;

	collect(c);
	if (goya_my_engine != NULL)
		pg_atomic_write_u32(&goya_my_engine->transfers, goya_calls_in_flight(c));
	n = Min(list_length(c->results), c->records->care == GOYA_CARE_SINGLE ? 1 : RECORD_AT_ONCE);
	if (n == 0)
		return false;
	GOYA_CRASH_POINT(CALL_ANSWERED);
	PG_TRY();
	{
		goya_worker_begin("recording outside calls");
		if (goya_worker_extension() != c->extension)
			proc_exit(0);
		record_batch(c, n);
		goya_worker_commit();
		goya_attempt_succeeded(c->records, n);
		done = true;
	}
	PG_CATCH();
	{
		pause = goya_attempt_failed(c->records, n, "recording outside calls");
	}
	PG_END_TRY();
	rest(pause);
	GOYA_CRASH_POINT(CALL_RECORDED);
	if (done || (c->records->faults > 20 && !c->records->nobodys))
		drop_results(c, n);		/* after 20 faults the run stays running, for the next start to find */
	return c->results != NIL;
}

/* ----- recovery ----- */

static List *
lost_calls(GoyaCalls *c)
{
	GoyaStoreScope scope;
	List	   *lost = NIL;
	Datum		args[1];

	args[0] = Int32GetDatum(c->epoch);
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

/*
 * Take over what an earlier engine left running, a thousand at a time.
 */
void
goya_calls_recover(GoyaCalls *c)
{
	int			n;

	do
	{
		GoyaBatch  *b;
		MemoryContext old;
		List	   *lost;

		goya_worker_begin("recovering outside calls");
		b = goya_attempt_batch(c->records, GOYA_BATCH_ADVANCE, 1000);
		old = MemoryContextSwitchTo(b->cxt);
		lost = lost_calls(c);
		n = list_length(lost);
		if (n > 0)
			recover_batch(c, b, lost);
		MemoryContextSwitchTo(old);
		goya_worker_commit();
		if (n > 0)
		{
			ereport(LOG, (errmsg("goya took over %d outside calls of an earlier start", n)));
			GOYA_CRASH_POINT(RECOVER_DONE);
		}
	} while (n == 1000);
}
