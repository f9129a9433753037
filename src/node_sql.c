/*-------------------------------------------------------------------------
 * node_sql.c
 *		SQL nodes: a function f(jsonb) called as the role that owns the task.
 *
 * The session user of an executor is goya_executor, which owns nothing and is a member of nothing.  For a node the current user becomes
 * the task's role with SECURITY_LOCAL_USERID_CHANGE, which makes SET ROLE and SET SESSION AUTHORIZATION errors, in a GUC nest level of
 * its own, and with the task's tenant pinned (identity.c).  Deferred triggers fire before the role is given back.  Between nodes of
 * different roles or tenants everything a session can keep is scrubbed (residue.c).
 *
 * A function that was not measured yet, or was slow, is not run in a batch: it goes to the lane of those that run alone, so that
 * nobody's finished work waits for it.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/async.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_func.h"
#include "pgstat.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "alone.h"
#include "batch.h"
#include "crashes.h"
#include "crash_point.h"
#include "guc.h"
#include "held.h"
#include "identity.h"
#include "json_util.h"
#include "overtime.h"
#include "residue.h"
#include "shmem.h"

/* A function as a role calls it, for one batch. */
typedef struct FunctionKey
{
	Oid			funcid;
	Oid			role;
} FunctionKey;

typedef struct FunctionCall
{
	FunctionKey key;
	Oid			rettype;
	FmgrInfo	flinfo;
	FmgrInfo	to_jsonb;		/* when rettype is not jsonb */
} FunctionCall;

/* What a node's function was found to be, as long as nothing it was looked up in changes. */
typedef struct NodeKey
{
	const GoyaNode *node;
	Oid			role;
} NodeKey;

typedef struct NodeCall
{
	NodeKey		key;
	FunctionCall *call;
} NodeCall;

/* Counts changes of functions, schemas, roles and memberships, as far as news of them was taken in. */
static uint64 catalog_generation = 1;

static void
catalog_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	catalog_generation++;
}

static void
watch_catalogs(void)
{
	static const int caches[] = {PROCOID, PROCNAMEARGSNSP, NAMESPACEOID, NAMESPACENAME, AUTHOID, AUTHMEMROLEMEM};
	static bool watching = false;

	for (int i = 0; !watching && i < lengthof(caches); i++)
		CacheRegisterSyscacheCallback(caches[i], catalog_changed, (Datum) 0);
	watching = true;
}

/* ----- which function ----- */

static Oid
find_function(const char *name, Oid *rettype)
{
	List	   *names = stringToQualifiedNameList(name);
	Oid			argtypes[1] = {JSONBOID};
	Oid			funcid = LookupFuncName(names, 1, argtypes, true);
	HeapTuple	tuple;
	Form_pg_proc form;

	if (!OidIsValid(funcid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function %s(jsonb) does not exist", name),
				 errhint("A node of kind sql calls a function with one argument of type jsonb.")));
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(funcid));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", funcid);
	form = (Form_pg_proc) GETSTRUCT(tuple);
	*rettype = form->prorettype;
	if (form->proretset || form->prokind != PROKIND_FUNCTION)
	{
		ReleaseSysCache(tuple);
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("function %s(jsonb) cannot be a node", name),
				 errdetail("It returns a set, or is an aggregate, window function or procedure."),
				 errhint("Return one jsonb value, for example with jsonb_agg.")));
	}
	ReleaseSysCache(tuple);
	return funcid;
}

static void
check_privilege(Oid funcid, Oid role, const char *name)
{
	AclResult	acl;

#if PG_VERSION_NUM >= 160000
	acl = object_aclcheck(ProcedureRelationId, funcid, role, ACL_EXECUTE);
#else
	acl = pg_proc_aclcheck(funcid, role, ACL_EXECUTE);
#endif
	if (acl != ACLCHECK_OK)
		aclcheck_error(acl, OBJECT_FUNCTION, name);
}

static void
prepare_call(FunctionCall *call, MemoryContext cxt)
{
	fmgr_info_cxt(call->key.funcid, &call->flinfo, cxt);
	if (call->rettype != JSONBOID && call->rettype != VOIDOID)
	{
		MemoryContext old = MemoryContextSwitchTo(cxt);
		Param	   *param = makeNode(Param);

		param->paramtype = call->rettype;
		fmgr_info_cxt(F_TO_JSONB, &call->to_jsonb, cxt);
		fmgr_info_set_expr((Node *) makeFuncExpr(F_TO_JSONB, JSONBOID, list_make1(param), InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL),
						   &call->to_jsonb);
		MemoryContextSwitchTo(old);
	}
}

