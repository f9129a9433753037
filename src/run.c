/*-------------------------------------------------------------------------
 * run.c
 *		goya.run and everything else that starts a task: plain inserts in the caller's transaction.
 *
 * Order: who (tenant, role), what (workflow, revision, asset), is the input right, was this key used, then money, then the rows.  The
 * task's hold locks a wallet, so it comes last of the locks that are waited for.  Rolled back with the caller; visible, and the engine
 * woken, exactly at its commit.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "batch.h"
#include "guc.h"
#include "identity.h"
#include "json_util.h"
#include "plan_cache.h"
#include "run.h"
#include "shmem.h"
#include "store.h"

/* ----- what ----- */

typedef struct WorkflowRow
{
	pg_uuid_t	id;
	bool		enabled;
	int			revision;		/* 0: none published */
} WorkflowRow;

static bool
workflow_visible(int row, const char *caller)
{
	char	   *visibility = goya_result_text(row, 4, CurrentMemoryContext);
	char	   *owner = goya_result_text(row, 5, CurrentMemoryContext);
	Oid			role = get_role_oid(caller, true);
	Datum	   *names;
	int			n;

	if (strcmp(visibility, "tenant") == 0 || strcmp(visibility, "public") == 0 || strcmp(owner, caller) == 0 || goya_identity_is_admin())
		return true;
	if (strcmp(visibility, "role") != 0 || !OidIsValid(role))
		return false;
	deconstruct_array(DatumGetArrayTypeP(goya_result_datum(row, 6)), TEXTOID, -1, false, TYPALIGN_INT, &names, NULL, &n);
	for (int i = 0; i < n; i++)
	{
		Oid			allowed = get_role_oid(TextDatumGetCString(names[i]), true);

		if (OidIsValid(allowed) && has_privs_of_role(role, allowed))
			return true;
	}
	return false;
}

static WorkflowRow
find_workflow(const GoyaStart *s)
{
	WorkflowRow w = {0};
	const char *name = s->workflow_name ? s->workflow_name : goya_uuid_text(s->workflow);
	Datum		args[2];

	args[0] = UUIDPGetDatum(&s->tenant);
	args[1] = s->workflow ? UUIDPGetDatum(s->workflow) : CStringGetTextDatum(name);
	goya_store_run(s->workflow ? GOYA_STMT_FIND_WORKFLOW_ID : GOYA_STMT_FIND_WORKFLOW, args, NULL);
	if (SPI_processed == 0 || !workflow_visible(0, s->run_as))
		ereport(ERROR,
				(errcode(GOYA_ERR_NOT_FOUND),
				 errmsg("workflow \"%s\" not found", name),
				 errhint("SELECT name FROM goya.workflows lists those you may run.")));
	w.id = goya_result_uuid(0, 1);
	w.enabled = goya_result_bool(0, 2);
	w.revision = goya_result_isnull(0, 3) ? 0 : goya_result_int4(0, 3);
	if (!w.enabled)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("workflow \"%s\" is disabled", name),
				 errhint("goya.enable_workflow enables it.")));
	if (w.revision == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("workflow \"%s\" is not published", name),
				 errhint("goya.publish_workflow makes a revision of its draft.")));
	return w;
}

static void
check_input(GoyaRevision *r, Jsonb *input)
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
			 errmsg("input does not fit the workflow's input schema"),
			 errdetail("%s", detail.data),
			 errhint("The schema is in goya.workflow_revisions, definition -> 'input'.")));
}

static void
check_asset(const GoyaStart *s)
{
	Datum		args[2];

	if (s->asset == NULL)
		return;
	args[0] = UUIDPGetDatum(s->asset);
	args[1] = UUIDPGetDatum(&s->tenant);
	goya_store_run(GOYA_STMT_ASSET_EXISTS, args, NULL);
	if (SPI_processed == 0)
		ereport(ERROR,
				(errcode(GOYA_ERR_NOT_FOUND),
				 errmsg("asset %s not found", goya_uuid_text(s->asset)),
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

static bytea *
request_hash(const GoyaStart *s, const pg_uuid_t *workflow)
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
		pg_cryptohash_update(ctx, (uint8 *) &s->max_cost, sizeof(s->max_cost)) < 0 ||
		pg_cryptohash_update(ctx, (uint8 *) VARDATA_ANY(s->input), VARSIZE_ANY_EXHDR(s->input)) < 0 ||
		pg_cryptohash_final(ctx, (uint8 *) VARDATA(hash), PG_SHA256_DIGEST_LENGTH) < 0)
		elog(ERROR, "could not hash a request");
	pg_cryptohash_free(ctx);
	return hash;
}

/* True: the key was used before for this same request, and *id is that task. */
static bool
repeated(const GoyaStart *s, const pg_uuid_t *workflow, pg_uuid_t *id)
{
	Datum		args[4];

	if (s->idempotency_key == NULL)
		return false;
	if (strlen(s->idempotency_key) > 255)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("idempotency_key is longer than 255 bytes"),
						errhint("Use the id of the request in your own records, or a hash of it.")));
	args[0] = UUIDPGetDatum(&s->tenant);
	args[1] = CStringGetTextDatum(s->idempotency_key);
	args[2] = PointerGetDatum(request_hash(s, workflow));
	args[3] = UUIDPGetDatum(id);
	goya_store_run(GOYA_STMT_INSERT_KEY, args, NULL);
	if (SPI_processed > 0)
		return false;
	goya_store_run(GOYA_STMT_FIND_KEY, args, NULL);
	if (SPI_processed == 0)
		ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE), errmsg("the same idempotency key is being used at this moment")));
	if (!goya_result_bool(0, 2))
		ereport(ERROR,
				(errcode(ERRCODE_UNIQUE_VIOLATION),
				 errmsg("idempotency key \"%s\" was used for another request", s->idempotency_key),
				 errhint("Use a new key for a new request; the same key only repeats the same workflow, input, asset, priority and max_cost.")));
	*id = goya_result_uuid(0, 1);
	return true;
}

