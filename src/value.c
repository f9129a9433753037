/*-------------------------------------------------------------------------
 * value.c
 *		Values at rest: inputs and outputs of tasks and node runs, what agents say, and whatever else is stored of them on its way,
 *		sealed for tenants with the setting encrypt_prompts.
 *
 * A sealed value stands in the column of the value: {"$sealed": "<base64 of an envelope>"} (envelope.c); in a column of type text, the
 * text of that.  It is sealed for its tenant and nothing else, since retries and children carry values from row to row.  In the
 * envelope is the value's JSON text, so that a dump can be restored anywhere.
 *
 * Decided.  Whoever reads a stored value opens it, whatever the setting says by now; whoever writes one seals it when the setting says
 * so.  In between, in memory, values are clear (scope.c).  What a user makes that only looks like a sealed value is that user's data:
 * when it cannot be opened for the tenant, it is given back as it is.  Only where the master key that it names is not here is there an
 * error: that may well be a value.
 *
 * What must hold: nothing of a tenant is opened for another; the tenant is authenticated with the value.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/base64.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"

#include "envelope.h"
#include "identity.h"
#include "json_util.h"
#include "value.h"
#include "watch.h"

#define SEALED_KEY		"$sealed"
#define ENVELOPE_START	"R09ZA"	/* base64 of what every envelope begins with */
#define TEXT_BEFORE		"{\"" SEALED_KEY "\": \""
#define TEXT_AFTER		"\"}"
#define VALUE_KIND		"value"
#define MOST_SEALED		(250 * 1024 * 1024) /* bytes of a string in jsonb, and a bit less */

PG_FUNCTION_INFO_V1(goya_open_value_sql);
PG_FUNCTION_INFO_V1(goya_open_text_sql);
PG_FUNCTION_INFO_V1(goya_open_value_of_sql);
PG_FUNCTION_INFO_V1(goya_open_text_of_sql);
PG_FUNCTION_INFO_V1(goya_seal_value_sql);
PG_FUNCTION_INFO_V1(goya_seal_text_sql);
PG_FUNCTION_INFO_V1(goya_value_key_sql);
PG_FUNCTION_INFO_V1(goya_text_key_sql);
PG_FUNCTION_INFO_V1(goya_rewrap_value_sql);
PG_FUNCTION_INFO_V1(goya_rewrap_text_sql);

/* ----- who wants it ----- */

typedef struct KeptTenant
{
	uint64		version;		/* 0: nothing is kept here */
	pg_uuid_t	tenant;
	bool		seals;
} KeptTenant;

static KeptTenant kept[64];

static bool
read_setting(const pg_uuid_t *tenant)
{
	static const char *const columns[] = {"settings"};
	GoyaWatchKey key = {"id", F_UUID_EQ, UUIDPGetDatum(tenant)};
	List	   *rows = goya_watch_read(GOYA_WATCHED_TENANTS, "tenants_pkey", 1, &key, lengthof(columns), columns);
	GoyaWatchRow *row = rows == NIL ? NULL : linitial(rows);

	return row != NULL && !row->nulls[0] && goya_json_is_true(goya_json_get(DatumGetJsonbP(row->values[0]), "encrypt_prompts"));
}

bool
goya_tenant_seals(const pg_uuid_t *tenant)
{
	KeptTenant *k = &kept[tenant->data[UUID_LEN - 1] % lengthof(kept)];
	uint64		version = goya_watch_version(GOYA_WATCH_IDENTITY);

	if (k->version == version && memcmp(&k->tenant, tenant, UUID_LEN) == 0)
		return k->seals;
	k->version = 0;
	k->seals = read_setting(tenant);
	k->tenant = *tenant;
	k->version = version;
	return k->seals;
}

/* ----- the form ----- */

static bool
find_sealed(const Jsonb *value, JsonbValue *text)
{
	return value != NULL && JB_ROOT_IS_OBJECT(value) && JB_ROOT_COUNT(value) == 1 &&
		getKeyJsonValueFromContainer((JsonbContainer *) &value->root, SEALED_KEY, strlen(SEALED_KEY), text) != NULL &&
		text->type == jbvString && text->val.string.len > strlen(ENVELOPE_START) &&
		memcmp(text->val.string.val, ENVELOPE_START, strlen(ENVELOPE_START)) == 0;
}

