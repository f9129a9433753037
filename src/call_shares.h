/* call_shares.h - how many outside calls of one tenant may be in flight.  In the engine.  See call_shares.c. */
#ifndef GOYA_CALL_SHARES_H
#define GOYA_CALL_SHARES_H

#include "postgres.h"
#include "utils/uuid.h"

extern void goya_shares_begin(int all); /* a claim begins, in its transaction; all: the most calls of all tenants together */
extern bool goya_shares_take(const pg_uuid_t *tenant);	/* false: this call has to wait, in its lane */
extern void goya_shares_return(const pg_uuid_t *tenant);	/* one that was taken comes to nothing in this claim */
extern void goya_shares_started(const pg_uuid_t *tenant);
extern void goya_shares_ended(const pg_uuid_t *tenant);
extern int	goya_shares_left(void); /* so many more calls may be started whose tenants are not known; 0 or less: none */
extern bool goya_shares_refused(void);	/* did calls have to wait in the last claim? */

#endif
