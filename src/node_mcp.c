/*-------------------------------------------------------------------------
 * node_mcp.c
 *		Nodes of kind mcp: a tool of an MCP server is called.  From the node's configuration and what the catalog knows of server and
 *		tool to a call (mcp.c), from its end to an outcome (node_mcp_outcome.c) and a record.
 *
 * What was decided.  Only a tool that may run twice is called again: when the node or its operator says idempotent, or the server is
 * trusted and its annotations say so.  An operator is of a tool as it was when it was made; a tool that has changed since is not called.
 *
 * The tool "*" lists the server's tools, and what comes is written to goya.mcp_tools.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/base64.h"
#include "common/hashfn.h"
#include "utils/builtins.h"

#include "exchange.h"
#include "goya.h"
#include "json_util.h"
#include "mcp.h"
#include "secret.h"

#define BUSY_PAUSE_MS	100

/* ----- start ----- */

typedef struct ServerRow
{
	pg_uuid_t	id;
	int			revision;
	char	   *url;
	Jsonb	   *headers;
	Jsonb	   *auth;
	char	   *protocol;
	char	   *protocol_version;
	char	   *status;
	bool		enabled;
	bool		trusted;
	bool		has_capabilities;
	int64		timeout_ms;		/* 0: not said */
	int			max_concurrency;	/* 0: any */
	bool		tool_known;
	char	   *tool_hash;
	bool		tool_removed;
	Jsonb	   *input_schema;
	Jsonb	   *output_schema;
	Jsonb	   *annotations;
} ServerRow;

static char *
text_field(Jsonb *config, const char *name, bool required)
{
	Jsonb	   *v = goya_json_get(config, name);

	if (goya_json_is_string(v) && goya_json_as_text(v)[0] != '\0')
		return goya_json_as_text(v);
	if (required || (v != NULL && !goya_json_is_null(v)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("\"%s\" of an mcp node must be a name", name),
				 errdetail("It is %s.", v ? goya_json_type_name(v) : "missing")));
	return NULL;
}

static void
load_row(ServerRow *row, const pg_uuid_t *tenant, const char *server, const char *tool)
{
	MemoryContext cxt = CurrentMemoryContext;
	GoyaStoreScope scope;
	Datum		args[3];
	bool		found;

	args[0] = UUIDPGetDatum(tenant);
	args[1] = CStringGetTextDatum(server);
	args[2] = CStringGetTextDatum(tool);
	memset(row, 0, sizeof(*row));
	goya_store_enter(&scope);
	goya_store_run(GOYA_STMT_MCP_SERVER, args, NULL);
	found = SPI_processed > 0;
	if (found)
	{
		row->id = goya_result_uuid(0, 1);
		row->revision = goya_result_int4(0, 2);
		row->url = goya_result_text(0, 3, cxt);
		row->headers = goya_result_jsonb(0, 4, cxt);
		row->auth = goya_result_jsonb(0, 5, cxt);
		row->protocol = goya_result_text(0, 6, cxt);
		row->protocol_version = goya_result_text(0, 7, cxt);
		row->status = goya_result_text(0, 8, cxt);
		row->enabled = goya_result_bool(0, 9);
		row->trusted = goya_result_bool(0, 10);
		row->has_capabilities = goya_result_bool(0, 11);
		row->timeout_ms = goya_result_int8(0, 12);
		row->max_concurrency = goya_result_int4(0, 13);
		row->tool_known = !goya_result_isnull(0, 14);
		row->tool_hash = goya_result_text(0, 14, cxt);
		row->tool_removed = row->tool_known && goya_result_bool(0, 15);
		row->input_schema = goya_result_jsonb(0, 16, cxt);
		row->output_schema = goya_result_jsonb(0, 17, cxt);
		row->annotations = goya_result_jsonb(0, 18, cxt);
	}
	goya_store_leave(&scope);
	if (!found)
		ereport(ERROR,
				(errcode(GOYA_ERR_NOT_FOUND), errmsg("MCP server not found"),
				 errdetail("There is no MCP server \"%s\" in this tenant.", server),
				 errhint("goya.create_mcp_server registers one.")));
	if (!row->enabled)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("MCP server \"%s\" is disabled", server),
				 errhint("goya.update_mcp_server(name, enabled => true) enables it.")));
}

