"""The accounts file as values: what is read, what is refused and in which words, what a change keeps."""

import json

import pytest

from agproxy import accounts, masking, pool
from agproxy.accounts import Document
from agproxy.cli import account_files
from agproxy.documents import BadDocument, NewerDocument
from agproxy.errors import ConfigError

KEY = "AIzaSyExample-0123456789abcdefghijklmn3f9k"
OTHER = "AIzaSyExample-other-0123456789abcdefghij"
NO_PROXIES = ("http://:80", "http://proxy:http", "https://proxy:0", "socks5://[::1", "ftp://proxy", "proxy:3128", 7)


def row(key=KEY, **more):
    return {"kind": "gemini_api_key", "label": "work", "enabled": True, "secret": {"api_key": key}} | more


def text(*rows, **more):
    return json.dumps({"version": 1, "accounts": list(rows)} | more).encode()


def document(*keys):
    made = Document()
    for key in keys:
        made = accounts.add(made, key)
    return made


# --- text <-> document


def test_an_account_is_read_as_it_is_written():
    made = accounts.add(Document(), KEY, label="práce", email="me@example.org", is_disabled=True)

    assert accounts.decode(accounts.encode(made)) == made
    assert json.loads(accounts.encode(made)) == {
        "version": 1,
        "accounts": [
            {
                "id": pool.key_id(KEY),
                "kind": "gemini_api_key",
                "label": "práce",
                "email": "me@example.org",
                "enabled": False,
                "secret": {"api_key": KEY},
            }
        ],
    }
    assert "práce" in accounts.encode(made).decode(), "people look into the file"


def test_what_this_version_does_not_know_is_kept():
    secret, limits = {"file": "x"}, {"rpm": 1}
    strange = {"id": "vertex-1", "kind": "workload_identity", "secret": secret, "weight": 3, "limits": limits}
    known = row(secret={"api_key": KEY, "note": "n"}, project="p-1", models=["a*"])

    read = accounts.decode(text(known, strange, defaults={"proxy": None}, odd="\ud800"))
    changed = accounts.enable(accounts.add(read, KEY, label="new"), "vertex-1", False)
    written = json.loads(accounts.encode(changed))

    assert written["defaults"] == {"proxy": None}
    assert written["odd"] == "\ud800"
    assert written["accounts"][0] == known | {"id": pool.key_id(KEY), "label": "new", "email": None}
    assert written["accounts"][1] == strange | {"enabled": False, "label": "", "email": None}


def test_the_id_follows_from_the_key():
    read = accounts.decode(text(row(id="mine"), row(OTHER)))

    assert [record.id for record in read.accounts] == [pool.key_id(KEY), pool.key_id(OTHER)]
    assert read.notices == (f"accounts[0].id is not that of its key: it is taken as {pool.key_id(KEY)}",)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (b"\0" * 300, "not JSON"),
        (b"\xff\xfe{}", "not JSON"),
        (text(row())[:-9], "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "object"),
        (b"{}", "version"),
        (b'{"version": true, "accounts": []}', "version"),
        (b'{"version": 0, "accounts": []}', "version"),
        (b'{"version": "1", "accounts": []}', "version"),
        (b'{"version": 1}', "accounts: a list"),
        (text("x"), r"accounts\[0\]: an object"),
        (text(row(kind=None)), r"accounts\[0\]\.kind"),
        (text(row(label=7)), r"accounts\[0\]\.label"),
        (text(row(email=[])), r"accounts\[0\]\.email"),
        (text(row(id=7)), r"accounts\[0\]\.id"),
        (text(row(enabled="yes")), r"accounts\[0\]\.enabled"),
        (text(row(secret=KEY)), r"accounts\[0\]\.secret: an object"),
        (text(row(secret={})), r"accounts\[0\]\.secret\.api_key"),
        *(
            (text(row(secret={"api_key": KEY, "proxy": url})), r"accounts\[0\]\.secret\.proxy: a URL")
            for url in NO_PROXIES
        ),
        (text(row("two words")), r"accounts\[0\]\.secret\.api_key"),
        (text(row(), row()), r"accounts\[1\]\.id: .* is that of accounts\[0\] too"),
        (text({"kind": "oauth", "secret": {}}), r"accounts\[0\]\.id"),
    ],
)
def test_what_is_no_accounts_document_is_refused_with_its_place(data, said):
    with pytest.raises(BadDocument, match=said) as caught:
        accounts.decode(data)

    assert KEY not in str(caught.value)
    is_alone = caught.value.__context__ is None or caught.value.__suppress_context__
    assert is_alone, "the parser's own error holds the whole text, and a traceback would show it"


