/*-------------------------------------------------------------------------
 * envelope.c
 *		Sealing values for tables: AES-256-GCM with a random key for each value, and that key wrapped, also with AES-256-GCM, by a master
 *		key.
 *
 *		bytes		what
 *		4			"GOY" and the format's version, 1
 *		1			length n of the master key's id
 *		n			the id
 *		12			nonce of the wrapping
 *		32 + 16		the value's key, wrapped, and tag; what is authenticated beside it: everything before the nonce
 *		12			nonce of the value
 *		len + 16	the value, encrypted, and tag; authenticated beside it: "GOY" 1, the tenant's 16 bytes, one byte length of kind, kind, ref
 *
 * What was decided. Nonces are 96 random bits. A value's key is used once, so its nonce could be anything; a master key wraps at most
 * 2^32 values before it has to be followed by another (NIST SP 800-38D). A new master key needs the wrapping done again and not the
 * value: the value's own part stays as it is, and is not looked at.
 *
 * What must hold: who moves the bytes to another row, name, kind or tenant gets an error, not the value. No key outlives the call.
 * Nothing throws while OpenSSL holds memory.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <openssl/evp.h>

#include "envelope.h"
#include "master_key.h"

#define MAGIC_LEN	4
#define WRAPPED		(GOYA_GCM_NONCE + GOYA_GCM_KEY + GOYA_GCM_TAG)
#define MAX_PLAIN	(256 * 1024 * 1024)

static const uint8 magic[MAGIC_LEN] = {'G', 'O', 'Y', 1};

/* Where the parts of a sealed value are. */
typedef struct Parts
{
	const uint8 *start;
	size_t		head;			/* bytes before the wrapping's nonce */
	const char *id;
	size_t		id_len;
	const uint8 *wrap;			/* nonce, key, tag */
	const uint8 *nonce;
	const uint8 *body;
	size_t		len;			/* of the value */
	const uint8 *tag;
} Parts;

/* ----- the cipher ----- */

/* Looked for once: OpenSSL 3 takes longer to find a cipher by its name than to seal a short value with it. */
static const EVP_CIPHER *
cipher(void)
{
	static const EVP_CIPHER *found = NULL;

	if (found == NULL)
		found = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
	return found != NULL ? found : EVP_aes_256_gcm();
}

bool
goya_gcm_seal(const uint8 *key, const uint8 *nonce, const uint8 *aad, int aad_len, const uint8 *in, int len, uint8 *out, uint8 *tag)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	int			n = 0;
	bool		ok;

	ok = ctx != NULL &&
		EVP_EncryptInit_ex(ctx, cipher(), NULL, key, nonce) == 1 &&
		(aad_len == 0 || EVP_EncryptUpdate(ctx, NULL, &n, aad, aad_len) == 1) &&
		(len == 0 || EVP_EncryptUpdate(ctx, out, &n, in, len) == 1) &&
		EVP_EncryptFinal_ex(ctx, out + len, &n) == 1 &&
		EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, GOYA_GCM_TAG, tag) == 1;
	EVP_CIPHER_CTX_free(ctx);	/* wipes the key */
	return ok;
}

bool
goya_gcm_open(const uint8 *key, const uint8 *nonce, const uint8 *aad, int aad_len, const uint8 *in, int len, uint8 *out, const uint8 *tag)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	uint8		expected[GOYA_GCM_TAG];
	int			n = 0;
	bool		ok;

	memcpy(expected, tag, GOYA_GCM_TAG);
	ok = ctx != NULL &&
		EVP_DecryptInit_ex(ctx, cipher(), NULL, key, nonce) == 1 &&
		(aad_len == 0 || EVP_DecryptUpdate(ctx, NULL, &n, aad, aad_len) == 1) &&
		(len == 0 || EVP_DecryptUpdate(ctx, out, &n, in, len) == 1) &&
		EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, GOYA_GCM_TAG, expected) == 1 &&
		EVP_DecryptFinal_ex(ctx, out + len, &n) == 1;
	EVP_CIPHER_CTX_free(ctx);
	if (!ok)
		explicit_bzero(out, len);
	return ok;
}

/* ----- parts ----- */

static void
fill_random(void *bytes, size_t len)
{
	if (!pg_strong_random(bytes, len))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("no random bytes for sealing")));
}

