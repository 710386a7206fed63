"""The monitor page in a real Chromium: what a person sees, and what the browser finds wrong with it."""

import json
import signal
import sys
import threading
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import chromium
from running import start

pytestmark = pytest.mark.skipif(chromium.find() is None, reason="Chromium is not installed")

KEY = "sk-of the/owner+1"
LIVE = "document.getElementById('link').textContent === 'live'"
SLOW = "[[sim:words=60]] [[sim:delay=0.05]] "
HOSTILE = "<img src=x onerror=document.title='taken'>"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium.Chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def begin(simulator, tmp_path):
    """Starts gateways on the simulated Gemini, with two accounts of the file and one of the environment."""
    started = []

    def make(*flags, **environ):
        names = (("work", True), ("home", True))
        rows = [
            {"kind": "gemini_api_key", "label": name, "enabled": on, "secret": {"api_key": f"good-{name}"}}
            for name, on in names
        ]
        file = tmp_path / "accounts.json"
        if not file.exists():
            file.write_text(json.dumps({"version": 1, "accounts": rows}))
            file.chmod(0o600)
        usual = {"AGPROXY_UPSTREAM_URL": simulator.url, "GEMINI_API_KEY": "good-env", "AGPROXY_LOG_LEVEL": "debug"}
        started.append(start("serve", *flags, home=tmp_path, **(usual | environ)))
        return started[-1]

    yield make
    for running in started:
        running.stop()


@pytest.fixture(scope="module")
def shared(simulator, tmp_path_factory):
    """A gateway for the tests that change nothing in it."""
    environ = {
        "AGPROXY_UPSTREAM_URL": simulator.url,
        "GEMINI_API_KEY": "good",
        "AGPROXY_MODEL_MAP": "my-*=gemini-2.5-pro",
    }
    running = start("serve", home=tmp_path_factory.mktemp("shared"), **environ)
    yield running
    running.stop()


def text(page, view="main"):
    return page.run(f"document.querySelector({json.dumps(view)}).innerText")


def is_clean(page, running):
    """Nothing in the console, no policy broken, nobody else asked, the key in no URL."""
    assert page.complaints == []
    others = [
        u for u in page.requests if urlsplit(u).netloc != urlsplit(running.url).netloc and not u.startswith("data:")
    ]
    assert others == []
    assert "sk-of" not in " ".join(page.requests)
    assert "sk-of" not in "\n".join(running.lines)


def test_live_numbers_move_and_nothing_is_wrong(browser, begin):
    running = begin()
    page = browser.open(running.url + "/ui")
    page.wait(LIVE)
    assert "Nothing is under way." in text(page)
    assert "No request has failed." in text(page)

    for _ in range(3):
        assert running.chat("hello").status == 200
    assert running.ask("/v1/nowhere").status == 404
    page.wait("[...document.querySelectorAll('#overview .figure b')][1].textContent === '4'")
    page.wait("document.querySelector('#overview').innerText.includes('404')")
    page.wait("document.querySelector('#overview svg .series').getAttribute('d').includes('L')")

    call = threading.Thread(target=running.chat, args=(SLOW,), kwargs={"stream": True})
    call.start()
    page.wait("document.querySelectorAll('#overview .figure b')[0].textContent === '1'")
    page.wait("document.querySelector('#overview').innerText.includes('gpt-4o → gemini-2.5-flash')")
    running.process.send_signal(signal.SIGTERM)
    call.join()
    # The page says so, and comes back by itself with the next process on the port.
    page.wait("document.getElementById('link').textContent === 'reconnecting'")
    assert "does not answer" in text(page, "#problem")
    page.complaints.clear()
    is_clean(page, running)


def test_the_page_comes_back_when_the_server_does(browser, begin):
    first = begin()
    page = browser.open(first.url + "/ui")
    page.wait(LIVE)
    first.stop()
    page.wait("document.getElementById('link').textContent === 'reconnecting'")

    port = str(urlsplit(first.url).port)
    second = begin("--port", port)
    page.wait(LIVE, 20)

    assert second.url == first.url
    assert page.run("document.getElementById('problem').hidden")


def test_a_wrong_key_is_told_and_the_right_one_opens(browser, begin):
    running = begin(AGPROXY_ADMIN_KEY=KEY)
    page = browser.open(running.url + "/ui")
    page.wait("!document.getElementById('ask').hidden")
    assert "admin key" in text(page)
    page.fill("#key", "wrong")
    page.click("Open the monitor")
    page.wait("document.getElementById('why').textContent.includes('does not take this key')")

    page.complaints.clear()  # the browser itself notes each 401
    page.fill("#key", KEY)
    page.click("Open the monitor")
    page.wait(LIVE)
    page.wait("document.getElementById('overview').checkVisibility()")
    assert page.run("sessionStorage.getItem('agproxy.key')") == KEY
    assert page.run("localStorage.length + document.cookie.length") == 0

    page.click("Forget the key")
    page.wait("!document.getElementById('ask').hidden && document.getElementById('forget').hidden")
    page.complaints.clear()
    is_clean(page, running)


