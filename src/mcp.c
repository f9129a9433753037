/*-------------------------------------------------------------------------
 * mcp.c
 *		One call of an MCP server: what is sent next, given what came.
 *
 *		[discover ->] [initialize -> initialized ->] work -> done
 *
 *		work is one tools/call, or tools/list page by page.  A legacy stream that ended before its answer is resumed; a session the server
 *		no longer knows is opened anew, once or twice; questions inside an answer are declined, as nobody is there to be asked.
 *
 * What was decided.  An unknown server is asked with server/discover: servers of before 2026-07-28 refuse it, or answer with something
 * else, and are initialized.  What decides is what the answer says, its status only when it says nothing.
 *
 * What must hold.  No SQL, no transaction.  What a server sends never throws: it becomes c->problem.  Only running out of memory throws.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "json_util.h"
#include "mcp.h"

#define MAX_RESUMED			5	/* in a row without an event */
#define MAX_ROUNDS			5
#define MAX_SESSIONS		3
#define MAX_PAGES			200
#define RESUME_PAUSE_MS		1000

#define RPC_BAD_HEADER			(-32020)
#define RPC_NO_CAPABILITY		(-32021)
#define RPC_BAD_VERSION			(-32022)

static const char *const legacy_versions[] = {GOYA_MCP_LEGACY_VERSION, "2025-06-18", "2025-03-26", "2024-11-05"};

static GoyaStep open_session(GoyaMcpCall *c);

/* ----- steps ----- */

static GoyaStep
send_work(GoyaMcpCall *c)
{
	Jsonb	   *params = goya_json_object(0, NULL, NULL);

	c->phase = GOYA_MCP_WORK;
	if (strcmp(c->tool, GOYA_MCP_LIST_TOOLS) == 0)
	{
		if (c->cursor != NULL)
			params = goya_json_set(params, "cursor", goya_json_from_text(c->cursor));
		goya_mcp_ask(c, "tools/list", params);
		return GOYA_STEP_SEND;
	}
	params = goya_json_set(params, "name", goya_json_from_text(c->tool));
	params = goya_json_set(params, "arguments", c->arguments);
	if (c->answers != NULL)
		params = goya_json_set(params, "inputResponses", c->answers);
	if (c->request_state != NULL)
		params = goya_json_set(params, "requestState", goya_json_from_text(c->request_state));
	goya_mcp_ask(c, "tools/call", params);
	return GOYA_STEP_SEND;
}

static GoyaStep
go_modern(GoyaMcpCall *c)
{
	c->era = GOYA_MCP_MODERN;
	c->version = GOYA_MCP_MODERN_VERSION;
	c->session = "";
	return send_work(c);
}

static GoyaStep
discover(GoyaMcpCall *c)
{
	c->phase = GOYA_MCP_DISCOVER;
	c->era = GOYA_MCP_MODERN;
	c->version = GOYA_MCP_MODERN_VERSION;
	c->session = "";
	goya_mcp_ask(c, "server/discover", NULL);
	return GOYA_STEP_SEND;
}

/* With the session the engine has, or a new one. */
static GoyaStep
go_legacy(GoyaMcpCall *c)
{
	GoyaMcpServer *s = c->server;

	c->era = GOYA_MCP_LEGACY;
	if (!s->ready || s->era != GOYA_MCP_LEGACY || s->revision != c->revision)
		return open_session(c);
	c->version = pstrdup(s->version);
	c->session = pstrdup(s->session);
	c->generation = s->generation;
	return send_work(c);
}

static GoyaStep
open_session(GoyaMcpCall *c)
{
	if (c->n_sessions++ >= MAX_SESSIONS)
	{
		c->problem = "the server forgets its sessions";
		return GOYA_STEP_OVER;
	}
	if (c->server->opener == NULL)
		c->server->opener = c;
	c->phase = GOYA_MCP_INITIALIZE;
	c->era = GOYA_MCP_LEGACY;
	c->version = GOYA_MCP_LEGACY_VERSION;
	c->session = "";
	goya_mcp_ask(c, "initialize", NULL);
	return GOYA_STEP_SEND;
}

/* The first request.  c->wanted, url, tool, … are set. */
void
goya_mcp_begin(GoyaMcpCall *c)
{
	GoyaMcpServer *s = c->server;
	GoyaMcpEra	era = c->wanted != GOYA_MCP_UNKNOWN ? c->wanted : s->era;

	c->scratch = AllocSetContextCreate(c->x->cxt, "goya mcp message", ALLOCSET_DEFAULT_SIZES);
	c->revision = s->revision;
	c->session = c->version = "";
	goya_mcp_stream_init(&c->stream);
	if (era == GOYA_MCP_MODERN)
		(void) go_modern(c);
	else if (era == GOYA_MCP_LEGACY)
		(void) go_legacy(c);
	else
	{
		s->opener = c;
		(void) discover(c);
	}
}

