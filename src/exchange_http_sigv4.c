/*-------------------------------------------------------------------------
 * exchange_http_sigv4.c
 *		AWS Signature Version 4 of a request.
 *
 * Made here and not by libcurl: 7.88, which Debian 12 has, signs headers that are not sent, and queries and paths with escapes wrongly.  The tests verify it
 * with a verifier of the published algorithm, which is itself verified with AWS's examples (test/servers/faulty_http.py).
 *
 * Signed are Host, Content-Type and all X-Amz- headers; the query is sent in canonical order.  S3 takes the path as it is and wants the hash of the
 * body as a header, other services want escapes in the path encoded once more.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <time.h>

#include "common/cryptohash.h"
#include "common/hmac.h"
#include "common/sha2.h"
#include "lib/stringinfo.h"

#include "exchange_http.h"

#define HASH_LEN PG_SHA256_DIGEST_LENGTH

static void
fail(void)
{
	ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not compute an AWS signature")));
}

static char *
hex_of(const uint8 *digest)
{
	char	   *hex = palloc(HASH_LEN * 2 + 1);

	for (int i = 0; i < HASH_LEN; i++)
		sprintf(hex + i * 2, "%02x", digest[i]);
	return hex;
}

static char *
hash_hex(const char *data, size_t len)
{
	uint8		digest[HASH_LEN];
	pg_cryptohash_ctx *ctx = pg_cryptohash_create(PG_SHA256);
	bool		ok = ctx != NULL && pg_cryptohash_init(ctx) >= 0 && pg_cryptohash_update(ctx, (const uint8 *) data, len) >= 0 &&
		pg_cryptohash_final(ctx, digest, HASH_LEN) >= 0;

	pg_cryptohash_free(ctx);
	if (!ok)
		fail();
	return hex_of(digest);
}

/* key becomes its HMAC of the text. */
static void
sign_with(uint8 *key, size_t *len, const char *text)
{
	pg_hmac_ctx *ctx = pg_hmac_create(PG_SHA256);
	bool		ok = ctx != NULL && pg_hmac_init(ctx, key, *len) >= 0 && pg_hmac_update(ctx, (const uint8 *) text, strlen(text)) >= 0 &&
		pg_hmac_final(ctx, key, HASH_LEN) >= 0;

	pg_hmac_free(ctx);
	*len = HASH_LEN;
	if (!ok)
		fail();
}

static bool
is_signed(const char *line)
{
	return pg_strncasecmp(line, "X-Amz-", 6) == 0 || goya_http_header_value(line, "Host") != NULL || goya_http_header_value(line, "Content-Type") != NULL;
}

/* "X-Amz-Name:  a  b " is "x-amz-name:a b". */
static char *
canonical_header(const char *line)
{
	char	   *made = palloc(strlen(line) + 2);
	size_t		n = 0;
	const char *colon = strchr(line, ':');

	for (const char *p = line; p <= colon; p++)
		made[n++] = pg_ascii_tolower((unsigned char) *p);
	for (const char *p = colon + 1; *p; p++)
	{
		if (*p != ' ' && *p != '\t')
			made[n++] = *p;
		else if (made[n - 1] != ' ' && made[n - 1] != ':')
			made[n++] = ' ';
	}
	while (made[n - 1] == ' ')
		n--;
	made[n] = '\0';
	return made;
}

static int
compare_text(const void *a, const void *b)
{
	return strcmp(*(char *const *) a, *(char *const *) b);
}

/* The headers that are signed, a line each, and their names. */
static void
list_headers(const GoyaHttpRequest *req, StringInfo lines, StringInfo names)
{
	char	  **all = palloc(sizeof(char *) * (req->nheaders + 1));
	int			n = 0;

	for (int i = 0; i < req->nheaders; i++)
		if (is_signed(req->headers[i]))
			all[n++] = canonical_header(req->headers[i]);
	qsort(all, n, sizeof(char *), compare_text);
	for (int i = 0; i < n; i++)
	{
		appendStringInfo(lines, "%s\n", all[i]);
		appendStringInfo(names, "%s%.*s", i > 0 ? ";" : "", (int) strcspn(all[i], ":"), all[i]);
	}
}

