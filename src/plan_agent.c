/*-------------------------------------------------------------------------
 * plan_agent.c
 *		Fields of an agent: a model that calls tools, within a budget (node_agent.c runs it).
 *
 * What was decided.  Each call that an agent makes is a run of a hidden node, so that it is claimed, retried, billed, fenced and
 * cancelled like every other: "<key>.model" of kind ai_model, "<key>.approval", one "<key>.<tool>" per tool, and "<key>.verify" if answers
 * are checked.  What such a run is given is its item, which the session knows (scope.c).  retry, timeout, price and idempotent of the agent
 * are those of its model's calls; tools have their own.
 *
 * A tool is an operator, which publishing pins like any other (the entry's "node" is what it came to), or a node written in its place.
 *
 * What must hold.  No more hidden nodes are made than goya_plan_agent_hidden says: pointers into plan->nodes must stay good.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "json_util.h"
#include "plan_internal.h"

#define MAX_TOOLS			128
#define MAX_TOOL_NAME		64
#define MAX_HIDDEN_KEY		(GOYA_HASH_KEY - 2)
#define MAX_STEPS			1000
#define DEFAULT_STEPS		20
#define MAX_RESULT_BYTES	1000000
#define DEFAULT_RESULT		16384

const char *const goya_plan_agent_fields[] = {
	"model", "system", "prompt", "messages", "tools", "parameters", "response_schema", "tool_choice", "fallback", "cache", "stream", "budget",
	"on_budget", "on_error", "approval_timeout", "max_result", "verify", "provider", NULL
};
/* Of the agent's fields and those of every node: what its model's calls have too. */
static const char *const model_fields[] = {
	"model", "provider", "parameters", "response_schema", "tool_choice", "fallback", "cache", "stream", "retry", "timeout", "price",
	"idempotent", NULL
};
static const char *const opening_fields[] = {"system", "prompt", "messages", "budget", NULL};
static const char *const budget_fields[] = {"steps", "tokens", "cost", "time", NULL};
static const char *const tool_fields[] = {
	"operator", "version", "name", "description", "input_schema", "node", "input", "retry", "timeout", "price", "cost_tag", "idempotent", NULL
};
/* A tool with a node in its place: the node says the rest. */
static const char *const inline_fields[] = {"name", "description", "input_schema", "node", NULL};
/* Of a tool's: those of the operator's node that stands for it. */
static const char *const operator_fields[] = {"operator", "version", "input", "retry", "timeout", "price", "cost_tag", "idempotent", NULL};
static const char *const reserved_names[] = {"model", "approval", "verify", "compensate", NULL};

static inline GoyaWhere
below(const GoyaWhere *at, const char *name)
{
	GoyaWhere	here = {.up = at,.key = name,.len = strlen(name)};

	return here;
}

static bool
is_kind(const JsonbValue *node, const char *kind)
{
	JsonbValue	v;

	return goya_plan_field(node, "kind", &v) && v.type == jbvString && v.val.string.len == (int) strlen(kind) &&
		memcmp(v.val.string.val, kind, v.val.string.len) == 0;
}

/* How many hidden nodes an agent will have; 0: it is none. */
int
goya_plan_agent_hidden(const JsonbValue *node)
{
	JsonbValue	v;
	int			tools = 0;

	if (!is_kind(node, "agent"))
		return 0;
	if (goya_plan_field(node, "tools", &v) && goya_json_view_is_array(&v))
		tools = goya_json_view_length(&v);
	return 2 + tools + (goya_plan_field(node, "verify", &v) ? 1 : 0);
}

/* The named fields that are there. */
static void
copy_fields(GoyaJsonObject *o, const JsonbValue *object, const char *const *names)
{
	for (; *names != NULL; names++)
	{
		JsonbValue	v;

		if (goya_plan_field(object, *names, &v))
			goya_json_add(o, *names, goya_json_from_view(&v));
	}
}

/* A node made here: at is where its fields come from. */
static GoyaNode *
add_hidden(GoyaPlanBuild *b, const GoyaNode *agent, const char *name, const GoyaWhere *at, Jsonb *spec)
{
	JsonbValue	view;

	goya_json_view(spec, &view);
	return goya_plan_compile_hidden(b, agent, psprintf("%s.%s", agent->key, name), at, &view);
}

