"""The runs of one machine.

Owns the set of runs and the limits on their number. Each run has a
:class:`~aisandbox_api.local.run_supervisor.RunSupervisor`. Must not know gRPC.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import structlog
from aisandbox_crds import (
    REQUEST_ANNOTATION,
    InstallationSecret,
    Phase,
    ProgressReport,
    TrainingRun,
    TrainingRunSpec,
    utc_now,
)
from aisandbox_model_store import InvalidRunId, RunStore

from aisandbox_api.background_tasks import cancel
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
from aisandbox_api.local.installation_secret import installation_secret
from aisandbox_api.local.launcher import Launcher, ProcessLauncher
from aisandbox_api.local.records import RecordStore
from aisandbox_api.local.run_supervisor import RunSupervisor, SupervisorContext
from aisandbox_api.local.trainer_slots import TrainerSlots
from aisandbox_api.other_runs_checks import check_suspended
from aisandbox_api.run_owner import owner_of
from aisandbox_api.settings import Settings

log = structlog.get_logger()

SAVE_SECONDS = 5.0


def create_launcher(settings: Settings) -> Launcher:
    """The launcher that the settings name."""
    plain = ProcessLauncher()
    if settings.trainer_launcher != "warm":
        return plain
    from aisandbox_api.local.warm_launcher import WarmLauncher  # POSIX only

    return WarmLauncher(fallback=plain)


class LocalBackend:
    """See :class:`aisandbox_api.backend.Backend`. ``observe`` is called at every change as (before, after)."""

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
        self._secret: InstallationSecret | None = None
        self._supervisors: dict[str, RunSupervisor] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._saving: asyncio.Task[None] | None = None
        self._context: SupervisorContext | None = None
        self._create_lock = asyncio.Lock()
        self._closing = False

    async def open(self) -> None:
        """Locks MODELS_DIR and reads the records.

        Raises ModelsDirInUse, ModelsDirNotWritable, SecretUnreadable, OSError.
        """
        self._lock.acquire()
        self._secret = await asyncio.to_thread(installation_secret, self._store, datetime.now(UTC))
        self._recorded = await asyncio.to_thread(lambda: list(self._records.load()))

    async def start(
        self, progress_address: str, adapter_address: str | None, session_socket: Path | None = None
    ) -> None:
        """Continues every unfinished run."""
        self._context = SupervisorContext(
            store=self._store,
            records=self._records,
            slots=TrainerSlots(self._settings.max_concurrent_runs),
            launcher=self._launcher,
            secret=self._secret,
            progress_address=progress_address,
            session_socket=session_socket,
            environment_of=partial(environment_to_train, adapter_address=adapter_address),
            now=self._now,
            observe=self._observe,
            log_level=self._settings.log_level,
            stop_grace_seconds=self._settings.stop_grace_seconds,
        )
        await self._launcher.start()
        for run in self._recorded:
            supervisor = self._supervisors[run.name] = RunSupervisor(run, self._context, is_saved=True)
            self._observe(None, run)
            if not run.status.phase.is_done:
                await supervisor.recover()
                self._supervise(supervisor)
        log.info("runs restored", total=len(self._supervisors), unfinished=len(self._tasks))
        self._saving = asyncio.create_task(self._save_changes())

    async def close(self) -> None:
        """Has every trainer save a checkpoint and stop, waits for them, and releases MODELS_DIR."""
        self._closing = True
        async with self._create_lock:
            pass  # waits for a run that is being accepted, which must be stopped as well
        for supervisor in self._supervisors.values():
            supervisor.stop()
        if self._tasks:
            await asyncio.wait(list(self._tasks))
        await cancel(self._saving)
        for supervisor in self._supervisors.values():
            await supervisor.state.save_if_possible()
        await self._launcher.close()
        self._context = None
        self._lock.release()

    @property
    def unready(self) -> str:
        """Always empty: everything is in this process."""
        return ""

    async def create(self, run: TrainingRun) -> TrainingRun:
        """Accepts a run. Raises LimitReached, ServiceStopping, DiskFull, OSError."""
        async with self._create_lock:
            if (known := self._supervisors.get(run.name)) is not None:
                return known.run
            if self._closing or self._context is None:
                raise ServiceStopping("the service is stopping: send the start again in a moment")
            self._check_pending()
            runs = (supervisor.run for supervisor in self._supervisors.values())
            check_suspended(runs, self._settings.max_suspended_runs)
            run = replace(run, creation_time=run.creation_time or self._now())
            supervisor = RunSupervisor(run, self._context)
            await supervisor.state.save()
            self._supervisors[run.name] = supervisor
            self._observe(None, run)
            self._supervise(supervisor)
            return run

    async def get(self, name: str) -> TrainingRun:
        """The run. Raises RunUnknown."""
        return self._find(name).run

    async def find_request(self, request_id: str, owner: str = "") -> TrainingRun | None:
        """The run of that request."""
        asked = (request_id, owner)
        runs = (supervisor.run for supervisor in self._supervisors.values())
        return next((run for run in runs if (run.annotations.get(REQUEST_ANNOTATION), owner_of(run)) == asked), None)

    async def list(self) -> Sequence[TrainingRun]:
        """Every run."""
        return [supervisor.run for supervisor in self._supervisors.values()]

    def watch(self, name: str) -> AsyncIterator[TrainingRun]:
        """The run and its changes. Raises RunUnknown at once, ServiceStopping while it is iterated."""
        return self._find(name).state.watch()

    async def cancel(self, name: str) -> TrainingRun:
        """Ends the run permanently."""
        supervisor = self._find(name)
        if supervisor.run.status.phase is Phase.CANCELLED:
            return supervisor.run
        return await self._ask(supervisor, replace(supervisor.run.spec, cancel=True), "cancelled")

    async def suspend(self, name: str) -> TrainingRun:
        """Pauses the run."""
        supervisor = self._find(name)
        return await self._ask(supervisor, replace(supervisor.run.spec, suspend=True), "suspended")

    async def resume(self, name: str) -> TrainingRun:
        """Ends the pause."""
        supervisor = self._find(name)
        return await self._ask(supervisor, replace(supervisor.run.spec, suspend=False), "resumed")

    async def report(self, name: str, report: ProgressReport, token: str | None) -> None:
        """Takes a report from the trainer that was given ``token``. Raises RunUnknown, ReportRefused."""
        self._of_trainer(name, token).report(report)

    async def run_of_trainer(self, name: str, token: str | None) -> TrainingRun:
        """The run, whose trainer was given ``token``. Raises RunUnknown, ReportRefused."""
        return self._of_trainer(name, token).run

    def _of_trainer(self, name: str, token: str | None) -> RunSupervisor:
        supervisor = self._find(name)
        if not token:
            raise NotAuthenticated("authorization: metadata 'Bearer TOKEN' is missing")
        if not supervisor.has_token(token):
            if any(other.has_token(token) for other in self._supervisors.values()):
                raise NotPermitted(f"the token is not of run {name!r}")
            raise NotAuthenticated("authorization: the token is not valid, or its attempt is over")
        return supervisor

    async def _ask(self, supervisor: RunSupervisor, spec: TrainingRunSpec, asked: str) -> TrainingRun:
        run = supervisor.run
        if run.status.phase.is_done:
            raise RunDone(run.name, run.status.phase, asked)
        if spec != run.spec:
            supervisor.change_spec(spec)
        await supervisor.state.save_if_possible()  # it takes effect already, so a full disk is no failure of the call
        return supervisor.run

    def _find(self, name: str) -> RunSupervisor:
        supervisor = self._supervisors.get(name)
        if supervisor is None:
            raise RunUnknown(name, self._why_unknown(name))
        return supervisor

    def _why_unknown(self, name: str) -> str:
        with contextlib.suppress(InvalidRunId):
            if damaged := self._records.damaged(name):
                return f"its record was damaged and renamed to {damaged.name} in its folder; its artifacts are intact"
        return ""

    def _check_pending(self) -> None:
        limit, running = self._settings.max_pending_runs, self._settings.max_concurrent_runs
        phases = [supervisor.run.status.phase for supervisor in self._supervisors.values()]
        active = sum(phase in (Phase.PENDING, Phase.STARTING, Phase.RUNNING) for phase in phases)
        if active >= limit + running:
            raise LimitReached(
                "MAX_PENDING_RUNS",
                f"the limit of {running} running and {limit} pending runs is reached: wait for one to end, cancel one, "
                "or raise MAX_PENDING_RUNS",
            )

    def _supervise(self, supervisor: RunSupervisor) -> None:
        task = asyncio.create_task(supervisor.supervise(), name=f"supervise-{supervisor.run.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _save_changes(self) -> None:
        """Writes what reports have changed, every few seconds, and again what a full disk has refused."""
        while True:
            await asyncio.sleep(SAVE_SECONDS)
            for supervisor in list(self._supervisors.values()):
                await supervisor.state.save_if_possible()
