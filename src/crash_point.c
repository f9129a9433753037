/*-------------------------------------------------------------------------
 * crash_point.c
 *		What happens at a crash point (crash_point.h).  Compiled in the test build only (make CRASH_POINTS=1).
 *
 *		goya.crash_points = 'settle.holds_written=kill, call.claimed=error@3'
 *
 * name=action[@hit]: at the hit-th time (1: the first) that any process of the cluster gets there, once: error and fatal raise one, kill is a
 * SIGKILL of the process, pause waits until the setting no longer names the point, for at most PAUSE_MS.  Each firing is a line in the
 * server's log, written before anything else happens.
 *
 * Decided: the postmaster reads the setting and puts it into shared memory, so that it is the same for all at once and hits are counted over
 * the cluster; counting begins when an entry of the setting changes.  A kill makes the postmaster begin with new shared memory: a file in
 * the data directory remembers what has fired, so that a point does not fire again at every restart.  The postmaster forgets it when the
 * setting changes.  Only a change of the file or ALTER SYSTEM can set it (superusers), never a session.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#ifdef GOYA_CRASH_POINTS

#include <signal.h>
#include <unistd.h>

#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/guc.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"
#include "utils/wait_event.h"

#include "crash_point.h"

#define PAUSE_MS	60000
#define FIRED_FILE	"goya_crash_points.fired"	/* in the data directory, where every server process stands */

typedef enum Action
{
	ACT_NONE, ACT_ERROR, ACT_FATAL, ACT_KILL, ACT_PAUSE, ACT_FIRED
} Action;

static const char *const action_names[] = {"none", "error", "fatal", "kill", "pause", "fired"};

typedef struct Spec
{
	Action		action;
	uint32		hit;
} Spec;

typedef struct SharedPoint
{
	pg_atomic_uint32 action;
	uint32		hit;			/* when it fires */
	pg_atomic_uint32 left;		/* hits until then */
	pg_atomic_uint32 generation;	/* who pauses ends when it changes */
} SharedPoint;

typedef enum When
{
	ANY, COMMITTED
} When;

#define POINT_NAME(id, name, when) name,
#define POINT_WHEN(id, name, when) when,
static const char *const point_names[] = {GOYA_CRASH_POINT_LIST(POINT_NAME)};
static const When point_when[] = {GOYA_CRASH_POINT_LIST(POINT_WHEN)};

static char *setting = NULL;
static Spec specs[GOYA_N_CRASH_POINTS]; /* of the setting; the postmaster's are in force */
static SharedPoint *points = NULL;
static shmem_startup_hook_type previous_startup_hook = NULL;
static shmem_request_hook_type previous_request_hook = NULL;

/* ----- the setting ----- */

static int
find_name(const char *name, const char *const *names, int n)
{
	for (int i = 0; i < n; i++)
		if (strcmp(names[i], name) == 0)
			return i;
	return -1;
}

/* One entry; what is wrong with it, or NULL. */
static const char *
parse_entry(char *entry, Spec *parsed)
{
	char	   *action = strchr(entry, '=');
	char	   *hit = strchr(entry, '@');
	int			point;
	int			what;

	if (action == NULL)
		return "An entry is name=action or name=action@hit.";
	*action++ = '\0';
	if (hit != NULL)
		*hit++ = '\0';
	point = find_name(entry, point_names, GOYA_N_CRASH_POINTS);
	what = find_name(action, action_names, ACT_FIRED);
	if (point < 0)
		return "The points are in src/crash_point.h.";
	if (what <= ACT_NONE || (hit != NULL && atoi(hit) < 1))
		return "Actions are error, fatal, kill and pause; a hit is 1 or more.";
	if (point_when[point] == COMMITTED && (what == ACT_ERROR || what == ACT_FATAL))
		return "In the midst of a commit only kill and pause are possible.";
	parsed[point] = (Spec) {what, hit ? atoi(hit) : 1};
	return NULL;
}

static bool
parse(const char *value, Spec *parsed)
{
	char	   *copy = pstrdup(value);
	List	   *entries = NIL;
	ListCell   *lc;

	memset(parsed, 0, sizeof(specs));
	if (!SplitGUCList(copy, ',', &entries))
		return false;
	foreach(lc, entries)
	{
		char	   *entry = pstrdup(lfirst(lc));
		const char *problem = parse_entry(entry, parsed);

		if (problem != NULL)
		{
			GUC_check_errdetail("\"%s\": %s", (char *) lfirst(lc), problem);
			return false;
		}
	}
	return true;
}

static bool
check_setting(char **newval, void **extra, GucSource source)
{
	Spec		parsed[GOYA_N_CRASH_POINTS];

	if (!parse(*newval, parsed))
		return false;
	*extra = malloc(sizeof(parsed));
	if (*extra == NULL)
		return false;
	memcpy(*extra, parsed, sizeof(parsed));
	return true;
}

static void
arm(int i)
{
	pg_atomic_write_u32(&points[i].action, ACT_NONE);
	pg_atomic_fetch_add_u32(&points[i].generation, 1);
	points[i].hit = specs[i].hit;
	pg_atomic_write_u32(&points[i].left, specs[i].hit);
	pg_write_barrier();
	pg_atomic_write_u32(&points[i].action, specs[i].action);
}

