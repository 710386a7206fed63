"""TLS towards clients: who speaks it well, who does not, and certificates that are renewed or cannot be used."""

import asyncio
import http.client
import logging
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time

import pytest
from authority import make_certificates
from running import start
from wire import Raw, echo, run, serving, until, upload_too_much

from agproxy.config import Config, check_served
from agproxy.embed import listening
from agproxy.errors import ConfigError
from agproxy.http11 import HttpResponse
from agproxy.io.tls import server_context

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("certificates"), "localhost")


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """The same name by another authority."""
    return make_certificates(tmp_path_factory.mktemp("other"), "localhost")


@pytest.fixture
def context(folder):
    return server_context(str(folder / "server.pem"), str(folder / "server.key"))


def trusting(folder):
    return ssl.create_default_context(cafile=folder / "ca.pem")


def client_options(folder):
    return {"ssl": trusting(folder), "server_hostname": "localhost"}


def serial(port, folder):
    """Which certificate the gateway shows; None where this authority has not made it."""
    with socket.create_connection(("127.0.0.1", port), 20) as sock:
        try:
            with trusting(folder).wrap_socket(sock, server_hostname="localhost") as tls:
                return tls.getpeercert()["serialNumber"]
        except ssl.SSLCertVerificationError:
            return None


# --- exchanges


def test_requests_and_streams_go_over_tls_with_keep_alive(folder, context):
    async def handler(request, reply):
        if request.path == "/stream":
            reply.start(200, ())
            for _ in range(3):
                reply.write(b"x" * 70_000)
                await asyncio.sleep(0)
            reply.end()
        else:
            await echo(request, reply)

    async def main():
        async with serving(handler, tls=context) as served:
            raw = await served.connect(**client_options(folder))
            tls = raw.writer.get_extra_info("ssl_object")
            assert (tls.version(), tls.selected_alpn_protocol()) == ("TLSv1.3", None)
            body = bytes(300_000)
            raw.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n" + body)
            assert (await raw.answer()).body == body
            raw.write(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await raw.answer()).body == b"x" * 210_000
            assert [request.peer for request in served.requests] == ["127.0.0.1"] * 2

    run(main)


def test_a_client_that_offers_http_2_gets_http_1_1(folder, context):
    async def main():
        async with serving(tls=context) as served:
            options = client_options(folder)
            options["ssl"].set_alpn_protocols(["h2", "http/1.1"])
            raw = await served.connect(**options)
            assert raw.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"

    run(main)


def test_tls_1_1_is_refused(context):
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_a_refusal_reaches_a_client_that_still_sends(folder, context):
    async def main():
        async with serving(tls=context, max_body_bytes=1000) as served:
            client = http.client.HTTPSConnection("localhost", served.port, timeout=10, context=trusting(folder))
            await asyncio.to_thread(upload_too_much, client)

    run(main)


def test_a_client_that_does_not_read_pauses_what_the_answer_follows(folder, context):
    class Source:
        told = ""

        def pause(self):
            self.told += "p"

        def resume(self):
            self.told += "r"

    source = Source()

    async def handler(request, reply):
        reply.start(200, ())
        reply.follow(source)
        while not source.told:
            reply.write(bytes(65536))
            await asyncio.sleep(0)
        reply.end()

    async def main():
        async with serving(handler, tls=context) as served:
            raw = await served.connect(**client_options(folder))
            raw.writer.transport.pause_reading()
            raw.write(GET)
            await until(lambda: source.told)
            raw.writer.transport.resume_reading()
            assert (await raw.answer()).is_whole

    run(main)


def test_a_client_that_goes_ends_its_handler(folder, context):
    ends = []

    async def handler(request, reply):
        try:
            await asyncio.Event().wait()
        finally:
            ends.append(request.path)

    async def main():
        async with serving(handler, tls=context) as served:
            raw = await served.connect(**client_options(folder))
            raw.write(GET)
            await until(lambda: served.requests)
            await raw.close()
            await until(lambda: ends)

    run(main)


def test_an_idle_client_does_not_hold_up_the_end(folder, context):
    """It does not answer close_notify, as a pooled connection that nobody looks at."""

    async def main():
        async with serving(tls=context) as served:
            raw = await served.connect(**client_options(folder))
            raw.write(GET)
            assert (await raw.answer()).status == 200
            raw.writer.transport.pause_reading()
            loop = asyncio.get_running_loop()
            before = loop.time()
            await served.server.close(1000)
            assert loop.time() - before < 10
            raw.writer.transport.abort()

    run(main, skips_time=True)


# --- handshakes that fail


def test_a_plain_http_client_is_closed_with_one_line_in_the_log(context, caplog):
    caplog.set_level(logging.DEBUG)

    async def main():
        async with serving(tls=context) as served:
            raw = await served.connect()
            raw.write(GET)
            assert b"HTTP" not in await raw.reader.read()
            await until(lambda: not served.server._adopting)

    run(main)
    lines = [record for record in caplog.records if record.name.startswith("agproxy")]
    assert [record.getMessage() for record in lines] == ["127.0.0.1: no TLS with this client: http request"]
    assert not any(record.exc_info for record in caplog.records)


def test_a_client_that_does_not_trust_the_certificate_leaves_one_line(context, other, caplog):
    caplog.set_level(logging.INFO)

    async def main():
        async with serving(tls=context) as served:
            assert await asyncio.to_thread(serial, served.port, other) is None
            await until(lambda: caplog.records)

    run(main)
    (record,) = caplog.records
    assert "unknown ca" in record.getMessage()
    assert not record.exc_info


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00"])
def test_a_handshake_that_stalls_is_cut(context, caplog, sent):
    caplog.set_level(logging.INFO)

    async def main():
        async with serving(tls=context, header_timeout_seconds=5) as served:
            raw = await served.connect()
            raw.write(sent)
            await until(lambda: served.server._adopting)
            assert await raw.is_closed()
            assert asyncio.get_running_loop().time() >= 5
            assert not served.server._adopting

    run(main, skips_time=True)
    assert caplog.records == []


