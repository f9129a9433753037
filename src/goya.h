/*-------------------------------------------------------------------------
 * goya.h
 *		What every module of goya shares: version guards, names, the sqlstates that are API, the lanes and verbs of the queue.
 *-------------------------------------------------------------------------
 */
#ifndef GOYA_H
#define GOYA_H

#include "postgres.h"
#include "fmgr.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#define GOYA_OWNER_ROLE		"goya_owner"
#define GOYA_EXECUTOR_ROLE	"goya_executor"
#define GOYA_LISTENER_ROLE	"goya_listener"

/* SQLSTATEs that front ends map to HTTP: PTnnn becomes status nnn in PostgREST. */
#define GOYA_ERR_NOT_FOUND	MAKE_SQLSTATE('P', 'T', '4', '0', '4')
#define GOYA_ERR_NO_MONEY	MAKE_SQLSTATE('P', 'T', '4', '0', '2')
#define GOYA_ERR_TOO_MANY	MAKE_SQLSTATE('P', 'T', '4', '2', '9')

/* Lanes of goya_private.ready: who takes a row. */
typedef enum GoyaLane
{
	GOYA_LANE_EXECUTOR = 0,		/* executors, in batches */
	GOYA_LANE_ENGINE = 1,		/* outside calls */
	GOYA_LANE_WAKE = 2,			/* wake-ups of waiting node runs: executors, no user code */
	GOYA_LANE_ALONE = 3,		/* slow or unmeasured SQL: executors, one per transaction */
	GOYA_LANE_LATE = 4,			/* what should have been in the batches that run now: see latecomers.c */
	GOYA_LANE_SHARE = 5			/* outside calls of tenants that had their share: the engine, see call_shares.c */
} GoyaLane;

/* Verbs of goya_private.ready: what to do with the node. */
typedef enum GoyaVerb
{
	GOYA_VERB_RUN = 0,			/* node -1: start all roots */
	GOYA_VERB_TIMER = 1,
	GOYA_VERB_SIGNAL = 2,
	GOYA_VERB_CHILD = 3,
	GOYA_VERB_DECISION = 4
} GoyaVerb;

static inline bool
goya_uuid_equal(const pg_uuid_t *a, const pg_uuid_t *b)
{
	return memcmp(a->data, b->data, UUID_LEN) == 0;
}

/* uuid.c */
extern void goya_uuid_new(pg_uuid_t *id);
extern int	goya_uuid_compare(const void *a, const void *b);	/* for qsort and bsearch of what begins with one */
extern char *goya_uuid_text(const pg_uuid_t *id);

/* goya.c */
extern void goya_require_preload(void);

#endif
