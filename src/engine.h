/* engine.h - the goya engine: one per database.  See engine.c. */
#ifndef GOYA_ENGINE_H
#define GOYA_ENGINE_H

#include "postgres.h"

extern PGDLLEXPORT void goya_engine_main(Datum arg);

#endif
