/*-------------------------------------------------------------------------
 * plan_schema.c
 *		What a definition says of the schemas of its nodes, and what rows say of kinds: operators' schemas, algorithms, kinds of a tenant's own.
 *
 * Schemas.  A node that stands for an operator has the schemas of what goes in and comes out.  They are compiled with the plan, and checked when the node
 * runs (node_schema.c).  What can be said before it runs is said by validation, as schema_mismatch: a field that an input schema requires must come from
 * somewhere, and its type must be one the schema takes; an integer is a number.  What is upstream is known as far as output schemas and the workflow's own
 * input schema tell, and templates are followed through objects and plain paths.  What is not known is no problem.  A field that an output schema neither names nor
 * forbids may well be there: that is a warning.
 *
 * Only "type", "properties", "required" and "additionalProperties": false are looked at.  Whatever else a schema says, the run tells.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "json_util.h"
#include "plan_internal.h"
#include "schema.h"

/* ---- types ---- */

#define TYPE_NULL		0x01
#define TYPE_BOOLEAN	0x02
#define TYPE_INTEGER	0x04
#define TYPE_NUMBER		0x08	/* that is no integer */
#define TYPE_STRING		0x10
#define TYPE_ARRAY		0x20
#define TYPE_OBJECT		0x40
#define TYPE_ANY		0x7f

static const struct
{
	const char *name;
	int			types;
}			type_names[] = {
	{"null", TYPE_NULL}, {"boolean", TYPE_BOOLEAN}, {"number", TYPE_NUMBER | TYPE_INTEGER}, {"integer", TYPE_INTEGER},
	{"string", TYPE_STRING}, {"array", TYPE_ARRAY}, {"object", TYPE_OBJECT}
};

static int
named_type(const JsonbValue *name)
{
	for (size_t i = 0; name->type == jbvString && i < lengthof(type_names); i++)
	{
		if (strlen(type_names[i].name) == (size_t) name->val.string.len &&
			memcmp(type_names[i].name, name->val.string.val, name->val.string.len) == 0)
			return type_names[i].types;
	}
	return TYPE_ANY;
}

/* The types a schema takes, as far as "type" says. */
static int
schema_types(const JsonbValue *schema)
{
	JsonbValue	type;
	int			types = 0;

	if (!goya_json_view_get(schema, "type", 4, &type))
		return TYPE_ANY;
	if (!goya_json_view_is_array(&type))
		return named_type(&type);
	for (int i = 0; i < goya_json_view_length(&type); i++)
	{
		JsonbValue	one;

		goya_json_view_elem(&type, i, &one);
		types |= named_type(&one);
	}
	return types;
}

static int
value_type(const JsonbValue *v)
{
	if (goya_json_view_is_object(v))
		return TYPE_OBJECT;
	if (goya_json_view_is_array(v))
		return TYPE_ARRAY;
	switch (v->type)
	{
		case jbvNull:
			return TYPE_NULL;
		case jbvBool:
			return TYPE_BOOLEAN;
		case jbvString:
			return TYPE_STRING;
		default:
			return TYPE_NUMBER | TYPE_INTEGER;
	}
}

static char *
types_text(int types)
{
	StringInfoData s;

	initStringInfo(&s);
	for (size_t i = 0; i < lengthof(type_names); i++)
	{
		if ((types & type_names[i].types) == type_names[i].types && !(type_names[i].types == TYPE_INTEGER && (types & TYPE_NUMBER)))
			appendStringInfo(&s, "%s%s", s.len > 0 ? " or " : "", type_names[i].name);
	}
	return s.data;
}

/* ---- what is known of a value before there is one ---- */

typedef enum ShapeKind
{
	SHAPE_UNKNOWN,
	SHAPE_SCHEMA,				/* it fits this schema */
	SHAPE_VALUE,				/* it is this */
	SHAPE_TEMPLATE				/* it is what this template gives */
} ShapeKind;

typedef struct Shape
{
	ShapeKind	kind;
	JsonbValue	schema;			/* or value */
	const GoyaTemplate *template;
} Shape;

