/* staffing.h - starting executors, as many as work and settings allow.  See staffing.c. */
#ifndef GOYA_STAFFING_H
#define GOYA_STAFFING_H

#include "postgres.h"
#include "utils/timestamp.h"

/* There is work and perhaps nobody to do it.  When to look again; DT_NOEND: no need. */
extern TimestampTz goya_staffing_start(Oid role, bool late);	/* late: for latecomers too */

#endif
