/*-------------------------------------------------------------------------
 * batch.h
 *		One transaction's worth of node runs: what is known of its tasks, what they did, what has to be written.
 *
 * A batch is the unit of work of executors and of the engine.  It claims rows of the queue, runs nodes and carries their tasks on in
 * memory, then writes everything in a handful of set-based statements and commits: so an SQL node's effect, its result, its cost and
 * its successors become true together or not at all.
 *
 * Modes.  EXECUTE (executors): tasks are locked when results are written, after the SQL has run, because a statement may be slow.
 * ADVANCE (engine; executors' wake-ups): tasks are locked first and no user code runs.  In both, locks on tasks are taken once, in id
 * order.  With savepoints set, every node runs in a subtransaction of its own and its error becomes its result; without (the happy
 * path), an error ends the batch, and the caller runs it again with savepoints.
 *-------------------------------------------------------------------------
 */
#ifndef GOYA_BATCH_H
#define GOYA_BATCH_H

#include "postgres.h"
#include "utils/hsearch.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "goya.h"
#include "http.h"
#include "plan.h"
#include "plan_cache.h"
#include "store.h"
#include "table.h"

/* The order is that of goya.node_run_status. */
typedef enum GoyaRunStatus
{
	GOYA_RUN_PENDING, GOYA_RUN_READY, GOYA_RUN_RUNNING, GOYA_RUN_WAITING, GOYA_RUN_SUCCEEDED, GOYA_RUN_FAILED, GOYA_RUN_SKIPPED,
	GOYA_RUN_CANCELLED, GOYA_RUN_COMPENSATED
} GoyaRunStatus;

extern const char *goya_run_status_name(GoyaRunStatus status);

/* What a finished node left, for templates of later ones.  Loaded when first needed. */
typedef struct GoyaValue
{
	bool		known;
	GoyaRunStatus status;
	Jsonb	   *output;			/* to be had by goya_scope_output */
	bool		stored;			/* it is as read from the row, and may be sealed */
	Jsonb	   *error;
	Jsonb	   *items;			/* of a map: the array it goes over */
} GoyaValue;

/* The order is that of goya.task_status. */
typedef enum GoyaTaskStatus
{
	GOYA_TASK_PENDING, GOYA_TASK_RUNNING, GOYA_TASK_WAITING, GOYA_TASK_CANCELLING, GOYA_TASK_SUCCEEDED, GOYA_TASK_FAILED, GOYA_TASK_CANCELLED
} GoyaTaskStatus;

typedef enum GoyaTaskEnd
{
	GOYA_END_NONE,
	GOYA_END_SUCCEEDED,
	GOYA_END_FAILING,			/* has failed: compensate or end */
} GoyaTaskEnd;

typedef struct GoyaTask
{
	pg_uuid_t	id;				/* hash key */
	ItemPointerData tid;		/* of its row, as loaded or locked */
	HeapTuple	row;			/* as locked */
	pg_uuid_t	tenant;
	pg_uuid_t	workflow;
	int			revision;
	const GoyaPlan *plan;
	char	   *run_as;
	char	   *created_by;
	Oid			role;			/* looked up when first needed */
	uint64		role_seen;		/* the generation of the catalogs that was at */
	Jsonb	   *input;			/* of a template: by goya_scope_task_input */
	bool		input_stored;	/* as read from the row: it may be sealed */
	bool		seals;			/* its tenant wants values sealed */
	bool		has_asset;
	pg_uuid_t	asset;
	Jsonb	   *asset_json;		/* loaded when first needed */
	Jsonb	   *trigger;
	char	   *trace_id;
	TimestampTz created_at;
	int			priority;
	int			depth;
	struct GoyaEscrow *escrow;	/* its hold, once needed (usage.c) */
	int64		rank;			/* place in the queue, inherited by successors; 0: not known */
	bool		has_hold;
	bool		has_parent;		/* a node of another task waits for it */
	pg_uuid_t	parent;
	int			parent_node;
	int			parent_item;
	bool		runnable;		/* neither ended nor cancelled nor of a suspended tenant */
	char	   *refusal;		/* why it is not, when that is the task's failure */
	Jsonb	   *broken;			/* it cannot be understood: its error; plan has no nodes then, or a row of the queue is nonsense */

	/* valid once locked */
	bool		locked;
	bool		paused;
	bool		failing;		/* compensating */
	bool		started;
	int			active;
	int			waiting;
	int			done;
	int			last_seq;

	/* changes made by this batch */
	int			d_active;
	int			d_waiting;
	int			d_done;
	bool		held;			/* somebody else has its row, or its wallet: not in this batch */
	bool		impatient;		/* if somebody has it, that is known: do not wait */
	bool		touched;
	int			started_seq;	/* 0: did not start here */
	GoyaTaskEnd end;
	Jsonb	   *error;			/* with GOYA_END_FAILING */
	Jsonb	   *output;
	GoyaTaskStatus status;		/* these three: what will be written */
	float		progress;
	TimestampTz finished_at;

	GoyaValue  *values;			/* per plan node; NULL until needed */
	Jsonb	   *context;		/* {"vars", "shared"}; loaded when first needed */
	Jsonb	   *task_json;		/* root "task", made when first needed */
} GoyaTask;

