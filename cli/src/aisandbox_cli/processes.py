"""Child processes that live no longer than this one.

Owns starting a command of this program as a process, waiting until it says that it is ready, and ending it. A child is
ended by closing its stdin (see :mod:`aisandbox_cli.readiness`): that works the same on every system, and also when this
process is killed. Must not know what the commands do.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

from aisandbox_cli.errors import Failed

# Seconds a child may take to say that it is ready, and to end after it was asked to.
START_TIMEOUT = 60.0
STOP_TIMEOUT = 45.0


class Child:
    """A command of this program as a process; ``ready`` is the JSON object that it printed on its first line."""

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
            # Ctrl-C in the terminal is for this process, which ends its children in order.
            start_new_session=os.name == "posix",
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        self._stdout = cast("IO[bytes]", self._process.stdout)
        self.ready: dict[str, Any] = {}

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def wait_until_ready(self, timeout: float = START_TIMEOUT) -> dict[str, Any]:
        """Returns what the child says of itself once it serves.

        Raises:
            Failed: it has ended, or has said nothing for ``timeout`` seconds.
        """
        lines: list[bytes] = []
        reader = threading.Thread(target=lambda: lines.append(self._stdout.readline()), daemon=True)
        reader.start()
        reader.join(timeout)
        try:
            self.ready = dict(json.loads(lines[0]))
        except (IndexError, ValueError):
            if lines:  # its stdout is closed: it is about to end, and says why on stderr
                self.stop()
            raise Failed(f"{self._name} did not start: {self.last_words()}", f"Its log: {self._log_path}") from None
        threading.Thread(target=self._drain, daemon=True).start()
        return self.ready

    def last_words(self) -> str:
        """The end of what the child wrote to stderr, for an error message."""
        text = self._log_path.read_text(encoding="utf-8", errors="replace").strip()
        return " / ".join(line.strip() for line in text.splitlines()[-3:]) or "it says nothing"

    def check_alive(self) -> None:
        """Raises :class:`Failed` if the child has ended by itself."""
        code = self._process.poll()
        if code is not None:
            raise Failed(f"{self._name} ended with {code}: {self.last_words()}", f"Its log: {self._log_path}")

    def wait(self, timeout: float) -> int:
        """Waits for the child to end by itself; its exit code. Raises subprocess.TimeoutExpired."""
        return self._process.wait(timeout)

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """Ends the child in good order, or by force after ``timeout`` seconds; again does nothing."""
        if self._process.stdin and not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        finally:
            self._log.close()

    def _drain(self) -> None:
        """A full pipe would stop the child."""
        for _ in self._stdout:
            pass


class Children:
    """The children of one command, ended in reverse order when the context is left in whatever way."""

    def __init__(self, log_folder: Path) -> None:
        self._log_folder = log_folder
        self._children: list[Child] = []

    def start(self, *arguments: str, environ: Mapping[str, str] | None = None) -> Child:
        """Starts a command of this program; its stderr goes to ``COMMAND.log``."""
        child = Child(arguments, self._log_folder / f"{arguments[0]}.log", environ)
        self._children.append(child)
        return child

    def check_alive(self) -> None:
        """Raises :class:`Failed` if one has ended by itself."""
        for child in self._children:
            child.check_alive()

    def __enter__(self) -> Self:
        """Nothing is started yet."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Ends them all; a second Ctrl-C while they end hastens it."""
        deadline = time.monotonic() + STOP_TIMEOUT
        for child in reversed(self._children):
            try:
                child.stop(max(0.0, deadline - time.monotonic()))
            except KeyboardInterrupt:
                deadline = time.monotonic()
                child.stop(0.0)
