/*-------------------------------------------------------------------------
 * dispatch.c
 *		goya_private.dispatch_events: events that somebody waits for become tasks, several hundred in one transaction.
 *
 * Decided: what fires when is said once, in sql/36_firing.sql; here the same is done without SQL for a whole batch: queue rows are
 * claimed as in queue.c, events, assets and tasks are read by key, triggers and their workflows once a batch, rows are written through
 * table.h.  SQL is used for what only some triggers need: documents for a filter or a templated input, the rights of a role on an asset that
 * is not its tenant's, money.  When anything fails, the batch is rolled back to before its first task and done again by SQL, each trigger and
 * event by itself, so that one's error is an event trigger_failed and no more.
 *
 * What must hold: one task for each trigger and event (goya_private.trigger_slots; a slot that two would take at once is a unique
 * violation, and then the SQL decides).  Money is held in the order of tenants.  Tenants, triggers and workflows are read as the newest
 * commit left them, so nothing starts for what was disabled or suspended before.
 *
 * A wallet that somebody keeps locked ends the engine's transaction; the events of its tenant then wait in the queue (held.c).
 *
 * Memory: all of a batch is in the caller's context.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "crash_point.h"
#include "dispatch.h"
#include "goya.h"
#include "held.h"
#include "shmem.h"

/* ----- claiming ----- */

/*
 * Where the queue's first row was last time.  Rows taken since are dead but in the index until vacuum, so a claim begins behind them.  An
 * event may commit after younger ones: the queue is looked at from its beginning ten times a second and when it seems empty.
 */
static pg_uuid_t first_row;
static TimestampTz looked = 0;

#define LOOK_AGAIN_MS 100
#define MAX_EVENTS 10000		/* at once, whatever is asked for */

static int
take_rows(GoyaTable *t, const pg_uuid_t *from, int max, GoyaEvent *events)
{
	Datum		key = from ? UUIDPGetDatum(from) : (Datum) 0;
	bool		more = goya_table_seek_least(t, from ? &key : NULL);
	int			n = 0;

	if (more)
		first_row = *DatumGetUUIDP(goya_row_get(t, t->found, GOYA_EVENT_QUEUE_EVENT_ID, NULL));
	for (; more && n < max; more = goya_table_next(t))
	{
		if (goya_held_suspect(DatumGetUUIDP(goya_row_get(t, t->found, GOYA_EVENT_QUEUE_TENANT_ID, NULL))) || !goya_table_take(t))
			continue;
		memset(&events[n], 0, sizeof(GoyaEvent));
		events[n].id = *DatumGetUUIDP(goya_row_get(t, t->found, GOYA_EVENT_QUEUE_EVENT_ID, NULL));
		events[n].tenant = *DatumGetUUIDP(goya_row_get(t, t->found, GOYA_EVENT_QUEUE_TENANT_ID, NULL));
		n++;
	}
	return n;
}

static int
compare_events(const void *a, const void *b)
{
	const GoyaEvent *x = a;
	const GoyaEvent *y = b;
	int			order = memcmp(x->tenant.data, y->tenant.data, UUID_LEN);

	return order != 0 ? order : memcmp(x->id.data, y->id.data, UUID_LEN);
}

/* True: the whole queue was looked at. */
static bool
claim(GoyaDispatch *b, int max)
{
	TimestampTz now = GetCurrentTimestamp();
	bool		whole = looked == 0 || TimestampDifferenceExceeds(looked, now, LOOK_AGAIN_MS);
	GoyaTable  *t = goya_table_open(GOYA_TABLE_EVENT_QUEUE);

	b->events = palloc(sizeof(GoyaEvent) * max);
	if (!whole)
		b->n = take_rows(t, &first_row, max, b->events);
	if (b->n == 0)
	{
		whole = true;
		looked = now;
		b->n = take_rows(t, NULL, max, b->events);
	}
	goya_table_close(t);
	if (b->n > 0)
		GOYA_CRASH_POINT(DISPATCH_CLAIMED);
	qsort(b->events, b->n, sizeof(GoyaEvent), compare_events);
	return whole;
}

/* ----- starting ----- */

static void
hold_money(GoyaDispatch *b, GoyaWaiter *t)
{
	int			n = list_length(t->matches);
	pg_uuid_t  *ids = palloc(sizeof(pg_uuid_t) * n);
	bool		held;

	for (int i = 0; i < n; i++)
		ids[i] = ((GoyaMatch *) list_nth(t->matches, i))->task;
	held = goya_run_hold_money(&t->start, t->revision, ids, n, &b->sql);
	for (int i = 0; i < n; i++)
		((GoyaMatch *) list_nth(t->matches, i))->held = held;
}

/* What a start looks up, once for all tasks of a trigger; and money, tenant after tenant. */
static void
prepare_triggers(GoyaDispatch *b)
{
	ListCell   *w;
	ListCell   *lc;

	foreach(w, b->waiting)
		foreach(lc, ((GoyaWaiting *) lfirst(w))->triggers)
	{
		GoyaWaiter *t = lfirst(lc);

		if (t->matches == NIL)
			continue;
		t->revision = goya_run_revision(&t->start, &b->sql);
		hold_money(b, t);
	}
}

