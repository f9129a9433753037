/*-------------------------------------------------------------------------
 * mutate.c
 *		Random changes of an input.  JSON is changed as a tree: members dropped, doubled, swapped, moved, renamed, replaced; only what stands
 *		in strings and numbers is changed as bytes.  Other inputs are bytes and words.
 *
 * Decided.  Bytes changed at random hardly ever are JSON again, and a fuzzer that feeds the JSON parser tests PostgreSQL.  One change in
 * sixteen is of the bytes of the whole all the same.  Strings are kept as they stand between the quotes, escapes and all.
 * The tree lives in an arena of its own, emptied before each change: no memory context is touched.
 *-------------------------------------------------------------------------
 */
#include "fuzz.h"

#define ARENA_SIZE	(16 * 1024 * 1024)
#define MAX_TREE	20000		/* values; larger inputs are changed as bytes */
#define MAX_NEST	400

typedef enum Kind
{
	KIND_OBJECT, KIND_ARRAY, KIND_STRING, KIND_OTHER
} Kind;

typedef struct Value
{
	Kind		kind;
	const char *text;			/* string: between the quotes; number, true …: itself */
	int			len;
	int			n;				/* members or elements */
	int			max;
	struct Value **parts;
	struct Value **keys;		/* object: strings */
} Value;

typedef struct Tree
{
	Value	   *values[MAX_TREE];	/* all of them, for choosing one */
	int			n;
} Tree;

static char arena[ARENA_SIZE];
static size_t arena_used;

static void *
take(size_t size)
{
	void	   *p = arena + arena_used;

	size = (size + 7) & ~(size_t) 7;
	if (arena_used + size > ARENA_SIZE)
		return NULL;
	arena_used += size;
	return p;
}

/* ---- reading ---- */

typedef struct Reader
{
	const char *p;
	const char *end;
	int			n;
	int			depth;
} Reader;

static Value *
make_value(Kind kind, const char *text, int len)
{
	Value	   *v = take(sizeof(Value));

	if (v == NULL)
		return NULL;
	memset(v, 0, sizeof(*v));
	v->kind = kind;
	v->text = text;
	v->len = len;
	return v;
}

/* False: no room. */
static bool
add_part(Value *v, int at, Value *key, Value *part)
{
	if (part == NULL || (v->kind == KIND_OBJECT && key == NULL))
		return false;
	if (v->n == v->max)
	{
		int			max = v->max ? v->max * 2 : 4;
		Value	  **parts = take(sizeof(Value *) * max);
		Value	  **keys = take(sizeof(Value *) * max);

		if (parts == NULL || keys == NULL)
			return false;
		if (v->n > 0)
		{
			memcpy(parts, v->parts, sizeof(Value *) * v->n);
			memcpy(keys, v->keys, sizeof(Value *) * v->n);
		}
		v->parts = parts;
		v->keys = keys;
		v->max = max;
	}
	memmove(v->parts + at + 1, v->parts + at, sizeof(Value *) * (v->n - at));
	memmove(v->keys + at + 1, v->keys + at, sizeof(Value *) * (v->n - at));
	v->parts[at] = part;
	v->keys[at] = key;
	v->n++;
	return true;
}

static void
skip_blanks(Reader *r)
{
	while (r->p < r->end && strchr(" \t\r\n", *r->p) && *r->p != '\0')
		r->p++;
}

static Value *
read_string(Reader *r)
{
	const char *start = ++r->p;

	while (r->p < r->end && *r->p != '"')
		r->p += *r->p == '\\' ? 2 : 1;
	if (r->p >= r->end)
		return NULL;
	r->p++;
	return make_value(KIND_STRING, start, (int) (r->p - 1 - start));
}

static Value *read_value(Reader *r);

