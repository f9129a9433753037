/*-------------------------------------------------------------------------
 * egress.c
 *		The rules of goya.egress_rules, compiled for the thread of transfers and kept in the engine's memory.
 *
 * A tenant's rules are read in the transaction that claims its call and are the call's from then on: a rule that changes while a call is
 * in flight counts for the next one.  Tenants without rules, which is most, cost a look into a hash table per call.
 *
 * Memory: "goya egress", for the life of the process, emptied when the table changes; the rules themselves are malloc'd and counted, since
 * transfers outlive what is kept here.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <arpa/inet.h>

#include "catalog/pg_type.h"
#include "hash.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "egress.h"
#include "store.h"
#include "watch.h"

#define MAX_TENANTS 10000

typedef struct Entry
{
	pg_uuid_t	tenant;			/* hash key */
	GoyaEgress *rules;			/* NULL: there are none */
} Entry;

typedef struct Held
{
	MemoryContextCallback callback;
	GoyaEgress *rules;
} Held;

static HTAB *entries = NULL;
static uint64 version = 0;

static void
forget_all(void)
{
	HASH_SEQ_STATUS seq;
	Entry	   *entry;

	if (entries == NULL)
		return;
	hash_seq_init(&seq, entries);
	while ((entry = hash_seq_search(&seq)) != NULL)
		goya_egress_release(entry->rules);
	hash_destroy(entries);
	entries = NULL;
}

static void
refresh(void)
{
	uint64		now = goya_watch_version(GOYA_WATCH_EGRESS);

	if (entries != NULL && now == version && hash_get_num_entries(entries) < MAX_TENANTS)
		return;
	forget_all();
	entries = goya_hash_create("goya egress", 32, sizeof(pg_uuid_t), sizeof(Entry), TopMemoryContext);
	version = now;
}

/* The columns of GOYA_STMT_EGRESS_RULES. */
static void
read_rule(int row, GoyaEgressRule *r)
{
	char	   *scheme = goya_result_text(row, 4, CurrentMemoryContext);
	char	   *address = goya_result_text(row, 8, CurrentMemoryContext);

	memset(r, 0, sizeof(*r));
	r->id = goya_result_int8(row, 1);
	r->by_admin = goya_result_bool(row, 2);
	r->allow = strcmp(goya_result_text(row, 3, CurrentMemoryContext), "allow") == 0;
	r->http = scheme == NULL || strcmp(scheme, "http") == 0;
	r->https = scheme == NULL || strcmp(scheme, "https") == 0;
	r->host = goya_result_text(row, 5, CurrentMemoryContext);
	r->port_from = goya_result_int4(row, 6);
	r->port_to = goya_result_int4(row, 7);
	r->bits = -1;
	if (address == NULL)
		return;
	r->bits = goya_result_int4(row, 9);
	r->v4 = inet_pton(AF_INET, address, r->network) == 1;
	if (!r->v4 && inet_pton(AF_INET6, address, r->network) != 1)
		elog(ERROR, "rule " INT64_FORMAT " of goya.egress_rules has a network that is none", r->id);
}

static GoyaEgress *
read_rules(const pg_uuid_t *tenant)
{
	GoyaStoreScope scope;
	GoyaEgress *made = NULL;
	Datum		args[1];
	int			n;

	args[0] = UUIDPGetDatum(tenant);
	goya_store_enter(&scope);
	goya_store_run(GOYA_STMT_EGRESS_RULES, args, NULL);
	n = (int) SPI_processed;
	if (n > 0)
	{
		GoyaEgressRule *rules = palloc(sizeof(GoyaEgressRule) * n);

		for (int i = 0; i < n; i++)
			read_rule(i, &rules[i]);
		made = goya_egress_make(rules, n);
		if (made == NULL)
			ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory for the egress rules of a tenant")));
	}
	goya_store_leave(&scope);
	return made;
}

static void
release_held(void *arg)
{
	goya_egress_release(((Held *) arg)->rules);
}

GoyaEgress *
goya_egress_for(const pg_uuid_t *tenant, MemoryContext cxt)
{
	Entry	   *entry;
	Held	   *held;

	refresh();
	entry = hash_search(entries, tenant, HASH_FIND, NULL);
	if (entry == NULL)
	{
		GoyaEgress *rules = read_rules(tenant);

		entry = hash_search(entries, tenant, HASH_ENTER, NULL);
		entry->rules = rules;
	}
	if (entry->rules == NULL)
		return NULL;
	held = MemoryContextAlloc(cxt, sizeof(Held));
	held->rules = goya_egress_hold(entry->rules);
	held->callback.func = release_held;
	held->callback.arg = held;
	MemoryContextRegisterResetCallback(cxt, &held->callback);
	return held->rules;
}
