/*-------------------------------------------------------------------------
 * envelope.h
 *		Values sealed with AES-256-GCM: a key of their own, wrapped by a master key.  See envelope.c for the format.
 *-------------------------------------------------------------------------
 */
#ifndef GOYA_ENVELOPE_H
#define GOYA_ENVELOPE_H

#include "postgres.h"
#include "utils/uuid.h"

#define GOYA_GCM_KEY	32
#define GOYA_GCM_NONCE	12
#define GOYA_GCM_TAG	16

/* What a value belongs to: it opens for the same only.  kind is at most 255 bytes; ref says which one of the kind. */
typedef struct GoyaBelongs
{
	const pg_uuid_t *tenant;
	const char *kind;
	const char *ref;
	size_t		ref_len;
} GoyaBelongs;

/* Sealed with the active master key, in the current memory context.  Throws 55000 without one. */
extern bytea *goya_envelope_seal(const GoyaBelongs *to, const char *plain, size_t len);

/*
 * Opens into memory of the caller, which has goya_envelope_plain_len() bytes; the caller wipes it. Throws 55000 for a master key that
 * is not here, XX001 when the value was changed or belongs to something else; then nothing of it is in the memory.
 */
extern void goya_envelope_open(const GoyaBelongs *to, const bytea *sealed, char *plain);

typedef enum GoyaEnvelopeResult
{
	GOYA_ENVELOPE_OPEN,
	GOYA_ENVELOPE_NO_KEY,		/* its master key is not among those that are here */
	GOYA_ENVELOPE_CHANGED		/* or belongs to something else, or is under another key of that name */
} GoyaEnvelopeResult;

/* The same for what may be no sealed value at all. Throws 55000 only where the master keys cannot be had. */
extern GoyaEnvelopeResult goya_envelope_try_open(const GoyaBelongs *to, const bytea *sealed, char *plain);
extern size_t goya_envelope_plain_len(const bytea *sealed);

/* The same value under the active master key; NULL: it is already. */
extern bytea *goya_envelope_rewrap(const bytea *sealed);

/* The id of its master key, palloc'd; NULL: this is no sealed value.  Needs no key. */
extern char *goya_envelope_key_id(const bytea *sealed);

/* The same, and NULL where that master key is here and did not seal this: anybody can write an id into bytes. */
extern char *goya_envelope_true_key_id(const bytea *sealed);

/* The cipher itself.  out has len bytes and may be in.  Neither throws; false: failed, and for open: not authentic. */
extern bool goya_gcm_seal(const uint8 *key, const uint8 *nonce, const uint8 *aad, int aad_len,
						  const uint8 *in, int len, uint8 *out, uint8 *tag);
extern bool goya_gcm_open(const uint8 *key, const uint8 *nonce, const uint8 *aad, int aad_len,
						  const uint8 *in, int len, uint8 *out, const uint8 *tag);

#endif