static Shape
schema_shape(Jsonb *schema)
{
	Shape		shape = {SHAPE_UNKNOWN};

	if (schema == NULL)
		return shape;
	shape.kind = SHAPE_SCHEMA;
	goya_json_view(schema, &shape.schema);
	return shape;
}

/* The shape of a member; *missing: what holds it says that there is none, *silent: it does not say. */
static Shape
member_shape(const Shape *of, const char *key, int len, bool *missing, bool *silent)
{
	Shape		shape = {SHAPE_UNKNOWN};
	JsonbValue	properties;
	JsonbValue	more;

	*missing = *silent = false;
	if (of->kind == SHAPE_TEMPLATE)
	{
		const GoyaTemplate *t = of->template;

		for (int i = 0; t->kind == GOYA_TEMPLATE_OBJECT && i < t->n; i++)
		{
			if (t->keys[i].val.string.len == len && memcmp(t->keys[i].val.string.val, key, len) == 0)
				return (Shape) {SHAPE_TEMPLATE,.template = t->parts[i]};
		}
		*missing = t->kind == GOYA_TEMPLATE_OBJECT;
		return shape;
	}
	if (of->kind == SHAPE_VALUE)
	{
		*missing = goya_json_view_is_object(&of->schema) && !goya_json_view_get(&of->schema, key, len, &shape.schema);
		shape.kind = *missing ? SHAPE_UNKNOWN : SHAPE_VALUE;
		return shape;
	}
	if (of->kind != SHAPE_SCHEMA || !goya_json_view_get(&of->schema, "properties", 10, &properties))
		return shape;
	if (goya_json_view_get(&properties, key, len, &shape.schema))
	{
		shape.kind = SHAPE_SCHEMA;
		return shape;
	}
	*missing = goya_json_view_get(&of->schema, "additionalProperties", 20, &more) && more.type == jbvBool && !more.val.boolean;
	*silent = !*missing && !goya_json_view_get(&of->schema, "$ref", 4, &more) && !goya_json_view_get(&of->schema, "allOf", 5, &more);
	return shape;
}

/* What a plain path leads to. */
static Shape
path_shape(GoyaPlanBuild *b, const GoyaDotted *path)
{
	Shape		shape = {SHAPE_UNKNOWN};
	int			i = 0;
	bool		missing;
	bool		silent;

	if (path->root == GOYA_ROOT_INPUT)
		shape = schema_shape(b->plan->input_schema);
	else if (path->root == GOYA_ROOT_NODES && path->node >= 0 && path->n_steps > 0 && path->steps[0].key != NULL &&
			 strcmp(path->steps[0].key, "output") == 0)
	{
		shape = schema_shape(b->plan->nodes[path->node].output_schema);
		i = 1;
	}
	for (; i < path->n_steps && shape.kind != SHAPE_UNKNOWN; i++)
	{
		if (path->steps[i].key == NULL || path->steps[i].has_index)
			return (Shape) {SHAPE_UNKNOWN};
		shape = member_shape(&shape, path->steps[i].key, path->steps[i].len, &missing, &silent);
	}
	return shape;
}

/* Types a value of that shape may have. */
static int
shape_types(const Shape *shape)
{
	if (shape->kind == SHAPE_SCHEMA)
		return schema_types(&shape->schema);
	if (shape->kind == SHAPE_VALUE)
		return value_type(&shape->schema);
	if (shape->kind == SHAPE_UNKNOWN)
		return TYPE_ANY;
	switch (shape->template->kind)
	{
		case GOYA_TEMPLATE_TEXT:
			return TYPE_STRING;
		case GOYA_TEMPLATE_OBJECT:
			return TYPE_OBJECT;
		case GOYA_TEMPLATE_ARRAY:
			return TYPE_ARRAY;
		default:
			return TYPE_ANY;
	}
}

/* ---- does it fit ---- */

#define MAX_NESTING 16

