/*-------------------------------------------------------------------------
 * store.c
 *		How goya's C code runs SQL of its own; the statements are in store_statements.c.
 *
 * Statements run as goya_owner with search_path pg_catalog, pg_temp (identity.c), as plans prepared once per process with generic
 * plans: hot statements must not change their plan with the statistics of the day.  They are set-based: a batch gives its rows as
 * arrays, one per column.
 *
 * What must hold: locks are taken in the order ready rows (skip locked), tasks by id, joins and maps, holds by id, wallets by id.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "jit/jit.h"
#include "optimizer/cost.h"
#include "optimizer/plancat.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "goya.h"
#include "store.h"
#include "store_statements.h"

#define MANY_ROWS	1000000.0
#define MANY_PAGES	20000

static SPIPlanPtr plans[GOYA_N_STATEMENTS];
static get_relation_info_hook_type previous_relation_info_hook = NULL;
static bool hook_installed = false;
static bool assuming_many = false;

/*
 * While one of our statements is planned, every table has at least a million rows.  A plan made when node_runs had two rows joins it by
 * scanning all of it for each key, and stays for as long as nothing analyzes the table: seconds instead of milliseconds soon after.
 */
static void
assume_many_rows(PlannerInfo *root, Oid relation, bool inhparent, RelOptInfo *rel)
{
	ListCell   *lc;

	if (previous_relation_info_hook != NULL)
		previous_relation_info_hook(root, relation, inhparent, rel);
	if (!assuming_many || relation < FirstNormalObjectId || rel->tuples >= MANY_ROWS)
		return;
	rel->tuples = MANY_ROWS;
	rel->pages = MANY_PAGES;
	foreach(lc, rel->indexlist)
	{
		IndexOptInfo *index = lfirst(lc);

		index->tuples = MANY_ROWS;
		index->pages = MANY_PAGES / 4;
		index->tree_height = 2;
	}
}

void
goya_store_enter(GoyaStoreScope *scope)
{
	scope->caller = CurrentMemoryContext;
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	goya_owner_enter(&scope->owner);
	MemoryContextSwitchTo(scope->caller);
}

void
goya_store_leave(GoyaStoreScope *scope)
{
	goya_owner_leave(&scope->owner);
	SPI_finish();
	MemoryContextSwitchTo(scope->caller);
}

static SPIPlanPtr
get_plan(GoyaStatement statement)
{
	const GoyaStatementText *text = &goya_statements[statement];
	SPIPlanPtr	plan = plans[statement];

	if (plan != NULL)
		return plan;
	if (!hook_installed)
	{
		hook_installed = true;
		previous_relation_info_hook = get_relation_info_hook;
		get_relation_info_hook = assume_many_rows;
	}
	plan = SPI_prepare_cursor(text->sql, text->nargs, (Oid *) text->args, CURSOR_OPT_GENERIC_PLAN);
	if (plan == NULL)
		elog(ERROR, "could not prepare statement %d: %s", statement, SPI_result_code_string(SPI_result));
	if (SPI_keepplan(plan) != 0)
		elog(ERROR, "could not keep statement %d", statement);
	plans[statement] = plan;
	return plan;
}

/*
 * goya's tables grow from nothing to millions of rows while a plan lives, and every statement here is a matter of a few index look-ups:
 * so none of them may become a scan or a hash join, whatever the statistics say when it happens to be planned.
 */
void
goya_store_run(GoyaStatement statement, Datum *args, const char *nulls)
{
	MemoryContext caller = CurrentMemoryContext;
	bool		seqscan = enable_seqscan;
	bool		hashjoin = enable_hashjoin;
	bool		mergejoin = enable_mergejoin;
	bool		material = enable_material;
	bool		jit = jit_enabled;
	bool		many = assuming_many;
	volatile int rc = 0;

	PG_TRY();
	{
		enable_seqscan = enable_hashjoin = enable_mergejoin = enable_material = jit_enabled = false;
		assuming_many = true;
		rc = SPI_execute_plan(get_plan(statement), args, nulls, false, 0);
	}
	PG_FINALLY();
	{
		enable_seqscan = seqscan;
		enable_hashjoin = hashjoin;
		enable_mergejoin = mergejoin;
		enable_material = material;
		jit_enabled = jit;
		assuming_many = many;
	}
	PG_END_TRY();
	if (rc < 0)
		elog(ERROR, "statement %d failed: %s", statement, SPI_result_code_string(rc));
	MemoryContextSwitchTo(caller);
}

/* ----- rows by column ----- */

