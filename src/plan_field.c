/*-------------------------------------------------------------------------
 * plan_field.c
 *		Fields with an inside of their own: retry, price, artifact, writes, and the definition's context; error classes and backoff.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "json_util.h"
#include "plan_internal.h"

#define TAG_CHARACTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:/-"

static const char *const error_classes[] = {
	"TRANSIENT", "TIMEOUT", "RESOURCE_LIMIT", "VALIDATION", "POLICY_DENY", "DEPENDENCY", "TOOL_BUG", "MODEL_REASONING", "UNKNOWN", NULL
};
static const char *const backoffs[] = {"exponential", "linear", "fixed", NULL};
static const char *const artifact_types[] = {"asset", "result", "timeline", "report", NULL};
static const char *const json_types[] = {"object", "array", "string", "number", "integer", "boolean", "null", "any", NULL};
static const char *const conflicts[] = {"reject", "overwrite", "merge", "append", NULL};

static const char *const retry_fields[] = {"max_attempts", "backoff", "initial", "max", "jitter", "on", NULL};
static const char *const price_fields[] = {"name", "quantity", "estimate", NULL};
static const char *const artifact_fields[] = {"type", "name", "data", "each", NULL};
static const char *const writes_fields[] = {"vars", "shared", NULL};
static const char *const var_fields[] = {"type", "required", "readonly", "default", "description", NULL};
static const char *const shared_fields[] = {"type", "conflict", "cas", "default", "description", NULL};

const char *
goya_error_class_name(int bit)
{
	if (bit == GOYA_ERR_CRASH)
		return "CRASH";
	for (int i = 0; error_classes[i] != NULL; i++)
	{
		if (bit == 1 << i)
			return error_classes[i];
	}
	return NULL;
}

int
goya_error_class_bit(const char *name)
{
	for (int i = 0; error_classes[i] != NULL; i++)
	{
		if (pg_strcasecmp(name, error_classes[i]) == 0)
			return 1 << i;
	}
	return 0;
}

/* The jittered share only shortens a delay: max_ms is never passed. */
int64
goya_retry_delay_ms(const GoyaRetry *r, int attempt, double random)
{
	double		delay = r->initial_ms;
	int			retries = Max(attempt - 1, 1);	/* 1 before the second attempt */

	if (r->backoff == GOYA_BACKOFF_EXPONENTIAL)
		delay *= pow(2.0, Min(retries - 1, 60));
	else if (r->backoff == GOYA_BACKOFF_LINEAR)
		delay *= retries;
	delay = Min(delay, (double) r->max_ms);
	return (int64) rint(delay * (1.0 - r->jitter * random));
}

/* ---- retry ---- */

static int
read_classes(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *object)
{
	GoyaWhere	list = {.up = at,.key = "on",.len = 2};
	JsonbValue	v;
	int			on = 0;
	int			n;

	if (!goya_plan_field(object, "on", &v))
		return GOYA_ERR_RETRIED_BY_DEFAULT;
	if (!goya_json_view_is_array(&v))
	{
		goya_plan_wrong_type(b, &list, "an array of error classes", &v);
		return GOYA_ERR_RETRIED_BY_DEFAULT;
	}
	n = goya_json_view_length(&v);
	if (n == 0)
		goya_plan_report(b, &list, "bad_value", pstrdup("Leave \"on\" out for the usual classes."), "no error class is named");
	for (int i = 0; i < n; i++)
	{
		GoyaWhere	here = {.up = &list,.index = i};
		JsonbValue	name;
		int			bit = 0;

		goya_json_view_elem(&v, i, &name);
		if (name.type == jbvString)
			bit = goya_error_class_bit(goya_json_view_text(&name));
		if (name.type != jbvString)
			goya_plan_wrong_type(b, &here, "an error class (a string)", &name);
		else if (bit == 0)
			goya_plan_report(b, &here, "bad_value",
							 pstrdup("Classes: TRANSIENT, TIMEOUT, RESOURCE_LIMIT, VALIDATION, POLICY_DENY, DEPENDENCY, TOOL_BUG, MODEL_REASONING, UNKNOWN."),
							 "there is no error class \"%s\"", goya_plan_clip(name.val.string.val, name.val.string.len));
		on |= bit;
	}
	return on;
}

