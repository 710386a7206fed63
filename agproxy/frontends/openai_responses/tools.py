"""The tools of a request: what the model is told, and what each of its function names is called by the client.

Gemini knows flat functions only. A namespace is taken apart (`mcp__toy` and `echo` become `mcp__toy__echo`), a
built-in is emulated (`emulated`), and `FunctionTool.origin` keeps where the name came from, so that the answer can
say it as the client does. Tools arrive in three places: the body, `additional_tools` items, and the output of a tool
search; the last two may repeat what is known.
"""

import re
from typing import Any

from ...conversation import FunctionTool, Hosted, HostedTool, Mode, Notice, Tool, ToolChoice
from ...errors import InvalidRequest
from ...jsontext import JsonObject
from .. import _fields as read
from .._fields import Field, ignored, mapped
from .emulated import EMULATED

_MAX_NAME = 64
_ILLEGAL = re.compile(r"[^a-zA-Z0-9_-]")

_SEARCH_TYPES = ("web_search", "web_search_2025_08_26", "web_search_preview", "web_search_preview_2025_03_11")
# Kinds of tools: why one is refused, and those that are not. README shows both.
REFUSED = {
    "file_search": "Gemini cannot read OpenAI's vector stores",
    "mcp": "the gateway calls no MCP servers; let the client run them and offer their tools as functions",
    "computer": "Gemini has no such tool",
    "computer_use_preview": "Gemini has no such tool",
    "programmatic_tool_calling": "Gemini has no such tool",
}
SERVED = (
    "function",
    "custom",
    "namespace",
    "web_search",
    "code_interpreter",
    "image_generation",
    "local_shell",
    "shell",
    "apply_patch",
    "tool_search",
)

_FUNCTION_FIELDS: dict[str, Field] = {
    "type": mapped("the kind"),
    "name": mapped("functionDeclarations.name"),
    "description": mapped("functionDeclarations.description"),
    "parameters": mapped("functionDeclarations.parametersJsonSchema"),
    "strict": mapped("mode VALIDATED"),
    "format": mapped("custom tools: the grammar goes into the description"),
    "defer_loading": mapped("held back until a tool search of the client brings it"),
    "allowed_callers": ignored("the model calls every tool directly", ["direct"]),
    "output_schema": ignored("Gemini takes the result as it is"),
    "async": ignored("an answer waits for every result", False),
}
_SEARCH_FIELDS: dict[str, Field] = {
    "type": mapped("the kind"),
    "search_context_size": ignored("googleSearch has no such setting", "medium"),
    "external_web_access": ignored("googleSearch always reads the live index", True),
    "search_content_types": ignored("googleSearch has no such setting", ["text"]),
    "user_location": ignored("googleSearch has no such setting"),
    "filters": ignored("googleSearch has no such setting"),
    "return_token_budget": ignored("googleSearch has no such setting"),
    "image_settings": ignored("googleSearch has no such setting"),
}
_NO_SETTING = ignored("Gemini's images have no such setting", "auto")
_IMAGE_FIELDS: dict[str, Field] = {
    "type": mapped("the kind"),
    **dict.fromkeys(
        (
            "action",
            "background",
            "input_fidelity",
            "input_image_mask",
            "model",
            "moderation",
            "output_compression",
            "output_format",
            "quality",
            "size",
        ),
        _NO_SETTING,
    ),
    "partial_images": ignored("Gemini sends whole images only", 0),
}
_CODE_FIELDS: dict[str, Field] = {
    "type": mapped("the kind"),
    "container": ignored("Gemini runs code in a place of its own, without files", {"type": "auto"}),
}

_Key = tuple[str, str, str]  # kind ("function" for custom ones too), namespace, name


