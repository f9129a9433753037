/*-------------------------------------------------------------------------
 * json_build.c
 *		Puts jsonb values together out of views, by copying bytes.
 *
 * PostgreSQL's own way (pushJsonbValue) unpacks every nested container into a tree and packs it again.  A container's bytes do not
 * depend on where they lie, save for an alignment of four, so here a part is one memcpy.  What is written is exactly what
 * convertJsonbObject() and convertJsonbArray() in jsonb_util.c would write: keys sorted by length and then by bytes, an offset in
 * every JB_OFFSET_STRIDE'th JEntry and lengths in the others, padding counted in the length of the part it precedes.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "json_util.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

#define FIRST_OFFSET(n) (VARHDRSZ + sizeof(uint32) + (Size) (n) * sizeof(JEntry))

/* Offset behind a part that starts to be written at offset. */
static Size
offset_after(Size offset, const JsonbValue *v)
{
	switch (v->type)
	{
		case jbvNull:
		case jbvBool:
			return offset;
		case jbvString:
			return offset + v->val.string.len;
		case jbvNumeric:
			return INTALIGN(offset) + VARSIZE_ANY(v->val.numeric);
		case jbvBinary:
			return INTALIGN(offset) + v->val.binary.len;
		default:
			elog(ERROR, "unexpected kind of jsonb value: %d", (int) v->type);
	}
	return 0;
}

/* Writes the bytes of a part and returns the type bits of its JEntry; base is zeroed. */
static uint32
write_part(char *base, Size offset, const JsonbValue *v)
{
	switch (v->type)
	{
		case jbvBool:
			return v->val.boolean ? JENTRY_ISBOOL_TRUE : JENTRY_ISBOOL_FALSE;
		case jbvString:
			memcpy(base + offset, v->val.string.val, v->val.string.len);
			return JENTRY_ISSTRING;
		case jbvNumeric:
			memcpy(base + INTALIGN(offset), v->val.numeric, VARSIZE_ANY(v->val.numeric));
			return JENTRY_ISNUMERIC;
		case jbvBinary:
			memcpy(base + INTALIGN(offset), v->val.binary.data, v->val.binary.len);
			return JENTRY_ISCONTAINER;
		default:
			return JENTRY_ISNULL;
	}
}

static Size
write_entry(Jsonb *result, int n, int i, Size offset, const JsonbValue *v)
{
	Size		after = offset_after(offset, v);
	uint32		type = write_part((char *) result + FIRST_OFFSET(n), offset, v);

	if (i % JB_OFFSET_STRIDE == 0)
		result->root.children[i] = type | JENTRY_HAS_OFF | (uint32) after;
	else
		result->root.children[i] = type | (uint32) (after - offset);
	return after;
}

static Jsonb *
alloc_result(int n_entries, Size data, uint32 header)
{
	Jsonb	   *result;

	if (data > JENTRY_OFFLENMASK)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("total size of jsonb value exceeds the maximum of %u bytes", JENTRY_OFFLENMASK)));
	result = palloc0(FIRST_OFFSET(n_entries) + data);
	SET_VARSIZE(result, FIRST_OFFSET(n_entries) + data);
	result->root.header = header;
	return result;
}

/* A Jsonb of its own from a view. */
Jsonb *
goya_json_from_view(const JsonbValue *v)
{
	Jsonb	   *result;

	if (v->type == jbvBinary)
	{
		result = palloc(VARHDRSZ + v->val.binary.len);
		SET_VARSIZE(result, VARHDRSZ + v->val.binary.len);
		memcpy(&result->root, v->val.binary.data, v->val.binary.len);
		return result;
	}
	result = alloc_result(1, offset_after(0, v), JB_FARRAY | JB_FSCALAR | 1);
	write_entry(result, 1, 0, 0, v);
	return result;
}

Jsonb *
goya_json_build_array(int n, const JsonbValue *values)
{
	Jsonb	   *result;
	Size		offset = 0;

	for (int i = 0; i < n; i++)
		offset = offset_after(offset, &values[i]);
	result = alloc_result(n, offset, JB_FARRAY | (uint32) n);
	offset = 0;
	for (int i = 0; i < n; i++)
		offset = write_entry(result, n, i, offset, &values[i]);
	return result;
}

typedef struct Field
{
	const JsonbValue *key;
	const JsonbValue *value;
	int			order;
} Field;

static int
compare_keys(const JsonbValue *a, const JsonbValue *b)
{
	if (a->val.string.len != b->val.string.len)
		return a->val.string.len > b->val.string.len ? 1 : -1;
	return memcmp(a->val.string.val, b->val.string.val, a->val.string.len);
}

static int
compare_fields(const void *a, const void *b)
{
	int			c = compare_keys(((const Field *) a)->key, ((const Field *) b)->key);

	if (c != 0)
		return c;
	return ((const Field *) a)->order > ((const Field *) b)->order ? 1 : -1;
}

