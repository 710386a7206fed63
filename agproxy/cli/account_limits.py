"""`agproxy accounts status` and `reset`: what limits.json says of the accounts, which a running gateway shares."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import accounts
from ..accounts import Entry
from ..cooldowns import CoolDown, Key
from ..io.limits import LimitsFile
from . import colour, term

_GREEN = "32"


def quota_of(entry: Entry) -> str:
    """Whose limits an account shares."""
    return accounts.account_of(entry).quota if entry.is_known else entry.record.id


def status(options: argparse.Namespace, entries: Sequence[Entry], home: Path) -> int:
    """Each account and the limits that hold for it."""
    now = time.time()
    limits = LimitsFile(home).load(now)
    rows = [(entry, _limits_of(entry, limits)) for entry in entries]
    if options.json:
        print(json.dumps([_shown(entry, found, now) for entry, found in rows], indent=2, ensure_ascii=False))
        return 0
    cells: list[list[term.Cell]] = []
    for entry, found in rows:
        name: list[term.Cell] = [(entry.record.id, colour.BOLD), (term.plain(entry.record.label) or "-", "")]
        if not entry.record.is_enabled:
            cells.append([*name, ("disabled", colour.YELLOW), ("-", ""), ("-", ""), (_plain_reason(entry), "")])
        elif not found:
            cells.append([*name, ("ready", _GREEN), ("-", ""), ("-", ""), ("", "")])
        for (_, model), limit in found if entry.record.is_enabled else ():
            wait = _wait(limit.until - now)
            told: list[term.Cell] = [("limited", colour.YELLOW), (term.plain(model), ""), (wait, "")]
            cells.append([*name, *told, (limit.cause.value, "")])
    print(term.table(("ID", "LABEL", "STATE", "MODEL", "FOR", "WHY"), cells, sys.stdout))
    return 0


def _plain_reason(entry: Entry) -> str:
    return term.plain(entry.record.disabled_reason)


def _limits_of(entry: Entry, limits: dict[Key, CoolDown]) -> list[tuple[Key, CoolDown]]:
    names = {entry.record.id, quota_of(entry)}
    return sorted((pair for pair in limits.items() if pair[0][0] in names), key=lambda pair: pair[0])


def _wait(seconds: float) -> str:
    minutes, rest = divmod(max(round(seconds), 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s" if minutes else f"{rest}s"


def _shown(entry: Entry, found: list[tuple[Key, CoolDown]], now: float) -> dict[str, Any]:
    return {
        "id": entry.record.id,
        "label": entry.record.label,
        "enabled": entry.record.is_enabled,
        "disabled_reason": entry.record.disabled_reason or None,
        "limits": [
            {
                "model": model,
                "seconds": round(limit.until - now, 1),
                "cause": limit.cause.name.lower(),
                "message": limit.message,
            }
            for (_, model), limit in found
        ],
    }


def reset(chosen: Sequence[Entry] | None, home: Path) -> int:
    """Forget the limits of some accounts, or of all; a running gateway takes that over within a second or two."""
    names = None if chosen is None else {name for entry in chosen for name in (entry.record.id, quota_of(entry))}
    forgotten: list[Key] = []

    def change(found: dict[Key, CoolDown]) -> dict[Key, CoolDown]:
        forgotten.extend(key for key in found if names is None or key[0] in names)
        return {key: value for key, value in found.items() if key not in forgotten}

    LimitsFile(home).update(change, time.time())
    for quota, model in forgotten:
        print(f"forgotten: the limit of {term.plain(quota)} for {term.plain(model)}")
    if not forgotten:
        print("there was no limit to forget")
    return 0
