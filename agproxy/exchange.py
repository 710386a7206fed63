"""One exchange with upstream: attempts over accounts, the legs of one request, unary and streamed answers.

A *leg* is one upstream call's share of an answer: a request for several choices, or with several prompts, takes
several, side by side, and each brings choices of its own numbers. Another attempt is allowed until the first frame of
the answer has gone out. The bytes of a stream do not pass through tasks or queues: the upstream connection calls
`_Leg.feed`, which writes to the client in the same call.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from . import jsontext
from .answers import whole
from .aside import LARGE_BYTES, Aside
from .attempts import Attempts, TokenSource
from .auth import NOBODY, Client
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
from .entries import Step
from .errors import (
    GatewayError,
    InvalidRequest,
    NoAccount,
    Retry,
    UpstreamAuthFailed,
    UpstreamOverloaded,
    UpstreamRateLimited,
)
from .frontends import Frontend, StreamEncoder
from .http11 import EVENT_STREAM, Call, Flow, Follower, Headers, HttpRequest, Reply, Send
from .pool import Account, Pool, Ticket
from .probing import Outcome, probe
from .recording import Recording
from .records import Store
from .signatures import SharedSignatures, SignatureMemory, without_signatures
from .targets import target_of
from .trace import Trace
from .values import value_class

T = TypeVar("T")

_MOST_NOTICES = 100  # of one request; a header has room for some ten
_PROBE_SECONDS = 30.0
MAX_LEGS = 8  # upstream calls that one request may cause side by side


@dataclass(slots=True)
class Progress:
    """How far one request has come and what it has cost so far, for headers, the log and whoever looks on.

    at: Unix seconds of its begin; started, first_byte_at: of the clock, which only runs forward. client: name of its
    key, and who: the same with what that may do. protocol, action: as in `Entry`. is_background: a run goes on after
    the client's answer. bytes_out: of bodies.
    """

    request: HttpRequest
    started: float
    at: float = 0.0
    client: str | None = None
    who: Client = NOBODY
    protocol: str = ""
    action: str = ""
    is_stream: bool = False
    is_background: bool = False
    first_byte_at: float | None = None
    bytes_out: int = 0
    usage: Usage | None = None
    trace: Trace | None = None
    recording: Recording | None = None
    steps: list[Step] = field(default_factory=list)
    size_bytes: int = 0  # of the request's body
    cors: Headers = ()
    model_asked: str = ""
    model: str = ""
    account: Account | None = None
    attempts: int = 0
    waited_seconds: float = 0.0
    notices: tuple[Notice, ...] = ()
    fallbacks: tuple[str, ...] = ()
    session: str | None = None
    outcomes: list[str] = field(default_factory=list)

    def note(self, notices: tuple[Notice, ...]) -> None:
        """Add to the warnings. A body may cause more than any header or log line can tell: the first ones are kept."""
        if notices and len(self.notices) < _MOST_NOTICES:
            self.notices = tuple(dict.fromkeys((*self.notices, *notices[:_MOST_NOTICES])))[:_MOST_NOTICES]

    @property
    def told(self) -> tuple[str, ...]:
        """The words of the notices, each once."""
        return tuple(dict.fromkeys(notice.message for notice in self.notices))


@value_class(frozen=True, slots=True, kw_only=True)
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


def is_out(error: GatewayError) -> bool:
    """Whether it is the accounts that are out for a model, so that another model may still be served."""
    if isinstance(error, NoAccount):
        return True
    kinds = (UpstreamRateLimited, UpstreamOverloaded, UpstreamAuthFailed)
    return isinstance(error, kinds) and error.retry is not Retry.NEVER


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
        tokens: TokenSource | None = None,
        on_revoked: Callable[[Account, str], None] | None = None,
        aside: Aside | None = None,
        shared: Store | None = None,
    ) -> None:
        self.config = config
        self.aside = aside or Aside()
        self.pool = pool
        self.send = send
        self.now = now
        self.clock = clock
        self.base_url = base_url
        self.signatures = SignatureMemory()
        self.shared = None if shared is None else SharedSignatures(self.signatures, shared, now)
        self._policy_of: Config | None = None
        self._policy = Policy()
        self.attempts = Attempts(config=lambda: self.config, pool=pool, now=now, tokens=tokens, on_revoked=on_revoked)

    @property
    def policy(self) -> Policy:
        config = self.config
        if config is not self._policy_of:
            self._policy_of, self._policy = config, self._make_policy(config)
        return self._policy

    @staticmethod
    def _make_policy(config: Config) -> Policy:
        return Policy(
            thoughts=config.thoughts,
            late_system=config.late_system,
            schema_with_tools=config.schema_with_tools,
            images=config.images,
            schemas=config.schemas,
            responses_done=config.responses_done,
            responses_include_choices=config.responses_include_choices,
        )

    async def target(self, account: Account) -> Target:
        """Where an account's calls go, with its key or its token of the moment."""
        key = account.key
        if account.credential is not None:
            if self.attempts.tokens is None:
                raise NoAccount(f"account {account.id}: nobody fetches tokens here", passes_soon=False)
            key = await self.attempts.tokens.token(account)
        return target_of(account, key, self.base_url)

    async def probe(self, account: Account, model: str) -> Outcome:
        """One small call with an account, which counts for nothing else."""
        tokens = self.attempts.tokens
        return await probe(self.send, tokens, account, self.base_url, model, _PROBE_SECONDS, self.clock)

    def no_account(self) -> NoAccount:
        return self.attempts.no_account()

    async def over_models(
        self, progress: Progress, run: Callable[[], Awaitable[T]], may_go_on: Callable[[], bool] = lambda: True
    ) -> T:
        """Run with the model that a name means, then with its fallbacks while every account is out for the last one."""
        while True:
            model = progress.model
            try:
                return await run()
            except GatewayError as error:
                if not (progress.fallbacks and is_out(error) and may_go_on()):
                    raise
                if progress.model == model:  # else another leg has moved on already
                    progress.model, *rest = progress.fallbacks
                    progress.fallbacks = tuple(rest)
                    progress.waited_seconds = 0.0

    async def encode(self, request: Request, progress: Progress, *, is_signed: bool = True) -> gemini.Encoded:
        """The upstream body of a leg. is_signed: with the signatures that the client or our memory has."""
        if self.shared is not None and is_signed:
            await self.shared.load(request, progress.model)
        encoded = await self.aside.run(progress.size_bytes, self._encode, request, progress.model, is_signed)
        progress.note(encoded.notices)
        return encoded

    def _encode(self, request: Request, model: str, is_signed: bool) -> gemini.Encoded:
        known = self.signatures.restore(request, model) if is_signed else without_signatures(request)
        return gemini.encode(known, model, self.policy)

    async def call(
        self, encoded: gemini.Encoded, model: str, target: Target, progress: Progress, *, is_stream: bool
    ) -> Call:
        """The upstream request of one attempt."""
        size = progress.size_bytes
        in_slices = size >= LARGE_BYTES
        call = await self.aside.run(size, gemini.call, encoded, model, target, is_stream=is_stream, in_slices=in_slices)
        return call if progress.trace is None else replace(call, headers=call.headers + progress.trace.headers)

    async def unary(self, frontend: Frontend, exchange: Exchange, progress: Progress) -> jsontext.JsonObject:
        """The whole answer."""
        legs = legs_of(exchange.request, progress.model)
        if len(legs) == 1:
            response = await self._unary_leg(legs[0], exchange, progress)
        else:
            responses = await side_by_side([self._unary_leg(leg, exchange, progress) for leg in legs])
            response = responses[0]
            response = replace(
                response,
                choices=tuple(choice for one in responses for choice in one.choices),
                usage=join_usage(
                    [(leg, one.usage) for leg, one in zip(legs, responses, strict=True)],
                    exchange.request.sampling.candidates,
                ),
            )
        progress.usage = response.usage
        return frontend.encode_response(response, exchange)

    async def _unary_leg(self, leg: Leg, exchange: Exchange, progress: Progress) -> Response:
        response = await self.over_models(progress, lambda: self._unary_on_model(leg, exchange, progress))
        progress.note(response.notices)
        for choice in response.choices:
            for part in choice.parts:
                self.signatures.remember(progress.model, part)
        if self.shared is not None:
            await self.shared.save()
        return response

    async def _unary_on_model(self, leg: Leg, exchange: Exchange, progress: Progress) -> Response:
        encoded = await self.encode(leg.request, progress)
        model = progress.model

        async def attempt(ticket: Ticket) -> Response:
            target = await self.target(ticket.account)
            progress.note(gemini.notices(encoded, target))
            call = await self.call(encoded, model, target, progress, is_stream=False)
            chunk = gemini.unwrap(await self._ask(call, ticket, progress))
            decoder = gemini.decoder(encoded, exchange.id, leg.offset)
            folder = Folder()
            for event in (*decoder.feed(chunk), *decoder.finish()):
                folder.feed(event)
            return folder.result(ended=int(self.now()))

        try:
            return await self.attempts.run(progress, attempt)
        except GatewayError as error:
            if error.code != gemini.FOREIGN_SIGNATURE:
                raise
            encoded = await self.encode(leg.request, progress, is_signed=False)
            return await self.attempts.run(progress, attempt)

    async def count(self, request: Request, progress: Progress) -> int:
        """How many tokens a request's prompt has, as upstream counts them."""
        encoded = await self.encode(request, progress)

        async def attempt(ticket: Ticket) -> int:
            call = gemini.count_call(encoded, progress.model, await self.target(ticket.account))
            if progress.trace is not None:
                call = replace(call, headers=call.headers + progress.trace.headers)
            return gemini.decode_count(await self._ask(call, ticket, progress))

        return await self.attempts.run(progress, attempt)

    def sender(self, ticket: Ticket, progress: Progress) -> Send:
        """What carries a call of an attempt."""
        recording = progress.recording
        return self.send if recording is None else recording.sender(self.send, ticket.account.id)

    async def _ask(self, call: Call, ticket: Ticket, progress: Progress) -> Any:
        """The JSON of a whole answer. Raises as `answers.whole`."""
        answer = await self.sender(ticket, progress)(call)
        self.pool.answered(ticket, self.now())
        return await whole(answer)


