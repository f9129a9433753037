/*-------------------------------------------------------------------------
 * targets.c
 *		What is fuzzed: definition (target_definition.c), schema, template, pattern, text, json, http (target_http.c); and self.
 *
 * An input with several parts is a JSON array of them.  Texts that are no JSON are refused by PostgreSQL before goya sees them: such
 * inputs end at fuzz_read_json.
 *-------------------------------------------------------------------------
 */
#include "fuzz.h"

#include "json_util.h"
#include "mb/pg_wchar.h"
#include "schema.h"
#include "schema_internal.h"
#include "template_internal.h"
#include "try_input.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"

/* ---- what targets share ---- */

bool
fuzz_nothing_allowed(int sqlerrcode)
{
	return false;
}

/* Data exceptions and program limits: what evaluating a template may say of the data. */
bool
fuzz_data_errors_allowed(int sqlerrcode)
{
	int			category = ERRCODE_TO_CATEGORY(sqlerrcode);

	return category == ERRCODE_TO_CATEGORY(ERRCODE_DATA_EXCEPTION) || category == ERRCODE_TO_CATEGORY(ERRCODE_PROGRAM_LIMIT_EXCEEDED);
}

/* The input as jsonb, NULL when PostgreSQL refuses it. */
Jsonb *
fuzz_read_json(const uint8 *data, int size)
{
	MemoryContext caller = CurrentMemoryContext;
	Jsonb	   *volatile result = NULL;

	PG_TRY();
	{
		result = goya_json_parse((const char *) data, size);
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		MemoryContextSwitchTo(caller);
		edata = CopyErrorData();
		FlushErrorState();
		if (!fuzz_data_errors_allowed(edata->sqlerrcode))
			fuzz_finding("JSON was refused with %s: %s", unpack_sql_state(edata->sqlerrcode), edata->message);
		result = NULL;
	}
	PG_END_TRY();
	return result;
}

void
fuzz_forget(Jsonb *j)
{
	memset(j, 0x7e, VARSIZE(j));
	pfree(j);
}

/* Part number i of an input; the whole of it when it is no array. */
static Jsonb *
part(Jsonb *all, int i)
{
	if (!goya_json_is_array(all) || goya_json_array_length(all) == 0)
		return goya_json_copy(all);
	return goya_json_array_get(all, i);
}

/* ---- schema: [schema, instance, instance …] ---- */

static char *
tell_errors(List *errors)
{
	StringInfoData out;
	ListCell   *lc;

	initStringInfo(&out);
	if (list_length(errors) > 20)
		fuzz_finding("%d errors, 20 were asked for", list_length(errors));
	foreach(lc, errors)
	{
		GoyaSchemaError *e = lfirst(lc);

		if (e->path[0] != '\0' && e->path[0] != '/')
			fuzz_finding("the path of an error is no JSON pointer: \"%s\"", e->path);
		if (e->path[0] != '\0')
			fuzz_check_text("the path of an error", e->path);
		fuzz_check_text("the keyword of an error", e->keyword);
		fuzz_check_text("the message of an error", e->message);
		if (e->hint)
			fuzz_check_text("the hint of an error", e->hint);
		fuzz_check_text("the place of an error in the schema", e->schema_path);
		appendStringInfo(&out, "%s %s %s\n", e->path, e->keyword, e->message);
	}
	return out.data;
}

static void
fuzz_schema(const uint8 *data, int size)
{
	Jsonb	   *all = fuzz_read_json(data, size);
	Jsonb	   *source;
	Jsonb	   *instance;
	char	   *error = NULL;
	char	   *incomplete;
	List	   *missing;
	GoyaSchema *schema;

	if (all == NULL || (source = part(all, 0)) == NULL)
		return;
	schema = goya_schema_compile(source, &error);
	missing = goya_schema_missing(source, &incomplete);
	fuzz_forget(source);
	/* what compiles is whole, and what does not is wrong or lacks something */
	if (schema != NULL && (missing != NIL || incomplete != NULL))
		fuzz_finding("a schema that compiles lacks %s", missing ? (char *) linitial(missing) : incomplete);
	if (schema == NULL && missing == NIL && incomplete == NULL)
		fuzz_finding("a schema that lacks nothing does not compile: %s", error);
	if (schema == NULL)
	{
		fuzz_check_text("what is wrong with a schema", error);
		return;
	}
	fuzz_deep();
	for (int i = 1; i < 8 && (instance = part(all, i)) != NULL; i++)
	{
		char	   *first = tell_errors(goya_schema_check(schema, instance, 20));
		char	   *second = tell_errors(goya_schema_check(schema, instance, 20));

		if (strcmp(first, second) != 0)
			fuzz_finding("checked twice:\n%s---\n%s", first, second);
		/* of many errors the first one is found when one is asked for */
		if ((first[0] == '\0') != (goya_schema_check(schema, instance, 1) == NIL))
			fuzz_finding("checked for one error: otherwise than for 20:\n%s", first);
		if (!goya_json_is_array(all))
			break;
	}
}