/* The envelope of a value that has the form of a sealed one, else NULL. */
static bytea *
envelope_of(const Jsonb *value)
{
	JsonbValue	text;
	bytea	   *sealed;
	int			len;

	if (!find_sealed(value, &text))
		return NULL;
	len = pg_b64_dec_len(text.val.string.len);
	sealed = palloc(VARHDRSZ + len);
	len = pg_b64_decode(text.val.string.val, text.val.string.len, VARDATA(sealed), len);
	if (len < 0)
		return NULL;
	SET_VARSIZE(sealed, VARHDRSZ + len);
	return goya_envelope_key_id(sealed) != NULL ? sealed : NULL;
}

static Jsonb *
sealed_object(const char *base64, int len)
{
	const char *keys[1] = {SEALED_KEY};
	Jsonb	   *text = goya_json_from_text_len(base64, len);
	Jsonb	   *result = goya_json_object(1, keys, &text);

	pfree(text);
	return result;
}

static Jsonb *
value_of(const bytea *sealed)
{
	int			len = pg_b64_enc_len(VARSIZE_ANY_EXHDR(sealed));
	char	   *text = palloc(len);
	Jsonb	   *result;

	len = pg_b64_encode(VARDATA_ANY(sealed), VARSIZE_ANY_EXHDR(sealed), text, len);
	if (len < 0)
		elog(ERROR, "could not encode a sealed value");
	result = sealed_object(text, len);
	pfree(text);
	return result;
}

bool
goya_value_is_sealed(const Jsonb *value)
{
	return envelope_of(value) != NULL;
}

/* The value that a text of the form of a sealed one stands for, else NULL. */
static Jsonb *
value_of_text(const text *t)
{
	const char *at = VARDATA_ANY(t);
	size_t		len = VARSIZE_ANY_EXHDR(t);
	size_t		before = strlen(TEXT_BEFORE);
	size_t		after = strlen(TEXT_AFTER);
	Jsonb	   *value;

	if (len <= before + after || memcmp(at, TEXT_BEFORE ENVELOPE_START, Min(len, before + strlen(ENVELOPE_START))) != 0 ||
		memcmp(at + len - after, TEXT_AFTER, after) != 0)
		return NULL;
	value = sealed_object(at + before, (int) (len - before - after));
	return goya_value_is_sealed(value) ? value : NULL;
}

static text *
text_of_value(const Jsonb *sealed)
{
	return cstring_to_text(goya_json_to_cstring(sealed));
}

/* ----- sealing and opening ----- */

static GoyaBelongs
belongs(const pg_uuid_t *tenant)
{
	return (GoyaBelongs) {.tenant = tenant,.kind = VALUE_KIND,.ref = "",.ref_len = 0};
}

Jsonb *
goya_value_seal(const pg_uuid_t *tenant, const Jsonb *value)
{
	GoyaBelongs to = belongs(tenant);
	char	   *text = goya_json_to_cstring(value);
	size_t		len = strlen(text);
	bytea	   *sealed;
	Jsonb	   *result;

	if (len > MOST_SEALED / 4 * 3)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("a value is too large to be sealed"),
						errdetail("It has %zu bytes.", len), errhint("Keep what is large in an asset.")));
	sealed = goya_envelope_seal(&to, text, len);
	result = value_of(sealed);
	pfree(sealed);
	pfree(text);
	return result;
}

Jsonb *
goya_value_seal_if_wanted(const pg_uuid_t *tenant, Jsonb *value)
{
	return goya_tenant_seals(tenant) ? goya_value_seal(tenant, value) : value;
}

static void
key_is_missing(const bytea *sealed)
{
	ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("goya has no master key \"%s\"", goya_envelope_key_id(sealed)),
					errdetail("An input or output was sealed with it."),
					errhint("Put the key back into the file or the command's output, after the active one, and call pg_reload_conf().")));
}

Jsonb *
goya_value_open(const pg_uuid_t *tenant, Jsonb *value)
{
	bytea	   *sealed = envelope_of(value);
	GoyaBelongs to = belongs(tenant);
	size_t		len;
	char	   *plain;

	if (sealed == NULL)
		return value;
	len = goya_envelope_plain_len(sealed);
	plain = palloc(len + 1);
	switch (goya_envelope_try_open(&to, sealed, plain))
	{
		case GOYA_ENVELOPE_OPEN:
			plain[len] = '\0';
			value = goya_json_parse(plain, (int) len);
			break;
		case GOYA_ENVELOPE_NO_KEY:
			key_is_missing(sealed);
			break;
		case GOYA_ENVELOPE_CHANGED:
			break;
	}
	pfree(plain);
	pfree(sealed);
	return value;
}

