"""What each kind of credential needs, and when its token is renewed; on a clock that the test moves."""

import asyncio
import base64
import json
import shutil
import subprocess
import sys
from urllib.parse import parse_qsl

import pytest
from fakes import Scripted

from agproxy import credentials
from agproxy.account import Account
from agproxy.credentials import Command, Metadata, OAuthUser, ServiceAccount, Token, decode_output, decode_token
from agproxy.errors import CredentialRevoked, UpstreamAuthFailed, UpstreamFailed
from agproxy.io.egress import Egress, Place
from agproxy.io.tokens import Tokens, ask_metadata, run, sign_rs256

NOW = 1_800_000_000.0
USER = OAuthUser(client_id="id", client_secret="s3cret", refresh_token="r3fresh")


def answer(status, **value):
    return decode_token(status, json.dumps(value).encode(), NOW)


def test_a_life_beyond_all_numbers_is_taken_as_the_usual_one():
    assert answer(200, access_token="tok", expires_in=10**400).until == NOW + 3000


# --- reading ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "secret", "credential"),
    [
        ("oauth_user", {"client_id": "id", "client_secret": "s3cret", "refresh_token": "r3fresh"}, USER),
        ("command", {"command": "gcloud auth 'print access'"}, Command(argv=("gcloud", "auth", "print access"))),
        ("command", {"command": ["x"], "timeout_seconds": 5}, Command(argv=("x",), timeout_seconds=5.0)),
        ("gce_metadata", {}, Metadata()),
        (
            "service_account",
            {"client_email": "a@b", "private_key": "K"},
            ServiceAccount(client_email="a@b", private_key="K"),
        ),
        ("gemini_api_key", {"api_key": "k"}, None),
        ("of_tomorrow", {}, None),
    ],
)
def test_each_kind_is_read_from_the_file(kind, secret, credential):
    assert credentials.read(kind, secret) == credential


@pytest.mark.parametrize(
    ("kind", "secret", "words"),
    [
        ("oauth_user", {}, "client_id: text"),
        ("oauth_user", {"client_id": "i", "refresh_token": 5}, "refresh_token: text"),
        ("oauth_user", {"client_id": "i", "refresh_token": "r", "token_uri": "file:///x"}, "token_uri: an https"),
        ("command", {"command": ""}, "command: a command line"),
        ("command", {"command": "'"}, "command: No closing"),
        ("command", {"command": ["x", 5]}, "command: a command line"),
        ("command", {"command": "x", "timeout_seconds": 0}, "timeout_seconds: a number"),
        ("command", {"command": "x", "life_seconds": 10**400}, "life_seconds: a number"),
        ("service_account", {"client_email": "a@b"}, "private_key: text"),
    ],
)
def test_what_is_missing_or_wrong_is_named(kind, secret, words):
    with pytest.raises(ValueError, match=words):
        credentials.read(kind, secret)


def test_google_s_own_files_are_taken():
    adc = {"type": "authorized_user", "client_id": "i", "client_secret": "c", "refresh_token": "r", "account": ""}
    assert credentials.read_file(adc) == ("oauth_user", {"client_id": "i", "client_secret": "c", "refresh_token": "r"})
    with pytest.raises(ValueError, match="authorized_user or service_account"):
        credentials.read_file({"type": "external_account"})


def test_secrets_are_not_in_any_repr_and_ids_do_not_tell_them():
    told = repr(
        (USER, Command(argv=("p4ss",)), ServiceAccount(client_email="a", private_key="p4ss"), credentials.id_of(USER))
    )

    assert not any(word in told for word in ("s3cret", "r3fresh", "p4ss"))
    assert credentials.id_of(USER) == credentials.id_of(
        OAuthUser(client_id="id", client_secret="x", refresh_token="r3fresh")
    )


# --- answers of token endpoints --------------------------------------------------------------------------------


def test_a_token_says_when_it_ends():
    token = answer(200, access_token="t", expires_in=3600)

    assert (token.value, token.until, token.is_due(NOW + 3299), token.is_due(NOW + 3300)) == (
        "t",
        NOW + 3600,
        False,
        True,
    )
    assert (token.is_over(NOW + 3589), token.is_over(NOW + 3590)) == (False, True)


def test_a_short_token_is_not_renewed_all_the_time():
    token = answer(200, access_token="t", expires_in=20)

    assert [token.is_due(NOW + seconds) for seconds in (0, 15, 16)] == [False, False, True]


