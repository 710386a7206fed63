"""Gemini's GenerateContentResponse, unary or one chunk of a stream, -> conversation events.

A unary body has the shape of one chunk, so there is one decoder. Survives what proto3 JSON and the live API do:
every field may be absent, finish reasons come in every chunk of old models and never in some streams, call and
finish come in different chunks, counts are cumulative, unknown enum values appear without notice.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ... import jsontext
from ...conversation import (
    ChoiceEnded,
    Citation,
    Code,
    CodeOutput,
    Event,
    Finish,
    Media,
    MessageEnded,
    MessageStarted,
    Notice,
    Part,
    PartDelta,
    PartEnded,
    PartStarted,
    Reasoning,
    Text,
    TokenLogprob,
    ToolCall,
    Usage,
)
from ...errors import Retry, UpstreamFailed
from .citations import citations_of
from .errors import decode_error_object
from .names import NameMap
from .partial_args import PartialCall
from .schema import Restore, restore_value

# finishReason -> finish. A value that is not here counts as STOP where the answer has content: new ones appear
# without notice. From the API's enum (v1beta and Vertex v1beta1).
FINISH = {
    "STOP": Finish.STOP,
    "MAX_TOKENS": Finish.LENGTH,
    "CONTINUATION": Finish.LENGTH,
    "SAFETY": Finish.FILTERED,
    "RECITATION": Finish.FILTERED,
    "LANGUAGE": Finish.FILTERED,
    "BLOCKLIST": Finish.FILTERED,
    "PROHIBITED_CONTENT": Finish.FILTERED,
    "SPII": Finish.FILTERED,
    "IMAGE_SAFETY": Finish.FILTERED,
    "IMAGE_PROHIBITED_CONTENT": Finish.FILTERED,
    "IMAGE_RECITATION": Finish.FILTERED,
    "IMAGE_OTHER": Finish.FILTERED,
    "NO_IMAGE": Finish.FILTERED,
    "MODEL_ARMOR": Finish.FILTERED,
    "ESCALATION": Finish.FILTERED,
    "PUP_LIMITED_DISABLED": Finish.FILTERED,
    "OTHER": Finish.FILTERED,
}
# The model's output was broken: an accident of sampling that another try mends, never a success.
BROKEN = frozenset(
    {
        "MALFORMED_FUNCTION_CALL",
        "UNEXPECTED_TOOL_CALL",
        "MALFORMED_RESPONSE",
        "TOO_MANY_TOOL_CALLS",
        "MISSING_THOUGHT_SIGNATURE",
    }
)

# Data fields of a Part that need no showing: records of tools that ran upstream, whose outcome the text tells.
_SILENT = frozenset({"toolCall", "toolResponse", "functionResponse"})
_METADATA = frozenset({"thought", "thoughtSignature", "videoMetadata", "mediaResolution", "partMetadata"})

_UNKNOWN_TYPE = "application/octet-stream"
_INT64_MAX = 2**63 - 1
_LOGPROB_OF_NEVER = -9999.0  # OpenAI's word for "practically impossible"; JSON has no infinity


def as_dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def as_text(value: Any, default: str = "") -> str:
    return value if isinstance(value, str) else default


def _count(value: Any) -> int:
    """A token count or an index; int64 may come as a string. 0 for all else."""
    if type(value) is str and value.isdecimal() and len(value) <= 19:
        value = int(value)
    return value if type(value) is int and 0 <= value <= _INT64_MAX else 0


def _logprob(value: Any) -> float:
    """A logarithmic probability. proto3 JSON leaves out 0 and has a string for minus infinity."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(max(_LOGPROB_OF_NEVER, min(value, 0.0)))
    return _LOGPROB_OF_NEVER if value == "-Infinity" else 0.0


def _by_modality(details: Any) -> tuple[int, int]:
    """Tokens of (audio, images)."""
    if not details:
        return 0, 0
    counts = {"AUDIO": 0, "IMAGE": 0}
    for detail in map(as_dict, as_list(details)):
        modality = detail.get("modality")
        if modality in ("AUDIO", "IMAGE"):
            counts[modality] += _count(detail.get("tokenCount"))
    return counts["AUDIO"], counts["IMAGE"]


