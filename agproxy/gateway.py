"""One exchange from the client's request to the last byte of its answer: the only orchestration there is.

    route -> auth -> decode -> resolve the model -> [ pick an account -> encode -> send ] x attempts
    -> decode upstream's chunks -> events -> encode the client's frames

Knows the order of things and when another attempt is allowed: until the first frame of the answer has gone out.
Everything that touches the world comes in as an argument (`send`, `now`, `new_id`), so that it runs in tests without
a network. Bytes of a stream do not pass through tasks or queues: the upstream connection calls `_Stream.feed`, which
writes to the client in the same call.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from . import __version__, auth, backends, jsontext, models, routes
from .backends import gemini
from .config import Config
from .conversation import Exchange, Folder, MessageEnded, Notice, Policy, Request
from .errors import (
    GatewayError,
    InvalidRequest,
    NoAccount,
    Retry,
    UpstreamAuthFailed,
    UpstreamFailed,
    UpstreamRateLimited,
)
from .frontends import FRONTENDS, Frontend, StreamEncoder, _openai
from .http11 import EVENT_STREAM, JSON, Headers, HttpRequest, HttpResponse, Reply, Send, header_safe, is_loopback
from .pool import Account, Pool

log = logging.getLogger("agproxy.gateway")

T = TypeVar("T")

DEFAULT_FRONTEND = "openai_chat"
_SYSTEM = "gateway"
_MODELS_CREATED = 1735689600  # no vendor says when a model was made; clients want a whole number
_OWNER = "google"
# One page of the model list is waited for this long by the first client that asks.
_LIST_WAIT_SECONDS = 2.0
_LIST_AGE_SECONDS = 600.0


def build_routes() -> tuple[routes.Route, ...]:
    """The gateway's own routes and those of every frontend."""
    table = [
        routes.Route(method="GET", pattern="/healthz", frontend=_SYSTEM, action="health"),
        routes.Route(method="GET", pattern="/health", frontend=_SYSTEM, action="health"),
        routes.Route(method="GET", pattern="/readyz", frontend=_SYSTEM, action="ready"),
        routes.Route(method="GET", pattern="/", frontend=_SYSTEM, action="root"),
        routes.Route(method="GET", pattern="/models", frontend=_SYSTEM, action="list_models"),
        routes.Route(method="GET", pattern="/models/{model...}", frontend=_SYSTEM, action="get_model"),
        # Kilo appends its own path to a base URL that already has one.
        routes.Route(
            method="POST",
            pattern="/chat/completions/responses",
            frontend="openai_responses",
            action="create",
            by_body=(("input", "openai_responses"), ("messages", "openai_chat")),
        ),
    ]
    for name, frontend in FRONTENDS.items():
        table += [routes.Route(method=m, pattern=p, frontend=name, action=a) for m, p, a in frontend.ROUTES]
    return tuple(table)


HEALTH = frozenset({"health", "ready"})


@dataclass(slots=True)
class _Progress:
    """What one exchange has cost so far, for headers and the log."""

    request: HttpRequest
    started: float
    model_asked: str = ""
    model: str = ""
    account: Account | None = None
    attempts: int = 0
    waited_seconds: float = 0.0
    notices: tuple[Notice, ...] = ()