/* ---- template: [template, roots, expression] ---- */

static Jsonb *
root_of(GoyaScope *scope, GoyaRoot root, int node)
{
	Jsonb	   *value = goya_json_get(scope->arg, goya_root_name(root));

	return node >= 0 ? goya_json_object_value(value, node) : value;
}

static const char *
key_of_node(GoyaScope *scope, int node)
{
	return goya_json_object_key(goya_json_get(scope->arg, "nodes"), node);
}

static int
find_node(const char *key, int len, void *arg)
{
	Jsonb	   *nodes = goya_json_get(arg, "nodes");

	for (int i = 0; i < goya_json_object_length(nodes); i++)
	{
		char	   *name = goya_json_object_key(nodes, i);

		if ((int) strlen(name) == len && memcmp(name, key, len) == 0)
			return i;
	}
	return -1;
}

static void
evaluate_twice(const GoyaTemplate *t, GoyaScope *scope)
{
	char	   *first = goya_json_to_cstring(goya_template_eval(t, scope));
	char	   *second = goya_json_to_cstring(goya_template_eval(t, scope));
	char	   *text = goya_template_eval_text(t, scope);

	fuzz_deep();
	fuzz_check_text("a value", first);
	if (strcmp(first, second) != 0)
		fuzz_finding("evaluated twice: %s --- %s", first, second);
	if (text && !pg_verify_mbstr(GetDatabaseEncoding(), text, strlen(text), true))
		fuzz_finding("a template's text is not valid text");
	/* what was made is jsonb as the server makes it */
	(void) goya_json_parse(first, strlen(first));
}

static void
evaluate_expr(const Jsonb *source, GoyaScope *scope)
{
	GoyaRefs	refs = {0};
	char	   *error = NULL;
	char	   *text = goya_json_as_text(source);
	GoyaExpr   *e;
	Jsonb	   *found;

	if (text == NULL)
		return;
	e = goya_expr_compile(text, strlen(text), PG_UINT32_MAX >> (32 - GOYA_N_ROOTS), find_node, scope->arg, &refs, &error);
	pfree(text);
	if (e == NULL)
	{
		fuzz_check_text("what is wrong with an expression", error);
		return;
	}
	fuzz_deep();
	(void) goya_expr_test(e, scope);
	found = goya_expr_eval(e, scope);
	if (found)
		fuzz_check_text("what an expression finds", goya_json_to_cstring(found));
}

static void
fuzz_template(const uint8 *data, int size)
{
	Jsonb	   *all = fuzz_read_json(data, size);
	Jsonb	   *source;
	JsonbValue	view;
	GoyaRefs	refs = {0};
	GoyaScope	scope = {root_of, key_of_node, NULL};
	char	   *error = NULL;
	GoyaTemplate *t;

	if (all == NULL || (source = part(all, 0)) == NULL)
		return;
	scope.arg = goya_json_is_array(all) && goya_json_array_length(all) > 1 ? part(all, 1) : goya_json_null();
	goya_json_view(source, &view);
	t = goya_template_compile(&view, PG_UINT32_MAX >> (32 - GOYA_N_ROOTS), find_node, scope.arg, &refs, &error);
	fuzz_forget(source);
	if (t == NULL)
		fuzz_check_text("what is wrong with a template", error);
	else
		evaluate_twice(t, &scope);
	for (int i = 2; i < 6 && goya_json_is_array(all) && i < goya_json_array_length(all); i++)
		evaluate_expr(part(all, i), &scope);
}

/* ---- pattern: a line of pattern, then what it is matched with ---- */

static void
fuzz_pattern(const uint8 *data, int size)
{
	const char *text = (const char *) data;
	const char *line = memchr(text, '\n', size);
	int			len = line ? (int) (line - text) : size;
	char	   *pattern;
	char	   *error = NULL;
	GoyaSchemaRegex *regex;

	/* strings of jsonb are valid and without NUL */
	if (memchr(data, '\0', size) || !pg_verify_mbstr(GetDatabaseEncoding(), text, size, true))
		return;
	pattern = pnstrdup(text, len);
	regex = goya_schema_regex_compile(pattern, len, &error);
	pfree(pattern);
	if (regex == NULL)
	{
		fuzz_check_text("what is wrong with a pattern", error);
		return;
	}
	fuzz_deep();
	fuzz_check_text("the source of a pattern", goya_schema_regex_source(regex));
	if (!goya_schema_regex_is_valid(text, len))
		fuzz_finding("a pattern compiles, and is none");
	if (line == NULL)
		return;
	if (goya_schema_regex_match(regex, line + 1, size - len - 1) != goya_schema_regex_match(regex, line + 1, size - len - 1))
		fuzz_finding("matched twice, with two results");
}

/* ---- text: input functions whose errors are values ---- */

