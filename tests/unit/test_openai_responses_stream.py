"""Events in, a Responses stream out, and the same object as the unary answer."""

import base64
import json

import pytest
from responses_stream import check, read

from agproxy.conversation import (
    ChoiceEnded,
    Citation,
    Code,
    CodeOutput,
    Exchange,
    Finish,
    FunctionTool,
    Media,
    MessageEnded,
    MessageStarted,
    PartDelta,
    PartEnded,
    PartStarted,
    Reasoning,
    Text,
    TokenLogprob,
    ToolCall,
    Usage,
    fold,
)
from agproxy.errors import (
    InternalError,
    InvalidRequest,
    NoAccount,
    Overloaded,
    UpstreamAuthFailed,
    UpstreamFailed,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
)
from agproxy.frontends import openai_responses as responses

ID = "0123456789abcdef01234567"


def exchange(*tools, **body):
    body = {"model": "gpt-5", "input": "hi", "tools": list(tools), **body}
    request = responses.decode_request(body)
    return Exchange(id=ID, created=1700000000, model="gpt-5", request=request, body=body)


def function(name, **more):
    return {"type": "function", "name": name, "parameters": {"type": "object", "properties": {}}, **more}


def text(*pieces, opaque=None):
    return part(Text(text="", opaque=opaque), *pieces)


def thought(*pieces, opaque=None):
    return part(Reasoning(text="", opaque=opaque), *pieces)


def call(name, arguments, *, identifier="call_1", opaque=None):
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments)
    return part(ToolCall(id=identifier, name=name, arguments="", opaque=opaque), arguments)


def part(value, *pieces):
    return [
        PartStarted(choice=0, part=value),
        *(PartDelta(choice=0, text=piece) for piece in pieces),
        PartEnded(choice=0),
    ]


def answer(*parts, finish=Finish.STOP, **end):
    return [
        MessageStarted(response_id="up", model="gemini"),
        *(event for events in parts for event in events),
        ChoiceEnded(choice=0, finish=finish, **end),
        MessageEnded(usage=Usage(prompt_tokens=10, cached_tokens=4, output_tokens=7, reasoning_tokens=5)),
    ]


def stream(events, at):
    encoder = responses.StreamEncoder(at)
    data = b"".join(frame for event in events for frame in encoder.feed(event))
    assert encoder.response == json.loads(data.split(b"data: ")[-1])["response"]
    return data


def told(events, at):
    """The final object, which the stream and the unary answer agree on."""
    final = check(stream(events, at))
    assert responses.encode_response(fold(events), at) == final
    return final


def kinds(data):
    return [event["type"].removeprefix("response.") for event in read(data)]


def types(final):
    return [item["type"] for item in final["output"]]


def opened(item):
    return json.loads(base64.urlsafe_b64decode(item["encrypted_content"]))


# --- text


def test_a_text_is_one_message_told_in_the_order_of_the_live_api():
    data = stream(answer(text("Hel", "lo")), exchange())

    assert kinds(data) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    final = told(answer(text("Hel", "lo")), exchange())
    assert final["output"] == [
        {
            "id": f"msg_{ID}00",
            "type": "message",
            "status": "completed",
            "content": [{"type": "output_text", "annotations": [], "logprobs": [], "text": "Hello"}],
            "role": "assistant",
        }
    ]
    assert final["id"] == f"resp_{ID}"
    assert final["service_tier"] == "default"
    assert final["completed_at"] >= final["created_at"]
    assert b"[DONE]" not in data


def test_usage_has_every_detail():
    assert told(answer(text("x")), exchange())["usage"] == {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 5},
        "total_tokens": 17,
    }


def test_nothing_is_sent_before_there_is_something_to_say():
    encoder = responses.StreamEncoder(exchange())

    assert encoder.feed(MessageStarted(response_id=None, model=None)) == []
    assert encoder.feed(PartStarted(choice=0, part=Text(text=""))) == []
    assert len(encoder.feed(PartDelta(choice=0, text="x"))) == 5  # created, in_progress, added, part.added, delta


