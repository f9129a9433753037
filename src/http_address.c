/*-------------------------------------------------------------------------
 *
 * http_address.c
 *	  Which network addresses an outside call may reach.
 *
 * Workflows carry URLs written by tenants.  Without a check they could reach
 * what only this machine or its network may reach: the database's own ports,
 * a cloud's metadata service, an office printer.  The check is on the address
 * a socket is about to connect to, never on the name in the URL, so DNS
 * cannot get around it.
 *
 * What was decided (rules per tenant on top of it are in egress_match.c):
 *
 * - Two settings: goya.http_allow_loopback and goya.http_allow_private.
 *	 Private is everything that is not the public internet: RFC 1918,
 *	 link-local, shared (CGNAT), benchmark, documentation, reserved, and of
 *	 IPv6 all that is outside 2000::/3.
 *
 * - 0.0.0.0/8, ::, multicast and broadcast are never a destination; Linux
 *	 connects 0.0.0.0 to loopback.
 *
 * - An IPv6 address that carries an IPv4 address (mapped, compatible,
 *	 translated, NAT64 64:ff9b::/96, 6to4, ISATAP) is judged by the IPv4
 *	 address too: a host behind NAT64 can still call the internet and cannot
 *	 call 10.0.0.1 through it.  Forms that hide the address (Teredo, the
 *	 local-use NAT64 prefix) count as private.
 *
 * - Anything that is not IPv4 or IPv6 is denied.
 *
 * Called from within libcurl: nothing here may throw or allocate.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "http.h"

/* goya.http_allow_loopback and goya.http_allow_private, defined in guc.c. */
extern bool goya_guc_http_allow_loopback;
extern bool goya_guc_http_allow_private;

/* What has to be allowed before an address may be used; 0 is public. */
#define ADDRESS_PUBLIC		0
#define ADDRESS_PRIVATE		(1 << 0)
#define ADDRESS_LOOPBACK	(1 << 1)
#define ADDRESS_NEVER		(1 << 2)

typedef struct V4Range
{
	uint32		net;
	int			bits;
	int			needs;			/* ADDRESS_... */
} V4Range;

#define V4(a, b, c, d) \
	(((uint32) (a) << 24) | ((uint32) (b) << 16) | ((uint32) (c) << 8) | (uint32) (d))

static const V4Range v4_ranges[] = {
	{V4(0, 0, 0, 0), 8, ADDRESS_NEVER}, /* this host: Linux means loopback */
	{V4(10, 0, 0, 0), 8, ADDRESS_PRIVATE},
	{V4(100, 64, 0, 0), 10, ADDRESS_PRIVATE},	/* shared, CGNAT */
	{V4(127, 0, 0, 0), 8, ADDRESS_LOOPBACK},
	{V4(169, 254, 0, 0), 16, ADDRESS_PRIVATE},	/* link-local, metadata */
	{V4(172, 16, 0, 0), 12, ADDRESS_PRIVATE},
	{V4(192, 0, 0, 0), 24, ADDRESS_PRIVATE},	/* protocol assignments */
	{V4(192, 0, 2, 0), 24, ADDRESS_PRIVATE},	/* documentation */
	{V4(192, 88, 99, 0), 24, ADDRESS_PRIVATE},	/* 6to4 relay */
	{V4(192, 168, 0, 0), 16, ADDRESS_PRIVATE},
	{V4(198, 18, 0, 0), 15, ADDRESS_PRIVATE},	/* benchmarks */
	{V4(198, 51, 100, 0), 24, ADDRESS_PRIVATE}, /* documentation */
	{V4(203, 0, 113, 0), 24, ADDRESS_PRIVATE},	/* documentation */
	{V4(224, 0, 0, 0), 4, ADDRESS_NEVER},	/* multicast */
	{V4(255, 255, 255, 255), 32, ADDRESS_NEVER},	/* broadcast */
	{V4(240, 0, 0, 0), 4, ADDRESS_PRIVATE}, /* reserved */
};

static int
classify_v4(uint32 address)
{
	for (int i = 0; i < (int) lengthof(v4_ranges); i++)
	{
		uint32		mask = PG_UINT32_MAX << (32 - v4_ranges[i].bits);

		if ((address & mask) == v4_ranges[i].net)
			return v4_ranges[i].needs;
	}
	return ADDRESS_PUBLIC;
}

static bool
has_prefix(const uint8 *address, const uint8 *prefix, int bytes)
{
	return memcmp(address, prefix, bytes) == 0;
}

