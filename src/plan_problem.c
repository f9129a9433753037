/*-------------------------------------------------------------------------
 * plan_problem.c
 *		Problems of a definition, and readers of typed fields that report what is wrong with them.
 *
 * Codes are API: stable, snake_case, the list is in docs.  A problem names the node it belongs to and the JSON pointer of the value to
 * change.  A reader that reports gives back its default, so that compiling goes on and every problem is found at once.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "json_util.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "plan_internal.h"
#include "schema.h"
#include "try_input.h"
#include "utils/memutils.h"
#include "utils/varlena.h"

#define MAX_DURATION_MS INT64CONST(315360000000)	/* ten years */
#define MAX_TEXT 1000			/* bytes of a name */

/* ---- problems ---- */

static void
add_problem(GoyaPlanBuild *b, const char *severity, const char *node, const char *pointer, const char *code, const char *hint,
			const char *message)
{
	bool		is_error = severity[0] == 'e';
	bool		wanted = list_length(b->problems) < GOYA_MAX_PROBLEMS || (is_error && !b->failed);
	MemoryContext old;
	GoyaProblem *p;

	b->failed = b->failed || is_error;
	if (!wanted)
		return;
	old = MemoryContextSwitchTo(b->report_cxt);
	p = palloc0(sizeof(GoyaProblem));
	p->severity = severity;
	p->code = code;
	p->node = node ? pstrdup(node) : NULL;
	p->path = pstrdup(pointer);
	p->message = pstrdup(message);
	p->hint = hint ? pstrdup(hint) : NULL;
	b->problems = lappend(b->problems, p);
	MemoryContextSwitchTo(old);
}

void
goya_plan_report_at(GoyaPlanBuild *b, const char *node, const char *pointer, const char *code, char *hint, char *message)
{
	add_problem(b, "error", node, pointer, code, hint, message);
}

static char *format_message(const char *fmt, va_list args) pg_attribute_printf(1, 0);

static char *
format_message(const char *fmt, va_list args)
{
	StringInfoData out;
	int			saved_errno = errno;

	initStringInfo(&out);
	for (;;)
	{
		va_list		copy;
		int			needed;

		va_copy(copy, args);
		errno = saved_errno;
		needed = appendStringInfoVA(&out, fmt, copy);
		va_end(copy);
		if (needed == 0)
			return out.data;
		enlargeStringInfo(&out, needed);
	}
}

void
goya_plan_report(GoyaPlanBuild *b, const GoyaWhere *at, const char *code, char *hint, const char *fmt,...)
{
	va_list		args;
	char	   *message;

	va_start(args, fmt);
	message = format_message(fmt, args);
	va_end(args);
	add_problem(b, "error", b->node_key, goya_where_pointer(at), code, hint, message);
}

void
goya_plan_warn(GoyaPlanBuild *b, const GoyaWhere *at, const char *code, char *hint, const char *fmt,...)
{
	va_list		args;
	char	   *message;

	va_start(args, fmt);
	message = format_message(fmt, args);
	va_end(args);
	add_problem(b, "warning", b->node_key, goya_where_pointer(at), code, hint, message);
}

char *
goya_plan_clip(const char *s, int len)
{
	int			kept = pg_mbcliplen(s, len, 80);

	return kept < len ? psprintf("%.*s...", kept, s) : pnstrdup(s, len);
}

/* The name most like the given one, or NULL when none is near. */
const char *
goya_plan_nearest(const char *name, int len, const char *const *names)
{
	const char *best = NULL;
	int			limit = len <= 3 ? 1 : len <= 5 ? 2 : 3;

	if (len == 0 || len > GOYA_MAX_KEY)
		return NULL;
	for (; *names != NULL; names++)
	{
		int			distance = varstr_levenshtein_less_equal(name, len, *names, strlen(*names), 1, 1, 1, limit, true);

		if (distance <= limit && distance < (int) strlen(*names))
		{
			best = *names;
			limit = distance - 1;
			if (limit < 0)
				break;
		}
	}
	return best;
}

char *
goya_plan_did_you_mean(const char *nearest)
{
	return nearest ? psprintf("Did you mean \"%s\"?", nearest) : NULL;
}

static bool
is_in(const char *name, int len, const char *const *names)
{
	for (; names != NULL && *names != NULL; names++)
	{
		if (strncmp(*names, name, len) == 0 && (*names)[len] == '\0')
			return true;
	}
	return false;
}

