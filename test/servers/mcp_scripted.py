#!/usr/bin/env python3
"""An MCP server that does what well-kept ones do not, for goya's tests.

    mcp_scripted.py

Listens on 127.0.0.1, prints the port as its first line and serves until the end of its input. Only the standard library.

What must hold: every request is in the log before its answer begins.

  /mcp       2025-11-25 with sessions; anything without one but initialize is refused with 404
  /modern    2026-07-28
  /page      an HTML page
  /key       2025-11-25, for those who bring "Bearer open sesame please"; others get 401 and back what they brought

  /_log      JSON list of requests: path, http, method (of the message), session, id, headers, body
  /_expire   all sessions are over
  /_tools    sets the tools that are listed, given as JSON
  /_clear    empties the log

Tools of /mcp and /modern; ?name= in arguments where a test needs its own count:

  fine       text                                 cut        the stream breaks off, the rest comes on the next GET
  count      {"n": calls so far}                   cuts       breaks off for ever, without an event
  wrong      structured content of another type    ask        ping, elicitation, sampling and roots inside the stream; the answers as text
  fails      isError                               huge       {"mb": n} of text
  rpc        {"code", "status"}: a JSON-RPC error  garbage    what is not JSON
  hang       never answers                         reset      closes the connection without an answer
  status     {"status"}: that HTTP status          once       fails, then goes well
"""

import json
import sys
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlparse

lock = threading.Condition()
log = []
sessions = set()
answers = {}  # id of a request of ours -> the client's answer
waiting = {}  # event id -> message that is to come
counts = {}

SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}}
OUTPUT = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
REPEATABLE = {"idempotentHint": True}


def tool(name, **more):
    return {"name": name, "description": "Tool " + name, "inputSchema": SCHEMA, **more}


tools = [tool("fine", annotations={"readOnlyHint": True}), tool("count", outputSchema=OUTPUT, annotations=REPEATABLE),
         tool("wrong", outputSchema=OUTPUT), tool("once"), tool("reset"),
         tool("once_safe", annotations=REPEATABLE), tool("reset_safe", annotations=REPEATABLE)]


