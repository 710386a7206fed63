"""`agproxy doctor --live`: real calls with the user's own account, held against the simulator and the codecs.

Each case goes through the gateway's codecs twice, once to Google and once to the embedded simulator. What differs is
told, and what was captured is written in the layout of tests/golden, without secrets.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import jsontext, setup
from ..account import hide, secrets_of_url
from ..accounts import Entry, account_of
from ..config import BY_NAME, Config, parse
from ..errors import ConfigError
from ..http11 import Call, Follower, Headers, Send, UpstreamReply, find
from ..pool import Account
from . import paper, term
from .colour import BOLD, RED, YELLOW, paint
from .common import EXIT_FAILED
from .live_cases import COUNT, INVALID_KEY, Case, cases_of
from .live_compare import Capture, differences

if TYPE_CHECKING:
    from ..attempts import TokenSource

_SECONDS = 120.0  # high thinking takes a minute
_MOST_WAIT_SECONDS = 65.0  # limits are by the minute; those of the day are not waited for
_GREEN = "32"
# Settings that say how upstream is reached; how requests are translated stays at the defaults, as in golden cases.
_NETWORK = (
    "upstream_url",
    "upstream_version",
    "allow_plain_http",
    "ca_file",
    "upstream_proxy",
    "connect_timeout_seconds",
)
_HEADERS = ("x-mapped-model", "x-agproxy-warnings", "retry-after", "x-should-retry")  # those that golden cases hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One case. problem: why it could not be asked or compared, or nothing."""

    case: Case
    differences: tuple[str, ...] = ()
    problem: str = ""


def run(options: argparse.Namespace, settings: Config, used: list[Entry], *, is_simulated: bool) -> int:
    """Ask, compare, write, tell; the exit status. Raises ConfigError without an account or without consent."""
    account = _account(options.account, used, is_simulated=is_simulated)
    model = options.model or setup.MODEL
    cases = cases_of(model, has_key=account is None or account.credential is None)
    whose = f"account {account.id}" if account is not None else "the simulated Gemini"
    _ask_consent(cases, f"{model} with {whose}", is_given=options.yes or is_simulated)
    folder = Path(options.output or time.strftime("doctor-%Y%m%dT%H%M%SZ", time.gmtime()))
    try:
        folder.mkdir(mode=0o700, parents=True)
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror}") from None
    outcomes = asyncio.run(_ask_all(settings, account, cases, options.timeout or _SECONDS, folder))
    if options.json:
        print(json.dumps([_shown(outcome) for outcome in outcomes], indent=2, ensure_ascii=False))
    else:
        print("\n".join(_lines(outcomes)))
    print(f"captured: {folder}/ (without keys; look at it before you pass it on)", file=sys.stderr)
    return EXIT_FAILED if any(outcome.differences or outcome.problem for outcome in outcomes) else 0


def _account(wanted: str | None, used: list[Entry], *, is_simulated: bool) -> Account | None:
    """The account to ask with; None for the embedded simulator's."""
    from .. import accounts

    if is_simulated:
        return None
    known = [entry for entry in used if entry.is_known]
    if wanted is not None:
        return account_of(accounts.find(known, wanted))
    if not known:
        raise ConfigError("there is no account to ask with: 'agproxy accounts add' adds one")
    return account_of(known[0])


