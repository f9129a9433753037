/* run.h - starting tasks.  See run.c. */
#ifndef GOYA_RUN_H
#define GOYA_RUN_H

#include "postgres.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

/* Everything a new task is made of.  Zero is the default of each field. */
typedef struct GoyaStart
{
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

#endif
