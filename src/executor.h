/* executor.h - goya executors: SQL nodes in batches, and the DAG carried on.  See executor.c. */
#ifndef GOYA_EXECUTOR_H
#define GOYA_EXECUTOR_H

#include "postgres.h"

extern PGDLLEXPORT void goya_executor_main(Datum arg);

#endif