/* False: this is no sealed value. */
static bool
find_parts(const bytea *sealed, Parts *p)
{
	size_t		left = VARSIZE_ANY_EXHDR(sealed);

	p->start = (const uint8 *) VARDATA_ANY(sealed);
	if (left < MAGIC_LEN + 1 || memcmp(p->start, magic, MAGIC_LEN) != 0)
		return false;
	p->id_len = p->start[MAGIC_LEN];
	p->id = (const char *) p->start + MAGIC_LEN + 1;
	p->head = MAGIC_LEN + 1 + p->id_len;
	if (p->id_len == 0 || p->id_len > GOYA_KEY_ID_MAX || left < p->head + WRAPPED + GOYA_GCM_NONCE + GOYA_GCM_TAG)
		return false;
	for (size_t i = 0; i < p->id_len; i++)
		if (strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-", p->id[i]) == NULL || p->id[i] == '\0')
			return false;		/* it goes into messages */
	p->wrap = p->start + p->head;
	p->nonce = p->wrap + WRAPPED;
	p->body = p->nonce + GOYA_GCM_NONCE;
	p->len = left - (p->head + WRAPPED + GOYA_GCM_NONCE + GOYA_GCM_TAG);
	p->tag = p->body + p->len;
	return true;
}

static void
take_apart(const bytea *sealed, Parts *p)
{
	if (!find_parts(sealed, p))
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("this is no sealed value of goya"),
						errdetail("Its length or its first bytes are not those of format 1.")));
}

char *
goya_envelope_key_id(const bytea *sealed)
{
	Parts		p;

	return find_parts(sealed, &p) ? pnstrdup(p.id, p.id_len) : NULL;
}

size_t
goya_envelope_plain_len(const bytea *sealed)
{
	Parts		p;

	take_apart(sealed, &p);
	return p.len;
}

static uint8 *
belongings(const GoyaBelongs *to, int *len)
{
	size_t		kind_len = strlen(to->kind);
	uint8	   *aad = palloc(MAGIC_LEN + UUID_LEN + 1 + kind_len + to->ref_len);
	uint8	   *at = aad;

	if (kind_len == 0 || kind_len > 255)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("bad kind of a sealed value"),
						errdetail("It has %zu bytes.", kind_len)));
	memcpy(at, magic, MAGIC_LEN);
	at += MAGIC_LEN;
	memcpy(at, to->tenant->data, UUID_LEN);
	at += UUID_LEN;
	*at++ = (uint8) kind_len;
	memcpy(at, to->kind, kind_len);
	at += kind_len;
	memcpy(at, to->ref, to->ref_len);
	*len = (int) (at - aad + to->ref_len);
	return aad;
}

/* ----- keys of values ----- */

/* Head and wrapping, for a value's key, at the start of a new sealed value; returns where they end. */
static uint8 *
wrap_key(uint8 *at, const GoyaMasterKey *master, const uint8 *key, const uint8 *nonce)
{
	uint8	   *start = at;
	size_t		id_len = strlen(master->id);

	memcpy(at, magic, MAGIC_LEN);
	at += MAGIC_LEN;
	*at++ = (uint8) id_len;
	memcpy(at, master->id, id_len);
	at += id_len;
	memcpy(at, nonce, GOYA_GCM_NONCE);
	at += GOYA_GCM_NONCE;
	if (!goya_gcm_seal(master->bytes, nonce, start, (int) (at - GOYA_GCM_NONCE - start), key, GOYA_GCM_KEY, at, at + GOYA_GCM_KEY))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("a value cannot be sealed")));
	return at + GOYA_GCM_KEY + GOYA_GCM_TAG;
}

static bool
open_key(const GoyaMasterKey *master, const Parts *p, uint8 *key)
{
	const uint8 *wrapped = p->wrap + GOYA_GCM_NONCE;

	return goya_gcm_open(master->bytes, p->wrap, p->start, (int) p->head, wrapped, GOYA_GCM_KEY, key, wrapped + GOYA_GCM_KEY);
}

/* The value's key; throws when it cannot be had. */
static void
unwrap_key(const Parts *p, uint8 *key)
{
	const GoyaMasterKey *master = goya_master_key_find(p->id, p->id_len);

	if (master == NULL)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("goya has no master key \"%.*s\"", (int) p->id_len, p->id),
						errdetail("A value was sealed with it."),
						errhint("Put the key back into the file or the command's output, after the active one, and call pg_reload_conf().")));
	if (!open_key(master, p, key))
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("a sealed value cannot be opened"),
						errdetail("It was changed, or master key \"%s\" is not the one it was sealed with.", master->id)));
}

