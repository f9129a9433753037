/*-------------------------------------------------------------------------
 *
 * listen.c
 *	  The engine's LISTEN connection, through libpq, never blocking.
 *
 *		off <-> connecting -> busy <-> ready
 *		 ^          |          |        |
 *		 +--------- + waiting <+--------+   (backoff 1 s ... 60 s)
 *
 * "busy" has a query in flight: the first one sets up the session and LISTENs
 * to everything wanted, later ones send the difference between wanted and
 * listened channels, or nothing at all, which is how a quiet connection is
 * checked.  The connection counts as connected from the answer to the first.
 *
 * What was decided:
 *
 * - Only goya_listen_tick acts on settings.  A notification's callback may
 *	 therefore change them while libpq is in use further up the stack.
 *
 * - An error of any query ends the connection.  It then starts again with what
 *	 is wanted, so there is no half-listening state to reason about.
 *
 * - Losing the connection is logged once and so is its return; failures in
 *	 between are not.
 *
 * listen_connect.c has the connection string's rules.
 *
 * Memory: a GoyaListen is in its own context, "goya listen"; each set of
 * channels and the conninfo in a child of it.  The PGconn is libpq's, closed by
 * the reset callback.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/epoll.h>
#include <time.h>

#include "libpq-fe.h"

#include "lib/stringinfo.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "listen.h"

#define CONNECT_TIMEOUT_MS	5000
#define QUERY_TIMEOUT_MS	10000
#define KEEPALIVE_MS		600000	/* a query is a transaction: seldom */
#define BACKOFF_MIN_MS		1000
#define BACKOFF_MAX_MS		60000

typedef enum ListenState
{
	LISTEN_OFF,					/* nowhere to connect to */
	LISTEN_CONNECTING,
	LISTEN_BUSY,				/* a query is in flight */
	LISTEN_READY,
	LISTEN_WAITING				/* backoff after a failure */
} ListenState;

/* A set of channel names, in a context of its own. */
typedef struct ChannelSet
{
	MemoryContext cxt;
	char	  **names;
	int			n;
} ChannelSet;

struct GoyaListen
{
	MemoryContext cxt;
	MemoryContext scratch;		/* reset after each use */
	MemoryContextCallback on_reset;
	GoyaWait   *wait;
	GoyaNotifyCallback callback;
	void	   *callback_arg;

	/* what is wanted */
	char	   *conninfo;		/* NULL: off */
	bool		conninfo_changed;
	ChannelSet *wanted;
	bool		wanted_changed;

	/* what is */
	ListenState state;
	PGconn	   *conn;			/* an external descriptor is held with it */
	int			fd;				/* watched, or -1 */
	int64		deadline;		/* of the state */
	bool		connected;		/* the first query was answered */
	bool		announce;		/* the callback is owed its NULLs */
	ChannelSet *listening;
	ChannelSet *sending;		/* becomes listening when the query succeeds */
	long		backoff_ms;
	bool		loss_logged;
	char		notice[512];	/* the server's last */
	char		error[512];
};

/* ---------- small things ---------- */

static int64
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static bool
set_contains(const ChannelSet *set, const char *name)
{
	for (int i = 0; set && i < set->n; i++)
	{
		if (strcmp(set->names[i], name) == 0)
			return true;
	}
	return false;
}

static void
free_set(ChannelSet **set)
{
	if (*set)
		MemoryContextDelete((*set)->cxt);
	*set = NULL;
}

/* Copies names into a set of its own, without duplicates and impossible ones. */
static ChannelSet *
make_set(GoyaListen *l, char **names, int n)
{
	MemoryContext cxt = AllocSetContextCreate(l->cxt, "goya listen channels",
											  ALLOCSET_SMALL_SIZES);
	ChannelSet *set = MemoryContextAllocZero(cxt, sizeof(ChannelSet));

	set->cxt = cxt;
	set->names = MemoryContextAlloc(cxt, Max(n, 1) * sizeof(char *));
	for (int i = 0; i < n; i++)
	{
		size_t		len = strlen(names[i]);

		if (len > 0 && len < NAMEDATALEN && !set_contains(set, names[i]))
			set->names[set->n++] = MemoryContextStrdup(cxt, names[i]);
	}
	return set;
}

