/* node_http.h - what node_http.c (one plain request) and exchange_http*.c (more than that) share.  See node_http.c. */
#ifndef GOYA_NODE_HTTP_H
#define GOYA_NODE_HTTP_H

#include "exchange.h"
#include "json_util.h"

/* In the claiming transaction. */
extern void goya_node_http_target(GoyaHttpRequest *req, const GoyaWork *w, GoyaNodeScope *scope);
extern Jsonb *goya_node_http_body(const GoyaHttpRequest *req, const GoyaNode *n, GoyaNodeScope *scope);
extern void goya_node_http_headers(GoyaHttpRequest *req, const GoyaWork *w, GoyaNodeScope *scope, const char *content_type);

/* Of an answer. */
extern bool goya_node_http_is_text(const GoyaHttpResult *res);
extern Jsonb *goya_node_http_value(const GoyaHttpResult *res);
extern void goya_node_http_judge(GoyaBatch *b, const GoyaWork *w, GoyaHttpResult *res, Jsonb *body, GoyaJsonObject *more, GoyaOutcome *o);
extern Jsonb *goya_node_http_output(GoyaBatch *b, const GoyaWork *w, Jsonb *body);

/* exchange_http_callback.c: also for node_wait.c. */
extern bool goya_http_callback_take(GoyaBatch *b, const GoyaWork *w, GoyaOutcome *o);

#endif
