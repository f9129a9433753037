/*-------------------------------------------------------------------------
 * template.c
 *		Compiles templates: finds {{ paths }} in a jsonb value and makes the tree that template_eval.c walks.
 *
 * Decided.  A part of a value without "{{" is a constant, kept as one jsonb and given back without copying.  "\{{" in a string is a
 * literal "{{".  Keys of objects are never templates.  A path that starts with $ is jsonpath (template_expr.c), any other is dotted
 * (template_path.c).
 *
 * Must hold.  Nothing here points into the source value after compiling.  A bad template is reported through the site, never thrown.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "json_util.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "template_internal.h"

#define MAX_TEMPLATE_DEPTH 100	/* nesting; a definition's own limit is lower */

/* ---- templates ---- */

static GoyaTemplate *compile_value(const GoyaTemplateSite *site, const GoyaWhere *at, const JsonbValue *v, int depth);

static GoyaTemplate *
make_template(GoyaTemplateKind kind)
{
	GoyaTemplate *t = palloc0(sizeof(GoyaTemplate));

	t->kind = kind;
	return t;
}

static GoyaTemplate *
make_constant(const JsonbValue *v)
{
	GoyaTemplate *t = make_template(GOYA_TEMPLATE_CONSTANT);

	t->constant = goya_json_from_view(v);
	goya_json_view(t->constant, &t->view);
	return t;
}

static GoyaTemplate *
make_text(const char *s, int len)
{
	JsonbValue	v;

	v.type = jbvString;
	v.val.string.val = unconstify(char *, s);
	v.val.string.len = len;
	return make_constant(&v);
}

/* First place of needle in a text that need not end in NUL and may hold any byte. */
static const char *
find_bytes(const char *s, const char *end, const char *needle)
{
	int			len = strlen(needle);

	for (; s + len <= end; s++)
	{
		s = memchr(s, needle[0], end - s);
		if (s == NULL || s + len > end)
			return NULL;
		if (memcmp(s, needle, len) == 0)
			return s;
	}
	return NULL;
}

static inline bool
is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Where the path that starts at p ends: the first }} that is not inside a quoted name or string. */
static const char *
find_close(const char *p, const char *end)
{
	bool		quoted = false;

	for (; p < end; p++)
	{
		if (*p == '\\' && quoted)
			p++;
		else if (*p == '"')
			quoted = !quoted;
		else if (!quoted && *p == '}' && p + 1 < end && p[1] == '}')
			return p;
	}
	return NULL;
}

/* What stands between {{ and }}. */
static GoyaTemplate *
compile_path(const GoyaTemplateSite *site, const GoyaWhere *at, const char *p, const char *end)
{
	GoyaTemplate *t;

	while (p < end && is_space(*p))
		p++;
	while (end > p && is_space(end[-1]))
		end--;
	if (p == end)
	{
		site->report(site->arg, at, "bad_template", pstrdup("there is no path between {{ and }}"),
					 pstrdup("Write \\{{ for a text that has {{ in it."));
		return NULL;
	}
	if (*p == '$')
	{
		GoyaExpr   *expr = goya_expr_compile_at(site, at, p, end - p);

		if (expr == NULL)
			return NULL;
		t = make_template(GOYA_TEMPLATE_EXPR);
		t->expr = expr;
	}
	else
	{
		GoyaDotted *dotted = goya_dotted_compile_at(site, at, p, end - p);

		if (dotted == NULL)
			return NULL;
		t = make_template(GOYA_TEMPLATE_DOTTED);
		t->dotted = dotted;
	}
	return t;
}

typedef struct TextParts
{
	StringInfoData text;		/* since the last path */
	List	   *parts;
	bool		any_path;
	bool		failed;
} TextParts;

static void
finish_text_part(TextParts *tp)
{
	if (tp->text.len == 0)
		return;
	tp->parts = lappend(tp->parts, make_text(tp->text.data, tp->text.len));
	resetStringInfo(&tp->text);
}

/* Splits a string into text and paths; all its problems are reported. */
static void
split_text(const GoyaTemplateSite *site, const GoyaWhere *at, const char *p, const char *end, TextParts *tp)
{
	while (p < end)
	{
		const char *open = find_bytes(p, end, "{{");
		const char *close;
		GoyaTemplate *part;

		CHECK_FOR_INTERRUPTS();
		if (open == NULL)
			break;
		if (open > p && open[-1] == '\\')
		{
			appendBinaryStringInfo(&tp->text, p, open - 1 - p);
			appendStringInfoString(&tp->text, "{{");
			p = open + 2;
			continue;
		}
		appendBinaryStringInfo(&tp->text, p, open - p);
		close = find_close(open + 2, end);
		if (close == NULL)
		{
			site->report(site->arg, at, "bad_template", pstrdup("{{ without }}"),
						 pstrdup("Close the path with }}, or write \\{{ for a text that has {{ in it."));
			tp->failed = true;
			return;
		}
		finish_text_part(tp);
		part = compile_path(site, at, open + 2, close);
		tp->any_path = true;
		if (part == NULL)
			tp->failed = true;
		else
			tp->parts = lappend(tp->parts, part);
		p = close + 2;
	}
	appendBinaryStringInfo(&tp->text, p, end - p);
	finish_text_part(tp);
}

