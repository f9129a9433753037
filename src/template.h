/*-------------------------------------------------------------------------
 * template.h
 *		Values with {{ paths }} in them, compiled once and evaluated per node run.
 *
 * A template is any jsonb value.  A string that is exactly "{{ path }}" becomes the JSON value at that path; a path inside a longer
 * string is interpolated (strings as they are, other values as JSON text, null as nothing).  A path is either dotted
 * (input.a.b, nodes.probe.output.frames[0].uri, item.uri) or, when it starts with $, SQL/JSON path over a document with the same
 * roots; a jsonpath that can give many results ([*], .*, .**, filter) gives an array, any other its first result; nothing is null.
 *-------------------------------------------------------------------------
 */
#ifndef GOYA_TEMPLATE_H
#define GOYA_TEMPLATE_H

#include "postgres.h"
#include "fmgr.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"

/* Roots a path may start from. */
typedef enum GoyaRoot
{
	GOYA_ROOT_INPUT,			/* the task's input */
	GOYA_ROOT_ASSET,			/* the task's asset, a row of goya.assets as jsonb */
	GOYA_ROOT_NODES,			/* nodes.<key>.output | .error | .status */
	GOYA_ROOT_VARS,
	GOYA_ROOT_SHARED,
	GOYA_ROOT_ITEM,				/* body of a map: its element */
	GOYA_ROOT_INDEX,			/* ... and its number from 0 */
	GOYA_ROOT_TASK,				/* id, workflow, trace_id, created_at ... */
	GOYA_ROOT_TRIGGER,
	GOYA_ROOT_PARAMS,			/* this node's evaluated input (http url, headers, body) */
	GOYA_ROOT_OUTPUT,			/* this node's own output (artifact, writes, output selection, compensate) */
	GOYA_ROOT_EVENT,			/* trigger inputs and filters */
	GOYA_ROOT_PAYLOAD,
	GOYA_ROOT_SLOT,
	GOYA_N_ROOTS
} GoyaRoot;

#define GOYA_ROOT_BIT(r) (1u << (r))

/* What a template or expression reads: decided when compiled, so that only that is loaded. */
typedef struct GoyaRefs
{
	uint32		roots;			/* GOYA_ROOT_BITs */
	List	   *nodes;			/* int list: plan indexes of nodes read */
	bool		all_nodes;		/* reads nodes in a way that cannot be told apart: all upstream are loaded */
} GoyaRefs;

/*
 * Where evaluation finds values.  Returns NULL for absent.  For GOYA_ROOT_NODES, node is the plan index and the result is an object
 * {"output":…, "status":…, "error":…}; for other roots node is -1.
 */
typedef struct GoyaScope GoyaScope;
struct GoyaScope
{
	Jsonb	   *(*value) (GoyaScope *scope, GoyaRoot root, int node);
	const char *(*node_key) (GoyaScope *scope, int node);	/* for building documents for jsonpath */
	void	   *arg;
};

/* Resolves nodes.<key> while compiling; returns the plan index or -1. */
typedef int (*GoyaNodeLookup) (const char *key, int len, void *arg);

typedef struct GoyaTemplate GoyaTemplate;
typedef struct GoyaExpr GoyaExpr;	/* a jsonpath over the document of roots */

/*
 * Compile into the current memory context.  On a problem return NULL and set *error (palloc'd, says what and where) - never ereport
 * for bad templates.  refs is added to.  allowed is the set of roots that may be used.
 */
extern GoyaTemplate *goya_template_compile(const JsonbValue *value, uint32 allowed, GoyaNodeLookup lookup, void *arg,
										   GoyaRefs *refs, char **error);
extern GoyaExpr *goya_expr_compile(const char *text, int len, uint32 allowed, GoyaNodeLookup lookup, void *arg,
								   GoyaRefs *refs, char **error);

/* True when the template has no paths: evaluation gives the same value always. */
extern bool goya_template_is_constant(const GoyaTemplate *t);

/*
 * Evaluate in the current memory context.  May ereport(ERROR) for data errors (errcode 22023 or jsonpath's own codes): the caller
 * turns that into the node's error.
 */
extern Jsonb *goya_template_eval(const GoyaTemplate *t, GoyaScope *scope);
extern char *goya_template_eval_text(const GoyaTemplate *t, GoyaScope *scope);	/* as text: strings bare, null NULL, others JSON */
extern Jsonb *goya_expr_eval(const GoyaExpr *e, GoyaScope *scope);	/* all results when it can give many, else the first; NULL: there is none */
extern bool goya_expr_test(const GoyaExpr *e, GoyaScope *scope);	/* predicate: true only for a true result; also for `$.a ? (…)` with any result */

/*
 * Calls one of the server's jsonpath functions.  In a background worker it may take limit_ms, then it throws 54000.
 */
#define GOYA_MAX_JSONPATH_MS 1000	/* of a node */
#define GOYA_MAX_FILTER_MS	200		/* of a trigger: the engine tests it at every event */
extern Datum goya_jsonpath_call(PGFunction function, FunctionCallInfo fcinfo, int limit_ms);

#endif
