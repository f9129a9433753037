/*-------------------------------------------------------------------------
 * template_expr.c
 *		Compiles jsonpath expressions: parses once and finds what they read, so that only that is loaded and built into a document.
 *
 * PostgreSQL's jsonpath_in parses; the parsed items are walked, not the text, so strings, filters and quoted keys cannot be mistaken.
 * Every $ followed by a key names a root; $.nodes followed by a key names a node.  Anything else after them ($.*, $.nodes.**, a bare $)
 * cannot be told apart: it reads every root that is allowed, or all nodes.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "template_internal.h"
#include "try_input.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"

typedef struct Walk
{
	const GoyaTemplateSite *site;
	const GoyaWhere *at;
	GoyaExpr   *expr;
	List	   *nodes;			/* int list */
	int			depth;
	bool		failed;
} Walk;

/* Each .** multiplies what is found by the depth of the document: three of them make a gigabyte of a kilobyte. */
#define MAX_DESCENTS 2

/* Operands within operands: above what anybody writes, far below what the stack holds here and in jsonpath's executor. */
#define MAX_NESTING 500

static void walk_chain(Walk *w, JsonPathItem *item);

/* The document is read in a way that cannot be told apart. */
static void
read_everything(Walk *w)
{
	uint32		nodes = GOYA_ROOT_BIT(GOYA_ROOT_NODES);

	w->expr->roots |= w->site->allowed & ~nodes;
	w->site->refs->roots |= w->site->allowed;
	if (w->site->allowed & nodes)
	{
		w->expr->all_nodes = true;
		w->site->refs->all_nodes = true;
	}
}

/* Behind $.nodes */
static void
read_nodes(Walk *w, JsonPathItem *nodes)
{
	JsonPathItem key;
	JsonPathItem field;
	char	   *name;
	int32		len;
	int			node;

	if (!jspGetNext(nodes, &key) || key.type != jpiKey)
	{
		w->expr->all_nodes = true;
		w->site->refs->all_nodes = true;
		return;
	}
	name = jspGetString(&key, &len);
	node = goya_site_read_node(w->site, w->at, name, len);
	if (node < 0)
	{
		w->failed = true;
		return;
	}
	w->nodes = list_append_unique_int(w->nodes, node);
	if (jspGetNext(&key, &field) && field.type == jpiKey)
	{
		name = jspGetString(&field, &len);
		if (!goya_site_check_node_field(w->site, w->at, name, len))
			w->failed = true;
	}
}

/* item is a $; what follows says what is read. */
static void
read_from_root(Walk *w, JsonPathItem *item)
{
	JsonPathItem next;
	JsonPathItem key;
	char	   *name;
	int32		len;
	GoyaRoot	root;

	if (!jspGetNext(item, &next) || next.type != jpiKey)
	{
		read_everything(w);
		return;
	}
	name = jspGetString(&next, &len);
	if (!goya_site_read_root(w->site, w->at, name, len, &root))
	{
		w->failed = true;
		return;
	}
	if (root == GOYA_ROOT_NODES)
	{
		read_nodes(w, &next);
		return;
	}
	w->expr->roots |= GOYA_ROOT_BIT(root);
	if ((root == GOYA_ROOT_VARS || root == GOYA_ROOT_SHARED) && w->site->key_read && jspGetNext(&next, &key) && key.type == jpiKey)
	{
		name = jspGetString(&key, &len);
		w->site->key_read(w->site->arg, w->at, root, name, len);
	}
}

static void
walk_subscripts(Walk *w, JsonPathItem *item)
{
	for (int i = 0; i < item->content.array.nelems; i++)
	{
		JsonPathItem from;
		JsonPathItem to;
		bool		range = jspGetArraySubscript(item, &from, &to, i);

		walk_chain(w, &from);
		if (range)
			walk_chain(w, &to);
	}
}

/* What an item holds besides its successor. */
static void
walk_operands(Walk *w, JsonPathItem *item)
{
	JsonPathItem arg;

	switch (item->type)
	{
		case jpiAnd:
		case jpiOr:
		case jpiEqual:
		case jpiNotEqual:
		case jpiLess:
		case jpiGreater:
		case jpiLessOrEqual:
		case jpiGreaterOrEqual:
		case jpiAdd:
		case jpiSub:
		case jpiMul:
		case jpiDiv:
		case jpiMod:
		case jpiStartsWith:
			jspGetLeftArg(item, &arg);
			walk_chain(w, &arg);
			jspGetRightArg(item, &arg);
			walk_chain(w, &arg);
			break;
		case jpiNot:
		case jpiIsUnknown:
		case jpiPlus:
		case jpiMinus:
		case jpiFilter:
		case jpiExists:
			jspGetArg(item, &arg);
			walk_chain(w, &arg);
			break;
		case jpiLikeRegex:
			jspInitByBuffer(&arg, item->base, item->content.like_regex.expr);
			walk_chain(w, &arg);
			break;
		case jpiIndexArray:
			walk_subscripts(w, item);
			break;
		case jpiVariable:
			{
				int32		len;
				char	   *name = jspGetString(item, &len);

				w->site->report(w->site->arg, w->at, "bad_jsonpath",
								psprintf("jsonpath variable $%.*s has no value", pg_mbcliplen(name, len, 63), name),
								psprintf("Write $.%.*s to read a root.", pg_mbcliplen(name, len, 63), name));
				w->failed = true;
			}
			break;
		case jpiRoot:
			read_from_root(w, item);
			break;
		default:
			break;
	}
}

