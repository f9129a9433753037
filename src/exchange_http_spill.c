/*-------------------------------------------------------------------------
 * exchange_http_spill.c
 *		Answers that become assets, and assets that are sent.
 *
 * A body that is not text, or is larger than spill.over, becomes an asset with its bytes inline, in the transaction that records the outcome; the
 * node's output says which (goya_exchange_keep_bytes).  Inline bytes are at most a megabyte: what is larger fails the node.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "exchange_http.h"

/* "image/png; x=y" is image/png. */
static char *
bare_type(const char *content_type)
{
	char	   *type;

	if (content_type == NULL)
		return pstrdup("application/octet-stream");
	type = pnstrdup(content_type, strcspn(content_type, "; \t"));
	for (char *p = type; *p; p++)
		*p = pg_ascii_tolower((unsigned char) *p);
	return type;
}

static bool
is_textual(const char *type)
{
	size_t		len = strlen(type);

	return strncmp(type, "text/", 5) == 0 || strcmp(type, "application/json") == 0 || strcmp(type, "application/xml") == 0 ||
		(len > 5 && strcmp(type + len - 5, "+json") == 0) || (len > 4 && strcmp(type + len - 4, "+xml") == 0) ||
		strcmp(type, "application/x-ndjson") == 0 || strcmp(type, "application/javascript") == 0;
}

/* NULL: the body stays in the output. */
Jsonb *
goya_http_spill(HttpExchange *h, const GoyaWork *w, const GoyaHttpResult *res)
{
	char	   *type = bare_type(res->content_type);

	if (res->body_len == 0 || ((int64) res->body_len <= h->spill_over && is_textual(type) && goya_node_http_is_text(res)))
		return NULL;
	if (res->body_len > GOYA_ASSET_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("the body is too large for an asset's inline bytes"),
				 errdetail("It has %zu bytes; an asset holds %d.", res->body_len, GOYA_ASSET_BYTES),
				 errhint("Let the service put large results where a uri leads to them.")));
	return goya_exchange_keep_bytes(w, res->body, res->body_len, type);
}

/* The inline bytes of an asset that the task's role may see; false: there are none. */
bool
goya_http_asset_bytes(const GoyaWork *w, const char *id, char **data, size_t *len, char **type, char **name)
{
	const GoyaTask *task = w->task;
	GoyaStoreScope scope;
	Datum		args[4];
	char		nulls[5] = "    ";
	bool		found;

	args[0] = DirectFunctionCall1(uuid_in, CStringGetDatum(id));
	args[1] = UUIDPGetDatum(&task->tenant);
	args[2] = CStringGetTextDatum(task->run_as ? task->run_as : "");
	args[3] = task->created_by ? CStringGetTextDatum(task->created_by) : (Datum) 0;
	nulls[3] = task->created_by ? ' ' : 'n';
	goya_store_enter(&scope);
	goya_store_run(GOYA_STMT_ASSET_BYTES, args, nulls);
	found = SPI_processed == 1;
	if (found)
	{
		MemoryContext old = MemoryContextSwitchTo(scope.caller);
		bytea	   *content = DatumGetByteaPCopy(goya_result_datum(0, 1));

		*data = VARDATA(content);
		*len = VARSIZE(content) - VARHDRSZ;
		*type = goya_result_text(0, 2, scope.caller);
		*name = goya_result_text(0, 3, scope.caller);
		MemoryContextSwitchTo(old);
	}
	goya_store_leave(&scope);
	return found;
}
