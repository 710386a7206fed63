"""Reading client JSON: every value is checked, and what is wrong is told with its path, in OpenAI's own wording.

`Field` rows say what becomes of each field of a request body; `check` turns what has no effect into notices, so
that nothing is dropped silently. Wording and codes follow the live API's answers to wrong requests.
"""

import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ..conversation import Media, Notice
from ..errors import InvalidRequest
from ..jsontext import JsonObject


class Verdict(Enum):
    MAPPED = "mapped"
    IGNORED = "ignored"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Field:
    """reason: where it goes, or why it has no effect. quiet: values that change nothing and need no notice."""

    verdict: Verdict
    reason: str
    quiet: tuple[Any, ...] = ()


def mapped(reason: str) -> Field:
    return Field(Verdict.MAPPED, reason)


def ignored(reason: str, *quiet: Any) -> Field:
    return Field(Verdict.IGNORED, reason, quiet)


def refused(reason: str, *quiet: Any) -> Field:
    return Field(Verdict.REFUSED, reason, quiet)


def check(body: Mapping[str, Any], table: Mapping[str, Field], path: str = "") -> tuple[Notice, ...]:
    """Notices for the fields of `body` that have no effect. Raises InvalidRequest for a refused one."""
    notices = []
    for name, value in body.items():
        field = table.get(name)
        if field is None:
            if value is not None:
                notices.append(Notice(param=path + name, message=f"{path}{name[:64]}: unknown field, ignored"))
        elif field.verdict is Verdict.MAPPED or value is None or value in field.quiet:
            continue
        elif field.verdict is Verdict.IGNORED:
            notices.append(Notice(param=path + name, message=f"{path}{name}: ignored ({field.reason})"))
        else:
            raise InvalidRequest(
                f"Unsupported parameter: '{path}{name}' is not supported here: {field.reason}.",
                code="unsupported_parameter",
                param=path + name,
            )
    return tuple(notices)


_TYPE_NAMES = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}


def _name_of(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return "an integer"
    if isinstance(value, float):
        return "a decimal"
    return _TYPE_NAMES.get(type(value), "another type")


def wrong_type(path: str, expected: str, value: Any) -> InvalidRequest:
    return InvalidRequest(
        f"Invalid type for '{path}': expected {expected}, but got {_name_of(value)} instead.",
        code="invalid_type",
        param=path,
    )


def missing(path: str) -> InvalidRequest:
    return InvalidRequest(f"Missing required parameter: '{path}'.", code="missing_required_parameter", param=path)


def invalid_value(path: str, value: Any, supported: tuple[str, ...]) -> InvalidRequest:
    names = [f"'{name}'" for name in supported]
    listed = names[0] if len(names) == 1 else ", ".join(names[:-1]) + f", and {names[-1]}"
    shown = value if isinstance(value, str) and len(value) <= 64 else _name_of(value)
    return InvalidRequest(
        f"Invalid value: '{shown}'. Supported values are: {listed}.", code="invalid_value", param=path
    )


def obj(value: Any, path: str) -> JsonObject:
    if not isinstance(value, dict):
        raise wrong_type(path, "an object", value)
    return value


def array(value: Any, path: str, *, least: int = 0, most: int | None = None) -> list[Any]:
    if not isinstance(value, list):
        raise wrong_type(path, "an array", value)
    if len(value) < least:
        raise InvalidRequest(
            f"Invalid '{path}': empty array. Expected an array with minimum length {least}, "
            "but got an empty array instead.",
            code="empty_array",
            param=path,
        )
    if most is not None and len(value) > most:
        raise InvalidRequest(
            f"Invalid '{path}': array too long. Expected an array with maximum length {most}, "
            f"but got an array with length {len(value)} instead.",
            code="array_above_max_length",
            param=path,
        )
    return value


def string(value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise wrong_type(path, "a string", value)
    return value


def boolean(value: Any, path: str) -> bool:
    if not isinstance(value, bool):
        raise wrong_type(path, "a boolean", value)
    return value


def _number_text(value: float) -> str:
    """A number as OpenAI shows it in messages; one that no reader wants to see whole is told in words."""
    return f"{value:g}" if abs(value) < 1e18 else "a number of many digits"


def _bounded(value: float, path: str, least: float | None, most: float | None, kind: str) -> None:
    for bound, is_over, word in ((least, False, "below minimum"), (most, True, "above maximum")):
        if bound is not None and (value > bound if is_over else value < bound):
            sign = "<=" if is_over else ">="
            raise InvalidRequest(
                f"Invalid '{path}': {kind} {word} value. Expected a value {sign} {bound:g}, "
                f"but got {_number_text(value)} instead.",
                code=f"{kind}_{word[:9].replace(' ', '_')}_value",  # live: decimal_below_min_value
                param=path,
            )


def integer(value: Any, path: str, least: int | None = None, most: int | None = None) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # JavaScript clients may write 5 as 5.0
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong_type(path, "an integer", value)
    _bounded(value, path, least, most, "integer")
    return value


def number(value: Any, path: str, least: float | None = None, most: float | None = None) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong_type(path, "a decimal", value)
    _bounded(value, path, least, most, "decimal")
    return value


def one_of(value: Any, path: str, supported: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in supported:
        raise invalid_value(path, value, supported)
    return value


def required(body: Mapping[str, Any], name: str, path: str) -> Any:
    """A field that must be there; `path` is that of `body`, with its dot, or empty."""
    value = body.get(name)
    if value is None:
        raise missing(path + name)
    return value


def optional(body: Mapping[str, Any], name: str, reader: Any, *args: Any, path: str = "") -> Any:
    """What `reader` makes of a field; None where it is absent or null. `path` as `required` has it."""
    value = body.get(name)
    return None if value is None else reader(value, path + name, *args)


# --- media -----------------------------------------------------------------------------------------------------

_DATA_URL = re.compile(r"data:([^,;]*)((?:;[^,;]*)*?)(;base64)?,", re.IGNORECASE)
_MIME_FIXES = {"image/jpg": "image/jpeg", "audio/mp3": "audio/mpeg", "audio/x-wav": "audio/wav"}


def checked_base64(data: str, path: str) -> str:
    """Base64 that decodes; white space is taken out. Raises InvalidRequest naming the path, never the data."""
    compact = "".join(data.split()) if any(c in data for c in "\n\r\t ") else data
    try:
        binascii.a2b_base64(compact, strict_mode=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest(
            f"Invalid '{path}': the data is not valid base64.", code="invalid_base64", param=path
        ) from None
    if not compact:
        raise InvalidRequest(f"Invalid '{path}': the data is empty.", code="invalid_base64", param=path)
    return compact


def media_from_url(url: str, path: str, *, detail: str | None = None) -> Media:
    """A data URL as Media with its bytes, or an http(s) or gs URL as Media to fetch. Never a local path."""
    if url[:5].lower() == "data:":
        match = _DATA_URL.match(url)
        if match is None or not match[3]:
            raise InvalidRequest(
                f"Invalid '{path}': a data URL must be of the form data:<type>;base64,<data>.",
                code="invalid_value",
                param=path,
            )
        mime = match[1].lower() or "application/octet-stream"
        data = checked_base64(url[match.end() :], path)
        return Media(mime_type=_MIME_FIXES.get(mime, mime), data=data, detail=detail)
    scheme = url.partition(":")[0].lower()
    if scheme not in ("http", "https", "gs"):
        raise InvalidRequest(
            f"Invalid '{path}': expected an http(s) URL or a data URL.", code="invalid_image_url", param=path
        )
    return Media(mime_type=None, uri=url, detail=detail, param=path)
