/*-------------------------------------------------------------------------
 * mcp_message.c
 *		What an MCP server sends: messages in events or documents, its requests, its progress, the answer.
 *
 * A server's requests inside a stream are answered at once, aside: there is nobody to be asked, so questions are declined and what goya
 * does not do is refused; only a ping is what it seems.
 *
 * What must hold: nothing of a message is kept before secrets were taken out of it.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#include "json_util.h"
#include "mcp.h"
#include "secret.h"

bool
goya_mcp_is_stream(GoyaHttpResult *answer)
{
	return answer->content_type != NULL && pg_strncasecmp(answer->content_type, "text/event-stream", 17) == 0;
}

/* NULL: it is no JSON, and c->problem says so. */
static Jsonb *
parse_message(GoyaMcpCall *c, const char *text, size_t len)
{
	MemoryContext here = CurrentMemoryContext;
	Jsonb	   *volatile parsed = NULL;

	PG_TRY();
	{
		parsed = goya_json_parse(text, (int) len);
	}
	PG_CATCH();
	{
		ErrorData  *e;

		MemoryContextSwitchTo(c->x->cxt);
		e = CopyErrorData();
		if (e->sqlerrcode == ERRCODE_OUT_OF_MEMORY || e->sqlerrcode == ERRCODE_QUERY_CANCELED)
			PG_RE_THROW();
		FlushErrorState();
		c->problem = psprintf("the server sent what is not JSON: %s", e->message);
		MemoryContextSwitchTo(here);
	}
	PG_END_TRY();
	return parsed;
}

/* A request of the server: nobody is here to be asked. */
static void
answer_request(GoyaMcpCall *c, const char *method, Jsonb *id)
{
	c->n_asked++;
	if (c->era == GOYA_MCP_MODERN)
		return;					/* such a server may not ask, and takes no answers */
	if (strcmp(method, "ping") == 0)
		goya_mcp_respond(c, id, goya_json_object(0, NULL, NULL), 0, NULL);
	else if (strcmp(method, "elicitation/create") == 0)
		goya_mcp_respond(c, id, goya_json_set(goya_json_object(0, NULL, NULL), "action", goya_json_from_text("decline")), 0, NULL);
	else
		goya_mcp_respond(c, id, NULL, -32601, "Method not found");
}

static void
note_progress(GoyaMcpCall *c, Jsonb *params)
{
	char	   *text = goya_json_is_object(params) ? goya_json_get_text(params, "message") : NULL;

	c->n_progress++;
	if (text != NULL)
		c->last_message = MemoryContextStrdup(c->x->cxt, pnstrdup(text, pg_mbcliplen(text, (int) strlen(text), 200)));
}

static bool
is_ours(GoyaMcpCall *c, Jsonb *id)
{
	char	   *text = goya_json_as_text(id);

	return text != NULL && strcmp(text, psprintf(UINT64_FORMAT, c->id)) == 0;
}

/* In the scratch context. */
static void
take_message(GoyaMcpCall *c, Jsonb *m)
{
	Jsonb	   *id;
	char	   *method;

	if (goya_json_is_array(m))
	{
		for (int i = 0; i < goya_json_array_length(m); i++)
		{
			Jsonb	   *one = goya_json_array_get(m, i);

			if (goya_json_is_object(one))
				take_message(c, one);
		}
		return;
	}
	if (!goya_json_is_object(m))
		return;
	id = goya_json_get(m, "id");
	method = goya_json_is_string(goya_json_get(m, "method")) ? goya_json_get_text(m, "method") : NULL;
	if (method != NULL && !goya_json_is_null(id))
		answer_request(c, method, id);
	else if (method != NULL)
	{
		if (strcmp(method, "notifications/progress") == 0)
			note_progress(c, goya_json_get(m, "params"));
	}
	else if (c->id != 0 && c->reply == NULL &&
			 (is_ours(c, id) || (goya_json_is_null(id) && goya_json_is_object(goya_json_get(m, "error")))))
	{
		MemoryContext old = MemoryContextSwitchTo(c->x->cxt);

		c->reply = goya_json_copy(m);
		MemoryContextSwitchTo(old);
	}
}

void
goya_mcp_take_text(void *arg, const char *data, int len)
{
	GoyaMcpCall *c = arg;
	MemoryContext old = MemoryContextSwitchTo(c->scratch);
	Jsonb	   *m;
	size_t		clean = len;

	data = goya_secret_redact(c->secrets, data, len, &clean);
	len = (int) clean;
	if (c->problem == NULL && (m = parse_message(c, data, len)) != NULL)
		take_message(c, m);
	MemoryContextSwitchTo(old);
	MemoryContextReset(c->scratch);
}

void
goya_mcp_received(GoyaMcpCall *c, const char *data, size_t len)
{
	if (c->id == 0 || c->reply != NULL || c->problem != NULL)
		return;
	goya_mcp_stream_feed(&c->stream, data, len, goya_mcp_take_text, c);
	if (c->stream.n_events > 0)
		c->n_resumed = 0;
	if (c->reply != NULL || c->problem != NULL)
		c->x->enough = true;
}

/* What may be kept of an answer has no secrets in it; events are cleaned one by one. */
void
goya_mcp_clean(GoyaMcpCall *c, GoyaHttpResult *answer)
{
	size_t		len;

	if (c->secrets == NULL)
		return;
	if (answer->body_len > 0 && !(goya_mcp_is_stream(answer) && answer->status < 300))
		answer->body = (char *) goya_secret_redact(c->secrets, answer->body, answer->body_len, &answer->body_len);
	if (answer->error != NULL)
		answer->error = (char *) goya_secret_redact(c->secrets, answer->error, strlen(answer->error), &len);
}
