"""Responses that are kept: gone on from, read again, listed, removed; runs in the background; conversations.

Most of it on a scripted upstream within one event loop; what a restart may cost, on real processes.
"""

import asyncio
import json
import urllib.request

import pytest
import responses_stream
from fakes import NOW, FakeReply, FakeUpstream, Scripted, make_gateway
from running import start

from agproxy.config import Config
from agproxy.http11 import HttpRequest
from agproxy.io.state import State

MODEL = "gemini-2.5-flash"
KEYS = Config(keepalive_seconds=0.0, auth_mode="strict", api_key=(("ann", "key-of-ann"), ("bob", "key-of-bob")))


def candidate(*parts):
    usage = {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5}
    content = {"role": "model", "parts": list(parts)}
    return {"candidates": [{"content": content, "finishReason": "STOP"}], "usageMetadata": usage}


def whole(words):
    return Scripted.of(candidate({"text": words}))


def streamed(words):
    return Scripted(pieces=[b"data: " + json.dumps(candidate({"text": words})).encode() + b"\r\n\r\n"])


class Slow(Scripted):
    """A streamed answer that waits for `go` between its first word and its last."""

    def __init__(self):
        super().__init__()
        self.go = asyncio.Event()
        self.has_begun = asyncio.Event()

    async def pump(self, feed, reply=None):
        feed(b'data: {"candidates":[{"content":{"role":"model","parts":[{"text":"first "}]}}]}\r\n\r\n')
        self.has_begun.set()
        await self.go.wait()
        feed(b"data: " + json.dumps(candidate({"text": "last"})).encode() + b"\r\n\r\n")


class Talk:
    """A gateway that keeps what it is told to, and one client of it at a time."""

    def __init__(self, *script, config=None, store=True):
        self.upstream = FakeUpstream(list(script))
        self.store = State(None, max_age_seconds=1e9, max_bytes=1 << 30) if store else None
        self.gateway = make_gateway(self.upstream, config=config, store=self.store)
        self.key = ""

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.gateway.close()
        if self.store is not None:
            await self.store.close()

    async def ask(self, method, path, body=None, reply=None):
        path, _, query = path.partition("?")
        headers = (("host", "localhost"), *((("authorization", f"Bearer {self.key}"),) if self.key else ()))
        data = b"" if body is None else json.dumps(body).encode()
        request = HttpRequest(
            method=method, path="/v1" + path, query=query, headers=headers, body=data, peer="127.0.0.1", id="req_1"
        )
        reply = reply or FakeReply()
        await self.gateway.handle(request, reply)
        return reply

    async def create(self, text, **more):
        return (await self.ask("POST", "/responses", {"model": MODEL, "input": text} | more)).json

    async def ended(self, identifier):
        """The response once its run has ended."""
        while (found := (await self.ask("GET", f"/responses/{identifier}")).json)["status"] in RUNNING:
            await asyncio.sleep(0)
        return found

    @property
    def told(self):
        """What the last upstream call said, as (role, texts)."""
        return [(c["role"], [p["text"] for p in c["parts"]]) for c in self.upstream.bodies[-1]["contents"]]


RUNNING = ("queued", "in_progress")


def run(test):
    asyncio.run(asyncio.wait_for(test(), 20))


# --- chains ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_a_response_is_gone_on_from_with_all_that_came_before(stream):
    async def test():
        make = streamed if stream else whole
        async with Talk(make("one"), make("two"), whole("three")) as talk:
            first = await talk.ask("POST", "/responses", {"model": MODEL, "input": "a", "stream": stream})
            first = responses_stream.check(first.body) if stream else first.json
            second = await talk.ask(
                "POST",
                "/responses",
                {"model": MODEL, "input": "b", "stream": stream, "previous_response_id": first["id"]},
            )
            second = responses_stream.check(second.body) if stream else second.json
            await talk.create("c", previous_response_id=second["id"])

            assert talk.told == [
                ("user", ["a"]),
                ("model", ["one"]),
                ("user", ["b"]),
                ("model", ["two"]),
                ("user", ["c"]),
            ]
            assert second["previous_response_id"] == first["id"]
            assert (await talk.ask("GET", f"/responses/{second['id']}")).json == second

    run(test)


