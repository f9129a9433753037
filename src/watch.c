/*-------------------------------------------------------------------------
 * watch.c
 *		Small tables that every session keeps in memory - tenants, members, authenticators, workflows, triggers - and how it learns
 *		that one of them changed.
 *
 * Decided: PostgreSQL's own cache invalidation carries the news.  A row trigger on each table (30_identity.sql, in every
 * session_replication_role) invalidates the table's relcache entry.  That message is sent to all sessions at commit, is applied in the
 * session that made the change from its next command on and taken back when it rolls back, and is replayed on a standby.
 * What a session keeps carries the version it was read at; a change makes a new version, and what is older is read again.
 *
 * Must hold: the version is asked for first and the rows are read then, with a snapshot newer than that: a change that commits in
 * between makes the version, not the rows, old.  For the same reason rows are never read with the transaction's snapshot, which under
 * REPEATABLE READ may be older than news already taken in.  So a change is seen by every call that begins after its COMMIT returned.
 *
 * Rows are read here without asking for privileges or row security: callers decide what they tell whom.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "utils/datum.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "goya.h"
#include "watch.h"

#define MAX_KEYS 2

typedef struct WatchedTable
{
	const char *schema;
	const char *name;
	GoyaWatch	watch;
} WatchedTable;

static const WatchedTable tables[GOYA_N_WATCHED] = {
	[GOYA_WATCHED_TENANTS] = {"goya", "tenants", GOYA_WATCH_IDENTITY},
	[GOYA_WATCHED_MEMBERS] = {"goya", "members", GOYA_WATCH_IDENTITY},
	[GOYA_WATCHED_AUTHENTICATORS] = {"goya_private", "authenticators", GOYA_WATCH_IDENTITY},
	[GOYA_WATCHED_WORKFLOWS] = {"goya", "workflows", GOYA_WATCH_WORKFLOWS},
	[GOYA_WATCHED_TRIGGERS] = {"goya", "triggers", GOYA_WATCH_TRIGGERS},
	[GOYA_WATCHED_EGRESS_RULES] = {"goya", "egress_rules", GOYA_WATCH_EGRESS},
};

static Oid	relids[GOYA_N_WATCHED];
static uint64 versions[GOYA_N_WATCHES] = {1, 1, 1, 1};
static bool registered = false;
static bool found = false;		/* relids are those of today */

/* ----- news ----- */

static void
table_changed(Datum arg, Oid relid)
{
	for (int i = 0; i < GOYA_N_WATCHED; i++)
		if (!OidIsValid(relid) || relids[i] == relid)
		{
			versions[tables[i].watch]++;
			found = false;		/* it may be gone and another in its place */
		}
}

static void
roles_changed(Datum arg, int cacheid, uint32 hash)
{
	versions[GOYA_WATCH_IDENTITY]++;
}

static void
find_tables(void)
{
	found = true;				/* from here on, news makes it false again */
	for (int i = 0; i < GOYA_N_WATCHED; i++)
	{
		relids[i] = get_relname_relid(tables[i].name, get_namespace_oid(tables[i].schema, false));
		if (!OidIsValid(relids[i]))
		{
			found = false;
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_TABLE), errmsg("table %s.%s does not exist", tables[i].schema, tables[i].name)));
		}
	}
}

uint64
goya_watch_version(GoyaWatch watch)
{
	if (!registered)
	{
		CacheRegisterRelcacheCallback(table_changed, (Datum) 0);
		CacheRegisterSyscacheCallback(AUTHOID, roles_changed, (Datum) 0);
		CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, roles_changed, (Datum) 0);
		registered = true;
	}
	AcceptInvalidationMessages();
	if (!found)
		find_tables();
	return versions[watch];
}

/* goya_private.tell_change(): the row trigger. */
PG_FUNCTION_INFO_V1(goya_tell_change_sql);
Datum
goya_tell_change_sql(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED), errmsg("this function is a trigger")));
	CacheInvalidateRelcache(data->tg_relation);
	return PointerGetDatum(NULL);	/* after the row: nobody looks */
}

/* ----- rows ----- */

static AttrNumber
column_number(Relation rel, const char *name)
{
	AttrNumber	number = get_attnum(RelationGetRelid(rel), name);

	if (number <= 0)
		elog(ERROR, "table %s has no column %s", RelationGetRelationName(rel), name);
	return number;
}

static GoyaWatchRow *
copy_row(HeapTuple tuple, TupleDesc desc, int n, const AttrNumber *numbers)
{
	GoyaWatchRow *row = palloc(sizeof(GoyaWatchRow));

	row->values = palloc0(sizeof(Datum) * n);
	row->nulls = palloc(sizeof(bool) * n);
	for (int i = 0; i < n; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, numbers[i] - 1);
		Datum		value = heap_getattr(tuple, numbers[i], desc, &row->nulls[i]);

		if (row->nulls[i])
			continue;
		row->values[i] = att->attlen == -1 ? PointerGetDatum(PG_DETOAST_DATUM_COPY(value)) : datumCopy(value, att->attbyval, att->attlen);
	}
	return row;
}

List *
goya_watch_read(GoyaWatched table, const char *index, int nkeys, const GoyaWatchKey *keys, int ncolumns, const char *const *columns)
{
	Relation	rel = table_open(relids[table], AccessShareLock);
	TupleDesc	desc = RelationGetDescr(rel);
	Oid			indexid = get_relname_relid(index, RelationGetNamespace(rel));
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	AttrNumber *numbers = palloc(sizeof(AttrNumber) * ncolumns);
	ScanKeyData scankeys[MAX_KEYS];
	SysScanDesc scan;
	HeapTuple	tuple;
	List	   *rows = NIL;

	Assert(nkeys <= MAX_KEYS);
	for (int i = 0; i < nkeys; i++)
	{
		AttrNumber	number = column_number(rel, keys[i].column);

		ScanKeyEntryInitialize(&scankeys[i], 0, number, BTEqualStrategyNumber, InvalidOid, TupleDescAttr(desc, number - 1)->attcollation,
							   keys[i].equals, keys[i].value);
	}
	for (int i = 0; i < ncolumns; i++)
		numbers[i] = column_number(rel, columns[i]);
	/* Without its index the table is read through. */
	scan = systable_beginscan(rel, indexid, OidIsValid(indexid), snapshot, nkeys, scankeys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		rows = lappend(rows, copy_row(tuple, desc, ncolumns, numbers));
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	return rows;
}
