/*-------------------------------------------------------------------------
 * identity.c
 *		Who is calling: role, tenant, end user; and acting as goya_owner for goya's own statements.
 *
 * The caller is the current role; inside goya's SECURITY DEFINER functions (current role goya_owner) it is who called them: the role of the
 * SECURITY DEFINER function around them (frames.c), else the role that the session had set.  Inside a node that is the task's role; a
 * SECURITY DEFINER function of somebody who belongs to a tenant acts for its owner there too, with its owner's tenant.
 * The caller's tenant comes, in this order, from the executor's pin (a task's tenant, set in C and by nothing else), from
 * request.jwt.claims if the *session user* is a registered authenticator, from the role's membership, and for any other role with
 * goya_user, goya_reader or goya_admin it is the default tenant.  Claims of a session that is not a registered authenticator are never
 * looked at.
 *
 * Decided: claims say for whom a front end's role acts.  They are not believed for the owner of a SECURITY DEFINER function, whom somebody
 * made the session call, unless that owner serves whoever calls: a superuser, or an authenticator itself.  Nor for anybody whom such an
 * owner's function called in turn.  Where the claims name a tenant and are not believed, only a membership gives one: falling back to
 * default would put one tenant's rows into another.
 * A parallel worker has neither the pin nor the frames of its leader: it is told nothing (0A000) rather than something wrong.
 *
 * Answers are kept per role, claims and whether they are believed, with the version of what they were made from (watch.c): column defaults
 * and policies ask three times for every row.  What must hold: an answer is used only while its version is the newest, which
 * goya_watch_version says anew for each question; so a suspension, a removed membership, an unregistered authenticator or a revoked role
 * counts from its COMMIT on.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/parallel.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "frames.h"
#include "goya.h"
#include "identity.h"
#include "json_util.h"
#include "watch.h"

#define OWNER_PATH "pg_catalog, pg_temp"
#define KEPT_IDENTITIES 16
#define KEPT_STANDINGS 8

/* What is known of a caller. */
typedef struct Identity
{
	uint64		version;		/* 0: this place is free */
	MemoryContext cxt;			/* holds claims and user */
	Oid			role;
	char	   *claims;			/* of a verified front end; NULL: none */
	bool		believed;		/* and they are about this role */
	bool		withheld;		/* they are not, and it has no tenant of its own */
	bool		belongs;		/* to a tenant, which may be suspended */
	bool		has_tenant;		/* found, and active */
	pg_uuid_t	tenant;
	bool		reader;			/* a member that may change nothing */
	char	   *user;			/* the front end's user, or NULL */
} Identity;

static Identity kept[KEPT_IDENTITIES];
static int	next_place = 0;

/* Whom a role may speak for. */
typedef struct Standing
{
	uint64		version;		/* 0: this place is free */
	Oid			role;
	bool		registered;		/* as a front end: claims in its sessions count */
	bool		serves;			/* its functions act for whoever calls them */
} Standing;

static bool acts_for_itself(Oid role);

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
 *
 * The path matters though every name in those statements is qualified: operators are not, and a plan is made again under the path of the day
 * whenever something it depends on has changed.  Setting it costs microseconds, so a path that is the right one already is left alone.
 */
void
goya_owner_enter(GoyaOwnerScope *scope)
{
	Oid			owner = goya_owner_oid();

	GetUserIdAndSecContext(&scope->userid, &scope->sec_context);
	SetUserIdAndSecContext(owner, scope->sec_context | SECURITY_LOCAL_USERID_CHANGE);
	scope->guc_level = 0;
	if (namespace_search_path != NULL && strcmp(namespace_search_path, OWNER_PATH) == 0)
		return;
	scope->guc_level = NewGUCNestLevel();
	(void) set_config_option("search_path", OWNER_PATH, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

void
goya_owner_leave(GoyaOwnerScope *scope)
{
	if (scope->guc_level > 0)
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

static void
refuse_parallel_worker(void)
{
	if (IsParallelWorker())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("goya cannot be called in a parallel worker"),
				 errdetail("It cannot tell there who is calling. A function that is marked PARALLEL SAFE called it."),
				 errhint("Mark that function PARALLEL UNSAFE, which goya's functions are.")));
}

/* The node run whose SQL is running now, or NULL. */
const GoyaPin *
goya_identity_run(void)
{
	refuse_parallel_worker();
	return pinned ? &pinned_run : NULL;
}

void
goya_identity_unpin(void)
{
	pinned = false;
}

static Oid
known_owner(void)
{
	static Oid	owner = InvalidOid;
	static uint64 owner_version = 0;
	uint64		version = goya_watch_version(GOYA_WATCH_IDENTITY);

	if (version != owner_version)
	{
		owner = get_role_oid(GOYA_OWNER_ROLE, true);
		owner_version = version;
	}
	return owner;
}

static bool
is_not_owner(Oid role)
{
	return role != known_owner();
}

/*
 * Who called goya's own function that we are in.  While a table is maintained (its indexes, statistics, a materialized view) and inside
 * checks of foreign keys PostgreSQL runs functions as the table's owner in whatever session it is: nobody there is a caller of goya.
 */
static Oid
caller_of_owner(void)
{
	Oid			userid;
	int			sec_context;
	Oid			caller = goya_frames_find(is_not_owner);

	GetUserIdAndSecContext(&userid, &sec_context);
	if (sec_context & (SECURITY_RESTRICTED_OPERATION | SECURITY_NOFORCE_RLS))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("goya cannot be called here"),
				 errdetail("A function that PostgreSQL runs as the owner of a table, for its indexes, statistics or foreign keys, called it.")));
	if (OidIsValid(caller))
		return caller;
	return pinned ? pinned_role : GetOuterUserId();
}

