/*-------------------------------------------------------------------------
 * node_mcp_outcome.c
 *		What the end of an MCP call is for its node: output, or an error with its class.
 *
 * What was decided.  A tool's own failure (isError) has class TOOL_BUG and the tool's text; VALIDATION where the text is the protocol's own
 * complaint about arguments, which another attempt would not change.  A failure of which nobody knows whether the tool ran is final, unless
 * the tool may run twice.  Structured content is what a tool promised, so it is the output, checked; else the parts of its content are.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "json_util.h"
#include "mcp.h"
#include "schema.h"

#define MAX_ERROR_TEXT	1000

char *
goya_mcp_clip(const char *text)
{
	return pnstrdup(text, pg_mbcliplen(text, (int) strlen(text), MAX_ERROR_TEXT));
}

/* All text of a result's content, parts on lines of their own; "" if there is none. */
static char *
text_of(Jsonb *content)
{
	StringInfoData s;

	initStringInfo(&s);
	for (int i = 0; i < goya_json_array_length(content); i++)
	{
		Jsonb	   *part = goya_json_array_get(content, i);
		char	   *type = goya_json_is_object(part) ? goya_json_get_text(part, "type") : NULL;
		char	   *text = type != NULL && strcmp(type, "text") == 0 ? goya_json_get_text(part, "text") : NULL;

		if (text != NULL)
			appendStringInfo(&s, "%s%s", s.len > 0 ? "\n" : "", text);
	}
	return s.data;
}

static void
put_error(GoyaOutcome *o, const GoyaMcpNode *s, const char *sqlstate, int error_class, const char *message, const char *detail)
{
	o->ok = false;
	o->error_class = error_class;
	o->error = goya_error_make(sqlstate, error_class, message, detail, NULL);
	o->error = goya_json_set(o->error, "server", goya_json_from_text(s->server_name));
	o->error = goya_json_set(o->error, "tool", goya_json_from_text(s->call.tool));
}

/* What a server's code means.  Those from -32019 to -32000 mean nothing that could be relied on. */
static int
class_of_code(int64 code)
{
	switch (code)
	{
		case -32700:			/* parse error */
		case -32600:			/* invalid request */
		case -32601:			/* no such method */
		case -32602:			/* invalid params, unknown tool */
		case -32002:			/* no such resource */
		case -32020:			/* headers */
		case -32021:			/* a capability of the client is missing */
		case -32022:			/* version */
			return GOYA_ERR_VALIDATION;
		case -32042:			/* the user has to go to a page first */
			return GOYA_ERR_POLICY_DENY;
		case -32001:			/* timed out, in the usual libraries */
			return GOYA_ERR_TIMEOUT;
		default:
			return code >= -32099 && code <= -32000 ? GOYA_ERR_DEPENDENCY : code == -32603 ? GOYA_ERR_DEPENDENCY : GOYA_ERR_TOOL_BUG;
	}
}

static void
fail_by_server(GoyaOutcome *o, const GoyaMcpNode *s)
{
	Jsonb	   *e = s->call.rpc_error;
	int64		code = goya_json_get_int(e, "code", 0);
	char	   *message = goya_json_get_text(e, "message");

	put_error(o, s, "38000", class_of_code(code), psprintf("the MCP server refused: error " INT64_FORMAT, code),
			  message ? goya_mcp_clip(message) : NULL);
	o->error = goya_json_set(o->error, "rpc_code", goya_json_from_int(code));
}

static bool
about_arguments(const char *text)
{
	static const char *const starts[] = {
		"MCP error -32600", "MCP error -32601", "MCP error -32602", "Input validation error", "Invalid arguments"
	};

	for (size_t i = 0; i < lengthof(starts); i++)
		if (strncmp(text, starts[i], strlen(starts[i])) == 0)
			return true;
	return false;
}

static void
fail_by_tool(GoyaOutcome *o, const GoyaMcpNode *s)
{
	char	   *text = text_of(goya_json_get(s->call.result, "content"));

	put_error(o, s, "38000", about_arguments(text) ? GOYA_ERR_VALIDATION : GOYA_ERR_TOOL_BUG, psprintf("tool \"%s\" failed", s->call.tool),
			  text[0] ? goya_mcp_clip(text) : NULL);
}

/* Structured content is what the tool promised; else its parts as they are. */
static void
take_result(GoyaOutcome *o, const GoyaMcpNode *s)
{
	Jsonb	   *structured = goya_json_get(s->call.result, "structuredContent");
	Jsonb	   *content = goya_json_get(s->call.result, "content");
	GoyaSchema *schema = NULL;
	char	   *problem;
	List	   *errors = NIL;

	if (goya_json_get_bool(s->call.result, "isError", false))
	{
		fail_by_tool(o, s);
		return;
	}
	o->ok = true;
	if (structured == NULL)
	{
		GoyaJsonObject out;

		goya_json_object_start(&out);
		goya_json_add(&out, "content", goya_json_is_array(content) ? content : goya_json_array(0, NULL));
		goya_json_add_text(&out, "text", text_of(content));
		o->output = goya_json_object_finish(&out);
	}
	else
		o->output = structured;
	if (s->output_schema == NULL || (schema = goya_schema_compile(s->output_schema, &problem)) == NULL)
		return;					/* a schema that cannot be understood says nothing */
	if (structured == NULL)
		put_error(o, s, "38000", GOYA_ERR_TOOL_BUG,
				  psprintf("tool \"%s\" answered without the structured content it promises", s->call.tool), NULL);
	else if ((errors = goya_schema_check(schema, structured, 1)) != NIL)
	{
		GoyaSchemaError *first = linitial(errors);

		put_error(o, s, "38000", GOYA_ERR_TOOL_BUG, psprintf("the output of tool \"%s\" is not what its schema says", s->call.tool),
				  psprintf("%s: %s", first->path[0] ? first->path : "/", first->message));
	}
}

/* Was the tool surely not begun? */
static bool
refused_before(const GoyaMcpNode *s, const GoyaHttpResult *last)
{
	int64		code = s->call.rpc_error ? goya_json_get_int(s->call.rpc_error, "code", 0) : 0;

	if (!s->call.tool_sent || (last->outcome != GOYA_HTTP_DONE && !last->sent && s->call.total_resumed == 0))
		return true;
	if (s->call.rpc_error != NULL)
		return class_of_code(code) == GOYA_ERR_VALIDATION;
	return s->call.result == NULL && s->call.problem == NULL && last->outcome == GOYA_HTTP_DONE &&
		(last->status == 429 || last->status == 503 || (last->status >= 400 && last->status < 408));
}

void
goya_mcp_decide(GoyaMcpNode *s, GoyaHttpResult *last, const GoyaNode *n, GoyaOutcome *o)
{
	bool		may_repeat = s->idempotent || refused_before(s, last);

	if (s->call.result != NULL)
		take_result(o, s);
	else if (s->call.rpc_error != NULL)
		fail_by_server(o, s);
	else if (s->call.problem != NULL)
		put_error(o, s, "08P01", may_repeat ? GOYA_ERR_DEPENDENCY : GOYA_ERR_UNKNOWN, s->call.problem, NULL);
	else if (last->outcome != GOYA_HTTP_DONE)
	{
		GoyaNode	node = *n;

		node.idempotent = may_repeat;
		goya_call_fail_transfer(o, &node, last);
	}
	else
		goya_call_fail_response(o, last);
	if (!o->ok)
		o->retry_after_ms = last->retry_after_ms;
	o->final = !o->ok && !may_repeat;
}
