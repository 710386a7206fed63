"""What the gateway's owner may see and change while it runs: the routes below /v1/agproxy/, and the monitor page.

Who may come here is decided before (`auth.admit`). Answers are JSON objects; errors are the usual ones. What other
processes on the same address know is gathered from them for each answer, so that it does not matter which is asked.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from . import __version__, accounts, browser, config, entries, jsontext, models, sse
from .account import Account
from .config import SETTINGS, Config
from .cooldowns import ANY_MODEL, Key, from_rows
from .entries import OWN_PROTOCOLS, Entry, Wanted
from .errors import Forbidden, InvalidRequest, NotFound, StateUnavailable
from .exchange import Progress, stream_headers
from .http11 import Headers, HttpRequest, HttpResponse, Reply
from .jsontext import JsonObject
from .pool import Pool
from .probing import MODEL, Outcome
from .resources import Workers
from .routes import Route
from .tally import MOST_RECENT, Tally, merged

log = logging.getLogger("agproxy.admin")

NAME = "admin"
# (method, pattern, action); what is after /agproxy is for the owner, see `auth.is_owners`.
_ROUTES = (
    ("GET", "/agproxy/status", "status"),
    ("GET", "/agproxy/live", "live"),
    ("GET", "/agproxy/requests", "requests"),
    ("GET", "/agproxy/requests/{request}", "request"),
    ("GET", "/agproxy/accounts", "accounts"),
    ("POST", "/agproxy/accounts/{account}/enable", "enable"),
    ("POST", "/agproxy/accounts/{account}/disable", "disable"),
    ("POST", "/agproxy/accounts/{account}/reset", "reset"),
    ("POST", "/agproxy/accounts/{account}/test", "test"),
    ("GET", "/agproxy/models", "models"),
    ("POST", "/agproxy/explain", "explain"),
)
ROUTES = tuple(
    Route(method=method, pattern=pattern, frontend=NAME, action=action) for method, pattern, action in _ROUTES
)

_LIVE = "live"  # the name under which processes publish what they know of now
_RECENT = "recent"
_FEW_RECENT = 50  # entries that are remembered beside the journal, which has each a moment later
_LIVE_SECONDS = 1.0
_LIMIT, _MOST_LIMIT = 50, 500
_MOST_SHOWN = 50  # requests under way that are named; all are counted
_MOST_NAME_CHARACTERS = 256

_PAGE_HEADERS = (
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cache-control", "no-cache"),
)

ReadPage = Callable[[str], tuple[str, bytes] | None]
"""Media type and content of a file of the monitor page."""


class Registry(Protocol):
    """The accounts as they are configured."""

    async def entries(self) -> tuple[accounts.Entry, ...]:
        """All of them, disabled ones too."""
        ...

    async def switch(self, id: str, *, is_enabled: bool) -> None:
        """Use one, or use it no more, from now on and after a restart."""
        ...


class Archive(Protocol):
    """The requests that have ended, of all processes."""

    async def latest(self, wanted: Wanted, limit: int) -> list[tuple[int, Entry]]:
        """The newest that are wanted, the newest first, each with its place."""
        ...

    async def show(self, request_id: str) -> tuple[Entry, JsonObject | None] | None:
        """One of them, and its recorded bodies."""
        ...


class Admin:
    """Answers the owner. registry None: no folder holds accounts. archive None: the journal is off, and what this and
    the other processes remember has to do. probe: one call with an account and a model."""

    def __init__(
        self,
        *,
        settings: Callable[[], Config],
        pool: Pool,
        in_flight: Mapping[str, Progress],
        workers: Workers,
        now: Callable[[], float],
        clock: Callable[[], float],
        probe: Callable[[Account, str], Awaitable[Outcome]],
        accounts_changed: Callable[[], None],
        registry: Registry | None = None,
        archive: Archive | None = None,
        read_page: ReadPage | None = None,
    ) -> None:
        # Who keeps fewer of them finds the memory of one that goes still in the processor's cache: 2 % of a request.
        self.tally = Tally(MOST_RECENT if archive is None else _FEW_RECENT)
        self._settings = settings
        self._pool = pool
        self._in_flight = in_flight
        self._workers = workers
        self._now = now
        self._clock = clock
        self._probe = probe
        self._accounts_changed = accounts_changed
        self._registry = registry
        self._archive = archive
        self._read_page = read_page
        self._began = now()
        self._stopping = asyncio.Event()
        workers.publish(_LIVE, self._mine)
        workers.publish(_RECENT, self._recent)

    def stop(self) -> None:
        """End the live streams, which would go on for ever."""
        self._stopping.set()

    # --- the page

    def page(self, path: str, name: str) -> HttpResponse:
        """A file of the monitor page; "" is the page itself. Raises NotFound."""
        found = self._read_page(name or "monitor.html") if self._read_page is not None and self._settings().ui else None
        if found is None:
            raise NotFound("There is no such page here, or the setting 'ui' is off.")
        if not name and path.endswith("/"):  # its files are named relative to the path without a slash
            return HttpResponse(status=308, headers=(("location", "../ui"), *_PAGE_HEADERS))
        media_type, content = found
        return HttpResponse(status=200, headers=(("content-type", media_type), *_PAGE_HEADERS), body=content)

    # --- routes

    def check(self, request: HttpRequest, *, has_key: bool) -> None:
        """Refuse what a web page may have sent without its user's knowledge. Raises Forbidden, InvalidRequest 415.

        Pages of this machine may use the API without a key; what is here is for the gateway's own page alone. What
        changes something needs a content type that a form cannot have, so that a browser asks before it sends it.
        """
        origin = request.header("origin")
        if origin is not None and not has_key and not browser.is_same_origin(origin, request.headers):
            raise Forbidden("Other web pages may not look into the gateway without a key.", code="origin_not_allowed")
        media_type = (request.header("content-type") or "").partition(";")[0].strip().lower()
        if request.method == "POST" and media_type != "application/json":
            raise InvalidRequest("The content type application/json was expected.", status=415)

    async def answer(
        self,
        action: str,
        params: dict[str, str],
        query: dict[str, list[str]],
        body: JsonObject,
        listed: tuple[str, ...],
    ) -> JsonObject:
        """The answer of a route. listed: the models that upstream is known to have."""
        match action:
            case "status":
                return await self._status()
            case "requests":
                return await self._requests(query)
            case "request":
                return await self._request(params["request"])
            case "accounts":
                return {"object": "list", "data": await self._accounts(await self._gathered())}
            case "models":
                return self._models(listed)
            case "explain":
                return self._explain(body, listed)
            case _:
                return await self._change(action, params["account"], body)

    async def live(self, reply: Reply, head: Headers, *, is_head: bool) -> None:
        """A snapshot each second, as events of a stream, until the client leaves or the gateway stops. is_head: only
        the headers were asked for."""
        reply.start(200, stream_headers(head))
        while not is_head and not self._stopping.is_set():
            reply.write(sse.encode(jsontext.dumps(await self.snapshot())))
            try:
                await asyncio.wait_for(self._stopping.wait(), _LIVE_SECONDS)
            except TimeoutError:
                continue
        reply.end()

    # --- now

    def _mine(self) -> JsonObject:
        """What this process knows of now, for the others and itself."""
        now, clock = self._now(), self._clock()
        running = [one for one in self._in_flight.values() if one.protocol not in OWN_PROTOCOLS]
        shown = sorted(running, key=lambda one: one.started)[:_MOST_SHOWN]
        return {
            "began": self._began,
            "in_flight": len(running),
            "running": [_running_row(one, clock) for one in shown],
            "work": {id: list(work) for id, work in self._pool.work(now).items()},
            "limits": self._pool.snapshot(now),
            "tally": self.tally.told(now),
        }

    async def _gathered(self) -> list[JsonObject]:
        """What all processes know of now, this one first."""
        return [self._mine(), *await self._workers.gather(_LIVE)]

    async def snapshot(self) -> JsonObject:
        """The gateway at this moment."""
        known = await self._gathered()
        now = self._now()
        running = sorted((row for one in known for row in one["running"]), key=lambda row: -float(row["seconds"]))
        counted = merged([one["tally"] for one in known], now)
        problem: str | None = None
        try:
            shown = await self._accounts(known, counted.pop("accounts"))
        except StateUnavailable as error:  # a file that cannot be read is no reason to see nothing at all
            shown, problem = [], error.message
        return {
            "object": "agproxy.live",
            "at": round(now, 3),
            "version": __version__,
            "workers": len(known),
            "uptime_seconds": round(now - min(one["began"] for one in known), 1),
            "in_flight": sum(one["in_flight"] for one in known),
            "running": running[:_MOST_SHOWN],
            **counted,
            "accounts": shown,
            "problem": problem,
        }

    async def _status(self) -> JsonObject:
        known = await self._gathered()
        settings, now = self._settings(), self._now()
        return {
            "object": "agproxy.status",
            "version": __version__,
            "at": round(now, 3),
            "started_at": round(min(one["began"] for one in known), 3),
            "uptime_seconds": round(now - min(one["began"] for one in known), 1),
            "workers": len(known),
            "in_flight": sum(one["in_flight"] for one in known),
            "auth_mode": settings.effective_auth_mode,
            "has_admin_key": bool(settings.admin_key),
            "journal": self._archive is not None,
            "journal_bodies": settings.journal_bodies if self._archive is not None else "off",
            "settings": [
                {
                    "key": one.key,
                    "value": config.show(one, getattr(settings, one.name)),
                    "is_default": getattr(settings, one.name) == one.default,
                    "help": one.help,
                }
                for one in SETTINGS
            ],
        }

    # --- requests

    async def _requests(self, query: Mapping[str, Sequence[str]]) -> JsonObject:
        def one(name: str) -> str | None:
            return next((value for value in query.get(name, ()) if value), None)

        limit = _number(one("limit"), "limit", _LIMIT)
        wanted = Wanted(
            only_errors=one("errors") in ("1", "true", "on", "yes"),
            model=one("model"),
            client=one("client"),
            account=one("account"),
            before=_number(before, "before", 0) if (before := one("before")) is not None else None,
            only_api=one("all") not in ("1", "true", "on", "yes"),
        )
        if not 1 <= limit <= _MOST_LIMIT:
            raise InvalidRequest(f"limit: a number from 1 to {_MOST_LIMIT} was expected.", param="limit")
        if self._archive is not None:
            found = await self._archive.latest(wanted, limit + 1)
            source = "journal"
        else:
            found = await self._remembered(wanted, limit + 1)
            source = "memory"
        return {
            "object": "list",
            "source": source,
            "data": [{"number": number, **_entry_row(entry)} for number, entry in found[:limit]],
            "has_more": len(found) > limit,
        }

    async def _remembered(self, wanted: Wanted, limit: int) -> list[tuple[int, Entry]]:
        """Where there is no journal: what the processes remember. Their numbers are only their own, so that only the
        newest can be had of several."""
        found = self.tally.latest(wanted, limit)
        others = await self._workers.gather(_RECENT)
        if not others:
            return found
        everything = Tally()
        rows = [*self._recent(), *(row for other in others for row in other)]
        for row in sorted(rows, key=lambda row: row["at"] + row["total_seconds"]):
            everything.add(entries.from_value(row))
        return everything.latest(wanted, limit)

    def _recent(self) -> list[JsonObject]:
        return [entries.to_value(entry) for _, entry in self.tally.recent]

    async def _request(self, request_id: str) -> JsonObject:
        running = self._in_flight.get(request_id)
        if running is not None:
            row = _running_row(running, self._clock()) | {"steps": entries.told_steps(running.steps)}
            return {"object": "agproxy.request", "is_running": True, **row, "recording": None}
        found: tuple[Entry, JsonObject | None] | None = None
        if self._archive is not None:
            found = await self._archive.show(request_id)
        if found is None:  # the journal writes a moment later
            everybody = await self._remembered(Wanted(), _MOST_LIMIT * max(len(await self._gathered()), 1))
            found = next(((entry, None) for _, entry in everybody if entry.id == request_id), None)
        if found is None:
            raise NotFound(f"Nothing is remembered of the request {request_id[:100]}.", code="request_not_found")
        entry, recording = found
        return {"object": "agproxy.request", "is_running": False, **entries.to_value(entry), "recording": recording}

    # --- accounts

    async def _accounts(
        self, known: Sequence[JsonObject], counted: Mapping[str, JsonObject] | None = None
    ) -> list[JsonObject]:
        """Each account: what it is, its limits, and its work in all processes."""
        now = self._now()
        if counted is None:
            counted = merged([one["tally"] for one in known], now)["accounts"]
        limits: dict[Key, tuple[float, JsonObject]] = {}
        for one in known:
            for key, limit in from_rows(one["limits"], now).items():
                if key not in limits or limits[key][0] < limit.until:
                    row = {"model": key[1], "until": round(limit.until, 3), "seconds": round(limit.until - now, 1)}
                    row |= {"cause": limit.cause.name.lower(), "message": limit.message}
                    limits[key] = (limit.until, row)
        rows: dict[str, JsonObject] = {}
        configured = await self._registry.entries() if self._registry is not None else ()
        used = {account.id: account for account in self._pool.accounts}
        for entry in configured:
            account = accounts.account_of(entry) if entry.is_known else None
            rows[entry.record.id] = _account_row(entry, account, is_used=entry.record.id in used)
        for account in used.values():
            if account.id not in rows:  # the simulated one, or one that a program has handed in
                rows[account.id] = _given_row(account)
        for id, row in rows.items():
            quotas = {id, row.pop("quota")}
            work = [one["work"][id] for one in known if id in one["work"]]
            speeds = [seconds for _, seconds in work if seconds is not None]
            row["limits"] = [limit for (quota, _), (_, limit) in sorted(limits.items()) if quota in quotas]
            row["in_flight"] = sum(count for count, _ in work)
            row["first_byte_seconds"] = round(sum(speeds) / len(speeds), 3) if speeds else None
            row |= counted.get(id) or {"served": 0, "failed": 0, "tokens": 0}
            row["state"] = _state(row)
        return list(rows.values())

    async def _change(self, action: str, id: str, body: JsonObject) -> JsonObject:
        if action in ("enable", "disable"):
            if self._registry is None:
                raise InvalidRequest(
                    "This gateway has no home folder: its accounts are its program's.",
                    status=409,
                    code="account_not_changeable",
                )
            await self._find(id)
            await self._registry.switch(id, is_enabled=action == "enable")
            log.info("account %s: %sd by its owner", id, action)
            note = "" if self._settings().reload_seconds else "reload_seconds is 0: it holds from the next SIGHUP on"
            return {"object": "agproxy.change", "account": id, "action": action, "note": note or None}
        account = await self._find(id)
        if action == "reset":
            self._pool.reset(id)
            self._accounts_changed()
            log.info("account %s: its limits were forgotten by its owner", id)
            return {"object": "agproxy.change", "account": id, "action": action, "note": None}
        model = body.get("model", MODEL)
        if not isinstance(model, str) or not 0 < len(model) <= _MOST_NAME_CHARACTERS:
            raise InvalidRequest("model: the name of a Gemini model was expected.", param="model")
        if account is None:
            raise InvalidRequest("This version knows no accounts of its kind.", status=409, code="unknown_kind")
        outcome = await self._probe(account, model)
        return {
            "object": "agproxy.test",
            "account": id,
            "model": model,
            "ok": not outcome.fault,
            "status": outcome.status,
            "milliseconds": outcome.milliseconds,
            "error": outcome.fault or None,
        }

    async def _find(self, id: str) -> Account | None:
        """The account of an id, disabled ones too; None where its kind is not known. Raises NotFound."""
        for account in self._pool.accounts:
            if account.id == id:
                return account
        for entry in await self._registry.entries() if self._registry is not None else ():
            if entry.record.id == id:
                return accounts.account_of(entry) if entry.is_known else None
        raise NotFound(f"There is no account {id[:100]!r}.", code="account_not_found")

    # --- models

    def _models(self, listed: tuple[str, ...]) -> JsonObject:
        settings = self._settings()
        table = models.table(settings.model_map, settings.default_model, listed)
        rows = [dict(zip(("name", "model", "rule"), row, strict=True)) for row in table]
        return {"object": "list", "data": rows, "listed": len(listed)}

    def _explain(self, body: JsonObject, listed: tuple[str, ...]) -> JsonObject:
        name = body.get("model")
        if not isinstance(name, str) or not 0 < len(name) <= _MOST_NAME_CHARACTERS:
            raise InvalidRequest("model: the name that a client would use was expected.", param="model")
        settings = self._settings()
        found = models.explain(name, settings.model_map, settings.default_model, frozenset(listed))
        return {"object": "agproxy.explanation", "name": name, **models.as_json(found)}


# --- rows ------------------------------------------------------------------------------------------------------


def _running_row(progress: Progress, clock: float) -> JsonObject:
    request = progress.request
    return {
        "id": request.id,
        "at": round(progress.at, 3),
        "seconds": round(clock - progress.started, 1),
        "method": request.method,
        "path": request.path[:_MOST_NAME_CHARACTERS],
        "protocol": progress.protocol,
        "model_asked": progress.model_asked[:_MOST_NAME_CHARACTERS],
        "model": progress.model,
        "client": progress.client,
        "account": None if progress.account is None else progress.account.id,
        "is_stream": progress.is_stream,
        "attempts": progress.attempts,
        "outcomes": list(progress.outcomes),
        "bytes_out": progress.bytes_out,
    }


def _entry_row(entry: Entry) -> JsonObject:
    """An entry in a list: without what only its own page shows."""
    value = entries.to_value(entry)
    del value["steps"]
    return value


def _account_row(entry: accounts.Entry, account: Account | None, *, is_used: bool) -> JsonObject:
    """An account that is configured. Nothing of its secret is in it."""
    record = entry.record
    source = ["environment"] * (entry.variable is not None) + ["file"] * entry.is_stored
    why_not = None if entry.is_stored else f"it comes from {entry.variable}: change it there"
    return {
        "id": record.id,
        "label": record.label,
        "email": record.email,
        "kind": record.kind,
        "source": source,
        "is_changeable": entry.is_stored,
        "why_not": why_not,
        "is_enabled": record.is_enabled,
        "disabled_reason": record.disabled_reason or None,
        "is_known": entry.is_known,
        "is_used": is_used,
        **_traits(account),
        "quota": record.id if account is None else account.quota,
    }


def _given_row(account: Account) -> JsonObject:
    return {
        "id": account.id,
        "label": account.label,
        "email": account.email,
        "kind": "given",
        "source": [],
        "is_changeable": False,
        "why_not": "it is in no file: it is the simulated one, or a program has handed it in",
        "is_enabled": True,
        "disabled_reason": None,
        "is_known": True,
        "is_used": True,
        **_traits(account),
        "quota": account.quota,
    }


def _traits(account: Account | None) -> JsonObject:
    if account is None:
        return {"upstream": None, "project": None, "priority": 0, "weight": 1.0, "models": []}
    return {
        "upstream": account.endpoint.kind,
        "project": account.project or account.endpoint.project or None,
        "priority": account.priority,
        "weight": account.weight,
        "models": list(account.models),
    }


def _state(row: JsonObject) -> str:
    """In a word: unknown, disabled, waiting (it was just enabled), refused, limited, ready."""
    if not row["is_known"]:
        return "unknown"
    if not row["is_enabled"]:
        return "disabled"
    if not row["is_used"]:
        return "waiting"
    if any(limit["model"] == ANY_MODEL for limit in row["limits"]):
        return "refused"
    return "limited" if row["limits"] else "ready"


def _number(text: Any, name: str, usual: int) -> int:
    if text is None:
        return usual
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise InvalidRequest(f"{name}: a whole number was expected.", param=name)
    return int(text)
