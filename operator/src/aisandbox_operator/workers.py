"""The workers that reconcile, and what becomes of a reconcile that fails.

Nothing a run does may end a worker: every error is told and the run is looked at again after its backoff.
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
        self._told: dict[str, str] = {}
        self._stopping = False

    async def run(self) -> None:
        """Works until :meth:`stop`; then each worker finishes the run it is at."""
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
            look_again = await self._reconciler.reconcile(key)
        except Exception as problem:
            error = type(problem).__name__
            self._retry(key, problem)
        else:
            self._queue.succeeded(key)
            self._told.pop(key, None)
            self._queue.add_after(key, look_again)
        self._metrics.observe_reconcile(time.monotonic() - began, error)

    def _retry(self, key: str, problem: Exception) -> None:
        if isinstance(problem, Conflict):
            delay = self._queue.failed(key)
            log.debug("the run has changed meanwhile", run=key, error=str(problem), again_in=round(delay, 2))
        elif isinstance(problem, Transient):
            delay = self._queue.failed(key, problem.retry_after)
            log.warning("the API server could not serve", run=key, error=str(problem), again_in=round(delay, 2))
        elif isinstance(problem, Refused):
            delay = self._queue.failed(key, LONGEST_BACKOFF_SECONDS)
            if self._told.get(key) != str(problem):  # once, not at every try
                log.error("the API server refuses the operator", run=key, error=str(problem))
            self._told[key] = str(problem)
        else:
            delay = self._queue.failed(key, 1.0)
            log.error("reconcile failed", run=key, again_in=round(delay, 2), exc_info=problem)
