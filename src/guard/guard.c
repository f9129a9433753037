/*-------------------------------------------------------------------------
 * guard.c
 *		goya-guard: runs one program for the engine, and sees to it that nothing of it is left.
 *
 *		engine ──stdin──▶ goya-guard ──▶ program (a session, a process group and a directory of its own) ──▶ its children
 *
 * A process of its own, in plain C, for three reasons: after the fork of a process with threads and PostgreSQL in it next to nothing may be
 * called; only a reaper of orphans (PR_SET_CHILD_SUBREAPER) can end descendants that left their process group; and it lives on when the engine is
 * killed, just long enough to end the program.
 *
 * Input (src/child.c writes it): "GOYA0001", length of the configuration (uint32), length of the program's input (uint64), both in the machine's
 * order; the configuration, strings KEY=VALUE with a NUL after each; the program's input; then nothing, until the end of the file says that the
 * program must end.  Nothing of it stands in the arguments, so that they say nothing to others, and so that it works through sudo, which closes
 * all other descriptors.  Standard output and errors are the program's own.
 *
 * It ends as the program ended: same exit code, or same signal.  Its own: 125 bad input, 126 no directory or process, 127 no such program; each with a
 * line "goya-guard: ..." among the errors.
 *
 * What must hold: when it ends no descendant lives, unless the kernel keeps it from dying, or the program killed its guard, as one that runs as the
 * same user can: then the kernel kills the program, but not what that started.
 *-------------------------------------------------------------------------
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_CONFIG	(16 * 1024 * 1024)
#define RELAY_SIZE	65536
#define MAX_DEPTH	100			/* of directories that are removed */

static struct
{
	const char *directory;
	long		grace_ms;
	long		memory_kb;		/* these: -1 is no limit */
	long		cpu_s;
	long		file_kb;
	long		processes;
	long		files;
	char	  **argv;
	char	  **env;
} config = {"/tmp", 2000, -1, -1, -1, -1, 1024, NULL, NULL};

static char workdir[4096];
static int	signals = -1;		/* signalfd */
static pid_t program = -1;
static int	program_status = -1;
static bool program_ended = false;

static void __attribute__((noreturn))
fail(int code, const char *what, const char *name)
{
	dprintf(2, "goya-guard: %s%s%s: %s\n", what, name ? " " : "", name ? name : "", strerror(errno));
	_exit(code);
}

static long
now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ----- input ----- */

