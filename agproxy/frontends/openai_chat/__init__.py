"""OpenAI Chat Completions, served: `POST /v1/chat/completions`.

`request` decodes, `answer` encodes; this module is the contract's face. Stored completions (`store: true`) are not
kept: listing them is empty, the rest is 404.
"""

from .._openai import encode_error
from .answer import StreamEncoder, encode_response
from .request import FIELDS, decode_request

NAME = "openai_chat"
ROUTES = (("POST", "/chat/completions", "create"),)

__all__ = ["FIELDS", "NAME", "ROUTES", "StreamEncoder", "decode_request", "encode_error", "encode_response"]
