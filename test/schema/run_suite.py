#!/usr/bin/python3
"""Run the public JSON Schema test suite and our own cases against goya.

For: proving goya.check_schema(schema jsonb, instance jsonb, max_errors int).
The suite is Debian's package json-schema-test-suite (draft 7); --suite names
another checkout, newer ones also hold draft2020-12.  cases.json beside this
file holds what the suite cannot know: 2020-12 basics, wrong schemas and the
words of messages.

Decided: the suite's remote documents are registered with goya.register_schema
under http://localhost:1234/, where the suite wants to find them; nothing is
fetched.  A refusal ("schema is not valid") is not a wrong answer, but both
count as failures unless named in EXCEPTIONS with a reason.  A named one that
passes is not an error, so that the list fits several versions of the suite.

Must hold: exits 0 only if the mandatory tests of every draft run reach the
target and nothing outside EXCEPTIONS failed, and prints one closing line.
Nothing stays in the database: each run is rolled back.

The database must be in UTF8 and have the function goya.check_schema.

usage: run_suite.py [--suite DIR] [--draft draft7 ...] [--verbose] -- psql [options]
"""
import argparse
import json
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
DEBIAN_SUITE = "/usr/share/json-schema-test-suite"
TARGET = 98.0

# (pattern over "draft/file: group: test", pattern of the outcome accepted, reason)
EXCEPTIONS = [
    (r"", r"not jsonb", "jsonb holds no \\u0000"),
    (r"", r"refused: .*unicode properties", "\\p{...} in patterns is refused"),
    (r"optional/format/hostname: .*A-label", r"valid", "punycode in host names is not decoded"),
]

# Since 2019-09 formats are asserted only where a metaschema says so.
ASSERTING = "urn:suite:format-assertion"
DIALECT_2020 = "https://json-schema.org/draft/2020-12/"
ASSERTING_METASCHEMA = {
    "$schema": DIALECT_2020 + "schema",
    "$vocabulary": {DIALECT_2020 + "vocab/" + name: True for name in (
        "core applicator unevaluated validation meta-data format-assertion content").split()}}

# The formats asserted; files of other formats are not run.
FORMATS = ("date-time date time duration email hostname ipv4 ipv6 uri uri-reference uuid "
           "json-pointer relative-json-pointer regex").split()
OPTIONAL = "bignum ecmascript-regex format-assertion zeroTerminatedFloats float-overflow non-bmp-regex".split()

PRELUDE = r"""
\set ON_ERROR_STOP on
\set QUIET on
begin;
set local client_min_messages = warning;
create temp table suite (name text, optional bool, want text, schema text, instance text);
create temp table own_cases (name text, want text, schema text, instance text);
create role goya_schema_suite;
grant goya_user to goya_schema_suite;
select goya.create_tenant('schema-suite') \gset
select goya.add_member('goya_schema_suite', 'schema-suite') \gset
grant all on suite, own_cases to goya_schema_suite;
set local role goya_schema_suite;
create function pg_temp.outcome(schema text, instance text) returns text
language plpgsql as $$
declare
  n int;
  detail text;
begin
  select count(*) into n from goya.check_schema(schema::jsonb, instance::jsonb, 10);
  return case when n = 0 then 'valid' else 'invalid' end;
exception
  when untranslatable_character then return 'not jsonb';
  when invalid_parameter_value then
    get stacked diagnostics detail = pg_exception_detail;
    return 'refused: ' || detail;
end $$;
create function pg_temp.errors(schema text, instance text) returns json
language plpgsql as $$
declare
  detail text;
begin
  return (select coalesce(json_agg(json_build_array(e.path, e.keyword, e.message, e.hint, e.schema_path)), '[]')
          from goya.check_schema(schema::jsonb, instance::jsonb, 10) e);
exception when invalid_parameter_value then
  get stacked diagnostics detail = pg_exception_detail;
  return json_build_array(json_build_array('', 'schema', detail, null));
end $$;
"""

RUN = "select json_build_array(name, optional, want, pg_temp.outcome(schema, instance)) from suite;"
RUN_CASES = "select json_build_array(name, want::json, pg_temp.errors(schema, instance)) from own_cases;"


def load(path):
    """Read JSON; numbers with a fraction or exponent stay as written."""
    return json.loads(path.read_text(encoding="utf-8"), parse_float=lambda n: "@number@" + n)


def dump(value):
    return re.sub(r'"@number@([^"]*)"', r"\1", json.dumps(value))


def copy_line(*fields):
    """A line of COPY text format."""
    return "\t".join(f.replace("\\", "\\\\").replace("\t", "\\t")
                     .replace("\n", "\\n").replace("\r", "\\r") for f in fields)


def literal(text):
    return "'" + text.replace("'", "''") + "'"


