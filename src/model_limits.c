/*-------------------------------------------------------------------------
 * model_limits.c
 *		How often a model may be called: requests and tokens a minute, calls at once, and what its service said itself (429).
 *
 * What was decided.  The engine makes all calls of a database, so the counts are in its memory.  Requests and tokens are buckets that hold a
 * minute's worth and fill evenly.  Of tokens a call takes what it is expected to use, and the difference when it is known: a bucket may be
 * owing.  A call that finds no place is told when there may be one, each another time, so that waiting calls come back one by one and not
 * all at once.
 *
 * What must hold.  A place that was taken is given back once: by goya_model_limit_return, or when its context dies.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "hash.h"
#include "utils/memutils.h"

#include "model.h"

#define MINUTE_MS	60000.0
#define MAX_WAIT_MS 60000.0
#define MAX_MODELS	10000

typedef struct Meter
{
	pg_uuid_t	model;			/* hash key */
	double		requests;		/* left */
	double		tokens;
	TimestampTz at;				/* when that was so; 0: new */
	int			running;
	double		mean_ms;		/* of a call */
	TimestampTz blocked;		/* its service wants no calls before this */
	TimestampTz promised;		/* the latest time told to a call that found no place */
} Meter;

static HTAB *meters;

static Meter *
meter_of(const pg_uuid_t *model)
{
	Meter	   *m;
	bool		found;

	if (meters == NULL)
		meters = goya_hash_create("goya model limits", 32, sizeof(pg_uuid_t), sizeof(Meter),
											AllocSetContextCreate(TopMemoryContext, "goya model limits", ALLOCSET_SMALL_SIZES));
	m = hash_search(meters, model, HASH_ENTER, &found);
	if (!found)
		memset((char *) m + sizeof(pg_uuid_t), 0, sizeof(Meter) - sizeof(pg_uuid_t));
	return m;
}

/* Models that nobody calls any more: forgotten when they are many. */
static void
forget_idle(TimestampTz now)
{
	HASH_SEQ_STATUS seq;
	Meter	   *m;

	if (meters == NULL || hash_get_num_entries(meters) < MAX_MODELS)
		return;
	hash_seq_init(&seq, meters);
	while ((m = hash_seq_search(&seq)) != NULL)
		if (m->running == 0 && m->blocked < now && m->at < now - 2 * (int64) MINUTE_MS * 1000)
			hash_search(meters, &m->model, HASH_REMOVE, NULL);
}

static void
fill(Meter *m, const GoyaModelLimits *limits, TimestampTz now)
{
	double		minutes = m->at == 0 ? 1.0 : Max(now - m->at, 0) / (MINUTE_MS * 1000.0);

	m->requests = Min(m->requests + minutes * limits->requests, limits->requests);
	m->tokens = Min(m->tokens + minutes * limits->tokens, limits->tokens);
	m->at = now;
}

/* Until there is a place, as far as can be told; 0: now.  *each: how long every further call has to wait. */
static double
wait_for_place(Meter *m, const GoyaModelLimits *limits, double tokens, TimestampTz now, double *each)
{
	double		wait = m->blocked > now ? (m->blocked - now) / 1000.0 : 0.0;

	*each = 0.0;
	if (limits->requests > 0)
	{
		if (m->requests < 1.0)
			wait = Max(wait, (1.0 - m->requests) * MINUTE_MS / limits->requests);
		*each = MINUTE_MS / limits->requests;
	}
	if (limits->tokens > 0)
	{
		if (m->tokens < tokens)
			wait = Max(wait, (tokens - m->tokens) * MINUTE_MS / limits->tokens);
		*each = Max(*each, tokens * MINUTE_MS / limits->tokens);
	}
	if (limits->at_once > 0)
	{
		double		turn = Max(m->mean_ms, 100.0) / limits->at_once;

		if (m->running >= limits->at_once)
			wait = Max(wait, turn);
		*each = Max(*each, turn);
	}
	return wait;
}

static void
give_back(void *arg)
{
	GoyaModelPlace *place = arg;

	goya_model_limit_return(place, place->reserved);
}

/*
 * Takes a place for a call, or says in *wait_ms when to ask again.  tokens: what it is expected to use.
 */
bool
goya_model_limit_take(GoyaModelPlace *place, const GoyaModelTarget *target, int64 tokens, long *wait_ms)
{
	TimestampTz now = GetCurrentTimestamp();
	const GoyaModelLimits *limits = &target->limits;
	double		wanted = limits->tokens > 0 ? Min(tokens, limits->tokens) : 0;
	double		each;
	double		wait;
	Meter	   *m;

	forget_idle(now);
	m = meter_of(&target->id);
	fill(m, limits, now);
	wait = wait_for_place(m, limits, wanted, now, &each);
	if (wait > 0.0)
	{
		TimestampTz turn = now + (int64) (wait * 1000.0);

		if (m->promised >= now)
			turn = Max(turn, m->promised + (int64) (each * 1000.0));
		turn = Min(turn, now + (int64) (MAX_WAIT_MS * 1000.0));
		m->promised = turn;
		*wait_ms = (long) ((turn - now) / 1000) + 1;
		return false;
	}
	m->requests -= limits->requests > 0;
	m->tokens -= wanted;
	m->running++;
	place->model = target->id;
	place->reserved = (int64) wanted;
	place->since = now;
	place->held = true;
	if (place->on_reset.func == NULL)
	{
		place->on_reset.func = give_back;
		place->on_reset.arg = place;
		MemoryContextRegisterResetCallback(CurrentMemoryContext, &place->on_reset);
	}
	return true;
}

/* tokens: what the call has used; as reserved when it is not known. */
void
goya_model_limit_return(GoyaModelPlace *place, int64 tokens)
{
	Meter	   *m;
	double		ms;

	if (!place->held)
		return;
	place->held = false;
	m = meter_of(&place->model);
	m->running = Max(m->running - 1, 0);
	m->tokens -= tokens - place->reserved;
	ms = (GetCurrentTimestamp() - place->since) / 1000.0;
	m->mean_ms = m->mean_ms == 0.0 ? ms : 0.8 * m->mean_ms + 0.2 * ms;
}

/* The model's service said that it is too much: nothing is left for ms. */
void
goya_model_limit_refused(const pg_uuid_t *model, long ms)
{
	Meter	   *m = meter_of(model);

	m->blocked = Max(m->blocked, GetCurrentTimestamp() + Min(ms, (long) MAX_WAIT_MS) * 1000L);
	m->requests = Min(m->requests, 0.0);
}
