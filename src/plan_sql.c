/*-------------------------------------------------------------------------
 * plan_sql.c
 *		goya.validate_workflow and what else SQL asks of definitions and templates.
 *
 * Look-ups of operators, algorithms and kinds also say what rows say of them: schemas, status.
 * Look-ups run with the rights of the caller: whom a table is hidden from is told that the operator, workflow or price does not exist.
 * Functions are looked up in the system cache, which needs no rights and cannot fail on a name.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "hash.h"
#include "json_util.h"
#include "parser/scansup.h"
#include "plan_sql.h"
#include "schema_bundle.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(goya_validate_workflow_sql);
PG_FUNCTION_INFO_V1(goya_plan_nodes_sql);
PG_FUNCTION_INFO_V1(goya_eval_template_sql);

/* ---- remembered answers: a definition names the same things many times ---- */

typedef struct AnswerKey
{
	char		what;			/* o w p f */
	int			version;
	char		name[128];		/* longer names are asked every time */
} AnswerKey;

typedef struct Answer
{
	AnswerKey	key;
	int			result;
	char		mode[12];		/* of an operator */
} Answer;

typedef struct Lookups
{
	HTAB	   *answers;
} Lookups;

/* Room for the answer to a question; *known: it is there already.  scratch is used for a name too long to keep. */
static Answer *
find_answer(Lookups *l, char what, const char *name, int version, Answer *scratch, bool *known)
{
	AnswerKey	key;

	*known = false;
	if (strlen(name) >= sizeof(key.name))
	{
		memset(scratch, 0, sizeof(*scratch));
		return scratch;
	}
	memset(&key, 0, sizeof(key));
	key.what = what;
	key.version = version;
	strlcpy(key.name, name, sizeof(key.name));
	return hash_search(l->answers, &key, HASH_ENTER, known);
}

/* ---- tables, over SPI ---- */

/* The first column of the first row as text, NULL when there is none.  *plan is made on first use and kept. */
static char *
ask(SPIPlanPtr *plan, const char *sql, const char *name, int version)
{
	Oid			types[2] = {TEXTOID, INT4OID};
	Datum		args[2];

	if (*plan == NULL)
	{
		SPIPlanPtr	made = SPI_prepare(sql, 2, types);

		if (made == NULL || SPI_keepplan(made) != 0)
			elog(ERROR, "could not prepare a look-up: %s", SPI_result_code_string(SPI_result));
		*plan = made;
	}
	args[0] = CStringGetTextDatum(name);
	args[1] = Int32GetDatum(version);
	if (SPI_execute_plan(*plan, args, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "look-up failed");
	return SPI_processed > 0 ? SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1) : NULL;
}

static bool
operator_exists(const char *name, int version, char **mode, void *arg)
{
	static SPIPlanPtr plan = NULL;
	Answer		scratch;
	bool		known;
	Answer	   *a = find_answer(arg, 'o', name, version, &scratch, &known);

	if (!known)
	{
		char	   *found = ask(&plan,
								"SELECT v.mode FROM goya.operators o JOIN goya.operator_versions v ON v.operator_id = o.id"
								" WHERE o.tenant_id = goya.current_tenant() AND o.name = $1"
								" AND v.version = CASE WHEN $2 > 0 THEN $2 ELSE o.active_version END",
								name, version);

		a->result = found != NULL;
		strlcpy(a->mode, found ? found : "", sizeof(a->mode));
	}
	if (mode)
		*mode = pstrdup(a->mode);
	return a->result != 0;
}

static bool
workflow_exists(const char *name, void *arg)
{
	static SPIPlanPtr plan = NULL;
	Answer		scratch;
	bool		known;
	Answer	   *a = find_answer(arg, 'w', name, 0, &scratch, &known);

	if (!known)
		a->result = ask(&plan, "SELECT 'yes' FROM goya.workflows w WHERE w.tenant_id = goya.current_tenant() AND w.name = $1 AND $2 = 0",
						name, 0) != NULL;
	return a->result != 0;
}

