"""A page in a real browser without a window, steered by the Chrome DevTools Protocol.

Finds a Chromium of the machine. Must not know what is on a page.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from waiting import wait_until

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
"""The path of a browser, or None if the machine has none."""

# Root may not use Chromium's sandbox, and containers have a small /dev/shm.
_ARGUMENTS = ("--headless", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--remote-debugging-port=0")


class Page:
    """An open page. ``errors`` are its uncaught exceptions."""

    def __init__(self, run: Callable[[Coroutine[Any, Any, Any]], Any], socket: aiohttp.ClientWebSocketResponse) -> None:
        self._run = run
        self._socket = socket
        self._numbers = itertools.count(1)
        self.errors: list[str] = []

    def open(self, url: str) -> None:
        """Loads ``url`` in place of what the page shows."""
        self.errors.clear()
        self.call("Page.navigate", url="about:blank")  # the same address again would not be loaded
        self.wait_for("location.href === 'about:blank'")
        self.call("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of a method of the protocol."""
        number = next(self._numbers)
        self._run(self._socket.send_json({"id": number, "method": method, "params": params}))
        while True:
            message = self._run(self._socket.receive_json(timeout=60))
            if message.get("method") == "Runtime.exceptionThrown":
                self.errors.append(str(message["params"]["exceptionDetails"]))
            elif message.get("id") == number:
                assert "error" not in message, message
                return dict(message["result"])

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait_for(self, expression: str, *, seconds: float = 60) -> Any:
        """The value of the expression once it is true; fails the test with what the page shows instead."""
        seen = wait_until(
            lambda: (self.evaluate(expression), self.evaluate("document.body.innerText"), self.errors),
            lambda seen: seen[0],
            seconds=seconds,
            every=0.1,
        )
        return seen[0]

    def screenshot(self, path: Path) -> None:
        """Writes a picture of the page."""
        picture = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(picture["data"]))


@contextmanager
def started_browser(folder: Path) -> Iterator[Page]:
    """An empty page of a browser of its own, whose files are in ``folder``; ends the browser with the context.

    Skips the test if the machine has no browser.
    """
    if BROWSER is None:
        pytest.skip(f"needs a browser, one of {', '.join(NAMES)}")
    command = [BROWSER, *_ARGUMENTS, f"--user-data-dir={folder}", "about:blank"]
    quiet = subprocess.DEVNULL
    # A group of its own: what is on the PATH may be a script, whose end the browser would survive.
    process = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
    chosen = folder / "DevToolsActivePort"
    try:
        port = wait_until(lambda: chosen.read_text().split() if chosen.exists() else [], every=0.05)[0]
        with asyncio.Runner() as runner:
            session, socket = runner.run(_connect(f"http://127.0.0.1:{port}/json/new"))
            try:
                page = Page(runner.run, socket)
                page.call("Runtime.enable")
                yield page
            finally:
                runner.run(session.close())
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


async def _connect(new_page: str) -> tuple[aiohttp.ClientSession, aiohttp.ClientWebSocketResponse]:
    """A connection to a new page."""
    session = aiohttp.ClientSession()
    async with session.put(new_page) as response:
        address = (await response.json(content_type=None))["webSocketDebuggerUrl"]
    return session, await session.ws_connect(address, max_msg_size=0)
