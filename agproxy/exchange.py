"""One exchange with upstream: attempts over accounts, the legs of one request, unary and streamed answers.

A *leg* is one upstream call's share of an answer: a request for several choices, or with several prompts, takes
several, side by side, and each brings choices of its own numbers. Another attempt is allowed until the first frame of
the answer has gone out. The bytes of a stream do not pass through tasks or queues: the upstream connection calls
`_Leg.feed`, which writes to the client in the same call.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from . import __version__, jsontext
from .backends import Target, gemini
from .config import Config
from .conversation import (
    Event,
    Exchange,
    Folder,
    MessageEnded,
    MessageStarted,
    Notice,
    PartStarted,
    Policy,
    Request,
    Response,
    Usage,
)
from .errors import (
    GatewayError,
    InvalidRequest,
    NoAccount,
    Retry,
    UpstreamFailed,
    UpstreamOverloaded,
)
from .frontends import Frontend, StreamEncoder
from .http11 import EVENT_STREAM, Headers, HttpRequest, Reply, Send
from .pool import Account, Pool, cause_of, error_of
from .signatures import SignatureMemory, without_signatures

log = logging.getLogger("agproxy.exchange")

T = TypeVar("T")

MAX_LEGS = 8  # upstream calls that one request may cause side by side


@dataclass(slots=True)
class Progress:
    """What one exchange has cost so far, for headers and the log."""

    request: HttpRequest
    started: float
    cors: Headers = ()
    model_asked: str = ""
    model: str = ""
    account: Account | None = None
    attempts: int = 0
    waited_seconds: float = 0.0
    notices: tuple[Notice, ...] = ()

    def note(self, notices: tuple[Notice, ...]) -> None:
        self.notices += tuple(notice for notice in notices if notice not in self.notices)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """One upstream call's share: its request, and the number of its first choice."""

    request: Request
    offset: int


def legs_of(request: Request, model: str) -> tuple[Leg, ...]:
    """The upstream calls that a request takes. Raises InvalidRequest where they are too many."""
    prompts = (request, *request.siblings)
    wanted = request.sampling.candidates
    calls = 1 if wanted == 1 or gemini.takes_candidates(model, wanted) else wanted
    if len(prompts) * calls > MAX_LEGS:
        param = "n" if calls > 1 else "prompt"
        raise InvalidRequest(
            f"Invalid '{param}': this would take {len(prompts) * calls} calls of {model}, the most is {MAX_LEGS}.",
            code="integer_above_max_value" if calls > 1 else "array_above_max_length",
            param=param,
        )
    single = Leg(request=replace(request, siblings=()) if request.siblings else request, offset=0)
    if len(prompts) == calls == 1:
        return (single,)
    legs = []
    for number, prompt in enumerate(prompts):
        sampling = prompt.sampling if calls == 1 else replace(prompt.sampling, candidates=1)
        for call in range(calls):
            seeded = sampling if sampling.seed is None else replace(sampling, seed=sampling.seed + call)
            share = replace(prompt, siblings=(), sampling=seeded)
            legs.append(Leg(request=share, offset=number * wanted + call))
    return tuple(legs)


