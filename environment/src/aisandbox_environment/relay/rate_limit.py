"""How often each peer may register: a token bucket for each address, of a bounded number of hosts.

Must not know what is limited.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from aisandbox_process import TokenBucket, address_group

_MOST_HOSTS = 4_096


class RateLimit:
    """``burst`` at once from each host, and ``per_second`` more each second. ``clock``: seconds, monotonic."""

    def __init__(self, burst: int, per_second: float, clock: Callable[[], float]) -> None:
        self._burst = burst
        self._per_second = per_second
        self._clock = clock
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def take(self, host: str) -> bool:
        """Whether the host may do it once more now. Addresses of one IPv6 network of 64 bits count as one."""
        host = address_group(host)
        bucket = self._buckets.pop(host, None) or TokenBucket(self._per_second, self._burst, self._clock)
        self._buckets[host] = bucket
        if len(self._buckets) > _MOST_HOSTS:
            self._buckets.popitem(last=False)  # the one that has been silent longest
        return bucket.take()
