"""What a supervisor tells a worker by its environment."""

import asyncio
import json
import os
import select
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass

from ..errors import ConfigError
from ..io.beside import beside

VARIABLE = "AGPROXY_WORKER"
_BEAT_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a worker is told: its number among so many, its name, the folder that all share, and descriptors: its
    listening sockets, a pipe to say that it is ready, and one that ends when the supervisor does."""

    index: int
    count: int
    name: str
    folder: str
    listeners: tuple[int, ...]
    ready: int
    lifeline: int

    def to_text(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "Place | None":
        """The place of this process; None where it is no worker. Raises ConfigError for what no supervisor wrote."""
        text = environ.get(VARIABLE)
        if not text:
            return None
        try:
            told = json.loads(text)
            return cls(**{**told, "listeners": tuple(told["listeners"])})
        except (ValueError, TypeError, KeyError):
            raise ConfigError(f"{VARIABLE} is for agproxy's own use: unset it") from None

    def sockets(self) -> list[socket.socket]:
        """The listening sockets that were handed over."""
        return [socket.socket(fileno=descriptor) for descriptor in self.listeners]

    @property
    def is_orphan(self) -> bool:
        """Whether the supervisor has died."""
        return bool(select.select([self.lifeline], [], [], 0)[0])

    @asynccontextmanager
    async def beating(self) -> AsyncIterator[Callable[[], None]]:
        """Within the block the supervisor hears of this worker every few seconds, from when what is given is called,
        by which it knows that the worker serves."""
        serves = asyncio.Event()

        async def beat() -> None:
            await serves.wait()
            with suppress(OSError):  # the supervisor has died, which the lifeline tells
                while True:
                    os.write(self.ready, b".")
                    await asyncio.sleep(_BEAT_SECONDS)

        # The descriptor is closed by the end of the process: by that the supervisor knows of it.
        async with beside(beat(), "telling the supervisor of this worker"):
            yield serves.set
