/*-------------------------------------------------------------------------
 *
 * pollset.c
 *	  Many descriptors of one thread, with epoll.
 *
 * What must hold:
 *
 * - Watch and forget run inside libcurl, and in a thread that is not
 *	 PostgreSQL's: malloc only, nothing throws.
 *
 * - An event carries the descriptor's number and the generation of its
 *	 registration.  One callback may close a descriptor and another get the
 *	 same number within one round; an event of an older generation is dropped.
 *
 * - A closed descriptor leaves the epoll set by itself, so the table may hold
 *	 entries epoll does not know.  Watch and forget both cope with that.
 *
 * - libcurl stops and starts watching a kept connection with every request.
 *	 So one that was adopted may be parked: epoll still has it, and only when
 *	 it gets ready while nobody watches (the peer closed it) epoll is told.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <errno.h>
#include <unistd.h>

#include "pollset.h"

/* Rounds of events per call: a flood of ready sockets must not keep the
 * caller from its timers. */
#define ROUNDS_PER_CALL 4

bool
goya_pollset_open(GoyaPollset *p)
{
	p->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	return p->epoll_fd >= 0;
}

void
goya_pollset_close(GoyaPollset *p)
{
	if (p->epoll_fd >= 0)
		close(p->epoll_fd);
	p->epoll_fd = -1;
	free(p->fds);
	p->fds = NULL;
	p->nfds = 0;
}

/* Makes room for fd in the table; false when out of memory. */
static bool
grow_table(GoyaPollset *p, int fd)
{
	int			nfds = Max(p->nfds, 64);
	GoyaPollsetFd *fds;

	if (fd < p->nfds)
		return true;
	while (nfds <= fd)
		nfds *= 2;
	fds = realloc(p->fds, nfds * sizeof(GoyaPollsetFd));
	if (fds == NULL)
		return false;
	memset(fds + p->nfds, 0, (nfds - p->nfds) * sizeof(GoyaPollsetFd));
	p->fds = fds;
	p->nfds = nfds;
	return true;
}

void
goya_pollset_watch(GoyaPollset *p, int fd, uint32 epoll_events,
				GoyaPollsetReady ready, void *arg)
{
	struct epoll_event event = {0};
	GoyaPollsetFd *entry;
	bool		known;
	int			rc;

	if (!grow_table(p, fd))
	{
		p->failed_errno = ENOMEM;
		return;
	}
	entry = &p->fds[fd];
	known = entry->ready != NULL || entry->parked;
	if (entry->parked && entry->events == epoll_events && entry->arg == arg)
	{
		entry->parked = false;
		entry->ready = ready;
		return;
	}
	entry->parked = false;
	if (entry->ready == NULL || entry->arg != arg)
		entry->generation = ++p->generation;
	event.events = epoll_events;
	event.data.u64 = ((uint64) entry->generation << 32) | (uint32) fd;

	/* The table may be behind or ahead of epoll: see the header. */
	rc = epoll_ctl(p->epoll_fd, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD,
				   fd, &event);
	if (rc < 0 && errno == ENOENT)
		rc = epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, fd, &event);
	else if (rc < 0 && errno == EEXIST)
		rc = epoll_ctl(p->epoll_fd, EPOLL_CTL_MOD, fd, &event);
	if (rc < 0)
	{
		p->failed_errno = errno;
		entry->ready = NULL;
		return;
	}
	entry->ready = ready;
	entry->arg = arg;
	entry->events = epoll_events;
}

void
goya_pollset_forget(GoyaPollset *p, int fd)
{
	struct epoll_event event = {0}; /* kernels before 2.6.9 want one */

	if (fd < 0 || fd >= p->nfds)
		return;
	p->fds[fd].adopted = false;
	if (p->fds[fd].ready == NULL && !p->fds[fd].parked)
		return;
	p->fds[fd].ready = NULL;
	p->fds[fd].arg = NULL;
	p->fds[fd].parked = false;
	/* Fails if fd is closed: then epoll has forgotten it already. */
	(void) epoll_ctl(p->epoll_fd, EPOLL_CTL_DEL, fd, &event);
}

void
goya_pollset_adopt(GoyaPollset *p, int fd)
{
	if (grow_table(p, fd))
		p->fds[fd].adopted = true;
}

void
goya_pollset_park(GoyaPollset *p, int fd)
{
	GoyaPollsetFd *entry;

	if (fd < 0 || fd >= p->nfds || !p->fds[fd].adopted)
	{
		goya_pollset_forget(p, fd);
		return;
	}
	entry = &p->fds[fd];
	entry->parked = entry->parked || entry->ready != NULL;
	entry->ready = NULL;
}

static void
dispatch_event(GoyaPollset *p, const struct epoll_event *event)
{
	int			fd = (int) (event->data.u64 & 0xffffffff);
	uint32		generation = (uint32) (event->data.u64 >> 32);

	if (fd >= p->nfds || p->fds[fd].generation != generation)
		return;
	if (p->fds[fd].parked)
	{
		struct epoll_event none = {0};

		(void) epoll_ctl(p->epoll_fd, EPOLL_CTL_DEL, fd, &none);
		p->fds[fd].parked = false;
	}
	if (p->fds[fd].ready == NULL)
		return;
	p->fds[fd].ready(fd, event->events, p->fds[fd].arg);
}

bool
goya_pollset_dispatch(GoyaPollset *p, int timeout_ms)
{
	for (int round = 0; round < ROUNDS_PER_CALL; round++)
	{
		int			n = epoll_wait(p->epoll_fd, p->events, GOYA_POLLSET_EVENTS, round == 0 ? timeout_ms : 0);

		if (n < 0 && errno != EINTR)
			return false;
		for (int i = 0; i < n; i++)
			dispatch_event(p, &p->events[i]);
		if (n < GOYA_POLLSET_EVENTS)
			break;
	}
	return true;
}
