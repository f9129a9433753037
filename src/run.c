/*-------------------------------------------------------------------------
 * run.c
 *		goya.run and everything else that starts a task: plain inserts in the caller's transaction.
 *
 * Order: who (tenant, role), what (workflow, revision, asset), is the input right, was this key used, then money, then the rows.  The
 * task's hold locks a wallet, so it comes last of the locks that are waited for.  Rolled back with the caller; visible, and the engine
 * woken, exactly at its commit.
 *
 * Decided: the usual start - no asset, key, context or price - runs no SQL at all: who and what are kept in memory (identity.c,
 * workflow_cache.c, plan_cache.c) and the two rows are written directly (table.h).  Whatever needs SQL becomes goya_owner when it gets
 * there.  run_many.c does the same for many inputs at once with the parts of this file.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "batch.h"
#include "crash_point.h"
#include "guc.h"
#include "identity.h"
#include "json_util.h"
#include "money.h"
#include "plan_cache.h"
#include "run.h"
#include "shmem.h"
#include "store.h"
#include "table.h"
#include "tenants.h"
#include "value.h"
#include "workflow_cache.h"

/* ----- SQL only when it is needed ----- */

void
goya_run_need_sql(GoyaRunSql *sql)
{
	if (!sql->entered)
		goya_store_enter(&sql->scope);
	sql->entered = true;
}

void
goya_run_end_sql(GoyaRunSql *sql)
{
	MemoryContext current = CurrentMemoryContext;

	if (sql->entered)
		goya_store_leave(&sql->scope);
	sql->entered = false;
	MemoryContextSwitchTo(current); /* not the one it was entered in */
}

/* ----- what ----- */

static bool
shared_with(const GoyaWorkflow *w, Oid role)
{
	Datum	   *names;
	int			n;

	deconstruct_array(w->roles, NAMEOID, NAMEDATALEN, false, TYPALIGN_CHAR, &names, NULL, &n);
	for (int i = 0; i < n; i++)
	{
		Oid			allowed = get_role_oid(NameStr(*DatumGetName(names[i])), true);

		if (OidIsValid(allowed) && has_privs_of_role(role, allowed))
			return true;
	}
	return false;
}

static bool
workflow_visible(const GoyaWorkflow *w, const char *caller)
{
	Oid			role;

	if (strcmp(w->visibility, "tenant") == 0 || strcmp(w->visibility, "public") == 0 || strcmp(w->owner, caller) == 0 || goya_identity_is_admin())
		return true;
	if (strcmp(w->visibility, "role") != 0)
		return false;
	role = get_role_oid(caller, true);
	return OidIsValid(role) && shared_with(w, role);
}

static const GoyaWorkflow *
find_workflow(const GoyaStart *s)
{
	const GoyaWorkflow *w = s->workflow ? goya_workflow_with_id(&s->tenant, s->workflow) : goya_workflow_named(&s->tenant, s->workflow_name);
	const char *name = s->workflow_name ? s->workflow_name : goya_uuid_text(s->workflow);

	if (w == NULL || !workflow_visible(w, s->run_as))
		ereport(ERROR,
				(errcode(GOYA_ERR_NOT_FOUND),
				 errmsg("workflow \"%s\" not found", name),
				 errhint("SELECT name FROM goya.workflows lists those you may run.")));
	if (!w->enabled)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("workflow \"%s\" is disabled", name),
				 errhint("goya.enable_workflow enables it.")));
	if (w->revision == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("workflow \"%s\" is not published", name),
				 errhint("goya.publish_workflow makes a revision of its draft.")));
	return w;
}

GoyaRevision *
goya_run_revision(const GoyaStart *s, GoyaRunSql *sql)
{
	pg_uuid_t	workflow;
	int			revision;
	GoyaRevision *r;

	if (s->workflow != NULL && s->revision > 0)
	{
		workflow = *s->workflow;
		revision = s->revision;
	}
	else
	{
		const GoyaWorkflow *w = find_workflow(s);

		workflow = w->id;
		revision = w->revision;
	}
	r = goya_plan_cache_find(&workflow, revision);
	if (r == NULL)
	{
		goya_run_need_sql(sql);
		r = goya_plan_cache_get(&workflow, revision);
	}
	if (r == NULL)
		ereport(ERROR, (errcode(GOYA_ERR_NOT_FOUND), errmsg("revision %d of the workflow not found", revision)));
	return r;
}

