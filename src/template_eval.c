/*-------------------------------------------------------------------------
 * template_eval.c
 *		Evaluates templates and expressions.  The hot path of every node run.
 *
 * Decided.  A dotted path walks the jsonb in place; only its result is copied.  A constant, and a path that is a whole root, are given
 * back as they are.  Objects and arrays are built from views of their parts.  A jsonpath runs over a document of just the roots and
 * nodes it reads; one that is only keys ($.output.body) is walked in place, as long as it meets no array, which lax mode would unwrap.
 *
 * Must hold.  Works without SPI, a snapshot or a transaction: jsonpath's functions are called directly and are pure, save for the
 * session's time zone, for .datetime().  Garbage stays in the current context; callers reset it per node run.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "json_util.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "template_internal.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/timeout.h"

/* ---- dotted paths ---- */

typedef enum WalkResult
{
	WALK_FOUND, WALK_ABSENT, WALK_ARRAY /* a key met an array */
} WalkResult;

static bool
step_into_array(const GoyaStep *step, const JsonbValue *array, JsonbValue *result)
{
	int64		n = goya_json_view_length(array);
	int64		i = step->index;

	if (!step->has_index)
		return false;
	if (i < 0)
		i += n;
	if (i < 0 || i >= n)
		return false;
	goya_json_view_elem(array, (int) i, result);
	return true;
}

static WalkResult
walk_steps(const GoyaDotted *d, JsonbValue *v)
{
	for (int i = 0; i < d->n_steps; i++)
	{
		const GoyaStep *step = &d->steps[i];
		JsonbValue	inner;

		if (v->type != jbvBinary)
			return WALK_ABSENT;
		if (JsonContainerIsArray(v->val.binary.data))
		{
			if (!step_into_array(step, v, &inner))
				return WALK_ARRAY;
		}
		else if (step->key == NULL || getKeyJsonValueFromContainer(v->val.binary.data, step->key, step->len, &inner) == NULL)
			return WALK_ABSENT;
		*v = inner;
	}
	return WALK_FOUND;
}

/* ---- documents for jsonpath ---- */

typedef struct Members
{
	JsonbValue *keys;
	JsonbValue *values;
	int			n;
	int			max;
} Members;

static void
start_members(Members *m, int max)
{
	m->n = 0;
	m->max = Max(max, 1);
	m->keys = palloc(sizeof(JsonbValue) * m->max);
	m->values = palloc(sizeof(JsonbValue) * m->max);
}

static void
add_member(Members *m, const char *key, const Jsonb *value)
{
	if (value == NULL)
		return;
	if (m->n == m->max)
	{
		m->max *= 2;
		m->keys = repalloc(m->keys, sizeof(JsonbValue) * m->max);
		m->values = repalloc(m->values, sizeof(JsonbValue) * m->max);
	}
	m->keys[m->n].type = jbvString;
	m->keys[m->n].val.string.val = unconstify(char *, key);
	m->keys[m->n].val.string.len = strlen(key);
	goya_json_view(value, &m->values[m->n]);
	m->n++;
}

/* {"<key>": {"output", "status", "error"}, …} of the nodes that the scope has among 0 .. n - 1. */
static Jsonb *
all_nodes(GoyaScope *scope, int n)
{
	Members		m;

	start_members(&m, 16);
	for (int i = 0; i < n; i++)
		add_member(&m, scope->node_key(scope, i), scope->value(scope, GOYA_ROOT_NODES, i));
	return goya_json_build_object(m.n, m.keys, m.values, false);
}

static Jsonb *
named_nodes(const GoyaExpr *e, GoyaScope *scope)
{
	Members		m;

	start_members(&m, e->n_nodes);
	for (int i = 0; i < e->n_nodes; i++)
		add_member(&m, scope->node_key(scope, e->nodes[i]), scope->value(scope, GOYA_ROOT_NODES, e->nodes[i]));
	return goya_json_build_object(m.n, m.keys, m.values, false);
}

static Jsonb *
build_document(const GoyaExpr *e, GoyaScope *scope)
{
	Members		m;

	start_members(&m, GOYA_N_ROOTS);
	for (int root = 0; root < GOYA_N_ROOTS; root++)
	{
		if (root != GOYA_ROOT_NODES && (e->roots & GOYA_ROOT_BIT(root)))
			add_member(&m, goya_root_name((GoyaRoot) root), scope->value(scope, (GoyaRoot) root, -1));
	}
	if (e->all_nodes)
		add_member(&m, "nodes", all_nodes(scope, e->n_all));
	else if (e->n_nodes > 0)
		add_member(&m, "nodes", named_nodes(e, scope));
	return goya_json_build_object(m.n, m.keys, m.values, false);
}

/* ---- expressions ---- */

