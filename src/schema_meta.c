/*
 * schema_meta.c
 *	  JSON Schema: the metaschemas a document may refer to.
 *
 * {"$ref": "http://json-schema.org/draft-07/schema#"} checks a value that is
 * itself a schema, as the input of a workflow that stores operators is.  They
 * are written out here in brief, assertions only.  The one of 2020-12 has the
 * keywords of all vocabularies itself, so that an error is reported once; each
 * vocabulary is a document as well.  All have the dynamic anchor "meta", so
 * that a schema may extend them.  "$schema" is without a version, so that the
 * format of a pattern is asserted.
 */
#include "postgres.h"

#include "schema_internal.h"

#define COUNT "{\"type\": \"integer\", \"minimum\": 0}"
#define STRINGS "{\"type\": \"array\", \"items\": {\"type\": \"string\"}, \"uniqueItems\": true}"
#define TYPES "{\"enum\": [\"array\", \"boolean\", \"integer\", \"null\", \"number\", \"object\", \"string\"]}"
#define TYPE "{\"anyOf\": [" TYPES ", {\"type\": \"array\", \"items\": " TYPES ", \"minItems\": 1, \"uniqueItems\": true}]}"

/* What the dialects have in common, by the vocabularies of 2020-12. */
#define CORE \
	"\"$schema\": {\"type\": \"string\", \"format\": \"uri\"}," \
	"\"$comment\": {\"type\": \"string\"}"
#define META_DATA \
	"\"title\": {\"type\": \"string\"}," \
	"\"description\": {\"type\": \"string\"}," \
	"\"readOnly\": {\"type\": \"boolean\"}," \
	"\"writeOnly\": {\"type\": \"boolean\"}," \
	"\"examples\": {\"type\": \"array\"}"
#define VALIDATION \
	"\"multipleOf\": {\"type\": \"number\", \"exclusiveMinimum\": 0}," \
	"\"maximum\": {\"type\": \"number\"}," \
	"\"exclusiveMaximum\": {\"type\": \"number\"}," \
	"\"minimum\": {\"type\": \"number\"}," \
	"\"exclusiveMinimum\": {\"type\": \"number\"}," \
	"\"maxLength\": " COUNT ", \"minLength\": " COUNT "," \
	"\"pattern\": {\"type\": \"string\", \"format\": \"regex\"}," \
	"\"maxItems\": " COUNT ", \"minItems\": " COUNT "," \
	"\"uniqueItems\": {\"type\": \"boolean\"}," \
	"\"maxProperties\": " COUNT ", \"minProperties\": " COUNT "," \
	"\"required\": " STRINGS "," \
	"\"type\": " TYPE ", \"enum\": {\"type\": \"array\"}"
#define FORMAT "\"format\": {\"type\": \"string\"}"
#define CONTENT \
	"\"contentMediaType\": {\"type\": \"string\"}," \
	"\"contentEncoding\": {\"type\": \"string\"}"

/* Keywords that hold schemas, with the reference the dialect uses. */
#define SCHEMA_MAP(self) "{\"type\": \"object\", \"additionalProperties\": " self "}"
#define SCHEMA_LIST(self) "{\"type\": \"array\", \"minItems\": 1, \"items\": " self "}"
#define APPLICATOR(self) \
	"\"contains\": " self "," \
	"\"properties\": " SCHEMA_MAP(self) "," \
	"\"patternProperties\": {\"type\": \"object\", \"additionalProperties\": " self "," \
	"  \"propertyNames\": {\"format\": \"regex\"}}," \
	"\"additionalProperties\": " self ", \"propertyNames\": " self "," \
	"\"if\": " self ", \"then\": " self ", \"else\": " self ", \"not\": " self "," \
	"\"allOf\": " SCHEMA_LIST(self) "," \
	"\"anyOf\": " SCHEMA_LIST(self) "," \
	"\"oneOf\": " SCHEMA_LIST(self)
#define OLDER(self) \
	"\"definitions\": " SCHEMA_MAP(self) "," \
	"\"dependencies\": {\"type\": \"object\"," \
	"  \"additionalProperties\": {\"anyOf\": [" self ", " STRINGS "]}}"

#define SELF_7 "{\"$ref\": \"#\"}"
#define SELF_2020 "{\"$dynamicRef\": \"#meta\"}"
#define ANCHOR "{\"type\": \"string\", \"pattern\": \"^[A-Za-z_][-A-Za-z0-9._]*$\"}"
#define REFERENCE "{\"type\": \"string\", \"format\": \"uri-reference\"}"

