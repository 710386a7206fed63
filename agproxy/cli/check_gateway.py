"""Checks of the gateway itself, from outside: who has its port, and whether a chat and a stream come through."""

import asyncio
import os
import socket
import stat
from dataclasses import dataclass, replace
from typing import Any

from .. import __version__, jsontext, sse
from ..auth import CHALLENGE
from ..config import Config
from ..errors import ConfigError, GatewayError
from ..http11 import JSON, Call, Headers, Send, find
from ..io import listen
from ..setup import KEY_VARIABLE
from .finding import Finding, fail, ok, skipped, warn
from .setup import base_url

_MOST_TOKENS = 64  # room for a word after a short thought
_START = "start it: agproxy serve"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer of whoever has the port; fault: why there is none, and its code."""

    status: int = 0
    headers: Headers = ()
    body: bytes = b""
    fault: str = ""
    code: str = ""

    @property
    def json(self) -> Any:
        try:
            return jsontext.loads(self.body)
        except ValueError:
            return None

    @property
    def error(self) -> str:
        """What its error body says."""
        value = self.json
        error = value.get("error") if isinstance(value, dict) else None
        message = error.get("message") if isinstance(error, dict) else None
        return f"HTTP {self.status}: {message}" if isinstance(message, str) else f"HTTP {self.status}"


def client_settings(settings: Config) -> Config:
    """Settings of a client towards the gateway itself. It trusts what stands in the gateway's own certificate file."""
    return replace(settings, upstream_proxy="", allow_plain_http=True, ca_file=settings.tls_cert or settings.ca_file)


class Gateway:
    """The gateway of these settings as a client sees it."""

    def __init__(self, settings: Config, send: Send, seconds: float) -> None:
        self.url = base_url(settings)
        # Keys of keys.json are stored hashed: one of those is told by the variable that clients have it in.
        key = os.environ.get(KEY_VARIABLE) or next((key for _, key in settings.api_key), "")
        self._headers: Headers = (("authorization", f"Bearer {key}"),) if key else ()
        self._send = send
        self._seconds = seconds

    @property
    def has_key(self) -> bool:
        """Whether there is a client key to ask with."""
        return bool(self._headers)

    async def ask(self, path: str, body: Any = None, *, with_key: bool = True) -> Answer:
        """One request below the base URL. The key is only for whom `port` has found to be agproxy."""
        headers = self._headers if with_key else ()
        if body is not None:
            headers = (*headers, ("content-type", JSON))
        data = b"" if body is None else jsontext.dumps(body)
        call = Call(method="GET" if body is None else "POST", url=self.url + path, body=data, headers=headers)
        try:
            async with asyncio.timeout(self._seconds):
                answer = await self._send(call)
                try:
                    text = await answer.read()
                finally:
                    answer.close()
        except TimeoutError:
            return Answer(fault=f"no answer within {self._seconds:g} s", code="timeout")
        except GatewayError as error:
            return Answer(fault=error.message, code=error.code or "")
        return Answer(status=answer.status, headers=answer.headers, body=text)


async def port(settings: Config, gateway: Gateway | None) -> tuple[Finding, bool]:
    """Who has the port, and whether it is a gateway that can be asked."""
    if gateway is None:
        return skipped("port", "the settings name none: it is any free one, or a Unix socket alone"), False
    # Without the key at first: another program must not have it.
    answer = await gateway.ask("", with_key=False)
    if is_known := _asks_for_a_key(answer):
        answer = await gateway.ask("") if gateway.has_key else answer
    if answer.code == "upstream_connect":
        return _free_port(settings), False
    if answer.code == "upstream_tls" and settings.tls_cert:
        advice = (
            "clients need its authority's file (SSL_CERT_FILE, NODE_EXTRA_CA_CERTS) and the name that it is made for"
        )
        return warn("port", f"{gateway.url}: {answer.fault}", advice), False
    if answer.fault:
        advice = "another program may have the port: --port names another"
        return fail("port", f"{gateway.url}: {answer.fault}", advice), False
    value = answer.json
    if isinstance(value, dict) and value.get("name") == "agproxy":
        version = value.get("version")
        if version == __version__:
            return ok("port", f"agproxy {version} runs at {gateway.url}"), True
        advice = "restart the gateway, so that it runs what is installed"
        return warn("port", f"agproxy {version} runs at {gateway.url}, and this is {__version__}", advice), True
    if is_known and answer.status == 401:
        advice = (
            "it has other settings than these: is it of another --home, or waiting for a restart? Where it has keys of "
            f"`agproxy keys`, doctor needs one of them in {KEY_VARIABLE}"
        )
        refused = "refuses this client key" if gateway.has_key else "asks for a client key, and none is known here"
        return fail("port", f"agproxy runs at {gateway.url} and {refused}", advice), False
    server = find(answer.headers, "server") or "unnamed"
    found = f"another program answers at {gateway.url} (HTTP {answer.status}, server {server[:60]})"
    return fail("port", found, "end it, or choose another port: --port"), False


