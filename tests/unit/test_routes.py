"""Paths as people write them, and what is said of those that lead nowhere."""

import pytest

from agproxy.errors import HttpRefused, NotFound
from agproxy.routes import Route, find_frontend, match, methods_of, segments


def route(method, pattern, frontend="chat", action="create"):
    return Route(method=method, pattern=pattern, frontend=frontend, action=action)


TABLE = (
    route("GET", "/", "gateway", "root"),
    route("GET", "/healthz", "gateway", "health"),
    route("POST", "/chat/completions"),
    route("GET", "/models", "gateway", "list"),
    route("GET", "/models/{model...}", "gateway", "get"),
    route("POST", "/responses", "responses"),
    route("GET", "/responses/{id}", "responses", "retrieve"),
    route("DELETE", "/responses/{id}", "responses", "delete"),
    route("POST", "/responses/{id}/cancel", "responses", "cancel"),
)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions",
        "/chat/completions",
        "/v1/v1/chat/completions",
        "/v1/chat/completions/",
        "//v1//chat//completions//",
        "/%76%31/chat/completions",
    ],
)
def test_a_path_means_what_it_says_however_it_is_written(path):
    found = match(TABLE, "POST", path)

    assert (found.route.pattern, found.params) == ("/chat/completions", {})


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/", "/v1/v1", ""])
def test_the_root_is_there_with_and_without_v1(path):
    assert match(TABLE, "GET", path).route.action == "root"


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v1/models/gemini-2.5-flash", "gemini-2.5-flash"),
        ("/v1/models/models/gemini-2.5-flash", "models/gemini-2.5-flash"),
        ("/v1/models/models%2Fgemini-2.5-flash", "models/gemini-2.5-flash"),
        ("/models/google%2fgemini-2.5-flash/", "google/gemini-2.5-flash"),
        ("/v1/models/a%20b%3F", "a b?"),
        ("/v1/models/%D0%BC", "м"),
        ("/v1/models/%FF", "\ufffd"),
        ("/v1/models/v1", "v1"),
        ("/v1/models/100%", "100%"),
    ],
)
def test_a_model_s_name_comes_plain_or_encoded_with_slashes_too(path, model):
    found = match(TABLE, "GET", path)

    assert (found.route.action, found.params) == ("get", {"model": model})


def test_a_list_is_not_taken_for_a_model_without_name():
    assert match(TABLE, "GET", "/v1/models/").route.action == "list"


def test_a_pattern_for_the_rest_of_a_path_wants_some_of_it():
    table = (route("GET", "/models/{model...}"),)

    assert match(table, "GET", "/models/a/b").params == {"model": "a/b"}
    with pytest.raises(NotFound):
        match(table, "GET", "/models/")


def test_a_name_within_a_path_takes_one_segment():
    assert match(TABLE, "POST", "/v1/responses/resp_1/cancel").params == {"id": "resp_1"}
    assert match(TABLE, "DELETE", "/v1/responses/resp_1").params == {"id": "resp_1"}
    assert match(TABLE, "GET", "/v1/responses/a%2Fb").params == {"id": "a/b"}
    with pytest.raises(NotFound):
        match(TABLE, "GET", "/v1/responses/a/b")


def test_head_is_served_where_get_is():
    assert match(TABLE, "HEAD", "/v1/models").route.action == "list"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/chat/completions", "OPTIONS, POST"),
        ("HEAD", "/v1/chat/completions", "OPTIONS, POST"),
        ("POST", "/v1/models", "GET, HEAD, OPTIONS"),
        ("PUT", "/v1/responses/resp_1", "DELETE, GET, HEAD, OPTIONS"),
        ("get", "/healthz", "GET, HEAD, OPTIONS"),
    ],
)
def test_another_method_is_405_and_told_which_are_allowed(method, path, allow):
    with pytest.raises(HttpRefused, match="Not allowed to") as caught:
        match(TABLE, method, path)

    assert (caught.value.status, caught.value.code) == (405, "method_not_supported")
    assert caught.value.headers == (("allow", allow),)
    assert ", ".join(methods_of(TABLE, path)) == allow


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        ("/v1/chat/completion", "/v1/chat/completions"),
        ("/v1/completions/chat", "/v1/chat/completions"),
        ("/chatcompletions", "/v1/chat/completions"),
        ("/v1/model", "/v1/models"),
        ("/v1/response", "/v1/responses"),
        ("/health", "/v1/healthz"),
    ],
)
def test_a_path_that_leads_nowhere_is_told_the_nearest_that_leads_somewhere(path, nearest):
    with pytest.raises(NotFound) as caught:
        match(TABLE, "POST", path)

    assert caught.value.status == 404
    assert f"Did you mean {nearest}?" in caught.value.message
    assert f"POST {path}" in caught.value.message


@pytest.mark.parametrize("path", ["/x", "/zzzzzzzzzzzz", "/v1/" + "q" * 60_000])
def test_a_path_near_to_none_is_told_no_nearest(path):
    with pytest.raises(NotFound) as caught:
        match(TABLE, "GET", path)

    assert "Did you mean" not in caught.value.message
    assert "/v1" in caught.value.message


def test_no_method_is_allowed_where_there_is_no_route():
    assert methods_of(TABLE, "/nowhere") == ("OPTIONS",)


def test_the_protocol_of_a_path_is_known_before_its_method_is():
    assert find_frontend(TABLE, "/v1/responses", "chat") == "responses"
    assert find_frontend(TABLE, "/v1/v1/responses/x/cancel/", "chat") == "responses"
    assert find_frontend(TABLE, "/nowhere", "chat") == "chat"


def test_only_leading_v1_segments_are_passed_over():
    assert segments("/v1/v1/models/v1/x") == ("models", "v1", "x")
    assert segments("/v1beta/models") == ("v1beta", "models")