static const char draft7[] =
	"{\"$schema\": \"http://json-schema.org/draft-07/schema#\","
	" \"$id\": \"http://json-schema.org/draft-07/schema#\","
	" \"type\": [\"object\", \"boolean\"], \"properties\": {"
	CORE "," META_DATA "," VALIDATION "," FORMAT "," CONTENT ","
	APPLICATOR(SELF_7) "," OLDER(SELF_7) ","
	"\"additionalItems\": " SELF_7 ","
	"\"items\": {\"anyOf\": [" SELF_7 ", " SCHEMA_LIST(SELF_7) "]},"
	"\"$id\": " REFERENCE ", \"$ref\": " REFERENCE "}}";

#define CORE_2020 \
	CORE "," \
	"\"$defs\": " SCHEMA_MAP(SELF_2020) "," \
	"\"$vocabulary\": {\"type\": \"object\", \"additionalProperties\": {\"type\": \"boolean\"}}," \
	"\"$anchor\": " ANCHOR ", \"$dynamicAnchor\": " ANCHOR "," \
	"\"$id\": {\"type\": \"string\", \"format\": \"uri-reference\", \"pattern\": \"^[^#]*#?$\"}," \
	"\"$ref\": " REFERENCE ", \"$dynamicRef\": " REFERENCE
#define APPLICATOR_2020 \
	APPLICATOR(SELF_2020) "," \
	"\"items\": " SELF_2020 ", \"prefixItems\": " SCHEMA_LIST(SELF_2020) "," \
	"\"dependentSchemas\": " SCHEMA_MAP(SELF_2020)
#define UNEVALUATED_2020 \
	"\"unevaluatedItems\": " SELF_2020 ", \"unevaluatedProperties\": " SELF_2020
#define VALIDATION_2020 \
	VALIDATION "," \
	"\"dependentRequired\": {\"type\": \"object\", \"additionalProperties\": " STRINGS "}," \
	"\"maxContains\": " COUNT ", \"minContains\": " COUNT
#define META_DATA_2020 META_DATA ", \"deprecated\": {\"type\": \"boolean\"}"
#define CONTENT_2020 CONTENT ", \"contentSchema\": " SELF_2020

/* A document of 2020-12; name is what its URI ends in. */
#define DOCUMENT_2020(name, properties) \
	"{\"$schema\": \"https://json-schema.org/schema\", \"$id\": \"" BASE_2020 name "\"," \
	" \"$dynamicAnchor\": \"meta\", \"type\": [\"object\", \"boolean\"]," \
	" \"properties\": {" properties "}}"

#define BASE_2020 "https://json-schema.org/draft/2020-12/"

/* The metaschemas by their URIs without fragment. */
static const struct
{
	const char *uri;
	const char *text;
}			metaschemas[] = {
	{"http://json-schema.org/draft-07/schema", draft7},
	{BASE_2020 "schema",
		DOCUMENT_2020("schema", CORE_2020 "," APPLICATOR_2020 "," UNEVALUATED_2020 "," VALIDATION_2020 ","
		META_DATA_2020 "," FORMAT "," CONTENT_2020 "," OLDER(SELF_2020))},
	{BASE_2020 "meta/core", DOCUMENT_2020("meta/core", CORE_2020)},
	{BASE_2020 "meta/applicator", DOCUMENT_2020("meta/applicator", APPLICATOR_2020)},
	{BASE_2020 "meta/unevaluated", DOCUMENT_2020("meta/unevaluated", UNEVALUATED_2020)},
	{BASE_2020 "meta/validation", DOCUMENT_2020("meta/validation", VALIDATION_2020)},
	{BASE_2020 "meta/meta-data", DOCUMENT_2020("meta/meta-data", META_DATA_2020)},
	{BASE_2020 "meta/format-annotation", DOCUMENT_2020("meta/format-annotation", FORMAT)},
	{BASE_2020 "meta/format-assertion", DOCUMENT_2020("meta/format-assertion", FORMAT)},
	{BASE_2020 "meta/content", DOCUMENT_2020("meta/content", CONTENT_2020)},
};

/* The text of a built-in metaschema by its URI without fragment, or NULL. */
const char *
goya_schema_find_metaschema(const char *uri)
{
	for (size_t i = 0; i < lengthof(metaschemas); i++)
		if (strcmp(uri, metaschemas[i].uri) == 0)
			return metaschemas[i].text;
	return NULL;
}
