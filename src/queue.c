/*-------------------------------------------------------------------------
 * queue.c
 *		The queue: claiming rows of a lane, and the rows a batch leaves: ready, timers, parked.
 *
 * A row is claimed by deleting it, in the order of rank; one that another transaction holds is passed over, so nobody waits.  If the
 * claim rolls back, the row is there again.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "batch.h"
#include "crash_point.h"
#include "held.h"
#include "shmem.h"
#include "table.h"

/* tries of a row in the tables is GoyaWork's tries and, in hundreds, its held. */
#define HELD_STEP		100
#define MOST_HELD		300

/* ----- claiming ----- */

typedef struct ClaimedRow
{
	pg_uuid_t	task;
	int			node;
	int			item;
	int			attempt;
	int			verb;
	int64		rank;
	int			tries;
	int			held;
} ClaimedRow;

/* In a copy of another cluster or database, not adopted, everything is paused. */
static bool
is_copy(void)
{
	Datum		args[1] = {CStringGetTextDatum(goya_batch_system_id())};

	goya_store_run(GOYA_STMT_IS_COPY, args, NULL);
	return goya_result_bool(0, 1);
}

static void
read_claimed(GoyaTable *t, ClaimedRow *r)
{
	int			tries = DatumGetInt16(goya_row_get(t, t->found, GOYA_READY_TRIES, NULL));

	r->task = *DatumGetUUIDP(goya_row_get(t, t->found, GOYA_READY_TASK_ID, NULL));
	r->node = DatumGetInt32(goya_row_get(t, t->found, GOYA_READY_NODE, NULL));
	r->item = DatumGetInt32(goya_row_get(t, t->found, GOYA_READY_ITEM, NULL));
	r->attempt = DatumGetInt16(goya_row_get(t, t->found, GOYA_READY_ATTEMPT, NULL));
	r->verb = DatumGetInt16(goya_row_get(t, t->found, GOYA_READY_VERB, NULL));
	r->rank = DatumGetInt64(goya_row_get(t, t->found, GOYA_READY_RANK, NULL));
	r->tries = tries % HELD_STEP;
	r->held = tries / HELD_STEP;
}

/* Take rows of a lane, from its floor on. */
static void
take_rows(GoyaBatch *b, GoyaTable *t, GoyaLane lane, int64 floor, uint32 ticket, ClaimedRow *rows, int *n)
{
	bool		more = goya_table_seek_from(t, Int16GetDatum(lane), Int64GetDatum(floor));

	goya_floor_raise(lane, ticket, more ? DatumGetInt64(goya_row_get(t, t->found, GOYA_READY_RANK, NULL)) : PG_INT64_MAX);
	if (more && is_copy())
		return;
	for (; more && *n < b->limit; more = goya_table_next(t))
		if (goya_table_take(t))
			read_claimed(t, &rows[(*n)++]);
}

static ClaimedRow *
claim_rows(GoyaBatch *b, GoyaLane lane, int *n)
{
	ClaimedRow *rows = MemoryContextAlloc(b->cxt, sizeof(ClaimedRow) * Max(b->limit, 1));
	GoyaStoreScope scope;
	GoyaTable  *t;
	uint32		ticket;
	int64		floor = goya_floor_begin(lane, &ticket);

	*n = 0;
	/* Newer than the ticket; and for the tasks too: a row whose task is not seen would be taken for one of a task that is gone. */
	PopActiveSnapshot();
	PushActiveSnapshot(GetLatestSnapshot());
	/* No row was taken before in this transaction: it would not be seen, and may come back.  An xid there may be: for one that others took. */
	goya_store_enter(&scope);
	t = goya_table_open(GOYA_TABLE_READY);
	take_rows(b, t, lane, floor, ticket, rows, n);
	goya_table_close(t);
	if (*n > 0)
		GOYA_CRASH_POINT(CLAIM_TAKEN);
	goya_store_leave(&scope);
	return rows;
}

/* Rows of paused tasks wait elsewhere until goya.resume.  Under the task's lock only: see there. */
static void
park(GoyaRows *parked, GoyaTask *t, const ClaimedRow *r, GoyaLane lane)
{
	goya_rows_add(parked);
	goya_rows_int8(parked, 0, r->rank);
	goya_rows_int2(parked, 1, lane);
	goya_rows_int2(parked, 2, r->verb);
	goya_rows_uuid(parked, 3, &t->id);
	goya_rows_int4(parked, 4, r->node);
	goya_rows_int4(parked, 5, r->item);
	goya_rows_int2(parked, 6, r->attempt);
	goya_rows_int2(parked, 7, r->tries);
}

