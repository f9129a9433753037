/*-------------------------------------------------------------------------
 * master_key.c
 *		The master keys that wrap the keys of sealed values (envelope.c). They come from outside the database: goya.master_key_file, or what
 *		goya.master_key_command prints.  Lines "id hex64", the first is the active one; blank lines and lines that begin with # are skipped.
 *
 * What was decided. A process reads them when it first needs them and keeps them for itself, in a page that is locked into memory and
 * left out of core dumps; never in shared memory, a table, a setting or a log. A reload of the settings (SIGHUP) makes every process
 * read them again when it next needs one: a key that was taken out of the file is gone then, and a file that is gone is an error, not
 * the old keys.
 *
 * The file must be readable by the server's user alone (as PostgreSQL asks of a TLS key), and not in the data directory, where a base
 * backup would take it along.  The command has no shell, a clean environment, nothing on stdin and stderr, MAX_TEXT bytes to print and
 * COMMAND_SECONDS to do it; after it failed it is not asked again for RETRY_SECONDS, so that it holds up the engine seldom.
 *
 * What must hold: no message has anything of the text that was read, a line's number at most.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "guc.h"
#include "master_key.h"

#define MAX_KEYS			32
#define MAX_TEXT			16384
#define MAX_ARGUMENTS		32
#define COMMAND_SECONDS		10
#define RETRY_SECONDS		10

typedef struct KeyRing
{
	int			n;
	GoyaMasterKey keys[MAX_KEYS];
	char		text[MAX_TEXT + 1];	/* while it is read */
} KeyRing;

static KeyRing *ring = NULL;
static TimestampTz ring_of = -1;	/* PgReloadTime when it was read */
static TimestampTz failed_of = -1;	/* the same of a command that failed, */
static TimestampTz failed_at = 0;	/* and when */

#define REFUSE(...) ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), __VA_ARGS__))

/* ----- settings ----- */

static bool
check_absolute(const char *value)
{
	if (value == NULL || value[0] == '\0' || value[0] == '/')
		return true;
	GUC_check_errdetail("It must be an absolute path.");
	return false;
}

bool
goya_master_key_check_file(char **newval, void **extra, GucSource source)
{
	return check_absolute(*newval);
}

bool
goya_master_key_check_command(char **newval, void **extra, GucSource source)
{
	return check_absolute(*newval);
}

static bool
is_set(const char *setting)
{
	return setting != NULL && setting[0] != '\0';
}

/* ----- the file ----- */

/* As PostgreSQL judges a TLS key: the server's user's alone, or root's and readable by a group. */
static void
check_file(int fd, const char *path)
{
	struct stat st;
	char	   *real,
			   *data;
	size_t		len;
	bool		inside;
	mode_t		forbidden;

	if (fstat(fd, &st) != 0)
		REFUSE(errmsg("goya's master key file \"%s\" cannot be read: %m", path));
	if (!S_ISREG(st.st_mode))
		REFUSE(errmsg("goya's master key file \"%s\" is not a regular file", path));
	forbidden = st.st_uid == 0 ? (S_IRWXO | S_IWGRP | S_IXGRP) : (S_IRWXG | S_IRWXO);
	if ((st.st_uid != geteuid() && st.st_uid != 0) || (st.st_mode & forbidden) != 0)
		REFUSE(errmsg("goya's master key file \"%s\" can be read by others", path),
			   errdetail("Its mode is %04o, its owner's uid %u.", (unsigned) (st.st_mode & 07777), (unsigned) st.st_uid),
			   errhint("It must belong to the server's user with mode 0600 or 0400, or to root with 0640 or 0440."));
	real = realpath(path, NULL);
	data = realpath(DataDir, NULL);
	len = data != NULL ? strlen(data) : 0;
	inside = real != NULL && len > 0 && strncmp(real, data, len) == 0 && real[len] == '/';
	free(real);
	free(data);
	if (inside)
		REFUSE(errmsg("goya's master key file \"%s\" is in the data directory", path),
			   errdetail("A base backup would hold the values and the key that opens them."), errhint("Keep it somewhere else, as in /etc/goya."));
}

static int
read_file(const char *path)
{
	int			fd = OpenTransientFile(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	int			len = 0;
	ssize_t		got;

	if (fd < 0)
		REFUSE(errmsg("goya's master key file \"%s\" cannot be opened: %m", path), errhint("goya.master_key_file names it."));
	check_file(fd, path);
	while (len < MAX_TEXT && (got = read(fd, ring->text + len, MAX_TEXT - len)) > 0)
		len += got;
	CloseTransientFile(fd);
	return len;
}

/* ----- the command ----- */

static void
run_program(char *const *argv, int out)
{
	static char *none[] = {NULL};
	char	   *env[6];
	int			n = 0;
	char		home[MAXPGPATH + 8];
	char		data[MAXPGPATH + 8];
	sigset_t	nothing;
	int			null = open("/dev/null", O_RDWR);

	for (int s = 1; s < NSIG; s++)
		(void) signal(s, SIG_DFL);
	sigemptyset(&nothing);
	sigprocmask(SIG_SETMASK, &nothing, NULL);
	setpgid(0, 0);
	env[n++] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	env[n++] = "LANG=C";
	snprintf(data, sizeof(data), "PGDATA=%s", DataDir);
	env[n++] = data;
	if (getenv("HOME") != NULL)
	{
		snprintf(home, sizeof(home), "HOME=%s", getenv("HOME"));
		env[n++] = home;
	}
	env[n] = NULL;
	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 2) < 0 || dup2(out, 1) < 0 || chdir("/") != 0)
		_exit(126);
	(void) close_range(3, ~0U, 0);
	execve(argv[0], argv[0] != NULL ? argv : none, env);
	_exit(127);
}

