/*
 * schema_check.c
 *	  JSON Schema: checking a jsonb value against a compiled schema.
 *
 * goya_schema_evaluate applies one node to one value: references, keywords of
 * any type, keywords of the value's type, combinations, and last the
 * unevaluated keywords, which need to know what the others looked at.  That
 * knowledge (GoyaSchemaSeen) is only collected where someone asks for it.
 *
 * anyOf, oneOf, not, if and contains try subschemas without describing the
 * errors; only when no form fits are they tried again for a description, and
 * the one that got deepest into the value is told as a hint.
 *
 * What must hold:
 *	- Recursion is bounded: 64 levels of value times the chain length that the
 *	  compiler admitted, and the stack is asked before each step.
 *	- Time is bounded by GOYA_SCHEMA_MAX_STEPS and can be cancelled.
 *	- Working memory is a context deleted at the end.
 */
#include "postgres.h"

#include "schema_internal.h"

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

/* Equality of JSON values: 1 and 1.0 are equal, key order does not matter. */
bool
goya_schema_equal(JsonbValue *a, JsonbValue *b)
{
	if (a->type != b->type)
		return false;
	switch (a->type)
	{
		case jbvNull:
			return true;
		case jbvBool:
			return a->val.boolean == b->val.boolean;
		case jbvString:
			return a->val.string.len == b->val.string.len &&
				memcmp(a->val.string.val, b->val.string.val,
					   a->val.string.len) == 0;
		case jbvNumeric:
			return DatumGetBool(DirectFunctionCall2(numeric_eq,
													NumericGetDatum(a->val.numeric),
													NumericGetDatum(b->val.numeric)));
		default:
			return a->val.binary.data->header == b->val.binary.data->header &&
				compareJsonbContainers(a->val.binary.data,
									   b->val.binary.data) == 0;
	}
}

/* Evaluate a node aside; *first receives its first error if asked for. */
bool
goya_schema_try(GoyaSchemaCheck *ck, GoyaSchemaNode *node, JsonbValue *value,
				GoyaSchemaPath *path, GoyaSchemaSeen *seen,
				GoyaSchemaError **first)
{
	GoyaSchemaTrial saved = {ck->errors, ck->nerrors, ck->max_errors, ck->quiet};
	bool		valid;

	ck->errors = NIL;
	ck->nerrors = 0;
	ck->max_errors = 1;
	ck->quiet = (saved.quiet || first == NULL);
	valid = goya_schema_evaluate(ck, node, value, path, seen);
	if (first != NULL)
		*first = ck->errors == NIL ? NULL : linitial(ck->errors);
	if (ck->aborted)			/* a limit was hit: keep what it said */
		saved.errors = list_concat(saved.errors, ck->errors);
	ck->errors = saved.errors;
	ck->nerrors = saved.nerrors + (ck->aborted ? 1 : 0);
	ck->max_errors = saved.max_errors;
	ck->quiet = saved.quiet;
	return valid;
}

/* Report a limit of the checker itself and stop. */
static bool
abort_check(GoyaSchemaCheck *ck, GoyaSchemaPath *path, const char *message)
{
	ck->quiet = false;
	ck->max_errors = ck->nerrors + 1;
	schema_report(ck, path, "limit", NULL, "%s", message);
	ck->aborted = true;
	return false;
}

/* Is there room for one more step? */
static bool
admit_step(GoyaSchemaCheck *ck, GoyaSchemaPath *path)
{
	CHECK_FOR_INTERRUPTS();
	if (ck->aborted)
		return false;
	if (++ck->steps > GOYA_SCHEMA_MAX_STEPS)
		return abort_check(ck, path, "checking the value takes too many steps");
	if ((path != NULL && path->depth > GOYA_SCHEMA_MAX_DEPTH) ||
		stack_is_too_deep())
		return abort_check(ck, path,
						   psprintf("value is nested deeper than %d levels",
									GOYA_SCHEMA_MAX_DEPTH));
	return true;
}

