/*-------------------------------------------------------------------------
 * batch.c
 *		A batch: running the work of many tasks in one transaction, and the order in which things happen.
 *
 * Order within one transaction:
 *		claim rows (skip locked) -> load tasks (no lock) -> run work until none is left or the limits are reached ->
 *		[lock tasks by id] -> write what ran -> joins, maps, signals may make more work: again, under the locks now held ->
 *		queue what is left, write tasks, settle -> commit (by the caller).
 *
 * What must hold: work claimed is either run, queued again, parked or dropped because its task has ended; every piece of work that was
 * counted in tasks.active is uncounted exactly once.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "commands/trigger.h"
#include "hash.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "batch.h"
#include "crashes.h"
#include "crash_point.h"
#include "guc.h"
#include "json_util.h"
#include "shmem.h"

const char *
goya_run_status_name(GoyaRunStatus status)
{
	static const char *const names[] = {"pending", "ready", "running", "waiting", "succeeded", "failed", "skipped", "cancelled", "compensated"};

	return names[status];
}

/* Which copy of which cluster this is. */
char *
goya_batch_system_id(void)
{
	return psprintf(UINT64_FORMAT "/%u", GetSystemIdentifier(), MyDatabaseId);
}

/* A hash table that lives as long as the batch. */
HTAB *
goya_batch_hash(GoyaBatch *b, const char *name, Size keysize, Size entrysize)
{
	return goya_hash_create(name, 64, keysize, entrysize, b->cxt);
}

GoyaBatch *
goya_batch_create(MemoryContext cxt, GoyaBatchMode mode, bool savepoints, int limit, GoyaBlame *blame)
{
	GoyaBatch  *b = MemoryContextAllocZero(cxt, sizeof(GoyaBatch));

	b->cxt = cxt;
	b->mode = mode;
	b->savepoints = savepoints;
	b->limit = limit;
	b->blame = blame;
	b->now = GetCurrentTimestamp();
	b->deadline = TimestampTzPlusMilliseconds(b->now, goya_guc_batch_time);
	b->tasks = goya_batch_hash(b, "goya batch tasks", sizeof(pg_uuid_t), sizeof(GoyaTaskEntry));
	b->arrivals = goya_batch_hash(b, "goya batch arrivals", sizeof(GoyaArrivalKey), sizeof(GoyaArrival));
	b->maps = goya_batch_hash(b, "goya batch maps", sizeof(GoyaArrivalKey), sizeof(GoyaMapProgress));
	return b;
}

/* Valid until the next one. */
GoyaWork *
goya_batch_push(GoyaBatch *b, GoyaTask *task, GoyaWorkKind kind, int node, int item, int attempt)
{
	GoyaWork   *w;

	if (b->work_tail == b->work_max)
	{
		b->work_max = b->work_max ? b->work_max * 2 : 64;
		if (b->work == NULL)
			b->work = MemoryContextAlloc(b->cxt, sizeof(GoyaWork) * b->work_max);
		else
			b->work = repalloc_huge(b->work, sizeof(GoyaWork) * b->work_max);
	}
	w = &b->work[b->work_tail++];
	*w = (GoyaWork) {.task = task,.kind = kind,.node = node,.item = item,.attempt = attempt};
	return w;
}

/* ----- what the batch produces ----- */

GoyaAction *
goya_batch_act(GoyaBatch *b, GoyaActionKind kind, GoyaTask *task, int node, int item, int attempt)
{
	MemoryContext old = MemoryContextSwitchTo(b->cxt);
	GoyaAction *a = palloc0(sizeof(GoyaAction));

	a->kind = kind;
	a->task = task;
	a->node = node;
	a->item = item;
	a->attempt = attempt;
	b->actions = lappend(b->actions, a);
	MemoryContextSwitchTo(old);
	return a;
}

GoyaRecord *
goya_batch_record(GoyaBatch *b, const GoyaWork *w, GoyaRunStatus status)
{
	MemoryContext old = MemoryContextSwitchTo(b->cxt);
	GoyaRecord *r = palloc0(sizeof(GoyaRecord));

	r->task = w->task;
	r->node = w->node;
	r->item = w->item;
	r->attempt = w->attempt;
	r->status = status;
	r->again = w->tries > 0;
	r->row = w->row;
	w->task->touched = true;
	if (b->crashes != NULL && status == GOYA_RUN_SUCCEEDED)
		goya_crashes_ended(b, w);
	b->records = lappend(b->records, r);
	MemoryContextSwitchTo(old);
	return r;
}

/* ----- running ----- */

/* Did this node run bring down a batch of its own when it was written? */
bool
goya_batch_convicted(GoyaBatch *b, const GoyaWork *w)
{
	const GoyaBlame *c = b->convict;

	return c != NULL && c->valid && goya_uuid_equal(&c->task, &w->task->id) && c->node == w->node && c->item == w->item &&
		c->attempt == w->attempt;
}

/*
 * A node run ends other than by being run (a wait, a map): it is to blame from here on, if it is alone.  True: it is convicted already,
 * and o says of what.
 */
bool
goya_batch_blame_end(GoyaBatch *b, const GoyaWork *w, GoyaOutcome *o)
{
	if (b->single)
	{
		b->blame->task = w->task->id;
		b->blame->node = w->node;
		b->blame->item = w->item;
		b->blame->attempt = w->attempt;
		b->blame->valid = true;
	}
	if (!goya_batch_convicted(b, w))
		return false;
	*o = (GoyaOutcome) {.ok = false,.retry_after_ms = -1,.error = b->convict_error,.error_class = b->convict_class};
	return true;
}