static Value *
read_container(Reader *r, Kind kind, char close)
{
	Value	   *v = make_value(kind, NULL, 0);

	r->p++;
	for (skip_blanks(r); v && r->p < r->end && *r->p != close; skip_blanks(r))
	{
		Value	   *key = NULL;

		if (v->n > 0 && *r->p++ != ',')
			return NULL;
		skip_blanks(r);
		if (kind == KIND_OBJECT)
		{
			key = r->p < r->end && *r->p == '"' ? read_string(r) : NULL;
			skip_blanks(r);
			if (key == NULL || r->p >= r->end || *r->p++ != ':')
				return NULL;
		}
		if (!add_part(v, v->n, key, read_value(r)))
			return NULL;
	}
	if (r->p >= r->end)
		return NULL;
	r->p++;
	return v;
}

static Value *
read_value(Reader *r)
{
	const char *start;
	Value	   *v = NULL;

	skip_blanks(r);
	if (r->p >= r->end || ++r->n > MAX_TREE / 2 || r->depth > MAX_NEST)
		return NULL;
	start = r->p;
	r->depth++;
	if (*r->p == '{')
		v = read_container(r, KIND_OBJECT, '}');
	else if (*r->p == '[')
		v = read_container(r, KIND_ARRAY, ']');
	else if (*r->p == '"')
		v = read_string(r);
	else
	{
		while (r->p < r->end && ((*r->p >= '0' && *r->p <= '9') || (*r->p >= 'a' && *r->p <= 'z') || strchr("+-.E", *r->p)) && *r->p != '\0')
			r->p++;
		if (r->p > start)
			v = make_value(KIND_OTHER, start, (int) (r->p - start));
	}
	r->depth--;
	return v;
}

static Value *
read_document(const uint8 *data, size_t size)
{
	Reader		r = {(const char *) data, (const char *) data + size, 0, 0};
	Value	   *v = read_value(&r);

	skip_blanks(&r);
	return r.p == r.end ? v : NULL;
}

/* ---- writing ---- */

typedef struct Writer
{
	uint8	   *out;
	size_t		n;
	size_t		max;			/* beyond it nothing is written, but counted */
} Writer;

static void
put(Writer *w, const char *s, size_t len)
{
	if (w->n + len <= w->max)
		memcpy(w->out + w->n, s, len);
	w->n += len;
}

static void
write_value(Writer *w, const Value *v, int depth)
{
	if (depth > 2 * MAX_NEST || w->n > w->max)
	{
		put(w, "0", 1);
		return;
	}
	switch (v->kind)
	{
		case KIND_STRING:
			put(w, "\"", 1);
			put(w, v->text, v->len);
			put(w, "\"", 1);
			break;
		case KIND_OTHER:
			put(w, v->text, v->len);
			break;
		default:
			put(w, v->kind == KIND_OBJECT ? "{" : "[", 1);
			for (int i = 0; i < v->n; i++)
			{
				if (i > 0)
					put(w, ",", 1);
				if (v->kind == KIND_OBJECT)
				{
					write_value(w, v->keys[i], depth + 1);
					put(w, ":", 1);
				}
				write_value(w, v->parts[i], depth + 1);
			}
			put(w, v->kind == KIND_OBJECT ? "}" : "]", 1);
			break;
	}
}

/* ---- texts ---- */

/* Makes bytes fit between quotes again; one time in eight they stay as they are, if the quotes allow. */
static Value *
quote_bytes(const uint8 *bytes, size_t n, uint64 *seed)
{
	char	   *out = take(n * 6 + 1);
	int			len = 0;
	bool		raw = fuzz_below(seed, 8) == 0;

	if (out == NULL)
		return NULL;
	for (size_t i = 0; i < n; i++)
	{
		uint8		c = bytes[i];

		if (c == '\\' && i + 1 < n && strchr("\"\\/bfnrtu", bytes[i + 1]) && bytes[i + 1] != '\0')
		{
			out[len++] = c;
			out[len++] = bytes[++i];
		}
		else if (c == '"' || c == '\\')
		{
			out[len++] = '\\';
			out[len++] = c;
		}
		else if (c < 0x20)
			len += sprintf(out + len, "\\u%04x", c == 0 && !raw ? 1 : c);
		else
			out[len++] = c < 0x80 || raw ? c : c & 0x7f;
	}
	return make_value(KIND_STRING, out, len);
}

static const char *
random_word(uint64 *seed)
{
	return fuzz_words[fuzz_below(seed, fuzz_n_words)];
}

