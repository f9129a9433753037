/*-------------------------------------------------------------------------
 * pii.c
 *		Personal data that can be told by its form: e-mail addresses, phone numbers, IBANs, card numbers.
 *
 * What was decided. No regular expressions: one walk, each place is tried for each form, and no form looks further than a bounded
 * number of bytes, an e-mail address excepted, whose local part is tried once. Numbers with a check sum (IBAN: mod 97; cards: Luhn) are
 * told by it; phone numbers by how they begin and are grouped, so that dates, amounts and addresses of computers stay. Names and postal
 * addresses have no form: finding those is work for a model.
 *
 * What must hold: bytes beyond ASCII are only ever copied, so the text stays valid in every encoding of a server.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "pii.h"

#define MAX_NUMBER 40			/* bytes of a number with its separators */

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool
is_alnum(char c)
{
	return is_letter(c) || is_digit(c);
}

static bool
is_local(char c)
{
	return is_alnum(c) || c == '.' || c == '_' || c == '%' || c == '+' || c == '-';
}

/* Where the e-mail address that begins here ends; NULL: there is none. */
static const char *
email(const char *at, const char *end)
{
	const char *p = at;
	const char *label;
	const char *last = NULL;

	while (p < end && is_local(*p))
		p++;
	if (p == at || p >= end || *p != '@')
		return NULL;
	for (label = ++p; p < end && (is_alnum(*p) || *p == '-' || *p == '.'); p++)
		if (*p == '.')
		{
			if (p == label)
				break;
			label = p + 1;
		}
		else if (label > at && label[-1] == '.' && p - label >= 1 && is_letter(*label) && is_letter(*p))
			last = p + 1;
	return last;
}

static bool
luhn(const char *digits, int n)
{
	int			sum = 0;

	for (int i = 0; i < n; i++)
	{
		int			d = digits[n - 1 - i] - '0';

		if (i % 2 == 1)
			d = d > 4 ? 2 * d - 9 : 2 * d;
		sum += d;
	}
	return sum % 10 == 0;
}

static bool
mod97(const char *iban, int n)
{
	int			rest = 0;

	for (int i = 0; i < n; i++)
	{
		char		c = iban[(i + 4) % n];

		rest = is_digit(c) ? (rest * 10 + c - '0') % 97 : (rest * 100 + pg_ascii_toupper((unsigned char) c) - 'A' + 10) % 97;
	}
	return rest == 1;
}

/* Letters, digits, with single blanks between: the longest beginning of them that is an IBAN. */
static const char *
iban(const char *at, const char *end)
{
	char		kept[35];
	int			n = 0;
	const char *found = NULL;

	if (end - at < 15 || !is_letter(at[0]) || !is_letter(at[1]) || !is_digit(at[2]) || !is_digit(at[3]))
		return NULL;
	for (const char *p = at; p < end && n < 34; p++)
	{
		if (*p == ' ' && p + 1 < end && is_alnum(p[1]) && p[-1] != ' ')
			continue;
		if (!is_alnum(*p))
			break;
		kept[n++] = *p;
		if (n >= 15 && (p + 1 >= end || !is_alnum(p[1])) && mod97(kept, n))
			found = p + 1;
	}
	return found;
}

/* A number with separators. */
typedef struct Number
{
	char		digits[MAX_NUMBER];
	int			n;
	int			groups[MAX_NUMBER]; /* digits in each */
	int			ngroups;
	bool		blanks;			/* separated by blanks and dashes only */
	const char *end;
} Number;

static void
scan_number(const char *at, const char *end, Number *num)
{
	const char *p = at + (*at == '+');
	int			between = 0;
	bool		other = false;	/* than blanks and dashes, since the last digit */

	num->n = num->ngroups = 0;
	num->blanks = true;
	num->end = at;
	for (; p < end && p - at < MAX_NUMBER - 1; p++)
	{
		if (is_digit(*p))
		{
			if (between > 0 || num->ngroups == 0)
				num->groups[num->ngroups++] = 0;
			num->groups[num->ngroups - 1]++;
			num->digits[num->n++] = *p;
			num->end = p + 1;
			num->blanks &= !other;
			between = 0;
			other = false;
			continue;
		}
		if (strchr(" -.()/", *p) == NULL || *p == '\0' || ++between > 2)
			break;
		other |= *p != ' ' && *p != '-';
	}
}

static bool
is_phone(char first, const Number *num)
{
	int			n = num->n;

	if (first == '+')
		return n >= 8 && n <= 15;
	if (num->digits[0] == '0')
		return n >= 9 && n <= 14;
	if (num->ngroups == 3 && n == 10 && num->groups[0] == 3 && num->groups[1] == 3)
		return true;			/* 555-123-4567, (555) 123-4567 */
	if (num->ngroups == 4 && n == 11 && num->digits[0] == '1' && num->groups[0] == 1 && num->groups[3] == 4)
		return true;			/* 1-555-123-4567 */
	return n == 11 && num->digits[0] == '1' && num->digits[1] >= '3' && num->ngroups <= 3;	/* 138 0013 8000 */
}

static const char *
number(const char *at, const char *end, const char **tag)
{
	Number		num;

	scan_number(at, end, &num);
	if (num.n < 8 || (num.end < end && is_alnum(*num.end)))
		return NULL;
	if (*at != '+' && *at != '(' && num.blanks && num.n >= 13 && num.n <= 19 && luhn(num.digits, num.n))
	{
		*tag = "[card]";
		return num.end;
	}
	*tag = "[phone]";
	return is_phone(*at, &num) ? num.end : NULL;
}

/* What begins here, and where it ends; NULL: nothing. */
static const char *
personal(const char *start, const char *at, const char *end, const char **tag)
{
	const char *found = NULL;
	char		before = at > start ? at[-1] : ' ';

	if (is_local(*at) && !is_local(before))
	{
		*tag = "[email]";
		found = email(at, end);
	}
	if (found == NULL && is_letter(*at) && !is_alnum(before))
	{
		*tag = "[iban]";
		found = iban(at, end);
	}
	if (found == NULL && (is_digit(*at) || *at == '+' || *at == '(') && !is_alnum(before) &&
		!(before == '.' && at - start > 1 && is_digit(at[-2])))
		found = number(at, end, tag);
	return found;
}

char *
goya_pii_redact(const char *text, size_t len, size_t *out_len)
{
	const char *end = text + len;
	const char *kept = text;
	StringInfoData out = {NULL};

	for (const char *at = text; at < end;)
	{
		const char *tag = "";
		const char *after = is_alnum(*at) || *at == '+' || *at == '(' || *at == '_' || *at == '%' ? personal(text, at, end, &tag) : NULL;

		if (after == NULL)
		{
			at++;
			continue;
		}
		if (out.data == NULL)
			initStringInfo(&out);
		appendBinaryStringInfo(&out, kept, at - kept);
		appendStringInfoString(&out, tag);
		at = kept = after;
	}
	if (out.data == NULL)
		return NULL;
	appendBinaryStringInfo(&out, kept, end - kept);
	*out_len = out.len;
	return out.data;
}