/* ---------- the connection's end ---------- */

/* Reset callback of the context, so it touches nothing but libpq. */
static void
close_listen(void *arg)
{
	GoyaListen *l = (GoyaListen *) arg;

	if (l->conn)
	{
		PQfinish(l->conn);
		ReleaseExternalFD();
		l->conn = NULL;
	}
}

static void
disconnect(GoyaListen *l)
{
	if (l->fd >= 0)
		goya_wait_forget(l->wait, l->fd);
	l->fd = -1;
	close_listen(l);
	l->connected = false;
	l->announce = false;
	free_set(&l->listening);
	free_set(&l->sending);
}

/* Gives up the connection and waits before the next try. */
static void
fail_connection(GoyaListen *l, const char *reason)
{
	size_t		len;

	if (strncmp(l->notice, "FATAL", 5) == 0)
		reason = l->notice;
	strlcpy(l->error, reason && *reason ? reason : "connection lost", sizeof(l->error));
	l->notice[0] = '\0';
	len = strlen(l->error);
	while (len > 0 && l->error[len - 1] == '\n')
		l->error[--len] = '\0';
	for (char *p = l->error; *p; p++)
	{
		if (*p == '\n' || *p == '\t')
			*p = ' ';
	}
	disconnect(l);
	l->state = LISTEN_WAITING;
	l->backoff_ms = l->backoff_ms == 0 ? BACKOFF_MIN_MS : Min(l->backoff_ms * 2, BACKOFF_MAX_MS);
	l->deadline = now_ms() + l->backoff_ms;
	if (!l->loss_logged)
	{
		l->loss_logged = true;
		ereport(LOG,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("goya has no connection to listen with: %s", l->error),
				 errdetail("Notifications are noticed later, when tables are looked at. It tries again.")));
	}
}

/* ---------- connecting ---------- */

static void watch_connection(GoyaListen *l, bool for_write);

/* Notices would go to stderr.  A FATAL one is why the connection ends. */
static void
keep_notice(void *arg, const char *message)
{
	GoyaListen *l = (GoyaListen *) arg;

	strlcpy(l->notice, message, sizeof(l->notice));
}

