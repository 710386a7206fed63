"""`agproxy logs`: the requests that have ended, as journal.sqlite3 has them, whether the gateway runs or not."""

import argparse
import json
import os
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from .. import entries, jsontext
from ..entries import Entry, Step, Wanted
from ..io.journal import FILE, Found, Reader
from . import replay
from .colour import BOLD, DIM, RED, YELLOW, paint, warn
from .common import RawHelp, add_home, home_of
from .term import plain

if TYPE_CHECKING:
    from .common import Commands

_DESCRIPTION = """\
The requests that the gateway has answered, the newest last, from the journal in the home folder. The settings
`journal`, `journal_max_age_days` and `journal_max_bytes` say what is kept; of prompts and answers only what errors
quote is, unless `journal_bodies` says so."""
_EPILOG = """\
examples:
  agproxy logs -f --errors                      what fails, as it happens
  agproxy logs --client ann --model 'gemini-*'  one key's requests to some models
  agproxy logs show req_0123                    one request: each attempt and why, the bodies if they were recorded
  agproxy logs replay req_0123                  the same request through this version, with a diff"""
_LIMIT = 50
_FEW = 10
_POLL_SECONDS = 0.25


def add(commands: "Commands") -> None:
    parser = commands.add_parser(
        "logs",
        help="the requests that were answered, what each took and why; one of them again",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=RawHelp,
    )
    add_home(parser)
    parser.add_argument("-f", "--follow", action="store_true", help="go on with those that end from now on")
    parser.add_argument("--errors", action="store_true", help="only those that failed (status 400 and above)")
    parser.add_argument("--model", metavar="NAME", help="of this model, asked for or answering; * matches anything")
    parser.add_argument("--client", metavar="NAME", help="of the client key with this name")
    parser.add_argument(
        "--limit", type=_count, metavar="N", help=f"the newest so many (default {_LIMIT}; with -f {_FEW})"
    )
    parser.add_argument("--json", action="store_true", help="as JSON, one object a line")
    parser.set_defaults(run=_list)
    actions = parser.add_subparsers(title="one request", metavar="", prog="agproxy logs")
    showing = actions.add_parser("show", help="all that is known of one request", formatter_class=RawHelp)
    showing.add_argument("id", metavar="ID", help="its x-request-id, or the beginning of it")
    add_home(showing, is_inner=True)
    showing.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="as JSON")
    showing.set_defaults(run=_show)
    replay.add(actions)


