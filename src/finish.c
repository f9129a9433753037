/*-------------------------------------------------------------------------
 * finish.c
 *		The last writes of a batch: tasks (new status, output, end), compensation, child tasks, settlement, queue rows and timers.
 *
 * Lock order: tasks are locked already; child tasks' holds and settlements lock holds and wallets, so they come last.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "batch.h"
#include "crashes.h"
#include "crash_point.h"
#include "json_util.h"
#include "run.h"
#include "shmem.h"

/* ----- output of a task ----- */

static Jsonb *
sink_output(GoyaBatch *b, GoyaTask *t)
{
	const GoyaPlan *plan = t->plan;
	GoyaJsonObject o;
	int			sinks = 0;
	Jsonb	   *only = NULL;

	goya_json_object_start(&o);
	for (int i = 0; i < plan->n_listed; i++)
	{
		GoyaValue  *v;

		if (plan->nodes[i].n_out > 0)
			continue;
		sinks++;
		v = t->values ? &t->values[i] : NULL;
		if (v == NULL || v->status != GOYA_RUN_SUCCEEDED)
			continue;
		only = goya_scope_output(b, t, v);
		goya_json_add(&o, plan->nodes[i].key, only);
	}
	if (sinks == 1)
		return only ? only : goya_json_null();
	return goya_json_object_finish(&o);
}

static void
make_output(GoyaBatch *b, void *arg)
{
	GoyaTask   *t = arg;

	goya_scope_load(b, t, &t->plan->output_refs);
	if (t->plan->output != NULL)
	{
		GoyaNodeScope scope;

		goya_scope_init(&scope, b, t, -1, 0);
		t->output = goya_scope_seal(t, goya_template_eval(t->plan->output, &scope.scope));
	}
	else
		t->output = goya_scope_seal(t, sink_output(b, t));
}

/* ----- failure ----- */

static bool
queue_compensation(GoyaBatch *b, GoyaTask *t)
{
	Datum		args[1];

	if (!t->plan->has_compensation)
		return false;
	args[0] = UUIDPGetDatum(&t->id);
	goya_store_run(GOYA_STMT_COMPENSABLE, args, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		int			node = goya_plan_node_index(t->plan, goya_result_text(i, 1, b->cxt));
		int			undo = node >= 0 ? t->plan->nodes[node].compensate : -1;

		if (undo < 0)
			continue;
		goya_batch_queue(b, t, goya_node_lane(t->plan, undo), GOYA_VERB_RUN, undo, 0, 1, 0);
		GOYA_CRASH_POINT(FINISH_COMPENSATING);
		return true;
	}
	return false;
}

/* Work of a failing task that is still queued in this batch is given up. */
static void
drop_queued(GoyaBatch *b, GoyaTask *t)
{
	List	   *kept = NIL;
	ListCell   *lc;

	foreach(lc, b->queued)
	{
		GoyaQueued *q = lfirst(lc);

		if (q->task != t)
			kept = lappend(kept, q);
	}
	b->queued = kept;
}

/*
 * A task has failed, or one of its compensations has ended: undo the next node, or end it.  True: it goes on compensating.
 */
static bool
compensate(GoyaBatch *b, GoyaTask *t)
{
	Datum		args[1];

	drop_queued(b, t);
	if (!queue_compensation(b, t))
		return false;
	if (!t->failing)
	{
		args[0] = UUIDPGetDatum(&t->id);
		goya_store_run(GOYA_STMT_CANCEL_OPEN_RUNS, args, NULL);
		t->last_seq = Max(t->last_seq, goya_result_int4(0, 1));
		t->failing = true;
	}
	t->active = 1;
	t->waiting = 0;
	t->d_active = t->d_waiting = 0;
	return true;
}

/* ----- tasks ----- */

static GoyaTaskStatus
next_status(GoyaBatch *b, GoyaTask *t)
{
	ErrorData  *error;

	t->active += t->d_active;
	t->waiting += t->d_waiting;
	t->done += t->d_done;
	t->d_active = t->d_waiting = t->d_done = 0;
	if (t->end != GOYA_END_FAILING && t->active <= 0)
	{
		t->active = 0;
		if (goya_batch_try(b, make_output, t, &error))
			t->end = GOYA_END_SUCCEEDED;
		else
		{
			int			error_class;

			goya_advance_fail_task(b, t, goya_error_from_data(error, &error_class));
		}
	}
	if (t->end == GOYA_END_SUCCEEDED)
		return GOYA_TASK_SUCCEEDED;
	if (t->end == GOYA_END_FAILING)
		return GOYA_TASK_RUNNING;	/* end_task says failed, when nothing is left to undo */
	return t->active > 0 && t->waiting >= t->active ? GOYA_TASK_WAITING : GOYA_TASK_RUNNING;
}

