"""A watchdog timer expires unless it is stopped, also in a forked child."""

from __future__ import annotations

import os
import threading
import time

from aisandbox_environment.watchdog import WatchdogTimer


def expires(seconds: float = 0.05, timeout: float = 60.0) -> bool:
    expired = threading.Event()
    timer = WatchdogTimer(expired.set)
    timer.start(seconds)
    return expired.wait(timeout) and timer.expired


def test_timer_expires_after_its_seconds() -> None:
    started = time.monotonic()
    assert expires(0.05)
    assert time.monotonic() - started >= 0.05


def test_stopped_timer_does_not_expire() -> None:
    calls: list[int] = []
    timer = WatchdogTimer(lambda: calls.append(1))
    timer.start(0.05)
    timer.stop()
    assert expires(0.2)  # a later timer has expired
    assert (calls, timer.expired) == ([], False)


def test_timer_expires_in_a_forked_child_too() -> None:
    assert expires()
    child = os.fork()
    if child == 0:
        os._exit(0 if expires() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
