/*-------------------------------------------------------------------------
 * uuid.c
 *		UUID version 7: 48 bits of milliseconds, a 12-bit counter that also takes the sub-millisecond part, 62 random bits.
 *
 * Ids made by one process are strictly increasing, also when the clock stands still or goes back.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/time.h>

#include "fmgr.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"

#include "goya.h"

/* 8 random bytes.  They are fetched for many ids at once, and never used by the child of the process that fetched them. */
static void
take_random(uint8 *to)
{
	static uint8 bytes[512];
	static int	used = sizeof(bytes);
	static int	fetched_by = 0;

	if (used == sizeof(bytes) || fetched_by != MyProcPid)
	{
		if (!pg_strong_random(bytes, sizeof(bytes)))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("could not generate random bytes for an id")));
		used = 0;
		fetched_by = MyProcPid;
	}
	memcpy(to, bytes + used, 8);
	used += 8;
}

void
goya_uuid_new(pg_uuid_t *id)
{
	static uint64 last = 0;		/* milliseconds << 12 | fraction */
	struct timeval tv;
	uint64		now;
	uint64		ms;

	gettimeofday(&tv, NULL);
	now = ((uint64) tv.tv_sec * 1000 + tv.tv_usec / 1000) << 12;
	now |= ((uint64) (tv.tv_usec % 1000) * 4096) / 1000;
	if (now <= last)
		now = last + 1;
	last = now;

	take_random(&id->data[8]);
	ms = pg_hton64((now >> 12) << 16);
	memcpy(id->data, &ms, 6);
	id->data[6] = 0x70 | ((now >> 8) & 0x0f);
	id->data[7] = now & 0xff;
	id->data[8] = 0x80 | (id->data[8] & 0x3f);
}

/* The usual text form, palloc'd. */
int
goya_uuid_compare(const void *a, const void *b)
{
	return memcmp(a, b, UUID_LEN);
}

char *
goya_uuid_text(const pg_uuid_t *id)
{
	return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(id)));
}

PG_FUNCTION_INFO_V1(goya_uuid_new_sql);
Datum
goya_uuid_new_sql(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	goya_uuid_new(id);
	PG_RETURN_UUID_P(id);
}