static void
add_model(GoyaPlanBuild *b, GoyaNode *node, const GoyaWhere *at, const JsonbValue *object, bool has_tools)
{
	GoyaJsonObject o;
	GoyaJsonObject input;

	goya_json_object_start(&input);
	goya_json_add_text(&input, "step", "{{ index }}");
	goya_json_object_start(&o);
	goya_json_add_text(&o, "kind", "ai_model");
	copy_fields(&o, object, model_fields);
	goya_json_add_text(&o, "messages", "{{ item.messages }}");
	if (has_tools)
		goya_json_add_text(&o, "tools", "{{ item.tools }}");
	goya_json_add(&o, "input", goya_json_object_finish(&input));	/* not all messages again with each run */
	add_hidden(b, node, "model", at, goya_json_object_finish(&o));
}

static void
add_approval(GoyaPlanBuild *b, GoyaNode *node, const GoyaWhere *at, const JsonbValue *object)
{
	GoyaJsonObject o;
	JsonbValue	v;

	(void) goya_plan_duration(b, at, object, "approval_timeout", 0, 1);
	goya_json_object_start(&o);
	goya_json_add_text(&o, "kind", "approval");
	goya_json_add_text(&o, "message", "{{ item.message }}");
	if (goya_plan_field(object, "approval_timeout", &v))
		goya_json_add(&o, "timeout", goya_json_from_view(&v));
	add_hidden(b, node, "approval", at, goya_json_object_finish(&o));
}

/* ----- tools ----- */

