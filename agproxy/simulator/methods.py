"""Every method but generation: the list of models, token counts, embeddings, and Code Assist's small talk.

Follows section 15 of the wire notes. Takes a route and a body, gives the answer's JSON; raises Refused.
"""

import base64
from collections.abc import Callable
from typing import Any

from .. import jsontext
from ..http11 import HttpRequest
from ..jsontext import JsonObject
from . import embed, fields, validate
from .fields import GEMINI, VERTEX
from .models import LISTED, Model
from .prompt import count_tokens, tokens
from .routes import Route, model_of
from .status import Refused, bad_fields

_PAGE = 50
_MOST_IN_PAGE = 1_000
_MOST_IN_BATCH = 100


def read_json(body: bytes) -> Any:
    """The body's JSON; an empty body is an empty message. Raises Refused (400)."""
    if not body.strip():
        return {}
    try:
        return jsontext.loads(body)
    except ValueError as error:
        raise Refused(400, f"Invalid JSON payload received. {str(error)[:200]}") from None


def read_message(message: str, value: Any, api: str) -> JsonObject:
    """The value as that message in canonical form. Raises Refused (400) with everything that does not fit."""
    canonical, violations = fields.read(message, value, api)
    if violations:
        raise bad_fields(violations)
    return canonical


def answer(request: HttpRequest, route: Route) -> JsonObject:
    """The answer to any method but generation. Raises Refused."""
    if route.is_internal:
        return _internal(request, route)
    return _METHODS[route.method](request, route)


def _list(_: HttpRequest, route: Route) -> JsonObject:
    if route.api == VERTEX:
        listed = [{"name": f"publishers/google/models/{model.id}", "versionId": "default"} for model in LISTED]
        return {"publisherModels": listed}
    size = _page_size(route)
    start = _page_start(route)
    page: JsonObject = {"models": [model.wire() for model in LISTED[start : start + size]]}
    if start + size < len(LISTED):
        page["nextPageToken"] = base64.urlsafe_b64encode(f"models:{start + size}".encode()).decode()
    return page


def _page_size(route: Route) -> int:
    written = route.query.get("pageSize", route.query.get("page_size", "")) or str(_PAGE)
    if not written.lstrip("-").isdigit() or len(written) > 10:
        raise Refused(400, f"Invalid value at 'page_size' (TYPE_INT32), \"{written[:20]}\"")
    if int(written) < 0:
        raise Refused(400, "* ListModelsRequest.page_size: page_size must be non-negative\n")
    return min(int(written) or _PAGE, _MOST_IN_PAGE)


def _page_start(route: Route) -> int:
    written = route.query.get("pageToken", route.query.get("page_token", ""))
    if not written:
        return 0
    try:
        word, _, number = base64.urlsafe_b64decode(written).decode().partition(":")
    except ValueError:
        word, number = "", ""
    if word != "models" or not number.isdigit() or len(number) > 6:
        raise Refused(400, "Request contains an invalid argument: page_token.")
    return int(number)


def _get(_: HttpRequest, route: Route) -> JsonObject:
    model = model_of(route)
    if route.api == VERTEX:
        return {"name": f"publishers/google/models/{model.id}", "versionId": "default"}
    return model.wire() | {"name": route.name}


def _count_tokens(request: HttpRequest, route: Route) -> JsonObject:
    model_of(route)
    body = read_message("CountTokensRequest", read_json(request.body), route.api)
    return _counted(body, route.api)


def _counted(body: JsonObject, api: str) -> JsonObject:
    inner = body.get("generateContentRequest")
    if inner is not None and body.get("contents"):
        raise Refused(
            400, "* CountTokensRequest: exactly one of contents and generate_content_request must be specified.\n"
        )
    counted = inner if inner is not None else body
    if not counted.get("contents"):
        raise Refused(400, "* CountTokensRequest.contents: contents is not specified\n")
    by_modality = count_tokens(counted)
    details = [{"modality": name, "tokenCount": number} for name, number in by_modality.items() if number]
    result: JsonObject = {"totalTokens": sum(by_modality.values())}
    if api == VERTEX:
        contents = [*counted["contents"], counted.get("systemInstruction", {})]
        texts = [part.get("text", "") for content in contents for part in content.get("parts", ())]
        result["totalBillableCharacters"] = sum(len("".join(text.split())) for text in texts)
    result["promptTokensDetails"] = details
    return result