static void
read_all(void *to, size_t len)
{
	char	   *p = to;

	while (len > 0)
	{
		ssize_t		n = read(0, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
		{
			errno = n < 0 ? errno : EPIPE;
			fail(125, "no configuration", NULL);
		}
		p += n;
		len -= n;
	}
}

static void *
need(void *p)
{
	if (p == NULL)
		fail(126, "no memory", NULL);
	return p;
}

static void
take_setting(char *key, char *value, int *nargs, int *nenv)
{
	static const struct
	{
		const char *key;
		long	   *number;
	}			numbers[] = {
		{"grace", &config.grace_ms}, {"memory", &config.memory_kb}, {"cpu", &config.cpu_s}, {"file", &config.file_kb},
		{"processes", &config.processes}, {"files", &config.files}
	};

	if (strcmp(key, "arg") == 0)
		config.argv[(*nargs)++] = value;
	else if (strcmp(key, "env") == 0)
		config.env[(*nenv)++] = value;
	else if (strcmp(key, "directory") == 0)
		config.directory = value;
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (strcmp(key, numbers[i].key) == 0)
			*numbers[i].number = strtol(value, NULL, 10);
}

/* Returns how long the program's input is. */
static uint64_t
read_config(void)
{
	char		magic[8];
	uint32_t	len;
	uint64_t	input;
	char	   *text;
	int			strings = 0;
	int			nargs = 0;
	int			nenv = 0;

	read_all(magic, sizeof(magic));
	read_all(&len, sizeof(len));
	read_all(&input, sizeof(input));
	errno = EINVAL;
	if (memcmp(magic, "GOYA0001", 8) != 0 || len == 0 || len > MAX_CONFIG)
		fail(125, "not a configuration", NULL);
	text = need(malloc(len));
	read_all(text, len);
	errno = EINVAL;
	if (text[len - 1] != '\0')
		fail(125, "not a configuration", NULL);
	for (uint32_t i = 0; i < len; i++)
		strings += text[i] == '\0';
	config.argv = need(calloc(strings + 1, sizeof(char *)));
	config.env = need(calloc(strings + 3, sizeof(char *)));	/* make_directory adds two */
	for (char *s = text; s < text + len;)
	{
		char	   *value = strchr(s, '=');
		char	   *next = s + strlen(s) + 1;

		if (value != NULL)
		{
			*value = '\0';
			take_setting(s, value + 1, &nargs, &nenv);
		}
		s = next;
	}
	if (nargs == 0 || config.argv[0][0] != '/')
		fail(125, "no program", NULL);
	return input;
}

/* ----- processes, by /proc ----- */

/* Calls f for each process that can be read, with its parent and how many threads it has. */
static void
each_process(void (*f) (pid_t pid, pid_t parent, uid_t owner, long threads, void *arg), void *arg)
{
	DIR		   *proc = opendir("/proc");
	struct dirent *entry;

	while (proc != NULL && (entry = readdir(proc)) != NULL)
	{
		char		path[300];
		char		text[1024];
		struct stat owner;
		char	   *p;
		int			parent;
		long		threads;
		int			fd;
		ssize_t		n;

		if (entry->d_name[0] < '1' || entry->d_name[0] > '9')
			continue;
		snprintf(path, sizeof(path), "/proc/%s/stat", entry->d_name);
		if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
			continue;
		n = fstat(fd, &owner) == 0 ? read(fd, text, sizeof(text) - 1) : -1;
		close(fd);
		if (n <= 0)
			continue;
		text[n] = '\0';
		/* The name may hold anything: what follows its last ")". Field 3 is the state, 4 the parent, 20 the threads. */
		p = strrchr(text, ')');
		if (p != NULL && sscanf(p + 1, " %*c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %ld", &parent, &threads) == 2)
			f(atoi(entry->d_name), parent, owner.st_uid, threads, arg);
	}
	if (proc != NULL)
		closedir(proc);
}

static void
count_own(pid_t pid, pid_t parent, uid_t owner, long threads, void *arg)
{
	(void) pid;
	(void) parent;
	if (owner == getuid())
		*(long *) arg += threads;
}

static void
signal_child(pid_t pid, pid_t parent, uid_t owner, long threads, void *arg)
{
	(void) owner;
	(void) threads;
	if (parent == getpid())
		(void) kill(pid, *(int *) arg);
}

/* The program's group, and children of ours: also those that left the group and whose parent has ended. */
static void
signal_all(int sig)
{
	if (program > 0)
		(void) kill(-program, sig);
	each_process(signal_child, &sig);
}

/* Reaps; true: nobody is left. */
static bool
reap(void)
{
	int			status;
	pid_t		pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (pid == program)
		{
			program_status = status;
			program_ended = true;
		}
	return pid < 0 && errno == ECHILD;
}

/* ----- the program ----- */

static void
limit(int resource, long value, long more)
{
	struct rlimit old;
	struct rlimit new;

	if (value < 0 || getrlimit(resource, &old) != 0)
		return;
	new.rlim_cur = value;
	new.rlim_max = value + more;
	if (old.rlim_max != RLIM_INFINITY && new.rlim_max > old.rlim_max)
		new.rlim_max = old.rlim_max;
	if (new.rlim_cur > new.rlim_max)
		new.rlim_cur = new.rlim_max;
	if (setrlimit(resource, &new) != 0)
		fail(126, "could not set a limit", NULL);
}

static void
write_file(const char *path, const char *text)
{
	int			fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (write(fd, text, strlen(text)) < 0)
		errno = 0;				/* a wish */
	close(fd);
}

static void __attribute__((noreturn))
become_program(int input, pid_t guard, long others)
{
	sigset_t	none;

	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != guard)
		_exit(126);				/* it died before that */
	write_file("/proc/self/oom_score_adj", "500");
	limit(RLIMIT_CORE, 0, 0);
	limit(RLIMIT_NOFILE, config.files, 0);
	limit(RLIMIT_FSIZE, config.file_kb < 0 ? -1 : config.file_kb * 1024, 0);
	limit(RLIMIT_CPU, config.cpu_s, 2);
	limit(RLIMIT_NPROC, config.processes < 0 ? -1 : config.processes + others, 0);
	limit(RLIMIT_AS, config.memory_kb < 0 ? -1 : config.memory_kb * 1024, 0);
	if (chdir(workdir) != 0)
		fail(126, "could not enter", workdir);
	if (dup2(input, 0) != 0)
		fail(126, "could not set up", "standard input");
	close_range(3, ~0U, 0);
	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execve(config.argv[0], config.argv, config.env);
	fail(127, "could not run", config.argv[0]);
}

