/*-------------------------------------------------------------------------
 * exchange_http_callback.c
 *		Services that answer later: the token a request carries, and what becomes of the node run until goya.callback comes with it.
 *
 * The token is made and its hash written in the claiming transaction, so it is known before the service can use it.  A call that is made again after
 * a crash has a token of its own, and the first still counts: whichever comes ends the run.  After the answer the run waits, with a
 * timer; a callback that came before the answer was recorded is found then.  Both happen under the task's lock, so none is lost.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "exchange_http.h"

#define TOKEN_BYTES		32
#define DEFAULT_WAIT_MS (24 * 3600 * 1000L)

static char *
make_token(void)
{
	uint8		random[TOKEN_BYTES];
	char	   *token = palloc(TOKEN_BYTES * 2 + 1);

	if (!pg_strong_random(random, sizeof(random)))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("no random numbers for a token")));
	for (int i = 0; i < TOKEN_BYTES; i++)
		sprintf(token + i * 2, "%02x", random[i]);
	return token;
}

/* body gets the token in it, when the node says so; *header, when it does not. */
Jsonb *
goya_http_callback_start(GoyaExchange *x, const GoyaWork *w, const Jsonb *config, Jsonb *body, char **header)
{
	HttpExchange *h = http_of(x);
	const Jsonb *callback = goya_json_get(config, "callback");
	char	   *field = goya_json_get_text(callback, "field");
	char	   *name = goya_json_get_text(callback, "header");
	GoyaStoreScope scope;
	Datum		args[7];

	*header = NULL;
	if (callback == NULL || (goya_json_is_bool(callback) && !goya_json_is_true(callback)))
		return body;
	h->token = make_token();
	h->callback_ms = goya_json_has(callback, "timeout") ? (long) goya_interval_ms(goya_json_get(callback, "timeout"), "callback.timeout") : DEFAULT_WAIT_MS;
	args[0] = CStringGetTextDatum(h->token);
	args[1] = UUIDPGetDatum(&w->task->id);
	args[2] = CStringGetTextDatum(w->task->plan->nodes[w->node].key);
	args[3] = Int32GetDatum(w->node);
	args[4] = Int32GetDatum(w->item);
	args[5] = Int16GetDatum(w->attempt);
	args[6] = TimestampTzGetDatum(TimestampTzPlusMilliseconds(x->deadline, h->callback_ms));
	goya_store_enter(&scope);
	goya_store_run(GOYA_STMT_ADD_CALLBACK, args, NULL);
	goya_store_leave(&scope);
	if (field == NULL)
	{
		*header = psprintf("%s: %s", name ? name : "Goya-Callback-Token", h->token);
		return body;
	}
	if (body != NULL && !goya_json_is_object(body))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the body must be an object to have the callback's token as \"%s\"", field)));
	return goya_json_set(body ? body : goya_json_object(0, NULL, NULL), field, goya_json_from_text(h->token));
}

/* The callback that has come for this run; false: none yet. */
bool
goya_http_callback_take(GoyaBatch *b, const GoyaWork *w, GoyaOutcome *o)
{
	const GoyaNode *n = &w->task->plan->nodes[w->node];
	GoyaStoreScope scope;
	Datum		args[4];
	bool		found;
	bool		failed = false;
	Jsonb	   *payload = NULL;

	args[0] = UUIDPGetDatum(&w->task->id);
	args[1] = CStringGetTextDatum(n->key);
	args[2] = Int32GetDatum(w->item);
	args[3] = Int16GetDatum(w->attempt);
	goya_store_enter(&scope);
	goya_store_run(GOYA_STMT_FIND_CALLBACK, args, NULL);
	found = SPI_processed == 1;
	if (found)
	{
		failed = goya_result_bool(0, 1);
		payload = goya_result_jsonb(0, 2, scope.caller);
	}
	goya_store_leave(&scope);
	if (!found)
		return false;
	o->ok = true;
	o->wait_until = 0;
	goya_node_open_stored(b, w->task, &payload, o);
	if (!o->ok)
		return true;
	o->ok = !failed;
	if (failed)
	{
		o->error_class = n->idempotent ? GOYA_ERR_DEPENDENCY : GOYA_ERR_UNKNOWN;
		o->error = goya_error_make("38000", o->error_class, "the service called back with a failure", NULL, NULL);
		o->error = goya_json_set(o->error, "payload", payload);
	}
	else
		o->output = goya_node_http_output(b, w, payload);
	return true;
}
