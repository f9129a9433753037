/*-------------------------------------------------------------------------
 * plan.h
 *		A workflow definition compiled for running: nodes by index, edges, counters, expressions.  Pure: no SQL, except the optional
 *		look-ups of validation.  A plan lives in its own memory context (plan->cxt) and is never changed once made.
 *
 * Hidden nodes.  The body of a map and a compensation are nodes of the plan too, after the ones the author wrote: index >= n_listed.
 * A map's body has the key its author gave it (default "<map>.item"); the compensation of node a has the key "a.compensate".
 * An agent has one for each thing it calls, "<agent>.model" and so on (plan_agent.c).
 *-------------------------------------------------------------------------
 */
#ifndef GOYA_PLAN_H
#define GOYA_PLAN_H

#include "postgres.h"
#include "utils/hsearch.h"
#include "utils/jsonb.h"
#include "schema.h"
#include "template.h"

#define GOYA_MAX_NODES		10000
#define GOYA_MAX_DEPTH		64			/* nesting of the definition's JSON */
#define GOYA_MAX_DEFINITION (1024 * 1024)	/* bytes of its text */
#define GOYA_MAX_PROBLEMS	1000		/* listed; a megabyte can hold 200,000. The first error is always among them. */

typedef enum GoyaNodeKind
{
	GOYA_NODE_NOOP,				/* inline kinds first: they need no process of their own */
	GOYA_NODE_TRANSFORM,
	GOYA_NODE_CONDITION,
	GOYA_NODE_MAP,
	GOYA_NODE_AGENT,
	GOYA_NODE_SLEEP,			/* waiting kinds */
	GOYA_NODE_WAIT,
	GOYA_NODE_APPROVAL,
	GOYA_NODE_WORKFLOW,
	GOYA_NODE_WORKER,
	GOYA_NODE_SQL,				/* executor */
	GOYA_NODE_HTTP,				/* outside calls, the engine's; all after http have a config */
	GOYA_NODE_AI_MODEL,
	GOYA_NODE_MCP,
	GOYA_NODE_CLI
} GoyaNodeKind;

#define GOYA_NODE_CALLS(kind) ((kind) >= GOYA_NODE_HTTP)

typedef enum GoyaEdgeOn
{
	GOYA_ON_SUCCESS, GOYA_ON_FAILURE, GOYA_ON_ALWAYS
} GoyaEdgeOn;

typedef enum GoyaBackoff
{
	GOYA_BACKOFF_EXPONENTIAL, GOYA_BACKOFF_LINEAR, GOYA_BACKOFF_FIXED
} GoyaBackoff;

/* Classes of errors, as bits for retry.on. */
#define GOYA_ERR_TRANSIENT			0x001
#define GOYA_ERR_TIMEOUT			0x002
#define GOYA_ERR_RESOURCE_LIMIT		0x004
#define GOYA_ERR_VALIDATION			0x008
#define GOYA_ERR_POLICY_DENY		0x010
#define GOYA_ERR_DEPENDENCY			0x020
#define GOYA_ERR_TOOL_BUG			0x040
#define GOYA_ERR_MODEL_REASONING	0x080
#define GOYA_ERR_UNKNOWN			0x100
#define GOYA_ERR_CRASH				0x200	/* never retried, and no name for retry.on */
#define GOYA_ERR_RETRIED_BY_DEFAULT (0x1ff & ~(GOYA_ERR_VALIDATION | GOYA_ERR_POLICY_DENY))

extern const char *goya_error_class_name(int bit);
extern int	goya_error_class_bit(const char *name);	/* 0 when there is none */

typedef struct GoyaRetry
{
	int			max_attempts;	/* 1 = no retry */
	GoyaBackoff backoff;
	int64		initial_ms;		/* default 1000 */
	int64		max_ms;			/* default 300000 */
	double		jitter;			/* 0..1 share of the delay that is random; default 0.1 */
	int			on;				/* GOYA_ERR_ bits */
} GoyaRetry;

/* Delay before the given attempt (2, 3 ...); random is in [0,1). */
extern int64 goya_retry_delay_ms(const GoyaRetry *r, int attempt, double random);