static int64
error_code(const Jsonb *error)
{
	return goya_json_get_int(error, "code", 0);
}

/* ----- answers ----- */

static bool
has_version(Jsonb *list, const char *version)
{
	for (int i = 0; i < goya_json_array_length(list); i++)
	{
		char	   *one = goya_json_as_text(goya_json_array_get(list, i));

		if (one != NULL && strcmp(one, version) == 0)
			return true;
	}
	return false;
}

static const char *
common_legacy(Jsonb *list)
{
	for (size_t i = 0; i < lengthof(legacy_versions); i++)
		if (has_version(list, legacy_versions[i]))
			return legacy_versions[i];
	return NULL;
}

static GoyaStep
fail(GoyaMcpCall *c, const char *problem)
{
	c->problem = problem;
	return GOYA_STEP_OVER;
}

/* The server speaks the modern protocol and wants another version of it. */
static GoyaStep
other_version(GoyaMcpCall *c, Jsonb *error)
{
	Jsonb	   *supported = goya_json_get(goya_json_get(error, "data"), "supported");

	if (has_version(supported, GOYA_MCP_MODERN_VERSION) && c->n_versions++ < 2)
		return c->phase == GOYA_MCP_DISCOVER ? discover(c) : go_modern(c);
	if (common_legacy(supported) != NULL && c->wanted != GOYA_MCP_MODERN && c->n_versions++ < 2)
		return go_legacy(c);
	c->rpc_error = error;
	return GOYA_STEP_OVER;
}

static GoyaStep
after_discover(GoyaMcpCall *c)
{
	Jsonb	   *result = goya_json_get(c->reply, "result");
	Jsonb	   *error = goya_json_get(c->reply, "error");
	Jsonb	   *versions = goya_json_get(result, "supportedVersions");
	int64		code = error_code(error);

	if (code == RPC_BAD_VERSION)
		return other_version(c, error);
	if (code == RPC_BAD_HEADER || code == RPC_NO_CAPABILITY)
	{
		c->rpc_error = error;
		return GOYA_STEP_OVER;
	}
	if (!goya_json_is_array(versions))
		return go_legacy(c);
	c->capabilities = goya_json_get(result, "capabilities");
	c->server_info = goya_json_get(result, "serverInfo");
	if (!has_version(versions, GOYA_MCP_MODERN_VERSION))
		return common_legacy(versions) != NULL ? go_legacy(c) : fail(c, "the server speaks no version of the protocol that goya speaks");
	c->server->era = GOYA_MCP_MODERN;
	strlcpy(c->server->version, GOYA_MCP_MODERN_VERSION, sizeof(c->server->version));
	return go_modern(c);
}

static char *
session_of(GoyaHttpResult *answer)
{
	for (int i = 0; i < answer->nheaders; i++)
	{
		const char *value = goya_http_header_value(answer->headers[i], "Mcp-Session-Id");

		if (value == NULL)
			continue;
		for (const char *p = value; *p; p++)
			if (*p < 0x21 || *p > 0x7e)
				return NULL;
		return strlen(value) < sizeof(((GoyaMcpServer *) 0)->session) ? pstrdup(value) : NULL;
	}
	return pstrdup("");
}

static GoyaStep
after_initialize(GoyaMcpCall *c, GoyaHttpResult *answer)
{
	Jsonb	   *result = goya_json_get(c->reply, "result");
	char	   *version = goya_json_is_object(result) ? goya_json_get_text(result, "protocolVersion") : NULL;
	bool		known = false;

	if (!goya_json_is_object(result))
	{
		c->rpc_error = goya_json_get(c->reply, "error");
		return c->rpc_error ? GOYA_STEP_OVER : fail(c, "the server did not answer initialize");
	}
	for (size_t i = 0; i < lengthof(legacy_versions); i++)
		known = known || (version != NULL && strcmp(version, legacy_versions[i]) == 0);
	if (!known)
		return fail(c, psprintf("the server wants version %s of the protocol, which goya does not speak", version ? version : "(none)"));
	c->version = version;
	c->session = session_of(answer);
	if (c->session == NULL)
	{
		c->session = "";
		return fail(c, "the server gave a session id that is none");
	}
	c->capabilities = goya_json_get(result, "capabilities");
	c->server_info = goya_json_get(result, "serverInfo");
	c->phase = GOYA_MCP_INITIALIZED;
	goya_mcp_notify(c, "notifications/initialized", NULL, false);
	return GOYA_STEP_SEND;
}

