"""Waits for a condition with a bound, and reports what was last seen when the time is over."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import pytest

T = TypeVar("T")


def wait_until(
    look: Callable[[], T], holds: Callable[[T], object] = bool, *, seconds: float = 60.0, every: float = 0.2
) -> T:
    """What ``look`` sees once ``holds`` is true of it; fails the test with what it saw last."""
    deadline = time.monotonic() + seconds
    while not holds(seen := look()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds:g} s; last seen: {seen}")
        time.sleep(every)
    return seen
