/*
 * schema_keyword.c
 *	  JSON Schema: the table of keywords and the values that hold no schema.
 *
 * A keyword has a name, a shape its value must have, the dialects that know
 * it, and the field of the node it fills.  The scan, the compiler and the
 * defaults of a node all read this one table, so a keyword is added here and
 * checked in schema_check.c, schema_array.c or schema_object.c.
 *
 * What must hold: numbers and strings stay where they are in the schema's own
 * copy of the document; a value of the wrong shape is recorded with its place.
 */
#include "postgres.h"

#include "schema_internal.h"

#include "fmgr.h"
#include "utils/builtins.h"

#define FIELD(f) offsetof(GoyaSchemaNode, f)
#define ANY GOYA_DIALECT_ANY
#define NEW GOYA_DIALECT_NEW
#define OLD (GOYA_DIALECT_7 | GOYA_DIALECT_2019 | GOYA_DIALECT_AUTO)

static const GoyaSchemaKeyword keywords[] = {
	{"type", SHAPE_TYPE, ANY, FIELD(types)},
	{"enum", SHAPE_VALUES, ANY, FIELD(choices)},
	{"const", SHAPE_VALUE, ANY, FIELD(constant)},
	{"multipleOf", SHAPE_DIVISOR, ANY, FIELD(multiple_of)},
	{"maximum", SHAPE_NUMBER, ANY, FIELD(maximum)},
	{"exclusiveMaximum", SHAPE_NUMBER, ANY, FIELD(exclusive_maximum)},
	{"minimum", SHAPE_NUMBER, ANY, FIELD(minimum)},
	{"exclusiveMinimum", SHAPE_NUMBER, ANY, FIELD(exclusive_minimum)},
	{"maxLength", SHAPE_COUNT, ANY, FIELD(max_length)},
	{"minLength", SHAPE_COUNT, ANY, FIELD(min_length)},
	{"pattern", SHAPE_REGEX, ANY, FIELD(pattern)},
	{"examples", SHAPE_EXAMPLES, ANY, FIELD(examples)},
	{"format", SHAPE_FORMAT, ANY, FIELD(format)},
	{"prefixItems", SHAPE_SCHEMA_LIST, GOYA_DIALECT_2020 | GOYA_DIALECT_AUTO, FIELD(prefix)},
	{"items", SHAPE_ITEMS, ANY, FIELD(rest)},
	{"additionalItems", SHAPE_SCHEMA, OLD, FIELD(additional_items)},
	{"contains", SHAPE_SCHEMA, ANY, FIELD(contains)},
	{"maxContains", SHAPE_COUNT, NEW, FIELD(max_contains)},
	{"minContains", SHAPE_COUNT, NEW, FIELD(min_contains)},
	{"maxItems", SHAPE_COUNT, ANY, FIELD(max_items)},
	{"minItems", SHAPE_COUNT, ANY, FIELD(min_items)},
	{"uniqueItems", SHAPE_FLAG, ANY, FIELD(unique_items)},
	{"maxProperties", SHAPE_COUNT, ANY, FIELD(max_properties)},
	{"minProperties", SHAPE_COUNT, ANY, FIELD(min_properties)},
	{"required", SHAPE_STRINGS, ANY, FIELD(required)},
	{"properties", SHAPE_SCHEMA_MAP, ANY, FIELD(properties)},
	{"patternProperties", SHAPE_PATTERN_MAP, ANY, FIELD(pattern_properties)},
	{"additionalProperties", SHAPE_SCHEMA, ANY, FIELD(additional_properties)},
	{"propertyNames", SHAPE_SCHEMA, ANY, FIELD(property_names)},
	{"dependencies", SHAPE_DEPENDENCIES, ANY, FIELD(dependencies)},
	{"dependentRequired", SHAPE_STRINGS_MAP, NEW, FIELD(dependent_required)},
	{"dependentSchemas", SHAPE_SCHEMA_MAP, NEW, FIELD(dependent_schemas)},
	{"allOf", SHAPE_SCHEMA_LIST, ANY, FIELD(all_of)},
	{"anyOf", SHAPE_SCHEMA_LIST, ANY, FIELD(any_of)},
	{"oneOf", SHAPE_SCHEMA_LIST, ANY, FIELD(one_of)},
	{"not", SHAPE_SCHEMA, ANY, FIELD(negated)},
	{"if", SHAPE_SCHEMA, ANY, FIELD(condition)},
	{"then", SHAPE_SCHEMA, ANY, FIELD(then_node)},
	{"else", SHAPE_SCHEMA, ANY, FIELD(else_node)},
	{"unevaluatedItems", SHAPE_SCHEMA, NEW, FIELD(unevaluated_items)},
	{"unevaluatedProperties", SHAPE_SCHEMA, NEW, FIELD(unevaluated_properties)},
	{"$recursiveRef", SHAPE_REFUSED, GOYA_DIALECT_2019, 0},
	{"definitions", SHAPE_SCHEMA_MAP, ANY, FIELD(definitions)},
	{"$defs", SHAPE_SCHEMA_MAP, ANY, FIELD(definitions)},
};

