"""Recorded answers from a folder, served in place of made-up ones.

Reads what the project's captures are kept as: `NAME.json` a whole answer, an error or an array of chunks; `NAME.txt`
an event stream as captured (or one of the former); `NAME.chunks.txt` one chunk's JSON a line; and exchange files,
JSON objects with `response` and perhaps `status` and `content_type`. A whole answer that is asked for as a stream
becomes its one chunk; a stream that is asked for whole has its parts joined.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import jsontext
from ..errors import ConfigError
from ..jsontext import JsonObject
from .status import pretty


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One recorded answer: its chunks (one for a whole answer), or `raw` bytes that are served whatever was asked.

    name: the file's. events: the stream's bytes as captured. error: the bare JSON error that broke into the stream.
    """

    name: str
    chunks: tuple[JsonObject, ...] = ()
    events: bytes | None = None
    error: JsonObject | None = None
    status: int = 200
    raw: bytes | None = None
    content_type: str = "application/json; charset=UTF-8"

    @property
    def is_raw(self) -> bool:
        """An error, or bytes that are no answer of the API."""
        return self.raw is not None


def load(folder: Path) -> tuple[Recorded, ...]:
    """The recorded answers of a folder, sorted by file name. Raises ConfigError where there are none."""
    if not folder.is_dir():
        raise ConfigError(f"replay: {folder} is not a folder")
    files = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".txt") and path.is_file())
    if not files:
        raise ConfigError(f"replay: {folder} holds no .json or .txt file")
    return tuple(_read(path.name, path.read_bytes()) for path in files)


def find(recorded: Sequence[Recorded], name: str) -> Recorded | None:
    """The answer of a file by its name, with or without the ending; of several, the first."""
    return next((one for one in recorded if name in (one.name, _stem(one.name))), None)


def _stem(file_name: str) -> str:
    return file_name.removesuffix(".json").removesuffix(".txt").removesuffix(".chunks")


def _read(name: str, data: bytes) -> Recorded:
    if name.endswith(".chunks.txt"):
        lines = [line for line in data.splitlines() if line.strip()]
        return Recorded(name=name, chunks=tuple(_object(jsontext.loads(line), name) for line in lines))
    try:
        value = jsontext.loads(data)
    except ValueError:
        return _from_text(name, data)
    if isinstance(value, dict) and "response" in value and "candidates" not in value:
        return _from_exchange(name, value)
    return _from_value(name, value, 200, data)


def _from_exchange(name: str, exchange: JsonObject) -> Recorded:
    response = exchange["response"]
    status = exchange.get("status", 200)
    status = status if isinstance(status, int) else 200
    if isinstance(response, str):
        if status != 200:
            return Recorded(name=name, status=status, raw=response.encode())
        return _from_text(name, response.encode())
    return _from_value(name, response, status, pretty(response))


def _from_value(name: str, value: Any, status: int, data: bytes) -> Recorded:
    error = _error(value[-1] if isinstance(value, list) and value else value)
    if error is None and status == 200:
        chunks = value if isinstance(value, list) else [value]
        return Recorded(name=name, chunks=tuple(_object(chunk, name) for chunk in chunks))
    if isinstance(value, list) and len(value) > 1 and error is not None:
        return Recorded(name=name, chunks=tuple(_object(chunk, name) for chunk in value[:-1]), error=error)
    code = error["error"].get("code") if error is not None else None
    if status == 200 and isinstance(code, int) and 400 <= code <= 599:
        status = code
    return Recorded(name=name, status=status, raw=data)


def _error(value: Any) -> JsonObject | None:
    """The value if it is an error body."""
    return value if isinstance(value, dict) and isinstance(value.get("error"), dict) else None


def _from_text(name: str, data: bytes) -> Recorded:
    """An event stream, or bytes that are no answer of the API, such as a page in HTML."""
    if b"data:" not in data[:200]:
        is_html = data.lstrip().startswith(b"<")
        kind = "text/html; charset=UTF-8" if is_html else "text/plain; charset=UTF-8"
        return Recorded(name=name, status=404 if is_html else 200, raw=data, content_type=kind)
    chunks: list[JsonObject] = []
    stray: list[bytes] = []
    for line in data.splitlines():
        if not line.startswith(b"data:"):
            stray.append(line)
            continue
        try:
            value = jsontext.loads(line[5:])
        except ValueError:
            continue  # the line is still in `events`, so a stream shows it as it was
        if isinstance(value, dict):
            chunks.append(value)
    try:
        error = _error(jsontext.loads(b"\n".join(stray)))
    except ValueError:
        error = None
    return Recorded(name=name, chunks=tuple(chunks), events=data, error=error)


def _object(value: Any, file_name: str) -> JsonObject:
    if not isinstance(value, dict):
        raise ConfigError(f"replay: {file_name} holds something that is not a chunk of an answer")
    return value


def frames(events: bytes) -> list[bytes]:
    """The captured bytes cut after each blank line, so that they can be sent one event at a time."""
    cut: list[bytes] = []
    pending = b""
    for line in events.splitlines(keepends=True):
        pending += line
        if not line.strip():
            cut.append(pending)
            pending = b""
    return [*cut, pending] if pending else cut


def merged(chunks: Iterable[JsonObject]) -> JsonObject:
    """One whole answer out of a stream's chunks: parts joined, for everything else the last word."""
    whole: JsonObject = {}
    candidates: dict[int, JsonObject] = {}
    for chunk in chunks:
        whole |= {key: value for key, value in chunk.items() if key != "candidates"}
        for candidate in chunk.get("candidates", ()):
            _join(candidates.setdefault(candidate.get("index", 0), {}), candidate)
    if candidates:
        whole = {"candidates": [candidates[index] for index in sorted(candidates)]} | whole
    return whole


def _continues(before: JsonObject, part: JsonObject) -> bool:
    """Whether a part is more of the text before it: no signature may come to stand over text that it did not sign."""
    return (
        "text" in before
        and "text" in part
        and set(before) <= {"text", "thought"}
        and before.get("thought") == part.get("thought")
        and ("thoughtSignature" not in part or not part["text"])
    )


def _join(whole: JsonObject, piece: JsonObject) -> None:
    parts = whole.get("content", {}).get("parts", [])
    for part in piece.get("content", {}).get("parts", ()):
        before = parts[-1] if parts else {}
        if _continues(before, part):
            parts[-1] = before | part | {"text": before["text"] + part["text"]}
        else:
            parts.append(dict(part))
    whole |= piece
    if parts:
        whole["content"] = {"parts": parts, "role": "model"}
