"""Every recorded request that the real API took has to be taken by the simulated one, and recorded answers replay."""

import json
from functools import cache

import pytest
from recorded import FOLDER, exchanges, need_recorded, upstream_answers
from simulator_client import ask, prompt, streamed_parts, text_of

from agproxy.simulator import Simulator

need_recorded()

_METHODS = (":generateContent", ":streamGenerateContent", ":countTokens", ":embedContent", ":batchEmbedContents")
ACCEPTED = [
    (f"{folder}/{name}", exchange)
    for folder in ("gemini", "vertex")
    for name, exchange in exchanges(folder)
    if exchange["status"] == 200 and any(method in exchange["path"] for method in _METHODS)
]
ANSWERS = [answer for answer in upstream_answers() if answer.status == 200]


@pytest.mark.parametrize("exchange", [exchange for _, exchange in ACCEPTED], ids=[name for name, _ in ACCEPTED])
def test_what_the_real_api_took_is_taken(exchange):
    answer = ask(exchange["path"], exchange["request"], method=exchange["method"])

    assert answer.status == 200, answer.body[:600]


@cache
def replaying(folder: str) -> Simulator:
    return Simulator(replay=FOLDER / folder)


def test_there_is_something_to_take():
    assert len(ACCEPTED) > 200


@pytest.mark.parametrize("name", ["gemini", "vertex"])
def test_an_exchange_folder_replays_in_order(name):
    simulator = Simulator(replay=FOLDER / "exchanges" / name)
    for _, exchange in exchanges(name):
        answer = ask("/v1beta/models/gemini-2.5-flash:generateContent", prompt(), simulator=simulator)
        assert answer.status == exchange["status"]


@pytest.mark.parametrize("answer", ANSWERS, ids=[f"{answer.folder}/{answer.name}" for answer in ANSWERS])
def test_a_recorded_answer_says_the_same_whole_and_as_a_stream(answer):
    simulator = replaying(answer.folder)
    marked = prompt(f"[[sim:replay={answer.name}]]")
    wanted = [part for part in streamed_parts(list(answer.chunks)) if part.get("text") and not part.get("thought")]

    whole = ask("/v1beta/models/gemini-2.5-flash:generateContent", marked, simulator=simulator)
    streamed = ask("/v1beta/models/gemini-2.5-flash:streamGenerateContent", marked, simulator=simulator)

    if any("error" in chunk for chunk in answer.chunks):
        assert whole.status >= 400
        return
    candidates = whole.json.get("candidates", [])
    assert text_of(candidates[0].get("content", {}).get("parts", [])) == text_of(wanted) if candidates else not wanted
    assert text_of(streamed_parts(json.loads(streamed.body))) == text_of(wanted)
