/*-------------------------------------------------------------------------
 * secret_host.c
 *		Which hosts a secret may be sent to: patterns "[http://][*.]host[:port]".
 *
 * What was decided. Without "http://" a secret goes only over TLS; with it, also in the clear. Without a port any port will do. "*."
 * stands for one or more labels, and something with a dot must follow, so that no pattern stands for everything. Names are compared as
 * written, without case and final dot: an address spelt in another way does not match, which errs on the safe side.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "secret.h"

static void
refuse(const char *text, const char *why)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("bad host of a secret"),
					errdetail("\"%.200s\" %s.", text, why),
					errhint("Name the hosts it may be sent to, as api.example.com, *.example.com, api.example.com:8443 or, "
							"without TLS, http://localhost:8080.")));
}

/* Length of the host at the start of an authority; its port's colon or the end follows. */
static size_t
host_length(const char *at)
{
	size_t		n;

	if (*at != '[')
		return strcspn(at, ":");
	n = strcspn(at, "]");
	return at[n] == ']' ? n + 1 : n;
}

static void
check_name(const char *text, const char *host, size_t len)
{
	bool		any = len > 2 && strncmp(host, "*.", 2) == 0;
	size_t		from = any ? 2 : 0;

	if (host[0] == '[')
	{
		if (len < 4 || host[len - 1] != ']' || strspn(host + 1, "0123456789abcdef:.") != len - 2)
			refuse(text, "has no IPv6 address in its brackets");
		return;
	}
	if (len == from || len > 253 || strspn(host + from, "abcdefghijklmnopqrstuvwxyz0123456789.-_") != len - from)
		refuse(text, "is no name of a host");
	if (host[from] == '.' || strstr(host, "..") != NULL)
		refuse(text, "has an empty label");
	if (any && (memchr(host + from, '.', len - from) == NULL || strspn(host + from, "0123456789.") == len - from))
		refuse(text, "would stand for too much");
}

char *
goya_secret_host_pattern(const char *text)
{
	char	   *pattern = pstrdup(text);
	bool		clear;
	char	   *host;
	char	   *port;
	size_t		len;
	int			number = 0;

	for (char *p = pattern; *p; p++)
		*p = (char) pg_ascii_tolower((unsigned char) *p);
	clear = strncmp(pattern, "http://", 7) == 0;
	host = clear ? pattern + 7 : strncmp(pattern, "https://", 8) == 0 ? pattern + 8 : pattern;
	len = host_length(host);
	port = host + len;
	if (*port == ':')
	{
		number = strlen(port) <= 6 && strspn(port + 1, "0123456789") == strlen(port + 1) ? atoi(port + 1) : 0;
		if (number < 1 || number > 65535)
			refuse(text, "has no port from 1 to 65535 after its colon");
	}
	else if (*port != '\0')
		refuse(text, "is no name of a host");
	*port = '\0';
	if (len > 0 && host[len - 1] == '.')
		host[--len] = '\0';
	if (len == 0)
		refuse(text, "is empty");
	check_name(text, host, len);
	return number > 0 ? psprintf("%s%s:%d", clear ? "http://" : "", host, number) : psprintf("%s%s", clear ? "http://" : "", host);
}

bool
goya_secret_host_matches(const char *pattern, const GoyaSecretTarget *target)
{
	bool		clear = strncmp(pattern, "http://", 7) == 0;
	const char *host = clear ? pattern + 7 : pattern;
	size_t		len = host_length(host);
	const char *is = target->host;
	size_t		is_len = strlen(is);

	if (!clear && !target->tls)
		return false;
	if (host[len] == ':' && atoi(host + len + 1) != target->port)
		return false;
	if (host[0] == '[')
	{
		host++;
		len -= 2;
		if (is_len > 1 && is[0] == '[')
		{
			is++;
			is_len -= 2;
		}
	}
	else if (is_len > 0 && is[is_len - 1] == '.')
		is_len--;
	if (len > 2 && host[0] == '*')
	{
		host++;					/* ".example.com" has to be the end of it */
		len--;
		if (is_len <= len)
			return false;
		is += is_len - len;
		is_len = len;
	}
	return is_len == len && pg_strncasecmp(is, host, len) == 0;
}