/* Work of a task that somebody keeps locked is tried again later, in the lane of wake-ups, where the lock comes first. */
static void
put_aside(GoyaBatch *b, GoyaTask *t, const ClaimedRow *r)
{
	GoyaQueued *q = goya_batch_queue(b, t, GOYA_LANE_WAKE, r->verb, r->node, r->item, r->attempt,
									 TimestampTzPlusMilliseconds(b->now, goya_held_pause(r->held)));

	q->tries = r->tries;
	q->held = Min(r->held + 1, MOST_HELD);
	q->rank = r->rank;
}

static const Oid queue_columns[] = {INT8OID, INT2OID, INT2OID, UUIDOID, INT4OID, INT4OID, INT2OID, INT2OID};
static const Oid timer_columns[] = {INT8OID, INT2OID, INT2OID, UUIDOID, INT4OID, INT4OID, INT2OID, TIMESTAMPTZOID, INT2OID};

/* A row that nothing of goya writes: run, it would read beyond the plan. */
static bool
is_nonsense(const GoyaTask *t, const ClaimedRow *r)
{
	if (r->verb < GOYA_VERB_RUN || r->verb > GOYA_VERB_DECISION || r->item < 0)
		return true;
	return r->verb == GOYA_VERB_RUN && (r->node < -1 || r->node >= t->plan->n_nodes || r->attempt < 1);
}

/* Work for a claimed row, unless its task has ended or is paused. */
static void
take_row(GoyaBatch *b, const ClaimedRow *r, GoyaLane lane, GoyaRows *parked)
{
	GoyaTask   *t = goya_batch_task(b, &r->task);
	GoyaWork   *w;

	b->newest_rank = Max(b->newest_rank, r->rank);
	if (t->held)
	{
		put_aside(b, t, r);
		return;
	}
	if (t->run_as == NULL || !t->runnable)
		return;					/* gone, ended or being cancelled: nothing to do any more */
	if (t->broken == NULL && is_nonsense(t, r))
		t->broken = goya_error_make("XX001", GOYA_ERR_TOOL_BUG, "the task's row in the queue makes no sense",
									psprintf("verb %d, node %d, item %d, attempt %d", r->verb, r->node, r->item, r->attempt),
									"goya.retry starts it again from where it was.");
	if (t->broken != NULL)
	{
		goya_advance_fail_task(b, t, t->broken);
		return;
	}
	if (t->rank == 0 || r->rank < t->rank)
		t->rank = r->rank;
	if (t->paused && r->verb == GOYA_VERB_RUN)
	{
		if (t->locked)
			park(parked, t, r, lane);
		else					/* goya.resume may be moving its rows: decided under the lock, in the lane of wake-ups */
			goya_batch_queue(b, t, GOYA_LANE_WAKE, GOYA_VERB_RUN, r->node, r->item, r->attempt, 0)->tries = r->tries;
		return;
	}
	w = &b->claimed[b->n_claims++];
	*w = (GoyaWork) {.task = t,.kind = GOYA_WORK_RUN,.node = r->node,.item = r->item,.attempt = r->attempt,
		.verb = r->verb,.rank = r->rank,.tries = r->tries,.held = r->held};
}

/* Where a claimed row stands, and the first of its owner's. */
typedef struct OwnedPlace
{
	const GoyaTask *task;
	int			place;
	int			first;
} OwnedPlace;

static int
compare_owner(const GoyaTask *a, const GoyaTask *b)
{
	int			order = a == b ? 0 : goya_uuid_compare(&a->tenant, &b->tenant);

	return order != 0 || a == b ? order : strcmp(a->run_as, b->run_as);
}

static int
by_owner(const void *x, const void *y)
{
	const OwnedPlace *a = x;
	const OwnedPlace *b = y;
	int			order = compare_owner(a->task, b->task);

	return order != 0 ? order : a->place - b->place;
}

static int
by_first(const void *x, const void *y)
{
	const OwnedPlace *a = x;
	const OwnedPlace *b = y;

	return a->first != b->first ? a->first - b->first : a->place - b->place;
}

/*
 * One owner's work after the other's, owners in the order of their first rows, so that the lowest rank still comes first.  Between nodes of two
 * owners all that a session can hold is forgotten, compiled functions among it (residue.c), which costs more than a short node.
 */
