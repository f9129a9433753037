/*-------------------------------------------------------------------------
 * black_box.c
 *		What each worker runs now, kept where the death of the process cannot take it: so that a node that crashes its process is known.
 *
 * A crash rolls back everything, the claim of the node's row too, and empties shared memory: without a trace of it the node would be run
 * again and crash the server for ever.  A write to a table before each node would cost more than the node.  So the trace is a few words of
 * memory that the postmaster maps before it makes the shared memory: its children inherit it, and it survives their death and the
 * restart after a crash.  Each worker has a box; the box holds GoyaBlame, which a batch keeps up to date anyhow.
 *
 *		state	becomes		when
 *		-----	-------		----
 *		FREE	HELD		a worker starts
 *		HELD	FREE		it ends, or dies when it runs no node or is innocent
 *		HELD	CRASHED		it dies, or ends by itself, in the middle of a node
 *		CRASHED	FREE		the engine of its database has counted it (crashes.c)
 *
 * Innocent: who was told to end.  After a crash of another process the postmaster sends SIGQUIT to all: the handler here says so before it
 * leaves.  SIGTERM is an administrator's or a shutdown.  SIGKILL cannot be told apart from the kernel's for lack of memory, and
 * counts.  When the postmaster itself is killed, or the machine, the boxes vanish with it: nobody is to blame.
 *
 * Where the server does not restart after a crash (restart_after_crash = off), the postmaster leaves what it knows in a file for the next
 * start.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "miscadmin.h"
#include "pgstat.h"
#include "port/atomics.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"

#include "black_box.h"
#include "guc.h"
#include "shmem.h"

#define LEFTOVER_FILE		PGSTAT_STAT_PERMANENT_DIRECTORY "/goya.crashes"
#define LEFTOVER_MAGIC		0x60fa0001
#define SPARE_BOXES			64	/* for what was not counted yet */
#define COUNTED_WITHIN_MS	1000
#define FAULT_STACK			(64 * 1024)

typedef enum BoxState
{
	BOX_FREE, BOX_HELD, BOX_CRASHED
} BoxState;

typedef struct BlackBox
{
	pg_atomic_uint32 state;
	Oid			dboid;
	pid_t		pid;
	volatile sig_atomic_t innocent;
	volatile sig_atomic_t signal;
	GoyaBlame	blame;
	char		apart[PG_CACHE_LINE_SIZE];	/* two executors write into no line of the other */
} BlackBox;

static BlackBox *boxes = NULL;
static int	n_boxes = 0;
static BlackBox *my_box = NULL;
static GoyaBlame no_box;		/* of a process that found none */

void
goya_black_box_create(void)
{
	n_boxes = GOYA_MAX_EXECUTOR_SLOTS + goya_guc_max_databases + SPARE_BOXES;
	boxes = mmap(NULL, sizeof(BlackBox) * n_boxes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (boxes == MAP_FAILED)
		ereport(FATAL,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("could not map memory for goya: %m")));
	for (int i = 0; i < n_boxes; i++)
		pg_atomic_init_u32(&boxes[i].state, BOX_FREE);
}

/* ----- in the postmaster ----- */

/* All workers are dead: who died in the middle of a node? */
static void
look_into_boxes(void)
{
	for (int i = 0; i < n_boxes; i++)
	{
		BlackBox   *box = &boxes[i];

		if (pg_atomic_read_u32(&box->state) == BOX_HELD)
			pg_atomic_write_u32(&box->state, box->blame.valid && !box->innocent ? BOX_CRASHED : BOX_FREE);
	}
}

/* The end of the postmaster.  A file that cannot be written is no reason to fail: the next crash counts again. */
static void
leave_file(int code, Datum arg)
{
	FILE	   *file = NULL;
	uint32		magic = LEFTOVER_MAGIC;

	look_into_boxes();
	for (int i = 0; i < n_boxes; i++)
	{
		if (pg_atomic_read_u32(&boxes[i].state) != BOX_CRASHED)
			continue;
		if (file == NULL)
		{
			if ((file = AllocateFile(LEFTOVER_FILE, PG_BINARY_W)) == NULL)
				return;
			(void) fwrite(&magic, sizeof(magic), 1, file);
		}
		(void) fwrite(&boxes[i], sizeof(BlackBox), 1, file);
	}
	if (file != NULL)
		(void) FreeFile(file);
}

static void
read_file(void)
{
	FILE	   *file = AllocateFile(LEFTOVER_FILE, PG_BINARY_R);
	uint32		magic;
	BlackBox	left;

	if (file == NULL)
		return;
	if (fread(&magic, sizeof(magic), 1, file) == 1 && magic == LEFTOVER_MAGIC)
	{
		for (int i = 0; i < n_boxes && fread(&left, sizeof(left), 1, file) == 1; i++)
		{
			left.blame.valid = true;
			boxes[i] = left;
			pg_atomic_init_u32(&boxes[i].state, BOX_CRASHED);
		}
	}
	(void) FreeFile(file);
	(void) unlink(LEFTOVER_FILE);
}

