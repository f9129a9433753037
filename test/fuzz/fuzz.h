/*-------------------------------------------------------------------------
 * fuzz.h
 *		What the files of the fuzzing module share; see fuzz.c for how it works.
 *-------------------------------------------------------------------------
 */
#ifndef FUZZ_H
#define FUZZ_H

#include "postgres.h"
#include "lib/stringinfo.h"
#include "utils/jsonb.h"

/* One target.  run gets an input in a memory context of its own and may throw; what it may throw is in allowed. */
typedef struct FuzzTarget
{
	const char *name;
	bool		json;			/* inputs are JSON documents: mutated as trees */
	void		(*run) (const uint8 *data, int size);
	bool		(*allowed) (int sqlerrcode);
} FuzzTarget;

extern const FuzzTarget fuzz_targets[];	/* ends with a NULL name */
extern const FuzzTarget *fuzz_target;	/* the one that runs */

/* fuzz.c: says what is wrong, writes the input to a file and ends the process. */
extern void fuzz_finding(const char *fmt,...) pg_attribute_printf(1, 2) pg_attribute_noreturn();
extern void fuzz_check_text(const char *what, const char *text);	/* not NULL, not empty, valid in the database's encoding */
extern void fuzz_deep(void);	/* an input went all the way: counted, to see that inputs are not all refused at the door */

/* targets.c, target_definition.c */
extern Jsonb *fuzz_read_json(const uint8 *data, int size);
extern void fuzz_definition(const uint8 *data, int size);
extern bool fuzz_definition_allowed(int sqlerrcode);
extern void fuzz_http(const uint8 *data, int size);
extern void fuzz_forget(Jsonb *j);	/* overwrites and frees a document that nobody may point into any more */
extern bool fuzz_nothing_allowed(int sqlerrcode);
extern bool fuzz_data_errors_allowed(int sqlerrcode);

/* mutate.c: random changes of an input; words.c: what it puts in. */
extern size_t fuzz_mutate(uint8 *data, size_t size, size_t max_size, uint64 seed);
extern size_t fuzz_cross(const uint8 *a, size_t a_size, const uint8 *b, size_t b_size, uint8 *out, size_t max_out, uint64 seed);
extern const char *const fuzz_words[];
extern const int fuzz_n_words;

/* A generator of one's own: the same seed gives the same run everywhere. */
static inline uint64
fuzz_random(uint64 *state)
{
	uint64		z = (*state += UINT64CONST(0x9E3779B97F4A7C15));

	z = (z ^ (z >> 30)) * UINT64CONST(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64CONST(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

static inline int
fuzz_below(uint64 *state, int n)
{
	return n <= 1 ? 0 : (int) (fuzz_random(state) % (uint64) n);
}

/* libFuzzer's names.  Without it, driver_blind.c has them. */
extern size_t LLVMFuzzerMutate(uint8 *data, size_t size, size_t max_size);
extern int	LLVMFuzzerRunDriver(int *argc, char ***argv, int (*callback) (const uint8 *data, size_t size));

/* malloc_context.c: a memory context whose chunks are malloc's, so that the address sanitizer sees the bounds of each. */
extern MemoryContext fuzz_malloc_context(MemoryContext parent, const char *name, Size min, Size init, Size max);

#endif
