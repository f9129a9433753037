/*-------------------------------------------------------------------------
 * dispatch_match.c
 *		Which triggers take which events of a batch, and what their tasks are told.
 *
 * What must hold: it is what goya_private.match_events and start_slot in sql/36_firing.sql say; those do the same, one by one, when something
 * fails.  The asset and the task of an event, which may be large, are read whole only for triggers with a filter or a templated input.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/timestamp.h"

#include "dispatch.h"
#include "goya.h"
#include "json_util.h"
#include "reader.h"
#include "tenants.h"
#include "watch.h"
#include "workflow_cache.h"

/* ----- triggers ----- */

static bool
tenant_active(const pg_uuid_t *tenant)
{
	static const char *const columns[] = {"status"};
	GoyaWatchKey key = {"id", F_UUID_EQ, UUIDPGetDatum(tenant)};
	List	   *rows = goya_watch_read(GOYA_WATCHED_TENANTS, "tenants_pkey", 1, &key, lengthof(columns), columns);

	return rows != NIL && strcmp(TextDatumGetCString(((GoyaWatchRow *) linitial(rows))->values[0]), "active") == 0;
}

/* In the order of the names in read_triggers. */
typedef enum TriggerColumn
{
	TRIGGER_ID, TRIGGER_WORKFLOW, TRIGGER_NAME, TRIGGER_KIND, TRIGGER_ENABLED, TRIGGER_FILTER, TRIGGER_INPUT, TRIGGER_PRIORITY,
	TRIGGER_OWN_OUTPUT, TRIGGER_MAX_DEPTH, TRIGGER_RUN_AS, TRIGGER_N
} TriggerColumn;

static void
add_trigger(GoyaWaiting *w, const GoyaWatchRow *row)
{
	GoyaWaiter *t = palloc0(sizeof(GoyaWaiter));
	pg_uuid_t  *workflow = DatumGetUUIDP(row->values[TRIGGER_WORKFLOW]);
	const GoyaWorkflow *found = goya_workflow_with_id(&w->tenant, workflow);

	if (found == NULL || !found->enabled || found->revision == 0)
		return;
	t->id = *DatumGetUUIDP(row->values[TRIGGER_ID]);
	t->name = TextDatumGetCString(row->values[TRIGGER_NAME]);
	t->filter = row->nulls[TRIGGER_FILTER] ? (Datum) 0 : row->values[TRIGGER_FILTER];
	t->input = DatumGetJsonbP(row->values[TRIGGER_INPUT]);
	if (goya_json_is_object(t->input) && goya_json_object_length(t->input) == 0)
		t->input = NULL;
	t->allow_own_output = DatumGetBool(row->values[TRIGGER_OWN_OUTPUT]);
	t->max_depth = DatumGetInt16(row->values[TRIGGER_MAX_DEPTH]);
	t->start.tenant = w->tenant;
	t->start.workflow = workflow;
	t->start.run_as = pstrdup(NameStr(*DatumGetName(row->values[TRIGGER_RUN_AS])));
	t->start.priority = goya_tenant_cap_priority(&w->tenant, DatumGetInt16(row->values[TRIGGER_PRIORITY]));
	t->start.trigger_id = &t->id;
	w->triggers = lappend(w->triggers, t);
	w->needs_document |= t->filter != (Datum) 0 || t->input != NULL;
}

static void
read_triggers(GoyaWaiting *w)
{
	static const char *const columns[TRIGGER_N] = {"id", "workflow_id", "name", "kind", "enabled", "filter", "input", "priority",
	"allow_own_output", "max_depth", "run_as"};
	GoyaWatchKey keys[2] = {{"tenant_id", F_UUID_EQ, UUIDPGetDatum(&w->tenant)}, {"event", F_TEXTEQ, CStringGetTextDatum(w->type)}};
	ListCell   *lc;

	(void) goya_watch_version(GOYA_WATCH_TRIGGERS);
	if (!tenant_active(&w->tenant))
		return;
	foreach(lc, goya_watch_read(GOYA_WATCHED_TRIGGERS, "triggers_event_idx", 2, keys, TRIGGER_N, columns))
	{
		GoyaWatchRow *row = lfirst(lc);

		if (DatumGetBool(row->values[TRIGGER_ENABLED]) && strcmp(TextDatumGetCString(row->values[TRIGGER_KIND]), "event") == 0)
			add_trigger(w, row);
	}
}

