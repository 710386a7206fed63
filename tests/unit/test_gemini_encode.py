"""A conversation in, Gemini's request out: each rule of the API that a client does not know and we keep for it."""

import copy
import json

import pytest
from dialogue import call, encode, model, request, result, system, told, tool, user

from agproxy.backends.gemini.encode import BYPASS_SIGNATURE, FREEFORM_SCHEMA
from agproxy.conversation import (
    Code,
    CodeOutput,
    Format,
    Hosted,
    HostedTool,
    Media,
    Mode,
    Output,
    Reasoning,
    Sampling,
    Text,
    Thinking,
    ToolChoice,
)
from agproxy.errors import InvalidRequest

OLD, NEW = "gemini-2.5-flash", "gemini-3-flash-preview"
PNG = Media(mime_type="image/png", data="aGk=")


def body(asked, name=OLD, **policy):
    return encode(asked, name, **policy).body


def contents(*turns, name=OLD, **policy):
    """What is said, in short: (role, parts) pairs, where a part is its text or its data field."""
    return [
        (content["role"], [short(part) for part in content["parts"]])
        for content in body(request(*turns), name, **policy)["contents"]
    ]


def short(part):
    if "functionCall" in part:
        return "call " + str(part["functionCall"].get("id"))
    if "functionResponse" in part:
        return "result " + str(part["functionResponse"].get("id"))
    return part["text"] if "text" in part else next(iter(part))


def parts(content):
    return content["parts"]


# --- turns


def test_a_question_is_one_content():
    assert body(request(user("hello")))["contents"] == [{"role": "user", "parts": [{"text": "hello"}]}]


def test_turns_of_the_same_role_are_merged_and_their_texts_stay_apart():
    said = contents(user("a"), user("b"), model("c"), model("d", "e"), user("f"))

    assert said == [("user", ["a", "b"]), ("model", ["c", "d", "e"]), ("user", ["f"])]


def test_an_empty_text_is_left_out_beside_others_and_stays_where_it_is_all():
    assert contents(user("", "a", ""), model(""), user("b")) == [("user", ["a"]), ("model", [""]), ("user", ["b"])]


def test_no_turns_at_all_are_an_empty_question():
    assert contents() == [("user", [""])]


def test_a_conversation_that_begins_with_a_call_gets_a_user_before_it():
    assert contents(model(call("c1")), user(result("c1", "x"))) == [
        ("user", [""]),
        ("model", ["call c1"]),
        ("user", ["result c1"]),
    ]
    assert contents(model("hello"), user("you too"))[0] == ("model", ["hello"])


def test_thoughts_are_for_people_and_do_not_go_back():
    assert contents(user("a"), model(Reasoning(text="hm", opaque="s"), "b"), user("c"))[1] == ("model", ["b"])
    assert contents(user("a"), model(Reasoning(text="hm")), user("c"))[1] == ("model", [""])


def test_code_and_its_output_go_back_as_what_they_were():
    said = body(
        request(user("a"), model(Code(code="1+1", language="python", opaque="s"), CodeOutput(output="2", is_ok=True)))
    )

    assert parts(said["contents"][1]) == [
        {"executableCode": {"language": "PYTHON", "code": "1+1"}, "thoughtSignature": "s"},
        {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "2"}},
    ]
    failed = body(request(model(CodeOutput(output="no", is_ok=False))))["contents"][0]
    assert parts(failed)[0]["codeExecutionResult"]["outcome"] == "OUTCOME_FAILED"


# --- calls and results


def test_a_call_goes_back_with_its_id_and_its_arguments():
    said = body(request(user("a"), model(call("c1", arguments='{"q":"x","n":5}')), user(result("c1", "found"))))[
        "contents"
    ]

    assert parts(said[1])[0]["functionCall"] == {"id": "c1", "name": "look", "args": {"q": "x", "n": 5}}
    assert parts(said[2]) == [{"functionResponse": {"id": "c1", "name": "look", "response": {"output": "found"}}}]