/* An operator was made of a tool as it was then. */
static void
check_unchanged(const ServerRow *row, const char *server, const char *tool, const char *hash)
{
	if (hash == NULL || !row->tool_known || (!row->tool_removed && strcmp(hash, row->tool_hash) == 0))
		return;
	if (row->tool_removed)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("tool \"%s\" of MCP server \"%s\" is gone", tool, server),
				 errdetail("The server no longer listed it when it was last asked."), errhint("goya.sync_mcp_server asks again.")));
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("tool \"%s\" of MCP server \"%s\" has changed", tool, server),
			 errdetail("Its schemas or annotations are not those with which the operator was made."),
			 errhint("Look at the tool in goya.mcp_tools, then goya.install_mcp_tool it again.")));
}

static void
add_line(GoyaMcpCall *c, char *line)
{
	c->headers = c->headers ? repalloc(c->headers, sizeof(char *) * (c->n_headers + 1)) : palloc(sizeof(char *));
	c->headers[c->n_headers++] = line;
}

static char *
basic_line(GoyaSecrets *set, const char *name, const char *user, const char *secret)
{
	char	   *pair = goya_secrets_printf(set, "%s:%s", user, secret);
	int			room = pg_b64_enc_len((int) strlen(pair)) + 1;
	char	   *encoded = goya_secrets_alloc(set, room);
	int			len = pg_b64_encode(pair, (int) strlen(pair), encoded, room - 1);

	encoded[Max(len, 0)] = '\0';
	goya_secrets_add_form(set, name, encoded, Max(len, 0));
	return goya_secrets_printf(set, "Authorization: Basic %s", encoded);
}

/* {"type", "secret", …}, as create_mcp_server checked it; the secret must be bound to the server's host. */
static void
add_auth(GoyaMcpCall *c, const ServerRow *row, const pg_uuid_t *tenant)
{
	char	   *type = goya_json_get_text(row->auth, "type");
	char	   *name = goya_json_get_text(row->auth, "secret");
	GoyaSecretTarget target;
	const char *secret;
	char	   *host;

	if (type == NULL || name == NULL)
		return;
	if (!goya_http_url_target(row->url, &target.tls, &host, &target.port))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the url is not a valid http or https address")));
	target.host = host;
	c->secrets = goya_secrets_create(c->x->cxt);
	secret = goya_secret_resolve(c->secrets, tenant, name, &target, NULL);
	if (strcmp(type, "basic") == 0)
		add_line(c, basic_line(c->secrets, name, goya_json_get_text(row->auth, "username"), secret));
	else if (strcmp(type, "api_key") == 0)
	{
		char	   *prefix = goya_json_get_text(row->auth, "prefix");

		add_line(c, goya_secrets_printf(c->secrets, "%s: %s%s", goya_json_get_text(row->auth, "name"), prefix ? prefix : "", secret));
	}
	else
		add_line(c, goya_secrets_printf(c->secrets, "Authorization: Bearer %s", secret));
}

static void
add_headers(GoyaMcpCall *c, const ServerRow *row, const GoyaWork *w)
{
	for (int i = 0; i < goya_json_object_length(row->headers); i++)
	{
		char	   *value = goya_json_as_text(goya_json_object_value(row->headers, i));

		if (value != NULL)
			add_line(c, psprintf("%s: %s", goya_json_object_key(row->headers, i), value));
	}
	if (w->task->trace_id != NULL)
		add_line(c, psprintf("X-Trace-Id: %s", w->task->trace_id));
	add_auth(c, row, &w->task->tenant);
}

static Jsonb *
arguments_of(Jsonb *config, Jsonb *params)
{
	Jsonb	   *given = goya_json_get(config, "arguments");

	if (given == NULL)
		given = goya_json_is_object(params) ? params : goya_json_object(0, NULL, NULL);
	if (!goya_json_is_object(given))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the arguments of a tool must be an object, got %s", goya_json_type_name(given))));
	return goya_json_copy(given);
}

