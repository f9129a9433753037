/*-------------------------------------------------------------------------
 * node_wait.c
 *		Nodes that wait: sleep, wait (signal), approval, workflow (child task), worker (node_worker.c); and what wakes them.
 *
 * A waiting node run is a row with status waiting and, when there is a time limit, a timer.  Everything that may end the wait comes as
 * a row of the queue (lane wake), is handled under the task's lock, and finds the row no longer waiting when it is too late: so a timer
 * that fires late, a second signal, a decision after the timeout change nothing.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "batch.h"
#include "crash_point.h"
#include "json_util.h"
#include "node_http.h"
#include "value.h"

#define MAX_WAIT_MS (INT64CONST(3660) * 24 * 3600 * 1000)	/* ten years */

/* ----- going to wait ----- */

int64
goya_interval_ms(Jsonb *value, const char *what)
{
	double		seconds;
	Interval   *span;

	if (goya_json_as_double(value, &seconds))
	{
		if (seconds < 0 || seconds * 1000 > MAX_WAIT_MS)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s is out of range", what),
					 errhint("Give seconds from 0 to ten years.")));
		return (int64) (seconds * 1000);
	}
	if (!goya_json_is_string(value))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s must be seconds or an interval", what),
				 errhint("Write 1.5 or \"2 minutes\".")));
	span = DatumGetIntervalP(DirectFunctionCall3(interval_in, CStringGetDatum(goya_json_as_text(value)), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	return Min(Max(span->time / 1000 + (int64) span->day * 86400000 + (int64) span->month * INT64CONST(2592000000), 0), MAX_WAIT_MS);
}

static TimestampTz
sleep_until(const GoyaNode *n, GoyaNodeScope *scope)
{
	if (n->until != NULL)
	{
		char	   *text = goya_template_eval_text(n->until, &scope->scope);

		if (text == NULL)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("sleep needs a time, got null")));
		return DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in, CStringGetDatum(text), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	}
	return TimestampTzPlusMilliseconds(GetCurrentTimestamp(), goya_interval_ms(goya_template_eval(n->duration, &scope->scope), "duration of a sleep"));
}

void
goya_node_run_waiting(GoyaBatch *b, const GoyaWork *w)
{
	GoyaTask   *task = w->task;
	const GoyaNode *n = &task->plan->nodes[w->node];
	GoyaNodeScope scope;
	GoyaRecord *r;
	GoyaAction *a;
	Jsonb	   *input;
	TimestampTz due = 0;

	goya_scope_init(&scope, b, task, w->node, w->item);
	input = goya_scope_input(&scope, w->node);
	scope.params = input;
	if (n->kind == GOYA_NODE_SLEEP)
		due = sleep_until(n, &scope);
	else if (n->timeout_ms > 0)
		due = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), n->timeout_ms);
	r = goya_batch_record(b, w, GOYA_RUN_WAITING);
	r->input = goya_scope_seal(task, input);
	r->started_at = GetCurrentTimestamp();
	b->n_runs++;
	task->d_waiting++;
	if (due != 0)
		goya_batch_queue(b, task, GOYA_LANE_WAKE, GOYA_VERB_TIMER, w->node, w->item, w->attempt, due);
	if (n->kind == GOYA_NODE_WAIT)
		goya_batch_act(b, GOYA_ACT_ARM_SIGNAL, task, w->node, w->item, w->attempt)->started_at = r->started_at;
	else if (n->kind == GOYA_NODE_APPROVAL)
	{
		a = goya_batch_act(b, GOYA_ACT_APPROVAL, task, w->node, w->item, w->attempt);
		a->text = n->message ? goya_scope_seal_text(task, goya_template_eval_text(n->message, &scope.scope)) : NULL;
		a->json = n->form ? n->form : goya_json_object(0, NULL, NULL);
	}
	else if (n->kind == GOYA_NODE_WORKFLOW)
	{
		a = goya_batch_act(b, GOYA_ACT_CHILD, task, w->node, w->item, w->attempt);
		a->text = n->workflow;
		a->json = input;
	}
	else if (n->kind == GOYA_NODE_WORKER)
		goya_worker_offer(b, w, &scope);
}

/* ----- waking ----- */

/* Did this batch end the run already?  Its row says waiting until the batch is written. */
static bool
ended_in_batch(GoyaBatch *b, const GoyaWork *w)
{
	ListCell   *lc;

	foreach(lc, b->records)
	{
		GoyaRecord *r = lfirst(lc);

		if (r->update && r->task == w->task && r->node == w->node && r->item == w->item)
			return true;
	}
	return false;
}

