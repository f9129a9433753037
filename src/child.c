/*-------------------------------------------------------------------------
 * child.c
 *		Programs that the engine runs.
 *
 *		engine ── posix_spawn (child_spawn.c) ──▶ [wrapper ──▶] goya-guard ──▶ program
 *
 * Decided.  The engine has threads and PostgreSQL in it, so it never forks by itself: posix_spawn starts goya-guard (guard/guard.c), a small
 * program that sets limits, runs the program and ends what it leaves behind.  Its standard input is the engine's hold on it: closing that, also by dying,
 * ends it.  Its end is seen through a pidfd in the engine's epoll set; nobody handles SIGCHLD.
 *
 * A child that has to end (cancelled, out of time, too much output) is given the guard's grace and some seconds; then it is killed by number, and
 * after some more it is forgotten: a program that even the kernel cannot end must not hold a task forever.
 *
 * What must hold: a child's memory is a context below "goya children", gone when its result is taken; four descriptors each, counted with
 * AcquireExternalFD.  Callbacks of descriptors do not throw.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <regex.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "storage/fd.h"
#include "utils/memutils.h"

#include "child_internal.h"
#include "guc.h"

#define GUARD_MS		3000	/* more for the guard; then it is killed, and as much later forgotten */
#define MAX_WAITING		500
#define FDS_EACH		4
#define CHUNK			65536
#define CHUNKS_AT_ONCE	16
#define TAIL			8192	/* of errors */
#define LINES_TESTED	100		/* against the pattern, of each chunk */

static GoyaWait *the_wait;
static MemoryContext children_cxt;
static List *waiting;			/* Child*, for their turn */
static List *running;
static List *ended;				/* to be taken */

void
goya_child_init(GoyaWait *w)
{
	the_wait = w;
	children_cxt = AllocSetContextCreate(TopMemoryContext, "goya children", ALLOCSET_DEFAULT_SIZES);
	waiting = running = ended = NIL;
}

bool
goya_child_room(void)
{
	return list_length(waiting) < Min(MAX_WAITING, Max(goya_guc_max_transfers / 2, 1));
}

/* ----- lists ----- */

static void
put(List **list, Child *c)
{
	MemoryContext old = MemoryContextSwitchTo(children_cxt);

	*list = lappend(*list, c);
	MemoryContextSwitchTo(old);
}

static void
close_fd(int *fd)
{
	if (*fd < 0)
		return;
	goya_wait_forget(the_wait, *fd);
	close(*fd);
	*fd = -1;
}

/* Its result is there. */
static void
end_child(Child *c)
{
	if (c->running)
	{
		close_fd(&c->in);
		close_fd(&c->out);
		close_fd(&c->err);
		close_fd(&c->pidfd);
		for (int i = 0; i < FDS_EACH; i++)
			ReleaseExternalFD();
		running = list_delete_ptr(running, c);
		c->running = false;
	}
	put(&ended, c);
}

/* Ask it to end, for a reason. */
static void
stop_child(Child *c, GoyaHttpOutcome outcome, const char *why)
{
	if (c->kill_at != 0)
		return;
	c->outcome = outcome;
	c->error = why;
	c->kill_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), GOYA_CHILD_GRACE_MS + GUARD_MS);
	close_fd(&c->in);
}

/* ----- what it says ----- */

static void
end_of_line(Child *c, int *tested)
{
	regmatch_t	match[2];

	c->line[c->line_len] = '\0';
	if (c->line_len == 0)
		return;
	if (c->line[0] == '{' && strstr(c->line, "\"progress\"") != NULL)
		strlcpy(c->told, c->line, GOYA_CHILD_LINE);
	else
	{
		appendBinaryStringInfo(&c->errors, c->line, c->line_len);
		appendStringInfoChar(&c->errors, '\n');
		strlcpy(c->said, c->line, GOYA_CHILD_LINE);
		if (c->has_pattern && ++*tested <= LINES_TESTED && regexec(&c->pattern, c->line, 2, match, 0) == 0 && match[1].rm_so >= 0)
			c->percent = strtod(c->line + match[1].rm_so, NULL);
	}
	c->line_len = 0;
	c->news = true;
}

