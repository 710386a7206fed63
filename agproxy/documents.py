"""The shape of the home folder's files: {"version": 1, NAME: [...]}, and what a later version adds. Pure.

`accounts` and `keys` read what stands in the rows.
"""

from typing import Any, TypeGuard

from . import jsontext
from .jsontext import JsonObject


class BadDocument(ValueError):
    """The text is no such document. The message says the path first and never quotes a value."""


class NewerDocument(ValueError):
    """The document was written by an agproxy that knows more than this one."""


def is_whole(value: Any) -> TypeGuard[int]:
    """Whether it is a whole number, which true and false are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def read(data: bytes, name: str, known: int) -> tuple[list[Any], JsonObject]:
    """The rows under a name, and what else the document holds beside them and its version. known: the newest version
    that can be read. Raises BadDocument or NewerDocument."""
    try:
        value = jsontext.loads(data)
    except ValueError as error:
        raise BadDocument(f"not JSON: {error}" if data.strip() else "it is empty") from None
    if not isinstance(value, dict):
        raise BadDocument("a JSON object was expected")
    version = value.get("version")
    if not is_whole(version) or version < 1:
        raise BadDocument("version: a whole number from 1 on was expected")
    if version > known:
        raise NewerDocument(f"it has version {version}, and this agproxy knows {known}: update agproxy")
    rows = value.get(name)
    if not isinstance(rows, list):
        raise BadDocument(f"{name}: a list was expected")
    return rows, {key: inner for key, inner in value.items() if key not in ("version", name)}