def decode_usage(usage: dict[str, Any]) -> Usage:
    """OpenAI's sums from Gemini's: thoughts are output, results of upstream tools are input."""
    prompt = _count(usage.get("promptTokenCount")) + _count(usage.get("toolUsePromptTokenCount"))
    visible = _count(usage.get("candidatesTokenCount"))
    thoughts = _count(usage.get("thoughtsTokenCount"))
    output = visible + thoughts
    if thoughts and _count(usage.get("totalTokenCount")) == prompt + visible:
        output = visible  # early 2.5 previews counted thoughts among the candidates' tokens
    prompt_audio, prompt_images = _by_modality(usage.get("promptTokensDetails"))
    output_audio, output_images = _by_modality(usage.get("candidatesTokensDetails"))
    return Usage(
        prompt_tokens=prompt,
        cached_tokens=_count(usage.get("cachedContentTokenCount")),
        output_tokens=output,
        reasoning_tokens=thoughts,
        prompt_audio_tokens=prompt_audio,
        prompt_image_tokens=prompt_images,
        output_audio_tokens=output_audio,
        output_image_tokens=output_images,
    )


def _decode_logprobs(result: dict[str, Any]) -> tuple[TokenLogprob, ...]:
    tops = as_list(result.get("topCandidates"))
    decoded = []
    for index, chosen in enumerate(as_list(result.get("chosenCandidates"))):
        candidates = as_list(as_dict(tops[index]).get("candidates")) if index < len(tops) else []
        decoded.append(
            TokenLogprob(
                token=as_text(as_dict(chosen).get("token")),
                logprob=_logprob(as_dict(chosen).get("logProbability")),
                top=tuple(
                    (as_text(as_dict(c).get("token")), _logprob(as_dict(c).get("logProbability"))) for c in candidates
                ),
            )
        )
    return tuple(decoded)


@dataclass(slots=True)
class _Choice:
    """What the decoder remembers of one candidate."""

    open_kind: type[Part] | None = None
    is_signed: bool = False
    has_parts: bool = False  # anything that a reader would miss: text, a call, an image, code
    has_calls: bool = False
    text: list[str] = field(default_factory=list)
    raw_finish: str | None = None
    message: str | None = None
    partial: PartialCall | None = None
    grounding: dict[str, Any] = field(default_factory=dict)
    sources: list[Any] = field(default_factory=list)
    logprobs: list[TokenLogprob] | None = None