static void
take_errors(Child *c, const char *data, ssize_t len)
{
	int			tested = 0;

	for (ssize_t i = 0; i < len; i++)
	{
		if (data[i] == '\n' || data[i] == '\r' || c->line_len == GOYA_CHILD_LINE - 1)
			end_of_line(c, &tested);
		if (data[i] != '\n' && data[i] != '\r')
			c->line[c->line_len++] = data[i] != '\0' ? data[i] : ' ';
		if (c->errors.len > 2 * TAIL)
		{
			memmove(c->errors.data, c->errors.data + c->errors.len - TAIL, TAIL);
			c->errors.len = TAIL;
		}
	}
}

static void
take_output(Child *c, const char *data, ssize_t len)
{
	if (c->outcome != GOYA_HTTP_DONE)
		return;					/* nobody wants it any more */
	if (c->output.len + len > c->request.max_output)
		stop_child(c, GOYA_HTTP_TOO_LARGE, psprintf("it wrote more than %zu bytes", c->request.max_output));
	else
		appendBinaryStringInfo(&c->output, data, len);
}

/* False: that was the end. */
static bool
read_some(Child *c, int fd)
{
	static char buffer[CHUNK];

	for (int i = 0; i < CHUNKS_AT_ONCE; i++)
	{
		MemoryContext old;
		ssize_t		n = read(fd, buffer, CHUNK);

		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
		if (n == 0)
			return false;
		old = MemoryContextSwitchTo(c->cxt);
		if (fd == c->out)
			take_output(c, buffer, n);
		else
			take_errors(c, buffer, n);
		MemoryContextSwitchTo(old);
	}
	return true;
}

static void
on_readable(int fd, uint32 events, void *arg)
{
	Child	   *c = arg;

	if (!read_some(c, fd))
		close_fd(fd == c->out ? &c->out : &c->err);
}

/* The guard takes its configuration and the program's input. */
static void
on_writable(int fd, uint32 events, void *arg)
{
	Child	   *c = arg;
	ssize_t		n = write(c->in, c->input + c->input_at, c->input_len - c->input_at);

	if (n < 0 && errno != EAGAIN && errno != EINTR)
		c->input_at = c->input_len;	/* it has ended: the pidfd says the rest */
	else if (n > 0)
		c->input_at += n;
	if (c->input_at == c->input_len)
		goya_wait_forget(the_wait, c->in);
}

/* Reaps; true: it has ended. */
static bool
reap_child(Child *c)
{
	siginfo_t	info;

	info.si_pid = 0;
	if (waitid((idtype_t) 3 /* P_PIDFD */ , c->pidfd, &info, WEXITED | WNOHANG) != 0)
		return errno == ECHILD;
	if (info.si_pid == 0)
		return false;
	if (info.si_code == CLD_EXITED)
		c->exit_code = info.si_status;
	else
		c->signal = info.si_status;
	return true;
}

static void
on_end(int fd, uint32 events, void *arg)
{
	Child	   *c = arg;

	if (!reap_child(c))
		return;
	/* All who could write have ended: what they wrote is in the pipes. */
	if (c->out >= 0)
		(void) read_some(c, c->out);
	if (c->err >= 0)
		(void) read_some(c, c->err);
	if (c->line_len > 0)
		take_errors(c, "\n", 1);
	end_child(c);
}

/* ----- starting ----- */

static void
free_pattern(void *arg)
{
	Child	   *c = arg;

	if (c->has_pattern)
		regfree(&c->pattern);
}