static void
check_shape(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *wanted, Shape shape, const char *field, int depth)
{
	int			takes = schema_types(wanted);
	int			gives;
	JsonbValue	required;
	JsonbValue	properties;

	if (shape.kind == SHAPE_TEMPLATE && shape.template->kind == GOYA_TEMPLATE_DOTTED)
		shape = path_shape(b, shape.template->dotted);
	else if (shape.kind == SHAPE_TEMPLATE && shape.template->kind == GOYA_TEMPLATE_CONSTANT)
		shape = (Shape) {SHAPE_VALUE,.schema = shape.template->view};
	gives = shape_types(&shape);
	if ((takes & gives) == 0)
	{
		goya_plan_report(b, at, "schema_mismatch", pstrdup("Change the node's \"input\", or put a node of kind transform before it."),
						 "%s is %s, and the node takes %s", field[0] ? psprintf("\"%s\" of the input", field) : "the input", types_text(gives), types_text(takes));
		return;
	}
	if (shape.kind == SHAPE_UNKNOWN || depth > MAX_NESTING || !(gives & TYPE_OBJECT))
		return;
	if (!goya_json_view_get(wanted, "required", 8, &required) || !goya_json_view_is_array(&required))
		return;
	for (int i = 0; i < goya_json_view_length(&required); i++)
	{
		JsonbValue	name;
		JsonbValue	inner;
		bool		missing;
		bool		silent;
		char	   *path;
		Shape		member;

		goya_json_view_elem(&required, i, &name);
		if (name.type != jbvString)
			continue;
		path = psprintf("%s%s%s", field, field[0] ? "." : "", goya_plan_clip(name.val.string.val, name.val.string.len));
		member = member_shape(&shape, name.val.string.val, name.val.string.len, &missing, &silent);
		if (missing)
			goya_plan_report(b, at, "schema_mismatch", pstrdup("Say where it comes from in the node's \"input\"."),
							 "the node requires \"%s\", which its input does not have", path);
		else if (silent)
			goya_plan_warn(b, at, "schema_mismatch", pstrdup("Name it in the output schema upstream, or in the node's \"input\"."),
						   "the node requires \"%s\", which nothing upstream promises", path);
		else if (goya_json_view_get(wanted, "properties", 10, &properties) &&
				 goya_json_view_get(&properties, name.val.string.val, name.val.string.len, &inner))
			check_shape(b, at, &inner, member, path, depth + 1);
	}
}

/* What goes into a node that has no "input" of its own. */
static Shape
default_shape(GoyaPlanBuild *b, const GoyaNode *node)
{
	const GoyaEdge *edge;

	if (node->hidden || node->n_in > 1)
		return (Shape) {SHAPE_UNKNOWN};
	if (node->n_in == 0)
		return schema_shape(b->plan->input_schema);
	edge = &b->plan->edges[node->in_edges[0]];
	if (edge->on != GOYA_ON_SUCCESS)
		return (Shape) {SHAPE_UNKNOWN};	/* there is no output behind a failure */
	return schema_shape(b->plan->nodes[edge->from].output_schema);
}

/* Several predecessors give an object by key: what is required must be one of them. */
static void
check_joined(GoyaPlanBuild *b, const GoyaNode *node, const GoyaWhere *at, const JsonbValue *wanted)
{
	JsonbValue	required;

	if (!goya_json_view_get(wanted, "required", 8, &required) || !goya_json_view_is_array(&required))
		return;
	for (int i = 0; i < goya_json_view_length(&required); i++)
	{
		JsonbValue	name;
		bool		found = false;

		goya_json_view_elem(&required, i, &name);
		for (int e = 0; name.type == jbvString && e < node->n_in && !found; e++)
		{
			const char *key = b->plan->nodes[b->plan->edges[node->in_edges[e]].from].key;

			found = strlen(key) == (size_t) name.val.string.len && memcmp(key, name.val.string.val, name.val.string.len) == 0;
		}
		if (!found && name.type == jbvString)
			goya_plan_report(b, at, "schema_mismatch", pstrdup("Without \"input\", a node with several predecessors gets their outputs by key."),
							 "the node requires \"%s\", which its input does not have", goya_plan_clip(name.val.string.val, name.val.string.len));
	}
}

