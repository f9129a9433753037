/*-------------------------------------------------------------------------
 * template_path.c
 *		Paths: the roots they start from, the places problems are reported at, and the compiler of dotted paths.
 *
 * Decided.  A dotted path is root(.name | ."any name" | [n] | ["any name"])*.  Names are letters of any script, digits, _, - and $; [n]
 * counts from 0, a negative n from the end; a name of digits finds an element when it meets an array.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "template_internal.h"

static const char *const root_names[GOYA_N_ROOTS] = {
	"input", "asset", "nodes", "vars", "shared", "item", "index", "task", "trigger", "params", "output", "event", "payload", "slot"
};

int
goya_root_lookup(const char *name, int len)
{
	for (int i = 0; i < GOYA_N_ROOTS; i++)
	{
		if (strlen(root_names[i]) == (size_t) len && memcmp(root_names[i], name, len) == 0)
			return i;
	}
	return -1;
}

const char *
goya_root_name(GoyaRoot root)
{
	return root_names[root];
}

/* ---- places ---- */

static void
append_pointer(StringInfo out, const GoyaWhere *at)
{
	if (at == NULL)
		return;
	append_pointer(out, at->up);
	appendStringInfoChar(out, '/');
	if (at->key == NULL)
	{
		appendStringInfo(out, "%d", at->index);
		return;
	}
	for (int i = 0; i < at->len; i++)
	{
		if (at->key[i] == '~')
			appendStringInfoString(out, "~0");
		else if (at->key[i] == '/')
			appendStringInfoString(out, "~1");
		else
			appendStringInfoChar(out, at->key[i]);
	}
}

char *
goya_where_pointer(const GoyaWhere *at)
{
	StringInfoData out;

	initStringInfo(&out);
	append_pointer(&out, at);
	return out.data;
}

/* ---- reads: shared by dotted paths and jsonpath ---- */

static char *
allowed_hint(uint32 allowed)
{
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfoString(&out, "Roots that can be used here: ");
	for (int i = 0, n = 0; i < GOYA_N_ROOTS; i++)
	{
		if (allowed & GOYA_ROOT_BIT(i))
			appendStringInfo(&out, "%s%s", n++ > 0 ? ", " : "", root_names[i]);
	}
	appendStringInfoChar(&out, '.');
	return out.data;
}

/* Looks a root up and notes that it is read; false when it was reported. */
bool
goya_site_read_root(const GoyaTemplateSite *site, const GoyaWhere *at, const char *name, int len, GoyaRoot *root)
{
	int			found = goya_root_lookup(name, len);

	if (found < 0 || (site->allowed & GOYA_ROOT_BIT(found)) == 0)
	{
		site->report(site->arg, at, "unknown_root",
					 found < 0 ? psprintf("there is no root \"%.*s\"", pg_mbcliplen(name, len, 63), name)
					 : psprintf("root \"%s\" cannot be used here", root_names[found]),
					 allowed_hint(site->allowed));
		return false;
	}
	*root = (GoyaRoot) found;
	site->refs->roots |= GOYA_ROOT_BIT(found);
	return true;
}

int
goya_site_read_node(const GoyaTemplateSite *site, const GoyaWhere *at, const char *key, int len)
{
	int			node = site->lookup ? site->lookup(key, len, site->lookup_arg) : -1;

	if (node < 0)
	{
		site->report(site->arg, at, "unknown_node", psprintf("there is no node \"%.*s\"", pg_mbcliplen(key, len, 63), key), NULL);
		return -1;
	}
	site->refs->nodes = list_append_unique_int(site->refs->nodes, node);
	if (site->node_read)
		site->node_read(site->arg, at, node);
	return node;
}

bool
goya_site_check_node_field(const GoyaTemplateSite *site, const GoyaWhere *at, const char *name, int len)
{
	if ((len == 6 && memcmp(name, "output", 6) == 0) || (len == 5 && memcmp(name, "error", 5) == 0) ||
		(len == 6 && memcmp(name, "status", 6) == 0))
		return true;
	site->report(site->arg, at, "bad_path", psprintf("a node has no \"%.*s\"", pg_mbcliplen(name, len, 63), name),
				 pstrdup("Of a node, output, error and status can be read."));
	return false;
}

/* ---- dotted paths ---- */

typedef struct PathParser
{
	const GoyaTemplateSite *site;
	const GoyaWhere *at;
	const char *text;			/* for messages */
	int			len;
	const char *p;
	const char *end;
	GoyaStep   *steps;
	int			n;
	int			max;
} PathParser;

static bool
path_problem(PathParser *pp, const char *what)
{
	pp->site->report(pp->site->arg, pp->at, "bad_path",
					 psprintf("path \"%.*s\": %s", pg_mbcliplen(pp->text, pp->len, 100), pp->text, what),
					 pstrdup("Write root.name[0].\"any name\", or a jsonpath that starts with $."));
	return false;
}

static inline bool
is_name_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '$' ||
		IS_HIGHBIT_SET(c);
}

static GoyaStep *
add_step(PathParser *pp)
{
	if (pp->n == pp->max)
	{
		pp->max = pp->max ? pp->max * 2 : 8;
		pp->steps = pp->steps ? repalloc(pp->steps, sizeof(GoyaStep) * pp->max) : palloc(sizeof(GoyaStep) * pp->max);
	}
	memset(&pp->steps[pp->n], 0, sizeof(GoyaStep));
	return &pp->steps[pp->n++];
}

