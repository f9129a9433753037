/*-------------------------------------------------------------------------
 * crasher.c
 *		For test/tap/023_poison.pl: functions f(jsonb) that end their process, each in its own way.  Never installed.
 *
 * Built by the test with the compiler alone, loaded by its path.  crasher_enter appends a byte to a file: a count of calls that no
 * rollback and no crash takes back.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(crasher_enter);
Datum
crasher_enter(PG_FUNCTION_ARGS)
{
	int			fd = open(text_to_cstring(PG_GETARG_TEXT_PP(0)), O_WRONLY | O_CREAT | O_APPEND, 0600);
	off_t		calls;

	if (fd < 0 || write(fd, ".", 1) != 1)
		ereport(ERROR, (errmsg("the test cannot count its calls: %m")));
	calls = lseek(fd, 0, SEEK_CUR);
	close(fd);
	PG_RETURN_INT32((int32) calls);
}

/* Until the file is there. */
PG_FUNCTION_INFO_V1(crasher_wait);
Datum
crasher_wait(PG_FUNCTION_ARGS)
{
	char	   *path = text_to_cstring(PG_GETARG_TEXT_PP(0));

	while (access(path, F_OK) != 0)
	{
		CHECK_FOR_INTERRUPTS();
		pg_usleep(5000);
	}
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(crasher_segv);
Datum
crasher_segv(PG_FUNCTION_ARGS)
{
	*(volatile int *) fcinfo->nargs = 1;
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(crasher_abort);
Datum
crasher_abort(PG_FUNCTION_ARGS)
{
	abort();
}

/* As the kernel does when memory runs out. */
PG_FUNCTION_INFO_V1(crasher_kill);
Datum
crasher_kill(PG_FUNCTION_ARGS)
{
	kill(getpid(), SIGKILL);
	pause();
	PG_RETURN_VOID();
}

static int
eat_stack(volatile char *up)
{
	volatile char here[65536];

	here[0] = up[0];
	return eat_stack(here) + here[0];
}

PG_FUNCTION_INFO_V1(crasher_stack);
Datum
crasher_stack(PG_FUNCTION_ARGS)
{
	volatile char here[1] = {0};

	PG_RETURN_INT32(eat_stack(here));
}

/* With the callbacks of an orderly end. */
PG_FUNCTION_INFO_V1(crasher_exit);
Datum
crasher_exit(PG_FUNCTION_ARGS)
{
	exit(0);
}

PG_FUNCTION_INFO_V1(crasher_exit_at_once);
Datum
crasher_exit_at_once(PG_FUNCTION_ARGS)
{
	_exit(1);
}

PG_FUNCTION_INFO_V1(crasher_fatal);
Datum
crasher_fatal(PG_FUNCTION_ARGS)
{
	ereport(FATAL, (errmsg("this function gives up")));
	PG_RETURN_VOID();
}
