/*-------------------------------------------------------------------------
 * plan_graph.c
 *		Edges: reading, linking, cycles, and whether what a node reads is upstream of it.
 *
 * All walks are iterative: a chain of 10,000 nodes needs no stack.  Cycles are what Kahn's algorithm leaves over; following
 * predecessors among the leftover always ends in a cycle, which is named.
 *
 * Upstream.  Only reads that are not of a direct predecessor are checked.  The nodes read are numbered and taken 64 at a time: one
 * sweep in topological order carries a bit per read node along the edges.  That is O(read nodes / 64 * edges) time and O(nodes)
 * memory, where a matrix of ancestors would take 12 MB for 10,000 nodes.
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "hash.h"
#include "json_util.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "plan_internal.h"
#include "utils/memutils.h"

#define MAX_CYCLE_SHOWN 20		/* keys in a message */

static const char *const edge_fields[] = {"from", "to", "on", "when", "case", NULL};
static const char *const ons[] = {"success", "failure", "always", NULL};

/* ---- reading ---- */

typedef struct EdgeIdentity
{
	int			from;
	int			to;
	int			on;
	uint32		case_hash;
	uint32		when_hash;
} EdgeIdentity;

/* An end of an edge: index of a listed node, or -1. */
static int
read_end(GoyaPlanBuild *b, const GoyaWhere *at, const JsonbValue *object, const char *name)
{
	GoyaWhere	here = {.up = at,.key = name,.len = strlen(name)};
	char	   *key = goya_plan_text(b, at, object, name, true);
	int			index;

	if (key == NULL)
		return -1;
	index = goya_plan_find(b->plan, key, strlen(key));
	if (index < 0)
	{
		const char *nearest = NULL;

		if (b->hints_left-- > 0)
		{
			const char **names = palloc(sizeof(char *) * (b->plan->n_listed + 1));

			for (int i = 0; i < b->plan->n_listed; i++)
				names[i] = b->plan->nodes[i].key;
			names[b->plan->n_listed] = NULL;
			nearest = goya_plan_nearest(key, strlen(key), names);
			pfree(names);
		}
		goya_plan_report(b, &here, "dangling_edge", goya_plan_did_you_mean(nearest), "there is no node \"%s\"",
						 goya_plan_clip(key, strlen(key)));
	}
	return index;
}

static bool
enter_identity(HTAB *seen, const GoyaEdge *e, const JsonbValue *when)
{
	EdgeIdentity id;
	bool		found;

	memset(&id, 0, sizeof(id));
	id.from = e->from;
	id.to = e->to;
	id.on = e->on;
	if (e->case_name)
		id.case_hash = hash_bytes((const unsigned char *) e->case_name, strlen(e->case_name)) | 1;
	if (when->type == jbvString)
		id.when_hash = hash_bytes((const unsigned char *) when->val.string.val, when->val.string.len) | 1;
	hash_search(seen, &id, HASH_ENTER, &found);
	return !found;
}

static void
read_edge(GoyaPlanBuild *b, int number, const GoyaWhere *at, const JsonbValue *object, HTAB *seen)
{
	GoyaPlan   *plan = b->plan;
	GoyaEdge	e;
	JsonbValue	when;
	int			on;

	if (!goya_json_view_is_object(object))
	{
		goya_plan_wrong_type(b, at, "an edge (an object)", object);
		return;
	}
	memset(&e, 0, sizeof(e));
	goya_plan_check_fields(b, at, object, edge_fields, NULL);
	e.from = read_end(b, at, object, "from");
	e.to = read_end(b, at, object, "to");
	if (goya_plan_choice(b, at, object, "on", ons, &on))
		e.on = (GoyaEdgeOn) on;
	e.case_name = goya_plan_text(b, at, object, "case", false);
	if (e.from < 0 || e.to < 0)
		return;
	if (!goya_plan_field(object, "when", &when))
		when.type = jbvNull;
	b->node_key = plan->nodes[e.from].key;
	if (e.from == e.to)
		goya_plan_report(b, at, "self_edge", NULL, "an edge leads from \"%s\" to itself", plan->nodes[e.from].key);
	else if (!enter_identity(seen, &e, &when))
		goya_plan_report(b, at, "duplicate_edge", NULL, "another edge leads from \"%s\" to \"%s\" on the same conditions",
						 plan->nodes[e.from].key, plan->nodes[e.to].key);
	else
	{
		b->edge_number[plan->n_edges] = number;
		plan->edges[plan->n_edges++] = e;
	}
	b->node_key = NULL;
}

