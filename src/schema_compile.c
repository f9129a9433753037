/*
 * schema_compile.c
 *	  JSON Schema: from a jsonb document to a graph of nodes.
 *
 * Keywords are driven by the table in schema_keyword.c.  References are
 * collected while compiling and resolved from a list afterwards, so that
 * neither long chains nor cycles recurse.  At the end every chain of schemas
 * that apply to the same value is measured: endless ones and very long ones
 * are refused here, which bounds the recursion of the checker.
 *
 * Memory: nodes in the context current at compile, the place table in a
 * scratch context that is deleted before returning.
 */
#include "postgres.h"

#include "schema_internal.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

/* A $ref or $dynamicRef waiting for its target. */
typedef struct PendingRef
{
	GoyaSchemaNode *node;
	char	   *ref;
	bool		dynamic;
} PendingRef;

static GoyaSchemaNode *compile_object(GoyaSchemaCompiler *cc,
									  JsonbContainer *at);

/* Record the first problem of the schema; later ones are dropped. */
void
goya_schema_fail(GoyaSchemaCompiler *cc, const char *location,
				 const char *keyword, const char *fmt,...)
{
	StringInfoData buf;
	va_list		args;
	int			needed;

	if (cc->error != NULL)
		return;
	initStringInfo(&buf);
	do
	{
		va_start(args, fmt);
		needed = appendStringInfoVA(&buf, fmt, args);
		va_end(args);
		if (needed != 0)
			enlargeStringInfo(&buf, needed);
	} while (needed != 0);
	appendStringInfo(&buf, " (at %s)", keyword == NULL ? location :
					 goya_schema_child_location(location, keyword, -1));
	cc->error = buf.data;
}

/* location + "/" + key with the escapes of JSON Pointer; len -1 = strlen. */
char *
goya_schema_child_location(const char *location, const char *key, int len)
{
	StringInfoData buf;

	if (len < 0)
		len = (int) strlen(key);
	initStringInfo(&buf);
	appendStringInfoString(&buf, location);
	appendStringInfoChar(&buf, '/');
	for (int i = 0; i < len; i++)
	{
		if (key[i] == '~')
			appendStringInfoString(&buf, "~0");
		else if (key[i] == '/')
			appendStringInfoString(&buf, "~1");
		else
			appendStringInfoChar(&buf, key[i]);
	}
	return buf.data;
}

void
goya_schema_container_value(JsonbContainer *at, JsonbValue *value)
{
	value->type = jbvBinary;
	value->val.binary.data = at;
	value->val.binary.len = 0;	/* not used when reading in place */
}

void
goya_schema_root_value(Jsonb *jb, JsonbValue *value)
{
	if (JB_ROOT_IS_SCALAR(jb))
		(void) JsonbExtractScalar(&jb->root, value);
	else
		goya_schema_container_value(&jb->root, value);
}

/* A schema: true, false or an object that the scan has seen. */
static GoyaSchemaNode *
compile_value(GoyaSchemaCompiler *cc, JsonbValue *v, const char *location,
			  const char *keyword)
{
	if (v->type == jbvBool)
		return v->val.boolean ? cc->always : cc->never;
	if (goya_schema_is_container(v, true))
		return compile_object(cc, v->val.binary.data);
	goya_schema_fail(cc, location, keyword,
					 "expected a schema (object, true or false), got %s",
					 goya_schema_type_name(v));
	return NULL;
}

static GoyaSchemaList *
compile_list(GoyaSchemaCompiler *cc, JsonbValue *v, const char *location,
			 const char *keyword, bool may_be_empty)
{
	GoyaSchemaList *list = palloc0(sizeof(GoyaSchemaList));
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	item;

	if (!goya_schema_is_container(v, false) ||
		(!may_be_empty && JsonContainerSize(v->val.binary.data) == 0))
	{
		goya_schema_fail(cc, location, keyword, "expected a %sarray of schemas",
						 may_be_empty ? "" : "non-empty ");
		return NULL;
	}
	list->nodes = palloc0(sizeof(GoyaSchemaNode *) *
						  (JsonContainerSize(v->val.binary.data) + 1));
	it = JsonbIteratorInit(v->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &item, true)) != WJB_DONE)
	{
		if (token != WJB_ELEM)
			continue;
		list->nodes[list->count] = compile_value(cc, &item, location, keyword);
		if (list->nodes[list->count++] == NULL)
			return NULL;
	}
	return list;
}

static void
set_key(GoyaSchemaKey *key, JsonbValue *name)
{
	key->name = pnstrdup(name->val.string.val, name->val.string.len);
	key->len = name->val.string.len;
}

