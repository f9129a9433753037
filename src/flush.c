/*-------------------------------------------------------------------------
 * flush.c
 *		Writing what a batch's node runs did: usage, node runs, artifacts, context, joins, maps, signals.  Set-based, under the locks
 *		of the batch's tasks.  May make more work (a join that became ready, a map that ended), which the batch then runs.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "batch.h"
#include "crash_point.h"
#include "json_util.h"
#include "shmem.h"

/* ----- node runs ----- */

/* A row of a node run where a lost call may have left one. */
static void
put_upsert(GoyaRows *rows, GoyaRecord *r, int epoch)
{
	bool		open = r->status == GOYA_RUN_WAITING || r->status == GOYA_RUN_RUNNING;

	goya_rows_add(rows);
	goya_rows_uuid(rows, 0, &r->task->id);
	goya_rows_text(rows, 1, r->task->plan->nodes[r->node].key);
	goya_rows_int4(rows, 2, r->item);
	goya_rows_int2(rows, 3, r->attempt);
	goya_rows_uuid(rows, 4, &r->task->tenant);
	goya_rows_text(rows, 5, goya_run_status_name(r->status));
	goya_rows_int4(rows, 6, r->seq);
	if (open)
		goya_rows_int4(rows, 7, r->seq);
	if (r->status == GOYA_RUN_RUNNING)
		goya_rows_int4(rows, 8, epoch);
	goya_rows_text(rows, 9, r->message);
	goya_rows_jsonb(rows, 10, r->input);
	goya_rows_jsonb(rows, 11, r->output);
	goya_rows_jsonb(rows, 12, r->error);
	if (r->has_cost)
		goya_rows_int8(rows, 13, r->cost);
	goya_rows_time(rows, 14, r->started_at);
	if (!open)
		goya_rows_time(rows, 15, r->finished_at);
}

static void
put_update(GoyaRows *rows, GoyaRecord *r)
{
	goya_rows_add(rows);
	goya_rows_uuid(rows, 0, &r->task->id);
	goya_rows_text(rows, 1, r->task->plan->nodes[r->node].key);
	goya_rows_int4(rows, 2, r->item);
	goya_rows_int2(rows, 3, r->attempt);
	goya_rows_text(rows, 4, goya_run_status_name(r->status));
	goya_rows_int4(rows, 5, r->seq);
	goya_rows_text(rows, 6, r->message);
	goya_rows_jsonb(rows, 7, r->output);
	goya_rows_jsonb(rows, 8, r->error);
	if (r->has_cost)
		goya_rows_int8(rows, 9, r->cost);
	goya_rows_time(rows, 10, r->finished_at);
}

static int
compare_keys(const void *a, const void *b)
{
	const GoyaRecord *x = *(GoyaRecord *const *) a;
	const GoyaRecord *y = *(GoyaRecord *const *) b;
	int			order = memcmp(&x->task->id, &y->task->id, UUID_LEN);

	if (order == 0)
		order = strcmp(x->task->plan->nodes[x->node].key, y->task->plan->nodes[y->node].key);
	return order != 0 ? order : x->item - y->item;
}

/* New rows, in the order of their key: the runs of a large task then fill its leaves of the index from one end to the other. */
static void
append_records(GoyaBatch *b, GoyaRecord **records, int n)
{
	GoyaTable  *t;

	if (n == 0)
		return;
	qsort(records, n, sizeof(GoyaRecord *), compare_keys);
	t = goya_table_open(GOYA_TABLE_NODE_RUNS);
	for (int i = 0; i < n; i++)
		goya_run_row_append(t, records[i], b->epoch);
	goya_table_close(t);
}

