/*-------------------------------------------------------------------------
 * worker.c
 *		What engine and executor have in common as background workers: connecting, transactions, errors.
 *
 * The extension is looked up by name in every transaction and locked against DROP by its OID for as long as the transaction lasts; when
 * it is gone the worker leaves quietly.  Errors of goya's own transactions are reported once and then counted for a minute: a bad day
 * must not fill the log.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/inval.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "batch.h"
#include "black_box.h"
#include "goya.h"
#include "held.h"
#include "worker.h"

/*
 * Connect to a database as a role; its oid comes in bgw_extra from whoever registered the worker.  Does not return when it cannot.
 */
void
goya_worker_init(Oid dboid, const char *what)
{
	Oid			role;

	memcpy(&role, MyBgworkerEntry->bgw_extra, sizeof(Oid));
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, goya_black_box_on_sigterm);
	pqsignal(SIGINT, StatementCancelHandler);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(dboid, role, 0);
	pgstat_report_appname(what);
	/* What a database or a role may have as a default would end every batch. */
	SetConfigOption("default_transaction_isolation", "read committed", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("default_transaction_read_only", "off", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("default_transaction_deferrable", "off", PGC_SUSET, PGC_S_OVERRIDE);
}

/*
 * Register a worker; false when there is no slot.  The handle, when it is wanted, is in the caller's memory context.
 */
bool
goya_worker_start(const char *function, const char *what, Oid dboid, Oid role, BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_notify_pid = MyProcPid;
	worker.bgw_main_arg = ObjectIdGetDatum(dboid);
	memcpy(worker.bgw_extra, &role, sizeof(Oid));
	strlcpy(worker.bgw_library_name, "goya", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, function, BGW_MAXLEN);
	snprintf(worker.bgw_name, BGW_MAXLEN, "%s for database %u", what, dboid);
	strlcpy(worker.bgw_type, what, BGW_MAXLEN);
	return RegisterDynamicBackgroundWorker(&worker, handle);
}

/*
 * The extension's oid, InvalidOid when it is gone or going.  Locks it against DROP until the end of the transaction.
 */
Oid
goya_worker_extension(void)
{
	Oid			ext = get_extension_oid("goya", true);
	LOCKTAG		tag;

	if (!OidIsValid(ext))
		return InvalidOid;
	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, ExtensionRelationId, ext, 0);
	if (LockAcquire(&tag, AccessShareLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
		return InvalidOid;		/* it is being dropped or altered */
	AcceptInvalidationMessages();
	return get_extension_oid("goya", true);
}

void
goya_worker_begin(const char *activity)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	goya_held_limit();
	PushActiveSnapshot(GetTransactionSnapshot());
	pgstat_report_activity(STATE_RUNNING, activity);
}

void
goya_worker_commit(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
	goya_held_lift();
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
}

void
goya_worker_warn_limit(TimestampTz *last, const char *message, const char *hint)
{
	TimestampTz now = GetCurrentTimestamp();

	if (!TimestampDifferenceExceeds(*last, now, 60000))
		return;
	*last = now;
	ereport(WARNING, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED), errmsg("%s", message), errhint("%s", hint)));
}

void
goya_worker_abort(const char *doing)
{
	static TimestampTz last_report = 0;
	static int	since = 0;
	TimestampTz now = GetCurrentTimestamp();
	ErrorData  *e;

	MemoryContextSwitchTo(TopMemoryContext);
	e = CopyErrorData();
	FlushErrorState();
	AbortOutOfAnyTransaction(); /* AbortCurrentTransaction would end no more than the subtransaction that the error came from */
	goya_node_abort();
	goya_held_lift();
	pgstat_report_activity(STATE_IDLE, NULL);
	if (doing == NULL)
	{
		ereport(DEBUG1, (errmsg_internal("goya batch tried again: %s", e->message)));
		FreeErrorData(e);
		return;
	}
	since++;
	if (TimestampDifferenceExceeds(last_report, now, 60000))
	{
		ereport(LOG,
				(errcode(e->sqlerrcode),
				 errmsg("%s failed: %s", doing, e->message),
				 e->detail ? errdetail_internal("%s", e->detail) : 0,
				 e->context ? errcontext("%s", e->context) : 0,
				 since > 1 ? errhint("%d such errors since the last report.", since) : 0));
		last_report = now;
		since = 0;
	}
	FreeErrorData(e);
}
