/*-------------------------------------------------------------------------
 * node_worker.c
 *		Worker nodes: work that an outside process claims over SQL (sql/56_work.sql).
 *
 * The node run waits, with a row in goya_private.work.  Three things end the wait, all as rows of the wake lane: a result (verb decision), the
 * node's timeout, and a lease that ran out too often; the last two come as timers (verb timer), of which there may be several for one run: each
 * claim leaves one.  A timer therefore looks at what is true now, and changes nothing otherwise.
 *
 * What must hold: clients keep rows of work locked for as long as they like, so nothing here waits for one (take_result: a row with a result is
 * locked by nobody).
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "batch.h"
#include "crash_point.h"
#include "json_util.h"
#include "shmem.h"

#define DEFAULT_LEASE_MS	30000
#define MIN_LEASE_MS		1000
#define MAX_LEASE_MS		(INT64CONST(24) * 3600 * 1000)
#define DEFAULT_MAX_CLAIMS	3
#define MAX_NAME_CHARS		200

/* ----- offering ----- */

static int64
max_claims(Jsonb *config)
{
	Jsonb	   *value = goya_json_get(config, "max_claims");
	int64		n = DEFAULT_MAX_CLAIMS;

	if (!goya_json_is_null(value) && (!goya_json_as_int(value, &n) || n < 1 || n > 1000))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("max_claims must be a whole number from 1 to 1000")));
	return n;
}

/* In the transaction that lets the node wait: what is wrong with its fields is its error. */
void
goya_worker_offer(GoyaBatch *b, const GoyaWork *w, GoyaNodeScope *scope)
{
	Jsonb	   *config = goya_template_eval(w->task->plan->nodes[w->node].config, &scope->scope);
	char	   *queue = goya_json_get_text(config, "queue");
	Jsonb	   *lease = goya_json_get(config, "lease");
	int64		lease_ms = goya_json_is_null(lease) ? DEFAULT_LEASE_MS : goya_interval_ms(lease, "lease");
	GoyaAction *a;

	if (queue == NULL || queue[0] == '\0' || pg_mbstrlen(queue) > MAX_NAME_CHARS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("bad queue name"), errdetail("It must be 1 to %d characters long.", MAX_NAME_CHARS)));
	if (lease_ms < MIN_LEASE_MS || lease_ms > MAX_LEASE_MS)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a lease must be from 1 s to 1 day")));
	a = goya_batch_act(b, GOYA_ACT_WORK, w->task, w->node, w->item, w->attempt);
	a->text = queue;
	a->number = (int) lease_ms;
	a->number2 = (int) max_claims(config);
}

/* Its row was written. */
void
goya_worker_write(GoyaAction *a)
{
	Datum		args[11];

	args[0] = UUIDPGetDatum(&a->task->id);
	args[1] = CStringGetTextDatum(a->task->plan->nodes[a->node].key);
	args[2] = Int32GetDatum(a->item);
	args[3] = Int16GetDatum(a->attempt);
	args[4] = Int32GetDatum(a->node);
	args[5] = UUIDPGetDatum(&a->task->tenant);
	args[6] = Int32GetDatum(a->task->priority);
	args[7] = CStringGetTextDatum(a->text);
	args[8] = Int64GetDatum(a->task->rank);
	args[9] = Int64GetDatum(a->number);
	args[10] = Int32GetDatum(a->number2);
	goya_store_run(GOYA_STMT_OFFER_WORK, args, NULL);
}

/* ----- results ----- */

static Jsonb *
take_result(const GoyaWork *w, MemoryContext cxt)
{
	GoyaStoreScope scope;
	Datum		args[4];
	Jsonb	   *result = NULL;

	args[0] = UUIDPGetDatum(&w->task->id);
	args[1] = CStringGetTextDatum(w->task->plan->nodes[w->node].key);
	args[2] = Int32GetDatum(w->item);
	args[3] = Int16GetDatum(w->attempt);
	goya_store_enter(&scope);
	goya_store_run(GOYA_STMT_TAKE_WORK, args, NULL);
	if (SPI_processed == 1)
		result = goya_result_jsonb(0, 1, cxt);
	goya_store_leave(&scope);
	return result;
}

