/*-------------------------------------------------------------------------
 * frames.c
 *		Which SECURITY DEFINER functions the session is in: so that a function of goya knows who called it.
 *
 * Inside goya's own SECURITY DEFINER functions the current role is goya_owner, and PostgreSQL does not say whose call it was: the role
 * that the session has set is only that when nobody else's SECURITY DEFINER function lies between.  If it does, the caller is that
 * function's owner, and not the session's role, which called it in the belief that it can do no more than its owner.
 *
 * Decided: the function manager's hook, which is called for each function that is SECURITY DEFINER or has a SET clause, and for no other.
 * What is kept of each is the role it runs as.  Where SET ROLE is possible (no SECURITY_LOCAL_USERID_CHANGE) no such function is around,
 * and the session's role is the caller.
 * Must hold: starts and ends come in pairs, also by an error (FHET_ABORT).  Only in a preloaded library is every frame seen; a parallel
 * worker sees none of its leader's (identity.c answers nothing there).
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "frames.h"

static fmgr_hook_type previous_hook = NULL;

static Oid *frames = NULL;		/* roles; InvalidOid: no other than the caller's */
static int	n_frames = 0;
static int	max_frames = 0;

static void
push_frame(void)
{
	Oid			userid;
	int			sec_context;

	if (n_frames == max_frames)
	{
		int			size = max_frames ? max_frames * 2 : 32;

		frames = frames ? repalloc(frames, sizeof(Oid) * size) : MemoryContextAlloc(TopMemoryContext, sizeof(Oid) * size);
		max_frames = size;
	}
	GetUserIdAndSecContext(&userid, &sec_context);
	frames[n_frames++] = sec_context & SECURITY_LOCAL_USERID_CHANGE ? userid : InvalidOid;
}

static void
follow_call(FmgrHookEventType event, FmgrInfo *flinfo, Datum *arg)
{
	if (previous_hook)
		previous_hook(event, flinfo, arg);
	if (event == FHET_START)
		push_frame();
	else if (n_frames > 0)
		n_frames--;
}

/* From _PG_init. */
void
goya_frames_install(void)
{
	previous_hook = fmgr_hook;
	fmgr_hook = follow_call;
}

/*
 * The innermost role that is wanted, of those that the functions around run as; InvalidOid: there is none.  Throws what wanted throws.
 */
Oid
goya_frames_find(bool (*wanted) (Oid role))
{
	for (int i = n_frames - 1; i >= 0; i--)
		if (OidIsValid(frames[i]) && wanted(frames[i]))
			return frames[i];
	return InvalidOid;
}
