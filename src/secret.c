/*-------------------------------------------------------------------------
 * secret.c
 *		The secrets of one outside call.  See secret.h for how they are used, docs/design/secrets.md for why.
 *
 * What was decided. A secret's hosts, name and version are what its value is sealed for (goya_secret_ref): whoever can change the row
 * but does not know the value cannot have it sent to another host.
 *
 * Memory: everything secret is in chunks of the set's context, in a list; a reset callback overwrites them. What libcurl copies of a
 * request is its own.
 *
 * What must hold: values are never in an error, and never read in a process for anything but a call or a test of goya's.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "envelope.h"
#include "goya.h"
#include "secret.h"
#include "store.h"

typedef struct Chunk
{
	struct Chunk *next;
	size_t		len;
	char		bytes[FLEXIBLE_ARRAY_MEMBER];
} Chunk;

typedef struct Secret
{
	struct Secret *next;
	const char *name;
	const char *value;
	size_t		len;
	int			nhosts;
	char	  **hosts;
} Secret;

struct GoyaSecrets
{
	MemoryContext cxt;
	MemoryContextCallback callback;
	Chunk	   *chunks;
	Secret	   *secrets;
	GoyaSecretForm *forms;
};

/* ----- memory ----- */

static void
wipe(void *arg)
{
	GoyaSecrets *set = arg;

	for (Chunk *c = set->chunks; c != NULL; c = c->next)
		explicit_bzero(c->bytes, c->len);
	set->chunks = NULL;
}

GoyaSecrets *
goya_secrets_create(MemoryContext cxt)
{
	GoyaSecrets *set = MemoryContextAllocZero(cxt, sizeof(GoyaSecrets));

	set->cxt = cxt;
	set->callback.func = wipe;
	set->callback.arg = set;
	MemoryContextRegisterResetCallback(cxt, &set->callback);
	return set;
}

char *
goya_secrets_alloc(GoyaSecrets *set, size_t len)
{
	Chunk	   *c = MemoryContextAllocZero(set->cxt, offsetof(Chunk, bytes) + len + 1);

	c->len = len + 1;
	c->next = set->chunks;
	set->chunks = c;
	return c->bytes;
}

char *
goya_secrets_printf(GoyaSecrets *set, const char *format,...)
{
	va_list		args;
	int			len;
	char	   *text;

	va_start(args, format);
	len = vsnprintf(NULL, 0, format, args);
	va_end(args);
	if (len < 0)
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("a secret cannot be formatted")));
	text = goya_secrets_alloc(set, len);
	va_start(args, format);
	(void) vsnprintf(text, len + 1, format, args);
	va_end(args);
	return text;
}

/* ----- forms ----- */

static void
add_form(GoyaSecrets *set, const char *name, const char *bytes, size_t len, bool loose)
{
	GoyaSecretForm *f = MemoryContextAllocZero(set->cxt, sizeof(GoyaSecretForm));

	f->name = name;
	f->bytes = bytes;
	f->len = len;
	f->loose = loose;
	f->next = set->forms;
	set->forms = f;
}

/*
 * The middle of its base64, which is the same whatever stands before and behind it, when it begins at byte shift of three.
 */
static void
add_base64(GoyaSecrets *set, const char *name, const char *value, size_t len, int shift, const char *alphabet)
{
	size_t		first = (shift * 8 + 5) / 6;
	size_t		last = (shift + len) * 8 / 6;
	char	   *text = goya_secrets_alloc(set, last - first);

	for (size_t i = first; i < last; i++)
	{
		size_t		bit = i * 6 - shift * 8;
		unsigned	two = (unsigned char) value[bit / 8] << 8;

		if (bit / 8 + 1 < len)
			two |= (unsigned char) value[bit / 8 + 1];
		text[i - first] = alphabet[two >> (10 - bit % 8) & 63];
	}
	add_form(set, name, text, last - first, false);
}

static void
add_hex(GoyaSecrets *set, const char *name, const char *value, size_t len, const char *digits)
{
	char	   *text = goya_secrets_alloc(set, len * 2);

	for (size_t i = 0; i < len; i++)
	{
		text[2 * i] = digits[(unsigned char) value[i] >> 4];
		text[2 * i + 1] = digits[(unsigned char) value[i] & 15];
	}
	add_form(set, name, text, len * 2, false);
}

void
goya_secrets_add_form(GoyaSecrets *set, const char *name, const char *form, size_t len)
{
	static const char base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	static const char base64url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	char	   *value = goya_secrets_alloc(set, len);
	char	   *kept = MemoryContextStrdup(set->cxt, name);

	if (len < GOYA_SECRET_MIN)
		return;					/* it would be found everywhere */
	memcpy(value, form, len);
	add_form(set, kept, value, len, true);
	for (int shift = 0; shift < 3; shift++)
	{
		add_base64(set, kept, value, len, shift, base64);
		add_base64(set, kept, value, len, shift, base64url);
	}
	add_hex(set, kept, value, len, "0123456789abcdef");
	add_hex(set, kept, value, len, "0123456789ABCDEF");
}