def join_usage(usages: list[tuple[Leg, Usage]], choices_each: int) -> Usage:
    """Usage of the whole: outputs summed, each prompt counted once however many calls it took."""
    total = usages[0][1]
    seen = {usages[0][0].offset // choices_each}
    for leg, usage in usages[1:]:
        prompt = leg.offset // choices_each
        counts = (
            usage
            if prompt not in seen
            else replace(usage, prompt_tokens=0, cached_tokens=0, prompt_audio_tokens=0, prompt_image_tokens=0)
        )
        seen.add(prompt)
        total = Usage(**{name: getattr(total, name) + getattr(counts, name) for name in Usage.__dataclass_fields__})
    return total


class Upstream:
    """Carries exchanges to Gemini: what they share is here, what one exchange needs is handed in."""

    def __init__(
        self,
        *,
        config: Config,
        pool: Pool,
        send: Send,
        base_url: str,
        now: Callable[[], float],
        clock: Callable[[], float],
    ) -> None:
        self.config = config
        self.pool = pool
        self.send = send
        self.now = now
        self.clock = clock
        self._base_url = base_url
        self.signatures = SignatureMemory()

    @property
    def policy(self) -> Policy:
        config = self.config
        return Policy(
            thoughts=config.thoughts,
            late_system=config.late_system,
            schema_with_tools=config.schema_with_tools,
            images=config.images,
        )

    def target(self, account: Account) -> Target:
        return Target(base_url=self._base_url, key=account.key, user_agent=f"agproxy/{__version__}")

    def no_account(self) -> NoAccount:
        return NoAccount(
            "agproxy has no Gemini account. Set GEMINI_API_KEY, or start with --simulate auto to try it without one.",
            passes_soon=False,
        )

    async def attempts(self, progress: Progress, attempt: Callable[[Account], Awaitable[T]]) -> T:
        """Run an attempt, and others after it while its error allows and the answer has not begun.

        Whoever is ready is asked at once; only where nobody is does the request wait, and only so long.
        """
        if not self.pool.accounts:
            raise self.no_account()
        tried: set[str] = set()
        overloaded: set[str] = set()
        last: GatewayError | None = None
        account: Account | None = None
        count = accidents = 0
        while True:
            if account is None:
                account = await self._wait_for_account(progress, frozenset(tried), frozenset(overloaded), last)
            progress.account = account
            progress.attempts += 1
            count += 1
            self.pool.begin(account, progress.model, self.now())
            try:
                result = await attempt(account)
            except GatewayError as error:
                self.pool.end(account, progress.model, self.now(), error)
                log.debug("%s: attempt %d on %s: %s", progress.request.id, count, account.id, error.message)
                accidents += error.retry is Retry.SAME_ACCOUNT
                if error.retry is Retry.NEVER or count >= self.config.max_attempts or accidents > 1:
                    raise
                last = error
                tried.add(account.id)
                if isinstance(error, UpstreamOverloaded):
                    overloaded.add(account.quota)
                if error.retry is Retry.NEXT_ACCOUNT:
                    account = None
            except BaseException:  # cancelled, or a bug: the account must not look busy for ever
                self.pool.release(account, progress.model)
                raise
            else:
                self.pool.end(account, progress.model, self.now(), None)
                return result

    async def _wait_for_account(
        self, progress: Progress, tried: frozenset[str], overloaded: frozenset[str], last: GatewayError | None
    ) -> Account:
        """The account for the next attempt, waited for within `max_wait_seconds` a request."""
        while True:
            now = self.now()
            pick = self.pool.pick(progress.model, now, tried, overloaded)
            if pick.account is not None:
                return pick.account
            if pick.ready_at is None or pick.cool_down is None:
                raise last or self.no_account()
            wait = pick.ready_at - now
            spread = wait * random.uniform(1.0, 1.1) + 0.001  # many that wait should not come back as one
            if progress.waited_seconds + spread > self.config.max_wait_seconds:
                if last is not None and cause_of(last) is pick.cool_down.cause:
                    last.retry_after_seconds = wait
                    raise last
                raise error_of(pick.cool_down, wait)
            progress.waited_seconds += spread
            await asyncio.sleep(spread)

    def encode(self, request: Request, progress: Progress, *, is_signed: bool = True) -> gemini.Encoded:
        """The upstream body of a leg. is_signed: with the signatures that the client or our memory has."""
        known = self.signatures.restore(request, progress.model) if is_signed else without_signatures(request)
        encoded = gemini.encode(known, progress.model, self.policy)
        progress.note(encoded.notices)
        return encoded

    async def unary(self, frontend: Frontend, exchange: Exchange, progress: Progress) -> jsontext.JsonObject:
        """The whole answer."""
        legs = legs_of(exchange.request, progress.model)
        responses = await side_by_side([self._unary_leg(leg, exchange, progress) for leg in legs])
        response = responses[0]
        if len(responses) > 1:
            response = replace(
                response,
                choices=tuple(choice for one in responses for choice in one.choices),
                usage=join_usage(
                    [(leg, one.usage) for leg, one in zip(legs, responses, strict=True)],
                    exchange.request.sampling.candidates,
                ),
            )
        return frontend.encode_response(response, exchange)

    async def _unary_leg(self, leg: Leg, exchange: Exchange, progress: Progress) -> Response:
        encoded = self.encode(leg.request, progress)

        async def attempt(account: Account) -> Response:
            answer = await self.send(gemini.call(encoded, progress.model, self.target(account), is_stream=False))
            try:
                body = await answer.read()
            finally:
                answer.close()
            if answer.status != 200:
                raise gemini.decode_error(answer.status, answer.headers, body)
            try:
                chunk = jsontext.loads(body)
            except ValueError:
                raise UpstreamFailed("Upstream's answer is not JSON.", code="bad_upstream_body") from None
            decoder = gemini.decoder(encoded, exchange.id, leg.offset)
            folder = Folder()
            for event in (*decoder.feed(chunk), *decoder.finish()):
                folder.feed(event)
            return folder.result()

        try:
            response = await self.attempts(progress, attempt)
        except GatewayError as error:
            if error.code != gemini.FOREIGN_SIGNATURE:
                raise
            encoded = self.encode(leg.request, progress, is_signed=False)
            response = await self.attempts(progress, attempt)
        progress.note(response.notices)
        for choice in response.choices:
            for part in choice.parts:
                self.signatures.remember(progress.model, part)
        return response


async def side_by_side(runs: list[Awaitable[T]]) -> list[T]:
    """The results of awaitables that run at the same time; the first failure ends the others and is raised."""
    if len(runs) == 1:
        return [await runs[0]]
    tasks = [asyncio.ensure_future(run) for run in runs]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


class Stream:
    """The streamed answer of one exchange. `head` gives the answer's headers when its first byte goes out."""

    def __init__(
        self,
        upstream: Upstream,
        frontend: Frontend,
        exchange: Exchange,
        progress: Progress,
        reply: Reply,
        head: Callable[[], Headers],
    ) -> None:
        self.upstream = upstream
        self.exchange = exchange
        self.progress = progress
        self.reply = reply
        self.encoder: StreamEncoder = frontend.StreamEncoder(exchange)
        self.has_frames = False
        self._head = head
        self._has_message = False
        self._last_write = upstream.clock()
        self._timer: asyncio.TimerHandle | None = None

    async def run(self) -> GatewayError | None:
        """Stream the answer. Raises a GatewayError while nothing has gone out; one that came later is returned, after
        the stream was ended in the protocol's own way."""
        exchange = self.exchange
        shares = legs_of(exchange.request, self.progress.model)
        legs = [_Leg(self, leg, is_shared=len(shares) > 1) for leg in shares]
        self._arm()
        try:
            await side_by_side([leg.run() for leg in legs])
            ends = [leg.end for leg in legs if leg.end is not None]
            if len(legs) > 1:
                usages = [(leg.leg, leg.end.usage) for leg in legs if leg.end is not None]
                usage = join_usage(usages, exchange.request.sampling.candidates)
                self.write(self.encoder.feed(MessageEnded(usage=usage)))
            for end in ends:
                self.progress.note(end.notices)
            self.reply.end()
        except GatewayError as error:
            if not self.reply.has_started:
                raise
            self.reply.write(b"".join(self.encoder.fail(error)))
            self.reply.end()
            return error
        finally:
            if self._timer is not None:
                self._timer.cancel()
        return None

    def encode_shared(self, event: Event) -> list[bytes]:
        """Frames of an event where several legs make one message: it starts once and ends with all of them."""
        if isinstance(event, MessageEnded):
            return []
        if isinstance(event, MessageStarted):
            if self._has_message:
                return []
            self._has_message = True
        return self.encoder.feed(event)

    def write(self, frames: list[bytes]) -> None:
        """All frames of one upstream read, in one write."""
        if not frames:
            return
        self._start()
        self.has_frames = True
        self._last_write = self.upstream.clock()
        self.reply.write(frames[0] if len(frames) == 1 else b"".join(frames))

    def _start(self) -> None:
        if not self.reply.has_started:
            self.reply.start(
                200,
                (
                    ("content-type", EVENT_STREAM),
                    ("cache-control", "no-cache"),
                    ("x-accel-buffering", "no"),
                    *self._head(),
                ),
            )

    def _arm(self) -> None:
        seconds = self.upstream.config.keepalive_seconds
        if seconds > 0:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._keep_alive)

    def _keep_alive(self) -> None:
        """Runs every keepalive_seconds; speaks only where nothing was written in that time. A keep-alive is no frame
        of the answer: attempts go on after it."""
        seconds = self.upstream.config.keepalive_seconds
        if seconds <= 0:
            return
        silent = self.upstream.clock() - self._last_write
        if silent >= seconds * 0.99:
            self._start()
            self.reply.write(b"".join(self.encoder.keep_alive()))
            self._last_write = self.upstream.clock()
            silent = 0.0
        self._timer = asyncio.get_running_loop().call_later(seconds - silent, self._keep_alive)


