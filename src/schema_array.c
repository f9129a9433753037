/*
 * schema_array.c
 *	  JSON Schema: the keywords for arrays.
 *
 * What must hold: uniqueItems is n log n (items are sorted by hash, only equal
 * hashes are compared), and arrays are walked with an iterator, never by
 * index, so that a large array costs its length once per keyword.
 */
#include "postgres.h"

#include "schema_internal.h"

#include "common/hashfn.h"
#include "miscadmin.h"

/* An item in the search for equal ones. */
typedef struct HashedItem
{
	uint32		hash;
	int			index;
	JsonbValue	value;
} HashedItem;

/* A hash that is equal for equal values. */
static uint32
hash_value(JsonbValue *value)
{
	uint32		hash = 0;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	v;

	if (value->type != jbvBinary)
	{
		JsonbHashScalarValue(value, &hash);
		return hash;
	}
	it = JsonbIteratorInit(value->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &v, false)) != WJB_DONE)
	{
		if (token == WJB_KEY || token == WJB_VALUE || token == WJB_ELEM)
			JsonbHashScalarValue(&v, &hash);
		else
			hash = hash_combine(hash, (uint32) token);
	}
	return hash;
}

static int
compare_hashed(const void *a, const void *b)
{
	const HashedItem *x = a;
	const HashedItem *y = b;

	if (x->hash != y->hash)
		return x->hash < y->hash ? -1 : 1;
	return x->index - y->index;
}

static void
check_unique(GoyaSchemaCheck *ck, JsonbValue *value, GoyaSchemaPath *path)
{
	int			count = (int) JsonContainerSize(value->val.binary.data);
	HashedItem *items;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	v;
	int			n = 0;

	if (count < 2)
		return;
	items = MemoryContextAllocHuge(CurrentMemoryContext,
								   (Size) count * sizeof(HashedItem));
	it = JsonbIteratorInit(value->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token != WJB_ELEM)
			continue;
		CHECK_FOR_INTERRUPTS();
		items[n].hash = hash_value(&v);
		items[n].index = n;
		items[n++].value = v;
	}
	qsort(items, n, sizeof(HashedItem), compare_hashed);
	for (int i = 1; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		for (int j = i - 1; j >= 0 && items[j].hash == items[i].hash; j--)
		{
			if (!goya_schema_equal(&items[i].value, &items[j].value))
				continue;
			schema_report(ck, path, "uniqueItems", NULL,
						  "items %d and %d are equal",
						  items[j].index, items[i].index);
			pfree(items);
			return;
		}
	}
	pfree(items);
}

static void
check_count(GoyaSchemaCheck *ck, GoyaSchemaNode *node, JsonbValue *value,
			GoyaSchemaPath *path)
{
	int64		count = JsonContainerSize(value->val.binary.data);

	if (node->min_items >= 0 && count < node->min_items)
		schema_report(ck, path, "minItems", NULL,
					  "must have at least " INT64_FORMAT " %s, got " INT64_FORMAT,
					  node->min_items, schema_plural(node->min_items, "item", "items"), count);
	if (node->max_items >= 0 && count > node->max_items)
		schema_report(ck, path, "maxItems", NULL,
					  "must have at most " INT64_FORMAT " %s, got " INT64_FORMAT,
					  node->max_items, schema_plural(node->max_items, "item", "items"), count);
}

