/*-------------------------------------------------------------------------
 * black_box.h
 *		What each worker runs now, kept where the death of the process cannot take it.  See black_box.c.
 *-------------------------------------------------------------------------
 */
#ifndef GOYA_BLACK_BOX_H
#define GOYA_BLACK_BOX_H

#include "postgres.h"

#include "batch.h"

#define GOYA_ENDED_BY_EXIT	(-1)	/* the process ended itself */
#define GOYA_ENDED_BY_FORCE	(-2)	/* goya ended it: the node went on after it was told to end */

/* What a process that died was doing. */
typedef struct GoyaEvidence
{
	GoyaBlame	what;
	pid_t		pid;
	int			signal;			/* a fault's; 0: not known, as of SIGKILL */
	int			box;			/* for goya_black_box_clear */
} GoyaEvidence;

/* In the postmaster. */
extern void goya_black_box_create(void);	/* while preloading */
extern void goya_black_box_restart(void);	/* all other processes are gone: at the start, and after each crash */

/* In a worker. */
extern void goya_black_box_attach(Oid dboid);
extern GoyaBlame *goya_black_box_blame(void);	/* what this process does now: never NULL */
extern void goya_black_box_on_sigterm(SIGNAL_ARGS);
extern void goya_black_box_by_force(bool force);	/* that it ends is goya's doing; also in a signal handler */
extern bool goya_black_box_told_to_end(void);	/* by SIGTERM: that it ends is no failure */

/* For the engine: what was found of its database.  from is 0 at first. */
extern bool goya_black_box_next(Oid dboid, int *from, GoyaEvidence *evidence);
extern void goya_black_box_clear(int box);

#endif