/* Starts the program; returns where its input goes. */
static int
start_program(bool has_input)
{
	int			to_program[2];
	pid_t		guard = getpid();
	long		others = 0;

	if (config.processes >= 0)
		each_process(count_own, &others);
	if (has_input)
	{
		if (pipe2(to_program, O_CLOEXEC) != 0)
			fail(126, "no pipe", NULL);
		fcntl(to_program[1], F_SETFL, O_NONBLOCK);
	}
	else
	{
		to_program[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
		to_program[1] = -1;
	}
	program = fork();
	if (program < 0)
		fail(126, "no process", NULL);
	if (program == 0)
		become_program(to_program[0], guard, others);
	setpgid(program, program);
	close(to_program[0]);
	return to_program[1];
}

/* ----- relaying ----- */

typedef struct Relay
{
	int			to;				/* -1: over */
	uint64_t	left;			/* bytes of the program's input still to be read */
	char		data[RELAY_SIZE];
	size_t		at;
	size_t		len;
} Relay;

static void
end_relay(Relay *r)
{
	if (r->to >= 0)
		close(r->to);
	r->to = -1;
	r->at = r->len = 0;
}

/* False: the engine wants the end. */
static bool
read_input(Relay *r)
{
	char		rest[4096];
	ssize_t		n;

	if (r->left == 0)
		return read(0, rest, sizeof(rest)) > 0;
	n = read(0, r->data, r->left < RELAY_SIZE ? r->left : RELAY_SIZE);
	if (n <= 0)
		return n < 0 && (errno == EINTR || errno == EAGAIN);
	r->left -= n;
	r->at = 0;
	r->len = r->to >= 0 ? n : 0;
	return true;
}

static void
write_input(Relay *r)
{
	ssize_t		n = write(r->to, r->data + r->at, r->len - r->at);

	if (n > 0)
		r->at += n;
	else if (n < 0 && errno != EAGAIN && errno != EINTR)
		end_relay(r);			/* it does not want more */
	if (r->at == r->len)
	{
		r->at = r->len = 0;
		if (r->left == 0)
			end_relay(r);
	}
}

/* Until the program has ended (true), or is to be ended. */
static bool
watch(Relay *r)
{
	while (!program_ended)
	{
		struct pollfd fds[3] = {{.fd = 0,.events = r->len == 0 ? POLLIN : 0}, {.fd = signals,.events = POLLIN},
		{.fd = r->len > 0 ? r->to : -1,.events = POLLOUT}};
		struct signalfd_siginfo info;

		if (poll(fds, 3, -1) < 0)
			continue;
		if (fds[1].revents)
		{
			if (read(signals, &info, sizeof(info)) == sizeof(info) && info.ssi_signo != SIGCHLD)
				return false;
			reap();
		}
		if (fds[2].revents)
			write_input(r);
		if ((fds[0].revents & POLLIN) && r->len == 0)
		{
			if (!read_input(r))
				return program_ended;
		}
		else if (fds[0].revents & (POLLHUP | POLLERR | POLLNVAL))
			return program_ended;
	}
	return true;
}

/* Asks politely, and after the grace time not any more. */
static void
end_all(bool at_once)
{
	long		start = now_ms();
	bool		killed = at_once;

	if (reap())
		return;
	signal_all(at_once ? SIGKILL : SIGTERM);
	while (!reap() && now_ms() - start < config.grace_ms + 10000)
	{
		struct pollfd fd = {.fd = signals,.events = POLLIN};
		struct signalfd_siginfo info;

		if (poll(&fd, 1, killed ? 5 : 20) > 0 && read(signals, &info, sizeof(info)) < 0)
			break;
		if (now_ms() - start >= config.grace_ms)
			killed = true;
		if (killed)
			signal_all(SIGKILL);
	}
}

/* ----- the directory ----- */

static void
remove_tree(int parent, const char *name, int depth)
{
	int			fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR		   *dir;
	struct dirent *entry;

	if (fd < 0 && errno == EACCES && fchmodat(parent, name, 0700, 0) == 0)
		fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0 && depth < MAX_DEPTH && (dir = fdopendir(fd)) != NULL)
	{
		(void) fchmod(fd, 0700);
		while ((entry = readdir(dir)) != NULL)
		{
			if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
				continue;
			if (unlinkat(fd, entry->d_name, 0) != 0)
				remove_tree(fd, entry->d_name, depth + 1);
		}
		closedir(dir);
	}
	else if (fd >= 0)
		close(fd);
	(void) unlinkat(parent, name, AT_REMOVEDIR);
}

