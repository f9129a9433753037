/*-------------------------------------------------------------------------
 * fuzz.c
 *		Fuzzing of everything that reads what users write: an SQL function that runs millions of inputs inside one backend.
 *
 *		CREATE FUNCTION fuzz(target text, args text[]) RETURNS int LANGUAGE c AS '…/goya_fuzz', 'goya_fuzz_sql';
 *		SELECT fuzz('definition', '{-runs=50000,-seed=1,corpus}');
 *
 * The code under test needs PostgreSQL's memory contexts, errors, jsonb and regular expressions, so it is fuzzed where they are: the module
 * holds the parsers' sources once more, built with instrumentation, and a driver.  The driver is libFuzzer (its run-time library without
 * main, with clang), which follows coverage; or driver_blind.c (with any compiler), which mutates the corpus and follows nothing.
 * Both are meant for `postgres --single`: a driver ends with exit().
 *
 * Each input must hold: no crash; no error but of the target's kind; memory of its context within a bound; CPU time within a bound; what
 * the target itself checks.  Anything else is a finding: the input is in a file finding-…, and the process ends with code 77.
 *-------------------------------------------------------------------------
 */
#include "fuzz.h"

#include <signal.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#ifdef FUZZ_MODULE_MAGIC
PG_MODULE_MAGIC;
#endif

PG_FUNCTION_INFO_V1(goya_fuzz_sql);

#define MAX_MEMORY	((Size) 1024 * 1024 * 1024)	/* left by one input: what a jsonpath can make in the second that it has */
#define MAX_SECONDS 10.0			/* CPU of one input; the largest patterns take one to be refused, machines are busy */
#define MAX_GROWTH	((Size) 64 * 1024 * 1024)	/* of TopMemoryContext over a whole run */

const FuzzTarget *fuzz_target;

static const uint8 *input;
static int	input_size;
static MemoryContext input_cxt;
static long n_runs;
static long n_errors;
static long n_deep;
static double slowest;
static Size largest;
static Size top_at_start;

/* ---- findings ---- */

static void
write_input(char *name, size_t size)
{
	uint64		h = UINT64CONST(14695981039346656037);
	FILE	   *f;

	for (int i = 0; i < input_size; i++)
		h = (h ^ input[i]) * UINT64CONST(1099511628211);
	/* the server has made its data directory the current one */
	snprintf(name, size, "%s/finding-%s-%016llx", getenv("GOYA_FINDINGS") ? getenv("GOYA_FINDINGS") : ".", fuzz_target->name, (unsigned long long) h);
	f = fopen(name, "w");
	if (f == NULL || fwrite(input, 1, input_size, f) != (size_t) input_size)
		fprintf(stderr, "FINDING: could not write %s\n", name);
	if (f)
		fclose(f);
}

void
fuzz_finding(const char *fmt,...)
{
	char		message[2048];
	char		name[MAXPGPATH];
	va_list		args;

	va_start(args, fmt);
	vsnprintf(message, sizeof(message), fmt, args);
	va_end(args);
	write_input(name, sizeof(name));
	fprintf(stderr, "\nFINDING in %s: %s\n", fuzz_target->name, message);
	fprintf(stderr, "FINDING input (%d bytes, in %s): %.*s\n", input_size, name, Min(input_size, 4000), (const char *) input);
	fflush(NULL);
	_exit(77);
}

/* The sanitizer calls it before it ends the process: the input is known then. */
extern void __sanitizer_set_death_callback(void (*callback) (void)) __attribute__((weak));

static void
on_death(void)
{
	char		name[MAXPGPATH];

	if (input == NULL)
		return;
	write_input(name, sizeof(name));
	fprintf(stderr, "FINDING in %s: the sanitizer's, above; input in %s\n", fuzz_target->name, name);
}

void
fuzz_check_text(const char *what, const char *text)
{
	if (text == NULL || text[0] == '\0')
		fuzz_finding("%s is empty", what);
	if (!pg_verify_mbstr(GetDatabaseEncoding(), text, strlen(text), true))
		fuzz_finding("%s is not valid text", what);
}

void
fuzz_deep(void)
{
	n_deep++;
}

/* ---- one input ---- */

static double
cpu_seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/* The target's error is one that it may give, and says something. */
static void
check_error(void)
{
	ErrorData  *edata;

	MemoryContextSwitchTo(input_cxt);
	edata = CopyErrorData();
	FlushErrorState();
	n_errors++;
	if (ERRCODE_TO_CATEGORY(edata->sqlerrcode) == ERRCODE_TO_CATEGORY(ERRCODE_INTERNAL_ERROR) || !fuzz_target->allowed(edata->sqlerrcode))
		fuzz_finding("error %s: %s (%s, %s:%d)", unpack_sql_state(edata->sqlerrcode), edata->message,
					 edata->detail ? edata->detail : "", edata->filename, edata->lineno);
	fuzz_check_text("the message of an error", edata->message);
	if (edata->detail)
		fuzz_check_text("the detail of an error", edata->detail);
	if (edata->hint)
		fuzz_check_text("the hint of an error", edata->hint);
}

