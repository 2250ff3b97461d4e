"""The runs of one machine.

Owns the set of runs, their records' life and the limits. Each run is lived by a
:class:`~aisandbox_api.local.run_supervisor.RunSupervisor`. Must not know gRPC.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from functools import partial

import structlog
from aisandbox_crds.spec import TrainingRunSpec
from aisandbox_crds.status import Phase
from aisandbox_crds.times import utc_now
from aisandbox_crds.trainingrun import REQUEST_ANNOTATION, TrainingRun
from aisandbox_model_store.errors import InvalidRunId
from aisandbox_model_store.run_store import RunStore

from aisandbox_api.backend import ProgressReport
from aisandbox_api.default_environment import environment_to_train
from aisandbox_api.errors import (
    LimitReached,
    NotAuthenticated,
    NotPermitted,
    RunDone,
    RunUnknown,
    ServiceStopping,
)
from aisandbox_api.local.directory_lock import DirectoryLock
from aisandbox_api.local.launcher import Launcher, ProcessLauncher
from aisandbox_api.local.records import RecordStore
from aisandbox_api.local.run_supervisor import RunSupervisor, SupervisorContext
from aisandbox_api.local.trainer_slots import TrainerSlots
from aisandbox_api.local.warm_launcher import WarmLauncher
from aisandbox_api.settings import Settings

log = structlog.get_logger()

PERSIST_SECONDS = 5.0


def create_launcher(settings: Settings) -> Launcher:
    """The launcher that the settings name."""
    plain = ProcessLauncher()
    return WarmLauncher(fallback=plain) if settings.trainer_launcher == "warm" else plain


class LocalBackend:
    """See :class:`aisandbox_api.backend.Backend`. ``observe`` is told of every change as (before, after)."""

    def __init__(
        self,
        settings: Settings,
        launcher: Launcher | None = None,
        now: Callable[[], str] = utc_now,
        observe: Callable[[TrainingRun | None, TrainingRun], None] = lambda before, after: None,
    ) -> None:
        self._settings = settings
        self._store = RunStore(settings.models_dir, settings.checkpoint_dir)
        self._records = RecordStore(self._store)
        self._lock = DirectoryLock(self._store.models_dir)
        self._launcher = launcher or create_launcher(settings)
        self._now = now
        self._observe = observe
        self._recorded: list[TrainingRun] = []
        self._runs: dict[str, RunSupervisor] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._persisting: asyncio.Task[None] | None = None
        self._context: SupervisorContext | None = None
        self._create_lock = asyncio.Lock()
        self._closing = False

    async def open(self) -> None:
        """Locks MODELS_DIR and reads the records. Raises ModelsDirInUse, ModelsDirNotWritable, OSError."""
        self._lock.acquire()
        self._recorded = await asyncio.to_thread(lambda: list(self._records.load()))

    async def start(self, progress_address: str, adapter_address: str | None) -> None:
        """Takes up every unfinished run."""
        self._context = SupervisorContext(
            store=self._store,
            records=self._records,
            slots=TrainerSlots(self._settings.max_concurrent_runs),
            launcher=self._launcher,
            progress_address=progress_address,
            environment_of=partial(environment_to_train, adapter_address=adapter_address),
            now=self._now,
            observe=self._observe,
            log_level=self._settings.log_level,
            stop_grace_seconds=self._settings.stop_grace_seconds,
        )
        await self._launcher.start()
        for run in self._recorded:
            supervised = self._runs[run.name] = RunSupervisor(run, self._context, is_saved=True)
            self._observe(None, run)
            if not run.status.phase.is_done:
                await supervised.recover()
                self._live(supervised)
        log.info("runs taken up", total=len(self._runs), unfinished=len(self._tasks))
        self._persisting = asyncio.create_task(self._persist())

    async def close(self) -> None:
        """Tells every trainer to stop after a checkpoint, waits for them, and lets go of MODELS_DIR."""
        self._closing = True
        async with self._create_lock:
            pass  # a run that is being accepted is one of them
        for run in self._runs.values():
            run.stop()
        if self._tasks:
            await asyncio.wait(list(self._tasks))
        if self._persisting is not None:
            self._persisting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._persisting
        for run in self._runs.values():
            await run.save_if_possible()
        await self._launcher.close()
        self._context = None
        self._lock.release()

    @property
    def unavailable(self) -> str:
        """Never: everything is in this process."""
        return ""

    async def create(self, run: TrainingRun) -> TrainingRun:
        """Accepts a run. Raises LimitReached, ServiceStopping, DiskFull, OSError."""
        async with self._create_lock:
            if (known := self._runs.get(run.name)) is not None:
                return known.run
            if self._closing or self._context is None:
                raise ServiceStopping("the service is stopping: send the start again in a moment")
            self._check_pending()
            run = replace(run, creation_time=run.creation_time or self._now())
            supervised = RunSupervisor(run, self._context)
            await supervised.save()
            self._runs[run.name] = supervised
            self._observe(None, run)
            self._live(supervised)
            return run

    async def get(self, name: str) -> TrainingRun:
        """The run. Raises RunUnknown."""
        return self._find(name).run

    async def find_request(self, request_id: str) -> TrainingRun | None:
        """The run of that request."""
        runs = (supervised.run for supervised in self._runs.values())
        return next((run for run in runs if run.annotations.get(REQUEST_ANNOTATION) == request_id), None)

    async def list(self) -> Sequence[TrainingRun]:
        """Every run."""
        return [supervised.run for supervised in self._runs.values()]

    def watch(self, name: str) -> AsyncIterator[TrainingRun]:
        """The run and its changes. Raises RunUnknown at once, ServiceStopping while it is iterated."""
        return self._find(name).watch()

    async def cancel(self, name: str) -> TrainingRun:
        """Ends the run for good."""
        supervised = self._find(name)
        if supervised.run.status.phase is Phase.CANCELLED:
            return supervised.run
        return await self._ask(supervised, replace(supervised.run.spec, cancel=True), "cancelled")

    async def suspend(self, name: str) -> TrainingRun:
        """Pauses the run."""
        supervised = self._find(name)
        return await self._ask(supervised, replace(supervised.run.spec, suspend=True), "suspended")

    async def resume(self, name: str) -> TrainingRun:
        """Lets the run go on."""
        supervised = self._find(name)
        return await self._ask(supervised, replace(supervised.run.spec, suspend=False), "resumed")

    async def report(self, report: ProgressReport, token: str | None) -> None:
        """Takes a report from the trainer that was given ``token``. Raises RunUnknown, ReportRefused."""
        supervised = self._find(report.run)
        if not token:
            raise NotAuthenticated("authorization: metadata 'Bearer TOKEN' is missing")
        if not supervised.has_token(token):
            if any(other.has_token(token) for other in self._runs.values()):
                raise NotPermitted(f"the token is not of run {report.run!r}")
            raise NotAuthenticated("authorization: the token is not valid, or its attempt is over")
        supervised.report(report)

    async def _ask(self, supervised: RunSupervisor, spec: TrainingRunSpec, wish: str) -> TrainingRun:
        run = supervised.run
        if run.status.phase.is_done:
            raise RunDone(run.name, run.status.phase, wish)
        if spec != run.spec:
            supervised.ask(spec)
        await supervised.save_if_possible()  # what is asked for is under way; a full disk must not say otherwise
        return supervised.run

    def _find(self, name: str) -> RunSupervisor:
        supervised = self._runs.get(name)
        if supervised is None:
            raise RunUnknown(name, self._why_unknown(name))
        return supervised

    def _why_unknown(self, name: str) -> str:
        with contextlib.suppress(InvalidRunId):
            if damaged := self._records.damaged(name):
                return (
                    f"its record was damaged and is now {damaged.name} in its folder; what it has published is intact"
                )
        return ""

    def _check_pending(self) -> None:
        limit, running = self._settings.max_pending_runs, self._settings.max_concurrent_runs
        phases = [supervised.run.status.phase for supervised in self._runs.values()]
        active = sum(phase in (Phase.PENDING, Phase.STARTING, Phase.RUNNING) for phase in phases)
        if active >= limit + running:
            raise LimitReached(
                "MAX_PENDING_RUNS",
                f"{running} runs train and {limit} wait, which are as many as this service takes: wait for one to end, "
                "cancel one, or raise MAX_PENDING_RUNS",
            )

    def _live(self, supervised: RunSupervisor) -> None:
        task = asyncio.create_task(supervised.live(), name=f"live-{supervised.run.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _persist(self) -> None:
        """Writes what reports have changed, at most every few seconds a run, and what a full disk has held up."""
        while True:
            await asyncio.sleep(PERSIST_SECONDS)
            for supervised in list(self._runs.values()):
                await supervised.save_if_possible()
