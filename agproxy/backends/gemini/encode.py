"""Conversation -> Gemini's GenerateContentRequest (v1beta).

Knows the request's field names and the rules that the API enforces (turn order, one result a call, signatures);
what models differ in stands in `models`. Never modifies the request, since attempts repeat. What cannot be carried
becomes a notice.
"""

from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import field
from typing import assert_never

from ... import jsontext
from ...conversation import (
    USUAL_SAMPLING,
    Code,
    CodeOutput,
    Format,
    FunctionTool,
    Hosted,
    HostedTool,
    Media,
    Mode,
    Notice,
    Part,
    Policy,
    Reasoning,
    Request,
    Role,
    Sampling,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)
from ...errors import InvalidRequest
from ...jsontext import JsonObject
from ...values import value_class
from . import models
from .names import NameMap
from .schema import Restore, clean_json_schema, to_gemini_schema

# The value that Google documents for calls that Gemini did not make or whose signature the client lost.
BYPASS_SIGNATURE = "skip_thought_signature_validator"

_HOSTED = {
    Hosted.WEB_SEARCH: "googleSearch",
    Hosted.CODE_EXECUTION: "codeExecution",
    Hosted.URL_CONTEXT: "urlContext",
}
_TIERS = {"flex": "flex", "priority": "priority", "fast": "priority", "default": "standard"}
_DETAILS = {"low": "MEDIA_RESOLUTION_LOW", "high": "MEDIA_RESOLUTION_HIGH", "original": "MEDIA_RESOLUTION_HIGH"}
# What may be part of a function's result, on Gemini 3 and later.
_RESULT_MEDIA = frozenset({"image/png", "image/jpeg", "image/webp", "application/pdf", "text/plain"})
_INT32_MAX = 0x7FFFFFFF
_NO_NAMES: frozenset[str] = frozenset()  # one for all: each empty set takes 216 bytes of every open stream
_NO_MAP = NameMap(())
_CALLS = (ToolCall, ToolResult)

FREEFORM_SCHEMA: JsonObject = {
    "type": "object",
    "properties": {"input": {"type": "string", "description": "The whole input, as plain text."}},
    "required": ["input"],
}


