/*-------------------------------------------------------------------------
 * advance.c
 *		The DAG: what the end of a node run means for its successors, its map, its task.  In memory only; flush.c writes.
 *
 * Every edge is resolved once: it fired, it is dead (its source was skipped, or another case was taken), or it failed (its source
 * failed and this edge does not handle failures).  A node with one incoming edge runs or is skipped at once.  With several it waits
 * until all are resolved (join all) or the first fires (join any); readiness is a counter, never a look at the graph:
 *
 *		join all:	some edge failed -> skipped, blocked; else some fired -> runs; else skipped
 *		join any:	first fired -> runs; none fired -> skipped (blocked when some failed)
 *
 * A skipped node passes its own reason on.  A failure is contained when some edge on failure or always leaves the node; otherwise the
 * task fails.  tasks.active counts node runs that are ready, running, waiting or on a retry timer; skipping costs nothing.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "batch.h"
#include "json_util.h"
#include "shmem.h"

typedef enum EdgeResult
{
	EDGE_FIRED, EDGE_DEAD, EDGE_FAILED
} EdgeResult;

/* A node begins: it counts as active until goya_advance_finish. */
static void
push_run(GoyaBatch *b, GoyaTask *task, int node, int item)
{
	task->d_active++;
	goya_batch_push(b, task, GOYA_WORK_RUN, node, item, 1);
}

void
goya_advance_start(GoyaBatch *b, const GoyaWork *w)
{
	const GoyaPlan *plan = w->task->plan;

	w->task->d_active--;		/* the start itself */
	for (int i = 0; i < plan->n_roots; i++)
		push_run(b, w->task, plan->roots[i], 0);
}

/* ----- edges ----- */

static void
node_decided(GoyaBatch *b, GoyaTask *task, int node, int fired, int failed)
{
	const GoyaNode *n = &task->plan->nodes[node];

	if (n->join_any ? fired > 0 : fired > 0 && failed == 0)
		push_run(b, task, node, 0);
	else
		goya_batch_push(b, task, failed > 0 ? GOYA_WORK_SKIP_BLOCKED : GOYA_WORK_SKIP, node, 0, 1);
}

static void
arrive(GoyaBatch *b, GoyaTask *task, int node, EdgeResult result)
{
	const GoyaNode *n = &task->plan->nodes[node];
	GoyaArrivalKey key;
	GoyaArrival *a;
	bool		found;

	if (n->n_in == 1)
	{
		node_decided(b, task, node, result == EDGE_FIRED, result == EDGE_FAILED);
		return;
	}
	memset(&key, 0, sizeof(key));
	key.task = task;
	key.node = node;
	a = hash_search(b->arrivals, &key, HASH_ENTER, &found);
	if (!found)
	{
		a->fired = a->dead = a->failed = 0;
		a->settled = false;
	}
	if (result == EDGE_FIRED)
		a->fired++;
	else if (result == EDGE_DEAD)
		a->dead++;
	else
		a->failed++;
	if (a->fired + a->dead + a->failed == n->n_in)
	{
		a->settled = true;		/* all within this batch: no row is needed */
		node_decided(b, task, node, a->fired, a->failed);
	}
}

/* flush.c found that a join's row is complete (or, for any, that the first edge fired). */
void
goya_advance_join_ready(GoyaBatch *b, GoyaTask *task, int node, int fired, int failed)
{
	node_decided(b, task, node, fired, failed);
}

static bool
edge_passes(GoyaBatch *b, GoyaTask *task, const GoyaEdge *e, const char *case_name)
{
	GoyaNodeScope scope;

	if (e->case_name != NULL && (case_name == NULL || strcmp(e->case_name, case_name) != 0))
		return false;
	if (e->when == NULL)
		return true;
	goya_scope_load(b, task, &e->when_refs);
	goya_scope_init(&scope, b, task, -1, 0);
	return goya_expr_test(e->when, &scope.scope);
}

