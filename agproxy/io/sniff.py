"""What a file is, by its first bytes. What a server says of it is not asked, except whether text is plain text.

Follows the formats' own specifications and the WHATWG's MIME sniffing standard; the names are those that Gemini's
documentation uses. Only images, sounds, videos, PDF and plain text are known: anything else has no name here.
"""

import re

# How many of a file's first bytes are enough.
HEAD_BYTES = 1024

# (offset, first bytes, type), the first that fits counts.
_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (0, b"%PDF-", "application/pdf"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"fLaC", "audio/flac"),
    (0, b"FLV\x01", "video/x-flv"),
    (0, b"\x00\x00\x01\xba", "video/mpeg"),
    (0, b"\x00\x00\x01\xb3", "video/mpeg"),
    (0, bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"), "video/wmv"),
)
# The kind of a RIFF or IFF container, at its ninth byte.
_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/avi"}
_IFF = {b"AIFF": "audio/aiff", b"AIFC": "audio/aiff"}
# Brands of ISO base media files (ISO/IEC 14496-12; the registry is mp4ra.org). A file names one and those that it is
# compatible with; the first that is known counts.
_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "image/avif"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"), "image/heic"),
    **dict.fromkeys((b"mif1", b"msf1"), "image/heif"),
    b"qt  ": "video/quicktime",
    **dict.fromkeys((b"M4A ", b"M4B "), "audio/mp4"),
    **dict.fromkeys((b"3gp4", b"3gp5", b"3gp6", b"3g2a"), "video/3gpp"),
    **dict.fromkeys((b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"mp41", b"mp42", b"avc1", b"dash"), "video/mp4"),
    **dict.fromkeys((b"M4V ", b"M4VH", b"M4VP", b"mmp4"), "video/mp4"),
}
_BMP_HEADERS = frozenset({12, 40, 52, 56, 64, 108, 124})

TEXT_TYPES = frozenset({"text/plain", "text/markdown", "text/csv"})
_MARKUP = re.compile(rb"\s*<(!doctype|html|head|body|script|svg|\?xml|!--)", re.IGNORECASE)
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]")


def media_type(head: bytes) -> str | None:
    """The type of an image, sound, video or PDF that begins with these bytes; None for all else."""
    for offset, magic, name in _MAGIC:
        if head.startswith(magic, offset):
            return name
    if head[:4] in (b"RIFF", b"FORM"):
        return (_RIFF if head[:4] == b"RIFF" else _IFF).get(head[8:12])
    if head[4:8] == b"ftyp":
        return _of_brands(head)
    if head[:4] == b"OggS":
        return "video/ogg" if b"\x80theora" in head[:64] else "audio/ogg"
    if head[:4] == b"\x1aE\xdf\xa3":  # EBML: WebM, or Matroska, which has no place
        return "video/webm" if b"webm" in head[:64] else None
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "image/bmp"
    return _of_audio_frame(head)


def _of_brands(head: bytes) -> str | None:
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))]
    if brands[0] in (b"mif1", b"msf1"):  # says only "images within"; those behind it say which
        brands.append(brands.pop(0))
    return next((_BRANDS[brand] for brand in brands if brand in _BRANDS), None)


def _of_audio_frame(head: bytes) -> str | None:
    """MP3 and AAC without a container: twelve set bits, then a header of which not all is allowed."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    if head[1] & 0xF6 == 0xF0:  # ADTS: layer 0
        return "audio/aac" if head[2] >> 2 & 0x0F < 13 else None
    layer, version = head[1] >> 1 & 3, head[1] >> 3 & 3
    bitrate, rate = head[2] >> 4, head[2] >> 2 & 3
    return "audio/mpeg" if layer == 1 and version != 1 and bitrate not in (0, 15) and rate != 3 else None


def text_type(body: bytes, declared: str | None) -> str | None:
    """The type of plain text, where the server calls it so and it is: UTF-8, no markup, no control characters."""
    name = (declared or "").partition(";")[0].strip().lower()
    if name not in TEXT_TYPES or _MARKUP.match(body.removeprefix(b"\xef\xbb\xbf")) or _CONTROL.search(body):
        return None
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return name
