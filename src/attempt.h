/*-------------------------------------------------------------------------
 * attempt.h
 *		How hard a batch tries: optimistic, with savepoints, one node at a time.
 *
 *		state		batch							on error					on success
 *		-----		-----							--------					----------
 *		OPTIMISTIC	many nodes, no subtransactions	-> SAVEPOINTS				stays
 *		SAVEPOINTS	many nodes, one subtransaction	-> SINGLE for as many		-> OPTIMISTIC
 *					each: a node's error is its		nodes as were claimed
 *					result
 *		SINGLE		one node per transaction: an	the node is convicted: its	-> OPTIMISTIC after the
 *					error when writing is its own	error is its result			last one
 *
 * Interrupted (cancel) and "task ended meanwhile" are nobody's fault: the batch is tried again as it was.  So is a deadlock or
 * serialization failure the first time; a node that raises one itself must not hold up its neighbours, so the second counts.  A full
 * disk is nobody's fault either: the batch waits, a little longer each time.  Nor is a row that somebody else keeps locked: when it is known
 * which, the batch is tried again as it was, without its task; else with more care, and the one that is alone is put aside (held.c).
 *-------------------------------------------------------------------------
 */
#ifndef GOYA_ATTEMPT_H
#define GOYA_ATTEMPT_H

#include "postgres.h"
#include "batch.h"

typedef enum GoyaCare
{
	GOYA_CARE_OPTIMISTIC, GOYA_CARE_SAVEPOINTS, GOYA_CARE_SINGLE
} GoyaCare;

typedef struct GoyaAttempt
{
	MemoryContext cxt;			/* of batches; reset for each */
	MemoryContext keep;			/* of the convict's error */
	GoyaCare	care;
	int			rows;			/* to claim at once: as many as were begun in goya.batch_time */
	int			singles;		/* left to do in SINGLE */
	int			faults;			/* errors in a row */
	int			claimed;		/* by the batch that failed */
	bool		nobodys;		/* the last error was no node's fault */
	bool		locked;			/* the last error: of what ran alone, something is locked by somebody else */
	pg_uuid_t	aside;			/* with locked: the task, which the next batch leaves out */
	GoyaBlame  *blame;			/* of this process */
	GoyaBlame	convict;
	Jsonb	   *convict_error;
	int			convict_class;
} GoyaAttempt;

extern GoyaAttempt *goya_attempt_create(void);
extern GoyaBatch *goya_attempt_batch(GoyaAttempt *a, GoyaBatchMode mode, int limit);
extern void goya_attempt_learn(GoyaAttempt *a, const GoyaBatch *b);
extern void goya_attempt_succeeded(GoyaAttempt *a, int claimed);

/* In a PG_CATCH, with the error still there: aborts the transaction and decides what is next.  Returns ms to pause. */
extern long goya_attempt_failed(GoyaAttempt *a, int claimed, const char *doing);

#endif
