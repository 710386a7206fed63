"""HTTP values that pass between the server, the gateway and the upstream client, and the rules for headers.

Knows RFC 9110's words for requests, answers and headers. Must not know sockets, h11, or any API's JSON. Header
names are lower-case text; values are text of latin-1 characters, as they stand on the wire.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from .values import value_class

Headers = tuple[tuple[str, str], ...]

# RFC 9110, section 7.6.1: these speak of one connection and never pass a gateway.
HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

UNIX = "unix"  # the peer address of who came by a Unix socket
JSON = "application/json"
EVENT_STREAM = "text/event-stream; charset=utf-8"


def find(headers: Iterable[tuple[str, str]], name: str) -> str | None:
    """The first value of a header (name in lower case), or None."""
    for key, value in headers:
        if key == name:
            return value
    return None


def header_safe(value: str, limit: int = 1024) -> str:
    """Text that a client chose, fit for a header: ASCII, escaped, at most `limit` characters."""
    if len(value) <= limit and value.isascii() and value.isprintable():
        return value
    few = value[: limit + 1]  # each becomes one character at least
    safe = "".join(c if " " <= c <= "~" else c.encode("unicode_escape").decode() for c in few)
    return safe if len(safe) <= limit else safe[: limit - 3] + "..."


def is_loopback(address: str) -> bool:
    """Whether a peer address is this machine's own."""
    return address.startswith("127.") or address in ("::1", UNIX, "") or address.startswith("::ffff:127.")


@dataclass(slots=True, kw_only=True)
class HttpRequest:
    """One request with its whole body. `path` is as sent, still percent-encoded; `peer` is the client's address.

    repr leaves out query, headers and body: they hold the client's key and its prompt.
    """

    method: str
    path: str
    query: str = field(repr=False)
    headers: Headers = field(repr=False)
    body: bytes = field(repr=False)
    peer: str
    id: str

    def header(self, name: str) -> str | None:
        return find(self.headers, name)

    def let_go(self) -> None:
        """Forget headers and body, once they are understood: an answer may go on for minutes, and what a thousand
        coding agents sent for theirs takes 500 MB."""
        self.headers, self.body = (), b""


@value_class(frozen=True, slots=True, kw_only=True)
class HttpResponse:
    """A whole answer."""

    status: int
    headers: Headers = ()
    body: bytes = b""


class Flow(Protocol):
    """A source of bytes that can be stopped while its reader is slow."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class Follower(Protocol):
    """What a source of bytes goes to."""

    def follow(self, source: Flow | None) -> None:
        """Pause this source while the client reads too slowly; None forgets it."""
        ...


class Reply(Follower, Protocol):
    """Where an answer goes. Either `send` once, or `start`, then `write`s, then `end`. All return at once.

    After the client has gone, writes are dropped, and the handler's task is cancelled.
    """

    @property
    def has_started(self) -> bool: ...

    def send(self, response: HttpResponse) -> None: ...

    def start(self, status: int, headers: Headers) -> None: ...

    def write(self, data: bytes) -> None: ...

    def end(self) -> None: ...

    def abort(self) -> None:
        """Cut the connection: the client sees a broken answer, not a whole one."""
        ...


Handler = Callable[[HttpRequest, Reply], Awaitable[None]]


@value_class(frozen=True, slots=True, kw_only=True)
class Call:
    """One upstream request. `url` is absolute; `headers` hold the credential, `body` the prompt: repr leaves them out.

    proxy: the URL of the proxy that this call goes through, "" for the usual way.
    """

    method: str
    url: str
    body: bytes = field(repr=False)
    headers: Headers = field(repr=False)
    proxy: str = field(default="", repr=False)


class UpstreamReply(Protocol):
    """An upstream answer whose head has come. Exactly one of `read` and `pump` is used; `close` always."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Headers: ...

    async def read(self) -> bytes:
        """The whole body, bounded; raises UpstreamFailed where it is cut, too large or too slow."""
        ...

    async def pump(self, feed: Callable[[bytes], None], reply: Follower | None = None) -> None:
        """Call `feed` with the bytes of each read until the body ends; what `feed` raises is raised here.

        A slow `reply` pauses the upstream connection.
        """
        ...

    def close(self) -> None:
        """Free the connection: kept if the answer ended, cut if not."""
        ...


Send = Callable[[Call], Awaitable[UpstreamReply]]
