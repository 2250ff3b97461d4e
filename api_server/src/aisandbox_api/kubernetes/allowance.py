"""How often something may be done: a bucket that fills at a rate and holds so much.

For calls that anybody can cause, so that nobody makes them a load on the API server.
"""

from __future__ import annotations

from collections.abc import Callable


class Allowance:
    """``a_second`` on the long run, ``at_once`` in a moment."""

    def __init__(self, a_second: float, at_once: float, clock: Callable[[], float]) -> None:
        self._a_second, self._at_once, self._clock = a_second, at_once, clock
        self._left, self._since = at_once, clock()

    def take(self) -> bool:
        """Whether it may be done now; if so, it counts."""
        now = self._clock()
        self._left = min(self._at_once, self._left + (now - self._since) * self._a_second)
        self._since = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
