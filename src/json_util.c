/*-------------------------------------------------------------------------
 * json_util.c
 *		Reads jsonb in place, and makes scalars.  See json_util.h for the rules; json_build.c makes objects and arrays.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "json_util.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

/* ---- views ---- */

void
goya_json_view(const Jsonb *j, JsonbValue *view)
{
	JsonbContainer *root;

	if (j == NULL)
	{
		view->type = jbvNull;
		return;
	}
	root = unconstify(JsonbContainer *, &j->root);
	if (JsonContainerIsScalar(root))
	{
		JsonbExtractScalar(root, view);
		return;
	}
	view->type = jbvBinary;
	view->val.binary.data = root;
	view->val.binary.len = VARSIZE(j) - VARHDRSZ;
}

bool
goya_json_view_is_object(const JsonbValue *v)
{
	return v->type == jbvBinary && JsonContainerIsObject(v->val.binary.data);
}

bool
goya_json_view_is_array(const JsonbValue *v)
{
	return v->type == jbvBinary && JsonContainerIsArray(v->val.binary.data);
}

int
goya_json_view_length(const JsonbValue *v)
{
	return v->type == jbvBinary ? (int) JsonContainerSize(v->val.binary.data) : 0;
}

bool
goya_json_view_get(const JsonbValue *object, const char *key, int len, JsonbValue *value)
{
	if (!goya_json_view_is_object(object))
		return false;
	return getKeyJsonValueFromContainer(object->val.binary.data, key, len, value) != NULL;
}

/* The index'th child of a container that has n_entries JEntrys; as fillJsonbValue() in jsonb_util.c. */
static void
fill_view(const JsonbContainer *c, int n_entries, int index, JsonbValue *value)
{
	JEntry		entry = c->children[index];
	char	   *base = (char *) &c->children[n_entries];
	uint32		offset = getJsonbOffset(c, index);

	if (JBE_ISNULL(entry))
		value->type = jbvNull;
	else if (JBE_ISSTRING(entry))
	{
		value->type = jbvString;
		value->val.string.val = base + offset;
		value->val.string.len = getJsonbLength(c, index);
	}
	else if (JBE_ISNUMERIC(entry))
	{
		value->type = jbvNumeric;
		value->val.numeric = (Numeric) (base + INTALIGN(offset));
	}
	else if (JBE_ISCONTAINER(entry))
	{
		value->type = jbvBinary;
		value->val.binary.data = (JsonbContainer *) (base + INTALIGN(offset));
		value->val.binary.len = getJsonbLength(c, index) - (INTALIGN(offset) - offset);
	}
	else
	{
		value->type = jbvBool;
		value->val.boolean = JBE_ISBOOL_TRUE(entry);
	}
}

/* key or value may be NULL */
void
goya_json_view_pair(const JsonbValue *object, int i, JsonbValue *key, JsonbValue *value)
{
	const JsonbContainer *c = object->val.binary.data;
	int			n = JsonContainerSize(c);

	if (key != NULL)
		fill_view(c, 2 * n, i, key);
	if (value != NULL)
		fill_view(c, 2 * n, n + i, value);
}

void
goya_json_view_elem(const JsonbValue *array, int i, JsonbValue *value)
{
	fill_view(array->val.binary.data, JsonContainerSize(array->val.binary.data), i, value);
}

const char *
goya_json_view_type_name(const JsonbValue *v)
{
	switch (v->type)
	{
		case jbvNull:
			return "null";
		case jbvString:
			return "string";
		case jbvNumeric:
			return "number";
		case jbvBool:
			return "boolean";
		default:
			return goya_json_view_is_object(v) ? "object" : "array";
	}
}

bool
goya_json_view_double(const JsonbValue *v, double *result)
{
	if (v->type != jbvNumeric)
		return false;
	*result = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(v->val.numeric)));
	return true;
}