typedef enum GoyaWorkKind
{
	GOYA_WORK_RUN,
	GOYA_WORK_SKIP,				/* no edge to it fired */
	GOYA_WORK_SKIP_BLOCKED		/* ... because something before it failed */
} GoyaWorkKind;

/* Something to do for one node (and item) of a task. */
typedef struct GoyaWork
{
	GoyaTask   *task;
	GoyaWorkKind kind;
	int			node;			/* -1: start the roots */
	int			item;
	int			attempt;
	int			verb;			/* GoyaVerb of the claimed row */
	int64		rank;
	int			tries;
	int			held;			/* so often put aside because its task was locked */
	HeapTuple	row;			/* its node run, when that exists and was found under the task's lock */
} GoyaWork;

/* A node run to be written. */
typedef struct GoyaRecord
{
	GoyaTask   *task;
	int			node;
	int			item;
	int			attempt;
	GoyaRunStatus status;
	bool		update;			/* the row exists: it was waiting or running */
	HeapTuple	row;			/* ... and is this; NULL: not looked for */
	bool		again;			/* a row may exist: a lost call is made again */
	int			seq;
	Jsonb	   *input;
	Jsonb	   *output;
	Jsonb	   *error;
	const char *message;
	bool		has_cost;
	int64		cost;
	Jsonb	   *quantity;		/* priced: what was used; NULL: one */
	bool		priced;
	bool		estimated;		/* quantity is a guess, in part */
	TimestampTz started_at;
	TimestampTz finished_at;
} GoyaRecord;

/* Rows for the queue, or with due, for timers. */
typedef struct GoyaQueued
{
	GoyaTask   *task;			/* NULL: of a task outside the batch (parent) */
	pg_uuid_t	task_id;
	pg_uuid_t	tenant;
	int			priority;
	int			lane;
	int			verb;
	int			node;
	int			item;
	int			attempt;
	TimestampTz due;			/* 0: now */
	int			tries;			/* > 0: taken before, for nothing */
	int			held;			/* > 0: put aside before, because its task was locked */
	int64		rank;			/* 0: a new one */
} GoyaQueued;

/* Of GoyaBatch.tasks. */
typedef struct GoyaTaskEntry
{
	pg_uuid_t	id;
	GoyaTask   *task;
} GoyaTaskEntry;

/* Edges that have reached a join. */
typedef struct GoyaArrivalKey
{
	GoyaTask   *task;
	int			node;
} GoyaArrivalKey;

typedef struct GoyaArrival
{
	GoyaArrivalKey key;
	int			fired;
	int			dead;
	int			failed;
	bool		settled;		/* all edges arrived within this batch */
} GoyaArrival;

/* Items of a map that ended. */
typedef struct GoyaMapProgress
{
	GoyaArrivalKey key;			/* task and map node */
	int			done;
	int			failed;
	Jsonb	   *error;			/* of one that failed */
} GoyaMapProgress;

/* Things to do when results are written, one at a time because they are rare. */
typedef enum GoyaActionKind
{
	GOYA_ACT_START_MAP,			/* number: total, number2: handed out */
	GOYA_ACT_ARM_SIGNAL,
	GOYA_ACT_APPROVAL,
	GOYA_ACT_EXPIRE_APPROVAL,
	GOYA_ACT_CHILD,
	GOYA_ACT_AGENT_BEGIN,		/* json: how its session begins */
	GOYA_ACT_AGENT_STEP,		/* of a hidden node's run; number: it succeeded, json: its output or error */
	GOYA_ACT_AGENT_WAKE,
	GOYA_ACT_CONTEXT,			/* json: what to write */
	GOYA_ACT_WORK				/* text: queue, number: lease in ms, number2: most claims */
} GoyaActionKind;

