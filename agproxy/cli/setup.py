"""`agproxy setup`: the configuration with which a client uses this gateway, printed, written, or taken back.

What belongs into a file or a program goes to standard output, and nothing else does; what to do with it is told on
standard error.
"""

import argparse
import datetime
import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .. import setup
from ..config import Config
from ..errors import ConfigError
from ..io.store import KeyStore
from ..keys import Ring
from ..merging import CannotMerge
from ..setup import CLIENTS, Facts, File, Plan
from .colour import BOLD, complain, warn
from .common import EXIT_FAILED, RawHelp, add_settings, home_of, load_aloud
from .term import table

if TYPE_CHECKING:
    from .common import Commands

_DESCRIPTION = """\
Without a CLIENT: the clients, and where each keeps its configuration. With one: the configuration by which it uses the
gateway of these settings. --write puts it into the client's own file: what is there is kept, a backup stands beside
it, and --undo takes it back. Keys are not written where the client can read them from its environment."""


def add(commands: "Commands") -> None:
    parser = commands.add_parser(
        "setup",
        help="the configuration with which a client (codex, aider, opencode ...) uses this gateway",
        usage="agproxy setup [CLIENT] [--write | --undo] [--model M] [--url U] [--key-env NAME] [--key-name NAME] "
        "[--SETTING VALUE ...]",
        description=_DESCRIPTION,
        formatter_class=RawHelp,
    )
    parser.add_argument("client", metavar="CLIENT", nargs="?", choices=list(CLIENTS), help=", ".join(CLIENTS))
    doing = parser.add_mutually_exclusive_group()
    doing.add_argument("--write", action="store_true", help="write it into the client's file")
    doing.add_argument("--undo", action="store_true", help="take back what was written last")
    parser.add_argument("--model", metavar="M", default=setup.MODEL, help=f"the model to ask ({setup.MODEL})")
    parser.add_argument("--url", metavar="U", help="base URL of the gateway (default: by the settings)")
    parser.add_argument("--key-env", metavar="NAME", help="environment variable in which the client finds its key")
    parser.add_argument(
        "--key-name", metavar="NAME", help="which client key of config.json is meant, if it has several"
    )
    add_settings(parser, is_shown=False)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    loaded = load_aloud(options, os.environ)
    if options.client is None:
        if options.write or options.undo:
            raise ConfigError("say which client: agproxy setup CLIENT --write")
        _list()
        return 0
    config = Ring(KeyStore(home_of(options, os.environ), warn).load().keys).govern(loaded.config)
    facts = _facts(options, config)
    plan = setup.render(options.client, facts)
    if plan.file is None:
        if options.write or options.undo:
            raise ConfigError(
                f"{CLIENTS[options.client].title} has no configuration file: see agproxy setup without it"
            )
        print(plan.text)
        _tell(plan)
        return 0
    place = _place(plan.file)
    if options.undo:
        return _undo(place)
    if options.write:
        return _write(options, loaded.config, facts, place)
    print(plan.file.fragment.text(), end="")
    print(f"\nThis belongs into {place}: --write joins it to what is there.", file=sys.stderr)
    _tell(plan)
    return 0


def _list() -> None:
    rows = [[(client.name, BOLD), (client.title, ""), (client.place, "")] for client in CLIENTS.values()]
    print(table(("CLIENT", "WHAT IT IS", "WHERE ITS CONFIGURATION STANDS"), rows, sys.stdout))


# --- facts -----------------------------------------------------------------------------------------------------


def _facts(options: argparse.Namespace, config: Config) -> Facts:
    """What the settings say of the gateway. The client key itself is not among it."""
    names = [name for name, _ in config.api_key]
    if options.key_name is not None and options.key_name not in names:
        raise ConfigError(
            f"--key-name: no client key is called {options.key_name!r}: {', '.join(names) or 'there is none'}"
        )
    # where a file stands does not depend on the base URL, so taking back needs none
    by_settings = "" if options.undo or options.url else base_url(config)
    return Facts(
        base_url=_checked_url(options.url) if options.url else by_settings,
        model=options.model,
        needs_key=config.effective_auth_mode != "off",
        key_variable=options.key_env or "",
        home=str(Path.home()),
        environ=os.environ,
        system=sys.platform,
        now=datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    )


