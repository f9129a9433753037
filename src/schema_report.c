/*
 * schema_report.c
 *	  JSON Schema: the words people read about a value that does not fit.
 *
 * Messages name what was expected and what was found ("expected string, got
 * number"), shortened to a line; the place is a JSON Pointer of its own, so
 * messages do not repeat it.  A hint is a sentence.
 *
 * What must hold: errors are allocated in the caller's context and cut at
 * character borders; an instance can never make this throw.
 */
#include "postgres.h"

#include "schema_internal.h"

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/varlena.h"

/* Bytes of a value shown in a message. */
#define SHOWN_LENGTH	60
/* Names looked through for a similar one, and changes that are too many. */
#define MAX_NAMES		100
#define MAX_DISTANCE	3

/* Where in the schema a keyword stands; "false" and "limit" are none. */
static char *
schema_place(const char *location, const char *keyword)
{
	if (strcmp(keyword, "false") == 0 || strcmp(keyword, "limit") == 0)
		return pstrdup(location);
	return goya_schema_child_location(location, keyword, -1);
}

/* Add one violation; used through schema_report(). */
void
goya_schema_describe(GoyaSchemaCheck *ck, GoyaSchemaPath *path,
					 const char *keyword, char *hint, const char *fmt,...)
{
	GoyaSchemaError *error;
	StringInfoData buf;
	MemoryContext old;
	va_list		args;
	int			needed;

	if (schema_is_full(ck))
		return;
	ck->nerrors++;

	old = MemoryContextSwitchTo(ck->result);
	initStringInfo(&buf);
	do
	{
		va_start(args, fmt);
		needed = appendStringInfoVA(&buf, fmt, args);
		va_end(args);
		if (needed != 0)
			enlargeStringInfo(&buf, needed);
	} while (needed != 0);
	error = palloc(sizeof(GoyaSchemaError));
	error->path = goya_schema_path_text(path);
	error->keyword = pstrdup(keyword);
	error->message = buf.data;
	error->hint = hint ? pstrdup(hint) : NULL;
	error->schema_path = schema_place(ck->node ? ck->node->location : "#", keyword);
	ck->errors = lappend(ck->errors, error);
	MemoryContextSwitchTo(old);
}

/* The JSON Pointer of a place; the root is the empty string. */
char *
goya_schema_path_text(GoyaSchemaPath *path)
{
	StringInfoData buf;
	GoyaSchemaPath *steps[GOYA_SCHEMA_MAX_DEPTH + 2];
	int			n = 0;

	initStringInfo(&buf);
	for (; path != NULL && n < (int) lengthof(steps); path = path->parent)
		steps[n++] = path;
	while (n-- > 0)
	{
		if (steps[n]->key == NULL)
		{
			appendStringInfo(&buf, "/%d", steps[n]->index);
			continue;
		}
		appendStringInfoChar(&buf, '/');
		for (int i = 0; i < steps[n]->keylen; i++)
		{
			char		c = steps[n]->key[i];

			if (c == '~' || c == '/')
				appendStringInfoString(&buf, c == '~' ? "~0" : "~1");
			else
				appendStringInfoChar(&buf, c);
		}
	}
	return buf.data;
}

const char *
goya_schema_type_name(JsonbValue *value)
{
	switch (value->type)
	{
		case jbvNull:
			return "null";
		case jbvBool:
			return "boolean";
		case jbvNumeric:
			return "number";
		case jbvString:
			return "string";
		default:
			return goya_schema_is_container(value, true) ? "object" : "array";
	}
}

/* A string in JSON quotes, shortened. */
char *
goya_schema_quote(const char *s, int len)
{
	StringInfoData buf;
	int			keep = len;
	char	   *copy;

	if (len > SHOWN_LENGTH)
		keep = pg_mbcliplen(s, len, SHOWN_LENGTH);
	copy = pnstrdup(s, keep);
	initStringInfo(&buf);
	escape_json(&buf, copy);
	if (keep < len)
	{
		buf.data[buf.len - 1] = '\0';
		buf.len--;
		appendStringInfoString(&buf, "...\"");
	}
	pfree(copy);
	return buf.data;
}

/* A value on one line: scalars as JSON, containers if they are short. */
char *
goya_schema_value_text(JsonbValue *value)
{
	char	   *text;
	int			count;

	switch (value->type)
	{
		case jbvNull:
			return pstrdup("null");
		case jbvBool:
			return pstrdup(value->val.boolean ? "true" : "false");
		case jbvString:
			return goya_schema_quote(value->val.string.val,
									 value->val.string.len);
		case jbvNumeric:
			text = DatumGetCString(DirectFunctionCall1(numeric_out,
													   NumericGetDatum(value->val.numeric)));
			if (strlen(text) > SHOWN_LENGTH)
				strcpy(text + SHOWN_LENGTH - 3, "...");
			return text;
		default:
			break;
	}
	count = (int) JsonContainerSize(value->val.binary.data);
	if (count <= 4)
	{
		text = JsonbToCString(NULL, value->val.binary.data, SHOWN_LENGTH);
		if (strlen(text) <= SHOWN_LENGTH)
			return text;
		pfree(text);
	}
	if (goya_schema_is_container(value, true))
		return psprintf("an object with %d %s", count,
						count == 1 ? "key" : "keys");
	return psprintf("an array of %d %s", count, count == 1 ? "item" : "items");
}

