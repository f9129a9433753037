/*-------------------------------------------------------------------------
 *
 * http.c
 *	  HTTP transfers of the engine: the main thread's side.
 *
 * The transfers are made by a thread of their own (http_loop.c), so that they
 * go on while the engine writes, commits and waits for the disk; it and the
 * main thread exchange transfers through two lists under a mutex:
 *
 *		start -> inbox -> [pending ->] active -> done -> outbox -> taken
 *		main		|			the thread			   |	main
 *
 * The other parts are http_transfer.c (options and callbacks of one transfer),
 * http_result.c (how it ended), http_text.c (methods and headers) and
 * http_address.c (whom we may call).
 *
 * What was decided:
 *
 * - The thread runs curl, epoll and malloc, and nothing of PostgreSQL's that
 *	 could throw, palloc, or look at a signal: callbacks set flags in the
 *	 transfer; what happened is worked out when curl has returned.  It has all
 *	 signals blocked, and so have the threads in which curl resolves names:
 *	 PostgreSQL's handlers run in the main thread only.
 *
 * - It ends before the process does (before_shmem_exit): exit handlers of
 *	 libraries must not run beside it.
 *
 * - HTTP/1.1 only, no redirects, no proxy, no cookies, no .netrc, TLS 1.2 or
 *	 later, verified.  A redirect is a result: following one needs the checks a
 *	 first request gets.
 *
 * - The address policy, settings and the tenant's rules, is asked for each
 *	 address before a socket exists, and again before each request goes out on a
 *	 kept connection, which another tenant may have opened.
 *
 * - curl silently repeats a request when a kept connection turns out dead.
 *	 That is right for GET and would pay twice for POST: a request that is not
 *	 repeatable ends as broken and the caller decides.
 *
 * - Sockets use what the kernel grants beyond max_files_per_process, so they
 *	 take nothing from PostgreSQL's own budget; only where the hard limit is
 *	 too low do we take from that, with AcquireExternalFD.  At the limit a
 *	 transfer fails; PostgreSQL never runs out.
 *
 * Memory: a GoyaHttp is in its own context, "goya http", whose reset callback
 * ends the thread and frees everything else, which is malloc'd.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "storage/fd.h"
#include "storage/ipc.h"
#include "utils/memutils.h"

#include "http_internal.h"

#define MAX_SOCKETS			6144	/* open at once, kept ones included */
#define MIN_SOCKETS			128	/* taken from PostgreSQL's budget if need be */
#define SPARE_FDS			160 /* resolver threads, libraries */
#define THREAD_STACK		(1024 * 1024)

static GoyaHttp *running = NULL;	/* has a thread */

/* ---------- requests ---------- */

/* Copies text to *at, which moves on. */
static const char *
put_text(char **at, const char *text)
{
	char	   *copy = *at;

	strcpy(copy, text);
	*at += strlen(text) + 1;
	return copy;
}

/* The whole request in one block; false: no memory. */
static bool
copy_request(GoyaHttpTransfer *t, const GoyaHttpRequest *req)
{
	const char *method = req->method ? req->method : req->body ? "POST" : "GET";
	const char *url = req->url ? req->url : "";
	size_t		size = sizeof(char *) * req->nheaders + strlen(method) + strlen(url) + 2 + req->body_len + 1;
	char	   *at;

	for (int i = 0; i < req->nheaders; i++)
		size += strlen(req->headers[i]) + 1;
	t->block = malloc(size);
	if (t->block == NULL)
		return false;
	t->block_size = size;
	t->request = *req;
	t->request.headers = (char **) t->block;
	at = t->block + sizeof(char *) * req->nheaders;
	t->request.method = put_text(&at, method);
	t->request.url = put_text(&at, url);
	for (int i = 0; i < req->nheaders; i++)
		t->request.headers[i] = (char *) put_text(&at, req->headers[i]);
	if (req->body)
	{
		memcpy(at, req->body, req->body_len);
		t->request.body = at;
	}
	return true;
}

