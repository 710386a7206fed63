"""The bodies of one request, kept while it runs where `journal_bodies` asks for that, and made fit for the journal.

What the client sent, each upstream call with its answer, and what the client was answered, streams as their raw frames.
`Recording` only holds on to what passes; `told` turns it into JSON, which takes time and is for a thread: known secrets
and headers that hold some are removed, media in base64 become a mark with length and hash, and each body is bounded.
All recordings of a process have one budget, from a request's begin until its bodies are written: where it is used up,
the newest of those under way drops its bodies, and marks stand in their places.
"""

import itertools
import re
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from urllib.parse import quote
from weakref import WeakValueDictionary

from . import jsontext
from .account import Account, secrets_of_url
from .config import Config
from .errors import GatewayError
from .http11 import Call, Flow, Follower, Headers, HttpRequest, HttpResponse, Reply, Send, UpstreamReply

REMOVED = "[agproxy: removed]"
# Of one body while it passes. Over it the rest is only counted: an image of 20 MB still fits, and becomes a mark.
_MOST_HELD_BYTES = 32 * 1024 * 1024
_MOST_BUDGET_BYTES = 128 * 1024 * 1024
_LEAST_SECRET_CHARACTERS = 4  # a shorter one would be found in every other word
_SECRET_NAME = re.compile("auth|key|token|secret|cookie|password|credential|signature|^proxy-")
_QUERY = re.compile(r"([?&]|^)([^=&#?/]+)=([^&#]+)")
_RUN = r"([A-Za-z0-9+/_=-]{256,})"
# Where media stand in the two protocols: each begins with its literal text, which `re` finds fast.
_MEDIA = tuple(
    re.compile(f"({before}){_RUN}")
    for before in (
        ";base64,",
        r'"data" ?: ?"',
        r'"file_data" ?: ?"',
        r'"b64_json" ?: ?"',
        r'"result" ?: ?"',
        r'"partial_image_b64" ?: ?"',
    )
)
MARK = re.compile(r"\[agproxy: \d+ characters of base64, sha256 [0-9a-f]{16}\]")
CUT = re.compile(r"\[agproxy: cut, \d+ of \d+ bytes\]\Z")
DROPPED = re.compile(r"\A\[agproxy: dropped, \d+ bytes: too much was under way\]\Z")


# --- what passes -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Passed:
    """Bytes of one body. size: of all that passed, of which the first are held."""

    pieces: list[bytes] = field(default_factory=list, repr=False)
    held: int = 0
    size: int = 0


