"""Responses requests -> conversation. Follows OpenAI's reference of `POST /v1/responses`, as openai-python 3.54 has it.

Knows the fields of the body; its items are read in `items`, its tools in `tools`. State comes in from outside:
`history` holds the items of the response or conversation that the body goes on from, in order, and None says that
nothing is kept, so that a body which needs it is refused by name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...conversation import (
    Format,
    FunctionTool,
    Mode,
    Notice,
    Output,
    Request,
    Sampling,
    Text,
    Thinking,
    ToolChoice,
)
from ...errors import InvalidRequest
from ...jsontext import JsonObject
from .. import _fields as read
from .._fields import Field, ignored, mapped, refused
from .._openai import session_of
from .items import Decoded, decode_items
from .tools import Toolbox, decode_tool_choice

FIELDS: dict[str, Field] = {
    "model": mapped("the path"),
    "input": mapped("contents, systemInstruction"),
    "instructions": mapped("systemInstruction, first"),
    "tools": mapped("functionDeclarations, googleSearch, codeExecution, responseModalities"),
    "tool_choice": mapped("functionCallingConfig"),
    "parallel_tool_calls": mapped("false: only the first call of an answer goes out"),
    "reasoning": mapped("effort: thinkingConfig; summary: includeThoughts"),
    "text": mapped("format: responseMimeType, responseJsonSchema"),
    "max_output_tokens": mapped("maxOutputTokens"),
    "temperature": mapped("temperature"),
    "top_p": mapped("topP"),
    "top_logprobs": mapped("responseLogprobs, logprobs"),
    "include": mapped("logprobs and search sources; signatures are always sent"),
    "service_tier": mapped("serviceTier"),
    "stream": mapped("the method"),
    "stream_options": mapped("include_obfuscation has no effect"),
    "store": mapped("the gateway's store"),
    "previous_response_id": mapped("the items before those of input"),
    "conversation": mapped("the items before those of input"),
    "background": mapped("an exchange without a waiting client"),
    "metadata": mapped("echoed, and kept with the response"),
    "user": mapped("ties requests of one session together"),
    "safety_identifier": mapped("ties requests of one session together"),
    "prompt_cache_key": mapped("ties requests of one session together"),
    "top_k": mapped("topK (not OpenAI's, widely sent)"),
    "stop": mapped("stopSequences (not a Responses field, but Gemini has it)"),
    "seed": mapped("seed (not a Responses field, but Gemini has it)"),
    "presence_penalty": mapped("presencePenalty, where the model takes it"),
    "frequency_penalty": mapped("frequencyPenalty, where the model takes it"),
    "max_tool_calls": ignored("Gemini counts its own tools' calls by itself"),
    "truncation": ignored("nothing is cut from the input; too long is an error", "disabled"),
    "moderation": ignored("Gemini gives no scores"),
    "context_management": ignored("the history is not compacted by the server", []),
    "prompt_cache_options": ignored("Gemini caches by itself"),
    "prompt_cache_retention": ignored("Gemini caches by itself"),
    "background_options": ignored("a background run starts at once"),
    "access_programs": ignored("Gemini has no such programs"),
    "image": ignored("images are passed on as they are"),
    "client_metadata": ignored("Codex's own bookkeeping, in every request; dropped without a word"),
    "prompt": refused("prompt templates are kept at OpenAI"),
    "messages": refused("in the Responses API this parameter has moved to 'input'"),
    "max_tokens": refused("in the Responses API this parameter has moved to 'max_output_tokens'"),
    "max_completion_tokens": refused("in the Responses API this parameter has moved to 'max_output_tokens'"),
    "response_format": refused("in the Responses API this parameter has moved to 'text.format'"),
    "reasoning_effort": refused("in the Responses API this parameter has moved to 'reasoning.effort'"),
    "verbosity": refused("in the Responses API this parameter has moved to 'text.verbosity'"),
    "functions": refused("in the Responses API functions stand in 'tools'"),
    "function_call": refused("in the Responses API this parameter has moved to 'tool_choice'"),
    "n": refused("a response has one answer", 1),
    "logprobs": refused("ask with 'include': ['message.output_text.logprobs'] and 'top_logprobs'", False),
    "modalities": refused("images come of the image_generation tool", ["text"]),
    "audio": refused("Gemini's chat models do not speak"),
}

_REASONING: dict[str, Field] = {
    "effort": mapped("thinkingConfig"),
    "summary": mapped("includeThoughts; without it no thoughts, as at OpenAI"),
    "generate_summary": mapped("includeThoughts (the old name of summary)"),
    "context": ignored("which thoughts are kept is the client's choice of items", "auto", "current_turn", "all_turns"),
    "mode": ignored("Gemini has no such mode", "standard"),
}
_TEXT: dict[str, Field] = {
    "format": mapped("responseMimeType, responseJsonSchema"),
    "verbosity": ignored("Gemini has no such setting", "medium"),
}
_STREAM_OPTIONS: dict[str, Field] = {
    "include_obfuscation": ignored("frames are not padded", True, False),
    "include_usage": ignored("usage is in every final response", True, False),
}

_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_SUMMARIES = ("auto", "concise", "detailed")
_VERBOSITIES = ("low", "medium", "high")
_TIERS = ("auto", "default", "flex", "scale", "priority", "fast", "ultrafast")
LOGPROBS = "message.output_text.logprobs"
SOURCES = "web_search_call.action.sources"
_INCLUDES = (
    "file_search_call.results",
    "web_search_call.results",
    SOURCES,
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    LOGPROBS,
)


def decode_request(
    body: JsonObject,
    *,
    history: Sequence[JsonObject] | None = None,
    references: Mapping[str, JsonObject] | None = None,
) -> Request:
    """The conversation that a body asks for. Raises InvalidRequest that names the path.

    history: items that come before those of `input`, already looked up; None where no state is kept. references:
    kept items by id, for `item_reference`.
    """
    notices = list(read.check({name: body[name] for name in body if name != "client_metadata"}, FIELDS))
    model = read.required(body, "model", "")
    is_stream = bool(read.optional(body, "stream", read.boolean))
    _check_state(body, has_state=history is not None)
    _check_stream_options(body, notices)
    check_metadata(body)
    box = Toolbox(notices)
    box.declare_all(read.optional(body, "tools", read.array) or [], "tools")
    if body.get("input") is None and not (history or body.get("instructions")):
        raise read.missing("input")
    decoded = decode_items(body.get("input"), box, notices, history=history or (), references=references)
    tool_choice, tools = decode_tool_choice(body, box, box.tools(), notices)
    output = _decode_output(body, decoded, box, notices)
    if decoded.is_compaction:  # functions stay declared, since the history calls them
        tools = tuple(tool for tool in tools if isinstance(tool, FunctionTool))
        tool_choice, output = ToolChoice(mode=Mode.NONE) if tools else None, Output()
    instructions = read.optional(body, "instructions", read.string)
    return Request(
        model=read.string(model, "model"),
        system=((Text(text=instructions),) if instructions else ()) + decoded.system,
        turns=decoded.turns,
        tools=tools,
        tool_choice=tool_choice,
        parallel_tool_calls=read.optional(body, "parallel_tool_calls", read.boolean),
        sampling=_decode_sampling(body, notices),
        output=output,
        thinking=_decode_thinking(body, decoded, notices),
        service_tier=read.optional(body, "service_tier", read.one_of, _TIERS),
        session=session_of(body),
        is_stream=is_stream,
        notices=tuple(notices),
    )


def _check_state(body: JsonObject, *, has_state: bool) -> None:
    """Refuses what needs a store where there is none, in the words that OpenAI has for what is not kept."""
    previous = read.optional(body, "previous_response_id", read.string)
    conversation = body.get("conversation")
    if isinstance(conversation, dict):
        conversation = read.required(conversation, "id", "conversation.")
    if conversation is not None:
        read.string(conversation, "conversation")
    if previous is not None and conversation is not None:
        raise InvalidRequest(
            "Mutually exclusive parameters: 'previous_response_id' and 'conversation'. Ensure you are only providing "
            "one of these parameters.",
            code="mutually_exclusive_parameters",
            param="previous_response_id",
        )
    is_background = bool(read.optional(body, "background", read.boolean))
    is_kept = read.optional(body, "store", read.boolean) is not False
    if is_background and not is_kept:
        raise InvalidRequest("Background mode requires 'store' to be true.", code="invalid_value", param="background")
    if has_state:
        return
    if previous is not None:
        raise InvalidRequest(
            f"Previous response with id '{previous[:64]}' not found.",
            code="previous_response_not_found",
            param="previous_response_id",
        )
    if conversation is not None:
        raise InvalidRequest(f"Conversation with id '{conversation[:64]}' not found.", status=404, param="conversation")
    if is_background:
        raise InvalidRequest(
            "Unsupported parameter: 'background' is not supported here: no responses are stored.",
            code="unsupported_parameter",
            param="background",
        )


def _check_stream_options(body: JsonObject, notices: list[Notice]) -> None:
    options = read.optional(body, "stream_options", read.obj)
    if options is None:
        return
    if not body.get("stream"):
        raise InvalidRequest(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.", param="stream_options"
        )
    notices += read.check(options, _STREAM_OPTIONS, "stream_options.")


def check_metadata(body: JsonObject) -> None:
    """Raises InvalidRequest where `metadata` is none."""
    metadata = read.optional(body, "metadata", read.obj)
    if metadata is None:
        return
    if len(metadata) > 16:
        raise InvalidRequest(
            f"Invalid 'metadata': too many properties. Expected an object with at most 16 properties, "
            f"but got an object with {len(metadata)} properties instead.",
            code="object_above_max_properties",
            param="metadata",
        )
    for name, value in metadata.items():
        read.string(value, f"metadata.{name[:64]}")


def _decode_sampling(body: JsonObject, notices: list[Notice]) -> Sampling:
    include = read.optional(body, "include", read.array) or []
    wanted = [read.one_of(value, f"include[{index}]", _INCLUDES) for index, value in enumerate(include)]
    top = read.optional(body, "top_logprobs", read.integer, 0, 20)
    return Sampling(
        temperature=read.optional(body, "temperature", read.number, 0, 2),
        top_p=read.optional(body, "top_p", read.number, 0, 1),
        top_k=read.optional(body, "top_k", read.integer),
        max_output_tokens=read.optional(body, "max_output_tokens", read.integer, 16),
        stop=_decode_stop(body.get("stop"), notices),
        seed=read.optional(body, "seed", read.integer),
        presence_penalty=read.optional(body, "presence_penalty", read.number, -2, 2),
        frequency_penalty=read.optional(body, "frequency_penalty", read.number, -2, 2),
        logprobs=LOGPROBS in wanted or bool(top),
        top_logprobs=top,
    )


def _decode_stop(value: Any, notices: list[Notice]) -> tuple[str, ...]:
    if value is None:
        return ()
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list):
        raise read.wrong_type("stop", "one of a string or array of strings", value)
    stops = [stop for index, item in enumerate(values) if (stop := read.string(item, f"stop[{index}]"))]
    if len(stops) > 5:
        notices.append(Notice(param="stop", message="stop: only the first 5 are used, Gemini takes no more"))
    return tuple(stops[:5])


def _decode_output(body: JsonObject, decoded: Decoded, box: Toolbox, notices: list[Notice]) -> Output:
    text = read.optional(body, "text", read.obj) or {}
    notices += read.check(text, _TEXT, "text.")
    read.optional(text, "verbosity", read.one_of, _VERBOSITIES, path="text.")
    form, path = read.optional(text, "format", read.obj, path="text."), "text.format"
    if form is None and decoded.form is not None:
        form, path = decoded.form
    output = Output(modalities=("text", "image") if box.makes_images else ())
    if form is None:
        return output
    kind = read.one_of(read.required(form, "type", path + "."), path + ".type", ("json_object", "json_schema", "text"))
    if kind == "text":
        return output
    if kind == "json_object":
        return replace(output, format=Format.JSON)
    read.string(read.required(form, "name", path + "."), path + ".name")
    schema = read.obj(read.required(form, "schema", path + "."), path + ".schema")
    return replace(output, format=Format.JSON, schema=schema)


def _decode_thinking(body: JsonObject, decoded: Decoded, notices: list[Notice]) -> Thinking:
    reasoning = read.optional(body, "reasoning", read.obj) or {}
    notices += read.check(reasoning, _REASONING, "reasoning.")
    effort = read.optional(reasoning, "effort", read.one_of, _EFFORTS, path="reasoning.")
    if effort is None and decoded.effort is not None:
        effort = read.one_of(decoded.effort, "input.reasoning.effort", _EFFORTS)
    summary = read.optional(reasoning, "summary", read.one_of, _SUMMARIES, path="reasoning.")
    old = read.optional(reasoning, "generate_summary", read.one_of, _SUMMARIES, path="reasoning.")
    # Here a client has a field of its own to ask with, and OpenAI sends no summary to who does not ask: clients that
    # know the events of summaries ask for them (llm-comply fails on them where it did not).
    return Thinking(effort=effort, summaries=bool(summary or old))