static Child *
make_child(uint64 id, const GoyaChildRequest *request)
{
	MemoryContext cxt = AllocSetContextCreate(children_cxt, "goya child", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(cxt);
	Child	   *c = palloc0(sizeof(Child));

	c->id = id;
	c->cxt = cxt;
	c->request = *request;
	c->request.argv = goya_child_copy_strings(request->argv);
	c->request.env = goya_child_copy_strings(request->env);
	c->request.wrapper = goya_child_copy_strings(request->wrapper);
	c->request.directory = pstrdup(request->directory);
	goya_child_make_input(c);
	c->request.input = NULL;
	initStringInfo(&c->output);
	initStringInfo(&c->errors);
	c->pidfd = c->in = c->out = c->err = -1;
	c->percent = -1;
	c->exit_code = -1;
	c->outcome = GOYA_HTTP_DONE;
	c->has_pattern = request->progress_pattern != NULL && regcomp(&c->pattern, request->progress_pattern, REG_EXTENDED) == 0;
	c->on_delete.func = free_pattern;
	c->on_delete.arg = c;
	MemoryContextRegisterResetCallback(cxt, &c->on_delete);
	MemoryContextSwitchTo(old);
	return c;
}

static void
fail_start(Child *c, const char *what, int error)
{
	MemoryContext old = MemoryContextSwitchTo(c->cxt);

	c->outcome = GOYA_HTTP_CONNECT_FAILED;
	c->error = psprintf("%s: %s", what, strerror(error));
	MemoryContextSwitchTo(old);
	end_child(c);
}

/* It is nobody's who does not watch it. */
static void
watch_child(Child *c)
{
	goya_wait_watch(the_wait, c->out, EPOLLIN, on_readable, c);
	goya_wait_watch(the_wait, c->err, EPOLLIN, on_readable, c);
	goya_wait_watch(the_wait, c->in, EPOLLOUT, on_writable, c);
	goya_wait_watch(the_wait, c->pidfd, EPOLLIN, on_end, c);
}

static void
run_child(Child *c)
{
	int			its[3] = {-1, -1, -1};
	int			acquired = 0;
	int			error = 0;

	while (acquired < FDS_EACH && AcquireExternalFD())
		acquired++;
	if (acquired < FDS_EACH)
	{
		while (acquired-- > 0)
			ReleaseExternalFD();
		fail_start(c, "no descriptor is left", EMFILE);
		return;
	}
	c->running = true;
	put(&running, c);
	if (!goya_child_make_pipe(&c->in, &its[0], true) || !goya_child_make_pipe(&c->out, &its[1], false) || !goya_child_make_pipe(&c->err, &its[2], false))
		error = errno;
	if (error == 0)
		error = goya_child_spawn(c, its);
	for (int i = 0; i < 3; i++)
		if (its[i] >= 0)
			close(its[i]);
	if (error == 0 && (c->pidfd = syscall(SYS_pidfd_open, c->pid, 0)) < 0)
	{
		error = errno;
		kill(c->pid, SIGKILL);
		waitpid(c->pid, NULL, 0);
	}
	if (error != 0)
	{
		fail_start(c, "the program could not be started", error);
		return;
	}
	c->started_at = GetCurrentTimestamp();
	c->deadline = TimestampTzPlusMilliseconds(c->started_at, c->request.timeout_ms);
	watch_child(c);
}

void
goya_child_start(uint64 id, const GoyaChildRequest *request)
{
	Child	   *c = make_child(id, request);

	/* While it waits for its turn, too: the node's timeout covers all. */
	c->deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), request->timeout_ms);
	if (waiting == NIL && list_length(running) < goya_guc_max_children)
		run_child(c);
	else
		put(&waiting, c);
}

/* ----- ending ----- */

void
goya_child_cancel(uint64 id)
{
	ListCell   *lc;

	foreach(lc, running)
	{
		Child	   *c = lfirst(lc);

		if (c->id == id)
			stop_child(c, GOYA_HTTP_CANCELLED, "cancelled");
	}
	foreach(lc, waiting)
	{
		Child	   *c = lfirst(lc);

		if (c->id != id)
			continue;
		c->outcome = GOYA_HTTP_CANCELLED;
		c->error = "cancelled";
		waiting = list_delete_ptr(waiting, c);
		end_child(c);
		return;
	}
}

