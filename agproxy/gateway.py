"""The HTTP side of the gateway: what each request means, who may ask it, and how its answer is told.

    browser and key checks -> route -> decode -> resolve the model -> `exchange` -> answer, headers, log line

Everything that touches the world comes in as an argument (`send`, `now`, `new_id`), so that it runs in tests without
a network. What happens with upstream is in `exchange`.
"""

import logging
import math
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import lru_cache, partial
from urllib.parse import parse_qsl

from . import __version__, admin, auth, browser, jsontext, models, openapi, routes
from .admin import Admin, Archive, ReadPage, Registry
from .aside import LARGE_BYTES, Aside, RunInThread
from .attempts import TokenSource
from .catalog import Catalog
from .clients import Clients, check_model, fallbacks_of
from .config import Config
from .conversation import Exchange, Notice, Request
from .entries import Entry, told_steps
from .errors import (
    GatewayError,
    InvalidRequest,
    NotFound,
    UpstreamAuthFailed,
    UpstreamFailed,
    UpstreamRateLimited,
)
from .exchange import Progress, Stream, Upstream
from .frontends import FRONTENDS, KEEPERS, Frontend, Keeper, _openai
from .http11 import JSON, UNIX, Headers, HttpRequest, HttpResponse, Reply, Send, find, header_safe, is_loopback
from .keys import Key, Ring
from .ledger import Ledger, Observer
from .media import FetchAll, names_urls, with_media
from .places import Places
from .pool import CACHE_FIRST, Account, Pool
from .recording import Recording
from .records import Asked, Store
from .resources import Alone, Kept, Resources, Run, Workers
from .sessions import session_of

log = logging.getLogger("agproxy.gateway")

DEFAULT_FRONTEND = "openai_chat"
_SYSTEM = "gateway"
_MODELS_CREATED = 1735689600  # no vendor says when a model was made; clients want a whole number
_OWNER = "google"
# A 429 without a time: what to tell clients such as Codex, which give up on a 429 that names none.
_USUAL_WAIT_SECONDS = 5.0
# A longer wait is no reason for an SDK to sleep within a call: it is told not to repeat.
_LONG_WAIT_SECONDS = 60.0


# By request id; None where it is not kept.
FindEntry = Callable[[str], Awaitable[Entry | None]]
# The answer of /metrics, by the Accept header.
Scrape = Callable[[str | None], Awaitable[HttpResponse]]

# Bodies that come to the wrong path, and are understood all the same: (frontend, action) -> Route.read_as.
_READ_AS = {("openai_chat", "create"): (("messages", "openai_chat"), ("input", "openai_responses"))}
_READ_AS_ANOTHER = "the body was read as {}, and is answered as {}: it belongs on another path"


