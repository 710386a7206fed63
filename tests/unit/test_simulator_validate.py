"""What the simulated API refuses, in Google's words, and what it takes because the real one does."""

import base64
import json

import pytest
from simulator_client import FLASH, THIRD, VERTEX, WEATHER, ask, generate, prompt, tools

FIRST_FLASH = "/v1beta/models/gemini-2.0-flash"
USER = {"role": "user", "parts": [{"text": "Hi"}]}
MODEL = {"role": "model", "parts": [{"text": "Hello"}]}


def call(name="f", signature=None, **more):
    signed = {} if signature is None else {"thoughtSignature": signature}
    return {"functionCall": {"name": name, "args": {}} | more} | signed


def result(name="f", **more):
    return {"functionResponse": {"name": name, "response": {"output": "x"}} | more}


def said(role, *parts):
    return {"role": role, "parts": list(parts)}


def ask_contents(*contents, path=FLASH, **more):
    return ask(f"{path}:generateContent", {"contents": list(contents)} | more)


def refusal(answer):
    """The message of a 400; the test fails for anything else."""
    assert (answer.status, answer.error["status"]) == (400, "INVALID_ARGUMENT"), answer.body[:300]
    return answer.error["message"]


def config(path=FLASH, **settings):
    return generate("Hi", path=path, generationConfig=settings)


# The body against its messages


@pytest.mark.parametrize("body", [b"{", b"[1", b'{"contents": NaN}', b"\xff", b'{"a":' * 20_000])
def test_a_body_that_is_no_json_is_refused(body):
    assert refusal(ask(f"{FLASH}:generateContent", body)).startswith("Invalid JSON payload received.")


def test_a_body_that_is_no_object_is_refused():
    assert "Root element must be a message." in refusal(ask(f"{FLASH}:generateContent", [1]))


@pytest.mark.parametrize(
    ("body", "message", "field"),
    [
        ({"model_name": 1}, 'Unknown name "model_name": Cannot find field.', None),
        (
            {"generationConfig": {"x": 1}},
            "Unknown name \"x\" at 'generation_config': Cannot find field.",
            "generation_config",
        ),
        (
            {"contents": [{"parts": [{"text": "a"}, {"txt": "a"}]}]},
            "Unknown name \"txt\" at 'contents[0].parts[1]': Cannot find field.",
            "contents[0].parts[1]",
        ),
        (
            {"tools": [{"functionDeclarations": [{"name": "f", "parameters": {"$ref": "#"}}]}]},
            "Unknown name \"$ref\" at 'tools[0].function_declarations[0].parameters': Cannot find field.",
            "tools[0].function_declarations[0].parameters",
        ),
        (
            {"tools": {"functionDeclarations": {"name": "f", "response": {"properties": {"a": {"const": 1}}}}}},
            "Unknown name \"const\" at 'tools.function_declarations.response.properties[0].value': Cannot find field.",
            "tools.function_declarations.response.properties[0].value",
        ),
    ],
)
def test_an_unknown_name_is_told_with_its_place(body, message, field):
    answer = ask(f"{FLASH}:generateContent", prompt() | body)
    (violation,) = answer.error["details"][0]["fieldViolations"]

    assert refusal(answer) == f"Invalid JSON payload received. {message}"
    assert violation == ({"field": field} if field else {}) | {"description": refusal(answer)}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": 12345678901}, "Invalid value at 'generation_config.seed' (TYPE_INT32), 12345678901"),
        ({"seed": 1.5}, "Invalid value at 'generation_config.seed' (TYPE_INT32), 1.5"),
        ({"seed": "x"}, "Invalid value at 'generation_config.seed' (TYPE_INT32), \"x\""),
        ({"topP": True}, "Invalid value at 'generation_config.top_p' (TYPE_FLOAT), true"),
        ({"responseLogprobs": 1}, "Invalid value at 'generation_config.response_logprobs' (TYPE_BOOL), 1"),
        ({"responseMimeType": 5}, "Invalid value at 'generation_config.response_mime_type' (TYPE_STRING), 5"),
        ({"stopSequences": ["a", 5]}, "Invalid value at 'generation_config.stop_sequences[1]' (TYPE_STRING), 5"),
        (
            {"thinkingConfig": "on"},
            "Invalid value at 'generation_config.thinking_config' "
            '(type.googleapis.com/google.ai.generativelanguage.v1beta.ThinkingConfig), "on"',
        ),
        (
            {"mediaResolution": "HUGE"},
            "Invalid value at 'generation_config.media_resolution' "
            '(type.googleapis.com/google.ai.generativelanguage.v1beta.MediaResolution), "HUGE"',
        ),
        (
            {"temperature": [1]},
            "Invalid JSON payload received. Unknown name \"temperature\" at 'generation_config': Proto field is not "
            "repeating, cannot start list.",
        ),
        (
            {"responseSchema": {"type": ["string", "null"]}},
            "Invalid JSON payload received. Unknown name \"type\" at 'generation_config.response_schema': Proto field "
            "is not repeating, cannot start list.",
        ),
        (
            {"temperature": {}},
            "Invalid JSON payload received. Unknown name \"temperature\" at 'generation_config': Proto field is not a "
            "message, cannot start object.",
        ),
        (
            {"responseSchema": {"properties": 5}},
            "Invalid value at 'generation_config.response_schema.properties' (Map), 5",
        ),
    ],
)
def test_a_wrong_type_is_told_with_its_place(settings, message):
    assert refusal(config(**settings)) == message


