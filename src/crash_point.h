/*-------------------------------------------------------------------------
 * crash_point.h
 *		Named places where a process can be made to fail, in the test build only (make CRASH_POINTS=1).
 *
 * They stand wherever something becomes durable, visible or known to somebody else: before and after a table is written, a lock is
 * taken, a transaction commits, another process is told.  In a normal build GOYA_CRASH_POINT is nothing and the setting does not exist.
 *
 * The list is the only one; test/tap/020_crash_points.pl reads it from this file and fails if a point of it is never reached.  ANY: any
 * action.  COMMITTED: kill and pause only, because PostgreSQL cannot take an error in the midst of a commit.
 *
 * What must hold: this file is included by .c files only, so that ci/lib.sh knows which objects the test build has to compile anew; no point
 * is in a critical section or under a spinlock.
 *-------------------------------------------------------------------------
 */
#ifndef GOYA_CRASH_POINT_H
#define GOYA_CRASH_POINT_H

#ifdef GOYA_CRASH_POINTS

#define GOYA_CRASH_POINT_LIST(point) \
	/* starting tasks: any session, a batch that starts children */ \
	point(RUN_KEY_WRITTEN, "run.key_written", ANY) \
	point(RUN_BEFORE_TASK, "run.before_task", ANY) \
	point(RUN_TASK_WRITTEN, "run.task_written", ANY) \
	point(RUN_QUEUED, "run.queued", ANY) \
	point(RUN_TIMER_WRITTEN, "run.timer_written", ANY) \
	point(RUN_MANY_CHUNK, "run_many.chunk_written", ANY) \
	/* every transaction that makes work or tells of a task */ \
	point(SESSION_BEFORE_COMMIT, "session.before_commit", ANY) \
	point(SESSION_COMMITTED, "session.committed", COMMITTED) \
	point(SESSION_WOKEN, "session.woken", COMMITTED) \
	point(EXECUTOR_BEFORE_COMMIT, "executor.before_commit", ANY) \
	point(EXECUTOR_COMMITTED, "executor.committed", COMMITTED) \
	point(EXECUTOR_WOKEN, "executor.woken", COMMITTED) \
	point(ENGINE_BEFORE_COMMIT, "engine.before_commit", ANY) \
	point(ENGINE_COMMITTED, "engine.committed", COMMITTED) \
	point(ENGINE_WOKEN, "engine.woken", COMMITTED) \
	/* a batch: claim, run, write */ \
	point(CLAIM_TAKEN, "claim.taken", ANY) \
	point(CLAIM_LOADED, "claim.loaded", ANY) \
	point(CLAIM_PARKED, "claim.parked", ANY) \
	point(EFFECT_BEFORE, "effect.before", ANY) \
	point(EFFECT_DONE, "effect.done", ANY) \
	point(ADVANCE_BEFORE_FLUSH, "advance.before_flush", ANY) \
	point(FLUSH_TASKS_LOCKED, "flush.tasks_locked", ANY) \
	point(FLUSH_RUNS_WRITTEN, "flush.runs_written", ANY) \
	point(FLUSH_ARTIFACTS, "flush.artifacts_written", ANY) \
	point(FLUSH_JOINS, "flush.joins_written", ANY) \
	point(FLUSH_MAPS, "flush.maps_written", ANY) \
	point(FLUSH_CONTEXT, "flush.context_written", ANY) \
	point(FLUSH_APPROVAL, "flush.approval_written", ANY) \
	point(FLUSH_SIGNAL_TAKEN, "flush.signal_taken", ANY) \
	point(FINISH_TASKS_WRITTEN, "finish.tasks_written", ANY) \
	point(FINISH_PUBLISHED, "finish.completion_published", ANY) \
	point(FINISH_FAILED, "finish.task_failed", ANY) \
	point(FINISH_COMPENSATING, "finish.compensation_begun", ANY) \
	point(FINISH_COMPENSATED, "finish.compensated", ANY) \
	point(FINISH_CHILD, "finish.child_started", ANY) \
	point(QUEUE_WRITTEN, "queue.written", ANY) \
	point(QUEUE_TIMERS, "queue.timers_written", ANY) \
	point(QUEUE_PARKED, "queue.parked_written", ANY) \
	point(EXECUTOR_AFTER_BATCH, "executor.after_batch", ANY) \
	/* money */ \
	point(HOLD_WRITTEN, "hold.written", ANY) \
	point(HOLD_WALLET, "hold.wallet_written", ANY) \
	point(CAPTURE_USAGE, "capture.usage_written", ANY) \
	point(CAPTURE_EXTENDED, "capture.hold_extended", ANY) \
	point(SETTLE_LOCKED, "settle.wallet_locked", ANY) \
	point(SETTLE_ENTRIES, "settle.entries_written", ANY) \
	point(SETTLE_WALLET, "settle.wallet_written", ANY) \
	point(SETTLE_HOLDS, "settle.holds_written", ANY) \
	/* events, triggers, timers, cancels */ \
	point(ASSET_EVENTS, "asset.events_written", ANY) \
	point(ASSET_QUEUED, "asset.events_queued", ANY) \
	point(DISPATCH_CLAIMED, "dispatch.claimed", ANY) \
	point(DISPATCH_SLOTS, "dispatch.slots_written", ANY) \
	point(DISPATCH_TASKS, "dispatch.tasks_written", ANY) \
	point(DISPATCH_DONE, "dispatch.done", ANY) \
	point(INTERVAL_FIRED, "interval.fired", ANY) \
	point(NOTES_FIRED, "notes.fired", ANY) \
	point(TIMERS_MOVED, "timers.moved", ANY) \
	point(CONTROL_WRITTEN, "control.written", ANY) \
	point(CANCEL_RUNS, "cancel.runs_closed", ANY) \
	point(CANCEL_SETTLING, "cancel.settling", ANY) \
	point(CANCEL_DONE, "cancel.carried_out", ANY) \
	/* outside calls */ \
	point(CALL_CLAIMED, "call.claimed", ANY) \
	point(CALL_STARTED, "call.started", ANY) \
	point(CALL_ANSWERED, "call.answered", ANY) \
	point(CALL_RECORDING, "call.recording", ANY) \
	point(CALL_RECORDED, "call.recorded", ANY) \
	point(RECOVER_MARKED, "recover.calls_marked", ANY) \
	point(RECOVER_DONE, "recover.done", ANY) \
	/* processes */ \
	point(LAUNCHER_CHOSEN, "launcher.engine_chosen", ANY) \
	point(LAUNCHER_STARTED, "launcher.engine_started", ANY) \
	point(ENGINE_EPOCH, "engine.epoch_written", ANY) \
	point(ENGINE_STARTED, "engine.started", ANY) \
	point(ENGINE_EXECUTOR, "engine.executor_started", ANY) \
	point(EXECUTOR_STARTED, "executor.started", ANY) \
	/* any of goya's tables */ \
	point(TABLE_HEAP_INSERTED, "table.heap_inserted", ANY) \
	point(TABLE_HEAP_UPDATED, "table.heap_updated", ANY)

#define GOYA_CRASH_POINT_ID(id, name, when) GOYA_AT_##id,
typedef enum GoyaCrashPoint
{
	GOYA_CRASH_POINT_LIST(GOYA_CRASH_POINT_ID)
	GOYA_N_CRASH_POINTS
} GoyaCrashPoint;

/* crash_point.c */
extern void goya_crash_point_define(void);	/* the setting; from _PG_init */
extern void goya_crash_point_init(void);	/* shared memory; when preloaded */
extern void goya_crash_point_reach(GoyaCrashPoint point);

#define GOYA_CRASH_POINT(id) goya_crash_point_reach(GOYA_AT_##id)

#else

#define GOYA_CRASH_POINT(id) ((void) 0)

#endif
#endif
