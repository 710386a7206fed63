"""Drafts of answers -> wire chunks: usage that adds up, limits, stop sequences, signatures, ids, log probabilities.

A draft is what the author wants to say, as parts; here it becomes one chunk (unary) or many, a token each. Both ways
count with the same measure, and a unary answer has the shape of a chunk, as sections 2, 11 and 12 of the wire notes
have it: counts are cumulative, the finish stands in the last chunk, on Vertex AI the counts do too.
"""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .. import jsontext
from ..jsontext import JsonObject
from .fields import VERTEX
from .models import version_of
from .prompt import Prompt, tokens

_IMAGE_TOKENS = 1_290  # what the API reports for one image of standard size
_AUDIO_TOKENS = 25  # and for a second of speech
_CREATED = "2026-01-01T00:00:00.000000Z"  # the simulator keeps no time: the same request gives the same bytes
_SERVER_PARTS = ("executableCode", "toolCall", "toolResponse")


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """One candidate before it is cut and signed.

    finish: None leaves the finishReason out. has_content: False sends the finishing chunk, and a whole unary answer,
    without content. extra: other keys of the candidate. tool_tokens: results of server-side tools that were read.
    """

    thoughts: str = ""
    parts: tuple[JsonObject, ...] = ()
    finish: str | None = "STOP"
    finish_message: str | None = None
    has_content: bool = True
    extra: JsonObject = field(default_factory=dict)
    tool_tokens: int = 0


@dataclass(frozen=True, slots=True)
class _Step:
    """What one chunk brings: at most one part, and what it adds to the counts."""

    candidate: int
    part: JsonObject | None
    thought_tokens: int
    answer_tokens: int
    modality: str = "TEXT"
    is_last: bool = False


def count(part: JsonObject) -> int:
    """Tokens that an answer part costs."""
    if "text" in part:
        return len(tokens(part["text"]))
    if "inlineData" in part:
        return _IMAGE_TOKENS if part["inlineData"]["mimeType"].startswith("image/") else _AUDIO_TOKENS
    return len(tokens(jsontext.text(part)))


def limit(draft: Draft, prompt: Prompt) -> Draft:
    """The draft under maxOutputTokens, which counts thinking too, and stopSequences, which do not see thoughts."""
    draft = _stop(draft, prompt.config.get("stopSequences", ()))
    allowed = min(prompt.config.get("maxOutputTokens") or prompt.model.output_tokens, prompt.model.output_tokens)
    thoughts = tokens(draft.thoughts)
    if len(thoughts) >= allowed:
        cut = "".join(thoughts[:allowed])
        return replace(draft, thoughts=cut, parts=(), finish="MAX_TOKENS", finish_message=None, extra={})
    left = allowed - len(thoughts)
    kept: list[JsonObject] = []
    for part in draft.parts:
        cost = count(part)
        if cost > left and "inlineData" not in part:
            if "text" in part:
                kept.append(part | {"text": "".join(tokens(part["text"])[:left])})
            kept = [part for part in kept if part.get("text") != ""]
            return replace(draft, parts=tuple(kept), finish="MAX_TOKENS", finish_message=None, extra={})
        left -= cost
        kept.append(part)
    return draft


def _stop(draft: Draft, sequences: Sequence[str]) -> Draft:
    kept: list[JsonObject] = []
    for part in draft.parts:
        text = part.get("text", "")
        hits = [text.find(sequence) for sequence in sequences if sequence and sequence in text]
        if hits:
            shortened = text[: min(hits)]
            kept += [part | {"text": shortened}] if shortened else []
            return replace(draft, parts=tuple(kept), extra={})
        kept.append(part)
    return draft


def sign(draft: Draft, prompt: Prompt, candidate: int) -> Draft:
    """Thought signatures and call ids, where a model of this generation puts them (section 9)."""
    model = prompt.model
    parts = list(draft.parts)
    signed: set[int] = set()
    calls = [index for index, part in enumerate(parts) if "functionCall" in part]
    if model.output == "image" and model.is_third:
        signed = {index for index, part in enumerate(parts) if index == 0 or "inlineData" in part}
    elif model.is_third:
        signed = {index for index, part in enumerate(parts) if any(name in part for name in _SERVER_PARTS)}
        signed.update(calls[:1])
    elif draft.thoughts and prompt.functions and parts:
        signed = {0}
    for index, part in enumerate(parts):
        if "functionCall" in part and model.has_call_ids:
            part = part | {"functionCall": {"id": _call_id(prompt, candidate, index)} | part["functionCall"]}
        if index in signed:
            part = part | {"thoughtSignature": signature(prompt, candidate, index)}
        parts[index] = part
    return replace(draft, parts=tuple(parts))


