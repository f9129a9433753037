/*-------------------------------------------------------------------------
 * words.c
 *		Words that inputs are made of: names of fields, kinds, roots, keywords, pieces of paths and patterns.
 *-------------------------------------------------------------------------
 */
#include "fuzz.h"

const char *const fuzz_words[] = {
	/* definitions */
	"nodes", "edges", "input", "context", "output", "description", "version", "name", "ui", "settings", "tags", "key", "kind", "noop", "transform",
	"condition", "map", "sleep", "wait", "approval", "workflow", "sql", "http", "operator", "from", "to", "on", "when", "success", "failure",
	"always", "join", "all", "any", "case", "cases", "default", "retry", "max_attempts", "backoff", "exponential", "linear", "fixed", "initial", "max",
	"jitter", "TRANSIENT", "TIMEOUT", "UNKNOWN", "timeout", "compensate", "price", "cost_tag", "quantity", "estimate", "artifact", "type", "data", "each", "asset",
	"result", "timeline", "report", "writes", "vars", "shared", "required", "readonly", "conflict", "reject", "overwrite", "merge", "append", "cas",
	"idempotent", "function", "method", "url", "headers", "body", "request_body", "output_path", "max_response", "over", "max_parallel",
	"error_budget", "signal", "message", "form", "duration", "until", "params", "public.f", "a.b", "\"A b\".\"c\"\"d\"", "a", "b", "c", "n1", "a.item",
	"a.compensate", "2s", "500ms", "1 minute", "P1Y2M", "infinity", "-1s", "2030-01-01T00:00:00Z", "now", "http://127.0.0.1/x?y=1", "https://[::1]:8/",
	/* templates */
	"{{", "}}", "\\{{", "{{ input.a }}", "{{ nodes.a.output }}", "{{ nodes.a.output.b[0].\"x y\" }}", "{{ $.input.a }}", "{{ $.nodes.*.output }}", "item", "index",
	"task", "trigger", "event", "payload", "slot", "input.a", "input[0]", "input[-1]", "input[99999999999999999999]", "nodes.a.error", "nodes.a.status",
	"vars.x", "shared.y", "$.input.a", "$", "$.nodes", "$.nodes.a.output", "$.*", "$.**", "$[*]", "[0]", "[*]", "[last]", "[0 to last]", ".**{2 to last}", ".size()",
	".type()", ".double()", ".datetime()", ".keyvalue()", ".abs()", ".floor()", "@", "? (@.a > 1)", "? (exists(@.b))", "like_regex \"^a.*$\" flag \"ix\"",
	"starts with \"a\"", "is unknown", "&&", "||", "!", "==", "<>", "<=", "$x", "strict $.a", "lax $.a", "+ 1", "/ 0", "% 2", "* 1e300", "\"\\u00e9\"", "true", "null",
	/* JSON Schema */
	"$schema", "http://json-schema.org/draft-07/schema#", "https://json-schema.org/draft/2020-12/schema", "https://json-schema.org/draft/2019-09/schema",
	"$id", "$ref", "#", "#/definitions/a", "#/$defs/a", "#a", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor", "$defs",
	"definitions", "object", "array", "string", "number", "integer", "boolean", "properties", "patternProperties", "additionalProperties", "propertyNames",
	"minProperties", "maxProperties", "dependencies", "dependentRequired", "dependentSchemas", "unevaluatedProperties", "items", "prefixItems",
	"additionalItems", "contains", "minContains", "maxContains", "minItems", "maxItems", "uniqueItems", "unevaluatedItems", "pattern", "minLength",
	"maxLength", "format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "enum", "const", "allOf", "anyOf", "oneOf", "not",
	"if", "then", "else", "contentEncoding", "contentMediaType", "base64", "application/json", "date-time", "date", "time", "email", "idn-email", "hostname",
	"idn-hostname", "ipv4", "ipv6", "uri", "uri-reference", "uri-template", "iri", "json-pointer", "relative-json-pointer", "regex", "uuid",
	"2020-02-29T23:59:60Z", "1963-06-19T08:30:06.283185Z", "a@b.c", "::ffff:1.2.3.4", "xn--bcher-kva.example", "/a~1b/~0", "0#", "http://a/{b}", "P1D",
	/* patterns */
	"^", ".*", "a+?", "(", ")", "(?:", "(?=", "(?!", "(?<=", "(?<n>", "\\1", "\\k<n>", "[a-z]", "[^\\d]", "\\p{L}", "\\P{Lu}", "\\u{1F600}", "\\uD83D\\uDE00", "\\x41", "\\cA",
	"{2,3}", "{256}", "{1000}", "{0,65535}", "|", "\\b", "\\B", "\\w", "\\S", "[[:alpha:]]", "[\\]]", "(a|b)*", "(a*)*", "(a+)+$", "***=", "(?i)", "\\-", "[^]", "[]",
	/* HTTP */
	"GET", "POST", "HEAD", "CONNECT", "Content-Length: 5", "Transfer-Encoding: chunked", "Host:", "X-A: b", "Retry-After: 120", "Sun, 06 Nov 1994 08:49:37 GMT",
	"http://user:pw@host/", "http://0x7f.1/", "//", "?", "#", "%00", "\r\n", ": ", "HTTP/1.1 200 OK", "Content-Type: application/json; charset=utf-8",
	/* texts */
	"\xc3\xa9", "\xe4\xb8\xad", "\xf0\x9f\x98\x80", "e\xcc\x81", "\xe2\x80\xae", "\xef\xbb\xbf", "\xef\xbf\xbd", "\x7f", " ", "\t", "'", "\"", "\\", "%s%n", "~0~1", "../..", "--", "constructor",
	"__proto__"
};

const int	fuzz_n_words = lengthof(fuzz_words);
