"""What the author of answers reads out of a request: the question, the rules, the functions, what has happened.

Takes a request in the canonical form of `fields`. Knows the meaning of contents, tools and toolConfig; makes no
answer and refuses nothing but unknown markers.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .. import jsontext
from ..jsontext import JsonObject
from . import markers
from .fields import decoded
from .models import Model

# A token is a run of at most 12 characters with the space before it: long enough that words stay whole, short
# enough that a text without spaces is streamed in pieces too. Counting, cutting and streaming all use this measure.
_TOKEN = re.compile(r"\s*\S{1,12}|\s+\Z")
_MEDIA_TOKENS = 258  # what the API charges for one small image
_MODALITIES = {"image": "IMAGE", "audio": "AUDIO", "video": "VIDEO"}
_OBJECTS = ("functionCall", "functionResponse", "executableCode", "codeExecutionResult", "toolCall", "toolResponse")
_NOT_BUILT_IN = frozenset({"functionDeclarations", "computerUse"})


def tokens(text: str) -> list[str]:
    """The text cut into tokens; joined, they are the text again."""
    return _TOKEN.findall(text)


@dataclass(frozen=True, slots=True)
class Turn:
    """Neighbouring contents of one role, which the API takes as one turn."""

    role: str
    parts: tuple[JsonObject, ...]

    def having(self, name: str) -> list[JsonObject]:
        """The data of all parts of one kind, such as "functionCall"."""
        return [part[name] for part in self.parts if name in part]


@dataclass(frozen=True, slots=True)
class Function:
    """One declared function; `schema` is its parameters in either dialect, or None."""

    name: str
    description: str
    schema: Any


@dataclass(frozen=True, slots=True)
class Media:
    """A file that the user sent, by its type and size; a file elsewhere has no size."""

    mime_type: str
    size_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One request, as far as an answer depends on it. `seed` is a hash of the whole request."""

    model: Model
    api: str
    config: JsonObject
    markers: markers.Markers
    system: str
    user: str
    turn: int
    media: tuple[Media, ...]
    results: tuple[JsonObject, ...]
    is_after_results: bool
    steps_done: int
    functions: tuple[Function, ...]
    mode: str
    allowed: tuple[str, ...]
    built_in: frozenset[str]
    streams_arguments: bool
    shows_server_calls: bool
    service_tier: str | None
    prompt_tokens: dict[str, int]
    cached_tokens: int
    seed: bytes

    @property
    def thinking(self) -> JsonObject:
        """thinkingConfig, {} where the request has none."""
        value: JsonObject = self.config.get("thinkingConfig", {})
        return value

    def digest(self, *what: object) -> bytes:
        """32 bytes that depend on the request and on `what`, and on nothing else."""
        return digest(self.seed, *what)


def digest(*what: object) -> bytes:
    """32 bytes that depend on these values only."""
    return hashlib.sha256(repr(what).encode("utf-8", "backslashreplace")).digest()


def merged(contents: Sequence[JsonObject]) -> list[Turn]:
    """Contents as turns; the absent role and the old role `function` are the user's."""
    turns: list[Turn] = []
    for content in contents:
        role = "model" if content.get("role") == "model" else "user"
        parts = tuple(content.get("parts", ()))
        if turns and turns[-1].role == role:
            turns[-1] = Turn(role, turns[-1].parts + parts)
        else:
            turns.append(Turn(role, parts))
    return turns


def declared(request: JsonObject) -> tuple[Function, ...]:
    """The functions that the request declares."""
    return tuple(
        Function(
            one.get("name", ""), one.get("description", ""), one.get("parametersJsonSchema", one.get("parameters"))
        )
        for tool in request.get("tools", ())
        for one in tool.get("functionDeclarations", ())
    )


def built_in(request: JsonObject) -> frozenset[str]:
    """Names of the server-side tools that the request switches on; computer use is none, the client runs it."""
    return frozenset(name for tool in request.get("tools", ()) for name in tool if name not in _NOT_BUILT_IN)