const char *
goya_secret_redact(const GoyaSecrets *set, const char *buf, size_t len, size_t *out_len)
{
	char	   *changed = set != NULL && set->forms != NULL ? goya_redact_forms(set->forms, buf, len, out_len, NULL) : NULL;

	if (changed != NULL)
		return changed;
	*out_len = len;
	return buf;
}

const char *
goya_secret_redact_piece(const GoyaSecrets *set, const char *buf, size_t len, size_t *out_len, size_t *held)
{
	char	   *changed;

	*held = 0;
	changed = set != NULL && set->forms != NULL ? goya_redact_forms(set->forms, buf, len, out_len, held) : NULL;
	if (changed != NULL)
		return changed;
	*out_len = len - *held;
	return buf;
}

/* ----- resolving ----- */

char *
goya_secret_ref(const char *name, int version, int nhosts, char *const *hosts)
{
	StringInfoData ref;

	initStringInfo(&ref);
	appendStringInfo(&ref, "%s\n%d", name, version);
	for (int i = 0; i < nhosts; i++)
		appendStringInfo(&ref, "\n%s", hosts[i]);
	return ref.data;
}

static void
check_target(const Secret *s, const GoyaSecretTarget *target)
{
	for (int i = 0; i < s->nhosts; i++)
		if (goya_secret_host_matches(s->hosts[i], target))
			return;
	ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("secret \"%s\" may not be sent there", s->name),
					errdetail("It is not bound to %s:%d%s.", target->host, target->port, target->tls ? "" : " without TLS"),
					errhint("goya.secrets has its hosts; goya.set_secret sets them, together with the value.")));
}

static void
take_hosts(GoyaSecrets *set, Secret *s, ArrayType *array)
{
	MemoryContext old = MemoryContextSwitchTo(set->cxt);
	Datum	   *hosts;
	int			n;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &hosts, NULL, &n);
	s->hosts = palloc(sizeof(char *) * Max(n, 1));
	for (int i = 0; i < n; i++)
		s->hosts[i] = TextDatumGetCString(hosts[i]);
	s->nhosts = n;
	MemoryContextSwitchTo(old);
}

/* Its row, checked for the target before the value is opened. */
static Secret *
load(GoyaSecrets *set, const pg_uuid_t *tenant, const char *name, const GoyaSecretTarget *target)
{
	Secret	   *s = MemoryContextAllocZero(set->cxt, sizeof(Secret));
	Datum		args[2] = {UUIDPGetDatum(tenant), CStringGetTextDatum(name)};
	GoyaStoreScope scope;
	GoyaBelongs to;
	bytea	   *sealed;
	char	   *value;

	goya_store_enter(&scope);
	goya_store_run(GOYA_STMT_LOAD_SECRET, args, NULL);
	if (SPI_processed == 0)
		ereport(ERROR, (errcode(GOYA_ERR_NOT_FOUND), errmsg("secret not found"), errdetail("The tenant has no secret \"%.100s\".", name),
						errhint("goya.set_secret makes it.")));
	s->name = MemoryContextStrdup(set->cxt, name);
	take_hosts(set, s, DatumGetArrayTypeP(goya_result_datum(0, 1)));
	check_target(s, target);
	sealed = DatumGetByteaPP(goya_result_datum(0, 3));
	to.tenant = tenant;
	to.kind = GOYA_SECRET_KIND;
	to.ref = goya_secret_ref(name, goya_result_int4(0, 2), s->nhosts, s->hosts);
	to.ref_len = strlen(to.ref);
	s->len = goya_envelope_plain_len(sealed);
	value = goya_secrets_alloc(set, s->len);
	goya_envelope_open(&to, sealed, value);
	s->value = value;
	if (goya_result_bool(0, 4))
		goya_store_run(GOYA_STMT_USE_SECRET, args, NULL);
	goya_store_leave(&scope);
	return s;
}

const char *
goya_secret_resolve(GoyaSecrets *set, const pg_uuid_t *tenant, const char *name, const GoyaSecretTarget *target, size_t *len)
{
	Secret	   *s = set->secrets;

	while (s != NULL && strcmp(s->name, name) != 0)
		s = s->next;
	if (s != NULL)
		check_target(s, target);
	else
	{
		s = load(set, tenant, name, target);
		s->next = set->secrets;
		set->secrets = s;
		goya_secrets_add_form(set, name, s->value, s->len);
	}
	if (len != NULL)
		*len = s->len;
	return s->value;
}
