/*-------------------------------------------------------------------------
 * plan_kind.c
 *		Kinds of nodes: their names, the fields each has, and what those must be.
 *
 * An operator node is checked here, but publishing replaces it by the sql or http node of its operator version; that one keeps
 * "operator", "version" and the operator's schemas, which are of no interest to the plan.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "json_util.h"
#include "plan_internal.h"
#include "try_input.h"
#include "utils/fmgrprotos.h"

typedef struct KindSpec
{
	const char *name;
	GoyaNodeKind kind;
	bool		is_operator;
	const char *const *fields;
} KindSpec;

#define PINNED_FIELDS "operator", "version", "input_schema", "output_schema"

static const char *const no_fields[] = {NULL};
static const char *const transform_fields[] = {"output", NULL};
static const char *const condition_fields[] = {"when", "cases", "default", NULL};
static const char *const case_fields[] = {"name", "when", NULL};
static const char *const map_fields[] = {"over", "node", "workflow", "max_parallel", "error_budget", NULL};
static const char *const sleep_fields[] = {"duration", "until", NULL};
static const char *const wait_fields[] = {"signal", NULL};
static const char *const approval_fields[] = {"message", "form", NULL};
static const char *const workflow_fields[] = {"workflow", "algorithm", "policy", "candidates", "version", "input_schema", "output_schema", NULL};
static const char *const algorithm_fields[] = {"algorithm", "policy", "tier", "version", NULL};
static const char *const sql_fields[] = {"function", "config", PINNED_FIELDS, NULL};
static const char *const http_fields[] = {"method", "url", "headers", "body", "success", "output", "max_response", GOYA_HTTP_CONFIG_FIELDS, PINNED_FIELDS, NULL};
static const char *const operator_fields[] = {"operator", "version", NULL};

static const KindSpec kinds[] = {
	{"noop", GOYA_NODE_NOOP, false, no_fields},
	{"transform", GOYA_NODE_TRANSFORM, false, transform_fields},
	{"condition", GOYA_NODE_CONDITION, false, condition_fields},
	{"switch", GOYA_NODE_CONDITION, false, condition_fields},
	{"map", GOYA_NODE_MAP, false, map_fields},
	{"agent", GOYA_NODE_AGENT, false, goya_plan_agent_fields},
	{"sleep", GOYA_NODE_SLEEP, false, sleep_fields},
	{"wait", GOYA_NODE_WAIT, false, wait_fields},
	{"approval", GOYA_NODE_APPROVAL, false, approval_fields},
	{"workflow", GOYA_NODE_WORKFLOW, false, workflow_fields},
	{"sql", GOYA_NODE_SQL, false, sql_fields},
	{"http", GOYA_NODE_HTTP, false, http_fields},
	{"ai_model", GOYA_NODE_AI_MODEL, false, NULL},
	{"mcp", GOYA_NODE_MCP, false, NULL},
	{"cli", GOYA_NODE_CLI, false, NULL},
	{"worker", GOYA_NODE_WORKER, false, NULL},
	{"operator", GOYA_NODE_HTTP, true, operator_fields},
	{"algorithm", GOYA_NODE_WORKFLOW, true, algorithm_fields}
};
static const char *const pinned_fields[] = {PINNED_FIELDS, NULL};
static const char *const kind_names[] = {
	"noop", "transform", "condition", "switch", "map", "agent", "sleep", "wait", "approval", "workflow", "sql", "http", "ai_model", "mcp", "cli", "worker", "operator", "algorithm", NULL
};

const char *const *
goya_plan_kind_names(void)
{
	return kind_names;
}

bool
goya_plan_kind(const char *name, int len, GoyaNodeKind *kind, bool *is_operator)
{
	for (size_t i = 0; i < lengthof(kinds); i++)
	{
		if (strlen(kinds[i].name) == (size_t) len && memcmp(kinds[i].name, name, len) == 0)
		{
			*kind = kinds[i].kind;
			*is_operator = kinds[i].is_operator;
			return true;
		}
	}
	return false;
}

const char *const *
goya_plan_kind_fields(GoyaNodeKind kind, bool is_operator)
{
	for (size_t i = 0; i < lengthof(kinds); i++)
	{
		if (kinds[i].kind == kind && kinds[i].is_operator == is_operator)
			return kinds[i].fields ? kinds[i].fields : goya_plan_call_fields(kind, pinned_fields);
	}
	return no_fields;
}

static inline GoyaWhere
below(const GoyaWhere *at, const char *name)
{
	GoyaWhere	here = {.up = at,.key = name,.len = strlen(name)};

	return here;
}

/* ---- inline kinds ---- */

