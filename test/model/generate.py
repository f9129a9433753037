"""generate.py: from a seed to a scenario: a random workflow, its input, and what people do to its task while it runs.

Decided: one seed gives one scenario, whatever the machine. Nodes fail as their input says ("fails": how many attempts, "code": with which
SQLSTATE), so that a model can tell every outcome. Templates read only what has certainly ended when their node runs (certain()): the
model need not know when a value was read. Durations are short: a scenario takes half a second.
Must hold: every scenario ends: a wait without a time limit gets as many signals as it has runs, a pause has its resume, an approval its answer.
"""
import random

CODES = {  # what a failing node raises, and the class that docs/definition.md gives it
    "P0001": "UNKNOWN", "40001": "TRANSIENT", "55P03": "TRANSIENT", "22023": "VALIDATION", "23505": "VALIDATION", "42501": "POLICY_DENY",
    "53200": "RESOURCE_LIMIT", "58030": "DEPENDENCY", "42883": "TOOL_BUG",
}
HTTP_CODES = {503: "DEPENDENCY", 429: "TRANSIENT", 404: "VALIDATION", 403: "POLICY_DENY"}
PRICE = 1000    # nano-units for one "look"

# Workflows that nodes of kind workflow start. Their input says what becomes of them.
LIBRARY = {
    "lib echo": {"nodes": [{"key": "e", "kind": "transform", "output": {"n": "{{ input.n }}", "child": True}}]},
    "lib work": {"nodes": [{"key": "w", "kind": "sql", "function": "app.work", "retry": {"max_attempts": 2, "initial": 0.01},
                            "input": {"task": "{{ task.id }}", "node": "w", "n": "{{ input.n }}", "fails": "{{ input.fails }}", "code": "{{ input.code }}"}}]},
    "lib sleep": {"nodes": [{"key": "s", "kind": "sleep", "duration": "{{ input.seconds }}"},
                            {"key": "t", "kind": "transform", "output": {"n": "{{ input.n }}"}}],
                  "edges": [{"from": "s", "to": "t"}]},
}


