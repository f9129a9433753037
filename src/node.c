/*-------------------------------------------------------------------------
 * node.c
 *		Running one node: by kind, with its error as its result.
 *
 * With savepoints a node runs in a subtransaction: if it throws, what it did is undone and the error is its result.  Without, the
 * error ends the batch.  Cancellation and the end of the process always end the batch.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "alone.h"
#include "batch.h"
#include "guc.h"
#include "held.h"
#include "identity.h"
#include "json_util.h"
#include "overtime.h"
#include "residue.h"
#include "shmem.h"

/* Errors that are not a node's: somebody wants this process, or its work on this task, to stop. */
static bool
error_is_ours(ErrorData *e)
{
	return e->sqlerrcode == ERRCODE_QUERY_CANCELED && goya_my_executor != NULL && goya_executor_was_interrupted();
}

/* What an error in the middle of a node leaves outside of transactions. */
void
goya_node_abort(void)
{
	goya_identity_unpin();
	goya_overtime_end();
	goya_alone_end();
	goya_executor_show_none();
}

bool
goya_batch_try(GoyaBatch *b, void (*fn) (GoyaBatch *b, void *arg), void *arg, ErrorData **error)
{
	MemoryContext old = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool ok = true;

	*error = NULL;
	if (!b->savepoints)
	{
		fn(b, arg);
		return true;
	}
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(b->cxt);
	PG_TRY();
	{
		fn(b, arg);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(b->cxt);
		*error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		goya_node_abort();
		ok = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	CurrentResourceOwner = owner;
	if (!ok && (error_is_ours(*error) || goya_held_is_ours((*error)->sqlerrcode)))
		ReThrowError(*error);
	return ok;
}

/*
 * Who takes a node; -1: the start of a task, which the engine takes together with its calls when they are all it starts with.
 */
int
goya_node_lane(const GoyaPlan *plan, int node)
{
	if (node >= 0)
		return GOYA_NODE_CALLS(plan->nodes[node].kind) ? GOYA_LANE_ENGINE : GOYA_LANE_EXECUTOR;
	for (int i = 0; plan != NULL && i < plan->n_roots; i++)
		if (!GOYA_NODE_CALLS(plan->nodes[plan->roots[i]].kind))
			return GOYA_LANE_EXECUTOR;
	return plan != NULL && plan->n_roots > 0 ? GOYA_LANE_ENGINE : GOYA_LANE_EXECUTOR;
}

/* It is not to run here: to whose it is. */
static void
hand_on(GoyaBatch *b, const GoyaWork *w, GoyaLane lane)
{
	GoyaQueued *q;

	if (lane == GOYA_LANE_EXECUTOR && w->held > 0)
		lane = GOYA_LANE_ALONE; /* its task was locked for long, and may be so again: not in a batch with others */
	q = goya_batch_queue(b, w->task, lane, GOYA_VERB_RUN, w->node, w->item, w->attempt, 0);
	q->tries = w->tries;
	q->held = w->held;
}

static void
run_kind(GoyaBatch *b, void *arg)
{
	const GoyaWork *w = arg;
	const GoyaPlan *plan = w->task->plan;

	goya_scope_load(b, w->task, &plan->nodes[w->node].refs);
	switch (plan->nodes[w->node].kind)
	{
		case GOYA_NODE_NOOP:
		case GOYA_NODE_TRANSFORM:
		case GOYA_NODE_CONDITION:
			goya_node_run_control(b, w);
			break;
		case GOYA_NODE_MAP:
			goya_node_run_map(b, w);
			break;
		case GOYA_NODE_AGENT:
			goya_node_run_agent(b, w);
			break;
		case GOYA_NODE_SLEEP:
		case GOYA_NODE_WAIT:
		case GOYA_NODE_APPROVAL:
		case GOYA_NODE_WORKFLOW:
		case GOYA_NODE_WORKER:
			goya_node_run_waiting(b, w);
			break;
		case GOYA_NODE_SQL:
			if (b->mode == GOYA_BATCH_ADVANCE)
				hand_on(b, w, GOYA_LANE_EXECUTOR);
			else
				goya_node_run_sql(b, w);
			break;
		case GOYA_NODE_HTTP:
		case GOYA_NODE_AI_MODEL:
		case GOYA_NODE_MCP:
		case GOYA_NODE_CLI:
			if (b->in_engine && list_length(b->calls) < b->max_calls)
				goya_node_start_call(b, w);
			else
				hand_on(b, w, GOYA_LANE_ENGINE);
			break;
	}
}

/* Lists of a batch that a failed node may have added to. */
typedef struct Mark
{
	int			records;
	int			queued;
	int			actions;
	int			artifacts;
	int			calls;
	int			work;
	int			d_active;
	int			d_waiting;
	int			d_done;
	GoyaTaskEnd end;
} Mark;

static Mark
mark_batch(GoyaBatch *b, GoyaTask *t)
{
	return (Mark) {list_length(b->records), list_length(b->queued), list_length(b->actions), list_length(b->artifacts),
			list_length(b->calls), b->work_tail, t->d_active, t->d_waiting, t->d_done, t->end};
}

static void
reset_batch(GoyaBatch *b, GoyaTask *t, Mark m)
{
	b->records = list_truncate(b->records, m.records);
	b->queued = list_truncate(b->queued, m.queued);
	b->actions = list_truncate(b->actions, m.actions);
	b->artifacts = list_truncate(b->artifacts, m.artifacts);
	b->calls = list_truncate(b->calls, m.calls);
	b->work_tail = m.work;
	t->d_active = m.d_active;
	t->d_waiting = m.d_waiting;
	t->d_done = m.d_done;
	t->end = m.end;
}

#define CONTENDED_TRIES 20

/*
 * A deadlock, say, is not a result: the node runs again, alone, as long as it may be the others' fault.  So does one that cannot run here.
 */
static bool
run_again(GoyaBatch *b, const GoyaWork *w, const ErrorData *error)
{
	if (goya_alone_refused())
	{
		hand_on(b, w, GOYA_LANE_ALONE);
		return true;
	}
	if (!goya_error_is_contention(error) || w->tries >= CONTENDED_TRIES || w->task->plan->nodes[w->node].kind != GOYA_NODE_SQL)
		return false;
	goya_batch_queue(b, w->task, GOYA_LANE_ALONE, GOYA_VERB_RUN, w->node, w->item, w->attempt, 0)->tries = w->tries + 1;
	return true;
}

/*
 * Run a node (or what a claimed wake-up says); an error becomes its result.
 */
void
goya_node_run(GoyaBatch *b, const GoyaWork *w)
{
	GoyaWork	work = *w;
	Mark		mark = mark_batch(b, w->task);
	TimestampTz started = GetCurrentTimestamp();
	ErrorData  *error;
	GoyaOutcome o;
	bool		again;

	if (w->task->plan->nodes[w->node].kind == GOYA_NODE_SQL && b->mode != GOYA_BATCH_ADVANCE)
		goya_residue_between(w->task->run_as, &w->task->tenant);
	if (goya_batch_try(b, run_kind, &work, &error))
		return;
	reset_batch(b, w->task, mark);
	again = run_again(b, &work, error);
	goya_held_limit();			/* a function that threw left it lifted */
	if (again)
		return;
	goya_outcome_error(&o, error);
	goya_advance_finish(b, &work, &o, NULL, started, false);
}
