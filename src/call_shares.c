/*-------------------------------------------------------------------------
 * call_shares.c
 *		How many outside calls of one tenant may be in flight: three quarters of goya.max_transfers, so that a tenant whose services do not
 *		answer leaves room for the calls of others.
 *
 * Decided: a call that is claimed while its tenant has its share goes to a lane of its own (GOYA_LANE_SHARE), with the rank it had, and holds
 * nothing.  From there calls are claimed only while no tenant has its share, and no more at once than the one with the most calls has left.
 * So whoever they belong to, they find room: a row changes its lane once at most, however long the flood, and nothing is claimed to be put
 * back.  As a share is more than half, no two tenants have theirs at a time.  The cost is one row deleted and one written for each call that
 * had to wait.
 *
 * With one tenant there is nobody to leave room for: then all of this does nothing.  Several tenants that work together can still take all.
 *
 * What must hold.  The engine makes all calls of a database, so the counts are in its memory: one of a tenant goes up when a call is started
 * and down when it is over.  What a claim takes counts for this claim only, so one that fails leaves nothing behind.  When calls were made to
 * wait and there is room again, somebody has to look: goya_calls_claim and goya_calls_lack say so.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "hash.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "call_shares.h"
#include "tenants.h"

typedef struct Share
{
	pg_uuid_t	tenant;			/* hash key */
	int			in_flight;
	int			taken;			/* in the claim of that number */
	uint32		claim;
} Share;

static HTAB *shares;
static int	most = INT_MAX;		/* of one tenant; INT_MAX: there is only one */
static uint32 claim = 0;
static bool refused = false;

static Share *
share_of(const pg_uuid_t *tenant)
{
	Share	   *s;
	bool		found;

	if (shares == NULL)
		shares = goya_hash_create("goya call shares", 32, sizeof(pg_uuid_t), sizeof(Share), TopMemoryContext);
	s = hash_search(shares, tenant, HASH_ENTER, &found);
	if (!found)
		s->in_flight = 0;
	if (!found || s->claim != claim)
		s->taken = 0;
	s->claim = claim;
	return s;
}

void
goya_shares_begin(int all)
{
	most = goya_tenants_several() ? Max(all * 3 / 4, 1) : INT_MAX;
	claim++;
	refused = false;
}

bool
goya_shares_take(const pg_uuid_t *tenant)
{
	Share	   *s = share_of(tenant);

	if (s->in_flight + s->taken >= most)
	{
		refused = true;
		return false;
	}
	s->taken++;
	return true;
}

void
goya_shares_return(const pg_uuid_t *tenant)
{
	Share	   *s = share_of(tenant);

	s->taken = Max(s->taken - 1, 0);
}

void
goya_shares_started(const pg_uuid_t *tenant)
{
	share_of(tenant)->in_flight++;
}

void
goya_shares_ended(const pg_uuid_t *tenant)
{
	Share	   *s = share_of(tenant);

	if (--s->in_flight <= 0)
		hash_search(shares, tenant, HASH_REMOVE, NULL);
}

int
goya_shares_left(void)
{
	HASH_SEQ_STATUS seq;
	Share	   *s;
	int			highest = 0;

	if (most == INT_MAX || shares == NULL)
		return most;
	hash_seq_init(&seq, shares);
	while ((s = hash_seq_search(&seq)) != NULL)
		highest = Max(highest, s->in_flight);
	return most - highest;
}

bool
goya_shares_refused(void)
{
	return refused;
}
