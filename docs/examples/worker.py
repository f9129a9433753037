#!/usr/bin/env python3
"""worker.py QUEUE: does the work of a queue of goya, one piece at a time, until it is told to stop (SIGTERM, Ctrl-C).

Needs Python 3 and psycopg2 (Debian: python3-psycopg2); the connection comes from the environment (PGHOST, PGDATABASE, PGUSER, ...).
A heartbeat from a second connection keeps the lease while the work goes on, and says when nobody wants the work any more.
"""
import json
import os
import signal
import sys
import threading
import psycopg2

NAME = f"{os.uname().nodename}-{os.getpid()}"
stopping = threading.Event()


def connect():
    connection = psycopg2.connect("")
    connection.autocommit = True  # each call is a transaction: nothing is locked while we work
    return connection.cursor()


def do_work(work, wanted, report):
    """The work itself: here, as many steps as the input says. wanted() is false when it should stop."""
    steps = int(work.get("steps", 3))
    for step in range(steps):
        if not wanted():
            return None
        report(100 * step / steps, f"step {step + 1} of {steps}")
        threading.Event().wait(float(work.get("seconds", 0.1)))
    if work.get("fail"):
        raise ValueError(work["fail"])
    return {"done": steps, "by": NAME}


def beat(token, state, over):
    cursor = connect()
    while not over.wait(state["every"]):
        cursor.execute("SELECT goya.heartbeat(%s, %s, %s)", (token, *state["said"]))
        if not cursor.fetchone()[0]:
            state["wanted"] = False
            return


def main(queue):
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    cursor = connect()
    while not stopping.is_set():
        cursor.execute("SELECT token, input, extract(epoch FROM lease_until - now()) FROM goya.claim_work(%s, %s)", (queue, NAME))
        claimed = cursor.fetchone()
        if claimed is None:
            cursor.execute("SELECT goya.wait_for_work(%s, '5 s')", (queue,))
            continue
        token, work, lease = claimed
        state = {"wanted": True, "said": (None, None), "every": float(lease) / 3}
        over = threading.Event()
        heart = threading.Thread(target=beat, args=(token, state, over), daemon=True)
        heart.start()
        try:
            output = do_work(work, lambda: state["wanted"], lambda *said: state.update(said=said))
            if state["wanted"]:
                usage = json.dumps({"step": output["done"]})
                cursor.execute("SELECT goya.complete_work(%s, %s, %s)", (token, json.dumps(output), usage))
        except Exception as error:  # of the work: the node's retry rules decide what follows
            cursor.execute("SELECT goya.fail_work(%s, %s)", (token, json.dumps({"message": str(error), "code": type(error).__name__})))
        over.set()
        heart.join()


if __name__ == "__main__":
    main(sys.argv[1])
