/*-------------------------------------------------------------------------
 * latecomers.c
 *		Work that comes after batches were claimed and belongs before them: one tenant's task in the middle of another's flood.
 *
 * The queue is fair (fairness.c), but a batch that runs is not interrupted: while all executors run batches of a flood, whoever comes next
 * would wait for one of them to end, and then for the end of the batch it is claimed in.  So as long as claims find more rows than they
 * can take, a row of lane 0 whose tenant has no backlog - its newest place is before, or just behind, the highest that is claimed - goes
 * to a lane of its own (GOYA_LANE_LATE), which every second turn of an executor looks at first.  And one executor more than
 * goya.max_executors may run: no more than those have a place at lane 0, the one without a place is idle when somebody comes late.  It
 * also takes functions that are to run alone.  Just behind is a number of rows: those of a tenant with more weight are closer together.
 *
 * Nobody is late while lane 0 has no backlog, nor is a tenant with one, nor work of a lower priority than what is claimed.  So with a
 * single tenant, or work that the executors keep up with, this costs two reads of memory a row.  After a restart the tenants' clocks begin
 * anew, and who has a backlog is not known: nobody is late until lane 0 was empty once.  All of it is hints: a stale one costs a place in
 * the queue or a process, never a row, for any executor takes rows of this lane.
 *
 * Must hold: for rows of lane 0 nobody is woken when all places are taken.  So an executor takes its place with rows in hand only (else
 * two that both look for the last time would each seem to be at work), gives it up after a claim that found nothing, and looks at all
 * lanes once more before it sleeps; if it gives it up to run alone, or runs a latecomer without one, it wakes somebody else (executor.c);
 * and when it ends (shmem.c).  Places are not a counter but what the executors' slots say: it cannot go wrong for good.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "goya.h"
#include "guc.h"
#include "shmem.h"
#include "tenants.h"

#define HEADROOM	100			/* rows behind what is claimed that are not yet a backlog; not more than were claimed */

static GoyaEngineSlot *
my_database(void)
{
	return goya_shared == NULL ? NULL : goya_shmem_engine(MyDatabaseId, false);
}

/* By priority and by place: a higher priority alone makes nobody late. */
bool
goya_late_is(const pg_uuid_t *tenant, int priority)
{
	GoyaEngineSlot *slot = my_database();
	uint64		late = slot == NULL ? 0 : pg_atomic_read_u64(&slot->late);
	uint64		last;

	if (late == 0)
		return false;
	late += (uint64) pg_atomic_read_u32(&slot->headroom) * GOYA_RANK_UNIT / goya_tenant_share(tenant).weight;
	last = (uint64) goya_rank_last(tenant, priority);
	return last <= late && GOYA_RANK_TIME(last) <= GOYA_RANK_TIME(late);
}

bool
goya_late_places_taken(Oid dboid)
{
	int			n = 0;

	for (int i = 0; i < GOYA_MAX_EXECUTOR_SLOTS; i++)
		if (pg_atomic_read_u64(&goya_shared->executors[i].claimed) != 0 && goya_shared->executors[i].dboid == dboid)
			n++;
	return n >= goya_guc_max_executors;
}

bool
goya_late_has_place(void)
{
	return pg_atomic_read_u64(&goya_my_executor->claimed) != 0;
}

bool
goya_late_may_claim(void)
{
	return goya_late_has_place() || !goya_late_places_taken(MyDatabaseId);
}

/* Of those that have a place.  Others may come and go meanwhile: a hint. */
static uint64
highest_claimed(void)
{
	uint64		highest = 0;

	for (int i = 0; i < GOYA_MAX_EXECUTOR_SLOTS; i++)
		if (goya_shared->executors[i].dboid == MyDatabaseId)
			highest = Max(highest, pg_atomic_read_u64(&goya_shared->executors[i].claimed));
	return highest;
}

void
goya_late_claimed(int64 rank, int rows, bool full)
{
	GoyaEngineSlot *slot = my_database();

	pg_atomic_write_u64(&goya_my_executor->claimed, (uint64) rank);
	if (slot == NULL)
		return;
	full = full && pg_atomic_read_u32(&slot->clocks_known) != 0;
	pg_atomic_write_u32(&slot->headroom, Min(rows, HEADROOM));
	pg_atomic_write_u64(&slot->late, full ? highest_claimed() : 0);
}

void
goya_late_none(void)
{
	GoyaEngineSlot *slot = my_database();

	goya_late_leave();
	if (slot == NULL)
		return;
	pg_atomic_write_u64(&slot->late, 0);
	pg_atomic_write_u32(&slot->clocks_known, 1);
}

void
goya_late_leave(void)
{
	pg_atomic_write_u64(&goya_my_executor->claimed, 0);
}
