/*-------------------------------------------------------------------------
 * calls.c
 *		Outside calls of the engine.
 *
 *		claim:	rows of the engine's lane are taken, a running node run with this engine's epoch is written, commit; then the
 *				transfers start.  Nothing is open while they run: no transaction, no snapshot.
 *		record:	results are written under the tasks' locks, if the run is still running and of this epoch and attempt; else somebody
 *				ended it meanwhile, and the late result changes nothing.
 *
 * A call of more than one request is an exchange (exchange.h): an answer may lead to the next request, under the same entry, and only the last
 * is recorded.  calls_recover.c has what happens after a restart, calls_results.c the results that wait to be recorded.
 *
 * Memory: calls in flight are in a hash table in "goya calls", as are the contexts of exchanges; a result lives in its own context until it
 * is recorded, and the exchange with it.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "hash.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/wait_event.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "call_shares.h"
#include "calls_internal.h"
#include "child.h"
#include "crash_point.h"
#include "guc.h"
#include "held.h"
#include "node_cli.h"
#include "shmem.h"
#include "worker.h"

#define CUT_AFTER_MS 100		/* a stream that has said all: its end of itself keeps the connection */

GoyaCalls *
goya_calls_create(GoyaHttp *http, int epoch, Oid extension)
{
	MemoryContext cxt = AllocSetContextCreate(TopMemoryContext, "goya calls", ALLOCSET_DEFAULT_SIZES);
	GoyaCalls  *c = MemoryContextAllocZero(cxt, sizeof(GoyaCalls));

	c->cxt = cxt;
	c->http = http;
	c->epoch = epoch;
	c->extension = extension;
	c->next_id = 1;
	c->next_resume = DT_NOEND;
	c->in_flight = goya_hash_create("goya calls in flight", 256, sizeof(uint64), sizeof(InFlight), cxt);
	c->claims = goya_attempt_create();
	c->share_claims = goya_attempt_create();
	c->records = goya_attempt_create();
	c->again = goya_attempt_create();
	c->next_put_off = c->next_recover = DT_NOEND;
	return c;
}

int
goya_calls_in_flight(GoyaCalls *c)
{
	return hash_get_num_entries(c->in_flight);
}

static int
most_calls(GoyaCalls *c)
{
	return Min(goya_guc_max_transfers, goya_http_capacity(c->http));
}

static int
room(GoyaCalls *c)
{
	return most_calls(c) - goya_calls_in_flight(c);
}

bool
goya_calls_full(GoyaCalls *c)
{
	return room(c) <= 0;
}

uint32
goya_calls_lack(GoyaCalls *c)
{
	return (goya_calls_full(c) ? GOYA_CALLS_NO_ROOM : 0) | (goya_shares_left() <= 0 ? GOYA_CALLS_NO_SHARE : 0);
}

void
goya_calls_interrupt(GoyaCalls *c, const pg_uuid_t *task)
{
	HASH_SEQ_STATUS seq;
	InFlight   *f;

	hash_seq_init(&seq, c->in_flight);
	while ((f = hash_seq_search(&seq)) != NULL)
	{
		if (!goya_uuid_equal(&f->task, task))
			continue;
		if (f->resume_at != 0)
		{
			f->cancelled = true;
			f->resume_at = c->next_resume = GetCurrentTimestamp();
		}
		else if (f->exchange != NULL && f->exchange->child != NULL)
			goya_child_cancel(f->id);
		else
			goya_http_cancel(c->http, f->id);
	}
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

/* ----- exchanges ----- */

static void
send_next(GoyaCalls *c, InFlight *f)
{
	f->resume_at = f->cut_at = 0;
	if (f->exchange->child != NULL)
	{
		goya_child_start(f->id, f->exchange->child);
		return;
	}
	f->exchange->request.id = f->id;
	f->exchange->request.egress = f->exchange->egress;
	goya_http_start(c->http, &f->exchange->request);
}

/* What an exchange wants sent besides; nobody waits for what comes of it, and collect drops it. */
static void
send_aside(GoyaCalls *c, GoyaExchange *x)
{
	ListCell   *lc;

	foreach(lc, x->aside)
	{
		GoyaHttpRequest *request = lfirst(lc);

		request->id = c->next_id++;
		request->egress = x->egress;
		goya_http_start(c->http, request);
	}
	x->aside = NIL;
}

/* What was received of answers that are not whole yet. */
static void
pass_pieces(GoyaCalls *c)
{
	uint64		id;
	char	   *data;
	size_t		len;

	while (goya_http_take_piece(c->http, &id, &data, &len))
	{
		InFlight   *f = hash_search(c->in_flight, &id, HASH_FIND, NULL);

		if (f != NULL && f->exchange != NULL)
		{
			goya_exchange_received(f->exchange, data, len);
			send_aside(c, f->exchange);
			if (f->exchange->enough && f->cut_at == 0)
			{
				f->cut_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), CUT_AFTER_MS);
				c->next_resume = Min(c->next_resume, f->cut_at);
			}
		}
		pfree(data);
	}
}

