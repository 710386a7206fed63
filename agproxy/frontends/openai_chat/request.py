"""Chat Completions requests -> conversation. Follows OpenAI's reference of `POST /v1/chat/completions`.

Knows the wire fields of the request, OpenAI's and the usual extensions (OpenRouter's `reasoning`, Google's
`extra_body.google` and `extra_content`). Strict where a wrong value would change the answer, lenient with what
clients echo: whole answer messages come back with their nulls, empty lists and keys of ours.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ... import jsontext
from ...conversation import (
    USUAL_SAMPLING,
    Format,
    FunctionTool,
    Hosted,
    HostedTool,
    Media,
    Mode,
    Notice,
    Output,
    Part,
    Request,
    Role,
    Sampling,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from ...errors import InvalidRequest
from ...jsontext import JsonObject
from .. import _fields as read
from .._chat_shapes import check_stream_options, decode_stop, split_media
from .._fields import ignored, mapped, refused
from .._openai import session_of

FIELDS = {
    "model": mapped("the path"),
    "messages": mapped("contents, systemInstruction"),
    "max_completion_tokens": mapped("maxOutputTokens"),
    "max_tokens": mapped("maxOutputTokens, where max_completion_tokens is absent"),
    "temperature": mapped("temperature"),
    "top_p": mapped("topP"),
    "top_k": mapped("topK (not OpenAI's, widely sent)"),
    "n": mapped("candidateCount, or several calls"),
    "stop": mapped("stopSequences"),
    "seed": mapped("seed"),
    "presence_penalty": mapped("presencePenalty, where the model takes it"),
    "frequency_penalty": mapped("frequencyPenalty, where the model takes it"),
    "logprobs": mapped("responseLogprobs"),
    "top_logprobs": mapped("logprobs"),
    "response_format": mapped("responseMimeType, responseJsonSchema"),
    "tools": mapped("functionDeclarations; web_search as googleSearch"),
    "tool_choice": mapped("functionCallingConfig"),
    "parallel_tool_calls": mapped("false: only the first call of an answer goes out"),
    "functions": mapped("as tools"),
    "function_call": mapped("as tool_choice"),
    "reasoning_effort": mapped("thinkingConfig"),
    "reasoning": mapped("thinkingConfig (OpenRouter's form: effort, max_tokens, exclude)"),
    "modalities": mapped("responseModalities"),
    "web_search_options": mapped("googleSearch"),
    "service_tier": mapped("serviceTier"),
    "stream": mapped("the method"),
    "stream_options": mapped("include_usage"),
    "extra_body": mapped("google: thinking_config, cached_content, safety_settings"),
    "user": mapped("ties requests of one session together"),
    "safety_identifier": mapped("ties requests of one session together"),
    "prompt_cache_key": mapped("ties requests of one session together"),
    "logit_bias": ignored("Gemini has no token bias", {}),
    "verbosity": ignored("Gemini has no such setting", "medium"),
    "prediction": ignored("Gemini has no predicted outputs"),
    "metadata": ignored("nothing is stored", {}),
    "store": ignored("nothing is stored", False),
    "moderation": ignored("Gemini gives no scores"),
    "prompt_cache_options": ignored("Gemini caches by itself"),
    "prompt_cache_retention": ignored("Gemini caches by itself"),
    "audio": refused("Gemini's chat models do not speak; ask without modalities audio"),
}

# What a message, and a part of its content, may hold; of the rest each kind is named once.
_ECHOED = "echoed by clients from answers"
_MESSAGE = {
    "role": mapped("role"),
    "content": mapped("parts"),
    "tool_calls": mapped("functionCall"),
    "function_call": mapped("functionCall"),
    "tool_call_id": mapped("functionResponse.id"),
    "refusal": mapped("text"),
    "extra_content": mapped("thoughtSignature"),
    "name": ignored("Gemini knows no names of speakers"),
    "audio": ignored("spoken answers are not stored, so they cannot be named"),
    "reasoning_content": mapped("nothing: Gemini wants only signatures back"),
    "reasoning": mapped("nothing: Gemini wants only signatures back"),
    "annotations": mapped(f"nothing: {_ECHOED}"),
    "images": mapped("inlineData"),
    "parsed": mapped(f"nothing: {_ECHOED} by the SDK's helper"),
    "id": mapped(f"nothing: {_ECHOED}"),
    "index": mapped(f"nothing: {_ECHOED}"),
    "logprobs": mapped(f"nothing: {_ECHOED}"),
}
_CACHE_MARK = ignored("Gemini caches by itself")
_PART = {
    "type": mapped(""),
    "text": mapped("text"),
    "refusal": mapped("text"),
    "image_url": mapped("inlineData or fileData"),
    "input_audio": mapped("inlineData"),
    "file": mapped("inlineData"),
    "video_url": mapped("inlineData or fileData"),
    "cache_control": _CACHE_MARK,
    "prompt_cache_breakpoint": _CACHE_MARK,
}
_TOOL = {"type": mapped(""), "function": mapped(""), "custom": mapped(""), "cache_control": _CACHE_MARK}
_JSON_SCHEMA = {
    "name": mapped("nothing: Gemini names no schemas"),
    "schema": mapped("responseJsonSchema"),
    "strict": mapped("nothing: Gemini always holds answers to the schema"),
    "description": ignored("Gemini's schemas take descriptions of their parts only"),
}
_REASONING = {
    "effort": mapped("thinkingConfig"),
    "max_tokens": mapped("thinkingBudget"),
    "exclude": mapped("includeThoughts"),
    "enabled": mapped("nothing: it is the default"),
    "summary": ignored("thoughts come as reasoning_content"),
}
# File name ending -> MIME type, for files that come as bare base64.
_FILE_TYPES = {
    "pdf": "application/pdf",
    "txt": "text/plain",
    "md": "text/markdown",
    "csv": "text/csv",
    "html": "text/html",
    "htm": "text/html",
    "css": "text/css",
    "xml": "text/xml",
    "rtf": "text/rtf",
    "py": "text/x-python",
    "js": "text/javascript",
    "json": "application/json",
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
    "mp4": "video/mp4",
}
_PDF_BASE64 = "JVBERi0"  # "%PDF-"

_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_ROLES = ("system", "assistant", "user", "function", "tool", "developer")
_TIERS = ("auto", "default", "flex", "scale", "priority", "fast")
_FUNCTION = {"name", "description", "parameters", "strict"}


def decode_request(body: JsonObject) -> Request:
    """The conversation that a body asks for. Raises InvalidRequest that names the path."""
    notices = list(read.check(body, FIELDS))
    model = body.get("model")
    if model is None or model == "":
        raise InvalidRequest("you must provide a model parameter")
    is_stream = read.boolean(body["stream"], "stream") if body.get("stream") is not None else False
    notices += check_stream_options(body, is_stream)
    system, turns = _Messages(notices).decode(read.array(read.required(body, "messages", ""), "messages", least=1))
    tools = _decode_tools(body, notices)
    google = _google_extras(body, notices)
    return Request(
        model=read.string(model, "model"),
        system=system,
        turns=turns,
        tools=tools,
        tool_choice=_decode_tool_choice(body, tools, notices),
        parallel_tool_calls=read.optional(body, "parallel_tool_calls", read.boolean),
        sampling=_decode_sampling(body, notices),
        output=_decode_output(body, notices),
        thinking=_decode_thinking(body, google, notices),
        service_tier=_decode_tier(body, notices),
        cached_content=read.optional(google, "cached_content", read.string, path="extra_body.google."),
        safety_settings=tuple(google.get("safety_settings") or ()),
        session=session_of(body),
        is_stream=is_stream,
        notices=tuple(notices),
    )


def _optional_choice(body: JsonObject, name: str, supported: tuple[str, ...]) -> str | None:
    value = body.get(name)
    return None if value is None else read.one_of(value, name, supported)


def _decode_tier(body: JsonObject, notices: list[Notice]) -> str | None:
    tier = _optional_choice(body, "service_tier", _TIERS)
    if tier == "scale":
        notices.append(Notice(param="service_tier", message="service_tier: ignored (Gemini has no scale tier)"))
    return tier


_SAMPLING = frozenset(
    {
        *("max_completion_tokens", "max_tokens", "temperature", "top_p", "top_k", "n", "stop", "seed"),
        *("presence_penalty", "frequency_penalty", "logprobs", "top_logprobs"),
    }
)
_TOOLS = frozenset({"tools", "functions", "web_search_options"})


# --- sampling, output, thinking --------------------------------------------------------------------------------


def _decode_sampling(body: JsonObject, notices: list[Notice]) -> Sampling:
    if _SAMPLING.isdisjoint(body):
        return USUAL_SAMPLING
    limit = read.optional(body, "max_completion_tokens", read.integer, 1)
    older = read.optional(body, "max_tokens", read.integer, 1)
    if limit is None:
        limit = older
    elif older is not None:
        notices.append(Notice(param="max_tokens", message="max_tokens: ignored beside max_completion_tokens"))
    top_k = read.optional(body, "top_k", read.integer)
    if top_k is not None and top_k < 1:
        notices.append(Notice(param="top_k", message="top_k: left out, below 1 it means no limit"))
        top_k = None
    logprobs = bool(read.optional(body, "logprobs", read.boolean))
    top = read.optional(body, "top_logprobs", read.integer, 0, 20)
    if top is not None and not logprobs:
        raise InvalidRequest("'top_logprobs' is only allowed when 'logprobs' is true.", param="top_logprobs")
    return Sampling(
        temperature=read.optional(body, "temperature", read.number, 0, 2),
        top_p=read.optional(body, "top_p", read.number, 0, 1),
        top_k=top_k,
        max_output_tokens=limit,
        stop=decode_stop(body.get("stop"), "stop", notices),
        seed=read.optional(body, "seed", read.integer),
        presence_penalty=read.optional(body, "presence_penalty", read.number, -2, 2),
        frequency_penalty=read.optional(body, "frequency_penalty", read.number, -2, 2),
        candidates=read.optional(body, "n", read.integer, 1, 128) or 1,
        logprobs=logprobs,
        top_logprobs=top,
    )


def _decode_output(body: JsonObject, notices: list[Notice]) -> Output:
    modalities: tuple[str, ...] = ()
    if body.get("modalities") is not None:
        wanted = read.array(body["modalities"], "modalities", least=1)
        modalities = tuple(
            read.one_of(item, f"modalities[{index}]", ("text", "image", "audio")) for index, item in enumerate(wanted)
        )
        if "audio" in modalities:
            raise InvalidRequest(
                "Invalid value: 'audio'. Supported values are: 'text' and 'image'.",
                code="unsupported_value",
                param="modalities",
            )
    value = body.get("response_format")
    if value is None:
        return Output(modalities=modalities)
    form = read.obj(value, "response_format")
    kind = read.one_of(
        read.required(form, "type", "response_format."), "response_format.type", ("json_object", "json_schema", "text")
    )
    if kind == "text":
        return Output(modalities=modalities)
    if kind == "json_object":  # a schema beside it is no field of OpenAI's, but its meaning is plain
        schema = form.get("schema")
        given = None if schema is None else read.obj(schema, "response_format.schema")
        return Output(format=Format.JSON, schema=given, modalities=modalities)
    path = "response_format.json_schema"
    named = read.obj(read.required(form, "json_schema", "response_format."), path)
    notices += read.check(named, _JSON_SCHEMA, path + ".")
    read.string(read.required(named, "name", path + "."), path + ".name")
    schema = named.get("schema")
    return Output(
        format=Format.JSON,
        schema=None if schema is None else read.obj(schema, path + ".schema"),
        modalities=modalities,
    )


def _google_extras(body: JsonObject, notices: list[Notice]) -> JsonObject:
    """`extra_body.google`, which Google's own layer takes literally in the JSON; also bare `google`-less forms."""
    extra = body.get("extra_body")
    if extra is None:
        return {}
    extra = read.obj(extra, "extra_body")
    inner = extra.get("extra_body")
    holder = inner if extra.get("google") is None and isinstance(inner, dict) else extra
    google = read.optional(holder, "google", read.obj, path="extra_body.") or {}
    known = {
        "thinking_config": mapped("thinkingConfig"),
        "cached_content": mapped("cachedContent"),
        "safety_settings": mapped("safetySettings"),
    }
    notices += read.check(google, known, "extra_body.google.")
    notices += read.check(extra, {"google": mapped(""), "extra_body": mapped("")}, "extra_body.")
    for index, item in enumerate(read.optional(google, "safety_settings", read.array, path="extra_body.google.") or []):
        read.obj(item, f"extra_body.google.safety_settings[{index}]")
    return google