/* ----- money ----- */

/* Returns true and the hold's id when the task costs something. */
static bool
hold_money(const GoyaStart *s, GoyaRevision *r, const pg_uuid_t *id, pg_uuid_t *hold)
{
	Datum		args[3];
	int64		amount;

	if (!r->plan->has_prices)
		return false;
	args[0] = UUIDPGetDatum(&s->tenant);
	args[1] = JsonbPGetDatum(r->resolved);
	goya_store_run(GOYA_STMT_QUOTE, args, NULL);
	amount = SPI_processed == 0 || goya_result_isnull(0, 1) ? 0 : goya_result_int8(0, 1);
	if (s->has_max_cost)
		amount = Min(amount, s->max_cost);
	args[1] = UUIDPGetDatum(id);
	args[2] = Int64GetDatum(amount);
	goya_store_run(GOYA_STMT_HOLD, args, NULL);
	*hold = goya_result_uuid(0, 1);
	return true;
}

/* ----- rows ----- */

static void
insert_task(const GoyaStart *s, const pg_uuid_t *id, const pg_uuid_t *workflow, int revision, const char *trace_id, const pg_uuid_t *hold)
{
	Datum		args[20];
	char		nulls[20];
	NameData	run_as;

	memset(nulls, ' ', sizeof(nulls));
#define PUT(i, present, value) do { if (present) args[i] = (value); else { args[i] = (Datum) 0; nulls[i] = 'n'; } } while (0)
	namestrcpy(&run_as, s->run_as);
	PUT(0, true, UUIDPGetDatum(id));
	PUT(1, true, UUIDPGetDatum(&s->tenant));
	PUT(2, true, UUIDPGetDatum(workflow));
	PUT(3, true, Int32GetDatum(revision));
	PUT(4, true, NameGetDatum(&run_as));
	PUT(5, s->created_by != NULL, CStringGetTextDatum(s->created_by));
	PUT(6, true, Int16GetDatum(s->priority));
	PUT(7, true, Int16GetDatum(s->depth));
	PUT(8, true, JsonbPGetDatum(s->input));
	PUT(9, s->asset != NULL, UUIDPGetDatum(s->asset));
	PUT(10, s->parent != NULL, UUIDPGetDatum(s->parent));
	PUT(11, s->has_parent_node, Int32GetDatum(s->parent_node));
	PUT(12, s->has_parent_node, Int32GetDatum(s->parent_item));
	PUT(13, s->trigger_id != NULL, UUIDPGetDatum(s->trigger_id));
	PUT(14, s->trigger != NULL, JsonbPGetDatum(s->trigger));
	PUT(15, true, CStringGetTextDatum(trace_id));
	PUT(16, s->idempotency_key != NULL, CStringGetTextDatum(s->idempotency_key));
	PUT(17, s->has_max_cost, Int64GetDatum(s->max_cost));
	PUT(18, hold != NULL, UUIDPGetDatum(hold));
	PUT(19, s->run_at != 0, TimestampTzGetDatum(s->run_at));
#undef PUT
	goya_store_run(GOYA_STMT_INSERT_TASK, args, nulls);
}

