/*-------------------------------------------------------------------------
 * target_definition.c
 *		Definitions: validated, compiled, compared, and all their templates and conditions evaluated.
 *
 * What must hold of any JSON document:
 * - compiling never throws; it gives a plan or a problem of severity error, not both and not neither; problems are whole and readable;
 * - the same document gives the same plan and the same problems, also after a round through text, and the plan does not point into it;
 * - what says yes when compiled for running says yes when validated;
 * - indexes of nodes and edges in a plan are in range, and all templates evaluate to a value or a data error.
 * Look-ups answer by a hash of the name: every branch of validation is reached without tables.
 *-------------------------------------------------------------------------
 */
#include "fuzz.h"

#include "common/hashfn.h"
#include "json_util.h"
#include "mb/pg_wchar.h"
#include "plan_internal.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

/* ---- look-ups ---- */

static int
guess(const char *name, int n)
{
	return hash_bytes((const unsigned char *) name, strlen(name)) % n;
}

static bool
operator_exists(const char *name, int version, char **mode, void *arg)
{
	if (mode)
		*mode = pstrdup(guess(name, 2) ? "sql" : "http");
	return guess(name, 3) > 0;
}

static bool
name_exists(const char *name, void *arg)
{
	return guess(name, 2) == 0;
}

static int
function_check(const char *name, void *arg)
{
	return guess(name, 5) > 2 ? 1 : guess(name, 5) - 2;
}

static const GoyaPlanLookups lookups = {operator_exists, name_exists, function_check, name_exists, NULL};

/* ---- a plan as text, to compare two ---- */

static void
tell_dotted(StringInfo out, const GoyaDotted *d)
{
	appendStringInfo(out, "dotted %d %d %d", d->root, d->node, d->n_all);
	for (int i = 0; i < d->n_steps; i++)
	{
		appendStringInfo(out, " %d:" INT64_FORMAT ":%d:", d->steps[i].has_index, d->steps[i].index, d->steps[i].len);
		if (d->steps[i].key)
			appendBinaryStringInfo(out, d->steps[i].key, d->steps[i].len);
	}
}

static void
tell_expr(StringInfo out, const GoyaExpr *e)
{
	if (e == NULL)
		return;
	appendStringInfo(out, "expr %d %d %u %d %d:", e->many, e->is_filter, e->roots, e->all_nodes, e->n_all);
	for (int i = 0; i < e->n_nodes; i++)
		appendStringInfo(out, " %d", e->nodes[i]);
	appendBinaryStringInfo(out, (char *) e->path, VARSIZE_ANY(e->path));
	if (e->plain)
		tell_dotted(out, e->plain);
}

static void
tell_json(StringInfo out, const Jsonb *j)
{
	appendStringInfoString(out, j ? goya_json_to_cstring(j) : "none");
}

static void
tell_template(StringInfo out, const GoyaTemplate *t)
{
	if (t == NULL)
		return;
	appendStringInfo(out, "\ntemplate %d: ", t->kind);
	if (t->kind == GOYA_TEMPLATE_CONSTANT)
		tell_json(out, t->constant);
	if (t->kind == GOYA_TEMPLATE_DOTTED)
		tell_dotted(out, t->dotted);
	if (t->kind == GOYA_TEMPLATE_EXPR)
		tell_expr(out, t->expr);
	for (int i = 0; i < t->n; i++)
	{
		if (t->kind == GOYA_TEMPLATE_OBJECT)
			appendBinaryStringInfo(out, t->keys[i].val.string.val, t->keys[i].val.string.len);
		tell_template(out, t->parts[i]);
	}
}

static void
tell_refs(StringInfo out, const GoyaRefs *refs)
{
	ListCell   *lc;

	appendStringInfo(out, "\nrefs %u %d:", refs->roots, refs->all_nodes);
	foreach(lc, refs->nodes)
		appendStringInfo(out, " %d", lfirst_int(lc));
}

static const char *
name_or_none(const char *s)
{
	return s ? s : "-";
}

static void
check_index(const char *what, int index, int n, bool may_be_none)
{
	if (index < (may_be_none ? -1 : 0) || index >= n)
		fuzz_finding("%s %d is outside of 0 .. %d", what, index, n - 1);
}

