/* launcher.h - the goya launcher: one per cluster, keeps one engine per database that has goya.  See launcher.c. */
#ifndef GOYA_LAUNCHER_H
#define GOYA_LAUNCHER_H

#include "postgres.h"

extern void goya_launcher_register(void);	/* from _PG_init while preloading */
extern PGDLLEXPORT void goya_launcher_main(Datum arg);

#endif
