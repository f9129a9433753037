/*-------------------------------------------------------------------------
 * store.h
 *		Every SQL statement that goya's C code runs itself, as cached plans, and column-wise rows to feed them.
 *-------------------------------------------------------------------------
 */
#ifndef GOYA_STORE_H
#define GOYA_STORE_H

#include "postgres.h"
#include "executor/spi.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "identity.h"

typedef enum GoyaStatement
{
	GOYA_STMT_ACTIVE_TENANTS,
	GOYA_STMT_CANCEL_WANTED,
	GOYA_STMT_LOAD_VALUES,
	GOYA_STMT_LOAD_ITEMS,
	GOYA_STMT_LOAD_CONTEXTS,
	GOYA_STMT_LOAD_ASSET,
	GOYA_STMT_UPSERT_RUNS,
	GOYA_STMT_UPDATE_RUNS,
	GOYA_STMT_INSERT_PARKED,
	GOYA_STMT_INSERT_TIMERS,
	GOYA_STMT_UPSERT_JOINS,
	GOYA_STMT_START_JOINS,
	GOYA_STMT_DELETE_JOINS,
	GOYA_STMT_INSERT_MAPS,
	GOYA_STMT_UPDATE_MAPS,
	GOYA_STMT_DELETE_MAP,
	GOYA_STMT_MAP_OUTPUT,
	GOYA_STMT_FORGET_TASKS,
	GOYA_STMT_EXTEND_HOLDS,
	GOYA_STMT_CHARGED,
	GOYA_STMT_OPEN_WALLET,
	GOYA_STMT_PRICES,
	GOYA_STMT_PRICES_NEWEST,
	GOYA_STMT_STORE_ARTIFACTS,
	GOYA_STMT_APPLY_CONTEXT,
	GOYA_STMT_OPEN_RUNS,
	GOYA_STMT_TAKE_SIGNAL,
	GOYA_STMT_INSERT_APPROVAL,
	GOYA_STMT_LOAD_APPROVAL,
	GOYA_STMT_EXPIRE_APPROVAL,
	GOYA_STMT_OFFER_WORK,
	GOYA_STMT_TAKE_WORK,
	GOYA_STMT_DROP_WORK,
	GOYA_STMT_EXPIRE_LEASE,
	GOYA_STMT_LOAD_PROGRAM,
	GOYA_STMT_CALL_PROGRESS,
	GOYA_STMT_LOAD_CHILD,
	GOYA_STMT_AGENT_BEGIN,
	GOYA_STMT_AGENT_STEP,
	GOYA_STMT_AGENT_WAKE,
	GOYA_STMT_AGENT_ITEM,
	GOYA_STMT_END_TASK,
	GOYA_STMT_LOCK_WALLETS,
	GOYA_STMT_COMPLETION,
	GOYA_STMT_PUBLISH_COMPLETED,
	GOYA_STMT_COMPENSABLE,
	GOYA_STMT_COMPENSATED,
	GOYA_STMT_CANCEL_OPEN_RUNS,
	GOYA_STMT_DUE_TIMERS,
	GOYA_STMT_NEXT_TIMER,
	GOYA_STMT_DISPATCH_EVENTS,
	GOYA_STMT_DISPATCH_SINGLY,
	GOYA_STMT_EVENT_DOCUMENTS,
	GOYA_STMT_ROLE_MAY_SEE,
	GOYA_STMT_FIRE_INTERVALS,
	GOYA_STMT_PROCESS_CANCELS,
	GOYA_STMT_HAS_WORK,
	GOYA_STMT_START_EPOCH,
	GOYA_STMT_IS_COPY,
	GOYA_STMT_RECOVER_CALLS,
	GOYA_STMT_LOST_CALLS,
	GOYA_STMT_CHANNELS,
	GOYA_STMT_FIRE_CHANNEL,
	GOYA_STMT_LOAD_REVISION,
	GOYA_STMT_INSERT_KEY,
	GOYA_STMT_FIND_KEY,
	GOYA_STMT_INSERT_KEYS,
	GOYA_STMT_FIND_KEYS,
	GOYA_STMT_INIT_CONTEXT,
	GOYA_STMT_QUOTE,
	GOYA_STMT_MISSING_ASSET,
	GOYA_STMT_ASSET_EXISTS,
	GOYA_STMT_CHOOSE_CANDIDATE,
	GOYA_STMT_COUNT_CRASH,
	GOYA_STMT_SWEEP_CRASHES,
	GOYA_STMT_ANY_CRASHES,
	GOYA_STMT_LOAD_CRASHES,
	GOYA_STMT_FORGET_CRASHES,
	GOYA_STMT_LOAD_SECRET,
	GOYA_STMT_USE_SECRET,
	GOYA_STMT_WRITE_STREAMS,
	GOYA_STMT_TRIM_STREAMS,
	GOYA_STMT_END_STREAMS,
	GOYA_STMT_SWEEP_STREAMS,
	GOYA_STMT_MODEL_CALL,
	GOYA_STMT_KEEP_ANSWER,
	GOYA_STMT_EGRESS_RULES,
	GOYA_STMT_ADD_CALLBACK,
	GOYA_STMT_FIND_CALLBACK,
	GOYA_STMT_SPILL_ASSET,
	GOYA_STMT_ASSET_BYTES,
	GOYA_STMT_MCP_SERVER,
	GOYA_STMT_MCP_NOTE,
	GOYA_N_STATEMENTS
} GoyaStatement;

