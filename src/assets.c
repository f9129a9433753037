/*-------------------------------------------------------------------------
 * assets.c
 *		What an INSERT of assets publishes: the statement trigger of goya.assets.  What it must do is in sql/32_assets.sql.
 *
 * In C because this is what inserting an asset costs: the same in PL/pgSQL was half of a single-row INSERT.  Events and the queue are
 * written directly (table.h), whether anybody wants an event is kept in memory (workflow_cache.c).  It runs as whoever inserts; only when
 * somebody gave those tables triggers does it become goya_owner first.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/async.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"

#include "crash_point.h"
#include "goya.h"
#include "guc.h"
#include "json_util.h"
#include "run.h"
#include "shmem.h"
#include "table.h"
#include "workflow_cache.h"

#define MAX_NOTIFIED 20

typedef enum AssetColumn
{
	ASSET_ID, ASSET_TENANT, ASSET_NAME, ASSET_MEDIA_TYPE, ASSET_STATUS, ASSET_TASK, ASSET_DEPTH, ASSET_CREATED_AT, ASSET_N
} AssetColumn;

static const char *const column_names[ASSET_N] = {"id", "tenant_id", "name", "media_type", "status", "task_id", "depth", "created_at"};

typedef struct Publisher
{
	GoyaTable  *events;
	GoyaTable  *queue;			/* NULL until somebody wants an event */
	GoyaRunSql	sql;
	AttrNumber	columns[ASSET_N];
	pg_uuid_t	notified[MAX_NOTIFIED];
	int64		n;				/* assets that are news */
	MemoryContext rows;			/* what rows not yet written are made of */
	int			unwritten;
} Publisher;

static Datum
get(Publisher *p, TupleTableSlot *asset, AssetColumn column, bool *isnull)
{
	return slot_getattr(asset, p->columns[column], isnull);
}

static Datum
get_present(Publisher *p, TupleTableSlot *asset, AssetColumn column)
{
	bool		isnull;

	return get(p, asset, column, &isnull);
}

static Jsonb *
describe(const char *name, const char *media_type, const char *status)
{
	GoyaJsonObject o;

	goya_json_object_start(&o);
	goya_json_add_text(&o, "name", name);
	goya_json_add_text(&o, "media_type", media_type);
	goya_json_add_text(&o, "status", status);
	return goya_json_object_finish(&o);
}

static void
enqueue(Publisher *p, const pg_uuid_t *event, const pg_uuid_t *tenant)
{
	TupleTableSlot *row;

	if (p->queue == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(MemoryContextGetParent(p->rows));

		p->queue = goya_run_open(GOYA_TABLE_EVENT_QUEUE, &p->sql);
		MemoryContextSwitchTo(old);
	}
	row = goya_table_row(p->queue);
	goya_row_set(p->queue, row, GOYA_EVENT_QUEUE_EVENT_ID, UUIDPGetDatum(event));
	goya_row_set(p->queue, row, GOYA_EVENT_QUEUE_TENANT_ID, UUIDPGetDatum(tenant));
	goya_table_append(p->queue);
}

static void
publish(Publisher *p, TupleTableSlot *asset, const char *type, Jsonb *data)
{
	TupleTableSlot *row = goya_table_row(p->events);
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));
	pg_uuid_t  *tenant = palloc(sizeof(pg_uuid_t));
	pg_uuid_t  *subject = palloc(sizeof(pg_uuid_t));
	bool		no_task;
	Datum		task = get(p, asset, ASSET_TASK, &no_task);

	goya_uuid_new(id);
	*tenant = *DatumGetUUIDP(get_present(p, asset, ASSET_TENANT));
	*subject = *DatumGetUUIDP(get_present(p, asset, ASSET_ID));
	goya_row_set(p->events, row, GOYA_EVENTS_ID, UUIDPGetDatum(id));
	goya_row_set(p->events, row, GOYA_EVENTS_TENANT_ID, UUIDPGetDatum(tenant));
	goya_row_set(p->events, row, GOYA_EVENTS_TYPE, CStringGetTextDatum(type));
	goya_row_set(p->events, row, GOYA_EVENTS_SUBJECT_ID, UUIDPGetDatum(subject));
	goya_row_set(p->events, row, GOYA_EVENTS_DATA, JsonbPGetDatum(data));
	if (!no_task)
	{
		pg_uuid_t  *copy = palloc(sizeof(pg_uuid_t));

		*copy = *DatumGetUUIDP(task);
		goya_row_set(p->events, row, GOYA_EVENTS_TASK_ID, UUIDPGetDatum(copy));
	}
	goya_row_set(p->events, row, GOYA_EVENTS_DEPTH, get_present(p, asset, ASSET_DEPTH));
	goya_row_set(p->events, row, GOYA_EVENTS_CREATED_AT, TimestampTzGetDatum(GetCurrentTimestamp()));
	goya_table_append(p->events);
	if (goya_event_wanted(tenant, type))
		enqueue(p, id, tenant);
}