def test_all_faults_are_told_at_once():
    message = refusal(config(seed="x", flavour=1, temperature=[]))
    assert len(message.split("\n")) == 3


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"thoughtSignature": "no base64!", "text": "a"}, '(TYPE_BYTES), Base64 decoding failed for "no base64!"'),
        ({"inlineData": {"mimeType": "image/png", "data": "abcde"}}, "(TYPE_BYTES), Base64 decoding failed"),
        ({"text": "a", "inlineData": {"mimeType": "image/png", "data": ""}}, "oneof field 'data' is already set"),
        (
            {"functionResponse": {"name": "f", "response": "text"}},
            '(type.googleapis.com/google.protobuf.Struct), "text"',
        ),
        ({"functionResponse": {"name": "f", "response": [1]}}, "not repeating, cannot start list"),
        (
            {"fileData": {"fileUri": "x"}, "videoMetadata": {"startOffset": "soon"}},
            "(type.googleapis.com/google.protobuf.Duration)",
        ),
        ({}, "required oneof field 'data' must have one initialized field"),
        ({"thought": True}, "required oneof field 'data' must have one initialized field"),
        ({"inlineData": {"data": "YQ=="}}, "mime_type"),
        ({"fileData": {"mimeType": "a/b"}}, "file_uri"),
        ({"functionCall": {"args": {}}}, "Name cannot be empty"),
    ],
)
def test_a_part_that_cannot_be_is_refused(part, message):
    assert message in refusal(ask_contents(said("user", part)))


@pytest.mark.parametrize(
    "body",
    [
        {"contents": {"parts": {"text": "a single object for a repeated field"}}},
        {"contents": [{"parts": [{"text": "no role"}]}]},
        {"contents": [{"role": "function", "parts": [{"text": "the old role"}]}]},
        prompt("snake", generation_config={"max_output_tokens": 9, "response_mime_type": "text/plain"}),
        prompt("numbers", generationConfig={"topK": 40.0, "seed": "7", "temperature": "0.5", "maxOutputTokens": 1e3}),
        prompt("nothing", generationConfig=None, tools=None, systemInstruction=None),
        prompt(
            "enums", generationConfig={"responseSchema": {"type": "string"}, "responseMimeType": "application/json"}
        ),
        prompt("an enum by its number", safetySettings=[{"category": 7, "threshold": "BLOCK_NONE"}]),
        prompt("", labels={"team": "a-b_1"}),
        prompt("x", cachedContent="cachedContents/abc"),
        prompt("x", toolConfig={"retrievalConfig": {"latLng": {"latitude": 1, "longitude": 2}}}),
        prompt("x", systemInstruction={"role": "user", "parts": [{"text": "a"}, {"text": "b"}]}),
        {"contents": [USER, USER, MODEL, MODEL, USER]},
        {"contents": [USER, MODEL]},
        {"contents": [MODEL, USER]},
    ],
)
def test_what_the_real_reader_forgives_is_forgiven(body):
    assert ask(f"{FLASH}:generateContent", body).status == 200


@pytest.mark.parametrize("signature", ["skip_thought_signature_validator", "Y29udGV4dA==", "ab-_", "ab+/", "YQ", ""])
def test_either_alphabet_of_base64_is_taken(signature):
    part = {"text": "a", "thoughtSignature": signature}
    assert ask_contents(USER, said("model", part), USER).status == 200


