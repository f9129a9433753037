#!/usr/bin/env python3
"""media_service.py: ffprobe and ffmpeg behind HTTP on loopback: the service that the demo's workflow and some tests call.

    media_service.py --root DIR --work DIR [--port 0] [--log FILE]      prints `listening on http://127.0.0.1:PORT`

POST, JSON in and out; `uri` is a file:// address of a file under --root or --work:
    /probe      {uri}                          duration, format, width, height, fps, codecs, size_bytes, sha256, media_type, mime_type
    /scenes     {uri, max_frames, threshold}   frames: one PNG for the start of each scene, in --work; scenes: start, end, score
    /analyse    {uri}                          what signalstats and edgedetect measure in a picture: brightness, contrast, saturation, hue, edges
    /thumbnail  {uri, width, time}             a small PNG in --work
    /slow       {seconds}                      answers after that time, or stops when the caller hangs up
GET /healthz.

Decided: standard library only; every figure is measured by ffmpeg, none is made up. A result's file is named after what it was made
from, so that a repeated call rewrites nothing. A request with an Idempotency-Key that was answered before gets the first answer again,
and another body under the same key is refused, as a payment service does it; --log has a line of JSON per request with its key.
Must hold: nothing outside --root and --work is read; at most four tools run at once; a tool whose caller hung up is killed; loopback only.
"""

import argparse
import hashlib
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlparse

MAX_BODY = 1 << 20
MAX_FRAMES = 64
TOOL_SECONDS = 60


class Refusal(Exception):
    """An answer other than 200: HTTP status, a short code, a sentence."""

    def __init__(self, status, code, message):
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Hangup(Exception):
    """The caller closed the connection while we worked."""


