/*-------------------------------------------------------------------------
 * exchange_http_follow.c
 *		What follows an answer: a redirect, the next page, another look at an operation that is not over.
 *
 * Each is a request of its own, so the address policy is asked anew, and the methods of RFC 9110 hold: after 301 and 302 a POST becomes a GET, after
 * 303 everything but HEAD does, after 307 and 308 nothing changes.  Credentials, ours and those in the node's own headers, go to the scheme, host
 * and port they were given for and to no other, nor back to it once the way has left it.
 *
 * Outside of transactions: memory only.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "exchange_http.h"

#define POLL_RETRY_MS	1000

/* ---- jsonpath over a body ---- */

Datum
goya_http_path(const char *text)
{
	return text ? DirectFunctionCall1(jsonpath_in, CStringGetDatum(text)) : (Datum) 0;
}

static Jsonb *
query(Datum path, Jsonb *document)
{
	LOCAL_FCINFO(fcinfo, 4);
	Datum		result;

	InitFunctionCallInfoData(*fcinfo, NULL, 4, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = JsonbPGetDatum(document);
	fcinfo->args[1].value = path;
	fcinfo->args[2].value = JsonbPGetDatum(goya_json_object(0, NULL, NULL));
	fcinfo->args[3].value = BoolGetDatum(true);	/* silent: what does not fit is not found */
	for (int i = 0; i < 4; i++)
		fcinfo->args[i].isnull = false;
	result = goya_jsonpath_call(jsonb_path_query_array, fcinfo, GOYA_MAX_JSONPATH_MS);
	return DatumGetJsonbP(result);
}

Jsonb *
goya_http_path_first(Datum path, Jsonb *document)
{
	return goya_json_array_get(query(path, document), 0);
}

/* A predicate that is true, or a filter that finds something. */
bool
goya_http_path_test(Datum path, Jsonb *document)
{
	Jsonb	   *found = goya_http_path_first(path, document);

	return found != NULL && (goya_json_is_bool(found) ? goya_json_is_true(found) : !goya_json_is_null(found));
}

/* ---- requests ---- */

static const char *
header_of(const GoyaHttpResult *answer, const char *name)
{
	for (int i = 0; i < answer->nheaders; i++)
	{
		const char *value = goya_http_header_value(answer->headers[i], name);

		if (value != NULL)
			return value;
	}
	return NULL;
}

static void
drop_body(GoyaHttpRequest *req)
{
	int			n = 0;

	req->body = NULL;
	req->body_len = 0;
	for (int i = 0; i < req->nheaders; i++)
		if (pg_strncasecmp(req->headers[i], "Content-", 8) != 0)
			req->headers[n++] = req->headers[i];
	req->nheaders = n;
}

/* The next request goes there; where is relative to the last. */
static void
go_to(GoyaExchange *x, const char *where, const char *what)
{
	char	   *url = goya_http_url_resolve(x->request.url, where);

	if (url == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the service gives %s that is no url of http or https", what)));
	x->request.url = url;
	x->request.timeout_ms = 0;	/* what is left */
	goya_http_auth_apply(x);
}

/* ---- redirects ---- */

static bool
is_redirect(int status)
{
	return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

static GoyaStep
follow_redirect(GoyaExchange *x, GoyaHttpResult *answer, const char *location)
{
	HttpExchange *h = http_of(x);
	GoyaHttpRequest *req = &x->request;

	if (h->redirects++ >= h->max_redirects)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("more than %d redirects", h->max_redirects),
				 errdetail("The last was status %d.", answer->status)));
	if ((answer->status == 303 && strcmp(req->method, "HEAD") != 0) ||
		((answer->status == 301 || answer->status == 302) && strcmp(req->method, "POST") == 0))
	{
		req->method = "GET";
		drop_body(req);
	}
	go_to(x, location, "a Location");
	return GOYA_STEP_SEND;
}

/* ---- pages ---- */

/* The target of rel=next in a Link header (RFC 8288), or NULL. */
static char *
next_in_link(const char *value)
{
	while (*value)
	{
		const char *start = strchr(value, '<');
		const char *end = start ? strchr(start, '>') : NULL;
		bool		is_next = false;

		if (end == NULL)
			return NULL;
		for (value = end + 1; *value && *value != ','; value++)
		{
			const char *name = value + strspn(value, "; \t");
			size_t		len = strcspn(name, "=;, \t");
			const char *v = name + len + strspn(name + len, " \t");
			char		quote;

			if (*value != ';')
				continue;
			if (*v != '=')
				continue;
			v += 1 + strspn(v + 1, " \t");
			quote = *v == '"' ? *v++ : '\0';
			if (len == 3 && pg_strncasecmp(name, "rel", 3) == 0)
			{
				/* a list of relations */
				size_t		list = quote ? strcspn(v, "\"") : strcspn(v, ";, \t");

				for (size_t i = 0; i < list; i += strcspn(v + i, " \"") + 1)
					if (list - i >= 4 && pg_strncasecmp(v + i, "next", 4) == 0 && (list - i == 4 || v[i + 4] == ' '))
						is_next = true;
			}
			value = v + (quote ? strcspn(v, "\"") : strcspn(v, ";,"));
			if (!quote || *value == '\0')
				value--;
		}
		if (is_next)
			return pnstrdup(start + 1, end - start - 1);
		value += *value == ',';
	}
	return NULL;
}

static char *
next_by_link(const GoyaHttpResult *answer)
{
	for (int i = 0; i < answer->nheaders; i++)
	{
		const char *value = goya_http_header_value(answer->headers[i], "Link");
		char	   *next = value ? next_in_link(value) : NULL;

		if (next != NULL)
			return next;
	}
	return NULL;
}

static void
keep_page(HttpExchange *h, Jsonb *body, size_t len)
{
	Jsonb	   *page = h->items ? query(h->items, body) : body;

	/* $.items gives the array itself, $.items[*] what is in it. */
	if (h->items && goya_json_array_length(page) == 1 && goya_json_is_array(goya_json_array_get(page, 0)))
		page = goya_json_array_get(page, 0);
	if (!goya_json_is_array(page))
		page = goya_json_array(1, &page);
	h->pages_seen = lappend(h->pages_seen, goya_json_copy(page));
	h->page_bytes += len;
	h->pages++;
}

Jsonb *
goya_http_all_items(HttpExchange *h)
{
	int			n = 0;
	int			i = 0;
	JsonbValue *all;
	ListCell   *lc;

	foreach(lc, h->pages_seen)
		n += goya_json_array_length(lfirst(lc));
	all = palloc(sizeof(JsonbValue) * Max(n, 1));
	foreach(lc, h->pages_seen)
	{
		JsonbValue	page;

		goya_json_view(lfirst(lc), &page);
		for (int j = 0; j < goya_json_view_length(&page); j++)
			goya_json_view_elem(&page, j, &all[i++]);
	}
	return goya_json_build_array(n, all);
}

/* Where the cursor leads: a url, or the request again with the cursor in it. */
static void
apply_cursor(GoyaExchange *x, HttpExchange *h, Jsonb *cursor)
{
	if (h->paging == PAGING_LINK || h->param == NULL)
		go_to(x, goya_json_as_text(cursor), "a next page");
	else if (h->in_body)
	{
		h->body = goya_json_set(h->body, h->param, cursor);
		x->request.body = goya_json_to_cstring(h->body);
		x->request.body_len = strlen(x->request.body);
		x->request.timeout_ms = 0;
		goya_http_auth_apply(x);
	}
	else
		go_to(x, goya_http_url_set_parameter(x->request.url, h->param, goya_json_as_text(cursor)), "a cursor");
}

/* Each page is a request of its own: an Idempotency-Key that is the same would get the first page again. */
static void
number_page(GoyaHttpRequest *req, int page)
{
	for (int i = 0; i < req->nheaders; i++)
	{
		const char *key = goya_http_header_value(req->headers[i], "Idempotency-Key");
		char	   *end;

		if (key == NULL)
			continue;
		req->headers[i] = psprintf("Idempotency-Key: %s", key);
		end = page > 2 ? strstr(req->headers[i], "/page") : NULL;
		if (end != NULL)
			*end = '\0';
		req->headers[i] = psprintf("%s/page%d", req->headers[i], page);
	}
}

static GoyaStep
next_page(GoyaExchange *x, GoyaHttpResult *answer)
{
	HttpExchange *h = http_of(x);
	Jsonb	   *body = goya_node_http_value(answer);
	Jsonb	   *cursor;
	char	   *link;

	keep_page(h, body, answer->body_len);
	if (h->paging == PAGING_LINK)
	{
		link = next_by_link(answer);
		cursor = link ? goya_json_from_text(link) : NULL;
	}
	else
		cursor = goya_http_path_first(h->cursor, body);
	if (cursor == NULL || goya_json_is_null(cursor) || (goya_json_is_bool(cursor) && !goya_json_is_true(cursor)) ||
		(goya_json_is_string(cursor) && goya_json_as_text(cursor)[0] == '\0'))
		return GOYA_STEP_OVER;
	if (h->pages >= h->max_pages)
	{
		h->more = true;
		return GOYA_STEP_OVER;
	}
	if (h->page_bytes >= x->request.max_response)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("the pages together are larger than %zu bytes", x->request.max_response),
				 errhint("Ask for fewer with paging.max_pages, or raise max_response.")));
	h->redirects = 0;
	number_page(&x->request, h->pages + 1);
	apply_cursor(x, h, cursor);
	return GOYA_STEP_SEND;
}

