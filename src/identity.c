/*-------------------------------------------------------------------------
 * identity.c
 *		Who is calling: role, tenant, end user; and acting as goya_owner for goya's own statements.
 *
 * The caller is the current role; inside goya's SECURITY DEFINER functions (current role goya_owner) it is the role that the session
 * had set.  Its tenant comes, in this order, from the executor's pin (a task's tenant, set in C and by nothing else), from
 * request.jwt.claims if the *session user* is a registered authenticator, from the role's membership, and for any other role with
 * goya_user, goya_reader or goya_admin it is the default tenant.  No setting a client can make overrides any of these: claims of a
 * session that is not a registered authenticator are never looked at.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "executor/spi.h"
#include "access/htup_details.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"

#include "goya.h"
#include "identity.h"
#include "json_util.h"
#include "store.h"

static bool pinned = false;
static pg_uuid_t pinned_tenant;
static Oid	pinned_role;
static GoyaPin pinned_run;

Oid
goya_owner_oid(void)
{
	return get_role_oid(GOYA_OWNER_ROLE, false);
}

/*
 * Become goya_owner with search_path pg_catalog, pg_temp for a few of goya's own statements.  Throws; needs a transaction.
 */
void
goya_owner_enter(GoyaOwnerScope *scope)
{
	Oid			owner = goya_owner_oid();

	GetUserIdAndSecContext(&scope->userid, &scope->sec_context);
	scope->guc_level = NewGUCNestLevel();
	SetUserIdAndSecContext(owner, scope->sec_context | SECURITY_LOCAL_USERID_CHANGE);
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

void
goya_owner_leave(GoyaOwnerScope *scope)
{
	AtEOXact_GUC(false, scope->guc_level);
	SetUserIdAndSecContext(scope->userid, scope->sec_context);
}

void
goya_identity_pin(const pg_uuid_t *tenant, Oid role, const GoyaPin *run)
{
	pinned = true;
	pinned_tenant = *tenant;
	pinned_role = role;
	pinned_run = *run;
}

/* The node run whose SQL is running now, or NULL. */
const GoyaPin *
goya_identity_run(void)
{
	return pinned ? &pinned_run : NULL;
}

void
goya_identity_unpin(void)
{
	pinned = false;
}

Oid
goya_identity_caller(void)
{
	Oid			role = GetUserId();

	if (pinned)
		return pinned_role;
	if (role == get_role_oid(GOYA_OWNER_ROLE, true))
		role = GetOuterUserId();
	return role;
}

static Datum
name_datum(Oid role)
{
	return DirectFunctionCall1(namein, CStringGetDatum(GetUserNameFromId(role, false)));
}

/* Claims of a verified front end, or NULL when the session is none. */
static Jsonb *
verified_claims(void)
{
	const char *text = GetConfigOption("request.jwt.claims", true, false);
	Jsonb	   *claims;
	Datum		args[1];

	if (pinned || text == NULL || text[0] == '\0')
		return NULL;
	args[0] = name_datum(GetSessionUserId());
	goya_store_run(GOYA_STMT_IS_AUTHENTICATOR, args, NULL);
	if (SPI_processed == 0)
		return NULL;
	claims = goya_json_parse(text, strlen(text));
	return goya_json_is_object(claims) ? claims : NULL;
}

/* True: found and active. */
static bool
fetch_tenant(GoyaStatement statement, Datum arg, pg_uuid_t *tenant, bool *found)
{
	goya_store_run(statement, &arg, NULL);
	*found = SPI_processed > 0;
	if (!*found)
		return false;
	*tenant = goya_result_uuid(0, 1);
	return strcmp(goya_result_text(0, 2, CurrentMemoryContext), "active") == 0;
}

static bool
role_may_use_goya(Oid role)
{
	static const char *const names[] = {"goya_user", "goya_reader", "goya_admin"};

	for (int i = 0; i < lengthof(names); i++)
	{
		Oid			goya_role = get_role_oid(names[i], true);

		if (OidIsValid(goya_role) && has_privs_of_role(role, goya_role))
			return true;
	}
	return false;
}

static bool
lookup_tenant(Oid role, pg_uuid_t *tenant)
{
	Jsonb	   *claims = verified_claims();
	char	   *name = claims ? goya_json_get_text(claims, "tenant") : NULL;
	bool		found;
	bool		active;

	if (name != NULL)
		return fetch_tenant(GOYA_STMT_TENANT_BY_NAME, CStringGetTextDatum(name), tenant, &found);
	active = fetch_tenant(GOYA_STMT_TENANT_OF_MEMBER, name_datum(role), tenant, &found);
	if (found)
		return active;
	if (!role_may_use_goya(role))
		return false;
	return fetch_tenant(GOYA_STMT_TENANT_BY_NAME, CStringGetTextDatum("default"), tenant, &found);
}

/*
 * The caller's tenant; false when it has none or the tenant is suspended.  Needs an active snapshot.
 */
bool
goya_identity_tenant(pg_uuid_t *tenant)
{
	Oid			role = goya_identity_caller();
	GoyaStoreScope scope;
	bool		result;

	if (pinned)
	{
		*tenant = pinned_tenant;
		return true;
	}
	goya_store_enter(&scope);
	result = lookup_tenant(role, tenant);
	goya_store_leave(&scope);
	return result;
}

void
goya_identity_require_tenant(pg_uuid_t *tenant)
{
	if (!goya_identity_tenant(tenant))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("role \"%s\" belongs to no tenant", GetUserNameFromId(goya_identity_caller(), false)),
				 errdetail("The role has no membership, or its tenant is suspended."),
				 errhint("Grant goya_user to the role, or ask an administrator for goya.add_member.")));
}

