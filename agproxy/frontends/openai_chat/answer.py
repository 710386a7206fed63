"""Conversation events -> Chat Completions answers: the unary object and the stream of chunks.

Shapes follow recordings of the live API (all nullable keys are there) and the measured list of what breaks
clients: `index` in every tool piece, id, type and name only in the first, one finish chunk a choice, no `error` key
in a chunk, `[DONE]` once and never after a failure. The hot path is a piece of text: its frame is put together from
a head and a tail made once.
"""

from typing import Any, assert_never

from ... import jsontext, sse
from ...conversation import (
    ChoiceEnded,
    Event,
    Exchange,
    Finish,
    FunctionTool,
    Media,
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
)
from ...errors import GatewayError
from ...jsontext import JsonObject
from ...values import value_class
from .._chat_shapes import FINISH, shift, visible_text
from .._openai import chat_id, chat_usage, encode_error, fingerprint


def refusal_text(end: ChoiceEnded) -> str | None:
    """Why a filtered choice ended, for `refusal`."""
    if end.finish is not Finish.FILTERED:
        return None
    return end.message or f"The answer was blocked by Gemini ({end.raw_finish or 'no reason given'})."


def annotations(end: ChoiceEnded, inserts: list[tuple[int, int]]) -> list[JsonObject]:
    """Citations in `content`'s own offsets; inserts are what stands there besides text."""
    return [
        {
            "type": "url_citation",
            "url_citation": {
                "end_index": citation.end,
                "start_index": citation.start,
                "title": citation.title,
                "url": citation.url,
            },
        }
        for citation in shift(end.citations, inserts)
    ]


def logprobs_object(end: ChoiceEnded) -> JsonObject | None:
    if end.logprobs is None:
        return None

    def entry(token: str, logprob: float) -> JsonObject:
        return {"token": token, "logprob": logprob, "bytes": list(token.encode("utf-8", "surrogatepass"))}

    content = [
        entry(item.token, item.logprob) | {"top_logprobs": [entry(token, value) for token, value in item.top]}
        for item in end.logprobs
    ]
    return {"content": content, "refusal": None}


@value_class(frozen=True, slots=True)
class _Shape:
    """What the request decides about the answer's form."""

    is_legacy: bool  # `functions` of 2023: one function_call instead of tool_calls
    freeform: tuple[str, ...]  # names of custom tools
    include_usage: bool
    has_padding: bool  # `obfuscation`, which OpenAI pads chunks with; it may be empty, and is here
    has_image_field: bool  # images go into message.images instead of the content

    @classmethod
    def of(cls, exchange: Exchange) -> "_Shape":
        body = exchange.body
        options = body.get("stream_options") or {}
        return cls(
            is_legacy=bool(body.get("functions")) and not body.get("tools"),
            freeform=tuple(
                tool.name for tool in exchange.request.tools if isinstance(tool, FunctionTool) and tool.is_freeform
            ),
            include_usage=bool(options.get("include_usage")),
            has_padding=options.get("include_obfuscation") is not False,
            has_image_field=exchange.policy.images == "field",
        )

    def is_field(self, part: Part) -> bool:
        """Whether a part goes into message.images."""
        return self.has_image_field and isinstance(part, Media)

    def finish(self, finish: Finish) -> str:
        return "function_call" if self.is_legacy and finish is Finish.TOOL_CALLS else FINISH[finish]


def freeform_input(arguments: str) -> str:
    """The text that a custom tool was called with, out of the object that carried it."""
    value = jsontext.loads(arguments)
    given = value.get("input") if isinstance(value, dict) and len(value) == 1 else None
    return given if isinstance(given, str) else arguments