/* A text with something put into it, at a random place. */
static Value *
insert_text(const Value *v, const char *what, size_t what_len, uint64 *seed)
{
	char	   *out = take(v->len + what_len + 1);
	int			at = fuzz_below(seed, v->len + 1);

	if (out == NULL)
		return NULL;
	while (at > 0 && at < v->len && (v->text[at - 1] == '\\' || (v->text[at] & 0xC0) == 0x80))
		at--;
	memcpy(out, v->text, at);
	memcpy(out + at, what, what_len);
	memcpy(out + at + what_len, v->text + at, v->len - at);
	return make_value(KIND_STRING, out, (int) (v->len + what_len));
}

static Value *
word_string(uint64 *seed)
{
	const char *word = random_word(seed);

	return quote_bytes((const uint8 *) word, strlen(word), seed);
}

static Value *
long_string(uint64 *seed)
{
	static const int lengths[] = {63, 64, 65, 127, 128, 255, 256, 257, 1000, 5000, 20000};
	int			n = lengths[fuzz_below(seed, lengthof(lengths))];
	char	   *out = take(n + 1);
	const char *fill = fuzz_below(seed, 4) == 0 ? random_word(seed) : "x";
	int			fill_len = strlen(fill);

	if (out == NULL || fill_len == 0)
		return NULL;
	for (int i = 0; i < n; i++)
		out[i] = fill[i % fill_len];
	return quote_bytes((const uint8 *) out, n, seed);
}

static Value *
change_string(Value *v, uint64 *seed)
{
	char		path[300];
	uint8	   *copy;
	size_t		n;
	Value	   *word;

	switch (fuzz_below(seed, 8))
	{
		case 0:
			return word_string(seed);
		case 1:
			snprintf(path, sizeof(path), "{{ %.200s }}", random_word(seed));
			word = quote_bytes((uint8 *) path, strlen(path), seed);
			return word ? insert_text(v, word->text, word->len, seed) : NULL;
		case 2:
		case 3:
			word = word_string(seed);
			return word ? insert_text(v, word->text, word->len, seed) : NULL;
		case 4:
			return fuzz_below(seed, 16) == 0 ? long_string(seed) : make_value(KIND_STRING, "", 0);
		default:
			copy = take(v->len * 2 + 64);
			if (copy == NULL)
				return NULL;
			memcpy(copy, v->text, v->len);
			n = LLVMFuzzerMutate(copy, v->len, v->len + 32);
			return quote_bytes(copy, n, seed);
	}
}

static const char *const scalars[] = {
	"null", "true", "false", "0", "1", "-1", "2", "3", "63", "64", "65", "100", "255", "256", "0.5", "-0.0", "1e1", "1.0", "1e-5", "-1e-400",
	"1e400", "1e131000", "2147483647", "2147483648", "-2147483649", "9007199254740993", "9223372036854775807", "9223372036854775808",
	"-9223372036854775809", "1e308", "1.7976931348623159e308", "5e-324", "0.1000000000000000055511151231257827021181583404541015625",
	"99999999999999999999999999999999999999999999999999", "1000000", "10000", "10001", "86400000", "3600", "253402300800", "1000000000000"
};

static Value *
nested(uint64 *seed)
{
	static const int depths[] = {2, 5, 20, 62, 63, 64, 65, 99, 100, 101, 300};
	int			depth = depths[fuzz_below(seed, lengthof(depths))];
	bool		objects = fuzz_below(seed, 2);
	Value	   *v = word_string(seed);

	for (int i = 0; i < depth && v != NULL; i++)
	{
		Value	   *outer = make_value(objects ? KIND_OBJECT : KIND_ARRAY, NULL, 0);

		if (outer == NULL || !add_part(outer, 0, objects ? make_value(KIND_STRING, "a", 1) : NULL, v))
			return NULL;
		v = outer;
	}
	return v;
}

