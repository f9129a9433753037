/*-------------------------------------------------------------------------
 * batch.c
 *		A batch: claiming rows of the queue, loading and locking their tasks, running the work, the order in which things happen.
 *
 * Order within one transaction:
 *		claim rows (skip locked) -> load tasks (no lock) -> run work until none is left or the limits are reached ->
 *		[lock tasks by id] -> write what ran -> joins, maps, signals may make more work: again, under the locks now held ->
 *		queue what is left, write tasks, settle -> commit (by the caller).
 *
 * What must hold: work claimed is either run, queued again, parked or dropped because its task has ended; every piece of work that was
 * counted in tasks.active is uncounted exactly once.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "batch.h"
#include "guc.h"
#include "json_util.h"
#include "shmem.h"

static const Oid uuid_column[] = {UUIDOID};

const char *
goya_run_status_name(GoyaRunStatus status)
{
	static const char *const names[] = {"pending", "ready", "running", "waiting", "succeeded", "failed", "skipped", "cancelled", "compensated"};

	return names[status];
}

/* Which copy of which cluster this is. */
char *
goya_batch_system_id(void)
{
	return psprintf(UINT64_FORMAT "/%u", GetSystemIdentifier(), MyDatabaseId);
}

static HTAB *
create_hash(GoyaBatch *b, const char *name, Size keysize, Size entrysize)
{
	HASHCTL		ctl;

	memset(&ctl, 0, sizeof(ctl));
	ctl.keysize = keysize;
	ctl.entrysize = entrysize;
	ctl.hcxt = b->cxt;
	return hash_create(name, 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

typedef struct TaskEntry
{
	pg_uuid_t	id;
	GoyaTask   *task;
} TaskEntry;

GoyaBatch *
goya_batch_create(MemoryContext cxt, GoyaBatchMode mode, bool savepoints, int limit, GoyaBlame *blame)
{
	GoyaBatch  *b = MemoryContextAllocZero(cxt, sizeof(GoyaBatch));

	b->cxt = cxt;
	b->mode = mode;
	b->savepoints = savepoints;
	b->limit = limit;
	b->blame = blame;
	b->now = GetCurrentTimestamp();
	b->deadline = TimestampTzPlusMilliseconds(b->now, goya_guc_batch_time);
	b->tasks = create_hash(b, "goya batch tasks", sizeof(pg_uuid_t), sizeof(TaskEntry));
	b->arrivals = create_hash(b, "goya batch arrivals", sizeof(GoyaArrivalKey), sizeof(GoyaArrival));
	b->maps = create_hash(b, "goya batch maps", sizeof(GoyaArrivalKey), sizeof(GoyaMapProgress));
	return b;
}

GoyaTask *
goya_batch_task(GoyaBatch *b, const pg_uuid_t *id)
{
	TaskEntry  *entry = hash_search(b->tasks, id, HASH_FIND, NULL);

	return entry ? entry->task : NULL;
}

void
goya_batch_push(GoyaBatch *b, GoyaTask *task, GoyaWorkKind kind, int node, int item, int attempt)
{
	GoyaWork   *w;

	if (b->work_tail == b->work_max)
	{
		b->work_max = b->work_max ? b->work_max * 2 : 64;
		if (b->work == NULL)
			b->work = MemoryContextAlloc(b->cxt, sizeof(GoyaWork) * b->work_max);
		else
			b->work = repalloc_huge(b->work, sizeof(GoyaWork) * b->work_max);
	}
	w = &b->work[b->work_tail++];
	memset(w, 0, sizeof(*w));
	w->task = task;
	w->kind = kind;
	w->node = node;
	w->item = item;
	w->attempt = attempt;
}

/* ----- tasks ----- */

static GoyaTask *
add_task(GoyaBatch *b, const pg_uuid_t *id)
{
	bool		found;
	TaskEntry  *entry = hash_search(b->tasks, id, HASH_ENTER, &found);

	if (found)
		return entry->task;
	entry->task = MemoryContextAllocZero(b->cxt, sizeof(GoyaTask));
	entry->task->id = *id;
	if (b->n_tasks == b->max_tasks)
	{
		b->max_tasks = b->max_tasks ? b->max_tasks * 2 : 64;
		if (b->task_list == NULL)
			b->task_list = MemoryContextAlloc(b->cxt, sizeof(GoyaTask *) * b->max_tasks);
		else
			b->task_list = repalloc(b->task_list, sizeof(GoyaTask *) * b->max_tasks);
	}
	b->task_list[b->n_tasks++] = entry->task;
	return entry->task;
}

static bool
status_is_open(const char *status)
{
	return strcmp(status, "pending") == 0 || strcmp(status, "running") == 0 || strcmp(status, "waiting") == 0;
}

static void
fill_task(GoyaBatch *b, GoyaTask *t, int row)
{
	char	   *status = goya_result_text(row, 5, b->cxt);
	bool		tenant_active = !goya_result_isnull(row, 20) && goya_result_bool(row, 20);

	t->tenant = goya_result_uuid(row, 2);
	t->workflow = goya_result_uuid(row, 3);
	t->revision = goya_result_int4(row, 4);
	t->run_as = goya_result_text(row, 6, b->cxt);
	t->paused = goya_result_bool(row, 7);
	t->failing = goya_result_bool(row, 8);
	t->input = goya_result_jsonb(row, 9, b->cxt);
	t->has_asset = !goya_result_isnull(row, 10);
	if (t->has_asset)
		t->asset = goya_result_uuid(row, 10);
	t->trigger = goya_result_jsonb(row, 11, b->cxt);
	t->trace_id = goya_result_text(row, 12, b->cxt);
	t->created_at = DatumGetTimestampTz(goya_result_datum(row, 13));
	t->priority = DatumGetInt16(goya_result_datum(row, 14));
	t->depth = DatumGetInt16(goya_result_datum(row, 15));
	t->has_hold = goya_result_bool(row, 16);
	t->has_parent = !goya_result_isnull(row, 17) && !goya_result_isnull(row, 18);
	if (t->has_parent)
	{
		t->parent = goya_result_uuid(row, 17);
		t->parent_node = goya_result_int4(row, 18);
		t->parent_item = goya_result_isnull(row, 19) ? 0 : goya_result_int4(row, 19);
	}
	t->runnable = status_is_open(status) && !goya_result_bool(row, 21);
	if (!tenant_active)
		t->refusal = "the tenant is suspended";
	t->created_by = goya_result_text(row, 22, b->cxt);
}

void
goya_batch_load_tasks(GoyaBatch *b, int n, const pg_uuid_t *ids)
{
	GoyaRows   *rows = goya_rows_create(1, uuid_column);
	GoyaStoreScope scope;

	for (int i = 0; i < n; i++)
	{
		if (goya_batch_task(b, &ids[i]) != NULL)
			continue;
		add_task(b, &ids[i]);
		goya_rows_add(rows);
		goya_rows_uuid(rows, 0, &ids[i]);
	}
	if (rows->n == 0)
		return;
	goya_store_enter(&scope);
	goya_rows_run(GOYA_STMT_LOAD_TASKS, rows);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		pg_uuid_t	id = goya_result_uuid(i, 1);

		fill_task(b, goya_batch_task(b, &id), i);
	}
	for (int i = 0; i < b->n_tasks; i++)
	{
		GoyaTask   *t = b->task_list[i];
		GoyaRevision *r;

		if (t->plan != NULL || t->run_as == NULL)
			continue;
		r = goya_plan_cache_get(&t->workflow, t->revision);
		if (r == NULL)
			t->refusal = "its workflow revision cannot be compiled";
		else
			t->plan = r->plan;
		if (t->plan == NULL)
			t->runnable = false;
	}
	goya_store_leave(&scope);
}

/*
 * Lock the batch's tasks, once, in id order, and read what may have changed since they were loaded.  In EXECUTE mode a task that has
 * ended meanwhile ends the batch: what its nodes did must not stay.
 */
void
goya_batch_lock_tasks(GoyaBatch *b)
{
	GoyaRows   *rows = goya_rows_create(1, uuid_column);
	GoyaStoreScope scope;

	for (int i = 0; i < b->n_tasks; i++)
	{
		GoyaTask   *t = b->task_list[i];

		if (t->locked || t->plan == NULL || !t->runnable)
			continue;
		goya_rows_add(rows);
		goya_rows_uuid(rows, 0, &t->id);
	}
	if (rows->n == 0)
		return;
	goya_store_enter(&scope);
	goya_rows_run(GOYA_STMT_LOCK_TASKS, rows);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		pg_uuid_t	id = goya_result_uuid(i, 1);
		GoyaTask   *t = goya_batch_task(b, &id);

		t->locked = true;
		if (!status_is_open(goya_result_text(i, 2, b->cxt)))
		{
			t->runnable = false;
			if (t->touched)
				ereport(ERROR,
						(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
						 errmsg("task %s ended while its node ran", goya_uuid_text(&t->id))));
		}
		t->paused = goya_result_bool(i, 3);
		t->failing = goya_result_bool(i, 4);
		t->active = goya_result_int4(i, 5);
		t->waiting = goya_result_int4(i, 6);
		t->last_seq = goya_result_int4(i, 7);
		t->done = goya_result_int4(i, 8);
		t->started = goya_result_bool(i, 9);
	}
	goya_store_leave(&scope);
}