def _signs_end(draft: Draft, prompt: Prompt) -> bool:
    """Whether the answer's own text carries a signature at its end: Gemini 3 and later, if nothing was called."""
    return (
        prompt.model.is_third
        and prompt.model.output == "text"
        and draft.finish == "STOP"
        and bool(draft.parts)
        and "text" in draft.parts[-1]
        and not any("functionCall" in part for part in draft.parts)
    )


def signature(prompt: Prompt, candidate: int, index: int) -> str:
    """A thought signature: base64 that nobody can read, like the real ones, and short."""
    made = b"".join(prompt.digest("signature", candidate, index, n) for n in range(3))
    return base64.b64encode(b"\x12\x5e\x0a\x5c" + made[:92]).decode()


def _call_id(prompt: Prompt, candidate: int, index: int) -> str:
    return base64.b32encode(prompt.digest("call", candidate, index)).decode().lower()[:8]


def response_id(prompt: Prompt) -> str:
    """The id that all chunks of one answer share."""
    return base64.urlsafe_b64encode(prompt.digest("response")).decode()[:23]


def unary(drafts: Sequence[Draft], prompt: Prompt) -> JsonObject:
    """The whole answer as one object."""
    candidates: list[JsonObject] = []
    counts = _Counts(prompt)
    for index, draft in enumerate(drafts):
        shown = [{"text": draft.thoughts, "thought": True}] if _shows_thoughts(draft, prompt) else []
        parts = [*shown, *draft.parts]
        if _signs_end(draft, prompt):
            parts[-1] = parts[-1] | {"thoughtSignature": signature(prompt, index, -1)}
        content: JsonObject | None = {"parts": parts, "role": "model"} if parts else {"role": "model"}
        counts.thoughts += len(tokens(draft.thoughts))
        counts.tool += draft.tool_tokens
        for part in draft.parts:
            counts.add(count(part), _modality(part))
        said = "".join(part.get("text", "") for part in draft.parts)
        candidate = _candidate(prompt, index, content if draft.has_content else None, draft)
        candidates.append(candidate | _logprobs(prompt, said, index, is_last=True))
    return _chunk(prompt, candidates, counts.wire(is_last=True))


class Stream:
    """The answer as chunks, made one by one while it is read; `len` is their number."""

    def __init__(self, drafts: Sequence[Draft], prompt: Prompt) -> None:
        self._drafts = drafts
        self._prompt = prompt
        lanes = [_steps(draft, prompt, index) for index, draft in enumerate(drafts)]
        longest = max(map(len, lanes), default=0)
        self._steps = [lane[n] for n in range(longest) for lane in lanes if n < len(lane)]

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[JsonObject]:
        counts = _Counts(self._prompt)
        counts.tool = sum(draft.tool_tokens for draft in self._drafts)
        for number, step in enumerate(self._steps, 1):
            draft = self._drafts[step.candidate]
            counts.thoughts += step.thought_tokens
            counts.add(step.answer_tokens, step.modality)
            content: JsonObject | None = {"role": "model"}
            if step.part is not None:
                content = {"parts": [step.part], "role": "model"}
            elif not draft.has_content:
                content = None
            candidate = _candidate(self._prompt, step.candidate, content, draft if step.is_last else None)
            if step.part is not None and "thought" not in step.part:
                said = step.part.get("text", "")
                candidate |= _logprobs(self._prompt, said, step.candidate, is_last=step.is_last)
            yield _chunk(self._prompt, [candidate], counts.wire(is_last=number == len(self._steps)))


