/*-------------------------------------------------------------------------
 * escrow.c
 *		Holds of tasks and the wallets behind them: made when a task starts, captured in one update per batch, settled at its end.
 *
 * Decided: the cost of a task's node runs is summed in memory while a batch runs (GoyaEscrow.due) and written to the hold once, together
 * with its settlement if the task has ended in that batch; a wallet is written once per batch, with one ledger row for each task's
 * capture and one for its release.  Rows are written through table.c.  Making a hold larger is rare and stays in SQL (extend_holds).
 * A transaction that starts thousands of tasks of one wallet remembers where it left the wallet's row: looking for it would go
 * through all its dead versions.
 *
 * What must hold: a task's hold is touched only by who has locked the task, or has just made it, so nobody waits for one.  Wallets are
 * locked last of what is waited for, in the order of their tenants: here, when events become tasks (dispatch.c), and before all that a batch does
 * with several (finish.c).
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "alone.h"
#include "crash_point.h"
#include "goya.h"
#include "held.h"
#include "money.h"
#include "store.h"
#include "table.h"

/* What this transaction sees now: what it wrote itself, and what others have committed. */
static void
push_newest_snapshot(void)
{
	PushActiveSnapshot(GetTransactionSnapshot());
	UpdateActiveSnapshotCommandId();
}

static int
compare_ids(const void *a, const void *b)
{
	return memcmp((*(GoyaEscrow *const *) a)->id.data, (*(GoyaEscrow *const *) b)->id.data, UUID_LEN);
}

static int
compare_tenants(const void *a, const void *b)
{
	int			order = memcmp((*(GoyaEscrow *const *) a)->tenant.data, (*(GoyaEscrow *const *) b)->tenant.data, UUID_LEN);

	return order != 0 ? order : compare_ids(a, b);
}

static Datum
text_datum(const char *s)
{
	return CStringGetTextDatum(s);
}

static Datum
task_reference(const pg_uuid_t *task, const char *suffix)
{
	return text_datum(psprintf("task:%s%s", goya_uuid_text(task), suffix));
}

/* ----- loading ----- */

static void
fill(GoyaTable *t, GoyaEscrow *e)
{
	TupleTableSlot *row = t->found;
	bool		isnull;

	e->row = ExecCopySlotHeapTuple(row);
	e->tenant = *DatumGetUUIDP(goya_row_get(t, row, GOYA_HOLDS_TENANT_ID, NULL));
	e->wallet = *DatumGetUUIDP(goya_row_get(t, row, GOYA_HOLDS_WALLET_ID, NULL));
	text_to_cstring_buffer(DatumGetTextPP(goya_row_get(t, row, GOYA_HOLDS_CURRENCY, NULL)), e->currency, GOYA_CURRENCY_SIZE);
	e->amount = DatumGetInt64(goya_row_get(t, row, GOYA_HOLDS_AMOUNT, NULL));
	e->captured = DatumGetInt64(goya_row_get(t, row, GOYA_HOLDS_CAPTURED, NULL));
	e->generation = DatumGetInt64(goya_row_get(t, row, GOYA_HOLDS_PRICE_GENERATION, &isnull));
	if (isnull)
		e->generation = -1;
	e->open = *VARDATA_ANY(DatumGetTextPP(goya_row_get(t, row, GOYA_HOLDS_STATUS, NULL))) == 'o';
}

void
goya_escrow_load(GoyaEscrow **escrows, int n)
{
	GoyaTable  *t;

	if (n == 0)
		return;
	qsort(escrows, n, sizeof(GoyaEscrow *), compare_ids);
	push_newest_snapshot();
	t = goya_table_open(GOYA_TABLE_HOLDS);
	for (int i = 0; i < n; i++)
	{
		escrows[i]->row = NULL;
		escrows[i]->open = false;
		if (goya_table_seek(t, UUIDPGetDatum(&escrows[i]->id)))
			fill(t, escrows[i]);
	}
	goya_table_close(t);
	PopActiveSnapshot();
}

