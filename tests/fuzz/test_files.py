"""Any bytes in the files of the home folder, and in what is imported: read, or one error in words; what is written is
read back as it was.
"""

import asyncio
import json
import sqlite3
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("hypothesis")

from dialogue import tried
from hunting import Pool, anything, hunt, spoiled, spoiled_bytes, texts
from hypothesis import given
from hypothesis import strategies as some

from agproxy import accounts, credentials, oauth, records
from agproxy.cli import account_files
from agproxy.config import SETTINGS, load
from agproxy.cooldowns import Cause, CoolDown, error_of, from_rows, next_cool_down
from agproxy.entries import Entry, json_line, text_line
from agproxy.errors import ConfigError, GatewayError, StateUnavailable, UpstreamFailed
from agproxy.io import home as home_io
from agproxy.io.journal import JournalFile, Reader, Wanted
from agproxy.io.limits import LimitsFile
from agproxy.io.state import State
from agproxy.io.store import AccountStore

NOW = 1_800_000_000.0
INSERTS = [b"{", b"}", b"[", b"]", b",", b":", b'"', b"\xef\xbb\xbf", b"\xff", b"\0", b"1e999", b"[" * 2000, b"null"]


def written(pool):
    """A file's JSON, spoiled as JSON or by the byte, or no JSON at all."""
    good = (some.sampled_from(pool.values) | spoiled(pool)).map(lambda value: json.dumps(value).encode())
    return good | spoiled_bytes(good, INSERTS, most=2) | some.binary(max_size=20)


# --- accounts ---

KEY = "AIza" + "x" * 35
OAUTH = {"client_id": "i", "client_secret": "s", "refresh_token": "r", "token_uri": "https://a/t"}
UPSTREAM = {"kind": "vertex", "project": "p", "location": "global", "base_url": "https://b", "version": "v1"}
DOCUMENTS = Pool(
    [
        {"version": 1, "accounts": []},
        {
            "version": 1,
            "later": {"x": 1},
            "accounts": [
                {"id": "", "kind": "gemini_api_key", "label": "a", "email": None, "secret": {"api_key": KEY}},
                {"kind": "oauth_user", "secret": OAUTH, "enabled": False, "disabled_reason": "gone"},
                {
                    "kind": "command",
                    "secret": {"command": "print 'a b'", "timeout_seconds": 5, "life_seconds": 60, "proxy": "http://p"},
                    "upstream": UPSTREAM,
                    "weight": 2.5,
                    "priority": 1,
                    "models": ["gemini-*"],
                    "limits": {"in_flight": 4, "requests_per_minute": 60},
                    "project": "q",
                },
                {"kind": "gce_metadata", "id": "g", "secret": {"service_account": "default", "host": "h"}},
                {"kind": "service_account", "secret": {"client_email": "e@f", "private_key": "k"}},
                {"kind": "of tomorrow", "id": "t", "secret": {"x": [1]}},
            ],
        },
    ]
)


@hunt(60)
@given(written(DOCUMENTS))
def test_any_accounts_file_is_read_or_refused_and_written_as_it_was_read(data):
    with tempfile.TemporaryDirectory() as folder:
        warned = []
        store = AccountStore(Path(folder), warned.append)
        store.file.write_bytes(data)
        document, error = tried(store.load, errors=ConfigError)
        if error is not None:
            assert str(error).startswith(str(store.file))
            assert KEY not in str(error)
            return
        again = accounts.decode(accounts.encode(document))
        assert (again.accounts, again.more) == (document.accounts, document.more)
        entries = accounts.merge((), document)
        assert all(account.id for account in accounts.usable(entries))
        assert all(entry.name.isprintable() for entry in entries)


