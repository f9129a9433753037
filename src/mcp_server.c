/*-------------------------------------------------------------------------
 * mcp_server.c
 *		What the engine remembers of MCP servers: which protocol they speak, the session it has with each, how many calls are out.
 *
 * In the engine's memory only.  An engine that starts anew asks again; a session that was left behind is the server's to let expire.
 * One call opens a session, and others wait for it; when that call ends without one, the next tries.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "hash.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "mcp.h"

static HTAB *servers = NULL;

GoyaMcpServer *
goya_mcp_server(const pg_uuid_t *id, int revision)
{
	GoyaMcpServer *s;
	bool		found;

	if (servers == NULL)
		servers = goya_hash_create("goya mcp servers", 32, sizeof(pg_uuid_t), sizeof(GoyaMcpServer),
											AllocSetContextCreate(TopMemoryContext, "goya mcp servers", ALLOCSET_SMALL_SIZES));
	s = hash_search(servers, id, HASH_ENTER, &found);
	if (!found)
		memset((char *) s + sizeof(pg_uuid_t), 0, sizeof(GoyaMcpServer) - sizeof(pg_uuid_t));
	if (!found || s->revision != revision)
	{
		/* Calls under way go on with what they know; only what new ones start from is forgotten. */
		goya_mcp_server_forget(s, s->generation);
		s->era = GOYA_MCP_UNKNOWN;
		s->revision = revision;
		s->opener = NULL;
	}
	return s;
}

/* The session of that generation is over. */
void
goya_mcp_server_forget(GoyaMcpServer *s, uint64 generation)
{
	if (s->generation != generation)
		return;
	s->ready = false;
	s->session[0] = '\0';
	s->generation++;
}

/* Ids of requests: of all sessions, so that an id never means two things to a server. */
uint64
goya_mcp_next_id(void)
{
	static uint64 last = 0;

	return ++last;
}
