"""Every Chat Completions request that OpenAI's API is recorded to have taken, posted to a gateway on the simulated
Gemini: it is answered, or refused with an error that names the field. Nothing leads to a 5xx or a stream that breaks.
"""

import json

import pytest
from recorded import exchanges, need_recorded
from running import start

need_recorded()
REQUESTS = {
    name: exchange["request"]
    for name, exchange in exchanges("openai")
    if exchange["method"] == "POST" and exchange["path"].split("?")[0].endswith("/chat/completions")
}

# What is refused, by the end of its path: the fields that need OpenAI's own storage.
REFUSED = {"file_id"}


@pytest.fixture(scope="module")
def gateway(simulator, tmp_path_factory):
    """One that leaves it to upstream to fetch media, so that no test reaches beyond this machine."""
    home = tmp_path_factory.mktemp("passing")
    environ = {"GEMINI_API_KEY": "good", "AGPROXY_UPSTREAM_URL": simulator.url, "AGPROXY_FETCH_MEDIA": "pass"}
    running = start("serve", home=home, **environ)
    yield running
    running.stop()


def chunks_of(body):
    events = body.decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    return [json.loads(event.removeprefix("data: ")) for event in events[:-2]]


@pytest.mark.parametrize("name", REQUESTS)
def test_a_recorded_request_is_answered_or_refused_by_the_name_of_its_field(gateway, name):
    request = REQUESTS[name]
    answer = gateway.ask("/v1/chat/completions", request)

    if answer.status != 200:
        assert 400 <= answer.status < 500, answer.body
        error = answer.json["error"]
        assert error["param"].rpartition(".")[2] in REFUSED
        assert error["param"] in error["message"]
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


def test_all_but_one_or_two_of_the_recorded_requests_are_answered(gateway):
    statuses = [gateway.ask("/v1/chat/completions", request).status for request in REQUESTS.values()]

    assert len(statuses) >= 30
    assert statuses.count(200) / len(statuses) > 0.95, statuses