static bool
is_integer(Numeric n)
{
	Datum		d = NumericGetDatum(n);

	return DatumGetBool(DirectFunctionCall2(numeric_eq, d,
											DirectFunctionCall2(numeric_trunc, d,
																Int32GetDatum(0))));
}

static bool
has_type(uint32 types, JsonbValue *value)
{
	switch (value->type)
	{
		case jbvNull:
			return (types & GOYA_JSON_NULL) != 0;
		case jbvBool:
			return (types & GOYA_JSON_BOOLEAN) != 0;
		case jbvString:
			return (types & GOYA_JSON_STRING) != 0;
		case jbvNumeric:
			return (types & GOYA_JSON_NUMBER) != 0 ||
				((types & GOYA_JSON_INTEGER) && is_integer(value->val.numeric));
		default:
			if (goya_schema_is_container(value, true))
				return (types & GOYA_JSON_OBJECT) != 0;
			return (types & GOYA_JSON_ARRAY) != 0;
	}
}

static void
check_type(GoyaSchemaCheck *ck, GoyaSchemaNode *node, JsonbValue *value,
		   GoyaSchemaPath *path)
{
	char	   *hint = NULL;

	if (node->types == 0 || has_type(node->types, value))
		return;
	if (!ck->quiet && value->type == jbvString && value->val.string.len > 0 &&
		(node->types & (GOYA_JSON_NUMBER | GOYA_JSON_INTEGER)) &&
		strspn(pnstrdup(value->val.string.val, value->val.string.len),
			   "-.0123456789") == (size_t) value->val.string.len)
		hint = "Write the number without quotes.";
	else if (!ck->quiet)
		hint = goya_schema_example_hint(node);
	if (value->type == jbvNumeric && (node->types & GOYA_JSON_INTEGER))
		schema_report(ck, path, "type", "Write a number without a fraction.",
					  "expected %s, got %s",
					  goya_schema_types_text(node->types),
					  goya_schema_value_text(value));
	else
		schema_report(ck, path, "type", hint, "expected %s, got %s",
					  goya_schema_types_text(node->types),
					  goya_schema_type_name(value));
}

/* enum */
static void
check_choices(GoyaSchemaCheck *ck, GoyaSchemaNode *node, JsonbValue *value,
			  GoyaSchemaPath *path)
{
	GoyaSchemaValues *choices = node->choices;
	StringInfoData buf;

	for (int i = 0; i < choices->count; i++)
		if (goya_schema_equal(&choices->values[i], value))
			return;
	initStringInfo(&buf);
	for (int i = 0; !ck->quiet && i < choices->count; i++)
	{
		if (buf.len > 200)
		{
			appendStringInfo(&buf, ", ... (%d in all)", choices->count);
			break;
		}
		appendStringInfo(&buf, "%s%s", i == 0 ? "" : ", ",
						 goya_schema_value_text(&choices->values[i]));
	}
	schema_report(ck, path, "enum", goya_schema_similar_choice(choices, value),
				  "expected one of %s, got %s",
				  buf.data, goya_schema_value_text(value));
	pfree(buf.data);
}

/* One numeric limit: the value must satisfy compare(value, limit). */
static void
check_limit(GoyaSchemaCheck *ck, JsonbValue *value, Numeric limit,
			PGFunction compare, GoyaSchemaPath *path, const char *keyword,
			const char *wording)
{
	JsonbValue	v;

	if (limit == NULL ||
		DatumGetBool(DirectFunctionCall2(compare,
										 NumericGetDatum(value->val.numeric),
										 NumericGetDatum(limit))))
		return;
	v.type = jbvNumeric;
	v.val.numeric = limit;
	schema_report(ck, path, keyword, NULL, "must be %s %s, got %s",
				  wording, goya_schema_value_text(&v),
				  goya_schema_value_text(value));
}