@pytest.mark.parametrize(
    ("status", "value", "kind", "words"),
    [
        (400, {"error": "invalid_grant", "error_description": "revoked"}, CredentialRevoked, "invalid_grant: revoked"),
        (401, {"error": "invalid_client"}, UpstreamAuthFailed, "invalid_client"),
        (403, {}, UpstreamAuthFailed, "403"),
        (500, {}, UpstreamFailed, "500"),
        (429, {}, UpstreamFailed, "429"),
        (200, {"expires_in": 5}, UpstreamFailed, "no access token"),
        (200, {"access_token": "with space"}, UpstreamFailed, "no access token"),
    ],
)
def test_refusals_of_a_token_endpoint(status, value, kind, words):
    with pytest.raises(kind, match=words) as caught:
        answer(status, **value)
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("output", "until"),
    [
        ("tok\n", NOW + 3000),
        ('{"access_token": "tok", "expires_in": 60}', NOW + 60),
        ('{"token": "tok", "expiry": "2027-01-15T08:01:00Z"}', NOW + 60),
        ('{"access_token": "tok", "token_expiry": "2027-01-15T08:01:00"}', NOW + 60),
        ('{"access_token": "tok", "expiry": "soon"}', NOW + 3000),
        ('{"access_token": "tok", "expires_in": 1%s}' % ("0" * 400), NOW + 3000),
    ],
)
def test_what_a_command_prints_is_a_token_or_json(output, until):
    token = decode_output(output, Command(argv=("x",)), NOW)

    assert (token.value, token.until) == ("tok", until)


@pytest.mark.parametrize("output", ["", "two words", "{", "a\nb", '{"access_token": 5}'])
def test_what_is_no_token_is_told_and_not_quoted(output):
    with pytest.raises(UpstreamAuthFailed, match="no access token was in it"):
        decode_output(output, Command(argv=("x",)), NOW)


def test_a_service_account_signs_its_claim():
    service = ServiceAccount(client_email="me@p.iam", private_key="PEM", private_key_id="kid-1")
    signed = []

    def sign(key, data):
        signed.append((key, data))
        return b"signature"

    form = dict(parse_qsl(credentials.assertion_call(service, sign, NOW, "ua").body.decode()))
    head, claim, signature = (base64.urlsafe_b64decode(part + "==") for part in form["assertion"].split("."))
    assert json.loads(head) == {"alg": "RS256", "typ": "JWT", "kid": "kid-1"}
    assert json.loads(claim) == {
        "iss": "me@p.iam",
        "scope": credentials.SCOPE,
        "aud": credentials.TOKEN_URL,
        "iat": int(NOW),
        "exp": int(NOW) + 3600,
    }
    assert signature == b"signature"
    assert signed == [("PEM", form["assertion"].rpartition(".")[0].encode())]


def test_the_signature_is_one_that_openssl_takes(tmp_path):
    pytest.importorskip("cryptography", reason="cryptography is not installed")
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl command here to check the signature with")
    key, public, data, signature = (tmp_path / name for name in ("key", "public", "data", "signature"))
    make = ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", key]
    subprocess.run([openssl, *make], check=True, capture_output=True)
    subprocess.run([openssl, "pkey", "-in", key, "-pubout", "-out", public], check=True, capture_output=True)
    data.write_bytes(b"head.claim")
    signature.write_bytes(sign_rs256(key.read_text(), b"head.claim"))

    verify = [openssl, "dgst", "-sha256", "-verify", public, "-signature", signature, data]
    assert subprocess.run(verify, check=False, capture_output=True).returncode == 0
    with pytest.raises(UpstreamAuthFailed, match="cannot be read"):
        sign_rs256("PEM", b"data")


def test_without_the_package_for_signatures_the_other_way_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.hashes", None)
    monkeypatch.setitem(sys.modules, "cryptography", None)

    with pytest.raises(UpstreamAuthFailed, match="print-access-token"):
        sign_rs256("PEM", b"data")


# --- fetching --------------------------------------------------------------------------------------------------


class Endpoint:
    def __init__(self, *answers):
        self.answers = list(answers)
        self.calls = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def send(self, call):
        self.calls.append(call)
        await self.gate.wait()
        return self.answers.pop(0)


def ok(value, seconds=3600):
    return Scripted.of({"access_token": value, "expires_in": seconds})


