"""A client of the gateway on paper, for commands that run it without a server: its reply is kept."""

from ..http11 import Flow, Headers, HttpResponse


class Paper:
    """`http11.Reply` that keeps the answer."""

    def __init__(self) -> None:
        self.status = 0
        self.body = b""
        self.is_stream = False
        self.is_cut = False

    @property
    def has_started(self) -> bool:
        return self.status != 0

    def send(self, response: HttpResponse) -> None:
        self.status, self.body = response.status, response.body

    def start(self, status: int, headers: Headers) -> None:
        self.status, self.is_stream = status, True

    def write(self, data: bytes) -> None:
        self.body += data

    def end(self) -> None:
        pass

    def abort(self) -> None:
        self.is_cut = True

    def follow(self, source: Flow | None) -> None:
        pass
