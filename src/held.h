/*-------------------------------------------------------------------------
 * held.h
 *		Rows that clients keep locked: how long a worker waits for them, and which ones it has met.  See held.c.
 *-------------------------------------------------------------------------
 */
#ifndef GOYA_HELD_H
#define GOYA_HELD_H

#include "postgres.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "table.h"

/*
 * From limit on a worker waits for no lock longer than goya.lock_wait; lift gives the session's own lock_timeout back.  worker.c does both
 * around each transaction, node_sql.c lifts it for the user's function.
 */
extern void goya_held_limit(void);
extern void goya_held_lift(void);
extern void goya_held_hurry(void);	/* in this transaction even less: what it wants was locked before */

/* A row for which somebody else's lock stands in the way, within ms: GOYA_LOCK_HELD when it still does. */
extern GoyaLockResult goya_held_lock(GoyaTable *t, ItemPointer tid, long ms);

/* The wallet of this tenant is about to be locked; NULL: it is locked. */
extern void goya_held_want_wallet(const pg_uuid_t *tenant);

/* Rows under suspicion: met as locked, not yet met as free. */
extern void goya_held_note_task(const pg_uuid_t *task);
extern void goya_held_refresh(void);	/* in a transaction: forget those that are free */
extern bool goya_held_suspect(const pg_uuid_t *id);	/* of a task, or the tenant of a wallet */
extern bool goya_held_suspects_any(void);

/* An error: is it that a lock was not to be had within goya.lock_wait? */
extern bool goya_held_is_ours(int sqlerrcode);

/* After such an error: true when what was locked is under suspicion only now, so that trying again is worth it. */
extern bool goya_held_found(void);

/* How long a piece of work is put aside that was put aside so often. */
extern long goya_held_pause(int times);

/* The first time, and then sometimes, it is worth waiting for such a task. */
static inline bool
goya_held_waits(int times)
{
	return times % 4 == 0;
}

#endif