/* False: the answer was not the last, and the exchange goes on. */
static bool
was_last(GoyaCalls *c, InFlight *f, GoyaHttpResult *answer)
{
	GoyaStep	step;

	if (f->exchange == NULL)
		return true;
	step = goya_exchange_answered(f->exchange, answer);
	send_aside(c, f->exchange);
	if (step == GOYA_STEP_OVER)
		return true;
	if (f->exchange->pause_ms > 0)
	{
		f->resume_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), f->exchange->pause_ms);
		c->next_resume = Min(c->next_resume, f->resume_at);
	}
	else
		send_next(c, f);
	return false;
}

static void
forget_call(GoyaCalls *c, const InFlight *f)
{
	goya_shares_ended(&f->tenant);
	hash_search(c->in_flight, &f->id, HASH_REMOVE, NULL);
}

/* The end of an exchange that was cancelled between two requests. */
static void
end_cancelled(GoyaCalls *c, InFlight *f)
{
	MemoryContext cxt = AllocSetContextCreate(c->cxt, "goya call result", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	CallResult *r = palloc0(sizeof(CallResult));

	r->cxt = cxt;
	r->call = *f;
	r->http = palloc0(sizeof(GoyaHttpResult));
	r->http->id = f->id;
	r->http->outcome = GOYA_HTTP_CANCELLED;
	r->http->error = "cancelled";
	r->http->body = "";
	r->http->retry_after_ms = -1;
	r->http->sent = true;
	(void) goya_exchange_answered(f->exchange, r->http);
	send_aside(c, f->exchange);
	forget_call(c, f);
	MemoryContextSwitchTo(c->cxt);
	c->results = lappend(c->results, r);
	MemoryContextSwitchTo(old);
}

/* Requests whose pause is over. */
static void
resume_exchanges(GoyaCalls *c)
{
	TimestampTz now = GetCurrentTimestamp();
	HASH_SEQ_STATUS seq;
	InFlight   *f;

	if (c->next_resume > now)
		return;
	c->next_resume = DT_NOEND;
	hash_seq_init(&seq, c->in_flight);
	while ((f = hash_seq_search(&seq)) != NULL)
	{
		if (f->resume_at == 0 && f->cut_at == 0)
			continue;
		if (f->resume_at == 0 && f->cut_at <= now)
		{
			f->cut_at = 0;
			goya_http_cancel(c->http, f->id);
		}
		else if (f->resume_at == 0)
			c->next_resume = Min(c->next_resume, f->cut_at);
		else if (f->cancelled)
			end_cancelled(c, f);
		else if (f->resume_at <= now)
			send_next(c, f);
		else
			c->next_resume = Min(c->next_resume, f->resume_at);
	}
}

/* When goya_calls_record has something to do by itself. */
TimestampTz
goya_calls_next(GoyaCalls *c)
{
	TimestampTz next = Min(Min(c->next_resume, goya_child_next()), goya_cli_next_news());

	return Min(next, Min(c->next_put_off, c->next_recover));
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

		goya_shares_started(&call->tenant);
		f->task = call->task;
		f->tenant = call->tenant;
		f->node = call->node;
		f->item = call->item;
		f->attempt = call->attempt;
		f->rank = 0;
		f->started_at = now;
		f->resume_at = f->cut_at = 0;
		f->cancelled = false;
		f->exchange = call->exchange;
		if (f->exchange != NULL)
		{
			MemoryContextSetParent(f->exchange->cxt, c->cxt);
			send_next(c, f);
			continue;
		}
		call->request.id = id;
		goya_http_start(c->http, &call->request);
	}
	if (goya_my_engine != NULL)
		pg_atomic_write_u32(&goya_my_engine->transfers, goya_calls_in_flight(c));
}

static bool
claim_lane(GoyaCalls *c, GoyaAttempt *a, GoyaLane lane)
{
	int			limit = Min(Min(room(c), goya_guc_batch_size), lane == GOYA_LANE_SHARE ? goya_shares_left() : INT_MAX);
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
		goya_shares_begin(most_calls(c));
		b = goya_attempt_batch(a, GOYA_BATCH_ADVANCE, limit);
		b->in_engine = true;
		b->epoch = c->epoch;
		b->max_calls = room(c);
		claimed = goya_batch_claim(b, lane);
		if (claimed > 0)
			goya_batch_run(b);
		goya_worker_commit();
		goya_attempt_succeeded(a, claimed);
	}
	PG_CATCH();
	{
		pause = goya_attempt_failed(a, claimed, "claiming outside calls");
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
	return claimed >= limit || a->care == GOYA_CARE_SINGLE;
}

/*
 * Calls that had to wait for their tenants' shares, as long as nobody has one; and all others.  Each goes first every second time, for the
 * first may take all the room.
 */
bool
goya_calls_claim(GoyaCalls *c)
{
	bool		more = false;

	c->share_first = !c->share_first;
	for (int i = 0; i < 2; i++)
	{
		if (c->share_first == (i > 0))
			more |= claim_lane(c, c->claims, GOYA_LANE_ENGINE) || (goya_shares_refused() && goya_shares_left() > 0);
		else if (!goya_floor_is_empty(GOYA_LANE_SHARE))
			more |= claim_lane(c, c->share_claims, GOYA_LANE_SHARE) && goya_shares_left() > 0;
	}
	return more;
}

