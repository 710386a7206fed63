"""The client protocols that agproxy serves: what one must bring, and which there are.

To add one: a module or package here with the names of `Frontend`, and a line in `FRONTENDS`. A frontend imports
from the first row of modules only (errors, jsontext, conversation, sse, http11, records) and never from another
frontend; what the OpenAI ones share stands in `_openai` and `_fields`. One that keeps things between requests brings
a `Keeper` too, and a line in `KEEPERS`.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from ..conversation import Event, Exchange, Request, Response
from ..errors import GatewayError
from ..jsontext import JsonObject
from ..records import Asked, Change, Found, Outcome, Read, Record
from . import openai_chat, openai_completions, openai_responses
from ._fields import Field


class StreamEncoder(Protocol):
    """Events in, frames out. One serves one exchange."""

    def feed(self, event: Event) -> list[bytes]: ...

    def keep_alive(self) -> list[bytes]:
        """Frames that tell the client to be patient, in the protocol's own form; legal at any time."""
        ...

    def fail(self, error: GatewayError) -> list[bytes]:
        """The frames that end a stream which has begun: legal in every state, also before the first event."""
        ...


class _MakeEncoder(Protocol):
    def __call__(self, exchange: Exchange) -> StreamEncoder: ...


class KeptEncoder(StreamEncoder, Protocol):
    """The encoder of an answer that is kept. response: the object as it stands; final once the stream `is_over`."""

    response: JsonObject
    is_over: bool

    def begin(self) -> list[bytes]:
        """The first frames, for a run in the background, which is known by what they hold."""
        ...

    def cancel(self) -> list[bytes]:
        """The frames that end a run which a client stopped."""
        ...


class _MakeKeptEncoder(Protocol):
    def __call__(self, exchange: Exchange) -> KeptEncoder: ...


class Keeper(Protocol):
    """What a frontend brings besides if it keeps things between requests. All of it is pure: it says which records
    are read (`needs`, asked again with what was found until nothing is missing), and what changes.

    STOPS: actions before which a run of that id is stopped.
    """

    @property
    def STOPS(self) -> frozenset[str]: ...

    @property
    def StreamEncoder(self) -> _MakeKeptEncoder: ...

    # A request to the model.
    def create_needs(self, body: JsonObject, found: Found) -> Iterable[Read]: ...

    def decode_request(self, body: JsonObject, found: Found) -> Request: ...

    def is_background(self, exchange: Exchange) -> bool: ...

    def lock_of(self, body: JsonObject) -> str | None:
        """What only one request at a time may work on."""
        ...

    def locked(self, key: str) -> GatewayError: ...

    def changes(self, exchange: Exchange, response: JsonObject, found: Found) -> tuple[Change, ...]:
        """What an answer leaves; of a run also while it is under way."""
        ...

    def stream_changes(self, exchange: Exchange, frames: bytes, now: int) -> tuple[Change, ...]:
        """What a run's frames leave at its end."""
        ...

    def settle(self, record: Record, live: JsonObject | None, is_elsewhere: Callable[[], bool]) -> Record:
        """A record as it is now; live: the object of its run, if one is under way here. is_elsewhere: whether it is
        under way in another process, asked only where the record says that it runs."""
        ...

    # Resource routes.
    def needs(self, asked: Asked, found: Found) -> Iterable[Read]: ...

    def handle(self, asked: Asked, found: Found) -> Outcome: ...

    def wants_stream(self, asked: Asked) -> bool: ...

    def kept_frames(self, found: Found, asked: Asked) -> bytes: ...

    def frames_after(self, frames: bytes, asked: Asked) -> bytes:
        """Of a run's frames those that the client has not had."""
        ...

    # Routes that ask upstream, but whose answer is not the model's.
    def encode_count(self, tokens: int) -> JsonObject: ...

    def compact_body(self, body: JsonObject) -> JsonObject:
        """The request to the model that a request to compact comes down to."""
        ...

    def encode_compaction(self, response: JsonObject, exchange: Exchange, found: Found) -> JsonObject: ...


class Frontend(Protocol):
    """A codec for one client protocol. All of it is pure.

    ROUTES: (method, pattern, action); the action `create` is a request to the model, `count` and `compact` are what
    `Keeper` says, all others are resources. FIELDS: every field of the request body and what becomes of it.
    EVENT_ERRORS: errors that a stream tells as an event on a 200, even where nothing has gone out. TELLS_SPENT_DAY:
    whether an error for a spent daily quota names its Retry-After. FORGETS_REQUEST: whether a StreamEncoder, once made,
    asks an exchange for nothing of its request any more, so that it need not be kept while the answer streams.
    """

    @property
    def NAME(self) -> str: ...

    @property
    def ROUTES(self) -> tuple[tuple[str, str, str], ...]: ...

    @property
    def FIELDS(self) -> Mapping[str, Field]: ...

    @property
    def EVENT_ERRORS(self) -> tuple[type[GatewayError], ...]: ...

    @property
    def TELLS_SPENT_DAY(self) -> bool: ...

    @property
    def FORGETS_REQUEST(self) -> bool: ...

    @property
    def StreamEncoder(self) -> _MakeEncoder: ...

    def decode_request(self, body: JsonObject) -> Request: ...

    def encode_response(self, response: Response, exchange: Exchange) -> JsonObject: ...

    def encode_error(self, error: GatewayError) -> JsonObject: ...


FRONTENDS: dict[str, Frontend] = {
    openai_chat.NAME: openai_chat,
    openai_completions.NAME: openai_completions,
    openai_responses.NAME: openai_responses,
}

KEEPERS: dict[str, Keeper] = {openai_responses.NAME: openai_responses.resources}
