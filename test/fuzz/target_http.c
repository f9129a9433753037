/*-------------------------------------------------------------------------
 * target_http.c
 *		What a tenant writes into a request and what a server answers, without a network: the checks before curl, the callbacks that curl
 *		makes, and how the answer becomes jsonb.
 *
 * Input: line 1 a method, line 2 a url, then request headers up to an empty line, response lines as curl hands them over up to an empty
 * line, and the body.  http_transfer.c and node_http.c are included as text, for their static functions.
 *
 * What must hold: an accepted request has no line break or control character anywhere curl would put it on the wire; every result has as many
 * headers as it says, in valid text; an IPv4 address is allowed under each of its IPv6 names exactly when it is allowed itself.
 *-------------------------------------------------------------------------
 */
#include "fuzz.h"

#define Buffer HttpBuffer		/* PostgreSQL has a type of that name too */
#include "../../src/http_transfer.c"
#undef Buffer
#include "../../src/node_http.c"

#include <netinet/in.h>

bool		goya_guc_http_allow_loopback;
bool		goya_guc_http_allow_private;
int			goya_guc_http_connect_timeout = 10;
int			goya_guc_http_timeout = 300;
int			goya_guc_http_max_response = 1024;

/* ---- what the included functions call and no target reaches ---- */

#define NOT_REACHED() fuzz_finding("%s was called", __func__)

void goya_scope_init(GoyaNodeScope *s, GoyaBatch *b, GoyaTask *t, int node, int item) { NOT_REACHED(); }
Jsonb *goya_scope_input(GoyaNodeScope *s, int node) { NOT_REACHED(); }
Jsonb *goya_scope_seal(const GoyaTask *task, Jsonb *value) { NOT_REACHED(); }
GoyaRecord *goya_batch_record(GoyaBatch *b, const GoyaWork *w, GoyaRunStatus status) { NOT_REACHED(); }
bool goya_batch_try(GoyaBatch *b, void (*fn) (GoyaBatch *b, void *arg), void *arg, ErrorData **error) { NOT_REACHED(); }
void goya_outcome_error(GoyaOutcome *o, ErrorData *e) { NOT_REACHED(); }
char *goya_uuid_text(const pg_uuid_t *id) { NOT_REACHED(); }
GoyaEgress *goya_egress_for(const pg_uuid_t *tenant, MemoryContext cxt) { NOT_REACHED(); }
const GoyaExchangeType *goya_exchange_type(GoyaNodeKind kind) { NOT_REACHED(); }
GoyaExchange *goya_exchange_start(GoyaBatch *b, const GoyaWork *w, GoyaNodeScope *scope, const GoyaExchangeType *type) { NOT_REACHED(); }
void goya_exchange_judge(GoyaExchange *x, GoyaHttpResult *last, GoyaBatch *b, const GoyaWork *w, GoyaOutcome *o) { NOT_REACHED(); }
bool goya_shares_take(const pg_uuid_t *tenant) { NOT_REACHED(); }
void goya_shares_return(const pg_uuid_t *tenant) { NOT_REACHED(); }
GoyaQueued *goya_batch_queue(GoyaBatch *b, GoyaTask *task, int lane, int verb, int node, int item, int attempt, TimestampTz due) { NOT_REACHED(); }

void
goya_advance_finish(GoyaBatch *b, const GoyaWork *w, GoyaOutcome *o, Jsonb *input, TimestampTz started_at, bool update)
{
	NOT_REACHED();
}

Jsonb *
goya_error_make(const char *code, int error_class, const char *message, const char *detail, const char *hint)
{
	fuzz_check_text("the message of a failed call", message);
	if (detail && !pg_verify_mbstr(GetDatabaseEncoding(), detail, strlen(detail), true))
		fuzz_finding("the detail of a failed call is not valid text");
	return goya_json_from_text(message);
}

/* ---- the parts of an input ---- */

typedef struct Rest
{
	const char *p;
	const char *end;
} Rest;

/* The next line as a string, without its end; NULL at the end of the input. */
static char *
next_line(Rest *r)
{
	const char *start = r->p;
	const char *line_end;

	if (r->p >= r->end)
		return NULL;
	line_end = memchr(start, '\n', r->end - start);
	r->p = line_end ? line_end + 1 : r->end;
	return pnstrdup(start, (line_end ? line_end : r->end) - start);
}

static void
check_wire(const char *what, const char *s)
{
	for (const unsigned char *p = (const unsigned char *) s; *p; p++)
	{
		if ((*p < 0x20 && *p != '\t') || *p == 0x7f)
			fuzz_finding("%s goes out with byte %d in it", what, *p);
	}
}

/* ---- request ---- */