/* The four bytes at p as an IPv4 address. */
static uint32
v4_at(const uint8 *p)
{
	return V4(p[0], p[1], p[2], p[3]);
}

static const uint8 zero[16] = {0};
static const uint8 v6_loopback[16] = {[15] = 1};

/* Nothing but another name of the IPv4 address in its last four bytes. */
static bool
is_renamed_v4(const uint8 *a)
{
	static const uint8 mapped[12] = {[10] = 0xff,[11] = 0xff};
	static const uint8 translated[12] = {[8] = 0xff,[9] = 0xff};
	static const uint8 nat64[12] = {0x00, 0x64, 0xff, 0x9b};

	if (has_prefix(a, zero, 16) || has_prefix(a, v6_loopback, 16))
		return false;
	return has_prefix(a, mapped, 12) || has_prefix(a, translated, 12) || has_prefix(a, zero, 12) || has_prefix(a, nat64, 12);
}

static bool
is_sixtofour(const uint8 *a)
{
	static const uint8 prefix[2] = {0x20, 0x02};

	return has_prefix(a, prefix, 2);
}

/* An ISATAP interface id, below any prefix, is 0000:5efe or 0200:5efe. */
static bool
is_isatap(const uint8 *a)
{
	static const uint8 id[3] = {0x00, 0x5e, 0xfe};

	return (a[8] & ~0x02) == 0 && has_prefix(a + 9, id, 3);
}

static int
classify_v6(const uint8 *a)
{
	static const uint8 teredo[4] = {0x20, 0x01, 0x00, 0x00};
	static const uint8 documentation[4] = {0x20, 0x01, 0x0d, 0xb8};
	int			needs = ADDRESS_PUBLIC;

	if (has_prefix(a, zero, 16))
		return ADDRESS_NEVER;
	if (has_prefix(a, v6_loopback, 16))
		return ADDRESS_LOOPBACK;
	if (is_renamed_v4(a))
		return classify_v4(v4_at(a + 12));
	if (a[0] == 0xff)
		return ADDRESS_NEVER;	/* multicast */
	if (is_sixtofour(a))
		needs |= classify_v4(v4_at(a + 2));
	if (is_isatap(a))
		needs |= classify_v4(v4_at(a + 12));
	if (has_prefix(a, teredo, 4) || has_prefix(a, documentation, 4))
		needs |= ADDRESS_PRIVATE;
	if ((a[0] & 0xe0) != 0x20)	/* outside 2000::/3 */
		needs |= ADDRESS_PRIVATE;
	return needs;
}

static int
classify(const struct sockaddr *sa)
{
	if (sa->sa_family == AF_INET)
		return classify_v4(ntohl(((const struct sockaddr_in *) sa)->sin_addr.s_addr));
	if (sa->sa_family == AF_INET6)
		return classify_v6(((const struct sockaddr_in6 *) sa)->sin6_addr.s6_addr);
	return ADDRESS_NEVER;
}

static void
put_form(GoyaHttpAddressForm *form, bool v4, const void *bytes)
{
	form->v4 = v4;
	memset(form->bytes, 0, sizeof(form->bytes));
	memcpy(form->bytes, bytes, v4 ? 4 : 16);
}

/*
 * First what the address is, as IPv4 if it is an IPv4 address under another name, then the others that it carries or is written as.  How
 * many; 0: never a destination.
 */
int
goya_http_address_forms(const struct sockaddr *sa, GoyaHttpAddressForm *forms)
{
	const uint8 *a;
	int			n = 0;

	if (classify(sa) & ADDRESS_NEVER)
		return 0;
	if (sa->sa_family == AF_INET)
	{
		put_form(&forms[0], true, &((const struct sockaddr_in *) sa)->sin_addr);
		return 1;
	}
	a = ((const struct sockaddr_in6 *) sa)->sin6_addr.s6_addr;
	if (is_renamed_v4(a))
		put_form(&forms[n++], true, a + 12);
	put_form(&forms[n++], false, a);
	if (is_sixtofour(a))
		put_form(&forms[n++], true, a + 2);
	if (is_isatap(a) && n < GOYA_HTTP_MAX_FORMS)
		put_form(&forms[n++], true, a + 12);
	return n;
}

bool
goya_http_address_allowed(const struct sockaddr *sa)
{
	int			needs = classify(sa);

	if (goya_guc_http_allow_private)
		needs &= ~ADDRESS_PRIVATE;
	if (goya_guc_http_allow_loopback)
		needs &= ~ADDRESS_LOOPBACK;
	return needs == ADDRESS_PUBLIC;
}
