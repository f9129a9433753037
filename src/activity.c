/*-------------------------------------------------------------------------
 * activity.c
 *		goya_private.activity(): what goya's processes of this database do now, from shared memory.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "goya.h"
#include "shmem.h"

static void
put_engine(ReturnSetInfo *rsinfo, GoyaEngineSlot *slot)
{
	static const char *const names[] = {"free", "wanted", "starting", "running", "paused"};
	Datum		values[11] = {0};
	bool		nulls[11];
	char		detail[sizeof(slot->detail)];

	memset(nulls, true, sizeof(nulls));
	SpinLockAcquire(&slot->mutex);
	memcpy(detail, slot->detail, sizeof(detail));
	SpinLockRelease(&slot->mutex);
	values[0] = CStringGetTextDatum("engine");
	values[1] = Int32GetDatum(slot->pid);
	values[2] = CStringGetTextDatum(names[slot->state]);
	values[6] = TimestampTzGetDatum(slot->started_at);
	values[7] = Int64GetDatum(pg_atomic_read_u64(&slot->batches));
	values[8] = Int64GetDatum(pg_atomic_read_u64(&slot->node_runs));
	values[9] = Int32GetDatum(pg_atomic_read_u32(&slot->transfers));
	values[10] = CStringGetTextDatum(detail[0] ? detail : slot->listening ? "listening" : "");
	nulls[0] = nulls[1] = nulls[2] = nulls[7] = nulls[8] = nulls[9] = nulls[10] = false;
	nulls[6] = slot->started_at == 0;
	nulls[1] = slot->pid == 0;
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

static void
put_executor(ReturnSetInfo *rsinfo, GoyaExecutorSlot *slot)
{
	Datum		values[11] = {0};
	bool		nulls[11];
	GoyaExecutorSlot copy;

	SpinLockAcquire(&slot->mutex);
	memcpy(&copy, slot, sizeof(copy));
	SpinLockRelease(&slot->mutex);
	memset(nulls, true, sizeof(nulls));
	values[0] = CStringGetTextDatum("executor");
	values[1] = Int32GetDatum(copy.pid);
	values[2] = CStringGetTextDatum(copy.busy ? "running" : "idle");
	values[3] = UUIDPGetDatum(&copy.task);
	values[4] = CStringGetTextDatum(copy.node);
	values[5] = Int32GetDatum(copy.item);
	values[6] = TimestampTzGetDatum(copy.since);
	values[7] = Int64GetDatum(copy.batches);
	values[8] = Int64GetDatum(copy.node_runs);
	nulls[0] = nulls[1] = nulls[2] = nulls[7] = nulls[8] = false;
	nulls[3] = nulls[4] = nulls[5] = nulls[6] = !copy.busy;
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

PG_FUNCTION_INFO_V1(goya_activity_sql);
Datum
goya_activity_sql(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	if (goya_shared == NULL)
		return (Datum) 0;
	LWLockAcquire(goya_shared->lock, LW_SHARED);
	if (goya_shared->launcher_pid != 0)
	{
		Datum		values[11] = {0};
		bool		nulls[11];

		memset(nulls, true, sizeof(nulls));
		values[0] = CStringGetTextDatum("launcher");
		values[1] = Int32GetDatum(goya_shared->launcher_pid);
		values[2] = CStringGetTextDatum("running");
		nulls[0] = nulls[1] = nulls[2] = false;
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	for (int i = 0; i < goya_shared->n_engines; i++)
		if (goya_shared->engines[i].state != GOYA_ENGINE_FREE && goya_shared->engines[i].dboid == MyDatabaseId)
			put_engine(rsinfo, &goya_shared->engines[i]);
	for (int i = 0; i < GOYA_MAX_EXECUTOR_SLOTS; i++)
		if (goya_shared->executors[i].pid != 0 && goya_shared->executors[i].dboid == MyDatabaseId)
			put_executor(rsinfo, &goya_shared->executors[i]);
	LWLockRelease(goya_shared->lock);
	return (Datum) 0;
}
