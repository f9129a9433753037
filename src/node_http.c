/*-------------------------------------------------------------------------
 * node_http.c
 *		HTTP nodes: from templates to a request, from a response to an outcome.  The transfer itself is http.c's, between two
 *		transactions of the engine: claim and commit, call with no transaction open, record.
 *
 * At least once.  Every call carries an Idempotency-Key that is constant for the node run and attempt.  A transfer whose outcome is
 * unknown is made again when the node is idempotent (the default), else it fails with class UNKNOWN.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "batch.h"
#include "call_shares.h"
#include "egress.h"
#include "exchange.h"
#include "guc.h"
#include "json_util.h"
#include "node_http.h"

/* ----- request ----- */

char *
goya_call_idempotency_key(const GoyaWork *w)
{
	return psprintf("%s/%s/%d/%d", goya_uuid_text(&w->task->id), w->task->plan->nodes[w->node].key, w->item, w->attempt);
}

int
goya_call_timeout_ms(const GoyaNode *n)
{
	return n->timeout_ms > 0 ? (int) Min(n->timeout_ms, INT_MAX) : goya_guc_http_timeout * 1000;
}

static bool
has_header(char **headers, int n, const char *name)
{
	for (int i = 0; i < n; i++)
		if (goya_http_header_value(headers[i], name) != NULL)
			return true;
	return false;
}

/* The node's headers, and those that every request has; content_type is that of a body without one. */
void
goya_node_http_headers(GoyaHttpRequest *req, const GoyaWork *w, GoyaNodeScope *scope, const char *content_type)
{
	const GoyaNode *node = &w->task->plan->nodes[w->node];
	Jsonb	   *headers = node->headers ? goya_template_eval(node->headers, &scope->scope) : NULL;
	int			n = goya_json_object_length(headers);

	if (headers != NULL && !goya_json_is_object(headers))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("headers must be an object, got %s", goya_json_type_name(headers))));
	req->headers = palloc(sizeof(char *) * (n + 5));
	for (int i = 0; i < n; i++)
	{
		char	   *value = goya_json_as_text(goya_json_object_value(headers, i));

		if (value != NULL)
			req->headers[req->nheaders++] = psprintf("%s: %s", goya_json_object_key(headers, i), value);
	}
	if (!has_header(req->headers, req->nheaders, "Idempotency-Key"))
		req->headers[req->nheaders++] = psprintf("Idempotency-Key: %s", goya_call_idempotency_key(w));
	if (w->task->trace_id != NULL && !has_header(req->headers, req->nheaders, "X-Trace-Id"))
		req->headers[req->nheaders++] = psprintf("X-Trace-Id: %s", w->task->trace_id);
	if (req->body != NULL && !has_header(req->headers, req->nheaders, "Content-Type"))
		req->headers[req->nheaders++] = psprintf("Content-Type: %s", content_type);
}

static bool
sends_body(const char *method)
{
	return pg_strcasecmp(method, "POST") == 0 || pg_strcasecmp(method, "PUT") == 0 || pg_strcasecmp(method, "PATCH") == 0;
}

/* What is sent, before it is bytes; NULL: nothing. */
Jsonb *
goya_node_http_body(const GoyaHttpRequest *req, const GoyaNode *n, GoyaNodeScope *scope)
{
	if (n->request_body != NULL)
		return goya_template_eval(n->request_body, &scope->scope);
	return sends_body(req->method) ? scope->params : NULL;
}

static void
put_body(GoyaHttpRequest *req, const GoyaNode *n, GoyaNodeScope *scope)
{
	Jsonb	   *body = goya_node_http_body(req, n, scope);

	if (body == NULL)
		return;
	req->body = goya_json_is_string(body) && n->request_body != NULL ? goya_json_as_text(body) : goya_json_to_cstring(body);
	req->body_len = strlen(req->body);
}

