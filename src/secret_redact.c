/*-------------------------------------------------------------------------
 * secret_redact.c
 *		Finding secrets in what came back, however they are written, and putting "[secret NAME]" in their place.
 *
 * What was decided. One walk over the bytes. A value is compared character by character with what the text stands for: a byte of it may
 * be written as it is, as %41 or + (URLs, forms), as \u0041 or \n (JSON) or as &amp; or &#65; (HTML), each in its own way. First the
 * plain reading is tried, then the one that prefers escapes. Base64 and hexadecimal are other forms of the value, made beforehand
 * (secret.c) and compared as they are.  JSON inside of a string of JSON, several times over, is read as what it stands for in the end.
 *
 * Not found: a secret that was cut, compressed, encrypted, reversed or encoded twice in other ways. What a host that gets the secret
 * wants to tell of it, it can.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"

#include "secret.h"

#define LONGEST_ESCAPE	12		/* \ud83d\ude00 */
#define LONGEST_RUN		31		/* of backslashes: JSON in JSON, five times */
#define STEPS_PER_BYTE	32		/* what a search may take; usual is one */

/* A search: what is known at its present place, and what it has taken. */
typedef struct Search
{
	bool		unfinished;		/* as far as the text goes, there may be a form here */
	int64		steps;
	int64		limit;
} Search;

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

/*
 * Text that was escaped more than once, as JSON in a string of JSON is: a run of backslashes stands for as many as the value has there,
 * up to its own length, and what follows for itself or, with the last backslash, for what it means then.
 */
static bool
read_run(const char *at, const char *end, const char *value, size_t len, Reading *r, int64 *steps)
{
	size_t		run = 0;
	size_t		own = 0;
	Reading		last;

	while (run < LONGEST_RUN && at + run < end && at[run] == '\\')
		run++;
	while (own < run && own < len && value[own] == '\\')
		own++;
	*steps += run + own;
	if (run < 1 || run < own || own == len || at + run == end)
		return false;
	if (read_backslash(at + run - 1, end, &last) && last.n <= len - own && memcmp(last.bytes, value + own, last.n) == 0)
	{
		r->taken = run - 1 + last.taken;
		r->n = own + last.n;
		return true;
	}
	r->taken = run + 1;
	r->n = own + 1;
	return at[run] == value[own];
}

/* May what is not read as an escape be the beginning of one, with its rest to come? */
static bool
may_be_cut(const char *at, const char *end)
{
	const char *p = at;

	if (end - at >= LONGEST_ESCAPE + LONGEST_RUN)
		return false;
	while (p < end && *p == '\\')
		p++;
	return end - p < LONGEST_ESCAPE && (p > at || *at == '%' || *at == '&');
}

/* How many bytes of the text are the value, beginning here; 0: they are not. */
static size_t
match_loose(const char *at, const char *end, const char *value, size_t len, bool plain_first, Search *s)
{
	const char *start = at;
	size_t		i = 0;
	Reading		r;

	while (i < len)
	{
		s->steps++;
		if (at >= end)
		{
			s->unfinished = true;
			return 0;
		}
		if (plain_first && *at == value[i])
			r.taken = r.n = 1;
		else if (!read_escape(at, end, &r) || r.n > len - i || memcmp(r.bytes, value + i, r.n) != 0)
		{
			if (*at == value[i])
			{
				s->unfinished |= !plain_first && may_be_cut(at, end);
				r.taken = r.n = 1;
			}
			else if (!(i > 0 && *at == '\\' && read_run(at, end, value + i, len - i, &r, &s->steps)))
			{
				s->unfinished |= may_be_cut(at, end);
				return 0;
			}
		}
		at += r.taken;
		i += r.n;
	}
	return at - start;
}

static size_t
match(const GoyaSecretForm *f, const char *at, const char *end, Search *s)
{
	size_t		most = Min((size_t) (end - at), f->len);
	size_t		n = 0;

	if (!f->loose)
	{
		while (n < most && at[n] == f->bytes[n])
			n++;
		s->steps += n;
		s->unfinished |= n == most && most < f->len;
		return n == f->len ? n : 0;
	}
	n = match_loose(at, end, f->bytes, f->len, true, s);
	return n > 0 ? n : match_loose(at, end, f->bytes, f->len, false, s);
}

/* The longest form that begins here: its length and the secret's name; 0: none. */
static size_t
match_longest(const GoyaSecretForm *forms, const char *at, const char *end, Search *s, const char **name)
{
	size_t		longest = 0;

	s->unfinished = false;
	for (const GoyaSecretForm *f = forms; f != NULL && s->steps <= s->limit; f = f->next)
	{
		size_t		n = match(f, at, end, s);

		if (n > longest || s->steps > s->limit)
		{
			longest = n;
			*name = f->name;
		}
	}
	return longest;
}

/* What is given for a text that was not searched to its end. */
static char *
replace_all(const char *name, size_t *out_len, size_t *held)
{
	char	   *whole = psprintf("[secret %s]", name);

	*out_len = strlen(whole);
	if (held != NULL)
		*held = 0;
	return whole;
}

/*
 * A new text with every form replaced; NULL when there is none in it.  With held, more text may follow: from where a form may have
 * begun that is not whole yet, *held bytes are left out.  A text that begins like the secret all over would take as many steps as it is
 * long, times the secret's length, while everybody's calls wait: it counts as the secret as a whole.
 */
char *
goya_redact_forms(const GoyaSecretForm *forms, const char *buf, size_t len, size_t *out_len, size_t *held)
{
	const char *end = buf + len;
	const char *kept = buf;		/* up to here it is in out */
	bool		begins[256] = {false};
	StringInfoData out = {NULL};
	Search		search = {false, 0, STEPS_PER_BYTE * ((int64) len + 1000)};

	begins['%'] = begins['\\'] = begins['&'] = begins['+'] = true;
	for (const GoyaSecretForm *f = forms; f != NULL; f = f->next)
		begins[(unsigned char) f->bytes[0]] = true;
	for (const char *at = buf; at < end;)
	{
		size_t		longest = 0;
		const char *name = NULL;

		search.unfinished = false;
		if (begins[(unsigned char) *at])
			longest = match_longest(forms, at, end, &search, &name);
		if (search.steps > search.limit)
			return replace_all(name, out_len, held);
		if (search.unfinished && held != NULL)
		{
			*held = end - at;
			end = at;
			break;
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
