/*-------------------------------------------------------------------------
 * money.h
 *		What priced work costs and the money set aside for it: prices (prices.c), holds and wallets (escrow.c), usage (usage.c).
 *
 * All amounts are nano-units of the wallet's currency.  Everything here runs as goya_owner, between goya_store_enter and leave.
 *-------------------------------------------------------------------------
 */
#ifndef GOYA_MONEY_H
#define GOYA_MONEY_H

#include "postgres.h"

#include "access/htup.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "plan_cache.h"

#define GOYA_CURRENCY_SIZE 12	/* eight letters at most */

/* ----- prices.c ----- */

typedef struct GoyaPrice
{
	char	   *unit;
	bool		own;			/* the tenant's; false: everybody's */
	int64		amount;
	int64		per_units;
	TimestampTz effective_at;
	int64		generation;
} GoyaPrice;

/* All prices of a name for a tenant and currency: by unit, its own first, the newest first. */
typedef struct GoyaPrices
{
	char	   *name;
	int			n;
	GoyaPrice  *rows;
} GoyaPrices;

/* Knows all prices up to a generation.  Valid until the next call. */
extern const GoyaPrices *goya_prices_get(const pg_uuid_t *tenant, const char *currency, const char *name, int64 generation);

/* The price of the next unit that has one in force: *i counts from 0; NULL: no more. */
extern const GoyaPrice *goya_prices_next(const GoyaPrices *prices, int *i, TimestampTz at, int64 generation);
extern const GoyaPrice *goya_prices_find(const GoyaPrices *prices, const char *unit, TimestampTz at, int64 generation);	/* or NULL */

extern int64 goya_prices_generation(void);	/* the newest that is committed, for a task that starts now */

/* NULL quantity: one.  22003 when it does not fit. */
extern int64 goya_price_cost(Numeric quantity, const GoyaPrice *price);

/* What a task of a revision is expected to cost. */
extern int64 goya_price_quote(const pg_uuid_t *tenant, const char *currency, const GoyaRevision *revision);

/* ----- escrow.c ----- */

/* A task's hold.  Its id is the task's. */
typedef struct GoyaEscrow
{
	pg_uuid_t	id;
	HeapTuple	row;			/* as it is in the table; NULL: not loaded, or not there */
	pg_uuid_t	tenant;
	pg_uuid_t	wallet;
	char		currency[GOYA_CURRENCY_SIZE];
	int64		amount;
	int64		captured;
	int64		generation;		/* of prices */
	bool		open;
	int64		due;			/* to be captured, not written yet */
	int64		capture_seq;	/* of its entry in the ledger; 0: none */
	bool		settle;			/* the task has ended */
	bool		listed;			/* while a list without doubles is made */
} GoyaEscrow;

/* Read holds; the caller has locked their tasks.  The array is sorted by id. */
extern void goya_escrow_load(GoyaEscrow **escrows, int n);

/* Make holds that are too small for what is due larger, which captures it; PT402, 55000. */
extern void goya_escrow_extend(GoyaEscrow **escrows, int n);

/* Write what is due, and settle.  Loaded again when used after. */
extern void goya_escrow_write(GoyaEscrow **escrows, int n);

/* The holds of tasks that start: each of the quote for revision, or with revision NULL of limit.  limit -1: none.  PT402. */
extern void goya_escrow_start(const pg_uuid_t *tenant, const pg_uuid_t *tasks, int n, const GoyaRevision *revision, int64 limit);

/* ----- usage.c ----- */

/* A priced node run. */
typedef struct GoyaUse
{
	const pg_uuid_t *task;
	const pg_uuid_t *tenant;
	const char *trace_id;
	TimestampTz created_at;		/* of the task */
	GoyaEscrow *escrow;			/* loaded; NULL: the task has no hold */
	const char *node;
	int			item;
	int			attempt;
	const char *name;			/* of the price */
	Jsonb	   *quantity;		/* NULL: one */
	bool		estimated;		/* it is a guess, in part */
	const char *cost_tag;		/* NULL: none */
	int64		cost;			/* out */
} GoyaUse;

struct GoyaBatch;

/* Writes usage rows and makes their cost due; a node run that has usage already is 23505. */
extern void goya_usage_record(struct GoyaBatch *b, GoyaUse *uses, int n);	/* b: NULL when it is of none */

#endif
