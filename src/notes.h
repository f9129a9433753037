/*-------------------------------------------------------------------------
 * notes.h
 *		Notifications on triggers' channels, until the engine has made tasks of them.  See notes.c.
 *-------------------------------------------------------------------------
 */
#ifndef GOYA_NOTES_H
#define GOYA_NOTES_H

extern void goya_notes_add(const char *channel, const char *payload);
extern bool goya_notes_waiting(void);
extern void goya_notes_fire(void);	/* in a transaction */
extern void goya_notes_done(bool fired);	/* after it */

#endif
