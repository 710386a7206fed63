"""Every field of Gemini's answers that is known here, read by the decoder or left out on purpose.

From the reference of GenerateContentResponse (v1beta; Vertex AI v1beta1) and google.rpc.Status, and held to recorded
traffic by a test. What Gemini adds is found by `unknown`: the decoder itself passes new fields by in silence, as
Google asks of clients.
"""

from typing import Any

from ...jsontext import JsonObject

# A field -> what is below it: None for a plain value, ANY for what may hold anything (arguments, others' data).
ANY: JsonObject = {"*": None}
_RATINGS: JsonObject = dict.fromkeys(
    ("category", "probability", "blocked", "probabilityScore", "severity", "severityScore", "overwrittenThreshold")
)
_MODALITIES: JsonObject = dict.fromkeys(("modality", "tokenCount"))
_SEGMENT: JsonObject = dict.fromkeys(("startIndex", "endIndex", "partIndex", "text"))
_DATE: JsonObject = dict.fromkeys(("year", "month", "day"))
_SOURCE: JsonObject = dict.fromkeys(("startIndex", "endIndex", "uri", "license", "title")) | {"publicationDate": _DATE}
_LOGPROB: JsonObject = dict.fromkeys(("token", "tokenId", "logProbability"))
_BLOB: JsonObject = dict.fromkeys(("mimeType", "data", "displayName"))

_PART: JsonObject = {
    "text": None,
    "thought": None,
    "thoughtSignature": None,
    "functionCall": dict.fromkeys(("id", "name", "willContinue")) | {"args": ANY, "partialArgs": ANY},
    "functionResponse": ANY,
    "toolCall": dict.fromkeys(("id", "toolType")) | {"args": ANY},
    "toolResponse": dict.fromkeys(("id", "toolType")) | {"response": ANY},
    "executableCode": dict.fromkeys(("id", "language", "code")),
    "codeExecutionResult": dict.fromkeys(("id", "outcome", "output")),
    "inlineData": _BLOB,
    "fileData": dict.fromkeys(("mimeType", "fileUri", "displayName")),
    "videoMetadata": ANY,
    "mediaResolution": ANY,
    "partMetadata": ANY,
}
_GROUNDING: JsonObject = {
    "groundingChunks": {
        "web": dict.fromkeys(("uri", "title", "domain")),
        "image": ANY,
        "maps": ANY,
        "retrievedContext": ANY,
    },
    "groundingSupports": {
        "segment": _SEGMENT,
        "groundingChunkIndices": None,
        "confidenceScores": None,
        "renderedParts": None,
    },
    "webSearchQueries": None,
    "imageSearchQueries": None,
    "retrievalQueries": None,
    "searchEntryPoint": dict.fromkeys(("renderedContent", "sdkBlob")),
    "retrievalMetadata": ANY,
    "googleMapsWidgetContextToken": None,
    "sourceFlaggingUris": ANY,
}
_CANDIDATE: JsonObject = {
    "content": {"role": None, "parts": _PART},
    "index": None,
    "finishReason": None,
    "finishMessage": None,
    "safetyRatings": _RATINGS,
    "citationMetadata": {"citationSources": _SOURCE, "citations": _SOURCE},
    "groundingMetadata": _GROUNDING,
    "groundingAttributions": ANY,
    "urlContextMetadata": {"urlMetadata": dict.fromkeys(("retrievedUrl", "urlRetrievalStatus"))},
    "avgLogprobs": None,
    "tokenCount": None,
    "logprobsResult": {
        "chosenCandidates": _LOGPROB,
        "topCandidates": {"candidates": _LOGPROB},
        "logProbabilitySum": None,
    },
}
_USAGE: JsonObject = dict.fromkeys(
    (
        "promptTokenCount",
        "candidatesTokenCount",
        "totalTokenCount",
        "thoughtsTokenCount",
        "cachedContentTokenCount",
        "toolUsePromptTokenCount",
        "trafficType",
        "serviceTier",
    )
) | dict.fromkeys(
    ("promptTokensDetails", "candidatesTokensDetails", "cacheTokensDetails", "toolUsePromptTokensDetails"), _MODALITIES
)
_ERROR: JsonObject = {"code": None, "message": None, "status": None, "details": ANY}

GENERATE: JsonObject = {
    "candidates": _CANDIDATE,
    "promptFeedback": {"blockReason": None, "blockReasonMessage": None, "safetyRatings": _RATINGS},
    "usageMetadata": _USAGE,
    "modelVersion": None,
    "modelStatus": ANY,
    "responseId": None,
    "createTime": None,
    "error": _ERROR,
}
COUNT: JsonObject = {
    "totalTokens": None,
    "totalBillableCharacters": None,
    "cachedContentTokenCount": None,
    "promptTokensDetails": _MODALITIES,
    "cacheTokensDetails": _MODALITIES,
    "error": _ERROR,
}


def paths(value: Any, known: JsonObject, path: str = "") -> dict[str, bool]:
    """Each field of an answer, as a path (`candidates[].content`), and whether it is known. Below what is unknown, or
    may hold anything, nothing is told apart."""
    found: dict[str, bool] = {}
    if isinstance(value, list):
        for item in value:
            for inner, is_known in paths(item, known, f"{path}[]").items():
                found[inner] = is_known
    elif isinstance(value, dict) and known is not ANY:
        for key, inner_value in value.items():
            here = f"{path}.{key}" if path else key
            found[here] = key in known
            below = known.get(key)
            if isinstance(below, dict):
                found |= paths(inner_value, below, here)
    return found


def unknown(value: Any, known: JsonObject) -> tuple[str, ...]:
    """The fields of an answer that are not known here."""
    return tuple(path for path, is_known in paths(value, known).items() if not is_known)
