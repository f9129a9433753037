/*-------------------------------------------------------------------------
 * model_stream.c
 *		Answers of models that come as server-sent events.
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
	if (e->stream.line.data == NULL)
		goya_event_stream_init(&e->stream);
	goya_event_stream_restart(&e->stream);
	e->not_events = e->begun = false;
}

void
goya_model_events_read(GoyaModelEvents *e, const char *data, size_t len, GoyaEventFn on_event, void *arg)
{
	const char *end = data + len;

	if (!e->begun && len >= 3 && memcmp(data, "\357\273\277", 3) == 0)
		data += 3;				/* a byte order mark */
	if (!e->begun && data < end)
	{
		e->begun = true;
		e->not_events = *data == '{' || *data == '[';
	}
	if (e->not_events)
		return;
	goya_event_stream_feed(&e->stream, data, end - data, on_event, arg);
	if (e->stream.line.len > MAX_EVENT)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("a line of the model's service is longer than 16 MB")));
	if (e->stream.data.len > MAX_EVENT)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("an event of the model's service is longer than 16 MB")));
}
