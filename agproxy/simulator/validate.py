"""The rules that the API checks once a body fits its messages: what a model takes, and in which order.

Follows sections 5 to 10 and 14 of the wire notes, and no rule stricter than the recorded traffic: every request
there that was answered with 200 passes. Each rule is one function that gives Google's message or None; the first
that speaks decides. Wordings marked unverified in the notes are ours in the same tone.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..jsontext import JsonObject
from .embed import DIMENSIONS
from .fields import VERTEX
from .models import Model
from .prompt import Turn, built_in, count_tokens, declared, merged
from .protocol import ONE_OF
from .status import Refused, Violation, bad_fields, too_long

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,127}\Z")
_LABEL = re.compile(r"[a-z0-9_-]{0,63}\Z")
_MODALITIES = {"text": {"TEXT"}, "image": {"TEXT", "IMAGE"}, "audio": {"AUDIO"}}
_MIME_TYPES = ("text/plain", "application/json", "application/xml", "application/yaml", "text/x.enum")
_MOST_STOPS = 5
_MOST_CANDIDATES = 8
_MOST_FUNCTIONS = 512
_RATIOS = frozenset(
    {"1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9"} | {"1:4", "4:1", "1:8", "8:1"}
)


@dataclass(frozen=True, slots=True)
class Subject:
    """A canonical request and what it is checked against."""

    request: JsonObject
    model: Model
    api: str
    turns: tuple[Turn, ...]

    @property
    def config(self) -> JsonObject:
        """generationConfig."""
        value: JsonObject = self.request.get("generationConfig", {})
        return value

    @property
    def calling(self) -> JsonObject:
        """functionCallingConfig."""
        value: JsonObject = self.request.get("toolConfig", {}).get("functionCallingConfig", {})
        return value


def check(request: JsonObject, model: Model, api: str) -> None:
    """Raise Refused (400) for the first rule that the request breaks."""
    subject = Subject(request, model, api, tuple(merged(request.get("contents", []))))
    for rule in RULES:
        message = rule(subject)
        if message is not None:
            raise Refused(400, message)
    _check_schemas(subject)


def check_tokens(request: JsonObject, model: Model) -> None:
    """Raise Refused (400) for more input than the model takes."""
    number = sum(count_tokens(request).values())
    if number > model.input_tokens:
        raise too_long(number, model.input_tokens)


def _contents(subject: Subject) -> str | None:
    contents = subject.request.get("contents", [])
    if not contents:
        if subject.api == VERTEX:
            return "Unable to submit request because at least one contents field is required."
        return "* GenerateContentRequest.contents: contents is not specified\n"
    for index, content in enumerate(contents):
        if content.get("role", "user") not in ("user", "model", "function", ""):
            return "Please use a valid role: user, model."
        if not content.get("parts"):
            if subject.api == VERTEX:
                return (
                    "Unable to submit request because it must include at least one parts field, which describes the "
                    "prompt input."
                )
            return f"* GenerateContentRequest.contents[{index}].parts: contents.parts must not be empty.\n"
    return None


def _parts(subject: Subject) -> str | None:
    for index, content in enumerate(subject.request.get("contents", [])):
        for number, part in enumerate(content["parts"]):
            path = f"GenerateContentRequest.contents[{index}].parts[{number}]"
            if ONE_OF["Part"][1].isdisjoint(part):
                return f"* {path}.data: required oneof field 'data' must have one initialized field\n"
            if "inlineData" in part and not part["inlineData"].get("mimeType"):
                return f"* {path}.inline_data.mime_type: mime_type must be specified.\n"
            if "fileData" in part and not part["fileData"].get("fileUri"):
                return f"* {path}.file_data.file_uri: file_uri must be specified.\n"
            for name, path_name in (("functionCall", "function_call"), ("functionResponse", "function_response")):
                if name in part and not part[name].get("name"):
                    return f"* {path}.{path_name}.name: Name cannot be empty.\n"
            if part.get("functionResponse", {}).get("parts") and not subject.model.is_third:
                return f"* {path}.function_response.parts: multimodal function responses are not supported.\n"
    return None


def _system(subject: Subject) -> str | None:
    parts = subject.request.get("systemInstruction", {}).get("parts", ())
    if not parts:
        return None
    if not subject.model.has_system:
        return f"Developer instruction is not enabled for models/{subject.model.id}"
    if any("text" not in part for part in parts):
        return "System instruction only supports text parts."
    return None


def _empty_text(subject: Subject) -> str | None:
    if subject.api != VERTEX:
        return None
    texts = [part for turn in subject.turns for part in turn.parts]
    if texts and all(part.get("text") == "" for part in texts):
        return (
            "Unable to submit request because it has an empty text parameter. Add a value to the parameter and try "
            "again."
        )
    return None


def _call_order(subject: Subject) -> str | None:
    before: Turn | None = None
    for turn in subject.turns:
        calls = turn.having("functionCall")
        results = turn.having("functionResponse")
        awaited = before.having("functionCall") if before is not None else []
        if calls and turn.role == "model" and before is None:
            return (
                "Please ensure that function call turn comes immediately after a user turn or after a function "
                "response turn."
            )
        if results and not awaited:
            return "Please ensure that function response turn comes immediately after a function call turn."
        if len(results) != len(awaited):
            return _COUNTS
        before = turn
    if before is not None and before.having("functionCall"):
        return _COUNTS
    return None


_COUNTS = (
    "Please ensure that the number of function response parts is equal to the number of function call parts of the "
    "function call turn."
)


def _call_names(subject: Subject) -> str | None:
    """From 3.8 on a result names its call, and the id that it gives is its call's; google-genai 3.4 gives none."""
    if subject.model.generation < (3, 8) or subject.model.is_moving:
        return None
    for before, turn in zip(subject.turns, subject.turns[1:], strict=False):
        calls = [(call["name"], call.get("id", "")) for call in before.having("functionCall")]
        for result in turn.having("functionResponse"):
            name, ident = result["name"], result.get("id", "")
            if not any(name == called and ident in ("", given) for called, given in calls):
                return f"Function response '{name}' (id '{ident}') matches no function call by name and id."
    return None


