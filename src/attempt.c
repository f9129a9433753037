/*-------------------------------------------------------------------------
 * attempt.c
 *		How hard a batch tries.  The state table is in attempt.h.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "alone.h"
#include "attempt.h"
#include "black_box.h"
#include "guc.h"
#include "held.h"
#include "overtime.h"
#include "shmem.h"
#include "worker.h"

#define CONTENDED_FAULTS	10		/* half a minute, as the pauses between them grow */

GoyaAttempt *
goya_attempt_create(void)
{
	GoyaAttempt *a = MemoryContextAllocZero(TopMemoryContext, sizeof(GoyaAttempt));

	a->cxt = AllocSetContextCreate(TopMemoryContext, "goya batch", ALLOCSET_DEFAULT_SIZES);
	a->keep = AllocSetContextCreate(TopMemoryContext, "goya convict", ALLOCSET_SMALL_SIZES);
	a->blame = goya_black_box_blame();
	return a;
}

/*
 * A batch as careful as the last errors demand.  In a transaction.
 */
GoyaBatch *
goya_attempt_batch(GoyaAttempt *a, GoyaBatchMode mode, int limit)
{
	GoyaBatch  *b;

	MemoryContextReset(a->cxt);
	goya_plan_cache_trim();
	a->blame->valid = false;
	memset(&a->blame->task, 0, sizeof(a->blame->task));
	if (a->rows > 0)
		limit = Min(limit, a->rows);
	b = goya_batch_create(a->cxt, mode, a->care != GOYA_CARE_OPTIMISTIC, a->care == GOYA_CARE_SINGLE ? 1 : limit, a->blame);
	b->single = a->care == GOYA_CARE_SINGLE;
	if (a->locked)
		b->aside = &a->aside;
	if (a->convict.valid)
	{
		b->convict = &a->convict;
		b->convict_error = a->convict_error;
		b->convict_class = a->convict_class;
	}
	return b;
}

/*
 * After the commit: how many rows to claim next, so that a batch with its writing takes about goya.batch_time.  Rows that a batch has
 * no time for are locked away from others and written again for nothing; small batches wait for the disk more often.  What a batch
 * waits for a wallet or the disk does not count: it would make batches smaller, and so make them wait more often.
 */
void
goya_attempt_learn(GoyaAttempt *a, const GoyaBatch *b)
{
	int64		elapsed = Max(1, ((b->written_at ? b->written_at : GetCurrentTimestamp()) - b->now) / 1000);
	int			begun = Max(b->n_begun, 1);

	if (b->n_claims == 0 || b->single)
		return;
	if (elapsed > goya_guc_batch_time || begun < b->n_claims)
		a->rows = Max(1, Min(begun, (int) (begun * goya_guc_batch_time / elapsed)));
	else if (a->rows > 0 && b->n_claimed >= b->limit && elapsed * 2 < goya_guc_batch_time)
		a->rows = Min(a->rows, goya_guc_batch_size) * 2;
}

void
goya_attempt_succeeded(GoyaAttempt *a, int claimed)
{
	a->faults = 0;
	a->blame->valid = false;
	a->convict.valid = false;
	a->locked = false;
	if (claimed == 0 || a->care == GOYA_CARE_SAVEPOINTS)
		a->care = GOYA_CARE_OPTIMISTIC;
	else if (a->care == GOYA_CARE_SINGLE && --a->singles <= 0)
		a->care = GOYA_CARE_OPTIMISTIC;
}

static bool
interrupted(int code)
{
	return code == ERRCODE_QUERY_CANCELED && goya_my_executor != NULL && goya_executor_was_interrupted();
}

/*
 * A full disk, no connection slot, a device that fails: with savepoints, what gets here happened when goya wrote, and the next node would
 * fare no better.  It is tried again until the server has what it needs.
 */
static bool
server_is_short(int code)
{
	return code == ERRCODE_DISK_FULL || code == ERRCODE_TOO_MANY_CONNECTIONS || code == ERRCODE_IO_ERROR;
}

/* Did it fail though it ran as one that is convicted already? Then what is wrong is the writing of its failure. */
static bool
convicted_already(const GoyaAttempt *a)
{
	const GoyaBlame *c = &a->convict;

	return c->valid && goya_uuid_equal(&c->task, &a->blame->task) && c->node == a->blame->node && c->item == a->blame->item &&
		c->attempt == a->blame->attempt;
}

/*
 * Whoever was convicted before and not met again is forgotten: another process may have its row, and its own conviction.  Were it kept, processes
 * that each wait for a convict and claim another's would never get on.
 */
static void
convict(GoyaAttempt *a, ErrorData *e)
{
	MemoryContext old;

	MemoryContextReset(a->keep);
	old = MemoryContextSwitchTo(a->keep);
	a->convict = *a->blame;
	a->convict_error = goya_error_from_data(e, &a->convict_class);
	MemoryContextSwitchTo(old);
}

/*
 * A lock of goya's own writing was not to be had.  Who it was is known, or is found out by running one by one.
 */
static void
met_a_lock(GoyaAttempt *a, int claimed)
{
	a->nobodys = true;
	if (goya_held_found())
		return;
	if (a->care == GOYA_CARE_SINGLE)
	{
		a->locked = true;
		a->aside = a->blame->task;
		a->faults = 1;			/* that is getting on */
	}
	else if (a->care == GOYA_CARE_SAVEPOINTS)
	{
		a->care = GOYA_CARE_SINGLE;
		a->singles = Max(claimed, 1);
	}
	else
		a->care = GOYA_CARE_SAVEPOINTS;
}

long
goya_attempt_failed(GoyaAttempt *a, int claimed, const char *doing)
{
	ErrorData  *e;
	bool		innocent;
	bool		contended;
	bool		refused;		/* a node that cannot run beside others, which is known of its function now */

	HOLD_INTERRUPTS();
	MemoryContextSwitchTo(a->cxt);
	e = CopyErrorData();

	/*
	 * A deadlock or serialization failure is mostly gone at the second try.  When it is not, a node may have raised it itself, and more
	 * care finds that out: it is then run again alone (node.c).  Only one that fails so again and again when it is written is convicted.
	 */
	goya_overtime_end();
	refused = goya_alone_refused();
	contended = goya_error_is_contention(e);
	a->locked = false;
	a->nobodys = contended || (a->care != GOYA_CARE_OPTIMISTIC && server_is_short(e->sqlerrcode));
	innocent = ((interrupted(e->sqlerrcode) || refused) && a->faults < 5) || (contended ? a->faults < 1 : a->nobodys);
	a->faults++;
	if (goya_held_is_ours(e->sqlerrcode))
		met_a_lock(a, claimed);
	else if (!innocent && a->care == GOYA_CARE_SINGLE && a->blame->valid && !convicted_already(a) && !(contended && a->faults <= CONTENDED_FAULTS))
	{
		convict(a, e);
		a->faults = 1;			/* that is getting on: no pause */
	}
	else if (!innocent && a->care == GOYA_CARE_SAVEPOINTS)
	{
		a->care = GOYA_CARE_SINGLE;
		a->singles = Max(claimed, 1);
	}
	else if (!innocent && a->care == GOYA_CARE_OPTIMISTIC)
		a->care = GOYA_CARE_SAVEPOINTS;
	a->blame->valid = false;
	goya_worker_abort(a->faults > 3 || a->locked ? doing : NULL);
	RESUME_INTERRUPTS();
	return a->faults > 3 ? Min(5000, 100 << Min(a->faults, 6)) : 0;
}