def test_results_stand_in_the_order_of_their_calls_in_one_content_before_other_text():
    said = contents(
        user("a"),
        model("I look", call("c1"), call("c2"), call("c3")),
        user(result("c3", "3")),
        user("and then"),
        user(result("c1", "1"), "hm", result("c2", "2")),
    )

    assert said == [
        ("user", ["a"]),
        ("model", ["I look", "call c1", "call c2", "call c3"]),
        ("user", ["result c1", "result c2", "result c3", "and then", "hm"]),
    ]


def test_calls_of_two_model_turns_in_a_row_are_answered_together():
    said = contents(user("a"), model(call("c1")), model(call("c2")), user(result("c2", "2")), user(result("c1", "1")))

    assert said[1:] == [("model", ["call c1", "call c2"]), ("user", ["result c1", "result c2"])]


def test_each_step_keeps_its_own_results_though_their_ids_are_the_same():
    """Some clients number the calls of each answer from 0."""
    turns = (user("a"), model(call("c0")), user(result("c0", "first")), model(call("c0")), user(result("c0", "second")))
    said = body(request(*turns))["contents"]

    texts = [
        p["functionResponse"]["response"]["output"]
        for content in said
        for p in parts(content)
        if "functionResponse" in p
    ]
    assert texts == ["first", "second"]


def test_a_missing_result_is_made_up_and_told():
    encoded = encode(request(user("a"), model(call("c1"), call("c2")), user(result("c2", "2"), "go on")))

    assert parts(encoded.body["contents"][2]) == [
        {"functionResponse": {"id": "c1", "name": "look", "response": {"error": "no result"}}},
        {"functionResponse": {"id": "c2", "name": "look", "response": {"output": "2"}}},
        {"text": "go on"},
    ]
    assert "the call of look has no result" in told(encoded)


def test_a_call_at_the_very_end_is_answered_too():
    assert contents(user("a"), model(call("c1")))[2] == ("user", ["result c1"])


def test_a_result_without_a_call_is_left_out_and_told():
    encoded = encode(request(user("a"), user(result("c9", "x", name="find")), model("b"), user(result("c9", "y"), "c")))

    assert [content["role"] for content in encoded.body["contents"]] == ["user", "model", "user"]
    assert "functionResponse" not in json.dumps(encoded.body)
    assert "the result of find belongs to no call" in told(encoded)


def test_a_turn_of_nothing_but_such_results_is_no_turn():
    assert contents(user("a"), model("b"), user(result("c9", "x")), model("c")) == [
        ("user", ["a"]),
        ("model", ["b", "c"]),
    ]


def test_a_result_that_comes_before_its_call_is_no_result_of_it():
    encoded = encode(request(user("a"), user(result("c1", "early")), model(call("c1")), user("b")))

    assert "early" not in json.dumps(encoded.body)
    assert "belongs to no call" in told(encoded)
    assert "has no result" in told(encoded)


def test_calls_without_id_find_their_results_by_name_and_get_none():
    """2023's function_call."""
    said = body(
        request(
            user("a"),
            model(call(None, "look"), call(None, "list")),
            user(result(None, "listed", name="list"), result(None, "looked", name="look")),
        )
    )["contents"]

    assert parts(said[1])[0] == {"functionCall": {"name": "look", "args": {}}}
    assert parts(said[2]) == [
        {"functionResponse": {"name": "look", "response": {"output": "looked"}}},
        {"functionResponse": {"name": "list", "response": {"output": "listed"}}},
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain",
        '{"$ref": "#/x"}',
        '{"error": "no"}',
        "[1, 2]",
        "null",
        '{"a":1.0,\n "b":"\\u00e9"}',
        "\ud800",
        "  x \n",
    ],
)
def test_a_result_is_text_under_output_exactly_as_the_client_wrote_it(text):
    said = body(request(user("a"), model(call("c1")), user(result("c1", text))))["contents"]

    assert parts(said[2])[0]["functionResponse"]["response"] == {"output": text}


def test_a_result_of_several_texts_is_joined_by_lines_and_a_failed_one_is_an_error():
    said = body(request(user("a"), model(call("c1")), user(result("c1", "one", "two", is_error=True))))["contents"]

    assert parts(said[2])[0]["functionResponse"]["response"] == {"error": "one\ntwo"}


