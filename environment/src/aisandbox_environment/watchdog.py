"""A watchdog timer: calls a function if what is waited for takes too long.

One thread a process checks all timers ten times a second, so that starting and stopping one costs an assignment and no
thread, timer or system call: that matters thousands of times a second. Must not know gRPC.
"""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections.abc import Callable

_PERIOD_SECONDS = 0.1


class WatchdogTimer:
    """Not running until :meth:`start`. ``deadline`` is a time.monotonic() second, infinite while it is not running.

    When the deadline has passed, ``expired`` becomes true and ``on_expiry`` is called once, on the watchdog's thread.
    """

    def __init__(self, on_expiry: Callable[[], None]) -> None:
        self.deadline = math.inf
        self.expired = False
        self._on_expiry = on_expiry
        _register(self)

    def start(self, seconds: float) -> None:
        """Expire in ``seconds``, or up to a tenth of a second later, unless stopped before."""
        self.deadline = time.monotonic() + seconds

    def stop(self) -> None:
        """Do not expire."""
        self.deadline = math.inf

    def expire(self) -> None:
        """Called by the watchdog's thread."""
        self.deadline = math.inf
        self.expired = True
        self._on_expiry()


_timers: weakref.WeakSet[WatchdogTimer] = weakref.WeakSet()
_lock = threading.Lock()
_thread_pid = 0


def _register(timer: WatchdogTimer) -> None:
    global _thread_pid, _timers, _lock
    if _thread_pid != os.getpid():
        # In a forked child the thread does not exist, and a thread that does not exist may hold the lock.
        _timers, _lock, _thread_pid = weakref.WeakSet(), threading.Lock(), os.getpid()
        threading.Thread(target=_run, name="simulator-watchdog", daemon=True).start()
    with _lock:
        _timers.add(timer)


def _run() -> None:
    while True:
        time.sleep(_PERIOD_SECONDS)
        now = time.monotonic()
        with _lock:
            overdue = [timer for timer in _timers if timer.deadline < now]
        for timer in overdue:
            timer.expire()
