"""How many streams each peer has open: one client must not take all of them.

Must not know what a stream is for.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from aisandbox_access.errors import LimitReached


def host_of(peer: str) -> str:
    """The host of a peer as gRPC writes it, ``ipv4:127.0.0.1:5000``; the text itself if it has another form."""
    return peer.partition(":")[2].rpartition(":")[0] or peer


class PeerStreams:
    """At most ``limit`` open streams of one host. For any threads."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._open: Counter[str] = Counter()

    @contextmanager
    def stream(self, peer: str) -> Iterator[None]:
        """A stream of the peer is open in the block. Raises LimitReached."""
        host = host_of(peer)
        with self._lock:
            if self._open[host] >= self._limit:
                raise LimitReached(
                    f"MAX_STREAMS_PER_PEER: {host} has {self._limit:,} streams open at this server already; close some"
                )
            self._open[host] += 1
        try:
            yield
        finally:
            with self._lock:
                self._open[host] -= 1
                if not self._open[host]:
                    del self._open[host]