def test_an_image_of_a_result_is_part_of_it_from_gemini_3_on_and_follows_it_before():
    turns = (user("a"), model(call("c1"), call("c2")), user(result("c1", "see", PNG), result("c2", "2")))

    new = parts(body(request(*turns), NEW)["contents"][2])
    assert new[0]["functionResponse"]["response"] == {"output": "see"}
    assert new[0]["functionResponse"]["parts"] == [{"inlineData": {"mimeType": "image/png", "data": "aGk="}}]
    assert len(new) == 2
    assert contents(*turns)[2] == ("user", ["result c1", "result c2", "inlineData"])


def test_a_kind_of_media_that_no_result_takes_follows_it_on_every_model():
    sound = Media(mime_type="audio/wav", data="aGk=")
    unknown = Media(mime_type=None, uri="gs://b/x")

    assert contents(user("a"), model(call("c1")), user(result("c1", sound, PNG, unknown)), name=NEW)[2] == (
        "user",
        ["result c1", "inlineData", "fileData"],
    )


# --- signatures


def signatures(*turns, name=NEW):
    said = body(request(*turns), name)["contents"]
    return [p.get("thoughtSignature") for content in said for p in parts(content) if "functionCall" in p]


def test_a_signature_goes_back_in_the_very_part_it_came_with():
    said = body(
        request(user("a"), model(Text(text="b", opaque="s1"), Text(text="", opaque="s2"), call("c", signature="s3"))),
        NEW,
    )["contents"]

    assert [(p.get("text"), p["thoughtSignature"]) for p in parts(said[1])] == [("b", "s1"), ("", "s2"), (None, "s3")]


def test_gemini_3_gets_the_bypass_on_the_first_call_of_each_step_of_the_current_turn_only():
    turns = (
        user("old"),
        model(call("c1")),
        user(result("c1", "1")),
        model("done"),
        user("new"),
        model(call("c2"), call("c3")),
        user(result("c2", "2"), result("c3", "3")),
        model(call("c4"), call("c5")),
        user(result("c4", "4"), result("c5", "5")),
    )

    assert signatures(*turns) == [None, BYPASS_SIGNATURE, None, BYPASS_SIGNATURE, None]
    assert BYPASS_SIGNATURE == "skip_thought_signature_validator"


def test_a_real_signature_is_never_replaced():
    turns = (user("a"), model(call("c1", signature="real"), call("c2")), user(result("c1"), result("c2")))

    assert signatures(*turns) == ["real", None]


def test_a_user_s_word_beside_the_results_begins_a_new_turn():
    turns = (user("a"), model(call("c1")), user(result("c1"), "by the way"), model(call("c2")), user(result("c2")))

    assert signatures(*turns) == [None, BYPASS_SIGNATURE]


@pytest.mark.parametrize("name", ["gemini-2.5-flash", "gemini-2.5-pro", "gemini-2.0-flash", "gemma-3-27b-it"])
def test_older_models_get_no_bypass(name):
    assert signatures(user("a"), model(call("c1")), user(result("c1")), name=name) == [None]
    assert signatures(user("a"), model(call("c1", signature="real")), user(result("c1")), name=name) == ["real"]


@pytest.mark.parametrize(
    "name", ["gemini-3.1-pro-preview", "gemini-3.8-flash", "gemini-4-argon", "gemini-flash-latest"]
)
def test_newer_models_get_it(name):
    assert signatures(user("a"), model(call("c1")), user(result("c1")), name=name) == [BYPASS_SIGNATURE]


# --- system


def test_leading_instructions_are_the_system_instruction_part_by_part():
    said = body(request(user("a"), system=(Text(text="be brief"), Text(text=""), Text(text="be kind"))))

    assert said["systemInstruction"] == {"parts": [{"text": "be brief"}, {"text": "be kind"}]}
    assert "systemInstruction" not in body(request(user("a")))


def test_a_late_instruction_stays_in_its_place_as_user_text():
    said = contents(user("a"), model("b"), system("now in French"), user("c"))

    assert said == [("user", ["a"]), ("model", ["b"]), ("user", ["now in French", "c"])]