class _Leg:
    """One upstream stream of an answer."""

    def __init__(self, stream: Stream, leg: Leg, *, is_shared: bool) -> None:
        self.stream = stream
        self.leg = leg
        self.end: MessageEnded | None = None
        self._encode = stream.encode_shared if is_shared else stream.encoder.feed
        self._decoder: gemini.ByteDecoder | None = None

    async def run(self) -> None:
        stream, upstream, progress = self.stream, self.stream.upstream, self.stream.progress
        encoded = upstream.encode(self.leg.request, progress)

        async def attempt(account: Account) -> None:
            limit = upstream.config.max_event_bytes
            self._decoder = gemini.byte_decoder(encoded, stream.exchange.id, self.leg.offset, max_event_bytes=limit)
            answer = await upstream.send(gemini.call(encoded, progress.model, upstream.target(account), is_stream=True))
            try:
                if answer.status != 200:
                    raise gemini.decode_error(answer.status, answer.headers, await answer.read())
                await answer.pump(self.feed, stream.reply)
                self._take(self._decoder.finish())
            except GatewayError as error:
                if stream.has_frames:
                    error.retry = Retry.NEVER
                raise
            finally:
                answer.close()

        try:
            await upstream.attempts(progress, attempt)
        except GatewayError as error:
            if error.code != gemini.FOREIGN_SIGNATURE or stream.has_frames:
                raise
            encoded = upstream.encode(self.leg.request, progress, is_signed=False)
            await upstream.attempts(progress, attempt)

    def feed(self, data: bytes) -> None:
        """Bytes of one upstream read."""
        assert self._decoder is not None
        events = self._decoder.feed(data)
        if events:
            self._take(events)

    def _take(self, events: list[Event]) -> None:
        frames: list[bytes] = []
        encode = self._encode
        for event in events:
            kind: Any = type(event)
            if kind is PartStarted:
                self.stream.upstream.signatures.remember(self.stream.progress.model, event.part)  # type: ignore[union-attr]
            elif kind is MessageEnded:
                self.end = event  # type: ignore[assignment]
            frames += encode(event)
        self.stream.write(frames)
