/* residue.h - what one owner's SQL may leave in an executor, and getting rid of it.  See residue.c. */
#ifndef GOYA_RESIDUE_H
#define GOYA_RESIDUE_H

#include "postgres.h"
#include "utils/uuid.h"

extern void goya_residue_watch(void);	/* once, when an executor starts */
extern void goya_residue_enter(Oid role, const pg_uuid_t *tenant);	/* before each SQL node: forget, if the last one was another's */
extern void goya_residue_between(const char *run_as, const pg_uuid_t *tenant);	/* the same, outside of subtransactions */
extern void goya_residue_scrub(void);	/* in a transaction, not inside a user's function */
extern bool goya_residue_worn(void);	/* so much is left that cannot be taken away that this process should end */

#endif
