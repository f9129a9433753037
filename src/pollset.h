/*-------------------------------------------------------------------------
 *
 * pollset.h
 *	  Many descriptors of one thread, with epoll.  Nothing here throws, palloc's
 *	  or touches a latch: it serves the engine's main thread through wait.h, and
 *	  the thread that makes transfers directly.
 *
 * Linux only (epoll), like the Debian packages this extension is made for.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GOYA_POLLSET_H
#define GOYA_POLLSET_H

#include <sys/epoll.h>

/* Called for a descriptor with something to do.  May watch and forget any. */
typedef void (*GoyaPollsetReady) (int fd, uint32 events, void *arg);

#define GOYA_POLLSET_EVENTS 256	/* taken from epoll at a time */

/* One descriptor; the table is indexed by its number. */
typedef struct GoyaPollsetFd
{
	GoyaPollsetReady ready;		/* NULL: not watched */
	void	   *arg;
	uint32		events;			/* what epoll was asked for */
	uint32		generation;		/* changes with every new registration */
	bool		adopted;		/* goya_pollset_forget will be called before it is
								 * closed */
	bool		parked;			/* not watched, but epoll has it */
} GoyaPollsetFd;

typedef struct GoyaPollset
{
	int			epoll_fd;		/* -1: closed */
	int			failed_errno;	/* of a watch that failed; 0: none */
	uint32		generation;
	GoyaPollsetFd *fds;			/* malloc'd */
	int			nfds;
	struct epoll_event events[GOYA_POLLSET_EVENTS];
} GoyaPollset;

extern bool goya_pollset_open(GoyaPollset *p);	/* false: see errno */
extern void goya_pollset_close(GoyaPollset *p);

/*
 * Watches fd, or changes what is watched for.  epoll_events is EPOLLIN,
 * EPOLLOUT or both.  A failure is kept in failed_errno.
 */
extern void goya_pollset_watch(GoyaPollset *p, int fd, uint32 epoll_events,
							GoyaPollsetReady ready, void *arg);

/* Stops watching fd, which may already be closed. */
extern void goya_pollset_forget(GoyaPollset *p, int fd);

/*
 * For descriptors that are watched again and again: adopt promises that
 * goya_pollset_forget is called before fd is closed; park then stops watching it
 * but leaves it with epoll, so that watching it again for the same costs
 * nothing.  Parking one that was not adopted forgets it.
 */
extern void goya_pollset_adopt(GoyaPollset *p, int fd);
extern void goya_pollset_park(GoyaPollset *p, int fd);

/*
 * Sleeps until a descriptor is ready or timeout_ms is over (-1: no timeout),
 * and dispatches.  A callback may throw if the thread can: descriptors are
 * level-triggered, so what was not dispatched comes again.  False: see errno.
 */
extern bool goya_pollset_dispatch(GoyaPollset *p, int timeout_ms);

#endif							/* GOYA_POLLSET_H */
