/*-------------------------------------------------------------------------
 * shmem.c
 *		Shared memory and wake-ups.  See shmem.h for what lives here and src/README.md for the lock table.
 *
 * Locking: goya_shared->lock (one LWLock) protects which slots are used and by whom.  What an executor runs now is under its slot's
 * spinlock.  Counters and the fair queue's clocks are atomics.  Order: LWLock, then spinlock; never the other way round.
 *
 * Wake-ups: a transaction that makes work sets bits; the one transaction callback of the backend acts on them after commit, so that
 * who is woken sees the rows.  A wake-up can be lost only with the process that owed it (a crash restarts everything and everybody
 * looks at the tables) or in a prepared transaction (the engine's poll finds it).
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "common/hashfn.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

#include "crash_point.h"
#include "black_box.h"
#include "goya.h"
#include "guc.h"
#include "shmem.h"

GoyaShared *goya_shared = NULL;
GoyaExecutorSlot *goya_my_executor = NULL;
GoyaEngineSlot *goya_my_engine = NULL;
void		(*goya_interrupt_transfers_hook) (const pg_uuid_t *task) = NULL;
Jsonb	   *(*goya_transfers_used_hook) (const pg_uuid_t *task) = NULL;

static shmem_startup_hook_type previous_startup_hook = NULL;
static shmem_request_hook_type previous_request_hook = NULL;

/* What this transaction owes at commit. */
static uint32 pending_wake = 0;
static bool pending_everybody = false;	/* the extension is dropped */
static bool sleep_prepared = false;	/* on a list of goya_shared->waiters */
static List *pending_announcements = NIL;	/* pg_uuid_t*, in TopTransactionContext */

static Size
shared_size(void)
{
	return add_size(offsetof(GoyaShared, engines), mul_size(goya_guc_max_databases, sizeof(GoyaEngineSlot)));
}

static void
request_shared_memory(void)
{
	if (previous_request_hook)
		previous_request_hook();
	RequestAddinShmemSpace(shared_size());
	RequestNamedLWLockTranche("goya", 1);
}

static void
startup_shared_memory(void)
{
	bool		found;

	if (previous_startup_hook)
		previous_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	goya_shared = ShmemInitStruct("goya", shared_size(), &found);
	if (!found)
	{
		goya_black_box_restart();
		memset(goya_shared, 0, shared_size());
		goya_shared->lock = &GetNamedLWLockTranche("goya")->lock;
		goya_shared->n_engines = goya_guc_max_databases;
		pg_atomic_init_u32(&goya_shared->n_waiters, 0);
		for (int i = 0; i < GOYA_WAITER_SLOTS; i++)
			ConditionVariableInit(&goya_shared->waiters[i]);
		for (int i = 0; i < GOYA_TENANT_SLOTS; i++)
			pg_atomic_init_u64(&goya_shared->tenant_last[i], 0);
		for (int i = 0; i < GOYA_FUNCTION_SLOTS; i++)
		{
			pg_atomic_init_u64(&goya_shared->functions[i].key, 0);
			pg_atomic_init_u32(&goya_shared->functions[i].usec, 0);
			pg_atomic_init_u32(&goya_shared->functions[i].locks_wallets, 0);
		}
		for (int i = 0; i < GOYA_MAX_EXECUTOR_SLOTS; i++)
		{
			SpinLockInit(&goya_shared->executors[i].mutex);
			pg_atomic_init_u32(&goya_shared->executors[i].idle, 0);
			pg_atomic_init_u64(&goya_shared->executors[i].claimed, 0);
		}
		for (int i = 0; i < goya_shared->n_engines; i++)
		{
			GoyaEngineSlot *slot = &goya_shared->engines[i];

			SpinLockInit(&slot->mutex);
			pg_atomic_init_u32(&slot->wanted, GOYA_WAKE_ALL);
			pg_atomic_init_u64(&slot->queue_head, 0);
			pg_atomic_init_u64(&slot->batches, 0);
			pg_atomic_init_u64(&slot->node_runs, 0);
			pg_atomic_init_u32(&slot->transfers, 0);
			pg_atomic_init_u32(&slot->alone, 0);
			pg_atomic_init_u64(&slot->late, 0);
			pg_atomic_init_u32(&slot->headroom, 0);
			pg_atomic_init_u32(&slot->clocks_known, 0);
			pg_atomic_init_u32(&slot->suspects, 0);
			pg_atomic_init_u32(&slot->arrivals, 0);
		}
	}
	LWLockRelease(AddinShmemInitLock);
}

void
goya_shmem_init(void)
{
	goya_black_box_create();
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = request_shared_memory;
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_shared_memory;
}

