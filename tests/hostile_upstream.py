"""An upstream that tells whoever listens what it was given: every error quotes the credential that came with the call.

One server plays the Gemini API, a token endpoint, a metadata server and a proxy. What it does with a call, its own
text or its model says: `do:WORD`. What was asked is kept as it came: `targets` of request lines, `heads`, `bodies`.
"""

import json
import re
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

STATUSES = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"}
STATUSES |= {429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE"}


class HostileUpstream:
    """`answer`: the text that a good call gets. `token`: what the token endpoint gives. `elsewhere`: the base URL that
    redirects lead to, its own where that is empty. `hangs` is set by a call that
    gets no answer, until `release`."""

    def __init__(self, answer: str, token: str) -> None:
        self.answer = answer
        self.token = token
        self.elsewhere = ""
        self.port = 0
        self.targets: list[str] = []
        self.heads: list[str] = []
        self.bodies: list[str] = []
        self.hangs = threading.Event()
        self.release = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def error_body(status: int, words: str) -> bytes:
    """An error as Google writes one, quoting what it was given wherever it has a place for words."""
    error: dict[str, Any] = {"code": status, "message": words, "status": STATUSES.get(status, "UNKNOWN")}
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "WHATEVER", "metadata": {"key": words}}
    debug = {"@type": "type.googleapis.com/google.rpc.DebugInfo", "detail": words}
    field = {"field": f"contents {words}", "description": words}
    bad = {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [field]}
    return json.dumps({"error": error | {"details": [info, debug, bad]}}).encode()


@contextmanager
def serving(answer: str, token: str) -> Iterator[HostileUpstream]:
    upstream = HostileUpstream(answer, token)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_CONNECT(self) -> None:
            self.note(b"")
            given = self.headers["proxy-authorization"] or ""
            self.send_response_only(407, f"Not with {given}")
            self.send_header("content-length", "0")
            self.end_headers()
            self.close_connection = True

        def do_GET(self) -> None:
            self.note(b"")
            if "computeMetadata" in self.path:
                self.send(200, json.dumps({"access_token": upstream.token, "expires_in": 3600}).encode())
            elif "models" in self.path:
                name = "models/gemini-2.5-flash"
                self.send(200, json.dumps({"models": [{"name": name}]}).encode())
            else:
                self.send(404, error_body(404, f"{self.path} {self.given()}"))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            self.note(body)
            if self.path.endswith("/token"):
                self.send(200, json.dumps({"access_token": upstream.token, "expires_in": 3600}).encode())
            elif self.path.endswith("/revoked-token"):
                self.send(400, b'{"error": "invalid_grant"}')
            elif self.path.endswith("/refusing-token"):
                form = urllib.parse.unquote_plus(body.decode())
                words = {"error": f"invalid_client {form}", "error_description": f"Not known: {form}"}
                self.send(401, json.dumps(words).encode())
            else:
                # The last one, since a chain of responses brings its earlier turns with it.
                words = re.findall(r"do:(\w+)", urllib.parse.unquote(self.path) + body.decode("utf-8", "replace"))
                word = words[-1] if words else "good"
                getattr(self, "do_" + word, self.good)(word) if not word.isdigit() else self.refuse(int(word))

        def given(self) -> str:
            names = ("x-goog-api-key", "authorization", "proxy-authorization")
            return " ".join(value for name in names if (value := self.headers[name]))

        def refuse(self, status: int) -> None:
            self.send(status, error_body(status, f"API key not valid: {self.given()}. Please pass a valid API key."))

        def good(self, word: str) -> None:
            if ":countTokens" in self.path:
                self.send(200, b'{"totalTokens": 7}')
                return
            parts: list[dict[str, Any]] = [{"text": upstream.answer}]
            if word == "call":
                parts = [{"functionCall": {"name": "look", "args": {"what": upstream.answer}}}]
            self.answer(json.dumps(self.chunk(parts)).encode())

        def chunk(self, parts: list[dict[str, Any]]) -> dict[str, Any]:
            candidate = {"content": {"role": "model", "parts": parts}, "finishReason": "STOP", "index": 0}
            usage = {"promptTokenCount": 5, "candidatesTokenCount": 5, "totalTokenCount": 10}
            return {"candidates": [candidate], "usageMetadata": usage}

        def answer(self, data: bytes, missing: int = 0) -> None:
            if "alt=sse" in self.path:
                self.send(200, b"data: " + data + b"\r\n\r\n", kind="text/event-stream", missing=missing)
            else:
                self.send(200, data, missing=missing)

        def do_html(self, word: str) -> None:
            self.send(502, f"<html>{self.given()}</html>".encode(), kind="text/html")

        def do_garbage(self, word: str) -> None:
            self.answer(f"no JSON but {self.given()}".encode())

        def do_strange(self, word: str) -> None:
            self.answer(json.dumps({"candidates": self.given(), "usageMetadata": [self.given()]}).encode())

        def do_late(self, word: str) -> None:
            """An error within a stream that has begun."""
            first = json.dumps({"candidates": [{"content": {"parts": [{"text": upstream.answer}]}}]}).encode()
            self.answer(first + b"\r\n\r\ndata: " + error_body(500, f"broke with {self.given()}"))

        def do_cut(self, word: str) -> None:
            self.answer(json.dumps({"candidates": [{"content": {"parts": [{"text": "x"}]}}]}).encode(), missing=99)

        def do_drop(self, word: str) -> None:
            self.close_connection = True

        def do_nohttp(self, word: str) -> None:
            self.wfile.write(f"{self.given()}\r\n\r\n".encode())
            self.close_connection = True

        def do_redirect(self, word: str) -> None:
            self.send_response(302)
            self.send_header(
                "location", f"{upstream.elsewhere or upstream.url}/elsewhere?key={urllib.parse.quote(self.given())}"
            )
            self.send_header("content-length", "0")
            self.end_headers()

        def do_hang(self, word: str) -> None:
            upstream.hangs.set()
            upstream.release.wait(20)
            self.close_connection = True

        def send(self, status: int, data: bytes, kind: str = "application/json", missing: int = 0) -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("x-debug", self.given())
            self.send_header("content-length", str(len(data) + missing))
            self.end_headers()
            self.wfile.write(data)
            self.close_connection = self.close_connection or missing > 0

        def note(self, body: bytes) -> None:
            upstream.targets.append(self.path)
            upstream.heads.append(str(self.headers))
            upstream.bodies.append(body.decode("utf-8", "replace"))

        def log_message(self, *_: object) -> None:
            """The test tells what matters."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    upstream.port = server.server_port
    try:
        yield upstream
    finally:
        upstream.release.set()
        server.shutdown()
        thread.join()
        server.server_close()
