/*-------------------------------------------------------------------------
 * store_statements.h
 *		The statements that store.c runs.  For store.c only.
 *-------------------------------------------------------------------------
 */
#ifndef GOYA_STORE_STATEMENTS_H
#define GOYA_STORE_STATEMENTS_H

#include "store.h"

typedef struct GoyaStatementText
{
	const char *sql;
	int			nargs;
	Oid			args[GOYA_MAX_COLUMNS];
} GoyaStatementText;

extern const GoyaStatementText goya_statements[GOYA_N_STATEMENTS];

#endif