static void
decide_task(GoyaBatch *b, GoyaTask *t)
{
	t->status = next_status(b, t);
	t->progress = Min(99.0, 100.0 * t->done / Max(t->plan->n_listed, 1));
	if (t->end != GOYA_END_SUCCEEDED)
		return;
	t->progress = 100.0;
	t->last_seq++;
	t->finished_at = GetCurrentTimestamp();
}

static bool
leaves_counters(const GoyaPlan *plan)
{
	if (plan->n_nodes > 64)
		return true;
	for (int i = 0; i < plan->n_nodes; i++)
		if (plan->nodes[i].n_in > 1 || plan->nodes[i].kind == GOYA_NODE_MAP)
			return true;
	return false;
}

static void
tell_parent(GoyaBatch *b, GoyaTask *t)
{
	GoyaQueued *q = palloc0(sizeof(GoyaQueued));

	q->task_id = t->parent;
	q->tenant = t->tenant;
	q->priority = t->priority;
	q->lane = GOYA_LANE_WAKE;
	q->verb = GOYA_VERB_CHILD;
	q->node = t->parent_node;
	q->item = t->parent_item;
	q->attempt = 1;
	b->queued = lappend(b->queued, q);
}

static void
put_id(GoyaRows *rows, GoyaTask *t)
{
	goya_rows_add(rows);
	goya_rows_uuid(rows, 0, &t->id);
}

static void
succeed_tasks(GoyaBatch *b)
{
	static const Oid column[] = {UUIDOID};
	GoyaRows   *forget = goya_rows_create(1, column);
	List	   *completed = NIL;

	for (int i = 0; i < b->n_tasks; i++)
	{
		GoyaTask   *t = b->task_list[i];

		if (t->end != GOYA_END_SUCCEEDED)
			continue;
		completed = lappend(completed, t);
		if (leaves_counters(t->plan))
			put_id(forget, t);
		if (t->has_parent)
			tell_parent(b, t);
	}
	if (forget->n > 0)
		goya_rows_run(GOYA_STMT_FORGET_TASKS, forget);
	goya_completion_publish(completed);
	if (completed != NIL)
		GOYA_CRASH_POINT(FINISH_PUBLISHED);
	goya_usage_settle(b);
}

static void
end_failed_tasks(GoyaBatch *b, List *tasks)
{
	ListCell   *lc;

	foreach(lc, tasks)
	{
		GoyaTask   *t = lfirst(lc);
		Datum		args[3];
		char		nulls[3] = {' ', ' ', t->error ? ' ' : 'n'};

		args[0] = UUIDPGetDatum(&t->id);
		args[1] = CStringGetTextDatum("failed");
		args[2] = t->error ? JsonbPGetDatum(t->error) : (Datum) 0;
		goya_store_run(GOYA_STMT_END_TASK, args, nulls);
		GOYA_CRASH_POINT(FINISH_FAILED);
	}
}

/* A compensation that succeeded in this batch marks what it undid. */
static void
mark_compensated(GoyaBatch *b, GoyaTask *t)
{
	for (int i = t->plan->n_listed; t->failing && t->values != NULL && i < t->plan->n_nodes; i++)
	{
		Datum		args[3];

		if (!t->plan->nodes[i].is_compensation || t->values[i].status != GOYA_RUN_SUCCEEDED)
			continue;
		args[0] = UUIDPGetDatum(&t->id);
		args[1] = CStringGetTextDatum(t->plan->nodes[t->plan->nodes[i].owner].key);
		args[2] = Int32GetDatum(++t->last_seq);
		goya_store_run(GOYA_STMT_COMPENSATED, args, NULL);
		GOYA_CRASH_POINT(FINISH_COMPENSATED);
	}
}

static bool
starts_children(GoyaBatch *b)
{
	ListCell   *lc;

	foreach(lc, b->actions)
		if (((GoyaAction *) lfirst(lc))->kind == GOYA_ACT_CHILD)
			return true;
	return false;
}

static void
add_tenant(GoyaRows *tenants, const GoyaTask *t, bool *several)
{
	if (tenants->n > 0 && goya_uuid_equal(&t->tenant, DatumGetUUIDP(tenants->values[0][tenants->n - 1])))
		return;
	*several = tenants->n > 0;
	goya_rows_add(tenants);
	goya_rows_uuid(tenants, 0, &t->tenant);
}

