/*
 * schema_internal.h
 *	  What the schema_*.c files share: the compiled node and its helpers.
 *
 * Dependencies run one way:
 *	  schema.c, schema_bundle.c -> schema_compile.c -> schema_ref.c ->
 *	  schema_uri.c, schema_document.c -> schema_meta.c
 *	  schema_compile.c, schema_ref.c -> schema_keyword.c (the table)
 *	  schema.c -> schema_check.c <-> schema_array.c, schema_object.c
 *	  compile and check -> schema_report.c, schema_format.c -> schema_regex.c ->
 *	  schema_ecma.c -> schema_ecma_char.c
 *
 * Every struct below is written while compiling and only read afterwards, so
 * one compiled schema can serve any number of checks in its backend.
 */
#ifndef GOYA_SCHEMA_INTERNAL_H
#define GOYA_SCHEMA_INTERNAL_H

#include "schema.h"
#include "nodes/bitmapset.h"
#include "utils/hsearch.h"
#include "utils/numeric.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* Nesting allowed in a schema document and in the checked part of a value. */
#define GOYA_SCHEMA_MAX_DEPTH	64
/* Schemas that may apply one after another to the same value. */
#define GOYA_SCHEMA_MAX_CHAIN	200
/* Schema applications in one check, so that no schema can run for hours. */
#define GOYA_SCHEMA_MAX_STEPS	INT64CONST(20000000)

/* Dialects are bits: a keyword says in which of them it exists. */
#define GOYA_DIALECT_7			0x01
#define GOYA_DIALECT_2019		0x02
#define GOYA_DIALECT_2020		0x04
#define GOYA_DIALECT_AUTO		0x08	/* no $schema, but newer keywords */
#define GOYA_DIALECT_NEW \
	(GOYA_DIALECT_2019 | GOYA_DIALECT_2020 | GOYA_DIALECT_AUTO)
#define GOYA_DIALECT_ANY		(GOYA_DIALECT_7 | GOYA_DIALECT_NEW)

/* Vocabularies that a metaschema may leave out. */
#define GOYA_OMIT_VALIDATION	0x01
#define GOYA_OMIT_APPLICATOR	0x02
#define GOYA_OMIT_UNEVALUATED	0x04
#define GOYA_OMIT_FORMAT		0x08

/* JSON types as bits, for the keyword "type". */
#define GOYA_JSON_NULL			0x01
#define GOYA_JSON_BOOLEAN		0x02
#define GOYA_JSON_INTEGER		0x04
#define GOYA_JSON_NUMBER		0x08
#define GOYA_JSON_STRING		0x10
#define GOYA_JSON_ARRAY			0x20
#define GOYA_JSON_OBJECT		0x40

typedef struct GoyaSchemaNode GoyaSchemaNode;
typedef struct GoyaSchemaRegex GoyaSchemaRegex;

/* A format that is asserted. */
typedef struct GoyaSchemaFormat
{
	const char *name;
	bool		(*check) (const char *s, int len);
	const char *example;
} GoyaSchemaFormat;

/* A plain-name fragment inside a resource. */
typedef struct GoyaSchemaAnchor
{
	char	   *name;
	JsonbContainer *at;			/* the schema object that carries it */
	bool		dynamic;		/* from $dynamicAnchor */
	GoyaSchemaNode *node;		/* dynamic ones only: compiled target */
} GoyaSchemaAnchor;

/* A schema document or a part of one that has its own $id. */
typedef struct GoyaSchemaResource
{
	char	   *uri;			/* absolute where possible, no fragment */
	char	   *retrieved;		/* the URI it was found under, before its $id */
	JsonbContainer *root;
	int			dialect;
	int			omitted;		/* GOYA_OMIT_…: keywords that say nothing here */
	List	   *anchors;		/* of GoyaSchemaAnchor * */
} GoyaSchemaResource;

typedef struct GoyaSchemaList
{
	int			count;
	GoyaSchemaNode **nodes;
} GoyaSchemaList;

typedef struct GoyaSchemaValues
{
	int			count;
	JsonbValue *values;
} GoyaSchemaValues;

/* One entry of properties, required, dependentRequired and the like. */
typedef struct GoyaSchemaKey
{
	char	   *name;			/* zero-terminated as well */
	int			len;
	GoyaSchemaNode *node;		/* schema for it, or NULL */
	GoyaSchemaRegex *regex;		/* patternProperties only */
	struct GoyaSchemaMap *needs;	/* keys that must be present too */
} GoyaSchemaKey;

