/*-------------------------------------------------------------------------
 *
 * http_loop.c
 *	  The thread that makes the transfers: libcurl's multi interface and epoll.
 *
 * A transfer is pending (waits for its turn to resolve a name), active (in a
 * multi handle) or done (waits to be delivered), and is in exactly one of
 * these lists.
 *
 * What was decided:
 *
 * - curl looks for a free connection by going through all of its multi
 *	 handle's: with 2,000 in flight that cost a third of all time.  So
 *	 transfers are spread over several multi handles (shards): the first with
 *	 room, so that few transfers share few connections.  Names and TLS sessions
 *	 are shared by all.
 *
 * - Debian's curl resolves names in threads of its own.  A thread per name
 *	 would be a flood, so at most MAX_RESOLVING transfers with a name are let
 *	 in until they have an address.
 *
 * What must hold: nothing here is PostgreSQL's but plain C helpers: malloc
 * only, nothing throws, nothing reads or writes what the main thread owns
 * except under the mutex (http.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include "http_internal.h"

#define MAX_RESOLVING		32
#define IDLE_RENEW_MS		60000	/* then kept connections are closed */
#define PENDING_SCAN_MS		500

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
	GoyaHttpShard *shard = (GoyaHttpShard *) arg;
	int			mask = 0;
	int			running;

	if (events & (EPOLLIN | EPOLLHUP))
		mask |= CURL_CSELECT_IN;
	if (events & EPOLLOUT)
		mask |= CURL_CSELECT_OUT;
	if (events & EPOLLERR)
		mask |= CURL_CSELECT_ERR;
	curl_multi_socket_action(shard->multi, fd, mask, &running);
}

static int
watch_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *fd_arg)
{
	GoyaHttpShard *shard = (GoyaHttpShard *) arg;

	/* Mostly the connection is used again soon; close_socket forgets it. */
	if (what == CURL_POLL_REMOVE)
		goya_pollset_park(&shard->http->pollset, fd);
	else
		goya_pollset_watch(&shard->http->pollset, fd,
						(what & CURL_POLL_IN ? EPOLLIN : 0) |
						(what & CURL_POLL_OUT ? EPOLLOUT : 0),
						socket_ready, shard);
	return 0;
}

static int
set_timer(CURLM *multi, long timeout_ms, void *arg)
{
	GoyaHttpShard *shard = (GoyaHttpShard *) arg;

	shard->timer_at = timeout_ms < 0 ? -1 : goya_http_now_ms() + timeout_ms;
	return 0;
}

/* ---------- shards ---------- */

/* Gives the shard a multi handle; false: no memory. */
static bool
open_shard(GoyaHttpShard *shard)
{
	GoyaHttp   *h = shard->http;
	CURLM	   *multi = curl_multi_init();

	if (multi == NULL)
		return false;
	curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
	curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, shard);
	curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, set_timer);
	curl_multi_setopt(multi, CURLMOPT_TIMERDATA, shard);
	curl_multi_setopt(multi, CURLMOPT_PIPELINING, (long) CURLPIPE_NOTHING);
	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long) Max(h->max_kept / h->n_shards, 1));
	shard->multi = multi;
	shard->timer_at = -1;
	return true;
}

static void
close_shard(GoyaHttpShard *shard)
{

	curl_multi_cleanup(shard->multi);
	shard->multi = NULL;
	shard->timer_at = -1;
}

/* The first with room, or else the one with the fewest; NULL: no memory. */
static GoyaHttpShard *
pick_shard(GoyaHttp *h)
{
	GoyaHttpShard *best = &h->shards[0];

	for (int i = 0; i < h->n_shards && best->in_flight >= SHARD_TRANSFERS; i++)
		if (h->shards[i].in_flight < best->in_flight)
			best = &h->shards[i];
	return best->multi != NULL || open_shard(best) ? best : NULL;
}

/*
 * curl looks at kept connections only when it gets a new transfer.  After a
 * quiet time they are of no use any more, so they go with their multi handle.
 */