char *
goya_json_view_text(const JsonbValue *v)
{
	switch (v->type)
	{
		case jbvNull:
			return NULL;
		case jbvString:
			return pnstrdup(v->val.string.val, v->val.string.len);
		case jbvBool:
			return pstrdup(v->val.boolean ? "true" : "false");
		case jbvNumeric:
			return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(v->val.numeric)));
		default:
			return JsonbToCString(NULL, v->val.binary.data, v->val.binary.len);
	}
}

static bool
view_int(const JsonbValue *v, int64 *result)
{
	double		d;

	/* 2^63 is exact as a double: what is below it after rounding fits */
	if (!goya_json_view_double(v, &d) || !(d > -9223372036854774784.0 && d < 9223372036854774784.0))
		return false;
	*result = DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(v->val.numeric)));
	return true;
}

/* ---- reading ---- */

static bool
get_view(const Jsonb *obj, const char *key, JsonbValue *value)
{
	if (obj == NULL || !JB_ROOT_IS_OBJECT(obj))
		return false;
	return getKeyJsonValueFromContainer(unconstify(JsonbContainer *, &obj->root), key, strlen(key), value) != NULL;
}

Jsonb *
goya_json_get(const Jsonb *obj, const char *key)
{
	JsonbValue	v;

	return get_view(obj, key, &v) ? goya_json_from_view(&v) : NULL;
}

Jsonb *
goya_json_get_path(const Jsonb *obj, int n, const char **keys)
{
	JsonbValue	v;

	if (obj == NULL)
		return NULL;
	goya_json_view(obj, &v);
	for (int i = 0; i < n; i++)
	{
		JsonbValue	inner;

		if (!goya_json_view_get(&v, keys[i], strlen(keys[i]), &inner))
			return NULL;
		v = inner;
	}
	return goya_json_from_view(&v);
}

bool
goya_json_has(const Jsonb *obj, const char *key)
{
	JsonbValue	v;

	return get_view(obj, key, &v);
}

char *
goya_json_get_text(const Jsonb *obj, const char *key)
{
	JsonbValue	v;

	return get_view(obj, key, &v) ? goya_json_view_text(&v) : NULL;
}

bool
goya_json_get_bool(const Jsonb *obj, const char *key, bool otherwise)
{
	JsonbValue	v;

	return get_view(obj, key, &v) && v.type == jbvBool ? v.val.boolean : otherwise;
}

int64
goya_json_get_int(const Jsonb *obj, const char *key, int64 otherwise)
{
	JsonbValue	v;
	int64		result;

	return get_view(obj, key, &v) && view_int(&v, &result) ? result : otherwise;
}

double
goya_json_get_double(const Jsonb *obj, const char *key, double otherwise)
{
	JsonbValue	v;
	double		result;

	return get_view(obj, key, &v) && goya_json_view_double(&v, &result) ? result : otherwise;
}

static bool
is_scalar_of(const Jsonb *j, enum jbvType type, JsonbValue *v)
{
	if (j == NULL || !JB_ROOT_IS_SCALAR(j))
		return false;
	goya_json_view(j, v);
	return v->type == type;
}

bool
goya_json_is_null(const Jsonb *j)
{
	JsonbValue	v;

	return j == NULL || is_scalar_of(j, jbvNull, &v);
}

bool
goya_json_is_object(const Jsonb *j)
{
	return j != NULL && JB_ROOT_IS_OBJECT(j);
}

bool
goya_json_is_array(const Jsonb *j)
{
	return j != NULL && JB_ROOT_IS_ARRAY(j) && !JB_ROOT_IS_SCALAR(j);
}

bool
goya_json_is_string(const Jsonb *j)
{
	JsonbValue	v;

	return is_scalar_of(j, jbvString, &v);
}

bool
goya_json_is_number(const Jsonb *j)
{
	JsonbValue	v;

	return is_scalar_of(j, jbvNumeric, &v);
}

bool
goya_json_is_bool(const Jsonb *j)
{
	JsonbValue	v;

	return is_scalar_of(j, jbvBool, &v);
}

bool
goya_json_is_true(const Jsonb *j)
{
	JsonbValue	v;

	return is_scalar_of(j, jbvBool, &v) && v.val.boolean;
}

