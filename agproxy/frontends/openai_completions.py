"""OpenAI legacy Completions: `POST /v1/completions`. A prompt becomes one user turn, its answer plain text.

Follows OpenAI's reference; shapes after recordings of the live API: no role chunk, the finish reason on a piece of
its own, three token totals without details. Several prompts are siblings of one request, each with its choices.
Thoughts never show in the text.
"""

from dataclasses import replace
from typing import Any, assert_never

from .. import jsontext, sse
from ..conversation import (
    ChoiceEnded,
    Event,
    Exchange,
    MessageEnded,
    MessageStarted,
    Notice,
    PartDelta,
    PartEnded,
    PartStarted,
    Reasoning,
    Request,
    Response,
    Role,
    Sampling,
    Text,
    Thinking,
    Turn,
    Usage,
)
from ..errors import GatewayError, InvalidRequest
from ..jsontext import JsonObject
from . import _fields as read
from ._chat_shapes import FINISH, check_stream_options, decode_stop, visible_text
from ._fields import ignored, mapped
from ._openai import encode_error, fingerprint, session_of

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

NAME = "openai_completions"
ROUTES = (("POST", "/completions", "create"),)
EVENT_ERRORS = ()
TELLS_SPENT_DAY = True
FORGETS_REQUEST = False  # `echo` says the prompt again

FIELDS = {
    "model": mapped("the path"),
    "prompt": mapped("contents: one user turn a prompt"),
    "max_tokens": mapped("maxOutputTokens; absent means the model's own limit, not OpenAI's 16"),
    "temperature": mapped("temperature"),
    "top_p": mapped("topP"),
    "n": mapped("candidateCount, or several calls"),
    "stop": mapped("stopSequences"),
    "seed": mapped("seed"),
    "presence_penalty": mapped("presencePenalty, where the model takes it"),
    "frequency_penalty": mapped("frequencyPenalty, where the model takes it"),
    "echo": mapped("the prompt stands before the text"),
    "stream": mapped("the method"),
    "stream_options": mapped("include_usage"),
    "user": mapped("ties requests of one session together"),
    "best_of": ignored("each choice is a call of its own; none is thrown away", 1),
    "logit_bias": ignored("Gemini has no token bias", {}),
    "logprobs": mapped("responseLogprobs, logprobs"),
    "suffix": mapped("told to the model in words: Gemini has no fill-in-the-middle"),
}


# What stands in for fill-in-the-middle, which editors ask for and Gemini does not have.
_FILL_IN = (
    "You fill a gap in a text. The user gives what stands before the gap and what stands after it. Answer with the "
    "text of the gap and nothing else: no quotes, no code fence, no explanation, nothing of the two given parts."
)


def _turn(prompt: str, suffix: str) -> Turn:
    if not suffix:
        return Turn(role=Role.USER, parts=(Text(text=prompt),))
    given = (Text(text=f"Before the gap:\n{prompt}"), Text(text=f"After the gap:\n{suffix}"))
    return Turn(role=Role.USER, parts=given)


def _prompts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    prompts = read.array(value, "prompt", least=1, most=64)
    if any(isinstance(item, int | list) for item in prompts):
        raise InvalidRequest(
            "Token array prompts are not supported; send text.", code="unsupported_value", param="prompt"
        )
    return [read.string(item, f"prompt[{index}]") for index, item in enumerate(prompts)]


def decode_request(body: JsonObject) -> Request:
    """One request a prompt; the first one carries the others as siblings."""
    notices: list[Notice] = list(read.check(body, FIELDS))
    model = read.string(read.required(body, "model", ""), "model")
    prompts = _prompts(read.required(body, "prompt", ""))
    is_stream = body.get("stream") is not None and read.boolean(body["stream"], "stream")
    notices += check_stream_options(body, is_stream)
    has_echo = body.get("echo") is not None and read.boolean(body["echo"], "echo")
    suffix = read.string(body["suffix"], "suffix") if body.get("suffix") is not None else ""
    if suffix:
        notices.append(Notice(param="suffix", message="suffix: told to the model in words"))
    logprobs = None if body.get("logprobs") is None else read.integer(body["logprobs"], "logprobs", 0, 5)
    if logprobs is not None and has_echo:
        raise InvalidRequest(
            "'logprobs' with 'echo' is not supported: Gemini gives no log probabilities of the prompt.",
            code="unsupported_parameter",
            param="logprobs",
        )

    def optional(name: str, reader: Any, *args: Any) -> Any:
        return None if body.get(name) is None else reader(body[name], name, *args)

    sampling = Sampling(
        temperature=optional("temperature", read.number, 0, 2),
        top_p=optional("top_p", read.number, 0, 1),
        max_output_tokens=optional("max_tokens", read.integer, 1),
        stop=decode_stop(body.get("stop"), "stop", notices),
        seed=optional("seed", read.integer),
        presence_penalty=optional("presence_penalty", read.number, -2, 2),
        frequency_penalty=optional("frequency_penalty", read.number, -2, 2),
        candidates=optional("n", read.integer, 1, 128) or 1,
        logprobs=logprobs is not None,
        top_logprobs=logprobs or None,
    )
    requests = [
        Request(
            model=model,
            system=(Text(text=_FILL_IN),) if suffix else (),
            turns=(_turn(prompt, suffix),),
            sampling=sampling,
            thinking=Thinking(summaries=False),
            session=session_of(body),
            is_stream=is_stream,
            notices=tuple(notices),
        )
        for prompt in prompts
    ]
    return replace(requests[0], siblings=tuple(requests[1:]))


