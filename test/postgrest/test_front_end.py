"""test_front_end.py: goya behind the real PostgREST: what a web client of two tenants can do, sees, and is refused.

Decided: one role for all web users, as front ends have it; tenant and user come from the token alone. Everything goes over HTTP but the
administrator's part. Assertions are on what a client relies on: status codes, SQLSTATEs, media types, paging headers, and that nothing of
the other tenant shows in any of them.
"""

import os
import sys
import threading
import time
import xml.etree.ElementTree

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from front import PostgREST, Tap, sql, token  # noqa: E402

SETUP = """
CREATE ROLE authenticator LOGIN NOINHERIT;
CREATE ROLE web_anon NOLOGIN;
CREATE ROLE web_user NOLOGIN;
CREATE ROLE web_reader NOLOGIN;
GRANT web_anon, web_user, web_reader TO authenticator;
GRANT goya_user TO web_user;
GRANT goya_reader TO web_reader;
SELECT goya.register_authenticator('authenticator');
SELECT goya.create_tenant('acme'), goya.create_tenant('globex');
SELECT goya.set_price('dear', 3000000000);
CREATE SCHEMA app;
GRANT USAGE ON SCHEMA app TO web_user;
CREATE FUNCTION app.greet(input jsonb) RETURNS jsonb LANGUAGE sql AS
    $$ SELECT jsonb_build_object('greeting', 'hello ' || (input ->> 'name')) $$;
"""

HELLO = {
    "input": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "n": {"type": "integer"}}},
    "nodes": [{"key": "greet", "kind": "sql", "function": "app.greet", "input": {"name": "{{ input.name }}"},
               "artifact": {"type": "result", "name": "greeting"}}],
}
PATIENT = {"nodes": [{"key": "ask", "kind": "wait", "signal": "go", "timeout": "5 min"}, {"key": "after", "kind": "noop"}],
           "edges": [{"from": "ask", "to": "after"}]}
DEAR = {"nodes": [{"key": "work", "kind": "noop", "price": "dear"}]}
NOBODY = "00000000-0000-7000-8000-00000000ffff"
ACME, GLOBEX = token(tenant="acme", user="ann"), token(tenant="globex", user="bob")


def finished(api, task, as_, seconds=20):
    return api.rpc("wait_for_task", {"task_id": task, "timeout": f"{seconds} s"}, as_=as_)


def describe(tap, api):
    answer = api.get("/", as_=ACME)
    paths = answer.json["paths"]
    tap.ok("/rpc/run" in paths and "/tasks" in paths and "/artifacts" in paths, "OpenAPI lists what a user may call and read")
    tap.ok("Starts a task of a published workflow" in paths["/rpc/run"]["post"].get("summary", ""),
           "a function's summary is the first line of its comment", paths["/rpc/run"]["post"].get("summary"))
    tap.ok("Errors:" in paths["/rpc/run"]["post"].get("description", ""), "its description is the rest")
    tap.ok("Runs of workflows" in str(paths["/tasks"]["get"]), "a table's comment is there too")
    names = set(paths["/rpc/run"]["post"]["parameters"][0]["schema"]["properties"])
    tap.ok({"workflow", "input", "asset", "idempotency_key", "max_cost"} <= names, "arguments have their names", names)
    tap.ok("/rpc/create_tenant" not in paths and "/rpc/top_up" not in paths, "administrators' functions are not shown to users")
    tap.ok("goya_private" not in answer.text, "nothing internal is shown")


