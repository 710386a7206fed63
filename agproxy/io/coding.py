"""Content codings of HTTP bodies: gzip and deflate undone piece by piece, with a bound on what comes out.

Knows RFC 9110, section 8.4.1, and RFC 1950 to 1952. Used on both sides: request bodies and upstream answers.
"""

import zlib

# RFC 9110, 8.4.1.3: "x-gzip" is to be taken as gzip.
_KNOWN = {"gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate"}
_GZIP = 16 + zlib.MAX_WBITS
_RAW = -zlib.MAX_WBITS


class CodingError(ValueError):
    """The bytes are not what their coding says, or end too early."""


class TooLarge(ValueError):
    """More came out than there is room for."""


def coding_of(value: str | None) -> str | None:
    """The one coding that a Content-Encoding header names, None for none; CodingError for others and for several."""
    if not value:
        return None
    names = [name for item in value.split(",") if (name := item.strip().lower()) not in ("", "identity")]
    if not names:
        return None
    if len(names) > 1 or names[0] not in _KNOWN:
        raise CodingError(f"the content coding {', '.join(names)[:80]!r} is not known; gzip, deflate and identity are")
    return _KNOWN[names[0]]


class Inflater:
    """Undoes one coding. Feed pieces in any split, then call `finish`."""

    def __init__(self, coding: str) -> None:
        self._is_gzip = coding == "gzip"
        self._zlib: zlib._Decompress | None = None
        self._has_input = False

    def decode(self, data: bytes, room: int) -> bytes:
        """What these bytes give, at most `room` bytes; TooLarge beyond, CodingError for anything but the coding."""
        pieces: list[bytes] = []
        while data:
            self._has_input = True
            if self._zlib is None or self._zlib.eof:
                self._zlib = self._next_member(data)
            try:
                piece = self._zlib.decompress(data, room + 1)
            except zlib.error:
                raise CodingError("the body is damaged: it cannot be decompressed") from None
            if len(piece) > room or self._zlib.unconsumed_tail:
                raise TooLarge
            room -= len(piece)
            pieces.append(piece)
            data = self._zlib.unused_data if self._zlib.eof else b""
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _next_member(self, data: bytes) -> "zlib._Decompress":
        if self._is_gzip:
            return zlib.decompressobj(_GZIP)  # gzip allows several members, one after the other
        if self._zlib is not None:
            raise CodingError("the body goes on after its compressed data")
        # "deflate" means zlib's format, but some senders leave its header out. The header's low nibble is always 8;
        # a raw stream whose first byte has it too would be a stored block with an odd padding, which nobody writes.
        return zlib.decompressobj(zlib.MAX_WBITS if data[0] & 0x0F == 8 else _RAW)

    def finish(self) -> None:
        """Call after the last byte: CodingError where the data is cut short. No bytes at all are an empty body."""
        if self._has_input and (self._zlib is None or not self._zlib.eof):
            raise CodingError("the compressed body is cut short")
