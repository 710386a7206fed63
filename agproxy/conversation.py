"""The conversation: what a client asks and a model answers, in words that belong to no vendor.

Frontends decode client JSON into a `Request`; a backend decodes upstream JSON into events; `fold` turns events into
a `Response`. Knows parts, turns, events and their legal order. Must not know any vendor's key names, sockets,
clocks or randomness. `None` means "the client did not say". What must be echoed later (Gemini's thought
signatures) rides in a part's `opaque` and nowhere else.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, assert_never

from .values import value_class


class Role(Enum):
    """SYSTEM is for instructions that stand within the conversation; leading ones are `Request.system`."""

    USER = "user"
    MODEL = "model"
    SYSTEM = "system"


@value_class(frozen=True, slots=True, kw_only=True)
class Text:
    text: str
    opaque: str | None = None


@value_class(frozen=True, slots=True, kw_only=True)
class Reasoning:
    """A summary of the model's thinking. Never part of the answer's text."""

    text: str
    opaque: str | None = None


@value_class(frozen=True, slots=True, kw_only=True)
class Media:
    """An image, sound, video or document: base64 `data`, or a `uri` that upstream (or the gateway) fetches.

    mime_type is None only for a URI whose type nobody has said yet. detail: auto, low, high, or None. param: where
    the client wrote it, for errors that only show when it is fetched.
    """

    mime_type: str | None
    data: str | None = None
    uri: str | None = None
    detail: str | None = None
    param: str | None = None
    opaque: str | None = None


@value_class(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call that the model makes. `arguments` is the JSON text of an object.

    id is None where upstream gave none and nobody has named it yet (history only; answers always have one).
    """

    id: str | None
    name: str
    arguments: str
    opaque: str | None = None


