/*-------------------------------------------------------------------------
 * exchange.c
 *		What all exchanges have in common: their memory, their deadline, that nothing they throw ends the engine's turn, and answers kept as assets.
 *
 * A node's timeout is the whole exchange's; each request gets what is left of it.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/memutils.h"

#include "egress.h"
#include "exchange.h"
#include "guc.h"
#include "json_util.h"
#include "node_cli.h"
#include "store.h"

static const GoyaExchangeType *const types[] = {
	[GOYA_NODE_AI_MODEL] = &goya_model_exchange,
	[GOYA_NODE_HTTP] = &goya_http_exchange,
	[GOYA_NODE_MCP] = &goya_mcp_exchange,
	[GOYA_NODE_CLI] = &goya_cli_exchange
};

const GoyaExchangeType *
goya_exchange_type(GoyaNodeKind kind)
{
	return (size_t) kind < lengthof(types) ? types[kind] : NULL;
}

/* Each request gets what is left of the exchange's time, and at least a moment to fail in. */
static void
limit_request(GoyaExchange *x)
{
	long		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), x->deadline) - x->pause_ms;

	left = Max(left, 1);
	if (x->request.timeout_ms <= 0 || x->request.timeout_ms > left)
		x->request.timeout_ms = (int) Min(left, INT_MAX);
	if (x->request.connect_timeout_ms <= 0)
		x->request.connect_timeout_ms = goya_guc_http_connect_timeout * 1000;
	if (x->request.max_response <= 0)
		x->request.max_response = (size_t) goya_guc_http_max_response * 1024;
}

/*
 * In the claiming transaction: the first request, in a context of its own below the batch's, which calls.c takes over after commit.
 * An exchange with pause_ms > 0 and no request sent yet is one for later: the caller queues the node again.
 */
GoyaExchange *
goya_exchange_start(GoyaBatch *b, const GoyaWork *w, GoyaNodeScope *scope, const GoyaExchangeType *type)
{
	const GoyaNode *n = &w->task->plan->nodes[w->node];
	MemoryContext cxt = AllocSetContextCreate(b->cxt, "goya exchange", ALLOCSET_SMALL_SIZES);
	MemoryContext old;
	GoyaExchange *x;
	Jsonb	   *config = n->config ? goya_template_eval(n->config, &scope->scope) : NULL;

	old = MemoryContextSwitchTo(cxt);
	x = palloc0(sizeof(GoyaExchange));
	x->type = type;
	x->cxt = cxt;
	x->node_key = pstrdup(n->key);
	x->price_name = n->price_name ? pstrdup(n->price_name) : NULL;
	x->cost_tag = n->cost_tag ? pstrdup(n->cost_tag) : NULL;
	x->deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), goya_call_timeout_ms(n));
	x->egress = goya_egress_for(&w->task->tenant, cxt);
	if (type->start(x, b, w, scope, config))
	{
		x->pause_ms = 0;
		limit_request(x);
	}
	else
		x->pause_ms = Max(x->pause_ms, 1);
	MemoryContextSwitchTo(old);
	return x;
}

/* What was thrown is kept as the outcome. */
static void
keep_failure(GoyaExchange *x)
{
	MemoryContextSwitchTo(x->cxt);
	x->failure = CopyErrorData();
	FlushErrorState();
}

GoyaStep
goya_exchange_answered(GoyaExchange *x, GoyaHttpResult *answer)
{
	MemoryContext old = CurrentMemoryContext;
	volatile GoyaStep step = GOYA_STEP_OVER;

	x->n_requests++;
	if (x->failure != NULL || x->type->answered == NULL)
		return GOYA_STEP_OVER;
	PG_TRY();
	{
		MemoryContextSwitchTo(x->cxt);
		x->pause_ms = 0;
		if (answer->outcome != GOYA_HTTP_CANCELLED || x->enough)
			step = x->type->answered(x, answer);
		else if (x->type->abandoned != NULL)
			x->type->abandoned(x);
		x->enough = false;
		if (step == GOYA_STEP_SEND)
			limit_request(x);
	}
	PG_CATCH();
	{
		keep_failure(x);
		step = GOYA_STEP_OVER;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	return step;
}

void
goya_exchange_received(GoyaExchange *x, const char *data, size_t len)
{
	MemoryContext old = CurrentMemoryContext;

	if (x->failure != NULL || x->type->received == NULL)
		return;
	PG_TRY();
	{
		MemoryContextSwitchTo(x->cxt);
		x->type->received(x, data, len);
	}
	PG_CATCH();
	{
		keep_failure(x);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
}

void
goya_exchange_judge(GoyaExchange *x, GoyaHttpResult *last, GoyaBatch *b, const GoyaWork *w, GoyaOutcome *o)
{
	GoyaNodeScope scope;

	if (x->failure != NULL)
	{
		goya_outcome_error(o, x->failure);
		return;
	}
	goya_scope_init(&scope, b, w->task, w->node, w->item);
	x->type->judge(x, last, b, w, &scope, o);
}

/* ----- what is kept of an answer ----- */

static const char *
media_type_of(const char *type)
{
	static const char *const kinds[] = {"video", "image", "audio", "text"};

	for (size_t i = 0; i < lengthof(kinds); i++)
		if (strncmp(type, kinds[i], strlen(kinds[i])) == 0 && type[strlen(kinds[i])] == '/')
			return kinds[i];
	return strcmp(type, "application/pdf") == 0 ? "document" : "data";
}

/*
 * Bytes that came, as an asset of the task: as if the node's SQL had inserted it, with the task's tenant, role and depth, and what waits for new
 * assets is told.  In the transaction that records the outcome.  What the node's output says of it: {"asset_id", "size", "sha256", "media_type"}.
 */
Jsonb *
goya_exchange_keep_bytes(const GoyaWork *w, const char *bytes, size_t len, const char *type)
{
	const GoyaTask *task = w->task;
	GoyaStoreScope scope;
	GoyaJsonObject o;
	Datum		args[11];
	char		nulls[12] = "           ";
	pg_uuid_t	id;
	char	   *sha256;

	goya_uuid_new(&id);
	args[0] = UUIDPGetDatum(&id);
	args[1] = UUIDPGetDatum(&task->tenant);
	args[2] = CStringGetTextDatum(task->plan->nodes[w->node].key);
	args[3] = CStringGetTextDatum(media_type_of(type));
	args[4] = CStringGetTextDatum(type);
	args[5] = PointerGetDatum(cstring_to_text_with_len(bytes, len));
	args[6] = CStringGetTextDatum(task->run_as);
	args[7] = task->created_by ? CStringGetTextDatum(task->created_by) : (Datum) 0;
	nulls[7] = task->created_by ? ' ' : 'n';
	args[8] = UUIDPGetDatum(&task->id);
	args[9] = Int32GetDatum(w->item);
	args[10] = Int32GetDatum(task->depth);
	goya_store_enter(&scope);
	goya_store_run(GOYA_STMT_SPILL_ASSET, args, nulls);
	sha256 = goya_result_text(0, 1, scope.caller);
	goya_store_leave(&scope);
	goya_json_object_start(&o);
	goya_json_add_text(&o, "asset_id", goya_uuid_text(&id));
	goya_json_add_int(&o, "size", len);
	goya_json_add_text(&o, "sha256", sha256);
	goya_json_add_text(&o, "media_type", type);
	return goya_json_object_finish(&o);
}
