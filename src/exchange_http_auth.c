/*-------------------------------------------------------------------------
 * exchange_http_auth.c
 *		Credentials of an http node: bearer, basic, api_key, aws_sigv4, secret_headers.
 *
 * What was decided.  Secrets are resolved in the claiming transaction for the host of the node's url, and go to no other scheme, host or port:
 * when a redirect, a page or a poll leads elsewhere they stay behind, and with them what of the node's own headers looks like a credential, also when
 * the way comes back.  AWS signatures are made for each request anew.
 *
 * What must hold: what is made of a secret is in memory of its set, which is overwritten when the exchange ends.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/base64.h"

#include "exchange_http.h"
#include "secret.h"

struct HttpAuth
{
	GoyaSecrets *secrets;
	char	  **lines;			/* headers with secrets */
	int			n_lines;
	const char *param;			/* of the query, NULL: none */
	const char *value;
	const char *access_key;		/* of an AWS signature, NULL: none */
	const char *secret_key;
	const char *region;
	const char *service;
};

static void
set_target(GoyaSecretTarget *t, const char *url)
{
	char	   *host;

	if (!goya_http_url_target(url, &t->tls, &host, &t->port))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the url is not a valid http or https address")));
	t->host = host;
}

static void
add_line(struct HttpAuth *a, char *line)
{
	a->lines = a->lines ? repalloc(a->lines, sizeof(char *) * (a->n_lines + 1)) : palloc(sizeof(char *));
	a->lines[a->n_lines++] = line;
}

static const char *
text_of(const Jsonb *auth, const char *name, const char *otherwise)
{
	char	   *text = goya_json_get_text(auth, name);

	return text ? text : otherwise;
}

static void
add_basic(struct HttpAuth *a, const Jsonb *auth, const char *secret)
{
	char	   *user = goya_json_get_text(auth, "username");
	char	   *pair = user ? goya_secrets_printf(a->secrets, "%s:%s", user, secret) : (char *) secret;
	int			room = pg_b64_enc_len(strlen(pair)) + 1;
	char	   *encoded = goya_secrets_alloc(a->secrets, room);
	int			len = pg_b64_encode(pair, strlen(pair), encoded, room - 1);

	if (len < 0)
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not encode a secret")));
	encoded[len] = '\0';
	goya_secrets_add_form(a->secrets, goya_json_get_text(auth, "secret"), encoded, len);
	add_line(a, goya_secrets_printf(a->secrets, "Authorization: Basic %s", encoded));
}

/* In a url it is sent escaped, in digits that libcurl likes: an answer may have that in base64 or hexadecimal, too. */
static void
add_escaped(struct HttpAuth *a, const char *name, const char *secret)
{
	char	   *escaped = goya_http_url_escape(secret, strlen(secret), false);
	size_t		len = strlen(escaped);

	if (strcmp(escaped, secret) != 0)
	{
		goya_secrets_add_form(a->secrets, name, escaped, len);
		for (char *p = escaped; (p = strchr(p, '%')) != NULL; p += 3)
		{
			p[1] = pg_ascii_tolower(p[1]);
			p[2] = pg_ascii_tolower(p[2]);
		}
		goya_secrets_add_form(a->secrets, name, escaped, len);
	}
	explicit_bzero(escaped, len);
}

static void
read_auth(struct HttpAuth *a, const GoyaWork *w, const GoyaSecretTarget *target, const Jsonb *auth)
{
	const char *type = text_of(auth, "type", "");
	const char *secret = goya_secret_resolve(a->secrets, &w->task->tenant, text_of(auth, "secret", ""), target, NULL);

	if (strcmp(type, "bearer") == 0)
		add_line(a, goya_secrets_printf(a->secrets, "Authorization: Bearer %s", secret));
	else if (strcmp(type, "basic") == 0)
		add_basic(a, auth, secret);
	else if (strcmp(type, "api_key") == 0 && strcmp(text_of(auth, "in", "header"), "query") == 0)
	{
		a->param = text_of(auth, "name", "");
		a->value = secret;
		add_escaped(a, text_of(auth, "secret", ""), secret);
	}
	else if (strcmp(type, "api_key") == 0)
		add_line(a, goya_secrets_printf(a->secrets, "%s: %s%s", text_of(auth, "name", ""), text_of(auth, "prefix", ""), secret));
	else
	{
		char	   *session = goya_json_get_text(auth, "session_token");

		a->access_key = text_of(auth, "access_key", "");
		a->secret_key = secret;
		a->region = text_of(auth, "region", "");
		a->service = text_of(auth, "service", "");
		if (session != NULL)
			add_line(a, goya_secrets_printf(a->secrets, "X-Amz-Security-Token: %s",
											goya_secret_resolve(a->secrets, &w->task->tenant, session, target, NULL)));
	}
}