static void
hurry_child(Child *c, TimestampTz now)
{
	if (c->kill_at == 0 && c->deadline <= now)
		stop_child(c, GOYA_HTTP_TIMEOUT, "it did not end in time");
	else if (c->kill_at != 0 && c->kill_at <= now && !c->killed)
	{
		ereport(LOG, (errmsg("goya kills process %d: it was asked to end %d s ago", c->pid, (GOYA_CHILD_GRACE_MS + GUARD_MS) / 1000)));
		kill(c->pid, SIGKILL);	/* what it guards dies with it */
		c->killed = true;
		c->kill_at = TimestampTzPlusMilliseconds(now, GUARD_MS);
	}
	else if (c->killed && c->kill_at <= now)
	{
		ereport(LOG, (errmsg("goya cannot end process %d and leaves it alone", c->pid)));
		end_child(c);
	}
}

void
goya_child_drive(void)
{
	TimestampTz now;
	ListCell   *lc;

	if (running == NIL && waiting == NIL)
		return;
	now = GetCurrentTimestamp();
	foreach(lc, list_copy(running))
		hurry_child(lfirst(lc), now);
	foreach(lc, list_copy(waiting))
	{
		Child	   *c = lfirst(lc);

		if (c->deadline > now)
			continue;
		c->outcome = GOYA_HTTP_TIMEOUT;
		c->error = "its turn did not come in time: too many programs run";
		waiting = list_delete_ptr(waiting, c);
		end_child(c);
	}
	while (waiting != NIL && list_length(running) < goya_guc_max_children)
	{
		Child	   *c = linitial(waiting);

		waiting = list_delete_first(waiting);
		run_child(c);
	}
}

TimestampTz
goya_child_next(void)
{
	TimestampTz next = DT_NOEND;
	ListCell   *lc;

	if (ended != NIL || (waiting != NIL && list_length(running) < goya_guc_max_children))
		return 0;
	foreach(lc, running)
	{
		Child	   *c = lfirst(lc);

		next = Min(next, c->kill_at != 0 ? c->kill_at : c->deadline);
	}
	foreach(lc, waiting)
		next = Min(next, ((Child *) lfirst(lc))->deadline);
	return next;
}

/* Valid in the database's encoding. */
static char *
clean_text(const char *text, int len)
{
	char	   *copy = pnstrdup(text, len);

	if (!pg_verifymbstr(copy, strlen(copy), true))
		for (char *p = copy; *p; p++)
			if (IS_HIGHBIT_SET(*p))
				*p = '?';
	return copy;
}

GoyaHttpResult *
goya_child_take(void)
{
	Child	   *c;
	GoyaChildResult *r;

	if (ended == NIL)
		return NULL;
	c = linitial(ended);
	r = palloc0(sizeof(GoyaChildResult));
	r->http.id = c->id;
	r->http.outcome = c->outcome;
	r->http.error = c->error ? pstrdup(c->error) : NULL;
	r->http.body = palloc(c->output.len + 1);
	memcpy(r->http.body, c->output.data, c->output.len + 1);
	r->http.body_len = c->output.len;
	r->http.retry_after_ms = -1;
	r->http.sent = c->started_at != 0;
	r->exit_code = c->exit_code;
	r->signal = c->signal;
	r->errors = clean_text(c->errors.data + Max(c->errors.len - TAIL, 0), Min(c->errors.len, TAIL));
	ended = list_delete_first(ended);
	MemoryContextDelete(c->cxt);
	return &r->http;
}

/* ----- progress ----- */

bool
goya_child_has_news(void)
{
	ListCell   *lc;

	foreach(lc, running)
		if (((Child *) lfirst(lc))->news)
			return true;
	return false;
}

/* A JSON line comes as it is, as the message, with percent -2: who asks can read JSON. */
void
goya_child_each_news(void (*f) (uint64 id, double percent, const char *message, void *arg), void *arg)
{
	ListCell   *lc;

	foreach(lc, running)
	{
		Child	   *c = lfirst(lc);

		if (!c->news)
			continue;
		c->news = false;
		if (c->said[0] != '\0' || c->percent >= 0)
			f(c->id, c->percent, c->said[0] != '\0' ? clean_text(c->said, strlen(c->said)) : NULL, arg);
		if (c->told[0] != '\0')
			f(c->id, -2, clean_text(c->told, strlen(c->told)), arg);
		c->said[0] = c->told[0] = '\0';
	}
}
