/*-------------------------------------------------------------------------
 * mcp_request.c
 *		What is sent to an MCP server: requests, notifications, answers to its requests, and asking for the rest of a stream.
 *
 * Modern requests say everything about themselves in _meta, and again in headers, with which the server checks what proxies looked at:
 * version, method, the tool's name, and the arguments that the tool's schema marks with x-mcp-header.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/base64.h"

#include "json_util.h"
#include "mcp.h"

#define ASIDE_TIMEOUT_MS	5000
#define MAX_HEADER_PARAMS	32
#define MAX_SCHEMA_DEPTH	16

/* ----- headers ----- */

static void
add_header(GoyaHttpRequest *r, char *line)
{
	if (r->headers == NULL)
		r->headers = palloc(sizeof(char *) * 8);
	else if ((r->nheaders & (r->nheaders - 1)) == 0 && r->nheaders >= 8)
		r->headers = repalloc(r->headers, sizeof(char *) * r->nheaders * 2);
	r->headers[r->nheaders++] = line;
}

/* As it is when it is plain and cannot be taken for an encoded one, else in base64. */
static char *
header_value(const char *text)
{
	int			len = (int) strlen(text);
	bool		plain = len > 0 && !strchr(" \t", text[0]) && !strchr(" \t", text[len - 1]);
	char	   *coded;
	int			n;

	for (int i = 0; i < len && plain; i++)
		plain = (text[i] >= 0x20 && text[i] <= 0x7e) || text[i] == '\t';
	if (plain && strncmp(text, "=?base64?", 9) == 0 && len >= 11 && strcmp(text + len - 2, "?=") == 0)
		plain = false;
	if (plain || len == 0)
		return pstrdup(text);
	coded = palloc(pg_b64_enc_len(len) + 1);
	n = pg_b64_encode(text, len, coded, pg_b64_enc_len(len));
	coded[Max(n, 0)] = '\0';
	return psprintf("=?base64?%s?=", coded);
}

static bool
is_token(const char *s)
{
	return s[0] != '\0' && s[strspn(s, "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")] == '\0';
}

/*
 * What a schema marks for headers: the places, properties within properties only.  Of each the value in arguments becomes a header.
 * With r NULL it is only checked.  False: the schema marks what may not be marked, *problem says what.
 */
typedef struct HeaderWalk
{
	GoyaHttpRequest *r;
	char	   *names[MAX_HEADER_PARAMS];
	int			n;
	char	   *problem;
} HeaderWalk;

static void
mark_property(HeaderWalk *walk, Jsonb *property, Jsonb *value)
{
	Jsonb	   *mark = goya_json_get(property, "x-mcp-header");
	char	   *name = goya_json_is_string(mark) ? goya_json_as_text(mark) : "";
	char	   *type = goya_json_is_string(goya_json_get(property, "type")) ? goya_json_get_text(property, "type") : "";

	if (!is_token(name))
		walk->problem = "x-mcp-header is not the name of a header";
	else if (strcmp(type, "string") != 0 && strcmp(type, "integer") != 0 && strcmp(type, "boolean") != 0)
		walk->problem = psprintf("x-mcp-header \"%s\" marks what is no string, integer or boolean", name);
	else if (walk->n == MAX_HEADER_PARAMS)
		walk->problem = psprintf("more than %d properties are marked with x-mcp-header", MAX_HEADER_PARAMS);
	for (int i = 0; i < walk->n && walk->problem == NULL; i++)
		if (pg_strcasecmp(walk->names[i], name) == 0)
			walk->problem = psprintf("x-mcp-header \"%s\" is there twice", name);
	if (walk->problem != NULL)
		return;
	walk->names[walk->n++] = name;
	if (walk->r != NULL && (goya_json_is_string(value) || goya_json_is_number(value) || goya_json_is_bool(value)))
		add_header(walk->r, psprintf("Mcp-Param-%s: %s", name, header_value(goya_json_as_text(value))));
}

/* Anywhere else a mark is wrong.  A property may be named like the mark. */
static bool
marked_inside(const JsonbValue *v, int depth, bool names)
{
	JsonbValue	key;
	JsonbValue	value;

	if (depth > MAX_SCHEMA_DEPTH * 2)
		return false;
	for (int i = 0; i < goya_json_view_length(v); i++)
	{
		bool		of_names = false;	/* the keys of what is next are names of properties */

		if (goya_json_view_is_array(v))
			goya_json_view_elem(v, i, &value);
		else
		{
			goya_json_view_pair(v, i, &key, &value);
			if (!names && key.val.string.len == 12 && memcmp(key.val.string.val, "x-mcp-header", 12) == 0)
				return true;
			of_names = !names && key.val.string.len == 10 && memcmp(key.val.string.val, "properties", 10) == 0;
		}
		if (marked_inside(&value, depth + 1, of_names))
			return true;
	}
	return false;
}

