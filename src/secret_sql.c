/*-------------------------------------------------------------------------
 * secret_sql.c
 *		What goya's own SQL functions (sql/37_secrets.sql) need of master keys, sealed values and personal data. All are in goya_private,
 *		which nobody may use, but for goya.redact_pii.
 *
 * What must hold. No function opens what was sealed as a secret or as a key: open_sealed refuses these kinds, and since the kind is
 * part of what a value is sealed for, it cannot be opened as another one either.  Not even a superuser gets a secret back by SQL.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "pgstat.h"
#include "tcop/tcopprot.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "envelope.h"
#include "goya.h"
#include "master_key.h"
#include "pii.h"
#include "secret.h"

#define KEY_KIND "key"
#define EXPLAIN_SETTING "auto_explain.log_min_duration"

PG_FUNCTION_INFO_V1(goya_hide_statement_sql);
PG_FUNCTION_INFO_V1(goya_secret_hosts_sql);
PG_FUNCTION_INFO_V1(goya_seal_secret_sql);
PG_FUNCTION_INFO_V1(goya_seal_sql);
PG_FUNCTION_INFO_V1(goya_open_sealed_sql);
PG_FUNCTION_INFO_V1(goya_rewrap_sql);
PG_FUNCTION_INFO_V1(goya_sealed_with_sql);
PG_FUNCTION_INFO_V1(goya_master_keys_sql);
PG_FUNCTION_INFO_V1(goya_make_key_sql);
PG_FUNCTION_INFO_V1(goya_keyed_hash_sql);
PG_FUNCTION_INFO_V1(goya_redact_pii_sql);

/*
 * The statement that is running may have a secret in its text. From here on it is not in pg_stat_activity, nor in the log with an error
 * that follows. What PostgreSQL wrote before (log_statement) or writes from its own copy (log_min_duration_statement) is not ours to
 * change.
 * auto_explain would write values of parameters as parts of the plan: it says nothing of the rest of this transaction.
 */
Datum
goya_hide_statement_sql(PG_FUNCTION_ARGS)
{
	static const char hidden[] = "(a statement of goya that holds a secret)";

	if (GetConfigOption(EXPLAIN_SETTING, true, false) != NULL)
		set_config_option(EXPLAIN_SETTING, "-1", PGC_SUSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
	if (debug_query_string != NULL)
	{
		debug_query_string = hidden;
		pgstat_report_activity(STATE_RUNNING, hidden);
	}
	PG_RETURN_VOID();
}

/* ----- secrets ----- */

static char **
text_array(ArrayType *array, int *n)
{
	Datum	   *values;
	bool	   *nulls;
	char	  **texts;

	if (ARR_NDIM(array) > 1)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("bad hosts of a secret"), errdetail("It is not a simple array.")));
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, n);
	texts = palloc(sizeof(char *) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
		texts[i] = nulls[i] ? "" : TextDatumGetCString(values[i]);
	return texts;
}

/* The patterns as they are stored: checked, in lower case, each once, in order. */
Datum
goya_secret_hosts_sql(PG_FUNCTION_ARGS)
{
	int			n;
	char	  **texts = text_array(PG_GETARG_ARRAYTYPE_P(0), &n);
	Datum	   *kept = palloc(sizeof(Datum) * Max(n, 1));
	int			nkept = 0;

	if (n < 1 || n > 32)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("bad hosts of a secret"), errdetail("There are %d of them.", n),
						errhint("Name from 1 to 32 hosts it may be sent to, as in ARRAY['api.example.com'].")));
	for (int i = 0; i < n; i++)
		texts[i] = goya_secret_host_pattern(texts[i]);
	qsort(texts, n, sizeof(char *), pg_qsort_strcmp);
	for (int i = 0; i < n; i++)
		if (i == 0 || strcmp(texts[i], texts[i - 1]) != 0)
			kept[nkept++] = CStringGetTextDatum(texts[i]);
	PG_RETURN_ARRAYTYPE_P(construct_array(kept, nkept, TEXTOID, -1, false, TYPALIGN_INT));
}

/* seal_secret(tenant, name, version, hosts, value) */
Datum
goya_seal_secret_sql(PG_FUNCTION_ARGS)
{
	GoyaBelongs to = {.tenant = PG_GETARG_UUID_P(0),.kind = GOYA_SECRET_KIND};
	int			n;
	char	  **hosts = text_array(PG_GETARG_ARRAYTYPE_P(3), &n);
	text	   *value = PG_GETARG_TEXT_PP(4);
	size_t		len = VARSIZE_ANY_EXHDR(value);
	char	   *ref = goya_secret_ref(text_to_cstring(PG_GETARG_TEXT_PP(1)), PG_GETARG_INT32(2), n, hosts);

	if (len < GOYA_SECRET_MIN || len > GOYA_SECRET_MAX)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("bad value of a secret"),
						len < GOYA_SECRET_MIN ? errdetail("It has fewer than %d bytes.", GOYA_SECRET_MIN) :
						errdetail("It has more than %d bytes.", GOYA_SECRET_MAX),
						len < GOYA_SECRET_MIN ? errhint("A shorter one could not be told from other text in what services answer.") : 0));
	to.ref = ref;
	to.ref_len = strlen(ref);
	PG_RETURN_BYTEA_P(goya_envelope_seal(&to, VARDATA_ANY(value), len));
}