static void
compile_transform(GoyaPlanBuild *b, GoyaNode *node, const GoyaWhere *at, const JsonbValue *object)
{
	node->output = goya_plan_required_template(b, at, object, "output", b->roots | GOYA_ROOT_BIT(GOYA_ROOT_PARAMS), &node->refs);
}

static void
compile_case(GoyaPlanBuild *b, GoyaNode *node, int i, const GoyaWhere *at, const JsonbValue *object)
{
	GoyaCase   *c = &node->cases[i];

	if (!goya_json_view_is_object(object))
	{
		goya_plan_wrong_type(b, at, "an object with \"name\" and \"when\"", object);
		return;
	}
	goya_plan_check_fields(b, at, object, case_fields, NULL);
	c->name = goya_plan_text(b, at, object, "name", true);
	c->when = goya_plan_expr(b, at, object, "when", true, b->roots | GOYA_ROOT_BIT(GOYA_ROOT_PARAMS), &node->refs);
	for (int j = 0; c->name != NULL && j < i; j++)
	{
		GoyaWhere	name = below(at, "name");

		if (node->cases[j].name != NULL && strcmp(node->cases[j].name, c->name) == 0)
		{
			goya_plan_report(b, &name, "bad_value", NULL, "case \"%s\" is there twice", c->name);
			break;
		}
	}
}

static void
compile_cases(GoyaPlanBuild *b, GoyaNode *node, const GoyaWhere *at, const JsonbValue *list)
{
	GoyaWhere	here = below(at, "cases");

	if (!goya_json_view_is_array(list))
	{
		goya_plan_wrong_type(b, &here, "an array of cases", list);
		return;
	}
	node->n_cases = goya_json_view_length(list);
	node->cases = palloc0(sizeof(GoyaCase) * Max(node->n_cases, 1));
	if (node->n_cases == 0)
		goya_plan_report(b, &here, "bad_value", NULL, "there is no case");
	else if (node->n_cases > 1000)
	{
		goya_plan_report(b, &here, "bad_value", NULL, "there may be at most 1000 cases");
		node->n_cases = 0;
	}
	for (int i = 0; i < node->n_cases; i++)
	{
		GoyaWhere	element = {.up = &here,.index = i};
		JsonbValue	one;

		goya_json_view_elem(list, i, &one);
		compile_case(b, node, i, &element, &one);
	}
}

static void
compile_condition(GoyaPlanBuild *b, GoyaNode *node, const GoyaWhere *at, const JsonbValue *object)
{
	JsonbValue	when;
	JsonbValue	cases;
	JsonbValue	otherwise;
	bool		has_when = goya_plan_field(object, "when", &when);
	bool		has_cases = goya_plan_field(object, "cases", &cases);

	if (has_when && has_cases)
		goya_plan_report(b, at, "bad_value", pstrdup("\"when\" alone gives the cases \"true\" and \"false\"."),
						 "a condition has \"when\" or \"cases\", not both");
	else if (!has_when && !has_cases)
		goya_plan_report(b, at, "missing_field", NULL, "\"when\" or \"cases\" is missing");
	if (has_when)
		node->when = goya_plan_expr(b, at, object, "when", true, b->roots | GOYA_ROOT_BIT(GOYA_ROOT_PARAMS), &node->refs);
	if (has_cases)
		compile_cases(b, node, at, &cases);
	node->default_case = goya_plan_text(b, at, object, "default", false);
	if (has_when && !has_cases && goya_plan_field(object, "default", &otherwise))
	{
		GoyaWhere	here = below(at, "default");

		goya_plan_report(b, &here, "bad_value", NULL, "\"default\" belongs to \"cases\"");
	}
}

