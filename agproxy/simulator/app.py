"""The simulated Gemini as a server application: one request in, its answer, refusal or broken stream out.

Follows sections 2 and 13 of the wire notes for framing and errors. It is the only part that waits; answers are made by
the pure code beside it. State: how often each prompt with a `fail-first` marker came, and the place in the replay
folder.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .. import jsontext
from ..errors import ConfigError, GatewayError
from ..http11 import Headers, HttpRequest, HttpResponse, Reply
from ..jsontext import JsonObject
from . import answer, compose, faults, methods, prompt, routes, validate
from .prompt import Prompt
from .replay import Recorded, find, frames, load, merged
from .routes import Route
from .status import STATUS_NAMES, Refused, pretty

_JSON: Headers = (("content-type", "application/json; charset=UTF-8"),)
_EVENTS: Headers = (("content-type", "text/event-stream"), ("cache-control", "no-cache"))
_HTML: Headers = (("content-type", "text/html; charset=UTF-8"),)
_MOST_REMEMBERED = 1_024
_PAUSE_SECONDS = 0.005  # how often a stream looks whether its slow reader wants more
_GENERATE = ("generateContent", "streamGenerateContent")


class _Gate:
    """Tells a stream to wait while the client reads too slowly."""

    def __init__(self) -> None:
        self.is_paused = False

    def pause(self) -> None:
        """The client has enough for now."""
        self.is_paused = True

    def resume(self) -> None:
        """The client wants more."""
        self.is_paused = False


@dataclass(frozen=True, slots=True)
class _Frames:
    """How chunks are framed: as events, or as the elements of one JSON array."""

    is_events: bool

    def each(self, chunks: Iterable[JsonObject]) -> Iterator[bytes]:
        """One frame a chunk; the array's closing bracket is `end`."""
        if self.is_events:
            for chunk in chunks:
                yield b"data: " + jsontext.dumps(chunk) + b"\r\n\r\n"
            return
        for number, chunk in enumerate(chunks):
            yield (b",\r\n" if number else b"[") + pretty(chunk).rstrip()

    def error(self, refused: Refused, *, is_first: bool) -> bytes:
        """An error after good chunks: bare in an event stream, the last element of an array."""
        body = pretty(refused.body())
        return body if self.is_events else (b"[" if is_first else b",\r\n") + body.rstrip()

    def garbage(self, *, is_first: bool) -> bytes:
        """A frame that holds no JSON."""
        if self.is_events:
            return b'data: {"candidates": [{"content": \r\n\r\n'
        return (b"[" if is_first else b",\r\n") + b'{"candidates": [}'

    @property
    def headers(self) -> Headers:
        """The answer's headers."""
        return _EVENTS if self.is_events else _JSON

    @property
    def end(self) -> bytes:
        """What closes a stream that was not cut."""
        return b"" if self.is_events else b"\n]\n"


@dataclass(frozen=True, slots=True)
class _Break:
    """How a stream ends before its time, in its middle."""

    is_cut: bool
    error: Refused | None
    is_garbage: bool

    def __bool__(self) -> bool:
        return self.is_cut or self.error is not None or self.is_garbage


