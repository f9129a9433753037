#!/usr/bin/env python3
"""scripted_model.py [PORT]: a service of AI models that does what each path says, for what a real one does not do when asked to.

Prints its port. A model's endpoint is http://127.0.0.1:PORT/SCRIPT[/ARGUMENT]/v1:
  echo          answers with the last message; usage as OpenAI tells it (one token for each word)
  usage/SHAPE   the same with usage told as SHAPE: input_output, gemini, top, timings, none
  tools         wants two tools to be called
  words/N       N words; a stream has one piece for each
  crumbs        a stream in pieces of one byte: a byte order mark, lines that end in each of the three ways, data over several lines
  gate/N        a stream: N words, then nothing until GET /open, then one more
  cut/N         a stream that breaks after N words
  unended/N     a stream that ends well, but without a finish reason
  failing/N     a stream with an error in it after N words
  limited/N     429 with Retry-After: 1 for the first N requests, then echo
  down          503
  repair        JSON that fits no schema; once it is told so, {"city": "Paris", "people": 2}
  stubborn      JSON that fits no schema, always
  fenced        {"city": "Paris", "people": 2} in a Markdown fence
  vectors       embeddings, told out of order
  pictures[/KB] one image as base64, of as many KB, one as a url
  leak          repeats the Authorization header in its answer
  page          HTML with status 200
GET /seen/SCRIPT…: the bodies and headers of all requests to it so far, as JSON; GET /open: opens the gate.
"""
import base64
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

seen, lock, gate = {}, threading.Lock(), threading.Event()
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n not really").decode()


def said(body):
    content = (body.get("messages") or [{}])[-1].get("content", "")
    return content if isinstance(content, str) else json.dumps(content)


def usage(shape, i, o):
    return {
        "openai": {"usage": {"prompt_tokens": i, "completion_tokens": o}},
        "input_output": {"usage": {"input_tokens": i, "output_tokens": o}},
        "gemini": {"usageMetadata": {"promptTokenCount": i, "candidatesTokenCount": o - 1, "thoughtsTokenCount": 1}},
        "top": {"prompt_tokens": i, "completion_tokens": o},
        "timings": {"timings": {"cache_n": i - 1, "prompt_n": 1, "predicted_n": o}},
        "none": {},
    }[shape]