def test_texts_that_follow_each_other_are_one_content_part():
    final = told(answer(text("one "), text("two ", opaque="SIG"), text("three")), exchange())

    assert [p["text"] for item in final["output"] for p in item["content"]] == ["one two three"]


def test_empty_texts_leave_no_trace():
    final = told(answer(text(""), call("f", {}), text(""), finish=Finish.TOOL_CALLS), exchange(function("f")))

    assert types(final) == ["function_call"]


def test_an_answer_that_stops_without_a_word_is_an_empty_message():
    final = told(answer(thought("hm")), exchange())

    assert types(final) == ["reasoning", "message"]
    assert final["output"][1]["content"][0]["text"] == ""


def test_text_of_every_script_and_a_lone_surrogate_survive():
    final = told(answer(text("Ünï 🎉 \ud83d", '"\\\n')), exchange())

    assert final["output"][0]["content"][0]["text"] == 'Ünï 🎉 \ud83d"\\\n'


def test_further_choices_have_no_place():
    events = answer(text("first"))
    events[1:1] = [
        PartStarted(choice=1, part=Text(text="")),
        PartDelta(choice=1, text="second"),
        PartEnded(choice=1),
        ChoiceEnded(choice=1, finish=Finish.STOP),
    ]
    final = told(events, exchange())

    assert final["output"][0]["content"][0]["text"] == "first"
    assert len(final["output"]) == 1


def test_logprobs_stand_in_the_finished_text():
    probabilities = (TokenLogprob(token="é", logprob=-0.5, top=(("é", -0.5), ("e", -1.0))),)
    final = told(answer(text("é"), logprobs=probabilities), exchange(include=["message.output_text.logprobs"]))

    assert final["output"][0]["content"][0]["logprobs"] == [
        {
            "token": "é",
            "bytes": [195, 169],
            "logprob": -0.5,
            "top_logprobs": [
                {"token": "é", "bytes": [195, 169], "logprob": -0.5},
                {"token": "e", "bytes": [101], "logprob": -1.0},
            ],
        }
    ]


# --- reasoning and signatures


def test_thoughts_are_a_reasoning_item_that_is_done_before_the_message_begins():
    data = stream(answer(thought("let ", "me"), text("ok")), exchange())

    order = kinds(data)
    assert order[2:8] == [
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
    ]
    assert order[8:10] == ["output_item.done", "output_item.added"]
    item = check(data)["output"][0]
    assert item == {"id": f"rs_{ID}00", "type": "reasoning", "summary": [{"type": "summary_text", "text": "let me"}]}


def test_two_thoughts_in_a_row_are_two_summary_parts_of_one_item():
    final = told(answer(thought("one"), thought("two"), text("ok")), exchange())

    assert [p["text"] for p in final["output"][0]["summary"]] == ["one", "two"]


def test_the_signature_of_a_call_goes_into_the_reasoning_before_it():
    events = answer(thought("hm"), call("f", {"a": 1}, opaque="SIG"), finish=Finish.TOOL_CALLS)
    final = told(events, exchange(function("f")))

    assert types(final) == ["reasoning", "function_call"]
    assert opened(final["output"][0]) == {"v": 1, "calls": {"call_1": "SIG"}}


def test_a_signed_call_without_thoughts_gets_a_reasoning_item_of_its_own():
    events = answer(
        text("let me see"),
        call("f", {}, opaque="SIG"),
        call("f", {}, identifier="call_2"),
        finish=Finish.TOOL_CALLS,
    )
    final = told(events, exchange(function("f")))

    assert types(final) == ["message", "reasoning", "function_call", "function_call"]
    assert final["output"][1]["summary"] == []
    assert opened(final["output"][1])["calls"] == {"call_1": "SIG"}


def test_the_reasoning_item_is_done_before_the_call_is_announced():
    order = kinds(stream(answer(call("f", {}, opaque="SIG")), exchange(function("f"))))

    assert order[2:5] == ["output_item.added", "output_item.done", "output_item.added"]


