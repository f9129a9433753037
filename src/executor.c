/*-------------------------------------------------------------------------
 * executor.c
 *		A goya executor: claims rows of the queue, runs SQL nodes as the roles that own their tasks, carries the DAG on inline.
 *
 * Its session user is goya_executor: powerless, and no member of anything (node_sql.c).  It never touches the network.  Started by the
 * engine when there is work and nobody idle; leaves after goya.executor_idle_timeout without work.
 *
 * A turn is one transaction with a batch of one lane: latecomers, else wake-ups (short, they free waiting tasks), batches - no more than
 * goya.max_executors at once - or, no more than goya.max_slow_nodes at once, one slow or unmeasured function alone.  Before it sleeps it
 * says that it is idle, then looks once more: so a row committed in between is seen either by the look or by the wake-up.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "attempt.h"
#include "black_box.h"
#include "crash_point.h"
#include "executor.h"
#include "goya.h"
#include "guc.h"
#include "overtime.h"
#include "residue.h"
#include "shmem.h"
#include "worker.h"

typedef struct Executor
{
	GoyaEngineSlot *engine;
	Oid			extension;
	GoyaAttempt *attempts[GOYA_LANES];	/* by lane */
	unsigned	turns;
	bool		failed;			/* the last turn: its nodes may have left what is not undone with a transaction */
} Executor;

static void
count_batch(Executor *ex, GoyaBatch *b)
{
	GoyaExecutorSlot *slot = goya_my_executor;

	if (b->n_claimed == 0)
		return;
	if (b->newest_rank > 0)
		goya_rank_served(MyDatabaseId, b->newest_rank);
	SpinLockAcquire(&slot->mutex);
	slot->batches++;
	slot->node_runs += b->n_runs;
	SpinLockRelease(&slot->mutex);
	pg_atomic_fetch_add_u64(&ex->engine->batches, 1);
	pg_atomic_fetch_add_u64(&ex->engine->node_runs, b->n_runs);
}

/* ----- lanes ----- */

static bool counted_alone = false;

static void
leave_alone(int code, Datum arg)
{
	GoyaEngineSlot *slot = (GoyaEngineSlot *) DatumGetPointer(arg);
	uint32		n;

	if (!counted_alone)
		return;
	counted_alone = false;
	n = pg_atomic_read_u32(&slot->alone);
	while (n > 0 && !pg_atomic_compare_exchange_u32(&slot->alone, &n, n - 1))
		;						/* not below 0, though the slot may have been given anew since */
}

/*
 * While a slow or unmeasured function runs, this executor does not count as one: the engine may start another for the batches.  False:
 * enough of them run already.
 */
static bool
enter_alone(Executor *ex)
{
	counted_alone = true;
	if (pg_atomic_fetch_add_u32(&ex->engine->alone, 1) < (uint32) goya_guc_max_slow_nodes)
		return true;
	leave_alone(0, PointerGetDatum(ex->engine));
	return false;
}

/* Two lanes have so many executors and no more. */
static bool
may_enter(Executor *ex, GoyaLane lane)
{
	return lane == GOYA_LANE_EXECUTOR ? goya_late_may_claim() : lane == GOYA_LANE_ALONE ? enter_alone(ex) : true;
}

/* Claim a batch of a lane; NULL: there is nothing.  In a transaction. */
static GoyaBatch *
claim(Executor *ex, GoyaLane lane)
{
	GoyaAttempt *a = ex->attempts[lane];
	GoyaBatchMode mode = lane == GOYA_LANE_WAKE ? GOYA_BATCH_ADVANCE : lane == GOYA_LANE_ALONE ? GOYA_BATCH_ALONE : GOYA_BATCH_EXECUTE;

	if (!goya_floor_is_empty(lane))
	{
		GoyaBatch  *b;

		if (!may_enter(ex, lane))
			return NULL;
		b = goya_attempt_batch(a, mode, lane == GOYA_LANE_ALONE ? 1 : goya_guc_batch_size);
		if (goya_batch_claim(b, lane) > 0)
		{
			if (lane == GOYA_LANE_EXECUTOR)
				goya_late_claimed(b->newest_rank, b->n_claimed, b->n_claimed >= b->limit);
			else if (lane == GOYA_LANE_ALONE)
				goya_late_leave();	/* for long, perhaps */
			return b;
		}
	}
	goya_attempt_succeeded(a, 0);
	if (lane == GOYA_LANE_EXECUTOR)
		goya_late_none();
	leave_alone(0, PointerGetDatum(ex->engine));
	return NULL;
}

