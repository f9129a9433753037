/*-------------------------------------------------------------------------
 * exchange_http.c
 *		The exchange of an http node that is more than one plain request: with credentials, a body of another type, redirects, pages, polling, a stream,
 *		a callback, or a body that becomes an asset.
 *
 * What was decided.  The node's timeout is that of all requests together.  What the node's success and output look at is the last answer, with the
 * items of all pages, or what the stream said, as its body.  An exchange whose later requests fail has had its effect as far as anybody
 * knows: of a node that is not idempotent it fails with class UNKNOWN.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "guc.h"

#include "exchange_http.h"

#define DEFAULT_PAGES		100
#define DEFAULT_INTERVAL_MS 2000
#define DEFAULT_SPILL		65536

/* ---- the node's fields ---- */

static void
read_paging(HttpExchange *h, const Jsonb *paging)
{
	char	   *type = goya_json_get_text(paging, "type");
	char	   *place = goya_json_get_text(paging, "in");

	if (paging == NULL)
		return;
	h->paging = type != NULL && strcmp(type, "cursor") == 0 ? PAGING_CURSOR : PAGING_LINK;
	h->items = goya_http_path(goya_json_get_text(paging, "items"));
	h->cursor = goya_http_path(goya_json_get_text(paging, "cursor"));
	h->param = goya_json_get_text(paging, "param");
	h->in_body = place != NULL && strcmp(place, "body") == 0;
	h->max_pages = (int) goya_json_get_int(paging, "max_pages", DEFAULT_PAGES);
}

static void
read_poll(HttpExchange *h, const Jsonb *poll)
{
	char	   *url = goya_json_get_text(poll, "url");

	if (poll == NULL)
		return;
	h->polls = true;
	if (url != NULL && url[0] == '$')
		h->poll_from = goya_http_path(url);
	else
		h->poll_url = url;
	h->interval_ms = goya_json_has(poll, "interval") ? (long) goya_interval_ms(goya_json_get(poll, "interval"), "poll.interval") : DEFAULT_INTERVAL_MS;
	h->interval_ms = Max(h->interval_ms, 10);
	h->until = goya_http_path(goya_json_get_text(poll, "until"));
	h->failed = goya_http_path(goya_json_get_text(poll, "failed"));
	h->poll_output = goya_http_path(goya_json_get_text(poll, "output"));
}

static void
read_stream(GoyaExchange *x, HttpExchange *h, const GoyaWork *w, const Jsonb *stream)
{
	char	   *kind = goya_json_is_string(stream) ? goya_json_as_text(stream) : NULL;

	if (stream == NULL || (kind == NULL && !goya_json_is_true(stream)))
		return;
	h->streaming = kind == NULL ? STREAM_BY_TYPE : strcmp(kind, "sse") == 0 ? STREAM_SSE : strcmp(kind, "ndjson") == 0 ? STREAM_NDJSON : STREAM_TEXT;
	initStringInfo(&h->line);
	x->request.stream = true;
	h->stream = goya_stream_open(x->cxt, &w->task->id, w->task->plan->nodes[w->node].key, w->item, w->attempt);
}

static void
read_fields(GoyaExchange *x, HttpExchange *h, const GoyaWork *w, const Jsonb *config)
{
	const Jsonb *spill = goya_json_get(config, "spill");

	h->max_redirects = (int) goya_json_get_int(config, "redirects", 0);
	read_paging(h, goya_json_get(config, "paging"));
	read_poll(h, goya_json_get(config, "poll"));
	read_stream(x, h, w, goya_json_get(config, "stream"));
	h->spill_over = spill == NULL || (goya_json_is_bool(spill) && !goya_json_is_true(spill)) ? -1 : goya_json_get_int(spill, "over", DEFAULT_SPILL);
}

/* ---- the type ---- */