static Value *
new_value(uint64 *seed)
{
	const char *s;

	switch (fuzz_below(seed, 16))
	{
		case 0:
			return make_value(KIND_OBJECT, NULL, 0);
		case 1:
			return make_value(KIND_ARRAY, NULL, 0);
		case 2:
			return fuzz_below(seed, 8) == 0 ? nested(seed) : make_value(KIND_OBJECT, NULL, 0);
		case 3:
			return fuzz_below(seed, 8) == 0 ? long_string(seed) : make_value(KIND_STRING, "", 0);
		case 4:
		case 5:
		case 6:
		case 7:
			s = scalars[fuzz_below(seed, lengthof(scalars))];
			return make_value(KIND_OTHER, s, strlen(s));
		default:
			return word_string(seed);
	}
}

/* A digit, a sign or an exponent more or less; what is no number any more is refused by the parser: rarely. */
static Value *
change_number(Value *v, uint64 *seed)
{
	char	   *out = take(v->len + 8);
	const char *s;

	if (out == NULL || v->len == 0 || (v->text[0] != '-' && (v->text[0] < '0' || v->text[0] > '9')) || fuzz_below(seed, 2))
	{
		s = scalars[fuzz_below(seed, lengthof(scalars))];
		return make_value(KIND_OTHER, s, strlen(s));
	}
	memcpy(out, v->text, v->len);
	switch (fuzz_below(seed, 4))
	{
		case 0:
			out[v->len - 1] = '0' + fuzz_below(seed, 10);
			return make_value(KIND_OTHER, out, v->len);
		case 1:
			out[v->len] = '0' + fuzz_below(seed, 10);
			return make_value(KIND_OTHER, out, v->len + 1);
		case 2:
			memmove(out + 1, out, v->len);
			out[0] = '-';
			return out[1] == '-' ? make_value(KIND_OTHER, out + 2, v->len - 1) : make_value(KIND_OTHER, out, v->len + 1);
		default:
			return make_value(KIND_OTHER, out, v->len + sprintf(out + v->len, "e%d", fuzz_below(seed, 40) - 20));
	}
}

/* ---- trees ---- */

static void
collect(Tree *t, Value *v, int depth)
{
	if (t->n == MAX_TREE || depth > 2 * MAX_NEST)
		return;
	t->values[t->n++] = v;
	for (int i = 0; i < v->n; i++)
		collect(t, v->parts[i], depth + 1);
}

static Value *
copy_value(const Value *v)
{
	Value	   *copy = make_value(v->kind, v->text, v->len);

	for (int i = 0; copy && i < v->n; i++)
	{
		if (!add_part(copy, i, v->keys[i], copy_value(v->parts[i])))
			return NULL;
	}
	return copy;
}

/* One change inside a container. */
static void
change_container(Tree *t, Value *v, uint64 *seed)
{
	int			i = fuzz_below(seed, v->n);
	int			j = fuzz_below(seed, v->n);
	Value	   *other = t->values[fuzz_below(seed, t->n)];
	Value	   *key;

	if (v->n == 0 || fuzz_below(seed, 4) == 0)
	{
		key = v->kind == KIND_OBJECT ? word_string(seed) : NULL;
		add_part(v, fuzz_below(seed, v->n + 1), key, fuzz_below(seed, 2) ? new_value(seed) : copy_value(other));
		return;
	}
	switch (fuzz_below(seed, 7))
	{
		case 0:
		case 1:					/* drop */
			memmove(v->parts + i, v->parts + i + 1, sizeof(Value *) * (v->n - i - 1));
			memmove(v->keys + i, v->keys + i + 1, sizeof(Value *) * (v->n - i - 1));
			v->n--;
			break;
		case 2:					/* double, with the same key or another one */
			key = v->keys[i];
			if (v->kind == KIND_OBJECT && fuzz_below(seed, 2))
				key = word_string(seed);
			add_part(v, j, key, copy_value(v->parts[i]));
			break;
		case 3:					/* swap */
			other = v->parts[i];
			v->parts[i] = v->parts[j];
			v->parts[j] = other;
			break;
		case 4:					/* rename, or move */
			if (v->kind == KIND_OBJECT && (key = fuzz_below(seed, 2) ? change_string(v->keys[i], seed) : word_string(seed)) != NULL)
				v->keys[i] = key;
			break;
		case 5:					/* another part of the document here */
			if ((other = copy_value(other)) != NULL)
				v->parts[i] = other;
			break;
		default:				/* many of it: joins, fans, long lists */
			for (int k = fuzz_below(seed, 8) == 0 ? 200 : 3; k > 0; k--)
				if (!add_part(v, v->n, v->kind == KIND_OBJECT ? word_string(seed) : NULL, copy_value(v->parts[i])))
					break;
			break;
	}
}

