"""Checks of this machine alone: Python, the home folder and the files in it, the settings. Nothing is changed but
permissions that let others read keys, which reading accounts.json mends wherever it is read.
"""

import contextlib
import importlib
import os
import platform
import shutil
import stat
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from .. import jsontext
from ..accounts import Entry
from ..config import Loaded, check_served
from ..errors import ConfigError
from ..io import limits, state
from ..io.store import ACCOUNTS_FILE, KeyStore
from ..keys import Ring
from .finding import Finding, fail, ok, skipped, warn
from .version import PARTS

_LEAST_PYTHON = (3, 11)
_LEAST_FREE_BYTES = 64 << 20  # what state.sqlite3 writes beside itself before it tidies up
_ADD_ACCOUNT = "agproxy accounts add, or set GEMINI_API_KEY; --simulate on tries it without"


def python() -> Finding:
    """The interpreter, and the two packages that agproxy needs."""
    version = platform.python_version()
    if sys.version_info < _LEAST_PYTHON:
        return fail("python", f"Python {version}", "install Python 3.11 or newer, and run agproxy with that")
    parts = [f"Python {version}"]
    for name in PARTS:
        try:
            parts.append(f"{name} {importlib.import_module(name).__version__}")
        except ModuleNotFoundError:
            return fail("python", f"{name} is missing", f"pip install {name}")
    return ok("python", ", ".join(parts))


def home_folder(home: Path) -> Finding:
    """The folder of settings and state: there, ours, closed to others, with room on its disk."""
    name = "home folder"
    try:
        seen = home.stat()
    except FileNotFoundError:
        return ok(name, f"{home} is not there yet; it is made when something is kept")
    except OSError as error:
        return fail(name, f"{home}: {error.strerror}", "see to its permissions, or name another with --home")
    if not stat.S_ISDIR(seen.st_mode):
        return fail(name, f"{home} is no folder", "name a folder with --home or AGPROXY_HOME")
    if not os.access(home, os.R_OK | os.W_OK | os.X_OK):
        return fail(name, f"{home} cannot be written by this user", "see to its owner, or name another with --home")
    with contextlib.suppress(OSError):
        free = shutil.disk_usage(home).free
        if free < _LEAST_FREE_BYTES:
            return fail(name, f"{home}: {free >> 20} MB are left on its disk", "make room, or --state off")
    if _is_open(seen.st_mode):
        return warn(name, f"{home}: others can look into it (mode {_mode(seen.st_mode)})", f"chmod 700 {home}")
    return ok(name, str(home))


def config_file(home: Path, loaded: Loaded | None, problem: str) -> Finding:
    """config.json and all else that settings come from. problem: why they could not be read, or nothing."""
    name = "settings"
    if loaded is None:
        return fail(name, problem, "mend that setting; `agproxy serve --help` lists them all")
    if loaded.warnings:
        return warn(name, "; ".join(loaded.warnings), "correct the name, or take it out: it has no effect")
    file = home / "config.json"
    try:
        mode = file.stat().st_mode
    except OSError:
        return ok(name, f"no config.json; {_count_set(loaded)} set elsewhere")
    if _is_open(mode):
        found = f"{file}: others can read it (mode {_mode(mode)}), and it may hold keys"
        return warn(name, found, f"chmod 600 {file}")
    return ok(name, f"{file}; {_count_set(loaded)} set")


def _count_set(loaded: Loaded) -> str:
    count = sum(source != "default" for source in loaded.sources.values())
    return f"{count} setting{'' if count == 1 else 's'}"