def build_routes() -> tuple[routes.Route, ...]:
    """The gateway's own routes and those of every frontend."""
    table = [
        routes.Route(method="GET", pattern="/healthz", frontend=_SYSTEM, action="health"),
        routes.Route(method="GET", pattern="/health", frontend=_SYSTEM, action="health"),
        routes.Route(method="GET", pattern="/readyz", frontend=_SYSTEM, action="ready"),
        routes.Route(method="GET", pattern="/", frontend=_SYSTEM, action="root"),
        routes.Route(method="GET", pattern="/models", frontend=_SYSTEM, action="list_models"),
        routes.Route(method="GET", pattern="/models/{model...}", frontend=_SYSTEM, action="get_model"),
        routes.Route(method="GET", pattern="/metrics", frontend=_SYSTEM, action="metrics"),
        routes.Route(method="GET", pattern="/agproxy/why/{request}", frontend=_SYSTEM, action="why"),
        routes.Route(method="GET", pattern="/openapi.json", frontend=_SYSTEM, action="openapi"),
        routes.Route(method="GET", pattern="/ui", frontend=_SYSTEM, action="page"),
        routes.Route(method="GET", pattern="/ui/{file}", frontend=_SYSTEM, action="page"),
        *admin.ROUTES,
        # Kilo appends its own path to a base URL that already has one.
        routes.Route(
            method="POST",
            pattern="/chat/completions/responses",
            frontend="openai_responses",
            action="create",
            by_body=(("input", "openai_responses"), ("messages", "openai_chat")),
        ),
    ]
    # A base URL that already names the path, as it is pasted from documentation.
    table.append(
        routes.Route(
            method="POST", pattern="/chat/completions/chat/completions", frontend="openai_chat", action="create"
        )
    )
    # Chat's stored completions: none are kept, which a list says with an empty one.
    table.append(routes.Route(method="GET", pattern="/chat/completions", frontend=_SYSTEM, action="list_none"))
    for method, pattern in (
        ("GET", "/chat/completions/{completion}"),
        ("POST", "/chat/completions/{completion}"),
        ("DELETE", "/chat/completions/{completion}"),
        ("GET", "/chat/completions/{completion}/messages"),
    ):
        table.append(routes.Route(method=method, pattern=pattern, frontend=_SYSTEM, action="find_none"))
    for name, frontend in FRONTENDS.items():
        table += [
            routes.Route(method=m, pattern=p, frontend=name, action=a, read_as=_READ_AS.get((name, a), ()))
            for m, p, a in frontend.ROUTES
        ]
    return tuple(table)


