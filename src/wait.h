/*-------------------------------------------------------------------------
 *
 * wait.h
 *	  The one place where a goya process sleeps.
 *
 * A process has one GoyaWait.  It sleeps on MyLatch, on the death of the
 * postmaster and on one epoll descriptor that holds every other descriptor
 * the process cares about (the LISTEN connection, what wakes it when transfers
 * have ended).
 *
 *-------------------------------------------------------------------------
 */
#ifndef GOYA_WAIT_H
#define GOYA_WAIT_H

typedef struct GoyaWait GoyaWait;

/*
 * Called by goya_wait_once for a descriptor with something to do.  It may
 * throw: descriptors are level-triggered, so what was not dispatched in this
 * round comes again in the next.  It may watch and forget any descriptor.
 */
typedef void (*GoyaWaitReady) (int fd, uint32 events, void *arg);

/*
 * Makes the wait in a child of CurrentMemoryContext; deleting that context
 * closes it.  Throws when no file descriptor is left.
 */
extern GoyaWait *goya_wait_create(void);

/*
 * Watches fd, or changes what is watched for.  epoll_events is EPOLLIN,
 * EPOLLOUT or both.  Never throws: a failure is kept and raised by the next
 * goya_wait_once.
 */
extern void goya_wait_watch(GoyaWait *w, int fd, uint32 epoll_events,
							GoyaWaitReady ready, void *arg);

/* Stops watching fd, which may already be closed.  Never throws. */
extern void goya_wait_forget(GoyaWait *w, int fd);

/*
 * Sleeps until the latch is set, a descriptor is ready or timeout_ms is over
 * (-1: no timeout, 0: only look), handles interrupts, then dispatches.
 * Returns true if the latch was set, and resets it.  Exits the process when
 * the postmaster is dead.  Throws on interrupts, on a failure kept from
 * goya_wait_watch, and whatever a callback throws.
 */
extern bool goya_wait_once(GoyaWait *w, long timeout_ms, uint32 wait_event_info);

#endif							/* GOYA_WAIT_H */