def test_fields_of_one_api_are_unknown_to_the_other():
    def status(path, **more):
        return generate("Hi", path=path, **more).status

    vertex = f"{VERTEX}/gemini-2.5-flash"
    only_vertex = {"toolConfig": {"functionCallingConfig": {"streamFunctionCallArguments": True}}}
    only_ours = {"serviceTier": "flex"}
    assert (status(FLASH, **only_vertex), status(vertex, **only_vertex)) == (400, 200)
    assert (status(FLASH, **only_ours), status(vertex, **only_ours)) == (200, 400)


# Contents and turns


def test_contents_have_to_be_there():
    assert "contents is not specified" in refusal(ask(f"{FLASH}:generateContent", b""))
    assert "contents is not specified" in refusal(ask(f"{FLASH}:generateContent", {"contents": []}))
    assert "at least one contents field" in refusal(ask(f"{VERTEX}/gemini-2.5-flash:generateContent", {}))
    assert "contents.parts must not be empty" in refusal(ask_contents({"role": "user"}))
    assert "at least one parts field" in refusal(ask_contents({"parts": []}, path=f"{VERTEX}/gemini-2.5-flash"))


@pytest.mark.parametrize("role", ["assistant", "system", "tool", "USER"])
def test_there_are_two_roles(role):
    assert refusal(ask_contents(said(role, {"text": "Hi"}))) == "Please use a valid role: user, model."


def test_only_empty_text_is_refused_on_vertex_alone():
    assert ask_contents(said("user", {"text": ""})).status == 200
    assert "empty text parameter" in refusal(
        ask_contents(said("user", {"text": ""}), path=f"{VERTEX}/gemini-2.5-flash")
    )


def test_calls_and_results_in_order_are_taken():
    for contents in (
        [USER, said("model", call()), said("user", result()), USER],
        [USER, said("model", {"text": "Let me look."}, call(), call()), said("user", result(), result())],
        [USER, said("model", call()), said("model", call()), said("user", result(), result())],
        [USER, said("model", call()), said("user", result()), said("model", call("g")), said("user", result("g"))],
        [USER, said("model", call()), said("user", result(), {"text": "and this"})],
        [USER, said("model", call()), said("user", result(name="another"))],
        [USER, said("model", call(id="a")), said("user", result(id="b"))],
    ):
        assert ask_contents(*contents).status == 200


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ([said("model", call()), said("user", result())], "function call turn comes immediately after a user turn"),
        ([said("user", result())], "function response turn comes immediately after a function call turn"),
        ([USER, MODEL, said("user", result())], "function response turn comes immediately after a function call turn"),
        ([USER, said("model", call(), call()), said("user", result())], "number of function response parts is equal"),
        ([USER, said("model", call()), said("user", result(), result())], "number of function response parts is equal"),
        ([USER, said("model", call()), USER], "number of function response parts is equal"),
        ([USER, said("model", call())], "number of function response parts is equal"),
    ],
)
def test_calls_and_results_out_of_order_are_refused(contents, message):
    assert message in refusal(ask_contents(*contents))


def test_from_3_8_on_results_name_their_call_and_an_id_has_to_be_its():
    def status(path, **more):
        called = said("model", call(id="a", signature="c2ln"))
        return ask_contents(USER, called, said("user", result(**more)), path=path).status

    assert status(THIRD, id="a") == status(THIRD) == 200
    assert status(THIRD, id="b") == status(THIRD, id="a", name="g") == 400
    assert status("/v1beta/models/gemini-3.5-flash", id="b") == 200


# Signatures


def test_gemini_3_wants_the_signature_of_the_current_turns_first_calls():
    unsigned = [USER, said("model", call(), call()), said("user", result(), result())]
    message = refusal(ask_contents(*unsigned, path=THIRD))

    assert message.startswith("Function call is missing a thought_signature in functionCall parts.")
    assert "function call `default_api:f`, position 2." in message
    vertex = refusal(ask_contents(*unsigned, path=f"{VERTEX}/gemini-3-flash-preview"))
    assert "function call `default_api:f` in the 2. content block is missing a `thought_signature`" in vertex
    assert ask_contents(*unsigned, path=FLASH).status == 200


def test_an_alias_that_moves_is_not_held_to_one_generation():
    unsigned = [USER, said("model", call(id="a")), said("user", result(id="b"))]
    assert ask_contents(*unsigned, path="/v1beta/models/gemini-flash-latest").status == 200


