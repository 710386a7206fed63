"""Every field of every request body, with a value of every kind: taken, or refused by a 400 that names the field."""

import pytest
from fakes import FakeUpstream, Scripted, ask, make_gateway

from agproxy.frontends import FRONTENDS

ANSWER = {"candidates": [{"content": {"parts": [{"text": "hi"}]}, "finishReason": "STOP"}]}
VALUES = (False, True, 0, 1.5, 5, "", "x", [], [1], {}, {"a": 1})
BASES = {
    "openai_chat": ("/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "x"}]}),
    "openai_completions": ("/v1/completions", {"model": "m", "prompt": "x"}),
    "openai_responses": ("/v1/responses", {"model": "m", "input": "x"}),
}


@pytest.mark.parametrize(("name", "field"), [(name, field) for name in BASES for field in FRONTENDS[name].FIELDS])
def test_a_field_of_any_type_is_taken_or_refused_by_name(name, field):
    path, body = BASES[name]
    for value in VALUES:
        reply = ask(make_gateway(FakeUpstream([Scripted.of(ANSWER)])), path, body | {field: value})

        assert reply.status in (200, 400, 404), value  # 404: an id that nothing is kept under
        if reply.status == 400:
            error = reply.json["error"]
            assert field in f"{error['param']} {error['message']}", value


@pytest.mark.parametrize(("name", "field"), [(n, "tools") for n in BASES if n != "openai_completions"])
@pytest.mark.parametrize("value", [False, 0, "", {}])
def test_what_is_empty_but_of_another_type_is_refused(name, field, value):
    path, body = BASES[name]
    reply = ask(make_gateway(FakeUpstream([])), path, body | {field: value})

    assert reply.status == 400
    assert reply.json["error"]["param"] == field