def test_a_newer_version_is_refused_not_called_broken():
    with pytest.raises(NewerDocument, match="version 2, and this agproxy knows 1: update"):
        accounts.decode(b'{"version": 2, "accounts": "somewhere else"}')


def test_no_repr_tells_a_secret():
    read = accounts.decode(text(row(token=KEY), token=KEY))
    entries = accounts.merge([pool.Account(id="x", key=KEY, label="GEMINI_API_KEY")], read)

    assert KEY not in repr(read) + repr(entries) + repr(accounts.usable(entries))


# --- what users type


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("", "expected"),
        ("two words", "spaces"),
        ("kéy", "beyond ASCII"),
        ("key\x07", "beyond ASCII"),
        ('"quoted"', "quotes"),
        ("one,two", "commas"),
        (f"GEMINI_API_KEY={KEY}", "NAME=value"),
        (f"export GEMINI_API_KEY={KEY}", "NAME=value"),
        ("x" * 5000, "longer"),
        (None, "expected"),
    ],
)
def test_what_cannot_be_a_key_is_refused_without_repeating_it(typed, said):
    with pytest.raises(ValueError, match=said) as caught:
        accounts.check_key(typed)

    assert KEY not in str(caught.value)


def test_a_label_is_short_printable_and_no_key():
    assert accounts.check_label(" práce 日本 ") == "práce 日本"
    for label in ("a\nb", "\x1b[31m", "x" * 101, KEY, f"mine {KEY}"):
        with pytest.raises(ValueError, match=r"expected|looks like a key"):
            accounts.check_label(label)


def test_an_email_has_one_at_sign_and_no_spaces():
    assert accounts.check_email(" me@example.org ") == "me@example.org"
    assert accounts.check_email("") == ""
    for email in ("me", "@", "a@b@c", "a b@c", "a@b\r\nX: y", "a" * 250 + "@b.cz"):
        with pytest.raises(ValueError, match="expected"):
            accounts.check_email(email)


def test_a_mask_shows_eight_characters_of_a_long_key_and_nothing_of_a_short_one():
    assert masking.mask(KEY) == "AIza...3f9k"
    assert masking.mask("short-key-of-23-letters") == "..."
    assert masking.mask("") == "..."


@pytest.mark.parametrize(
    "secret",
    [KEY, "AQ.Ab8RN6Kexample_token-value", "ya29.a0AfH6SMBexample", "sk-proj-abcdefgh1234", "1//0gExampleRefresh",
     "aB3" * 12],
)  # fmt: skip
def test_secrets_are_hidden_wherever_they_stand(secret):
    for around in ("{}", "--key={}", "invalid choice: '{}' (choose)", "a {} b"):
        hidden = masking.hide_secrets(around.format(secret))
        assert secret not in hidden
        assert around.split("{}")[0] in hidden


def test_common_words_are_not_hidden():
    plain = "--max-upstream-connections gemini-2.5-flash-lite key-8f1f0ac3d2 /home/me/.config/agproxy task-force-alpha"
    assert masking.hide_secrets(plain) == plain


# --- changes


