"""The document of keys.json: what it may say, and that nothing of it is lost."""

import json

import pytest

from agproxy import jsontext
from agproxy.documents import BadDocument, NewerDocument
from agproxy.keys import Document, Key, Limits, Ring, check_name, decode, digest_of, encode
from agproxy.masking import hide_secrets

DIGEST = "0" * 63 + "1"


def file(*rows, **more):
    return json.dumps({"version": 1, "keys": list(rows)} | more).encode()


def row(**more):
    return {"name": "laptop", "sha256": DIGEST} | more


def test_a_document_comes_back_as_it_was_with_what_is_not_known():
    key = Key(
        name="laptop",
        digest=DIGEST,
        created=1,
        expires=2,
        is_revoked=True,
        models=("a*",),
        limits=Limits(tokens_per_day=5),
        more={"note": ["x"]},
    )
    document = Document(keys=(key, Key(name="b", digest="f" * 64)), more={"later": 1})

    assert decode(encode(document)) == document
    assert decode(file()) == Document()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"[]", "object was expected"),
        (b"{}", "version"),
        (b'{"version": true, "keys": []}', "version"),
        (b'{"version": 1}', "keys: a list"),
        (file(1), r"keys\[0\]"),
        (file(row(name="")), r"keys\[0\].name"),
        (file(row(name="admin")), r"keys\[0\].name"),
        (file(row(name="key1")), r"keys\[0\].name"),
        (file(row(name="a b")), r"keys\[0\].name"),
        (file(row(sha256="x" * 64)), "sha256"),
        (file(row(sha256=DIGEST + "0")), "sha256"),
        (file(row(expires="2027")), "expires"),
        (file(row(created=1.5)), "created"),
        (file(row(revoked=1)), "revoked"),
        (file(row(models="a")), "models"),
        (file(row(models=[""])), "models"),
        (file(row(limits=[])), "limits"),
        (file(row(limits={"requests_per_hour": 1})), "limits"),
        (file(row(limits={"requests_per_day": -1})), "requests_per_day"),
        (file(row(limits={"requests_per_day": True})), "requests_per_day"),
        (file(row(), row(sha256="2" * 64)), r"keys\[1\].name.*keys\[0\]"),
        (file(row(), row(name="b")), r"keys\[1\].sha256.*keys\[0\]"),
    ],
)
def test_what_is_wrong_is_told_by_its_path(data, words):
    with pytest.raises(BadDocument, match=words):
        decode(data)


def test_a_file_of_a_later_version_is_refused():
    with pytest.raises(NewerDocument, match="update"):
        decode(jsontext.dumps({"version": 2, "keys": []}))


def test_a_key_is_found_by_itself_alone():
    given = "agp-" + "a" * 43
    key = Key(name="laptop", digest=digest_of(given))
    ring = Ring([key])

    assert ring.find(given) is key
    for other in (
        given + "a",
        given[:-1],
        given.upper(),
        digest_of(given),
        "agp-" + digest_of(given),
        "",
        "agp-\u00e9",
    ):
        assert ring.find(other) is None


@pytest.mark.parametrize(
    ("patterns", "names", "may"),
    [
        ((), ("gemini-2.5-pro",), True),
        (("gemini-2.5-*",), ("gemini-2.5-pro",), True),
        (("gemini-2.5-*",), ("gpt-4o", "gemini-2.5-flash"), True),
        (("GPT-4o",), ("gpt-4O", "gemini-2.5-flash"), True),
        (("gemini-2.5-flash",), ("gemini-2.5-flash-lite",), False),
        (("a", "b*"), ("c", "d"), False),
    ],
)
def test_a_model_may_be_used_that_a_pattern_names(patterns, names, may):
    assert Key(name="k", digest=DIGEST, models=patterns).may_use(*names) is may


@pytest.mark.parametrize("name", ["", "a b", "-a", "a" * 65, "admin", "key1", "key22", "ä", "a\n", "taken"])
def test_names_that_no_key_may_have(name):
    with pytest.raises(ValueError, match="name"):
        check_name(name, ["taken"])


@pytest.mark.parametrize("name", ["a", "anna@laptop", "ci-1.x_y", "key", "admins", "a" * 64])
def test_names_that_a_key_may_have(name):
    check_name(name, ["taken"])


def test_a_key_that_a_user_types_somewhere_is_not_repeated():
    given = "agp-" + "abcDEF123_-" * 4

    assert given not in hide_secrets(f"unknown argument {given}")