def test_a_signature_at_the_head_of_a_text_stands_before_its_message():
    final = told(answer(thought("hm"), text("ok", opaque="SIG")), exchange())

    assert types(final) == ["reasoning", "message"]
    assert opened(final["output"][0]) == {"v": 1, "next": {"message": "SIG"}}


def test_a_signature_after_the_text_is_let_go():
    final = told(answer(text("ok"), text("", opaque="SIG")), exchange())

    assert types(final) == ["message"]


def test_a_text_signature_never_lands_on_what_else_follows():
    events = answer(text("", opaque="SIG"), call("f", {}), text("ok"), finish=Finish.TOOL_CALLS)
    final = told(events, exchange(function("f")))

    assert types(final) == ["function_call", "message"]


def test_a_signed_thought_keeps_its_own_signature():
    final = told(answer(thought("", opaque="R"), call("f", {}, opaque="C")), exchange(function("f")))

    assert opened(final["output"][0]) == {"v": 1, "calls": {"call_1": "C"}, "reasoning": "R"}


def test_replayed_items_bring_each_signature_back_to_its_part():
    tools = (function("f"),)
    events = answer(
        thought("hm", opaque="R"),
        text("first", opaque="T"),
        call("f", {"a": 1}, opaque="C"),
        part(Media(mime_type="image/png", data="AAAA", opaque="M")),
        part(Code(code="1", language="python", opaque="X")),
        part(CodeOutput(output="1", is_ok=True)),
        finish=Finish.TOOL_CALLS,
    )
    final = told(events, exchange(*tools))
    items = [*final["output"], {"type": "function_call_output", "call_id": "call_1", "output": "done"}]
    request = responses.decode_request({"model": "m", "input": items, "tools": list(tools)})

    assert request.turns[0].parts == (
        Reasoning(text="hm", opaque="R"),
        Text(text="first", opaque="T"),
        ToolCall(id="call_1", name="f", arguments='{"a": 1}', opaque="C"),
        Media(mime_type="image/png", data="AAAA", opaque="M"),
        Code(code="1", language="python", opaque="X"),
        CodeOutput(output="1", is_ok=True),
    )


# --- calls


def test_a_function_call_tells_its_arguments_in_pieces_and_whole():
    pieces = part(ToolCall(id="call_1", name="f", arguments=""), '{"a"', ":1}")
    data = stream(answer(pieces, finish=Finish.TOOL_CALLS), exchange(function("f")))

    assert kinds(data)[3:6] == [
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
    ]
    assert read(data)[2]["item"] == {
        "id": f"fc_{ID}00",
        "type": "function_call",
        "status": "in_progress",
        "arguments": "",
        "call_id": "call_1",
        "name": "f",
    }
    final = check(data)
    assert final["status"] == "completed"
    assert final["output"][0] | {"status": "completed", "arguments": '{"a":1}'} == final["output"][0]


def test_a_call_without_arguments_has_an_empty_object():
    final = told(answer(part(ToolCall(id="call_1", name="f", arguments=""))), exchange(function("f")))

    assert final["output"][0]["arguments"] == "{}"
    assert final["output"][0]["status"] == "completed"


def test_arguments_that_were_cut_off_are_incomplete():
    final = told(answer(call("f", '{"a": "b'), finish=Finish.LENGTH), exchange(function("f")))

    assert final["output"][0]["status"] == "incomplete"
    assert final["status"] == "incomplete"


def test_an_undeclared_function_is_passed_on_as_it_came():
    assert told(answer(call("ghost", {})), exchange())["output"][0]["name"] == "ghost"


def test_a_call_into_a_namespace_carries_name_and_namespace():
    tools = {"type": "namespace", "name": "mcp__toy", "description": "Toys", "tools": [function("echo")]}
    final = told(answer(call("mcp__toy__echo", {})), exchange(tools))

    assert (final["output"][0]["name"], final["output"][0]["namespace"]) == ("echo", "mcp__toy")


