/*-------------------------------------------------------------------------
 * child_internal.h
 *		What child.c and child_spawn.c share.  For them only.
 *-------------------------------------------------------------------------
 */
#ifndef GOYA_CHILD_INTERNAL_H
#define GOYA_CHILD_INTERNAL_H

#include "postgres.h"

#include <regex.h>
#include <sys/types.h>

#include "lib/stringinfo.h"

#include "child.h"

#define GOYA_CHILD_GRACE_MS	2000	/* between asking and killing, by the guard */
#define GOYA_CHILD_LINE		1024

typedef struct Child
{
	uint64		id;
	MemoryContext cxt;
	GoyaChildRequest request;
	bool		running;
	pid_t		pid;
	int			pidfd;			/* these: -1 when closed */
	int			in;
	int			out;
	int			err;
	char	   *input;			/* for the guard */
	size_t		input_len;
	size_t		input_at;
	StringInfoData output;
	StringInfoData errors;
	char		line[GOYA_CHILD_LINE];		/* of errors, not complete yet */
	int			line_len;
	char		said[GOYA_CHILD_LINE];		/* the last line of errors; empty: none */
	char		told[GOYA_CHILD_LINE];		/* the last JSON line of progress */
	double		percent;		/* by the pattern; -1: none */
	bool		news;
	bool		has_pattern;
	regex_t		pattern;
	TimestampTz deadline;
	TimestampTz kill_at;		/* 0: nobody asked it to end */
	bool		killed;
	GoyaHttpOutcome outcome;
	const char *error;
	int			exit_code;
	int			signal;
	TimestampTz started_at;
	MemoryContextCallback on_delete;
} Child;

extern const char **goya_child_copy_strings(const char **from);
extern void goya_child_make_input(Child *c);	/* what the guard reads first */
extern bool goya_child_make_pipe(int *mine, int *its, bool i_write);	/* our end is mine; false: see errno */
extern int	goya_child_spawn(Child *c, int *its);	/* with its standard descriptors; an errno, 0: it runs */

#endif
