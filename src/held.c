/*-------------------------------------------------------------------------
 * held.c
 *		Rows that clients keep locked: a task's, by goya.pause in a transaction that stays open, or a wallet, by goya.run.
 *
 * Whoever may change a task may lock its row for as long as it likes.  So a worker waits for any lock of goya's own no longer than
 * goya.lock_wait, and for tasks it need not fail to find out: a lock that is not free is waited for in a subtransaction.
 *
 *		a batch that locks first (wake-ups, the engine)		leaves out the tasks that are held
 *		a batch that locks last (executors)					is rolled back, and tried again without them
 *		neither knows who it was (any other row)			tries with more care, then the one that is alone is left out
 *
 * What is left out is put aside: its row of the queue goes to the timers and comes back in the lane of wake-ups, where the lock is tried before
 * anything runs (queue.c); a result of the engine waits in memory (calls.c).  Nothing fails for it, nobody is convicted.
 *
 * Suspects are this process's memory of rows found locked.  They are tried, without waiting, before work on them is begun, ten times a second at
 * most, so a row that stays locked costs its wait once for each process.  Work that was put aside runs alone afterwards: who locks and
 * unlocks in turn keeps up itself only.
 *
 * Memory: the suspects are in "goya held", at most MOST_SUSPECTS of them, forgotten when free or after a minute.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "hash.h"
#include "storage/proc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

#include "goya.h"
#include "guc.h"
#include "held.h"
#include "store.h"

#define MOST_SUSPECTS	2000
#define REFRESH_MS		100
#define FORGET_MS		60000
#define FIRST_PAUSE_MS	250
#define MOST_DOUBLINGS	5		/* 8 s */

typedef struct Suspect
{
	pg_uuid_t	id;				/* hash key: a task, or the tenant of a wallet */
	bool		wallet;
	bool		free;
	TimestampTz since;
} Suspect;

static HTAB *suspects = NULL;
static TimestampTz refreshed = 0;
static bool found = false;		/* by this transaction: somebody new */

static bool limited = false;
static int	session_timeout = 0;	/* while limited */

static bool wanted = false;		/* a wallet is being locked, */
static pg_uuid_t wanted_tenant; /* this tenant's */

/* ----- how long ----- */

/* What the database or the role has as lock_timeout counts when it is less. */
static int
at_most(int ms)
{
	return session_timeout > 0 ? Min(session_timeout, ms) : ms;
}

void
goya_held_limit(void)
{
	if (!limited)
		session_timeout = LockTimeout;
	limited = true;
	LockTimeout = at_most(goya_guc_lock_wait);
}

void
goya_held_lift(void)
{
	if (limited)
		LockTimeout = session_timeout;
	limited = wanted = false;
}

void
goya_held_hurry(void)
{
	if (limited)
		LockTimeout = at_most(Max(goya_guc_lock_wait / 5, 1));
}

bool
goya_held_is_ours(int sqlerrcode)
{
	return limited && sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
}

long
goya_held_pause(int times)
{
	return FIRST_PAUSE_MS << Min(times, MOST_DOUBLINGS);
}

/*
 * Lock a row, waiting for ms at most.  The wait is a subtransaction, so that its end by lock_timeout leaves nothing behind.
 */