/* Keys in jsonb order (length, then bytes), as they come from the document. */
typedef struct GoyaSchemaMap
{
	int			count;
	GoyaSchemaKey *keys;
} GoyaSchemaMap;

struct GoyaSchemaNode
{
	int			verdict;		/* 1 = schema true, -1 = schema false */
	GoyaSchemaResource *resource;
	char	   *location;		/* "#/properties/a", for messages */
	int			chain;			/* schemas in a row on one value; -1 = counting */

	GoyaSchemaNode *ref;		/* $ref */
	GoyaSchemaNode *dynamic_ref;	/* $dynamicRef, its first target */
	char	   *dynamic_name;	/* anchor to look for in the dynamic scope */

	uint32		types;			/* 0 = any */
	GoyaSchemaValues *choices;	/* enum */
	JsonbValue *constant;

	Numeric		multiple_of;
	Numeric		maximum;
	Numeric		exclusive_maximum;
	Numeric		minimum;
	Numeric		exclusive_minimum;

	int64		max_length;		/* counts: -1 = absent */
	int64		min_length;
	GoyaSchemaRegex *pattern;
	const GoyaSchemaFormat *format;

	GoyaSchemaList *prefix;		/* prefixItems, or items as an array */
	GoyaSchemaNode *rest;		/* items or additionalItems after that */
	GoyaSchemaNode *additional_items;
	GoyaSchemaNode *contains;
	int64		max_contains;
	int64		min_contains;
	int64		max_items;
	int64		min_items;
	bool		unique_items;

	int64		max_properties;
	int64		min_properties;
	GoyaSchemaMap *required;
	GoyaSchemaMap *properties;
	GoyaSchemaMap *pattern_properties;
	GoyaSchemaNode *additional_properties;
	GoyaSchemaNode *property_names;
	GoyaSchemaMap *dependencies;
	GoyaSchemaMap *dependent_required;
	GoyaSchemaMap *dependent_schemas;

	GoyaSchemaList *all_of;
	GoyaSchemaList *any_of;
	GoyaSchemaList *one_of;
	GoyaSchemaNode *negated;
	GoyaSchemaNode *condition;
	GoyaSchemaNode *then_node;
	GoyaSchemaNode *else_node;

	GoyaSchemaNode *unevaluated_items;
	GoyaSchemaNode *unevaluated_properties;
	GoyaSchemaMap *definitions; /* compiled for their errors only */
	JsonbValue *examples;		/* for hints */
};

struct GoyaSchema
{
	Jsonb	   *document;		/* our copy; nodes point into it */
	GoyaSchemaNode *root;
};

/* ---- compile ---- */

/* What a keyword's value looks like and where it goes in the node. */
typedef enum GoyaSchemaShape
{
	SHAPE_EXAMPLES,				/* an annotation, whatever its value */
	SHAPE_TYPE,
	SHAPE_VALUE,
	SHAPE_VALUES,
	SHAPE_NUMBER,
	SHAPE_DIVISOR,
	SHAPE_COUNT,
	SHAPE_FLAG,
	SHAPE_REGEX,
	SHAPE_FORMAT,
	SHAPE_REFUSED,				/* would change the answer if it were ignored */
	SHAPE_STRINGS,
	SHAPE_STRINGS_MAP,
	/* the following hold schemas */
	SHAPE_SCHEMA,
	SHAPE_SCHEMA_LIST,
	SHAPE_SCHEMA_MAP,
	SHAPE_PATTERN_MAP,
	SHAPE_ITEMS,				/* schema, or list in older drafts */
	SHAPE_DEPENDENCIES			/* map of schema or list of strings */
} GoyaSchemaShape;

typedef struct GoyaSchemaKeyword
{
	const char *name;
	GoyaSchemaShape shape;
	int			dialects;
	size_t		offset;			/* of the field in GoyaSchemaNode */
} GoyaSchemaKeyword;

/* A schema object found in a document: who owns it and what it became. */
typedef struct GoyaSchemaPlace
{
	JsonbContainer *at;			/* hash key */
	GoyaSchemaResource *resource;
	char	   *location;
	GoyaSchemaNode *node;		/* NULL until compiled */
} GoyaSchemaPlace;

