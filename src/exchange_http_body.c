/*-------------------------------------------------------------------------
 * exchange_http_body.c
 *		Bodies of requests by body_type: json, form, multipart, text, binary.
 *
 * A part of a multipart form and a binary body are bytes: {"base64": …}, {"text": …}, {"json": …} or {"asset_id": …}, the inline bytes of an asset
 * that the task's role may see.  Runs in the claiming transaction; what is wrong with a body is the node's error.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/builtins.h"

#include "exchange_http.h"

#define BOUNDARY_BYTES 18

/* Bytes, and what they are said to be. */
typedef struct Part
{
	char	   *data;
	size_t		len;
	char	   *type;			/* NULL: not said */
	char	   *filename;		/* NULL: a plain field */
} Part;

static void
decode_base64(Part *part, const char *text)
{
	bytea	   *bytes = DatumGetByteaPP(DirectFunctionCall2(binary_decode, CStringGetTextDatum(text), CStringGetTextDatum("base64")));

	part->data = VARDATA_ANY(bytes);
	part->len = VARSIZE_ANY_EXHDR(bytes);
}

static void
set_text(Part *part, char *text)
{
	part->data = text;
	part->len = strlen(text);
}

/* An object that says where the bytes are; false: it is none. */
static bool
read_part(Part *part, const GoyaWork *w, const Jsonb *value)
{
	char	   *text;

	memset(part, 0, sizeof(*part));
	if (!goya_json_is_object(value))
		return false;
	if ((text = goya_json_get_text(value, "base64")) != NULL)
		decode_base64(part, text);
	else if ((text = goya_json_get_text(value, "text")) != NULL)
		set_text(part, text);
	else if (goya_json_has(value, "json"))
	{
		set_text(part, goya_json_to_cstring(goya_json_get(value, "json")));
		part->type = "application/json";
	}
	else if ((text = goya_json_get_text(value, "asset_id")) != NULL)
	{
		if (!goya_http_asset_bytes(w, text, &part->data, &part->len, &part->type, &part->filename))
			ereport(ERROR,
					(errcode(GOYA_ERR_NOT_FOUND), errmsg("asset %s has no bytes to send", text),
					 errdetail("It does not exist, the task's role does not see it, or its content is not inline."),
					 errhint("Bytes of up to 1 MB are inline when they are given as content of the asset.")));
	}
	else
		return false;
	if ((text = goya_json_get_text(value, "filename")) != NULL)
		part->filename = text;
	if ((text = goya_json_get_text(value, "media_type")) != NULL)
		part->type = text;
	return true;
}

static void
refuse_body(const char *type, const char *wanted, const Jsonb *body)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a body of type %s must be %s, got %s", type, wanted, goya_json_type_name(body))));
}

/* ---- form ---- */

static void
add_pair(StringInfo s, const char *name, const Jsonb *value)
{
	char	   *text = goya_json_as_text(value);

	if (text == NULL)
		return;
	appendStringInfo(s, "%s%s=%s", s->len > 0 ? "&" : "", goya_http_url_escape(name, strlen(name), true), goya_http_url_escape(text, strlen(text), true));
}

/* An array is the name again and again; null is left out. */
static void
put_form(GoyaHttpRequest *req, const Jsonb *body)
{
	StringInfoData s;

	if (!goya_json_is_object(body))
		refuse_body("form", "an object", body);
	initStringInfo(&s);
	for (int i = 0; i < goya_json_object_length(body); i++)
	{
		char	   *name = goya_json_object_key(body, i);
		Jsonb	   *value = goya_json_object_value(body, i);

		if (!goya_json_is_array(value))
			add_pair(&s, name, value);
		for (int j = 0; j < goya_json_array_length(value); j++)
			add_pair(&s, name, goya_json_array_get(value, j));
	}
	req->body = s.data;
	req->body_len = s.len;
}

/* ---- multipart ---- */

/* A name in a header of a part, as browsers write it. */
static void
append_quoted(StringInfo s, const char *text)
{
	for (; *text; text++)
	{
		if (*text == '"')
			appendStringInfoString(s, "%22");
		else if (*text == '\r')
			appendStringInfoString(s, "%0D");
		else if (*text == '\n')
			appendStringInfoString(s, "%0A");
		else
			appendStringInfoChar(s, *text);
	}
}

