"""The server's OpenAPI 3.1 document, made from the table of routes and what is said of each here. Pure.

`SAID` has an `Operation` for each route; a test holds the two together. Schemas are short: they say what this server
reads and answers, not all that OpenAI's API knows.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from . import __version__
from .jsontext import JsonObject
from .routes import Route

_ROOTED = frozenset({"/healthz", "/health", "/readyz", "/", "/ui", "/ui/{file}", "/openapi.json", "/metrics"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What is said of a route. purpose: as README has it. body, answer: names of schemas, "" for none. more: a media
    type that it can answer with beside JSON, or in its place where `answer` is "". query: (name, type, description).
    errors: its own statuses."""

    purpose: str
    body: str = ""
    answer: str = "Object"
    more: str = ""
    query: tuple[tuple[str, str, str], ...] = ()
    errors: tuple[int, ...] = ()


_EVENTS = "text/event-stream"
_ASKS = (400, 404, 413, 429, 500, 502, 503)
_KEPT = (400, 404, 503)
_PAGE = (
    ("limit", "integer", "how many, from 1 to 100"),
    ("order", "string", "asc or desc"),
    ("after", "string", "the id after which to go on"),
)
_CHANGES = (404, 409, 415, 503)

# (method, pattern) of a route -> what is said of it.
SAID: dict[tuple[str, str], Operation] = {
    ("GET", "/healthz"): Operation(purpose="the process is alive: status and version", answer="Health"),
    ("GET", "/health"): Operation(purpose="the same", answer="Health"),
    ("GET", "/readyz"): Operation(
        purpose="there is an account to answer with, else 503", answer="Health", errors=(503,)
    ),
    ("GET", "/"): Operation(purpose="name, version and base URL"),
    ("GET", "/openapi.json"): Operation(purpose="all routes as an OpenAPI 3.1 document"),
    ("GET", "/ui"): Operation(
        purpose="the monitor page, unless `ui` is off: it needs no key itself, and asks for the one it reads with",
        answer="",
        more="text/html",
        errors=(404,),
    ),
    ("GET", "/ui/{file}"): Operation(purpose="its style, scripts and icon", answer="", more="*/*", errors=(404,)),
    ("GET", "/metrics"): Operation(
        purpose="counts and gauges for Prometheus; for the same as what is below /v1/agproxy",
        answer="",
        more="text/plain",
        errors=(404,),
    ),
    ("GET", "/agproxy/why/{request}"): Operation(
        purpose="why a request (by its `x-request-id`) went to which account, and which were passed by; as all below "
        "/v1/agproxy, for who may look into the gateway",
        errors=(404,),
    ),
    ("GET", "/agproxy/status"): Operation(
        purpose="version, uptime, processes, settings that are no secret", answer="Status"
    ),
    ("GET", "/agproxy/live"): Operation(
        purpose="a snapshot each second as an event stream: in flight, rates, tokens, latency, errors, accounts; of "
        "all processes together",
        answer="",
        more=_EVENTS,
    ),
    ("GET", "/agproxy/requests"): Operation(
        purpose="requests that have ended, the newest first, from the journal, or from memory where it is off",
        answer="RequestList",
        query=(
            ("errors", "boolean", "only those that failed (status 400 and above)"),
            ("model", "string", "of this model, asked for or answering; * matches anything"),
            ("client", "string", "of the client key with this name"),
            ("account", "string", "that this account served last"),
            ("before", "integer", "only those before the one with this `number`"),
            ("limit", "integer", "how many, from 1 to 500; 50 unless told"),
            ("all", "boolean", "those to the gateway itself too, such as this one"),
        ),
        errors=(400, 503),
    ),
    ("GET", "/agproxy/requests/{request}"): Operation(
        purpose="one of them, or one under way: each attempt and why, and the bodies if they were recorded",
        answer="Request",
        errors=(404, 503),
    ),
    ("GET", "/agproxy/accounts"): Operation(
        purpose="accounts with their state, limits and use; never keys", answer="AccountList", errors=(503,)
    ),
    ("POST", "/agproxy/accounts/{account}/enable"): Operation(
        purpose="use an account again; changes accounts.json, so that all processes take it up",
        answer="Change",
        body="Empty",
        errors=_CHANGES,
    ),
    ("POST", "/agproxy/accounts/{account}/disable"): Operation(
        purpose="keep an account, but use it no more", answer="Change", body="Empty", errors=_CHANGES
    ),
    ("POST", "/agproxy/accounts/{account}/reset"): Operation(
        purpose="forget its limits", answer="Change", body="Empty", errors=_CHANGES
    ),
    ("POST", "/agproxy/accounts/{account}/test"): Operation(
        purpose="make one small call with it", body="TestBody", answer="Test", errors=_CHANGES
    ),
    ("GET", "/agproxy/models"): Operation(
        purpose="what each model name means here, and by which rule", answer="MappingList"
    ),
    ("POST", "/agproxy/explain"): Operation(
        purpose="which rule takes a model name, why it wins, and which others would have taken it",
        body="ExplainBody",
        answer="Explanation",
        errors=(400, 415),
    ),
    ("GET", "/models"): Operation(
        purpose="names that can be asked for: your own, the usual aliases, what upstream lists", answer="ModelList"
    ),
    ("GET", "/models/{model...}"): Operation(purpose="one of them, else 404", answer="Model", errors=(404,)),
    ("POST", "/chat/completions"): Operation(
        purpose="Chat Completions, whole or streamed", body="ChatBody", answer="Chat", more=_EVENTS, errors=_ASKS
    ),
    ("POST", "/chat/completions/chat/completions"): Operation(
        purpose="the same, for a base URL that already names the path",
        body="ChatBody",
        answer="Chat",
        more=_EVENTS,
        errors=_ASKS,
    ),
    ("GET", "/chat/completions"): Operation(
        purpose="stored completions: none are kept, so the list is empty", answer="List"
    ),
    ("GET", "/chat/completions/{completion}"): Operation(
        purpose="a stored completion: 404, as none are kept", errors=(404,)
    ),
    ("POST", "/chat/completions/{completion}"): Operation(purpose="the same", errors=(404,)),
    ("DELETE", "/chat/completions/{completion}"): Operation(purpose="the same", errors=(404,)),
    ("GET", "/chat/completions/{completion}/messages"): Operation(purpose="the same", errors=(404,)),
    ("POST", "/completions"): Operation(
        purpose="legacy Completions, whole or streamed",
        body="CompletionBody",
        answer="Completion",
        more=_EVENTS,
        errors=_ASKS,
    ),
    ("POST", "/responses"): Operation(
        purpose="Responses, whole or streamed", body="ResponseBody", answer="Response", more=_EVENTS, errors=_ASKS
    ),
    ("GET", "/responses/{id}"): Operation(
        purpose="a kept response, or its stream once more",
        answer="Response",
        more=_EVENTS,
        query=(
            ("stream", "boolean", "as a stream"),
            ("starting_after", "integer", "the sequence number after which the stream goes on"),
        ),
        errors=_KEPT,
    ),
    ("DELETE", "/responses/{id}"): Operation(purpose="forget it", errors=_KEPT),
    ("POST", "/responses/{id}/cancel"): Operation(purpose="end a background run", answer="Response", errors=_KEPT),
    ("GET", "/responses/{id}/input_items"): Operation(
        purpose="what was asked", answer="List", query=_PAGE, errors=_KEPT
    ),
    ("POST", "/responses/input_tokens"): Operation(
        purpose="how many tokens a request has, without asking it", body="ResponseBody", errors=_ASKS
    ),
    ("POST", "/responses/compact"): Operation(purpose="sum up a long history", body="ResponseBody", errors=_ASKS),
    ("POST", "/conversations"): Operation(
        purpose="begin a conversation, which responses can go on with", body="Object", errors=_KEPT
    ),
    ("GET", "/conversations/{id}"): Operation(purpose="one of them", errors=_KEPT),
    ("POST", "/conversations/{id}"): Operation(purpose="change its metadata", body="Object", errors=_KEPT),
    ("DELETE", "/conversations/{id}"): Operation(purpose="forget it", errors=_KEPT),
    ("POST", "/conversations/{id}/items"): Operation(purpose="add items", body="Object", answer="List", errors=_KEPT),
    ("GET", "/conversations/{id}/items"): Operation(purpose="its items", answer="List", query=_PAGE, errors=_KEPT),
    ("GET", "/conversations/{id}/items/{item}"): Operation(purpose="one of its items", errors=_KEPT),
    ("DELETE", "/conversations/{id}/items/{item}"): Operation(purpose="take an item out", errors=_KEPT),
    ("POST", "/chat/completions/responses"): Operation(
        purpose="Responses or Chat by the body, for tools that stack one path on another",
        body="Object",
        more=_EVENTS,
        errors=_ASKS,
    ),
}