/* Digits, maybe with a sign, to an int64. */
static bool
read_number(const char *s, int len, int64 *result)
{
	int64		n = 0;
	bool		negative = len > 0 && s[0] == '-';

	if (len <= (negative ? 1 : 0) || len > 18)
		return false;
	for (int i = negative ? 1 : 0; i < len; i++)
	{
		if (s[i] < '0' || s[i] > '9')
			return false;
		n = n * 10 + (s[i] - '0');
	}
	*result = negative ? -n : n;
	return true;
}

static bool
parse_name(PathParser *pp)
{
	const char *start = pp->p;
	GoyaStep   *step;

	while (pp->p < pp->end && is_name_char(*pp->p))
		pp->p++;
	if (pp->p == start)
		return path_problem(pp, start == pp->text ? "it must begin with the name of a root" :
							pp->p == pp->end ? "a name is missing at the end" : "a name is missing after \".\"");
	step = add_step(pp);
	step->key = pnstrdup(start, pp->p - start);
	step->len = pp->p - start;
	step->has_index = *start != '-' && read_number(start, step->len, &step->index);
	return true;
}

/* "…" with \" and \\ */
static bool
parse_quoted(PathParser *pp)
{
	StringInfoData name;
	GoyaStep   *step;

	initStringInfo(&name);
	for (pp->p++; pp->p < pp->end && *pp->p != '"'; pp->p++)
	{
		if (*pp->p == '\\' && pp->p + 1 < pp->end)
			pp->p++;
		appendStringInfoChar(&name, *pp->p);
	}
	if (pp->p == pp->end)
		return path_problem(pp, "a quoted name is not closed");
	pp->p++;
	step = add_step(pp);
	step->key = name.data;
	step->len = name.len;
	return true;
}

static bool
parse_bracket(PathParser *pp)
{
	const char *start = ++pp->p;
	int64		index;

	if (pp->p < pp->end && *pp->p == '"')
	{
		if (!parse_quoted(pp))
			return false;
		if (pp->p == pp->end || *pp->p != ']')
			return path_problem(pp, "\"]\" is missing");
		pp->p++;
		return true;
	}
	while (pp->p < pp->end && *pp->p != ']')
		pp->p++;
	if (pp->p == pp->end)
		return path_problem(pp, "\"]\" is missing");
	if (!read_number(start, pp->p - start, &index))
		return path_problem(pp, "between [ and ] a whole number or a quoted name is expected");
	pp->p++;
	{
		GoyaStep   *step = add_step(pp);

		step->has_index = true;
		step->index = index;
	}
	return true;
}

/* root and steps as the author wrote them; the root is steps[0] */
static bool
parse_steps(PathParser *pp)
{
	if (!parse_name(pp))
		return false;
	while (pp->p < pp->end)
	{
		bool		fine;

		if (*pp->p == '[')
			fine = parse_bracket(pp);
		else if (*pp->p != '.')
			return path_problem(pp, psprintf("unexpected \"%.*s\"", pg_mblen(pp->p), pp->p));
		else if (++pp->p < pp->end && *pp->p == '"')
			fine = parse_quoted(pp);
		else
			fine = parse_name(pp);
		if (!fine)
			return false;
	}
	return true;
}

GoyaDotted *
goya_dotted_compile_at(const GoyaTemplateSite *site, const GoyaWhere *at, const char *text, int len)
{
	PathParser	pp = {.site = site,.at = at,.text = text,.len = len,.p = text,.end = text + len};
	GoyaDotted *d;
	GoyaRoot	root;
	int			node = -1;
	int			first = 1;

	if (!parse_steps(&pp) || !goya_site_read_root(site, at, pp.steps[0].key, pp.steps[0].len, &root))
		return NULL;
	if (root == GOYA_ROOT_NODES && pp.n == 1)
		site->refs->all_nodes = true;
	else if (root == GOYA_ROOT_NODES)
	{
		if (pp.steps[1].key == NULL)
		{
			path_problem(&pp, "the key of a node is expected after \"nodes\"");
			return NULL;
		}
		node = goya_site_read_node(site, at, pp.steps[1].key, pp.steps[1].len);
		if (node < 0)
			return NULL;
		if (pp.n > 2 && pp.steps[2].key == NULL)
		{
			path_problem(&pp, "a node is no array");
			return NULL;
		}
		if (pp.n > 2 && !goya_site_check_node_field(site, at, pp.steps[2].key, pp.steps[2].len))
			return NULL;
		first = 2;
	}
	else if ((root == GOYA_ROOT_VARS || root == GOYA_ROOT_SHARED) && pp.n > 1 && pp.steps[1].key && site->key_read)
		site->key_read(site->arg, at, root, pp.steps[1].key, pp.steps[1].len);

	d = palloc(offsetof(GoyaDotted, steps) + sizeof(GoyaStep) * Max(pp.n - first, 0));
	d->root = root;
	d->node = node;
	d->n_all = site->n_all;
	d->n_steps = pp.n - first;
	memcpy(d->steps, pp.steps + first, sizeof(GoyaStep) * d->n_steps);
	pfree(pp.steps);
	return d;
}
