"""The limits that accounts have met, kept in limits.json across restarts and shared by processes on one folder.

    {"version": 1, "limits": [{"quota": "key-8f1f0ac3d2", "model": "gemini-2.5-pro", "until": 1795000000.0, ...}]}

No key is in it: accounts stand there by their ids, which are hashes. What the processes know is merged three ways (what
both knew, what we changed, what they changed) under a lock, so that nobody's news is lost; `accounts reset` is such a
change too. A file that cannot be read is as good as none: limits are learnt anew within a request.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import jsontext
from ..cooldowns import LEAST_KEPT_SECONDS, CoolDown, Key, from_rows, merge, to_rows
from ..errors import ConfigError
from .files import explained, locked, replace_file
from .watch import Stamp, stamp_of

FILE = "limits.json"
VERSION = 1
_LOCK_SECONDS = 5.0


class LimitsFile:
    """The limits.json of a home folder, as one process sees it. Its methods block: call them off the event loop."""

    def __init__(self, home: Path, *, lock_seconds: float = _LOCK_SECONDS) -> None:
        self.file = home / FILE
        self._lock_seconds = lock_seconds
        self._base: dict[Key, CoolDown] = {}

    def stamp(self) -> Stamp | None:
        """Changes with every change of the file."""
        return stamp_of(self.file)

    def load(self, now: float) -> dict[Key, CoolDown]:
        """The limits that hold by the file."""
        self._base = self._read(now)
        return dict(self._base)

    def sync(self, ours: dict[Key, CoolDown], now: float) -> dict[Key, CoolDown]:
        """Write what we changed since last time, and take what others did; what holds now. Raises ConfigError."""
        # What ends at once is no news to anybody else.
        kept = {k: c for k, c in ours.items() if k in self._base or c.until - now > LEAST_KEPT_SECONDS}

        def change(theirs: dict[Key, CoolDown]) -> dict[Key, CoolDown]:
            base = {key: value for key, value in self._base.items() if value.until > now}
            return merge(base, kept, theirs)

        self._base = self.update(change, now)
        return {key: value for key, value in ours.items() if key not in kept} | self._base

    def update(self, change: Callable[[dict[Key, CoolDown]], dict[Key, CoolDown]], now: float) -> dict[Key, CoolDown]:
        """Change what the file says, under the lock; what it says then. Raises ConfigError."""
        with explained(self.file, "cannot be written"):
            self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            target = Path(os.path.realpath(self.file))
            with locked(target, self._lock_seconds):
                before = self._read(now)
                after = change(before)
                if after != before or not self.file.exists():
                    text = json.dumps({"version": VERSION, "limits": to_rows(after)}, indent=1)
                    replace_file(target, text.encode("utf-8", "backslashreplace") + b"\n")
        return after

    def _read(self, now: float) -> dict[Key, CoolDown]:
        value: Any = None
        try:
            value = jsontext.loads(self.file.read_bytes())
        except (OSError, ValueError):
            return {}
        if not isinstance(value, dict) or value.get("version") != VERSION or not isinstance(value.get("limits"), list):
            return {}
        return from_rows(value["limits"], now)


def keep(file: LimitsFile, ours: dict[Key, CoolDown], now: float, warn: Callable[[str], None]) -> dict[Key, CoolDown]:
    """`sync` where a folder that cannot be written is told and no reason to stop: the limits we know hold on."""
    try:
        return file.sync(ours, now)
    except ConfigError as error:
        warn(f"{error}. Limits are not kept across a restart")
        return ours
