"""The command line, and the only place where the parts are wired together.

    agproxy [serve] [--port 8045 ...]     the gateway
    agproxy simulate [--port 8046 ...]    the simulated Gemini alone
    agproxy accounts add|list|test ...    accounts of accounts.json, beside those of the environment
    agproxy keys add|list|usage ...       client keys with an end, models and limits of their own
    agproxy logs [show|replay ID] ...     requests that were answered, and one of them again
    agproxy config, models, translate     what the settings are, what names mean, what a request becomes
    agproxy setup codex|aider|...         a client's configuration for this gateway
    agproxy doctor                        what is wrong, and what to do about it

One module a command: `add(commands)` declares its arguments, `run(options)` does it and gives the exit status. A
mistake of the user is one line on standard error and exit status 2. What is heavy (the gateway, h11, certifi) is
imported by the commands that need it, when they do.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from ..config import SETTINGS
from ..errors import ConfigError
from . import version
from .colour import complain
from .common import EXIT_INTERRUPTED, EXIT_USAGE, Parser, RawHelp, nearest
from .term import never_fail

# Command -> its module, in the order in which help names them. The one that is asked for is imported alone: the others
# would double the time in which the gateway is up.
_COMMANDS = {
    "serve": "serve",
    "accounts": "accounts",
    "keys": "keys",
    "logs": "logs",
    "config": "settings",
    "models": "models",
    "translate": "translate",
    "setup": "setup",
    "doctor": "doctor",
    "simulate": "simulate",
    "completions": "completions",
    "version": "version",
}

_OWN_FLAGS = ("-h", "--help", "-V", "--version")
_DESCRIPTION = "OpenAI's API for your tools, answers from Google Gemini. Without a COMMAND it is `serve`."
_EPILOG = """\
examples:
  agproxy --simulate auto                   try it without an account, on http://127.0.0.1:8045/v1
  GEMINI_API_KEY=... agproxy --port 9000    the real Gemini, on another port
  agproxy config port                       what a setting is, and where that was set
  agproxy keys add laptop --rpm 20          a client key with a limit of its own
  agproxy models explain gpt-4o             which Gemini model a name means, and why
  agproxy logs -f --errors                  requests that fail, as it happens
  agproxy setup codex --write               Codex CLI uses this gateway from now on
  agproxy doctor                            what is wrong, and what to do about it
  agproxy translate < request.json          the upstream request that a client's request becomes

environment:
  GEMINI_API_KEY   Gemini API keys by commas, else GOOGLE_API_KEY
  AGPROXY_HOME     folder of config.json, accounts and state
  AGPROXY_...      every setting: AGPROXY_PORT for --port (agproxy serve --help lists them)
  NO_COLOR         no colours, on a terminal neither

exit status: 0 done, 1 it could not be done, 2 a mistake in arguments or settings, 130 interrupted
more: agproxy COMMAND --help"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit status comes back."""
    never_fail(sys.stdout, sys.stderr)
    options = parse(sys.argv[1:] if argv is None else argv)
    try:
        status: int = options.run(options)
        if sys.stdout is not None:  # pythonw has none
            sys.stdout.flush()
    except ConfigError as error:
        complain(str(error))
        return EXIT_USAGE
    except ModuleNotFoundError as error:
        if error.name not in version.PARTS:
            raise
        complain(f"{error.name} is missing: pip install {error.name}")
        return EXIT_USAGE
    except BrokenPipeError:
        # Who read our output has left, as `head` does. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return status


def whole_parser() -> argparse.ArgumentParser:
    """The parser with all commands."""
    return _parser(None)[0]


def _parser(wanted: str | None) -> "tuple[Parser, argparse._SubParsersAction[Parser]]":
    """The parser, and its commands: the one whose module is wanted, or all."""
    parser = Parser(prog="agproxy", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=RawHelp)
    parser.add_argument("-V", "--version", action=version.ShowVersion)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in _COMMANDS.values() if wanted is None else (wanted,):
        importlib.import_module(f"{__name__}.{module}").add(commands)
    return parser, commands


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The options of a command line; `run` among them is what does it. Exits with one line where it is wrong."""
    arguments = list(argv)
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in _OWN_FLAGS):
        arguments.insert(0, "serve")
    parser, commands = _parser(_COMMANDS.get(arguments[0]))
    options, unknown = parser.parse_known_args(arguments)
    for name in ("names", "ids"):
        if name in options:  # argparse gives a list only the words before the next flag: these came after it
            getattr(options, name).extend(word for word in unknown if not word.startswith("-"))
            unknown = [word for word in unknown if word.startswith("-")]
    if unknown:
        chosen = commands.choices[arguments[0]]
        word = unknown[0].partition("=")[0] if unknown[0].startswith("-") else unknown[0]  # never a flag's value
        secret = next((s for s in SETTINGS if s.secret and s.flag == word), None)
        if secret is not None:
            chosen.error(
                f"{word} is no flag, since every process of this machine can read flags, and your shell may have "
                f"written it down: set {secret.variable}, or {secret.key} in config.json"
            )
        chosen.error(f"unknown argument {word!r}{nearest(word, chosen._option_string_actions)}")
    return options