static text *
open_text(const pg_uuid_t *tenant, text *t)
{
	Jsonb	   *sealed = value_of_text(t);
	Jsonb	   *value = sealed == NULL ? NULL : goya_value_open(tenant, sealed);

	return value == sealed || goya_json_is_null(value) ? t : cstring_to_text(goya_json_as_text(value));
}

/* ----- SQL ----- */

/* goya.open_value(value): for the caller's tenant. */
Datum
goya_open_value_sql(PG_FUNCTION_ARGS)
{
	Jsonb	   *value = PG_GETARG_JSONB_P(0);
	pg_uuid_t	tenant;

	if (!goya_value_is_sealed(value))
		PG_RETURN_JSONB_P(value);
	goya_identity_require_tenant(&tenant);
	PG_RETURN_JSONB_P(goya_value_open(&tenant, value));
}

/* goya.open_text(value): the same of a text. */
Datum
goya_open_text_sql(PG_FUNCTION_ARGS)
{
	text	   *value = PG_GETARG_TEXT_PP(0);
	pg_uuid_t	tenant;

	if (value_of_text(value) == NULL)
		PG_RETURN_TEXT_P(value);
	goya_identity_require_tenant(&tenant);
	PG_RETURN_TEXT_P(open_text(&tenant, value));
}

/* goya_private.open_value(tenant, value) */
Datum
goya_open_value_of_sql(PG_FUNCTION_ARGS)
{
	PG_RETURN_JSONB_P(goya_value_open(PG_GETARG_UUID_P(0), PG_GETARG_JSONB_P(1)));
}

/* goya_private.open_text(tenant, value) */
Datum
goya_open_text_of_sql(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(open_text(PG_GETARG_UUID_P(0), PG_GETARG_TEXT_PP(1)));
}

/* goya_private.seal_value(tenant, value): if the tenant wants it. */
Datum
goya_seal_value_sql(PG_FUNCTION_ARGS)
{
	PG_RETURN_JSONB_P(goya_value_seal_if_wanted(PG_GETARG_UUID_P(0), PG_GETARG_JSONB_P(1)));
}

/* goya_private.seal_text(tenant, value): if the tenant wants it. */
Datum
goya_seal_text_sql(PG_FUNCTION_ARGS)
{
	const pg_uuid_t *tenant = PG_GETARG_UUID_P(0);
	text	   *value = PG_GETARG_TEXT_PP(1);

	if (!goya_tenant_seals(tenant))
		PG_RETURN_TEXT_P(value);
	PG_RETURN_TEXT_P(text_of_value(goya_value_seal(tenant, goya_json_from_text_len(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value)))));
}

/*
 * goya_private.value_key(value, checked): the id of its master key; null: not sealed, or, with checked, that key is here and did not
 * seal it.
 */
static Datum
key_of(FunctionCallInfo fcinfo, const Jsonb *value)
{
	bytea	   *sealed = envelope_of(value);
	char	   *id = sealed == NULL ? NULL : PG_GETARG_BOOL(1) ? goya_envelope_true_key_id(sealed) : goya_envelope_key_id(sealed);

	if (id == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(id));
}

Datum
goya_value_key_sql(PG_FUNCTION_ARGS)
{
	return key_of(fcinfo, PG_GETARG_JSONB_P(0));
}

Datum
goya_text_key_sql(PG_FUNCTION_ARGS)
{
	return key_of(fcinfo, value_of_text(PG_GETARG_TEXT_PP(0)));
}

/* The same value under the active master key. */
static Jsonb *
rewrap(Jsonb *value)
{
	bytea	   *sealed = envelope_of(value);
	bytea	   *again = sealed == NULL || goya_envelope_true_key_id(sealed) == NULL ? NULL : goya_envelope_rewrap(sealed);

	return again == NULL ? value : value_of(again);
}

Datum
goya_rewrap_value_sql(PG_FUNCTION_ARGS)
{
	PG_RETURN_JSONB_P(rewrap(PG_GETARG_JSONB_P(0)));
}

Datum
goya_rewrap_text_sql(PG_FUNCTION_ARGS)
{
	text	   *value = PG_GETARG_TEXT_PP(0);
	Jsonb	   *sealed = value_of_text(value);

	PG_RETURN_TEXT_P(sealed == NULL ? value : text_of_value(rewrap(sealed)));
}