def _decode_thinking(body: JsonObject, google: JsonObject, notices: list[Notice]) -> Thinking:
    effort = _optional_choice(body, "reasoning_effort", _EFFORTS)
    budget: int | None = None
    summaries: bool | None = None
    level: str | None = None
    if body.get("reasoning") is not None:
        reasoning = read.obj(body["reasoning"], "reasoning")
        notices += read.check(reasoning, _REASONING, "reasoning.")
        if reasoning.get("effort") is not None:
            effort = effort or read.one_of(reasoning["effort"], "reasoning.effort", _EFFORTS)
        if reasoning.get("max_tokens") is not None:
            budget = read.integer(reasoning["max_tokens"], "reasoning.max_tokens", 0)
        if reasoning.get("exclude") is not None:
            summaries = not read.boolean(reasoning["exclude"], "reasoning.exclude")
    if google.get("thinking_config") is not None:
        path = "extra_body.google.thinking_config"
        config = read.obj(google["thinking_config"], path)
        if effort is not None:
            raise InvalidRequest(f"'reasoning_effort' and '{path}' exclude each other.", param=path)
        for names, kind in (
            (("thinking_budget", "thinkingBudget"), "budget"),
            (("thinking_level", "thinkingLevel"), "level"),
            (("include_thoughts", "includeThoughts"), "include"),
        ):
            value = next((config[name] for name in names if config.get(name) is not None), None)
            if value is None:
                continue
            if kind == "budget":
                budget = read.integer(value, f"{path}.{names[0]}", -1)
            elif kind == "level":
                level = read.string(value, f"{path}.{names[0]}").upper()
            else:
                summaries = read.boolean(value, f"{path}.{names[0]}")
    return Thinking(effort=effort, summaries=summaries, budget_tokens=budget, level=level)