static void
write_records(GoyaBatch *b)
{
	static const Oid insert_columns[] = {UUIDOID, TEXTOID, INT4OID, INT2OID, UUIDOID, TEXTOID, INT4OID, INT4OID, INT4OID, TEXTOID, JSONBOID,
	JSONBOID, JSONBOID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	static const Oid update_columns[] = {UUIDOID, TEXTOID, INT4OID, INT2OID, TEXTOID, INT4OID, TEXTOID, JSONBOID, JSONBOID, INT8OID,
	TIMESTAMPTZOID};
	GoyaRows   *upserts = goya_rows_create(16, insert_columns);
	GoyaRows   *updates = goya_rows_create(11, update_columns);
	GoyaRecord **appended = palloc(sizeof(GoyaRecord *) * Max(list_length(b->records), 1));
	int			n_appended = 0;
	GoyaTable  *changed = NULL;
	ListCell   *lc;

	goya_usage_write(b);
	foreach(lc, b->records)
	{
		GoyaRecord *r = lfirst(lc);

		r->seq = ++r->task->last_seq;
		if (r->update && r->row != NULL)
		{
			if (changed == NULL)
				changed = goya_table_open(GOYA_TABLE_NODE_RUNS);
			goya_run_row_write(changed, r);
		}
		else if (r->update)
			put_update(updates, r);
		else if (r->again)
			put_upsert(upserts, r, b->epoch);
		else
			appended[n_appended++] = r;
	}
	if (b->records == NIL)
		return;
	b->records = NIL;
	append_records(b, appended, n_appended);
	if (changed != NULL)
		goya_table_close(changed);
	if (upserts->n > 0)
		goya_rows_run(GOYA_STMT_UPSERT_RUNS, upserts);
	if (updates->n > 0)
		goya_rows_run(GOYA_STMT_UPDATE_RUNS, updates);
	GOYA_CRASH_POINT(FLUSH_RUNS_WRITTEN);
}

static void
write_artifacts(GoyaBatch *b)
{
	int			n = list_length(b->artifacts);
	Jsonb	  **rows;
	Datum		args[1];
	ListCell   *lc;
	int			i = 0;

	if (n == 0)
		return;
	rows = palloc(sizeof(Jsonb *) * n);
	foreach(lc, b->artifacts)
		rows[i++] = lfirst(lc);
	b->artifacts = NIL;
	args[0] = JsonbPGetDatum(goya_json_array(n, rows));
	goya_store_run(GOYA_STMT_STORE_ARTIFACTS, args, NULL);
	GOYA_CRASH_POINT(FLUSH_ARTIFACTS);
}

/* ----- joins ----- */

static void
put_join(GoyaRows *rows, GoyaTask *task, int node)
{
	goya_rows_add(rows);
	goya_rows_uuid(rows, 0, &task->id);
	goya_rows_int4(rows, 1, node);
}

static void
decide_joins(GoyaBatch *b)
{
	static const Oid columns[] = {UUIDOID, INT4OID};
	GoyaRows   *complete = goya_rows_create(2, columns);
	GoyaRows   *started = goya_rows_create(2, columns);

	for (uint64 i = 0; i < SPI_processed; i++)
	{
		pg_uuid_t	id = goya_result_uuid(i, 1);
		GoyaTask   *t = goya_batch_task(b, &id);
		int			node = goya_result_int4(i, 2);
		int			fired = goya_result_int4(i, 3);
		int			failed = goya_result_int4(i, 5);
		int			total = fired + goya_result_int4(i, 4) + failed;
		bool		was_started = goya_result_bool(i, 6);
		const GoyaNode *n = &t->plan->nodes[node];

		if (total >= n->n_in)
			put_join(complete, t, node);
		else if (n->join_any && fired > 0 && !was_started)
			put_join(started, t, node);
		else
			continue;
		if (!was_started)
			goya_advance_join_ready(b, t, node, fired, failed);
	}
	if (started->n > 0)
		goya_rows_run(GOYA_STMT_START_JOINS, started);
	if (complete->n > 0)
		goya_rows_run(GOYA_STMT_DELETE_JOINS, complete);
}

static void
write_joins(GoyaBatch *b)
{
	static const Oid columns[] = {UUIDOID, INT4OID, INT4OID, INT4OID, INT4OID};
	GoyaRows   *rows;
	HASH_SEQ_STATUS seq;
	GoyaArrival *a;

	if (hash_get_num_entries(b->arrivals) == 0)
		return;
	rows = goya_rows_create(5, columns);
	hash_seq_init(&seq, b->arrivals);
	while ((a = hash_seq_search(&seq)) != NULL)
	{
		if (!a->settled && a->key.task->end != GOYA_END_FAILING)
		{
			goya_rows_add(rows);
			goya_rows_uuid(rows, 0, &a->key.task->id);
			goya_rows_int4(rows, 1, a->key.node);
			goya_rows_int4(rows, 2, a->fired);
			goya_rows_int4(rows, 3, a->dead);
			goya_rows_int4(rows, 4, a->failed);
		}
		hash_search(b->arrivals, &a->key, HASH_REMOVE, NULL);
	}
	if (rows->n > 0)
	{
		goya_rows_run(GOYA_STMT_UPSERT_JOINS, rows);
		GOYA_CRASH_POINT(FLUSH_JOINS);
		decide_joins(b);
	}
}

/* ----- maps ----- */

static void
start_maps(GoyaBatch *b)
{
	static const Oid columns[] = {UUIDOID, INT4OID, INT4OID, INT4OID};
	GoyaRows   *rows = goya_rows_create(4, columns);
	ListCell   *lc;

	foreach(lc, b->actions)
	{
		GoyaAction *a = lfirst(lc);

		if (a->kind != GOYA_ACT_START_MAP)
			continue;
		goya_rows_add(rows);
		goya_rows_uuid(rows, 0, &a->task->id);
		goya_rows_int4(rows, 1, a->node);
		goya_rows_int4(rows, 2, a->number);
		goya_rows_int4(rows, 3, a->number2);
	}
	if (rows->n > 0)
		goya_rows_run(GOYA_STMT_INSERT_MAPS, rows);
}

typedef struct MapRow
{
	GoyaTask   *task;
	int			node;
	int			total;
	int			next;
	int			done;
	int			failed;
	int			step;
	Jsonb	   *error;
} MapRow;

static void
write_maps(GoyaBatch *b)
{
	static const Oid columns[] = {UUIDOID, INT4OID, INT4OID, INT4OID};
	GoyaRows   *rows;
	HASH_SEQ_STATUS seq;
	GoyaMapProgress *p;
	MapRow	   *found;
	int			n;

	start_maps(b);
	if (hash_get_num_entries(b->maps) == 0)
		return;
	rows = goya_rows_create(4, columns);
	hash_seq_init(&seq, b->maps);
	while ((p = hash_seq_search(&seq)) != NULL)
	{
		goya_rows_add(rows);
		goya_rows_uuid(rows, 0, &p->key.task->id);
		goya_rows_int4(rows, 1, p->key.node);
		goya_rows_int4(rows, 2, p->done);
		goya_rows_int4(rows, 3, p->failed);
	}
	goya_rows_run(GOYA_STMT_UPDATE_MAPS, rows);
	GOYA_CRASH_POINT(FLUSH_MAPS);
	n = SPI_processed;
	found = palloc(sizeof(MapRow) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		pg_uuid_t	id = goya_result_uuid(i, 1);
		GoyaArrivalKey key;

		memset(&key, 0, sizeof(key));
		key.task = goya_batch_task(b, &id);
		key.node = goya_result_int4(i, 2);
		p = hash_search(b->maps, &key, HASH_FIND, NULL);
		found[i] = (MapRow) {key.task, key.node, goya_result_int4(i, 3), goya_result_int4(i, 4), goya_result_int4(i, 5),
		goya_result_int4(i, 6), p->done + p->failed, p->error};
	}
	hash_seq_init(&seq, b->maps);
	while ((p = hash_seq_search(&seq)) != NULL)
		hash_search(b->maps, &p->key, HASH_REMOVE, NULL);
	for (int i = 0; i < n; i++)
		if (found[i].task->end != GOYA_END_FAILING)
			goya_advance_map_progress(b, found[i].task, found[i].node, found[i].total, found[i].next, found[i].done, found[i].failed,
									  found[i].step, found[i].error);
}

/* ----- rare things ----- */

static void
write_context(GoyaBatch *b, GoyaAction *a)
{
	Datum		args[5];
	char		nulls[5] = {' ', ' ', ' ', ' ', ' '};

	args[0] = UUIDPGetDatum(&a->task->id);
	args[1] = CStringGetTextDatum(a->task->plan->nodes[a->node].key);
	args[2] = Int32GetDatum(a->item);
	args[3] = JsonbPGetDatum(a->json);
	args[4] = a->task->plan->context_spec ? JsonbPGetDatum(a->task->plan->context_spec) : (Datum) 0;
	if (a->task->plan->context_spec == NULL)
		nulls[4] = 'n';
	goya_store_run(GOYA_STMT_APPLY_CONTEXT, args, nulls);
	GOYA_CRASH_POINT(FLUSH_CONTEXT);
	a->task->context = NULL;	/* read again when needed */
	if (a->task->plan->nodes[a->node].owner < 0 && a->task->end != GOYA_END_FAILING)
		goya_advance_resolve(b, a->task, a->node, true);
}

static void
write_approval(GoyaAction *a)
{
	Datum		args[7];
	char		nulls[7] = {' ', ' ', ' ', ' ', ' ', ' ', ' '};

	args[0] = UUIDPGetDatum(&a->task->id);
	args[1] = CStringGetTextDatum(a->task->plan->nodes[a->node].key);
	args[2] = Int32GetDatum(a->item);
	args[3] = Int16GetDatum(a->attempt);
	args[4] = UUIDPGetDatum(&a->task->tenant);
	args[5] = CStringGetTextDatum(a->text ? a->text : "");
	args[6] = JsonbPGetDatum(a->json);
	goya_store_run(a->kind == GOYA_ACT_APPROVAL ? GOYA_STMT_INSERT_APPROVAL : GOYA_STMT_EXPIRE_APPROVAL, args, nulls);
	GOYA_CRASH_POINT(FLUSH_APPROVAL);
}

static void
do_actions(GoyaBatch *b)
{
	List	   *actions = b->actions;
	List	   *later = NIL;
	ListCell   *lc;

	b->actions = NIL;
	foreach(lc, actions)
	{
		GoyaAction *a = lfirst(lc);

		/* What a node wrote stays with its result, though another node failed after it. */
		if (a->task->end == GOYA_END_FAILING && a->kind != GOYA_ACT_EXPIRE_APPROVAL && a->kind != GOYA_ACT_CONTEXT)
			continue;
		switch (a->kind)
		{
			case GOYA_ACT_CONTEXT:
				write_context(b, a);
				break;
			case GOYA_ACT_APPROVAL:
			case GOYA_ACT_EXPIRE_APPROVAL:
				write_approval(a);
				break;
			case GOYA_ACT_ARM_SIGNAL:
				goya_node_arm_signal(b, a);
				break;
			case GOYA_ACT_AGENT_BEGIN:
			case GOYA_ACT_AGENT_STEP:
			case GOYA_ACT_AGENT_WAKE:
				goya_agent_act(b, a);
				break;
			case GOYA_ACT_WORK:
				goya_worker_write(a);
				break;
			case GOYA_ACT_CHILD:
				later = lappend(later, a);	/* takes wallet locks: last */
				break;
			default:
				break;
		}
	}
	b->actions = list_concat(later, b->actions);
}

static void
mark_started(GoyaBatch *b)
{
	for (int i = 0; i < b->n_tasks; i++)
	{
		GoyaTask   *t = b->task_list[i];

		if (t->touched && t->locked && !t->started)
		{
			t->started = true;
			t->started_seq = ++t->last_seq;
		}
	}
}

/*
 * Write what ran since the last round.  New work may be pushed.
 */
void
goya_flush_round(GoyaBatch *b)
{
	GoyaStoreScope scope;

	goya_batch_lock_tasks(b);
	GOYA_CRASH_POINT(FLUSH_TASKS_LOCKED);
	mark_started(b);
	goya_store_enter(&scope);
	write_records(b);
	write_artifacts(b);
	write_joins(b);
	write_maps(b);
	do_actions(b);
	goya_store_leave(&scope);
}
