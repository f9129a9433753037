/*-------------------------------------------------------------------------
 * crashes.c
 *		Nodes that crash their process: counted, run alone, and after the third time not run again.
 *
 * The black box (black_box.c) says which node a process ran when it died.  The engine counts that in goya_private.crashes before it starts
 * an executor.  While the table has rows - hardly ever - batches look at it: a node in it runs alone, so that a batch is not lost with
 * it; one that has crashed GOYA_MAX_CRASHES times, or once would not end (overtime.c), fails with class CRASH instead of running, and its
 * task goes the way of any failure.
 *
 * What is counted is the node that ran, not the row of the queue that was claimed: a chain carried on in one batch is claimed again at its
 * beginning, and stops before the node that crashed.
 *
 * A count goes when the node succeeds or has failed of it, or when its task ends: the engine sweeps the table when it counts and polls.
 */
#include "postgres.h"

#include <string.h>

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "black_box.h"
#include "crashes.h"
#include "shmem.h"
#include "store.h"

typedef struct NodeId
{
	pg_uuid_t	task;
	int			node;
	int			item;
} NodeId;

/* Of GoyaBatch.crashes. */
typedef struct Crashes
{
	NodeId		id;				/* hash key */
	int			crashes;
	int			signal;			/* of the last one; 0: not known */
	bool		ended;
} Crashes;

static List *counted = NIL;		/* boxes to clear after commit, in TopMemoryContext */

/* ----- the engine ----- */

bool
goya_crashes_found(void)
{
	GoyaEvidence evidence;
	int			from = 0;

	return goya_black_box_next(MyDatabaseId, &from, &evidence);
}

static char *
cause_of(int signal)
{
	if (signal == GOYA_ENDED_BY_EXIT)
		return "It ended itself.";
	if (signal == GOYA_ENDED_BY_FORCE)
		return "It went on after its time was over or its task cancelled, until goya ended its process.";
	if (signal == 0)
		return "It was killed, as the kernel does when memory runs out.";
	return psprintf("Signal %d: %s.", signal, strsignal(signal));
}

static void
count_one(const GoyaEvidence *e)
{
	Datum		args[4];

	args[0] = UUIDPGetDatum(&e->what.task);
	args[1] = Int32GetDatum(e->what.node);
	args[2] = Int32GetDatum(e->what.item);
	args[3] = Int32GetDatum(e->signal);
	goya_store_run(GOYA_STMT_COUNT_CRASH, args, NULL);
	if (SPI_processed > 0)
		ereport(LOG,
				(errmsg("goya process %d ended while it ran node %d of task %s: time %d of %d", (int) e->pid, e->what.node,
						goya_uuid_text(&e->what.task), goya_result_int4(0, 1), GOYA_MAX_CRASHES),
				 errdetail_internal("%s", cause_of(e->signal))));
}

/*
 * Count what the boxes of this database say, sweep the counts of ended tasks, and tell batches whether there are any left.
 */
void
goya_crashes_count(void)
{
	GoyaStoreScope scope;
	GoyaEvidence e;
	int			from = 0;

	list_free(counted);
	counted = NIL;
	goya_store_enter(&scope);
	while (goya_black_box_next(MyDatabaseId, &from, &e))
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		counted = lappend_int(counted, e.box);
		MemoryContextSwitchTo(old);
		count_one(&e);
	}
	goya_store_run(GOYA_STMT_SWEEP_CRASHES, NULL, NULL);
	goya_store_run(GOYA_STMT_ANY_CRASHES, NULL, NULL);
	/* Before the commit: a batch looks for nothing at worst; the other way round it would not look. */
	pg_atomic_write_u32(&goya_my_engine->suspects, goya_result_int4(0, 1));
	goya_store_leave(&scope);
}

void
goya_crashes_counted(void)
{
	ListCell   *lc;

	foreach(lc, counted)
		goya_black_box_clear(lfirst_int(lc));
	list_free(counted);
	counted = NIL;
}

/* ----- a batch ----- */