/* Inside a node: does this role act in its own name there? */
static bool
acts_in_node(Oid role)
{
	return role == pinned_role || (is_not_owner(role) && acts_for_itself(role));
}

Oid
goya_identity_caller(void)
{
	Oid			role = GetUserId();

	refuse_parallel_worker();
	if (pinned && role == pinned_role)
		return role;
	if (!is_not_owner(role))
		role = caller_of_owner();
	if (!pinned || acts_in_node(role))
		return role;
	/* Somebody's function that serves its caller: which may be another one's function, and not the node. */
	role = goya_frames_find(acts_in_node);
	return OidIsValid(role) ? role : pinned_role;
}

static Datum
name_datum(Oid role)
{
	return DirectFunctionCall1(namein, CStringGetDatum(GetUserNameFromId(role, false)));
}

/* ----- who is it ----- */

/* Rows of one table where column = value; they are few. */
static List *
read_rows(GoyaWatched table, const char *index, const char *column, Oid equals, Datum value, int ncolumns, const char *const *columns)
{
	GoyaWatchKey key = {column, equals, value};

	return goya_watch_read(table, index, 1, &key, ncolumns, columns);
}

/* Valid until the next call. */
static const Standing *
standing_of(Oid role, uint64 version)
{
	static Standing standings[KEPT_STANDINGS];
	static int	next = 0;
	static const char *const columns[] = {"role_name"};
	Standing	found = {.version = version,.role = role};
	Standing   *standing;

	for (int i = 0; i < KEPT_STANDINGS; i++)
		if (standings[i].version == version && standings[i].role == role)
			return &standings[i];
	found.registered = read_rows(GOYA_WATCHED_AUTHENTICATORS, "authenticators_pkey", "role_name", F_NAMEEQ, name_datum(role), 1, columns) != NIL;
	found.serves = found.registered || superuser_arg(role);
	standing = &standings[next];
	next = (next + 1) % KEPT_STANDINGS;
	*standing = found;
	return standing;
}

/* The claims of a verified front end as text, or NULL when the session is none or sent none.  A task has none. */
static const char *
trusted_claims(uint64 version)
{
	const char *text;

	if (pinned || !standing_of(GetSessionUserId(), version)->registered)
		return NULL;
	text = GetConfigOption("request.jwt.claims", true, false);
	return text == NULL || text[0] == '\0' ? NULL : text;
}

/* The owner of a SECURITY DEFINER function that acts for its owner: claims are about the session's role, not about this one. */
static bool
acts_beside_session(Oid role)
{
	return role != GetOuterUserId() && is_not_owner(role) && !standing_of(role, goya_watch_version(GOYA_WATCH_IDENTITY))->serves;
}

/* Are the session's claims about this role?  Not if it, or anybody between the session and it, acts for itself. */
static bool
claims_are_about(Oid role)
{
	return !acts_beside_session(role) && !OidIsValid(goya_frames_find(acts_beside_session));
}

/* False: there is no such tenant, or it is suspended. */
static bool
find_tenant(const char *index, const char *column, Oid equals, Datum value, pg_uuid_t *tenant)
{
	static const char *const columns[] = {"id", "status"};
	List	   *rows = read_rows(GOYA_WATCHED_TENANTS, index, column, equals, value, lengthof(columns), columns);
	GoyaWatchRow *row;

	if (rows == NIL)
		return false;
	row = linitial(rows);
	*tenant = *DatumGetUUIDP(row->values[0]);
	return strcmp(TextDatumGetCString(row->values[1]), "active") == 0;
}