/* An array of strings, as a map with names only. */
static GoyaSchemaMap *
compile_strings(GoyaSchemaCompiler *cc, JsonbValue *v, const char *location,
				const char *keyword)
{
	GoyaSchemaMap *map = palloc0(sizeof(GoyaSchemaMap));
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	item;

	if (goya_schema_is_container(v, false))
	{
		map->keys = palloc0(sizeof(GoyaSchemaKey) *
							(JsonContainerSize(v->val.binary.data) + 1));
		it = JsonbIteratorInit(v->val.binary.data);
		while ((token = JsonbIteratorNext(&it, &item, true)) != WJB_DONE)
		{
			if (token == WJB_ELEM && item.type != jbvString)
				break;
			if (token == WJB_ELEM)
				set_key(&map->keys[map->count++], &item);
		}
		if (token == WJB_DONE)
			return map;
	}
	goya_schema_fail(cc, location, keyword, "expected an array of strings");
	return NULL;
}

/* Fill one entry of a map by its shape. */
static bool
compile_entry(GoyaSchemaCompiler *cc, GoyaSchemaKey *key, JsonbValue *v,
			  GoyaSchemaShape shape, const char *location, const char *keyword)
{
	char	   *error = NULL;
	const char *place = goya_schema_child_location(location, keyword, -1);

	if (shape == SHAPE_STRINGS_MAP ||
		(shape == SHAPE_DEPENDENCIES && goya_schema_is_container(v, false)))
	{
		key->needs = compile_strings(cc, v, place, key->name);
		return key->needs != NULL;
	}
	if (shape == SHAPE_PATTERN_MAP)
	{
		key->regex = goya_schema_regex_compile(key->name, key->len, &error);
		if (key->regex == NULL)
		{
			goya_schema_fail(cc, place, key->name,
							 "%s is not a usable regular expression: %s",
							 goya_schema_quote(key->name, key->len), error);
			return false;
		}
	}
	key->node = compile_value(cc, v, place, key->name);
	return key->node != NULL;
}

static GoyaSchemaMap *
compile_map(GoyaSchemaCompiler *cc, JsonbValue *v, GoyaSchemaShape shape,
			const char *location, const char *keyword)
{
	GoyaSchemaMap *map = palloc0(sizeof(GoyaSchemaMap));
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	item;

	if (!goya_schema_is_container(v, true))
	{
		goya_schema_fail(cc, location, keyword, "expected an object, got %s",
						 goya_schema_type_name(v));
		return NULL;
	}
	map->keys = palloc0(sizeof(GoyaSchemaKey) *
						(JsonContainerSize(v->val.binary.data) + 1));
	it = JsonbIteratorInit(v->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &item, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			set_key(&map->keys[map->count++], &item);
		else if (token == WJB_VALUE &&
				 !compile_entry(cc, &map->keys[map->count - 1], &item, shape,
								location, keyword))
			return NULL;
	}
	return map;
}

/* items: one schema, or in the older drafts a list that is a prefix. */
static bool
compile_items(GoyaSchemaCompiler *cc, GoyaSchemaNode *node, JsonbValue *v)
{
	if (!goya_schema_is_container(v, false))
	{
		node->rest = compile_value(cc, v, node->location, "items");
		return node->rest != NULL;
	}
	if (node->resource->dialect == GOYA_DIALECT_2020)
	{
		goya_schema_fail(cc, node->location, "items",
						 "expected one schema, use \"prefixItems\" for a list");
		return false;
	}
	node->prefix = compile_list(cc, v, node->location, "items", true);
	return node->prefix != NULL;
}

static bool
compile_keyword(GoyaSchemaCompiler *cc, GoyaSchemaNode *node,
				const GoyaSchemaKeyword *kw, JsonbValue *v)
{
	void	   *field = (char *) node + kw->offset;
	GoyaSchemaMap **map = (GoyaSchemaMap **) field;
	GoyaSchemaList **list = (GoyaSchemaList **) field;
	GoyaSchemaNode **child = (GoyaSchemaNode **) field;

	switch (kw->shape)
	{
		case SHAPE_STRINGS:
			*map = compile_strings(cc, v, node->location, kw->name);
			return *map != NULL;
		case SHAPE_STRINGS_MAP:
		case SHAPE_SCHEMA_MAP:
		case SHAPE_PATTERN_MAP:
		case SHAPE_DEPENDENCIES:
			*map = compile_map(cc, v, kw->shape, node->location, kw->name);
			return *map != NULL;
		case SHAPE_SCHEMA:
			*child = compile_value(cc, v, node->location, kw->name);
			return *child != NULL;
		case SHAPE_SCHEMA_LIST:
			*list = compile_list(cc, v, node->location, kw->name, false);
			return *list != NULL;
		case SHAPE_ITEMS:
			return compile_items(cc, node, v);
		default:
			return goya_schema_compile_plain(cc, node, kw, v);
	}
}