def conflicts(loaded: Loaded, home: Path) -> Finding:
    """Whether a gateway would start with these settings and these client keys."""
    try:
        ring = Ring(KeyStore(home, lambda _: None).load().keys)
        config = ring.govern(loaded.config)
        check_served(config, has_keys=bool(ring))
    except ConfigError as error:
        problem, _, advice = str(error).rpartition(": ")
        return fail("start", problem or str(error), advice if problem else "see `agproxy config`")
    if loaded.config.tls_cert:
        from ..io.tls import server_context  # here, so that only who has certificates loads TLS

        try:
            server_context(loaded.config.tls_cert, loaded.config.tls_key)
        except ConfigError as error:
            return fail("start", str(error), "name a certificate and its key, PEM, which this user can read")
    return ok("start", f"a gateway starts with these settings; auth mode {config.effective_auth_mode}")


def accounts(home: Path, entries: Sequence[Entry] | None, notices: Sequence[str], *, is_simulated: bool) -> Finding:
    """The accounts that there are. entries: None where the file cannot be read, for the reason in notices."""
    name = "accounts"
    if entries is None:
        return fail(name, "; ".join(notices), "mend the file, or move it away and add the accounts anew")
    if is_simulated:
        return ok(name, "answers are simulated: none is needed")
    if not entries:
        return fail(name, "there is none", _ADD_ACCOUNT)
    used = [entry for entry in entries if entry.record.is_enabled and entry.is_known]
    if not used:
        return fail(name, f"none of {len(entries)} is in use", "agproxy accounts enable ID, or accounts add")
    unknown = [entry.name for entry in entries if entry.record.is_enabled and not entry.is_known]
    if unknown:
        return warn(name, f"of a kind that this version does not know: {', '.join(unknown)}", "update agproxy")
    if notices:
        return warn(name, "; ".join(notices), "nothing more, unless others may have read the keys: then make new ones")
    stored = sum(entry.is_stored for entry in used)
    where = f"{len(used)} in use, {stored} of {home / ACCOUNTS_FILE}"
    return ok(name, f"{where}, {len(used) - stored} of the environment")


def limits_file(home: Path, now: float) -> Finding:
    """limits.json: readable, and which limits hold."""
    name, file = "limits.json", home / limits.FILE
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return ok(name, "no limit is known")
    except OSError as error:
        return fail(name, f"{file}: {error.strerror}", "see to its owner and permissions")
    try:
        value = jsontext.loads(data)
    except ValueError:
        value = None
    if not isinstance(value, dict) or value.get("version") != limits.VERSION:
        return warn(
            name, f"{file}: not what this version writes, so it is not used", "delete it: limits are learnt anew"
        )
    held = limits.LimitsFile(home).load(now)
    if not held:
        return ok(name, "no limit holds")
    longest = max(limit.until for limit in held.values()) - now
    found = f"{len(held)} limit{'s hold, the longest' if len(held) > 1 else ' holds,'} for {longest:.0f} s"
    return warn(name, found, "`agproxy accounts status` tells them; wait, or add an account")


def state_file(home: Path, *, is_kept: bool) -> Finding:
    """state.sqlite3: a database of a format that this version knows. Opened for reading only."""
    import sqlite3

    name, file = state.FILE, home / state.FILE
    if not is_kept:
        return skipped(name, "state is off: nothing is kept")
    if not file.exists():
        return ok(name, "nothing is kept yet")
    try:
        with contextlib.closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True, timeout=2)) as database:
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version:
                database.execute("SELECT id FROM records LIMIT 1").fetchall()
    except sqlite3.Error as error:
        return fail(name, f"{file}: {error}", "move it away: the gateway begins a new one, without earlier responses")
    if version > state.VERSION:
        return fail(name, f"{file}: written by a newer agproxy", "update agproxy, or name another folder with --home")
    mode = file.stat().st_mode
    if _is_open(mode):
        return warn(name, f"{file}: others can read it (mode {_mode(mode)})", f"chmod 600 {file}")
    return ok(name, f"{file}, {file.stat().st_size / (1 << 20):.1f} MB, last used {_when(file.stat().st_mtime)}")


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _is_open(mode: int) -> bool:
    return sys.platform != "win32" and bool(mode & 0o077)  # Windows keeps an access list instead


def _mode(mode: int) -> str:
    return f"{stat.S_IMODE(mode):04o}"
