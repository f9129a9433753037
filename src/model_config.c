/*-------------------------------------------------------------------------
 * model_config.c
 *		A call of a model as its node's fields and the tables say: which models, what is asked, and whether the answer is known already.
 *
 * One statement (goya_private.prepare_model_call) reads all that is in tables; here it becomes memory that the exchange can use with no
 * transaction open.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "json_util.h"
#include "model.h"
#include "store.h"

#define IMAGE_BYTES 3000		/* what a picture counts for, where tokens are guessed */

static Jsonb *
ask_tables(const GoyaWork *w, Jsonb *config)
{
	GoyaStoreScope scope;
	Datum		args[3];
	Jsonb	   *answer;

	args[0] = UUIDPGetDatum(&w->task->tenant);
	args[1] = CStringGetTextDatum(w->task->run_as);
	args[2] = JsonbPGetDatum(config);
	goya_store_enter(&scope);
	goya_store_run(GOYA_STMT_MODEL_CALL, args, NULL);
	answer = goya_result_jsonb(0, 1, scope.caller);
	goya_store_leave(&scope);
	return answer;
}

static GoyaModelOperation
operation_of(const char *name)
{
	return strcmp(name, "embedding") == 0 ? GOYA_MODEL_EMBEDDING : strcmp(name, "image") == 0 ? GOYA_MODEL_IMAGE : GOYA_MODEL_CHAT;
}

static void
read_target(GoyaModelTarget *t, Jsonb *target)
{
	char	   *end;

	t->id = *DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(goya_json_get_text(target, "id"))));
	t->name = goya_json_get_text(target, "name");
	t->remote = goya_json_get_text(target, "remote");
	t->endpoint = goya_json_get_text(target, "endpoint");
	for (end = t->endpoint + strlen(t->endpoint); end > t->endpoint && end[-1] == '/';)
		*--end = '\0';
	t->parameters = goya_json_get(target, "parameters");
	t->timeout_ms = (int) goya_json_get_int(target, "timeout_ms", 0);
	t->limits.requests = (int) goya_json_get_int(target, "requests", 0);
	t->limits.tokens = (int) goya_json_get_int(target, "tokens", 0);
	t->limits.at_once = (int) goya_json_get_int(target, "at_once", 0);
	t->no_schema = !goya_json_get_bool(target, "json_schema", false);
}

/* The key of the model's service, for where it is. */
static void
read_secret(GoyaModelCall *call, GoyaModelTarget *t, Jsonb *target)
{
	char	   *secret = goya_json_get_text(target, "secret");
	pg_uuid_t	tenant;
	GoyaSecretTarget place;
	char	   *host;

	if (secret == NULL)
		return;
	if (!goya_http_url_target(t->endpoint, &place.tls, &host, &place.port))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the endpoint of model \"%s\" is no http or https address", t->name)));
	place.host = host;
	if (call->secrets == NULL)
		call->secrets = goya_secrets_create(CurrentMemoryContext);
	tenant = *DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(goya_json_get_text(target, "tenant"))));
	t->authorization = goya_secrets_printf(call->secrets, "Authorization: Bearer %s", goya_secret_resolve(call->secrets, &tenant, secret, &place, NULL));
}

static void
read_targets(GoyaModelCall *call, Jsonb *targets)
{
	call->n_targets = goya_json_array_length(targets);
	call->targets = palloc0(sizeof(GoyaModelTarget) * Max(call->n_targets, 1));
	for (int i = 0; i < call->n_targets; i++)
	{
		Jsonb	   *target = goya_json_array_get(targets, i);

		read_target(&call->targets[i], target);
		read_secret(call, &call->targets[i], target);
	}
}

static int64
bytes_of(Jsonb *content)
{
	int64		bytes = 0;

	if (goya_json_is_string(content))
		return strlen(goya_json_as_text(content));
	for (int i = 0; i < goya_json_array_length(content); i++)
	{
		Jsonb	   *part = goya_json_array_get(content, i);
		char	   *text = goya_json_is_string(part) ? goya_json_as_text(part) : goya_json_get_text(part, "text");

		bytes += text ? strlen(text) : IMAGE_BYTES;
	}
	return bytes;
}

static int64
prompt_bytes(const GoyaModelCall *call)
{
	int64		bytes = bytes_of(call->input);

	for (int i = 0; i < goya_json_array_length(call->messages); i++)
		bytes += bytes_of(goya_json_get(goya_json_array_get(call->messages, i), "content"));
	return bytes;
}

static void
read_schema(GoyaModelCall *call, Jsonb *config)
{
	Jsonb	   *schema = goya_json_get(config, "response_schema");
	char	   *error;

	if (call->operation != GOYA_MODEL_CHAT || schema == NULL || goya_json_is_null(schema))
		return;
	call->schema_json = schema;
	call->schema = goya_schema_compile(schema, &error);
	if (call->schema == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("response_schema is no JSON Schema"), errdetail("%s", error)));
}

/* A field that is an object or array; null is as if it were not there. */
static Jsonb *
field(Jsonb *config, const char *name)
{
	Jsonb	   *value = goya_json_get(config, name);

	return goya_json_is_null(value) ? NULL : value;
}

/*
 * Everything is in the current context, the exchange's.
 */
GoyaModelCall *
goya_model_prepare(GoyaExchange *x, GoyaBatch *b, const GoyaWork *w, Jsonb *config)
{
	GoyaModelCall *call = palloc0(sizeof(GoyaModelCall));
	Jsonb	   *known = ask_tables(w, config);

	call->operation = operation_of(goya_json_get_text(known, "operation"));
	call->node.idempotent = w->task->plan->nodes[w->node].idempotent;
	call->key = goya_call_idempotency_key(w);
	call->trace_id = w->task->trace_id ? pstrdup(w->task->trace_id) : NULL;
	call->used.input = call->used.output = -1;
	initStringInfo(&call->held);
	call->sealed = goya_json_get_bool(known, "sealed", false);
	call->spill = goya_json_get_bool(config, "spill", false);
	call->cached = goya_json_get(known, "cached");
	if (call->cached != NULL)
		return call;
	read_targets(call, goya_json_get(known, "targets"));
	call->messages = goya_json_get(known, "messages");
	call->input = goya_json_get(known, "input");
	call->cache_key = goya_json_get_text(known, "cache_key");
	call->cache_seconds = (int) goya_json_get_int(known, "cache_seconds", 0);
	call->prompt_bytes = prompt_bytes(call);
	call->parameters = field(config, "parameters");
	call->tools = field(config, "tools");
	call->tool_choice = field(config, "tool_choice");
	call->stream = call->operation == GOYA_MODEL_CHAT && goya_json_get_bool(config, "stream", false);
	read_schema(call, config);
	return call;
}

/* In the recording transaction. */
void
goya_model_keep_answer(GoyaModelCall *call, const pg_uuid_t *tenant, Jsonb *output)
{
	GoyaStoreScope scope;
	Datum		args[4];

	args[0] = UUIDPGetDatum(tenant);
	args[1] = CStringGetTextDatum(call->cache_key);
	args[2] = JsonbPGetDatum(output);
	args[3] = Int32GetDatum(call->cache_seconds);
	goya_store_enter(&scope);
	goya_store_run(GOYA_STMT_KEEP_ANSWER, args, NULL);
	goya_store_leave(&scope);
}
