/*
 * schema_document.c
 *	  JSON Schema: the documents a reference may reach, and their dialects.
 *
 * Decided: a reference reaches its own document, the metaschemas that are
 * built in, and what the root carries along under "$documents", a map from
 * URI to document.  Nothing is fetched: not from the network, not from a table.
 * So a schema with its documents means the same wherever and whenever it is
 * compiled, which is what a published revision needs; putting the registered
 * documents in is done once, before, by goya.bundle_schema.
 *
 * A document is found by the URI it is carried under and by its own $id.
 *
 * Without $schema a document counts as draft 7, unless it uses a keyword that
 * came later, such as $defs; then it follows the later rules, under which
 * keywords beside $ref apply as well.
 *
 * A metaschema of one's own, in "$schema", is reached as a reference is; its
 * $vocabulary says which keywords mean something.  One that is required and
 * unknown is an error.  Formats are asserted in draft 7 and without "$schema";
 * where "$schema" names a later dialect they are annotations, as it says,
 * unless a metaschema has the vocabulary format-assertion.
 *
 * What must hold: documents are read where they are in the schema's own copy
 * and only when something refers to them.
 */
#include "postgres.h"

#include "schema_internal.h"

#include "fmgr.h"
#include "utils/builtins.h"

#define DOCUMENTS		"$documents"
#define VOCABULARY_2020 "https://json-schema.org/draft/2020-12/vocab/"

/* Documents noted as missing at most: one more is never asked for. */
#define MAX_MISSING 1000

/* Fetch a string member; false if absent or not a string. */
bool
goya_schema_get_string(JsonbContainer *at, const char *key, char **result)
{
	JsonbValue	v;

	if (getKeyJsonValueFromContainer(at, key, strlen(key), &v) == NULL ||
		v.type != jbvString)
		return false;
	*result = pnstrdup(v.val.string.val, v.val.string.len);
	return true;
}

/* Take up what the root carries along; false when that is no map of objects. */
bool
goya_schema_read_documents(GoyaSchemaCompiler *cc, JsonbContainer *root)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	v;

	if (getKeyJsonValueFromContainer(root, DOCUMENTS, strlen(DOCUMENTS), &v) == NULL)
		return true;
	if (!goya_schema_is_container(&v, true))
	{
		goya_schema_fail(cc, "#", DOCUMENTS, "expected an object from URIs to schemas, got %s",
						 goya_schema_type_name(&v));
		return false;
	}
	cc->documents = v.val.binary.data;
	it = JsonbIteratorInit(cc->documents);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token != WJB_VALUE || goya_schema_is_container(&v, true))
			continue;
		goya_schema_fail(cc, "#", DOCUMENTS, "expected schemas that are objects, got %s",
						 goya_schema_type_name(&v));
		return false;
	}
	return true;
}

/* Does a document carried along under that key have the $id asked for? */
static bool
has_id(JsonbContainer *document, JsonbValue *key, const char *uri)
{
	char	   *id;
	char	   *resolved;

	if (!goya_schema_get_string(document, "$id", &id))
		return false;
	resolved = goya_schema_resolve_uri(pnstrdup(key->val.string.val, key->val.string.len), id);
	resolved[strcspn(resolved, "#")] = '\0';
	return strcmp(resolved, uri) == 0;
}

/*
 * The document carried along under this URI, or with it as $id; NULL when there
 * is none.  *retrieved is the URI it is carried under.
 */
static JsonbContainer *
find_document(GoyaSchemaCompiler *cc, const char *uri, char **retrieved)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	key;
	JsonbValue	v;

	*retrieved = pstrdup(uri);
	if (cc->documents == NULL)
		return NULL;
	if (getKeyJsonValueFromContainer(cc->documents, uri, strlen(uri), &v) != NULL)
		return v.val.binary.data;
	it = JsonbIteratorInit(cc->documents);
	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &v, true);
		if (!has_id(v.val.binary.data, &key, uri))
			continue;
		*retrieved = pnstrdup(key.val.string.val, key.val.string.len);
		return v.val.binary.data;
	}
	return NULL;
}

/*
 * The resource with this URI, taking up a built-in metaschema or a document
 * carried along.  NULL when there is none, or with an error when it is wrong.
 */