def test_adding_a_key_again_changes_only_what_is_said():
    made = accounts.add(Document(), KEY, label="one", email="a@b.cz")

    assert accounts.add(made, KEY) == made
    again = accounts.add(made, KEY, label="two", is_disabled=True).accounts
    assert [(r.label, r.email, r.is_enabled) for r in again] == [("two", "a@b.cz", False)]
    assert accounts.add(made, KEY, email="").accounts[0].email is None


def test_an_account_can_be_taken_out_of_use_and_out_of_the_file():
    made = document(KEY, OTHER)

    off = accounts.enable(made, pool.key_id(KEY), False)
    assert [record.is_enabled for record in off.accounts] == [False, True]
    assert accounts.enable(off, pool.key_id(KEY), True) == made
    assert accounts.remove(made, pool.key_id(KEY)) == document(OTHER)
    assert accounts.remove(made, "none") == accounts.enable(made, "none", False) == made


# --- file and environment together


def test_a_key_in_file_and_environment_is_one_account_and_the_file_decides():
    environment = pool.from_environment({"GEMINI_API_KEY": f"{KEY},{OTHER},third"})
    stored = accounts.add(Document(), "fourth", label="file only")
    stored = accounts.add(stored, OTHER, label="mine", email="me@example.org")
    stored = accounts.add(stored, KEY, is_disabled=True)

    entries = accounts.merge(environment, stored)
    assert [(entry.record.label, entry.variable, entry.is_stored) for entry in entries] == [
        ("GEMINI_API_KEY", "GEMINI_API_KEY", True),
        ("mine", "GEMINI_API_KEY", True),
        ("GEMINI_API_KEY", "GEMINI_API_KEY", False),
        ("file only", None, True),
    ]
    served = accounts.usable(entries)
    assert [account.key for account in served] == [OTHER, "third", "fourth"]
    assert served[0] == pool.Account(id=pool.key_id(OTHER), key=OTHER, label="mine", email="me@example.org")


def test_kinds_of_tomorrow_are_shown_but_not_used():
    entries = accounts.merge((), accounts.decode(text({"id": "v", "kind": "vertex", "secret": {"api_key": KEY}})))

    assert [entry.is_known for entry in entries] == [False]
    assert accounts.usable(entries) == ()


def test_an_account_is_found_by_id_label_or_the_beginning_of_its_id():
    made = accounts.add(document(KEY, OTHER), KEY, label="work")
    entries = accounts.merge((), made)
    id = pool.key_id(KEY)

    for word in (id, "work", id[:-3]):
        assert accounts.find(entries, word).record.id == id


def test_a_word_that_means_no_account_or_several_is_told():
    entries = accounts.merge((), accounts.add(accounts.add(Document(), KEY, label="w"), OTHER, label="w\x1b[31m"))

    with pytest.raises(ConfigError, match="means more than one account: key-") as caught:
        accounts.find(entries, "key-")
    assert "\x1b" not in str(caught.value)
    for word in ("", "nope", "\x1b[31m", KEY):
        with pytest.raises(ConfigError, match="there is no account") as caught:
            accounts.find(entries, word)
        assert KEY not in str(caught.value)
        assert "\x1b" not in str(caught.value)


# --- import


ADC = {"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "r"}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (ADC | {"quota_project_id": "https://a"}, "FILE: quota_project_id: letters, digits"),
        (ADC | {"type": ["authorized_user"]}, "FILE: version: a whole number"),
        ([row() | {"weight": 10**400}], r"FILE: accounts\[0\].weight: a number above 0"),
    ],
)
def test_what_could_not_be_read_again_is_not_imported(value, words):
    with pytest.raises(ConfigError, match=words):
        account_files.parse(json.dumps(value).encode(), "FILE")


def test_an_import_that_is_nested_without_end_is_told():
    with pytest.raises(ConfigError, match="FILE: not JSON: nested too deeply"):
        account_files.parse(b"[" * 100_000, "FILE")