/* The session stands, for others too. */
static GoyaStep
after_initialized(GoyaMcpCall *c, GoyaHttpResult *answer)
{
	GoyaMcpServer *s = c->server;

	if (answer->outcome != GOYA_HTTP_DONE || answer->status < 200 || answer->status > 299)
		return GOYA_STEP_OVER;
	if (s->revision == c->revision)
	{
		s->era = GOYA_MCP_LEGACY;
		s->ready = true;
		s->generation++;
		strlcpy(s->version, c->version, sizeof(s->version));
		strlcpy(s->session, c->session, sizeof(s->session));
		c->generation = s->generation;
	}
	if (s->opener == c)
		s->opener = NULL;
	return send_work(c);
}

/* Questions to the caller of a modern tool: what can be declined is, and the rest ends the call. */
static GoyaStep
after_questions(GoyaMcpCall *c, Jsonb *result)
{
	Jsonb	   *questions = goya_json_get(result, "inputRequests");
	Jsonb	   *answers = goya_json_object(0, NULL, NULL);

	if (c->n_rounds++ >= MAX_ROUNDS)
		return fail(c, "the tool does not stop asking");
	for (int i = 0; i < goya_json_object_length(questions); i++)
	{
		Jsonb	   *question = goya_json_object_value(questions, i);
		char	   *method = goya_json_is_object(question) ? goya_json_get_text(question, "method") : NULL;
		Jsonb	   *answer = goya_json_object(0, NULL, NULL);

		if (method != NULL && strcmp(method, "elicitation/create") == 0)
			answer = goya_json_set(answer, "action", goya_json_from_text("decline"));
		else if (method != NULL && strcmp(method, "roots/list") == 0)
			answer = goya_json_set(answer, "roots", goya_json_array(0, NULL));
		else
			return fail(c, psprintf("the tool asks for %s, which goya does not do", method ? method : "something unknown"));
		c->n_asked++;
		answers = goya_json_set(answers, goya_json_object_key(questions, i), answer);
	}
	c->answers = goya_json_object_length(questions) > 0 ? answers : NULL;
	c->request_state = goya_json_get_text(result, "requestState");
	c->x->pause_ms = c->answers == NULL ? 200L * c->n_rounds : 0;	/* asked for nothing: later */
	return send_work(c);
}

static GoyaStep
after_list(GoyaMcpCall *c, Jsonb *result)
{
	Jsonb	   *tools = goya_json_get(result, "tools");
	char	   *cursor = goya_json_get_text(result, "nextCursor");

	for (int i = 0; i < goya_json_array_length(tools); i++)
		c->tools = lappend(c->tools, goya_json_array_get(tools, i));
	if (cursor == NULL)
	{
		c->result = result;
		return GOYA_STEP_OVER;
	}
	if (c->n_rounds++ >= MAX_PAGES || (c->cursor != NULL && strcmp(cursor, c->cursor) == 0))
		return fail(c, "the list of tools does not end");
	c->cursor = cursor;
	return send_work(c);
}

static GoyaStep
after_work(GoyaMcpCall *c)
{
	Jsonb	   *result = goya_json_get(c->reply, "result");
	Jsonb	   *error = goya_json_get(c->reply, "error");
	char	   *type = goya_json_is_object(result) ? goya_json_get_text(result, "resultType") : NULL;

	if (goya_json_is_object(error))
	{
		if (error_code(error) == RPC_BAD_VERSION && c->era == GOYA_MCP_MODERN)
			return other_version(c, error);
		c->rpc_error = error;
		return GOYA_STEP_OVER;
	}
	if (!goya_json_is_object(result))
		return fail(c, "the server's answer has neither result nor error");
	if (type != NULL && strcmp(type, "input_required") == 0 && c->era == GOYA_MCP_MODERN)
		return after_questions(c, result);
	if (type != NULL && strcmp(type, "complete") != 0)
		return fail(c, psprintf("the server answered with an unknown type of result, \"%s\"", type));
	if (strcmp(c->tool, GOYA_MCP_LIST_TOOLS) == 0)
		return after_list(c, result);
	c->result = result;
	return GOYA_STEP_OVER;
}

/* Says the server that it does not know the session?  404 does; some say 400 with a message. */
static bool
session_lost(GoyaMcpCall *c, GoyaHttpResult *answer)
{
	char	   *message = goya_json_get_text(goya_json_get(c->reply, "error"), "message");

	if (answer->outcome != GOYA_HTTP_DONE || c->era != GOYA_MCP_LEGACY || c->session[0] == '\0' || c->phase < GOYA_MCP_INITIALIZED)
		return false;
	return answer->status == 404 ||
		(answer->status == 400 && message != NULL && (strstr(message, "session") != NULL || strstr(message, "Session") != NULL));
}

