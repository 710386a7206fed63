"""The author: what the simulated model answers to a prompt, always the same to the same prompt.

It thinks when the model does, calls a function when the conversation invites it, quotes results of functions, makes
JSON for a schema, uses the server-side tools, and else answers the user's words under the instructions. Markers in
the prompt overrule it. It gives drafts: limits, counts and signatures are put on by `compose`.
"""

import math
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

from .. import jsontext
from ..jsontext import JsonObject
from . import media, search
from .compose import Draft, limit, ratings, sign
from .prompt import Function, Prompt, tokens
from .schema import Unsatisfiable, example
from .status import Refused
from .words import Hints, content_words

_QUOTE = 300  # characters of the user's text that an answer repeats
_SYSTEM_QUOTE = 80
_RESULT_QUOTE = 2_000
_MOST_CALLS = 64

# Words of thinking by level; a budget cuts them. Real models think hundreds of tokens: few are enough to be seen.
_THOUGHT_WORDS = {"NONE": 0, "MINIMAL": 0, "LOW": 8, "MEDIUM": 16, "HIGH": 32, "XHIGH": 48}
_THOUGHT = "**Reading the request**\n\nThe user wants an answer. I look at the words, the instructions and the tools. "
_COMPUTE = re.compile(r"(-?\d+(?:\.\d+)?)\s*([-+*/×x÷^])\s*(-?\d+(?:\.\d+)?)")
_COMPUTE_WORDS = re.compile(r"\b(compute|calculate|python|code|sum of|multiply|divide|how much is)\b", re.IGNORECASE)
_OPERATORS: dict[str, tuple[str, Callable[[float, float], Any]]] = {
    "+": ("+", operator.add),
    "-": ("-", operator.sub),
    "*": ("*", operator.mul),
    "×": ("*", operator.mul),
    "x": ("*", operator.mul),
    "/": ("/", operator.truediv),
    "÷": ("/", operator.truediv),
    "^": ("**", operator.pow),
}
_CALL_MESSAGE = "Model generated function call(s)."


def write(prompt: Prompt) -> list[Draft]:
    """The candidates. Raises Refused where a marker cannot be obeyed."""
    wanted = prompt.config.get("candidateCount") or 1
    return [sign(limit(_finish(_draft(prompt, n), prompt), prompt), prompt, n) for n in range(wanted)]


def _draft(prompt: Prompt, candidate: int) -> Draft:
    thoughts = _think(prompt)
    if "empty" in prompt.markers:
        return Draft(thoughts=thoughts)
    if "malformed-call" in prompt.markers:
        message = "Malformed function call: print(default_api.example(text='unterminated"
        return Draft(thoughts=thoughts, finish="MALFORMED_FUNCTION_CALL", finish_message=message, has_content=False)
    calls = choose_calls(prompt)
    if calls:
        preface = prompt.markers.text("preface")
        spoken: list[JsonObject] = [{"text": preface}] if preface else []
        parts = [*spoken, *({"functionCall": {"name": name, "args": args}} for name, args in calls)]
        finish_message = _CALL_MESSAGE if prompt.model.generation >= (2, 5) else None
        return Draft(thoughts=thoughts, parts=tuple(parts), finish_message=finish_message)
    if prompt.model.output == "audio":
        return Draft(thoughts=thoughts, parts=(media.speech(prompt),))
    text = _text(prompt, candidate)
    if prompt.model.output == "image" and media.wants_image(prompt):
        return Draft(thoughts=thoughts, parts=({"text": text}, media.image(prompt, candidate)))
    before: list[JsonObject] = []
    tool_tokens = 0
    if "codeExecution" in prompt.built_in and not _is_fixed(prompt) and _asks_to_compute(prompt.user):
        before = _run_code(prompt)
        tool_tokens += 20
        text = f"{before[1]['codeExecutionResult']['output'].strip()} is the result. {text}"
    found = search.ground(prompt, text)
    parts = [*found.parts, *before, {"text": text}] if text else [*found.parts, *before]
    return Draft(thoughts=thoughts, parts=tuple(parts), extra=found.extra, tool_tokens=tool_tokens + found.tokens)


