/*-------------------------------------------------------------------------
 *
 * http.c
 *	  HTTP transfers of the engine, with libcurl's multi interface.
 *
 * The other parts are http_transfer.c (options and callbacks of one transfer),
 * http_result.c (how it ended), http_text.c (methods and headers) and
 * http_address.c (whom we may call).
 *
 * A transfer is pending (waits for its turn to resolve a name), active (in
 * the multi handle) or done (waits for goya_http_take), and is in exactly one
 * of these lists.
 *
 *		start -> [pending ->] active -> done -> taken
 *
 * What was decided:
 *
 * - curl never throws and nothing that can throw runs inside it: callbacks
 *	 use malloc and set flags in the transfer; what happened is worked out when
 *	 curl has returned.
 *
 * - All signals are blocked while curl runs.  Debian's curl resolves names in
 *	 threads; they inherit the mask, so PostgreSQL's handlers run in the main
 *	 thread only.  A thread per name would be a flood, so at most
 *	 MAX_RESOLVING transfers with a name are let in until they have an address.
 *
 * - HTTP/1.1 only, no redirects, no proxy, no cookies, no .netrc, TLS 1.2 or
 *	 later, verified.  A redirect is a result: following one needs the checks a
 *	 first request gets.
 *
 * - The address policy is asked for each address before a socket exists, and
 *	 again before each request goes out on a kept connection.
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
 * frees everything else, which is malloc'd.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>

#include "storage/fd.h"
#include "utils/memutils.h"

#include "http_internal.h"

#define MAX_SOCKETS			6144	/* open at once, kept ones included */
#define MIN_SOCKETS			128	/* taken from PostgreSQL's budget if need be */
#define SPARE_FDS			160 /* resolver threads, libraries */
#define MAX_RESOLVING		32
#define IDLE_RENEW_MS		60000	/* then kept connections are closed */
#define PENDING_SCAN_MS		500

/* ---------- small things ---------- */

static void
enter_curl(sigset_t *saved)
{
	sigset_t	all;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, saved);
}

static void
leave_curl(const sigset_t *saved)
{
	pthread_sigmask(SIG_SETMASK, saved, NULL);
}

static GoyaHttpTransfer **
id_bucket(GoyaHttp *h, uint64 id)
{
	return &h->by_id[id % ID_BUCKETS];
}

static GoyaHttpTransfer *
find_transfer(GoyaHttp *h, uint64 id)
{
	GoyaHttpTransfer *t = *id_bucket(h, id);

	while (t && t->id != id)
		t = t->next_id;
	return t;
}

static void
unlink_id(GoyaHttp *h, GoyaHttpTransfer *t)
{
	GoyaHttpTransfer **link = id_bucket(h, t->id);

	while (*link != t)
		link = &(*link)->next_id;
	*link = t->next_id;
}

/* ---------- callbacks: malloc and flags only ---------- */

static void
socket_ready(int fd, uint32 events, void *arg)
{
	GoyaHttp   *h = (GoyaHttp *) arg;
	sigset_t	saved;
	int			mask = 0;
	int			running;

	if (events & (EPOLLIN | EPOLLHUP))
		mask |= CURL_CSELECT_IN;
	if (events & EPOLLOUT)
		mask |= CURL_CSELECT_OUT;
	if (events & EPOLLERR)
		mask |= CURL_CSELECT_ERR;
	enter_curl(&saved);
	curl_multi_socket_action(h->multi, fd, mask, &running);
	leave_curl(&saved);
}

static int
watch_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *fd_arg)
{
	GoyaHttp   *h = (GoyaHttp *) arg;

	if (what == CURL_POLL_REMOVE)
		goya_wait_forget(h->wait, fd);
	else
		goya_wait_watch(h->wait, fd,
						(what & CURL_POLL_IN ? EPOLLIN : 0) |
						(what & CURL_POLL_OUT ? EPOLLOUT : 0),
						socket_ready, h);
	return 0;
}

