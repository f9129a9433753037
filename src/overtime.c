/*-------------------------------------------------------------------------
 * overtime.c
 *		SQL nodes that go on after they were told to end: their time is over, or their task is cancelled.
 *
 * Both cancel the node's statement, once, as PostgreSQL does.  PL/pgSQL can catch that (EXCEPTION WHEN query_canceled) and go on, and
 * PL/Python with a mere "except".  A function may well write down where it stopped; one that takes longer than that would keep an
 * executor, its lane and its locks for ever, and goya.cancel would promise too much.
 *
 * Decided: who catches the cancellation ends a subtransaction with it.  So the end of any subtransaction of a node that was told to end
 * starts a clock of GRACE_MS; when it is over, the process ends as if it had been terminated.  The transaction is undone, the black box
 * (black_box.c) says which node it was, and the node fails with class CRASH without being run again (crashes.c); a cancelled task ends.
 * Nothing is paid for this by nodes that do not throw.
 *
 * Not covered: C code that never looks for interrupts.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "alone.h"
#include "black_box.h"
#include "overtime.h"
#include "shmem.h"

#define GRACE_MS	5000

static TimeoutId clock_id;
static bool in_node = false;
static bool started = false;	/* the clock */
static TimestampTz node_ends = 0;	/* when the node's own time is over; 0: it has none */
static TimestampTz told_at = 0; /* when it will be told, or was; 0: never.  Earlier than node_ends in a batch (alone.c) */
static bool force;				/* it is its own time, or its task, that is over */

/* In a signal handler. */
static void
clock_rang(void)
{
	goya_black_box_by_force(force);
	ProcDiePending = true;
	InterruptPending = true;
	SetLatch(MyLatch);
}

static bool
is_over(TimestampTz end)
{
	return end != 0 && GetCurrentTimestamp() >= end;
}

static void
subtransaction_ended(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	if (event != SUBXACT_EVENT_ABORT_SUB || !in_node || started || !(goya_executor_was_interrupted() || is_over(told_at)))
		return;
	started = true;
	force = goya_executor_was_interrupted() || is_over(node_ends);
	enable_timeout_after(clock_id, GRACE_MS);
}

void
goya_overtime_watch(void)
{
	clock_id = RegisterTimeout(USER_TIMEOUT, clock_rang);
	RegisterSubXactCallback(subtransaction_ended, NULL);
}

void
goya_overtime_begin(int64 timeout_ms)
{
	int64		limit = goya_alone_limit();

	in_node = true;
	node_ends = timeout_ms > 0 ? TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms) : 0;
	told_at = limit > 0 && (timeout_ms <= 0 || limit < timeout_ms) ? TimestampTzPlusMilliseconds(GetCurrentTimestamp(), limit) : node_ends;
	if (told_at != 0)
		enable_timeout_at(STATEMENT_TIMEOUT, told_at);
}

/*
 * What rang in the last moment is taken back, unless somebody else wants the statement or the process to end.
 */
void
goya_overtime_end(void)
{
	in_node = false;
	if (told_at != 0)
	{
		bool		rang = !get_timeout_active(STATEMENT_TIMEOUT);

		disable_timeout(STATEMENT_TIMEOUT, true);
		if (get_timeout_indicator(STATEMENT_TIMEOUT, true))
		{
			if (!goya_executor_was_interrupted())
				QueryCancelPending = false;
		}
		else if (rang && told_at != node_ends)
			goya_alone_too_long();	/* it was told, and knows */
	}
	told_at = node_ends = 0;
	if (!started)
		return;
	started = false;
	disable_timeout(clock_id, true);
	if (!get_timeout_indicator(clock_id, true))
		return;
	goya_black_box_by_force(false);
	ProcDiePending = false;
	if (goya_black_box_told_to_end())
		ProcDiePending = InterruptPending = true;
}
