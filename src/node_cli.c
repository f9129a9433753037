/*-------------------------------------------------------------------------
 * node_cli.c
 *		cli nodes: a program that a superuser registered (sql/38_programs.sql), as an exchange of one child (child.c).
 *
 * Decided.  A user names a program and values; path, limits and the shape of each argument are the superuser's.  One element of the program's
 * arguments becomes exactly one argument, whatever is in the values: there is no shell.  A value at the beginning of an argument must not begin with
 * "-", lest it become an option, unless the template says {-name}.
 *
 * What it writes is its output: as JSON when it is JSON, else as text, else as {"base64", "size"}.  Exit code 0 is success.
 *
 * What must hold: nothing of a user but values of arguments and standard input reaches the program; the environment is made here.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>
#include <unistd.h>

#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "mb/pg_wchar.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/varlena.h"

#include "batch.h"
#include "calls_internal.h"
#include "child.h"
#include "guc.h"
#include "json_util.h"
#include "node_cli.h"
#include "try_input.h"
#include "worker.h"

#define MAX_ARGUMENT	131000	/* bytes of one: the kernel's limit is 131072 */
#define MAX_ARGUMENTS	1000000 /* bytes of all */
#define MAX_DEPTH		8		/* of a path in the node's arguments */
#define NEWS_EVERY_MS	300

typedef struct CliState
{
	char	   *program;
	char	   *node;			/* its key */
} CliState;

/* ----- the program ----- */

static Jsonb *
load_program(const char *name, GoyaTask *task)
{
	GoyaStoreScope scope;
	Datum		args[2];
	Jsonb	   *program = NULL;
	MemoryContext cxt = CurrentMemoryContext;

	args[0] = CStringGetTextDatum(name ? name : "");
	args[1] = UUIDPGetDatum(&task->tenant);
	goya_store_enter(&scope);
	goya_store_run(GOYA_STMT_LOAD_PROGRAM, args, NULL);
	if (SPI_processed == 1)
		program = goya_result_jsonb(0, 1, cxt);
	goya_store_leave(&scope);
	if (program == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("program \"%s\" is not there for this tenant", name ? name : ""),
				 errhint("A superuser registers programs with goya.create_program and allows them with goya.allow_program; goya.list_programs() "
						 "shows yours.")));
	return program;
}

/* ----- arguments ----- */

static Jsonb *
find_value(Jsonb *arguments, const char *path, int len)
{
	char	   *copy = pnstrdup(path, len);
	const char *keys[MAX_DEPTH];
	int			n = 0;
	char	   *rest = copy;
	char	   *key;

	while (n < MAX_DEPTH && (key = strsep(&rest, ".")) != NULL)
		keys[n++] = key;
	return goya_json_get_path(arguments, n, keys);
}

/* One {name} of a template; returns what follows it. */
static const char *
put_value(StringInfo out, const char *at, Jsonb *arguments)
{
	const char *end = strchr(at, '}');
	bool		may_be_option = *at == '-';
	const char *name = may_be_option ? at + 1 : at;
	char	   *value;

	if (end == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("an argument of the program has a \"{\" without end")));
	value = goya_json_as_text(find_value(arguments, name, end - name));
	if (value == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("argument \"%s\" is missing", pnstrdup(name, end - name)),
				 errhint("The node's arguments are an object with a value for each {name} in the program's arguments.")));
	if (out->len == 0 && value[0] == '-' && !may_be_option)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("argument \"%s\" begins with \"-\"", pnstrdup(name, end - name)),
				 errdetail("The program would take it for an option."),
				 errhint("Where that is wanted the superuser writes {-%s} in the program's arguments.", pnstrdup(name, end - name))));
	appendStringInfoString(out, value);
	return end + 1;
}

static char *
fill_argument(const char *template, Jsonb *arguments)
{
	StringInfoData out;

	initStringInfo(&out);
	for (const char *p = template; *p != '\0';)
	{
		if ((*p == '{' || *p == '}') && p[1] == *p)
		{
			appendStringInfoChar(&out, *p);
			p += 2;
		}
		else if (*p == '{')
			p = put_value(&out, p + 1, arguments);
		else
			appendStringInfoChar(&out, *p++);
		if (out.len > MAX_ARGUMENT)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("an argument of the program is longer than %d bytes", MAX_ARGUMENT),
					 errhint("Give it to the program by its standard input.")));
	}
	return out.data;
}