static void
fuzz_text(const uint8 *data, int size)
{
	static PGFunction const functions[] = {jsonpath_in, interval_in, timestamptz_in};
	char	   *text = pnstrdup((const char *) data, size);
	char	   *error = NULL;
	Datum		result;
	int64		ms;

	if (!pg_verify_mbstr(GetDatabaseEncoding(), text, strlen(text), true))
		return;
	for (int i = 0; i < (int) lengthof(functions); i++)
	{
		if (goya_try_input(functions[i], text, &result, &error))
			fuzz_deep();
		else
			fuzz_check_text("why an input was refused", error);
	}
	if (!goya_try_interval_ms(text, &ms, &error))
		fuzz_check_text("why an interval was refused", error);
	else if (ms > INT64CONST(9000000000000000) || ms < -INT64CONST(9000000000000000))
		fuzz_finding("an interval of " INT64_FORMAT " ms", ms);
}

/* ---- json: what goya builds is what the server would build ---- */

static Jsonb *
rebuild(const JsonbValue *v)
{
	int			n = goya_json_view_length(v);
	JsonbValue *keys = palloc(sizeof(JsonbValue) * (n + 1));
	JsonbValue *values = palloc(sizeof(JsonbValue) * (n + 1));
	JsonbValue	part;

	if (v->type != jbvBinary)
		return goya_json_from_view(v);
	for (int i = 0; i < n; i++)
	{
		/* backwards: sorting has something to do */
		if (goya_json_view_is_object(v))
			goya_json_view_pair(v, n - 1 - i, &keys[i], &part);
		else
			goya_json_view_elem(v, i, &part);
		goya_json_view(rebuild(&part), &values[i]);
	}
	return goya_json_view_is_object(v) ? goya_json_build_object(n, keys, values, false) : goya_json_build_array(n, values);
}

static void
read_everything(const Jsonb *j)
{
	const char *keys[] = {"a", "b"};
	int64		i;
	double		d;

	(void) goya_json_get_path(j, 2, keys);
	(void) goya_json_get_text(j, "a");
	(void) goya_json_get_int(j, "a", 0);
	(void) goya_json_get_double(j, "a", 0);
	(void) goya_json_get_bool(j, "a", false);
	(void) goya_json_as_int(j, &i);
	(void) goya_json_as_double(j, &d);
	(void) goya_json_as_text(j);
	for (int n = -1; n <= goya_json_array_length(j); n++)
		(void) goya_json_type_name(goya_json_array_get(j, n));
	for (int n = -1; n <= goya_json_object_length(j); n++)
	{
		(void) goya_json_object_value(j, n);
		(void) goya_json_object_key(j, n);
	}
}

static void
fuzz_json(const uint8 *data, int size)
{
	Jsonb	   *j = fuzz_read_json(data, size);
	JsonbValue	view;
	Jsonb	   *built;

	if (j == NULL)
		return;
	fuzz_deep();
	goya_json_view(j, &view);
	built = rebuild(&view);
	if (VARSIZE(built) != VARSIZE(j) || memcmp(built, j, VARSIZE(j)) != 0)
		fuzz_finding("built from its parts it has other bytes: %s", goya_json_to_cstring(built));
	read_everything(j);
	if (goya_json_is_object(j))
	{
		Jsonb	   *set = goya_json_set(j, "a", goya_json_from_text("x"));

		if (strcmp(goya_json_get_text(set, "a"), "x") != 0 || goya_json_has(goya_json_set(set, "a", NULL), "a"))
			fuzz_finding("a key cannot be set and removed");
	}
}

/* ---- self: fails on purpose, so that a test can see that findings are found ---- */

static int
fall(const uint8 *data, int depth)
{
	volatile char room[4096];

	room[depth % 4096] = data[0];
	if (depth == PG_INT32_MAX)	/* never reached: compilers warn of what has no end */
		return 0;
	return fall((const uint8 *) room, depth + 1) + room[0];
}

static void
fuzz_self(const uint8 *data, int size)
{
	char	   *volatile past;

	fuzz_deep();
	if (size == 0)
		return;
	switch (data[0])
	{
		case 'i':
			elog(ERROR, "an internal error");
		case 'd':
			ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION), errmsg("a data error that is not allowed")));
		case 'm':
			for (int i = 0; i < 1100; i++)
				(void) palloc(1024 * 1024);
			break;
		case 't':
			while (size > 0)
				past = NULL;
			break;
		case 'c':
			past = NULL;
			*past = 1;
			break;
		case 's':
			(void) fall(data, size);
			break;
		case 'o':				/* seen by the address sanitizer only */
			past = palloc(13);
			past[13] = 1;
			break;
		default:
			break;
	}
}

const FuzzTarget fuzz_targets[] = {
	{"definition", true, fuzz_definition, fuzz_definition_allowed},
	{"schema", true, fuzz_schema, fuzz_nothing_allowed},
	{"template", true, fuzz_template, fuzz_data_errors_allowed},
	{"pattern", false, fuzz_pattern, fuzz_nothing_allowed},
	{"text", false, fuzz_text, fuzz_nothing_allowed},
	{"json", true, fuzz_json, fuzz_nothing_allowed},
	{"http", false, fuzz_http, fuzz_data_errors_allowed},
	{"self", false, fuzz_self, fuzz_nothing_allowed},
	{NULL}
};