async def side_by_side(runs: list[Awaitable[T]]) -> list[T]:
    """The results of awaitables that run at the same time; the first failure ends the others and is raised."""
    tasks = [asyncio.ensure_future(run) for run in runs]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def stream_headers(more: Headers) -> Headers:
    """The headers of an answer that is an event stream."""
    return (("content-type", EVENT_STREAM), ("cache-control", "no-cache"), ("x-accel-buffering", "no"), *more)


class Stream:
    """The streamed answer of one exchange. `head` gives the answer's headers when its first byte goes out.

    event_errors: those that the stream tells itself, on a 200, even where nothing has gone out. keep: awaited with
    the last frames when the answer is complete or has failed, before the client hears of it. may_forget: the encoder
    needs the request no more.
    """

    __slots__ = (
        "_event_errors",
        "_has_message",
        "_head",
        "_keep",
        "_last_write",
        "_timer",
        "encoder",
        "exchange",
        "has_frames",
        "last_frames",
        "may_forget",
        "progress",
        "reply",
        "upstream",
    )

    def __init__(
        self,
        upstream: Upstream,
        encoder: StreamEncoder,
        exchange: Exchange,
        progress: Progress,
        reply: Reply,
        head: Callable[[], Headers],
        *,
        event_errors: tuple[type[GatewayError], ...] = (),
        keep: Callable[[list[bytes]], Awaitable[None]] | None = None,
        may_forget: bool = False,
    ) -> None:
        self.upstream = upstream
        self.may_forget = may_forget
        self.exchange = exchange
        self.progress = progress
        self.reply = reply
        self.encoder = encoder
        self.has_frames = False
        self.last_frames: list[bytes] = []
        self._head = head
        self._event_errors = event_errors
        self._keep = keep
        self._has_message = False
        self._last_write = upstream.clock()
        self._timer: asyncio.TimerHandle | None = None

    async def run(self) -> GatewayError | None:
        """Stream the answer. Raises a GatewayError while nothing has gone out; one that came later is returned, after
        the stream was ended in the protocol's own way."""
        exchange = self.exchange
        shares = legs_of(exchange.request, self.progress.model)
        joint = _Joint(self.reply) if len(shares) > 1 else None
        legs = [_Leg(self, leg, joint) for leg in shares]
        del shares  # they hold the request
        self.may_forget = self.may_forget and len(legs) == 1
        self._arm()
        try:
            if len(legs) == 1:
                await legs[0].run()
            else:
                await side_by_side([leg.run() for leg in legs])
            if len(legs) > 1:
                usage = self._usage_of(legs) or Usage()
                self.last_frames += self.encoder.feed(MessageEnded(usage=usage, ended=int(self.upstream.now())))
            for leg in legs:
                if leg.end is not None:
                    self.progress.note(leg.end.notices)
            await self._end(self.last_frames)
        except GatewayError as error:
            if not (self.reply.has_started or isinstance(error, self._event_errors)):
                raise
            await self._end(self.encoder.fail(error))
            return error
        finally:
            self.progress.usage = self._usage_of(legs)
            if self._timer is not None:
                self._timer.cancel()
        return None

    def _usage_of(self, legs: list["_Leg"]) -> Usage | None:
        """What upstream has counted so far; None where it has not, as before its first chunk."""
        usages = [(leg.leg, usage) for leg in legs if (usage := leg.usage) is not None]
        if len(usages) > 1:
            return join_usage(usages, self.exchange.request.sampling.candidates)
        return usages[0][1] if usages else None

    async def _end(self, frames: list[bytes]) -> None:
        if self.upstream.shared is not None:
            await self.upstream.shared.save()
        if self._keep is not None:
            await self._keep(frames)
        self.write(frames)
        self.reply.end()

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
        self._last_write = self.upstream.clock()
        if not self.has_frames:
            self._start()
            self.has_frames = True
            self.progress.first_byte_at = self._last_write
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        self.progress.bytes_out += len(data)
        self.reply.write(data)

    def _start(self) -> None:
        if not self.reply.has_started:
            self.reply.start(200, stream_headers(self._head()))

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


