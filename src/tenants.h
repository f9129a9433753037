/* tenants.h - what a tenant may have of what all share: its weight, and its highest priority.  See tenants.c. */
#ifndef GOYA_TENANTS_H
#define GOYA_TENANTS_H

#include "postgres.h"
#include "utils/uuid.h"

typedef struct GoyaTenantShare
{
	int			weight;			/* 1 to 1000 */
	int			max_priority;	/* -100 to 100 */
} GoyaTenantShare;

extern GoyaTenantShare goya_tenant_share(const pg_uuid_t *tenant);	/* in a transaction */

extern bool goya_tenants_several(void);	/* is there more than one tenant?  In a transaction */

/* The priority that a caller gets who asks for this one; 22023 if it is more than the tenant may have. */
extern int	goya_tenant_check_priority(const pg_uuid_t *tenant, int priority);

/* The same where nobody is there to be told: no more than the tenant may have now. */
extern int	goya_tenant_cap_priority(const pg_uuid_t *tenant, int priority);

#endif