/* The name by which the model knows a tool: as given, or that of the operator with _ for what no name may have. */
static char *
tool_name(GoyaPlanBuild *b, const GoyaNode *agent, const GoyaWhere *at, const JsonbValue *tool, const char *operator)
{
	GoyaWhere	here = below(at, goya_json_view_is_object(tool) ? "name" : "operator");
	char	   *name = goya_json_view_is_object(tool) ? goya_plan_text(b, at, tool, "name", operator == NULL) : NULL;
	int			len;

	if (name == NULL)
	{
		if (operator == NULL)
			return NULL;
		name = pstrdup(operator);
		for (char *c = name; *c; c++)
			if (strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-", *c) == NULL)
				*c = '_';
	}
	len = strlen(name);
	if (len < 1 || len > MAX_TOOL_NAME || strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") != (size_t) len ||
		len + 1 + strlen(agent->key) > MAX_HIDDEN_KEY)
	{
		goya_plan_report(b, &here, "bad_value",
						 psprintf("A tool's name is up to %d letters, digits, _ or -; with the agent's key up to %d.", MAX_TOOL_NAME, MAX_HIDDEN_KEY - 1),
						 "\"%s\" is not a name of a tool", goya_plan_clip(name, len));
		return NULL;
	}
	for (int i = 0; reserved_names[i] != NULL; i++)
		if (strcmp(name, reserved_names[i]) == 0)
		{
			goya_plan_report(b, &here, "bad_value", pstrdup("Give it another \"name\"."), "a tool cannot be called \"%s\"", name);
			return NULL;
		}
	return name;
}

/* A node written in the place of an operator: of any kind that is one run. */
static bool
check_inline(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *node)
{
	GoyaWhere	kind = below(at, "kind");

	if (!goya_json_view_is_object(node))
	{
		goya_plan_wrong_type(b, at, "a node without key (an object)", node);
		return false;
	}
	if (is_kind(node, "map") || is_kind(node, "agent") || is_kind(node, "condition") || is_kind(node, "switch"))
	{
		goya_plan_report(b, &kind, "bad_value", pstrdup("Put it into a workflow of its own, and use kind workflow here."),
						 "a node of this kind cannot stand here");
		return false;
	}
	return true;
}

/* What the session is to know of a tool, or NULL. */
static Jsonb *
compile_tool(GoyaPlanBuild *b, GoyaNode *agent, const GoyaWhere *at, const JsonbValue *tool)
{
	GoyaJsonObject spec;
	GoyaWhere	node_at = below(at, "node");
	JsonbValue	node;
	char	   *operator = NULL;
	char	   *name;
	Jsonb	   *made;

	if (tool->type == jbvString)
		operator = pnstrdup(tool->val.string.val, tool->val.string.len);
	else if (goya_json_view_is_object(tool))
	{
		/* One that publishing has pinned has both. */
		operator = goya_plan_text(b, at, tool, "operator", !goya_plan_field(tool, "node", &node));
		goya_plan_check_fields(b, at, tool, operator == NULL && goya_plan_field(tool, "node", &node) ? inline_fields : tool_fields, NULL);
		(void) goya_plan_schema(b, at, tool, "input_schema");
		(void) goya_plan_text(b, at, tool, "description", false);
	}
	else
		goya_plan_wrong_type(b, at, "the name of an operator, or an object with \"operator\" or \"node\",", tool);
	if (operator == NULL && !(goya_json_view_is_object(tool) && goya_plan_field(tool, "node", &node)))
		return NULL;
	name = tool_name(b, agent, at, tool, operator);
	if (name == NULL)
		return NULL;
	goya_json_object_start(&spec);
	goya_json_add_text(&spec, "kind", "operator");
	if (goya_json_view_is_object(tool) && goya_plan_field(tool, "node", &node))
	{
		if (!check_inline(b, &node_at, &node))
			return NULL;
		made = goya_json_from_view(&node);
	}
	else
	{
		goya_json_add_text(&spec, "operator", operator);
		if (goya_json_view_is_object(tool))
			copy_fields(&spec, tool, operator_fields);
		made = goya_json_object_finish(&spec);
		node_at = *at;
	}
	(void) add_hidden(b, agent, name, &node_at, made);
	goya_json_object_start(&spec);
	goya_json_add_text(&spec, "name", name);
	goya_json_add_text(&spec, "operator", operator);
	if (goya_json_view_is_object(tool))
	{
		static const char *const kept[] = {"version", "description", "input_schema", NULL};

		copy_fields(&spec, tool, kept);
	}
	return goya_json_object_finish(&spec);
}

static Jsonb *
compile_tools(GoyaPlanBuild *b, GoyaNode *agent, const GoyaWhere *at, const JsonbValue *object)
{
	GoyaWhere	here = below(at, "tools");
	JsonbValue	list;
	Jsonb	  **specs;
	int			n;
	int			made = 0;

	if (!goya_plan_field(object, "tools", &list))
		return goya_json_array(0, NULL);
	if (!goya_json_view_is_array(&list))
	{
		goya_plan_wrong_type(b, &here, "an array of tools", &list);
		return goya_json_array(0, NULL);
	}
	n = goya_json_view_length(&list);
	if (n > MAX_TOOLS)
	{
		goya_plan_report(b, &here, "bad_value", NULL, "there are %d tools, at most %d are allowed", n, MAX_TOOLS);
		n = 0;
	}
	specs = palloc(sizeof(Jsonb *) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		GoyaWhere	element = {.up = &here,.index = i};
		JsonbValue	tool;

		goya_json_view_elem(&list, i, &tool);
		specs[made] = compile_tool(b, agent, &element, &tool);
		if (specs[made] != NULL)
			made++;
	}
	return goya_json_array(made, specs);
}

/* ----- the agent ----- */

static bool
is_template(const JsonbValue *v)
{
	return v->type == jbvString && v->val.string.len >= 4 && memcmp(v->val.string.val, "{{", 2) == 0;
}

/* What of the budget is known now; a template is looked at when the session begins. */
static void
check_budget(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *object)
{
	GoyaWhere	here = below(at, "budget");
	JsonbValue	budget;
	JsonbValue	v;

	if (!goya_plan_field(object, "budget", &budget))
		return;
	if (!goya_json_view_is_object(&budget))
	{
		goya_plan_wrong_type(b, &here, "an object with steps, tokens, cost or time", &budget);
		return;
	}
	goya_plan_check_fields(b, &here, &budget, budget_fields, NULL);
	if (goya_plan_field(&budget, "steps", &v) && !is_template(&v))
		(void) goya_plan_int(b, &here, &budget, "steps", DEFAULT_STEPS, 1, MAX_STEPS);
	if (goya_plan_field(&budget, "tokens", &v) && !is_template(&v))
		(void) goya_plan_int(b, &here, &budget, "tokens", 0, 1, INT64CONST(1000000000000));
	if (goya_plan_field(&budget, "cost", &v) && !is_template(&v))
		(void) goya_plan_int(b, &here, &budget, "cost", 0, 0, PG_INT64_MAX);
	if (goya_plan_field(&budget, "time", &v) && !is_template(&v))
		(void) goya_plan_duration(b, &here, &budget, "time", 0, 1);
}

/* What is to be done about an error of a tool, by its class. */
static void
check_on_error(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *object)
{
	static const char *const actions[] = {"tell", "fail", "stop", NULL};
	GoyaWhere	here = below(at, "on_error");
	JsonbValue	v;
	int			choice;

	if (!goya_plan_field(object, "on_error", &v))
		return;
	if (!goya_json_view_is_object(&v))
	{
		goya_plan_wrong_type(b, &here, "an object: class of error to tell, fail or stop", &v);
		return;
	}
	for (int i = 0; i < goya_json_view_length(&v); i++)
	{
		JsonbValue	key;
		JsonbValue	value;
		char	   *name;
		GoyaWhere	element;

		goya_json_view_pair(&v, i, &key, &value);
		name = pnstrdup(key.val.string.val, key.val.string.len);
		element = below(&here, name);
		if (goya_error_class_bit(name) == 0)
			goya_plan_report(b, &element, "bad_value", pstrdup("Classes are TRANSIENT, TIMEOUT, RESOURCE_LIMIT, VALIDATION, POLICY_DENY, DEPENDENCY, "
															   "TOOL_BUG, MODEL_REASONING, UNKNOWN."),
							 "there is no class of errors \"%s\"", goya_plan_clip(name, strlen(name)));
		else
			(void) goya_plan_choice(b, &here, &v, name, actions, &choice);
	}
}

static GoyaNode *
add_verify(GoyaPlanBuild *b, GoyaNode *agent, const GoyaWhere *at, const JsonbValue *object)
{
	GoyaWhere	here = below(at, "verify");
	JsonbValue	v;

	if (!goya_plan_field(object, "verify", &v) || !check_inline(b, &here, &v))
		return NULL;
	return add_hidden(b, agent, "verify", &here, goya_json_from_view(&v));
}

/* How a session begins: what templates make of system, prompt, messages and budget. */
static void
compile_opening(GoyaPlanBuild *b, GoyaNode *node, const GoyaWhere *at, const JsonbValue *object)
{
	GoyaJsonObject o;
	JsonbValue	view;
	JsonbValue	prompt;
	JsonbValue	messages;

	if (goya_plan_field(object, "prompt", &prompt) == goya_plan_field(object, "messages", &messages))
		goya_plan_report(b, at, goya_plan_field(object, "prompt", &prompt) ? "bad_value" : "missing_field", NULL,
						 "an agent has \"prompt\" or \"messages\", and not both");
	if (goya_plan_field(object, "messages", &messages) && !goya_json_view_is_array(&messages) && !is_template(&messages))
	{
		GoyaWhere	here = below(at, "messages");

		goya_plan_wrong_type(b, &here, "an array of messages", &messages);
	}
	goya_json_object_start(&o);
	copy_fields(&o, object, opening_fields);
	goya_json_view(goya_json_object_finish(&o), &view);
	node->config = goya_plan_template_value(b, at, &view, b->roots | GOYA_ROOT_BIT(GOYA_ROOT_PARAMS), &node->refs);
}

void
goya_plan_compile_agent(GoyaPlanBuild *b, GoyaNode *node, const GoyaWhere *at, const JsonbValue *object)
{
	static const char *const on_budget[] = {"return", "fail", NULL};
	static const char *const kept[] = {"on_budget", "on_error", NULL};
	GoyaJsonObject session;
	Jsonb	   *tools;
	int			choice = 0;
	int64		max_result;
	bool		verified;

	compile_opening(b, node, at, object);
	check_budget(b, at, object);
	check_on_error(b, at, object);
	(void) goya_plan_choice(b, at, object, "on_budget", on_budget, &choice);
	max_result = goya_plan_int(b, at, object, "max_result", DEFAULT_RESULT, 100, MAX_RESULT_BYTES);
	/* Those of its model's calls; a session as a whole is not made again, nor paid for. */
	node->retry.max_attempts = 1;
	node->price_name = NULL;
	tools = compile_tools(b, node, at, object);
	add_model(b, node, at, object, goya_json_array_length(tools) > 0);
	add_approval(b, node, at, object);
	verified = add_verify(b, node, at, object) != NULL;

	goya_json_object_start(&session);
	copy_fields(&session, object, kept);
	goya_json_add(&session, "tools", tools);
	goya_json_add_int(&session, "max_result", max_result);
	goya_json_add_bool(&session, "verify", verified);
	goya_json_add_bool(&session, "parse", goya_json_has(goya_json_from_view(object), "response_schema"));
	node->session = goya_json_object_finish(&session);
}
