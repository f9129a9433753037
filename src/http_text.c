/*-------------------------------------------------------------------------
 *
 * http_text.c
 *	  What may stand in a request, and how to read a response's headers.
 *
 * Methods and headers come from workflow definitions, so from tenants.  A
 * line break in one would let its author write a second request, and a header
 * that frames the message (Content-Length, Transfer-Encoding, ...) would do
 * the same at the next proxy: both are refused, not repaired.
 *
 * What a server answers is bytes.  Texts that go into the database (header
 * lines, errors) are made valid in its encoding here; bodies are the caller's.
 *
 * Nothing here throws or allocates.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "mb/pg_wchar.h"

#include "http.h"

/* Longest Retry-After believed: a month. */
#define MAX_RETRY_AFTER_MS (30L * 24 * 3600 * 1000)

/* A token of RFC 9110. */
static bool
is_token_char(unsigned char c)
{
	return (c < 0x80 && isalnum(c)) || (c != '\0' && strchr("!#$%&'*+-.^_`|~", c));
}

bool
goya_http_method_valid(const char *method)
{
	size_t		len = strlen(method);

	if (len == 0 || len > 32 || pg_strcasecmp(method, "CONNECT") == 0)
		return false;
	for (size_t i = 0; i < len; i++)
	{
		if (!is_token_char(method[i]))
			return false;
	}
	return true;
}

/* May the method be sent again without being asked?  (RFC 9110, 9.2.2) */
bool
goya_http_method_repeatable(const char *method)
{
	static const char *const repeatable[] = {
		"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"
	};

	for (int i = 0; i < (int) lengthof(repeatable); i++)
	{
		if (strcmp(method, repeatable[i]) == 0)
			return true;
	}
	return false;
}

/*
 * If header is "<name>: value", in any case, its value without the blanks
 * before it, else NULL.
 */
const char *
goya_http_header_value(const char *header, const char *name)
{
	size_t		len = strlen(name);

	if (pg_strncasecmp(header, name, len) != 0 || header[len] != ':')
		return NULL;
	header += len + 1;
	return header + strspn(header, " \t");
}

/* Why a request header is refused, or NULL: it is fine. */
const char *
goya_http_header_problem(const char *header)
{
	static const char *const framing[] = {
		"Connection", "Content-Length", "Expect", "Keep-Alive",
		"Proxy-Connection", "TE", "Trailer", "Transfer-Encoding", "Upgrade"
	};
	const char *p = header;
	const char *host;

	while (is_token_char(*p))
		p++;
	if (p == header || *p != ':')
		return "a header must look like \"Name: value\"";
	for (p++; *p; p++)
	{
		if (((unsigned char) *p < 0x20 && *p != '\t') || *p == 0x7f)
			return "a header value contains a line break or another control character";
	}
	for (int i = 0; i < (int) lengthof(framing); i++)
	{
		if (goya_http_header_value(header, framing[i]))
			return "a header that frames the message (Connection, Content-Length, "
				"Expect, TE, Transfer-Encoding, Upgrade, ...) cannot be set";
	}
	host = goya_http_header_value(header, "Host");
	if (host && *host == '\0')
		return "the Host header is empty";
	return NULL;
}

/* Days since 1970-01-01 of a date of the Gregorian calendar. */
static int64
days_from_date(int year, int month, int day)
{
	static const int before[] = {
		0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334
	};
	int			y = year - (month <= 2);	/* leap day counts from March */
	int			leaps = (y / 4 - y / 100 + y / 400) - (1969 / 4 - 1969 / 100 + 1969 / 400);

	return (int64) (year - 1970) * 365 + leaps + before[month - 1] + day - 1;
}

/* "Sun, 06 Nov 1994 08:49:37 GMT", the one form servers may send today. */
static bool
parse_http_date(const char *value, int64 *seconds)
{
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	char		month[4];
	const char *found;
	int			day,
				year,
				hour,
				minute,
				second,
				end = 0;

	if (sscanf(value, "%*3[A-Za-z], %2d %3[A-Za-z] %4d %2d:%2d:%2d GMT%n",
			   &day, month, &year, &hour, &minute, &second, &end) != 6 ||
		end == 0 || value[end] != '\0')
		return false;
	found = strstr(months, month);
	if (strlen(month) != 3 || found == NULL || (found - months) % 3 != 0 ||
		day < 1 || day > 31 || year < 1970 || hour < 0 || hour > 23 ||
		minute < 0 || minute > 59 || second < 0 || second > 60)
		return false;
	*seconds = days_from_date(year, (found - months) / 3 + 1, day) * 86400 +
		hour * 3600 + minute * 60 + second;
	return true;
}

/*
 * The milliseconds a Retry-After value asks to wait from now: a number of
 * seconds or a date.  -1 if it is neither.
 */
long
goya_http_parse_retry_after(const char *value, time_t now)
{
	int64		seconds;

	if (isdigit((unsigned char) *value))
	{
		size_t		digits = strspn(value, "0123456789");

		if (value[digits + strspn(value + digits, " \t")] != '\0')
			return -1;
		if (digits > 9)
			return MAX_RETRY_AFTER_MS;
		seconds = strtol(value, NULL, 10);
	}
	else if (parse_http_date(value, &seconds))
		seconds = Max(seconds - (int64) now, 0);
	else
		return -1;
	return (long) Min(seconds * 1000, MAX_RETRY_AFTER_MS);
}

/* Makes text valid in the database's encoding, in place. */
void
goya_http_clean_text(char *text)
{
	if (pg_verify_mbstr(GetDatabaseEncoding(), text, strlen(text), true))
		return;
	for (char *p = text; *p; p++)
	{
		if (IS_HIGHBIT_SET(*p))
			*p = '?';
	}
}
