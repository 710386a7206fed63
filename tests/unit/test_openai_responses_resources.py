"""What is kept of responses and conversations, and what their routes answer: pure, on records made by hand."""

import pytest

from agproxy.conversation import ChoiceEnded, Exchange, Finish, Reasoning, Role, Text
from agproxy.errors import InternalError, InvalidRequest, UpstreamFailed
from agproxy.frontends import openai_responses
from agproxy.frontends.openai_responses import compaction, kept, resources
from agproxy.frontends.openai_responses.output import Silence
from agproxy.records import Asked, Chain, Children, Get, Put, Record, Remove

MAKER = "0123456789abcdef01234567"
OTHER = "fedcba9876543210fedcba98"
ANSWER = {"id": f"msg_{OTHER}00", "type": "message", "role": "assistant", "content": []}


def message(text, id="msg_1"):
    return {"id": id, "type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def response(id, input, output=(), status="completed", parent=None, number=0, background=False, **more):
    object_ = {"id": id, "status": status, "output": list(output), "background": background}
    return Record(
        kind="response",
        id=id,
        number=number,
        parent=None if parent is None else ("response", parent),
        body={"response": object_, "input": list(input)} | more,
    )


def item(text, number, id=None):
    id = id or f"msg_{number}"
    return Record(
        kind="item", id=f"conv_1/{id}", number=number, parent=("conversation", "conv_1"), body=message(text, id)
    )


CONVERSATION = Record(kind="conversation", id="conv_1", body={"id": "conv_1", "object": "conversation"})
ITEMS = Children(kind="item", parent=("conversation", "conv_1"))


def asked(action, body=None, **query):
    params = {"id": query.pop("id", "resp_1"), "item": query.pop("item", "msg_1")}
    query = {name: [str(value)] for name, value in query.items()}
    return Asked(action=action, params=params, query=query, body=body or {}, id=MAKER, now=1700000000)


def texts_of(request):
    return [(turn.role, [part.text for part in turn.parts]) for turn in request.turns]


def exchange(body, found=None):
    request = kept.decode_kept(body, found or {})
    return Exchange(id=MAKER, created=1700000000, model="m", request=request, body=body)


def all_needs(needs, *given, rows):
    """What is read when `rows` answers each read."""
    found = {}
    while missing := [read for read in needs(*given, found) if read not in found]:
        found |= {read: rows.get(read, ()) for read in missing}
    return found


# --- what is read ----------------------------------------------------------------------------------------------


def test_a_request_reads_what_it_names_and_nothing_else():
    body = {
        "previous_response_id": "resp_1",
        "conversation": {"id": "conv_1"},
        "input": [
            {"type": "item_reference", "id": f"rs_{OTHER}03"},
            {"type": "item_reference", "id": f"msg_{OTHER}i00"},
            {"type": "item_reference", "id": "rs_of_another_gateway"},
        ],
    }

    assert list(all_needs(kept.create_needs, body, rows={})) == [
        Chain(kind="response", id="resp_1"),
        Get(kind="conversation", id="conv_1"),
        ITEMS,
        Get(kind="response", id=f"resp_{OTHER}"),
    ]
    assert all_needs(kept.create_needs, {"input": "hi", "previous_response_id": 5, "conversation": 5}, rows={}) == {}


def test_a_chain_that_began_on_a_conversation_reads_that_too():
    row = response("resp_1", [], conversation={"id": "conv_1", "until": 2})
    found = all_needs(
        kept.create_needs, {"previous_response_id": "resp_1"}, rows={Chain(kind="response", id="resp_1"): (row,)}
    )

    assert set(found) == {Chain(kind="response", id="resp_1"), Get(kind="conversation", id="conv_1"), ITEMS}


# --- what a request means --------------------------------------------------------------------------------------


def test_the_context_is_every_input_and_output_in_order():
    rows = (
        response("resp_0", [message("a")], [message("one")]),
        response("resp_1", [message("b")], [message("two")], parent="resp_0"),
    )
    body = {"model": "m", "input": "c", "previous_response_id": "resp_1"}
    request = kept.decode_kept(body, {Chain(kind="response", id="resp_1"): rows})

    assert [text for _, texts in texts_of(request) for text in texts] == ["a", "one", "b", "two", "c"]


def test_a_response_on_a_conversation_is_gone_on_from_as_the_conversation_was_then():
    row = response("resp_1", [message("b")], [message("two")], conversation={"id": "conv_1", "until": 2})
    found = {
        Chain(kind="response", id="resp_1"): (row,),
        Get(kind="conversation", id="conv_1"): (CONVERSATION,),
        ITEMS: (item("a", 1), item("one", 2), item("later", 3)),
    }
    request = kept.decode_kept({"model": "m", "input": "c", "previous_response_id": "resp_1"}, found)

    assert [text for _, texts in texts_of(request) for text in texts] == ["a", "one", "b", "two", "c"]


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ((), "previous_response_not_found"),
        ((response("resp_1", [], parent="resp_0"),), "previous_response_not_found"),
        ((response("resp_1", [], conversation={"id": "conv_1", "until": 0}),), "previous_response_not_found"),
        ((response("resp_1", [], status="failed"),), "invalid_value"),
        ((response("resp_1", [], status="cancelled"),), "invalid_value"),
        ((response("resp_1", [], status="in_progress"),), "invalid_value"),
    ],
    ids=["unknown", "its beginning is gone", "its conversation is gone", "failed", "cancelled", "running"],
)
def test_what_cannot_be_gone_on_from_is_refused(rows, code):
    body = {"model": "m", "input": "c", "previous_response_id": "resp_1"}
    found = {
        Chain(kind="response", id="resp_1"): rows,
        Get(kind="conversation", id="conv_1"): (),
        ITEMS: (),
    }
    with pytest.raises(InvalidRequest) as caught:
        kept.decode_kept(body, found)

    assert (caught.value.status, caught.value.code, caught.value.param) == (400, code, "previous_response_id")