def test_only_the_first_call_of_each_step_needs_one():
    first = [USER, said("model", call(signature="c2ln"), call()), said("user", result(), result())]
    second = [said("model", call()), said("user", result())]

    assert ask_contents(*first, path=THIRD).status == 200
    assert "position 4" in refusal(ask_contents(*first, *second, path=THIRD))
    second[0] = said("model", {"text": "Hm."}, call(signature="c2ln"))
    assert ask_contents(*first, *second, path=THIRD).status == 200


def test_older_turns_need_no_signatures():
    old = [USER, said("model", call()), said("user", result()), MODEL]

    assert ask_contents(*old, USER, path=THIRD).status == 200
    assert ask_contents(*old[:3], USER, path=THIRD).status == 200


@pytest.mark.parametrize(
    "value",
    [
        "skip_thought_signature_validator",
        "context_engineering_is_the_way_to_go",
        base64.b64encode(b"skip_thought_signature_validator").decode(),
        base64.b64encode(b"made by another model").decode(),
    ],
)
def test_any_base64_is_a_signature(value):
    turns = [USER, said("model", call(signature=value)), said("user", result())]
    assert ask_contents(*turns, path=THIRD).status == 200


# Tools


@pytest.mark.parametrize("name", ["", "1st", "-a", "a b", "mcp/tool", "a" * 129, "é"])
def test_a_function_needs_a_name_that_fits(name):
    assert "Invalid function name" in refusal(generate("Hi", path=FLASH, tools=tools({"name": name})))


@pytest.mark.parametrize("name", ["_a", "a.b", "a:b", "a-b", "A1", "a" * 128])
def test_names_that_fit_are_taken(name):
    assert generate("Hi", path=FLASH, tools=tools({"name": name})).status == 200


def test_declarations_are_unique_and_have_one_schema():
    twice = generate("Hi", path=FLASH, tools=tools(WEATHER, WEATHER))
    both = generate("Hi", path=FLASH, tools=tools(WEATHER | {"parameters": {"type": "OBJECT"}}))

    assert refusal(twice) == "Duplicate function declaration found: get_weather"
    assert "only one of parameters and parameters_json_schema" in refusal(both)
    assert "must not exceed 512" in refusal(generate("Hi", tools=tools(*({"name": f"f{n}"} for n in range(513)))))


def test_the_calling_mode_fits_the_declarations():
    def message(mode, *allowed, declared=True):
        calling = {"functionCallingConfig": {"mode": mode, "allowedFunctionNames": list(allowed)}}
        more = {"tools": tools()} if declared else {}
        return refusal(generate("Hi", path=FLASH, toolConfig=calling, **more))

    assert "without function_declarations" in message("ANY", declared=False)
    assert "only when function calling mode is ANY" in message("AUTO", "get_weather")
    assert "'sing' is not declared" in message("ANY", "sing")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"tools": [*tools(), {"googleSearch": {}}]}, "Tool use with function calling is unsupported"),
        (
            {"tools": tools(), "generationConfig": {"responseMimeType": "application/json"}},
            "Function calling with a response mime type: 'application/json' is unsupported",
        ),
        (
            {"tools": [{"codeExecution": {}}], "generationConfig": {"responseMimeType": "application/json"}},
            "Tool use with a response mime type: 'application/json' is unsupported",
        ),
        ({"toolConfig": {"includeServerSideToolInvocations": True}}, "Tool call context circulation is not enabled"),
    ],
)
def test_gemini_3_lifted_what_2_5_does_not_combine(more, message):
    assert message in refusal(generate("Hi", path=FLASH, **more))
    assert generate("Hi", path=THIRD, **more).status == 200


def test_server_tools_go_together():
    every = [{"googleSearch": {}, "urlContext": {}}, {"codeExecution": {}}]
    assert generate("Hi", path=FLASH, tools=every).status == 200


def test_a_cache_brings_its_own_tools_and_instructions():
    for more in ({"tools": tools()}, {"systemInstruction": {"parts": [{"text": "x"}]}}, {"toolConfig": {}}):
        assert "CachedContent can not be used" in refusal(generate("Hi", cachedContent="cachedContents/x", **more))


def test_parts_in_results_are_for_gemini_3():
    attached = {"parts": [{"inlineData": {"mimeType": "image/png", "data": "YQ=="}}]}
    turns = [USER, said("model", call(id="a", signature="c2ln")), said("user", result(id="a", **attached))]

    assert ask_contents(*turns, path=THIRD).status == 200
    assert "multimodal function responses" in refusal(ask_contents(*turns, path=FLASH))


# Schemas