/* Url, method and limits. */
void
goya_node_http_target(GoyaHttpRequest *req, const GoyaWork *w, GoyaNodeScope *scope)
{
	const GoyaNode *n = &w->task->plan->nodes[w->node];
	char	   *url = goya_template_eval_text(n->url, &scope->scope);

	if (url == NULL || url[0] == '\0')
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the url of node \"%s\" is empty", n->key)));
	req->url = url;
	req->method = n->method ? goya_template_eval_text(n->method, &scope->scope) : n->request_body ? "POST" : "GET";
	if (req->method == NULL)
		req->method = "GET";
	req->connect_timeout_ms = goya_guc_http_connect_timeout * 1000;
	req->timeout_ms = goya_call_timeout_ms(n);
	req->max_response = n->max_response > 0 ? Min(n->max_response, (int64) goya_guc_http_max_response * 1024) : (int64) goya_guc_http_max_response * 1024;
}

/* The one request of a plain http node. */
static void
make_request(GoyaHttpRequest *req, const GoyaWork *w, GoyaNodeScope *scope)
{
	goya_node_http_target(req, w, scope);
	put_body(req, &w->task->plan->nodes[w->node], scope);
	goya_node_http_headers(req, w, scope, "application/json");
}

/* Its tenant has as many calls in flight as it may have. */
static void
wait_for_share(GoyaBatch *b, const GoyaWork *w)
{
	GoyaQueued *q = goya_batch_queue(b, w->task, GOYA_LANE_SHARE, GOYA_VERB_RUN, w->node, w->item, w->attempt, 0);

	q->rank = w->rank;
	q->held = w->held;
}

/*
 * Record the run as running and remember the call: the engine makes it after commit.  One that is not to be made now goes back to the queue.
 */
void
goya_node_start_call(GoyaBatch *b, const GoyaWork *w)
{
	const GoyaNode *n = &w->task->plan->nodes[w->node];
	const GoyaExchangeType *type = n->config ? goya_exchange_type(n->kind) : NULL;
	GoyaNodeScope scope;
	GoyaCall   *call = palloc0(sizeof(GoyaCall));
	GoyaRecord *r;

	if (!goya_shares_take(&w->task->tenant) && w->tries == 0)	/* a lost call that is made again does not wait: it has its row already */
	{
		wait_for_share(b, w);
		return;
	}
	goya_scope_init(&scope, b, w->task, w->node, w->item);
	scope.params = goya_scope_input(&scope, w->node);
	if (type == NULL)
	{
		make_request(&call->request, w, &scope);
		call->request.egress = goya_egress_for(&w->task->tenant, b->cxt);
	}
	else
	{
		call->exchange = goya_exchange_start(b, w, &scope, type);
		if (call->exchange->pause_ms > 0 || call->exchange->known)
			goya_shares_return(&w->task->tenant);
		if (call->exchange->pause_ms > 0)
		{
			GoyaQueued *q = goya_batch_queue(b, w->task, GOYA_LANE_ENGINE, GOYA_VERB_RUN, w->node, w->item, w->attempt,
											 TimestampTzPlusMilliseconds(GetCurrentTimestamp(), call->exchange->pause_ms));

			q->tries = w->tries;	/* a lost call has its row already */
			q->held = w->held;
			return;
		}
		if (call->exchange->known)
		{
			GoyaOutcome o = {.retry_after_ms = -1};

			goya_exchange_judge(call->exchange, NULL, b, w, &o);
			goya_advance_finish(b, w, &o, scope.params, GetCurrentTimestamp(), false);
			return;
		}
	}
	call->task = w->task->id;
	call->tenant = w->task->tenant;
	call->node = w->node;
	call->item = w->item;
	call->attempt = w->attempt;
	r = goya_batch_record(b, w, GOYA_RUN_RUNNING);
	r->input = goya_scope_seal(w->task, scope.params);
	r->started_at = GetCurrentTimestamp();
	b->n_runs++;
	b->calls = lappend(b->calls, call);
}

/* ----- response ----- */

static bool
is_json(const char *content_type)
{
	const char *end;

	if (content_type == NULL)
		return false;
	end = strchr(content_type, ';');
	return pg_strncasecmp(content_type, "application/json", 16) == 0 ||
		(strstr(content_type, "+json") != NULL && (end == NULL || strstr(content_type, "+json") < end));
}

bool
goya_node_http_is_text(const GoyaHttpResult *res)
{
	return memchr(res->body, '\0', res->body_len) == NULL && pg_verify_mbstr(GetDatabaseEncoding(), res->body, res->body_len, true);
}

