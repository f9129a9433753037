/*-------------------------------------------------------------------------
 * engine.c
 *		The goya engine: one per database.  Timers, triggers, events to tasks, outside calls, cancels, executors.  No SQL of users.
 *
 * Its session is goya_owner's.  The loop does the same in the same order every time; what there is to do comes as bits from shared
 * memory (GOYA_WAKE_*), from timers it knows, and from its sockets.  The tables are the truth: within a poll interval of anything that
 * happened it looks at them, in one transaction that only reads; while such looks find nothing, they are QUIET_FACTOR times as rare, so
 * that an idle database costs nothing.  At the start and a second after an error it behaves as if all bits were set.
 *
 * A restored copy of a database (another cluster or database oid is written in goya_private.engine) runs nothing until
 * goya.adopt_copy(): the engine notes it and leaves; the launcher looks again every minute.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "postmaster/postmaster.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"
#include "utils/wait_event.h"

#include "batch.h"
#include "black_box.h"
#include "calls.h"
#include "child.h"
#include "crashes.h"
#include "crash_point.h"
#include "engine.h"
#include "goya.h"
#include "guc.h"
#include "held.h"
#include "http.h"
#include "listen.h"
#include "notes.h"
#include "shmem.h"
#include "staffing.h"
#include "store.h"
#include "stream.h"
#include "wait.h"
#include "worker.h"

#define TIMERS_AT_ONCE	1000
#define EVENTS_AT_ONCE	500
#define HELD_PAUSE_MS	1000	/* until what somebody keeps locked is looked at again */
#define CANCEL_PAUSE_MS	50		/* ... and what a task does that is being cancelled; longer when there are many */
#define EVENTS_PAUSE_MS	10		/* events that come one after the other are turned into tasks together */
#define QUIET_FACTOR	10
#define NEVER			DT_NOEND
#define IS_A_COPY		"this is a copy of another database: SELECT goya.adopt_copy() starts it"

typedef struct Engine
{
	Oid			dboid;
	Oid			extension;
	Oid			executor_role;
	int			epoch;
	GoyaWait   *wait;
	GoyaHttp   *http;
	GoyaListen *listen;
	GoyaCalls  *calls;
	TimestampTz next_timer;
	TimestampTz next_interval;
	TimestampTz next_cancel;	/* requests are open: look again */
	TimestampTz next_events;	/* some are queued: when to turn them into tasks */
	TimestampTz events_pause;	/* not before this */
	TimestampTz next_poll;
	bool		everything;		/* something failed: the next poll is as if all bits were set */
	bool		is_copy;		/* rows of another database were loaded after this engine had started */
	bool		more_calls;
	bool		more_results;
	bool		more_timers;
	bool		more_channels;	/* to be told to the LISTEN connection by its next tick */
} Engine;

static Engine engine;

/* ----- transactions ----- */

/*
 * Run fn in a transaction; an error is reported, and everything is looked at again a second later.
 */
static bool
in_transaction(const char *doing, void (*fn) (void))
{
	volatile bool ok = false;

	PG_TRY();
	{
		goya_worker_begin(doing);
		if (goya_worker_extension() != engine.extension)
			proc_exit(0);
		fn();
		goya_worker_commit();
		ok = true;
	}
	PG_CATCH();
	{
		bool		known = goya_held_is_ours(geterrcode()) && goya_held_found();

		goya_worker_abort(known ? NULL : doing);
		engine.next_poll = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), known ? 0 : 1000);	/* 0: it is known now whom to leave out */
		engine.next_timer = engine.next_interval = engine.next_cancel = engine.next_events = NEVER;
		engine.more_timers = false;
		engine.everything = true;
	}
	PG_END_TRY();
	return ok;
}

static TimestampTz
result_time(void)
{
	return SPI_processed == 0 || goya_result_isnull(0, 1) ? NEVER : DatumGetTimestampTz(goya_result_datum(0, 1));
}

static void
move_due_timers(void)
{
	GoyaStoreScope scope;
	Datum		args[2];
	uint32		wake = 0;

	args[0] = Int32GetDatum(TIMERS_AT_ONCE);
	args[1] = CStringGetTextDatum(goya_batch_system_id());
	goya_store_enter(&scope);
	goya_store_run(GOYA_STMT_DUE_TIMERS, args, NULL);
	engine.more_timers = SPI_processed >= TIMERS_AT_ONCE;
	if (SPI_processed > 0)
		GOYA_CRASH_POINT(TIMERS_MOVED);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		int			lane = DatumGetInt16(goya_result_datum(i, 1));

		wake |= goya_lane_wake(lane);
		goya_floor_lower_at_commit(lane, DatumGetInt64(goya_result_datum(i, 2)));
	}
	goya_store_run(GOYA_STMT_NEXT_TIMER, NULL, NULL);
	engine.next_timer = result_time();
	goya_store_leave(&scope);
	goya_wake_at_commit(wake);
}