/* ----- engines ----- */

GoyaEngineSlot *
goya_shmem_engine(Oid dboid, bool create)
{
	GoyaEngineSlot *result = NULL;
	GoyaEngineSlot *unused = NULL;

	if (goya_shared == NULL)
		return NULL;
	LWLockAcquire(goya_shared->lock, create ? LW_EXCLUSIVE : LW_SHARED);
	for (int i = 0; i < goya_shared->n_engines; i++)
	{
		GoyaEngineSlot *slot = &goya_shared->engines[i];

		if (slot->state != GOYA_ENGINE_FREE && slot->dboid == dboid)
		{
			result = slot;
			break;
		}
		if (slot->state == GOYA_ENGINE_FREE && unused == NULL)
			unused = slot;
	}
	if (result == NULL && create && unused != NULL)
	{
		result = unused;
		result->dboid = dboid;
		result->state = GOYA_ENGINE_WANTED;
		result->pid = 0;
		result->latch = NULL;
		result->failures = 0;
		result->not_before = 0;
		result->keep_off = 0;
		result->detail[0] = '\0';
		pg_atomic_write_u32(&result->wanted, GOYA_WAKE_ALL);
		pg_atomic_write_u64(&result->queue_head, 0);
		pg_atomic_write_u32(&result->alone, 0);
		pg_atomic_write_u64(&result->late, 0);
		pg_atomic_write_u32(&result->clocks_known, 0);
		pg_atomic_write_u32(&result->suspects, 0);
	}
	LWLockRelease(goya_shared->lock);
	return result;
}

void
goya_shmem_engine_detail(GoyaEngineSlot *slot, const char *detail)
{
	SpinLockAcquire(&slot->mutex);
	strlcpy(slot->detail, detail, sizeof(slot->detail));
	SpinLockRelease(&slot->mutex);
}

/* ----- wake-ups ----- */

void
goya_wake_launcher(void)
{
	if (goya_shared == NULL)
		return;
	LWLockAcquire(goya_shared->lock, LW_SHARED);
	if (goya_shared->launcher_latch)
		SetLatch(goya_shared->launcher_latch);
	LWLockRelease(goya_shared->lock);
}

/* Under the lock.  False: no executor of the database is idle. */
static bool
wake_idle(Oid dboid)
{
	for (int i = 0; i < GOYA_MAX_EXECUTOR_SLOTS; i++)
	{
		GoyaExecutorSlot *e = &goya_shared->executors[i];

		if (e->pid != 0 && e->dboid == dboid && e->latch != NULL && pg_atomic_exchange_u32(&e->idle, 0) == 1)
		{
			SetLatch(e->latch);
			return true;
		}
	}
	return false;
}

/*
 * Wake an idle executor for executors' work; the engine for its own, and when no executor is idle.  For rows of lane 0 nobody, when all places
 * there are taken: who has one looks again (latecomers.c).
 */
void
goya_wake_now(Oid dboid, uint32 bits)
{
	GoyaEngineSlot *slot;

	if (goya_shared == NULL || bits == 0)
		return;
	slot = goya_shmem_engine(dboid, false);
	LWLockAcquire(goya_shared->lock, LW_SHARED);
	if ((bits & GOYA_WAKE_BATCHES) && !goya_late_places_taken(dboid))
		bits |= GOYA_WAKE_EXECUTORS;
	bits &= ~GOYA_WAKE_BATCHES;
	if ((bits & GOYA_WAKE_LATE) && wake_idle(dboid))
		bits &= ~GOYA_WAKE_LATE;
	if ((bits & GOYA_WAKE_EXECUTORS) && wake_idle(dboid))
		bits &= ~GOYA_WAKE_EXECUTORS;
	if (slot != NULL && bits != 0)
	{
		/* Who set these bits first has woken it, and it has not looked since. */
		bool		known = (pg_atomic_fetch_or_u32(&slot->wanted, bits) & bits) == bits;

		if (slot->latch != NULL && !known)
			SetLatch(slot->latch);
	}
	if ((slot == NULL || slot->pid == 0) && goya_shared->launcher_latch != NULL)
		SetLatch(goya_shared->launcher_latch);	/* no engine: the launcher looks why */
	LWLockRelease(goya_shared->lock);
}

void
goya_wake_at_commit(uint32 bits)
{
	pending_wake |= bits;
}

/* At commit all workers of this database look whether the extension is still there. */
void
goya_wake_everybody_at_commit(void)
{
	pending_everybody = true;
}

