"""The queue of runs to reconcile: each is in it once, however often it is added, and with one worker at a time.

Owns order, delays and backoff; it behaves as client-go's workqueue (k8s.io/client-go/util/workqueue). Must not know
what a key stands for. For one event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from random import Random

FIRST_BACKOFF_SECONDS = 0.1
LONGEST_BACKOFF_SECONDS = 30.0


class WorkQueue:
    """A queue of keys. ``random`` spreads retries; ``observe`` is called with the depth at every change."""

    def __init__(self, random: Random, observe: Callable[[int], None] = lambda depth: None) -> None:
        self._random = random
        self._observe = observe
        self._waiting: deque[str] = deque()
        self._wanted: set[str] = set()  # waiting, or added again while a worker has it
        self._in_work: set[str] = set()
        self._failures: dict[str, int] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._arrived = asyncio.Event()

    def add(self, key: str) -> None:
        """Queues the key, unless it is queued; a key that a worker has is queued again after that."""
        if key in self._wanted:
            return
        self._wanted.add(key)
        if key not in self._in_work:
            self._append(key)

    def add_after(self, key: str, seconds: float | None) -> None:
        """As :meth:`add`, after a delay, which replaces an earlier one. None only cancels that."""
        self._cancel_timer(key)
        if seconds is None:
            return
        if seconds <= 0:
            self.add(key)
        else:
            self._timers[key] = asyncio.get_running_loop().call_later(seconds, self._due, key)

    async def get(self) -> str:
        """The next key; :meth:`done` must follow."""
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        key = self._waiting.popleft()
        self._wanted.discard(key)
        self._in_work.add(key)
        self._observe(len(self._waiting))
        return key

    def done(self, key: str) -> None:
        """The worker has finished with the key."""
        self._in_work.discard(key)
        if key in self._wanted:
            self._append(key)

    def succeeded(self, key: str) -> None:
        """Resets the key's backoff."""
        self._failures.pop(key, None)

    def failed(self, key: str, at_least: float | None = None) -> float:
        """Queues the key again after its backoff, and at least after ``at_least`` seconds; returns the delay."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        longest = min(FIRST_BACKOFF_SECONDS * 2.0 ** min(failures, 20), LONGEST_BACKOFF_SECONDS)
        delay = max(longest * self._random.uniform(0.5, 1.0), min(at_least or 0.0, 2 * LONGEST_BACKOFF_SECONDS))
        self.add_after(key, delay)
        return float(delay)

    def has_timer(self, key: str) -> bool:
        """Whether the key is delayed."""
        return key in self._timers

    def __len__(self) -> int:
        return len(self._waiting)

    def _append(self, key: str) -> None:
        self._waiting.append(key)
        self._observe(len(self._waiting))
        self._arrived.set()

    def _due(self, key: str) -> None:
        self._timers.pop(key, None)
        self.add(key)

    def _cancel_timer(self, key: str) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
