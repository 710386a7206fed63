"""The bytes of a `streamGenerateContent?alt=sse` answer -> conversation events.

Joins the event-stream parser and the chunk decoder, and knows the one oddity between them: an error after good
chunks comes as bare JSON text that is no event (recorded as `streaming-failure-error-mid-stream`).
"""

from ... import jsontext, sse
from ...conversation import Event
from ...errors import UpstreamFailed
from .decode import StreamDecoder


class ByteDecoder:
    """Bytes in, events out, in any split. Raises what the chunk decoder raises, and UpstreamFailed for bytes that are
    no event stream of JSON objects."""

    def __init__(self, decoder: StreamDecoder, *, max_event_bytes: int) -> None:
        self._decoder = decoder
        self._sse = sse.Decoder(max_event_bytes=max_event_bytes)

    def feed(self, data: bytes) -> list[Event]:
        """Events that these bytes complete."""
        events: list[Event] = []
        try:
            for event in self._sse.feed(data):
                events += self._chunk(event.data)
        except sse.DecodeError as error:
            raise UpstreamFailed(f"Upstream's stream is broken: {error}.", code="bad_upstream_body") from None
        return events

    def finish(self) -> list[Event]:
        """Events at the end of the stream: what the parser still held, then those that close the answer."""
        events: list[Event] = []
        try:
            for event in self._sse.finish():
                events += self._chunk(event.data)
        except sse.DecodeError as error:
            raise UpstreamFailed(f"Upstream's stream is broken: {error}.", code="bad_upstream_body") from None
        stray = self._sse.stray.strip()
        if stray:
            self._refuse_stray(stray)
        return events + self._decoder.finish()

    def _chunk(self, text: str) -> list[Event]:
        try:
            chunk = jsontext.loads(text)
        except ValueError:
            raise UpstreamFailed(
                "Upstream's stream holds an event that is not JSON.", code="bad_upstream_body"
            ) from None
        return self._decoder.feed(chunk)

    def _refuse_stray(self, stray: str) -> None:
        try:
            value = jsontext.loads(stray)
        except ValueError:
            value = None
        if isinstance(value, list | dict):
            self._decoder.feed(value)  # raises for an error object
        raise UpstreamFailed("Upstream's stream holds text that is no event.", code="bad_upstream_body")