def define(tap, api):
    for name, definition in (("hello", HELLO), ("patient", PATIENT), ("dear", DEAR)):
        answer = api.rpc("create_workflow", {"name": name, "definition": definition, "publish": True}, as_=ACME)
        tap.status(answer, 200, f"workflow {name} is made over HTTP")
    tap.status(api.rpc("create_workflow", {"name": "hello", "definition": HELLO}, as_=ACME), 409, "its name is taken then", "23505")
    broken = {"nodes": [{"key": "a", "kind": "noop"}, {"key": "b", "kind": "noop"}],
              "edges": [{"from": "a", "to": "b"}, {"from": "b", "to": "a"}]}
    answer = api.rpc("create_workflow", {"name": "broken", "definition": broken, "publish": True}, as_=ACME)
    tap.status(answer, 400, "a cycle is refused", "22023")
    tap.equal(api.get("/workflows?name=eq.broken", as_=ACME).json, [], "and nothing of it stays")
    problems = api.rpc("validate_workflow", {"definition": broken}, as_=ACME)
    tap.ok(problems.status == 200 and any("cycle" in p["code"] for p in problems.json), "validate_workflow lists the problem as a row", problems)


def run_and_read(tap, api):
    answer = api.rpc("run", {"workflow": "hello", "input": {"name": "world", "n": 0}}, as_=ACME)
    tap.status(answer, 200, "run by named arguments")
    first = answer.json
    done = finished(api, first, ACME)
    tap.equal((done.json or {}).get("status"), "succeeded", "the task runs as a role that cannot log in")
    tap.equal((done.json or {}).get("output"), {"greeting": "hello world"}, "and has its output")
    tap.equal((done.json or {}).get("created_by"), "ann", "the token's user is on it")
    tap.equal((done.json or {}).get("run_as"), "web_user", "and the role it ran as")
    tasks = [first]
    for n in range(1, 6):
        tasks.append(api.rpc("run", {"workflow": "hello", "input": {"name": f"n{n}", "n": n}}, as_=ACME).json)
    for task in tasks:
        finished(api, task, ACME)

    page = api.get("/tasks?status=eq.succeeded&select=id,n:input->n&order=id.asc&limit=4", as_=ACME, headers={"Prefer": "count=exact"})
    tap.status(page, 206, "a page is part of the whole")
    tap.equal([row["n"] for row in page.json or []], [0, 1, 2, 3], "in the order asked for, with the columns asked for")
    tap.equal(page.headers.get("Content-Range"), "0-3/6", "Content-Range tells where we are")
    last = page.json[-1]["id"]
    rest = api.get(f"/tasks?status=eq.succeeded&select=id&order=id.asc&id=gt.{last}", as_=ACME)
    tap.equal([row["id"] for row in rest.json or []], tasks[4:], "the next page goes on by key")
    tap.equal(len(api.get("/tasks?input->>name=in.(n1,n2)", as_=ACME).json), 2, "rows are found by what is in their input")
    tap.status(api.get("/tasks?no_such_column=eq.1", as_=ACME), 400, "an unknown column is a bad request")

    artifacts = api.get(f"/artifacts?task_id=eq.{first}&type=eq.result", as_=ACME)
    tap.equal([a["data"] for a in artifacts.json or []], [{"greeting": "hello world"}], "artifacts are read by task and type")
    runs = api.get(f"/node_runs?task_id=eq.{first}&select=node,status", as_=ACME)
    tap.equal(runs.json, [{"node": "greet", "status": "succeeded"}], "so are node runs")
    events = api.get("/rpc/task_events_since", as_=ACME, params={"task_id": first})
    tap.ok(events.status == 200 and [e["seq"] for e in events.json] == sorted(e["seq"] for e in events.json)
           and events.json[-1]["type"] == "task_succeeded", "events come in order and end with the task's", events)
    some = api.rpc("task_events_since?type=eq.task_succeeded&select=type", {"task_id": first}, as_=ACME)
    tap.equal(some.json, [{"type": "task_succeeded"}], "a function's rows are filtered like a table's")
    return first


