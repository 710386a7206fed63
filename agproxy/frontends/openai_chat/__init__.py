"""OpenAI Chat Completions, served: `POST /v1/chat/completions`.

`request` decodes, `answer` encodes; this module is the contract's face. Stored completions (`store: true`) are not
kept: listing them is empty, the rest is 404.
"""

from .._openai import encode_error
from .answer import StreamEncoder, encode_response
from .request import FIELDS, decode_request

NAME = "openai_chat"
ROUTES = (("POST", "/chat/completions", "create"),)
EVENT_ERRORS = ()
TELLS_SPENT_DAY = True
FORGETS_REQUEST = True

__all__ = [
    "EVENT_ERRORS",
    "FIELDS",
    "FORGETS_REQUEST",
    "NAME",
    "ROUTES",
    "TELLS_SPENT_DAY",
    "StreamEncoder",
    "decode_request",
    "encode_error",
    "encode_response",
]