static Jsonb *
root_value(const GoyaDotted *d, GoyaScope *scope)
{
	if (d->root == GOYA_ROOT_NODES && d->node < 0)
		return all_nodes(scope, d->n_all);
	return scope->value(scope, d->root, d->node);
}

/* A view of what the path finds; null when there is nothing. */
static void
eval_dotted(const GoyaDotted *d, GoyaScope *scope, JsonbValue *result)
{
	Jsonb	   *root = root_value(d, scope);

	if (root != NULL)
	{
		goya_json_view(root, result);
		if (walk_steps(d, result) == WALK_FOUND)
			return;
	}
	result->type = jbvNull;
}

/*
 * A short jsonpath can run for years and take all memory ($.**.**.**.**), and goya's workers work for everybody: there its time is limited,
 * and what it took meanwhile is given back at once, not when the batch of which it is one node of many is over.
 * A session has its own settings.  The function gives a jsonb.  The error is not the one of a cancelled query, which would be tried again.
 */
Datum
goya_jsonpath_call(PGFunction function, FunctionCallInfo fcinfo, int limit_ms)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext scratch;
	Datum		result;

	if (MyBackendType != B_BG_WORKER || get_timeout_active(STATEMENT_TIMEOUT))
		return function(fcinfo);
	scratch = AllocSetContextCreate(caller, "goya jsonpath", ALLOCSET_SMALL_SIZES);
	MemoryContextSwitchTo(scratch);
	enable_timeout_after(STATEMENT_TIMEOUT, limit_ms);
	PG_TRY();
	{
		result = function(fcinfo);
	}
	PG_CATCH();
	{
		bool		over = !get_timeout_active(STATEMENT_TIMEOUT) && geterrcode() == ERRCODE_QUERY_CANCELED;

		disable_timeout(STATEMENT_TIMEOUT, false);
		MemoryContextSwitchTo(caller);
		MemoryContextDelete(scratch);	/* the error is in a context of its own */
		if (!over)
			PG_RE_THROW();
		FlushErrorState();
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a jsonpath took longer than %d ms", limit_ms),
				 errhint("Several .** or nested filters multiply what they find; an SQL node may take its time.")));
	}
	PG_END_TRY();
	disable_timeout(STATEMENT_TIMEOUT, true);
	if (get_timeout_indicator(STATEMENT_TIMEOUT, true))
		QueryCancelPending = false; /* it was over in the last moment */
	MemoryContextSwitchTo(caller);
	if (!fcinfo->isnull)
		result = datumCopy(result, false, -1);
	MemoryContextDelete(scratch);
	return result;
}

static Jsonb *
call_jsonpath(PGFunction function, const GoyaExpr *e, GoyaScope *scope)
{
	LOCAL_FCINFO(fcinfo, 4);
	Datum		result;

	InitFunctionCallInfoData(*fcinfo, NULL, 4, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = JsonbPGetDatum(build_document(e, scope));
	fcinfo->args[1].value = PointerGetDatum(e->path);
	fcinfo->args[2].value = JsonbPGetDatum(goya_json_build_object(0, NULL, NULL, true));	/* variables */
	fcinfo->args[3].value = BoolGetDatum(false);	/* silent */
	for (int i = 0; i < 4; i++)
		fcinfo->args[i].isnull = false;
	result = goya_jsonpath_call(function, fcinfo, GOYA_MAX_JSONPATH_MS);
	return fcinfo->isnull ? NULL : DatumGetJsonbP(result);
}

/*
 * A path of keys only, walked in place: 1 found, 0 nothing there, -1 it has to be run as jsonpath.
 */
static int
eval_plain(const GoyaExpr *e, GoyaScope *scope, JsonbValue *result)
{
	Jsonb	   *root;

	if (e->plain == NULL)
		return -1;
	root = root_value(e->plain, scope);
	if (root == NULL)
		return 0;
	goya_json_view(root, result);
	switch (walk_steps(e->plain, result))
	{
		case WALK_FOUND:
			return 1;
		case WALK_ABSENT:
			return 0;
		default:
			return -1;
	}
}

/* All results of an expression that can give many, the first of any other; NULL: it finds nothing. */
Jsonb *
goya_expr_eval(const GoyaExpr *e, GoyaScope *scope)
{
	JsonbValue	v;

	switch (eval_plain(e, scope, &v))
	{
		case 1:
			return goya_json_from_view(&v);
		case 0:
			return NULL;
		default:
			return call_jsonpath(e->many ? jsonb_path_query_array_tz : jsonb_path_query_first_tz, e, scope);
	}
}

/* True when some result is true, or, behind a filter, when there is any. */
bool
goya_expr_test(const GoyaExpr *e, GoyaScope *scope)
{
	JsonbValue	v;
	Jsonb	   *found;
	int			n;
	int			plain = eval_plain(e, scope, &v);

	if (plain >= 0)
		return plain == 1 && v.type == jbvBool && v.val.boolean;
	if (!e->many)
		return goya_json_is_true(call_jsonpath(jsonb_path_query_first_tz, e, scope));

	found = call_jsonpath(jsonb_path_query_array_tz, e, scope);
	n = goya_json_array_length(found);
	if (e->is_filter)
		return n > 0;
	goya_json_view(found, &v);
	for (int i = 0; i < n; i++)
	{
		JsonbValue	elem;

		goya_json_view_elem(&v, i, &elem);
		if (elem.type == jbvBool && elem.val.boolean)
			return true;
	}
	return false;
}

/* ---- templates ---- */

static void eval_view(const GoyaTemplate *t, GoyaScope *scope, JsonbValue *result);

/* The same as a value of a template: nothing is null. */
static Jsonb *
eval_expr_value(const GoyaExpr *e, GoyaScope *scope)
{
	Jsonb	   *result = goya_expr_eval(e, scope);

	return result ? result : goya_json_null();
}

static void
append_view(StringInfo out, const JsonbValue *v)
{
	switch (v->type)
	{
		case jbvNull:
			break;
		case jbvString:
			appendBinaryStringInfo(out, v->val.string.val, v->val.string.len);
			break;
		case jbvBool:
			appendStringInfoString(out, v->val.boolean ? "true" : "false");
			break;
		case jbvNumeric:
			appendStringInfoString(out, DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(v->val.numeric))));
			break;
		default:
			{
				/* JsonbToCString sizes its buffer anew: it cannot append to ours */
				char	   *text = JsonbToCString(NULL, v->val.binary.data, v->val.binary.len);

				appendStringInfoString(out, text);
				pfree(text);
			}
	}
}

