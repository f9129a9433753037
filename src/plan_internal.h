/*-------------------------------------------------------------------------
 * plan_internal.h
 *		What the files of the definition compiler share.  For plan*.c only.
 *
 *	plan.c			the order of things: limits, top-level fields, context, output
 *	plan_node.c		lists nodes and compiles the fields that every node has
 *	plan_kind.c		... and those of its kind
 *	plan_http.c		... of http nodes
 *	plan_call.c		... of kinds that call outside or hand work out
 *	plan_agent.c	... of agents
 *	plan_schema.c	schemas of operators, algorithms, kinds of a tenant's own
 *	plan_field.c	retry, price, artifact, writes
 *	plan_graph.c	edges, cycles, what is upstream
 *	plan_problem.c	problems, and readers of typed fields that report them
 *
 * Memory.  Everything is made in plan->cxt, which is current while compiling, except problems (in the caller's context) and what only
 * compiling needs (scratch, deleted at the end).
 *-------------------------------------------------------------------------
 */
#ifndef GOYA_PLAN_INTERNAL_H
#define GOYA_PLAN_INTERNAL_H

#include "plan.h"
#include "template_internal.h"

#define GOYA_MAX_KEY		63
#define GOYA_HASH_KEY		96	/* a hidden node's key is longer: <key>.item.compensate */

/* Common roots of every place; nodes inside maps, compensations and so on add their own. */
#define GOYA_COMMON_ROOTS \
	(GOYA_ROOT_BIT(GOYA_ROOT_INPUT) | GOYA_ROOT_BIT(GOYA_ROOT_ASSET) | GOYA_ROOT_BIT(GOYA_ROOT_NODES) | \
	 GOYA_ROOT_BIT(GOYA_ROOT_VARS) | GOYA_ROOT_BIT(GOYA_ROOT_SHARED) | GOYA_ROOT_BIT(GOYA_ROOT_TASK) | \
	 GOYA_ROOT_BIT(GOYA_ROOT_TRIGGER))
#define GOYA_ITEM_ROOTS		(GOYA_ROOT_BIT(GOYA_ROOT_ITEM) | GOYA_ROOT_BIT(GOYA_ROOT_INDEX))

typedef struct GoyaKeyEntry
{
	char		key[GOYA_HASH_KEY];
	int			index;
} GoyaKeyEntry;

/* A read of a node that is not a direct predecessor: checked when the graph is known. */
typedef struct GoyaNodeRead
{
	int			reader;
	int			node;
	const char *node_key;		/* of the problem */
	char	   *pointer;
} GoyaNodeRead;

typedef struct GoyaPlanBuild
{
	GoyaPlan   *plan;
	const GoyaPlanLookups *lookups; /* or NULL */
	bool		resolved;
	MemoryContext report_cxt;
	MemoryContext scratch;
	List	   *problems;
	bool		failed;
	int			hints_left;		/* searches for the nearest node key */

	JsonbValue	definition;
	JsonbValue	nodes;			/* array */
	JsonbValue *raw;			/* per listed node: its object, or null when it is none */
	JsonbValue	edges;			/* array, or null */
	int		   *edge_number;	/* per plan edge: its place in edges */
	int			max_nodes;		/* room in plan->nodes */

	/* what is being compiled */
	const char *node_key;		/* for problems; NULL outside of nodes */
	int			reader;			/* whose ancestors may be read; -1: any node */
	bool		reader_too;		/* and the reader itself */
	uint32		roots;			/* roots of the place */
	char		unknown_key[GOYA_HASH_KEY]; /* the last node key that was not found */

	/* context declarations: views of objects, or null */
	JsonbValue	vars;
	JsonbValue	shared;

	int		   *position;		/* per listed node: place in topological order, -1 on or behind a cycle */
	int		   *order;
	int			n_order;
	GoyaNodeRead *reads;
	int			n_reads;
	int			max_reads;
} GoyaPlanBuild;

/* plan_problem.c */
extern void goya_plan_report(GoyaPlanBuild *b, const GoyaWhere *at, const char *code, char *hint, const char *fmt,...) pg_attribute_printf(5, 6);
extern void goya_plan_warn(GoyaPlanBuild *b, const GoyaWhere *at, const char *code, char *hint, const char *fmt,...) pg_attribute_printf(5, 6);
extern void goya_plan_report_at(GoyaPlanBuild *b, const char *node, const char *pointer, const char *code, char *hint, char *message);
extern char *goya_plan_clip(const char *s, int len);	/* for messages */
extern const char *goya_plan_nearest(const char *name, int len, const char *const *names);
extern char *goya_plan_did_you_mean(const char *nearest);	/* hint or NULL */
extern void goya_plan_check_fields(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *object,
								   const char *const *known, const char *const *also);
extern void goya_plan_wrong_type(GoyaPlanBuild *b, const GoyaWhere *at, const char *expected, const JsonbValue *v);

/* Readers of fields.  false / NULL / otherwise: absent (JSON null counts as absent) or reported. */
extern bool goya_plan_field(const JsonbValue *object, const char *name, JsonbValue *v);
extern void goya_plan_missing(GoyaPlanBuild *b, const GoyaWhere *at, const char *name);
extern char *goya_plan_text(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *object, const char *name, bool required);
extern bool goya_plan_bool(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *object, const char *name, bool otherwise);
extern int64 goya_plan_int(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *object, const char *name, int64 otherwise,
						   int64 min, int64 max);