/* HOME and TMPDIR say it to the program, unless it was given others. */
static void
make_directory(void)
{
	static char home[sizeof(workdir) + 8];
	static char tmp[sizeof(workdir) + 8];
	bool		has_home = false;
	bool		has_tmp = false;
	int			n = 0;

	if (snprintf(workdir, sizeof(workdir), "%s/goya-XXXXXX", config.directory) >= (int) sizeof(workdir) || mkdtemp(workdir) == NULL)
		fail(126, "could not make a directory in", config.directory);
	for (n = 0; config.env[n] != NULL; n++)
	{
		has_home |= strncmp(config.env[n], "HOME=", 5) == 0;
		has_tmp |= strncmp(config.env[n], "TMPDIR=", 7) == 0;
	}
	snprintf(home, sizeof(home), "HOME=%s", workdir);
	snprintf(tmp, sizeof(tmp), "TMPDIR=%s", workdir);
	if (!has_home)
		config.env[n++] = home;
	if (!has_tmp)
		config.env[n++] = tmp;
}

static void __attribute__((noreturn))
end_as_program(void)
{
	sigset_t	all;

	if (program_status >= 0 && WIFSIGNALED(program_status))
	{
		prctl(PR_SET_DUMPABLE, 0);
		signal(WTERMSIG(program_status), SIG_DFL);
		sigemptyset(&all);
		sigprocmask(SIG_SETMASK, &all, NULL);
		kill(getpid(), WTERMSIG(program_status));
		pause();
	}
	_exit(program_status >= 0 && WIFEXITED(program_status) ? WEXITSTATUS(program_status) : 124);
}

int
main(void)
{
	static Relay relay;
	sigset_t	set;

	umask(077);
	if (chdir("/") != 0 || close_range(3, ~0U, 0) != 0)
		fail(126, "could not begin", NULL);
	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_DFL);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_SETMASK, &set, NULL);
	signals = signalfd(-1, &set, SFD_CLOEXEC);
	if (signals < 0 || prctl(PR_SET_CHILD_SUBREAPER, 1) != 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		fail(126, "could not begin", NULL);
	(void) setsid();
	relay.left = read_config();
	make_directory();
	relay.to = start_program(relay.left > 0);
	end_all(watch(&relay));
	remove_tree(AT_FDCWD, workdir, 0);
	end_as_program();
}
