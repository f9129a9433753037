/*
 * schema_uri.c
 *	  JSON Schema: resolving the URI reference in $id and $ref against a base.
 *
 * This is RFC 3986 section 5.2 on C strings: enough structure to keep base
 * URIs apart, no validation (the format "uri" does that) and no network.
 *
 * What must hold: results are palloc'd, never NULL, and a fragment in the
 * reference is kept while one in the base is dropped.
 */
#include "postgres.h"

#include "schema_internal.h"

/* A URI reference cut into parts; pointers into the string, -1 = absent. */
typedef struct UriParts
{
	const char *scheme;
	int			scheme_len;
	const char *authority;		/* without the slashes */
	int			authority_len;
	const char *path;
	int			path_len;
	const char *query;			/* with the question mark */
	int			query_len;
	const char *fragment;		/* with the hash */
} UriParts;

static void
split_uri(const char *s, UriParts *u)
{
	size_t		n;

	u->scheme = u->authority = u->query = u->fragment = NULL;
	u->scheme_len = u->authority_len = u->query_len = -1;

	n = strcspn(s, ":/?#");
	if (n > 0 && s[n] == ':')
	{
		u->scheme = s;
		u->scheme_len = (int) n;
		s += n + 1;
	}
	if (s[0] == '/' && s[1] == '/')
	{
		s += 2;
		n = strcspn(s, "/?#");
		u->authority = s;
		u->authority_len = (int) n;
		s += n;
	}
	n = strcspn(s, "?#");
	u->path = s;
	u->path_len = (int) n;
	s += n;
	if (*s == '?')
	{
		n = strcspn(s, "#");
		u->query = s;
		u->query_len = (int) n;
		s += n;
	}
	if (*s == '#')
		u->fragment = s;
}

/* Remove "." and ".." segments, in place. */
static void
remove_dots(char *path)
{
	char	   *in = path;
	char	   *out = path;

	while (*in)
	{
		if (strncmp(in, "../", 3) == 0)
			in += 3;
		else if (strncmp(in, "./", 2) == 0)
			in += 2;
		else if (strncmp(in, "/./", 3) == 0)
			in += 2;
		else if (strcmp(in, "/.") == 0)
			*++in = '/', in[1] = '\0';
		else if (strncmp(in, "/../", 4) == 0 || strcmp(in, "/..") == 0)
		{
			bool		last = (in[3] == '\0');

			while (out > path && *--out != '/')
				;
			if (last)
			{
				*out++ = '/';
				break;
			}
			in += 3;
		}
		else if (strcmp(in, ".") == 0 || strcmp(in, "..") == 0)
			break;
		else
		{
			do
				*out++ = *in++;
			while (*in && *in != '/');
		}
	}
	*out = '\0';
}

/* The path of a relative reference laid over the base's path. */
static char *
merge_path(const UriParts *base, const UriParts *ref)
{
	char	   *merged;
	int			keep = base->path_len;

	if (ref->path_len > 0 && ref->path[0] == '/')
		merged = pnstrdup(ref->path, ref->path_len);
	else if (base->authority && base->path_len == 0)
		merged = psprintf("/%.*s", ref->path_len, ref->path);
	else
	{
		while (keep > 0 && base->path[keep - 1] != '/')
			keep--;
		merged = psprintf("%.*s%.*s", keep, base->path,
						  ref->path_len, ref->path);
	}
	remove_dots(merged);
	return merged;
}

/* Resolve a URI reference against a base; both may be relative or empty. */
char *
goya_schema_resolve_uri(const char *base, const char *ref)
{
	UriParts	b;
	UriParts	r;
	StringInfoData out;
	bool		from_base;
	const UriParts *authority;

	split_uri(base, &b);
	split_uri(ref, &r);
	if (r.scheme)
		return pstrdup(ref);

	initStringInfo(&out);
	if (b.scheme)
		appendStringInfo(&out, "%.*s:", b.scheme_len, b.scheme);
	authority = r.authority ? &r : &b;
	if (authority->authority)
		appendStringInfo(&out, "//%.*s", authority->authority_len,
						 authority->authority);
	from_base = (r.authority == NULL && r.path_len == 0);
	if (from_base)
		appendStringInfo(&out, "%.*s", b.path_len, b.path);
	else if (r.authority)
		appendStringInfo(&out, "%.*s", r.path_len, r.path);
	else
		appendStringInfoString(&out, merge_path(&b, &r));
	if (r.query)
		appendStringInfo(&out, "%.*s", r.query_len, r.query);
	else if (from_base && b.query)
		appendStringInfo(&out, "%.*s", b.query_len, b.query);
	if (r.fragment)
		appendStringInfoString(&out, r.fragment);
	return out.data;
}