def test_a_custom_tool_is_called_with_bare_text():
    tool = {"type": "custom", "name": "apply_patch", "format": {"type": "text"}}
    data = stream(answer(call("apply_patch", {"input": '*** Begin\n"é"'})), exchange(tool))

    assert kinds(data)[2:6] == [
        "output_item.added",
        "custom_tool_call_input.delta",
        "custom_tool_call_input.done",
        "output_item.done",
    ]
    assert check(data)["output"][0] == {
        "id": f"ctc_{ID}00",
        "type": "custom_tool_call",
        "status": "completed",
        "input": '*** Begin\n"é"',
        "call_id": "call_1",
        "name": "apply_patch",
    }


@pytest.mark.parametrize("arguments", ['{"patch": "x"}', '{"input": 5}', '{"input": "cut o'])
def test_a_custom_call_in_another_shape_shows_what_came(arguments):
    tool = {"type": "custom", "name": "t"}

    assert told(answer(call("t", arguments)), exchange(tool))["output"][0]["input"] == arguments


def test_a_local_shell_call_has_an_exec_action():
    arguments = {"command": ["ls", "-a"], "working_directory": "/w", "timeout_ms": 1000.0}
    final = told(answer(call("local_shell", arguments)), exchange({"type": "local_shell"}))

    assert final["output"][0] == {
        "id": f"lsh_{ID}00",
        "type": "local_shell_call",
        "status": "completed",
        "call_id": "call_1",
        "action": {
            "type": "exec",
            "command": ["ls", "-a"],
            "env": {},
            "timeout_ms": 1000,
            "working_directory": "/w",
        },
    }


def test_a_command_line_for_the_local_shell_is_run_by_a_shell():
    final = told(answer(call("local_shell", {"command": "ls | wc"})), exchange({"type": "local_shell"}))

    assert final["output"][0]["action"]["command"] == ["bash", "-lc", "ls | wc"]


def test_a_shell_call_tells_each_command():
    data = stream(answer(call("shell", {"commands": ["pwd", "ls"]})), exchange({"type": "shell"}))

    assert (
        kinds(data)[3:9]
        == [
            "shell_call_command.added",
            "shell_call_command.delta",
            "shell_call_command.done",
        ]
        * 2
    )
    assert check(data)["output"][0]["action"] == {
        "commands": ["pwd", "ls"],
        "max_output_length": None,
        "timeout_ms": None,
    }


def test_a_patch_is_announced_with_its_path_and_told_with_its_diff():
    arguments = {"type": "create_file", "path": "a.txt", "diff": "+hi\n"}
    data = stream(answer(call("apply_patch", arguments, opaque="SIG")), exchange({"type": "apply_patch"}))
    events = read(data)

    assert events[4]["item"]["operation"] == {"type": "create_file", "diff": "", "path": "a.txt"}
    assert check(data)["output"][1]["operation"] == {"type": "create_file", "diff": "+hi\n", "path": "a.txt"}


def test_deleting_a_file_has_no_diff():
    arguments = {"type": "delete_file", "path": "a.txt"}
    data = stream(answer(call("apply_patch", arguments)), exchange({"type": "apply_patch"}))

    assert kinds(data)[2:4] == ["output_item.added", "output_item.done"]


def test_a_patch_that_makes_no_sense_goes_out_as_the_call_that_it_is():
    final = told(answer(call("apply_patch", {"type": "move_file"})), exchange({"type": "apply_patch"}))

    assert final["output"][0]["type"] == "function_call"
    assert json.loads(final["output"][0]["arguments"]) == {"type": "move_file"}


def test_a_search_for_tools_is_the_clients_item():
    tool = {"type": "tool_search", "execution": "client", "description": "d", "parameters": {"type": "object"}}
    final = told(answer(call("tool_search", {"goal": "weather"})), exchange(tool))

    assert final["output"][0] == {
        "id": f"tsc_{ID}00",
        "type": "tool_search_call",
        "status": "completed",
        "call_id": "call_1",
        "arguments": {"goal": "weather"},
        "execution": "client",
    }


# --- what upstream ran, and media