void
goya_run_check_input(GoyaRevision *r, Jsonb *input, const char *what)
{
	List	   *errors;
	StringInfoData detail;
	ListCell   *lc;

	if (r->input_schema == NULL)
		return;
	errors = goya_schema_check(r->input_schema, input, 20);
	if (errors == NIL)
		return;
	initStringInfo(&detail);
	foreach(lc, errors)
	{
		GoyaSchemaError *e = lfirst(lc);

		appendStringInfo(&detail, "%s%s: %s", detail.len ? "\n" : "", e->path[0] ? e->path : "input", e->message);
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s does not fit the workflow's input schema", what),
			 errdetail("%s", detail.data),
			 errhint("The schema is in goya.workflow_revisions, definition -> 'input'.")));
}

static void
check_asset(const GoyaStart *s, GoyaRunSql *sql)
{
	Datum		args[2];

	if (s->asset == NULL)
		return;
	goya_run_need_sql(sql);
	args[0] = UUIDPGetDatum(s->asset);
	args[1] = UUIDPGetDatum(&s->tenant);
	goya_store_run(GOYA_STMT_ASSET_EXISTS, args, NULL);
	if (SPI_processed == 0)
		goya_run_asset_not_found(s->asset);
}

void
goya_run_asset_not_found(const pg_uuid_t *id)
{
	ereport(ERROR,
			(errcode(GOYA_ERR_NOT_FOUND),
			 errmsg("asset %s not found", goya_uuid_text(id)),
			 errhint("It must be an asset of your tenant.")));
}

static void
check_role(const char *name)
{
	Oid			role = get_role_oid(name, true);

	if (!OidIsValid(role))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("role \"%s\" does not exist", name)));
	if (!goya_guc_allow_superuser_tasks && (superuser_arg(role) || has_bypassrls_privilege(role)))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("role \"%s\" may not run tasks", name),
				 errdetail("It is a superuser or bypasses row-level security; the functions of a workflow would run with that power."),
				 errhint("Run as a role with goya_user (SET ROLE), or set goya.allow_superuser_tasks.")));
}

/* ----- idempotency ----- */

bytea *
goya_run_request_hash(const GoyaStart *s, const pg_uuid_t *workflow)
{
	pg_cryptohash_ctx *ctx = pg_cryptohash_create(PG_SHA256);
	bytea	   *hash = palloc(VARHDRSZ + PG_SHA256_DIGEST_LENGTH);
	const char *role = s->run_as;

	SET_VARSIZE(hash, VARHDRSZ + PG_SHA256_DIGEST_LENGTH);
	if (pg_cryptohash_init(ctx) < 0 ||
		pg_cryptohash_update(ctx, workflow->data, UUID_LEN) < 0 ||
		pg_cryptohash_update(ctx, (uint8 *) role, strlen(role) + 1) < 0 ||
		(s->asset && pg_cryptohash_update(ctx, s->asset->data, UUID_LEN) < 0) ||
		pg_cryptohash_update(ctx, (uint8 *) &s->priority, sizeof(s->priority)) < 0 ||
		pg_cryptohash_update(ctx, (uint8 *) &s->has_max_cost, sizeof(s->has_max_cost)) < 0 ||	/* none is not 0 */
		pg_cryptohash_update(ctx, (uint8 *) &s->max_cost, sizeof(s->max_cost)) < 0 ||
		pg_cryptohash_update(ctx, (uint8 *) VARDATA_ANY(s->input), VARSIZE_ANY_EXHDR(s->input)) < 0 ||
		pg_cryptohash_final(ctx, (uint8 *) VARDATA(hash), PG_SHA256_DIGEST_LENGTH) < 0)
		elog(ERROR, "could not hash a request");
	pg_cryptohash_free(ctx);
	return hash;
}