/* ---- polling ---- */

/* Where to ask, from the first answer; NULL: nowhere. */
static char *
poll_address(HttpExchange *h, GoyaHttpResult *answer, Jsonb *body)
{
	static const char *const names[] = {"Operation-Location", "Azure-AsyncOperation", "Location", "Content-Location"};

	if (h->poll_url != NULL)
		return h->poll_url;
	if (h->poll_from)
	{
		Jsonb	   *found = goya_http_path_first(h->poll_from, body);

		return found ? goya_json_as_text(found) : NULL;
	}
	for (size_t i = 0; i < lengthof(names); i++)
	{
		const char *value = header_of(answer, names[i]);

		if (value != NULL)
			return pstrdup(value);
	}
	return NULL;
}

static void
pause_before_poll(GoyaExchange *x, HttpExchange *h, GoyaHttpResult *answer)
{
	long		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), x->deadline);

	x->pause_ms = answer->retry_after_ms >= 0 ? Max(answer->retry_after_ms, 10) : h->interval_ms;
	x->pause_ms = Min(x->pause_ms, Max(left, 1));
}

static GoyaStep
begin_polling(GoyaExchange *x, GoyaHttpResult *answer, Jsonb *body)
{
	HttpExchange *h = http_of(x);
	GoyaHttpRequest *req = &x->request;
	char	   *where = poll_address(h, answer, body);
	int			n = 0;

	if (where == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the service does not say where to ask for the result"),
				 errdetail("Status %d, without Location.", answer->status),
				 errhint("Say where with poll.url, a url or a jsonpath over the body of the answer.")));
	h->polling = true;
	h->redirects = 0;
	req->method = "GET";
	drop_body(req);
	for (int i = 0; i < req->nheaders; i++)
		if (goya_http_header_value(req->headers[i], "Idempotency-Key") == NULL)
			req->headers[n++] = req->headers[i];
	req->nheaders = n;
	go_to(x, where, "an address of the operation");
	pause_before_poll(x, h, answer);
	return GOYA_STEP_SEND;
}