/* Around a group of statements: SPI, identity goya_owner.  The caller's memory context stays current in between. */
typedef struct GoyaStoreScope
{
	GoyaOwnerScope owner;
	MemoryContext caller;
} GoyaStoreScope;

extern void goya_store_enter(GoyaStoreScope *scope);
extern void goya_store_leave(GoyaStoreScope *scope);

/* Run a statement between enter and leave; results in SPI_tuptable and SPI_processed.  nulls may be NULL. */
extern void goya_store_run(GoyaStatement statement, Datum *args, const char *nulls);

/* Rows by column, fed to a statement as arrays. */
#define GOYA_MAX_COLUMNS 20
typedef struct GoyaRows
{
	int			ncols;
	Oid			types[GOYA_MAX_COLUMNS];	/* element types */
	int			n;
	int			max;
	Datum	   *values[GOYA_MAX_COLUMNS];
	bool	   *nulls[GOYA_MAX_COLUMNS];
} GoyaRows;

extern GoyaRows *goya_rows_create(int ncols, const Oid *types);
extern void goya_rows_add(GoyaRows *rows);	/* a row of nulls; set its columns next */
extern void goya_rows_uuid(GoyaRows *rows, int col, const pg_uuid_t *value);
extern void goya_rows_text(GoyaRows *rows, int col, const char *value); /* NULL: null */
extern void goya_rows_int4(GoyaRows *rows, int col, int32 value);
extern void goya_rows_int2(GoyaRows *rows, int col, int16 value);
extern void goya_rows_int8(GoyaRows *rows, int col, int64 value);
extern void goya_rows_time(GoyaRows *rows, int col, TimestampTz value); /* 0: null */
extern void goya_rows_jsonb(GoyaRows *rows, int col, Jsonb *value); /* NULL: null */
extern void goya_rows_run(GoyaStatement statement, GoyaRows *rows); /* columns become the statement's arguments, as arrays */

/* Results of the last statement, copied into the given context. */
extern bool goya_result_isnull(int row, int col);
extern Datum goya_result_datum(int row, int col);	/* by value types */
extern pg_uuid_t goya_result_uuid(int row, int col);
extern char *goya_result_text(int row, int col, MemoryContext cxt);	/* NULL for null */
extern Jsonb *goya_result_jsonb(int row, int col, MemoryContext cxt);	/* NULL for null */
extern int	goya_result_int4(int row, int col);
extern int64 goya_result_int8(int row, int col);
extern bool goya_result_bool(int row, int col);

#endif