@pytest.mark.parametrize(
    ("schema", "place", "what"),
    [
        ({"type": "ARRAY"}, "items", "missing field."),
        ({"type": "OBJECT", "properties": {"a": {"type": "ARRAY"}}}, "properties[a].items", "missing field."),
        ({"type": "OBJECT", "properties": {}, "required": ["a"]}, "required[0]", "property is not defined"),
        ({"type": "STRING", "enum": ["a", ""]}, "enum[1]", "cannot be empty"),
        ({"type": "INTEGER", "enum": ["1"]}, "enum", "only allowed for STRING type"),
        ({"anyOf": [{"type": "ARRAY"}]}, "any_of[0].items", "missing field."),
        ({"type": "ARRAY", "items": {"type": "ARRAY"}}, "items.items", "missing field."),
    ],
)
def test_a_schema_is_checked_wherever_it_stands(schema, place, what):
    here = config(responseMimeType="application/json", responseSchema=schema)
    there = generate("Hi", path=FLASH, tools=tools({"name": "f", "parameters": schema}))

    assert refusal(here) == f"* GenerateContentRequest.generation_config.response_schema.{place}: {what}\n"
    path = "GenerateContentRequest.tools[0].function_declarations[0].parameters"
    assert refusal(there) == f"* {path}.{place}: {what}\n"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {}},
        {"type": "OBJECT"},
        {"type": "STRING", "format": "date", "maxLength": "5", "pattern": "^a", "default": 1, "example": {}},
        {"type": "OBJECT", "properties": {"a": {"type": "STRING", "nullable": True}}, "propertyOrdering": ["a"]},
        {"anyOf": [{"type": "STRING"}, {"type": "NULL"}]},
    ],
)
def test_schemas_that_the_api_knows_are_taken(schema):
    assert generate("Hi", path=FLASH, tools=tools({"name": "f", "parameters": schema})).status == 200


def test_integer_enums_are_for_gemini_3():
    schema = {"type": "INTEGER", "enum": ["1", "2"]}
    answer = config(THIRD, responseMimeType="application/json", responseSchema=schema)
    assert json.loads(answer.text) == 1


def test_json_schemas_may_hold_anything():
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": ["object", "null"],
        "properties": {"a": {"$ref": "#/$defs/a"}},
        "$defs": {"a": {"const": 1, "x-mine": True}},
        "additionalProperties": False,
        "not": {"type": "string"},
    }
    declared = tools({"name": "f", "parametersJsonSchema": schema})

    assert generate("Hi", path=FLASH, tools=declared).status == 200
    assert config(responseMimeType="application/json", responseJsonSchema=schema).status == 200
    assert "must be a JSON object" in refusal(generate("Hi", tools=tools({"name": "f", "parametersJsonSchema": "x"})))


def test_vertex_knows_three_more_words_in_schemas():
    schema = {"type": "OBJECT", "properties": {"a": {"ref": "#/defs/a"}}, "defs": {"a": {"type": "STRING"}}}
    declared = tools({"name": "f", "parameters": schema | {"additionalProperties": False}})

    assert generate("Hi", path=f"{VERTEX}/gemini-2.5-flash", tools=declared).status == 200
    assert len(refusal(generate("Hi", path=FLASH, tools=declared)).split("\n")) == 3


# Settings


@pytest.mark.parametrize(
    ("path", "thinking", "message"),
    [
        (THIRD, {"thinkingLevel": "LOW", "thinkingBudget": 5}, "only one of thinking budget and thinking level"),
        (THIRD, {"thinkingLevel": "MINIMAL"}, "Thinking level MINIMAL is not supported for this model."),
        ("/v1beta/models/gemini-3-pro-preview", {"thinkingLevel": "MEDIUM"}, "Thinking level MEDIUM is not supported"),
        (FLASH, {"thinkingLevel": "LOW"}, "Thinking level is not supported for this model."),
        (
            "/v1beta/models/gemini-2.5-pro",
            {"thinkingBudget": 0},
            "Budget 0 is invalid. This model only works in thinking mode.",
        ),
        (
            "/v1beta/models/gemini-2.5-pro",
            {"thinkingBudget": 50},
            "The thinking budget 50 is invalid. Please choose a value between 128",
        ),
        (FLASH, {"thinkingBudget": 30_000}, "between 0 and 24576"),
        (FLASH, {"thinkingBudget": -2}, "between 0 and 24576"),
        (FIRST_FLASH, {"thinkingBudget": 0}, "Thinking is not enabled for this model"),
        ("/v1beta/models/gemma-3-27b-it", {"includeThoughts": True}, "Thinking is not enabled for this model"),
        (f"{VERTEX}/gemini-2.0-flash", {}, "thinking is not supported by this model"),
    ],
)
def test_thinking_that_a_model_does_not_do_is_refused(path, thinking, message):
    assert message in refusal(config(path, thinkingConfig=thinking))