def test_an_incomplete_response_can_be_gone_on_from():
    row = response("resp_1", [message("a")], [message("half")], status="incomplete")
    body = {"model": "m", "input": "go on", "previous_response_id": "resp_1"}

    assert len(kept.decode_kept(body, {Chain(kind="response", id="resp_1"): (row,)}).turns) == 3


def test_a_reference_is_found_by_the_id_that_its_response_gave_it():
    call = {"id": f"fc_{OTHER}01", "type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}
    read = Get(kind="response", id=f"resp_{OTHER}")
    body = {
        "model": "m",
        "input": [
            {"type": "item_reference", "id": call["id"]},
            {"type": "function_call_output", "call_id": "call_1", "output": "done"},
        ],
    }
    request = kept.decode_kept(body, {read: (response(f"resp_{OTHER}", [], [ANSWER, call]),)})
    assert [turn.role for turn in request.turns] == [Role.MODEL, Role.USER]

    with pytest.raises(InvalidRequest) as caught:
        kept.decode_kept(body, {read: ()})
    assert caught.value.status == 404


# --- what an answer leaves -------------------------------------------------------------------------------------


def test_input_items_are_kept_whole_and_each_gets_an_id():
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    items = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b", "id": "msg_own"},
        call,
        {"type": "function_call_output", "call_id": "c", "output": "x"},
        {"type": "item_reference", "id": "rs_known"},
        {"type": "item_reference", "id": "rs_unknown"},
    ]
    reasoning = {"id": "rs_known", "type": "reasoning", "summary": []}
    stored = kept.input_items(items, MAKER, {"rs_known": reasoning})

    ids = [entry["id"] for entry in stored]
    assert ids == [f"msg_{MAKER}i00", "msg_own", f"fc_{MAKER}i02", f"fco_{MAKER}i03", "rs_known"]
    assert stored[0]["content"] == [{"type": "input_text", "text": "a"}]
    assert stored[0]["status"] == "completed"
    assert stored[1]["content"][0]["type"] == "output_text"
    assert stored[2] == {**call, "id": ids[2]}
    assert stored[4] == reasoning
    assert kept.input_items("a", MAKER, {})[0]["role"] == "user"
    assert kept.input_items(None, MAKER, {}) == []


def test_every_kind_of_item_gets_an_id_by_which_its_response_is_found():
    kinds = [
        kind for kind in openai_responses.items._KINDS if kind not in ("configuration_update", "compaction_trigger")
    ]
    for kind in kinds:
        (stored,) = kept.input_items([{"type": kind, "content": []}], MAKER, {})
        assert kept._ITEM_ID.fullmatch(stored["id"])[1] == MAKER


def test_an_answer_leaves_its_object_below_the_one_that_it_goes_on_from():
    body = {"model": "m", "input": "b", "previous_response_id": "resp_0"}
    found = {Chain(kind="response", id="resp_0"): (response("resp_0", [message("a")]),)}
    answer = {"id": f"resp_{MAKER}", "status": "completed", "output": [ANSWER]}
    (change,) = kept.response_changes(exchange(body, found), answer, found)

    assert change.record.parent == ("response", "resp_0")
    assert change.record.body["response"] == answer
    assert [entry["content"][0]["text"] for entry in change.record.body["input"]] == ["b"]


