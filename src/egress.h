/* egress.h - which addresses the outside calls of a tenant may reach.  See egress.c (rules from the table) and egress_match.c (the decision). */
#ifndef GOYA_EGRESS_H
#define GOYA_EGRESS_H

#include "postgres.h"
#include "utils/uuid.h"

struct sockaddr;

/* A tenant's rules, malloc'd, never changed once made, shared by reference: also read by the thread of transfers. */
typedef struct GoyaEgress GoyaEgress;

/* One rule as it is read. */
typedef struct GoyaEgressRule
{
	int64		id;
	bool		by_admin;		/* decides what is allowed at all; a tenant's own only narrow that */
	bool		allow;
	bool		http;			/* for these schemes */
	bool		https;
	int			port_from;
	int			port_to;
	const char *host;			/* lower-case pattern with *; NULL: any */
	int			bits;			/* of network; -1: any address */
	bool		v4;
	uint8		network[16];	/* of IPv4 the first four */
} GoyaEgressRule;

/* What a connection is for and where it goes. */
typedef struct GoyaEgressTarget
{
	bool		https;
	const char *host;			/* as in the url, lower case, ASCII, no brackets, no dot at the end */
	int			port;
	const struct sockaddr *address;
} GoyaEgressTarget;

/* egress_match.c: never throw, nothing of PostgreSQL's.  NULL rules: the settings alone decide. */
extern GoyaEgress *goya_egress_make(const GoyaEgressRule *rules, int n);	/* NULL: no memory */
extern GoyaEgress *goya_egress_hold(GoyaEgress *e);
extern void goya_egress_release(GoyaEgress *e);
extern bool goya_egress_allows(const GoyaEgress *e, const GoyaEgressTarget *t, int64 *rule);	/* rule: which decided, 0: none */
extern bool goya_egress_host_fits(const char *pattern, const char *host);

/* egress.c: the tenant's rules as of now, held until cxt is reset; NULL: there are none.  In a transaction; throws. */
extern GoyaEgress *goya_egress_for(const pg_uuid_t *tenant, MemoryContext cxt);

#endif
