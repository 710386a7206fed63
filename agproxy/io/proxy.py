"""Proxies towards upstream: which one a host is reached by, and the CONNECT and SOCKS5 handshakes.

Follows RFC 9110, section 9.3.6 (CONNECT), RFC 1928 and RFC 1929 (SOCKS5), and curl's manual for the environment
variables. Knows no pools and no answers. Errors name the proxy's host and port, never its credentials.
"""

import asyncio
import base64
import ipaddress
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import unquote_to_bytes, urlsplit

import h11

from ..account import hide
from ..errors import ConfigError, Retry, UpstreamFailed

PORTS = {"http": 80, "https": 443}
_DEFAULT_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
_MAX_REPLY_BYTES = 65536

# RFC 1928, section 6
_SOCKS_REFUSALS = {
    1: "general failure",
    2: "not allowed by its rules",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "time to live expired",
    7: "command not supported",
    8: "address type not supported",
}


@dataclass(frozen=True, slots=True)
class Proxy:
    """One proxy. `scheme` is http, https (TLS to the proxy itself) or socks5."""

    scheme: str
    host: str
    port: int
    user: bytes = field(default=b"", repr=False)
    password: bytes = field(default=b"", repr=False)

    @property
    def place(self) -> str:
        return f"{self.scheme}://{join_host(self.host, self.port)}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """What a proxy may quote and nobody should see, also as JSON writes it. Bytes as latin-1."""
        user, password = self.user.decode("latin-1"), self.password.decode("latin-1")
        said = (password or user, f"{user}:{password}", (self.authorization or "").removeprefix("Basic "))
        return (*said, *(json.dumps(word, ensure_ascii=False)[1:-1] for word in said))

    @property
    def authorization(self) -> str | None:
        """The value of Proxy-Authorization."""
        if not self.user and not self.password:
            return None
        return "Basic " + base64.b64encode(self.user + b":" + self.password).decode("ascii")


def join_host(host: str, port: int | None) -> str:
    """host:port, with the brackets that an IPv6 address needs; the host alone where there is no port."""
    name = f"[{host}]" if ":" in host else host
    return name if port is None else f"{name}:{port}"


@lru_cache(maxsize=64)
def is_loopback_host(host: str) -> bool:
    """Whether a URL's host is this machine: localhost, or a loopback address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def parse_proxy(url: str, source: str) -> Proxy:
    """The proxy of a URL; one without a scheme is http, as curl has it. Raises ConfigError naming `source`."""
    try:
        parts = urlsplit(url if "://" in url else "http://" + url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ConfigError(f"{source}: the proxy's URL cannot be read") from None
    if parts.scheme not in _DEFAULT_PORTS or not host:
        raise ConfigError(f"{source}: a URL http://, https:// or socks5://host:port was expected")
    # socks5 and socks5h are one: names are always resolved by the proxy, which may know more than we do.
    scheme = "socks5" if parts.scheme == "socks5h" else parts.scheme
    # Not parts.username: it ends at the last "@" as we want, but its bytes are to be percent-decoded, not text.
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    user_bytes, password_bytes = unquote_to_bytes(user), unquote_to_bytes(password)
    if scheme == "socks5" and (len(user_bytes) > 255 or len(password_bytes) > 255):
        raise ConfigError(f"{source}: a SOCKS5 user or password has at most 255 bytes")
    return Proxy(scheme, host, port or _DEFAULT_PORTS[scheme], user_bytes, password_bytes)


class ProxyRules:
    """Chooses the proxy of a host: the setting, else HTTPS_PROXY, HTTP_PROXY, ALL_PROXY; never what NO_PROXY names."""

    def __init__(self, setting: str, environ: Mapping[str, str]) -> None:
        self._proxies: dict[str, Proxy] = {}
        for scheme in ("http", "https"):
            names = (f"{scheme}_proxy", f"{scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY")
            sources = [("upstream_proxy", setting)] + [(name, environ.get(name, "")) for name in names]
            source, url = next(((name, value) for name, value in sources if value), ("", ""))
            if url:
                self._proxies[scheme] = parse_proxy(url, source)
        no_proxy = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
        self._exceptions = [word.lower() for word in no_proxy.replace(",", " ").split()]

    def choose(self, scheme: str, host: str, port: int) -> Proxy | None:
        """The proxy for this origin, None for none."""
        proxy = self._proxies.get(scheme)
        if proxy is None or is_loopback_host(host) or any(_matches(rule, host, port) for rule in self._exceptions):
            return None
        return proxy


def _matches(rule: str, host: str, port: int) -> bool:
    """Whether a word of NO_PROXY names the host: `*`, a domain with all below it, an address, a network; `:port`."""
    if rule == "*":
        return True
    name, colon, wanted = rule.rpartition(":")
    if colon and wanted.isdigit() and (":" not in name or name.endswith("]")):  # not a bare IPv6 address
        if int(wanted) != port:
            return False
        rule = name
    rule = rule.strip("[]")
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(rule, strict=False)
    except ValueError:  # one of them is a name
        rule = rule.removeprefix("*").strip(".")
        host = host.rstrip(".")
        return bool(rule) and (host == rule or host.endswith("." + rule))


# --- handshakes ------------------------------------------------------------------------------------------------


class Dialogue(asyncio.Protocol):
    """Bytes of a connection that is not yet a tunnel, read by need. `set_protocol` takes the transport over later."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.received = bytearray()
        self._is_lost = False
        self._waiter: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def until(self, is_enough: Callable[[bytearray], bool]) -> None:
        """Wait until enough has come. Raises ConnectionError if the proxy closes before."""
        while not is_enough(self.received):
            if self._is_lost:
                raise ConnectionError
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    async def take(self, count: int) -> bytes:
        """The next bytes, exactly this many."""
        await self.until(lambda received: len(received) >= count)
        data = bytes(self.received[:count])
        del self.received[:count]
        return data


async def open_tunnel(dialogue: Dialogue, proxy: Proxy, host: str, port: int) -> None:
    """Ask the proxy for a tunnel over a fresh connection to it. Raises UpstreamFailed where it gives none."""
    try:
        if proxy.scheme == "socks5":
            await _open_socks5(dialogue, proxy, host, port)
        else:
            await _open_connect(dialogue, proxy, host, port)
    except ConnectionError:
        raise _refused(proxy, "it closed the connection") from None
    if dialogue.received:
        raise _refused(proxy, "it sent bytes that belong to nothing")


def _refused(proxy: Proxy, why: str) -> UpstreamFailed:
    return UpstreamFailed(f"no tunnel through the proxy {proxy.place}: {why}", code="upstream_proxy")


async def _open_connect(dialogue: Dialogue, proxy: Proxy, host: str, port: int) -> None:
    authority = join_host(host, port)
    headers = [("host", authority)]
    if proxy.authorization is not None:
        headers.append(("proxy-authorization", proxy.authorization))
    connection = h11.Connection(h11.CLIENT, _MAX_REPLY_BYTES)
    request = h11.Request(method="CONNECT", target=authority, headers=headers)
    dialogue.transport.write((connection.send(request) or b"") + (connection.send(h11.EndOfMessage()) or b""))
    try:
        while True:
            await dialogue.until(bool)
            connection.receive_data(bytes(dialogue.received))
            dialogue.received.clear()
            event = connection.next_event()
            while isinstance(event, h11.InformationalResponse):
                event = connection.next_event()
            if isinstance(event, h11.Response):
                break
    except h11.RemoteProtocolError:
        raise _refused(proxy, "its answer is not HTTP") from None
    if not 200 <= event.status_code < 300:
        reason = "".join(c for c in event.reason.decode("latin-1") if c.isprintable())
        reason = hide(reason, proxy.secrets)[:80]
        retry = Retry.NEVER if event.status_code == 407 else None
        why = f"it answered {event.status_code} {reason}".rstrip()
        raise UpstreamFailed(_refused(proxy, why).message, code="upstream_proxy", retry=retry)
    dialogue.received += connection.trailing_data[0]


async def _open_socks5(dialogue: Dialogue, proxy: Proxy, host: str, port: int) -> None:
    has_login = bool(proxy.user or proxy.password)
    dialogue.transport.write(b"\x05\x02\x00\x02" if has_login else b"\x05\x01\x00")
    version, method = await dialogue.take(2)
    if version != 5:
        raise _refused(proxy, "it does not speak SOCKS5")
    if method == 2 and has_login:
        login = bytes((1, len(proxy.user))) + proxy.user + bytes((len(proxy.password),)) + proxy.password
        dialogue.transport.write(login)
        if (await dialogue.take(2))[1] != 0:
            message = _refused(proxy, "it refuses the user or the password").message
            raise UpstreamFailed(message, code="upstream_proxy", retry=Retry.NEVER)
    elif method != 0:
        raise _refused(proxy, "it wants a login that is not configured")
    dialogue.transport.write(b"\x05\x01\x00" + _socks_address(host) + port.to_bytes(2, "big"))
    version, reply, _, kind = await dialogue.take(4)
    if version != 5 or reply != 0:
        raise _refused(proxy, _SOCKS_REFUSALS.get(reply, f"reply {reply}"))
    # The address that the proxy bound is of no use to us, but stands before the tunnel's bytes.
    length = {1: 4, 4: 16}.get(kind) or (await dialogue.take(1))[0]
    await dialogue.take(length + 2)


def _socks_address(host: str) -> bytes:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        name = host.encode("idna")
        return bytes((3, len(name))) + name
    return (b"\x01" if address.version == 4 else b"\x04") + address.packed