def _steps(draft: Draft, prompt: Prompt, candidate: int) -> list[_Step]:
    """One candidate's chunks: thoughts, then each token of text and each other part, then the end."""
    steps: list[_Step] = []
    hidden = len(tokens(draft.thoughts))
    if _shows_thoughts(draft, prompt):
        steps += [_Step(candidate, {"text": word, "thought": True}, 1, 0) for word in tokens(draft.thoughts)]
        hidden = 0
    for part in draft.parts:
        if part.get("text"):
            pieces = tokens(part["text"])
            firsts = [{key: value for key, value in part.items() if key != "text"}] + [{}] * (len(pieces) - 1)
            steps += [
                _Step(candidate, {"text": piece} | more, 0, 1) for piece, more in zip(pieces, firsts, strict=True)
            ]
        elif prompt.streams_arguments and "functionCall" in part:
            streamed = stream_call(part)
            costs = [count(part)] + [0] * (len(streamed) - 1)
            steps += [_Step(candidate, piece, 0, cost) for piece, cost in zip(streamed, costs, strict=True)]
        else:
            steps.append(_Step(candidate, part, 0, count(part), _modality(part)))
    has_calls = any("functionCall" in part for part in draft.parts)
    if not draft.has_content or not steps:
        steps.append(_Step(candidate, None, 0, 0))
    elif _signs_end(draft, prompt):
        steps.append(_Step(candidate, {"text": "", "thoughtSignature": signature(prompt, candidate, -1)}, 0, 0))
    elif has_calls and prompt.model.is_third and not prompt.streams_arguments:
        # recorded as native_output_with_function_tools_stream-0: the finish comes after the call, with an empty text
        steps.append(_Step(candidate, {"text": ""}, 0, 0))
    steps[0] = replace(steps[0], thought_tokens=steps[0].thought_tokens + hidden)
    steps[-1] = replace(steps[-1], is_last=True)
    return steps


