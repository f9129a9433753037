/*-------------------------------------------------------------------------
 * calls_internal.h
 *		What calls.c and calls_recover.c share.  For them only.
 *-------------------------------------------------------------------------
 */
#ifndef GOYA_CALLS_INTERNAL_H
#define GOYA_CALLS_INTERNAL_H

#include "attempt.h"
#include "calls.h"
#include "exchange.h"

typedef struct InFlight
{
	uint64		id;				/* hash key: the transfer's */
	pg_uuid_t	task;
	pg_uuid_t	tenant;
	int			node;
	int			item;
	int			attempt;
	int64		rank;
	TimestampTz started_at;
	GoyaExchange *exchange;		/* NULL: one request */
	TimestampTz resume_at;		/* the next request goes out then; 0: one is out */
	bool		cancelled;		/* while none was out */
	TimestampTz cut_at;			/* enough came of the answer: the transfer ends then; 0: not so */
} InFlight;

/* A result that waits to be recorded. */
typedef struct CallResult
{
	InFlight	call;
	GoyaHttpResult *http;
	MemoryContext cxt;
	bool		is_held;		/* in this batch: its task is locked by somebody else */
	int			held;			/* so often put off for that */
	TimestampTz due;			/* put off until then */
} CallResult;

struct GoyaCalls
{
	MemoryContext cxt;
	GoyaHttp   *http;
	HTAB	   *in_flight;
	TimestampTz next_resume;	/* the earliest resume_at; DT_NOEND: none */
	uint64		next_id;
	int			epoch;
	Oid			extension;
	GoyaAttempt *claims;
	GoyaAttempt *share_claims;	/* of GOYA_LANE_SHARE */
	bool		share_first;	/* that lane's turn came first */
	GoyaAttempt *records;
	List	   *results;		/* CallResult*, oldest first */
	GoyaAttempt *again;			/* recording of what was put off */
	List	   *put_off;		/* CallResult* whose task is locked by somebody else */
	TimestampTz next_put_off;	/* the earliest due of them; DT_NOEND: none */
	TimestampTz next_recover;	/* lost calls of such tasks: look again; DT_NOEND: none */
};

/* calls_results.c */
extern List *goya_calls_take_results(GoyaCalls *c); /* to be recorded now: */
extern List *goya_calls_take_put_off(GoyaCalls *c); /* ... of those that were put off */
extern void goya_calls_dispose(GoyaCalls *c, List *results, bool keep, bool off);

#endif