def _finish(draft: Draft, prompt: Prompt) -> Draft:
    """The draft ended as a marker asks."""
    found = prompt.markers
    if "no-finish" in found:
        return Draft(thoughts=draft.thoughts, parts=draft.parts, finish=None, tool_tokens=draft.tool_tokens)
    if "max-tokens" in found:
        return Draft(thoughts=draft.thoughts, parts=_half(draft.parts), finish="MAX_TOKENS")
    if "safety" in found:
        extra: JsonObject = {"safetyRatings": ratings(blocked=True)}
        return Draft(thoughts=draft.thoughts, parts=_half(draft.parts), finish="SAFETY", has_content=False, extra=extra)
    if "recitation" in found:
        source = {"startIndex": 0, "endIndex": 20, "uri": "https://example.com/source", "license": ""}
        key = "citations" if prompt.api == "vertex" else "citationSources"
        extra = {"citationMetadata": {key: [{name: value for name, value in source.items() if value}]}}
        parts = _half(draft.parts)
        return Draft(thoughts=draft.thoughts, parts=parts, finish="RECITATION", has_content=False, extra=extra)
    reason = found.text("finish")
    if reason is not None:
        return Draft(thoughts=draft.thoughts, parts=_half(draft.parts), finish=reason)
    return draft


def _half(parts: Sequence[JsonObject]) -> tuple[JsonObject, ...]:
    """The first half of the text; anything but text is left out."""
    text = "".join(part.get("text", "") for part in parts)
    half = text[: len(text) // 2]
    return ({"text": half},) if half else ()


def _think(prompt: Prompt) -> str:
    """The thoughts, empty where the model does not think or was told not to."""
    if not prompt.model.thinks:
        return ""
    settings = prompt.thinking
    words = _THOUGHT_WORDS.get(settings.get("thinkingLevel", ""), _THOUGHT_WORDS[prompt.model.default_level])
    budget = settings.get("thinkingBudget")
    if budget is not None:
        words = _THOUGHT_WORDS["MEDIUM"] if budget < 0 else min(_THOUGHT_WORDS["HIGH"], budget)
    marked = prompt.markers.count("think")
    if marked is not None:
        words = marked
    pattern = _THOUGHT.split(" ")
    thought = " ".join((pattern * (words // len(pattern) + 1))[:words]).strip()
    return "".join(tokens(thought)[:budget]) if budget is not None and budget > 0 and marked is None else thought


def _is_fixed(prompt: Prompt) -> bool:
    """Whether a marker gives the answer's text."""
    return any(name in prompt.markers for name in ("say", "echo", "words"))


def _text(prompt: Prompt, candidate: int) -> str:
    said = prompt.markers.text("say")
    if said is not None:
        return said
    words = prompt.markers.count("words")
    if words is not None:
        return " ".join(f"w{n}" for n in range(1, words + 1))
    if "echo" in prompt.markers:
        return prompt.user
    if _wants_json(prompt):
        return _json_answer(prompt)
    prose = _prose(prompt)
    return f"{prose} (candidate {candidate + 1})" if candidate else prose


def _prose(prompt: Prompt) -> str:
    """A sentence that shows what the model was given: the user's words, the instructions, files, results."""
    topic = [f'"{_cut(prompt.user, _QUOTE)}"'] if prompt.user else []
    for one in prompt.media:
        size = "" if one.size_bytes is None else f" ({one.size_bytes} bytes)"
        topic.append(f"{one.mime_type}{size}")
    notes = [f'instructions: "{_cut(prompt.system, _SYSTEM_QUOTE)}"'] if prompt.system else []
    if prompt.turn > 1:
        notes.append(f"turn {prompt.turn}")
    answer = f"Simulated answer to {' and '.join(topic) or 'nothing'}"
    if notes:
        answer += f" ({', '.join(notes)})"
    if prompt.results:
        return f"{answer}: {'; '.join(map(_quote_result, prompt.results))}."
    return f"{answer}."


def _cut(text: str, characters: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= characters else text[:characters].rstrip() + "..."


def _quote_result(result: JsonObject) -> str:
    response = result.get("response", {})
    value: Any = response
    for key in ("output", "result", "error"):
        if key in response and len(response) == 1:
            value = response[key]
    shown = value if isinstance(value, str) else jsontext.text(value)
    attached = []
    for part in result.get("parts", ()):
        holder = part.get("inlineData", part.get("fileData", {}))
        attached.append(holder.get("mimeType", "file"))
    files = f" with {', '.join(attached)}" if attached else ""
    verb = "failed with" if "error" in response else "returned"
    return f"{result.get('name', 'function')} {verb} {_cut(shown, _RESULT_QUOTE)}{files}"


def response_schema(config: JsonObject) -> Any:
    """The schema that the answer must have, in whichever of its places it was given, or None."""
    for name in ("responseJsonSchema", "_responseJsonSchema", "responseSchema"):
        if name in config:
            return config[name]
    for one in config.get("responseFormat", ()):
        if "schema" in one.get("text", {}):
            return one["text"]["schema"]
    return None


def _wants_json(prompt: Prompt) -> bool:
    mime_types = [prompt.config.get("responseMimeType", "")]
    mime_types += [one.get("text", {}).get("mimeType", "") for one in prompt.config.get("responseFormat", ())]
    return response_schema(prompt.config) is not None or any("json" in word.lower() for word in mime_types)


def _json_answer(prompt: Prompt) -> str:
    """JSON text for the wanted schema, or for one of our own where only the MIME type asks for JSON."""
    schema = response_schema(prompt.config)
    if schema is None:
        return jsontext.text({"answer": _prose(prompt)})
    try:
        value = example(schema, Hints.of(prompt.user), fill=True)
    except Unsatisfiable:
        raise Refused(400, "The specified schema produces a constraint that no value can satisfy.") from None
    if prompt.config.get("responseMimeType") == "text/x.enum" and isinstance(value, str):
        return value
    return jsontext.text(value)


def _asks_to_compute(text: str) -> bool:
    return _COMPUTE.search(text) is not None or _COMPUTE_WORDS.search(text) is not None


def _run_code(prompt: Prompt) -> list[JsonObject]:
    """A program and its output, worked out for one operation on two numbers, else made up."""
    found = _COMPUTE.search(prompt.user)
    code, output, outcome = 'print("simulated")\n', "simulated\n", "OUTCOME_OK"
    if found:
        sign_, operate = _OPERATORS[found[2]]
        code = f"print({found[1]} {sign_} {found[3]})\n"
        value = _operated(operate, float(found[1]), float(found[3]))
        output, outcome = (f"{value}\n", "OUTCOME_OK") if value else ("ArithmeticError\n", "OUTCOME_FAILED")
    ident = {"id": prompt.digest("code").hex()[:8]} if prompt.model.is_third else {}
    return [
        {"executableCode": {"language": "PYTHON", "code": code} | ident},
        {"codeExecutionResult": {"outcome": outcome, "output": output} | ident},
    ]


def _operated(operate: Callable[[float, float], Any], left: float, right: float) -> str | None:
    """The number as text, or None where arithmetic has no answer."""
    try:
        value = operate(left, right)
    except ArithmeticError:
        return None
    if not isinstance(value, float) or not math.isfinite(value):
        return None
    return f"{value:.0f}" if value.is_integer() else repr(value)


def choose_calls(prompt: Prompt) -> list[tuple[str, JsonObject]]:
    """The functions to call now, with arguments; empty for an answer in text."""
    found = prompt.markers
    has_steps_left = prompt.steps_done < (found.count("steps") or 1)
    number = min(found.count("calls") or 0, _MOST_CALLS)
    marked = found.text("call")
    if marked is not None and has_steps_left:
        return _marked_calls(prompt, marked, max(number, 1))
    if prompt.mode == "NONE" or not prompt.functions:
        return []
    must = prompt.mode == "ANY" or (has_steps_left and ("calls" in found or "steps" in found))
    if not must and (prompt.is_after_results or _is_fixed(prompt)):
        return []
    functions = [one for one in prompt.functions if not prompt.allowed or one.name in prompt.allowed]
    chosen = best(functions, prompt.user) or (functions[0] if must else None)
    if chosen is None:
        return []
    if not number:
        number = 2 if Hints.of(prompt.user).asks_twice else 1
    return _calls(chosen, prompt.user, number)


def _marked_calls(prompt: Prompt, marked: str, number: int) -> list[tuple[str, JsonObject]]:
    name, _, written = marked.partition(" ")
    if written.strip():
        try:
            args = jsontext.loads(written)
        except ValueError:
            args = None
        if not isinstance(args, dict):
            raise Refused(400, "Simulator: the arguments in [[sim:call=NAME ARGS]] must be one JSON object.")
        return [(name, args)] * number
    known = next((one for one in prompt.functions if one.name == name), Function(name, "", None))
    return _calls(known, prompt.user, number)


def _calls(function: Function, text: str, number: int) -> list[tuple[str, JsonObject]]:
    hints = Hints.of(text)
    if function.schema is None:
        return [(function.name, {})] * number
    calls: list[tuple[str, JsonObject]] = []
    for n in range(number):
        try:
            args = example(function.schema, hints, number=n)
        except Unsatisfiable:
            args = {}
        calls.append((function.name, args if isinstance(args, dict) else {}))
    return calls


def best(functions: Sequence[Function], text: str) -> Function | None:
    """The function that the text speaks of most: by its name, then by words of its name and description."""
    lowered = text.lower()
    said = content_words(text, shortest=3)
    scored = [(_score(one, lowered, said), one) for one in functions]
    highest = max((score for score, _ in scored), default=0)
    return next((one for score, one in scored if score == highest), None) if highest else None


def _score(function: Function, lowered: str, said: set[str]) -> int:
    score = 100 if function.name and function.name.lower() in lowered else 0
    named = content_words(function.name, shortest=3) & said
    described = {word for word in content_words(function.description) & said if len(word) >= 4}
    return score + 10 * len(named) + len(described - named)
