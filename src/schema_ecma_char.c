/*
 * schema_ecma_char.c
 *	  ECMA 262 regular expressions: characters, classes and escapes.
 *
 * Every class, shorthand and "." is written out as explicit ranges of code
 * points, so that neither the locale nor the bracket syntax of the engine
 * plays a part.  Ranges above ASCII are left out where the database's
 * characters are not Unicode.
 *
 * What must hold: the input is zero-terminated with some zeros to spare, so
 * that looking one or two characters ahead is always allowed.
 */
#include "postgres.h"

#include "schema_ecma.h"

#define MAX_CHAR	0x7ffffffe	/* CHR_MAX of the engine */

typedef struct CharClass
{
	GoyaEcmaRange *ranges;
	int			count;
	int			capacity;
} CharClass;

static const GoyaEcmaRange digit_ranges[] = {{'0', '9'}};
static const GoyaEcmaRange word_ranges[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
static const GoyaEcmaRange space_ranges[] = {{9, 13}, {' ', ' '}, {0xa0, 0xa0},
{0x1680, 0x1680}, {0x2000, 0x200a}, {0x2028, 0x2029}, {0x202f, 0x202f},
{0x205f, 0x205f}, {0x3000, 0x3000}, {0xfeff, 0xfeff}};
static const GoyaEcmaRange line_ranges[] = {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};

bool
goya_ecma_fail(GoyaEcma *t, const char *error)
{
	if (t->error == NULL)
		t->error = error;
	return false;
}

bool
goya_ecma_fail_unsupported(GoyaEcma *t, const char *error)
{
	t->unsupported = true;
	return goya_ecma_fail(t, error);
}

void
goya_ecma_put_char(GoyaEcma *t, pg_wchar c)
{
	if (t->outlen == t->capacity)
	{
		t->capacity *= 2;
		t->out = repalloc(t->out, t->capacity * sizeof(pg_wchar));
	}
	t->out[t->outlen++] = c;
}

void
goya_ecma_put_text(GoyaEcma *t, const char *s)
{
	while (*s)
		goya_ecma_put_char(t, (unsigned char) *s++);
}

/* A character that stands for itself. */
void
goya_ecma_put_literal(GoyaEcma *t, pg_wchar c)
{
	bool		plain = c > 127 || (c >= '0' && c <= '9') ||
		(c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');

	if (!plain)
		goya_ecma_put_char(t, '\\');
	goya_ecma_put_char(t, c);
}

void
goya_ecma_put_class(GoyaEcma *t, const GoyaEcmaRange *ranges, int count, bool negated)
{
	char		buf[32];

	if (count == 0)				/* [] matches nothing, [^] everything */
	{
		goya_ecma_put_text(t, negated ? "[" : "[^");
		goya_ecma_put_text(t, "\\U00000000-\\U7ffffffe]");
		return;
	}
	goya_ecma_put_text(t, negated ? "[^" : "[");
	for (int i = 0; i < count; i++)
	{
		snprintf(buf, sizeof(buf), "\\U%08x-\\U%08x",
				 (unsigned) ranges[i].low, (unsigned) ranges[i].high);
		goya_ecma_put_text(t, buf);
	}
	goya_ecma_put_text(t, "]");
}

/* Ranges above ASCII only mean something where characters are Unicode. */
static int
usable_ranges(const GoyaEcmaRange *ranges, int count)
{
	while (GetDatabaseEncoding() != PG_UTF8 && count > 0 &&
		   ranges[count - 1].high > 127)
		count--;
	return count;
}

/* The ranges behind \d \w \s and their capitals; NULL for other letters. */
const GoyaEcmaRange *
goya_ecma_find_shorthand(pg_wchar c, int *count)
{
	switch (c)
	{
		case 'd':
		case 'D':
			*count = lengthof(digit_ranges);
			return digit_ranges;
		case 'w':
		case 'W':
			*count = lengthof(word_ranges);
			return word_ranges;
		case 's':
		case 'S':
			*count = usable_ranges(space_ranges, lengthof(space_ranges));
			return space_ranges;
		default:
			return NULL;
	}
}

static void
add_range(CharClass *cls, pg_wchar low, pg_wchar high)
{
	if (cls->count == cls->capacity)
	{
		cls->capacity = cls->capacity ? cls->capacity * 2 : 16;
		cls->ranges = cls->ranges
			? repalloc(cls->ranges, cls->capacity * sizeof(GoyaEcmaRange))
			: palloc(cls->capacity * sizeof(GoyaEcmaRange));
	}
	cls->ranges[cls->count].low = low;
	cls->ranges[cls->count++].high = high;
}

/* Add sorted ranges, or everything between them. */
static void
add_ranges(CharClass *cls, const GoyaEcmaRange *ranges, int count, bool negated)
{
	pg_wchar	next = 0;

	for (int i = 0; i < count; i++)
	{
		if (!negated)
			add_range(cls, ranges[i].low, ranges[i].high);
		else if (ranges[i].low > next)
			add_range(cls, next, ranges[i].low - 1);
		next = ranges[i].high + 1;
	}
	if (negated)
		add_range(cls, next, MAX_CHAR);
}

static bool
read_hex(GoyaEcma *t, int digits, pg_wchar *value)
{
	*value = 0;
	while (digits-- > 0)
	{
		pg_wchar	c = t->in[t->pos];

		if (c >= '0' && c <= '9')
			*value = *value * 16 + (c - '0');
		else if ((c | 32) >= 'a' && (c | 32) <= 'f')
			*value = *value * 16 + ((c | 32) - 'a' + 10);
		else
			return goya_ecma_fail(t, "bad hexadecimal escape");
		t->pos++;
	}
	return true;
}

/* After \u: four digits, a surrogate pair of them, or {digits}. */
static bool
read_unicode(GoyaEcma *t, pg_wchar *value)
{
	pg_wchar	low;
	int			start = t->pos;

	if (t->in[t->pos] == '{')
	{
		while (t->in[++t->pos] != '}')
			if (t->pos >= t->len)
				return goya_ecma_fail(t, "bad unicode escape");
		start++;
		if (t->pos == start || t->pos - start > 6)
			return goya_ecma_fail(t, "bad unicode escape");
		t->pos = start;
		while (t->in[start] != '}')
			start++;
		if (!read_hex(t, start - t->pos, value))
			return false;
		t->pos++;
	}
	else if (!read_hex(t, 4, value))
		return false;
	if (*value >= 0xd800 && *value <= 0xdbff && t->in[t->pos] == '\\' &&
		t->in[t->pos + 1] == 'u')
	{
		t->pos += 2;
		if (!read_hex(t, 4, &low))
			return false;
		*value = 0x10000 + ((*value & 0x3ff) << 10) + (low & 0x3ff);
	}
	if (*value > 0x10ffff)
		return goya_ecma_fail(t, "bad unicode escape");
	if (*value > 127 && GetDatabaseEncoding() != PG_UTF8)
		return goya_ecma_fail_unsupported(t, "unicode escapes need a database in UTF8");
	return true;
}

/* A character escape, the backslash and its letter already read. */
bool
goya_ecma_read_escape(GoyaEcma *t, pg_wchar c, pg_wchar *value)
{
	static const char letters[] = "fnrtv";
	static const char controls[] = "\f\n\r\t\v";
	const char *found = c > 0 && c < 128 ? strchr(letters, (int) c) : NULL;

	if (found != NULL)
	{
		*value = (unsigned char) controls[found - letters];
		return true;
	}
	switch (c)
	{
		case 'x':
			return read_hex(t, 2, value);
		case 'u':
			return read_unicode(t, value);
		case 'c':
			c = t->in[t->pos] | 32;
			if (c < 'a' || c > 'z')
				return goya_ecma_fail(t, "bad control escape");
			t->pos++;
			*value = c & 31;
			return true;
		case '0':
			*value = 0;
			return true;
		case 'p':
		case 'P':
			return goya_ecma_fail_unsupported(t, "unicode properties (\\p) are not supported");
		case 0:
			return goya_ecma_fail(t, "nothing after the last backslash");
		default:
			break;
	}
	if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))
		return goya_ecma_fail(t, psprintf("unknown escape \\%c", (char) c));
	*value = c;
	return true;
}