GoyaSchemaResource *
goya_schema_find_resource(GoyaSchemaCompiler *cc, const char *uri)
{
	ListCell   *lc;
	const char *text;
	JsonbContainer *root;
	char	   *retrieved = pstrdup(uri);
	Jsonb	   *jb;

	foreach(lc, cc->resources)
	{
		GoyaSchemaResource *resource = lfirst(lc);

		if (strcmp(resource->uri, uri) == 0 ||
			strcmp(resource->retrieved, uri) == 0)
			return resource;
	}
	text = goya_schema_find_metaschema(uri);
	if (text != NULL)
	{
		jb = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
		root = &jb->root;
	}
	else if ((root = find_document(cc, uri, &retrieved)) == NULL)
		return NULL;
	if (!goya_schema_scan_document(cc, root, retrieved))
		return NULL;
	return goya_schema_find_place(cc, root)->resource;
}

/* Note a document that is not there; false when that is an error instead. */
bool
goya_schema_note_missing(GoyaSchemaCompiler *cc, const char *uri)
{
	ListCell   *lc;

	if (!cc->collecting)
		return false;
	foreach(lc, cc->missing)
		if (strcmp(lfirst(lc), uri) == 0)
			return true;
	if (list_length(cc->missing) < MAX_MISSING)
		cc->missing = lappend(cc->missing, pstrdup(uri));
	return true;
}

/* ---- dialects ---- */

/* The dialect named by $schema without its fragment, or 0 for another one. */
static int
dialect_of_uri(const char *uri)
{
	static const struct
	{
		const char *uri;
		int			dialect;
	}			known[] = {
		{"json-schema.org/draft-07/schema", GOYA_DIALECT_7},
		{"json-schema.org/draft-06/schema", GOYA_DIALECT_7},
		{"json-schema.org/draft/2019-09/schema", GOYA_DIALECT_2019},
		{"json-schema.org/draft/2020-12/schema", GOYA_DIALECT_2020},
		{"json-schema.org/schema", GOYA_DIALECT_AUTO},
	};

	if (strncmp(uri, "http://", 7) == 0)
		uri += 7;
	else if (strncmp(uri, "https://", 8) == 0)
		uri += 8;
	for (size_t i = 0; i < lengthof(known); i++)
		if (strcmp(uri, known[i].uri) == 0)
			return known[i].dialect;
	return 0;
}

/* Since 2019-09 a format is only an annotation, for a schema that names its dialect. */
static int
omitted_by_dialect(int dialect)
{
	return (dialect & (GOYA_DIALECT_2019 | GOYA_DIALECT_2020)) ? GOYA_OMIT_FORMAT : 0;
}

/* Does any key in the document exist only since 2019-09? */
int
goya_schema_guess_dialect(JsonbContainer *root)
{
	static const char *const newer[] = {"$defs", "$anchor", "$dynamicRef",
		"$dynamicAnchor", "prefixItems", "dependentRequired",
		"dependentSchemas", "unevaluatedItems", "unevaluatedProperties",
	"minContains", "maxContains"};
	JsonbIterator *it = JsonbIteratorInit(root);
	JsonbIteratorToken token;
	JsonbValue	v;
	int			depth = 0;

	while ((token = JsonbIteratorNext(&it, &v, false)) != WJB_DONE)
	{
		if (token == WJB_BEGIN_OBJECT || token == WJB_BEGIN_ARRAY)
			depth++;
		else if (token == WJB_END_OBJECT || token == WJB_END_ARRAY)
			depth--;
		if (token != WJB_KEY)
			continue;
		/* what is carried along has a dialect of its own */
		if (depth == 1 && v.val.string.len == (int) strlen(DOCUMENTS) &&
			memcmp(v.val.string.val, DOCUMENTS, v.val.string.len) == 0)
		{
			(void) JsonbIteratorNext(&it, &v, true);
			continue;
		}
		for (size_t i = 0; i < lengthof(newer); i++)
			if ((size_t) v.val.string.len == strlen(newer[i]) &&
				memcmp(v.val.string.val, newer[i], v.val.string.len) == 0)
				return GOYA_DIALECT_AUTO;
	}
	return GOYA_DIALECT_7;
}

