"""Which models are listed, and what happens where upstream does not say."""

import pytest
from fakes import FakeUpstream, Scripted, ask, make_gateway

LISTED = Scripted.of({"models": [{"name": "models/gemini-9", "supportedGenerationMethods": ["generateContent"]}]})
REFUSED = Scripted.of({"error": {"code": 401, "message": "API key k1 is expired.", "status": "UNAUTHENTICATED"}}, 401)
NO_JSON = Scripted(pieces=[b"<html>"])


def names(gateway):
    return [model["id"] for model in ask(gateway, "/v1/models", b"", "GET").json["data"]]


@pytest.mark.parametrize("first", [REFUSED, NO_JSON])
def test_where_one_account_cannot_list_the_next_is_asked(first, caplog):
    upstream = FakeUpstream([first, LISTED])

    assert "gemini-9" in names(make_gateway(upstream, "key-number-one", "key-number-two"))
    assert [dict(call.headers)["x-goog-api-key"] for call in upstream.calls] == ["key-number-one", "key-number-two"]
    assert "could not be had with account-key-number-one" in caplog.text


def test_where_nobody_lists_the_aliases_are_shown_and_not_all_accounts_are_asked(caplog):
    upstream = FakeUpstream([REFUSED] * 9)

    found = names(make_gateway(upstream, *"abcdefgh"))

    assert "gpt-4o" in found
    assert "gemini-9" not in found
    assert len(upstream.calls) == 3