void
goya_escrow_extend(GoyaEscrow **escrows, int n)
{
	static const Oid columns[] = {UUIDOID, INT8OID};
	GoyaRows   *rows = goya_rows_create(2, columns);

	if (n == 0)
		return;
	goya_alone_wallet();
	for (int i = 0; i < n; i++)
	{
		goya_rows_add(rows);
		goya_rows_uuid(rows, 0, &escrows[i]->id);
		goya_rows_int8(rows, 1, escrows[i]->due);
		escrows[i]->due = 0;
	}
	goya_rows_run(GOYA_STMT_EXTEND_HOLDS, rows);
	GOYA_CRASH_POINT(CAPTURE_EXTENDED);
	goya_escrow_load(escrows, n);
}

/* ----- the ledger ----- */

typedef struct Wallet
{
	ItemPointerData tid;
	HeapTuple	row;
	int64		balance;
	int64		frozen;
	int64		last_seq;
} Wallet;

static void
take_wallet(GoyaTable *t, Wallet *w)
{
	w->row = ExecCopySlotHeapTuple(t->found);
	w->tid = t->found->tts_tid;
	w->balance = DatumGetInt64(goya_row_get(t, t->found, GOYA_WALLETS_BALANCE, NULL));
	w->frozen = DatumGetInt64(goya_row_get(t, t->found, GOYA_WALLETS_FROZEN, NULL));
	w->last_seq = DatumGetInt64(goya_row_get(t, t->found, GOYA_WALLETS_LAST_SEQ, NULL));
}

static bool
lock_wallet(GoyaTable *t, const pg_uuid_t *tenant, Wallet *w)
{
	ItemPointerData tid;

	if (!goya_table_seek(t, UUIDPGetDatum(tenant)))
		return false;
	tid = t->found->tts_tid;
	goya_alone_wallet();
	goya_held_want_wallet(tenant);
	if (goya_table_lock(t, &tid) != GOYA_LOCK_DONE)
		return false;
	goya_held_want_wallet(NULL);
	take_wallet(t, w);
	return true;
}

/* Returns where the row is now. */
static ItemPointerData
write_wallet(GoyaTable *t, Wallet *w)
{
	TupleTableSlot *row = goya_table_change(t, w->row);

	goya_row_set(t, row, GOYA_WALLETS_BALANCE, Int64GetDatum(w->balance));
	goya_row_set(t, row, GOYA_WALLETS_FROZEN, Int64GetDatum(w->frozen));
	goya_row_set(t, row, GOYA_WALLETS_LAST_SEQ, Int64GetDatum(w->last_seq));
	goya_row_set(t, row, GOYA_WALLETS_UPDATED_AT, TimestampTzGetDatum(GetCurrentTimestamp()));
	goya_table_update(t, &w->tid, row);
	return row->tts_tid;
}

/* The wallet is as it is after the entry. */
static void
post(GoyaTable *t, Wallet *w, const GoyaEscrow *e, const char *kind, int64 amount, int64 moved, Datum reference)
{
	TupleTableSlot *row = goya_table_row(t);
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	goya_uuid_new(id);
	goya_row_set(t, row, GOYA_ENTRIES_ID, UUIDPGetDatum(id));
	goya_row_set(t, row, GOYA_ENTRIES_WALLET_ID, UUIDPGetDatum(&e->wallet));
	goya_row_set(t, row, GOYA_ENTRIES_SEQ, Int64GetDatum(++w->last_seq));
	goya_row_set(t, row, GOYA_ENTRIES_TENANT_ID, UUIDPGetDatum(&e->tenant));
	goya_row_set(t, row, GOYA_ENTRIES_KIND, text_datum(kind));
	goya_row_set(t, row, GOYA_ENTRIES_AMOUNT, Int64GetDatum(amount));
	goya_row_set(t, row, GOYA_ENTRIES_MOVED, Int64GetDatum(moved));
	goya_row_set(t, row, GOYA_ENTRIES_BALANCE_AFTER, Int64GetDatum(w->balance));
	goya_row_set(t, row, GOYA_ENTRIES_FROZEN_AFTER, Int64GetDatum(w->frozen));
	goya_row_set(t, row, GOYA_ENTRIES_REFERENCE, reference);
	goya_row_set(t, row, GOYA_ENTRIES_HOLD_ID, UUIDPGetDatum(&e->id));
	goya_row_set(t, row, GOYA_ENTRIES_TASK_ID, UUIDPGetDatum(&e->id));
	goya_row_set(t, row, GOYA_ENTRIES_CREATED_AT, TimestampTzGetDatum(GetCurrentTimestamp()));
	goya_table_append(t);
}

