"""The bytes of a `streamGenerateContent?alt=sse` answer -> conversation events.

Joins the event-stream parser and the chunk decoder, and knows the one oddity between them: an error after good
chunks comes as bare JSON text that is no event (recorded as `streaming-failure-error-mid-stream`).
"""

from ... import jsontext, sse
from ...conversation import Event, Usage
from ...errors import GatewayError, UpstreamFailed
from .decode import StreamDecoder
from .upstreams import unwrap


class ByteDecoder:
    """Bytes in, events out, in any split. Raises what the chunk decoder raises, and UpstreamFailed for bytes that are
    no event stream of JSON objects; where events came before the error in the same bytes, the next call raises it."""

    __slots__ = ("_decoder", "_error", "_is_wrapped", "_sse")

    def __init__(self, decoder: StreamDecoder, *, max_event_bytes: int, is_wrapped: bool = False) -> None:
        self._decoder = decoder
        self._is_wrapped = is_wrapped
        self._sse = sse.Decoder(max_event_bytes=max_event_bytes)
        self._error: GatewayError | None = None

    @property
    def usage(self) -> Usage | None:
        """Tokens as upstream has counted them so far."""
        return self._decoder.usage

    def feed(self, data: bytes) -> list[Event]:
        """Events that these bytes complete."""
        if self._error is not None:
            raise self._error
        events: list[Event] = []
        try:
            if text := self._sse.feed_whole(data):
                return self._chunk(text)
            for event in self._sse.feed(data):
                events += self._chunk(event.data)
        except sse.DecodeError as error:
            self._error = self._bad(f"Upstream's stream is broken: {error}.")
        except GatewayError as error:
            self._error = error
        if self._error is not None and not events:
            raise self._error
        return events

    def finish(self) -> list[Event]:
        """Events at the end of the stream: what the parser still held, then those that close the answer."""
        if self._error is not None:
            raise self._error
        events: list[Event] = []
        try:
            for event in self._sse.finish():
                events += self._chunk(event.data)
        except sse.DecodeError as error:
            raise self._bad(f"Upstream's stream is broken: {error}.") from None
        stray = self._sse.stray.strip()
        if stray:
            self._refuse_stray(stray)
        return events + self._decoder.finish()

    def _chunk(self, text: str) -> list[Event]:
        try:
            chunk = jsontext.loads(text)
        except ValueError:
            raise self._bad("Upstream's stream holds an event that is not JSON.") from None
        return self._decoder.feed(unwrap(chunk) if self._is_wrapped else chunk)

    def _refuse_stray(self, stray: str) -> None:
        try:
            value = jsontext.loads(stray)
        except ValueError:
            value = None
        if isinstance(value, list) and len(value) == 1:  # as without alt=sse
            value = value[0]
        if isinstance(value, dict) and "error" in value:
            self._decoder.feed(value)  # raises it
        raise self._bad("Upstream's stream holds text that is no event.")

    def _bad(self, message: str) -> UpstreamFailed:
        return UpstreamFailed(message, code="bad_upstream_body")