def test_code_and_its_output_are_one_item():
    events = answer(
        part(Code(code="print(1)", language="python")), part(CodeOutput(output="1\n", is_ok=True)), text("One.")
    )
    final = told(events, exchange({"type": "code_interpreter", "container": {"type": "auto"}}))

    assert types(final) == ["code_interpreter_call", "message"]
    assert final["output"][0] == {
        "id": f"ci_{ID}00",
        "type": "code_interpreter_call",
        "status": "completed",
        "code": "print(1)",
        "container_id": f"cntr_{ID}",
        "outputs": [{"type": "logs", "logs": "1\n"}],
    }


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ([part(Code(code="x", language="python"))], "incomplete"),
        ([part(CodeOutput(output="boom", is_ok=False))], "failed"),
        ([part(Code(code="x", language="python")), text("so")], "incomplete"),
    ],
)
def test_code_without_output_and_output_without_code_are_items_too(parts, status):
    assert told(answer(*parts), exchange())["output"][0]["status"] == status


def test_an_image_is_a_generation_call():
    final = told(answer(text("Here:"), part(Media(mime_type="image/png", data="AAAA"))), exchange())

    assert types(final) == ["message", "image_generation_call"]
    assert final["output"][1]["result"] == "AAAA"
    assert final["output"][1]["output_format"] == "png"


def test_other_media_stand_in_the_text():
    final = told(answer(text("Hear: "), part(Media(mime_type="audio/wav", data="AAAA")), text("!")), exchange())

    assert final["output"][0]["content"][0]["text"] == "Hear: [audio/wav](data:audio/wav;base64,AAAA)!"


def test_searches_follow_the_message_and_citations_stand_in_it():
    citations = (
        Citation(start=0, end=5, url="https://a", title="A"),
        Citation(start=3, end=9, url="https://b", title="B"),
    )
    at = exchange({"type": "web_search"}, include=["web_search_call.action.sources"])
    events = answer(text("Paris", " it is"), searches=("capital", "france"), citations=citations)
    final = told(events, at)

    assert types(final) == ["message", "web_search_call", "web_search_call"]
    assert final["output"][0]["content"][0]["annotations"] == [
        {"type": "url_citation", "end_index": 5, "start_index": 0, "title": "A", "url": "https://a"},
        {"type": "url_citation", "end_index": 9, "start_index": 3, "title": "B", "url": "https://b"},
    ]
    assert final["output"][1]["action"] == {
        "type": "search",
        "queries": ["capital"],
        "query": "capital",
        "sources": [{"type": "url", "url": "https://a"}, {"type": "url", "url": "https://b"}],
    }
    assert final["tool_usage"]["web_search"] == {"num_requests": 2}


def test_citations_count_in_the_message_that_they_stand_in():
    citations = (
        Citation(start=0, end=3, url="https://closed", title=""),
        Citation(start=3, end=6, url="https://open", title=""),
        Citation(start=4, end=9, url="https://nowhere", title=""),
    )
    events = answer(
        text("one"),
        part(Code(code="x", language="python")),
        part(Media(mime_type="audio/wav", uri="u")),
        text("two"),
        citations=citations,
    )
    content = told(events, exchange())["output"][2]["content"][0]

    assert content["text"] == "[audio/wav](u)two"
    assert [(a["url"], content["text"][a["start_index"] : a["end_index"]]) for a in content["annotations"]] == [
        ("https://open", "two")
    ]


# --- ends


def test_an_answer_cut_by_its_length_is_incomplete():
    final = told(answer(text("half"), finish=Finish.LENGTH), exchange(max_output_tokens=16))

    assert final["status"] == "incomplete"
    assert final["incomplete_details"] == {"reason": "max_output_tokens"}
    assert final["output"][0]["status"] == "incomplete"
    assert final["completed_at"] is None


def test_thinking_that_took_all_tokens_leaves_only_reasoning():
    final = told(answer(thought("so much"), finish=Finish.LENGTH), exchange())

    assert types(final) == ["reasoning"]
    assert told(answer(finish=Finish.LENGTH), exchange())["output"] == []


def test_an_answer_cut_by_a_filter_is_incomplete_and_invents_no_refusal():
    final = told(answer(text("half"), finish=Finish.FILTERED, raw_finish="SAFETY"), exchange())

    assert final["incomplete_details"] == {"reason": "content_filter"}
    assert [p["type"] for p in final["output"][0]["content"]] == ["output_text"]