static void
run_batch(Executor *ex, GoyaBatch *b, GoyaLane lane)
{
	if (b->n_claimed >= b->limit)	/* there may be more: somebody else too */
		goya_wake_now(MyDatabaseId, lane == GOYA_LANE_EXECUTOR ? GOYA_WAKE_BATCHES : GOYA_WAKE_EXECUTORS);
	else if (lane == GOYA_LANE_LATE && !goya_late_has_place())
		goya_wake_now(MyDatabaseId, GOYA_WAKE_BATCHES);	/* for whom nobody was woken when this one had a place */
	goya_batch_run(b);
	goya_residue_scrub();
	count_batch(ex, b);
}

static void
pause_after_error(long ms)
{
	if (ms <= 0)
		return;
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
}

/*
 * One transaction: a batch of the first lane that has any work.  Every turn begins with another lane, so that none waits for ever; every
 * second turn looks for latecomers before, the others after that.  False: no lane has work.
 */
static bool
turn(Executor *ex)
{
	static const GoyaLane lanes[] = {GOYA_LANE_WAKE, GOYA_LANE_EXECUTOR, GOYA_LANE_ALONE};
	GoyaBatch  *volatile b = NULL;
	volatile GoyaLane lane = GOYA_LANE_LATE;
	bool		latecomers_first = !ex->failed && ex->turns % 2 == 0;
	volatile bool gone = false;
	volatile bool failed = false;
	volatile long pause = 0;

	ex->turns++;
	PG_TRY();
	{
		goya_worker_begin("running a batch");
		if (ex->failed)
			goya_residue_scrub();
		ex->failed = false;
		gone = goya_worker_extension() != ex->extension;
		if (!gone && latecomers_first)
			b = claim(ex, GOYA_LANE_LATE);
		for (int i = 0; i < lengthof(lanes) && b == NULL && !gone; i++)
		{
			lane = lanes[(ex->turns + i) % lengthof(lanes)];
			b = claim(ex, lane);
		}
		if (b == NULL && !gone && !latecomers_first)
			b = claim(ex, lane = GOYA_LANE_LATE);
		if (b != NULL)
			run_batch(ex, b, lane);
		goya_worker_commit();
		if (b != NULL)
		{
			GOYA_CRASH_POINT(EXECUTOR_AFTER_BATCH);
			goya_attempt_learn(ex->attempts[lane], b);
			goya_attempt_succeeded(ex->attempts[lane], b->n_claimed);
		}
	}
	PG_CATCH();
	{
		pause = goya_attempt_failed(ex->attempts[lane], b ? b->n_claimed : 0, "a batch of goya node runs");
		failed = true;
	}
	PG_END_TRY();
	leave_alone(0, PointerGetDatum(ex->engine));
	ex->failed = failed;
	if (gone || goya_residue_worn())
		proc_exit(0);
	pause_after_error(pause);
	return b != NULL || failed;
}

static void
handle_interrupts(void)
{
	QueryCancelPending = false; /* between batches there is nothing to cancel, and an error here would end the process */
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

/* Sleep until woken; false: nobody needed this executor for a long time. */
static bool
sleep_idle(void)
{
	int			rc;

	rc = WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, goya_guc_executor_idle_timeout * 1000L, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	pg_atomic_write_u32(&goya_my_executor->idle, 0);
	return (rc & WL_TIMEOUT) == 0;
}

void
goya_executor_main(Datum arg)
{
	Executor	ex = {0};

	goya_worker_init(DatumGetObjectId(arg), "goya executor");
	ex.engine = goya_shmem_engine(MyDatabaseId, false);
	if (ex.engine == NULL || ex.engine->keep_off > GetCurrentTimestamp() || goya_shmem_executor_attach() == NULL)
		proc_exit(0);
	goya_black_box_attach(MyDatabaseId);	/* after the slot: what it says must be counted before the slot's end undoes the transaction */
	pg_atomic_fetch_add_u32(&ex.engine->arrivals, 1);
	before_shmem_exit(leave_alone, PointerGetDatum(ex.engine));
	GOYA_CRASH_POINT(EXECUTOR_STARTED);
	goya_residue_watch();
	goya_overtime_watch();
	for (int i = 0; i < lengthof(ex.attempts); i++)
		ex.attempts[i] = goya_attempt_create();
	goya_worker_begin("starting");
	ex.extension = goya_worker_extension();
	goya_worker_commit();
	if (!OidIsValid(ex.extension))
		proc_exit(0);

	for (;;)
	{
		handle_interrupts();
		if (turn(&ex))
			continue;
		pg_atomic_write_u32(&goya_my_executor->idle, 1);
		pg_memory_barrier();
		if (turn(&ex))
		{
			pg_atomic_write_u32(&goya_my_executor->idle, 0);
			continue;
		}
		if (!sleep_idle() && !turn(&ex))
			break;
	}
	proc_exit(0);
}
