/*-------------------------------------------------------------------------
 * calls.h
 *		Outside calls of the engine: claimed in one transaction, made with none open, recorded in another.  See calls.c.
 *-------------------------------------------------------------------------
 */
#ifndef GOYA_CALLS_H
#define GOYA_CALLS_H

#include "postgres.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "http.h"

typedef struct GoyaCalls GoyaCalls;

extern GoyaCalls *goya_calls_create(GoyaHttp *http, int epoch, Oid extension);
extern void goya_calls_recover(GoyaCalls *c);	/* what an earlier engine left running */
extern bool goya_calls_claim(GoyaCalls *c); /* true: there may be more */
extern bool goya_calls_record(GoyaCalls *c);	/* results that have come; true: there are more */
extern TimestampTz goya_calls_next(GoyaCalls *c);	/* when there is something to record without a result coming in */
extern int	goya_calls_in_flight(GoyaCalls *c);
extern bool goya_calls_full(GoyaCalls *c);

/* What calls may be waiting for, as bits: when one is no longer set, there may be something to claim. */
#define GOYA_CALLS_NO_ROOM	0x01
#define GOYA_CALLS_NO_SHARE 0x02	/* a tenant has its share */
extern uint32 goya_calls_lack(GoyaCalls *c);

extern void goya_calls_interrupt(GoyaCalls *c, const pg_uuid_t *task);
extern Jsonb *goya_calls_used(GoyaCalls *c, const pg_uuid_t *task); /* by those of a task; NULL: nothing is known */

#endif
