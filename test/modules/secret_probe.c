/*-------------------------------------------------------------------------
 * secret_probe.c
 *		For test/tap/040_secrets.pl and 048_canary.pl: what only C may do with secrets, as SQL functions.  Never installed.
 *
 * Built by the test with the compiler alone, loaded by its path into a server that preloads goya, whose functions it calls.
 */
#include "postgres.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/uuid.h"

#include "envelope.h"
#include "secret.h"

PG_MODULE_MAGIC;

static char *
string(FunctionCallInfo fcinfo, int i)
{
	return text_to_cstring(PG_GETARG_TEXT_PP(i));
}

static bytea *
bytes(const char *from, size_t len)
{
	bytea	   *b = palloc(VARHDRSZ + len);

	SET_VARSIZE(b, VARHDRSZ + len);
	memcpy(VARDATA(b), from, len);
	return b;
}

/* (tenant, name, tls, host, port): the value */
PG_FUNCTION_INFO_V1(probe_resolve);
Datum
probe_resolve(PG_FUNCTION_ARGS)
{
	GoyaSecrets *set = goya_secrets_create(CurrentMemoryContext);
	GoyaSecretTarget target = {PG_GETARG_BOOL(2), string(fcinfo, 3), PG_GETARG_INT32(4)};
	size_t		len;
	const char *value = goya_secret_resolve(set, PG_GETARG_UUID_P(0), string(fcinfo, 1), &target, &len);

	PG_RETURN_TEXT_P(cstring_to_text_with_len(value, len));
}

/* (tenant, names, tls, host, port, answer): the answer, redacted */
PG_FUNCTION_INFO_V1(probe_redact);
Datum
probe_redact(PG_FUNCTION_ARGS)
{
	GoyaSecrets *set = goya_secrets_create(CurrentMemoryContext);
	GoyaSecretTarget target = {PG_GETARG_BOOL(2), string(fcinfo, 3), PG_GETARG_INT32(4)};
	char	   *rest = NULL;
	bytea	   *answer = PG_GETARG_BYTEA_PP(5);
	size_t		len;
	const char *result;

	for (char *name = strtok_r(string(fcinfo, 1), ",", &rest); name != NULL; name = strtok_r(NULL, ",", &rest))
		(void) goya_secret_resolve(set, PG_GETARG_UUID_P(0), name, &target, NULL);
	result = goya_secret_redact(set, VARDATA_ANY(answer), VARSIZE_ANY_EXHDR(answer), &len);
	PG_RETURN_BYTEA_P(bytes(result, len));
}

/* (tenant, name, tls, host, port, answer, size): the answer, redacted as it comes in pieces of that size */
PG_FUNCTION_INFO_V1(probe_redact_pieces);
Datum
probe_redact_pieces(PG_FUNCTION_ARGS)
{
	GoyaSecrets *set = goya_secrets_create(CurrentMemoryContext);
	GoyaSecretTarget target = {PG_GETARG_BOOL(2), string(fcinfo, 3), PG_GETARG_INT32(4)};
	bytea	   *answer = PG_GETARG_BYTEA_PP(5);
	int			size = PG_GETARG_INT32(6);
	const char *at = VARDATA_ANY(answer);
	const char *end = at + VARSIZE_ANY_EXHDR(answer);
	const char *clean;
	StringInfoData held;
	StringInfoData all;
	size_t		left;
	size_t		len;

	(void) goya_secret_resolve(set, PG_GETARG_UUID_P(0), string(fcinfo, 1), &target, NULL);
	initStringInfo(&held);
	initStringInfo(&all);
	for (; at < end; at += Min(size, end - at))
	{
		appendBinaryStringInfo(&held, at, Min(size, end - at));
		clean = goya_secret_redact_piece(set, held.data, held.len, &len, &left);
		appendBinaryStringInfo(&all, clean, len);
		memmove(held.data, held.data + held.len - left, left);
		held.len = left;
	}
	clean = goya_secret_redact(set, held.data, held.len, &len);
	appendBinaryStringInfo(&all, clean, len);
	PG_RETURN_BYTEA_P(bytes(all.data, all.len));
}

