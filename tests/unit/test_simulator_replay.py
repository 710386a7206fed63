"""Recorded answers served again: which files, in which order, in which form."""

import json

import pytest
from simulator_client import FLASH, Clock, ask, prompt, streamed_parts, text_of

from agproxy.errors import ConfigError
from agproxy.simulator import Simulator
from agproxy.simulator.replay import merged

WHOLE = {"candidates": [{"content": {"parts": [{"text": "whole"}], "role": "model"}, "finishReason": "STOP"}]}
CHUNKS = [
    {"candidates": [{"content": {"parts": [{"text": "Think", "thought": True}], "role": "model"}}]},
    {
        "candidates": [{"content": {"parts": [{"text": "one "}], "role": "model"}}],
        "usageMetadata": {"totalTokenCount": 1},
    },
    {
        "candidates": [{"content": {"parts": [{"text": "two"}], "role": "model"}}],
        "usageMetadata": {"totalTokenCount": 2},
    },
    {"candidates": [{"content": {"parts": [{"text": "", "thoughtSignature": "YQ=="}]}, "finishReason": "STOP"}]},
]
EVENTS = b"".join(b"data: " + json.dumps(chunk).encode() + b"\r\n\r\n" for chunk in CHUNKS)
ERROR = {"error": {"code": 503, "message": "busy", "status": "UNAVAILABLE"}}


@pytest.fixture
def replay(tmp_path):
    """Write files and get a simulator that replays them."""

    def write(**files):
        for name, content in files.items():
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            (tmp_path / name.replace("__", ".")).write_bytes(data)
        return Simulator(replay=tmp_path, sleep=Clock())

    return write


def whole(simulator, text="Hi"):
    return ask(f"{FLASH}:generateContent", prompt(text), simulator=simulator)


def stream(simulator, text="Hi", query="?alt=sse"):
    return ask(f"{FLASH}:streamGenerateContent{query}", prompt(text), simulator=simulator)


def test_answers_come_in_the_order_of_their_names_over_and_over(replay):
    simulator = replay(b__json=WHOLE, a__txt=EVENTS, notes__md=b"no answer")
    assert [whole(simulator).text for _ in range(3)] == ["one two", "whole", "one two"]


def test_a_marker_picks_one_by_its_name(replay):
    simulator = replay(a__txt=EVENTS, b__json=WHOLE, b__chunks__txt=b"\n".join(json.dumps(c).encode() for c in CHUNKS))

    assert whole(simulator, "[[sim:replay=b.json]]").text == "whole"
    assert whole(simulator, "[[sim:replay=b.chunks.txt]]").text == "one two"
    assert whole(simulator, "[[sim:replay=a]]").text == "one two"
    assert "no answer called 'c'" in whole(simulator, "[[sim:replay=c]]").error["message"]


def test_a_captured_stream_is_sent_byte_for_byte_one_event_at_a_time(replay):
    answer = stream(replay(a__txt=EVENTS))
    assert (answer.body, len(answer.writes)) == (EVENTS, 4)


def test_a_whole_answer_becomes_a_stream_of_one_chunk(replay):
    simulator = replay(a__json=WHOLE)

    assert stream(simulator).chunks == [WHOLE]
    assert stream(simulator, query="").json == [WHOLE]


def test_chunks_are_framed_as_asked(replay):
    simulator = replay(a__json=CHUNKS)

    assert stream(simulator).chunks == CHUNKS
    assert stream(simulator, query="").json == CHUNKS


def test_a_stream_asked_for_whole_has_its_parts_joined(replay):
    (candidate,) = whole(replay(a__txt=EVENTS)).json["candidates"]

    assert candidate["content"]["parts"] == [
        {"text": "Think", "thought": True},
        {"text": "one two", "thoughtSignature": "YQ=="},
    ]
    assert candidate["finishReason"] == "STOP"
    assert merged(CHUNKS)["usageMetadata"] == {"totalTokenCount": 2}


def test_joining_keeps_candidates_and_calls_apart():
    def chunk(index, part):
        return {"candidates": [{"index": index, "content": {"parts": [part]}}]}

    call = {"functionCall": {"name": "f"}}
    pieces = [chunk(0, {"text": "a"}), chunk(1, {"text": "b"}), chunk(0, call), chunk(0, call), chunk(0, {"text": "c"})]
    first, second = merged(pieces)["candidates"]

    assert first["content"]["parts"] == [{"text": "a"}, call, call, {"text": "c"}]
    assert second["content"]["parts"] == [{"text": "b"}]


def test_an_exchange_gives_its_response_and_status(replay):
    simulator = replay(
        a__json={"request": {}, "response": WHOLE, "status": 200},
        b__json={"response": ERROR, "status": 503, "content_type": "application/json"},
        c__json={"response": EVENTS.decode(), "status": 200},
        d__json={"response": CHUNKS},
    )

    assert whole(simulator).text == "whole"
    assert (whole(simulator).status, whole(simulator).text) == (503, "one two")
    assert text_of(streamed_parts(stream(simulator).chunks)) == "one two"


@pytest.mark.parametrize("content", [ERROR, [ERROR]])
def test_an_error_has_its_own_status_however_it_is_asked_for(replay, content):
    simulator = replay(a__json=content)

    assert whole(simulator).status == stream(simulator).status == 503
    assert whole(simulator).json == content


def test_an_error_after_good_chunks_stays_where_it_was(replay):
    bare = json.dumps(ERROR, indent=2).encode()
    simulator = replay(a__txt=EVENTS + bare, b__json=[*CHUNKS, ERROR])

    assert stream(simulator, "[[sim:replay=a]]").body == EVENTS + bare
    assert stream(simulator, "[[sim:replay=a]]", query="").json == [*CHUNKS, ERROR]
    assert stream(simulator, "[[sim:replay=b]]", query="").json == [*CHUNKS, ERROR]
    assert whole(simulator, "[[sim:replay=a]]").status == 503


def test_a_page_in_html_stays_one(replay):
    answer = whole(replay(a__txt=b"<!DOCTYPE html><p>no"))
    assert (answer.status, dict(answer.headers)["content-type"]) == (404, "text/html; charset=UTF-8")


def test_requests_are_checked_all_the_same(replay):
    simulator = replay(a__json=WHOLE)

    assert ask(f"{FLASH}:generateContent", {"contents": []}, simulator=simulator).status == 400
    assert whole(simulator, "[[sim:503]]").status == 503
    assert ask(f"{FLASH}:countTokens", prompt(), simulator=simulator).json["totalTokens"] == 1


@pytest.mark.parametrize("name", ["missing", "empty", "broken"])
def test_a_folder_that_cannot_be_replayed_is_told_at_the_start(tmp_path, name):
    folder = tmp_path / name
    if name != "missing":
        folder.mkdir()
    if name == "broken":
        (folder / "a.chunks.txt").write_text("{}\n[1]\n")

    with pytest.raises(ConfigError, match="replay: "):
        Simulator(replay=folder)


def test_without_a_folder_a_name_to_replay_is_told():
    assert "no answer called" in whole(Simulator(), "[[sim:replay=a]]").error["message"]
