/* worker.h - what engine and executor have in common as background workers.  See worker.c. */
#ifndef GOYA_WORKER_H
#define GOYA_WORKER_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "postmaster/bgworker.h"

extern bool goya_worker_start(const char *function, const char *what, Oid dboid, Oid role, BackgroundWorkerHandle **handle);
extern void goya_worker_init(Oid dboid, const char *what);

/* Transactions of goya's own work.  begin takes a snapshot; end commits, reports statistics and activity. */
extern void goya_worker_begin(const char *activity);
extern void goya_worker_commit(void);

extern Oid	goya_worker_extension(void);

/* A setting is too small for what should run: a warning, at most once a minute.  last is the caller's, and static. */
extern void goya_worker_warn_limit(TimestampTz *last, const char *message, const char *hint);

/* After a caught error: report it (rate-limited), abort, clean up. */
extern void goya_worker_abort(const char *doing);

#endif
