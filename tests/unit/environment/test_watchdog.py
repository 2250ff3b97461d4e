"""Waits that last too long are ended, also in a forked child."""

from __future__ import annotations

import os
import threading
import time

from aisandbox_environment.watchdog import Wait


def expires(seconds: float = 0.05, within: float = 5.0) -> bool:
    ended = threading.Event()
    wait = Wait(ended.set)
    wait.within(seconds)
    return ended.wait(within) and wait.expired


def test_a_wait_that_lasts_too_long_is_ended() -> None:
    begun = time.monotonic()
    assert expires(0.05)
    assert 0.05 <= time.monotonic() - begun < 2


def test_a_wait_that_is_over_in_time_is_left_alone() -> None:
    calls: list[int] = []
    wait = Wait(lambda: calls.append(1))
    wait.within(0.05)
    wait.over()
    assert expires(0.2)
    assert (calls, wait.expired) == ([], False)


def test_waits_are_ended_in_a_forked_child_too() -> None:
    assert expires()
    child = os.fork()
    if child == 0:
        os._exit(0 if expires() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
