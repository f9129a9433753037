/*-------------------------------------------------------------------------
 * event_stream.c
 *		Server-sent events, as the HTML standard has them: lines of "field: value"; the data lines of an event are joined by LF; an empty
 *		line ends it; what the last event left unfinished is dropped.
 *
 * Used by models (model_stream.c), MCP servers (mcp_stream.c) and http nodes (exchange_http_stream.c).  What a stream begins with, how
 * long it may be and what an event means is theirs.  Memory is that of the context in which the stream was made.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "event_stream.h"

void
goya_event_stream_init(GoyaEventStream *s)
{
	memset(s, 0, sizeof(*s));
	initStringInfo(&s->line);
	initStringInfo(&s->data);
	initStringInfo(&s->name);
	initStringInfo(&s->id);
	s->retry_ms = -1;
}

static void
begin_event(GoyaEventStream *s)
{
	resetStringInfo(&s->data);
	s->has_data = s->has_name = s->has_id = false;
}

/* Of a new connection: what was said of pauses stays. */
void
goya_event_stream_restart(GoyaEventStream *s)
{
	resetStringInfo(&s->line);
	s->after_cr = false;
	begin_event(s);
}

static void
end_event(GoyaEventStream *s, GoyaEventFn fn, void *arg)
{
	GoyaEvent	event = {
		.name = s->has_name ? s->name.data : NULL,
		.id = s->has_id ? s->id.data : NULL,
		.id_len = s->has_id ? s->id.len : 0,
		.data = s->data.data,
		.data_len = s->data.len,
		.has_data = s->has_data,
	};

	fn(arg, &event);
	begin_event(s);
}

static bool
field_is(const char *line, int len, const char *name)
{
	return len == (int) strlen(name) && memcmp(line, name, len) == 0;
}

static void
set_text(StringInfo text, bool *has, const char *value, int len)
{
	resetStringInfo(text);
	appendBinaryStringInfo(text, value, len);
	*has = true;
}

static void
set_retry(GoyaEventStream *s, const char *value, int len)
{
	long		ms = 0;

	for (int i = 0; i < len; i++)
	{
		if (value[i] < '0' || value[i] > '9')
			return;
		ms = Min(ms * 10 + (value[i] - '0'), GOYA_EVENT_MAX_RETRY_MS);
	}
	if (len > 0)
		s->retry_ms = ms;
}

/* A line, without its end. */
void
goya_event_stream_line(GoyaEventStream *s, const char *line, int len, GoyaEventFn fn, void *arg)
{
	const char *colon = memchr(line, ':', len);
	int			name = colon ? (int) (colon - line) : len;
	const char *value = line + Min(name + 1, len);
	int			value_len;

	if (len == 0)
	{
		end_event(s, fn, arg);
		return;
	}
	if (value < line + len && *value == ' ')
		value++;
	value_len = len - (int) (value - line);
	if (field_is(line, name, "data"))
	{
		if (s->has_data)
			appendStringInfoChar(&s->data, '\n');
		appendBinaryStringInfo(&s->data, value, value_len);
		s->has_data = true;
	}
	else if (field_is(line, name, "event"))
		set_text(&s->name, &s->has_name, value, value_len);
	else if (field_is(line, name, "id"))
		set_text(&s->id, &s->has_id, value, value_len);
	else if (field_is(line, name, "retry"))
		set_retry(s, value, value_len);
}

/* Bytes as they come: lines end with LF, CR or CRLF, which may be cut anywhere. */
void
goya_event_stream_feed(GoyaEventStream *s, const char *bytes, size_t len, GoyaEventFn fn, void *arg)
{
	const char *end = bytes + len;

	while (bytes < end)
	{
		const char *stop;

		if (s->after_cr && *bytes == '\n')
			bytes++;
		s->after_cr = false;
		for (stop = bytes; stop < end && *stop != '\n' && *stop != '\r'; stop++)
			;
		appendBinaryStringInfo(&s->line, bytes, (int) (stop - bytes));
		if (stop == end)
			return;
		s->after_cr = *stop == '\r';
		bytes = stop + 1;
		goya_event_stream_line(s, s->line.data, s->line.len, fn, arg);
		resetStringInfo(&s->line);
	}
}
