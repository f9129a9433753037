/*
 * schema_object.c
 *	  JSON Schema: the keywords for objects.
 *
 * The keys of a jsonb object and the entries of "properties" (which come from
 * a jsonb object too) are in the same order, length first and then bytes, so
 * one walk over the value meets its schemas by merging; nothing is looked up.
 */
#include "postgres.h"

#include "schema_internal.h"

static bool
has_key(JsonbValue *value, GoyaSchemaKey *key)
{
	JsonbValue	v;

	return getKeyJsonValueFromContainer(value->val.binary.data, key->name,
										key->len, &v) != NULL;
}

static void
check_count(GoyaSchemaCheck *ck, GoyaSchemaNode *node, JsonbValue *value,
			GoyaSchemaPath *path)
{
	int64		count = JsonContainerSize(value->val.binary.data);

	if (node->min_properties >= 0 && count < node->min_properties)
		schema_report(ck, path, "minProperties", NULL,
					  "must have at least " INT64_FORMAT " %s, got " INT64_FORMAT,
					  node->min_properties, schema_plural(node->min_properties, "key", "keys"), count);
	if (node->max_properties >= 0 && count > node->max_properties)
		schema_report(ck, path, "maxProperties", NULL,
					  "must have at most " INT64_FORMAT " %s, got " INT64_FORMAT,
					  node->max_properties, schema_plural(node->max_properties, "key", "keys"), count);
}

static void
check_required(GoyaSchemaCheck *ck, GoyaSchemaNode *node, JsonbValue *value,
			   GoyaSchemaPath *path)
{
	for (int i = 0; i < node->required->count; i++)
	{
		GoyaSchemaKey *key = &node->required->keys[i];

		if (schema_is_full(ck))
			return;
		if (!has_key(value, key))
			schema_report(ck, path, "required",
						  goya_schema_misspelt_key(node->properties, value, key),
						  "key %s is missing",
						  goya_schema_quote(key->name, key->len));
	}
}

/* One member against its schema; false says why in terms of the object. */
static void
check_member(GoyaSchemaCheck *ck, GoyaSchemaNode *node, JsonbValue *value,
			 GoyaSchemaPath *member, const char *keyword, GoyaSchemaMap *known)
{
	char	   *hint = NULL;

	if (node->verdict >= 0)
	{
		goya_schema_evaluate(ck, node, value, member, NULL);
		return;
	}
	if (!ck->quiet)
		hint = goya_schema_similar_key(known, member->key, member->keylen);
	schema_report(ck, member, keyword, hint, "key %s is not allowed",
				  goya_schema_quote(member->key, member->keylen));
}

static void
check_name(GoyaSchemaCheck *ck, GoyaSchemaNode *node, JsonbValue *key,
		   GoyaSchemaPath *member)
{
	GoyaSchemaError *first;

	if (goya_schema_try(ck, node->property_names, key, member, NULL, &first))
		return;
	schema_report(ck, member, "propertyNames", NULL,
				  "%s is not allowed as a key: %s",
				  goya_schema_quote(member->key, member->keylen),
				  first ? first->message : "");
}

/*
 * The schema of a key in properties.  next is where the last search ended;
 * keys must come in jsonb order.
 */
static GoyaSchemaNode *
find_property(GoyaSchemaMap *map, int *next, const char *key, int len)
{
	while (map != NULL && *next < map->count)
	{
		GoyaSchemaKey *k = &map->keys[*next];
		int			order = k->len - len;

		if (order == 0)
			order = memcmp(k->name, key, len);
		if (order == 0)
			return k->node;
		if (order > 0)
			break;
		(*next)++;
	}
	return NULL;
}

/* One member under properties, patternProperties and additionalProperties. */
static void
check_one(GoyaSchemaCheck *ck, GoyaSchemaNode *node, GoyaSchemaNode *property,
		  JsonbValue *value, GoyaSchemaPath *member, GoyaSchemaSeen *seen)
{
	GoyaSchemaMap *patterns = node->pattern_properties;
	bool		matched = false;

	if (property != NULL)
	{
		matched = true;
		check_member(ck, property, value, member, "properties", NULL);
	}
	for (int i = 0; patterns && i < patterns->count; i++)
	{
		if (!goya_schema_regex_match(patterns->keys[i].regex,
									 member->key, member->keylen))
			continue;
		matched = true;
		if (!schema_is_full(ck))
			check_member(ck, patterns->keys[i].node, value, member,
						 "patternProperties", NULL);
	}
	if (!matched && node->additional_properties && !schema_is_full(ck))
		check_member(ck, node->additional_properties, value, member,
					 "additionalProperties", node->properties);
	if (matched && seen)
		seen->keys = bms_add_member(seen->keys, member->index);
}

