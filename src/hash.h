/* hash.h - the one kind of dynahash table that goya makes: keys of a fixed size, compared byte by byte, in a memory context of the caller's. */
#ifndef GOYA_HASH_H
#define GOYA_HASH_H

#include "postgres.h"

#include "utils/hsearch.h"

static inline HTAB *
goya_hash_create(const char *name, long elements, Size keysize, Size entrysize, MemoryContext cxt)
{
	HASHCTL		ctl = {.keysize = keysize,.entrysize = entrysize,.hcxt = cxt};

	return hash_create(name, elements, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

#endif