static void
check_contains(GoyaSchemaCheck *ck, GoyaSchemaNode *node, JsonbValue *value,
			   GoyaSchemaPath *path, GoyaSchemaSeen *seen)
{
	GoyaSchemaPath item = {path, NULL, 0, -1, path ? path->depth + 1 : 1};
	int64		least = node->min_contains >= 0 ? node->min_contains : 1;
	int64		matches = 0;
	JsonbIterator *it = JsonbIteratorInit(value->val.binary.data);
	JsonbIteratorToken token;
	JsonbValue	v;

	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token != WJB_ELEM)
			continue;
		item.index++;
		if (ck->aborted)
			return;
		if (!goya_schema_try(ck, node->contains, &v, &item, NULL, NULL))
			continue;
		matches++;
		if (seen && !(node->resource->dialect & GOYA_DIALECT_2019))
			seen->items = bms_add_member(seen->items, item.index);
	}
	if (matches < least)
		schema_report(ck, path,
					  node->min_contains >= 0 ? "minContains" : "contains",
					  NULL,
					  "must contain at least " INT64_FORMAT " %s of the form required, got " INT64_FORMAT,
					  least, schema_plural(least, "item", "items"), matches);
	if (node->max_contains >= 0 && matches > node->max_contains)
		schema_report(ck, path, "maxContains", NULL,
					  "must contain at most " INT64_FORMAT " %s of the form given, got " INT64_FORMAT,
					  node->max_contains, schema_plural(node->max_contains, "item", "items"), matches);
}

/* One item against its schema; false says why in terms of the array. */
static void
check_item(GoyaSchemaCheck *ck, GoyaSchemaNode *node, JsonbValue *value,
		   GoyaSchemaPath *item, const char *keyword)
{
	if (node->verdict < 0)
		schema_report(ck, item, keyword, NULL,
					  "item %d is not allowed", item->index);
	else
		goya_schema_evaluate(ck, node, value, item, NULL);
}

/* prefixItems and items, under whichever names the dialect gives them. */
static void
check_items(GoyaSchemaCheck *ck, GoyaSchemaNode *node, JsonbValue *value,
			GoyaSchemaPath *path, GoyaSchemaSeen *seen)
{
	GoyaSchemaPath item = {path, NULL, 0, -1, path ? path->depth + 1 : 1};
	int			prefix = node->prefix ? node->prefix->count : 0;
	const char *rest = node->rest == node->additional_items ?
		"additionalItems" : "items";
	JsonbIterator *it = JsonbIteratorInit(value->val.binary.data);
	JsonbIteratorToken token;
	JsonbValue	v;

	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token != WJB_ELEM)
			continue;
		if (schema_is_full(ck))
			return;
		item.index++;
		if (node->prefix && item.index < prefix)
		{
			check_item(ck, node->prefix->nodes[item.index], &v, &item,
					   node->resource->dialect == GOYA_DIALECT_2020 ?
					   "prefixItems" : "items");
			if (seen)
				seen->items = bms_add_member(seen->items, item.index);
		}
		else if (node->rest)
			check_item(ck, node->rest, &v, &item, rest);
		else
			break;
	}
	if (seen && node->rest)
		seen->all_items = true;
}

void
goya_schema_check_array(GoyaSchemaCheck *ck, GoyaSchemaNode *node,
						JsonbValue *value, GoyaSchemaPath *path,
						GoyaSchemaSeen *seen)
{
	check_count(ck, node, value, path);
	if ((node->prefix || node->rest) && !schema_is_full(ck))
		check_items(ck, node, value, path, seen);
	if (node->contains && !schema_is_full(ck))
		check_contains(ck, node, value, path, seen);
	if (node->unique_items && !schema_is_full(ck))
		check_unique(ck, value, path);
}

/* unevaluatedItems: the items nothing else has looked at. */
void
goya_schema_check_rest_items(GoyaSchemaCheck *ck, GoyaSchemaNode *node,
							 JsonbValue *value, GoyaSchemaPath *path,
							 GoyaSchemaSeen *seen)
{
	GoyaSchemaPath item = {path, NULL, 0, -1, path ? path->depth + 1 : 1};
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	v;

	if (seen->all_items)
		return;
	it = JsonbIteratorInit(value->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token != WJB_ELEM)
			continue;
		if (schema_is_full(ck))
			return;
		item.index++;
		if (!bms_is_member(item.index, seen->items))
			check_item(ck, node->unevaluated_items, &v, &item,
					   "unevaluatedItems");
	}
	seen->all_items = true;
}