static void
group_by_owner(GoyaBatch *b)
{
	OwnedPlace *places;
	GoyaWork   *sorted;
	int			n = 1;

	while (n < b->n_claims && compare_owner(b->claimed[0].task, b->claimed[n].task) == 0)
		n++;
	if (n >= b->n_claims)
		return;
	places = palloc(sizeof(OwnedPlace) * b->n_claims);
	for (int i = 0; i < b->n_claims; i++)
		places[i] = (OwnedPlace) {.task = b->claimed[i].task,.place = i};
	qsort(places, b->n_claims, sizeof(OwnedPlace), by_owner);
	for (int i = 0; i < b->n_claims; i++)
		places[i].first = i > 0 && compare_owner(places[i - 1].task, places[i].task) == 0 ? places[i - 1].first : places[i].place;
	qsort(places, b->n_claims, sizeof(OwnedPlace), by_first);
	sorted = MemoryContextAlloc(b->cxt, sizeof(GoyaWork) * b->n_claims);
	for (int i = 0; i < b->n_claims; i++)
		sorted[i] = b->claimed[places[i].place];
	b->claimed = sorted;
	pfree(places);
}

/*
 * Claim up to b->limit rows of a lane and make work of them.  In ADVANCE mode the tasks are locked at once.  Returns the rows taken.
 */
int
goya_batch_claim(GoyaBatch *b, GoyaLane lane)
{
	int			n;
	ClaimedRow *rows = claim_rows(b, lane, &n);
	pg_uuid_t  *ids;
	GoyaRows   *parked;

	b->n_claimed = n;
	if (n == 0)
		return 0;
	b->claimed = MemoryContextAlloc(b->cxt, sizeof(GoyaWork) * n);
	ids = MemoryContextAlloc(b->cxt, sizeof(pg_uuid_t) * n);
	for (int i = 0; i < n; i++)
		ids[i] = rows[i].task;
	goya_batch_load_tasks(b, n, ids);
	for (int i = 0; i < n; i++)
		if (!goya_held_waits(rows[i].held))
			goya_batch_task(b, &rows[i].task)->impatient = true;
	if (b->mode == GOYA_BATCH_ADVANCE)
		goya_batch_lock_tasks(b);
	goya_batch_leave_held(b);
	GOYA_CRASH_POINT(CLAIM_LOADED);

	parked = goya_rows_create(8, queue_columns);
	for (int i = 0; i < n; i++)
		take_row(b, &rows[i], lane, parked);
	if (b->mode == GOYA_BATCH_EXECUTE)
		group_by_owner(b);
	if (parked->n > 0)
	{
		GoyaStoreScope scope;

		goya_store_enter(&scope);
		goya_rows_run(GOYA_STMT_INSERT_PARKED, parked);
		GOYA_CRASH_POINT(CLAIM_PARKED);
		goya_store_leave(&scope);
	}
	goya_scope_preload(b);
	return n;
}

/* ----- what a batch leaves ----- */

/* Valid until the batch is written. */
GoyaQueued *
goya_batch_queue(GoyaBatch *b, GoyaTask *task, int lane, int verb, int node, int item, int attempt, TimestampTz due)
{
	MemoryContext old = MemoryContextSwitchTo(b->cxt);
	GoyaQueued *q = palloc0(sizeof(GoyaQueued));

	q->task = task;
	q->task_id = task->id;
	q->tenant = task->tenant;
	q->priority = task->priority;
	q->lane = lane;
	q->verb = verb;
	q->node = node;
	q->item = item;
	q->attempt = attempt;
	q->due = due;
	b->queued = lappend(b->queued, q);
	MemoryContextSwitchTo(old);
	return q;
}

static int64
rank_of(GoyaQueued *q)
{
	if (q->rank != 0)
		return q->rank;
	/* Items of a map pay their way; other successors keep their task's place, so that what was begun is ended first. */
	if (q->task != NULL && q->task->rank != 0 && (q->node < 0 || q->task->plan->nodes[q->node].owner < 0))
		return q->task->rank;
	return goya_rank_next(MyDatabaseId, &q->tenant, q->priority, 1);
}

static int
stored_tries(const GoyaQueued *q)
{
	return q->tries + HELD_STEP * q->held;
}

