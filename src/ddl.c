/*-------------------------------------------------------------------------
 * ddl.c
 *		Commands that goya's workers must give way to.
 *
 * DROP DATABASE, ALTER DATABASE RENAME and SET TABLESPACE, and CREATE DATABASE … TEMPLATE need a database without sessions.  For those
 * who may run them, the workers of that database are sent away first and kept off it until the command has ended; should this session
 * die in between, for a few seconds.  A copy made from a template with goya gets the same rights to connect, which CREATE DATABASE does
 * not copy, so that its engine comes and says that it is a copy.
 *
 * DROP EXTENSION goya needs a lock that workers hold for as long as a function runs: those of this database are sent away too.  The
 * launcher's next attempts find the extension locked, or gone.  At its commit all workers are woken: they look for it and leave.  It
 * also needs every table for itself, and under load would often be the victim of a deadlock with sessions that hold one and wait for
 * the next.  So it takes the tables beforehand, and cancels the statements of those that hold it up while they wait.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/value.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/sinvaladt.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "ddl.h"
#include "goya.h"
#include "shmem.h"

#define KEEP_OFF_MS		10000
#define LEAVE_WITHIN_MS 5000
#define HELD_UP_MS		"100"

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
		slot->keep_off = slot->not_before = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), KEEP_OFF_MS);
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

/* The command has ended: the workers may come back now or, if they would find the extension locked, after a while. */
static void
let_return(Oid dboid, bool now)
{
	LWLockAcquire(goya_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < goya_shared->n_engines; i++)
	{
		GoyaEngineSlot *slot = &goya_shared->engines[i];

		if (slot->state != GOYA_ENGINE_PAUSED || slot->dboid != dboid)
			continue;
		slot->keep_off = 0;
		slot->not_before = now ? 0 : TimestampTzPlusMilliseconds(GetCurrentTimestamp(), GOYA_SHORT_PAUSE_MS);
		if (now)
			slot->state = GOYA_ENGINE_WANTED;
	}
	LWLockRelease(goya_shared->lock);
	goya_wake_launcher();
}

/* CREATE DATABASE has copied a database with goya: its copy lets the same roles connect. */
static void
grant_connect(const char *dbname)
{
	static const char *const roles[] = {GOYA_OWNER_ROLE, GOYA_EXECUTOR_ROLE, GOYA_LISTENER_ROLE};
	GrantStmt  *grant = makeNode(GrantStmt);
	AccessPriv *connect = makeNode(AccessPriv);

	connect->priv_name = pstrdup("connect");
	grant->is_grant = true;
	grant->targtype = ACL_TARGET_OBJECT;
	grant->objtype = OBJECT_DATABASE;
	grant->objects = list_make1(makeString(pstrdup(dbname)));
	grant->privileges = list_make1(connect);
	for (int i = 0; i < lengthof(roles); i++)
	{
		RoleSpec   *role = makeNode(RoleSpec);

		role->roletype = ROLESPEC_CSTRING;
		role->rolename = pstrdup(roles[i]);
		role->location = -1;
		if (OidIsValid(get_role_oid(roles[i], true)))
			grant->grantees = lappend(grant->grantees, role);
	}
	if (grant->grantees == NIL)
		return;
	CommandCounterIncrement();
	ExecuteGrantStmt(grant);
}

/* Is there an engine, running or paused, for it? */
static bool
has_engine(Oid dboid)
{
	return OidIsValid(dboid) && goya_shmem_engine(dboid, false) != NULL;
}

/* The extension that a command drops, for somebody who may: goya's oid or InvalidOid. */
static Oid
drops_goya(Node *stmt)
{
	ListCell   *lc;

	if (!IsA(stmt, DropStmt) || ((DropStmt *) stmt)->removeType != OBJECT_EXTENSION)
		return InvalidOid;
	foreach(lc, ((DropStmt *) stmt)->objects)
	{
		Oid			ext;

		if (strcmp(strVal(lfirst(lc)), "goya") != 0)
			continue;
		ext = get_extension_oid("goya", true);
#if PG_VERSION_NUM >= 160000
		return OidIsValid(ext) && object_ownercheck(ExtensionRelationId, ext, GetUserId()) ? ext : InvalidOid;
#else
		return OidIsValid(ext) && pg_extension_ownercheck(ext, GetUserId()) ? ext : InvalidOid;
#endif
	}
	return InvalidOid;
}