static void
compile_map(GoyaPlanBuild *b, GoyaNode *node, const GoyaWhere *at, const JsonbValue *object)
{
	JsonbValue	v;
	GoyaWhere	here = below(at, "over");
	GoyaWhere	budget = below(at, "error_budget");

	node->over = goya_plan_required_template(b, at, object, "over", b->roots, &node->refs);
	if (node->over && goya_template_is_constant(node->over) && !goya_json_view_is_array(&node->over->view))
		goya_plan_wrong_type(b, &here, "an array, or a template that gives one,", &node->over->view);
	else if (node->over && (node->over->kind == GOYA_TEMPLATE_OBJECT || node->over->kind == GOYA_TEMPLATE_TEXT))
		goya_plan_report(b, &here, "wrong_type", NULL, "an array, or a template that gives one, is expected here");
	node->max_parallel = (int) goya_plan_int(b, at, object, "max_parallel", 0, 1, 1000000);
	if (goya_plan_field(object, "error_budget", &v) && v.type == jbvString)
	{
		node->error_budget = -1;
		if (v.val.string.len != 3 || memcmp(v.val.string.val, "all", 3) != 0)
			goya_plan_report(b, &budget, "bad_value", NULL, "\"error_budget\" must be a number of items or \"all\"");
	}
	else
		node->error_budget = (int) goya_plan_int(b, at, object, "error_budget", 0, 0, 1000000000);
	goya_plan_compile_body(b, node, at, object);
}

/* ---- waiting kinds ---- */

static void
check_duration(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *object, const GoyaTemplate *t)
{
	GoyaWhere	here = below(at, "duration");

	if (goya_template_is_constant(t))
		goya_plan_duration(b, at, object, "duration", 0, 0);
	else if (t->kind == GOYA_TEMPLATE_OBJECT || t->kind == GOYA_TEMPLATE_ARRAY)
		goya_plan_report(b, &here, "wrong_type", NULL, "seconds as a number, or interval text, is expected here");
}

static void
compile_sleep(GoyaPlanBuild *b, GoyaNode *node, const GoyaWhere *at, const JsonbValue *object)
{
	uint32		roots = b->roots | GOYA_ROOT_BIT(GOYA_ROOT_PARAMS);
	JsonbValue	duration;
	JsonbValue	until;
	bool		has_duration = goya_plan_field(object, "duration", &duration);
	bool		has_until = goya_plan_field(object, "until", &until);
	char	   *text;

	if (has_duration == has_until)
		goya_plan_report(b, at, has_until ? "bad_value" : "missing_field", NULL,
						 has_until ? "a sleep has \"duration\" or \"until\", not both" : "\"duration\" or \"until\" is missing");
	if (has_duration)
		node->duration = goya_plan_template(b, at, object, "duration", roots, &node->refs);
	if (node->duration)
		check_duration(b, at, object, node->duration);
	if (has_until)
		node->until = goya_plan_template(b, at, object, "until", roots, &node->refs);
	if (goya_plan_is_text_template(b, at, "until", node->until) && (text = goya_plan_constant_text(node->until)) != NULL)
	{
		GoyaWhere	here = below(at, "until");
		Datum		datum;
		char	   *error;

		if (!goya_try_input(timestamptz_in, text, &datum, &error))
			goya_plan_report(b, &here, "bad_value", pstrdup("Write a time such as \"2031-05-01 12:00:00+00\"."), "%s", error);
	}
}

