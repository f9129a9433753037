/* plan_cache.h - compiled plans of revisions, per process.  See plan_cache.c. */
#ifndef GOYA_PLAN_CACHE_H
#define GOYA_PLAN_CACHE_H

#include "postgres.h"
#include "utils/uuid.h"

#include "plan.h"
#include "schema.h"

typedef struct GoyaRevision
{
	pg_uuid_t	workflow;
	int			revision;
	GoyaPlan   *plan;
	Jsonb	   *resolved;		/* the definition it was compiled from */
	GoyaSchema *input_schema;	/* or NULL */
} GoyaRevision;

/* Between goya_store_enter and leave.  NULL when there is no such revision.  Valid until the next call of goya_plan_cache_trim. */
extern GoyaRevision *goya_plan_cache_get(const pg_uuid_t *workflow, int revision);
extern GoyaRevision *goya_plan_cache_find(const pg_uuid_t *workflow, int revision);	/* the same without reading: NULL when it is not there */
extern void goya_plan_cache_trim(void); /* between batches: keeps memory bounded */

#endif
