/*-------------------------------------------------------------------------
 * reader.c
 *		Rows of any table by an index of it, one after the other, without SQL.
 *
 * For many rows by key in one transaction, where a statement would cost more than the rows: what is opened is opened once.  Tables that
 * goya also writes without SQL are table.c's; these here are only locked for reading.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/namespace.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "reader.h"

static void
find_columns(GoyaReader *r, const char *const *columns)
{
	for (int i = 0; columns[i] != NULL; i++)
	{
		Assert(i < GOYA_READER_COLUMNS);
		r->columns[i] = get_attnum(RelationGetRelid(r->rel), columns[i]);
		if (r->columns[i] <= 0)
			elog(ERROR, "table %s has no column %s", RelationGetRelationName(r->rel), columns[i]);
	}
}

static void
init_keys(GoyaReader *r, int n)
{
	for (int i = 0; i < n; i++)
	{
		Oid			type = r->index->rd_opcintype[i];
		Oid			equals = get_opfamily_member(r->index->rd_opfamily[i], type, type, BTEqualStrategyNumber);

		ScanKeyEntryInitialize(&r->keys[i], 0, i + 1, BTEqualStrategyNumber, InvalidOid, r->index->rd_indcollation[i], get_opcode(equals),
							   (Datum) 0);
	}
}

GoyaReader *
goya_reader_open(const char *schema, const char *table, const char *index, int nkeys, const char *const *columns)
{
	GoyaReader *r = palloc0(sizeof(GoyaReader));
	Oid			namespace = get_namespace_oid(schema, false);

	Assert(nkeys <= GOYA_READER_KEYS);
	r->rel = table_open(get_relname_relid(table, namespace), AccessShareLock);
	r->index = index_open(get_relname_relid(index, namespace), AccessShareLock);
	find_columns(r, columns);
	init_keys(r, nkeys);
#if PG_VERSION_NUM >= 180000
	r->scan = index_beginscan(r->rel, r->index, GetActiveSnapshot(), NULL, nkeys, 0);
#else
	r->scan = index_beginscan(r->rel, r->index, GetActiveSnapshot(), nkeys, 0);
#endif
	r->slot = table_slot_create(r->rel, NULL);
	return r;
}

void
goya_reader_close(GoyaReader *r)
{
	ExecDropSingleTupleTableSlot(r->slot);
	index_endscan(r->scan);
	index_close(r->index, AccessShareLock);
	table_close(r->rel, NoLock);
}

bool
goya_reader_find(GoyaReader *r, const Datum *keys)
{
	for (int i = 0; i < r->scan->numberOfKeys; i++)
		r->keys[i].sk_argument = keys[i];
	index_rescan(r->scan, r->keys, r->scan->numberOfKeys, NULL, 0);
	return index_getnext_slot(r->scan, ForwardScanDirection, r->slot);
}

Datum
goya_reader_get(GoyaReader *r, int column, bool *isnull)
{
	bool		null;
	Datum		value = slot_getattr(r->slot, r->columns[column], &null);

	if (isnull != NULL)
		*isnull = null;
	return value;
}
