"""Supervises one run: acquires a trainer slot, starts the trainer, waits for its end, retries.

Owns the run's present state and its watches. The rules are in :mod:`aisandbox_api.local.status_updates`; cancel and
suspend are fields of the spec, read again at every event, so their order does not matter.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace

import structlog
from aisandbox_crds.reasons import Reason
from aisandbox_crds.spec import Environment, TrainingRunSpec
from aisandbox_crds.status import Failure, Phase
from aisandbox_crds.trainer_start import TrainerStart
from aisandbox_crds.trainingrun import TrainingRun
from aisandbox_model_store.errors import ModelStoreError
from aisandbox_model_store.run_store import RunStore

from aisandbox_api.backend import ProgressReport
from aisandbox_api.errors import ApiError, AttemptOver, NotPermitted, ServiceStopping
from aisandbox_api.local import status_updates
from aisandbox_api.local.artifacts import read_artifacts
from aisandbox_api.local.attempt import Attempt, not_started, read_termination_message, termination_message_path
from aisandbox_api.local.launcher import Launcher
from aisandbox_api.local.records import RecordStore
from aisandbox_api.local.status_updates import AttemptEnd
from aisandbox_api.local.trainer_slots import TrainerSlots

log = structlog.get_logger()

COALESCE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class SupervisorContext:
    """What the runs of a service share. ``observe`` is told of every change as (before, after)."""

    store: RunStore
    records: RecordStore
    slots: TrainerSlots
    launcher: Launcher
    progress_address: str
    environment_of: Callable[[TrainingRun], Environment]
    now: Callable[[], str]
    observe: Callable[[TrainingRun | None, TrainingRun], None]
    log_level: str
    stop_grace_seconds: float


class RunSupervisor:
    """A run and the task that lives it. For one event loop; :attr:`run` is a snapshot.

    ``is_saved``: its record on disk says the same.
    """

    def __init__(self, run: TrainingRun, context: SupervisorContext, is_saved: bool = False) -> None:
        self._run = run
        self._saved = run if is_saved else None
        self._context = context
        self._folder = context.store.run(run.name)
        self._log = log.bind(run=run.name)
        self._save_lock = asyncio.Lock()
        self._changed = asyncio.Event()  # replaced at every change of the run
        self._wish = asyncio.Event()
        self._stopping = False
        self._token = ""
        self._active_since: float | None = None
        self._before = run.status  # as it was when the present attempt began

    @property
    def run(self) -> TrainingRun:
        """The run as it is now."""
        return self._run

    def has_token(self, token: str) -> bool:
        """Whether ``token`` is the one of the attempt at work; takes as long for every wrong one."""
        return bool(self._token) and secrets.compare_digest(token.encode(), self._token.encode())

    def ask(self, spec: TrainingRunSpec) -> None:
        """Changes what is wished (cancel, suspend in the spec); takes effect at once where no trainer is at work."""
        self._set(replace(self._run, spec=spec))
        if self._run.status.phase in (Phase.PENDING, Phase.SUSPENDED):
            self._settle_wishes()
        self._wish.set()

    def stop(self) -> None:
        """Ends the task after the trainer's checkpoint, leaving the run so that it can go on."""
        self._stopping = True
        self._wish.set()
        self._notify()

    async def save(self) -> None:
        """Makes the present state durable. Raises DiskFull, OSError."""
        async with self._save_lock:
            run = self._run
            if run is not self._saved:
                await asyncio.to_thread(self._context.records.write, run)
                self._saved = run

    async def save_if_possible(self) -> None:
        """As :meth:`save`; a failure is logged, and the next save tries again."""
        try:
            await self.save()
        except (OSError, ModelStoreError) as error:
            self._log.error("record of the run cannot be written", error=str(error))

    def report(self, report: ProgressReport) -> None:
        """Takes a report of an authenticated trainer. Raises AttemptOver, NotPermitted."""
        status = self._run.status
        if report.attempt < status.attempt or status.phase not in (Phase.STARTING, Phase.RUNNING):
            raise AttemptOver(f"attempt {report.attempt} of run {self._run.name!r} is over")
        if report.attempt > status.attempt:
            raise NotPermitted(f"the token is of attempt {status.attempt} of run {self._run.name!r}")
        before = self._run.status.phase
        self._set(status_updates.apply_report(self._run, report, self._before, self._context.now()))
        if self._run.status.phase is not before:
            self._log.info("trainer trains", attempt=report.attempt, timesteps=report.timesteps)

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
            elif self._stopping:
                raise ServiceStopping("the service is stopping: watch again in a moment")
            else:
                await changed.wait()

    async def live(self) -> None:
        """Has the run trained until it is done or :meth:`stop` is called. An error of our own fails the run."""
        try:
            await self._live()
        except Exception as error:
            self._log.exception("supervising the run has failed")
            failure = Failure(Reason.SERVICE_FAULT, f"the service failed to supervise the run: {error!r}; see its log")
            self._set(status_updates.finish(self._run, Phase.FAILED, self._context.now(), failure))
        await self.save_if_possible()

    async def _live(self) -> None:
        delay = 0.0
        while not self._stopping and not self._settle_wishes():
            if self._run.status.phase is Phase.SUSPENDED:
                await self.save_if_possible()
                await self._wish.wait()
                self._wish.clear()
                delay, self._active_since = 0.0, None
            elif await self._unless_stopped(self._acquire_slot(delay)):
                try:
                    delay = await self._attempt()
                finally:
                    self._context.slots.release()
            else:
                delay = 0.0

    def _settle_wishes(self) -> bool:
        """Gives a run without a trainer the phase that is wished; whether it is done."""
        run, phase = self._run, self._run.status.phase
        if not phase.is_done:
            if run.spec.cancel:
                self._set(status_updates.finish(run, Phase.CANCELLED, self._context.now()))
            elif run.spec.suspend and phase is not Phase.SUSPENDED:
                self._set(status_updates.pause(run, Phase.SUSPENDED))
            elif not run.spec.suspend and phase is not Phase.PENDING:
                self._set(status_updates.pause(run, Phase.PENDING))
        return self._run.status.phase.is_done

    async def _acquire_slot(self, delay: float) -> None:
        await asyncio.sleep(delay)
        await self._context.slots.acquire(self._run.creation_time + self._run.name)

    async def _attempt(self) -> float:
        """One attempt; the seconds to wait before the next one."""
        if self._stop_wanted():  # in the moment the place was given
            return 0.0
        self._set(status_updates.start_loading(self._run))
        if not await self._unless_stopped(self._context.launcher.ready()):
            return 0.0
        self._before = self._run.status
        self._set(status_updates.start_attempt(self._run, self._context.now()))
        try:
            attempt = await self._launch()
        except (ApiError, ModelStoreError, OSError) as error:
            end = not_started(error)
        else:
            end = await attempt.follow(
                self._unless_stopped, self._seconds_to_deadline(), self._context.stop_grace_seconds
            )
        self._token = ""
        await self._read_artifacts()
        after, delay = status_updates.finish_attempt(self._run, end, self._context.now())
        self._set(after)
        self._log_end(end, delay)
        await self.save_if_possible()
        return delay

    async def _launch(self) -> Attempt:
        environment = self._context.environment_of(self._run)
        await self.save()  # the attempt's number must never be given twice
        self._token = secrets.token_urlsafe(32)
        number, logs_path = self._run.status.attempt, self._folder.logs_path
        start = TrainerStart(
            run_id=self._run.name,
            attempt=number,
            spec=replace(self._run.spec, environment=environment),
            models_dir=self._context.store.models_dir,
            checkpoint_dir=self._context.store.checkpoint_dir,
            progress_address=self._context.progress_address,
            progress_token=self._token,
            termination_message_path=termination_message_path(logs_path, number),
            log_level=self._context.log_level,
        )
        return await Attempt.launch(self._context.launcher, start, number, logs_path)

    def _seconds_to_deadline(self) -> float | None:
        """As a Job's, the deadline counts from the first attempt and anew after a pause."""
        now, limit = asyncio.get_running_loop().time(), self._run.spec.active_deadline_seconds
        self._active_since = now if self._active_since is None else self._active_since
        return None if limit is None else max(self._active_since + limit - now, 0.0)

    async def _read_artifacts(self) -> None:
        try:
            artifacts = await asyncio.to_thread(read_artifacts, self._folder)
        except OSError as error:
            self._log.warning("what the run has published cannot be read", error=str(error))
        else:
            self._set(replace(self._run, status=artifacts.recorded_in(self._run.status)))

    async def recover(self) -> None:
        """Takes the run up from its record: what has ended meanwhile is read from the termination message."""
        if self._run.status.phase in (Phase.STARTING, Phase.RUNNING):
            message = await asyncio.to_thread(
                read_termination_message, self._folder.logs_path, self._run.status.attempt
            )
            await self._read_artifacts()
            if message is not None:
                # Its end was the service's end, so it is no fault of the trainer's and counts for nothing.
                end = AttemptEnd(message.exit_code, message, stop_asked=True)
                self._set(status_updates.finish_attempt(self._run, end, self._context.now())[0])
            if not self._run.status.phase.is_done:
                self._set(status_updates.recover(self._run))

    async def _unless_stopped(self, awaitable: Awaitable[object]) -> bool:
        """Whether ``awaitable`` finished before a stop was wished; if not it is cancelled."""
        task = asyncio.ensure_future(awaitable)
        try:
            while not task.done() and not self._stop_wanted():
                wish = asyncio.ensure_future(self._wish.wait())
                await asyncio.wait([task, wish], return_when=asyncio.FIRST_COMPLETED)
                wish.cancel()
                self._wish.clear()
            if task.done():
                task.result()
                return True
            return False
        finally:
            if not task.done():
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    def _stop_wanted(self) -> bool:
        return self._stopping or self._run.spec.cancel or self._run.spec.suspend

    def _set(self, run: TrainingRun) -> None:
        before, self._run = self._run, run
        self._context.observe(before, run)
        if run.status.phase is not before.status.phase:
            self._log.info("phase of the run", phase=run.status.phase, attempt=run.status.attempt)
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _log_end(self, end: AttemptEnd, delay: float) -> None:
        status = self._run.status
        reason = status.failure.reason if status.failure else None
        self._log.info("attempt has ended", attempt=status.attempt, exit_code=end.code, reason=reason, next_in=delay)