/* Who waits for the event.  Events come tenant by tenant, so only a tenant's types are compared. */
static GoyaWaiting *
find_waiting(GoyaDispatch *b, const GoyaEvent *e)
{
	GoyaWaiting    *w;

	for (int i = list_length(b->waiting) - 1; i >= 0; i--)
	{
		w = list_nth(b->waiting, i);
		if (!goya_uuid_equal(&w->tenant, &e->tenant))
			break;
		if (strcmp(w->type, e->type) == 0)
			return w;
	}
	w = palloc0(sizeof(GoyaWaiting));
	w->tenant = e->tenant;
	w->type = e->type;
	read_triggers(w);
	b->waiting = lappend(b->waiting, w);
	return w;
}

/* ----- what the events are about ----- */

static void
read_event(GoyaReader *r, GoyaEvent *e)
{
	Datum		value;

	e->type = TextDatumGetCString(goya_reader_get(r, 0, NULL));
	value = goya_reader_get(r, 1, &e->no_subject);
	if (!e->no_subject)
		e->subject = *DatumGetUUIDP(value);
	e->data = DatumGetJsonbPCopy(goya_reader_get(r, 2, NULL));
	value = goya_reader_get(r, 3, &e->no_task);
	if (!e->no_task)
		e->task = *DatumGetUUIDP(value);
	e->depth = DatumGetInt16(goya_reader_get(r, 4, NULL));
	e->created_at = DatumGetTimestampTz(goya_reader_get(r, 5, NULL));
}

static void
read_events(GoyaDispatch *b)
{
	static const char *const columns[] = {"type", "subject_id", "data", "task_id", "depth", "created_at", NULL};
	GoyaReader *r = goya_reader_open("goya", "events", "events_pkey", 2, columns);

	for (int i = 0; i < b->n; i++)
	{
		GoyaEvent	   *e = &b->events[i];
		Datum		keys[2] = {UUIDPGetDatum(&e->tenant), UUIDPGetDatum(&e->id)};

		if (!goya_reader_find(r, keys))
			continue;
		read_event(r, e);
		e->waiting = find_waiting(b, e);
		if (e->waiting->triggers == NIL)
			e->waiting = NULL;	/* nobody waits any more */
	}
	goya_reader_close(r);
}

static bool
is_for_all(const GoyaEvent *e)
{
	return strcmp(e->visibility, "tenant") == 0 || strcmp(e->visibility, "public") == 0;
}

static void
read_assets(GoyaDispatch *b)
{
	static const char *const columns[] = {"tenant_id", "visibility", "owner_role", "visible_roles", NULL};
	GoyaReader *r = goya_reader_open("goya", "assets", "assets_pkey", 1, columns);

	for (int i = 0; i < b->n; i++)
	{
		GoyaEvent	   *e = &b->events[i];
		Datum		key = UUIDPGetDatum(&e->subject);

		if (e->waiting == NULL || e->no_subject || !goya_reader_find(r, &key))
			continue;
		if (!goya_uuid_equal(DatumGetUUIDP(goya_reader_get(r, 0, NULL)), &e->tenant))
			continue;
		e->is_asset = true;
		e->visibility = DatumGetCString(DirectFunctionCall1(enum_out, goya_reader_get(r, 1, NULL)));
		if (is_for_all(e))
			continue;
		e->owner = *DatumGetName(goya_reader_get(r, 2, NULL));
		e->roles = DatumGetArrayTypePCopy(goya_reader_get(r, 3, NULL));
	}
	goya_reader_close(r);
}

/* The workflow of the task whose doing it was, for triggers that must not be started by their own workflow. */
static void
read_tasks(GoyaDispatch *b)
{
	static const char *const columns[] = {"tenant_id", "workflow_id", NULL};
	GoyaReader *r = NULL;

	for (int i = 0; i < b->n; i++)
	{
		GoyaEvent	   *e = &b->events[i];
		Datum		key = UUIDPGetDatum(&e->task);

		if (e->waiting == NULL || e->no_task)
			continue;
		if (r == NULL)
			r = goya_reader_open("goya", "tasks", "tasks_pkey", 1, columns);
		if (!goya_reader_find(r, &key) || !goya_uuid_equal(DatumGetUUIDP(goya_reader_get(r, 0, NULL)), &e->tenant))
			continue;
		e->task_found = true;
		e->task_workflow = *DatumGetUUIDP(goya_reader_get(r, 1, NULL));
	}
	if (r != NULL)
		goya_reader_close(r);
}

static int
compare_ids(const void *a, const void *b)
{
	return memcmp((*(GoyaEvent *const *) a)->id.data, (*(GoyaEvent *const *) b)->id.data, UUID_LEN);
}