static const char **
fill_arguments(Jsonb *program, Jsonb *arguments)
{
	Jsonb	   *templates = goya_json_get(program, "arguments");
	int			n = goya_json_array_length(templates);
	const char **argv = palloc0(sizeof(char *) * (n + 2));
	size_t		total = 0;

	if (!goya_json_is_null(arguments) && !goya_json_is_object(arguments))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("arguments must be an object, got %s", goya_json_type_name(arguments))));
	argv[0] = goya_json_get_text(program, "path");
	for (int i = 0; i < n; i++)
	{
		argv[i + 1] = fill_argument(goya_json_as_text(goya_json_array_get(templates, i)), arguments);
		total += strlen(argv[i + 1]) + 1;
	}
	if (total > MAX_ARGUMENTS)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the program's arguments are longer than %d bytes", MAX_ARGUMENTS)));
	return argv;
}

/* ----- environment ----- */

static const char **
make_environment(Jsonb *program, const GoyaWork *w)
{
	Jsonb	   *listed = goya_json_get(program, "environment");
	int			n = goya_json_array_length(listed);
	const char **env = palloc0(sizeof(char *) * (n + 8));
	int			k = 0;

	for (int i = 0; i < n; i++)
	{
		char	   *name = goya_json_as_text(goya_json_array_get(listed, i));
		const char *value;

		if (strchr(name, '=') != NULL)
			env[k++] = name;
		else if ((value = getenv(name)) != NULL)
			env[k++] = psprintf("%s=%s", name, value);
	}
	env[k++] = "PATH=/usr/local/bin:/usr/bin:/bin";
	env[k++] = "LANG=C.UTF-8";
	env[k++] = psprintf("GOYA_TASK_ID=%s", goya_uuid_text(&w->task->id));
	env[k++] = psprintf("GOYA_NODE=%s", w->task->plan->nodes[w->node].key);
	env[k++] = psprintf("GOYA_IDEMPOTENCY_KEY=%s", goya_call_idempotency_key(w));
	if (w->task->trace_id != NULL)
		env[k++] = psprintf("GOYA_TRACE_ID=%s", w->task->trace_id);
	return env;
}

/* What runs the guard as another user: goya.cli_wrapper with {user} replaced. */
static const char **
make_wrapper(const char *os_user)
{
	char	   *text = pstrdup(goya_guc_cli_wrapper ? goya_guc_cli_wrapper : "");
	const char **argv = palloc0(sizeof(char *) * 65);
	char	   *word;
	int			n = 0;

	if (os_user == NULL)
		return NULL;
	while (n < 64 && (word = strsep(&text, " ")) != NULL)
		if (word[0] != '\0')
			argv[n++] = strcmp(word, "{user}") == 0 ? os_user : word;
	if (n == 0 || argv[0][0] != '/')
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("the program runs as user \"%s\", and goya.cli_wrapper does not say how", os_user),
				 errhint("Set it as in goya.cli_wrapper = '/usr/bin/sudo -n -u {user} --'.")));
	return argv;
}

/* ----- start ----- */

static int
timeout_of(Jsonb *program, const GoyaNode *n)
{
	int64		ms = goya_json_get_int(program, "timeout_ms", 300000);

	return (int) Min(Min(ms, n->timeout_ms > 0 ? n->timeout_ms : ms), INT_MAX);
}

static void
put_input(GoyaChildRequest *r, Jsonb *value)
{
	if (goya_json_is_null(value))
		return;
	r->input = goya_json_is_string(value) ? goya_json_as_text(value) : goya_json_to_cstring(value);
	r->input_len = strlen(r->input);
}