def _ask_consent(cases: tuple[Case, ...], what: str, *, is_given: bool) -> None:
    """Say what it costs. Raises ConfigError where nobody agrees."""
    tokens_in, tokens_out = sum(case.tokens_in for case in cases), sum(case.tokens_out for case in cases)
    told = f"{len(cases)} calls of {what}: about {tokens_in:,} tokens in and {tokens_out:,} out, thinking included"
    print(told, file=sys.stderr)
    if is_given:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise ConfigError("nothing was asked: say --yes if that is all right")
    print("Go on? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise ConfigError("nothing was asked")


# --- asking ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Line:
    """A way to one of the two Geminis: `send` that remembers the last call and its answer."""

    through: Send
    base_url: str
    account: Account
    tokens: "TokenSource | None"
    settings: Config
    call: Call | None = None
    status: int = 0
    headers: Headers = ()
    body: bytearray = field(default_factory=bytearray)
    answers: dict[str, bytes] = field(default_factory=dict)

    async def send(self, call: Call) -> UpstreamReply:
        self.call = call
        answer = await self.through(call)
        self.status, self.headers = answer.status, answer.headers
        return _Heard(answer, self.body)

    async def ask(self, case: Case, body: Any) -> Capture:
        """One exchange."""
        self.call, self.status, self.headers, self.body = None, 0, (), bytearray()
        account = self.account
        if case.is_invalid:
            account = replace(account, key=INVALID_KEY)
        reply = await paper.exchange(
            replace(self.settings, **{name: parse(BY_NAME[name], value) for name, value in case.settings.items()}),
            case.path,
            jsontext.dumps(body),
            self.send,
            account=account,
            base_url=self.base_url,
            tokens=self.tokens,
        )
        self.answers[case.name] = reply.body
        return Capture(
            upstream_status=self.status,
            upstream_headers=self.headers,
            upstream_body=bytes(self.body),
            client_status=reply.status,
            client_headers=reply.headers,
            client_notices=tuple(reply.notices),
            client_body=reply.body,
            is_count=case.path == COUNT,
        )

    def body_of(self, case: Case) -> Any:
        """What a client sends for the case; None where an earlier answer is not fit for it."""
        if case.make is None:
            return case.body
        try:
            answer = jsontext.loads(self.answers.get(case.follows, b"null"))
        except ValueError:
            return None
        return case.make(answer)


class _Heard:
    """`http11.UpstreamReply` whose body is kept."""

    def __init__(self, answer: UpstreamReply, body: bytearray) -> None:
        self.status, self.headers = answer.status, answer.headers
        self._answer, self._body = answer, body

    async def read(self) -> bytes:
        data = await self._answer.read()
        self._body += data
        return data

    async def pump(self, feed: Callable[[bytes], None], reply: Follower | None = None) -> None:
        def hear(data: bytes) -> None:
            self._body += data
            feed(data)

        await self._answer.pump(hear, reply)

    def close(self) -> None:
        self._answer.close()


async def _ask_all(
    settings: Config, account: Account | None, cases: tuple[Case, ...], seconds: float, folder: Path
) -> list[Outcome]:
    from ..embed import reaching
    from ..io.tokens import Tokens

    defaults = Config(max_wait_seconds=0.0)
    real = replace(defaults, **{name: getattr(settings, name) for name in _NETWORK})
    if account is None:
        real = replace(defaults, simulate="on")
    accounts = () if account is None else (account,)
    async with reaching(real, accounts) as reach, reaching(replace(defaults, simulate="on"), ()) as simulated:
        tokens = Tokens(reach.send, time.time, reach.egress)
        ours = _Line(reach.send, reach.base_url, reach.accounts[0], tokens, real)
        theirs = _Line(simulated.send, simulated.base_url, simulated.accounts[0], None, defaults)
        outcomes: list[Outcome] = []
        try:
            with term.Progress(len(cases), "calls") as progress:
                for case in cases:
                    progress.tell(case.name)
                    outcomes.append(await _ask(case, ours, theirs, seconds, folder, progress))
                    progress.step()
                    if outcomes[-1].problem.startswith(_END):
                        break
        finally:
            await tokens.close()
    return outcomes


_END = "the rest was not asked: "


async def _ask(
    case: Case, ours: _Line, theirs: _Line, seconds: float, folder: Path, progress: term.Progress
) -> Outcome:
    body = ours.body_of(case)
    if body is None:
        return Outcome(case=case, problem=f"not asked: the answer to {case.follows!r} has no calls")
    expected = await theirs.ask(case, theirs.body_of(case))
    for is_last in (False, True):
        try:
            async with asyncio.timeout(seconds):
                real = await ours.ask(case, body)
        except TimeoutError:
            return Outcome(case=case, problem=f"no answer within {seconds:g} s")
        wait = float(find(real.client_headers, "retry-after") or "inf")
        if real.upstream_status != 429 or is_last or wait > _MOST_WAIT_SECONDS:
            break
        progress.tell(f"{case.name}, after a limit of {wait:g} s")
        await asyncio.sleep(wait)
    _write(folder, case, body, ours, real)
    if real.upstream_status == 0:
        return Outcome(case=case, problem=f"{_END}{_message(real)} (agproxy doctor tells more)")
    if real.upstream_status == 429:
        return Outcome(case=case, problem=f"{_END}{_message(real)}")
    return Outcome(case=case, differences=tuple(differences(real, expected)))


def _message(capture: Capture) -> str:
    """What the gateway tells its client."""
    try:
        match jsontext.loads(capture.client_body):
            case {"error": {"message": str(message)}}:
                return message
    except ValueError:
        pass
    return f"HTTP {capture.client_status}"


# --- what is written -------------------------------------------------------------------------------------------


def _write(folder: Path, case: Case, body: Any, line: _Line, capture: Capture) -> None:
    """The case in the layout of tests/golden: requests, answers, and what it is about."""
    is_golden = case.path != COUNT
    place = folder / ("openai_chat" if is_golden else "other") / case.name
    place.mkdir(mode=0o700, parents=True)

    def put(name: str, data: bytes) -> None:
        with open(os.open(place / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(_without_secrets(data, line, is_error=capture.upstream_status != 200))

    put("1-client-request.json" if is_golden else "client-request.json", _pretty(body))
    if case.settings:
        put("settings.json", _pretty(case.settings))
    if line.call is not None:
        url = line.call.url.partition("/models/")
        shown = {"url": "/models/" + url[2] if url[1] else line.call.url, "body": jsontext.loads(line.call.body)}
        put("2-upstream-request.json", _pretty([shown]))
    upstream = capture.upstream_body
    if capture.upstream_status == 200:
        put("3-upstream-response.sse" if capture.is_stream else "3-upstream-response.json", upstream)
    elif capture.upstream_status:
        try:
            put(
                "3-upstream-response.json",
                _pretty([{"status": capture.upstream_status, "body": jsontext.loads(upstream)}]),
            )
        except ValueError:
            put("3-upstream-response.txt", upstream)
    if capture.is_stream and capture.client_status == 200:
        put("4-client-response.sse", capture.client_body)
    else:
        headers = {name: value for name, value in capture.client_headers if name in _HEADERS}
        answer = {"status": capture.client_status, "headers": headers, "body": _json_or_text(capture.client_body)}
        put("4-client-response.json", _pretty(answer))
    how = "a golden case after: pytest --update-golden" if is_golden else "no golden case: there is no path for it"
    when = time.strftime("%Y-%m-%d", time.gmtime())
    put("about.md", f"{case.about[0].upper()}{case.about[1:]}. Captured on {when}; {how}.\n".encode())


def _json_or_text(data: bytes) -> Any:
    try:
        return jsontext.loads(data)
    except ValueError:
        return data.decode(errors="replace")


def _pretty(value: Any) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False).encode(errors="backslashreplace") + b"\n"


def _without_secrets(data: bytes, line: _Line, *, is_error: bool) -> bytes:
    """Without the key or token, the project and the e-mail address of the account, and in errors whatever looks like
    one; elsewhere signatures may look like keys by chance."""
    from ..backends.gemini.errors import hide_private

    account = line.account
    words = [account.key, account.email or "", account.endpoint.project, account.endpoint.quota_project]
    words += secrets_of_url(account.proxy)
    if line.call is not None:
        words += [value.removeprefix("Bearer ") for name, value in line.call.headers if name in _CREDENTIALS]
    text = hide(data.decode("utf-8", "surrogateescape"), words)
    return (hide_private(text) if is_error else text).encode("utf-8", "surrogateescape")


_CREDENTIALS = ("authorization", "x-goog-api-key", "x-goog-user-project")


# --- what is shown ---------------------------------------------------------------------------------------------


def _shown(outcome: Outcome) -> dict[str, Any]:
    return {
        "case": outcome.case.name,
        "about": outcome.case.about,
        "differences": list(outcome.differences),
        "problem": outcome.problem or None,
    }


def _lines(outcomes: list[Outcome]) -> list[str]:
    width = max(len(outcome.case.name) for outcome in outcomes)
    lines = []
    for outcome in outcomes:
        word, style = ("as expected", _GREEN)
        if outcome.problem:
            word, style = outcome.problem, RED
        elif outcome.differences:
            word, style = f"{len(outcome.differences)} differences", YELLOW
        lines.append(f"{paint(f'{outcome.case.name:<{width}}', BOLD)}  {paint(term.plain(word), style)}")
        lines += [f"{'':<{width}}  - {term.plain(line)}" for line in outcome.differences]
    count = sum(len(outcome.differences) for outcome in outcomes)
    return [*lines, "", f"{count} differences in {len(outcomes)} calls"]