/* A node without retry has one attempt; retry without max_attempts has three. */
void
goya_plan_read_retry(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *object, GoyaRetry *retry)
{
	GoyaWhere	here = {.up = at,.key = "retry",.len = 5};
	JsonbValue	v;
	int			choice;

	retry->max_attempts = 1;
	retry->backoff = GOYA_BACKOFF_EXPONENTIAL;
	retry->initial_ms = 1000;
	retry->max_ms = 300000;
	retry->jitter = 0.1;
	retry->on = GOYA_ERR_RETRIED_BY_DEFAULT;
	if (!goya_plan_field(object, "retry", &v))
		return;
	if (!goya_json_view_is_object(&v))
	{
		goya_plan_wrong_type(b, &here, "an object", &v);
		return;
	}
	goya_plan_check_fields(b, &here, &v, retry_fields, NULL);
	retry->max_attempts = (int) goya_plan_int(b, &here, &v, "max_attempts", 3, 1, 100);
	if (goya_plan_choice(b, &here, &v, "backoff", backoffs, &choice))
		retry->backoff = (GoyaBackoff) choice;
	retry->initial_ms = goya_plan_duration(b, &here, &v, "initial", retry->initial_ms, 0);
	retry->max_ms = goya_plan_duration(b, &here, &v, "max", Max(retry->max_ms, retry->initial_ms), 0);
	retry->jitter = goya_plan_double(b, &here, &v, "jitter", retry->jitter, 0, 1);
	retry->on = read_classes(b, &here, &v);
	if (retry->max_ms < retry->initial_ms)
		goya_plan_report(b, &here, "bad_value", NULL, "\"max\" is less than \"initial\"");
}

/* ---- price ---- */

/* A quantity that is known now must be a number, or numbers by unit, and not negative. */
static void
check_quantity(GoyaPlanBuild *b, const GoyaWhere *at, const GoyaTemplate *t)
{
	double		d;
	int			n;

	if (!goya_template_is_constant(t))
		return;
	if (goya_json_view_double(&t->view, &d))
	{
		if (d < 0 || isinf(d))
			goya_plan_report(b, at, "bad_value", NULL, "a quantity must be zero or more");
		return;
	}
	if (!goya_json_view_is_object(&t->view))
	{
		goya_plan_wrong_type(b, at, "a number, an object of numbers by unit, or a template", &t->view);
		return;
	}
	n = goya_json_view_length(&t->view);
	for (int i = 0; i < n; i++)
	{
		JsonbValue	unit;
		JsonbValue	value;
		GoyaWhere	here = {.up = at};

		goya_json_view_pair(&t->view, i, &unit, &value);
		here.key = unit.val.string.val;
		here.len = unit.val.string.len;
		if (!goya_json_view_double(&value, &d))
			goya_plan_wrong_type(b, &here, "a number", &value);
		else if (d < 0 || isinf(d))
			goya_plan_report(b, &here, "bad_value", NULL, "a quantity must be zero or more");
	}
}

void
goya_plan_read_price(GoyaPlanBuild *b, GoyaNode *node, const GoyaWhere *at, const JsonbValue *object)
{
	GoyaWhere	here = {.up = at,.key = "price",.len = 5};
	GoyaWhere	quantity = {.up = &here,.key = "quantity",.len = 8};
	JsonbValue	v;

	node->price_estimate = 1;
	if (!goya_plan_field(object, "price", &v))
		return;
	if (v.type == jbvString)
		node->price_name = goya_plan_text(b, at, object, "price", true);
	else if (goya_json_view_is_object(&v))
	{
		goya_plan_check_fields(b, &here, &v, price_fields, NULL);
		node->price_name = goya_plan_text(b, &here, &v, "name", true);
		node->price_estimate = goya_plan_int(b, &here, &v, "estimate", 1, 0, INT64CONST(1000000000000));
		node->price_quantity = goya_plan_template(b, &here, &v, "quantity",
												  b->roots | GOYA_ROOT_BIT(GOYA_ROOT_PARAMS) | GOYA_ROOT_BIT(GOYA_ROOT_OUTPUT), &node->refs);
		if (node->price_quantity)
			check_quantity(b, &quantity, node->price_quantity);
	}
	else
		goya_plan_wrong_type(b, &here, "the name of a price, or an object,", &v);

	if (node->price_name == NULL)
		return;
	b->plan->has_prices = true;
	if (b->lookups && b->lookups->price_exists && !b->lookups->price_exists(node->price_name, b->lookups->arg))
		goya_plan_warn(b, &here, "unknown_price", pstrdup("A node whose price does not exist when its task starts is refused; add the price first."),
					   "there is no price \"%s\"", goya_plan_clip(node->price_name, strlen(node->price_name)));
}

