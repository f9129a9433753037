/*-------------------------------------------------------------------------
 * plan_http.c
 *		The fields of http nodes, and what they must be.
 *
 * A node that uses none of GOYA_HTTP_CONFIG_FIELDS is one plain request and has no config; the fields of the others are one template, an
 * object, which exchange_http.c reads when the node runs, and are checked here as far as they are constants.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "json_util.h"
#include "plan_internal.h"
#include "try_input.h"
#include "utils/fmgrprotos.h"

#define MAX_RESPONSE INT64CONST(1073741823)	/* a jsonb cannot hold more */
#define MAX_PAGES	10000

static const char *const config_fields[] = {GOYA_HTTP_CONFIG_FIELDS, NULL};

static inline GoyaWhere
below(const GoyaWhere *at, const char *name)
{
	GoyaWhere	here = {.up = at,.key = name,.len = strlen(name)};

	return here;
}

/* ---- for all compilers of kinds ---- */

/* A template that must be there. */
GoyaTemplate *
goya_plan_required_template(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *object, const char *name, uint32 roots, GoyaRefs *refs)
{
	JsonbValue	v;

	if (!goya_json_view_get(object, name, strlen(name), &v))
	{
		goya_plan_missing(b, at, name);
		return NULL;
	}
	return goya_plan_template(b, at, object, name, roots, refs);
}

/* A constant that is no string where only text makes sense: reported, false. */
bool
goya_plan_is_text_template(GoyaPlanBuild *b, const GoyaWhere *at, const char *name, const GoyaTemplate *t)
{
	GoyaWhere	here = below(at, name);

	if (t == NULL)
		return false;
	if (t->kind == GOYA_TEMPLATE_OBJECT || t->kind == GOYA_TEMPLATE_ARRAY)
	{
		goya_plan_report(b, &here, "wrong_type", NULL, "a string is expected here, not an %s",
						 t->kind == GOYA_TEMPLATE_OBJECT ? "object" : "array");
		return false;
	}
	if (goya_template_is_constant(t) && t->view.type != jbvString)
	{
		goya_plan_wrong_type(b, &here, "a string", &t->view);
		return false;
	}
	return true;
}

/* Text that is known now, or NULL. */
char *
goya_plan_constant_text(const GoyaTemplate *t)
{
	return goya_template_is_constant(t) && t->view.type == jbvString ? goya_json_view_text(&t->view) : NULL;
}

/* ---- what makes an exchange of it ---- */

/* An object with only these fields; false: absent or reported. */
static bool
object_field(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *object, const char *name, const char *const *fields, JsonbValue *v)
{
	GoyaWhere	here = below(at, name);

	if (!goya_plan_field(object, name, v))
		return false;
	if (!goya_json_view_is_object(v))
	{
		goya_plan_wrong_type(b, &here, "an object", v);
		return false;
	}
	if (fields != NULL)
		goya_plan_check_fields(b, &here, v, fields, NULL);
	return true;
}

/* A jsonpath over the body of an answer. */
static void
check_path(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *object, const char *name, bool required)
{
	char	   *text = goya_plan_text(b, at, object, name, required);
	GoyaWhere	here = below(at, name);
	Datum		datum;
	char	   *error;

	if (text != NULL && !goya_try_input(jsonpath_in, text, &datum, &error))
		goya_plan_report(b, &here, "bad_expression", pstrdup("Write a jsonpath over the body of the answer, as $.next."), "%s", error);
}

static void
require_texts(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *object, const char *const *names)
{
	for (; *names != NULL; names++)
		(void) goya_plan_text(b, at, object, *names, true);
}

static void
check_auth(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *object)
{
	static const char *const types[] = {"bearer", "basic", "api_key", "aws_sigv4", NULL};
	static const char *const fields[][9] = {
		{"type", "secret", NULL},
		{"type", "secret", "username", NULL},
		{"type", "secret", "in", "name", "prefix", NULL},
		{"type", "secret", "region", "service", "access_key", "session_token", NULL}
	};
	static const char *const required[][5] = {
		{"secret", NULL}, {"secret", NULL}, {"secret", "name", NULL}, {"secret", "region", "service", "access_key", NULL}
	};
	static const char *const places[] = {"header", "query", NULL};
	GoyaWhere	here = below(at, "auth");
	JsonbValue	auth;
	int			type;
	int			place;

	if (!object_field(b, at, object, "auth", NULL, &auth))
		return;
	if (!goya_plan_choice(b, &here, &auth, "type", types, &type))
	{
		if (!goya_json_view_get(&auth, "type", 4, &auth))
			goya_plan_missing(b, &here, "type");
		return;
	}
	goya_plan_check_fields(b, &here, &auth, fields[type], NULL);
	require_texts(b, &here, &auth, required[type]);
	(void) goya_plan_choice(b, &here, &auth, "in", places, &place);
}

