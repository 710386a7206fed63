"""One process among several that serve one address together: who works on what, and requests handed to another.

The supervisor gives its workers a folder that nobody else can enter. There is a Unix socket of each worker in it, a
file for each piece of work that one of them has taken (a run, a conversation's turn), and a database for what they
must know together. A claim is a file that its holder keeps locked: the operating system lets go of it when the holder
dies, so that no claim outlives its process.

Knows sockets, files and HTTP; must not know any API's JSON. POSIX only, as workers are.
"""

import asyncio
import hashlib
import logging
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import jsontext
from ..config import Config
from ..errors import StateUnavailable, UpstreamFailed
from ..http11 import HOP_BY_HOP, JSON, Call, Handler, HttpRequest, HttpResponse, Reply
from .client import Client
from .files import try_lock

log = logging.getLogger("agproxy.workers")

# What a forwarded request says of the one that came: nobody but a worker reaches a worker's socket.
_ID, _PEER, _HOST = "x-agproxy-id", "x-agproxy-peer", "x-agproxy-host"
_OURS = frozenset({_ID, _PEER, _HOST})
_NOT_FORWARDED = HOP_BY_HOP | _OURS | {"host", "content-length", "content-encoding", "accept-encoding", "expect"}
_NOT_RELAYED = HOP_BY_HOP | {"date", "x-request-id"}
_HERE = ".localhost"  # so that no proxy of the environment is asked
_PUBLISHED = "/workers/"  # of a worker's own socket
_ASK_SECONDS = 1.0
_DATABASE = "shared.sqlite3"


class Worker:
    """This process's place among the workers. folder: what they share; name: this one's, index and count: its number
    among so many."""

    def __init__(self, folder: Path, name: str, index: int, count: int, config: Config) -> None:
        self.name = name
        self.index = index
        self.count = count
        self.folder = folder
        self.database = folder / _DATABASE
        self._sources: dict[str, Callable[[], Any]] = {}
        # No list of hosts: it can resolve nothing but sockets of this folder.
        self._client = Client(replace(config, upstream_proxy=""), None, self._resolve)

    @property
    def socket_path(self) -> Path:
        """Where this worker can be asked by the others."""
        return self.folder / f"{self.name}.sock"

    async def close(self) -> None:
        """Let go of the connections to the others."""
        await self._client.close()
        self.socket_path.unlink(missing_ok=True)

    # --- claims

    def claim(self, key: str) -> Callable[[], None] | None:
        """Take a piece of work, until what is returned is called; None where it is taken."""
        file = self._file(key)
        while True:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
            if not try_lock(descriptor):
                os.close(descriptor)
                return None
            if _is_open_file(descriptor, file):
                break
            os.close(descriptor)  # its last holder removed it before we had it
        try:
            os.ftruncate(descriptor, 0)  # of a holder that died
            os.write(descriptor, self.name.encode())
        except OSError as error:
            os.close(descriptor)
            raise StateUnavailable(f"The folder of the workers cannot be written: {error.strerror}.") from None

        def release() -> None:
            file.unlink(missing_ok=True)
            os.close(descriptor)

        return release

    def holder(self, key: str) -> str | None:
        """The name of the other worker that has taken a piece of work; None where nobody has, or this one."""
        try:
            descriptor = os.open(self._file(key), os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            if try_lock(descriptor):
                return None  # whoever had it is dead
            name = os.read(descriptor, 100).decode()
        finally:
            os.close(descriptor)
        return name if name and name != self.name else None

    def _file(self, key: str) -> Path:
        return self.folder / f"{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()}.claim"

    # --- requests

    async def forward(self, holder: str, request: HttpRequest, reply: Reply) -> None:
        """Have another worker answer a request. Raises UpstreamFailed where it has gone, perhaps in the middle."""
        headers = tuple(pair for pair in request.headers if pair[0] not in _NOT_FORWARDED)
        target = request.path + (f"?{request.query}" if request.query else "")
        call = Call(
            method=request.method,
            url=f"http://{holder}{_HERE}{target}",
            body=request.body,
            headers=(
                *headers,
                ("accept-encoding", "identity"),
                (_ID, request.id),
                (_PEER, request.peer),
                (_HOST, request.header("host") or ""),
            ),
        )
        answer = await self._client.send(call)
        try:
            reply.start(answer.status, tuple(pair for pair in answer.headers if pair[0] not in _NOT_RELAYED))
            await answer.pump(reply.write, reply)
        finally:
            answer.close()
        reply.end()

    # --- what all know together

    def publish(self, name: str, source: Callable[[], Any]) -> None:
        """Let the other workers `gather` what `source` gives, as JSON."""
        self._sources[name] = source

    async def gather(self, name: str) -> list[Any]:
        """What each of the other workers publishes under a name; one that has just gone is left out."""
        others = [file.stem for file in self.folder.glob("*.sock") if file != self.socket_path]
        answers = await asyncio.gather(*(self._ask(other, name) for other in others))
        return [answer for answer in answers if answer is not None]

    async def _ask(self, other: str, name: str) -> Any:
        call = Call(method="GET", url=f"http://{other}{_HERE}{_PUBLISHED}{name}", body=b"", headers=())
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                answer = await self._client.send(call)
                try:
                    data = await answer.read()
                finally:
                    answer.close()
        except (UpstreamFailed, TimeoutError) as error:
            log.warning("worker %s was not heard: %s", other, error or "it is silent")
            return None
        return jsontext.loads(data) if answer.status == 200 else None

    def handling(self, handler: Handler) -> Handler:
        """The handler of this worker's own socket: requests as they came to the worker that forwarded them, and what is
        published."""

        async def handle(request: HttpRequest, reply: Reply) -> None:
            if request.path.startswith(_PUBLISHED):
                source = self._sources.get(request.path.removeprefix(_PUBLISHED))
                body = b"null" if source is None else jsontext.dumps(source())
                reply.send(HttpResponse(status=200, headers=(("content-type", JSON),), body=body))
                return
            request.id = request.header(_ID) or request.id
            request.peer = request.header(_PEER) or request.peer
            host = request.header(_HOST) or ""
            others = tuple(pair for pair in request.headers if pair[0] not in _OURS and pair[0] != "host")
            request.headers = (("host", host), *others) if host else others
            await handler(request, reply)

        return handle

    async def _resolve(self, host: str, port: int) -> list[tuple[int, Any]]:
        if sys.platform == "win32":
            raise OSError("no workers here")
        return [(socket.AF_UNIX, str(self.folder / f"{host.removesuffix(_HERE)}.sock"))]


def _is_open_file(descriptor: int, file: Path) -> bool:
    """Whether a path still leads to the file that is open."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(file))
    except FileNotFoundError:
        return False