/* False: there is no result of this attempt. */
bool
goya_worker_result(GoyaBatch *b, const GoyaWork *w, GoyaOutcome *o)
{
	Jsonb	   *result = take_result(w, b->cxt);
	char	   *class_name;

	if (result == NULL)
		return false;
	o->error = goya_json_get(result, "error");
	o->ok = o->error == NULL;
	if (o->ok)
	{
		Jsonb	   *output = goya_json_get(result, "output");

		o->quantity = goya_json_get(result, "usage");
		if (goya_json_is_null(o->quantity))
			o->quantity = NULL;
		goya_node_open_stored(b, w->task, &output, o);
		if (o->ok)
			o->output = output;
		return true;
	}
	class_name = goya_json_get_text(o->error, "class");
	o->error_class = class_name ? goya_error_class_bit(class_name) : 0;
	if (o->error_class == 0)
		o->error_class = GOYA_ERR_TOOL_BUG;
	if (!goya_json_get_bool(result, "retry", true))
		o->error_class = GOYA_ERR_CRASH;	/* of no retry rule: what people read is in the error */
	o->retry_after_ms = goya_json_get_int(result, "retry_after_ms", -1);
	return true;
}

/* ----- timers ----- */

static void
fail_timeout(GoyaOutcome *o, const char *message, const char *hint)
{
	o->ok = false;
	o->error_class = GOYA_ERR_TIMEOUT;
	o->error = goya_error_make("57014", GOYA_ERR_TIMEOUT, message, NULL, hint);
}

/* False: it goes on waiting. */
bool
goya_worker_timer(GoyaBatch *b, const GoyaWork *w, TimestampTz started_at, GoyaOutcome *o)
{
	const GoyaNode *n = &w->task->plan->nodes[w->node];
	GoyaStoreScope scope;
	Datum		args[4];
	char	   *verdict;
	char	   *worker;
	TimestampTz due = 0;
	int			claims;

	args[0] = UUIDPGetDatum(&w->task->id);
	args[1] = CStringGetTextDatum(n->key);
	args[2] = Int32GetDatum(w->item);
	args[3] = Int16GetDatum(w->attempt);
	goya_store_enter(&scope);
	if (n->timeout_ms > 0 && started_at != 0 && TimestampTzPlusMilliseconds(started_at, n->timeout_ms) <= GetCurrentTimestamp())
	{
		goya_store_run(GOYA_STMT_DROP_WORK, args, NULL);
		goya_store_leave(&scope);
		fail_timeout(o, "no worker completed it in time", "Raise the node's timeout, or look in goya.list_work whether anybody works on this queue.");
		return true;
	}
	goya_store_run(GOYA_STMT_EXPIRE_LEASE, args, NULL);
	verdict = goya_result_text(0, 1, b->cxt);
	if (!goya_result_isnull(0, 2))
		due = DatumGetTimestampTz(goya_result_datum(0, 2));
	worker = goya_result_text(0, 3, b->cxt);
	claims = goya_result_isnull(0, 4) ? 0 : goya_result_int4(0, 4);
	goya_store_leave(&scope);
	if (strcmp(verdict, "later") == 0)
		goya_batch_queue(b, w->task, GOYA_LANE_WAKE, GOYA_VERB_TIMER, w->node, w->item, w->attempt, due);
	if (strcmp(verdict, "failed") != 0)
		return false;
	fail_timeout(o, psprintf("%d workers took it and none completed it; the last was \"%s\"", claims, worker),
				 "Look at the workers, or raise the node's lease or max_claims.");
	return true;
}

PG_FUNCTION_INFO_V1(goya_wake_timers_sql);
Datum
goya_wake_timers_sql(PG_FUNCTION_ARGS)
{
	goya_wake_at_commit(GOYA_WAKE_TIMERS);
	PG_RETURN_VOID();
}
