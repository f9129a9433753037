/*-------------------------------------------------------------------------
 * stream.c
 *		What outside calls say while they run, as rows that sessions can read (goya.read_stream).
 *
 * A call adds text as it comes; the engine writes what all calls have said since in one transaction, ten times a second at most, one row for each
 * stream, with a NOTIFY of its ids.  Sessions in read_stream are woken through shared memory.
 *
 * What was decided.  The rows are a convenience for people who watch: the node's output is the truth, so the table is unlogged and a
 * crash empties it.  Of a stream the last KEEP_BYTES are kept; a reader that is further behind sees that in the positions.  A minute after
 * its end a stream is deleted; what an earlier engine left, a minute after this one's start.
 *
 * What must hold.  Adding never writes and never fails but for memory.  What was handed to a transaction that failed is written by the next.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "lib/ilist.h"
#include "lib/stringinfo.h"
#include "utils/memutils.h"

#include "goya.h"
#include "shmem.h"
#include "store.h"
#include "stream.h"

#define EVERY_MS	100
#define AFTER_ERROR_MS 1000
#define RETAIN_MS	60000
#define KEEP_BYTES	(256 * 1024)
#define TRIM_BYTES	(KEEP_BYTES / 4)
#define ALL_BYTES	PG_INT64_MAX
#define FLAG_STARTS	1
#define FLAG_ENDS	2
#define FLAG_SEALED	4			/* not in the table: how it is to be written */

struct GoyaStream
{
	dlist_node	node;			/* of streams */
	MemoryContextCallback on_reset;
	MemoryContext cxt;
	pg_uuid_t	task;
	char	   *key;
	pg_uuid_t	tenant;
	bool		sealed;			/* its text is not to be in a table as it is */
	int			item;
	int			attempt;
	StringInfoData pending;		/* not written */
	int64		position;		/* where pending begins */
	int64		trimmed;		/* rows before this are deleted */
	bool		starts;			/* not written yet that it begins */
	bool		any;			/* something of it was written, or will be */
	bool		open;
	bool		end_written;
	TimestampTz ended_at;

	/* of the transaction that is being written */
	int			w_len;
	bool		w_starts;
	bool		w_ends;
	bool		w_row;
};

static MemoryContext streams_cxt;
static dlist_head streams = DLIST_STATIC_INIT(streams);
static TimestampTz write_at = DT_NOEND;	/* something is pending */
static TimestampTz sweep_at = 0;	/* 0: not known yet, DT_NOEND: nothing */
static TimestampTz started_at;
static TimestampTz last_written;
static bool swept_old;

static void
want_write(void)
{
	if (write_at == DT_NOEND)
		write_at = Max(GetCurrentTimestamp(), TimestampTzPlusMilliseconds(last_written, EVERY_MS));
}

/* Reset callback of the call's context. */
static void
end_stream(void *arg)
{
	GoyaStream *s = arg;

	s->open = false;
	s->ended_at = GetCurrentTimestamp();
	want_write();
}