static int
set_timer(CURLM *multi, long timeout_ms, void *arg)
{
	GoyaHttp   *h = (GoyaHttp *) arg;

	h->timer_at = timeout_ms < 0 ? -1 : goya_http_now_ms() + timeout_ms;
	return 0;
}

/* ---------- life of a transfer ---------- */

/*
 * Takes the handle off the transfer.  It is kept for the next one only after a
 * whole transfer: after a failed one curl may keep its receive buffer, and
 * curl_easy_reset would forget how large that is.
 */
static void
release_handle(GoyaHttp *h, GoyaHttpTransfer *t, bool keep)
{
	sigset_t	saved;

	if (t->easy == NULL)
		return;
	enter_curl(&saved);
	if (t->state == TRANSFER_ACTIVE)
		curl_multi_remove_handle(h->multi, t->easy);
	if (keep && h->npooled < MAX_POOLED)
	{
		curl_easy_reset(t->easy);
		h->pool[h->npooled++] = t->easy;
	}
	else
		curl_easy_cleanup(t->easy);
	leave_curl(&saved);
	t->easy = NULL;
	curl_slist_free_all(t->headers);
	t->headers = NULL;
	free(t->body);
	t->body = NULL;
}

/* Pending or active becomes done.  The one place where that happens. */
static void
finish_transfer(GoyaHttp *h, GoyaHttpTransfer *t, GoyaHttpOutcome outcome, const char *error)
{
	int64		now = goya_http_now_ms();

	t->outcome = outcome;
	t->seconds = (now - t->started_at) / 1000.0;
	if (error)
		strlcpy(t->error, error, sizeof(t->error));
	release_handle(h, t, outcome == GOYA_HTTP_DONE);
	goya_http_stop_resolving(t);
	if (outcome != GOYA_HTTP_DONE)
	{
		free(t->content.data);
		memset(&t->content, 0, sizeof(t->content));
	}
	unlink_id(h, t);
	dlist_delete(&t->node);
	dlist_push_tail(&h->done, &t->node);
	t->state = TRANSFER_DONE;
	if (--h->in_flight == 0)
		h->idle_since = now;
}

static void
end_transfer(GoyaHttp *h, GoyaHttpTransfer *t, CURLcode code)
{
	GoyaHttpOutcome outcome = goya_http_classify_end(t, code);
	char		error[CURL_ERROR_SIZE];

	if (outcome == GOYA_HTTP_DONE)
		finish_transfer(h, t, outcome, NULL);
	else
	{
		goya_http_describe_end(t, outcome, code, error, sizeof(error));
		finish_transfer(h, t, outcome, error);
	}
}

/* Gives a transfer to curl. */
static void
activate_transfer(GoyaHttp *h, GoyaHttpTransfer *t, int64 now)
{
	int64		left = t->timeout_ms - (now - t->started_at);
	sigset_t	saved;
	CURLMcode	code = CURLM_OUT_OF_MEMORY;
	bool		ok = true;

	SET(CURLOPT_TIMEOUT_MS, (long) Max(left, 1));
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long) t->connect_timeout_ms);
	if (ok)
	{
		enter_curl(&saved);
		code = curl_multi_add_handle(h->multi, t->easy);
		leave_curl(&saved);
	}
	if (code != CURLM_OK)
	{
		finish_transfer(h, t, GOYA_HTTP_CONNECT_FAILED, curl_multi_strerror(code));
		return;
	}
	dlist_delete(&t->node);
	dlist_push_tail(&h->active, &t->node);
	t->state = TRANSFER_ACTIVE;
	if (t->by_name)
	{
		t->resolving = true;
		h->resolving++;
	}
}

static void
expire_pending(GoyaHttp *h, GoyaHttpTransfer *t)
{
	finish_transfer(h, t, GOYA_HTTP_TIMEOUT,
					"timed out waiting to resolve the host's name");
}

