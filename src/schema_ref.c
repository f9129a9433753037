/*
 * schema_ref.c
 *	  JSON Schema: where schemas are in a document, and what $ref points at.
 *
 * Before anything is compiled, scan_document walks every place where a schema
 * may stand (never enum, const, default or unknown keywords, whose contents
 * are data) and notes for each schema object its resource (the enclosing
 * $id), and per resource its anchors.  Places are keyed by the address of the
 * object's container in the jsonb, which is unique and stable.
 *
 * Which documents a reference may reach, and by which rules each is read, is
 * in schema_document.c.
 */
#include "postgres.h"

#include "schema_internal.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"

static bool scan_object(GoyaSchemaCompiler *cc, JsonbContainer *at,
						GoyaSchemaResource *resource, char *location,
						int depth);

static GoyaSchemaResource *
make_resource(GoyaSchemaCompiler *cc, JsonbContainer *root, char *uri,
			  int dialect)
{
	GoyaSchemaResource *resource = palloc0(sizeof(GoyaSchemaResource));

	resource->uri = uri;
	resource->retrieved = uri;
	resource->root = root;
	resource->dialect = dialect;
	cc->resources = lappend(cc->resources, resource);
	return resource;
}

static void
add_anchor(GoyaSchemaResource *resource, JsonbContainer *at, char *name,
		   bool dynamic)
{
	GoyaSchemaAnchor *anchor = palloc0(sizeof(GoyaSchemaAnchor));

	anchor->name = name;
	anchor->at = at;
	anchor->dynamic = dynamic;
	resource->anchors = lappend(resource->anchors, anchor);
}

/*
 * Apply $id, $schema and the anchors of one schema object.  Returns the
 * resource it belongs to, a new one if it has an $id of its own, or NULL
 * after an error.
 */
static GoyaSchemaResource *
identify_object(GoyaSchemaCompiler *cc, JsonbContainer *at,
				GoyaSchemaResource *resource, const char *location)
{
	char	   *id;
	char	   *anchor;
	char	   *hash;
	bool		has_id = goya_schema_get_string(at, "$id", &id);

	if (has_id && resource->dialect == GOYA_DIALECT_7 &&
		getKeyJsonValueFromContainer(at, "$ref", 4, &(JsonbValue){0}) != NULL)
		has_id = false;			/* draft 7: $ref hides its siblings */
	if (has_id)
	{
		hash = strchr(id, '#');
		if (hash != NULL)
			*hash++ = '\0';
		if (*id != '\0' && at == resource->root)
			resource->uri = goya_schema_resolve_uri(resource->uri, id);
		else if (*id != '\0')
		{
			int			omitted = resource->omitted;

			resource = make_resource(cc, at,
									 goya_schema_resolve_uri(resource->uri, id),
									 resource->dialect);
			resource->omitted = omitted;
			if (!goya_schema_read_dialect(cc, at, resource, location))
				return NULL;
		}
		if (hash != NULL && *hash != '\0' &&
			resource->dialect == GOYA_DIALECT_7)
			add_anchor(resource, at, hash, false);
	}
	if (resource->dialect & GOYA_DIALECT_NEW)
	{
		if (goya_schema_get_string(at, "$anchor", &anchor))
			add_anchor(resource, at, anchor, false);
		if (goya_schema_get_string(at, "$dynamicAnchor", &anchor))
			add_anchor(resource, at, anchor, true);
	}
	return resource;
}

/* Visit every value inside a map or list of schemas. */
static bool
scan_members(GoyaSchemaCompiler *cc, JsonbContainer *at,
			 GoyaSchemaResource *resource, const char *location, int depth)
{
	JsonbIterator *it = JsonbIteratorInit(at);
	JsonbIteratorToken token;
	JsonbValue	v;
	char	   *child = NULL;
	int			index = 0;
	char		number[16];

	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			child = goya_schema_child_location(location, v.val.string.val,
											   v.val.string.len);
			continue;
		}
		if (token == WJB_ELEM)
		{
			snprintf(number, sizeof(number), "%d", index++);
			child = goya_schema_child_location(location, number, -1);
		}
		else if (token != WJB_VALUE)
			continue;
		if (v.type == jbvBinary && JsonContainerIsObject(v.val.binary.data) &&
			!scan_object(cc, v.val.binary.data, resource, child, depth))
			return false;
	}
	return true;
}