/* {"Header": "name of a secret"} */
static void
check_secret_headers(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *object)
{
	GoyaWhere	here = below(at, "secret_headers");
	JsonbValue	v;

	if (!object_field(b, at, object, "secret_headers", NULL, &v))
		return;
	for (int i = 0; i < goya_json_view_length(&v); i++)
	{
		JsonbValue	key;
		JsonbValue	value;

		goya_json_view_pair(&v, i, &key, &value);
		if (value.type != jbvString)
			goya_plan_wrong_type(b, &here, "the name of a secret for each header", &value);
	}
}

static void
check_paging(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *object)
{
	static const char *const fields[] = {"type", "cursor", "param", "in", "items", "max_pages", NULL};
	static const char *const types[] = {"link", "cursor", NULL};
	static const char *const places[] = {"query", "body", NULL};
	GoyaWhere	here = below(at, "paging");
	JsonbValue	v;
	int			type = -1;
	int			place;

	if (!object_field(b, at, object, "paging", fields, &v))
		return;
	if (!goya_plan_choice(b, &here, &v, "type", types, &type) && !goya_json_view_get(&v, "type", 4, &v))
		goya_plan_missing(b, &here, "type");
	(void) goya_plan_choice(b, &here, &v, "in", places, &place);
	check_path(b, &here, &v, "items", false);
	check_path(b, &here, &v, "cursor", type == 1);
	(void) goya_plan_text(b, &here, &v, "param", false);
	(void) goya_plan_int(b, &here, &v, "max_pages", 100, 1, MAX_PAGES);
}

static void
check_poll(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *object)
{
	static const char *const fields[] = {"url", "interval", "until", "failed", "output", NULL};
	GoyaWhere	here = below(at, "poll");
	JsonbValue	v;

	if (!object_field(b, at, object, "poll", fields, &v))
		return;
	(void) goya_plan_text(b, &here, &v, "url", false);
	(void) goya_plan_duration(b, &here, &v, "interval", 0, 10);
	check_path(b, &here, &v, "until", true);
	check_path(b, &here, &v, "failed", false);
	check_path(b, &here, &v, "output", false);
}

/* true, or an object with these fields. */
static bool
true_or_object(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *object, const char *name, const char *const *fields, JsonbValue *v)
{
	GoyaWhere	here = below(at, name);

	if (!goya_plan_field(object, name, v) || v->type == jbvBool)
		return false;
	if (!goya_json_view_is_object(v))
	{
		goya_plan_wrong_type(b, &here, "true or an object", v);
		return false;
	}
	goya_plan_check_fields(b, &here, v, fields, NULL);
	return true;
}

static void
check_spill_and_callback(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *object)
{
	static const char *const spill_fields[] = {"over", NULL};
	static const char *const callback_fields[] = {"header", "field", "timeout", NULL};
	GoyaWhere	spill = below(at, "spill");
	GoyaWhere	callback = below(at, "callback");
	JsonbValue	v;

	if (true_or_object(b, at, object, "spill", spill_fields, &v))
		(void) goya_plan_int(b, &spill, &v, "over", 0, 0, MAX_RESPONSE);
	if (true_or_object(b, at, object, "callback", callback_fields, &v))
	{
		(void) goya_plan_text(b, &callback, &v, "header", false);
		(void) goya_plan_text(b, &callback, &v, "field", false);
		(void) goya_plan_duration(b, &callback, &v, "timeout", 0, 1);
	}
}

static void
check_stream(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *object)
{
	static const char *const modes[] = {"sse", "ndjson", "text", NULL};
	GoyaWhere	here = below(at, "stream");
	JsonbValue	v;
	int			mode;

	if (!goya_plan_field(object, "stream", &v) || v.type == jbvBool)
		return;
	if (v.type != jbvString)
		goya_plan_wrong_type(b, &here, "true, false or a string", &v);
	else
		(void) goya_plan_choice(b, at, object, "stream", modes, &mode);
}

/* Not two of what would each decide what follows the first answer. */
static void
check_together(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *object)
{
	static const char *const alone[] = {"paging", "poll", "callback", "stream", NULL};
	const char *first = NULL;

	for (int i = 0; alone[i] != NULL; i++)
	{
		JsonbValue	v;

		if (!goya_plan_field(object, alone[i], &v) || (v.type == jbvBool && !v.val.boolean))
			continue;
		if (first != NULL)
			goya_plan_report(b, at, "bad_value", NULL, "\"%s\" and \"%s\" cannot both be there", first, alone[i]);
		first = alone[i];
	}
}