class Media:
    """The five operations. `gone` is a function that tells whether the caller has hung up."""

    def __init__(self, root, work):
        self.root, self.work = os.path.realpath(root), os.path.realpath(work)
        self.slots = threading.Semaphore(4)

    def path(self, body):
        uri = body.get("uri")
        if not isinstance(uri, str):
            raise Refusal(400, "uri_missing", "The body has no string `uri`.")
        parts = urlparse(uri)
        if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
            raise Refusal(400, "uri_scheme", "Only file:// addresses of this machine are understood.")
        path = os.path.realpath(unquote(parts.path))
        if not any(path.startswith(base + os.sep) for base in (self.root, self.work)):
            raise Refusal(403, "uri_outside", "The file is not under a directory this service may read.")
        if not os.path.isfile(path):
            raise Refusal(404, "file_absent", "There is no such file.")
        return path

    def tool(self, arguments, gone):
        """Runs a tool to its end; kills it when the caller hangs up or it takes too long. Returns stdout and stderr."""
        with self.slots, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            deadline = time.monotonic() + TOOL_SECONDS
            process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
            try:
                while True:
                    try:
                        process.wait(0.1)
                        break
                    except subprocess.TimeoutExpired:
                        if gone():
                            raise Hangup() from None
                        if time.monotonic() > deadline:
                            raise Refusal(504, "tool_timeout", f"{arguments[0]} took longer than {TOOL_SECONDS} s.") from None
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
            out.seek(0)
            err.seek(0)
            text, errors = out.read().decode("utf-8", "replace"), err.read().decode("utf-8", "replace")
        if process.returncode != 0:
            last = errors.strip().splitlines()[-1:] or ["no message"]
            raise Refusal(422, "media_unreadable", f"{arguments[0]} could not read the file: {last[0]}")
        return text, errors

    def probe(self, body, gone):
        path = self.path(body)
        text, _ = self.tool(["ffprobe", "-v", "error", "-print_format", "json", "-show_format", "-show_streams", path], gone)
        found = json.loads(text)
        streams = found.get("streams", [])
        video = next((s for s in streams if s.get("codec_type") == "video"), None)
        audio = next((s for s in streams if s.get("codec_type") == "audio"), None)
        form = found.get("format", {})
        if video is None and audio is None:
            raise Refusal(422, "media_unreadable", "The file has neither a video nor an audio stream.")
        still = form.get("format_name", "").endswith("_pipe") or form.get("format_name") == "image2"
        kind = "image" if still else "video" if video else "audio"
        answer = {
            "uri": body["uri"],
            "media_type": kind,
            "mime_type": mime_type(form.get("format_name", ""), kind),
            "format": form.get("format_name"),
            "duration": 0.0 if still else round(float(form.get("duration", 0)), 3),
            "bit_rate": int(form.get("bit_rate", 0)),
            "size_bytes": os.path.getsize(path),
            "sha256": sha256_of(path),
            "audio_codec": audio and audio.get("codec_name"),
        }
        if video:
            answer.update(width=video.get("width"), height=video.get("height"), video_codec=video.get("codec_name"),
                          fps=rate(video.get("avg_frame_rate", "0/0")), frames=int(video.get("nb_frames", 0)))
        return answer

    def scenes(self, body, gone):
        path = self.path(body)
        most = number(body, "max_frames", 12, 1, MAX_FRAMES, int)
        threshold = number(body, "threshold", 0.3, 0.01, 1, float)
        duration = self.probe(body, gone)["duration"]
        name = "scenes-" + hashlib.sha256(f"{sha256_of(path)} {most} {threshold}".encode()).hexdigest()[:16]
        part = tempfile.mkdtemp(prefix=name + ".part", dir=self.work)
        try:
            choose = f"select='eq(n,0)+gt(scene,{threshold})',metadata=print:file=-"
            text, _ = self.tool(["ffmpeg", "-v", "error", "-nostdin", "-i", path, "-an", "-vf", choose, "-vsync", "vfr",
                                 "-frames:v", str(most), os.path.join(part, "frame-%03d.png")], gone)
            final = os.path.join(self.work, name)
            try:
                os.rename(part, final)
            except OSError:
                if not os.path.isdir(final):
                    raise
        finally:
            shutil.rmtree(part, ignore_errors=True)
        times = [float(t) for t in re.findall(r"pts_time:([\d.]+)", text)]
        scores = [float(s) for s in re.findall(r"lavfi\.scene_score=([\d.]+)", text)]
        frames, scenes = [], []
        for i, start in enumerate(times):
            file = os.path.join(final, f"frame-{i + 1:03d}.png")
            score = scores[i] if i < len(scores) else 0.0
            end = times[i + 1] if i + 1 < len(times) else duration
            scenes.append({"index": i, "start": round(start, 3), "end": round(end, 3), "score": score})
            frames.append({"uri": "file://" + file, "media_type": "image", "mime_type": "image/png", "index": i, "time": round(start, 3),
                           "size_bytes": os.path.getsize(file), "sha256": sha256_of(file),
                           "metadata": {"scene_score": score, "time": round(start, 3), "source": body["uri"]}})
        return {"frames": frames, "scenes": scenes, "count": len(frames), "duration": duration}

    def analyse(self, body, gone):
        path = self.path(body)
        # Two branches of one picture: its own statistics, and those of its edges.
        graph = ("[0:v]scale=320:-2,format=yuv444p,split[a][b];[a]signalstats,metadata=print:file=-[x];"
                 "[b]edgedetect=low=0.1:high=0.3,format=gray,signalstats,metadata=print:key=lavfi.signalstats.YAVG:file=/dev/stderr[y]")
        text, errors = self.tool(["ffmpeg", "-v", "error", "-nostdin", "-i", path, "-filter_complex", graph,
                                  "-map", "[x]", "-frames:v", "1", "-f", "null", "-", "-map", "[y]", "-frames:v", "1", "-f", "null", "-"], gone)
        stats = {key: float(value) for key, value in re.findall(r"lavfi\.signalstats\.(\w+)=([\d.]+)", text)}
        edge = re.search(r"lavfi\.signalstats\.YAVG=([\d.]+)", errors)
        measured = {
            "brightness": share(stats["YAVG"] - 16, 219),
            "contrast": share(stats["YHIGH"] - stats["YLOW"], 219),
            "saturation": share(stats["SATAVG"], 128),
            "hue": round(stats["HUEMED"], 1),
            "edges": share(float(edge.group(1)) if edge else 0.0, 255),
        }
        return {"uri": body["uri"], **measured, "label": label(measured), "labels": labels(measured)}

    def thumbnail(self, body, gone):
        path = self.path(body)
        width = number(body, "width", 160, 16, 1920, int)
        at = number(body, "time", 0.0, 0, 86400, float)
        name = "thumb-" + hashlib.sha256(f"{sha256_of(path)} {width} {at}".encode()).hexdigest()[:16] + ".png"
        final = os.path.join(self.work, name)
        if not os.path.exists(final):
            part = f"{final}.{threading.get_ident()}.part.png"
            seek = ["-ss", str(at)] if at else []
            self.tool(["ffmpeg", "-v", "error", "-nostdin", "-y", *seek, "-i", path, "-vf", f"scale={width}:-2", "-frames:v", "1", part], gone)
            if not os.path.exists(part):
                raise Refusal(422, "time_outside", "There is no picture at that time.")
            os.rename(part, final)
        return {"uri": "file://" + final, "media_type": "image", "mime_type": "image/png", "width": width,
                "size_bytes": os.path.getsize(final), "sha256": sha256_of(final), "metadata": {"time": at, "source": body["uri"]}}

    def slow(self, body, gone):
        seconds = number(body, "seconds", 1.0, 0, 600, float)
        start = time.monotonic()
        while time.monotonic() - start < seconds:
            if gone():
                raise Hangup()
            time.sleep(min(0.05, seconds))
        return {"slept": round(time.monotonic() - start, 3)}


def label(m):
    return labels(m)[0]


def labels(m):
    """Words for the measurements, most telling first."""
    words = []
    if m["brightness"] < 0.2:
        words.append("dark")
    if m["brightness"] > 0.75:
        words.append("bright")
    if m["saturation"] > 0.4:
        words.append("colourful")
    if m["edges"] > 0.015:
        words.append("detailed")
    if m["contrast"] < 0.1:
        words.append("plain")
    return words or ["ordinary"]


def share(value, whole):
    return round(min(1.0, max(0.0, value / whole)), 4)


