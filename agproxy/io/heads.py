"""Request heads, read strictly: what RFC 9112 forbids is refused, also where h11 alone would let it pass.

A proxy in front of us that reads the same bytes otherwise than we do lets an attacker hide one request in another
(request smuggling), so doubt is never resolved, only refused. Pure: bytes in, values out.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import h11

from ..errors import HttpRefused
from ..http11 import Headers, find
from . import plain

_TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_TLS_HANDSHAKE = 0x16
_STRAY_BYTE = re.compile(rb"(?<!\r)\n|\r(?!\n)|\0")
_STRAY_LF = re.compile(rb"(?<!\r)\n|\0")
_FOLD = re.compile(rb"\r\n[ \t]")
_FRAMING = re.compile(rb"\r\n(content-length|transfer-encoding)[ \t]*:([^\r]*)", re.IGNORECASE)
_PATH = re.compile(rb"/[!-~]*")
_AUTHORITY = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=%-]+(:[0-9]*)?|\[[0-9A-Fa-f:.]+\](:[0-9]*)?")
_ALLOW = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"


@dataclass(slots=True, kw_only=True)
class Head:
    """A request without its body. length: of the body; None for a chunked one, which `parser` then reads.

    is_old: HTTP/1.0. may_stay: the connection can take another request after this one.
    """

    method: str
    path: str
    query: str
    headers: Headers
    length: int | None
    is_old: bool = False
    may_stay: bool = True
    wants_continue: bool = False
    parser: h11.Connection | None = None


def parse_head(raw: bytes, limit: int) -> Head:
    """The request of one whole head. Raises HttpRefused for all that RFC 9112 forbids and h11 alone lets pass."""
    found = plain.read_request(raw)
    if found is not None:
        method, target, headers, length = found
        _check_host(headers)
        path, _, query = target.partition("?")
        return Head(method=method, path=path, query=query, headers=headers, length=length)
    parser = h11.Connection(h11.SERVER, limit)
    request = _judge(raw, parser)
    path, query, authority = split_target(request)
    headers = decode_headers(request, authority)
    is_chunked = find(headers, "transfer-encoding") is not None
    return Head(
        method=request.method.decode("ascii"),
        path=path,
        query=query,
        headers=headers,
        length=None if is_chunked else int(find(headers, "content-length") or 0),
        is_old=request.http_version == b"1.0",
        may_stay=_may_stay(request),
        wants_continue=parser.they_are_waiting_for_100_continue,
        parser=parser if is_chunked else None,
    )


def _may_stay(request: h11.Request) -> bool:
    if request.http_version == b"1.0":
        return False
    tokens = [token for name, value in request.headers if name == b"connection" for token in value.lower().split(b",")]
    return b"close" not in [token.strip() for token in tokens]


def _judge(raw: bytes, connection: h11.Connection) -> h11.Request:
    if _STRAY_BYTE.search(raw):
        raise HttpRefused("The request's head holds a bare CR, a bare LF or a NUL.")
    if _FOLD.search(raw):
        raise HttpRefused("A header is folded over several lines.")
    framing: dict[bytes, bytes] = {}
    for name, value in _FRAMING.findall(raw):
        if framing:
            # RFC 9112, 6.3: the ways of an attacker to have two servers see two different bodies.
            raise HttpRefused("The request has more than one Content-Length or Transfer-Encoding.")
        framing[name.lower()] = value.strip(b" \t")
    if not framing.get(b"content-length", b"0").isdigit():
        raise HttpRefused("Content-Length is no number.")
    if framing.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
        raise HttpRefused("Transfer-Encoding may only be chunked.")
    connection.receive_data(raw)
    try:
        request = connection.next_event()
    except h11.RemoteProtocolError as error:
        raise HttpRefused(describe(error)) from None
    assert isinstance(request, h11.Request)
    if not b"1.0" <= request.http_version < b"2":
        raise HttpRefused("Only HTTP/1.1 and HTTP/1.0 are spoken here.", status=505)
    if request.method in (b"CONNECT", b"TRACE"):
        raise HttpRefused(f"{request.method.decode()} is not served.", status=405, headers=(("allow", _ALLOW),))
    if request.http_version == b"1.0" and b"transfer-encoding" in framing:
        raise HttpRefused("HTTP/1.0 has no Transfer-Encoding.")
    return request


def describe(error: h11.RemoteProtocolError) -> str:
    """h11's complaint without the bytes that it quotes: they may hold a key."""
    words = str(error)
    if "Host: header" in words:
        return "HTTP/1.1 wants exactly one Host header."
    return f"The request is not HTTP: {words.partition(': ')[0]}."


def split_target(request: h11.Request) -> tuple[str, str, str | None]:
    """Path, query and, of an absolute target (RFC 9112, 3.2.2), the authority. Raises HttpRefused."""
    target = request.target.decode("ascii")
    if target == "*" and request.method == b"OPTIONS":
        return "*", "", None
    authority = None
    if not target.startswith("/"):
        scheme, mark, rest = target.partition("://")
        if not mark or scheme.lower() not in ("http", "https"):
            raise HttpRefused("The request target is neither a path nor an http URL.")
        end = min((i for i in (rest.find("/"), rest.find("?")) if i >= 0), default=len(rest))
        authority, target = rest[:end], rest[end:]
        if not authority:
            raise HttpRefused("The request target names no host.")
        if not target.startswith("/"):
            target = "/" + target
    path, _, query = target.partition("?")
    return path, query, authority


def decode_headers(request: h11.Request, authority: str | None) -> Headers:
    """Headers as text. The authority of an absolute target replaces Host, as RFC 9112, 3.2.2 has it."""
    headers = [(name.decode("ascii"), value.decode("latin-1")) for name, value in request.headers]
    if authority is not None:
        headers = [(name, value) for name, value in headers if name != "host"]
        headers.insert(0, ("host", authority))
    _check_host(headers)
    return tuple(headers)


def _check_host(headers: Iterable[tuple[str, str]]) -> None:
    host = find(headers, "host")
    if host and not _AUTHORITY.fullmatch(host):
        raise HttpRefused("Host is no host name.")


def path_of(raw: bytes) -> str:
    """The path of a head that may be broken: only for choosing in which protocol's words to refuse it."""
    words = raw[: raw.find(b"\r\n")].split(b" ", 2)
    path = words[1].partition(b"?")[0] if len(words) > 1 else b""
    return path.decode("ascii") if _PATH.fullmatch(path) else ""


def complain_of_start(first: int) -> str | None:
    """What is wrong with a request's first byte, None for nothing: told at once, since such a head may never end."""
    if first in _TOKEN:
        return None
    hint = " It looks like TLS; this port speaks plain HTTP." if first == _TLS_HANDSHAKE else ""
    return "The request does not begin with a method." + hint


def has_stray_lf(head: bytearray, searched: int) -> bool:
    """Whether a head that has not ended yet can be refused already; `searched` bytes were found good before.

    Without this, a client that ends its lines with LF alone would wait for the time-out.
    """
    return _STRAY_LF.search(head, searched) is not None