typedef struct GoyaSchemaCompiler
{
	MemoryContext scratch;		/* gone after compiling */
	HTAB	   *places;			/* JsonbContainer * -> GoyaSchemaPlace */
	List	   *nodes;			/* GoyaSchemaNode * of places, in the order in which they were compiled */
	List	   *resources;		/* of GoyaSchemaResource * */
	List	   *pending;		/* references still to be resolved */
	JsonbContainer *documents;	/* "$documents" of the root, or NULL */
	bool		collecting;		/* an unknown document is no error ... */
	List	   *missing;		/* ... but noted here, char * */
	GoyaSchemaNode *always;
	GoyaSchemaNode *never;
	char	   *error;			/* first problem; NULL = none so far */
} GoyaSchemaCompiler;

/* A place a reference points at. */
typedef struct GoyaSchemaTarget
{
	JsonbValue	value;			/* boolean, or object in binary form */
	GoyaSchemaResource *resource;
	bool		by_name;		/* found through an anchor ... */
	bool		dynamic;		/* ... that is a $dynamicAnchor */
	char	   *name;
} GoyaSchemaTarget;

extern const GoyaSchemaKeyword *goya_schema_find_keyword(const char *name,
														 int len,
														 int dialect);
extern bool goya_schema_is_omitted(int omitted, const GoyaSchemaKeyword *kw);
extern GoyaSchemaNode *goya_schema_make_node(GoyaSchemaPlace *place);
extern bool goya_schema_is_container(const JsonbValue *v, bool object);
extern bool goya_schema_compile_plain(GoyaSchemaCompiler *cc,
									  GoyaSchemaNode *node,
									  const GoyaSchemaKeyword *kw,
									  JsonbValue *v);
extern void goya_schema_fail(GoyaSchemaCompiler *cc, const char *location,
							 const char *keyword,
							 const char *fmt,...) pg_attribute_printf(4, 5);
extern bool goya_schema_scan_document(GoyaSchemaCompiler *cc,
									  JsonbContainer *root, const char *uri);
extern GoyaSchemaPlace *goya_schema_find_place(GoyaSchemaCompiler *cc,
											   JsonbContainer *at);
extern bool goya_schema_resolve(GoyaSchemaCompiler *cc, const char *ref,
								GoyaSchemaResource *from,
								const char *location, const char *keyword,
								GoyaSchemaTarget *target);
extern char *goya_schema_resolve_uri(const char *base, const char *ref);
extern bool goya_schema_get_string(JsonbContainer *at, const char *key,
								   char **result);
extern bool goya_schema_read_documents(GoyaSchemaCompiler *cc,
									   JsonbContainer *root);
extern int	goya_schema_guess_dialect(JsonbContainer *root);
extern bool goya_schema_read_dialect(GoyaSchemaCompiler *cc,
									 JsonbContainer *at,
									 GoyaSchemaResource *resource,
									 const char *location);
extern GoyaSchemaResource *goya_schema_find_resource(GoyaSchemaCompiler *cc,
													 const char *uri);
extern bool goya_schema_note_missing(GoyaSchemaCompiler *cc, const char *uri);
extern const char *goya_schema_find_metaschema(const char *uri);
extern char *goya_schema_child_location(const char *location,
										const char *key, int len);
extern void goya_schema_root_value(Jsonb *jb, JsonbValue *value);
extern void goya_schema_container_value(JsonbContainer *at, JsonbValue *value);

/* ---- regular expressions and formats ---- */

extern GoyaSchemaRegex *goya_schema_regex_compile(const char *pattern, int len,
												  char **error);
extern bool goya_schema_regex_match(GoyaSchemaRegex *re, const char *s, int len);
extern const char *goya_schema_regex_source(GoyaSchemaRegex *re);
extern bool goya_schema_regex_is_valid(const char *pattern, int len);
extern const GoyaSchemaFormat *goya_schema_find_format(const char *name,
													   int len);

/* ---- check ---- */

/* Where we are in the instance: a list on the C stack, root = NULL. */
typedef struct GoyaSchemaPath
{
	struct GoyaSchemaPath *parent;
	const char *key;			/* NULL for an array item */
	int			keylen;
	int			index;
	int			depth;
} GoyaSchemaPath;