_TEXT, _COUNT, _NUMBER, _YES = {"type": "string"}, {"type": "integer"}, {"type": "number"}, {"type": "boolean"}
_SOME_TEXT = {"type": ["string", "null"]}
_OBJECTS = {"type": "array", "items": {"type": "object"}}


def _object(required: str, **properties: Any) -> JsonObject:
    """An object with these properties, of which some must be there; others may be beside them."""
    schema: JsonObject = {"type": "object", "properties": properties}
    return schema | ({"required": required.split()} if required else {})


def _ref(name: str) -> JsonObject:
    return {"$ref": f"#/components/schemas/{name}"}


def _list_of(name: str, **more: Any) -> JsonObject:
    return _object("object data", object={"const": "list"}, data={"type": "array", "items": _ref(name)}, **more)


_ENTRY: dict[str, Any] = {
    "id": _TEXT, "at": _NUMBER, "client": _SOME_TEXT, "protocol": _TEXT, "method": _TEXT, "path": _TEXT,
    "model_asked": _TEXT, "model": _TEXT, "account": _SOME_TEXT, "attempts": _COUNT, "status": _COUNT,
    "error": _SOME_TEXT, "message": _SOME_TEXT, "prompt_tokens": _COUNT, "output_tokens": _COUNT,
    "total_seconds": _NUMBER,
}  # fmt: skip