def _signatures(subject: Subject) -> str | None:
    """The first call of every step of the current turn needs its signature (section 9)."""
    if not subject.model.is_third or subject.model.is_moving:
        return None
    turns = subject.turns
    start = 0
    for index, turn in enumerate(turns):
        if turn.role == "user" and any("functionResponse" not in part for part in turn.parts):
            start = index
    for position, turn in enumerate(turns[start:], start + 1):
        first = next((part for part in turn.parts if "functionCall" in part), None)
        if turn.role != "model" or first is None or first.get("thoughtSignature"):
            continue
        name = first["functionCall"]["name"]
        if subject.api == VERTEX:
            return (
                f"Unable to submit request because function call `default_api:{name}` in the {position}. content block "
                "is missing a `thought_signature`. Learn more: "
                "https://docs.cloud.google.com/vertex-ai/generative-ai/docs/thought-signatures"
            )
        return (
            "Function call is missing a thought_signature in functionCall parts. This is required for tools to work "
            "correctly, and missing thought_signature may lead to degraded model performance. Additional data, "
            f"function call `default_api:{name}`, position {position}. Please refer to "
            "https://ai.google.dev/gemini-api/docs/thought-signatures for more details."
        )
    return None


def _declarations(subject: Subject) -> str | None:
    functions = declared(subject.request)
    if len(functions) > _MOST_FUNCTIONS:
        return f"The number of function declarations must not exceed {_MOST_FUNCTIONS}."
    seen: set[str] = set()
    for index, tool in enumerate(subject.request.get("tools", ())):
        for number, one in enumerate(tool.get("functionDeclarations", ())):
            path = f"GenerateContentRequest.tools[{index}].function_declarations[{number}]"
            name = one.get("name", "")
            if not _NAME.match(name):
                return (
                    f"* {path}.name: [FIELD_INVALID] Invalid function name. Must start with a letter or an underscore. "
                    "Must be alphanumeric (a-z, A-Z, 0-9), underscores (_), dots (.), colons (:), or dashes (-), with "
                    "a maximum length of 128.\n"
                )
            if name in seen:
                return f"Duplicate function declaration found: {name}"
            seen.add(name)
            if "parameters" in one and "parametersJsonSchema" in one:
                return f"* {path}: only one of parameters and parameters_json_schema may be set.\n"
            if not isinstance(one.get("parametersJsonSchema", {}), dict | None):
                return f"* {path}.parameters_json_schema: the schema must be a JSON object.\n"
    return None