static void
start_task(GoyaDispatch *b, const GoyaMatch *m, GoyaTable *tasks, GoyaTable *ready)
{
	GoyaStart  *s = palloc(sizeof(GoyaStart));	/* rows not yet written point into it */

	*s = m->trigger->start;
	s->input = m->input;
	s->asset = m->event->is_asset ? &m->event->subject : NULL;
	s->depth = m->event->depth + 1;
	s->trigger = m->cause;
	goya_run_check_options(s);
	goya_run_check_input(m->trigger->revision, s->input, "input");
	goya_run_init_context(s, m->trigger->revision, &m->task, &b->sql);
	goya_run_write_task(tasks, s, &m->task, m->trigger->revision, m->held ? &m->task : NULL);
	goya_run_queue(s, &m->task, m->trigger->revision, ready, NULL);
}

static void
start_tasks(GoyaDispatch *b)
{
	GoyaTable  *tasks;
	GoyaTable  *ready;
	ListCell   *lc;

	if (b->matches == NIL)
		return;
	prepare_triggers(b);
	tasks = goya_run_open(GOYA_TABLE_TASKS, &b->sql);
	ready = goya_run_open(GOYA_TABLE_READY, &b->sql);
	foreach(lc, b->matches)
	{
		CHECK_FOR_INTERRUPTS();
		start_task(b, lfirst(lc), tasks, ready);
	}
	goya_table_close(ready);
	goya_table_close(tasks);
	GOYA_CRASH_POINT(DISPATCH_TASKS);
}

static void
dispatch_all(GoyaDispatch *b)
{
	goya_dispatch_match(b);
	if (b->matches != NIL)
		GOYA_CRASH_POINT(DISPATCH_SLOTS);
	start_tasks(b);
	goya_run_end_sql(&b->sql);
}

/* ----- when something fails ----- */

/* Events as the arguments of statements: ids and tenants. */
GoyaRows *
goya_dispatch_rows(void)
{
	static const Oid columns[] = {UUIDOID, UUIDOID};

	return goya_rows_create(lengthof(columns), columns);
}

void
goya_dispatch_add_row(GoyaRows *rows, const GoyaEvent *e)
{
	goya_rows_add(rows);
	goya_rows_uuid(rows, 0, &e->id);
	goya_rows_uuid(rows, 1, &e->tenant);
}

static void
dispatch_singly(GoyaDispatch *b)
{
	GoyaRows   *rows = goya_dispatch_rows();
	GoyaStoreScope scope;

	for (int i = 0; i < b->n; i++)
		goya_dispatch_add_row(rows, &b->events[i]);
	goya_store_enter(&scope);
	goya_rows_run(GOYA_STMT_DISPATCH_SINGLY, rows);
	goya_store_leave(&scope);
}

/* In a subtransaction.  False: it failed, and nothing of it happened.  What the next try may heal is thrown. */
static bool
try_all(GoyaDispatch *b)
{
	MemoryContext cxt = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool ok = true;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(cxt);
	PG_TRY();
	{
		dispatch_all(b);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		int			code = geterrcode();

		if (ERRCODE_TO_CATEGORY(code) == ERRCODE_TO_CATEGORY(ERRCODE_TRANSACTION_ROLLBACK) || code == ERRCODE_QUERY_CANCELED ||
			code == ERRCODE_ADMIN_SHUTDOWN || goya_held_is_ours(code))
			PG_RE_THROW();
		MemoryContextSwitchTo(cxt);
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		ok = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(cxt);
	CurrentResourceOwner = owner;
	return ok;
}

/*
 * Nobody has to wait for the disk: what a crash takes back is again in the queue, and what came of the tasks goes with them, because the
 * log keeps its order.  But money that was seen to be held stays held.
 */
static void
commit_without_waiting(const GoyaDispatch *b)
{
	ListCell   *lc;

	if (goya_my_engine == NULL)
		return;					/* somebody's transaction: it may contain more */
	foreach(lc, b->matches)
		if (((GoyaMatch *) lfirst(lc))->held)
			return;
	(void) set_config_option("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
}

/* goya_private.dispatch_events(max_events integer) → integer: how many it took. */
PG_FUNCTION_INFO_V1(goya_dispatch_events_sql);
Datum
goya_dispatch_events_sql(PG_FUNCTION_ARGS)
{
	int			max = Min(PG_GETARG_INT32(0), MAX_EVENTS);
	GoyaDispatch		b = {0};

	goya_require_preload();
	if (max <= 0)
		PG_RETURN_INT32(0);
	goya_held_refresh();
	if (!claim(&b, max) && b.n < max)
		goya_wake_at_commit(GOYA_WAKE_EVENTS);	/* there may be older ones: look again */
	if (b.n > 0 && try_all(&b))
		commit_without_waiting(&b);
	else if (b.n > 0)
		dispatch_singly(&b);
	if (b.n > 0)
		GOYA_CRASH_POINT(DISPATCH_DONE);
	PG_RETURN_INT32(b.n);
}