/* ----- captures and settlement ----- */

static void
write_hold(GoyaTable *t, GoyaEscrow *e)
{
	TupleTableSlot *row = goya_table_change(t, e->row);

	goya_row_set(t, row, GOYA_HOLDS_CAPTURED, Int64GetDatum(e->captured));
	if (e->settle)
	{
		goya_row_set(t, row, GOYA_HOLDS_POSTED, Int64GetDatum(e->amount));
		goya_row_set(t, row, GOYA_HOLDS_STATUS, text_datum("settled"));
		goya_row_set(t, row, GOYA_HOLDS_SETTLED_AT, TimestampTzGetDatum(GetCurrentTimestamp()));
		if (e->capture_seq > 0)
			goya_row_set(t, row, GOYA_HOLDS_CAPTURE_SEQ, Int64GetDatum(e->capture_seq));
	}
	goya_table_update(t, &e->row->t_self, row);
	e->row = NULL;
	e->open = !e->settle;
}

static void
settle_one(GoyaTable *entries, Wallet *w, GoyaEscrow *e)
{
	int64		rest = e->amount - e->captured;

	if (e->captured > 0)
	{
		w->frozen -= e->captured;
		post(entries, w, e, "capture", -e->captured, 0, task_reference(&e->id, ":capture"));
		e->capture_seq = w->last_seq;
	}
	if (rest > 0)
	{
		w->frozen -= rest;
		w->balance += rest;
		post(entries, w, e, "release", 0, rest, task_reference(&e->id, ":release"));
	}
}

static void
settle(GoyaEscrow **ended, int n)
{
	GoyaTable  *wallets = goya_table_open(GOYA_TABLE_WALLETS);
	GoyaTable  *entries = goya_table_open(GOYA_TABLE_ENTRIES);
	Wallet		w;

	qsort(ended, n, sizeof(GoyaEscrow *), compare_tenants);
	for (int i = 0; i < n; i++)
	{
		if (i == 0 || !goya_uuid_equal(&ended[i]->wallet, &ended[i - 1]->wallet))
		{
			if (!lock_wallet(wallets, &ended[i]->tenant, &w))
				elog(ERROR, "wallet %s of task %s is gone", goya_uuid_text(&ended[i]->wallet), goya_uuid_text(&ended[i]->id));
			GOYA_CRASH_POINT(SETTLE_LOCKED);
		}
		settle_one(entries, &w, ended[i]);
		if (i == n - 1 || !goya_uuid_equal(&ended[i]->wallet, &ended[i + 1]->wallet))
		{
			(void) write_wallet(wallets, &w);
			GOYA_CRASH_POINT(SETTLE_WALLET);
		}
	}
	goya_table_close(entries);
	GOYA_CRASH_POINT(SETTLE_ENTRIES);
	goya_table_close(wallets);
}

