#!/usr/bin/env python3
"""parrot.py: a service that says back whatever it was told, in every spelling, in its body and in its headers, for tests of secrets.

Listens on two ports of 127.0.0.1, prints both as its first line and serves until the end of its input. Only the standard library.

What must hold: a request is in the log before its answer begins; what is said back is all of the request's headers and its query.

  /NAME/WAY           an HTTP service            /NAME/WAY/v1/…      a service of AI models, OpenAI's API
  /NAME/WAY/mcp       an MCP server, 2025-11-25

NAME is for the test, to tell requests apart. WAY is what it does:
  ok      200 and the words said back            hang    the words with a length that is too long, then the end of the connection
  deny    401, the words in body and headers     slow    the words, then nothing more until the client has gone
  away    redirects to the other port            pieces  a stream of events with the words in pieces of five characters
  broken  500 and a page of HTML with the words

GET /_seen: {NAME: [{"port", "path", "headers"}]}.
"""
import base64
import json
import sys
import threading
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote, urlsplit

lock, seen, ports = threading.Lock(), {}, []


class Parrot(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def words(self):
        """What the client has said, as a list of strings: as it came, without escapes, and what base64 in it stands for."""
        said = ["%s: %s" % pair for pair in self.headers.items()] + [urlsplit(self.path).query, unquote(urlsplit(self.path).query)]
        for line in list(said):
            word = line.rsplit(" ", 1)[-1]
            try:
                said.append(base64.b64decode(word, validate=True).decode())
            except ValueError:
                pass
        return [line for line in said if line]

    def spellings(self):
        all_of_it = "\n".join(self.words())
        data = all_of_it.encode()
        return {"words": self.words(), "base64": base64.b64encode(data).decode(), "urlsafe": base64.urlsafe_b64encode(b"x" + data).decode(), "hex": data.hex(), "HEX": data.hex().upper(),
                "url": quote(all_of_it, safe=""), "every": "".join("%%%02x" % b for b in data), "html": escape(all_of_it)}

    def say(self, doc, status=200, kind="application/json", more=(), short=0):
        data = doc if isinstance(doc, bytes) else json.dumps(doc).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data) + short))
        for i, line in enumerate(self.words()):
            self.send_header("X-Said-%d" % i, line)
        self.send_header("WWW-Authenticate", 'Bearer realm="%s"' % self.headers.get("Authorization", "nobody"))
        for name, value in more:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    def say_events(self, events, end=True):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("X-Said", " ".join(self.words()))
        self.end_headers()
        self.close_connection = True
        for event in events:
            # In two writes, so that what is in an event comes in two pieces as well.
            data = ("data: %s\n\n" % (event if isinstance(event, str) else json.dumps(event))).encode()
            for part in (data[: len(data) // 2], data[len(data) // 2 :]):
                self.wfile.write(part)
                self.wfile.flush()
        if not end:
            self.wait_for_client()

    def wait_for_client(self):
        self.close_connection = True
        self.connection.settimeout(30)
        try:
            self.connection.recv(1)
        except OSError:
            pass

    # ---- what is not this kind of service's own ----

    def common(self, way, doc):
        if way == "deny":
            self.say({"error": {"message": "who is " + " ".join(self.words()), "said": self.spellings()}}, 401)
        elif way == "broken":
            self.say(("<html><p>%s</p><p>%s</p></html>" % (escape(" ".join(self.words())), " ".join(self.words()))).encode(), 500, "text/html")
        elif way == "away":
            other = [p for p in ports if p != self.server.server_address[1]][0]
            self.say(doc, 307, more=[("Location", "http://127.0.0.1:%d%s" % (other, urlsplit(self.path).path.replace("/away", "/ok")))])
        elif way == "hang":
            self.say(doc, short=1000)
            self.close_connection = True
        elif way == "slow":
            self.say(doc, short=1000)
            self.wait_for_client()
        else:
            return False
        return True

    # ---- three kinds of services ----

    def http(self, way):
        if way == "pieces":
            return self.say_events([self.spellings(), *self.words()])
        return self.common(way, self.spellings()) or self.say(self.spellings())

    def model(self, way, body):
        text = "the key is %s indeed" % " ".join(self.words())
        call = {"id": "c1", "type": "function", "function": {"name": "tell", "arguments": json.dumps({"all": self.words()})}}
        choice = {"index": 0, "message": {"role": "assistant", "content": text, "reasoning": text}, "finish_reason": "stop"}
        doc = {"model": text, "choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 7}}
        if body.get("tools") and way == "ok" and not any(m["role"] == "tool" for m in body["messages"]):
            choice["message"]["tool_calls"] = [call]
        if not body.get("stream") or way in ("deny", "broken", "away"):
            return self.common(way, doc) or self.say(doc)
        events = [{"choices": [{"index": 0, "delta": {"content": text[i : i + 5], "reasoning": text[i : i + 5]}}]} for i in range(0, len(text), 5)]
        if body.get("tools"):
            arguments = call["function"]["arguments"]
            head = dict(call, index=0, function={"name": "tell", "arguments": ""})
            events.append({"choices": [{"index": 0, "delta": {"tool_calls": [head]}}]})
            events += [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": arguments[i : i + 5]}}]}}]} for i in range(0, len(arguments), 5)]
        if way in ("hang", "slow"):
            return self.say_events(events, end=way == "hang")
        return self.say_events(events + [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}, "[DONE]"])

    def mcp(self, way, message):
        method, text = message.get("method"), " ".join(self.words())
        answer = {"jsonrpc": "2.0", "id": message.get("id")}
        if method is None or "id" not in message:
            return self.say(b"", 202)
        if method == "initialize" and way not in ("deny", "broken", "away"):
            result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": text, "version": text}, "instructions": text}
            return self.say(dict(answer, result=result), more=[("Mcp-Session-Id", "s" + base64.urlsafe_b64encode(text.encode()).decode())])
        if method == "tools/list" and way == "ok":
            tool = {"name": "tell", "description": text, "inputSchema": {"type": "object", "description": text}, "annotations": {"title": text}}
            return self.say(dict(answer, result={"tools": [tool]}))
        if way == "fault":
            return self.say(dict(answer, error={"code": -32602, "message": text, "data": self.spellings()}))
        answer["result"] = {"content": [{"type": "text", "text": text}], "structuredContent": self.spellings()}
        if way == "pieces":
            token = message["params"].get("_meta", {}).get("progressToken")
            progress = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": 1, "message": text}}
            return self.say_events([progress, answer])
        return self.common(way, answer) or self.say(answer)

    def do_POST(self):
        path = urlsplit(self.path).path
        name, way, *rest = path[1:].split("/")
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with lock:
            seen.setdefault(name, []).append({"port": self.server.server_address[1], "path": self.path, "headers": dict(self.headers)})
        if rest[:1] == ["v1"]:
            self.model(way, json.loads(data))
        elif rest == ["mcp"]:
            self.mcp(way, json.loads(data))
        else:
            self.http(way)

    def do_DELETE(self):
        self.say(b"", 202)

    def do_GET(self):
        if self.path != "/_seen":
            return self.do_POST()
        with lock:
            data = json.dumps(seen).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


ThreadingHTTPServer.request_queue_size = 100
servers = [ThreadingHTTPServer(("127.0.0.1", 0), Parrot) for _ in range(2)]
for server in servers:
    ports.append(server.server_address[1])
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
print(*ports, flush=True)
sys.stdin.read()