/* Every node whose input schema is known: does what comes in fit, as far as can be said? */
void
goya_plan_check_connections(GoyaPlanBuild *b)
{
	GoyaWhere	nodes = {.key = "nodes",.len = 5};

	for (int i = 0; i < b->plan->n_nodes; i++)
	{
		const GoyaNode *node = &b->plan->nodes[i];
		GoyaWhere	at = {.up = &nodes,.index = node->hidden ? node->owner : i};
		JsonbValue	wanted;

		if (node->input_schema == NULL || node->wrap != NULL || node->key[0] == '#' || (node->hidden && b->plan->nodes[node->owner].hidden))
			continue;
		b->node_key = node->key;
		goya_json_view(node->input_schema, &wanted);
		if (node->input != NULL)
			check_shape(b, &at, &wanted, (Shape) {SHAPE_TEMPLATE,.template = node->input}, "", 0);
		else if (!node->hidden && node->n_in > 1)
			check_joined(b, node, &at, &wanted);
		else
			check_shape(b, &at, &wanted, default_shape(b, node), "", 0);
		b->node_key = NULL;
	}
}

/* ---- schemas of a node ---- */

/* A schema that says something, or NULL; *check is its compiled form when the node will run. */
static Jsonb *
keep_schema(GoyaPlanBuild *b, Jsonb *schema, GoyaSchema **check)
{
	char	   *error = NULL;

	if (schema == NULL || !goya_json_is_object(schema) || goya_json_object_length(schema) == 0)
		return NULL;
	if (b->resolved)
		*check = goya_schema_compile(schema, &error);
	return schema;
}

void
goya_plan_set_schemas(GoyaPlanBuild *b, GoyaNode *node, Jsonb *input, Jsonb *output)
{
	node->input_schema = keep_schema(b, input, &node->input_check);
	node->output_schema = keep_schema(b, output, &node->output_check);
}

/* "input_schema" and "output_schema", where the kind has them. */
void
goya_plan_read_schemas(GoyaPlanBuild *b, GoyaNode *node, const GoyaWhere *at, const JsonbValue *object)
{
	Jsonb	   *input = goya_plan_schema(b, at, object, "input_schema");
	Jsonb	   *output = goya_plan_schema(b, at, object, "output_schema");

	if (input != NULL || output != NULL)
		goya_plan_set_schemas(b, node, input, output);
}

/* ---- algorithms ---- */

static const char *const policies[] = {"stable", "high_quality", "low_cost", NULL};

/* Not yet replaced by its candidates: only checked. */
void
goya_plan_compile_algorithm(GoyaPlanBuild *b, GoyaNode *node, const GoyaWhere *at, const JsonbValue *object)
{
	GoyaWhere	here = {.up = at,.key = "algorithm",.len = 9};
	char	   *name = goya_plan_text(b, at, object, "algorithm", true);
	int			version = (int) goya_plan_int(b, at, object, "version", 0, 1, PG_INT32_MAX);
	GoyaOperatorFacts facts = {0};
	int			policy;
	char	   *shown;

	(void) goya_plan_choice(b, at, object, "policy", policies, &policy);
	(void) goya_plan_text(b, at, object, "tier", false);
	if (name == NULL)
		return;
	shown = goya_plan_clip(name, strlen(name));
	if (b->resolved)
		goya_plan_report(b, &here, "unknown_algorithm", pstrdup("Publish the workflow again."), "algorithm \"%s\" has not been resolved", shown);
	if (b->resolved || b->lookups == NULL || b->lookups->algorithm_facts == NULL)
		return;
	if (!b->lookups->algorithm_facts(name, version, &facts, b->lookups->arg))
		goya_plan_report(b, &here, "unknown_algorithm", pstrdup("SELECT name, active_version FROM goya.algorithms lists them."),
						 version > 0 ? "there is no algorithm \"%s\" with that version" : "there is no algorithm \"%s\"", shown);
	else if (facts.status == NULL)
		goya_plan_report(b, &here, "unknown_algorithm", pstrdup("goya.add_implementation adds one."),
						 "algorithm \"%s\" has no implementation that is enabled and published", shown);
	else
		goya_plan_set_schemas(b, node, facts.input_schema, facts.output_schema);
}

