/*-------------------------------------------------------------------------
 *
 * wait.c
 *	  The one place where a goya process sleeps.
 *
 * A WaitEventSet is rebuilt or modified in O(n), and AddWaitEventToSet may
 * throw; neither suits thousands of sockets that libcurl opens and closes
 * from its callbacks.  So the WaitEventSet holds three things and is never
 * changed: MyLatch, the postmaster's death and an epoll descriptor.  All
 * other descriptors live in that epoll set.
 *
 * What must hold:
 *
 * - goya_wait_watch and goya_wait_forget run inside libcurl, so they use
 *	 malloc and keep a failure in w->failed_errno instead of throwing.
 *
 * - An event carries the descriptor's number and the generation of its
 *	 registration.  One callback may close a descriptor and another get the
 *	 same number within one round; an event of an older generation is dropped.
 *
 * - A closed descriptor leaves the epoll set by itself, so the table may hold
 *	 entries epoll does not know.  Watch and forget both cope with that.
 *
 * - The epoll descriptor and the WaitEventSet belong to a memory context
 *	 whose reset callback closes them once.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/latch.h"
#if PG_VERSION_NUM >= 180000
#include "storage/waiteventset.h"
#endif
#include "utils/memutils.h"

#include "wait.h"

/* Events taken from epoll at a time, and rounds of them per call: a flood of
 * ready sockets must not keep the engine from its timers. */
#define EVENTS_PER_ROUND 256
#define ROUNDS_PER_CALL 4

/* One descriptor; the table is indexed by its number. */
typedef struct WatchedFd
{
	GoyaWaitReady ready;		/* NULL: not watched */
	void	   *arg;
	uint32		events;			/* what epoll was asked for */
	uint32		generation;		/* changes with every new registration */
} WatchedFd;

struct GoyaWait
{
	MemoryContext cxt;			/* holds this struct; its reset closes */
	MemoryContextCallback on_reset;
	WaitEventSet *set;
	int			epoll_fd;		/* -1: closed */
	int			failed_errno;	/* kept for the next goya_wait_once */
	uint32		generation;
	WatchedFd  *fds;			/* malloc'd */
	int			nfds;
	struct epoll_event events[EVENTS_PER_ROUND];
};

static void
close_wait(void *arg)
{
	GoyaWait   *w = (GoyaWait *) arg;

	if (w->set)
	{
		FreeWaitEventSet(w->set);
		w->set = NULL;
	}
	if (w->epoll_fd >= 0)
	{
		close(w->epoll_fd);
		ReleaseExternalFD();
		w->epoll_fd = -1;
	}
	free(w->fds);
	w->fds = NULL;
	w->nfds = 0;
}

/* The WaitEventSet frees itself as memory in 15 and 16, as a resource since. */
static WaitEventSet *
create_event_set(int nevents)
{
#if PG_VERSION_NUM >= 170000
	return CreateWaitEventSet(NULL, nevents);
#else
	/*
	 * Not in our own context: the set must still be there when our reset
	 * callback frees it.
	 */
	return CreateWaitEventSet(TopMemoryContext, nevents);
#endif
}

