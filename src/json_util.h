/*-------------------------------------------------------------------------
 * json_util.h
 *		Small helpers over Jsonb: read fields, make values, put objects and arrays together.
 *
 * Decided.  Objects and arrays are put together by copying the bytes of their parts (a jsonb container may be moved as it is), never
 * by unpacking and packing again: a document of ten big node outputs costs ten memcpys.
 *
 * Must hold.  Every Jsonb given is detoasted (DatumGetJsonbP).  Every result is palloc'd in the current context and independent of its
 * arguments, except where a comment says "points into".  A "view" is a JsonbValue that points into a Jsonb: a scalar, or jbvBinary for
 * a real array or object (never for a raw scalar).
 *-------------------------------------------------------------------------
 */
#ifndef GOYA_JSON_UTIL_H
#define GOYA_JSON_UTIL_H

#include "postgres.h"
#include "utils/jsonb.h"

/* Reading.  obj may be NULL or anything: then as if the key were absent. */
extern Jsonb *goya_json_get(const Jsonb *obj, const char *key);	/* NULL when absent; JSON null is a value */
extern Jsonb *goya_json_get_path(const Jsonb *obj, int n, const char **keys);	/* nested keys */
extern bool goya_json_has(const Jsonb *obj, const char *key);
extern char *goya_json_get_text(const Jsonb *obj, const char *key); /* as ->>: NULL when absent or null */
extern bool goya_json_get_bool(const Jsonb *obj, const char *key, bool otherwise);
extern int64 goya_json_get_int(const Jsonb *obj, const char *key, int64 otherwise); /* rounded; otherwise when out of range */
extern double goya_json_get_double(const Jsonb *obj, const char *key, double otherwise);

extern bool goya_json_is_null(const Jsonb *j);	/* JSON null; also true for a NULL pointer */
extern bool goya_json_is_object(const Jsonb *j);
extern bool goya_json_is_array(const Jsonb *j);
extern bool goya_json_is_string(const Jsonb *j);
extern bool goya_json_is_number(const Jsonb *j);
extern bool goya_json_is_bool(const Jsonb *j);
extern bool goya_json_is_true(const Jsonb *j);	/* JSON true */
extern const char *goya_json_type_name(const Jsonb *j); /* object, array, string, number, boolean, null */
extern bool goya_json_as_int(const Jsonb *j, int64 *result);	/* false unless a number that fits */
extern bool goya_json_as_double(const Jsonb *j, double *result);

extern int	goya_json_array_length(const Jsonb *j);	/* 0 unless an array */
extern Jsonb *goya_json_array_get(const Jsonb *j, int index);	/* NULL when out of range */
extern int	goya_json_object_length(const Jsonb *j);
extern char *goya_json_object_key(const Jsonb *j, int i);	/* in jsonb's order */
extern Jsonb *goya_json_object_value(const Jsonb *j, int i);

extern char *goya_json_to_cstring(const Jsonb *j);	/* JSON text */
extern char *goya_json_as_text(const Jsonb *j); /* strings bare, NULL for null and NULL, others JSON text */

/* Making.  A NULL Jsonb in an array is JSON null, in an object it leaves the key out; of equal keys the last wins. */
extern Jsonb *goya_json_null(void);
extern Jsonb *goya_json_from_text(const char *s);	/* a string value; NULL gives null */
extern Jsonb *goya_json_from_text_len(const char *s, int len);
extern Jsonb *goya_json_from_int(int64 i);
extern Jsonb *goya_json_from_bool(bool b);
extern Jsonb *goya_json_parse(const char *json, int len);	/* ereports: bad encoding, NUL byte, bad JSON */
extern Jsonb *goya_json_copy(const Jsonb *j);
extern Jsonb *goya_json_object(int n, const char **keys, Jsonb **values);
extern Jsonb *goya_json_array(int n, Jsonb **values);
extern Jsonb *goya_json_set(const Jsonb *obj, const char *key, Jsonb *value);	/* a copy with the key set; value NULL removes it */

/* An object field by field: GoyaJsonObject o; goya_json_object_start(&o); goya_json_add_text(&o, "a", "b"); … finish. */
typedef struct GoyaJsonObject
{
	int			n;
	int			max;
	const char **keys;			/* not copied: must live until finish */
	Jsonb	  **values;
} GoyaJsonObject;

extern void goya_json_object_start(GoyaJsonObject *o);
extern void goya_json_add(GoyaJsonObject *o, const char *key, Jsonb *value);	/* value NULL: left out */
extern void goya_json_add_text(GoyaJsonObject *o, const char *key, const char *value);	/* NULL: left out */
extern void goya_json_add_int(GoyaJsonObject *o, const char *key, int64 value);
extern void goya_json_add_bool(GoyaJsonObject *o, const char *key, bool value);
extern Jsonb *goya_json_object_finish(GoyaJsonObject *o);

/* Views: nothing is copied. */
extern void goya_json_view(const Jsonb *j, JsonbValue *view);	/* NULL gives null */
extern bool goya_json_view_get(const JsonbValue *object, const char *key, int len, JsonbValue *value);	/* false: absent, no object */
extern int	goya_json_view_length(const JsonbValue *v);	/* pairs or elements; 0 for scalars */
extern bool goya_json_view_is_object(const JsonbValue *v);
extern bool goya_json_view_is_array(const JsonbValue *v);
extern void goya_json_view_pair(const JsonbValue *object, int i, JsonbValue *key, JsonbValue *value);
extern void goya_json_view_elem(const JsonbValue *array, int i, JsonbValue *value);
extern const char *goya_json_view_type_name(const JsonbValue *v);
extern bool goya_json_view_double(const JsonbValue *v, double *result);	/* false unless a number; huge numbers give infinity */
extern char *goya_json_view_text(const JsonbValue *v);	/* as goya_json_as_text */
extern Jsonb *goya_json_from_view(const JsonbValue *v); /* a copy */
extern Jsonb *goya_json_build_object(int n, const JsonbValue *keys, const JsonbValue *values, bool sorted);
extern Jsonb *goya_json_build_array(int n, const JsonbValue *values);

#endif