def _calling(subject: Subject) -> str | None:
    names = {one.name for one in declared(subject.request)}
    mode = subject.calling.get("mode", "AUTO")
    allowed = subject.calling.get("allowedFunctionNames", [])
    if mode == "ANY" and not names and not built_in(subject.request):
        return "Function calling config is set without function_declarations."
    if allowed and mode not in ("ANY", "VALIDATED"):
        return "Allowed function names should be set only when function calling mode is ANY or VALIDATED."
    for name in allowed:
        if name not in names:
            return f"Allowed function name '{name}' is not declared in function_declarations."
    return None


def _combinations(subject: Subject) -> str | None:
    """Which tools, schemas and models go together; Gemini 3 lifted most of these."""
    request, model = subject.request, subject.model
    functions, tools = declared(request), built_in(request)
    if functions and not model.has_functions:
        return f"Function calling is not enabled for models/{model.id}"
    wants_json = subject.config.get("responseMimeType") == "application/json"
    if wants_json and not model.has_json:
        return f"JSON mode is not enabled for models/{model.id}"
    if model.is_third or model.generation == (0, 0):
        return None
    if functions and tools:
        if subject.api == VERTEX:
            return "Multiple tools are supported only when they are all search tools."
        return "Tool use with function calling is unsupported"
    if functions and wants_json:
        return "Function calling with a response mime type: 'application/json' is unsupported"
    if tools and wants_json:
        return "Tool use with a response mime type: 'application/json' is unsupported"
    if request.get("toolConfig", {}).get("includeServerSideToolInvocations"):
        return f"Tool call context circulation is not enabled for models/{model.id}"
    return None


def _cached(subject: Subject) -> str | None:
    if "cachedContent" not in subject.request:
        return None
    if any(name in subject.request for name in ("systemInstruction", "tools", "toolConfig")):
        return (
            "CachedContent can not be used with GenerateContent request setting system_instruction, tools or "
            "tool_config.\n\nProposed fix: move those values to CachedContent from GenerateContent request."
        )
    return None


def _thinking(subject: Subject) -> str | None:
    settings = subject.config.get("thinkingConfig")
    model = subject.model
    if settings is None:
        return None
    level, budget = settings.get("thinkingLevel"), settings.get("thinkingBudget")
    if level is not None and budget is not None:
        return "You can only set only one of thinking budget and thinking level."
    if not model.thinks:
        if subject.api == VERTEX:
            return "Unable to submit request because thinking is not supported by this model."
        return "Thinking is not enabled for this model"
    if level not in (None, "THINKING_LEVEL_UNSPECIFIED") and level not in model.levels:
        if not model.levels:
            return "Thinking level is not supported for this model."
        return f"Thinking level {level} is not supported for this model. Please retry with other thinking level."
    if budget is None or model.budget is None or budget == -1:
        return None
    low, high = model.budget
    if budget == 0:
        return None if model.can_stop_thinking else "Budget 0 is invalid. This model only works in thinking mode."
    if not low <= budget <= high:
        return f"The thinking budget {budget} is invalid. Please choose a value between {low} and {high}."
    return None


