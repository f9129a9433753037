/*-------------------------------------------------------------------------
 * shmem.h
 *		Shared memory: who runs, what they do now, wake-ups, the fair queue's clock, waiting sessions.
 *
 * Nothing here is the truth about work - the tables are.  All of it may vanish in a crash restart.
 *-------------------------------------------------------------------------
 */
#ifndef GOYA_SHMEM_H
#define GOYA_SHMEM_H

#include "postgres.h"
#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/spin.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#define GOYA_MAX_EXECUTOR_SLOTS 64
#define GOYA_NODE_NAME_LEN		64
#define GOYA_WAITER_SLOTS		128
#define GOYA_TENANT_SLOTS		4096
#define GOYA_FUNCTION_SLOTS		1024

/* Why an engine is woken: bits of GoyaEngineSlot.wanted. */
#define GOYA_WAKE_TRANSFERS 0x01	/* rows in the engine's lane */
#define GOYA_WAKE_EXECUTORS 0x02	/* rows for executors and nobody idle */
#define GOYA_WAKE_EVENTS	0x04
#define GOYA_WAKE_TIMERS	0x08
#define GOYA_WAKE_CANCELS	0x10
#define GOYA_WAKE_TRIGGERS	0x20	/* triggers or channels changed */
#define GOYA_WAKE_CRASHES	0x40	/* a process ended in the middle of a node */
#define GOYA_WAKE_ALL		0xff
#define GOYA_WAKE_LATE		0x100	/* latecomers or slow functions, and nobody idle; not of ALL: it may start an executor more than there are */
#define GOYA_WAKE_BATCHES	0x200	/* rows of lane 0: nothing when all places are taken, else EXECUTORS (latecomers.c) */

typedef enum GoyaEngineState
{
	GOYA_ENGINE_FREE,			/* slot unused */
	GOYA_ENGINE_WANTED,			/* the launcher should start one (now or after backoff) */
	GOYA_ENGINE_STARTING,
	GOYA_ENGINE_RUNNING,
	GOYA_ENGINE_PAUSED,			/* a restored copy, or no extension: look again later */
} GoyaEngineState;

#define GOYA_LANES 6

/* A rank below which a lane has no row: see queue_floor.c.  Under the engine slot's mutex. */
typedef struct GoyaFloor
{
	int64		rank;
	int64		least;			/* of the rows committed since somebody began to raise it */
	uint32		raising;		/* whose turn that is; 0: nobody's */
	uint32		tickets;
	TimestampTz since;
} GoyaFloor;

/* One per database with goya.  state, pid, latch, failures, not_before: under goya_shared->lock. */
typedef struct GoyaEngineSlot
{
	Oid			dboid;
	GoyaEngineState state;
	pid_t		pid;
	Latch	   *latch;
	int			failures;		/* starts that ended in failure since the last good one */
	TimestampTz not_before;		/* backoff */
	TimestampTz keep_off;		/* somebody needs the database for himself (ddl.c): nobody starts before this */
	TimestampTz started_at;
	pg_atomic_uint32 wanted;	/* GOYA_WAKE_ bits */
	pg_atomic_uint64 queue_head;	/* newest virtual time handed to an executor */
	pg_atomic_uint64 batches;
	pg_atomic_uint64 node_runs;
	pg_atomic_uint32 transfers; /* in flight */
	pg_atomic_uint32 alone;		/* executors that run a slow function now */
	pg_atomic_uint64 late;		/* while lane 0 has a backlog: the highest rank that is claimed; else 0 */
	pg_atomic_uint32 headroom;	/* ... and so many rows behind it one still comes late */
	pg_atomic_uint32 clocks_known;	/* lane 0 was empty once since the start: no backlog is from before */
	pg_atomic_uint32 arrivals;	/* executors that have attached, ever */
	pg_atomic_uint32 suspects;	/* rows of goya_private.crashes, as last seen */
	slock_t		mutex;			/* protects detail and floors */
	GoyaFloor	floors[GOYA_LANES];
	char		detail[128];	/* what is wrong, shown by goya.activity */
	bool		listening;
} GoyaEngineSlot;

#define GOYA_PAUSE_MS	60000	/* a paused engine is tried again after this; when woken, after a second */
#define GOYA_SHORT_PAUSE_MS	2000	/* the same while DROP EXTENSION has not committed */

/* One per executor.  pid, dboid, latch under goya_shared->lock; the rest under mutex. */
typedef struct GoyaExecutorSlot
{
	Oid			dboid;
	pid_t		pid;			/* 0: free */
	Latch	   *latch;
	pg_atomic_uint32 idle;
	pg_atomic_uint64 claimed;	/* it has a place at lane 0: the highest rank it has claimed; else 0 */
	slock_t		mutex;
	bool		busy;			/* task, node, item are of the node that runs now */
	pg_uuid_t	task;
	char		node[GOYA_NODE_NAME_LEN];
	int			item;
	TimestampTz since;
	bool		interrupted;	/* somebody cancelled what it ran */
	uint64		batches;
	uint64		node_runs;
} GoyaExecutorSlot;

