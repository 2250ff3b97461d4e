"""Server commands of this program as child processes that end with their parent.

Owns the agreement between both: with ``--json`` the first line of the child's stdout is one JSON object with its
``address``; with ``--stop-with-parent`` the end of the child's stdin stops it as SIGTERM does. That works the same on
every operating system, and also when the parent is killed. Must not know what the commands do.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

from aisandbox_cli.errors import Failed

# Seconds until a child must be ready, and until it must have ended after it was asked to stop.
START_TIMEOUT = 60.0
STOP_TIMEOUT = 45.0


# The child's side.


def announce_ready(
    name: str,
    address: str,
    lines: Sequence[str],
    *,
    as_json: bool,
    more: Mapping[str, object] | None = None,
    does: str = "listens on",
) -> None:
    """Prints what ``name`` ``does`` at ``address``; for people ``lines``, the next steps, else ``more``."""
    if as_json:
        print(json.dumps({"address": address, "pid": os.getpid(), **(more or {})}), flush=True)
        return
    print(f"The {name} {does} {address}. Press Ctrl-C to stop it.", *lines, sep="\n", flush=True)


def stop_when_stdin_ends(stop: Callable[[], None]) -> None:
    """Calls ``stop`` on a thread of its own when stdin has ended, which happens when the parent process ends."""

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        stop()

    threading.Thread(target=wait, name="stop-with-parent", daemon=True).start()


def terminate() -> None:
    """Sends this process a SIGTERM; the handler runs at once, also while the main thread waits in a system call."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
    else:
        signal.raise_signal(signal.SIGTERM)


# The parent's side.


class Child:
    """A command of this program in a child process; ``ready`` is the JSON object on the first line of its stdout."""

    def __init__(self, arguments: Sequence[str], log_path: Path, environ: Mapping[str, str] | None = None) -> None:
        self._name = arguments[0]
        self._log_path = log_path
        self._log = log_path.open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "aisandbox_cli", *arguments, "--stop-with-parent", "--json"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, **(environ or {})},
            # Ctrl-C in the terminal goes to the parent only, which then stops its children in order.
            start_new_session=os.name == "posix",
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        self._stdout = cast("IO[bytes]", self._process.stdout)
        self.ready: dict[str, Any] = {}

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def wait_until_ready(self, timeout: float = START_TIMEOUT) -> dict[str, Any]:
        """Returns the JSON object that the child prints when it listens.

        Raises:
            Failed: the child has ended, or has printed nothing for ``timeout`` seconds.
        """
        lines: list[bytes] = []
        reader = threading.Thread(target=lambda: lines.append(self._stdout.readline()), daemon=True)
        reader.start()
        reader.join(timeout)
        try:
            self.ready = dict(json.loads(lines[0]))
        except (IndexError, ValueError):
            if lines:  # its stdout is closed: it is about to end, with the cause on stderr
                self.stop()
            raise Failed(f"{self._name} did not start: {self.log_tail()}", f"Its log: {self._log_path}") from None
        threading.Thread(target=self._discard_stdout, daemon=True).start()
        return self.ready

    def log_tail(self) -> str:
        """The last lines that the child wrote to stderr, for an error message."""
        text = self._log_path.read_text(encoding="utf-8", errors="replace").strip()
        return " / ".join(line.strip() for line in text.splitlines()[-3:]) or "it wrote no log"

    def check_alive(self) -> None:
        """Raises :class:`Failed` if the child has ended."""
        code = self._process.poll()
        if code is not None:
            raise Failed(f"{self._name} ended with exit code {code}: {self.log_tail()}", f"Its log: {self._log_path}")

    def wait(self, timeout: float) -> int:
        """Waits until the child ends by itself; returns its exit code. Raises subprocess.TimeoutExpired."""
        return self._process.wait(timeout)

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """Stops the child gracefully, and kills it after ``timeout`` seconds; idempotent."""
        if self._process.stdin and not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        finally:
            self._log.close()

    def _discard_stdout(self) -> None:
        """A full pipe would block the child."""
        for _ in self._stdout:
            pass


class Children:
    """The child processes of one command; stopped in reverse order when the context ends, also by an error."""

    def __init__(self, log_folder: Path) -> None:
        self._log_folder = log_folder
        self._children: list[Child] = []

    def start(self, *arguments: str, environ: Mapping[str, str] | None = None) -> Child:
        """Starts a command of this program; its stderr goes to ``COMMAND.log``."""
        child = Child(arguments, self._log_folder / f"{arguments[0]}.log", environ)
        self._children.append(child)
        return child

    def check_alive(self) -> None:
        """Raises :class:`Failed` if one of them has ended."""
        for child in self._children:
            child.check_alive()

    def __enter__(self) -> Self:
        """Starts nothing yet."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stops all of them; a second Ctrl-C while they stop kills them."""
        deadline = time.monotonic() + STOP_TIMEOUT
        for child in reversed(self._children):
            try:
                child.stop(max(0.0, deadline - time.monotonic()))
            except KeyboardInterrupt:
                deadline = time.monotonic()
                child.stop(0.0)
