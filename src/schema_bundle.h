/* schema_bundle.h - schemas with the registered documents they refer to.  See schema_bundle.c. */
#ifndef GOYA_SCHEMA_BUNDLE_H
#define GOYA_SCHEMA_BUNDLE_H

#include "utils/jsonb.h"
#include "utils/uuid.h"

/* Which rows of goya.schemas are seen. */
typedef struct GoyaSchemaStamp
{
	pg_uuid_t	tenant;
	bool		has_tenant;
	LocalTransactionId transaction;
	SubTransactionId subtransaction;
	CommandId	command;
	TransactionId xmin;
	TransactionId xmax;
	uint32		running;
} GoyaSchemaStamp;

extern Jsonb *goya_schema_bundle(Jsonb *schema);
extern void goya_schema_stamp(GoyaSchemaStamp *stamp);
extern bool goya_schema_same_stamp(const GoyaSchemaStamp *a, const GoyaSchemaStamp *b);

#endif
