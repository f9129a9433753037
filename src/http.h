/*-------------------------------------------------------------------------
 *
 * http.h
 *	  HTTP transfers of the engine: many in flight, none of them blocking.
 *
 * A thread makes the transfers.  The engine starts one, sleeps in
 * goya_wait_once, which ends when there are results, gets them with
 * goya_http_drive once per turn of its loop and takes them one by one:
 *
 *		goya_http_start(h, &request);
 *		goya_wait_once(w, timeout, wait_event);
 *		goya_http_drive(h);
 *		while ((result = goya_http_take(h)) != NULL) ...
 *
 * Every started transfer gives exactly one result.  All of this is for the main
 * thread.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GOYA_HTTP_H
#define GOYA_HTTP_H

#include <time.h>

#include "wait.h"

struct sockaddr;

typedef struct GoyaHttp GoyaHttp;

typedef struct GoyaHttpRequest
{
	uint64		id;				/* the caller's, unique among those not taken */
	const char *method;			/* NULL: GET, or POST with a body */
	const char *url;			/* http or https */
	char	  **headers;		/* "Name: value" */
	int			nheaders;
	const char *body;			/* NULL: none */
	size_t		body_len;
	int			connect_timeout_ms; /* 0: 10 s */
	int			timeout_ms;		/* whole transfer, 0: 60 s */
	size_t		max_response;	/* decoded bytes, 0: 16 MB, at most 1 GB */
	bool		stream;			/* the body of a 2xx also comes in pieces, by goya_http_take_piece */
	struct GoyaEgress *egress;	/* the tenant's rules, NULL: none; the transfer holds them itself */
	bool		secret;			/* overwritten when it is over */
} GoyaHttpRequest;

typedef enum GoyaHttpOutcome
{
	GOYA_HTTP_DONE,				/* a whole response arrived, whatever its
								 * status */
	GOYA_HTTP_CONNECT_FAILED,	/* no connection in time: nothing was sent */
	GOYA_HTTP_TIMEOUT,			/* timeout_ms is over; see sent */
	GOYA_HTTP_BROKEN,			/* reset, short body, bad protocol */
	GOYA_HTTP_TOO_LARGE,		/* body over max_response, headers over 64 KB */
	GOYA_HTTP_BAD_URL,			/* url, method or a header is not acceptable */
	GOYA_HTTP_DENIED,			/* address policy: nothing was sent */
	GOYA_HTTP_CANCELLED			/* by goya_http_cancel; see sent */
} GoyaHttpOutcome;

typedef struct GoyaHttpResult
{
	uint64		id;
	GoyaHttpOutcome outcome;
	int			status;			/* 0: no status line arrived */
	char	   *content_type;	/* NULL: none */
	char	  **headers;		/* "Name: value", of the last response block */
	int			nheaders;
	char	   *body;			/* raw bytes and a final NUL, never NULL; only
								 * with GOYA_HTTP_DONE */
	size_t		body_len;
	char	   *error;			/* NULL with GOYA_HTTP_DONE */
	double		seconds;		/* since goya_http_start */
	long		retry_after_ms; /* -1: none */
	bool		sent;			/* request bytes may have reached the peer */
} GoyaHttpResult;

/*
 * Initializes curl in this process and starts the thread, so never call it in
 * the postmaster, and once at a time.  The object lives in a child of
 * CurrentMemoryContext and dies with it.  Raises the process's soft limit of
 * open files as far as the hard one allows.  Throws when out of memory,
 * descriptors or threads.
 */
extern GoyaHttp *goya_http_create(GoyaWait *w);

/*
 * Starts a transfer; copies the whole request.  A url, method or header that
 * is not acceptable becomes a result.  Throws only when out of memory, and then
 * nothing was started.
 */
extern void goya_http_start(GoyaHttp *h, const GoyaHttpRequest *req);

/*
 * Asks for the end of a transfer: its result is GOYA_HTTP_CANCELLED, unless its
 * own is there first.  Nothing happens if there is no such transfer.  Never
 * throws.
 */
extern void goya_http_cancel(GoyaHttp *h, uint64 id);

/*
 * Transfers that can be in flight at once before sockets run out and further
 * ones end with GOYA_HTTP_CONNECT_FAILED.
 */
extern int	goya_http_capacity(GoyaHttp *h);

/* Gets what has finished, to be taken.  Never throws. */
extern void goya_http_drive(GoyaHttp *h);

/*
 * The next result, in CurrentMemoryContext, or NULL.  Header, content type
 * and error texts are valid in the database's encoding; the body is not
 * checked.  When it throws (out of memory) the result is still there.
 */
extern GoyaHttpResult *goya_http_take(GoyaHttp *h);

/*
 * The next piece of the body of a transfer with stream set, in CurrentMemoryContext, or false.  All pieces of a transfer come before its
 * result, in order.  When it throws the piece is still there.
 */
extern bool goya_http_take_piece(GoyaHttp *h, uint64 *id, char **data, size_t *len);

/*
 * http_text.c: what may stand in a request and how to read a response.  None
 * of these throws or allocates.
 */
extern bool goya_http_method_valid(const char *method);
extern bool goya_http_method_repeatable(const char *method);
extern const char *goya_http_header_problem(const char *header);
extern const char *goya_http_header_value(const char *header, const char *name);
extern long goya_http_parse_retry_after(const char *value, time_t now);
extern void goya_http_clean_text(char *text);

/* http_url.c: see there. */
extern char *goya_http_url_resolve(const char *base, const char *reference);
extern bool goya_http_url_same_origin(const char *a, const char *b);
extern bool goya_http_url_target(const char *url, bool *tls, char **host, int *port);
extern char *goya_http_url_escape(const char *text, size_t len, bool form);
extern char *goya_http_url_canonical_query(const char *url);
extern bool goya_http_url_parts(const char *url, char **path, char **query);
extern char *goya_http_url_set_parameter(const char *url, const char *name, const char *value);

/* http_address.c: may the engine connect to this address, as far as the settings say?  None of these throws. */
extern bool goya_http_address_allowed(const struct sockaddr *sa);

/* What an address is and what it carries: see there.  0: never a destination. */
typedef struct GoyaHttpAddressForm
{
	bool		v4;
	uint8		bytes[16];
} GoyaHttpAddressForm;

#define GOYA_HTTP_MAX_FORMS 3
extern int	goya_http_address_forms(const struct sockaddr *sa, GoyaHttpAddressForm *forms);

#endif							/* GOYA_HTTP_H */
