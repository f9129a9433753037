/*-------------------------------------------------------------------------
 * residue.c
 *		What one owner's SQL may leave in an executor's session, and getting rid of it before another's node runs.
 *
 * Settings are undone by their nest level (node_sql.c), what is in tables by the transaction.  The rest is here: cursors, prepared
 * statements, temporary objects, values of sequences, advisory locks, open large objects (the nodes of a batch share a transaction),
 * connections of dblink, the seed of random(), which constraints are deferred, and the functions that PL/pgSQL has compiled.
 *
 * The last is the one that matters most.  PL/pgSQL compiles a function once a session and then keeps it, with the types that its
 * declarations meant under the search_path of the first caller.  So one tenant could call a shared function while "text" means a domain
 * of its own, and the check of that domain would run as the next tenant that calls the function.  PL/pgSQL offers no way to forget a
 * function, but compiles one again when its row in pg_proc has another xmin than it remembers: that is what is made untrue here.  Which
 * functions there are it says through the hook for debuggers.
 *
 * Decided: forgetting compiled functions and a new seed only when the role or tenant changes, so one tenant's work pays for nothing, and a
 * batch runs one owner's rows after the other's (queue.c); the rest at the end of each batch too, and first thing after an error.  Functions of goya_owner are kept: each has a search_path of its own.
 * Must hold: a PLpgSQL_function is never freed, only filled again (true up to PostgreSQL 17).
 * Not undone: that a setting of a made-up name was once set (reading it gives '' and not NULL).  Each costs memory and time for ever, so
 * an executor with many of them leaves.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <dlfcn.h>
#include <link.h>

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "commands/prepare.h"
#include "commands/sequence.h"
#include "commands/trigger.h"
#include "common/pg_prng.h"
#include "libpq/be-fsstubs.h"
#include "parser/parse_expr.h"
#include "parser/parser.h"
#include "plpgsql.h"
#include "storage/lock.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/guc_tables.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/syscache.h"

#include "identity.h"
#include "residue.h"

#define MADE_UP_SETTINGS 1000

#if PG_VERSION_NUM >= 180000
#define COMPILED_XMIN(f) ((f)->cfunc.fn_xmin)
#else
#define COMPILED_XMIN(f) ((f)->fn_xmin)
#endif

/* Whose SQL ran last in this process. */
static Oid	last_role = InvalidOid;
static pg_uuid_t last_tenant;

/* ----- what PL/pgSQL has compiled ----- */

typedef struct Compiled
{
	PLpgSQL_function *function;
	bool		keep;			/* goya's own */
} Compiled;

static HTAB *compiled = NULL;
static PLpgSQL_plugin plugin;
static PLpgSQL_plugin *other_plugin = NULL;	/* a debugger's or profiler's */

static bool
belongs_to_goya(Oid funcid)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(funcid));
	bool		result;

	if (!HeapTupleIsValid(tuple))
		return false;
	result = ((Form_pg_proc) GETSTRUCT(tuple))->proowner == goya_owner_oid();
	ReleaseSysCache(tuple);
	return result;
}

/* Called by PL/pgSQL whenever a function begins, once it is compiled. */
static void
note_function(PLpgSQL_execstate *estate, PLpgSQL_function *function)
{
	bool		found = true;
	Compiled   *entry = NULL;

	if (OidIsValid(function->fn_oid))	/* not a DO block: those are not kept */
		entry = hash_search(compiled, &function, HASH_ENTER, &found);
	if (!found)
	{
		entry->keep = false;
		entry->keep = belongs_to_goya(function->fn_oid);
	}
	if (entry && (!standard_conforming_strings || Transform_null_equals))
		entry->keep = false;	/* its statements may be read otherwise than they were written */
	if (other_plugin == NULL)
		return;
	other_plugin->error_callback = plugin.error_callback;
	other_plugin->assign_expr = plugin.assign_expr;
	other_plugin->assign_value = plugin.assign_value;
	other_plugin->eval_datum = plugin.eval_datum;
	other_plugin->cast_value = plugin.cast_value;
	if (other_plugin->func_setup)
		other_plugin->func_setup(estate, function);
}

static void
watch_plpgsql(void)
{
	PLpgSQL_plugin **place = (PLpgSQL_plugin **) find_rendezvous_variable("PLpgSQL_plugin");
	HASHCTL		ctl = {.keysize = sizeof(PLpgSQL_function *),.entrysize = sizeof(Compiled)};

	compiled = hash_create("goya compiled functions", 256, &ctl, HASH_ELEM | HASH_BLOBS);
	other_plugin = *place;
	if (other_plugin)
		plugin = *other_plugin;
	plugin.func_setup = note_function;
	*place = &plugin;
}

