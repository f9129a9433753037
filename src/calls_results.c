/*-------------------------------------------------------------------------
 * calls_results.c
 *		Results of outside calls that wait to be recorded: those that have just come, and those put off because somebody keeps their task,
 *		or a wallet, locked.  And what calls have used that will have no result.
 *
 * What must hold: a result is in exactly one of the two lists, or in the hands of the batch that records it; it is dropped only when it is recorded
 * (or cannot be: calls.c).
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "calls_internal.h"
#include "held.h"
#include "json_util.h"

#define RECORD_AT_ONCE 500

static void
drop_result(CallResult *r)
{
	if (r->call.exchange != NULL)
		MemoryContextDelete(r->call.exchange->cxt);
	MemoryContextDelete(r->cxt);
}

/* It is tried again later, in memory: nothing of it is lost, and nobody waits for it. */
static void
put_off(GoyaCalls *c, CallResult *r)
{
	MemoryContext old = MemoryContextSwitchTo(c->cxt);

	r->due = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), goya_held_pause(r->held));
	r->held++;
	c->put_off = lappend(c->put_off, r);
	c->next_put_off = Min(c->next_put_off, r->due);
	MemoryContextSwitchTo(old);
}

/* Those that were put off until now, as many as the attempt takes. */
List *
goya_calls_take_put_off(GoyaCalls *c)
{
	MemoryContext old = MemoryContextSwitchTo(c->cxt);
	TimestampTz now = GetCurrentTimestamp();
	int			most = c->again->care == GOYA_CARE_SINGLE ? 1 : RECORD_AT_ONCE;
	List	   *due = NIL;
	List	   *rest = NIL;
	ListCell   *lc;

	c->next_put_off = DT_NOEND;
	foreach(lc, c->put_off)
	{
		CallResult *r = lfirst(lc);

		if (r->due <= now && list_length(due) < most)
			due = lappend(due, r);
		else
		{
			rest = lappend(rest, r);
			c->next_put_off = Min(c->next_put_off, r->due);
		}
	}
	list_free(c->put_off);
	c->put_off = rest;
	MemoryContextSwitchTo(old);
	return due;
}

List *
goya_calls_take_results(GoyaCalls *c)
{
	MemoryContext old = MemoryContextSwitchTo(c->cxt);
	int			n = Min(list_length(c->results), c->records->care == GOYA_CARE_SINGLE ? 1 : RECORD_AT_ONCE);
	List	   *taken = NIL;

	for (int i = 0; i < n; i++)
		taken = lappend(taken, list_nth(c->results, i));
	c->results = list_delete_first_n(c->results, n);
	MemoryContextSwitchTo(old);
	return taken;
}

/* What becomes of results after their batch.  keep: it failed, and they are to be recorded again at once. */
void
goya_calls_dispose(GoyaCalls *c, List *results, bool keep, bool off)
{
	MemoryContext old = MemoryContextSwitchTo(c->cxt);
	ListCell   *lc;

	foreach(lc, results)
	{
		CallResult *r = lfirst(lc);

		if (off || (!keep && r->is_held))
			put_off(c, r);
		else if (!keep)
			drop_result(r);
	}
	if (keep && !off)
		c->results = list_concat(results, c->results);
	else
		list_free(results);
	MemoryContextSwitchTo(old);
}

/* ----- calls without a result ----- */

static Jsonb *
used_by(const InFlight *f, Jsonb *quantity)
{
	GoyaJsonObject o;

	goya_json_object_start(&o);
	goya_json_add_text(&o, "node", f->exchange->node_key);
	goya_json_add_int(&o, "item", f->item);
	goya_json_add_int(&o, "attempt", f->attempt);
	goya_json_add_text(&o, "price", f->exchange->price_name);
	goya_json_add_text(&o, "cost_tag", f->exchange->cost_tag);
	goya_json_add(&o, "quantity", quantity);
	return goya_json_object_finish(&o);
}

/* For a task that is being cancelled: its calls in flight that cost something, and what they have used so far, as an array. */
Jsonb *
goya_calls_used(GoyaCalls *c, const pg_uuid_t *task)
{
	HASH_SEQ_STATUS seq;
	InFlight   *f;
	Jsonb	  **used = palloc(sizeof(Jsonb *) * (goya_calls_in_flight(c) + 1));
	int			n = 0;

	hash_seq_init(&seq, c->in_flight);
	while ((f = hash_seq_search(&seq)) != NULL)
	{
		Jsonb	   *quantity;

		if (!goya_uuid_equal(&f->task, task) || f->exchange == NULL || f->exchange->price_name == NULL || f->exchange->type->used == NULL)
			continue;
		quantity = f->exchange->type->used(f->exchange);
		if (quantity != NULL)
			used[n++] = used_by(f, quantity);
	}
	return n > 0 ? goya_json_array(n, used) : NULL;
}