/* Is this vocabulary in the list of the known ones? */
static bool
is_known_vocabulary(const char *uri, int len)
{
	static const char *const names[] = {"core", "applicator", "unevaluated",
		"validation", "meta-data", "format-annotation", "format-assertion",
	"content"};
	int			prefix = strlen(VOCABULARY_2020);

	if (len <= prefix || memcmp(uri, VOCABULARY_2020, prefix) != 0)
		return false;
	for (size_t i = 0; i < lengthof(names); i++)
		if (strlen(names[i]) == (size_t) (len - prefix) &&
			memcmp(names[i], uri + prefix, len - prefix) == 0)
			return true;
	return false;
}

/* Does the map have that vocabulary, whatever its value? */
static bool
has_vocabulary(JsonbContainer *map, const char *name)
{
	char		uri[128];
	JsonbValue	v;

	snprintf(uri, sizeof(uri), "%s%s", VOCABULARY_2020, name);
	return getKeyJsonValueFromContainer(map, uri, strlen(uri), &v) != NULL;
}

/* Take up the $vocabulary of a metaschema; fails when it requires one that is unknown. */
static bool
read_vocabulary(GoyaSchemaCompiler *cc, JsonbContainer *metaschema,
				GoyaSchemaResource *resource, const char *location)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	v;
	JsonbValue	key;
	JsonbContainer *map;

	if (getKeyJsonValueFromContainer(metaschema, "$vocabulary", 11, &v) == NULL ||
		!goya_schema_is_container(&v, true))
		return true;
	map = v.val.binary.data;
	it = JsonbIteratorInit(map);
	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &v, true);
		if ((v.type == jbvBool && !v.val.boolean) ||
			is_known_vocabulary(key.val.string.val, key.val.string.len))
			continue;
		goya_schema_fail(cc, location, "$schema",
						 "its metaschema requires vocabulary %s, which is not supported",
						 goya_schema_quote(key.val.string.val, key.val.string.len));
		return false;
	}
	resource->omitted = (has_vocabulary(map, "validation") ? 0 : GOYA_OMIT_VALIDATION) |
		(has_vocabulary(map, "applicator") ? 0 : GOYA_OMIT_APPLICATOR) |
		(has_vocabulary(map, "unevaluated") ? 0 : GOYA_OMIT_UNEVALUATED) |
		(has_vocabulary(map, "format-assertion") ? 0 : GOYA_OMIT_FORMAT);
	return true;
}

/* The dialect of a metaschema that is carried along; 0 when it is not. */
static int
dialect_of_document(GoyaSchemaCompiler *cc, const char *uri,
					GoyaSchemaResource *resource, const char *location)
{
	char	   *parent;
	JsonbContainer *metaschema = find_document(cc, uri, &parent);
	int			dialect;

	if (metaschema == NULL || !goya_schema_get_string(metaschema, "$schema", &parent))
		return 0;
	parent[strcspn(parent, "#")] = '\0';
	dialect = dialect_of_uri(parent);
	resource->omitted = omitted_by_dialect(dialect);
	if (dialect == GOYA_DIALECT_2020 &&
		!read_vocabulary(cc, metaschema, resource, location))
		return 0;
	return dialect;
}

/* Set the dialect of a resource from its $schema; fails on unknown ones. */
bool
goya_schema_read_dialect(GoyaSchemaCompiler *cc, JsonbContainer *at,
						 GoyaSchemaResource *resource, const char *location)
{
	char	   *uri;
	char	   *quoted;
	char	   *ignored;
	int			dialect;

	if (!goya_schema_get_string(at, "$schema", &uri))
		return true;
	quoted = goya_schema_quote(uri, strlen(uri));
	if (*uri != '\0' && uri[strlen(uri) - 1] == '#')
		uri[strlen(uri) - 1] = '\0';
	dialect = dialect_of_uri(uri);
	resource->omitted = omitted_by_dialect(dialect);
	if (dialect == 0)
		dialect = dialect_of_document(cc, uri, resource, location);
	if (dialect == 0 && cc->error == NULL && find_document(cc, uri, &ignored) == NULL &&
		strchr(uri, '#') == NULL && goya_schema_note_missing(cc, uri))
		dialect = GOYA_DIALECT_2020;
	if (dialect == 0)
	{
		goya_schema_fail(cc, location, "$schema",
						 "dialect %s is not supported, use draft-07 (http://json-schema.org/draft-07/schema#) "
						 "or 2020-12 (https://json-schema.org/draft/2020-12/schema)",
						 quoted);
		return false;
	}
	resource->dialect = dialect;
	return true;
}