/* Start it; its process id, and where to read what it prints. */
static pid_t
start_command(const char *command, int *out)
{
	char	   *argv[MAX_ARGUMENTS + 1];
	char	   *rest = NULL;
	int			n = 0;
	int			ends[2];
	sigset_t	all,
				before;
	pid_t		pid;

	for (char *word = strtok_r(pstrdup(command), " \t", &rest); word != NULL && n < MAX_ARGUMENTS; word = strtok_r(NULL, " \t", &rest))
		argv[n++] = word;
	argv[n] = NULL;
	if (pipe2(ends, O_CLOEXEC) != 0)
		REFUSE(errmsg("goya's master key command cannot be started: %m"));
	/* A handler of ours must not run in the child. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid = fork();
	if (pid == 0)
		run_program(argv, ends[1]);
	sigprocmask(SIG_SETMASK, &before, NULL);
	close(ends[1]);
	*out = ends[0];
	if (pid < 0)
	{
		close(ends[0]);
		REFUSE(errmsg("goya's master key command cannot be started: %m"));
	}
	return pid;
}

/* Wait for output or the end of a slice of time; false: the deadline is over. */
static bool
wait_command(int fd, TimestampTz deadline, long slice)
{
	long		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);
	int			events = WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH | (fd >= 0 ? WL_SOCKET_READABLE : 0);

	if (left <= 0)
		return false;
	if (WaitLatchOrSocket(MyLatch, events, fd >= 0 ? fd : PGINVALID_SOCKET, Min(left, slice), PG_WAIT_EXTENSION) & WL_LATCH_SET)
		ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	return true;
}

