/* dispatch.h - a batch of events on their way to become tasks.  See dispatch.c and dispatch_match.c. */
#ifndef GOYA_DISPATCH_H
#define GOYA_DISPATCH_H

#include "postgres.h"
#include "nodes/pg_list.h"
#include "utils/array.h"

#include "run.h"

typedef struct GoyaWaiter
{
	pg_uuid_t	id;
	char	   *name;
	Datum		filter;			/* 0: none */
	Jsonb	   *input;			/* NULL: what an event gives by itself */
	bool		allow_own_output;
	int			max_depth;
	GoyaStart	start;			/* what all its tasks have in common */
	GoyaRevision *revision;		/* NULL: no task of it yet */
	List	   *matches;
} GoyaWaiter;

/* What waits for events of one type of one tenant. */
typedef struct GoyaWaiting
{
	pg_uuid_t	tenant;
	char	   *type;
	List	   *triggers;
	bool		needs_document; /* for a filter or input of one of them */
} GoyaWaiting;

typedef struct GoyaEvent
{
	pg_uuid_t	id;
	pg_uuid_t	tenant;
	GoyaWaiting    *waiting;		/* NULL: the event is gone */
	char	   *type;
	bool		no_subject;
	pg_uuid_t	subject;
	Jsonb	   *data;
	bool		no_task;
	pg_uuid_t	task;
	int			depth;
	TimestampTz created_at;
	bool		is_asset;		/* the subject, an asset of the tenant; then: who may see it */
	char	   *visibility;
	NameData	owner;
	ArrayType  *roles;			/* NULL unless somebody must be asked */
	bool		task_found;		/* the task that caused it, and what it is a task of */
	pg_uuid_t	task_workflow;
	Jsonb	   *document;		/* event, asset and task: when waiting needs it */
	Jsonb	   *described;		/* the event, as tasks are told */
	Jsonb	   *input;			/* of tasks of triggers without one */
} GoyaEvent;

typedef struct GoyaMatch
{
	GoyaEvent	   *event;
	GoyaWaiter *trigger;
	pg_uuid_t	task;
	Datum		slot;			/* text */
	Jsonb	   *input;
	Jsonb	   *cause;			/* what the task is told of it */
	bool		held;			/* money */
} GoyaMatch;

/* A batch. */
typedef struct GoyaDispatch
{
	int			n;
	GoyaEvent	   *events;			/* by tenant and id */
	List	   *waiting;		/* of GoyaWaiting, in the order of tenants */
	List	   *matches;		/* of GoyaMatch */
	GoyaRunSql	sql;
} GoyaDispatch;

extern GoyaRows *goya_dispatch_rows(void);
extern void goya_dispatch_add_row(GoyaRows *rows, const GoyaEvent *e);
extern void goya_dispatch_match(GoyaDispatch *b);

#endif
