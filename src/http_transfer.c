/*-------------------------------------------------------------------------
 *
 * http_transfer.c
 *	  One HTTP transfer: its curl options and the callbacks curl makes.
 *
 * All of it runs in the thread of http_loop.c: malloc and flags in the
 * transfer, nothing that can throw.  A callback that stops its transfer
 * says why in t->stop; http.c turns that into an outcome.  The rules behind
 * the options are in the header of http.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http_internal.h"

#define RECEIVE_BUFFER		(8 * 1024L)
#define UPLOAD_BUFFER		(16 * 1024L)	/* curl's minimum */

/* ---------- callbacks ---------- */

/* Appends len bytes and a NUL that does not count; false: no memory. */
static bool
append_bytes(Buffer *buf, const char *data, size_t len)
{
	if (buf->len + len + 1 > buf->size)
	{
		size_t		size = Max(buf->size * 2, 512);
		char	   *grown;

		while (size < buf->len + len + 1)
			size *= 2;
		grown = realloc(buf->data, size);
		if (grown == NULL)
			return false;
		buf->data = grown;
		buf->size = size;
	}
	memcpy(buf->data + buf->len, data, len);
	buf->len += len;
	buf->data[buf->len] = '\0';
	return true;
}

/* Settings and rules; sets which rule refused. */
static bool
may_reach(GoyaHttpTransfer *t, const struct sockaddr *address)
{
	GoyaEgressTarget target = {.https = t->https,.host = t->host ? t->host : "",.port = t->port,.address = address};

	return goya_egress_allows(t->request.egress, &target, &t->rule);
}

static curl_socket_t
open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *peer)
{
	GoyaHttpTransfer *t = (GoyaHttpTransfer *) arg;
	GoyaHttp   *h = t->http;
	const void *address = peer->family == AF_INET6 ?
		(const void *) &((struct sockaddr_in6 *) &peer->addr)->sin6_addr :
		(const void *) &((struct sockaddr_in *) &peer->addr)->sin_addr;
	int			fd = -1;

	goya_http_stop_resolving(t);
	if (!may_reach(t, &peer->addr))
	{
		t->denied = true;
		if (inet_ntop(peer->family, address, t->address, sizeof(t->address)) == NULL)
			t->address[0] = '\0';
		return CURL_SOCKET_BAD;
	}
	if (h->sockets < h->socket_limit)
		fd = socket(peer->family, peer->socktype | SOCK_CLOEXEC, peer->protocol);
	else
		errno = EMFILE;
	if (fd < 0)
	{
		t->no_fd = t->no_fd || errno == EMFILE || errno == ENFILE;
		return CURL_SOCKET_BAD;
	}
	h->sockets++;
	t->shard->sockets++;
	t->opened = true;
	goya_pollset_adopt(&h->pollset, fd);
	return fd;
}

static int
close_socket(void *arg, curl_socket_t fd)
{
	GoyaHttpShard *shard = (GoyaHttpShard *) arg;

	shard->sockets--;
	shard->http->sockets--;
	goya_pollset_forget(&shard->http->pollset, fd);
	return close(fd);
}

/* The connection stands, new or kept; the request is about to go out. */
static int
before_request(void *arg, char *peer_ip, char *local_ip, int peer_port, int local_port)
{
	GoyaHttpTransfer *t = (GoyaHttpTransfer *) arg;
	struct sockaddr_in v4 = {.sin_family = AF_INET};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
	bool		allowed = false;

	goya_http_stop_resolving(t);
	if (inet_pton(AF_INET, peer_ip, &v4.sin_addr) == 1)
		allowed = may_reach(t, (struct sockaddr *) &v4);
	else if (inet_pton(AF_INET6, peer_ip, &v6.sin6_addr) == 1)
		allowed = may_reach(t, (struct sockaddr *) &v6);
	if (!allowed)
	{
		strlcpy(t->address, peer_ip, sizeof(t->address));
		t->stop = STOP_DENIED;
		return CURL_PREREQFUNC_ABORT;
	}
	if (t->sent && !t->repeatable)
	{
		t->stop = STOP_RESEND;
		return CURL_PREREQFUNC_ABORT;
	}
	t->sent = true;
	return CURL_PREREQFUNC_OK;
}