def _client_key(options: argparse.Namespace, config: Config) -> str:
    """The client key that has to be written, since the client reads it from nowhere else."""
    keys = dict(config.api_key)
    if not keys:
        raise ConfigError("this client's file has to hold the client key, and the settings have none: AGPROXY_API_KEY")
    if options.key_name is None and len(keys) > 1:
        raise ConfigError(f"--key-name: which of the client keys shall be written: {', '.join(keys)}?")
    return keys[options.key_name] if options.key_name else next(iter(keys.values()))


def base_url(config: Config) -> str:
    """The base URL for clients on this machine. Raises ConfigError where the settings do not say it."""
    if not config.host:
        raise ConfigError(
            "--url: the gateway listens on a Unix socket only, which these clients cannot reach: set host"
        )
    if not config.port:
        raise ConfigError("--url: with port 0 the gateway takes any free port: say the base URL")
    here = {"localhost": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
    if config.tls_cert:  # certificates are made out for names
        here = dict.fromkeys(here, "localhost")
    host = here.get(config.host, config.host)
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    return f"{'https' if config.tls_cert else 'http'}://{host}:{config.port}/v1"


def _checked_url(text: str) -> str:
    try:
        url = urlsplit(text)
        is_fit = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        is_fit = False
    if not is_fit or any(c.isspace() or c in "\"'`$\\{}" or not c.isprintable() for c in text):
        raise ConfigError("--url: a base URL such as http://127.0.0.1:8045/v1 was expected")
    if url.username is not None or url.query or url.fragment:
        raise ConfigError("--url: a base URL without user name, query and fragment was expected")
    return text.rstrip("/") if url.path.rstrip("/") else text.rstrip("/") + "/v1"


# --- print, write, undo ----------------------------------------------------------------------------------------


def _place(file: File) -> Path:
    paths = [Path(path) for path in file.paths]
    return next((path for path in paths if path.exists()), paths[0])


def _tell(plan: Plan) -> None:
    for name, value in plan.exports:
        print(f"It needs {_assignment(name, value)}", file=sys.stderr)
    for note in plan.notes:
        print(f"Note: {note}.", file=sys.stderr)


def _assignment(name: str, value: str) -> str:
    return f'$env:{name} = "{value}"' if sys.platform == "win32" else f"export {name}={shlex.quote(value)}"


def _write(options: argparse.Namespace, config: Config, facts: Facts, place: Path) -> int:
    from ..io import backups

    plan = setup.render(options.client, facts)
    file = plan.file
    assert file is not None
    shown = file.fragment.text()  # without the key
    if file.is_secret:
        file = setup.render(options.client, replace(facts, key=_client_key(options, config))).file
        assert file is not None
    old = backups.read(place)
    try:
        new = file.fragment.text() if old is None else file.fragment.merge(old)
    except CannotMerge as error:
        complain(f"{place}: {error}. Nothing was changed; this is what belongs into it:")
        print(shown, end="")
        return EXIT_FAILED
    if new == old:
        print(f"{place}: it is so already")
    else:
        backup = backups.write(place, new, is_private=file.is_secret)
        print(f"written: {place}")
        if old is not None:
            print(f"backup:  {backup}")
        print(f"to take it back: agproxy setup {options.client} --undo")
    _tell(plan)
    return 0


def _undo(place: Path) -> int:
    from ..io import backups

    backup = backups.undo(place)
    if backup is None:
        complain(f"{place}: there is nothing to take back")
        return EXIT_FAILED
    print(f"{place}: {'taken away, as it was not there before' if backup.suffix == '.none' else 'as it was before'}")
    return 0
