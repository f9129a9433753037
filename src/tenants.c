/*-------------------------------------------------------------------------
 * tenants.c
 *		What a tenant may have of what all tenants share: its weight in the fair queue, and the highest priority of its tasks.
 *
 * Decided: each process keeps what it has read, tenant by tenant, with the version of goya.tenants (watch.c); not shared memory, in which it
 * would be somebody's duty to write what has changed, and where tenants whose ids have the same hash would have one weight.  So a change
 * counts from its COMMIT on, in sessions and workers alike; what is in the queue already keeps its place.  Nothing is read for a row of the
 * queue but when something changed: it costs a comparison of the tenant's id.
 *
 * Priority stands above fair queueing over all tenants, so it is the administrators' to give: asking for more than goya.tenants.max_priority
 * is an error.  What was made when a tenant might have more - triggers, tasks that are retried - goes on with what it may have now; tasks
 * made by a task have that one's.  Priority 0, which is what callers have that ask for none, is never an error: with a max_priority below it,
 * it is that.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "hash.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "goya.h"
#include "tenants.h"
#include "watch.h"

#define MAX_KEPT	10000

typedef struct Kept
{
	pg_uuid_t	tenant;			/* hash key */
	GoyaTenantShare share;
} Kept;

static HTAB *kept;
static uint64 kept_version;
static Kept *latest;			/* the one asked for last; NULL: none */

static void
forget(uint64 version)
{
	latest = NULL;
	if (kept != NULL)
		hash_destroy(kept);
	kept = NULL;
	kept = goya_hash_create("goya tenants' shares", 32, sizeof(pg_uuid_t), sizeof(Kept), TopMemoryContext);
	kept_version = version;
}

/* One that is not there any more has the least. */
static GoyaTenantShare
read_share(const pg_uuid_t *tenant)
{
	static const char *const columns[] = {"weight", "max_priority"};
	GoyaWatchKey key = {"id", F_UUID_EQ, UUIDPGetDatum(tenant)};
	List	   *rows = goya_watch_read(GOYA_WATCHED_TENANTS, "tenants_pkey", 1, &key, lengthof(columns), columns);
	GoyaTenantShare share = {.weight = 1,.max_priority = 0};

	if (rows != NIL)
	{
		GoyaWatchRow *row = linitial(rows);

		share.weight = Min(Max(DatumGetInt32(row->values[0]), 1), 1000);
		share.max_priority = DatumGetInt16(row->values[1]);
	}
	return share;
}

GoyaTenantShare
goya_tenant_share(const pg_uuid_t *tenant)
{
	uint64		version = goya_watch_version(GOYA_WATCH_IDENTITY);
	Kept	   *k;

	if (kept == NULL || version != kept_version || hash_get_num_entries(kept) > MAX_KEPT)
		forget(version);
	if (latest != NULL && goya_uuid_equal(&latest->tenant, tenant))
		return latest->share;
	k = hash_search(kept, tenant, HASH_FIND, NULL);
	if (k == NULL)
	{
		GoyaTenantShare share = read_share(tenant);	/* may throw */

		k = hash_search(kept, tenant, HASH_ENTER, NULL);
		k->share = share;
	}
	latest = k;
	return k->share;
}

bool
goya_tenants_several(void)
{
	static uint64 seen_version = 0;
	static bool several = false;
	static const char *const columns[] = {"id"};
	uint64		version = goya_watch_version(GOYA_WATCH_IDENTITY);

	if (version != seen_version)
	{
		several = list_length(goya_watch_read(GOYA_WATCHED_TENANTS, "tenants_pkey", 0, NULL, lengthof(columns), columns)) > 1;
		seen_version = version;
	}
	return several;
}

int
goya_tenant_cap_priority(const pg_uuid_t *tenant, int priority)
{
	return Min(priority, goya_tenant_share(tenant).max_priority);
}

int
goya_tenant_check_priority(const pg_uuid_t *tenant, int priority)
{
	int			max = goya_tenant_share(tenant).max_priority;

	if (priority == 0)
		return Min(max, 0);
	if (priority > max && priority <= 100)	/* beyond what any task has: said elsewhere */
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("priority %d is higher than this tenant's tasks may have", priority),
				 errdetail("The highest is %d: priority goes before the work of all tenants.", max),
				 errhint("Leave priority out, or ask an administrator to raise max_priority of the tenant in goya.tenants.")));
	return priority;
}

/* goya_private.check_priority(tenant_id, priority) */
PG_FUNCTION_INFO_V1(goya_check_priority_sql);
Datum
goya_check_priority_sql(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(goya_tenant_check_priority(PG_GETARG_UUID_P(0), PG_GETARG_INT32(1)));
}