static void
wake_everybody(void)
{
	LWLockAcquire(goya_shared->lock, LW_SHARED);
	for (int i = 0; i < GOYA_MAX_EXECUTOR_SLOTS; i++)
	{
		GoyaExecutorSlot *e = &goya_shared->executors[i];

		if (e->pid != 0 && e->dboid == MyDatabaseId && e->latch != NULL)
			SetLatch(e->latch);
	}
	LWLockRelease(goya_shared->lock);
	goya_wake_now(MyDatabaseId, GOYA_WAKE_ALL & ~GOYA_WAKE_EXECUTORS);
}

static ConditionVariable *
waiter_slot(const pg_uuid_t *task)
{
	return &goya_shared->waiters[hash_bytes(task->data, UUID_LEN) % GOYA_WAITER_SLOTS];
}

void
goya_announce_at_commit(const pg_uuid_t *task)
{
	MemoryContext old;
	pg_uuid_t  *copy;

	if (goya_shared == NULL)
		return;
	old = MemoryContextSwitchTo(TopTransactionContext);
	copy = palloc(sizeof(pg_uuid_t));
	*copy = *task;
	pending_announcements = lappend(pending_announcements, copy);
	MemoryContextSwitchTo(old);
}

/*
 * Wait until the task is announced, or another one with the same hash: the caller looks at the table anyway.  The first call of a
 * transaction returns at once and leaves this session on the list of those who are told: so what is announced between the caller's look
 * and its next call ends that one, and nothing is missed.
 */
bool
goya_wait_announcement(const pg_uuid_t *task, long timeout_ms)
{
	ConditionVariable *cv = waiter_slot(task);
	bool		timed_out;

	sleep_prepared = true;
	timed_out = ConditionVariableTimedSleep(cv, timeout_ms, PG_WAIT_EXTENSION);
	return !timed_out;
}