static void
tell_node(StringInfo out, const GoyaPlan *plan, const GoyaNode *n)
{
	check_index("owner", n->owner, plan->n_nodes, true);
	check_index("compensation", n->compensate, plan->n_nodes, true);
	if (n->kind == GOYA_NODE_MAP)
		check_index("body", n->body, plan->n_nodes, false);
	fuzz_check_text("the key of a node", n->key);
	appendStringInfo(out, "\nnode %d %s kind %d hidden %d owner %d comp %d any %d fails %d", n->index, n->key, n->kind, n->hidden, n->owner,
					 n->compensate, n->join_any, n->handles_failure);
	for (int i = 0; i < n->n_in; i++)
	{
		check_index("edge in", n->in_edges[i], plan->n_edges, false);
		appendStringInfo(out, " <%d", n->in_edges[i]);
	}
	for (int i = 0; i < n->n_out; i++)
	{
		check_index("edge out", n->out_edges[i], plan->n_edges, false);
		appendStringInfo(out, " >%d", n->out_edges[i]);
	}
	appendStringInfo(out, " retry %d %d " INT64_FORMAT " " INT64_FORMAT " %.17g %d timeout " INT64_FORMAT, n->retry.max_attempts, n->retry.backoff,
					 n->retry.initial_ms, n->retry.max_ms, n->retry.jitter, n->retry.on, n->timeout_ms);
	appendStringInfo(out, " price %s " INT64_FORMAT " idem %d f %s max " INT64_FORMAT " body %d par %d budget %d signal %s workflow %s default %s",
					 name_or_none(n->price_name), n->price_estimate, n->idempotent, name_or_none(n->function), n->max_response,
					 n->kind == GOYA_NODE_MAP ? n->body : -1, n->max_parallel, n->error_budget, name_or_none(n->signal),
					 name_or_none(n->workflow), name_or_none(n->default_case));
	tell_refs(out, &n->refs);
	tell_json(out, n->form);
}

/* ---- what a node evaluates: told, or evaluated over a scope ---- */

typedef struct Visit
{
	StringInfo	out;			/* told here, or NULL: evaluated */
	GoyaScope  *scope;
} Visit;

static void
visit_template(Visit *v, const GoyaTemplate *t)
{
	if (t == NULL)
		return;
	if (v->out)
		tell_template(v->out, t);
	else
	{
		char	   *text;

		fuzz_check_text("a template's value", goya_json_to_cstring(goya_template_eval(t, v->scope)));
		text = goya_template_eval_text(t, v->scope);
		if (text && !pg_verify_mbstr(GetDatabaseEncoding(), text, strlen(text), true))
			fuzz_finding("a template's text is not valid text");
	}
}

static void
visit_expr(Visit *v, const GoyaExpr *e)
{
	Jsonb	   *found;

	if (e == NULL)
		return;
	if (v->out)
	{
		tell_expr(v->out, e);
		return;
	}
	(void) goya_expr_test(e, v->scope);
	found = goya_expr_eval(e, v->scope);
	if (found)
		fuzz_check_text("an expression's value", goya_json_to_cstring(found));
}

static void
visit_node(Visit *v, const GoyaNode *n)
{
	const GoyaTemplate *templates[] = {
		n->input, n->price_quantity, n->writes, n->method, n->url, n->headers, n->request_body, n->output, n->over, n->message, n->duration, n->until
	};

	for (int i = 0; i < (int) lengthof(templates); i++)
		visit_template(v, templates[i]);
	for (int i = 0; i < n->n_artifacts; i++)
	{
		visit_template(v, n->artifacts[i].name);
		visit_template(v, n->artifacts[i].data);
		visit_template(v, n->artifacts[i].each);
	}
	visit_expr(v, n->success);
	visit_expr(v, n->output_path);
	visit_expr(v, n->when);
	for (int i = 0; i < n->n_cases; i++)
		visit_expr(v, n->cases[i].when);
}

static void
visit_plan(Visit *v, const GoyaPlan *plan)
{
	for (int i = 0; i < plan->n_nodes; i++)
		visit_node(v, &plan->nodes[i]);
	for (int i = 0; i < plan->n_edges; i++)
		visit_expr(v, plan->edges[i].when);
	visit_template(v, plan->output);
}

static char *
tell_plan(const GoyaPlan *plan)
{
	StringInfoData out;
	Visit		v = {.out = &out};

	initStringInfo(&out);
	appendStringInfo(&out, "%d %d %d prices %d comp %d context %d", plan->n_nodes, plan->n_listed, plan->n_edges, plan->has_prices,
					 plan->has_compensation, plan->has_context);
	for (int i = 0; i < plan->n_nodes; i++)
	{
		if (plan->nodes[i].index != i || goya_plan_node_index(plan, plan->nodes[i].key) != i)
			fuzz_finding("node %d is not found by its key \"%s\"", i, plan->nodes[i].key);
		tell_node(&out, plan, &plan->nodes[i]);
	}
	for (int i = 0; i < plan->n_edges; i++)
	{
		const GoyaEdge *e = &plan->edges[i];

		check_index("edge from", e->from, plan->n_nodes, false);
		check_index("edge to", e->to, plan->n_nodes, false);
		appendStringInfo(&out, "\nedge %d %d on %d case %s", e->from, e->to, e->on, name_or_none(e->case_name));
		tell_refs(&out, &e->when_refs);
	}
	for (int i = 0; i < plan->n_roots; i++)
	{
		check_index("root", plan->roots[i], plan->n_listed, false);
		appendStringInfo(&out, " root %d", plan->roots[i]);
	}
	tell_json(&out, plan->input_schema);
	tell_json(&out, plan->context_spec);
	tell_refs(&out, &plan->output_refs);
	visit_plan(&v, plan);
	return out.data;
}