class Gateway:
    """Serves HTTP requests. `handle` is the server's handler, `refuse` renders what the server itself refuses."""

    def __init__(
        self,
        *,
        config: Config,
        pool: Pool,
        send: Send,
        base_url: str,
        now: Callable[[], float],
        clock: Callable[[], float],
        new_id: Callable[[], str],
    ) -> None:
        self._config = config
        self._pool = pool
        self._send = send
        self._base_url = base_url
        self._now = now
        self._clock = clock
        self._new_id = new_id
        self._routes = build_routes()
        self._policy = Policy(
            thoughts=config.thoughts, late_system=config.late_system, schema_with_tools=config.schema_with_tools
        )
        self._listed: tuple[str, ...] = ()
        self._listed_at = float("-inf")
        self._listing: asyncio.Task[None] | None = None

    # --- the server's side

    def refuse(self, error: GatewayError, path: str) -> HttpResponse:
        """The answer for an error, in the protocol of the path."""
        return self._error_response(error, self._frontend_of(path))

    async def handle(self, request: HttpRequest, reply: Reply) -> None:
        progress = _Progress(request=request, started=self._clock())
        frontend = self._frontend_of(request.path)
        try:
            match = routes.match(self._routes, request.method, request.path)
            action = match.route.action
            auth.check(self._config, request.headers, is_health=action in HEALTH)
            if action == "create":
                await self._create(match.route, progress, reply)
            else:
                body = await self._own(action, match.params, request)
                self._send_json(reply, 200, body, progress)
        except GatewayError as error:
            if reply.has_started:
                log.warning("%s: %s after the answer had begun", request.id, error.message)
                reply.abort()
            else:
                self._log_end(progress, error.status, error)
                response = self._error_response(error, frontend)
                headers = response.headers + self._common_headers(progress)
                reply.send(replace(response, headers=headers))

    def _frontend_of(self, path: str) -> Frontend:
        name = routes.find_frontend(self._routes, path, DEFAULT_FRONTEND)
        return FRONTENDS.get(name, FRONTENDS[DEFAULT_FRONTEND])

    # --- routes of the gateway's own

    async def _own(self, action: str, params: dict[str, str], request: HttpRequest) -> jsontext.JsonObject:
        match action:
            case "health":
                return {"status": "ok", "version": __version__}
            case "ready":
                if not self._pool.accounts:
                    raise self._no_account()
                return {"status": "ok", "version": __version__, "accounts": len(self._pool.accounts)}
            case "root":
                return {"name": "agproxy", "version": __version__, "base_url": "/v1"}
            case "list_models":
                await self._list_upstream()
                return _openai.encode_models(
                    models.shown_names(self._config.model_map, self._listed), _MODELS_CREATED, _OWNER
                )
            case _:
                await self._list_upstream()
                name = params["model"]
                models.resolve(name, self._config.model_map, "", frozenset(self._listed))
                return _openai.encode_model(name, _MODELS_CREATED, _OWNER)

    async def _list_upstream(self) -> None:
        """Refresh what upstream lists, if that is old. The first caller waits a little, nobody longer."""
        if not self._pool.accounts or self._clock() - self._listed_at < _LIST_AGE_SECONDS:
            return
        if self._listing is None or self._listing.done():
            self._listing = asyncio.create_task(self._fetch_list(), name="model list")
        if not self._listed:
            await asyncio.wait({self._listing}, timeout=_LIST_WAIT_SECONDS)

    async def _fetch_list(self) -> None:
        account = self._pool.accounts[0]
        names: list[str] = []
        token: str | None = None
        try:
            for _ in range(20):
                answer = await self._send(gemini.models_call(self._target(account), token))
                try:
                    body = await answer.read()
                finally:
                    answer.close()
                if answer.status != 200:
                    raise gemini.decode_error(answer.status, answer.headers, body)
                page, token = gemini.decode_models(jsontext.loads(body))
                names += page
                if token is None:
                    break
        except GatewayError as error:
            log.warning("the model list of upstream could not be had: %s", error.message)
        except ValueError:
            log.warning("the model list of upstream could not be had: it is not JSON")
        else:
            self._listed = tuple(dict.fromkeys(names))
        self._listed_at = self._clock()

    async def close(self) -> None:
        """End what runs beside the exchanges."""
        if self._listing is not None and not self._listing.done():
            self._listing.cancel()
            await asyncio.wait({self._listing})

    # --- one exchange

    async def _create(self, route: routes.Route, progress: _Progress, reply: Reply) -> None:
        body = _read_body(progress.request)
        name = next((name for key, name in route.by_body if key in body), route.frontend)
        frontend = FRONTENDS[name]
        request = frontend.decode_request(body)
        progress.model_asked = request.model
        progress.notices = request.notices
        if self._config.unsupported == "refuse":
            _refuse_unsupported(request)
        resolved = models.resolve(
            request.model, self._config.model_map, self._config.default_model, frozenset(self._listed)
        )
        progress.model = resolved.model
        exchange = Exchange(
            id=self._new_id(), created=int(self._now()), model=request.model, request=request, body=body
        )
        if request.is_stream:
            stream = _Stream(self, frontend, exchange, progress, reply)
            await stream.run()
        else:
            answer = await self._unary(frontend, exchange, progress)
            self._send_json(reply, 200, answer, progress)

    async def _unary(self, frontend: Frontend, exchange: Exchange, progress: _Progress) -> jsontext.JsonObject:
        encoded = gemini.encode(exchange.request, progress.model, self._policy)
        progress.notices += encoded.notices

        async def attempt(account: Account) -> jsontext.JsonObject:
            answer = await self._send(gemini.call(encoded, progress.model, self._target(account), is_stream=False))
            try:
                body = await answer.read()
            finally:
                answer.close()
            if answer.status != 200:
                raise gemini.decode_error(answer.status, answer.headers, body)
            try:
                chunk = jsontext.loads(body)
            except ValueError:
                raise UpstreamFailed("Upstream's answer is not JSON.", code="bad_upstream_body") from None
            decoder = gemini.decoder(encoded, exchange.id)
            folder = Folder()
            for event in (*decoder.feed(chunk), *decoder.finish()):
                folder.feed(event)
            response = folder.result()
            progress.notices += response.notices
            return frontend.encode_response(response, exchange)

        return await self._attempts(progress, attempt)

    async def _attempts(self, progress: _Progress, attempt: Callable[[Account], Awaitable[T]]) -> T:
        """Run an attempt, and others after it while its error allows and the answer has not begun."""
        if not self._pool.accounts:
            raise self._no_account()
        tried: set[str] = set()
        account: Account | None = None
        while True:
            if account is None:
                account = self._pool.pick(frozenset(tried)) or self._pool.pick(frozenset())
            assert account is not None
            tried.add(account.id)
            progress.account = account
            progress.attempts += 1
            try:
                return await attempt(account)
            except GatewayError as error:
                log.debug("%s: attempt %d on %s: %s", progress.request.id, progress.attempts, account.id, error.message)
                if error.retry is Retry.NEVER or progress.attempts >= self._config.max_attempts:
                    raise
                has_fresh = any(other.id not in tried for other in self._pool.accounts)
                if error.retry is Retry.NEXT_ACCOUNT and has_fresh:
                    account = None
                    continue
                if isinstance(error, UpstreamAuthFailed):
                    raise  # the same key would be refused again
                wait = _backoff(error, progress.attempts)
                if progress.waited_seconds + wait > self._config.max_wait_seconds:
                    raise
                progress.waited_seconds += wait
                if error.retry is Retry.NEXT_ACCOUNT:
                    account = None
            await asyncio.sleep(wait)

    def _target(self, account: Account) -> backends.Target:
        return backends.Target(base_url=self._base_url, key=account.key, user_agent=f"agproxy/{__version__}")

    def _no_account(self) -> NoAccount:
        return NoAccount(
            "agproxy has no Gemini account. Set GEMINI_API_KEY, or start with --simulate auto to try it without one.",
            passes_soon=False,
        )

    # --- answers

    def _common_headers(self, progress: _Progress) -> Headers:
        """What every answer says of its exchange."""
        headers = [
            ("x-request-id", progress.request.id),
            ("openai-processing-ms", str(int((self._clock() - progress.started) * 1000))),
        ]
        if progress.model:
            headers.append(("x-mapped-model", header_safe(progress.model)))
        account = progress.account
        if account is not None:
            headers.append(("x-account-id", account.id))
            audience = self._config.account_email
            if account.email and (audience == "all" or (audience == "loopback" and is_loopback(progress.request.peer))):
                headers.append(("x-account-email", header_safe(account.email)))
        if progress.notices:
            told = "; ".join(dict.fromkeys(notice.message for notice in progress.notices))
            headers.append(("x-agproxy-warnings", header_safe(told)))
        return tuple(headers)

    def _send_json(self, reply: Reply, status: int, body: jsontext.JsonObject, progress: _Progress) -> None:
        data = jsontext.dumps(body)
        headers = (("content-type", JSON), *self._common_headers(progress))
        self._log_end(progress, status, None)
        reply.send(HttpResponse(status=status, headers=headers, body=data))

    def _error_response(self, error: GatewayError, frontend: Frontend) -> HttpResponse:
        headers: list[tuple[str, str]] = [("content-type", JSON), *error.headers]
        if error.retry_after_seconds is not None and error.status in (429, 503):
            milliseconds = -(-error.retry_after_seconds * 1000 // 1)
            headers.append(("retry-after", str(int(-(-error.retry_after_seconds // 1)))))
            headers.append(("retry-after-ms", str(int(milliseconds))))
        passes_soon = error.passes_soon
        if isinstance(error, UpstreamRateLimited) and (error.is_daily or (error.retry_after_seconds or 0) > 60):
            passes_soon = False
        if isinstance(error, UpstreamAuthFailed) or error.status == 413:
            passes_soon = False
        if passes_soon is not None:
            headers.append(("x-should-retry", "true" if passes_soon else "false"))
        return HttpResponse(
            status=error.status, headers=tuple(headers), body=jsontext.dumps(frontend.encode_error(error))
        )

    def _log_end(self, progress: _Progress, status: int, error: GatewayError | None) -> None:
        request = progress.request
        log.info(
            "%s %s %s -> %d%s%s attempts=%d %dms%s",
            request.id,
            request.method,
            header_safe(request.path, 200),
            status,
            f" {header_safe(progress.model_asked, 100)}={progress.model}" if progress.model else "",
            f" {progress.account.id}" if progress.account is not None else "",
            progress.attempts,
            int((self._clock() - progress.started) * 1000),
            f" {error.code or type(error).__name__}" if error is not None else "",
        )
        for notice in progress.notices:
            log.debug("%s: %s", request.id, notice.message)


class _Stream:
    """The streamed answer of one exchange: upstream bytes in, the client's frames out."""

    def __init__(
        self, gateway: Gateway, frontend: Frontend, exchange: Exchange, progress: _Progress, reply: Reply
    ) -> None:
        self._gateway = gateway
        self._exchange = exchange
        self._progress = progress
        self._reply = reply
        self._encoder: StreamEncoder = frontend.StreamEncoder(exchange)
        self._decoder: gemini.ByteDecoder | None = None
        self._has_frames = False
        self._last_write = gateway._clock()
        self._timer: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        gateway, exchange, progress = self._gateway, self._exchange, self._progress
        encoded = gemini.encode(exchange.request, progress.model, gateway._policy)
        progress.notices += encoded.notices

        async def attempt(account: Account) -> None:
            limit = gateway._config.max_event_bytes
            self._decoder = gemini.byte_decoder(encoded, exchange.id, max_event_bytes=limit)
            answer = await gateway._send(gemini.call(encoded, progress.model, gateway._target(account), is_stream=True))
            try:
                if answer.status != 200:
                    raise gemini.decode_error(answer.status, answer.headers, await answer.read())
                await answer.pump(self.feed, self._reply)
                self._finish()
            except GatewayError as error:
                if self._has_frames:
                    error.retry = Retry.NEVER
                raise
            finally:
                answer.close()

        self._arm()
        try:
            await gateway._attempts(progress, attempt)
        except GatewayError as error:
            if not self._reply.has_started:
                raise
            self._fail(error)
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def feed(self, data: bytes) -> None:
        """Bytes of one upstream read. All frames they make leave in one write."""
        assert self._decoder is not None
        frames: list[bytes] = []
        encode = self._encoder.feed
        for event in self._decoder.feed(data):
            frames += encode(event)
        if frames:
            self._write(b"".join(frames))

    def _finish(self) -> None:
        """The end of the upstream stream: the closing events, and with them the end of the answer."""
        assert self._decoder is not None
        frames: list[bytes] = []
        for event in self._decoder.finish():
            frames += self._encoder.feed(event)
            if isinstance(event, MessageEnded):
                self._progress.notices += event.notices
        self._write(b"".join(frames))
        self._reply.end()
        self._gateway._log_end(self._progress, 200, None)

    # --- the client's side

    def _start(self) -> None:
        if not self._reply.has_started:
            headers = (
                ("content-type", EVENT_STREAM),
                ("cache-control", "no-cache"),
                ("x-accel-buffering", "no"),
                *self._gateway._common_headers(self._progress),
            )
            self._reply.start(200, headers)

    def _write(self, data: bytes) -> None:
        self._start()
        self._has_frames = True
        self._last_write = self._gateway._clock()
        self._reply.write(data)

    def _fail(self, error: GatewayError) -> None:
        """End a stream that has begun, in the protocol's own way: never as if all were well."""
        self._gateway._log_end(self._progress, error.status, error)
        self._reply.write(b"".join(self._encoder.fail(error)))
        self._reply.end()

    def _arm(self) -> None:
        seconds = self._gateway._config.keepalive_seconds
        if seconds > 0:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._keep_alive)

    def _keep_alive(self) -> None:
        """Runs every keepalive_seconds; speaks only where nothing was written in that time."""
        seconds = self._gateway._config.keepalive_seconds
        silent = self._gateway._clock() - self._last_write
        if silent >= seconds * 0.99:
            self._start()
            self._reply.write(b"".join(self._encoder.keep_alive()))
            self._last_write = self._gateway._clock()
            silent = 0.0
        self._timer = asyncio.get_running_loop().call_later(seconds - silent, self._keep_alive)


def _read_body(request: HttpRequest) -> jsontext.JsonObject:
    """The JSON object of a body. The content type is not asked: curl -d and others send a wrong one."""
    try:
        body = jsontext.loads(request.body)
    except ValueError as error:
        why = "it is empty" if not request.body.strip() else f"{type(error).__name__}"
        raise InvalidRequest(f"We could not parse the JSON body of your request ({why}).") from None
    if not isinstance(body, dict):
        raise InvalidRequest("We could not parse the JSON body of your request (not a JSON object).")
    return body


def _refuse_unsupported(request: Request) -> None:
    for notice in request.notices:
        if notice.param is not None:
            raise InvalidRequest(
                f"Unsupported parameter: {notice.message}", code="unsupported_parameter", param=notice.param
            )


def _backoff(error: GatewayError, attempts: int) -> float:
    """Seconds before the same account is asked again: what upstream said, else growing steps."""
    if error.retry is Retry.SAME_ACCOUNT:
        return 0.0
    if error.retry_after_seconds is not None:
        return error.retry_after_seconds
    if isinstance(error, UpstreamRateLimited):
        return 5.0
    return min(4.0, 0.25 * 2.0 ** (attempts - 1))