def test_a_late_instruction_joins_the_first_ones_where_hoisting_is_set():
    asked = request(user("a"), model("b"), system("now in French"), user("c"), system=(Text(text="be brief"),))
    said = body(asked, late_system="hoist")

    assert [short(p) for p in said["systemInstruction"]["parts"]] == ["be brief", "now in French"]
    assert [content["role"] for content in said["contents"]] == ["user", "model", "user"]
    assert "French" not in json.dumps(said["contents"])


def test_a_late_instruction_between_call_and_result_does_not_part_them():
    turns = (user("a"), model(call("c1")), system("hurry"), user(result("c1", "1")))

    assert contents(*turns)[2] == ("user", ["result c1", "hurry"])
    assert contents(*turns, late_system="hoist")[2] == ("user", ["result c1"])


def test_gemma_3_has_no_system_instruction_so_it_is_told_first():
    encoded = encode(request(user("a"), model("b"), system=(Text(text="be brief"),)), "gemma-3-27b-it")

    assert "systemInstruction" not in encoded.body
    assert encoded.body["contents"][0] == {"role": "user", "parts": [{"text": "be brief"}, {"text": "a"}]}
    assert [content["role"] for content in encoded.body["contents"]] == ["user", "model"]
    assert "takes no system instruction" in told(encoded)


def test_gemma_3_is_told_first_also_where_the_model_spoke_first_or_nobody_did():
    instructed = {"system": (Text(text="be brief"),)}

    said = body(request(model("b"), user("c"), **instructed), "gemma-3-27b-it")["contents"]
    assert said[0] == {"role": "user", "parts": [{"text": "be brief"}]}
    said = body(request(**instructed), "gemma-3-27b-it")["contents"]
    assert said == [{"role": "user", "parts": [{"text": "be brief"}]}]


# --- media


def test_media_go_as_data_or_as_a_place_to_fetch_them():
    said = body(request(user(PNG, Media(mime_type=None, uri="gs://b/f"), Media(mime_type="video/mp4", uri="gs://b/v"))))

    assert parts(said["contents"][0]) == [
        {"inlineData": {"mimeType": "image/png", "data": "aGk="}},
        {"fileData": {"fileUri": "gs://b/f"}},
        {"fileData": {"fileUri": "gs://b/v", "mimeType": "video/mp4"}},
    ]


@pytest.mark.parametrize(
    ("detail", "level"),
    [("low", "MEDIA_RESOLUTION_LOW"), ("high", "MEDIA_RESOLUTION_HIGH"), ("auto", None), (None, None)],
)
def test_detail_is_a_resolution_from_gemini_3_on(detail, level):
    image = Media(mime_type="image/png", data="aGk=", detail=detail)

    said = parts(body(request(user(image)), NEW)["contents"][0])[0]
    assert said.get("mediaResolution") == (None if level is None else {"level": level})
    assert "mediaResolution" not in parts(body(request(user(image)))["contents"][0])[0]


# --- tools


def test_a_function_is_declared_with_its_schema_as_json_schema():
    schema = {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}
    said = body(request(user("a"), tools=(tool("look", description="Looks.", parameters=schema), tool("list"))))

    assert said["tools"] == [
        {
            "functionDeclarations": [
                {"name": "look", "description": "Looks.", "parametersJsonSchema": schema},
                {"name": "list"},
            ]
        }
    ]
    assert "toolConfig" not in said


def test_a_freeform_tool_is_a_function_of_one_text():
    said = body(request(user("a"), tools=(tool("patch", is_freeform=True),)))

    assert said["tools"][0]["functionDeclarations"][0]["parametersJsonSchema"] == FREEFORM_SCHEMA
    assert FREEFORM_SCHEMA["required"] == ["input"]


def test_names_that_gemini_does_not_take_are_spelled_for_it_everywhere_alike():
    encoded = encode(
        request(
            user("a"),
            model(call("c1", "fs/read")),
            user(result("c1", "x", name="fs/read")),
            tools=(tool("fs/read"), tool("2nd")),
            tool_choice=ToolChoice(mode=Mode.REQUIRED, names=("2nd",)),
        )
    )
    said = encoded.body

    assert [d["name"] for d in said["tools"][0]["functionDeclarations"]] == ["fs_read", "_2nd"]
    assert parts(said["contents"][1])[0]["functionCall"]["name"] == "fs_read"
    assert parts(said["contents"][2])[0]["functionResponse"]["name"] == "fs_read"
    assert said["toolConfig"]["functionCallingConfig"]["allowedFunctionNames"] == ["_2nd"]
    assert encoded.declared == {"fs/read", "2nd"}
    assert encoded.names.back("fs_read") == "fs/read"


