/*-------------------------------------------------------------------------
 * stream.h
 *		What outside calls say while they run, as rows that sessions can read.  See stream.c.
 *-------------------------------------------------------------------------
 */
#ifndef GOYA_STREAM_H
#define GOYA_STREAM_H

#include "postgres.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

typedef struct GoyaStream GoyaStream;

/* Opens one; it ends when cxt is reset or deleted. */
extern GoyaStream *goya_stream_open(MemoryContext cxt, const pg_uuid_t *task, const char *node, int item, int attempt);

/* What is said is encrypted in the table, for the tenant.  Before anything is added. */
extern void goya_stream_seal(GoyaStream *s, const pg_uuid_t *tenant);

/* More text; valid in the database's encoding.  NULL: what was said so far is void, it begins anew. */
extern void goya_stream_add(GoyaStream *s, const char *text, int len);

/* For the engine: when rows are to be written, and writing them, in a transaction. */
extern TimestampTz goya_stream_next(void);	/* DT_NOEND: nothing to do */
extern void goya_stream_write(void);
extern void goya_stream_written(void);	/* that transaction has committed */

#endif
