#!/usr/bin/env python3
"""scripted_agent.py [PORT]: a service of chats that follows a script, for tests of agents: it calls the tools it is told to call.

Prints its port. PUT /script/NAME with a JSON array of turns; then http://127.0.0.1:PORT/NAME/v1 is the endpoint of a model that says them, one after the
other. Which turn it is follows from the request alone, the number of the assistant's messages in it: so a call made again gets the same answer.
A turn is an object:
  text      what it says
  calls     [[tool, arguments], …]; arguments that are a string are sent as they are, valid or not
  tokens    told as used, half for the prompt; default 10
  status    answers with this status instead
  hang      waits until GET /release/NAME, then answers
After the last turn it says "no more".
GET /seen/NAME: the messages of all requests, as JSON. GET /waiting/NAME: how many requests hang.
"""
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

scripts, seen, gates, waiting, lock = {}, {}, {}, {}, threading.Lock()


class Service(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def reply(self, doc, status=200):
        data = json.dumps(doc).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def body(self):
        return json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def do_PUT(self):
        name = self.path.rsplit("/", 1)[1]
        with lock:
            scripts[name], seen[name], waiting[name], gates[name] = self.body(), [], 0, threading.Event()
        self.reply({})

    def do_GET(self):
        what, name = self.path[1:].split("/", 1)
        if what == "release":
            gates[name].set()
            return self.reply({})
        with lock:
            return self.reply(seen.get(name, []) if what == "seen" else waiting.get(name, 0))

    def do_POST(self):
        name = self.path[1:].split("/", 1)[0]
        body = self.body()
        turn = sum(1 for m in body["messages"] if m["role"] == "assistant")
        with lock:
            seen[name].append({"messages": body["messages"], "tools": body.get("tools"), "key": self.headers.get("Idempotency-Key")})
            script = scripts[name]
        step = script[turn] if turn < len(script) else {"text": "no more"}
        if step.get("hang"):
            with lock:
                waiting[name] += 1
            gates[name].wait(60)
            with lock:
                waiting[name] -= 1
        if "status" in step:
            return self.reply({"error": {"message": "scripted failure"}}, step["status"])
        message = {"role": "assistant", "content": step.get("text")}
        if "calls" in step:
            message["tool_calls"] = [
                {"id": "call_%d_%d" % (turn, i), "type": "function",
                 "function": {"name": tool, "arguments": given if isinstance(given, str) else json.dumps(given)}}
                for i, (tool, given) in enumerate(step["calls"])]
        tokens = step.get("tokens", 10)
        self.reply({
            "model": "scripted", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls" if "calls" in step else "stop"}],
            "usage": {"prompt_tokens": tokens // 2, "completion_tokens": tokens - tokens // 2, "total_tokens": tokens}})


def main():
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0), Service)
    server.daemon_threads = True
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