/* "string", "string or null", "array, object or null". */
char *
goya_schema_types_text(uint32 types)
{
	/* null last: it is what people add to another type */
	static const struct
	{
		uint32		bit;
		const char *name;
	}			names[] = {
		{GOYA_JSON_STRING, "string"}, {GOYA_JSON_INTEGER, "integer"},
		{GOYA_JSON_NUMBER, "number"}, {GOYA_JSON_BOOLEAN, "boolean"},
		{GOYA_JSON_ARRAY, "array"}, {GOYA_JSON_OBJECT, "object"},
		{GOYA_JSON_NULL, "null"},
	};
	StringInfoData buf;

	initStringInfo(&buf);
	for (size_t i = 0; i < lengthof(names); i++)
	{
		if (!(types & names[i].bit))
			continue;
		types &= ~names[i].bit;
		if (buf.len > 0)
			appendStringInfoString(&buf, types ? ", " : " or ");
		appendStringInfoString(&buf, names[i].name);
	}
	return buf.data;
}

/*
 * How far two names are apart, counted in changes; best when it is not less or
 * they have too little in common to be the same word misspelt.
 */
static int
distance_of(const char *a, int alen, const char *b, int blen, int best)
{
	int			distance;

	if (alen <= 2 || alen > SHOWN_LENGTH || blen > SHOWN_LENGTH || abs(alen - blen) >= best)
		return best;
	distance = varstr_levenshtein(a, alen, b, blen, 1, 1, 1, true);
	return distance < best && distance * 2 < alen ? distance : best;
}

static char *
did_you_mean(const char *name, int len)
{
	return psprintf("Did you mean %s?", goya_schema_quote(name, len));
}

/*
 * A hint for a key nobody knows: the known one it resembles, or all of them
 * if they fit on a line.  NULL if there is nothing helpful to say.
 */
char *
goya_schema_similar_key(GoyaSchemaMap *known, const char *key, int len)
{
	StringInfoData buf;
	GoyaSchemaKey *best = NULL;
	int			best_distance = MAX_DISTANCE;

	if (known == NULL || known->count == 0 || known->count > MAX_NAMES)
		return NULL;
	for (int i = 0; i < known->count; i++)
	{
		GoyaSchemaKey *k = &known->keys[i];
		int			distance = distance_of(key, len, k->name, k->len, best_distance);

		if (distance < best_distance)
		{
			best = k;
			best_distance = distance;
		}
	}
	if (best != NULL)
		return did_you_mean(best->name, best->len);
	initStringInfo(&buf);
	appendStringInfoString(&buf, "Known keys are ");
	for (int i = 0; i < known->count; i++)
		appendStringInfo(&buf, "%s%s", i == 0 ? "" : ", ",
						 goya_schema_quote(known->keys[i].name,
										   known->keys[i].len));
	appendStringInfoChar(&buf, '.');
	return buf.len <= 200 ? buf.data : NULL;
}

/* A hint for a string that is none of the choices: the one it resembles, or NULL. */
char *
goya_schema_similar_choice(GoyaSchemaValues *choices, JsonbValue *value)
{
	JsonbValue *best = NULL;
	int			best_distance = MAX_DISTANCE;

	if (value->type != jbvString || choices->count > MAX_NAMES)
		return NULL;
	for (int i = 0; i < choices->count; i++)
	{
		JsonbValue *v = &choices->values[i];
		int			len = v->type == jbvString ? v->val.string.len : 0;
		int			distance;

		if (len == 0)
			continue;
		if (len == value->val.string.len &&
			pg_strncasecmp(v->val.string.val, value->val.string.val, len) == 0)
			distance = 0;		/* only the case is wrong */
		else
			distance = distance_of(value->val.string.val, value->val.string.len,
								   v->val.string.val, len, best_distance);
		if (distance < best_distance)
		{
			best = v;
			best_distance = distance;
		}
	}
	return best ? did_you_mean(best->val.string.val, best->val.string.len) : NULL;
}

/* A hint for a missing key: one in the object that resembles it and is not known itself; NULL if there is none. */
char *
goya_schema_misspelt_key(GoyaSchemaMap *known, JsonbValue *object, GoyaSchemaKey *missing)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	v;
	JsonbValue	best;
	int			best_distance = MAX_DISTANCE;

	if (JsonContainerSize(object->val.binary.data) > MAX_NAMES || (known && known->count > MAX_NAMES))
		return NULL;
	it = JsonbIteratorInit(object->val.binary.data);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		int			distance = best_distance;
		bool		is_known = false;

		if (token != WJB_KEY)
			continue;
		for (int i = 0; known && i < known->count && !is_known; i++)
			is_known = known->keys[i].len == v.val.string.len &&
				memcmp(known->keys[i].name, v.val.string.val, v.val.string.len) == 0;
		if (!is_known)
			distance = distance_of(missing->name, missing->len, v.val.string.val, v.val.string.len, best_distance);
		if (distance < best_distance)
		{
			best = v;
			best_distance = distance;
		}
	}
	if (best_distance == MAX_DISTANCE)
		return NULL;
	return psprintf("There is a key %s; is it meant to be %s?",
					goya_schema_quote(best.val.string.val, best.val.string.len),
					goya_schema_quote(missing->name, missing->len));
}

/* A hint from the schema's own "examples", or NULL. */
char *
goya_schema_example_hint(GoyaSchemaNode *node)
{
	JsonbValue *first;

	if (node->examples == NULL || !goya_schema_is_container(node->examples, false))
		return NULL;
	first = getIthJsonbValueFromContainer(node->examples->val.binary.data, 0);
	return first ? psprintf("An example is %s.", goya_schema_value_text(first)) : NULL;
}