GoyaWait *
goya_wait_create(void)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext,
											  "goya wait",
											  ALLOCSET_SMALL_SIZES);
	GoyaWait   *w = MemoryContextAllocZero(cxt, sizeof(GoyaWait));

	w->cxt = cxt;
	w->epoll_fd = -1;
	w->on_reset.func = close_wait;
	w->on_reset.arg = w;
	MemoryContextRegisterResetCallback(cxt, &w->on_reset);

	if (!AcquireExternalFD())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("no file descriptor left to wait with"),
				 errhint("Raise max_files_per_process.")));
	w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (w->epoll_fd < 0)
	{
		int			save_errno = errno;

		ReleaseExternalFD();
		errno = save_errno;
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("could not create an epoll descriptor: %m")));
	}

	w->set = create_event_set(3);
	AddWaitEventToSet(w->set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(w->set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(w->set, WL_SOCKET_READABLE, w->epoll_fd, NULL, NULL);
	return w;
}

/* Makes room for fd in the table; false when out of memory. */
static bool
grow_table(GoyaWait *w, int fd)
{
	int			nfds = Max(w->nfds, 64);
	WatchedFd  *fds;

	if (fd < w->nfds)
		return true;
	while (nfds <= fd)
		nfds *= 2;
	fds = realloc(w->fds, nfds * sizeof(WatchedFd));
	if (fds == NULL)
		return false;
	memset(fds + w->nfds, 0, (nfds - w->nfds) * sizeof(WatchedFd));
	w->fds = fds;
	w->nfds = nfds;
	return true;
}

void
goya_wait_watch(GoyaWait *w, int fd, uint32 epoll_events,
				GoyaWaitReady ready, void *arg)
{
	struct epoll_event event = {0};
	WatchedFd  *entry;
	int			rc;

	Assert(fd >= 0 && ready != NULL);
	if (!grow_table(w, fd))
	{
		w->failed_errno = ENOMEM;
		return;
	}
	entry = &w->fds[fd];
	if (entry->ready == NULL || entry->arg != arg)
		entry->generation = ++w->generation;
	event.events = epoll_events;
	event.data.u64 = ((uint64) entry->generation << 32) | (uint32) fd;

	/* The table may be behind or ahead of epoll: see the header. */
	rc = epoll_ctl(w->epoll_fd, entry->ready ? EPOLL_CTL_MOD : EPOLL_CTL_ADD,
				   fd, &event);
	if (rc < 0 && errno == ENOENT)
		rc = epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, fd, &event);
	else if (rc < 0 && errno == EEXIST)
		rc = epoll_ctl(w->epoll_fd, EPOLL_CTL_MOD, fd, &event);
	if (rc < 0)
	{
		w->failed_errno = errno;
		entry->ready = NULL;
		return;
	}
	entry->ready = ready;
	entry->arg = arg;
	entry->events = epoll_events;
}

void
goya_wait_forget(GoyaWait *w, int fd)
{
	struct epoll_event event = {0}; /* kernels before 2.6.9 want one */

	if (fd < 0 || fd >= w->nfds || w->fds[fd].ready == NULL)
		return;
	w->fds[fd].ready = NULL;
	w->fds[fd].arg = NULL;
	/* Fails if fd is closed: then epoll has forgotten it already. */
	(void) epoll_ctl(w->epoll_fd, EPOLL_CTL_DEL, fd, &event);
}

static void
dispatch_event(GoyaWait *w, const struct epoll_event *event)
{
	int			fd = (int) (event->data.u64 & 0xffffffff);
	uint32		generation = (uint32) (event->data.u64 >> 32);

	if (fd >= w->nfds || w->fds[fd].ready == NULL ||
		w->fds[fd].generation != generation)
		return;
	w->fds[fd].ready(fd, event->events, w->fds[fd].arg);
}

static void
dispatch_ready_fds(GoyaWait *w)
{
	for (int round = 0; round < ROUNDS_PER_CALL; round++)
	{
		int			n = epoll_wait(w->epoll_fd, w->events, EVENTS_PER_ROUND, 0);

		if (n < 0 && errno != EINTR)
			ereport(ERROR,
					(errcode(ERRCODE_SYSTEM_ERROR),
					 errmsg("could not wait for sockets: %m")));
		for (int i = 0; i < n; i++)
			dispatch_event(w, &w->events[i]);
		if (n < EVENTS_PER_ROUND)
			break;
	}
}

bool
goya_wait_once(GoyaWait *w, long timeout_ms, uint32 wait_event_info)
{
	WaitEvent	events[3];
	bool		latch_set = false;
	bool		fds_ready = false;
	int			n;

	if (w->failed_errno != 0)
	{
		errno = w->failed_errno;
		w->failed_errno = 0;
		ereport(ERROR,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("could not watch a socket: %m")));
	}

	n = WaitEventSetWait(w->set, timeout_ms, events, lengthof(events),
						 wait_event_info);
	for (int i = 0; i < n; i++)
	{
		if (events[i].events & WL_LATCH_SET)
			latch_set = true;
		else if (events[i].events & WL_SOCKET_READABLE)
			fds_ready = true;
	}
	if (latch_set)
		ResetLatch(MyLatch);

	/*
	 * WaitEventSetWait may report the latch alone although sockets are ready
	 * too; a busy latch must not starve them.
	 */
	CHECK_FOR_INTERRUPTS();
	if (fds_ready || latch_set)
		dispatch_ready_fds(w);
	return latch_set;
}

void
goya_wait_destroy(GoyaWait *w)
{
	MemoryContextDelete(w->cxt);
}