/* $ref and $dynamicRef; false = wrong, *found says whether there is one. */
static bool
compile_reference(GoyaSchemaCompiler *cc, GoyaSchemaNode *node,
				  JsonbContainer *at, const char *keyword, bool *found)
{
	JsonbValue	v;
	PendingRef *pending;

	*found = getKeyJsonValueFromContainer(at, keyword, strlen(keyword),
										  &v) != NULL;
	if (!*found)
		return true;
	if (v.type != jbvString)
	{
		goya_schema_fail(cc, node->location, keyword,
						 "expected a string, got %s",
						 goya_schema_type_name(&v));
		return false;
	}
	pending = palloc(sizeof(PendingRef));
	pending->node = node;
	pending->ref = pnstrdup(v.val.string.val, v.val.string.len);
	pending->dynamic = (keyword[1] == 'd');
	cc->pending = lappend(cc->pending, pending);
	return true;
}

static bool
compile_keywords(GoyaSchemaCompiler *cc, GoyaSchemaNode *node,
				 JsonbContainer *at)
{
	JsonbIterator *it = JsonbIteratorInit(at);
	JsonbIteratorToken token;
	JsonbValue	key;
	JsonbValue	v;

	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		const GoyaSchemaKeyword *kw;

		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &v, true);
		kw = goya_schema_find_keyword(key.val.string.val, key.val.string.len,
									  node->resource->dialect);
		if (kw == NULL)
			continue;
		if (node->resource->omitted && goya_schema_is_omitted(node->resource->omitted, kw))
			continue;
		if (!compile_keyword(cc, node, kw, &v))
			return false;
	}
	return true;
}

/* Compile the schema object at a place the scan has noted. */
static GoyaSchemaNode *
compile_object(GoyaSchemaCompiler *cc, JsonbContainer *at)
{
	GoyaSchemaPlace *place = goya_schema_find_place(cc, at);
	GoyaSchemaNode *node;
	bool		has_ref;
	bool		found;

	Assert(place != NULL);
	if (place->node != NULL)
		return place->node;
	node = place->node = goya_schema_make_node(place);
	cc->nodes = lappend(cc->nodes, node);
	if (!compile_reference(cc, node, at, "$ref", &has_ref))
		return NULL;
	if (has_ref && node->resource->dialect == GOYA_DIALECT_7)
		return node;			/* draft 7: $ref hides its siblings */
	if ((node->resource->dialect & GOYA_DIALECT_NEW) &&
		!compile_reference(cc, node, at, "$dynamicRef", &found))
		return NULL;
	if (!compile_keywords(cc, node, at))
		return NULL;

	/* The list form of items hands the rest to additionalItems. */
	if (node->prefix != NULL && node->rest == NULL)
		node->rest = node->additional_items;
	return node;
}

/* Give every collected reference its target; may find more on the way. */
static bool
resolve_pending(GoyaSchemaCompiler *cc)
{
	while (cc->pending != NIL)
	{
		PendingRef *p = llast(cc->pending);
		GoyaSchemaTarget target;
		GoyaSchemaNode *node;
		const char *keyword = p->dynamic ? "$dynamicRef" : "$ref";

		CHECK_FOR_INTERRUPTS();
		cc->pending = list_delete_last(cc->pending);
		if (!goya_schema_resolve(cc, p->ref, p->node->resource,
								 p->node->location, keyword, &target))
			return false;
		node = compile_value(cc, &target.value, p->node->location, keyword);
		if (node == NULL)
			return false;
		if (!p->dynamic)
			p->node->ref = node;
		else
		{
			p->node->dynamic_ref = node;
			if (target.by_name && target.dynamic)
				p->node->dynamic_name = target.name;
		}
	}
	return true;
}

/* Point dynamic anchors at their nodes. */
static bool
bind_anchors(GoyaSchemaCompiler *cc)
{
	ListCell   *lr;
	ListCell   *la;

	foreach(lr, cc->resources)
	{
		foreach(la, ((GoyaSchemaResource *) lfirst(lr))->anchors)
		{
			GoyaSchemaAnchor *anchor = lfirst(la);

			if (anchor->dynamic)
				anchor->node = compile_object(cc, anchor->at);
			if (cc->error != NULL)
				return false;
		}
	}
	return resolve_pending(cc);
}

static int	measure_chain(GoyaSchemaCompiler *cc, GoyaSchemaNode *node);

static int
measure_list(GoyaSchemaCompiler *cc, GoyaSchemaList *list)
{
	int			height = 0;

	for (int i = 0; list != NULL && i < list->count; i++)
		height = Max(height, measure_chain(cc, list->nodes[i]));
	return height;
}

static int
measure_map(GoyaSchemaCompiler *cc, GoyaSchemaMap *map)
{
	int			height = 0;

	for (int i = 0; map != NULL && i < map->count; i++)
		height = Max(height, measure_chain(cc, map->keys[i].node));
	return height;
}

