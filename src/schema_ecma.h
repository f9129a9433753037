/*
 * schema_ecma.h
 *	  The translator of ECMA 262 regular expressions, shared by its two files.
 */
#ifndef GOYA_SCHEMA_ECMA_H
#define GOYA_SCHEMA_ECMA_H

#include "mb/pg_wchar.h"
#include "nodes/pg_list.h"

typedef struct GoyaEcmaRange
{
	pg_wchar	low;
	pg_wchar	high;
} GoyaEcmaRange;

/* An open group of the pattern. */
typedef struct GoyaEcmaGroup
{
	int			start;			/* where it begins in the output */
	bool		lookaround;
} GoyaEcmaGroup;

typedef struct GoyaEcma
{
	const pg_wchar *in;			/* zero-terminated */
	int			len;
	int			pos;
	pg_wchar   *out;
	int			outlen;
	int			capacity;
	int			atom;			/* start of what a quantifier repeats, or -1 */
	GoyaEcmaGroup  *groups;
	int			ngroups;
	int			captures;		/* capturing groups in the whole pattern */
	List	   *names;			/* char * by number, "" for unnamed */
	bool		back_references;
	const char *error;
	bool		unsupported;	/* fine in ECMA 262, not here */
} GoyaEcma;

extern bool goya_ecma_translate(GoyaEcma *t, const char *pattern, int len);

/* schema_ecma_char.c, for schema_ecma.c only */
extern bool goya_ecma_fail(GoyaEcma *t, const char *error);
extern bool goya_ecma_fail_unsupported(GoyaEcma *t, const char *error);
extern void goya_ecma_put_char(GoyaEcma *t, pg_wchar c);
extern void goya_ecma_put_text(GoyaEcma *t, const char *s);
extern void goya_ecma_put_literal(GoyaEcma *t, pg_wchar c);
extern void goya_ecma_put_class(GoyaEcma *t, const GoyaEcmaRange *ranges,
								int count, bool negated);
extern void goya_ecma_put_dot(GoyaEcma *t);
extern const GoyaEcmaRange *goya_ecma_find_shorthand(pg_wchar c, int *count);
extern bool goya_ecma_read_escape(GoyaEcma *t, pg_wchar c, pg_wchar *value);
extern bool goya_ecma_translate_class(GoyaEcma *t);

#endif							/* GOYA_SCHEMA_ECMA_H */