static FunctionCall *
function_call(GoyaBatch *b, Oid funcid, Oid role, Oid rettype)
{
	FunctionKey key = {funcid, role};
	FunctionCall *call;
	bool		found;

	if (b->savepoints)
	{
		/* After an error the function's own state may be half made: nothing is kept from one call to the next. */
		call = palloc0(sizeof(FunctionCall));
		call->key = key;
		call->rettype = rettype;
		prepare_call(call, CurrentMemoryContext);
		return call;
	}
	call = hash_search(b->functions, &key, HASH_ENTER, &found);
	if (!found)
	{
		memset(((char *) call) + sizeof(FunctionKey), 0, sizeof(FunctionCall) - sizeof(FunctionKey));
		call->rettype = rettype;
		prepare_call(call, b->cxt);
	}
	return call;
}

/* Look up the node's function and check the role's privilege.  As the role. */
static FunctionCall *
look_up_call(GoyaBatch *b, const GoyaNode *node, Oid role)
{
	Oid			rettype;
	Oid			funcid = find_function(node->function, &rettype);

	check_privilege(funcid, role, node->function);
	return function_call(b, funcid, role, rettype);
}

static FunctionCall *
get_call(GoyaBatch *b, const GoyaNode *node, Oid role)
{
	NodeKey		key;
	NodeCall   *entry;
	bool		found;

	if (b->savepoints)
		return look_up_call(b, node, role);
	if (b->functions == NULL || b->catalog_generation != catalog_generation)
	{
		b->functions = goya_batch_hash(b, "goya batch functions", sizeof(FunctionKey), sizeof(FunctionCall));
		b->node_calls = goya_batch_hash(b, "goya batch node calls", sizeof(NodeKey), sizeof(NodeCall));
		b->catalog_generation = catalog_generation;
	}
	memset(&key, 0, sizeof(key));
	key.node = node;
	key.role = role;
	entry = hash_search(b->node_calls, &key, HASH_ENTER, &found);
	if (!found)
	{
		entry->call = NULL;
		entry->call = look_up_call(b, node, role);
	}
	return entry->call;
}

/* ----- as whom ----- */

static Oid
task_role(GoyaTask *task)
{
	if (OidIsValid(task->role) && task->role_seen == catalog_generation)
		return task->role;
	task->role = get_role_oid(task->run_as, true);
	task->role_seen = catalog_generation;
	if (!OidIsValid(task->role))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("role \"%s\", which the task runs as, does not exist", task->run_as)));
	if (!goya_guc_allow_superuser_tasks && (superuser_arg(task->role) || has_bypassrls_privilege(task->role)))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("tasks of role \"%s\" are refused", task->run_as),
				 errdetail("It is a superuser or bypasses row-level security.")));
	return task->role;
}

/* ----- the call ----- */

static Jsonb *
convert_result(FunctionCall *call, Datum value, bool isnull)
{
	if (isnull || call->rettype == VOIDOID)
		return goya_json_null();
	if (call->rettype == JSONBOID)
		return DatumGetJsonbPCopy(value);
	return DatumGetJsonbP(FunctionCall1(&call->to_jsonb, value));
}

