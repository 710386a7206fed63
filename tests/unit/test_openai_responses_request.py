"""Responses request bodies -> conversation, and what is said to bodies that cannot be served."""

import json

import pytest

from agproxy.conversation import (
    Code,
    CodeOutput,
    Format,
    FunctionTool,
    Hosted,
    HostedTool,
    Media,
    Mode,
    Reasoning,
    Role,
    Text,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from agproxy.errors import InvalidRequest
from agproxy.frontends import openai_responses as responses
from agproxy.frontends.openai_responses.sealed import Seal, encode_seal, encode_summary

PNG = "data:image/png;base64,iVBORw0KGgo="
ECHO = {"type": "function", "name": "echo", "parameters": {"type": "object", "properties": {}}}


def decode(input="hi", **body):
    return responses.decode_request({"model": "gpt-5", "input": input, **body})


def turns(*items, **body):
    return [(turn.role, turn.parts) for turn in decode(list(items), **body).turns]


def refused(body, **more):
    with pytest.raises(InvalidRequest) as caught:
        responses.decode_request(body, **more)
    return caught.value


def refusal(*items, **body):
    return refused({"model": "gpt-5", "input": list(items), **body})


def told(request):
    return [notice.message for notice in request.notices]


def call(identifier="call_1", name="echo", arguments="{}", **more):
    return {"type": "function_call", "call_id": identifier, "name": name, "arguments": arguments, **more}


def output(identifier="call_1", value="ok", kind="function_call_output"):
    return {"type": kind, "call_id": identifier, "output": value}


# --- messages


def test_a_string_is_one_user_message():
    assert [(t.role, t.parts) for t in decode("hi").turns] == [(Role.USER, (Text(text="hi"),))]


def test_instructions_come_before_the_system_messages_at_the_head():
    request = decode(
        [
            {"role": "developer", "content": "second"},
            {"role": "system", "content": [{"type": "input_text", "text": "third"}]},
            {"role": "user", "content": "hi"},
            {"role": "developer", "content": "late"},
        ],
        instructions="first",
    )

    assert [text.text for text in request.system] == ["first", "second", "third"]
    assert [turn.role for turn in request.turns] == [Role.USER, Role.SYSTEM]


def test_messages_in_every_form_are_read():
    assert turns(
        {"role": "user", "content": "easy"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "typed"}], "status": None},
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "phase": "final_answer",
            "content": [
                {"type": "output_text", "text": "said", "annotations": [], "logprobs": []},
                {"type": "refusal", "refusal": "no"},
            ],
        },
        {"role": "assistant", "content": "easy too"},
    ) == [
        (Role.USER, (Text(text="easy"),)),
        (Role.USER, (Text(text="typed"),)),
        (Role.MODEL, (Text(text="said"), Text(text="no"), Text(text="easy too"))),
    ]


def test_media_parts_are_read():
    parts = turns(
        {
            "role": "user",
            "content": [
                {"type": "input_image", "image_url": PNG, "detail": "high"},
                {"type": "input_image", "image_url": "https://a/b.png", "file_id": None},
                {"type": "input_file", "file_data": "JVBERi0=", "filename": "a.pdf"},
                {"type": "input_file", "file_data": "aGk=", "filename": "a.MD"},
                {"type": "input_file", "file_data": "aGk=", "filename": "a.docx"},
                {"type": "input_file", "file_data": "data:text/csv;base64,aGk="},
                {"type": "input_file", "file_url": "https://a/b.pdf"},
                {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "mp3"}},
            ],
        }
    )[0][1]

    assert parts == (
        Media(mime_type="image/png", data="iVBORw0KGgo=", detail="high"),
        Media(mime_type=None, uri="https://a/b.png", param="input[0].content[1].image_url"),
        Media(mime_type="application/pdf", data="JVBERi0="),
        Media(mime_type="text/markdown", data="aGk="),
        Media(mime_type="application/octet-stream", data="aGk="),
        Media(mime_type="text/csv", data="aGk="),
        Media(mime_type=None, uri="https://a/b.pdf", param="input[0].content[6].file_url"),
        Media(mime_type="audio/mpeg", data="aGk="),
    )