/* Documents of the events whose triggers look at them. */
static void
read_documents(GoyaDispatch *b)
{
	GoyaRows   *rows = goya_dispatch_rows();
	GoyaEvent	  **wanted = palloc(sizeof(GoyaEvent *) * b->n);

	for (int i = 0; i < b->n; i++)
	{
		if (b->events[i].waiting == NULL || !b->events[i].waiting->needs_document)
			continue;
		wanted[rows->n] = &b->events[i];
		goya_dispatch_add_row(rows, &b->events[i]);
	}
	if (rows->n == 0)
		return;
	qsort(wanted, rows->n, sizeof(GoyaEvent *), compare_ids);
	goya_run_need_sql(&b->sql);
	goya_rows_run(GOYA_STMT_EVENT_DOCUMENTS, rows);
	for (uint64 row = 0; row < SPI_processed; row++)
	{
		GoyaEvent		key = {.id = goya_result_uuid(row, 1)};
		GoyaEvent	   *sought = &key;
		GoyaEvent	  **e = bsearch(&sought, wanted, rows->n, sizeof(GoyaEvent *), compare_ids);

		if (e != NULL)
			(*e)->document = goya_result_jsonb(row, 2, CurrentMemoryContext);
	}
}

/* ----- what tasks are told of an event ----- */

static JsonbValue
string_value(const char *s)
{
	JsonbValue	v = {.type = jbvString};

	v.val.string.val = unconstify(char *, s);
	v.val.string.len = strlen(s);
	return v;
}

static JsonbValue
uuid_value(bool isnull, const pg_uuid_t *id)
{
	JsonbValue	v = {.type = jbvNull};

	return isnull ? v : string_value(goya_uuid_text(id));
}

static JsonbValue
view_of(const Jsonb *j)
{
	JsonbValue	v;

	goya_json_view(j, &v);
	return v;
}

/* Keys must be in jsonb's order: the shorter first. */
static Jsonb *
build(int n, const char *const *names, const JsonbValue *values)
{
	JsonbValue	keys[8];

	Assert(n <= (int) lengthof(keys));
	for (int i = 0; i < n; i++)
		keys[i] = string_value(names[i]);
	return goya_json_build_object(n, keys, values, true);
}

/* As to_jsonb of its row would, without the tenant. */
static Jsonb *
describe(GoyaEvent *e)
{
	static const char *const names[] = {"id", "data", "type", "depth", "task_id", "created_at", "subject_id"};
	JsonbValue	values[lengthof(names)];
	char		created[MAXDATELEN + 1];

	if (e->described != NULL)
		return e->described;
	JsonEncodeDateTime(created, TimestampTzGetDatum(e->created_at), TIMESTAMPTZOID, NULL);
	values[0] = uuid_value(false, &e->id);
	values[1] = view_of(e->data);
	values[2] = string_value(e->type);
	values[3] = view_of(goya_json_from_int(e->depth));
	values[4] = uuid_value(e->no_task, &e->task);
	values[5] = string_value(created);
	values[6] = uuid_value(e->no_subject, &e->subject);
	e->described = build(lengthof(names), names, values);
	return e->described;
}

/* The input of a task whose trigger has none. */
static Jsonb *
default_input(GoyaEvent *e)
{
	static const char *const asset_names[] = {"event", "asset_id"};
	static const char *const other_names[] = {"data", "event", "subject_id"};
	JsonbValue	values[3];

	if (e->input != NULL)
		return e->input;
	if (e->is_asset)
	{
		values[0] = string_value(e->type);
		values[1] = uuid_value(false, &e->subject);
		e->input = build(2, asset_names, values);
	}
	else
	{
		values[0] = view_of(e->data);
		values[1] = string_value(e->type);
		values[2] = uuid_value(e->no_subject, &e->subject);
		e->input = build(3, other_names, values);
	}
	return e->input;
}

/* What a task is told of what started it. */
static Jsonb *
describe_cause(const GoyaMatch *m, const char *slot)
{
	static const char *const names[] = {"kind", "name", "slot", "event"};
	JsonbValue	values[lengthof(names)];

	values[0] = string_value("event");
	values[1] = string_value(m->trigger->name);
	values[2] = string_value(slot);
	values[3] = view_of(describe(m->event));
	return build(lengthof(names), names, values);
}

/* ----- which trigger takes which event ----- */

static bool
may_see(GoyaDispatch *b, const GoyaEvent *e, const GoyaWaiter *t)
{
	NameData	role;
	Datum		args[4];

	if (!e->is_asset || is_for_all(e) || strcmp(t->start.run_as, NameStr(e->owner)) == 0)
		return true;
	namestrcpy(&role, t->start.run_as);
	args[0] = NameGetDatum(&role);
	args[1] = CStringGetTextDatum(e->visibility);
	args[2] = NameGetDatum(&e->owner);
	args[3] = PointerGetDatum(e->roles);
	goya_run_need_sql(&b->sql);
	goya_store_run(GOYA_STMT_ROLE_MAY_SEE, args, NULL);
	return !goya_result_isnull(0, 1) && goya_result_bool(0, 1);
}