/* The remainder is zero: true for an exact multiple. */
static Datum
is_multiple(PG_FUNCTION_ARGS)
{
	Datum		rest = DirectFunctionCall2(numeric_mod, PG_GETARG_DATUM(0),
										   PG_GETARG_DATUM(1));

	return DirectFunctionCall2(numeric_eq, rest,
							   NumericGetDatum(int64_to_numeric(0)));
}

static void
check_number(GoyaSchemaCheck *ck, GoyaSchemaNode *node, JsonbValue *value,
			 GoyaSchemaPath *path)
{
	check_limit(ck, value, node->minimum, numeric_ge, path,
				"minimum", "at least");
	check_limit(ck, value, node->exclusive_minimum, numeric_gt, path,
				"exclusiveMinimum", "greater than");
	check_limit(ck, value, node->maximum, numeric_le, path,
				"maximum", "at most");
	check_limit(ck, value, node->exclusive_maximum, numeric_lt, path,
				"exclusiveMaximum", "less than");
	check_limit(ck, value, node->multiple_of, is_multiple, path,
				"multipleOf", "a multiple of");
}

static void
check_string(GoyaSchemaCheck *ck, GoyaSchemaNode *node, JsonbValue *value,
			 GoyaSchemaPath *path)
{
	const char *s = value->val.string.val;
	int			len = value->val.string.len;
	int64		chars = 0;

	if (node->min_length >= 0 || node->max_length >= 0)
		chars = pg_mbstrlen_with_len(s, len);
	if (node->min_length >= 0 && chars < node->min_length)
		schema_report(ck, path, "minLength", NULL,
					  "must have at least " INT64_FORMAT " %s, got " INT64_FORMAT,
					  node->min_length,
					  schema_plural(node->min_length, "character", "characters"), chars);
	if (node->max_length >= 0 && chars > node->max_length)
		schema_report(ck, path, "maxLength", NULL,
					  "must have at most " INT64_FORMAT " %s, got " INT64_FORMAT,
					  node->max_length,
					  schema_plural(node->max_length, "character", "characters"), chars);
	if (node->pattern && !goya_schema_regex_match(node->pattern, s, len))
		schema_report(ck, path, "pattern", goya_schema_example_hint(node),
					  "%s does not match the pattern %s",
					  goya_schema_quote(s, len),
					  goya_schema_regex_source(node->pattern));
	if (node->format && !node->format->check(s, len))
		schema_report(ck, path, "format",
					  psprintf("An example is %s.", node->format->example),
					  "%s is not a valid %s", goya_schema_quote(s, len),
					  node->format->name);
}

/* $ref and $dynamicRef */
static void
check_references(GoyaSchemaCheck *ck, GoyaSchemaNode *node, JsonbValue *value,
				 GoyaSchemaPath *path, GoyaSchemaSeen *seen)
{
	GoyaSchemaNode *target = node->dynamic_ref;

	if (node->ref)
		goya_schema_evaluate(ck, node->ref, value, path, seen);
	if (target == NULL || schema_is_full(ck))
		return;
	/* The outermost resource in scope that has the dynamic anchor wins. */
	for (GoyaSchemaScope *s = ck->scope; node->dynamic_name && s; s = s->outer)
	{
		ListCell   *lc;

		foreach(lc, s->resource->anchors)
		{
			GoyaSchemaAnchor *anchor = lfirst(lc);

			if (anchor->dynamic && strcmp(anchor->name, node->dynamic_name) == 0)
				target = anchor->node;
		}
	}
	goya_schema_evaluate(ck, target, value, path, seen);
}

/*
 * No form fits: say so, with the error of the form that got deepest into the
 * value (among equals, one whose type, const and enum were right) as hint.
 */