typedef struct GoyaAction
{
	GoyaActionKind kind;
	GoyaTask   *task;
	int			node;
	int			item;
	int			attempt;
	int			number;
	int			number2;
	const char *text;
	Jsonb	   *json;
	TimestampTz started_at;
} GoyaAction;

typedef enum GoyaBatchMode
{
	GOYA_BATCH_EXECUTE,
	GOYA_BATCH_ALONE,			/* EXECUTE of one slow or unmeasured function first */
	GOYA_BATCH_ADVANCE
} GoyaBatchMode;

typedef struct GoyaExchange GoyaExchange;

/* An outside call to make after commit. */
typedef struct GoyaCall
{
	pg_uuid_t	task;
	pg_uuid_t	tenant;
	int			node;
	int			item;
	int			attempt;
	GoyaHttpRequest request;
	GoyaExchange *exchange;		/* NULL: this one request is all (exchange.h) */
} GoyaCall;

/* Which node an error or the death of the process belongs to, kept outside the batch (black_box.c). */
typedef struct GoyaBlame
{
	bool		valid;
	pg_uuid_t	task;
	int			node;
	int			item;
	int			attempt;
} GoyaBlame;

typedef struct GoyaBatch
{
	MemoryContext cxt;
	GoyaBatchMode mode;
	bool		savepoints;
	bool		single;			/* one node, no inline successors: its errors at commit are its own */
	bool		in_engine;
	int			max_calls;		/* engine: room for so many; others go back to the queue */
	int			epoch;			/* engine: of this start */
	TimestampTz now;			/* start of the batch */
	TimestampTz deadline;
	int			limit;
	int			n_claimed;
	int			n_runs;
	int64		newest_rank;
	TimestampTz written_at;		/* all but the money was written; 0: not yet */

	HTAB	   *tasks;			/* id -> GoyaTask* */
	GoyaTask  **task_list;
	int			n_tasks;
	int			max_tasks;

	GoyaWork   *claimed;		/* what the claimed rows say, in their order; next_claim is to be run next */
	int			n_claims;
	int			next_claim;
	int			n_begun;		/* of them; the others went back when time was up */
	GoyaWork   *work;			/* what follows from it: a queue, head .. tail */
	int			work_head;
	int			work_tail;
	int			work_max;

	List	   *records;		/* GoyaRecord*, not yet written */
	List	   *queued;			/* GoyaQueued* */
	List	   *actions;		/* GoyaAction* */
	List	   *artifacts;		/* Jsonb* rows for store_artifacts */
	HTAB	   *arrivals;		/* GoyaArrival by key */
	HTAB	   *maps;			/* GoyaMapProgress by key */
	List	   *calls;			/* GoyaCall* */
	GoyaBlame  *blame;			/* what runs or is written now; outside the batch, in the black box */
	const pg_uuid_t *aside;		/* a task that has to wait: something of it is locked; NULL: none */
	const GoyaBlame *convict;	/* a node whose error at commit is known: it fails with ... */
	Jsonb	   *convict_error;
	int			convict_class;
	HTAB	   *crashes;		/* nodes that crashed their process; NULL: none is known */
	bool		looked_for_crashes;
	uint32		wake;			/* GOYA_WAKE_ bits due at commit */
	HTAB	   *functions;		/* node_sql.c: calls by function and role, */
	HTAB	   *node_calls;		/* ... by node and role, */
	uint64		catalog_generation; /* ... valid until this changes */
} GoyaBatch;

/* What a finished node run is. */
typedef struct GoyaOutcome
{
	bool		ok;
	Jsonb	   *output;			/* when ok */
	Jsonb	   *error;			/* when not: {"code", "class", "message", "detail", "hint"} */
	int			error_class;	/* GOYA_ERR_ bit */
	int64		retry_after_ms; /* -1: not said */
	bool		final;			/* not to be tried again, whatever the node says */
	Jsonb	   *quantity;		/* what was used, {"unit": number}, when the call itself says; NULL: as the node's price says */
	bool		measured;		/* quantity goes before what the node's price says */
	bool		estimated;		/* quantity is a guess, in part */
	TimestampTz wait_until;		/* of a call: it is over, and the run waits for a callback until then; 0: the run is over */
} GoyaOutcome;