_JSON_HEADERS = (("content-type", JSON),)
# The actions that ask upstream about a request to the model; what else there is costs next to nothing.
_ASKING = frozenset({"create", "count", "compact"})


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
        store: Store | None = None,
        tokens: TokenSource | None = None,
        on_revoked: Callable[[Account, str], None] | None = None,
        fetch: FetchAll | None = None,
        run_in_thread: RunInThread | None = None,
        workers: Workers | None = None,
        shared: Store | None = None,
        observers: tuple[Observer, ...] = (),
        write_line: Callable[[str], None] | None = None,
        find_entry: FindEntry | None = None,
        scrape: Scrape | None = None,
        registry: Registry | None = None,
        archive: Archive | None = None,
        read_page: ReadPage | None = None,
        clients: Clients | None = None,
    ) -> None:
        self.clients = Clients(Ring()) if clients is None else clients
        self._scrape = scrape
        self._find_entry = find_entry
        self._fetch = fetch
        self._aside = Aside(run_in_thread)
        self._places = Places(config.max_in_flight)
        self._upstream = Upstream(
            config=config,
            pool=pool,
            send=send,
            base_url=base_url,
            now=now,
            clock=clock,
            tokens=tokens,
            on_revoked=on_revoked,
            aside=self._aside,
            shared=shared,
        )
        self._workers = workers or Alone()
        self._ledger = Ledger(
            config=lambda: self.config,
            now=now,
            clock=clock,
            new_id=new_id,
            observers=(self.clients.observe, *observers),
            write_line=write_line,
        )
        self._admin = Admin(
            settings=lambda: self.config,
            pool=pool,
            in_flight=self._ledger.in_flight,
            workers=self._workers,
            now=now,
            clock=clock,
            probe=self._upstream.probe,
            accounts_changed=self.accounts_changed,
            registry=registry,
            archive=archive,
            read_page=read_page,
        )
        self._ledger.observers.append(self._admin.tally.add)
        self._resources = Resources(store=store, upstream=self._upstream, workers=self._workers, ledger=self._ledger)
        self._now = now
        self._clock = clock
        self._new_id = new_id
        self._routes = build_routes()
        # Finding a route in the table takes 12 us. Wrong paths raise and are not kept.
        self._match = lru_cache(maxsize=64)(partial(routes.match, self._routes))
        self._catalog = Catalog(self._upstream, clock)

    @property
    def config(self) -> Config:
        """The settings in force. Setting it swaps them whole, for every request that comes after."""
        return self._upstream.config

    @config.setter
    def config(self, config: Config) -> None:
        self._upstream.config = config
        self._places.most = config.max_in_flight

    @property
    def base_url(self) -> str:
        """Where calls go whose account names no upstream of its own."""
        return self._upstream.base_url

    @base_url.setter
    def base_url(self, base_url: str) -> None:
        self._upstream.base_url = base_url
        self._catalog.forget()

    @property
    def pool(self) -> Pool:
        return self._upstream.pool

    @property
    def in_flight(self) -> dict[str, Progress]:
        """The requests that have not ended, by id."""
        return self._ledger.in_flight

    @property
    def queued(self) -> int:
        """Requests that wait for a place."""
        return self._places.waiting

    def use_accounts(self, accounts: tuple[Account, ...]) -> None:
        """Swap the accounts whole; whoever waits for one looks again."""
        self.pool.accounts = accounts
        self.accounts_changed()

    def accounts_changed(self) -> None:
        """Accounts have come or gone, or limits were forgotten: whoever waits for an account looks again."""
        self._upstream.attempts.accounts_changed()

    def look_ahead(self) -> None:
        """Begin to ask what upstream lists, so that the first requests know it; nobody waits for it."""
        self._catalog.look()

    def stop_looking_on(self) -> None:
        """End the streams that would never end by themselves, before the others are waited for."""
        self._admin.stop()

    async def drain(self, seconds: float) -> None:
        """Let what goes on without a client end, for at most so long."""
        await self._resources.drain(seconds)

    async def close(self) -> None:
        """End what runs beside the exchanges."""
        await self._resources.close()
        await self._catalog.close()

    # --- requests

    def refuse(self, error: GatewayError, path: str) -> HttpResponse:
        """The answer for an error, in the protocol of the path."""
        return self._error_response(error, self._frontend_of(path))

    def refused(self, request_id: str, peer: str, method: str, path: str, error: GatewayError) -> None:
        """The server has refused a request by itself."""
        self._ledger.refused(request_id, peer, method, path, error)

    def cors_headers(self, headers: Headers) -> Headers:
        """What lets a page of an allowed origin read an answer that the server gives by itself."""
        return browser.cors_headers(self.config, headers)

    async def handle(self, request: HttpRequest, reply: Reply) -> None:
        progress = self._ledger.begin(request)
        config = self.config
        if config.journal_bodies != "off" and config.journal and not auth.is_owners(routes.segments(request.path)):
            progress.recording = Recording(request, config, self.pool.accounts)
            reply = progress.recording.reply(reply)
        try:
            try:
                await self._serve(request, progress, reply)
            except GatewayError as error:
                self._refuse(reply, progress, error)
        except BaseException as reason:  # cancelled, or a bug, which the server answers
            self._ledger.cut(progress, reason)
            raise

    def _refuse(self, reply: Reply, progress: Progress, error: GatewayError) -> None:
        request = progress.request
        if reply.has_started:  # only a handler's own bug leads here: a stream ends its errors itself
            log.error("%s: %s after the answer had begun", request.id, error.message)
            self._ledger.end(progress, error.status, error)
            reply.abort()
            return
        self._send(reply, self._error_response(error, self._frontend_of(request.path)), progress, error)

    async def _serve(self, request: HttpRequest, progress: Progress, reply: Reply) -> None:
        if request.peer != UNIX:  # no browser opens such a socket, and there is no usual name for it
            browser.check_host(self.config, request.headers)
        if request.method == "OPTIONS":
            progress.action = "options"
            self._send(reply, self._options(request), progress)
            return
        client = progress.client = self._admit(request, progress)
        match = self._match(request.method, request.path)
        action = progress.action = match.route.action
        progress.protocol = match.route.frontend
        if action in _ASKING:
            self.clients.begin(progress.who, self._now())
            if not self._places.take():
                await self._stand_in_line(progress)
            run = None
            try:
                if action == "create":
                    run = await self._create(match.route, client or "", progress, reply)
                else:
                    await self._resource(match, client or "", progress, reply)
            finally:
                self._places.leave()
            if run is not None:
                await self._follow(run, reply)
        elif action == "metrics" and self._scrape is not None:
            self._send(reply, await self._scrape(request.header("accept")), progress)
        elif action == "why":
            self._send_json(reply, await self._why(match.params["request"]), progress)
        elif match.route.frontend == admin.NAME:
            await self._administer(match, progress, reply, has_key=client is not None)
        elif action == "page":
            self._send(reply, self._admin.page(request.path, match.params.get("file", "")), progress)
        elif match.route.frontend == _SYSTEM:
            self._send_json(reply, await self._own(action, match.params, progress.who.key), progress)
        else:
            await self._resource(match, client or "", progress, reply)

    async def _stand_in_line(self, progress: Progress) -> None:
        """Wait for a place among the requests to the model. Raises Overloaded."""
        config, began = self.config, self._clock()
        await self._places.wait(config.max_queued, config.max_wait_seconds)
        progress.waited_seconds += self._clock() - began

    def _admit(self, request: HttpRequest, progress: Progress) -> str | None:
        """The name of the client's key, None where it brings none and needs none. Raises what keeps it out."""
        config, headers = self.config, request.headers
        is_page = find(headers, "origin") is not None
        if is_page:
            progress.cors = browser.cors_headers(config, headers)
        parts = routes.segments(request.path)
        who = progress.who = auth.admit(config, self.clients.ring, headers, request.peer, parts, self._now())
        if is_page:
            browser.check_origin(config, headers, has_key=who.name is not None)
        browser.check_upgrade(headers)
        return who.name

    def _options(self, request: HttpRequest) -> HttpResponse:
        """A preflight, or what a path allows."""
        if request.header("access-control-request-method") is not None:
            return HttpResponse(status=204, headers=browser.preflight_headers(self.config, request.headers))
        allowed = routes.methods_of(self._routes, request.path)
        return HttpResponse(status=204, headers=(("allow", ", ".join(allowed)),))

    def _frontend_of(self, path: str) -> Frontend:
        name = routes.find_frontend(self._routes, path, DEFAULT_FRONTEND)
        return FRONTENDS.get(name, FRONTENDS[DEFAULT_FRONTEND])

    async def _create(self, route: routes.Route, owner: str, progress: Progress, reply: Reply) -> Run | None:
        """A request to the model. What comes back is a run whose stream the client is to follow."""
        body = await self._aside.run(progress.size_bytes, read_body, progress.request)
        name = progress.protocol = next((name for key, name in route.by_body if key in body), route.frontend)
        reader = next((name for key, name in route.read_as if key in body), name)
        if reader != name:
            progress.note((Notice(message=_READ_AS_ANOTHER.format(reader, name)),))
        keeper = self._resources.keeper(name)
        if keeper is None or reader != name:
            asked = await self._aside.run(progress.size_bytes, FRONTENDS[reader].decode_request, body)
            exchange = await self._exchange(asked, body, progress)
            del body, asked  # the exchange has them, and may let go of them
            await self._answer(FRONTENDS[name], exchange, progress, reply)
            return None
        with ExitStack() as turn:
            self._resources.lock(keeper, owner, body, turn)
            kept = await self._kept(keeper, owner, body, progress)
            if keeper.is_background(kept.exchange):
                return await self._background(kept, turn.pop_all(), reply)
            await self._answer(FRONTENDS[name], kept.exchange, progress, reply, kept)
        return None

    async def _kept(self, keeper: Keeper, owner: str, body: jsontext.JsonObject, progress: Progress) -> Kept:
        """A request read with the help of what is kept."""
        found = await self._resources.find(keeper, owner, lambda found: keeper.create_needs(body, found))
        asked = await self._aside.run(progress.size_bytes, keeper.decode_request, body, found)
        exchange = await self._exchange(asked, body, progress)
        return Kept(keeper=keeper, owner=owner, exchange=exchange, found=found, progress=progress)

    async def _exchange(self, request: Request, body: jsontext.JsonObject, progress: Progress) -> Exchange:
        progress.model_asked, progress.is_stream = request.model, request.is_stream
        progress.note(request.notices)
        if self.config.unsupported == "refuse":
            _refuse_unsupported(request)
        self._catalog.renew()
        resolved = self._catalog.resolve(request.model)
        check_model(progress.who.key, request.model, resolved.model)
        progress.model = resolved.model
        progress.fallbacks = fallbacks_of(progress.who.key, request.model, resolved.fallbacks)
        if self.config.scheduling == CACHE_FIRST:
            progress.session = session_of(request, progress.request.headers)
        config = self.config
        if names_urls(request):
            request = await with_media(
                request, config.fetch_media, self.pool.accounts, self._fetch, max_bytes=config.max_body_bytes
            )
        identifier, created = self._new_id(), int(self._now())
        if progress.recording is not None:
            progress.recording.exchange = (identifier, created)
        return Exchange(
            id=identifier,
            created=created,
            model=request.model,
            request=request,
            body=body,
            policy=self._upstream.policy,
        )

    async def _answer(
        self, frontend: Frontend, exchange: Exchange, progress: Progress, reply: Reply, kept: Kept | None = None
    ) -> None:
        """Ask upstream, and answer the client; what is kept of it is written before the client has its end."""
        resources = self._resources
        progress.request.let_go()
        if not exchange.request.is_stream:
            body = await self._upstream.unary(frontend, exchange, progress)
            if kept is not None:
                await resources.keep(kept, body)
            self._send_json(reply, body, progress)
            return
        encoder, keep = frontend.StreamEncoder(exchange), None
        if kept is not None:
            encoder, keep = resources.kept_encoder(kept)
        stream = Stream(
            self._upstream,
            encoder,
            exchange,
            progress,
            reply,
            lambda: self._headers(progress),
            event_errors=frontend.EVENT_ERRORS,
            keep=keep,
            may_forget=frontend.FORGETS_REQUEST and kept is None,
        )
        error = await stream.run()
        self._ledger.end(progress, 200 if error is None else error.status, error)

    async def _background(self, kept: Kept, turn: ExitStack, reply: Reply) -> Run | None:
        """Begin a run; its client gets the object, or is to follow the stream for as long as it stays."""
        self._places.stay()
        turn.callback(self._places.leave)
        run = await self._resources.start(kept, turn)
        if kept.exchange.request.is_stream:
            return run
        self._send_json(reply, run.encoder.response, kept.progress)
        return None

    async def _follow(self, run: Run, reply: Reply) -> None:
        progress = run.kept.progress
        await self._resources.follow(run, reply, self._headers(progress), lambda frames: frames)

    async def _resource(self, match: routes.Match, owner: str, progress: Progress, reply: Reply) -> None:
        """A request to something that is kept, or about a request to the model that is not made."""
        request, keeper = progress.request, KEEPERS[match.route.frontend]
        holder = self._resources.elsewhere(owner, match.params.get("id", ""))
        if holder is not None and await self._forward(holder, progress, reply):
            return
        body = read_body(request) if request.body.strip() else {}
        asked = Asked(
            action=match.route.action,
            params=match.params,
            query=read_query(request.query),
            body=body,
            id=self._new_id(),
            now=int(self._now()),
        )
        if asked.action == "count":
            kept = await self._kept(keeper, owner, body, progress)
            answer = keeper.encode_count(await self._upstream.count(kept.exchange.request, progress))
        elif asked.action == "compact":
            kept = await self._kept(keeper, owner, keeper.compact_body(body), progress)
            response = await self._upstream.unary(FRONTENDS[match.route.frontend], kept.exchange, progress)
            answer = keeper.encode_compaction(response, kept.exchange, kept.found)
        elif keeper.wants_stream(asked):
            progress.is_stream = True
            await self._resources.replay(keeper, owner, asked, progress, reply, self._headers(progress))
            self._ledger.end(progress, 200)
            return
        else:
            answer = await self._resources.serve(keeper, owner, asked)
        self._send_json(reply, answer, progress)

    async def _forward(self, holder: str, progress: Progress, reply: Reply) -> bool:
        """Whether another process has answered; where it had died before, this one can say so itself. Raises
        UpstreamFailed where it broke off: it may have done what was asked."""
        request = progress.request
        self._ledger.hand_over(progress)
        try:
            await self._workers.forward(holder, request, reply)
        except UpstreamFailed as error:
            log.warning("%s: worker %s did not answer: %s", request.id, holder, error.message)
            self._ledger.take_back(progress)
            if error.code != "upstream_connect":
                raise
            return False
        return True

    async def _administer(self, match: routes.Match, progress: Progress, reply: Reply, *, has_key: bool) -> None:
        """What is for the gateway's owner."""
        request, action = progress.request, match.route.action
        self._admin.check(request, has_key=has_key)
        if action == "live":
            try:
                await self._admin.live(reply, self._headers(progress), is_head=request.method == "HEAD")
            finally:  # its client always leaves in the middle: that is no failure
                self._ledger.end(progress, 200)
            return
        body = read_body(request) if request.body.strip() else {}
        if action in ("models", "explain"):
            await self._catalog.wait()
        answer = await self._admin.answer(action, match.params, read_query(request.query), body, self._catalog.listed)
        self._send_json(reply, answer, progress)

    # --- routes of the gateway's own

    async def _own(self, action: str, params: dict[str, str], key: Key | None) -> jsontext.JsonObject:
        match action:
            case "health":
                return {"status": "ok", "version": __version__}
            case "ready":
                if not self.pool.accounts:
                    raise self._upstream.no_account()
                return {"status": "ok", "version": __version__, "accounts": len(self.pool.accounts)}
            case "root":
                return {"name": "agproxy", "version": __version__, "base_url": "/v1"}
            case "metrics":
                raise NotFound("Nothing is counted here.")
            case "openapi":
                return openapi.document(self._routes)
            case "list_none":
                return _openai.EMPTY_LIST
            case "find_none":
                raise NotFound(f"Completion {params['completion'][:64]!r} not found: completions are not stored.")
            case "list_models":
                await self._catalog.wait()
                names = models.shown_names(self.config.model_map, self._catalog.listed)
                if key is not None and key.models:
                    names = tuple(name for name in names if key.may_use(name, self._catalog.resolve(name).model))
                return _openai.encode_models(names, _MODELS_CREATED, _OWNER)
            case _:
                await self._catalog.wait()
                name = params["model"]
                check_model(key, name, self._catalog.resolve(name).model)
                return _openai.encode_model(name, _MODELS_CREATED, _OWNER)

    async def _why(self, request_id: str) -> jsontext.JsonObject:
        """What was decided for a request: each pick and skip of an account, each wait and outcome. Another process may
        have served it: then it is in the journal when it has ended."""
        found: Progress | Entry | None = self._ledger.in_flight.get(request_id) or self._admin.tally.find(request_id)
        if found is None and self._find_entry is not None:
            found = await self._find_entry(request_id)
        if found is None:
            raise NotFound(f"Nothing is remembered of the request {request_id[:100]}.", code="request_not_found")
        return {"object": "agproxy.why", "request_id": request_id, "steps": told_steps(found.steps)}

    # --- answers

    def _headers(self, progress: Progress) -> Headers:
        """What every answer says of its exchange."""
        headers = [
            ("x-request-id", progress.request.id),
            ("openai-processing-ms", str(int((self._clock() - progress.started) * 1000))),
        ]
        if progress.model:
            headers.append(("x-mapped-model", header_safe(progress.model)))
        account = progress.account
        if account is not None:
            headers.append(("x-account-id", header_safe(account.id, 200)))
            audience = self.config.account_email
            if account.email and (audience == "all" or (audience == "loopback" and is_loopback(progress.request.peer))):
                headers.append(("x-account-email", header_safe(account.email)))
        if progress.attempts:
            headers.append(("x-agproxy-attempts", _attempts(progress)))
        if progress.notices:
            headers.append(("x-agproxy-warnings", header_safe("; ".join(progress.told))))
        headers += self.clients.headers(progress.who, self._now())
        headers += progress.cors
        return tuple(headers)

    def _send_json(self, reply: Reply, body: jsontext.JsonObject, progress: Progress) -> None:
        self._send(reply, HttpResponse(status=200, headers=_JSON_HEADERS, body=jsontext.dumps(body)), progress)

    def _send(
        self, reply: Reply, response: HttpResponse, progress: Progress, error: GatewayError | None = None
    ) -> None:
        if progress.request.method != "HEAD":
            progress.bytes_out = len(response.body)
        if error is None:
            progress.first_byte_at = self._clock()
        headers = response.headers + self._headers(progress)
        reply.send(HttpResponse(status=response.status, headers=headers, body=response.body))
        self._ledger.end(progress, response.status, error)

    def _error_response(self, error: GatewayError, frontend: Frontend) -> HttpResponse:
        headers: list[tuple[str, str]] = [("content-type", JSON), *error.headers]
        wait = error.retry_after_seconds
        is_daily = isinstance(error, UpstreamRateLimited) and error.is_daily
        if wait is None and error.status == 429 and not is_daily:
            wait = _USUAL_WAIT_SECONDS
        if is_daily and not frontend.TELLS_SPENT_DAY:
            wait = None
        if wait is not None and error.status in (429, 503):
            headers.append(("retry-after", str(math.ceil(wait))))
            headers.append(("retry-after-ms", str(math.ceil(wait * 1000))))
        passes_soon = error.passes_soon
        if is_daily or (wait or 0) > _LONG_WAIT_SECONDS:
            passes_soon = False
        if isinstance(error, UpstreamAuthFailed) or error.status == 413:
            passes_soon = False
        if passes_soon is not None:
            headers.append(("x-should-retry", "true" if passes_soon else "false"))
        return HttpResponse(
            status=error.status, headers=tuple(headers), body=jsontext.dumps(frontend.encode_error(error))
        )