static void
walk_schema(HeaderWalk *walk, Jsonb *schema, Jsonb *value, int depth)
{
	Jsonb	   *properties = goya_json_get(schema, "properties");

	if (depth > MAX_SCHEMA_DEPTH)
		return;
	for (int i = 0; i < goya_json_object_length(schema) && walk->problem == NULL; i++)
	{
		char	   *key = goya_json_object_key(schema, i);
		JsonbValue	view;

		if (strcmp(key, "properties") == 0 || strcmp(key, "const") == 0 || strcmp(key, "default") == 0 || strcmp(key, "enum") == 0 ||
			strcmp(key, "examples") == 0)
			continue;
		goya_json_view(goya_json_object_value(schema, i), &view);
		if ((goya_json_view_is_object(&view) || goya_json_view_is_array(&view)) && marked_inside(&view, 0, strcmp(key, "$defs") == 0))
			walk->problem = psprintf("x-mcp-header stands inside \"%s\"", key);
	}
	if (!goya_json_is_object(properties))
		return;
	for (int i = 0; i < goya_json_object_length(properties) && walk->problem == NULL; i++)
	{
		Jsonb	   *property = goya_json_object_value(properties, i);
		Jsonb	   *inner = goya_json_is_object(value) ? goya_json_get(value, goya_json_object_key(properties, i)) : NULL;

		if (!goya_json_is_object(property))
			continue;
		if (goya_json_has(property, "x-mcp-header"))
			mark_property(walk, property, inner);
		walk_schema(walk, property, inner, depth + 1);
	}
}

bool
goya_mcp_header_params_valid(Jsonb *input_schema, char **problem)
{
	HeaderWalk	walk = {0};

	if (goya_json_is_object(input_schema))
		walk_schema(&walk, input_schema, NULL, 0);
	*problem = walk.problem;
	return walk.problem == NULL;
}

static void
add_standard_headers(GoyaMcpCall *c, GoyaHttpRequest *r, const char *method)
{
	if (c->version[0] != '\0' && (c->era == GOYA_MCP_MODERN || c->phase != GOYA_MCP_INITIALIZE))
		add_header(r, psprintf("MCP-Protocol-Version: %s", c->version));
	if (c->session[0] != '\0')
		add_header(r, psprintf("Mcp-Session-Id: %s", c->session));
	if (c->era != GOYA_MCP_MODERN || method == NULL)
		return;
	add_header(r, psprintf("Mcp-Method: %s", method));
	if (strcmp(method, "tools/call") == 0)
	{
		HeaderWalk	walk = {.r = r};

		add_header(r, psprintf("Mcp-Name: %s", header_value(c->tool)));
		if (goya_json_is_object(c->input_schema))
			walk_schema(&walk, c->input_schema, c->arguments, 0);
	}
}

/* ----- bodies ----- */

static Jsonb *
message(const char *method, Jsonb *id, Jsonb *params)
{
	GoyaJsonObject o;

	goya_json_object_start(&o);
	goya_json_add_text(&o, "jsonrpc", "2.0");
	goya_json_add(&o, "id", id);
	goya_json_add_text(&o, "method", method);
	goya_json_add(&o, "params", params);
	return goya_json_object_finish(&o);
}

static Jsonb *
client_info(void)
{
	GoyaJsonObject o;

	goya_json_object_start(&o);
	goya_json_add_text(&o, "name", "goya");
	goya_json_add_text(&o, "version", "0.1.0");
	return goya_json_object_finish(&o);
}

