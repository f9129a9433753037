/*
 * schema.c
 *	  JSON Schema: the SQL function over the compiler and the checker.
 *
 * goya_schema_check_sql(schema jsonb, instance jsonb, max_errors int)
 * returns a row per violation.  The compiled form of the last schema is kept
 * on the call site (fn_extra), so a query over many rows compiles once.  A
 * schema that refers to registered documents is kept with these, and whether
 * they are still the same is asked once per snapshot.
 *
 * What must hold:
 *	- A wrong schema is SQLSTATE 22023 with the place inside the schema in
 *	  DETAIL; a wrong instance is rows, never an error.
 *	- The kept schema is compared byte by byte before it is used again.
 */
#include "postgres.h"

#include "schema.h"
#include "schema_bundle.h"

#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#define DEFAULT_MAX_ERRORS	20
#define LIMIT_MAX_ERRORS	1000

/* The compiled schema kept on a call site, in a context of its own. */
typedef struct SchemaCache
{
	MemoryContext context;
	Jsonb	   *source;
	Jsonb	   *bundle;			/* with registered documents; NULL: needs none */
	GoyaSchemaStamp stamp;		/* when the bundle was seen to be right */
	GoyaSchema *schema;
} SchemaCache;

PG_FUNCTION_INFO_V1(goya_schema_check_sql);

static bool
same_document(Jsonb *a, Jsonb *b)
{
	return VARSIZE(a) == VARSIZE(b) && memcmp(a, b, VARSIZE(a)) == 0;
}

/* Do the documents that were registered when this was compiled still say the same? */
static bool
is_current(SchemaCache *cache)
{
	GoyaSchemaStamp now;
	Jsonb	   *bundle;

	if (cache->bundle == NULL)
		return true;
	goya_schema_stamp(&now);
	if (goya_schema_same_stamp(&now, &cache->stamp))
		return true;
	bundle = goya_schema_bundle(cache->source);
	if (!same_document(bundle, cache->bundle))
		return false;
	cache->stamp = now;
	return true;
}

/* Compile into a cache made here; returns false with *error. */
static bool
compile_cache(SchemaCache *cache, char **error)
{
	char	   *wrong;

	cache->schema = goya_schema_compile(cache->source, error);
	if (cache->schema != NULL || goya_schema_missing(cache->source, &wrong) == NIL)
		return cache->schema != NULL;
	cache->bundle = goya_schema_bundle(cache->source);
	goya_schema_stamp(&cache->stamp);
	cache->schema = goya_schema_compile(cache->bundle, error);
	return cache->schema != NULL;
}

/*
 * The compiled form of the schema, from the call site's cache or made now.
 * Throws 22023 for a schema that is wrong.
 */
static GoyaSchema *
fetch_compiled(FmgrInfo *flinfo, Jsonb *source)
{
	SchemaCache *cache = (SchemaCache *) flinfo->fn_extra;
	MemoryContext context;
	MemoryContext old;
	char	   *error = NULL;

	if (cache != NULL && same_document(cache->source, source) && is_current(cache))
		return cache->schema;
	if (cache != NULL)
	{
		flinfo->fn_extra = NULL;
		MemoryContextDelete(cache->context);
	}

	/* Below the caller's memory until it is whole: nothing stays after an error. */
	context = AllocSetContextCreate(CurrentMemoryContext, "goya compiled schema",
									ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	cache = palloc0(sizeof(SchemaCache));
	cache->context = context;
	cache->source = palloc(VARSIZE(source));
	memcpy(cache->source, source, VARSIZE(source));
	if (!compile_cache(cache, &error))
	{
		MemoryContextSwitchTo(old);
		error = pstrdup(error);
		MemoryContextDelete(context);
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("schema is not a valid JSON Schema"),
				 errdetail("%s.", error),
				 errhint("Correct the schema at the place named; the part after # is a JSON Pointer into it.")));
	}
	MemoryContextSwitchTo(old);
	MemoryContextSetParent(context, flinfo->fn_mcxt);
	flinfo->fn_extra = cache;
	return cache->schema;
}

/*
 * goya.check_schema(schema jsonb, instance jsonb, max_errors int)
 * returns setof (path text, keyword text, message text, hint text, schema_path text).
 * A NULL schema or instance gives no rows.
 */
Datum
goya_schema_check_sql(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	int			max_errors = DEFAULT_MAX_ERRORS;
	GoyaSchema *schema;
	List	   *errors;
	ListCell   *lc;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		return (Datum) 0;
	if (!PG_ARGISNULL(2))
		max_errors = PG_GETARG_INT32(2);
	if (max_errors < 1 || max_errors > LIMIT_MAX_ERRORS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_errors must be between 1 and %d", LIMIT_MAX_ERRORS),
				 errdetail("The value given is %d.", max_errors)));

	schema = fetch_compiled(fcinfo->flinfo, PG_GETARG_JSONB_P(0));
	errors = goya_schema_check(schema, PG_GETARG_JSONB_P(1), max_errors);

	foreach(lc, errors)
	{
		GoyaSchemaError *e = (GoyaSchemaError *) lfirst(lc);
		Datum		values[5];
		bool		nulls[5] = {false, false, false, false, false};

		values[0] = CStringGetTextDatum(e->path);
		values[1] = CStringGetTextDatum(e->keyword);
		values[2] = CStringGetTextDatum(e->message);
		values[3] = (Datum) 0;
		if (e->hint != NULL)
			values[3] = CStringGetTextDatum(e->hint);
		else
			nulls[3] = true;
		values[4] = CStringGetTextDatum(e->schema_path);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