void
goya_run_check_key(const char *key)
{
	if (strlen(key) > 255)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("idempotency_key is longer than 255 bytes"),
						errhint("Use the id of the request in your own records, or a hash of it.")));
}

void
goya_run_key_taken(const char *key)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNIQUE_VIOLATION),
			 errmsg("idempotency key \"%s\" was used for another request", key),
			 errhint("Use a new key for a new request; the same key only repeats the same workflow, input, asset, priority and max_cost.")));
}

/* True: the key was used before for this same request, and *id is that task. */
static bool
repeated(const GoyaStart *s, const pg_uuid_t *workflow, pg_uuid_t *id, GoyaRunSql *sql)
{
	Datum		args[4];

	if (s->idempotency_key == NULL)
		return false;
	goya_run_check_key(s->idempotency_key);
	goya_run_need_sql(sql);
	args[0] = UUIDPGetDatum(&s->tenant);
	args[1] = CStringGetTextDatum(s->idempotency_key);
	args[2] = PointerGetDatum(goya_run_request_hash(s, workflow));
	args[3] = UUIDPGetDatum(id);
	goya_store_run(GOYA_STMT_INSERT_KEY, args, NULL);
	GOYA_CRASH_POINT(RUN_KEY_WRITTEN);
	if (SPI_processed > 0)
		return false;
	goya_store_run(GOYA_STMT_FIND_KEY, args, NULL);
	if (SPI_processed == 0)
		ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE), errmsg("the same idempotency key is being used at this moment")));
	if (!goya_result_bool(0, 2))
		goya_run_key_taken(s->idempotency_key);
	*id = goya_result_uuid(0, 1);
	return true;
}

/* ----- money ----- */

/* True when the tasks cost something: then each has a hold of its id. */
bool
goya_run_hold_money(const GoyaStart *s, GoyaRevision *r, const pg_uuid_t *ids, int n, GoyaRunSql *sql)
{
	if (!r->plan->has_prices)
		return false;
	goya_run_need_sql(sql);
	goya_escrow_start(&s->tenant, ids, n, r, s->has_max_cost ? s->max_cost : -1);
	return true;
}

/* ----- rows ----- */

void
goya_run_write_task(GoyaTable *t, const GoyaStart *s, const pg_uuid_t *id, const GoyaRevision *r, const pg_uuid_t *hold)
{
	TupleTableSlot *row = goya_table_row(t);

#define PUT(column, value) goya_row_set(t, row, column, value)
#define PUT_IF(present, column, value) do { if (present) PUT(column, value); } while (0)
	PUT(GOYA_TASKS_ID, UUIDPGetDatum(id));
	PUT(GOYA_TASKS_TENANT_ID, UUIDPGetDatum(&s->tenant));
	PUT(GOYA_TASKS_WORKFLOW_ID, UUIDPGetDatum(&r->workflow));
	PUT(GOYA_TASKS_REVISION, Int32GetDatum(r->revision));
	PUT(GOYA_TASKS_STATUS, goya_table_label(t, GOYA_TASK_PENDING));
	PUT(GOYA_TASKS_RUN_AS, CStringGetTextDatum(s->run_as));
	PUT_IF(s->created_by != NULL, GOYA_TASKS_CREATED_BY, CStringGetTextDatum(s->created_by));
	PUT(GOYA_TASKS_PRIORITY, Int16GetDatum(s->priority));
	PUT(GOYA_TASKS_DEPTH, Int16GetDatum(s->depth));
	PUT(GOYA_TASKS_PAUSED, BoolGetDatum(false));
	PUT(GOYA_TASKS_FAILING, BoolGetDatum(false));
	PUT(GOYA_TASKS_ACTIVE, Int32GetDatum(1));
	PUT(GOYA_TASKS_WAITING, Int32GetDatum(0));
	PUT(GOYA_TASKS_DONE_NODES, Int32GetDatum(0));
	PUT(GOYA_TASKS_LAST_SEQ, Int32GetDatum(1));
	PUT(GOYA_TASKS_PROGRESS, Float4GetDatum(0));
	PUT(GOYA_TASKS_INPUT, JsonbPGetDatum(goya_value_seal_if_wanted(&s->tenant, s->input)));
	PUT_IF(s->asset != NULL, GOYA_TASKS_ASSET_ID, UUIDPGetDatum(s->asset));
	PUT_IF(s->parent != NULL, GOYA_TASKS_PARENT_TASK_ID, UUIDPGetDatum(s->parent));
	PUT_IF(s->has_parent_node, GOYA_TASKS_PARENT_NODE, Int32GetDatum(s->parent_node));
	PUT_IF(s->has_parent_node, GOYA_TASKS_PARENT_ITEM, Int32GetDatum(s->parent_item));
	PUT_IF(s->trigger_id != NULL, GOYA_TASKS_TRIGGER_ID, UUIDPGetDatum(s->trigger_id));
	PUT_IF(s->trigger != NULL, GOYA_TASKS_TRIGGER, JsonbPGetDatum(s->trigger));
	PUT(GOYA_TASKS_TRACE_ID, CStringGetTextDatum(s->trace_id ? s->trace_id : goya_uuid_text(id)));
	PUT_IF(s->idempotency_key != NULL, GOYA_TASKS_IDEMPOTENCY_KEY, CStringGetTextDatum(s->idempotency_key));
	PUT_IF(s->has_max_cost, GOYA_TASKS_MAX_COST, Int64GetDatum(s->max_cost));
	PUT_IF(hold != NULL, GOYA_TASKS_HOLD_ID, UUIDPGetDatum(hold));
	PUT_IF(s->run_at != 0, GOYA_TASKS_RUN_AT, TimestampTzGetDatum(s->run_at));
	PUT(GOYA_TASKS_CREATED_AT, TimestampTzGetDatum(GetCurrentTimestamp()));
#undef PUT_IF
#undef PUT
	goya_table_append(t);
}

