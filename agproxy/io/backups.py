"""Files of other programs, changed with a way back.

A change leaves a backup beside the file: NAME.agproxy-TIME-HASH.bak with what was there, or .none where nothing was.
TIME is UTC to the microsecond, so that names sort by age; HASH are eight digits of the SHA-256 of what was written, by
which `undo` sees whether somebody has changed the file since: then it is theirs, and stays.
"""

import hashlib
import os
import re
import stat
import sys
import time
from pathlib import Path

from ..errors import ConfigError
from .files import explained, replace_file, write_new

_MOST_BYTES = 4 << 20


def read(file: Path) -> str | None:
    """The text of a file, or None where there is none. Raises ConfigError."""
    with explained(file, "cannot be read"):
        try:
            with file.open("rb") as stream:
                data = stream.read(_MOST_BYTES + 1)
        except FileNotFoundError:
            return None
    if len(data) > _MOST_BYTES:
        raise ConfigError(f"{file}: over {_MOST_BYTES} bytes, which is no file of settings")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: not text in UTF-8, so it was left as it is") from None


def write(file: Path, text: str, *, is_private: bool) -> Path:
    """Put a text in the file's place, in one step; the backup's path. is_private: nobody else may read it from now on,
    else the old permissions hold, and a new file is its owner's alone. Raises ConfigError."""
    target = Path(os.path.realpath(file))  # a link, as dotfiles often are, stays one
    data = text.encode("utf-8")
    with explained(file, "cannot be written"):
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = _mode(target)
        old = target.read_bytes() if mode is not None else None
        backup = _backup_name(target, data, ".bak" if old is not None else ".none")
        write_new(backup, old or b"")
        if mode is not None:
            _set_mode(backup, mode)
        replace_file(target, data)
        if mode is not None and not is_private:
            _set_mode(target, mode)
    return backup


def undo(file: Path) -> Path | None:
    """Take back the last change; the backup that served, None where there is none. Raises ConfigError where the file
    was changed since."""
    target = Path(os.path.realpath(file))
    with explained(file, "cannot be restored"):
        backup = _newest(target)
        if backup is None:
            return None
        now = target.read_bytes() if target.exists() else b""
        if _hash(now) != backup.stem.rpartition("-")[2]:
            raise ConfigError(
                f"{file}: was changed since agproxy wrote it, and was left: what was before is in {backup}"
            )
        if backup.suffix == ".none":
            target.unlink()
        else:
            replace_file(target, backup.read_bytes())
            mode = _mode(backup)
            assert mode is not None
            _set_mode(target, mode)
        backup.unlink()
    return backup


def _backup_name(target: Path, data: bytes, suffix: str) -> Path:
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    when = time.strftime("%Y%m%dT%H%M%S", time.gmtime(seconds)) + f".{nanoseconds // 1000:06}Z"
    return target.with_name(f"{target.name}.agproxy-{when}-{_hash(data)}{suffix}")


def _newest(target: Path) -> Path | None:
    pattern = re.compile(re.escape(target.name) + r"\.agproxy-\d{8}T\d{6}\.\d{6}Z-[0-9a-f]{8}\.(?:bak|none)")
    try:
        names = [name for name in os.listdir(target.parent) if pattern.fullmatch(name)]
    except FileNotFoundError:
        return None
    return target.with_name(max(names)) if names else None


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:8]


def _mode(file: Path) -> int | None:
    try:
        return stat.S_IMODE(os.stat(file).st_mode)
    except FileNotFoundError:
        return None


def _set_mode(file: Path, mode: int) -> None:
    if sys.platform != "win32":
        os.chmod(file, mode)