def test_an_empty_user_message_is_a_message():
    assert turns({"role": "user", "content": []}, {"role": "user", "content": ""}) == [
        (Role.USER, (Text(text=""),)),
        (Role.USER, (Text(text=""),)),
    ]


# --- calls and results


def test_calls_of_one_answer_are_one_turn_and_their_results_another():
    assert turns(
        {"role": "user", "content": "hi"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": None},
        call("a"),
        call("b", arguments='{"x":1}', id="fc_1", status="completed"),
        output("b", [{"type": "input_text", "text": "two"}, {"type": "input_image", "image_url": PNG}]),
        output("a", "one"),
        {"role": "user", "content": "go on"},
        tools=[ECHO],
    ) == [
        (Role.USER, (Text(text="hi"),)),
        (
            Role.MODEL,
            (ToolCall(id="a", name="echo", arguments="{}"), ToolCall(id="b", name="echo", arguments='{"x":1}')),
        ),
        (
            Role.USER,
            (
                ToolResult(
                    call_id="b",
                    name="echo",
                    content=(Text(text="two"), Media(mime_type="image/png", data="iVBORw0KGgo=")),
                ),
                ToolResult(call_id="a", name="echo", content=(Text(text="one"),)),
            ),
        ),
        (Role.USER, (Text(text="go on"),)),
    ]


@pytest.mark.parametrize("broken", ['{"cmd": "ls', "[1]", "null", "ls"])
def test_broken_arguments_in_the_history_are_carried_on_as_text(broken):
    request = decode([call(arguments=broken)])

    assert json.loads(request.turns[0].parts[0].arguments) == {"_raw": broken}
    assert told(request) == ["input[0].arguments: not a JSON object, passed on as text under '_raw'"]
    assert [notice.param for notice in request.notices] == [None]  # a repair, so never refused


@pytest.mark.parametrize("empty", ["", None])
def test_no_arguments_are_an_empty_object(empty):
    assert decode([call(arguments=empty)]).turns[0].parts[0].arguments == "{}"


def test_a_custom_call_carries_its_text_and_its_result_may_be_parts():
    tool = {"type": "custom", "name": "apply_patch"}
    assert turns(
        {"type": "custom_tool_call", "call_id": "a", "name": "apply_patch", "input": "*** é"},
        output("a", [{"type": "input_text", "text": "ok"}], "custom_tool_call_output"),
        tools=[tool],
    ) == [
        (Role.MODEL, (ToolCall(id="a", name="apply_patch", arguments='{"input":"*** é"}'),)),
        (Role.USER, (ToolResult(call_id="a", name="apply_patch", content=(Text(text="ok"),)),)),
    ]


def test_shell_calls_and_patches_come_back_as_the_calls_that_they_were():
    shell_output = [{"stdout": "x", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}]
    request = decode(
        [
            {
                "type": "local_shell_call",
                "id": "lsh_1",
                "call_id": "a",
                "status": "completed",
                "action": {"type": "exec", "command": ["ls"], "env": {}, "timeout_ms": None, "user": "me"},
            },
            {"type": "local_shell_call_output", "id": "lsh_1", "output": '{"out": 1}'},
            {"type": "shell_call", "call_id": "b", "action": {"commands": ["pwd"], "timeout_ms": 5}},
            {"type": "shell_call_output", "call_id": "b", "output": shell_output},
            {"type": "apply_patch_call", "call_id": "c", "operation": {"type": "delete_file", "path": "p"}},
            {"type": "apply_patch_call_output", "call_id": "c", "status": "failed", "output": "no such file"},
        ],
        tools=[{"type": "local_shell"}, {"type": "shell"}, {"type": "apply_patch"}],
    )
    calls = [part for turn in request.turns for part in turn.parts if isinstance(part, ToolCall)]
    results = [part for turn in request.turns for part in turn.parts if isinstance(part, ToolResult)]

    assert [(c.name, json.loads(c.arguments)) for c in calls] == [
        ("local_shell", {"command": ["ls"], "user": "me"}),
        ("shell", {"commands": ["pwd"], "timeout_ms": 5}),
        ("apply_patch", {"type": "delete_file", "path": "p"}),
    ]
    assert [(r.name, r.content[0].text, r.is_error) for r in results] == [
        ("local_shell", '{"out": 1}', False),
        ("shell", json.dumps(shell_output, separators=(",", ":")), False),
        ("apply_patch", "no such file", True),
    ]


def test_a_result_without_its_call_is_refused_in_openais_words():
    error = refusal(output("call_9"))

    assert error.message == "No tool call found for function call output with call_id call_9."
    assert (error.status, error.param) == (400, "input")


# --- reasoning and signatures


def test_a_signature_goes_back_onto_its_call_wherever_that_stands():
    sealed = encode_seal(Seal(calls={"b": "SIG"}))
    parts = (
        decode(
            [
                {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": sealed},
                call("a"),
                call("b"),
            ]
        )
        .turns[0]
        .parts
    )

    assert [part.opaque for part in parts] == [None, "SIG"]


def test_a_signature_for_the_next_message_goes_no_further():
    sealed = encode_seal(Seal(next={"message": "SIG"}))
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": sealed}
    said = {"role": "assistant", "content": "ok"}

    assert decode([thought, said, said]).turns[0].parts == (Text(text="ok", opaque="SIG"), Text(text="ok"))
    assert decode([thought, {"role": "user", "content": "?"}, said]).turns[-1].parts == (Text(text="ok"),)


def test_summaries_are_reasoning_of_the_same_turn():
    summary = [{"type": "summary_text", "text": "one"}, {"type": "summary_text", "text": "two"}]
    parts = decode([{"type": "reasoning", "id": "rs", "summary": summary}, call()]).turns[0].parts

    assert parts[0] == Reasoning(text="one\n\ntwo")
    assert isinstance(parts[1], ToolCall)


@pytest.mark.parametrize(
    "foreign", ["gAAAAABpPDIUph8czEXzDePCV2lJ27w", "é", "eyJ2IjoyfQ==", "bnVsbA==", "====", "e30="]
)
def test_foreign_encrypted_content_is_ignored_and_told_once(foreign):
    item = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": foreign}
    request = decode([item, item, call()])

    assert told(request) == ["input[0].encrypted_content: ignored (it was not made here)"]
    assert request.turns[0].parts[0].opaque is None


def test_a_forged_seal_of_ours_does_no_harm():
    import base64

    sealed = base64.urlsafe_b64encode(b'{"v":1,"calls":[1],"next":{"message":5},"reasoning":{}}').decode()
    request = decode([{"type": "reasoning", "summary": None, "encrypted_content": sealed}, call()])

    assert request.turns[0].parts == (ToolCall(id="call_1", name="echo", arguments="{}"),)


# --- other items


def test_code_and_images_that_upstream_made_come_back_as_what_they_are():
    parts = (
        decode(
            [
                {
                    "type": "code_interpreter_call",
                    "id": "ci",
                    "code": "1",
                    "container_id": "c",
                    "status": "completed",
                    "outputs": [{"type": "logs", "logs": "1"}, {"type": "image", "url": "https://x"}],
                },
                {"type": "code_interpreter_call", "id": "ci", "code": None, "status": "failed", "outputs": None},
                {"type": "image_generation_call", "id": "ig", "status": "completed", "result": "AAAA"},
            ]
        )
        .turns[0]
        .parts
    )

    assert parts == (
        Code(code="1", language="python"),
        CodeOutput(output="1", is_ok=True),
        Code(code="", language="python"),
        CodeOutput(output="", is_ok=False),
        Media(mime_type="image/png", data="AAAA"),
    )


def test_searches_of_the_past_have_no_effect():
    search = {"type": "web_search_call", "id": "ws", "status": "completed", "action": {"type": "search", "query": "q"}}
    request = decode([search, search, {"role": "user", "content": "hi"}])

    assert told(request) == ["input[0]: web_search_call has no effect (Gemini takes no searches back)"]
    assert len(request.turns) == 1


def test_a_call_that_openais_server_made_is_a_call_with_its_result():
    item = {"type": "mcp_call", "id": "mcp_1", "name": "t", "server_label": "s", "arguments": "{}", "output": "o"}

    assert turns(item, {**item, "id": "mcp_2", "output": None, "error": {"type": "x"}}) == [
        (Role.MODEL, (ToolCall(id="mcp_1", name="t", arguments="{}"),)),
        (Role.USER, (ToolResult(call_id="mcp_1", name="t", content=(Text(text="o"),)),)),
        (Role.MODEL, (ToolCall(id="mcp_2", name="t", arguments="{}"),)),
        (Role.USER, (ToolResult(call_id="mcp_2", name="t", content=(Text(text='{"type":"x"}'),), is_error=True),)),
    ]


@pytest.mark.parametrize("kind", ["teleport", "item", 5, ["message"], {}])
def test_an_unknown_kind_of_item_is_named(kind):
    error = refusal({"type": kind, "content": "x", "role": "user"})

    assert error.param == "input[0].type"
    assert str(kind) in error.message if isinstance(kind, str) else error.code == "invalid_type"


@pytest.mark.parametrize("kind", ["computer_call", "mcp_approval_response", "program"])
def test_an_item_that_cannot_be_served_is_refused_with_the_reason(kind):
    error = refusal({"type": kind})

    assert f"'{kind}' is not supported here" in error.message


def test_an_item_that_is_only_named_is_found_among_the_kept():
    body = {"model": "m", "input": [{"id": "msg_1"}, {"type": "item_reference", "id": "msg_2"}]}
    kept = {"msg_1": {"role": "user", "content": "one"}, "msg_2": {"role": "assistant", "content": "two"}}
    request = responses.decode_request(body, references=kept)

    assert responses.reference_ids(body["input"]) == ["msg_1", "msg_2"]
    assert [turn.parts[0].text for turn in request.turns] == ["one", "two"]


def test_a_reasoning_item_that_is_not_kept_is_passed_over_but_no_other():
    request = decode([{"type": "item_reference", "id": "rs_1"}, {"role": "user", "content": "x"}])
    assert told(request) == ["input[0]: ignored (no reasoning item 'rs_1' is kept)"]

    error = refusal({"type": "item_reference", "id": "fc_1"})
    assert error.status == 404
    assert error.message.startswith("Item with id 'fc_1' not found. Items are not persisted")


def test_a_compaction_of_ours_is_what_it_stands_for_and_another_is_refused():
    item = {"type": "compaction", "encrypted_content": encode_summary("so far")}

    assert turns(item) == [(Role.USER, (Text(text="so far"),))]
    assert refusal({**item, "encrypted_content": "gAAAA"}).param == "input[0].encrypted_content"


def test_settings_that_change_in_mid_history_hold_where_the_body_says_nothing():
    update = {
        "type": "configuration_update",
        "reasoning": {"effort": "low"},
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
    }
    request = decode([update, {"role": "user", "content": "x"}])
    assert request.thinking.effort == "low"
    assert request.output.schema == {"type": "object"}

    request = decode([update], reasoning={"effort": "high"}, text={"format": {"type": "text"}})
    assert request.thinking.effort == "high"
    assert request.output.format is Format.TEXT


# --- tools


def test_a_function_is_read_with_its_parameters():
    tool = {**ECHO, "description": "Echoes.", "strict": True}

    assert decode(tools=[tool]).tools == (
        FunctionTool(
            name="echo",
            description="Echoes.",
            parameters={"type": "object", "properties": {}},
            is_strict=True,
            origin=("function", "echo", ""),
        ),
    )


def test_a_grammar_is_told_in_the_description():
    form = {"type": "grammar", "syntax": "lark", "definition": "start: x"}
    tool = decode(tools=[{"type": "custom", "name": "t", "description": "Patches.", "format": form}]).tools[0]

    assert tool.is_freeform
    assert tool.parameters is None
    assert tool.description == "Patches.\n\nThe input must follow this lark grammar:\nstart: x"


def test_a_namespace_is_taken_apart():
    tools = [{"type": "namespace", "name": "mcp__toy", "description": "Toys", "tools": [ECHO, {**ECHO, "name": "b"}]}]
    first, second = decode(tools=tools).tools

    assert (first.name, first.origin) == ("mcp__toy__echo", ("function", "echo", "mcp__toy"))
    assert first.description == "(One of the tools of mcp__toy: Toys)"
    assert (second.name, second.description) == ("mcp__toy__b", None)


def test_flat_names_are_legal_short_and_distinct():
    long = "n" * 80
    tools = [
        {"type": "namespace", "name": "a", "description": "", "tools": [{**ECHO, "name": "b"}]},
        {"type": "namespace", "name": "a.é", "description": "", "tools": [ECHO]},
        {"type": "namespace", "name": long, "description": "", "tools": [ECHO, {**ECHO, "name": "b"}]},
        {**ECHO, "name": "a__b"},
        {**ECHO, "name": "shell"},
        {"type": "shell"},
    ]
    names = [tool.name for tool in decode(tools=tools).tools]

    assert names == ["a__b_2", "a____echo", "n" * 64, "n" * 62 + "_2", "a__b", "shell", "shell_2"]


def test_calls_in_the_history_find_the_tool_in_the_clients_words():
    namespace = {"type": "namespace", "name": "n", "description": "", "tools": [ECHO]}
    request = decode(
        [
            call("a", namespace="n"),
            call("b"),  # a namespace left out
            call("c", name="other", namespace="other"),  # OpenAI's search wraps a plain function in one
            call("d", name="gone", namespace="n"),
        ],
        tools=[namespace, {**ECHO, "name": "other"}],
    )

    assert [part.name for part in request.turns[0].parts] == ["n__echo", "n__echo", "other", "n__gone"]


def test_tools_that_arrive_as_items_are_declared():
    found = {"type": "namespace", "name": "mcp", "description": "", "tools": [{**ECHO, "defer_loading": True}]}
    request = decode(
        [
            {"type": "additional_tools", "role": "developer", "tools": [{"type": "custom", "name": "exec"}]},
            {"role": "user", "content": "hi"},
            {"type": "tool_search_call", "call_id": "s", "execution": "client", "arguments": {"goal": "toys"}},
            {"type": "tool_search_output", "call_id": "s", "execution": "client", "tools": [found]},
            call("c", namespace="mcp"),
        ],
        tools=[{"type": "tool_search", "execution": "client"}, {**ECHO, "name": "later", "defer_loading": True}],
    )

    assert [tool.name for tool in request.tools] == ["tool_search", "exec", "mcp__echo"]
    assert request.turns[1].parts == (ToolCall(id="s", name="tool_search", arguments='{"goal":"toys"}'),)
    assert request.turns[2].parts[0].content == (Text(text='{"loaded":["mcp__echo"]}'),)
    assert request.turns[3].parts[0].name == "mcp__echo"


def test_a_search_on_openais_server_is_replaced_by_declaring_all():
    request = decode(
        [{"type": "tool_search_call", "call_id": None, "execution": "server", "arguments": {}}],
        tools=[{"type": "tool_search"}, {**ECHO, "defer_loading": True}],
    )

    assert [tool.name for tool in request.tools] == ["echo"]
    assert request.turns == ()


def test_hosted_tools_are_gemini_s_own():
    tools = [
        {"type": "web_search", "external_web_access": True},
        {"type": "web_search_preview"},
        {"type": "code_interpreter", "container": {"type": "auto"}},
        {"type": "image_generation", "quality": "high"},
    ]
    request = decode(tools=tools)

    assert request.tools == (HostedTool(kind=Hosted.WEB_SEARCH), HostedTool(kind=Hosted.CODE_EXECUTION))
    assert request.output.modalities == ("text", "image")
    assert told(request) == ["tools[3].quality: ignored (Gemini's images have no such setting)"]


@pytest.mark.parametrize("kind", ["file_search", "mcp", "computer_use_preview", "telepathy"])
def test_a_tool_that_cannot_be_served_is_refused_by_name(kind):
    error = refused({"model": "m", "input": "x", "tools": [{"type": kind}]})

    assert error.param == "tools[0].type"
    assert f"'{kind}'" in error.message


def test_a_shell_in_a_container_of_openais_is_refused():
    tool = {"type": "shell", "environment": {"type": "container_auto"}}

    assert refused({"model": "m", "input": "x", "tools": [tool]}).param == "tools[0].environment.type"
    assert decode(tools=[{"type": "shell", "environment": {"type": "local"}}]).tools[0].name == "shell"


def test_a_function_declared_twice_is_declared_once():
    request = decode(tools=[ECHO, {**ECHO, "description": "second"}])

    assert [tool.description for tool in request.tools] == ["second"]
    assert told(request) == ["tools[1]: declared twice, the last declaration counts"]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", ToolChoice(mode=Mode.AUTO)),
        ("none", ToolChoice(mode=Mode.NONE)),
        ("required", ToolChoice(mode=Mode.REQUIRED)),
        ({"type": "function", "name": "echo"}, ToolChoice(mode=Mode.REQUIRED, names=("echo",))),
        ({"type": "custom", "name": "c"}, ToolChoice(mode=Mode.REQUIRED, names=("c",))),
        ({"type": "shell"}, ToolChoice(mode=Mode.REQUIRED, names=("shell",))),
        ({"type": "function", "name": "a", "namespace": "n"}, ToolChoice(mode=Mode.REQUIRED, names=("n__a",))),
        ({"type": "web_search_preview"}, None),
        (None, None),
        (
            {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [{"type": "function", "name": "echo"}, {"type": "namespace", "name": "n"}],
            },
            ToolChoice(mode=Mode.AUTO, names=("echo", "n__a")),
        ),
    ],
)
def test_a_tool_choice_in_every_form(choice, expected):
    tools = [
        ECHO,
        {"type": "custom", "name": "c"},
        {"type": "shell"},
        {"type": "namespace", "name": "n", "description": "", "tools": [{**ECHO, "name": "a"}]},
        {"type": "web_search"},
    ]

    assert decode(tools=tools, tool_choice=choice).tool_choice == expected