void
goya_escrow_write(GoyaEscrow **escrows, int n)
{
	GoyaEscrow **changed = palloc(sizeof(GoyaEscrow *) * Max(n, 1));
	GoyaEscrow **ended = palloc(sizeof(GoyaEscrow *) * Max(n, 1));
	int			n_changed = 0;
	int			n_ended = 0;
	GoyaTable  *holds;

	for (int i = 0; i < n; i++)
	{
		GoyaEscrow *e = escrows[i];

		if (e->row == NULL || !e->open || (e->due == 0 && !e->settle))
			continue;
		e->captured += e->due;	/* not more than the hold: goya_escrow_extend */
		e->due = 0;
		changed[n_changed++] = e;
		if (e->settle && e->amount > 0)
			ended[n_ended++] = e;
	}
	if (n_changed == 0)
		return;
	push_newest_snapshot();
	if (n_ended > 0)
		settle(ended, n_ended);
	qsort(changed, n_changed, sizeof(GoyaEscrow *), compare_ids);
	holds = goya_table_open(GOYA_TABLE_HOLDS);
	for (int i = 0; i < n_changed; i++)
		write_hold(holds, changed[i]);
	goya_table_close(holds);
	GOYA_CRASH_POINT(SETTLE_HOLDS);
	PopActiveSnapshot();
}

/* ----- the start of a task ----- */

/* Where this transaction has left a wallet that it changed. */
static struct
{
	TransactionId xid;
	pg_uuid_t	tenant;
	ItemPointerData tid;
}			left;

static bool
find_left(GoyaTable *t, const pg_uuid_t *tenant)
{
	if (!TransactionIdIsValid(left.xid) || left.xid != GetTopTransactionIdIfAny() || !goya_uuid_equal(&left.tenant, tenant))
		return false;
	if (t->found == NULL)
		t->found = table_slot_create(t->rel, NULL);
	if (!table_tuple_fetch_row_version(t->rel, &left.tid, GetActiveSnapshot(), t->found))
		return false;			/* a savepoint was rolled back */
	slot_getallattrs(t->found);
	return goya_uuid_equal(DatumGetUUIDP(goya_row_get(t, t->found, GOYA_WALLETS_TENANT_ID, NULL)), tenant);
}

static void
require_wallet(const pg_uuid_t *tenant)
{
	Datum		args[1];

	args[0] = UUIDPGetDatum(tenant);
	goya_store_run(GOYA_STMT_OPEN_WALLET, args, NULL);
}

/* Its row in t->found.  True: this transaction has changed it, so it is locked and this is its newest version. */
static bool
find_wallet(GoyaTable **t, const pg_uuid_t *tenant)
{
	if (find_left(*t, tenant))
		return true;
	if (goya_table_seek(*t, UUIDPGetDatum(tenant)))
		return false;
	goya_table_close(*t);
	require_wallet(tenant);
	PopActiveSnapshot();
	push_newest_snapshot();
	*t = goya_table_open(GOYA_TABLE_WALLETS);
	if (!goya_table_seek(*t, UUIDPGetDatum(tenant)))
		elog(ERROR, "tenant %s has no wallet", goya_uuid_text(tenant));
	return false;
}

static void
put_hold(GoyaTable *t, const GoyaEscrow *e)
{
	TupleTableSlot *row = goya_table_row(t);

	goya_row_set(t, row, GOYA_HOLDS_ID, UUIDPGetDatum(&e->id));
	goya_row_set(t, row, GOYA_HOLDS_WALLET_ID, UUIDPGetDatum(&e->wallet));
	goya_row_set(t, row, GOYA_HOLDS_TENANT_ID, UUIDPGetDatum(&e->tenant));
	goya_row_set(t, row, GOYA_HOLDS_TASK_ID, UUIDPGetDatum(&e->id));
	goya_row_set(t, row, GOYA_HOLDS_REFERENCE, task_reference(&e->id, ""));
	goya_row_set(t, row, GOYA_HOLDS_CURRENCY, text_datum(e->currency));
	goya_row_set(t, row, GOYA_HOLDS_AMOUNT, Int64GetDatum(e->amount));
	goya_row_set(t, row, GOYA_HOLDS_CAPTURED, Int64GetDatum(0));
	goya_row_set(t, row, GOYA_HOLDS_POSTED, Int64GetDatum(0));
	goya_row_set(t, row, GOYA_HOLDS_STATUS, text_datum("open"));
	goya_row_set(t, row, GOYA_HOLDS_PRICE_GENERATION, Int64GetDatum(e->generation));
	goya_row_set(t, row, GOYA_HOLDS_CREATED_AT, TimestampTzGetDatum(GetCurrentTimestamp()));
	goya_table_append(t);
}