/* In the postmaster, or the copy that any other process keeps and nobody asks. */
static void
assign_setting(const char *newval, void *extra)
{
	Spec		old[GOYA_N_CRASH_POINTS];

	memcpy(old, specs, sizeof(specs));
	memcpy(specs, extra, sizeof(specs));
	if (IsUnderPostmaster || points == NULL || memcmp(old, specs, sizeof(specs)) == 0)
		return;
	unlink(FIRED_FILE);
	for (int i = 0; i < GOYA_N_CRASH_POINTS; i++)
		if (memcmp(&old[i], &specs[i], sizeof(Spec)) != 0)
			arm(i);
	ereport(LOG, (errmsg("crash points: %s", newval)));
}

void
goya_crash_point_define(void)
{
	DefineCustomStringVariable("goya.crash_points", "Places where a process fails, as name=action[@hit], …", "Of a test build only.", &setting, "",
							   PGC_SIGHUP, GUC_SUPERUSER_ONLY | GUC_LIST_INPUT, check_setting, assign_setting, NULL);
}

/* ----- shared memory ----- */

/* What has fired before the restart does not fire again. */
static void
forget_fired(void)
{
	FILE	   *file = AllocateFile(FIRED_FILE, "r");
	char		name[64];
	int			action;
	uint32		hit;

	while (file != NULL && fscanf(file, "%63s %d %u", name, &action, &hit) == 3)
	{
		int			i = find_name(name, point_names, GOYA_N_CRASH_POINTS);

		if (i >= 0 && specs[i].action == action && specs[i].hit == hit)
			pg_atomic_write_u32(&points[i].action, ACT_FIRED);
	}
	if (file != NULL)
		FreeFile(file);
}

static void
request_shared_memory(void)
{
	if (previous_request_hook)
		previous_request_hook();
	RequestAddinShmemSpace(sizeof(SharedPoint) * GOYA_N_CRASH_POINTS);
}

static void
startup_shared_memory(void)
{
	bool		found;

	if (previous_startup_hook)
		previous_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	points = ShmemInitStruct("goya crash points", sizeof(SharedPoint) * GOYA_N_CRASH_POINTS, &found);
	if (!found)
	{
		for (int i = 0; i < GOYA_N_CRASH_POINTS; i++)
		{
			pg_atomic_init_u32(&points[i].action, ACT_NONE);
			pg_atomic_init_u32(&points[i].left, 0);
			pg_atomic_init_u32(&points[i].generation, 0);
			arm(i);
		}
		forget_fired();
	}
	LWLockRelease(AddinShmemInitLock);
}

void
goya_crash_point_init(void)
{
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = request_shared_memory;
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_shared_memory;
}

/* ----- firing ----- */

/* The files of the system outlive a SIGKILL without a sync. */
static void
remember_fired(int i, Action action)
{
	FILE	   *file = AllocateFile(FIRED_FILE, "a");

	if (file == NULL || fprintf(file, "%s %d %u\n", point_names[i], action, points[i].hit) < 0 || FreeFile(file) != 0)
		elog(PANIC, "could not write \"%s\": %m", FIRED_FILE);
}

/* Until the setting changes.  Whoever set the latch meanwhile is heard afterwards. */
static void
pause_here(int i, uint32 generation)
{
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), PAUSE_MS);

	while (pg_atomic_read_u32(&points[i].generation) == generation)
	{
		CHECK_FOR_INTERRUPTS();
		if (GetCurrentTimestamp() > until)
		{
			ereport(LOG, (errmsg("crash point %s: paused for too long", point_names[i])));
			break;
		}
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 10, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
	SetLatch(MyLatch);
	ereport(LOG, (errmsg("crash point %s: goes on", point_names[i])));
}

static void
fire(int i, Action action, uint32 generation)
{
	remember_fired(i, action);
	ereport(LOG, (errmsg("crash point %s: %s", point_names[i], action_names[action]), errhidestmt(true), errhidecontext(true)));
	switch (action)
	{
		case ACT_ERROR:
			ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("crash point %s", point_names[i])));
			break;
		case ACT_FATAL:
			ereport(FATAL, (errcode(ERRCODE_ADMIN_SHUTDOWN), errmsg("crash point %s", point_names[i])));
			break;
		case ACT_KILL:
			kill(MyProcPid, SIGKILL);
			for (;;)
				pg_usleep(1000L);
			break;
		case ACT_PAUSE:
			pause_here(i, generation);
			break;
		default:
			break;
	}
}

/* Nothing, unless the setting names the point and this is the hit it names. */
void
goya_crash_point_reach(GoyaCrashPoint point)
{
	SharedPoint *p = &points[point];
	uint32		generation;
	uint32		action;

	if (points == NULL || (action = pg_atomic_read_u32(&p->action)) == ACT_NONE || action == ACT_FIRED)
		return;
	generation = pg_atomic_read_u32(&p->generation);
	if (pg_atomic_sub_fetch_u32(&p->left, 1) != 0)
		return;
	if (pg_atomic_compare_exchange_u32(&p->action, &action, ACT_FIRED))
		fire(point, action, generation);
}

#endif