CHOICES = [
    (None, None),
    (ToolChoice(mode=Mode.AUTO), None),
    (ToolChoice(mode=Mode.NONE), {"mode": "NONE"}),
    (ToolChoice(mode=Mode.REQUIRED), {"mode": "ANY"}),
    (ToolChoice(mode=Mode.REQUIRED, names=("look",)), {"mode": "ANY", "allowedFunctionNames": ["look"]}),
    (ToolChoice(mode=Mode.AUTO, names=("look",)), {"mode": "VALIDATED", "allowedFunctionNames": ["look"]}),
]


@pytest.mark.parametrize(("choice", "config"), CHOICES)
def test_each_choice_of_tools_has_its_mode(choice, config):
    said = body(request(user("a"), tools=(tool("look"), tool("list")), tool_choice=choice))

    assert said.get("toolConfig", {}).get("functionCallingConfig") == config
    assert len(said["tools"][0]["functionDeclarations"]) == 2


def test_a_choice_without_functions_says_nothing():
    assert "toolConfig" not in body(request(user("a"), tool_choice=ToolChoice(mode=Mode.NONE)))


def test_strict_tools_are_validated_unless_another_choice_is_made():
    strict, loose = tool("look", is_strict=True), tool("list", is_strict=False)

    def mode(*tools, choice=None, name=OLD):
        said = body(request(user("a"), tools=tools, tool_choice=choice), name)
        return said.get("toolConfig", {}).get("functionCallingConfig", {}).get("mode")

    assert mode(strict) == "VALIDATED"
    assert mode(strict, choice=ToolChoice(mode=Mode.AUTO)) == "VALIDATED"
    assert mode(strict, choice=ToolChoice(mode=Mode.REQUIRED)) == "ANY"
    assert mode(strict, loose) is None
    assert mode(strict, name="gemini-2.0-flash") is None  # VALIDATED came with 2.5


def test_before_2_5_allowed_tools_are_those_that_are_declared():
    choice = ToolChoice(mode=Mode.AUTO, names=("list",))
    said = body(request(user("a"), tools=(tool("look"), tool("list")), tool_choice=choice), "gemini-2.0-flash")

    assert [d["name"] for d in said["tools"][0]["functionDeclarations"]] == ["list"]
    assert "toolConfig" not in said


@pytest.mark.parametrize(
    ("kind", "name"),
    [(Hosted.WEB_SEARCH, "googleSearch"), (Hosted.CODE_EXECUTION, "codeExecution"), (Hosted.URL_CONTEXT, "urlContext")],
)
def test_a_tool_that_runs_upstream_is_named_as_gemini_names_it(kind, name):
    said = body(request(user("a"), tools=(HostedTool(kind=kind),)))

    assert said["tools"] == [{name: {}}]
    assert "toolConfig" not in said


def test_hosted_tools_beside_functions_are_for_gemini_3_and_left_out_before():
    asked = request(user("a"), tools=(HostedTool(kind=Hosted.WEB_SEARCH), tool("look")))

    new = body(asked, NEW)
    assert [next(iter(one)) for one in new["tools"]] == ["functionDeclarations", "googleSearch"]
    assert new["toolConfig"] == {"includeServerSideToolInvocations": True}
    old = encode(asked)
    assert [next(iter(one)) for one in old.body["tools"]] == ["functionDeclarations"]
    assert "googleSearch beside functions: left out" in told(old)


def test_parallel_calls_can_be_declined_only_in_the_answer():
    asked = request(user("a"), tools=(tool("look"),), parallel_tool_calls=False)

    assert encode(asked).only_first_call
    assert not encode(request(user("a"), parallel_tool_calls=True)).only_first_call
    assert body(asked) == body(request(user("a"), tools=(tool("look"),)))


# --- sampling