/*
 * Is this run still waiting?  Under the task's lock.  attempt 0: whichever attempt waits, which is put there.
 */
static bool
still_waiting(GoyaBatch *b, GoyaWork *w, TimestampTz *started_at)
{
	static const Oid columns[] = {UUIDOID, TEXTOID, INT4OID, INT2OID};
	GoyaRows   *rows = goya_rows_create(4, columns);
	GoyaStoreScope scope;
	bool		waiting;

	if (ended_in_batch(b, w))
		return false;
	goya_rows_add(rows);
	goya_rows_uuid(rows, 0, &w->task->id);
	goya_rows_text(rows, 1, w->task->plan->nodes[w->node].key);
	goya_rows_int4(rows, 2, w->item);
	if (w->attempt > 0)
		goya_rows_int2(rows, 3, w->attempt);
	goya_store_enter(&scope);
	goya_rows_run(GOYA_STMT_OPEN_RUNS, rows);
	waiting = SPI_processed == 1 && strcmp(goya_result_text(0, 2, CurrentMemoryContext), "waiting") == 0;
	if (waiting && !goya_result_isnull(0, 4))
		*started_at = DatumGetTimestampTz(goya_result_datum(0, 4));
	if (waiting)
		w->attempt = DatumGetInt16(goya_result_datum(0, 5));
	goya_store_leave(&scope);
	return waiting;
}

typedef struct WakeArg
{
	GoyaWork	work;
	GoyaOutcome outcome;
	TimestampTz started_at;
} WakeArg;

static void
finish_wake(GoyaBatch *b, void *arg)
{
	WakeArg    *wa = arg;

	goya_advance_finish(b, &wa->work, &wa->outcome, NULL, wa->started_at, true);
}

static void
end_wait(GoyaBatch *b, const GoyaWork *w, GoyaOutcome *o, TimestampTz started_at)
{
	WakeArg		arg = {*w, *o, started_at};
	ErrorData  *error;

	w->task->d_waiting--;
	if (goya_batch_blame_end(b, w, &arg.outcome))
	{
		finish_wake(b, &arg);
		return;
	}
	if (goya_batch_try(b, finish_wake, &arg, &error))
		return;
	goya_outcome_error(&arg.outcome, error);
	goya_advance_finish(b, w, &arg.outcome, NULL, started_at, true);
}

typedef struct OpenArg
{
	const GoyaTask *task;
	Jsonb	   *value;
} OpenArg;

static void
open_stored(GoyaBatch *b, void *arg)
{
	OpenArg    *a = arg;

	a->value = goya_value_open(&a->task->tenant, a->value);
}

/* What somebody left for a run to end with may be sealed. */
void
goya_node_open_stored(GoyaBatch *b, const GoyaTask *task, Jsonb **value, GoyaOutcome *o)
{
	OpenArg		arg = {task, *value};
	ErrorData  *error;

	if (!goya_value_is_sealed(*value))
		return;
	if (goya_batch_try(b, open_stored, &arg, &error))
		*value = arg.value;
	else
		goya_outcome_error(o, error);
}

static void
fail_timeout(GoyaOutcome *o, const char *message)
{
	o->ok = false;
	o->error_class = GOYA_ERR_TIMEOUT;
	o->error = goya_error_make("57014", GOYA_ERR_TIMEOUT, message, NULL, "Raise the node's timeout, or add an edge on failure.");
}

static void
wake_by_timer(GoyaBatch *b, GoyaWork *w)
{
	const GoyaNode *n = &w->task->plan->nodes[w->node];
	GoyaOutcome o = {.ok = true,.retry_after_ms = -1};
	TimestampTz started = 0;

	if (!still_waiting(b, w, &started))
		return;
	switch (n->kind)
	{
		case GOYA_NODE_SLEEP:
			o.output = goya_json_null();
			break;
		case GOYA_NODE_WAIT:
			fail_timeout(&o, psprintf("no signal \"%s\" came in time", n->signal));
			break;
		case GOYA_NODE_APPROVAL:
			goya_batch_act(b, GOYA_ACT_EXPIRE_APPROVAL, w->task, w->node, w->item, w->attempt)->json = goya_json_null();
			fail_timeout(&o, "nobody decided in time");
			break;
		case GOYA_NODE_WORKER:
			if (!goya_worker_timer(b, w, started, &o))
				return;
			break;
		case GOYA_NODE_HTTP:
			fail_timeout(&o, "no callback came in time");
			if (!n->idempotent)
				o.error_class = GOYA_ERR_UNKNOWN;
			break;
		default:
			fail_timeout(&o, "the child task did not end in time");
			break;
	}
	end_wait(b, w, &o, started);
}