@pytest.mark.parametrize(
    ("path", "thinking"),
    [
        (THIRD, {"thinkingLevel": "low"}),
        (THIRD, {"thinkingBudget": 1024}),
        ("/v1beta/models/gemini-3-flash-preview", {"thinkingLevel": "MINIMAL"}),
        (FLASH, {"thinkingBudget": 0}),
        (FLASH, {"thinkingBudget": -1, "includeThoughts": True}),
        ("/v1beta/models/gemini-2.5-flash-lite", {"thinkingBudget": 0}),
        ("/v1beta/models/gemini-2.5-pro", {"thinkingBudget": 32_768}),
    ],
)
def test_thinking_that_a_model_does_is_taken(path, thinking):
    assert config(path, thinkingConfig=thinking).status == 200


@pytest.mark.parametrize(
    ("path", "settings", "message"),
    [
        (FLASH, {"temperature": 2.1}, "temperature must be in the range [0, 2], but 2.1 was given"),
        (FLASH, {"topP": 1.5}, "top_p must be in the range [0, 1]"),
        (FLASH, {"maxOutputTokens": 0}, "max_output_tokens must be in the range"),
        (FLASH, {"candidateCount": 9}, "candidate_count must be in the range [1, 8]"),
        (FLASH, {"stopSequences": list("abcdef")}, "at most 5 stop sequences"),
        (THIRD, {"presencePenalty": 0.5}, "Penalty is not enabled"),
        (THIRD, {"candidateCount": 2}, "Multiple candidates is not enabled"),
        (FLASH, {"responseLogprobs": True}, "Logprobs is not enabled"),
        (f"{VERTEX}/gemini-2.5-flash", {"logprobs": 2}, "response_logprobs is true"),
        (f"{VERTEX}/gemini-2.0-flash", {"maxOutputTokens": 9_000}, "from 1 (inclusive) to 8193 (exclusive)"),
        (FLASH, {"responseMimeType": "text/html"}, "allowed mimetypes are"),
        (FLASH, {"responseSchema": {"type": "STRING"}}, "only supported with a response mime type"),
        (FLASH, {"responseModalities": ["IMAGE"]}, "combination of response modalities (IMAGE) is not supported"),
        (FLASH, {"imageConfig": {"aspectRatio": "1:1"}}, "Image config is not enabled"),
        ("/v1beta/models/gemini-2.5-flash-image", {"imageConfig": {"aspectRatio": "7:5"}}, "'7:5' is not supported"),
        ("/v1beta/models/gemini-2.5-flash-image", {"responseMimeType": "application/json"}, "JSON mode is not enabled"),
        ("/v1beta/models/gemini-2.5-flash-preview-tts", {}, "combination of response modalities (TEXT)"),
    ],
)
def test_a_setting_that_a_model_does_not_take_is_refused(path, settings, message):
    assert message in refusal(config(path, **settings))


def test_what_a_model_lacks_is_refused():
    instructions = {"systemInstruction": {"parts": [{"text": "x"}]}}
    image = {"systemInstruction": {"parts": [{"inlineData": {"mimeType": "image/png", "data": ""}}]}}

    assert "Developer instruction is not enabled for models/gemma-3-27b-it" in refusal(
        generate("Hi", path="/v1beta/models/gemma-3-27b-it", **instructions)
    )
    assert "Function calling is not enabled" in refusal(
        generate("Hi", path="/v1beta/models/gemini-2.5-flash-image", tools=tools())
    )
    assert "only supports text parts" in refusal(generate("Hi", **image))


def test_safety_settings_and_labels_are_checked():
    twice = [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}] * 2

    assert "Only one safety setting is allowed" in refusal(generate("Hi", safetySettings=twice))
    assert "safety_settings[0]" in refusal(generate("Hi", safetySettings=[{"threshold": "OFF"}]))
    assert "Labels may hold" in refusal(generate("Hi", labels={"Team": "x"}))


def test_more_input_than_the_model_takes_is_refused():
    answer = generate("word " * 140_000, path="/v1beta/models/gemma-3-27b-it")
    assert refusal(answer) == ("The input token count (140001) exceeds the maximum number of tokens allowed (131072).")