/* The call no longer counts, and no longer opens a session. */
static void
end_call(void *arg)
{
	GoyaMcpNode   *s = arg;

	if (s->counted)
		s->call.server->in_flight--;
	if (s->call.server->opener == &s->call)
		s->call.server->opener = NULL;
}

static bool
must_wait(const GoyaMcpServer *server, const ServerRow *row)
{
	if (row->max_concurrency > 0 && server->in_flight >= row->max_concurrency)
		return true;
	return server->opener != NULL && server->era != GOYA_MCP_MODERN && !server->ready;
}

static bool
start(GoyaExchange *x, GoyaBatch *b, const GoyaWork *w, GoyaNodeScope *scope, Jsonb *config)
{
	const GoyaNode *n = &w->task->plan->nodes[w->node];
	char	   *server_name = text_field(config, "server", true);
	char	   *tool = text_field(config, "tool", true);
	char	   *hash = text_field(config, "tool_hash", false);
	ServerRow	row;
	GoyaMcpNode   *s;
	GoyaMcpCall *c;
	GoyaMcpServer *server;

	load_row(&row, &w->task->tenant, server_name, tool);
	check_unchanged(&row, server_name, tool, hash);
	server = goya_mcp_server(&row.id, row.revision);
	if (must_wait(server, &row))
	{
		x->pause_ms = BUSY_PAUSE_MS;
		return false;
	}
	s = palloc0(sizeof(GoyaMcpNode));
	c = &s->call;
	x->state = s;
	s->server = row.id;
	s->server_name = server_name;
	s->started_at = GetCurrentTimestamp();
	s->known_version = row.protocol_version;
	s->knows_capabilities = row.has_capabilities;
	s->output_schema = row.output_schema;
	s->idempotent = n->idempotent || strcmp(tool, GOYA_MCP_LIST_TOOLS) == 0 ||
		(row.trusted && (goya_json_get_bool(row.annotations, "readOnlyHint", false) ||
						 goya_json_get_bool(row.annotations, "idempotentHint", false)));
	c->x = x;
	c->server = server;
	c->url = row.url;
	c->tool = tool;
	c->input_schema = row.input_schema;
	c->arguments = arguments_of(config, scope->params);
	c->wanted = strcmp(row.protocol, "auto") == 0 ? GOYA_MCP_UNKNOWN :
		strcmp(row.protocol, GOYA_MCP_MODERN_VERSION) == 0 ? GOYA_MCP_MODERN : GOYA_MCP_LEGACY;
	c->idempotency_key = goya_call_idempotency_key(w);
	add_headers(c, &row, w);
	if (n->timeout_ms <= 0 && row.timeout_ms > 0)
		x->deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), row.timeout_ms);
	goya_mcp_begin(c);
	/* Nothing throws from here on. */
	s->counted = true;
	server->in_flight++;
	s->on_end.func = end_call;
	s->on_end.arg = s;
	MemoryContextRegisterResetCallback(x->cxt, &s->on_end);
	return true;
}

/* ----- answers ----- */

static void
received(GoyaExchange *x, const char *data, size_t len)
{
	goya_mcp_received(&((GoyaMcpNode *) x->state)->call, data, len);
}

static GoyaStep
answered(GoyaExchange *x, GoyaHttpResult *answer)
{
	return goya_mcp_answered(&((GoyaMcpNode *) x->state)->call, answer);
}

static void
abandoned(GoyaExchange *x)
{
	goya_mcp_abandoned(&((GoyaMcpNode *) x->state)->call);
}

/* ----- records ----- */

static Jsonb *
tools_array(const GoyaMcpNode *s)
{
	Jsonb	  **values = palloc(sizeof(Jsonb *) * (list_length(s->call.tools) + 1));
	int			n = 0;
	ListCell   *lc;

	foreach(lc, s->call.tools)
	{
		Jsonb	   *tool = lfirst(lc);
		char	   *problem;

		if (!goya_json_is_object(tool) || goya_json_get_text(tool, "name") == NULL)
			continue;
		if (s->call.era == GOYA_MCP_MODERN && !goya_mcp_header_params_valid(goya_json_get(tool, "inputSchema"), &problem))
		{
			ereport(LOG,
					(errmsg("tool \"%s\" of MCP server \"%s\" was left out", goya_mcp_clip(goya_json_get_text(tool, "name")),
							s->server_name),
					 errdetail("Its schema is not acceptable: %s.", problem)));
			continue;
		}
		values[n++] = tool;
	}
	return goya_json_array(n, values);
}

