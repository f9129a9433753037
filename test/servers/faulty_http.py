#!/usr/bin/env python3
"""A small HTTP server with every fault a real one has, for goya's tests.

    faulty_http.py [--port N] [--cert FILE --key FILE] [--until-eof]

Listens on 127.0.0.1 (port 0: any), prints the port as its first line and
serves until SIGTERM, SIGINT or, with --until-eof, the end of its input.
Only the standard library; raw asyncio streams, because most of the answers
below are not what an HTTP library would let one send.

What must hold: an answer depends on the request alone, except for /flaky and
/stale, which count, and for what /_release ends; and every request whose head
arrived is in the log before its answer starts, so a test that has an answer
also finds it in the log.

Paths (query arguments in brackets, with their defaults):

  /ok                          200 text/plain "ok"
  /json                        200 application/json
  /echo                        200, JSON of method, path, query, headers, body
  /delay        [ms=50]        200 after a while; also ?ms= on every path; 10,000 and
                               more end earlier, at /_release
  /hang                        reads the request and never answers
  /hangbody                    head and some body, then nothing
  /refuse                      JSON {"port": a port nobody listens on}
  /resethead                   RST before any answer
  /reset                       RST in the middle of the body
  /close                       closes without an answer
  /short                       Content-Length larger than the body
  /long                        body larger than its Content-Length
  /badlength                   a Content-Length that is no number
  /badchunk                    chunked coding with a wrong size line
  /chunked      [n=3]          a proper chunked answer
  /garbage                     not HTTP at all
  /stale                       answers a connection's first request, closes at the second
  /big          [mb=100]       a body with Content-Length
  /bigchunked   [mb=100]       the same without
  /gzip                        {"gzip": true}, compressed
  /gzipbomb     [mb=100]       zeros, compressed to a thousandth
  /badgzip                     Content-Encoding: gzip, a body that is not
  /nul                         JSON text with NUL bytes
  /latin1                      text that is not UTF-8
  /headers      [kb=1024]      so much of headers
  /nulheader                   a NUL in a header
  /redirect     [to=/ok] [status=302]
  /status/<n>   [retry_after=] that status; retry_after may be seconds, or
                               "date+5" for the HTTP date in five seconds
  /flaky        [key=] [fail=1] [status=503] [retry_after=]
                               fails the first so many times for each key
  /drip         [n=20] [ms=100]  one byte at a time
  /drop                        reads the whole request, then closes without a word
  /longheader   [kb=100]       one header that large
  /foldedheader                a header over two lines, one without a colon, one without a name
  /twolengths                  two Content-Lengths that differ
  /image                       a few bytes of image/png

  /links        [n=3] [size=2] [style=]   JSON arrays in n pages with Link: rel=next; style odd: unquoted, several relations, other parameters first
  /cursors      [n=3]          {"items": [...], "next": …} by ?cursor= or, in a POST, "cursor" of the body
  /nexturls     [n=3]          the same with a whole url as next
  /endless                     a page that always names another
  /jobs         [n=2] [key=] [status=202] [end=done]   202 with Location of a job that is done at the n-th look; POST
  /job          [n=] [key=] [retry_after=] [end=]      such a look
  /sse          [n=3] [ms=0] [then=]   server-sent events, one a piece; then=cut: breaks off,
                               then=open: no empty line at the end
  /ndjson       [n=3] [ms=0]   lines of JSON
  /sigv4                       verifies an AWS signature; 200 or 403 with why
  /needs                       ?header=NAME&value=VALUE: 200 if the request has it, else 401; echoes what it got
  /callback                    keeps the token for /_tokens and answers 202

  /_log                        JSON list of requests: n, time, method, path,
                               query, idempotency_key, connection, body_bytes
  /_release     [of=]          from now on ?ms= of so many is no delay, for those
                               under way either
  /_clear                      empties the log and the counters
  /_stats                      JSON: requests, connections, open, peak (requests in work)
"""

