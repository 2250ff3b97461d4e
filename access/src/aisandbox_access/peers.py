"""How many streams each peer has open: one client must not take all of them.

Must not know what a stream is for.
"""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import AbstractContextManager

from aisandbox_process import address_group
from aisandbox_process.grpc_context import host_of

from aisandbox_access.errors import LimitReached


class PeerStreams:
    """At most ``limit`` open streams of one address. For any threads."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._open: Counter[str] = Counter()

    def stream(self, peer: str) -> AbstractContextManager[None]:
        """A stream of the peer is open in the block, which raises LimitReached where it begins."""
        return _OpenStream(self, address_group(host_of(peer)))

    def begin(self, host: str) -> None:
        """Counts a stream. Raises LimitReached."""
        with self._lock:
            if self._open[host] >= self._limit:
                raise LimitReached(
                    f"MAX_STREAMS_PER_PEER: {host} has {self._limit:,} streams open at this server already; close some"
                )
            self._open[host] += 1

    def end(self, host: str) -> None:
        """Counts it no more."""
        with self._lock:
            self._open[host] -= 1
            if not self._open[host]:
                del self._open[host]


class _OpenStream(AbstractContextManager[None]):
    """Small: thousands of simulators may be attached, and wait."""

    __slots__ = ("_host", "_streams")

    def __init__(self, streams: PeerStreams, host: str) -> None:
        self._streams = streams
        self._host = host

    def __enter__(self) -> None:
        self._streams.begin(self._host)

    def __exit__(self, *_error: object) -> None:
        self._streams.end(self._host)