class Budget:
    """Bytes that recordings may hold together. Used by an event loop; what is given back may come from any thread."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._held = 0
        self._freed: deque[int] = deque()  # not yet taken off `_held`, which only the loop changes
        self._numbers = itertools.count()
        self._under_way: WeakValueDictionary[int, Recording] = WeakValueDictionary()  # the newest last

    def begin(self, recording: "Recording") -> int:
        """A recording begins; the number by which it ends."""
        number = next(self._numbers)
        self._under_way[number] = recording
        return number

    def end(self, number: int) -> None:
        """A recording is whole: nobody may drop its bodies any more."""
        self._under_way.pop(number, None)

    def take(self, recording: "Recording", size: int) -> bool:
        """Bytes for a recording; the newest make room. Whether it may keep them: False where it is dropped itself."""
        self._settle()
        while self._held + size > self.most_bytes and not recording.is_dropped:
            try:
                newest = self._under_way.popitem()[1]
            except KeyError:
                newest = recording
            newest.drop()
            self._settle()
        if recording.is_dropped:
            return False
        self._held += size
        return True

    def give_back(self, size: int) -> None:
        self._freed.append(size)

    def _settle(self) -> None:
        while self._freed:
            self._held -= self._freed.popleft()


ALL = Budget(_MOST_BUDGET_BYTES)
"""That of the process."""


@dataclass(slots=True)
class Upstream:
    """One call, its body apart, and what became of it. status: None where no answer came; error: why it did not, or
    broke off."""

    account: str
    call: Call
    status: int | None = None
    headers: Headers = ()
    sent: Passed = field(default_factory=Passed)
    answer: Passed = field(default_factory=Passed)
    error: str | None = None


class Recording:
    """What passes of one request. exchange: (id, created) of it, by which the same answer can be made once more.
    is_for_errors: it is wanted only where the request fails. is_dropped: its bodies were too much."""

    def __init__(
        self, request: HttpRequest, config: Config, accounts: tuple[Account, ...], budget: Budget = ALL
    ) -> None:
        self._budget = budget
        self.is_dropped = False
        self.held_bytes = 0  # of the budget
        self.is_for_errors = config.journal_bodies == "errors"
        self.exchange: tuple[str, int] | None = None
        self._config = config
        self._accounts = accounts
        self._most_bytes = config.journal_body_max_bytes
        self._head = (request.method, request.path, request.query)
        self._headers = request.headers
        self._body = Passed()
        self._calls: list[Upstream] = []
        self._status = 0
        self._answer_headers: Headers = ()
        self._answer = Passed()
        self._number = budget.begin(self)
        self.keep(self._body, request.body, most=len(request.body))

    def __del__(self) -> None:
        self._budget.give_back(self.held_bytes)

    def keep(self, passed: Passed, data: bytes, most: int = _MOST_HELD_BYTES) -> None:
        """Add to a body what still fits."""
        passed.size += len(data)
        size = min(len(data), most - passed.held)
        if size > 0 and not self.is_dropped and self._budget.take(self, size):
            self.held_bytes += size
            passed.pieces.append(data[:size])
            passed.held += size

    def drop(self) -> None:
        """Let go of the bodies; their sizes stay."""
        self.is_dropped = True
        self._let_go()

    def end(self) -> None:
        """All has passed: from here on a thread may read it."""
        self._budget.end(self._number)

    def release(self) -> None:
        """It has ended, is written, and is not read again. From any thread."""
        self._let_go()

    def _let_go(self) -> None:
        size, self.held_bytes = self.held_bytes, 0
        self._budget.give_back(size)
        for passed in (self._body, self._answer, *(two for one in self._calls for two in (one.sent, one.answer))):
            passed.pieces.clear()

    def sender(self, send: Send, account: str) -> Send:
        """`send`, with what passes by it kept."""

        async def kept(call: Call) -> UpstreamReply:
            one = Upstream(account, replace(call, body=b""))
            self._calls.append(one)
            self.keep(one.sent, call.body, most=len(call.body))
            try:
                answer = await send(call)
            except GatewayError as error:
                one.error = error.message
                raise
            one.status, one.headers = answer.status, answer.headers
            return _Answer(answer, one, self)

        return kept

    def reply(self, reply: Reply) -> Reply:
        """A reply, with what is written to it kept."""
        return _Reply(reply, self)

    def began(self, status: int, headers: Headers) -> None:
        self._status, self._answer_headers = status, headers

    def wrote(self, data: bytes) -> None:
        self.keep(self._answer, data)

    def told(self) -> jsontext.JsonObject:
        """All of it as JSON, without secrets, each body bounded.

        {"exchange": [id, created] | null, "request": {"method", "path", "query", "headers", "body"}, "calls":
        [{"account", "method", "url", "headers", "body", "status", "answer_headers", "answer", "error"}], "answer":
        {"status", "headers", "body"}}
        """
        words = [*_secrets_of(self._config, self._accounts)]
        words += [word for one in self._calls for word in _secrets_in(one.call.headers)]
        fit = Fit(words, self._most_bytes)
        method, path, query = self._head
        return {
            "exchange": None if self.exchange is None else list(self.exchange),
            "request": {
                "method": method,
                "path": fit.text(path),
                "query": fit.query(query),
                "headers": fit.headers(self._headers),
                "body": self._told_body(fit, self._body),
            },
            "calls": [
                {
                    "account": one.account,
                    "method": one.call.method,
                    "url": fit.query(one.call.url),
                    "headers": fit.headers(one.call.headers),
                    "body": self._told_body(fit, one.sent),
                    "status": one.status,
                    "answer_headers": fit.headers(one.headers),
                    "answer": self._told_body(fit, one.answer),
                    "error": None if one.error is None else fit.text(one.error),
                }
                for one in self._calls
            ],
            "answer": {
                "status": self._status,
                "headers": fit.headers(self._answer_headers),
                "body": self._told_body(fit, self._answer),
            },
        }

    def _told_body(self, fit: "Fit", passed: Passed) -> str:
        if self.is_dropped and passed.size:
            return f"[agproxy: dropped, {passed.size} bytes: too much was under way]"
        return fit.body(b"".join(passed.pieces), passed.size)


class _Answer:
    """`http11.UpstreamReply` whose bytes are kept."""

    def __init__(self, answer: UpstreamReply, one: Upstream, recording: Recording) -> None:
        self._answer = answer
        self._one = one
        self._recording = recording

    @property
    def status(self) -> int:
        return self._answer.status

    @property
    def headers(self) -> Headers:
        return self._answer.headers

    async def read(self) -> bytes:
        try:
            data = await self._answer.read()
        except GatewayError as error:
            self._one.error = error.message
            raise
        self._recording.keep(self._one.answer, data)
        return data

    async def pump(self, feed: Callable[[bytes], None], reply: Follower | None = None) -> None:
        def kept(data: bytes) -> None:
            self._recording.keep(self._one.answer, data)
            feed(data)

        try:
            await self._answer.pump(kept, reply)
        except GatewayError as error:
            self._one.error = error.message
            raise

    def close(self) -> None:
        self._answer.close()


class _Reply:
    """`http11.Reply` whose bytes are kept."""

    def __init__(self, reply: Reply, recording: Recording) -> None:
        self._reply = reply
        self._recording = recording

    @property
    def has_started(self) -> bool:
        return self._reply.has_started

    def send(self, response: HttpResponse) -> None:
        self._recording.began(response.status, response.headers)
        self._recording.wrote(response.body)
        self._reply.send(response)

    def start(self, status: int, headers: Headers) -> None:
        self._recording.began(status, headers)
        self._reply.start(status, headers)

    def write(self, data: bytes) -> None:
        self._recording.wrote(data)
        self._reply.write(data)

    def end(self) -> None:
        self._reply.end()

    def abort(self) -> None:
        self._reply.abort()

    def follow(self, source: Flow | None) -> None:
        self._reply.follow(source)


# --- made fit --------------------------------------------------------------------------------------------------


class Fit:
    """Makes texts and headers fit to be kept. secrets: words that must not be in them."""

    def __init__(self, secrets: Iterable[str], most_bytes: int) -> None:
        known = {word for word in secrets if len(word) >= _LEAST_SECRET_CHARACTERS}
        # As they stand in a JSON text, and in a URL.
        known |= {form for word in known for form in (jsontext.dumps(word).decode()[1:-1], quote(word, safe=""))}
        self._secrets = sorted(known, key=len, reverse=True)
        self._most_bytes = most_bytes

    def text(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, REMOVED)
        return text

    def body(self, data: bytes, size: int) -> str:
        """A body as text. size: of all of it, where only its beginning is here."""
        text = data.decode("utf-8", "backslashreplace")
        for pattern in _MEDIA:
            text = pattern.sub(lambda match: match[1] + _mark(match[2]), text)
        text = self.text(text)
        raw = text.encode("utf-8", "surrogatepass")
        if len(raw) <= self._most_bytes and size == len(data):
            return text
        kept = raw[: self._most_bytes].decode("utf-8", "ignore")
        return f"{kept}[agproxy: cut, {min(len(raw), self._most_bytes)} of {size} bytes]"

    def query(self, url: str) -> str:
        """A URL or a query, the values of its parameters that hold secrets removed."""
        return self.text(
            _QUERY.sub(lambda m: f"{m[1]}{m[2]}={REMOVED}" if _SECRET_NAME.search(m[2].lower()) else m[0], url)
        )

    def headers(self, headers: Headers) -> list[list[str]]:
        return [[name, REMOVED if _SECRET_NAME.search(name.lower()) else self.text(value)] for name, value in headers]


def _mark(base64: str) -> str:
    return f"[agproxy: {len(base64)} characters of base64, sha256 {sha256(base64.encode()).hexdigest()[:16]}]"


def _secrets_in(headers: Headers) -> Iterable[str]:
    """The credentials that stand in a call's headers, tokens among them, which are in no setting."""
    for name, value in headers:
        if name in ("authorization", "x-goog-api-key"):
            yield value.removeprefix("Bearer ")


def _secrets_of(config: Config, accounts: Iterable[Account]) -> Iterable[str]:
    """All that settings and accounts keep secret."""
    for _, key in config.api_key:
        yield key
    yield config.admin_key
    yield config.upstream_proxy
    yield from secrets_of_url(config.upstream_proxy)
    for account in accounts:
        yield account.proxy
        yield from account.secrets