def config(name=OLD, **sampling):
    return body(request(user("a"), sampling=Sampling(**sampling)), name, thoughts=False).get("generationConfig")


def test_nothing_asked_is_no_config():
    assert config() is None


def test_what_has_a_place_goes_there():
    assert config(
        temperature=0.0,
        top_p=0.9,
        top_k=40,
        max_output_tokens=8000,
        stop=("x", "y"),
        seed=7,
        logprobs=True,
        top_logprobs=5,
    ) == {
        "temperature": 0.0,
        "topP": 0.9,
        "topK": 40,
        "maxOutputTokens": 8000,
        "stopSequences": ["x", "y"],
        "seed": 7,
        "responseLogprobs": True,
        "logprobs": 5,
    }
    assert config(logprobs=True, top_logprobs=0) == {"responseLogprobs": True}
    assert 0 < config(top_p=0)["topP"] < 0.001


@pytest.mark.parametrize(
    ("name", "is_used"),
    [
        ("gemini-2.5-flash", True),
        ("gemini-3.1-pro-preview", True),
        ("gemini-3.5-flash", True),
        ("gemini-3.5-flash-lite", False),
        ("gemini-3.6-flash", False),
        ("gemini-3.8-flash", False),
        ("gemini-4-argon", False),
    ],
)
def test_models_that_ignore_sampling_are_not_sent_any_and_the_client_is_told(name, is_used):
    encoded = encode(request(user("a"), sampling=Sampling(temperature=0.5, top_p=0.5, top_k=5)), name, thoughts=False)

    names = {"temperature", "topP", "topK"} & set(encoded.body.get("generationConfig", {}))
    assert names == ({"temperature", "topP", "topK"} if is_used else set())
    assert {notice.param for notice in encoded.notices} == (set() if is_used else {"temperature", "top_p", "top_k"})


@pytest.mark.parametrize(
    ("name", "is_taken"),
    [
        ("gemini-2.0-flash", True),
        ("gemini-2.5-flash", True),
        ("gemini-3-flash-preview", False),
        ("gemini-3.8-flash", False),
    ],
)
def test_penalties_go_only_where_they_are_taken(name, is_taken):
    sampling = Sampling(presence_penalty=0.5, frequency_penalty=-0.5)
    encoded = encode(request(user("a"), sampling=sampling), name, thoughts=False)

    sent = {"presencePenalty": 0.5, "frequencyPenalty": -0.5}
    assert encoded.body.get("generationConfig", {}) == (sent if is_taken else {})
    assert {notice.param for notice in encoded.notices} == (
        set() if is_taken else {"presence_penalty", "frequency_penalty"}
    )


def test_a_penalty_of_zero_is_no_penalty():
    encoded = encode(
        request(user("a"), sampling=Sampling(presence_penalty=0, frequency_penalty=0.0)), NEW, thoughts=False
    )

    assert "generationConfig" not in encoded.body
    assert encoded.notices == ()


@pytest.mark.parametrize(("seed", "sent"), [(0, 0), (-5, -5), (2**31 - 1, 2**31 - 1), (2**31, 0), (2**40 + 3, 3)])
def test_a_seed_is_folded_to_32_bits_and_told(seed, sent):
    encoded = encode(request(user("a"), sampling=Sampling(seed=seed)))

    assert encoded.body["generationConfig"]["seed"] == sent
    assert bool(encoded.notices) is (seed != sent)


def test_several_candidates_are_asked_for_only_where_a_model_makes_them():
    assert config("gemini-2.0-flash", candidates=3)["candidateCount"] == 3
    assert config("gemini-2.5-flash", candidates=3) is None


# --- the form of the answer

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}}
AS_SCHEMA = Output(format=Format.JSON, schema=SCHEMA)


def test_json_is_a_mime_type_and_a_schema():
    assert body(request(user("a"), output=Output(format=Format.JSON)), thoughts=False)["generationConfig"] == {
        "responseMimeType": "application/json"
    }
    assert body(request(user("a"), output=AS_SCHEMA), thoughts=False)["generationConfig"] == {
        "responseMimeType": "application/json",
        "responseJsonSchema": SCHEMA,
    }


