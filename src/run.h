/* run.h - starting tasks.  See run.c. */
#ifndef GOYA_RUN_H
#define GOYA_RUN_H

#include "postgres.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "plan_cache.h"
#include "store.h"
#include "table.h"

/* Everything a new task is made of.  Zero is the default of each field. */
typedef struct GoyaStart
{
	const pg_uuid_t *id;		/* made before; NULL: a new one */
	pg_uuid_t	tenant;
	const char *run_as;
	const char *created_by;
	const char *workflow_name;	/* or workflow */
	const pg_uuid_t *workflow;
	int			revision;		/* 0: the active one */
	Jsonb	   *input;
	const pg_uuid_t *asset;
	const char *idempotency_key;
	int			priority;
	const char *trace_id;
	bool		has_max_cost;
	int64		max_cost;
	TimestampTz run_at;			/* 0: now */
	int			depth;
	const pg_uuid_t *trigger_id;
	Jsonb	   *trigger;
	const pg_uuid_t *parent;
	bool		has_parent_node;
	int			parent_node;
	int			parent_item;
} GoyaStart;

/* Insert the task and its first queue row, as goya_owner.  Returns its id (that of the first task for a repeated key).  Throws. */
extern pg_uuid_t goya_run_start(const GoyaStart *s);

/* ----- the parts of a start, for run.c and run_many.c ----- */

/* Acting as goya_owner with SPI, entered when the first statement needs it. */
typedef struct GoyaRunSql
{
	bool		entered;
	GoyaStoreScope scope;
} GoyaRunSql;

extern void goya_run_need_sql(GoyaRunSql *sql);
extern void goya_run_end_sql(GoyaRunSql *sql);

extern void goya_run_caller(GoyaStart *s, const char *workflow);	/* s is made anew: tenant, roles, depth; throws 42501 */
extern void goya_run_check_options(const GoyaStart *s);
extern GoyaRevision *goya_run_revision(const GoyaStart *s, GoyaRunSql *sql);
extern void goya_run_check_input(GoyaRevision *r, Jsonb *input, const char *what);
extern void goya_run_asset_not_found(const pg_uuid_t *id) pg_attribute_noreturn();
extern void goya_run_check_key(const char *key);
extern void goya_run_key_taken(const char *key) pg_attribute_noreturn();
extern bytea *goya_run_request_hash(const GoyaStart *s, const pg_uuid_t *workflow);
extern void goya_run_init_context(const GoyaStart *s, GoyaRevision *r, const pg_uuid_t *id, GoyaRunSql *sql);
extern bool goya_run_hold_money(const GoyaStart *s, GoyaRevision *r, const pg_uuid_t *ids, int n, GoyaRunSql *sql);

extern GoyaTable *goya_run_open(GoyaTableId id, GoyaRunSql *sql);
extern void goya_run_write_task(GoyaTable *tasks, const GoyaStart *s, const pg_uuid_t *id, const GoyaRevision *r, const pg_uuid_t *hold);
extern bool goya_run_is_later(const GoyaStart *s);
extern GoyaRows *goya_run_create_timers(void);
extern void goya_run_queue(const GoyaStart *s, const pg_uuid_t *id, const GoyaRevision *r, GoyaTable *ready, GoyaRows *timers);	/* timers: NULL unless later */

#endif
