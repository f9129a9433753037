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
		only = v->output;
		goya_json_add(&o, plan->nodes[i].key, v->output);
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
		t->output = goya_template_eval(t->plan->output, &scope.scope);
	}
	else
		t->output = sink_output(b, t);
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

static const char *
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
		return "succeeded";
	if (t->end == GOYA_END_FAILING)
		return "running";		/* end_task says failed, when nothing is left to undo */
	return t->active > 0 && t->waiting >= t->active ? "waiting" : "running";
}

static void
put_task(GoyaBatch *b, GoyaRows *rows, GoyaTask *t)
{
	const char *status = next_status(b, t);
	bool		ended = t->end == GOYA_END_SUCCEEDED;
	float		percent = ended ? 100.0 : Min(99.0, 100.0 * t->done / Max(t->plan->n_listed, 1));

	goya_rows_add(rows);
	goya_rows_uuid(rows, 0, &t->id);
	goya_rows_text(rows, 1, status);
	goya_rows_int4(rows, 2, t->active);
	goya_rows_int4(rows, 3, t->waiting);
	goya_rows_int4(rows, 4, t->done);
	if (ended)
		t->last_seq++;
	goya_rows_int4(rows, 5, t->last_seq);
	if (t->started_seq > 0)
	{
		goya_rows_int4(rows, 6, t->started_seq);
		goya_rows_time(rows, 7, b->now);
	}
	if (ended)
	{
		goya_rows_int4(rows, 8, t->last_seq);
		goya_rows_time(rows, 9, GetCurrentTimestamp());
		goya_rows_jsonb(rows, 11, t->output);
	}
	goya_rows_float4(rows, 10, percent);
	goya_rows_jsonb(rows, 12, t->error);
	goya_rows_bool(rows, 13, t->failing || t->end == GOYA_END_FAILING);
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
	GoyaRows   *settle = goya_rows_create(1, column);
	GoyaRows   *forget = goya_rows_create(1, column);
	GoyaRows   *completed = goya_rows_create(1, column);

	for (int i = 0; i < b->n_tasks; i++)
	{
		GoyaTask   *t = b->task_list[i];

		if (t->end != GOYA_END_SUCCEEDED)
			continue;
		put_id(completed, t);
		if (t->has_hold)
			put_id(settle, t);
		if (leaves_counters(t->plan))
			put_id(forget, t);
		if (t->has_parent)
			tell_parent(b, t);
	}
	if (forget->n > 0)
		goya_rows_run(GOYA_STMT_FORGET_TASKS, forget);
	if (completed->n > 0)
		goya_rows_run(GOYA_STMT_PUBLISH_COMPLETED, completed);
	if (settle->n > 0)
		goya_rows_run(GOYA_STMT_SETTLE, settle);
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
	}
}

static void
write_tasks(GoyaBatch *b)
{
	static const Oid columns[] = {UUIDOID, TEXTOID, INT4OID, INT4OID, INT4OID, INT4OID, INT4OID, TIMESTAMPTZOID, INT4OID, TIMESTAMPTZOID,
	FLOAT4OID, JSONBOID, JSONBOID, BOOLOID};
	GoyaRows   *rows = goya_rows_create(14, columns);
	List	   *failed = NIL;

	for (int i = 0; i < b->n_tasks; i++)
	{
		GoyaTask   *t = b->task_list[i];

		if (!t->touched || !t->locked || !t->runnable)
			continue;
		mark_compensated(b, t);
		if (t->end == GOYA_END_FAILING && !compensate(b, t))
			failed = lappend(failed, t);
		put_task(b, rows, t);
		if (t->end == GOYA_END_FAILING && !t->failing && !list_member_ptr(failed, t))
			failed = lappend(failed, t);	/* its output could not be made */
		goya_announce_at_commit(&t->id);
	}
	if (rows->n > 0)
		goya_rows_run(GOYA_STMT_UPDATE_TASKS, rows);
	succeed_tasks(b);
	end_failed_tasks(b, failed);
}

/* ----- child tasks ----- */

static void
start_children(GoyaBatch *b)
{
	ListCell   *lc;

	foreach(lc, b->actions)
	{
		GoyaAction *a = lfirst(lc);
		GoyaStart	start;

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
		(void) goya_run_start(&start);
	}
	b->actions = NIL;
}

/* ----- queue ----- */

static int64
rank_of(GoyaQueued *q)
{
	/* Items of a map pay their way; other successors keep their task's place, so that what was begun is ended first. */
	if (q->task != NULL && q->task->rank != 0 && (q->node < 0 || q->task->plan->nodes[q->node].owner < 0))
		return q->task->rank;
	return goya_rank_next(MyDatabaseId, &q->tenant, q->priority, 1);
}

static void
write_queue(GoyaBatch *b)
{
	static const Oid columns[] = {INT8OID, INT2OID, INT2OID, UUIDOID, INT4OID, INT4OID, INT2OID, TIMESTAMPTZOID};
	GoyaRows   *ready = goya_rows_create(7, columns);
	GoyaRows   *parked = goya_rows_create(7, columns);
	GoyaRows   *timers = goya_rows_create(8, columns);
	ListCell   *lc;

	foreach(lc, b->queued)
	{
		GoyaQueued *q = lfirst(lc);
		GoyaRows   *rows = q->due ? timers : q->task && q->task->locked && q->task->paused && q->verb == GOYA_VERB_RUN ? parked : ready;

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
		if (rows == timers)
			b->wake |= GOYA_WAKE_TIMERS;
		else if (rows == ready)
			b->wake |= q->lane == GOYA_LANE_ENGINE ? GOYA_WAKE_TRANSFERS : GOYA_WAKE_EXECUTORS;
	}
	if (ready->n > 0)
		goya_rows_run(GOYA_STMT_INSERT_READY, ready);
	if (parked->n > 0)
		goya_rows_run(GOYA_STMT_INSERT_PARKED, parked);
	if (timers->n > 0)
		goya_rows_run(GOYA_STMT_INSERT_TIMERS, timers);
	b->queued = NIL;
}

void
goya_flush_end(GoyaBatch *b)
{
	GoyaStoreScope scope;

	goya_store_enter(&scope);
	write_tasks(b);
	start_children(b);
	write_queue(b);
	goya_store_leave(&scope);
	goya_wake_at_commit(b->wake);
}