@value_class(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A request body, with what the decoder of its answer must know.

    restores: by the client's name of a function, how values in its arguments become the client's again.
    """

    body: JsonObject
    names: NameMap
    declared: frozenset[str]
    only_first_call: bool
    notices: tuple[Notice, ...]
    restores: Mapping[str, Restore] = field(default_factory=dict)

    @property
    def candidates(self) -> int:
        """How many it asks for."""
        count: int = self.body.get("generationConfig", {}).get("candidateCount", 1)
        return count


def encode(request: Request, model: str, policy: Policy) -> Encoded:
    """The body for `generateContent` and `streamGenerateContent`. Raises InvalidRequest for what no model takes."""
    return _Encoder(request, model, policy).encode()


class _Encoder:
    def __init__(self, request: Request, model: str, policy: Policy) -> None:
        self._request = request
        self._model = model
        self._policy = policy
        self._facts = models.facts(model)
        self._notices: list[Notice] = []
        self._restores: dict[str, Restore] = {}
        self._functions = [tool for tool in request.tools if isinstance(tool, FunctionTool)]
        # (number of the turn, part)
        self._calls = [
            (n, part) for n, turn in enumerate(request.turns) for part in turn.parts if isinstance(part, _CALLS)
        ]
        names = [*(tool.name for tool in self._functions), *(part.name for _, part in self._calls)]
        self._names = NameMap(names) if names else _NO_MAP

    def encode(self) -> Encoded:
        request = self._request
        body: JsonObject = {"contents": self._contents()}
        system = [{"text": text.text} for text in request.system if text.text]
        if self._policy.late_system == "hoist":
            system += [
                {"text": part.text}
                for turn in request.turns
                if turn.role is Role.SYSTEM
                for part in turn.parts
                if isinstance(part, Text) and part.text
            ]
        config = self._generation_config(system)
        if system and self._facts.takes_system:
            body["systemInstruction"] = {"parts": system}
        elif system:
            _put_first(body["contents"], system)
            self._note(f"{self._model} takes no system instruction: it stands before the first message instead")
        tools, tool_config = self._tools()
        if tools:
            body["tools"] = tools
        if tool_config:
            body["toolConfig"] = tool_config
        if config:
            body["generationConfig"] = config
        if request.safety_settings:
            body["safetySettings"] = [dict(setting) for setting in request.safety_settings]
        if request.cached_content:
            body["cachedContent"] = request.cached_content
        tier = _TIERS.get(request.service_tier or "")
        if tier is not None and tier != "standard":
            body["serviceTier"] = tier
        return Encoded(
            body=body,
            names=self._names,
            declared=frozenset(tool.name for tool in self._functions) if self._functions else _NO_NAMES,
            only_first_call=request.parallel_tool_calls is False,
            notices=tuple(self._notices),
            restores=self._restores,
        )

    def _note(self, message: str, param: str | None = None) -> None:
        self._notices.append(Notice(message=message, param=param))

    # --- contents

    def _contents(self) -> list[JsonObject]:
        """Turns merged by role, each call's result right behind its turn, signatures where Gemini 3 wants them."""
        results: defaultdict[str | None, deque[tuple[int, ToolResult]]] = defaultdict(deque)
        for index, call in self._calls:
            if isinstance(call, ToolResult):
                results[call.call_id].append((index, call))
        contents: list[JsonObject] = []
        pending: list[ToolCall] = []

        def answer_calls(before: int) -> None:
            """Put the results of the calls above into one user content, in call order."""
            parts: list[JsonObject] = []
            extra: list[JsonObject] = []
            for call in pending:
                result = _take(results, call, before)
                parts.append(self._function_response(call, result, extra))
            contents.append({"role": "user", "parts": parts + extra})
            pending.clear()

        for index, turn in enumerate(self._request.turns):
            role = "model" if turn.role is Role.MODEL else "user"
            if turn.role is Role.SYSTEM and self._policy.late_system == "hoist":
                continue
            if role == "user" and pending:
                answer_calls(index)
            parts = []
            for part in turn.parts:
                if isinstance(part, ToolCall):
                    pending.append(part)
                encoded = self._part(part)
                if encoded is not None:
                    parts.append(encoded)
            if not parts:
                if any(isinstance(part, ToolResult) for part in turn.parts):
                    continue
                parts = [{"text": ""}]  # an empty message is a turn all the same; Gemini takes an empty text
            if contents and contents[-1]["role"] == role:
                contents[-1]["parts"] += parts
            else:
                contents.append({"role": role, "parts": parts})
        if pending:
            answer_calls(len(self._request.turns))
        for left in results.values():
            for _, orphan in left:
                self._note(f"the result of {orphan.name[:64]} belongs to no call of this conversation and was left out")
        if contents and contents[0]["role"] == "model" and any("functionCall" in p for p in contents[0]["parts"]):
            contents.insert(0, {"role": "user", "parts": [{"text": ""}]})  # a call must follow a user turn
        if not contents:
            contents.append({"role": "user", "parts": [{"text": ""}]})
        self._drop_empty_texts(contents)
        if self._facts.checks_signatures:
            _sign_current_turn(contents)
        return contents

    def _drop_empty_texts(self, contents: list[JsonObject]) -> None:
        """Vertex refuses an empty text beside other parts; a signed one carries its signature and stays."""
        for content in contents:
            kept = [part for part in content["parts"] if part.get("text") != "" or "thoughtSignature" in part]
            content["parts"] = kept or content["parts"][:1]

    def _part(self, part: Part) -> JsonObject | None:
        encoded: JsonObject
        match part:
            case Text(text=text):
                encoded = {"text": text}
            case Reasoning():
                return None  # summaries are for people; what the model needs of them is in the signatures
            case Media():
                return self._media(part)
            case ToolCall(id=identifier, name=name, arguments=arguments):
                call: JsonObject = {"name": self._names.there(name), "args": jsontext.loads(arguments)}
                if identifier is not None:
                    call["id"] = identifier
                encoded = {"functionCall": call}
            case ToolResult():
                return None  # stands behind its call, see _contents
            case Code(code=code, language=language):
                encoded = {"executableCode": {"language": language.upper(), "code": code}}
            case CodeOutput(output=output, is_ok=is_ok):
                outcome = "OUTCOME_OK" if is_ok else "OUTCOME_FAILED"
                encoded = {"codeExecutionResult": {"outcome": outcome, "output": output}}
            case _:
                assert_never(part)
        if part.opaque is not None:
            encoded["thoughtSignature"] = part.opaque
        return encoded

    def _media(self, media: Media) -> JsonObject:
        encoded: JsonObject
        if media.data is not None:
            encoded = {"inlineData": {"mimeType": media.mime_type or "application/octet-stream", "data": media.data}}
        else:
            encoded = {"fileData": {"fileUri": media.uri}}
            if media.mime_type is not None:
                encoded["fileData"]["mimeType"] = media.mime_type
        if media.opaque is not None:
            encoded["thoughtSignature"] = media.opaque
        level = _DETAILS.get(media.detail or "")
        if level is not None and self._facts.generation >= 3:
            encoded["mediaResolution"] = {"level": level}
        return encoded

    def _function_response(self, call: ToolCall, result: ToolResult | None, extra: list[JsonObject]) -> JsonObject:
        """The result as text under `output`, exactly as the client wrote it. Media go into the response's parts where
        Gemini takes them there, else behind all responses."""
        response: JsonObject = {"name": self._names.there(call.name)}
        if call.id is not None:
            response["id"] = call.id
        if result is None:
            self._note(f"the call of {call.name[:64]} has no result: Gemini was told so")
            response["response"] = {"error": "no result"}
            return {"functionResponse": response}
        texts = [part.text for part in result.content if isinstance(part, Text)]
        response["response"] = {"error" if result.is_error else "output": "\n".join(texts)}
        for part in result.content:
            if isinstance(part, Media):
                fits = self._facts.generation >= 3 and part.mime_type in _RESULT_MEDIA
                (response.setdefault("parts", []) if fits else extra).append(self._media(part))
        return {"functionResponse": response}

    # --- tools

    def _tools(self) -> tuple[list[JsonObject], JsonObject]:
        request = self._request
        if not request.tools:
            return [], {}
        choice = request.tool_choice
        declarations = [self._declaration(tool) for tool in self._functions]
        hosted = [_HOSTED[tool.kind] for tool in request.tools if isinstance(tool, HostedTool)]
        if hosted and declarations and not self._facts.combines_tools:
            self._note(f"{self._model} takes no {', '.join(hosted)} beside functions: left out", "tools")
            hosted = []
        tools: list[JsonObject] = [{"functionDeclarations": declarations}] if declarations else []
        tools += [{name: {}} for name in hosted]
        config: JsonObject = {}
        if declarations and choice is not None:
            calling: JsonObject = {"mode": {Mode.AUTO: "AUTO", Mode.NONE: "NONE", Mode.REQUIRED: "ANY"}[choice.mode]}
            if choice.names is not None:
                allowed = [self._names.there(name) for name in choice.names]
                if choice.mode is Mode.AUTO and self._facts.generation < 2.5:
                    declarations[:] = [d for d in declarations if d["name"] in allowed]  # no VALIDATED there
                else:
                    if choice.mode is Mode.AUTO:
                        calling["mode"] = "VALIDATED"  # AUTO takes no names
                    calling["allowedFunctionNames"] = allowed
            if calling != {"mode": "AUTO"}:
                config["functionCallingConfig"] = calling
        is_strict = bool(declarations) and all(tool.is_strict for tool in self._functions)
        if is_strict and not config and self._facts.generation >= 2.5:
            config["functionCallingConfig"] = {"mode": "VALIDATED"}
        if hosted and declarations:
            config["includeServerSideToolInvocations"] = True
        return tools, config

    def _declaration(self, tool: FunctionTool) -> JsonObject:
        encoded: JsonObject = {"name": self._names.there(tool.name)}
        if tool.description:
            encoded["description"] = tool.description
        schema = FREEFORM_SCHEMA if tool.is_freeform else tool.parameters
        path = f"tools[{tool.name[:64]}]"
        if schema and self._policy.schemas == "convert":
            converted = to_gemini_schema(schema, path, is_arguments=True)
            self._notices += converted.notices
            if converted.restore is not None:
                self._restores[tool.name] = converted.restore
            if converted.schema.keys() & {"properties", "description"}:  # older models refuse an object without any
                encoded["parameters"] = converted.schema
        elif schema:
            encoded["parametersJsonSchema"], notices = clean_json_schema(schema, path)
            self._notices += notices
        return encoded

    # --- generationConfig

    def _generation_config(self, system: list[JsonObject]) -> JsonObject:
        config: JsonObject = {}
        if self._request.sampling is not USUAL_SAMPLING:
            self._sampling(self._request.sampling, config)
        self._output(config, system)
        thinking = self._thinking(self._request.thinking)
        if thinking:
            config["thinkingConfig"] = thinking
        return config

    def _sampling(self, sampling: Sampling, config: JsonObject) -> None:
        for name, value, param in (
            ("temperature", sampling.temperature, "temperature"),
            ("topP", sampling.top_p, "top_p"),
            ("topK", sampling.top_k, "top_k"),
        ):
            if value is None:
                continue
            if self._facts.ignores_sampling:
                self._note(f"{param}: {self._model} ignores it, left out", param)
            elif name == "topP" and value == 0:
                config[name] = 1e-6  # OpenAI allows 0, Gemini wants more
            else:
                config[name] = value
        if sampling.max_output_tokens is not None:
            config["maxOutputTokens"] = sampling.max_output_tokens
        if sampling.stop:
            config["stopSequences"] = list(sampling.stop)
        if sampling.seed is not None:
            config["seed"] = sampling.seed if abs(sampling.seed) <= _INT32_MAX else sampling.seed & _INT32_MAX
            if config["seed"] != sampling.seed:
                self._note("seed: folded to 32 bits, Gemini takes no more", "seed")
        for name, value, param in (
            ("presencePenalty", sampling.presence_penalty, "presence_penalty"),
            ("frequencyPenalty", sampling.frequency_penalty, "frequency_penalty"),
        ):
            if value and self._facts.takes_penalties:
                config[name] = value
            elif value:
                self._note(f"{param}: {self._model} takes no penalties, left out", param)
        if sampling.candidates > 1 and self._facts.takes_candidates:
            config["candidateCount"] = min(sampling.candidates, 8)
        if sampling.logprobs:
            config["responseLogprobs"] = True
            if sampling.top_logprobs:
                config["logprobs"] = sampling.top_logprobs

    def _output(self, config: JsonObject, system: list[JsonObject]) -> None:
        output = self._request.output
        if "image" in output.modalities:
            if not self._facts.makes_images:
                raise InvalidRequest(
                    f"Invalid value: 'image'. {self._model} makes no images.",
                    code="unsupported_value",
                    param="modalities",
                )
            config["responseModalities"] = [modality.upper() for modality in output.modalities]
        if output.format is Format.TEXT:
            return
        if self._request.tools and not self._facts.combines_tools:
            if self._policy.schema_with_tools == "refuse":
                raise InvalidRequest(
                    f"'response_format' and 'tools' together: {self._model} refuses a JSON schema beside tools.",
                    code="unsupported_parameter",
                    param="response_format",
                )
            wanted = "Answer with a single JSON value and nothing else."
            if output.schema is not None:
                wanted += " It must follow this JSON Schema: " + jsontext.text(output.schema)
            system.append({"text": wanted})
            self._note(
                f"response_format: {self._model} refuses a JSON schema beside tools, so it was told in words",
                "response_format",
            )
            return
        config["responseMimeType"] = "application/json"
        if output.schema is not None and self._policy.schemas == "convert":
            # A streamed text cannot be turned back, and a unary answer must not say anything else.
            converted = to_gemini_schema(output.schema, "response_format", may_restore=False)
            config["responseSchema"] = converted.schema
            self._notices += converted.notices
        elif output.schema is not None:
            config["responseJsonSchema"], notices = clean_json_schema(output.schema, "response_format")
            self._notices += notices

    def _thinking(self, thinking: Thinking) -> JsonObject:
        known = self._facts
        asked = thinking.effort is not None or thinking.budget_tokens is not None or thinking.level is not None
        if not known.thinks:
            if asked:
                self._note(f"{self._model} has no thinking settings: the effort has no effect", "reasoning_effort")
            return {}
        config: JsonObject = {}
        limit = self._request.sampling.max_output_tokens
        if thinking.level is not None:
            config["thinkingLevel"] = thinking.level
        elif thinking.budget_tokens is not None:
            config["thinkingBudget"] = thinking.budget_tokens
        elif thinking.effort is not None:
            config |= self._effort(thinking.effort, limit)
        elif limit is not None and limit < models.SMALL_LIMIT_TOKENS:
            config |= models.least_thinking(known)
            chosen = next(iter(config.values()))
            self._note(f"max_tokens: the limit covers thinking too, so thinking was set to {chosen}", "max_tokens")
        wants = thinking.summaries
        if wants is None:
            wants = self._policy.thoughts and thinking.effort != "none"
        if wants and config.get("thinkingBudget") != 0:
            config["includeThoughts"] = True
        return config

    def _effort(self, effort: str, limit: int | None) -> JsonObject:
        known = self._facts
        if known.budget is None:
            chosen: int | str = models.thinking_level(known, effort)
            config: JsonObject = {"thinkingLevel": chosen}
        else:
            chosen = models.thinking_budget(known, effort)
            if limit is not None and chosen > limit // 2:
                chosen = models.fitting_budget(known, chosen, limit)
                self._note(
                    f"reasoning_effort: thinking was held to {chosen} tokens, to leave room for the answer",
                    "reasoning_effort",
                )
            config = {"thinkingBudget": chosen}
        if not models.is_exact(known, effort):
            self._note(f"reasoning_effort: {self._model} has no {effort}, {chosen} was used", "reasoning_effort")
        return config


def _put_first(contents: list[JsonObject], parts: list[JsonObject]) -> None:
    """Parts at the head of the first user content: two contents of one role in a row are not safe everywhere."""
    if contents[0]["role"] != "user":
        contents.insert(0, {"role": "user", "parts": parts})
    else:
        contents[0]["parts"] = parts + [part for part in contents[0]["parts"] if part != {"text": ""}]


def _take(
    results: defaultdict[str | None, deque[tuple[int, ToolResult]]], call: ToolCall, after: int
) -> ToolResult | None:
    """The first result of a call at or after a turn; calls without id (2023's function_call) go by name."""
    waiting = results[call.id]
    for entry in waiting:
        index, result = entry
        if index >= after and (call.id is not None or result.name == call.name):
            waiting.remove(entry)
            return result
    return None


def _sign_current_turn(contents: list[JsonObject]) -> None:
    """Give the first call of each step of the current turn a signature if it has none.

    The current turn is all that follows the last user content with something other than function responses; older
    turns are not checked by Gemini. Only the first call of a step carries a signature, so others stay bare.
    """
    for content in reversed(contents):
        if content["role"] == "user":
            if any("functionResponse" not in part for part in content["parts"]):
                return
            continue
        first = next((part for part in content["parts"] if "functionCall" in part), None)
        if first is not None and "thoughtSignature" not in first:
            first["thoughtSignature"] = BYPASS_SIGNATURE
