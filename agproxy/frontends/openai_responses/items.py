"""Responses input items -> turns of the conversation.

An item is a message, a call, what a call gave back, a reasoning item, or one of OpenAI's built-ins; the table
`_KINDS` says what becomes of each. Items that belong to one answer become one model turn, results that stand
together one user turn. Strict where a wrong value would change the answer; lenient with what clients replay: their
nulls, ids, statuses, extra keys, even broken JSON in `arguments` (Codex sends it back as the model wrote it).

Signatures come back in `encrypted_content` (see `sealed`). Knows no request body: the same code reads the items of
an earlier response, of a conversation and of a token count.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ... import jsontext
from ...conversation import (
    Code,
    CodeOutput,
    Media,
    Notice,
    Part,
    Reasoning,
    Role,
    Text,
    ToolCall,
    ToolResult,
    Turn,
)
from ...errors import InvalidRequest
from ...jsontext import JsonObject
from .. import _fields as read
from .compaction import INSTRUCTION, TRIGGER
from .emulated import EMULATED, OPERATIONS
from .sealed import decode_seal, decode_summary
from .tools import Toolbox

_ROLES = ("assistant", "system", "developer", "user")
_DETAILS = ("auto", "low", "high", "original")
_AUDIO = {"mp3": "audio/mpeg", "m4a": "audio/mp4"}
_AUDIO_FORMATS = ("wav", "mp3", "flac", "ogg", "aac", "aiff", "opus", "m4a")
_INPUT_PARTS = ("input_text", "input_image", "input_file", "input_audio", "output_text", "refusal", "summary_text")
# What a file is, where neither a data URL nor an answer to a download says it.
_FILE_TYPES = {
    ".pdf": "application/pdf",
    ".txt": "text/plain",
    ".md": "text/markdown",
    ".csv": "text/csv",
    ".html": "text/html",
    ".htm": "text/html",
    ".css": "text/css",
    ".xml": "text/xml",
    ".json": "text/plain",
    ".yaml": "text/plain",
    ".yml": "text/plain",
    ".js": "text/javascript",
    ".py": "text/x-python",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
}

# Items that only OpenAI's own servers make or can use, and why each is refused.
_REFUSED = {
    "computer_call": "Gemini has no such tool",
    "computer_call_output": "Gemini has no such tool",
    "mcp_approval_request": "the gateway calls no MCP servers",
    "mcp_approval_response": "the gateway calls no MCP servers",
    "program": "Gemini has no programmatic tool calling",
    "program_output": "Gemini has no programmatic tool calling",
}
# Items that tell of something already done, which no later answer needs.
_WITHOUT_EFFECT = {
    "web_search_call": "Gemini takes no searches back",
    "file_search_call": "Gemini takes no searches back",
    "mcp_list_tools": "the gateway calls no MCP servers",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """What items say. effort and form: settings that the last `configuration_update` asks for, form with its path.

    is_compaction: the history is to be summed up, nothing more.
    """

    system: tuple[Text, ...]
    turns: tuple[Turn, ...]
    effort: Any = None
    form: tuple[JsonObject, str] | None = None
    is_compaction: bool = False


def reference_ids(items: Any) -> list[str]:
    """Ids of the items that an input only names, for whoever keeps them."""
    if not isinstance(items, list):
        return []
    return [
        item["id"]
        for item in items
        if isinstance(item, dict) and is_reference(item) and isinstance(item.get("id"), str)
    ]


def is_reference(item: JsonObject) -> bool:
    return item.get("type") == "item_reference" or (
        item.get("type") is None and item.keys() <= {"id", "type"} and "id" in item
    )


def decode_items(
    items: Any,
    box: Toolbox,
    notices: list[Notice],
    *,
    history: Sequence[JsonObject] = (),
    references: Mapping[str, JsonObject] | None = None,
    path: str = "input",
) -> Decoded:
    """The turns that an input tells: a string, or items. history: items of earlier responses, read before it.

    references: items by id, for `item_reference`. path: where the items stand. Raises InvalidRequest that names it.
    """
    decoder = _Items(box, notices, references or {})
    for index, item in enumerate(history):
        decoder.decode(item, f"history[{index}]")
    if isinstance(items, str):
        decoder.add_message("user", (Text(text=items),))
    elif isinstance(items, list):
        for index, item in enumerate(items):
            decoder.decode(item, f"{path}[{index}]")
    elif items is not None:
        raise read.wrong_type(path, "one of a string or array of input items", items)
    return decoder.result()


class _Items:
    """Reads item after item; remembers calls, so that each result finds its own, and signatures."""

    def __init__(self, box: Toolbox, notices: list[Notice], references: Mapping[str, JsonObject]) -> None:
        self._box = box
        self._notices = notices
        self._references = references
        self._system: list[Text] = []
        self._turns: list[tuple[Role, list[Part]]] = []
        self._joins: str | None = None  # what the last turn may be joined by: "model" or "results"
        self._calls: dict[str, str] = {}  # call id -> function name
        self._call_signatures: dict[str, str] = {}
        self._next_signatures: dict[str, str] = {}
        self._told: set[str] = set()
        self._effort: Any = None
        self._form: tuple[JsonObject, str] | None = None
        self._is_compaction = False

    def result(self) -> Decoded:
        return Decoded(
            system=tuple(self._system),
            turns=tuple(Turn(role=role, parts=tuple(parts)) for role, parts in self._turns),
            effort=self._effort,
            form=self._form,
            is_compaction=self._is_compaction,
        )

    def decode(self, value: Any, path: str) -> None:
        item = read.obj(value, path)
        if self._is_compaction:
            raise InvalidRequest(
                f"Invalid '{path}': nothing may come after a '{TRIGGER}'.", code="invalid_value", param=path
            )
        if is_reference(item):
            self._reference(item, path)
            return
        kind = item.get("type")
        kind = "message" if kind is None else read.string(kind, path + ".type")
        reader = _KINDS.get(kind)
        if reader is not None:
            reader(self, item, path)
        elif kind in _REFUSED:
            raise InvalidRequest(
                f"Invalid value for '{path}.type': '{kind}' is not supported here: {_REFUSED[kind]}.",
                code="unsupported_value",
                param=path + ".type",
            )
        elif kind in _WITHOUT_EFFECT:
            self._tell_once(kind, f"{path}: {kind} has no effect ({_WITHOUT_EFFECT[kind]})")
        else:
            raise read.invalid_value(path + ".type", kind, (*_KINDS, *_WITHOUT_EFFECT, "item_reference"))

    # --- turns

    def _tell_once(self, key: str, message: str) -> None:
        """A notice without a param: what a client replays is no request for anything, so it is never refused."""
        if key not in self._told:
            self._told.add(key)
            self._notices.append(Notice(message=message))

    def add_message(self, role: str, parts: tuple[Part, ...]) -> None:
        """A message of a side that is not the model."""
        self._joins = None
        self._next_signatures = {}
        if role == "user":
            self._turns.append((Role.USER, list(parts)))
        elif self._turns:
            self._turns.append((Role.SYSTEM, list(parts)))
        else:
            self._system += [part for part in parts if isinstance(part, Text)]

    def _add_model(self, *parts: Part) -> None:
        if self._joins != "model":
            self._turns.append((Role.MODEL, []))
            self._joins = "model"
        self._turns[-1][1].extend(parts)

    def _add_result(self, result: ToolResult) -> None:
        if self._joins != "results":
            self._turns.append((Role.USER, []))
            self._joins = "results"
        self._next_signatures = {}
        self._turns[-1][1].append(result)

    # --- messages

    def _message(self, item: JsonObject, path: str) -> None:
        role = read.one_of(read.required(item, "role", path + "."), path + ".role", _ROLES)
        content = read.required(item, "content", path + ".")
        parts = self._content(content, path + ".content")
        if not parts and role != "assistant":
            parts = (Text(text=""),)
        if role == "assistant":
            signature = self._next_signatures.pop("message", None)
            if signature is not None and parts and isinstance(parts[-1], Text):
                parts = (*parts[:-1], replace(parts[-1], opaque=signature))
            self._add_model(*parts)
            return
        if role != "user":
            for index, part in enumerate(parts):
                if not isinstance(part, Text):
                    where = f"{path}.content[{index}].type"
                    raise read.invalid_value(where, content[index]["type"], ("input_text",))
        self.add_message(role, parts)

    def _content(self, content: Any, path: str) -> tuple[Text | Media, ...]:
        if isinstance(content, str):
            return (Text(text=content),)
        if not isinstance(content, list):
            raise read.wrong_type(path, "one of an array of objects or string", content)
        return tuple(self._part(value, f"{path}[{index}]") for index, value in enumerate(content))

    def _part(self, value: Any, path: str) -> Text | Media:
        if isinstance(value, str):
            return Text(text=value)
        part = read.obj(value, path)
        kind = read.one_of(read.required(part, "type", path + "."), path + ".type", _INPUT_PARTS)
        if kind == "refusal":
            return Text(text=read.string(read.required(part, "refusal", path + "."), path + ".refusal"))
        if kind == "input_image":
            return _image(part, path)
        if kind == "input_file":
            return _file(part, path)
        if kind == "input_audio":
            return _audio(part, path)
        return Text(text=read.string(read.required(part, "text", path + "."), path + ".text"))

    # --- reasoning

    def _reasoning(self, item: JsonObject, path: str) -> None:
        self._next_signatures = {}
        opaque: str | None = None
        sealed = item.get("encrypted_content")
        if sealed is not None and sealed != "":
            seal = decode_seal(read.string(sealed, path + ".encrypted_content"))
            if seal is None:
                self._tell_once("encrypted_content", f"{path}.encrypted_content: ignored (it was not made here)")
            else:
                self._call_signatures.update(seal.calls)
                self._next_signatures = dict(seal.next)
                opaque = seal.reasoning
        summary = item.get("summary")
        texts = [
            read.string(read.required(read.obj(part, here), "text", here + "."), here + ".text")
            for here, part in (
                (f"{path}.summary[{index}]", part)
                for index, part in enumerate(read.array([] if summary is None else summary, path + ".summary"))
            )
        ]
        thought = "\n\n".join(text for text in texts if text)
        if thought or opaque is not None:
            self._add_model(Reasoning(text=thought, opaque=opaque))

    # --- calls and results

    def _call(self, item: JsonObject, name: str, arguments: str, path: str) -> None:
        identifier = read.string(read.required(item, "call_id", path + "."), path + ".call_id")
        self._calls[identifier] = name
        signature = self._call_signatures.get(identifier)
        self._add_model(ToolCall(id=identifier, name=name, arguments=arguments, opaque=signature))

    def _client_name(self, item: JsonObject, path: str) -> str:
        name = read.string(read.required(item, "name", path + "."), path + ".name")
        namespace = item.get("namespace")
        return self._box.name_of(name, None if namespace is None else read.string(namespace, path + ".namespace"))

    def _function_call(self, item: JsonObject, path: str) -> None:
        name = self._client_name(item, path)
        given = read.string(item.get("arguments") or "{}", path + ".arguments")
        try:
            is_object = isinstance(jsontext.loads(given), dict)
        except ValueError:
            is_object = False
        if not is_object:
            message = f"{path}.arguments: not a JSON object, passed on as text under '_raw'"
            self._notices.append(Notice(message=message))
            given = jsontext.text({"_raw": given})
        self._call(item, name, given, path)

    def _custom_call(self, item: JsonObject, path: str) -> None:
        given = read.optional(item, "input", read.string, path=path + ".") or ""
        self._call(item, self._client_name(item, path), jsontext.text({"input": given}), path)

    def _result(
        self, item: JsonObject, content: tuple[Text | Media, ...], path: str, *, is_error: bool = False
    ) -> None:
        identifier = item.get("call_id")
        if identifier is None:
            identifier = item.get("id")  # a local shell's output has no call_id in the reference, Codex sent it so
        identifier = read.string(read.required({"call_id": identifier}, "call_id", path + "."), path + ".call_id")
        name = self._calls.get(identifier)
        if name is None:
            raise InvalidRequest(
                f"No tool call found for function call output with call_id {identifier[:64]}.", param="input"
            )
        self._add_result(ToolResult(call_id=identifier, name=name, content=content, is_error=is_error))

    def _call_output(self, item: JsonObject, path: str) -> None:
        output = read.required(item, "output", path + ".")
        self._result(item, self._content(output, path + ".output"), path)

    def _shell_output(self, item: JsonObject, path: str) -> None:
        output = read.required(item, "output", path + ".")
        if isinstance(output, str):
            text = output
        else:
            for index, entry in enumerate(read.array(output, path + ".output")):
                read.obj(entry, f"{path}.output[{index}]")
            text = _json(output, path + ".output")
        self._result(item, (Text(text=text),), path)

    def _patch_output(self, item: JsonObject, path: str) -> None:
        status = read.one_of(read.required(item, "status", path + "."), path + ".status", ("completed", "failed"))
        output = read.string(item.get("output") or status, path + ".output")
        self._result(item, (Text(text=output),), path, is_error=status == "failed")

    def _emulated_call(self, kind: str, item: JsonObject, path: str) -> None:
        emulation = EMULATED[kind]
        holder = read.required(item, emulation.holder, path + ".")
        if kind != "tool_search":
            read.obj(holder, f"{path}.{emulation.holder}")
        if kind == "apply_patch":
            read.one_of(holder.get("type"), f"{path}.{emulation.holder}.type", OPERATIONS)
        arguments = _json(emulation.from_item(item), f"{path}.{emulation.holder}")
        self._call(item, self._box.emulated_name(kind), arguments, path)

    def _local_shell_call(self, item: JsonObject, path: str) -> None:
        self._emulated_call("local_shell", item, path)
        if isinstance(item.get("id"), str):
            self._calls.setdefault(item["id"], self._calls[item["call_id"]])

    def _shell_call(self, item: JsonObject, path: str) -> None:
        self._emulated_call("shell", item, path)

    def _patch_call(self, item: JsonObject, path: str) -> None:
        self._emulated_call("apply_patch", item, path)

    # --- tools that come as items

    def _search_call(self, item: JsonObject, path: str) -> None:
        """A search of the client's is a call; one of OpenAI's server left its tools in the output, which is enough."""
        if _is_run_by_client(item):
            self._emulated_call("tool_search", item, path)

    def _search_output(self, item: JsonObject, path: str) -> None:
        tools = read.array(read.required(item, "tools", path + "."), path + ".tools")
        names = self._box.learn(tools, path + ".tools")
        if _is_run_by_client(item):
            self._result(item, (Text(text=jsontext.text({"loaded": names})),), path)

    def _additional_tools(self, item: JsonObject, path: str) -> None:
        self._box.learn(read.array(read.required(item, "tools", path + "."), path + ".tools"), path + ".tools")

    # --- built-ins that upstream ran

    def _code_call(self, item: JsonObject, path: str) -> None:
        code = read.optional(item, "code", read.string, path=path + ".") or ""
        signature = self._next_signatures.pop("code_interpreter_call", None)
        logs = []
        outputs = item.get("outputs")
        for index, value in enumerate(read.array([] if outputs is None else outputs, path + ".outputs")):
            here = f"{path}.outputs[{index}]"
            output = read.obj(value, here)
            if read.one_of(read.required(output, "type", here + "."), here + ".type", ("logs", "image")) == "logs":
                logs.append(read.optional(output, "logs", read.string, path=here + ".") or "")
        is_ok = item.get("status") != "failed"
        self._add_model(
            Code(code=code, language="python", opaque=signature), CodeOutput(output="".join(logs), is_ok=is_ok)
        )

    def _image_call(self, item: JsonObject, path: str) -> None:
        signature = self._next_signatures.pop("image_generation_call", None)
        result = item.get("result")
        if result is None:
            self._tell_once("image", f"{path}: an image_generation_call without a result has no effect")
            return
        data = read.checked_base64(read.string(result, path + ".result"), path + ".result")
        form = read.optional(item, "output_format", read.string, path=path + ".") or "png"
        self._add_model(Media(mime_type=f"image/{form}", data=data, opaque=signature))

    def _mcp_call(self, item: JsonObject, path: str) -> None:
        """A call that OpenAI's server made, from a history of another vendor: told as a call with its result."""
        identifier = read.string(read.required(item, "id", path + "."), path + ".id")
        call = {"call_id": identifier, **{k: v for k, v in item.items() if k in ("name", "arguments")}}
        self._function_call(call, path)
        error = item.get("error")
        text = item.get("output") if error is None else error if isinstance(error, str) else _json(error, path)
        output = "" if text is None else read.string(text, path + ".output")
        self._result(call, (Text(text=output),), path, is_error=error is not None)

    # --- the rest

    def _reference(self, item: JsonObject, path: str) -> None:
        identifier = read.string(read.required(item, "id", path + "."), path + ".id")
        known = self._references.get(identifier)
        if known is not None and not is_reference(known):
            self.decode(known, path)
        elif identifier.startswith("rs_"):
            # The AI SDK names reasoning items by default; OpenAI's 404 would break its second step for nothing.
            self._tell_once("reference", f"{path}: ignored (no reasoning item '{identifier[:64]}' is kept)")
        else:
            raise InvalidRequest(
                f"Item with id '{identifier[:64]}' not found. Items are not persisted when `store` is set to false. "
                "Try again with `store` set to true, or remove this item from your input.",
                status=404,
                param="input",
            )

    def _compaction(self, item: JsonObject, path: str) -> None:
        where = path + ".encrypted_content"
        sealed = read.string(read.required(item, "encrypted_content", path + "."), where)
        summary = decode_summary(sealed)
        if summary is None:
            raise InvalidRequest(
                f"Invalid '{where}': this compaction was not made here, so what it stands for cannot be read.",
                code="invalid_value",
                param=where,
            )
        self.add_message("user", (Text(text=summary),))

    def _trigger(self, item: JsonObject, path: str) -> None:
        self.add_message("user", (Text(text=INSTRUCTION),))
        self._is_compaction = True

    def _configuration(self, item: JsonObject, path: str) -> None:
        reasoning, text = item.get("reasoning"), item.get("text")
        if reasoning is not None:
            self._effort = read.obj(reasoning, path + ".reasoning").get("effort")
        if text is not None:
            form = read.required(read.obj(text, path + ".text"), "format", path + ".text.")
            self._form = (read.obj(form, path + ".text.format"), path + ".text.format")


