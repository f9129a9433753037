/* event_stream.h - server-sent events, from lines or from pieces of any size.  See event_stream.c. */
#ifndef GOYA_EVENT_STREAM_H
#define GOYA_EVENT_STREAM_H

#include "postgres.h"

#include "lib/stringinfo.h"

#define GOYA_EVENT_MAX_RETRY_MS		(60 * 60 * 1000L)

/* Valid while it is being told. */
typedef struct GoyaEvent
{
	const char *name;			/* NULL: not said */
	const char *id;				/* NULL: not said in this event */
	int			id_len;
	const char *data;			/* its lines, joined by LF */
	int			data_len;
	bool		has_data;
} GoyaEvent;

typedef struct GoyaEventStream
{
	StringInfoData line;		/* feed: not whole yet */
	StringInfoData data;		/* of the event that is not whole yet, as are: */
	StringInfoData name;
	StringInfoData id;
	bool		has_data;
	bool		has_name;
	bool		has_id;
	bool		after_cr;
	long		retry_ms;		/* -1: not said; at most GOYA_EVENT_MAX_RETRY_MS */
} GoyaEventStream;

/* Of each empty line, also of an event in which nothing was said.  It may throw; then the stream is not to be fed again. */
typedef void (*GoyaEventFn) (void *arg, const GoyaEvent *event);

extern void goya_event_stream_init(GoyaEventStream *s);
extern void goya_event_stream_restart(GoyaEventStream *s);
extern void goya_event_stream_line(GoyaEventStream *s, const char *line, int len, GoyaEventFn fn, void *arg);
extern void goya_event_stream_feed(GoyaEventStream *s, const char *bytes, size_t len, GoyaEventFn fn, void *arg);

#endif