static GoyaHttpTransfer *
make_transfer(GoyaHttp *h, const GoyaHttpRequest *req)
{
	GoyaHttpTransfer *t = calloc(1, sizeof(GoyaHttpTransfer));

	if (t == NULL || !copy_request(t, req))
	{
		free(t);
		return NULL;
	}
	goya_egress_hold(t->request.egress);
	t->http = h;
	t->id = req->id;
	t->started_at = goya_http_now_ms();
	t->repeatable = goya_http_method_repeatable(t->request.method);
	t->connect_timeout_ms = req->connect_timeout_ms > 0 ? req->connect_timeout_ms : 10000;
	t->timeout_ms = req->timeout_ms > 0 ? req->timeout_ms : 60000;
	t->max_response = req->max_response > 0 ? req->max_response : 16 * 1024 * 1024;
	t->max_response = Min(t->max_response, MaxAllocSize - 1);
	return t;
}

void
goya_http_start(GoyaHttp *h, const GoyaHttpRequest *req)
{
	GoyaHttpTransfer *t = make_transfer(h, req);
	bool		ring;

	if (t == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory for an http request")));
	pthread_mutex_lock(&h->mutex);
	ring = dlist_is_empty(&h->inbox);
	dlist_push_tail(&h->inbox, &t->node);
	pthread_mutex_unlock(&h->mutex);
	h->in_flight++;
	if (ring)
		goya_http_ring(h->loop_bell);
}

void
goya_http_cancel(GoyaHttp *h, uint64 id)
{
	pthread_mutex_lock(&h->mutex);
	if (h->n_cancels == h->max_cancels)
	{
		int			max = Max(h->max_cancels * 2, 16);
		uint64	   *grown = realloc(h->cancels, sizeof(uint64) * max);

		if (grown != NULL)
		{
			h->cancels = grown;
			h->max_cancels = max;
		}
	}
	if (h->n_cancels < h->max_cancels)
		h->cancels[h->n_cancels++] = id;	/* without memory it ends by itself */
	pthread_mutex_unlock(&h->mutex);
	goya_http_ring(h->loop_bell);
}

int
goya_http_capacity(GoyaHttp *h)
{
	return h->socket_limit - h->max_kept;
}

/* ---------- results ---------- */

void
goya_http_drive(GoyaHttp *h)
{
	pthread_mutex_lock(&h->mutex);
	while (!dlist_is_empty(&h->piece_box))
		dlist_push_tail(&h->pieces, dlist_pop_head_node(&h->piece_box));
	while (!dlist_is_empty(&h->outbox))
	{
		dlist_push_tail(&h->results, dlist_pop_head_node(&h->outbox));
		h->in_flight--;
	}
	pthread_mutex_unlock(&h->mutex);
}

bool
goya_http_take_piece(GoyaHttp *h, uint64 *id, char **data, size_t *len)
{
	GoyaHttpPiece *piece;

	if (dlist_is_empty(&h->pieces))
		return false;
	piece = dlist_head_element(GoyaHttpPiece, node, &h->pieces);
	*id = piece->id;
	*len = piece->len;
	*data = palloc(piece->len + 1);
	memcpy(*data, piece->data, piece->len);
	(*data)[piece->len] = '\0';
	dlist_delete(&piece->node);
	free(piece);
	return true;
}

/* There are results: goya_http_drive gets them. */
static void
bell_rang(int fd, uint32 events, void *arg)
{
	uint64		count;

	(void) !read(fd, &count, sizeof(count));
}

/* ---------- creation and end ---------- */

static void
stop_thread(GoyaHttp *h)
{
	if (running != h)
		return;
	running = NULL;
	pthread_mutex_lock(&h->mutex);
	h->stop = true;
	pthread_mutex_unlock(&h->mutex);
	goya_http_ring(h->loop_bell);
	pthread_join(h->thread, NULL);
}

static void
stop_at_exit(int code, Datum arg)
{
	if (running != NULL)
		stop_thread(running);
}

static void
free_list(dlist_head *list)
{
	while (!dlist_is_empty(list))
		goya_http_free_transfer(dlist_container(GoyaHttpTransfer, node, dlist_pop_head_node(list)));
}

static void
free_pieces(dlist_head *list)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, list)
		free(dlist_container(GoyaHttpPiece, node, iter.cur));
	dlist_init(list);
}

