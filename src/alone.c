/*-------------------------------------------------------------------------
 * alone.c
 *		Nodes that must not share their batch with others: found out while their functions run.
 *
 * Whether a function may run in a batch is guessed from how long its calls took (choose_lane in node_sql.c).  Two things show only then:
 *
 *		it takes long this time		what the others of the batch did is not committed, the executor's place is taken; a tenant with as
 *									many such calls as there are executors would stop everybody's SQL
 *		it locks a wallet			by goya.run, goya.hold, goya.cancel …, before the tasks of the batch are settled.  Wallets are locked in the order
 *									of tenants; with nodes of other tenants in the transaction that order is broken, and
 *									somebody's session is told that it deadlocked
 *
 * Decided: the node is undone then and run again in the lane of those that run alone, without an attempt being counted; shared memory keeps of its
 * function that it is slow, or that it locks wallets, so that it costs the batch's time once.  A function that catches the error
 * and goes on is undone all the same when it returns.  In a batch of one tenant wallets may be locked: there is one.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "alone.h"
#include "fmgr.h"
#include "guc.h"
#include "shmem.h"

#define LIMIT_IN_BATCH_TIMES 20

static const GoyaBatch *batch = NULL;	/* NULL: no function runs */
static Oid	running;
static bool in_company;
static bool refused = false;

static bool
several_tenants(const GoyaBatch *b)
{
	for (int i = 1; i < b->n_tasks; i++)
		if (!goya_uuid_equal(&b->task_list[i]->tenant, &b->task_list[0]->tenant))
			return true;
	return false;
}

bool
goya_alone_always(const GoyaBatch *b, Oid function)
{
	return goya_function_locks_wallets(function) && several_tenants(b);
}

int64
goya_alone_limit(void)
{
	return batch != NULL && in_company ? (int64) goya_guc_batch_time * LIMIT_IN_BATCH_TIMES : 0;
}

void
goya_alone_begin(const GoyaBatch *b, Oid function, bool company)
{
	batch = b;
	running = function;
	in_company = company;
	refused = false;
}

void
goya_alone_end(void)
{
	batch = NULL;
}

static void
refuse(void)
{
	refused = true;
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE), errmsg("the node cannot run beside others"),
			 errdetail("It locked a wallet, or took long, in a transaction that it shares with other nodes."),
			 errhint("It is run again by itself.")));
}

void
goya_alone_too_long(void)
{
	if (batch == NULL)
		return;
	refused = true;
	goya_function_measured(running, (uint64) goya_alone_limit() * 1000);
}

void
goya_alone_wallet(void)
{
	if (batch == NULL)
		return;
	goya_function_mark_wallets(running);
	if (in_company && several_tenants(batch))
		refuse();
}

void
goya_alone_check(void)
{
	if (refused)
		refuse();
}

bool
goya_alone_refused(void)
{
	bool		was = refused;

	refused = false;
	return was;
}

/* goya_private.before_wallet_lock() → void: the same for SQL that locks one. */
PG_FUNCTION_INFO_V1(goya_before_wallet_lock_sql);
Datum
goya_before_wallet_lock_sql(PG_FUNCTION_ARGS)
{
	goya_alone_wallet();
	PG_RETURN_VOID();
}