typedef struct GoyaEdge
{
	int			from,
				to;				/* plan indexes */
	GoyaEdgeOn	on;
	GoyaExpr   *when;			/* NULL: always true */
	GoyaRefs	when_refs;
	char	   *case_name;		/* from a condition with cases: fires only for that case; else NULL */
} GoyaEdge;

typedef struct GoyaCase			/* condition: cases in order */
{
	char	   *name;
	GoyaExpr   *when;
} GoyaCase;

typedef struct GoyaArtifactSpec
{
	char	   *type;			/* asset | result | timeline | report */
	GoyaTemplate *name;			/* NULL: node key */
	GoyaTemplate *data;			/* NULL: the output itself; with each, evaluated per element with item, index */
	GoyaTemplate *each;			/* NULL: one artifact; else an array */
} GoyaArtifactSpec;

typedef struct GoyaNode
{
	int			index;
	char	   *key;
	GoyaNodeKind kind;
	bool		hidden;
	int			owner;			/* body: index of its map; compensation: index of the node it undoes; else -1 */
	bool		is_compensation;

	int		   *in_edges;
	int			n_in;
	int		   *out_edges;
	int			n_out;
	bool		join_any;
	bool		handles_failure;	/* some out edge is on failure or always */

	GoyaTemplate *input;		/* NULL: the default, see goya_plan_default_input */
	GoyaRefs	refs;			/* what its templates and expressions read, out edges' when included, default input included */
	GoyaRetry	retry;
	int64		timeout_ms;		/* 0 = the kind's default */
	int			compensate;		/* index of the hidden compensation node, -1 */

	/* price: NULL name = free */
	char	   *price_name;
	GoyaTemplate *price_quantity;	/* NULL: 1; otherwise a number, or an object unit -> number; roots incl. output */
	int64		price_estimate; /* units assumed when quoting; default 1 */
	char	   *cost_tag;		/* of its usage: its own, or its owner's; NULL: none */

	GoyaArtifactSpec *artifacts;
	int			n_artifacts;
	GoyaTemplate *writes;		/* {"vars": {...}, "shared": {...}} with roots incl. output; NULL none */
	bool		idempotent;		/* outside call whose outcome is unknown may be made again (default true) */

	/* of an operator: what goes in and comes out, NULL when that may be anything; compiled when resolved */
	Jsonb	   *input_schema;
	Jsonb	   *output_schema;
	GoyaSchema *input_check;
	GoyaSchema *output_check;

	/* sql */
	char	   *function;		/* "schema.f" */
	GoyaTemplate *wrap;			/* NULL, or the fields of a tenant's own kind: the function gets {"config": them, "input": input} */

	/* http */
	GoyaTemplate *method;		/* default GET, POST when there is a body */
	GoyaTemplate *url;
	GoyaTemplate *headers;		/* object */
	GoyaTemplate *request_body; /* NULL: params for POST/PUT/PATCH */
	GoyaExpr   *success;		/* over {"output": {"status", "headers", "body"}}; NULL: status 200..299 */
	GoyaExpr   *output_path;	/* over the same document; NULL: whole {"status","headers","body"} … see http */
	int64		max_response;	/* bytes, 0 = setting */

	/* worker and outside calls but http: all fields of the kind, as one object (plan_call.c) */
	GoyaTemplate *config;
	Jsonb	   *session;		/* agent: what its session is to know; config: how it begins (plan_agent.c) */

	/* condition */
	GoyaExpr   *when;			/* boolean form: output {"result": bool}, cases true/false */
	GoyaCase   *cases;
	int			n_cases;
	char	   *default_case;	/* NULL: none fires */

	/* transform: output template */
	GoyaTemplate *output;

	/* map */
	GoyaTemplate *over;			/* array */
	int			body;			/* index of the hidden body node */
	int			max_parallel;	/* 0 = unbounded */
	int			error_budget;	/* items that may fail; -1 = all */

	/* wait, approval, sleep */
	char	   *signal;			/* wait: name */
	GoyaTemplate *message;		/* approval: text */
	Jsonb	   *form;			/* approval: JSON Schema, or NULL */
	GoyaTemplate *duration;		/* sleep: seconds (number) or interval text */
	GoyaTemplate *until;		/* sleep: timestamp text */

	/* workflow (child task) */
	char	   *workflow;		/* name */
	Jsonb	   *choice;			/* NULL, or of an algorithm: {"algorithm", "version", "policy", "candidates"} */
} GoyaNode;