/* Which schema resources evaluation went through, innermost first. */
typedef struct GoyaSchemaScope
{
	struct GoyaSchemaScope *outer;
	GoyaSchemaResource *resource;
} GoyaSchemaScope;

/* What subschemas have looked at, for the unevaluated keywords. */
typedef struct GoyaSchemaSeen
{
	bool		all_items;
	bool		all_keys;
	Bitmapset  *items;			/* by array index */
	Bitmapset  *keys;			/* by position in the jsonb object */
} GoyaSchemaSeen;

typedef struct GoyaSchemaCheck
{
	MemoryContext result;		/* errors are made here */
	List	   *errors;
	int			nerrors;
	int			max_errors;
	bool		quiet;			/* count errors, do not describe them */
	bool		aborted;		/* a limit was hit; the result is final */
	int64		steps;
	GoyaSchemaNode *node;		/* being applied, for the schema path */
	GoyaSchemaScope *scope;
} GoyaSchemaCheck;

/* State set aside while a subschema is only tried. */
typedef struct GoyaSchemaTrial
{
	List	   *errors;
	int			nerrors;
	int			max_errors;
	bool		quiet;
} GoyaSchemaTrial;

#define schema_is_full(ck) ((ck)->aborted || (ck)->nerrors >= (ck)->max_errors)

extern bool goya_schema_evaluate(GoyaSchemaCheck *ck, GoyaSchemaNode *node,
								 JsonbValue *value, GoyaSchemaPath *path,
								 GoyaSchemaSeen *seen);
extern bool goya_schema_try(GoyaSchemaCheck *ck, GoyaSchemaNode *node,
							JsonbValue *value, GoyaSchemaPath *path,
							GoyaSchemaSeen *seen, GoyaSchemaError **first);
extern bool goya_schema_equal(JsonbValue *a, JsonbValue *b);
extern void goya_schema_check_array(GoyaSchemaCheck *ck, GoyaSchemaNode *node,
									JsonbValue *value, GoyaSchemaPath *path,
									GoyaSchemaSeen *seen);
extern void goya_schema_check_rest_items(GoyaSchemaCheck *ck,
										 GoyaSchemaNode *node,
										 JsonbValue *value,
										 GoyaSchemaPath *path,
										 GoyaSchemaSeen *seen);
extern void goya_schema_check_object(GoyaSchemaCheck *ck, GoyaSchemaNode *node,
									 JsonbValue *value, GoyaSchemaPath *path,
									 GoyaSchemaSeen *seen);
extern void goya_schema_check_dependent(GoyaSchemaCheck *ck,
										GoyaSchemaNode *node,
										JsonbValue *value,
										GoyaSchemaPath *path,
										GoyaSchemaSeen *seen);
extern void goya_schema_check_rest_keys(GoyaSchemaCheck *ck,
										GoyaSchemaNode *node,
										JsonbValue *value,
										GoyaSchemaPath *path,
										GoyaSchemaSeen *seen);

/* ---- report ---- */

/* Report a violation; where errors are only counted, no text is made. */
#define schema_report(ck, ...) \
	do { \
		if ((ck)->quiet) \
			(ck)->nerrors++; \
		else \
			goya_schema_describe(ck, __VA_ARGS__); \
	} while (0)

extern void goya_schema_describe(GoyaSchemaCheck *ck, GoyaSchemaPath *path,
								 const char *keyword, char *hint,
								 const char *fmt,...) pg_attribute_printf(5, 6);
extern char *goya_schema_path_text(GoyaSchemaPath *path);
extern const char *goya_schema_type_name(JsonbValue *value);
extern char *goya_schema_value_text(JsonbValue *value);
extern char *goya_schema_quote(const char *s, int len);
extern char *goya_schema_types_text(uint32 types);
extern char *goya_schema_similar_key(GoyaSchemaMap *known, const char *key,
									 int len);
extern char *goya_schema_similar_choice(GoyaSchemaValues *choices,
										JsonbValue *value);
extern char *goya_schema_misspelt_key(GoyaSchemaMap *known, JsonbValue *object,
									  GoyaSchemaKey *missing);
extern char *goya_schema_example_hint(GoyaSchemaNode *node);
#define schema_plural(n, one, many) ((n) == 1 ? (one) : (many))

#endif							/* GOYA_SCHEMA_INTERNAL_H */
