/*-------------------------------------------------------------------------
 *
 * listen.h
 *	  The engine's LISTEN connection.
 *
 * LISTEN is refused in background workers, so the engine listens through one
 * libpq connection to its own server.  A notification is a hint and the table
 * is the truth: whenever the connection comes (back), the callback is called
 * once with NULLs, because notifications may have been missed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef GOYA_LISTEN_H
#define GOYA_LISTEN_H

#include "wait.h"

typedef struct GoyaListen GoyaListen;

/*
 * A notification; the strings are valid during the call only.  NULL, NULL: it
 * begins to listen now, look at the tables.  May throw, may call
 * goya_listen_set_...; must not destroy the GoyaListen.  Called from within
 * goya_wait_once and goya_listen_tick.
 */
typedef void (*GoyaNotifyCallback) (const char *channel, const char *payload, void *arg);

/*
 * Lives in a child of CurrentMemoryContext, whose deletion disconnects.  Must
 * not outlive w.
 */
extern GoyaListen *goya_listen_create(GoyaWait *w, GoyaNotifyCallback cb, void *arg);

/*
 * Where to connect; NULL or "": nowhere.  A changed string reconnects at the
 * next tick.  The host must be a socket directory, an address or localhost
 * (other names would block in the resolver); without one it is this server.
 */
extern void goya_listen_set_conninfo(GoyaListen *l, const char *conninfo);

/*
 * The channels to listen on from the next tick on; duplicates are fine.  Names
 * that no notification can have (empty, or too long) are left out.
 */
extern void goya_listen_set_channels(GoyaListen *l, char **channels, int n);

/*
 * Connects, reconnects, applies new channels, checks that the server still
 * answers.  Never blocks.  Call it in every turn of the loop; returns the
 * milliseconds until it wants to be called again, -1: not by time.
 */
extern long goya_listen_tick(GoyaListen *l);

/* Connected and listening on what was wanted when it connected? */
extern bool goya_listen_connected(GoyaListen *l);

/* listen_connect.c, for listen.c only */
struct pg_conn;
extern struct pg_conn *goya_listen_start_connection(const char *conninfo, const char **reason);

#endif							/* GOYA_LISTEN_H */