/* batch.c */
extern GoyaBatch *goya_batch_create(MemoryContext cxt, GoyaBatchMode mode, bool savepoints, int limit, GoyaBlame *blame);
extern HTAB *goya_batch_hash(GoyaBatch *b, const char *name, Size keysize, Size entrysize);
extern GoyaWork *goya_batch_push(GoyaBatch *b, GoyaTask *task, GoyaWorkKind kind, int node, int item, int attempt);
extern void goya_batch_run(GoyaBatch *b);	/* run all work, write everything; the caller commits */
extern GoyaAction *goya_batch_act(GoyaBatch *b, GoyaActionKind kind, GoyaTask *task, int node, int item, int attempt);
extern GoyaRecord *goya_batch_record(GoyaBatch *b, const GoyaWork *w, GoyaRunStatus status);
extern bool goya_batch_blame_end(GoyaBatch *b, const GoyaWork *w, GoyaOutcome *o);
extern bool goya_batch_convicted(GoyaBatch *b, const GoyaWork *w);
extern char *goya_batch_system_id(void);

/* task_rows.c */
extern void goya_batch_load_tasks(GoyaBatch *b, int n, const pg_uuid_t *ids);
extern GoyaTask *goya_batch_task(GoyaBatch *b, const pg_uuid_t *id);	/* NULL: not loaded */
extern void goya_batch_lock_tasks(GoyaBatch *b);
extern void goya_batch_leave_held(GoyaBatch *b);	/* marks the tasks that are known to be locked by others */
extern void goya_batch_write_tasks(GoyaBatch *b, List *tasks);

/* queue.c */
extern int	goya_batch_claim(GoyaBatch *b, GoyaLane lane);	/* rows claimed and turned into work */
extern GoyaQueued *goya_batch_queue(GoyaBatch *b, GoyaTask *task, int lane, int verb, int node, int item, int attempt, TimestampTz due);
extern uint32 goya_lane_wake(int lane);
extern int	goya_queue_lane(int lane, const pg_uuid_t *tenant, int priority, uint32 *wake);
extern void goya_queue_append(GoyaTable *t, int64 rank, int lane, int verb, const pg_uuid_t *task, int node, int item, int attempt, int tries);
extern void goya_queue_write(GoyaBatch *b);

/* completion.c */
extern void goya_completion_publish(List *tasks);

/* advance.c: the DAG */
extern void goya_advance_finish(GoyaBatch *b, const GoyaWork *w, GoyaOutcome *outcome, Jsonb *input, TimestampTz started_at, bool update);
extern void goya_advance_skip(GoyaBatch *b, const GoyaWork *w);
extern void goya_advance_start(GoyaBatch *b, const GoyaWork *w);
extern void goya_advance_fail_task(GoyaBatch *b, GoyaTask *task, Jsonb *error);
extern void goya_advance_join_ready(GoyaBatch *b, GoyaTask *task, int node, int fired, int failed);
extern void goya_advance_map_progress(GoyaBatch *b, GoyaTask *task, int node, int total, int next, int done, int failed, int step, Jsonb *error);
extern void goya_advance_resolve(GoyaBatch *b, GoyaTask *task, int node, bool ok);
extern void goya_advance_compensate(GoyaBatch *b, GoyaTask *task);

/* run_rows.c: rows of node runs */
extern void goya_run_row_append(GoyaTable *t, GoyaRecord *r, int epoch);
extern HeapTuple goya_run_row_running(GoyaTable *t, const GoyaWork *w, int epoch);	/* NULL: not running, or not of this epoch */
extern void goya_run_row_write(GoyaTable *t, GoyaRecord *r);

/* usage.c */
extern void goya_usage_write(GoyaBatch *b);	/* usage of the records to be written */
extern void goya_usage_settle(GoyaBatch *b);	/* holds and wallets, at the end */

/* flush.c, finish.c: writing */
extern void goya_flush_round(GoyaBatch *b);
extern void goya_flush_end(GoyaBatch *b);
extern void goya_flush_lock_wallets(GoyaBatch *b);

/* Run fn in a subtransaction when the batch has savepoints; false: it threw, and *error is what.  Without savepoints it just throws. */
extern bool goya_batch_try(GoyaBatch *b, void (*fn) (GoyaBatch *b, void *arg), void *arg, ErrorData **error);