static char *
encode_path(const char *path)
{
	StringInfoData s;

	initStringInfo(&s);
	for (; *path; path++)
		appendStringInfoString(&s, *path == '/' ? "/" : goya_http_url_escape(path, 1, false));
	return s.data;
}

/* %2f is %2F, in place: libcurl writes the one, signatures want the other. */
static char *
upper_escapes(char *text)
{
	for (char *p = text; *p; p++)
		if (p[0] == '%' && p[1] != '\0' && p[2] != '\0')
		{
			p[1] = pg_ascii_toupper((unsigned char) p[1]);
			p[2] = pg_ascii_toupper((unsigned char) p[2]);
		}
	return text;
}

static char *
string_to_sign(GoyaHttpRequest *req, bool s3, const char *payload, const char *date, const char *scope, StringInfo names)
{
	char	   *path;
	char	   *query;
	StringInfoData lines;
	char	   *canonical;

	if (!goya_http_url_parts(req->url, &path, &query))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the url is not a valid http or https address")));
	initStringInfo(&lines);
	list_headers(req, &lines, names);
	canonical = psprintf("%s\n%s\n%s\n%s\n%s\n%s", req->method, s3 ? upper_escapes(path) : encode_path(path),
						 upper_escapes(query), lines.data, names->data, payload);
	return psprintf("AWS4-HMAC-SHA256\n%s\n%s\n%s", date, scope, hash_hex(canonical, strlen(canonical)));
}

/* Puts X-Amz-Date, Authorization and what else it takes into the request, whose headers have room for four more. */
void
goya_http_sign(GoyaHttpRequest *req, const char *access_key, const char *secret, const char *region, const char *service)
{
	time_t		now = time(NULL);
	struct tm	tm;
	char		date[32];
	uint8	   *key = palloc(Max(strlen(secret) + 5, HASH_LEN));
	size_t		len = strlen(secret) + 4;
	bool		s3 = strcmp(service, "s3") == 0;
	char	   *payload = hash_hex(req->body ? req->body : "", req->body_len);
	char	   *scope;
	char	   *text;
	char	   *host;
	bool		tls;
	int			port;
	StringInfoData names;

	req->url = goya_http_url_canonical_query(req->url);
	if (req->url == NULL || !goya_http_url_target(req->url, &tls, &host, &port))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the url is not a valid http or https address")));
	if (strftime(date, sizeof(date), "%Y%m%dT%H%M%SZ", gmtime_r(&now, &tm)) == 0)
		fail();
	req->headers[req->nheaders++] = port == (tls ? 443 : 80) ? psprintf("Host: %s", host) : psprintf("Host: %s:%d", host, port);
	req->headers[req->nheaders++] = psprintf("X-Amz-Date: %s", date);
	if (s3)
		req->headers[req->nheaders++] = psprintf("X-Amz-Content-Sha256: %s", payload);
	scope = psprintf("%.8s/%s/%s/aws4_request", date, region, service);
	initStringInfo(&names);
	text = string_to_sign(req, s3, payload, date, scope, &names);
	snprintf((char *) key, len + 1, "AWS4%s", secret);
	sign_with(key, &len, pnstrdup(date, 8));
	sign_with(key, &len, region);
	sign_with(key, &len, service);
	sign_with(key, &len, "aws4_request");
	sign_with(key, &len, text);
	req->headers[req->nheaders++] = psprintf("Authorization: AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s",
											 access_key, scope, names.data, hex_of(key));
	explicit_bzero(key, Max(strlen(secret) + 5, HASH_LEN));
	pfree(key);
}
