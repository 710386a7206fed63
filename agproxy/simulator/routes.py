"""Paths and keys: what a request addresses and whether its credential may.

Follows section 1 of the wire notes: the Gemini API's paths, Vertex AI's with and without a project, and Code Assist's.
Keys have no list: any will do, and words in a key choose what happens to it (KEY_WORDS).
"""

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote

from ..http11 import HttpRequest
from . import status
from .fields import GEMINI, VERTEX, has_field
from .models import Model, resolve
from .status import Refused, Violation, bad_fields

_GENERATE = frozenset({"generateContent", "streamGenerateContent"})
_BODIES = {
    "generateContent": "GenerateContentRequest",
    "streamGenerateContent": "GenerateContentRequest",
    "countTokens": "CountTokensRequest",
    "embedContent": "EmbedContentRequest",
    "batchEmbedContents": "BatchEmbedContentsRequest",
    "predict": "PredictRequest",
}
_EMBEDDING = frozenset({"embedContent", "batchEmbedContents", "predict"})
# Query parameters that every Google API takes beside the fields of its request (google/api "system parameters").
_SYSTEM_PARAMETERS = frozenset(
    {"key", "alt", "access_token", "oauth_token", "prettyPrint", "fields", "quotaUser", "userProject", "callback"}
    | {"uploadType", "upload_protocol", "pageSize", "pageToken", "page_size", "page_token"}
)