def test_allowed_tools_is_a_limit_for_hosted_tools_too():
    tools = [ECHO, {"type": "web_search"}, {"type": "image_generation"}]
    only_echo = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "echo"}]}
    request = decode(tools=tools, tool_choice=only_echo)
    assert [type(tool) for tool in request.tools] == [FunctionTool]
    assert request.output.modalities == ()

    only_search = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "web_search"}]}
    request = decode(tools=tools, tool_choice=only_search)
    assert HostedTool(kind=Hosted.WEB_SEARCH) in request.tools
    assert request.tool_choice == ToolChoice(mode=Mode.NONE)


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ("maybe", "Invalid value: 'maybe'"),
        ("required", "must be specified with 'tools'"),
        ({"type": "function", "name": "ghost"}, "Tool choice 'ghost' not found in 'tools' parameter."),
        ({"type": "shell"}, "Tool choice 'shell' not found"),
        ({"type": "dance"}, "Invalid value: 'dance'"),
        ({"type": "allowed_tools", "mode": "auto", "tools": []}, "empty array"),
        ({}, "Missing required parameter: 'tool_choice.type'."),
        (5, "Invalid type for 'tool_choice'"),
    ],
)
def test_a_tool_choice_that_cannot_be_meant_is_refused(choice, words):
    assert words in refused({"model": "m", "input": "x", "tool_choice": choice}).message