@pytest.mark.parametrize(("status", "is_grown"), [("completed", True), ("incomplete", True), ("failed", False)])
def test_a_conversation_grows_by_what_ended_well(status, is_grown):
    body = {"model": "m", "input": "b", "conversation": "conv_1"}
    found = {Get(kind="conversation", id="conv_1"): (CONVERSATION,), ITEMS: (item("a", 7),)}
    answer = {"id": f"resp_{MAKER}", "status": status, "output": [ANSWER]}
    first, *grown = kept.response_changes(exchange(body, found), answer, found)

    assert first.record.parent is None
    assert first.record.body["conversation"] == {"id": "conv_1", "until": 7}
    ids = [f"conv_1/msg_{MAKER}i00", f"conv_1/{ANSWER['id']}"]
    assert [change.record.id for change in grown] == (ids if is_grown else [])


def test_store_false_leaves_nothing():
    body = {"model": "m", "input": "b", "store": False, "conversation": "conv_1"}
    found = {Get(kind="conversation", id="conv_1"): (CONVERSATION,), ITEMS: ()}
    answer = {"id": f"resp_{MAKER}", "status": "completed", "output": [ANSWER]}

    assert kept.response_changes(exchange(body, found), answer, found) == ()


def test_a_run_that_nobody_runs_any_more_has_failed():
    row = response("resp_1", [], status="in_progress")
    live = {"id": "resp_1", "status": "in_progress", "output": [ANSWER]}

    assert kept.settle(row, None, lambda: False).body["response"]["status"] == "failed"
    assert kept.settle(row, None, lambda: True) is row  # another process has it
    assert kept.settle(row, live, lambda: False).body["response"] is live
    ended = response("resp_1", [], status="completed")
    assert kept.settle(ended, None, lambda: False) is ended
    assert kept.settle(CONVERSATION, None, lambda: False) is CONVERSATION


# --- routes ----------------------------------------------------------------------------------------------------


def handle(action, found, body=None, **query):
    return resources.handle(asked(action, body, **query), found)


@pytest.mark.parametrize("action", ["get_response", "delete_response", "cancel_response", "list_input_items"])
def test_an_unknown_response_is_not_found(action):
    found = all_needs(resources.needs, asked(action), rows={})
    with pytest.raises(InvalidRequest) as caught:
        handle(action, found)

    assert (caught.value.status, caught.value.code) == (404, None)
    assert caught.value.message == "Response with id 'resp_1' not found."


@pytest.mark.parametrize(
    "action",
    [
        "get_conversation",
        "update_conversation",
        "delete_conversation",
        "create_items",
        "list_items",
        "get_item",
        "delete_item",
    ],
)
def test_an_unknown_conversation_is_not_found(action):
    found = all_needs(resources.needs, asked(action, id="conv_9"), rows={})
    with pytest.raises(InvalidRequest, match="Conversation with id 'conv_9' not found") as caught:
        handle(action, found, id="conv_9")
    assert caught.value.status == 404


def test_every_route_has_its_action():
    actions = {action for _, _, action in openai_responses.ROUTES}

    assert actions - {"create", "count", "compact"} == set(resources._ACTIONS)
    assert actions > resources.STOPS


def test_removing_names_what_goes():
    row = response("resp_1", [])
    outcome = handle("delete_response", {Get(kind="response", id="resp_1"): (row,)})
    assert outcome.changes == (Remove(kind="response", id="resp_1"),)

    found = {
        Get(kind="conversation", id="conv_1"): (CONVERSATION,),
        Get(kind="item", id="conv_1/msg_1"): (item("a", 1, "msg_1"),),
    }
    outcome = handle("delete_item", found, id="conv_1")
    assert (outcome.body, outcome.changes) == (CONVERSATION.body, (Remove(kind="item", id="conv_1/msg_1"),))


@pytest.mark.parametrize("metadata", [5, {"a": 1}, {f"k{n}": "v" for n in range(17)}])
def test_metadata_that_is_none_is_refused(metadata):
    with pytest.raises(InvalidRequest, match="metadata"):
        handle("create_conversation", {}, {"metadata": metadata})


def test_a_conversation_begins_with_its_items():
    outcome = handle("create_conversation", {}, {"items": [{"role": "user", "content": "a"}], "metadata": None})
    first, second = outcome.changes

    assert outcome.body["metadata"] == {}
    assert isinstance(first, Put)
    assert second.record.parent == ("conversation", outcome.body["id"])


