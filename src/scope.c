/*-------------------------------------------------------------------------
 * scope.c
 *		Values for templates and expressions: where "input", "nodes.probe.output", "item" … come from while a batch runs.
 *
 * What a node reads is known from its plan, so it is loaded set-based before the node runs: for all claimed work at once, for inline
 * successors only what is not in memory already.
 *
 * Values that were read may be sealed (value.c), and are opened when they are first asked for: an error then is that of the node that
 * asks.  What a batch makes itself is clear in memory, and sealed for its row before that is written: then too an error is the node's.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/json.h"

#include "batch.h"
#include "json_util.h"
#include "value.h"

/* What is known of a node of the task; its slot is made when first asked for. */
GoyaValue *
goya_scope_slot(GoyaBatch *b, GoyaTask *task, int node)
{
	if (task->values == NULL)
		task->values = MemoryContextAllocZero(b->cxt, sizeof(GoyaValue) * task->plan->n_nodes);
	return &task->values[node];
}

static const Oid value_columns[] = {UUIDOID, TEXTOID};

static void
want_value(GoyaBatch *b, GoyaRows *rows, GoyaTask *task, int node)
{
	GoyaValue  *v = goya_scope_slot(b, task, node);

	/* What has not ended is asked for again: it may end elsewhere while this batch runs. */
	if (v->known)
		return;
	v->status = GOYA_RUN_PENDING;
	goya_rows_add(rows);
	goya_rows_uuid(rows, 0, &task->id);
	goya_rows_text(rows, 1, task->plan->nodes[node].key);
}

static void
want_refs(GoyaBatch *b, GoyaRows *rows, GoyaTask *task, const GoyaRefs *refs)
{
	ListCell   *lc;

	foreach(lc, refs->nodes)
		want_value(b, rows, task, lfirst_int(lc));
	if (refs->all_nodes)
		for (int i = 0; i < task->plan->n_listed; i++)
			want_value(b, rows, task, i);
}

static GoyaRunStatus
parse_status(const char *name)
{
	for (int i = 0; i <= GOYA_RUN_COMPENSATED; i++)
		if (strcmp(name, goya_run_status_name(i)) == 0)
			return i;
	return GOYA_RUN_PENDING;
}

static void
fetch_values(GoyaBatch *b, GoyaRows *rows)
{
	GoyaStoreScope scope;

	if (rows->n == 0)
		return;
	goya_store_enter(&scope);
	goya_rows_run(GOYA_STMT_LOAD_VALUES, rows);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		pg_uuid_t	id = goya_result_uuid(i, 1);
		GoyaTask   *task = goya_batch_task(b, &id);
		int			node = goya_plan_node_index(task->plan, goya_result_text(i, 2, b->cxt));
		GoyaValue  *v;

		if (node < 0)
			continue;
		v = goya_scope_slot(b, task, node);
		v->status = parse_status(goya_result_text(i, 3, b->cxt));
		v->output = goya_result_jsonb(i, 4, b->cxt);
		v->stored = v->output != NULL;
		v->error = goya_result_jsonb(i, 5, b->cxt);
		/* A failure may be that of an attempt that is not the last one. */
		v->known = v->status != GOYA_RUN_FAILED;
	}
	goya_store_leave(&scope);
}

static void
load_contexts(GoyaBatch *b)
{
	GoyaRows   *rows = goya_rows_create(1, value_columns);
	GoyaStoreScope scope;

	for (int i = 0; i < b->n_tasks; i++)
	{
		GoyaTask   *t = b->task_list[i];

		if (t->plan != NULL && t->plan->has_context && t->context == NULL)
		{
			goya_rows_add(rows);
			goya_rows_uuid(rows, 0, &t->id);
		}
	}
	if (rows->n == 0)
		return;
	goya_store_enter(&scope);
	goya_rows_run(GOYA_STMT_LOAD_CONTEXTS, rows);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		pg_uuid_t	id = goya_result_uuid(i, 1);

		goya_batch_task(b, &id)->context = goya_result_jsonb(i, 2, b->cxt);
	}
	goya_store_leave(&scope);
}

void
goya_scope_preload(GoyaBatch *b)
{
	GoyaRows   *rows = goya_rows_create(2, value_columns);

	for (int i = 0; i < b->n_claims; i++)
	{
		GoyaWork   *w = &b->claimed[i];

		if (w->node >= 0 && w->task->plan != NULL && w->task->runnable)
			want_refs(b, rows, w->task, &w->task->plan->nodes[w->node].refs);
	}
	fetch_values(b, rows);
	load_contexts(b);
}

void
goya_scope_load(GoyaBatch *b, GoyaTask *task, const GoyaRefs *refs)
{
	GoyaRows   *rows;

	if (refs->nodes != NIL || refs->all_nodes)
	{
		rows = goya_rows_create(2, value_columns);
		want_refs(b, rows, task, refs);
		fetch_values(b, rows);
	}
	if (task->plan->has_context && task->context == NULL && (refs->roots & (GOYA_ROOT_BIT(GOYA_ROOT_VARS) | GOYA_ROOT_BIT(GOYA_ROOT_SHARED))))
		load_contexts(b);
}