/* in_edges and out_edges of all nodes, as slices of two arrays; in the order of the edges. */
static void
link_edges(GoyaPlan *plan)
{
	int		   *in = MemoryContextAlloc(plan->cxt, sizeof(int) * Max(plan->n_edges, 1));
	int		   *out = MemoryContextAlloc(plan->cxt, sizeof(int) * Max(plan->n_edges, 1));
	int			used_in = 0;
	int			used_out = 0;

	for (int i = 0; i < plan->n_edges; i++)
	{
		plan->nodes[plan->edges[i].to].n_in++;
		plan->nodes[plan->edges[i].from].n_out++;
	}
	for (int i = 0; i < plan->n_listed; i++)
	{
		GoyaNode   *node = &plan->nodes[i];

		node->in_edges = in + used_in;
		node->out_edges = out + used_out;
		used_in += node->n_in;
		used_out += node->n_out;
		node->n_in = node->n_out = 0;
	}
	for (int i = 0; i < plan->n_edges; i++)
	{
		GoyaNode   *to = &plan->nodes[plan->edges[i].to];
		GoyaNode   *from = &plan->nodes[plan->edges[i].from];

		to->in_edges[to->n_in++] = i;
		from->out_edges[from->n_out++] = i;
		if (plan->edges[i].on != GOYA_ON_SUCCESS)
			from->handles_failure = true;
	}
	plan->roots = MemoryContextAlloc(plan->cxt, sizeof(int) * plan->n_listed);
	for (int i = 0; i < plan->n_listed; i++)
	{
		if (plan->nodes[i].n_in == 0)
			plan->roots[plan->n_roots++] = i;
	}
}

/* ---- cycles ---- */

/* Kahn: position and order of every node that is neither on a cycle nor behind one. */
static void
sort_nodes(GoyaPlanBuild *b)
{
	GoyaPlan   *plan = b->plan;
	int		   *waits = MemoryContextAlloc(b->scratch, sizeof(int) * plan->n_listed);

	b->order = MemoryContextAlloc(b->scratch, sizeof(int) * plan->n_listed);
	b->position = MemoryContextAlloc(b->scratch, sizeof(int) * plan->n_listed);
	for (int i = 0; i < plan->n_listed; i++)
	{
		waits[i] = plan->nodes[i].n_in;
		b->position[i] = -1;
		if (waits[i] == 0)
			b->order[b->n_order++] = i;
	}
	for (int done = 0; done < b->n_order; done++)
	{
		GoyaNode   *node = &plan->nodes[b->order[done]];

		b->position[node->index] = done;
		for (int i = 0; i < node->n_out; i++)
		{
			int			to = plan->edges[node->out_edges[i]].to;

			if (--waits[to] == 0)
				b->order[b->n_order++] = to;
		}
	}
	pfree(waits);
}

/* An edge from a node that is left over too; there is always one. */
static int
leftover_edge(const GoyaPlanBuild *b, int node)
{
	const GoyaNode *n = &b->plan->nodes[node];

	for (int i = 0; i < n->n_in; i++)
	{
		if (b->position[b->plan->edges[n->in_edges[i]].from] < 0)
			return n->in_edges[i];
	}
	elog(ERROR, "no cycle leads to the node");
	return -1;
}

/* came[n]: the edge over which the walk backwards left n.  start is on the cycle, found first. */
static void
report_cycle(GoyaPlanBuild *b, const int *came, int start)
{
	GoyaPlan   *plan = b->plan;
	StringInfoData keys;
	int			first = start;
	int			n = 0;
	int		   *cycle;
	int			length = 0;
	GoyaWhere	edges = {.key = "edges",.len = 5};
	GoyaWhere	here = {.up = &edges};

	for (int i = plan->edges[came[start]].from; i != start; i = plan->edges[came[i]].from)
		first = Min(first, i);
	cycle = MemoryContextAlloc(b->scratch, sizeof(int) * plan->n_listed);
	for (int i = plan->edges[came[first]].from; i != first; i = plan->edges[came[i]].from)
		cycle[length++] = i;

	/* the walk went backwards: name the keys from its end */
	initStringInfo(&keys);
	appendStringInfoString(&keys, plan->nodes[first].key);
	for (int i = length - 1; i >= 0; i--)
	{
		if (n++ == MAX_CYCLE_SHOWN)
		{
			appendStringInfo(&keys, " -> ... (%d more)", i + 1);
			break;
		}
		appendStringInfo(&keys, " -> %s", plan->nodes[cycle[i]].key);
	}
	appendStringInfo(&keys, " -> %s", plan->nodes[first].key);
	here.index = b->edge_number[came[first]];
	b->node_key = plan->nodes[first].key;
	goya_plan_report(b, &here, "cycle", pstrdup("Take an edge away; to repeat work, use a map, retry, or a trigger."),
					 "edges form a cycle: %s", keys.data);
	b->node_key = NULL;
	pfree(cycle);
	pfree(keys.data);
}