/* ----- claiming ----- */

typedef struct ClaimedRow
{
	pg_uuid_t	task;
	int			node;
	int			item;
	int			attempt;
	int			verb;
	int64		rank;
	int			tries;
} ClaimedRow;

static int
compare_rank(const void *a, const void *b)
{
	int64		x = ((const ClaimedRow *) a)->rank;
	int64		y = ((const ClaimedRow *) b)->rank;

	return x < y ? -1 : x > y;
}

static ClaimedRow *
claim_rows(GoyaBatch *b, GoyaLane lane, int *n)
{
	GoyaStoreScope scope;
	ClaimedRow *rows;
	Datum		args[3];

	args[0] = Int16GetDatum(lane);
	args[1] = Int32GetDatum(b->limit);
	args[2] = CStringGetTextDatum(goya_batch_system_id());
	goya_store_enter(&scope);
	goya_store_run(GOYA_STMT_CLAIM, args, NULL);
	*n = SPI_processed;
	rows = MemoryContextAlloc(b->cxt, sizeof(ClaimedRow) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
	{
		rows[i].task = goya_result_uuid(i, 1);
		rows[i].node = goya_result_int4(i, 2);
		rows[i].item = goya_result_int4(i, 3);
		rows[i].attempt = DatumGetInt16(goya_result_datum(i, 4));
		rows[i].verb = DatumGetInt16(goya_result_datum(i, 5));
		rows[i].rank = goya_result_int8(i, 6);
		rows[i].tries = DatumGetInt16(goya_result_datum(i, 7));
	}
	goya_store_leave(&scope);
	qsort(rows, *n, sizeof(ClaimedRow), compare_rank);
	return rows;
}

/* Rows of paused tasks wait elsewhere until goya.resume.  Under the task's lock only: see there. */
static void
park(GoyaBatch *b, GoyaRows *parked, GoyaTask *t, const ClaimedRow *r, GoyaLane lane)
{
	goya_rows_add(parked);
	goya_rows_int8(parked, 0, r->rank);
	goya_rows_int2(parked, 1, lane);
	goya_rows_int2(parked, 2, r->verb);
	goya_rows_uuid(parked, 3, &t->id);
	goya_rows_int4(parked, 4, r->node);
	goya_rows_int4(parked, 5, r->item);
	goya_rows_int2(parked, 6, r->attempt);
}

/*
 * Claim up to b->limit rows of a lane and make work of them.  In ADVANCE mode the tasks are locked at once.  Returns the rows taken.
 */
int
goya_batch_claim(GoyaBatch *b, GoyaLane lane)
{
	static const Oid parked_columns[] = {INT8OID, INT2OID, INT2OID, UUIDOID, INT4OID, INT4OID, INT2OID};
	int			n;
	ClaimedRow *rows = claim_rows(b, lane, &n);
	pg_uuid_t  *ids;
	GoyaRows   *parked;

	b->n_claimed = n;
	if (n == 0)
		return 0;
	ids = MemoryContextAlloc(b->cxt, sizeof(pg_uuid_t) * n);
	for (int i = 0; i < n; i++)
		ids[i] = rows[i].task;
	goya_batch_load_tasks(b, n, ids);
	if (b->mode == GOYA_BATCH_ADVANCE)
		goya_batch_lock_tasks(b);

	parked = goya_rows_create(7, parked_columns);
	for (int i = 0; i < n; i++)
	{
		GoyaTask   *t = goya_batch_task(b, &rows[i].task);

		b->newest_rank = Max(b->newest_rank, rows[i].rank);
		if (t->run_as == NULL || !t->runnable)
			continue;			/* gone, ended or being cancelled: nothing to do any more */
		if (t->rank == 0 || rows[i].rank < t->rank)
			t->rank = rows[i].rank;
		if (t->paused && rows[i].verb == GOYA_VERB_RUN)
		{
			if (t->locked)
				park(b, parked, t, &rows[i], lane);
			else				/* goya.resume may be moving its rows: decided under the lock, in the lane of wake-ups */
				goya_batch_queue(b, t, GOYA_LANE_WAKE, GOYA_VERB_RUN, rows[i].node, rows[i].item, rows[i].attempt, 0);
			continue;
		}
		goya_batch_push(b, t, GOYA_WORK_RUN, rows[i].node, rows[i].item, rows[i].attempt);
		b->work[b->work_tail - 1].verb = rows[i].verb;
		b->work[b->work_tail - 1].rank = rows[i].rank;
		b->work[b->work_tail - 1].tries = rows[i].tries;
	}
	if (parked->n > 0)
	{
		GoyaStoreScope scope;

		goya_store_enter(&scope);
		goya_rows_run(GOYA_STMT_INSERT_PARKED, parked);
		goya_store_leave(&scope);
	}
	goya_scope_preload(b);
	return n;
}

/* ----- what the batch produces ----- */

void
goya_batch_queue(GoyaBatch *b, GoyaTask *task, int lane, int verb, int node, int item, int attempt, TimestampTz due)
{
	MemoryContext old = MemoryContextSwitchTo(b->cxt);
	GoyaQueued *q = palloc0(sizeof(GoyaQueued));

	q->task = task;
	q->task_id = task->id;
	q->tenant = task->tenant;
	q->priority = task->priority;
	q->lane = lane;
	q->verb = verb;
	q->node = node;
	q->item = item;
	q->attempt = attempt;
	q->due = due;
	b->queued = lappend(b->queued, q);
	MemoryContextSwitchTo(old);
}

GoyaAction *
goya_batch_act(GoyaBatch *b, GoyaActionKind kind, GoyaTask *task, int node, int item, int attempt)
{
	MemoryContext old = MemoryContextSwitchTo(b->cxt);
	GoyaAction *a = palloc0(sizeof(GoyaAction));

	a->kind = kind;
	a->task = task;
	a->node = node;
	a->item = item;
	a->attempt = attempt;
	b->actions = lappend(b->actions, a);
	MemoryContextSwitchTo(old);
	return a;
}

GoyaRecord *
goya_batch_record(GoyaBatch *b, const GoyaWork *w, GoyaRunStatus status)
{
	MemoryContext old = MemoryContextSwitchTo(b->cxt);
	GoyaRecord *r = palloc0(sizeof(GoyaRecord));

	r->task = w->task;
	r->node = w->node;
	r->item = w->item;
	r->attempt = w->attempt;
	r->status = status;
	w->task->touched = true;
	b->records = lappend(b->records, r);
	MemoryContextSwitchTo(old);
	return r;
}

/* ----- running ----- */

/* Did this node run bring down a batch of its own when it was written? */
bool
goya_batch_convicted(GoyaBatch *b, const GoyaWork *w)
{
	const GoyaBlame *c = b->convict;

	return c != NULL && c->valid && goya_uuid_equal(&c->task, &w->task->id) && c->node == w->node && c->item == w->item &&
		c->attempt == w->attempt;
}

static void
run_one(GoyaBatch *b, const GoyaWork *w)
{
	if (w->task->end == GOYA_END_FAILING || !w->task->runnable)
		return;					/* failed in this batch: the rest of it is given up */
	if (w->task->failing && w->node >= 0 && !w->task->plan->nodes[w->node].is_compensation)
		return;					/* only compensations run now */
	w->task->touched = true;
	if (w->task->refusal != NULL)
		goya_advance_fail_task(b, w->task, goya_error_make("42501", GOYA_ERR_POLICY_DENY, w->task->refusal, NULL, NULL));
	else if (w->verb != GOYA_VERB_RUN)
		goya_node_wake(b, w);
	else if (w->kind != GOYA_WORK_RUN)
		goya_advance_skip(b, w);
	else if (w->node < 0)
		goya_advance_start(b, w);
	else if (goya_batch_convicted(b, w))
	{
		GoyaOutcome o = {.ok = false,.retry_after_ms = -1,.error = b->convict_error,.error_class = b->convict_class};

		goya_advance_finish(b, w, &o, NULL, b->now, false);
	}
	else
		goya_node_run(b, w);
}

static bool
over_limit(GoyaBatch *b)
{
	if (b->single && b->n_runs > 0)
		return true;
	if (b->n_runs >= Max(b->limit, goya_guc_batch_size) * 2)
		return true;
	return (b->n_runs & 7) == 7 && GetCurrentTimestamp() > b->deadline;
}

/* Work not done in this batch goes back to the queue. */
static void
queue_rest(GoyaBatch *b)
{
	for (; b->work_head < b->work_tail; b->work_head++)
	{
		GoyaWork	w = b->work[b->work_head];

		if (w.kind != GOYA_WORK_RUN)
		{
			run_one(b, &w);		/* skipping costs nothing, and is not queued */
			continue;
		}
		if (w.task->end == GOYA_END_FAILING || !w.task->runnable)
			continue;
		w.task->touched = true;
		goya_batch_queue(b, w.task, w.verb != GOYA_VERB_RUN ? GOYA_LANE_WAKE :
						 w.node < 0 ? GOYA_LANE_EXECUTOR : goya_node_lane(w.task->plan, w.node), w.verb, w.node, w.item, w.attempt, 0);
	}
}

/* Writing may itself end node runs (a map's last item, a signal that was there): then there is more to write. */
static bool
more_to_write(GoyaBatch *b)
{
	ListCell   *lc;

	if (b->records != NIL || b->artifacts != NIL || hash_get_num_entries(b->arrivals) > 0 || hash_get_num_entries(b->maps) > 0)
		return true;
	foreach(lc, b->actions)
		if (((GoyaAction *) lfirst(lc))->kind != GOYA_ACT_CHILD)
			return true;
	return false;
}

/*
 * Run all work and write everything.  Throws on any error that is not a node's own (with savepoints), or on any error (without).
 */
void
goya_batch_run(GoyaBatch *b)
{
	MemoryContext old = MemoryContextSwitchTo(b->cxt);

	for (;;)
	{
		while (b->work_head < b->work_tail && !over_limit(b))
		{
			GoyaWork	w = b->work[b->work_head++];

			CHECK_FOR_INTERRUPTS();
			if (w.node >= 0)
			{
				b->blame->valid = true;
				b->blame->task = w.task->id;
				b->blame->node = w.node;
				b->blame->item = w.item;
				b->blame->attempt = w.attempt;
			}
			run_one(b, &w);
		}
		if (!b->single)
			b->blame->valid = false;
		if (b->work_head < b->work_tail)
			queue_rest(b);
		goya_flush_round(b);
		if (b->work_head >= b->work_tail && !more_to_write(b))
			break;
	}
	goya_flush_end(b);
	MemoryContextSwitchTo(old);
}

PG_FUNCTION_INFO_V1(goya_system_id_sql);
Datum
goya_system_id_sql(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(goya_batch_system_id()));
}