static bool
any_suspects(void)
{
	static GoyaEngineSlot *slot = NULL;

	if (slot == NULL)
		slot = goya_shmem_engine(MyDatabaseId, false);
	return slot != NULL && pg_atomic_read_u32(&slot->suspects) > 0;
}

static void
load_crashes(GoyaBatch *b)
{
	GoyaStoreScope scope;

	b->crashes = goya_batch_hash(b, "goya batch crashes", sizeof(NodeId), sizeof(Crashes));
	goya_store_enter(&scope);
	goya_store_run(GOYA_STMT_LOAD_CRASHES, NULL, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		NodeId		id;
		Crashes    *c;

		memset(&id, 0, sizeof(id));
		id.task = goya_result_uuid(i, 1);
		id.node = goya_result_int4(i, 2);
		id.item = goya_result_int4(i, 3);
		c = hash_search(b->crashes, &id, HASH_ENTER, NULL);
		c->crashes = goya_result_int4(i, 4);
		c->signal = goya_result_int4(i, 5);
		c->ended = false;
	}
	goya_store_leave(&scope);
}

static Crashes *
find(GoyaBatch *b, const GoyaWork *w)
{
	NodeId		id;

	if (b->crashes == NULL)
	{
		if (b->looked_for_crashes)
			return NULL;
		b->looked_for_crashes = true;
		if (!any_suspects())
			return NULL;
		load_crashes(b);
	}
	memset(&id, 0, sizeof(id));
	id.task = w->task->id;
	id.node = w->node;
	id.item = w->item;
	return hash_search(b->crashes, &id, HASH_FIND, NULL);
}

int
goya_crashes_of(GoyaBatch *b, const GoyaWork *w)
{
	Crashes    *c = find(b, w);

	return c == NULL ? 0 : c->crashes;
}

bool
goya_crashes_enough(GoyaBatch *b, const GoyaWork *w)
{
	Crashes    *c = find(b, w);

	return c != NULL && (c->crashes >= GOYA_MAX_CRASHES || c->signal == GOYA_ENDED_BY_FORCE);
}

void
goya_crashes_fail(GoyaBatch *b, const GoyaWork *w)
{
	Crashes    *c = find(b, w);
	GoyaOutcome o = {.ok = false,.retry_after_ms = -1,.error_class = GOYA_ERR_CRASH};
	const char *message = psprintf("the node ended its process %d times and is not run again", c->crashes);
	const char *hint = "The server log says more. Mend what it calls, then use goya.retry.";

	if (c->signal == GOYA_ENDED_BY_FORCE)
	{
		message = "the node did not end when it was told to, and is not run again";
		hint = "A function that catches query_canceled must end soon. Mend it, then use goya.retry.";
	}
	o.error = goya_error_make(unpack_sql_state(ERRCODE_CRASH_SHUTDOWN), GOYA_ERR_CRASH, message, cause_of(c->signal), hint);
	c->ended = true;
	goya_advance_finish(b, w, &o, NULL, b->now, false);
}

void
goya_crashes_ended(GoyaBatch *b, const GoyaWork *w)
{
	Crashes    *c = find(b, w);

	if (c != NULL)
		c->ended = true;
}

/*
 * Forget the counts of nodes that ended in this batch.  Between goya_store_enter and leave.
 */
void
goya_crashes_write(GoyaBatch *b)
{
	static const Oid columns[] = {UUIDOID, INT4OID, INT4OID};
	GoyaRows   *rows = goya_rows_create(3, columns);
	HASH_SEQ_STATUS seq;
	Crashes    *c;

	hash_seq_init(&seq, b->crashes);
	while ((c = hash_seq_search(&seq)) != NULL)
	{
		if (!c->ended)
			continue;
		goya_rows_add(rows);
		goya_rows_uuid(rows, 0, &c->id.task);
		goya_rows_int4(rows, 1, c->id.node);
		goya_rows_int4(rows, 2, c->id.item);
	}
	if (rows->n > 0)
		goya_rows_run(GOYA_STMT_FORGET_CRASHES, rows);
}