# --- tools -----------------------------------------------------------------------------------------------------


def _decode_function(value: Any, path: str, notices: list[Notice]) -> FunctionTool:
    function = read.obj(value, path)
    name = read.string(read.required(function, "name", path + "."), path + ".name")
    if not name:
        raise InvalidRequest(f"Invalid '{path}.name': empty string.", code="invalid_value", param=path + ".name")
    notices += read.check(function, dict.fromkeys(_FUNCTION, mapped("functionDeclarations")), path + ".")
    parameters = function.get("parameters")
    description = function.get("description")
    strict = function.get("strict")
    return FunctionTool(
        name=name,
        description=None if description is None else read.string(description, path + ".description"),
        parameters=None if parameters is None else read.obj(parameters, path + ".parameters"),
        is_strict=None if strict is None else read.boolean(strict, path + ".strict"),
    )


def _decode_custom(value: Any, path: str) -> FunctionTool:
    custom = read.obj(value, path)
    name = read.string(read.required(custom, "name", path + "."), path + ".name")
    description = read.optional(custom, "description", read.string, path=path + ".") or ""
    form = read.obj(custom.get("format") or {"type": "text"}, path + ".format")
    if read.one_of(form.get("type"), path + ".format.type", ("text", "grammar")) == "grammar":
        grammar = read.obj(read.required(form, "grammar", path + ".format."), path + ".format.grammar")
        syntax = read.one_of(grammar.get("syntax"), path + ".format.grammar.syntax", ("lark", "regex"))
        definition = read.string(grammar.get("definition"), path + ".format.grammar.definition")
        description = f"{description}\n\nThe input must follow this {syntax} grammar:\n{definition}".strip()
    return FunctionTool(name=name, description=description or None, is_freeform=True)


