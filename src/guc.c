/*-------------------------------------------------------------------------
 * guc.c
 *		The settings of goya, all of them.  Names are goya.noun_phrase, with real types and units.  docs/settings.md lists the same.
 *
 * None of them decides identity: who a caller is comes from roles and verified claims (identity.c), never from a setting a client
 * can change.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/guc.h"

#include "guc.h"
#include "master_key.h"

int			goya_guc_max_databases = 16;
int			goya_guc_max_executors = 2;
int			goya_guc_max_slow_nodes = 4;
int			goya_guc_executor_idle_timeout = 60;
int			goya_guc_batch_size = 1000;
int			goya_guc_batch_time = 50;
int			goya_guc_max_transfers = 1000;
int			goya_guc_poll_interval = 60;
int			goya_guc_cancel_grace = 200;
int			goya_guc_lock_wait = 500;
int			goya_guc_sql_timeout = 0;
int			goya_guc_http_connect_timeout = 10;
int			goya_guc_http_timeout = 300;
int			goya_guc_http_max_response = 16 * 1024;
bool		goya_guc_http_allow_loopback = false;
bool		goya_guc_http_allow_private = false;
bool		goya_guc_listen = true;
char	   *goya_guc_listen_conninfo = NULL;
bool		goya_guc_wake_by_latch = true;
bool		goya_guc_allow_superuser_tasks = false;
bool		goya_guc_notify_assets = true;
int			goya_guc_max_depth = 16;
bool		goya_guc_cli = false;
char	   *goya_guc_cli_directory = NULL;
char	   *goya_guc_cli_wrapper = NULL;
int			goya_guc_max_children = 4;
char	   *goya_guc_master_key_file = NULL;
char	   *goya_guc_master_key_command = NULL;

static void
define_int(const char *name, const char *text, int *var, int boot, int min, int max, GucContext context, int flags)
{
	DefineCustomIntVariable(name, text, NULL, var, boot, min, max, context, flags, NULL, NULL, NULL);
}

static void
define_bool(const char *name, const char *text, bool *var, bool boot, GucContext context)
{
	DefineCustomBoolVariable(name, text, NULL, var, boot, context, 0, NULL, NULL, NULL);
}

/*
 * Define everything.  Called once per process from _PG_init.
 */
