"""Build dist/agproxy.pyz: agproxy with h11 and certifi in one file that any Python 3.11+ runs.

The same source gives the same bytes on any day and in any time zone: entries are sorted, their time is fixed, their
modes are fixed. The sha256 is printed.
"""

import hashlib
import importlib.util
import io
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("agproxy", "certifi", "h11")
TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip file can hold
MAIN = b"import sys\nfrom agproxy.cli import main\nsys.exit(main())\n"


def folder_of(package: str) -> Path:
    if package == "agproxy":
        return ROOT / package
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"{package} is not installed: run `make zipapp`, which installs it")
    return Path(next(iter(spec.submodule_search_locations)))


def entries() -> dict[str, bytes]:
    found = {"__main__.py": MAIN}
    for package in PACKAGES:
        folder = folder_of(package)
        for file in folder.rglob("*"):
            relative = file.relative_to(folder)
            if file.is_file() and "__pycache__" not in relative.parts and "tests" not in relative.parts:
                found[f"{package}/{relative.as_posix()}"] = file.read_bytes()
    return found


def main() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in sorted(entries().items()):
            info = zipfile.ZipInfo(name, TIME)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3
            info.external_attr = 0o644 << 16
            archive.writestr(info, data)
    target = ROOT / "dist" / "agproxy.pyz"
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(b"#!/usr/bin/env python3\n" + buffer.getvalue())
    target.chmod(0o755)
    print(f"{hashlib.sha256(target.read_bytes()).hexdigest()}  {target.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
