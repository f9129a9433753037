/*-------------------------------------------------------------------------
 * prices.c
 *		Prices and quotes, cached per process.
 *
 * Decided: rows of goya.prices are never changed, and a hold remembers the newest generation of prices that was committed when its task
 * started; so prices up to a known generation cannot become wrong, and a hold of a later generation says that there is more to read.
 * Besides, a trigger on the table invalidates its relcache entry (goya_prices_changed_sql), which empties this cache everywhere when
 * a price is committed, here when one is set or rolled back.  Quotes depend on the clock too: they go when the next price begins.
 *
 * What must hold: nothing read with an old snapshot (repeatable read) is kept.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "hash.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "goya.h"
#include "money.h"
#include "store.h"

#define MAX_ENTRIES 20000

typedef struct PricesKey
{
	pg_uuid_t	tenant;
	char		currency[GOYA_CURRENCY_SIZE];
	uint32		name_hash;
} PricesKey;

typedef struct PricesEntry
{
	PricesKey	key;
	GoyaPrices	prices;
} PricesEntry;

typedef struct QuoteKey
{
	pg_uuid_t	tenant;
	pg_uuid_t	workflow;
	char		currency[GOYA_CURRENCY_SIZE];
	int32		revision;
} QuoteKey;

typedef struct QuoteEntry
{
	QuoteKey	key;
	int64		amount;
} QuoteEntry;

static bool valid = false;
static Oid	prices_relid = InvalidOid;
static MemoryContext prices_context = NULL;
static HTAB *prices = NULL;
static HTAB *quotes = NULL;
static int64 newest_generation;
static TimestampTz next_begins;	/* when the next price begins; DT_NOEND: none is known */

static void
relation_changed(Datum arg, Oid relid)
{
	if (!OidIsValid(relid) || relid == prices_relid)
		valid = false;
}

static HTAB *
create_hash(const char *name, Size keysize, Size entrysize)
{
	return goya_hash_create(name, 64, keysize, entrysize, prices_context);
}

static void
read_generation(void)
{
	goya_store_run(GOYA_STMT_PRICES_NEWEST, NULL, NULL);
	newest_generation = goya_result_int8(0, 1);
	next_begins = goya_result_isnull(0, 2) ? DT_NOEND : DatumGetTimestampTz(goya_result_datum(0, 2));
}

static void
start_again(void)
{
	if (!OidIsValid(prices_relid))
		CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	prices_relid = get_relname_relid("prices", get_namespace_oid("goya", false));
	if (prices_context == NULL)
		prices_context = AllocSetContextCreate(TopMemoryContext, "goya prices", ALLOCSET_DEFAULT_SIZES);
	MemoryContextReset(prices_context);
	prices = create_hash("goya prices", sizeof(PricesKey), sizeof(PricesEntry));
	quotes = create_hash("goya quotes", sizeof(QuoteKey), sizeof(QuoteEntry));
	valid = !IsolationUsesXactSnapshot();	/* before reading: an invalidation from here on is not lost */
	read_generation();
}

/* Empties the cache unless it can answer for a generation. */
static void
make_current(int64 generation)
{
	if (!valid || generation > newest_generation ||
		hash_get_num_entries(prices) + hash_get_num_entries(quotes) > MAX_ENTRIES)
		start_again();
}

int64
goya_prices_generation(void)
{
	make_current(0);
	return newest_generation;
}

/* ----- prices ----- */

static void
read_prices(GoyaPrices *result, const pg_uuid_t *tenant, const char *currency, const char *name)
{
	Datum		args[3];

	args[0] = UUIDPGetDatum(tenant);
	args[1] = CStringGetTextDatum(currency);
	args[2] = CStringGetTextDatum(name);
	goya_store_run(GOYA_STMT_PRICES, args, NULL);
	result->name = MemoryContextStrdup(prices_context, name);
	result->n = SPI_processed;
	result->rows = MemoryContextAlloc(prices_context, sizeof(GoyaPrice) * Max(result->n, 1));
	for (int i = 0; i < result->n; i++)
	{
		GoyaPrice  *p = &result->rows[i];

		p->unit = goya_result_text(i, 1, prices_context);
		p->own = goya_result_bool(i, 2);
		p->amount = goya_result_int8(i, 3);
		p->per_units = goya_result_int8(i, 4);
		p->effective_at = DatumGetTimestampTz(goya_result_datum(i, 5));
		p->generation = goya_result_int8(i, 6);
	}
}

