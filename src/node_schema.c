/*-------------------------------------------------------------------------
 * node_schema.c
 *		Schemas of operators when a node runs: what goes in, what comes out.
 *
 * An input that does not fit fails the node before anything is called, with sqlstate 22023, so class VALIDATION.  An output that does not
 * fit is the operator's mistake: sqlstate 42804, class TOOL_BUG; thrown, so that what a function did is undone.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "batch.h"
#include "json_util.h"
#include "schema.h"

#define MAX_LISTED 10

static void
refuse(const GoyaNode *n, const char *what, int code, List *errors, const char *hint)
{
	StringInfoData detail;
	ListCell   *lc;

	initStringInfo(&detail);
	foreach(lc, errors)
	{
		GoyaSchemaError *e = lfirst(lc);

		appendStringInfo(&detail, "%s%s: %s", detail.len ? "\n" : "", e->path[0] ? e->path : what, e->message);
	}
	ereport(ERROR, (errcode(code), errmsg("the %s does not fit the %s schema of node \"%s\"", what, what, n->key), errdetail_internal("%s", detail.data),
					errhint("%s", hint)));
}

void
goya_node_check_input(const GoyaNode *n, Jsonb *input)
{
	List	   *errors = goya_schema_check(n->input_check, input, MAX_LISTED);

	if (errors != NIL)
		refuse(n, "input", ERRCODE_INVALID_PARAMETER_VALUE, errors, "Change the node's \"input\", or what comes before it.");
}

void
goya_node_check_output(const GoyaNode *n, Jsonb *output)
{
	List	   *errors = goya_schema_check(n->output_check, output, MAX_LISTED);

	if (errors != NIL)
		refuse(n, "output", ERRCODE_DATATYPE_MISMATCH, errors, "The operator does not keep its promise: mend it, or its output schema.");
}

/* {"config": …, "input": …}: what the function of a tenant's own kind gets. */
Jsonb *
goya_node_wrap_input(const GoyaNode *n, GoyaScope *scope, Jsonb *input)
{
	const char *keys[2] = {"config", "input"};
	Jsonb	   *values[2];

	values[0] = goya_template_eval(n->wrap, scope);
	values[1] = input;
	return goya_json_object(2, keys, values);
}