IMPORTS = Pool(
    [
        *DOCUMENTS.values,
        DOCUMENTS.values[1]["accounts"],
        {"type": "authorized_user", "quota_project_id": "q", **OAUTH},
        {"type": "service_account", "client_email": "e@f", "private_key": "k", "private_key_id": "1"},
    ]
)
keys = some.lists(some.sampled_from([KEY, "", "# x", "A=b", "'k'", " k ", "é", KEY + "\r"]) | texts, max_size=4).map(
    lambda lines: "\n".join(lines).encode("utf-8", "replace")
)


@hunt(60)
@given(written(IMPORTS) | keys)
def test_anything_imported_is_accounts_or_refused_in_words(data):
    found, error = tried(account_files.parse, data, "FILE", errors=ConfigError)
    if error is not None:
        assert str(error).startswith("FILE")
        assert KEY not in str(error)
        return
    document = account_files.join(accounts.Document(), found)
    assert accounts.decode(accounts.encode(document)).accounts == document.accounts


TOKENS = Pool(
    [
        {"access_token": "t", "expires_in": 3599, "token_type": "Bearer"},
        {"token": "t", "expiry": "2026-01-31T12:00:00Z"},
        {"access_token": "t", "token_expiry": "0001-01-01T00:00:00+23:59", "expiration": "9999-12-31T23:59:59-23:59"},
        {"error": "invalid_grant", "error_description": "Bad"},
        {"refresh_token": "r", "id_token": "a.eyJlbWFpbCI6ImFAYiJ9.c"},
        {"installed": {"client_id": "i", "auth_uri": "https://a"}},
    ]
)


@hunt(60)
@given(written(TOKENS), some.sampled_from([200, 400, 401, 500, 302]))
def test_any_answer_about_tokens_is_a_token_or_an_error(data, status):
    found, error = tried(credentials.decode_token, status, data, NOW, errors=GatewayError)
    assert error.message if found is None else found.until >= NOW
    command = credentials.Command(argv=("x",))
    found, error = tried(
        credentials.decode_output, data.decode("utf-8", "surrogateescape"), command, NOW, errors=GatewayError
    )
    assert error.message if found is None else isinstance(found.is_due(NOW), bool)
    found, error = tried(oauth.decode_tokens, status, data, errors=GatewayError)
    assert error.message if found is None else found[0]


@hunt(40)
@given(spoiled(TOKENS))
def test_any_client_of_an_oauth_is_read_or_refused(value):
    _, error = tried(oauth.read_client, value, errors=ValueError)
    assert error is None or "expected" in str(error)


# --- config.json ---


def in_json(setting):
    """A setting's default as config.json would have it; something where that is nothing."""
    given = {"map": {"a": "b|c"}, "keys": {"me": "k"}, "list": ["a"]}
    return given.get(setting.kind, setting.default)


CONFIGS = Pool([{}, *({setting.key: in_json(setting)} for setting in SETTINGS), {"proxy": {"api_key": "k"}}])


@hunt(60)
@given(written(CONFIGS))
def test_any_config_file_is_settings_or_one_error_that_names_the_file(data):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.json"
        file.write_bytes(data)
        values, error = tried(home_io.read_config, Path(folder), errors=ConfigError)
        if error is None:
            _, error = tried(load, {}, {}, values, str(file), errors=ConfigError)
        assert error is None or str(error).startswith(f"{file}: ")


# --- limits.json ---

LIMITS = Pool(
    [
        {
            "version": 1,
            "limits": [
                {"quota": "q", "model": "m", "until": NOW + 60, "cause": cause.name, "steps": 1, "message": "x"}
                for cause in Cause
            ],
        }
    ]
)
cool_downs = some.builds(
    CoolDown,
    until=some.floats(NOW + 10, NOW + 1e9),
    cause=some.sampled_from(Cause),
    steps=some.integers(1, 50),
    message=texts,
)


