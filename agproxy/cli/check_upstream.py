"""Checks of the way to Google: name, proxy, TLS, this machine's clock, each account. All by one call without a key to
each host, and one call that costs nothing with each account.
"""

import asyncio
import email.utils
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from ..accounts import Entry, account_of
from ..config import Config
from ..errors import ConfigError, GatewayError, UpstreamFailed
from ..http11 import Call, Send, find
from ..io import egress
from ..io.proxy import Dialogue, Proxy, ProxyRules, parse_proxy
from ..targets import target_of
from .finding import Finding, fail, ok, skipped, warn
from .probe import Outcome

_MOST_SKEW_SECONDS = 300.0  # from here on signed tokens of service accounts are refused
_WARN_SKEW_SECONDS = 30.0
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A host that calls go to. proxy: the URL of the account's own, "" for what the settings say."""

    url: str
    proxy: str = ""

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or self.url


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """How a call without a key went. date: the server's clock and ours, in Unix seconds, where it told its own."""

    place: Place
    status: int | None = None
    fault: str = ""
    code: str = ""
    date: tuple[float, float] | None = None


def places_of(settings: Config, entries: Sequence[Entry]) -> tuple[Place, ...]:
    """Where the accounts' calls go; where there is none, the upstream of the settings."""
    base = f"{settings.upstream_url.rstrip('/')}/{settings.upstream_version}"
    found: dict[Place, None] = {}
    for entry in entries:
        if entry.record.is_enabled and entry.is_known:
            target = target_of(account_of(entry), "", base)
            parts = urlsplit(target.base_url)
            found[Place(url=f"{parts.scheme}://{parts.netloc}", proxy=target.proxy)] = None
    parts = urlsplit(base)
    return tuple(found) or (Place(url=f"{parts.scheme}://{parts.netloc}"),)


def proxy_of(settings: Config, place: Place) -> Proxy | None:
    """The proxy in force towards a place. Raises ConfigError."""
    parts = urlsplit(place.url)
    if place.proxy:
        return parse_proxy(place.proxy, "the account's proxy")
    port = parts.port or _PORTS.get(parts.scheme, 443)
    return ProxyRules(settings.upstream_proxy, os.environ).choose(parts.scheme, place.host, port)


async def name(settings: Config, place: Place, seconds: float) -> Finding:
    """Whether the host's name leads to addresses."""
    title = "dns"
    try:
        proxy = proxy_of(settings, place)
    except ConfigError as error:
        return skipped(title, str(error))
    host = place.host if proxy is None else proxy.host
    try:
        async with asyncio.timeout(seconds):
            found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except TimeoutError:
        return fail(title, f"{host}: no answer within {seconds:g} s", _DNS_ADVICE)
    except (OSError, UnicodeError) as error:
        words = getattr(error, "strerror", None) or "not a name that can be looked up"
        return fail(title, f"{host}: {words}", _DNS_ADVICE)
    addresses = sorted({str(address[0]) for *_, address in found})
    note = "" if proxy is None else f" (the proxy, which looks up {place.host} itself)"
    return ok(title, f"{host}: " + ", ".join(addresses[:4]) + (" ..." if len(addresses) > 4 else "") + note)


_DNS_ADVICE = "is this machine online? See its DNS servers, or set upstream_proxy where names are not looked up here"


async def proxy(settings: Config, place: Place, seconds: float) -> Finding:
    """Which proxy is in force, and whether it is there."""
    title = "proxy"
    try:
        found = proxy_of(settings, place)
    except ConfigError as error:
        return bad_proxy(str(error), title)
    if found is None:
        return ok(title, f"none for {place.host}: a direct connection")
    from ..io.dial import Dialer, Origin  # here, so that the other commands start without TLS's weight

    allowed = egress.Egress([egress.Place(host=found.host, port=found.port, why=("the proxy",))])
    dialer = Dialer(replace(settings, connect_timeout_seconds=seconds), allowed)
    try:
        dialogue = await dialer.dial(Origin("http", found.host, found.port, None), Dialogue)
    except UpstreamFailed as error:
        return fail(title, error.message, _PROXY_ADVICE)
    dialogue.transport.abort()
    return ok(title, f"{found.place} for {place.host}: it answers")


