/*-------------------------------------------------------------------------
 * run_many.c
 *		goya.run_many: tasks of one workflow for many inputs, in one call and one transaction.
 *
 * The same checks, identity and rows as goya.run (run.c), with everything looked up once.  All or nothing: the first input that is wrong ends
 * the call, and its place is in the error.  Order of the locks that are waited for is that of run: keys (sorted, so that two
 * loads of the same keys do not deadlock), then holds, then rows.
 *
 * Memory: ids of all tasks; what a task's rows are made of, for CHUNK tasks at a time.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "crash_point.h"
#include "goya.h"
#include "json_util.h"
#include "run.h"
#include "shmem.h"
#include "tenants.h"

#define CHUNK 100

typedef struct Many
{
	GoyaStart	start;			/* what all have in common; input, asset and key are set for each */
	GoyaRevision *revision;
	GoyaRunSql	sql;
	int			n;
	JsonbValue	inputs;			/* a view of the array; only when has_inputs */
	bool		has_inputs;
	Datum	   *assets;			/* NULL: none */
	bool	   *asset_nulls;
	Datum	   *keys;			/* text; NULL: none */
	bool	   *key_nulls;
	pg_uuid_t  *ids;
	bool	   *repeated;		/* the key was used before: no new task */
	Jsonb	   *no_input;
	MemoryContext chunk;
} Many;

/* ----- arguments ----- */

static void
bad_argument(const char *message, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s", message), errhint("%s", hint)));
}

/* All lists are of one length. */
static void
set_length(Many *m, bool first, int length, const char *name)
{
	if (!first && length != m->n)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s has %d elements, not %d", name, length, m->n),
				 errhint("inputs, assets and idempotency_keys have one element for each task.")));
	m->n = length;
}

static void
take_array(Many *m, bool first, ArrayType *array, Oid type, const char *name, Datum **values, bool **nulls)
{
	int			n;

	if (ARR_NDIM(array) > 1)
		bad_argument(psprintf("%s has more than one dimension", name), "It is a plain list.");
	if (type == UUIDOID)
		deconstruct_array(array, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR, values, nulls, &n);
	else
		deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, values, nulls, &n);
	set_length(m, first, n, name);
}

/* goya.run_many(workflow, inputs, assets, idempotency_keys, priority, trace_id, max_cost, run_at) */
static void
take_arguments(Many *m, FunctionCallInfo fcinfo)
{
	goya_run_caller(&m->start, PG_ARGISNULL(0) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(0)));
	if (PG_ARGISNULL(1) && PG_ARGISNULL(2))
		bad_argument("inputs must not be null", "Give an array with the input of each task, or assets.");
	if (!PG_ARGISNULL(1))
	{
		goya_json_view(PG_GETARG_JSONB_P(1), &m->inputs);
		if (!goya_json_view_is_array(&m->inputs))
			bad_argument("inputs is not an array", "It has one element for each task, as in '[{\"x\": 1}, {\"x\": 2}]'.");
		m->has_inputs = true;
		set_length(m, true, goya_json_view_length(&m->inputs), "inputs");
	}
	if (!PG_ARGISNULL(2))
		take_array(m, !m->has_inputs, PG_GETARG_ARRAYTYPE_P(2), UUIDOID, "assets", &m->assets, &m->asset_nulls);
	if (!PG_ARGISNULL(3))
		take_array(m, false, PG_GETARG_ARRAYTYPE_P(3), TEXTOID, "idempotency_keys", &m->keys, &m->key_nulls);
	m->start.priority = goya_tenant_check_priority(&m->start.tenant, PG_ARGISNULL(4) ? 0 : PG_GETARG_INT32(4));
	m->start.trace_id = PG_ARGISNULL(5) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(5));
	m->start.has_max_cost = !PG_ARGISNULL(6);
	m->start.max_cost = m->start.has_max_cost ? PG_GETARG_INT64(6) : 0;
	m->start.run_at = PG_ARGISNULL(7) ? 0 : PG_GETARG_TIMESTAMPTZ(7);
}

/* What is the i-th task's own, into start.  In the current context. */
static void
choose(Many *m, int i)
{
	JsonbValue	v;

	m->start.input = m->no_input;
	if (m->has_inputs)
	{
		goya_json_view_elem(&m->inputs, i, &v);
		m->start.input = goya_json_from_view(&v);
	}
	m->start.asset = m->assets && !m->asset_nulls[i] ? DatumGetUUIDP(m->assets[i]) : NULL;
	m->start.idempotency_key = m->keys && !m->key_nulls[i] ? TextDatumGetCString(m->keys[i]) : NULL;
}

/* ----- checks ----- */

