/*-------------------------------------------------------------------------
 * plan_call.c
 *		Fields of the kinds that call outside or hand work out: ai_model, mcp, cli, worker.
 *
 * What such a kind means changes more often than the graph does, so the plan keeps its fields as one template, an object, which the
 * kind's own file reads as JSON when the node runs.  Here is what they must be as far as that can be said of a definition: which
 * there are, which must be there, and of constants the type.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "json_util.h"
#include "plan_internal.h"

#define T_TEXT		0x01
#define T_NUMBER	0x02
#define T_BOOL		0x04
#define T_OBJECT	0x08
#define T_ARRAY		0x10
#define T_ANY		0x1f
#define T_SCHEMA	(T_OBJECT | 0x20)	/* taken as it is: no templates, and a valid JSON Schema */

typedef struct CallField
{
	const char *name;
	int			types;
	bool		required;
} CallField;

static const CallField ai_model_fields[] = {
	{"model", T_TEXT, true}, {"provider", T_TEXT, false}, {"operation", T_TEXT, false}, {"system", T_TEXT, false}, {"prompt", T_TEXT, false},
	{"prompt_template", T_TEXT, false}, {"variables", T_OBJECT, false}, {"messages", T_ARRAY, false}, {"content", T_ANY, false},
	{"parameters", T_OBJECT, false}, {"response_schema", T_SCHEMA, false}, {"tools", T_ARRAY, false}, {"tool_choice", T_TEXT | T_OBJECT, false},
	{"stream", T_BOOL, false}, {"cache", T_BOOL | T_NUMBER, false}, {"fallback", T_ARRAY, false}, {"spill", T_BOOL, false},
	{NULL}
};
static const CallField mcp_fields[] = {
	{"server", T_TEXT, true}, {"tool", T_TEXT, true}, {"arguments", T_OBJECT, false}, {"tool_hash", T_TEXT, false}, {NULL}
};
static const CallField cli_fields[] = {
	{"program", T_TEXT, true}, {"arguments", T_OBJECT, false}, {"stdin", T_ANY, false}, {NULL}
};
static const CallField worker_fields[] = {
	{"queue", T_TEXT, true}, {"lease", T_NUMBER | T_TEXT, false}, {"max_claims", T_NUMBER, false}, {NULL}
};

static const CallField *const kind_fields[] = {
	[GOYA_NODE_AI_MODEL] = ai_model_fields,
	[GOYA_NODE_MCP] = mcp_fields,
	[GOYA_NODE_CLI] = cli_fields,
	[GOYA_NODE_WORKER] = worker_fields,
};

static const char *
types_text(int types)
{
	static const struct
	{
		int			type;
		const char *text;
	}			names[] = {{T_TEXT, "a string"}, {T_NUMBER, "a number"}, {T_BOOL, "true or false"}, {T_OBJECT, "an object"}, {T_ARRAY, "an array"}};
	StringInfoData s;

	initStringInfo(&s);
	for (size_t i = 0; i < lengthof(names); i++)
		if (types & names[i].type)
			appendStringInfo(&s, "%s%s", s.len > 0 ? " or " : "", names[i].text);
	return s.data;
}

static int
type_of(const JsonbValue *v)
{
	if (goya_json_view_is_object(v))
		return T_OBJECT;
	if (goya_json_view_is_array(v))
		return T_ARRAY;
	switch (v->type)
	{
		case jbvString:
			return T_TEXT;
		case jbvNumeric:
			return T_NUMBER;
		case jbvBool:
			return T_BOOL;
		default:
			return 0;
	}
}

/* A string with a template in it may become anything, if that is all it is. */
static bool
may_become(const JsonbValue *v, int types)
{
	if (type_of(v) & types)
		return true;
	return v->type == jbvString && v->val.string.len >= 4 && memcmp(v->val.string.val, "{{", 2) == 0 &&
		memcmp(v->val.string.val + v->val.string.len - 2, "}}", 2) == 0;
}

static void
check_field(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *object, const CallField *f)
{
	GoyaWhere	here = {.up = at,.key = f->name,.len = strlen(f->name)};
	JsonbValue	v;

	if (!goya_plan_field(object, f->name, &v))
	{
		if (f->required)
			goya_plan_missing(b, at, f->name);
		return;
	}
	if ((f->types & T_SCHEMA) == T_SCHEMA && goya_json_view_is_object(&v))
		(void) goya_plan_schema(b, at, object, f->name);
	else if (!may_become(&v, f->types))
		goya_plan_wrong_type(b, &here, types_text(f->types), &v);
}

/* The fields that are there, as an object. */
static Jsonb *
collect_fields(const JsonbValue *object, const CallField *fields)
{
	GoyaJsonObject o;

	goya_json_object_start(&o);
	for (const CallField *f = fields; f->name != NULL; f++)
	{
		JsonbValue	v;

		if (goya_plan_field(object, f->name, &v))
			goya_json_add(&o, f->name, goya_json_from_view(&v));
	}
	return goya_json_object_finish(&o);
}

void
goya_plan_compile_call(GoyaPlanBuild *b, GoyaNode *node, const GoyaWhere *at, const JsonbValue *object)
{
	const CallField *fields = kind_fields[node->kind];
	JsonbValue	config;

	for (const CallField *f = fields; f->name != NULL; f++)
		check_field(b, at, object, f);
	goya_json_view(collect_fields(object, fields), &config);
	node->config = goya_plan_template_value(b, at, &config, b->roots | GOYA_ROOT_BIT(GOYA_ROOT_PARAMS), &node->refs);
}

/* The names of the kind's fields and of what a pinned operator adds; NULL at the end. */
const char *const *
goya_plan_call_fields(GoyaNodeKind kind, const char *const *also)
{
	static const char *names[GOYA_NODE_CLI + 1][32];
	const char **list = names[kind];
	int			n = 0;

	if (list[0] != NULL)
		return list;
	while (*also != NULL)
		list[n++] = *also++;
	for (const CallField *f = kind_fields[kind]; f->name != NULL; f++)
		list[n++] = f->name;
	return list;
}