/* Every leftover node is walked once; a walk that runs into its own trace has found a cycle. */
static void
report_cycles(GoyaPlanBuild *b)
{
	int			n = b->plan->n_listed;
	int		   *walk = MemoryContextAllocZero(b->scratch, sizeof(int) * n);
	int		   *came = MemoryContextAlloc(b->scratch, sizeof(int) * n);

	for (int start = 0; start < n; start++)
	{
		int			at = start;

		if (b->position[start] >= 0)
			continue;
		while (walk[at] == 0)
		{
			walk[at] = start + 1;
			came[at] = leftover_edge(b, at);
			at = b->plan->edges[came[at]].from;
		}
		if (walk[at] == start + 1)
			report_cycle(b, came, at);
	}
	pfree(walk);
	pfree(came);
}

void
goya_plan_read_edges(GoyaPlanBuild *b)
{
	GoyaWhere	here = {.key = "edges",.len = 5};
	HTAB	   *seen;
	int			n = 0;

	if (goya_plan_field(&b->definition, "edges", &b->edges))
	{
		if (goya_json_view_is_array(&b->edges))
			n = goya_json_view_length(&b->edges);
		else
			goya_plan_wrong_type(b, &here, "an array of edges", &b->edges);
	}
	else
		b->edges.type = jbvNull;

	b->plan->edges = palloc(sizeof(GoyaEdge) * Max(n, 1));
	b->edge_number = MemoryContextAlloc(b->scratch, sizeof(int) * Max(n, 1));
	seen = goya_hash_create("goya plan edges", Max(n, 16), sizeof(EdgeIdentity), sizeof(EdgeIdentity), b->scratch);
	for (int i = 0; i < n; i++)
	{
		GoyaWhere	element = {.up = &here,.index = i};
		JsonbValue	object;

		goya_json_view_elem(&b->edges, i, &object);
		read_edge(b, i, &element, &object, seen);
	}
	hash_destroy(seen);
	link_edges(b->plan);
	sort_nodes(b);
	if (b->n_order < b->plan->n_listed)
		report_cycles(b);
}

/* ---- conditions of edges ---- */

static bool
has_case(const GoyaNode *node, const char *name)
{
	if (node->when != NULL)
		return strcmp(name, "true") == 0 || strcmp(name, "false") == 0;
	for (int i = 0; i < node->n_cases; i++)
	{
		if (node->cases[i].name != NULL && strcmp(node->cases[i].name, name) == 0)
			return true;
	}
	return node->default_case != NULL && strcmp(node->default_case, name) == 0;
}

static char *
list_cases(const GoyaNode *node)
{
	StringInfoData out;

	if (node->when != NULL)
		return pstrdup("Its cases: true, false.");
	initStringInfo(&out);
	appendStringInfoString(&out, "Its cases: ");
	for (int i = 0; i < node->n_cases && i < 50; i++)
	{
		if (node->cases[i].name != NULL)
			appendStringInfo(&out, "%s%s", i > 0 ? ", " : "", node->cases[i].name);
	}
	if (node->default_case != NULL)
		appendStringInfo(&out, "%s%s", node->n_cases > 0 ? ", " : "", node->default_case);
	appendStringInfoChar(&out, '.');
	return out.data;
}

static void
check_case(GoyaPlanBuild *b, const GoyaWhere *at, const GoyaEdge *e)
{
	const GoyaNode *from = &b->plan->nodes[e->from];
	GoyaWhere	here = {.up = at,.key = "case",.len = 4};
	char	   *shown = goya_plan_clip(e->case_name, strlen(e->case_name));

	if (from->kind != GOYA_NODE_CONDITION)
		goya_plan_report(b, &here, "unknown_case", pstrdup("Only conditions have cases; use \"when\" on other edges."),
						 "node \"%s\" is no condition", from->key);
	else if ((from->when != NULL || from->n_cases > 0) && !has_case(from, e->case_name))
		goya_plan_report(b, &here, "unknown_case", list_cases(from), "condition \"%s\" has no case \"%s\"", from->key, shown);
	else if (e->on == GOYA_ON_FAILURE)
		goya_plan_report(b, &here, "bad_value", NULL, "a condition that failed has chosen no case");
}

