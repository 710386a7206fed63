"""Fetching what a request names by URL: what comes of it, and everything that it must not become a way to."""

import asyncio
import base64
import contextlib
import gzip
import logging
import socket
import ssl
from dataclasses import replace

import pytest
from authority import make_certificates
from wire import peer, run, until

from agproxy import __version__
from agproxy.config import Config
from agproxy.errors import InvalidRequest, Overloaded, UpstreamFailed
from agproxy.io.addresses import is_public
from agproxy.io.fetch import Fetcher

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
PARAM = "messages[0].content[1].image_url.url"
LOOPBACK = ["127.0.0.1"]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)


class Names:
    """A resolver: what each name means, in turn where it means several things, the last one for good."""

    def __init__(self, **meanings):
        self.meanings = {name.replace("_", "."): list(answers) for name, answers in meanings.items()}
        self.asked = []

    async def __call__(self, host, port):
        self.asked.append(host)
        answers = self.meanings[host]
        return answers.pop(0) if len(answers) > 1 else answers[0]


def is_test_address(address):
    """As in earnest, but the tests' own servers, which can only be on loopback, may be reached at one address."""
    return str(address) == "127.0.0.1" or is_public(address)


@contextlib.asynccontextmanager
async def fetching(names=None, *, is_allowed=is_test_address, **settings):
    fetcher = Fetcher(
        replace(Config(), **settings), resolve=names or Names(media_test=[LOOPBACK]), is_allowed=is_allowed
    )
    try:
        yield fetcher
    finally:
        await fetcher.close()


def answer(body=PNG, *headers, status="200 OK"):
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def redirect(location, status="302 Found"):
    return answer(b"", *([] if location is None else [f"Location: {location}"]), status=status)


def answering(*answers, seen=None):
    """A script: each connection brings one request and gets the next of these answers."""
    waiting = list(answers)

    async def script(raw):
        request = await raw.request()
        if seen is not None:
            seen.append(request)
        raw.write(waiting.pop(0) if len(waiting) > 1 else waiting[0])
        await raw.is_closed()

    return script


async def never(raw):
    raise AssertionError("nobody may connect here")


async def refused(fetcher, url):
    """Why a URL is not fetched."""
    with pytest.raises(InvalidRequest) as caught:
        await fetcher.fetch(url, PARAM)
    error = caught.value
    assert (error.status, error.code, error.param) == (400, "invalid_image_url", PARAM)
    start = f"Invalid '{PARAM}': the file cannot be fetched: "
    assert error.message.startswith(start)
    return error.message.removeprefix(start)


# What is fetched


def test_a_file_comes_as_base64_with_the_type_that_its_bytes_say():
    async def main():
        async with peer(answering(answer(PNG, "Content-Type: text/html"))) as port, fetching() as fetcher:
            name, data = await fetcher.fetch(f"http://media.test:{port}/a.jpg", PARAM)
            assert name == "image/png"
            assert base64.b64decode(data, validate=True) == PNG

    run(main)


def test_the_request_says_who_asks_and_nothing_else():
    seen = []

    async def main():
        async with peer(answering(answer(), seen=seen)) as port, fetching() as fetcher:
            await fetcher.fetch(f"http://media.test:{port}/a%20b/ü.png?sig=%2B#part", PARAM)
            assert seen[0].chunks == [b"GET /a%20b/%C3%BC.png?sig=%2B HTTP/1.1"]
            assert seen[0].headers == {
                "host": f"media.test:{port}",
                "user-agent": f"agproxy/{__version__}",
                "accept": "*/*",
                "connection": "close",
                "accept-encoding": "gzip",
            }

    run(main)


@pytest.mark.parametrize("form", ["length", "chunks", "gzip", "until the end"])
def test_every_form_of_body_is_read(form):
    packed = gzip.compress(PNG)
    forms = {
        "length": answer(),
        "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(PNG), PNG),
        "gzip": answer(packed, "Content-Encoding: gzip"),
        "until the end": b"HTTP/1.1 200 OK\r\n\r\n" + PNG,
    }

    async def script(raw):
        await raw.request()
        raw.write(forms[form])
        if form != "until the end":
            await raw.is_closed()

    async def main():
        async with peer(script) as port, fetching() as fetcher:
            assert base64.b64decode((await fetcher.fetch(f"http://media.test:{port}/", PARAM))[1]) == PNG

    run(main)


