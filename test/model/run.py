#!/usr/bin/env python3
"""run.py: random scenarios against a server with goya, each judged by the model.

    run.py --count 300 [--base SEED] [--in-flight 150] [--seconds 600]      seeds BASE … BASE+COUNT-1
    run.py --one SEED [--times 20] [--shrink]                               one of them, with all details; smaller, if it fails

The server is that of PGHOST, PGPORT, PGUSER (a superuser), PGDATABASE; psql is taken from PATH. Prints the base seed, seeds a second, each
illegal execution with its seed and how to repeat it, and `N passed, N failed` at the end; exit status 1 when one failed.

Decided: psql over pipes is the client, so that nothing needs to be installed. One thread: start, act, ask what has ended, judge. Many
scenarios are in flight at once, which is what makes their batches, executors and locks meet. Clocks are the server's.
Must hold: whoever starts a server for this stops it; a task that has not ended after 60 s (GOYA_DEADLINE) is a failure, with goya.diagnose.
"""
import argparse
import copy
import heapq
import itertools
import json
import os
import subprocess
import sys
import time

import rules
from generate import LIBRARY, scenario

GIVE_UP = 50
HERE = os.path.dirname(os.path.abspath(__file__))
DEADLINE = float(os.environ.get("GOYA_DEADLINE") or 60)