void
goya_guc_define(void)
{
	if (process_shared_preload_libraries_in_progress)
		define_int("goya.max_databases", "Number of databases of this cluster that can run a goya engine.",
				   &goya_guc_max_databases, 16, 1, 1000, PGC_POSTMASTER, 0);
	define_int("goya.max_executors", "Most executors that run batches at once in one database; those busy with a slow SQL node are not counted.",
			   &goya_guc_max_executors, 2, 1, 64, PGC_SIGHUP, 0);
	define_int("goya.max_slow_nodes", "Most slow or not yet measured SQL nodes that run at once in one database, each in an executor of its own.",
			   &goya_guc_max_slow_nodes, 4, 1, 60, PGC_SIGHUP, 0);
	define_int("goya.executor_idle_timeout", "How long an executor without work stays.",
			   &goya_guc_executor_idle_timeout, 60, 1, 86400, PGC_SIGHUP, GUC_UNIT_S);
	define_int("goya.batch_size", "Most rows of the queue that one transaction of an executor claims.",
			   &goya_guc_batch_size, 1000, 1, 10000, PGC_SIGHUP, 0);
	define_int("goya.batch_time", "Time that a batch of an executor should take.",
			   &goya_guc_batch_time, 50, 1, 10000, PGC_SIGHUP, GUC_UNIT_MS);
	define_int("goya.max_transfers", "Most outside calls in flight at once in one database.",
			   &goya_guc_max_transfers, 1000, 1, 10000, PGC_SIGHUP, 0);
	define_int("goya.poll_interval", "Longest time the engine sleeps before it looks at its tables; ten times that while nothing happens.",
			   &goya_guc_poll_interval, 60, 1, 3600, PGC_SIGHUP, GUC_UNIT_S);
	define_int("goya.cancel_grace", "Time a cancelled task's running statement or transfer has before it is interrupted.",
			   &goya_guc_cancel_grace, 200, 0, 60000, PGC_SIGHUP, GUC_UNIT_MS);
	define_int("goya.lock_wait", "Longest time that goya's processes wait for a row that somebody else has locked.",
			   &goya_guc_lock_wait, 500, 10, 60000, PGC_SIGHUP, GUC_UNIT_MS);
	define_int("goya.sql_timeout", "Time limit of a SQL node that has no timeout of its own; 0 is none.",
			   &goya_guc_sql_timeout, 0, 0, 86400, PGC_SIGHUP, GUC_UNIT_S);
	define_int("goya.http_connect_timeout", "Time limit for connecting to an HTTP service.",
			   &goya_guc_http_connect_timeout, 10, 1, 300, PGC_SIGHUP, GUC_UNIT_S);
	define_int("goya.http_timeout", "Time limit of an HTTP call whose node has no timeout of its own.",
			   &goya_guc_http_timeout, 300, 1, 86400, PGC_SIGHUP, GUC_UNIT_S);
	define_int("goya.http_max_response", "Largest HTTP response body that is accepted.",
			   &goya_guc_http_max_response, 16 * 1024, 1, 256 * 1024, PGC_SIGHUP, GUC_UNIT_KB);
	define_bool("goya.http_allow_loopback", "Allows HTTP calls to loopback addresses.",
				&goya_guc_http_allow_loopback, false, PGC_SIGHUP);
	define_bool("goya.http_allow_private", "Allows HTTP calls to private and link-local addresses.",
				&goya_guc_http_allow_private, false, PGC_SIGHUP);
	define_bool("goya.listen", "Keeps a LISTEN connection for triggers on NOTIFY channels.",
				&goya_guc_listen, true, PGC_SIGHUP);
	DefineCustomStringVariable("goya.listen_conninfo", "Connection string of the engine's LISTEN connection.",
							   "Empty: the server's first socket directory, its port, role goya_listener. The database is always the engine's own.",
							   &goya_guc_listen_conninfo, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	define_bool("goya.wake_by_latch", "Wakes the engine through shared memory when a transaction makes work for it.",
				&goya_guc_wake_by_latch, true, PGC_SUSET);
	define_bool("goya.allow_superuser_tasks", "Lets superusers and BYPASSRLS roles run tasks.",
				&goya_guc_allow_superuser_tasks, false, PGC_SUSET);
	define_bool("goya.notify_assets", "Sends NOTIFY goya_asset when assets are inserted.",
				&goya_guc_notify_assets, true, PGC_SUSET);
	define_int("goya.max_depth", "Most generations of tasks started by tasks.",
			   &goya_guc_max_depth, 16, 1, 100, PGC_SIGHUP, 0);
	define_bool("goya.cli", "Lets cli nodes run the programs that superusers registered.",
				&goya_guc_cli, false, PGC_SIGHUP);
	DefineCustomStringVariable("goya.cli_directory", "Where programs get a directory of their own, removed when they end.", NULL,
							   &goya_guc_cli_directory, "/tmp", PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomStringVariable("goya.cli_wrapper", "What runs programs that have an os_user: an absolute path and arguments, {user} for the user.",
							   "Separated by spaces, as in '/usr/bin/sudo -n -u {user} --'; what it is to run follows.",
							   &goya_guc_cli_wrapper, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	define_int("goya.max_children", "Most programs that run at once in one database.",
			   &goya_guc_max_children, 4, 1, 100, PGC_SIGHUP, 0);
	DefineCustomStringVariable("goya.master_key_file", "File with the master keys that secrets are sealed with.",
							   "Lines are an id and 64 hexadecimal digits; the first is the active key. Readable by the server's user alone.",
							   &goya_guc_master_key_file, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, goya_master_key_check_file, NULL, NULL);
	DefineCustomStringVariable("goya.master_key_command", "Program, with arguments, that prints the master keys.",
							   "Started without a shell by each process that needs the keys; its output is as the file would be.",
							   &goya_guc_master_key_command, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, goya_master_key_check_command, NULL, NULL);
	MarkGUCPrefixReserved("goya");
}