def read(request: JsonObject, model: Model, api: str) -> Prompt:
    """The prompt of a canonical, checked request. Raises Refused for a marker that does not exist."""
    contents = request.get("contents", [])
    turns = merged(contents)
    last = contents[-1].get("parts", []) if contents else []
    is_after_results = any("functionResponse" in part for part in last)
    asked = _asking(turns, len(turns) - 1 if is_after_results else len(turns))
    own = turns[asked].parts if asked is not None else ()
    texts = _texts(own)
    if is_after_results:
        texts += _texts(last)
    calling = request.get("toolConfig", {}).get("functionCallingConfig", {})
    found = markers.find(texts)
    spoken = [text for text in map(markers.strip, _texts(own)) if text]
    counted = count_tokens(request)
    cached = found.count("cached") or (1_024 if "cachedContent" in request else 0)
    if "cachedContent" in request:
        counted["TEXT"] = counted.get("TEXT", 0) + cached
    return Prompt(
        model=model,
        api=api,
        config=request.get("generationConfig", {}),
        markers=found,
        system="\n\n".join(_texts(request.get("systemInstruction", {}).get("parts", ()))),
        user=spoken[-1] if spoken else "",
        turn=sum(1 for turn in turns if turn.role == "user" and not turn.having("functionResponse")),
        media=tuple(_media(own)),
        results=tuple(turns[-1].having("functionResponse")) if turns else (),
        is_after_results=is_after_results,
        steps_done=sum(1 for turn in turns[(asked or 0) :] if turn.having("functionCall")),
        functions=declared(request),
        mode=calling.get("mode", "AUTO"),
        allowed=tuple(calling.get("allowedFunctionNames", ())),
        built_in=built_in(request),
        streams_arguments=calling.get("streamFunctionCallArguments", False),
        shows_server_calls=request.get("toolConfig", {}).get("includeServerSideToolInvocations", False),
        service_tier=request.get("serviceTier"),
        prompt_tokens=counted,
        cached_tokens=min(cached, sum(counted.values())),
        seed=hashlib.sha256(f"{model.id}\n".encode() + jsontext.dumps(request)).digest(),
    )


def _asking(turns: Sequence[Turn], end: int) -> int | None:
    """The last user turn before `end` that says or shows something itself, beyond results of functions."""
    for index in range(end - 1, -1, -1):
        turn = turns[index]
        if turn.role == "user" and any(_says_something(part) for part in turn.parts):
            return index
    return None


def _says_something(part: JsonObject) -> bool:
    return "functionResponse" not in part and part.get("text") != ""


def _texts(parts: Sequence[JsonObject]) -> list[str]:
    return [part["text"] for part in parts if part.get("text") and not part.get("thought")]


def _media(parts: Sequence[JsonObject]) -> list[Media]:
    media = []
    for part in parts:
        if "inlineData" in part:
            blob = part["inlineData"]
            media.append(Media(blob.get("mimeType", ""), len(decoded(blob.get("data", "")))))
        elif "fileData" in part:
            media.append(Media(part["fileData"].get("mimeType", "") or "file", None))
    return media


def count_tokens(request: JsonObject) -> dict[str, int]:
    """Tokens of a request's prompt by modality; the text ones cover instructions, contents and declarations."""
    counted = {"TEXT": 0}
    contents = [*request.get("contents", ()), request.get("systemInstruction", {})]
    for part in (part for content in contents for part in content.get("parts", ())):
        _count_part(part, counted)
    for tool in request.get("tools", ()):
        for declaration in tool.get("functionDeclarations", ()):
            counted["TEXT"] += len(tokens(jsontext.text(declaration)))
    return {modality: number for modality, number in counted.items() if number or modality == "TEXT"}


def _count_part(part: JsonObject, counted: dict[str, int]) -> None:
    for name in ("inlineData", "fileData"):
        if name in part:
            kind = part[name].get("mimeType", "").partition("/")[0]
            modality = _MODALITIES.get(kind, "TEXT" if kind == "text" else "DOCUMENT")
            counted[modality] = counted.get(modality, 0) + _MEDIA_TOKENS
    if "text" in part:
        counted["TEXT"] += len(tokens(part["text"]))
    for name in _OBJECTS:
        if name in part:
            plain = {key: value for key, value in part[name].items() if key != "parts"}
            counted["TEXT"] += len(tokens(jsontext.text(plain)))
            for inner in part[name].get("parts", ()):
                _count_part(inner, counted)