def _decode_tools(body: JsonObject, notices: list[Notice]) -> tuple[Tool, ...]:
    if _TOOLS.isdisjoint(body):
        return ()
    tools: list[Tool] = []
    for index, value in enumerate(read.optional(body, "tools", read.array) or []):
        path = f"tools[{index}]"
        tool = read.obj(value, path)
        kind = read.string(read.required(tool, "type", path + "."), path + ".type")
        if kind in ("function", "custom"):
            notices += read.check(tool, _TOOL, path + ".")
        if kind == "function":
            tools.append(_decode_function(read.required(tool, "function", path + "."), path + ".function", notices))
        elif kind == "custom":
            tools.append(_decode_custom(read.required(tool, "custom", path + "."), path + ".custom"))
        elif kind in ("web_search", "web_search_preview", "google_search"):
            tools.append(HostedTool(kind=Hosted.WEB_SEARCH))
        else:
            raise read.invalid_value(path + ".type", kind, ("function", "custom", "web_search"))
    for index, value in enumerate(read.optional(body, "functions", read.array) or []):
        tools.append(_decode_function(value, f"functions[{index}]", notices))
    if body.get("web_search_options") is not None:
        options = read.obj(body["web_search_options"], "web_search_options")
        for name in options:
            notices.append(
                Notice(
                    param=f"web_search_options.{name[:64]}",
                    message=f"web_search_options.{name[:64]}: ignored (googleSearch has no such setting)",
                )
            )
        tools.append(HostedTool(kind=Hosted.WEB_SEARCH))
    return tuple(dict.fromkeys(tools)) if all(isinstance(t, HostedTool) for t in tools) else _distinct(tools)


