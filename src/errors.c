/*-------------------------------------------------------------------------
 * errors.c
 *		A node's failure as data: {"code", "class", "message", "detail", "hint"}, and the class of an sqlstate.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "storage/proc.h"

#include "batch.h"
#include "json_util.h"

/*
 * Which class an sqlstate belongs to.  Classes steer retries: VALIDATION and POLICY_DENY are not retried unless a node asks for it.
 */
static int
class_of(int sqlerrcode)
{
	if (sqlerrcode == GOYA_ERR_NO_MONEY || sqlerrcode == ERRCODE_INSUFFICIENT_PRIVILEGE)
		return GOYA_ERR_POLICY_DENY;
	if (sqlerrcode == ERRCODE_QUERY_CANCELED)
		return GOYA_ERR_TIMEOUT;
	if (sqlerrcode == GOYA_ERR_NOT_FOUND)
		return GOYA_ERR_VALIDATION;	/* as the 404 it is: what is not there now will not be there in a second */
	if (sqlerrcode == GOYA_ERR_TOO_MANY)
		return GOYA_ERR_TRANSIENT;
	if (sqlerrcode == ERRCODE_RAISE_EXCEPTION)
		return GOYA_ERR_UNKNOWN;
	switch (ERRCODE_TO_CATEGORY(sqlerrcode))
	{
		case MAKE_SQLSTATE('4', '0', '0', '0', '0'):	/* serialization, deadlock */
		case MAKE_SQLSTATE('5', '5', '0', '0', '0'):	/* lock not available, object in use */
		case MAKE_SQLSTATE('2', '5', '0', '0', '0'):
			return GOYA_ERR_TRANSIENT;
		case MAKE_SQLSTATE('5', '3', '0', '0', '0'):
		case MAKE_SQLSTATE('5', '4', '0', '0', '0'):
			return GOYA_ERR_RESOURCE_LIMIT;
		case MAKE_SQLSTATE('2', '2', '0', '0', '0'):
		case MAKE_SQLSTATE('2', '3', '0', '0', '0'):
			return GOYA_ERR_VALIDATION;
		case MAKE_SQLSTATE('0', '8', '0', '0', '0'):
		case MAKE_SQLSTATE('5', '8', '0', '0', '0'):
			return GOYA_ERR_DEPENDENCY;
		case MAKE_SQLSTATE('4', '2', '0', '0', '0'):
		case MAKE_SQLSTATE('X', 'X', '0', '0', '0'):
		case MAKE_SQLSTATE('3', 'F', '0', '0', '0'):
			return GOYA_ERR_TOOL_BUG;
		default:
			return GOYA_ERR_UNKNOWN;
	}
}

/*
 * Deadlocks and serialization failures; lock timeouts where somebody has set one, since NOWAIT and RAISE give the same code.
 */
bool
goya_error_is_contention(const ErrorData *e)
{
	return ERRCODE_TO_CATEGORY(e->sqlerrcode) == ERRCODE_TRANSACTION_ROLLBACK ||
		(e->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE && LockTimeout > 0);
}

/* Text that jsonb takes: an error message may carry anything. */
static const char *
clean(const char *text)
{
	return text != NULL && pg_verifymbstr(text, strlen(text), true) ? text : text != NULL ? "(not valid text)" : NULL;
}

Jsonb *
goya_error_make(const char *sqlstate, int error_class, const char *message, const char *detail, const char *hint)
{
	GoyaJsonObject o;

	goya_json_object_start(&o);
	goya_json_add_text(&o, "code", sqlstate);
	goya_json_add_text(&o, "class", goya_error_class_name(error_class));
	goya_json_add_text(&o, "message", clean(message));
	goya_json_add_text(&o, "detail", clean(detail));
	goya_json_add_text(&o, "hint", clean(hint));
	return goya_json_object_finish(&o);
}

Jsonb *
goya_error_from_data(ErrorData *e, int *error_class)
{
	*error_class = class_of(e->sqlerrcode);
	return goya_error_make(unpack_sql_state(e->sqlerrcode), *error_class, e->message, e->detail, e->hint);
}

void
goya_outcome_error(GoyaOutcome *o, ErrorData *e)
{
	memset(o, 0, sizeof(*o));
	o->error = goya_error_from_data(e, &o->error_class);
	o->retry_after_ms = -1;
}
