/* frames.h - the roles of the SECURITY DEFINER functions that the session is in.  See frames.c. */
#ifndef GOYA_FRAMES_H
#define GOYA_FRAMES_H

#include "postgres.h"

extern void goya_frames_install(void);
extern Oid	goya_frames_find(bool (*wanted) (Oid role));	/* the innermost; InvalidOid: none */

#endif