/* ----- text ----- */

static void
text_belongs(FunctionCallInfo fcinfo, GoyaBelongs *to)
{
	text	   *ref = PG_GETARG_TEXT_PP(2);

	to->tenant = PG_GETARG_UUID_P(0);
	to->kind = text_to_cstring(PG_GETARG_TEXT_PP(1));
	to->ref = VARDATA_ANY(ref);
	to->ref_len = VARSIZE_ANY_EXHDR(ref);
	if (strcmp(to->kind, GOYA_SECRET_KIND) == 0 || strcmp(to->kind, KEY_KIND) == 0)
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("secrets cannot be read"),
						errdetail("They are opened only for a call to a host they are bound to.")));
}

/* seal(tenant, kind, ref, value) */
Datum
goya_seal_sql(PG_FUNCTION_ARGS)
{
	text	   *value = PG_GETARG_TEXT_PP(3);
	GoyaBelongs to;

	text_belongs(fcinfo, &to);
	PG_RETURN_BYTEA_P(goya_envelope_seal(&to, VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value)));
}

/* open_sealed(tenant, kind, ref, sealed) */
Datum
goya_open_sealed_sql(PG_FUNCTION_ARGS)
{
	bytea	   *sealed = PG_GETARG_BYTEA_PP(3);
	GoyaBelongs to;
	size_t		len;
	text	   *value;

	text_belongs(fcinfo, &to);
	len = goya_envelope_plain_len(sealed);
	value = palloc(VARHDRSZ + len);
	SET_VARSIZE(value, VARHDRSZ + len);
	goya_envelope_open(&to, sealed, VARDATA(value));
	PG_RETURN_TEXT_P(value);
}

/* ----- master keys ----- */

Datum
goya_rewrap_sql(PG_FUNCTION_ARGS)
{
	bytea	   *again = goya_envelope_rewrap(PG_GETARG_BYTEA_PP(0));

	if (again == NULL)
		PG_RETURN_DATUM(PG_GETARG_DATUM(0));
	PG_RETURN_BYTEA_P(again);
}

Datum
goya_sealed_with_sql(PG_FUNCTION_ARGS)
{
	char	   *id = goya_envelope_key_id(PG_GETARG_BYTEA_PP(0));

	if (id == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(id));
}

/* Ids of the master keys this process has, the active one first. */
Datum
goya_master_keys_sql(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	const GoyaMasterKey *key;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	for (int i = 0; (key = goya_master_key_at(i)) != NULL; i++)
	{
		Datum		values[1] = {CStringGetTextDatum(key->id)};
		bool		nulls[1] = {false};

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* ----- keyed hashes ----- */

static void
key_belongs(FunctionCallInfo fcinfo, GoyaBelongs *to)
{
	text	   *purpose = PG_GETARG_TEXT_PP(1);

	to->tenant = PG_GETARG_UUID_P(0);
	to->kind = KEY_KIND;
	to->ref = VARDATA_ANY(purpose);
	to->ref_len = VARSIZE_ANY_EXHDR(purpose);
}

/* make_key(tenant, purpose): a new random key, sealed. */
Datum
goya_make_key_sql(PG_FUNCTION_ARGS)
{
	GoyaBelongs to;
	char		key[GOYA_KEY_BYTES];
	bytea	   *sealed;

	key_belongs(fcinfo, &to);
	if (!pg_strong_random(key, sizeof(key)))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("no random bytes for a key")));
	sealed = goya_envelope_seal(&to, key, sizeof(key));
	explicit_bzero(key, sizeof(key));
	PG_RETURN_BYTEA_P(sealed);
}

/* keyed_hash(tenant, purpose, sealed, value): HMAC-SHA256 with a key of make_key, as hexadecimal. */
Datum
goya_keyed_hash_sql(PG_FUNCTION_ARGS)
{
	bytea	   *sealed = PG_GETARG_BYTEA_PP(2);
	text	   *value = PG_GETARG_TEXT_PP(3);
	GoyaBelongs to;
	char		key[GOYA_KEY_BYTES];
	unsigned char hash[EVP_MAX_MD_SIZE];
	unsigned int len = 0;
	bool		ok;
	text	   *result;

	key_belongs(fcinfo, &to);
	if (goya_envelope_plain_len(sealed) != sizeof(key))
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("a sealed key has the wrong length")));
	goya_envelope_open(&to, sealed, key);
	ok = HMAC(EVP_sha256(), key, sizeof(key), (unsigned char *) VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value), hash, &len) != NULL;
	explicit_bzero(key, sizeof(key));
	if (!ok)
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("a hash cannot be made")));
	result = palloc(VARHDRSZ + len * 2);
	SET_VARSIZE(result, VARHDRSZ + len * 2);
	(void) hex_encode((char *) hash, len, VARDATA(result));
	PG_RETURN_TEXT_P(result);
}

/* ----- personal data ----- */

Datum
goya_redact_pii_sql(PG_FUNCTION_ARGS)
{
	text	   *value = PG_GETARG_TEXT_PP(0);
	size_t		len;
	char	   *changed = goya_pii_redact(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value), &len);

	if (changed == NULL)
		PG_RETURN_TEXT_P(value);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(changed, (int) len));
}