void
goya_black_box_restart(void)
{
	static bool started = false;

	if (boxes == NULL || !IsPostmasterEnvironment)
		return;
	if (started)
		look_into_boxes();
	else
	{
		read_file();
		on_proc_exit(leave_file, 0);
	}
	started = true;
}

/* ----- in a worker: how it ends ----- */

static void
on_sigquit(SIGNAL_ARGS)
{
	if (my_box != NULL)
		my_box->innocent = true;
	_exit(2);					/* as SignalHandlerForCrashExit */
}

static volatile sig_atomic_t told_to_end = false;
static volatile sig_atomic_t ended_by = GOYA_ENDED_BY_EXIT;

/* Also before the process has a box: it may be told to end while it still connects. */
void
goya_black_box_on_sigterm(SIGNAL_ARGS)
{
	told_to_end = true;
	if (my_box != NULL)
		my_box->innocent = true;
	die(postgres_signal_arg);
}

bool
goya_black_box_told_to_end(void)
{
	return told_to_end;
}

void
goya_black_box_by_force(bool force)
{
	ended_by = force ? GOYA_ENDED_BY_FORCE : GOYA_ENDED_BY_EXIT;
}

/* The signal comes again, now with its default action, as soon as this returns: a core dump shows the place of the fault. */
static void
on_fault(SIGNAL_ARGS)
{
	if (my_box != NULL && my_box->pid == getpid())
		my_box->signal = postgres_signal_arg;
	kill(getpid(), postgres_signal_arg);
}

static void
watch_signals(void)
{
	static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGABRT};
	static char stack_memory[FAULT_STACK];
	stack_t		stack = {.ss_sp = stack_memory,.ss_size = FAULT_STACK};
	struct sigaction old;
	struct sigaction fault = {.sa_handler = on_fault,.sa_flags = SA_RESETHAND | SA_ONSTACK};

	pqsignal(SIGQUIT, on_sigquit);
	pqsignal(SIGTERM, goya_black_box_on_sigterm);
	(void) sigaltstack(&stack, NULL);	/* a stack that is full has no room for a handler */
	sigemptyset(&fault.sa_mask);
	for (int i = 0; i < lengthof(faults); i++)
		if (sigaction(faults[i], NULL, &old) == 0 && old.sa_handler == SIG_DFL)
			(void) sigaction(faults[i], &fault, NULL);
}

/*
 * An orderly end.  In the middle of a node it is one that nobody asked for: its SQL called exit(), or raised FATAL.  The transaction still
 * holds the node's row: until the engine has counted, nobody else may run it.  So an executor attaches here after its slot (shmem.c): exit
 * callbacks run in reverse.
 */
static void
give_back(int code, Datum arg)
{
	BlackBox   *box = my_box;
	bool		guilty = box->blame.valid && !box->innocent;

	my_box = NULL;
	box->signal = ended_by;
	pg_write_barrier();
	pg_atomic_write_u32(&box->state, guilty ? BOX_CRASHED : BOX_FREE);
	if (!guilty)
		return;
	goya_wake_now(MyDatabaseId, GOYA_WAKE_CRASHES);
	for (int i = 0; i < COUNTED_WITHIN_MS && pg_atomic_read_u32(&box->state) == BOX_CRASHED; i++)
		pg_usleep(1000);
}

/* A free box; when there is none, one whose database has had nobody to count it. */
static BlackBox *
take_box(void)
{
	for (uint32 wanted = BOX_FREE;; wanted = BOX_CRASHED)
	{
		for (int i = 0; i < n_boxes; i++)
		{
			uint32		expected = wanted;

			if (pg_atomic_compare_exchange_u32(&boxes[i].state, &expected, BOX_HELD))
				return &boxes[i];
		}
		if (wanted == BOX_CRASHED)
			return NULL;
	}
}

void
goya_black_box_attach(Oid dboid)
{
	BlackBox   *box = boxes == NULL ? NULL : take_box();

	if (box == NULL)
		return;
	box->blame.valid = false;
	box->dboid = dboid;
	box->pid = MyProcPid;
	box->innocent = false;
	box->signal = 0;
	my_box = box;
	watch_signals();
	before_shmem_exit(give_back, 0);
}

GoyaBlame *
goya_black_box_blame(void)
{
	return my_box != NULL ? &my_box->blame : &no_box;
}

/* ----- for the engine ----- */

bool
goya_black_box_next(Oid dboid, int *from, GoyaEvidence *evidence)
{
	for (; *from < n_boxes; (*from)++)
	{
		BlackBox   *box = &boxes[*from];

		if (pg_atomic_read_u32(&box->state) != BOX_CRASHED || box->dboid != dboid)
			continue;
		pg_read_barrier();
		*evidence = (GoyaEvidence) {.what = box->blame,.pid = box->pid,.signal = box->signal,.box = (*from)++};
		return true;
	}
	return false;
}

void
goya_black_box_clear(int box)
{
	uint32		expected = BOX_CRASHED;

	(void) pg_atomic_compare_exchange_u32(&boxes[box].state, &expected, BOX_FREE);
}
