/*-------------------------------------------------------------------------
 * node_agent.c
 *		An agent: a model that is called, calls tools, is told what they said, and so on until it answers or its budget is used up.
 *
 * What is said and decided in a session (messages, policies, budgets, digests) is SQL, in sql/58_agents.sql: a step of a session comes with
 * a model's call, which takes a thousand times as long.  Here is what has to do with the task: the agent's node run waits while runs of its
 * hidden nodes (plan_agent.c) are made one after the other; when one ends, the session says, in the same transaction and under the task's
 * lock, what comes next.
 *
 * What it says is a row per deed:
 *
 *		run		a hidden node (and item) begins
 *		expire	one that waits or runs ends as failed; a late result finds its row closed, and changes nothing
 *		drop	one that was to be tried again is not
 *		timer	look at the session again then
 *		end		the agent's node run ends, with this outcome
 *
 * What must hold.  A session ends only when nothing of it is left running, so that every run counted in tasks.active is uncounted once.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "batch.h"
#include "json_util.h"

/* The agent begins: its row waits while the session goes on. */
void
goya_node_run_agent(GoyaBatch *b, const GoyaWork *w)
{
	GoyaTask   *task = w->task;
	const GoyaNode *n = &task->plan->nodes[w->node];
	GoyaNodeScope scope;
	GoyaRecord *r;
	Jsonb	   *opening;

	goya_scope_init(&scope, b, task, w->node, w->item);
	scope.params = goya_scope_input(&scope, w->node);
	opening = goya_template_eval(n->config, &scope.scope);
	r = goya_batch_record(b, w, GOYA_RUN_WAITING);
	r->input = goya_scope_seal(task, scope.params);
	r->started_at = GetCurrentTimestamp();
	b->n_runs++;
	task->d_waiting++;
	goya_batch_act(b, GOYA_ACT_AGENT_BEGIN, task, w->node, w->item, w->attempt)->json = opening;
}

/* A run of one of its hidden nodes has ended for good.  Not told to the session yet: its row must be written first. */
void
goya_agent_run_ended(GoyaBatch *b, const GoyaWork *w, bool ok, Jsonb *result)
{
	GoyaAction *a = goya_batch_act(b, GOYA_ACT_AGENT_STEP, w->task, w->node, w->item, w->attempt);

	a->json = result;
	a->number = ok;
}

/* Its time is over, or somebody wants it to stop. */
void
goya_agent_wake(GoyaBatch *b, const GoyaWork *w)
{
	goya_batch_act(b, GOYA_ACT_AGENT_WAKE, w->task, w->node, w->item, w->attempt);
}

/* ----- deeds ----- */

typedef struct Deed
{
	char	   *deed;
	int			node;			/* in the plan */
	int			item;
	int			attempt;
	char	   *status;			/* expire: what it was */
	TimestampTz at;				/* timer: when; expire: its start */
	Jsonb	   *outcome;		/* end, expire: {"output"} or {"error"} */
} Deed;

static Deed *
read_deeds(GoyaBatch *b, GoyaTask *task, int *n)
{
	Deed	   *deeds = palloc0(sizeof(Deed) * Max(SPI_processed, 1));

	*n = SPI_processed;
	for (int i = 0; i < *n; i++)
	{
		Deed	   *d = &deeds[i];

		d->deed = goya_result_text(i, 1, b->cxt);
		d->node = goya_plan_node_index(task->plan, goya_result_text(i, 2, b->cxt));
		d->item = goya_result_int4(i, 3);
		d->attempt = goya_result_int4(i, 4);
		d->status = goya_result_text(i, 5, b->cxt);
		d->at = goya_result_isnull(i, 6) ? 0 : DatumGetTimestampTz(goya_result_datum(i, 6));
		d->outcome = goya_result_jsonb(i, 7, b->cxt);
		if (d->node < 0)
			elog(ERROR, "a session speaks of a node that is not there");
	}
	return deeds;
}

/* Not to be tried again, whatever its class: the session has had enough of it. */
static GoyaOutcome
outcome_of(const Deed *d)
{
	GoyaOutcome o = {.retry_after_ms = -1};

	o.output = goya_json_get(d->outcome, "output");
	o.error = goya_json_get(d->outcome, "error");
	o.ok = o.error == NULL;
	return o;
}

/* The session has ended well, but the agent's own end cannot be written: an artifact, say. */
static void
correct_session(GoyaTask *task, int node, Jsonb *error)
{
	Datum		args[6];

	args[0] = UUIDPGetDatum(&task->id);
	args[1] = CStringGetTextDatum(task->plan->nodes[node].key);
	args[2] = CStringGetTextDatum("");
	args[3] = Int32GetDatum(0);
	args[4] = BoolGetDatum(false);
	args[5] = JsonbPGetDatum(error);
	goya_store_run(GOYA_STMT_AGENT_STEP, args, NULL);
}