/* ---- problems ---- */

static char *
tell_problems(List *problems, int *n_errors)
{
	StringInfoData out;
	ListCell   *lc;

	initStringInfo(&out);
	*n_errors = 0;
	foreach(lc, problems)
	{
		const GoyaProblem *p = lfirst(lc);

		if (strcmp(p->severity, "error") != 0 && strcmp(p->severity, "warning") != 0)
			fuzz_finding("a problem's severity is \"%s\"", p->severity);
		*n_errors += p->severity[0] == 'e';
		if (p->code[0] == '\0' || strspn(p->code, "abcdefghijklmnopqrstuvwxyz_") != strlen(p->code))
			fuzz_finding("a problem's code is \"%s\"", p->code);
		if (p->path[0] != '\0')
			fuzz_check_text("a problem's path", p->path);
		if (p->path[0] != '\0' && p->path[0] != '/')
			fuzz_finding("a problem's path is no JSON pointer: \"%s\"", p->path);
		fuzz_check_text("a problem's message", p->message);
		if (strlen(p->message) > 20000)
			fuzz_finding("a problem's message has %zu bytes", strlen(p->message));
		if (p->hint)
			fuzz_check_text("a problem's hint", p->hint);
		if (p->node)
			fuzz_check_text("a problem's node", p->node);
		appendStringInfo(&out, "%s %s %s %s %s %s\n", p->severity, p->code, name_or_none(p->node), p->path, p->message, name_or_none(p->hint));
	}
	return out.data;
}

/* ---- compiling ---- */

typedef struct Compiled
{
	GoyaPlan   *plan;
	char	   *told;			/* of the plan, "" without */
	char	   *problems;
} Compiled;

/* Compiles a copy of the definition, which is overwritten before anybody looks at the plan. */
static Compiled
compile(const Jsonb *definition, bool resolved)
{
	Compiled	c;
	List	   *problems = NIL;
	int			n_errors;
	Jsonb	   *copy = goya_json_copy(definition);

	c.plan = goya_plan_compile(copy, resolved, CurrentMemoryContext, resolved ? NULL : &lookups, &problems);
	fuzz_forget(copy);
	c.problems = tell_problems(problems, &n_errors);
	if ((c.plan == NULL) != (n_errors > 0))
		fuzz_finding("%d errors, and %s plan:\n%s", n_errors, c.plan ? "a" : "no", c.problems);
	c.told = c.plan ? tell_plan(c.plan) : "";
	return c;
}

static void
compare(const char *what, Compiled a, Compiled b)
{
	if (strcmp(a.problems, b.problems) != 0)
		fuzz_finding("%s: other problems:\n%s---\n%s", what, a.problems, b.problems);
	if (strcmp(a.told, b.told) != 0)
		fuzz_finding("%s: another plan:\n%s\n---\n%s", what, a.told, b.told);
}

/* ---- the target ---- */

static bool evaluating;

/* Values of roots: the definition's "ui" where it has one, so that the fuzzer can choose them, else the definition. */
static Jsonb *
scope_value(GoyaScope *scope, GoyaRoot root, int node)
{
	if (root == GOYA_ROOT_INDEX)
		return goya_json_from_int(1);
	if (root == GOYA_ROOT_VARS)
		return NULL;
	return scope->arg;
}

static const GoyaPlan *scope_plan;

static const char *
scope_node_key(GoyaScope *scope, int node)
{
	check_index("node read", node, scope_plan->n_nodes, false);
	return scope_plan->nodes[node].key;
}

static void
evaluate(const GoyaPlan *plan, const Jsonb *definition)
{
	GoyaScope	scope = {scope_value, scope_node_key, goya_json_get(definition, "ui")};
	Visit		v = {.scope = &scope};

	if (scope.arg == NULL)
		scope.arg = goya_json_copy(definition);
	scope_plan = plan;
	evaluating = true;
	visit_plan(&v, plan);
}

bool
fuzz_definition_allowed(int sqlerrcode)
{
	return evaluating && fuzz_data_errors_allowed(sqlerrcode);
}

void
fuzz_definition(const uint8 *data, int size)
{
	Jsonb	   *definition = fuzz_read_json(data, size);
	Jsonb	   *again;
	Compiled	validated;
	Compiled	resolved;

	evaluating = false;
	if (definition == NULL)
		return;
	validated = compile(definition, false);
	compare("compiled twice", validated, compile(definition, false));
	resolved = compile(definition, true);
	if (resolved.plan == NULL)
		return;
	fuzz_deep();
	if (validated.plan == NULL && strstr(validated.problems, "unknown_") == NULL && strstr(validated.problems, "bad_function") == NULL)
		fuzz_finding("compiles, but is not valid:\n%s", validated.problems);
	again = goya_json_parse(goya_json_to_cstring(definition), strlen(goya_json_to_cstring(definition)));
	compare("through text", resolved, compile(again, true));
	evaluate(resolved.plan, definition);
}