/* The number in "HTTP/1.1 200 OK", 0 if it is not final. */
static int
parse_status(const char *line, size_t len)
{
	const char *digits = memchr(line, ' ', len);
	int			status = 0;

	for (int i = 1; i <= 3; i++)
	{
		if (digits == NULL || digits + i >= line + len ||
			digits[i] < '0' || digits[i] > '9')
			return 0;
		status = status * 10 + digits[i] - '0';
	}
	return status >= 200 ? status : 0;
}

static size_t
receive_header(char *data, size_t size, size_t nmemb, void *arg)
{
	GoyaHttpTransfer *t = (GoyaHttpTransfer *) arg;
	size_t		received = size * nmemb;
	size_t		len = received;
	bool		folded = received > 0 && (*data == ' ' || *data == '\t');

	t->header_bytes += received;
	if (t->header_bytes > MAX_HEADER_BYTES)
	{
		t->stop = STOP_TOO_LARGE;
		return 0;
	}
	if (len >= 5 && memcmp(data, "HTTP/", 5) == 0)
	{
		/* A status line begins a new block; 1xx are not the answer. */
		t->status = parse_status(data, len);
		t->head.len = 0;
		t->nheaders = 0;
		return received;
	}
	while (len > 0 && strchr("\r\n \t", data[len - 1]))
		len--;
	if (len == 0)
		return received;
	if (folded && t->nheaders > 0)
		t->head.data[t->head.len - 1] = ' ';	/* was the line's NUL */
	else
		t->nheaders++;
	/* The NUL append_bytes writes becomes part of the buffer. */
	if (!append_bytes(&t->head, data, len) || !append_bytes(&t->head, "", 1))
	{
		t->stop = STOP_NO_MEMORY;
		return 0;
	}
	return received;
}

/* Of a streamed answer: a piece for the main thread, besides the whole body; false: no memory. */
static bool
pass_on(GoyaHttpTransfer *t, const char *data, size_t len)
{
	GoyaHttpPiece *piece;

	if (!t->request.stream || t->status < 200 || t->status > 299 || len == 0)
		return true;
	piece = malloc(offsetof(GoyaHttpPiece, data) + len);
	if (piece == NULL)
		return false;
	piece->id = t->id;
	piece->len = len;
	memcpy(piece->data, data, len);
	dlist_push_tail(&t->http->received, &piece->node);
	return true;
}

static size_t
receive_body(char *data, size_t size, size_t nmemb, void *arg)
{
	GoyaHttpTransfer *t = (GoyaHttpTransfer *) arg;
	size_t		len = size * nmemb;

	if (len > t->max_response - t->content.len)
		t->stop = STOP_TOO_LARGE;
	else if (!append_bytes(&t->content, data, len) || !pass_on(t, data, len))
		t->stop = STOP_NO_MEMORY;
	else
		return len;
	return len == 0 ? 1 : 0;	/* anything but len */
}

/* ---------- setting up a request ---------- */

/* The host as rules see it: ASCII, lower case, without brackets, zone and the dot at the end; malloc'd.  NULL: no memory. */
static char *
plain_host(const char *host)
{
	char	   *copy = strdup(host[0] == '[' ? host + 1 : host);
	size_t		len = copy ? strlen(copy) : 0;

	if (copy == NULL)
		return NULL;
	if (host[0] == '[')
		len = strcspn(copy, "]%");
	while (len > 0 && copy[len - 1] == '.')
		len--;
	copy[len] = '\0';
	for (char *p = copy; *p; p++)
		if (*p >= 'A' && *p <= 'Z')
			*p += 'a' - 'A';
	return copy;
}

