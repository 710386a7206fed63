"""What Chat Completions and legacy Completions share: finish words, stop sequences, what a part shows as text."""

from typing import Any, assert_never

from ..conversation import (
    Code,
    CodeOutput,
    Finish,
    Media,
    Notice,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
)
from . import _fields as read

FINISH = {
    Finish.STOP: "stop",
    Finish.TOOL_CALLS: "tool_calls",
    Finish.LENGTH: "length",
    Finish.FILTERED: "content_filter",
}


def visible_text(part: Part) -> str:
    """What a part shows in `content`: text as it is, code and its output fenced, an image as Markdown."""
    match part:
        case Text(text=text):
            return text
        case Code(code=code, language=language):
            return f"\n```{language}\n{code.rstrip()}\n```\n"
        case CodeOutput(output=output):
            return f"\n```\n{output.rstrip()}\n```\n"
        case Media(mime_type=mime, data=data, uri=uri):
            target = uri if data is None else f"data:{mime};base64,{data}"
            return f"![image]({target})" if (mime or "").startswith("image/") else f"[{mime}]({target})"
        case Reasoning() | ToolCall() | ToolResult():
            return ""
        case _:
            assert_never(part)


def decode_stop(value: Any, path: str, notices: list[Notice]) -> tuple[str, ...]:
    """Stop sequences of the OpenAI protocols: a string or a list of at most 4 (Gemini takes 5)."""
    if value is None:
        return ()
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list):
        raise read.wrong_type(path, "one of a string or array of strings", value)
    stops = [read.string(item, f"{path}[{index}]") for index, item in enumerate(value)]
    kept = [stop for stop in stops if stop]
    if len(kept) > 5:
        notices.append(Notice(param=path, message=f"{path}: only the first 5 are used, Gemini takes no more"))
    return tuple(kept[:5])
