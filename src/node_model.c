/*-------------------------------------------------------------------------
 * node_model.c
 *		Nodes of kind ai_model: a chat with, vectors or pictures from, a model of the registry.
 *
 * One exchange is at most: each model of the node in turn, while the one before cannot answer (class DEPENDENCY, TRANSIENT or TIMEOUT, and
 * 429); and one more request, when the answer does not fit the node's schema.  All attempts are in the output.
 *
 * What was decided.  What a call has used is billed, whether it succeeded or not: tokens of all its requests are the outcome's quantity.
 * Where the service did not say (a stream that was cut, an answer without usage), pieces and bytes are counted, and the usage is marked as
 * estimated.  A kept answer costs nothing.
 *
 * What must hold.  Between start and judge there is no SQL.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "json_util.h"
#include "model.h"

#define FALLS_BACK	(GOYA_ERR_DEPENDENCY | GOYA_ERR_TRANSIENT | GOYA_ERR_TIMEOUT)
#define RETRY_429_MS 1000

static bool
start(GoyaExchange *x, GoyaBatch *b, const GoyaWork *w, GoyaNodeScope *scope, Jsonb *config)
{
	GoyaModelCall *call = goya_model_prepare(x, b, w, config);

	x->state = call;
	x->known = call->cached != NULL;
	if (x->known)
		return true;
	if (!goya_model_limit_take(&call->place, &call->targets[0], goya_model_expected_tokens(call, &call->targets[0]), &x->pause_ms))
	{
		if (w->tries == 0)
			return false;
		x->pause_ms = 0;		/* a call that was lost and is made again does not wait: it has its row already */
	}
	if (call->stream)
		call->out = goya_stream_open(x->cxt, &w->task->id, w->task->plan->nodes[w->node].key, w->item, w->attempt);
	if (call->stream && call->sealed)
		goya_stream_seal(call->out, &w->task->tenant);
	goya_model_request(x, call);
	return true;
}

/* ----- an answer that comes in pieces ----- */

/*
 * Passes on what the text has grown by. A key that a service says back a few characters at a time is in no event, but in the text they
 * make: it is taken out of that too, and its beginning is passed on when more has shown that it is none.
 */
static void
pass_on(GoyaModelCall *call, bool all)
{
	GoyaModelAnswer *a = call->answer;
	const char *piece = a->text.data + a->passed;
	size_t		held = 0;
	size_t		len = a->text.len - a->passed;
	size_t		n = len;
	const char *clean = goya_secret_redact_piece(call->secrets, piece, len, &n, &held);

	if (all && held > 0)
	{
		held = 0;
		clean = goya_secret_redact(call->secrets, piece, len, &n);
	}
	if (clean != piece)
	{
		char	   *rest = pnstrdup(piece + len - held, held);

		a->text.len = a->passed;
		appendBinaryStringInfo(&a->text, clean, n);
		appendBinaryStringInfo(&a->text, rest, held);
	}
	if (call->out != NULL)
		goya_stream_add(call->out, a->text.data + a->passed, n);
	a->passed += n;
}

static void
clean_text(GoyaModelCall *call, StringInfo s)
{
	size_t		n;
	const char *clean = goya_secret_redact(call->secrets, s->data, s->len, &n);

	if (clean != s->data)
	{
		resetStringInfo(s);
		appendBinaryStringInfo(s, clean, n);
	}
}

/* All that is made of pieces. Of an answer that was cut the beginning of a key is not passed on. */
static void
end_pieces(GoyaModelCall *call)
{
	GoyaModelAnswer *a = call->answer;

	pass_on(call, a->ended);
	clean_text(call, &a->reasoning);
	for (int i = 0; i < a->n_tools; i++)
	{
		clean_text(call, &a->tools[i].id);
		clean_text(call, &a->tools[i].name);
		clean_text(call, &a->tools[i].arguments);
	}
}