_SCHEMAS: dict[str, JsonObject] = {
    "Error": _object(
        "error",
        error=_object("message type param code", message=_TEXT, type=_TEXT, param=_SOME_TEXT, code=_SOME_TEXT),
    ),
    "Object": {"type": "object"},
    "Empty": {"type": "object", "maxProperties": 0},
    "List": _object("object data", object={"const": "list"}, data=_OBJECTS, has_more=_YES),
    "Health": _object("status version", status={"const": "ok"}, version=_TEXT, accounts=_COUNT),
    "Model": _object("id object", id=_TEXT, object={"const": "model"}, created=_COUNT, owned_by=_TEXT),
    "ModelList": _list_of("Model"),
    "ChatBody": _object(
        "model messages",
        model=_TEXT,
        messages=_OBJECTS,
        stream=_YES,
        max_completion_tokens=_COUNT,
        temperature=_NUMBER,
        tools=_OBJECTS,
        response_format={"type": "object"},
        reasoning_effort=_TEXT,
    ),
    "Chat": _object(
        "id object choices",
        id=_TEXT,
        object={"const": "chat.completion"},
        created=_COUNT,
        model=_TEXT,
        choices=_OBJECTS,
        usage={"type": "object"},
    ),
    "CompletionBody": _object(
        "model prompt", model=_TEXT, prompt={"type": ["string", "array"]}, stream=_YES, max_tokens=_COUNT
    ),
    "Completion": _object(
        "id object choices", id=_TEXT, object={"const": "text_completion"}, model=_TEXT, choices=_OBJECTS
    ),
    "ResponseBody": _object(
        "model",
        model=_TEXT,
        input={"type": ["string", "array"]},
        instructions=_SOME_TEXT,
        stream=_YES,
        background=_YES,
        store=_YES,
        previous_response_id=_SOME_TEXT,
        tools=_OBJECTS,
    ),
    "Response": _object(
        "id object status output", id=_TEXT, object={"const": "response"}, status=_TEXT, model=_TEXT, output=_OBJECTS
    ),
    "Status": _object(
        "object version uptime_seconds workers settings",
        object={"const": "agproxy.status"},
        version=_TEXT,
        uptime_seconds=_NUMBER,
        workers=_COUNT,
        in_flight=_COUNT,
        auth_mode=_TEXT,
        settings=_OBJECTS,
    ),
    "Entry": _object("id at method path status", number=_COUNT, **_ENTRY),
    "RequestList": _list_of("Entry", source={"enum": ["journal", "memory"]}, has_more=_YES),
    "Request": _object(
        "object id is_running steps",
        object={"const": "agproxy.request"},
        is_running=_YES,
        steps=_OBJECTS,
        recording={"type": ["object", "null"]},
        **_ENTRY,
    ),
    "Account": _object(
        "id kind state limits",
        id=_TEXT,
        label=_TEXT,
        kind=_TEXT,
        source={"type": "array", "items": {"enum": ["environment", "file"]}},
        state={"enum": ["ready", "limited", "refused", "disabled", "waiting", "unknown"]},
        is_changeable=_YES,
        why_not=_SOME_TEXT,
        is_enabled=_YES,
        limits=_OBJECTS,
        in_flight=_COUNT,
        served=_COUNT,
        failed=_COUNT,
        tokens=_COUNT,
    ),
    "AccountList": _list_of("Account"),
    "Change": _object(
        "object account action", object={"const": "agproxy.change"}, account=_TEXT, action=_TEXT, note=_SOME_TEXT
    ),
    "TestBody": _object("", model=_TEXT),
    "Test": _object(
        "object account ok",
        object={"const": "agproxy.test"},
        account=_TEXT,
        model=_TEXT,
        ok=_YES,
        status={"type": ["integer", "null"]},
        milliseconds={"type": ["integer", "null"]},
        error=_SOME_TEXT,
    ),
    "Mapping": _object("name model rule", name=_TEXT, model=_TEXT, rule=_TEXT),
    "MappingList": _list_of("Mapping", listed=_COUNT),
    "ExplainBody": _object("model", model=_TEXT),
    "Explanation": _object(
        "name model why",
        name=_TEXT,
        model=_SOME_TEXT,
        fallbacks={"type": "array", "items": _TEXT},
        rule=_SOME_TEXT,
        why=_TEXT,
        lost=_OBJECTS,
    ),
}
_STATUSES = {
    400: "The request cannot be served as it is.",
    401: "No key, or a wrong one.",
    403: "It comes from where it may not.",
    404: "There is no such thing here.",
    409: "It cannot be changed here.",
    413: "It is too large.",
    415: "Another content type was expected.",
    429: "Upstream's limit is met; Retry-After says for how long.",
    500: "A bug, which is in the log.",
    502: "Upstream failed, or refuses the account.",
    503: "No account, no capacity, or a store that cannot be used.",
}