/* Crash points around the commit of what others are told of. */
#define CRASH_POINT_OF_PROCESS(edge) \
	do { \
		if (pending_wake == 0 && pending_announcements == NIL) \
			break; \
		if (goya_my_engine != NULL) \
			GOYA_CRASH_POINT(ENGINE_##edge); \
		else if (goya_my_executor != NULL) \
			GOYA_CRASH_POINT(EXECUTOR_##edge); \
		else \
			GOYA_CRASH_POINT(SESSION_##edge); \
	} while (0)

static void
at_transaction_end(XactEvent event, void *arg)
{
	if (sleep_prepared && (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE))
	{
		sleep_prepared = false;
		ConditionVariableCancelSleep();
	}
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			CRASH_POINT_OF_PROCESS(BEFORE_COMMIT);
			break;
		case XACT_EVENT_COMMIT:
			CRASH_POINT_OF_PROCESS(COMMITTED);
			goya_floor_transaction_ended(true);
			if (goya_shared != NULL)
			{
				ListCell   *lc;

				foreach(lc, pending_announcements)
					ConditionVariableBroadcast(waiter_slot(lfirst(lc)));
				if (pending_wake != 0 && goya_guc_wake_by_latch)
					goya_wake_now(MyDatabaseId, pending_wake);
				if (pending_everybody)
					wake_everybody();
			}
			CRASH_POINT_OF_PROCESS(WOKEN);
			/* FALLTHROUGH */
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			goya_floor_transaction_ended(false);
			pending_wake = 0;
			pending_everybody = false;
			pending_announcements = NIL;
			break;
		default:
			break;
	}
}

void
goya_shmem_register_callbacks(void)
{
	RegisterXactCallback(at_transaction_end, NULL);
}

/* ----- executors ----- */

static void
detach_executor(int code, Datum arg)
{
	GoyaExecutorSlot *slot = goya_my_executor;

	if (slot == NULL)
		return;
	AbortOutOfAnyTransaction(); /* before anybody is woken for it: what it has claimed is locked until then */
	goya_late_leave();
	LWLockAcquire(goya_shared->lock, LW_EXCLUSIVE);
	slot->pid = 0;
	slot->latch = NULL;
	slot->busy = false;
	pg_atomic_write_u32(&slot->idle, 0);
	LWLockRelease(goya_shared->lock);
	goya_my_executor = NULL;
	goya_wake_now(MyDatabaseId, GOYA_WAKE_ALL | GOYA_WAKE_LATE);	/* what it was woken for, or ran, is somebody else's now */
}

GoyaExecutorSlot *
goya_shmem_executor_attach(void)
{
	LWLockAcquire(goya_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < GOYA_MAX_EXECUTOR_SLOTS && goya_my_executor == NULL; i++)
	{
		GoyaExecutorSlot *slot = &goya_shared->executors[i];

		if (slot->pid == 0)
		{
			slot->pid = MyProcPid;
			slot->dboid = MyDatabaseId;
			slot->latch = MyLatch;
			slot->busy = false;
			slot->interrupted = false;
			slot->batches = slot->node_runs = 0;
			pg_atomic_write_u32(&slot->idle, 0);
			pg_atomic_write_u64(&slot->claimed, 0);
			goya_my_executor = slot;
		}
	}
	LWLockRelease(goya_shared->lock);
	if (goya_my_executor != NULL)
		before_shmem_exit(detach_executor, 0);
	return goya_my_executor;
}

void
goya_executor_show(const pg_uuid_t *task, const char *node, int item)
{
	GoyaExecutorSlot *slot = goya_my_executor;
	TimestampTz now = GetCurrentTimestamp();

	if (slot == NULL)
		return;
	SpinLockAcquire(&slot->mutex);
	slot->busy = true;
	slot->interrupted = false;
	slot->task = *task;
	strlcpy(slot->node, node, GOYA_NODE_NAME_LEN);
	slot->item = item;
	slot->since = now;
	SpinLockRelease(&slot->mutex);
}

void
goya_executor_show_none(void)
{
	GoyaExecutorSlot *slot = goya_my_executor;

	if (slot == NULL)
		return;
	SpinLockAcquire(&slot->mutex);
	slot->busy = false;
	SpinLockRelease(&slot->mutex);
}

bool
goya_executor_was_interrupted(void)
{
	bool		result;

	SpinLockAcquire(&goya_my_executor->mutex);
	result = goya_my_executor->interrupted;
	SpinLockRelease(&goya_my_executor->mutex);
	return result;
}

/*
 * Cancel what runs for a task.  The signal may arrive when the executor has just gone on to another node: that one is run again,
 * because nobody asked for its cancellation (executor.c), so a stray signal costs time and nothing else.
 */
void
goya_shmem_interrupt_task(const pg_uuid_t *task)
{
	if (goya_shared == NULL)
		return;
	GOYA_CRASH_POINT(CANCEL_RUNS);
	if (goya_interrupt_transfers_hook)
		goya_interrupt_transfers_hook(task);
	LWLockAcquire(goya_shared->lock, LW_SHARED);
	for (int i = 0; i < GOYA_MAX_EXECUTOR_SLOTS; i++)
	{
		GoyaExecutorSlot *slot = &goya_shared->executors[i];
		bool		hit;

		if (slot->pid == 0 || slot->dboid != MyDatabaseId)
			continue;
		SpinLockAcquire(&slot->mutex);
		hit = slot->busy && goya_uuid_equal(&slot->task, task);
		if (hit)
			slot->interrupted = true;
		SpinLockRelease(&slot->mutex);
		if (hit)
			kill(slot->pid, SIGINT);
	}
	LWLockRelease(goya_shared->lock);
}

/* ----- SQL ----- */

PG_FUNCTION_INFO_V1(goya_preloaded_sql);
Datum
goya_preloaded_sql(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(goya_shared != NULL);
}

PG_FUNCTION_INFO_V1(goya_wake_sql);
Datum
goya_wake_sql(PG_FUNCTION_ARGS)
{
	goya_wake_at_commit(GOYA_WAKE_ALL);
	goya_floor_forget_at_commit();
	GOYA_CRASH_POINT(CONTROL_WRITTEN);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(goya_announce_sql);
Datum
goya_announce_sql(PG_FUNCTION_ARGS)
{
	goya_announce_at_commit(PG_GETARG_UUID_P(0));
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(goya_wait_announcement_sql);
Datum
goya_wait_announcement_sql(PG_FUNCTION_ARGS)
{
	goya_require_preload();
	PG_RETURN_BOOL(goya_wait_announcement(PG_GETARG_UUID_P(0), Min(Max(PG_GETARG_INT32(1), 0), 60000)));
}

PG_FUNCTION_INFO_V1(goya_interrupt_task_sql);
Datum
goya_interrupt_task_sql(PG_FUNCTION_ARGS)
{
	goya_shmem_interrupt_task(PG_GETARG_UUID_P(0));
	PG_RETURN_VOID();
}

/* goya_private.calls_used(task_id): null but in the engine. */
PG_FUNCTION_INFO_V1(goya_calls_used_sql);
Datum
goya_calls_used_sql(PG_FUNCTION_ARGS)
{
	Jsonb	   *used = goya_transfers_used_hook ? goya_transfers_used_hook(PG_GETARG_UUID_P(0)) : NULL;

	if (used == NULL)
		PG_RETURN_NULL();
	PG_RETURN_JSONB_P(used);
}
