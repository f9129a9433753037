"""front.py: a PostgREST of one's own, JWTs, requests and TAP, for test/postgrest/test_*.py. Standard library only.

Decided: PostgREST listens on a Unix socket in the test's directory, so that no port can clash; it connects as role `authenticator` (LOGIN,
NOINHERIT), which may become `web_user` or `web_anon`. A token says {"role": "web_user", "tenant": …, "user": …} and is signed with HS256.
Must hold: the server ends with the test, also when the test dies.
"""

import base64
import ctypes
import hashlib
import hmac
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from urllib.parse import urlencode

SECRET = "a secret of thirty-two bytes or more, for tests only"


class Tap:
    """Assertions as TAP lines. `with tap:` prints the plan at the end, and a failure when the test dies."""

    def __init__(self):
        self.count = self.failed = 0

    def ok(self, true, name, seen=None):
        self.count += 1
        self.failed += not true
        print(f"{'ok' if true else 'not ok'} {self.count} - {name}", flush=True)
        if not true and seen is not None:
            for line in str(seen).splitlines() or [""]:
                print(f"#   {line}")
        return bool(true)

    def equal(self, seen, wanted, name):
        return self.ok(seen == wanted, name, f"got:    {seen!r}\nwanted: {wanted!r}")

    def status(self, answer, wanted, name, code=None):
        """The HTTP status, and with `code` the SQLSTATE in the body."""
        right = answer.status == wanted and (code is None or (isinstance(answer.json, dict) and answer.json.get("code") == code))
        return self.ok(right, name, f"wanted {wanted} {code or ''}\n{answer}")

    def __enter__(self):
        return self

    def __exit__(self, kind, problem, trace):
        if kind is not None:
            self.ok(False, f"the test died: {kind.__name__}: {problem}")
            sys.__excepthook__(kind, problem, trace)
        print(f"1..{self.count}", flush=True)
        return False


def token(role="web_user", **claims):
    """A JWT with these claims, signed with HS256; expires in an hour unless `exp` says otherwise."""
    claims = {"role": role, "exp": int(time.time()) + 3600, **claims}
    parts = [encode({"alg": "HS256", "typ": "JWT"}), encode(claims)]
    signature = hmac.new(SECRET.encode(), ".".join(parts).encode(), hashlib.sha256).digest()
    return ".".join(parts + [base64.urlsafe_b64encode(signature).rstrip(b"=").decode()])


def encode(value):
    return base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).rstrip(b"=").decode()


def sql(statements, **variables):
    """Runs SQL as the superuser through psql and returns what it prints; raises with the server's message. :'name' are variables."""
    arguments = ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]
    for name, value in variables.items():
        arguments += ["-v", f"{name}={value}"]
    done = subprocess.run(arguments, input=statements, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    return done.stdout.strip()


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()
        self.text = self.body.decode("utf-8", "replace")
        try:
            self.json = json.loads(self.text)
        except ValueError:
            self.json = None

    def __str__(self):
        return f"{self.status} {self.headers.get('Content-Type')}\n{self.text[:2000]}"


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class PostgREST:
    """with PostgREST() as api: api.get('/tasks', as_=token(...), params={...}); api.rpc('run', {...}, as_=...)."""

    def __init__(self, **settings):
        self.directory = tempfile.mkdtemp(prefix="goya-p.", dir=os.environ.get("PGHOST"))
        self.socket = os.path.join(self.directory, "http")
        self.settings = {
            "db-uri": f"postgresql://authenticator@/{os.environ['PGDATABASE']}?host={os.environ['PGHOST']}&port={os.environ['PGPORT']}",
            "db-schemas": "goya",
            "db-anon-role": "web_anon",
            "db-pool": 10,
            "jwt-secret": SECRET,
            "server-unix-socket": self.socket,
            "server-unix-socket-mode": "600",
            "openapi-mode": "follow-privileges",
            "log-level": "info",
            **settings,
        }

    def __enter__(self):
        path = os.path.join(self.directory, "postgrest.conf")
        with open(path, "w", encoding="utf-8") as file:
            for key, value in self.settings.items():
                file.write(f"{key} = {json.dumps(value)}\n")
        log = os.path.join(os.environ.get("GOYA_LOGS", self.directory), "postgrest.program.log")
        with open(log, "ab") as out:
            self.process = subprocess.Popen([os.environ.get("POSTGREST", "postgrest"), path], stdin=subprocess.DEVNULL, stdout=out,
                                            stderr=subprocess.STDOUT, preexec_fn=die_with_parent)
        self.wait_ready(log)
        return self

    def wait_ready(self, log, seconds=30):
        """Ready is when it has read the schema: until then it answers 503."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                if self.request("GET", "/", as_=token("web_user")).status == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        self.__exit__(None, None, None)
        with open(log, encoding="utf-8", errors="replace") as file:
            raise RuntimeError("PostgREST is not ready:\n" + file.read()[-3000:])

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def request(self, method, path, as_=None, params=None, body=None, headers=None, timeout=60):
        sent = {"Accept": "application/json", **(headers or {})}
        if as_:
            sent["Authorization"] = f"Bearer {as_}"
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
            if not isinstance(body, (bytes, str)):
                body = json.dumps(body)
        if params:
            path += "?" + urlencode(params)
        connection = UnixConnection(self.socket, timeout)
        try:
            connection.request(method, path, body=body, headers=sent)
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def get(self, path, **options):
        return self.request("GET", path, **options)

    def rpc(self, function, arguments=None, **options):
        return self.request("POST", f"/rpc/{function}", body=arguments or {}, **options)

    def reload(self):
        """After DDL: PostgREST reads the schema again."""
        sql("NOTIFY pgrst, 'reload schema'")


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
