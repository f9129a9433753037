/* guc.h - settings; every one is described in guc.c and docs/settings.md. */
#ifndef GOYA_GUC_H
#define GOYA_GUC_H

#include "postgres.h"

extern int	goya_guc_max_databases;
extern int	goya_guc_max_executors;
extern int	goya_guc_max_slow_nodes;
extern int	goya_guc_executor_idle_timeout;
extern int	goya_guc_batch_size;
extern int	goya_guc_batch_time;
extern int	goya_guc_max_transfers;
extern int	goya_guc_poll_interval;
extern int	goya_guc_cancel_grace;
extern int	goya_guc_lock_wait;
extern int	goya_guc_sql_timeout;
extern int	goya_guc_http_connect_timeout;
extern int	goya_guc_http_timeout;
extern int	goya_guc_http_max_response;
extern bool goya_guc_http_allow_loopback;
extern bool goya_guc_http_allow_private;
extern bool goya_guc_listen;
extern char *goya_guc_listen_conninfo;
extern bool goya_guc_wake_by_latch;
extern bool goya_guc_allow_superuser_tasks;
extern bool goya_guc_notify_assets;
extern int	goya_guc_max_depth;
extern bool goya_guc_cli;
extern char *goya_guc_cli_directory;
extern char *goya_guc_cli_wrapper;
extern int	goya_guc_max_children;
extern char *goya_guc_master_key_file;
extern char *goya_guc_master_key_command;

extern void goya_guc_define(void);

#endif
