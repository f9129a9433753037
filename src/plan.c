/*-------------------------------------------------------------------------
 * plan.c
 *		Compiles a workflow definition: limits first, then keys, edges, nodes, conditions of edges and the output.
 *
 * Must hold.  A definition, however wrong, is never an ERROR: it has problems.  Nothing descends into it before its size and depth are
 * known to be within limits.  The plan does not point into the definition.  On failure nothing is left but the problems.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "json_util.h"
#include "plan_internal.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

static const char *const top_fields[] = {
	"nodes", "edges", "input", "context", "output", "description", "version", "name", "ui", "settings", "tags", NULL
};

/* ---- limits ---- */

typedef struct Measure
{
	int64		bytes;			/* of its text, about: numbers count their digits, \u escapes are not counted */
	int			depth;
} Measure;

static int64
text_bytes(const JsonbValue *v)
{
	int64		n;

	switch (v->type)
	{
		case jbvString:
			n = v->val.string.len + 2;
			for (int i = 0; i < v->val.string.len; i++)
			{
				char		c = v->val.string.val[i];

				if (c == '"' || c == '\\' || c == '\n' || c == '\t' || c == '\r')
					n++;
			}
			return n;
		case jbvNumeric:
			/* four decimal digits in two bytes, behind a header of six or more */
			return Max(1, ((int64) VARSIZE_ANY(v->val.numeric) - 6) * 2 - 3);
		case jbvBool:
			return v->val.boolean ? 4 : 5;
		default:
			return 4;
	}
}

/* Walks the whole value without recursion; stops when it is too large or too deep. */
static void
measure(const Jsonb *definition, Measure *m)
{
	JsonbIterator *it = JsonbIteratorInit(unconstify(JsonbContainer *, &definition->root));
	JsonbIteratorToken token;
	JsonbValue	v;
	int			depth = 0;

	while (m->bytes <= GOYA_MAX_DEFINITION && m->depth <= GOYA_MAX_DEPTH &&
		   (token = JsonbIteratorNext(&it, &v, false)) != WJB_DONE)
	{
		switch (token)
		{
			case WJB_BEGIN_ARRAY:
			case WJB_BEGIN_OBJECT:
				depth++;
				m->depth = Max(m->depth, depth);
				m->bytes += 2;
				break;
			case WJB_END_ARRAY:
			case WJB_END_OBJECT:
				depth--;
				break;
			default:
				m->bytes += text_bytes(&v) + 2;	/* ", " or ": " */
				break;
		}
	}
}

/* False when there is nothing to go on with. */
static bool
check_limits(GoyaPlanBuild *b, Jsonb *definition)
{
	Measure		m = {0, 0};
	MemoryContext old;

	goya_json_view(definition, &b->definition);
	if (!goya_json_view_is_object(&b->definition))
	{
		goya_plan_report(b, NULL, "not_an_object", pstrdup("A definition is an object with \"nodes\" and \"edges\"."),
						 "the definition is %s%s, not an object", b->definition.type == jbvNull ? "" :
						 b->definition.type == jbvBinary ? "an " : "a ", goya_json_view_type_name(&b->definition));
		return false;
	}
	old = MemoryContextSwitchTo(b->scratch);
	measure(definition, &m);
	MemoryContextSwitchTo(old);
	if (m.bytes > GOYA_MAX_DEFINITION)
		goya_plan_report(b, NULL, "too_large", pstrdup("Move parts into workflows of their own (kind workflow), and data into tables."),
						 "the definition is larger than %d bytes", GOYA_MAX_DEFINITION);
	if (m.depth > GOYA_MAX_DEPTH)
		goya_plan_report(b, NULL, "too_deep", NULL, "the definition is nested deeper than %d levels", GOYA_MAX_DEPTH);
	return m.bytes <= GOYA_MAX_DEFINITION && m.depth <= GOYA_MAX_DEPTH;
}

/* ---- output ---- */

static void
read_output(GoyaPlanBuild *b)
{
	GoyaPlan   *plan = b->plan;

	b->node_key = NULL;
	b->reader = -1;
	plan->output = goya_plan_template(b, NULL, &b->definition, "output", GOYA_COMMON_ROOTS, &plan->output_refs);
	if (plan->output == NULL)
	{
		for (int i = 0; i < plan->n_listed; i++)
		{
			if (plan->nodes[i].n_out == 0)
				plan->output_refs.nodes = lappend_int(plan->output_refs.nodes, i);
		}
	}
	if (plan->output_refs.nodes != NIL || plan->output_refs.all_nodes)
		plan->output_refs.roots |= GOYA_ROOT_BIT(GOYA_ROOT_NODES);
}

/* ---- all of it ---- */

static void
compile_definition(GoyaPlanBuild *b, Jsonb *definition)
{
	if (!check_limits(b, definition))
		return;
	goya_plan_check_fields(b, NULL, &b->definition, top_fields, NULL);
	b->plan->input_schema = goya_plan_schema(b, NULL, &b->definition, "input");
	goya_plan_read_context(b, NULL);
	if (!goya_plan_list_nodes(b))
		return;
	goya_plan_read_edges(b);
	goya_plan_compile_nodes(b);
	goya_plan_compile_edges(b);
	read_output(b);
	goya_plan_check_reads(b);
	goya_plan_check_connections(b);
}

GoyaPlan *
goya_plan_compile(Jsonb *definition, bool resolved, MemoryContext parent, const GoyaPlanLookups *lookups, List **problems)
{
	MemoryContext caller = CurrentMemoryContext;
	GoyaPlanBuild b;
	GoyaPlan   *plan;
	MemoryContext cxt;

	/* under the caller's context until it is whole, so that a thrown error (no memory, cancellation) frees it */
	cxt = AllocSetContextCreate(caller, "goya plan", ALLOCSET_DEFAULT_SIZES);
	plan = MemoryContextAllocZero(cxt, sizeof(GoyaPlan));
	plan->cxt = cxt;

	memset(&b, 0, sizeof(b));
	b.plan = plan;
	b.lookups = lookups;
	b.resolved = resolved;
	b.report_cxt = caller;
	b.scratch = AllocSetContextCreate(caller, "goya plan scratch", ALLOCSET_DEFAULT_SIZES);
	b.hints_left = 20;
	b.reader = -1;

	MemoryContextSwitchTo(cxt);
	compile_definition(&b, definition);
	MemoryContextSwitchTo(caller);

	MemoryContextDelete(b.scratch);
	if (problems)
		*problems = b.problems;
	if (b.failed)
	{
		MemoryContextDelete(cxt);
		return NULL;
	}
	MemoryContextSetParent(cxt, parent);
	return plan;
}
