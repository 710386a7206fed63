"""A client of the gateway on paper, for commands that run it without a server: its reply is kept."""

import itertools
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from ..config import Config
from ..entries import Entry
from ..http11 import Flow, Headers, HttpRequest, HttpResponse, Send
from ..pool import Account, Pool

if TYPE_CHECKING:
    from ..attempts import TokenSource

_ACCOUNT = Account(id="translate", key="YOUR_KEY")


class Paper:
    """`http11.Reply` that keeps the answer. notices: what the gateway has to say of it, those told late too."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: Headers = ()
        self.notices: list[str] = []
        self.body = b""
        self.is_stream = False
        self.is_cut = False

    @property
    def has_started(self) -> bool:
        return self.status != 0

    def send(self, response: HttpResponse) -> None:
        self.status, self.headers, self.body = response.status, response.headers, response.body

    def start(self, status: int, headers: Headers) -> None:
        self.status, self.headers, self.is_stream = status, headers, True

    def write(self, data: bytes) -> None:
        self.body += data

    def end(self) -> None:
        pass

    def abort(self) -> None:
        self.is_cut = True

    def follow(self, source: Flow | None) -> None:
        pass


async def exchange(
    settings: Config,
    path: str,
    body: bytes,
    send: Send,
    *,
    account: Account = _ACCOUNT,
    base_url: str | None = None,
    tokens: "TokenSource | None" = None,
) -> Paper:
    """One exchange of the gateway; each call that it makes goes to `send`, once. Nothing is kept from one to the next.

    base_url: of the Gemini API with its version, where it is not that of the settings.
    """
    from ..gateway import Gateway  # here, as every import that only some commands need
    from ..io.fetch import Fetcher

    numbers = itertools.count(1)
    entries: list[Entry] = []
    fetcher = Fetcher(settings)
    gateway = Gateway(
        config=replace(settings, auth_mode="off", max_attempts=1, keepalive_seconds=0.0),
        pool=Pool([account]),
        send=send,
        base_url=base_url or f"{settings.upstream_url.rstrip('/')}/{settings.upstream_version}",
        now=time.time,
        clock=time.monotonic,
        new_id=lambda: f"{next(numbers):024x}",
        tokens=tokens,
        fetch=fetcher.fetch_all,
        observers=(entries.append,),
    )
    paper = Paper()
    headers = (("host", "localhost"), ("content-type", "application/json"))
    request = HttpRequest(method="POST", path=path, query="", headers=headers, body=body, peer="127.0.0.1", id="paper")
    try:
        await gateway.handle(request, paper)
    finally:
        await gateway.close()
        await fetcher.close()
    paper.notices = [text for entry in entries for text in entry.notices]
    return paper
