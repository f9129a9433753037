/*-------------------------------------------------------------------------
 * secret.h
 *		Secrets of one outside call: resolved for the hosts they are bound to, wiped when the call is over, taken out of whatever comes
 *		back.
 *
 * For an exchange (exchange.h), in this order:
 *
 *		start() x->state has a set: goya_secrets_create(x->cxt). Each secret the node's configuration names (auth, secret_headers) is
 *		resolved 			for where the request goes; the header that carries it is built with goya_secrets_printf, so that it is wiped too.
 *		answered() goya_secret_redact on every byte string of the answer that may be stored: body, each header, a final URL, an error's
 *		text.  A redirect or a next page at another origin is asked for without the headers that carry secrets.
 *		received() bytes come in pieces: goya_secret_redact_piece keeps back what may be the beginning of a secret. Where pieces of text are
 *		put together from pieces of the answer (words of a model), the text they make is redacted once more.
 *
 * A node's input, the plan and templates never have the value: a template has no root for secrets.
 *-------------------------------------------------------------------------
 */
#ifndef GOYA_SECRET_H
#define GOYA_SECRET_H

#include "postgres.h"
#include "utils/uuid.h"

/* Where a request goes, as libcurl's URL parser says it (and nothing else, so that both mean the same host). */
typedef struct GoyaSecretTarget
{
	bool		tls;
	const char *host;			/* an IPv6 address with or without its brackets */
	int			port;			/* never 0: the scheme's own when the URL has none */
} GoyaSecretTarget;

typedef struct GoyaSecrets GoyaSecrets;

/* An empty set that lives in the context.  When the context is reset or deleted, everything secret in it is overwritten first. */
extern GoyaSecrets *goya_secrets_create(MemoryContext cxt);

/*
 * The value, NUL-terminated, *len bytes (len may be NULL); it and all its usual spellings are redacted from now on. Needs a transaction
 * and runs SQL of goya's own as goya_owner; notes last_used_at, at most once a minute, and waits for no lock. The same name again is
 * cheap. Throws PT404: no such secret; 42501 (POLICY_DENY): not bound to the target; 55000: no master key; XX001: its row was tampered
 * with. No message has anything of the value.
 */
extern const char *goya_secret_resolve(GoyaSecrets *set, const pg_uuid_t *tenant, const char *name,
									   const GoyaSecretTarget *target, size_t *len);

/* Memory of the set that is overwritten with it: for what is made of a secret. */
extern char *goya_secrets_alloc(GoyaSecrets *set, size_t len);
extern char *goya_secrets_printf(GoyaSecrets *set, const char *format,...) pg_attribute_printf(2, 3);

/* Something made of a secret that is as good as it (a signing key, a token bought with it): redacted as that secret.  Copied. */
extern void goya_secrets_add_form(GoyaSecrets *set, const char *name, const char *form, size_t len);

/*
 * The bytes with every secret of the set in them replaced by "[secret NAME]": as it is, with characters written as %41, \u0041, &#65;
 * and the like, in base64 (also inside of a longer base64 text) and in hexadecimal. buf itself when there is none, else palloc'd and
 * NUL-terminated; *out_len bytes. No SQL. A set that is NULL is empty.  Valid text and valid JSON stay valid.
 */
extern const char *goya_secret_redact(const GoyaSecrets *set, const char *buf, size_t len, size_t *out_len);

/*
 * The same of text that comes in pieces: the last *held bytes may be the beginning of a secret, are not in the result, and come again with what follows.
 */
extern const char *goya_secret_redact_piece(const GoyaSecrets *set, const char *buf, size_t len, size_t *out_len, size_t *held);

/* secret_host.c: "[http://][*.]host[:port]"; throws 22023 with what is wrong.  The result is how it is stored. */
extern char *goya_secret_host_pattern(const char *text);
extern bool goya_secret_host_matches(const char *pattern, const GoyaSecretTarget *target);

#define GOYA_SECRET_KIND	"secret"
#define GOYA_SECRET_MIN		8	/* bytes: what is shorter would be found everywhere */
#define GOYA_SECRET_MAX		65536

/* What a secret's value is sealed for, beside tenant and kind: name, version and hosts.  palloc'd. */
extern char *goya_secret_ref(const char *name, int version, int nhosts, char *const *hosts);

/* secret_redact.c: for secret.c. */
typedef struct GoyaSecretForm
{
	struct GoyaSecretForm *next;
	const char *name;			/* of the secret */
	const char *bytes;
	size_t		len;
	bool		loose;			/* characters may be written in other ways */
} GoyaSecretForm;

extern char *goya_redact_forms(const GoyaSecretForm *forms, const char *buf, size_t len, size_t *out_len, size_t *held);	/* NULL: nothing found */

#endif
