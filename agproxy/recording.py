"""The bodies of one request, kept while it runs where `journal_bodies` asks for that, and made fit for the journal.

What the client sent, each upstream call with its answer, and what the client was answered, streams as their raw frames.
`Recording` only holds on to what passes; `told` turns it into JSON, which takes time and is for a thread: known secrets
and headers that hold some are removed, media in base64 become a mark with length and hash, and each body is bounded.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from urllib.parse import quote

from . import jsontext
from .account import Account, secrets_of_url
from .config import Config
from .errors import GatewayError
from .http11 import Call, Flow, Follower, Headers, HttpRequest, HttpResponse, Reply, Send, UpstreamReply

REMOVED = "[agproxy: removed]"
# Of one body while it passes. Over it the rest is only counted: an image of 20 MB still fits, and becomes a mark.
_MOST_HELD_BYTES = 32 * 1024 * 1024
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


# --- what passes -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Passed:
    """Bytes of one body. size: of all that passed, of which the first are held."""

    pieces: list[bytes] = field(default_factory=list, repr=False)
    held: int = 0
    size: int = 0

    def add(self, data: bytes) -> None:
        self.size += len(data)
        if self.held < _MOST_HELD_BYTES:
            self.pieces.append(data[: _MOST_HELD_BYTES - self.held])
            self.held += len(self.pieces[-1])


@dataclass(slots=True)
class Upstream:
    """One call and what became of it. status: None where no answer came; error: why it did not, or broke off."""

    account: str
    call: Call
    status: int | None = None
    headers: Headers = ()
    answer: Passed = field(default_factory=Passed)
    error: str | None = None


class Recording:
    """What passes of one request. exchange: (id, created) of it, by which the same answer can be made once more.
    is_for_errors: it is wanted only where the request fails."""

    def __init__(self, request: HttpRequest, config: Config, accounts: tuple[Account, ...]) -> None:
        self.is_for_errors = config.journal_bodies == "errors"
        self.exchange: tuple[str, int] | None = None
        self._config = config
        self._accounts = accounts
        self._most_bytes = config.journal_body_max_bytes
        self._head = (request.method, request.path, request.query)
        self._headers = request.headers
        self._body = request.body
        self._calls: list[Upstream] = []
        self._status = 0
        self._answer_headers: Headers = ()
        self._answer = Passed()

    @property
    def held_bytes(self) -> int:
        """Memory that it holds on to."""
        calls = sum(len(one.call.body) + one.answer.held for one in self._calls)
        return len(self._body) + calls + self._answer.held

    def sender(self, send: Send, account: str) -> Send:
        """`send`, with what passes by it kept."""

        async def kept(call: Call) -> UpstreamReply:
            one = Upstream(account, call)
            self._calls.append(one)
            try:
                answer = await send(call)
            except GatewayError as error:
                one.error = error.message
                raise
            one.status, one.headers = answer.status, answer.headers
            return _Answer(answer, one)

        return kept

    def reply(self, reply: Reply) -> Reply:
        """A reply, with what is written to it kept."""
        return _Reply(reply, self)

    def began(self, status: int, headers: Headers) -> None:
        self._status, self._answer_headers = status, headers

    def wrote(self, data: bytes) -> None:
        self._answer.add(data)

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
                "body": fit.body(self._body, len(self._body)),
            },
            "calls": [
                {
                    "account": one.account,
                    "method": one.call.method,
                    "url": fit.query(one.call.url),
                    "headers": fit.headers(one.call.headers),
                    "body": fit.body(one.call.body, len(one.call.body)),
                    "status": one.status,
                    "answer_headers": fit.headers(one.headers),
                    "answer": fit.body(b"".join(one.answer.pieces), one.answer.size),
                    "error": None if one.error is None else fit.text(one.error),
                }
                for one in self._calls
            ],
            "answer": {
                "status": self._status,
                "headers": fit.headers(self._answer_headers),
                "body": fit.body(b"".join(self._answer.pieces), self._answer.size),
            },
        }


class _Answer:
    """`http11.UpstreamReply` whose bytes are kept."""

    def __init__(self, answer: UpstreamReply, one: Upstream) -> None:
        self._answer = answer
        self._one = one

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
        self._one.answer.add(data)
        return data

    async def pump(self, feed: Callable[[bytes], None], reply: Follower | None = None) -> None:
        def kept(data: bytes) -> None:
            self._one.answer.add(data)
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