static void
try_request(GoyaHttpTransfer *t, Rest *rest)
{
	GoyaHttpRequest *req = &t->request;
	char	   *headers[64];
	char	   *line;
	const char *problem;

	req->method = next_line(rest);
	req->url = next_line(rest);
	if (req->url == NULL)
		req->url = "";
	req->headers = headers;
	while ((line = next_line(rest)) != NULL && line[0] != '\0' && req->nheaders < (int) lengthof(headers))
		headers[req->nheaders++] = line;
	problem = goya_http_check_request(t);
	if (problem)
	{
		fuzz_check_text("why a request is refused", problem);
		return;
	}
	fuzz_deep();
	check_wire("the method", req->method);
	if (!set_headers(t, req))
		fuzz_finding("headers could not be set");
	for (struct curl_slist *h = t->headers; h; h = h->next)
		check_wire("a header", h->data);
}

/* ---- response ---- */

static void
check_result(GoyaHttpResult *r)
{
	Jsonb	   *headers;

	for (int i = 0; i < r->nheaders; i++)
		fuzz_check_text("a response header", r->headers[i]);
	if (r->content_type && !pg_verify_mbstr(GetDatabaseEncoding(), r->content_type, strlen(r->content_type), true))
		fuzz_finding("the content type is not valid text");
	if (r->retry_after_ms < -1 || r->retry_after_ms > 30L * 24 * 3600 * 1000)
		fuzz_finding("Retry-After asks for %ld ms", r->retry_after_ms);
	if (r->status != 0 && (r->status < 200 || r->status > 999))
		fuzz_finding("the status is %d", r->status);
	headers = headers_value(r);
	fuzz_check_text("headers as JSON", goya_json_to_cstring(headers));
	if (r->status >= 200 && r->status < 300)
		fuzz_check_text("a body as JSON", goya_json_to_cstring(goya_node_http_value(r)));
	else
	{
		GoyaOutcome o;

		memset(&o, 0, sizeof(o));
		goya_call_fail_response(&o, r);
	}
}

static void
receive_lines(GoyaHttpTransfer *t, Rest *rest)
{
	while (rest->p < rest->end)
	{
		const char *line_end = memchr(rest->p, '\n', rest->end - rest->p);
		size_t		len = (line_end ? line_end + 1 : rest->end) - rest->p;
		char	   *line = malloc(len);	/* exactly as long: reading on is seen */
		size_t		taken;

		memcpy(line, rest->p, len);
		/* curl refuses a NUL in a header before it calls */
		taken = memchr(line, '\0', len) ? 0 : receive_header(line, 1, len, t);
		free(line);
		rest->p += len;
		if (taken != len || len <= 2)
			return;
	}
}

static void
receive_rest(GoyaHttpTransfer *t, Rest *rest)
{
	size_t		piece = 1 + (rest->end - rest->p) / 3;

	while (rest->p < rest->end)
	{
		size_t		len = Min(piece, (size_t) (rest->end - rest->p));

		if (receive_body(unconstify(char *, rest->p), 1, len, t) != len)
			return;
		rest->p += len;
	}
}

/* ---- addresses ---- */

static void
check_address(const uint8 *four)
{
	static const uint8 prefixes[][12] = {
		{[10] = 0xff,[11] = 0xff}, {0x00, 0x64, 0xff, 0x9b}, {[8] = 0xff,[9] = 0xff}
	};
	struct sockaddr_in v4 = {.sin_family = AF_INET};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
	bool		allowed;

	memcpy(&v4.sin_addr, four, 4);
	allowed = goya_http_address_allowed((struct sockaddr *) &v4);
	if (allowed && (four[0] == 10 || four[0] == 127 || four[0] == 0 || (four[0] == 169 && four[1] == 254) || (four[0] == 192 && four[1] == 168)))
		fuzz_finding("address %d.%d.%d.%d is allowed", four[0], four[1], four[2], four[3]);
	for (int i = 0; i < (int) lengthof(prefixes); i++)
	{
		memcpy(v6.sin6_addr.s6_addr, prefixes[i], 12);
		memcpy(v6.sin6_addr.s6_addr + 12, four, 4);
		if (goya_http_address_allowed((struct sockaddr *) &v6) != allowed)
			fuzz_finding("address %d.%d.%d.%d is judged otherwise as IPv6 (%d)", four[0], four[1], four[2], four[3], i);
	}
}

/* ---- the target ---- */

void
fuzz_http(const uint8 *data, int size)
{
	static GoyaHttp http;
	GoyaHttpTransfer *t = calloc(1, sizeof(GoyaHttpTransfer));
	Rest		rest = {(const char *) data, (const char *) data + size};
	GoyaHttpResult *r;

	if (size >= 4)
		check_address(data + size - 4);
	t->max_response = 100000;
	t->http = &http;
	dlist_init(&http.results);
	dlist_push_tail(&http.results, &t->node);	/* freed by goya_http_take, or at the next input */
	if (size > 0)
		try_request(t, &rest);
	receive_lines(t, &rest);
	receive_rest(t, &rest);
	t->outcome = t->stop == STOP_NONE ? GOYA_HTTP_DONE : GOYA_HTTP_BROKEN;
	strlcpy(t->error, "stopped", sizeof(t->error));
	r = goya_http_take(&http);
	check_result(r);
}