@hunt(60)
@given(written(LIMITS), some.dictionaries(some.tuples(texts, texts), cool_downs, max_size=3))
def test_any_limits_file_is_limits_or_none_and_what_is_written_is_read(data, known):
    with tempfile.TemporaryDirectory() as folder:
        file = LimitsFile(Path(folder))
        file.file.write_bytes(data)
        found = file.load(NOW)
        assert all(NOW < one.until < float("inf") for one in found.values())
        for one in found.values():
            following = next_cool_down(one, one.cause, UpstreamFailed("again"), NOW)
            assert following is None or following.until > NOW
            assert error_of(one, 5.0).message == one.message
        after = file.sync(found | known, NOW)
        assert LimitsFile(Path(folder)).load(NOW) == after == found | known


# --- state.sqlite3 ---


def database():
    """The bytes of a store with two responses, one going on from the other."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "state.sqlite3"
        first = records.Record(kind="response", id="a", body={"response": {"id": "a"}, "input": ["x" * 3000]})
        second = records.Record(kind="response", id="b", parent=("response", "a"), body={"response": {"id": "b"}})

        async def fill():
            state = State(file, max_age_seconds=1e9, max_bytes=1 << 30)
            await state.write("", [records.Put(record=first), records.Put(record=second)], NOW)
            await state.close()

        asyncio.run(fill())
        with sqlite3.connect(file) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
        connection.close()
        return file.read_bytes()


DATABASE = database()
READS = (
    records.Get(kind="response", id="b"),
    records.Chain(kind="response", id="b"),
    records.Children(kind="response", parent=("response", "a")),
)


def damages_of(good):
    """Bytes of a file that are changed, and where it ends then. Changes of a page's empty rest would not show."""
    marks = [place for place, byte in enumerate(good) if byte]
    return some.tuples(
        some.lists(some.tuples(some.sampled_from(marks), some.integers(0, 255)), max_size=4),
        some.just(len(good)) | some.integers(0, len(good)),
    )


def damaged(good, damage):
    changes, size = damage
    data = bytearray(good)
    for place, byte in changes:
        data[place] = byte
    return bytes(data[:size])


@hunt(25)
@given(damages_of(DATABASE))
def test_any_damaged_state_file_is_read_or_said_to_be_unusable_or_set_aside(damage):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "state.sqlite3"
        file.write_bytes(damaged(DATABASE, damage))

        async def use():
            state = State(file, max_age_seconds=1e9, max_bytes=1 << 30)
            try:
                for read in READS:
                    try:
                        (found,) = await state.read("", [read], NOW)
                    except StateUnavailable as error:
                        assert error.message  # noqa: PT017
                        assert "xxx" not in error.message  # noqa: PT017
                    else:
                        assert all(isinstance(record.body, dict) for record in found)
                record = records.Record(kind="response", id="c", body={"n": 1})
                try:
                    await state.write("", [records.Put(record=record)], NOW)
                    (found,) = await state.read("", [records.Get(kind="response", id="c")], NOW)
                except StateUnavailable:
                    return
                # A letter of the schema that has changed can hide it: no other record may come for it.
                assert [one.body for one in found] in ([], [{"n": 1}])
            finally:
                await state.close()

        asyncio.run(use())


@hunt(25)
@given(
    some.lists(some.tuples(texts, texts, some.dictionaries(texts, anything, max_size=2)), max_size=4), some.booleans()
)
def test_any_record_is_read_back_as_it_was(made, is_chain):
    async def use():
        state = State(None, max_age_seconds=1e9, max_bytes=1 << 30)
        try:
            for owner, identifier, body in made:
                record = records.Record(kind="k", id=identifier, body=body)
                error = None
                try:
                    await state.write(owner, [records.Put(record=record)], NOW)
                except StateUnavailable as caught:
                    error = caught
                if error is None:
                    read = (records.Chain if is_chain else records.Get)(kind="k", id=identifier)
                    (found,) = await state.read(owner, [read], NOW)
                    assert [json.dumps(one.body) for one in found] == [json.dumps(body)]
        finally:
            await state.close()

    asyncio.run(use())