class Simulator:
    """An HTTP handler that speaks the Gemini API; the package's docstring says what it does.

    replay: a folder of recorded answers to serve instead of made-up ones. delay_seconds: between two chunks of a
    stream. sleep: how to wait. Raises ConfigError for a replay folder that cannot be used.
    """

    def __init__(
        self,
        *,
        replay: Path | None = None,
        delay_seconds: float = 0.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._recorded: Sequence[Recorded] = () if replay is None else _loaded(replay)
        self._replayed = 0
        self._delay_seconds = delay_seconds
        self._sleep = sleep
        self._failures: OrderedDict[bytes, int] = OrderedDict()

    async def __call__(self, request: HttpRequest, reply: Reply) -> None:
        """Answer one request."""
        route: Route | None = None
        try:
            route = routes.match(request)
            routes.check_key(request, route)
            routes.check_query(route)
            if route.method in _GENERATE:
                await self._generate(request, route, reply)
            else:
                reply.send(HttpResponse(status=200, headers=_JSON, body=pretty(methods.answer(request, route))))
        except Refused as refused:
            # recorded by gemini-cli: without alt=sse a stream's error comes as a list of one
            is_array = route is not None and route.streams and not route.as_events
            reply.send(_refusal(refused, is_array=is_array))

    async def _generate(self, request: HttpRequest, route: Route, reply: Reply) -> None:
        asked = _read(request, route)
        wait = asked.markers.seconds("slow")
        if wait is not None:
            await self._sleep(wait)
        self._fail_first(asked)
        refused = faults.refusal(asked)
        if refused is not None:
            raise refused
        if "html" in asked.markers:
            reply.send(HttpResponse(status=502, headers=_HTML, body=faults.HTML))
            return
        recorded = self._pick(asked)
        if recorded is not None and (recorded.is_raw or not route.streams):
            reply.send(_whole_recorded(recorded))
        elif route.streams:
            await self._stream(asked, route, reply, recorded)
        else:
            self._answer(asked, route, reply)

    def _fail_first(self, asked: Prompt) -> None:
        """Count a prompt with `fail-first` and refuse it while its number is not reached."""
        wanted = faults.first_failures(asked)
        if wanted is None:
            return
        number, code = wanted
        key = prompt.digest(asked.model.id, asked.user, number, code)
        seen = self._failures.pop(key, 0) + 1
        self._failures[key] = seen
        if len(self._failures) > _MOST_REMEMBERED:
            self._failures.popitem(last=False)
        if seen <= number:
            raise faults.by_code(code, asked.model.id)

    def _pick(self, asked: Prompt) -> Recorded | None:
        """The recorded answer to give: the one that a marker names, else the next of the folder."""
        name = asked.markers.text("replay")
        if name is not None:
            found = find(self._recorded, name)
            if found is None:
                raise Refused(400, f"Simulator: the replay folder has no answer called '{name[:100]}'.")
            return found
        if not self._recorded:
            return None
        found = self._recorded[self._replayed % len(self._recorded)]
        self._replayed += 1
        return found

    def _answer(self, asked: Prompt, route: Route, reply: Reply) -> None:
        """A whole answer, or the ways in which it breaks."""
        broken = faults.mid_stream(asked)
        if broken is not None:
            raise broken
        blocked = _block_reason(asked)
        drafts = answer.write(asked)
        whole = compose.feedback(asked, blocked) if blocked else compose.unary(drafts, asked)
        body = pretty(_wrapped(whole, route, asked))
        if "garbage" in asked.markers:
            body = body[: len(body) // 2]
        if "cut" in asked.markers:
            reply.start(200, _JSON)
            reply.write(body[: len(body) // 2])
            reply.abort()
            return
        reply.send(HttpResponse(status=200, headers=_JSON, body=body))

    async def _stream(self, asked: Prompt, route: Route, reply: Reply, recorded: Recorded | None) -> None:
        framing = _Frames(route.as_events)
        number, pieces = _pieces(asked, route, framing, recorded)
        broken = _Break("cut" in asked.markers, faults.mid_stream(asked), "garbage" in asked.markers)
        middle = number // 2
        pause = asked.markers.seconds("pause") or 0.0
        marked = asked.markers.seconds("delay")
        delay = self._delay_seconds if marked is None else marked
        gate = _Gate()
        reply.start(200, framing.headers)
        reply.follow(gate)
        for index, piece in enumerate(pieces):
            if index:
                await self._sleep(delay + (pause if index == middle else 0.0))
            elif pause and not middle:
                await self._sleep(pause)
            while gate.is_paused:
                await self._sleep(_PAUSE_SECONDS)
            if broken and index == middle:
                _write_break(reply, framing, broken, piece, is_first=not index)
                break
            reply.write(piece)
        reply.follow(None)
        if broken.is_cut:
            reply.abort()
            return
        if framing.end and number:
            reply.write(framing.end)
        reply.end()


def _write_break(reply: Reply, framing: _Frames, broken: _Break, piece: bytes, *, is_first: bool) -> None:
    """What stands in a broken stream where `piece` should have come."""
    if broken.is_cut:
        reply.write(piece[: len(piece) // 2])
    elif broken.error is not None:
        reply.write(framing.error(broken.error, is_first=is_first))
    else:
        reply.write(framing.garbage(is_first=is_first))


def _pieces(asked: Prompt, route: Route, framing: _Frames, recorded: Recorded | None) -> tuple[int, Iterator[bytes]]:
    """The frames of a stream and their number."""
    if recorded is not None:
        if framing.is_events and recorded.events is not None:
            captured = frames(recorded.events)
            return len(captured), iter(captured)
        chunks = (*recorded.chunks, *((recorded.error,) if recorded.error is not None else ()))
        return len(chunks), framing.each(_wrapped(chunk, route, asked) for chunk in chunks)
    blocked = _block_reason(asked)
    if blocked:
        return 1, framing.each([_wrapped(compose.feedback(asked, blocked), route, asked)])
    stream = compose.Stream(answer.write(asked), asked)
    return len(stream), framing.each(_wrapped(chunk, route, asked) for chunk in stream)


def _loaded(folder: Path) -> Sequence[Recorded]:
    try:
        return load(folder)
    except (OSError, ValueError) as error:
        raise ConfigError(f"replay: {folder} cannot be read: {error}") from error


def _read(request: HttpRequest, route: Route) -> Prompt:
    """The checked prompt of a generation request. Raises Refused."""
    value = methods.read_json(request.body)
    if route.is_internal:
        if not isinstance(value, dict) or not isinstance(value.get("request"), dict):
            raise Refused(400, "Request contains an invalid argument.")
        name = str(value.get("model", ""))
        route = replace(route, model_id=name.removeprefix("models/"), name=f"models/{name}")
        value = {key: inner for key, inner in value["request"].items() if key not in ("session_id", "sessionId")}
    body = methods.read_message("GenerateContentRequest", value, route.api)
    model = routes.model_of(route)
    validate.check(body, model, route.api)
    validate.check_tokens(body, model)
    return prompt.read(body, model, route.api)


def _block_reason(asked: Prompt) -> str | None:
    return (asked.markers.text("blocked") or "SAFETY") if "blocked" in asked.markers else None


def _wrapped(chunk: JsonObject, route: Route, asked: Prompt) -> JsonObject:
    """The chunk as the route's API sends it: Code Assist puts it into an envelope."""
    if not route.is_internal:
        return chunk
    return {"response": chunk, "traceId": asked.digest("trace").hex()[:16]}


def _whole_recorded(recorded: Recorded) -> HttpResponse:
    if recorded.raw is not None:
        headers = (("content-type", recorded.content_type),)
        return HttpResponse(status=recorded.status, headers=headers, body=recorded.raw)
    if recorded.error is not None:
        code = recorded.error["error"].get("code", 500)
        return HttpResponse(status=code if code in STATUS_NAMES else 500, headers=_JSON, body=pretty(recorded.error))
    whole = recorded.chunks[0] if len(recorded.chunks) == 1 else merged(recorded.chunks)
    return HttpResponse(status=200, headers=_JSON, body=pretty(whole))


def _refusal(refused: Refused, *, is_array: bool) -> HttpResponse:
    body: object = [refused.body()] if is_array else refused.body()
    return HttpResponse(status=refused.code, headers=_JSON, body=pretty(body))


def refuse(error: GatewayError, path: str) -> HttpResponse:
    """An error of the HTTP server itself, such as a body over its limit, as Google words errors."""
    is_array = path.endswith(":streamGenerateContent")
    name = STATUS_NAMES.get(error.status, "UNKNOWN")
    refused = Refused(error.status, error.message, status=name)
    response = _refusal(refused, is_array=is_array)
    return replace(response, headers=response.headers + error.headers)