static void
fire_intervals(void)
{
	GoyaStoreScope scope;

	goya_store_enter(&scope);
	goya_store_run(GOYA_STMT_FIRE_INTERVALS, NULL, NULL);
	GOYA_CRASH_POINT(INTERVAL_FIRED);
	engine.next_interval = result_time();
	goya_store_leave(&scope);
}

static void
dispatch_events(void)
{
	GoyaStoreScope scope;
	Datum		args[1];
	int			n;

	pg_atomic_fetch_and_u32(&goya_my_engine->wanted, ~GOYA_WAKE_EVENTS);
	args[0] = Int32GetDatum(EVENTS_AT_ONCE);
	goya_store_enter(&scope);
	goya_store_run(GOYA_STMT_DISPATCH_EVENTS, args, NULL);
	n = goya_result_int4(0, 1);
	goya_store_leave(&scope);
	engine.next_events = n >= EVENTS_AT_ONCE ? 0 : NEVER;
	if (n < EVENTS_AT_ONCE && goya_held_suspects_any())
		engine.next_events = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), HELD_PAUSE_MS);
	engine.events_pause = n >= EVENTS_AT_ONCE ? 0 : TimestampTzPlusMilliseconds(GetCurrentTimestamp(), EVENTS_PAUSE_MS);
}

/*
 * Events are queued: turn them into tasks now, or after the pause.  The bit stays set until then, so that nobody wakes the engine for more
 * of them.
 */
static void
expect_events(TimestampTz now)
{
	engine.next_events = Min(engine.next_events, engine.events_pause);
	if (engine.next_events > now)
		pg_atomic_fetch_or_u32(&goya_my_engine->wanted, GOYA_WAKE_EVENTS);
}

static void
process_cancels(void)
{
	GoyaStoreScope scope;
	Datum		args[1];
	int			open;

	args[0] = Int32GetDatum(goya_guc_cancel_grace);
	goya_store_enter(&scope);
	goya_store_run(GOYA_STMT_PROCESS_CANCELS, args, NULL);
	open = goya_result_int4(0, 2);
	if (goya_result_int4(0, 1) > 0)
		GOYA_CRASH_POINT(CANCEL_DONE);
	goya_store_leave(&scope);
	engine.next_cancel = open > 0 ? TimestampTzPlusMilliseconds(GetCurrentTimestamp(), Min(CANCEL_PAUSE_MS + open / 10, 1000)) : NEVER;
}

static void
read_channels(MemoryContext cxt)
{
	char	  **channels;
	int			n;

	goya_store_run(GOYA_STMT_CHANNELS, NULL, NULL);
	n = SPI_processed;
	channels = palloc(sizeof(char *) * (n + 1));
	channels[0] = "goya_asset";
	for (int i = 0; i < n; i++)
		channels[i + 1] = goya_result_text(i, 1, cxt);
	goya_listen_set_channels(engine.listen, channels, n + 1);
	engine.more_channels = true;
}

static void
load_channels(void)
{
	GoyaStoreScope scope;

	goya_store_enter(&scope);
	read_channels(scope.caller);
	goya_store_leave(&scope);
}

static uint32 work_wake;

/* What there is to do, as bits. */
static void
look_for_work(void)
{
	static const uint32 meaning[] = {GOYA_WAKE_EXECUTORS, GOYA_WAKE_TRANSFERS, GOYA_WAKE_EXECUTORS, GOYA_WAKE_LATE, GOYA_WAKE_CANCELS,
	GOYA_WAKE_EVENTS, GOYA_WAKE_TIMERS, GOYA_WAKE_TRIGGERS, GOYA_WAKE_LATE};
	GoyaStoreScope scope;
	Datum		args[1];

	goya_store_enter(&scope);
	args[0] = CStringGetTextDatum(goya_batch_system_id());
	goya_store_run(GOYA_STMT_IS_COPY, args, NULL);
	engine.is_copy = goya_result_bool(0, 1);
	goya_store_run(GOYA_STMT_HAS_WORK, NULL, NULL);
	work_wake = 0;
	for (int i = 0; i < lengthof(meaning); i++)
		if (goya_result_bool(0, i + 1))
			work_wake |= meaning[i];
	if (work_wake & (GOYA_WAKE_EXECUTORS | GOYA_WAKE_LATE | GOYA_WAKE_TRANSFERS))
		goya_floor_forget(goya_my_engine);
	goya_store_leave(&scope);
}