ACCOUNT = Account(id="oauth-1", credential=USER, proxy="http://proxy.example:8080")


async def settle():
    for _ in range(10):
        await asyncio.sleep(0)


def test_many_requests_share_one_fetch_and_one_that_leaves_does_not_end_it():
    async def main():
        endpoint = Endpoint(ok("one"))
        endpoint.gate.clear()
        tokens = Tokens(endpoint.send, lambda: NOW, Egress())
        tasks = [asyncio.create_task(tokens.token(ACCOUNT)) for _ in range(20)]
        await settle()
        tasks[0].cancel()
        await settle()
        endpoint.gate.set()
        assert set(await asyncio.gather(*tasks[1:])) == {"one"}
        return endpoint.calls

    (call,) = asyncio.run(main())
    assert call.proxy == ACCOUNT.proxy
    assert dict(call.headers)["user-agent"].startswith("agproxy/")


def test_a_token_that_is_due_is_renewed_beside_the_requests():
    async def main():
        now = [NOW]
        endpoint = Endpoint(ok("one"), ok("two"))
        tokens = Tokens(endpoint.send, lambda: now[0], Egress())
        found = [await tokens.token(ACCOUNT)]
        now[0] += 3400
        found.append(await tokens.token(ACCOUNT))
        await settle()
        found.append(await tokens.token(ACCOUNT))
        return found

    assert asyncio.run(main()) == ["one", "one", "two"]


def test_a_renewal_that_fails_leaves_the_old_token_until_its_end():
    async def main():
        now = [NOW]
        endpoint = Endpoint(ok("one"), Scripted.of({}, 500), Scripted.of({"error": "invalid_grant"}, 400))
        tokens = Tokens(endpoint.send, lambda: now[0], Egress())
        await tokens.token(ACCOUNT)
        now[0] += 3400
        assert await tokens.token(ACCOUNT) == "one"
        await settle()
        now[0] += 195
        with pytest.raises(CredentialRevoked):
            await tokens.token(ACCOUNT)

    asyncio.run(main())


def test_a_forgotten_token_is_fetched_anew():
    async def main():
        tokens = Tokens(Endpoint(ok("one"), ok("two")).send, lambda: NOW, Egress())
        first = await tokens.token(ACCOUNT)
        tokens.forget(ACCOUNT)
        return first, await tokens.token(ACCOUNT)

    assert asyncio.run(main()) == ("one", "two")


def test_a_revoked_credential_is_not_asked_for_again_but_a_new_one_is():
    async def main():
        endpoint = Endpoint(Scripted.of({"error": "invalid_grant"}, 400), ok("new"))
        tokens = Tokens(endpoint.send, lambda: NOW, Egress())
        for _ in range(2):
            with pytest.raises(CredentialRevoked, match="invalid_grant"):
                await tokens.token(ACCOUNT)
        assert len(endpoint.calls) == 1
        fresh = OAuthUser(client_id="id", client_secret="s", refresh_token="another")
        return await tokens.token(Account(id="oauth-1", credential=fresh))

    assert asyncio.run(main()) == "new"


def test_what_is_under_way_ends_with_the_gateway():
    async def main():
        endpoint = Endpoint()
        endpoint.gate.clear()
        tokens = Tokens(endpoint.send, lambda: NOW, Egress())
        task = asyncio.create_task(tokens.token(ACCOUNT))
        await settle()
        await tokens.close()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


PYTHON = sys.executable


def test_a_command_that_hangs_is_stopped():
    command = Command(argv=(PYTHON, "-c", "import time; time.sleep(600)"), timeout_seconds=0.2)

    with pytest.raises(UpstreamAuthFailed, match=r"was stopped: it took over 0\.2 s"):
        asyncio.run(run(command))


def test_a_command_that_is_not_there_is_told():
    with pytest.raises(UpstreamAuthFailed, match="no-such-program cannot be run: No such file"):
        asyncio.run(run(Command(argv=("/nowhere/no-such-program", "s3cret"))))


def test_where_there_is_no_metadata_server_that_is_told():
    with pytest.raises(UpstreamAuthFailed, match="is this a machine on Google Cloud"):
        asyncio.run(ask_metadata(Metadata(host="127.0.0.1:1"), Egress([Place(host="127.0.0.1", port=1, why=())])))


def test_tokens_are_not_in_their_repr():
    assert "t0ken" not in repr(Token(value="t0ken", until=1.0, had=0.0))