def _distinct(tools: list[Tool]) -> tuple[Tool, ...]:
    """The tools with doubles of hosted kinds taken out; a function name twice is a mistake."""
    seen: set[object] = set()
    kept: list[Tool] = []
    for tool in tools:
        key = tool.kind if isinstance(tool, HostedTool) else tool.name
        if key in seen and isinstance(tool, FunctionTool):
            raise InvalidRequest(
                f"Invalid 'tools': the function name '{tool.name[:64]}' is declared twice.",
                code="invalid_value",
                param="tools",
            )
        if key not in seen:
            seen.add(key)
            kept.append(tool)
    return tuple(kept)


def _check_declared(name: str, tools: tuple[Tool, ...], path: str) -> str:
    if not any(isinstance(tool, FunctionTool) and tool.name == name for tool in tools):
        raise InvalidRequest(
            f"Invalid value for '{path}': no function named '{name[:64]}' was specified in 'tools'.",
            code="invalid_value",
            param=path,
        )
    return name


def _decode_tool_choice(body: JsonObject, tools: tuple[Tool, ...], notices: list[Notice]) -> ToolChoice | None:
    value, path = body.get("tool_choice"), "tool_choice"
    if value is None:
        value, path = body.get("function_call"), "function_call"
        if isinstance(value, dict):
            value = {"type": "function", "function": value}
    if value is None:
        return None
    if isinstance(value, str):
        read.one_of(value, path, ("none", "auto", "required"))
        if value != "none" and not tools:
            needed = "functions" if path == "function_call" else "tools"
            raise InvalidRequest(f"'{path}' is only allowed when '{needed}' are specified.", param=path)
        return ToolChoice(mode={"none": Mode.NONE, "auto": Mode.AUTO, "required": Mode.REQUIRED}[value])
    choice = read.obj(value, path)
    kind = read.required(choice, "type", path + ".")
    if kind in ("function", "custom"):
        named = read.obj(read.required(choice, kind, path + "."), f"{path}.{kind}")
        where = f"{path}.{kind}.name"
        name = read.string(read.required(named, "name", f"{path}.{kind}."), where)
        return ToolChoice(mode=Mode.REQUIRED, names=(_check_declared(name, tools, where),))
    if kind == "allowed_tools":
        where = f"{path}.allowed_tools"
        allowed = read.obj(read.required(choice, "allowed_tools", path + "."), where)
        mode = read.one_of(allowed.get("mode"), where + ".mode", ("auto", "required"))
        names = []
        for index, item in enumerate(read.array(allowed.get("tools"), where + ".tools", least=1)):
            here = f"{where}.tools[{index}]"
            entry = read.obj(item, here)
            kind = read.one_of(read.required(entry, "type", here + "."), here + ".type", ("function", "custom"))
            inner = entry.get(kind, entry)  # the Responses API has the name flat, and some clients send it so here
            there = f"{here}.{kind}" if kind in entry else here
            name = read.string(read.required(read.obj(inner, there), "name", there + "."), there + ".name")
            names.append(_check_declared(name, tools, here))
        return ToolChoice(mode=Mode.REQUIRED if mode == "required" else Mode.AUTO, names=tuple(names))
    if kind in ("web_search", "web_search_preview"):
        notices.append(Notice(param=path, message=f"{path}: ignored (Gemini's search cannot be forced)"))
        return None
    raise read.invalid_value(path + ".type", kind, ("function", "custom", "allowed_tools"))