void
goya_http_auth_start(GoyaExchange *x, GoyaBatch *b, const GoyaWork *w, const Jsonb *config)
{
	Jsonb	   *auth = goya_json_get(config, "auth");
	Jsonb	   *headers = goya_json_get(config, "secret_headers");
	struct HttpAuth *a;
	GoyaSecretTarget target;

	if (auth == NULL && headers == NULL)
		return;
	a = palloc0(sizeof(struct HttpAuth));
	a->secrets = goya_secrets_create(x->cxt);
	http_of(x)->auth = a;
	set_target(&target, x->request.url);
	if (auth != NULL)
		read_auth(a, w, &target, auth);
	for (int i = 0; i < goya_json_object_length(headers); i++)
	{
		char	   *name = goya_json_as_text(goya_json_object_value(headers, i));

		if (name != NULL)
			add_line(a, goya_secrets_printf(a->secrets, "%s: %s", goya_json_object_key(headers, i),
											goya_secret_resolve(a->secrets, &w->task->tenant, name, &target, NULL)));
	}
}

/* What signing adds anew for each request. */
static bool
is_signature(const char *line)
{
	return goya_http_header_value(line, "Authorization") != NULL || goya_http_header_value(line, "Host") != NULL ||
		goya_http_header_value(line, "X-Amz-Date") != NULL || goya_http_header_value(line, "X-Amz-Content-Sha256") != NULL;
}

/* Takes out of the request what an earlier one was given. */
static void
remove_ours(GoyaHttpRequest *req, const struct HttpAuth *a)
{
	int			n = 0;

	for (int i = 0; i < req->nheaders; i++)
	{
		bool		ours = a != NULL && a->access_key != NULL && is_signature(req->headers[i]);

		for (int j = 0; a != NULL && j < a->n_lines; j++)
			ours = ours || req->headers[i] == a->lines[j];
		if (!ours)
			req->headers[n++] = req->headers[i];
	}
	req->nheaders = n;
}

/* Is a header one of the node's own that says who is calling? */
static bool
is_credential(const char *line)
{
	static const char *const names[] = {"Authorization", "Cookie", "Proxy-Authorization", "X-Api-Key", "Api-Key", "X-Auth-Token", "X-Access-Token",
	"X-Amz-Security-Token", "X-Goog-Api-Key", "X-Csrf-Token", "Private-Token"};

	for (size_t i = 0; i < lengthof(names); i++)
		if (goya_http_header_value(line, names[i]) != NULL)
			return true;
	return false;
}

static void
drop_credentials(GoyaHttpRequest *req)
{
	int			n = 0;

	for (int i = 0; i < req->nheaders; i++)
		if (!is_credential(req->headers[i]))
			req->headers[n++] = req->headers[i];
	req->nheaders = n;
}

/* A header of that name of the node's own gives way to ours. */
static void
add_ours(GoyaHttpRequest *req, const struct HttpAuth *a)
{
	char	  **headers = palloc(sizeof(char *) * (req->nheaders + a->n_lines + 4));
	int			n = 0;

	for (int i = 0; i < req->nheaders; i++)
	{
		bool		replaced = false;

		for (int j = 0; j < a->n_lines; j++)
			replaced = replaced || goya_http_header_value(req->headers[i], pnstrdup(a->lines[j], strcspn(a->lines[j], ":"))) != NULL;
		if (!replaced)
			headers[n++] = req->headers[i];
	}
	for (int j = 0; j < a->n_lines; j++)
		headers[n++] = a->lines[j];
	req->headers = headers;
	req->nheaders = n;
	req->secret = true;
	if (a->access_key != NULL)
		goya_http_sign(req, a->access_key, a->secret_key, a->region, a->service);
	if (a->param != NULL)
	{
		char	   *url = goya_http_url_set_parameter(req->url, a->param, a->value);

		if (url != NULL)
		{
			req->url = goya_secrets_printf(a->secrets, "%s", url);
			explicit_bzero(url, strlen(url));
		}
	}
}

void
goya_http_auth_apply(GoyaExchange *x)
{
	HttpExchange *h = http_of(x);
	struct HttpAuth *a = h->auth;

	remove_ours(&x->request, a);
	if (!goya_http_url_same_origin(x->request.url, h->origin_url))
		h->left = true;
	if (h->left)
		drop_credentials(&x->request);
	else if (a != NULL)
		add_ours(&x->request, a);
}

/* In all of an answer that may be stored. */
void
goya_http_redact(GoyaExchange *x, GoyaHttpResult *res)
{
	struct HttpAuth *a = http_of(x)->auth;
	size_t		len;

	if (a == NULL)
		return;
	res->body = (char *) goya_secret_redact(a->secrets, res->body, res->body_len, &len);
	res->body_len = len;
	for (int i = 0; i < res->nheaders; i++)
		res->headers[i] = (char *) goya_secret_redact(a->secrets, res->headers[i], strlen(res->headers[i]), &len);
	if (res->error != NULL)
		res->error = (char *) goya_secret_redact(a->secrets, res->error, strlen(res->error), &len);
}

const char *
goya_http_redact_text(GoyaExchange *x, const char *text, size_t len, size_t *out_len)
{
	struct HttpAuth *a = http_of(x)->auth;

	return goya_secret_redact(a ? a->secrets : NULL, text, len, out_len);
}
