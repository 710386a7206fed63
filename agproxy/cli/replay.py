"""`agproxy logs replay`: a recorded request once more through this version, and what is different now.

The gateway itself runs, in this process, with the client's recorded body. Upstream is the recording (each call gets the
answer that it got), the embedded simulator, or with --live the account. Both sides go through the same `Recording`, so
that secrets and media are the same marks in both; ids and the time of creation are those of the recording.
"""

import argparse
import asyncio
import base64
import difflib
import json
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .. import jsontext
from ..account import Account
from ..config import Config
from ..entries import Entry
from ..errors import ConfigError, UpstreamFailed
from ..http11 import Call, Follower, Headers, HttpRequest, Send
from ..io import logs
from ..io.journal import FILE, Found, Reader
from ..recording import CUT, DROPPED, MARK
from ..records import Change, Read, Record, Store
from .colour import BOLD, RED, paint
from .common import EXIT_FAILED, RawHelp, add_settings, home_of, load_aloud
from .paper import Paper

if TYPE_CHECKING:
    from .common import Commands

_GREEN = "32"
_DESCRIPTION = """\
Sends the recorded body of a request through this version once more and prints how the upstream request and the answer
differ from those of then. Exit status 0: they do not; 1: they do, or it could not be done.

By default upstream is the recording: nothing is sent anywhere, and what differs is this version's doing."""
# Times of which only the beginning is known beforehand.
_TIMES = re.compile(r'"completed_at": ?\d+')
_KEY = "replay"


def add(actions: "Commands") -> None:
    parser = actions.add_parser(
        "replay",
        help="a recorded request once more, with a diff",
        usage="agproxy logs replay ID [--simulator | --live] [--SETTING VALUE ...]",
        description=_DESCRIPTION,
        formatter_class=RawHelp,
    )
    parser.add_argument("id", metavar="ID", help="its x-request-id, or the beginning of it")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--simulator", action="store_true", help="upstream is the simulated Gemini")
    where.add_argument(
        "--live", action="store_true", help="upstream is the real one, with the account of then: it costs"
    )
    add_settings(parser, is_shown=False, is_inner=True)
    parser.set_defaults(run=run)


def find_one(reader: Reader, request_id: str) -> Found:
    """The one entry that an id means. Raises ConfigError where there is none, or several begin so."""
    found = reader.find(request_id)
    if not found:
        raise ConfigError(f"{reader.file}: no request {request_id[:100]!r}")
    if len(found) > 1:
        names = ", ".join(one.entry.id for one in found)
        raise ConfigError(f"several requests begin with {request_id[:100]!r}: {names}")
    return found[0]


def run(options: argparse.Namespace) -> int:
    loaded = load_aloud(options, os.environ)
    home = home_of(options, os.environ)
    with Reader(home / FILE) as reader:
        found = find_one(reader, options.id)
        before = reader.bodies(found.place)
    _check(found.entry, before)
    assert before is not None
    way = "simulator" if options.simulator else "live" if options.live else "recording"
    with logs.silent():
        after = asyncio.run(_replay(loaded.config, home, found.entry, before, way))
    is_same = _compare("upstream request", _sent(before), _sent(after))
    is_same &= _compare("answer", _answered(before), _answered(after))
    return 0 if is_same else EXIT_FAILED


def _check(entry: Entry, bodies: jsontext.JsonObject | None) -> None:
    """Refuse what cannot be sent again. Raises ConfigError."""
    if bodies is None:
        raise ConfigError(
            f"{entry.id}: its body was not recorded; the setting journal_bodies (errors, all) has that done"
        )
    if entry.action != "create":
        raise ConfigError(f"{entry.id}: only a request to a model can be sent again, not {entry.method} {entry.path}")
    if DROPPED.search(bodies["request"]["body"]):
        raise ConfigError(f"{entry.id}: its body was dropped, since too many were under way")
    if CUT.search(bodies["request"]["body"]):
        raise ConfigError(f"{entry.id}: its body was cut; a greater journal_body_max_bytes keeps more of the next ones")


# --- what is sent, what is answered ----------------------------------------------------------------------------


def pretty(text: str) -> list[str]:
    """The lines of a body: JSON indented, that in the events of a stream too, all else as it is."""
    try:
        return _indented(jsontext.loads(text))
    except ValueError:
        pass
    lines: list[str] = []
    for line in text.splitlines():
        field, colon, data = line.partition(": ")
        try:
            value = jsontext.loads(data) if field == "data" and colon else None
        except ValueError:
            value = None
        lines += ["data:", *_indented(value)] if isinstance(value, dict) else [_printable(line)]
    return lines


