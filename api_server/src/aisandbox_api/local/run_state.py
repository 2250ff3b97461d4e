"""The present state of one run: its snapshot, the record on disk that must follow it, and the clients that watch it.

Must not know what changes a run; that is :mod:`aisandbox_api.local.run_supervisor`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import structlog
from aisandbox_crds import TrainingRun
from aisandbox_model_store import ModelStoreError

from aisandbox_api.errors import ServiceStopping
from aisandbox_api.local.records import RecordStore

log = structlog.get_logger()

COALESCE_SECONDS = 0.1
"""A watch gets at most ten snapshots a second."""


class RunState:
    """For one event loop. ``observe`` is called at every change as (before, after).

    ``is_saved``: the record on disk is equal to ``run``.
    """

    def __init__(
        self,
        run: TrainingRun,
        records: RecordStore,
        observe: Callable[[TrainingRun | None, TrainingRun], None],
        is_saved: bool,
    ) -> None:
        self._run = run
        self._saved = run if is_saved else None
        self._records = records
        self._observe = observe
        self._save_lock = asyncio.Lock()
        self._changed = asyncio.Event()  # replaced at every change
        self._watches_ended = False
        self._log = log.bind(run=run.name)

    @property
    def run(self) -> TrainingRun:
        """The run as it is now."""
        return self._run

    def set(self, run: TrainingRun) -> None:
        """Replaces the snapshot; it is saved by :meth:`save`."""
        before, self._run = self._run, run
        self._observe(before, run)
        if run.status.phase is not before.status.phase:
            self._log.info("run phase changed", phase=run.status.phase, attempt=run.status.attempt)
        self._notify()

    async def save(self) -> None:
        """Makes the present state durable. Raises DiskFull, OSError."""
        async with self._save_lock:
            run = self._run
            if run is not self._saved:
                await asyncio.to_thread(self._records.write, run)
                self._saved = run

    async def save_if_possible(self) -> None:
        """As :meth:`save`; a failure is logged, and the next save tries again."""
        try:
            await self.save()
        except (OSError, ModelStoreError) as error:
            self._log.error("record of the run cannot be written", error=str(error))

    async def watch(self) -> AsyncIterator[TrainingRun]:
        """See Backend.watch."""
        seen = None
        while True:
            changed, run = self._changed, self._run
            if run is not seen:
                yield (seen := run)
                if run.status.phase.is_done:
                    return
                await asyncio.sleep(COALESCE_SECONDS)
            elif self._watches_ended:
                raise ServiceStopping("the service is stopping: watch again in a moment")
            else:
                await changed.wait()

    def end_watches(self) -> None:
        """Has every watch raise ServiceStopping once it has yielded the last snapshot."""
        self._watches_ended = True
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