/* What it prints, into the ring; *status as of waitpid, -1 when it had to be killed. */
static int
follow_command(volatile pid_t *pid, int fd, int *status)
{
	TimestampTz deadline = GetCurrentTimestamp() + COMMAND_SECONDS * USECS_PER_SEC;
	int			len = 0;
	ssize_t		got = -1;

	*status = -1;
	(void) fcntl(fd, F_SETFL, O_NONBLOCK);
	while (got != 0 && wait_command(fd, deadline, COMMAND_SECONDS * 1000L))
	{
		got = read(fd, ring->text + len, MAX_TEXT - len);
		if (got > 0 && (len += got) >= MAX_TEXT)
			return len;
		if (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
			break;
	}
	/* It has closed its output, so it is about to end. */
	while (got == 0)
	{
		pid_t		ended = waitpid(*pid, status, WNOHANG);

		if (ended != 0)
		{
			*pid = 0;
			break;
		}
		if (!wait_command(-1, deadline, 5))
		{
			*status = -1;
			break;
		}
	}
	return len;
}

static int
read_command(const char *command)
{
	volatile int len = 0;
	int			status = -1;
	int			fd;
	pid_t		started;
	volatile pid_t pid;			/* 0: it has ended */

	if (failed_of == PgReloadTime && !TimestampDifferenceExceeds(failed_at, GetCurrentTimestamp(), RETRY_SECONDS * 1000))
		REFUSE(errmsg("goya's master key command failed a moment ago"),
			   errhint("It is tried again %d seconds after it failed, or after pg_reload_conf().", RETRY_SECONDS));
	failed_of = PgReloadTime;
	failed_at = GetCurrentTimestamp();
	started = start_command(command, &fd);
	pid = started;
	PG_TRY();
	{
		len = follow_command(&pid, fd, &status);
	}
	PG_FINALLY();
	{
		close(fd);
		(void) kill(-started, SIGKILL); /* what it left running, too */
		if (pid != 0)
		{
			(void) kill(pid, SIGKILL);
			while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
				;
		}
		SetLatch(MyLatch);		/* who waits on it may have missed something */
	}
	PG_END_TRY();
	if (status != 0)
	{
		explicit_bzero(ring->text, sizeof(ring->text));
		if (status == -1)
			REFUSE(errmsg("goya's master key command was stopped"),
				   errdetail("It has %d seconds and may print %d bytes.", COMMAND_SECONDS, MAX_TEXT));
		REFUSE(errmsg("goya's master key command failed"),
			   WIFEXITED(status) ? errdetail("It exited with code %d.", WEXITSTATUS(status)) :
			   errdetail("It was ended by signal %d.", WTERMSIG(status)),
			   WIFEXITED(status) && WEXITSTATUS(status) == 127 ?
			   errhint("goya.master_key_command begins with the absolute path of a program; there is no shell.") : 0);
	}
	failed_of = -1;
	return len;
}

/* ----- what was read ----- */

static int
hex_value(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* "id hex64" into a key; false: it is something else. */
static bool
parse_line(const char *line, size_t len, GoyaMasterKey *key)
{
	size_t		id = strcspn(line, " \t");
	const char *hex = line + id + strspn(line + id, " \t");

	if (id == 0 || id > GOYA_KEY_ID_MAX || id >= len || (size_t) (line + len - hex) != GOYA_KEY_BYTES * 2)
		return false;
	if (strspn(line, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-") != id)
		return false;
	memcpy(key->id, line, id);
	key->id[id] = '\0';
	for (int i = 0; i < GOYA_KEY_BYTES; i++)
	{
		int			high = hex_value(hex[2 * i]);
		int			low = hex_value(hex[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		key->bytes[i] = (uint8) (high << 4 | low);
	}
	return true;
}

static const GoyaMasterKey *
find(const char *id, size_t len)
{
	for (int i = 0; i < ring->n; i++)
		if (strlen(ring->keys[i].id) == len && memcmp(ring->keys[i].id, id, len) == 0)
			return &ring->keys[i];
	return NULL;
}

/* The number of the first wrong line; 0: none. */
static int
parse_text(int len)
{
	int			number = 0;
	char	   *end;

	ring->text[len] = '\0';
	for (char *line = ring->text; *line != '\0'; line = end)
	{
		size_t		n = strcspn(line, "\r\n");
		GoyaMasterKey *key = &ring->keys[ring->n];

		number++;
		end = line + n;
		if (*end != '\0')
			end += end[0] == '\r' && end[1] == '\n' ? 2 : 1;
		line[n] = '\0';
		while (n > 0 && (line[n - 1] == ' ' || line[n - 1] == '\t'))
			line[--n] = '\0';
		if (n == 0 || line[0] == '#')
			continue;
		if (ring->n >= MAX_KEYS || !parse_line(line, n, key) || find(key->id, strlen(key->id)) != NULL)
			return number;
		ring->n++;
	}
	return 0;
}

static void
wipe(void)
{
	explicit_bzero(ring, sizeof(KeyRing));
	ring_of = -1;
}

/* A page of our own: not swapped, not in a core dump, as far as the system lets us. */
static void
make_ring(void)
{
	void	   *page = mmap(NULL, sizeof(KeyRing), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory for master keys: %m")));
	(void) mlock(page, sizeof(KeyRing));
	(void) madvise(page, sizeof(KeyRing), MADV_DONTDUMP);
	ring = page;
}

static void
load(void)
{
	bool		file = is_set(goya_guc_master_key_file);
	bool		command = is_set(goya_guc_master_key_command);
	int			len;
	int			wrong;

	if (ring == NULL)
		make_ring();
	if (ring_of == PgReloadTime)
		return;
	wipe();
	if (!file && !command)
		REFUSE(errmsg("goya has no master key"), errdetail("Secrets and encrypted text are sealed with a key that is kept outside the database."),
			   errhint("An administrator sets goya.master_key_file or goya.master_key_command: see docs/security.md."));
	if (file && command)
		REFUSE(errmsg("goya has two sources of master keys"), errhint("Set only one of goya.master_key_file and goya.master_key_command."));
	len = file ? read_file(goya_guc_master_key_file) : read_command(goya_guc_master_key_command);
	if (len >= MAX_TEXT || len < 0)
	{
		wipe();
		REFUSE(errmsg("goya's master keys are not as they should be"), errdetail("There are more than %d bytes of them.", MAX_TEXT - 1));
	}
	wrong = parse_text(len);
	if (wrong > 0 || ring->n == 0)
	{
		wipe();
		REFUSE(errmsg("goya's master keys are not as they should be"),
			   wrong > 0 ? errdetail("Line %d is wrong.", wrong) : errdetail("There is no key."),
			   errhint("Lines are \"id hex64\": a name of letters, digits, \"_\", \".\" and \"-\", used once, and "
					   "32 bytes as 64 hexadecimal digits; at most %d of them.", MAX_KEYS));
	}
	explicit_bzero(ring->text, sizeof(ring->text));
	ring_of = PgReloadTime;
}

const GoyaMasterKey *
goya_master_key_active(void)
{
	load();
	return &ring->keys[0];
}

const GoyaMasterKey *
goya_master_key_find(const char *id, size_t len)
{
	load();
	return find(id, len);
}

const GoyaMasterKey *
goya_master_key_at(int i)
{
	load();
	return i < ring->n ? &ring->keys[i] : NULL;
}
