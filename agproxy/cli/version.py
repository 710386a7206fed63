"""`agproxy version` and `--version`: what runs here, and where each part was loaded from.

A zipapp, a vendored copy and an installed package can lie side by side: this tells which of them answers.
"""

import argparse
import platform
import ssl
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import certifi
import h11

import agproxy

from .common import Help

if TYPE_CHECKING:
    from .common import Commands


def add(commands: "Commands") -> None:
    parser = commands.add_parser("version", help="which versions run, and where they were loaded from")
    parser.set_defaults(run=run)