/* Reports fields that are in neither list (either may be NULL). */
void
goya_plan_check_fields(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *object, const char *const *known, const char *const *also)
{
	int			n = goya_json_view_length(object);

	for (int i = 0; i < n; i++)
	{
		JsonbValue	key;
		GoyaWhere	here = {.up = at};
		const char *nearest;

		goya_json_view_pair(object, i, &key, NULL);
		here.key = key.val.string.val;
		here.len = key.val.string.len;
		if (is_in(here.key, here.len, known) || is_in(here.key, here.len, also))
			continue;
		nearest = goya_plan_nearest(here.key, here.len, known);
		if (nearest == NULL && also != NULL)
			nearest = goya_plan_nearest(here.key, here.len, also);
		goya_plan_report(b, &here, "unknown_field", goya_plan_did_you_mean(nearest), "unknown field \"%s\"",
						 goya_plan_clip(here.key, here.len));
	}
}

void
goya_plan_wrong_type(GoyaPlanBuild *b, const GoyaWhere *at, const char *expected, const JsonbValue *v)
{
	goya_plan_report(b, at, "wrong_type", NULL, "%s is expected here, not %s%s", expected,
					 v->type == jbvNull ? "" : goya_json_view_is_object(v) || goya_json_view_is_array(v) ? "an " : "a ",
					 goya_json_view_type_name(v));
}

/* ---- readers ---- */

bool
goya_plan_field(const JsonbValue *object, const char *name, JsonbValue *v)
{
	return goya_json_view_get(object, name, strlen(name), v) && v->type != jbvNull;
}

void
goya_plan_missing(GoyaPlanBuild *b, const GoyaWhere *at, const char *name)
{
	goya_plan_report(b, at, "missing_field", NULL, "\"%s\" is missing", name);
}

static inline GoyaWhere
below(const GoyaWhere *at, const char *name)
{
	GoyaWhere	here = {.up = at,.key = name,.len = strlen(name)};

	return here;
}

char *
goya_plan_text(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *object, const char *name, bool required)
{
	JsonbValue	v;
	GoyaWhere	here = below(at, name);

	if (!goya_plan_field(object, name, &v))
	{
		if (required)
			goya_plan_missing(b, at, name);
		return NULL;
	}
	if (v.type != jbvString)
	{
		goya_plan_wrong_type(b, &here, "a string", &v);
		return NULL;
	}
	if (v.val.string.len == 0 || v.val.string.len > MAX_TEXT)
	{
		goya_plan_report(b, &here, "bad_value", NULL, "\"%s\" must have 1 to %d bytes", name, MAX_TEXT);
		return NULL;
	}
	return pnstrdup(v.val.string.val, v.val.string.len);
}

bool
goya_plan_bool(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *object, const char *name, bool otherwise)
{
	JsonbValue	v;
	GoyaWhere	here = below(at, name);

	if (!goya_plan_field(object, name, &v))
		return otherwise;
	if (v.type == jbvBool)
		return v.val.boolean;
	goya_plan_wrong_type(b, &here, "true or false", &v);
	return otherwise;
}

double
goya_plan_double(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *object, const char *name, double otherwise, double min, double max)
{
	JsonbValue	v;
	GoyaWhere	here = below(at, name);
	double		d;

	if (!goya_plan_field(object, name, &v))
		return otherwise;
	if (!goya_json_view_double(&v, &d))
		goya_plan_wrong_type(b, &here, "a number", &v);
	else if (d >= min && d <= max)
		return d;
	else
		goya_plan_report(b, &here, "bad_value", NULL, "\"%s\" must be between %g and %g", name, min, max);
	return otherwise;
}

int64
goya_plan_int(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *object, const char *name, int64 otherwise, int64 min, int64 max)
{
	JsonbValue	v;
	GoyaWhere	here = below(at, name);
	double		d;

	if (!goya_plan_field(object, name, &v))
		return otherwise;
	if (!goya_json_view_double(&v, &d))
		goya_plan_wrong_type(b, &here, "a whole number", &v);
	else if (d >= (double) min && d <= (double) max && d == floor(d))
		return (int64) d;
	else
		goya_plan_report(b, &here, "bad_value", NULL, "\"%s\" must be a whole number between " INT64_FORMAT " and " INT64_FORMAT,
						 name, min, max);
	return otherwise;
}

