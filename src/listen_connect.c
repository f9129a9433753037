/*-------------------------------------------------------------------------
 *
 * listen_connect.c
 *	  Where the LISTEN connection goes: the rules of its connection string.
 *
 * What was decided:
 *
 * - libpq resolves names with a blocking call, and the engine must not block:
 *	 only hosts that need no resolver are accepted.  Services are refused,
 *	 since their file could name another host.
 *
 * - GSSAPI encryption is off unless asked for: its library blocks too.
 *
 * - What the string leaves open points to this server.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <sys/socket.h>

#include "libpq-fe.h"

#include "mb/pg_wchar.h"
#include "postmaster/postmaster.h"

#include "listen.h"

#define MAX_OPTIONS			64
#define MAX_DEFAULTS		12	/* room kept for what we add */

/* Does the host need no resolver? */
static bool
is_plain_host(const char *host)
{
	unsigned char buf[sizeof(struct in6_addr)];

	return host[0] == '/' || host[0] == '@' || strcmp(host, "localhost") == 0 ||
		inet_pton(AF_INET, host, buf) == 1 || inet_pton(AF_INET6, host, buf) == 1;
}

static bool
are_plain_hosts(const char *list)
{
	char	   *copy = pstrdup(list);
	char	   *rest = copy;
	char	   *host;
	bool		plain = true;

	while ((host = strsep(&rest, ",")) != NULL)
		plain = plain && is_plain_host(host);
	pfree(copy);
	return plain;
}

typedef struct ConnectOptions
{
	const char *keywords[MAX_OPTIONS];
	const char *values[MAX_OPTIONS];
	int			n;
} ConnectOptions;

static const char *
find_option(const ConnectOptions *o, const char *keyword)
{
	for (int i = 0; i < o->n; i++)
	{
		if (strcmp(o->keywords[i], keyword) == 0)
			return o->values[i];
	}
	return NULL;
}

/* Sets what the conninfo leaves open. */
static void
add_default(ConnectOptions *o, const char *keyword, const char *value)
{
	if (find_option(o, keyword) != NULL || o->n >= MAX_OPTIONS - 1)
		return;
	o->keywords[o->n] = keyword;
	o->values[o->n++] = value;
}

/* The first of our own socket directories, or the loopback address. */
static const char *
own_host(void)
{
	char	   *dirs = pstrdup(Unix_socket_directories ? Unix_socket_directories : "");
	char	   *dir = dirs + strspn(dirs, " \"");

	dir[strcspn(dir, ",\"")] = '\0';
	return *dir ? dir : "127.0.0.1";
}

/* Starts libpq with the parsed conninfo; NULL when refused, with *reason. */
static PGconn *
connect_with(PQconninfoOption *parsed, const char **reason)
{
	ConnectOptions o = {.n = 0};
	const char *host;

	for (PQconninfoOption *option = parsed; option->keyword; option++)
	{
		if (option->val && option->val[0] && o.n < MAX_OPTIONS - MAX_DEFAULTS)
		{
			o.keywords[o.n] = option->keyword;
			o.values[o.n++] = option->val;
		}
	}
	host = find_option(&o, "host");
	if (find_option(&o, "service") ||
		(host && !find_option(&o, "hostaddr") && !are_plain_hosts(host)))
	{
		*reason = "the host to listen at must be a socket directory, an address or localhost";
		return NULL;
	}
	if (!find_option(&o, "hostaddr"))
		add_default(&o, "host", own_host());
	add_default(&o, "port", psprintf("%d", PostPortNumber));
	add_default(&o, "application_name", "goya listen");
	add_default(&o, "client_encoding", GetDatabaseEncodingName());
	add_default(&o, "gssencmode", "disable");
	add_default(&o, "keepalives_idle", "60");
	add_default(&o, "keepalives_interval", "10");
	add_default(&o, "keepalives_count", "3");
	return PQconnectStartParams(o.keywords, o.values, 0);
}

/*
 * Starts to connect.  NULL when the string is refused or memory is out, with
 * the reason in *reason.  Allocates in CurrentMemoryContext.
 */
PGconn *
goya_listen_start_connection(const char *conninfo, const char **reason)
{
	PQconninfoOption *parsed = PQconninfoParse(conninfo, NULL);
	PGconn	   *conn = NULL;

	if (parsed == NULL)
	{
		/* libpq's text may quote the password */
		*reason = "the connection string is not valid";
		return NULL;
	}
	PG_TRY();
	{
		conn = connect_with(parsed, reason);
	}
	PG_FINALLY();
	{
		PQconninfoFree(parsed);
	}
	PG_END_TRY();
	return conn;
}