def test_an_automatic_choice_without_tools_is_fine():
    assert decode(tools=[], tool_choice="auto").tools == ()  # Codex's compaction request


# --- settings


def test_settings_are_read():
    request = decode(
        max_output_tokens=16.0,
        temperature=0.5,
        top_p=0.9,
        top_logprobs=3,
        include=["message.output_text.logprobs", "reasoning.encrypted_content"],
        parallel_tool_calls=False,
        reasoning={"effort": "high", "summary": "detailed"},
        text={"format": {"type": "json_object"}, "verbosity": "medium"},
        service_tier="flex",
        prompt_cache_key="thread",
        stream=True,
        stream_options={"include_obfuscation": False},
        client_metadata={"session_id": "x"},
        truncation="disabled",
        metadata={"a": "b"},
    )

    assert request.sampling.max_output_tokens == 16
    assert (request.sampling.temperature, request.sampling.top_p) == (0.5, 0.9)
    assert (request.sampling.logprobs, request.sampling.top_logprobs) == (True, 3)
    assert request.parallel_tool_calls is False
    assert (request.thinking.effort, request.thinking.summaries) == ("high", True)
    assert request.output.format is Format.JSON
    assert (request.service_tier, request.session, request.is_stream) == ("flex", "thread", True)
    assert request.notices == ()


