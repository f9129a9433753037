/*-------------------------------------------------------------------------
 * exchange_http.h
 *		What the files of the exchange of an http node share.  For exchange_http*.c only.
 *
 *	exchange_http.c			the type: from the node's fields to an outcome
 *	exchange_http_body.c	bodies by body_type
 *	exchange_http_auth.c	credentials
 *	exchange_http_sigv4.c	AWS signatures
 *	exchange_http_follow.c	what follows an answer: redirects, pages, polling
 *	exchange_http_stream.c	answers that come in pieces
 *	exchange_http_callback.c	services that answer later
 *	exchange_http_spill.c	bodies that become assets, assets that are sent
 *-------------------------------------------------------------------------
 */
#ifndef GOYA_EXCHANGE_HTTP_H
#define GOYA_EXCHANGE_HTTP_H

#include "node_http.h"
#include "stream.h"

typedef enum HttpPaging
{
	PAGING_NONE, PAGING_LINK, PAGING_CURSOR
} HttpPaging;

typedef enum HttpStreaming
{
	STREAM_NONE, STREAM_BY_TYPE, STREAM_SSE, STREAM_NDJSON, STREAM_TEXT
} HttpStreaming;

typedef struct HttpExchange
{
	/* redirects */
	int			max_redirects;
	int			redirects;		/* followed since the last request of ours */

	/* paging */
	HttpPaging	paging;
	Datum		items;			/* jsonpath; 0: the body is the page */
	Datum		cursor;
	char	   *param;			/* NULL: the cursor is a url */
	bool		in_body;
	int			max_pages;
	int			pages;
	bool		more;			/* stopped at a limit */
	size_t		page_bytes;
	Jsonb	   *body;			/* of the first request, for cursors in it */
	List	   *pages_seen;		/* Jsonb*: an array each */

	/* polling */
	bool		polls;
	bool		polling;		/* the first answer is there */
	char	   *poll_url;
	Datum		poll_from;		/* jsonpath of the url in the first answer */
	long		interval_ms;
	Datum		until;
	Datum		failed;
	Datum		poll_output;
	bool		poll_failed;

	/* streaming */
	HttpStreaming streaming;
	HttpStreaming found;		/* what it turned out to be; STREAM_NONE: not known yet */
	GoyaStream *stream;
	StringInfoData line;		/* the piece of a line that is there */

	/* spill: bytes over which a body becomes an asset, -1: never */
	int64		spill_over;

	/* callback */
	char	   *token;
	long		callback_ms;

	/* requests */
	char	   *origin_url;		/* of the first: what credentials are for */
	struct HttpAuth *auth;		/* NULL: none */
	bool		left;			/* the way has been to another origin */
	bool		idempotent;
} HttpExchange;

static inline HttpExchange *
http_of(GoyaExchange *x)
{
	return (HttpExchange *) x->state;
}

/* exchange_http_body.c: sets req->body; the type of what it is. */
extern const char *goya_http_put_body(GoyaHttpRequest *req, const GoyaWork *w, Jsonb *body, const char *type);

/* exchange_http_auth.c */
extern void goya_http_auth_start(GoyaExchange *x, GoyaBatch *b, const GoyaWork *w, const Jsonb *config);
extern void goya_http_auth_apply(GoyaExchange *x);	/* credentials into x->request, or, elsewhere, out of it */
extern void goya_http_redact(GoyaExchange *x, GoyaHttpResult *res);
extern const char *goya_http_redact_text(GoyaExchange *x, const char *text, size_t len, size_t *out_len);

/* exchange_http_sigv4.c */
extern void goya_http_sign(GoyaHttpRequest *req, const char *access_key, const char *secret, const char *region, const char *service);

/* exchange_http_follow.c */
extern Datum goya_http_path(const char *text);	/* jsonpath */
extern Jsonb *goya_http_path_first(Datum path, Jsonb *document);	/* NULL: finds nothing */
extern bool goya_http_path_test(Datum path, Jsonb *document);
extern GoyaStep goya_http_follow(GoyaExchange *x, GoyaHttpResult *answer);
extern Jsonb *goya_http_all_items(HttpExchange *h);

/* exchange_http_stream.c */
extern void goya_http_stream_received(GoyaExchange *x, const char *data, size_t len);
extern Jsonb *goya_http_stream_value(HttpExchange *h, const GoyaHttpResult *res);	/* NULL: as it came */

/* exchange_http_callback.c */
extern Jsonb *goya_http_callback_start(GoyaExchange *x, const GoyaWork *w, const Jsonb *config, Jsonb *body, char **header);

/* exchange_http_spill.c */
extern Jsonb *goya_http_spill(HttpExchange *h, const GoyaWork *w, const GoyaHttpResult *res);	/* NULL: it does not */
extern bool goya_http_asset_bytes(const GoyaWork *w, const char *id, char **data, size_t *len, char **type, char **name);

#endif
