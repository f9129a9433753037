/*-------------------------------------------------------------------------
 * model_stream.c
 *		Server-sent events, as they come: lines end with CR, LF or both, "data:" lines of an event are joined by LF, an empty line ends it.
 *
 * Names, ids and comments are of no interest here.  An answer that begins with { is no stream, though one was asked for: it is read whole, later.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "model.h"

#define MAX_EVENT	(16 * 1024 * 1024)

void
goya_model_events_reset(GoyaModelEvents *e)
{
	if (e->line.data == NULL)
	{
		initStringInfo(&e->line);
		initStringInfo(&e->data);
	}
	resetStringInfo(&e->line);
	resetStringInfo(&e->data);
	e->after_cr = e->not_events = e->begun = false;
}

static void
end_line(GoyaModelEvents *e, GoyaModelOnEvent on_event, void *arg)
{
	char	   *line = e->line.data;

	if (e->line.len == 0)
	{
		if (e->data.len > 0)
			on_event(e->data.data, e->data.len - 1, arg);	/* without the last LF */
		resetStringInfo(&e->data);
	}
	else if (strncmp(line, "data:", 5) == 0)
	{
		int			skip = line[5] == ' ' ? 6 : 5;

		if (e->data.len + e->line.len > MAX_EVENT)
			ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("an event of the model's service is longer than 16 MB")));
		appendBinaryStringInfo(&e->data, line + skip, e->line.len - skip);
		appendStringInfoChar(&e->data, '\n');
	}
	resetStringInfo(&e->line);
}

void
goya_model_events_read(GoyaModelEvents *e, const char *data, size_t len, GoyaModelOnEvent on_event, void *arg)
{
	const char *end = data + len;

	if (!e->begun && len >= 3 && memcmp(data, "\357\273\277", 3) == 0)
		data += 3;				/* a byte order mark */
	if (!e->begun && data < end)
	{
		e->begun = true;
		e->not_events = *data == '{' || *data == '[';
	}
	while (data < end && !e->not_events)
	{
		const char *p = data;

		if (e->after_cr && *p == '\n')
			p = ++data;
		e->after_cr = false;
		while (p < end && *p != '\n' && *p != '\r')
			p++;
		if (e->line.len + (p - data) > MAX_EVENT)
			ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("a line of the model's service is longer than 16 MB")));
		appendBinaryStringInfo(&e->line, data, p - data);
		if (p == end)
			return;
		e->after_cr = *p == '\r';
		data = p + 1;
		end_line(e, on_event, arg);
	}
}
