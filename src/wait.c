/*-------------------------------------------------------------------------
 *
 * wait.c
 *	  The one place where an engine sleeps.
 *
 * A WaitEventSet is rebuilt or modified in O(n), and AddWaitEventToSet may
 * throw.  So the WaitEventSet holds three things and is never changed: MyLatch,
 * the postmaster's death and the epoll descriptor of a pollset (pollset.c),
 * where all other descriptors live.
 *
 * What must hold: the epoll descriptor and the WaitEventSet belong to a memory
 * context whose reset callback closes them once.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <errno.h>

#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/latch.h"
#if PG_VERSION_NUM >= 180000
#include "storage/waiteventset.h"
#endif
#include "utils/memutils.h"

#include "pollset.h"
#include "wait.h"

struct GoyaWait
{
	MemoryContext cxt;			/* holds this struct; its reset closes */
	MemoryContextCallback on_reset;
	WaitEventSet *set;
	bool		open;
	GoyaPollset pollset;
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
	if (w->open)
	{
		goya_pollset_close(&w->pollset);
		ReleaseExternalFD();
		w->open = false;
	}
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
	w->on_reset.func = close_wait;
	w->on_reset.arg = w;
	MemoryContextRegisterResetCallback(cxt, &w->on_reset);

	if (!AcquireExternalFD())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("no file descriptor left to wait with"),
				 errhint("Raise max_files_per_process.")));
	if (!goya_pollset_open(&w->pollset))
	{
		int			save_errno = errno;

		ReleaseExternalFD();
		errno = save_errno;
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("could not create an epoll descriptor: %m")));
	}
	w->open = true;

	w->set = create_event_set(3);
	AddWaitEventToSet(w->set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(w->set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(w->set, WL_SOCKET_READABLE, w->pollset.epoll_fd, NULL, NULL);
	return w;
}

void
goya_wait_watch(GoyaWait *w, int fd, uint32 epoll_events,
				GoyaWaitReady ready, void *arg)
{
	goya_pollset_watch(&w->pollset, fd, epoll_events, ready, arg);
}

void
goya_wait_forget(GoyaWait *w, int fd)
{
	goya_pollset_forget(&w->pollset, fd);
}

bool
goya_wait_once(GoyaWait *w, long timeout_ms, uint32 wait_event_info)
{
	WaitEvent	events[3];
	bool		latch_set = false;
	bool		fds_ready = false;
	int			n;

	if (w->pollset.failed_errno != 0)
	{
		errno = w->pollset.failed_errno;
		w->pollset.failed_errno = 0;
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
	if ((fds_ready || latch_set) && !goya_pollset_dispatch(&w->pollset, 0))
		ereport(ERROR,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("could not wait for sockets: %m")));
	return latch_set;
}