def test_summaries_come_only_to_who_asks_for_them():
    assert decode().thinking.summaries is False
    assert decode(reasoning={"effort": "low"}).thinking.summaries is False
    assert decode(reasoning={"summary": None}).thinking.summaries is False
    assert decode(reasoning={"summary": "auto"}).thinking.summaries is True
    assert decode(reasoning={"generate_summary": "auto"}).thinking.summaries is True


@pytest.mark.parametrize(
    ("field", "value", "message", "code"),
    [
        (
            "max_output_tokens",
            1,
            "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16, but got 1 instead.",
            "integer_below_min_value",
        ),
        (
            "temperature",
            -1,
            "Invalid 'temperature': decimal below minimum value. Expected a value >= 0, but got -1 instead.",
            "decimal_below_min_value",
        ),
        ("messages", [], "moved to 'input'", "unsupported_parameter"),
        ("max_tokens", 5, "moved to 'max_output_tokens'", "unsupported_parameter"),
        ("response_format", {"type": "text"}, "moved to 'text.format'", "unsupported_parameter"),
        ("reasoning_effort", "low", "moved to 'reasoning.effort'", "unsupported_parameter"),
        ("n", 2, "a response has one answer", "unsupported_parameter"),
        ("prompt", {"id": "p"}, "kept at OpenAI", "unsupported_parameter"),
        ("background", True, "no responses are stored", "unsupported_parameter"),
        (
            "previous_response_id",
            "resp_x",
            "Previous response with id 'resp_x' not found.",
            "previous_response_not_found",
        ),
        ("conversation", {"id": "conv_x"}, "Conversation with id 'conv_x' not found.", None),
        ("conversation", {}, "Missing required parameter: 'conversation.id'.", "missing_required_parameter"),
        ("include", ["everything"], "Invalid value: 'everything'", "invalid_value"),
        ("metadata", {"a": 5}, "Invalid type for 'metadata.a'", "invalid_type"),
        ("metadata", {str(i): "x" for i in range(17)}, "at most 16", "object_above_max_properties"),
        ("stream_options", {}, "only allowed when 'stream' is enabled", None),
        (
            "text",
            {"format": {"type": "json_schema", "name": "n"}},
            "'text.format.schema'",
            "missing_required_parameter",
        ),
        ("input", 5, "Invalid type for 'input'", "invalid_type"),
        ("input", None, "Missing required parameter: 'input'.", "missing_required_parameter"),
        ("input", ["x"], "Invalid type for 'input[0]'", "invalid_type"),
        ("model", None, "Missing required parameter: 'model'.", "missing_required_parameter"),
    ],
)
def test_what_cannot_be_served_is_refused_with_its_path(field, value, message, code):
    error = refused({"model": "m", "input": "x", field: value})

    assert message in error.message
    assert error.code == code
    assert error.param.split(".")[0].split("[")[0] == field


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({"role": "tool", "content": "x"}, "input[0].role"),
        ({"role": "user"}, "input[0].content"),
        ({"role": "user", "content": 5}, "input[0].content"),
        ({"role": "user", "content": [{"type": "text", "text": "x"}]}, "input[0].content[0].type"),
        ({"role": "user", "content": [{"type": "input_text"}]}, "input[0].content[0].text"),
        ({"role": "user", "content": [{"type": "input_image"}]}, "input[0].content[0].image_url"),
        ({"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}, "input[0].content[0].file_id"),
        ({"role": "user", "content": [{"type": "input_file", "file_data": "*"}]}, "input[0].content[0].file_data"),
        ({"role": "system", "content": [{"type": "input_image", "image_url": PNG}]}, "input[0].content[0].type"),
        ({"type": "function_call", "name": "f", "arguments": "{}"}, "input[0].call_id"),
        ({"type": "function_call", "call_id": "c", "name": "f", "arguments": {}}, None),
        ({"type": "shell_call", "call_id": "c", "action": "ls"}, "input[0].action"),
        ({"type": "apply_patch_call", "call_id": "c", "operation": {"type": "x"}}, "input[0].operation.type"),
        ({"type": "reasoning", "summary": "x"}, "input[0].summary"),
        ({"type": "additional_tools"}, "input[0].tools"),
        ({"type": "item_reference"}, "input[0].id"),
    ],
)
def test_a_wrong_item_is_refused_with_its_path(item, param):
    if param is None:
        assert decode([item]).turns  # falsy arguments count as none
        return
    assert refusal(item).param == param


