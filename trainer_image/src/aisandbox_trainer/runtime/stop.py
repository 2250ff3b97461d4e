"""The request to stop: set by SIGTERM, obeyed where the learner's state is whole.

Owns the signal handler and the rule when it may interrupt. Must not know what is saved.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

from aisandbox_trainer.errors import StopRequested


class Stop:
    """A flag, and a way out of a blocking wait for a simulator.

    ``interruptible`` is True only while nothing but a reply is awaited: then, and only then, the signal's handler
    raises StopRequested, since a simulator that hangs must not keep a trainer from saving in time.
    """

    __slots__ = ("_clock", "_since", "interruptible", "requested")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.requested = False
        self.interruptible = False
        self._clock = clock
        self._since = 0.0

    def install(self) -> None:
        """Handles SIGTERM, and SIGINT like it. Main thread only."""
        signal.signal(signal.SIGTERM, self._handle)
        signal.signal(signal.SIGINT, self._handle)

    def request(self) -> None:
        """Asks to stop; the second time changes nothing."""
        if not self.requested:
            self._since = self._clock()
            self.requested = True

    def check(self) -> None:
        """Raises StopRequested if a stop is asked for."""
        if self.requested:
            raise StopRequested

    def overdue(self, seconds: float) -> bool:
        """Whether a stop has been asked for ``seconds`` ago or longer."""
        return self.requested and self._clock() - self._since >= seconds

    def sleep(self, seconds: float) -> None:
        """Sleeps, at most until a stop is asked for. Raises StopRequested then."""
        self.interruptible = True
        try:
            self.check()
            time.sleep(seconds)
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
