/*
 * schema_ecma.c
 *	  ECMA 262 regular expressions, written out in PostgreSQL's syntax.
 *
 * A pattern is parsed as ECMA 262 (strict about unknown escapes, lenient about
 * a lone brace or bracket, as most engines are) and written out again, so that
 * no construct of one dialect is read with the meaning of the other:
 *	- groups become non-capturing unless a back reference needs them;
 *	- lazy quantifiers become greedy, which accepts the same strings;
 *	- repetition above the engine's limit of 255 becomes nested repetition;
 *	- embedded options and directors cannot arise from the translation.
 *
 * What must hold: no recursion (open groups are on an explicit stack) and no
 * throw for any pattern; what is wrong is in t->error.
 */
#include "postgres.h"

#include "schema_ecma.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"

#define MAX_REPEAT	255			/* DUPMAX of the engine */

static void
put_wide(GoyaEcma *t, const pg_wchar *s, int len)
{
	while (len-- > 0)
		goya_ecma_put_char(t, *s++);
}

/* Skip over a class while counting groups. */
static int
skip_class(const pg_wchar *in, int len, int pos)
{
	while (pos < len && in[pos] != ']')
		pos += (in[pos] == '\\') ? 2 : 1;
	return pos;
}

/* Name after (?< or \k<, up to the closing >; NULL if there is none. */
static char *
read_name(const pg_wchar *in, int len, int *pos)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = *pos; i < len; i++)
	{
		pg_wchar	c = in[i];

		if (c == '>' && buf.len > 0)
		{
			*pos = i + 1;
			return buf.data;
		}
		if (c > 127 || !(c == '_' || c == '$' || (c >= '0' && c <= '9') ||
						 (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')))
			return NULL;
		appendStringInfoChar(&buf, (char) c);
	}
	return NULL;
}

/* Count capturing groups, note their names and whether any is referred to. */
static void
survey_groups(GoyaEcma *t)
{
	for (int i = 0; i < t->len; i++)
	{
		const pg_wchar *p = t->in + i;
		int			pos = i + 3;
		char	   *name = NULL;

		if (*p == '\\')
		{
			if ((p[1] >= '1' && p[1] <= '9') || p[1] == 'k')
				t->back_references = true;
			i++;
		}
		else if (*p == '[')
			i = skip_class(t->in, t->len, i + 1);
		else if (*p == '(')
		{
			if (p[1] == '?' && p[2] == '<')
				name = read_name(t->in, t->len, &pos);
			if (p[1] == '?' && name == NULL)
				continue;
			t->captures++;
			t->names = lappend(t->names, name ? name : "");
		}
	}
}

/* \1 or \k<name>; the letter after the backslash is at pos. */
static bool
translate_back_reference(GoyaEcma *t)
{
	int			number = 0;
	char	   *name;
	char		buf[32];
	ListCell   *lc;

	if (t->in[t->pos] == 'k')
	{
		t->pos += 2;
		name = t->in[t->pos - 1] == '<' ? read_name(t->in, t->len, &t->pos) : NULL;
		foreach(lc, t->names)
		{
			if (name != NULL && strcmp(lfirst(lc), name) == 0)
				number = foreach_current_index(lc) + 1;
		}
	}
	else
	{
		while (t->in[t->pos] >= '0' && t->in[t->pos] <= '9' && number < 1000)
			number = number * 10 + (int) (t->in[t->pos++] - '0');
	}
	if (number < 1 || number > t->captures)
		return goya_ecma_fail(t, "reference to a group that does not exist");
	snprintf(buf, sizeof(buf), "(?:\\%d)", number);
	goya_ecma_put_text(t, buf);
	return true;
}

/* What follows a backslash outside a class. */
static bool
translate_escape(GoyaEcma *t)
{
	pg_wchar	c = t->in[t->pos];
	const GoyaEcmaRange *ranges;
	int			count;
	pg_wchar	value;

	if ((c >= '1' && c <= '9') || c == 'k')
		return translate_back_reference(t);
	t->pos++;
	if (c == 'b' || c == 'B')
	{
		goya_ecma_put_text(t, c == 'b' ? "\\y" : "\\Y");
		t->atom = -1;
		return true;
	}
	ranges = goya_ecma_find_shorthand(c, &count);
	if (ranges != NULL)
	{
		goya_ecma_put_class(t, ranges, count, c < 'a');
		return true;
	}
	if (!goya_ecma_read_escape(t, c, &value))
		return false;
	goya_ecma_put_literal(t, value);
	return true;
}

/* An opening parenthesis and what says its kind. */
static bool
open_group(GoyaEcma *t)
{
	const pg_wchar *p = t->in + t->pos;
	GoyaEcmaGroup  *group;
	bool		lookaround = false;
	const char *text = t->back_references ? "(" : "(?:";
	int			pos = t->pos + 3;

	if (p[1] != '?')
		t->pos += 1;
	else if (p[2] == ':')
	{
		text = "(?:";
		t->pos += 3;
	}
	else if (p[2] == '=' || p[2] == '!')
	{
		lookaround = true;
		text = p[2] == '=' ? "(?=" : "(?!";
		t->pos += 3;
	}
	else if (p[2] == '<' && (p[3] == '=' || p[3] == '!'))
	{
		lookaround = true;
		text = p[3] == '=' ? "(?<=" : "(?<!";
		t->pos += 4;
	}
	else if (p[2] == '<' && read_name(t->in, t->len, &pos) != NULL)
		t->pos = pos;
	else
		return goya_ecma_fail(t, "unknown kind of group after (?, inline flags are not part of ECMA 262");

	if (t->ngroups % 16 == 0)
		t->groups = t->groups
			? repalloc(t->groups, (t->ngroups + 16) * sizeof(GoyaEcmaGroup))
			: palloc(16 * sizeof(GoyaEcmaGroup));
	group = &t->groups[t->ngroups++];
	group->start = t->outlen;
	group->lookaround = lookaround;
	goya_ecma_put_text(t, text);
	t->atom = -1;
	return true;
}

static bool
close_group(GoyaEcma *t)
{
	if (t->ngroups == 0)
		return goya_ecma_fail(t, "a ) without its (");
	t->pos++;
	goya_ecma_put_char(t, ')');
	t->ngroups--;
	t->atom = t->groups[t->ngroups].lookaround ? -1 : t->groups[t->ngroups].start;
	return true;
}

/* {n}, {n,} or {n,m}; false if it is none of these.  max -1 = no end. */
static bool
read_braces(GoyaEcma *t, int *min, int *max)
{
	int			i = t->pos + 1;
	int			numbers[2] = {0, -1};

	for (int n = 0; n < 2; n++)
	{
		int			start = i;

		while (t->in[i] >= '0' && t->in[i] <= '9')
		{
			if (i == start)
				numbers[n] = 0;
			numbers[n] = Min(numbers[n], 1000000) * 10 + (int) (t->in[i++] - '0');
		}
		if (n == 0 && i == start)
			return false;
		if (t->in[i] == '}')
		{
			*min = numbers[0];
			*max = (n == 0) ? numbers[0] : numbers[1];
			t->pos = i + 1;
			return true;
		}
		if (n == 1 || t->in[i++] != ',')
			return false;
	}
	return false;
}

/* Write the atom repeated within the engine's limits. */
static void
put_repeat(GoyaEcma *t, const pg_wchar *atom, int len, int min, int max)
{
	char		buf[32];

	put_wide(t, atom, len);
	if (max < 0)
		snprintf(buf, sizeof(buf), "{%d,}", min);
	else
		snprintf(buf, sizeof(buf), "{%d,%d}", min, max);
	goya_ecma_put_text(t, buf);
}

/*
 * Repetition beyond the engine's limit: the least number in blocks, then what
 * is optional in blocks, each small enough.
 */
static bool
put_long_repeat(GoyaEcma *t, int min, int max)
{
	int			len = t->outlen - t->atom;
	pg_wchar   *atom = palloc(len * sizeof(pg_wchar));
	int			more = max - min;
	int			limit = MAX_REPEAT * MAX_REPEAT;

	if (t->back_references || min > limit || more > limit)
		return goya_ecma_fail_unsupported(t, "repetition count is too large");
	memcpy(atom, t->out + t->atom, len * sizeof(pg_wchar));
	t->outlen = t->atom;
	goya_ecma_put_text(t, "(?:");
	if (min > MAX_REPEAT)
	{
		goya_ecma_put_text(t, "(?:");
		put_repeat(t, atom, len, MAX_REPEAT, MAX_REPEAT);
		put_repeat(t, (const pg_wchar[]) {')'}, 1, min / MAX_REPEAT,
				   min / MAX_REPEAT);
		min %= MAX_REPEAT;
	}
	put_repeat(t, atom, len, min, min);
	if (max < 0)
		put_repeat(t, atom, len, 0, -1);
	else
	{
		if (more > MAX_REPEAT)
		{
			goya_ecma_put_text(t, "(?:");
			put_repeat(t, atom, len, 0, MAX_REPEAT);
			put_repeat(t, (const pg_wchar[]) {')'}, 1, 0, more / MAX_REPEAT);
			more %= MAX_REPEAT;
		}
		put_repeat(t, atom, len, 0, more);
	}
	goya_ecma_put_text(t, ")");
	pfree(atom);
	return true;
}

/* A quantifier at pos applied to the last atom; a lazy mark is dropped. */
static bool
translate_quantifier(GoyaEcma *t, int min, int max)
{
	if (t->atom < 0)
		return goya_ecma_fail(t, "nothing to repeat before a quantifier");
	if (max >= 0 && min > max)
		return goya_ecma_fail(t, "numbers out of order in {}");
	if (t->in[t->pos] == '?')
		t->pos++;
	if (min > MAX_REPEAT || max > MAX_REPEAT)
	{
		if (!put_long_repeat(t, min, max))
			return false;
	}
	else
		put_repeat(t, NULL, 0, min, max);
	t->atom = -1;
	return true;
}

/* One element of the pattern. */
static bool
translate_next(GoyaEcma *t)
{
	pg_wchar	c = t->in[t->pos];
	int			min;
	int			max;

	switch (c)
	{
		case '*':
		case '+':
		case '?':
			t->pos++;
			return translate_quantifier(t, c == '+' ? 1 : 0, c == '?' ? 1 : -1);
		case '{':
			if (read_braces(t, &min, &max))
				return translate_quantifier(t, min, max);
			break;
		case '(':
			return open_group(t);
		case ')':
			return close_group(t);
		case '^':
		case '$':
		case '|':
			t->pos++;
			goya_ecma_put_char(t, c);
			t->atom = -1;
			return true;
		default:
			break;
	}
	t->atom = t->outlen;
	t->pos++;
	if (c == '[')
		return goya_ecma_translate_class(t);
	if (c == '\\')
		return translate_escape(t);
	if (c == '.')
		goya_ecma_put_dot(t);
	else
		goya_ecma_put_literal(t, c);
	return true;
}

/* Translate a whole pattern; on failure t->error says why. */
bool
goya_ecma_translate(GoyaEcma *t, const char *pattern, int len)
{
	pg_wchar   *in = palloc0((len + 4) * sizeof(pg_wchar));

	memset(t, 0, sizeof(*t));
	t->len = pg_mb2wchar_with_len(pattern, in, len);
	t->in = in;
	t->capacity = len * 2 + 64;
	t->out = palloc(t->capacity * sizeof(pg_wchar));
	t->atom = -1;
	survey_groups(t);
	while (t->pos < t->len && translate_next(t))
		CHECK_FOR_INTERRUPTS();
	if (t->error == NULL && t->ngroups > 0)
		goya_ecma_fail(t, "a ( without its )");
	return t->error == NULL;
}