def _usage(usage: Usage) -> JsonObject:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
    }


def _prompt_of(exchange: Exchange, choice: int) -> str:
    """The prompt that a choice answers: with n choices a prompt, choice i answers prompt i // n."""
    prompt = exchange.body.get("prompt")
    prompts = prompt if isinstance(prompt, list) else [prompt]
    return str(prompts[choice // exchange.request.sampling.candidates])


def _object(exchange: Exchange, choices: list[JsonObject], model: str | None) -> JsonObject:
    return {
        "id": f"cmpl-{exchange.id}",
        "object": "text_completion",
        "created": exchange.created,
        "model": exchange.model,
        "choices": choices,
        "system_fingerprint": fingerprint(model),
    }


def _choice(text: str, index: int, finish: str | None, logprobs: JsonObject | None = None) -> JsonObject:
    return {"text": text, "index": index, "logprobs": logprobs, "finish_reason": finish}


def _logprobs(end: ChoiceEnded, exchange: Exchange) -> JsonObject | None:
    """Log probabilities in the old form: lists of equal length, offsets counted from the start of the prompt."""
    if end.logprobs is None:
        return None
    offsets = [len(_prompt_of(exchange, end.choice))]
    for item in end.logprobs[:-1]:
        offsets.append(offsets[-1] + len(item.token))
    return {
        "tokens": [item.token for item in end.logprobs],
        "token_logprobs": [item.logprob for item in end.logprobs],
        "top_logprobs": [dict(item.top) or None for item in end.logprobs],
        "text_offset": offsets[: len(end.logprobs)],
    }


def _finish(end: ChoiceEnded) -> str:
    word = FINISH[end.finish]
    return "stop" if word == "tool_calls" else word


def encode_response(response: Response, exchange: Exchange) -> JsonObject:
    choices = []
    for choice in response.choices:
        index = choice.end.choice
        text = "".join(visible_text(part) for part in choice.parts)
        if exchange.body.get("echo"):
            text = _prompt_of(exchange, index) + text
        choices.append(_choice(text, index, _finish(choice.end), _logprobs(choice.end, exchange)))
    return _object(exchange, choices, response.model) | {"usage": _usage(response.usage)}


class StreamEncoder:
    """Events in, frames out."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._model: str | None = None
        self._include_usage = bool((exchange.body.get("stream_options") or {}).get("include_usage"))
        self._kinds: dict[int, bool] = {}  # choice -> whether its open part shows
        self._echoed: set[int] = set()

    def _frame(self, choices: list[JsonObject], usage: JsonObject | None = None) -> bytes:
        chunk = _object(self._exchange, choices, self._model)
        if self._include_usage:
            chunk["usage"] = usage
        return sse.encode(jsontext.dumps(chunk))

    def _echo(self, index: int) -> list[bytes]:
        if not self._exchange.body.get("echo") or index in self._echoed:
            return []
        self._echoed.add(index)
        return [self._frame([_choice(_prompt_of(self._exchange, index), index, None)])]

    def feed(self, event: Event) -> list[bytes]:
        match event:
            case PartDelta(choice=index, text=text):
                return [self._frame([_choice(text, index, None)])] if self._kinds[index] else []
            case MessageStarted(model=model):
                self._model = model
                return []
            case PartStarted(choice=index, part=part):
                self._kinds[index] = isinstance(part, Text)
                frames = [] if isinstance(part, Reasoning) else self._echo(index)
                shown = visible_text(part)
                if shown:
                    frames.append(self._frame([_choice(shown, index, None)]))
                return frames
            case PartEnded():
                return []
            case ChoiceEnded(choice=index):
                return [
                    *self._echo(index),
                    self._frame([_choice("", index, _finish(event), _logprobs(event, self._exchange))]),
                ]
            case MessageEnded(usage=usage):
                frames = [self._frame([], _usage(usage))] if self._include_usage else []
                return [*frames, sse.DONE]
            case _:
                assert_never(event)

    def keep_alive(self) -> list[bytes]:
        return [sse.KEEP_ALIVE]

    def fail(self, error: GatewayError) -> list[bytes]:
        return [sse.encode(jsontext.dumps(encode_error(error)))]