/* What a session locks before it reads or writes goya's data. */
static List *
relations_of_goya(void)
{
	const Oid	namespaces[] = {get_namespace_oid("goya", true), get_namespace_oid("goya_private", true)};
	List	   *result = NIL;
	Relation	rel = table_open(RelationRelationId, AccessShareLock);

	for (int i = 0; i < lengthof(namespaces); i++)
	{
		ScanKeyData key;
		SysScanDesc scan;
		HeapTuple	tuple;

		ScanKeyInit(&key, Anum_pg_class_relnamespace, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(namespaces[i]));
		scan = systable_beginscan(rel, InvalidOid, false, NULL, 1, &key);
		while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		{
			Form_pg_class form = (Form_pg_class) GETSTRUCT(tuple);

			if (strchr("rpvmS", form->relkind) != NULL)
				result = lappend_oid(result, form->oid);
		}
		systable_endscan(scan);
	}
	table_close(rel, AccessShareLock);
	return result;
}

/* Lock a relation for this transaction; false: not within lock_timeout. */
static bool
lock_in_time(Oid relid)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool locked = false;

	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		LockRelationOid(relid, AccessExclusiveLock);
		ReleaseCurrentSubTransaction();
		locked = true;
	}
	PG_CATCH();
	{
		if (geterrcode() != ERRCODE_LOCK_NOT_AVAILABLE)
			PG_RE_THROW();
		MemoryContextSwitchTo(caller);
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	return locked;
}

/* Cancel those who hold a lock on a relation while they wait for another, and vacuum. */
static void
cancel_holders(Oid relid)
{
	LOCKTAG		tag;
	VirtualTransactionId *holder;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, relid);
	for (holder = GetLockConflicts(&tag, AccessExclusiveLock, NULL); VirtualTransactionIdIsValid(*holder); holder++)
	{
#if PG_VERSION_NUM >= 170000
		PGPROC	   *proc = ProcNumberGetProc(holder->procNumber);
#else
		PGPROC	   *proc = BackendIdGetProc(holder->backendId);
#endif

		if (proc != NULL && proc->pid != 0 &&
			(proc->waitStatus == PROC_WAIT_STATUS_WAITING ||
			 (proc->statusFlags & (PROC_IS_AUTOVACUUM | PROC_VACUUM_FOR_WRAPAROUND)) == PROC_IS_AUTOVACUUM))
			kill(proc->pid, SIGINT);
	}
}

static void
prepare_drop(Oid extension)
{
	int			level;
	List	   *relations;
	ListCell   *lc;

	clear_database(MyDatabaseId);
	LockDatabaseObject(ExtensionRelationId, extension, 0, AccessExclusiveLock);
	let_return(MyDatabaseId, false);
	relations = relations_of_goya();
	level = NewGUCNestLevel();
	(void) set_config_option("lock_timeout", HELD_UP_MS, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	foreach(lc, relations)
		while (!lock_in_time(lfirst_oid(lc)))
			cancel_holders(lfirst_oid(lc));
	AtEOXact_GUC(true, level);
}

static void
around_utility(PlannedStmt *pstmt, const char *query, bool read_only, ProcessUtilityContext context, ParamListInfo params,
			   QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	Node	   *stmt = pstmt->utilityStmt;
	volatile Oid dboid = InvalidOid;
	volatile bool copies = false;
	Oid			extension;

	if (goya_shared != NULL && context == PROCESS_UTILITY_TOPLEVEL && IsTransactionState())
		dboid = wanted_alone(stmt);
	if (dboid == MyDatabaseId || (OidIsValid(dboid) && !may_have_it(dboid)))
		dboid = InvalidOid;
	if (goya_shared != NULL && OidIsValid(extension = drops_goya(stmt)))
		prepare_drop(extension);
	if (OidIsValid(dboid))
	{
		copies = IsA(stmt, CreatedbStmt) && has_engine(dboid);
		clear_database(dboid);
	}
	PG_TRY();
	{
		if (previous_utility_hook)
			previous_utility_hook(pstmt, query, read_only, context, params, env, dest, qc);
		else
			standard_ProcessUtility(pstmt, query, read_only, context, params, env, dest, qc);
	}
	PG_CATCH();
	{
		if (OidIsValid(dboid))
			let_return(dboid, true);
		PG_RE_THROW();
	}
	PG_END_TRY();
	if (copies)
		grant_connect(((CreatedbStmt *) stmt)->dbname);
	if (OidIsValid(dboid) && !IsA(stmt, DropdbStmt))
		let_return(dboid, true);
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
	ProcessUtility_hook = around_utility;
	previous_access_hook = object_access_hook;
	object_access_hook = on_object_access;
}