def _json(value: Any, path: str) -> str:
    try:
        return jsontext.text(value)
    except ValueError:
        raise InvalidRequest(f"Invalid '{path}': nested too deeply.", code="invalid_value", param=path) from None


def _is_run_by_client(item: JsonObject) -> bool:
    """Whether a tool search is the client's. OpenAI's own have no call_id, or repeat the item's id (recorded)."""
    execution = item.get("execution")
    return item.get("call_id") is not None if execution is None else execution == "client"


_KINDS: dict[str, Callable[[_Items, JsonObject, str], None]] = {
    "message": _Items._message,
    "reasoning": _Items._reasoning,
    "function_call": _Items._function_call,
    "function_call_output": _Items._call_output,
    "custom_tool_call": _Items._custom_call,
    "custom_tool_call_output": _Items._call_output,
    "local_shell_call": _Items._local_shell_call,
    "local_shell_call_output": _Items._shell_output,
    "shell_call": _Items._shell_call,
    "shell_call_output": _Items._shell_output,
    "apply_patch_call": _Items._patch_call,
    "apply_patch_call_output": _Items._patch_output,
    "tool_search_call": _Items._search_call,
    "tool_search_output": _Items._search_output,
    "additional_tools": _Items._additional_tools,
    "code_interpreter_call": _Items._code_call,
    "image_generation_call": _Items._image_call,
    "mcp_call": _Items._mcp_call,
    "compaction": _Items._compaction,
    "configuration_update": _Items._configuration,
    TRIGGER: _Items._trigger,
}