static void
check_bounds(double seconds)
{
	Size		memory = MemoryContextMemAllocated(input_cxt, true);

	slowest = Max(slowest, seconds);
	largest = Max(largest, memory);
	if (seconds > MAX_SECONDS)
		fuzz_finding("took %.1f s of CPU", seconds);
	if (memory > MAX_MEMORY)
		fuzz_finding("left %zu bytes", memory);
	if (n_runs % 65536 == 0 && MemoryContextMemAllocated(TopMemoryContext, true) > top_at_start + MAX_GROWTH)
	{
		MemoryContextStats(TopMemoryContext);
		fuzz_finding("memory outside of inputs has grown from %zu to %zu bytes", top_at_start,
					 MemoryContextMemAllocated(TopMemoryContext, true));
	}
}

/* An input without end: the timer runs all the time, and sees the same input twice. */
static void
on_timer(int signal)
{
	static long seen;

	if (input != NULL && seen == n_runs)
		fuzz_finding("is not over after more than %d s of CPU", (int) MAX_SECONDS);
	seen = n_runs;
}

static void
watch_next_input(void)
{
	static bool set;
	struct itimerval every = {{2 * (int) MAX_SECONDS, 0}, {2 * (int) MAX_SECONDS, 0}};

	if (set)
		return;
	set = true;
	signal(SIGVTALRM, on_timer);
	setitimer(ITIMER_VIRTUAL, &every, NULL);
}

/* Without a sanitizer nobody else writes the input down. */
static void
on_crash(int signal)
{
	fuzz_finding("crashed with signal %d", signal);
}

/* On a stack of its own: the other one may be what was used up. */
static void
catch_crashes(void)
{
	static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGABRT};
	static char other[64 * 1024];
	stack_t		stack = {.ss_sp = other,.ss_size = sizeof(other)};
	struct sigaction action = {.sa_handler = on_crash,.sa_flags = SA_ONSTACK};

	sigaltstack(&stack, NULL);
	for (int i = 0; i < (int) lengthof(signals); i++)
		sigaction(signals[i], &action, NULL);
}

static int
run_input(const uint8 *data, size_t size)
{
	MemoryContext caller = CurrentMemoryContext;
	uint32		interrupts = InterruptHoldoffCount;
	double		start;

	n_runs++;
	input = data;
	input_size = (int) size;
	MemoryContextSwitchTo(input_cxt);
	watch_next_input();
	start = cpu_seconds();
	PG_TRY();
	{
		fuzz_target->run(data, (int) size);
	}
	PG_CATCH();
	{
		check_error();
		InterruptHoldoffCount = interrupts;
	}
	PG_END_TRY();
	check_bounds(cpu_seconds() - start);
	MemoryContextSwitchTo(caller);
	MemoryContextReset(input_cxt);
	input = NULL;
	return 0;
}

/* ---- all of them ---- */

static void
report_at_end(void)
{
	if (fuzz_target == NULL)
		return;
	fprintf(stderr, "\nFUZZED %s: %ld inputs, %ld all the way, %ld refused with an error; slowest %.3f s, largest %zu kB\n",
			fuzz_target->name, n_runs, n_deep, n_errors, slowest, largest / 1024);
}

static char **
make_argv(ArrayType *array, int *argc)
{
	Datum	   *texts;
	int			n;
	char	  **argv;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &texts, NULL, &n);
	argv = palloc0(sizeof(char *) * (n + 2));
	argv[0] = "goya_fuzz";
	for (int i = 0; i < n; i++)
		argv[i + 1] = TextDatumGetCString(texts[i]);
	*argc = n + 1;
	return argv;
}

/* goya_fuzz_sql(target text, args text[]) → int; libFuzzer does not come back. */
Datum
goya_fuzz_sql(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	int			argc;
	char	  **argv = make_argv(PG_GETARG_ARRAYTYPE_P(1), &argc);

	for (fuzz_target = fuzz_targets; fuzz_target->name != NULL && strcmp(fuzz_target->name, name) != 0; fuzz_target++)
		;
	if (fuzz_target->name == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("there is no target \"%s\"", name)));
	(void) set_stack_base();	/* `postgres --single` has none: no recursion would ever be too deep */
	MyBackendType = B_BG_WORKER;	/* the time of a jsonpath is limited in workers */
	input_cxt = AllocSetContextCreate(TopMemoryContext, "fuzz input", ALLOCSET_DEFAULT_SIZES);
	top_at_start = MemoryContextMemAllocated(TopMemoryContext, true);
	if (__sanitizer_set_death_callback)
		__sanitizer_set_death_callback(on_death);
	else
		catch_crashes();
	atexit(report_at_end);
	PG_RETURN_INT32(LLVMFuzzerRunDriver(&argc, &argv, run_input));
}

/* ---- libFuzzer's hooks ---- */

extern size_t LLVMFuzzerCustomMutator(uint8 *data, size_t size, size_t max_size, unsigned int seed);
extern size_t LLVMFuzzerCustomCrossOver(const uint8 *a, size_t a_size, const uint8 *b, size_t b_size, uint8 *out, size_t max_out,
										unsigned int seed);

size_t
LLVMFuzzerCustomMutator(uint8 *data, size_t size, size_t max_size, unsigned int seed)
{
	return fuzz_mutate(data, size, max_size, seed);
}

size_t
LLVMFuzzerCustomCrossOver(const uint8 *a, size_t a_size, const uint8 *b, size_t b_size, uint8 *out, size_t max_out, unsigned int seed)
{
	return fuzz_cross(a, a_size, b, b_size, out, max_out, seed);
}