class Toolbox:
    """Collects the tools of a request. Names given out once never change, so history and tools agree."""

    def __init__(self, notices: list[Notice]) -> None:
        self._notices = notices
        self._flat: dict[_Key, str] = {}
        self._taken: set[str] = set()
        self._declared: dict[str, FunctionTool] = {}
        self._hosted: dict[Hosted, HostedTool] = {}
        self._deferred: dict[_Key, FunctionTool] = {}
        self._searches_on_client = False
        self.makes_images = False

    # --- names

    def _allot(self, key: _Key) -> str:
        """The function name of a tool, the same each time it is asked for."""
        flat = self._flat.get(key)
        if flat is not None:
            return flat
        _, namespace, name = key
        wanted = name if not namespace else _ILLEGAL.sub("_", f"{namespace}__{name}")[:_MAX_NAME]
        flat, count = wanted, 1
        while flat in self._taken:
            count += 1
            flat = f"{wanted[: _MAX_NAME - len(str(count)) - 1]}_{count}"
        self._flat[key] = flat
        self._taken.add(flat)
        return flat

    def name_of(self, name: str, namespace: str | None) -> str:
        """The function name of a call or choice in the client's words.

        Clients leave a namespace out, and OpenAI's tool search puts one where there was none (recorded in
        `openai_native_tool_search_gpt_5_6-1`), so a name that is known just once is enough.
        """
        exact = self._flat.get(("function", namespace or "", name))
        if exact is not None:
            return exact
        if namespace:
            plain = self._flat.get(("function", "", name))
            return plain if plain is not None else self._allot(("function", namespace, name))
        if (name, "", name) in self._flat and name in EMULATED:  # called by its name, as where its item did not fit
            return self._flat[(name, "", name)]
        known = [flat for (kind, _, bare), flat in self._flat.items() if kind == "function" and bare == name]
        return known[0] if len(known) == 1 else self._allot(("function", "", name))

    def emulated_name(self, kind: str) -> str:
        return self._allot((kind, "", kind))

    # --- declarations

    def declare_all(self, tools: list[Any], path: str, *, is_learnt: bool = False) -> None:
        """The tools of one list. is_learnt: they come from an item, so deferred ones count as loaded."""
        for tool in tools:  # plain names stay as they are, whatever a namespace before them flattens to
            if isinstance(tool, dict) and tool.get("type") == "function" and isinstance(tool.get("name"), str):
                self._allot(("function", "", tool["name"]))
        for index, value in enumerate(tools):
            here = f"{path}[{index}]"
            self._declare(read.obj(value, here), here, is_learnt=is_learnt)

    def _declare(self, tool: JsonObject, path: str, *, is_learnt: bool) -> None:
        kind = read.string(read.required(tool, "type", path + "."), path + ".type")
        if kind in ("function", "custom"):
            self._declare_function(tool, path, is_learnt=is_learnt)
        elif kind == "namespace":
            self._declare_namespace(tool, path, is_learnt=is_learnt)
        elif kind == "tool_search":
            self._declare_search(tool, path)
        elif kind in EMULATED:
            self._declare_emulated(kind, tool, path)
        elif kind in _SEARCH_TYPES:
            self._notices += read.check(tool, _SEARCH_FIELDS, path + ".")
            self._host(Hosted.WEB_SEARCH)
        elif kind == "code_interpreter":
            self._notices += read.check(tool, _CODE_FIELDS, path + ".")
            self._host(Hosted.CODE_EXECUTION)
        elif kind == "image_generation":
            self._notices += read.check(tool, _IMAGE_FIELDS, path + ".")
            self.makes_images = True
        elif kind in REFUSED:
            raise InvalidRequest(
                f"Invalid value for '{path}.type': '{kind}' is not supported here: {REFUSED[kind]}.",
                code="unsupported_value",
                param=path + ".type",
            )
        else:
            raise read.invalid_value(path + ".type", kind, SERVED)

    def _host(self, kind: Hosted) -> None:
        self._hosted[kind] = HostedTool(kind=kind)

    def _declare_namespace(self, tool: JsonObject, path: str, *, is_learnt: bool) -> None:
        name = _name(tool, path)
        about = read.optional(tool, "description", read.string, path=path + ".") or ""
        for index, value in enumerate(read.array(read.required(tool, "tools", path + "."), path + ".tools")):
            here = f"{path}.tools[{index}]"
            inner = read.obj(value, here)
            kind = read.required(inner, "type", here + ".")
            read.one_of(kind, here + ".type", ("function", "custom"))
            # What the namespace is for is told once, with its first tool: there is no better place for it.
            self._declare_function(inner, here, namespace=name, about="" if index else about, is_learnt=is_learnt)

    def _declare_function(
        self, tool: JsonObject, path: str, *, namespace: str = "", about: str = "", is_learnt: bool
    ) -> None:
        name = _name(tool, path)
        self._notices += read.check(tool, _FUNCTION_FIELDS, path + ".")
        description = read.optional(tool, "description", read.string, path=path + ".") or ""
        if about and about != description:
            description = f"{description}\n\n(One of the tools of {namespace}: {about})".strip()
        parameters, strict = tool.get("parameters"), tool.get("strict")
        is_freeform = tool["type"] == "custom"
        if is_freeform:
            description = _with_grammar(description, tool.get("format"), path + ".format")
        key: _Key = ("function", namespace, name)
        function = FunctionTool(
            name=self._allot(key),
            description=description or None,
            parameters=None if parameters is None or is_freeform else read.obj(parameters, path + ".parameters"),
            is_strict=None if strict is None else read.boolean(strict, path + ".strict"),
            is_freeform=is_freeform,
            origin=(tool["type"], name, namespace),
        )
        if tool.get("defer_loading") is True and not is_learnt:
            self._deferred[key] = function
        else:
            self._add(function, path, is_learnt=is_learnt)

    def _add(self, function: FunctionTool, path: str, *, is_learnt: bool) -> None:
        if function.name in self._declared and not is_learnt:
            self._notices.append(Notice(message=f"{path}: declared twice, the last declaration counts"))
        self._declared[function.name] = function

    def _declare_search(self, tool: JsonObject, path: str) -> None:
        """Run by the client it is a function; run by OpenAI's server there is nothing left to find here."""
        execution = read.one_of(tool.get("execution") or "server", path + ".execution", ("server", "client"))
        if execution == "server":
            self._notices.append(Notice(message=f"{path}: ignored (deferred tools are declared at once instead)"))
            return
        self._searches_on_client = True
        self._declare_emulated("tool_search", tool, path)

    def _declare_emulated(self, kind: str, tool: JsonObject, path: str) -> None:
        environment = tool.get("environment")
        if kind == "shell" and environment is not None:
            where = path + ".environment"
            place = read.required(read.obj(environment, where), "type", where + ".")
            if place != "local":
                raise InvalidRequest(
                    f"Invalid value for '{where}.type': '{str(place)[:64]}' is not supported here: there are no "
                    "containers. Supported value is: 'local'.",
                    code="unsupported_value",
                    param=where + ".type",
                )
        emulation = EMULATED[kind]
        description = tool.get("description") if kind == "tool_search" else None
        parameters = tool.get("parameters") if kind == "tool_search" else None
        function = FunctionTool(
            name=self.emulated_name(kind),
            description=read.string(description or emulation.description, path + ".description"),
            parameters=read.obj(parameters or emulation.parameters, path + ".parameters"),
            origin=(kind, kind, ""),
        )
        self._add(function, path, is_learnt=False)

    def learn(self, tools: list[Any], path: str) -> list[str]:
        """Tools that an item brings; the names that they are declared under."""
        before = dict(self._declared)
        self.declare_all(tools, path, is_learnt=True)
        return [name for name, tool in self._declared.items() if before.get(name) is not tool]

    # --- what comes of it

    def tools(self) -> tuple[Tool, ...]:
        """All tools. Deferred ones are left out only where the client runs the search that finds them."""
        declared = dict(self._declared)
        if not self._searches_on_client:
            for function in self._deferred.values():
                declared.setdefault(function.name, function)
        return (*declared.values(), *self._hosted.values())