def test_a_result_is_only_taken_after_its_call():
    found = {Get(kind="conversation", id="conv_1"): (CONVERSATION,), ITEMS: ()}
    result = {"type": "function_call_output", "call_id": "call_1", "output": "x"}
    with pytest.raises(InvalidRequest, match="No tool call found"):
        handle("create_items", found, {"items": [result]}, id="conv_1")
    with pytest.raises(InvalidRequest, match="Missing required parameter: 'items'"):
        handle("create_items", found, {}, id="conv_1")

    call = {"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}
    found[ITEMS] = (Record(kind="item", id="conv_1/fc_1", body=call, number=1),)
    assert len(handle("create_items", found, {"items": [result]}, id="conv_1").changes) == 1


# --- streams ---------------------------------------------------------------------------------------------------

FRAMES = b"".join(b'data: {"sequence_number":%d}\n\n' % number for number in range(4))


@pytest.mark.parametrize(("after", "rest"), [("", 0), ("0", 1), ("2", 3), ("3", 4), ("99", 4)])
def test_frames_are_taken_up_after_a_number(after, rest):
    cut = resources.frames_after(FRAMES, asked("get_response", starting_after=after))

    assert cut == b"".join(b'data: {"sequence_number":%d}\n\n' % number for number in range(rest, 4))


@pytest.mark.parametrize("after", ["-1", "x", "1.5", "9" * 30, "²"])
def test_a_number_that_is_none_is_refused(after):
    with pytest.raises(InvalidRequest) as caught:
        resources.frames_after(FRAMES, asked("get_response", starting_after=after))
    assert caught.value.param == "starting_after"


def test_only_the_question_for_a_stream_is_one():
    assert resources.wants_stream(asked("get_response", stream="true"))
    assert not resources.wants_stream(asked("get_response", stream="false"))
    assert not resources.wants_stream(asked("get_response"))
    assert not resources.wants_stream(asked("delete_response", stream="true"))


# --- compaction ------------------------------------------------------------------------------------------------


def test_a_compact_request_is_the_history_and_a_question_for_its_summary():
    body = compaction.compact_body({"model": "m", "input": "a", "store": True, "background": True})
    request = openai_responses.decode_request(body)

    assert texts_of(request) == [(Role.USER, ["a"]), (Role.USER, [compaction.INSTRUCTION])]
    assert (body["store"], body["background"], body["stream"]) == (False, False, False)
    with pytest.raises(InvalidRequest) as caught:
        openai_responses.decode_request(compaction.compact_body({"model": "m", "input": 5}))
    assert caught.value.param == "input"


def test_what_is_kept_beside_the_summary_is_what_others_than_the_model_said():
    body = compaction.compact_body({"model": "m", "input": "a"})
    summary = {"id": "cmp_1", "type": "compaction", "encrypted_content": "x"}
    developer = {"id": "msg_2", "type": "message", "role": "developer", "content": []}
    call = {"id": "fc_1", "type": "function_call"}
    answer = {"id": "resp_1", "output": [summary], "usage": {"total_tokens": 5}}
    history = [message("a"), developer, ANSWER, call]

    compact = compaction.encode_compaction(answer, exchange(body), history)
    assert compact["output"] == [message("a"), developer, summary]
    assert compact["usage"] == {"total_tokens": 5}


def test_a_summary_is_all_of_the_text_and_nothing_else():
    compactor = compaction.Compactor(exchange({"model": "m", "input": "a"}), Silence())
    for part, *pieces in ((Reasoning(text=""), "hm"), (Text(text=""), "All ", "is "), (Text(text=""), "said.")):
        compactor.start(part)
        for piece in pieces:
            compactor.delta(piece)
        compactor.end_part()
    compactor.end_choice(ChoiceEnded(choice=0, finish=Finish.STOP))

    (compact,) = compactor.items
    body = {"model": "m", "input": [compact]}
    assert texts_of(openai_responses.decode_request(body)) == [(Role.USER, ["All is said."])]


def test_no_summary_is_a_fault_of_upstream():
    compactor = compaction.Compactor(exchange({"model": "m", "input": "a"}), Silence())
    with pytest.raises(UpstreamFailed, match="no summary"):
        compactor.end_choice(ChoiceEnded(choice=0, finish=Finish.STOP))


# --- the encoder of a run --------------------------------------------------------------------------------------


def test_a_run_is_queued_then_under_way_then_over():
    encoder = resources.StreamEncoder(exchange({"model": "m", "input": "a", "background": True}))
    assert encoder.response["status"] == "queued"
    assert len(encoder.begin()) == 3
    assert encoder.response["status"] == "in_progress"
    assert encoder.begin() == []
    (frame,) = encoder.cancel()
    assert frame.startswith(b"event: response.cancelled\n")
    assert encoder.response["status"] == "cancelled"
    assert encoder.cancel() == encoder.fail(InternalError("x")) == []