/* The same for a poll, with what a lost wake-up may have left unknown. */
static void
look_at_everything(void)
{
	GoyaStoreScope scope;

	look_for_work();
	goya_store_enter(&scope);
	goya_store_run(GOYA_STMT_NEXT_TIMER, NULL, NULL);
	engine.next_timer = result_time();
	read_channels(scope.caller);
	goya_store_leave(&scope);
}

/* Before any executor is started: what the last ones died of. */
static bool
count_crashes(void)
{
	if (!in_transaction("counting crashes", goya_crashes_count))
		return false;
	goya_crashes_counted();
	return true;
}

/* ----- LISTEN ----- */

static void
on_notify(const char *channel, const char *payload, void *arg)
{
	if (channel == NULL)
		pg_atomic_fetch_or_u32(&goya_my_engine->wanted, GOYA_WAKE_ALL);
	else if (strcmp(channel, "goya_asset") == 0)
		pg_atomic_fetch_or_u32(&goya_my_engine->wanted, GOYA_WAKE_EVENTS);
	else
		goya_notes_add(channel, payload);
}

/* The connection string: what the administrator gave, else this server's first socket directory as goya_listener. */
static void
set_conninfo(const char *dbname)
{
	char	   *directories = pstrdup(Unix_socket_directories ? Unix_socket_directories : "");
	List	   *dirs = NIL;
	const char *base = goya_guc_listen_conninfo;

	if (!goya_guc_listen)
	{
		goya_listen_set_conninfo(engine.listen, NULL);
		return;
	}
	if (base == NULL || base[0] == '\0')
	{
		if (SplitDirectoriesString(directories, ',', &dirs) && dirs != NIL)
			base = psprintf("host='%s' port=%d user=" GOYA_LISTENER_ROLE, (char *) linitial(dirs), PostPortNumber);
		else
			base = psprintf("host=127.0.0.1 port=%d user=" GOYA_LISTENER_ROLE, PostPortNumber);
	}
	goya_listen_set_conninfo(engine.listen, psprintf("%s dbname='%s' application_name='goya listener'", base, dbname));
}

/* ----- start and end ----- */

static void
detach_engine(int code, Datum arg)
{
	GoyaEngineSlot *slot = goya_my_engine;
	bool		orderly = code == 0 || goya_black_box_told_to_end();

	AbortOutOfAnyTransaction(); /* before the next one can look: what this one has claimed is locked until then */
	LWLockAcquire(goya_shared->lock, LW_EXCLUSIVE);
	slot->pid = 0;
	slot->latch = NULL;
	slot->listening = false;
	pg_atomic_write_u32(&slot->transfers, 0);
	if (slot->state == GOYA_ENGINE_RUNNING)
	{
		slot->state = GOYA_ENGINE_WANTED;
		slot->not_before = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), orderly ? 100 : 500 << Min(slot->failures, 7));
		slot->failures += !orderly;
	}
	LWLockRelease(goya_shared->lock);
	goya_wake_launcher();
	goya_my_engine = NULL;
}

static void
attach_engine(void)
{
	GoyaEngineSlot *slot = goya_shmem_engine(MyDatabaseId, false);

	if (slot == NULL)
		proc_exit(0);
	LWLockAcquire(goya_shared->lock, LW_EXCLUSIVE);
	if (slot->pid != 0 || slot->keep_off > GetCurrentTimestamp())
	{
		if (slot->pid == 0)
			slot->state = GOYA_ENGINE_PAUSED;
		LWLockRelease(goya_shared->lock);
		proc_exit(0);			/* there is one already, or none may be */
	}
	slot->pid = MyProcPid;
	slot->latch = MyLatch;
	slot->state = GOYA_ENGINE_RUNNING;
	slot->started_at = GetCurrentTimestamp();
	slot->detail[0] = '\0';
	LWLockRelease(goya_shared->lock);
	goya_floor_forget(slot);
	goya_my_engine = slot;
	before_shmem_exit(detach_engine, 0);
}

