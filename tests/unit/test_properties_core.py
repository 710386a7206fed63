"""What holds for any text, path, header and setting that could come: an answer or the one error that is meant."""

import json
import re
from dataclasses import replace

import pytest

pytest.importorskip("hypothesis")

from dialogue import splits, tried
from event_stream import read, reference
from hypothesis import given, settings
from hypothesis import strategies as some

from agproxy import auth, jsontext, models
from agproxy.config import SETTINGS, Config, load, parse, show
from agproxy.errors import ConfigError, HttpRefused, NotFound, Unauthorized
from agproxy.http11 import header_safe
from agproxy.routes import Route, find_frontend, match, methods_of

quick = settings(derandomize=True, database=None, deadline=None, max_examples=150)

numbers = some.integers() | some.floats(allow_nan=False, allow_infinity=False) | some.just(10**400)
scalars = some.none() | some.booleans() | numbers | some.text(max_size=8)
json_values = some.recursive(
    scalars, lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=3), inner, max_size=3)
)


# --- jsontext


@quick
@given(json_values)
def test_any_value_is_written_and_read_back_as_it_was(value):
    assert jsontext.loads(jsontext.dumps(value)) == value
    assert json.loads(jsontext.text(value)) == value


@quick
@given(some.binary(max_size=30) | some.text('[]{}",:0123456789.eE-+ntfNaI \\u', max_size=12).map(str.encode))
def test_any_bytes_are_json_for_us_only_if_they_are_for_everybody(data):
    value, error = tried(jsontext.loads, data, errors=ValueError)
    if error is not None:
        return
    assert json.loads(data.decode("utf-8-sig")) == value
    assert jsontext.dumps(value)


# --- sse

lines = some.lists(
    some.sampled_from(
        [b"data:", b"data: ", b"event: x", b": c", b"id: 1", b"{", b" ", b"x", b"\n", b"\r", b"\r\n", b"\n\n"]
    )
    | some.text(max_size=2).filter(lambda text: "\ufeff" not in text and text.isprintable()).map(str.encode),
    min_size=2,
    max_size=14,
).map(b"".join)


@quick
@given(lines.filter(lambda data: len(data) > 1), some.integers(0, 9))
def test_any_stream_reads_in_any_split_as_the_standard_says(data, seed):
    expected = reference(data)
    assert all(read(pieces) == expected for pieces in splits(data, seed=seed, count=3))


# --- models

patterns = some.text("ab*", min_size=1, max_size=7)


@quick
@given(
    some.lists(some.tuples(patterns, some.sampled_from(["m1", "m2"])), max_size=4),
    some.text("abAB", max_size=7),
    some.booleans(),
)
def test_any_rules_choose_as_the_stated_order_says(rules, name, has_default):
    def fits(pattern):
        return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name.lower())

    exact = [model for pattern, model in rules if pattern == name.lower()]
    wild = [(-len(p.replace("*", "")), p.count("*"), p, model) for p, model in rules if "*" in p and fits(p)]
    expected = exact[0] if exact else min(wild)[3] if wild else "m0" if has_default else None
    default = "m0" if has_default else ""
    found, error = tried(models.resolve, name, tuple(rules), default, errors=NotFound)
    assert (found and found.model) == expected
    assert error is None or error.code == "model_not_found"
    why = models.explain(name, tuple(rules), default)
    assert (why.winner and why.winner.model) == expected


@quick
@given(some.text(max_size=30), some.frozensets(some.text(min_size=1, max_size=8), max_size=3))
def test_any_name_means_a_model_or_is_not_found(name, listed):
    found, error = tried(models.resolve, name, (), "", listed, errors=NotFound)
    assert error.status == 404 if found is None else found.model


# --- routes

TABLE = (
    Route(method="GET", pattern="/", frontend="g", action="root"),
    Route(method="GET", pattern="/models/{model...}", frontend="g", action="get"),
    Route(method="POST", pattern="/chat/completions", frontend="c", action="create"),
    Route(method="DELETE", pattern="/responses/{id}", frontend="r", action="delete"),
)
pieces = some.sampled_from(
    ["/", "//", "v1", "models", "responses", "chat", "completions", "%2F", "%", "%zz", "é", ".", ".."]
)


@quick
@given(
    some.lists(pieces | some.text(max_size=3), max_size=8).map("".join),
    some.sampled_from(["GET", "POST", "HEAD", "PUT", ""]),
)
def test_any_path_leads_somewhere_or_is_told(path, method):
    found, error = tried(match, TABLE, method, path, errors=(NotFound, HttpRefused))
    allowed = methods_of(TABLE, path)
    if found is not None:
        assert method in allowed
        assert find_frontend(TABLE, path, "none") == found.route.frontend
        assert all(found.params.values())
    elif allowed == ("OPTIONS",):
        assert error.status == 404
    else:
        assert (error.status, dict(error.headers)["allow"]) == (405, ", ".join(allowed))
        assert method not in allowed


# --- headers and keys

header_text = some.text(some.characters(max_codepoint=255), max_size=20)


@quick
@given(
    some.lists(
        some.tuples(
            some.sampled_from(["authorization", "x-api-key", "x-goog-api-key", "host"]),
            header_text | some.just("Bearer k"),
        ),
        max_size=4,
    )
)
def test_any_headers_bring_a_known_key_or_are_refused(headers):
    config = Config(auth_mode="strict", api_key=(("me", "k"), ("you", "ключ")))
    name, error = tried(lambda: auth.check(config, tuple(headers), is_health=False), errors=Unauthorized)
    if error is not None:
        assert error.status == 401
    else:
        assert auth.client_key(tuple(headers)).encode("latin-1").decode() == dict(config.api_key)[name]


@quick
@given(some.text(), some.integers(4, 50))
def test_any_text_is_fit_for_a_header(text, limit):
    safe = header_safe(text, limit)
    assert len(safe) <= limit
    assert all(" " <= character <= "~" for character in safe)
    assert header_safe(safe, limit) == safe


# --- config

settings_by_chance = some.sampled_from(SETTINGS)
texts = some.text(max_size=12) | some.sampled_from(
    ["on", "0", "1e999", "-1", "a=b", "a=b,*=c", '{"a":"b"}', "nan", "9" * 5000]
)


@quick
@given(settings_by_chance, texts | json_values)
def test_any_value_of_a_setting_is_taken_or_refused_in_words(setting, value):
    taken, error = tried(parse, setting, value, errors=ValueError)
    if error is not None:
        assert "expected" in str(error)
    else:
        assert show(setting, taken) is not None
        assert getattr(replace(Config(), **{setting.name: taken}), setting.name) == taken


@quick
@given(
    some.dictionaries(settings_by_chance.map(lambda s: s.name), texts, max_size=2),
    some.dictionaries(settings_by_chance.map(lambda s: s.variable) | some.just("AGPROXY_X"), texts, max_size=2),
    some.dictionaries(settings_by_chance.map(lambda s: s.key) | some.text(max_size=5), json_values, max_size=2),
)
def test_any_sources_are_settings_or_one_error_that_names_one_of_them(flags, environ, file):
    found, error = tried(load, flags, environ, file, "config.json", errors=ConfigError)
    if error is not None:
        assert str(error).startswith(("--", "AGPROXY_", "config.json: "))
    else:
        assert set(found.sources) == {setting.name for setting in SETTINGS}
