/*-------------------------------------------------------------------------
 * secret_redact.c
 *		Finding secrets in what came back, however they are written, and putting "[secret NAME]" in their place.
 *
 * What was decided. One walk over the bytes. A value is compared character by character with what the text stands for: a byte of it may
 * be written as it is, as %41 or + (URLs, forms), as \u0041 or \n (JSON) or as &amp; or &#65; (HTML), each in its own way. First the
 * plain reading is tried, then the one that prefers escapes. Base64 and hexadecimal are other forms of the value, made beforehand
 * (secret.c) and compared as they are.
 *
 * Not found: a secret that was cut, compressed, encrypted, reversed or encoded twice. What a host that gets the secret wants to tell of
 * it, it can.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"

#include "secret.h"

/* What the text stands for at a place: how many of its bytes, and for which. */
typedef struct Reading
{
	size_t		taken;
	size_t		n;
	unsigned char bytes[4];
} Reading;

static int
hex_digits(const char *at, const char *end, int n)
{
	int			value = 0;

	if (end - at < n)
		return -1;
	for (int i = 0; i < n; i++)
	{
		char		c = at[i];

		if (!isxdigit((unsigned char) c))
			return -1;
		value = value * 16 + (c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
	}
	return value;
}

static bool
read_code(Reading *r, size_t taken, long code)
{
	if (code < 1 || code > 0x10FFFF)
		return false;
	unicode_to_utf8((pg_wchar) code, r->bytes);
	r->n = pg_utf_mblen(r->bytes);
	r->taken = taken;
	return true;
}

static bool
read_byte(Reading *r, size_t taken, char byte)
{
	r->taken = taken;
	r->n = 1;
	r->bytes[0] = (unsigned char) byte;
	return true;
}

/* \n, \u0041, a pair of surrogates. */
static bool
read_backslash(const char *at, const char *end, Reading *r)
{
	static const char from[] = "\"\\/bfnrt'";
	static const char to[] = "\"\\/\b\f\n\r\t'";
	const char *found;
	int			code;
	int			second;

	if (end - at < 2)
		return false;
	if (at[1] == 'u')
	{
		code = hex_digits(at + 2, end, 4);
		if (code < 0 || !is_utf16_surrogate_first(code))
			return read_code(r, 6, code);
		second = end - at >= 12 && at[6] == '\\' && at[7] == 'u' ? hex_digits(at + 8, end, 4) : -1;
		return second >= 0 && is_utf16_surrogate_second(second) && read_code(r, 12, surrogate_pair_to_codepoint(code, second));
	}
	found = at[1] != '\0' ? strchr(from, at[1]) : NULL;
	return found != NULL && read_byte(r, 2, to[found - from]);
}

/* &amp; &#65; &#x41; */
static bool
read_ampersand(const char *at, const char *end, Reading *r)
{
	static const struct
	{
		const char *text;
		char		byte;
	}			names[] = {{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}};
	long		code = 0;
	const char *p = at + 2;
	bool		hex;

	for (int i = 0; i < (int) lengthof(names); i++)
		if ((size_t) (end - at) >= strlen(names[i].text) && memcmp(at, names[i].text, strlen(names[i].text)) == 0)
			return read_byte(r, strlen(names[i].text), names[i].byte);
	if (end - at < 4 || at[1] != '#')
		return false;
	hex = (*p | 0x20) == 'x';
	if (hex)
		p++;
	for (; p < end && p - at < 10 && isxdigit((unsigned char) *p) && (hex || isdigit((unsigned char) *p)); p++)
		code = code * (hex ? 16 : 10) + hex_digits(p, end, 1);
	return p < end && *p == ';' && read_code(r, p + 1 - at, code);
}

/* What an escape stands for; false: there is none. */
static bool
read_escape(const char *at, const char *end, Reading *r)
{
	int			byte;

	switch (*at)
	{
		case '+':
			return read_byte(r, 1, ' ');
		case '%':
			byte = hex_digits(at + 1, end, 2);
			return byte >= 0 && read_byte(r, 3, (char) byte);
		case '\\':
			return read_backslash(at, end, r);
		case '&':
			return read_ampersand(at, end, r);
		default:
			return false;
	}
}

/* How many bytes of the text are the value, beginning here; 0: they are not. */
static size_t
match_loose(const char *at, const char *end, const char *value, size_t len, bool plain_first)
{
	const char *start = at;
	size_t		i = 0;
	Reading		r;

	while (i < len)
	{
		if (at >= end)
			return 0;
		if (plain_first && *at == value[i])
			r.taken = r.n = 1;
		else if (!read_escape(at, end, &r) || r.n > len - i || memcmp(r.bytes, value + i, r.n) != 0)
		{
			if (*at != value[i])
				return 0;
			r.taken = r.n = 1;
		}
		at += r.taken;
		i += r.n;
	}
	return at - start;
}

static size_t
match(const GoyaSecretForm *f, const char *at, const char *end)
{
	size_t		n;

	if (!f->loose)
		return (size_t) (end - at) >= f->len && memcmp(at, f->bytes, f->len) == 0 ? f->len : 0;
	n = match_loose(at, end, f->bytes, f->len, true);
	return n > 0 ? n : match_loose(at, end, f->bytes, f->len, false);
}

/*
 * A new text with every form replaced; NULL when there is none in it.
 */
char *
goya_redact_forms(const GoyaSecretForm *forms, const char *buf, size_t len, size_t *out_len)
{
	const char *end = buf + len;
	const char *kept = buf;		/* up to here it is in out */
	bool		begins[256] = {false};
	StringInfoData out = {NULL};

	begins['%'] = begins['\\'] = begins['&'] = begins['+'] = true;
	for (const GoyaSecretForm *f = forms; f != NULL; f = f->next)
		begins[(unsigned char) f->bytes[0]] = true;
	for (const char *at = buf; at < end;)
	{
		size_t		longest = 0;
		const char *name = NULL;

		if (begins[(unsigned char) *at])
			for (const GoyaSecretForm *f = forms; f != NULL; f = f->next)
			{
				size_t		n = match(f, at, end);

				if (n > longest)
				{
					longest = n;
					name = f->name;
				}
			}
		if (longest == 0)
		{
			at++;
			continue;
		}
		if (out.data == NULL)
			initStringInfo(&out);
		appendBinaryStringInfo(&out, kept, at - kept);
		appendStringInfo(&out, "[secret %s]", name);
		at += longest;
		kept = at;
	}
	if (out.data == NULL)
		return NULL;
	appendBinaryStringInfo(&out, kept, end - kept);
	*out_len = out.len;
	return out.data;
}