def _name(tool: JsonObject, path: str) -> str:
    name = read.string(read.required(tool, "name", path + "."), path + ".name")
    if not name:
        raise InvalidRequest(
            f"Invalid '{path}.name': empty string. Expected a string with minimum length 1, "
            "but got an empty string instead.",
            code="empty_string",
            param=path + ".name",
        )
    return name


def _with_grammar(description: str, value: Any, path: str) -> str:
    """The description of a freeform tool; a grammar is told to the model, since nothing upstream enforces one."""
    if value is None:
        return description
    form = read.obj(value, path)
    if read.one_of(read.required(form, "type", path + "."), path + ".type", ("text", "grammar")) == "text":
        return description
    syntax = read.one_of(read.required(form, "syntax", path + "."), path + ".syntax", ("lark", "regex"))
    definition = read.string(read.required(form, "definition", path + "."), path + ".definition")
    return f"{description}\n\nThe input must follow this {syntax} grammar:\n{definition}".strip()


# --- tool_choice -------------------------------------------------------------------------------------------------

_MODES = {"none": Mode.NONE, "auto": Mode.AUTO, "required": Mode.REQUIRED}
_HOSTED_CHOICES = {
    **dict.fromkeys(_SEARCH_TYPES, Hosted.WEB_SEARCH),
    "code_interpreter": Hosted.CODE_EXECUTION,
    "image_generation": None,
}