static void
compile_wait(GoyaPlanBuild *b, GoyaNode *node, const GoyaWhere *at, const JsonbValue *object)
{
	GoyaWhere	here = below(at, "signal");

	node->signal = goya_plan_text(b, at, object, "signal", true);
	if (node->signal && strstr(node->signal, "{{") != NULL)
		goya_plan_report(b, &here, "bad_value", NULL, "the name of a signal cannot be a template");
}

static void
compile_approval(GoyaPlanBuild *b, GoyaNode *node, const GoyaWhere *at, const JsonbValue *object)
{
	JsonbValue	v;

	if (goya_plan_field(object, "message", &v))
	{
		node->message = goya_plan_template(b, at, object, "message", b->roots | GOYA_ROOT_BIT(GOYA_ROOT_PARAMS), &node->refs);
		goya_plan_is_text_template(b, at, "message", node->message);
	}
	node->form = goya_plan_schema(b, at, object, "form");
}

static void
compile_workflow(GoyaPlanBuild *b, GoyaNode *node, const GoyaWhere *at, const JsonbValue *object)
{
	GoyaWhere	here = below(at, "workflow");

	node->workflow = goya_plan_text(b, at, object, "workflow", true);
	if (goya_plan_read_choice(b, node, at, object))
		return;
	if (node->workflow && b->lookups && b->lookups->workflow_exists &&
		!b->lookups->workflow_exists(node->workflow, b->lookups->arg))
		goya_plan_warn(b, &here, "unknown_workflow", pstrdup("Create and publish it before this one runs."), "there is no workflow \"%s\"",
					   goya_plan_clip(node->workflow, strlen(node->workflow)));
}

/* ---- calls ---- */

