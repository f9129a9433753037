/*-------------------------------------------------------------------------
 * goya.c
 *		Start of the library: settings, shared memory, the launcher, the commit callback.  Everything else is elsewhere.
 *
 * Without shared_preload_libraries the library still loads, so that the SQL surface can be looked at and dumped; calls that need
 * workers go through goya_require_preload.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"

#include "crash_point.h"
#include "ddl.h"
#include "frames.h"
#include "goya.h"
#include "guc.h"
#include "launcher.h"
#include "shmem.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

void
_PG_init(void)
{
#ifdef GOYA_CRASH_POINTS
	goya_crash_point_define();
#endif
	goya_guc_define();
	goya_shmem_register_callbacks();
	if (process_shared_preload_libraries_in_progress)
	{
		goya_shmem_init();
#ifdef GOYA_CRASH_POINTS
		goya_crash_point_init();
#endif
		goya_ddl_install_hooks();
		goya_frames_install();
		goya_launcher_register();
	}
}

void
goya_require_preload(void)
{
	if (goya_shared == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("goya is not preloaded"),
				 errdetail("Tasks run in background workers, which exist only when the server has loaded goya at its start."),
				 errhint("Add goya to shared_preload_libraries and restart the server.")));
}
