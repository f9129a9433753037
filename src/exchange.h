/*-------------------------------------------------------------------------
 * exchange.h
 *		An outside call of a node: an exchange of one or more requests with a service or a program.
 *
 *		claim:	 in the claiming transaction start() makes the first request of the node's configuration, with templates, tables and
 *				 secrets at hand.  It may say "not now" (a limit), and then nothing has happened.
 *		answers: with no transaction open received() gets bytes of an answer as they come, if the request asked for that, and answered()
 *				 each whole one; it says what is sent next, after a pause if need be, or that the exchange is over.
 *		record:	 in the recording transaction, under the task's lock, judge() says what the outcome is.
 *
 * What was decided.  All of it is in the engine's memory: an engine that starts anew begins the exchange again if the node is idempotent,
 * with the same Idempotency-Key.  A plain http node has no exchange (NULL): one request, judged by node_http.c.
 *
 * What must hold.  answered() and received() run no SQL and touch nothing but the exchange; what they throw becomes the node's error.
 * judge() may run twice, when recording fails and is tried again: it changes nothing in the exchange.  Everything of an exchange is in its
 * context, which dies when the outcome is recorded; secrets in it are wiped by callbacks of that context.
 *-------------------------------------------------------------------------
 */
#ifndef GOYA_EXCHANGE_H
#define GOYA_EXCHANGE_H

#include "batch.h"

typedef enum GoyaStep
{
	GOYA_STEP_SEND,				/* x->request is sent, after x->pause_ms */
	GOYA_STEP_OVER
} GoyaStep;

typedef struct GoyaExchangeType
{
	const char *name;
	/* Throws: the node fails.  False: not now, again in x->pause_ms. */
	bool		(*start) (GoyaExchange *x, GoyaBatch *b, const GoyaWork *w, GoyaNodeScope *scope, Jsonb *config);
	void		(*received) (GoyaExchange *x, const char *data, size_t len);	/* NULL: nothing wants it */
	GoyaStep	(*answered) (GoyaExchange *x, GoyaHttpResult *answer);	/* NULL: one request */
	Jsonb	   *(*used) (GoyaExchange *x);	/* so far, in units of prices, for one that is cancelled; NULL: nothing is known of it */
	void		(*abandoned) (GoyaExchange *x); /* it was cancelled; what it leaves in x->aside is still sent; NULL: nothing */
	void		(*judge) (GoyaExchange *x, GoyaHttpResult *last, GoyaBatch *b, const GoyaWork *w, GoyaNodeScope *scope, GoyaOutcome *o);
} GoyaExchangeType;

struct GoyaExchange
{
	const GoyaExchangeType *type;
	MemoryContext cxt;
	GoyaHttpRequest request;	/* the next one; all it points to is in cxt */
	struct GoyaChildRequest *child; /* instead: a program (child.h) */
	long		pause_ms;		/* before it */
	bool		known;			/* start() knows the outcome: nothing is sent, judge() is next, without an answer */
	int			n_requests;		/* sent */
	TimestampTz deadline;		/* of the whole exchange */
	struct GoyaEgress *egress;	/* rules for every request, NULL: none */
	ErrorData  *failure;		/* thrown by received or answered: the outcome */
	bool		enough;			/* set by received: no more of this answer is wanted, it ends soon, cancelled at the latest */
	List	   *aside;			/* GoyaHttpRequest *: sent at once, besides the next one; their answers are dropped */
	const char *node_key;		/* for its bill, should it be cancelled: */
	const char *price_name;		/* NULL: it costs nothing */
	const char *cost_tag;
	void	   *state;			/* the type's */
};

/* The types, by kind of node; NULL: none. */
extern const GoyaExchangeType *goya_exchange_type(GoyaNodeKind kind);
extern const GoyaExchangeType goya_http_exchange;	/* of nodes that are more than one plain request */
extern const GoyaExchangeType goya_model_exchange;	/* node_model.c */
extern const GoyaExchangeType goya_mcp_exchange;	/* node_mcp.c */

/* For types: what every request carries, and what a failed transfer or an unfriendly status means (node_http.c). */
extern char *goya_call_idempotency_key(const GoyaWork *w);
extern void goya_call_fail_transfer(GoyaOutcome *o, const GoyaNode *n, GoyaHttpResult *res);
extern void goya_call_fail_response(GoyaOutcome *o, GoyaHttpResult *res);
extern int	goya_call_timeout_ms(const GoyaNode *n);

#define GOYA_ASSET_BYTES 1048576	/* that an asset may hold inline */

/* For judge: bytes become an asset of the task, and what the output says of it. */
extern Jsonb *goya_exchange_keep_bytes(const GoyaWork *w, const char *bytes, size_t len, const char *type);

/* exchange.c: for calls.c. */
extern GoyaExchange *goya_exchange_start(GoyaBatch *b, const GoyaWork *w, GoyaNodeScope *scope, const GoyaExchangeType *type);
extern GoyaStep goya_exchange_answered(GoyaExchange *x, GoyaHttpResult *answer);
extern void goya_exchange_received(GoyaExchange *x, const char *data, size_t len);
extern void goya_exchange_judge(GoyaExchange *x, GoyaHttpResult *last, GoyaBatch *b, const GoyaWork *w, GoyaOutcome *o);

#endif
