"""Ends waits that last too long.

One thread a process looks at all waits ten times a second, so that a wait costs its owner two assignments and no
thread, timer or system call of its own: that matters thousands of times a second. Must not know gRPC.
"""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections.abc import Callable

_PERIOD = 0.1


class Wait:
    """Something that is waited for. ``until`` is a time.monotonic() second, infinite while nothing is awaited.

    When it has passed, ``expired`` turns true and ``on_expiry`` is called once, on the watchdog's thread.
    """

    def __init__(self, on_expiry: Callable[[], None]) -> None:
        self.until = math.inf
        self.expired = False
        self._on_expiry = on_expiry
        _watch(self)

    def within(self, seconds: float) -> None:
        """What is awaited must be there within ``seconds``."""
        self.until = time.monotonic() + seconds

    def over(self) -> None:
        """It is there."""
        self.until = math.inf

    def expire(self) -> None:
        """Called by the watchdog."""
        self.until = math.inf
        self.expired = True
        self._on_expiry()


_waits: weakref.WeakSet[Wait] = weakref.WeakSet()
_lock = threading.Lock()
_running_in = 0


def _watch(wait: Wait) -> None:
    global _running_in, _waits, _lock
    if _running_in != os.getpid():
        # In a forked child the thread is gone, and the lock may be held by a thread that is gone as well.
        _waits, _lock, _running_in = weakref.WeakSet(), threading.Lock(), os.getpid()
        threading.Thread(target=_run, name="simulator-watchdog", daemon=True).start()
    with _lock:
        _waits.add(wait)


def _run() -> None:
    while True:
        time.sleep(_PERIOD)
        now = time.monotonic()
        with _lock:
            overdue = [wait for wait in _waits if wait.until < now]
        for wait in overdue:
            wait.expire()
