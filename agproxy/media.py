"""Images and files that a request names by a URL: which of them are fetched, which passed on, which refused.

The Gemini API takes bytes, not foreign URLs, so the gateway fetches those and puts them in their place. Vertex AI
fetches for itself; files of Google's own (the Files API, Cloud Storage, YouTube) are named, never fetched. Decides on
values; the fetching itself is handed in.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from .account import VERTEX, Account
from .conversation import Media, Part, Request, Text, ToolResult
from .errors import InvalidRequest

# (URL, param) pairs in, (MIME type, base64 text) in the same order out.
FetchAll = Callable[[Sequence[tuple[str, str]]], Awaitable[list[tuple[str, str]]]]

# Hosts whose URLs Gemini takes as fileData by itself.
_GOOGLES_OWN = frozenset(
    {"generativelanguage.googleapis.com", "youtube.com", "www.youtube.com", "m.youtube.com", "youtu.be"}
)
# What a URL that is passed on says of its type: Gemini wants to be told.
_TYPES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "heic": "image/heic",
    "heif": "image/heif",
    "gif": "image/gif",
    "pdf": "application/pdf",
    "txt": "text/plain",
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
    "mp4": "video/mp4",
    "webm": "video/webm",
}


def _is_foreign(media: Media) -> bool:
    """Whether a URL leads to somebody else's server."""
    if media.uri is None:
        return False
    try:
        parts = urlsplit(media.uri)
    except ValueError:  # "http://[": the fetcher says what is wrong with it
        return True
    return parts.scheme.lower() in ("http", "https") and (parts.hostname or "").lower() not in _GOOGLES_OWN


def _typed(media: Media) -> Media:
    """Media by URL with the type that the URL's ending tells, where nobody has said one."""
    if media.uri is None or media.mime_type is not None:
        return media
    ending = media.uri.partition("?")[0].partition("#")[0].rpartition(".")[2].lower()
    return replace(media, mime_type=_TYPES.get(ending))


def _all_media(request: Request) -> Iterable[Media]:
    for turn in request.turns:
        for part in turn.parts:
            if isinstance(part, Media):
                yield part
            elif isinstance(part, ToolResult):
                yield from (inner for inner in part.content if isinstance(inner, Media))


def _map_media(request: Request, change: Callable[[Media], Media]) -> Request:
    def of_result(part: Text | Media) -> Text | Media:
        return change(part) if isinstance(part, Media) else part

    def of_part(part: Part) -> Part:
        if isinstance(part, Media):
            return change(part)
        if isinstance(part, ToolResult):
            return replace(part, content=tuple(map(of_result, part.content)))
        return part

    turns = tuple(replace(turn, parts=tuple(map(of_part, turn.parts))) for turn in request.turns)
    return replace(request, turns=turns)


def names_urls(request: Request) -> bool:
    """Whether a request names media by a URL."""
    return any(media.uri is not None for media in _all_media(request))


async def with_media(
    request: Request, setting: str, accounts: Sequence[Account], fetch: FetchAll | None, *, max_bytes: int
) -> Request:
    """The request with its foreign URLs dealt with as the setting `fetch_media` says.

    max_bytes bounds what the files add to the upstream body: a URL that many parts name is fetched once, and stands in
    each of them.

    Raises InvalidRequest `invalid_image_url` whose param names the part that cannot be had.
    """
    by_url = [media for media in _all_media(request) if media.uri is not None]
    foreign = [media for media in by_url if _is_foreign(media)]
    is_passed = setting == "pass" or (accounts and all(account.endpoint.kind == VERTEX for account in accounts))
    if not foreign or is_passed:
        return _map_media(request, _typed)
    if setting == "refuse" or fetch is None:
        raise InvalidRequest(
            f"Invalid '{foreign[0].param}': this gateway fetches no URLs; send the data itself as a data URL.",
            code="invalid_image_url",
            param=foreign[0].param,
        )
    wanted = [(media.uri or "", media.param or "") for media in foreign]
    found = dict(zip((url for url, _ in wanted), await fetch(wanted), strict=True))
    room = max_bytes
    for url, param in wanted:
        room -= len(found[url][1])
        if room < 0:
            raise InvalidRequest(
                f"Invalid '{param}': with the other files of the request it is over {max_bytes} bytes.",
                code="invalid_image_url",
                param=param,
            )

    def filled(media: Media) -> Media:
        if not _is_foreign(media):
            return _typed(media)
        mime_type, data = found[media.uri or ""]
        return replace(media, uri=None, mime_type=mime_type, data=data)

    return _map_media(request, filled)