def _asks_for_a_key(answer: Answer) -> bool:
    """Whether it is agproxy's way to refuse who brings no key."""
    return answer.status == 401 and find(answer.headers, "www-authenticate") == CHALLENGE


def _free_port(settings: Config) -> Finding:
    """Whether the port can be had."""
    try:
        listen.close_all(listen.bind([settings.host], settings.port))
    except ConfigError as error:
        advice = "choose another port (--port; below 1024 only root may listen) or an address of this machine (--host)"
        return fail("port", str(error).partition(";")[0], advice)
    return ok("port", f"{settings.port} is free: no gateway runs there")


def unix_socket(path: str) -> Finding:
    """The Unix socket that the settings name: whether somebody listens, or could."""
    name = "unix socket"
    if not path:
        return ok(name, "none is set")
    if not hasattr(socket, "AF_UNIX"):
        return fail(name, "there are none on this platform", "take listen_unix out of the settings")
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        if os.path.isdir(os.path.dirname(path) or "."):
            return ok(name, f"{path} is not there: it is made at the start")
        return fail(name, f"{path}: its folder is not there", "make the folder, or name another: --listen-unix")
    except OSError as error:
        return fail(name, f"{path}: {error.strerror}", "see to its permissions, or name another: --listen-unix")
    if not stat.S_ISSOCK(mode):
        return fail(name, f"{path} is there and no socket", "move it away, or name another: --listen-unix")
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(2)
        try:
            peer.connect(path)
        except ConnectionRefusedError:
            return ok(name, f"{path}: nobody listens; it is made anew at the start")
        except OSError as error:
            return fail(name, f"{path}: {error.strerror or error}", "see to its permissions (unix_mode)")
    return ok(name, f"somebody listens at {path} (mode {stat.S_IMODE(mode):04o})")


async def chat(gateway: Gateway, model: str) -> Finding:
    """A whole answer through the running gateway."""
    answer = await gateway.ask("/chat/completions", _question(model))
    if answer.fault or answer.status != 200:
        return _refused("chat", answer)
    match answer.json:
        case {"choices": [{"message": {}, "finish_reason": str(reason)}, *_]}:
            mapped = find(answer.headers, "x-mapped-model") or model
            return ok("chat", f"{mapped} answered through {gateway.url} (finish_reason {reason})")
    return fail("chat", "the answer is no chat completion", _REPORT)


async def stream(gateway: Gateway, model: str) -> Finding:
    """A streamed answer through the running gateway."""
    answer = await gateway.ask("/chat/completions", _question(model) | {"stream": True})
    if answer.fault or answer.status != 200:
        return _refused("stream", answer)
    decoder = sse.Decoder()
    try:
        events = [event.data for event in [*decoder.feed(answer.body), *decoder.finish()]]
        chunks = [jsontext.loads(event) for event in events[:-1]]
    except ValueError:
        return fail("stream", "the answer is no event stream", _REPORT)
    errors = [chunk["error"] for chunk in chunks if isinstance(chunk, dict) and "error" in chunk]
    if errors:
        return fail("stream", f"it broke off: {errors[0].get('message')}", "see what the checks of upstream say")
    if not events or events[-1] != "[DONE]" or not chunks:
        return fail("stream", "it did not end with [DONE]: something between here and the gateway cuts it", _REPORT)
    return ok("stream", f"{len(chunks)} chunks, ended by [DONE]")


_REPORT = "does something stand between here and the gateway? Else report it with the gateway's log"


def not_running(name: str) -> Finding:
    return skipped(name, "no gateway runs that could be asked", _START)


def _question(model: str) -> dict[str, Any]:
    message = {"role": "user", "content": "Say hello."}
    return {"model": model, "messages": [message], "max_completion_tokens": _MOST_TOKENS}


def _refused(name: str, answer: Answer) -> Finding:
    advice = "the message says what to do; `agproxy doctor` without a running gateway tells the accounts apart"
    if answer.status in (401, 403):
        advice = (
            "the gateway refuses this client key or origin: see auth_mode and api_key; where it has keys of "
            f"`agproxy keys`, doctor needs one of them in {KEY_VARIABLE}"
        )
    elif answer.status == 404:
        advice = "name a model that the account has: --model"
    elif answer.status == 429:
        advice = "`agproxy accounts status` tells the limits; wait, or add an account"
    elif answer.status in (502, 503):
        advice = "see what the checks of accounts and upstream say"
    return fail(name, answer.fault or answer.error, advice)


def url_of(settings: Config) -> str | None:
    """The base URL of the gateway of these settings; None where they do not say where it is."""
    try:
        return base_url(settings)
    except ConfigError:
        return None


def gateway_of(settings: Config, send: Send, seconds: float) -> Gateway | None:
    """The gateway of these settings; None where they do not say where it is."""
    try:
        return Gateway(settings, send, seconds)
    except ConfigError:
        return None
