/*-------------------------------------------------------------------------
 * executor.c
 *		A goya executor: claims rows of the queue, runs SQL nodes as the roles that own their tasks, carries the DAG on inline.
 *
 * Its session user is goya_executor: powerless, and no member of anything (node_sql.c).  It never touches the network.  Started by the
 * engine when there is work and nobody idle; leaves after goya.executor_idle_timeout without work.
 *
 * One turn looks at the lanes in this order: wake-ups (short, they free waiting tasks), batches, and - no more than
 * goya.max_slow_nodes at once - one slow or unmeasured function alone.  Before it sleeps it says that it is idle, then looks once more: so a row committed in
 * between is seen either by the look or by the wake-up.
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
#include "executor.h"
#include "goya.h"
#include "guc.h"
#include "shmem.h"
#include "worker.h"

typedef struct Executor
{
	GoyaEngineSlot *engine;
	Oid			extension;
	GoyaAttempt *wakes;
	GoyaAttempt *batches;
	GoyaAttempt *alone;
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

/*
 * One batch of one lane.  Returns the rows claimed; after an error, 1: look again.
 */
static int
run_batch(Executor *ex, GoyaAttempt *a, GoyaLane lane, GoyaBatchMode mode, int limit)
{
	volatile int claimed = 0;
	volatile long pause = 0;
	volatile bool gone = false;

	PG_TRY();
	{
		goya_worker_begin("running a batch");
		if (goya_worker_extension() != ex->extension)
			gone = true;
		else
		{
			GoyaBatch  *b = goya_attempt_batch(a, mode, limit);

			claimed = goya_batch_claim(b, lane);
			if (claimed >= limit)
				goya_wake_now(MyDatabaseId, GOYA_WAKE_EXECUTORS);	/* there may be more: somebody else too */
			if (claimed > 0)
			{
				goya_batch_run(b);
				goya_node_sql_scrub();
			}
			count_batch(ex, b);
		}
		goya_worker_commit();
		goya_attempt_succeeded(a, claimed);
	}
	PG_CATCH();
	{
		pause = goya_attempt_failed(a, claimed, "a batch of goya node runs");
		claimed = 1;
	}
	PG_END_TRY();
	if (gone)
		proc_exit(0);
	if (pause > 0)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, pause, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
	return claimed;
}

static bool counted_alone = false;

static void
leave_alone(int code, Datum arg)
{
	GoyaEngineSlot *slot = (GoyaEngineSlot *) DatumGetPointer(arg);

	if (counted_alone)
		pg_atomic_fetch_sub_u32(&slot->alone, 1);
	counted_alone = false;
}

/*
 * A slow or unmeasured function.  While it runs this executor does not count as one: the engine may start another for the batches.
 */
static int
run_alone(Executor *ex)
{
	int			result;

	counted_alone = true;
	if (pg_atomic_fetch_add_u32(&ex->engine->alone, 1) >= (uint32) goya_guc_max_slow_nodes)
		result = 0;
	else
		result = run_batch(ex, ex->alone, GOYA_LANE_ALONE, GOYA_BATCH_ALONE, 1);
	leave_alone(0, PointerGetDatum(ex->engine));
	return result;
}

/* One turn over the lanes: did anybody need anything? */
static bool
turn(Executor *ex)
{
	int			n = run_batch(ex, ex->wakes, GOYA_LANE_WAKE, GOYA_BATCH_ADVANCE, goya_guc_batch_size);

	n += run_batch(ex, ex->batches, GOYA_LANE_EXECUTOR, GOYA_BATCH_EXECUTE, goya_guc_batch_size);
	n += run_alone(ex);
	return n > 0;
}

static void
handle_interrupts(void)
{
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
	Executor	ex;

	goya_worker_init(DatumGetObjectId(arg), "goya executor");
	ex.engine = goya_shmem_engine(MyDatabaseId, false);
	if (ex.engine == NULL || goya_shmem_executor_attach() == NULL)
		proc_exit(0);
	before_shmem_exit(leave_alone, PointerGetDatum(ex.engine));
	ex.wakes = goya_attempt_create();
	ex.batches = goya_attempt_create();
	ex.alone = goya_attempt_create();
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