def test_plain_text_is_taken_where_the_server_calls_it_so():
    async def main():
        script = answering(answer(b"a,b\n", "Content-Type: text/csv; charset=utf-8"), answer(b"a,b\n"))
        async with peer(script) as port, fetching() as fetcher:
            assert await fetcher.fetch(f"http://media.test:{port}/", PARAM) == ("text/csv", "YSxiCg==")
            assert "is no image" in await refused(fetcher, f"http://media.test:{port}/")

    run(main)


# What is refused for what it is


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (answer(b"<html><body>secret</body></html>", "Content-Type: image/png"), "it is no image"),
        (answer(b'{"token": "secret"}', "Content-Type: application/json"), "it is no image"),
        (answer(b"<svg/>", "Content-Type: text/plain"), "it is no image"),
        (answer(b""), "it is empty"),
        (answer(PNG, status="404 Not Found"), "media.test answered with status 404"),
        (answer(PNG, status="206 Partial Content"), "media.test answered with status 206"),
        (answer(PNG, status="401 Unauthorized"), "media.test answered with status 401"),
        (b"\x16\x03\x01 no HTTP\r\n\r\n", "the answer's head is not HTTP"),
        (answer(b"no gzip", "Content-Encoding: gzip"), "damaged"),
        (answer(PNG, "Content-Encoding: br"), "content coding"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n" + PNG, "closed the connection within its answer"),
    ],
)
def test_an_answer_that_is_no_file_is_refused_in_words_that_say_why(reply, why):
    async def script(raw):
        await raw.request()
        raw.write(reply)

    async def main():
        async with peer(script) as port, fetching() as fetcher:
            told = await refused(fetcher, f"http://media.test:{port}/x?sig=hidden")
            assert why in told
            assert "secret" not in told
            assert "hidden" not in told

    run(main)


def test_a_page_is_given_up_after_its_first_bytes():
    sent = []

    async def script(raw):
        await raw.request()
        raw.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n")
        while not raw.writer.transport.is_closing():
            raw.write(b"<p>" * 1000)
            sent.append(3000)
            await raw.writer.drain()
            await asyncio.sleep(0)

    async def main():
        async with peer(script) as port, fetching(fetch_max_bytes=2**40) as fetcher:
            assert "is no image" in await refused(fetcher, f"http://media.test:{port}/")

    run(main)
    assert sum(sent) < 100_000_000


# Limits


@pytest.mark.parametrize("form", ["length", "chunks", "gzip"])
def test_a_file_may_be_as_large_as_the_limit_and_no_larger(form):
    def reply(size):
        body = PNG + bytes(size - len(PNG))
        if form == "gzip":
            return answer(gzip.compress(body), "Content-Encoding: gzip")
        if form == "chunks":
            return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (size, body)
        return answer(body)

    async def main():
        async with peer(answering(reply(5000), reply(5001))) as port, fetching(fetch_max_bytes=5000) as fetcher:
            url = f"http://media.test:{port}/"
            assert len(base64.b64decode((await fetcher.fetch(url, PARAM))[1])) == 5000
            assert "over 5000 bytes" in await refused(fetcher, url)

    run(main)


def test_a_length_over_the_limit_is_refused_before_the_body_comes():
    async def script(raw):
        await raw.request()
        raw.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n")
        assert await raw.is_closed()

    async def main():
        async with peer(script) as port, fetching() as fetcher:
            assert "over 20971520 bytes" in await refused(fetcher, f"http://media.test:{port}/")

    run(main)


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\n\r\n" + PNG], ids=["silent", "drop by drop"])
def test_a_file_that_does_not_come_in_time_is_given_up_however_it_dawdles(start):
    async def script(raw):
        await raw.request()
        raw.write(start)
        while start and not raw.writer.transport.is_closing():
            raw.write(b"x")  # a sign of life for every other time-out
            await asyncio.sleep(0)
        await raw.is_closed()

    async def main():
        async with peer(script) as port, fetching(fetch_timeout_seconds=0.1) as fetcher:
            assert await refused(fetcher, f"http://media.test:{port}/") == "it did not come within 0.1 s."

    run(main)


def test_a_name_that_is_not_resolved_in_time_is_given_up():
    async def resolve(host, port):
        await asyncio.Event().wait()

    async def main():
        async with fetching(resolve, fetch_timeout_seconds=0.05) as fetcher:
            assert "within 0.05 s" in await refused(fetcher, "http://media.test/")

    run(main)