def test_a_blocked_prompt_is_a_400_while_nothing_was_sent():
    events = answer(finish=Finish.FILTERED, raw_finish="PROHIBITED_CONTENT", message="Not this.")

    for raised in (lambda: stream(events, exchange()), lambda: responses.encode_response(fold(events), exchange())):
        with pytest.raises(InvalidRequest) as caught:
            raised()
        assert (caught.value.status, caught.value.code, caught.value.message) == (400, "invalid_prompt", "Not this.")


def test_a_blocked_prompt_fails_a_stream_that_a_keep_alive_has_begun():
    encoder = responses.StreamEncoder(exchange())
    data = b"".join(encoder.keep_alive())
    for event in answer(finish=Finish.FILTERED):
        data += b"".join(encoder.feed(event))
    final = check(data)

    assert final["error"]["code"] == "invalid_prompt"
    assert kinds(data) == ["created", "in_progress", "keepalive", "failed"]


def test_keep_alives_are_events_in_the_one_count():
    encoder = responses.StreamEncoder(exchange())
    frames = encoder.keep_alive() + encoder.keep_alive()
    for event in answer(text("x")):
        frames += encoder.feed(event) + encoder.keep_alive()
    data = b"".join(frames)

    check(data)
    assert b'event: keepalive\ndata: {"type":"keepalive","sequence_number":2}\n\n' in data
    assert kinds(data)[-1] == "completed"  # and none after the end


@pytest.mark.parametrize("count", range(9))
def test_a_stream_can_fail_in_every_state(count):
    events = answer(thought("hm"), text("half"), call("f", {}))[:count]
    encoder = responses.StreamEncoder(exchange(function("f")))
    frames = [frame for event in events for frame in encoder.feed(event)]
    frames += encoder.fail(UpstreamFailed("it broke"))
    final = check(b"".join(frames))

    assert final["status"] == "failed"
    assert final["error"] == {"code": "server_error", "message": "it broke"}
    assert final["usage"] is None
    assert encoder.fail(UpstreamFailed("again")) == encoder.keep_alive() == []
    assert encoder.feed(PartEnded(choice=0)) == []


def _daily():
    error = UpstreamRateLimited("spent", retry_after_seconds=3600)
    error.is_daily = True
    return error


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UpstreamRateLimited("Slow.", retry_after_seconds=6.2), "rate_limit_exceeded", "Slow. Please try again in 7s."),
        (UpstreamRateLimited("Slow.", retry_after_seconds=0), "rate_limit_exceeded", "Slow. Please try again in 1s."),
        (UpstreamRateLimited("Try again in 3s", retry_after_seconds=9), "rate_limit_exceeded", "Try again in 3s"),
        (UpstreamRateLimited("Slow."), "rate_limit_exceeded", "Slow."),
        (_daily(), "insufficient_quota", "spent"),
        (UpstreamOverloaded("full"), "server_is_overloaded", "full"),
        (Overloaded("busy"), "server_is_overloaded", "busy"),
        (UpstreamRejected("long", code="context_length_exceeded"), "context_length_exceeded", "long"),
        (UpstreamRejected("no"), "invalid_prompt", "no"),
        (UpstreamAuthFailed("key"), "invalid_prompt", "key"),
        (NoAccount("none"), "invalid_prompt", "none"),
        (InternalError("bug"), "server_error", "bug"),
        (UpstreamFailed("cut"), "server_error", "cut"),
    ],
)
def test_a_failure_has_the_code_that_codex_acts_on(error, code, message):
    final = check(b"".join(responses.StreamEncoder(exchange()).fail(error)))

    assert final["error"] == {"code": code, "message": message}


def test_credential_troubles_of_the_gateway_are_told_in_the_stream():
    assert isinstance(UpstreamAuthFailed("x"), responses.EVENT_ERRORS)
    assert isinstance(NoAccount("x"), responses.EVENT_ERRORS)
    assert not isinstance(UpstreamFailed("x"), responses.EVENT_ERRORS)
    assert not isinstance(InvalidRequest("x"), responses.EVENT_ERRORS)