def test_the_key_of_a_link_leaves_the_address_bar_and_reaches_no_server(browser, begin):
    running = begin(AGPROXY_ADMIN_KEY=KEY)
    page = browser.open(running.url + "/ui#key=sk-of%20the%2Fowner%2B1")
    page.wait(LIVE)

    assert page.run("location.href") == running.url + "/ui#overview"
    assert page.run("history.length") <= 2
    page.click("Requests", "#tabs")
    page.click("Accounts", "#tabs")
    page.wait("document.querySelectorAll('#accounts article').length === 3")
    assert [url for url in page.requests if "key=" in url.partition("#")[0]] == []
    assert page.complaints == []
    assert "sk-of" not in "\n".join(running.lines)


def test_requests_are_filtered_and_shown_with_their_bodies_and_nothing_of_a_client_is_read_as_html(browser, begin):
    running = begin(AGPROXY_JOURNAL_BODIES="all", AGPROXY_DEFAULT_MODEL="gemini-2.5-flash")
    asked = running.chat(HOSTILE + " hello")
    identifier = asked.headers["x-request-id"]
    running.chat("other", model=HOSTILE)
    running.chat("[[sim:400]]", model="gemini-2.5-pro")
    page = browser.open(running.url + "/ui")
    page.wait(LIVE)
    page.click("Requests", "#tabs")
    page.wait("document.querySelectorAll('#requests tbody tr').length === 3")
    assert HOSTILE in text(page, "#requests")

    page.click("Errors only", "#requests")
    page.wait("document.querySelectorAll('#requests tbody tr').length === 1")
    page.click("Errors only", "#requests")
    page.fill("#requests [name=model]", "gemini-2.5-pro*")
    page.wait("document.querySelectorAll('#requests tbody tr').length === 1")
    page.fill("#requests [name=model]", "no-such-*")
    page.wait("document.querySelector('#requests').innerText.includes('No request fits these filters.')")
    page.fill("#requests [name=model]", "gpt-4o")
    page.wait("document.querySelectorAll('#requests tbody tr').length === 1")

    page.run("document.querySelector('#requests tbody button').click()")
    page.wait("document.querySelector('#detail pre')")
    shown = text(page, "#detail")
    assert identifier in shown
    for words in ("What was decided", "was chosen", "What the client sent", "Upstream request 1", "Upstream answer 1"):
        assert words in shown
    assert HOSTILE in shown
    assert "good-work" not in shown
    assert page.run("document.querySelectorAll('img').length") == 1  # the page's own
    assert page.run("document.title") == "agproxy"
    page.call("Input.dispatchKeyEvent", type="keyDown", key="Escape", code="Escape", windowsVirtualKeyCode=27)
    page.wait("!document.getElementById('detail').open")
    is_clean(page, running)


def test_accounts_are_disabled_enabled_and_tested(browser, begin, tmp_path):
    running = begin("--reload-seconds", "0.05")
    page = browser.open(running.url + "/ui#accounts")
    page.wait(LIVE)
    page.wait("document.querySelectorAll('#accounts article').length === 3")
    card = "[...document.querySelectorAll('#accounts article')].find((one) => one.innerText.startsWith('work'))"

    def press(word):
        page.run(f"[...{card}.querySelectorAll('button')].find((one) => one.textContent === '{word}').click()")

    press("Disable")
    page.wait(f"{card}.querySelector('.pill').textContent === 'disabled'")
    assert json.loads((tmp_path / "accounts.json").read_text())["accounts"][0]["enabled"] is False
    press("Enable")
    page.wait(f"{card}.querySelector('.pill').textContent === 'ready'")
    press("Test")
    page.wait(f"{card}.innerText.includes('works: ')")
    given = "[...document.querySelectorAll('#accounts article')].find((one) => one.innerText.includes('environment'))"
    assert page.run(f"[...{given}.querySelectorAll('button')].find((one) => one.textContent === 'Disable').disabled")
    assert "good-" not in text(page)
    is_clean(page, running)


def test_a_limit_is_shown_with_its_time_and_forgotten(browser, begin):
    running = begin("--max-wait-seconds", "0", GEMINI_API_KEY="")
    running.chat("[[sim:429=120]]")
    page = browser.open(running.url + "/ui#accounts")
    page.wait("document.querySelectorAll('#accounts li').length === 2")
    assert text(page, "#accounts li .mono") in ("2 m 00 s", *(f"1 m {second} s" for second in range(30, 60)))

    page.click("Forget limits", "#accounts")
    page.wait("document.querySelectorAll('#accounts li').length === 1")
    is_clean(page, running)