/* Leave, and be tried again after a while or when somebody wakes this database. */
static void
pause_engine(const char *why, int ms)
{
	LWLockAcquire(goya_shared->lock, LW_EXCLUSIVE);
	goya_my_engine->state = GOYA_ENGINE_PAUSED;
	goya_my_engine->not_before = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms);
	pg_atomic_write_u32(&goya_my_engine->wanted, 0);
	LWLockRelease(goya_shared->lock);
	goya_shmem_engine_detail(goya_my_engine, why);
	proc_exit(0);
}

static void
start(void)
{
	GoyaStoreScope scope;
	Datum		args[1];
	bool		copy;

	goya_worker_begin("starting");
	engine.extension = goya_worker_extension();
	if (!OidIsValid(engine.extension))
	{
		if (OidIsValid(get_extension_oid("goya", true)))
			pause_engine("the extension is being dropped or altered", GOYA_SHORT_PAUSE_MS);
		pause_engine("the extension is not in this database", GOYA_PAUSE_MS);
	}
	engine.executor_role = get_role_oid(GOYA_EXECUTOR_ROLE, false);
	args[0] = CStringGetTextDatum(goya_batch_system_id());
	goya_store_enter(&scope);
	goya_store_run(GOYA_STMT_IS_COPY, args, NULL);
	copy = goya_result_bool(0, 1);
	if (!copy)
	{
		goya_store_run(GOYA_STMT_START_EPOCH, args, NULL);
		engine.epoch = goya_result_int4(0, 1);
		GOYA_CRASH_POINT(ENGINE_EPOCH);
	}
	goya_store_leave(&scope);
	goya_worker_commit();
	if (copy)
		pause_engine(IS_A_COPY, GOYA_PAUSE_MS);
}

static void
interrupt_transfers(const pg_uuid_t *task)
{
	goya_calls_interrupt(engine.calls, task);
}

static Jsonb *
transfers_used(const pg_uuid_t *task)
{
	return goya_calls_used(engine.calls, task);
}

static void
create_parts(void)
{
	MemoryContextSwitchTo(TopMemoryContext);
	engine.wait = goya_wait_create();
	engine.http = goya_http_create(engine.wait);
	goya_child_init(engine.wait);
	engine.listen = goya_listen_create(engine.wait, on_notify, NULL);
	engine.calls = goya_calls_create(engine.http, engine.epoch, engine.extension);
	goya_interrupt_transfers_hook = interrupt_transfers;
	goya_transfers_used_hook = transfers_used;
	engine.next_timer = engine.next_interval = engine.next_cancel = engine.next_events = NEVER;
	goya_my_engine->failures = 0;
}

/* ----- the loop ----- */

static long
ms_until(TimestampTz when, TimestampTz now, long at_most)
{
	if (when == NEVER)
		return at_most;
	return when <= now ? 0 : Min(at_most, (long) Min((when - now) / 1000 + 1, at_most));
}

static long
sleep_time(long listen_ms)
{
	TimestampTz now = GetCurrentTimestamp();
	long		ms = ms_until(engine.next_poll, now, 3600000);
	uint32		wanted = pg_atomic_read_u32(&goya_my_engine->wanted);

	if (engine.next_events != NEVER)
		wanted &= ~GOYA_WAKE_EVENTS;	/* known */
	if (engine.more_calls || engine.more_results || engine.more_timers || engine.more_channels || wanted != 0)
		return 0;
	ms = ms_until(engine.next_events, now, ms);
	ms = ms_until(engine.next_timer, now, ms);
	ms = ms_until(engine.next_interval, now, ms);
	ms = ms_until(engine.next_cancel, now, ms);
	ms = ms_until(goya_calls_next(engine.calls), now, ms);
	ms = ms_until(goya_stream_next(), now, ms);
	if (listen_ms >= 0)
		ms = Min(ms, listen_ms);
	return ms;
}

/* Look at the tables, soon again if there was something. */
static uint32
poll_tables(TimestampTz now)
{
	bool		all = engine.everything;
	uint32		bits = GOYA_WAKE_ALL;

	engine.everything = false;
	engine.next_poll = TimestampTzPlusMilliseconds(now, goya_guc_poll_interval * 1000L);
	if (pg_atomic_read_u32(&goya_my_engine->suspects) > 0)
		(void) count_crashes();
	if (all || !in_transaction("looking for work", look_at_everything))
		return all ? bits : 0;
	bits = work_wake;
	if (engine.is_copy)
		pause_engine(IS_A_COPY, GOYA_PAUSE_MS);
	if (bits == 0 && goya_calls_in_flight(engine.calls) == 0)
		engine.next_poll = TimestampTzPlusMilliseconds(now, goya_guc_poll_interval * 1000L * QUIET_FACTOR);
	return bits;
}

