"""Which of a request's keys counts, and which requests need one."""

import pytest

from agproxy.auth import admit, check, client_key, key_name
from agproxy.config import Config
from agproxy.errors import Forbidden, Unauthorized
from agproxy.http11 import UNIX
from agproxy.keys import Key, Ring, digest_of
from agproxy.routes import segments

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


# --- what is the owner's alone

NOW = 1_795_000_000
NO_KEYS = Ring()
OWNERS = ("/metrics", "/v1/metrics", "/v1/agproxy/why/req_1", "/agproxy", "//agproxy/x", "/%61gproxy/why/req_1")


def enter(path, settings, headers=(), peer="192.0.2.7", ring=NO_KEYS):
    return admit(settings, ring, headers, peer, segments(path), NOW).name


@pytest.mark.parametrize("path", OWNERS)
@pytest.mark.parametrize("mode", ["off", "strict", "all_except_health", "auto"])
def test_the_owners_paths_ask_for_the_admin_key_where_there_is_one(path, mode):
    settings = config(mode, admin_key="sk-admin")

    assert enter(path, settings, bearer("sk-admin")) == "admin"
    for headers in ((), bearer("sk-laptop"), bearer("sk-admin2"), bearer("")):
        with pytest.raises(Unauthorized, match="admin key"):
            enter(path, settings, headers, "127.0.0.1")


def test_the_admin_key_is_no_client_key():
    with pytest.raises(Unauthorized):
        enter("/v1/chat/completions", config("strict", admin_key="sk-admin"), bearer("sk-admin"))


@pytest.mark.parametrize("path", OWNERS)
@pytest.mark.parametrize("mode", ["off", "strict"])
def test_without_an_admin_key_the_owners_paths_ask_for_a_client_key_whatever_the_mode(path, mode):
    assert enter(path, config(mode), bearer("sk-phone")) == "phone"
    with pytest.raises(Unauthorized, match="client key"):
        enter(path, config(mode), (), "127.0.0.1")


@pytest.mark.parametrize("path", OWNERS)
def test_without_any_key_the_owners_paths_are_for_this_machine(path):
    keyless = config("off", api_key=())

    for peer in ("127.0.0.1", "::1", "::ffff:127.0.0.1", UNIX):
        assert enter(path, keyless, (), peer) is None
    for peer in ("192.0.2.7", "fe80::1", "::ffff:192.0.2.7"):
        with pytest.raises(Forbidden):
            enter(path, keyless, (), peer)


@pytest.mark.parametrize("path", ["/healthz", "/v1/healthz", "/health", "/readyz"])
def test_health_needs_no_key_unless_all_does(path):
    assert enter(path, config("all_except_health")) is None
    with pytest.raises(Unauthorized):
        enter(path, config("strict"))


@pytest.mark.parametrize(
    "path", ["/", "/v1/models", "/v1/metrics/x", "/metricsx", "/v1/chat/completions", "/x/agproxy"]
)
def test_other_paths_ask_as_the_mode_says(path):
    assert enter(path, config("off")) is None
    assert enter(path, config("all_except_health"), bearer("sk-phone")) == "phone"
    with pytest.raises(Unauthorized):
        enter(path, config("all_except_health"))


# --- keys of keys.json

GIVEN = "agp-" + "x" * 43
NAMED = Ring([Key(name="guest", digest=digest_of(GIVEN))])


def lone(**more):
    return Ring([Key(name="guest", digest=digest_of(GIVEN), **more)])


@pytest.mark.parametrize("mode", ["off", "strict", "all_except_health"])
def test_a_named_key_opens_what_a_client_key_opens(mode):
    settings = config(mode, api_key=())
    who = admit(settings, NAMED, bearer(GIVEN), "192.0.2.7", segments("/v1/models"), NOW)

    assert (who.name, who.key) == ("guest", NAMED.keys[0])
    if mode != "off":
        with pytest.raises(Unauthorized, match="Incorrect API key"):
            enter("/v1/models", settings, bearer(GIVEN + "y"), ring=NAMED)
        with pytest.raises(Unauthorized, match="didn't provide"):
            enter("/v1/models", settings, ring=NAMED)


def test_plain_keys_go_on_beside_named_ones():
    assert enter("/v1/models", config("strict"), bearer("sk-phone"), ring=NAMED) == "phone"


@pytest.mark.parametrize("path", OWNERS)
def test_a_named_key_is_never_the_owners(path):
    for settings in (config("off", api_key=()), config("strict", admin_key="sk-admin"), config("strict")):
        with pytest.raises((Unauthorized, Forbidden)):
            enter(path, settings, bearer(GIVEN), "127.0.0.1", NAMED)
    with pytest.raises(Forbidden, match="AGPROXY_ADMIN_KEY"):  # a tunnel's peer is this machine as well
        enter(path, config("off", api_key=()), (), "127.0.0.1", NAMED)
    assert enter(path, config("off", api_key=(), admin_key="a"), bearer("a"), ring=NAMED) == "admin"


@pytest.mark.parametrize(
    ("more", "why"), [({"is_revoked": True}, "revoked"), ({"expires": NOW}, "expired"), ({"expires": 0}, "expired")]
)
def test_a_key_that_is_over_opens_nothing_and_says_why(more, why):
    with pytest.raises(Unauthorized, match=why) as caught:
        enter("/v1/models", config("strict", api_key=()), bearer(GIVEN), ring=lone(**more))

    assert caught.value.code == "invalid_api_key"
    assert enter("/v1/models", config("off", api_key=()), bearer(GIVEN), ring=lone(**more)) is None


def test_a_key_is_good_until_the_second_of_its_end():
    assert enter("/v1/models", config("strict"), bearer(GIVEN), ring=lone(expires=NOW + 1)) == "guest"


def test_where_there_are_named_keys_auto_asks_for_them():
    settings = Config()

    assert NO_KEYS.govern(settings).effective_auth_mode == "off"
    assert NAMED.govern(settings).effective_auth_mode == "all_except_health"
    assert NAMED.govern(config("off")).effective_auth_mode == "off"
    assert lone(is_revoked=True).govern(settings).effective_auth_mode == "all_except_health"
