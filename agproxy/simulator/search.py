"""What the server-side tools add to an answer: sources, the spans that they support, pages read, calls made visible.

Follows section 11.4 of the wire notes. Offsets are UTF-8 bytes within the part's text, end exclusive.
"""

import re
from dataclasses import dataclass, field

from ..jsontext import JsonObject
from .prompt import Prompt

_URL = re.compile(r"https?://[^\s\"'<>)\]]+")
_MOST_URLS = 20
_RESULT_TOKENS = 50  # what reading one source is counted as


@dataclass(frozen=True, slots=True)
class Found:
    """Parts before the text, keys for the candidate, and the tokens that were read."""

    parts: tuple[JsonObject, ...] = ()
    extra: JsonObject = field(default_factory=dict)
    tokens: int = 0


def ground(prompt: Prompt, text: str) -> Found:
    """Sources for the text from the tools that the request switched on; nothing where none was."""
    if not text:
        return Found()
    chunks: list[JsonObject] = []
    metadata: JsonObject = {}
    extra: JsonObject = {}
    parts: list[JsonObject] = []
    query = prompt.user[:200] or "example"
    if prompt.built_in & {"googleSearch", "googleSearchRetrieval", "enterpriseWebSearch"}:
        uri = f"https://vertexaisearch.cloud.google.com/grounding-api-redirect/{prompt.digest('search').hex()[:24]}"
        chunks.append({"web": {"uri": uri, "title": "example.com"}})
        metadata["webSearchQueries"] = [query]
        metadata["searchEntryPoint"] = {"renderedContent": '<div class="container">Simulated search</div>'}
        parts += _visible(prompt, "GOOGLE_SEARCH_WEB", {"queries": [query]})
    if "googleMaps" in prompt.built_in:
        place = {"uri": "https://maps.google.com/?cid=1", "title": "Example Place", "placeId": "places/example"}
        chunks.append({"maps": place})
    if "fileSearch" in prompt.built_in:
        chunks.append({"retrievedContext": {"title": "example.txt", "text": "A simulated passage."}})
        parts += _visible(prompt, "FILE_SEARCH", {})
    urls = list(dict.fromkeys(_URL.findall(prompt.user)))[:_MOST_URLS] if "urlContext" in prompt.built_in else []
    if urls:
        status = "URL_RETRIEVAL_STATUS_SUCCESS"
        extra["urlContextMetadata"] = {
            "urlMetadata": [{"retrievedUrl": url, "urlRetrievalStatus": status} for url in urls]
        }
        chunks += [{"web": {"uri": url, "title": url.split("/")[2]}} for url in urls]
        parts += _visible(prompt, "URL_CONTEXT", {"urls": urls})
    if chunks:
        metadata["groundingChunks"] = chunks
        metadata["groundingSupports"] = _supports(text, len(chunks))
        extra["groundingMetadata"] = metadata
    return Found(tuple(parts), extra, _RESULT_TOKENS * len(chunks))


def _supports(text: str, sources: int) -> list[JsonObject]:
    """One support over the whole text but its last mark, naming every source."""
    segment = text.rstrip().rstrip(".")
    length = len(segment.encode("utf-8", "surrogatepass"))
    return [{"segment": {"endIndex": length, "text": segment}, "groundingChunkIndices": list(range(sources))}]


def _visible(prompt: Prompt, tool: str, args: JsonObject) -> list[JsonObject]:
    """The tool's call and result as parts, where the request asks to see them."""
    if not prompt.shows_server_calls:
        return []
    ident = prompt.digest("tool", tool).hex()[:8]
    return [
        {"toolCall": {"id": ident, "toolType": tool, "args": args}},
        {"toolResponse": {"id": ident, "toolType": tool, "response": {}}},
    ]
