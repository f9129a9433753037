/* alone.h - nodes that must not share their batch.  See alone.c. */
#ifndef GOYA_ALONE_H
#define GOYA_ALONE_H

#include "batch.h"

extern void goya_alone_begin(const GoyaBatch *b, Oid function, bool company);	/* a node's function is called now */
extern void goya_alone_check(void); /* it has returned: throws if it must run again alone */
extern void goya_alone_end(void);	/* it has returned or thrown; more than once does no harm */
extern bool goya_alone_refused(void);	/* must the last one run again alone?  Asked once */

extern bool goya_alone_always(const GoyaBatch *b, Oid function);	/* is it known before? */
extern int64 goya_alone_limit(void);	/* ms that the function may take now; 0: any time */
extern void goya_alone_too_long(void);	/* it was stopped after that */
extern void goya_alone_wallet(void);	/* a wallet is about to be locked; may throw */

#endif
