/*-------------------------------------------------------------------------
 * template_internal.h
 *		Compiled form of templates and expressions, and the compiler's detailed interface.  For template*.c and plan*.c only.
 *
 * The plan's compiler wants every problem of a template with its place; the public interface in template.h gives the first one.
 *-------------------------------------------------------------------------
 */
#ifndef GOYA_TEMPLATE_INTERNAL_H
#define GOYA_TEMPLATE_INTERNAL_H

#include "template.h"
#include "utils/jsonpath.h"

/* A place in a JSON document: a chain on the stack from the innermost member outwards; made text only when there is a problem. */
typedef struct GoyaWhere
{
	const struct GoyaWhere *up; /* NULL: the document itself */
	const char *key;			/* NULL: element number index */
	int			len;
	int			index;
} GoyaWhere;

extern char *goya_where_pointer(const GoyaWhere *at);	/* JSON pointer (RFC 6901), "" for NULL */

/* What a compilation is given. */
typedef struct GoyaTemplateSite
{
	uint32		allowed;		/* GOYA_ROOT_BITs */
	GoyaNodeLookup lookup;
	void	   *lookup_arg;
	GoyaRefs   *refs;
	int			n_all;			/* nodes 0 .. n_all - 1 are what "nodes" as a whole means */
	/* message and hint are palloc'd in the current context; hint may be NULL */
	void		(*report) (void *arg, const GoyaWhere *at, const char *code, char *message, char *hint);
	void		(*node_read) (void *arg, const GoyaWhere *at, int node);	/* may be NULL: nodes.<key> was found */
	void		(*key_read) (void *arg, const GoyaWhere *at, GoyaRoot root, const char *key, int len);	/* may be NULL: vars.k, shared.k */
	void	   *arg;
} GoyaTemplateSite;

extern GoyaTemplate *goya_template_compile_at(const GoyaTemplateSite *site, const GoyaWhere *at, const JsonbValue *value);
extern GoyaExpr *goya_expr_compile_at(const GoyaTemplateSite *site, const GoyaWhere *at, const char *text, int len);

/* Shared by the two compilers. */
extern int	goya_root_lookup(const char *name, int len);	/* GoyaRoot or -1 */
extern const char *goya_root_name(GoyaRoot root);
extern bool goya_site_read_root(const GoyaTemplateSite *site, const GoyaWhere *at, const char *name, int len, GoyaRoot *root);
extern int	goya_site_read_node(const GoyaTemplateSite *site, const GoyaWhere *at, const char *key, int len);	/* -1: reported */
extern bool goya_site_check_node_field(const GoyaTemplateSite *site, const GoyaWhere *at, const char *name, int len);

/* One step of a dotted path. */
typedef struct GoyaStep
{
	char	   *key;			/* NULL: only an index */
	int			len;
	bool		has_index;		/* [n], or a key of digits that finds an array */
	int64		index;			/* negative: from the end */
} GoyaStep;

typedef struct GoyaDotted
{
	GoyaRoot	root;
	int			node;			/* of GOYA_ROOT_NODES; -1 = the whole object of nodes */
	int			n_all;			/* ... of 0 .. n_all - 1 */
	int			n_steps;
	GoyaStep	steps[FLEXIBLE_ARRAY_MEMBER];
} GoyaDotted;

extern GoyaDotted *goya_dotted_compile_at(const GoyaTemplateSite *site, const GoyaWhere *at, const char *text, int len);

struct GoyaExpr
{
	JsonPath   *path;
	bool		many;			/* as a value: an array of all results */
	bool		is_filter;		/* ends in ?(…): as a test, any result will do */
	GoyaDotted *plain;			/* only keys: walked in place unless an array is met on the way; or NULL */
	uint32		roots;			/* its document: roots other than nodes */
	int			n_nodes;
	int		   *nodes;
	bool		all_nodes;		/* or nodes 0 .. n_all - 1 */
	int			n_all;
};

typedef enum GoyaTemplateKind
{
	GOYA_TEMPLATE_CONSTANT,
	GOYA_TEMPLATE_DOTTED,
	GOYA_TEMPLATE_EXPR,
	GOYA_TEMPLATE_TEXT,			/* parts of text and paths, joined */
	GOYA_TEMPLATE_OBJECT,
	GOYA_TEMPLATE_ARRAY
} GoyaTemplateKind;

struct GoyaTemplate
{
	GoyaTemplateKind kind;
	Jsonb	   *constant;		/* CONSTANT */
	JsonbValue	view;			/* CONSTANT: of constant */
	GoyaDotted *dotted;
	GoyaExpr   *expr;
	int			n;				/* TEXT, OBJECT, ARRAY */
	GoyaTemplate **parts;
	JsonbValue *keys;			/* OBJECT: in jsonb's order */
};

#endif