static bool
price_exists(const char *name, void *arg)
{
	static SPIPlanPtr plan = NULL;
	Answer		scratch;
	bool		known;
	Answer	   *a = find_answer(arg, 'p', name, 0, &scratch, &known);

	if (!known)
		a->result = ask(&plan, "SELECT 'yes' FROM goya.prices p WHERE p.name = $1 AND $2 = 0"
						" AND (p.tenant_id IS NULL OR p.tenant_id = goya.current_tenant())", name, 0) != NULL;
	return a->result != 0;
}

/* ---- rows of capabilities: asked once per node, not remembered ---- */

/* All columns of the first row: a text, then values of jsonb.  False: there is no row. */
static bool
ask_row(SPIPlanPtr *plan, const char *sql, const char *name, int version, char **text, Jsonb **first, Jsonb **second)
{
	MemoryContext caller = CurrentMemoryContext;
	bool		isnull;
	Datum		value;
	Jsonb	  **outs[2] = {first, second};

	*text = ask(plan, sql, name, version);
	if (SPI_processed == 0)
		return false;
	for (int i = 0; i < 2 && outs[i] != NULL; i++)
	{
		value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, i + 2, &isnull);
		*outs[i] = isnull ? NULL : goya_json_copy(DatumGetJsonbP(value));
	}
	MemoryContextSwitchTo(caller);
	return true;
}

static bool
operator_facts(const char *name, int version, GoyaOperatorFacts *facts, void *arg)
{
	static SPIPlanPtr plan = NULL;

	return ask_row(&plan, "SELECT v.status, v.input_schema, v.output_schema FROM goya.operators o JOIN goya.operator_versions v ON v.operator_id = o.id"
				   " WHERE o.tenant_id = goya.current_tenant() AND o.name = $1 AND v.version = CASE WHEN $2 > 0 THEN $2 ELSE o.active_version END",
				   name, version, &facts->status, &facts->input_schema, &facts->output_schema);
}

static bool
algorithm_facts(const char *name, int version, GoyaOperatorFacts *facts, void *arg)
{
	static SPIPlanPtr plan = NULL;

	return ask_row(&plan, "SELECT (SELECT 'published' FROM goya.algorithm_implementations i JOIN goya.operators o ON o.tenant_id = i.tenant_id AND o.name = i.operator"
				   " JOIN goya.operator_versions p ON p.operator_id = o.id AND p.version = i.operator_version AND p.status = 'published'"
				   " WHERE i.tenant_id = v.tenant_id AND i.algorithm = v.algorithm AND i.version = v.version AND i.enabled LIMIT 1), v.input_schema, v.output_schema"
				   " FROM goya.algorithms a JOIN goya.algorithm_versions v ON v.tenant_id = a.tenant_id AND v.algorithm = a.name"
				   " WHERE a.tenant_id = goya.current_tenant() AND a.name = $1 AND v.version = CASE WHEN $2 > 0 THEN $2 ELSE a.active_version END",
				   name, version, &facts->status, &facts->input_schema, &facts->output_schema);
}

static const GoyaCustomKind *
node_kind(const char *name, void *arg)
{
	static SPIPlanPtr plan = NULL;
	GoyaCustomKind *kind = palloc0(sizeof(GoyaCustomKind));

	if (!ask_row(&plan, "SELECT k.function, k.schema FROM goya.node_kinds k WHERE k.tenant_id = goya.current_tenant() AND k.name = $1 AND $2 = 0", name, 0,
				 &kind->function, &kind->schema, NULL))
		return NULL;
	return kind;
}

/* ---- functions ---- */

/* One part of a name at *s, folded unless quoted; *s is moved behind it.  The compiler has checked the syntax. */
static char *
name_part(const char **s)
{
	const char *p = *s;
	char	   *part;

	if (*p == '"')
	{
		char	   *out = part = palloc(strlen(p) + 1);

		for (p++; *p != '\0' && (*p != '"' || p[1] == '"'); p++)
		{
			*out++ = *p;
			if (*p == '"')
				p++;
		}
		*out = '\0';
		if (*p == '"')
			p++;
		truncate_identifier(part, strlen(part), false);
	}
	else
	{
		while (*p != '\0' && *p != '.')
			p++;
		part = downcase_truncate_identifier(*s, p - *s, false);
	}
	*s = p;
	return part;
}