# --- journal.sqlite3 ---

numbers = some.integers(0, 2**70) | some.integers(0, 9)
ENTRY = Entry(
    id="req_1",
    at=NOW,
    method="POST",
    path="/v1/chat/completions",
    status=200,
    outcomes=("a=429",),
    steps=({"at": NOW, "event": "picked", "account": "a"},),
)
entries = some.builds(
    Entry,
    id=texts.map(repr),
    at=some.just(NOW),
    method=some.just("GET"),
    path=some.just("/"),  # both come from a line of HTTP
    client=some.none() | texts,
    model=texts,
    status=some.integers(100, 599),
    error=some.none() | some.just("empty_answer"),  # codes are ours
    message=some.none() | texts,
    prompt_tokens=numbers,
    output_tokens=numbers,
    notices=some.lists(texts, max_size=2).map(tuple),
    outcomes=some.lists(texts, max_size=2).map(tuple),
    steps=some.lists(
        some.dictionaries(texts, anything, max_size=2).map(
            lambda more: more | {"at": NOW, "model": "m", "event": "failed", "account": "a"}
        ),
        max_size=2,
    ).map(tuple),
)


def keep(folder, *made):
    """What a journal in a folder then holds."""

    async def write():
        journal = JournalFile(Path(folder) / "journal.sqlite3", max_age_seconds=1e9, max_bytes=1 << 30)
        for entry in made:
            journal.add(entry)
        await journal.close()
        assert journal.dropped == 0

    asyncio.run(write())
    with Reader(Path(folder) / "journal.sqlite3") as reader:
        return [found.entry for found in reader.latest(Wanted(), 99)]


@hunt(10)
@given(some.lists(entries, min_size=1, max_size=3))
def test_any_entry_is_kept_and_can_be_read_and_told(made):
    with tempfile.TemporaryDirectory() as folder:
        found = keep(folder, ENTRY, *made)
    assert found[0] == ENTRY
    assert [entry.status for entry in found[1:]] == [entry.status for entry in made]
    for entry, wanted in zip(found[1:], made, strict=True):
        assert "\n" not in text_line(entry) + json_line(entry)
        assert json.dumps(entry.steps) == json.dumps(wanted.steps)


def journal():
    with tempfile.TemporaryDirectory() as folder:
        keep(folder, ENTRY, replace(ENTRY, id="req_2", notices=("x",)))
        file = Path(folder) / "journal.sqlite3"
        with sqlite3.connect(file) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
        connection.close()
        return file.read_bytes()


JOURNAL = journal()


@hunt(25)
@given(damages_of(JOURNAL))
def test_any_damaged_journal_is_read_or_refused_in_words_and_goes_on(damage):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "journal.sqlite3"
        file.write_bytes(damaged(JOURNAL, damage))
        with Reader(file) as reader:
            for read in (
                lambda: reader.latest(Wanted(only_errors=True, model="g*", client="\ud800"), 5),
                lambda: reader.latest(Wanted(), 5),
                lambda: reader.find("req"),
                lambda: reader.find("\ud800"),
                reader.last_place,
                lambda: reader.bodies(100),
            ):
                _, error = tried(read, errors=ConfigError)
                assert error is None or str(error).startswith(str(file))

        async def write():
            made = JournalFile(file, max_age_seconds=1e9, max_bytes=1 << 30)
            made._hurry.set()  # no waiting for others
            made.add(ENTRY)
            await made.close()

        asyncio.run(write())


def test_the_pools_are_good_files():
    """A spoiled file shows something only where the good one is read."""
    for value in DOCUMENTS.values:
        accounts.decode(json.dumps(value).encode())
    for value in IMPORTS.values:
        assert account_files.parse(json.dumps(value).encode(), "FILE") is not None
    for value in CONFIGS.values:
        load({}, {}, value, "config.json")
    assert len(from_rows(LIMITS.values[0]["limits"], NOW)) == 1
