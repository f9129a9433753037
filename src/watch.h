/* watch.h - small tables that every session keeps in memory, and how it learns that they changed.  See watch.c. */
#ifndef GOYA_WATCH_H
#define GOYA_WATCH_H

#include "postgres.h"
#include "nodes/pg_list.h"

/* What is kept in memory about: changes of any of its tables make a new version of it. */
typedef enum GoyaWatch
{
	GOYA_WATCH_IDENTITY,		/* tenants, members, authenticators; PostgreSQL's roles and memberships */
	GOYA_WATCH_WORKFLOWS,
	GOYA_WATCH_TRIGGERS,
	GOYA_WATCH_EGRESS,
	GOYA_N_WATCHES
} GoyaWatch;

typedef enum GoyaWatched
{
	GOYA_WATCHED_TENANTS,
	GOYA_WATCHED_MEMBERS,
	GOYA_WATCHED_AUTHENTICATORS,
	GOYA_WATCHED_WORKFLOWS,
	GOYA_WATCHED_TRIGGERS,
	GOYA_WATCHED_EGRESS_RULES,
	GOYA_N_WATCHED
} GoyaWatched;

/* column = value; the column is one of the index's. */
typedef struct GoyaWatchKey
{
	const char *column;
	Oid			equals;			/* F_UUID_EQ … */
	Datum		value;
} GoyaWatchKey;

typedef struct GoyaWatchRow
{
	Datum	   *values;
	bool	   *nulls;
} GoyaWatchRow;

/*
 * What was read after this call may be used for as long as the call returns the same number.  It takes in what other sessions have
 * committed so far.  In a transaction; throws when goya's tables are gone.
 */
extern uint64 goya_watch_version(GoyaWatch watch);

/* Rows as the newest commit left them, whatever snapshot the transaction has: a List of GoyaWatchRow, copied into the current context. */
extern List *goya_watch_read(GoyaWatched table, const char *index, int nkeys, const GoyaWatchKey *keys, int ncolumns, const char *const *columns);

#endif