bool
goya_run_is_later(const GoyaStart *s)
{
	return s->run_at != 0 && s->run_at > GetCurrentTimestamp();
}

GoyaRows *
goya_run_create_timers(void)
{
	static const Oid columns[] = {INT8OID, INT2OID, INT2OID, UUIDOID, INT4OID, INT4OID, INT2OID, TIMESTAMPTZOID, INT2OID};

	return goya_rows_create(lengthof(columns), columns);
}

/* The task's start: in the queue now, or among the timers if it is to wait.  Wakes whose work it is. */
void
goya_run_queue(const GoyaStart *s, const pg_uuid_t *id, const GoyaRevision *r, GoyaTable *ready, GoyaRows *timers)
{
	int64		rank = goya_rank_next(MyDatabaseId, &s->tenant, s->priority, 1);
	int			lane = goya_node_lane(r->plan, -1);

	if (timers == NULL)
	{
		uint32		wake = 0;

		lane = goya_queue_lane(lane, &s->tenant, s->priority, &wake);
		goya_wake_at_commit(wake);
		goya_queue_append(ready, rank, lane, GOYA_VERB_RUN, id, -1, 0, 1, 0);
		return;
	}
	goya_wake_at_commit(GOYA_WAKE_TIMERS);
	goya_rows_add(timers);
	goya_rows_int8(timers, 0, rank);
	goya_rows_int2(timers, 1, lane);
	goya_rows_int2(timers, 2, GOYA_VERB_RUN);
	goya_rows_uuid(timers, 3, id);
	goya_rows_int4(timers, 4, -1);
	goya_rows_int4(timers, 5, 0);
	goya_rows_int2(timers, 6, 1);
	goya_rows_time(timers, 7, s->run_at);
}

/* A table that somebody gave triggers is written as goya_owner, with the search_path that goes with it. */
GoyaTable *
goya_run_open(GoyaTableId id, GoyaRunSql *sql)
{
	GoyaTable  *t = goya_table_open(id);

	if (!t->plain_insert)
		goya_run_need_sql(sql);
	return t;
}