/* schema.f: two names, each plain or quoted */
static bool
is_qualified_name(const char *s)
{
	int			parts = 0;

	for (;;)
	{
		if (*s == '"')
		{
			const char *start = ++s;

			while (*s != '\0' && (*s != '"' || s[1] == '"'))
				s += *s == '"' ? 2 : 1;
			if (*s != '"' || s == start)
				return false;
			s++;
		}
		else if ((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || *s == '_' || IS_HIGHBIT_SET(*s))
		{
			while ((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9') || *s == '_' || *s == '$' ||
				   IS_HIGHBIT_SET(*s))
				s++;
		}
		else
			return false;
		parts++;
		if (*s == '\0')
			return parts == 2;
		if (*s++ != '.')
			return false;
	}
}

static void
compile_sql(GoyaPlanBuild *b, GoyaNode *node, const GoyaWhere *at, const JsonbValue *object)
{
	GoyaWhere	here = below(at, "function");
	int			found;
	char	   *shown;

	node->function = goya_plan_text(b, at, object, "function", true);
	node->wrap = goya_plan_template(b, at, object, "config", b->roots | GOYA_ROOT_BIT(GOYA_ROOT_PARAMS), &node->refs);
	if (node->function == NULL)
		return;
	shown = goya_plan_clip(node->function, strlen(node->function));
	if (!is_qualified_name(node->function))
	{
		goya_plan_report(b, &here, "bad_value", pstrdup("Write schema.function, without parentheses."),
						 "\"%s\" is not the name of a function with its schema", shown);
		return;
	}
	if (b->lookups == NULL || b->lookups->function_check == NULL)
		return;
	found = b->lookups->function_check(node->function, b->lookups->arg);
	if (found == 0)
		goya_plan_report(b, &here, "unknown_function", psprintf("Create %s(jsonb) first.", shown), "there is no function %s", shown);
	else if (found == -1)
		goya_plan_report(b, &here, "bad_function_signature", pstrdup("A node calls its function with one argument, its input as jsonb."),
						 "there is no %s(jsonb), only one with other arguments", shown);
	else if (found == -2)
		goya_plan_report(b, &here, "bad_function_signature", pstrdup("Aggregate the rows, for example with jsonb_agg."),
						 "%s(jsonb) returns a set", shown);
}

/* Not yet replaced by its version: only checked.  The node becomes one of the operator's kind, good for pictures. */
static void
compile_operator(GoyaPlanBuild *b, GoyaNode *node, const GoyaWhere *at, const JsonbValue *object)
{
	char	   *name = goya_plan_text(b, at, object, "operator", true);
	int			version = (int) goya_plan_int(b, at, object, "version", 0, 1, PG_INT32_MAX);
	GoyaWhere	here = below(at, "operator");
	char	   *mode = NULL;

	if (name == NULL)
		return;
	if (b->resolved)
	{
		goya_plan_report(b, &here, "unknown_operator", pstrdup("Publish the workflow again."), "operator \"%s\" has not been resolved",
						 goya_plan_clip(name, strlen(name)));
		return;
	}
	if (b->lookups == NULL || b->lookups->operator_exists == NULL)
		return;
	if (!b->lookups->operator_exists(name, version, &mode, b->lookups->arg))
	{
		if (version > 0)
			goya_plan_report(b, &here, "unknown_operator", NULL, "there is no operator \"%s\" with version %d",
							 goya_plan_clip(name, strlen(name)), version);
		else
			goya_plan_report(b, &here, "unknown_operator", NULL, "there is no operator \"%s\" with an active version",
							 goya_plan_clip(name, strlen(name)));
	}
	else
	{
		GoyaOperatorFacts facts = {0};
		bool		is_operator;

		if (mode != NULL)
			(void) goya_plan_kind(mode, strlen(mode), &node->kind, &is_operator);
		if (b->lookups->operator_facts == NULL || !b->lookups->operator_facts(name, version, &facts, b->lookups->arg))
			return;
		if (strcmp(facts.status, "published") != 0)
			goya_plan_report(b, &here, "operator_not_published", pstrdup("goya.publish_operator publishes a version and makes it the active one."),
							 "the version of operator \"%s\" is %s, not published", goya_plan_clip(name, strlen(name)), facts.status);
		goya_plan_set_schemas(b, node, facts.input_schema, facts.output_schema);
	}
}

void
goya_plan_compile_kind(GoyaPlanBuild *b, GoyaNode *node, bool is_operator, const GoyaWhere *at, const JsonbValue *object)
{
	static void (*const compilers[]) (GoyaPlanBuild *b, GoyaNode *node, const GoyaWhere *at, const JsonbValue *object) = {
		[GOYA_NODE_TRANSFORM] = compile_transform,
		[GOYA_NODE_CONDITION] = compile_condition,
		[GOYA_NODE_MAP] = compile_map,
		[GOYA_NODE_AGENT] = goya_plan_compile_agent,
		[GOYA_NODE_SLEEP] = compile_sleep,
		[GOYA_NODE_WAIT] = compile_wait,
		[GOYA_NODE_APPROVAL] = compile_approval,
		[GOYA_NODE_WORKFLOW] = compile_workflow,
		[GOYA_NODE_SQL] = compile_sql,
		[GOYA_NODE_HTTP] = goya_plan_compile_http,
		[GOYA_NODE_AI_MODEL] = goya_plan_compile_call,
		[GOYA_NODE_MCP] = goya_plan_compile_call,
		[GOYA_NODE_CLI] = goya_plan_compile_call,
		[GOYA_NODE_WORKER] = goya_plan_compile_call,
	};

	if (is_operator && node->kind == GOYA_NODE_WORKFLOW)
		goya_plan_compile_algorithm(b, node, at, object);
	else if (is_operator)
		compile_operator(b, node, at, object);
	else if (compilers[node->kind] != NULL)
		compilers[node->kind] (b, node, at, object);
}
