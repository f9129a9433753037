/*-------------------------------------------------------------------------
 * child_spawn.c
 *		Starting goya-guard for a child: its pipes, its configuration, posix_spawn.
 *
 * What must hold: nothing of the engine reaches the guard but three pipes: no other descriptor (closefrom), no signal's handler or mask, no variable.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <unistd.h>

#include "miscadmin.h"

#include "child_internal.h"

static void
put_setting(StringInfo s, const char *key, const char *value)
{
	appendStringInfo(s, "%s=%s", key, value);
	appendStringInfoChar(s, '\0');
}

static void
put_limit(StringInfo s, const char *key, int64 value)
{
	char		text[32];

	snprintf(text, sizeof(text), INT64_FORMAT, value);
	if (value >= 0)
		put_setting(s, key, text);
}

/* What the guard reads first: see guard/guard.c. */
void
goya_child_make_input(Child *c)
{
	const GoyaChildRequest *r = &c->request;
	StringInfoData config;
	StringInfoData all;
	uint32		config_len;
	uint64		input_len = r->input_len;

	initStringInfo(&config);
	put_setting(&config, "directory", r->directory);
	put_limit(&config, "grace", GOYA_CHILD_GRACE_MS);
	put_limit(&config, "memory", r->memory_kb);
	put_limit(&config, "cpu", r->cpu_s);
	put_limit(&config, "file", r->file_kb);
	put_limit(&config, "processes", r->processes);
	for (const char **p = r->argv; *p != NULL; p++)
		put_setting(&config, "arg", *p);
	for (const char **p = r->env; *p != NULL; p++)
		put_setting(&config, "env", *p);
	config_len = config.len;
	initStringInfo(&all);
	appendBinaryStringInfo(&all, "GOYA0001", 8);
	appendBinaryStringInfo(&all, (char *) &config_len, sizeof(config_len));
	appendBinaryStringInfo(&all, (char *) &input_len, sizeof(input_len));
	appendBinaryStringInfo(&all, config.data, config.len);
	appendBinaryStringInfo(&all, r->input, r->input_len);
	c->input = all.data;
	c->input_len = all.len;
}

const char **
goya_child_copy_strings(const char **from)
{
	int			n = 0;
	const char **to;

	if (from == NULL)
		return NULL;
	while (from[n] != NULL)
		n++;
	to = palloc0(sizeof(char *) * (n + 1));
	for (int i = 0; i < n; i++)
		to[i] = pstrdup(from[i]);
	return to;
}

/* Our end of a pipe is mine, its end is its. */
bool
goya_child_make_pipe(int *mine, int *its, bool i_write)
{
	int			fds[2];

	if (pipe2(fds, O_CLOEXEC) != 0)
		return false;
	*mine = fds[i_write ? 1 : 0];
	*its = fds[i_write ? 0 : 1];
	return fcntl(*mine, F_SETFL, O_NONBLOCK) == 0;
}

/* Returns an errno; 0: it runs. */
int
goya_child_spawn(Child *c, int *its)
{
	static const char *env[] = {"PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", NULL};
	char		guard[MAXPGPATH + 16];
	const char *argv[66];
	int			n = 0;
	posix_spawnattr_t attr;
	posix_spawn_file_actions_t actions;
	sigset_t	none;
	sigset_t	all;
	int			error;

	snprintf(guard, sizeof(guard), "%s/goya-guard", pkglib_path);
	for (const char **p = c->request.wrapper; p != NULL && *p != NULL && n < 64; p++)
		argv[n++] = *p;
	argv[n++] = guard;
	argv[n] = NULL;
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawn_file_actions_init(&actions);
	for (int fd = 0; fd < 3; fd++)
		posix_spawn_file_actions_adddup2(&actions, its[fd], fd);
	posix_spawn_file_actions_addclosefrom_np(&actions, 3);
	error = posix_spawn(&c->pid, argv[0], &actions, &attr, (char **) argv, (char **) env);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	return error;
}