typedef struct GoyaFunctionSpeed
{
	pg_atomic_uint64 key;		/* database and function oid; 0: free */
	pg_atomic_uint32 usec;		/* moving average of one call */
	pg_atomic_uint32 locks_wallets; /* it was seen to */
	TimestampTz since;			/* measuring began; a hint, not protected */
} GoyaFunctionSpeed;

typedef struct GoyaShared
{
	LWLock	   *lock;
	pid_t		launcher_pid;
	Latch	   *launcher_latch;
	ConditionVariable waiters[GOYA_WAITER_SLOTS];	/* sessions in wait_for_task, by task id */
	pg_atomic_uint32 n_waiters;
	pg_atomic_uint64 tenant_last[GOYA_TENANT_SLOTS];	/* fair queueing: newest virtual time given to a tenant (by hash), in fractions (fairness.c) */
	GoyaFunctionSpeed functions[GOYA_FUNCTION_SLOTS];
	GoyaExecutorSlot executors[GOYA_MAX_EXECUTOR_SLOTS];
	int			n_engines;
	GoyaEngineSlot engines[FLEXIBLE_ARRAY_MEMBER];
} GoyaShared;

extern GoyaShared *goya_shared; /* NULL: not preloaded */
extern GoyaExecutorSlot *goya_my_executor;
extern GoyaEngineSlot *goya_my_engine;

/* Set by the engine: aborts its own transfers of a task.  Called from goya_shmem_interrupt_task in that process. */
extern void (*goya_interrupt_transfers_hook) (const pg_uuid_t *task);

/* Set by the engine too: what its transfers of a task have used so far; NULL: nothing. */
extern Jsonb *(*goya_transfers_used_hook) (const pg_uuid_t *task);

extern void goya_shmem_init(void);	/* from _PG_init while preloading: hooks */
extern void goya_shmem_register_callbacks(void);	/* from _PG_init: the one commit callback of this backend */

/* Engines. */
extern GoyaEngineSlot *goya_shmem_engine(Oid dboid, bool create);	/* NULL: none, or no slot left */
extern void goya_shmem_engine_detail(GoyaEngineSlot *slot, const char *detail);

/* Wake-ups.  _at_commit sets flags for the commit callback; _now acts. */
extern void goya_wake_at_commit(uint32 bits);
extern void goya_wake_everybody_at_commit(void);
extern void goya_wake_now(Oid dboid, uint32 bits);
extern void goya_wake_launcher(void);
extern void goya_announce_at_commit(const pg_uuid_t *task);
extern bool goya_wait_announcement(const pg_uuid_t *task, long timeout_ms);

/* Executors. */
extern GoyaExecutorSlot *goya_shmem_executor_attach(void);	/* NULL: no slot */
extern void goya_executor_show(const pg_uuid_t *task, const char *node, int item);	/* now running */
extern void goya_executor_show_none(void);
extern bool goya_executor_was_interrupted(void);
extern void goya_shmem_interrupt_task(const pg_uuid_t *task);

/* The fair queue.  One node run of weight one is so many units of virtual time. */
#define GOYA_RANK_UNIT 1000
#define GOYA_RANK_TIME(rank) ((uint64) (rank) & ((UINT64CONST(1) << 48) - 1))
extern int64 goya_rank_next(Oid dboid, const pg_uuid_t *tenant, int priority, int units);
extern int64 goya_rank_last(const pg_uuid_t *tenant, int priority);
extern void goya_rank_served(Oid dboid, int64 rank);

/* Latecomers. */
extern bool goya_late_is(const pg_uuid_t *tenant, int priority);	/* its place was before what is claimed already */
extern bool goya_late_places_taken(Oid dboid);	/* no other executor may begin with lane 0 */
extern bool goya_late_may_claim(void);	/* may this executor claim rows of lane 0? */
extern bool goya_late_has_place(void);
extern void goya_late_claimed(int64 rank, int rows, bool full);	/* it has, up to this rank; full: there are more */
extern void goya_late_none(void);	/* it found none */
extern void goya_late_leave(void);	/* it has other things to do, or ends */

/* The floors of the lanes. */
extern void goya_floor_lower_at_commit(int lane, int64 rank);
extern void goya_floor_forget_at_commit(void);
extern void goya_floor_transaction_ended(bool committed);
extern void goya_floor_forget(GoyaEngineSlot *slot);
extern bool goya_floor_is_empty(int lane);
extern int64 goya_floor_begin(int lane, uint32 *ticket);
extern void goya_floor_raise(int lane, uint32 ticket, int64 rank);

/* Speed of SQL functions, shared by executors. */
#define GOYA_UNMEASURED		(-1)
#define GOYA_BEING_MEASURED (-2)
extern int	goya_function_usec(Oid funcid);
extern bool goya_function_looks_slow(Oid funcid);
extern bool goya_function_locks_wallets(Oid funcid);
extern void goya_function_mark_wallets(Oid funcid);
extern void goya_function_measured(Oid funcid, uint64 usec);

#endif