# field -> (its name in messages, lowest, highest), after section 7. topK is an int32 like any other.
_RANGES: dict[str, tuple[str, float, float]] = {
    "temperature": ("temperature", 0, 2),
    "topP": ("top_p", 0, 1),
    "topK": ("top_k", 0, 2**31 - 1),
    "presencePenalty": ("presence_penalty", -2, 2),
    "frequencyPenalty": ("frequency_penalty", -2, 2),
    "logprobs": ("logprobs", 0, 20),
    "candidateCount": ("candidate_count", 1, _MOST_CANDIDATES),
    "maxOutputTokens": ("max_output_tokens", 1, 2**31 - 1),
}


def _sampling(subject: Subject) -> str | None:
    config, model = subject.config, subject.model
    if subject.api == VERTEX and config.get("maxOutputTokens", 1) not in range(1, model.output_tokens + 1):
        return (
            f"Unable to submit request because it has a maxOutputTokens value of {config['maxOutputTokens']} but the "
            f"supported range is from 1 (inclusive) to {model.output_tokens + 1} (exclusive). Update the value and try "
            "again."
        )
    for name, (field, low, high) in _RANGES.items():
        value = config.get(name)
        if value is not None and not low <= value <= high:
            return (
                f"* GenerateContentRequest.generation_config.{field}: {field} must be in the range "
                f"[{low}, {high}], but {value} was given.\n"
            )
    if len(config.get("stopSequences", ())) > _MOST_STOPS:
        return (
            "* GenerateContentRequest.generation_config.stop_sequences: at most "
            f"{_MOST_STOPS} stop sequences can be specified.\n"
        )
    penalised = any(config.get(name) for name in ("presencePenalty", "frequencyPenalty"))
    if penalised and model.is_third:
        return f"Penalty is not enabled for models/{model.id}"
    if config.get("candidateCount", 1) > 1 and (model.is_third or "preview" in model.id or model.output != "text"):
        return f"Multiple candidates is not enabled for models/{model.id}"
    if config.get("logprobs") is not None and not config.get("responseLogprobs"):
        return "Logprobs can only be set when response_logprobs is true."
    if config.get("responseLogprobs") and subject.api != VERTEX and model.generation >= (2, 5):
        return f"Logprobs is not enabled for models/{model.id}"
    return None


def _output(subject: Subject) -> str | None:
    config, model = subject.config, subject.model
    mime_type = config.get("responseMimeType") or "text/plain"
    if mime_type not in _MIME_TYPES:
        allowed = ", ".join(f"`{word}`" for word in _MIME_TYPES)
        return (
            "* GenerateContentRequest.generation_config.response_mime_type: allowed mimetypes are "
            f"{allowed}, but got '{mime_type}'.\n"
        )
    schemas = [name for name in ("responseSchema", "responseJsonSchema") if name in config]
    if len(schemas) > 1:
        return "Only one of response_schema and response_json_schema may be set."
    if schemas and mime_type == "text/plain":
        return "Response schema is only supported with a response mime type: 'application/json' or 'text/x.enum'."
    asked = {word for word in config.get("responseModalities", ()) if word != "MODALITY_UNSPECIFIED"}
    if asked - _MODALITIES[model.output] or (model.output == "audio" and not asked):
        return (
            f"The requested combination of response modalities ({', '.join(sorted(asked)) or 'TEXT'}) is not supported "
            f"by the model. models/{model.id} accepts the following combination of response modalities:\n"
            f"* {', '.join(sorted(_MODALITIES[model.output]))}\n"
        )
    ratio = config.get("imageConfig", {}).get("aspectRatio")
    if "imageConfig" in config and model.output != "image":
        return f"Image config is not enabled for models/{model.id}"
    if ratio is not None and ratio not in _RATIOS:
        return f"* GenerateContentRequest.generation_config.image_config.aspect_ratio: '{ratio}' is not supported.\n"
    return None


def _safety(subject: Subject) -> str | None:
    categories = [one.get("category", "") for one in subject.request.get("safetySettings", ())]
    for index, category in enumerate(categories):
        if category in ("", "HARM_CATEGORY_UNSPECIFIED"):
            return f"* GenerateContentRequest.safety_settings[{index}]: element predicate failed: $.category in (...)\n"
        if category in categories[:index]:
            return f"Only one safety setting is allowed per category: {category} was given twice."
    return None