static void
check_assets(Many *m)
{
	Datum		args[2];
	int			dims[1] = {m->n};
	int			lower[1] = {1};

	if (m->assets == NULL || m->n == 0)
		return;
	goya_run_need_sql(&m->sql);
	args[0] = PointerGetDatum(construct_md_array(m->assets, m->asset_nulls, 1, dims, lower, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
	args[1] = UUIDPGetDatum(&m->start.tenant);
	goya_store_run(GOYA_STMT_MISSING_ASSET, args, NULL);
	if (SPI_processed > 0)
	{
		pg_uuid_t	id = goya_result_uuid(0, 1);

		goya_run_asset_not_found(&id);
	}
}

static void
check_inputs(Many *m)
{
	if (m->revision->input_schema == NULL)
		return;
	for (int i = 0; i < m->n; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(m->chunk);

		CHECK_FOR_INTERRUPTS();
		choose(m, i);
		goya_run_check_input(m->revision, m->start.input, psprintf("inputs[%d]", i));
		MemoryContextSwitchTo(old);
		MemoryContextReset(m->chunk);
	}
}

/* ----- idempotency ----- */

/* Claims the keys; tasks whose key was used before, here or earlier, get the id of that one's task. */
static void
claim_keys(Many *m)
{
	static const Oid columns[] = {INT4OID, UUIDOID, TEXTOID, BYTEAOID, UUIDOID};
	GoyaRows   *rows = goya_rows_create(lengthof(columns), columns);

	if (m->keys == NULL)
		return;
	for (int i = 0; i < m->n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		choose(m, i);
		if (m->start.idempotency_key == NULL)
			continue;
		goya_run_check_key(m->start.idempotency_key);
		goya_rows_add(rows);
		goya_rows_int4(rows, 0, i);
		goya_rows_uuid(rows, 1, &m->start.tenant);
		goya_rows_text(rows, 2, m->start.idempotency_key);
		rows->values[3][rows->n - 1] = PointerGetDatum(goya_run_request_hash(&m->start, &m->revision->workflow));
		rows->nulls[3][rows->n - 1] = false;
		goya_rows_uuid(rows, 4, &m->ids[i]);
	}
	if (rows->n == 0)
		return;
	goya_run_need_sql(&m->sql);
	goya_rows_run(GOYA_STMT_INSERT_KEYS, rows);
	goya_rows_run(GOYA_STMT_FIND_KEYS, rows);
	if (SPI_processed != rows->n)
		ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE), errmsg("the same idempotency key is being used at this moment")));
	for (uint64 row = 0; row < SPI_processed; row++)
	{
		int			i = goya_result_int4(row, 1);
		pg_uuid_t	id = goya_result_uuid(row, 2);

		if (goya_uuid_equal(&id, &m->ids[i]))
			continue;
		if (!goya_result_bool(row, 3))
			goya_run_key_taken(TextDatumGetCString(m->keys[i]));
		m->ids[i] = id;
		m->repeated[i] = true;
	}
}

/* ----- rows ----- */

typedef struct Tables
{
	GoyaTable  *tasks;
	GoyaTable  *ready;			/* NULL: timers instead */
} Tables;

/* Money for the new ones among the tasks from first to below end: true when they cost something. */
static bool
hold_money(Many *m, int first, int end)
{
	pg_uuid_t  *ids = palloc(sizeof(pg_uuid_t) * (end - first));
	int			n = 0;

	for (int i = first; i < end; i++)
		if (!m->repeated[i])
			ids[n++] = m->ids[i];
	return goya_run_hold_money(&m->start, m->revision, ids, n, &m->sql);
}

/* Tasks from first to below end, in m->chunk. */
static void
write_chunk(Many *m, Tables *t, int first, int end)
{
	GoyaRows   *timers = t->ready == NULL ? goya_run_create_timers() : NULL;
	bool		held = hold_money(m, first, end);

	for (int i = first; i < end; i++)
	{
		if (m->repeated[i])
			continue;
		choose(m, i);
		goya_run_init_context(&m->start, m->revision, &m->ids[i], &m->sql);
		goya_run_write_task(t->tasks, &m->start, &m->ids[i], m->revision, held ? &m->ids[i] : NULL);
		goya_run_queue(&m->start, &m->ids[i], m->revision, t->ready, timers);
	}
	goya_table_flush(t->tasks);
	if (t->ready != NULL)
		goya_table_flush(t->ready);
	else
	{
		goya_run_need_sql(&m->sql);
		goya_rows_run(GOYA_STMT_INSERT_TIMERS, timers);
	}
}

static void
write_rows(Many *m)
{
	bool		later = goya_run_is_later(&m->start);
	Tables		t;

	t.tasks = goya_run_open(GOYA_TABLE_TASKS, &m->sql);
	t.ready = later ? NULL : goya_run_open(GOYA_TABLE_READY, &m->sql);
	for (int first = 0; first < m->n; first += CHUNK)
	{
		MemoryContext old = MemoryContextSwitchTo(m->chunk);

		CHECK_FOR_INTERRUPTS();
		write_chunk(m, &t, first, Min(first + CHUNK, m->n));
		GOYA_CRASH_POINT(RUN_MANY_CHUNK);
		MemoryContextSwitchTo(old);
		MemoryContextReset(m->chunk);
	}
	if (t.ready != NULL)
		goya_table_close(t.ready);
	goya_table_close(t.tasks);
}

static void
start_tasks(Many *m)
{
	m->revision = goya_run_revision(&m->start, &m->sql);
	check_assets(m);
	check_inputs(m);
	m->ids = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(pg_uuid_t) * (Size) Max(m->n, 1));
	m->repeated = MemoryContextAllocZero(CurrentMemoryContext, Max(m->n, 1));
	for (int i = 0; i < m->n; i++)
		goya_uuid_new(&m->ids[i]);
	claim_keys(m);
	write_rows(m);
}

PG_FUNCTION_INFO_V1(goya_run_many_sql);
Datum
goya_run_many_sql(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Many		m = {0};

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	m.chunk = AllocSetContextCreate(CurrentMemoryContext, "goya run many", ALLOCSET_DEFAULT_SIZES);
	m.no_input = goya_json_object(0, NULL, NULL);
	take_arguments(&m, fcinfo);
	goya_run_check_options(&m.start);
	start_tasks(&m);
	goya_run_end_sql(&m.sql);
	for (int i = 0; i < m.n; i++)
	{
		Datum		id = UUIDPGetDatum(&m.ids[i]);
		bool		isnull = false;

		tuplestore_putvalues(result->setResult, result->setDesc, &id, &isnull);
	}
	return (Datum) 0;
}
