/* overtime.h - SQL nodes that go on after they were told to end.  See overtime.c. */
#ifndef GOYA_OVERTIME_H
#define GOYA_OVERTIME_H

extern void goya_overtime_watch(void);	/* once in an executor */
extern void goya_overtime_begin(int64 timeout_ms);	/* a node begins; 0: no limit of time */
extern void goya_overtime_end(void);	/* it has ended, or thrown; more than once does no harm */

#endif
