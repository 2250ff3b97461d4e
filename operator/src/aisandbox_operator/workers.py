"""The workers that reconcile runs from the queue, and the backoff of a reconcile that fails.

No error ends a worker: it is logged, and the run is reconciled again after its backoff.
"""

from __future__ import annotations

import asyncio
import time

import structlog
from aisandbox_kubernetes import Conflict, Refused, Transient

from aisandbox_operator.metrics import Metrics
from aisandbox_operator.reconciler import Reconciler
from aisandbox_operator.work_queue import LONGEST_BACKOFF_SECONDS, WorkQueue

log = structlog.get_logger(__name__)


class Workers:
    """``count`` workers over one queue."""

    def __init__(self, queue: WorkQueue, reconciler: Reconciler, metrics: Metrics, count: int) -> None:
        self._queue = queue
        self._reconciler = reconciler
        self._metrics = metrics
        self._count = count
        self._logged: dict[str, str] = {}
        self._stopping = False

    async def run(self) -> None:
        """Runs until :meth:`stop`; then each worker finishes its reconcile."""
        await asyncio.gather(*(self._work() for _ in range(self._count)))

    def stop(self) -> None:
        """No worker takes another run."""
        self._stopping = True
        self._queue.add("")  # wakes one worker; each that wakes wakes the next

    async def _work(self) -> None:
        while not self._stopping:
            key = await self._queue.get()
            try:
                if key and not self._stopping:
                    await self._reconcile(key)
            finally:
                self._queue.done(key)
        self._queue.add("")

    async def _reconcile(self, key: str) -> None:
        began = time.monotonic()
        error = ""
        try:
            requeue_after = await self._reconciler.reconcile(key)
        except Exception as problem:
            error = type(problem).__name__
            self._retry(key, problem)
        else:
            self._queue.succeeded(key)
            self._logged.pop(key, None)
            self._queue.add_after(key, requeue_after)
        self._metrics.observe_reconcile(time.monotonic() - began, error)

    def _retry(self, key: str, problem: Exception) -> None:
        if isinstance(problem, Conflict):
            delay = self._queue.failed(key)
            log.debug(
                "conflict: the run was changed by another client",
                run=key,
                error=str(problem),
                retry_after=round(delay, 2),
            )
        elif isinstance(problem, Transient):
            delay = self._queue.failed(key, problem.retry_after)
            log.warning("the API server is unavailable", run=key, error=str(problem), retry_after=round(delay, 2))
        elif isinstance(problem, Refused):
            delay = self._queue.failed(key, LONGEST_BACKOFF_SECONDS)
            if self._logged.get(key) != str(problem):  # once, not at every retry
                log.error("the API server refuses a call of the operator", run=key, error=str(problem))
            self._logged[key] = str(problem)
        else:
            delay = self._queue.failed(key, 1.0)
            log.error("reconcile failed", run=key, retry_after=round(delay, 2), exc_info=problem)