def _call_object(call: ToolCall, shape: _Shape) -> JsonObject:
    if call.name in shape.freeform:
        encoded: JsonObject = {
            "id": call.id,
            "type": "custom",
            "custom": {"name": call.name, "input": freeform_input(call.arguments)},
        }
    else:
        encoded = {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
    if call.opaque is not None:
        encoded["extra_content"] = {"google": {"thought_signature": call.opaque}}
    return encoded


def _image_object(media: Media, index: int) -> JsonObject:
    url = media.uri if media.data is None else f"data:{media.mime_type};base64,{media.data}"
    return {"type": "image_url", "image_url": {"url": url}, "index": index}


def _content(parts: tuple[Part, ...], shape: _Shape) -> tuple[str, list[tuple[int, int]]]:
    """The visible text, and where in it stands something else than text."""
    inserts: list[tuple[int, int]] = []
    shown: list[str] = []
    text_length = 0
    for part in parts:
        text = "" if shape.is_field(part) else visible_text(part)
        shown.append(text)
        if isinstance(part, Text):
            text_length += len(text)
        elif text:
            inserts.append((text_length, len(text)))
    return "".join(shown), inserts


def encode_response(response: Response, exchange: Exchange) -> JsonObject:
    """The unary `chat.completion` object."""
    shape = _Shape.of(exchange)
    choices = []
    for choice in response.choices:
        shown, inserts = _content(choice.parts, shape)
        calls = [part for part in choice.parts if isinstance(part, ToolCall)]
        reasoning = [part.text for part in choice.parts if isinstance(part, Reasoning)]
        has_text = len(choice.parts) > len(calls) + len(reasoning)
        thoughts = "".join(reasoning)
        refusal = refusal_text(choice.end)
        message: JsonObject = {
            "role": "assistant",
            "content": shown if has_text or not (calls or refusal) else None,
            "refusal": refusal,
            "annotations": annotations(choice.end, inserts),
        }
        images = [part for part in choice.parts if isinstance(part, Media) and shape.is_field(part)]
        if images:
            message["images"] = [_image_object(image, number) for number, image in enumerate(images)]
        if thoughts:
            message["reasoning_content"] = thoughts
        if calls and shape.is_legacy:
            message["function_call"] = {"name": calls[0].name, "arguments": calls[0].arguments}
        elif calls:
            message["tool_calls"] = [_call_object(call, shape) for call in calls]
        signature = next((p.opaque for p in reversed(choice.parts) if isinstance(p, Text) and p.opaque), None)
        if signature is not None:
            message["extra_content"] = {"google": {"thought_signature": signature}}
        choices.append(
            {
                "index": choice.end.choice,
                "message": message,
                "logprobs": logprobs_object(choice.end),
                "finish_reason": shape.finish(choice.end.finish),
            }
        )
    return {
        "id": chat_id(exchange),
        "object": "chat.completion",
        "created": exchange.created,
        "model": exchange.model,
        "choices": choices,
        "usage": chat_usage(response.usage),
        "service_tier": "default",
        "system_fingerprint": fingerprint(response.model),
    }


class _Choice:
    """What a stream remembers of one choice."""

    __slots__ = (
        "call",
        "calls",
        "has_role",
        "images",
        "inserts",
        "kind",
        "pieces",
        "signature",
        "tail",
        "text_head",
        "text_length",
        "thought_head",
    )

    def __init__(self) -> None:
        self.has_role = False
        self.kind: type[Part] = Text
        self.calls = 0
        self.images = 0
        self.inserts: list[tuple[int, int]] = []
        self.text_length = 0
        self.call: ToolCall | None = None
        self.pieces: list[str] = []
        self.signature: str | None = None
        self.text_head = b""
        self.thought_head = b""
        self.tail = b""


class StreamEncoder:
    """Events in, frames out. `fail` ends the stream as every OpenAI client understands it."""

    __slots__ = ("_choices", "_exchange", "_fingerprint", "_shape")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._shape = _Shape.of(exchange)
        self._choices: dict[int, _Choice] = {}
        self._fingerprint: str | None = None

    def feed(self, event: Event) -> list[bytes]:
        """The frames of one event."""
        match event:
            case PartDelta():
                choice = self._choices[event.choice]
                if choice.kind is Text:  # nearly all
                    choice.text_length += len(event.text)
                    return [choice.text_head + jsontext.quoted(event.text) + choice.tail]
                return self._delta(choice, event.choice, event.text)
            case MessageStarted(model=model):
                self._fingerprint = fingerprint(model)
                return []
            case PartStarted(choice=index, part=part):
                return self._start(self._choice(index), index, part)
            case PartEnded(choice=index):
                return self._end_part(self._choices[index], index)
            case ChoiceEnded(choice=index):
                return self._end_choice(self._choice(index), index, event)
            case MessageEnded(usage=usage):
                frames = []
                if self._shape.include_usage:
                    frames.append(self._chunk([], usage=chat_usage(usage)))
                frames.append(sse.DONE)
                return frames
            case _:
                assert_never(event)

    def keep_alive(self) -> list[bytes]:
        return [sse.KEEP_ALIVE]

    def fail(self, error: GatewayError) -> list[bytes]:
        return [sse.encode(jsontext.dumps(encode_error(error)))]

    # --- frames

    def _chunk(self, choices: list[Any], usage: Any = None) -> bytes:
        exchange = self._exchange
        chunk: JsonObject = {
            "id": chat_id(exchange),
            "object": "chat.completion.chunk",
            "created": exchange.created,
            "model": exchange.model,
            "service_tier": "default",
            "system_fingerprint": self._fingerprint,
            "choices": choices,
        }
        if self._shape.include_usage:
            chunk["usage"] = usage
        if self._shape.has_padding:
            chunk["obfuscation"] = ""
        return sse.encode(jsontext.dumps(chunk))

    def _one(self, index: int, delta: JsonObject, finish: str | None = None, logprobs: Any = None) -> bytes:
        return self._chunk([{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}])

    def _choice(self, index: int) -> _Choice:
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = _Choice()
            choice.text_head, choice.tail = self._around(index, "content")
        return choice

    def _around(self, index: int, key: str) -> tuple[bytes, bytes]:
        """What stands before and behind a piece of text in its frame. The quotes around a key stand bare nowhere but in
        JSON's own structure: no name can hold this."""
        head, end = f'"{key}":'.encode(), b'"\\u0000"'
        before, after = self._one(index, {key: "\x00"}).split(head + end)
        return before + head, after

    def _role(self, choice: _Choice, index: int, content: str | None) -> list[bytes]:
        if choice.has_role:
            return []
        choice.has_role = True
        return [self._one(index, {"role": "assistant", "content": content, "refusal": None})]

    def _start(self, choice: _Choice, index: int, part: Part) -> list[bytes]:
        choice.kind = type(part)
        if isinstance(part, ToolCall):
            choice.call = part
            choice.pieces = []
            frames = self._role(choice, index, None)
            if not self._shape.is_legacy and part.name not in self._shape.freeform:
                frames.append(
                    self._one(index, {"tool_calls": [{"index": choice.calls, **_call_object(part, self._shape)}]})
                )
            elif self._shape.is_legacy and choice.calls == 0:
                frames.append(self._one(index, {"function_call": {"name": part.name, "arguments": ""}}))
            return frames
        frames = self._role(choice, index, "")
        if isinstance(part, Text):
            choice.signature = part.opaque or choice.signature
            return frames
        if isinstance(part, Media) and self._shape.is_field(part):
            frames.append(self._one(index, {"images": [_image_object(part, choice.images)]}))
            choice.images += 1
            return frames
        shown = visible_text(part)
        if shown:
            choice.inserts.append((choice.text_length, len(shown)))
            frames.append(self._one(index, {"content": shown}))
        return frames

    def _delta(self, choice: _Choice, index: int, text: str) -> list[bytes]:
        """A piece of anything but text."""
        if choice.kind is Reasoning:
            if not choice.thought_head:
                choice.thought_head, _ = self._around(index, "reasoning_content")
            return [choice.thought_head + jsontext.quoted(text) + choice.tail]
        assert choice.call is not None
        if choice.call.name in self._shape.freeform:
            choice.pieces.append(text)
            return []
        if self._shape.is_legacy:
            return [self._one(index, {"function_call": {"arguments": text}})] if choice.calls == 0 else []
        return [self._one(index, {"tool_calls": [{"index": choice.calls, "function": {"arguments": text}}]})]

    def _end_part(self, choice: _Choice, index: int) -> list[bytes]:
        if choice.kind is not ToolCall:
            return []
        frames = []
        call = choice.call
        if call is not None and call.name in self._shape.freeform:
            whole = ToolCall(id=call.id, name=call.name, arguments="".join(choice.pieces), opaque=call.opaque)
            frames.append(
                self._one(index, {"tool_calls": [{"index": choice.calls, **_call_object(whole, self._shape)}]})
            )
        choice.calls += 1
        choice.call = None
        return frames

    def _end_choice(self, choice: _Choice, index: int, end: ChoiceEnded) -> list[bytes]:
        refusal = refusal_text(end)
        frames = self._role(choice, index, "" if refusal is None else None)
        if refusal is not None:
            frames.append(self._one(index, {"refusal": refusal}))
        if end.citations:
            frames.append(self._one(index, {"annotations": annotations(end, choice.inserts)}))
        delta: JsonObject = {}
        if choice.signature is not None:
            delta["extra_content"] = {"google": {"thought_signature": choice.signature}}
        frames.append(self._one(index, delta, self._shape.finish(end.finish), logprobs_object(end)))
        return frames