static void
run_one(GoyaBatch *b, const GoyaWork *w)
{
	if (w->task->end == GOYA_END_FAILING || !w->task->runnable)
		return;					/* failed in this batch: the rest of it is given up */
	if (w->task->failing && w->node >= 0 && !w->task->plan->nodes[w->node].is_compensation)
		return;					/* only compensations run now */
	w->task->touched = true;
	if (w->task->refusal != NULL)
		goya_advance_fail_task(b, w->task, goya_error_make("42501", GOYA_ERR_POLICY_DENY, w->task->refusal, NULL, NULL));
	else if (w->verb != GOYA_VERB_RUN)
		goya_node_wake(b, w);
	else if (w->kind != GOYA_WORK_RUN)
		goya_advance_skip(b, w);
	else if (w->node < 0)
		goya_advance_start(b, w);
	else if (goya_batch_convicted(b, w))
	{
		GoyaOutcome o = {.ok = false,.retry_after_ms = -1,.error = b->convict_error,.error_class = b->convict_class};

		goya_advance_finish(b, w, &o, NULL, b->now, false);
	}
	else if (goya_crashes_enough(b, w))
		goya_crashes_fail(b, w);
	else
		goya_node_run(b, w);
}

#define RUNS_PER_ROW 10			/* a batch has at most so many times goya.batch_size node runs */

/*
 * What was begun is carried on to its end before another claimed row is begun, so that few tasks are written twice; but not beyond
 * twice the time.
 */
static bool
over_limit(GoyaBatch *b, bool begin)
{
	TimestampTz now;

	if (b->single && b->n_runs > 0)
		return true;
	if (b->n_runs >= goya_guc_batch_size * RUNS_PER_ROW)
		return true;
	if (begin ? b->n_runs == 0 : (b->n_runs & 7) != 7)
		return false;
	now = GetCurrentTimestamp();
	return now > (begin ? b->deadline : TimestampTzPlusMilliseconds(b->deadline, goya_guc_batch_time));
}

/* The next piece of work; false: there is none, or the batch is full. */
static bool
next_work(GoyaBatch *b, GoyaWork *w)
{
	if (b->work_head < b->work_tail)
	{
		if (over_limit(b, false))
			return false;
		*w = b->work[b->work_head++];
		return true;
	}
	b->work_head = b->work_tail = 0;
	if (b->next_claim >= b->n_claims || over_limit(b, true))
		return false;
	*w = b->claimed[b->next_claim++];
	return true;
}

static void
queue_again(GoyaBatch *b, const GoyaWork *w)
{
	int			lane = w->verb != GOYA_VERB_RUN ? GOYA_LANE_WAKE : goya_node_lane(w->task->plan, w->node);
	GoyaQueued *q = goya_batch_queue(b, w->task, lane, w->verb, w->node, w->item, w->attempt, 0);

	q->tries = w->tries;
	q->held = w->held;
	q->rank = w->rank;
}

/* Work not done in this batch goes back to the queue. */
static void
queue_rest(GoyaBatch *b)
{
	for (; b->work_head < b->work_tail; b->work_head++)
	{
		GoyaWork	w = b->work[b->work_head];

		if (w.kind != GOYA_WORK_RUN)
		{
			run_one(b, &w);		/* skipping costs nothing, and is not queued */
			continue;
		}
		if (w.task->end == GOYA_END_FAILING || !w.task->runnable)
			continue;
		w.task->touched = true;
		queue_again(b, &w);
	}
	b->n_begun = b->next_claim;
	for (; b->next_claim < b->n_claims; b->next_claim++)
	{
		const GoyaWork *w = &b->claimed[b->next_claim];

		if (w->task->end != GOYA_END_FAILING && w->task->runnable)
			queue_again(b, w);
	}
}

/* Writing may itself end node runs (a map's last item, a signal that was there): then there is more to write. */
static bool
more_to_write(GoyaBatch *b)
{
	ListCell   *lc;

	if (b->records != NIL || b->artifacts != NIL || hash_get_num_entries(b->arrivals) > 0 || hash_get_num_entries(b->maps) > 0)
		return true;
	foreach(lc, b->actions)
		if (((GoyaAction *) lfirst(lc))->kind != GOYA_ACT_CHILD)
			return true;
	return false;
}

/*
 * Run all work and write everything.  Throws on any error that is not a node's own (with savepoints), or on any error (without).
 */
void
goya_batch_run(GoyaBatch *b)
{
	MemoryContext old = MemoryContextSwitchTo(b->cxt);
	GoyaWork	w;

	for (;;)
	{
		while (next_work(b, &w))
		{
			CHECK_FOR_INTERRUPTS();
			b->blame->task = w.task->id;
			b->blame->node = w.node;
			b->blame->item = w.item;
			b->blame->attempt = w.attempt;
			b->blame->valid = w.node >= 0;
			run_one(b, &w);
		}
		if (!b->single)
			b->blame->valid = false;
		queue_rest(b);
		GOYA_CRASH_POINT(ADVANCE_BEFORE_FLUSH);
		goya_flush_round(b);
		if (b->work_head >= b->work_tail && !more_to_write(b))
			break;
		AfterTriggerFireDeferred(); /* of goya's own writing: not as the owner of the next node */
	}
	goya_flush_end(b);
	MemoryContextSwitchTo(old);
}

PG_FUNCTION_INFO_V1(goya_system_id_sql);
Datum
goya_system_id_sql(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(goya_batch_system_id()));
}
