"""Conversation events -> Responses answers: the unary object and the event stream, both told by one `Composer`.

The stream is `created`, `in_progress`, items, and one end; each event has its `event:` line and the next number of
one count. `created` waits for the first thing to say, so that a blocked prompt or an early failure is still an HTTP
status. The hot path is a piece of text: its frame is put together from a head and a tail made once.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import assert_never

from ... import jsontext, sse
from ...conversation import (
    Choice,
    ChoiceEnded,
    Event,
    Exchange,
    Finish,
    MessageEnded,
    MessageStarted,
    Part,
    PartDelta,
    PartEnded,
    PartStarted,
    Reasoning,
    Response,
    Text,
    ToolCall,
    Usage,
)
from ...errors import GatewayError, InvalidRequest, UpstreamOverloaded
from ...jsontext import JsonObject
from .. import _openai
from .._chat_shapes import FINISH, visible_text
from .compaction import Compactor, is_compaction
from .echo import ended_tier, failure_object, skeleton, usage_object
from .output import Channel, Composer, Silence, Sink

_INCOMPLETE = {Finish.LENGTH: "max_output_tokens", Finish.FILTERED: "content_filter"}


def encode_error(error: GatewayError) -> JsonObject:
    """The body of an error. A full model has the code for which Codex says so after five tries, not thirty."""
    body = _openai.encode_error(error)
    if error.code is None and isinstance(error, UpstreamOverloaded):
        body["error"]["code"] = "server_is_overloaded"
    return body


def _blocked(end: ChoiceEnded) -> InvalidRequest:
    """What the live API says to a prompt that it will not answer."""
    message = end.message or f"The request was blocked by Gemini ({end.raw_finish or 'no reason given'})."
    return InvalidRequest(message, code="invalid_prompt")


def _composer(exchange: Exchange, sink: Sink) -> Composer | Compactor:
    return Compactor(exchange, sink) if is_compaction(exchange.body) else Composer(exchange, sink)


def _ended(
    begun: JsonObject, composer: Composer | Compactor, end: ChoiceEnded, usage: Usage, ended: int | None
) -> JsonObject:
    """The final object, its keys in the order of `begun`. ended: Unix seconds, where the exchange says them."""
    reason = _INCOMPLETE.get(end.finish)
    response = {
        **begun,
        "status": "completed" if reason is None else "incomplete",
        "incomplete_details": None if reason is None else {"reason": reason},
        "output": composer.items,
        "service_tier": ended_tier(begun),
        "tool_usage": {**begun["tool_usage"], "web_search": {"num_requests": composer.searches}},
        "usage": usage_object(usage),
    }
    if reason is None:
        response["completed_at"] = begun["created_at"] if ended is None else ended
    return response


def _unfold(part: Part) -> Iterator[tuple[Part, str]]:
    """A whole part as the stream brings it: what is known at its start, and its text."""
    match part:
        case Text(text=text) | Reasoning(text=text):
            yield replace(part, text=""), text
        case ToolCall(arguments=arguments):
            yield replace(part, arguments=""), arguments
        case _:
            yield part, ""


def encode_response(response: Response, exchange: Exchange) -> JsonObject:
    """The unary `response` object. Raises InvalidRequest where the prompt was blocked."""
    composer = _composer(exchange, Silence())
    choice = response.choices[0]
    for whole in choice.parts:
        for part, text in _unfold(whole):
            composer.start(part)
            if text:
                composer.delta(text)
            composer.end_part()
    if choice.end.finish is Finish.FILTERED and composer.is_empty:
        raise _blocked(choice.end)
    composer.end_choice(choice.end)
    ended = _ended(skeleton(exchange), composer, choice.end, response.usage, response.ended)
    return ended | _chat_choices(choice) if exchange.policy.responses_include_choices else ended


def _chat_choices(choice: Choice) -> JsonObject:
    """Chat's `choices`, for clients that were written for another API and look for the answer there."""
    calls = [
        {"id": part.id, "type": "function", "function": {"name": part.name, "arguments": part.arguments or "{}"}}
        for part in choice.parts
        if isinstance(part, ToolCall)
    ]
    text = "".join(visible_text(part) for part in choice.parts)
    message = {"role": "assistant", "content": text or None, **({"tool_calls": calls} if calls else {})}
    return {"choices": [{"index": 0, "message": message, "finish_reason": FINISH[choice.end.finish]}]}