const char *
goya_json_type_name(const Jsonb *j)
{
	JsonbValue	v;

	goya_json_view(j, &v);
	return goya_json_view_type_name(&v);
}

bool
goya_json_as_int(const Jsonb *j, int64 *result)
{
	JsonbValue	v;

	goya_json_view(j, &v);
	return view_int(&v, result);
}

bool
goya_json_as_double(const Jsonb *j, double *result)
{
	JsonbValue	v;

	goya_json_view(j, &v);
	return goya_json_view_double(&v, result);
}

int
goya_json_array_length(const Jsonb *j)
{
	return goya_json_is_array(j) ? (int) JB_ROOT_COUNT(j) : 0;
}

Jsonb *
goya_json_array_get(const Jsonb *j, int index)
{
	JsonbValue	v;
	JsonbValue	elem;

	if (index < 0 || index >= goya_json_array_length(j))
		return NULL;
	goya_json_view(j, &v);
	goya_json_view_elem(&v, index, &elem);
	return goya_json_from_view(&elem);
}

int
goya_json_object_length(const Jsonb *j)
{
	return goya_json_is_object(j) ? (int) JB_ROOT_COUNT(j) : 0;
}

char *
goya_json_object_key(const Jsonb *j, int i)
{
	JsonbValue	v;
	JsonbValue	key = {0};

	if (i < 0 || i >= goya_json_object_length(j))
		return NULL;
	goya_json_view(j, &v);
	goya_json_view_pair(&v, i, &key, NULL);
	return pnstrdup(key.val.string.val, key.val.string.len);
}

Jsonb *
goya_json_object_value(const Jsonb *j, int i)
{
	JsonbValue	v;
	JsonbValue	value;

	if (i < 0 || i >= goya_json_object_length(j))
		return NULL;
	goya_json_view(j, &v);
	goya_json_view_pair(&v, i, NULL, &value);
	return goya_json_from_view(&value);
}

char *
goya_json_to_cstring(const Jsonb *j)
{
	if (j == NULL)
		return pstrdup("null");
	return JsonbToCString(NULL, unconstify(JsonbContainer *, &j->root), VARSIZE(j));
}

char *
goya_json_as_text(const Jsonb *j)
{
	JsonbValue	v;

	goya_json_view(j, &v);
	return goya_json_view_text(&v);
}

/* ---- making scalars ---- */

Jsonb *
goya_json_null(void)
{
	JsonbValue	v;

	v.type = jbvNull;
	return goya_json_from_view(&v);
}

Jsonb *
goya_json_from_text_len(const char *s, int len)
{
	JsonbValue	v;

	if (s == NULL)
		return goya_json_null();
	v.type = jbvString;
	v.val.string.val = unconstify(char *, s);
	v.val.string.len = len;
	return goya_json_from_view(&v);
}

Jsonb *
goya_json_from_text(const char *s)
{
	return goya_json_from_text_len(s, s ? (int) strlen(s) : 0);
}

Jsonb *
goya_json_from_int(int64 i)
{
	JsonbValue	v;

	v.type = jbvNumeric;
	v.val.numeric = int64_to_numeric(i);
	return goya_json_from_view(&v);
}

Jsonb *
goya_json_from_bool(bool b)
{
	JsonbValue	v;

	v.type = jbvBool;
	v.val.boolean = b;
	return goya_json_from_view(&v);
}

Jsonb *
goya_json_parse(const char *json, int len)
{
	char	   *text;
	Jsonb	   *result;

	/* also refuses NUL bytes, where jsonb_in would see the end */
	pg_verifymbstr(json, len, false);
	text = pnstrdup(json, len);
	result = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
	pfree(text);
	return result;
}

Jsonb *
goya_json_copy(const Jsonb *j)
{
	Jsonb	   *result;

	if (j == NULL)
		return NULL;
	result = palloc(VARSIZE(j));
	memcpy(result, j, VARSIZE(j));
	return result;
}