def test_only_so_many_files_are_fetched_at_once():
    open_now, most, is_full = 0, 0, asyncio.Event()

    async def script(raw):
        nonlocal open_now, most
        await raw.request()
        open_now += 1
        most = max(most, open_now)
        if open_now == 3:
            is_full.set()
        await is_full.wait()
        open_now -= 1
        raw.write(answer())
        await raw.is_closed()

    async def main():
        async with peer(script) as port, fetching(fetch_max_concurrent=3) as fetcher:
            await asyncio.gather(*(fetcher.fetch(f"http://media.test:{port}/{n}", PARAM) for n in range(9)))

    run(main)
    assert most == 3


def test_where_too_many_files_wait_the_next_one_is_told_to_come_back():
    async def script(raw):
        await asyncio.Event().wait()

    async def main():
        async with peer(script) as port, fetching(fetch_max_concurrent=1) as fetcher:
            url = f"http://media.test:{port}/"
            tasks = [asyncio.create_task(fetcher.fetch(url, PARAM)) for _ in range(21)]
            await until(lambda: fetcher._waiting == 20)
            with pytest.raises(Overloaded) as caught:
                await fetcher.fetch(url, PARAM)
            assert (caught.value.status, caught.value.retry_after_seconds) == (503, 1)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert (fetcher._waiting, fetcher._places._value) == (0, 1)

    run(main)


def test_a_client_that_goes_away_ends_its_fetch():
    closed = asyncio.Event()

    async def script(raw):
        await raw.request()
        assert await raw.is_closed()
        closed.set()

    async def main():
        async with peer(script) as port, fetching(fetch_max_concurrent=1) as fetcher:
            task = asyncio.create_task(fetcher.fetch(f"http://media.test:{port}/", PARAM))
            await until(lambda: fetcher._direct._connections)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await closed.wait()
            assert fetcher._places._value == 1

    run(main)


def test_after_closing_nothing_is_fetched_and_that_is_not_the_clients_fault():
    async def main():
        async with fetching() as fetcher:
            await fetcher.close()
            with pytest.raises(UpstreamFailed) as caught:
                await fetcher.fetch("http://media.test:8080/", PARAM)
            assert caught.value.status == 503

    run(main)


# Which addresses


def test_a_name_is_resolved_once_and_the_connection_goes_to_what_was_judged():
    """A name that means something else at the second look-up has no second look-up."""
    names = Names(media_test=[LOOPBACK, ["169.254.169.254"]])

    async def main():
        async with peer(answering(answer())) as port, fetching(names) as fetcher:
            await fetcher.fetch(f"http://media.test:{port}/", PARAM)

    run(main)
    assert names.asked == ["media.test"]


@pytest.mark.parametrize(
    "bad",
    ["10.0.0.1", "169.254.169.254", "127.0.0.2", "::1", "::ffff:127.0.0.2", "64:ff9b::a00:1", "fd00::1", "fe80::1%lo"],
)
def test_one_address_that_is_not_public_is_enough_to_refuse_a_name(bad):
    names = Names(media_test=[[*LOOPBACK, bad]], other_test=[[bad, *LOOPBACK]])

    async def main():
        async with peer(never) as port, fetching(names) as fetcher:
            for host in ("media.test", "other.test"):
                told = await refused(fetcher, f"http://{host}:{port}/")
                assert told == f"{host} is not a public host."
                assert bad not in told

    run(main)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "127.0.0.1.", "１２７.0.0.1", "0.0.0.0", "0"),
        *("[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]"),
        *("[2002:7f00:1::]", "[fe80::1]", "[fc00::1]", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254"),
        *("localhost", "LOCALHOST.", "x.localhost", "100.64.0.1", "[ff02::1]", "224.0.0.1", "255.255.255.255"),
    ],
)
def test_by_default_nothing_on_this_machine_or_its_network_is_reached_in_any_notation(host):
    async def main():
        async with peer(never) as port, fetching(Names(), is_allowed=is_public) as fetcher:
            assert await refused(fetcher, f"http://{host}:{port}/")

    run(main)


def test_the_systems_own_resolver_is_judged_too(monkeypatch):
    """`localhost` under a name that does not say so."""

    monkeypatch.setattr(socket, "getaddrinfo", lambda host, port, **more: [(2, 1, 6, "", ("127.0.0.1", port))])

    async def main():
        fetcher = Fetcher(Config())
        try:
            async with peer(never) as port:
                assert await refused(fetcher, f"http://rebound.test:{port}/") == "rebound.test is not a public host."
        finally:
            await fetcher.close()

    run(main)