static bool
start_cli(GoyaExchange *x, GoyaBatch *b, const GoyaWork *w, GoyaNodeScope *scope, Jsonb *config)
{
	const GoyaNode *n = &w->task->plan->nodes[w->node];
	CliState   *state = palloc0(sizeof(CliState));
	GoyaChildRequest *r = palloc0(sizeof(GoyaChildRequest));
	Jsonb	   *program;

	if (!goya_guc_cli)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("programs are switched off"), errhint("A superuser switches them on with goya.cli.")));
	if (!goya_child_room())
	{
		x->pause_ms = 1000 + (long) (pg_prng_double(&pg_global_prng_state) * 500);
		return false;
	}
	state->program = goya_json_get_text(config, "program");
	state->node = pstrdup(n->key);
	program = load_program(state->program, w->task);
	r->argv = fill_arguments(program, goya_json_get(config, "arguments"));
	r->env = make_environment(program, w);
	r->wrapper = make_wrapper(goya_json_get_text(program, "os_user"));
	r->directory = goya_guc_cli_directory;
	put_input(r, goya_json_get(config, "stdin"));
	r->timeout_ms = timeout_of(program, n);
	r->max_output = goya_json_get_int(program, "output_kb", 1024) * 1024;
	r->memory_kb = goya_json_get_int(program, "memory_kb", -1);
	r->cpu_s = goya_json_get_int(program, "cpu_s", -1);
	r->file_kb = goya_json_get_int(program, "file_kb", -1);
	r->processes = goya_json_get_int(program, "processes", -1);
	r->progress_pattern = goya_json_get_text(program, "progress_pattern");
	x->state = state;
	x->child = r;
	return true;
}

/* ----- end ----- */

static Jsonb *
output_value(GoyaHttpResult *res)
{
	bool		is_text = memchr(res->body, '\0', res->body_len) == NULL && pg_verify_mbstr(GetDatabaseEncoding(), res->body, res->body_len, true);
	GoyaJsonObject o;
	Datum		parsed;
	char	   *error;

	if (res->body_len == 0)
		return goya_json_null();
	if (is_text)
		return goya_try_input(jsonb_in, res->body, &parsed, &error) ? DatumGetJsonbP(parsed) : goya_json_from_text_len(res->body, res->body_len);
	goya_json_object_start(&o);
	goya_json_add_int(&o, "size", res->body_len);
	goya_json_add_text(&o, "base64", TextDatumGetCString(DirectFunctionCall2(binary_encode, PointerGetDatum(cstring_to_text_with_len(res->body, res->body_len)),
																			 CStringGetTextDatum("base64"))));
	return goya_json_object_finish(&o);
}

static int
class_of_end(const GoyaChildResult *r)
{
	switch (r->http.outcome)
	{
		case GOYA_HTTP_TIMEOUT:
			return GOYA_ERR_TIMEOUT;
		case GOYA_HTTP_TOO_LARGE:
			return GOYA_ERR_RESOURCE_LIMIT;
		case GOYA_HTTP_CONNECT_FAILED:
			return GOYA_ERR_DEPENDENCY;
		case GOYA_HTTP_CANCELLED:
			return GOYA_ERR_UNKNOWN;
		default:
			break;
	}
	if (r->signal == SIGKILL || r->signal == SIGXCPU || r->signal == SIGXFSZ)
		return GOYA_ERR_RESOURCE_LIMIT; /* the kernel's, for want of memory, or by a limit */
	if (r->exit_code == 75)
		return GOYA_ERR_TRANSIENT;	/* EX_TEMPFAIL */
	if (r->exit_code >= 125 && r->exit_code <= 127 && strstr(r->errors, "goya-guard: ") != NULL)
		return GOYA_ERR_DEPENDENCY;
	return GOYA_ERR_TOOL_BUG;
}

static const char *
code_of(int error_class)
{
	return error_class == GOYA_ERR_TIMEOUT ? "57014" : error_class == GOYA_ERR_RESOURCE_LIMIT ? "54000" : error_class == GOYA_ERR_DEPENDENCY ? "58000" : "38000";
}

