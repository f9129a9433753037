/*-------------------------------------------------------------------------
 * money_sql.c
 *		hold_for_task, record_usage and settle_tasks for SQL: for whoever moves tasks' money outside a batch (end_task, tests).
 *
 * What must hold: the caller has locked the tasks.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "crash_point.h"
#include "goya.h"
#include "money.h"
#include "store.h"

static Datum *
elements(FunctionCallInfo fcinfo, int arg, Oid type, bool **nulls, int *n)
{
	Datum	   *values;
	int16		len;
	bool		byval;
	char		align;

	get_typlenbyvalalign(type, &len, &byval, &align);
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(arg), type, len, byval, align, &values, nulls, n);
	return values;
}

/* goya_private.hold_for_task(tenant_id, task_id, amount) */
PG_FUNCTION_INFO_V1(goya_hold_for_task_sql);
Datum
goya_hold_for_task_sql(PG_FUNCTION_ARGS)
{
	GoyaStoreScope scope;

	goya_store_enter(&scope);
	goya_escrow_start(PG_GETARG_UUID_P(0), PG_GETARG_UUID_P(1), 1, NULL, PG_GETARG_INT64(2));
	goya_store_leave(&scope);
	PG_RETURN_UUID_P(PG_GETARG_UUID_P(1));
}

/* Holds by the ids of their tasks, each once. */
static int
load_escrows(const Datum *ids, const bool *nulls, int n, GoyaEscrow ***escrows)
{
	GoyaEscrow **all = palloc(sizeof(GoyaEscrow *) * Max(n, 1));
	int			n_all = 0;

	for (int i = 0; i < n; i++)
	{
		bool		known = nulls != NULL && nulls[i];

		for (int j = 0; !known && j < n_all; j++)
			known = goya_uuid_equal(&all[j]->id, DatumGetUUIDP(ids[i]));
		if (known)
			continue;
		all[n_all] = palloc0(sizeof(GoyaEscrow));
		all[n_all++]->id = *DatumGetUUIDP(ids[i]);
	}
	goya_escrow_load(all, n_all);
	*escrows = all;
	return n_all;
}

/* goya_private.settle_tasks(task_ids) */
PG_FUNCTION_INFO_V1(goya_settle_tasks_sql);
Datum
goya_settle_tasks_sql(PG_FUNCTION_ARGS)
{
	GoyaStoreScope scope;
	GoyaEscrow **escrows;
	bool	   *nulls;
	int			n;
	Datum	   *ids = elements(fcinfo, 0, UUIDOID, &nulls, &n);

	goya_store_enter(&scope);
	n = load_escrows(ids, nulls, n, &escrows);
	for (int i = 0; i < n; i++)
		escrows[i]->settle = true;
	if (n > 0)
		GOYA_CRASH_POINT(CANCEL_SETTLING);
	goya_escrow_write(escrows, n);
	goya_store_leave(&scope);
	PG_RETURN_VOID();
}

static GoyaEscrow *
find_escrow(GoyaEscrow **escrows, int n, const pg_uuid_t *task)
{
	for (int i = 0; i < n; i++)
		if (goya_uuid_equal(&escrows[i]->id, task) && escrows[i]->row != NULL)
			return escrows[i];
	return NULL;
}

/* What is known of the tasks, and what the node runs were charged before. */
static bool
fill_use(GoyaUse *u, int row, MemoryContext cxt)
{
	pg_uuid_t  *tenant = MemoryContextAlloc(cxt, sizeof(pg_uuid_t));

	if (goya_result_isnull(row, 1))
		return false;
	*tenant = goya_result_uuid(row, 1);
	u->tenant = tenant;
	u->created_at = DatumGetTimestampTz(goya_result_datum(row, 2));
	u->trace_id = goya_result_text(row, 3, cxt);
	return true;
}