_TUNED = "gemini-2.5-flash"  # what a tuned model is taken to be tuned from
_VERSIONS = r"/(?P<version>v1|v1beta|v1alpha)"
_VERTEX = r"/(?P<version>v1|v1beta1)"
_PROJECT = r"/projects/(?P<project>[^/]+)/locations/(?P<location>[^/]+)"
_PUBLISHER = r"/publishers/(?P<publisher>[^/]+)/(?P<collection>models)"
# The first that matches counts. The last segment is `model:method`, either part percent-encoded or not.
_PATHS: tuple[tuple[str, str, re.Pattern[str]], ...] = tuple(
    (api, kind, re.compile(pattern))
    for api, kind, pattern in (
        (GEMINI, "call", rf"{_VERSIONS}/(?P<collection>models|tunedModels)/(?P<last>[^/]+)\Z"),
        (GEMINI, "list", rf"{_VERSIONS}/models\Z"),
        (VERTEX, "call", rf"{_VERTEX}{_PROJECT}{_PUBLISHER}/(?P<last>[^/]+)\Z"),
        (VERTEX, "call", rf"{_VERTEX}{_PROJECT}/(?P<collection>endpoints)/(?P<last>[^/]+)\Z"),
        (VERTEX, "call", rf"{_VERTEX}{_PUBLISHER}/(?P<last>[^/]+)\Z"),
        (VERTEX, "list", rf"{_VERTEX}/publishers/google/models\Z"),
        (VERTEX, "internal", r"/(?P<version>v1internal):(?P<last>\w+)\Z"),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What a request addresses. `name` is the model's resource name as messages give it; "" for lists.

    is_internal: Code Assist, whose body names the model and wraps request and answer.
    """

    api: str
    version: str
    name: str
    model_id: str
    method: str
    query: dict[str, str]
    is_internal: bool = False

    @property
    def streams(self) -> bool:
        """Whether the answer comes in chunks."""
        return self.method == "streamGenerateContent"

    @property
    def as_events(self) -> bool:
        """Whether chunks are wanted as events, not as one array."""
        return self.query.get("alt", self.query.get("$alt", "")).lower() == "sse"

    @property
    def body(self) -> str | None:
        """The message that the body has to be, if the method has a body."""
        return _BODIES.get(self.method)


def match(request: HttpRequest) -> Route:
    """The route of a request. Raises Refused (404) for a path or method that does not exist."""
    query = dict(parse_qsl(request.query, keep_blank_values=True))
    for api, kind, pattern in _PATHS:
        found = pattern.match(request.path)
        if found is None:
            continue
        route = _route(api, kind, found.groupdict(), query, request.method.upper())
        if route is not None:
            return route
    raise Refused(404, f"Not Found: the simulated Gemini API has no {request.method.upper()} {request.path[:200]}")


def _route(api: str, kind: str, found: dict[str, str | None], query: dict[str, str], verb: str) -> Route | None:
    version = found["version"] or ""
    if kind == "list":
        reads = verb in ("GET", "HEAD")
        return Route(api=api, version=version, name="", model_id="", method="list", query=query) if reads else None
    last = unquote(found["last"] or "")
    if kind == "internal":
        if verb != "POST":
            return None
        return Route(api=api, version=version, name="", model_id="", method=last, query=query, is_internal=True)
    model_id, colon, method = last.rpartition(":")
    if not colon:
        model_id, method = last, "get"
    elif method not in _BODIES:
        return None
    if (method == "get") != (verb in ("GET", "HEAD")) or (verb not in ("GET", "HEAD", "POST")):
        return None
    collection = found.get("collection") or "models"
    name = f"{collection}/{model_id}"
    if collection != "models":
        model_id = _TUNED
    elif api == VERTEX and found.get("project"):
        name = f"projects/{found['project']}/locations/{found['location']}/publishers/{found['publisher']}/{name}"
    elif api == VERTEX:
        name = f"publishers/{found['publisher']}/{name}"
    return Route(api=api, version=version, name=name, model_id=model_id, method=method, query=query)


def model_of(route: Route) -> Model:
    """The model that the route names. Raises Refused (404) where it does not exist or has not this method."""
    model = resolve(route.model_id)
    fits = model is not None and (model.embeds if route.method in _EMBEDDING else not model.embeds)
    if model is not None and (fits or route.method in ("get", "countTokens")):
        return model
    if route.api == VERTEX:
        raise Refused(
            404,
            f"Publisher Model `{route.name}` was not found or your project does not have access to it. Please ensure "
            "you are using a valid model version. For more information, see: "
            "https://cloud.google.com/vertex-ai/generative-ai/docs/learn/model-versions",
        )
    method = "generateContent" if route.method in _GENERATE else route.method
    raise Refused(
        404,
        f"{route.name} is not found for API version {route.version}, or is not supported for {method}. Call ListModels "
        "to see the list of available models and their supported methods.",
    )


def check_query(route: Route) -> None:
    """Raise Refused (400) for a query parameter that is neither a system parameter nor a field of the body."""
    for name in route.query:
        known = name.lstrip("$").partition(".")[0] in _SYSTEM_PARAMETERS or name.startswith("$")
        if known or (route.body is not None and has_field(route.body, name)):
            continue
        description = (
            f'Invalid JSON payload received. Unknown name "{name}": Cannot bind query parameter. Field '
            f"'{name}' could not be found in request message."
        )
        raise bad_fields([Violation("", description)])


# Words in a key (or token) -> what every request with it gets. They let a pool of keys be tried without real ones.
KEY_WORDS: dict[str, str] = {
    "invalid": "400 API_KEY_INVALID (401 for a Bearer token)",
    "expired": "401 UNAUTHENTICATED, ACCESS_TOKEN_EXPIRED",
    "denied": "403 PERMISSION_DENIED, SERVICE_DISABLED",
    "limited": "429 with RetryInfo, a quota per minute",
    "exhausted": "429, a quota per day",
    "overloaded": "503 UNAVAILABLE",
}


def check_key(request: HttpRequest, route: Route) -> None:
    """Raise Refused where the request has no credential or its words say so."""
    scheme, _, token = (request.header("authorization") or "").partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" else ""
    key = request.header("x-goog-api-key") or route.query.get("key") or ""
    credential = key or bearer or route.query.get("access_token", "")
    if not credential:
        raise status.missing_key() if route.api == GEMINI else status.missing_token()
    word = next((word for word in KEY_WORDS if word in credential.lower()), None)
    match word:
        case "invalid":
            raise status.invalid_key() if key else status.invalid_token()
        case "expired":
            raise status.invalid_token()
        case "denied":
            raise status.denied()
        case "limited":
            raise status.rate_limited(34.074824224, model=route.model_id)
        case "exhausted":
            raise status.rate_limited(12.5, period="Day", limit=250, model=route.model_id)
        case "overloaded":
            raise status.server_fault(503)