static void
report_no_form(GoyaSchemaCheck *ck, GoyaSchemaList *forms, JsonbValue *value,
			   GoyaSchemaPath *path, const char *keyword)
{
	GoyaSchemaError *best = NULL;
	int			best_score = -1;
	int			best_form = 0;
	char	   *hint = NULL;

	for (int i = 0; i < forms->count && !ck->quiet && !ck->aborted; i++)
	{
		GoyaSchemaError *first;
		int			score = 0;

		goya_schema_try(ck, forms->nodes[i], value, path, NULL, &first);
		if (first == NULL)
			continue;
		for (char *p = first->path; *p; p++)
			score += (*p == '/') ? 2 : 0;
		if (strcmp(first->keyword, "type") != 0 &&
			strcmp(first->keyword, "const") != 0 &&
			strcmp(first->keyword, "enum") != 0)
			score++;
		if (score > best_score)
		{
			best = first;
			best_score = score;
			best_form = i + 1;
		}
	}
	if (best != NULL)
		hint = psprintf("Form %d comes closest: %s%s%s.", best_form,
						best->path, *best->path ? " " : "", best->message);
	schema_report(ck, path, keyword, hint,
				  forms->count == 1 ? "does not fit the only form allowed"
				  : "fits none of the %d forms allowed", forms->count);
}

static void
check_any_of(GoyaSchemaCheck *ck, GoyaSchemaNode *node, JsonbValue *value,
			 GoyaSchemaPath *path, GoyaSchemaSeen *seen)
{
	GoyaSchemaList *forms = node->any_of;
	int			matches = 0;

	for (int i = 0; i < forms->count && !ck->aborted; i++)
	{
		if (!goya_schema_try(ck, forms->nodes[i], value, path, seen, NULL))
			continue;
		matches++;
		if (seen == NULL)
			return;
	}
	if (matches == 0 && !schema_is_full(ck))
		report_no_form(ck, forms, value, path, "anyOf");
}

static void
check_one_of(GoyaSchemaCheck *ck, GoyaSchemaNode *node, JsonbValue *value,
			 GoyaSchemaPath *path, GoyaSchemaSeen *seen)
{
	GoyaSchemaList *forms = node->one_of;
	int			matches = 0;
	int			form = 0;

	for (int i = 0; i < forms->count && matches < 2 && !ck->aborted; i++)
	{
		if (!goya_schema_try(ck, forms->nodes[i], value, path, seen, NULL))
			continue;
		if (++matches == 2)
			schema_report(ck, path, "oneOf", NULL,
						  "fits forms %d and %d of the %d allowed, must fit exactly one",
						  form, i + 1, forms->count);
		form = i + 1;
	}
	if (matches == 0 && !schema_is_full(ck))
		report_no_form(ck, forms, value, path, "oneOf");
}

/* allOf, anyOf, oneOf, not, if/then/else */
static void
check_combined(GoyaSchemaCheck *ck, GoyaSchemaNode *node, JsonbValue *value,
			   GoyaSchemaPath *path, GoyaSchemaSeen *seen)
{
	GoyaSchemaNode *branch;

	for (int i = 0; node->all_of && i < node->all_of->count; i++)
	{
		if (schema_is_full(ck))
			return;
		goya_schema_evaluate(ck, node->all_of->nodes[i], value, path, seen);
	}
	if (node->any_of && !schema_is_full(ck))
		check_any_of(ck, node, value, path, seen);
	if (node->one_of && !schema_is_full(ck))
		check_one_of(ck, node, value, path, seen);
	if (node->negated && !schema_is_full(ck) &&
		goya_schema_try(ck, node->negated, value, path, NULL, NULL))
		schema_report(ck, path, "not", NULL,
					  "%s is of a form that is not allowed here",
					  goya_schema_value_text(value));
	if (node->condition && !schema_is_full(ck))
	{
		branch = goya_schema_try(ck, node->condition, value, path, seen, NULL)
			? node->then_node : node->else_node;
		if (branch != NULL && !schema_is_full(ck))
			goya_schema_evaluate(ck, branch, value, path, seen);
	}
}