@pytest.mark.parametrize("tools", [(tool("look"),), (HostedTool(kind=Hosted.WEB_SEARCH),)], ids=["function", "hosted"])
def test_up_to_2_5_a_schema_beside_tools_is_told_in_words(tools):
    asked = request(user("a"), output=AS_SCHEMA, tools=tools, system=(Text(text="be brief"),))
    encoded = encode(asked, OLD, thoughts=False)

    assert "generationConfig" not in encoded.body
    brief, wanted = encoded.body["systemInstruction"]["parts"]
    assert brief == {"text": "be brief"}
    assert json.dumps(SCHEMA, separators=(",", ":")) in wanted["text"]
    assert [notice.param for notice in encoded.notices] == ["response_format"]

    new = encode(asked, NEW, thoughts=False)
    assert new.body["generationConfig"]["responseJsonSchema"] == SCHEMA
    assert new.body["systemInstruction"] == {"parts": [{"text": "be brief"}]}


def test_or_it_is_refused_with_the_names_of_both_fields():
    asked = request(user("a"), output=AS_SCHEMA, tools=(tool("look"),))

    with pytest.raises(InvalidRequest, match="'response_format' and 'tools'") as caught:
        encode(asked, OLD, schema_with_tools="refuse")
    assert (caught.value.status, caught.value.param) == (400, "response_format")
    assert encode(asked, NEW, schema_with_tools="refuse").body["generationConfig"]["responseJsonSchema"] == SCHEMA


def test_images_are_made_by_the_models_that_make_them_and_by_no_other():
    asked = request(user("a"), output=Output(modalities=("text", "image")))

    assert body(asked, "gemini-2.5-flash-image")["generationConfig"]["responseModalities"] == ["TEXT", "IMAGE"]
    with pytest.raises(InvalidRequest, match=r"gemini-2\.5-flash makes no images") as caught:
        encode(asked)
    assert caught.value.param == "modalities"


# --- thinking


def thinking(name, thoughts=False, **asked):
    said = body(request(user("a"), thinking=Thinking(**asked)), name, thoughts=thoughts)
    return said.get("generationConfig", {}).get("thinkingConfig")


def test_an_effort_is_a_budget_on_2_5_and_a_level_on_3():
    assert thinking("gemini-2.5-flash", effort="medium") == {"thinkingBudget": 8192}
    assert thinking("gemini-3-flash-preview", effort="medium") == {"thinkingLevel": "MEDIUM"}
    assert thinking("gemini-2.5-flash") is None


def test_gemini_s_own_settings_go_as_they_are_and_never_both():
    assert thinking("gemini-2.5-flash", budget_tokens=-1) == {"thinkingBudget": -1}
    assert thinking("gemini-3-flash-preview", level="LOW") == {"thinkingLevel": "LOW"}
    assert thinking("gemini-3-flash-preview", level="LOW", budget_tokens=5) == {"thinkingLevel": "LOW"}


@pytest.mark.parametrize(
    ("thoughts", "summaries", "effort", "is_asked"),
    [
        (True, None, None, True),
        (True, None, "low", True),
        (True, False, None, False),
        (False, None, None, False),
        (False, True, None, True),
    ],
)
def test_thoughts_are_asked_for_by_setting_or_by_the_client(thoughts, summaries, effort, is_asked):
    found = thinking(NEW, thoughts, summaries=summaries, effort=effort) or {}

    assert found.get("includeThoughts", False) is is_asked


def test_no_thoughts_are_asked_for_where_none_are_thought():
    assert thinking("gemini-2.5-flash", True, effort="none") == {"thinkingBudget": 0}
    assert thinking("gemini-2.5-flash", True, summaries=True, budget_tokens=0) == {"thinkingBudget": 0}
    assert thinking(NEW, True, effort="none") == {"thinkingLevel": "MINIMAL"}


@pytest.mark.parametrize("name", ["gemini-2.0-flash", "gemini-1.5-pro", "gemma-3-27b-it", "gemini-2.5-flash-image"])
def test_a_model_that_does_not_think_gets_no_thinking_config_and_the_client_is_told(name):
    assert thinking(name, True) is None
    encoded = encode(request(user("a"), thinking=Thinking(effort="high")), name)
    assert "thinkingConfig" not in json.dumps(encoded.body)
    assert [notice.param for notice in encoded.notices] == ["reasoning_effort"]