static char *
session_hash(const char *session)
{
	if (session[0] == '\0')
		return NULL;
	return psprintf(UINT64_FORMAT, hash_bytes_extended((const unsigned char *) session, (int) strlen(session), 0));
}

/* What the catalog is told: of the call, and of the server when that is new. */
static Jsonb *
note_of(const GoyaMcpNode *s, const GoyaWork *w, const GoyaExchange *x, const GoyaOutcome *o)
{
	const GoyaMcpCall *c = &s->call;
	bool		spoke = c->result != NULL || c->rpc_error != NULL;
	GoyaJsonObject note;

	goya_json_object_start(&note);
	goya_json_add_text(&note, "server_id", goya_uuid_text(&s->server));
	goya_json_add_text(&note, "server", s->server_name);
	goya_json_add_text(&note, "tenant_id", goya_uuid_text(&w->task->tenant));
	goya_json_add_text(&note, "task_id", goya_uuid_text(&w->task->id));
	goya_json_add_text(&note, "node", w->task->plan->nodes[w->node].key);
	goya_json_add_int(&note, "item", w->item);
	goya_json_add_int(&note, "attempt", w->attempt);
	goya_json_add_text(&note, "tool", c->tool);
	goya_json_add_text(&note, "protocol_version", c->version[0] ? c->version : NULL);
	goya_json_add_text(&note, "session_hash", session_hash(c->session));
	goya_json_add_int(&note, "requests", x->n_requests);
	goya_json_add_int(&note, "resumed", c->total_resumed);
	goya_json_add_int(&note, "progress", c->n_progress);
	goya_json_add_int(&note, "asked", c->n_asked);
	goya_json_add_text(&note, "message", c->last_message);
	goya_json_add_int(&note, "started_us", s->started_at);
	goya_json_add_bool(&note, "ok", o->ok);
	if (!o->ok)
		goya_json_add(&note, "error_class", goya_json_get(o->error, "class"));
	if (spoke && (s->known_version == NULL || strcmp(s->known_version, c->version) != 0 || !s->knows_capabilities))
	{
		goya_json_add(&note, "capabilities", c->capabilities);
		goya_json_add(&note, "server_info", c->server_info);
	}
	goya_json_add_text(&note, "status", spoke ? "ready" : "failing");
	return goya_json_object_finish(&note);
}

static void
judge(GoyaExchange *x, GoyaHttpResult *last, GoyaBatch *b, const GoyaWork *w, GoyaNodeScope *scope, GoyaOutcome *o)
{
	GoyaMcpNode   *s = x->state;
	MemoryContext cxt = CurrentMemoryContext;
	bool		listed = s->call.result != NULL && strcmp(s->call.tool, GOYA_MCP_LIST_TOOLS) == 0;
	GoyaStoreScope store;
	Datum		args[2];
	char		nulls[3] = "  ";

	if (listed)
		o->ok = true;
	else
		goya_mcp_decide(s, last, &w->task->plan->nodes[w->node], o);
	args[0] = JsonbPGetDatum(note_of(s, w, x, o));
	args[1] = listed ? JsonbPGetDatum(tools_array(s)) : (Datum) 0;
	nulls[1] = listed ? ' ' : 'n';
	goya_store_enter(&store);
	goya_store_run(GOYA_STMT_MCP_NOTE, args, nulls);
	if (listed)
		o->output = goya_result_jsonb(0, 1, cxt);
	goya_store_leave(&store);
}

const GoyaExchangeType goya_mcp_exchange = {
	.name = "mcp",
	.start = start,
	.received = received,
	.answered = answered,
	.abandoned = abandoned,
	.judge = judge
};