def long_poll(tap, api):
    task = api.rpc("run", {"workflow": "patient"}, as_=ACME).json
    deadline = time.monotonic() + 20
    while api.get(f"/node_runs?task_id=eq.{task}&status=eq.waiting&select=node", as_=ACME).json != [{"node": "ask"}]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    seen = api.rpc("task_events_since", {"task_id": task}, as_=ACME).json
    got = {}

    def poll():
        start = time.monotonic()
        got["answer"] = api.rpc("task_events_since", {"task_id": task, "seq": seen[-1]["seq"], "wait": "20 s"}, as_=ACME)
        got["seconds"] = time.monotonic() - start

    poller = threading.Thread(target=poll)
    poller.start()
    poller.join(0.7)
    tap.ok(poller.is_alive(), "a long poll waits while nothing happens", got.get("answer"))
    tap.status(api.rpc("signal", {"task_id": task, "name": "go", "payload": {"by": "ann"}}, as_=ACME), 200, "a signal over HTTP")
    poller.join(25)
    tap.ok("answer" in got and got["answer"].status == 200 and got["answer"].json and got["answer"].json[0]["seq"] > seen[-1]["seq"],
           "the long poll ends with what happened", got.get("answer"))
    tap.ok(got.get("seconds", 99) < 5, "soon after it happened, not at its timeout", got.get("seconds"))
    tap.equal(finished(api, task, ACME).json.get("status"), "succeeded", "the signalled task goes on")


def cancel(tap, api):
    task = api.rpc("run", {"workflow": "patient"}, as_=ACME).json
    tap.status(api.rpc("cancel", {"task_id": task, "reason": "changed my mind"}, as_=GLOBEX), 404, "another tenant cannot cancel it", "PT404")
    answer = api.rpc("cancel", {"task_id": task, "reason": "changed my mind"}, as_=ACME)
    tap.ok(answer.status == 200 and answer.json is True, "its own can", answer)
    done = finished(api, task, ACME)
    tap.equal(done.json.get("status"), "cancelled", "and it is cancelled")


def picture(tap, api, task):
    answer = api.get("/rpc/task_svg", as_=ACME, params={"task_id": task}, headers={"Accept": "image/svg+xml"})
    tap.status(answer, 200, "a task's picture is asked for by its media type")
    tap.ok((answer.headers.get("Content-Type") or "").startswith("image/svg+xml"), "and comes with it", answer.headers.get("Content-Type"))
    try:
        root = xml.etree.ElementTree.fromstring(answer.body)
        tap.ok(root.tag == "{http://www.w3.org/2000/svg}svg" and "greet" in answer.text, "it is an SVG with the node in it", root.tag)
    except xml.etree.ElementTree.ParseError as problem:
        tap.ok(False, "it is an SVG with the node in it", problem)
    answer = api.get("/rpc/task_svg", as_=GLOBEX, params={"task_id": task}, headers={"Accept": "image/svg+xml"})
    tap.status(answer, 404, "another tenant gets none")


