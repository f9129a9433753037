/*-------------------------------------------------------------------------
 * model_answer.c
 *		What a service's answer says: whole, or the next piece of a stream.  Pure memory; what cannot be understood is a problem in the answer,
 *		never an ereport.
 *
 * Pieces are read in a context that is reset after each: what is kept of them goes into the answer's.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/base64.h"
#include "mb/pg_wchar.h"
#include "utils/fmgrprotos.h"

#include "json_util.h"
#include "model.h"
#include "try_input.h"

GoyaModelAnswer *
goya_model_answer_create(void)
{
	GoyaModelAnswer *a = palloc0(sizeof(GoyaModelAnswer));

	a->cxt = CurrentMemoryContext;
	initStringInfo(&a->text);
	initStringInfo(&a->reasoning);
	a->usage.input = a->usage.output = -1;
	return a;
}

/* NULL, with why in *error, when it is not JSON. */
Jsonb *
goya_model_parse(const char *text, size_t len, char **error)
{
	Datum		value;

	if (memchr(text, '\0', len) != NULL || !pg_verify_mbstr(GetDatabaseEncoding(), text, len, true))
	{
		*error = "it is not text";
		return NULL;
	}
	if (!goya_try_input(jsonb_in, pnstrdup(text, len), &value, error))
		return NULL;
	return DatumGetJsonbP(value);
}

/* ----- tool calls ----- */

static GoyaModelTool *
tool_at(GoyaModelAnswer *a, int64 index)
{
	MemoryContext old = MemoryContextSwitchTo(a->cxt);

	if (index < 0 || index >= GOYA_MODEL_MAX_TOOLS)
	{
		a->problem = psprintf("it calls more than %d tools", GOYA_MODEL_MAX_TOOLS);
		MemoryContextSwitchTo(old);
		return NULL;
	}
	if (a->tools == NULL)
		a->tools = palloc0(sizeof(GoyaModelTool) * GOYA_MODEL_MAX_TOOLS);
	for (; a->n_tools <= index; a->n_tools++)
	{
		initStringInfo(&a->tools[a->n_tools].id);
		initStringInfo(&a->tools[a->n_tools].name);
		initStringInfo(&a->tools[a->n_tools].arguments);
	}
	MemoryContextSwitchTo(old);
	return &a->tools[index];
}

static void
append_text(StringInfo s, Jsonb *value)
{
	char	   *text = goya_json_as_text(value);

	if (text != NULL)
		appendStringInfoString(s, text);
}

/* Of an answer, or of a piece: names and arguments come bit by bit. */
static void
read_tools(GoyaModelAnswer *a, Jsonb *calls)
{
	int			n = goya_json_array_length(calls);

	for (int i = 0; i < n && a->problem == NULL; i++)
	{
		Jsonb	   *call = goya_json_array_get(calls, i);
		Jsonb	   *function = goya_json_get(call, "function");
		GoyaModelTool *t = tool_at(a, goya_json_get_int(call, "index", i));

		if (t == NULL)
			return;
		if (t->id.len == 0)
			append_text(&t->id, goya_json_get(call, "id"));
		append_text(&t->name, goya_json_get(function, "name"));
		append_text(&t->arguments, goya_json_get(function, "arguments"));
	}
}

/* [{"id", "name", "arguments"}]; arguments that are not JSON stay a string.  NULL: none. */
Jsonb *
goya_model_answer_tools(const GoyaModelAnswer *a)
{
	Jsonb	  **calls = palloc(sizeof(Jsonb *) * Max(a->n_tools, 1));

	if (a->n_tools == 0)
		return NULL;
	for (int i = 0; i < a->n_tools; i++)
	{
		const GoyaModelTool *t = &a->tools[i];
		GoyaJsonObject o;
		char	   *error;
		Jsonb	   *arguments = t->arguments.len > 0 ? goya_model_parse(t->arguments.data, t->arguments.len, &error) : goya_json_parse("{}", 2);

		goya_json_object_start(&o);
		goya_json_add_text(&o, "id", t->id.len > 0 ? t->id.data : NULL);
		goya_json_add_text(&o, "name", t->name.data);
		goya_json_add(&o, "arguments", arguments ? arguments : goya_json_from_text(t->arguments.data));
		calls[i] = goya_json_object_finish(&o);
	}
	return goya_json_array(a->n_tools, calls);
}

/* ----- text ----- */

/* A string, or an array of parts. */
static void
append_content(StringInfo s, Jsonb *content)
{
	int			n = goya_json_array_length(content);

	if (goya_json_is_string(content))
		append_text(s, content);
	for (int i = 0; i < n; i++)
		append_text(s, goya_json_get(goya_json_array_get(content, i), "text"));
}

static void
read_message(GoyaModelAnswer *a, Jsonb *message)
{
	append_content(&a->text, goya_json_get(message, "content"));
	append_content(&a->text, goya_json_get(message, "refusal"));
	append_content(&a->reasoning, goya_json_get(message, "reasoning_content"));
	append_content(&a->reasoning, goya_json_get(message, "reasoning"));
	read_tools(a, goya_json_get(message, "tool_calls"));
}

static void
read_choice(GoyaModelAnswer *a, Jsonb *choice, const char *part)
{
	char	   *finish = goya_json_get_text(choice, "finish_reason");

	read_message(a, goya_json_get(choice, part));
	if (finish != NULL)
	{
		a->finish = MemoryContextStrdup(a->cxt, finish);
		a->ended = true;
	}
}

