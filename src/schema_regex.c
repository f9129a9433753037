/*
 * schema_regex.c
 *	  JSON Schema: patterns on PostgreSQL's regular expression engine.
 *
 * schema_ecma.c turns the pattern into the engine's syntax; here it is
 * compiled, owned and run.
 *
 * What must hold:
 *	- Matching uses collation C: code points, no locale.
 *	- A compiled expression is owned by its memory context; before version 16
 *	  the engine allocates with malloc and a reset callback frees it.
 *	- Cancelling works: the engine returns REG_CANCEL or throws, by version.
 */
#include "postgres.h"

#include "schema_ecma.h"
#include "schema_internal.h"

#include "catalog/pg_collation.h"
#include "miscadmin.h"
#include "regex/regex.h"

struct GoyaSchemaRegex
{
	char	   *source;			/* quoted, for messages */
	bool		compiled;
	regex_t		re;
	MemoryContextCallback callback;
};

#if PG_VERSION_NUM < 160000
static void
free_regex(void *arg)
{
	GoyaSchemaRegex *regex = arg;

	if (regex->compiled)
		pg_regfree(&regex->re);
	regex->compiled = false;
}
#endif

static GoyaSchemaRegex *
make_regex(void)
{
	GoyaSchemaRegex *regex = palloc0(sizeof(GoyaSchemaRegex));

#if PG_VERSION_NUM < 160000
	regex->callback.func = free_regex;
	regex->callback.arg = regex;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &regex->callback);
#endif
	return regex;
}

/*
 * Compile a pattern.  On failure returns NULL with *error, palloc'd.  The
 * result belongs to the current memory context.
 */
GoyaSchemaRegex *
goya_schema_regex_compile(const char *pattern, int len, char **error)
{
	GoyaEcma	t;
	GoyaSchemaRegex *regex;
	char		message[128];
	int			code;

	if (!goya_ecma_translate(&t, pattern, len))
	{
		*error = pstrdup(t.error);
		return NULL;
	}
	regex = make_regex();
	code = pg_regcomp(&regex->re, t.out, t.outlen, REG_ADVANCED | REG_NOSUB,
					  C_COLLATION_OID);
	pfree(t.out);
	if (code != REG_OKAY)
	{
		CHECK_FOR_INTERRUPTS();
		pg_regerror(code, &regex->re, message, sizeof(message));
		*error = pstrdup(message);
		return NULL;
	}
	regex->compiled = true;
	regex->source = goya_schema_quote(pattern, len);
	return regex;
}

const char *
goya_schema_regex_source(GoyaSchemaRegex *regex)
{
	return regex->source;
}

/* Does the pattern match anywhere in the string? */
bool
goya_schema_regex_match(GoyaSchemaRegex *regex, const char *s, int len)
{
	pg_wchar   *wide = palloc((len + 1) * sizeof(pg_wchar));
	int			wide_len = pg_mb2wchar_with_len(s, wide, len);
	int			code;

	code = pg_regexec(&regex->re, wide, wide_len, 0, NULL, 0, NULL, 0);
	pfree(wide);
	if (code != REG_OKAY && code != REG_NOMATCH)
		CHECK_FOR_INTERRUPTS();
	return code == REG_OKAY;
}

/* Is it a regular expression by ECMA 262, whether or not we can run it? */
bool
goya_schema_regex_is_valid(const char *pattern, int len)
{
	GoyaEcma	t;

	return goya_ecma_translate(&t, pattern, len) || t.unsupported;
}