class _Frames:
    """The sink of a stream: makes frames, numbers them, and begins the stream with the first."""

    def __init__(self, begun: JsonObject) -> None:
        self._begun = begun
        self._frames: list[bytes] = []
        self._number = 0

    @property
    def has_begun(self) -> bool:
        return self._number > 0

    def take(self) -> list[bytes]:
        frames, self._frames = self._frames, []
        return frames

    def begin(self) -> None:
        if self.has_begun:
            return
        response = jsontext.dumps(self._begun)  # long where tools are many, and said twice
        steps = [(b"response.created", response), (b"response.in_progress", response)]
        if self._begun["background"]:
            queued = jsontext.dumps({**self._begun, "status": "queued"})
            steps[:1] = [(b"response.created", queued), (b"response.queued", queued)]
        for kind, shown in steps:
            self._frames.append(
                b'event: %b\ndata: {"type":"%b","response":%b,"sequence_number":%d}\n\n'
                % (kind, kind, shown, self._number)
            )
            self._number += 1

    def event(self, kind: str, fields: JsonObject) -> None:
        self.begin()
        data = jsontext.dumps({"type": kind, **fields, "sequence_number": self._number})
        self._frames.append(sse.encode(data, kind))
        self._number += 1

    def channel(self, kind: str, fields: JsonObject, tail: JsonObject) -> Channel:
        head = sse.encode(jsontext.dumps({"type": kind, **fields}), kind).removesuffix(b"}\n\n") + b',"delta":'
        before_number = b"," + jsontext.dumps({**tail, "sequence_number": 0})[1:-2]

        def say(text: str) -> None:
            self._frames.append(b"%b%b%b%d}\n\n" % (head, jsontext.dumps(text), before_number, self._number))
            self._number += 1

        return say


class StreamEncoder:
    """Events in, frames out. `response` is the object as it stands: the final one once the stream has ended."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._begun = skeleton(exchange)
        self.response = {**self._begun, "status": "queued"} if self._begun["background"] else self._begun
        self._frames = _Frames(self._begun)
        self._composer = _composer(exchange, self._frames)
        self._end: ChoiceEnded | None = None
        self.is_over = False

    def feed(self, event: Event) -> list[bytes]:
        """The frames of one event. Raises InvalidRequest for a blocked prompt while nothing has been sent."""
        if self.is_over:
            return []
        match event:
            case PartDelta(choice=0, text=text):
                self._composer.delta(text)
            case PartStarted(choice=0, part=part):
                self._composer.start(part)
            case PartEnded(choice=0):
                self._composer.end_part()
            case ChoiceEnded(choice=0):
                return self._end_choice(event)
            case MessageEnded():
                return self._finish(event)
            case MessageStarted() if self._composer.is_empty:
                # Another attempt after one that brought nothing to say: what that one left half told is void.
                self._composer = _composer(self._exchange, self._frames)
            case MessageStarted() | PartDelta() | PartStarted() | PartEnded() | ChoiceEnded():
                pass  # choices after the first have no place in a response
            case _:
                assert_never(event)
        return self._frames.take()

    def begin(self) -> list[bytes]:
        """The first frames, for a run in the background: they hold the id by which it can be found again."""
        self._frames.begin()
        self.response = self._begun
        return self._frames.take()

    def keep_alive(self) -> list[bytes]:
        """An event, since a comment does not reset Codex's timer; the stream begins with it if it has not yet."""
        if self.is_over:
            return []
        self._frames.event("keepalive", {})
        return self._frames.take()

    def fail(self, error: GatewayError) -> list[bytes]:
        """`response.failed` with the items that are done; one that is open stays out, as half a call must not run."""
        if self.is_over:
            return []
        output = self._composer.items
        return self._close({**self._begun, "status": "failed", "error": failure_object(error), "output": output})

    def cancel(self) -> list[bytes]:
        """The end of a run in the background that a client stopped; the items that are done stay."""
        if self.is_over:
            return []
        return self._close({**self._begun, "status": "cancelled", "output": self._composer.items})

    def _end_choice(self, end: ChoiceEnded) -> list[bytes]:
        if end.finish is Finish.FILTERED and self._composer.is_empty:
            error = _blocked(end)
            if not self._frames.has_begun:
                raise error
            return self.fail(error)
        self._end = end
        self._composer.end_choice(end)
        return self._frames.take()

    def _finish(self, event: MessageEnded) -> list[bytes]:
        assert self._end is not None
        return self._close(_ended(self._begun, self._composer, self._end, event.usage, event.ended))

    def _close(self, response: JsonObject) -> list[bytes]:
        self._frames.event(f"response.{response['status']}", {"response": response})
        self.response = response
        self.is_over = True
        frames = self._frames.take()
        return [*frames, sse.DONE] if self._exchange.policy.responses_done else frames