def test_fields_without_effect_are_named():
    request = decode(truncation="auto", max_tool_calls=3, moderation={"model": "m"}, reasoning={"mode": "pro"}, zoom=1)

    assert {notice.param for notice in request.notices} == {
        "truncation",
        "max_tool_calls",
        "moderation",
        "reasoning.mode",
        "zoom",
    }


def test_every_field_of_the_reference_has_its_row():
    params = pytest.importorskip("openai.types.responses.response_create_params")
    named = set(params.ResponseCreateParamsBase.__annotations__) | {"stream"}

    assert named - set(responses.FIELDS) == set()


# --- state


def test_items_of_an_earlier_response_come_before_the_input():
    history = [{"role": "user", "content": "one"}, call("a"), {"role": "developer", "content": "late"}]
    body = {"model": "m", "input": [output("a")], "previous_response_id": "resp_1", "instructions": "now"}
    request = responses.decode_request(body, history=history)

    assert [text.text for text in request.system] == ["now"]
    assert [turn.role for turn in request.turns] == [Role.USER, Role.MODEL, Role.SYSTEM, Role.USER]


def test_what_is_kept_is_enough_for_an_answer():
    history = [{"role": "user", "content": "one"}]
    body = {"model": "m", "previous_response_id": "resp_1"}

    assert len(responses.decode_request(body, history=history).turns) == 1


def test_two_ways_to_go_on_exclude_each_other():
    body = {"model": "m", "input": "x", "previous_response_id": "resp_1", "conversation": "conv_1"}

    assert refused(body, history=()).code == "mutually_exclusive_parameters"
    assert refused({"model": "m", "input": "x", "background": True, "store": False}, history=()).param == "background"
    assert responses.decode_request({"model": "m", "input": "x", "background": True}, history=()).turns


def test_the_body_is_not_modified():
    body = {
        "model": "m",
        "input": [{"role": "user", "content": [{"type": "input_image", "image_url": PNG}]}, call()],
        "tools": [{"type": "namespace", "name": "n", "description": "d", "tools": [ECHO]}, {"type": "shell"}],
    }
    before = json.dumps(body)
    responses.decode_request(body)

    assert json.dumps(body) == before
