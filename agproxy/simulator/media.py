"""Files that a simulated model makes: a small picture, a short tone.

PNG after the W3C's specification, PCM as the API sends speech (16 bit, mono, 24 kHz, without a header).
"""

import base64
import struct
import zlib

from ..jsontext import JsonObject
from .prompt import Prompt

_RATE = 24_000
_NO_IMAGE = ("no image", "no picture", "without image", "text only")


def wants_image(prompt: Prompt) -> bool:
    """Whether an image model draws: unless the request or the user's words want text alone."""
    modalities = prompt.config.get("responseModalities")
    if modalities and "IMAGE" not in modalities:
        return False
    return not any(words in prompt.user.lower() for words in _NO_IMAGE)


def image(prompt: Prompt, candidate: int) -> JsonObject:
    """A PNG of one colour in the wanted proportions, a few pixels wide."""
    ratio = prompt.config.get("imageConfig", {}).get("aspectRatio", "1:1")
    left, _, right = ratio.partition(":")
    width, height = (int(word) if word.isdigit() and 0 < int(word) <= 64 else 1 for word in (left, right))
    colour = prompt.digest("image", candidate)[:3]
    return {"inlineData": {"mimeType": "image/png", "data": base64.b64encode(png(width, height, colour)).decode()}}


def png(width: int, height: int, colour: bytes) -> bytes:
    """A PNG file of one RGB colour."""
    rows = (b"\0" + colour * width) * height
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(_chunk, chunks))


def _chunk(named: tuple[bytes, bytes]) -> bytes:
    name, data = named
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def speech(prompt: Prompt) -> JsonObject:
    """A quiet square tone whose pitch depends on the text and whose length on its words."""
    words = max(1, min(50, len(prompt.user.split())))
    half = 20 + prompt.digest("speech")[0] % 60
    period = struct.pack("<h", 900) * half + struct.pack("<h", -900) * half
    samples = _RATE // 10 * words
    data = (period * (samples * 2 // len(period) + 1))[: samples * 2]
    mime_type = f"audio/L16;codec=pcm;rate={_RATE}"
    return {"inlineData": {"mimeType": mime_type, "data": base64.b64encode(data).decode()}}
