"""The request to stop: set by SIGTERM, followed where the model's state is consistent.

Owns the signal handler and the rule when it may interrupt a wait. Must not know what is saved.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

from aisandbox_trainer.errors import StopRequested

T = TypeVar("T")


class Stop:
    """A flag, and a way out of a blocking wait for a simulator.

    ``interruptible`` is True only while the process waits for a reply and does nothing else: only then the signal's
    handler raises StopRequested, since a simulator that hangs must not prevent a trainer from saving in time.
    """

    __slots__ = ("_clock", "_since", "interruptible", "requested")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.requested = False
        self.interruptible = False
        self._clock = clock
        self._since = 0.0

    def install(self) -> None:
        """Handles SIGTERM and SIGINT. Main thread only."""
        signal.signal(signal.SIGTERM, self._handle)
        signal.signal(signal.SIGINT, self._handle)

    def request(self) -> None:
        """Requests a stop; a second request changes nothing."""
        if not self.requested:
            self._since = self._clock()
            self.requested = True

    def check(self) -> None:
        """Raises StopRequested if a stop is requested."""
        if self.requested:
            raise StopRequested

    def overdue(self, seconds: float) -> bool:
        """Whether a stop was requested ``seconds`` ago or longer."""
        return self.requested and self._clock() - self._since >= seconds

    def sleep(self, seconds: float) -> None:
        """Sleeps, at most until a stop is requested. Raises StopRequested then."""
        self.interruptible = True
        try:
            self.check()
            time.sleep(seconds)
        finally:
            self.interruptible = False

    def interruptibly(self, call: Callable[[], T]) -> T:
        """The result of ``call``, which only waits for a reply. Raises StopRequested as soon as a stop is requested."""
        self.interruptible = True
        try:
            self.check()
            return call()
        finally:
            self.interruptible = False

    def _handle(self, _signal: int, _frame: FrameType | None) -> None:
        self.request()
        if self.interruptible:
            self.interruptible = False
            raise StopRequested


def stop_at_end_of(descriptor: int) -> None:
    """Sends this process SIGTERM when ``descriptor`` reaches its end: its other end was held by a parent that died."""

    def watch() -> None:
        while True:
            try:
                if not os.read(descriptor, 4096):
                    break
            except OSError:
                break
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
