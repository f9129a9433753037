#!/usr/bin/env python3
"""A small HTTP server with every fault a real one has, for goya's tests.

    faulty_http.py [--port N] [--cert FILE --key FILE] [--until-eof]

Listens on 127.0.0.1 (port 0: any), prints the port as its first line and
serves until SIGTERM, SIGINT or, with --until-eof, the end of its input.
Only the standard library; raw asyncio streams, because most of the answers
below are not what an HTTP library would let one send.

What must hold: an answer depends on the request alone, except for /flaky and
/stale, which count; and every request whose head arrived is in the log before
its answer starts, so a test that has an answer also finds it in the log.

Paths (query arguments in brackets, with their defaults):

  /ok                          200 text/plain "ok"
  /json                        200 application/json
  /echo                        200, JSON of method, path, query, headers, body
  /delay        [ms=50]        200 after a while; also ?ms= on every path
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

  /_log                        JSON list of requests: n, time, method, path,
                               query, idempotency_key, connection, body_bytes
  /_clear                      empties the log and the counters
  /_stats                      JSON: requests, connections, open, peak (requests in work)
"""

import argparse
import asyncio
import email.utils
import gzip
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
            await asyncio.sleep(request.number("ms", 0) / 1000)
        if handler is None:
            send(writer, b"no such path\n", status=404)
        else:
            await handler(request, reader, writer)

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

    # ---- what tests ask about ----

    async def do__log(self, request, reader, writer):
        send_json(writer, self.log)

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
    args = parser.parse_args()

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