GoyaStream *
goya_stream_open(MemoryContext cxt, const pg_uuid_t *task, const char *node, int item, int attempt)
{
	MemoryContext own;
	MemoryContext old;
	GoyaStream *s;

	if (streams_cxt == NULL)
		streams_cxt = AllocSetContextCreate(TopMemoryContext, "goya streams", ALLOCSET_SMALL_SIZES);
	own = AllocSetContextCreate(streams_cxt, "goya stream", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(own);
	s = palloc0(sizeof(GoyaStream));
	s->cxt = own;
	s->task = *task;
	s->key = pstrdup(node);
	s->item = item;
	s->attempt = attempt;
	initStringInfo(&s->pending);
	s->starts = true;
	s->open = true;
	MemoryContextSwitchTo(old);
	s->on_reset.func = end_stream;
	s->on_reset.arg = s;
	MemoryContextRegisterResetCallback(cxt, &s->on_reset);
	dlist_push_tail(&streams, &s->node);
	return s;
}

void
goya_stream_seal(GoyaStream *s, const pg_uuid_t *tenant)
{
	s->tenant = *tenant;
	s->sealed = true;
}

void
goya_stream_add(GoyaStream *s, const char *text, int len)
{
	if (text == NULL)
	{
		if (!s->any)
			return;				/* nobody has seen anything */
		resetStringInfo(&s->pending);
		s->position = s->trimmed = 0;
		s->starts = true;
	}
	else if (len == 0)
		return;
	else
		appendBinaryStringInfo(&s->pending, text, len);
	s->any = true;
	want_write();
}

/* ----- writing ----- */

TimestampTz
goya_stream_next(void)
{
	if (sweep_at == 0)
	{
		started_at = GetCurrentTimestamp();
		sweep_at = TimestampTzPlusMilliseconds(started_at, RETAIN_MS);
	}
	return Min(write_at, sweep_at);
}

static const Oid key_columns[] = {UUIDOID, TEXTOID, INT4OID, INT8OID};
static const Oid row_columns[] = {UUIDOID, TEXTOID, INT4OID, INT2OID, INT8OID, INT2OID, TEXTOID, UUIDOID};

static void
add_key(GoyaRows *rows, const GoyaStream *s, int64 number)
{
	goya_rows_add(rows);
	goya_rows_uuid(rows, 0, &s->task);
	goya_rows_text(rows, 1, s->key);
	goya_rows_int4(rows, 2, s->item);
	goya_rows_int8(rows, 3, number);
}

/* What is to be written of one stream, and which of its rows are too many then. */
static void
add_row(GoyaRows *rows, GoyaRows *old, GoyaStream *s)
{
	int64		end = s->position + s->pending.len;

	s->w_len = s->pending.len;
	s->w_starts = s->starts;
	s->w_ends = !s->open && !s->end_written && s->any;
	s->w_row = s->any && (s->w_len > 0 || s->w_starts || s->w_ends);
	if (!s->w_row)
		return;
	goya_rows_add(rows);
	goya_rows_uuid(rows, 0, &s->task);
	goya_rows_text(rows, 1, s->key);
	goya_rows_int4(rows, 2, s->item);
	goya_rows_int2(rows, 3, s->attempt);
	goya_rows_int8(rows, 4, s->position);
	goya_rows_int2(rows, 5, (s->w_starts ? FLAG_STARTS : 0) | (s->w_ends ? FLAG_ENDS : 0) | (s->sealed ? FLAG_SEALED : 0));
	goya_rows_text(rows, 6, s->pending.data);
	goya_rows_uuid(rows, 7, &s->tenant);
	if (s->w_starts)
		add_key(old, s, ALL_BYTES);
	else if (end - KEEP_BYTES - s->trimmed >= TRIM_BYTES)
		add_key(old, s, end - KEEP_BYTES);
	goya_announce_at_commit(&s->task);
}

static void
write_rows(void)
{
	GoyaRows   *rows = goya_rows_create(lengthof(row_columns), row_columns);
	GoyaRows   *old = goya_rows_create(lengthof(key_columns), key_columns);
	dlist_iter	i;

	dlist_foreach(i, &streams)
		add_row(rows, old, dlist_container(GoyaStream, node, i.cur));
	if (old->n > 0)
		goya_rows_run(GOYA_STMT_TRIM_STREAMS, old);
	if (rows->n > 0)
		goya_rows_run(GOYA_STMT_WRITE_STREAMS, rows);
}

/* Streams that ended a minute ago; those of earlier engines. */
static void
sweep_rows(TimestampTz now)
{
	GoyaRows   *over = goya_rows_create(lengthof(key_columns), key_columns);
	dlist_iter	i;

	if (!swept_old)
	{
		Datum		args[1];

		args[0] = TimestampTzGetDatum(started_at);
		goya_store_run(GOYA_STMT_SWEEP_STREAMS, args, NULL);
	}
	dlist_foreach(i, &streams)
	{
		GoyaStream *s = dlist_container(GoyaStream, node, i.cur);

		if (!s->open && s->end_written && s->ended_at <= now - RETAIN_MS * INT64CONST(1000))
			add_key(over, s, s->attempt);
	}
	if (over->n > 0)
		goya_rows_run(GOYA_STMT_END_STREAMS, over);
}

void
goya_stream_write(void)
{
	TimestampTz now = GetCurrentTimestamp();
	GoyaStoreScope scope;

	last_written = now;
	if (write_at <= now)
		write_at = TimestampTzPlusMilliseconds(now, AFTER_ERROR_MS);
	if (sweep_at <= now)
		sweep_at = TimestampTzPlusMilliseconds(now, AFTER_ERROR_MS);
	goya_store_enter(&scope);
	write_rows();
	sweep_rows(now);
	goya_store_leave(&scope);
}

/* What was written is no longer pending.  Nothing was added since: the engine is one thread. */
void
goya_stream_written(void)
{
	TimestampTz over = last_written - RETAIN_MS * INT64CONST(1000);
	dlist_mutable_iter i;

	write_at = sweep_at = DT_NOEND;
	swept_old = started_at <= over;
	if (!swept_old)
		sweep_at = TimestampTzPlusMilliseconds(started_at, RETAIN_MS);
	dlist_foreach_modify(i, &streams)
	{
		GoyaStream *s = dlist_container(GoyaStream, node, i.cur);

		if (s->w_row)
		{
			if (s->position + s->w_len - KEEP_BYTES - s->trimmed >= TRIM_BYTES)
				s->trimmed = s->position + s->w_len - KEEP_BYTES;
			s->position += s->w_len;
			resetStringInfo(&s->pending);
			s->starts = false;
			s->end_written = s->w_ends;
		}
		if (!s->open && (!s->any || (s->end_written && s->ended_at <= over)))
		{
			dlist_delete(&s->node);
			MemoryContextDelete(s->cxt);
		}
		else if (!s->open)
			sweep_at = Min(sweep_at, TimestampTzPlusMilliseconds(s->ended_at, RETAIN_MS));
	}
}