def _attempts(progress: Progress) -> str:
    """How many attempts an exchange took, and what became of each that failed."""
    outcomes = [f"{progress.attempts}", *progress.outcomes]
    return header_safe("; ".join(outcomes), 512)


def read_body(request: HttpRequest) -> jsontext.JsonObject:
    """The JSON object of a body. The content type is not asked: curl -d and others send a wrong one."""
    try:
        is_large = len(request.body) >= LARGE_BYTES
        body = jsontext.loads_sliced(request.body) if is_large else jsontext.loads(request.body)
    except ValueError as error:
        why = "it is empty" if not request.body.strip() else f"{type(error).__name__}"
        raise InvalidRequest(f"We could not parse the JSON body of your request ({why}).") from None
    if not isinstance(body, dict):
        raise InvalidRequest("We could not parse the JSON body of your request (not a JSON object).")
    return body


def read_query(query: str) -> dict[str, list[str]]:
    """The parameters of a URL's query; `include[]` is `include`, as SDKs write arrays one way or the other."""
    found: dict[str, list[str]] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        found.setdefault(name.removesuffix("[]"), []).append(value)
    return found


def _refuse_unsupported(request: Request) -> None:
    for notice in request.notices:
        if notice.param is not None:
            raise InvalidRequest(
                f"Unsupported parameter: {notice.message}", code="unsupported_parameter", param=notice.param
            )
