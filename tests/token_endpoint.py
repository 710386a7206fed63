"""A token endpoint and a metadata server on loopback, which answer by a script and remember what they were asked."""

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl


class TokenEndpoint:
    """`answers`: (status, body) in turn, the last one for ever. `forms`: what was posted; `paths`: what was got."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.forms = []
        self.paths = []
        self.url = ""

    @property
    def place(self):
        return self.url.removeprefix("http://")

    def next(self):
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def token(value, seconds=3600):
    return 200, {"access_token": value, "expires_in": seconds, "token_type": "Bearer"}


INVALID_GRANT = 400, {"error": "invalid_grant", "error_description": "Token has been expired or revoked."}


@contextlib.contextmanager
def serving(*answers):
    endpoint = TokenEndpoint(*answers)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            size = int(self.headers["content-length"])
            endpoint.forms.append(dict(parse_qsl(self.rfile.read(size).decode())))
            self.answer()

        def do_GET(self):
            endpoint.paths.append((self.path, self.headers["metadata-flavor"]))
            self.answer()

        def answer(self):
            status, body = endpoint.next()
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    endpoint.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield endpoint
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