static void
forget_compiled(void)
{
	HASH_SEQ_STATUS seq;
	Compiled   *entry;

	hash_seq_init(&seq, compiled);
	while ((entry = hash_seq_search(&seq)) != NULL)
		if (!entry->keep)
			COMPILED_XMIN(entry->function) = InvalidTransactionId;
}

/* ----- connections of dblink ----- */

static int
count_loads(struct dl_phdr_info *info, size_t size, void *arg)
{
	*(unsigned long long *) arg = info->dlpi_adds;
	return 1;
}

/*
 * dblink keeps named connections, and one without a name, until somebody closes them.  Its functions need nothing but their arguments.
 */
static void
close_dblink(void)
{
	static unsigned long long loads_seen = 0;
	static PGFunction names = NULL;
	static PGFunction disconnect = NULL;
	unsigned long long loads = 0;
	MemoryContext here = CurrentMemoryContext;
	LOCAL_FCINFO(fcinfo, 0);
	Datum		list;
	Datum	   *elements;
	int			n = 0;

	dl_iterate_phdr(count_loads, &loads);
	if (loads != loads_seen)
	{
		names = (PGFunction) dlsym(RTLD_DEFAULT, "dblink_get_connections");
		disconnect = (PGFunction) dlsym(RTLD_DEFAULT, "dblink_disconnect");
		loads_seen = loads;
	}
	if (names == NULL || disconnect == NULL)
		return;
	InitFunctionCallInfoData(*fcinfo, NULL, 0, InvalidOid, NULL, NULL);
	list = names(fcinfo);
	if (!fcinfo->isnull)
		deconstruct_array(DatumGetArrayTypeP(list), TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL, &n);
	for (int i = 0; i < n; i++)
		(void) DirectFunctionCall1(disconnect, elements[i]);

	/* The one without a name; that there is none is an error there and none here. */
	PG_TRY();
	{
		InitFunctionCallInfoData(*fcinfo, NULL, 0, InvalidOid, NULL, NULL);
		(void) disconnect(fcinfo);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(here);
		FlushErrorState();
	}
	PG_END_TRY();
}

/* ----- all of it ----- */

static void
new_seed(void)
{
	double		seed = pg_prng_double(&pg_global_prng_state) * 2 - 1;

	DirectFunctionCall1(setseed, Float8GetDatum(seed));
}

void
goya_residue_watch(void)
{
	watch_plpgsql();
}

void
goya_residue_scrub(void)
{
	PortalHashTableDeleteAll();	/* cursors WITH HOLD: their rows are the owner's */
	DropAllPreparedStatements();
	ResetTempTableNamespace();
	ResetSequenceCaches();
	AtEOXact_LargeObject(true);
	LockReleaseAll(USER_LOCKMETHOD, true);
	close_dblink();
}

void
goya_residue_enter(Oid role, const pg_uuid_t *tenant)
{
	if (OidIsValid(last_role) && (role != last_role || memcmp(tenant, &last_tenant, sizeof(last_tenant)) != 0))
	{
		goya_residue_scrub();
		forget_compiled();
		new_seed();
	}
	last_role = role;
	last_tenant = *tenant;
}

/*
 * SET CONSTRAINTS holds until the end of the transaction, which the nodes of a batch share, and has no opposite.  So PostgreSQL's memory of
 * triggers begins anew; between nodes nothing is queued there (node_sql.c, batch.c).
 */
void
goya_residue_between(const char *run_as, const pg_uuid_t *tenant)
{
	static char last_run_as[NAMEDATALEN];
	static pg_uuid_t last_run_tenant;

	if (strncmp(run_as, last_run_as, NAMEDATALEN) == 0 && memcmp(tenant, &last_run_tenant, sizeof(last_run_tenant)) == 0)
		return;
	strlcpy(last_run_as, run_as, NAMEDATALEN);
	last_run_tenant = *tenant;
	Assert(GetCurrentTransactionNestLevel() == 1);
	AfterTriggerFireDeferred();
	AfterTriggerEndXact(true);
	AfterTriggerBeginXact();
}

bool
goya_residue_worn(void)
{
	static int	settings = 0;

	if (settings == 0)
		settings = GetNumConfigOptions();
	return GetNumConfigOptions() > settings + MADE_UP_SETTINGS;
}