static void
check_members(GoyaSchemaCheck *ck, GoyaSchemaNode *node, JsonbValue *value,
			  GoyaSchemaPath *path, GoyaSchemaSeen *seen)
{
	GoyaSchemaPath member = {path, NULL, 0, -1, path ? path->depth + 1 : 1};
	int			next = 0;
	JsonbIterator *it = JsonbIteratorInit(value->val.binary.data);
	JsonbIteratorToken token;
	JsonbValue	key;
	JsonbValue	v;

	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		GoyaSchemaNode *property;

		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &v, true);
		if (schema_is_full(ck))
			return;
		member.key = key.val.string.val;
		member.keylen = key.val.string.len;
		member.index++;
		property = find_property(node->properties, &next,
								 member.key, member.keylen);
		if (node->property_names)
			check_name(ck, node, &key, &member);
		if (!schema_is_full(ck))
			check_one(ck, node, property, &v, &member, seen);
	}
	if (seen && node->additional_properties)
		seen->all_keys = true;
}

void
goya_schema_check_object(GoyaSchemaCheck *ck, GoyaSchemaNode *node,
						 JsonbValue *value, GoyaSchemaPath *path,
						 GoyaSchemaSeen *seen)
{
	check_count(ck, node, value, path);
	if (node->required)
		check_required(ck, node, value, path);
	if ((node->properties || node->pattern_properties ||
		 node->additional_properties || node->property_names) &&
		!schema_is_full(ck))
		check_members(ck, node, value, path, seen);
}

/* One of dependencies, dependentRequired and dependentSchemas. */
static void
check_dependent_map(GoyaSchemaCheck *ck, GoyaSchemaMap *map,
					JsonbValue *value, GoyaSchemaPath *path,
					GoyaSchemaSeen *seen, const char *keyword)
{
	for (int i = 0; map && i < map->count; i++)
	{
		GoyaSchemaKey *key = &map->keys[i];

		if (schema_is_full(ck))
			return;
		if (!has_key(value, key))
			continue;
		if (key->node)
			goya_schema_evaluate(ck, key->node, value, path, seen);
		for (int j = 0; key->needs && j < key->needs->count; j++)
		{
			GoyaSchemaKey *other = &key->needs->keys[j];

			if (!has_key(value, other))
				schema_report(ck, path, keyword, NULL,
							  "key %s is missing, %s requires it",
							  goya_schema_quote(other->name, other->len),
							  goya_schema_quote(key->name, key->len));
		}
	}
}

void
goya_schema_check_dependent(GoyaSchemaCheck *ck, GoyaSchemaNode *node,
							JsonbValue *value, GoyaSchemaPath *path,
							GoyaSchemaSeen *seen)
{
	check_dependent_map(ck, node->dependencies, value, path, seen,
						"dependencies");
	check_dependent_map(ck, node->dependent_required, value, path, seen,
						"dependentRequired");
	check_dependent_map(ck, node->dependent_schemas, value, path, seen,
						"dependentSchemas");
}

/* unevaluatedProperties: the members nothing else has looked at. */
void
goya_schema_check_rest_keys(GoyaSchemaCheck *ck, GoyaSchemaNode *node,
							JsonbValue *value, GoyaSchemaPath *path,
							GoyaSchemaSeen *seen)
{
	GoyaSchemaPath member = {path, NULL, 0, -1, path ? path->depth + 1 : 1};
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	key;
	JsonbValue	v;

	if (seen->all_keys)
		return;
	it = JsonbIteratorInit(value->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		if (token != WJB_KEY)
			continue;
		(void) JsonbIteratorNext(&it, &v, true);
		if (schema_is_full(ck))
			return;
		member.key = key.val.string.val;
		member.keylen = key.val.string.len;
		member.index++;
		if (!bms_is_member(member.index, seen->keys))
			check_member(ck, node->unevaluated_properties, &v, &member,
						 "unevaluatedProperties", node->properties);
	}
	seen->all_keys = true;
}
