/*-------------------------------------------------------------------------
 * node_cli.h
 *		cli nodes: what calls.c and exchange.c need of them.  See node_cli.c.
 *-------------------------------------------------------------------------
 */
#ifndef GOYA_NODE_CLI_H
#define GOYA_NODE_CLI_H

#include "calls.h"
#include "exchange.h"

extern const GoyaExchangeType goya_cli_exchange;

/* A few times a second at most: what running programs say of their progress becomes their node runs'. */
extern void goya_cli_tell_progress(GoyaCalls *c);
extern TimestampTz goya_cli_next_news(void);

#endif