/* Everything but the unevaluated keywords. */
static void
check_node(GoyaSchemaCheck *ck, GoyaSchemaNode *node, JsonbValue *value,
		   GoyaSchemaPath *path, GoyaSchemaSeen *seen)
{
	check_type(ck, node, value, path);
	if (node->choices)
		check_choices(ck, node, value, path);
	if (node->constant && !goya_schema_equal(node->constant, value))
		schema_report(ck, path, "const", NULL, "expected %s, got %s",
					  goya_schema_value_text(node->constant),
					  goya_schema_value_text(value));
	if (value->type == jbvNumeric)
		check_number(ck, node, value, path);
	else if (value->type == jbvString)
		check_string(ck, node, value, path);
	else if (goya_schema_is_container(value, true))
		goya_schema_check_object(ck, node, value, path, seen);
	else if (goya_schema_is_container(value, false))
		goya_schema_check_array(ck, node, value, path, seen);
	if (!schema_is_full(ck))
		check_references(ck, node, value, path, seen);
	if (!schema_is_full(ck))
		check_combined(ck, node, value, path, seen);
	if (!schema_is_full(ck) && goya_schema_is_container(value, true))
		goya_schema_check_dependent(ck, node, value, path, seen);
}

/* Pass on what a valid subschema has looked at. */
static void
merge_seen(GoyaSchemaSeen *into, GoyaSchemaSeen *from)
{
	into->all_items |= from->all_items;
	into->all_keys |= from->all_keys;
	into->items = bms_join(into->items, from->items);
	into->keys = bms_join(into->keys, from->keys);
}

/*
 * Apply a node to a value: reports what is wrong, returns whether nothing
 * was.  With seen, adds what this node looked at if the value is valid.
 */
bool
goya_schema_evaluate(GoyaSchemaCheck *ck, GoyaSchemaNode *node,
					 JsonbValue *value, GoyaSchemaPath *path,
					 GoyaSchemaSeen *seen)
{
	GoyaSchemaScope frame;
	GoyaSchemaScope *outer = ck->scope;
	GoyaSchemaNode *above = ck->node;
	GoyaSchemaSeen mine = {false, false, NULL, NULL};
	bool		track;
	int			before = ck->nerrors;
	bool		valid;

	if (node->verdict > 0)
		return true;
	if (!admit_step(ck, path))
		return false;
	if (node->verdict < 0)
	{
		schema_report(ck, path, "false", NULL, "no value is allowed here");
		return false;
	}
	if (outer == NULL || outer->resource != node->resource)
	{
		frame.outer = outer;
		frame.resource = node->resource;
		ck->scope = &frame;
	}
	ck->node = node;
	track = (seen != NULL || node->unevaluated_items != NULL ||
			 node->unevaluated_properties != NULL);
	check_node(ck, node, value, path, track ? &mine : NULL);

	/* After another error these would only repeat it in other words. */
	if (ck->nerrors == before && !schema_is_full(ck))
	{
		if (node->unevaluated_properties && goya_schema_is_container(value, true))
			goya_schema_check_rest_keys(ck, node, value, path, &mine);
		if (node->unevaluated_items && goya_schema_is_container(value, false))
			goya_schema_check_rest_items(ck, node, value, path, &mine);
	}
	ck->scope = outer;
	ck->node = above;
	valid = (ck->nerrors == before && !ck->aborted);
	if (valid && seen != NULL)
		merge_seen(seen, &mine);
	else if (track)
	{
		bms_free(mine.items);
		bms_free(mine.keys);
	}
	return valid;
}

List *
goya_schema_check(GoyaSchema *schema, Jsonb *instance, int max_errors)
{
	GoyaSchemaCheck ck;
	MemoryContext work;
	JsonbValue	value;

	memset(&ck, 0, sizeof(ck));
	ck.result = CurrentMemoryContext;
	ck.max_errors = Max(max_errors, 1);
	work = AllocSetContextCreate(CurrentMemoryContext, "goya schema check",
								 ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(work);
	goya_schema_root_value(instance, &value);
	goya_schema_evaluate(&ck, schema->root, &value, NULL, NULL);
	MemoryContextSwitchTo(ck.result);

	/* The list cells may be in the working context; the errors are not. */
	ck.errors = list_copy(ck.errors);
	MemoryContextDelete(work);
	return ck.errors;
}