/* Params with what must be said of this request. */
static Jsonb *
add_meta(GoyaMcpCall *c, const char *method, Jsonb *params)
{
	GoyaJsonObject o;

	goya_json_object_start(&o);
	if (strcmp(method, "tools/call") == 0)
		goya_json_add_int(&o, "progressToken", (int64) c->id);
	if (c->era == GOYA_MCP_MODERN)
	{
		goya_json_add_text(&o, "io.modelcontextprotocol/protocolVersion", c->version);
		goya_json_add(&o, "io.modelcontextprotocol/clientInfo", client_info());
		goya_json_add(&o, "io.modelcontextprotocol/clientCapabilities", goya_json_object(0, NULL, NULL));
	}
	else if (strcmp(method, "initialize") == 0)
	{
		params = goya_json_object(0, NULL, NULL);
		params = goya_json_set(params, "protocolVersion", goya_json_from_text(c->version));
		params = goya_json_set(params, "clientInfo", client_info());
		params = goya_json_set(params, "capabilities", goya_json_object(0, NULL, NULL));
	}
	if (o.n == 0)
		return params;
	return goya_json_set(params ? params : goya_json_object(0, NULL, NULL), "_meta", goya_json_object_finish(&o));
}

static void
post(GoyaMcpCall *c, GoyaHttpRequest *r, const char *method, Jsonb *body)
{
	memset(r, 0, sizeof(*r));
	r->method = "POST";
	r->url = c->url;
	for (int i = 0; i < c->n_headers; i++)
		add_header(r, c->headers[i]);
	add_header(r, "Content-Type: application/json");
	add_header(r, "Accept: application/json, text/event-stream");
	add_standard_headers(c, r, method);
	r->body = goya_json_to_cstring(body);
	r->body_len = strlen(r->body);
}

void
goya_mcp_ask(GoyaMcpCall *c, const char *method, Jsonb *params)
{
	MemoryContext old = MemoryContextSwitchTo(c->x->cxt);

	c->id = goya_mcp_next_id();
	c->reply = NULL;
	c->resuming = false;
	c->n_resumed = 0;
	goya_mcp_stream_restart(&c->stream);
	c->stream.last_id = NULL;
	c->stream.events.retry_ms = -1;
	post(c, &c->x->request, method, message(method, goya_json_from_int((int64) c->id), add_meta(c, method, params)));
	if (strcmp(method, "tools/call") == 0)
	{
		if (c->idempotency_key != NULL)
			add_header(&c->x->request, psprintf("Idempotency-Key: %s", c->idempotency_key));
		c->tool_sent = true;
	}
	c->x->request.stream = true;
	MemoryContextSwitchTo(old);
}

static void
send_aside(GoyaMcpCall *c, const char *method, Jsonb *body)
{
	GoyaHttpRequest *r = palloc(sizeof(GoyaHttpRequest));

	post(c, r, method, body);
	r->connect_timeout_ms = r->timeout_ms = ASIDE_TIMEOUT_MS;
	r->max_response = 64 * 1024;
	c->x->aside = lappend(c->x->aside, r);
}

void
goya_mcp_notify(GoyaMcpCall *c, const char *method, Jsonb *params, bool aside)
{
	MemoryContext old = MemoryContextSwitchTo(c->x->cxt);

	if (aside)
		send_aside(c, method, message(method, NULL, params));
	else
	{
		c->id = 0;
		c->reply = NULL;
		post(c, &c->x->request, method, message(method, NULL, params));
	}
	MemoryContextSwitchTo(old);
}

void
goya_mcp_respond(GoyaMcpCall *c, Jsonb *id, Jsonb *result, int code, const char *error)
{
	MemoryContext old = MemoryContextSwitchTo(c->x->cxt);
	GoyaJsonObject o;

	goya_json_object_start(&o);
	goya_json_add_text(&o, "jsonrpc", "2.0");
	goya_json_add(&o, "id", id);
	goya_json_add(&o, "result", result);
	if (result == NULL)
	{
		GoyaJsonObject e;

		goya_json_object_start(&e);
		goya_json_add_int(&e, "code", code);
		goya_json_add_text(&e, "message", error);
		goya_json_add(&o, "error", goya_json_object_finish(&e));
	}
	send_aside(c, NULL, goya_json_object_finish(&o));
	MemoryContextSwitchTo(old);
}

void
goya_mcp_resume(GoyaMcpCall *c)
{
	MemoryContext old = MemoryContextSwitchTo(c->x->cxt);
	GoyaHttpRequest *r = &c->x->request;

	memset(r, 0, sizeof(*r));
	r->method = "GET";
	r->url = c->url;
	r->stream = true;
	for (int i = 0; i < c->n_headers; i++)
		add_header(r, c->headers[i]);
	add_header(r, "Accept: text/event-stream");
	add_standard_headers(c, r, NULL);
	add_header(r, psprintf("Last-Event-ID: %s", c->stream.last_id));
	goya_mcp_stream_restart(&c->stream);
	c->resuming = true;
	MemoryContextSwitchTo(old);
}