def _indented(value: Any) -> list[str]:
    return _printable(json.dumps(value, indent=2, ensure_ascii=False)).split("\n")


def _printable(text: str) -> str:
    """Without what a terminal would obey; line breaks stay."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def _sent(bodies: jsontext.JsonObject) -> list[str]:
    """Each upstream request once, however often it was tried."""
    told: dict[tuple[str, str], None] = {}
    for call in bodies["calls"]:
        told[call["method"] + " " + urlsplit(call["url"]).path, call["body"]] = None
    return [line for head, body in told for line in (head, *pretty(body))]


def _answered(bodies: jsontext.JsonObject) -> list[str]:
    answer = bodies["answer"]
    return [f"status {answer['status']}", *pretty(_TIMES.sub('"completed_at":0', answer["body"]))]


def _compare(title: str, before: Sequence[str], after: Sequence[str]) -> bool:
    """Print the difference; whether there is none."""
    diff = list(difflib.unified_diff(before, after, f"{title} as recorded", f"{title} now", lineterm=""))
    if not diff:
        print(f"{title}: the same")
        return True
    styles = {"-": RED, "+": _GREEN, "@": BOLD}
    for line in diff:
        print(paint(line, styles.get(line[0], "")) if line[0] in styles else line)
    return False


# --- once more -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """A way upstream."""

    send: Send
    base_url: str
    accounts: tuple[Account, ...]
    tokens: Any = None


async def _replay(
    settings: Config, home: Path, entry: Entry, before: jsontext.JsonObject, way: str
) -> jsontext.JsonObject:
    """What passes this time, as `Recording.told` has it."""
    from ..gateway import Gateway
    from ..io.fetch import Fetcher
    from ..pool import Pool

    client = ((entry.client, _KEY),) if entry.client is not None else ()
    # This run is recorded whatever the settings say; there is no journal that it could go to.
    config = replace(
        settings, auth_mode="off", api_key=client, journal=True, journal_bodies="all", keepalive_seconds=0.0
    )
    body, marks = _unmarked(before["request"]["body"])
    identifier, created = before["exchange"] or (f"{1:024x}", int(entry.at))
    ended: asyncio.Future[Entry] = asyncio.get_running_loop().create_future()

    def observe(one: Entry) -> None:
        if one.id == entry.id:
            ended.set_result(one)

    began = time.monotonic()
    fetcher = Fetcher(config)
    async with _opening(way, config, home, entry, before) as upstream, _borrowed(config, home) as store:
        gateway = Gateway(
            config=config,
            pool=Pool(upstream.accounts),
            send=upstream.send,
            base_url=upstream.base_url,
            now=lambda: created + time.monotonic() - began,
            clock=time.monotonic,
            new_id=lambda: identifier,
            store=store,
            tokens=upstream.tokens,
            fetch=fetcher.fetch_all,
            observers=(observe,),
        )
        headers = _headers(before, entry)
        request = HttpRequest(
            method=entry.method,
            path=before["request"]["path"],
            query=before["request"]["query"],
            headers=headers,
            body=body,
            peer="127.0.0.1",
            id=entry.id,
        )
        # So that it knows what upstream lists, by which names go that no rule has.
        await gateway.handle(replace(request, method="GET", path="/v1/models", body=b"", id="list"), Paper())
        await gateway.handle(request, Paper())
        again = await ended  # a background run goes on after its answer
        await gateway.close()
        await fetcher.close()
    assert again.recording is not None
    text = jsontext.dumps(again.recording.told()).decode()
    for stand_in, mark in marks.items():
        text = text.replace(stand_in, mark)
    value = jsontext.loads(text)
    assert isinstance(value, dict)
    return value


def _unmarked(text: str) -> tuple[bytes, dict[str, str]]:
    """The client's body, with short base64 in the place of each mark of media, and what stands for which."""
    stand_ins = {mark: base64.b64encode(mark.encode()).decode() for mark in MARK.findall(text)}
    for mark, stand_in in stand_ins.items():
        text = text.replace(mark, stand_in)
    return text.encode("utf-8", "backslashreplace"), {stand_in: mark for mark, stand_in in stand_ins.items()}


