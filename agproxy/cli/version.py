"""`agproxy version` and `--version`: what runs here, and where each part was loaded from.

A zipapp, a vendored copy and an installed package can lie side by side: this tells which of them answers.
"""

import argparse
import importlib
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__

if TYPE_CHECKING:
    from .common import Commands

PARTS = ("h11", "certifi")


def add(commands: "Commands") -> None:
    parser = commands.add_parser("version", help="which versions run, and where each part was loaded from")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    print(report())
    return 0


class ShowVersion(argparse.Action):
    """--version, worked out only when it is asked for."""

    def __init__(self, option_strings: list[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="the same as `agproxy version`")

    def __call__(self, parser: argparse.ArgumentParser, *rest: object) -> None:
        print(report())
        parser.exit()


def report() -> str:
    """The lines: agproxy first, then what it needs."""
    import ssl

    rows = [("agproxy", __version__, str(Path(__file__).parent.parent))]
    for name in PARTS:
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError:
            rows.append((name, "missing", f"pip install {name}"))
        else:
            rows.append((name, str(module.__version__), str(Path(str(module.__file__)).parent)))
    rows.append(("Python", platform.python_version(), sys.executable))
    rows.append(("TLS", ssl.OPENSSL_VERSION.split(" ")[1], ssl.OPENSSL_VERSION))
    width = max(len(version) for _, version, _ in rows)
    return "\n".join(f"{name:<8} {version:<{width}}  {place}" for name, version, place in rows)