class Service(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def reply(self, doc, status=200, headers=(), kind="application/json"):
        data = doc if isinstance(doc, bytes) else json.dumps(doc).encode()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        if self.path == "/open":
            gate.set()
            return self.reply({})
        with lock:
            return self.reply(seen.get(self.path[len("/seen/"):], []))

    # ---- chats ----

    def message(self, body, shape="openai", text=None, calls=None, more=None):
        text = said(body) if text is None else text
        message = {"role": "assistant", "content": text}
        if calls:
            message = {"role": "assistant", "content": None, "tool_calls": calls}
        doc = {"model": "scripted-1", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}]}
        doc.update(usage(shape, len(json.dumps(body.get("messages")).split()), max(len(text.split()), 1)))
        doc.update(more or {})
        if body.get("stream"):
            return self.stream_words(text.split(" "), doc, calls)
        return self.reply(doc)

    def begin(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def chunk(self, text):
        data = text.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def event(self, doc):
        self.chunk("data: %s\n\n" % json.dumps(doc))

    def word(self, word):
        self.event({"model": "scripted-1", "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]})

    def end(self, doc=None, finish="stop"):
        if finish:
            self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
        if doc is not None:
            self.event(dict({k: v for k, v in doc.items() if k not in ("choices", "model")}, choices=[]))
            self.chunk("data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def stream_words(self, words, doc, calls=None):
        self.begin()
        self.chunk(": a comment\r\n\r\nevent: message\r\n")
        for i, call in enumerate(calls or []):
            function = call["function"]
            first = {"index": i, "id": call["id"], "type": "function", "function": {"name": function["name"], "arguments": ""}}
            self.event({"choices": [{"index": 0, "delta": {"tool_calls": [first]}}]})
            for piece in (function["arguments"][:5], function["arguments"][5:]):
                self.event({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": i, "function": {"arguments": piece}}]}}]})
        if not calls:
            for i, word in enumerate(words):
                self.word(word if i == 0 else " " + word)
        self.end(doc, "tool_calls" if calls else "stop")

    def break_off(self):
        self.wfile.flush()
        self.close_connection = True
        self.connection.close()

    def do_POST(self):
        path = self.path[1:].split("/v1/")[0]
        script, _, argument = path.partition("/")
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        with lock:
            seen.setdefault(path, []).append({"body": body, "headers": dict(self.headers), "path": self.path})
            count = len(seen[path])
        getattr(self, "do_" + script, self.nothing)(body, argument, count)

    def nothing(self, body, argument, count):
        self.reply({"error": {"message": "no such script"}}, 404)

    def do_echo(self, body, argument, count):
        self.message(body)

    def do_usage(self, body, argument, count):
        self.message(body, argument)

    def do_tools(self, body, argument, count):
        self.message(body, text="x", calls=[
            {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}},
            {"id": "call_2", "type": "function", "function": {"name": "broken", "arguments": '{"city": '}}])

    def do_words(self, body, argument, count):
        self.message(body, text=" ".join("w%d" % i for i in range(int(argument))))

    def do_crumbs(self, body, argument, count):
        self.begin()
        text = "\ufeffid: 1\r\nretry: 10\r\ndata: {\"choices\": [{\"index\": 0,\r\ndata:\"delta\": {\"content\": \"one \"}}]}\r\n\r\n" \
            "data: {\"choices\": [{\"index\": 0, \"delta\": {\"content\": \"two \"}}]}\r\r" \
            "data: {\"choices\": [{\"index\": 0, \"delta\": {\"content\": \"three\"}, \"finish_reason\": \"stop\"}]}\n\n: over\n\ndata: [DONE]\r\n\r\n"
        for byte in text.encode():
            self.wfile.write(b"1\r\n%c\r\n" % byte)
        self.end(finish=None)

    def do_gate(self, body, argument, count):
        self.begin()
        for i in range(int(argument)):
            self.word("w%d " % i)
        gate.wait(60)
        self.word("end")
        self.end(usage("openai", 3, int(argument) + 1))

    def do_cut(self, body, argument, count):
        self.begin()
        for i in range(int(argument)):
            self.word("w%d " % i)
        self.break_off()

    def do_unended(self, body, argument, count):
        self.begin()
        for i in range(int(argument)):
            self.word("w%d " % i)
        self.end(finish=None)

    def do_failing(self, body, argument, count):
        self.begin()
        for i in range(int(argument)):
            self.word("w%d " % i)
        self.event({"error": {"message": "out of memory", "code": 500}})
        self.end(finish=None)

    def do_limited(self, body, argument, count):
        if count <= int(argument):
            return self.reply({"error": {"message": "slow down"}}, 429, [("Retry-After", "1")])
        return self.message(body)

    def do_down(self, body, argument, count):
        self.reply({"error": {"message": "no room"}}, 503)

    def do_repair(self, body, argument, count):
        told = "does not fit" in said(body)
        self.message(body, text='{"city": "Paris", "people": 2}' if told else '{"city": 7}')

    def do_stubborn(self, body, argument, count):
        self.message(body, text='{"city": 7}')

    def do_fenced(self, body, argument, count):
        self.message(body, text='```json\n{"city": "Paris", "people": 2}\n```\n')

    def do_vectors(self, body, argument, count):
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        data = [{"index": i, "embedding": [float(len(t)), 0.5, -1.0]} for i, t in enumerate(texts)]
        self.reply({"model": "scripted-1", "data": data[::-1], "usage": {"prompt_tokens": len(texts), "total_tokens": len(texts)}})

    def do_pictures(self, body, argument, count):
        self.reply({"created": 1, "data": [{"b64_json": base64.b64encode(bytes(1024 * int(argument))).decode() if argument else PNG}, {"url": "https://example.com/1.png"}]})

    def do_leak(self, body, argument, count):
        self.message(body, text="the key is %s indeed" % self.headers.get("Authorization"))

    def do_page(self, body, argument, count):
        self.reply(b"<html>Welcome</html>", kind="text/html")


def main():
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0), Service)
    server.daemon_threads = True
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