const GoyaSchemaKeyword *
goya_schema_find_keyword(const char *name, int len, int dialect)
{
	for (size_t i = 0; i < lengthof(keywords); i++)
	{
		const GoyaSchemaKeyword *kw = &keywords[i];

		if (strlen(kw->name) == (size_t) len && (kw->dialects & dialect) &&
			memcmp(kw->name, name, len) == 0)
			return kw;
	}
	return NULL;
}

/* Is the keyword of a vocabulary that the resource's metaschema leaves out? */
bool
goya_schema_is_omitted(int omitted, const GoyaSchemaKeyword *kw)
{
	if (kw->shape == SHAPE_EXAMPLES)
		return false;
	if (kw->shape == SHAPE_FORMAT)
		return (omitted & GOYA_OMIT_FORMAT) != 0;
	if (kw->shape < SHAPE_SCHEMA)
		return (omitted & GOYA_OMIT_VALIDATION) != 0;
	if (kw->offset == offsetof(GoyaSchemaNode, definitions))
		return false;
	if (kw->offset == offsetof(GoyaSchemaNode, unevaluated_items) ||
		kw->offset == offsetof(GoyaSchemaNode, unevaluated_properties))
		return (omitted & GOYA_OMIT_UNEVALUATED) != 0;
	return (omitted & GOYA_OMIT_APPLICATOR) != 0;
}

/* A node with nothing in it; place may be NULL. */
GoyaSchemaNode *
goya_schema_make_node(GoyaSchemaPlace *place)
{
	GoyaSchemaNode *node = palloc0(sizeof(GoyaSchemaNode));

	if (place != NULL)
	{
		node->resource = place->resource;
		node->location = place->location;
	}
	for (size_t i = 0; i < lengthof(keywords); i++)
		if (keywords[i].shape == SHAPE_COUNT)
			*(int64 *) ((char *) node + keywords[i].offset) = -1;
	return node;
}

/* Is this an object (or else: an array)? */
bool
goya_schema_is_container(const JsonbValue *v, bool object)
{
	return v->type == jbvBinary &&
		(object ? JsonContainerIsObject(v->val.binary.data)
		 : JsonContainerIsArray(v->val.binary.data));
}

/* One name out of "type"; 0 if it is none. */
static uint32
type_bit(JsonbValue *v)
{
	static const char *const names[] = {"null", "boolean", "integer", "number",
	"string", "array", "object"};

	if (v->type != jbvString)
		return 0;
	for (size_t i = 0; i < lengthof(names); i++)
		if (strlen(names[i]) == (size_t) v->val.string.len &&
			memcmp(names[i], v->val.string.val, v->val.string.len) == 0)
			return (uint32) 1 << i;
	return 0;
}

static bool
compile_types(GoyaSchemaCompiler *cc, JsonbValue *v, const char *location,
			  uint32 *types)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	item;
	bool		good;

	*types = type_bit(v);
	good = (*types != 0);
	if (goya_schema_is_container(v, false) && JsonContainerSize(v->val.binary.data) > 0)
	{
		good = true;
		it = JsonbIteratorInit(v->val.binary.data);
		while ((token = JsonbIteratorNext(&it, &item, true)) != WJB_DONE)
		{
			if (token != WJB_ELEM)
				continue;
			good &= (type_bit(&item) != 0);
			*types |= type_bit(&item);
		}
	}
	if (!good)
		goya_schema_fail(cc, location, "type",
						 "expected null, boolean, integer, number, string, array, object or an array of these, got %s",
						 goya_schema_value_text(v));
	return good;
}