static bool
wants_closing(const GoyaHttpShard *shard)
{
	return shard->multi != NULL && shard->in_flight == 0 && shard->sockets > 0;
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

	if (t->easy == NULL)
		return;
	if (t->state == TRANSFER_ACTIVE)
		curl_multi_remove_handle(t->shard->multi, t->easy);
	if (keep && h->npooled < MAX_POOLED)
	{
		curl_easy_reset(t->easy);
		h->pool[h->npooled++] = t->easy;
	}
	else
		curl_easy_cleanup(t->easy);
	t->easy = NULL;
	curl_slist_free_all(t->headers);
	t->headers = NULL;
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
	if (t->shard != NULL && --t->shard->in_flight == 0)
		t->shard->idle_since = now;
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
	CURLMcode	code = CURLM_OUT_OF_MEMORY;
	bool		ok = true;

	SET(CURLOPT_TIMEOUT_MS, (long) Max(left, 1));
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long) t->connect_timeout_ms);
	if (ok)
	{
		code = curl_multi_add_handle(t->shard->multi, t->easy);
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

/* Takes a transfer over from the main thread. */
static void
begin_transfer(GoyaHttp *h, GoyaHttpTransfer *t)
{
	const char *problem = goya_http_check_request(t);
	bool		ok = true;

	dlist_push_tail(&h->pending, &t->node);
	t->state = TRANSFER_PENDING;
	t->next_id = *id_bucket(h, t->id);
	*id_bucket(h, t->id) = t;
	t->shard = problem ? NULL : pick_shard(h);
	if (t->shard != NULL)
	{
		t->shard->in_flight++;
		ok = goya_http_prepare_handle(t);
	}
	if (problem)
		finish_transfer(h, t, GOYA_HTTP_BAD_URL, problem);
	else if (t->shard == NULL || !ok)
		finish_transfer(h, t, GOYA_HTTP_CONNECT_FAILED, "out of memory for an http request");
	else if (!t->by_name || h->resolving < MAX_RESOLVING)
		activate_transfer(h, t, goya_http_now_ms());
}

/* ---------- the loop ---------- */

static void
collect_finished(GoyaHttp *h, CURLM *multi)
{
	CURLMsg    *msg;
	int			left;

	while ((msg = curl_multi_info_read(multi, &left)) != NULL)
	{
		char	   *arg = NULL;

		if (msg->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &arg);
		end_transfer(h, (GoyaHttpTransfer *) arg, msg->data.result);
	}
}

/* Milliseconds until there is something to do, -1: not by time. */
static int
next_timeout(GoyaHttp *h)
{
	int64		now = goya_http_now_ms();
	int64		at = PG_INT64_MAX;

	if (!dlist_is_empty(&h->pending))
		at = h->resolving < MAX_RESOLVING ? now : h->pending_scan_at;
	for (int i = 0; i < h->n_shards; i++)
	{
		GoyaHttpShard *shard = &h->shards[i];

		if (shard->timer_at >= 0)
			at = Min(at, shard->timer_at);
		if (wants_closing(shard))
			at = Min(at, shard->idle_since + IDLE_RENEW_MS);
	}
	return at == PG_INT64_MAX ? -1 : (int) Min(Max(at - now, 0), 60000);
}

/* Runs due timers and collects what has finished. */
static void
drive(GoyaHttp *h)
{
	int64		now = goya_http_now_ms();

	for (int i = 0; i < h->n_shards; i++)
	{
		GoyaHttpShard *shard = &h->shards[i];
		int			running;

		if (shard->timer_at >= 0 && now >= shard->timer_at)
		{
			shard->timer_at = -1;
			curl_multi_socket_action(shard->multi, CURL_SOCKET_TIMEOUT, 0, &running);
		}
		if (shard->multi != NULL)
			collect_finished(h, shard->multi);
		if (wants_closing(shard) && now - shard->idle_since >= IDLE_RENEW_MS)
			close_shard(shard);
	}
	serve_pending(h, now);
}

/* ---------- the thread ---------- */

static void
cancel_transfer(GoyaHttp *h, uint64 id)
{
	GoyaHttpTransfer *t = find_transfer(h, id);

	if (t != NULL)
		finish_transfer(h, t, GOYA_HTTP_CANCELLED, "cancelled");
}

/* What the main thread wants; false: the end. */
static bool
take_orders(GoyaHttp *h)
{
	dlist_head	inbox = DLIST_STATIC_INIT(inbox);
	uint64	   *cancels;
	int			n_cancels;
	bool		stop;

	pthread_mutex_lock(&h->mutex);
	while (!dlist_is_empty(&h->inbox))
		dlist_push_tail(&inbox, dlist_pop_head_node(&h->inbox));
	cancels = h->cancels;
	n_cancels = h->n_cancels;
	h->cancels = NULL;
	h->n_cancels = h->max_cancels = 0;
	stop = h->stop;
	pthread_mutex_unlock(&h->mutex);

	while (!dlist_is_empty(&inbox))
		begin_transfer(h, dlist_container(GoyaHttpTransfer, node, dlist_pop_head_node(&inbox)));
	for (int i = 0; i < n_cancels; i++)
		cancel_transfer(h, cancels[i]);
	free(cancels);
	return !stop;
}

/* Hands over what is done. */
static void
deliver(GoyaHttp *h)
{
	bool		was_empty;

	if (dlist_is_empty(&h->done) && dlist_is_empty(&h->received))
		return;
	pthread_mutex_lock(&h->mutex);
	was_empty = dlist_is_empty(&h->outbox) && dlist_is_empty(&h->piece_box);
	while (!dlist_is_empty(&h->received))
		dlist_push_tail(&h->piece_box, dlist_pop_head_node(&h->received));
	while (!dlist_is_empty(&h->done))
		dlist_push_tail(&h->outbox, dlist_pop_head_node(&h->done));
	pthread_mutex_unlock(&h->mutex);
	if (was_empty)
		goya_http_ring(h->main_bell);
}

/* There are orders: read by take_orders. */
static void
bell_rang(int fd, uint32 events, void *arg)
{
	uint64		count;

	(void) !read(fd, &count, sizeof(count));
}

static void
free_list(dlist_head *list)
{
	while (!dlist_is_empty(list))
	{
		GoyaHttpTransfer *t = dlist_container(GoyaHttpTransfer, node, dlist_pop_head_node(list));

		release_handle(t->http, t, false);
		goya_http_free_transfer(t);
	}
}

static void
close_all(GoyaHttp *h)
{
	free_list(&h->pending);
	free_list(&h->active);
	free_list(&h->done);
	while (h->npooled > 0)
		curl_easy_cleanup(h->pool[--h->npooled]);
	for (int i = 0; i < h->n_shards; i++)
		if (h->shards[i].multi != NULL)
			close_shard(&h->shards[i]);
	curl_share_cleanup(h->share);
	goya_pollset_close(&h->pollset);
}

/* Names and TLS sessions of all shards.  One thread uses it, so it has no locks. */
static bool
open_share(GoyaHttp *h)
{
	h->share = curl_share_init();
	if (h->share == NULL)
		return false;
	curl_share_setopt(h->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_DNS);
	curl_share_setopt(h->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
	return true;
}

/* False: no memory or descriptor.  Called by the main thread, before there is another. */
bool
goya_http_loop_open(GoyaHttp *h)
{
	dlist_init(&h->pending);
	dlist_init(&h->active);
	dlist_init(&h->done);
	h->n_shards = Min(Max(h->max_kept / SHARD_TRANSFERS, 1), MAX_SHARDS);
	for (int i = 0; i < h->n_shards; i++)
	{
		h->shards[i].http = h;
		h->shards[i].timer_at = -1;
	}
	if (!goya_pollset_open(&h->pollset))
		return false;
	if (!open_share(h))
	{
		goya_pollset_close(&h->pollset);
		return false;
	}
	goya_pollset_watch(&h->pollset, h->loop_bell, EPOLLIN, bell_rang, h);
	return true;
}

void *
goya_http_loop_run(void *arg)
{
	GoyaHttp   *h = (GoyaHttp *) arg;

	do
	{
		deliver(h);
		(void) goya_pollset_dispatch(&h->pollset, next_timeout(h));
		drive(h);
	} while (take_orders(h));
	close_all(h);
	return NULL;
}