class StreamDecoder:
    """Chunks of one answer in, events out. One serves one attempt.

    feed and finish raise a GatewayError for an error object, a broken answer or an empty one.
    """

    __slots__ = (
        "_block",
        "_calls",
        "_candidates",
        "_choices",
        "_declared",
        "_exchange_id",
        "_ids",
        "_model",
        "_names",
        "_notices",
        "_offset",
        "_only_first_call",
        "_response_id",
        "_restores",
        "_started",
        "_usage",
    )

    def __init__(
        self,
        *,
        exchange_id: str,
        names: NameMap,
        declared: frozenset[str],
        only_first_call: bool,
        restores: Mapping[str, Restore] | None = None,
        candidates: int = 1,
        choice_offset: int = 0,
    ) -> None:
        self._exchange_id = exchange_id
        self._candidates = candidates
        self._names = names
        self._declared = declared
        self._only_first_call = only_first_call
        self._restores = restores or {}
        self._offset = choice_offset
        self._choices: dict[int, _Choice] = {}
        self._ids: dict[str, None] = {}  # a set that takes 64 bytes, not 216, while it is empty
        self._calls = 0
        self._usage: dict[str, Any] = {}
        self._response_id: str | None = None
        self._model: str | None = None
        self._block: tuple[str, str | None] | None = None
        self._started = False
        self._notices: dict[str, Notice] = {}

    @property
    def usage(self) -> Usage | None:
        """Tokens as upstream has counted them so far; None before it has."""
        return decode_usage(self._usage) if self._usage else None

    def feed(self, chunk: Any) -> list[Event]:
        """Events of one parsed chunk."""
        if isinstance(chunk, list) and len(chunk) == 1:  # an error of a stream asked for without alt=sse
            chunk = chunk[0]
        if not isinstance(chunk, dict):
            raise UpstreamFailed(
                "Upstream sent JSON that is no GenerateContentResponse.",
                code="bad_upstream_body",
            )
        if "error" in chunk:
            raise decode_error_object(200, chunk["error"])
        usage = chunk.get("usageMetadata")
        if isinstance(usage, dict):
            self._usage.update(usage)
        if self._model is None and isinstance(chunk.get("modelVersion"), str):
            self._model = chunk["modelVersion"]
        if self._response_id is None and isinstance(chunk.get("responseId"), str):
            self._response_id = chunk["responseId"]
        events: list[Event] = []
        candidates = chunk.get("candidates")
        if candidates:
            for candidate in as_list(candidates):
                self._candidate(candidate if type(candidate) is dict else {}, events)
        feedback = chunk.get("promptFeedback")
        if isinstance(feedback, dict):
            self._read_block(feedback, has_candidates=bool(candidates))
        return events

    def finish(self) -> list[Event]:
        """Events that close the answer."""
        events: list[Event] = []
        if not self._choices:
            if self._block is None:
                raise UpstreamFailed(
                    "Upstream's answer was empty: no candidate, no reason.",
                    code="empty_answer",
                    retry=Retry.SAME_ACCOUNT,
                )
            self._start(events)
            reason, message = self._block
            told = f"The prompt was blocked by Gemini ({reason})" + (f": {message}" if message else ".")
            events.append(ChoiceEnded(choice=self._offset, finish=Finish.FILTERED, raw_finish=reason, message=told))
        for index, choice in sorted(self._choices.items()):
            self._end_choice(index, choice, events)
        events.append(MessageEnded(usage=decode_usage(self._usage), notices=tuple(self._notices.values())))
        return events

    # --- chunks

    def _read_block(self, feedback: dict[str, Any], *, has_candidates: bool) -> None:
        reason = feedback.get("blockReason")
        message = feedback.get("blockReasonMessage")
        if isinstance(reason, str) or (isinstance(message, str) and not has_candidates):
            self._block = (str(reason or "OTHER"), message if isinstance(message, str) else None)

    def _start(self, events: list[Event]) -> None:
        if not self._started:
            self._started = True
            events.append(MessageStarted(response_id=self._response_id, model=self._model))

    def _candidate(self, candidate: dict[str, Any], events: list[Event]) -> None:
        index = candidate.get("index")
        index = _count(index) if index else 0
        choice = self._choices.get(index)
        if choice is None:
            if index >= self._candidates:  # its number is that of another call's choice, where several serve a request
                self._note("Gemini sent a candidate that was not asked for, left out")
                return
            choice = self._choices[index] = _Choice()
        content = candidate.get("content")
        if isinstance(content, dict):
            parts = content.get("parts")
            if isinstance(parts, list):
                for part in parts:
                    if type(part) is dict and len(part) == 1 and type(text := part.get("text")) is str:  # nearly all
                        self._text(index, choice, Text, text, None, events)
                    else:
                        self._part(index, choice, as_dict(part), events)
        reason = candidate.get("finishReason")
        if isinstance(reason, str):
            choice.raw_finish = reason
            message = candidate.get("finishMessage")
            choice.message = message if isinstance(message, str) else choice.message
        if "groundingMetadata" in candidate:
            choice.grounding.update(as_dict(candidate["groundingMetadata"]))
        if "citationMetadata" in candidate:
            metadata = as_dict(candidate["citationMetadata"])
            found = as_list(metadata.get("citationSources")) or as_list(metadata.get("citations"))
            choice.sources = found or choice.sources
        if "logprobsResult" in candidate:
            choice.logprobs = (choice.logprobs or []) + list(_decode_logprobs(as_dict(candidate["logprobsResult"])))

    def _part(self, index: int, choice: _Choice, part: dict[str, Any], events: list[Event]) -> None:
        text = part.get("text")
        signature = part.get("thoughtSignature")
        signature = signature if isinstance(signature, str) and signature else None
        if isinstance(text, str):
            kind: type[Part] = Reasoning if part.get("thought") is True else Text
            self._text(index, choice, kind, text, signature, events)
            return
        if "functionCall" in part:
            self._function_call(index, choice, as_dict(part["functionCall"]), signature, events)
            return
        whole = self._whole_part(part, signature)
        if whole is not None:
            choice.has_parts = True
            self._close(index, choice, events)
            self._start(events)
            events += (PartStarted(choice=index + self._offset, part=whole), PartEnded(choice=index + self._offset))
            return
        unknown = [key for key in part if key not in _METADATA and key not in _SILENT]
        if unknown:
            self._note(f"Gemini sent a part of an unknown kind, left out: {unknown[0][:64]}")

    def _text(
        self, index: int, choice: _Choice, kind: type[Part], text: str, signature: str | None, events: list[Event]
    ) -> None:
        """A piece of text. A signed piece is a part of its own: a signature goes back in the very part it came with,
        and is not worth joining unsigned text to."""
        if not text and signature is None:
            return
        number = index + self._offset
        if choice.open_kind is not kind or choice.is_signed or signature is not None:
            self._close(index, choice, events)
            self._start(events)
            seed = Reasoning(text="", opaque=signature) if kind is Reasoning else Text(text="", opaque=signature)
            events.append(PartStarted(choice=number, part=seed))
            choice.open_kind, choice.is_signed = kind, signature is not None
        if text:
            if kind is Text:
                choice.has_parts = True
                choice.text.append(text)
            events.append(PartDelta(choice=number, text=text))

    def _whole_part(self, part: dict[str, Any], signature: str | None) -> Part | None:
        if "inlineData" in part and part.get("thought") is not True:
            inline = as_dict(part["inlineData"])
            mime, data = as_text(inline.get("mimeType"), _UNKNOWN_TYPE), as_text(inline.get("data"))
            return Media(mime_type=mime, data=data, opaque=signature) if data else None
        if "fileData" in part:
            file = as_dict(part["fileData"])
            mime, uri = as_text(file.get("mimeType"), _UNKNOWN_TYPE), as_text(file.get("fileUri"))
            return Media(mime_type=mime, uri=uri, opaque=signature) if uri else None
        if "executableCode" in part:
            code = as_dict(part["executableCode"])
            language = as_text(code.get("language"), "PYTHON").lower()
            return Code(code=as_text(code.get("code")), language=language, opaque=signature)
        if "codeExecutionResult" in part:
            result = as_dict(part["codeExecutionResult"])
            is_ok = result.get("outcome", "OUTCOME_OK") == "OUTCOME_OK"
            return CodeOutput(output=as_text(result.get("output")), is_ok=is_ok, opaque=signature)
        return None

    # --- calls

    def _function_call(
        self, index: int, choice: _Choice, call: dict[str, Any], signature: str | None, events: list[Event]
    ) -> None:
        """A whole call, or a piece of one whose arguments are streamed (Vertex): those go out when they are whole."""
        name = call.get("name")
        if choice.partial is not None and not (isinstance(name, str) and name):
            choice.partial.feed(call)
            choice.partial.signature = choice.partial.signature or signature
            if not call.get("willContinue"):
                self._emit_partial(index, choice, events)
            return
        if choice.partial is not None:
            self._emit_partial(index, choice, events)
        if not isinstance(name, str) or not name:
            self._note("Gemini sent a call without a name, left out")
            return
        if call.get("willContinue") or "partialArgs" in call:
            choice.partial = PartialCall(name=name, id=call.get("id"), signature=signature)
            choice.partial.feed(call)
            if not call.get("willContinue"):
                self._emit_partial(index, choice, events)
            return
        self._emit_call(index, choice, name, call.get("id"), as_dict(call.get("args")), signature, events)

    def _emit_partial(self, index: int, choice: _Choice, events: list[Event]) -> None:
        partial, choice.partial = choice.partial, None
        if partial is not None:
            self._emit_call(index, choice, partial.name, partial.id, partial.arguments, partial.signature, events)

    def _emit_call(
        self,
        index: int,
        choice: _Choice,
        name: str,
        given_id: Any,
        args: dict[str, Any],
        signature: str | None,
        events: list[Event],
    ) -> None:
        name = self._names.back(name)
        if self._only_first_call and choice.has_calls:
            self._note(f"parallel_tool_calls is false: a further call of {name[:64]} was left out")
            return
        if name not in self._declared:
            self._note(f"the model called {name[:64]}, which the request did not declare")
        try:
            arguments = jsontext.readable_text(restore_value(args, self._restores.get(name)))
        except ValueError:
            raise self._broken("Gemini's call has arguments that JSON cannot hold.", "upstream_malformed") from None
        choice.has_parts = choice.has_calls = True
        self._close(index, choice, events)
        self._start(events)
        number = index + self._offset
        call = ToolCall(id=self._call_id(given_id), name=name, arguments="", opaque=signature)
        events += (
            PartStarted(choice=number, part=call),
            PartDelta(choice=number, text=arguments),
            PartEnded(choice=number),
        )

    def _call_id(self, given: Any) -> str:
        """Upstream's id if it is usable, else one of ours. OpenAI's limit is 40 characters, and ids are unique."""
        identifier = given if isinstance(given, str) and len(given) <= 40 else ""
        while not identifier or identifier in self._ids:
            identifier = f"call_{self._exchange_id[:24]}{self._offset:x}{self._calls:03x}"
            self._calls += 1
        self._ids[identifier] = None
        return identifier

    # --- ends

    def _close(self, index: int, choice: _Choice, events: list[Event]) -> None:
        if choice.open_kind is not None:
            choice.open_kind = None
            choice.is_signed = False
            events.append(PartEnded(choice=index + self._offset))

    def _end_partial(self, index: int, choice: _Choice, events: list[Event]) -> None:
        """A call that the end of the answer finds open is whole only where upstream says that all went well: a cut
        argument reads like a whole one, and the client would act on it."""
        assert choice.partial is not None
        reason = choice.raw_finish
        if reason is None:
            raise self._broken("Gemini's answer ended within a function call.", "upstream_malformed")
        if FINISH.get(reason, Finish.STOP) is Finish.STOP:
            self._emit_partial(index, choice, events)
        else:
            self._note(f"the call of {choice.partial.name[:64]} was cut off ({reason[:64]}) and left out")
            choice.partial = None

    def _end_choice(self, index: int, choice: _Choice, events: list[Event]) -> None:
        reason = choice.raw_finish
        if reason in BROKEN:
            told = f": {choice.message}" if choice.message and reason == "UNEXPECTED_TOOL_CALL" else "."
            raise self._broken(f"Gemini's answer was broken ({reason}){told}", "upstream_malformed")
        if choice.partial is not None:
            self._end_partial(index, choice, events)
        self._close(index, choice, events)
        finish = FINISH.get(reason or "STOP", Finish.STOP)
        message = choice.message
        if self._block is not None and (reason is None or not choice.has_parts):
            finish, reason, message = Finish.FILTERED, self._block[0], self._block[1]
        if finish is Finish.STOP:
            if not choice.has_parts:
                self._pass_empty(index)
            if reason is None:
                self._note("Gemini's answer ended without a finish reason")
            if choice.has_calls:
                finish = Finish.TOOL_CALLS
        if finish is not Finish.FILTERED:
            message = None
        elif message is None:
            message = f"The answer was blocked by Gemini ({reason})."
        self._start(events)
        citations: tuple[Citation, ...] = ()
        searches: tuple[str, ...] = ()
        if choice.grounding or choice.sources:
            citations = citations_of("".join(choice.text), choice.grounding, choice.sources)
            queries = as_list(choice.grounding.get("webSearchQueries"))
            searches = tuple(query for query in queries if isinstance(query, str))
        events.append(
            ChoiceEnded(
                choice=index + self._offset,
                finish=finish,
                raw_finish=reason,
                message=message,
                citations=citations,
                searches=searches,
                logprobs=None if choice.logprobs is None else tuple(choice.logprobs),
            )
        )

    def _pass_empty(self, index: int) -> None:
        """A choice without content that says it is complete: an accident, but not worth the good ones beside it."""
        if not any(choice.has_parts or choice.partial for choice in self._choices.values()):
            raise self._broken("Gemini's answer was empty, though it says that it is complete.", "empty_answer")
        self._note(f"choice {index + self._offset} of Gemini's answer is empty, though it says that it is complete")

    def _broken(self, message: str, code: str) -> UpstreamFailed:
        """Worth one more try on the same account; whoever has shown some of the answer already allows none."""
        return UpstreamFailed(message, code=code, retry=Retry.SAME_ACCOUNT)

    def _note(self, message: str) -> None:
        self._notices.setdefault(message, Notice(message=message))
