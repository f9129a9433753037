/*-------------------------------------------------------------------------
 * exchange_http_stream.c
 *		Answers that come in pieces: server-sent events and lines of JSON, passed on while they arrive and parsed when they are whole.
 *
 * Sessions read with goya.read_stream what has come: of events their data, of NDJSON its lines, of anything else the text.  The output of the node
 * has an array: [{"event", "data", "id"}, …] of events, the values of NDJSON.  What is JSON in the data of an event is parsed.  Of a call with secrets text is passed on by whole lines, so that none is cut in two.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/fmgrprotos.h"

#include "event_stream.h"
#include "exchange_http.h"
#include "try_input.h"

#define MAX_LINE (1024 * 1024)	/* longer ones are passed on in parts */

/* What kind of stream it is, by the node or by the answer's first bytes: its headers come later than they do. */
static HttpStreaming
kind_of(const HttpExchange *h, const char *data, size_t len)
{
	static const char *const fields[] = {"data:", "event:", "id:", "retry:", ":"};

	if (h->streaming != STREAM_BY_TYPE)
		return h->streaming;
	for (size_t i = 0; i < lengthof(fields); i++)
		if (len >= strlen(fields[i]) && strncmp(data, fields[i], strlen(fields[i])) == 0)
			return STREAM_SSE;
	return len > 0 && (data[0] == '{' || data[0] == '[') ? STREAM_NDJSON : STREAM_TEXT;
}

static void
pass_text(GoyaExchange *x, const char *text, size_t len)
{
	HttpExchange *h = http_of(x);

	text = goya_http_redact_text(x, text, len, &len);
	if (len > 0 && pg_verify_mbstr(GetDatabaseEncoding(), text, len, true))
		goya_stream_add(h->stream, text, len);
}

/* A whole line, without its end. */
static void
pass_line(GoyaExchange *x, char *line, int len)
{
	char	   *text;

	if (len > 0 && line[len - 1] == '\r')
		len--;
	if (http_of(x)->found == STREAM_SSE)
	{
		if (len < 5 || strncmp(line, "data:", 5) != 0)
			return;
		line += 5;
		len -= 5;
		if (len > 0 && *line == ' ')
		{
			line++;
			len--;
		}
	}
	if (len == 0)
		return;
	text = palloc(len + 2);
	memcpy(text, line, len);
	text[len] = '\n';
	pass_text(x, text, len + 1);
	pfree(text);
}

/* Of plain text, all but a character that is not whole yet. */
static void
pass_whole_characters(GoyaExchange *x)
{
	HttpExchange *h = http_of(x);
	int			len = h->line.len;
	int			whole;

	for (whole = len; whole > 0 && whole > len - 4; whole--)
		if (pg_verify_mbstr(GetDatabaseEncoding(), h->line.data, whole, true))
			break;
	if (!pg_verify_mbstr(GetDatabaseEncoding(), h->line.data, whole, true))
		whole = len;			/* not text: nothing is passed on */
	pass_text(x, h->line.data, whole);
	memmove(h->line.data, h->line.data + whole, len - whole);
	h->line.len = len - whole;
	h->line.data[h->line.len] = '\0';
}

void
goya_http_stream_received(GoyaExchange *x, const char *data, size_t len)
{
	HttpExchange *h = http_of(x);
	char	   *start;
	char	   *end;

	if (h->stream == NULL || len == 0)
		return;
	if (h->found == STREAM_NONE)
		h->found = kind_of(h, data, len);
	appendBinaryStringInfo(&h->line, data, len);
	if (h->found == STREAM_TEXT && h->auth == NULL)
	{
		pass_whole_characters(x);
		return;
	}
	start = h->line.data;
	while ((end = memchr(start, '\n', h->line.data + h->line.len - start)) != NULL)
	{
		pass_line(x, start, end - start);
		start = end + 1;
	}
	if (h->line.data + h->line.len - start > MAX_LINE)
		start = h->line.data + h->line.len; /* the whole answer has it */
	h->line.len -= start - h->line.data;
	memmove(h->line.data, start, h->line.len);
	h->line.data[h->line.len] = '\0';
}

/* ---- the whole answer ---- */

/* JSON if it is, else a string. */
static Jsonb *
value_of(const char *text, int len)
{
	char	   *error;
	Datum		value;

	while (len > 0 && (*text == ' ' || *text == '\t'))
	{
		text++;
		len--;
	}
	if (len > 0 && strchr("{[\"-0123456789tfn", *text) != NULL && goya_try_input(jsonb_in, pnstrdup(text, len), &value, &error))
		return DatumGetJsonbP(value);
	return goya_json_from_text_len(text, len);
}

typedef struct Events
{
	List	   *values;			/* Jsonb* */
	char	   *last_id;		/* an event has the id that was told last */
} Events;

static void
on_event(void *arg, const GoyaEvent *event)
{
	Events	   *e = arg;
	GoyaJsonObject o;

	if (event->id != NULL)
		e->last_id = pnstrdup(event->id, event->id_len);
	if (!event->has_data)
		return;
	goya_json_object_start(&o);
	goya_json_add_text(&o, "event", event->name ? event->name : "message");
	goya_json_add(&o, "data", value_of(event->data, event->data_len));
	goya_json_add_text(&o, "id", e->last_id);
	e->values = lappend(e->values, goya_json_object_finish(&o));
}

static Jsonb *
as_array(List *values)
{
	Jsonb	  **list = palloc(sizeof(Jsonb *) * Max(list_length(values), 1));
	int			n = 0;
	ListCell   *lc;

	foreach(lc, values)
		list[n++] = lfirst(lc);
	return goya_json_array(n, list);
}

Jsonb *
goya_http_stream_value(HttpExchange *h, const GoyaHttpResult *res)
{
	HttpStreaming kind = h->streaming;
	Events		found = {NIL, NULL};
	GoyaEventStream stream;
	const char *end = res->body + res->body_len;

	if (kind == STREAM_BY_TYPE)
		kind = res->content_type && pg_strncasecmp(res->content_type, "text/event-stream", 17) == 0 ? STREAM_SSE :
			res->content_type && (pg_strncasecmp(res->content_type, "application/x-ndjson", 20) == 0 ||
								  pg_strncasecmp(res->content_type, "application/jsonl", 17) == 0) ? STREAM_NDJSON : STREAM_TEXT;
	if (kind == STREAM_TEXT || !goya_node_http_is_text(res))
		return NULL;
	goya_event_stream_init(&stream);
	for (const char *line = res->body, *next; line < end; line = next)
	{
		const char *stop = memchr(line, '\n', end - line);
		int			len = (stop ? stop : end) - line;

		next = stop ? stop + 1 : end;
		if (len > 0 && line[len - 1] == '\r')
			len--;
		if (kind == STREAM_NDJSON && len > 0)
			found.values = lappend(found.values, value_of(line, len));
		else if (kind == STREAM_SSE)
			goya_event_stream_line(&stream, line, len, on_event, &found);
	}
	if (kind == STREAM_SSE)
		goya_event_stream_line(&stream, "", 0, on_event, &found);	/* the last one, if no empty line ended it */
	return as_array(found.values);
}