/* (pattern, tls, host, port): does it match? */
PG_FUNCTION_INFO_V1(probe_matches);
Datum
probe_matches(PG_FUNCTION_ARGS)
{
	GoyaSecretTarget target = {PG_GETARG_BOOL(1), string(fcinfo, 2), PG_GETARG_INT32(3)};

	PG_RETURN_BOOL(goya_secret_host_matches(goya_secret_host_pattern(string(fcinfo, 0)), &target));
}

typedef struct Seen
{
	MemoryContextCallback callback;
	const char *value;
	const char *header;
	int			left;			/* bytes that are not zero */
} Seen;

/* Registered before the set's own callback, so it is called after it, while the memory is still there. */
static void
look(void *arg)
{
	Seen	   *seen = arg;

	seen->left = 0;
	for (int i = 0; i < 8; i++)
		seen->left += (seen->value[i] != 0) + (seen->header[i] != 0);
}

/* (tenant, name, tls, host, port): how much of it is left in memory when its context is reset */
PG_FUNCTION_INFO_V1(probe_wiped);
Datum
probe_wiped(PG_FUNCTION_ARGS)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "probe", ALLOCSET_DEFAULT_SIZES);
	Seen	   *seen = palloc0(sizeof(Seen));
	GoyaSecretTarget target = {PG_GETARG_BOOL(2), string(fcinfo, 3), PG_GETARG_INT32(4)};
	GoyaSecrets *set;

	seen->callback.func = look;
	seen->callback.arg = seen;
	MemoryContextRegisterResetCallback(cxt, &seen->callback);
	set = goya_secrets_create(cxt);
	seen->value = goya_secret_resolve(set, PG_GETARG_UUID_P(0), string(fcinfo, 1), &target, NULL);
	seen->header = goya_secrets_printf(set, "Authorization: Bearer %s", seen->value);
	MemoryContextReset(cxt);
	PG_RETURN_INT32(seen->left);
}

/* (key, nonce, aad, plain): cipher text and tag */
PG_FUNCTION_INFO_V1(probe_gcm_seal);
Datum
probe_gcm_seal(PG_FUNCTION_ARGS)
{
	bytea	   *key = PG_GETARG_BYTEA_PP(0);
	bytea	   *nonce = PG_GETARG_BYTEA_PP(1);
	bytea	   *aad = PG_GETARG_BYTEA_PP(2);
	bytea	   *plain = PG_GETARG_BYTEA_PP(3);
	int			len = VARSIZE_ANY_EXHDR(plain);
	uint8	   *out = palloc(len + GOYA_GCM_TAG);

	if (!goya_gcm_seal((uint8 *) VARDATA_ANY(key), (uint8 *) VARDATA_ANY(nonce), (uint8 *) VARDATA_ANY(aad), VARSIZE_ANY_EXHDR(aad), (uint8 *) VARDATA_ANY(plain), len, out, out + len))
		PG_RETURN_NULL();
	PG_RETURN_BYTEA_P(bytes((char *) out, len + GOYA_GCM_TAG));
}

/* (key, nonce, aad, cipher text and tag): the plain text, or NULL */
PG_FUNCTION_INFO_V1(probe_gcm_open);
Datum
probe_gcm_open(PG_FUNCTION_ARGS)
{
	bytea	   *key = PG_GETARG_BYTEA_PP(0);
	bytea	   *nonce = PG_GETARG_BYTEA_PP(1);
	bytea	   *aad = PG_GETARG_BYTEA_PP(2);
	bytea	   *sealed = PG_GETARG_BYTEA_PP(3);
	int			len = VARSIZE_ANY_EXHDR(sealed) - GOYA_GCM_TAG;
	uint8	   *in = (uint8 *) VARDATA_ANY(sealed);
	uint8	   *out = palloc(len + 1);

	if (!goya_gcm_open((uint8 *) VARDATA_ANY(key), (uint8 *) VARDATA_ANY(nonce), (uint8 *) VARDATA_ANY(aad), VARSIZE_ANY_EXHDR(aad), in, len, out, in + len))
		PG_RETURN_NULL();
	PG_RETURN_BYTEA_P(bytes((char *) out, len));
}
