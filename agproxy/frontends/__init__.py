"""The client protocols that agproxy serves: what one must bring, and which there are.

To add one: a module or package here with the names of `Frontend`, and a line in `FRONTENDS`. A frontend imports
from the first row of modules only (errors, jsontext, conversation, sse, http11) and never from another frontend;
what the OpenAI ones share stands in `_openai` and `_fields`.
"""

from collections.abc import Mapping
from typing import Protocol

from ..conversation import Event, Exchange, Request, Response
from ..errors import GatewayError
from ..jsontext import JsonObject
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


class Frontend(Protocol):
    """A codec for one client protocol. All of it is pure.

    ROUTES: (method, pattern, action); the action `create` is a request to the model. FIELDS: every field of the
    request body and what becomes of it.
    """

    @property
    def NAME(self) -> str: ...

    @property
    def ROUTES(self) -> tuple[tuple[str, str, str], ...]: ...

    @property
    def FIELDS(self) -> Mapping[str, Field]: ...

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