class Psql:
    """A psql that stays connected; ask() runs statements and returns the lines they print."""

    def __init__(self, role=None):
        self.process = subprocess.Popen(["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-f", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8")
        if role:
            self.ask('SET ROLE "%s"' % role)

    def ask(self, statements):
        try:
            self.process.stdin.write(statements + ";\n\\echo -- done\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        lines = []
        for line in self.process.stdout:
            if line == "-- done\n":
                return lines
            lines.append(line.rstrip("\n"))
        raise SystemExit("psql ended: %s" % statements[:500])

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def quote(value):
    return "$goya$%s$goya$" % json.dumps(value)


class Driver:
    def __init__(self, http):
        self.http = http
        self.admin = Psql()
        new = self.admin.ask("SELECT to_regclass('app.acts') IS NULL") == ["t"]
        if new:
            self.admin.ask(open(os.path.join(HERE, "setup.sql")).read())
        self.studio = Psql("studio")
        if new:
            for name, definition in LIBRARY.items():
                self.studio.ask("SELECT count(goya.create_workflow('%s', %s, publish => true))" % (name, quote(definition)))
        self.jobs, self.actions, self.number = {}, [], 0
        self.run = "%d" % time.time_ns()
        self.seen = {"tasks": 0, "runs": 0}
        self.ends = {}

    def start(self, scenarios):
        """All in one transaction for the workflows, one for the tasks."""
        for s in scenarios:
            self.number += 1
            s["name"] = "%s %d" % (self.run, self.number)
        self.studio.ask("SELECT count(goya.create_workflow('model ' || (s ->> 'name'), s -> 'definition', publish => true)) FROM jsonb_array_elements(%s) s" %
                        quote([{"name": s["name"], "definition": s["definition"]} for s in scenarios]))
        ids = self.studio.ask("SELECT app.start(s) FROM jsonb_array_elements(%s) WITH ORDINALITY u(s, n) ORDER BY n" %
                              quote([{k: v for k, v in s.items() if k != "definition"} for s in scenarios]))
        now = time.monotonic()
        for task, s in zip(ids, scenarios, strict=True):
            self.jobs[task] = (s, now)
            for number, action in enumerate(s["actions"]):
                if action[0] > 0:
                    heapq.heappush(self.actions, (now + action[0] / 1000, task, number, action))

    def act(self):
        """What is due: signals and the like of the scenarios, and the answers to open questions."""
        now, due = time.monotonic(), []
        while self.actions and self.actions[0][0] <= now:
            due.append(heapq.heappop(self.actions))
        for line in self.admin.ask("SELECT json_build_array(task_id, node, item) FROM goya.approvals WHERE status = 'pending' ORDER BY task_id, node, item"):
            task, node, item = json.loads(line)
            if task in self.jobs:
                payload = {"approved": self.jobs[task][0]["answers"][node], "response": {"note": node}, "item": item}
                due.append((now, task, 0, (0, "approval", node, payload)))
        if not due:
            return
        statements = ["SELECT app.act('%s', '%s', %s, %s)" % (task, a[1], quote_text(a[2]) if len(a) > 2 else "NULL", quote(a[3]) if len(a) > 3 else "NULL")
                      for _, task, _, a in due]
        for entry, answer in zip(due, self.studio.ask(";\n".join(statements)), strict=True):
            if answer == "f" and entry[3][1] != "approval":
                heapq.heappush(self.actions, (now + 0.02, *entry[1:]))

    def ended(self):
        """Tasks that have ended with all their children, or whose time is over."""
        if not self.jobs:
            return []
        ids = "'{%s}'" % ",".join(self.jobs)
        done = self.admin.ask("SELECT t.id FROM goya.tasks t WHERE t.id = ANY (%s) AND t.finished_at IS NOT NULL AND NOT EXISTS"
                              " (SELECT FROM goya.tasks c WHERE c.parent_task_id = t.id AND c.finished_at IS NULL)" % ids)
        late = time.monotonic() - DEADLINE
        done = set(done)
        return [t for t in self.jobs if t in done or self.jobs[t][1] < late]

    def judge(self, tasks):
        """(seed, why, scenario, seen) of each illegal execution."""
        illegal = []
        lines = self.admin.ask("SELECT app.seen(id) FROM unnest('{%s}'::uuid[]) id" % ",".join(tasks)) if tasks else []
        for line in lines:
            seen = json.loads(line)
            s, _ = self.jobs.pop(seen["id"])
            why = rules.check(s["definition"], seen, s)
            for child in seen["children"]:
                if why is None:
                    child["orphan"] = seen["status"] in ("failed", "cancelled")
                    why = rules.check(LIBRARY[child["workflow"]], child, {"answers": {}})
                    why = why and "child %s (%s): %s" % (child["id"], child["workflow"], why)
            self.seen["tasks"] += 1 + len(seen["children"])
            self.seen["runs"] += len(seen["runs"])
            self.ends[seen["status"]] = self.ends.get(seen["status"], 0) + 1
            if why:
                illegal.append((s["seed"], why, s, seen))
                if seen["finished"] is None:
                    print("\n".join(self.admin.ask("SELECT d FROM goya.diagnose('%s') d" % seen["id"])))
        return illegal

    def drive(self, scenarios, in_flight, seconds=None):
        """Generator: lists of illegal executions, as tasks end."""
        began, more = time.monotonic(), iter(scenarios)
        fresh = True
        while fresh or self.jobs:
            if fresh and seconds and time.monotonic() - began > seconds:
                fresh = False
            if fresh and len(self.jobs) <= in_flight - 25:
                chunk = list(itertools.islice(more, 25))
                fresh = bool(chunk)
                if chunk:
                    self.start(chunk)
            self.act()
            tasks = self.ended()
            yield self.judge(tasks)
            if not tasks and not (fresh and len(self.jobs) <= in_flight - 25):
                time.sleep(0.01)

    def close(self):
        self.admin.close()
        self.studio.close()


def quote_text(value):
    return "$goya$%s$goya$" % value


def tell(seed, why, repeat):
    print("not ok - seed %d: %s\n#   again: %s" % (seed, why, repeat), flush=True)


# ---- one scenario, and smaller ones ----

def fails(driver, s, times):
    """The first illegal execution of a scenario run many times at once, or None."""
    copies = (copy.deepcopy(s) for _ in range(times))
    found = None
    for illegal in driver.drive(copies, times):
        found = found or (illegal[0] if illegal else None)
    return found


def smaller(s):
    """The scenario without one of its nodes, actions or fields that it can do without."""
    for i, node in enumerate(s["definition"]["nodes"]):
        text = json.dumps([s["definition"]["nodes"][:i], s["definition"]["nodes"][i + 1:], s["definition"].get("output")])
        key = node["key"]
        if "nodes.%s." % key in text or any("nodes.%s." % key in e.get("when", "") for e in s["definition"]["edges"]):
            continue
        t = copy.deepcopy(s)
        del t["definition"]["nodes"][i]
        t["definition"]["edges"] = [e for e in t["definition"]["edges"] if key not in (e["from"], e["to"])]
        if t["definition"]["nodes"]:
            yield t
    for i in range(len(s["definition"]["edges"])):
        t = copy.deepcopy(s)
        del t["definition"]["edges"][i]
        yield t
    for i in range(len(s["actions"])):
        if s["actions"][i][1] not in ("signal", "resume"):
            t = copy.deepcopy(s)
            del t["actions"][i]
            yield t
    for field in ("output", "context"):
        if field in s["definition"]:
            t = copy.deepcopy(s)
            del t["definition"][field]
            if field == "output" or not any("writes" in n for n in t["definition"]["nodes"]):
                yield t
    for i, node in enumerate(s["definition"]["nodes"]):
        for field in ("compensate", "price", "writes", "retry", "join"):
            if field in node and not (field == "price" and "max_cost" in s):
                t = copy.deepcopy(s)
                del t["definition"]["nodes"][i][field]
                yield t


def shrink(driver, s, times, seconds=120):
    end = time.monotonic() + seconds
    again = True
    while again and time.monotonic() < end:
        again = False
        for t in smaller(s):
            try:
                failed = fails(driver, t, times)
            except SystemExit:
                driver.__init__(driver.http)        # a definition that is refused
                continue
            if failed:
                s, again = t, True
                break
    return s


def one(driver, seed, times, wanted_smaller):
    s = scenario(seed, driver.http)
    print(json.dumps({k: v for k, v in s.items() if k != "definition"}))
    print(json.dumps(s["definition"], indent=1) if len(json.dumps(s)) < 3000 else json.dumps(s["definition"]))
    found = fails(driver, s, times)
    if found is None:
        print("ok - seed %d, %d times" % (seed, times))
        return 0
    if wanted_smaller:
        s = shrink(driver, s, times)
        found = fails(driver, s, times * 3) or found
        print("# as small as it gets:\n%s" % json.dumps({k: v for k, v in s.items() if k != "name"}))
    show(found[3])
    tell(seed, found[1], "its definition is above")
    return 1


def show(seen):
    rows = {(r["node"], r["item"], r["attempt"]): r for r in seen["runs"]}
    for e in seen["events"]:
        row = rows.get((e["node"], e["item"], e["attempt"]), {})
        print("  %3d %.4f %-18s %s %s" % (e["seq"], e["at"] - seen["events"][0]["at"], e["type"], "%s/%s/%s" % (e["node"], e["item"], e["attempt"]) if e["node"] else "",
              json.dumps({k: row[k] for k in ("input", "output", "error", "message") if row.get(k) is not None}) if row and e["type"] != "node_started" else ""))
    print("  " + json.dumps({k: v for k, v in seen.items() if k not in ("events", "runs", "children")}))


# ---- many ----

def many(driver, base, count, in_flight, seconds):
    print("# seed %d (SEED=%d repeats the run), %d seeds, %d in flight" % (base, base, count, in_flight), flush=True)
    began, failed, done, said = time.monotonic(), 0, 0, time.monotonic()
    for illegal in driver.drive((scenario(seed, driver.http) for seed in range(base, base + count)), in_flight, seconds):
        for seed, why, s, seen in illegal:
            failed += 1
            if failed <= 10:
                tell(seed, why, "test/soak/model --one %d --shrink" % seed)
                if failed == 1:
                    print(json.dumps(s["definition"]))
                    show(seen)
        if failed >= GIVE_UP:
            print("# more than %d failed: the rest is left out" % GIVE_UP)
            break
        done = sum(driver.ends.values())
        if time.monotonic() - said > 30:
            said = time.monotonic()
            print("# %d of %d, %.1f seeds/s, %d failed" % (done, count, done / (said - began), failed), flush=True)
    took = time.monotonic() - began
    print("# %d seeds in %.1f s, %.1f seeds/s; %d tasks with %d node runs: %s" % (done, took, done / took, driver.seen["tasks"], driver.seen["runs"],
          ", ".join("%d %s" % (n, status) for status, n in sorted(driver.ends.items()))))
    if done < count:
        print("# the time was over before all seeds had run")
        failed += 1
    print("%d passed, %d failed" % (done - failed, failed))
    return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--base", type=int, default=None)
    parser.add_argument("--in-flight", type=int, default=200)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--one", type=int)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--shrink", action="store_true")
    options = parser.parse_args()
    base = options.base if options.base is not None else int(os.environ.get("GOYA_SEED") or os.environ.get("SEED") or int.from_bytes(os.urandom(4), "big") % 2**31)
    server = subprocess.Popen([sys.executable, os.path.join(HERE, "..", "servers", "faulty_http.py"), "--until-eof"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        driver = Driver("http://127.0.0.1:%d" % int(server.stdout.readline()))
        if options.one is not None:
            status = one(driver, options.one, options.times, options.shrink)
        else:
            status = many(driver, base, options.count, options.in_flight, options.seconds)
        driver.close()
    finally:
        server.stdin.close()
        server.wait()
    sys.exit(status)


if __name__ == "__main__":
    main()