typedef struct GoyaSharedKey
{
	char	   *key;
	char	   *type;			/* JSON type or NULL */
	char	   *conflict;		/* reject | overwrite | merge | append */
	bool		cas;
} GoyaSharedKey;

typedef struct GoyaPlan
{
	MemoryContext cxt;
	int			n_nodes;		/* with hidden ones */
	int			n_listed;
	GoyaNode   *nodes;
	int			n_edges;
	GoyaEdge   *edges;
	int		   *roots;			/* listed nodes without incoming edges */
	int			n_roots;
	Jsonb	   *input_schema;	/* or NULL */
	bool		has_context;
	Jsonb	   *context_spec;	/* definition.context or NULL: {"vars": {k: {type,required,readonly,default}}, "shared": {k: {type,conflict,cas}}} */
	GoyaTemplate *output;		/* NULL: output of the single sink, or an object by key of the sinks that succeeded */
	GoyaRefs	output_refs;	/* sinks included when output is NULL */
	bool		has_prices;
	bool		has_compensation;
	HTAB	   *by_key;			/* key -> index */
} GoyaPlan;

/* Problems, as rows. */
typedef struct GoyaProblem
{
	const char *severity;		/* error | warning */
	const char *code;			/* snake_case, stable */
	char	   *node;			/* key or NULL */
	char	   *path;			/* JSON pointer into the definition */
	char	   *message;
	char	   *hint;
} GoyaProblem;

/* What rows say of an operator or algorithm. */
typedef struct GoyaOperatorFacts
{
	char	   *status;			/* of the version; an algorithm's: NULL when nothing implements it */
	Jsonb	   *input_schema;
	Jsonb	   *output_schema;
} GoyaOperatorFacts;

/* A kind of nodes of a tenant's own. */
typedef struct GoyaCustomKind
{
	char	   *function;
	Jsonb	   *schema;			/* of its fields */
} GoyaCustomKind;

/*
 * Look-ups that validation may use when connected to a database; any may be NULL.  Return false when absent.
 */
typedef struct GoyaPlanLookups
{
	bool		(*operator_exists) (const char *name, int version /* 0 = active */ , char **mode, void *arg);
	bool		(*workflow_exists) (const char *name, void *arg);
	/* 1 fine; 0 no such function f(jsonb); -1 it exists with other arguments; -2 returns a set */
	int			(*function_check) (const char *name, void *arg);
	bool		(*price_exists) (const char *name, void *arg);
	bool		(*operator_facts) (const char *name, int version, GoyaOperatorFacts *facts, void *arg);
	bool		(*algorithm_facts) (const char *name, int version, GoyaOperatorFacts *facts, void *arg);
	const GoyaCustomKind *(*node_kind) (const char *name, void *arg);	/* NULL: there is none */
	void	   *arg;
	Jsonb	   *(*bundle_schema) (Jsonb *schema, void *arg);	/* with the registered documents it refers to */
} GoyaPlanLookups;

/* The problem of a schema that refers to a document it does not carry along. */
#define GOYA_UNKNOWN_SCHEMA "unknown_schema"

/*
 * Compile.  problems (List of GoyaProblem*, in the current context) gets every problem at once, up to a limit; returns NULL when any is an error.
 * resolved: operator nodes have already been replaced by their pinned sql/http form (that is what a revision stores).  With resolved
 * false, kind "operator" is accepted and checked through look-ups, and the resulting plan is only good for validation and pictures.
 * Never ereports for a bad definition.  The plan is made in a new context under parent.
 */
extern GoyaPlan *goya_plan_compile(Jsonb *definition, bool resolved, MemoryContext parent, const GoyaPlanLookups *lookups,
								   List **problems);
extern int	goya_plan_node_index(const GoyaPlan *plan, const char *key);	/* -1 */

#endif