/* A body as JSON: parsed when it says it is JSON; text as a string; anything else as {"base64", "size"}. */
Jsonb *
goya_node_http_value(const GoyaHttpResult *res)
{
	GoyaJsonObject o;

	if (res->body_len == 0)
		return goya_json_null();
	if (is_json(res->content_type))
		return goya_json_parse(res->body, res->body_len);
	if (goya_node_http_is_text(res))
		return goya_json_from_text_len(res->body, res->body_len);
	goya_json_object_start(&o);
	goya_json_add_int(&o, "size", res->body_len);
	goya_json_add_text(&o, "base64", TextDatumGetCString(DirectFunctionCall2(binary_encode, PointerGetDatum(cstring_to_text_with_len(res->body, res->body_len)),
																			 CStringGetTextDatum("base64"))));
	return goya_json_object_finish(&o);
}

static Jsonb *
headers_value(const GoyaHttpResult *res)
{
	GoyaJsonObject o;

	goya_json_object_start(&o);
	for (int i = 0; i < res->nheaders; i++)
	{
		char	   *name = pstrdup(res->headers[i]);
		char	   *colon = strchr(name, ':');

		if (colon == NULL || !pg_verifymbstr(name, strlen(name), true))
			continue;
		*colon++ = '\0';
		while (*colon == ' ')
			colon++;
		for (char *p = name; *p; p++)
			*p = pg_tolower((unsigned char) *p);
		goya_json_add_text(&o, name, colon);
	}
	return goya_json_object_finish(&o);
}

static int
class_of_outcome(GoyaHttpResult *res)
{
	switch (res->outcome)
	{
		case GOYA_HTTP_CONNECT_FAILED:
			return GOYA_ERR_DEPENDENCY;
		case GOYA_HTTP_TIMEOUT:
			return GOYA_ERR_TIMEOUT;
		case GOYA_HTTP_TOO_LARGE:
			return GOYA_ERR_RESOURCE_LIMIT;
		case GOYA_HTTP_BAD_URL:
			return GOYA_ERR_VALIDATION;
		case GOYA_HTTP_DENIED:
			return GOYA_ERR_POLICY_DENY;
		case GOYA_HTTP_BROKEN:
			return GOYA_ERR_TRANSIENT;
		default:
			return GOYA_ERR_UNKNOWN;
	}
}

static int
class_of_status(int status)
{
	if (status == 408 || status == 425 || status == 429)
		return GOYA_ERR_TRANSIENT;
	if (status == 401 || status == 403)
		return GOYA_ERR_POLICY_DENY;
	if (status >= 500)
		return GOYA_ERR_DEPENDENCY;
	return status >= 400 ? GOYA_ERR_VALIDATION : GOYA_ERR_DEPENDENCY;
}

typedef struct CallEnd
{
	GoyaWork	work;
	GoyaHttpResult *result;
	GoyaExchange *exchange;
	TimestampTz started_at;
} CallEnd;

void
goya_call_fail_transfer(GoyaOutcome *o, const GoyaNode *n, GoyaHttpResult *res)
{
	o->ok = false;
	o->retry_after_ms = res->retry_after_ms;
	o->error_class = class_of_outcome(res);
	if (res->sent && !n->idempotent)
		o->error_class = GOYA_ERR_UNKNOWN;	/* it may have had its effect */
	o->error = goya_error_make("08000", o->error_class, res->error ? res->error : "the call failed", NULL,
							   res->outcome == GOYA_HTTP_DENIED ? "The administrator allows addresses with goya.http_allow_loopback and goya.http_allow_private, or goya.allow_egress." : NULL);
}

/* The service answered, and the answer is a failure. */
void
goya_call_fail_response(GoyaOutcome *o, GoyaHttpResult *res)
{
	o->ok = false;
	o->retry_after_ms = res->retry_after_ms;
	o->error_class = class_of_status(res->status);
	o->error = goya_error_make("38000", o->error_class, psprintf("the service answered %d", res->status),
							   goya_node_http_is_text(res) ? pnstrdup(res->body, pg_mbcliplen(res->body, res->body_len, 1000)) : NULL, NULL);
	o->error = goya_json_set(o->error, "status", goya_json_from_int(res->status));
}

/*
 * What an answer means: the node's success and output over {"status", "headers", "body"} and what more there is.  body NULL: as it came.
 */