GoyaRows *
goya_rows_create(int ncols, const Oid *types)
{
	GoyaRows   *rows = palloc0(sizeof(GoyaRows));

	rows->ncols = ncols;
	rows->max = 16;
	for (int i = 0; i < ncols; i++)
	{
		rows->types[i] = types[i];
		rows->values[i] = palloc(sizeof(Datum) * rows->max);
		rows->nulls[i] = palloc(sizeof(bool) * rows->max);
	}
	return rows;
}

void
goya_rows_add(GoyaRows *rows)
{
	if (rows->n == rows->max)
	{
		rows->max *= 2;
		for (int i = 0; i < rows->ncols; i++)
		{
			rows->values[i] = repalloc(rows->values[i], sizeof(Datum) * rows->max);
			rows->nulls[i] = repalloc(rows->nulls[i], sizeof(bool) * rows->max);
		}
	}
	for (int i = 0; i < rows->ncols; i++)
	{
		rows->values[i][rows->n] = (Datum) 0;
		rows->nulls[i][rows->n] = true;
	}
	rows->n++;
}

static void
set_column(GoyaRows *rows, int col, Datum value)
{
	rows->values[col][rows->n - 1] = value;
	rows->nulls[col][rows->n - 1] = false;
}

void
goya_rows_uuid(GoyaRows *rows, int col, const pg_uuid_t *value)
{
	set_column(rows, col, UUIDPGetDatum(value));
}

void
goya_rows_text(GoyaRows *rows, int col, const char *value)
{
	if (value != NULL)
		set_column(rows, col, CStringGetTextDatum(value));
}

void
goya_rows_int4(GoyaRows *rows, int col, int32 value)
{
	set_column(rows, col, Int32GetDatum(value));
}

void
goya_rows_int2(GoyaRows *rows, int col, int16 value)
{
	set_column(rows, col, Int16GetDatum(value));
}

void
goya_rows_int8(GoyaRows *rows, int col, int64 value)
{
	set_column(rows, col, Int64GetDatum(value));
}

void
goya_rows_time(GoyaRows *rows, int col, TimestampTz value)
{
	if (value != 0)
		set_column(rows, col, TimestampTzGetDatum(value));
}

void
goya_rows_jsonb(GoyaRows *rows, int col, Jsonb *value)
{
	if (value != NULL)
		set_column(rows, col, JsonbPGetDatum(value));
}

void
goya_rows_run(GoyaStatement statement, GoyaRows *rows)
{
	Datum		args[GOYA_MAX_COLUMNS];
	int			dims[1];
	int			lower[1] = {1};

	Assert(goya_statements[statement].nargs == rows->ncols);
	dims[0] = rows->n;
	for (int i = 0; i < rows->ncols; i++)
	{
		int16		len;
		bool		byval;
		char		align;

		get_typlenbyvalalign(rows->types[i], &len, &byval, &align);
		args[i] = PointerGetDatum(construct_md_array(rows->values[i], rows->nulls[i], 1, dims, lower, rows->types[i], len, byval, align));
	}
	goya_store_run(statement, args, NULL);
}

/* ----- results ----- */

bool
goya_result_isnull(int row, int col)
{
	bool		isnull;

	(void) SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, col, &isnull);
	return isnull;
}

Datum
goya_result_datum(int row, int col)
{
	bool		isnull;

	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, col, &isnull);
}

pg_uuid_t
goya_result_uuid(int row, int col)
{
	return *DatumGetUUIDP(goya_result_datum(row, col));
}

char *
goya_result_text(int row, int col, MemoryContext cxt)
{
	MemoryContext old;
	char	   *result;

	if (goya_result_isnull(row, col))
		return NULL;
	old = MemoryContextSwitchTo(cxt);
	result = TextDatumGetCString(goya_result_datum(row, col));
	MemoryContextSwitchTo(old);
	return result;
}

Jsonb *
goya_result_jsonb(int row, int col, MemoryContext cxt)
{
	MemoryContext old;
	Jsonb	   *result;

	if (goya_result_isnull(row, col))
		return NULL;
	old = MemoryContextSwitchTo(cxt);
	result = DatumGetJsonbPCopy(goya_result_datum(row, col));
	MemoryContextSwitchTo(old);
	return result;
}

int
goya_result_int4(int row, int col)
{
	return DatumGetInt32(goya_result_datum(row, col));
}

int64
goya_result_int8(int row, int col)
{
	return DatumGetInt64(goya_result_datum(row, col));
}

bool
goya_result_bool(int row, int col)
{
	return DatumGetBool(goya_result_datum(row, col));
}