static void
on_event(void *arg, const GoyaEvent *e)
{
	GoyaModelCall *call = arg;
	GoyaModelAnswer *a = call->answer;
	MemoryContext piece;
	MemoryContext old;
	char	   *error;
	Jsonb	   *event;

	if (e->data_len == 6 && memcmp(e->data, "[DONE]", 6) == 0)
	{
		a->ended = true;
		return;
	}
	if (!e->has_data || a->problem != NULL)
		return;
	piece = AllocSetContextCreate(a->cxt, "goya model event", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(piece);
	event = goya_model_parse(e->data, e->data_len, &error);
	if (event != NULL)
	{
		goya_model_answer_delta(a, event);
		pass_on(call, false);
	}
	else
		a->problem = MemoryContextStrdup(a->cxt, psprintf("an event of its stream is not JSON: %s", error));
	MemoryContextSwitchTo(old);
	MemoryContextDelete(piece);
}

static void
received(GoyaExchange *x, const char *data, size_t len)
{
	GoyaModelCall *call = x->state;
	size_t		n;
	size_t		held;
	const char *clean;

	if (call->secrets == NULL)
	{
		goya_model_events_read(&call->events, data, len, on_event, call);
		return;
	}
	appendBinaryStringInfo(&call->held, data, len);
	clean = goya_secret_redact_piece(call->secrets, call->held.data, call->held.len, &n, &held);
	goya_model_events_read(&call->events, clean, n, on_event, call);
	memmove(call->held.data, call->held.data + call->held.len - held, held);
	call->held.len = held;
}

/* Nothing more comes of this answer; whatever is in it, no secret of ours. */
static void
end_received(GoyaModelCall *call, GoyaHttpResult *res)
{
	size_t		n;
	const char *clean = goya_secret_redact(call->secrets, call->held.data, call->held.len, &n);

	if (n > 0)
		goya_model_events_read(&call->events, clean, n, on_event, call);
	resetStringInfo(&call->held);
	end_pieces(call);
	res->body = unconstify(char *, goya_secret_redact(call->secrets, res->body, res->body_len, &n));
	res->body_len = n;
	if (res->error != NULL)
		res->error = unconstify(char *, goya_secret_redact(call->secrets, res->error, strlen(res->error), &n));
}

/* ----- what a request has used ----- */

/* What is not told is counted: pieces of a stream, or bytes.  True: something was. */
static bool
count_usage(const GoyaModelCall *call, GoyaModelUsage *u, bool cut)
{
	const GoyaModelAnswer *a = call->answer;
	int64		bytes = a->text.len + a->reasoning.len;
	bool		counted = u->input < 0 || (u->output < 0 && call->operation == GOYA_MODEL_CHAT);

	for (int i = 0; i < a->n_tools; i++)
		bytes += a->tools[i].name.len + a->tools[i].arguments.len;
	if (u->input < 0)
		u->input = goya_model_tokens_of_bytes(call->prompt_bytes);
	if (u->output < 0 && call->operation == GOYA_MODEL_CHAT)
		u->output = Max(a->deltas, call->stream && !call->events.not_events ? 0 : goya_model_tokens_of_bytes(bytes));
	else if (a->deltas > u->output && cut)
	{
		u->output = a->deltas;	/* what it said of itself is older than what it has sent */
		counted = true;
	}
	return counted;
}

/* worked: the service has done something for it. */
static void
end_request(GoyaModelCall *call, bool worked)
{
	GoyaModelUsage *u = &call->answer->usage;

	if (worked)
	{
		call->estimated |= count_usage(call, u, call->cut);
		call->n_answered++;
		goya_model_usage_add(&call->used, u);
	}
	goya_model_limit_return(&call->place, worked ? Max(u->input, 0) + Max(u->output, 0) : 0);
}

static void
note_attempt(GoyaModelCall *call, GoyaHttpResult *res, const char *problem)
{
	GoyaJsonObject o;

	goya_json_object_start(&o);
	goya_json_add_text(&o, "model", call->targets[call->current].name);
	if (res != NULL && res->status > 0)
		goya_json_add_int(&o, "status", res->status);
	if (res != NULL && call->failure.error != NULL)
		goya_json_add_text(&o, "class", goya_error_class_name(call->failure.error_class));
	goya_json_add_text(&o, "problem", problem);
	if (res != NULL)
		goya_json_add_int(&o, "ms", (GetCurrentTimestamp() - call->sent_at) / 1000);
	if (call->repairing)
		goya_json_add_bool(&o, "repair", true);
	call->attempts = lappend(call->attempts, goya_json_object_finish(&o));
}

/* ----- failures ----- */

static void
fail(GoyaModelCall *call, int error_class, const char *message, const char *detail, const char *hint)
{
	call->failure.ok = false;
	call->failure.retry_after_ms = -1;
	call->failure.error_class = error_class;
	call->failure.error = goya_error_make("38000", error_class, message, detail, hint);
}

/* The service answered with a status that is none of success. */
static void
fail_status(GoyaModelCall *call, GoyaHttpResult *res)
{
	GoyaModelAnswer *a = goya_model_answer_create();

	goya_model_answer_read(a, GOYA_MODEL_CHAT, res->body, res->body_len);
	goya_call_fail_response(&call->failure, res);
	call->failure.error = goya_json_set(call->failure.error, "message",
										goya_json_from_text(psprintf("model \"%s\": its service answered %d%s%s", call->targets[call->current].name, res->status,
																	 a->refusal ? ": " : "", a->refusal ? a->refusal : "")));
	if (res->status == 429)
		goya_model_limit_refused(&call->targets[call->current].id, res->retry_after_ms >= 0 ? res->retry_after_ms : RETRY_429_MS);
}

/* Reads the answer; false: it is a failure, in call->failure. */
static bool
understand(GoyaModelCall *call, GoyaHttpResult *res)
{
	const char *name = call->targets[call->current].name;
	GoyaModelAnswer *a = call->answer;
	bool		plain = !call->stream || call->events.not_events;

	call->cut = false;
	if (res->outcome != GOYA_HTTP_DONE)
	{
		call->cut = a->deltas > 0;
		goya_call_fail_transfer(&call->failure, &call->node, res);
		return false;
	}
	if (res->status < 200 || res->status > 299)
	{
		fail_status(call, res);
		return false;
	}
	if (plain)
		goya_model_answer_read(a, call->operation, res->body, res->body_len);
	call->cut = !a->ended;
	if (a->refusal != NULL)
		fail(call, GOYA_ERR_DEPENDENCY, psprintf("model \"%s\": its service failed: %s", name, a->refusal), NULL, NULL);
	else if (a->problem != NULL)
		fail(call, GOYA_ERR_DEPENDENCY, psprintf("the answer of model \"%s\" cannot be understood", name), a->problem,
			 "Is its endpoint that of an OpenAI-compatible service, as https://host/v1?");
	else if (!a->ended)
		fail(call, GOYA_ERR_TRANSIENT, psprintf("the answer of model \"%s\" was cut", name), psprintf(INT64_FORMAT " pieces had come.", a->deltas), NULL);
	return call->failure.error == NULL;
}

/* The next model that may be asked; false: there is none, or no time. */
static bool
fall_back(GoyaExchange *x, GoyaModelCall *call)
{
	if (!(call->failure.error_class & FALLS_BACK) || x->deadline <= GetCurrentTimestamp())
		return false;
	while (call->current + 1 < call->n_targets)
	{
		GoyaModelTarget *next = &call->targets[++call->current];
		long		wait_ms;

		if (!goya_model_limit_take(&call->place, next, goya_model_expected_tokens(call, next), &wait_ms))
		{
			note_attempt(call, NULL, "its limits leave no room now");
			continue;
		}
		memset(&call->failure, 0, sizeof(call->failure));
		return true;
	}
	return false;
}

/* What came of this request is void: the next begins anew. */
static GoyaStep
send_next(GoyaExchange *x, GoyaModelCall *call)
{
	if (call->out != NULL)
		goya_stream_add(call->out, NULL, 0);
	goya_model_request(x, call);
	return GOYA_STEP_SEND;
}

/* ----- the answer and the schema ----- */

static const char *
first_error(List *errors)
{
	GoyaSchemaError *e = linitial(errors);

	return psprintf("%s: %s", e->path[0] ? e->path : "/", e->message);
}

/* The answer must fit the node's schema.  True: one more request is to be sent. */
static bool
repair(GoyaExchange *x, GoyaModelCall *call, GoyaHttpResult *res)
{
	GoyaModelTarget *target = &call->targets[call->current];
	List	   *errors;
	long		wait_ms;

	if (call->schema == NULL || call->answer->n_tools > 0 || goya_model_fits(call, &errors))
	{
		note_attempt(call, res, NULL);
		return false;
	}
	note_attempt(call, res, psprintf("its answer does not fit the schema: %s", first_error(errors)));
	if (call->repairing)
	{
		fail(call, GOYA_ERR_MODEL_REASONING, psprintf("the answer of model \"%s\" does not fit the schema", target->name), first_error(errors),
			 "It was told so once and answered wrongly again. Use another model, a simpler schema or a clearer prompt.");
		return false;
	}
	call->repairing = true;
	call->messages = goya_model_repair_messages(call->messages, call->answer->text.data, errors);
	call->prompt_bytes = call->prompt_bytes + call->answer->text.len;
	if (!goya_model_limit_take(&call->place, target, goya_model_expected_tokens(call, target), &wait_ms))
		x->pause_ms = wait_ms;
	return true;
}

static GoyaStep
answered(GoyaExchange *x, GoyaHttpResult *res)
{
	GoyaModelCall *call = x->state;
	bool		fine;

	end_received(call, res);
	fine = understand(call, res);
	end_request(call, fine || call->answer->deltas > 0 || call->answer->usage.output > 0);
	if (fine)
		return repair(x, call, res) ? send_next(x, call) : GOYA_STEP_OVER;
	note_attempt(call, res, goya_json_get_text(call->failure.error, "message"));
	return fall_back(x, call) ? send_next(x, call) : GOYA_STEP_OVER;
}

/* ----- the outcome ----- */

/* In the units of prices. */
static Jsonb *
quantity(int requests, const GoyaModelUsage *used, Jsonb *images)
{
	GoyaJsonObject o;

	goya_json_object_start(&o);
	goya_json_add_int(&o, "request", requests);
	if (used->input >= 0)
		goya_json_add_int(&o, "token_in", used->input);
	if (used->output >= 0)
		goya_json_add_int(&o, "token_out", used->output);
	if (images != NULL)
		goya_json_add_int(&o, "image", goya_json_array_length(images));
	return goya_json_object_finish(&o);
}

static Jsonb *
quantity_of(const GoyaModelCall *call)
{
	return quantity(call->n_answered, &call->used, call->answer ? call->answer->images : NULL);
}

/* Requests that have been answered, and what has come of the one that is out. */
static Jsonb *
used_so_far(GoyaExchange *x)
{
	const GoyaModelCall *call = x->state;
	GoyaModelUsage used = call->used;
	int			requests = call->n_answered;

	if (call->answer != NULL && call->answer->deltas > 0)
	{
		GoyaModelUsage u = call->answer->usage;

		(void) count_usage(call, &u, true);
		goya_model_usage_add(&used, &u);
		requests++;
	}
	return requests > 0 ? quantity(requests, &used, NULL) : NULL;
}

static Jsonb *
usage_of(const GoyaModelCall *call)
{
	GoyaJsonObject o;

	goya_json_object_start(&o);
	if (call->used.input >= 0)
		goya_json_add_int(&o, "input_tokens", call->used.input);
	if (call->used.output >= 0)
		goya_json_add_int(&o, "output_tokens", call->used.output);
	if (call->estimated)
		goya_json_add_bool(&o, "estimated", true);
	return goya_json_object_finish(&o);
}

static Jsonb *
attempts_of(const GoyaModelCall *call)
{
	Jsonb	  **all = palloc(sizeof(Jsonb *) * Max(list_length(call->attempts), 1));

	for (int i = 0; i < list_length(call->attempts); i++)
		all[i] = list_nth(call->attempts, i);
	return goya_json_array(list_length(call->attempts), all);
}

static Jsonb *
output_of(const GoyaModelCall *call)
{
	const GoyaModelAnswer *a = call->answer;
	GoyaJsonObject o;

	goya_json_object_start(&o);
	if (call->operation == GOYA_MODEL_CHAT)
	{
		goya_json_add_text(&o, "text", a->text.data);
		goya_json_add(&o, "json", call->value);
		goya_json_add_text(&o, "reasoning", a->reasoning.len > 0 ? a->reasoning.data : NULL);
		goya_json_add(&o, "tool_calls", goya_model_answer_tools(a));
		goya_json_add_text(&o, "finish_reason", a->finish);
	}
	if (a->vectors != NULL)
	{
		goya_json_add(&o, "vectors", a->vectors);
		goya_json_add_int(&o, "dimensions", goya_json_array_length(goya_json_array_get(a->vectors, 0)));
	}
	goya_json_add(&o, "images", a->images);
	goya_json_add_text(&o, "model", call->targets[call->current].name);
	goya_json_add_text(&o, "remote_model", a->model);
	goya_json_add(&o, "usage", usage_of(call));
	goya_json_add(&o, "attempts", attempts_of(call));
	return goya_json_object_finish(&o);
}

static void
judge_kept(GoyaModelCall *call, GoyaOutcome *o)
{
	o->ok = true;
	o->output = goya_json_set(call->cached, "cached", goya_json_from_bool(true));
	o->output = goya_json_set(o->output, "usage", goya_json_parse("{\"input_tokens\": 0, \"output_tokens\": 0}", 39));
	o->output = goya_json_set(o->output, "attempts", goya_json_array(0, NULL));
	o->quantity = goya_json_parse("{\"request\": 0, \"token_in\": 0, \"token_out\": 0}", 45);
	o->measured = true;
}

static void
judge(GoyaExchange *x, GoyaHttpResult *last, GoyaBatch *b, const GoyaWork *w, GoyaNodeScope *scope, GoyaOutcome *o)
{
	GoyaModelCall *call = x->state;

	if (call->cached != NULL)
	{
		judge_kept(call, o);
		if (call->spill)
			o->output = goya_model_spill(w, o->output);
		return;
	}
	if (call->failure.error == NULL && last->outcome == GOYA_HTTP_CANCELLED)
		goya_call_fail_transfer(o, &call->node, last);
	else if (call->failure.error != NULL)
	{
		*o = call->failure;
		o->error = goya_json_set(o->error, "attempts", attempts_of(call));
	}
	else
	{
		o->ok = true;
		o->output = output_of(call);
		if (call->cache_key != NULL)
			goya_model_keep_answer(call, &w->task->tenant, o->output);
		if (call->spill)
			o->output = goya_model_spill(w, o->output);		/* what is kept has the bytes: another task gets an asset of its own */
	}
	if (call->n_answered > 0)
	{
		o->quantity = quantity_of(call);
		o->estimated = call->estimated;
	}
}

const GoyaExchangeType goya_model_exchange = {
	.name = "ai_model",.start = start,.received = received,.answered = answered,.used = used_so_far,.judge = judge
};
