"""How often each peer may register: a token bucket a host, of a bounded number of hosts.

Must not know what is limited.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

_MOST_HOSTS = 4_096


class RateLimit:
    """``burst`` at once from each host, and ``per_second`` more each second. ``clock``: seconds, monotonic."""

    def __init__(self, burst: int, per_second: float, clock: Callable[[], float]) -> None:
        self._burst = burst
        self._per_second = per_second
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, host: str) -> bool:
        """Whether the host may do it once more now."""
        now = self._clock()
        tokens, since = self._buckets.pop(host, (float(self._burst), now))
        tokens = min(float(self._burst), tokens + (now - since) * self._per_second)
        allowed = tokens >= 1
        self._buckets[host] = (tokens - allowed, now)
        if len(self._buckets) > _MOST_HOSTS:
            self._buckets.popitem(last=False)  # the one that has been silent longest
        return allowed