def codes(tap, api):
    answer = api.rpc("run", {"workflow": "hello", "input": {"name": 7}}, as_=ACME)
    tap.status(answer, 400, "input that does not fit the schema is a bad request", "22023")
    tap.ok(answer.json and answer.json.get("details") and answer.json.get("message"), "with what is wrong in it", answer)
    answer = api.rpc("run", {"workflow": "no such"}, as_=ACME)
    tap.status(answer, 404, "an unknown workflow is not found", "PT404")
    tap.ok(answer.json and answer.json.get("hint"), "with a hint", answer)
    tap.status(api.rpc("cancel", {"task_id": NOBODY}, as_=ACME), 404, "an unknown task is not found", "PT404")
    tap.status(api.rpc("run", {"workflow": "hello", "input": {"name": "x"}, "asset": NOBODY}, as_=ACME), 404, "nor is an unknown asset", "PT404")
    before = len(api.get("/tasks?select=id", as_=ACME).json)
    tap.status(api.rpc("run", {"workflow": "dear"}, as_=ACME), 402, "without money, payment required", "PT402")
    tap.equal(len(api.get("/tasks?select=id", as_=ACME).json), before, "and no task is left of it")
    tap.status(api.rpc("top_up", {"amount": 1, "reference": "theft"}, as_=ACME), 403, "a user may not top up", "42501")
    tap.status(api.rpc("run", {"workflow": "hello", "input": {"name": "x"}}, as_=token("web_reader", tenant="acme")), 403,
               "a reader may not run", "42501")
    tap.ok(len(api.get("/tasks?select=id&limit=1", as_=token("web_reader", tenant="acme")).json) == 1, "but reads")
    same = {"workflow": "hello", "input": {"name": "once"}, "idempotency_key": "k-1"}
    first, second = api.rpc("run", same, as_=ACME), api.rpc("run", same, as_=ACME)
    tap.ok(first.status == 200 and first.json == second.json, "the same idempotency key and request give the same task", second)
    tap.status(api.rpc("run", {**same, "input": {"name": "twice"}}, as_=ACME), 409, "another request under it conflicts", "23505")
    tap.status(api.rpc("run", {"workflow": "hello", "wrong_argument": 1}, as_=ACME), 404, "an unknown argument fits no function")
    tap.status(api.request("POST", "/rpc/run", as_=ACME, body=b'{"workflow": "hello", "input": {"name": "\xff"}}'), 400, "invalid UTF-8 is a bad request")
    tap.status(api.request("POST", "/rpc/run", as_=ACME, body=b'{"workflow": "hello", "input": {"name": "\\u0000"}}'), 400, "so is a NUL in a string")
    tap.status(api.request("POST", "/rpc/run", as_=ACME, body=b'{"workflow": "hello", "input": NaN}'), 400, "so is NaN")
    tap.status(api.rpc("disable_workflow", {"name": "dear"}, as_=ACME), 204, "a workflow is disabled")
    refused = api.rpc("run", {"workflow": "dear"}, as_=ACME)
    tap.ok(refused.status >= 400 and refused.json.get("code") == "55000", "and is not run then", refused)
    sql("SELECT goya.top_up(5000000000, 'acme-1', tenant => 'acme')")
    tap.status(api.rpc("enable_workflow", {"name": "dear"}, as_=ACME), 204, "it is enabled again")
    paid = api.rpc("run", {"workflow": "dear"}, as_=ACME)
    tap.status(paid, 200, "with money it runs")
    finished(api, paid.json, ACME)
    wallet = api.get("/wallets?select=balance,frozen", as_=ACME).json
    tap.equal(wallet, [{"balance": 2000000000, "frozen": 0}], "and is paid for")


def assets(tap, api):
    made = api.request("POST", "/assets", as_=ACME, body={"uri": "https://media.example/a.mp4", "media_type": "video"},
                       headers={"Prefer": "return=representation"})
    tap.status(made, 201, "an asset is inserted as a row")
    tap.equal((made.json or [{}])[0].get("created_by"), "ann", "whose it is comes from the token")
    return made.json[0]["id"]


