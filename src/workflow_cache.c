/*-------------------------------------------------------------------------
 * workflow_cache.c
 *		Workflows by name or id, and which events anybody waits for, kept per process.
 *
 * Both are asked for by every goya.run and every insert of assets and change rarely.  watch.c says when: a new version throws
 * everything away.  So does a thousand entries, since names come from callers.  Workflows that are not there are not kept.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_enum.h"
#include "common/hashfn.h"
#include "hash.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "goya.h"
#include "watch.h"
#include "workflow_cache.h"

#define MAX_ENTRIES 1000
#define NAME_LEN 128			/* names of workflows have 127 characters at most, ASCII; events 63 */

typedef struct EntryKey
{
	pg_uuid_t	tenant;
	char		kind;			/* w: a workflow, e: a type of event */
	char		name[NAME_LEN];
} EntryKey;

typedef struct Entry
{
	EntryKey	key;
	bool		wanted;			/* kind e */
	GoyaWorkflow workflow;		/* kind w */
} Entry;

static MemoryContext context = NULL;
static HTAB *entries = NULL;
static uint64 workflows_version = 0;
static uint64 triggers_version = 0;

static const char *const workflow_columns[] = {"id", "enabled", "revision", "visibility", "owner_role", "visible_roles", "tenant_id"};
static const char *const trigger_columns[] = {"workflow_id", "enabled", "kind"};

/* Forget everything when anything changed. */
static void
refresh(void)
{
	uint64		workflows = goya_watch_version(GOYA_WATCH_WORKFLOWS);
	uint64		triggers = goya_watch_version(GOYA_WATCH_TRIGGERS);

	if (entries != NULL && workflows == workflows_version && triggers == triggers_version && hash_get_num_entries(entries) < MAX_ENTRIES)
		return;
	entries = NULL;
	if (context != NULL)
		MemoryContextDelete(context);
	context = AllocSetContextCreate(TopMemoryContext, "goya workflows", ALLOCSET_DEFAULT_SIZES);
	entries = goya_hash_create("goya workflows", 64, sizeof(EntryKey), sizeof(Entry), context);
	workflows_version = workflows;
	triggers_version = triggers;
}

/* False: too long to be the name of anything. */
static bool
make_key(EntryKey *key, const pg_uuid_t *tenant, char kind, const char *name)
{
	if (strlen(name) >= NAME_LEN)
		return false;
	memset(key, 0, sizeof(*key));
	key->tenant = *tenant;
	key->kind = kind;
	strcpy(key->name, name);
	return true;
}

/* A copy in the current context. */
static GoyaWorkflow
workflow_of(const GoyaWatchRow *row)
{
	GoyaWorkflow w;

	w.id = *DatumGetUUIDP(row->values[0]);
	w.enabled = DatumGetBool(row->values[1]);
	w.revision = row->nulls[2] ? 0 : DatumGetInt32(row->values[2]);
	w.visibility = DatumGetCString(DirectFunctionCall1(enum_out, row->values[3]));
	w.owner = pstrdup(NameStr(*DatumGetName(row->values[4])));
	w.roles = DatumGetArrayTypePCopy(row->values[5]);
	w.tenant = *DatumGetUUIDP(row->values[6]);
	return w;
}

static List *
read_workflow_with_id(const pg_uuid_t *id)
{
	GoyaWatchKey key = {"id", F_UUID_EQ, UUIDPGetDatum(id)};

	return goya_watch_read(GOYA_WATCHED_WORKFLOWS, "workflows_pkey", 1, &key, lengthof(workflow_columns), workflow_columns);
}

const GoyaWorkflow *
goya_workflow_named(const pg_uuid_t *tenant, const char *name)
{
	EntryKey	key;
	Entry	   *entry;
	GoyaWatchKey scankeys[2];
	GoyaWorkflow made;
	MemoryContext old;
	List	   *rows;

	if (!make_key(&key, tenant, 'w', name))
		return NULL;
	refresh();
	entry = hash_search(entries, &key, HASH_FIND, NULL);
	if (entry != NULL)
		return &entry->workflow;
	scankeys[0] = (GoyaWatchKey) {"tenant_id", F_UUID_EQ, UUIDPGetDatum(tenant)};
	scankeys[1] = (GoyaWatchKey) {"name", F_TEXTEQ, CStringGetTextDatum(name)};
	rows = goya_watch_read(GOYA_WATCHED_WORKFLOWS, "workflows_tenant_id_name_key", 2, scankeys, lengthof(workflow_columns), workflow_columns);
	if (rows == NIL)
		return NULL;
	old = MemoryContextSwitchTo(context);
	made = workflow_of(linitial(rows));
	MemoryContextSwitchTo(old);
	entry = hash_search(entries, &key, HASH_ENTER, NULL);
	entry->workflow = made;
	return &entry->workflow;
}

/* Rare: triggers and child workflows.  Not kept. */
const GoyaWorkflow *
goya_workflow_with_id(const pg_uuid_t *tenant, const pg_uuid_t *id)
{
	GoyaWorkflow *result;
	List	   *rows;

	(void) goya_watch_version(GOYA_WATCH_WORKFLOWS);
	rows = read_workflow_with_id(id);
	if (rows == NIL)
		return NULL;
	result = palloc(sizeof(GoyaWorkflow));
	*result = workflow_of(linitial(rows));
	return goya_uuid_equal(&result->tenant, tenant) ? result : NULL;
}

static bool
read_wanted(const pg_uuid_t *tenant, const char *type)
{
	GoyaWatchKey keys[2] = {{"tenant_id", F_UUID_EQ, UUIDPGetDatum(tenant)}, {"event", F_TEXTEQ, CStringGetTextDatum(type)}};
	List	   *triggers = goya_watch_read(GOYA_WATCHED_TRIGGERS, "triggers_event_idx", 2, keys, lengthof(trigger_columns), trigger_columns);
	ListCell   *lc;

	foreach(lc, triggers)
	{
		GoyaWatchRow *t = lfirst(lc);
		List	   *rows;

		if (!DatumGetBool(t->values[1]) || strcmp(TextDatumGetCString(t->values[2]), "event") != 0)
			continue;
		rows = read_workflow_with_id(DatumGetUUIDP(t->values[0]));
		if (rows != NIL)
		{
			GoyaWorkflow w = workflow_of(linitial(rows));

			if (w.enabled && w.revision > 0)
				return true;
		}
	}
	return false;
}

bool
goya_event_wanted(const pg_uuid_t *tenant, const char *type)
{
	EntryKey	key;
	Entry	   *entry;
	bool		wanted;

	if (!make_key(&key, tenant, 'e', type))
		return false;
	refresh();
	entry = hash_search(entries, &key, HASH_FIND, NULL);
	if (entry != NULL)
		return entry->wanted;
	wanted = read_wanted(tenant, type);
	entry = hash_search(entries, &key, HASH_ENTER, NULL);
	entry->wanted = wanted;
	return wanted;
}
