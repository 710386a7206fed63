"""Clients that others wrote: where they are found, and how they run without touching this machine's own settings.

Python libraries are imported by the interpreter that runs the tests (`pytest tests/interop` in an environment of
theirs that also has pytest). Commands are looked for beside that interpreter, in the environments of the folder
AGPROXY_INTEROP (each FOLDER/*/bin), and on PATH; npm packages in the `node_modules` of the folder
AGPROXY_INTEROP_NODE, else of AGPROXY_INTEROP/node. What is not found is a skip that says what to install.
"""

import os
import shutil
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PATIENCE_SECONDS = 120.0
# Anything that is asked for beyond this machine goes to a proxy that is not there.
NO_WAY_OUT = {
    "HTTP_PROXY": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "http_proxy": "http://127.0.0.1:9",
    "https_proxy": "http://127.0.0.1:9",
    "NO_PROXY": "127.0.0.1,localhost",
    "no_proxy": "127.0.0.1,localhost",
}


def library(name: str, package: str) -> Any:
    """The module, or a skip of the whole test file. What it warns of when it is imported is not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason=f"{name} is not installed: pip install {package}")


def command(name: str, package: str) -> str:
    """The path of a command, or a skip."""
    folders = [Path(sys.executable).parent]
    if os.environ.get("AGPROXY_INTEROP"):
        folders += sorted(Path(os.environ["AGPROXY_INTEROP"]).glob("*/bin"))
    found = next((str(folder / name) for folder in folders if (folder / name).is_file()), None) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: pip install {package} in an environment in the folder AGPROXY_INTEROP")
    return found


def node_modules(*packages: str) -> Path:
    """The `node_modules` folder that has these packages, or a skip."""
    interop = os.environ.get("AGPROXY_INTEROP")
    folder = os.environ.get("AGPROXY_INTEROP_NODE") or (f"{interop}/node" if interop else "")
    if not folder or shutil.which("node") is None:
        pytest.skip(f"needs node, and in the folder AGPROXY_INTEROP_NODE: npm install {' '.join(packages)}")
    found = Path(folder) / "node_modules"
    missing = [package for package in packages if not (found / package / "package.json").is_file()]
    if missing:
        pytest.skip(f"in {folder}: npm install {' '.join(missing)}")
    return found


@dataclass
class Ran:
    """What a command did; `output` is both its streams."""

    status: int
    output: str


def run(
    arguments: list[str], *, home: Path, folder: Path | None = None, given: str | None = None, **environ: str
) -> Ran:
    """A command with a home folder of its own, no terminal, and no way out of this machine."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    apart = {"HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config"), "XDG_DATA_HOME": str(home / ".local")}
    done = subprocess.run(
        arguments,
        cwd=folder or home,
        env=kept | apart | {"NO_COLOR": "1", "TERM": "dumb"} | NO_WAY_OUT | environ,
        input=given or "",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    return Ran(done.returncode, done.stdout)
