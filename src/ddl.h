/* ddl.h - commands on databases and on the extension that goya's workers must give way to.  See ddl.c. */
#ifndef GOYA_DDL_H
#define GOYA_DDL_H

extern void goya_ddl_install_hooks(void);	/* from _PG_init while preloading */

#endif
