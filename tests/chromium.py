"""A headless Chromium for tests, driven through the DevTools protocol over a pipe: nothing to install but Chromium."""

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_SECONDS = 25.0
# Chromium reads commands from descriptor 3 and writes answers to 4, each ended by a zero byte.
_HAND_OVER = """
import os, sys
read, write = os.dup(int(sys.argv[1])), os.dup(int(sys.argv[2]))
os.dup2(read, 3), os.dup2(write, 4)
os.set_inheritable(3, True), os.set_inheritable(4, True)
os.execvp(sys.argv[3], sys.argv[3:])
"""
_FLAGS = (
    "--headless=new", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server",
    "--disable-extensions", "--hide-scrollbars",
)  # fmt: skip


def find() -> str | None:
    """Chromium's program, if it is installed."""
    return next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )


class Chromium:
    """One browser process; each page has a profile of its own. Used with `with`."""

    def __init__(self, folder: Path) -> None:
        to_browser, to_us = os.pipe(), os.pipe()
        flags = [*_FLAGS, f"--user-data-dir={folder}", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        words = [sys.executable, "-c", _HAND_OVER, str(to_browser[0]), str(to_us[1]), str(find()), *flags]
        self._process = subprocess.Popen(
            words,
            pass_fds=(to_browser[0], to_us[1]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8"},
        )
        os.close(to_browser[0])
        os.close(to_us[1])
        self._write, self._read = to_browser[1], to_us[0]
        self._rest = b""
        self._number = 0
        self._pages: dict[str, Page] = {}

    def __enter__(self) -> "Chromium":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._write)
        os.close(self._read)

    def call(self, method: str, session: str | None = None, **params: Any) -> Any:
        """One command; its result. Events that come meanwhile go to their page."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(self._write, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + _SECONDS
        while True:
            found = self._next(end)
            if found.get("id") == number:
                assert "error" not in found, found
                return found["result"]
            if "method" in found and (page := self._pages.get(found.get("sessionId", ""))) is not None:
                page.hear(found["method"], found["params"])

    def _next(self, end: float) -> Any:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], max(end - time.monotonic(), 0.0))
            assert ready, "Chromium did not answer"
            data = os.read(self._read, 1 << 20)
            assert data, "Chromium has ended"
            self._rest += data
        text, _, self._rest = self._rest.partition(b"\0")
        return json.loads(text)

    def open(self, url: str, *, width: int = 1280, height: int = 900, is_dark: bool = False) -> "Page":
        """A new page in a profile of its own."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self._pages[session] = Page(self, session)
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.call(f"{domain}.enable")
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        page.call("Emulation.setEmulatedMedia", features=[scheme])
        page.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        page.go(url)
        return page


@dataclass
class Page:
    """requests: the URLs that it has asked for. complaints: what its console says is wrong."""

    browser: Chromium
    session: str
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def call(self, method: str, **params: Any) -> Any:
        return self.browser.call(method, self.session, **params)

    def hear(self, method: str, params: Any) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params["exceptionDetails"])[:500])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.complaints.append(json.dumps(params["args"])[:500])
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    def go(self, url: str) -> None:
        self.call("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """The value of an expression in the page; promises are waited for."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition: str, seconds: float = 15.0) -> Any:
        """Wait until an expression in the page is true; its value."""
        poll = f"""new Promise((resolve) => {{
            const end = Date.now() + {seconds * 1000};
            const look = () => {{
                let value; try {{ value = ({condition}); }} catch {{ value = null; }}
                if (value || Date.now() > end) resolve(value instanceof Node || value || null);
                else setTimeout(look, 30);
            }};
            look();
        }})"""
        value = None
        for _ in range(5):  # a page that is just being left forgets its promises
            try:
                value = self.run(poll)
                break
            except AssertionError as error:
                if "context" not in str(error) and "navigated" not in str(error):
                    raise
        assert value, f"never so: {condition}\n{self.run('document.body.innerText')}\n{self.complaints}"
        return value

    def click(self, text: str, within: str = "body") -> None:
        """Click the button, tab or label that says this."""
        find = f"""[...document.querySelectorAll({json.dumps(within)} + ' button, ' + {json.dumps(within)} + ' label')]
            .find((one) => one.textContent.trim() === {json.dumps(text)} && one.checkVisibility())"""
        self.wait(f"!!{find}")
        self.run(f"{find}.click()")

    def fill(self, selector: str, text: str) -> None:
        """Give a field a value, as by typing."""
        self.run(
            f"""(() => {{
                const one = document.querySelector({json.dumps(selector)});
                one.value = {json.dumps(text)};
                for (const name of ['input', 'change']) one.dispatchEvent(new Event(name, {{bubbles: true}}));
            }})()"""
        )

    def picture(self, file: Path) -> None:
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=False)["data"]
        file.write_bytes(base64.b64decode(data))