static void
put_queued(GoyaRows *rows, GoyaQueued *q)
{
	goya_rows_add(rows);
	goya_rows_int8(rows, 0, rank_of(q));
	goya_rows_int2(rows, 1, q->lane);
	goya_rows_int2(rows, 2, q->verb);
	goya_rows_uuid(rows, 3, &q->task_id);
	goya_rows_int4(rows, 4, q->node);
	goya_rows_int4(rows, 5, q->item);
	goya_rows_int2(rows, 6, q->attempt);
	if (q->due)
		goya_rows_time(rows, 7, q->due);
	goya_rows_int2(rows, q->due ? 8 : 7, stored_tries(q));
}

/*
 * Who is to be woken for rows of a lane.
 */
uint32
goya_lane_wake(int lane)
{
	switch (lane)
	{
		case GOYA_LANE_ENGINE:
			return GOYA_WAKE_TRANSFERS;
		case GOYA_LANE_SHARE:
			return 0;			/* who puts them there looks again when there is room */
		case GOYA_LANE_EXECUTOR:
			return GOYA_WAKE_BATCHES;
		case GOYA_LANE_LATE:
		case GOYA_LANE_ALONE:
			return GOYA_WAKE_LATE;
		default:
			return GOYA_WAKE_EXECUTORS;
	}
}

/*
 * Which lane a row of the queue is for, and who is to be woken for it.
 */
int
goya_queue_lane(int lane, const pg_uuid_t *tenant, int priority, uint32 *wake)
{
	if (lane == GOYA_LANE_EXECUTOR && goya_late_is(tenant, priority))
		lane = GOYA_LANE_LATE;
	*wake |= goya_lane_wake(lane);
	return lane;
}

/*
 * A row of the queue.
 */
void
goya_queue_append(GoyaTable *t, int64 rank, int lane, int verb, const pg_uuid_t *task, int node, int item, int attempt, int tries)
{
	TupleTableSlot *row = goya_table_row(t);

	goya_floor_lower_at_commit(lane, rank);
	goya_row_set(t, row, GOYA_READY_RANK, Int64GetDatum(rank));
	goya_row_set(t, row, GOYA_READY_LANE, Int16GetDatum(lane));
	goya_row_set(t, row, GOYA_READY_VERB, Int16GetDatum(verb));
	goya_row_set(t, row, GOYA_READY_TASK_ID, UUIDPGetDatum(task));
	goya_row_set(t, row, GOYA_READY_NODE, Int32GetDatum(node));
	goya_row_set(t, row, GOYA_READY_ITEM, Int32GetDatum(item));
	goya_row_set(t, row, GOYA_READY_ATTEMPT, Int16GetDatum(attempt));
	goya_row_set(t, row, GOYA_READY_TRIES, Int16GetDatum(tries));
	goya_table_append(t);
}

/*
 * Write what the batch left to do.  Between goya_store_enter and leave.
 */
void
goya_queue_write(GoyaBatch *b)
{
	GoyaRows   *parked = goya_rows_create(8, queue_columns);
	GoyaRows   *timers = goya_rows_create(9, timer_columns);
	GoyaTable  *ready = NULL;
	ListCell   *lc;

	foreach(lc, b->queued)
	{
		GoyaQueued *q = lfirst(lc);

		if (q->due)
		{
			put_queued(timers, q);
			b->wake |= GOYA_WAKE_TIMERS;
		}
		else if (q->task && q->task->locked && q->task->paused && q->verb == GOYA_VERB_RUN)
			put_queued(parked, q);
		else
		{
			int64		rank = rank_of(q);
			int			lane = goya_queue_lane(q->lane, &q->tenant, q->priority, &b->wake);

			if (ready == NULL)
				ready = goya_table_open(GOYA_TABLE_READY);
			goya_queue_append(ready, rank, lane, q->verb, &q->task_id, q->node, q->item, q->attempt, stored_tries(q));
		}
	}
	if (ready != NULL)
	{
		goya_table_close(ready);
		GOYA_CRASH_POINT(QUEUE_WRITTEN);
	}
	if (parked->n > 0)
	{
		goya_rows_run(GOYA_STMT_INSERT_PARKED, parked);
		GOYA_CRASH_POINT(QUEUE_PARKED);
	}
	if (timers->n > 0)
	{
		goya_rows_run(GOYA_STMT_INSERT_TIMERS, timers);
		GOYA_CRASH_POINT(QUEUE_TIMERS);
	}
	b->queued = NIL;
}