/* What the tenant's rules ask about the url; false: it cannot be told. */
static bool
keep_target(GoyaHttpTransfer *t, CURLU *u)
{
	char	   *host = NULL;
	char	   *port = NULL;

#if LIBCURL_VERSION_NUM >= 0x075800
	/* As it will be looked up; a name that cannot be written so cannot be looked up either. */
	(void) curl_url_get(u, CURLUPART_HOST, &host, CURLU_PUNYCODE);
#else
	(void) curl_url_get(u, CURLUPART_HOST, &host, 0);
#endif
	if (host != NULL && curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK)
	{
		t->host = plain_host(host);
		t->port = atoi(port);
	}
	curl_free(host);
	curl_free(port);
	return t->host != NULL;
}

/*
 * Is the url one we can use?  Sets by_name if its host needs a resolver; curl
 * answers localhost by itself.
 */
static bool
check_url(GoyaHttpTransfer *t)
{
	CURLU	   *u = curl_url();
	char	   *scheme = NULL;
	char	   *host = NULL;
	struct in_addr v4;
	bool		ok;

	ok = u != NULL &&
		curl_url_set(u, CURLUPART_URL, t->request.url, 0) == CURLUE_OK &&
		curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
		curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
		(strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0) &&
		host[0] != '\0';
	t->by_name = ok && host[0] != '[' && strcmp(host, "localhost") != 0 &&
		inet_pton(AF_INET, host, &v4) != 1;
	t->https = ok && strcmp(scheme, "https") == 0;
	if (ok && t->request.egress != NULL)
		ok = keep_target(t, u);
	curl_free(scheme);
	curl_free(host);
	curl_url_cleanup(u);
	return ok;
}

/* Adds one line to the transfer's header list; false: no memory. */
static bool
add_header(GoyaHttpTransfer *t, const char *line)
{
	struct curl_slist *list = curl_slist_append(t->headers, line);

	if (list)
		t->headers = list;
	return list != NULL;
}

/*
 * Headers in curl's notation, where "Name:" would remove one of curl's own
 * and "Name;" sends an empty one.
 */
static bool
set_headers(GoyaHttpTransfer *t, const GoyaHttpRequest *req)
{
	bool		has_type = false;
	bool		ok = true;

	for (int i = 0; ok && i < req->nheaders; i++)
	{
		const char *line = req->headers[i];
		const char *colon = strchr(line, ':');

		if (goya_http_header_value(line, "Content-Type"))
			has_type = true;
		if (colon[1 + strspn(colon + 1, " \t")] == '\0')
		{
			char	   *empty = strdup(line);

			if (empty == NULL)
				return false;
			strcpy(empty + (colon - line), ";");
			ok = add_header(t, empty);
			free(empty);
		}
		else
			ok = add_header(t, line);
	}
	/* curl would call every body a form, and wait before large ones. */
	return ok && (has_type || add_header(t, "Content-Type:")) &&
		add_header(t, "Expect:");
}

