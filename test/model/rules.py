"""rules.py: the naive model: is what was recorded of a task a legal execution of its definition?

The rules are those of docs/concepts.md and docs/definition.md and nothing else. The events of a task are replayed in the order of seq: each must
be enabled by the state that the events before it made, and carry the status, output and error that the model predicts. Where
real concurrency allows several outcomes (a cancel, two failures, a signal and its timeout) any enabled event is legal; which one
happened is known from the record. When all is replayed, nothing enabled may be left, and the task's status, output, error, context,
effects, money and children must be those of the model's last state.

Decided: no looking ahead, no repair: the first illegal event ends the check of a task, with the state it was not enabled in.
Must hold: an execution that the documents allow is accepted; so what no document says (a hint, a detail) is not compared.
"""
import json
import re

from generate import CODES, HTTP_CODES, PRICE

WAITING = ("sleep", "wait", "approval", "workflow", "map", "http")
RETRIED = set(CODES.values()) | {"TIMEOUT", "UNKNOWN"}
RETRIED -= {"VALIDATION", "POLICY_DENY"}
LATE = 3.0      # seconds: what a batch that had begun may still do after a pause or cancel


class Illegal(Exception):
    pass


# ---- values: what a template becomes ----

def text(value):
    """A value inside a longer string, as jsonb prints it."""
    if value is None:
        return ""
    return value if isinstance(value, str) else dump(value)