extern double goya_plan_double(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *object, const char *name, double otherwise,
							   double min, double max);
extern int64 goya_plan_duration(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *object, const char *name, int64 otherwise,
								int64 min);
extern bool goya_plan_choice(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *object, const char *name,
							 const char *const *choices, int *choice);
extern Jsonb *goya_plan_schema(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *object, const char *name);
extern GoyaTemplate *goya_plan_template(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *object, const char *name,
										uint32 allowed, GoyaRefs *refs);
extern GoyaExpr *goya_plan_expr(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *object, const char *name, bool required,
								uint32 allowed, GoyaRefs *refs);
extern GoyaTemplate *goya_plan_template_value(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *v, uint32 allowed, GoyaRefs *refs);

/* plan_node.c */
extern bool goya_plan_key_is_good(const char *key, int len);
extern int	goya_plan_find(const GoyaPlan *plan, const char *key, int len);
extern bool goya_plan_list_nodes(GoyaPlanBuild *b);
extern void goya_plan_compile_nodes(GoyaPlanBuild *b);
extern GoyaNode *goya_plan_compile_hidden(GoyaPlanBuild *b, const GoyaNode *owner, const char *key, const GoyaWhere *at, const JsonbValue *object);
extern void goya_plan_compile_body(GoyaPlanBuild *b, GoyaNode *map, const GoyaWhere *at, const JsonbValue *object);

/* plan_kind.c */
extern bool goya_plan_kind(const char *name, int len, GoyaNodeKind *kind, bool *is_operator);
extern const char *const *goya_plan_kind_names(void);
extern const char *const *goya_plan_kind_fields(GoyaNodeKind kind, bool is_operator);
extern void goya_plan_compile_kind(GoyaPlanBuild *b, GoyaNode *node, bool is_operator, const GoyaWhere *at, const JsonbValue *object);

/* plan_http.c */
#define GOYA_HTTP_CONFIG_FIELDS "auth", "secret_headers", "body_type", "stream", "redirects", "paging", "poll", "callback", "spill"
extern GoyaTemplate *goya_plan_required_template(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *object, const char *name, uint32 roots,
												 GoyaRefs *refs);
extern bool goya_plan_is_text_template(GoyaPlanBuild *b, const GoyaWhere *at, const char *name, const GoyaTemplate *t);
extern char *goya_plan_constant_text(const GoyaTemplate *t);
extern void goya_plan_compile_http(GoyaPlanBuild *b, GoyaNode *node, const GoyaWhere *at, const JsonbValue *object);

/* plan_call.c */
extern void goya_plan_compile_call(GoyaPlanBuild *b, GoyaNode *node, const GoyaWhere *at, const JsonbValue *object);
extern const char *const *goya_plan_call_fields(GoyaNodeKind kind, const char *const *also);

/* plan_schema.c */
extern void goya_plan_set_schemas(GoyaPlanBuild *b, GoyaNode *node, Jsonb *input, Jsonb *output);
extern void goya_plan_read_schemas(GoyaPlanBuild *b, GoyaNode *node, const GoyaWhere *at, const JsonbValue *object);
extern void goya_plan_check_connections(GoyaPlanBuild *b);
extern void goya_plan_compile_algorithm(GoyaPlanBuild *b, GoyaNode *node, const GoyaWhere *at, const JsonbValue *object);
extern bool goya_plan_read_choice(GoyaPlanBuild *b, GoyaNode *node, const GoyaWhere *at, const JsonbValue *object);
extern void goya_plan_compile_custom(GoyaPlanBuild *b, GoyaNode *node, const GoyaCustomKind *kind, const char *const *common, const GoyaWhere *at,
									 const JsonbValue *object);

/* plan_agent.c */
extern const char *const goya_plan_agent_fields[];
extern int	goya_plan_agent_hidden(const JsonbValue *node);
extern void goya_plan_compile_agent(GoyaPlanBuild *b, GoyaNode *node, const GoyaWhere *at, const JsonbValue *object);

/* plan_field.c */
extern void goya_plan_read_retry(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *object, GoyaRetry *retry);
extern void goya_plan_read_cost_tag(GoyaPlanBuild *b, GoyaNode *node, const GoyaWhere *at, const JsonbValue *object);
extern void goya_plan_read_price(GoyaPlanBuild *b, GoyaNode *node, const GoyaWhere *at, const JsonbValue *object);
extern void goya_plan_read_artifacts(GoyaPlanBuild *b, GoyaNode *node, const GoyaWhere *at, const JsonbValue *object);
extern void goya_plan_read_writes(GoyaPlanBuild *b, GoyaNode *node, const GoyaWhere *at, const JsonbValue *object);
extern void goya_plan_read_context(GoyaPlanBuild *b, const GoyaWhere *at);

/* plan_graph.c */
extern void goya_plan_read_edges(GoyaPlanBuild *b);
extern void goya_plan_compile_edges(GoyaPlanBuild *b);
extern bool goya_plan_is_predecessor(const GoyaPlanBuild *b, int node, int of);
extern void goya_plan_check_reads(GoyaPlanBuild *b);

#endif
