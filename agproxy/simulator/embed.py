"""Embeddings: a unit vector for a text, the same for the same text, closer for texts that share words.

Every word points somewhere by its hash; a text is the sum of its words, scaled to length 1. So similar texts get
similar vectors, which is enough to develop a search against. Knows the values only, not the wire.
"""

import hashlib
import math
import struct

DIMENSIONS = 3_072
_PER_WORD = 32  # dimensions that one word moves
_WORDS = 2_000  # words that are looked at; a vector needs no more to be told apart


def vector(text: str, dimensions: int, salt: str = "") -> list[float]:
    """A unit vector; salt keeps models apart."""
    # the whole text moves every dimension a little, so that the same words in another order are another text
    raw = hashlib.shake_256(_bytes(f"{salt}\n\n{text}")).digest(2 * dimensions)
    total = [value / 1_048_576 for value in struct.unpack(f">{dimensions}h", raw)]
    for word in text.lower().split()[:_WORDS]:
        moves = struct.unpack(f">{_PER_WORD}I", hashlib.shake_256(_bytes(f"{salt}\n{word}")).digest(4 * _PER_WORD))
        for move in moves:
            total[(move >> 1) % dimensions] += 1.0 if move & 1 else -1.0
    length = math.sqrt(math.fsum(value * value for value in total)) or 1.0
    return [round(value / length, 9) for value in total]


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
