"""What a supervisor tells a worker by its environment."""

import json
import os
import select
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from ..errors import ConfigError

VARIABLE = "AGPROXY_WORKER"


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

    def say_ready(self) -> None:
        """Tell the supervisor that this worker serves."""
        os.write(self.ready, b"1")
        os.close(self.ready)