char *
goya_identity_user(void)
{
	GoyaStoreScope scope;
	char	   *result = NULL;
	Jsonb	   *claims;

	if (pinned)
		return NULL;
	goya_store_enter(&scope);
	claims = verified_claims();
	if (claims != NULL)
	{
		result = goya_json_get_text(claims, "user");
		if (result == NULL)
			result = goya_json_get_text(claims, "sub");
	}
	goya_store_leave(&scope);
	return result;
}

bool
goya_identity_is_admin(void)
{
	Oid			role = goya_identity_caller();
	Oid			admin = get_role_oid("goya_admin", true);

	if (pinned)
		return false;
	return superuser_arg(role) || (OidIsValid(admin) && is_member_of_role(role, admin));
}

/* ----- SQL ----- */

PG_FUNCTION_INFO_V1(goya_identity_tenant_sql);
Datum
goya_identity_tenant_sql(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *tenant = palloc(sizeof(pg_uuid_t));

	if (!goya_identity_tenant(tenant))
		PG_RETURN_NULL();
	PG_RETURN_UUID_P(tenant);
}

PG_FUNCTION_INFO_V1(goya_identity_caller_sql);
Datum
goya_identity_caller_sql(PG_FUNCTION_ARGS)
{
	return DirectFunctionCall1(namein, CStringGetDatum(GetUserNameFromId(goya_identity_caller(), false)));
}

PG_FUNCTION_INFO_V1(goya_identity_user_sql);
Datum
goya_identity_user_sql(PG_FUNCTION_ARGS)
{
	char	   *user = goya_identity_user();

	if (user == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(user));
}

PG_FUNCTION_INFO_V1(goya_identity_admin_sql);
Datum
goya_identity_admin_sql(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(goya_identity_is_admin());
}

/* goya_private.current_task(OUT task_id, OUT node, OUT item, OUT depth): the node run whose SQL is running now; nulls elsewhere. */
PG_FUNCTION_INFO_V1(goya_identity_run_sql);
Datum
goya_identity_run_sql(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Datum		values[4] = {0};
	bool		nulls[4] = {!pinned, !pinned, !pinned, !pinned};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (pinned)
	{
		values[0] = UUIDPGetDatum(&pinned_run.task);
		values[1] = CStringGetTextDatum(pinned_run.node);
		values[2] = Int32GetDatum(pinned_run.item);
		values[3] = Int32GetDatum(pinned_run.depth);
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

PG_FUNCTION_INFO_V1(goya_identity_in_task_sql);
Datum
goya_identity_in_task_sql(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(pinned);
}