@pytest.mark.parametrize("meaning", [[], ["nonsense"]])
def test_a_name_without_an_address_is_told(meaning):
    async def main():
        async with fetching(Names(media_test=[meaning])) as fetcher:
            assert await refused(fetcher, "http://media.test/") == "media.test has no address."

    run(main)


def test_a_name_that_nobody_knows_is_told():
    async def resolve(host, port):
        raise socket.gaierror(-2, "Name or service not known")

    async def main():
        async with fetching(resolve) as fetcher:
            assert "media.test: the host name cannot be resolved" in await refused(fetcher, "http://media.test/")

    run(main)


def test_a_server_that_does_not_answer_is_told():
    async def main():
        async with peer(never) as port:
            pass
        async with fetching() as fetcher:
            assert f"media.test:{port}: cannot connect" in await refused(fetcher, f"http://media.test:{port}/")

    run(main)


@pytest.mark.parametrize(
    "url",
    [
        *(
            "file:///etc/passwd",
            "/etc/passwd",
            "ftp://media.test/",
            "gopher://media.test/",
            "data:image/png;base64,aGk=",
        ),
        *("http://user:secret@media.test/", "http://media.test:22/", "http://media.test\r\nx: y/", "http://"),
    ],
)
def test_what_is_no_plain_url_is_refused_and_not_repeated(url):
    async def main():
        async with fetching() as fetcher:
            assert "secret" not in await refused(fetcher, url)

    run(main)


def test_hosts_of_ones_own_network_may_be_allowed_by_name_but_not_the_machine_itself():
    """Which addresses the dialler is given is asked of the resolver: there is no private network to connect to here."""
    names = Names(
        nas_lan=[["192.168.1.5"]], other_lan=[["192.168.1.5"]], sly_lan=[["127.0.0.1"]], cloud_lan=[["169.254.169.254"]]
    )
    allowed = ("NAS.lan.", "sly.lan", "cloud.lan", "10.0.0.7")

    async def main():
        async with fetching(names, is_allowed=is_public, fetch_private_hosts=allowed) as fetcher:
            found = [address for _, address in await fetcher._checked_addresses("nas.lan", 80)]
            assert found == [("192.168.1.5", 80)]
            assert [address for _, address in await fetcher._checked_addresses("10.0.0.7", 80)] == [("10.0.0.7", 80)]
            for host in ("other.lan", "sly.lan", "cloud.lan", "10.0.0.8", "127.0.0.1"):
                assert await refused(fetcher, f"http://{host}/") == f"{host} is not a public host."

    run(main)


def test_of_several_addresses_the_one_that_answers_is_used():
    names = Names(media_test=[["127.0.0.9", "::ffff:127.0.0.1"]])

    async def main():
        async with (
            peer(answering(answer())) as port,
            fetching(names, is_allowed=lambda address: address.is_loopback) as fetcher,
        ):
            assert (await fetcher.fetch(f"http://media.test:{port}/", PARAM))[0] == "image/png"

    run(main)


# Redirects


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_a_redirect_is_followed_without_taking_anything_along(status):
    seen = []
    names = Names(media_test=[LOOPBACK], other_test=[LOOPBACK])

    async def main():
        async with peer(answering(answer(), seen=seen)) as other:
            hop = answer(b"moved", f"Location: http://other.test:{other}/b?x", "Set-Cookie: a=b", status=status)
            async with peer(answering(hop)) as port, fetching(names) as fetcher:
                assert (await fetcher.fetch(f"http://media.test:{port}/a?sig=1", PARAM))[0] == "image/png"
            assert seen[0].chunks == [b"GET /b?x HTTP/1.1"]
            assert set(seen[0].headers) == {"host", "user-agent", "accept", "connection", "accept-encoding"}
            assert names.asked == ["media.test", "other.test"]

    run(main)


def test_a_relative_redirect_stays_with_its_host():
    seen = []

    async def main():
        script = answering(redirect("../c/d.png?y"), answer(), seen=seen)
        async with peer(script) as port, fetching() as fetcher:
            await fetcher.fetch(f"http://media.test:{port}/a/b", PARAM)
            assert seen[1].chunks == [b"GET /c/d.png?y HTTP/1.1"]

    run(main)