def test_a_name_is_explained(browser, shared):
    page = browser.open(shared.url + "/ui#models")
    page.wait("document.querySelectorAll('#models tbody tr').length > 20")
    page.fill("#models [name=name]", "my-agent")
    page.click("Explain")
    page.wait("document.querySelector('#models').innerText.includes('my-agent is gemini-2.5-pro')")
    assert "model_map: my-*" in text(page, "#models form")
    is_clean(page, shared)


@pytest.mark.parametrize("protocol", ["Chat Completions", "Responses", "Completions"])
def test_the_playground_streams(browser, shared, protocol):
    page = browser.open(shared.url + "/ui#playground")
    page.wait(LIVE)
    page.fill("#playground [name=protocol]", protocol)
    page.fill("#playground [name=text]", "[[sim:words=40]] [[sim:delay=0.02]]")
    page.click("Send")
    # Some words are there before the last is.
    seen = page.wait(
        "(/w3/.test(document.querySelector('.answer').textContent) && document.querySelector('.answer').textContent)"
    )
    assert "w40" not in seen
    page.wait("document.querySelector('.answer').textContent.includes('w40')")
    page.wait("document.querySelector('#playground [role=status]').textContent.startsWith('done')")
    assert "tokens in" in text(page, "#playground")
    page.click("As a stream")
    page.fill("#playground [name=text]", "[[sim:say=whole]]")
    page.click("Send")
    page.wait("document.querySelector('.answer').textContent === 'whole'")
    is_clean(page, shared)


def test_the_playground_asks_for_a_client_key_where_the_admin_key_is_another(browser, begin):
    running = begin(AGPROXY_ADMIN_KEY=KEY, AGPROXY_API_KEY="client-1", AGPROXY_AUTH_MODE="strict")
    page = browser.open(running.url + "/ui#key=sk-of%20the%2Fowner%2B1")
    page.wait(LIVE)
    page.click("Playground", "#tabs")
    page.wait("document.querySelector('#playground [name=client]').checkVisibility()")
    page.click("Send")
    page.wait("document.querySelector('#playground [role=status]').textContent.startsWith('401')")
    page.fill("#playground [name=client]", "client-1")
    page.click("Send")
    page.wait("document.querySelector('#playground [role=status]').textContent.startsWith('done')")


@pytest.mark.parametrize("is_dark", [False, True])
def test_no_view_scrolls_sideways_on_a_phone_and_each_is_in_the_colours_asked_for(browser, shared, is_dark):
    shared.chat("x", model="gemini-2.5-" + "long" * 50)
    page = browser.open(shared.url + "/ui", width=360, height=740, is_dark=is_dark)
    page.wait(LIVE)
    for name in ("Requests", "Accounts", "Models", "Playground", "Settings", "Overview"):
        page.click(name, "#tabs")
        page.wait(f"document.getElementById('{name.lower()}').checkVisibility()")
        assert page.run("document.documentElement.scrollWidth") <= 360, name
    ground = page.run("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground[4:-1].split(","))) < 200) == is_dark
    is_clean(page, shared)


def test_the_page_is_used_with_the_keyboard(browser, shared):
    page = browser.open(shared.url + "/ui")
    page.wait(LIVE)
    page.run("document.getElementById('tab-overview').focus()")
    page.call("Input.dispatchKeyEvent", type="keyDown", key="ArrowRight", code="ArrowRight", windowsVirtualKeyCode=39)
    page.wait("document.activeElement.id === 'tab-requests'")
    assert page.run("document.getElementById('requests').checkVisibility()")
    # Everything that acts is a button or a field, and each field has its name.
    assert page.run("document.querySelectorAll('[onclick]').length") == 0
    assert (
        page.run("[...document.querySelectorAll('input,select,textarea')].filter((one) => !one.labels.length).length")
        == 0
    )


def test_another_page_can_neither_frame_it_nor_read_through_it(browser, shared, tmp_path):
    other = tmp_path / "other.html"
    other.write_text(f"<iframe src='{shared.url}/ui'></iframe>")
    page = browser.open(other.as_uri())
    page.wait("document.readyState === 'complete'")
    read = f"fetch('{shared.url}/v1/agproxy/status').then((answer) => answer.text(), (error) => String(error))"

    assert "Failed to fetch" in page.run(read)
    assert any("frame-ancestors" in complaint for complaint in page.complaints)
    with urllib.request.urlopen(shared.url + "/ui") as answer:
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