static void
append_part(StringInfo s, const char *boundary, const char *name, const GoyaWork *w, const Jsonb *value)
{
	Part		part;
	char	   *text;

	if (!read_part(&part, w, value))
	{
		text = goya_json_as_text(value);
		if (text == NULL)
			return;
		set_text(&part, text);
		if (goya_json_is_object(value))
			part.type = "application/json";
	}
	else if (part.filename == NULL && part.type == NULL)
		part.filename = pstrdup(name);
	if (part.type != NULL && strpbrk(part.type, "\r\n") != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the media_type of part \"%s\" has a line break", name)));
	appendStringInfo(s, "--%s\r\nContent-Disposition: form-data; name=\"", boundary);
	append_quoted(s, name);
	if (part.filename != NULL)
	{
		appendStringInfoString(s, "\"; filename=\"");
		append_quoted(s, part.filename);
	}
	appendStringInfoString(s, "\"\r\n");
	if (part.type != NULL || part.filename != NULL)
		appendStringInfo(s, "Content-Type: %s\r\n", part.type ? part.type : "application/octet-stream");
	appendStringInfoString(s, "\r\n");
	appendBinaryStringInfo(s, part.data, part.len);
	appendStringInfoString(s, "\r\n");
}

static char *
make_boundary(void)
{
	uint8		random[BOUNDARY_BYTES];
	char	   *text = palloc0(BOUNDARY_BYTES * 2 + 1);

	if (!pg_strong_random(random, sizeof(random)))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("no random numbers for a boundary")));
	for (int i = 0; i < BOUNDARY_BYTES; i++)
		sprintf(text + i * 2, "%02x", random[i]);
	return text;
}

static const char *
put_multipart(GoyaHttpRequest *req, const GoyaWork *w, const Jsonb *body)
{
	char	   *boundary = make_boundary();
	StringInfoData s;

	if (!goya_json_is_object(body))
		refuse_body("multipart", "an object", body);
	initStringInfo(&s);
	for (int i = 0; i < goya_json_object_length(body); i++)
	{
		char	   *name = goya_json_object_key(body, i);
		Jsonb	   *value = goya_json_object_value(body, i);

		if (!goya_json_is_array(value))
			append_part(&s, boundary, name, w, value);
		for (int j = 0; j < goya_json_array_length(value); j++)
			append_part(&s, boundary, name, w, goya_json_array_get(value, j));
	}
	appendStringInfo(&s, "--%s--\r\n", boundary);
	req->body = s.data;
	req->body_len = s.len;
	return psprintf("multipart/form-data; boundary=%s", boundary);
}

/* ---- text, binary, json ---- */

static const char *
put_binary(GoyaHttpRequest *req, const GoyaWork *w, const Jsonb *body)
{
	Part		part = {0};

	if (goya_json_is_string(body))
		decode_base64(&part, goya_json_as_text(body));
	else if (!read_part(&part, w, body))
		refuse_body("binary", "base64 text or an object with base64 or asset_id", body);
	if (part.type != NULL && strpbrk(part.type, "\r\n") != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the media_type of a body has a line break")));
	req->body = part.data;
	req->body_len = part.len;
	return part.type ? part.type : "application/octet-stream";
}

static void
put_text(GoyaHttpRequest *req, char *text)
{
	req->body = text ? text : "";
	req->body_len = strlen(req->body);
}

const char *
goya_http_put_body(GoyaHttpRequest *req, const GoyaWork *w, Jsonb *body, const char *type)
{
	if (type == NULL)
	{
		put_text(req, goya_json_is_string(body) ? goya_json_as_text(body) : goya_json_to_cstring(body));
		return "application/json";
	}
	if (strcmp(type, "form") == 0)
	{
		put_form(req, body);
		return "application/x-www-form-urlencoded";
	}
	if (strcmp(type, "multipart") == 0)
		return put_multipart(req, w, body);
	if (strcmp(type, "binary") == 0)
		return put_binary(req, w, body);
	if (strcmp(type, "text") == 0)
	{
		put_text(req, goya_json_as_text(body));
		return "text/plain; charset=utf-8";
	}
	put_text(req, goya_json_to_cstring(body));
	return "application/json";
}