def stream_call(part: JsonObject) -> list[JsonObject]:
    """One call as Vertex AI streams its arguments (section 4.1): the name, pieces by JSON path, an empty end."""
    call = part["functionCall"]
    head = {key: value for key, value in call.items() if key != "args"}
    pieces: list[JsonObject] = [part | {"functionCall": head | {"willContinue": True}}]
    for path, value in _leaves("$", call.get("args", {})):
        for piece in _argument(path, value):
            pieces.append({"functionCall": {"partialArgs": [piece], "willContinue": True}})
    return [*pieces, {"functionCall": {}}]


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            plain = key.isascii() and key.replace("_", "a").isalnum() and not key[0].isdigit()
            yield from _leaves(f"{path}.{key}" if plain else f"{path}[{jsontext.text(key)}]", inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _leaves(f"{path}[{index}]", inner)
    else:
        yield path, value


def _argument(path: str, value: Any) -> list[JsonObject]:
    match value:
        case None:
            return [{"jsonPath": path, "nullValue": "NULL_VALUE"}]
        case bool():
            return [{"jsonPath": path, "boolValue": value}]
        case str():
            said = [{"jsonPath": path, "stringValue": piece, "willContinue": True} for piece in tokens(value)]
            return [*said, {"jsonPath": path, "stringValue": ""}]
        case _:
            return [{"jsonPath": path, "numberValue": value}]


def _shows_thoughts(draft: Draft, prompt: Prompt) -> bool:
    return bool(draft.thoughts) and bool(prompt.thinking.get("includeThoughts"))


def _modality(part: JsonObject) -> str:
    kind = part.get("inlineData", {}).get("mimeType", "").partition("/")[0]
    return {"image": "IMAGE", "audio": "AUDIO"}.get(kind, "TEXT")


def _candidate(prompt: Prompt, index: int, content: JsonObject | None, end: Draft | None) -> JsonObject:
    candidate: JsonObject = {} if content is None else {"content": content}
    if end is not None and end.finish is not None:
        candidate["finishReason"] = end.finish
    if index or prompt.api != VERTEX:
        candidate["index"] = index
    if end is not None:
        if end.finish_message is not None:
            candidate["finishMessage"] = end.finish_message
        candidate |= end.extra
    return candidate


def _chunk(prompt: Prompt, candidates: list[JsonObject], usage: JsonObject) -> JsonObject:
    chunk: JsonObject = {"candidates": candidates} if candidates else {}
    if usage:
        chunk["usageMetadata"] = usage
    chunk["modelVersion"] = version_of(prompt.model)
    if prompt.api == VERTEX:
        chunk["createTime"] = _CREATED
    chunk["responseId"] = response_id(prompt)
    return chunk


def feedback(prompt: Prompt, reason: str) -> JsonObject:
    """The answer to a blocked prompt: no candidates, and of the counts only the prompt's."""
    blocked: JsonObject = {"blockReason": reason, "safetyRatings": ratings(blocked=reason == "SAFETY")}
    if prompt.api == VERTEX:
        blocked["blockReasonMessage"] = f"The prompt was blocked: {reason}."
    usage = _Counts(prompt).wire(is_last=True)
    return {"promptFeedback": blocked} | _chunk(prompt, [], usage)


def ratings(*, blocked: bool) -> list[JsonObject]:
    """safetyRatings in which the last harm is the reason for a block, or none is."""
    harms = ("SEXUALLY_EXPLICIT", "HATE_SPEECH", "HARASSMENT", "DANGEROUS_CONTENT")
    found: list[JsonObject] = [{"category": f"HARM_CATEGORY_{harm}", "probability": "NEGLIGIBLE"} for harm in harms]
    if blocked:
        found[-1] |= {"probability": "HIGH", "blocked": True}
    return found


class _Counts:
    """The running usage of one answer."""

    def __init__(self, prompt: Prompt) -> None:
        self._prompt = prompt
        self.thoughts = 0
        self.tool = 0
        self._answer: dict[str, int] = {}

    def add(self, number: int, modality: str) -> None:
        """Count tokens of the answer."""
        if number:
            self._answer[modality] = self._answer.get(modality, 0) + number

    def wire(self, *, is_last: bool) -> JsonObject:
        """usageMetadata up to here."""
        prompt = self._prompt
        if prompt.api == VERTEX and not is_last:
            return {"trafficType": "ON_DEMAND"}
        asked = sum(prompt.prompt_tokens.values())
        answered = sum(self._answer.values())
        usage: JsonObject = {
            "promptTokenCount": asked,
            "candidatesTokenCount": answered,
            "totalTokenCount": asked + answered + self.thoughts + self.tool,
            "cachedContentTokenCount": prompt.cached_tokens,
            "promptTokensDetails": _details(prompt.prompt_tokens),
            "toolUsePromptTokenCount": self.tool,
            "thoughtsTokenCount": self.thoughts,
        }
        if prompt.cached_tokens:
            usage["cacheTokensDetails"] = _details({"TEXT": prompt.cached_tokens})
        if self.tool:
            usage["toolUsePromptTokensDetails"] = _details({"TEXT": self.tool})
        if answered and (prompt.api == VERTEX or set(self._answer) != {"TEXT"}):
            usage["candidatesTokensDetails"] = _details(self._answer)
        if prompt.api == VERTEX:
            usage["trafficType"] = "ON_DEMAND"
        elif prompt.service_tier is not None:
            usage["serviceTier"] = prompt.service_tier.lower()
        return {key: value for key, value in usage.items() if value}  # a count of nothing is left out, as recorded


def _details(counted: dict[str, int]) -> list[JsonObject]:
    return [{"modality": modality, "tokenCount": number} for modality, number in counted.items() if number]


def _logprobs(prompt: Prompt, said: str, candidate: int, *, is_last: bool) -> JsonObject:
    """logprobsResult for the tokens of a text, where the request wants it; Vertex AI also gives the average."""
    chosen = [(token, _logprob(prompt, token)) for token in tokens(said)]
    result: JsonObject = {}
    if prompt.config.get("responseLogprobs") and chosen:
        others = prompt.config.get("logprobs", 0)
        result["logprobsResult"] = {
            "chosenCandidates": [_logged(token, value) for token, value in chosen],
        }
        if others:
            result["logprobsResult"]["topCandidates"] = [
                {"candidates": [_logged(token if not n else f"{token}{n}", value - n) for n in range(others)]}
                for token, value in chosen
            ]
    if prompt.api == VERTEX and is_last and chosen:
        result["avgLogprobs"] = sum(value for _, value in chosen) / len(chosen)
    return result


def _logprob(prompt: Prompt, token: str) -> float:
    return -int.from_bytes(prompt.digest("logprob", token)[:2], "big") / 65_536


def _logged(token: str, value: float) -> JsonObject:
    number = int.from_bytes(token.encode("utf-8", "surrogatepass")[:3], "big")
    return {"token": token, "tokenId": number, "logProbability": value}