class Generator:
    def __init__(self, seed, http):
        self.r = random.Random(seed)
        self.seed = seed
        self.http = http
        self.signals = {"go": 0, "late": 0}
        self.answers = {}
        self.size = {}          # rough size of a node's output, so that inputs made of inputs do not explode
        self.certain = {}       # what has ended when a node runs

    def chance(self, p):
        return self.r.random() < p

    # ---- fields ----

    def fails(self):
        """How often a node fails, and with what; mostly never."""
        dice = self.r.random()
        return (0 if dice < 0.68 else self.r.randint(1, 3) if dice < 0.86 else 99), self.r.choice(list(CODES))

    def retry(self):
        retry = {"max_attempts": self.r.randint(1, 4), "initial": self.r.choice([0.002, 0.01, 0.03])}
        if self.chance(0.6):
            retry["backoff"] = self.r.choice(["exponential", "linear", "fixed"])
        if self.chance(0.3):
            retry["max"] = max(0.02, retry["initial"])
        if self.chance(0.5):
            retry["jitter"] = self.r.choice([0, 0.5, 1])
        if self.chance(0.3):
            retry["on"] = self.r.sample(sorted(set(CODES.values()) | {"TIMEOUT"}), self.r.randint(1, 5))
        return retry

    def value(self, key):
        """A template that reads something that has ended, or the task's input."""
        known = sorted(self.certain.get(key, ()))
        dice = self.r.random()
        if known and dice < 0.5:
            return "{{ nodes.%s.output.n }}" % self.r.choice(known)
        if known and dice < 0.6:
            return "%s is {{ nodes.%s.status }}" % (key, self.r.choice(known))
        if known and dice < 0.7:
            return "{{ nodes.%s.error.class }}" % self.r.choice(known)
        return self.r.choice([7, "{{ input.one }}", "{{ input.list[1] }}", "x{{ input.tag }}y{{ input.absent }}", "{{ input.absent.deep }}", "{{ input.list }}"])

    def predicate(self, node):
        known = sorted(self.certain[node] | {node})
        return self.r.choice(["$.input.one == 1", "$.input.one > 1", "$.nodes.%s.output.n > 3" % self.r.choice(known),
                              "$.nodes.%s.status == \"failed\"" % self.r.choice(known)])

    # ---- nodes ----

    def work(self, key, fails=None, item=False):
        count, code = fails or self.fails()
        given = {"task": "{{ task.id }}", "node": key, "n": self.r.randint(0, 9), "in": self.value(key)}
        if item:
            given |= {"item": "{{ index }}", "fails": "{{ item.fails }}", "code": "{{ item.code }}"}
        elif count:
            given |= {"fails": count, "code": code}
        if self.chance(0.15):
            given["ms"] = self.r.choice([1, 5, 25])
        return {"kind": "sql", "function": "app.work", "input": given}

    def child(self, key):
        name = self.r.choice(list(LIBRARY))
        count, code = self.fails()
        return name, {"at": key, "n": self.r.randint(0, 9), "fails": count, "code": code, "seconds": self.r.choice([0.001, 0.02, 0.08])}

    def waiting(self, key, kind, runs):
        """sleep, wait, approval; runs: how many of it there may be at most, without retries."""
        if kind == "sleep":
            return {"kind": "sleep", "duration": self.r.choice([0, 0.001, 0.02, "30 ms"])}
        if kind == "wait":
            if self.chance(0.6):
                self.signals["go"] += runs
                return {"kind": "wait", "signal": "go"}
            self.signals["late"] += self.r.choice([0, runs])
            return {"kind": "wait", "signal": "late", "timeout": self.r.choice([0.005, 0.05])}
        node = {"kind": "approval", "message": "%s, {{ input.one }}?" % key}
        self.answers[key] = self.chance(0.7)
        if self.chance(0.3):
            node["timeout"] = self.r.choice([0.01, 0.06])
        return node

    def call(self, key, item=False):
        count, status = self.r.choice([0, 0, 0, 1, 2, 99]), self.r.choice(list(HTTP_CODES))
        if item:
            count, status = "{{ item.fails }}", 503
        return {"kind": "http", "url": "%s/flaky?key={{ task.id }}-%s%s&fail=%s&status=%s" % (self.http, key, "-{{ index }}" if item else "", count, status),
                "output": "$.output.body"}

    def map(self, key):
        count = self.r.choice([0, 1, 2, 3, 5, 8])
        items = [{"fails": f, "code": c, "n": self.r.randint(0, 9)} for f, c in (self.fails() for _ in range(count))]
        node = {"kind": "map", "over": items}
        dice = self.r.random()
        if dice < 0.05:
            node["over"] = "{{ input.one }}"    # no array: the map fails
        if self.chance(0.6):
            node["max_parallel"] = self.r.randint(1, 3)
        if self.chance(0.6):
            node["error_budget"] = self.r.choice([0, 1, 2, "all"])
        kind = self.r.choices(["sql", "transform", "sleep", "wait", "workflow", "noop", "http"], [8, 2, 1, 1, 2, 1, 1])[0]
        body = key + ".item"
        if kind == "workflow":
            name = self.r.choice(list(LIBRARY))
            node["over"] = [i | {"at": key, "seconds": 0.01} for i in items]
            node["workflow"] = name
            return node
        if kind == "sql":
            node["node"] = self.work(body, item=True)
            if self.chance(0.4):
                node["node"]["retry"] = self.retry()
        elif kind == "http":
            node["node"] = self.call(body, item=True)
            if self.chance(0.4):
                node["node"]["retry"] = self.retry()
        elif kind == "transform":
            node["node"] = {"kind": "transform", "output": {"n": "{{ item.n }}", "i": "{{ index }}", "p": "{{ params.n }}"}}
        elif kind == "noop":
            node["node"] = {"kind": "noop"}
        else:
            node["node"] = self.waiting(body, kind, count)
        return node

    def node(self, key):
        kind = self.r.choices(["noop", "transform", "switch", "condition", "sql", "echo", "sleep", "wait", "approval", "workflow", "map", "http"],
                              [6, 12, 6, 4, 36, 4, 6, 5, 4, 5, 9, 4])[0]
        if kind == "noop":
            node = {"kind": "noop"}
        elif kind == "transform":
            node = {"kind": "transform", "output": {"n": self.r.randint(0, 9), "v": self.value(key)}}
        elif kind == "switch":
            node = {"kind": "switch", "cases": [{"name": name, "when": "$.input.one == %d" % self.r.randint(0, 3)} for name in ("yes", "maybe")]}
            if self.chance(0.7):
                node["default"] = "no"
        elif kind == "condition":
            node = {"kind": "condition", "when": "$.input.one == %d" % self.r.randint(0, 2)}
        elif kind == "sql":
            node = self.work(key)
        elif kind == "echo":
            node = {"kind": "sql", "function": "app.echo"}
        elif kind == "workflow":
            name, given = self.child(key)
            node = {"kind": "workflow", "workflow": name, "input": given}
            if self.chance(0.2):
                node["timeout"] = 0.04
        elif kind == "map":
            node = self.map(key)
        elif kind == "http":
            node = self.call(key)
        else:
            node = self.waiting(key, kind, 1)
        node = {"key": key} | node
        retryable = kind in ("sql", "http", "workflow") or "timeout" in node
        if retryable and self.chance(0.6):
            node["retry"] = self.retry()
        return node

    def extras(self, node):
        """compensate, price, writes."""
        key = node["key"]
        if node["kind"] in ("sql", "transform", "noop", "map") and self.chance(0.25):
            undo = {"kind": "transform", "output": "{{ output.n }}"}
            if self.chance(0.75):
                undo = {"kind": "sql", "function": "app.work",
                        "input": {"task": "{{ task.id }}", "node": key + ".compensate", "n": "{{ output.n }}"}}
                if self.chance(0.25):
                    undo["input"] |= {"fails": self.r.choice([1, 99]), "code": "55P03"}
                    undo["retry"] = {"max_attempts": 2, "initial": 0.005}
            node["compensate"] = undo
        if self.money and node["kind"] in ("sql", "transform", "noop", "sleep", "http") and self.chance(0.5):
            node["price"] = {"name": "look", "quantity": self.r.randint(0, 5), "estimate": self.r.randint(0, 4)}
            self.estimate += node["price"]["estimate"] * PRICE
            self.spent += node["price"]["quantity"] * PRICE
        if self.context and node["kind"] in ("sql", "transform", "noop", "sleep", "wait") and self.chance(0.5):
            node["writes"] = {"shared": self.r.choice([{"log": key}, {"last": key}, {"log": key, "bag": {key: 1}}, {"first": key}])}

    # ---- edges ----

    def edges(self, n):
        edges = []
        for to in range(1, n):
            for source in sorted({self.r.randrange(to) for _ in range(self.r.choice([0, 1, 1, 1, 2, 2, 3]))}):
                edges.append([source, to])
        return edges

    def edge(self, node, target):
        edge = {"from": node["key"], "to": target}
        if node["kind"] in ("switch", "condition") and self.chance(0.7):
            return edge | {"case": self.r.choice(["yes", "maybe"] + (["no"] if "default" in node else []) if node["kind"] == "switch" else ["true", "false"])}
        dice = self.r.random()
        may_fail = node["kind"] in ("sql", "map", "workflow", "http") or "timeout" in node
        if may_fail and dice < 0.45:
            edge["on"] = "always" if dice < 0.2 else "failure"
        elif dice < 0.52:
            edge["on"] = "success"
        elif dice > 0.97:
            edge["on"] = "failure"
        if self.chance(0.15):
            edge["when"] = self.predicate(node["key"])
        return edge

    # ---- the whole ----

    def generate(self):
        r = self.r
        n = r.choice([1, 2, 3, 5, 8, 8, 12, 12, 16])
        keys = ["n%d" % i for i in range(n)]
        pairs = self.edges(n)
        self.money, self.context, self.estimate, self.spent = self.chance(0.25), self.chance(0.25), 0, 0
        nodes, edges = [], []
        for i, key in enumerate(keys):
            before = [keys[s] for s, t in pairs if t == i]
            any_join = len(before) > 1 and self.chance(0.35)
            known = [self.certain[b] | {b} for b in before]
            self.certain[key] = (set.intersection(*known) if any_join else set.union(*known)) if known else set()
            node = self.node(key)
            if any_join:
                node["join"] = "any"
            # A default input is what came before, whole: small ones only, and never of a race.
            size = 2 + sum(self.size[b] for b in before)
            if node["kind"] in ("noop", "transform", "switch", "condition", "sql", "http") and "input" not in node and (size > 40 or any_join or self.chance(0.5)):
                node["input"] = {"n": r.randint(0, 9), "v": self.value(key)}
                size = 3
            elif "input" not in node and (any_join or size > 40):
                node["input"] = {}
            if node["kind"] == "sql" and "input" in node and "task" in node["input"]:
                size = 4
            self.size[key] = size if node["kind"] in ("noop", "sql") else 40 if node["kind"] == "map" else 4
            self.extras(node)
            nodes.append(node)
            edges += [self.edge(nodes[s], key) for s, t in pairs if t == i]
        definition = {"nodes": nodes, "edges": edges}
        if self.chance(0.4):
            definition["output"] = {k: "{{ nodes.%s.output.n }}" % k for k in r.sample(keys, min(3, n))} | {"why": "{{ nodes.%s.status }}" % r.choice(keys)}
        if self.context:
            definition["context"] = {"vars": {"one": {"type": "integer"}},
                                     "shared": {"log": {"type": "array", "conflict": "append"}, "last": {"type": "string"},
                                                "bag": {"type": "object", "conflict": "merge"}, "first": {"conflict": "reject"}}}
        scenario = {"seed": self.seed, "definition": definition, "answers": self.answers,
                    "input": {"one": r.randint(0, 2), "tag": r.choice(["a", {"b": [1, None]}, None, 12]), "list": [1, "two", {"three": 3}]}}
        if self.money and self.chance(0.4):
            scenario["max_cost"] = max(self.estimate, r.choice([self.spent, self.spent // 2]))
        if self.chance(0.04):
            scenario["delay"] = r.choice([0.02, 0.1])
        scenario["actions"] = self.actions()
        return scenario

    def actions(self):
        """(milliseconds after the start, what, …) in order; at 0 in the transaction that starts the task."""
        r, actions = self.r, []
        for name, count in self.signals.items():
            early = self.chance(0.3)
            actions += [(r.choice([0, 1, 5]) if early else r.randint(1, 120), "signal", name, "%s %d" % (name, i)) for i in range(count)]
        if self.chance(0.12):
            actions.append((r.choice([0, r.randint(1, 20), r.randint(1, 200)]), "cancel"))
        if self.chance(0.1):
            at = r.choice([0, 0, r.randint(1, 60)])
            actions += [(at, "pause"), (at + r.randint(20, 150), "resume")]
        return sorted(actions, key=lambda a: a[0])


def scenario(seed, http):
    return Generator(seed, http).generate()