GoyaLockResult
goya_held_lock(GoyaTable *t, ItemPointer tid, long ms)
{
	GoyaLockResult result = goya_table_try_lock(t, tid);
	MemoryContext cxt = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	int			timeout = LockTimeout;
	volatile GoyaLockResult waited = GOYA_LOCK_HELD;

	if (result != GOYA_LOCK_HELD || ms <= 0)
		return result;
	ExecClearTuple(t->found);	/* its page belongs to the transaction */
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(cxt);
	PG_TRY();
	{
		LockTimeout = at_most((int) ms);
		waited = goya_table_lock(t, tid);
		if (waited == GOYA_LOCK_DONE)
			ExecMaterializeSlot(t->found);	/* the page belongs to the subtransaction */
		else
			ExecClearTuple(t->found);
		LockTimeout = timeout;
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		LockTimeout = timeout;
		if (geterrcode() != ERRCODE_LOCK_NOT_AVAILABLE)
			PG_RE_THROW();
		MemoryContextSwitchTo(cxt);
		FlushErrorState();
		ExecClearTuple(t->found);
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(cxt);
	CurrentResourceOwner = owner;
	if (waited == GOYA_LOCK_DONE)
		slot_getallattrs(t->found);
	return waited;
}

/* ----- suspects ----- */

static void
note(const pg_uuid_t *id, bool wallet)
{
	bool		known;
	Suspect    *s;

	if (suspects == NULL)
		suspects = goya_hash_create("goya held", 64, sizeof(pg_uuid_t), sizeof(Suspect),
											AllocSetContextCreate(TopMemoryContext, "goya held", ALLOCSET_SMALL_SIZES));
	if (hash_get_num_entries(suspects) >= MOST_SUSPECTS)
		return;
	s = hash_search(suspects, id, HASH_ENTER, &known);
	if (known)
		return;
	s->wallet = wallet;
	s->free = false;
	s->since = refreshed = GetCurrentTimestamp();
	found = true;
}

void
goya_held_note_task(const pg_uuid_t *task)
{
	note(task, false);
}

void
goya_held_want_wallet(const pg_uuid_t *tenant)
{
	wanted = tenant != NULL && limited;
	if (wanted)
		wanted_tenant = *tenant;
}

bool
goya_held_found(void)
{
	bool		result;

	if (wanted)
		note(&wanted_tenant, true);
	result = found;
	wanted = found = false;
	return result;
}

bool
goya_held_suspects_any(void)
{
	return suspects != NULL && hash_get_num_entries(suspects) > 0;
}

bool
goya_held_suspect(const pg_uuid_t *id)
{
	return goya_held_suspects_any() && hash_search(suspects, id, HASH_FIND, NULL) != NULL;
}

/* Which of the suspects' rows can be locked now? */
static void
try_rows(bool wallets)
{
	GoyaTable  *t = goya_table_open(wallets ? GOYA_TABLE_WALLETS : GOYA_TABLE_TASKS);
	HASH_SEQ_STATUS seq;
	Suspect    *s;

	hash_seq_init(&seq, suspects);
	while ((s = hash_seq_search(&seq)) != NULL)
	{
		ItemPointerData tid;

		if (s->wallet != wallets)
			continue;
		s->free = true;
		if (!goya_table_seek(t, UUIDPGetDatum(&s->id)))
			continue;
		tid = t->found->tts_tid;
		s->free = goya_table_try_lock(t, &tid) != GOYA_LOCK_HELD;
	}
	goya_table_close(t);
}

static void
forget_free(TimestampTz now)
{
	HASH_SEQ_STATUS seq;
	Suspect    *s;

	hash_seq_init(&seq, suspects);
	while ((s = hash_seq_search(&seq)) != NULL)
		if (s->free || TimestampDifferenceExceeds(s->since, now, FORGET_MS))
			(void) hash_search(suspects, &s->id, HASH_REMOVE, NULL);
}

/*
 * In a subtransaction that is rolled back: the locks are not kept.
 */
void
goya_held_refresh(void)
{
	TimestampTz now;
	MemoryContext cxt = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	if (!goya_held_suspects_any())
		return;
	now = GetCurrentTimestamp();
	if (!TimestampDifferenceExceeds(refreshed, now, REFRESH_MS))
		return;
	refreshed = now;
	BeginInternalSubTransaction(NULL);
	{
		GoyaStoreScope scope;

		MemoryContextSwitchTo(cxt);
		goya_store_enter(&scope);
		PushActiveSnapshot(GetLatestSnapshot());
		try_rows(false);
		try_rows(true);
		PopActiveSnapshot();
		goya_store_leave(&scope);
	}
	RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(cxt);
	CurrentResourceOwner = owner;
	forget_free(now);
}
