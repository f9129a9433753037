/*-------------------------------------------------------------------------
 * mcp_stream.c
 *		Server-sent events, read from pieces of any size.
 *
 * As the HTML standard has it: lines end with LF, CR or CRLF; an empty line ends an event; what the last event left unfinished is
 * dropped.  Only data, id and retry are of interest, the name of an event is not.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mcp.h"

#define MAX_RETRY_MS	(60 * 60 * 1000L)
#define MAX_ID			4096

void
goya_mcp_stream_init(GoyaMcpStream *s)
{
	memset(s, 0, sizeof(*s));
	initStringInfo(&s->line);
	initStringInfo(&s->data);
	s->retry_ms = -1;
}

void
goya_mcp_stream_restart(GoyaMcpStream *s)
{
	s->begun = s->is_json = s->after_cr = false;
	resetStringInfo(&s->line);
	resetStringInfo(&s->data);
	s->id = NULL;
	s->n_events = 0;
}

static bool
field_is(const char *line, int len, const char *name)
{
	return len == (int) strlen(name) && memcmp(line, name, len) == 0;
}

static void
set_retry(GoyaMcpStream *s, const char *value)
{
	long		ms = 0;

	if (value[0] == '\0' || value[strspn(value, "0123456789")] != '\0')
		return;
	for (; *value; value++)
		ms = Min(ms * 10 + (*value - '0'), MAX_RETRY_MS);
	s->retry_ms = ms;
}

/* An id is sent back in a header, so it must be fit for one. */
static void
set_id(GoyaMcpStream *s, const char *value, int len)
{
	if (len > MAX_ID)
		return;
	for (int i = 0; i < len; i++)
		if ((unsigned char) value[i] < 0x20 || value[i] == 0x7f)
			return;
	s->id = pnstrdup(value, len);
}

static void
end_event(GoyaMcpStream *s, GoyaMcpEventFn fn, void *arg)
{
	if (s->id != NULL)
		s->last_id = s->id;
	s->id = NULL;
	s->n_events++;
	if (s->data.len > 0)
		fn(arg, s->data.data, s->data.len);
	resetStringInfo(&s->data);
}

static void
end_line(GoyaMcpStream *s, GoyaMcpEventFn fn, void *arg)
{
	const char *line = s->line.data;
	const char *colon = memchr(line, ':', s->line.len);
	int			len = colon ? (int) (colon - line) : s->line.len;
	const char *value = colon ? colon + 1 : line + s->line.len;

	if (*value == ' ')
		value++;
	if (s->line.len == 0)
		end_event(s, fn, arg);
	else if (field_is(line, len, "data"))
	{
		if (s->data.len > 0)
			appendStringInfoChar(&s->data, '\n');
		appendBinaryStringInfo(&s->data, value, s->line.len - (int) (value - line));
	}
	else if (field_is(line, len, "id"))
		set_id(s, value, s->line.len - (int) (value - line));
	else if (field_is(line, len, "retry"))
		set_retry(s, value);
	resetStringInfo(&s->line);
}

/* Calls fn for each whole event with data.  It may throw; then the stream is not to be fed again. */
void
goya_mcp_stream_feed(GoyaMcpStream *s, const char *bytes, size_t len, GoyaMcpEventFn fn, void *arg)
{
	const char *end = bytes + len;

	while (!s->begun && bytes < end)
	{
		/* A document begins with a brace; a byte order mark, in three bytes, may come before either. */
		if (strchr("\xef\xbb\xbf \t\r\n", *bytes) != NULL && *bytes != '\0')
		{
			bytes++;
			continue;
		}
		s->begun = true;
		s->is_json = *bytes == '{' || *bytes == '[';
	}
	if (s->is_json)
		return;
	while (bytes < end)
	{
		const char *stop = bytes;

		if (s->after_cr && *bytes == '\n')
		{
			s->after_cr = false;
			bytes++;
			continue;
		}
		s->after_cr = false;
		while (stop < end && *stop != '\n' && *stop != '\r')
			stop++;
		appendBinaryStringInfo(&s->line, bytes, (int) (stop - bytes));
		if (stop == end)
			return;
		s->after_cr = *stop == '\r';
		bytes = stop + 1;
		end_line(s, fn, arg);
	}
}