/* Note one schema object and everything below it. */
static bool
scan_object(GoyaSchemaCompiler *cc, JsonbContainer *at,
			GoyaSchemaResource *resource, char *location, int depth)
{
	GoyaSchemaPlace *place;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	key;
	JsonbValue	v;
	bool		found;

	CHECK_FOR_INTERRUPTS();
	if (depth > GOYA_SCHEMA_MAX_DEPTH || stack_is_too_deep())
	{
		goya_schema_fail(cc, location, NULL,
						 "schemas are nested deeper than %d levels",
						 GOYA_SCHEMA_MAX_DEPTH);
		return false;
	}
	resource = identify_object(cc, at, resource, location);
	if (resource == NULL)
		return false;
	place = hash_search(cc->places, &at, HASH_ENTER, &found);
	if (found)
		return true;
	place->resource = resource;
	place->location = location;
	place->node = NULL;

	it = JsonbIteratorInit(at);
	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		const GoyaSchemaKeyword *kw;
		char	   *child;

		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &v, true);
		kw = goya_schema_find_keyword(key.val.string.val, key.val.string.len,
									  resource->dialect);
		if (kw == NULL || kw->shape < SHAPE_SCHEMA || v.type != jbvBinary)
			continue;
		child = goya_schema_child_location(location, kw->name, -1);
		if (kw->shape == SHAPE_SCHEMA || (kw->shape == SHAPE_ITEMS &&
										  JsonContainerIsObject(v.val.binary.data)))
		{
			if (JsonContainerIsObject(v.val.binary.data) &&
				!scan_object(cc, v.val.binary.data, resource, child, depth + 1))
				return false;
		}
		else if (!scan_members(cc, v.val.binary.data, resource, child, depth + 1))
			return false;
	}
	return true;
}

/* Scan a document whose root is an object, under the given retrieval URI. */
bool
goya_schema_scan_document(GoyaSchemaCompiler *cc, JsonbContainer *root,
						  const char *uri)
{
	GoyaSchemaResource *resource;

	resource = make_resource(cc, root, pstrdup(uri), goya_schema_guess_dialect(root));
	return goya_schema_read_dialect(cc, root, resource, "#") &&
		scan_object(cc, root, resource,
					*uri ? psprintf("%s#", uri) : pstrdup("#"), 0);
}

