/*
 * schema.h
 *	  JSON Schema for workflow inputs, outputs, operators and forms.
 *
 * A schema (draft 7, 2020-12, or 2019-09 without $recursiveRef) is compiled
 * once into a graph of nodes and then checked against any number of instances.
 * Both sides are jsonb and are read in place; nothing is converted to another
 * tree.
 *
 * A reference may leave the document for one that is carried along: the key
 * "$documents" of the root maps URIs to documents.  goya.bundle_schema adds
 * those that are registered; nothing here reads a table or the network.
 *
 * What must hold:
 *	- A bad schema is a message in *error and a bad instance is a list of
 *	  errors; neither is ever an ereport.  Only cancellation and running out
 *	  of memory can throw.
 *	- No catalog access and no transaction is needed; an initialized database
 *	  encoding is.
 */
#ifndef GOYA_SCHEMA_H
#define GOYA_SCHEMA_H

#include "nodes/pg_list.h"
#include "utils/jsonb.h"

/* Compiled; lives in the memory context that was current at compile. */
typedef struct GoyaSchema GoyaSchema;

typedef struct GoyaSchemaError
{
	char	   *path;			/* JSON Pointer into the instance, "" = root */
	char	   *keyword;		/* schema keyword that was violated */
	char	   *message;		/* what is wrong, lower case, no full stop */
	char	   *hint;			/* a sentence saying what to do, or NULL */
	char	   *schema_path;	/* the keyword's place, as "#/properties/a/type" */
} GoyaSchemaError;

/*
 * Compile a schema.  The document is copied, the caller may free it.  Returns
 * NULL and sets *error (palloc'd, with the place inside the schema) when the
 * schema itself is wrong.
 */
extern GoyaSchema *goya_schema_compile(Jsonb *schema, char **error);

/*
 * The URIs of documents that a schema refers to and does not carry along, a
 * List of char * in the current memory context; NIL when it is whole.  Sets
 * *error when what is there is wrong, to NULL otherwise.
 */
extern List *goya_schema_missing(Jsonb *schema, char **error);

/*
 * All violations, at most max_errors (at least one is kept); a List of
 * GoyaSchemaError * in the current memory context.  NIL means valid.
 */
extern List *goya_schema_check(GoyaSchema *schema, Jsonb *instance,
							   int max_errors);

#endif							/* GOYA_SCHEMA_H */
