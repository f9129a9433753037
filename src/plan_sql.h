/*-------------------------------------------------------------------------
 * plan_sql.h
 *		Look-ups of validation in the database that is connected.
 *-------------------------------------------------------------------------
 */
#ifndef GOYA_PLAN_SQL_H
#define GOYA_PLAN_SQL_H

#include "plan.h"

/*
 * Fills in look-ups for the caller's tenant.  They use SPI: SPI_connect first, in a transaction with a snapshot.  What was looked up is
 * remembered in the current memory context: use them for one compilation.
 */
extern void goya_plan_sql_lookups(GoyaPlanLookups *lookups);

#endif
