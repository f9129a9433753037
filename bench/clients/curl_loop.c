/*-------------------------------------------------------------------------
 * curl_loop.c
 *		What W5 is compared with: a bare loop of libcurl's multi interface that makes CALLS requests, up to CONCURRENCY in flight.
 *
 *		curl_loop URL CALLS CONCURRENCY
 *
 * Decided: the multi_socket interface with epoll, the fastest way libcurl has; handles and connections are used again; answers are
 * counted and thrown away.  Nothing is recorded anywhere: this is the most that any client built on libcurl can do here.
 * Must hold: prints one line, "SECONDS FAILED BYTES", and exits 0 however many calls failed.
 *-------------------------------------------------------------------------
 */
#include <curl/curl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

static int	events;				/* the epoll descriptor */
static double due = -1;			/* when libcurl's one timer fires; -1: it has none */
static long started,
			finished,
			failed,
			calls;
static uint64_t bytes;

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static size_t
count_body(char *data, size_t size, size_t n, void *unused)
{
	(void) data;
	(void) unused;
	bytes += size * n;
	return size * n;
}

static int
on_socket(CURL *easy, curl_socket_t s, int what, void *unused, void *known)
{
	static int	yes;
	CURLM	   *multi = unused;
	struct epoll_event e = {.events = (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0),.data.fd = s};

	(void) easy;
	if (what == CURL_POLL_REMOVE)
		epoll_ctl(events, EPOLL_CTL_DEL, s, NULL);
	else if (epoll_ctl(events, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, s, &e) != 0)
		epoll_ctl(events, known ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, s, &e);
	curl_multi_assign(multi, s, what == CURL_POLL_REMOVE ? NULL : &yes);
	return 0;
}

static int
on_timer(CURLM *multi, long ms, void *unused)
{
	(void) multi;
	(void) unused;
	due = ms < 0 ? -1 : now() + ms / 1e3;
	return 0;
}

/* Takes what has ended off the loop; its handle starts the next call. */
static void
collect(CURLM *multi)
{
	CURLMsg    *message;
	int			left;

	while ((message = curl_multi_info_read(multi, &left)) != NULL)
	{
		CURL	   *easy = message->easy_handle;
		long		status = 0;

		curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
		failed += message->data.result != CURLE_OK || status != 200;
		finished++;
		curl_multi_remove_handle(multi, easy);
		if (started < calls)
		{
			started++;
			curl_multi_add_handle(multi, easy);
		}
		else
			curl_easy_cleanup(easy);
	}
}

static void
run(CURLM *multi)
{
	struct epoll_event ready[512];
	int			running;

	while (finished < calls)
	{
		double		left = due < 0 ? 1 : due - now();
		int			n = epoll_wait(events, ready, 512, left <= 0 ? 0 : left > 1 ? 1000 : (int) (left * 1e3) + 1);

		if (due >= 0 && due <= now())
		{
			due = -1;			/* it fires once; libcurl sets the next one */
			curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
			collect(multi);		/* a call may end by its timer */
		}
		for (int i = 0; i < n; i++)
			curl_multi_socket_action(multi, ready[i].data.fd, (ready[i].events & EPOLLIN ? CURL_CSELECT_IN : 0) |
									 (ready[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
									 (ready[i].events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0), &running);
		collect(multi);
	}
}

int
main(int argc, char **argv)
{
	CURLM	   *multi;
	double		began;
	long		concurrency;

	if (argc != 4)
		return fprintf(stderr, "usage: curl_loop URL CALLS CONCURRENCY\n"), 2;
	calls = atol(argv[2]);
	concurrency = atol(argv[3]);
	curl_global_init(CURL_GLOBAL_DEFAULT);
	multi = curl_multi_init();
	events = epoll_create1(0);
	curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, multi);
	curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timer);
	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, concurrency);
	began = now();
	for (; started < calls && started < concurrency; started++)
	{
		CURL	   *easy = curl_easy_init();

		curl_easy_setopt(easy, CURLOPT_URL, argv[1]);
		curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
		curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, count_body);
		curl_multi_add_handle(multi, easy);
	}
	run(multi);
	printf("%.6f %ld %llu\n", now() - began, failed, (unsigned long long) bytes);
	return 0;
}
