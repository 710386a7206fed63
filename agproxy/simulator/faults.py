"""Failures on request: which refusal a prompt's markers ask for.

Knows markers and Google's errors. When a fault strikes, before the answer or in the middle of it, is `app`'s matter.
"""

from collections.abc import Callable

from . import status
from .prompt import Prompt
from .status import STATUS_NAMES, Refused

_RETRY_SECONDS = 34.074824224  # the example of Google's own documents

_PLAIN = (400, 401, 403, 404, 500, 503, 504)
_CAPACITY = (
    "Resource exhausted. Please try again later. Please refer to "
    "https://cloud.google.com/vertex-ai/generative-ai/docs/error-code-429 for more details."
)

HTML = (
    b"<!DOCTYPE html>\n<html lang=en>\n<meta charset=utf-8>\n<title>Error 502 (Server Error)!!1</title>\n"
    b"<p><b>502.</b> <ins>That's an error.</ins>\n<p>The server encountered a temporary error and could not complete "
    b"your request.<p>Please try again in 30 seconds. <ins>That's all we know.</ins>\n"
)


def refusal(prompt: Prompt) -> Refused | None:
    """The error that the prompt asks for instead of an answer, if it does."""
    found = prompt.markers
    model = prompt.model
    seconds = found.seconds("429")
    special: dict[str, Callable[[], Refused]] = {
        "400-location": status.wrong_location,
        "400-too-long": lambda: status.too_long(model.input_tokens + 1, model.input_tokens),
        "429": lambda: status.rate_limited(_RETRY_SECONDS if seconds is None else seconds, model=model.id),
        "429-daily": lambda: status.rate_limited(12.5, period="Day", limit=250, model=model.id),
        "429-zero": lambda: status.rate_limited(_RETRY_SECONDS, limit=0, model=model.id),
        "429-capacity": lambda: Refused(429, _CAPACITY),
    }
    for name, make in special.items():
        if name in found:
            return make()
    code = next((code for code in _PLAIN if str(code) in found), None)
    return None if code is None else by_code(code, model.id)


def by_code(code: int, model: str) -> Refused:
    """The usual error of a status."""
    match code:
        case 400:
            return Refused(400, "Request contains an invalid argument.")
        case 401:
            return status.invalid_token()
        case 403:
            return status.denied()
        case 404:
            return Refused(404, f"models/{model} is no longer available.")
        case 429:
            return status.rate_limited(_RETRY_SECONDS, model=model)
        case _:
            return status.server_fault(code)


def first_failures(prompt: Prompt) -> tuple[int, int] | None:
    """How many requests with this prompt fail first, and with which status."""
    written = prompt.markers.text("fail-first")
    if written is None:
        return None
    number, _, code = written.partition(",")
    number, code = number.strip(), code.strip() or "503"
    if not number.isdigit() or len(number) > 4 or not code.isdigit() or int(code[:4]) not in STATUS_NAMES:
        raise Refused(400, "Simulator: [[sim:fail-first=N,STATUS]] needs a number and an HTTP status that Google uses.")
    return int(number), int(code)


def mid_stream(prompt: Prompt) -> Refused | None:
    """The error that breaks into the answer, if the prompt asks for one."""
    if "error-mid-stream" not in prompt.markers:
        return None
    written = prompt.markers.text("error-mid-stream") or "499"
    if not written.isdigit() or int(written[:4]) not in STATUS_NAMES:
        raise Refused(400, "Simulator: [[sim:error-mid-stream=STATUS]] needs an HTTP status that Google uses.")
    return by_code(int(written), prompt.model.id)