/* One end of a class range; false with no error: it was \d or its like. */
static bool
read_class_atom(GoyaEcma *t, CharClass *cls, pg_wchar *value)
{
	const GoyaEcmaRange *ranges;
	int			count;
	pg_wchar	c = t->in[t->pos++];

	*value = c;
	if (c != '\\')
		return true;
	c = t->in[t->pos++];
	ranges = goya_ecma_find_shorthand(c, &count);
	if (ranges != NULL)
	{
		add_ranges(cls, ranges, count, c < 'a');
		return false;
	}
	if (c == 'b')
	{
		*value = '\b';
		return true;
	}
	if (c == '-')
	{
		*value = '-';
		return true;
	}
	return goya_ecma_read_escape(t, c, value);
}

/* A class, the opening bracket already read. */
bool
goya_ecma_translate_class(GoyaEcma *t)
{
	CharClass	cls = {NULL, 0, 0};
	bool		negated = false;
	pg_wchar	low;
	pg_wchar	high;

	if (t->in[t->pos] == '^')
	{
		negated = true;
		t->pos++;
	}
	while (t->pos < t->len && t->in[t->pos] != ']')
	{
		bool		single = read_class_atom(t, &cls, &low);

		if (t->error)
			return false;
		if (t->in[t->pos] != '-' || t->pos + 1 >= t->len ||
			t->in[t->pos + 1] == ']')
		{
			if (single)
				add_range(&cls, low, low);
			continue;
		}
		t->pos++;
		if (!read_class_atom(t, &cls, &high) || !single)
		{
			/* [a-\d]: no range, the dash stands for itself */
			if (t->error)
				return false;
			add_range(&cls, '-', '-');
			if (single)
				add_range(&cls, low, low);
			continue;
		}
		if (t->error)
			return false;
		if (low > high)
			return goya_ecma_fail(t, "range out of order in a class");
		add_range(&cls, low, high);
	}
	if (t->pos >= t->len)
		return goya_ecma_fail(t, "unterminated class, a ] is missing");
	t->pos++;
	goya_ecma_put_class(t, cls.ranges, cls.count, negated);
	return true;
}

/* "." is everything but the ends of lines. */
void
goya_ecma_put_dot(GoyaEcma *t)
{
	goya_ecma_put_class(t, line_ranges,
						usable_ranges(line_ranges, lengthof(line_ranges)), true);
}
