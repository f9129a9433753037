/*-------------------------------------------------------------------------
 * reader.h
 *		Rows of any table by an index of it, one after the other, without SQL.  See reader.c.
 *-------------------------------------------------------------------------
 */
#ifndef GOYA_READER_H
#define GOYA_READER_H

#include "postgres.h"

#include "access/skey.h"
#include "executor/tuptable.h"
#include "utils/relcache.h"

#define GOYA_READER_COLUMNS 12
#define GOYA_READER_KEYS 2

typedef struct GoyaReader
{
	Relation	rel;
	Relation	index;
	struct IndexScanDescData *scan;
	TupleTableSlot *slot;
	ScanKeyData keys[GOYA_READER_KEYS];
	AttrNumber	columns[GOYA_READER_COLUMNS];
} GoyaReader;

/*
 * Read by the first nkeys columns of the index, what the active snapshot sees.  columns ends with NULL.  Lives in the current memory context,
 * until close or the transaction's abort; privileges and row security are the caller's to think of.
 */
extern GoyaReader *goya_reader_open(const char *schema, const char *table, const char *index, int nkeys, const char *const *columns);
extern void goya_reader_close(GoyaReader *r);

/* The first row with these keys; false: none. */
extern bool goya_reader_find(GoyaReader *r, const Datum *keys);

/* A column of that row by its place in columns; valid until the next find.  isnull may be NULL. */
extern Datum goya_reader_get(GoyaReader *r, int column, bool *isnull);

#endif