def dump(value):
    if isinstance(value, dict):
        keys = sorted(value, key=lambda k: (len(k.encode()), k.encode()))
        return "{" + ", ".join("%s: %s" % (json.dumps(k), dump(value[k])) for k in keys) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(dump(v) for v in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def path(scope, dotted):
    value = scope
    for step in re.findall(r"[^.\[\]]+", dotted):
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isdigit():
            value = value[int(step)] if int(step) < len(value) else None
        else:
            return None
    return value


def evaluate(template, scope):
    if isinstance(template, dict):
        return {k: evaluate(v, scope) for k, v in template.items()}
    if isinstance(template, list):
        return [evaluate(v, scope) for v in template]
    if not isinstance(template, str):
        return template
    whole = re.fullmatch(r"\{\{ ([^{}]+) \}\}", template)
    if whole:
        return path(scope, whole.group(1))
    return re.sub(r"\{\{ ([^{}]+) \}\}", lambda m: text(path(scope, m.group(1))), template)


def found(value, steps):
    """What a lax jsonpath finds: arrays are looked into."""
    if isinstance(value, list):
        return [f for v in value for f in found(v, steps)] if steps else value
    if not steps:
        return [value]
    return found(value[steps[0]], steps[1:]) if isinstance(value, dict) and steps[0] in value else []


def holds(predicate, scope):
    left, operator, right = re.fullmatch(r"\$\.(\S+) (==|>|<) (.+)", predicate).groups()
    right = json.loads(right)
    for value in found(scope, left.split(".")):
        if type(value) is type(right) and (value == right if operator == "==" else value > right if operator == ">" else value < right):
            return True
    return False


def seconds(duration):
    return float(duration.split()[0]) / 1000 if isinstance(duration, str) else float(duration)


# ---- one task ----

class Run:
    """A node, or one item of a map: which attempt is due, and whether it has begun."""

    def __init__(self, node, item):
        self.node, self.item, self.attempt = node, item, 1
        self.open = False       # a row says waiting or running
        self.optional = False   # its map is over: it may have been handed out before that or not
        self.not_before = 0.0


class Replay:
    def __init__(self, definition, seen, scenario):
        self.seen, self.scenario = seen, scenario
        self.definition = definition
        self.nodes = {n["key"]: n for n in definition["nodes"]}
        self.edges = [dict(e) for e in definition.get("edges", [])]
        self.into = {k: [e for e in self.edges if e["to"] == k] for k in self.nodes}
        self.out = {k: [e for e in self.edges if e["from"] == k] for k in self.nodes}
        self.bodies, self.undos = {}, {}
        for key, node in self.nodes.items():
            if node["kind"] == "map":
                body = dict(node["node"]) if "node" in node else {"kind": "workflow", "workflow": node["workflow"]}
                self.bodies[key + ".item"] = body | {"key": key + ".item", "map": key}
            if "compensate" in node:
                self.undos[key + ".compensate"] = node["compensate"] | {"key": key + ".compensate", "undoes": key}
        self.status, self.output, self.error, self.blocked = {}, {}, {}, set()
        self.due = {}           # (node, item) -> Run: may begin, runs, waits, or waits for its next attempt
        self.skips = set()      # must be skipped
        self.decided = set()
        self.maps = {}          # key -> {"items", "handed", "done", "failed", "over"}
        self.failing = None
        self.cancelling = self.paused = False
        self.paused_at = self.cancel_at = None
        self.succeeded_order = []
        self.undone, self.undo_failed, self.undo_due = set(), set(), None
        self.taken = {}         # signal name -> how many were taken
        self.captured = 0
        self.writers = []
        self.rows = {(r["node"], r["item"], r["attempt"]): r for r in seen["runs"]}
        self.now = {}

    # ---- scope ----

    def node_of(self, key):
        return self.nodes.get(key) or self.bodies.get(key) or self.undos.get(key) or self.illegal("there is no node %s" % key)

    def illegal(self, why):
        raise Illegal(why)

    def scope(self, node=None, item=0):
        scope = {"input": self.seen["input"], "task": {"id": self.seen["id"]},
                 "nodes": {k: {"status": s, "output": self.output.get(k), "error": self.error.get(k)} for k, s in self.status.items()}}
        if node and "map" in node:
            scope |= {"item": self.maps[node["map"]]["items"][item], "index": item}
        if node and "undoes" in node:
            scope["output"] = self.output[node["undoes"]]
        return scope

    def given(self, node, item):
        """The node's input."""
        scope = self.scope(node, item)
        if "input" in node:
            return evaluate(node["input"], scope)
        if "undoes" in node:
            return scope["output"]
        if "map" in node:
            return scope["item"]
        sources = [e["from"] for e in self.into[node["key"]]]
        left = {s: self.error[s] if self.status[s] == "failed" else self.output[s] for s in sources if self.status.get(s) != "skipped"}
        return self.seen["input"] if not sources else left[sources[0]] if len(sources) == 1 else left

    # ---- edges ----

    def begin(self):
        for key in self.nodes:
            self.decide(key)

    def decide(self, key):
        into = self.into[key]
        ends = [e.get("end") for e in into]
        if key in self.decided:
            return
        fired, failed = ends.count("fired"), ends.count("failed")
        if not into or (fired if self.nodes[key].get("join") == "any" else fired and not failed and None not in ends):
            self.decided.add(key)
            self.due[key, 0] = Run(self.nodes[key], 0)
        elif None not in ends:
            self.decided.add(key)
            self.skips.add(key)
            if failed:
                self.blocked.add(key)

    def resolve(self, key):
        status = self.status[key]
        for edge in self.out[key]:
            on = edge.get("on", "success")
            if status == "skipped":
                edge["end"] = "failed" if key in self.blocked else "dead"
            elif status == "succeeded" and on == "failure":
                edge["end"] = "dead"
            elif status == "failed" and on == "success":
                edge["end"] = "failed"
            elif "case" in edge and (status != "succeeded" or edge["case"] != (self.output[key] or {}).get("case")):
                edge["end"] = "dead"
            else:
                edge["end"] = "fired" if "when" not in edge or holds(edge["when"], self.scope()) else "dead"
            self.decide(edge["to"])

    # ---- what a run must come to ----

    def work(self, given, run):
        """app.work: fails as it was told to, else says what it got."""
        fails = given.get("fails") or 0
        if run.attempt <= fails:
            return False, {"code": given["code"], "class": CODES[given["code"]], "message": "%s fails at %d" % (given["node"], run.attempt)}
        return True, {"n": given["n"], "in": given.get("in")}

    def predict(self, run, row):
        """(succeeds?, output or the error's known fields) of a run that has ended as row says, where more than one end is legal the one of the row."""
        node, kind = run.node, run.node["kind"]
        given = self.given(node, run.item) if kind != "map" else None
        if kind != "map" and "undoes" not in node and row["input"] is not None and row["input"] != given:
            self.illegal("input %s, not %s" % (dump(row["input"]), dump(given)))
        if kind == "noop":
            return True, given
        if kind == "transform":
            return True, evaluate(node["output"], self.scope(node, run.item) | {"params": given})
        if kind == "condition":
            result = holds(node["when"], self.scope())
            return True, {"result": result, "case": "true" if result else "false"}
        if kind == "switch":
            return True, {"case": next((c["name"] for c in node["cases"] if holds(c["when"], self.scope())), node.get("default"))}
        if kind == "sql":
            return self.work(given, run) if node["function"] == "app.work" else (True, given)
        if kind == "http":
            url = evaluate(node["url"], self.scope(node, run.item))
            fails, status = (int(re.search(r"%s=(\d+)" % name, url).group(1)) for name in ("fail", "status"))
            if run.attempt <= fails:
                return False, {"class": HTTP_CODES[status], "status": status}
            return True, {"attempt": run.attempt}
        if kind == "map":
            return self.predict_map(run)
        return self.predict_wait(run, row, given)

    def predict_map(self, run):
        key = run.node["key"]
        items = evaluate(run.node["over"], self.scope())
        if not isinstance(items, list):
            return False, {"code": "22023", "class": "VALIDATION"}
        if not items:
            return True, []
        state = self.maps.get(key) or self.illegal("ends without having begun")
        if self.too_many(run.node, state):
            return False, {"class": "DEPENDENCY", "message": "%d of %d items failed" % (state["failed"], len(items))}
        if state["done"] + state["failed"] < len(items):
            self.illegal("ends with %d of %d items" % (state["done"] + state["failed"], len(items)))
        return True, [state["outputs"].get(i) for i in range(len(items))]

    @staticmethod
    def too_many(node, state):
        budget = node.get("error_budget", 0)
        return budget != "all" and state["failed"] > budget

    def predict_wait(self, run, row, given):
        node, kind, key = run.node, run.node["kind"], run.node["key"]
        waited = row["finished"] - row["started"]
        if kind == "sleep":
            wanted = seconds(evaluate(node["duration"], self.scope(node, run.item)))
            if waited < wanted - 0.0015:
                self.illegal("slept %.4f s of %.4f" % (waited, wanted))
            return True, None
        if "timeout" in node and row["status"] == "failed" and row["error"].get("code") == "57014":
            if waited < node["timeout"] - 0.0015:
                self.illegal("timed out after %.4f s of %.4f" % (waited, node["timeout"]))
            return False, {"class": "TIMEOUT"}
        if kind == "wait":
            number = self.taken[node["signal"]] = self.taken.get(node["signal"], 0) + 1
            sent = [a["payload"] for a in self.seen["acts"] if a["kind"] == "signal" and a["name"] == node["signal"]]
            return (True, sent[number - 1]) if number <= len(sent) else self.illegal("took signal %d of %d" % (number, len(sent)))
        if kind == "approval":
            question = next((a for a in self.seen["approvals"] if (a["node"], a["item"], a["attempt"]) == (key, run.item, run.attempt)), None)
            if question is None or question["status"] not in ("approved", "rejected"):
                self.illegal("nobody decided")
            answer = self.scenario["answers"][key]
            return True, {"approved": answer, "response": {"note": key}, "by": "studio"}
        child = self.child_of(run)
        if child is None or child["finished"] is None:
            self.illegal("its child has not ended")
        if child["input"] != given:
            self.illegal("its child got another input")
        if child["status"] == "succeeded":
            return True, child["output"]
        error = {"message": "child task %s %s" % (child["id"], child["status"]),
                 "class": child["error"]["class"] if child["status"] == "failed" else "DEPENDENCY"}
        return False, error

    def child_of(self, run):
        """The child of this attempt: children of one run start in order."""
        mine = [c for c in self.seen["children"] if c["at"] == run.node["key"].removesuffix(".item") and c["item"] == run.item]
        return mine[run.attempt - 1] if run.attempt <= len(mine) else None

    # ---- what else may happen to a run: money, the context ----

    def refused(self, run, row):
        """Is this failure the refusal of a success: no money, a key that was written?"""
        code = (row["error"] or {}).get("code")
        if code == "PT402" and "price" in run.node:
            return self.captured + run.node["price"]["quantity"] * PRICE > self.scenario.get("max_cost", 1 << 62)
        if code == "PT409" and "first" in run.node.get("writes", {}).get("shared", {}):
            return self.seen["context"]["shared"].get("first") not in (None, run.node["writes"]["shared"]["first"])
        return False

    # ---- events ----

    def replay(self):
        last = 0
        for event in self.seen["events"]:
            if event["seq"] != last + 1:
                raise Illegal("event %d follows event %d" % (event["seq"], last))
            last = event["seq"]
            try:
                self.step(event)
            except Illegal as e:
                raise Illegal("event %d, %s %s %s/%s: %s; due: %s" % (event["seq"], event["type"], event["node"], event["item"], event["attempt"], e,
                              ", ".join("%s/%d attempt %d%s" % (*k, r.attempt, " open" if r.open else "") for k, r in self.due.items())))
        if last != self.seen["last_seq"]:
            raise Illegal("the task counts %d events, and there are %d" % (self.seen["last_seq"], last))

    def step(self, event):
        kind = event["type"]
        if self.status.get("task") or (event["seq"] > 1 and self.seq_1 is None):
            self.illegal("after the end, or before the beginning")
        if kind == "task_created":
            self.seq_1 = True
        elif kind == "task_started":
            self.begin()
        elif kind == "cancel_requested":
            if not self.may_be_cancelled():
                self.illegal("nobody asked for it")
            self.cancelling, self.cancel_at = True, event["at"]
        elif kind in ("task_paused", "task_resumed"):
            self.paused = kind == "task_paused"
            self.paused_at = event["at"] if self.paused else None
        elif kind in ("task_succeeded", "task_failed", "task_cancelled"):
            self.end(kind.removeprefix("task_"))
        elif kind.startswith("node_"):
            self.node_event(kind.removeprefix("node_"), event)
        else:
            self.illegal("unknown event")

    seq_1 = None

    def may_be_cancelled(self):
        return any(a["kind"] == "cancel" for a in self.seen["acts"]) or self.seen.get("orphan")

    def node_event(self, what, event):
        key, item = event["node"], event["item"]
        node = self.node_of(key)
        if what == "skipped":
            return self.skip(key, event)
        if what == "compensated":
            return self.compensated(key)
        row = self.rows[key, item, event["attempt"]]
        if "undoes" in node:
            return self.undo(node, what, row)
        run = self.due.get((key, item)) or self.illegal("it is not its turn")
        if run.attempt != event["attempt"]:
            self.illegal("attempt %d is due" % run.attempt)
        if what == "cancelled":
            if not run.open or not (self.failing or self.may_be_cancelled()):
                self.illegal("it does not wait, or nothing ends the task")
            del self.due[key, item]
            return None
        if not run.open:
            self.may_begin(run, row)
        if what == "started":
            return self.started(run)
        return self.ended(run, what, row)

    def may_begin(self, run, row):
        began = row["started"] or row["finished"]
        if began < run.not_before:
            self.illegal("begins %.4f s early" % (run.not_before - began))
        # What had begun before may be recorded after it.
        if self.failing and began > self.failing["at"]:
            self.illegal("begins after the task has failed")
        for since, what in ((self.paused_at, "paused"), (self.cancel_at, "cancelled")):
            if since and began > since + LATE:
                self.illegal("begins %.1f s after the task was %s" % (began - since, what))
        if self.paused and self.born("pause"):
            self.illegal("begins while the task is paused")
        if self.born("cancel"):
            self.illegal("begins though it was cancelled before")

    def born(self, what):
        """Was it asked for in the transaction that started the task?"""
        return any(a["kind"] == what and a["first"] for a in self.seen["acts"])

    def started(self, run):
        node = run.node
        if node["kind"] not in WAITING or run.open:
            self.illegal("it does not wait")
        run.open = True
        if node["kind"] == "map":
            items = evaluate(node["over"], self.scope())
            if not isinstance(items, list) or not items:
                self.illegal("it has no items")
            self.maps[node["key"]] = {"items": items, "handed": 0, "done": 0, "failed": 0, "outputs": {}, "over": False}
            self.hand_out(node, node.get("max_parallel") or len(items))

    def hand_out(self, node, count):
        state, body = self.maps[node["key"]], self.bodies[node["key"] + ".item"]
        if state["over"]:
            return
        for _ in range(count):
            if state["handed"] < len(state["items"]):
                self.due[body["key"], state["handed"]] = Run(body, state["handed"])
                state["handed"] += 1

    def ended(self, run, what, row):
        node, key = run.node, run.node["key"]
        if what == "failed" and self.refused(run, row):
            ok, value = False, {}
        elif node["kind"] in WAITING and node["kind"] != "map" and not run.open:
            self.illegal("it ends before it waits")
        else:
            ok, value = self.predict(run, row)
            if ok and what == "failed" and "price" in node:
                self.illegal("fails with %s" % dump(row["error"]))
        if ok != (what == "succeeded"):
            self.illegal("it must %s: %s" % ("succeed" if ok else "fail", dump(value)))
        if ok:
            if row["output"] != value:
                self.illegal("output %s, not %s" % (dump(row["output"]), dump(value)))
            return self.succeeded(run, row)
        for name, wanted in value.items():
            if row["error"].get(name) != wanted:
                self.illegal("error %s: %s is not %s" % (dump(row["error"]), name, dump(wanted)))
        return self.failed(run, row)

    def succeeded(self, run, row):
        node, key = run.node, run.node["key"]
        del self.due[key, run.item]
        cost = node["price"]["quantity"] * PRICE if "price" in node else None
        if row["cost"] != cost:
            self.illegal("it cost %s, not %s" % (row["cost"], cost))
        self.captured += cost or 0
        if self.captured > self.scenario.get("max_cost", 1 << 62):
            self.illegal("more than max_cost is spent")
        if "writes" in node:
            self.writers.append(key)
        if "map" in node:
            state = self.maps[node["map"]]
            state["done"] += 1
            state["outputs"][run.item] = row["output"]
            return self.hand_out(self.nodes[node["map"]], 1)
        self.status[key], self.output[key] = "succeeded", row["output"]
        self.succeeded_order.append(key)
        return self.resolve(key)

    def failed(self, run, row):
        node, key = run.node, run.node["key"]
        retry = node.get("retry")
        classes = set(retry.get("on", RETRIED)) if retry else set()
        if retry and run.attempt < retry["max_attempts"] and row["error"]["class"] in classes:
            if row["message"] != "will retry %d/%d" % (run.attempt, retry["max_attempts"] - 1):
                self.illegal("message %s" % row["message"])
            run.not_before = row["finished"] + self.backoff(retry, run.attempt) - 0.0015
            run.attempt, run.open = run.attempt + 1, False
            return None
        if row["message"] is not None:
            self.illegal("it is not to be tried again")
        del self.due[key, run.item]
        if "map" in node:
            state = self.maps[node["map"]]
            state["failed"] += 1
            return self.hand_out(self.nodes[node["map"]], 0 if self.too_many(self.nodes[node["map"]], state) else 1)
        if node["kind"] == "map" and key in self.maps:
            self.maps[key]["over"] = True
            for item in self.due.values():
                item.optional = item.optional or item.node.get("map") == key
        self.status[key], self.error[key] = "failed", row["error"]
        if any(e.get("on") in ("failure", "always") for e in self.out[key]):
            return self.resolve(key)
        if self.failing is None:
            self.failing = {"error": row["error"] | {"node": key, "attempt": run.attempt}, "at": row["finished"]}
        return None

    @staticmethod
    def backoff(retry, failures):
        kind = retry.get("backoff", "exponential")
        delay = retry["initial"] * (2 ** (failures - 1) if kind == "exponential" else failures if kind == "linear" else 1)
        return min(delay, retry.get("max", 300)) * (1 - retry.get("jitter", 0.1))

    def skip(self, key, event):
        if key not in self.skips:
            self.illegal("it is not to be skipped")
        message = self.rows[key, 0, 1]["message"]
        if message != ("a node before it failed" if key in self.blocked else "no edge to it fired"):
            self.illegal("skipped because %s" % message)
        if self.failing:
            self.illegal("the task has failed")
        self.skips.discard(key)
        self.status[key] = "skipped"
        self.resolve(key)

    # ---- compensation ----

    def next_undo(self):
        return next((k for k in reversed(self.succeeded_order)
                     if "compensate" in self.nodes[k] and k not in self.undone and k not in self.undo_failed), None)

    def undo(self, node, what, row):
        wanted = self.next_undo()
        if not self.failing or node["undoes"] != wanted:
            self.illegal("%s is to be undone next" % wanted if self.failing else "the task has not failed")
        run = self.due.setdefault((node["key"], 0), Run(node, 0))
        if run.attempt != row["attempt"]:
            self.illegal("attempt %d is due" % run.attempt)
        if any(r.open for k, r in self.due.items() if k[0] not in self.undos):
            self.illegal("what waited was not cancelled before")
        ok, value = self.predict(run, row)
        if ok != (what == "succeeded") or (ok and row["output"] != value):
            self.illegal("it must %s: %s" % ("succeed" if ok else "fail", dump(value)))
        retry = node.get("retry")
        if not ok and retry and run.attempt < retry["max_attempts"]:
            run.attempt += 1
            return
        del self.due[node["key"], 0]
        if ok:
            self.undo_due = node["undoes"]
            self.undone.add(node["undoes"])
        else:
            self.undo_failed.add(node["undoes"])

    def compensated(self, key):
        if self.undo_due != key:
            self.illegal("it was not undone")
        self.undo_due = None
        self.status[key] = "compensated"

    # ---- the end ----

    def end(self, status):
        if status != self.seen["status"]:
            self.illegal("the task is %s" % self.seen["status"])
        self.status["task"] = status
        if status == "succeeded":
            if any(r.open or not r.optional for r in self.due.values()) or self.skips or self.failing:
                self.illegal("something is left to do, or it has failed")
            output = self.task_output()
            if self.seen["output"] != output:
                self.illegal("output %s, not %s" % (dump(self.seen["output"]), dump(output)))
            if self.seen["error"] is not None:
                self.illegal("it has an error")
        elif status == "failed":
            self.end_failed()
        elif not self.may_be_cancelled() or self.failing:
            self.illegal("nobody cancelled it, or it had failed")
        elif (self.seen["error"]["code"], self.seen["error"]["class"]) != ("57014", "CANCELLED"):
            self.illegal("error %s" % dump(self.seen["error"]))
        if status != "succeeded" and any(r.open for r in self.due.values()):
            self.illegal("something still waits")

    def end_failed(self):
        if not self.failing:
            self.illegal("nothing failed")
        for name in ("code", "class", "message", "node", "attempt"):
            if self.seen["error"].get(name) != self.failing["error"].get(name):
                self.illegal("error %s, not %s" % (dump(self.seen["error"]), dump(self.failing["error"])))
        if self.undo_due or (self.next_undo() and not self.may_be_cancelled()):
            self.illegal("%s was not undone" % (self.undo_due or self.next_undo()))

    def task_output(self):
        if "output" in self.definition:
            return evaluate(self.definition["output"], self.scope())
        sinks = [k for k in self.nodes if not self.out[k]]
        if len(sinks) == 1:
            return self.output.get(sinks[0]) if self.status.get(sinks[0]) == "succeeded" else None
        return {k: self.output[k] for k in sinks if self.status.get(k) == "succeeded"}

    # ---- what is not an event ----

    def check_rows(self):
        """Node runs, effects, children: as the last state says."""
        for (key, item, attempt), row in self.rows.items():
            node = self.node_of(key)
            if row["status"] not in ("succeeded", "failed", "skipped", "cancelled", "compensated"):
                raise Illegal("%s/%d is %s, and the task has ended" % (key, item, row["status"]))
            happened = node["kind"] == "sql" and node["function"] == "app.work" and row["status"] in ("succeeded", "compensated")
            done = self.seen["effects"].pop("%s/%d/%d" % (key, item, attempt), 0)
            if done != (1 if happened else 0):
                raise Illegal("%s/%d attempt %d is %s and had %d effects" % (key, item, attempt, row["status"], done))
        if self.seen["effects"]:
            raise Illegal("effects of nothing: %s" % dump(self.seen["effects"]))
        for key, status in self.status.items():
            if key != "task" and status == "compensated" and self.rows[key, 0, max(a for k, i, a in self.rows if k == key)]["status"] != "compensated":
                raise Illegal("%s is not compensated" % key)

    def check_money(self):
        hold = self.seen["hold"]
        if hold is None:
            if self.captured:
                raise Illegal("%d spent without a hold" % self.captured)
            return
        if hold["captured"] != self.captured or hold["used"] != self.captured or hold["open"]:
            raise Illegal("captured %s, metered %s, open %s; the nodes cost %d" % (hold["captured"], hold["used"], hold["open"], self.captured))

    def check_context(self):
        if "context" not in self.definition:
            return
        state = {"vars": {"one": self.seen["input"]["one"]}, "shared": {}}
        shared = state["shared"]
        for patch in self.seen["patches"]:
            writes = self.nodes[patch["node"]]["writes"]["shared"]
            for name, value in writes.items():
                if name == "log":
                    shared.setdefault("log", []).append(value)
                elif name == "bag":
                    shared.setdefault("bag", {}).update(value)
                elif name == "first" and shared.get("first", value) != value:
                    raise Illegal("%s wrote first, which had a value" % patch["node"])
                else:
                    shared[name] = value
        if sorted(p["node"] for p in self.seen["patches"]) != sorted(self.writers):
            raise Illegal("patches of %s, and %s succeeded" % ([p["node"] for p in self.seen["patches"]], self.writers))
        if state != self.seen["context"]:
            raise Illegal("context %s, not %s" % (dump(self.seen["context"]), dump(state)))


def check(definition, seen, scenario):
    """None when the execution is legal, else why not. Takes what it has compared out of seen["effects"]."""
    replay = Replay(definition, seen, scenario)
    try:
        if seen["finished"] is None:
            raise Illegal("it has not ended: %s" % seen["status"])
        first = min((r["started"] or r["finished"] for r in seen["runs"]), default=None)
        if "delay" in scenario and first and first < seen["run_at"]:
            raise Illegal("it began %.4f s before its time" % (seen["run_at"] - first))
        replay.replay()
        replay.check_rows()
        replay.check_money()
        replay.check_context()
    except Illegal as e:
        return str(e)
    return None
