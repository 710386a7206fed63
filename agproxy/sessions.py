"""Which requests belong together, and which account served them: for `cache-first`.

A session is what the request itself names (prompt_cache_key, conversation, user), else what a client's own headers
say, else the beginning of the talk: system text and first message of the user, which stay the same from turn to turn.
Only hashes are kept, a bounded number, and those that have rested too long are forgotten. Pure.
"""

from collections import OrderedDict
from hashlib import sha256

from .conversation import Request, Role, Text
from .http11 import Headers, find

MOST_SESSIONS = 10_000
TTL_SECONDS = 3600.0  # upstream's implicit caches live for minutes; an hour keeps a slow talk together

# Headers in which clients name their session: Codex, Claude Code, and what others use.
_HEADERS = ("session-id", "thread-id", "x-claude-code-session-id", "x-session-id")


def session_of(request: Request, headers: Headers) -> str:
    """The session of a request, as a hash."""
    named = request.session or next((value for name in _HEADERS if (value := find(headers, name))), None)
    if named is not None:
        return _hash("named", named)
    first = next((turn for turn in request.turns if turn.role is Role.USER), None)
    texts = [part.text for part in first.parts if isinstance(part, Text)] if first is not None else []
    return _hash("talk", *(text.text for text in request.system), "\0", *texts)


def _hash(*texts: str) -> str:
    digest = sha256()
    for text in texts:
        digest.update(text.encode("utf-8", "surrogatepass"))
        digest.update(b"\0")
    return digest.hexdigest()[:32]


class Sessions:
    """Session -> the account that served it last."""

    def __init__(self, most: int = MOST_SESSIONS, ttl_seconds: float = TTL_SECONDS) -> None:
        self._most = most
        self._ttl_seconds = ttl_seconds
        self._found: OrderedDict[str, tuple[str, float]] = OrderedDict()  # the longest rested first

    def __len__(self) -> int:
        return len(self._found)

    def find(self, session: str, now: float) -> str | None:
        """The id of a session's account, None where there is none or it has rested too long."""
        found = self._found.get(session)
        if found is None or now - found[1] > self._ttl_seconds:
            return None
        return found[0]

    def bind(self, session: str, account_id: str, now: float) -> None:
        """An account serves a session."""
        self._found[session] = (account_id, now)
        self._found.move_to_end(session)
        while len(self._found) > self._most or next(iter(self._found.values()))[1] < now - self._ttl_seconds:
            self._found.popitem(last=False)