char *
goya_envelope_true_key_id(const bytea *sealed)
{
	Parts		p;
	const GoyaMasterKey *master;
	uint8		key[GOYA_GCM_KEY];
	bool		ok;

	if (!find_parts(sealed, &p))
		return NULL;
	master = goya_master_key_find(p.id, p.id_len);
	ok = master == NULL || open_key(master, &p, key);
	explicit_bzero(key, sizeof(key));
	return ok ? pnstrdup(p.id, p.id_len) : NULL;
}

/* ----- values ----- */

bytea *
goya_envelope_seal(const GoyaBelongs *to, const char *plain, size_t len)
{
	const GoyaMasterKey *master = goya_master_key_active();
	int			aad_len;
	uint8	   *aad = belongings(to, &aad_len);
	struct
	{
		uint8		key[GOYA_GCM_KEY];
		uint8		wrap_nonce[GOYA_GCM_NONCE];
		uint8		nonce[GOYA_GCM_NONCE];
	}			fresh;			/* asked for at once: that is what takes long */
	size_t		size = MAGIC_LEN + 1 + strlen(master->id) + WRAPPED + GOYA_GCM_NONCE + len + GOYA_GCM_TAG;
	bytea	   *sealed;
	uint8	   *at;
	bool		ok;

	if (len > MAX_PLAIN)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("a value is too large to be sealed")));
	sealed = palloc(VARHDRSZ + size);
	SET_VARSIZE(sealed, VARHDRSZ + size);
	fill_random(&fresh, sizeof(fresh));
	at = wrap_key((uint8 *) VARDATA(sealed), master, fresh.key, fresh.wrap_nonce);
	memcpy(at, fresh.nonce, GOYA_GCM_NONCE);
	ok = goya_gcm_seal(fresh.key, at, aad, aad_len, (const uint8 *) plain, (int) len, at + GOYA_GCM_NONCE, at + GOYA_GCM_NONCE + len);
	explicit_bzero(&fresh, sizeof(fresh));
	pfree(aad);
	if (!ok)
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("a value cannot be sealed")));
	return sealed;
}

void
goya_envelope_open(const GoyaBelongs *to, const bytea *sealed, char *plain)
{
	Parts		p;
	uint8		key[GOYA_GCM_KEY];
	int			aad_len;
	uint8	   *aad = belongings(to, &aad_len);
	bool		ok;

	take_apart(sealed, &p);
	unwrap_key(&p, key);
	ok = goya_gcm_open(key, p.nonce, aad, aad_len, p.body, (int) p.len, (uint8 *) plain, p.tag);
	explicit_bzero(key, sizeof(key));
	pfree(aad);
	if (!ok)
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("a sealed value cannot be opened"),
						errdetail("It was changed, or sealed for another row, name or tenant.")));
}

GoyaEnvelopeResult
goya_envelope_try_open(const GoyaBelongs *to, const bytea *sealed, char *plain)
{
	Parts		p;
	const GoyaMasterKey *master;
	uint8		key[GOYA_GCM_KEY];
	int			aad_len;
	uint8	   *aad;
	bool		ok;

	if (!find_parts(sealed, &p))
		return GOYA_ENVELOPE_CHANGED;
	aad = belongings(to, &aad_len);
	master = goya_master_key_find(p.id, p.id_len);
	if (master == NULL)
		return GOYA_ENVELOPE_NO_KEY;
	ok = open_key(master, &p, key) && goya_gcm_open(key, p.nonce, aad, aad_len, p.body, (int) p.len, (uint8 *) plain, p.tag);
	explicit_bzero(key, sizeof(key));
	pfree(aad);
	return ok ? GOYA_ENVELOPE_OPEN : GOYA_ENVELOPE_CHANGED;
}

bytea *
goya_envelope_rewrap(const bytea *sealed)
{
	const GoyaMasterKey *master = goya_master_key_active();
	Parts		p;
	uint8		key[GOYA_GCM_KEY];
	uint8		nonce[GOYA_GCM_NONCE];
	size_t		rest;
	bytea	   *again;
	uint8	   *at;

	take_apart(sealed, &p);
	if (strlen(master->id) == p.id_len && memcmp(master->id, p.id, p.id_len) == 0)
		return NULL;
	fill_random(nonce, sizeof(nonce));
	unwrap_key(&p, key);
	rest = GOYA_GCM_NONCE + p.len + GOYA_GCM_TAG;
	again = palloc(VARHDRSZ + MAGIC_LEN + 1 + strlen(master->id) + WRAPPED + rest);
	at = wrap_key((uint8 *) VARDATA(again), master, key, nonce);
	explicit_bzero(key, sizeof(key));
	memcpy(at, p.nonce, rest);
	SET_VARSIZE(again, at + rest - (uint8 *) again);
	return again;
}