def test_an_overloaded_model_has_a_code_in_the_error_body():
    assert responses.encode_error(UpstreamOverloaded("full"))["error"]["code"] == "server_is_overloaded"
    body = responses.encode_error(InvalidRequest("no", code="invalid_prompt", param="input"))
    assert body == {
        "error": {"message": "no", "type": "invalid_request_error", "param": "input", "code": "invalid_prompt"}
    }


def test_a_second_attempt_starts_afresh():
    at = exchange()
    encoder = responses.StreamEncoder(at)
    for event in (MessageStarted(response_id=None, model=None), *text("", opaque="OLD")):
        assert encoder.feed(event) == []
    data = b"".join(frame for event in answer(text("ok")) for frame in encoder.feed(event))

    assert types(check(data)) == ["message"]


# --- the object around the items


def test_what_the_request_asked_for_is_said_back():
    schema = {"type": "object", "properties": {}}
    at = exchange(
        function("f"),
        {"type": "web_search"},
        instructions="Be kind.",
        metadata={"k": "v"},
        reasoning={"effort": "low", "summary": "auto"},
        text={"format": {"type": "json_schema", "name": "n", "schema": schema, "strict": True}},
        temperature=0,
        store=False,
        service_tier="flex",
        tool_choice={"type": "function", "name": "f"},
        prompt_cache_key="k",
    )
    final = told(answer(text("{}")), at)

    assert final["instructions"] == "Be kind."
    assert final["metadata"] == {"k": "v"}
    assert final["reasoning"] == {"context": "current_turn", "effort": "low", "mode": "standard", "summary": "auto"}
    assert final["text"]["format"] == {
        "type": "json_schema",
        "description": None,
        "name": "n",
        "schema": schema,
        "strict": True,
    }
    assert (final["temperature"], final["top_p"], final["store"], final["service_tier"]) == (0.0, 1.0, False, "flex")
    assert final["tool_choice"] == {"type": "function", "name": "f"}
    assert final["tools"][0]["strict"] is False
    assert final["tools"][0]["description"] is None
    assert final["tools"][1]["search_context_size"] == "medium"


def test_nulls_are_echoed_as_what_is_in_force():
    names = ("store", "temperature", "tool_choice", "tools", "text", "reasoning", "metadata", "include", "truncation")
    final = told(answer(text("x")), exchange(**dict.fromkeys(names)))

    assert (final["store"], final["temperature"], final["tool_choice"], final["tools"]) == (True, 1.0, "auto", [])
    assert (final["truncation"], final["metadata"]) == ("disabled", {})


def test_a_background_stream_says_that_it_is_queued():
    body = {"model": "m", "input": "hi", "background": True, "stream": True}
    request = responses.decode_request(body, history=())
    at = Exchange(id=ID, created=1, model="m", request=request, body=body)
    events = read(stream(answer(text("x")), at))

    assert [(e["type"], e["response"]["status"]) for e in events[:3]] == [
        ("response.created", "queued"),
        ("response.queued", "queued"),
        ("response.in_progress", "in_progress"),
    ]


def test_a_conversation_is_named_only_where_one_is_used():
    body = {"model": "m", "input": "hi", "conversation": "conv_1"}
    request = responses.decode_request(body, history=())
    at = Exchange(id=ID, created=1, model="m", request=request, body=body)

    assert told(answer(text("x")), at)["conversation"] == {"id": "conv_1"}
    assert "conversation" not in told(answer(text("x")), exchange())


def test_freeform_tools_of_other_frontends_have_no_origin():
    tool = FunctionTool(name="t", is_freeform=True)
    request = responses.decode_request({"model": "m", "input": "hi"})
    bare = exchange()
    at = Exchange(id=ID, created=1, model="m", request=type(request)(model="m", tools=(tool,)), body=bare.body)

    assert told(answer(call("t", {"input": "x"})), at)["output"][0]["type"] == "custom_tool_call"
