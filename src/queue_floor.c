/*-------------------------------------------------------------------------
 * queue_floor.c
 *		The floor of a lane: below that rank the queue has no row, so a claim begins there.
 *
 * Rows that were taken stay in the index until vacuum may remove them, which a transaction open for an hour prevents: a claim that began
 * at the beginning of its lane would pass a million of them.  The floor is in shared memory, a hint that only ever errs downwards.
 *
 * A claim raises it to the first row that its snapshot showed; such a row may be locked, or be taken just now: it counts, for it may come
 * back.  Whoever commits a row below the floor lowers it right after the commit.  In between lies the danger: a row that was committed
 * after the claim took its snapshot, told before the claim raises the floor above it.  So a claim that means to raise the floor says so
 * before it takes its snapshot, one at a time in each lane; from then on the least rank committed is noted, and the floor is not raised
 * above it.
 *
 * Rows written by SQL statements have ranks that are not known here: their commit forgets all floors of the database, and so does the
 * engine when it finds rows by a look at the whole table (a prepared transaction commits without telling anybody).
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "goya.h"
#include "shmem.h"

#define RAISING_MS 1000			/* who has not come back by then has failed: somebody else may raise */

static bool pending = false;
static int64 pending_floor[GOYA_LANES];

static void
note(int lane, int64 rank)
{
	if (!pending)
		for (int i = 0; i < GOYA_LANES; i++)
			pending_floor[i] = PG_INT64_MAX;
	pending = true;
	pending_floor[lane] = Min(pending_floor[lane], rank);
}

/*
 * This transaction has put a row in a lane.
 */
void
goya_floor_lower_at_commit(int lane, int64 rank)
{
	if (lane >= 0 && lane < GOYA_LANES)
		note(lane, rank);
}

/*
 * It may have put rows anywhere.
 */
void
goya_floor_forget_at_commit(void)
{
	for (int i = 0; i < GOYA_LANES; i++)
		note(i, PG_INT64_MIN);
}

/*
 * From the commit callback, before anybody is woken; with false: rolled back.
 */
void
goya_floor_transaction_ended(bool committed)
{
	GoyaEngineSlot *slot;

	if (!pending)
		return;
	pending = false;
	slot = committed ? goya_shmem_engine(MyDatabaseId, false) : NULL;
	if (slot == NULL)
		return;
	SpinLockAcquire(&slot->mutex);
	for (int i = 0; i < GOYA_LANES; i++)
	{
		GoyaFloor  *f = &slot->floors[i];

		f->rank = Min(f->rank, pending_floor[i]);
		f->least = Min(f->least, pending_floor[i]);
	}
	SpinLockRelease(&slot->mutex);
}

/*
 * Rows may be anywhere: at the start of an engine, and after a look that found some.
 */
void
goya_floor_forget(GoyaEngineSlot *slot)
{
	SpinLockAcquire(&slot->mutex);
	for (int i = 0; i < GOYA_LANES; i++)
		slot->floors[i].rank = slot->floors[i].least = PG_INT64_MIN;
	SpinLockRelease(&slot->mutex);
}

/*
 * Is there nothing in the lane, so that a claim would be for nothing?
 */
bool
goya_floor_is_empty(int lane)
{
	GoyaEngineSlot *slot = goya_shmem_engine(MyDatabaseId, false);
	int64		rank;

	if (slot == NULL)
		return false;
	SpinLockAcquire(&slot->mutex);
	rank = slot->floors[lane].rank;
	SpinLockRelease(&slot->mutex);
	return rank == PG_INT64_MAX;
}

/*
 * Before the snapshot of a claim is taken: the rank to begin at, and a ticket for goya_floor_raise; 0 while another claim has one.
 */
int64
goya_floor_begin(int lane, uint32 *ticket)
{
	GoyaEngineSlot *slot = goya_shmem_engine(MyDatabaseId, false);
	TimestampTz now = GetCurrentTimestamp();
	int64		rank;

	*ticket = 0;
	if (slot == NULL)
		return PG_INT64_MIN;
	SpinLockAcquire(&slot->mutex);
	{
		GoyaFloor  *f = &slot->floors[lane];

		rank = f->rank;
		if (f->raising == 0 || f->since > now || TimestampDifferenceExceeds(f->since, now, RAISING_MS))
		{
			f->tickets = Max(f->tickets + 1, 1);
			*ticket = f->raising = f->tickets;
			f->since = now;
			f->least = PG_INT64_MAX;
		}
	}
	SpinLockRelease(&slot->mutex);
	return rank;
}

/*
 * The claim saw its first row at a rank; PG_INT64_MAX: it saw none at all.
 */
void
goya_floor_raise(int lane, uint32 ticket, int64 rank)
{
	GoyaEngineSlot *slot = ticket != 0 ? goya_shmem_engine(MyDatabaseId, false) : NULL;

	if (slot == NULL)
		return;
	SpinLockAcquire(&slot->mutex);
	{
		GoyaFloor  *f = &slot->floors[lane];

		if (f->raising == ticket)
		{
			f->rank = Min(rank, f->least);
			f->raising = 0;
		}
	}
	SpinLockRelease(&slot->mutex);
}
