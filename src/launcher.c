/*-------------------------------------------------------------------------
 * launcher.c
 *		The goya launcher: attached to no database, keeps one engine per database that has goya.
 *
 * Which databases those are is written where a process without a database can read it: CREATE EXTENSION grants CONNECT to goya_owner,
 * and the launcher looks for that grant in pg_database.datacl.  It is level-triggered: it compares what should run with what runs when
 * it is woken, when an engine's backoff is over, a while after a change, and now and then; so a lost wake-up, a failed fork or missing
 * worker slots heal themselves, and a cluster where nothing happens is left alone.
 *
 * An engine that ends is started again: at once after an orderly end or a termination, after a backoff that doubles up to a minute when
 * it failed.  An engine that finds no extension, or a restored copy, leaves its slot PAUSED and is tried again every minute, or as soon
 * as somebody wakes it (CREATE EXTENSION and goya.adopt_copy do).
 *
 * Exit codes: 0 would unregister the launcher for ever, so it always leaves with 1.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "crash_point.h"
#include "goya.h"
#include "guc.h"
#include "launcher.h"
#include "shmem.h"
#include "worker.h"

#define LOOK_SOON_MS		10000	/* after anything that happened */
#define LOOK_EVERY_MS		600000
#define MAX_BACKOFF_MS		60000

void
goya_launcher_register(void)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 1;
	snprintf(worker.bgw_library_name, BGW_MAXLEN, "goya");
	snprintf(worker.bgw_function_name, BGW_MAXLEN, "goya_launcher_main");
	snprintf(worker.bgw_name, BGW_MAXLEN, "goya launcher");
	snprintf(worker.bgw_type, BGW_MAXLEN, "goya launcher");
	RegisterBackgroundWorker(&worker);
}

static bool
grants_connect(HeapTuple tuple, TupleDesc desc, Oid owner)
{
	bool		isnull;
	Datum		datum = heap_getattr(tuple, Anum_pg_database_datacl, desc, &isnull);
	Acl		   *acl;

	if (isnull)
		return false;
	acl = DatumGetAclP(datum);
	for (int i = 0; i < ACL_NUM(acl); i++)
		if (ACL_DAT(acl)[i].ai_grantee == owner && (ACLITEM_GET_PRIVS(ACL_DAT(acl)[i]) & ACL_CONNECT))
			return true;
	return false;
}

/* Oids of databases whose engine should run, in the caller's context. */
static List *
databases_with_goya(Oid *goya_owner)
{
	MemoryContext caller = CurrentMemoryContext;
	List	   *result = NIL;
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;
	Oid			owner;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	owner = get_role_oid(GOYA_OWNER_ROLE, true);
	if (OidIsValid(owner))
	{
		rel = table_open(DatabaseRelationId, AccessShareLock);
		scan = table_beginscan_catalog(rel, 0, NULL);
		while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
		{
			Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);

			if (form->datallowconn && !form->datistemplate && grants_connect(tuple, RelationGetDescr(rel), owner))
			{
				MemoryContext old = MemoryContextSwitchTo(caller);

				result = lappend_oid(result, form->oid);
				MemoryContextSwitchTo(old);
			}
		}
		table_endscan(scan);
		table_close(rel, AccessShareLock);
	}
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	*goya_owner = owner;
	return result;
}

/* The engines this launcher started last, by slot: to see which of them never arrived. */
static BackgroundWorkerHandle **started;

static bool
register_engine(GoyaEngineSlot *slot, Oid owner)
{
	BackgroundWorkerHandle **handle = &started[slot - goya_shared->engines];
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	bool		ok;

	if (*handle != NULL)
		pfree(*handle);
	*handle = NULL;
	ok = goya_worker_start("goya_engine_main", "goya engine", slot->dboid, owner, handle);
	MemoryContextSwitchTo(old);
	return ok;
}

/* Try to start the engine of a slot in state WANTED whose time has come. */
static void
start_engine(GoyaEngineSlot *slot, Oid owner)
{
	static TimestampTz last_warning = 0;
	TimestampTz now = GetCurrentTimestamp();
	bool		start = false;

	LWLockAcquire(goya_shared->lock, LW_EXCLUSIVE);
	if (slot->state == GOYA_ENGINE_WANTED && slot->not_before <= now)
	{
		slot->state = GOYA_ENGINE_STARTING;
		slot->started_at = now;
		start = true;
	}
	LWLockRelease(goya_shared->lock);
	if (!start)
		return;

	GOYA_CRASH_POINT(LAUNCHER_CHOSEN);
	if (register_engine(slot, owner))
	{
		GOYA_CRASH_POINT(LAUNCHER_STARTED);
		return;
	}

	LWLockAcquire(goya_shared->lock, LW_EXCLUSIVE);
	slot->state = GOYA_ENGINE_WANTED;
	slot->not_before = TimestampTzPlusMilliseconds(now, 1000);
	LWLockRelease(goya_shared->lock);
	goya_worker_warn_limit(&last_warning, "no background worker slot for a goya engine",
						   "Raise max_worker_processes. goya tries again every second.");
}

