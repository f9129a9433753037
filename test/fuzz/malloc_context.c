/*-------------------------------------------------------------------------
 * malloc_context.c
 *		A memory context that gives every chunk a malloc of its own.
 *
 * PostgreSQL's contexts cut chunks out of large blocks, and the address sanitizer knows blocks only: writing behind a chunk is silent.
 * The sanitized build of the module makes its contexts here (the Makefile renames AllocSetContextCreateInternal), so that every
 * palloc of the code under test, and of the server's functions that it calls, ends where malloc's chunk ends.
 *
 * Must hold: a chunk is preceded by its context's pointer, as PostgreSQL 15 wants it.
 *-------------------------------------------------------------------------
 */
#include "fuzz.h"

#include "lib/ilist.h"
#include "nodes/memnodes.h"
#include "utils/memutils.h"

typedef struct MallocContext
{
	MemoryContextData header;
	dlist_head	chunks;
} MallocContext;

typedef struct MallocChunk
{
	dlist_node	node;
	Size		size;
	MallocContext *context;		/* last: right before the user's bytes */
} MallocChunk;

#define CHUNK(p) ((MallocChunk *) ((char *) (p) - sizeof(MallocChunk)))

static void *
chunk_alloc(MemoryContext context, Size size)
{
	MallocContext *c = (MallocContext *) context;
	MallocChunk *chunk = malloc(sizeof(MallocChunk) + size);

	if (chunk == NULL)
		return NULL;
	chunk->size = size;
	chunk->context = c;
	dlist_push_tail(&c->chunks, &chunk->node);
	context->mem_allocated += size;
	return (char *) chunk + sizeof(MallocChunk);
}

static void
chunk_free(MemoryContext context, void *p)
{
	context->mem_allocated -= CHUNK(p)->size;
	dlist_delete(&CHUNK(p)->node);
	free(CHUNK(p));
}

/* Always moves: a pointer kept from before is a bug that should show. */
static void *
chunk_realloc(MemoryContext context, void *p, Size size)
{
	void	   *moved = chunk_alloc(context, size);

	if (moved == NULL)
		return NULL;
	memcpy(moved, p, Min(size, CHUNK(p)->size));
	chunk_free(context, p);
	return moved;
}

static void
chunks_reset(MemoryContext context)
{
	MallocContext *c = (MallocContext *) context;

	while (!dlist_is_empty(&c->chunks))
		free(dlist_container(MallocChunk, node, dlist_pop_head_node(&c->chunks)));
	context->mem_allocated = 0;
}

static void
chunks_delete(MemoryContext context)
{
	chunks_reset(context);
	free(context);
}

static Size
chunk_space(MemoryContext context, void *p)
{
	return CHUNK(p)->size + sizeof(MallocChunk);
}

static bool
chunks_empty(MemoryContext context)
{
	return dlist_is_empty(&((MallocContext *) context)->chunks);
}

static void
chunks_stats(MemoryContext context, MemoryStatsPrintFunc print, void *arg, MemoryContextCounters *totals, bool to_stderr)
{
	if (totals)
		totals->totalspace += context->mem_allocated;
}

#ifdef MEMORY_CONTEXT_CHECKING
static void
chunks_check(MemoryContext context)
{
}
#endif

static const MemoryContextMethods methods = {
	chunk_alloc, chunk_free, chunk_realloc, chunks_reset, chunks_delete, chunk_space, chunks_empty, chunks_stats
#ifdef MEMORY_CONTEXT_CHECKING
	, chunks_check
#endif
};

MemoryContext
fuzz_malloc_context(MemoryContext parent, const char *name, Size min, Size init, Size max)
{
	MallocContext *c = malloc(sizeof(MallocContext));

	if (c == NULL)
		elog(ERROR, "out of memory");
	dlist_init(&c->chunks);
	MemoryContextCreate((MemoryContext) c, T_AllocSetContext, &methods, parent, name);
	return (MemoryContext) c;
}
