/*-------------------------------------------------------------------------
 * model.h
 *		What the files of the ai_model kind share: a call of a model, from its node's configuration to its outcome.
 *
 *		node_model.c	the exchange: the order of things, fallback, repair, the outcome
 *		model_config.c	in the claiming transaction: which models, which messages, an answer that is kept already
 *		model_request.c	one request for one model
 *		model_answer.c	what a whole answer says: text, tool calls, vectors, images
 *		model_stream.c	the same of an answer that comes in pieces (server-sent events)
 *		model_usage.c	tokens, in the shapes in which services tell them
 *		model_schema.c	does the answer fit the node's schema
 *		model_limits.c	requests and tokens a minute, calls at once: of one model, over all tasks
 *
 * Everything of a call is in the exchange's context.
 *-------------------------------------------------------------------------
 */
#ifndef GOYA_MODEL_H
#define GOYA_MODEL_H

#include "postgres.h"
#include "lib/stringinfo.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "batch.h"
#include "event_stream.h"
#include "exchange.h"
#include "schema.h"
#include "secret.h"
#include "stream.h"

typedef enum GoyaModelOperation
{
	GOYA_MODEL_CHAT, GOYA_MODEL_EMBEDDING, GOYA_MODEL_IMAGE
} GoyaModelOperation;

/* Of a model over all its calls; 0: no limit. */
typedef struct GoyaModelLimits
{
	int			requests;		/* a minute */
	int			tokens;			/* a minute */
	int			at_once;
} GoyaModelLimits;

/* A place taken under a model's limits; given back when its context dies, or by goya_model_limit_return. */
typedef struct GoyaModelPlace
{
	MemoryContextCallback on_reset;
	pg_uuid_t	model;
	bool		held;
	int64		reserved;		/* tokens */
	TimestampTz since;
} GoyaModelPlace;

/* One of the models that may answer. */
typedef struct GoyaModelTarget
{
	pg_uuid_t	id;
	char	   *name;			/* in the registry */
	char	   *remote;			/* what its service calls it */
	char	   *endpoint;		/* base url, no slash at the end */
	char	   *authorization;	/* header, or NULL; wiped with the secrets */
	Jsonb	   *parameters;		/* its defaults; or NULL */
	int			timeout_ms;		/* 0: the node's */
	bool		no_schema;		/* its service knows no json_schema: the schema is told in words */
	GoyaModelLimits limits;
} GoyaModelTarget;

/* Tokens; -1: not told. */
typedef struct GoyaModelUsage
{
	int64		input;
	int64		output;
} GoyaModelUsage;

/* A call of a tool that the model wants; in a stream it comes bit by bit. */
typedef struct GoyaModelTool
{
	StringInfoData id;
	StringInfoData name;
	StringInfoData arguments;
} GoyaModelTool;

#define GOYA_MODEL_MAX_TOOLS 128

/* What one request has been answered so far. */
typedef struct GoyaModelAnswer
{
	MemoryContext cxt;			/* of all that is kept in it */
	StringInfoData text;
	int			passed;			/* bytes of the text that are clean, and in the stream */
	StringInfoData reasoning;
	GoyaModelTool *tools;		/* GOYA_MODEL_MAX_TOOLS of them, once there is one */
	int			n_tools;
	char	   *finish;			/* stop, length, tool_calls …; or NULL */
	char	   *model;			/* as the service says; or NULL */
	Jsonb	   *vectors;		/* embeddings: array of arrays */
	Jsonb	   *images;			/* array of {"url"} or {"base64", "media_type"} */
	GoyaModelUsage usage;
	int64		deltas;			/* pieces of text and the like that came */
	char	   *problem;		/* it cannot be understood: why */
	char	   *refusal;		/* the service says in the answer that it failed: why */
	bool		ended;			/* [DONE], or a finish reason was seen */
} GoyaModelAnswer;

/* An answer that comes as server-sent events. */
typedef struct GoyaModelEvents
{
	GoyaEventStream stream;
	bool		not_events;		/* it is something else: a plain answer */
	bool		begun;
} GoyaModelEvents;