def _labels(subject: Subject) -> str | None:
    for key, value in subject.request.get("labels", {}).items():
        if not key or not _LABEL.match(key) or not _LABEL.match(value):
            return "Labels may hold lower-case letters, digits, underscores and dashes only, at most 63 of them."
    return None


RULES: tuple[Callable[[Subject], str | None], ...] = (
    _contents,
    _parts,
    _system,
    _empty_text,
    _cached,
    _declarations,
    _calling,
    _combinations,
    _thinking,
    _sampling,
    _output,
    _safety,
    _labels,
    _call_order,
    _call_names,
    _signatures,
)


def _check_schemas(subject: Subject) -> None:
    """Gemini's own Schema wherever it stands: what the reader of messages cannot see (section 10)."""
    found: list[Violation] = []
    for index, tool in enumerate(subject.request.get("tools", ())):
        for number, one in enumerate(tool.get("functionDeclarations", ())):
            for name in ("parameters", "response"):
                path = f"GenerateContentRequest.tools[{index}].function_declarations[{number}].{name}"
                found += _schema_faults(one.get(name), path, subject)
    path = "GenerateContentRequest.generation_config.response_schema"
    found += _schema_faults(subject.config.get("responseSchema"), path, subject)
    if found:
        raise bad_fields([Violation(one.field, f"* {one.field}: {one.description}\n") for one in found])


def _schema_faults(schema: Any, path: str, subject: Subject) -> Iterator[Violation]:
    if not isinstance(schema, dict):
        return
    kind = schema.get("type")
    # 2.0 takes it: recorded as google_tool_config_any_with_tool_without_args
    is_old = (0, 0) < subject.model.generation < (2, 0)
    if kind == "ARRAY" and "items" not in schema:
        yield Violation(f"{path}.items", "missing field.")
    properties = schema.get("properties", {})
    if kind == "OBJECT" and "properties" in schema and not properties and is_old:
        yield Violation(f"{path}.properties", "should be non-empty for OBJECT type")
    if properties or kind == "OBJECT":
        for index, word in enumerate(schema.get("required", ())):
            if word not in properties and not _is_open(schema):
                yield Violation(f"{path}.required[{index}]", "property is not defined")
    if schema.get("enum"):
        if kind not in (None, "STRING") and not (kind in ("INTEGER", "NUMBER") and subject.model.is_third):
            yield Violation(f"{path}.enum", "only allowed for STRING type")
        for index, word in enumerate(schema["enum"]):
            if word == "":
                yield Violation(f"{path}.enum[{index}]", "cannot be empty")
    if kind == "STRING" and is_old and schema.get("format", "enum") not in ("enum", "date-time", ""):
        yield Violation(f"{path}.format", "only 'enum' and 'date-time' are supported for STRING type")
    yield from _schema_faults(schema.get("items"), f"{path}.items", subject)
    for word, inner in properties.items():
        yield from _schema_faults(inner, f"{path}.properties[{word}]", subject)
    for index, inner in enumerate(schema.get("anyOf", ())):
        yield from _schema_faults(inner, f"{path}.any_of[{index}]", subject)


def _is_open(schema: JsonObject) -> bool:
    return bool(schema.get("additionalProperties")) or "ref" in schema or "anyOf" in schema


def check_embedding(request: JsonObject) -> None:
    """The rules of one embedContent request."""
    parts: Sequence[JsonObject] = request.get("content", {}).get("parts", ())
    if not parts:
        raise Refused(400, "* EmbedContentRequest.content: contents is not specified\n")
    if not any(name in part for part in parts for name in ("text", "inlineData", "fileData")):
        raise Refused(400, "* EmbedContentRequest.content.parts: at least one part with data is needed\n")
    size = request.get("outputDimensionality")
    if size is not None and not 1 <= size <= DIMENSIONS:
        raise Refused(
            400,
            "* EmbedContentRequest.output_dimensionality: must be in the range "
            f"[1, {DIMENSIONS}], but {size} was given.\n",
        )
