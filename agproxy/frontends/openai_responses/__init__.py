"""OpenAI Responses, served: `POST /v1/responses`, for every client that speaks it and for Codex CLI.

`request` decodes a body, `items` the items of its input, `tools` the tools in both directions; `answer` encodes,
`output` the items of the answer, `echo` the object around them; `sealed` is the text in which thought signatures
travel. This module is the contract's face. What state needs is here too: `decode_request` takes the items of an
earlier response, `decode_items` stands alone, and `StreamEncoder.response` is the object to keep.
"""

from .answer import StreamEncoder, encode_error, encode_response, stream_error_as_event
from .items import decode_items, reference_ids
from .request import FIELDS, decode_request

NAME = "openai_responses"
ROUTES = (("POST", "/responses", "create"),)

__all__ = [
    "FIELDS",
    "NAME",
    "ROUTES",
    "StreamEncoder",
    "decode_items",
    "decode_request",
    "encode_error",
    "encode_response",
    "reference_ids",
    "stream_error_as_event",
]
