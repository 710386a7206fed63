"""Paths, headers and the model list: what the backend's face alone knows."""

import json

import pytest
from dialogue import encode, request, user

from agproxy.backends import Target
from agproxy.backends.gemini import call, decode_models, models_call

TARGET = Target(base_url="https://up.example/v1beta", key="SECRET", user_agent="agproxy/1")


def test_a_call_is_a_post_of_the_body_with_the_key_in_a_header():
    encoded = encode(request(user("é")))
    made = call(encoded, "gemini-2.5-flash", TARGET, is_stream=False)

    assert (made.method, made.url) == ("POST", "https://up.example/v1beta/models/gemini-2.5-flash:generateContent")
    assert json.loads(made.body) == encoded.body
    assert dict(made.headers) == {
        "content-type": "application/json",
        "user-agent": "agproxy/1",
        "x-goog-api-key": "SECRET",
    }
    assert "SECRET" not in repr(made)
    assert "SECRET" not in repr(TARGET)


def test_a_stream_is_asked_for_as_events():
    made = call(encode(request(user("a"))), "gemini-2.5-flash", TARGET, is_stream=True)

    assert made.url == "https://up.example/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse"


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("a/b", "a%2Fb"),
        ("../../x", "..%2F..%2Fx"),
        ("x?key=1#y", "x%3Fkey%3D1%23y"),
        ("a b\r\nhost: x", "a%20b%0D%0Ahost%3A%20x"),
        ("модель", "%D0%BC%D0%BE%D0%B4%D0%B5%D0%BB%D1%8C"),
        ("%2e", "%252e"),
        ("gemini-\ud800", "gemini-%3F"),
    ],
)
def test_a_name_that_a_client_chose_cannot_leave_its_place_in_the_path(model, path):
    made = call(encode(request(user("a"))), model, TARGET, is_stream=False)

    assert made.url == f"https://up.example/v1beta/models/{path}:generateContent"


def test_the_model_list_is_read_page_by_page():
    assert models_call(TARGET).url == "https://up.example/v1beta/models?pageSize=1000"
    assert models_call(TARGET, "a/b&c").url == "https://up.example/v1beta/models?pageSize=1000&pageToken=a%2Fb%26c"
    assert ("x-goog-api-key", "SECRET") in models_call(TARGET).headers


def test_only_models_that_answer_are_taken_and_their_prefix_is_not():
    page = {
        "models": [
            {"name": "models/gemini-2.5-flash", "supportedGenerationMethods": ["generateContent", "countTokens"]},
            {"name": "models/gemini-embedding-001", "supportedGenerationMethods": ["embedContent"]},
            {"name": "gemma-3-27b-it", "supportedGenerationMethods": ["generateContent"]},
            {"name": "models/veo"},
            {"name": "models/", "supportedGenerationMethods": ["generateContent"]},
        ],
        "nextPageToken": "t",
    }

    assert decode_models(page) == (("gemini-2.5-flash", "gemma-3-27b-it"), "t")


@pytest.mark.parametrize("value", [None, 5, True, "x", [], {}, [None], [5], [{}], [{"name": 5}]], ids=str)
def test_a_list_of_a_wrong_type_is_an_empty_one(value):
    assert decode_models(value) == ((), None)
    assert decode_models({"models": value, "nextPageToken": ""}) == ((), None)
    assert decode_models({"models": [{"name": "models/x", "supportedGenerationMethods": value}]}) == ((), None)
    if not isinstance(value, str):
        named = {"name": value, "supportedGenerationMethods": ["generateContent"]}
        assert decode_models({"models": [named]}) == ((), None)