static int
check_found_function(HeapTuple tuple)
{
	Form_pg_proc proc = (Form_pg_proc) GETSTRUCT(tuple);
	int			result = proc->prokind != PROKIND_FUNCTION ? -1 : proc->proretset ? -2 : 1;

	ReleaseSysCache(tuple);
	return result;
}

/* Is there a function of that name with any arguments? */
static bool
name_is_taken(Oid schema, const char *name)
{
	CatCList   *list = SearchSysCacheList1(PROCNAMEARGSNSP, CStringGetDatum(name));
	bool		found = false;

	for (int i = 0; i < list->n_members && !found; i++)
		found = ((Form_pg_proc) GETSTRUCT(&list->members[i]->tuple))->pronamespace == schema;
	ReleaseSysCacheList(list);
	return found;
}

static int
look_up_function(const char *qualified)
{
	const char *s = qualified;
	char	   *schema_name = name_part(&s);
	char	   *name;
	Oid			schema;
	Oid			arg = JSONBOID;
	HeapTuple	tuple;

	if (*s == '.')
		s++;
	name = name_part(&s);
	schema = get_namespace_oid(schema_name, true);
	if (!OidIsValid(schema))
		return 0;
	tuple = SearchSysCache3(PROCNAMEARGSNSP, CStringGetDatum(name), PointerGetDatum(buildoidvector(&arg, 1)), ObjectIdGetDatum(schema));
	if (HeapTupleIsValid(tuple))
		return check_found_function(tuple);
	return name_is_taken(schema, name) ? -1 : 0;
}

static int
function_check(const char *name, void *arg)
{
	Answer		scratch;
	bool		known;
	Answer	   *a = find_answer(arg, 'f', name, 0, &scratch, &known);

	if (!known)
		a->result = look_up_function(name);
	return a->result;
}

static Jsonb *
bundle_schema(Jsonb *schema, void *arg)
{
	return goya_schema_bundle(schema);
}

void
goya_plan_sql_lookups(GoyaPlanLookups *lookups)
{
	Lookups    *l = palloc(sizeof(Lookups));

	l->answers = goya_hash_create("goya look-ups", 32, sizeof(AnswerKey), sizeof(Answer), CurrentMemoryContext);

	lookups->operator_exists = operator_exists;
	lookups->workflow_exists = workflow_exists;
	lookups->function_check = function_check;
	lookups->price_exists = price_exists;
	lookups->operator_facts = operator_facts;
	lookups->algorithm_facts = algorithm_facts;
	lookups->node_kind = node_kind;
	lookups->bundle_schema = bundle_schema;
	lookups->arg = l;
}

/* ---- SQL functions ---- */

