/*-------------------------------------------------------------------------
 * driver_blind.c
 *		A driver without coverage, in the place of libFuzzer: any compiler builds it.
 *
 *		-runs=N -seed=S -max_len=L directory…
 *
 * Runs the inputs of the directories as they are, then N random changes of them.  A changed input that was kept is changed again: a
 * pool of a thousand is renewed at random, so that changes add up.  The same seed and corpus give the same inputs.
 *-------------------------------------------------------------------------
 */
#include "fuzz.h"

#include <dirent.h>
#include <sys/stat.h>

#define POOL		1000
#define MAX_LEN		65536

typedef struct Input
{
	uint8	   *data;
	size_t		size;
} Input;

static uint64 state;

/* Changes bytes: what libFuzzer has under that name follows comparisons as well. */
size_t
LLVMFuzzerMutate(uint8 *data, size_t size, size_t max_size)
{
	int			at = fuzz_below(&state, (int) size + 1);
	int			len;

	switch (size == 0 ? 0 : fuzz_below(&state, 5))
	{
		case 0:					/* a byte more */
			if (size >= max_size)
				return size;
			memmove(data + at + 1, data + at, size - at);
			data[at] = fuzz_below(&state, 2) ? 32 + fuzz_below(&state, 95) : fuzz_below(&state, 256);
			return size + 1;
		case 1:					/* some less */
			len = fuzz_below(&state, (int) Min(size - Min(at, size), 8) + 1);
			memmove(data + at, data + at + len, size - at - len);
			return size - len;
		case 2:
			data[at % size] ^= 1 << fuzz_below(&state, 8);
			return size;
		case 3:
			data[at % size] = fuzz_below(&state, 256);
			return size;
		default:				/* a piece again */
			len = fuzz_below(&state, (int) Min(size - Min(at, size), 32) + 1);
			if (size + len > max_size)
				return size;
			memmove(data + at + len, data + at, size - at);
			return size + len;
	}
}

extern size_t LLVMFuzzerCustomMutator(uint8 *data, size_t size, size_t max_size, unsigned int seed);
extern size_t LLVMFuzzerCustomCrossOver(const uint8 *a, size_t a_size, const uint8 *b, size_t b_size, uint8 *out, size_t max_out,
										unsigned int seed);

static Input *inputs;
static int	n_inputs;

static int
compare_names(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void
read_directory(const char *directory)
{
	struct dirent **names;
	int			n = scandir(directory, &names, NULL, compare_names);	/* sorted: the order is part of the run */

	if (n < 0)
		elog(ERROR, "could not read the corpus %s: %m", directory);
	for (int i = 0; i < n; i++)
	{
		char	   *path = psprintf("%s/%s", directory, names[i]->d_name);
		struct stat st;
		FILE	   *f;

		if (stat(path, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size > MAX_LEN || (f = fopen(path, "r")) == NULL)
			continue;
		inputs = inputs ? repalloc(inputs, sizeof(Input) * (n_inputs + 1)) : palloc(sizeof(Input));
		inputs[n_inputs].data = malloc(MAX_LEN);
		inputs[n_inputs].size = fread(inputs[n_inputs].data, 1, MAX_LEN, f);
		n_inputs++;
		fclose(f);
	}
}

/* Runs it as a chunk of its own length: reading behind it is seen by the sanitizer. */
static void
run_copy(int (*callback) (const uint8 *data, size_t size), const uint8 *data, size_t size)
{
	uint8	   *copy = malloc(size);

	memcpy(copy, data, size);
	callback(copy, size);
	free(copy);
}

int
LLVMFuzzerRunDriver(int *argc, char ***argv, int (*callback) (const uint8 *data, size_t size))
{
	static uint8 data[MAX_LEN];
	static uint8 mixed[MAX_LEN];
	long		runs = 1000;
	size_t		max_len = 4096;
	Input	   *pool;
	int			n_pool;

	state = 1;
	for (int i = 1; i < *argc; i++)
	{
		const char *arg = (*argv)[i];

		if (strncmp(arg, "-runs=", 6) == 0)
			runs = atol(arg + 6);
		else if (strncmp(arg, "-seed=", 6) == 0)
			state = strtoull(arg + 6, NULL, 10);
		else if (strncmp(arg, "-max_len=", 9) == 0)
			max_len = Min(atol(arg + 9), MAX_LEN);
		else if (arg[0] != '-')
			read_directory(arg);
	}
	if (n_inputs == 0)
		elog(ERROR, "the corpus is empty");
	for (int i = 0; i < n_inputs; i++)
		run_copy(callback, inputs[i].data, inputs[i].size);

	n_pool = Max(POOL, n_inputs);
	pool = palloc(sizeof(Input) * n_pool);
	for (int i = 0; i < n_pool; i++)
	{
		pool[i].size = inputs[i % n_inputs].size;
		pool[i].data = malloc(MAX_LEN);
		memcpy(pool[i].data, inputs[i % n_inputs].data, pool[i].size);
	}
	for (long run = 0; run < runs; run++)
	{
		Input	   *from = &pool[fuzz_below(&state, n_pool)];
		Input	   *other = &pool[fuzz_below(&state, n_pool)];
		size_t		size = Min(from->size, max_len);

		memcpy(data, from->data, size);
		if (fuzz_below(&state, 8) == 0)
		{
			size_t		n = LLVMFuzzerCustomCrossOver(data, size, other->data, other->size, mixed, max_len, (unsigned) fuzz_random(&state));

			if (n > 0)
				memcpy(data, mixed, size = n);
		}
		size = LLVMFuzzerCustomMutator(data, size, max_len, (unsigned) fuzz_random(&state));
		run_copy(callback, data, size);
		/* an original comes back as often as a change is kept, or all would decay */
		if (fuzz_below(&state, 4) == 0)
		{
			Input	   *to = &pool[fuzz_below(&state, n_pool)];
			Input	   *original = &inputs[fuzz_below(&state, n_inputs)];
			bool		keep = fuzz_below(&state, 2);

			to->size = keep ? size : original->size;
			memcpy(to->data, keep ? data : original->data, to->size);
		}
	}
	return 0;
}
