/*-------------------------------------------------------------------------
 * mcp.h
 *		The Model Context Protocol over HTTP, the client's side: what one call says, and what the engine remembers of a server.
 *
 * Two eras of the protocol are spoken.  Legacy (2025-11-25 and before): initialize, a session, requests of the server inside an answer's
 * stream, streams that are resumed.  Modern (2026-07-28): every request carries version and identity, and none of that exists.  Which one
 * a server speaks is asked with server/discover, which changes nothing there, and remembered.
 *
 * What must hold: nothing here runs SQL.  Memory of a call is its exchange's; of servers, a context below TopMemoryContext.
 *-------------------------------------------------------------------------
 */
#ifndef GOYA_MCP_H
#define GOYA_MCP_H

#include "lib/stringinfo.h"

#include "event_stream.h"
#include "exchange.h"

#define GOYA_MCP_MODERN_VERSION		"2026-07-28"
#define GOYA_MCP_LEGACY_VERSION		"2025-11-25"
#define GOYA_MCP_LIST_TOOLS			"*" /* as a tool's name: list them all */

/* ----- mcp_stream.c: server-sent events ----- */

typedef struct GoyaMcpStream
{
	bool		begun;
	bool		is_json;		/* it is no stream of events but one document: nothing is read */
	GoyaEventStream events;
	char	   *last_id;		/* of the last whole event that had one */
	int			n_events;
} GoyaMcpStream;

typedef void (*GoyaMcpEventFn) (void *arg, const char *data, int len);

extern void goya_mcp_stream_init(GoyaMcpStream *s);
extern void goya_mcp_stream_restart(GoyaMcpStream *s);	/* of a new connection; what was said of ids and pauses stays */
extern void goya_mcp_stream_feed(GoyaMcpStream *s, const char *bytes, size_t len, GoyaMcpEventFn fn, void *arg);

/* ----- mcp_server.c: what is remembered of servers ----- */

typedef enum GoyaMcpEra
{
	GOYA_MCP_UNKNOWN, GOYA_MCP_LEGACY, GOYA_MCP_MODERN
} GoyaMcpEra;

typedef struct GoyaMcpServer
{
	pg_uuid_t	id;				/* hash key */
	int			revision;		/* of its configuration: another one, and all is forgotten */
	GoyaMcpEra	era;
	bool		ready;			/* legacy: initialized */
	char		version[32];
	char		session[1024];	/* legacy: "" if the server has none */
	uint64		generation;		/* counts sessions, so that a lost one is forgotten once */
	void	   *opener;			/* the call that is opening a session; NULL: none */
	int			in_flight;
} GoyaMcpServer;

extern GoyaMcpServer *goya_mcp_server(const pg_uuid_t *id, int revision);
extern void goya_mcp_server_forget(GoyaMcpServer *server, uint64 generation);
extern uint64 goya_mcp_next_id(void);

/* ----- mcp.c: one call ----- */

typedef enum GoyaMcpPhase
{
	GOYA_MCP_DISCOVER, GOYA_MCP_INITIALIZE, GOYA_MCP_INITIALIZED, GOYA_MCP_WORK
} GoyaMcpPhase;

typedef struct GoyaMcpCall
{
	GoyaExchange *x;
	GoyaMcpServer *server;
	MemoryContext scratch;		/* of one message */

	/* what is called, and how; set once */
	char	   *url;
	char	  **headers;		/* of the configuration, secrets in them */
	int			n_headers;
	struct GoyaSecrets *secrets;	/* taken out of all that comes; NULL: none */
	GoyaMcpEra	wanted;			/* unknown: whatever the server speaks */
	char	   *idempotency_key;
	char	   *tool;			/* GOYA_MCP_LIST_TOOLS: list them */
	Jsonb	   *arguments;
	Jsonb	   *input_schema;	/* as far as it is known */

	/* where it is */
	GoyaMcpPhase phase;
	int			revision;		/* of the server's configuration */
	GoyaMcpEra	era;			/* of the request that is out */
	const char *version;
	const char *session;		/* "": none */
	uint64		generation;		/* of that session */
	uint64		id;				/* of the request that is out; 0: none wants an answer */
	GoyaMcpStream stream;
	bool		resuming;		/* the request out is a GET for the rest of a stream */
	int			n_resumed;		/* in a row, without an event */
	int			n_sessions;		/* opened by this call */
	int			n_rounds;		/* of questions answered in a result (modern) */
	int			n_versions;		/* tried */
	Jsonb	   *answers;		/* to those questions */
	char	   *request_state;
	char	   *cursor;			/* next page */
	bool		tool_sent;		/* the tool may have run */

	/* what came of it */
	Jsonb	   *reply;			/* the message that answers the request that is out */
	Jsonb	   *result;			/* of the call; NULL: none */
	Jsonb	   *rpc_error;		/* the server's error */
	const char *problem;		/* what is wrong with what the server sent */
	List	   *tools;			/* Jsonb* tools, of all pages */
	Jsonb	   *capabilities;	/* said in this call; NULL: not asked */
	Jsonb	   *server_info;
	int			n_progress;
	char	   *last_message;
	int			n_asked;		/* requests of the server inside the stream */
	int			total_resumed;
} GoyaMcpCall;

extern void goya_mcp_begin(GoyaMcpCall *c);
extern void goya_mcp_received(GoyaMcpCall *c, const char *data, size_t len);
extern GoyaStep goya_mcp_answered(GoyaMcpCall *c, GoyaHttpResult *answer);
extern void goya_mcp_abandoned(GoyaMcpCall *c);

/* ----- mcp_message.c: what comes ----- */

extern bool goya_mcp_is_stream(GoyaHttpResult *answer);
extern void goya_mcp_take_text(void *call, const char *data, int len);	/* one message; the answer becomes c->reply */
extern void goya_mcp_clean(GoyaMcpCall *c, GoyaHttpResult *answer);

/* ----- mcp_request.c: what is sent ----- */

extern void goya_mcp_ask(GoyaMcpCall *c, const char *method, Jsonb *params);	/* a request; its id is c->id */
extern void goya_mcp_notify(GoyaMcpCall *c, const char *method, Jsonb *params, bool aside);
extern void goya_mcp_respond(GoyaMcpCall *c, Jsonb *id, Jsonb *result, int code, const char *error);	/* always aside */
extern void goya_mcp_resume(GoyaMcpCall *c);	/* a GET for the rest of the stream */
extern bool goya_mcp_header_params_valid(Jsonb *input_schema, char **problem);


/* ----- node_mcp.c, node_mcp_outcome.c: a node's call ----- */

typedef struct GoyaMcpNode
{
	GoyaMcpCall call;
	MemoryContextCallback on_end;
	bool		counted;
	pg_uuid_t	server;
	char	   *server_name;
	bool		idempotent;		/* may run twice */
	Jsonb	   *output_schema;	/* NULL: not known */
	char	   *known_version;	/* what the catalog says of the server; NULL: nothing */
	bool		knows_capabilities;
	TimestampTz started_at;
} GoyaMcpNode;

extern void goya_mcp_decide(GoyaMcpNode *s, GoyaHttpResult *last, const GoyaNode *n, GoyaOutcome *o);
extern char *goya_mcp_clip(const char *text);

#endif