/* Seconds as a number, or interval text; in milliseconds. */
int64
goya_plan_duration(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *object, const char *name, int64 otherwise, int64 min)
{
	JsonbValue	v;
	GoyaWhere	here = below(at, name);
	double		d;
	int64		ms;
	char	   *error;

	if (!goya_plan_field(object, name, &v))
		return otherwise;
	if (goya_json_view_double(&v, &d))
		ms = d * 1000.0 > MAX_DURATION_MS ? MAX_DURATION_MS + 1 : d < 0 ? -1 : (int64) rint(d * 1000.0);
	else if (v.type != jbvString)
	{
		goya_plan_wrong_type(b, &here, "seconds as a number, or interval text,", &v);
		return otherwise;
	}
	else if (!goya_try_interval_ms(pnstrdup(v.val.string.val, v.val.string.len), &ms, &error))
	{
		goya_plan_report(b, &here, "bad_value", pstrdup("Write seconds as a number, or text such as \"2s\", \"500ms\", \"1 minute\"."),
						 "%s", error);
		return otherwise;
	}
	if (ms >= min && ms <= MAX_DURATION_MS)
		return ms;
	goya_plan_report(b, &here, "bad_value", NULL, "\"%s\" must be %s and at most ten years", name,
					 min > 0 ? "more than zero" : "zero or more");
	return otherwise;
}

/* One of a few words; false when absent or reported. */
bool
goya_plan_choice(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *object, const char *name, const char *const *choices, int *choice)
{
	JsonbValue	v;
	GoyaWhere	here = below(at, name);
	StringInfoData all;

	if (!goya_plan_field(object, name, &v))
		return false;
	if (v.type != jbvString)
	{
		goya_plan_wrong_type(b, &here, "a string", &v);
		return false;
	}
	initStringInfo(&all);
	for (int i = 0; choices[i] != NULL; i++)
	{
		if (strlen(choices[i]) == (size_t) v.val.string.len && memcmp(choices[i], v.val.string.val, v.val.string.len) == 0)
		{
			pfree(all.data);
			*choice = i;
			return true;
		}
		appendStringInfo(&all, "%s%s", i > 0 ? ", " : "", choices[i]);
	}
	goya_plan_report(b, &here, "bad_value", goya_plan_did_you_mean(goya_plan_nearest(v.val.string.val, v.val.string.len, choices)),
					 "\"%s\" must be one of %s, not \"%s\"", name, all.data, goya_plan_clip(v.val.string.val, v.val.string.len));
	return false;
}

/* A schema that does not compile by itself: maybe it does with what it refers to. */
static void
check_bundled(GoyaPlanBuild *b, GoyaWhere *here, Jsonb *schema, char *error)
{
	char	   *ignored;
	bool		refers = goya_schema_missing(schema, &ignored) != NIL;

	if (refers && b->lookups && b->lookups->bundle_schema &&
		goya_schema_compile(b->lookups->bundle_schema(schema, b->lookups->arg), &error) != NULL)
		return;
	goya_plan_report(b, here, refers ? GOYA_UNKNOWN_SCHEMA : "bad_schema", NULL, "%s", error ? error : "the JSON Schema is not valid");
}

/* A JSON Schema that compiles; a copy. */
Jsonb *
goya_plan_schema(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *object, const char *name)
{
	JsonbValue	v;
	GoyaWhere	here = below(at, name);
	Jsonb	   *schema;
	char	   *error = NULL;
	MemoryContext old;

	if (!goya_plan_field(object, name, &v))
		return NULL;
	if (!goya_json_view_is_object(&v))
	{
		goya_plan_wrong_type(b, &here, "a JSON Schema (an object)", &v);
		return NULL;
	}
	schema = goya_json_from_view(&v);
	old = MemoryContextSwitchTo(b->scratch);
	if (goya_schema_compile(schema, &error) == NULL)
		check_bundled(b, &here, schema, error);
	MemoryContextSwitchTo(old);
	return schema;
}

/* ---- templates and expressions ---- */

static int
lookup_node(const char *key, int len, void *arg)
{
	GoyaPlanBuild *b = arg;
	int			index = goya_plan_find(b->plan, key, len);

	if (index >= 0 && index < b->plan->n_listed)
		return index;
	strlcpy(b->unknown_key, key, Min(len + 1, GOYA_HASH_KEY));
	return -1;
}