/* The array a map goes over: written as the map's own input when it started. */
static Jsonb *
map_items(GoyaBatch *b, GoyaTask *task, int map)
{
	GoyaValue  *v = goya_scope_slot(b, task, map);
	GoyaStoreScope scope;
	MemoryContext old;
	Datum		args[2];
	Jsonb	   *input = NULL;

	if (v->items != NULL)
		return v->items;
	args[0] = UUIDPGetDatum(&task->id);
	args[1] = CStringGetTextDatum(task->plan->nodes[map].key);
	goya_store_enter(&scope);
	goya_store_run(GOYA_STMT_LOAD_ITEMS, args, NULL);
	if (SPI_processed > 0)
		input = goya_result_jsonb(0, 1, b->cxt);
	goya_store_leave(&scope);
	old = MemoryContextSwitchTo(b->cxt);
	v->items = goya_json_get(goya_value_open(&task->tenant, input), "items");
	MemoryContextSwitchTo(old);
	return v->items;
}

static Jsonb *
asset_value(GoyaBatch *b, GoyaTask *task)
{
	GoyaStoreScope scope;
	Datum		args[2];

	if (!task->has_asset || task->asset_json != NULL)
		return task->asset_json;
	args[0] = UUIDPGetDatum(&task->asset);
	args[1] = UUIDPGetDatum(&task->tenant);
	goya_store_enter(&scope);
	goya_store_run(GOYA_STMT_LOAD_ASSET, args, NULL);
	if (SPI_processed > 0)
		task->asset_json = goya_result_jsonb(0, 1, b->cxt);
	goya_store_leave(&scope);
	return task->asset_json;
}

static Jsonb *
task_value(GoyaBatch *b, GoyaTask *task)
{
	MemoryContext old;
	GoyaJsonObject o;

	if (task->task_json != NULL)
		return task->task_json;
	old = MemoryContextSwitchTo(b->cxt);
	goya_json_object_start(&o);
	goya_json_add_text(&o, "id", goya_uuid_text(&task->id));
	goya_json_add_text(&o, "workflow_id", goya_uuid_text(&task->workflow));
	goya_json_add_int(&o, "revision", task->revision);
	goya_json_add_text(&o, "trace_id", task->trace_id);
	goya_json_add_text(&o, "run_as", task->run_as);
	goya_json_add_text(&o, "created_by", task->created_by);
	if (task->has_asset)
		goya_json_add_text(&o, "asset_id", goya_uuid_text(&task->asset));
	goya_json_add_int(&o, "priority", task->priority);
	goya_json_add_int(&o, "depth", task->depth);
	goya_json_add_text(&o, "created_at", JsonEncodeDateTime(NULL, TimestampTzGetDatum(task->created_at), TIMESTAMPTZOID, NULL));
	task->task_json = goya_json_object_finish(&o);
	MemoryContextSwitchTo(old);
	return task->task_json;
}

static GoyaValue *
known_value(GoyaBatch *b, GoyaTask *task, int node)
{
	GoyaValue  *v = goya_scope_slot(b, task, node);

	if (!v->known)
	{
		GoyaRefs	one = {0};

		one.nodes = list_make1_int(node);
		goya_scope_load(b, task, &one);
	}
	return v;
}

/* A value that may still be as it was read.  In the batch's context, so that it is opened once. */
static Jsonb *
open_once(GoyaBatch *b, const GoyaTask *task, Jsonb **value, bool *stored)
{
	if (*stored)
	{
		MemoryContext old = MemoryContextSwitchTo(b->cxt);

		*value = goya_value_open(&task->tenant, *value);
		*stored = false;
		MemoryContextSwitchTo(old);
	}
	return *value;
}

/* What a finished node left. */
Jsonb *
goya_scope_output(GoyaBatch *b, const GoyaTask *task, GoyaValue *v)
{
	return open_once(b, task, &v->output, &v->stored);
}

static Jsonb *
task_input(GoyaBatch *b, GoyaTask *task)
{
	return open_once(b, task, &task->input, &task->input_stored);
}

/*
 * What cannot be sealed is not written.  The error is no 55000 here, which would be one to be tried again: what the node did was done.
 */