static bool
take_signal(const GoyaWork *w, Jsonb **payload, MemoryContext cxt)
{
	const GoyaNode *n = &w->task->plan->nodes[w->node];
	GoyaStoreScope scope;
	Datum		args[3];
	bool		taken;

	args[0] = UUIDPGetDatum(&w->task->id);
	args[1] = CStringGetTextDatum(n->signal);
	args[2] = CStringGetTextDatum(psprintf("%s/%d/%d", n->key, w->item, w->attempt));
	goya_store_enter(&scope);
	goya_store_run(GOYA_STMT_TAKE_SIGNAL, args, NULL);
	taken = SPI_processed == 1;
	if (taken)
	{
		*payload = goya_result_jsonb(0, 1, cxt);
		GOYA_CRASH_POINT(FLUSH_SIGNAL_TAKEN);
	}
	goya_store_leave(&scope);
	return taken;
}

/* A wait node's row was written: perhaps its signal came before it. */
bool
goya_node_arm_signal(GoyaBatch *b, GoyaAction *a)
{
	GoyaWork	w = {.task = a->task,.node = a->node,.item = a->item,.attempt = a->attempt};
	GoyaOutcome o = {.ok = true,.retry_after_ms = -1};

	if (!take_signal(&w, &o.output, b->cxt))
		return false;
	goya_node_open_stored(b, w.task, &o.output, &o);
	end_wait(b, &w, &o, a->started_at);
	return true;
}

/* Give signals to the runs of one wait node (items of a map, too), in order, as long as there are any.  True: there may be more to give. */
static bool
signal_node(GoyaBatch *b, const GoyaWork *w, int node)
{
	static const Oid columns[] = {UUIDOID, TEXTOID, INT4OID, INT2OID};
	GoyaRows   *rows = goya_rows_create(4, columns);
	GoyaStoreScope scope;
	int			n;
	GoyaWork   *runs;
	TimestampTz *started;

	goya_rows_add(rows);
	goya_rows_uuid(rows, 0, &w->task->id);
	goya_rows_text(rows, 1, w->task->plan->nodes[node].key);
	goya_store_enter(&scope);
	goya_rows_run(GOYA_STMT_OPEN_RUNS, rows);
	n = SPI_processed;
	runs = MemoryContextAllocZero(b->cxt, sizeof(GoyaWork) * Max(n, 1));
	started = MemoryContextAllocZero(b->cxt, sizeof(TimestampTz) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		runs[i] = (GoyaWork) {.task = w->task,.node = node,.attempt = DatumGetInt16(goya_result_datum(i, 5)),.item = goya_result_int4(i, 6)};
		if (!goya_result_isnull(i, 4))
			started[i] = DatumGetTimestampTz(goya_result_datum(i, 4));
	}
	goya_store_leave(&scope);
	for (int i = 0; i < n; i++)
	{
		GoyaOutcome o = {.ok = true,.retry_after_ms = -1};

		if (ended_in_batch(b, &runs[i]))
			continue;
		if (!take_signal(&runs[i], &o.output, b->cxt))
			return false;
		goya_node_open_stored(b, w->task, &o.output, &o);
		end_wait(b, &runs[i], &o, started[i]);
		if (b->single)
		{
			/* One node run per transaction: the others are given theirs in the next. */
			goya_batch_queue(b, w->task, GOYA_LANE_WAKE, GOYA_VERB_SIGNAL, -1, 0, 1, 0);
			return true;
		}
	}
	return false;
}

/* A signal came for the task: give it to a wait node that waits for that name, if there is one; else it stays. */
static void
wake_by_signal(GoyaBatch *b, const GoyaWork *w)
{
	const GoyaPlan *plan = w->task->plan;

	for (int i = 0; i < plan->n_nodes; i++)
		if (plan->nodes[i].kind == GOYA_NODE_WAIT && signal_node(b, w, i))
			return;
}