static bool
find_tenant_named(const char *name, pg_uuid_t *tenant)
{
	return find_tenant("tenants_name_key", "name", F_TEXTEQ, CStringGetTextDatum(name), tenant);
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

static void
look_up(Identity *who)
{
	static const char *const columns[] = {"tenant_id", "access"};
	List	   *members = read_rows(GOYA_WATCHED_MEMBERS, "members_pkey", "role_name", F_NAMEEQ, name_datum(who->role), lengthof(columns), columns);
	Jsonb	   *claims = who->claims ? goya_json_parse(who->claims, strlen(who->claims)) : NULL;
	char	   *name = claims ? goya_json_get_text(claims, "tenant") : NULL;
	GoyaWatchRow *member = members == NIL ? NULL : linitial(members);

	if (who->believed && claims != NULL)
		who->user = goya_json_get_text(claims, "user");
	if (who->believed && claims != NULL && who->user == NULL)
		who->user = goya_json_get_text(claims, "sub");
	who->reader = member != NULL && strcmp(TextDatumGetCString(member->values[1]), "reader") == 0;
	who->belongs = true;
	if (name != NULL && who->believed)
		who->has_tenant = find_tenant_named(name, &who->tenant);
	else if (member != NULL)
		who->has_tenant = find_tenant("tenants_pkey", "id", F_UUID_EQ, member->values[0], &who->tenant);
	else
	{
		who->withheld = name != NULL;
		who->belongs = role_may_use_goya(who->role);
		who->has_tenant = who->belongs && !who->withheld && find_tenant_named("default", &who->tenant);
	}
}

static bool
same_claims(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

/* What is known of a role in this session; valid until the next call. */
static const Identity *
identity_of(Oid role)
{
	uint64		version = goya_watch_version(GOYA_WATCH_IDENTITY);
	const char *claims = trusted_claims(version);
	bool		believed = claims != NULL && claims_are_about(role);
	Identity	who = {0};
	MemoryContext old;

	for (int i = 0; i < KEPT_IDENTITIES; i++)
		if (kept[i].version == version && kept[i].role == role && kept[i].believed == believed && same_claims(kept[i].claims, claims))
			return &kept[i];

	/* The oldest makes room.  An error while looking up leaves that place free. */
	next_place = (next_place + 1) % KEPT_IDENTITIES;
	kept[next_place].version = 0;
	if (kept[next_place].cxt == NULL)
		kept[next_place].cxt = AllocSetContextCreate(TopMemoryContext, "goya identity", ALLOCSET_SMALL_SIZES);
	MemoryContextReset(kept[next_place].cxt);
	who.cxt = kept[next_place].cxt;
	who.role = role;
	old = MemoryContextSwitchTo(who.cxt);
	who.claims = claims ? pstrdup(claims) : NULL;
	who.believed = believed;
	look_up(&who);
	MemoryContextSwitchTo(old);
	who.version = version;
	kept[next_place] = who;
	return &kept[next_place];
}

static const Identity *
caller_identity(void)
{
	return identity_of(goya_identity_caller());
}

/*
 * Inside a node, in a SECURITY DEFINER function of another role: is that role somebody who uses goya for itself?  Superusers are not: their
 * functions serve whoever calls them.
 */
static bool
acts_for_itself(Oid role)
{
	return !superuser_arg(role) && identity_of(role)->belongs;
}

/*
 * The caller's tenant; false when it has none or the tenant is suspended.
 */
bool
goya_identity_tenant(pg_uuid_t *tenant)
{
	const Identity *who;
	Oid			caller = goya_identity_caller();

	if (pinned && caller == pinned_role)
	{
		*tenant = pinned_tenant;
		return true;
	}
	who = identity_of(caller);
	*tenant = who->tenant;
	return who->has_tenant;
}

/* Has the caller no tenant because the claims of the session are not about it? */
static bool
claims_withheld(void)
{
	return caller_identity()->withheld;
}

void
goya_identity_require_tenant(pg_uuid_t *tenant)
{
	bool		withheld;

	if (goya_identity_tenant(tenant))
		return;
	withheld = claims_withheld();
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("role \"%s\" belongs to no tenant", GetUserNameFromId(goya_identity_caller(), false)),
			 withheld ? errdetail("It owns a SECURITY DEFINER function that a front end's session called, and the claims there are not about it.") :
			 errdetail("The role has no membership, or its tenant is suspended."),
			 withheld ? errhint("goya.register_authenticator lets its functions act for the front end's users, goya.add_member for a tenant of its own.") :
			 errhint("Grant goya_user to the role, or ask an administrator for goya.add_member.")));
}

/* Is the caller a member of its tenant that may change nothing?  Inside a task it is asked of the role the task runs as. */
bool
goya_identity_is_reader(void)
{
	return caller_identity()->reader;
}

char *
goya_identity_user(void)
{
	const Identity *who;

	if (pinned)
		return NULL;
	who = caller_identity();
	return who->user ? pstrdup(who->user) : NULL;
}

bool
goya_identity_is_admin(void)
{
	Oid			role = pinned ? InvalidOid : goya_identity_caller();
	Oid			admin = get_role_oid("goya_admin", true);

	if (pinned)
		return false;
	return superuser_arg(role) || (OidIsValid(admin) && is_member_of_role(role, admin));
}

/* ----- SQL ----- */

PG_FUNCTION_INFO_V1(goya_identity_withheld_sql);
Datum
goya_identity_withheld_sql(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(claims_withheld());
}

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

PG_FUNCTION_INFO_V1(goya_identity_reader_sql);
Datum
goya_identity_reader_sql(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(goya_identity_is_reader());
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

	refuse_parallel_worker();
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
	refuse_parallel_worker();
	PG_RETURN_BOOL(pinned);
}
