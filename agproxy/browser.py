"""What a web page may do here. Any page in a browser can reach a server on its own machine, so without a client key
the name that the page used (`Host`) and the page's origin decide. Pure decisions, after the Fetch standard's CORS
protocol; no cookies are used anywhere, so none are allowed.
"""

import ipaddress
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from .config import Config
from .errors import Forbidden, HttpRefused
from .http11 import Headers, find

_METHODS = "GET, POST, DELETE, OPTIONS"
_MAX_AGE_SECONDS = "600"
# What a page may read of an answer; a list, since `*` is not understood by every browser.
_EXPOSED = (
    "x-request-id, openai-processing-ms, retry-after, retry-after-ms, x-should-retry, x-mapped-model, x-account-id, "
    "x-agproxy-warnings, x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, "
    "x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens"
)


def host_name(value: str) -> str:
    """The name in a Host header, without port and brackets, in lower case."""
    if value.startswith("["):
        return value[1:].partition("]")[0].lower()
    return value.partition(":")[0].rstrip(".").lower()


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return None


def _is_loopback_name(name: str) -> bool:
    """`127.evil.example` begins like an address and is a foreign name: only a whole address counts."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = _address(name)
    return address is not None and address.is_loopback


def check_host(config: Config, headers: Headers) -> None:
    """Refuse a name that only a web page's own DNS can have led here (DNS rebinding). Where a client key is required
    the key decides instead."""
    if config.effective_auth_mode != "off":
        return
    value = find(headers, "host")
    if value is None:  # HTTP/1.0, which no browser speaks
        return
    name = host_name(value)
    allowed = (config.host.lower(), *(host.lower() for host in config.allowed_hosts))
    if _is_loopback_name(name) or _address(name) is not None or any(fnmatchcase(name, host) for host in allowed):
        return
    raise Forbidden(
        "This name of the server is not known to it. Name it with --allowed-hosts, or require a client key.",
        code="host_not_allowed",
    )


def is_allowed_origin(config: Config, origin: str) -> bool:
    """Whether a page of this origin may use the server without a key: one of this machine, or one that is named."""
    if any(fnmatchcase(origin, pattern) for pattern in config.allowed_origins):
        return True
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and _is_loopback_name(parts.hostname or "")


def is_same_origin(origin: str, headers: Headers) -> bool:
    """Whether a page that this server itself has sent asks. Only the name and port are compared: before a proxy that
    ends TLS the scheme is another. Where no key is asked for `check_host` has judged the name."""
    try:
        return urlsplit(origin).netloc.lower() == (find(headers, "host") or "").lower() != ""
    except ValueError:
        return False


def check_origin(config: Config, headers: Headers, *, has_key: bool) -> None:
    """Refuse a foreign page's request that brings no valid client key."""
    origin = find(headers, "origin")
    if origin is None or (has_key and config.effective_auth_mode != "off") or is_allowed_origin(config, origin):
        return
    if is_same_origin(origin, headers):
        return
    raise Forbidden(
        "Requests from this web page's origin are refused. Name it with --allowed-origins, or require a client key.",
        code="origin_not_allowed",
    )


def _may_read(config: Config, origin: str) -> bool:
    """Whether the browser may show an answer to a page: allowed origins, and any where only a key opens the door."""
    return config.effective_auth_mode != "off" or is_allowed_origin(config, origin)


def cors_headers(config: Config, headers: Headers) -> Headers:
    """CORS headers of every answer, errors and streams too."""
    origin = find(headers, "origin")
    if origin is None:
        return ()
    if not _may_read(config, origin):
        return (("vary", "origin"),)
    return (
        ("access-control-allow-origin", origin),
        ("access-control-expose-headers", _EXPOSED),
        ("vary", "origin"),
    )


def preflight_headers(config: Config, headers: Headers) -> Headers:
    """The answer to a preflight, which never brings a key. Asked-for headers are echoed: a fixed list breaks with every
    new version of an SDK, and `*` does not cover Authorization. Raises Forbidden for a foreign origin."""
    origin = find(headers, "origin")
    if origin is None or not _may_read(config, origin):
        raise Forbidden(
            "Requests from this web page's origin are refused. Name it with --allowed-origins.",
            code="origin_not_allowed",
        )
    answer = [
        *cors_headers(config, headers),
        ("access-control-allow-methods", _METHODS),
        ("access-control-max-age", _MAX_AGE_SECONDS),
    ]
    wanted = find(headers, "access-control-request-headers")
    if wanted:
        answer.append(("access-control-allow-headers", wanted))
    if find(headers, "access-control-request-private-network") == "true":
        answer.append(("access-control-allow-private-network", "true"))
    return tuple(answer)


def check_upgrade(headers: Headers) -> None:
    """WebSocket is not served: 426, on which Codex falls back to HTTP at once and silently."""
    value = find(headers, "upgrade")
    if value is not None and value.lower() == "websocket":
        raise HttpRefused("WebSocket is not served here; use HTTP.", status=426, headers=(("upgrade", "HTTP/1.1"),))