def test_three_redirects_are_followed_and_a_fourth_is_not():
    hops = [redirect(f"/{n}") for n in range(1, 5)]

    async def main():
        async with peer(answering(*hops[:3], answer())) as port, fetching() as fetcher:
            await fetcher.fetch(f"http://media.test:{port}/", PARAM)
        async with peer(answering(*hops, answer())) as port, fetching() as fetcher:
            assert "more than 3 times" in await refused(fetcher, f"http://media.test:{port}/")

    run(main)


@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("http://127.0.0.2/latest", "is not a public host"),
        ("http://169.254.169.254/latest/meta-data/", "is not a public host"),
        ("//[::1]:8080/", "is not a public host"),
        ("http://inner.test:8080/", "inner.test is not a public host"),
        ("http://localhost/", "its host is the gateway itself"),
        ("file:///etc/passwd", "only http and https"),
        ("http://u:secret@media.test/", "user names"),
        ("http://media.test:25/", "port 25"),
        ("http://[", "no URL"),
        ("\xff", "no URL"),
        (None, "to nowhere"),
    ],
)
def test_where_a_redirect_leads_is_judged_anew(location, why):
    names = Names(media_test=[LOOPBACK], inner_test=[["10.0.0.1"]])

    async def script(raw):
        await raw.request()
        place = b"" if location is None else b"Location: " + location.encode("latin-1") + b"\r\n"
        raw.write(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n" + place + b"\r\n")
        await raw.is_closed()

    async def main():
        async with peer(script) as port, fetching(names) as fetcher:
            told = await refused(fetcher, f"http://media.test:{port}/")
            assert why in told
            assert "secret" not in told

    run(main)


# TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A throw-away authority and a certificate for media.test."""
    return make_certificates(tmp_path_factory.mktemp("certificates"), "media.test")


@pytest.fixture
def server_tls(certificates):
    """The server's side, which keeps the names that it was asked for."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    context.asked = []
    context.sni_callback = lambda connection, name, _: context.asked.append(name)
    return context


def test_https_asks_for_the_name_and_verifies_it_though_the_connection_goes_to_an_address(certificates, server_tls):
    names = Names(media_test=[LOOPBACK], other_test=[LOOPBACK])
    trusted = str(certificates / "ca.pem")

    async def main():
        async with peer(answering(answer()), ssl=server_tls) as port, fetching(names, ca_file=trusted) as fetcher:
            assert (await fetcher.fetch(f"https://media.test:{port}/", PARAM))[0] == "image/png"
            assert server_tls.asked == ["media.test"]
            told = await refused(fetcher, f"https://other.test:{port}/")
            assert "its TLS certificate is not trusted" in told
            assert "127.0.0.1" not in told

    run(main)


def test_no_redirect_leads_from_https_to_http(certificates, server_tls):
    async def main():
        async with peer(never) as plain:
            script = answering(redirect(f"http://media.test:{plain}/"))
            async with (
                peer(script, ssl=server_tls) as port,
                fetching(ca_file=str(certificates / "ca.pem")) as fetcher,
            ):
                assert "from https to http" in await refused(fetcher, f"https://media.test:{port}/")

    run(main)


# Proxies


@pytest.mark.parametrize("by", ["setting", "environment"])
def test_behind_a_proxy_nothing_is_fetched_unless_a_setting_says_so(by, monkeypatch):
    names = Names(media_test=[LOOPBACK])

    async def main():
        async with peer(never) as proxy:
            settings = {"upstream_proxy": f"http://127.0.0.1:{proxy}"} if by == "setting" else {}
            if by == "environment":
                monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy}")
            async with fetching(names, **settings) as fetcher:
                assert "needs the setting fetch_through_proxy" in await refused(fetcher, "http://media.test/")

    run(main)
    assert names.asked == []


def test_with_the_setting_the_proxy_is_given_the_name():
    seen = []
    names = Names()

    async def main():
        async with peer(answering(answer(), seen=seen)) as port:
            proxy = f"http://user:secret@127.0.0.1:{port}"
            async with fetching(names, upstream_proxy=proxy, fetch_through_proxy=True) as fetcher:
                assert (await fetcher.fetch("http://media.test/a.png", PARAM))[0] == "image/png"

    run(main)
    assert seen[0].chunks == [b"GET http://media.test/a.png HTTP/1.1"]
    assert names.asked == []


@pytest.mark.parametrize("host", ["10.0.0.1", "2130706433", "[::ffff:10.0.0.1]", "169.254.169.254", "x.localhost"])
def test_through_a_proxy_too_no_private_address_is_asked_for(host):
    async def main():
        async with peer(never) as proxy:
            settings = {"upstream_proxy": f"http://127.0.0.1:{proxy}", "fetch_through_proxy": True}
            async with fetching(Names(), is_allowed=is_public, **settings) as fetcher:
                assert await refused(fetcher, f"http://{host}/")

    run(main)


def test_what_is_wrong_with_the_proxy_is_not_the_clients_to_know():
    async def main():
        async with peer(never) as port:
            pass
        proxy = f"http://user:secret@127.0.0.1:{port}"
        async with fetching(Names(), upstream_proxy=proxy, fetch_through_proxy=True) as fetcher:
            told = await refused(fetcher, "http://media.test/")
            assert told == "media.test could not be reached through the gateway's proxy."

    run(main)


# The files of one request


def test_each_url_of_a_request_is_fetched_once_and_the_answers_keep_their_order():
    seen = []

    async def script(raw):
        request = await raw.request()
        seen.append(request.chunks[0])
        raw.write(answer(b"GIF89a" if b"/b" in request.chunks[0] else PNG))
        await raw.is_closed()

    async def main():
        async with peer(script) as port, fetching() as fetcher:
            a, b = f"http://media.test:{port}/a", f"http://media.test:{port}/b"
            found = await fetcher.fetch_all([(a, "x"), (b, "y"), (a, "z")])
            assert [name for name, _ in found] == ["image/png", "image/gif", "image/png"]
            assert await fetcher.fetch_all([]) == []

    run(main)
    assert sorted(seen) == [b"GET /a HTTP/1.1", b"GET /b HTTP/1.1"]


def test_the_first_file_that_fails_ends_the_others_and_is_named():
    ended = asyncio.Event()

    async def script(raw):
        request = await raw.request()
        if b"/slow" in request.chunks[0]:
            assert await raw.is_closed()
            ended.set()
        else:
            raw.write(answer(status="404 Not Found"))
            await raw.is_closed()

    async def main():
        async with peer(script) as port, fetching(fetch_timeout_seconds=1000.0) as fetcher:
            base = f"http://media.test:{port}"
            with pytest.raises(InvalidRequest) as caught:
                await fetcher.fetch_all([(f"{base}/slow", "messages[0]"), (f"{base}/gone", "messages[1]")])
            assert caught.value.param == "messages[1]"
            await ended.wait()

    run(main)


def test_the_files_of_a_request_are_bounded_in_number_and_in_all():
    async def main():
        async with peer(answering(answer())) as port:
            wanted = [(f"http://media.test:{port}/{n}", f"messages[{n}]") for n in range(4)]
            async with fetching(fetch_max_files=3) as fetcher:
                with pytest.raises(InvalidRequest, match="may name 3 files") as caught:
                    await fetcher.fetch_all(wanted)
                assert (caught.value.param, caught.value.code) == ("messages[3]", "invalid_image_url")
                assert len(await fetcher.fetch_all(wanted[:3])) == 3
            async with fetching(max_body_bytes=3 * len(PNG)) as fetcher:
                assert len(await fetcher.fetch_all(wanted[:3])) == 3
                with pytest.raises(InvalidRequest, match="with the other files of the request it is too large"):
                    await fetcher.fetch_all(wanted)

    run(main)


def test_one_request_does_not_take_all_places():
    open_now = []

    async def script(raw):
        open_now.append(await raw.request())
        await raw.is_closed()

    async def main():
        async with peer(script) as port, fetching(fetch_max_concurrent=4) as fetcher:
            wanted = [(f"http://media.test:{port}/{n}", "x") for n in range(9)]
            task = asyncio.create_task(fetcher.fetch_all(wanted))
            await until(lambda: len(open_now) == 2)
            assert fetcher._places._value == 2
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert fetcher._places._value == 4

    run(main)


# Logs


def test_the_log_tells_that_a_file_came_and_nothing_of_it(caplog):
    caplog.set_level(logging.DEBUG, logger="agproxy")

    async def main():
        async with peer(answering(answer(), answer(b"secret"))) as port, fetching() as fetcher:
            await fetcher.fetch(f"http://media.test:{port}/private.png?sig=hidden", PARAM)
            await refused(fetcher, f"http://media.test:{port}/private.png?sig=hidden")

    run(main)
    assert f"fetched a file: image/png, {len(PNG)} bytes" in caplog.text
    for word in ("secret", "hidden", "private", "iVBOR"):
        assert word not in caplog.text
