"""`agproxy accounts login`: sign in with Google, with an OAuth client of the user's own.

A browser on this machine comes back to a loopback port by itself. On a machine without one, the address is opened
elsewhere, and what that browser shows at the end (an address that it cannot reach, or a code) is pasted here.
"""

import argparse
import asyncio
import getpass
import os
import secrets
import sys
import threading
import webbrowser

from .. import __version__, accounts, credentials, jsontext, oauth
from ..accounts import Record
from ..config import Config
from ..errors import ConfigError, GatewayError
from ..http11 import Send
from . import account_files, account_traits, colour, common, term

_USER_AGENT = f"agproxy/{__version__}"
_WAIT_SECONDS = 600.0
_MOST_HEAD_BYTES = 16384
_PAGE = "<!doctype html><meta charset=utf-8><title>agproxy</title><p>{}</p>"


def add(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    parser.add_argument("--client-file", metavar="FILE", help="client_secret.json of your OAuth client (Desktop app)")
    parser.add_argument("--client-id", metavar="ID", help="or its id; the secret is asked for, or read from stdin")
    parser.add_argument("--label", help="a name for the account")
    parser.add_argument("--port", type=int, default=0, help="loopback port to come back to (default: a free one)")
    parser.add_argument("--no-browser", action="store_true", help="only print the address to open")
    account_traits.add_flags(parser)


def run(options: argparse.Namespace) -> int:
    """Sign in, and keep the account."""
    from ..io.store import AccountStore

    try:
        label = None if options.label is None else accounts.check_label(options.label)
    except ValueError as error:
        raise ConfigError(f"--label: {error}") from None
    client = _client(options)
    settings = common.load(options, os.environ).config
    refresh_token, email = asyncio.run(_sign_in(client, options, settings))
    secret = {"client_id": client.id, "client_secret": client.secret, "refresh_token": refresh_token}
    if client.token_url != credentials.TOKEN_URL:
        secret["token_uri"] = client.token_url
    credential = credentials.read(credentials.OAUTH_USER, secret)
    assert credential is not None
    record = Record(
        id=credentials.id_of(credential), kind=credentials.OAUTH_USER, label=label or "", email=email, secret=secret
    )
    record = account_traits.apply(record, options)
    store = AccountStore(common.home_of(options, os.environ), colour.warn)
    store.update(lambda document: accounts.add_record(document, record), replaces_unusable=True)
    print(f"added: {record.id}{f' ({record.label})' if record.label else ''} {term.plain(email or '')}".rstrip())
    return 0


def _client(options: argparse.Namespace) -> oauth.Client:
    if options.client_file:
        try:
            return oauth.read_client(jsontext.loads(account_files.read_input(options.client_file)))
        except ValueError as error:
            raise ConfigError(f"{options.client_file}: {error}") from None
    if not options.client_id:
        raise ConfigError(
            "--client-file: agproxy brings no OAuth client of its own. Make one of the type Desktop app at "
            "https://console.cloud.google.com/apis/credentials and give its client_secret.json"
        )
    secret = getpass.getpass("Client secret (it is not shown): ") if sys.stdin.isatty() else _line()
    return oauth.Client(id=options.client_id, secret=secret.strip())


def _line() -> str:
    """The first line of standard input, byte by byte: what follows is for who reads it next."""
    line = b""
    while (byte := os.read(sys.stdin.fileno(), 1)) not in (b"", b"\n"):
        line += byte
    return line.decode("utf-8", "replace")


async def _sign_in(client: oauth.Client, options: argparse.Namespace, settings: Config) -> tuple[str, str | None]:
    from ..egress import places_of
    from ..io.egress import Egress
    from ..io.lines import Lines

    came: asyncio.Queue[str] = asyncio.Queue()
    try:
        server = await asyncio.start_server(lambda r, w: _come_back(r, w, came), "127.0.0.1", options.port)
    except OSError as error:
        raise ConfigError(f"--port {options.port}: {error.strerror or error}") from None
    lines = Lines(settings, Egress(places_of([(client.token_url, "accounts login", "")], settings, os.environ)))
    try:
        port = server.sockets[0].getsockname()[1]
        attempt = oauth.SignIn(
            client=client,
            redirect_uri=f"http://127.0.0.1:{port}",
            verifier=secrets.token_urlsafe(48),
            state=secrets.token_urlsafe(24),
        )
        print(f"Open this address, on any machine:\n\n  {attempt.url}\n", file=sys.stderr)
        print("If the browser cannot come back by itself, paste here where it ends up, or the code:", file=sys.stderr)
        sys.stderr.flush()
        if not options.no_browser:
            await asyncio.to_thread(webbrowser.open, attempt.url)
        _read_pasted(came)
        code = await _code(attempt, came)
        return await _exchange(attempt, code, lines.send)
    finally:
        await lines.close()
        server.close()
        await server.wait_closed()


def _read_pasted(came: "asyncio.Queue[str]") -> None:
    """Lines from standard input, in a thread that the end of the command does not wait for.

    Read from the descriptor: Python's own buffer has a lock, which must not be held when the interpreter ends.
    """
    loop = asyncio.get_running_loop()

    def read(descriptor: int) -> None:
        rest = b""
        while data := os.read(descriptor, 4096):
            *lines, rest = (rest + data).split(b"\n")
            for line in filter(bytes.strip, lines):
                try:
                    loop.call_soon_threadsafe(came.put_nowait, line.decode("utf-8", "replace"))
                except RuntimeError:  # the loop has ended meanwhile
                    return

    if sys.stdin is not None:
        threading.Thread(target=read, args=(sys.stdin.fileno(),), daemon=True).start()


async def _code(attempt: oauth.SignIn, came: "asyncio.Queue[str]") -> str:
    try:
        async with asyncio.timeout(_WAIT_SECONDS):
            while True:
                text = await came.get()
                try:
                    return attempt.code_of(text)
                except ValueError as error:
                    colour.warn(f"{error}: try again")
    except TimeoutError:
        raise ConfigError(f"nobody signed in within {_WAIT_SECONDS:g} s") from None


async def _come_back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, came: "asyncio.Queue[str]") -> None:
    """The browser's request to the loopback port."""
    try:
        head = (await reader.readuntil(b"\r\n"))[:_MOST_HEAD_BYTES].decode("latin-1").split()
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
        head = []
    is_answer = len(head) == 3 and head[0] == "GET" and ("code=" in head[1] or "error=" in head[1])
    words = "You can close this page: agproxy goes on in the terminal." if is_answer else "This is agproxy's sign-in."
    page = _PAGE.format(words).encode()
    status = "200 OK" if is_answer else "404 Not Found"
    head_lines = (f"HTTP/1.1 {status}", "Content-Type: text/html", f"Content-Length: {len(page)}", "Connection: close")
    writer.write("\r\n".join((*head_lines, "", "")).encode() + page)
    writer.close()
    if is_answer:
        came.put_nowait(head[1])


async def _exchange(attempt: oauth.SignIn, code: str, send: Send) -> tuple[str, str | None]:
    try:
        answer = await send(attempt.exchange_call(code, _USER_AGENT))
        try:
            return oauth.decode_tokens(answer.status, await answer.read())
        finally:
            answer.close()
    except GatewayError as error:
        raise ConfigError(error.message) from None
