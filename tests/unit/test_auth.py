"""Which of a request's keys counts, and which requests need one."""

import pytest

from agproxy.auth import check, client_key, key_name
from agproxy.config import Config
from agproxy.errors import Unauthorized

KEYS = (("laptop", "sk-laptop"), ("phone", "sk-phone"))


def config(mode, **more):
    return Config(auth_mode=mode, **({"api_key": KEYS} | more))


def bearer(key):
    return (("authorization", f"Bearer {key}"),)


# --- which key a request brings


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ((("authorization", "Bearer a"),), "a"),
        ((("authorization", "bearer a"),), "a"),
        ((("authorization", "  BEARER   a  "),), "a"),
        ((("authorization", "a"),), "a"),
        ((("x-api-key", " a "),), "a"),
        ((("x-goog-api-key", "a"),), "a"),
        ((("host", "localhost"),), None),
        ((), None),
    ],
)
def test_a_key_comes_in_one_of_three_headers(headers, key):
    assert client_key(headers) == key


def test_the_first_header_that_is_there_decides_whatever_their_order_on_the_wire():
    all_three = (("x-goog-api-key", "c"), ("x-api-key", "b"), ("authorization", "Bearer a"))

    assert client_key(all_three) == "a"
    assert client_key(all_three[:2]) == "b"
    assert client_key(all_three[:1]) == "c"


def test_a_wrong_key_in_the_first_header_is_not_mended_by_a_right_one_in_the_second():
    headers = (("authorization", "Bearer wrong"), ("x-api-key", "sk-laptop"))

    assert key_name(headers, KEYS) is None
    assert key_name(headers[1:], KEYS) == "laptop"


@pytest.mark.parametrize("empty", ["Bearer", "Bearer ", "bearer    ", "", "  "])
def test_an_empty_bearer_counts_as_absent(empty):
    assert client_key((("authorization", empty),)) is None
    assert client_key((("authorization", empty), ("x-api-key", ""), ("x-goog-api-key", "c"))) == "c"


def test_another_scheme_is_there_and_matches_no_key():
    headers = (("authorization", "Basic c2stbGFwdG9w"), ("x-api-key", "sk-laptop"))

    assert key_name(headers, KEYS) is None


@pytest.mark.parametrize("near", ["sk-lapto", "sk-laptop2", "SK-LAPTOP", "sk laptop", "laptop"])
def test_a_key_must_be_the_whole_key(near):
    assert key_name(bearer(near), KEYS) is None


def test_the_name_of_the_key_is_known():
    assert key_name(bearer("sk-phone"), KEYS) == "phone"


def test_a_key_beyond_ascii_matches_as_its_utf8_bytes_on_the_wire():
    keys = (("me", "ключ"),)
    on_the_wire = "ключ".encode().decode("latin-1")

    assert key_name(bearer(on_the_wire), keys) == "me"
    assert key_name(bearer("ключ"), keys) is None  # header text holds latin-1 characters, so this never comes


# --- which requests need one


@pytest.mark.parametrize(
    ("mode", "is_health", "is_needed"),
    [
        ("off", False, False),
        ("off", True, False),
        ("strict", False, True),
        ("strict", True, True),
        ("all_except_health", False, True),
        ("all_except_health", True, False),
        ("auto", False, False),
        ("auto", True, False),
    ],
)
def test_each_mode_asks_where_it_should(mode, is_health, is_needed):
    assert check(config(mode), bearer("sk-phone"), is_health=is_health) == "phone"
    for headers in ((), bearer("wrong")):
        if is_needed:
            with pytest.raises(Unauthorized):
                check(config(mode), headers, is_health=is_health)
        else:
            assert check(config(mode), headers, is_health=is_health) is None


def test_auto_asks_for_a_key_once_the_lan_can_come_in():
    open_to_lan = config("auto", allow_lan_access=True)

    assert check(open_to_lan, (), is_health=True) is None
    with pytest.raises(Unauthorized):
        check(open_to_lan, (), is_health=False)


def test_without_any_configured_key_nobody_comes_in():
    for headers in ((), bearer("x"), bearer("")):
        with pytest.raises(Unauthorized):
            check(config("strict", api_key=()), headers, is_health=False)


@pytest.mark.parametrize(
    ("headers", "told"), [((), "didn't provide an API key"), (bearer("SECRET"), "Incorrect API key")]
)
def test_a_refusal_is_401_with_its_challenge_and_does_not_quote_the_key(headers, told):
    with pytest.raises(Unauthorized, match=told) as caught:
        check(config("strict"), headers, is_health=False)

    assert (caught.value.status, caught.value.code) == (401, "invalid_api_key")
    assert caught.value.headers == (("www-authenticate", 'Bearer realm="agproxy"'),)
    assert "SECRET" not in caught.value.message
