"""The command line, and the only place where the parts are wired together.

    agproxy [serve] [--port 8045 ...]     the gateway
    agproxy simulate [--port 8046 ...]    the simulated Gemini alone

One module a command: `add(commands)` declares its arguments, `run(options)` does it and gives the exit status. A
mistake of the user is one line on standard error and exit status 2.
"""

import argparse
import sys
from collections.abc import Sequence

from .. import __version__
from ..errors import ConfigError
from . import serve, simulate
from .common import EXIT_INTERRUPTED, EXIT_USAGE

_COMMANDS = (serve, simulate)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit status comes back."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help", "--version")):
        arguments.insert(0, "serve")
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except ConfigError as error:
        print(f"agproxy: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="agproxy", description="OpenAI's API for your tools, answers from Google Gemini."
    )
    parser.add_argument("--version", action="version", version=f"agproxy {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add(commands)
    return parser