static void
pay_holds(GoyaTable *wallets, const GoyaEscrow *holds, int n, bool locked)
{
	int64		amount = holds[0].amount;
	GoyaTable  *entries;
	ItemPointerData tid = wallets->found->tts_tid;
	Wallet		w;

	goya_alone_wallet();
	goya_held_want_wallet(&holds[0].tenant);
	if (!locked && goya_table_lock(wallets, &tid) != GOYA_LOCK_DONE)
		elog(ERROR, "wallet %s is gone", goya_uuid_text(&holds[0].wallet));
	goya_held_want_wallet(NULL);
	take_wallet(wallets, &w);
	if (w.balance / n < amount)
		ereport(ERROR,
				(errcode(GOYA_ERR_NO_MONEY), errmsg("not enough balance"),
				 n == 1 ? errdetail("Needed: " INT64_FORMAT " nano-units; available: " INT64_FORMAT ".", amount, w.balance) :
				 errdetail("Needed: " INT64_FORMAT " nano-units for each of %d tasks; available: " INT64_FORMAT ".", amount, n, w.balance),
				 errhint("Ask an administrator for goya.top_up, or release holds.")));
	entries = goya_table_open(GOYA_TABLE_ENTRIES);
	for (int i = 0; i < n; i++)
	{
		w.balance -= amount;
		w.frozen += amount;
		post(entries, &w, &holds[i], "hold", 0, amount, task_reference(&holds[i].id, ""));
	}
	goya_table_close(entries);
	left.tid = write_wallet(wallets, &w);
	left.tenant = holds[0].tenant;
	left.xid = GetTopTransactionId();
	GOYA_CRASH_POINT(HOLD_WALLET);
}

static GoyaEscrow
new_hold(GoyaTable *wallets, const pg_uuid_t *tenant, const GoyaRevision *revision, int64 limit)
{
	GoyaEscrow	e;

	memset(&e, 0, sizeof(e));
	e.tenant = *tenant;
	e.wallet = *DatumGetUUIDP(goya_row_get(wallets, wallets->found, GOYA_WALLETS_ID, NULL));
	text_to_cstring_buffer(DatumGetTextPP(goya_row_get(wallets, wallets->found, GOYA_WALLETS_CURRENCY, NULL)), e.currency, GOYA_CURRENCY_SIZE);
	e.amount = revision ? goya_price_quote(tenant, e.currency, revision) : limit;
	if (revision && limit >= 0)
		e.amount = Min(e.amount, limit);
	e.generation = goya_prices_generation();
	return e;
}

void
goya_escrow_start(const pg_uuid_t *tenant, const pg_uuid_t *tasks, int n, const GoyaRevision *revision, int64 limit)
{
	GoyaEscrow *holds = palloc(sizeof(GoyaEscrow) * Max(n, 1));
	GoyaTable  *wallets;
	GoyaTable  *t;
	GoyaEscrow	model;
	bool		locked;

	if (n == 0)
		return;
	PreventCommandIfReadOnly("goya.run()");
	push_newest_snapshot();
	wallets = goya_table_open(GOYA_TABLE_WALLETS);
	locked = find_wallet(&wallets, tenant);
	model = new_hold(wallets, tenant, revision, limit);
	t = goya_table_open(GOYA_TABLE_HOLDS);
	for (int i = 0; i < n; i++)
	{
		holds[i] = model;
		holds[i].id = tasks[i];
		put_hold(t, &holds[i]);
	}
	goya_table_close(t);
	GOYA_CRASH_POINT(HOLD_WRITTEN);
	if (model.amount > 0)
		pay_holds(wallets, holds, n, locked);
	goya_table_close(wallets);
	PopActiveSnapshot();
}
