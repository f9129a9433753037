/*-------------------------------------------------------------------------
 * attempt.c
 *		How hard a batch tries.  The state table is in attempt.h.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "attempt.h"
#include "shmem.h"
#include "worker.h"

GoyaAttempt *
goya_attempt_create(void)
{
	GoyaAttempt *a = MemoryContextAllocZero(TopMemoryContext, sizeof(GoyaAttempt));

	a->cxt = AllocSetContextCreate(TopMemoryContext, "goya batch", ALLOCSET_DEFAULT_SIZES);
	a->keep = AllocSetContextCreate(TopMemoryContext, "goya convict", ALLOCSET_SMALL_SIZES);
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
	a->blame.valid = false;
	b = goya_batch_create(a->cxt, mode, a->care != GOYA_CARE_OPTIMISTIC, a->care == GOYA_CARE_SINGLE ? 1 : limit, &a->blame);
	b->single = a->care == GOYA_CARE_SINGLE;
	if (a->convict.valid)
	{
		b->convict = &a->convict;
		b->convict_error = a->convict_error;
		b->convict_class = a->convict_class;
	}
	return b;
}

void
goya_attempt_succeeded(GoyaAttempt *a, int claimed)
{
	a->faults = 0;
	a->convict.valid = false;
	if (claimed == 0 || a->care == GOYA_CARE_SAVEPOINTS)
		a->care = GOYA_CARE_OPTIMISTIC;
	else if (a->care == GOYA_CARE_SINGLE && --a->singles <= 0)
		a->care = GOYA_CARE_OPTIMISTIC;
}

static bool
nobodys_fault(int code)
{
	if (code == ERRCODE_QUERY_CANCELED && goya_my_executor != NULL && goya_executor_was_interrupted())
		return true;
	return ERRCODE_TO_CATEGORY(code) == ERRCODE_TRANSACTION_ROLLBACK;
}

static void
convict(GoyaAttempt *a, ErrorData *e)
{
	MemoryContext old;

	MemoryContextReset(a->keep);
	old = MemoryContextSwitchTo(a->keep);
	a->convict = a->blame;
	a->convict_error = goya_error_from_data(e, &a->convict_class);
	MemoryContextSwitchTo(old);
}

long
goya_attempt_failed(GoyaAttempt *a, int claimed, const char *doing)
{
	ErrorData  *e;
	bool		innocent;

	HOLD_INTERRUPTS();
	MemoryContextSwitchTo(a->cxt);
	e = CopyErrorData();
	innocent = nobodys_fault(e->sqlerrcode) && a->faults < 5;
	a->faults++;
	if (!innocent && a->care == GOYA_CARE_SINGLE && a->blame.valid && !a->convict.valid)
		convict(a, e);
	else if (!innocent && a->care == GOYA_CARE_SAVEPOINTS)
	{
		a->care = GOYA_CARE_SINGLE;
		a->singles = Max(claimed, 1);
	}
	else if (!innocent && a->care == GOYA_CARE_OPTIMISTIC)
		a->care = GOYA_CARE_SAVEPOINTS;
	goya_worker_abort(a->faults > 3 ? doing : NULL);
	RESUME_INTERRUPTS();
	return a->faults > 3 ? Min(5000, 100 << Min(a->faults, 6)) : 0;
}
