/*-------------------------------------------------------------------------
 * http_url.c
 *		Urls of requests that follow an answer: redirects, next pages, where to ask for a result.
 *
 * curl parses them, as it does when it calls them, so that what is compared here is what is called.  Results are palloc'd; NULL: it is no
 * url of http or https.  Runs in the main thread.  Throws only when out of memory.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "lib/stringinfo.h"

#include "http_internal.h"

static CURLU *
parse_url(const char *base, const char *reference)
{
	CURLU	   *u = curl_url();

	if (u != NULL && curl_url_set(u, CURLUPART_URL, base, 0) == CURLUE_OK &&
		(reference == NULL || curl_url_set(u, CURLUPART_URL, reference, 0) == CURLUE_OK))
		return u;
	curl_url_cleanup(u);
	return NULL;
}

/* One part as palloc'd text, NULL: it has none. */
static char *
part_of(CURLU *u, CURLUPart part, unsigned int flags)
{
	char	   *value = NULL;
	char	   *copy = NULL;

	if (curl_url_get(u, part, &value, flags) == CURLUE_OK && value != NULL)
		copy = pstrdup(value);
	curl_free(value);
	return copy;
}

static bool
is_http(CURLU *u)
{
	char	   *scheme = part_of(u, CURLUPART_SCHEME, 0);

	return scheme != NULL && (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0);
}

/* A reference as a url: what a Location means.  Without fragment, and without user and password, which nobody gave us to use. */
char *
goya_http_url_resolve(const char *base, const char *reference)
{
	CURLU	   *u = parse_url(base, reference);
	char	   *url = NULL;

	if (u == NULL)
		return NULL;
	(void) curl_url_set(u, CURLUPART_FRAGMENT, NULL, 0);
	(void) curl_url_set(u, CURLUPART_USER, NULL, 0);
	(void) curl_url_set(u, CURLUPART_PASSWORD, NULL, 0);
	if (is_http(u))
		url = part_of(u, CURLUPART_URL, 0);
	curl_url_cleanup(u);
	return url;
}

static char *
origin_of(const char *url)
{
	CURLU	   *u = parse_url(url, NULL);
	char	   *origin = NULL;

	if (u == NULL)
		return NULL;
	if (is_http(u))
	{
		char	   *host = part_of(u, CURLUPART_HOST, 0);

		for (char *p = host; p && *p; p++)
			*p = pg_tolower((unsigned char) *p);
		origin = psprintf("%s://%s:%s", part_of(u, CURLUPART_SCHEME, 0), host ? host : "", part_of(u, CURLUPART_PORT, CURLU_DEFAULT_PORT));
	}
	curl_url_cleanup(u);
	return origin;
}

/* Same scheme, host and port; false also when one is no url. */
bool
goya_http_url_same_origin(const char *a, const char *b)
{
	char	   *x = origin_of(a);
	char	   *y = origin_of(b);

	return x != NULL && y != NULL && strcmp(x, y) == 0;
}

/* Where a url goes; false: it is no url of http or https. */
bool
goya_http_url_target(const char *url, bool *tls, char **host, int *port)
{
	CURLU	   *u = parse_url(url, NULL);
	char	   *text = NULL;
	char	   *scheme = NULL;

	*host = NULL;
	if (u != NULL && is_http(u))
	{
		scheme = part_of(u, CURLUPART_SCHEME, 0);
		*host = part_of(u, CURLUPART_HOST, 0);
		text = part_of(u, CURLUPART_PORT, CURLU_DEFAULT_PORT);
	}
	curl_url_cleanup(u);
	*tls = scheme != NULL && strcmp(scheme, "https") == 0;
	*port = text ? atoi(text) : 0;
	for (char *p = *host; p && *p; p++)
		*p = pg_ascii_tolower((unsigned char) *p);
	return *host != NULL && *port > 0;
}

/* Text with all but unreserved characters as %XX; for a form a blank is "+". */
char *
goya_http_url_escape(const char *text, size_t len, bool form)
{
	char	   *made = palloc(len * 3 + 1);
	char	   *at = made;

	for (size_t i = 0; i < len; i++)
	{
		unsigned char c = text[i];

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c != '\0' && strchr("-._~", c)))
			*at++ = c;
		else if (form && c == ' ')
			*at++ = '+';
		else
			at += sprintf(at, "%%%02X", c);
	}
	*at = '\0';
	return made;
}