@value_class(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """What a call gave back. `name` is that of the call."""

    call_id: str | None
    name: str
    content: tuple["Text | Media", ...]
    is_error: bool = False


@value_class(frozen=True, slots=True, kw_only=True)
class Code:
    """Code that the model runs upstream, on the vendor's side."""

    code: str
    language: str
    opaque: str | None = None


@value_class(frozen=True, slots=True, kw_only=True)
class CodeOutput:
    """What that code printed. `is_ok` is False where it failed or ran out of time."""

    output: str
    is_ok: bool
    opaque: str | None = None


Part = Text | Reasoning | Media | ToolCall | ToolResult | Code | CodeOutput


@value_class(frozen=True, slots=True, kw_only=True)
class Turn:
    role: Role
    parts: tuple[Part, ...]


@value_class(frozen=True, slots=True, kw_only=True)
class FunctionTool:
    """A function that the client runs. parameters: JSON Schema of its arguments, None for none.

    is_freeform: its one argument is plain text under `input` (OpenAI's custom tools).
    origin: the frontend's own note of what the client called the tool, for its encoder; nobody else reads it.
    """

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    is_strict: bool | None = None
    is_freeform: bool = False
    origin: tuple[str, ...] = ()


class Hosted(Enum):
    """Tools that upstream runs itself."""

    WEB_SEARCH = "web_search"
    CODE_EXECUTION = "code_execution"
    URL_CONTEXT = "url_context"


@value_class(frozen=True, slots=True, kw_only=True)
class HostedTool:
    kind: Hosted


Tool = FunctionTool | HostedTool


class Mode(Enum):
    """May the model call tools: as it likes, never, or must it."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"


@value_class(frozen=True, slots=True, kw_only=True)
class ToolChoice:
    """names: only these functions may be called; None for all."""

    mode: Mode
    names: tuple[str, ...] | None = None


@value_class(frozen=True, slots=True, kw_only=True)
class Sampling:
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_output_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    candidates: int = 1
    logprobs: bool = False
    top_logprobs: int | None = None


USUAL_SAMPLING = Sampling()
"""Upstream's own, where a client asks for nothing."""


class Format(Enum):
    TEXT = "text"
    JSON = "json"


@value_class(frozen=True, slots=True, kw_only=True)
class Output:
    """What the answer must be. schema: JSON Schema that a JSON answer must follow; modalities: text, image, audio."""

    format: Format = Format.TEXT
    schema: dict[str, Any] | None = None
    modalities: tuple[str, ...] = ()


@value_class(frozen=True, slots=True, kw_only=True)
class Thinking:
    """effort: none, minimal, low, medium, high, xhigh, max. summaries: whether the client wants to read thoughts.

    budget_tokens and level are Gemini's own settings where a client gave them instead of an effort.
    """

    effort: str | None = None
    summaries: bool | None = None
    budget_tokens: int | None = None
    level: str | None = None


@value_class(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something that the client should know: a field that has no effect, a repair. `param` is its path, if any."""

    message: str
    param: str | None = None


@value_class(frozen=True, slots=True, kw_only=True)
class Request:
    """One client request. `turns` alternate as the client wrote them; backends merge what they must.

    session: what ties requests of one conversation together, for scheduling and caches upstream.
    siblings: further requests of the same HTTP request, each answered as choices after this one's.
    """

    model: str
    system: tuple[Text, ...] = ()
    turns: tuple[Turn, ...] = ()
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    sampling: Sampling = USUAL_SAMPLING
    output: Output = Output()
    thinking: Thinking = Thinking()
    service_tier: str | None = None
    cached_content: str | None = None
    safety_settings: tuple[dict[str, Any], ...] = ()
    session: str | None = None
    is_stream: bool = False
    notices: tuple[Notice, ...] = ()
    siblings: tuple["Request", ...] = ()


@value_class(frozen=True, slots=True, kw_only=True)
class Policy:
    """The settings that change what a translation says. Each is described at its setting in `config`."""

    thoughts: bool = True
    late_system: str = "keep"
    schema_with_tools: str = "instruct"
    schemas: str = "native"
    images: str = "markdown"
    responses_done: bool = False
    responses_include_choices: bool = False


# --- answers ---------------------------------------------------------------------------------------------------


class Finish(Enum):
    """Why an answer ended, in words that every protocol has a place for."""

    STOP = "stop"
    TOOL_CALLS = "tool_calls"
    LENGTH = "length"
    FILTERED = "filtered"


@value_class(frozen=True, slots=True, kw_only=True)
class Usage:
    """Token counts of one answer. prompt includes cached; output includes reasoning; total is their sum."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    prompt_audio_tokens: int = 0
    prompt_image_tokens: int = 0
    output_audio_tokens: int = 0
    output_image_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.output_tokens


@value_class(frozen=True, slots=True, kw_only=True)
class Citation:
    """A source of a stretch of the answer. start and end are character offsets in the choice's Text parts, joined."""

    start: int
    end: int
    url: str
    title: str


@value_class(frozen=True, slots=True, kw_only=True)
class TokenLogprob:
    """One decoded token with its logarithmic probability and the likeliest others at that place."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@value_class(frozen=True, slots=True, kw_only=True)
class MessageStarted:
    """First event of an answer. model: what upstream says it ran, if it says so."""

    response_id: str | None
    model: str | None


@value_class(frozen=True, slots=True, kw_only=True)
class PartStarted:
    """part holds what is known: text and arguments are empty and come by deltas, all else is whole."""

    choice: int
    part: Part


@value_class(frozen=True, slots=True, kw_only=True)
class PartDelta:
    """More of a Text's or Reasoning's text, or of a ToolCall's arguments."""

    choice: int
    text: str


@value_class(frozen=True, slots=True, kw_only=True)
class PartEnded:
    choice: int


@value_class(frozen=True, slots=True, kw_only=True)
class ChoiceEnded:
    """A choice is complete. raw_finish is upstream's own word; message its explanation, such as of a block."""

    choice: int
    finish: Finish
    raw_finish: str | None = None
    message: str | None = None
    citations: tuple[Citation, ...] = ()
    searches: tuple[str, ...] = ()
    logprobs: tuple[TokenLogprob, ...] | None = None


@value_class(frozen=True, slots=True, kw_only=True)
class MessageEnded:
    """Last event. notices: what the reader of the answer should know. ended: Unix seconds, set by who has a clock."""

    usage: Usage
    notices: tuple[Notice, ...] = ()
    ended: int | None = None


Event = MessageStarted | PartStarted | PartDelta | PartEnded | ChoiceEnded | MessageEnded


@value_class(frozen=True, slots=True, kw_only=True)
class Choice:
    parts: tuple[Part, ...]
    end: ChoiceEnded


@value_class(frozen=True, slots=True, kw_only=True)
class Response:
    """A whole answer."""

    response_id: str | None
    model: str | None
    choices: tuple[Choice, ...]
    usage: Usage
    notices: tuple[Notice, ...] = ()
    ended: int | None = None


class IllegalOrderError(Exception):
    """Events that break the order table: always a bug of a decoder, never upstream's doing."""


# What may come in each state of a choice. Between MessageStarted and MessageEnded choices run side by side; each
# obeys this table for itself.
ORDER: dict[str, dict[type[Event], str]] = {
    "between": {PartStarted: "in a part", ChoiceEnded: "ended"},
    "in a part": {PartDelta: "in a part", PartEnded: "between"},
    "ended": {},
}


def _with_text(part: Part, pieces: list[str]) -> Part:
    match part:
        case Text() | Reasoning():
            return type(part)(text=part.text + "".join(pieces), opaque=part.opaque)
        case ToolCall():
            return replace(part, arguments=part.arguments + "".join(pieces))
        case Media() | ToolResult() | Code() | CodeOutput():
            if pieces:
                raise IllegalOrderError(f"PartDelta in {type(part).__name__}, which comes whole")
            return part
        case _:
            assert_never(part)


class Folder:
    """Collects events into a Response. The only way in which unary answers are made.

    `feed` and `result` raise IllegalOrderError where the events leave the order table.
    """

    def __init__(self) -> None:
        self._start: MessageStarted | None = None
        self._end: MessageEnded | None = None
        self._states: dict[int, str] = {}
        self._open: dict[int, tuple[Part, list[str]]] = {}
        self._parts: dict[int, list[Part]] = {}
        self._ends: dict[int, ChoiceEnded] = {}

    def feed(self, event: Event) -> None:
        if self._end is not None:
            raise IllegalOrderError(f"{type(event).__name__} after MessageEnded")
        if isinstance(event, MessageStarted):
            if self._start is not None:
                raise IllegalOrderError("MessageStarted twice")
            self._start = event
            return
        if self._start is None:
            raise IllegalOrderError(f"{type(event).__name__} before MessageStarted")
        if isinstance(event, MessageEnded):
            unended = [choice for choice, state in self._states.items() if state != "ended"]
            if unended or not self._states:
                raise IllegalOrderError(f"MessageEnded with choices {unended} still under way")
            self._end = event
            return
        choice = event.choice
        state = self._states.get(choice, "between")
        following = ORDER[state].get(type(event))
        if following is None:
            raise IllegalOrderError(f"{type(event).__name__} while {state}")
        self._states[choice] = following
        if isinstance(event, PartDelta):
            self._open[choice][1].append(event.text)
        elif isinstance(event, PartStarted):
            self._open[choice] = (event.part, [])
        elif isinstance(event, PartEnded):
            part, pieces = self._open.pop(choice)
            self._parts.setdefault(choice, []).append(_with_text(part, pieces))
        elif isinstance(event, ChoiceEnded):
            self._ends[choice] = event
        else:
            assert_never(event)

    def result(self, ended: int | None = None) -> Response:
        """The whole answer. ended: Unix seconds, where the events do not say it."""
        if self._start is None or self._end is None:
            raise IllegalOrderError("the events end without MessageEnded")
        return Response(
            response_id=self._start.response_id,
            model=self._start.model,
            choices=tuple(
                [Choice(parts=tuple(self._parts.get(index, ())), end=self._ends[index]) for index in sorted(self._ends)]
            ),
            usage=self._end.usage,
            notices=self._end.notices,
            ended=self._end.ended if ended is None else ended,
        )


def fold(events: Iterable[Event]) -> Response:
    """The answer that a stream of events tells."""
    folder = Folder()
    for event in events:
        folder.feed(event)
    return folder.result()


_USUAL_POLICY = Policy()


@dataclass(slots=True, kw_only=True)
class Exchange:
    """What an encoder must know besides the answer: ids and time come in, so that it stays pure.

    id: random hex, at least 24 digits; all ids of the answer are made from it. created: Unix seconds.
    model: the name that the client asked for. body: the client's own JSON, for what must be echoed.
    """

    id: str
    created: int
    model: str
    request: Request
    body: dict[str, Any]
    policy: Policy = _USUAL_POLICY

    def let_go(self) -> None:
        """Forget what the client said, which may be megabytes, while an answer goes on that needs no more of it."""
        self.body = {}
        self.request = replace(self.request, system=(), turns=(), tools=(), siblings=())
