"""Golden cases: a client's request, what goes upstream for it, what upstream answers, what the client then gets.

    tests/golden/<frontend>/<case>/
        1-client-request.json      the body; its path is the frontend's
        2-upstream-request.json    {"url", "body"} of each upstream call, in order
        3-upstream-response.json   or .sse: the answer; a list of {"status", "body"} where there are several
        4-client-response.json     or .sse: {"status", "headers", "body"} or the stream as it goes out
        about.md                   the quirk, and the capture or document that shows it

`pytest --update-golden` rewrites files 2 and 4; reading that diff is the review. Streams are tried whole, byte by byte
and in seeded splits.
"""

import json
import random
from pathlib import Path

import pytest
from fakes import FakeUpstream, Scripted, ask, make_gateway

from agproxy.config import BY_NAME, Config, parse

FOLDER = Path(__file__).parent / "golden"
CASES = sorted(path.parent for path in FOLDER.glob("*/*/1-client-request.json"))
PATHS = {
    "openai_chat": "/v1/chat/completions",
    "openai_completions": "/v1/completions",
    "openai_responses": "/v1/responses",
}
# The headers of an answer that a case holds; the others are the same everywhere.
HEADERS = ("x-mapped-model", "x-agproxy-warnings", "retry-after", "x-should-retry")


def script_of(case: Path, split) -> list[Scripted]:
    stream = case / "3-upstream-response.sse"
    if stream.exists():
        return [Scripted(pieces=split(stream.read_bytes()), headers=(("content-type", "text/event-stream"),))]
    value = json.loads((case / "3-upstream-response.json").read_bytes())
    if isinstance(value, list):
        return [Scripted.of(answer["body"], answer["status"]) for answer in value]
    return [Scripted.of(value)]


def settings_of(case: Path) -> Config:
    """Settings other than the defaults stand in settings.json of the case, by name, with values as in config.json."""
    file = case / "settings.json"
    given = json.loads(file.read_bytes()) if file.exists() else {}
    read = {name: parse(BY_NAME[name], value) for name, value in given.items()}
    return Config(**({"keepalive_seconds": 0.0, "max_wait_seconds": 0.0} | read))


def run(case: Path, split) -> tuple[list, bytes]:
    """(upstream calls, what the client got) of a case, the latter as its file has it."""
    upstream = FakeUpstream(script_of(case, split))
    gateway = make_gateway(upstream, config=settings_of(case))
    reply = ask(gateway, PATHS[case.parent.name], (case / "1-client-request.json").read_bytes())
    calls = [
        {"url": call.url.removeprefix("https://upstream.example/v1beta"), "body": json.loads(call.body)}
        for call in upstream.calls
    ]
    assert reply.has_ended
    if reply.headers["content-type"].startswith("text/event-stream"):
        return calls, reply.body
    told = {name: reply.headers[name] for name in HEADERS if name in reply.headers}
    return calls, pretty({"status": reply.status, "headers": told, "body": reply.json})


def pretty(value) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False).encode() + b"\n"


def whole(data: bytes) -> list[bytes]:
    return [data]


def single_bytes(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def seeded(seed: int):
    def split(data: bytes) -> list[bytes]:
        chance = random.Random(seed)
        cuts = sorted(chance.sample(range(1, len(data)), min(12, len(data) - 1)))
        return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]

    return split


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}/{case.name}")
def test_a_golden_case_holds(case, request):
    calls, answer = run(case, whole)
    suffix = "json" if answer.startswith(b"{\n") else "sse"
    asked, given = case / "2-upstream-request.json", case / f"4-client-response.{suffix}"
    if request.config.getoption("--update-golden"):
        for old in case.glob("4-client-response.*"):
            old.unlink()
        asked.write_bytes(pretty(calls))
        given.write_bytes(answer)

    assert calls == json.loads(asked.read_bytes())
    assert answer.decode() == given.read_text("utf-8")
    assert (case / "about.md").read_text("utf-8").strip()
    if (case / "3-upstream-response.sse").exists():
        for split in (single_bytes, seeded(1), seeded(2), seeded(3)):
            assert run(case, split) == (calls, answer)