static void
fail_cli(GoyaOutcome *o, const CliState *state, const GoyaNode *n, const GoyaChildResult *r)
{
	char	   *message;

	o->ok = false;
	o->error_class = class_of_end(r);
	if (r->http.outcome != GOYA_HTTP_DONE)
		message = psprintf("program \"%s\": %s", state->program, r->http.error);
	else if (r->signal != 0)
		message = psprintf("program \"%s\" was ended by signal %d (%s)", state->program, r->signal, strsignal(r->signal));
	else
		message = psprintf("program \"%s\" ended with exit code %d", state->program, r->exit_code);
	if (r->http.outcome != GOYA_HTTP_DONE && r->http.sent && !n->idempotent)
		o->error_class = GOYA_ERR_UNKNOWN;	/* it may have had its effect */
	o->error = goya_error_make(code_of(o->error_class), o->error_class, message, r->errors[0] != '\0' ? r->errors : NULL, NULL);
	if (r->http.outcome == GOYA_HTTP_DONE && r->exit_code >= 0)
		o->error = goya_json_set(o->error, "exit_code", goya_json_from_int(r->exit_code));
	if (r->signal != 0)
		o->error = goya_json_set(o->error, "signal", goya_json_from_int(r->signal));
}

static void
judge_cli(GoyaExchange *x, GoyaHttpResult *last, GoyaBatch *b, const GoyaWork *w, GoyaNodeScope *scope, GoyaOutcome *o)
{
	const GoyaChildResult *r = (GoyaChildResult *) last;

	o->ok = last->outcome == GOYA_HTTP_DONE && r->exit_code == 0;
	if (o->ok)
		o->output = output_value(last);
	else
		fail_cli(o, x->state, &w->task->plan->nodes[w->node], r);
}

const GoyaExchangeType goya_cli_exchange = {.name = "cli",.start = start_cli,.judge = judge_cli};

/* ----- progress ----- */

typedef struct News
{
	GoyaCalls  *calls;
	GoyaRows   *rows;
} News;

/* {"progress": 0.4, "message": "…"} */
static void
read_progress(const char *text, double *percent, const char **message)
{
	Datum		parsed;
	char	   *error;
	double		share = -1;

	*percent = -1;
	*message = NULL;
	if (!goya_try_input(jsonb_in, text, &parsed, &error))
		return;
	*message = goya_json_get_text(DatumGetJsonbP(parsed), "message");
	share = goya_json_get_double(DatumGetJsonbP(parsed), "progress", -1);
	if (share >= 0)
		*percent = share * 100;
}

static void
add_news(uint64 id, double percent, const char *message, void *arg)
{
	News	   *news = arg;
	InFlight   *f = hash_search(news->calls->in_flight, &id, HASH_FIND, NULL);

	if (f == NULL || f->exchange == NULL || f->exchange->type != &goya_cli_exchange)
		return;
	if (percent == -2)
		read_progress(message, &percent, &message);
	if (percent < 0 && message == NULL)
		return;
	goya_rows_add(news->rows);
	goya_rows_uuid(news->rows, 0, &f->task);
	goya_rows_text(news->rows, 1, ((CliState *) f->exchange->state)->node);
	goya_rows_int4(news->rows, 2, f->item);
	goya_rows_int2(news->rows, 3, f->attempt);
	if (percent >= 0)
		goya_rows_text(news->rows, 4, psprintf("%.1f", Min(percent, 100)));
	goya_rows_text(news->rows, 5, message);
}

/* Until this has succeeded the news is lost, not late: the next is better. */
static void
write_news(GoyaCalls *c)
{
	static const Oid columns[] = {UUIDOID, TEXTOID, INT4OID, INT2OID, TEXTOID, TEXTOID};
	GoyaStoreScope scope;
	News		news = {c, goya_rows_create(6, columns)};

	goya_child_each_news(add_news, &news);
	if (news.rows->n == 0)
		return;
	goya_store_enter(&scope);
	goya_rows_run(GOYA_STMT_CALL_PROGRESS, news.rows);
	goya_store_leave(&scope);
}

static TimestampTz next_news;

/* When goya_cli_tell_progress has something to do. */
TimestampTz
goya_cli_next_news(void)
{
	return goya_child_has_news() ? next_news : DT_NOEND;
}

void
goya_cli_tell_progress(GoyaCalls *c)
{
	if (goya_cli_next_news() > GetCurrentTimestamp())
		return;
	next_news = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), NEWS_EVERY_MS);
	PG_TRY();
	{
		goya_worker_begin("recording progress");
		if (goya_worker_extension() != c->extension)
			proc_exit(0);
		write_news(c);
		goya_worker_commit();
	}
	PG_CATCH();
	{
		goya_worker_abort("recording progress");
	}
	PG_END_TRY();
}