void
goya_advance_resolve(GoyaBatch *b, GoyaTask *task, int node, bool ok)
{
	const GoyaPlan *plan = task->plan;
	const GoyaNode *n = &plan->nodes[node];
	char	   *case_name = NULL;

	if (ok && n->kind == GOYA_NODE_CONDITION)
		case_name = goya_json_get_text(goya_scope_output(b, task, goya_scope_slot(b, task, node)), "case");
	for (int i = 0; i < n->n_out; i++)
	{
		const GoyaEdge *e = &plan->edges[n->out_edges[i]];
		EdgeResult	result;

		if (ok ? e->on == GOYA_ON_FAILURE : e->on == GOYA_ON_SUCCESS)
			result = ok ? EDGE_DEAD : EDGE_FAILED;
		else
			result = edge_passes(b, task, e, case_name) ? EDGE_FIRED : EDGE_DEAD;
		arrive(b, task, e->to, result);
	}
}

void
goya_advance_skip(GoyaBatch *b, const GoyaWork *w)
{
	const GoyaPlan *plan = w->task->plan;
	const GoyaNode *n = &plan->nodes[w->node];
	GoyaRecord *r = goya_batch_record(b, w, GOYA_RUN_SKIPPED);
	GoyaValue  *v = goya_scope_slot(b, w->task, w->node);

	r->finished_at = GetCurrentTimestamp();
	r->message = w->kind == GOYA_WORK_SKIP_BLOCKED ? "a node before it failed" : "no edge to it fired";
	v->known = true;
	v->status = GOYA_RUN_SKIPPED;
	w->task->d_done++;
	for (int i = 0; i < n->n_out; i++)
		arrive(b, w->task, plan->edges[n->out_edges[i]].to, w->kind == GOYA_WORK_SKIP_BLOCKED ? EDGE_FAILED : EDGE_DEAD);
}

/* ----- the end of a task ----- */

void
goya_advance_fail_task(GoyaBatch *b, GoyaTask *task, Jsonb *error)
{
	if (task->end == GOYA_END_FAILING || task->failing)
		return;
	task->end = GOYA_END_FAILING;
	task->error = error;
	task->touched = true;
}

static Jsonb *
error_at(Jsonb *error, const GoyaNode *n, const GoyaWork *w)
{
	error = goya_json_set(error, "node", goya_json_from_text(n->key));
	if (n->owner >= 0 && !n->is_compensation)
		error = goya_json_set(error, "item", goya_json_from_int(w->item));
	return goya_json_set(error, "attempt", goya_json_from_int(w->attempt));
}

/* ----- the end of a node run ----- */

static bool
retry_node(GoyaBatch *b, const GoyaWork *w, GoyaOutcome *o, GoyaRecord *r)
{
	const GoyaNode *n = &w->task->plan->nodes[w->node];
	GoyaWork	next = *w;
	int64		delay;

	if (w->attempt >= n->retry.max_attempts || !(o->error_class & n->retry.on) || o->final)
		return false;
	if (GOYA_NODE_CALLS(n->kind) && !n->idempotent && o->error_class == GOYA_ERR_UNKNOWN)
		return false;			/* the call may have had its effect: not a second time */
	delay = goya_retry_delay_ms(&n->retry, w->attempt + 1, pg_prng_double(&pg_global_prng_state));
	if (o->retry_after_ms >= 0)
		delay = Max(delay, Min(o->retry_after_ms, 24 * 3600 * INT64CONST(1000)));
	r->message = psprintf("will retry %d/%d", w->attempt, n->retry.max_attempts - 1);
	next.attempt = w->attempt + 1;
	goya_batch_queue(b, w->task, goya_node_lane(w->task->plan, w->node), GOYA_VERB_RUN, w->node, w->item, next.attempt,
					 TimestampTzPlusMilliseconds(GetCurrentTimestamp(), delay));
	return true;
}

static void
map_item_ended(GoyaBatch *b, GoyaTask *task, int map, bool ok, Jsonb *error)
{
	GoyaArrivalKey key;
	GoyaMapProgress *p;
	bool		found;

	memset(&key, 0, sizeof(key));
	key.task = task;
	key.node = map;
	p = hash_search(b->maps, &key, HASH_ENTER, &found);
	if (!found)
	{
		p->done = p->failed = 0;
		p->error = NULL;
	}
	if (ok)
		p->done++;
	else
	{
		p->failed++;
		p->error = error;
	}
}

/* A run of a hidden node has ended for good, other than a compensation. */
static void
item_ended(GoyaBatch *b, const GoyaWork *w, const GoyaNode *n, bool ok, Jsonb *result)
{
	if (w->task->plan->nodes[n->owner].kind == GOYA_NODE_AGENT)
		goya_agent_run_ended(b, w, ok, result);
	else
		map_item_ended(b, w->task, n->owner, ok, ok ? NULL : result);
}