static void
end_agent(GoyaBatch *b, GoyaTask *task, const Deed *d, TimestampTz started_at)
{
	GoyaWork	w = {.task = task,.node = d->node,.item = 0,.attempt = 1};
	GoyaOutcome o = outcome_of(d);

	task->d_waiting--;
	if (goya_batch_blame_end(b, &w, &o))
		correct_session(task, d->node, o.error);
	goya_advance_finish(b, &w, &o, NULL, started_at, true);
}

static void
expire_run(GoyaBatch *b, GoyaTask *task, const Deed *d)
{
	GoyaWork	w = {.task = task,.node = d->node,.item = d->item,.attempt = d->attempt};
	GoyaOutcome o = outcome_of(d);

	if (strcmp(d->status, "waiting") == 0)
		task->d_waiting--;
	goya_advance_finish(b, &w, &o, NULL, d->at, true);
}

static void
do_deed(GoyaBatch *b, GoyaTask *task, const Deed *d, TimestampTz started_at)
{
	if (strcmp(d->deed, "run") == 0)
	{
		task->d_active++;
		goya_batch_push(b, task, GOYA_WORK_RUN, d->node, d->item, 1);
	}
	else if (strcmp(d->deed, "expire") == 0)
		expire_run(b, task, d);
	else if (strcmp(d->deed, "drop") == 0)
		task->d_active--;
	else if (strcmp(d->deed, "timer") == 0)
		goya_batch_queue(b, task, GOYA_LANE_WAKE, GOYA_VERB_TIMER, d->node, 0, 1, d->at);
	else if (strcmp(d->deed, "end") == 0)
		end_agent(b, task, d, started_at);
	else
		elog(ERROR, "a session asks for \"%s\"", d->deed);
}

static void
run_deeds(GoyaBatch *b, GoyaAction *a)
{
	int			n;
	Deed	   *deeds = read_deeds(b, a->task, &n);

	for (int i = 0; i < n; i++)
		do_deed(b, a->task, &deeds[i], a->started_at);
}

static void
begin_session(GoyaBatch *b, GoyaAction *a)
{
	const GoyaNode *n = &a->task->plan->nodes[a->node];
	Datum		args[7];

	args[0] = UUIDPGetDatum(&a->task->id);
	args[1] = CStringGetTextDatum(n->key);
	args[2] = UUIDPGetDatum(&a->task->tenant);
	args[3] = UUIDPGetDatum(&a->task->workflow);
	args[4] = CStringGetTextDatum(a->task->run_as);
	args[5] = JsonbPGetDatum(a->json);
	args[6] = JsonbPGetDatum(n->session);
	goya_store_run(GOYA_STMT_AGENT_BEGIN, args, NULL);
}

static void
tell_session(GoyaBatch *b, GoyaAction *a)
{
	const GoyaNode *n = &a->task->plan->nodes[a->node];
	Datum		args[6];
	char		nulls[6] = {' ', ' ', ' ', ' ', ' ', a->json ? ' ' : 'n'};

	args[0] = UUIDPGetDatum(&a->task->id);
	args[1] = CStringGetTextDatum(a->task->plan->nodes[n->owner].key);
	args[2] = CStringGetTextDatum(n->key + strlen(a->task->plan->nodes[n->owner].key) + 1);
	args[3] = Int32GetDatum(a->item);
	args[4] = BoolGetDatum(a->number != 0);
	args[5] = a->json ? JsonbPGetDatum(a->json) : (Datum) 0;
	goya_store_run(GOYA_STMT_AGENT_STEP, args, nulls);
}

static void
wake_session(GoyaAction *a)
{
	Datum		args[2];

	args[0] = UUIDPGetDatum(&a->task->id);
	args[1] = CStringGetTextDatum(a->task->plan->nodes[a->node].key);
	goya_store_run(GOYA_STMT_AGENT_WAKE, args, NULL);
}

/* Between goya_store_enter and leave, with the task locked and what ran before written. */
void
goya_agent_act(GoyaBatch *b, GoyaAction *a)
{
	if (a->kind == GOYA_ACT_AGENT_BEGIN)
		begin_session(b, a);
	else if (a->kind == GOYA_ACT_AGENT_STEP)
		tell_session(b, a);
	else
		wake_session(a);
	run_deeds(b, a);
}

/* What a run of a hidden node is given. */
Jsonb *
goya_agent_item(GoyaBatch *b, GoyaTask *task, int node, int item)
{
	const GoyaNode *n = &task->plan->nodes[node];
	const char *agent = task->plan->nodes[n->owner].key;
	GoyaStoreScope scope;
	Datum		args[4];
	Jsonb	   *result;

	args[0] = UUIDPGetDatum(&task->id);
	args[1] = CStringGetTextDatum(agent);
	args[2] = CStringGetTextDatum(n->key + strlen(agent) + 1);
	args[3] = Int32GetDatum(item);
	goya_store_enter(&scope);
	goya_store_run(GOYA_STMT_AGENT_ITEM, args, NULL);
	result = SPI_processed > 0 ? goya_result_jsonb(0, 1, b->cxt) : NULL;
	goya_store_leave(&scope);
	return result;
}