/* It gives anything but false and null. */
static bool
filter_passes(Datum filter, Jsonb *document)
{
	LOCAL_FCINFO(fcinfo, 4);
	Datum		result;
	Jsonb	   *first;

	if (filter == (Datum) 0)
		return true;
	InitFunctionCallInfoData(*fcinfo, NULL, 4, InvalidOid, NULL, NULL);
	fcinfo->args[0] = (NullableDatum) {JsonbPGetDatum(document), false};
	fcinfo->args[1] = (NullableDatum) {filter, false};
	fcinfo->args[2] = (NullableDatum) {JsonbPGetDatum(goya_json_object(0, NULL, NULL)), false};
	fcinfo->args[3] = (NullableDatum) {BoolGetDatum(true), false};	/* silent */
	result = goya_jsonpath_call(jsonb_path_query_first, fcinfo, GOYA_MAX_FILTER_MS);
	if (fcinfo->isnull)
		return false;
	first = DatumGetJsonbP(result);
	return !goya_json_is_null(first) && !(goya_json_is_bool(first) && !goya_json_is_true(first));
}

/* goya_private.filter_passes(filter jsonpath, document jsonb) → boolean: the same for SQL. */
PG_FUNCTION_INFO_V1(goya_filter_passes_sql);
Datum
goya_filter_passes_sql(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		PG_RETURN_BOOL(true);
	if (PG_ARGISNULL(1))
		PG_RETURN_BOOL(false);
	PG_RETURN_BOOL(filter_passes(PointerGetDatum(PG_DETOAST_DATUM(PG_GETARG_DATUM(0))), PG_GETARG_JSONB_P(1)));
}

static bool
wants(GoyaDispatch *b, const GoyaWaiter *t, const GoyaEvent *e)
{
	if (e->depth + 1 > t->max_depth)
		return false;
	if (!t->allow_own_output && e->task_found && goya_uuid_equal(&e->task_workflow, t->start.workflow))
		return false;
	return may_see(b, e, t) && filter_passes(t->filter, e->document);
}

extern Datum goya_eval_template_sql(PG_FUNCTION_ARGS);

static void
add_match(GoyaDispatch *b, GoyaWaiter *t, GoyaEvent *e, const char *slot)
{
	GoyaMatch	   *m = palloc0(sizeof(GoyaMatch));

	m->event = e;
	m->trigger = t;
	m->slot = CStringGetTextDatum(slot);
	m->cause = describe_cause(m, slot);
	goya_uuid_new(&m->task);
	m->input = t->input == NULL ? default_input(e) :
		DatumGetJsonbP(DirectFunctionCall2(goya_eval_template_sql, JsonbPGetDatum(t->input), JsonbPGetDatum(e->document)));
	b->matches = lappend(b->matches, m);
	t->matches = lappend(t->matches, m);
}

static bool
slot_is_taken(GoyaTable *slots, const GoyaWaiter *t, const char *slot)
{
	Datum		keys[2] = {UUIDPGetDatum(&t->id), CStringGetTextDatum(slot)};

	return goya_table_find(slots, 2, keys);
}

static void
write_slot(GoyaTable *slots, const GoyaMatch *m)
{
	TupleTableSlot *row = goya_table_row(slots);

	goya_row_set(slots, row, GOYA_SLOTS_TRIGGER_ID, UUIDPGetDatum(&m->trigger->id));
	goya_row_set(slots, row, GOYA_SLOTS_SLOT, m->slot);
	goya_row_set(slots, row, GOYA_SLOTS_TASK_ID, UUIDPGetDatum(&m->task));
	goya_row_set(slots, row, GOYA_SLOTS_CREATED_AT, TimestampTzGetDatum(GetCurrentTransactionStartTimestamp()));
	goya_table_append(slots);
}

/*
 * Find what waits for the batch's events, and take the slots: b->matches, and those of each trigger.
 */
void
goya_dispatch_match(GoyaDispatch *b)
{
	GoyaTable  *slots;

	read_events(b);
	read_assets(b);
	read_tasks(b);
	read_documents(b);
	slots = goya_run_open(GOYA_TABLE_SLOTS, &b->sql);
	for (int i = 0; i < b->n; i++)
	{
		GoyaEvent	   *e = &b->events[i];
		char	   *slot;
		ListCell   *lc;

		CHECK_FOR_INTERRUPTS();
		if (e->waiting == NULL)
			continue;
		slot = psprintf("event:%s", goya_uuid_text(&e->id));
		foreach(lc, e->waiting->triggers)
		{
			GoyaWaiter *t = lfirst(lc);

			if (!wants(b, t, e) || slot_is_taken(slots, t, slot))
				continue;
			add_match(b, t, e, slot);
			write_slot(slots, llast(b->matches));
		}
	}
	goya_table_close(slots);
}