/* Lets pending transfers in as resolvers get free, and ends late ones. */
static void
serve_pending(GoyaHttp *h, int64 now)
{
	dlist_mutable_iter iter;

	while (!dlist_is_empty(&h->pending) && h->resolving < MAX_RESOLVING)
	{
		GoyaHttpTransfer *t = dlist_head_element(GoyaHttpTransfer, node, &h->pending);

		if (now - t->started_at >= t->timeout_ms)
			expire_pending(h, t);
		else
			activate_transfer(h, t, now);
	}

	if (now < h->pending_scan_at)
		return;
	h->pending_scan_at = now + PENDING_SCAN_MS;
	dlist_foreach_modify(iter, &h->pending)
	{
		GoyaHttpTransfer *t = dlist_container(GoyaHttpTransfer, node, iter.cur);

		if (now - t->started_at >= t->timeout_ms)
			expire_pending(h, t);
	}
}

static GoyaHttpTransfer *
make_transfer(GoyaHttp *h, const GoyaHttpRequest *req, const char *method)
{
	GoyaHttpTransfer *t = calloc(1, sizeof(GoyaHttpTransfer));

	if (t == NULL)
		return NULL;
	t->http = h;
	t->id = req->id;
	t->started_at = goya_http_now_ms();
	t->repeatable = goya_http_method_repeatable(method);
	t->connect_timeout_ms = req->connect_timeout_ms > 0 ? req->connect_timeout_ms : 10000;
	t->timeout_ms = req->timeout_ms > 0 ? req->timeout_ms : 60000;
	t->max_response = req->max_response > 0 ? req->max_response : 16 * 1024 * 1024;
	t->max_response = Min(t->max_response, MaxAllocSize - 1);
	return t;
}

void
goya_http_start(GoyaHttp *h, const GoyaHttpRequest *req)
{
	const char *method = req->method ? req->method : req->body ? "POST" : "GET";
	const char *problem;
	GoyaHttpTransfer *t;

	if (find_transfer(h, req->id))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("transfer " UINT64_FORMAT " is already in flight", req->id)));
	t = make_transfer(h, req, method);
	problem = t ? goya_http_check_request(t, req, method) : NULL;
	if (t == NULL || (problem == NULL && !goya_http_prepare_handle(t, req, method)))
	{
		if (t)
		{
			release_handle(h, t, false);
			goya_http_free_transfer(t);
		}
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory for an http request")));
	}
	t->next_id = *id_bucket(h, t->id);
	*id_bucket(h, t->id) = t;
	dlist_push_tail(&h->pending, &t->node);
	h->in_flight++;
	if (problem)
		finish_transfer(h, t, GOYA_HTTP_BAD_URL, problem);
	else if (!t->by_name || h->resolving < MAX_RESOLVING)
		activate_transfer(h, t, t->started_at);
}

bool
goya_http_cancel(GoyaHttp *h, uint64 id)
{
	GoyaHttpTransfer *t = find_transfer(h, id);

	if (t == NULL)
		return false;
	finish_transfer(h, t, GOYA_HTTP_CANCELLED, "cancelled");
	return true;
}

int
goya_http_in_flight(GoyaHttp *h)
{
	return h->in_flight;
}

int
goya_http_capacity(GoyaHttp *h)
{
	return h->socket_limit - h->max_kept;
}

/* ---------- the loop's part ---------- */

static void
collect_finished(GoyaHttp *h)
{
	CURLMsg    *msg;
	int			left;

	while ((msg = curl_multi_info_read(h->multi, &left)) != NULL)
	{
		char	   *arg = NULL;

		if (msg->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &arg);
		end_transfer(h, (GoyaHttpTransfer *) arg, msg->data.result);
	}
}

/* A multi handle that reports to h; NULL: no memory. */
static CURLM *
make_multi(GoyaHttp *h)
{
	CURLM	   *multi = curl_multi_init();

	if (multi == NULL)
		return NULL;
	curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
	curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, h);
	curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, set_timer);
	curl_multi_setopt(multi, CURLMOPT_TIMERDATA, h);
	curl_multi_setopt(multi, CURLMOPT_PIPELINING, (long) CURLPIPE_NOTHING);
	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long) h->max_kept);
	return multi;
}