static Jsonb *
invoke(FunctionCall *call, Jsonb *input)
{
	LOCAL_FCINFO(fcinfo, 1);
	PgStat_FunctionCallUsage usage;
	Datum		value;

	InitFunctionCallInfoData(*fcinfo, &call->flinfo, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = JsonbPGetDatum(input);
	fcinfo->args[0].isnull = false;
	pgstat_init_function_usage(fcinfo, &usage);
	value = FunctionCallInvoke(fcinfo);
	pgstat_end_function_usage(&usage, true);
	return convert_result(call, value, fcinfo->isnull);
}

/*
 * Call the function as the task's role.  On error nothing is restored here: the (sub)transaction's abort does.
 */
static Jsonb *
call_as_owner(const GoyaBatch *b, const GoyaWork *w, GoyaLane lane, FunctionCall *call, Jsonb *input)
{
	GoyaTask   *task = w->task;
	const GoyaNode *n = &task->plan->nodes[w->node];
	Jsonb	   *result;

	goya_executor_show(&task->id, n->key, w->item);
	goya_alone_begin(b, call->key.funcid, lane == GOYA_LANE_EXECUTOR);
	goya_overtime_begin(n->timeout_ms > 0 ? n->timeout_ms : goya_guc_sql_timeout * INT64CONST(1000));
	PushActiveSnapshot(GetTransactionSnapshot());
	GOYA_CRASH_POINT(EFFECT_BEFORE);
	result = invoke(call, input);
	PopActiveSnapshot();
	AfterTriggerFireDeferred();
	GOYA_CRASH_POINT(EFFECT_DONE);
	goya_overtime_end();
	goya_alone_check();
	goya_alone_end();
	goya_executor_show_none();
	CommandCounterIncrement();
	return result;
}

/*
 * Where a call belongs: here (GOYA_LANE_EXECUTOR and *here), alone after this batch, or back in the queue while another call of the same
 * function is the first to be measured.
 */
static GoyaLane
choose_lane(GoyaBatch *b, const GoyaWork *w, Oid funcid, bool *here)
{
	int			usec;

	*here = true;
	if (b->mode == GOYA_BATCH_ALONE && b->n_runs == 0)
		return GOYA_LANE_ALONE;
	usec = goya_function_usec(funcid);
	if (goya_crashes_of(b, w) > 0)
	{
		*here = false;			/* nobody else's work is to be lost with it */
		return GOYA_LANE_ALONE;
	}
	if (usec >= 0 && usec <= goya_guc_batch_time * 1000 / 4 && !goya_alone_always(b, funcid))
		return GOYA_LANE_EXECUTOR;
	*here = false;
	if (usec == GOYA_BEING_MEASURED && !goya_function_looks_slow(funcid))
		return GOYA_LANE_EXECUTOR;
	return GOYA_LANE_ALONE;
}

void
goya_node_run_sql(GoyaBatch *b, const GoyaWork *w)
{
	GoyaTask   *task = w->task;
	const GoyaNode *n = &task->plan->nodes[w->node];
	TimestampTz started = GetCurrentTimestamp();
	GoyaNodeScope scope;
	GoyaOutcome o = {.ok = true,.retry_after_ms = -1};
	Jsonb	   *input;
	Oid			userid;
	int			sec_context;
	int			guc_level;
	FunctionCall *call;
	GoyaPin		pin = {.task = task->id,.node = n->key,.item = w->item,.depth = task->depth};
	GoyaLane	lane;
	bool		here;
	instr_time	begin,
				end;

	watch_catalogs();
	AcceptInvalidationMessages();	/* what was revoked, renamed or dropped since the last node counts for this one */
	(void) task_role(task);
	goya_residue_enter(task->role, &task->tenant);
	goya_scope_init(&scope, b, task, w->node, w->item);
	input = goya_scope_input(&scope, w->node);

	GetUserIdAndSecContext(&userid, &sec_context);
	guc_level = NewGUCNestLevel();
	SetUserIdAndSecContext(task->role, sec_context | SECURITY_LOCAL_USERID_CHANGE);
	goya_identity_pin(&task->tenant, task->role, &pin);
	call = get_call(b, n, task->role);
	lane = choose_lane(b, w, call->key.funcid, &here);
	if (here)
	{
		INSTR_TIME_SET_CURRENT(begin);
		goya_held_lift();		/* how long its function waits for locks is the user's business */
		o.output = call_as_owner(b, w, lane, call, input);
		INSTR_TIME_SET_CURRENT(end);
		INSTR_TIME_SUBTRACT(end, begin);
		goya_function_measured(call->key.funcid, INSTR_TIME_GET_MICROSEC(end));
	}
	goya_identity_unpin();
	AtEOXact_GUC(false, guc_level);
	SetUserIdAndSecContext(userid, sec_context);
	goya_held_limit();

	if (here)
		goya_advance_finish(b, w, &o, input, started, false);
	else
		goya_batch_queue(b, task, lane, GOYA_VERB_RUN, w->node, w->item, w->attempt, 0);
}
