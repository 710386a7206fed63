"""Every Chat Completions request that OpenAI's API is recorded to have taken, posted to a gateway on the simulated
Gemini: it is answered, or refused with an error that names the field. Nothing leads to a 5xx or a stream that breaks.

Addresses of media are turned to this machine, so that no test reaches beyond it.
"""

import json
import re

import pytest
from recorded import exchanges, need_recorded

need_recorded()
REQUESTS = [
    pytest.param(exchange, id=name)
    for name, exchange in exchanges("openai")
    if exchange["method"] == "POST" and exchange["path"].split("?")[0].endswith("/chat/completions")
]

# What is refused, by the end of its path: the fields that need OpenAI's own storage.
REFUSED = {"file_id"}


def at_home(value):
    """The request with the hosts of its media addresses replaced by one where nobody listens."""
    if isinstance(value, dict):
        return {
            key: re.sub(r"^https?://[^/]+", "http://127.0.0.1:9", inner)
            if key in ("url", "file_data") and isinstance(inner, str)
            else at_home(inner)
            for key, inner in value.items()
        }
    return [at_home(inner) for inner in value] if isinstance(value, list) else value


def chunks_of(body):
    events = body.decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    return [json.loads(event.removeprefix("data: ")) for event in events[:-2]]


@pytest.mark.parametrize("exchange", REQUESTS)
def test_a_recorded_request_is_answered_or_refused_by_the_name_of_its_field(gateway, exchange):
    request = at_home(exchange["request"])
    answer = gateway.ask("/v1/chat/completions", request)

    if answer.status != 200:
        assert 400 <= answer.status < 500, answer.body
        error = answer.json["error"]
        assert error["param"], error
        assert error["param"] in error["message"]
        is_fetched = "127.0.0.1:9" in json.dumps(request) and error["param"].endswith(("url", "file_data"))
        assert is_fetched or error["param"].rpartition(".")[2] in REFUSED, error
        return
    if not request.get("stream"):
        (choice,) = answer.json["choices"]
        assert choice["message"]["content"] or choice["message"]["tool_calls"]
        assert answer.json["model"] == request["model"]
        return
    chunks = chunks_of(answer.body)
    assert not [chunk for chunk in chunks if "error" in chunk]
    assert [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"]][-1]
    assert bool(chunks[-1].get("usage")) == bool((request.get("stream_options") or {}).get("include_usage"))


def test_nearly_all_of_the_recorded_requests_are_answered(gateway):
    statuses = [gateway.ask("/v1/chat/completions", at_home(p.values[0]["request"])).status for p in REQUESTS]

    assert len(statuses) >= 30
    assert statuses.count(200) / len(statuses) > 0.8, statuses
