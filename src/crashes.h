/* crashes.h - nodes that crash their process: counted, run alone, in the end not run again.  See crashes.c. */
#ifndef GOYA_CRASHES_H
#define GOYA_CRASHES_H

#include "postgres.h"

#include "batch.h"

#define GOYA_MAX_CRASHES	3

/* The engine. */
extern bool goya_crashes_found(void);	/* there is something to count */
extern void goya_crashes_count(void);	/* in a transaction of its own; then, after commit: */
extern void goya_crashes_counted(void);

/* A batch. */
extern int	goya_crashes_of(GoyaBatch *b, const GoyaWork *w);	/* how often it has crashed its process */
extern bool goya_crashes_enough(GoyaBatch *b, const GoyaWork *w);	/* it is not to be run again */
extern void goya_crashes_fail(GoyaBatch *b, const GoyaWork *w);	/* it did so too often */
extern void goya_crashes_ended(GoyaBatch *b, const GoyaWork *w);	/* it has ended: its count can go */
extern void goya_crashes_write(GoyaBatch *b);

#endif
