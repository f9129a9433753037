/*-------------------------------------------------------------------------
 * notes.c
 *		Notifications on triggers' channels, until the engine has made tasks of them.
 *
 * They are kept in memory only, and what does not fit is dropped: NOTIFY is a hint, and a flood must not take the memory.  When making tasks
 * of them fails, they are tried again a second later, some times.
 *
 * Memory: in TopMemoryContext, freed one by one.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/memutils.h"

#include "crash_point.h"
#include "notes.h"
#include "store.h"

#define MOST_NOTES 10000
#define MOST_TRIES 10

typedef struct Note
{
	char	   *channel;
	char	   *payload;
} Note;

static List *notes = NIL;		/* Note*, oldest first */
static int	tries = 0;			/* to make tasks of them */

void
goya_notes_add(const char *channel, const char *payload)
{
	MemoryContext old;
	Note	   *note;

	if (list_length(notes) >= MOST_NOTES)
		return;
	old = MemoryContextSwitchTo(TopMemoryContext);
	note = palloc(sizeof(Note));
	note->channel = pstrdup(channel);
	note->payload = pstrdup(payload);
	notes = lappend(notes, note);
	MemoryContextSwitchTo(old);
}

bool
goya_notes_waiting(void)
{
	return notes != NIL;
}

void
goya_notes_fire(void)
{
	GoyaStoreScope scope;
	ListCell   *lc;

	goya_store_enter(&scope);
	foreach(lc, notes)
	{
		Note	   *note = lfirst(lc);
		Datum		args[2];

		args[0] = CStringGetTextDatum(note->channel);
		args[1] = CStringGetTextDatum(note->payload);
		goya_store_run(GOYA_STMT_FIRE_CHANNEL, args, NULL);
		GOYA_CRASH_POINT(NOTES_FIRED);
	}
	goya_store_leave(&scope);
}

void
goya_notes_done(bool fired)
{
	ListCell   *lc;

	if (!fired && ++tries < MOST_TRIES)
		return;
	tries = 0;
	foreach(lc, notes)
	{
		Note	   *note = lfirst(lc);

		pfree(note->channel);
		pfree(note->payload);
		pfree(note);
	}
	list_free(notes);
	notes = NIL;
}
