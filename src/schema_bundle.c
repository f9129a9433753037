/*
 * schema_bundle.c
 *	  JSON Schema: carrying registered documents along with a schema.
 *
 * goya.schemas holds documents per tenant by URI.  A schema that refers to one
 * gets it under "$documents" (see schema_document.c), and those that it refers
 * to in turn.  goya_private.bundle_schema does that; here are what it asks and
 * the ways to it.
 *
 * Decided: what is published is bundled when it is published, and is whole from
 * then on.  goya.check_schema and the validator, which look at a schema of the
 * moment, bundle it when a reference leaves it.
 *
 * What must hold: only documents of the caller's tenant are reached, and a
 * schema that refers to nothing outside itself never costs a query.
 */
#include "postgres.h"

#include "schema.h"
#include "schema_bundle.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "storage/proc.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/uuid.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#include "identity.h"
#include "plan.h"

PG_FUNCTION_INFO_V1(goya_missing_schemas_sql);
PG_FUNCTION_INFO_V1(goya_unbound_schemas_sql);

#define BUNDLE "SELECT goya_private.bundle_schema($1, $2)"

/* ask goya_private.bundle_schema; the answer is in the context given */
static Jsonb *
ask_for_bundle(const pg_uuid_t *tenant, Jsonb *schema, MemoryContext result)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[2] = {UUIDOID, JSONBOID};
	Datum		args[2] = {UUIDPGetDatum(tenant), JsonbPGetDatum(schema)};
	Jsonb	   *found;
	Jsonb	   *copy;
	bool		isnull;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (plan == NULL)
	{
		SPIPlanPtr	made = SPI_prepare(BUNDLE, 2, types);

		if (made == NULL || SPI_keepplan(made) != 0)
			elog(ERROR, "could not prepare a look-up: %s", SPI_result_code_string(SPI_result));
		plan = made;
	}
	if (SPI_execute_plan(plan, args, NULL, true, 1) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "look-up failed");
	found = DatumGetJsonbP(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	copy = memcpy(MemoryContextAlloc(result, VARSIZE(found)), found, VARSIZE(found));
	SPI_finish();
	return copy;
}

/*
 * The schema with the documents it refers to, as far as the caller's tenant
 * has registered them; the same pointer for a caller without a tenant.  A
 * query; the result is in the current memory context.  Throws 22023 when a
 * document is wrong or there are too many.
 */
Jsonb *
goya_schema_bundle(Jsonb *schema)
{
	MemoryContext result = CurrentMemoryContext;
	GoyaOwnerScope scope;
	pg_uuid_t	tenant;
	Jsonb	   *bundle;

	if (!goya_identity_tenant(&tenant))
		return schema;
	goya_owner_enter(&scope);
	bundle = ask_for_bundle(&tenant, schema, result);
	goya_owner_leave(&scope);
	MemoryContextSwitchTo(result);
	return bundle;
}

/* What the rows seen at this moment depend on: as long as it is equal, a bundle made before is right. */
void
goya_schema_stamp(GoyaSchemaStamp *stamp)
{
	Snapshot	snapshot = GetActiveSnapshot();

	memset(stamp, 0, sizeof(*stamp));
	stamp->has_tenant = goya_identity_tenant(&stamp->tenant);
#if PG_VERSION_NUM >= 170000
	stamp->transaction = MyProc->vxid.lxid;
#else
	stamp->transaction = MyProc->lxid;
#endif
	stamp->command = snapshot->curcid;
	stamp->xmin = snapshot->xmin;
	stamp->xmax = snapshot->xmax;
	stamp->running = snapshot->xcnt;
	stamp->subtransaction = GetCurrentSubTransactionId();
}

bool
goya_schema_same_stamp(const GoyaSchemaStamp *a, const GoyaSchemaStamp *b)
{
	return a->has_tenant == b->has_tenant && memcmp(&a->tenant, &b->tenant, UUID_LEN) == 0 &&
		a->transaction == b->transaction && a->subtransaction == b->subtransaction && a->command == b->command &&
		a->xmin == b->xmin && a->xmax == b->xmax && a->running == b->running;
}

static Datum
make_text_array(List *texts)
{
	Datum	   *values = palloc(sizeof(Datum) * (list_length(texts) + 1));
	int			n = 0;
	ListCell   *lc;

	foreach(lc, texts)
		values[n++] = CStringGetTextDatum((char *) lfirst(lc));
	return PointerGetDatum(construct_array(values, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* goya_private.missing_schemas(schema jsonb) → text[]: URIs it refers to and does not carry along; 22023 when it is wrong */
Datum
goya_missing_schemas_sql(PG_FUNCTION_ARGS)
{
	char	   *error;
	List	   *missing = goya_schema_missing(PG_GETARG_JSONB_P(0), &error);

	if (error != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("schema is not a valid JSON Schema"),
				 errdetail("%s.", error),
				 errhint("Correct the schema at the place named; the part after # is a JSON Pointer into it.")));
	return make_text_array(missing);
}

/* goya_private.unbound_schemas(definition jsonb) → text[]: JSON Pointers to the schemas in it that refer to documents they do not carry along */
Datum
goya_unbound_schemas_sql(PG_FUNCTION_ARGS)
{
	List	   *problems = NIL;
	List	   *paths = NIL;
	ListCell   *lc;

	(void) goya_plan_compile(PG_GETARG_JSONB_P(0), false, CurrentMemoryContext, NULL, &problems);
	foreach(lc, problems)
	{
		GoyaProblem *p = lfirst(lc);

		if (strcmp(p->code, GOYA_UNKNOWN_SCHEMA) == 0)
			paths = lappend(paths, (char *) p->path);
	}
	return make_text_array(paths);
}