static void
check_config(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *object)
{
	static const char *const body_types[] = {"json", "form", "multipart", "text", "binary", NULL};
	int			body_type;

	check_auth(b, at, object);
	check_secret_headers(b, at, object);
	(void) goya_plan_choice(b, at, object, "body_type", body_types, &body_type);
	(void) goya_plan_int(b, at, object, "redirects", 0, 0, 10);
	check_stream(b, at, object);
	check_paging(b, at, object);
	check_poll(b, at, object);
	check_spill_and_callback(b, at, object);
	check_together(b, at, object);
}

static void
compile_config(GoyaPlanBuild *b, GoyaNode *node, const GoyaWhere *at, const JsonbValue *object)
{
	GoyaJsonObject o;
	JsonbValue	config;

	goya_json_object_start(&o);
	for (int i = 0; config_fields[i] != NULL; i++)
	{
		JsonbValue	v;

		if (goya_plan_field(object, config_fields[i], &v))
			goya_json_add(&o, config_fields[i], goya_json_from_view(&v));
	}
	if (o.n == 0)
		return;
	check_config(b, at, object);
	goya_json_view(goya_json_object_finish(&o), &config);
	node->config = goya_plan_template_value(b, at, &config, b->roots | GOYA_ROOT_BIT(GOYA_ROOT_PARAMS), &node->refs);
}

/* ---- the node ---- */

static void
check_method(GoyaPlanBuild *b, const GoyaWhere *at, const GoyaTemplate *t)
{
	static const char *const methods[] = {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", NULL};
	GoyaWhere	here = below(at, "method");
	char	   *method;

	if (!goya_plan_is_text_template(b, at, "method", t) || (method = goya_plan_constant_text(t)) == NULL)
		return;
	for (int i = 0; methods[i] != NULL; i++)
	{
		if (strcmp(methods[i], method) == 0)
			return;
	}
	goya_plan_report(b, &here, "bad_value", pstrdup("Methods: GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS, in capitals."),
					 "there is no method \"%s\"", goya_plan_clip(method, strlen(method)));
}

/* The scheme, as far as it is known: a template may begin with a path. */
static void
check_url(GoyaPlanBuild *b, const GoyaWhere *at, const GoyaTemplate *t)
{
	GoyaWhere	here = below(at, "url");
	const GoyaTemplate *first = t;
	char	   *text;

	if (!goya_plan_is_text_template(b, at, "url", t))
		return;
	if (t->kind == GOYA_TEMPLATE_TEXT)
		first = t->parts[0];
	text = goya_plan_constant_text(first);
	if (text == NULL || pg_strncasecmp(text, "http://", 7) == 0 || pg_strncasecmp(text, "https://", 8) == 0)
		return;
	goya_plan_report(b, &here, "bad_value", NULL, "a url begins with http:// or https://");
}

void
goya_plan_compile_http(GoyaPlanBuild *b, GoyaNode *node, const GoyaWhere *at, const JsonbValue *object)
{
	uint32		roots = b->roots | GOYA_ROOT_BIT(GOYA_ROOT_PARAMS);
	uint32		response = GOYA_ROOT_BIT(GOYA_ROOT_OUTPUT);
	GoyaWhere	headers = below(at, "headers");
	JsonbValue	v;

	if (goya_plan_field(object, "method", &v))
	{
		node->method = goya_plan_template(b, at, object, "method", roots, &node->refs);
		check_method(b, at, node->method);
	}
	node->url = goya_plan_required_template(b, at, object, "url", roots, &node->refs);
	check_url(b, at, node->url);
	if (goya_plan_field(object, "headers", &v))
	{
		node->headers = goya_plan_template(b, at, object, "headers", roots, &node->refs);
		if (!goya_json_view_is_object(&v) && v.type != jbvString)
			goya_plan_wrong_type(b, &headers, "an object of headers", &v);
		else if (node->headers && goya_template_is_constant(node->headers) && v.type == jbvString)
			goya_plan_wrong_type(b, &headers, "an object of headers", &v);
	}
	node->request_body = goya_plan_template(b, at, object, "body", roots, &node->refs);
	node->success = goya_plan_expr(b, at, object, "success", false, response, &node->refs);
	node->output_path = goya_plan_expr(b, at, object, "output", false, response, &node->refs);
	node->max_response = goya_plan_int(b, at, object, "max_response", 0, 1, MAX_RESPONSE);
	compile_config(b, node, at, object);
}
