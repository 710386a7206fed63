"""`agproxy accounts`: the accounts of accounts.json, and a look at those of the environment.

Keys come from a hidden prompt or from standard input, never from the command line, which every process of the machine
can read and shells write down. What is shown of a key are eight characters. Exit status: 0, 1 where an account fails
its test, 2 where the command cannot be carried out.
"""

import argparse
import asyncio
import contextlib
import getpass
import json
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import accounts, config, credentials, pool, traits
from ..accounts import Document, Entry, Record
from ..errors import ConfigError
from ..masking import mask
from . import account_files, account_limits, account_traits, colour, common, login, probe, term
from .common import EXIT_FAILED, add_home, home_of
from .probe import Outcome

if TYPE_CHECKING:
    from ..io.store import AccountStore
    from .common import Commands

_TEST_SECONDS = 30.0
_MOST_INPUT_BYTES = 1 << 20  # some twenty thousand keys; more is another file by mistake
# The settings that say how upstream is reached.
_TEST_SETTINGS = ("upstream_url", "upstream_version", "allow_plain_http", "ca_file", "connect_timeout_seconds")
_GREEN = "32"
_FILE, _ENVIRONMENT = "file", "env"


def add(commands: "Commands") -> None:
    parser = commands.add_parser(
        "accounts",
        help="Gemini accounts: add, login, list, show, status, edit, remove, enable, disable, import, export, test",
        description="Accounts of accounts.json in the home folder. Those of GEMINI_API_KEY are used beside them.",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    adding = _action(actions, "add", _add, "add API keys: from a hidden prompt, or from standard input, one a line")
    adding.add_argument("--label", help="a name for it, which other actions take in place of the id")
    adding.add_argument("--email", help="the e-mail address of the Google account, for X-Account-Email")
    adding.add_argument("--disabled", action="store_true", help="keep it unused until 'accounts enable'")
    adding.add_argument("--kind", choices=credentials.KINDS, default=credentials.API_KEY, help="kind of credential")
    adding.add_argument("--file", help="a credentials file of Google's tools: authorized_user or service_account")
    adding.add_argument(
        "--run", dest="command_line", metavar="COMMAND", help="the command that prints a token, for --kind command"
    )
    adding.add_argument("--service-account", help="whose token, for --kind gce_metadata (default)")
    account_traits.add_flags(adding)
    # Only to refuse them without repeating them.
    adding.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    adding.add_argument("--key", "--api-key", "-k", dest="flag", nargs="?", const="", help=argparse.SUPPRESS)
    listing = _action(actions, "list", _list, "all accounts, those of the environment too")
    listing.add_argument("--json", action="store_true", help="as JSON")
    showing = _action(actions, "show", _show, "one account: all but its secrets")
    showing.add_argument("id", metavar="ID", help="id, label, or the beginning of an id")
    showing.add_argument("--json", action="store_true", help="as JSON")
    for name, run, note in (
        ("remove", _remove, "remove accounts and their keys"),
        ("enable", _enable, "use accounts again"),
        ("disable", _disable, "keep accounts, but do not use them"),
    ):
        changing = _action(actions, name, run, note)
        changing.add_argument("ids", metavar="ID", nargs="+", help="id, label, or the beginning of an id")
    editing = _action(actions, "edit", _edit, "change what an account is told")
    editing.add_argument("id", metavar="ID", help="id, label, or the beginning of an id")
    editing.add_argument("--label", help="a name for it")
    editing.add_argument("--email", help="the e-mail address of the Google account")
    account_traits.add_flags(editing)
    ordering = _action(actions, "reorder", _reorder, "put accounts first, in this order: for scheduling fill-first")
    ordering.add_argument("ids", metavar="ID", nargs="+", help="id, label, or the beginning of an id")
    importing = _action(actions, "import", _import, "add accounts of an export, a credentials file, or a list of keys")
    importing.add_argument("file", metavar="FILE", nargs="?", help="the file (default: standard input)")
    exporting = _action(actions, "export", _export, "write all accounts of the file with their secrets, as JSON")
    exporting.add_argument("--keys", action="store_true", help="only API keys, one a line")
    exporting.add_argument("--output", metavar="FILE", help="a new file, closed to others (default: standard output)")
    watching = _action(actions, "status", _status, "the limits that hold for each account")
    watching.add_argument("--json", action="store_true", help="as JSON")
    forgetting = _action(actions, "reset", _reset, "forget the limits of accounts, or of all")
    forgetting.add_argument("ids", metavar="ID", nargs="*", help="id, label, or the beginning of an id (default: all)")
    login.add(_action(actions, "login", login.run, "sign in with Google and your own OAuth client"))
    testing = _action(actions, "test", _test, "make one small call with each account, or with those named")
    testing.add_argument("ids", metavar="ID", nargs="*", help="id, label, or the beginning of an id (default: all)")
    testing.add_argument("--model", default=probe.MODEL, help=f"model to call (default {probe.MODEL})")
    testing.add_argument(
        "--timeout",
        type=seconds,
        default=_TEST_SECONDS,
        metavar="SECONDS",
        help=f"for a call (default {_TEST_SECONDS:g})",
    )
    testing.add_argument("--json", action="store_true", help="as JSON")
    for name in _TEST_SETTINGS:
        _add_setting(testing, name)


def _action(
    actions: "Commands", name: str, run: Callable[[argparse.Namespace], int], note: str
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=note, description=note[0].upper() + note[1:] + ".")
    add_home(parser)
    parser.set_defaults(run=lambda options: _run(run, options))
    return parser


def _add_setting(parser: argparse.ArgumentParser, name: str) -> None:
    setting = config.BY_NAME[name]
    is_switch = setting.kind == "bool"
    parser.add_argument(
        setting.flag,
        dest=name,
        nargs="?" if is_switch else None,
        const="on" if is_switch else None,
        metavar="on|off" if is_switch else setting.kind.upper(),
        help=setting.help.replace("%", "%%"),
    )


def seconds(text: str) -> float:
    """A time-out from the command line."""
    with contextlib.suppress(ValueError):
        number = float(text)
        if 0 < number < float("inf"):
            return number
    raise argparse.ArgumentTypeError(f"a number of seconds was expected, not {text[:80]!r}")


def _run(run: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    term.never_fail(sys.stdout, sys.stderr)
    return run(options)


# --- what there is ---------------------------------------------------------------------------------------------


def gather(home: Path, environ: Mapping[str, str]) -> tuple[tuple[Entry, ...], bool]:
    """The accounts of the environment and of the accounts file, and whether that file could be read.

    A file that cannot be read does not keep the gateway from starting: it is told, and the environment's serve on.
    """
    environment = pool.from_environment(environ)
    try:
        entries = accounts.merge(environment, _store(home).load())
    except ConfigError as error:
        rest = f"the {len(environment)} of the environment" if environment else "none, since the environment has none"
        colour.complain(f"*** THE ACCOUNTS FILE IS NOT USED *** {error}. Accounts in use: {rest}")
        return accounts.merge(environment, Document()), False
    for entry in entries:
        if entry.record.is_enabled and not entry.is_known:
            colour.warn(f"account {entry.name} is of a kind that this version does not know: it is not used")
    return entries, True


def _store(home: Path) -> "AccountStore":
    from ..io.store import AccountStore  # here, as every import that only some commands need

    return AccountStore(home, colour.warn)


def _store_of(options: argparse.Namespace) -> "AccountStore":
    return _store(home_of(options, os.environ))


def _entries(document: Document) -> tuple[Entry, ...]:
    return accounts.merge(pool.from_environment(os.environ), document)


# --- add -------------------------------------------------------------------------------------------------------


def _add(options: argparse.Namespace) -> int:
    if options.words or options.flag is not None:
        raise ConfigError(
            "keys are not taken from the command line: every process of this machine can read it, and your shell may "
            "have written it down, so take it out of its history. Run 'agproxy accounts add' and give the key at the "
            "prompt, or pipe it in: agproxy accounts add < file"
        )
    label = _checked(accounts.check_label, options.label, "--label")
    email = _checked(accounts.check_email, options.email, "--email")
    store = _store_of(options)
    if options.kind != credentials.API_KEY or options.file or options.command_line:
        return _add_credential(options, store, label, email)
    keys = _read_keys()

    def change(document: Document) -> Document:
        for key in keys:
            document = accounts.add(document, key, label=label, email=email, is_disabled=options.disabled)
            record = document.find(pool.key_id(key))
            assert record is not None
            document = accounts.add_record(document, account_traits.apply(record, options))
        return document

    before, after = store.update(change, replaces_unusable=True)
    entries = {entry.record.id: entry for entry in _entries(after)}
    for id in map(pool.key_id, keys):
        entry = entries[id]
        if before.find(id) is None:
            outcome = "added"
        else:
            outcome = "already there" if before.find(id) == after.find(id) else "already there, changed"
        also = f"; {entry.variable} brings it too, and it counts once" if entry.variable else ""
        state = "" if entry.record.is_enabled else ", disabled"
        print(f"{outcome}: {entry.name} {mask(entry.record.key or '')}{state}{also}")
    return 0


def _add_credential(options: argparse.Namespace, store: "AccountStore", label: str | None, email: str | None) -> int:
    """Add an account of another kind than an API key."""
    record = _credential_of(options)
    record = replace(
        record,
        label=label or record.label,
        email=email or record.email,
        is_enabled=not options.disabled,
    )
    record = account_traits.apply(record, options)
    before, _ = store.update(lambda document: accounts.add_record(document, record), replaces_unusable=True)
    outcome = "added" if before.find(record.id) is None else "already there, changed"
    print(f"{outcome}: {record.id}{f' ({record.label})' if record.label else ''}, {record.kind}")
    return 0


def _credential_of(options: argparse.Namespace) -> Record:
    """The account that the flags describe; its secrets come from a file or from standard input."""
    kind = credentials.COMMAND if options.command_line else options.kind
    secret: dict[str, Any] = {}
    if kind == credentials.COMMAND:
        if not options.command_line:
            raise ConfigError("--run: the command that prints a token was expected")
        secret = {"command": options.command_line}
    elif kind == credentials.METADATA:
        secret = {"service_account": options.service_account} if options.service_account else {}
    else:
        place = options.file or "standard input"
        (record, *others) = account_files.parse(account_files.read_input(options.file), place) or (None,)
        if record is None or others or (kind != credentials.API_KEY and record.kind != kind):
            wanted = " or ".join(credentials.FILE_TYPES)
            raise ConfigError(f"{place}: one credentials file of the type {wanted} was expected")
        return record
    try:
        credential = credentials.read(kind, secret)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    assert credential is not None
    return Record(id=credentials.id_of(credential), kind=kind, secret=secret)


def _checked(check: Callable[[str], str], text: str | None, flag: str) -> str | None:
    try:
        return None if text is None else check(text)
    except ValueError as error:
        raise ConfigError(f"{flag}: {error}") from None


def _read_keys() -> tuple[str, ...]:
    """Keys from a hidden prompt on a terminal, else from standard input. Raises ConfigError; doubles count once."""
    if sys.stdin is not None and sys.stdin.isatty():
        lines = [_ask()]
    else:
        data = sys.stdin.buffer.read(_MOST_INPUT_BYTES + 1) if sys.stdin is not None else b""
        if len(data) > _MOST_INPUT_BYTES:
            raise ConfigError(f"standard input: over {_MOST_INPUT_BYTES} bytes, which is no list of keys")
        lines = data.decode("utf-8-sig", errors="replace").splitlines()
    keys: list[str] = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        try:
            keys.append(accounts.check_key(text))
        except ValueError as error:
            where = f"standard input, line {number}" if len(lines) > 1 else "the key"
            raise ConfigError(f"{where}: {error}. Nothing was added") from None
    if not keys:
        raise ConfigError("no key was given: there is one at https://aistudio.google.com/apikey")
    return tuple(dict.fromkeys(keys))


def _ask() -> str:
    with warnings.catch_warnings():
        # Where the terminal cannot hide what is typed, getpass warns and shows it.
        warnings.simplefilter("error", getpass.GetPassWarning)
        try:
            return getpass.getpass("Gemini API key (it is not shown): ")
        except getpass.GetPassWarning:
            raise ConfigError("this terminal cannot hide what is typed: pipe the key in instead") from None
        except EOFError:
            return ""


# --- list, show ------------------------------------------------------------------------------------------------


def _list(options: argparse.Namespace) -> int:
    entries = _entries(_store_of(options).load())
    if options.json:
        print(_json([_shown(entry) for entry in entries]))
    elif not entries:
        print("no accounts: 'agproxy accounts add' adds one, GEMINI_API_KEY brings one", file=sys.stderr)
    else:
        rows = [
            [
                (entry.record.id, colour.BOLD),
                (term.plain(entry.record.label) or "-", ""),
                (term.plain(entry.record.kind), ""),
                _state(entry),
                ("+".join(_sources(entry)), ""),
                (mask(entry.record.key) if entry.record.key is not None else "-", ""),
            ]
            for entry in entries
        ]
        print(term.table(("ID", "LABEL", "KIND", "STATE", "SOURCE", "KEY"), rows, sys.stdout))
    return 0


def _show(options: argparse.Namespace) -> int:
    store = _store_of(options)
    entry = accounts.find(_entries(store.load()), options.id)
    shown = _shown(entry)
    if options.json:
        print(_json(shown))
        return 0
    shown["state"], _ = _state(entry)
    shown["source"] = ", ".join(
        str(store.file) if source == _FILE else f"environment ({entry.variable})" for source in _sources(entry)
    )
    for name in ("id", "label", "email", "kind", "state", "source", "key"):
        print(f"{name:<7}  {term.plain(shown[name] or '-')}")
    for name in traits.NAMES:
        if name in entry.record.more:
            print(f"{name:<7}  {term.plain(json.dumps(entry.record.more[name], ensure_ascii=False))}")
    if entry.record.unknown:
        print(f"also     {term.plain(', '.join(entry.record.unknown))}: not known to this version, kept as it is")
    return 0


def _shown(entry: Entry) -> dict[str, Any]:
    """An account as JSON: nothing of `secret` but the masked key, nothing that this version does not know."""
    record = entry.record
    return {
        "id": record.id,
        "label": record.label,
        "email": record.email,
        "kind": record.kind,
        "enabled": record.is_enabled,
        "usable": record.is_enabled and entry.is_known,
        "source": _sources(entry),
        "key": mask(record.key) if record.key is not None else None,
    }


def _state(entry: Entry) -> term.Cell:
    if not entry.record.is_enabled:
        return "disabled", colour.YELLOW
    return ("enabled", _GREEN) if entry.is_known else ("unknown kind", colour.RED)


def _sources(entry: Entry) -> list[str]:
    return [_ENVIRONMENT] * (entry.variable is not None) + [_FILE] * entry.is_stored


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


# --- remove, enable, disable -----------------------------------------------------------------------------------


def _remove(options: argparse.Namespace) -> int:
    for entry in _change(options, accounts.remove):
        left = f"; {entry.variable} still brings it" if entry.variable else ""
        print(f"removed: {entry.name}{left}")
    return 0


def _enable(options: argparse.Namespace) -> int:
    return _switch(options, is_enabled=True)


def _disable(options: argparse.Namespace) -> int:
    return _switch(options, is_enabled=False)


def _switch(options: argparse.Namespace, *, is_enabled: bool) -> int:
    word = "enabled" if is_enabled else "disabled"
    for entry in _change(options, lambda document, id: accounts.enable(document, id, is_enabled)):
        print(f"{word}: {entry.name}" if entry.record.is_enabled != is_enabled else f"already {word}: {entry.name}")
    return 0


def _change(options: argparse.Namespace, change: Callable[[Document, str], Document]) -> tuple[Entry, ...]:
    """Change the accounts that the command names, all or none of them; they come back as they were before."""
    found: dict[str, Entry] = {}

    def change_all(document: Document) -> Document:
        entries = _entries(document)
        for word in options.ids:
            entry = accounts.find(entries, word)
            if not entry.is_stored:
                raise ConfigError(f"{entry.name} is not in the accounts file: it comes from {entry.variable}")
            found[entry.record.id] = entry
        for id in found:
            document = change(document, id)
        return document

    _store_of(options).update(change_all)
    return tuple(found.values())


# --- edit, reorder, import, export, status, reset --------------------------------------------------------------


def _edit(options: argparse.Namespace) -> int:
    label = _checked(accounts.check_label, options.label, "--label")
    email = _checked(accounts.check_email, options.email, "--email")
    options.ids = [options.id]

    def change(document: Document, id: str) -> Document:
        record = document.find(id)
        assert record is not None
        if label is not None:
            record = replace(record, label=label)
        if email is not None:
            record = replace(record, email=email or None)
        return accounts.add_record(document, account_traits.apply(record, options))

    for entry in _change(options, change):
        print(f"changed: {entry.name}")
    return 0


def _reorder(options: argparse.Namespace) -> int:
    def change(document: Document) -> Document:
        entries = _entries(document)
        return accounts.reorder(document, [accounts.find(entries, word).record.id for word in options.ids])

    _, after = _store_of(options).update(change)
    print("in order now: " + ", ".join(term.plain(record.label or record.id) for record in after.accounts))
    return 0


def _import(options: argparse.Namespace) -> int:
    records = account_files.parse(account_files.read_input(options.file), options.file or "standard input")
    if not records:
        raise ConfigError("there was no account in it")
    before, _ = _store_of(options).update(
        lambda document: account_files.join(document, records), replaces_unusable=True
    )
    for record in records:
        print(
            f"{'added' if before.find(record.id) is None else 'already there'}: {record.id}, {term.plain(record.kind)}"
        )
    return 0


def _export(options: argparse.Namespace) -> int:
    return account_files.export(options, _store_of(options).load())


def _status(options: argparse.Namespace) -> int:
    return account_limits.status(options, _entries(_store_of(options).load()), home_of(options, os.environ))


def _reset(options: argparse.Namespace) -> int:
    entries = _entries(_store_of(options).load())
    chosen = [accounts.find(entries, word) for word in options.ids] if options.ids else None
    return account_limits.reset(chosen, home_of(options, os.environ))


# --- test ------------------------------------------------------------------------------------------------------


def _test(options: argparse.Namespace) -> int:
    loaded = common.load_aloud(options, os.environ)
    entries = _entries(_store_of(options).load())
    if options.ids:
        chosen = {entry.record.id: entry for entry in (accounts.find(entries, word) for word in options.ids)}
        tested: Sequence[Entry] = tuple(chosen.values())
    else:
        tested = [entry for entry in entries if entry.record.is_enabled]
        for entry in entries:
            if not entry.record.is_enabled:
                colour.warn(f"{entry.name} is disabled and was not tested: name it to test it")
    if not tested:
        raise ConfigError("there is no account to test: 'agproxy accounts add' adds one, GEMINI_API_KEY brings one")
    with term.Progress(len(tested), "accounts") as progress:
        calls = probe.call_all(loaded.config, tested, options.model, options.timeout, on_done=progress.step)
        outcomes = asyncio.run(calls)
    results = list(zip(tested, outcomes, strict=True))
    print(_json([_result(*result) for result in results]) if options.json else _table(results))
    return EXIT_FAILED if any(outcome.fault for outcome in outcomes) else 0


def _result(entry: Entry, outcome: Outcome) -> dict[str, Any]:
    return {
        "id": entry.record.id,
        "label": entry.record.label,
        "ok": not outcome.fault,
        "status": outcome.status,
        "latency_ms": outcome.milliseconds,
        "error": outcome.fault or None,
    }


def _table(results: Sequence[tuple[Entry, Outcome]]) -> str:
    rows = [
        [
            (entry.record.id, colour.BOLD),
            (term.plain(entry.record.label) or "-", ""),
            ("-" if outcome.status is None else str(outcome.status), colour.RED if outcome.fault else _GREEN),
            ("-" if outcome.milliseconds is None else str(outcome.milliseconds), ""),
            (term.plain(outcome.fault) or "ok", ""),
        ]
        for entry, outcome in results
    ]
    return term.table(("ID", "LABEL", "STATUS", "MS", "RESULT"), rows, sys.stdout)