/* In p->rows. */
static void
publish_asset(Publisher *p, TupleTableSlot *asset)
{
	char	   *status = TextDatumGetCString(get_present(p, asset, ASSET_STATUS));
	Jsonb	   *data = describe(TextDatumGetCString(get_present(p, asset, ASSET_NAME)),
								TextDatumGetCString(get_present(p, asset, ASSET_MEDIA_TYPE)), status);

	if (p->n < MAX_NOTIFIED)
		p->notified[p->n] = *DatumGetUUIDP(get_present(p, asset, ASSET_ID));
	p->n++;
	publish(p, asset, "asset_new", data);
	if (strcmp(status, "ready") == 0)
		publish(p, asset, "asset_done", data);
	if (++p->unwritten == 100)
	{
		goya_table_flush(p->events);
		if (p->queue != NULL)
			goya_table_flush(p->queue);
		MemoryContextReset(p->rows);
		p->unwritten = 0;
	}
}

/* The ids of a few, none of many: whoever listens reads the table under its own rights. */
static void
notify(Publisher *p)
{
	StringInfoData payload;

	if (!goya_guc_notify_assets)
		return;
	initStringInfo(&payload);
	if (p->n <= MAX_NOTIFIED)
	{
		appendStringInfoString(&payload, "{\"ids\": [");
		for (int i = 0; i < p->n; i++)
			appendStringInfo(&payload, "%s\"%s\"", i ? ", " : "", goya_uuid_text(&p->notified[i]));
		appendStringInfoString(&payload, "]}");
	}
	Async_Notify("goya_asset", payload.data);
}

static void
publish_all(Publisher *p, Tuplestorestate *inserted, TupleTableSlot *asset)
{
	TimestampTz began = GetCurrentTransactionStartTimestamp();
	MemoryContext old = CurrentMemoryContext;

	tuplestore_select_read_pointer(inserted, tuplestore_alloc_read_pointer(inserted, EXEC_FLAG_REWIND));
	tuplestore_rescan(inserted);
	while (tuplestore_gettupleslot(inserted, true, false, asset))
	{
		CHECK_FOR_INTERRUPTS();
		/* Rows older than their transaction are no news: somebody restores them. */
		if (DatumGetTimestampTz(get_present(p, asset, ASSET_CREATED_AT)) < began)
			continue;
		if (p->events == NULL)
			p->events = goya_run_open(GOYA_TABLE_EVENTS, &p->sql);
		MemoryContextSwitchTo(p->rows);
		publish_asset(p, asset);
		MemoryContextSwitchTo(old);
	}
}

/* goya_private.publish_inserted_assets(): AFTER INSERT, for each statement, with transition table. */
PG_FUNCTION_INFO_V1(goya_publish_inserted_sql);
Datum
goya_publish_inserted_sql(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	Publisher	p = {0};
	TupleTableSlot *asset;

	if (!CALLED_AS_TRIGGER(fcinfo) || data->tg_newtable == NULL)
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED), errmsg("this function is a trigger")));
	for (int i = 0; i < ASSET_N; i++)
		p.columns[i] = get_attnum(RelationGetRelid(data->tg_relation), column_names[i]);
	p.rows = AllocSetContextCreate(CurrentMemoryContext, "goya asset events", ALLOCSET_DEFAULT_SIZES);
	asset = MakeSingleTupleTableSlot(RelationGetDescr(data->tg_relation), &TTSOpsMinimalTuple);
	publish_all(&p, data->tg_newtable, asset);
	ExecDropSingleTupleTableSlot(asset);
	if (p.queue != NULL)
	{
		goya_table_close(p.queue);
		goya_wake_at_commit(GOYA_WAKE_EVENTS);
		GOYA_CRASH_POINT(ASSET_QUEUED);
	}
	if (p.events != NULL)
	{
		goya_table_close(p.events);
		GOYA_CRASH_POINT(ASSET_EVENTS);
	}
	goya_run_end_sql(&p.sql);
	if (p.n > 0)
		notify(&p);
	return PointerGetDatum(NULL);
}