static void
eval_text(const GoyaTemplate *t, GoyaScope *scope, StringInfo out)
{
	initStringInfo(out);
	for (int i = 0; i < t->n; i++)
	{
		JsonbValue	part;

		eval_view(t->parts[i], scope, &part);
		append_view(out, &part);
	}
}

static Jsonb *
eval_container(const GoyaTemplate *t, GoyaScope *scope)
{
	JsonbValue	few[16];
	JsonbValue *values = t->n <= (int) lengthof(few) ? few : palloc(sizeof(JsonbValue) * t->n);

	for (int i = 0; i < t->n; i++)
		eval_view(t->parts[i], scope, &values[i]);
	if (t->kind == GOYA_TEMPLATE_OBJECT)
		return goya_json_build_object(t->n, t->keys, values, true);
	return goya_json_build_array(t->n, values);
}

/* The value of a template as a view into something that lives in the plan, in the scope or in the current context. */
static void
eval_view(const GoyaTemplate *t, GoyaScope *scope, JsonbValue *result)
{
	StringInfoData text;

	switch (t->kind)
	{
		case GOYA_TEMPLATE_CONSTANT:
			*result = t->view;
			break;
		case GOYA_TEMPLATE_DOTTED:
			eval_dotted(t->dotted, scope, result);
			break;
		case GOYA_TEMPLATE_EXPR:
			goya_json_view(eval_expr_value(t->expr, scope), result);
			break;
		case GOYA_TEMPLATE_TEXT:
			eval_text(t, scope, &text);
			result->type = jbvString;
			result->val.string.val = text.data;
			result->val.string.len = text.len;
			break;
		default:
			goya_json_view(eval_container(t, scope), result);
			break;
	}
}

Jsonb *
goya_template_eval(const GoyaTemplate *t, GoyaScope *scope)
{
	JsonbValue	v;

	switch (t->kind)
	{
		case GOYA_TEMPLATE_CONSTANT:
			return t->constant;
		case GOYA_TEMPLATE_DOTTED:
			if (t->dotted->n_steps == 0)
			{
				Jsonb	   *root = root_value(t->dotted, scope);

				return root ? root : goya_json_null();
			}
			break;
		case GOYA_TEMPLATE_EXPR:
			return eval_expr_value(t->expr, scope);
		case GOYA_TEMPLATE_OBJECT:
		case GOYA_TEMPLATE_ARRAY:
			return eval_container(t, scope);
		default:
			break;
	}
	eval_view(t, scope, &v);
	return goya_json_from_view(&v);
}

char *
goya_template_eval_text(const GoyaTemplate *t, GoyaScope *scope)
{
	JsonbValue	v;
	StringInfoData text;

	if (t->kind == GOYA_TEMPLATE_TEXT)
	{
		eval_text(t, scope, &text);
		return text.data;
	}
	eval_view(t, scope, &v);
	return goya_json_view_text(&v);
}