# --- messages --------------------------------------------------------------------------------------------------


def _signature(holder: JsonObject) -> str | None:
    """A thought signature where Google's convention has it: extra_content.google.thought_signature."""
    extra = holder.get("extra_content")
    google = extra.get("google") if isinstance(extra, dict) else None
    value = google.get("thought_signature") if isinstance(google, dict) else None
    return value if isinstance(value, str) and value else None


class _Messages:
    """Decodes the list of messages; remembers the calls so that each result finds its own."""

    def __init__(self, notices: list[Notice]) -> None:
        self._notices = notices
        self._calls: dict[str, str] = {}  # call id -> function name
        self._last_function: str | None = None

    def decode(self, messages: list[Any]) -> tuple[tuple[Text, ...], tuple[Turn, ...]]:
        system: list[Text] = []
        turns: list[Turn] = []
        for index, value in enumerate(messages):
            path = f"messages[{index}]"
            message = read.obj(value, path)
            role = message.get("role")
            if role not in _ROLES:
                role = read.one_of(read.required(message, "role", path + "."), path + ".role", _ROLES)
            self._name_ignored(message, _MESSAGE, "messages[].")
            if role in ("system", "developer"):
                texts = self._texts(read.required(message, "content", path + "."), path + ".content")
                if turns:
                    turns.append(Turn(role=Role.SYSTEM, parts=texts))
                else:
                    system += texts
            elif role == "user":
                turns.append(Turn(role=Role.USER, parts=self._user(message, path)))
            elif role == "assistant":
                turns.append(Turn(role=Role.MODEL, parts=self._assistant(message, path)))
            else:
                turns.append(Turn(role=Role.USER, parts=(self._result(message, role, path),)))
        return tuple(system), tuple(turns)

    def _name_ignored(self, value: JsonObject, table: Mapping[str, read.Field], place: str) -> None:
        """Notices for fields without effect: each kind once, since long histories repeat them."""
        for notice in read.check(value, table, place):
            if notice not in self._notices:
                self._notices.append(notice)

    def _texts(self, content: Any, path: str) -> tuple[Text, ...]:
        if isinstance(content, str):
            return (Text(text=content),)
        if not isinstance(content, list):
            raise read.wrong_type(path, "one of a string or array of objects", content)
        texts = []
        for index, value in enumerate(content):
            here = f"{path}[{index}]"
            part = read.obj(value, here)
            self._name_ignored(part, _PART, "messages[].content[].")
            read.one_of(read.required(part, "type", here + "."), here + ".type", ("text",))
            texts.append(Text(text=read.string(read.required(part, "text", here + "."), here + ".text")))
        return tuple(texts)

    def _user(self, message: JsonObject, path: str) -> tuple[Part, ...]:
        content = message.get("content")
        path += ".content"
        if content is None:
            raise InvalidRequest(f"Invalid value for '{path}': expected a string, got null.", param=path)
        if isinstance(content, str):
            return (Text(text=content),)
        if not isinstance(content, list):
            raise read.wrong_type(path, "one of a string or array of objects", content)
        read.array(content, path, least=1)
        return tuple(self._part(value, f"{path}[{index}]") for index, value in enumerate(content))

    def _part(self, value: Any, path: str) -> Text | Media:
        part = read.obj(value, path)
        self._name_ignored(part, _PART, "messages[].content[].")
        kind = read.required(part, "type", path + ".")
        if kind == "text":
            return Text(text=read.string(read.required(part, "text", path + "."), path + ".text"))
        if kind == "image_url":
            image = read.required(part, "image_url", path + ".")
            if isinstance(image, str):  # a common slip that the meaning of is plain
                image = {"url": image}
            image = read.obj(image, path + ".image_url")
            detail = image.get("detail")
            if detail is not None:
                read.one_of(detail, path + ".image_url.detail", ("auto", "low", "high", "original"))
            url = read.string(read.required(image, "url", path + ".image_url."), path + ".image_url.url")
            return read.media_from_url(url, path + ".image_url.url", detail=detail)
        if kind == "input_audio":
            audio = read.obj(read.required(part, "input_audio", path + "."), path + ".input_audio")
            where = path + ".input_audio."
            form = read.one_of(
                read.required(audio, "format", where),
                where + "format",
                ("wav", "mp3", "flac", "ogg", "aac", "aiff", "opus", "m4a"),
            )
            data = read.string(read.required(audio, "data", where), where + "data")
            mime = {"mp3": "audio/mpeg", "m4a": "audio/mp4"}.get(form, f"audio/{form}")
            return Media(mime_type=mime, data=read.checked_base64(data, where + "data"))
        if kind == "video_url":
            video = read.obj(read.required(part, "video_url", path + "."), path + ".video_url")
            url = read.string(read.required(video, "url", path + ".video_url."), path + ".video_url.url")
            return read.media_from_url(url, path + ".video_url.url")
        if kind == "file":
            return self._file(read.obj(read.required(part, "file", path + "."), path + ".file"), path + ".file.")
        raise read.invalid_value(path + ".type", kind, ("text", "image_url", "input_audio", "file", "video_url"))

    def _file(self, file: JsonObject, path: str) -> Media:
        if file.get("file_id") is not None:
            raise InvalidRequest(
                f"Unsupported parameter: '{path}file_id' is not supported here: no files are stored. "
                "Send the file as file_data.",
                code="unsupported_parameter",
                param=path + "file_id",
            )
        data = read.string(read.required(file, "file_data", path), path + "file_data")
        if data[:5].lower() == "data:":
            return read.media_from_url(data, path + "file_data")
        ending = (read.optional(file, "filename", read.string, path=path) or "").lower().rpartition(".")[2]
        mime = "application/pdf" if data.lstrip().startswith(_PDF_BASE64) else _FILE_TYPES.get(ending)
        if mime is None:
            raise InvalidRequest(
                f"Invalid '{path}filename': the type of this file cannot be told from its name; send file_data as a "
                "data URL.",
                code="invalid_value",
                param=path + "filename",
            )
        return Media(mime_type=mime, data=read.checked_base64(data, path + "file_data"))

    def _assistant(self, message: JsonObject, path: str) -> tuple[Part, ...]:
        parts: list[Part] = []
        content = message.get("content")
        if isinstance(content, str):
            parts += split_media(content) if content else []
        elif content is not None:
            if not isinstance(content, list):
                raise read.wrong_type(path + ".content", "one of a string or array of objects", content)
            for index, value in enumerate(content):
                here = f"{path}.content[{index}]"
                part = read.obj(value, here)
                kind = read.one_of(read.required(part, "type", here + "."), here + ".type", ("text", "refusal"))
                parts.append(Text(text=read.string(read.required(part, kind, here + "."), f"{here}.{kind}")))
        if isinstance(message.get("refusal"), str) and message["refusal"]:
            parts.append(Text(text=message["refusal"]))
        parts += self._images(message.get("images"), path + ".images")
        signature = _signature(message)
        if signature is not None and parts and isinstance(parts[-1], Text):
            parts[-1] = replace(parts[-1], opaque=signature)
        calls = message.get("tool_calls")
        for index, value in enumerate(read.array([] if calls is None else calls, path + ".tool_calls")):
            parts.append(self._call(value, f"{path}.tool_calls[{index}]"))
        legacy = message.get("function_call")
        if legacy is not None:
            where = path + ".function_call"
            function = read.obj(legacy, where)
            self._last_function = read.string(read.required(function, "name", where + "."), where + ".name")
            arguments = self._arguments(function.get("arguments"), where + ".arguments")
            parts.append(ToolCall(id=None, name=self._last_function, arguments=arguments))
        if not parts:
            if content is None and message.get("audio") is None:
                raise InvalidRequest(
                    f"Invalid value for '{path}.content': expected a string, got null.", param=path + ".content"
                )
            parts.append(Text(text=""))
        return tuple(parts)

    def _images(self, value: Any, path: str) -> list[Part]:
        """Images of an answer as the setting `images = field` has written them."""
        images: list[Part] = []
        for index, item in enumerate(read.array([] if value is None else value, path)):
            here = f"{path}[{index}].image_url"
            image = read.obj(read.required(read.obj(item, f"{path}[{index}]"), "image_url", f"{path}[{index}]."), here)
            url = read.string(read.required(image, "url", here + "."), here + ".url")
            images.append(read.media_from_url(url, here + ".url"))
        return images

    def _call(self, value: Any, path: str) -> ToolCall:
        call = read.obj(value, path)
        identifier = read.string(read.required(call, "id", path + "."), path + ".id")
        if call.get("type") == "custom":
            custom = read.obj(read.required(call, "custom", path + "."), path + ".custom")
            name = read.string(read.required(custom, "name", path + ".custom."), path + ".custom.name")
            given = read.optional(custom, "input", read.string, path=path + ".custom.") or ""
            arguments = jsontext.text({"input": given})
        else:
            function = read.obj(read.required(call, "function", path + "."), path + ".function")
            name = read.string(read.required(function, "name", path + ".function."), path + ".function.name")
            arguments = self._arguments(function.get("arguments"), path + ".function.arguments")
        self._calls[identifier] = name
        return ToolCall(id=identifier, name=name, arguments=arguments, opaque=_signature(call))

    def _arguments(self, value: Any, path: str) -> str:
        """Arguments as the JSON text of an object; none at all counts as {}. What a model once broke stands in the
        history for ever, so it is carried as it is, under a name of its own, rather than end the conversation."""
        if value is None or value == "":
            return "{}"
        given = read.string(value, path)
        try:
            parsed = jsontext.loads(given)
        except ValueError:
            parsed = given
        if isinstance(parsed, dict):
            return given
        if parsed is None:
            return "{}"
        self._notices.append(Notice(message=f"{path}: no JSON object, told to the model as text"))
        return jsontext.text({"_raw": given})

    def _result(self, message: JsonObject, role: str, path: str) -> ToolResult:
        content = message.get("content")
        parts: tuple[Text | Media, ...] = ()
        if isinstance(content, str):
            parts = (Text(text=content),)
        elif isinstance(content, list):
            parts = tuple(self._part(value, f"{path}.content[{index}]") for index, value in enumerate(content))
        elif content is not None or role == "tool":
            raise read.wrong_type(path + ".content", "one of a string or array of objects", content)
        if role == "function":
            name = read.string(read.required(message, "name", path + "."), path + ".name")
            return ToolResult(call_id=None, name=name, content=parts)
        identifier = read.string(read.required(message, "tool_call_id", path + "."), path + ".tool_call_id")
        called = self._calls.get(identifier)
        if called is None:
            raise InvalidRequest(
                "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with "
                f"'tool_calls'. No call has the id of {path}.tool_call_id.",
                param=path + ".role",
            )
        return ToolResult(call_id=identifier, name=called, content=parts)