static void
change_tree(Value *root, uint64 *seed)
{
	static Tree t;
	Value	   *v;
	Value	   *changed = NULL;

	t.n = 0;
	collect(&t, root, 0);
	v = t.values[fuzz_below(seed, t.n)];
	if (v->kind == KIND_OBJECT || v->kind == KIND_ARRAY)
	{
		change_container(&t, v, seed);
		return;
	}
	if (fuzz_below(seed, 8) == 0)
		changed = new_value(seed);
	else if (v->kind == KIND_STRING)
		changed = change_string(v, seed);
	else
		changed = change_number(v, seed);
	if (changed)
		*v = *changed;
}

static size_t
write_document(const Value *root, uint8 *out, size_t max)
{
	Writer		w = {out, 0, max};

	write_value(&w, root, 0);
	return w.n <= max ? w.n : 0;
}

/* ---- what drivers call ---- */

static size_t
mutate_bytes(uint8 *data, size_t size, size_t max_size, uint64 *seed)
{
	const char *word = random_word(seed);
	size_t		len = strlen(word);
	size_t		at = fuzz_below(seed, (int) size + 1);

	if (fuzz_below(seed, 3) > 0 || size + len > max_size)
		return LLVMFuzzerMutate(data, size, max_size);
	memmove(data + at + len, data + at, size - at);
	memcpy(data + at, word, len);
	return size + len;
}

size_t
fuzz_mutate(uint8 *data, size_t size, size_t max_size, uint64 seed)
{
	static uint8 out[1024 * 1024];
	Value	   *root = NULL;
	size_t		n;

	arena_used = 0;
	if (fuzz_target->json && fuzz_below(&seed, 16) > 0)
		root = read_document(data, size);
	if (root == NULL)
		return mutate_bytes(data, size, max_size, &seed);
	for (int changes = 1 + fuzz_below(&seed, 3); changes > 0; changes--)
		change_tree(root, &seed);
	n = write_document(root, out, Min(max_size, sizeof(out)));
	if (n == 0)
		return mutate_bytes(data, size, max_size, &seed);
	memcpy(data, out, n);
	return n;
}

/* A part of b in the place of a part of a, or beside it. */
size_t
fuzz_cross(const uint8 *a, size_t a_size, const uint8 *b, size_t b_size, uint8 *out, size_t max_out, uint64 seed)
{
	static Tree mine;
	static Tree theirs;
	Value	   *root;
	Value	   *other;
	Value	   *v;
	Value	   *part;

	arena_used = 0;
	if (!fuzz_target->json || (root = read_document(a, a_size)) == NULL || (other = read_document(b, b_size)) == NULL)
	{
		size_t		head = fuzz_below(&seed, (int) Min(a_size, max_out) + 1);
		size_t		from = fuzz_below(&seed, (int) b_size + 1);
		size_t		tail = Min(b_size - from, max_out - head);

		memcpy(out, a, head);
		memcpy(out + head, b + from, tail);
		return head + tail;
	}
	mine.n = theirs.n = 0;
	collect(&mine, root, 0);
	collect(&theirs, other, 0);
	part = theirs.values[fuzz_below(&seed, theirs.n)];
	for (int tries = 0; tries < 8; tries++)
	{
		v = mine.values[fuzz_below(&seed, mine.n)];
		if (v->kind == part->kind)
			break;
	}
	if (v->kind == KIND_ARRAY && fuzz_below(&seed, 2))
		add_part(v, fuzz_below(&seed, v->n + 1), NULL, part);
	else
		*v = *part;
	return write_document(root, out, max_out);
}
