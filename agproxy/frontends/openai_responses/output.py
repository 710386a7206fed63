"""Events of an answer -> the items of a response, told piece by piece.

`Composer` is the one state machine behind both the stream and the unary object: it tells a `Sink` what the stream
would say, and keeps the finished items. One item is open at a time, as on the live API. It knows the items and
their events (openai-responses.md, section 6), not the frames, the numbers or the object around them.

Decisions, and why:
- Text parts that follow each other are one message with one `output_text`. An item is opened by its first
  character, so that empty parts leave no trace; an answer that stops with nothing to show gets an empty message.
- A signature goes into the `encrypted_content` of the reasoning item before the item that it signs. One that comes
  when its message is open already (Gemini likes to send it last, on an empty text) is let go: only signatures of
  calls are demanded back, and a reasoning item after the message is what no OpenAI answer has.
- Searches are known only at the end, so their items follow the message. Citations go to the message that is open
  then; a stretch of text that an earlier item has closed cannot be annotated any more.
- An item that was closed before the answer turned out to be cut stays `completed`: it is whole. The message that is
  open then is `incomplete`.
"""

from typing import Protocol, assert_never

from ... import jsontext
from ...conversation import (
    ChoiceEnded,
    Citation,
    Code,
    CodeOutput,
    Exchange,
    Finish,
    FunctionTool,
    Media,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
)
from ...jsontext import JsonObject
from .emulated import EMULATED
from .request import SOURCES
from .sealed import Seal, encode_seal

_IMAGE_FORMATS = {"image/png": "png", "image/jpeg": "jpeg", "image/webp": "webp"}


class Channel(Protocol):
    """Where the deltas of one text go; made once for each, so that a delta costs little."""

    def __call__(self, text: str) -> None: ...


class Sink(Protocol):
    """Hears what the stream says. `channel` gives a way to say many events that differ in `delta` only."""

    def event(self, kind: str, fields: JsonObject) -> None: ...

    def channel(self, kind: str, fields: JsonObject, tail: JsonObject) -> Channel: ...


def _ignore(text: str) -> None:
    """Nobody listens."""


class Silence:
    """The sink of a unary answer."""

    def event(self, kind: str, fields: JsonObject) -> None:
        """Nobody listens."""

    def channel(self, kind: str, fields: JsonObject, tail: JsonObject) -> Channel:
        return _ignore


class _Item:
    """An item under way: its place, its id, and the text that has come so far."""

    __slots__ = ("at", "id", "index", "pieces", "say")

    def __init__(self, identifier: str, index: int) -> None:
        self.id = identifier
        self.index = index
        self.at: JsonObject = {"item_id": identifier, "output_index": index}
        self.pieces: list[str] = []
        self.say: Channel = _ignore

    def text(self) -> str:
        return "".join(self.pieces)


class _Message(_Item):
    """text_before: length of the choice's text before this message. shown: indexes of pieces that are no text."""

    __slots__ = ("shown", "text_before")

    def __init__(self, identifier: str, index: int, text_before: int) -> None:
        super().__init__(identifier, index)
        self.text_before = text_before
        self.shown: set[int] = set()

    def text_length(self) -> int:
        return sum(len(piece) for number, piece in enumerate(self.pieces) if number not in self.shown)

    def place(self, offset: int, *, is_end: bool) -> int | None:
        """Where an offset into the choice's text stands in this message; None if it is not in it."""
        text, place = self.text_before, 0
        for number, piece in enumerate(self.pieces):
            if number not in self.shown:
                inside = offset - text
                if (0 < inside <= len(piece)) if is_end else (0 <= inside < len(piece)):
                    return place + inside
                text += len(piece)
            place += len(piece)
        return None


class _Thought(_Item):
    __slots__ = ("opaque", "summary")

    def __init__(self, identifier: str, index: int) -> None:
        super().__init__(identifier, index)
        self.summary: list[str] = []
        self.opaque: str | None = None


