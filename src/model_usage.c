/*-------------------------------------------------------------------------
 * model_usage.c
 *		How many tokens an answer says it took.
 *
 * Services tell it in these shapes, at the top of an answer or of a piece of a stream, or in its "message":
 *
 *		{"usage": {"prompt_tokens", "completion_tokens"}}		OpenAI and most others; some without "usage" around it
 *		{"usage": {"input_tokens", "output_tokens"}}
 *		{"usageMetadata": {"promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount"}}
 *		{"timings": {"cache_n", "prompt_n", "predicted_n"}}		llama.cpp, when there is nothing else
 *
 * In a stream the later piece is right: numbers grow.  Negative and absurd numbers are not believed.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "json_util.h"
#include "model.h"

#define MAX_TOKENS	INT64CONST(1000000000)

/* The first of the names that holds a believable number, or -1. */
static int64
count_of(Jsonb *doc, const char *const *names)
{
	for (; *names != NULL; names++)
	{
		int64		n = goya_json_get_int(doc, *names, -1);

		if (n >= 0 && n <= MAX_TOKENS)
			return n;
	}
	return -1;
}

static void
read_counts(GoyaModelUsage *u, Jsonb *doc)
{
	static const char *const input[] = {"prompt_tokens", "input_tokens", "promptTokenCount", NULL};
	static const char *const output[] = {"completion_tokens", "output_tokens", "candidatesTokenCount", NULL};
	int64		in = count_of(doc, input);
	int64		out = count_of(doc, output);
	int64		thoughts = goya_json_get_int(doc, "thoughtsTokenCount", 0);

	if (out >= 0 && thoughts > 0 && thoughts <= MAX_TOKENS)
		out += thoughts;
	if (in >= 0)
		u->input = in;
	if (out >= 0)
		u->output = out;
}

static void
read_timings(GoyaModelUsage *u, Jsonb *timings)
{
	int64		read = goya_json_get_int(timings, "prompt_n", -1);
	int64		cached = goya_json_get_int(timings, "cache_n", 0);
	int64		said = goya_json_get_int(timings, "predicted_n", -1);

	if (u->input < 0 && read >= 0 && read <= MAX_TOKENS)
		u->input = read + (cached > 0 && cached <= MAX_TOKENS ? cached : 0);
	if (u->output < 0 && said >= 0 && said <= MAX_TOKENS)
		u->output = said;
}

void
goya_model_usage_read(GoyaModelUsage *u, Jsonb *doc)
{
	static const char *const places[] = {"usage", "usageMetadata", "message", NULL};

	if (!goya_json_is_object(doc))
		return;
	read_counts(u, doc);
	for (const char *const *place = places; *place != NULL; place++)
	{
		Jsonb	   *inner = goya_json_get(doc, *place);

		if (!goya_json_is_object(inner))
			continue;
		if (strcmp(*place, "message") == 0)
			inner = goya_json_get(inner, "usage");
		read_counts(u, inner);
	}
	read_timings(u, goya_json_get(doc, "timings"));
}

/* Of what is known. */
void
goya_model_usage_add(GoyaModelUsage *sum, const GoyaModelUsage *more)
{
	if (more->input >= 0)
		sum->input = Max(sum->input, 0) + more->input;
	if (more->output >= 0)
		sum->output = Max(sum->output, 0) + more->output;
}

/* A rule of thumb, for what nobody has counted. */
int64
goya_model_tokens_of_bytes(int64 bytes)
{
	return (bytes + 3) / 4;
}