class _Joint:
    """The upstream connections of several legs as one source, all of which a slow client pauses."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._sources: dict[_Share, Flow] = {}

    def pause(self) -> None:
        for source in self._sources.values():
            source.pause()

    def resume(self) -> None:
        for source in self._sources.values():
            source.resume()

    def follow(self, share: "_Share", source: Flow | None) -> None:
        if source is None:
            self._sources.pop(share, None)
        else:
            self._sources[share] = source
        self._reply.follow(self if self._sources else None)


class _Share:
    """What one of several legs goes to."""

    def __init__(self, joint: _Joint) -> None:
        self._joint = joint

    def follow(self, source: Flow | None) -> None:
        self._joint.follow(self, source)


class _Leg:
    """One upstream stream of an answer. joint: of all legs, where there are several."""

    __slots__ = ("_decoder", "_encode", "_encoded", "_follower", "end", "leg", "stream")

    def __init__(self, stream: Stream, leg: Leg, joint: _Joint | None) -> None:
        self.stream = stream
        self.leg = leg
        self.end: MessageEnded | None = None
        self._encoded: gemini.Encoded | None = None
        self._encode = stream.encoder.feed if joint is None else stream.encode_shared
        self._follower: Follower = stream.reply if joint is None else _Share(joint)
        self._decoder: gemini.ByteDecoder | None = None

    @property
    def usage(self) -> Usage | None:
        """What upstream has counted so far."""
        if self.end is not None:
            return self.end.usage
        return None if self._decoder is None else self._decoder.usage

    async def run(self) -> None:
        stream = self.stream
        await stream.upstream.over_models(stream.progress, self._run_on_model, lambda: not stream.has_frames)

    async def _run_on_model(self) -> None:
        stream, upstream, progress = self.stream, self.stream.upstream, self.stream.progress
        encoded = self._encoded = await upstream.encode(self.leg.request, progress)
        model = progress.model

        async def attempt(ticket: Ticket) -> None:
            limit = upstream.config.max_event_bytes
            target = await upstream.target(ticket.account)
            progress.note(gemini.notices(encoded, target))
            self._decoder = gemini.byte_decoder(
                encoded, stream.exchange.id, self.leg.offset, max_event_bytes=limit, target=target
            )
            call = await upstream.call(encoded, model, target, progress, is_stream=True)
            answer = await upstream.sender(ticket, progress)(call)
            del call  # it holds the body
            upstream.pool.answered(ticket, upstream.now())
            try:
                if answer.status != 200:
                    raise gemini.decode_error(answer.status, answer.headers, await answer.read())
                await answer.pump(self.feed, self._follower)
                stream.last_frames += self._frames(self._decoder.finish())
            except GatewayError as error:
                if stream.has_frames:
                    error.retry = Retry.NEVER
                raise
            finally:
                answer.close()

        try:
            await upstream.attempts.run(progress, attempt)
        except GatewayError as error:
            if error.code != gemini.FOREIGN_SIGNATURE or stream.has_frames:
                raise
            encoded = self._encoded = await upstream.encode(self.leg.request, progress, is_signed=False)
            await upstream.attempts.run(progress, attempt)

    def feed(self, data: bytes) -> None:
        """Bytes of one upstream read."""
        assert self._decoder is not None
        events = self._decoder.feed(data)
        if events:
            self.stream.write(self._frames(events))
            if self._encoded is not None and self.stream.has_frames:
                self._let_go(self._encoded)

    def _let_go(self, encoded: gemini.Encoded) -> None:
        """No attempt can follow: what it would send need not be kept while the answer goes on. A stream with 500 KB of
        history, as coding agents send it, takes some 100 KB so, instead of 1,650."""
        encoded.body.clear()
        self._encoded = None
        if self.stream.may_forget:
            self.stream.exchange.let_go()
            self.leg = Leg(request=self.stream.exchange.request, offset=self.leg.offset)

    def _frames(self, events: list[Event]) -> list[bytes]:
        frames: list[bytes] = []
        encode = self._encode
        for event in events:
            kind: Any = type(event)
            if kind is PartStarted:
                self.stream.upstream.signatures.remember(self.stream.progress.model, event.part)  # type: ignore[union-attr]
            elif kind is MessageEnded:
                event = self.end = replace(event, ended=int(self.stream.upstream.now()))  # type: ignore
            frames += encode(event)
        return frames
