/*-------------------------------------------------------------------------
 * child.h
 *		Programs that the engine runs: started through goya-guard, watched with epoll, none of them blocking.  See child.c.
 *
 *		goya_child_start(id, &request);			it may wait for its turn
 *		...										goya_wait_once moves bytes
 *		goya_child_drive();						once per turn: whose time is over, whose turn it is
 *		while ((result = goya_child_take()) != NULL) ...
 *
 * Every started child gives exactly one result, a GoyaHttpResult that begins a GoyaChildResult, so that calls.c takes it like any other.
 *-------------------------------------------------------------------------
 */
#ifndef GOYA_CHILD_H
#define GOYA_CHILD_H

#include "postgres.h"
#include "utils/timestamp.h"

#include "http.h"
#include "wait.h"

typedef struct GoyaChildRequest
{
	const char **argv;			/* NULL at the end; [0] is the program's absolute path */
	const char **env;			/* NAME=VALUE, NULL at the end: all it gets but HOME and TMPDIR */
	const char **wrapper;		/* absolute path and arguments of what runs the guard as somebody else; NULL: none */
	const char *directory;		/* where its own directory is made */
	const char *input;
	size_t		input_len;
	int			timeout_ms;
	size_t		max_output;		/* bytes of standard output */
	int64		memory_kb;		/* these: -1 is no limit */
	int64		cpu_s;
	int64		file_kb;
	int64		processes;		/* besides those that its user has already */
	const char *progress_pattern;	/* POSIX regular expression of lines of errors whose first group is a percentage; NULL: none */
} GoyaChildRequest;

typedef struct GoyaChildResult
{
	GoyaHttpResult http;		/* DONE: it ended by itself, body is its standard output; else error says why.  sent: it was started */
	int			exit_code;		/* with DONE: -1 when a signal ended it */
	int			signal;			/* 0: none */
	char	   *errors;			/* the last of its standard error, valid in the database's encoding */
} GoyaChildResult;

extern void goya_child_init(GoyaWait *w);
extern bool goya_child_room(void);	/* false: enough wait for their turn */
extern void goya_child_start(uint64 id, const GoyaChildRequest *request);	/* copies it */
extern void goya_child_cancel(uint64 id);	/* nothing happens if there is none */
extern void goya_child_drive(void);
extern TimestampTz goya_child_next(void);	/* when drive has something to do; DT_NOEND: not by itself */
extern GoyaHttpResult *goya_child_take(void);	/* in CurrentMemoryContext; NULL: none has ended */

/* What children said of their progress since it was asked last.  percent < 0, message NULL: nothing. */
extern bool goya_child_has_news(void);
extern void goya_child_each_news(void (*f) (uint64 id, double percent, const char *message, void *arg), void *arg);

#endif
