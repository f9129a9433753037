/*
 * schema_meta.c
 *	  JSON Schema: the two metaschemas a document may refer to.
 *
 * {"$ref": "http://json-schema.org/draft-07/schema#"} checks a value that is
 * itself a schema, as the input of a workflow that stores operators is.  Both
 * are written out here in brief, assertions only.  The one of 2020-12 is a
 * single document instead of one per vocabulary; its dynamic anchor "meta" is
 * kept, so that a schema may extend it.
 */
#include "postgres.h"

#include "schema_internal.h"

#define COUNT "{\"type\": \"integer\", \"minimum\": 0}"
#define STRINGS "{\"type\": \"array\", \"items\": {\"type\": \"string\"}, \"uniqueItems\": true}"
#define TYPES "{\"enum\": [\"array\", \"boolean\", \"integer\", \"null\", \"number\", \"object\", \"string\"]}"
#define TYPE "{\"anyOf\": [" TYPES ", {\"type\": \"array\", \"items\": " TYPES ", \"minItems\": 1, \"uniqueItems\": true}]}"

/* Keywords that are the same in both. */
#define COMMON \
	"\"$schema\": {\"type\": \"string\", \"format\": \"uri\"}," \
	"\"$comment\": {\"type\": \"string\"}," \
	"\"title\": {\"type\": \"string\"}," \
	"\"description\": {\"type\": \"string\"}," \
	"\"readOnly\": {\"type\": \"boolean\"}," \
	"\"writeOnly\": {\"type\": \"boolean\"}," \
	"\"examples\": {\"type\": \"array\"}," \
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
	"\"type\": " TYPE ", \"enum\": {\"type\": \"array\"}," \
	"\"format\": {\"type\": \"string\"}," \
	"\"contentMediaType\": {\"type\": \"string\"}," \
	"\"contentEncoding\": {\"type\": \"string\"},"

/* Keywords that hold schemas, with the reference the dialect uses. */
#define SCHEMA_MAP(self) "{\"type\": \"object\", \"additionalProperties\": " self "}"
#define SCHEMA_LIST(self) "{\"type\": \"array\", \"minItems\": 1, \"items\": " self "}"
#define NESTED(self) \
	"\"additionalItems\": " self ", \"contains\": " self "," \
	"\"definitions\": " SCHEMA_MAP(self) "," \
	"\"properties\": " SCHEMA_MAP(self) "," \
	"\"patternProperties\": {\"type\": \"object\", \"additionalProperties\": " self "," \
	"  \"propertyNames\": {\"format\": \"regex\"}}," \
	"\"additionalProperties\": " self ", \"propertyNames\": " self "," \
	"\"dependencies\": {\"type\": \"object\"," \
	"  \"additionalProperties\": {\"anyOf\": [" self ", " STRINGS "]}}," \
	"\"if\": " self ", \"then\": " self ", \"else\": " self ", \"not\": " self "," \
	"\"allOf\": " SCHEMA_LIST(self) "," \
	"\"anyOf\": " SCHEMA_LIST(self) "," \
	"\"oneOf\": " SCHEMA_LIST(self) ","

#define SELF_7 "{\"$ref\": \"#\"}"
#define SELF_2020 "{\"$dynamicRef\": \"#meta\"}"
#define ANCHOR "{\"type\": \"string\", \"pattern\": \"^[A-Za-z_][-A-Za-z0-9._]*$\"}"
#define REFERENCE "{\"type\": \"string\", \"format\": \"uri-reference\"}"

static const char draft7[] =
	"{\"$schema\": \"http://json-schema.org/draft-07/schema#\","
	" \"$id\": \"http://json-schema.org/draft-07/schema#\","
	" \"type\": [\"object\", \"boolean\"], \"properties\": {"
	COMMON NESTED(SELF_7)
	"\"items\": {\"anyOf\": [" SELF_7 ", " SCHEMA_LIST(SELF_7) "]},"
	"\"$id\": " REFERENCE ", \"$ref\": " REFERENCE "}}";

static const char draft2020[] =
	"{\"$schema\": \"https://json-schema.org/draft/2020-12/schema\","
	" \"$id\": \"https://json-schema.org/draft/2020-12/schema\","
	" \"$dynamicAnchor\": \"meta\","
	" \"type\": [\"object\", \"boolean\"], \"properties\": {"
	COMMON NESTED(SELF_2020)
	"\"items\": " SELF_2020 ", \"prefixItems\": " SCHEMA_LIST(SELF_2020) ","
	"\"unevaluatedItems\": " SELF_2020 ","
	"\"unevaluatedProperties\": " SELF_2020 ","
	"\"dependentSchemas\": " SCHEMA_MAP(SELF_2020) ","
	"\"dependentRequired\": {\"type\": \"object\", \"additionalProperties\": " STRINGS "},"
	"\"maxContains\": " COUNT ", \"minContains\": " COUNT ","
	"\"deprecated\": {\"type\": \"boolean\"},"
	"\"contentSchema\": " SELF_2020 ", \"$defs\": " SCHEMA_MAP(SELF_2020) ","
	"\"$vocabulary\": {\"type\": \"object\", \"additionalProperties\": {\"type\": \"boolean\"}},"
	"\"$anchor\": " ANCHOR ", \"$dynamicAnchor\": " ANCHOR ","
	"\"$id\": {\"type\": \"string\", \"format\": \"uri-reference\", \"pattern\": \"^[^#]*#?$\"},"
	"\"$ref\": " REFERENCE ", \"$dynamicRef\": " REFERENCE "}}";

/* The text of a built-in metaschema by its URI without fragment, or NULL. */
const char *
goya_schema_find_metaschema(const char *uri)
{
	if (strcmp(uri, "http://json-schema.org/draft-07/schema") == 0)
		return draft7;
	if (strcmp(uri, "https://json-schema.org/draft/2020-12/schema") == 0)
		return draft2020;
	return NULL;
}