static void
put_artifacts(GoyaBatch *b, const GoyaWork *w, const GoyaNode *n, GoyaNodeScope *scope)
{
	for (int i = 0; i < n->n_artifacts; i++)
	{
		const GoyaArtifactSpec *spec = &n->artifacts[i];
		Jsonb	   *each = spec->each ? goya_template_eval(spec->each, &scope->scope) : NULL;
		int			count = spec->each ? goya_json_array_length(each) : 1;
		Jsonb	   *saved_item = scope->item_value;
		int			saved_index = scope->item;
		bool		saved_has = scope->has_item;

		for (int k = 0; k < count; k++)
		{
			GoyaJsonObject o;
			Jsonb	   *data;

			if (spec->each)
			{
				scope->item_value = goya_json_array_get(each, k);
				scope->item = k;
				scope->has_item = true;
			}
			data = spec->data ? goya_template_eval(spec->data, &scope->scope) : spec->each ? scope->item_value : scope->output;
			goya_json_object_start(&o);
			goya_json_add_text(&o, "task_id", goya_uuid_text(&w->task->id));
			goya_json_add_text(&o, "tenant_id", goya_uuid_text(&w->task->tenant));
			goya_json_add_text(&o, "node", n->key);
			goya_json_add_int(&o, "item", spec->each && !saved_has ? k : w->item);
			goya_json_add_text(&o, "type", spec->type);
			goya_json_add_text(&o, "name", spec->name ? goya_template_eval_text(spec->name, &scope->scope) : n->key);
			goya_json_add(&o, "data", data);
			b->artifacts = lappend(b->artifacts, goya_json_object_finish(&o));
		}
		scope->item_value = saved_item;
		scope->item = saved_index;
		scope->has_item = saved_has;
	}
}

/* What a success leaves besides its row: price, artifacts, context. */
static void
put_effects(GoyaBatch *b, const GoyaWork *w, const GoyaNode *n, GoyaRecord *r, GoyaOutcome *o)
{
	GoyaNodeScope scope;

	if (n->price_name == NULL && n->n_artifacts == 0 && n->writes == NULL)
		return;
	goya_scope_init(&scope, b, w->task, w->node, w->item);
	scope.output = o->output;
	if (n->price_name != NULL)
	{
		r->priced = true;
		r->quantity = n->price_quantity && !o->measured ? goya_template_eval(n->price_quantity, &scope.scope) : o->quantity;
		r->estimated = o->estimated;
	}
	put_artifacts(b, w, n, &scope);
	if (n->writes != NULL)
		goya_batch_act(b, GOYA_ACT_CONTEXT, w->task, w->node, w->item, w->attempt)->json = goya_template_eval(n->writes, &scope.scope);
}

static void
finish_ok(GoyaBatch *b, const GoyaWork *w, const GoyaNode *n, GoyaRecord *r, GoyaOutcome *o)
{
	GoyaTask   *task = w->task;

	put_effects(b, w, n, r, o);
	task->d_active--;
	if (n->is_compensation)
	{
		goya_scope_slot(b, task, w->node)->status = GOYA_RUN_SUCCEEDED;
		goya_advance_compensate(b, task);
	}
	else if (n->owner >= 0)
		item_ended(b, w, n, true, o->output);
	else
	{
		GoyaValue  *v = goya_scope_slot(b, task, w->node);

		v->known = true;
		v->status = GOYA_RUN_SUCCEEDED;
		v->output = o->output;
		v->stored = false;
		v->error = NULL;		/* an earlier attempt's may have been loaded */
		task->d_done++;
		if (n->writes == NULL)	/* else flush.c does, when the context is written */
			goya_advance_resolve(b, task, w->node, true);
	}
}

static void
finish_failed(GoyaBatch *b, const GoyaWork *w, const GoyaNode *n, GoyaOutcome *o)
{
	GoyaTask   *task = w->task;

	task->d_active--;
	if (n->is_compensation)
		goya_advance_compensate(b, task);	/* it could not be undone: say so, go on with the others */
	else if (n->owner >= 0)
		item_ended(b, w, n, false, error_at(o->error, n, w));
	else if (n->handles_failure)
	{
		GoyaValue  *v = goya_scope_slot(b, task, w->node);

		v->known = true;
		v->status = GOYA_RUN_FAILED;
		v->error = o->error;
		task->d_done++;
		goya_advance_resolve(b, task, w->node, false);
	}
	else
		goya_advance_fail_task(b, task, error_at(o->error, n, w));
}