/* Is a piece of a query the parameter of that (escaped) name? */
static bool
is_parameter(const char *piece, size_t len, const char *name)
{
	size_t		n = strlen(name);

	return len >= n && strncmp(piece, name, n) == 0 && (len == n || piece[n] == '=');
}

/* The url with a parameter in its query set; NULL: no url. */
char *
goya_http_url_set_parameter(const char *url, const char *name, const char *value)
{
	CURLU	   *u = parse_url(url, NULL);
	char	   *escaped = goya_http_url_escape(name, strlen(name), false);
	char	   *query;
	char	   *made;
	StringInfoData s;

	if (u == NULL)
		return NULL;
	query = part_of(u, CURLUPART_QUERY, 0);
	initStringInfo(&s);
	for (const char *p = query; p != NULL && *p; p += strcspn(p, "&") + (p[strcspn(p, "&")] == '&'))
	{
		size_t		len = strcspn(p, "&");

		if (len > 0 && !is_parameter(p, len, escaped))
			appendStringInfo(&s, "%s%.*s", s.len > 0 ? "&" : "", (int) len, p);
	}
	appendStringInfo(&s, "%s%s=%s", s.len > 0 ? "&" : "", escaped, goya_http_url_escape(value, strlen(value), false));
	made = curl_url_set(u, CURLUPART_QUERY, s.data, 0) == CURLUE_OK ? part_of(u, CURLUPART_URL, 0) : NULL;
	curl_url_cleanup(u);
	return made;
}

/* %41 is A, in place. */
static size_t
unescape(char *text, size_t len)
{
	size_t		n = 0;
	unsigned int c;

	for (size_t i = 0; i < len; i++)
	{
		if (text[i] == '%' && len - i > 2 && isxdigit((unsigned char) text[i + 1]) && isxdigit((unsigned char) text[i + 2]) &&
			sscanf(text + i + 1, "%2x", &c) == 1)
		{
			text[n++] = (char) c;
			i += 2;
		}
		else
			text[n++] = text[i];
	}
	return n;
}

static char *
escape_again(const char *text, size_t len)
{
	char	   *copy = pnstrdup(text, len);

	return goya_http_url_escape(copy, unescape(copy, len), false);
}

static int
compare_text(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

/* The url with its query as signatures want it: each name with a value, all escaped alike, in order.  NULL: no url. */
char *
goya_http_url_canonical_query(const char *url)
{
	CURLU	   *u = parse_url(url, NULL);
	char	   *query;
	char	  **pairs;
	int			n = 0;
	char	   *made;
	StringInfoData s;

	if (u == NULL)
		return NULL;
	query = part_of(u, CURLUPART_QUERY, 0);
	pairs = palloc(sizeof(char *) * (query ? strlen(query) + 1 : 1));
	for (const char *p = query; p != NULL && *p; p += strcspn(p, "&") + (p[strcspn(p, "&")] == '&'))
	{
		size_t		len = strcspn(p, "&");
		size_t		name = Min(strcspn(p, "="), len);

		if (len > 0)
			pairs[n++] = psprintf("%s=%s", escape_again(p, name), name < len ? escape_again(p + name + 1, len - name - 1) : "");
	}
	qsort(pairs, n, sizeof(char *), compare_text);
	initStringInfo(&s);
	for (int i = 0; i < n; i++)
		appendStringInfo(&s, "%s%s", i > 0 ? "&" : "", pairs[i]);
	made = curl_url_set(u, CURLUPART_QUERY, n > 0 ? s.data : NULL, 0) == CURLUE_OK ? part_of(u, CURLUPART_URL, 0) : NULL;
	curl_url_cleanup(u);
	return made;
}

/* Path and query, palloc'd, "" where there is none; false: no url. */
bool
goya_http_url_parts(const char *url, char **path, char **query)
{
	CURLU	   *u = parse_url(url, NULL);

	if (u == NULL)
		return false;
	*path = part_of(u, CURLUPART_PATH, 0);
	*query = part_of(u, CURLUPART_QUERY, 0);
	curl_url_cleanup(u);
	if (*path == NULL)
		*path = pstrdup("/");
	if (*query == NULL)
		*query = pstrdup("");
	return true;
}