@pytest.mark.parametrize(
    ("name", "effort", "used"),
    [
        ("gemini-2.5-pro", "none", "128"),
        ("gemini-3-flash-preview", "none", "MINIMAL"),
        ("gemini-3.8-flash", "none", "LOW"),
        ("gemini-3.8-flash", "xhigh", "HIGH"),
    ],
)
def test_an_effort_that_a_model_lacks_is_told(name, effort, used):
    encoded = encode(request(user("a"), thinking=Thinking(effort=effort)), name)

    assert f"has no {effort}, {used} was used" in told(encoded)


def test_an_effort_that_a_model_has_needs_no_word():
    assert encode(request(user("a"), thinking=Thinking(effort="none")), "gemini-2.5-flash").notices == ()
    assert encode(request(user("a"), thinking=Thinking(effort="high")), "gemini-3.8-flash").notices == ()


def test_a_small_limit_leaves_room_for_the_answer():
    """Quirk: `google_model_max_tokens_thinking_model_empty_response`. Thoughts count within the limit."""

    def of(name, limit, **asked):
        said = request(user("a"), thinking=Thinking(**asked), sampling=Sampling(max_output_tokens=limit))
        encoded = encode(said, name, thoughts=False)
        return encoded.body["generationConfig"].get("thinkingConfig"), [notice.param for notice in encoded.notices]

    assert of("gemini-2.5-flash", 100) == ({"thinkingBudget": 0}, ["max_tokens"])
    assert of("gemini-3.8-flash", 100) == ({"thinkingLevel": "LOW"}, ["max_tokens"])
    assert of("gemini-2.5-flash", 10_000) == (None, [])
    assert of("gemini-2.5-flash", 10_000, effort="high") == ({"thinkingBudget": 5000}, ["reasoning_effort"])
    assert of("gemini-2.5-flash", 100_000, effort="high") == ({"thinkingBudget": 24576}, [])


# --- the rest


def test_what_gemini_alone_knows_goes_as_it_is():
    setting = {"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}
    said = body(request(user("a"), cached_content="cachedContents/x", safety_settings=(setting,), service_tier="flex"))

    assert said["cachedContent"] == "cachedContents/x"
    assert said["safetySettings"] == [setting]
    assert said["serviceTier"] == "flex"


@pytest.mark.parametrize(
    ("tier", "sent"), [(None, None), ("auto", None), ("default", None), ("priority", "priority"), ("fast", "priority")]
)
def test_a_tier_is_named_as_gemini_names_it(tier, sent):
    assert body(request(user("a"), service_tier=tier)).get("serviceTier") == sent


EVERYTHING = request(
    user("a", PNG),
    model(Reasoning(text="hm"), "b", call("c1", "fs/read", '{"path":"x"}')),
    user(result("c1", "found", PNG, name="fs/read")),
    system("hurry"),
    model(call("c2")),
    system=(Text(text="be brief"),),
    tools=(tool("fs/read", parameters={"type": "object", "properties": {"path": {"type": "string"}}}), tool("look")),
    tool_choice=ToolChoice(mode=Mode.AUTO, names=("look",)),
    sampling=Sampling(temperature=0.5, stop=("x",), max_output_tokens=10),
    output=AS_SCHEMA,
    thinking=Thinking(effort="high"),
    safety_settings=({"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"},),
)


@pytest.mark.parametrize("name", ["gemini-2.0-flash", OLD, NEW, "gemini-4-argon", "gemma-3-27b-it"])
@pytest.mark.parametrize("late_system", ["keep", "hoist"])
def test_the_request_is_not_modified_so_another_attempt_says_the_same(name, late_system):
    before = copy.deepcopy(EVERYTHING)
    first = encode(EVERYTHING, name, late_system=late_system)
    wire = json.dumps(first.body)
    first.body["contents"][0]["parts"].clear()
    first.body.get("generationConfig", {}).clear()
    second = encode(EVERYTHING, name, late_system=late_system)

    assert before == EVERYTHING
    assert json.dumps(second.body) == wire
    assert second.notices == first.notices
