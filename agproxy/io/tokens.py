"""Access tokens for accounts without an API key: fetched, kept in memory, and renewed before they end.

One fetch an account at a time, however many requests wait for it. A token that is due but still serves is renewed
beside the requests, which go on with the old one. Tokens are never written anywhere. What each kind needs is in
`credentials`; here are the token endpoint, the user's command, and the metadata server.
"""

import asyncio
import contextlib
import importlib
import logging
import os
from collections.abc import Callable
from dataclasses import replace

import h11

from .. import __version__, credentials
from ..account import Account, hide
from ..credentials import Command, Credential, Metadata, OAuthUser, ServiceAccount, Token
from ..errors import CredentialRevoked, GatewayError, UpstreamAuthFailed, UpstreamFailed
from ..http11 import Call, Send
from ..masking import hide_secrets
from .dial import open_plain
from .egress import Egress

log = logging.getLogger("agproxy.tokens")

_USER_AGENT = f"agproxy/{__version__}"
_METADATA_SECONDS = 5.0
_MOST_BYTES = 65536
_MOST_SHOWN = 300

Sign = Callable[[str, bytes], bytes]


class Tokens:
    """The tokens of all accounts. `send` reaches token endpoints, `egress` says where else a connection may lead,
    `sign` makes RS256 signatures."""

    def __init__(self, send: Send, now: Callable[[], float], egress: Egress, sign: Sign | None = None) -> None:
        self._send = send
        self._egress = egress
        self._now = now
        self._sign = sign or sign_rs256
        self._tokens: dict[str, Token] = {}
        self._fetches: dict[str, asyncio.Task[Token]] = {}
        self._revoked: dict[Credential | None, str] = {}

    async def token(self, account: Account) -> str:
        """A token that serves now. Raises UpstreamAuthFailed, CredentialRevoked among them, or UpstreamFailed."""
        known = self._tokens.get(account.id)
        now = self._now()
        if known is not None and not known.is_over(now):
            if known.is_due(now):
                self._fetch(account)
            return known.value
        revoked = self._revoked.get(account.credential)
        if revoked is not None:  # whoever still holds the account need not ask the endpoint once more
            raise CredentialRevoked(revoked)
        # Shielded: a request that goes away leaves the fetch to the others that wait for it.
        return (await asyncio.shield(self._fetch(account))).value

    def known(self, account: Account) -> str:
        """The token that was had last, "" for none."""
        token = self._tokens.get(account.id)
        return token.value if token is not None else ""

    def forget(self, account: Account) -> None:
        """Upstream refused an account's token: the next one is fetched anew."""
        self._tokens.pop(account.id, None)

    async def close(self) -> None:
        """End what is under way."""
        tasks = list(self._fetches.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _fetch(self, account: Account) -> asyncio.Task[Token]:
        """The fetch for an account: the one under way, or a new one."""
        task = self._fetches.get(account.id)
        if task is None:
            task = asyncio.create_task(self._fetch_now(account), name=f"token of {account.id}")
            self._fetches[account.id] = task
            task.add_done_callback(lambda done: self._done(account, done))
        return task

    def _done(self, account: Account, task: asyncio.Task[Token]) -> None:
        del self._fetches[account.id]
        error = None if task.cancelled() else task.exception()
        if error is not None:  # who waits for it gets it too; a renewal beside the requests has nobody else to tell
            log.warning("account %s: no token: %s", account.id, error)

    async def _fetch_now(self, account: Account) -> Token:
        try:
            token = self._tokens[account.id] = await self._had(account)
        except CredentialRevoked as error:
            self._revoked[account.credential] = error.message
            raise
        return token

    async def _had(self, account: Account) -> Token:
        """A new token, by the account's kind."""
        match account.credential:
            case OAuthUser() as user:
                token = await self._ask(account, credentials.refresh_call(user, _USER_AGENT))
            case ServiceAccount() as service:
                sign = self._sign
                token = await self._ask(account, credentials.assertion_call(service, sign, self._now(), _USER_AGENT))
            case Command() as command:
                token = credentials.decode_output(await run(command), command, self._now())
            case Metadata() as metadata:
                status, body = await ask_metadata(metadata, self._egress)
                token = credentials.decode_token(status, body, self._now())
            case None:
                raise UpstreamAuthFailed(f"account {account.id} has no credential")
        return token

    async def _ask(self, account: Account, call: Call) -> Token:
        answer = await self._send(replace(call, proxy=account.proxy))
        try:
            body = await answer.read()
        finally:
            answer.close()
        try:
            return credentials.decode_token(answer.status, body, self._now())
        except GatewayError as error:  # the endpoint may quote what it was given
            error.reword(hide(error.message, account.secrets))
            raise


# --- the user's command ----------------------------------------------------------------------------------------


async def run(command: Command) -> str:
    """What a command prints. Raises UpstreamAuthFailed that shows the end of its standard error and nothing else."""
    name = os.path.basename(command.argv[0])
    try:
        process = await asyncio.create_subprocess_exec(
            *command.argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except (OSError, ValueError) as error:
        words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UpstreamAuthFailed(f"The credential command {name} cannot be run: {words}") from None
    try:
        async with asyncio.timeout(command.timeout_seconds):
            output, complaints = await process.communicate()
    except TimeoutError:
        raise UpstreamAuthFailed(
            f"The credential command {name} was stopped: it took over {command.timeout_seconds:g} s"
        ) from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode != 0:
        said = _shown(complaints)
        raise UpstreamAuthFailed(
            f"The credential command {name} failed with status {process.returncode}{f': {said}' if said else ''}"
        )
    return output[:_MOST_BYTES].decode("utf-8", "replace")


def _shown(data: bytes) -> str:
    """The last words on standard error, on one line."""
    text = " ".join(data.decode("utf-8", "replace").split())
    plain = "".join(c if c.isprintable() else "?" for c in text)
    plain = hide_secrets(plain)
    return plain if len(plain) <= _MOST_SHOWN else "..." + plain[-_MOST_SHOWN:]


# --- the metadata server ---------------------------------------------------------------------------------------


async def ask_metadata(metadata: Metadata, egress: Egress) -> tuple[int, bytes]:
    """Status and body of the metadata server's answer. Plain HTTP that never leaves the machine's host, and so never
    goes through a proxy. Raises UpstreamAuthFailed where there is no such server."""
    try:
        host, port = credentials.metadata_place(metadata, os.environ)
    except ValueError:
        raise UpstreamAuthFailed("The port of the metadata server is no number.") from None
    place = f"{host}:{port}"
    path = f"/computeMetadata/v1/instance/service-accounts/{metadata.service_account}/token"
    request = f"GET {path} HTTP/1.1\r\nHost: {place}\r\nMetadata-Flavor: Google\r\nConnection: close\r\n\r\n"
    try:
        async with asyncio.timeout(_METADATA_SECONDS):
            reader, writer = await open_plain(egress, host, port)
            try:
                writer.write(request.encode("ascii"))
                return await _read_answer(reader)
            finally:
                writer.close()
    except (OSError, ValueError):
        raise UpstreamAuthFailed(
            f"There is no metadata server at {place}: is this a machine on Google Cloud?"
        ) from None
    except h11.RemoteProtocolError:
        raise UpstreamFailed(f"The metadata server at {place} does not speak HTTP.", code="token_endpoint") from None


async def _read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("host", "metadata")]))
    connection.send(h11.EndOfMessage())
    status, body = 0, b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(_MOST_BYTES))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > _MOST_BYTES:
                raise ValueError("the answer is too long")
        elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed) or event is h11.PAUSED:
            return status, body


# --- service accounts ------------------------------------------------------------------------------------------


def sign_rs256(private_key: str, data: bytes) -> bytes:
    """The RS256 signature of data. Raises UpstreamAuthFailed where it cannot be made."""
    try:
        # By name, since the package is an optional extra that type checkers need not have.
        hashes, serialization, padding = (
            importlib.import_module(f"cryptography.hazmat.primitives.{name}")
            for name in ("hashes", "serialization", "asymmetric.padding")
        )
    except ImportError:
        raise UpstreamAuthFailed(
            "A service-account file needs the package cryptography (pip install 'agproxy[service-account]'); without "
            "it, use the credential command: gcloud auth print-access-token with the service account activated"
        ) from None
    try:
        key = serialization.load_pem_private_key(private_key.encode(), password=None)
    except ValueError:
        raise UpstreamAuthFailed("The private key of the service account cannot be read.") from None
    signature: bytes = key.sign(data, padding.PKCS1v15(), hashes.SHA256())
    return signature
