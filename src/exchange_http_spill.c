/*-------------------------------------------------------------------------
 * exchange_http_spill.c
 *		Answers that become assets, and assets that are sent.
 *
 * A body that is not text, or is larger than spill.over, becomes an asset with its bytes inline, in the transaction that records the outcome; the
 * node's output says which.  Inline bytes are at most a megabyte: what is larger fails the node.  The asset is as if the node's SQL had
 * inserted it: of the task's tenant and role, with its depth, and what waits for new assets is told.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "exchange_http.h"

#define MAX_INLINE 1048576

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

static const char *
media_type_of(const char *type)
{
	static const char *const kinds[] = {"video", "image", "audio", "text"};

	for (size_t i = 0; i < lengthof(kinds); i++)
		if (strncmp(type, kinds[i], strlen(kinds[i])) == 0 && type[strlen(kinds[i])] == '/')
			return kinds[i];
	return strcmp(type, "application/pdf") == 0 ? "document" : "data";
}

static bool
is_textual(const char *type)
{
	size_t		len = strlen(type);

	return strncmp(type, "text/", 5) == 0 || strcmp(type, "application/json") == 0 || strcmp(type, "application/xml") == 0 ||
		(len > 5 && strcmp(type + len - 5, "+json") == 0) || (len > 4 && strcmp(type + len - 4, "+xml") == 0) ||
		strcmp(type, "application/x-ndjson") == 0 || strcmp(type, "application/javascript") == 0;
}

static Jsonb *
insert_asset(const GoyaWork *w, const GoyaHttpResult *res, const char *type)
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
	args[5] = PointerGetDatum(cstring_to_text_with_len(res->body, res->body_len));
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
	goya_json_add_int(&o, "size", res->body_len);
	goya_json_add_text(&o, "sha256", sha256);
	goya_json_add_text(&o, "media_type", type);
	return goya_json_object_finish(&o);
}

/* NULL: the body stays in the output. */
Jsonb *
goya_http_spill(HttpExchange *h, const GoyaWork *w, const GoyaHttpResult *res)
{
	char	   *type = bare_type(res->content_type);

	if (res->body_len == 0 || ((int64) res->body_len <= h->spill_over && is_textual(type) && goya_node_http_is_text(res)))
		return NULL;
	if (res->body_len > MAX_INLINE)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("the body is too large for an asset's inline bytes"),
				 errdetail("It has %zu bytes; an asset holds %d.", res->body_len, MAX_INLINE),
				 errhint("Let the service put large results where a uri leads to them.")));
	return insert_asset(w, res, type);
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