static bool
start(GoyaExchange *x, GoyaBatch *b, const GoyaWork *w, GoyaNodeScope *scope, Jsonb *config)
{
	const GoyaNode *n = &w->task->plan->nodes[w->node];
	HttpExchange *h = palloc0(sizeof(HttpExchange));
	const char *content_type = NULL;
	char	   *token_header;
	Jsonb	   *body;

	x->state = h;
	h->idempotent = n->idempotent;
	goya_node_http_target(&x->request, w, scope);
	x->request.url = pstrdup(x->request.url);
	read_fields(x, h, w, config);
	body = goya_node_http_body(&x->request, n, scope);
	body = goya_http_callback_start(x, w, config, body, &token_header);
	if (h->in_body)
		h->body = body ? goya_json_copy(body) : goya_json_object(0, NULL, NULL);
	if (body != NULL)
		content_type = goya_http_put_body(&x->request, w, body, goya_json_get_text(config, "body_type"));
	goya_node_http_headers(&x->request, w, scope, content_type);
	if (token_header != NULL)
		x->request.headers[x->request.nheaders++] = token_header;
	h->origin_url = pstrdup(x->request.url);
	goya_http_auth_start(x, b, w, config);
	goya_http_auth_apply(x);
	return true;
}

static void
received(GoyaExchange *x, const char *data, size_t len)
{
	goya_http_stream_received(x, data, len);
}

static GoyaStep
answered(GoyaExchange *x, GoyaHttpResult *answer)
{
	size_t		len;
	GoyaStep	step;

	answer->body = (char *) goya_http_redact_text(x, answer->body, answer->body_len, &len);
	answer->body_len = len;
	step = goya_http_follow(x, answer);

	/* A stream that a redirect or a failure ends begins anew with the next answer. */
	if (step == GOYA_STEP_SEND && http_of(x)->stream != NULL)
	{
		resetStringInfo(&http_of(x)->line);
		http_of(x)->found = STREAM_NONE;
	}
	return step;
}

/* Of a node that is not idempotent: what came before this failure may have had its effect. */
static void
mark_effect(GoyaExchange *x, GoyaOutcome *o)
{
	HttpExchange *h = http_of(x);

	if (o->ok || h->idempotent || !(h->polling || h->pages > 0 || h->poll_failed))
		return;
	o->error_class = GOYA_ERR_UNKNOWN;
	o->error = goya_json_set(o->error, "class", goya_json_from_text(goya_error_class_name(GOYA_ERR_UNKNOWN)));
}

static void
judge_answer(GoyaExchange *x, GoyaHttpResult *last, GoyaBatch *b, const GoyaWork *w, GoyaOutcome *o)
{
	HttpExchange *h = http_of(x);
	GoyaJsonObject more;
	Jsonb	   *body = NULL;

	if (h->poll_failed)
	{
		goya_call_fail_response(o, last);
		o->error_class = GOYA_ERR_DEPENDENCY;
		o->error = goya_json_set(o->error, "message", goya_json_from_text("the operation failed"));
		o->error = goya_json_set(o->error, "class", goya_json_from_text(goya_error_class_name(o->error_class)));
		return;
	}
	goya_json_object_start(&more);
	if (last->status >= 200 && last->status < 300)
	{
		if (h->paging != PAGING_NONE)
		{
			body = goya_http_all_items(h);
			goya_json_add_int(&more, "pages", h->pages);
			goya_json_add_bool(&more, "more", h->more);
		}
		else if (h->streaming != STREAM_NONE)
			body = goya_http_stream_value(h, last);
		else if (h->poll_output)
		{
			body = goya_http_path_first(h->poll_output, goya_node_http_value(last));
			body = body ? body : goya_json_null();
		}
		if (h->spill_over >= 0 && body == NULL)
			body = goya_http_spill(h, w, last);
	}
	goya_node_http_judge(b, w, last, body, &more, o);
}

static void
judge(GoyaExchange *x, GoyaHttpResult *last, GoyaBatch *b, const GoyaWork *w, GoyaNodeScope *scope, GoyaOutcome *o)
{
	goya_http_redact(x, last);
	if (last->outcome == GOYA_HTTP_DONE)
		judge_answer(x, last, b, w, o);
	else
		goya_call_fail_transfer(o, &w->task->plan->nodes[w->node], last);
	mark_effect(x, o);
	if (o->ok && http_of(x)->token != NULL && !goya_http_callback_take(b, w, o))
		o->wait_until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), http_of(x)->callback_ms);
}

const GoyaExchangeType goya_http_exchange = {
	.name = "http",
	.start = start,
	.received = received,
	.answered = answered,
	.judge = judge
};
