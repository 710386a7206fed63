"""What workers have counted, kept for the time when they are gone: a file of each in the folder that they share.

A sum that a scraper has seen must never become less. So a worker writes down what it has counted before it tells it,
and once more at its end; whoever adds up takes the word of the workers that answer, and the files of the others. The
files of workers that are dead, and have been for a while, become one (gone), so that their number has a bound.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from .. import jsontext
from ..metrics import Data, merge

_SUFFIX = ".counted"
_GONE = "gone.json"
_FOLD = "counted"
# A worker that answered a scrape under way has written its file since: what is older than any scrape may be folded.
_REST_SECONDS = 60.0
_PAUSE_SECONDS = 0.005


class Claims(Protocol):
    """As `resources.Workers` has them."""

    def claim(self, key: str) -> Callable[[], None] | None: ...

    def holder(self, key: str) -> str | None: ...


class Handed:
    """The counts of the workers of one folder, seen by the one called `name`."""

    def __init__(self, folder: Path, name: str, claims: Claims, now: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._file = folder / f"{name}{_SUFFIX}"
        self._claims = claims
        self._now = now
        self._release = claims.claim(_alive(name))  # else held until this process is dead

    def write(self, counted: Data) -> None:
        """Write down what this worker has counted."""
        _replace(self._file, jsontext.dumps(counted))

    def close(self, counted: Data) -> None:
        """This worker leaves, and this is all that it has counted."""
        self.write(counted)
        if self._release is not None:
            self._release()

    async def others(self, answered: Iterable[str]) -> list[Data]:
        """What was counted by all workers but this one and those that have answered."""
        known = {f"{name}{_SUFFIX}" for name in answered} | {self._file.name}
        while (release := self._claims.claim(_FOLD)) is None:  # another adds up: that takes milliseconds
            await asyncio.sleep(_PAUSE_SECONDS)
        try:
            return self._read(known)
        finally:
            release()

    def _read(self, known: set[str]) -> list[Data]:
        gone_file = self._folder / _GONE
        gone = jsontext.loads(gone_file.read_bytes()) if gone_file.exists() else {"files": [], "counted": {}}
        there: list[Data] = []
        folded: list[Path] = []
        for file in sorted(self._folder.glob(f"*{_SUFFIX}")):
            if file.name in gone["files"]:
                file.unlink()  # whoever folded it died before it could
                continue
            if file.name in known:
                continue
            there.append(jsontext.loads(file.read_bytes()))
            is_old = self._now() - file.stat().st_mtime > _REST_SECONDS
            if is_old and self._claims.holder(_alive(file.name.removesuffix(_SUFFIX))) is None:
                folded.append(file)
        total = [gone["counted"], *there]
        if folded:
            parts = (jsontext.loads(file.read_bytes()) for file in folded)
            told = {"files": [file.name for file in folded], "counted": merge([gone["counted"], *parts])}
            _replace(gone_file, jsontext.dumps(told))
            for file in folded:
                file.unlink()
        return total


def _alive(name: str) -> str:
    return f"alive\0{name}"


def _replace(file: Path, data: bytes) -> None:
    """In one step. The folder ends with its supervisor: nothing in it has to outlast a power cut."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    temporary.write_bytes(data)
    temporary.replace(file)