typedef struct GoyaModelCall
{
	GoyaModelOperation operation;
	GoyaNode	node;			/* only idempotent is set: for goya_call_fail_transfer */
	char	   *key;			/* Idempotency-Key */
	char	   *trace_id;

	GoyaModelTarget *targets;
	int			n_targets;
	int			current;
	GoyaModelPlace place;

	Jsonb	   *messages;		/* chat */
	Jsonb	   *input;			/* embedding: text or array; image: the prompt */
	Jsonb	   *parameters;		/* the node's; or NULL */
	Jsonb	   *tools;
	Jsonb	   *tool_choice;
	Jsonb	   *schema_json;
	GoyaSchema *schema;
	int64		prompt_bytes;
	bool		stream;
	bool		spill;			/* images become assets */
	bool		sealed;			/* the tenant wants prompts and completions encrypted at rest */
	bool		repairing;
	bool		cut;			/* the last answer ended early */
	int			n_answered;		/* requests that a service has worked on */

	Jsonb	   *cached;			/* an answer kept from an earlier call: there is no request */
	char	   *cache_key;		/* keep the answer under this; NULL: do not */
	int			cache_seconds;

	GoyaSecrets *secrets;		/* NULL: none */
	StringInfoData held;		/* end of what was received, while a secret may go on in the next piece */
	TimestampTz sent_at;
	GoyaModelEvents events;
	GoyaModelAnswer *answer;	/* of the request that is out, or was last */
	GoyaStream *out;			/* deltas for readers; NULL: none */

	GoyaModelUsage used;		/* by all requests so far; -1: nothing known */
	bool		estimated;
	List	   *attempts;		/* Jsonb* */
	Jsonb	   *value;			/* the answer as JSON, when there is a schema */
	GoyaOutcome failure;		/* error NULL: none */
} GoyaModelCall;

/* model_config.c: throws. */
extern GoyaModelCall *goya_model_prepare(GoyaExchange *x, GoyaBatch *b, const GoyaWork *w, Jsonb *config);
extern void goya_model_keep_answer(GoyaModelCall *call, const pg_uuid_t *tenant, Jsonb *output);

/* model_request.c */
extern void goya_model_request(GoyaExchange *x, GoyaModelCall *call);
extern int64 goya_model_expected_tokens(const GoyaModelCall *call, const GoyaModelTarget *target);
extern Jsonb *goya_model_repair_messages(Jsonb *messages, const char *answer, List *errors);

/* model_answer.c */
extern GoyaModelAnswer *goya_model_answer_create(void);
extern void goya_model_answer_read(GoyaModelAnswer *a, GoyaModelOperation operation, const char *body, size_t len);
extern void goya_model_answer_delta(GoyaModelAnswer *a, Jsonb *event);
extern Jsonb *goya_model_answer_tools(const GoyaModelAnswer *a);
extern Jsonb *goya_model_spill(const GoyaWork *w, Jsonb *output);	/* images become assets; in the recording transaction */
extern Jsonb *goya_model_parse(const char *text, size_t len, char **error);	/* JSON that may be wrong */

/* model_stream.c */
extern void goya_model_events_reset(GoyaModelEvents *e);
extern void goya_model_events_read(GoyaModelEvents *e, const char *data, size_t len, GoyaEventFn on_event, void *arg);

/* model_usage.c */
extern void goya_model_usage_read(GoyaModelUsage *u, Jsonb *doc);
extern void goya_model_usage_add(GoyaModelUsage *sum, const GoyaModelUsage *more);
extern int64 goya_model_tokens_of_bytes(int64 bytes);

/* model_schema.c */
extern bool goya_model_fits(GoyaModelCall *call, List **errors);

/* model_limits.c */
extern bool goya_model_limit_take(GoyaModelPlace *place, const GoyaModelTarget *target, int64 tokens, long *wait_ms);
extern void goya_model_limit_return(GoyaModelPlace *place, int64 tokens);
extern void goya_model_limit_refused(const pg_uuid_t *model, long ms);

#endif
