/* workflow_cache.h - workflows by name or id, and which events anybody waits for, per process.  See workflow_cache.c. */
#ifndef GOYA_WORKFLOW_CACHE_H
#define GOYA_WORKFLOW_CACHE_H

#include "postgres.h"
#include "utils/array.h"
#include "utils/uuid.h"

typedef struct GoyaWorkflow
{
	pg_uuid_t	id;
	pg_uuid_t	tenant;
	bool		enabled;
	int			revision;		/* 0: none published */
	char	   *visibility;
	char	   *owner;			/* role */
	ArrayType  *roles;			/* name[]: who sees it when visibility is role */
} GoyaWorkflow;

/* Valid until the next call; NULL: the tenant has none.  Who may see it is the caller's to ask. */
extern const GoyaWorkflow *goya_workflow_named(const pg_uuid_t *tenant, const char *name);
extern const GoyaWorkflow *goya_workflow_with_id(const pg_uuid_t *tenant, const pg_uuid_t *id);

/* Does an enabled trigger of an enabled, published workflow of the tenant want events of this type? */
extern bool goya_event_wanted(const pg_uuid_t *tenant, const char *type);

#endif