/* A word that usage is summed by.  What runs for a node (a body, a call of an agent, a compensation) has that node's, unless it has its own. */
void
goya_plan_read_cost_tag(GoyaPlanBuild *b, GoyaNode *node, const GoyaWhere *at, const JsonbValue *object)
{
	GoyaWhere	here = {.up = at,.key = "cost_tag",.len = 8};
	char	   *tag = goya_plan_text(b, at, object, "cost_tag", false);
	size_t		len = tag ? strlen(tag) : 0;

	if (tag == NULL)
		node->cost_tag = node->hidden ? b->plan->nodes[node->owner].cost_tag : NULL;
	else if (len <= GOYA_MAX_KEY && strspn(tag, TAG_CHARACTERS) == len && strchr("_.:/-", tag[0]) == NULL)
		node->cost_tag = tag;
	else
		goya_plan_report(b, &here, "bad_value",
						 psprintf("A tag is a letter or digit, then up to %d letters, digits or _ . : / -; no template.", GOYA_MAX_KEY - 1),
						 "\"%s\" is not a cost tag", goya_plan_clip(tag, len));
}

/* ---- artifact ---- */

static void
read_artifact(GoyaPlanBuild *b, GoyaNode *node, const GoyaWhere *at, const JsonbValue *v, GoyaArtifactSpec *spec)
{
	uint32		roots = b->roots | GOYA_ROOT_BIT(GOYA_ROOT_PARAMS) | GOYA_ROOT_BIT(GOYA_ROOT_OUTPUT);
	uint32		element = roots;
	int			choice;

	if (!goya_json_view_is_object(v))
	{
		goya_plan_wrong_type(b, at, "an object with \"type\"", v);
		return;
	}
	goya_plan_check_fields(b, at, v, artifact_fields, NULL);
	if (goya_plan_choice(b, at, v, "type", artifact_types, &choice))
		spec->type = pstrdup(artifact_types[choice]);
	else
	{
		JsonbValue	type;

		if (!goya_plan_field(v, "type", &type))
			goya_plan_missing(b, at, "type");
	}
	spec->each = goya_plan_template(b, at, v, "each", roots, &node->refs);
	if (spec->each && goya_template_is_constant(spec->each) && !goya_json_view_is_array(&spec->each->view))
	{
		GoyaWhere	here = {.up = at,.key = "each",.len = 4};

		goya_plan_wrong_type(b, &here, "an array, or a template that gives one,", &spec->each->view);
	}
	if (spec->each)
		element |= GOYA_ITEM_ROOTS;
	spec->name = goya_plan_template(b, at, v, "name", element, &node->refs);
	spec->data = goya_plan_template(b, at, v, "data", element, &node->refs);
}

void
goya_plan_read_artifacts(GoyaPlanBuild *b, GoyaNode *node, const GoyaWhere *at, const JsonbValue *object)
{
	GoyaWhere	here = {.up = at,.key = "artifact",.len = 8};
	JsonbValue	v;

	if (!goya_plan_field(object, "artifact", &v))
		return;
	if (!goya_json_view_is_array(&v))
	{
		node->n_artifacts = 1;
		node->artifacts = palloc0(sizeof(GoyaArtifactSpec));
		read_artifact(b, node, &here, &v, &node->artifacts[0]);
		return;
	}
	node->n_artifacts = goya_json_view_length(&v);
	node->artifacts = palloc0(sizeof(GoyaArtifactSpec) * Max(node->n_artifacts, 1));
	for (int i = 0; i < node->n_artifacts; i++)
	{
		GoyaWhere	element = {.up = &here,.index = i};
		JsonbValue	one;

		goya_json_view_elem(&v, i, &one);
		read_artifact(b, node, &element, &one, &node->artifacts[i]);
	}
}

/* ---- writes ---- */

static void
check_written_keys(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *writes, const char *part, const JsonbValue *declared)
{
	GoyaWhere	here = {.up = at,.key = part,.len = strlen(part)};
	JsonbValue	v;
	int			n;

	if (!goya_plan_field(writes, part, &v))
		return;
	if (!goya_json_view_is_object(&v))
	{
		goya_plan_wrong_type(b, &here, "an object of values by key", &v);
		return;
	}
	n = goya_json_view_length(&v);
	for (int i = 0; i < n; i++)
	{
		JsonbValue	key;
		JsonbValue	spec;
		JsonbValue	readonly;
		GoyaWhere	member = {.up = &here};

		goya_json_view_pair(&v, i, &key, NULL);
		member.key = key.val.string.val;
		member.len = key.val.string.len;
		if (!goya_json_view_get(declared, member.key, member.len, &spec))
			goya_plan_report(b, &member, "undeclared_key", psprintf("Declare it in context.%s.", part),
							 "%s.%s is written but not declared", part, goya_plan_clip(member.key, member.len));
		else if (goya_plan_field(&spec, "readonly", &readonly) && readonly.type == jbvBool && readonly.val.boolean)
			goya_plan_report(b, &member, "readonly_var", NULL, "%s.%s is readonly", part, goya_plan_clip(member.key, member.len));
	}
}

