/*-------------------------------------------------------------------------
 * egress_match.c
 *		May this connection be made: the address against the settings and the rules of goya.egress_rules.
 *
 * What was decided.  Two questions, and both must be answered with yes:
 *
 * 1. Administrators' rules, in order; the first that fits decides.  Without one that fits, the settings decide (http_address.c): public
 *	  addresses only, unless goya.http_allow_loopback or goya.http_allow_private.  A rule that allows opens an address that the settings do
 *	  not only if it names a network: a name is whatever its owner's DNS says.
 * 2. The tenant's own rules, in order; the first that fits decides, without one yes.
 *
 * 0.0.0.0/8, ::, multicast and broadcast are never a destination.  A rule that denies a network denies every address that carries one of
 * it; one that allows it allows what is nothing else: an IPv4 network also those IPv6 addresses that are only another name of an IPv4
 * address (mapped, compatible, translated, NAT64), an IPv6 network never these.
 *
 * What must hold.  Runs in the thread of transfers, within libcurl's callbacks: malloc and plain C only, nothing throws.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include "port/atomics.h"

#include "egress.h"
#include "http.h"

struct GoyaEgress
{
	pg_atomic_uint32 refs;
	int			n;
	GoyaEgressRule rules[FLEXIBLE_ARRAY_MEMBER];	/* then their hosts */
};

GoyaEgress *
goya_egress_make(const GoyaEgressRule *rules, int n)
{
	size_t		size = offsetof(GoyaEgress, rules) + sizeof(GoyaEgressRule) * n;
	GoyaEgress *e;
	char	   *at;

	for (int i = 0; i < n; i++)
		size += rules[i].host ? strlen(rules[i].host) + 1 : 0;
	e = malloc(size);
	if (e == NULL)
		return NULL;
	pg_atomic_init_u32(&e->refs, 1);
	e->n = n;
	memcpy(e->rules, rules, sizeof(GoyaEgressRule) * n);
	at = (char *) &e->rules[n];
	for (int i = 0; i < n; i++)
	{
		if (rules[i].host == NULL)
			continue;
		strcpy(at, rules[i].host);
		e->rules[i].host = at;
		at += strlen(at) + 1;
	}
	return e;
}

GoyaEgress *
goya_egress_hold(GoyaEgress *e)
{
	if (e != NULL)
		pg_atomic_fetch_add_u32(&e->refs, 1);
	return e;
}

void
goya_egress_release(GoyaEgress *e)
{
	if (e != NULL && pg_atomic_sub_fetch_u32(&e->refs, 1) == 0)
		free(e);
}

/* * is any text, also none and also with dots; everything else is itself. */
bool
goya_egress_host_fits(const char *pattern, const char *host)
{
	const char *star = NULL;
	const char *from = NULL;

	while (*host)
	{
		if (*pattern == '*')
		{
			star = ++pattern;
			from = host;
		}
		else if (*pattern == *host)
		{
			pattern++;
			host++;
		}
		else if (star != NULL)
		{
			pattern = star;
			host = ++from;
		}
		else
			return false;
	}
	while (*pattern == '*')
		pattern++;
	return *pattern == '\0';
}

static bool
in_network(const GoyaEgressRule *r, const GoyaHttpAddressForm *form)
{
	const uint8 *address = form->bytes;
	int			bytes = r->bits / 8;
	int			rest = r->bits % 8;

	if (r->v4 != form->v4 || memcmp(r->network, address, bytes) != 0)
		return false;
	return rest == 0 || ((r->network[bytes] ^ address[bytes]) & (0xff << (8 - rest)) & 0xff) == 0;
}

/* What is known of a connection, beside its target. */
typedef struct Address
{
	GoyaHttpAddressForm forms[GOYA_HTTP_MAX_FORMS]; /* first what it really is, then what it also carries */
	int			n_forms;
	bool		by_settings;	/* the settings allow it */
} Address;

static bool
fits(const GoyaEgressRule *r, const GoyaEgressTarget *t, const Address *a)
{
	int			n = r->allow ? 1 : a->n_forms;

	if (!(t->https ? r->https : r->http) || t->port < r->port_from || t->port > r->port_to)
		return false;
	if (r->host != NULL && !goya_egress_host_fits(r->host, t->host))
		return false;
	if (r->bits < 0)
		return !r->allow || a->by_settings || !r->by_admin;
	for (int i = 0; i < n; i++)
		if (in_network(r, &a->forms[i]))
			return true;
	return false;
}

static const GoyaEgressRule *
first_fit(const GoyaEgress *e, bool by_admin, const GoyaEgressTarget *t, const Address *a)
{
	for (int i = 0; i < e->n; i++)
		if (e->rules[i].by_admin == by_admin && fits(&e->rules[i], t, a))
			return &e->rules[i];
	return NULL;
}

bool
goya_egress_allows(const GoyaEgress *e, const GoyaEgressTarget *t, int64 *rule)
{
	const GoyaEgressRule *r;
	Address		a;

	*rule = 0;
	if (e == NULL)
		return goya_http_address_allowed(t->address);
	a.n_forms = goya_http_address_forms(t->address, a.forms);
	if (a.n_forms == 0)
		return false;
	a.by_settings = goya_http_address_allowed(t->address);
	r = first_fit(e, true, t, &a);
	if (r != NULL ? !r->allow : !a.by_settings)
	{
		*rule = r ? r->id : 0;
		return false;
	}
	r = first_fit(e, false, t, &a);
	if (r == NULL || r->allow)
		return true;
	*rule = r->id;
	return false;
}