def _count(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 10:
        return int(text)
    raise argparse.ArgumentTypeError(f"a number was expected, not {text[:80]!r}")


# --- many ------------------------------------------------------------------------------------------------------


def _list(options: argparse.Namespace) -> int:
    file = home_of(options, os.environ) / FILE
    wanted = Wanted(only_errors=options.errors, model=options.model, client=options.client)
    limit = options.limit if options.limit is not None else _FEW if options.follow else _LIMIT
    with Reader(file) as reader:
        last = reader.last_place()
        _print(reader.latest(replace(wanted, before=last + 1), limit), is_json=options.json)
        if options.follow:
            _follow(reader, wanted, last, is_json=options.json)
        if last == 0:
            warn(f"{file} holds no request (the setting `journal` is on by default)")
    return 0


def _follow(reader: Reader, wanted: Wanted, last: int, *, is_json: bool) -> None:
    """Print what comes, until Ctrl-C."""
    seen = None
    while True:
        changes = reader.changes()
        if changes != seen:
            seen, end = changes, reader.last_place()
            # What has come in between is for the next time.
            _print([found for found in reader.after(wanted, last) if found.place <= end], is_json=is_json)
            last = max(end, last)
        time.sleep(_POLL_SECONDS)


def _print(found: list[Found], *, is_json: bool) -> None:
    for one in found:
        print(entries.json_line(one.entry) if is_json else _line(one.entry))
    sys.stdout.flush()


def _line(entry: Entry) -> str:
    style = RED if entry.status >= 500 else YELLOW if entry.is_error else ""
    text = f"{_time(entry.at + entry.total_seconds)} {plain(entries.text_line(entry))}"
    return paint(text, style) if style else text


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# --- one -------------------------------------------------------------------------------------------------------


def _show(options: argparse.Namespace) -> int:
    file = home_of(options, os.environ) / FILE
    with Reader(file) as reader:
        found = replay.find_one(reader, options.id)
        bodies = reader.bodies(found.place)
    entry = found.entry
    if options.json:
        print(json.dumps(entries.to_value(entry) | {"recording": bodies}, indent=2, ensure_ascii=False))
        return 0
    print(paint(entry.id, BOLD))
    for name, value in _facts(entry):
        print(f"  {paint(f'{name:<10}', DIM)}{plain(value)}")
    if entry.steps:
        print(paint("\nWhat was decided", BOLD))
        for step in entry.steps:
            print(f"  {_step(step)}")
    if bodies is None:
        advice = "set journal_bodies to errors or all, and the next ones will have theirs"
        print(f"\nIts bodies were not recorded: {advice}.")
        return 0
    _show_bodies(bodies)
    return 0


def _facts(entry: Entry) -> list[tuple[str, str]]:
    """What there is to say, in words."""
    facts = [
        ("began", _time(entry.at)),
        ("client", f"{entry.client or 'without a key'}, from {entry.peer or 'nowhere'}"),
        ("asked", f"{entry.method} {entry.path} {entry.protocol}{', a stream' if entry.is_stream else ''}"),
        ("status", f"{entry.status}{f' {entry.error}: {entry.message}' if entry.error else ''}"),
    ]
    if entry.model:
        facts.append(("model", f"{entry.model_asked} -> {entry.model}"))
    if entry.attempts:
        failed = f", of which failed: {', '.join(entry.outcomes)}" if entry.outcomes else ""
        facts.append(("account", f"{entry.account}; upstream calls: {entry.attempts}{failed}"))
    facts.append(("bytes", f"{entry.bytes_in} in, {entry.bytes_out} out"))
    if entry.prompt_tokens or entry.output_tokens:
        cached, thinking = f"{entry.cached_tokens} of them cached", f"{entry.reasoning_tokens} of them thinking"
        facts.append(("tokens", f"{entry.prompt_tokens} in ({cached}), {entry.output_tokens} out ({thinking})"))
    first = "" if entry.first_byte_seconds is None else f"first byte after {entry.first_byte_seconds:.3f} s, "
    waited = f", {entry.waited_seconds:.3f} s of them waiting for an account" if entry.waited_seconds else ""
    facts.append(("time", f"{first}{entry.total_seconds:.3f} s in all{waited}"))
    if entry.trace is not None:
        facts.append(("trace", entry.trace))
    facts += [("warning", notice) for notice in entry.notices]
    return facts


def _step(step: Step) -> str:
    """One step in words."""
    account, status = step.get("account"), step.get("status")
    match step.get("event"):
        case "picked":
            words = f"{account} was chosen"
        case "answered":
            words = f"{account} answered"
        case "failed":
            words = f"{account} failed with {status} ({step.get('why')}): {step.get('message')}"
        case "waits" if "in_line" in step:
            words = f"waits in line behind {step['in_line'] - 1} for at most {step.get('wait_seconds')} s"
        case "waits":
            words = f"waits for an account, at most {step.get('wait_seconds')} s"
        case "nobody":
            words = "no account could serve"
        case other:
            words = f"{other}"
    skipped = "; ".join(f"{one.get('account')}: {one.get('why')}" for one in step.get("skipped", ()))
    at = datetime.fromtimestamp(step.get("at", 0), UTC).strftime("%H:%M:%S.%f")[:-3]
    return plain(f"{at} {step.get('model')}: {words}{f' (passed by: {skipped})' if skipped else ''}")


def _show_bodies(bodies: jsontext.JsonObject) -> None:
    request, answer = bodies["request"], bodies["answer"]
    query = f"?{request['query']}" if request["query"] else ""
    _show_message("What the client sent", f"{request['method']} {request['path']}{query}", request)
    for number, call in enumerate(bodies["calls"], 1):
        _show_message(f"What went upstream, call {number}, account {call['account']}", f"POST {call['url']}", call)
        if call["status"] is not None:
            told = {"headers": call["answer_headers"], "body": call["answer"]}
            _show_message(f"What came back of call {number}", f"{call['status']}", told)
        if call["error"] is not None:
            print(f"\n{plain(call['error'])}")
    _show_message("What the client was answered", f"{answer['status'] or 'nothing'}", answer)


def _show_message(title: str, start: str, message: dict[str, Any]) -> None:
    print(f"\n{paint(plain(title), BOLD)}\n{plain(start)}")
    for name, value in message["headers"]:
        print(f"{paint(plain(name) + ':', DIM)} {plain(value)}")
    if message["body"]:
        print("\n" + "\n".join(replay.pretty(message["body"])))
