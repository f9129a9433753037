/*-------------------------------------------------------------------------
 * node_control.c
 *		Nodes that need no process of their own: noop, transform, condition, map.  They run inline, wherever their task is advanced.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "batch.h"
#include "json_util.h"

static Jsonb *
choose_case(const GoyaNode *n, GoyaNodeScope *scope)
{
	GoyaJsonObject o;
	const char *chosen = n->default_case;

	goya_json_object_start(&o);
	if (n->when != NULL)
	{
		bool		result = goya_expr_test(n->when, &scope->scope);

		goya_json_add_bool(&o, "result", result);
		chosen = result ? "true" : "false";
	}
	else
	{
		for (int i = 0; i < n->n_cases; i++)
			if (n->cases[i].when == NULL || goya_expr_test(n->cases[i].when, &scope->scope))
			{
				chosen = n->cases[i].name;
				break;
			}
	}
	goya_json_add(&o, "case", chosen ? goya_json_from_text(chosen) : goya_json_null());
	return goya_json_object_finish(&o);
}

void
goya_node_run_control(GoyaBatch *b, const GoyaWork *w)
{
	const GoyaNode *n = &w->task->plan->nodes[w->node];
	TimestampTz started = GetCurrentTimestamp();
	GoyaNodeScope scope;
	GoyaOutcome o = {.ok = true,.retry_after_ms = -1};
	Jsonb	   *input;

	goya_scope_init(&scope, b, w->task, w->node, w->item);
	input = goya_scope_input(&scope, w->node);
	scope.params = input;
	if (n->kind == GOYA_NODE_CONDITION)
		o.output = choose_case(n, &scope);
	else if (n->kind == GOYA_NODE_TRANSFORM && n->output != NULL)
		o.output = goya_template_eval(n->output, &scope.scope);
	else
		o.output = input;
	goya_advance_finish(b, w, &o, input, started, false);
}

/*
 * A map starts: its row waits, with the array as its input, while its items run.
 */
void
goya_node_run_map(GoyaBatch *b, const GoyaWork *w)
{
	GoyaTask   *task = w->task;
	const GoyaNode *n = &task->plan->nodes[w->node];
	GoyaNodeScope scope;
	Jsonb	   *items;
	Jsonb	   *input;
	const char *keys[1] = {"items"};
	int			total;
	int			first;
	GoyaAction *a;
	GoyaRecord *r;

	goya_scope_init(&scope, b, task, w->node, w->item);
	items = goya_template_eval(n->over, &scope.scope);
	if (!goya_json_is_array(items))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("map \"%s\" needs an array, got %s", n->key, goya_json_type_name(items)),
				 errhint("Look at the path in \"over\".")));
	input = goya_json_object(1, keys, &items);
	total = goya_json_array_length(items);
	if (total == 0)
	{
		GoyaOutcome o = {.ok = true,.retry_after_ms = -1,.output = items};

		goya_advance_finish(b, w, &o, input, GetCurrentTimestamp(), false);
		return;
	}
	first = n->max_parallel > 0 ? Min(n->max_parallel, total) : total;
	r = goya_batch_record(b, w, GOYA_RUN_WAITING);
	r->input = goya_scope_seal(task, input);
	r->started_at = GetCurrentTimestamp();
	goya_scope_slot(b, task, w->node)->items = items;
	task->d_waiting++;
	a = goya_batch_act(b, GOYA_ACT_START_MAP, task, w->node, 0, w->attempt);
	a->number = total;
	a->number2 = first;
	for (int i = 0; i < first; i++)
	{
		task->d_active++;
		goya_batch_push(b, task, GOYA_WORK_RUN, n->body, i, 1);
	}
}