void
goya_node_http_judge(GoyaBatch *b, const GoyaWork *w, GoyaHttpResult *res, Jsonb *body, GoyaJsonObject *more, GoyaOutcome *o)
{
	const GoyaNode *n = &w->task->plan->nodes[w->node];
	GoyaNodeScope scope;
	GoyaJsonObject doc;

	if (n->success == NULL && (res->status < 200 || res->status >= 300))
	{
		goya_call_fail_response(o, res);	/* its body need not be what it says: error pages seldom are */
		return;
	}
	goya_json_object_start(&doc);
	goya_json_add_int(&doc, "status", res->status);
	goya_json_add(&doc, "headers", headers_value(res));
	goya_json_add(&doc, "body", body ? body : goya_node_http_value(res));
	for (int i = 0; more != NULL && i < more->n; i++)
		goya_json_add(&doc, more->keys[i], more->values[i]);
	goya_scope_init(&scope, b, w->task, w->node, w->item);
	scope.output = goya_json_object_finish(&doc);
	if (n->success != NULL && !goya_expr_test(n->success, &scope.scope))
	{
		goya_call_fail_response(o, res);
		return;
	}
	o->ok = true;
	o->retry_after_ms = res->retry_after_ms;
	o->output = n->output_path ? goya_expr_eval(n->output_path, &scope.scope) : scope.output;
}

/* The output of a node whose result came by callback: its output looks at the same document, with what came as body. */
Jsonb *
goya_node_http_output(GoyaBatch *b, const GoyaWork *w, Jsonb *body)
{
	const GoyaNode *n = &w->task->plan->nodes[w->node];
	GoyaNodeScope scope;
	GoyaJsonObject doc;

	goya_json_object_start(&doc);
	goya_json_add_int(&doc, "status", 200);
	goya_json_add(&doc, "headers", goya_json_object(0, NULL, NULL));
	goya_json_add(&doc, "body", body);
	goya_scope_init(&scope, b, w->task, w->node, w->item);
	scope.output = goya_json_object_finish(&doc);
	return n->output_path ? goya_expr_eval(n->output_path, &scope.scope) : scope.output;
}

/* The call is over, and its result comes by callback. */
static void
wait_for_callback(GoyaBatch *b, const GoyaWork *w, TimestampTz until, TimestampTz started_at)
{
	GoyaRecord *r = goya_batch_record(b, w, GOYA_RUN_WAITING);

	r->update = true;
	r->started_at = started_at;
	b->n_runs++;
	w->task->d_waiting++;
	goya_batch_queue(b, w->task, GOYA_LANE_WAKE, GOYA_VERB_TIMER, w->node, w->item, w->attempt, until);
}

static void
finish_call(GoyaBatch *b, void *arg)
{
	CallEnd    *end = arg;
	GoyaOutcome o = {.retry_after_ms = -1};

	if (end->exchange != NULL)
		goya_exchange_judge(end->exchange, end->result, b, &end->work, &o);
	else if (end->result->outcome == GOYA_HTTP_DONE)
		goya_node_http_judge(b, &end->work, end->result, NULL, NULL, &o);
	else
		goya_call_fail_transfer(&o, &end->work.task->plan->nodes[end->work.node], end->result);
	if (o.ok && o.wait_until != 0)
	{
		wait_for_callback(b, &end->work, o.wait_until, end->started_at);
		return;
	}
	goya_advance_finish(b, &end->work, &o, NULL, end->started_at, true);
}

/*
 * Record the end of a call.  The caller has checked, under the task's lock, that the run is still this claim's.
 */
void
goya_node_finish_call(GoyaBatch *b, const GoyaWork *w, GoyaHttpResult *result, GoyaExchange *exchange, TimestampTz started_at)
{
	CallEnd		end = {*w, result, exchange, started_at};
	ErrorData  *error;
	GoyaOutcome o;

	if (goya_batch_try(b, finish_call, &end, &error))
		return;
	goya_outcome_error(&o, error);
	o.final = error->sqlerrcode == ERRCODE_CONFIGURATION_LIMIT_EXCEEDED;	/* it was called, and what it said cannot be sealed */
	goya_advance_finish(b, w, &o, NULL, started_at, true);
}
