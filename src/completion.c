/*-------------------------------------------------------------------------
 * completion.c
 *		Telling the world that tasks of a batch succeeded: one event task_completed each, in the transaction that ends them.
 *
 * Decided: rows are made here and appended directly, because every task pays for one.  When an enabled trigger waits for such events,
 * they are published by SQL, which also queues them for it; so are those of failed and cancelled tasks (goya_private.end_task).
 * What the event says must be what goya_private.completion says.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "batch.h"
#include "json_util.h"
#include "table.h"

typedef struct WorkflowName
{
	pg_uuid_t	id;
	char	   *name;
	Jsonb	   *data;			/* of events of tasks without an asset: the same for all */
} WorkflowName;

/* Names of the tasks' workflows, by id; NULL: a trigger wants to know, so SQL has to publish. */
static WorkflowName *
find_names(List *tasks, int *n)
{
	static const Oid column[] = {UUIDOID};
	GoyaRows   *rows = goya_rows_create(1, column);
	WorkflowName *names;
	ListCell   *lc;

	foreach(lc, tasks)
	{
		GoyaTask   *t = lfirst(lc);

		if (rows->n > 0 && goya_uuid_equal(&t->workflow, DatumGetUUIDP(rows->values[0][rows->n - 1])))
			continue;
		goya_rows_add(rows);
		goya_rows_uuid(rows, 0, &t->workflow);
	}
	goya_rows_run(GOYA_STMT_COMPLETION, rows);
	*n = SPI_processed;
	names = palloc(sizeof(WorkflowName) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
	{
		names[i].id = goya_result_uuid(i, 1);
		names[i].name = goya_result_text(i, 2, CurrentMemoryContext);
		names[i].data = NULL;
		if (goya_result_bool(i, 3))
			return NULL;
	}
	qsort(names, *n, sizeof(WorkflowName), goya_uuid_compare);
	return names;
}

static WorkflowName *
name_of(WorkflowName *names, int n, const pg_uuid_t *id)
{
	return bsearch(id, names, n, sizeof(WorkflowName), goya_uuid_compare);
}

static Jsonb *
describe(const GoyaTask *t, WorkflowName *w)
{
	GoyaJsonObject o;
	Jsonb	   *result;

	if (w != NULL && w->data != NULL && !t->has_asset)
		return w->data;
	goya_json_object_start(&o);
	goya_json_add_text(&o, "workflow_id", goya_uuid_text(&t->workflow));
	goya_json_add_text(&o, "workflow", w ? w->name : NULL);
	goya_json_add_text(&o, "status", "succeeded");
	if (t->has_asset)
		goya_json_add_text(&o, "asset_id", goya_uuid_text(&t->asset));
	result = goya_json_object_finish(&o);
	if (w != NULL && !t->has_asset)
		w->data = result;
	return result;
}

static void
append_event(GoyaTable *events, const GoyaTask *t, WorkflowName *w)
{
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));
	TupleTableSlot *row = goya_table_row(events);

	goya_uuid_new(id);
	goya_row_set(events, row, GOYA_EVENTS_ID, UUIDPGetDatum(id));
	goya_row_set(events, row, GOYA_EVENTS_TENANT_ID, UUIDPGetDatum(&t->tenant));
	goya_row_set(events, row, GOYA_EVENTS_TYPE, CStringGetTextDatum("task_completed"));
	goya_row_set(events, row, GOYA_EVENTS_SUBJECT_ID, UUIDPGetDatum(&t->id));
	goya_row_set(events, row, GOYA_EVENTS_DATA, JsonbPGetDatum(describe(t, w)));
	goya_row_set(events, row, GOYA_EVENTS_TASK_ID, UUIDPGetDatum(&t->id));
	goya_row_set(events, row, GOYA_EVENTS_DEPTH, Int16GetDatum(t->depth));
	goya_row_set(events, row, GOYA_EVENTS_CREATED_AT, TimestampTzGetDatum(t->finished_at));
	goya_table_append(events);
}

static void
publish_by_sql(List *tasks)
{
	static const Oid column[] = {UUIDOID};
	GoyaRows   *rows = goya_rows_create(1, column);
	ListCell   *lc;

	foreach(lc, tasks)
	{
		goya_rows_add(rows);
		goya_rows_uuid(rows, 0, &((GoyaTask *) lfirst(lc))->id);
	}
	goya_rows_run(GOYA_STMT_PUBLISH_COMPLETED, rows);
}

/*
 * Publish the end of tasks that succeeded.  Between goya_store_enter and leave, after their rows were written.
 */
void
goya_completion_publish(List *tasks)
{
	int			n;
	WorkflowName *names;
	GoyaTable  *events;
	ListCell   *lc;

	if (tasks == NIL)
		return;
	names = find_names(tasks, &n);
	if (names == NULL)
	{
		publish_by_sql(tasks);
		return;
	}
	events = goya_table_open(GOYA_TABLE_EVENTS);
	foreach(lc, tasks)
		append_event(events, lfirst(lc), name_of(names, n, &((GoyaTask *) lfirst(lc))->workflow));
	goya_table_close(events);
}
