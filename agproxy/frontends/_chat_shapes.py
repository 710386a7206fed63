"""What Chat Completions and legacy Completions share: finish words, stop sequences, what a part shows as text."""

import re
from dataclasses import replace
from typing import Any, assert_never

from ..conversation import (
    Citation,
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
from ..errors import InvalidRequest
from ..jsontext import JsonObject
from . import _fields as read
from ._fields import ignored, mapped

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


# What `visible_text` writes for media with data, so that it can be read back out of a client's history.
_WRITTEN_MEDIA = re.compile(
    r"(?:!\[image\]\(data:(image/[\w.+-]+)|\[([\w.+-]+/[\w.+-]+)\]\(data:\2);base64,([A-Za-z0-9+/]+={0,2})\)"
)


def split_media(text: str) -> list[Text | Media]:
    """An assistant's text with the data URIs that we wrote turned back into media, each in its place."""
    if "](data:" not in text:
        return [Text(text=text)]
    parts: list[Text | Media] = []
    end = 0
    for match in _WRITTEN_MEDIA.finditer(text):
        if match.start() > end:
            parts.append(Text(text=text[end : match.start()]))
        parts.append(Media(mime_type=match[1] or match[2], data=match[3]))
        end = match.end()
    if end < len(text):
        parts.append(Text(text=text[end:]))
    return parts


def shift(citations: tuple[Citation, ...], inserts: list[tuple[int, int]]) -> tuple[Citation, ...]:
    """Citations moved by what stands in `content` besides text. inserts: (offset in the text, length) of each."""
    if not inserts:
        return citations

    def moved(offset: int, *, is_end: bool) -> int:
        return offset + sum(length for at, length in inserts if (at < offset if is_end else at <= offset))

    return tuple(
        replace(item, start=moved(item.start, is_end=False), end=moved(item.end, is_end=True)) for item in citations
    )


def decode_stop(value: Any, path: str, notices: list[Notice]) -> tuple[str, ...]:
    """Stop sequences of the OpenAI protocols: a string or a list (OpenAI takes 4, Gemini 5)."""
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


_STREAM_OPTIONS = {
    "include_usage": mapped("the last chunk"),
    "include_obfuscation": ignored("frames are not padded", False),
}


def check_stream_options(body: JsonObject, is_stream: bool) -> list[Notice]:
    """Notices for the options of a stream. Raises InvalidRequest where they are wrong, or there is no stream."""
    options = body.get("stream_options")
    if options is None:
        return []
    if not is_stream:
        raise InvalidRequest(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.", param="stream_options"
        )
    options = read.obj(options, "stream_options")
    if options.get("include_usage") is not None:
        read.boolean(options["include_usage"], "stream_options.include_usage")
    return list(read.check(options, _STREAM_OPTIONS, "stream_options."))