def text(words):
    return {"content": [{"type": "text", "text": words}]}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def note(self, message):
        with lock:
            log.append({"path": self.path, "http": self.command, "method": message.get("method"), "id": message.get("id"),
                        "session": self.headers.get("Mcp-Session-Id"), "headers": {k.lower(): v for k, v in self.headers.items()}, "body": message})
            if "method" not in message and "id" in message:
                answers[message["id"]] = message
            lock.notify_all()

    def reply(self, body, status=200, kind="application/json", **headers):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def result(self, message, result, **headers):
        if self.path == "/modern":
            result.setdefault("resultType", "complete")
        self.reply({"jsonrpc": "2.0", "id": message["id"], "result": result}, **headers)

    def error(self, message, code, words, status=200, data=None):
        self.reply({"jsonrpc": "2.0", "id": message.get("id"), "error": {"code": code, "message": words, **({"data": data} if data else {})}}, status)

    def begin_stream(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def send(self, raw):
        data = raw.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def event(self, message, name=None):
        self.send("event: message\n" + (f"id: {name}\n" if name else "") + f"data: {json.dumps(message)}\n\n")

    def end_stream(self):
        self.wfile.write(b"0\r\n\r\n")

    def ask(self, method, params=None):
        """A request of the server inside the stream; the client's answer."""
        name = "ask-" + uuid.uuid4().hex
        self.event({"jsonrpc": "2.0", "id": name, "method": method, **({"params": params} if params else {})})
        with lock:
            lock.wait_for(lambda: name in answers, 10)
            return answers.get(name, {})

    # ----- requests -----

    def do_GET(self):
        path = urlparse(self.path).path
        if path == "/_log":
            return self.reply(log)
        if path == "/_clear":
            log.clear()
            return self.reply({})
        if path == "/_expire":
            sessions.clear()
            return self.reply({})
        self.note({})
        last = self.headers.get("Last-Event-ID")
        if last not in waiting:
            return self.reply({}, 405)
        self.begin_stream()
        self.event(waiting.pop(last), last + "-end")
        return self.end_stream()

    def do_DELETE(self):
        self.note({})
        self.reply({}, 405)

    def do_POST(self):
        global tools
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        message = json.loads(body)
        if self.path == "/_tools":
            tools = message
            return self.reply({})
        self.note(message)
        if self.path == "/page":
            return self.reply(b"<html>not here</html>", 200, "text/html")
        if self.path == "/key" and self.headers.get("Authorization") != "Bearer open sesame please":
            return self.reply({"you": "sent " + str(self.headers.get("Authorization"))}, 401)
        if self.path == "/modern":
            return self.modern(message)
        return self.legacy(message)

    def legacy(self, message):
        method = message.get("method")
        if method == "initialize":
            session = uuid.uuid4().hex
            sessions.add(session)
            return self.result(message, {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "scripted", "version": "1"}},
                               Mcp_Session_Id=session)
        if self.headers.get("Mcp-Session-Id") not in sessions:
            return self.error(message, -32001, "unknown session", 404)
        if "id" not in message or method is None:
            return self.reply(b"", 202)
        return self.work(message)

    def modern(self, message):
        if self.headers.get("MCP-Protocol-Version") != "2026-07-28":
            return self.error(message, -32022, "Unsupported protocol version", 400, {"supported": ["2026-07-28"]})
        if message["method"] == "server/discover":
            return self.result(message, {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "ttlMs": 0, "cacheScope": "private"})
        return self.work(message)

    def work(self, message):
        if message["method"] == "tools/list":
            # Two to a page.
            at = int(message["params"].get("cursor", 0))
            more = {"nextCursor": str(at + 2)} if at + 2 < len(tools) else {}
            return self.result(message, {"tools": tools[at:at + 2], **more})
        if message["method"] != "tools/call":
            return self.error(message, -32601, "Method not found")
        name = message["params"]["name"]
        arguments = message["params"].get("arguments", {})
        key = name + "/" + arguments.get("name", "")
        counts[key] = counts.get(key, 0) + 1
        run = getattr(self, "tool_" + name, None)
        return run(message, arguments, counts[key]) if run else self.error(message, -32602, "Unknown tool: " + name)

    # ----- tools -----

    def tool_fine(self, message, arguments, n):
        self.result(message, text("fine"))

    def tool_count(self, message, arguments, n):
        self.result(message, {**text(str(n)), "structuredContent": {"n": n}})

    def tool_wrong(self, message, arguments, n):
        self.result(message, {**text("?"), "structuredContent": {"n": "many"}})

    def tool_fails(self, message, arguments, n):
        self.result(message, {**text("the disk is full"), "isError": True})

    def tool_once(self, message, arguments, n):
        self.result(message, {**text("not yet"), "isError": True} if n == 1 else text("now"))

    tool_once_safe = tool_once

    def tool_rpc(self, message, arguments, n):
        self.error(message, arguments["code"], "as you wished", arguments.get("status", 200))

    def tool_status(self, message, arguments, n):
        self.reply(b"<html>", arguments["status"], "text/html")

    def tool_hang(self, message, arguments, n):
        with lock:
            lock.wait(30)
        time.sleep(30)

    def tool_reset(self, message, arguments, n):
        if n > 1:
            return self.result(message, text("alive"))
        self.close_connection = True
        return None

    tool_reset_safe = tool_reset

    def tool_garbage(self, message, arguments, n):
        self.reply(b'{"jsonrpc": "2.0", "id": ')

    def tool_huge(self, message, arguments, n):
        self.begin_stream()
        self.event({"jsonrpc": "2.0", "id": message["id"], "result": text("x" * (arguments["mb"] * 1024 * 1024))})
        self.end_stream()

    def tool_cut(self, message, arguments, n):
        name = uuid.uuid4().hex
        waiting[name] = {"jsonrpc": "2.0", "id": message["id"], "result": text("the rest")}
        self.begin_stream()
        # An event in pieces, with every end of line there is, a comment and a field nobody knows.
        self.send(f": hello\r\nid: {name}\rretry: 150\nnonsense\ndata:")
        self.send("\n\n")
        progress = {"jsonrpc": "2.0", "method": "notifications/progress",
                    "params": {"progressToken": message["params"]["_meta"]["progressToken"], "progress": 1, "message": "halfway ½"}}
        words = json.dumps(progress, ensure_ascii=False, indent=1).replace("\n", "\ndata: ")
        for piece in ("id: " + name + "\ndata: " + words[:20], words[20:41], words[41:] + "\r", "\n\r\n"):
            self.send(piece)
        # Not the end that a chunked body has.
        self.close_connection = True

    def tool_cuts(self, message, arguments, n):
        self.begin_stream()
        self.close_connection = True

    def tool_ask(self, message, arguments, n):
        self.begin_stream()
        said = [self.ask("ping"), self.ask("elicitation/create", {"message": "Who?", "requestedSchema": {"type": "object"}}),
                self.ask("sampling/createMessage", {"messages": [], "maxTokens": 1}), self.ask("roots/list")]
        short = [a.get("result", a.get("error", {}).get("code", "nothing")) for a in said]
        self.event({"jsonrpc": "2.0", "id": message["id"], "result": text(json.dumps(short))})
        # The stream stays open: who has the answer need not wait for its end.
        time.sleep(5)


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_address[1], flush=True)
sys.stdin.read()