/* What is the same for every request; false: no memory. */
static bool
set_common_options(GoyaHttpTransfer *t)
{
	bool		ok = true;

	SET(CURLOPT_PRIVATE, t);
	SET(CURLOPT_NOSIGNAL, 1L);
#if LIBCURL_VERSION_NUM >= 0x075700
	SET(CURLOPT_QUICK_EXIT, 1L);	/* never join a resolver thread */
#endif
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_PROXY, "");
	SET(CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	SET(CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
	SET(CURLOPT_ACCEPT_ENCODING, "gzip");
	SET(CURLOPT_USERAGENT, "goya");
	SET(CURLOPT_SSL_VERIFYPEER, 1L);
	SET(CURLOPT_SSL_VERIFYHOST, 2L);
	SET(CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	SET(CURLOPT_CAPATH, NULL);	/* with one, curl reads all CAs per connection */
	SET(CURLOPT_BUFFERSIZE, RECEIVE_BUFFER);
	SET(CURLOPT_UPLOAD_BUFFERSIZE, UPLOAD_BUFFER);
	SET(CURLOPT_TCP_KEEPALIVE, 1L);
	SET(CURLOPT_MAXAGE_CONN, 30L);
	SET(CURLOPT_MAXLIFETIME_CONN, 600L);
	SET(CURLOPT_ERRORBUFFER, t->curl_error);
	SET(CURLOPT_OPENSOCKETFUNCTION, open_socket);
	SET(CURLOPT_OPENSOCKETDATA, t);
	SET(CURLOPT_CLOSESOCKETFUNCTION, close_socket);
	SET(CURLOPT_CLOSESOCKETDATA, t->shard);
	SET(CURLOPT_SHARE, t->http->share);
	SET(CURLOPT_PREREQFUNCTION, before_request);
	SET(CURLOPT_PREREQDATA, t);
	SET(CURLOPT_HEADERFUNCTION, receive_header);
	SET(CURLOPT_HEADERDATA, t);
	SET(CURLOPT_WRITEFUNCTION, receive_body);
	SET(CURLOPT_WRITEDATA, t);
	return ok;
}

/*
 * Does it say who is calling in a way that is the connection's from then on?  Nobody else may get that one.
 */
static bool
binds_connection(const GoyaHttpRequest *req)
{
	for (int i = 0; i < req->nheaders; i++)
	{
		const char *value = goya_http_header_value(req->headers[i], "Authorization");

		if (value != NULL && (pg_strncasecmp(value, "NTLM", 4) == 0 || pg_strncasecmp(value, "Negotiate", 9) == 0 ||
							  pg_strncasecmp(value, "Kerberos", 8) == 0))
			return true;
	}
	return false;
}

/* Method, body, url and headers; false: no memory. */
static bool
set_request_options(GoyaHttpTransfer *t, bool has_body)
{
	const GoyaHttpRequest *req = &t->request;
	const char *method = req->method;
	bool		head = strcmp(method, "HEAD") == 0;
	bool		ok = true;

	SET(CURLOPT_URL, req->url);
	if (head)
		SET(CURLOPT_NOBODY, 1L);
	else
		SET(CURLOPT_MAXFILESIZE_LARGE, (curl_off_t) t->max_response);
	if (has_body)
	{
		SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) (req->body ? req->body_len : 0));
		SET(CURLOPT_POSTFIELDS, req->body ? req->body : "");
	}
	else if (!head)
		SET(CURLOPT_HTTPGET, 1L);
	if (!head)
		SET(CURLOPT_CUSTOMREQUEST, method);
	ok = ok && set_headers(t, req);
	SET(CURLOPT_HTTPHEADER, t->headers);
	if (binds_connection(req))
	{
		SET(CURLOPT_FRESH_CONNECT, 1L);
		SET(CURLOPT_FORBID_REUSE, 1L);
	}
	return ok;
}

/* Why the request cannot be sent, or NULL. */
const char *
goya_http_check_request(GoyaHttpTransfer *t)
{
	const GoyaHttpRequest *req = &t->request;
	const char *method = req->method;

	if (!check_url(t))
		return "the url is not a valid http or https address";
	if (!goya_http_method_valid(method))
		return "the method is not valid";
	if (strcmp(method, "HEAD") == 0 && req->body)
		return "a HEAD request has no body";
	for (int i = 0; i < req->nheaders; i++)
	{
		const char *problem = goya_http_header_problem(req->headers[i]);

		if (problem)
			return problem;
	}
	return NULL;
}

/* A handle of the pool, or a new one, that takes our options; false: no memory. */
static bool
get_handle(GoyaHttpTransfer *t)
{
	GoyaHttp   *h = t->http;

	while (h->npooled > 0)
	{
		t->easy = h->pool[--h->npooled];
		if (set_common_options(t))
			return true;
		curl_easy_cleanup(t->easy);
	}
	t->easy = curl_easy_init();
	return t->easy != NULL && set_common_options(t);
}

bool
goya_http_prepare_handle(GoyaHttpTransfer *t)
{
	const char *method = t->request.method;

	/* A method that usually has a body says so with an empty one. */
	bool		has_body = t->request.body != NULL || strcmp(method, "POST") == 0 ||
		strcmp(method, "PUT") == 0 || strcmp(method, "PATCH") == 0;

	return get_handle(t) && set_request_options(t, has_body);
}
