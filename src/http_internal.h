/*-------------------------------------------------------------------------
 *
 * http_internal.h
 *	  What the parts of http share: http.c (the main thread's side), http_loop.c
 *	  (the thread), http_transfer.c (options and callbacks of one transfer),
 *	  http_result.c (its end).
 *
 * Only these include this file, so only they see curl.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GOYA_HTTP_INTERNAL_H
#define GOYA_HTTP_INTERNAL_H

#include <arpa/inet.h>
#include <curl/curl.h>
#include <pthread.h>
#include <unistd.h>

#include "lib/ilist.h"

#include "egress.h"
#include "http.h"
#include "pollset.h"

#if LIBCURL_VERSION_NUM < 0x075500
#error "goya needs libcurl 7.85 or later"
#endif

#define MAX_HEADER_BYTES	(64 * 1024)
#define MAX_POOLED			512 /* easy handles kept for reuse */
#define MAX_SHARDS			16
#define SHARD_TRANSFERS		128 /* a shard has room below this */
#define ID_BUCKETS			1024

typedef enum TransferState
{
	TRANSFER_PENDING,
	TRANSFER_ACTIVE,
	TRANSFER_DONE
} TransferState;

/* Why a callback stopped its transfer. */
typedef enum StopReason
{
	STOP_NONE,
	STOP_TOO_LARGE,
	STOP_DENIED,
	STOP_RESEND,
	STOP_NO_MEMORY
} StopReason;

/* Bytes that grow, malloc'd. */
typedef struct Buffer
{
	char	   *data;
	size_t		len;
	size_t		size;
} Buffer;

/* A piece of a body on its way to the main thread, malloc'd. */
typedef struct GoyaHttpPiece
{
	dlist_node	node;
	uint64		id;
	size_t		len;
	char		data[FLEXIBLE_ARRAY_MEMBER];
} GoyaHttpPiece;

/* One of curl's multi handles, with its own connections. */
typedef struct GoyaHttpShard
{
	GoyaHttp   *http;
	CURLM	   *multi;			/* NULL: not used yet */
	int64		timer_at;		/* when curl wants a call, -1: never */
	int64		idle_since;
	int			in_flight;		/* pending and active */
	int			sockets;		/* open */
} GoyaHttpShard;

typedef struct GoyaHttpTransfer
{
	dlist_node	node;			/* in the list of its state */
	struct GoyaHttpTransfer *next_id;	/* in the bucket of its id, until done */
	GoyaHttp   *http;
	GoyaHttpShard *shard;
	uint64		id;
	TransferState state;

	/* request */
	GoyaHttpRequest request;	/* in block */
	char	   *block;
	size_t		block_size;
	CURL	   *easy;			/* NULL once done */
	struct curl_slist *headers;
	bool		repeatable;
	bool		by_name;		/* the host needs a resolver */
	bool		https;
	char	   *host;			/* malloc'd, for the tenant's rules; NULL: there are none */
	int			port;
	int			connect_timeout_ms;
	int			timeout_ms;
	size_t		max_response;
	int64		started_at;

	/* set by callbacks */
	bool		resolving;		/* counted in http->resolving */
	bool		sent;
	bool		opened;			/* a socket was made */
	bool		denied;			/* an address was refused */
	bool		no_fd;			/* a socket was refused */
	StopReason	stop;
	size_t		header_bytes;	/* received, all blocks together */
	Buffer		head;			/* header lines, each with a NUL */
	int			nheaders;
	Buffer		content;		/* decoded body */
	char		address[INET6_ADDRSTRLEN];	/* the refused one */
	int64		rule;			/* which refused it, 0: the settings */
	char		curl_error[CURL_ERROR_SIZE];

	/* outcome, when done */
	GoyaHttpOutcome outcome;
	int			status;
	double		seconds;
	char		error[CURL_ERROR_SIZE];
} GoyaHttpTransfer;

struct GoyaHttp
{
	/* the main thread's */
	MemoryContext cxt;
	MemoryContextCallback on_reset;
	pthread_t	thread;
	int			in_flight;		/* started and not delivered */
	dlist_head	results;		/* to be taken */
	dlist_head	pieces;			/* to be taken before them */
	int			external_fds;	/* held of PostgreSQL's budget */

	/* set before there is a thread, read by both */
	int			socket_limit;
	int			max_kept;		/* connections kept for reuse */
	int			loop_bell;		/* eventfd: the thread has orders */
	int			main_bell;		/* eventfd: there are results */

	/* under the mutex */
	pthread_mutex_t mutex;
	dlist_head	inbox;
	dlist_head	outbox;
	dlist_head	piece_box;
	uint64	   *cancels;		/* malloc'd */
	int			n_cancels;
	int			max_cancels;
	bool		stop;

	/* the thread's */
	GoyaPollset pollset;
	CURLSH	   *share;			/* names and TLS sessions, for all shards */
	int64		pending_scan_at;
	dlist_head	pending;
	dlist_head	active;
	dlist_head	done;
	dlist_head	received;		/* pieces, not yet delivered */
	int			resolving;
	int			sockets;		/* open */
	int			npooled;
	CURL	   *pool[MAX_POOLED];
	GoyaHttpTransfer *by_id[ID_BUCKETS];
	int			n_shards;
	GoyaHttpShard shards[MAX_SHARDS];
};

/* http_loop.c: see there. */
extern bool goya_http_loop_open(GoyaHttp *h);
extern void *goya_http_loop_run(void *arg);

/*
 * http_transfer.c: gives a transfer its curl handle with everything set, from
 * the pool if there is one.  False: no memory.  Never throws.
 */
extern bool goya_http_prepare_handle(GoyaHttpTransfer *t);

/* Why the request cannot be sent, or NULL; sets t->by_name.  Never throws. */
extern const char *goya_http_check_request(GoyaHttpTransfer *t);

/* http_result.c: what curl's code and the callbacks' flags mean together. */
extern GoyaHttpOutcome goya_http_classify_end(GoyaHttpTransfer *t, CURLcode code);
extern void goya_http_describe_end(GoyaHttpTransfer *t, GoyaHttpOutcome outcome,
								   CURLcode code, char *error, size_t size);
extern void goya_http_free_transfer(GoyaHttpTransfer *t);

/* Monotonic, so differences only. */
static inline int64
goya_http_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Wakes whoever sleeps on the eventfd. */
static inline void
goya_http_ring(int bell)
{
	uint64		one = 1;

	(void) !write(bell, &one, sizeof(one));
}

/* The transfer no longer counts as resolving. */
static inline void
goya_http_stop_resolving(GoyaHttpTransfer *t)
{
	if (t->resolving)
	{
		t->resolving = false;
		t->http->resolving--;
	}
}

/* Sets an option of t->easy, as long as ok holds. */
#define SET(option, value) \
	(ok = ok && curl_easy_setopt(t->easy, (option), (value)) == CURLE_OK)

#endif							/* GOYA_HTTP_INTERNAL_H */