/* {"error": {"message"}} or {"error": "…"}: some say so with status 200, all in the midst of a stream. */
static bool
read_error(GoyaModelAnswer *a, Jsonb *doc)
{
	Jsonb	   *error = goya_json_get(doc, "error");
	char	   *message;

	if (error == NULL || goya_json_is_null(error))
		return false;
	message = goya_json_is_object(error) ? goya_json_get_text(error, "message") : goya_json_as_text(error);
	a->refusal = MemoryContextStrdup(a->cxt, message ? message : "it did not say why");
	return true;
}

static void
read_model(GoyaModelAnswer *a, Jsonb *doc)
{
	char	   *model = a->model == NULL ? goya_json_get_text(doc, "model") : NULL;

	if (model != NULL)
		a->model = MemoryContextStrdup(a->cxt, model);
	goya_model_usage_read(&a->usage, doc);
}

/* ----- vectors and images ----- */

static void
read_vectors(GoyaModelAnswer *a, Jsonb *data)
{
	int			n = goya_json_array_length(data);
	Jsonb	  **vectors = palloc0(sizeof(Jsonb *) * Max(n, 1));

	for (int i = 0; i < n; i++)
	{
		Jsonb	   *one = goya_json_array_get(data, i);
		int64		index = goya_json_get_int(one, "index", i);
		Jsonb	   *vector = goya_json_get(one, "embedding");

		if (index < 0 || index >= n || vectors[index] != NULL || !goya_json_is_array(vector))
		{
			a->problem = "its vectors are not numbered arrays";
			return;
		}
		vectors[index] = vector;
	}
	if (n == 0)
		a->problem = "it has no vectors";
	else
		a->vectors = goya_json_array(n, vectors);
}

/* Its first bytes tell. */
static const char *
media_type(const char *base64)
{
	return strncmp(base64, "/9j/", 4) == 0 ? "image/jpeg" : strncmp(base64, "UklGR", 5) == 0 ? "image/webp" : "image/png";
}

static void
read_images(GoyaModelAnswer *a, Jsonb *data)
{
	int			n = goya_json_array_length(data);
	Jsonb	  **images = palloc0(sizeof(Jsonb *) * Max(n, 1));

	for (int i = 0; i < n; i++)
	{
		Jsonb	   *one = goya_json_array_get(data, i);
		char	   *base64 = goya_json_get_text(one, "b64_json");
		GoyaJsonObject o;

		goya_json_object_start(&o);
		goya_json_add_text(&o, "url", goya_json_get_text(one, "url"));
		goya_json_add_text(&o, "base64", base64);
		if (base64 != NULL)
			goya_json_add_text(&o, "media_type", media_type(base64));
		goya_json_add_text(&o, "revised_prompt", goya_json_get_text(one, "revised_prompt"));
		images[i] = goya_json_object_finish(&o);
	}
	if (n == 0)
		a->problem = "it has no images";
	else
		a->images = goya_json_array(n, images);
}

/* An image that is no base64, or larger than an asset may be, stays as it came: it is paid for. */
static Jsonb *
spill_image(const GoyaWork *w, Jsonb *image)
{
	char	   *base64 = goya_json_get_text(image, "base64");
	int			room = base64 ? pg_b64_dec_len(strlen(base64)) : 0;
	char	   *bytes = palloc(room + 1);
	int			len = base64 ? pg_b64_decode(base64, strlen(base64), bytes, room) : -1;
	Jsonb	   *asset;

	if (len <= 0 || len > GOYA_ASSET_BYTES)
		return image;
	asset = goya_exchange_keep_bytes(w, bytes, len, media_type(base64));
	return goya_json_set(asset, "revised_prompt", goya_json_get(image, "revised_prompt"));
}

Jsonb *
goya_model_spill(const GoyaWork *w, Jsonb *output)
{
	Jsonb	   *images = goya_json_get(output, "images");
	int			n = images ? goya_json_array_length(images) : 0;
	Jsonb	  **kept = palloc(sizeof(Jsonb *) * Max(n, 1));

	for (int i = 0; i < n; i++)
		kept[i] = spill_image(w, goya_json_array_get(images, i));
	return n > 0 ? goya_json_set(output, "images", goya_json_array(n, kept)) : output;
}

/* ----- whole answers, and pieces ----- */

void
goya_model_answer_read(GoyaModelAnswer *a, GoyaModelOperation operation, const char *body, size_t len)
{
	char	   *error;
	Jsonb	   *doc = goya_model_parse(body, len, &error);
	Jsonb	   *choices;

	if (doc == NULL)
	{
		a->problem = psprintf("it is not JSON: %s", error);
		return;
	}
	read_model(a, doc);
	if (read_error(a, doc))
		return;
	switch (operation)
	{
		case GOYA_MODEL_EMBEDDING:
			read_vectors(a, goya_json_get(doc, "data"));
			break;
		case GOYA_MODEL_IMAGE:
			read_images(a, goya_json_get(doc, "data"));
			break;
		case GOYA_MODEL_CHAT:
			choices = goya_json_get(doc, "choices");
			if (goya_json_array_length(choices) > 0)
				read_choice(a, goya_json_array_get(choices, 0), "message");
			else
				a->problem = "it has no choices";
			break;
	}
	a->ended = true;
}

void
goya_model_answer_delta(GoyaModelAnswer *a, Jsonb *event)
{
	Jsonb	   *choices = goya_json_get(event, "choices");
	int			text = a->text.len;
	int			reasoning = a->reasoning.len;
	int			tools = a->n_tools > 0 ? a->tools[a->n_tools - 1].arguments.len + a->n_tools : 0;

	read_model(a, event);
	if (read_error(a, event))
		return;
	if (goya_json_array_length(choices) > 0)
		read_choice(a, goya_json_array_get(choices, 0), "delta");
	if (a->text.len > text || a->reasoning.len > reasoning ||
		(a->n_tools > 0 && a->tools[a->n_tools - 1].arguments.len + a->n_tools > tools))
		a->deltas++;
}
