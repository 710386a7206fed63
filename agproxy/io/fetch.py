"""Fetches the images and files that a request names by an http(s) URL, and nothing that it should not reach.

A client may name any URL, and what comes back is shown to a model whose answer the client reads: so this must never
be a way to what only the gateway's machine can see. The rules, each with its test:

- only http and https, no user name in the URL, port 80, 443 or a high one that is not known for something else;
- a name is resolved once, every one of its addresses must be public, and the connection goes to those addresses:
  the resolver is a part of the dialler, so that there is no second look-up that could say something else;
- at most three redirects, each judged anew, none from https to http;
- behind a proxy, which resolves names itself, nothing is fetched unless a setting says so;
- size after decompression, time in all, files of one request and files at once are bounded;
- the type is read from the bytes; what is no image, sound, video, PDF or plain text is refused;
- no cookies, no credentials, no referrer; bodies and URLs are in no log.

Refusals are the client's 400 `invalid_image_url`. They name the host at most: no query, which may be a signature, and
no address, which would tell of the network. Knows no API's JSON.
"""

import asyncio
import base64
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urljoin

from .. import __version__
from ..config import Config
from ..errors import InvalidRequest, Overloaded, UpstreamFailed
from ..http11 import Call, UpstreamReply, find
from .addresses import Address, BadUrl, Target, as_address, is_own_network, is_public, parse_target, unwrapped
from .client import Client
from .names import Names
from .proxy import ProxyRules
from .sniff import HEAD_BYTES, TEXT_TYPES, media_type, text_type

log = logging.getLogger("agproxy.fetch")

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

CODE = "invalid_image_url"
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 3
_MOST_ADDRESSES = 8
_MOST_WAITING = 20  # files, for each one that may be fetched at once
_HEADERS = (("user-agent", f"agproxy/{__version__}"), ("accept", "*/*"), ("connection", "close"))


class _Refused(Exception):
    """The file is not fetched, or not taken; the message says why."""