class _Call(_Item):
    """A call under way. kind, name and namespace are the client's own words for the tool."""

    __slots__ = ("call", "kind", "name", "namespace")

    def __init__(self, identifier: str, index: int, call: ToolCall, origin: tuple[str, ...]) -> None:
        super().__init__(identifier, index)
        self.call = call
        self.kind, self.name, self.namespace = origin


class Composer:
    """Feed it the parts of one choice; `items` are those that are done, in the order of the stream."""

    def __init__(self, exchange: Exchange, sink: Sink) -> None:
        self._sink = sink
        self._exchange_id = exchange.id
        self._origins = {
            tool.name: tool.origin or ("custom" if tool.is_freeform else "function", tool.name, "")
            for tool in exchange.request.tools
            if isinstance(tool, FunctionTool)
        }
        self._wants_sources = SOURCES in (exchange.body.get("include") or ())
        self.items: list[JsonObject] = []
        self.searches = 0
        self._index = 0
        self._part: Part = Text(text="")
        self._message: _Message | None = None
        self._thought: _Thought | None = None
        self._call: _Call | None = None
        self._code: tuple[_Item, JsonObject] | None = None
        self._text_signature: str | None = None
        self._text_length = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been said yet."""
        return self._index == 0

    # --- what comes in

    def start(self, part: Part) -> None:
        self._part = part
        match part:
            case Text(text=text, opaque=opaque):
                self._text_signature = opaque or self._text_signature
                self.delta(text)
            case Reasoning(text=text):
                self.delta(text)
            case ToolCall():
                self._start_call(part)
            case Media():
                self._show_media(part)
            case Code():
                self._start_code(part)
            case CodeOutput():
                self._end_code(part)
            case ToolResult():
                pass  # never part of an answer
            case _:
                assert_never(part)

    def delta(self, text: str) -> None:
        """More of the part that is open. The hot path."""
        if not text:
            return
        if isinstance(self._part, Text):
            message = self._message or self._open_message()
            message.pieces.append(text)
            message.say(text)
        elif isinstance(self._part, Reasoning):
            thought = self._open_thought()
            thought.pieces.append(text)
            thought.say(text)
        elif self._call is not None:
            self._call.pieces.append(text)
            self._call.say(text)

    def end_part(self) -> None:
        part = self._part
        if isinstance(part, Reasoning):
            if part.opaque is not None:
                self._open_item_for_thought().opaque = part.opaque
            self._close_summary()
        elif isinstance(part, ToolCall):
            self._end_call()
        self._part = Text(text="")

    def end_choice(self, end: ChoiceEnded) -> None:
        is_cut = end.finish in (Finish.LENGTH, Finish.FILTERED)
        if self._message is not None:
            self._close_message("incomplete" if is_cut else "completed", end)
        elif not is_cut and not any(item["type"] != "reasoning" for item in self.items) and self._code is None:
            self._open_message()
            self._close_message("completed", end)
        self._settle(None, Seal())
        self._tell_searches(end)

    # --- items in general

    def _new(self, prefix: str) -> tuple[str, int]:
        index = self._index
        self._index += 1
        return self._id(prefix, index), index

    def _id(self, prefix: str, index: int) -> str:
        return f"{prefix}_{self._exchange_id}{index:02x}"

    def _added(self, index: int, item: JsonObject) -> None:
        self._sink.event("response.output_item.added", {"output_index": index, "item": item})

    def _done(self, index: int, item: JsonObject) -> None:
        self.items.append(item)
        self._sink.event("response.output_item.done", {"output_index": index, "item": item})

    def _settle(self, opens: type[Part] | None, seal: Seal) -> None:
        """Closes what is open, since something else begins, and sees that its signature stands before it."""
        if self._message is not None:
            self._close_message("completed", None)
        if self._code is not None:
            self._finish_code(None)
        if opens is not Text:
            self._text_signature = None
        if self._thought is not None:
            self._close_thought(seal)
        elif seal:
            identifier, index = self._new("rs")
            item = {"id": identifier, "type": "reasoning", "summary": [], "encrypted_content": encode_seal(seal)}
            self._added(index, item)
            self._done(index, item)

    # --- messages

    def _open_message(self) -> _Message:
        signature, self._text_signature = self._text_signature, None
        self._settle(Text, Seal(next={"message": signature}) if signature else Seal())
        message = self._message = _Message(*self._new("msg"), self._text_length)
        self._added(
            message.index,
            {"id": message.id, "type": "message", "status": "in_progress", "content": [], "role": "assistant"},
        )
        at = {**message.at, "content_index": 0}
        part = {"type": "output_text", "annotations": [], "logprobs": [], "text": ""}
        self._sink.event("response.content_part.added", {**at, "part": part})
        message.say = self._sink.channel("response.output_text.delta", at, {"logprobs": []})
        return message

    def _close_message(self, status: str, end: ChoiceEnded | None) -> None:
        message, self._message = self._message, None
        assert message is not None
        at = {**message.at, "content_index": 0}
        text = message.text()
        annotations: list[JsonObject] = []
        for citation in () if end is None else end.citations:
            annotation = _annotation(citation, message)
            if annotation is not None:
                fields = {**at, "annotation_index": len(annotations), "annotation": annotation}
                self._sink.event("response.output_text.annotation.added", fields)
                annotations.append(annotation)
        logprobs = [] if end is None else _logprobs(end)
        self._sink.event("response.output_text.done", {**at, "text": text, "logprobs": logprobs})
        part = {"type": "output_text", "annotations": annotations, "logprobs": logprobs, "text": text}
        self._sink.event("response.content_part.done", {**at, "part": part})
        self._text_length += message.text_length()
        item = {"id": message.id, "type": "message", "status": status, "content": [part], "role": "assistant"}
        self._done(message.index, item)

    def _show_media(self, media: Media) -> None:
        """An image is an item of its own; anything else stands in the text as a Markdown link."""
        mime = media.mime_type or ""
        if mime.startswith("image/") and media.data is not None:
            self._tell_image(media, media.data)
            return
        target = media.uri if media.data is None else f"data:{mime};base64,{media.data}"
        shown = f"![image]({target})" if mime.startswith("image/") else f"[{mime or 'file'}]({target})"
        message = self._message or self._open_message()
        message.shown.add(len(message.pieces))
        message.pieces.append(shown)
        message.say(shown)

    def _tell_image(self, media: Media, data: str) -> None:
        self._settle(Media, Seal(next={"image_generation_call": media.opaque}) if media.opaque else Seal())
        identifier, index = self._new("ig")
        item: JsonObject = {"id": identifier, "type": "image_generation_call", "status": "in_progress"}
        self._added(index, item)
        at = {"output_index": index, "item_id": identifier}
        for step in ("in_progress", "generating", "completed"):
            self._sink.event(f"response.image_generation_call.{step}", at)
        mime = media.mime_type or ""
        form = _IMAGE_FORMATS.get(mime, mime.removeprefix("image/"))
        self._done(index, {**item, "status": "completed", "output_format": form, "result": data})

    # --- reasoning

    def _open_item_for_thought(self) -> _Thought:
        if self._thought is None:
            self._settle(Reasoning, Seal())
            thought = self._thought = _Thought(*self._new("rs"))
            self._added(thought.index, {"id": thought.id, "type": "reasoning", "summary": []})
        return self._thought

    def _open_thought(self) -> _Thought:
        """The reasoning item, with a summary part open for the text that comes."""
        thought = self._open_item_for_thought()
        if not thought.pieces:
            at = {**thought.at, "summary_index": len(thought.summary)}
            part = {"type": "summary_text", "text": ""}
            self._sink.event("response.reasoning_summary_part.added", {**at, "part": part})
            thought.say = self._sink.channel("response.reasoning_summary_text.delta", at, {})
        return thought

    def _close_summary(self) -> None:
        thought = self._thought
        if thought is None or not thought.pieces:
            return
        at = {**thought.at, "summary_index": len(thought.summary)}
        text = thought.text()
        self._sink.event("response.reasoning_summary_text.done", {**at, "text": text})
        part = {"type": "summary_text", "text": text}
        self._sink.event("response.reasoning_summary_part.done", {**at, "part": part})
        thought.summary.append(text)
        thought.pieces = []

    def _close_thought(self, seal: Seal) -> None:
        thought, self._thought = self._thought, None
        assert thought is not None
        seal = Seal(calls=seal.calls, next=seal.next, reasoning=thought.opaque)
        item: JsonObject = {
            "id": thought.id,
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": text} for text in thought.summary],
        }
        if seal:
            item["encrypted_content"] = encode_seal(seal)
        self._done(thought.index, item)

    # --- calls

    def _start_call(self, call: ToolCall) -> None:
        origin = self._origins.get(call.name, ("function", call.name, ""))
        signed = {call.id: call.opaque} if call.opaque is not None and call.id is not None else {}
        self._settle(ToolCall, Seal(calls=signed))
        kind = origin[0]
        if kind in EMULATED:
            started = _Call(*self._new(EMULATED[kind].prefix), call, origin)
            first = EMULATED[kind].first
            if first is not None:
                self._added(started.index, self._emulated_item(started, "in_progress", first))
        else:
            started = _Call(*self._new("ctc" if kind == "custom" else "fc"), call, origin)
            self._announce(started)
        self._call = started
        self.delta(call.arguments)

    def _announce(self, call: _Call) -> None:
        self._added(call.index, self._called_item(call, "in_progress", ""))
        if call.kind != "custom":
            call.say = self._sink.channel("response.function_call_arguments.delta", call.at, {})

    def _called_item(self, call: _Call, status: str, given: str) -> JsonObject:
        is_custom = call.kind == "custom"
        return {
            "id": call.id,
            "type": "custom_tool_call" if is_custom else "function_call",
            "status": status,
            "input" if is_custom else "arguments": given,
            "call_id": call.call.id,
            "name": call.name,
            **({"namespace": call.namespace} if call.namespace else {}),
        }

    def _emulated_item(self, call: _Call, status: str, holder: JsonObject) -> JsonObject:
        item = {"id": call.id, "type": EMULATED[call.kind].item, "status": status, "call_id": call.call.id, **holder}
        if call.kind == "tool_search":
            item["execution"] = "client"
        return item

    def _end_call(self) -> None:
        call, self._call = self._call, None
        assert call is not None
        if call.kind in EMULATED:
            self._end_emulated(call)
            return
        self._end_plain(call)

    def _end_plain(self, call: _Call) -> None:
        arguments = call.text()
        status = _status_of(arguments)
        if call.kind == "custom":
            given = _freeform_input(arguments)
            if given:
                self._sink.event("response.custom_tool_call_input.delta", {**call.at, "delta": given})
            self._sink.event("response.custom_tool_call_input.done", {**call.at, "input": given})
        else:
            given = arguments or "{}"
            if not arguments:
                call.say(given)
            self._sink.event("response.function_call_arguments.done", {**call.at, "arguments": given})
        self._done(call.index, self._called_item(call, status, given))

    def _end_emulated(self, call: _Call) -> None:
        arguments = call.text()
        holder = EMULATED[call.kind].to_item(_parsed(arguments) or {})
        if holder is None:
            # Only where nothing was announced yet. The client gets the call as it is, and can say what is wrong.
            plain = _Call(self._id("fc", call.index), call.index, call.call, ("function", call.name, ""))
            self._announce(plain)
            if arguments:
                plain.pieces.append(arguments)
                plain.say(arguments)
            self._end_plain(plain)
            return
        item = self._emulated_item(call, _status_of(arguments), holder)
        if call.kind == "shell":
            self._tell_commands(call, item["action"]["commands"])
        elif call.kind == "apply_patch":
            self._tell_patch(call, item)
        self._done(call.index, item)

    def _tell_commands(self, call: _Call, commands: list[str]) -> None:
        for number, command in enumerate(commands):
            at = {"output_index": call.index, "command_index": number}
            self._sink.event("response.shell_call_command.added", {**at, "command": ""})
            if command:
                self._sink.event("response.shell_call_command.delta", {**at, "delta": command})
            self._sink.event("response.shell_call_command.done", {**at, "command": command})

    def _tell_patch(self, call: _Call, item: JsonObject) -> None:
        operation = item["operation"]
        diff = operation.get("diff")
        first = operation if diff is None else {**operation, "diff": ""}
        self._added(call.index, {**item, "status": "in_progress", "operation": first})
        if diff:
            self._sink.event("response.apply_patch_call_operation_diff.delta", {**call.at, "delta": diff})
        if diff is not None:
            self._sink.event("response.apply_patch_call_operation_diff.done", {**call.at, "diff": diff})

    # --- code that upstream ran

    def _start_code(self, part: Code) -> None:
        self._settle(Code, Seal(next={"code_interpreter_call": part.opaque}) if part.opaque else Seal())
        item = _Item(*self._new("ci"))
        wire: JsonObject = {
            "id": item.id,
            "type": "code_interpreter_call",
            "status": "in_progress",
            "code": "",
            "container_id": f"cntr_{self._exchange_id}",
            "outputs": [],
        }
        self._added(item.index, wire)
        self._sink.event("response.code_interpreter_call.in_progress", item.at)
        if part.code:
            self._sink.event("response.code_interpreter_call_code.delta", {**item.at, "delta": part.code})
        self._sink.event("response.code_interpreter_call_code.done", {**item.at, "code": part.code})
        self._sink.event("response.code_interpreter_call.interpreting", item.at)
        self._code = (item, {**wire, "code": part.code})

    def _end_code(self, part: CodeOutput) -> None:
        if self._code is None:
            self._start_code(Code(code="", language="python"))
        self._finish_code(part)

    def _finish_code(self, output: CodeOutput | None) -> None:
        assert self._code is not None
        (item, wire), self._code = self._code, None
        self._sink.event("response.code_interpreter_call.completed", item.at)
        outputs = [] if output is None else [{"type": "logs", "logs": output.output}]
        status = "incomplete" if output is None else "completed" if output.is_ok else "failed"
        self._done(item.index, {**wire, "status": status, "outputs": outputs})

    # --- searches

    def _tell_searches(self, end: ChoiceEnded) -> None:
        urls = dict.fromkeys(citation.url for citation in end.citations)
        for query in end.searches:
            identifier, index = self._new("ws")
            item: JsonObject = {"id": identifier, "type": "web_search_call", "status": "in_progress"}
            self._added(index, item)
            for step in ("in_progress", "searching", "completed"):
                self._sink.event(f"response.web_search_call.{step}", {"output_index": index, "item_id": identifier})
            action: JsonObject = {"type": "search", "queries": [query], "query": query}
            if self._wants_sources:
                action["sources"] = [{"type": "url", "url": url} for url in urls]
            self._done(index, {**item, "status": "completed", "action": action})
            self.searches += 1


def _parsed(arguments: str) -> JsonObject | None:
    try:
        value = jsontext.loads(arguments)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _status_of(arguments: str) -> str:
    """Arguments that are no JSON were cut off by the end of the answer; none at all are an empty object."""
    return "completed" if not arguments or _parsed(arguments) is not None else "incomplete"


def _freeform_input(arguments: str) -> str:
    """The text that a custom tool was called with, out of the object that carried it."""
    value = _parsed(arguments)
    given = None if value is None or len(value) != 1 else value.get("input")
    return given if isinstance(given, str) else arguments


def _annotation(citation: Citation, message: _Message) -> JsonObject | None:
    start = message.place(citation.start, is_end=False)
    end = message.place(citation.end, is_end=True)
    if start is None or end is None:
        return None
    return {
        "type": "url_citation",
        "end_index": end,
        "start_index": start,
        "title": citation.title,
        "url": citation.url,
    }


def _logprobs(end: ChoiceEnded) -> list[JsonObject]:
    def entry(token: str, logprob: float) -> JsonObject:
        return {"token": token, "bytes": list(token.encode("utf-8", "surrogatepass")), "logprob": logprob}

    return [
        {**entry(item.token, item.logprob), "top_logprobs": [entry(token, value) for token, value in item.top]}
        for item in end.logprobs or ()
    ]