static GoyaStep
poll_again(GoyaExchange *x, GoyaHttpResult *answer)
{
	HttpExchange *h = http_of(x);
	bool		fine = answer->status >= 200 && answer->status < 300;
	Jsonb	   *body;

	if (h->polling && (answer->status == 429 || answer->status == 503 || answer->status == 502 || answer->status == 504))
	{
		pause_before_poll(x, h, answer);
		if (answer->retry_after_ms < 0)
			x->pause_ms = Max(x->pause_ms, POLL_RETRY_MS);
		return GOYA_STEP_SEND;
	}
	if (!fine)
		return GOYA_STEP_OVER;
	body = goya_node_http_value(answer);
	if (goya_http_path_test(h->until, body))
		return GOYA_STEP_OVER;
	if (h->failed && goya_http_path_test(h->failed, body))
	{
		h->poll_failed = true;
		return GOYA_STEP_OVER;
	}
	if (!h->polling)
		return begin_polling(x, answer, body);
	h->redirects = 0;
	pause_before_poll(x, h, answer);
	x->request.timeout_ms = 0;
	goya_http_auth_apply(x);
	return GOYA_STEP_SEND;
}

GoyaStep
goya_http_follow(GoyaExchange *x, GoyaHttpResult *answer)
{
	HttpExchange *h = http_of(x);
	const char *location;

	if (answer->outcome != GOYA_HTTP_DONE)
		return GOYA_STEP_OVER;
	if (h->max_redirects > 0 && is_redirect(answer->status) && (location = header_of(answer, "Location")) != NULL)
		return follow_redirect(x, answer, location);
	if (h->polls)
		return poll_again(x, answer);
	if (h->paging != PAGING_NONE && answer->status >= 200 && answer->status < 300)
		return next_page(x, answer);
	return GOYA_STEP_OVER;
}