def decode_tool_choice(
    body: JsonObject, box: Toolbox, tools: tuple[Tool, ...], notices: list[Notice]
) -> tuple[ToolChoice | None, tuple[Tool, ...]]:
    """The choice, and the tools that it leaves: `allowed_tools` is a hard limit for hosted ones too."""
    value, path = body.get("tool_choice"), "tool_choice"
    if value is None:
        return None, tools
    if isinstance(value, str):
        mode = _MODES[read.one_of(value, path, tuple(_MODES))]
        if mode is Mode.REQUIRED and not tools and not box.makes_images:
            raise InvalidRequest(
                "Tool choice 'required' must be specified with 'tools' parameter.", code="invalid_value", param=path
            )
        return ToolChoice(mode=mode), tools
    choice = read.obj(value, path)
    kind = read.string(read.required(choice, "type", path + "."), path + ".type")
    if kind == "allowed_tools":
        return _allowed(choice, box, tools)
    if kind in _HOSTED_CHOICES:
        notices.append(Notice(param=path, message=f"{path}: ignored (Gemini cannot be made to use its own tools)"))
        return None, tools
    flat = _chosen(choice, kind, path, box, tools)
    return ToolChoice(mode=Mode.REQUIRED, names=(flat,)), tools


def _chosen(choice: JsonObject, kind: str, path: str, box: Toolbox, tools: tuple[Tool, ...]) -> str:
    """The function name that one choice means. Raises InvalidRequest where no such tool is declared."""
    if kind in ("function", "custom"):
        name = read.string(read.required(choice, "name", path + "."), path + ".name")
        namespace = choice.get("namespace")
        flat = box.name_of(name, None if namespace is None else read.string(namespace, path + ".namespace"))
    elif kind in EMULATED:
        name = kind
        flat = box.emulated_name(kind)
    else:
        raise read.invalid_value(
            path + ".type", kind, ("function", "custom", "allowed_tools", *EMULATED, *_SEARCH_TYPES)
        )
    if not any(isinstance(tool, FunctionTool) and tool.name == flat for tool in tools):
        raise InvalidRequest(f"Tool choice '{name[:64]}' not found in 'tools' parameter.", param=path)
    return flat


def _allowed(choice: JsonObject, box: Toolbox, tools: tuple[Tool, ...]) -> tuple[ToolChoice, tuple[Tool, ...]]:
    mode = _MODES[read.one_of(choice.get("mode"), "tool_choice.mode", ("auto", "required"))]
    names: list[str] = []
    hosted: set[Hosted | None] = set()
    for index, value in enumerate(read.array(choice.get("tools"), "tool_choice.tools", least=1)):
        path = f"tool_choice.tools[{index}]"
        entry = read.obj(value, path)
        kind = read.string(read.required(entry, "type", path + "."), path + ".type")
        if kind in _HOSTED_CHOICES:
            hosted.add(_HOSTED_CHOICES[kind])
        elif kind == "namespace":
            namespace = _name(entry, path)
            names += [tool.name for tool in tools if isinstance(tool, FunctionTool) and tool.origin[2:] == (namespace,)]
        else:
            names.append(_chosen(entry, kind, path, box, tools))
    if None not in hosted:
        box.makes_images = False
    kept = tuple(tool for tool in tools if isinstance(tool, FunctionTool) or tool.kind in hosted)
    if not names:
        # Hosted tools only: no function may be called, so none stays declared as callable.
        return ToolChoice(mode=Mode.NONE if any(isinstance(t, FunctionTool) for t in kept) else Mode.AUTO), kept
    return ToolChoice(mode=mode, names=tuple(dict.fromkeys(names))), kept
