/*
 * schema_format.c
 *	  JSON Schema: the formats that are asserted.
 *
 * Each format is a function over bytes, written from its RFC.  Decided: a
 * format in the table is checked in every dialect (a workflow author who
 * writes "format": "uri" means it); a format not in the table is only a note
 * to the reader.  Host names are checked as ASCII labels, punycode is not
 * decoded.
 */
#include "postgres.h"

#include "schema_internal.h"

/* Text still to be read. */
typedef struct Reader
{
	const char *s;
	const char *end;
} Reader;

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_alpha(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool
is_hex(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool
read_char(Reader *r, char c)
{
	if (r->s >= r->end || *r->s != c)
		return false;
	r->s++;
	return true;
}

/* Exactly n digits, as a number; -1 if they are not there. */
static int
read_digits(Reader *r, int n)
{
	int			value = 0;

	if (r->end - r->s < n)
		return -1;
	for (; n > 0; n--, r->s++)
	{
		if (!is_digit(*r->s))
			return -1;
		value = value * 10 + (*r->s - '0');
	}
	return value;
}

/* full-date of RFC 3339 */
static bool
read_date(Reader *r)
{
	static const int days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	int			year = read_digits(r, 4);
	int			month;
	int			day;

	if (year < 0 || !read_char(r, '-'))
		return false;
	month = read_digits(r, 2);
	if (month < 1 || month > 12 || !read_char(r, '-'))
		return false;
	day = read_digits(r, 2);
	if (day < 1 || day > days[month - 1])
		return false;
	return month != 2 || day < 29 ||
		(year % 4 == 0 && (year % 100 != 0 || year % 400 == 0));
}

/* full-time of RFC 3339; second 60 only where UTC has a leap second */
static bool
read_time(Reader *r)
{
	int			hour = read_digits(r, 2);
	int			minute;
	int			second;
	int			sign = 0;
	int			offset_hour = 0;
	int			offset_minute = 0;

	if (hour < 0 || hour > 23 || !read_char(r, ':'))
		return false;
	minute = read_digits(r, 2);
	if (minute < 0 || minute > 59 || !read_char(r, ':'))
		return false;
	second = read_digits(r, 2);
	if (second < 0 || second > 60)
		return false;
	if (read_char(r, '.'))
	{
		if (r->s >= r->end || !is_digit(*r->s))
			return false;
		while (r->s < r->end && is_digit(*r->s))
			r->s++;
	}
	if (read_char(r, '+'))
		sign = 1;
	else if (read_char(r, '-'))
		sign = -1;
	else if (!read_char(r, 'Z') && !read_char(r, 'z'))
		return false;
	if (sign != 0)
	{
		offset_hour = read_digits(r, 2);
		if (offset_hour < 0 || offset_hour > 23 || !read_char(r, ':'))
			return false;
		offset_minute = read_digits(r, 2);
		if (offset_minute < 0 || offset_minute > 59)
			return false;
	}
	if (second == 60)
	{
		int			utc = hour * 60 + minute -
			sign * (offset_hour * 60 + offset_minute);

		return (utc + 2880) % 1440 == 1439;
	}
	return true;
}

static bool
check_date(const char *s, int len)
{
	Reader		r = {s, s + len};

	return read_date(&r) && r.s == r.end;
}

static bool
check_time(const char *s, int len)
{
	Reader		r = {s, s + len};

	return read_time(&r) && r.s == r.end;
}

static bool
check_date_time(const char *s, int len)
{
	Reader		r = {s, s + len};

	return read_date(&r) && (read_char(&r, 'T') || read_char(&r, 't')) &&
		read_time(&r) && r.s == r.end;
}

/* ISO 8601 duration as in RFC 3339 appendix A: units in order, no gaps */
static bool
check_duration(const char *s, int len)
{
	Reader		r = {s, s + len};
	const char *units = "YMD";
	const char *unit;
	bool		any = false;
	bool		in_time = false;

	if (!read_char(&r, 'P'))
		return false;
	while (r.s < r.end)
	{
		const char *start = r.s;

		if (!in_time && read_char(&r, 'T'))
		{
			in_time = true;
			any = false;
			units = "HMS";
			continue;
		}
		while (r.s < r.end && is_digit(*r.s))
			r.s++;
		if (r.s == start || r.s == r.end)
			return false;
		if (*r.s == 'W')		/* weeks stand alone */
			return start == s + 1 && r.s + 1 == r.end;
		unit = strchr(units, *r.s++);
		/* the first unit may be any, later ones must be next in line */
		if (unit == NULL || (any && unit != units))
			return false;
		units = unit + 1;
		any = true;
		if (*units == '\0')
			units = "\x01";		/* nothing may follow but T */
	}
	return any;
}

static bool
check_ipv4(const char *s, int len)
{
	Reader		r = {s, s + len};

	for (int part = 0; part < 4; part++)
	{
		const char *start;
		int			value = 0;

		if (part > 0 && !read_char(&r, '.'))
			return false;
		start = r.s;
		while (r.s < r.end && is_digit(*r.s) && r.s - start < 3)
			value = value * 10 + (*r.s++ - '0');
		if (r.s == start || value > 255 || (*start == '0' && r.s - start > 1))
			return false;
	}
	return r.s == r.end;
}

static bool
check_ipv6(const char *s, int len)
{
	const char *end = s + len;
	int			groups = 0;
	bool		gap = false;

	if (len >= 2 && s[0] == ':' && s[1] == ':')
	{
		gap = true;
		s += 2;
	}
	while (s < end)
	{
		const char *start = s;

		while (s < end && is_hex(*s))
			s++;
		if (s < end && *s == '.')
		{
			if (!check_ipv4(start, (int) (end - start)))
				return false;
			groups += 2;
			break;
		}
		if (s == start || s - start > 4)
			return false;
		groups++;
		if (s == end)
			break;
		if (*s++ != ':' || s == end)
			return false;
		if (*s == ':')
		{
			if (gap)
				return false;
			gap = true;
			s++;
		}
	}
	return gap ? groups < 8 : groups == 8;
}

static bool
check_hostname(const char *s, int len)
{
	const char *end = s + len;

	if (len == 0 || len > 253)
		return false;
	while (s <= end)
	{
		const char *start = s;

		while (s < end && (is_alpha(*s) || is_digit(*s) || *s == '-'))
			s++;
		if (s == start || s - start > 63 || *start == '-' || s[-1] == '-')
			return false;
		/* "--" in places 3 and 4 is reserved for punycode */
		if (s - start >= 4 && start[2] == '-' && start[3] == '-' &&
			pg_strncasecmp(start, "xn", 2) != 0)
			return false;
		if (s == end)
			return true;
		if (*s++ != '.')
			return false;
	}
	return false;
}

/* Dot-separated atoms, or anything sensible in quotes. */
static bool
check_local_part(const char *s, int len)
{
	bool		dot = true;		/* a dot is not allowed now */

	if (len >= 2 && s[0] == '"' && s[len - 1] == '"')
	{
		for (int i = 1; i < len - 1; i++)
		{
			if (s[i] == '\\' && i + 1 < len - 1)
				i++;
			else if (s[i] == '"' || s[i] == '\\' || (unsigned char) s[i] < ' ')
				return false;
		}
		return true;
	}
	for (int i = 0; i < len; i++)
	{
		if (s[i] == '.' && dot)
			return false;
		dot = (s[i] == '.');
		if (!dot && !is_alpha(s[i]) && !is_digit(s[i]) &&
			(s[i] == '\0' || strchr("!#$%&'*+/=?^_`{|}~-", s[i]) == NULL))
			return false;
	}
	return !dot;
}

static bool
check_email(const char *s, int len)
{
	int			at = len;
	const char *domain;
	int			domain_len;

	while (at > 0 && s[at - 1] != '@')
		at--;
	if (at == 0 || at - 1 > 64 || !check_local_part(s, at - 1))
		return false;
	domain = s + at;
	domain_len = len - at;
	if (domain_len > 2 && domain[0] == '[' && domain[domain_len - 1] == ']')
	{
		if (domain_len > 7 && pg_strncasecmp(domain, "[IPv6:", 6) == 0)
			return check_ipv6(domain + 6, domain_len - 7);
		return check_ipv4(domain + 1, domain_len - 2);
	}
	return check_hostname(domain, domain_len);
}

/* Characters of a URI component: unreserved, sub-delims, %xx and extra. */
static bool
check_uri_chars(const char *s, const char *end, const char *extra)
{
	for (; s < end; s++)
	{
		if (is_alpha(*s) || is_digit(*s))
			continue;
		if (*s == '%')
		{
			if (end - s < 3 || !is_hex(s[1]) || !is_hex(s[2]))
				return false;
			s += 2;
		}
		else if (*s == '\0' || (strchr("-._~!$&'()*+,;=", *s) == NULL &&
								strchr(extra, *s) == NULL))
			return false;
	}
	return true;
}

/* [userinfo@]host[:port] */
static bool
check_authority(const char *s, const char *end)
{
	const char *at = end;
	const char *host_end;

	while (at > s && at[-1] != '@')
		at--;
	if (at > s && !check_uri_chars(s, at - 1, ":"))
		return false;
	host_end = at;
	if (at < end && *at == '[')
	{
		while (host_end < end && *host_end != ']')
			host_end++;
		if (host_end == end)
			return false;
		if (at[1] == 'v' || at[1] == 'V')
		{
			if (!check_uri_chars(at + 1, host_end, ":"))
				return false;
		}
		else if (!check_ipv6(at + 1, (int) (host_end - at - 1)))
			return false;
		host_end++;
	}
	else
	{
		while (host_end < end && *host_end != ':')
			host_end++;
		if (!check_uri_chars(at, host_end, ""))
			return false;
	}
	if (host_end < end && *host_end++ != ':')
		return false;
	for (; host_end < end; host_end++)
		if (!is_digit(*host_end))
			return false;
	return true;
}

static const char *
skip_until(const char *s, const char *end, const char *stop)
{
	while (s < end && (*s == '\0' || strchr(stop, *s) == NULL))
		s++;
	return s;
}

static bool
check_uri_text(const char *s, int len, bool may_be_relative)
{
	const char *end = s + len;
	const char *p = skip_until(s, end, ":/?#");

	if (p < end && *p == ':' && p > s && is_alpha(*s))
	{
		for (const char *q = s; q < p; q++)
			if (!is_alpha(*q) && !is_digit(*q) && strchr("+-.", *q) == NULL)
				return false;
		s = p + 1;
	}
	else if (!may_be_relative || (p < end && *p == ':'))
		return false;
	if (end - s >= 2 && s[0] == '/' && s[1] == '/')
	{
		p = skip_until(s + 2, end, "/?#");
		if (!check_authority(s + 2, p))
			return false;
		s = p;
	}
	p = skip_until(s, end, "?#");
	if (!check_uri_chars(s, p, ":@/"))
		return false;
	s = p;
	if (s < end && *s == '?')
	{
		p = skip_until(s, end, "#");
		if (!check_uri_chars(s + 1, p, ":@/?"))
			return false;
		s = p;
	}
	return s == end || check_uri_chars(s + 1, end, ":@/?");
}

static bool
check_uri(const char *s, int len)
{
	return check_uri_text(s, len, false);
}

static bool
check_uri_reference(const char *s, int len)
{
	return check_uri_text(s, len, true);
}

static bool
check_uuid(const char *s, int len)
{
	if (len != 36)
		return false;
	for (int i = 0; i < len; i++)
	{
		bool		dash = (i == 8 || i == 13 || i == 18 || i == 23);

		if (dash ? s[i] != '-' : !is_hex(s[i]))
			return false;
	}
	return true;
}

static bool
check_json_pointer(const char *s, int len)
{
	if (len > 0 && s[0] != '/')
		return false;
	for (int i = 0; i < len; i++)
		if (s[i] == '~' && (i + 1 >= len || (s[i + 1] != '0' && s[i + 1] != '1')))
			return false;
	return true;
}

static bool
check_relative_json_pointer(const char *s, int len)
{
	int			i = 0;

	while (i < len && is_digit(s[i]))
		i++;
	if (i == 0 || (i > 1 && s[0] == '0'))
		return false;
	return (i + 1 == len && s[i] == '#') || check_json_pointer(s + i, len - i);
}

static const GoyaSchemaFormat formats[] = {
	{"date-time", check_date_time, "2026-05-01T12:30:00Z"},
	{"date", check_date, "2026-05-01"},
	{"time", check_time, "12:30:00Z"},
	{"duration", check_duration, "P1DT12H"},
	{"email", check_email, "name@example.com"},
	{"hostname", check_hostname, "media.example.com"},
	{"ipv4", check_ipv4, "192.0.2.1"},
	{"ipv6", check_ipv6, "2001:db8::1"},
	{"uri", check_uri, "https://example.com/frames/1.png"},
	{"uri-reference", check_uri_reference, "/frames/1.png"},
	{"uuid", check_uuid, "0190f3c2-7b1e-7c3a-9d4e-5f60718293a4"},
	{"json-pointer", check_json_pointer, "/frames/0/uri"},
	{"relative-json-pointer", check_relative_json_pointer, "1/uri"},
	{"regex", goya_schema_regex_is_valid, "^[a-z]+$"},
};

/* The format of this name, or NULL if it is not one that is asserted. */
const GoyaSchemaFormat *
goya_schema_find_format(const char *name, int len)
{
	for (size_t i = 0; i < lengthof(formats); i++)
		if (strlen(formats[i].name) == (size_t) len &&
			memcmp(formats[i].name, name, len) == 0)
			return &formats[i];
	return NULL;
}
