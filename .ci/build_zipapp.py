"""Build dist/agproxy.pyz: agproxy with h11 and certifi in one file that any Python from 3.11 on runs.

    python .ci/build_zipapp.py [FILE]

The same source gives the same bytes on any day, in any time zone and in any folder: entries are sorted, their time
and modes are fixed, nothing is compressed (zlib and zlib-ng compress differently), and file names in compiled code
are those inside the archive. The sha256 is printed with the versions that went in; they belong to it, and so does the
Python that builds.

Python does not cache what it compiles out of an archive, and compiling takes 0.3 s at every start. So each module is
there twice: as source, and compiled by the Python that builds. A Python of another version uses the source.
"""

import hashlib
import importlib.metadata
import importlib.util
import io
import marshal
import platform
import struct
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("h11", "certifi")
TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip file can hold
SHEBANG = b"#!/usr/bin/env python3\n"
MAIN = b"""\
import sys

if sys.version_info < (3, 11):
    sys.exit("agproxy needs Python 3.11 or newer, this is " + sys.version.split()[0])

from agproxy.cli import main

sys.exit(main())
"""
SUFFIXES = (".py", ".pem", ".typed", ".json", ".txt", ".html", ".css", ".js", ".svg")
# From 3 on, marshal marks what is used more than once, which depends on what else lives in the process. Python 3.14
# has constants that version 2 cannot hold.
MARSHAL_VERSION = 2 if sys.version_info < (3, 14) else marshal.version
_UNCHECKED_HASH = 1  # PEP 552: the compiled form holds without a look at the source's time


def folder_of(package: str) -> Path:
    if package == "agproxy":
        return ROOT / package
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"{package} is not installed: run `make zipapp`, which installs it")
    return Path(next(iter(spec.submodule_search_locations)))


def sources() -> dict[str, bytes]:
    """What goes in, by its name in the archive. Editors' and tools' leavings stay out."""
    found = {"__main__.py": MAIN, "licenses/agproxy": (ROOT / "LICENSE").read_bytes()}
    for package in ("agproxy", *PARTS):
        folder = folder_of(package)
        for file in folder.rglob("*"):
            path = file.relative_to(folder)
            if (
                file.suffix in SUFFIXES
                and file.is_file()
                and not any(part.startswith((".", "__py")) for part in path.parts)
            ):
                found[f"{package}/{path.as_posix()}"] = file.read_bytes()
    for package in PARTS:
        for file in importlib.metadata.files(package) or ():
            if file.name.upper().startswith(("LICENSE", "COPYING")):
                found[f"licenses/{package}"] = file.read_binary()
    return found


def compiled(name: str, source: bytes) -> bytes:
    """The .pyc of a module (PEP 552)."""
    code = compile(source, name, "exec", dont_inherit=True, optimize=0)
    head = importlib.util.MAGIC_NUMBER + struct.pack("<L", _UNCHECKED_HASH) + importlib.util.source_hash(source)
    return head + marshal.dumps(code, MARSHAL_VERSION)


def build() -> bytes:
    """The archive."""
    entries = sources()
    for name, source in list(entries.items()):
        if name.endswith(".py") and name != "__main__.py":
            entries[name + "c"] = compiled(name, source)
    buffer = io.BytesIO()
    buffer.write(SHEBANG)
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in sorted(entries.items()):
            info = zipfile.ZipInfo(name, TIME)
            info.create_system = 3  # Unix, on whatever system this runs
            info.external_attr = 0o644 << 16
            archive.writestr(info, data)
    return buffer.getvalue()


def main(arguments: list[str]) -> None:
    target = Path(arguments[0]) if arguments else ROOT / "dist" / "agproxy.pyz"
    target.parent.mkdir(parents=True, exist_ok=True)
    data = build()
    target.write_bytes(data)
    target.chmod(0o755)
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in PARTS)
    print(f"{hashlib.sha256(data).hexdigest()}  {target}")
    print(f"{len(data)} bytes; with {versions}, compiled by Python {platform.python_version()}", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