import argparse
import asyncio
import email.utils
import gzip
import hashlib
import hmac
import json
import os
import signal
import socket
import ssl
import struct
import sys
import time
import urllib.parse
import zlib

MAX_HEAD = 256 * 1024
REASONS = {200: "OK", 302: "Found", 404: "Not Found", 429: "Too Many Requests",
           500: "Internal Server Error", 503: "Service Unavailable"}


class Request:
    """One request, its head parsed and its body read."""

    def __init__(self, method, target, headers, body, connection, nth):
        self.method = method
        self.target = target
        self.path, _, query = target.partition("?")
        self.query = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        self.headers = headers
        self.body = body
        self.connection = connection
        self.nth = nth          # of its connection, from 1

    def number(self, name, default):
        try:
            return int(self.query.get(name, default))
        except ValueError:
            return default


class Drop(Exception):
    """The connection ends here."""


class Server:
    def __init__(self):
        self.log = []
        self.flaky = {}
        self.tokens = []
        self.released = {}
        self.connections = 0
        self.open = 0
        self.working = 0
        self.peak = 0

    # ---- one connection ----

    async def serve(self, reader, writer):
        self.connections += 1
        self.open += 1
        connection, nth = self.connections, 0
        try:
            while True:
                nth += 1
                request = await self.read_request(reader, writer, connection, nth)
                if request is None:
                    break
                self.working += 1
                self.peak = max(self.peak, self.working)
                try:
                    await self.answer(request, reader, writer)
                    await writer.drain()
                finally:
                    self.working -= 1
                if request.headers.get("connection", "").lower() == "close":
                    break
        except (Drop, ConnectionError, asyncio.IncompleteReadError,
                asyncio.LimitOverrunError, ssl.SSLError, ValueError):
            pass
        finally:
            self.open -= 1
            writer.close()

    async def read_request(self, reader, writer, connection, nth):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
        lines = head.decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ", 2)
        headers = {}
        for line in lines[1:]:
            if line:
                name, _, value = line.partition(":")
                headers[name.strip().lower()] = value.strip()
        writer.is_head = method == "HEAD"
        length = int(headers.get("content-length", 0))
        body = await reader.readexactly(length) if length else b""
        request = Request(method, target, headers, body, connection, nth)
        if not request.path.startswith("/_"):
            self.log.append({
                "n": len(self.log) + 1, "time": time.time(), "method": method,
                "path": request.path, "query": request.query,
                "idempotency_key": headers.get("idempotency-key"),
                "connection": connection, "body_bytes": length})
        return request

    # ---- answers ----

    async def answer(self, request, reader, writer):
        parts = request.path.strip("/").split("/")
        handler = getattr(self, "do_" + parts[0].lower(), None)
        if "ms" in request.query and parts[0] != "drip":
            await self.pause(request.number("ms", 0))
        if handler is None:
            send(writer, b"no such path\n", status=404)
        else:
            await handler(request, reader, writer)

    async def pause(self, ms):
        if ms < 10000:
            await asyncio.sleep(ms / 1000)
            return
        try:
            await asyncio.wait_for(self.until_released(ms).wait(), ms / 1000)
        except asyncio.TimeoutError:
            pass

    def until_released(self, ms):
        return self.released.setdefault(int(ms), asyncio.Event())

    async def do_ok(self, request, reader, writer):
        send(writer, b"ok\n")

    async def do_json(self, request, reader, writer):
        send_json(writer, {"ok": True, "text": "gr\u00fc\u00df", "list": [1, 2.5, None]})

    async def do_echo(self, request, reader, writer):
        send_json(writer, {"method": request.method, "path": request.path,
                           "query": request.query, "headers": request.headers,
                           "body": request.body.decode("utf-8", "replace")})

    async def do_delay(self, request, reader, writer):
        if "ms" not in request.query:
            await asyncio.sleep(0.05)
        send(writer, b"ok\n")

    async def do_hang(self, request, reader, writer):
        await reader.read()     # until the client goes away
        raise Drop

    async def do_hangbody(self, request, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nsome")
        await self.do_hang(request, reader, writer)

    async def do_refuse(self, request, reader, writer):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        send_json(writer, {"port": port})

    async def do_resethead(self, request, reader, writer):
        reset(writer)

    async def do_reset(self, request, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 5000)
        await writer.drain()
        await asyncio.sleep(0.02)
        reset(writer)

    async def do_close(self, request, reader, writer):
        raise Drop

    async def do_short(self, request, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nshort")
        raise Drop

    async def do_long(self, request, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlonger than four")
        raise Drop

    async def do_badlength(self, request, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nx")
        raise Drop

    async def do_badchunk(self, request, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nwrong\r\n")
        raise Drop

    async def do_chunked(self, request, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for i in range(request.number("n", 3)):
            chunk = b"chunk %d\n" % i
            writer.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    async def do_garbage(self, request, reader, writer):
        writer.write(b"\x00\xff\xfenonsense\r\n\r\nmore nonsense\r\n" * 20)
        raise Drop

    async def do_stale(self, request, reader, writer):
        if request.nth > 1:
            raise Drop
        send(writer, b"ok\n")

    async def do_big(self, request, reader, writer):
        mb = request.number("mb", 100)
        writer.write(head(200, [("Content-Length", str(mb << 20)),
                                ("Content-Type", "application/octet-stream")]))
        for _ in range(mb * 16):
            writer.write(b"x" * 65536)
            await writer.drain()

    async def do_bigchunked(self, request, reader, writer):
        writer.write(head(200, [("Transfer-Encoding", "chunked")]))
        for _ in range(request.number("mb", 100) * 16):
            writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    async def do_gzip(self, request, reader, writer):
        send(writer, gzip.compress(b'{"gzip": true}'),
             [("Content-Encoding", "gzip"), ("Content-Type", "application/json")])

    async def do_gzipbomb(self, request, reader, writer):
        packer = zlib.compressobj(9, zlib.DEFLATED, 31)
        body = b"".join(packer.compress(bytes(1 << 20))
                        for _ in range(request.number("mb", 100))) + packer.flush()
        send(writer, body, [("Content-Encoding", "gzip")])

    async def do_badgzip(self, request, reader, writer):
        send(writer, b"this is not gzip at all", [("Content-Encoding", "gzip")])

    async def do_nul(self, request, reader, writer):
        send(writer, b'{"a": "x\x00y", "b": "\\u0000"}', [("Content-Type", "application/json")])

    async def do_latin1(self, request, reader, writer):
        send(writer, '{"caf\u00e9": "\u00fc"}'.encode("latin-1"),
             [("Content-Type", "application/json; charset=iso-8859-1"),
              ("X-Latin", "caf\u00e9")])

    async def do_headers(self, request, reader, writer):
        n = request.number("kb", 1024)
        send(writer, b"ok\n", [("X-Filler-%d" % i, "f" * 1000) for i in range(n)])

    async def do_nulheader(self, request, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nX-Nul: a\x00b\r\nContent-Length: 2\r\n\r\nok")

    async def do_redirect(self, request, reader, writer):
        send(writer, b"moved\n", [("Location", request.query.get("to", "/ok"))],
             status=request.number("status", 302))

    async def do_status(self, request, reader, writer):
        try:
            status = int(request.path.strip("/").split("/")[1])
        except (IndexError, ValueError):
            status = 400
        send(writer, b"" if status in (204, 304) else b"status %d\n" % status,
             retry_after(request), status=status)

    async def do_flaky(self, request, reader, writer):
        key = request.query.get("key", "")
        count = self.flaky[key] = self.flaky.get(key, 0) + 1
        if count <= request.number("fail", 1):
            send(writer, b"not yet\n", retry_after(request),
                 status=request.number("status", 503))
        else:
            send_json(writer, {"attempt": count})

    async def do_drip(self, request, reader, writer):
        n = request.number("n", 20)
        writer.write(head(200, [("Content-Length", str(n))]))
        for _ in range(n):
            writer.write(b".")
            await writer.drain()
            await asyncio.sleep(request.number("ms", 100) / 1000)

    async def do_drop(self, request, reader, writer):
        raise Drop              # the body has been read

    async def do_longheader(self, request, reader, writer):
        send(writer, b"ok\n", [("X-Long", "f" * 1024 * request.number("kb", 100))])

    async def do_foldedheader(self, request, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nX-Folded: one\r\n two\r\nno colon\r\n: no name\r\nContent-Length: 2\r\n\r\nok")

    async def do_twolengths(self, request, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 20\r\n\r\nok")
        raise Drop

    async def do_image(self, request, reader, writer):
        send(writer, b"\x89PNG\r\n\x1a\n" + bytes(range(256)), [("Content-Type", "image/png")])

    async def do_links(self, request, reader, writer):
        n, page, size = request.number("n", 3), request.number("page", 1), request.number("size", 2)
        headers = []
        if page < n:
            following = "/links?" + urllib.parse.urlencode({**request.query, "page": page + 1})
            link = '<%s>; rel="next", </links?page=1>; rel="first"' % following
            if request.query.get("style") == "odd":
                link = '</a,b;rel=next>; title="x; rel=next, y"; rel=prev , <%s>;title="a,b";REL = "last  Next"' % following
            headers.append(("Link", link))
        send(writer, json.dumps([(page - 1) * size + i for i in range(size)]).encode(), headers + [("Content-Type", "application/json")])

    async def do_cursors(self, request, reader, writer):
        body = json.loads(request.body) if request.body else {}
        page = int(body.get("cursor") or request.query.get("cursor") or 1)
        send_json(writer, {"items": [page * 10, page * 10 + 1], "next": str(page + 1) if page < request.number("n", 3) else None})

    async def do_nexturls(self, request, reader, writer):
        page = request.number("page", 1)
        send_json(writer, {"items": [page], "next": "?n=%d&page=%d" % (request.number("n", 3), page + 1) if page < request.number("n", 3) else ""})

    async def do_endless(self, request, reader, writer):
        send(writer, b'["%s"]' % (b"x" * request.number("bytes", 10)), [("Link", '</endless?%s>; rel=next' % urllib.parse.urlencode(request.query)),
                                                 ("Content-Type", "application/json")])

    async def do_jobs(self, request, reader, writer):
        where = "/job?" + urllib.parse.urlencode(request.query)
        headers = [] if "silent" in request.query else [("Location", where)]
        send(writer, json.dumps({"state": "queued", "where": where, "method": request.method}).encode(), headers + [("Content-Type", "application/json")],
             status=request.number("status", 202))

    async def do_job(self, request, reader, writer):
        key = request.query.get("key", "")
        count = self.flaky[key] = self.flaky.get(key, 0) + 1
        if "busy" in request.query and count == 1:
            send(writer, b"busy\n", [("Retry-After", "0")], status=503)
        elif count < request.number("n", 2):
            send(writer, b'{"state": "running"}', retry_after(request) + [("Content-Type", "application/json")])
        else:
            send_json(writer, {"state": request.query.get("end", "done"), "looks": count, "result": {"value": 42},
                               "method": request.method, "body": request.body.decode("latin-1"), "key": request.headers.get("idempotency-key")})

    async def do_sse(self, request, reader, writer):
        writer.write(head(200, [("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked")]))
        for i in range(request.number("n", 3)):
            # In two pieces, in the middle of a character.
            event = ('id: %d\nevent: token\ndata: {"text": "gr\u00fc\u00df %d"}\n\n' % (i, i)).encode()
            for piece in (event[:35], event[35:]):
                writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                await writer.drain()
                await asyncio.sleep(request.number("ms", 0) / 2000)
        if request.query.get("then") == "cut":
            raise Drop
        end = b": a comment\ndata: two\ndata: lines\n\ndata: [DONE]" + (b"" if request.query.get("then") == "open" else b"\n\n")
        writer.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(end), end))

    async def do_ndjson(self, request, reader, writer):
        writer.write(head(200, [("Content-Type", "application/x-ndjson"), ("Transfer-Encoding", "chunked")]))
        for i in range(request.number("n", 3)):
            line = b'{"i": %d}\n' % i
            writer.write(b"%x\r\n%s\r\n" % (len(line), line))
            await writer.drain()
            await asyncio.sleep(request.number("ms", 0) / 1000)
        writer.write(b"0\r\n\r\n")

    async def do_sigv4(self, request, reader, writer):
        why = sigv4_problem(request.method, request.target, request.headers, request.body, "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
        send(writer, (why or "signed").encode() + b"\n", status=403 if why else 200)

    async def do_needs(self, request, reader, writer):
        name, value = request.query.get("header", "").lower(), request.query.get("value")
        got = request.headers.get(name) if name else request.query.get(request.query.get("param", ""))
        send(writer, json.dumps({"got": got, "path": request.path, "headers": request.headers, "query": request.query, "connection": request.connection}).encode(),
             [("Content-Type", "application/json"), ("X-Got", got or "-")], status=200 if got is not None and got == value or value is None else 401)

    async def do_callback(self, request, reader, writer):
        body = json.loads(request.body) if request.body else {}
        self.tokens.append(request.headers.get("goya-callback-token") or request.headers.get("x-token") or body.get("token"))
        send(writer, b'{"accepted": true}', [("Content-Type", "application/json")], status=request.number("status", 202))

    # ---- what tests ask about ----

    async def do__tokens(self, request, reader, writer):
        send_json(writer, self.tokens)

    async def do__log(self, request, reader, writer):
        send_json(writer, self.log)

    async def do__release(self, request, reader, writer):
        self.until_released(request.number("of", 0)).set()
        send_json(writer, {})

    async def do__clear(self, request, reader, writer):
        self.log.clear()
        self.flaky.clear()
        self.peak = self.working
        send_json(writer, {})

    async def do__stats(self, request, reader, writer):
        send_json(writer, {"requests": len(self.log), "connections": self.connections,
                           "open": self.open, "peak": self.peak})


def head(status, headers):
    lines = ["HTTP/1.1 %d %s" % (status, REASONS.get(status, "Status"))]
    lines += ["%s: %s" % header for header in headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def send(writer, body, headers=(), status=200):
    headers = list(headers)
    if not any(name == "Content-Type" for name, _ in headers):
        headers.append(("Content-Type", "text/plain"))
    if status not in (204, 304):
        headers.append(("Content-Length", str(len(body))))
    writer.write(head(status, headers) + (b"" if writer.is_head else body))


def send_json(writer, value):
    send(writer, json.dumps(value, ensure_ascii=False).encode("utf-8"),
         [("Content-Type", "application/json")])


def retry_after(request):
    value = request.query.get("retry_after")
    if value is None:
        return []
    if value.startswith(("date+", "date ")):    # "+" is a blank in a query
        value = email.utils.formatdate(time.time() + int(value[5:]), usegmt=True)
    return [("Retry-After", value)]


def sigv4_problem(method, target, headers, body, access_key, secret_key):
    """Why the signature is wrong, or None; AWS Signature Version 4 as AWS documents it.  Run with --test-sigv4 it verifies AWS's own example."""
    fields = dict(f.strip().split("=", 1) for f in headers.get("authorization", "").partition(" ")[2].split(",") if "=" in f)
    if not headers.get("authorization", "").startswith("AWS4-HMAC-SHA256 "):
        return "no AWS4-HMAC-SHA256"
    key, date, region, service, last = fields["Credential"].split("/")
    if key != access_key or last != "aws4_request" or not headers.get("x-amz-date", "").startswith(date):
        return "bad credential scope"
    signed = fields["SignedHeaders"].split(";")
    if "host" not in signed or "x-amz-date" not in signed or signed != sorted(signed):
        return "host and x-amz-date are not signed"
    for name in headers:
        if name.startswith("x-amz-") and name not in signed:
            return name + " is not signed"
    path, _, query = target.partition("?")
    quote = lambda text: urllib.parse.quote(urllib.parse.unquote(text), safe="-_.~")
    # Every service but S3 encodes the path, as it stands in the request, once more.
    path = path if service == "s3" else urllib.parse.quote(path, safe="/-_.~")
    pairs = sorted((quote(p.partition("=")[0]), quote(p.partition("=")[2])) for p in query.split("&") if p)
    payload = hashlib.sha256(body).hexdigest()
    if service == "s3" and headers.get("x-amz-content-sha256") not in (payload, "UNSIGNED-PAYLOAD"):
        return "bad x-amz-content-sha256"
    canonical = "\n".join([method, path or "/", "&".join("%s=%s" % p for p in pairs)] +
                          ["%s:%s" % (name, " ".join(headers.get(name, "").split())) for name in signed] +
                          ["", ";".join(signed), headers.get("x-amz-content-sha256", payload) if service == "s3" else payload])
    text = "\n".join(["AWS4-HMAC-SHA256", headers["x-amz-date"], "/".join([date, region, service, last]), hashlib.sha256(canonical.encode()).hexdigest()])
    sign = lambda k, t: hmac.new(k, t.encode(), hashlib.sha256).digest()
    k = ("AWS4" + secret_key).encode()
    for part in (date, region, service, last):
        k = sign(k, part)
    if not hmac.compare_digest(sign(k, text).hex(), fields["Signature"]):
        return "the signature does not match; expected that of\n" + canonical
    return None


def test_sigv4():
    """AWS's documented example: GET of IAM ListUsers, and get-vanilla-query-order-key-case of its test suite."""
    key = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
    examples = [
        ("/?Action=ListUsers&Version=2010-05-08",
         {"content-type": "application/x-www-form-urlencoded; charset=utf-8", "host": "iam.amazonaws.com", "x-amz-date": "20150830T123600Z"},
         "us-east-1/iam", "content-type;host;x-amz-date", "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"),
        ("/?Param2=value2&Param1=value1", {"host": "example.amazonaws.com", "x-amz-date": "20150830T123600Z"},
         "us-east-1/service", "host;x-amz-date", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500")]
    for target, headers, scope, signed, signature in examples:
        headers["authorization"] = ("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/%s/aws4_request, SignedHeaders=%s, Signature=%s" % (scope, signed, signature))
        problem = sigv4_problem("GET", target, headers, b"", "AKIDEXAMPLE", key)
        print("ok" if problem is None else "not ok: " + problem)
        headers["authorization"] = headers["authorization"][:-1] + ("0" if signature[-1] != "0" else "1")
        print("ok" if sigv4_problem("GET", target, headers, b"", "AKIDEXAMPLE", key) else "not ok: a wrong signature is taken")


def reset(writer):
    """Ends the connection with RST instead of FIN."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    raise Drop


async def main():
    parser = argparse.ArgumentParser(description="A faulty HTTP server for tests.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--cert", help="serve https with this certificate")
    parser.add_argument("--key")
    parser.add_argument("--until-eof", action="store_true",
                        help="stop at the end of standard input")
    parser.add_argument("--test-sigv4", action="store_true", help="verify the verifier of AWS signatures with AWS's examples")
    args = parser.parse_args()

    if args.test_sigv4:
        test_sigv4()
        return
    tls = None
    if args.cert:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(args.cert, args.key)
    server = await asyncio.start_server(Server().serve, "127.0.0.1", args.port,
                                        limit=MAX_HEAD, backlog=4096, ssl=tls)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    if args.until_eof:
        loop.add_reader(sys.stdin.fileno(),
                        lambda: os.read(sys.stdin.fileno(), 4096) or stop.set())
    print(server.sockets[0].getsockname()[1], flush=True)
    await stop.wait()
    os._exit(0)                 # whoever still hangs, hangs on purpose


if __name__ == "__main__":
    try:
        import resource
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ImportError, ValueError, OSError):
        pass
    asyncio.run(main())
