/*-------------------------------------------------------------------------
 * model_schema.c
 *		Does the text of an answer fit the node's JSON Schema; and what the model is told when it does not.
 *
 * Models put JSON into a Markdown fence more often than not, so one around the whole answer is taken off.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "json_util.h"
#include "model.h"

#define MAX_ERRORS	8

static bool
is_blank(char c)
{
	return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/* Without blanks and a fence around it. */
static void
strip(const char **text, size_t *len)
{
	const char *begin = *text;
	const char *end = begin + *len;

	while (begin < end && is_blank(*begin))
		begin++;
	while (end > begin && is_blank(end[-1]))
		end--;
	if (end - begin > 6 && memcmp(begin, "```", 3) == 0 && memcmp(end - 3, "```", 3) == 0)
	{
		const char *line = memchr(begin, '\n', end - begin);

		if (line != NULL)
			begin = line + 1;
		end -= 3;
	}
	*text = begin;
	*len = Max(end - begin, 0);
}

static List *
one_error(const char *message)
{
	GoyaSchemaError *e = palloc0(sizeof(GoyaSchemaError));

	e->path = "";
	e->message = pstrdup(message);
	return list_make1(e);
}

/* The answer as JSON is in call->value when it fits; else *errors, a List of GoyaSchemaError*. */
bool
goya_model_fits(GoyaModelCall *call, List **errors)
{
	const char *text = call->answer->text.data;
	size_t		len = call->answer->text.len;
	char	   *error;

	strip(&text, &len);
	call->value = goya_model_parse(text, len, &error);
	if (call->value == NULL)
		*errors = one_error(psprintf("it is not JSON: %s", error));
	else
		*errors = goya_schema_check(call->schema, call->value, MAX_ERRORS);
	return *errors == NIL;
}

static char *
errors_text(List *errors)
{
	StringInfoData s;
	ListCell   *lc;

	initStringInfo(&s);
	foreach(lc, errors)
	{
		GoyaSchemaError *e = lfirst(lc);

		appendStringInfo(&s, "- %s: %s\n", e->path[0] ? e->path : "/", e->message);
	}
	return s.data;
}

static Jsonb *
message(const char *role, const char *content)
{
	GoyaJsonObject o;

	goya_json_object_start(&o);
	goya_json_add_text(&o, "role", role);
	goya_json_add_text(&o, "content", content);
	return goya_json_object_finish(&o);
}

/* What was said, what was answered, and what is wrong with it. */
Jsonb *
goya_model_repair_messages(Jsonb *messages, const char *answer, List *errors)
{
	int			n = goya_json_array_length(messages);
	Jsonb	  **all = palloc(sizeof(Jsonb *) * (n + 2));

	for (int i = 0; i < n; i++)
		all[i] = goya_json_array_get(messages, i);
	all[n] = message("assistant", answer);
	all[n + 1] = message("user", psprintf("Your answer does not fit the JSON Schema it must have:\n%sAnswer again, with the corrected JSON only.",
										  errors_text(errors)));
	return goya_json_array(n + 2, all);
}
