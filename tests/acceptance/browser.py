"""A person in headless Chromium, driven over the DevTools protocol: pages are opened, looked at, filled in and clicked."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from era_project.serve import linux
from tests.waiting import wait_until

PATIENCE_S = 60.0
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-breakpad",
    "--remote-debugging-port=0",
)  # fmt: skip


class Browser:
    """One tab."""

    def __init__(self, tab: ClientConnection) -> None:
        self._tab = tab
        self._number = 0

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of one command; events that come meanwhile are passed over."""
        self._number += 1
        self._tab.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._tab.recv(timeout=PATIENCE_S))
            if message.get("id") == self._number:
                return dict(message.get("result", {"error": message.get("error")}))

    def look(self, expression: str) -> Any:
        """The value of a JavaScript expression; None where the page that it asked is just being left."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return None if "exceptionDetails" in result else result.get("result", {}).get("value")

    def see(self, expression: str) -> Any:
        """The first true value of an expression on a page that is whole."""
        ready = f"document.readyState === 'complete' && ({expression})"
        try:
            return wait_until(lambda: self.look(ready), PATIENCE_S, f"the page shows {expression}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.look('location.href + document.body.innerText')}") from error

    def open(self, url: str, sign: str) -> None:
        """Go to an address and wait for the element that the selector ``sign`` finds there."""
        self.call("Page.navigate", url=url)
        self.see(f"location.href === {json.dumps(url)} && !!document.querySelector({json.dumps(sign)})")

    def fill(self, selector: str, value: str) -> None:
        """Give a field a value, as typing or choosing does."""
        field = f"document.querySelector({json.dumps(selector)})"
        events = "".join(f"f.dispatchEvent(new Event('{name}', {{bubbles: true}}));" for name in ("input", "change"))
        assert self.look(f"(() => {{const f = {field}; f.value = {json.dumps(value)}; {events} return true}})()"), (
            selector
        )

    def click(self, selector: str) -> None:
        """Click on what the selector finds."""
        assert self.look(f"(document.querySelector({json.dumps(selector)}).click(), true)"), selector

    def text(self) -> str:
        """What the page shows."""
        return str(self.see("document.body.innerText"))


@contextlib.contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A browser with a new profile in ``folder``; where there is none the test is skipped, and says so."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("SKIPPED, NOT TESTED: the admin in a browser: Chromium is not installed here")
    short = tempfile.mkdtemp(prefix="era-browser-")  # it makes a socket there, whose path must not be long
    process = subprocess.Popen(
        [program, *FLAGS, f"--user-data-dir={folder}", "about:blank"],
        env={**os.environ, "HOME": str(folder), "TMPDIR": short},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=linux.dying_with_parent(signal.SIGKILL),  # noqa: PLW1509
    )
    try:
        with connect(_tab(process, folder), max_size=None, open_timeout=PATIENCE_S) as tab:
            yield Browser(tab)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE_S)
        shutil.rmtree(short)


def _tab(process: subprocess.Popen[bytes], folder: Path) -> str:
    """The address of the first tab's DevTools."""
    told = folder / "DevToolsActivePort"

    def port() -> str:
        assert process.poll() is None, f"Chromium ended with {process.returncode}"
        lines = told.read_text().splitlines() if told.exists() else []
        return lines[0] if len(lines) == 2 else ""

    address = f"http://127.0.0.1:{wait_until(port, PATIENCE_S, 'Chromium listens')}/json/list"

    def tab() -> str:
        with urllib.request.urlopen(address, timeout=PATIENCE_S) as answer:
            pages = [target for target in json.load(answer) if target["type"] == "page"]
        return str(pages[0]["webSocketDebuggerUrl"]) if pages else ""

    return wait_until(tab, PATIENCE_S, "Chromium has a tab")