static void
begin_connecting(GoyaListen *l)
{
	MemoryContext old = MemoryContextSwitchTo(l->scratch);
	const char *reason = "out of memory";

	if (AcquireExternalFD())
	{
		l->conn = goya_listen_start_connection(l->conninfo, &reason);
		if (l->conn == NULL)
			ReleaseExternalFD();
	}
	else
		reason = "no file descriptors left";

	if (l->conn == NULL)
		fail_connection(l, reason);
	else if (PQstatus(l->conn) == CONNECTION_BAD)
		fail_connection(l, PQerrorMessage(l->conn));
	else
	{
		PQsetNoticeProcessor(l->conn, keep_notice, l);
		l->notice[0] = '\0';
		l->state = LISTEN_CONNECTING;
		l->deadline = now_ms() + CONNECT_TIMEOUT_MS;
		watch_connection(l, true);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(l->scratch);
}

/* ---------- queries ---------- */

/* Sends a query; sending is what we listen to when it succeeds, or NULL. */
static void
send_query(GoyaListen *l, const char *query, ChannelSet *sending)
{
	free_set(&l->sending);
	l->sending = sending;
	if (!PQsendQuery(l->conn, query))
	{
		fail_connection(l, PQerrorMessage(l->conn));
		return;
	}
	l->state = LISTEN_BUSY;
	l->deadline = now_ms() + QUERY_TIMEOUT_MS;
	watch_connection(l, PQflush(l->conn) > 0);
}

/* The statements that turn what we listen to into what is wanted. */
static void
append_difference(GoyaListen *l, StringInfo query)
{
	for (int i = 0; l->listening && i < l->listening->n; i++)
	{
		if (!set_contains(l->wanted, l->listening->names[i]))
			appendStringInfo(query, "UNLISTEN %s;",
							 quote_identifier(l->listening->names[i]));
	}
	for (int i = 0; l->wanted && i < l->wanted->n; i++)
	{
		if (!set_contains(l->listening, l->wanted->names[i]))
			appendStringInfo(query, "LISTEN %s;",
							 quote_identifier(l->wanted->names[i]));
	}
}

/* Sends what is new, if anything is or if the session just began. */
static void
sync_channels(GoyaListen *l)
{
	MemoryContext old = MemoryContextSwitchTo(l->scratch);
	StringInfoData query;

	l->wanted_changed = false;
	initStringInfo(&query);
	if (!l->connected)
	{
		/* An idle session is what this is; statements here are short. */
		appendStringInfoString(&query, "SET idle_session_timeout = 0;"
							   "SET statement_timeout = '10s';");
	}
	append_difference(l, &query);
	if (query.len > 0)
		send_query(l, query.data,
				   make_set(l, l->wanted ? l->wanted->names : NULL,
							l->wanted ? l->wanted->n : 0));
	MemoryContextSwitchTo(old);
	MemoryContextReset(l->scratch);
}

/* The query in flight is answered. */
static void
finish_query(GoyaListen *l)
{
	l->state = LISTEN_READY;
	l->deadline = now_ms() + KEEPALIVE_MS;
	if (l->sending)
	{
		free_set(&l->listening);
		l->listening = l->sending;
		l->sending = NULL;
	}
	if (l->connected)
		return;
	l->connected = true;
	l->announce = true;
	l->backoff_ms = 0;
	l->error[0] = '\0';
	if (l->loss_logged)
		ereport(LOG,
				(errmsg("goya listens again")));
	l->loss_logged = false;
}

/* ---------- what libpq has for us ---------- */

/* Calls the callback and frees the notification, whatever happens. */
static void
deliver_notification(GoyaListen *l, PGnotify *notify)
{
	PG_TRY();
	{
		l->callback(notify->relname, notify->extra, l->callback_arg);
	}
	PG_CATCH();
	{
		PQfreemem(notify);
		PG_RE_THROW();
	}
	PG_END_TRY();
	PQfreemem(notify);
}

static void
deliver_notifications(GoyaListen *l)
{
	PGnotify   *notify;

	while ((notify = PQnotifies(l->conn)) != NULL)
		deliver_notification(l, notify);
}

/* Takes the results that are here; the query is over with a NULL one. */
static void
take_results(GoyaListen *l)
{
	while (l->state == LISTEN_BUSY && !PQisBusy(l->conn))
	{
		PGresult   *result = PQgetResult(l->conn);
		ExecStatusType status = PQresultStatus(result);

		PQclear(result);
		if (result == NULL)
			finish_query(l);
		else if (status != PGRES_COMMAND_OK && status != PGRES_EMPTY_QUERY)
			fail_connection(l, PQerrorMessage(l->conn));
	}
}

static void
read_connection(GoyaListen *l)
{
	int			unsent;

	if (!PQconsumeInput(l->conn))
	{
		fail_connection(l, PQerrorMessage(l->conn));
		return;
	}
	unsent = PQflush(l->conn);
	if (unsent < 0)
	{
		fail_connection(l, PQerrorMessage(l->conn));
		return;
	}
	watch_connection(l, unsent > 0);
	take_results(l);
	if (l->conn)
		deliver_notifications(l);
}

static void
continue_connecting(GoyaListen *l)
{
	switch (PQconnectPoll(l->conn))
	{
		case PGRES_POLLING_READING:
			watch_connection(l, false);
			break;
		case PGRES_POLLING_WRITING:
			watch_connection(l, true);
			break;
		case PGRES_POLLING_OK:
			PQsetnonblocking(l->conn, 1);
			sync_channels(l);
			break;
		default:
			fail_connection(l, PQerrorMessage(l->conn));
			break;
	}
}

static void
connection_ready(int fd, uint32 events, void *arg)
{
	GoyaListen *l = (GoyaListen *) arg;

	if (l->state == LISTEN_CONNECTING)
		continue_connecting(l);
	else if (l->conn)
		read_connection(l);
}

/* libpq may have moved to another socket, of the next address. */
static void
watch_connection(GoyaListen *l, bool for_write)
{
	int			fd = PQsocket(l->conn);

	if (l->fd >= 0 && l->fd != fd)
		goya_wait_forget(l->wait, l->fd);
	l->fd = fd;
	if (fd < 0)
		return;
	if (l->state == LISTEN_CONNECTING)
		goya_wait_watch(l->wait, fd, for_write ? EPOLLOUT : EPOLLIN, connection_ready, l);
	else
		goya_wait_watch(l->wait, fd, EPOLLIN | (for_write ? EPOLLOUT : 0), connection_ready, l);
}

/* ---------- what the engine calls ---------- */

GoyaListen *
goya_listen_create(GoyaWait *w, GoyaNotifyCallback cb, void *arg)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext,
											  "goya listen",
											  ALLOCSET_SMALL_SIZES);
	GoyaListen *l = MemoryContextAllocZero(cxt, sizeof(GoyaListen));

	l->cxt = cxt;
	l->wait = w;
	l->callback = cb;
	l->callback_arg = arg;
	l->scratch = AllocSetContextCreate(cxt, "goya listen scratch",
									   ALLOCSET_SMALL_SIZES);
	l->fd = -1;
	l->on_reset.func = close_listen;
	l->on_reset.arg = l;
	MemoryContextRegisterResetCallback(cxt, &l->on_reset);
	return l;
}