static void
write_rows(const GoyaStart *s, const pg_uuid_t *id, const GoyaRevision *r, const pg_uuid_t *hold, GoyaRunSql *sql)
{
	GoyaTable  *t = goya_run_open(GOYA_TABLE_TASKS, sql);
	GoyaRows   *timers;

	GOYA_CRASH_POINT(RUN_BEFORE_TASK);
	goya_run_write_task(t, s, id, r, hold);
	goya_table_close(t);
	GOYA_CRASH_POINT(RUN_TASK_WRITTEN);
	if (!goya_run_is_later(s))
	{
		t = goya_run_open(GOYA_TABLE_READY, sql);
		goya_run_queue(s, id, r, t, NULL);
		goya_table_close(t);
		GOYA_CRASH_POINT(RUN_QUEUED);
		return;
	}
	timers = goya_run_create_timers();
	goya_run_queue(s, id, r, NULL, timers);
	goya_run_need_sql(sql);
	goya_rows_run(GOYA_STMT_INSERT_TIMERS, timers);
	GOYA_CRASH_POINT(RUN_TIMER_WRITTEN);
}

void
goya_run_init_context(const GoyaStart *s, GoyaRevision *r, const pg_uuid_t *id, GoyaRunSql *sql)
{
	Datum		args[4];

	if (!r->plan->has_context)
		return;
	goya_run_need_sql(sql);
	args[0] = UUIDPGetDatum(id);
	args[1] = UUIDPGetDatum(&s->tenant);
	args[2] = JsonbPGetDatum(r->plan->context_spec);
	args[3] = JsonbPGetDatum(s->input);
	goya_store_run(GOYA_STMT_INIT_CONTEXT, args, NULL);
}

static pg_uuid_t
start_task(const GoyaStart *s, GoyaRunSql *sql)
{
	GoyaRevision *r = goya_run_revision(s, sql);
	pg_uuid_t	id;
	bool		held;

	check_asset(s, sql);
	goya_run_check_input(r, s->input, "input");
	if (s->id != NULL)
		id = *s->id;
	else
		goya_uuid_new(&id);
	if (repeated(s, &r->workflow, &id, sql))
		return id;
	goya_run_init_context(s, r, &id, sql);
	held = goya_run_hold_money(s, r, &id, 1, sql);
	write_rows(s, &id, r, held ? &id : NULL, sql);
	return id;
}

void
goya_run_check_options(const GoyaStart *s)
{
	goya_require_preload();
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot execute goya.run on a standby"),
				 errdetail("This server follows a primary: its tables can be read, and no task starts or runs here before it is promoted."),
				 errhint("Connect to the primary server.")));
	PreventCommandIfReadOnly("goya.run");
	check_role(s->run_as);
	if (s->priority < -100 || s->priority > 100)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("priority must be from -100 to 100"), errdetail("It is %d.", s->priority)));
	if (s->has_max_cost && s->max_cost < 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("max_cost must not be negative"), errhint("It is in nano-units of the wallet's currency.")));
	if (s->depth > goya_guc_max_depth)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("tasks started by tasks are more than %d deep", goya_guc_max_depth),
				 errhint("A workflow may start itself without end; goya.max_depth is the limit.")));
}

pg_uuid_t
goya_run_start(const GoyaStart *s)
{
	GoyaRunSql	sql = {0};
	pg_uuid_t	id;

	goya_run_check_options(s);
	id = start_task(s, &sql);
	goya_run_end_sql(&sql);
	return id;
}

/* ----- SQL ----- */

static const pg_uuid_t *
uuid_arg(FunctionCallInfo fcinfo, int i)
{
	return PG_ARGISNULL(i) ? NULL : PG_GETARG_UUID_P(i);
}

static char *
text_arg(FunctionCallInfo fcinfo, int i)
{
	return PG_ARGISNULL(i) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(i));
}