/* What publishing has made of an algorithm: a workflow to be chosen among candidates when the node runs. */
bool
goya_plan_read_choice(GoyaPlanBuild *b, GoyaNode *node, const GoyaWhere *at, const JsonbValue *object)
{
	static const char *const kept[] = {"algorithm", "version", "policy", "candidates", NULL};
	GoyaWhere	here = {.up = at,.key = "candidates",.len = 10};
	GoyaJsonObject o;
	JsonbValue	v;
	int			policy;

	if (!goya_plan_field(object, "candidates", &v))
		return false;
	if (!goya_json_view_is_array(&v) || goya_json_view_length(&v) == 0)
	{
		goya_plan_wrong_type(b, &here, "an array of candidates, as publishing makes it,", &v);
		return true;
	}
	(void) goya_plan_text(b, at, object, "algorithm", true);
	(void) goya_plan_int(b, at, object, "version", 1, 1, PG_INT32_MAX);
	(void) goya_plan_choice(b, at, object, "policy", policies, &policy);
	goya_json_object_start(&o);
	for (int i = 0; kept[i] != NULL; i++)
	{
		if (goya_plan_field(object, kept[i], &v))
			goya_json_add(&o, kept[i], goya_json_from_view(&v));
	}
	node->choice = goya_json_object_finish(&o);
	return true;
}

/* ---- kinds of a tenant's own ---- */

static bool
in_list(const char *const *list, const JsonbValue *name)
{
	for (; *list != NULL; list++)
	{
		if (strlen(*list) == (size_t) name->val.string.len && memcmp(*list, name->val.string.val, name->val.string.len) == 0)
			return true;
	}
	return false;
}

/* A problem with what may become something else when the node runs is none. */
static bool
is_about_template(const JsonbValue *config, const char *pointer)
{
	JsonbValue	v = *config;
	const char *s = pointer;

	while (*s == '/' && goya_json_view_is_object(&v))
	{
		const char *end = strchr(s + 1, '/');
		int			len = end ? end - s - 1 : strlen(s + 1);
		JsonbValue	inner;

		if (!goya_json_view_get(&v, s + 1, len, &inner))
			return false;
		v = inner;
		s += len + 1;
	}
	if (v.type == jbvString)
		return v.val.string.len >= 4 && memmem(v.val.string.val, v.val.string.len, "{{", 2) != NULL;
	return goya_json_view_is_array(&v) && *s != '\0';
}

static void
check_custom_fields(GoyaPlanBuild *b, const GoyaWhere *at, const GoyaCustomKind *kind, Jsonb *config)
{
	char	   *error = NULL;
	GoyaSchema *schema = goya_schema_compile(kind->schema, &error);
	JsonbValue	view;
	ListCell   *lc;

	if (schema == NULL)
		return;
	goya_json_view(config, &view);
	foreach(lc, goya_schema_check(schema, config, 20))
	{
		GoyaSchemaError *e = lfirst(lc);

		if (!is_about_template(&view, e->path))
			goya_plan_report(b, at, "bad_field", e->hint ? pstrdup(e->hint) : NULL, "%s%s%s", e->path[0] ? e->path + 1 : "", e->path[0] ? ": " : "",
							 e->message);
	}
}

/* The fields that not every node has are the kind's own: templates, which together are its configuration. */
void
goya_plan_compile_custom(GoyaPlanBuild *b, GoyaNode *node, const GoyaCustomKind *kind, const char *const *common, const GoyaWhere *at,
						 const JsonbValue *object)
{
	GoyaJsonObject o;
	Jsonb	   *config;
	JsonbValue	view;

	node->function = pstrdup(kind->function);
	goya_json_object_start(&o);
	for (int i = 0; i < goya_json_view_length(object); i++)
	{
		JsonbValue	key;
		JsonbValue	value;

		goya_json_view_pair(object, i, &key, &value);
		if (!in_list(common, &key))
			goya_json_add(&o, pnstrdup(key.val.string.val, key.val.string.len), goya_json_from_view(&value));
	}
	config = goya_json_object_finish(&o);
	goya_json_view(config, &view);
	node->wrap = goya_plan_template_value(b, at, &view, b->roots | GOYA_ROOT_BIT(GOYA_ROOT_PARAMS), &node->refs);
	check_custom_fields(b, at, kind, config);
}