static GoyaStep
renew_session(GoyaMcpCall *c)
{
	goya_mcp_server_forget(c->server, c->generation);
	c->tool_sent = false;		/* it was refused */
	c->problem = NULL;
	return c->phase == GOYA_MCP_WORK ? go_legacy(c) : open_session(c);
}

/* The connection ended before the answer came, and what is left of the stream can be asked for. */
static bool
may_resume(GoyaMcpCall *c, GoyaHttpResult *answer)
{
	if (c->era != GOYA_MCP_LEGACY || c->id == 0 || c->stream.last_id == NULL || c->n_resumed >= MAX_RESUMED)
		return false;
	if (answer->outcome == GOYA_HTTP_BROKEN || (answer->outcome == GOYA_HTTP_CONNECT_FAILED && c->resuming))
		return true;
	return answer->outcome == GOYA_HTTP_DONE && answer->status == 200 && goya_mcp_is_stream(answer);
}

/* An answer that says nothing of the protocol. */
static GoyaStep
after_nothing(GoyaMcpCall *c, GoyaHttpResult *answer)
{
	bool		refused = answer->outcome == GOYA_HTTP_DONE && answer->status >= 400 && answer->status <= 499 &&
		answer->status != 401 && answer->status != 403 && answer->status != 429 && answer->status != 408;

	if (may_resume(c, answer))
	{
		c->n_resumed++;
		c->total_resumed++;
		c->x->pause_ms = c->stream.events.retry_ms >= 0 ? c->stream.events.retry_ms : RESUME_PAUSE_MS;
		goya_mcp_resume(c);
		return GOYA_STEP_SEND;
	}
	if (c->phase == GOYA_MCP_DISCOVER && (refused || (answer->outcome == GOYA_HTTP_DONE && answer->status < 300)))
		return go_legacy(c);
	if (refused && c->phase == GOYA_MCP_WORK && c->era == GOYA_MCP_MODERN && c->wanted == GOYA_MCP_UNKNOWN && c->n_versions++ < 2)
	{
		c->tool_sent = false;	/* no modern server would say that: it has become another */
		c->server->era = GOYA_MCP_UNKNOWN;
		return discover(c);
	}
	if (answer->outcome == GOYA_HTTP_TIMEOUT)
		goya_mcp_abandoned(c);
	if (answer->outcome == GOYA_HTTP_DONE && answer->status < 300)
		return fail(c, c->resuming || goya_mcp_is_stream(answer) ? "the stream ended before the answer" :
					"the answer is no message of the protocol");
	return GOYA_STEP_OVER;
}

GoyaStep
goya_mcp_answered(GoyaMcpCall *c, GoyaHttpResult *answer)
{
	goya_mcp_clean(c, answer);
	if (c->id != 0 && c->reply == NULL && c->problem == NULL && answer->outcome == GOYA_HTTP_DONE && answer->body_len > 0 &&
		!goya_mcp_is_stream(answer))
	{
		goya_mcp_take_text(c, answer->body, (int) answer->body_len);
		if (c->problem != NULL && answer->status >= 300)
			c->problem = NULL;	/* error pages seldom are JSON */
	}
	if (session_lost(c, answer))
		return renew_session(c);
	if (c->problem != NULL && c->phase != GOYA_MCP_DISCOVER)
		return GOYA_STEP_OVER;
	c->problem = NULL;
	if (c->phase == GOYA_MCP_INITIALIZED)
		return after_initialized(c, answer);
	if (c->reply == NULL)
		return after_nothing(c, answer);
	switch (c->phase)
	{
		case GOYA_MCP_DISCOVER:
			return after_discover(c);
		case GOYA_MCP_INITIALIZE:
			return after_initialize(c, answer);
		default:
			return after_work(c);
	}
}

/* Nobody waits for the answer any more.  A modern server sees that by the end of the connection. */
void
goya_mcp_abandoned(GoyaMcpCall *c)
{
	Jsonb	   *params;

	if (c->phase != GOYA_MCP_WORK || c->era != GOYA_MCP_LEGACY || c->id == 0 || c->reply != NULL)
		return;
	params = goya_json_set(goya_json_object(0, NULL, NULL), "requestId", goya_json_from_int((int64) c->id));
	params = goya_json_set(params, "reason", goya_json_from_text("the caller no longer waits"));
	goya_mcp_notify(c, "notifications/cancelled", params, true);
}
