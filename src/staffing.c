/*-------------------------------------------------------------------------
 * staffing.c
 *		Starting executors: by the engine, one at a time, when there is work for them and nobody idle to wake.
 *
 * An executor that was started and did not arrive within its time is tried again later: without a free worker slot every second, which
 * costs nothing; when the postmaster could not fork, which it says in the log each time, after a pause that doubles up to a minute.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "postmaster/bgworker.h"

#include "crash_point.h"
#include "guc.h"
#include "shmem.h"
#include "staffing.h"
#include "worker.h"

#define ARRIVES_WITHIN_MS	1000
#define MAX_PAUSE_MS		60000

static TimestampTz due;			/* one was started, or could not be: nothing before this */
static uint32 arrivals;			/* as they were then */
static bool expected;			/* one was registered then */
static int	failures;			/* that did not arrive, in a row */

static int
count_executors(int *idle)
{
	int			n = 0;

	*idle = 0;
	LWLockAcquire(goya_shared->lock, LW_SHARED);
	for (int i = 0; i < GOYA_MAX_EXECUTOR_SLOTS; i++)
	{
		GoyaExecutorSlot *slot = &goya_shared->executors[i];

		if (slot->pid == 0 || slot->dboid != MyDatabaseId)
			continue;
		n++;
		if (pg_atomic_read_u32(&slot->idle) == 1)
			(*idle)++;
	}
	LWLockRelease(goya_shared->lock);
	return n;
}

TimestampTz
goya_staffing_start(Oid role, bool late)
{
	static TimestampTz last_warning = 0;
	TimestampTz now = GetCurrentTimestamp();
	bool		arrived = pg_atomic_read_u32(&goya_my_engine->arrivals) != arrivals;
	int			idle;
	int			n = count_executors(&idle);
	int			most;

	if (idle > 0)
	{
		goya_wake_now(MyDatabaseId, late ? GOYA_WAKE_LATE : GOYA_WAKE_EXECUTORS);
		return DT_NOEND;
	}
	most = goya_guc_max_executors + (int) pg_atomic_read_u32(&goya_my_engine->alone);
	if (n >= most + late)
		return DT_NOEND;
	if (due > now && !(expected && arrived))
		return due;				/* it may have ended before it could look */
	failures = expected && !arrived ? failures + 1 : 0;
	arrivals = pg_atomic_read_u32(&goya_my_engine->arrivals);
	due = TimestampTzPlusMilliseconds(now, Min(MAX_PAUSE_MS, ARRIVES_WITHIN_MS << Min(failures, 6)));
	expected = goya_worker_start("goya_executor_main", "goya executor", MyDatabaseId, role, NULL);
	if (expected)
		GOYA_CRASH_POINT(ENGINE_EXECUTOR);
	else if (n == 0)
		goya_worker_warn_limit(&last_warning, "no background worker slot for a goya executor",
							   "Raise max_worker_processes. goya tries again every second.");
	else if (n >= most)
		return DT_NOEND;		/* those who are there will do */
	return due;					/* it may end before it has looked at anything */
}