static void
walk_chain(Walk *w, JsonPathItem *item)
{
	JsonPathItem current = *item;
	JsonPathItem next;
	int			descents = 0;

	if (w->depth >= MAX_NESTING)
	{
		if (!w->failed)
			w->site->report(w->site->arg, w->at, "bad_jsonpath",
							psprintf("a jsonpath may be nested %d levels deep", MAX_NESTING), NULL);
		w->failed = true;
		return;
	}
	w->depth++;
	do
	{
		walk_operands(w, &current);
		if (current.type == jpiAny && ++descents == MAX_DESCENTS + 1)
		{
			w->site->report(w->site->arg, w->at, "bad_jsonpath", psprintf(".** may stand %d times in a path", MAX_DESCENTS),
							pstrdup("Name the keys in between, or look into what is found with a filter: $.input.** ? (@.kind == \"x\")."));
			w->failed = true;
		}
	} while (jspGetNext(&current, &next) && (current = next, true));
	w->depth--;
}

/* Can it give several results, and is its last step a filter? */
static void
classify(GoyaExpr *e, JsonPathItem *item)
{
	JsonPathItem current = *item;
	JsonPathItem next;

	for (;;)
	{
		e->is_filter = current.type == jpiFilter;
		if (current.type == jpiAnyArray || current.type == jpiAnyKey || current.type == jpiAny || current.type == jpiFilter ||
			current.type == jpiKeyValue ||
			(current.type == jpiIndexArray && (current.content.array.nelems > 1 || current.content.array.elems[0].to != 0)))
			e->many = true;
		if (!jspGetNext(&current, &next))
			return;
		current = next;
	}
}

/* $.root.key.key in lax mode: nothing but keys.  NULL when it is more than that. */
static GoyaDotted *
make_plain(Walk *w, JsonPathItem *item)
{
	JsonPathItem current = *item;
	JsonPathItem next;
	GoyaDotted *d;
	int			n = 0;
	int			skip;

	if ((w->expr->path->header & JSONPATH_LAX) == 0 || current.type != jpiRoot)
		return NULL;
	while (jspGetNext(&current, &next))
	{
		if (next.type != jpiKey)
			return NULL;
		n++;
		current = next;
	}
	skip = w->nodes != NIL ? 2 : 1;
	if (n < skip || w->expr->all_nodes)
		return NULL;

	d = palloc0(offsetof(GoyaDotted, steps) + sizeof(GoyaStep) * (n - skip));
	d->node = w->nodes != NIL ? linitial_int(w->nodes) : -1;
	d->n_steps = n - skip;
	current = *item;
	for (int i = 0; jspGetNext(&current, &next); i++)
	{
		int32		len;
		char	   *name = jspGetString(&next, &len);

		if (i == 0)
			d->root = (GoyaRoot) goya_root_lookup(name, len);
		else if (i >= skip)
		{
			d->steps[i - skip].key = name;	/* in expr->path, which lives as long */
			d->steps[i - skip].len = len;
		}
		current = next;
	}
	return d;
}

static void
keep_nodes(Walk *w)
{
	GoyaExpr   *e = w->expr;

	e->n_nodes = list_length(w->nodes);
	e->nodes = palloc(sizeof(int) * Max(e->n_nodes, 1));
	for (int i = 0; i < e->n_nodes; i++)
		e->nodes[i] = list_nth_int(w->nodes, i);
	list_free(w->nodes);
}

/* Parses in a context that is thrown away: the parser leaves a lot behind. */
static JsonPath *
parse_path(const GoyaTemplateSite *site, const GoyaWhere *at, const char *text, int len)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext scratch = AllocSetContextCreate(caller, "goya jsonpath", ALLOCSET_SMALL_SIZES);
	Datum		datum;
	char	   *error = NULL;
	JsonPath   *path = NULL;
	bool		fine;

	MemoryContextSwitchTo(scratch);
	fine = goya_try_input(jsonpath_in, pnstrdup(text, len), &datum, &error);
	MemoryContextSwitchTo(caller);
	if (fine)
	{
		path = palloc(VARSIZE_ANY(DatumGetPointer(datum)));
		memcpy(path, DatumGetPointer(datum), VARSIZE_ANY(DatumGetPointer(datum)));
	}
	else
		site->report(site->arg, at, "bad_jsonpath",
					 psprintf("\"%.*s\" is not a jsonpath: %s", pg_mbcliplen(text, len, 100), text, error),
					 len > 1 && text[0] == '{' && text[1] == '{'
					 ? pstrdup("Expressions are written without {{ and }}.")
					 : pstrdup("Expressions are SQL/JSON path, for example $.input.n > 1 or $.nodes.a.output.ok == true."));
	MemoryContextDelete(scratch);
	return path;
}

GoyaExpr *
goya_expr_compile_at(const GoyaTemplateSite *site, const GoyaWhere *at, const char *text, int len)
{
	GoyaExpr   *e;
	Walk		w = {.site = site,.at = at};
	JsonPathItem first;
	JsonPath   *path = parse_path(site, at, text, len);

	if (path == NULL)
		return NULL;
	e = palloc0(sizeof(GoyaExpr));
	e->path = path;
	e->n_all = site->n_all;
	w.expr = e;
	jspInit(&first, path);
	walk_chain(&w, &first);
	if (w.failed)
		return NULL;
	classify(e, &first);
	e->plain = make_plain(&w, &first);
	keep_nodes(&w);
	return e;
}