class _Room:
    """How many bytes the files of one request may still take up."""

    def __init__(self, size: int) -> None:
        self.left = size

    def take(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise _Refused("with the other files of the request it is too large")


class Fetcher:
    """Fetches files. One serves all requests; `close` cuts what is under way.

    resolve: the addresses of a name as text; the system's by default. is_allowed: which addresses may be reached, for
    tests, which have nothing but loopback. Raises ConfigError where the proxy settings cannot be used.
    """

    def __init__(
        self, config: Config, *, resolve: Resolve | None = None, is_allowed: Callable[[Address], bool] = is_public
    ) -> None:
        seconds = config.fetch_timeout_seconds
        limited = replace(
            config,
            allow_plain_http=True,
            connect_timeout_seconds=min(seconds, config.connect_timeout_seconds),
            first_byte_timeout_seconds=seconds,
            upstream_idle_timeout_seconds=seconds,
            total_timeout_seconds=seconds,
            max_upstream_body_bytes=config.fetch_max_bytes,
        )
        self._config = config
        self._names = Names()  # not those of upstream's clients: here strangers choose what is looked up
        self._resolve = resolve or self._look_up
        self._is_allowed = is_allowed
        self._rules = ProxyRules(config.upstream_proxy, os.environ)
        # Its hosts are the client's choice, under the rules above: no list of the configuration's has them.
        self._direct = Client(limited, None, self._checked_addresses)
        self._proxied = Client(limited, None)
        self._places = asyncio.Semaphore(config.fetch_max_concurrent)
        self._waiting = 0
        self._private_hosts = frozenset(
            str(as_address(host) or host.lower().removesuffix(".")) for host in config.fetch_private_hosts
        )

    async def fetch(self, url: str, param: str) -> tuple[str, str]:
        """(MIME type, base64 text) of a file. Raises InvalidRequest whose `param` is given, or Overloaded."""
        return await self._fetch(url, param, _Room(self._config.fetch_max_bytes))

    async def fetch_all(self, wanted: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """The files of one request's (URL, param) pairs, in their order; each URL is fetched once, all side by side.

        Together they may be as large as a request's body. The first that fails ends the others.
        """
        params: dict[str, str] = {}
        for url, param in wanted:
            params.setdefault(url, param)
        if len(params) > self._config.fetch_max_files:
            param = list(params.values())[self._config.fetch_max_files]
            raise _refusal(param, f"a request may name {self._config.fetch_max_files} files to fetch")
        room = _Room(self._config.max_body_bytes)
        # Half of all places at most: one request with many slow files does not keep out all others.
        turns = asyncio.Semaphore(max(1, self._config.fetch_max_concurrent // 2))

        async def fetch_one(url: str, param: str) -> tuple[str, str]:
            async with turns:
                return await self._fetch(url, param, room)

        tasks = {url: asyncio.ensure_future(fetch_one(url, param)) for url, param in params.items()}
        try:
            await asyncio.gather(*tasks.values())
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)
        return [tasks[url].result() for url, _ in wanted]

    async def close(self) -> None:
        """Cut every connection."""
        await self._direct.close()
        await self._proxied.close()

    # --- one file

    async def _fetch(self, url: str, param: str, room: _Room) -> tuple[str, str]:
        seconds = self._config.fetch_timeout_seconds
        async with self._place():
            try:
                async with asyncio.timeout(seconds):
                    name, body = await self._get(url, room)
            except TimeoutError:
                raise _refusal(param, f"it did not come within {seconds:g} s") from None
            except (_Refused, BadUrl) as refused:
                raise _refusal(param, str(refused)) from None
            except UpstreamFailed as failed:
                if failed.status == 503:  # the gateway is shutting down
                    raise
                raise _refusal(param, failed.message) from None
        log.debug("fetched a file: %s, %d bytes", name, len(body))
        return name, base64.b64encode(body).decode("ascii")

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """One of the places for files that are fetched at once. Others leave theirs in seconds: that is waited for."""
        if self._waiting >= _MOST_WAITING * self._config.fetch_max_concurrent:
            raise Overloaded("too many files are waiting to be fetched", retry_after_seconds=1)
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._places.release()

    async def _get(self, url: str, room: _Room) -> tuple[str, bytes]:
        target = parse_target(url)
        for _ in range(_MOST_REDIRECTS + 1):
            answer = await self._send(target)
            try:
                if answer.status not in _REDIRECTS:
                    return await self._read(answer, target, room)
                target = _redirected(target, find(answer.headers, "location"))
            finally:
                answer.close()
        raise _Refused(f"it is redirected more than {_MOST_REDIRECTS} times")

    async def _send(self, target: Target) -> UpstreamReply:
        call = Call(method="GET", url=target.url, body=b"", headers=_HEADERS)
        if self._rules.choose(target.scheme, target.host, target.port) is None:
            return await self._direct.send(call)
        if not self._config.fetch_through_proxy:
            raise _Refused(
                "the gateway is behind a proxy, which resolves names itself: fetching through it needs the setting "
                "fetch_through_proxy"
            )
        address = as_address(target.host)
        if address is not None and not self._may_reach(target.host, address):
            raise _Refused(f"{target.host} is no public address")
        try:
            return await self._proxied.send(call)
        except UpstreamFailed as failed:
            if failed.status == 503:
                raise
            raise _Refused(f"{target.host} could not be reached through the gateway's proxy") from None

    async def _read(self, answer: UpstreamReply, target: Target, room: _Room) -> tuple[str, bytes]:
        """The body of an answer, given up as soon as it shows that it will not be taken."""
        if answer.status != 200:
            raise _Refused(f"{target.host} answered with status {answer.status}")
        limit = self._config.fetch_max_bytes
        length = find(answer.headers, "content-length") or ""
        if length.isdecimal() and (len(length) > 18 or int(length) > limit):
            raise _Refused(f"it is over {limit} bytes")
        declared = find(answer.headers, "content-type")
        may_be_text = (declared or "").partition(";")[0].strip().lower() in TEXT_TYPES
        body = bytearray()

        def keep(data: bytes) -> None:
            was_known = len(body) >= HEAD_BYTES
            if len(body) + len(data) > limit:
                raise _Refused(f"it is over {limit} bytes")
            room.take(len(data))
            body.extend(data)
            if not was_known and len(body) >= HEAD_BYTES and not may_be_text and media_type(bytes(body)) is None:
                raise _Refused(_UNKNOWN)

        await answer.pump(keep)
        whole = bytes(body)
        name = media_type(whole[:HEAD_BYTES]) or text_type(whole, declared)
        if name is None:
            raise _Refused(_UNKNOWN if whole else "it is empty")
        return name, whole

    # --- addresses

    async def _look_up(self, host: str, port: int) -> Sequence[str]:
        """The addresses of a name, as the system knows them."""
        return [str(address[0]) for *_, address in await self._names.look_up(host, port)]

    async def _checked_addresses(self, host: str, port: int) -> list[tuple[int, Any]]:
        """For the dialler: what a host's name means, where all of it may be reached. There is no other look-up."""
        literal = as_address(host)
        found = [host] if literal is not None else await self._resolve(host, port)
        addresses = [address for text in found if (address := as_address(text)) is not None]
        if not addresses:
            raise _Refused(f"{host} has no address")
        if not all(self._may_reach(host, address) for address in addresses):
            # Not which: that would tell of names within the network.
            raise _Refused(f"{host} is not a public host")
        unique = dict.fromkeys(unwrapped(address) for address in addresses)
        families = {4: socket.AF_INET, 6: socket.AF_INET6}
        return [(families[address.version], (str(address), port)) for address in list(unique)[:_MOST_ADDRESSES]]

    def _may_reach(self, host: str, address: Address) -> bool:
        address = unwrapped(address)
        return self._is_allowed(address) or (host in self._private_hosts and is_own_network(address))


_UNKNOWN = "it is no image, sound, video, PDF or plain text that is known here"


def _redirected(target: Target, location: str | None) -> Target:
    """Where a redirect leads, judged like any other URL."""
    if location is None:
        raise _Refused(f"{target.host} redirects to nowhere")
    try:
        # Header values are latin-1 text here; on the wire they were UTF-8 if anything.
        url = urljoin(target.url, location.encode("latin-1").decode("utf-8"))
    except ValueError:
        raise _Refused(f"{target.host} redirects to something that is no URL") from None
    try:
        found = parse_target(url)
    except BadUrl as bad:
        raise _Refused(f"{target.host} redirects to a URL that is not fetched: {bad}") from None
    if target.scheme == "https" and found.scheme != "https":
        raise _Refused(f"{target.host} redirects from https to http")
    return found


def _refusal(param: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"Invalid '{param}': the file cannot be fetched: {why}.", code=CODE, param=param)