def _embedding(request: JsonObject, model: Model) -> JsonObject:
    validate.check_embedding(request)
    settings = request.get("embedContentConfig", {})
    size = request.get("outputDimensionality", settings.get("outputDimensionality", embed.DIMENSIONS))
    shown = [part.get("text", jsontext.text(part)) for part in request["content"]["parts"]]
    return {"values": embed.vector("\n".join(shown), size, model.id)}


def _embed(request: HttpRequest, route: Route) -> JsonObject:
    model = model_of(route)
    body = read_message("EmbedContentRequest", read_json(request.body), route.api)
    return {"embedding": _embedding(body, model)}


def _batch_embed(request: HttpRequest, route: Route) -> JsonObject:
    model = model_of(route)
    if route.api != GEMINI:
        raise Refused(404, f"Not Found: Vertex AI has no batchEmbedContents for {route.name}")
    body = read_message("BatchEmbedContentsRequest", read_json(request.body), route.api)
    requests = body.get("requests", [])
    if not requests:
        raise Refused(400, "* BatchEmbedContentsRequest.requests: requests is not specified\n")
    if len(requests) > _MOST_IN_BATCH:
        raise Refused(
            400, f"* BatchEmbedContentsRequest.requests: at most {_MOST_IN_BATCH} requests can be in one batch\n"
        )
    for index, one in enumerate(requests):
        if one.get("model", "") != route.name:
            raise Refused(
                400,
                f"* BatchEmbedContentsRequest.requests[{index}].model: must be {route.name}, the model of the batch, "
                f"but is '{one.get('model', '')[:100]}'\n",
            )
    return {"embeddings": [_embedding(one, model) for one in requests]}


def _predict(request: HttpRequest, route: Route) -> JsonObject:
    """Vertex AI's older way to embed: texts as instances."""
    model = model_of(route)
    body = read_message("PredictRequest", read_json(request.body), route.api)
    parameters = body.get("parameters") or {}
    predictions = []
    for index, one in enumerate(body.get("instances", [])):
        text = one.get("content") if isinstance(one, dict) else None
        if not isinstance(text, str) or not text:
            raise Refused(400, f"instances[{index}].content: the text content is empty.")
        size = parameters.get("outputDimensionality") if isinstance(parameters, dict) else None
        size = size if isinstance(size, int) and 0 < size <= embed.DIMENSIONS else embed.DIMENSIONS
        vector = embed.vector(text, size, model.id)
        statistics = {"truncated": False, "token_count": len(tokens(text))}
        predictions.append({"embeddings": {"values": vector, "statistics": statistics}})
    if not predictions:
        raise Refused(400, "No instances were given.")
    return {"predictions": predictions}


def _internal(request: HttpRequest, route: Route) -> JsonObject:
    """Code Assist beside generation: who the user is, what is left of the quota, how long a prompt is."""
    body = read_json(request.body)
    match route.method:
        case "countTokens":
            inner = body.get("request", {}) if isinstance(body, dict) else {}
            plain = {"contents": inner.get("contents", [])} if isinstance(inner, dict) else {}
            return {"totalTokens": _counted(read_message("CountTokensRequest", plain, VERTEX), VERTEX)["totalTokens"]}
        case "loadCodeAssist":
            tier = {"id": "free-tier", "name": "Simulated", "isDefault": True}
            return {"currentTier": tier, "allowedTiers": [tier], "cloudaicompanionProject": "simulated-project"}
        case "onboardUser":
            project = {"cloudaicompanionProject": {"id": "simulated-project"}}
            return {"name": "operations/simulated", "done": True, "response": project}
        case "retrieveUserQuota":
            return {"buckets": [{"modelId": model.id, "remainingFraction": 1} for model in LISTED if not model.embeds]}
        case _:
            raise Refused(404, f"Not Found: Code Assist has no method {route.method[:60]}")


_METHODS: dict[str, Callable[[HttpRequest, Route], JsonObject]] = {
    "list": _list,
    "get": _get,
    "countTokens": _count_tokens,
    "embedContent": _embed,
    "batchEmbedContents": _batch_embed,
    "predict": _predict,
}
