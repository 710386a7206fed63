"""URLs in a request: fetched, passed on or refused, as the setting and the accounts have it."""

import asyncio

import pytest

from agproxy.account import VERTEX, Account, Endpoint
from agproxy.conversation import Media, Request, Role, Text, ToolCall, ToolResult, Turn
from agproxy.errors import InvalidRequest
from agproxy.media import names_urls, with_media

PHOTO = Media(mime_type=None, uri="https://photos.example/a.png?sig=1", detail="high", param="messages[0].content[1]")
SCAN = Media(mime_type=None, uri="http://photos.example/b", param="messages[2].content[0]")
VIDEO = Media(mime_type=None, uri="https://www.youtube.com/watch?v=1", param="v")
STORED = Media(mime_type=None, uri="gs://bucket/c.PDF", param="g")
GEMINI = [Account(id="a", key="k")]


def request(*parts):
    result = ToolResult(call_id="c", name="look", content=(Text(text="see"), SCAN))
    turns = (
        Turn(role=Role.USER, parts=(Text(text="look"), *parts)),
        Turn(role=Role.MODEL, parts=(ToolCall(id="c", name="look", arguments="{}"),)),
        Turn(role=Role.USER, parts=(result,)),
    )
    return Request(model="m", turns=turns)


def settle(given, setting="fetch", accounts=GEMINI, fetch=None, max_bytes=10_000):
    asked = []

    async def fetch_all(wanted):
        asked.extend(wanted)
        return [("image/png", f"data of {url}") for url, _ in wanted]

    found = asyncio.run(with_media(given, setting, accounts, fetch or fetch_all, max_bytes=max_bytes))
    return found, asked


def test_foreign_urls_are_fetched_and_stand_in_their_places():
    found, asked = settle(request(PHOTO, VIDEO, STORED))

    assert asked == [(PHOTO.uri, PHOTO.param), (SCAN.uri, SCAN.param)]
    _, photo, video, stored = found.turns[0].parts
    assert (photo.data, photo.mime_type, photo.uri, photo.detail) == (f"data of {PHOTO.uri}", "image/png", None, "high")
    assert video.uri == VIDEO.uri
    assert (stored.uri, stored.mime_type) == (STORED.uri, "application/pdf")
    assert found.turns[2].parts[0].content[1].data == f"data of {SCAN.uri}"


def test_a_file_that_many_parts_name_counts_in_each_of_them():
    with pytest.raises(InvalidRequest, match="over 1000 bytes") as caught:
        settle(request(*[PHOTO] * 60), max_bytes=1000)

    assert caught.value.code == "invalid_image_url"


def test_passed_on_urls_are_told_with_the_type_of_their_ending():
    for found, asked in (
        settle(request(PHOTO), "pass"),
        settle(request(PHOTO), accounts=[Account(id="v", key="k", endpoint=Endpoint(kind=VERTEX))]),
    ):
        assert asked == []
        assert found.turns[0].parts[1].uri == PHOTO.uri
        assert found.turns[0].parts[1].mime_type == "image/png"


def test_where_one_account_cannot_fetch_for_itself_the_gateway_fetches():
    mixed = [*GEMINI, Account(id="v", key="k", endpoint=Endpoint(kind=VERTEX))]

    assert settle(request(PHOTO), accounts=mixed)[1]


def test_refused_urls_name_their_part():
    with pytest.raises(InvalidRequest) as caught:
        settle(request(PHOTO), "refuse")

    assert (caught.value.code, caught.value.param) == ("invalid_image_url", PHOTO.param)
    assert "sig=1" not in caught.value.message


@pytest.mark.parametrize("setting", ["fetch", "pass"])
def test_a_url_that_cannot_be_read_is_left_to_the_fetcher(setting):
    broken = Media(mime_type=None, uri="http://[", param="p")

    assert bool(settle(request(broken), setting)[1]) is (setting == "fetch")


def test_a_request_without_urls_is_left_alone():
    plain = Request(
        model="m", turns=(Turn(role=Role.USER, parts=(Text(text="x"), Media(mime_type="a/b", data="AA=="))),)
    )

    assert not names_urls(plain)