const GoyaPrices *
goya_prices_get(const pg_uuid_t *tenant, const char *currency, const char *name, int64 generation)
{
	PricesKey	key;
	PricesEntry *entry;
	GoyaPrices	made;

	make_current(generation);
	memset(&key, 0, sizeof(key));
	key.tenant = *tenant;
	strlcpy(key.currency, currency, sizeof(key.currency));
	key.name_hash = string_hash(name, strlen(name) + 1);
	entry = hash_search(prices, &key, HASH_FIND, NULL);
	if (entry != NULL && strcmp(entry->prices.name, name) == 0)
		return &entry->prices;
	read_prices(&made, tenant, currency, name);
	entry = hash_search(prices, &key, HASH_ENTER, NULL);
	entry->prices = made;		/* of two names with one hash, the one used last */
	return &entry->prices;
}

const GoyaPrice *
goya_prices_next(const GoyaPrices *p, int *i, TimestampTz at, int64 generation)
{
	while (*i < p->n)
	{
		const GoyaPrice *first = &p->rows[*i];
		const GoyaPrice *found = NULL;

		for (; *i < p->n && strcmp(p->rows[*i].unit, first->unit) == 0; (*i)++)
			if (found == NULL && p->rows[*i].effective_at <= at && p->rows[*i].generation <= generation)
				found = &p->rows[*i];
		if (found != NULL)
			return found;
	}
	return NULL;
}

const GoyaPrice *
goya_prices_find(const GoyaPrices *p, const char *unit, TimestampTz at, int64 generation)
{
	int			i = 0;
	const GoyaPrice *found;

	while ((found = goya_prices_next(p, &i, at, generation)) != NULL)
		if (strcmp(found->unit, unit) == 0)
			return found;
	return NULL;
}

static Datum
whole(int64 n)
{
	return NumericGetDatum(int64_to_numeric(n));
}

/* quantity * amount / per_units in whole nano-units, half up; exact: see goya_private.cost. */
int64
goya_price_cost(Numeric quantity, const GoyaPrice *p)
{
	Datum		doubled;

	if (quantity == NULL)
		return (int64) (((int128) p->amount * 2 + p->per_units) / ((int128) p->per_units * 2));
	doubled = DirectFunctionCall2(numeric_mul, DirectFunctionCall2(numeric_mul, NumericGetDatum(quantity), whole(p->amount)), whole(2));
	doubled = DirectFunctionCall2(numeric_add, doubled, whole(p->per_units));
	return DatumGetInt64(DirectFunctionCall1(numeric_int8, DirectFunctionCall2(numeric_div_trunc, doubled,
																			 DirectFunctionCall2(numeric_mul, whole(p->per_units), whole(2)))));
}

/* ----- quotes ----- */

int64
goya_price_quote(const pg_uuid_t *tenant, const char *currency, const GoyaRevision *revision)
{
	QuoteKey	key;
	QuoteEntry *entry;
	Datum		args[2];
	int64		amount;

	if (valid && GetCurrentTimestamp() >= next_begins)
		valid = false;
	make_current(0);
	memset(&key, 0, sizeof(key));
	key.tenant = *tenant;
	key.workflow = revision->workflow;
	key.revision = revision->revision;
	strlcpy(key.currency, currency, sizeof(key.currency));
	entry = hash_search(quotes, &key, HASH_FIND, NULL);
	if (entry != NULL)
		return entry->amount;
	args[0] = UUIDPGetDatum(tenant);
	args[1] = JsonbPGetDatum(revision->resolved);
	goya_store_run(GOYA_STMT_QUOTE, args, NULL);
	amount = goya_result_int8(0, 1);
	entry = hash_search(quotes, &key, HASH_ENTER, NULL);
	entry->amount = amount;
	return amount;
}

/* Trigger on goya.prices. */
PG_FUNCTION_INFO_V1(goya_prices_changed_sql);
Datum
goya_prices_changed_sql(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED), errmsg("goya_prices_changed_sql is a trigger function")));
	CacheInvalidateRelcache(((TriggerData *) fcinfo->context)->tg_relation);
	PG_RETURN_POINTER(NULL);
}