def two_tenants(tap, api, task, asset):
    for path in ("tasks", "workflows", "node_runs", "artifacts", "assets", "wallet_entries", "usage_records", "holds", "events", "task_events"):
        acme, other = api.get(f"/{path}?limit=1", as_=ACME), api.get(f"/{path}?limit=1", as_=GLOBEX)
        tap.ok(acme.status == 200 and len(acme.json) == 1 and other.status == 200 and other.json == [],
               f"{path}: its own tenant sees rows, the other none", f"{acme}\n{other}")
    tap.equal(api.get(f"/tasks?id=eq.{task}", as_=GLOBEX).json, [], "not by id either")
    refusals = (
        ("wait_for_task", {"task_id": task, "timeout": "1 s"}), ("task_events_since", {"task_id": task}), ("pause", {"task_id": task}),
        ("signal", {"task_id": task, "name": "go"}), ("retry", {"task_id": task}), ("diagnose", {"task_id": task}),
        ("timeline", {"task_id": task}), ("graph", {"what": task}), ("run", {"workflow": "hello", "input": {"name": "x"}}),
        ("publish_workflow", {"name": "hello"}), ("derivation_tree", {"asset_id": asset}), ("task_context", {"task_id": task}))
    for function, arguments in refusals:
        tap.status(api.rpc(function, arguments, as_=GLOBEX), 404, f"{function}: another tenant's is not found", "PT404")
    changed = api.request("PATCH", f"/assets?id=eq.{asset}", as_=GLOBEX, body={"name": "stolen"}, headers={"Prefer": "return=representation"})
    tap.ok(changed.json in ([], None) or changed.status in (403, 404), "another tenant's asset cannot be changed", changed)
    tap.ok(api.get(f"/assets?id=eq.{asset}&select=name", as_=ACME).json != [{"name": "stolen"}], "and was not")
    acme_id = sql("SELECT id FROM goya.tenants WHERE name = 'acme'")
    planted = api.request("POST", "/assets", as_=GLOBEX, body={"uri": "file:///x", "tenant_id": acme_id})
    tap.status(planted, 403, "nor planted into another tenant", "42501")
    tap.status(api.request("DELETE", f"/tasks?id=eq.{task}", as_=ACME), 403, "tasks are not deleted by hand", "42501")
    tap.status(api.request("PATCH", f"/tasks?id=eq.{task}", as_=ACME, body={"status": "failed"}), 403, "nor changed", "42501")
    tap.status(api.rpc("create_workflow", {"name": "hello", "definition": HELLO, "publish": True}, as_=GLOBEX), 200, "names are each tenant's own")
    mine = api.rpc("run", {"workflow": "hello", "input": {"name": "globex"}}, as_=GLOBEX).json
    tap.equal(finished(api, mine, GLOBEX).json.get("output"), {"greeting": "hello globex"}, "the other tenant runs its own")
    tap.equal(api.get(f"/tasks?id=eq.{mine}", as_=ACME).json, [], "which the first does not see")


def identity(tap, api, task):
    tap.status(api.rpc("run", {"workflow": "hello", "input": {"name": "x"}}), 401, "without a token, unauthorized", "42501")
    tap.status(api.get("/tasks"), 401, "for reading too", "42501")
    head, claims, signature = ACME.split(".")
    tap.status(api.get("/tasks", as_=f"{head}.{GLOBEX.split('.')[1]}.{signature}"), 401, "claims under another signature are refused")
    tap.status(api.get("/tasks", as_=token(tenant="acme", exp=int(time.time()) - 120)), 401, "an expired token is refused")
    tap.status(api.get("/tasks", as_=token("postgres", tenant="acme")), 403, "a role that the front end may not become is refused", "42501")
    # One team behind a front end never says "tenant": it is the default one, which is not acme.
    nameless = token(user="carl")
    tap.equal(api.get("/tasks?select=id", as_=nameless).json, [], "a token without a tenant is of tenant default and sees nothing of another")
    tap.status(api.rpc("run", {"workflow": "hello", "input": {"name": "x"}}, as_=nameless), 404, "nor runs anything of another", "PT404")
    for claims, what in (({"tenant": "nobody"}, "of an unknown tenant"), ({"tenant": 7}, "whose tenant is a number"), ({"tenant": ""}, "of tenant nothing")):
        stranger = token(**claims)
        tap.equal(api.get("/tasks?select=id", as_=stranger).json, [], f"a token {what} sees nothing")
        tap.status(api.rpc("run", {"workflow": "hello", "input": {"name": "x"}}, as_=stranger), 403, f"a token {what} runs nothing", "42501")
    forged = sql("SET ROLE web_user; SET request.jwt.claims = '{\"tenant\": \"acme\"}'; "
                 f"SELECT count(*) FROM goya.tasks WHERE id = '{task}'")
    tap.equal(forged, "0", "claims that anybody sets outside a registered front end's session count for nothing")


def main():
    with Tap() as tap:
        sql(SETUP)
        with PostgREST() as api:
            describe(tap, api)
            define(tap, api)
            task = run_and_read(tap, api)
            long_poll(tap, api)
            cancel(tap, api)
            picture(tap, api, task)
            codes(tap, api)
            asset = assets(tap, api)
            two_tenants(tap, api, task, asset)
            identity(tap, api, task)
        tap.equal(sql("SELECT count(*) FROM goya.check()"), "0", "goya.check() finds nothing wrong afterwards")


main()
