"""A token bucket: the rate limit of what any client can cause. Must not know what is limited."""

from __future__ import annotations

from collections.abc import Callable


class TokenBucket:
    """Allows ``rate`` calls a second in the long run and ``burst`` at once; ``clock`` is monotonic seconds."""

    __slots__ = ("_burst", "_clock", "_rate", "_tokens", "_updated")

    def __init__(self, rate: float, burst: float, clock: Callable[[], float]) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._tokens, self._updated = burst, clock()

    def take(self) -> bool:
        """Takes a token; False if there is none, and the call must not be made."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._updated) * self._rate)
        self._updated = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def bucket_of_log_lines(clock: Callable[[], float]) -> TokenBucket:
    """For lines of the log that any client can cause: ten at once, and one every ten seconds."""
    return TokenBucket(0.1, 10, clock)
