/*-------------------------------------------------------------------------
 * value.h
 *		Inputs and outputs of tasks and node runs, sealed at rest for tenants that want it.  See value.c.
 *-------------------------------------------------------------------------
 */
#ifndef GOYA_VALUE_H
#define GOYA_VALUE_H

#include "postgres.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

/* Does the tenant want its values sealed?  Kept in memory; a change counts from its commit on.  In a transaction. */
extern bool goya_tenant_seals(const pg_uuid_t *tenant);

/* In the current context.  Throws 55000 without a master key, 54000 for what is too large. */
extern Jsonb *goya_value_seal(const pg_uuid_t *tenant, const Jsonb *value);

/* For its row: sealed, if the tenant wants it. */
extern Jsonb *goya_value_seal_if_wanted(const pg_uuid_t *tenant, Jsonb *value);

/* Has it the form of a sealed one?  Cheap for what has not. */
extern bool goya_value_is_sealed(const Jsonb *value);

/*
 * What was sealed, in the current context; the value itself when it is not sealed, or was not for this tenant.  NULL gives NULL.
 * Throws 55000 when the master key that it needs is not here.
 */
extern Jsonb *goya_value_open(const pg_uuid_t *tenant, Jsonb *value);

#endif