static void
put_texts(ReturnSetInfo *rsinfo, int n, const char *const *texts)
{
	Datum		values[6];
	bool		nulls[6];

	for (int i = 0; i < n; i++)
	{
		nulls[i] = texts[i] == NULL;
		values[i] = nulls[i] ? (Datum) 0 : CStringGetTextDatum(texts[i]);
	}
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* validate_workflow(definition jsonb) → setof (severity, code, node, path, message, hint) */
Datum
goya_validate_workflow_sql(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Jsonb	   *definition = PG_ARGISNULL(0) ? NULL : PG_GETARG_JSONB_P(0);
	GoyaPlanLookups lookups;
	List	   *problems;
	ListCell   *lc;

	InitMaterializedSRF(fcinfo, 0);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	goya_plan_sql_lookups(&lookups);
	(void) goya_plan_compile(definition ? definition : goya_json_null(), false, CurrentMemoryContext, &lookups, &problems);
	foreach(lc, problems)
	{
		GoyaProblem *p = lfirst(lc);
		const char *texts[6] = {p->severity, p->code, p->node, p->path, p->message, p->hint};

		put_texts(rsinfo, 6, texts);
	}
	SPI_finish();
	return (Datum) 0;
}

static const char *
kind_name(GoyaNodeKind kind)
{
	static const char *const names[] = {
		[GOYA_NODE_NOOP] = "noop",[GOYA_NODE_TRANSFORM] = "transform",[GOYA_NODE_CONDITION] = "condition",[GOYA_NODE_MAP] = "map",[GOYA_NODE_AGENT] = "agent",
		[GOYA_NODE_SLEEP] = "sleep",[GOYA_NODE_WAIT] = "wait",[GOYA_NODE_APPROVAL] = "approval",
		[GOYA_NODE_WORKFLOW] = "workflow",[GOYA_NODE_SQL] = "sql",[GOYA_NODE_HTTP] = "http",
		[GOYA_NODE_WORKER] = "worker",[GOYA_NODE_AI_MODEL] = "ai_model",[GOYA_NODE_MCP] = "mcp",[GOYA_NODE_CLI] = "cli"
	};

	return names[kind];
}

/* plan_nodes(resolved jsonb) → setof (node int, key text, kind text, listed boolean, owner int) */
Datum
goya_plan_nodes_sql(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	List	   *problems;
	GoyaPlan   *plan;

	InitMaterializedSRF(fcinfo, 0);
	plan = goya_plan_compile(PG_GETARG_JSONB_P(0), true, CurrentMemoryContext, NULL, &problems);
	if (plan == NULL)
	{
		GoyaProblem *first = linitial(problems);

		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("bad definition: %s at \"%s\"", first->message, first->path),
				 errhint("goya.validate_workflow(definition) lists all problems.")));
	}
	for (int i = 0; i < plan->n_nodes; i++)
	{
		const GoyaNode *n = &plan->nodes[i];
		Datum		values[5] = {Int32GetDatum(i), CStringGetTextDatum(n->key), CStringGetTextDatum(kind_name(n->kind)),
		BoolGetDatum(!n->hidden), Int32GetDatum(n->owner)};
		bool		nulls[5] = {false, false, false, false, n->owner < 0};

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	MemoryContextDelete(plan->cxt);
	return (Datum) 0;
}

/* A scope over an object of roots. */
static Jsonb *
object_root(GoyaScope *scope, GoyaRoot root, int node)
{
	static const char *const names[GOYA_N_ROOTS] = {
		[GOYA_ROOT_INPUT] = "input",[GOYA_ROOT_ASSET] = "asset",[GOYA_ROOT_TASK] = "task",[GOYA_ROOT_TRIGGER] = "trigger",
		[GOYA_ROOT_EVENT] = "event",[GOYA_ROOT_PAYLOAD] = "payload",[GOYA_ROOT_SLOT] = "slot"
	};

	return names[root] ? goya_json_get(scope->arg, names[root]) : NULL;
}

/* eval_template(template jsonb, roots jsonb) → jsonb */
Datum
goya_eval_template_sql(PG_FUNCTION_ARGS)
{
	const uint32 allowed = GOYA_ROOT_BIT(GOYA_ROOT_INPUT) | GOYA_ROOT_BIT(GOYA_ROOT_ASSET) | GOYA_ROOT_BIT(GOYA_ROOT_TASK) |
		GOYA_ROOT_BIT(GOYA_ROOT_TRIGGER) | GOYA_ROOT_BIT(GOYA_ROOT_EVENT) | GOYA_ROOT_BIT(GOYA_ROOT_PAYLOAD) |
		GOYA_ROOT_BIT(GOYA_ROOT_SLOT);
	GoyaScope	scope = {.value = object_root,.arg = PG_GETARG_JSONB_P(1)};
	GoyaRefs	refs = {0};
	GoyaTemplate *t;
	JsonbValue	view;
	char	   *error;

	goya_json_view(PG_GETARG_JSONB_P(0), &view);
	t = goya_template_compile(&view, allowed, NULL, NULL, &refs, &error);
	if (t == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("bad template: %s", error),
				 errhint("Paths look like {{ event.name }} or {{ $.payload.items[*].id }}.")));
	PG_RETURN_JSONB_P(goya_template_eval(t, &scope));
}
