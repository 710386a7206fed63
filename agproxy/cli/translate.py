"""`agproxy translate`: what a client's request becomes upstream, and what an upstream answer becomes for the client.

No server, no network: the gateway itself runs, with a `send` that keeps the call instead of making it. So what is
printed is what would have been sent, and what would have been answered.
"""

import argparse
import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .. import jsontext, sse
from ..config import Config
from ..errors import ConfigError, GatewayError
from ..http11 import Call, Follower, Headers, Send
from ..io import logs
from .colour import BOLD, paint, warn
from .common import EXIT_FAILED, RawHelp, add_settings, load_aloud
from .paper import Paper, exchange

if TYPE_CHECKING:
    from .common import Commands

_DESCRIPTION = """\
Reads a client's request from standard input and prints the upstream request that it becomes: method, URL path, JSON.
With --answer it reads an upstream answer, JSON or an event stream, and prints what the client would be answered.
Warnings go to standard error. Where the client would get an error, its body is printed, and the exit status is 1."""

# The field that only one client protocol has -> that protocol. First match decides.
_BY_FIELD = {"messages": "openai_chat", "input": "openai_responses", "prompt": "openai_completions"}


def add(commands: "Commands") -> None:
    parser = commands.add_parser(
        "translate",
        help="the upstream request that a client's request becomes; or an answer on its way back",
        usage="agproxy translate [--from API] [--answer REQUEST.json] [--raw] [--SETTING VALUE ...] < FILE",
        description=_DESCRIPTION,
        formatter_class=RawHelp,
    )
    parser.add_argument(
        "--from",
        dest="api",
        metavar="API",
        help="the client's protocol: openai_chat, openai_completions or openai_responses (default: by the body, "
        "which has messages, prompt or input)",
    )
    parser.add_argument(
        "--answer",
        metavar="REQUEST.json",
        type=Path,
        help="standard input is upstream's answer to the client's request in this file",
    )
    parser.add_argument("--raw", action="store_true", help="print the body alone, byte for byte")
    add_settings(parser, is_shown=False)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    loaded = load_aloud(options, os.environ)
    given = sys.stdin.buffer.read()
    request = given
    if options.answer is not None:
        try:
            request = options.answer.read_bytes()
        except OSError as error:
            raise ConfigError(f"{options.answer}: {error.strerror}") from None
    path = _path(options.api, request)
    with logs.silent():
        if options.answer is None:
            return _show_request(loaded.config, path, request, is_raw=options.raw)
        return _show_answer(loaded.config, path, request, given, is_raw=options.raw)


def _path(api: str | None, request: bytes) -> str:
    """The path to which a client would send this."""
    from ..frontends import FRONTENDS

    if api is None:
        body = _parse(request)
        fields = body if isinstance(body, dict) else {}
        api = next((name for field, name in _BY_FIELD.items() if field in fields), "openai_chat")
    if api not in FRONTENDS:
        raise ConfigError(f"--from: one of {', '.join(FRONTENDS)} was expected, not {api!r}")
    return next("/v1" + pattern for _, pattern, action in FRONTENDS[api].ROUTES if action == "create")


def _parse(data: bytes) -> Any:
    """The value of a JSON text; None where it is none."""
    try:
        return jsontext.loads(data)
    except ValueError:
        return None


# --- both ways -------------------------------------------------------------------------------------------------


def _show_request(settings: Config, path: str, request: bytes, *, is_raw: bool) -> int:
    calls: list[Call] = []

    async def keep(call: Call) -> "_Answer":
        calls.append(call)
        raise _Kept("the call was kept")

    reply = asyncio.run(_run(settings, path, request, keep))
    if not calls:
        _print_body(reply.body, is_raw=is_raw)
        return EXIT_FAILED
    for index, (call, count) in enumerate(Counter(calls).items()):
        url = urlsplit(call.url)
        head = f"{call.method} {url.path}{'?' + url.query if url.query else ''}"
        if index:
            print()
        if not is_raw:
            print(paint(head, BOLD), f" ({count} times)" if count > 1 else "", end="\n\n", sep="")
        _print_body(call.body, is_raw=is_raw)
    return 0


def _show_answer(settings: Config, path: str, request: bytes, given: bytes, *, is_raw: bool) -> int:
    answer = _Answer(given)
    body = _parse(request)
    if answer.is_stream and isinstance(body, dict) and not body.get("stream"):
        warn("the answer is a stream, so the request is taken to ask for one")
        request = jsontext.dumps(body | {"stream": True})
    elif isinstance(body, dict) and body.get("stream"):
        answer.be_stream()

    async def send(call: Call) -> _Answer:
        return answer

    reply = asyncio.run(_run(settings, path, request, send))
    _print_body(reply.body, is_raw=is_raw or reply.is_stream)
    return EXIT_FAILED if reply.status >= 400 or reply.is_cut else 0


async def _run(settings: Config, path: str, body: bytes, send: Send) -> Paper:
    """One exchange of the gateway; each call that it makes goes to `send`, once."""
    paper = await exchange(settings, path, body, send)
    for text in paper.notices:
        warn(text)
    return paper


def _print_body(body: bytes, *, is_raw: bool) -> None:
    """As it is, or indented. In UTF-8 whatever the terminal's own coding is."""
    value = None if is_raw else _parse(body)
    if value is not None:
        body = json.dumps(value, indent=2, ensure_ascii=False).encode(errors="backslashreplace")
    sys.stdout.flush()
    sys.stdout.buffer.write(body if is_raw or body.endswith(b"\n") else body + b"\n")
    sys.stdout.buffer.flush()


# --- upstream, on paper --------------------------------------------------------------------------


class _Kept(GatewayError):
    """Ends the exchange where the call would have been made."""


class _Answer:
    """`http11.UpstreamReply` with an answer from a file. An array of chunks becomes the stream that it was."""

    headers: Headers = ()

    def __init__(self, given: bytes) -> None:
        value = _parse(given)
        self.status = _status(value)
        self.is_stream = self.status == 200 and not isinstance(value, dict)
        self._body = given
        if self.is_stream and isinstance(value, list):
            self._body = b"".join(sse.encode(jsontext.dumps(chunk)) for chunk in value)

    def be_stream(self) -> None:
        """A whole answer as the one chunk of a stream, for a request that asks for one."""
        if self.status == 200 and not self.is_stream:
            self._body = sse.encode(jsontext.dumps(_parse(self._body)))

    async def read(self) -> bytes:
        return self._body

    async def pump(self, feed: Callable[[bytes], None], reply: Follower | None = None) -> None:
        feed(self._body)

    def close(self) -> None:
        pass


def _status(value: Any) -> int:
    """The status with which upstream sends this: that of an error body, alone or in an array, else 200."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    error = value.get("error") if isinstance(value, dict) else None
    if not isinstance(error, dict):
        return 200
    code = error.get("code")
    return code if isinstance(code, int) and 400 <= code < 600 else 500