/* A non-negative integer; those beyond int64 count as its largest value. */
static bool
compile_count(JsonbValue *v, int64 *count)
{
	Datum		zero = NumericGetDatum(int64_to_numeric(0));
	Datum		limit = NumericGetDatum(int64_to_numeric(PG_INT64_MAX));
	Datum		n;

	if (v->type != jbvNumeric)
		return false;
	n = NumericGetDatum(v->val.numeric);
	if (DatumGetBool(DirectFunctionCall2(numeric_lt, n, zero)) ||
		!DatumGetBool(DirectFunctionCall2(numeric_eq, n,
										  DirectFunctionCall2(numeric_trunc, n,
															  Int32GetDatum(0)))))
		return false;
	if (DatumGetBool(DirectFunctionCall2(numeric_ge, n, limit)))
		*count = PG_INT64_MAX;
	else
		*count = DatumGetInt64(DirectFunctionCall1(numeric_int8, n));
	return true;
}

static bool
compile_number(JsonbValue *v, bool positive, Numeric *number)
{
	if (v->type != jbvNumeric)
		return false;
	*number = v->val.numeric;	/* lives in the schema's own document */
	return !positive ||
		DatumGetBool(DirectFunctionCall2(numeric_gt,
										 NumericGetDatum(v->val.numeric),
										 NumericGetDatum(int64_to_numeric(0))));
}

static GoyaSchemaValues *
compile_choices(JsonbValue *v)
{
	GoyaSchemaValues *list = palloc0(sizeof(GoyaSchemaValues));
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	item;

	if (!goya_schema_is_container(v, false))
		return NULL;
	list->values = palloc(sizeof(JsonbValue) *
						  (JsonContainerSize(v->val.binary.data) + 1));
	it = JsonbIteratorInit(v->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &item, true)) != WJB_DONE)
	{
		if (token == WJB_ELEM)
			list->values[list->count++] = item;
	}
	return list;
}

static bool
compile_pattern(GoyaSchemaCompiler *cc, JsonbValue *v, const char *location,
				GoyaSchemaRegex **regex)
{
	char	   *error = NULL;

	if (v->type != jbvString)
	{
		goya_schema_fail(cc, location, "pattern", "expected a string, got %s",
						 goya_schema_type_name(v));
		return false;
	}
	*regex = goya_schema_regex_compile(v->val.string.val, v->val.string.len,
									   &error);
	if (*regex == NULL)
		goya_schema_fail(cc, location, "pattern",
						 "%s is not a usable regular expression: %s",
						 goya_schema_value_text(v), error);
	return *regex != NULL;
}

/* Fill a field whose shape holds no schema; false after recording an error. */
bool
goya_schema_compile_plain(GoyaSchemaCompiler *cc, GoyaSchemaNode *node,
						  const GoyaSchemaKeyword *kw, JsonbValue *v)
{
	void	   *field = (char *) node + kw->offset;
	const char *expected = NULL;

	switch (kw->shape)
	{
		case SHAPE_TYPE:
			return compile_types(cc, v, node->location, field);
		case SHAPE_VALUE:
		case SHAPE_EXAMPLES:
			*(JsonbValue **) field = memcpy(palloc(sizeof(JsonbValue)), v,
											sizeof(JsonbValue));
			return true;
		case SHAPE_VALUES:
			*(GoyaSchemaValues **) field = compile_choices(v);
			expected = *(GoyaSchemaValues **) field ? NULL : "an array";
			break;
		case SHAPE_NUMBER:
			expected = compile_number(v, false, field) ? NULL : "a number";
			break;
		case SHAPE_DIVISOR:
			expected = compile_number(v, true, field) ? NULL :
				"a number greater than 0";
			break;
		case SHAPE_COUNT:
			expected = compile_count(v, field) ? NULL :
				"a non-negative integer";
			break;
		case SHAPE_FLAG:
			expected = v->type == jbvBool ? NULL : "true or false";
			*(bool *) field = (v->type == jbvBool && v->val.boolean);
			break;
		case SHAPE_REGEX:
			return compile_pattern(cc, v, node->location, field);
		case SHAPE_FORMAT:
			expected = v->type == jbvString ? NULL : "a string";
			if (expected == NULL)
				*(const GoyaSchemaFormat **) field =
					goya_schema_find_format(v->val.string.val,
											v->val.string.len);
			break;
		case SHAPE_REFUSED:
			goya_schema_fail(cc, node->location, kw->name,
							 "%s of 2019-09 is not supported, use dialect 2020-12 with $dynamicRef",
							 kw->name);
			return false;
		default:
			break;
	}
	if (expected != NULL)
		goya_schema_fail(cc, node->location, kw->name, "expected %s, got %s",
						 expected, goya_schema_value_text(v));
	return expected == NULL;
}