def path_of(pattern: str) -> str:
    """The path of a route's pattern as clients write it; OpenAPI has no word for a parameter with slashes."""
    return (pattern if pattern in _ROOTED else "/v1" + pattern).replace("...}", "}")


def document(table: Iterable[Route]) -> JsonObject:
    """The document. Raises KeyError for a route of which nothing is said."""
    paths: dict[str, JsonObject] = {}
    for route in table:
        said = SAID[route.method, route.pattern]
        paths.setdefault(path_of(route.pattern), {})[route.method.lower()] = _operation(route, said)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "agproxy",
            "version": __version__,
            "description": "OpenAI's API, answered by Google Gemini. Paths are served with and without /v1.",
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}, {"x-api-key": []}, {"x-goog-api-key": []}, {}],
        "paths": paths,
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "The client key or the admin key."},
                "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
                "x-goog-api-key": {"type": "apiKey", "in": "header", "name": "x-goog-api-key"},
            },
        },
    }


def _operation(route: Route, said: Operation) -> JsonObject:
    is_open = route.pattern in ("/ui", "/ui/{file}")
    words = [word for word in route.pattern.replace("...}", "}").split("/") if word.startswith("{")]
    parameters: list[JsonObject] = [
        {"name": word[1:-1], "in": "path", "required": True, "schema": _TEXT} for word in words
    ]
    parameters += [
        {"name": name, "in": "query", "description": text, "schema": {"type": kind}} for name, kind, text in said.query
    ]
    content: JsonObject = {"application/json": {"schema": _ref(said.answer)}} if said.answer else {}
    if said.more:
        content[said.more] = {"schema": _TEXT}
    answers: dict[str, JsonObject] = {"200": {"description": said.purpose, "content": content}}
    for status in (*said.errors, *(() if is_open else (401, 403))):
        answers[str(status)] = {
            "description": _STATUSES[status],
            "content": {"application/json": {"schema": _ref("Error")}},
        }
    names = "_".join(word.strip("{}.") for word in path_of(route.pattern).split("/") if word)
    operation: JsonObject = {
        "operationId": f"{route.method.lower()}_{names.replace('.', '_')}",
        "summary": said.purpose[0].upper() + said.purpose[1:],
        "tags": [_tag(route)],
        "responses": answers,
    }
    if parameters:
        operation["parameters"] = parameters
    if said.body:
        body = {"application/json": {"schema": _ref(said.body)}}
        operation["requestBody"] = {"content": body, "required": said.body not in ("Empty", "TestBody", "Object")}
    if is_open:
        operation["security"] = []
    return operation


def _tag(route: Route) -> str:
    return "agproxy" if route.frontend in ("gateway", "admin") else route.frontend.removeprefix("openai_")