static void
wake_by_decision(GoyaBatch *b, GoyaWork *w)
{
	GoyaOutcome o = {.ok = true,.retry_after_ms = -1};
	GoyaStoreScope scope;
	GoyaJsonObject out;
	Datum		args[4];
	char	   *status = NULL;
	Jsonb	   *response = NULL;
	char	   *by = NULL;
	TimestampTz started = 0;

	if (!still_waiting(b, w, &started))
		return;
	if (w->task->plan->nodes[w->node].kind == GOYA_NODE_WORKER)
	{
		if (goya_worker_result(b, w, &o))
			end_wait(b, w, &o, started);
		return;
	}
	if (w->task->plan->nodes[w->node].kind == GOYA_NODE_HTTP)
	{
		if (goya_http_callback_take(b, w, &o))
			end_wait(b, w, &o, started);
		return;
	}
	args[0] = UUIDPGetDatum(&w->task->id);
	args[1] = CStringGetTextDatum(w->task->plan->nodes[w->node].key);
	args[2] = Int32GetDatum(w->item);
	args[3] = Int16GetDatum(w->attempt);
	goya_store_enter(&scope);
	goya_store_run(GOYA_STMT_LOAD_APPROVAL, args, NULL);
	if (SPI_processed == 1)
	{
		status = goya_result_text(0, 1, b->cxt);
		response = goya_result_jsonb(0, 2, b->cxt);
		by = goya_result_text(0, 3, b->cxt);
	}
	goya_store_leave(&scope);
	if (status == NULL || (strcmp(status, "approved") != 0 && strcmp(status, "rejected") != 0))
		return;
	goya_node_open_stored(b, w->task, &response, &o);
	goya_json_object_start(&out);
	goya_json_add_bool(&out, "approved", strcmp(status, "approved") == 0);
	goya_json_add(&out, "response", response);
	goya_json_add_text(&out, "by", by);
	if (o.ok)
		o.output = goya_json_object_finish(&out);
	end_wait(b, w, &o, started);
}

static void
wake_by_child(GoyaBatch *b, GoyaWork *w)
{
	GoyaOutcome o = {.ok = true,.retry_after_ms = -1};
	GoyaStoreScope scope;
	Datum		args[3];
	char	   *status = NULL;
	char	   *child = NULL;
	Jsonb	   *error = NULL;
	TimestampTz started = 0;

	args[0] = UUIDPGetDatum(&w->task->id);
	args[1] = Int32GetDatum(w->node);
	args[2] = Int32GetDatum(w->item);
	goya_store_enter(&scope);
	goya_store_run(GOYA_STMT_LOAD_CHILD, args, NULL);
	if (SPI_processed == 1)
	{
		pg_uuid_t	id = goya_result_uuid(0, 1);

		child = goya_uuid_text(&id);
		status = goya_result_text(0, 2, b->cxt);
		o.output = goya_result_jsonb(0, 3, b->cxt);
		error = goya_result_jsonb(0, 4, b->cxt);
	}
	goya_store_leave(&scope);
	if (status == NULL || !still_waiting(b, w, &started))
		return;
	if (strcmp(status, "failed") == 0 || strcmp(status, "cancelled") == 0)
	{
		char	   *class_name = goya_json_get_text(error, "class");

		o.ok = false;
		o.error_class = class_name ? goya_error_class_bit(class_name) : 0;
		if (class_name && strcmp(class_name, goya_error_class_name(GOYA_ERR_CRASH)) == 0)
			o.error_class = GOYA_ERR_CRASH; /* it would crash again */
		if (o.error_class == 0)
			o.error_class = GOYA_ERR_DEPENDENCY;
		o.error = goya_error_make(goya_json_get_text(error, "code"), o.error_class, psprintf("child task %s %s", child, status),
								  goya_json_get_text(error, "message"), NULL);
	}
	else if (strcmp(status, "succeeded") != 0)
		return;
	else
		goya_node_open_stored(b, w->task, &o.output, &o);
	end_wait(b, w, &o, started);
}

/*
 * A row of the wake lane.  The attempt of a child's or decision's run is not known to who wrote it: the newest is meant.
 */
void
goya_node_wake(GoyaBatch *b, const GoyaWork *work)
{
	GoyaWork	w = *work;

	if (w.verb != GOYA_VERB_SIGNAL && (w.node < 0 || w.node >= w.task->plan->n_nodes))
		return;
	if (w.node >= 0 && w.task->plan->nodes[w.node].kind == GOYA_NODE_AGENT)
	{
		goya_agent_wake(b, &w);
		return;
	}
	w.kind = GOYA_WORK_RUN;
	if (w.verb == GOYA_VERB_CHILD || w.verb == GOYA_VERB_DECISION)
		w.attempt = 0;
	switch (w.verb)
	{
		case GOYA_VERB_TIMER:
			wake_by_timer(b, &w);
			break;
		case GOYA_VERB_SIGNAL:
			wake_by_signal(b, &w);
			break;
		case GOYA_VERB_CHILD:
			wake_by_child(b, &w);
			break;
		case GOYA_VERB_DECISION:
			wake_by_decision(b, &w);
			break;
	}
}
