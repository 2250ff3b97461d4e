"""Writing reported progress into the statuses of runs.

Owns the rate: a run is written once in 5 seconds. What others should know at once may come up to 4 seconds early, at
the cost of the write after it, so the mean rate stays (https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm).
While the cluster does not answer a write is made again at the same rate, with what is known then. Must not know
trainers.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from aisandbox_crds import TrainingRun

from aisandbox_api.errors import ApiError, BackendUnavailable, ClusterRefused
from aisandbox_api.kubernetes.live_progress import LiveProgress, is_outdated
from aisandbox_api.kubernetes.metrics import ClusterMetrics
from aisandbox_api.kubernetes.run_cache import RunCache
from aisandbox_api.kubernetes.run_resources import RunResources

log = structlog.get_logger()

INTERVAL_SECONDS = 5.0
EARLY_SECONDS = 4.0
LOOK_SECONDS = 1.0
WRITERS = 8
CONFLICT_TRIES = 4


@dataclass(slots=True)
class _Pending:
    due: float


class ProgressWriter:
    """Writes the progress that ``live`` has of the runs given to :meth:`schedule`. For one event loop."""

    def __init__(
        self,
        resources: RunResources,
        cache: RunCache,
        live: Callable[[str], LiveProgress | None],
        metrics: ClusterMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._resources = resources
        self._cache = cache
        self._live = live
        self._metrics = metrics
        self._clock = clock
        self._due: dict[str, float] = {}
        self._pending: dict[str, _Pending] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._places = asyncio.Semaphore(WRITERS)

    def schedule(self, name: str, urgent: bool) -> None:
        """Has the run written as soon as its rate allows."""
        now = self._clock()
        due = max(now, self._due.get(name, now) - (EARLY_SECONDS if urgent else 0.0))
        pending = self._pending.get(name)
        if pending is not None:
            pending.due = min(pending.due, due)
            return
        self._pending[name] = _Pending(due)
        task = asyncio.create_task(self._write_when_due(name), name=f"write-progress-{name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def forget(self, name: str) -> None:
        """The run is gone or done."""
        self._due.pop(name, None)

    async def close(self) -> None:
        """Ends all writes; the next reports say the same and more."""
        for task in list(self._tasks):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _write_when_due(self, name: str) -> None:
        pending = self._pending[name]
        while (delay := pending.due - self._clock()) > 0:  # noqa: ASYNC110 - may become due earlier
            await asyncio.sleep(min(delay, LOOK_SECONDS))
        async with self._places:
            # From here on a report asks for the next write: this one may have read the one before it.
            del self._pending[name]
            now = self._clock()
            self._due[name] = max(self._due.get(name, now), now) + INTERVAL_SECONDS
            try:
                await self._write(name)
            except ApiError as error:
                log.warning("progress cannot be written", run=name, why=str(error)[:300])
                if isinstance(error, BackendUnavailable):  # a trainer that waits has nothing more to say
                    self.schedule(name, urgent=False)
            except Exception:
                log.exception("writing progress has failed", run=name)

    async def _write(self, name: str) -> None:
        run = self._cache.runs.get(name)
        for _ in range(CONFLICT_TRIES):
            live = self._live(name)
            if run is None or live is None or live.uid != run.uid or run.status.phase.is_done:
                self.forget(name)
                return
            if is_outdated(live, run.status):
                return
            try:
                written = await self._resources.write_progress(run, live.status)
            except ClusterRefused as error:
                if error.code == 404:
                    return
                if error.code != 409:
                    raise
                run = await self._read_again(name)
            else:
                self._cache.put(written)
                self._metrics.observe_write()
                return
        log.info("progress was not written: too many conflicting changes of the run", run=name)

    async def _read_again(self, name: str) -> TrainingRun | None:
        """After a conflict: an end that is not in the cache yet must not be overwritten."""
        run = await self._resources.get(name)
        if run is not None:
            self._cache.put(run)
        return run