void
goya_listen_set_conninfo(GoyaListen *l, const char *conninfo)
{
	char	   *old = l->conninfo;

	if (conninfo && *conninfo == '\0')
		conninfo = NULL;
	if (conninfo == old || (conninfo && old && strcmp(conninfo, old) == 0))
		return;
	l->conninfo = conninfo ? MemoryContextStrdup(l->cxt, conninfo) : NULL;
	l->conninfo_changed = true;
	if (old)
		pfree(old);
}

void
goya_listen_set_channels(GoyaListen *l, char **channels, int n)
{
	ChannelSet *wanted = make_set(l, channels, n);

	free_set(&l->wanted);
	l->wanted = wanted;
	l->wanted_changed = true;
}

static void
apply_conninfo(GoyaListen *l)
{
	l->conninfo_changed = false;
	disconnect(l);
	l->error[0] = '\0';
	l->backoff_ms = 0;
	l->loss_logged = l->loss_logged && l->conninfo != NULL;
	l->state = l->conninfo ? LISTEN_WAITING : LISTEN_OFF;
	l->deadline = now_ms();
}

static void
pass_deadline(GoyaListen *l)
{
	switch (l->state)
	{
		case LISTEN_OFF:
			break;
		case LISTEN_CONNECTING:
			fail_connection(l, "timed out connecting");
			break;
		case LISTEN_BUSY:
			fail_connection(l, "the server does not answer");
			break;
		case LISTEN_READY:
			send_query(l, "", NULL);
			break;
		case LISTEN_WAITING:
			begin_connecting(l);
			break;
	}
}

long
goya_listen_tick(GoyaListen *l)
{
	if (l->conninfo_changed)
		apply_conninfo(l);
	if (l->state == LISTEN_READY && l->wanted_changed)
		sync_channels(l);
	if (l->state != LISTEN_OFF && now_ms() >= l->deadline)
		pass_deadline(l);
	/* left over when the callback threw */
	if (l->connected)
		deliver_notifications(l);
	if (l->announce)
	{
		l->announce = false;
		l->callback(NULL, NULL, l->callback_arg);
	}
	if (l->state == LISTEN_OFF)
		return -1;
	return (long) Max(l->deadline - now_ms(), 0);
}

bool
goya_listen_connected(GoyaListen *l)
{
	return l->connected;
}