/* A STARTING engine whose process is gone, or that has not shown up in ten seconds, failed to fork or to connect, or was terminated then. */
static void
check_slot(GoyaEngineSlot *slot)
{
	TimestampTz now = GetCurrentTimestamp();
	BackgroundWorkerHandle *handle = started[slot - goya_shared->engines];
	pid_t		pid;
	bool		gone = handle != NULL && GetBackgroundWorkerPid(handle, &pid) == BGWH_STOPPED;

	LWLockAcquire(goya_shared->lock, LW_EXCLUSIVE);
	if (slot->state == GOYA_ENGINE_STARTING && (gone || TimestampDifferenceExceeds(slot->started_at, now, 10000)))
	{
		slot->state = GOYA_ENGINE_WANTED;
		slot->not_before = TimestampTzPlusMilliseconds(now, Min(MAX_BACKOFF_MS, 500 << Min(slot->failures, 7)));
		slot->failures++;
	}
	if (slot->state == GOYA_ENGINE_PAUSED && slot->pid == 0 && slot->keep_off <= now &&
		(slot->not_before <= now ||
		 (pg_atomic_read_u32(&slot->wanted) != 0 && slot->not_before <= TimestampTzPlusMilliseconds(now, GOYA_PAUSE_MS - 1000))))
	{
		slot->state = GOYA_ENGINE_WANTED;
		slot->not_before = now;
	}
	LWLockRelease(goya_shared->lock);
}

/* One look at what should run.  Returns the time to sleep. */
static long
look(void)
{
	static TimestampTz last_warning = 0;
	Oid			owner;
	List	   *databases = databases_with_goya(&owner);
	ListCell   *lc;
	long		sleep_ms = LOOK_EVERY_MS;

	foreach(lc, databases)
	{
		GoyaEngineSlot *slot = goya_shmem_engine(lfirst_oid(lc), true);

		if (slot == NULL)
		{
			goya_worker_warn_limit(&last_warning, "more databases with goya than goya.max_databases allows",
								   "Raise goya.max_databases and restart the server.");
			continue;
		}
		check_slot(slot);
		start_engine(slot, owner);
		if (slot->state == GOYA_ENGINE_STARTING || (slot->state == GOYA_ENGINE_PAUSED && pg_atomic_read_u32(&slot->wanted) != 0))
			sleep_ms = Min(sleep_ms, 500);
		else if (slot->state == GOYA_ENGINE_WANTED)
			sleep_ms = Min(sleep_ms, Min(500, TimestampDifferenceMilliseconds(GetCurrentTimestamp(), slot->not_before) + 1));
		else if (slot->state == GOYA_ENGINE_PAUSED)
			sleep_ms = Min(sleep_ms, TimestampDifferenceMilliseconds(GetCurrentTimestamp(), slot->not_before) + 1);
	}
	/* Slots of dropped databases become free. */
	LWLockAcquire(goya_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < goya_shared->n_engines; i++)
	{
		GoyaEngineSlot *slot = &goya_shared->engines[i];

		if (slot->state != GOYA_ENGINE_FREE && slot->pid == 0 && slot->state != GOYA_ENGINE_STARTING &&
			!list_member_oid(databases, slot->dboid))
			slot->state = GOYA_ENGINE_FREE;
	}
	LWLockRelease(goya_shared->lock);
	return sleep_ms;
}

static void
leave(int code, Datum arg)
{
	LWLockAcquire(goya_shared->lock, LW_EXCLUSIVE);
	goya_shared->launcher_pid = 0;
	goya_shared->launcher_latch = NULL;
	LWLockRelease(goya_shared->lock);
}

/* Engines that an earlier launcher was starting when it died: nobody knows how far it came.  One too many leaves by itself (attach_engine). */
static void
forget_starting(void)
{
	LWLockAcquire(goya_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < goya_shared->n_engines; i++)
		if (goya_shared->engines[i].state == GOYA_ENGINE_STARTING && goya_shared->engines[i].pid == 0)
			goya_shared->engines[i].state = GOYA_ENGINE_WANTED;
	LWLockRelease(goya_shared->lock);
}

void
goya_launcher_main(Datum arg)
{
	MemoryContext look_context;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);

	before_shmem_exit(leave, 0);
	LWLockAcquire(goya_shared->lock, LW_EXCLUSIVE);
	goya_shared->launcher_pid = MyProcPid;
	goya_shared->launcher_latch = MyLatch;
	LWLockRelease(goya_shared->lock);

	started = MemoryContextAllocZero(TopMemoryContext, sizeof(BackgroundWorkerHandle *) * goya_shared->n_engines);
	forget_starting();
	look_context = AllocSetContextCreate(TopMemoryContext, "goya launcher look", ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		static bool woken = true;
		long		sleep_ms;

		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		MemoryContextReset(look_context);
		MemoryContextSwitchTo(look_context);
		sleep_ms = look();
		if (woken)
			sleep_ms = Min(sleep_ms, LOOK_SOON_MS);
		woken = (WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, sleep_ms, PG_WAIT_EXTENSION) & WL_LATCH_SET) != 0;
		ResetLatch(MyLatch);
	}
}