/* Sorts fields as jsonb wants them; of equal keys the last given stays.  Returns how many are left. */
static int
sort_fields(Field *fields, int n)
{
	int			kept = 0;

	qsort(fields, n, sizeof(Field), compare_fields);
	for (int i = 0; i < n; i++)
	{
		if (i + 1 < n && compare_keys(fields[i].key, fields[i + 1].key) == 0)
			continue;
		fields[kept++] = fields[i];
	}
	return kept;
}

/* sorted promises that the keys are in jsonb's order and differ. */
Jsonb *
goya_json_build_object(int n, const JsonbValue *keys, const JsonbValue *values, bool sorted)
{
	Field		few[32];
	Field	   *fields = n <= (int) lengthof(few) ? few : palloc(sizeof(Field) * n);
	Size		offset = 0;
	Jsonb	   *result;

	for (int i = 0; i < n; i++)
	{
		fields[i].key = &keys[i];
		fields[i].value = &values[i];
		fields[i].order = i;
	}
	if (!sorted && n > 1)
		n = sort_fields(fields, n);

	for (int i = 0; i < n; i++)
		offset = offset_after(offset, fields[i].key);
	for (int i = 0; i < n; i++)
		offset = offset_after(offset, fields[i].value);
	result = alloc_result(2 * n, offset, JB_FOBJECT | (uint32) n);

	offset = 0;
	for (int i = 0; i < n; i++)
		offset = write_entry(result, 2 * n, i, offset, fields[i].key);
	for (int i = 0; i < n; i++)
		offset = write_entry(result, 2 * n, n + i, offset, fields[i].value);
	if (fields != few)
		pfree(fields);
	return result;
}

Jsonb *
goya_json_object(int n, const char **keys, Jsonb **values)
{
	JsonbValue *k = palloc(sizeof(JsonbValue) * Max(n, 1));
	JsonbValue *v = palloc(sizeof(JsonbValue) * Max(n, 1));
	int			used = 0;
	Jsonb	   *result;

	for (int i = 0; i < n; i++)
	{
		if (values[i] == NULL)
			continue;
		k[used].type = jbvString;
		k[used].val.string.val = unconstify(char *, keys[i]);
		k[used].val.string.len = strlen(keys[i]);
		goya_json_view(values[i], &v[used]);
		used++;
	}
	result = goya_json_build_object(used, k, v, false);
	pfree(k);
	pfree(v);
	return result;
}

Jsonb *
goya_json_array(int n, Jsonb **values)
{
	JsonbValue *v = palloc(sizeof(JsonbValue) * Max(n, 1));
	Jsonb	   *result;

	for (int i = 0; i < n; i++)
		goya_json_view(values[i], &v[i]);
	result = goya_json_build_array(n, v);
	pfree(v);
	return result;
}

Jsonb *
goya_json_set(const Jsonb *obj, const char *key, Jsonb *value)
{
	JsonbValue	view;
	int			n;
	int			len = strlen(key);
	int			used = 0;
	JsonbValue *k;
	JsonbValue *v;

	goya_json_view(obj, &view);
	n = goya_json_view_is_object(&view) ? goya_json_view_length(&view) : 0;
	k = palloc(sizeof(JsonbValue) * (n + 1));
	v = palloc(sizeof(JsonbValue) * (n + 1));
	for (int i = 0; i < n; i++)
	{
		goya_json_view_pair(&view, i, &k[used], &v[used]);
		if (k[used].val.string.len != len || memcmp(k[used].val.string.val, key, len) != 0)
			used++;
	}
	if (value != NULL)
	{
		k[used].type = jbvString;
		k[used].val.string.val = unconstify(char *, key);
		k[used].val.string.len = len;
		goya_json_view(value, &v[used]);
		used++;
	}
	return goya_json_build_object(used, k, v, false);
}

void
goya_json_object_start(GoyaJsonObject *o)
{
	o->n = 0;
	o->max = 8;
	o->keys = palloc(sizeof(char *) * o->max);
	o->values = palloc(sizeof(Jsonb *) * o->max);
}

void
goya_json_add(GoyaJsonObject *o, const char *key, Jsonb *value)
{
	if (value == NULL)
		return;
	if (o->n == o->max)
	{
		o->max *= 2;
		o->keys = repalloc(o->keys, sizeof(char *) * o->max);
		o->values = repalloc(o->values, sizeof(Jsonb *) * o->max);
	}
	o->keys[o->n] = key;
	o->values[o->n++] = value;
}

void
goya_json_add_text(GoyaJsonObject *o, const char *key, const char *value)
{
	if (value != NULL)
		goya_json_add(o, key, goya_json_from_text(value));
}

void
goya_json_add_int(GoyaJsonObject *o, const char *key, int64 value)
{
	goya_json_add(o, key, goya_json_from_int(value));
}

void
goya_json_add_bool(GoyaJsonObject *o, const char *key, bool value)
{
	goya_json_add(o, key, goya_json_from_bool(value));
}

Jsonb *
goya_json_object_finish(GoyaJsonObject *o)
{
	Jsonb	   *result = goya_json_object(o->n, o->keys, o->values);

	pfree(o->keys);
	pfree(o->values);
	return result;
}