/* ----- recording ----- */

/* The next answer of a service or program. */
static GoyaHttpResult *
take_answer(GoyaCalls *c)
{
	GoyaHttpResult *answer = goya_http_take(c->http);

	return answer != NULL ? answer : goya_child_take();
}

static void
collect(GoyaCalls *c)
{
	goya_child_drive();
	pass_pieces(c);
	for (;;)
	{
		MemoryContext cxt = AllocSetContextCreate(c->cxt, "goya call result", ALLOCSET_SMALL_SIZES);
		MemoryContext old = MemoryContextSwitchTo(cxt);
		GoyaHttpResult *http = take_answer(c);
		InFlight   *f = http ? hash_search(c->in_flight, &http->id, HASH_FIND, NULL) : NULL;
		bool		keep = f != NULL && was_last(c, f, http);

		if (keep)
		{
			CallResult *r = palloc0(sizeof(CallResult));

			r->http = http;
			r->cxt = cxt;
			r->call = *f;
			forget_call(c, f);
			MemoryContextSwitchTo(c->cxt);
			c->results = lappend(c->results, r);
		}
		MemoryContextSwitchTo(old);
		if (!keep)
			MemoryContextDelete(cxt);
		if (http == NULL)
			return;
	}
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
		goya_node_finish_call(b, &w, r->http, r->call.exchange, r->call.started_at);
}

/* Whose task is locked by somebody else is put off, not waited for. */
static void
leave_held(GoyaBatch *b, List *results)
{
	ListCell   *lc;

	goya_batch_leave_held(b);
	foreach(lc, results)
	{
		CallResult *r = lfirst(lc);

		r->is_held = goya_batch_task(b, &r->call.task)->held;
	}
}

static void
record_batch(GoyaCalls *c, GoyaAttempt *a, List *results)
{
	int			n = list_length(results);
	GoyaBatch  *b = goya_attempt_batch(a, GOYA_BATCH_ADVANCE, n);
	MemoryContext old = MemoryContextSwitchTo(b->cxt);
	pg_uuid_t  *ids = palloc(sizeof(pg_uuid_t) * n);
	HeapTuple  *ours;

	b->in_engine = true;
	b->epoch = c->epoch;
	for (int i = 0; i < n; i++)
		ids[i] = ((CallResult *) list_nth(results, i))->call.task;
	goya_batch_load_tasks(b, n, ids);
	for (int i = 0; i < n; i++)
		if (!goya_held_waits(((CallResult *) list_nth(results, i))->held))
			goya_batch_task(b, &ids[i])->impatient = true;
	for (int i = 0; i < b->n_tasks; i++)
		b->task_list[i]->runnable = b->task_list[i]->run_as != NULL && b->task_list[i]->plan != NULL;
	goya_batch_lock_tasks(b);
	leave_held(b, results);
	ours = still_ours(b, c, results, n);
	for (int i = 0; i < n; i++)
		if (ours[i] != NULL)
		{
			record_one(b, list_nth(results, i), ours[i]);
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

/*
 * Record results in one transaction.  Those whose task is locked are put off; when something else is that only recording needs (a wallet, an MCP
 * server's row), it is found out who it is, and all that were put off before are put off again.
 */
static void
record(GoyaCalls *c, GoyaAttempt *a, List *results)
{
	volatile long pause = 0;
	volatile bool done = false;
	volatile bool off = false;
	int			n = list_length(results);

	if (n == 0)
		return;
	GOYA_CRASH_POINT(CALL_ANSWERED);
	PG_TRY();
	{
		goya_worker_begin("recording outside calls");
		if (goya_worker_extension() != c->extension)
			proc_exit(0);
		if (a == c->again)
			goya_held_hurry();
		record_batch(c, a, results);
		goya_worker_commit();
		goya_attempt_succeeded(a, n);
		done = true;
	}
	PG_CATCH();
	{
		off = a == c->again && goya_held_is_ours(geterrcode());
		pause = goya_attempt_failed(a, n, "recording outside calls");
		off = off || a->locked;
		a->locked = false;
	}
	PG_END_TRY();
	rest(off ? 0 : pause);
	GOYA_CRASH_POINT(CALL_RECORDED);
	if (!done && a->faults > 20 && !a->nobodys)
		done = true;			/* after 20 faults the run stays running, for the next start to find */
	goya_calls_dispose(c, results, !done, !done && off);
}

bool
goya_calls_record(GoyaCalls *c)
{
	TimestampTz now;

	resume_exchanges(c);
	goya_cli_tell_progress(c);
	collect(c);
	if (goya_my_engine != NULL)
		pg_atomic_write_u32(&goya_my_engine->transfers, goya_calls_in_flight(c));
	record(c, c->records, goya_calls_take_results(c));
	now = GetCurrentTimestamp();
	if (c->next_put_off <= now)
		record(c, c->again, goya_calls_take_put_off(c));
	if (c->next_recover <= now)
		goya_calls_recover(c);
	return c->results != NIL;
}