/* scope.c: values for templates */
typedef struct GoyaNodeScope
{
	GoyaScope	scope;			/* must be first */
	GoyaBatch  *batch;
	GoyaTask   *task;
	int			item;
	Jsonb	   *item_value;
	bool		has_item;
	int			agent_node;		/* a hidden node of an agent, whose item is read when it is first asked for; else -1 */
	Jsonb	   *params;
	Jsonb	   *output;
} GoyaNodeScope;

extern GoyaValue *goya_scope_slot(GoyaBatch *b, GoyaTask *task, int node);
extern void goya_scope_init(GoyaNodeScope *s, GoyaBatch *b, GoyaTask *task, int node, int item);
extern void goya_scope_preload(GoyaBatch *b);	/* values that the batch's work is known to read */
extern void goya_scope_load(GoyaBatch *b, GoyaTask *task, const GoyaRefs *refs);
extern Jsonb *goya_scope_output(GoyaBatch *b, const GoyaTask *task, GoyaValue *v);	/* opened; throws as goya_value_open */
extern Jsonb *goya_scope_seal(const GoyaTask *task, Jsonb *value);	/* for its row: sealed, if the tenant wants it; throws */
extern const char *goya_scope_seal_text(const GoyaTask *task, const char *text);
extern Jsonb *goya_scope_input(GoyaNodeScope *s, int node);	/* the node's input, template or default */

/* node_*.c */
extern void goya_node_check_input(const GoyaNode *n, Jsonb *input); /* node_schema.c; throw when it does not fit */
extern void goya_node_check_output(const GoyaNode *n, Jsonb *output);
extern Jsonb *goya_node_wrap_input(const GoyaNode *n, GoyaScope *scope, Jsonb *input);
extern void goya_node_abort(void);	/* after an error was caught: pin, timeout, activity */
extern void goya_node_run(GoyaBatch *b, const GoyaWork *w); /* by kind; records or queues */
extern void goya_node_run_sql(GoyaBatch *b, const GoyaWork *w);
extern void goya_node_run_control(GoyaBatch *b, const GoyaWork *w);
extern void goya_node_run_map(GoyaBatch *b, const GoyaWork *w);
extern void goya_node_run_agent(GoyaBatch *b, const GoyaWork *w);
extern void goya_agent_run_ended(GoyaBatch *b, const GoyaWork *w, bool ok, Jsonb *result);
extern void goya_agent_wake(GoyaBatch *b, const GoyaWork *w);
extern void goya_agent_act(GoyaBatch *b, GoyaAction *a);
extern Jsonb *goya_agent_item(GoyaBatch *b, GoyaTask *task, int node, int item);
extern void goya_node_run_waiting(GoyaBatch *b, const GoyaWork *w);
extern void goya_node_wake(GoyaBatch *b, const GoyaWork *w);	/* verbs other than run */
extern void goya_node_open_stored(GoyaBatch *b, const GoyaTask *task, Jsonb **value, GoyaOutcome *o);	/* or o is why not */
extern bool goya_node_arm_signal(GoyaBatch *b, GoyaAction *a);	/* a signal was there already */
extern void goya_node_start_call(GoyaBatch *b, const GoyaWork *w);	/* engine */
extern void goya_node_finish_call(GoyaBatch *b, const GoyaWork *w, GoyaHttpResult *result, GoyaExchange *exchange, TimestampTz started_at);
extern int	goya_node_lane(const GoyaPlan *plan, int node);
extern int64 goya_interval_ms(Jsonb *value, const char *what);	/* seconds, or interval text; 22023 */
extern void goya_worker_offer(GoyaBatch *b, const GoyaWork *w, GoyaNodeScope *scope);
extern void goya_worker_write(GoyaAction *a);
extern bool goya_worker_result(GoyaBatch *b, const GoyaWork *w, GoyaOutcome *o);
extern bool goya_worker_timer(GoyaBatch *b, const GoyaWork *w, TimestampTz started_at, GoyaOutcome *o);

/* errors.c */
extern Jsonb *goya_error_make(const char *sqlstate, int error_class, const char *message, const char *detail, const char *hint);
extern Jsonb *goya_error_from_data(ErrorData *e, int *error_class);
extern bool goya_error_is_contention(const ErrorData *e);	/* others were in the way: the same may go well a moment later */
extern void goya_outcome_error(GoyaOutcome *o, ErrorData *e);

#endif