/*
 * Money of tasks that succeed is settled in one step, of those that fail or start children one by one, and a hold that is too small is
 * enlarged before.  Where that is of several tenants, their wallets are locked in order before all of it.  all: of whatever task there is,
 * because it is not known yet which will end.
 */
static void
lock_wallets(GoyaBatch *b, bool all)
{
	static const Oid column[] = {UUIDOID};
	GoyaRows   *tenants = goya_rows_create(1, column);
	bool		several = false;
	ListCell   *lc;

	for (int i = 0; i < b->n_tasks; i++)
		if (all || (b->task_list[i]->has_hold && b->task_list[i]->end != GOYA_END_NONE))
			add_tenant(tenants, b->task_list[i], &several);
	foreach(lc, b->actions)
		if (((GoyaAction *) lfirst(lc))->kind == GOYA_ACT_CHILD)
			add_tenant(tenants, ((GoyaAction *) lfirst(lc))->task, &several);
	if (several)
		goya_rows_run(GOYA_STMT_LOCK_WALLETS, tenants);
}

void
goya_flush_lock_wallets(GoyaBatch *b)
{
	lock_wallets(b, true);
}

static void
write_tasks(GoyaBatch *b)
{
	List	   *written = NIL;
	List	   *failed = NIL;

	for (int i = 0; i < b->n_tasks; i++)
	{
		GoyaTask   *t = b->task_list[i];

		if (!t->touched || !t->locked || !t->runnable)
			continue;
		mark_compensated(b, t);
		if (t->end == GOYA_END_FAILING && !compensate(b, t))
			failed = lappend(failed, t);
		decide_task(b, t);
		written = lappend(written, t);
		if (t->end == GOYA_END_FAILING && !t->failing && !list_member_ptr(failed, t))
			failed = lappend(failed, t);	/* its output could not be made */
		goya_announce_at_commit(&t->id);
	}
	goya_batch_write_tasks(b, written);
	GOYA_CRASH_POINT(FINISH_TASKS_WRITTEN);
	b->written_at = GetCurrentTimestamp();
	if (failed != NIL || starts_children(b))
		lock_wallets(b, false);
	succeed_tasks(b);
	end_failed_tasks(b, failed);
}

/* ----- child tasks ----- */

/* A node of an algorithm: which of its candidates does it now?  *workflow is what start points to. */
static void
choose_workflow(GoyaStart *start, const GoyaNode *n, pg_uuid_t *workflow)
{
	Datum		args[2];

	args[0] = UUIDPGetDatum(&start->tenant);
	args[1] = JsonbPGetDatum(n->choice);
	goya_store_run(GOYA_STMT_CHOOSE_CANDIDATE, args, NULL);
	if (SPI_processed == 0 || goya_result_isnull(0, 1))
		ereport(ERROR, (errcode(GOYA_ERR_NOT_FOUND), errmsg("node \"%s\" has no implementation left to choose", n->key),
						errhint("Publish the workflow again.")));
	*workflow = goya_result_uuid(0, 1);
	start->workflow = workflow;
	start->revision = goya_result_int4(0, 2);
}

static void
start_children(GoyaBatch *b)
{
	ListCell   *lc;

	foreach(lc, b->actions)
	{
		GoyaAction *a = lfirst(lc);
		GoyaStart	start;
		pg_uuid_t	chosen;

		if (a->kind != GOYA_ACT_CHILD || a->task->end == GOYA_END_FAILING)
			continue;
		memset(&start, 0, sizeof(start));
		start.tenant = a->task->tenant;
		start.run_as = a->task->run_as;
		start.created_by = a->task->created_by;
		start.workflow_name = a->text;
		start.input = a->json;
		start.priority = a->task->priority;
		start.trace_id = a->task->trace_id;
		start.depth = a->task->depth + 1;
		start.parent = &a->task->id;
		start.has_parent_node = true;
		start.parent_node = a->node;
		start.parent_item = a->item;
		if (a->task->has_asset)
			start.asset = &a->task->asset;
		if (a->task->plan->nodes[a->node].choice != NULL)
			choose_workflow(&start, &a->task->plan->nodes[a->node], &chosen);
		(void) goya_run_start(&start);
		GOYA_CRASH_POINT(FINISH_CHILD);
	}
	b->actions = NIL;
}

void
goya_flush_end(GoyaBatch *b)
{
	GoyaStoreScope scope;

	goya_store_enter(&scope);
	write_tasks(b);
	start_children(b);
	goya_queue_write(b);
	if (b->crashes != NULL)
		goya_crashes_write(b);
	goya_store_leave(&scope);
	goya_wake_at_commit(b->wake);
}
