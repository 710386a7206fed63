"""Reads streams of Chat Completions and of legacy Completions as strictly as their clients do."""

import json
from typing import Any


def check(body: bytes) -> list[dict[str, Any]]:
    """The chunks of a stream that is what openai's, Vercel's and LangChain's clients want, each of which some gateway
    got wrong; the last one is an error if it failed."""
    blocks = body.decode().split("\n\n")
    assert blocks.pop() == ""
    assert all(block.startswith("data: ") and "\n" not in block for block in blocks)
    chunks = [json.loads(block[6:]) for block in blocks if block != "data: [DONE]"]
    errors = [chunk for chunk in chunks if "error" in chunk]
    if errors:
        assert errors == chunks[-1:]
        assert isinstance(errors[0]["error"]["message"], str)
        assert "data: [DONE]" not in blocks
        chunks = chunks[:-1]
    else:
        assert blocks[-1] == "data: [DONE]"
        assert blocks.count("data: [DONE]") == 1
    finished, calls, roles = set(), {}, set()
    for chunk in chunks:
        assert chunk["object"] == "chat.completion.chunk"
        assert len({c["id"] for c in chunks}) == 1
        for choice in chunk["choices"]:
            index, delta = choice["index"], choice["delta"]
            assert index not in finished
            assert (index in roles) is ("role" not in delta)
            roles.add(index)
            for call in delta.get("tool_calls", ()):
                known = calls.setdefault(index, [])
                if call["index"] == len(known):
                    assert 0 < len(call["id"]) <= 40
                    assert call["id"] not in known
                    assert (call.get("function") or call["custom"])["name"]
                    known.append(call["id"])
                else:
                    assert call["index"] == len(known) - 1
                    assert "id" not in call
                    assert "name" not in call["function"]
                said = call["function"]["arguments"] if "function" in call else call["custom"]["input"]
                assert isinstance(said, str)
            if choice["finish_reason"] is not None:
                finished.add(index)
    if not errors:
        assert finished == roles
    return [*chunks, *errors]


def check_completions(body: bytes) -> list[dict[str, Any]]:
    """The same for legacy Completions."""
    blocks = body.decode().split("\n\n")
    assert blocks.pop() == ""
    assert all(block.startswith("data: ") and "\n" not in block for block in blocks)
    chunks = [json.loads(block[6:]) for block in blocks if block != "data: [DONE]"]
    has_failed = bool(chunks) and "error" in chunks[-1]
    assert has_failed is (blocks.count("data: [DONE]") == 0)
    assert has_failed or blocks[-1] == "data: [DONE]"
    finished, seen = set(), set()
    for chunk in chunks[:-1] if has_failed else chunks:
        assert chunk["object"] == "text_completion"
        assert chunk["id"] == chunks[0]["id"]
        for choice in chunk["choices"]:
            assert isinstance(choice["text"], str)
            assert choice["index"] not in finished
            seen.add(choice["index"])
            if choice["finish_reason"] is not None:
                finished.add(choice["index"])
    assert has_failed or finished == seen
    return chunks


def join(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The choices that a stream's chunks add up to, as a client adds them; of Chat and of legacy Completions."""
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        for piece in chunk["choices"]:
            choice = choices.setdefault(piece["index"], {"index": piece["index"], "said": {}})
            _add(choice["said"], piece.get("delta") or {"text": piece.get("text")})
            for key in ("finish_reason", "logprobs"):
                choice[key] = piece[key] if piece[key] is not None else choice.get(key)
    return [choices[index] for index in sorted(choices)]


def _add(said: dict[str, Any], delta: dict[str, Any]) -> None:
    for key, value in delta.items():
        if key == "tool_calls":
            calls = said.setdefault(key, [])
            for piece in value:
                index = piece["index"]
                if index == len(calls):
                    calls.append({})
                _add(calls[index], {name: inner for name, inner in piece.items() if name != "index"})
        elif isinstance(value, dict):
            _add(said.setdefault(key, {}), value)
        elif isinstance(value, list):
            said[key] = said.get(key, []) + value
        elif isinstance(value, str) and isinstance(said.get(key), str):
            said[key] += value
        elif value is not None or key not in said:
            said[key] = value


def whole(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """The choices of a unary answer in the form that `join` gives, without what no delta says."""
    found = []
    for choice in answer["choices"]:
        said = dict(choice["message"]) if "message" in choice else {"text": choice["text"]}
        found.append({"index": choice["index"], "said": said} | {k: choice[k] for k in ("finish_reason", "logprobs")})
    return found


def plain(choices: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Choices without what is said by leaving it out in one form and by emptiness in the other."""
    return [
        choice | {"said": {k: v for k, v in choice["said"].items() if k != "role" and v not in (None, "", [])}}
        for choice in choices
    ]