def test_a_handshake_under_way_does_not_hold_up_the_end(context):
    async def main():
        for turns in range(8):
            async with serving(tls=context, header_timeout_seconds=1000) as served:
                with socket.create_connection(("127.0.0.1", served.port), 20):
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    async with asyncio.timeout(10):
                        await served.server.close(1000)

    run(main)


def test_handshakes_under_way_count_as_connections(context):
    async def main():
        async with serving(tls=context, max_connections=1, spare_connections=1) as served:
            stalled = [await served.connect() for _ in range(2)]
            await until(lambda: len(served.server._adopting) == 2)
            assert await (await served.connect()).is_closed()
            assert len(stalled) == 2

    run(main)


# --- files


def test_the_key_may_stand_in_the_certificates_file(folder, tmp_path):
    both = tmp_path / "both.pem"
    both.write_text((folder / "server.pem").read_text() + (folder / "server.key").read_text())
    server_context(str(both), "")


def encrypted(folder, tmp_path):
    file = tmp_path / "locked.key"
    words = ["pkey", "-in", folder / "server.key", "-aes256", "-passout", "pass:secret", "-out", file]
    subprocess.run(["openssl", *words], check=True, capture_output=True)
    return file


def test_files_that_cannot_be_used_are_told(folder, other, tmp_path):
    cert, key = folder / "server.pem", folder / "server.key"
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nothing")
    for files, reason in (
        ((tmp_path / "none.pem", key), "tls_cert: .*none.pem cannot be read: No such file"),
        ((cert, tmp_path / "none.key"), "tls_key: .*none.key cannot be read: No such file"),
        (
            (cert, other / "server.key"),
            "tls_key: .*other.*server.key is not the key of the certificate in .*server.pem",
        ),
        ((nonsense, key), "tls_cert: .*nonsense.pem and .*server.key cannot be used"),
        ((cert, ""), "without tls_key must hold the key too"),
        ((cert, encrypted(folder, tmp_path)), "locked.key is encrypted"),
        ((tmp_path, key), "Is a directory"),
    ):
        with pytest.raises(ConfigError, match=reason):
            server_context(*map(str, files))
    with pytest.raises(ConfigError, match="tls_cert is not"):
        check_served(Config(tls_key=str(key)))


def test_tls_alone_lets_no_stranger_in(folder):
    """A certificate says who the server is, not who the client is."""
    with pytest.raises(ConfigError, match="no client key is asked for"):
        check_served(Config(host="0.0.0.0", tls_cert=str(folder / "server.pem"), tls_key=str(folder / "server.key")))


def test_the_unix_socket_stays_plain(folder, tmp_path):
    path = tmp_path / "agproxy.sock"
    files = {"tls_cert": str(folder / "server.pem"), "tls_key": str(folder / "server.key")}

    async def main():
        config = Config(host="127.0.0.1", port=0, simulate="on", listen_unix=str(path), **files)
        async with listening(config, ()) as running:
            assert running.urls == (f"https://127.0.0.1:{running.bound[0][1]}/v1",)
            raw = Raw(*await asyncio.open_unix_connection(path))
            raw.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await raw.answer()).status == 200
            await raw.close()

    asyncio.run(main())


# --- the command


def wait_for(condition, running, port, folder):
    """Handshakes are the clock."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "\n".join(running.lines)
        serial(port, folder)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP here")
@pytest.mark.parametrize("way", ["the files change", "SIGHUP"])
def test_a_renewed_certificate_is_taken_up_and_a_broken_one_is_not(folder, other, tmp_path, way):
    for name in ("server.pem", "server.key"):
        shutil.copy(folder / name, tmp_path / name)
    files = ("--tls-cert", str(tmp_path / "server.pem"), "--tls-key", str(tmp_path / "server.key"))
    seconds = "0.02" if way == "the files change" else "0"
    running = start("serve", *files, "--reload-seconds", seconds, "--simulate", "on", home=tmp_path)
    try:
        assert running.url.startswith("https://127.0.0.1:")
        port = int(running.url.rpartition(":")[2])
        assert serial(port, folder) is not None

        (tmp_path / "server.key").write_text("not a key")
        if way == "SIGHUP":
            os.kill(running.process.pid, signal.SIGHUP)
        wait_for(
            lambda: any("The certificate in force stays as it was" in line for line in running.lines),
            running,
            port,
            folder,
        )
        assert serial(port, folder) is not None

        for name in ("server.key", "server.pem"):
            shutil.copy(other / name, tmp_path / name)
        if way == "SIGHUP":
            os.kill(running.process.pid, signal.SIGHUP)
        wait_for(lambda: serial(port, other) is not None, running, port, folder)
    finally:
        running.stop()
    assert not any("Traceback" in line for line in running.lines)


def test_an_answer_may_be_longer_than_what_tls_sends_at_once(folder, context):
    """Connection: close, and a reader that takes its time: the end is not cut off."""

    async def handler(request, reply):
        reply.send(HttpResponse(status=200, headers=(("connection", "close"),), body=bytes(8 * 2**20)))

    async def main():
        async with serving(handler, tls=context, write_timeout_seconds=5) as served:
            raw = await served.connect(**client_options(folder))
            raw.write(GET)
            await raw.reader.readuntil(b"\r\n\r\n")
            got = 0
            while data := await raw.reader.read(65536):
                got += len(data)
                await asyncio.sleep(0.01)
            assert got == 8 * 2**20

    run(main, skips_time=True)