# --- media -------------------------------------------------------------------------------------------------------


def _no_files(path: str, instead: str) -> InvalidRequest:
    return InvalidRequest(
        f"Unsupported parameter: '{path}.file_id' is not supported here: no files are stored. "
        f"Send the file as {instead}.",
        code="unsupported_parameter",
        param=path + ".file_id",
    )


def _image(part: JsonObject, path: str) -> Media:
    url, detail = part.get("image_url"), part.get("detail")
    if detail is not None:
        read.one_of(detail, path + ".detail", _DETAILS)
    if url is None:
        raise _no_files(path, "image_url") if part.get("file_id") is not None else read.missing(path + ".image_url")
    return read.media_from_url(read.string(url, path + ".image_url"), path + ".image_url", detail=detail)


def _file(part: JsonObject, path: str) -> Media:
    data, url = part.get("file_data"), part.get("file_url")
    if data is None and url is not None:
        return read.media_from_url(read.string(url, path + ".file_url"), path + ".file_url")
    if data is None:
        raise _no_files(path, "file_data") if part.get("file_id") is not None else read.missing(path + ".file_data")
    data = read.string(data, path + ".file_data")
    if data[:5].lower() == "data:":
        return read.media_from_url(data, path + ".file_data")
    name = (read.optional(part, "filename", read.string, path=path + ".") or "").lower()
    unknown = "application/octet-stream" if "." in name else "application/pdf"
    mime = next((mime for ending, mime in _FILE_TYPES.items() if name.endswith(ending)), unknown)
    return Media(mime_type=mime, data=read.checked_base64(data, path + ".file_data"))


def _audio(part: JsonObject, path: str) -> Media:
    audio = read.obj(read.required(part, "input_audio", path + "."), path + ".input_audio")
    where = path + ".input_audio."
    form = read.one_of(read.required(audio, "format", where), where + "format", _AUDIO_FORMATS)
    data = read.string(read.required(audio, "data", where), where + "data")
    return Media(mime_type=_AUDIO.get(form, f"audio/{form}"), data=read.checked_base64(data, where + "data"))