def _headers(before: jsontext.JsonObject, entry: Entry) -> Headers:
    """The client's headers that were kept, with a key of this process' own."""
    kept = tuple((name, value) for name, value in before["request"]["headers"] if not value.startswith("[agproxy: "))
    kept = tuple(pair for pair in kept if pair[0] not in ("host", "origin", "sec-fetch-site", "content-length"))
    key = (("authorization", f"Bearer {_KEY}"),) if entry.client is not None else ()
    return (("host", "localhost"), *kept, *key)


@asynccontextmanager
async def _opening(
    way: str, config: Config, home: Path, entry: Entry, before: jsontext.JsonObject
) -> AsyncIterator[_Way]:
    """The way upstream."""
    from ..accounts import usable
    from .accounts import gather

    if way == "simulator":
        from ..embed import reaching

        async with reaching(replace(config, simulate="on"), ()) as reach:
            yield _Way(send=reach.send, base_url=reach.base_url, accounts=reach.accounts)
        return
    known, _ = gather(home, os.environ)
    accounts = {account.id: account for account in usable(known)}
    if way == "live":
        from ..embed import reaching
        from ..io.tokens import Tokens

        chosen = tuple(account for account in accounts.values() if account.id == entry.account)
        if not chosen:
            raise ConfigError(f"the account {entry.account} is not among those in use: `agproxy accounts list`")
        async with reaching(replace(config, simulate="off"), chosen) as reach:
            tokens = Tokens(reach.send, time.time, reach.egress)
            yield _Way(send=reach.send, base_url=reach.base_url, accounts=chosen, tokens=tokens)
            await tokens.close()
        return
    # The accounts of then, as far as they still exist; without credentials, since nothing is asked.
    names = dict.fromkeys(call["account"] for call in before["calls"])
    stand_ins = tuple(
        replace(accounts.get(name, Account(id=name)), key="replayed", credential=None, models=(), proxy="")
        for name in names or [entry.account or "replayed"]
    )
    base_url = f"{config.upstream_url.rstrip('/')}/{config.upstream_version}"
    yield _Way(send=_answering(before["calls"], entry.model), base_url=base_url, accounts=stand_ins)


def _answering(calls: Sequence[jsontext.JsonObject], model: str) -> Send:
    """Answers each call as the recorded one was: the next with the same body, else the next of all. model: the one that
    upstream lists."""
    left = list(calls)
    listed = {"models": [{"name": f"models/{model}", "supportedGenerationMethods": ["generateContent"]}]}

    async def send(call: Call) -> "_Again":
        if call.method == "GET":
            return _Again(jsontext.dumps(listed), 200, (), None)
        if not left:
            raise UpstreamFailed("The recording has no answer for a further call.")
        text = call.body.decode("utf-8", "backslashreplace")
        one = next((one for one in left if one["body"] == text), left[0])
        left.remove(one)
        if one["status"] is None:
            raise UpstreamFailed(one["error"] or "No answer came.")
        headers = tuple((name, value) for name, value in one["answer_headers"])
        return _Again(_unmarked(one["answer"])[0], one["status"], headers, one["error"])

    return send


class _Again:
    """`http11.UpstreamReply` with a recorded answer."""

    def __init__(self, body: bytes, status: int, headers: Headers, error: str | None) -> None:
        self.status = status
        self.headers = headers
        self._body = body
        self._error = error

    async def read(self) -> bytes:
        if self._error is not None:
            raise UpstreamFailed(self._error)
        return self._body

    async def pump(self, feed: Callable[[bytes], None], reply: Follower | None = None) -> None:
        if self._body:
            feed(self._body)
        if self._error is not None:
            raise UpstreamFailed(self._error)

    def close(self) -> None:
        pass


# --- what is kept ----------------------------------------------------------------------------------------------


class _Borrowed:
    """`records.Store` of the home folder that is only read: a replay leaves nothing there."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def read(self, owner: str, reads: Sequence[Read], now: float) -> list[tuple[Record, ...]]:
        return await self._store.read(owner, reads, now)

    async def write(self, owner: str, changes: Sequence[Change], now: float) -> None:
        pass


@asynccontextmanager
async def _borrowed(config: Config, home: Path) -> AsyncIterator[Store | None]:
    from ..io.state import FILE as STATE_FILE
    from ..io.state import State

    if not config.state:
        yield None
        return
    file = home / STATE_FILE
    # No end of age and size: reading must not tidy up.
    state = State(file if file.exists() else None, max_age_seconds=1e12, max_bytes=1 << 62)
    try:
        yield _Borrowed(state)
    finally:
        await state.close()