@pytest.mark.parametrize("background", [False, True])
def test_a_response_is_written_before_its_client_has_the_last_frame(background):
    class Noting(State):
        written = ()

        async def write(self, owner, changes, now):
            await super().write(owner, changes, now)
            self.written += (changes[0].record.body["response"]["status"],)

    class Watched(FakeReply):
        def write(self, data):
            super().write(data)
            if b"event: response.completed" in data:
                seen.append(talk.store.written[-1])

    seen = []
    talk = Talk(streamed("one"), store=False)

    async def test():
        async with talk:
            talk.store = Noting(None, max_age_seconds=1e9, max_bytes=1 << 30)
            talk.gateway = make_gateway(talk.upstream, store=talk.store)
            body = {"model": MODEL, "input": "a", "stream": True, "background": background}
            await talk.ask("POST", "/responses", body, Watched())

    run(test)
    assert seen == ["completed"]


def test_instructions_and_tools_are_not_inherited():
    async def test():
        tools = [{"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}]
        async with Talk(whole("one"), whole("two")) as talk:
            first = await talk.create("a", instructions="Be brief", tools=tools)
            await talk.create("b", previous_response_id=first["id"])

            assert "systemInstruction" in talk.upstream.bodies[0]
            assert "systemInstruction" not in talk.upstream.bodies[1]
            assert "tools" not in talk.upstream.bodies[1]

    run(test)


def test_a_call_and_its_result_meet_over_the_chain():
    async def test():
        call = candidate({"functionCall": {"name": "look", "args": {"at": "sky"}}, "thoughtSignature": "c2ln"})
        tools = [{"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}]
        async with Talk(Scripted.of(call), whole("blue")) as talk:
            first = await talk.create("look", tools=tools, model="gemini-3.8-flash")
            call_id = next(item["call_id"] for item in first["output"] if item["type"] == "function_call")
            result = [{"type": "function_call_output", "call_id": call_id, "output": "blue"}]
            await talk.create(result, tools=tools, model="gemini-3.8-flash", previous_response_id=first["id"])

            _, asked, answered = talk.upstream.bodies[-1]["contents"]
            assert asked["parts"][0]["thoughtSignature"] == "c2ln"
            assert answered["parts"][0]["functionResponse"]["name"] == "look"

    run(test)


def test_a_chain_can_fork_and_outlives_a_removed_parent():
    async def test():
        async with Talk(whole("one"), whole("two"), whole("fork"), whole("three")) as talk:
            first = await talk.create("a")
            second = await talk.create("b", previous_response_id=first["id"])
            await talk.create("c", previous_response_id=first["id"])
            assert talk.told[-1] == ("user", ["c"])
            assert len(talk.told) == 3

            removed = await talk.ask("DELETE", f"/responses/{first['id']}")
            assert removed.json == {"id": first["id"], "object": "response", "deleted": True}
            assert (await talk.ask("GET", f"/responses/{first['id']}")).status == 404
            assert (await talk.ask("DELETE", f"/responses/{first['id']}")).status == 404
            refused = await talk.create("x", previous_response_id=first["id"])
            assert refused["error"]["code"] == "previous_response_not_found"

            await talk.create("d", previous_response_id=second["id"])
            assert [texts for _, texts in talk.told] == [["a"], ["one"], ["b"], ["two"], ["d"]]

    run(test)


def test_store_false_keeps_nothing():
    async def test():
        async with Talk(whole("one")) as talk:
            answer = await talk.create("a", store=False)

            assert answer["store"] is False
            found = await talk.ask("GET", f"/responses/{answer['id']}")
            assert (found.status, found.json["error"]["code"]) == (404, None)
            refused = await talk.create("b", previous_response_id=answer["id"])
            assert refused["error"]["param"] == "previous_response_id"
            assert len(talk.upstream.calls) == 1

    run(test)


def test_without_a_store_answers_come_and_what_needs_one_is_refused_by_name():
    async def test():
        async with Talk(whole("one"), store=False) as talk:
            answer = await talk.create("a")
            assert answer["status"] == "completed"

            refused = await talk.create("b", previous_response_id=answer["id"])
            assert refused["error"]["code"] == "previous_response_not_found"
            assert (await talk.create("b", background=True))["error"]["param"] == "background"
            assert (await talk.ask("GET", f"/responses/{answer['id']}")).status == 404
            assert (await talk.ask("POST", "/conversations", {})).json["error"]["code"] == "unsupported_parameter"

    run(test)


def test_one_client_key_never_reads_anothers():
    async def test():
        async with Talk(whole("one"), whole("two"), config=KEYS) as talk:
            talk.key = "key-of-ann"
            answer = await talk.create("a")
            conversation = (await talk.ask("POST", "/conversations", {})).json["id"]
            item = answer["output"][0]["id"]

            talk.key = "key-of-bob"
            for method, path in (
                ("GET", f"/responses/{answer['id']}"),
                ("DELETE", f"/responses/{answer['id']}"),
                ("POST", f"/responses/{answer['id']}/cancel"),
                ("GET", f"/responses/{answer['id']}/input_items"),
                ("GET", f"/conversations/{conversation}"),
                ("DELETE", f"/conversations/{conversation}"),
                ("GET", f"/conversations/{conversation}/items"),
            ):
                assert (await talk.ask(method, path)).status == 404
            assert (await talk.create("b", previous_response_id=answer["id"]))["error"]
            assert (await talk.create("b", conversation=conversation))["error"]
            assert (await talk.create([{"type": "item_reference", "id": item}]))["error"]
            assert len(talk.upstream.calls) == 1

            talk.key = "key-of-ann"
            assert (await talk.ask("GET", f"/responses/{answer['id']}")).status == 200
            await talk.create([{"type": "item_reference", "id": item}, {"role": "user", "content": "b"}])
            assert talk.told == [("model", ["one"]), ("user", ["b"])]

    run(test)


def test_input_items_are_the_whole_context_in_pages():
    async def test():
        async with Talk(whole("one"), whole("two")) as talk:
            first = await talk.create("a")
            items = [{"role": "user", "content": [{"type": "input_text", "text": "b"}]}]
            second = await talk.create(items, previous_response_id=first["id"])
            path = f"/responses/{second['id']}/input_items"

            page = (await talk.ask("GET", f"{path}?limit=2")).json
            assert [item["content"][0]["text"] for item in page["data"]] == ["b", "one"]
            assert page["object"] == "list"
            assert page["has_more"] is True
            assert page["first_id"] == page["data"][0]["id"]
            rest = (await talk.ask("GET", f"{path}?limit=2&after={page['last_id']}")).json
            assert [item["content"] for item in rest["data"]] == [[{"type": "input_text", "text": "a"}]]
            assert rest["has_more"] is False
            asc = (await talk.ask("GET", f"{path}?order=asc")).json
            assert asc["data"] == list(reversed(page["data"] + rest["data"]))
            assert len({item["id"] for item in asc["data"]}) == 3

            for query, param in (("limit=0", "limit"), ("limit=x", "limit"), ("order=up", "order")):
                refused = await talk.ask("GET", f"{path}?{query}")
                assert (refused.status, refused.json["error"]["param"]) == (400, param)
            assert (await talk.ask("GET", f"{path}?after=msg_none")).status == 404

    run(test)


def test_a_failed_answer_is_kept_and_not_gone_on_from():
    async def test():
        cut = Scripted(pieces=[b'data: {"candidates":[{"content":{"parts":[{"text":"x"}]}}]}\r\n\r\n', b"{}"])
        async with Talk(cut) as talk:
            reply = await talk.ask("POST", "/responses", {"model": MODEL, "input": "a", "stream": True})
            failed = responses_stream.check(reply.body)
            assert failed["status"] == "failed"

            assert (await talk.ask("GET", f"/responses/{failed['id']}")).json == failed
            refused = await talk.create("b", previous_response_id=failed["id"])
            assert "status is 'failed'" in refused["error"]["message"]

    run(test)


# --- background ------------------------------------------------------------------------------------------------


def test_a_background_run_answers_at_once_and_ends_by_itself():
    async def test():
        slow = Slow()
        async with Talk(slow, whole("next")) as talk:
            begun = await talk.create("a", background=True)
            assert (begun["status"], begun["background"], begun["output"]) == ("queued", True, [])
            await slow.has_begun.wait()
            polled = (await talk.ask("GET", f"/responses/{begun['id']}")).json
            assert polled["status"] == "in_progress"
            early = await talk.create("b", previous_response_id=begun["id"])
            assert "in_progress" in early["error"]["message"]

            slow.go.set()
            ended = await talk.ended(begun["id"])
            assert ended["status"] == "completed"
            assert ended["output"][0]["content"][0]["text"] == "first last"
            assert ended["completed_at"] >= NOW
            await talk.create("b", previous_response_id=begun["id"])
            assert talk.told[1] == ("model", ["first last"])

    run(test)


def test_a_background_stream_goes_on_after_its_client_and_can_be_followed_from_any_number():
    async def test():
        slow = Slow()
        async with Talk(slow) as talk:
            reply = FakeReply()
            body = {"model": MODEL, "input": "a", "background": True, "stream": True}
            client = asyncio.create_task(talk.ask("POST", "/responses", body, reply))
            await slow.has_begun.wait()
            await asyncio.sleep(0)
            client.cancel()
            await asyncio.wait({client})
            heard = responses_stream.read(reply.body)
            assert [event["type"] for event in heard[:3]] == [
                "response.created",
                "response.queued",
                "response.in_progress",
            ]
            identifier = heard[0]["response"]["id"]

            path = f"/responses/{identifier}?stream=true"
            live = asyncio.create_task(talk.ask("GET", f"{path}&starting_after={heard[-1]['sequence_number']}"))
            late = asyncio.create_task(talk.ask("GET", f"{path}&starting_after=8"))
            await asyncio.sleep(0)
            slow.go.set()
            rest = responses_stream.read((await live).body)
            assert [e["sequence_number"] for e in heard + rest] == list(range(len(heard + rest)))
            assert rest[-1]["type"] == "response.completed"
            assert responses_stream.read((await late).body) == (heard + rest)[9:]

            await talk.ended(identifier)
            again = responses_stream.read((await talk.ask("GET", path)).body)
            assert again == heard + rest
            assert (await talk.ask("GET", f"{path}&starting_after=x")).status == 400

    run(test)


def test_only_a_background_response_can_be_streamed_again():
    async def test():
        async with Talk(whole("one")) as talk:
            answer = await talk.create("a")
            refused = await talk.ask("GET", f"/responses/{answer['id']}?stream=true")
            assert (refused.status, refused.json["error"]["param"]) == (400, "stream")
            assert (await talk.ask("GET", "/responses/resp_none?stream=true")).status == 404

    run(test)


def test_cancelling_stops_a_run_for_good_and_can_be_repeated():
    async def test():
        slow = Slow()
        async with Talk(slow) as talk:
            begun = await talk.create("a", background=True)
            await slow.has_begun.wait()
            live = asyncio.create_task(talk.ask("GET", f"/responses/{begun['id']}?stream=true"))
            await asyncio.sleep(0)

            cancelled = (await talk.ask("POST", f"/responses/{begun['id']}/cancel")).json
            assert cancelled["status"] == "cancelled"
            assert slow.is_closed
            assert (await talk.ask("POST", f"/responses/{begun['id']}/cancel")).json == cancelled
            assert (await talk.ask("GET", f"/responses/{begun['id']}")).json == cancelled
            assert responses_stream.read((await live).body)[-1]["type"] == "response.cancelled"
            assert "cancelled" in (await talk.create("b", previous_response_id=begun["id"]))["error"]["message"]

    run(test)


def test_what_ended_or_never_ran_in_the_background_is_not_cancelled():
    async def test():
        async with Talk(streamed("one"), whole("two")) as talk:
            begun = await talk.create("a", background=True)
            ended = await talk.ended(begun["id"])
            assert (await talk.ask("POST", f"/responses/{begun['id']}/cancel")).json == ended

            plain = await talk.create("a")
            refused = await talk.ask("POST", f"/responses/{plain['id']}/cancel")
            assert refused.status == 400
            assert refused.json["error"]["message"] == "Cannot cancel a synchronous response."

    run(test)


def test_a_run_that_is_only_being_written_is_not_cancelled_any_more():
    """Its end has been decided: whoever follows gets it, and the store has all of it."""

    class Held(State):
        def __init__(self, **limits):
            super().__init__(None, **limits)
            self.may_write = asyncio.Event()
            self.is_asked = asyncio.Event()
            self.writes = 0

        async def write(self, owner, changes, now):
            self.writes += 1
            if self.writes == 2:
                self.is_asked.set()
                await self.may_write.wait()
            await super().write(owner, changes, now)

    async def test():
        async with Talk(streamed("one"), store=False) as talk:
            talk.store = Held(max_age_seconds=1e9, max_bytes=1 << 30)
            talk.gateway = make_gateway(talk.upstream, store=talk.store)
            begun = await talk.create("a", background=True)
            live = asyncio.create_task(talk.ask("GET", f"/responses/{begun['id']}?stream=true"))
            await talk.store.is_asked.wait()
            cancelled = asyncio.create_task(talk.ask("POST", f"/responses/{begun['id']}/cancel"))
            await asyncio.sleep(0)
            talk.store.may_write.set()

            assert (await cancelled).json["status"] == "completed"
            events = responses_stream.read((await live).body)
            assert events[-1]["type"] == "response.completed"
            again = await talk.ask("GET", f"/responses/{begun['id']}?stream=true")
            assert responses_stream.read(again.body) == events

    run(test)


def test_removing_a_run_stops_it():
    async def test():
        slow = Slow()
        async with Talk(slow) as talk:
            begun = await talk.create("a", background=True)
            await slow.has_begun.wait()
            assert (await talk.ask("DELETE", f"/responses/{begun['id']}")).json["deleted"] is True
            assert slow.is_closed
            assert (await talk.ask("GET", f"/responses/{begun['id']}")).status == 404

    run(test)


def test_a_run_that_upstream_refuses_fails_with_the_reason():
    async def test():
        error = {"error": {"code": 400, "message": "Bad.", "status": "INVALID_ARGUMENT"}}
        async with Talk(Scripted.of(error, 400)) as talk:
            ended = await talk.ended((await talk.create("a", background=True))["id"])
            assert ended["status"] == "failed"
            assert ended["error"] == {"code": "invalid_prompt", "message": "Bad."}

    run(test)


def test_a_stop_of_the_gateway_ends_its_runs_and_says_so():
    async def test():
        slow = Slow()
        talk = Talk(slow)
        begun = await talk.create("a", background=True)
        await slow.has_begun.wait()
        await talk.gateway.close()
        assert slow.is_closed

        second = make_gateway(FakeUpstream([]), store=talk.store)
        talk.gateway = second
        found = (await talk.ask("GET", f"/responses/{begun['id']}")).json
        assert found["status"] == "failed"
        assert "stopped" in found["error"]["message"]
        await talk.__aexit__()

    run(test)


# --- conversations ---------------------------------------------------------------------------------------------


def test_a_conversation_grows_with_each_response_on_it():
    async def test():
        async with Talk(whole("one"), streamed("two"), whole("three")) as talk:
            items = [{"role": "user", "content": "My name is Bo"}]
            made = (await talk.ask("POST", "/conversations", {"metadata": {"a": "b"}, "items": items})).json
            assert made == {"id": made["id"], "object": "conversation", "created_at": NOW, "metadata": {"a": "b"}}

            first = await talk.create("a", conversation=made["id"])
            assert first["conversation"] == {"id": made["id"]}
            body = {"model": MODEL, "input": "b", "conversation": {"id": made["id"]}, "stream": True}
            await talk.ask("POST", "/responses", body)
            path = f"/conversations/{made['id']}/items"
            listed = (await talk.ask("GET", f"{path}?order=asc")).json["data"]
            texts = [item["content"][0]["text"] for item in listed]
            assert texts == ["My name is Bo", "a", "one", "b", "two"]

            await talk.create("c", previous_response_id=first["id"])
            told = [text for _, texts in talk.told for text in texts]
            assert told == ["My name is Bo", "a", "one", "c"]

    run(test)


def test_items_of_a_conversation_are_added_read_and_removed():
    async def test():
        async with Talk() as talk:
            made = (await talk.ask("POST", "/conversations", {})).json
            path = f"/conversations/{made['id']}/items"
            items = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
            added = (await talk.ask("POST", path, {"items": items})).json
            assert [item["content"][0]["type"] for item in added["data"]] == ["input_text", "output_text"]
            assert (added["has_more"], added["first_id"]) == (False, added["data"][0]["id"])

            one = added["data"][0]
            assert (await talk.ask("GET", f"{path}/{one['id']}")).json == one
            assert (await talk.ask("DELETE", f"{path}/{one['id']}")).json["id"] == made["id"]
            assert (await talk.ask("GET", f"{path}/{one['id']}")).status == 404
            assert (await talk.ask("GET", path)).json["data"] == added["data"][1:]

            refused = await talk.ask("POST", path, {"items": [{"type": "no such thing"}]})
            assert (refused.status, refused.json["error"]["param"]) == (400, "items[0].type")
            many = await talk.ask("POST", path, {"items": [{"role": "user", "content": "x"}] * 21})
            assert (many.status, many.json["error"]["param"]) == (400, "items")

    run(test)


def test_a_conversation_is_changed_and_removed():
    async def test():
        async with Talk(whole("one")) as talk:
            made = (await talk.ask("POST", "/conversations", {})).json
            answer = await talk.create("a", conversation=made["id"])
            changed = await talk.ask("POST", f"/conversations/{made['id']}", {"metadata": {"topic": "x"}})
            assert changed.json == {**made, "metadata": {"topic": "x"}}
            assert (await talk.ask("GET", f"/conversations/{made['id']}")).json == changed.json

            removed = await talk.ask("DELETE", f"/conversations/{made['id']}")
            assert removed.json == {"id": made["id"], "object": "conversation.deleted", "deleted": True}
            assert (await talk.ask("GET", f"/conversations/{made['id']}/items")).status == 404
            assert (await talk.create("b", conversation=made["id"]))["error"]["param"] == "conversation"
            assert (await talk.ask("GET", f"/responses/{answer['id']}")).status == 200
            gone = await talk.create("b", previous_response_id=answer["id"])
            assert gone["error"]["code"] == "previous_response_not_found"

    run(test)


def test_one_response_at_a_time_works_on_a_conversation():
    async def test():
        slow = Slow()
        async with Talk(slow, whole("two")) as talk:
            made = (await talk.ask("POST", "/conversations", {})).json
            begun = await talk.create("a", conversation=made["id"], background=True)
            await slow.has_begun.wait()
            refused = await talk.ask("POST", "/responses", {"model": MODEL, "input": "b", "conversation": made["id"]})
            assert (refused.status, refused.json["error"]["code"]) == (409, "conversation_locked")

            slow.go.set()
            await talk.ended(begun["id"])
            while begun["id"] in {key[1] for key in talk.gateway._resources._runs}:
                await asyncio.sleep(0)
            await talk.create("b", conversation=made["id"])
            assert [text for _, texts in talk.told for text in texts] == ["a", "first last", "b"]

    run(test)


# --- compaction and counting -----------------------------------------------------------------------------------


def test_compact_keeps_the_users_words_and_sums_up_the_rest():
    async def test():
        async with Talk(whole("one"), whole("The user likes sums."), whole("two")) as talk:
            first = await talk.create("a")
            body = {"model": MODEL, "previous_response_id": first["id"], "input": "b", "instructions": "Be brief"}
            compact = (await talk.ask("POST", "/responses/compact", body)).json

            assert "summary" in talk.told[-1][1][-1]
            assert compact["object"] == "response.compaction"
            assert compact["usage"]["total_tokens"] == 5
            *kept, compaction = compact["output"]
            assert [item["content"][0]["text"] for item in kept] == ["a", "b"]
            assert compaction["type"] == "compaction"

            await talk.create([*compact["output"], {"role": "user", "content": "c"}])
            assert talk.told == [("user", ["a", "b", "The user likes sums.", "c"])]

    run(test)


def test_a_compaction_trigger_is_answered_with_one_compaction_item():
    async def test():
        body = {
            "model": MODEL,
            "stream": True,
            "input": [{"role": "user", "content": "a"}, {"type": "compaction_trigger"}],
            "tools": [{"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}],
        }
        async with Talk(streamed("All is said."), whole("x")) as talk:
            reply = await talk.ask("POST", "/responses", body)
            events = responses_stream.read(reply.body)
            assert [event["type"] for event in events[2:]] == [
                "response.output_item.added",
                "response.output_item.done",
                "response.completed",
            ]
            (item,) = events[-1]["response"]["output"]
            assert item == events[3]["item"]
            assert item["type"] == "compaction"
            sent = talk.upstream.bodies[-1]
            assert sent["toolConfig"]["functionCallingConfig"]["mode"] == "NONE"

            body["input"] += [{"role": "user", "content": "after"}]
            refused = await talk.ask("POST", "/responses", body)
            assert (refused.status, refused.json["error"]["param"]) == (400, "input[2]")

    run(test)


def test_input_tokens_are_counted_by_upstream_with_all_that_a_request_would_send():
    async def test():
        async with Talk(whole("one"), Scripted.of({"totalTokens": 42})) as talk:
            first = await talk.create("a")
            body = {"model": MODEL, "input": "b", "instructions": "Be brief", "previous_response_id": first["id"]}
            counted = await talk.ask("POST", "/responses/input_tokens", body)

            assert counted.json == {"object": "response.input_tokens", "input_tokens": 42}
            assert talk.upstream.calls[-1].url.endswith(f"/models/{MODEL}:countTokens")
            sent = talk.upstream.bodies[-1]["generateContentRequest"]
            assert sent["model"] == f"models/{MODEL}"
            assert len(sent["contents"]) == 3
            assert sent["systemInstruction"]["parts"] == [{"text": "Be brief"}]

    run(test)


# --- odd clients -----------------------------------------------------------------------------------------------


def test_a_responses_body_on_the_path_of_chat_is_answered_in_chats_shape_with_a_warning():
    async def test():
        async with Talk(whole("one"), streamed("one"), whole("two"), whole("three")) as talk:
            body = {"model": MODEL, "instructions": "Be brief", "input": "a"}
            reply = await talk.ask("POST", "/chat/completions", body)
            assert reply.json["choices"][0]["message"]["content"] == "one"
            assert "openai_responses" in reply.headers["x-agproxy-warnings"]
            stream = await talk.ask("POST", "/chat/completions", body | {"stream": True})
            assert b'"chat.completion.chunk"' in stream.body
            assert stream.body.endswith(b"data: [DONE]\n\n")

            reply = await talk.ask("POST", "/chat/completions/responses", body)
            assert reply.json["object"] == "response"
            chat = {"model": MODEL, "messages": [{"role": "user", "content": "a"}]}
            reply = await talk.ask("POST", "/chat/completions/responses", chat)
            assert reply.json["object"] == "chat.completion"

    run(test)


@pytest.mark.parametrize("is_on", [False, True])
def test_settings_add_what_other_clients_look_for(is_on):
    async def test():
        config = Config(keepalive_seconds=0.0, responses_done=is_on, responses_include_choices=is_on)
        async with Talk(whole("one"), streamed("two"), config=config) as talk:
            answer = await talk.create("a")
            assert ("choices" in answer) is is_on
            assert not is_on or answer["choices"][0]["message"] == {"role": "assistant", "content": "one"}
            reply = await talk.ask("POST", "/responses", {"model": MODEL, "input": "a", "stream": True})
            assert reply.body.endswith(b"data: [DONE]\n\n") is is_on

    run(test)


# --- failures --------------------------------------------------------------------------------------------------


def test_the_gateways_own_credential_trouble_is_told_in_the_stream_and_by_a_status_else():
    async def test():
        refused = [Scripted.of({"error": {"code": 403, "message": "no", "status": "PERMISSION_DENIED"}}, 403)] * 2
        async with Talk(*refused) as talk:
            reply = await talk.ask("POST", "/responses", {"model": MODEL, "input": "a", "stream": True})
            assert reply.status == 200
            failed = responses_stream.check(reply.body)
            assert failed["error"]["code"] == "invalid_prompt"
            assert "account" in failed["error"]["message"]

            reply = await talk.ask("POST", "/responses", {"model": MODEL, "input": "a"})
            assert (reply.status, reply.json["error"]["code"]) == (502, "upstream_auth")

    run(test)


def test_a_spent_day_names_no_time_to_codex():
    async def test():
        violations = [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]
        details = [
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "12s"},
            {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": violations},
        ]
        error = {"error": {"code": 429, "message": "no", "status": "RESOURCE_EXHAUSTED", "details": details}}
        config = Config(keepalive_seconds=0.0, max_wait_seconds=0.0)
        async with Talk(Scripted.of(error, 429), config=config) as talk:
            reply = await talk.ask("POST", "/responses", {"model": MODEL, "input": "a", "stream": True})
            assert (reply.status, reply.json["error"]["code"]) == (429, "insufficient_quota")
            assert "retry-after" not in reply.headers
            assert reply.headers["x-should-retry"] == "false"

    run(test)


# --- processes -------------------------------------------------------------------------------------------------


def test_what_was_kept_is_there_after_a_restart(simulator, tmp_path):
    environ = {"GEMINI_API_KEY": "k", "AGPROXY_UPSTREAM_URL": simulator.url}
    first = start("serve", home=tmp_path, **environ)
    try:
        answer = first.ask("/v1/responses", {"model": "gpt-4o", "input": "My name is Bo"}).json
        stream = first.ask("/v1/responses", {"model": "gpt-4o", "input": "again", "stream": True})
        streamed_id = responses_stream.check(stream.body)["id"]
        assert first.ask(f"/v1/responses/{streamed_id}").status == 200
        slow = first.ask(
            "/v1/responses", {"model": "gpt-4o", "input": "hello [[sim:slow=60]]", "background": True}
        ).json
    finally:
        first.process.kill()
        first.process.wait()
    assert (tmp_path / "state.sqlite3").stat().st_mode & 0o777 == 0o600

    second = start("serve", home=tmp_path, **environ)
    try:
        assert second.ask(f"/v1/responses/{answer['id']}").json == answer
        body = {"model": "gpt-4o", "input": "Who am I? [[sim:echo]]", "previous_response_id": answer["id"]}
        assert second.ask("/v1/responses", body).json["status"] == "completed"
        items = second.ask(f"/v1/responses/{answer['id']}/input_items").json["data"]
        assert items[0]["content"][0]["text"] == "My name is Bo"
        failed = second.ask(f"/v1/responses/{slow['id']}").json
        assert (failed["status"], failed["error"]["code"]) == ("failed", "server_error")
        assert second.ask(f"/v1/responses/{slow['id']}/cancel", b"").json["status"] == "failed"
    finally:
        assert second.stop() == 0


def test_a_client_that_goes_on_within_the_last_frame_finds_its_response(gateway):
    """The stream is read frame by frame; its response is asked for while the connection is still open."""
    body = {"model": "gpt-4o", "input": "hello", "stream": True}
    request = urllib.request.Request(gateway.url + "/v1/responses", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=30) as stream:
        for line in stream:
            if line.startswith(b'data: {"type":"response.completed"'):
                identifier = json.loads(line.removeprefix(b"data: "))["response"]["id"]
                assert gateway.ask(f"/v1/responses/{identifier}").status == 200
                return
    raise AssertionError("the stream had no end")
