/*-------------------------------------------------------------------------
 * fairness.c
 *		Whose turn it is: ranks of the queue, and how long SQL functions take.
 *
 * Start-time fair queueing: a row's rank is the newest virtual time its tenant was given, or that of the head of the queue if that is
 * later, plus its cost divided by the tenant's weight; priority stands above it.  Clocks are atomics in shared memory, tenants hash to
 * slots: a collision makes two tenants share one turn, in which each pays by its own weight; a restart makes everybody equal again; and
 * neither loses work.  Tenants' clocks are finer than ranks, so that a cost divided by any weight up to 1000 is not rounded away.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#include "goya.h"
#include "shmem.h"
#include "tenants.h"

/* ----- the fair queue ----- */

/* Rank: 15 bits of inverted priority above 48 bits of virtual time. */
#define RANK_TIME_BITS 48

#define CLOCK_STEPS 1000		/* of a tenant's clock, in one of virtual time */

static int64
rank_at(int priority, uint64 time)
{
	priority = Min(Max(priority, -100), 100);
	return ((int64) (100 - priority) << RANK_TIME_BITS) | (int64) GOYA_RANK_TIME(time);
}

static pg_atomic_uint64 *
clock_of(const pg_uuid_t *tenant)
{
	return &goya_shared->tenant_last[hash_bytes(tenant->data, UUID_LEN) % GOYA_TENANT_SLOTS];
}

int64
goya_rank_next(Oid dboid, const pg_uuid_t *tenant, int priority, int units)
{
	uint64		time = 0;
	uint64		head = 0;

	if (goya_shared != NULL)
	{
		uint64		cost = (uint64) units * GOYA_RANK_UNIT * CLOCK_STEPS / goya_tenant_share(tenant).weight;
		GoyaEngineSlot *slot = goya_shmem_engine(dboid, false);
		pg_atomic_uint64 *last = clock_of(tenant);
		uint64		seen = pg_atomic_read_u64(last);

		if (slot != NULL)
			head = pg_atomic_read_u64(&slot->queue_head) * CLOCK_STEPS;
		do
			time = Max(seen, head) + cost;
		while (!pg_atomic_compare_exchange_u64(last, &seen, time));
	}
	return rank_at(priority, time / CLOCK_STEPS);
}

/* The newest rank that the tenant was given. */
int64
goya_rank_last(const pg_uuid_t *tenant, int priority)
{
	return rank_at(priority, pg_atomic_read_u64(clock_of(tenant)) / CLOCK_STEPS);
}

void
goya_rank_served(Oid dboid, int64 rank)
{
	GoyaEngineSlot *slot = goya_shmem_engine(dboid, false);
	uint64		time = GOYA_RANK_TIME(rank);
	uint64		seen;

	if (slot == NULL)
		return;
	seen = pg_atomic_read_u64(&slot->queue_head);
	while (seen < time && !pg_atomic_compare_exchange_u64(&slot->queue_head, &seen, time))
		;
}

/* ----- speed of functions ----- */

static GoyaFunctionSpeed *
function_slot(Oid funcid, uint64 *key)
{
	*key = ((uint64) MyDatabaseId << 32) | funcid;
	return &goya_shared->functions[hash_bytes((unsigned char *) key, sizeof(*key)) % GOYA_FUNCTION_SLOTS];
}

#define MEASURING PG_UINT32_MAX

/*
 * Microseconds of one call; GOYA_UNMEASURED, and now it is the caller's to measure; or GOYA_BEING_MEASURED by somebody.
 */
int
goya_function_usec(Oid funcid)
{
	uint64		key;
	GoyaFunctionSpeed *f = function_slot(funcid, &key);
	uint64		seen = pg_atomic_read_u64(&f->key);
	uint32		usec;

	if (seen != key)
	{
		if (!pg_atomic_compare_exchange_u64(&f->key, &seen, key))
			return GOYA_BEING_MEASURED;
		pg_atomic_write_u32(&f->usec, MEASURING);
		pg_atomic_write_u32(&f->locks_wallets, 0);
		f->since = GetCurrentTimestamp();
		return GOYA_UNMEASURED;
	}
	usec = pg_atomic_read_u32(&f->usec);
	return usec == MEASURING ? GOYA_BEING_MEASURED : (int) usec;
}

/* Has measuring gone on for so long that the function must be a slow one? */
bool
goya_function_looks_slow(Oid funcid)
{
	uint64		key;
	GoyaFunctionSpeed *f = function_slot(funcid, &key);

	return TimestampDifferenceExceeds(f->since, GetCurrentTimestamp(), 100);
}

/* A moving average; a collision of two functions only makes one of them look unmeasured. */
void
goya_function_measured(Oid funcid, uint64 usec)
{
	uint64		key;
	GoyaFunctionSpeed *f = function_slot(funcid, &key);
	uint32		value = (uint32) Min(usec, 1000000000);
	uint32		old = pg_atomic_read_u32(&f->usec);

	if (pg_atomic_read_u64(&f->key) == key && old != MEASURING)
		value = (old / 8) * 7 + value / 8;
	else
		pg_atomic_write_u64(&f->key, key);
	pg_atomic_write_u32(&f->usec, value);
}

/* Did it ever lock a wallet?  Forgotten when another function takes its place. */
bool
goya_function_locks_wallets(Oid funcid)
{
	uint64		key;
	GoyaFunctionSpeed *f = function_slot(funcid, &key);

	return pg_atomic_read_u32(&f->locks_wallets) != 0 && pg_atomic_read_u64(&f->key) == key;
}

void
goya_function_mark_wallets(Oid funcid)
{
	uint64		key;
	GoyaFunctionSpeed *f = function_slot(funcid, &key);

	if (pg_atomic_read_u64(&f->key) == key)
		pg_atomic_write_u32(&f->locks_wallets, 1);
}

PG_FUNCTION_INFO_V1(goya_rank_next_sql);
Datum
goya_rank_next_sql(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	PG_RETURN_INT64(goya_rank_next(MyDatabaseId, PG_GETARG_UUID_P(0), PG_GETARG_INT32(1), PG_GETARG_INT32(2)));
}