/* `when` of the edges, which may read their from and what is upstream of it, and their cases. */
void
goya_plan_compile_edges(GoyaPlanBuild *b)
{
	GoyaPlan   *plan = b->plan;
	GoyaWhere	edges = {.key = "edges",.len = 5};

	b->roots = GOYA_COMMON_ROOTS;
	b->reader_too = true;
	for (int i = 0; i < plan->n_edges; i++)
	{
		GoyaEdge   *e = &plan->edges[i];
		GoyaNode   *from = &plan->nodes[e->from];
		GoyaWhere	here = {.up = &edges,.index = b->edge_number[i]};
		JsonbValue	object;
		ListCell   *lc;

		goya_json_view_elem(&b->edges, b->edge_number[i], &object);
		b->reader = e->from;
		b->node_key = from->key;
		e->when = goya_plan_expr(b, &here, &object, "when", false, b->roots, &e->when_refs);
		from->refs.roots |= e->when_refs.roots;
		from->refs.all_nodes |= e->when_refs.all_nodes;
		foreach(lc, e->when_refs.nodes)
			from->refs.nodes = list_append_unique_int(from->refs.nodes, lfirst_int(lc));
		if (e->case_name != NULL)
			check_case(b, &here, e);
	}
	b->node_key = NULL;
	b->reader_too = false;
}

/* ---- what is upstream ---- */

/* Is there an edge from node to of?  Gives up on nodes with many incoming edges: then the general check decides. */
bool
goya_plan_is_predecessor(const GoyaPlanBuild *b, int node, int of)
{
	const GoyaNode *n = &b->plan->nodes[of];

	if (n->n_in > 16)
		return false;
	for (int i = 0; i < n->n_in; i++)
	{
		if (b->plan->edges[n->in_edges[i]].from == node)
			return true;
	}
	return false;
}

static void
report_not_upstream(GoyaPlanBuild *b, const GoyaNodeRead *read)
{
	const char *reader = b->plan->nodes[read->reader].key;
	const char *node = b->plan->nodes[read->node].key;

	if (read->reader == read->node)
		goya_plan_report_at(b, read->node_key, read->pointer, "not_upstream",
							pstrdup("Its output exists only when it has run; in artifact, writes and price it is the root \"output\"."),
							psprintf("node \"%s\" reads itself", node));
	else
		goya_plan_report_at(b, read->node_key, read->pointer, "not_upstream",
							psprintf("Add edges that lead from \"%s\" to \"%s\".", node, reader),
							psprintf("node \"%s\" is not upstream of \"%s\"", node, reader));
}

/* Which of the read nodes numbered first .. first + 63 reach each node: a sweep in topological order. */
static void
sweep(const GoyaPlanBuild *b, const int *number, int first, uint64 *reach)
{
	const GoyaPlan *plan = b->plan;

	for (int p = 0; p < b->n_order; p++)
	{
		const GoyaNode *node = &plan->nodes[b->order[p]];
		uint64		bits = 0;

		for (int i = 0; i < node->n_in; i++)
		{
			int			from = plan->edges[node->in_edges[i]].from;
			int			offset = number[from] - first;

			bits |= reach[from];
			if (number[from] >= 0 && offset >= 0 && offset < 64)
				bits |= UINT64CONST(1) << offset;
		}
		reach[node->index] = bits;
	}
}

/* Reports what is read without being upstream.  A reader on or behind a cycle is left alone: the cycle comes first. */
void
goya_plan_check_reads(GoyaPlanBuild *b)
{
	int			n = b->plan->n_listed;
	int		   *number = MemoryContextAlloc(b->scratch, sizeof(int) * n);	/* of nodes that are read, from 0; else -1 */
	uint64	   *reach = MemoryContextAlloc(b->scratch, sizeof(uint64) * n);
	bool	   *bad = MemoryContextAllocZero(b->scratch, Max(b->n_reads, 1));
	int			n_numbers = 0;

	memset(number, -1, sizeof(int) * n);
	for (int i = 0; i < b->n_reads; i++)
	{
		if (number[b->reads[i].node] < 0)
			number[b->reads[i].node] = n_numbers++;
	}
	for (int first = 0; first < n_numbers; first += 64)
	{
		CHECK_FOR_INTERRUPTS();
		sweep(b, number, first, reach);
		for (int i = 0; i < b->n_reads; i++)
		{
			const GoyaNodeRead *read = &b->reads[i];
			int			offset = number[read->node] - first;

			if (offset >= 0 && offset < 64 && b->position[read->reader] >= 0)
				bad[i] = (reach[read->reader] & (UINT64CONST(1) << offset)) == 0;
		}
	}
	for (int i = 0; i < b->n_reads; i++)
	{
		if (bad[i])
			report_not_upstream(b, &b->reads[i]);
	}
}