def remotes(suite, draft):
    """Statements that register the documents the suite's tests refer to."""
    base = pathlib.Path(suite) / "remotes"
    yield "select goya.register_schema('%s', %s) \\gset" % (ASSERTING, literal(dump(ASSERTING_METASCHEMA)))
    for path in sorted(base.rglob("*.json")):
        uri = path.relative_to(base)
        if re.match(r"draft|v1$", uri.parts[0]) and uri.parts[0] != draft:
            continue
        yield ("select goya.register_schema('http://localhost:1234/%s', %s) \\gset"
               % (uri, literal(dump(load(path)))))


def asserting(name, schema):
    """The schema of a test, which for an optional one of formats asserts them."""
    if name.startswith("optional/format/") and isinstance(schema, dict) and \
            schema.get("$schema") == DIALECT_2020 + "schema":
        return dict(schema, **{"$schema": ASSERTING})
    return schema


def run_psql(psql, table, lines, query, before=()):
    """Load the lines and run the query; a list of JSON rows."""
    script = [PRELUDE, *before, "copy %s from stdin;" % table] + lines + ["\\.", query]
    done = subprocess.run(psql + ["-X", "-q", "-A", "-t"], input="\n".join(script),
                          capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit("psql failed: " + done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines() if line]


def collect(suite, draft):
    """The tests of a draft: mandatory ones and the optional ones we claim."""
    base = pathlib.Path(suite) / "tests" / draft
    mandatory = sorted(base.glob("*.json"))
    optional = [base / "optional" / (n + ".json") for n in OPTIONAL]
    optional += [base / "optional" / "format" / (n + ".json") for n in FORMATS]
    if not mandatory:
        sys.exit("no tests for %s in %s; is the package json-schema-test-suite installed?"
                 % (draft, suite))
    for path in mandatory + [p for p in optional if p.exists()]:
        name = str(path.relative_to(base))[:-len(".json")]
        for group in load(path):
            for test in group["tests"]:
                yield copy_line("%s/%s: %s: %s" % (draft, name, group["description"],
                                                   test["description"]),
                                str("optional/" in name),
                                "valid" if test["valid"] else "invalid",
                                dump(asserting(name, group["schema"])), dump(test["data"]))


def excused(name, got):
    """The reason this failure is known, or None."""
    for pattern, outcome, reason in EXCEPTIONS:
        if re.search(pattern, name) and re.match(outcome, got):
            return reason
    return None


def run_draft(psql, suite, draft, verbose):
    """Returns the closing words for a draft and whether it is good."""
    run = {False: 0, True: 0}       # by: is it optional
    passed = {False: 0, True: 0}
    wrong = 0                       # of the mandatory ones, not refused
    unexplained = 0
    reasons = {}
    for name, optional, want, got in run_psql(psql, "suite", list(collect(suite, draft)), RUN,
                                              remotes(suite, draft)):
        run[optional] += 1
        if got == want:
            passed[optional] += 1
            continue
        wrong += not optional and not re.match("refused|not jsonb", got)
        reason = excused(name, got)
        if reason is None:
            unexplained += 1
            print("FAIL %s: expected %s, got %s" % (name, want, got))
            continue
        reasons[reason] = reasons.get(reason, 0) + 1
        if verbose:
            print("known %s: %s" % (name, reason))
    for reason, n in sorted(reasons.items()):
        print("%s: %d known failures: %s" % (draft, n, reason))
    percent = 100.0 * passed[False] / run[False]
    words = ("%s %d of %d mandatory tests (%.1f %%, %d wrong answers, %d refused), %d of %d optional, %d unexplained"
             % (draft, passed[False], run[False], percent, wrong, run[False] - passed[False] - wrong,
                passed[True], run[True], unexplained))
    return words, percent >= TARGET and unexplained == 0


def run_cases(psql):
    """Our own cases; each names every error as [path, keyword, message, hint, schema_path]."""
    cases = load(HERE / "cases.json")
    rows = run_psql(psql, "own_cases",
                    [copy_line(c["case"], dump(c["errors"]), dump(c["schema"]), dump(c["instance"]))
                     for c in cases], RUN_CASES)
    failed = 0
    for name, want, got in rows:
        # an expected error may leave out what comes last
        cut = [g[:len(w)] for w, g in zip(want, got)]
        if len(want) == len(got) and want == cut:
            continue
        failed += 1
        print("FAIL own case %s:\n  expected %s\n  got      %s"
              % (name, json.dumps(want), json.dumps(got)))
    return len(rows), failed


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--suite", default=DEBIAN_SUITE)
    parser.add_argument("--draft", action="append")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("psql", nargs="*", default=["psql"])
    args = parser.parse_args()

    good = True
    parts = []
    for draft in args.draft or ["draft7"]:
        words, ok = run_draft(args.psql, args.suite, draft, args.verbose)
        good = good and ok
        parts.append(words)
    cases, failed = run_cases(args.psql)
    good = good and failed == 0 and cases > 0
    parts.append("%d of %d own cases" % (cases - failed, cases))
    print("schema suite: %s: %s" % ("ok" if good else "FAILED", "; ".join(parts)))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
