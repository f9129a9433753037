/*-------------------------------------------------------------------------
 * plan_node.c
 *		Lists the nodes of a definition and compiles the fields that every node has.
 *
 * First all keys, so that templates can name nodes that come later; then edges (plan_graph.c), so that a read of a direct predecessor
 * needs no further check; then the fields.  Hidden nodes (bodies of maps, compensations) are appended while their owners are compiled;
 * their number is counted beforehand, since pointers into plan->nodes must stay good.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "json_util.h"
#include "miscadmin.h"
#include "plan_internal.h"

static const char *const node_fields[] = {
	"key", "kind", "input", "retry", "timeout", "join", "compensate", "price", "cost_tag", "artifact", "writes", "idempotent",
	"label", "description", "position", "tags", "ui", NULL
};
static const char *const body_fields[] = {
	"key", "kind", "input", "retry", "timeout", "price", "cost_tag", "artifact", "writes", "idempotent",
	"label", "description", "position", "tags", "ui", "compensate", NULL
};
static const char *const compensation_fields[] = {
	"kind", "input", "retry", "timeout", "price", "cost_tag", "artifact", "writes", "idempotent",
	"label", "description", "position", "tags", "ui", NULL
};

/* ^[A-Za-z_][A-Za-z0-9_-]{0,62}$ */
bool
goya_plan_key_is_good(const char *key, int len)
{
	if (len < 1 || len > GOYA_MAX_KEY)
		return false;
	for (int i = 0; i < len; i++)
	{
		char		c = key[i];
		bool		letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';

		if (!letter && (i == 0 || !((c >= '0' && c <= '9') || c == '-')))
			return false;
	}
	return true;
}

/* Index of a node, hidden ones too; -1. */
int
goya_plan_find(const GoyaPlan *plan, const char *key, int len)
{
	char		buffer[GOYA_HASH_KEY];
	GoyaKeyEntry *entry;

	if (len >= GOYA_HASH_KEY || memchr(key, '\0', len) != NULL)
		return -1;
	memcpy(buffer, key, len);
	buffer[len] = '\0';
	entry = hash_search(plan->by_key, buffer, HASH_FIND, NULL);
	return entry ? entry->index : -1;
}

int
goya_plan_node_index(const GoyaPlan *plan, const char *key)
{
	return goya_plan_find(plan, key, strlen(key));
}

/* ---- listing ---- */