/*
 * A node run has ended.  update: its row exists (it was waiting or running).  Evaluates what its end needs, so it may throw: the error
 * is the node's.
 */
void
goya_advance_finish(GoyaBatch *b, const GoyaWork *w, GoyaOutcome *o, Jsonb *input, TimestampTz started_at, bool update)
{
	const GoyaNode *n = &w->task->plan->nodes[w->node];
	GoyaRecord *r;
	Jsonb	   *stored_input = goya_scope_seal(w->task, input);
	Jsonb	   *stored_output = NULL;

	if (o->ok && n->output_check != NULL)
		goya_node_check_output(n, o->output ? o->output : goya_json_null());
	if (o->ok)
	{
		if (o->output == NULL)
			o->output = goya_json_null();
		stored_output = goya_scope_seal(w->task, o->output);
	}
	r = goya_batch_record(b, w, o->ok ? GOYA_RUN_SUCCEEDED : GOYA_RUN_FAILED);
	b->n_runs++;
	r->update = update;
	r->input = stored_input;
	r->output = stored_output;
	r->started_at = started_at;
	r->finished_at = GetCurrentTimestamp();
	if (o->ok)
	{
		finish_ok(b, w, n, r, o);
		return;
	}
	r->error = o->error;
	if (n->price_name != NULL && o->quantity != NULL)
	{
		r->priced = true;		/* it failed, and has used what it says all the same */
		r->quantity = o->quantity;
		r->estimated = o->estimated;
	}
	if (!retry_node(b, w, o, r))
		finish_failed(b, w, n, o);
}

/* ----- maps ----- */

/*
 * Items of a map have ended: hand out more, or end the map.  next: items handed out, as counted in the row, after this step.
 */
void
goya_advance_map_progress(GoyaBatch *b, GoyaTask *task, int node, int total, int next, int done, int failed, int step, Jsonb *error)
{
	const GoyaNode *n = &task->plan->nodes[node];
	bool		too_many = n->error_budget >= 0 && failed > n->error_budget;

	if (!too_many && done + failed < total)
	{
		for (int i = Min(total, next - step); i < Min(total, next); i++)
			push_run(b, task, n->body, i);
		return;
	}
	{
		GoyaWork	w = {.task = task,.node = node,.item = 0,.attempt = 1};
		GoyaOutcome o = {.ok = !too_many,.retry_after_ms = -1};
		GoyaStoreScope scope;
		Datum		args[2];

		task->d_waiting--;
		args[0] = UUIDPGetDatum(&task->id);
		args[1] = Int32GetDatum(node);
		goya_store_enter(&scope);
		goya_store_run(GOYA_STMT_DELETE_MAP, args, NULL);	/* items still running find it gone, and are not counted */
		goya_store_leave(&scope);
		if (goya_batch_blame_end(b, &w, &o))
			;					/* it cannot be written as it is: that is its error */
		else if (too_many)
		{
			o.error_class = GOYA_ERR_DEPENDENCY;
			o.error = goya_error_make("P0001", o.error_class, psprintf("%d of %d items failed", failed, total), goya_json_get_text(error, "message"),
									  "Raise error_budget, or mend what the items report.");
		}
		else
		{
			args[0] = UUIDPGetDatum(&task->id);
			args[1] = PointerGetDatum(cstring_to_text(task->plan->nodes[n->body].key));
			goya_store_enter(&scope);
			goya_store_run(GOYA_STMT_MAP_OUTPUT, args, NULL);
			o.output = goya_result_jsonb(0, 1, b->cxt);
			goya_store_leave(&scope);
		}
		goya_advance_finish(b, &w, &o, NULL, 0, true);
	}
}

/* ----- compensation ----- */

/*
 * Undo the newest succeeded node that has a compensation and was not undone yet, or end the task as failed.  The batch's own records
 * are not written yet when this is called from the end of a compensation: flush.c calls it again, after writing (task->end).
 */
void
goya_advance_compensate(GoyaBatch *b, GoyaTask *task)
{
	task->end = GOYA_END_FAILING;
	task->touched = true;
}
