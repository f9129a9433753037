#!/usr/bin/env python3
"""Every address of the world, as listeners: for tests of which of them are called.

Runs in a network namespace of its own, in which all addresses lead to the loopback interface (test/tap/041_egress.pl makes it).  Listens on the
given ports at every address and writes one JSON line to the log for each connection and each request: {"what": "connect" | "request", "address",
"port", "path", "headers"}.  Answers 200 with {"address", "port", "path", "headers"}, or what the path asks for:

  /redirect?to=URL[&status=302]   a redirect
  /slow?ms=N                      after a while

Also a resolver on UDP port 53 of 127.0.0.1, for the names given as name=address[,address…], where an address may be a name (CNAME) and "|" begins the
answers to the next question (the last stay).  All other names do not exist.

Prints "ready".  Ends with standard input.
"""

import asyncio
import ipaddress
import json
import os
import socket
import struct
import sys
import urllib.parse

LOG = open(sys.argv[1], "a", buffering=1)
PORTS = [int(p) for p in sys.argv[2].split(",")]
NAMES = {}
ASKED = {}
for argument in sys.argv[3:]:
    name, _, answers = argument.partition("=")
    NAMES[name.lower()] = [a.split(",") for a in answers.split("|")]


def note(what, address, **more):
    LOG.write(json.dumps({"what": what, "address": address[0].split("%")[0], "port": address[1], **more}) + "\n")


async def serve(reader, writer):
    here = writer.get_extra_info("sockname")
    note("connect", here)
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            line, *lines = head.split("\r\n")
            method, target, _ = (line + "  ").split(" ", 2)
            headers = {}
            for header in lines:
                key, colon, value = header.partition(":")
                if colon:
                    headers[key.strip().lower()] = value.strip()
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            note("request", here, method=method, path=target, headers=headers, body=body.decode("latin-1"))
            path, _, query = target.partition("?")
            query = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
            status, extra = 200, ""
            if path == "/redirect":
                status, extra = int(query.get("status", 302)), "Location: %s\r\n" % query.get("to", "/")
            elif path == "/slow":
                await asyncio.sleep(int(query.get("ms", 100)) / 1000)
            answer = json.dumps({"address": here[0], "port": here[1], "path": target, "method": method, "headers": headers, "body": body.decode("latin-1")}).encode()
            writer.write(("HTTP/1.1 %d Status\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n" % (status, len(answer), extra)).encode("latin-1") + answer)
            await writer.drain()
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, ValueError):
        pass
    finally:
        writer.close()


def encode(name):
    return b"".join(bytes([len(p)]) + p.encode() for p in name.strip(".").split(".")) + b"\0"


class Resolver(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, peer):
        at, labels = 12, []
        while data[at]:
            labels.append(data[at + 1:at + 1 + data[at]].decode("latin-1").lower())
            at += 1 + data[at]
        question = data[12:at + 5]
        kind = struct.unpack(">H", data[at + 1:at + 3])[0]
        name = ".".join(labels)
        rounds = NAMES.get(name)
        records = []
        if rounds:
            count = ASKED[name, kind] = ASKED.get((name, kind), 0) + 1
            records = self.records(name, kind, rounds[min(count, len(rounds)) - 1])
        flags = 0x8580 if rounds else 0x8583
        self.transport.sendto(data[:2] + struct.pack(">HHHHH", flags, 1, len(records), 0, 0) + question + b"".join(records), peer)

    def records(self, name, kind, answers):
        records = []
        for answer in answers:
            try:
                address = ipaddress.ip_address(answer)
            except ValueError:
                target = encode(answer)
                records.append(encode(name) + struct.pack(">HHIH", 5, 1, 0, len(target)) + target)
                records += self.records(answer, kind, NAMES.get(answer, [[]])[-1])
                continue
            if (address.version, kind) in ((4, 1), (6, 28)):
                records.append(encode(name) + struct.pack(">HHIH", kind, 1, 0, len(address.packed)) + address.packed)
        return records


async def main():
    loop = asyncio.get_running_loop()
    for port in PORTS:
        await asyncio.start_server(serve, "0.0.0.0", port)
        await asyncio.start_server(serve, "::", port)
    await loop.create_datagram_endpoint(Resolver, local_addr=("127.0.0.1", 53))
    stop = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), lambda: os.read(sys.stdin.fileno(), 4096) or stop.set())
    print("ready", flush=True)
    await stop.wait()
    os._exit(0)


if __name__ == "__main__":
    socket.setdefaulttimeout(None)
    asyncio.run(main())
