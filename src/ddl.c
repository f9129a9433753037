/*-------------------------------------------------------------------------
 * ddl.c
 *		Commands that goya's workers must give way to.
 *
 * DROP DATABASE, ALTER DATABASE RENAME and SET TABLESPACE, and CREATE DATABASE … TEMPLATE need a database without sessions.  For those
 * who may run them, the workers of that database are sent away first, and the launcher keeps off it for a few seconds; if the command
 * fails they come back by themselves.
 *
 * DROP EXTENSION goya wakes all workers of the database when it commits: they look for the extension and leave.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "ddl.h"
#include "goya.h"
#include "shmem.h"

#define KEEP_OFF_MS		10000
#define LEAVE_WITHIN_MS 5000

static ProcessUtility_hook_type previous_utility_hook = NULL;
static object_access_hook_type previous_access_hook = NULL;

/* ----- databases ----- */

/* The database a command needs for itself, or InvalidOid. */
static Oid
wanted_alone(Node *stmt)
{
	const char *name = NULL;

	if (IsA(stmt, DropdbStmt))
		name = ((DropdbStmt *) stmt)->dbname;
	else if (IsA(stmt, RenameStmt) && ((RenameStmt *) stmt)->renameType == OBJECT_DATABASE)
		name = ((RenameStmt *) stmt)->subname;
	else if (IsA(stmt, AlterDatabaseStmt))
	{
		ListCell   *lc;

		foreach(lc, ((AlterDatabaseStmt *) stmt)->options)
			if (strcmp(((DefElem *) lfirst(lc))->defname, "tablespace") == 0)
				name = ((AlterDatabaseStmt *) stmt)->dbname;
	}
	else if (IsA(stmt, CreatedbStmt))
	{
		ListCell   *lc;

		foreach(lc, ((CreatedbStmt *) stmt)->options)
		{
			DefElem    *option = lfirst(lc);

			if (strcmp(option->defname, "template") == 0 && option->arg != NULL)
				name = defGetString(option);
		}
	}
	return name ? get_database_oid(name, true) : InvalidOid;
}

static bool
may_have_it(Oid dboid)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(DatabaseRelationId, dboid, GetUserId());
#else
	return pg_database_ownercheck(dboid, GetUserId());
#endif
}

/* Ask the workers of a database to leave; how many are still there? */
static int
send_away(Oid dboid)
{
	int			left = 0;

	LWLockAcquire(goya_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < goya_shared->n_engines; i++)
	{
		GoyaEngineSlot *slot = &goya_shared->engines[i];

		if (slot->state == GOYA_ENGINE_FREE || slot->dboid != dboid)
			continue;
		slot->not_before = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), KEEP_OFF_MS);
		pg_atomic_write_u32(&slot->wanted, 0);
		if (slot->state != GOYA_ENGINE_STARTING)
			slot->state = GOYA_ENGINE_PAUSED;
		if (slot->pid != 0)
		{
			kill(slot->pid, SIGTERM);
			left++;
		}
	}
	for (int i = 0; i < GOYA_MAX_EXECUTOR_SLOTS; i++)
	{
		GoyaExecutorSlot *slot = &goya_shared->executors[i];

		if (slot->pid != 0 && slot->dboid == dboid)
		{
			kill(slot->pid, SIGTERM);
			left++;
		}
	}
	LWLockRelease(goya_shared->lock);
	return left;
}

static void
clear_database(Oid dboid)
{
	TimestampTz late = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), LEAVE_WITHIN_MS);

	while (send_away(dboid) > 0 && GetCurrentTimestamp() < late)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 50, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* The command is done: the workers may come back, if there is still a database to come back to. */
static void
let_return(Oid dboid)
{
	LWLockAcquire(goya_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < goya_shared->n_engines; i++)
	{
		GoyaEngineSlot *slot = &goya_shared->engines[i];

		if (slot->state != GOYA_ENGINE_PAUSED || slot->dboid != dboid)
			continue;
		slot->state = GOYA_ENGINE_WANTED;
		slot->not_before = 0;
	}
	LWLockRelease(goya_shared->lock);
	goya_wake_launcher();
}

static void
before_utility(PlannedStmt *pstmt, const char *query, bool read_only, ProcessUtilityContext context, ParamListInfo params,
			   QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	Oid			dboid = InvalidOid;

	if (goya_shared != NULL && context == PROCESS_UTILITY_TOPLEVEL && IsTransactionState())
		dboid = wanted_alone(pstmt->utilityStmt);
	if (dboid == MyDatabaseId || (OidIsValid(dboid) && !may_have_it(dboid)))
		dboid = InvalidOid;
	if (OidIsValid(dboid))
		clear_database(dboid);
	if (previous_utility_hook)
		previous_utility_hook(pstmt, query, read_only, context, params, env, dest, qc);
	else
		standard_ProcessUtility(pstmt, query, read_only, context, params, env, dest, qc);
	if (OidIsValid(dboid) && !IsA(pstmt->utilityStmt, DropdbStmt))
		let_return(dboid);
}

/* ----- the extension ----- */

static void
on_object_access(ObjectAccessType access, Oid class_id, Oid object_id, int sub_id, void *arg)
{
	if (previous_access_hook)
		previous_access_hook(access, class_id, object_id, sub_id, arg);
	if (access == OAT_DROP && class_id == ExtensionRelationId && object_id == get_extension_oid("goya", true))
		goya_wake_everybody_at_commit();
}

void
goya_ddl_install_hooks(void)
{
	previous_utility_hook = ProcessUtility_hook;
	ProcessUtility_hook = before_utility;
	previous_access_hook = object_access_hook;
	object_access_hook = on_object_access;
}