static char *
unknown_node_hint(GoyaPlanBuild *b)
{
	const char **names;
	const char *nearest;
	int			n = b->plan->n_listed;

	if (goya_plan_find(b->plan, b->unknown_key, strlen(b->unknown_key)) >= n)
		return pstrdup("The body of a map cannot be read by itself; read the output of the map.");
	if (b->hints_left-- <= 0)
		return NULL;
	names = MemoryContextAlloc(b->scratch, sizeof(char *) * (n + 1));
	for (int i = 0; i < n; i++)
		names[i] = b->plan->nodes[i].key;
	names[n] = NULL;
	nearest = goya_plan_nearest(b->unknown_key, strlen(b->unknown_key), names);
	pfree(names);
	return goya_plan_did_you_mean(nearest);
}

static void
report_template(void *arg, const GoyaWhere *at, const char *code, char *message, char *hint)
{
	GoyaPlanBuild *b = arg;

	if (hint == NULL && strcmp(code, "unknown_node") == 0)
		hint = unknown_node_hint(b);
	goya_plan_report(b, at, code, hint, "%s", message);
}

/* Remembers a read of a node that may not be upstream. */
static void
note_node_read(void *arg, const GoyaWhere *at, int node)
{
	GoyaPlanBuild *b = arg;
	GoyaNodeRead *read;
	MemoryContext old;

	if (b->reader < 0 || (node == b->reader && b->reader_too) || goya_plan_is_predecessor(b, node, b->reader))
		return;
	old = MemoryContextSwitchTo(b->scratch);
	if (b->n_reads == b->max_reads)
	{
		b->max_reads = b->max_reads ? b->max_reads * 2 : 256;
		b->reads = b->reads ? repalloc_huge(b->reads, sizeof(GoyaNodeRead) * b->max_reads) : palloc(sizeof(GoyaNodeRead) * b->max_reads);
	}
	read = &b->reads[b->n_reads++];
	read->reader = b->reader;
	read->node = node;
	read->node_key = b->node_key;
	read->pointer = goya_where_pointer(at);
	MemoryContextSwitchTo(old);
}

/* A var or shared key that nobody declared is never set: most likely a typing mistake. */
static void
check_key_read(void *arg, const GoyaWhere *at, GoyaRoot root, const char *key, int len)
{
	GoyaPlanBuild *b = arg;
	const JsonbValue *declared = root == GOYA_ROOT_VARS ? &b->vars : &b->shared;
	JsonbValue	v;

	if (!goya_json_view_get(declared, key, len, &v))
		goya_plan_warn(b, at, "undeclared_key", psprintf("Declare it in context.%s.", goya_root_name(root)),
					   "%s.%s is read but not declared", goya_root_name(root), goya_plan_clip(key, len));
}

static GoyaTemplateSite
make_site(GoyaPlanBuild *b, uint32 allowed, GoyaRefs *refs)
{
	GoyaTemplateSite site = {.allowed = allowed,.lookup = lookup_node,.lookup_arg = b,.refs = refs,.n_all = b->plan->n_listed,
	.report = report_template,.node_read = note_node_read,.key_read = check_key_read,.arg = b};

	return site;
}

GoyaTemplate *
goya_plan_template_value(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *v, uint32 allowed, GoyaRefs *refs)
{
	GoyaTemplateSite site = make_site(b, allowed, refs);

	return goya_template_compile_at(&site, at, v);
}

/* JSON null is a value here: a template that gives null. */
GoyaTemplate *
goya_plan_template(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *object, const char *name, uint32 allowed, GoyaRefs *refs)
{
	JsonbValue	v;
	GoyaWhere	here = below(at, name);

	if (!goya_json_view_get(object, name, strlen(name), &v))
		return NULL;
	return goya_plan_template_value(b, &here, &v, allowed, refs);
}

GoyaExpr *
goya_plan_expr(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *object, const char *name, bool required, uint32 allowed,
			   GoyaRefs *refs)
{
	JsonbValue	v;
	GoyaWhere	here = below(at, name);
	GoyaTemplateSite site = make_site(b, allowed, refs);

	if (!goya_plan_field(object, name, &v))
	{
		if (required)
			goya_plan_missing(b, at, name);
		return NULL;
	}
	if (v.type != jbvString)
	{
		goya_plan_wrong_type(b, &here, "a jsonpath (a string)", &v);
		return NULL;
	}
	return goya_expr_compile_at(&site, &here, v.val.string.val, v.val.string.len);
}
