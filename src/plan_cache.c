/*-------------------------------------------------------------------------
 * plan_cache.c
 *		Compiled plans of workflow revisions, cached per process.
 *
 * A revision never changes, so an entry never goes stale; it may only go unused.  Not so one whose row this session made and has not committed
 * yet: it may be rolled back, and the number given to another definition.  Such an entry is compared with the row each time.
 *
 * Memory: one context per plan under "goya plans".
 * Entries are thrown away between batches, all at once, when there are more than MAX_PLANS or their memory passes MAX_BYTES: users of
 * an entry hold plain pointers for the length of a batch or call.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "hash.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "goya.h"
#include "json_util.h"
#include "plan_cache.h"
#include "store.h"

#define MAX_PLANS 10000
#define MAX_BYTES (64 * 1024 * 1024)

typedef struct PlanKey
{
	pg_uuid_t	workflow;
	int			revision;
} PlanKey;

typedef struct PlanEntry
{
	PlanKey		key;
	bool		committed;		/* the row was, when it was read */
	GoyaRevision revision;
} PlanEntry;

static MemoryContext plans_context = NULL;
static HTAB *plans = NULL;

static void
create_cache(void)
{
	plans_context = AllocSetContextCreate(TopMemoryContext, "goya plans", ALLOCSET_DEFAULT_SIZES);
	plans = goya_hash_create("goya plans", 64, sizeof(PlanKey), sizeof(PlanEntry), plans_context);
}

static bool
compile(GoyaRevision *r, Jsonb *resolved)
{
	List	   *problems = NIL;
	MemoryContext old;
	char	   *error;

	r->plan = goya_plan_compile(resolved, true, plans_context, NULL, &problems);
	if (r->plan == NULL)
	{
		GoyaProblem *p = problems ? linitial(problems) : NULL;

		ereport(WARNING,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("published revision %d of workflow %s does not compile: %s", r->revision, goya_uuid_text(&r->workflow),
						p ? p->message : "no problem named")));
		return false;
	}
	old = MemoryContextSwitchTo(r->plan->cxt);
	r->resolved = goya_json_copy(resolved);
	r->input_schema = r->plan->input_schema ? goya_schema_compile(r->plan->input_schema, &error) : NULL;
	MemoryContextSwitchTo(old);
	return true;
}

static PlanKey
make_key(const pg_uuid_t *workflow, int revision)
{
	PlanKey		key;

	memset(&key, 0, sizeof(key));
	key.workflow = *workflow;
	key.revision = revision;
	return key;
}

GoyaRevision *
goya_plan_cache_find(const pg_uuid_t *workflow, int revision)
{
	PlanKey		key = make_key(workflow, revision);
	PlanEntry  *entry;

	if (plans == NULL)
		create_cache();
	entry = hash_search(plans, &key, HASH_FIND, NULL);
	return entry != NULL && entry->committed ? &entry->revision : NULL;
}

static bool
same_jsonb(const Jsonb *a, const Jsonb *b)
{
	return VARSIZE(a) == VARSIZE(b) && memcmp(a, b, VARSIZE(a)) == 0;
}

GoyaRevision *
goya_plan_cache_get(const pg_uuid_t *workflow, int revision)
{
	PlanKey		key = make_key(workflow, revision);
	GoyaRevision *known = goya_plan_cache_find(workflow, revision);
	PlanEntry  *entry;
	Datum		args[2];
	Jsonb	   *resolved;
	GoyaRevision made;
	bool		committed;

	if (known != NULL)
		return known;
	args[0] = UUIDPGetDatum(workflow);
	args[1] = Int32GetDatum(revision);
	goya_store_run(GOYA_STMT_LOAD_REVISION, args, NULL);
	if (SPI_processed == 0)
		return NULL;
	resolved = goya_result_jsonb(0, 1, CurrentMemoryContext);
	committed = !TransactionIdIsCurrentTransactionId(DatumGetTransactionId(goya_result_datum(0, 2)));
	entry = hash_search(plans, &key, HASH_FIND, NULL);
	if (entry == NULL || !same_jsonb(entry->revision.resolved, resolved))
	{
		memset(&made, 0, sizeof(made));
		made.workflow = *workflow;
		made.revision = revision;
		if (!compile(&made, resolved))
			return NULL;
		entry = hash_search(plans, &key, HASH_ENTER, NULL);
		entry->revision = made;
	}
	entry->committed = committed;
	return &entry->revision;
}

void
goya_plan_cache_trim(void)
{
	static long checked = 0;	/* adding up the memory of many contexts is not for every batch */

	if (plans == NULL || hash_get_num_entries(plans) == checked)
		return;
	checked = hash_get_num_entries(plans);
	if (checked <= MAX_PLANS && MemoryContextMemAllocated(plans_context, true) <= MAX_BYTES)
		return;
	MemoryContextDelete(plans_context);
	plans_context = NULL;
	plans = NULL;
}
