"""OpenAI Responses, served: `POST /v1/responses`, for every client that speaks it and for Codex CLI.

`request` decodes a body, `items` the items of its input, `tools` the tools in both directions; `answer` encodes,
`output` the items of the answer, `echo` the object around them; `sealed` is the text in which thought signatures
travel. `resources` holds the routes beside it (kept responses, conversations), `kept` what is kept and what it means,
`compaction` the summing up of a long history. This module is the contract's face.
"""

from . import resources
from .answer import StreamEncoder, encode_error, encode_response
from .echo import EVENT_ERRORS
from .items import decode_items, reference_ids
from .request import FIELDS, decode_request
from .sealed import encode_summary
from .tools import Toolbox

NAME = "openai_responses"
ROUTES = (("POST", "/responses", "create"), *resources.ROUTES)
TELLS_SPENT_DAY = False  # Codex sleeps as long as it is told, and gives up at once where no time is named
FORGETS_REQUEST = False  # every event of a response says its fields again

__all__ = [
    "EVENT_ERRORS",
    "FIELDS",
    "FORGETS_REQUEST",
    "NAME",
    "ROUTES",
    "TELLS_SPENT_DAY",
    "StreamEncoder",
    "Toolbox",
    "decode_items",
    "decode_request",
    "encode_error",
    "encode_response",
    "encode_summary",
    "reference_ids",
    "resources",
]