/* Reset callback of the context.  The wait may be gone already. */
static void
close_http(void *arg)
{
	GoyaHttp   *h = (GoyaHttp *) arg;

	stop_thread(h);
	free_list(&h->inbox);
	free_list(&h->outbox);
	free_list(&h->results);
	free_pieces(&h->received);
	free_pieces(&h->piece_box);
	free_pieces(&h->pieces);
	free(h->cancels);
	if (h->loop_bell >= 0)
		close(h->loop_bell);
	if (h->main_bell >= 0)
		close(h->main_bell);
	while (h->external_fds > 0)
	{
		ReleaseExternalFD();
		h->external_fds--;
	}
}

/* How many sockets we may have; see the header of this file. */
static void
set_socket_limit(GoyaHttp *h)
{
	rlim_t		ours = (rlim_t) max_files_per_process + SPARE_FDS;
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		limit.rlim_cur = limit.rlim_max = 0;
	if (limit.rlim_cur < ours + MAX_SOCKETS && limit.rlim_cur < limit.rlim_max)
	{
		struct rlimit raised = limit;

		raised.rlim_cur = Min(limit.rlim_max, ours + MAX_SOCKETS);
		if (setrlimit(RLIMIT_NOFILE, &raised) == 0)
			limit = raised;
	}
	if (limit.rlim_cur > ours)
		h->socket_limit = (int) Min(limit.rlim_cur - ours, MAX_SOCKETS);
	while (h->socket_limit < MIN_SOCKETS && AcquireExternalFD())
	{
		h->external_fds++;
		h->socket_limit++;
	}
	h->max_kept = Max(h->socket_limit / 3, 1);
}

/* With all signals blocked, which the thread inherits. */
static bool
start_thread(GoyaHttp *h)
{
	pthread_attr_t attr;
	sigset_t	all;
	sigset_t	saved;
	int			rc;

	if (pthread_attr_init(&attr) != 0)
		return false;
	(void) pthread_attr_setstacksize(&attr, THREAD_STACK);
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &saved);
	rc = pthread_create(&h->thread, &attr, goya_http_loop_run, h);
	pthread_sigmask(SIG_SETMASK, &saved, NULL);
	pthread_attr_destroy(&attr);
	if (rc != 0)
		return false;
	(void) pthread_setname_np(h->thread, "goya transfers");
	running = h;
	return true;
}

GoyaHttp *
goya_http_create(GoyaWait *w)
{
	static bool curl_ready = false;
	static bool at_exit = false;
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext,
											  "goya http",
											  ALLOCSET_DEFAULT_SIZES);
	GoyaHttp   *h = MemoryContextAllocZero(cxt, sizeof(GoyaHttp));

	h->cxt = cxt;
	pthread_mutex_init(&h->mutex, NULL);
	dlist_init(&h->inbox);
	dlist_init(&h->outbox);
	dlist_init(&h->results);
	dlist_init(&h->pieces);
	dlist_init(&h->piece_box);
	dlist_init(&h->received);
	h->loop_bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	h->main_bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	h->on_reset.func = close_http;
	h->on_reset.arg = h;
	MemoryContextRegisterResetCallback(cxt, &h->on_reset);

	if (!curl_ready && curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK)
		curl_ready = true;
	set_socket_limit(h);
	if (!at_exit)
		before_shmem_exit(stop_at_exit, (Datum) 0);
	at_exit = true;
	if (!curl_ready || running != NULL || h->loop_bell < 0 || h->main_bell < 0 ||
		!goya_http_loop_open(h) || !start_thread(h))
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("could not initialize libcurl and its thread")));
	goya_wait_watch(w, h->main_bell, EPOLLIN, bell_rang, h);
	return h;
}