/* Who calls, what it is called with that run and run_many have in common, and from which task. */
void
goya_run_caller(GoyaStart *s, const char *workflow)
{
	static LocalTransactionId trimmed_in = InvalidLocalTransactionId;

	goya_require_preload();
	memset(s, 0, sizeof(*s));
	goya_identity_require_tenant(&s->tenant);
	if (goya_identity_is_reader())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("role \"%s\" may only read", GetUserNameFromId(goya_identity_caller(), false)),
				 errdetail("It is a member of its tenant with access reader."),
				 errhint("Ask an administrator for goya.add_member with access member.")));
	s->run_as = GetUserNameFromId(goya_identity_caller(), false);
	s->created_by = goya_identity_user();
	s->workflow_name = workflow;
	if (workflow == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("workflow must not be null"), errhint("Give the name of a workflow.")));
	if (goya_identity_run() != NULL)
	{
		s->parent = &goya_identity_run()->task; /* started by a node's SQL: nobody waits, but the depth is limited */
		s->depth = goya_identity_run()->depth + 1;
	}
	else if (MyProc->lxid != trimmed_in)
	{
		goya_plan_cache_trim(); /* once per transaction, first of all: nobody holds a plan */
		trimmed_in = MyProc->lxid;
	}
}

/* goya.run(workflow, input, asset, idempotency_key, priority, trace_id, max_cost, run_at) */
PG_FUNCTION_INFO_V1(goya_run_sql);
Datum
goya_run_sql(PG_FUNCTION_ARGS)
{
	GoyaStart	s;
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	goya_run_caller(&s, text_arg(fcinfo, 0));
	s.input = PG_ARGISNULL(1) ? goya_json_object(0, NULL, NULL) : PG_GETARG_JSONB_P(1);
	s.asset = uuid_arg(fcinfo, 2);
	s.idempotency_key = text_arg(fcinfo, 3);
	s.priority = goya_tenant_check_priority(&s.tenant, PG_ARGISNULL(4) ? 0 : PG_GETARG_INT32(4));
	s.trace_id = text_arg(fcinfo, 5);
	s.has_max_cost = !PG_ARGISNULL(6);
	s.max_cost = s.has_max_cost ? PG_GETARG_INT64(6) : 0;
	s.run_at = PG_ARGISNULL(7) ? 0 : PG_GETARG_TIMESTAMPTZ(7);
	*id = goya_run_start(&s);
	PG_RETURN_UUID_P(id);
}

/* goya_private.start_task: the same with an identity decided before; see 50_run.sql for the arguments. */
PG_FUNCTION_INFO_V1(goya_start_task_sql);
Datum
goya_start_task_sql(PG_FUNCTION_ARGS)
{
	GoyaStart	s;
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	memset(&s, 0, sizeof(s));
	s.tenant = *PG_GETARG_UUID_P(0);
	s.run_as = NameStr(*PG_GETARG_NAME(1));
	s.created_by = text_arg(fcinfo, 2);
	s.workflow = uuid_arg(fcinfo, 3);
	s.input = PG_ARGISNULL(4) ? goya_json_object(0, NULL, NULL) : PG_GETARG_JSONB_P(4);
	s.asset = uuid_arg(fcinfo, 5);
	s.idempotency_key = text_arg(fcinfo, 6);
	s.priority = PG_ARGISNULL(7) ? 0 : PG_GETARG_INT32(7);
	s.trace_id = text_arg(fcinfo, 8);
	s.has_max_cost = !PG_ARGISNULL(9);
	s.max_cost = s.has_max_cost ? PG_GETARG_INT64(9) : 0;
	s.run_at = PG_ARGISNULL(10) ? 0 : PG_GETARG_TIMESTAMPTZ(10);
	s.depth = PG_ARGISNULL(11) ? 0 : PG_GETARG_INT32(11);
	s.trigger_id = uuid_arg(fcinfo, 12);
	s.trigger = PG_ARGISNULL(13) ? NULL : PG_GETARG_JSONB_P(13);
	s.parent = uuid_arg(fcinfo, 14);
	s.has_parent_node = !PG_ARGISNULL(15);
	s.parent_node = s.has_parent_node ? PG_GETARG_INT32(15) : 0;
	s.parent_item = PG_ARGISNULL(16) ? 0 : PG_GETARG_INT32(16);
	s.revision = PG_ARGISNULL(17) ? 0 : PG_GETARG_INT32(17);
	s.id = uuid_arg(fcinfo, 18);
	if (!s.has_parent_node)
		s.priority = goya_tenant_cap_priority(&s.tenant, s.priority);	/* a trigger's or an old task's */
	*id = goya_run_start(&s);
	PG_RETURN_UUID_P(id);
}
