"""Recorded traffic of the real vendors, read where it is. It is no part of the project: tests skip without it."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(os.environ.get("AGPROXY_RECORDED") or Path(__file__).resolve().parents[2] / "shared" / "recorded")


@dataclass(frozen=True)
class UpstreamAnswer:
    """One recorded Gemini answer: its parsed chunks (one for a unary answer), and its bytes if it is a stream."""

    name: str
    folder: str
    status: int
    chunks: tuple[Any, ...]
    stream: bytes | None
    model: str = "gemini-2.5-flash"


def need_recorded() -> None:
    if not FOLDER.is_dir():
        pytest.skip(f"no recorded traffic at {FOLDER}: set AGPROXY_RECORDED", allow_module_level=True)


def exchanges(folder: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for file in sorted((FOLDER / "exchanges" / folder).glob("*.json")):
        yield file.stem, json.loads(file.read_bytes())


def _of_stream(text: str) -> tuple[Any, ...]:
    """The chunks of a stream, by a reading that shares nothing with the code under test."""
    stripped = text.strip()
    if stripped.startswith("["):
        return tuple(json.loads(stripped))
    chunks = []
    for block in text.replace("\r\n", "\n").split("\n\n"):
        lines = block.strip("\n").split("\n")
        data = "\n".join(line[5:].removeprefix(" ") for line in lines if line.startswith("data:"))
        if data.strip():
            chunks.append(json.loads(data))
        elif block.strip():
            chunks.append(json.loads(block))  # an error that is no event
    return tuple(chunks)


def upstream_answers() -> Iterator[UpstreamAnswer]:
    """Every recorded answer of generateContent and streamGenerateContent, Gemini API and Vertex."""
    for folder in ("gemini", "vertex"):
        for name, exchange in exchanges(folder):
            if "enerateContent" not in exchange["path"]:
                continue
            model = exchange["path"].split("/models/")[-1].split(":")[0]
            response, is_stream = exchange["response"], "stream" in exchange["path"]
            if is_stream and isinstance(response, str):
                yield UpstreamAnswer(
                    name, f"exchanges/{folder}", exchange["status"], _of_stream(response), _as_sse(response), model
                )
            else:
                chunks = tuple(response) if isinstance(response, list) else (response,)
                yield UpstreamAnswer(name, f"exchanges/{folder}", exchange["status"], chunks, None, model)
    for file in sorted((FOLDER / "googleai").glob("*")):
        text = file.read_text("utf-8")
        if file.name.startswith("streaming"):
            yield UpstreamAnswer(file.name, "googleai", 200, _of_stream(text), text.encode())
        elif file.suffix == ".json":
            value = json.loads(text)
            is_error = isinstance(value, dict) and "error" in value
            yield UpstreamAnswer(file.name, "googleai", value["error"]["code"] if is_error else 200, (value,), None)
    for file in sorted((FOLDER / "ai-sdk" / "google").glob("*")):
        if "embedding" in file.name:
            continue
        if file.name.endswith(".chunks.txt"):
            lines = [line for line in file.read_text("utf-8").splitlines() if line.strip()]
            stream = "".join(f"data: {line}\r\n\r\n" for line in lines).encode()
            yield UpstreamAnswer(file.name, "ai-sdk/google", 200, tuple(map(json.loads, lines)), stream)
        else:
            value = json.loads(file.read_bytes())
            status = value["error"]["code"] if "error" in value else 200
            yield UpstreamAnswer(file.name, "ai-sdk/google", status, (value,), None)


def _as_sse(text: str) -> bytes:
    """A stream as alt=sse would have sent it; those recorded as one JSON array are rewritten."""
    if text.lstrip().startswith("["):
        return b"".join(b"data: " + json.dumps(chunk).encode() + b"\r\n\r\n" for chunk in json.loads(text))
    return text.encode()