/*
 * How many schemas in a row apply to the same value from this one on.  Records
 * an error if it never ends or is more than the checker will follow.
 */
static int
measure_chain(GoyaSchemaCompiler *cc, GoyaSchemaNode *node)
{
	int			height;

	if (node == NULL || node->verdict != 0 || cc->error != NULL)
		return 0;
	if (node->chain > 0)
		return node->chain;
	if (node->chain < 0)
	{
		goya_schema_fail(cc, node->location, NULL,
						 "references go round in a circle");
		return 0;
	}
	node->chain = -1;
	if (stack_is_too_deep())
		height = GOYA_SCHEMA_MAX_CHAIN;
	else
	{
		height = Max(measure_chain(cc, node->ref),
					 measure_chain(cc, node->dynamic_ref));
		height = Max(height, measure_list(cc, node->all_of));
		height = Max(height, measure_list(cc, node->any_of));
		height = Max(height, measure_list(cc, node->one_of));
		height = Max(height, measure_chain(cc, node->negated));
		height = Max(height, measure_chain(cc, node->condition));
		height = Max(height, measure_chain(cc, node->then_node));
		height = Max(height, measure_chain(cc, node->else_node));
		height = Max(height, measure_map(cc, node->dependent_schemas));
		height = Max(height, measure_map(cc, node->dependencies));
	}
	node->chain = height + 1;
	if (node->chain > GOYA_SCHEMA_MAX_CHAIN)
		goya_schema_fail(cc, node->location, NULL,
						 "more than %d schemas refer to one another in a row",
						 GOYA_SCHEMA_MAX_CHAIN);
	return node->chain;
}

/*
 * Measure from every node, as a circle may start below properties or items; in
 * order, so that the same schema always has the same error.
 */
static bool
measure_chains(GoyaSchemaCompiler *cc)
{
	ListCell   *lc;

	foreach(lc, cc->nodes)
		(void) measure_chain(cc, lfirst(lc));
	list_free(cc->nodes);
	return cc->error == NULL;
}

static void
init_compiler(GoyaSchemaCompiler *cc)
{
	HASHCTL		ctl;

	memset(cc, 0, sizeof(*cc));
	cc->scratch = AllocSetContextCreate(CurrentMemoryContext,
										"goya schema compiler",
										ALLOCSET_DEFAULT_SIZES);
	memset(&ctl, 0, sizeof(ctl));
	ctl.keysize = sizeof(JsonbContainer *);
	ctl.entrysize = sizeof(GoyaSchemaPlace);
	ctl.hcxt = cc->scratch;
	cc->places = hash_create("goya schema places", 64, &ctl,
							 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	cc->always = goya_schema_make_node(NULL);
	cc->always->verdict = 1;
	cc->never = goya_schema_make_node(NULL);
	cc->never->verdict = -1;
}

/* Everything of a schema that is already copied; the root, NULL when wrong. */
static GoyaSchemaNode *
compile_document(GoyaSchemaCompiler *cc, Jsonb *document)
{
	GoyaSchemaNode *node;
	JsonbValue	root;

	goya_schema_root_value(document, &root);
	if (goya_schema_is_container(&root, true) &&
		(!goya_schema_read_documents(cc, root.val.binary.data) ||
		 !goya_schema_scan_document(cc, root.val.binary.data, "")))
		return NULL;
	node = compile_value(cc, &root, "#", NULL);
	if (node == NULL || !resolve_pending(cc) || !bind_anchors(cc) ||
		!measure_chains(cc))
		return NULL;
	return node;
}

GoyaSchema *
goya_schema_compile(Jsonb *schema, char **error)
{
	GoyaSchema *result = palloc0(sizeof(GoyaSchema));
	GoyaSchemaCompiler cc;

	init_compiler(&cc);
	result->document = memcpy(palloc(VARSIZE(schema)), schema, VARSIZE(schema));
	result->root = compile_document(&cc, result->document);
	MemoryContextDelete(cc.scratch);
	if (result->root != NULL)
		return result;
	*error = cc.error;
	return NULL;
}

List *
goya_schema_missing(Jsonb *schema, char **error)
{
	MemoryContext result = CurrentMemoryContext;
	MemoryContext work = AllocSetContextCreate(result, "goya schema references",
											   ALLOCSET_DEFAULT_SIZES);
	GoyaSchemaCompiler cc;
	List	   *missing = NIL;
	ListCell   *lc;

	MemoryContextSwitchTo(work);
	init_compiler(&cc);
	cc.collecting = true;
	(void) compile_document(&cc, schema);
	MemoryContextSwitchTo(result);
	foreach(lc, cc.missing)
		missing = lappend(missing, pstrdup(lfirst(lc)));
	*error = cc.error ? pstrdup(cc.error) : NULL;
	MemoryContextDelete(work);
	return *error ? NIL : missing;
}
