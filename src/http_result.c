/*-------------------------------------------------------------------------
 *
 * http_result.c
 *	  How a transfer ended, and the result the engine takes.
 *
 * One rule decides most: if nothing was sent, the end is a failure to connect
 * and may be tried again; once the request may have gone out it is a timeout
 * or broken, and trying again is the caller's decision.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "http_internal.h"

/* What curl's code and the callbacks' flags mean together. */
GoyaHttpOutcome
goya_http_classify_end(GoyaHttpTransfer *t, CURLcode code)
{
	if (code == CURLE_OK)
		return GOYA_HTTP_DONE;
	if (t->stop == STOP_TOO_LARGE || code == CURLE_FILESIZE_EXCEEDED)
		return GOYA_HTTP_TOO_LARGE;
	if (t->stop == STOP_DENIED)
		return GOYA_HTTP_DENIED;
	/* curl's clock and ours may differ by a rounding */
	if (t->stop == STOP_NONE && code == CURLE_OPERATION_TIMEDOUT &&
		(t->sent || goya_http_now_ms() - t->started_at >= t->timeout_ms - 5))
		return GOYA_HTTP_TIMEOUT;
	if (t->sent)
		return GOYA_HTTP_BROKEN;
	if (code == CURLE_URL_MALFORMAT || code == CURLE_UNSUPPORTED_PROTOCOL)
		return GOYA_HTTP_BAD_URL;
	if (t->denied && !t->opened)
		return GOYA_HTTP_DENIED;
	return GOYA_HTTP_CONNECT_FAILED;
}

void
goya_http_describe_end(GoyaHttpTransfer *t, GoyaHttpOutcome outcome, CURLcode code, char *error, size_t size)
{
	if (outcome == GOYA_HTTP_TOO_LARGE)
		snprintf(error, size, "the response is larger than %zu bytes or its headers than %d",
				 t->max_response, MAX_HEADER_BYTES);
	else if (outcome == GOYA_HTTP_DENIED && t->rule != 0)
		snprintf(error, size, "calls to %s at address %s, port %d are denied by egress rule %lld", t->host ? t->host : "", t->address, t->port,
				 (long long) t->rule);
	else if (outcome == GOYA_HTTP_DENIED)
		snprintf(error, size, "calls to address %s are not allowed", t->address);
	else if (t->stop == STOP_RESEND)
		snprintf(error, size, "the connection was lost before an answer "
				 "and the request must not be repeated by itself");
	else if (t->stop == STOP_NO_MEMORY)
		snprintf(error, size, "out of memory for the response");
	else if (t->no_fd && outcome == GOYA_HTTP_CONNECT_FAILED)
		snprintf(error, size, "no file descriptors left (%d sockets open)", t->http->sockets);
	else
		strlcpy(error, t->curl_error[0] ? t->curl_error : curl_easy_strerror(code), size);
}

void
goya_http_free_transfer(GoyaHttpTransfer *t)
{
	curl_slist_free_all(t->headers);
	goya_egress_release(t->request.egress);
	free(t->host);
	if (t->request.secret && t->block != NULL)
		explicit_bzero(t->block, t->block_size);
	free(t->block);
	free(t->head.data);
	free(t->content.data);
	free(t);
}

static char *
copy_text(const char *text)
{
	char	   *copy = pstrdup(text);

	goya_http_clean_text(copy);
	return copy;
}

/* Splits the header lines, and finds the two that the caller wants parsed. */
static void
copy_headers(GoyaHttpResult *r, const GoyaHttpTransfer *t)
{
	const char *line = t->head.data;

	r->headers = palloc((t->nheaders + 1) * sizeof(char *));
	for (int i = 0; i < t->nheaders; i++)
	{
		const char *value;

		r->headers[i] = copy_text(line);
		value = goya_http_header_value(r->headers[i], "Content-Type");
		if (value)
			r->content_type = pstrdup(value);
		value = goya_http_header_value(r->headers[i], "Retry-After");
		if (value)
			r->retry_after_ms = goya_http_parse_retry_after(value, time(NULL));
		line += strlen(line) + 1;
	}
	r->headers[t->nheaders] = NULL;
	r->nheaders = t->nheaders;
}

GoyaHttpResult *
goya_http_take(GoyaHttp *h)
{
	GoyaHttpTransfer *t;
	GoyaHttpResult *r;

	if (dlist_is_empty(&h->results))
		return NULL;
	t = dlist_head_element(GoyaHttpTransfer, node, &h->results);

	r = palloc0(sizeof(GoyaHttpResult));
	r->id = t->id;
	r->outcome = t->outcome;
	r->status = t->status;
	r->seconds = t->seconds;
	r->sent = t->sent;
	r->retry_after_ms = -1;
	copy_headers(r, t);
	r->body = palloc(t->content.len + 1);
	if (t->content.len > 0)
		memcpy(r->body, t->content.data, t->content.len);
	r->body[t->content.len] = '\0';
	r->body_len = t->content.len;
	if (t->outcome != GOYA_HTTP_DONE)
		r->error = copy_text(t->error);

	/* Nothing throws from here on. */
	dlist_delete(&t->node);
	goya_http_free_transfer(t);
	return r;
}
