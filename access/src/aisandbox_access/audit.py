"""The record of calls: one line for every call that changes something or was refused.

Owns the fields of the line, and how many refusals of one peer are written: a peer must not fill the disk. Must not know
methods.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

import structlog
from aisandbox_process import TokenBucket, address_group, printable
from aisandbox_process.grpc_context import host_of

log = structlog.get_logger("aisandbox_access.audit")

EVENT = "audit"
REFUSALS_A_SECOND = 10.0
REFUSALS_AT_ONCE = 500.0
_REFUSED = ("UNAUTHENTICATED", "PERMISSION_DENIED")
_MOST_PEERS = 4_096
_LONGEST = 200


class Audit:
    """Writes the lines to the log of the process. For any threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()
        self._omitted = 0

    def record(self, who: str, peer: str, method: str, run: str, result: str, why: str = "") -> None:
        """A call. ``who``: the principal's name, empty without authentication; ``result``: the name of its status.

        ``run``: the run, or the pool, that it is about; empty if it is about none or is not known. One that is refused
        is recorded as :meth:`record_refusal` says.
        """
        if result in _REFUSED:
            self.record_refusal(who, peer, method, run, result, why)
        else:
            self._write(who, peer, method, run, result, why)

    @staticmethod
    def _write(who: str, peer: str, method: str, run: str, result: str, why: str) -> None:
        fields = {"who": who, "peer": peer, "method": method.strip("/"), "run": run, "result": result, "why": why}
        log.info(EVENT, **{key: printable(value[:_LONGEST]) for key, value in fields.items() if value or key == "who"})

    def record_refusal(self, who: str, peer: str, method: str, run: str, result: str, why: str) -> None:
        """As :meth:`record`; of a peer that is refused again and again some lines are left out, and counted."""
        host = address_group(host_of(peer))
        with self._lock:
            bucket = self._buckets.pop(host, None) or TokenBucket(REFUSALS_A_SECOND, REFUSALS_AT_ONCE, self._clock)
            self._buckets[host] = bucket
            if len(self._buckets) > _MOST_PEERS:
                self._buckets.popitem(last=False)
            if not bucket.take():
                self._omitted += 1
                return
            omitted, self._omitted = self._omitted, 0
        if omitted:
            log.warning("audit lines of refused calls were left out", number=omitted)
        self._write(who, peer, method, run, result, why)
