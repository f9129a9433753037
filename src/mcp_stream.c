/*-------------------------------------------------------------------------
 * mcp_stream.c
 *		Answers of MCP servers that come as server-sent events: where they begin, and what is kept of their ids.
 *
 * Only data, id and retry are of interest, the name of an event is not.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mcp.h"

#define MAX_ID			4096

void
goya_mcp_stream_init(GoyaMcpStream *s)
{
	memset(s, 0, sizeof(*s));
	goya_event_stream_init(&s->events);
}

void
goya_mcp_stream_restart(GoyaMcpStream *s)
{
	s->begun = s->is_json = false;
	s->n_events = 0;
	goya_event_stream_restart(&s->events);
}

/* An id is sent back in a header, so it must be fit for one. */
static bool
fits_header(const char *id, int len)
{
	if (len > MAX_ID)
		return false;
	for (int i = 0; i < len; i++)
		if ((unsigned char) id[i] < 0x20 || id[i] == 0x7f)
			return false;
	return true;
}

typedef struct Reading
{
	GoyaMcpStream *stream;
	GoyaMcpEventFn fn;
	void	   *arg;
} Reading;

static void
on_event(void *arg, const GoyaEvent *event)
{
	Reading    *r = arg;

	if (event->id != NULL && fits_header(event->id, event->id_len))
		r->stream->last_id = pnstrdup(event->id, event->id_len);
	r->stream->n_events++;
	if (event->data_len > 0)
		r->fn(r->arg, event->data, event->data_len);
}

/* Calls fn for each whole event with data.  It may throw; then the stream is not to be fed again. */
void
goya_mcp_stream_feed(GoyaMcpStream *s, const char *bytes, size_t len, GoyaMcpEventFn fn, void *arg)
{
	const char *end = bytes + len;
	Reading		reading = {s, fn, arg};

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
	if (!s->is_json)
		goya_event_stream_feed(&s->events, bytes, end - bytes, on_event, &reading);
}