void
goya_plan_read_writes(GoyaPlanBuild *b, GoyaNode *node, const GoyaWhere *at, const JsonbValue *object)
{
	GoyaWhere	here = {.up = at,.key = "writes",.len = 6};
	JsonbValue	v;

	if (!goya_plan_field(object, "writes", &v))
		return;
	if (!goya_json_view_is_object(&v))
	{
		goya_plan_wrong_type(b, &here, "an object with \"vars\" or \"shared\"", &v);
		return;
	}
	goya_plan_check_fields(b, &here, &v, writes_fields, NULL);
	check_written_keys(b, &here, &v, "vars", &b->vars);
	check_written_keys(b, &here, &v, "shared", &b->shared);
	node->writes = goya_plan_template_value(b, &here, &v, b->roots | GOYA_ROOT_BIT(GOYA_ROOT_PARAMS) | GOYA_ROOT_BIT(GOYA_ROOT_OUTPUT),
											&node->refs);
}

/* ---- context ---- */

static bool
has_json_type(const JsonbValue *v, const char *type)
{
	double		d;

	if (strcmp(type, "any") == 0)
		return true;
	if (strcmp(type, "integer") == 0)
		return goya_json_view_double(v, &d) && (isinf(d) || d == floor(d));
	return strcmp(goya_json_view_type_name(v), type) == 0;
}

static void
read_declaration(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *spec, bool is_shared)
{
	int			type = -1;
	int			conflict = -1;
	JsonbValue	initial;

	if (!goya_json_view_is_object(spec))
	{
		goya_plan_wrong_type(b, at, "an object", spec);
		return;
	}
	goya_plan_check_fields(b, at, spec, is_shared ? shared_fields : var_fields, NULL);
	if (!goya_plan_choice(b, at, spec, "type", json_types, &type))
		type = -1;
	if (is_shared)
	{
		goya_plan_choice(b, at, spec, "conflict", conflicts, &conflict);
		goya_plan_bool(b, at, spec, "cas", false);
	}
	else
	{
		goya_plan_bool(b, at, spec, "required", false);
		goya_plan_bool(b, at, spec, "readonly", false);
	}
	if (type >= 0 && goya_plan_field(spec, "default", &initial) && !has_json_type(&initial, json_types[type]))
	{
		GoyaWhere	here = {.up = at,.key = "default",.len = 7};

		goya_plan_report(b, &here, "wrong_type", NULL, "the default is not of type %s", json_types[type]);
	}
}

static void
read_declarations(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *context, const char *part, JsonbValue *declared)
{
	GoyaWhere	here = {.up = at,.key = part,.len = strlen(part)};
	int			n;

	if (!goya_plan_field(context, part, declared))
	{
		declared->type = jbvNull;
		return;
	}
	if (!goya_json_view_is_object(declared))
		goya_plan_wrong_type(b, &here, "an object of declarations by key", declared);
	n = goya_json_view_is_object(declared) ? goya_json_view_length(declared) : 0;
	for (int i = 0; i < n; i++)
	{
		JsonbValue	key;
		JsonbValue	spec;
		GoyaWhere	member = {.up = &here};

		goya_json_view_pair(declared, i, &key, &spec);
		member.key = key.val.string.val;
		member.len = key.val.string.len;
		if (!goya_plan_key_is_good(member.key, member.len))
			goya_plan_report(b, &member, "bad_key", pstrdup("A key is a letter or _, then up to 62 letters, digits, _ or -."),
							 "\"%s\" is not a key", goya_plan_clip(member.key, member.len));
		read_declaration(b, &member, &spec, strcmp(part, "shared") == 0);
	}
}

void
goya_plan_read_context(GoyaPlanBuild *b, const GoyaWhere *at)
{
	GoyaWhere	here = {.up = at,.key = "context",.len = 7};
	JsonbValue	v;

	b->vars.type = b->shared.type = jbvNull;
	if (!goya_plan_field(&b->definition, "context", &v))
		return;
	if (!goya_json_view_is_object(&v))
	{
		goya_plan_wrong_type(b, &here, "an object with \"vars\" or \"shared\"", &v);
		return;
	}
	goya_plan_check_fields(b, &here, &v, writes_fields, NULL);
	read_declarations(b, &here, &v, "vars", &b->vars);
	read_declarations(b, &here, &v, "shared", &b->shared);
	b->plan->has_context = true;
	b->plan->context_spec = goya_json_from_view(&v);
}