def bad_proxy(problem: str, title: str = "proxy") -> Finding:
    return fail(title, problem, "correct upstream_proxy, or the variable HTTPS_PROXY")


_PROXY_ADVICE = "start it, or correct upstream_proxy or HTTPS_PROXY; NO_PROXY names hosts that need none"


async def reach(send: Send, place: Place, seconds: float) -> Reached:
    """One call without a key. Whatever HTTP status comes back, the way is open."""
    call = Call(method="GET", url=place.url + "/", body=b"", headers=(), proxy=place.proxy)
    try:
        async with asyncio.timeout(seconds):
            answer = await send(call)
            ours = time.time()
            answer.close()
    except TimeoutError:
        return Reached(place=place, fault=f"no answer within {seconds:g} s", code="upstream_timeout")
    except GatewayError as error:
        return Reached(place=place, fault=error.message, code=error.code or "")
    date = _seconds_of(find(answer.headers, "date"))
    return Reached(place=place, status=answer.status, date=None if date is None else (date, ours))


def _seconds_of(date: str | None) -> float | None:
    try:
        return None if date is None else email.utils.parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None


_REACH_ADVICE = {
    "upstream_tls": "where a proxy or virus scanner opens TLS: name its CA certificate with --ca-file; "
    "else look at this machine's clock and at SSL_CERT_FILE",
    "upstream_connect": "is this machine online? A firewall may want a proxy: AGPROXY_UPSTREAM_PROXY",
    "upstream_timeout": "a firewall may swallow the connection: AGPROXY_UPSTREAM_PROXY names a proxy",
    "upstream_url": "correct upstream_url",
}


def way(reached: Reached) -> Finding:
    """TCP, proxy and TLS all the way to the host."""
    title = "upstream"
    if reached.fault:
        return fail(
            title,
            f"{reached.place.host}: {reached.fault.removeprefix(reached.place.host + ': ')}",
            _REACH_ADVICE.get(reached.code, _REACH_ADVICE["upstream_connect"]),
        )
    tls = "its certificate is trusted" if reached.place.url.startswith("https:") else "plain http"
    return ok(title, f"{reached.place.host} answers (HTTP {reached.status}); {tls}")


def clock(reached: Sequence[Reached]) -> Finding:
    """This machine's clock beside that of the first host which told its own."""
    date = next((one.date for one in reached if one.date is not None), None)
    if date is None:
        return skipped("clock", "no host told its time")
    theirs, ours = date
    skew = ours - theirs
    found = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} upstream"
    advice = "set this machine's clock by NTP: tokens and limits go by it"
    if abs(skew) > _MOST_SKEW_SECONDS:
        return fail("clock", found, advice)
    if abs(skew) > _WARN_SKEW_SECONDS:
        return warn("clock", found, advice)
    return ok("clock", "within 30 s of upstream's")


def account(entry: Entry, outcome: Outcome) -> Finding:
    """What the free call of an account brought."""
    title = f"account {entry.name}"
    if not outcome.fault:
        return ok(title, f"accepted in {outcome.milliseconds} ms")
    status = outcome.status
    if status == 429:
        return warn(title, outcome.fault, "wait until its limit ends, or add another account")
    if status in (400, 401, 403):
        advice = "a new key is at https://aistudio.google.com/apikey: `agproxy accounts add`, then remove this one"
    elif status == 404:
        advice = "this account has not that model: name another with --model"
    elif status is None:
        advice = "see what the checks of the network say above"
    else:
        advice = "Google has trouble of its own: again in some minutes"
    return fail(title, outcome.fault, advice)