static void
run_turn(uint32 bits)
{
	TimestampTz now = GetCurrentTimestamp();

	if (bits != 0 || goya_calls_in_flight(engine.calls) > 0 || engine.next_timer <= now || engine.next_interval <= now)
		engine.next_poll = Min(engine.next_poll, TimestampTzPlusMilliseconds(now, goya_guc_poll_interval * 1000L));
	if (engine.next_poll <= now)
		bits |= poll_tables(now);
	if ((bits & GOYA_WAKE_ALL) == GOYA_WAKE_ALL && in_transaction("looking for work", look_for_work))
	{
		if (engine.is_copy)
			pause_engine(IS_A_COPY, GOYA_PAUSE_MS);	/* a dump was loaded just now: before anything of it runs */
		bits = (bits & ~(GOYA_WAKE_EXECUTORS | GOYA_WAKE_LATE | GOYA_WAKE_TRANSFERS)) | work_wake;
	}
	goya_http_drive(engine.http);
	engine.more_results = goya_calls_record(engine.calls);
	if (goya_stream_next() <= now && in_transaction("writing streams", goya_stream_write))
		goya_stream_written();
	if ((bits & GOYA_WAKE_CANCELS) || engine.next_cancel <= now)
		in_transaction("cancelling tasks", process_cancels);
	if (bits & GOYA_WAKE_EVENTS)
		expect_events(now);
	if (engine.next_events <= now)
		in_transaction("turning events into tasks", dispatch_events);
	if (goya_notes_waiting())
		goya_notes_done(in_transaction("turning notifications into tasks", goya_notes_fire));
	if (bits & GOYA_WAKE_TRIGGERS)
		in_transaction("reading channels", load_channels);
	if ((bits & GOYA_WAKE_TRIGGERS) || engine.next_interval <= now)
		in_transaction("firing intervals", fire_intervals);
	if ((bits & GOYA_WAKE_TIMERS) || engine.next_timer <= now || engine.more_timers)
		in_transaction("moving timers", move_due_timers);
	if ((bits & GOYA_WAKE_TRANSFERS) || engine.more_calls)
		engine.more_calls = goya_calls_claim(engine.calls) && !goya_calls_full(engine.calls);
	if (goya_crashes_found())
		bits = count_crashes() ? bits | GOYA_WAKE_EXECUTORS : bits & ~(GOYA_WAKE_EXECUTORS | GOYA_WAKE_LATE);
	if (bits & (GOYA_WAKE_EXECUTORS | GOYA_WAKE_LATE))
		engine.next_poll = Min(engine.next_poll, goya_staffing_start(engine.executor_role, (bits & GOYA_WAKE_LATE) != 0));
}

void
goya_engine_main(Datum arg)
{
	MemoryContext turn_context;
	char	   *dbname;

	goya_worker_init(DatumGetObjectId(arg), "goya engine");
	goya_black_box_attach(MyDatabaseId);
	attach_engine();
	start();
	create_parts();
	pg_atomic_write_u32(&goya_my_engine->suspects, 1);	/* until they are counted */
	(void) count_crashes();
	GOYA_CRASH_POINT(ENGINE_STARTED);
	goya_calls_recover(engine.calls);
	turn_context = AllocSetContextCreate(TopMemoryContext, "goya engine turn", ALLOCSET_DEFAULT_SIZES);
	goya_worker_begin("starting");
	dbname = MemoryContextStrdup(TopMemoryContext, get_database_name(MyDatabaseId));
	goya_worker_commit();
	set_conninfo(dbname);
	pg_atomic_write_u32(&goya_my_engine->wanted, GOYA_WAKE_ALL);

	for (;;)
	{
		uint32		bits = pg_atomic_exchange_u32(&goya_my_engine->wanted, 0);
		long		listen_ms;
		uint32		lacked = goya_calls_lack(engine.calls);

		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			set_conninfo(dbname);
			engine.next_poll = Min(engine.next_poll, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), goya_guc_poll_interval * 1000L));
		}
		MemoryContextReset(turn_context);
		MemoryContextSwitchTo(turn_context);
		engine.more_channels = false;
		listen_ms = goya_listen_tick(engine.listen);
		goya_my_engine->listening = goya_listen_connected(engine.listen);
		run_turn(bits);
		if (lacked & ~goya_calls_lack(engine.calls))
			engine.more_calls = true;
		(void) goya_wait_once(engine.wait, sleep_time(listen_ms), PG_WAIT_EXTENSION);
	}
}