static GoyaTemplate *
compile_string(const GoyaTemplateSite *site, const GoyaWhere *at, const JsonbValue *v)
{
	const char *s = v->val.string.val;
	TextParts	tp = {.parts = NIL};
	GoyaTemplate *t;

	initStringInfo(&tp.text);
	split_text(site, at, s, s + v->val.string.len, &tp);
	pfree(tp.text.data);
	if (tp.failed)
		return NULL;
	if (list_length(tp.parts) == 1)
		return linitial(tp.parts);

	t = make_template(GOYA_TEMPLATE_TEXT);
	t->n = list_length(tp.parts);
	t->parts = palloc(sizeof(GoyaTemplate *) * t->n);
	for (int i = 0; i < t->n; i++)
		t->parts[i] = list_nth(tp.parts, i);
	list_free(tp.parts);
	return t;
}

static GoyaTemplate *
compile_container(const GoyaTemplateSite *site, const GoyaWhere *at, const JsonbValue *v, int depth)
{
	bool		is_object = goya_json_view_is_object(v);
	GoyaTemplate *t = make_template(is_object ? GOYA_TEMPLATE_OBJECT : GOYA_TEMPLATE_ARRAY);
	bool		failed = false;

	t->n = goya_json_view_length(v);
	t->parts = palloc(sizeof(GoyaTemplate *) * t->n);
	if (is_object)
		t->keys = palloc(sizeof(JsonbValue) * t->n);
	for (int i = 0; i < t->n; i++)
	{
		JsonbValue	member;
		GoyaWhere	here = {.up = at,.index = i};

		if (is_object)
		{
			goya_json_view_pair(v, i, &t->keys[i], &member);
			here.len = t->keys[i].val.string.len;
			here.key = t->keys[i].val.string.val = pnstrdup(t->keys[i].val.string.val, here.len);
		}
		else
			goya_json_view_elem(v, i, &member);
		t->parts[i] = compile_value(site, &here, &member, depth + 1);
		if (t->parts[i] == NULL)
			failed = true;
	}
	return failed ? NULL : t;
}

static GoyaTemplate *
compile_value(const GoyaTemplateSite *site, const GoyaWhere *at, const JsonbValue *v, int depth)
{
	const char *bytes;
	int			len;

	if (v->type == jbvString)
	{
		bytes = v->val.string.val;
		len = v->val.string.len;
	}
	else if (v->type == jbvBinary)
	{
		bytes = (const char *) v->val.binary.data;
		len = v->val.binary.len;
	}
	else
		return make_constant(v);

	/* strings lie whole inside a container's bytes */
	if (find_bytes(bytes, bytes + len, "{{") == NULL)
		return make_constant(v);
	if (v->type == jbvString)
		return compile_string(site, at, v);
	if (depth >= MAX_TEMPLATE_DEPTH)
	{
		site->report(site->arg, at, "too_deep", psprintf("a template may be nested %d levels deep", MAX_TEMPLATE_DEPTH), NULL);
		return NULL;
	}
	return compile_container(site, at, v, depth);
}

GoyaTemplate *
goya_template_compile_at(const GoyaTemplateSite *site, const GoyaWhere *at, const JsonbValue *value)
{
	if (value->type == jbvBinary && JsonContainerIsScalar(value->val.binary.data))
	{
		JsonbValue	scalar;

		JsonbExtractScalar(value->val.binary.data, &scalar);
		return compile_value(site, at, &scalar, 0);
	}
	return compile_value(site, at, value, 0);
}

bool
goya_template_is_constant(const GoyaTemplate *t)
{
	return t->kind == GOYA_TEMPLATE_CONSTANT;
}

/* ---- the public interface: the first problem as text ---- */

static void
keep_first_problem(void *arg, const GoyaWhere *at, const char *code, char *message, char *hint)
{
	char	  **error = arg;

	if (*error == NULL)
		*error = at ? psprintf("%s (at %s)", message, goya_where_pointer(at)) : message;
}

GoyaTemplate *
goya_template_compile(const JsonbValue *value, uint32 allowed, GoyaNodeLookup lookup, void *arg, GoyaRefs *refs, char **error)
{
	GoyaTemplateSite site = {.allowed = allowed,.lookup = lookup,.lookup_arg = arg,.refs = refs,
	.report = keep_first_problem,.arg = error};

	*error = NULL;
	return goya_template_compile_at(&site, NULL, value);
}

GoyaExpr *
goya_expr_compile(const char *text, int len, uint32 allowed, GoyaNodeLookup lookup, void *arg, GoyaRefs *refs, char **error)
{
	GoyaTemplateSite site = {.allowed = allowed,.lookup = lookup,.lookup_arg = arg,.refs = refs,
	.report = keep_first_problem,.arg = error};

	*error = NULL;
	return goya_expr_compile_at(&site, NULL, text, len);
}