static Jsonb *
seal_or_fail(const GoyaTask *task, Jsonb *value)
{
	MemoryContext cxt = CurrentMemoryContext;
	Jsonb	   *volatile sealed = NULL;

	PG_TRY();
	{
		sealed = goya_value_seal(&task->tenant, value);
	}
	PG_CATCH();
	{
		ErrorData  *e;

		MemoryContextSwitchTo(cxt);
		e = CopyErrorData();
		if (e->sqlerrcode != ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
			PG_RE_THROW();
		FlushErrorState();
		e->sqlerrcode = ERRCODE_CONFIGURATION_LIMIT_EXCEEDED;
		ReThrowError(e);
	}
	PG_END_TRY();
	return sealed;
}

Jsonb *
goya_scope_seal(const GoyaTask *task, Jsonb *value)
{
	return task->seals && value != NULL ? seal_or_fail(task, value) : value;
}

/* The same of a text, for a column of type text. */
const char *
goya_scope_seal_text(const GoyaTask *task, const char *text)
{
	return task->seals && text != NULL ? goya_json_to_cstring(seal_or_fail(task, goya_json_from_text(text))) : text;
}

static Jsonb *
node_value(GoyaBatch *b, GoyaTask *task, int node)
{
	GoyaValue  *v = known_value(b, task, node);
	GoyaJsonObject o;

	if (v->status == GOYA_RUN_PENDING)
		return NULL;
	goya_json_object_start(&o);
	goya_json_add(&o, "output", goya_scope_output(b, task, v));
	goya_json_add(&o, "error", v->error);
	goya_json_add_text(&o, "status", goya_run_status_name(v->status));
	return goya_json_object_finish(&o);
}

static Jsonb *
item_value(GoyaNodeScope *s)
{
	if (s->item_value == NULL && s->agent_node >= 0)
		s->item_value = goya_agent_item(s->batch, s->task, s->agent_node, s->item);
	return s->item_value;
}

static Jsonb *
scope_value(GoyaScope *scope, GoyaRoot root, int node)
{
	GoyaNodeScope *s = (GoyaNodeScope *) scope;
	GoyaTask   *t = s->task;

	switch (root)
	{
		case GOYA_ROOT_INPUT:
			return task_input(s->batch, t);
		case GOYA_ROOT_ASSET:
			return asset_value(s->batch, t);
		case GOYA_ROOT_NODES:
			return node_value(s->batch, t, node);
		case GOYA_ROOT_VARS:
			return goya_json_get(t->context, "vars");
		case GOYA_ROOT_SHARED:
			return goya_json_get(t->context, "shared");
		case GOYA_ROOT_ITEM:
			return item_value(s);
		case GOYA_ROOT_INDEX:
			return s->has_item ? goya_json_from_int(s->item) : NULL;
		case GOYA_ROOT_TASK:
			return task_value(s->batch, t);
		case GOYA_ROOT_TRIGGER:
			return t->trigger;
		case GOYA_ROOT_PARAMS:
			return s->params;
		case GOYA_ROOT_OUTPUT:
			return s->output;
		default:
			return NULL;
	}
}

static const char *
scope_node_key(GoyaScope *scope, int node)
{
	return ((GoyaNodeScope *) scope)->task->plan->nodes[node].key;
}

/*
 * A scope for one node (and item).  For the body of a map it knows the element; for a compensation, output is that of the undone node.
 */
void
goya_scope_init(GoyaNodeScope *s, GoyaBatch *b, GoyaTask *task, int node, int item)
{
	memset(s, 0, sizeof(*s));
	s->scope.value = scope_value;
	s->scope.node_key = scope_node_key;
	s->batch = b;
	s->task = task;
	s->item = item;
	s->agent_node = -1;
	if (node >= 0 && task->plan->nodes[node].owner >= 0)
	{
		const GoyaNode *n = &task->plan->nodes[node];

		if (n->is_compensation)
		{
			s->output = goya_scope_output(b, task, known_value(b, task, n->owner));
		}
		else if (task->plan->nodes[n->owner].kind == GOYA_NODE_AGENT)
		{
			s->has_item = true;
			s->agent_node = node;
		}
		else
		{
			s->has_item = true;
			s->item_value = goya_json_array_get(map_items(b, task, n->owner), item);
		}
	}
}

/* The output that the edge's source left. */
static Jsonb *
upstream_output(GoyaNodeScope *s, const GoyaNode *n, int i)
{
	GoyaValue  *v = known_value(s->batch, s->task, s->task->plan->edges[n->in_edges[i]].from);

	return v->status == GOYA_RUN_FAILED ? v->error : goya_scope_output(s->batch, s->task, v);
}

static Jsonb *
plain_input(GoyaNodeScope *s, int node)
{
	const GoyaNode *n = &s->task->plan->nodes[node];
	GoyaJsonObject o;

	if (n->input != NULL)
		return goya_template_eval(n->input, &s->scope);
	if (n->is_compensation)
		return s->output ? s->output : goya_json_null();
	if (s->has_item)
		return item_value(s) ? s->item_value : goya_json_null();
	if (n->n_in == 0)
		return task_input(s->batch, s->task);
	if (n->n_in == 1)
	{
		Jsonb	   *output = upstream_output(s, n, 0);

		return output ? output : goya_json_null();
	}
	goya_json_object_start(&o);
	for (int i = 0; i < n->n_in; i++)
		goya_json_add(&o, s->task->plan->nodes[s->task->plan->edges[n->in_edges[i]].from].key, upstream_output(s, n, i));
	return goya_json_object_finish(&o);
}

Jsonb *
goya_scope_input(GoyaNodeScope *s, int node)
{
	const GoyaNode *n = &s->task->plan->nodes[node];
	Jsonb	   *input = plain_input(s, node);

	if (n->wrap != NULL)
	{
		s->params = input;
		input = goya_node_wrap_input(n, &s->scope, input);
	}
	if (n->input_check != NULL)
		goya_node_check_input(n, input);
	return input;
}
