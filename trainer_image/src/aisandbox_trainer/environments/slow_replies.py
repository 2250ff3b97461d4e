"""A long wait for the reply of a simulator that has asked for patience, and the notice of it. Must not know replies."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from aisandbox_environment import WatchdogTimer

SLOW_SECONDS = 5.0
"""How long a reply may take before there is a notice."""

T = TypeVar("T")


class SlowReplies:
    """Waits for replies; ``say`` gets a notice while one takes longer than ``slow_seconds``, and then an empty text.

    ``longest``: the most seconds that a simulator of this run has asked for so far. Not for two threads at once.
    """

    def __init__(self, say: Callable[[str], None] = lambda _: None, slow_seconds: float = SLOW_SECONDS) -> None:
        self.longest = 0.0
        self._say = say
        self._slow_seconds = slow_seconds
        self._lock = threading.Lock()
        self._timer: WatchdogTimer | None = None
        self._asked = 0.0
        self._said = False

    def wait(self, asked: float, receive: Callable[[], T]) -> T:
        """The result of ``receive``; ``asked``: how many seconds the simulators ask for, 0: there is no notice."""
        if not asked:
            return receive()
        self.longest = max(self.longest, asked)
        timer = self._timer = self._timer or WatchdogTimer(self._reply_is_slow)
        self._asked = asked
        timer.start(self._slow_seconds)
        try:
            return receive()
        finally:
            timer.stop()
            with self._lock:  # a notice that comes later would stay
                self._asked = 0.0
                if self._said:
                    self._said = False
                    self._say("")

    def _reply_is_slow(self) -> None:
        """Called by the watchdog's thread."""
        with self._lock:
            if self._asked:
                self._said = True
                self._say(
                    f"waiting for a simulator that asks for up to {self._asked:g} s for each reply, as one does that "
                    "may be halted at a breakpoint or paused"
                )