static void
make_key_table(GoyaPlanBuild *b)
{
	HASHCTL		ctl;

	memset(&ctl, 0, sizeof(ctl));
	ctl.keysize = GOYA_HASH_KEY;
	ctl.entrysize = sizeof(GoyaKeyEntry);
	ctl.hcxt = b->plan->cxt;
	b->plan->by_key = hash_create("goya plan keys", b->max_nodes, &ctl, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
}

static bool
is_map(const JsonbValue *node)
{
	JsonbValue	kind;

	return goya_plan_field(node, "kind", &kind) && kind.type == jbvString && kind.val.string.len == 3 &&
		memcmp(kind.val.string.val, "map", 3) == 0;
}

static int
count_hidden(const JsonbValue *node)
{
	JsonbValue	v;

	return (goya_plan_field(node, "compensate", &v) ? 1 : 0) + (is_map(node) ? 1 : 0) + goya_plan_agent_hidden(node);
}

static GoyaNode *
add_node(GoyaPlanBuild *b, const char *key)
{
	GoyaPlan   *plan = b->plan;
	GoyaNode   *node;

	if (plan->n_nodes >= b->max_nodes)
		elog(ERROR, "nodes of a definition were counted wrong");
	node = &plan->nodes[plan->n_nodes];
	node->index = plan->n_nodes++;
	node->key = pstrdup(key);
	node->owner = -1;
	node->compensate = -1;
	node->body = -1;
	node->idempotent = true;
	node->price_estimate = 1;
	return node;
}

/* Puts a node's key into the table; false when another has it. */
static bool
enter_key(GoyaPlanBuild *b, const GoyaNode *node)
{
	bool		found;
	GoyaKeyEntry *entry = hash_search(b->plan->by_key, node->key, HASH_ENTER, &found);

	if (!found)
		entry->index = node->index;
	return !found;
}

/* The key as written, or NULL when it cannot be one; problems are reported. */
static char *
read_key(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *object, bool required)
{
	JsonbValue	v;
	GoyaWhere	here = {.up = at,.key = "key",.len = 3};

	if (!goya_plan_field(object, "key", &v))
	{
		if (required)
			goya_plan_missing(b, at, "key");
		return NULL;
	}
	if (v.type != jbvString)
		goya_plan_wrong_type(b, &here, "a string", &v);
	else if (!goya_plan_key_is_good(v.val.string.val, v.val.string.len))
		goya_plan_report(b, &here, "bad_key", pstrdup("A key is a letter or _, then up to 62 letters, digits, _ or -."),
						 "\"%s\" is not a key", goya_plan_clip(v.val.string.val, v.val.string.len));
	else
		return pnstrdup(v.val.string.val, v.val.string.len);
	return NULL;
}

static void
report_duplicate(GoyaPlanBuild *b, const GoyaWhere *at, const char *key)
{
	GoyaWhere	here = {.up = at,.key = "key",.len = 3};

	goya_plan_report(b, &here, "duplicate_key", NULL, "another node has the key \"%s\"", key);
}

static void
list_node(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *object)
{
	char	   *key = NULL;
	GoyaNode   *node;

	if (goya_json_view_is_object(object))
		key = read_key(b, at, object, true);
	else
		goya_plan_wrong_type(b, at, "a node (an object)", object);
	/* a name for problems that no key can be mistaken for */
	node = add_node(b, key ? key : psprintf("#%d", b->plan->n_nodes));
	if (key == NULL)
		return;
	b->node_key = node->key;
	if (!enter_key(b, node))
		report_duplicate(b, at, key);
	b->node_key = NULL;
}

/* False when there is nothing to go on with. */
bool
goya_plan_list_nodes(GoyaPlanBuild *b)
{
	GoyaWhere	here = {.key = "nodes",.len = 5};
	JsonbValue *object = &b->nodes;
	int			n;
	int			hidden = 0;

	if (!goya_plan_field(&b->definition, "nodes", object))
	{
		goya_plan_missing(b, NULL, "nodes");
		return false;
	}
	if (!goya_json_view_is_array(object))
	{
		goya_plan_wrong_type(b, &here, "an array of nodes", object);
		return false;
	}
	n = goya_json_view_length(object);
	if (n == 0)
		goya_plan_report(b, &here, "no_nodes", pstrdup("The smallest workflow is {\"nodes\": [{\"key\": \"start\", \"kind\": \"noop\"}]}."),
						 "there are no nodes");
	else if (n > GOYA_MAX_NODES)
		goya_plan_report(b, &here, "too_many_nodes", pstrdup("Move parts into workflows of their own (kind workflow)."),
						 "there are %d nodes, at most %d are allowed", n, GOYA_MAX_NODES);
	if (n == 0 || n > GOYA_MAX_NODES)
		return false;

	b->raw = MemoryContextAlloc(b->scratch, sizeof(JsonbValue) * n);
	for (int i = 0; i < n; i++)
	{
		goya_json_view_elem(object, i, &b->raw[i]);
		hidden += count_hidden(&b->raw[i]);
	}
	b->max_nodes = n + hidden;
	b->plan->nodes = MemoryContextAllocHuge(b->plan->cxt, sizeof(GoyaNode) * b->max_nodes);
	memset(b->plan->nodes, 0, sizeof(GoyaNode) * b->max_nodes);
	make_key_table(b);
	for (int i = 0; i < n; i++)
	{
		GoyaWhere	element = {.up = &here,.index = i};

		list_node(b, &element, &b->raw[i]);
	}
	b->plan->n_listed = n;
	return true;
}

/* ---- compiling ---- */

static List *
sort_unique(List *list)
{
	List	   *result = NIL;
	ListCell   *lc;

	list_sort(list, list_int_cmp);
	foreach(lc, list)
	{
		if (result == NIL || llast_int(result) != lfirst_int(lc))
			result = lappend_int(result, lfirst_int(lc));
	}
	list_free(list);
	return result;
}

/* What the node's input is when it has none of its own. */
static void
add_default_refs(GoyaPlanBuild *b, GoyaNode *node)
{
	if (node->input != NULL)
		return;
	if (node->is_compensation)
		node->refs.roots |= GOYA_ROOT_BIT(GOYA_ROOT_OUTPUT);
	else if (node->hidden)
		node->refs.roots |= GOYA_ROOT_BIT(GOYA_ROOT_ITEM);
	else if (node->n_in == 0)
		node->refs.roots |= GOYA_ROOT_BIT(GOYA_ROOT_INPUT);
	else
	{
		node->refs.roots |= GOYA_ROOT_BIT(GOYA_ROOT_NODES);
		for (int i = 0; i < node->n_in; i++)
			node->refs.nodes = lappend_int(node->refs.nodes, b->plan->edges[node->in_edges[i]].from);
		node->refs.nodes = sort_unique(node->refs.nodes);
	}
}

static bool
read_kind(GoyaPlanBuild *b, GoyaNode *node, const GoyaWhere *at, const JsonbValue *object, bool *is_operator, const GoyaCustomKind **custom)
{
	GoyaWhere	here = {.up = at,.key = "kind",.len = 4};
	char	   *kind = goya_plan_text(b, at, object, "kind", true);

	if (kind == NULL)
		return false;
	if (goya_plan_kind(kind, strlen(kind), &node->kind, is_operator))
		return true;
	if (!b->resolved && b->lookups != NULL && b->lookups->node_kind != NULL && (*custom = b->lookups->node_kind(kind, b->lookups->arg)) != NULL)
	{
		node->kind = GOYA_NODE_SQL;
		return true;
	}
	goya_plan_report(b, &here, "unknown_kind", goya_plan_did_you_mean(goya_plan_nearest(kind, strlen(kind), goya_plan_kind_names())),
					 "there is no kind of node \"%s\"", goya_plan_clip(kind, strlen(kind)));
	return false;
}

static void compile_compensation(GoyaPlanBuild *b, GoyaNode *node, const GoyaWhere *at, const JsonbValue *object);

/* Sets what templates of the node may read.  A body stands where its map stands, a compensation behind the node it undoes. */
static void
enter_node(GoyaPlanBuild *b, GoyaNode *node)
{
	b->node_key = node->key[0] == '#' ? NULL : node->key;	/* not a made-up key */
	b->roots = GOYA_COMMON_ROOTS;
	if (node->is_compensation)
		b->roots |= GOYA_ROOT_BIT(GOYA_ROOT_OUTPUT);
	else if (node->hidden)
		b->roots |= GOYA_ITEM_ROOTS;
	b->reader = node->hidden ? node->owner : node->index;
	b->reader_too = node->is_compensation;
}

static void
compile_node(GoyaPlanBuild *b, GoyaNode *node, const GoyaWhere *at, const JsonbValue *object)
{
	static const char *const joins[] = {"all", "any", NULL};
	const GoyaCustomKind *custom = NULL;
	bool		is_operator = false;
	bool		known;
	int			join = 0;

	enter_node(b, node);
	known = read_kind(b, node, at, object, &is_operator, &custom);
	if (known && custom == NULL)
		goya_plan_check_fields(b, at, object, node->is_compensation ? compensation_fields : node->hidden ? body_fields : node_fields,
							   goya_plan_kind_fields(node->kind, is_operator));

	node->input = goya_plan_template(b, at, object, "input", b->roots, &node->refs);
	goya_plan_read_retry(b, at, object, &node->retry);
	if (known && node->kind == GOYA_NODE_MAP && node->retry.max_attempts > 1)
	{
		GoyaWhere	retry = {.up = at,.key = "retry",.len = 5};

		/* Its items have attempts of their own, and what of them succeeded is not to be done twice. */
		goya_plan_report(b, &retry, "bad_value", pstrdup("Put \"retry\" into the map's \"node\": each item is tried again."),
						 "a map is not tried again as a whole");
	}
	node->timeout_ms = goya_plan_duration(b, at, object, "timeout", 0, 1);
	if (!node->hidden && goya_plan_choice(b, at, object, "join", joins, &join))
		node->join_any = join == 1;
	node->idempotent = goya_plan_bool(b, at, object, "idempotent", node->kind != GOYA_NODE_MCP);
	goya_plan_read_cost_tag(b, node, at, object);
	goya_plan_read_price(b, node, at, object);
	goya_plan_read_artifacts(b, node, at, object);
	goya_plan_read_writes(b, node, at, object);
	if (!node->is_compensation)
		compile_compensation(b, node, at, object);
	enter_node(b, node);
	if (known && custom == NULL)
		goya_plan_read_schemas(b, node, at, object);
	if (custom != NULL)
		goya_plan_compile_custom(b, node, custom, node_fields, at, object);
	else if (known)
		goya_plan_compile_kind(b, node, is_operator, at, object);
	add_default_refs(b, node);
	if (node->refs.nodes != NIL || node->refs.all_nodes)
		node->refs.roots |= GOYA_ROOT_BIT(GOYA_ROOT_NODES);
}

static bool
can_compensate(GoyaNodeKind kind)
{
	return kind == GOYA_NODE_SQL || GOYA_NODE_CALLS(kind) || kind == GOYA_NODE_TRANSFORM || kind == GOYA_NODE_NOOP;
}

static void
compile_compensation(GoyaPlanBuild *b, GoyaNode *node, const GoyaWhere *at, const JsonbValue *object)
{
	GoyaWhere	here = {.up = at,.key = "compensate",.len = 10};
	GoyaWhere	kind = {.up = &here,.key = "kind",.len = 4};
	JsonbValue	v;
	JsonbValue	name;
	GoyaNodeKind found;
	bool		is_operator;
	GoyaNode   *undo;

	if (!goya_plan_field(object, "compensate", &v))
		return;
	if (node->hidden)
	{
		goya_plan_report(b, &here, "bad_value", pstrdup("Give the map a compensation; it gets the array of the items' outputs."),
						 "the body of a map cannot be compensated by itself");
		return;
	}
	if (!goya_json_view_is_object(&v))
	{
		goya_plan_wrong_type(b, &here, "a node without key (an object)", &v);
		return;
	}
	if (goya_plan_field(&v, "kind", &name) && name.type == jbvString &&
		goya_plan_kind(name.val.string.val, name.val.string.len, &found, &is_operator) && !can_compensate(found))
	{
		goya_plan_report(b, &kind, "bad_value", pstrdup("Kinds of compensations: sql, http, ai_model, mcp, cli, operator, transform, noop."),
						 "a compensation cannot be of kind %s", goya_plan_clip(name.val.string.val, name.val.string.len));
		return;
	}
	undo = add_node(b, psprintf("%s.compensate", node->key));
	undo->hidden = true;
	undo->is_compensation = true;
	undo->owner = node->index;
	node->compensate = undo->index;
	b->plan->has_compensation = true;
	enter_key(b, undo);
	compile_node(b, undo, &here, &v);
}

/* A hidden node that is run for its owner; which key it has is the caller's to say. */
GoyaNode *
goya_plan_compile_hidden(GoyaPlanBuild *b, const GoyaNode *owner, const char *key, const GoyaWhere *at, const JsonbValue *object)
{
	GoyaNode   *node = add_node(b, key);

	node->hidden = true;
	node->owner = owner->index;
	if (!enter_key(b, node))
		report_duplicate(b, at, node->key);
	compile_node(b, node, at, object);
	return node;
}

/* "workflow": "name", in the place of a body: a node of kind workflow that gets the item. */
static void
compile_short_body(GoyaPlanBuild *b, GoyaNode *map, const GoyaWhere *at, const JsonbValue *object)
{
	GoyaNode   *body = add_node(b, psprintf("%s.item", map->key));
	JsonbValue	nothing = {.type = jbvNull};

	body->hidden = true;
	body->owner = map->index;
	map->body = body->index;
	enter_key(b, body);
	enter_node(b, body);
	goya_plan_read_retry(b, at, &nothing, &body->retry);	/* defaults */
	body->kind = GOYA_NODE_WORKFLOW;
	goya_plan_compile_kind(b, body, false, at, object);
	add_default_refs(b, body);
}

/* "node" or "workflow" of a map. */
void
goya_plan_compile_body(GoyaPlanBuild *b, GoyaNode *map, const GoyaWhere *at, const JsonbValue *object)
{
	GoyaWhere	here = {.up = at,.key = "node",.len = 4};
	GoyaWhere	kind = {.up = &here,.key = "kind",.len = 4};
	JsonbValue	v;
	JsonbValue	name;
	bool		has_node = goya_plan_field(object, "node", &v);
	bool		has_workflow = goya_plan_field(object, "workflow", &name);
	GoyaNode   *body;
	char	   *key;

	if (has_node == has_workflow)
		goya_plan_report(b, at, has_node ? "bad_value" : "missing_field", NULL,
						 has_node ? "a map has \"node\" or \"workflow\", not both" : "\"node\" or \"workflow\" is missing");
	if (!has_node)
	{
		if (has_workflow)
			compile_short_body(b, map, at, object);
		return;
	}
	if (!goya_json_view_is_object(&v))
	{
		goya_plan_wrong_type(b, &here, "a node (an object)", &v);
		return;
	}
	if (is_map(&v))
	{
		goya_plan_report(b, &kind, "bad_value", pstrdup("Put the inner map into a workflow of its own, and use that as body."),
						 "a map cannot be the body of a map");
		return;
	}
	if (goya_plan_agent_hidden(&v) > 0)
	{
		goya_plan_report(b, &kind, "bad_value", pstrdup("Put the agent into a workflow of its own, and use that as body."),
						 "an agent cannot be the body of a map");
		return;
	}
	key = read_key(b, &here, &v, false);
	body = add_node(b, key ? key : psprintf("%s.item", map->key));
	body->hidden = true;
	body->owner = map->index;
	map->body = body->index;
	if (!enter_key(b, body))
		report_duplicate(b, &here, body->key);
	compile_node(b, body, &here, &v);
}

void
goya_plan_compile_nodes(GoyaPlanBuild *b)
{
	GoyaWhere	here = {.key = "nodes",.len = 5};

	for (int i = 0; i < b->plan->n_listed; i++)
	{
		GoyaWhere	element = {.up = &here,.index = i};

		CHECK_FOR_INTERRUPTS();
		if (goya_json_view_is_object(&b->raw[i]))
			compile_node(b, &b->plan->nodes[i], &element, &b->raw[i]);
		b->node_key = NULL;
	}
}
