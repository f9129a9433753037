/*-------------------------------------------------------------------------
 * model_request.c
 *		One request for one model, in the form of OpenAI's API, which nearly every service understands.
 *
 * The body is put together from the node's fields and the model's own parameters, the node's going before.  Goya's own keys go before both, so that
 * "stream" among the parameters cannot turn an answer into something that is not expected.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "json_util.h"
#include "model.h"

static const char *const paths[] = {
	[GOYA_MODEL_CHAT] = "/chat/completions",[GOYA_MODEL_EMBEDDING] = "/embeddings",[GOYA_MODEL_IMAGE] = "/images/generations"
};

static void
add_all(GoyaJsonObject *o, Jsonb *from)
{
	int			n = goya_json_is_object(from) ? goya_json_object_length(from) : 0;

	for (int i = 0; i < n; i++)
		goya_json_add(o, goya_json_object_key(from, i), goya_json_object_value(from, i));
}

/* The model's and the node's; one that is null is left out, so that a node can take one of the model's away. */
static Jsonb *
merged_parameters(const GoyaModelCall *call, const GoyaModelTarget *target)
{
	GoyaJsonObject o;
	Jsonb	   *all;
	int			n;

	goya_json_object_start(&o);
	add_all(&o, target->parameters);
	add_all(&o, call->parameters);
	all = goya_json_object_finish(&o);
	n = goya_json_object_length(all);
	for (int i = n - 1; i >= 0; i--)
		if (goya_json_is_null(goya_json_object_value(all, i)))
			all = goya_json_set(all, goya_json_object_key(all, i), NULL);
	return goya_json_set(all, "profile", NULL);
}

/* {"type": "json_schema", …} */
static Jsonb *
response_format(Jsonb *schema)
{
	GoyaJsonObject inner;
	GoyaJsonObject o;

	goya_json_object_start(&inner);
	goya_json_add_text(&inner, "name", "answer");
	goya_json_add(&inner, "schema", schema);
	goya_json_object_start(&o);
	goya_json_add_text(&o, "type", "json_schema");
	goya_json_add(&o, "json_schema", goya_json_object_finish(&inner));
	return goya_json_object_finish(&o);
}

/* For a service that knows no schemas: the schema in words, as the first message. */
static Jsonb *
with_schema_in_words(Jsonb *messages, Jsonb *schema)
{
	int			n = goya_json_array_length(messages);
	Jsonb	  **all = palloc(sizeof(Jsonb *) * (n + 1));
	GoyaJsonObject o;

	goya_json_object_start(&o);
	goya_json_add_text(&o, "role", "system");
	goya_json_add_text(&o, "content", psprintf("Answer with JSON only, nothing before or after it. It must fit this JSON Schema: %s",
											   goya_json_to_cstring(schema)));
	all[0] = goya_json_object_finish(&o);
	for (int i = 0; i < n; i++)
		all[i + 1] = goya_json_array_get(messages, i);
	return goya_json_array(n + 1, all);
}

static void
add_chat(GoyaJsonObject *o, const GoyaModelCall *call, const GoyaModelTarget *target)
{
	Jsonb	   *messages = call->messages;

	if (call->schema_json != NULL && target->no_schema)
		messages = with_schema_in_words(messages, call->schema_json);
	else if (call->schema_json != NULL)
		goya_json_add(o, "response_format", response_format(call->schema_json));
	goya_json_add(o, "messages", messages);
	goya_json_add(o, "tools", call->tools);
	goya_json_add(o, "tool_choice", call->tool_choice);
	goya_json_add_bool(o, "stream", call->stream);
	if (call->stream)
		goya_json_add(o, "stream_options", goya_json_parse("{\"include_usage\": true}", 23));
}

static Jsonb *
body_of(const GoyaModelCall *call, const GoyaModelTarget *target)
{
	GoyaJsonObject o;

	goya_json_object_start(&o);
	add_all(&o, merged_parameters(call, target));
	goya_json_add_text(&o, "model", target->remote);
	switch (call->operation)
	{
		case GOYA_MODEL_CHAT:
			add_chat(&o, call, target);
			break;
		case GOYA_MODEL_EMBEDDING:
			goya_json_add(&o, "input", call->input);
			goya_json_add_text(&o, "encoding_format", "float");
			break;
		case GOYA_MODEL_IMAGE:
			goya_json_add(&o, "prompt", call->input);
			break;
	}
	return goya_json_object_finish(&o);
}

/* What a call of this model is expected to use: a rule of thumb for what is sent, and what may be answered at most. */
int64
goya_model_expected_tokens(const GoyaModelCall *call, const GoyaModelTarget *target)
{
	Jsonb	   *parameters = merged_parameters(call, target);
	int64		most = goya_json_get_int(parameters, "max_tokens", goya_json_get_int(parameters, "max_completion_tokens", 0));

	return goya_model_tokens_of_bytes(call->prompt_bytes) + Max(most, 0);
}

/* Share of the exchange's time: what is left, divided among those that may still be asked. */
static int
timeout_of(const GoyaExchange *x, const GoyaModelCall *call, const GoyaModelTarget *target)
{
	long		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), x->deadline);
	int			timeout = (int) Min(Max(left / (call->n_targets - call->current), 1), INT_MAX);

	return target->timeout_ms > 0 ? Min(target->timeout_ms, (int) Max(left, 1)) : timeout;
}

/*
 * Makes x->request the call of the current target.  Everything is in the current context.
 */
void
goya_model_request(GoyaExchange *x, GoyaModelCall *call)
{
	const GoyaModelTarget *target = &call->targets[call->current];
	GoyaHttpRequest *req = &x->request;
	int			n = 0;

	memset(req, 0, sizeof(*req));
	req->method = "POST";
	req->url = psprintf("%s%s", target->endpoint, paths[call->operation]);
	req->headers = palloc(sizeof(char *) * 6);
	if (target->authorization != NULL)
		req->headers[n++] = target->authorization;
	req->headers[n++] = "Content-Type: application/json";
	req->headers[n++] = call->stream ? "Accept: text/event-stream" : "Accept: application/json";
	req->headers[n++] = psprintf("Idempotency-Key: %s%s", call->key, call->repairing ? "/repair" : "");
	if (call->trace_id != NULL)
		req->headers[n++] = psprintf("X-Trace-Id: %s", call->trace_id);
	req->nheaders = n;
	req->body = goya_json_to_cstring(body_of(call, target));
	req->body_len = strlen(req->body);
	req->stream = call->stream;
	req->timeout_ms = timeout_of(x, call, target);
	call->sent_at = GetCurrentTimestamp();
	call->answer = goya_model_answer_create();
	resetStringInfo(&call->held);
	goya_model_events_reset(&call->events);
}