def rate(text):
    over, _, under = text.partition("/")
    return round(int(over) / int(under), 3) if under and int(under) else 0.0


def number(body, key, default, least, most, kind):
    value = body.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise Refusal(400, "argument", f"`{key}` is a number from {least} to {most}.")
    return kind(value)


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def mime_type(form, kind):
    for part, name in (("mp4", "video/mp4"), ("matroska", "video/x-matroska"), ("png_pipe", "image/png"), ("jpeg_pipe", "image/jpeg"),
                       ("mp3", "audio/mpeg"), ("wav", "audio/wav"), ("avi", "video/x-msvideo"), ("mpegts", "video/mp2t")):
        if part in form:
            return name
    return kind + "/octet-stream"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "goya-media/1"
    timeout = 60

    def do_GET(self):
        if self.path == "/healthz":
            self.answer(200, {"status": "ok"})
        else:
            self.answer(404, error("path", "There is GET /healthz and POST /probe, /scenes, /analyse, /thumbnail, /slow."))

    def do_POST(self):
        started = time.time()
        key = self.headers.get("Idempotency-Key")
        status, replayed = 500, False
        try:
            body = self.read_body()
            status, answer, replayed = self.server.once(self.path, key, body, self.run)
            self.answer(status, answer, replayed)
        except Refusal as refusal:
            status = refusal.status
            self.answer(status, error(refusal.code, refusal.message))
        except (Hangup, BrokenPipeError, ConnectionResetError):
            status = 499
            self.close_connection = True
        self.server.note({"time": round(started, 3), "path": self.path, "idempotency_key": key, "status": status,
                          "replayed": replayed, "seconds": round(time.time() - started, 3)})

    def run(self, body):
        operation = {"/probe": self.server.media.probe, "/scenes": self.server.media.scenes, "/analyse": self.server.media.analyse,
                     "/thumbnail": self.server.media.thumbnail, "/slow": self.server.media.slow}.get(self.path)
        if operation is None:
            raise Refusal(404, "path", "There is GET /healthz and POST /probe, /scenes, /analyse, /thumbnail, /slow.")
        return operation(body, self.gone)

    def read_body(self):
        length = self.headers.get("Content-Length")
        if length is None or not length.isdigit():
            self.close_connection = True
            raise Refusal(411, "length", "The request has no Content-Length.")
        if int(length) > MAX_BODY:
            self.close_connection = True
            raise Refusal(413, "too_large", f"The body is longer than {MAX_BODY} bytes.")
        try:
            body = json.loads(self.rfile.read(int(length)).decode("utf-8"))
        except (UnicodeDecodeError, ValueError):
            raise Refusal(400, "json", "The body is not JSON in UTF-8.") from None
        if not isinstance(body, dict):
            raise Refusal(400, "json", "The body is not a JSON object.")
        return body

    def gone(self):
        """The caller hung up: its side of the socket is at its end. Bytes that wait there belong to a next request."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        if not readable:
            return False
        try:
            return self.connection.recv(1, socket.MSG_PEEK) == b""
        except OSError:
            return True

    def answer(self, status, body, replayed=False):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        if replayed:
            self.send_header("Idempotent-Replayed", "true")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format, *args):
        pass


def error(code, message):
    return {"error": {"code": code, "message": message}}


class Service(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address, media, log):
        super().__init__(address, Handler)
        self.media, self.log = media, log
        self.lock = threading.Lock()
        self.answers = {}  # (path, key) -> [lock, body, status, answer]

    def once(self, path, key, body, run):
        """Runs a request, or gives the answer its Idempotency-Key had. One at a time per key; a refusal is not remembered."""
        if key is None:
            return 200, run(body), False
        with self.lock:
            entry = self.answers.setdefault((path, key), [threading.Lock(), body, None, None])
        with entry[0]:
            if entry[1] != body:
                raise Refusal(409, "idempotency_key", "This Idempotency-Key came before with another body.")
            if entry[2] is not None:
                return entry[2], entry[3], True
            entry[3] = run(body)
            entry[2] = 200
            return entry[2], entry[3], False

    def note(self, line):
        if self.log:
            with self.lock, open(self.log, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")


def main():
    parser = argparse.ArgumentParser(description="ffprobe and ffmpeg behind HTTP, on loopback")
    parser.add_argument("--root", required=True, help="directory whose files may be read")
    parser.add_argument("--work", required=True, help="directory for what is made")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", help="file that gets a line of JSON per request")
    arguments = parser.parse_args()
    for tool in ("ffmpeg", "ffprobe"):
        if shutil.which(tool) is None:
            sys.exit(f"media_service: {tool} is not installed")
    os.makedirs(arguments.work, exist_ok=True)
    service = Service(("127.0.0.1", arguments.port), Media(arguments.root, arguments.work), arguments.log)
    # Said in both words, because a shell starts its background commands with SIGINT ignored.
    for end in (signal.SIGTERM, signal.SIGINT):
        signal.signal(end, lambda *_: sys.exit(0))
    print(f"listening on http://127.0.0.1:{service.server_address[1]}", flush=True)
    service.serve_forever(poll_interval=0.2)


if __name__ == "__main__":
    main()