static void
queue_start(const GoyaStart *s, const pg_uuid_t *id)
{
	static const Oid columns[] = {INT8OID, INT2OID, INT2OID, UUIDOID, INT4OID, INT4OID, INT2OID, TIMESTAMPTZOID};
	bool		later = s->run_at > GetCurrentTimestamp();
	GoyaRows   *rows;

	if (!later)
	{
		GoyaTable  *ready = goya_table_open(GOYA_TABLE_READY);

		goya_queue_append(ready, goya_rank_next(MyDatabaseId, &s->tenant, s->priority, 1), GOYA_LANE_EXECUTOR, GOYA_VERB_RUN, id, -1, 0, 1, 0);
		goya_table_close(ready);
		goya_wake_at_commit(GOYA_WAKE_EXECUTORS);
		return;
	}
	rows = goya_rows_create(8, columns);
	goya_rows_add(rows);
	goya_rows_int8(rows, 0, goya_rank_next(MyDatabaseId, &s->tenant, s->priority, 1));
	goya_rows_int2(rows, 1, GOYA_LANE_EXECUTOR);
	goya_rows_int2(rows, 2, GOYA_VERB_RUN);
	goya_rows_uuid(rows, 3, id);
	goya_rows_int4(rows, 4, -1);
	goya_rows_int4(rows, 5, 0);
	goya_rows_int2(rows, 6, 1);
	goya_rows_time(rows, 7, s->run_at);
	goya_rows_run(GOYA_STMT_INSERT_TIMERS, rows);
	goya_wake_at_commit(GOYA_WAKE_TIMERS);
}

static void
init_context(const GoyaStart *s, GoyaRevision *r, const pg_uuid_t *id)
{
	Datum		args[4];

	if (!r->plan->has_context)
		return;
	args[0] = UUIDPGetDatum(id);
	args[1] = UUIDPGetDatum(&s->tenant);
	args[2] = JsonbPGetDatum(r->plan->context_spec);
	args[3] = JsonbPGetDatum(s->input);
	goya_store_run(GOYA_STMT_INIT_CONTEXT, args, NULL);
}

static pg_uuid_t
start_task(const GoyaStart *s)
{
	pg_uuid_t	id;
	pg_uuid_t	hold;
	pg_uuid_t	workflow;
	int			revision = s->revision;
	GoyaRevision *r;
	bool		held;

	if (s->workflow != NULL && revision > 0)
		workflow = *s->workflow;
	else
	{
		WorkflowRow row = find_workflow(s);

		workflow = row.id;
		revision = row.revision;
	}
	r = goya_plan_cache_get(&workflow, revision);
	if (r == NULL)
		ereport(ERROR, (errcode(GOYA_ERR_NOT_FOUND), errmsg("revision %d of the workflow not found", revision)));
	check_asset(s);
	check_input(r, s->input);
	goya_uuid_new(&id);
	if (repeated(s, &workflow, &id))
		return id;
	init_context(s, r, &id);
	held = hold_money(s, r, &id, &hold);
	insert_task(s, &id, &workflow, revision, s->trace_id ? s->trace_id : goya_uuid_text(&id), held ? &hold : NULL);
	queue_start(s, &id);
	return id;
}

pg_uuid_t
goya_run_start(const GoyaStart *s)
{
	GoyaStoreScope scope;
	pg_uuid_t	id;

	goya_require_preload();
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
	goya_store_enter(&scope);
	id = start_task(s);
	goya_store_leave(&scope);
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

/* goya.run(workflow, input, asset, idempotency_key, priority, trace_id, max_cost, run_at) */
PG_FUNCTION_INFO_V1(goya_run_sql);
Datum
goya_run_sql(PG_FUNCTION_ARGS)
{
	GoyaStart	s;
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	goya_require_preload();
	memset(&s, 0, sizeof(s));
	goya_identity_require_tenant(&s.tenant);
	s.run_as = GetUserNameFromId(goya_identity_caller(), false);
	s.created_by = goya_identity_user();
	s.workflow_name = text_arg(fcinfo, 0);
	if (s.workflow_name == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("workflow must not be null"), errhint("Give the name of a workflow.")));
	s.input = PG_ARGISNULL(1) ? goya_json_object(0, NULL, NULL) : PG_GETARG_JSONB_P(1);
	s.asset = uuid_arg(fcinfo, 2);
	s.idempotency_key = text_arg(fcinfo, 3);
	s.priority = PG_ARGISNULL(4) ? 0 : PG_GETARG_INT32(4);
	s.trace_id = text_arg(fcinfo, 5);
	s.has_max_cost = !PG_ARGISNULL(6);
	s.max_cost = s.has_max_cost ? PG_GETARG_INT64(6) : 0;
	s.run_at = PG_ARGISNULL(7) ? 0 : PG_GETARG_TIMESTAMPTZ(7);
	if (goya_identity_run() != NULL)
	{
		s.parent = &goya_identity_run()->task;	/* started by a node's SQL: nobody waits, but the depth is limited */
		s.depth = goya_identity_run()->depth + 1;
	}
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
	*id = goya_run_start(&s);
	PG_RETURN_UUID_P(id);
}