GoyaSchemaPlace *
goya_schema_find_place(GoyaSchemaCompiler *cc, JsonbContainer *at)
{
	return hash_search(cc->places, &at, HASH_FIND, NULL);
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Undo percent-encoding in place; sequences that are not hex stay. */
static void
decode_percent(char *s)
{
	char	   *out = s;

	for (; *s; s++)
	{
		if (*s == '%' && hex_digit(s[1]) >= 0 && hex_digit(s[2]) >= 0)
		{
			*out++ = (char) (hex_digit(s[1]) * 16 + hex_digit(s[2]));
			s += 2;
		}
		else
			*out++ = *s;
	}
	*out = '\0';
}

/* Undo the escapes of one JSON Pointer token in place; returns its length. */
static int
decode_token(char *s)
{
	char	   *out = s;
	char	   *start = s;

	for (; *s; s++)
	{
		if (s[0] == '~' && (s[1] == '0' || s[1] == '1'))
			*out++ = (*++s == '0') ? '~' : '/';
		else
			*out++ = *s;
	}
	*out = '\0';
	return (int) (out - start);
}

/* Take one step of a JSON Pointer; false if there is nothing there. */
static bool
step_into(JsonbValue *v, char *token)
{
	JsonbContainer *at = v->val.binary.data;
	int			len = decode_token(token);
	JsonbValue *item;

	if (v->type != jbvBinary)
		return false;
	if (JsonContainerIsObject(at))
		return getKeyJsonValueFromContainer(at, token, len, v) != NULL;
	if (len == 0 || len > 8 || strspn(token, "0123456789") != (size_t) len)
		return false;
	item = getIthJsonbValueFromContainer(at, (uint32) atoi(token));
	if (item == NULL)
		return false;
	*v = *item;
	return true;
}

/* Follow a JSON Pointer from the resource's root. */
static bool
resolve_pointer(GoyaSchemaCompiler *cc, char *pointer, GoyaSchemaTarget *target)
{
	char	   *location = psprintf("#%s", pointer);

	goya_schema_container_value(target->resource->root, &target->value);
	while (*pointer == '/')
	{
		char	   *token = ++pointer;
		GoyaSchemaPlace *place;

		pointer += strcspn(pointer, "/");
		token = pnstrdup(token, pointer - token);
		if (!step_into(&target->value, token))
			return false;
		if (target->value.type == jbvBinary &&
			(place = goya_schema_find_place(cc, target->value.val.binary.data)) != NULL)
			target->resource = place->resource;
	}
	if (target->value.type == jbvBool)
		return true;
	if (target->value.type != jbvBinary ||
		!JsonContainerIsObject(target->value.val.binary.data))
		return false;
	if (goya_schema_find_place(cc, target->value.val.binary.data) == NULL)
		return scan_object(cc, target->value.val.binary.data,
						   target->resource, location, 0);
	return true;
}

/* Find a plain-name fragment; a dynamic anchor counts as an ordinary one. */
static bool
resolve_anchor(char *name, GoyaSchemaTarget *target)
{
	ListCell   *lc;

	foreach(lc, target->resource->anchors)
	{
		GoyaSchemaAnchor *anchor = lfirst(lc);

		if (strcmp(anchor->name, name) != 0)
			continue;
		goya_schema_container_value(anchor->at, &target->value);
		target->by_name = true;
		target->dynamic = anchor->dynamic;
		target->name = name;
		return true;
	}
	return false;
}

/*
 * Find what a reference in the given resource points at.  On failure records
 * the error and returns false.
 */
bool
goya_schema_resolve(GoyaSchemaCompiler *cc, const char *ref,
					GoyaSchemaResource *from, const char *location,
					const char *keyword, GoyaSchemaTarget *target)
{
	char	   *uri = goya_schema_resolve_uri(from->uri, ref);
	char	   *fragment = strchr(uri, '#');
	bool		found;

	memset(target, 0, sizeof(*target));
	if (fragment != NULL)
	{
		*fragment++ = '\0';
		decode_percent(fragment);
	}
	target->resource = goya_schema_find_resource(cc, uri);
	if (target->resource == NULL)
	{
		if (cc->error != NULL)
			return false;		/* found, but wrong itself */
		if (goya_schema_note_missing(cc, uri))
		{
			target->value.type = jbvBool;
			target->value.val.boolean = true;
			return true;
		}
		goya_schema_fail(cc, location, keyword,
						 "no schema %s is known, register it with goya.register_schema or copy it into \"%s\" and refer to it there",
						 goya_schema_quote(uri, strlen(uri)),
						 from->dialect == GOYA_DIALECT_7 ? "definitions" : "$defs");
		return false;
	}
	if (fragment == NULL || *fragment == '\0')
	{
		goya_schema_container_value(target->resource->root, &target->value);
		return true;
	}
	found = (*fragment == '/') ? resolve_pointer(cc, fragment, target)
		: resolve_anchor(fragment, target);
	if (!found)
		goya_schema_fail(cc, location, keyword,
						 "reference %s does not point at a schema",
						 goya_schema_quote(ref, strlen(ref)));
	return found;
}