static void
record(FunctionCallInfo fcinfo, GoyaUse *uses, int n, int64 *costs)
{
	Datum		args[4];
	bool	   *charged = palloc0(sizeof(bool) * Max(n, 1));
	GoyaUse    *fresh = palloc(sizeof(GoyaUse) * Max(n, 1));
	GoyaEscrow **escrows;
	Datum	   *ids = palloc(sizeof(Datum) * Max(n, 1));
	int			n_escrows;
	int			n_fresh = 0;

	for (int i = 0; i < 4; i++)
		args[i] = PG_GETARG_DATUM(i);
	goya_store_run(GOYA_STMT_CHARGED, args, NULL);
	for (int i = 0; i < n; i++)
	{
		ids[i] = UUIDPGetDatum(uses[i].task);
		if (!fill_use(&uses[i], i, CurrentMemoryContext))
			ereport(ERROR, (errcode(GOYA_ERR_NOT_FOUND), errmsg("task %s not found", goya_uuid_text(uses[i].task))));
		charged[i] = !goya_result_isnull(i, 4);
		costs[i] = charged[i] ? goya_result_int8(i, 4) : 0;
	}
	n_escrows = load_escrows(ids, NULL, n, &escrows);
	for (int i = 0; i < n; i++)
	{
		uses[i].escrow = find_escrow(escrows, n_escrows, uses[i].task);
		if (!charged[i])
			fresh[n_fresh++] = uses[i];
	}
	goya_usage_record(NULL, fresh, n_fresh);
	goya_escrow_write(escrows, n_escrows);
	for (int i = n; i-- > 0;)
		if (!charged[i])
			costs[i] = fresh[--n_fresh].cost;
}

/* goya_private.record_usage(task_ids, nodes, items, attempts, price_names, quantities, estimated, cost_tags) -> (ordinal, cost) */
PG_FUNCTION_INFO_V1(goya_record_usage_sql);
Datum
goya_record_usage_sql(PG_FUNCTION_ARGS)
{
	static const Oid types[] = {UUIDOID, TEXTOID, INT4OID, INT2OID, TEXTOID, JSONBOID, BOOLOID, TEXTOID};
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	GoyaStoreScope scope;
	Datum	   *columns[8];
	bool	   *missing[8] = {NULL};
	GoyaUse    *uses;
	int64	   *costs;
	int			n = 0;

	for (int i = 0; i < 8; i++)
	{
		int			length;

		columns[i] = elements(fcinfo, i, types[i], i == 5 || i == 7 ? &missing[i] : NULL, &length);
		if (i > 5 && length == 0)
		{
			columns[i] = NULL;
			continue;
		}
		if (i > 0 && length != n)
			ereport(ERROR, (errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR), errmsg("arrays of different lengths")));
		n = length;
	}
	InitMaterializedSRF(fcinfo, 0);
	uses = palloc0(sizeof(GoyaUse) * Max(n, 1));
	costs = palloc(sizeof(int64) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		uses[i].task = DatumGetUUIDP(columns[0][i]);
		uses[i].node = TextDatumGetCString(columns[1][i]);
		uses[i].item = DatumGetInt32(columns[2][i]);
		uses[i].attempt = DatumGetInt16(columns[3][i]);
		uses[i].name = TextDatumGetCString(columns[4][i]);
		uses[i].quantity = missing[5][i] ? NULL : DatumGetJsonbP(columns[5][i]);
		uses[i].estimated = columns[6] != NULL && DatumGetBool(columns[6][i]);
		uses[i].cost_tag = columns[7] == NULL || missing[7][i] ? NULL : TextDatumGetCString(columns[7][i]);
	}
	goya_store_enter(&scope);
	record(fcinfo, uses, n, costs);
	goya_store_leave(&scope);
	for (int i = 0; i < n; i++)
	{
		Datum		values[2] = {Int32GetDatum(i + 1), Int64GetDatum(costs[i])};
		bool		nulls[2] = {false, false};

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
