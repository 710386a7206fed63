"""Headers and addresses: what may stand in a header, and who is this machine itself."""

import time

import pytest

from agproxy.http11 import HOP_BY_HOP, Call, HttpRequest, find, header_safe, is_loopback

HEADERS = (("accept", "a"), ("x-api-key", "one"), ("x-api-key", "two"), ("empty", ""))


def test_the_first_of_several_headers_counts():
    assert find(HEADERS, "x-api-key") == "one"


def test_an_empty_header_is_there_and_an_absent_one_is_none():
    assert find(HEADERS, "empty") == ""
    assert find(HEADERS, "host") is None
    assert find((), "host") is None


def test_a_request_finds_its_own_headers():
    request = HttpRequest(method="GET", path="/", query="", headers=HEADERS, body=b"", peer="127.0.0.1", id="r")

    assert request.header("accept") == "a"


@pytest.mark.parametrize(
    ("value", "safe"),
    [
        ("gpt-4o", "gpt-4o"),
        (" ~", " ~"),
        ("a\r\nset-cookie: x", "a\\r\\nset-cookie: x"),
        ("\x00\x7f\t", "\\x00\\x7f\\t"),
        ("модель", "\\u043c\\u043e\\u0434\\u0435\\u043b\\u044c"),
        ("\u00e9😀", "\\xe9\\U0001f600"),
        ("\ud800", "\\ud800"),
        ("", ""),
    ],
)
def test_what_a_client_chose_is_escaped_before_it_stands_in_a_header(value, safe):
    assert header_safe(value) == safe


def test_a_long_text_is_cut_and_shows_it():
    assert header_safe("x" * 1024) == "x" * 1024
    assert header_safe("x" * 1025) == "x" * 1021 + "..."
    assert len(header_safe("é" * 1000, 100)) == 100


def test_a_text_of_any_length_is_made_fit_at_once():
    """What a client chose may be as long as its body, and the event loop waits meanwhile."""
    began = time.perf_counter()

    assert header_safe("é" * 5_000_000) == "\\xe9" * 255 + "\\..."
    assert time.perf_counter() - began < 0.1  # a second, if all of it is looked at


@pytest.mark.parametrize("address", ["127.0.0.1", "127.255.0.9", "::1", "::ffff:127.0.0.1", "unix"])
def test_this_machine_knows_itself(address):
    assert is_loopback(address)


@pytest.mark.parametrize("address", ["192.168.0.1", "10.127.0.1", "::2", "::ffff:10.0.0.1", "fe80::1", "1127.0.0.1"])
def test_others_are_not_this_machine(address):
    assert not is_loopback(address)


@pytest.mark.parametrize("name", ["connection", "transfer-encoding", "te", "upgrade", "keep-alive", "trailer"])
def test_headers_of_one_connection_are_named_in_lower_case(name):
    assert name in HOP_BY_HOP
    assert all(known == known.lower() for known in HOP_BY_HOP)


def test_neither_request_nor_call_shows_the_key_and_the_prompt_that_it_carries():
    secret = {"method": "POST", "body": b"PROMPT", "headers": (("x-goog-api-key", "KEY"),)}
    for value in (Call(url="https://up/v1", **secret), HttpRequest(path="/v1", query="", peer="::1", id="r", **secret)):
        assert "/v1" in repr(value)
        assert "KEY" not in repr(value)
        assert "PROMPT" not in repr(value)