/*
 * curl looks at kept connections only when it gets a new transfer.  After a
 * quiet time they are of no use any more, so start with a fresh multi handle.
 */
static void
renew_multi(GoyaHttp *h)
{
	CURLM	   *fresh = make_multi(h);
	sigset_t	saved;

	if (fresh == NULL)
		return;
	enter_curl(&saved);
	curl_multi_cleanup(h->multi);
	leave_curl(&saved);
	h->multi = fresh;
	h->timer_at = -1;
}

static bool
wants_renewal(GoyaHttp *h)
{
	return h->in_flight == 0 && h->sockets > 0;
}

long
goya_http_next_timeout(GoyaHttp *h)
{
	int64		now = goya_http_now_ms();
	int64		at = h->timer_at;

	if (!dlist_is_empty(&h->done))
		return 0;
	if (!dlist_is_empty(&h->pending))
	{
		int64		pending_at = h->resolving < MAX_RESOLVING ? now : h->pending_scan_at;

		at = at < 0 ? pending_at : Min(at, pending_at);
	}
	if (wants_renewal(h))
		at = at < 0 ? h->idle_since + IDLE_RENEW_MS : Min(at, h->idle_since + IDLE_RENEW_MS);
	return at < 0 ? -1 : (long) Max(at - now, 0);
}

void
goya_http_drive(GoyaHttp *h)
{
	int64		now = goya_http_now_ms();
	sigset_t	saved;
	int			running;

	if (h->timer_at >= 0 && now >= h->timer_at)
	{
		h->timer_at = -1;
		enter_curl(&saved);
		curl_multi_socket_action(h->multi, CURL_SOCKET_TIMEOUT, 0, &running);
		leave_curl(&saved);
	}
	collect_finished(h);
	serve_pending(h, now);
	if (wants_renewal(h) && now - h->idle_since >= IDLE_RENEW_MS)
		renew_multi(h);
}

/* ---------- creation and end ---------- */

static void
free_list(GoyaHttp *h, dlist_head *list)
{
	while (!dlist_is_empty(list))
	{
		GoyaHttpTransfer *t = dlist_container(GoyaHttpTransfer, node,
											  dlist_pop_head_node(list));

		release_handle(h, t, false);
		goya_http_free_transfer(t);
	}
}

/* Reset callback of the context.  The wait may be gone already. */
static void
close_http(void *arg)
{
	GoyaHttp   *h = (GoyaHttp *) arg;
	sigset_t	saved;

	if (h->multi)
	{
		curl_multi_setopt(h->multi, CURLMOPT_SOCKETFUNCTION, NULL);
		curl_multi_setopt(h->multi, CURLMOPT_TIMERFUNCTION, NULL);
	}
	free_list(h, &h->pending);
	free_list(h, &h->active);
	free_list(h, &h->done);
	enter_curl(&saved);
	while (h->npooled > 0)
		curl_easy_cleanup(h->pool[--h->npooled]);
	if (h->multi)
		curl_multi_cleanup(h->multi);
	h->multi = NULL;
	leave_curl(&saved);
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

GoyaHttp *
goya_http_create(GoyaWait *w)
{
	static bool curl_ready = false;
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext,
											  "goya http",
											  ALLOCSET_DEFAULT_SIZES);
	GoyaHttp   *h = MemoryContextAllocZero(cxt, sizeof(GoyaHttp));

	h->cxt = cxt;
	h->wait = w;
	h->timer_at = -1;
	dlist_init(&h->pending);
	dlist_init(&h->active);
	dlist_init(&h->done);
	h->on_reset.func = close_http;
	h->on_reset.arg = h;
	MemoryContextRegisterResetCallback(cxt, &h->on_reset);

	if (!curl_ready && curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK)
		curl_ready = true;
	set_socket_limit(h);
	h->multi = curl_ready ? make_multi(h) : NULL;
	if (h->multi == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("could not initialize libcurl")));
	return h;
}

void
goya_http_destroy(GoyaHttp *h)
{
	MemoryContextDelete(h->cxt);
}
