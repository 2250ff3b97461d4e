"""Supervises one run: acquires a trainer slot, starts the trainer, waits for its end, retries.

Owns the loop of attempts. The rules are in :mod:`aisandbox_api.local.status_updates`; cancel and suspend are fields of
the spec, read again at every event, so their order does not matter.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog
from aisandbox_crds import (
    Environment,
    Failure,
    InstallationSecret,
    Phase,
    ProgressReport,
    Reason,
    TrainerStart,
    TrainingRun,
    TrainingRunSpec,
)
from aisandbox_model_store import ModelStoreError, RunStore

from aisandbox_api.background_tasks import cancel
from aisandbox_api.errors import ApiError, AttemptOver, NotPermitted
from aisandbox_api.local import checkpoint_keys, status_updates
from aisandbox_api.local.artifacts import read_artifacts
from aisandbox_api.local.attempt import Attempt, not_started, read_termination_message, termination_message_path
from aisandbox_api.local.launcher import Launcher
from aisandbox_api.local.records import RecordStore
from aisandbox_api.local.run_state import RunState
from aisandbox_api.local.status_updates import AttemptEnd
from aisandbox_api.local.trainer_slots import TrainerSlots
from aisandbox_api.run_owner import owner_of

WAIT_NOTICE_SECONDS = 2.0
"""How often a run that waits for a slot looks at what those that have one do."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SupervisorContext:
    """What the runs of a service share. ``observe`` is called at every change of a run as (before, after)."""

    store: RunStore
    records: RecordStore
    slots: TrainerSlots
    launcher: Launcher
    secret: InstallationSecret | None
    progress_address: str
    session_socket: Path | None
    environment_of: Callable[[TrainingRun], Environment]
    now: Callable[[], str]
    observe: Callable[[TrainingRun | None, TrainingRun], None]
    log_level: str
    stop_grace_seconds: float


class RunSupervisor:
    """A run and the task that supervises it. For one event loop.

    ``is_saved``: the record on disk is equal to ``run``.
    """

    def __init__(self, run: TrainingRun, context: SupervisorContext, is_saved: bool = False) -> None:
        self.state = RunState(run, context.records, context.observe, is_saved)
        self._context = context
        self._folder = context.store.run(run.name)
        self._log = log.bind(run=run.name)
        self._stop_requested = asyncio.Event()  # the spec's cancel or suspend, or stop(), has changed
        self._stopping = False
        self._token = ""
        self._active_since: float | None = None
        self._before = run.status  # as it was when the present attempt began

    @property
    def run(self) -> TrainingRun:
        """The run as it is now."""
        return self.state.run

    def has_token(self, token: str) -> bool:
        """Whether ``token`` is the one of the running attempt; takes as long for every wrong one."""
        return bool(self._token) and secrets.compare_digest(token.encode(), self._token.encode())

    def change_spec(self, spec: TrainingRunSpec) -> None:
        """Changes cancel or suspend; takes effect at once if there is no trainer."""
        self.state.set(replace(self.run, spec=spec))
        if self.run.status.phase in (Phase.PENDING, Phase.SUSPENDED):
            self._apply_spec()
        self._stop_requested.set()

    def stop(self) -> None:
        """Ends :meth:`supervise` after the trainer's checkpoint, so that the run continues at the next start."""
        self._stopping = True
        self._stop_requested.set()
        self.state.end_watches()

    def report(self, report: ProgressReport) -> None:
        """Takes a report of an authenticated trainer. Raises AttemptOver, NotPermitted."""
        status = self.run.status
        if report.attempt < status.attempt or status.phase not in (Phase.STARTING, Phase.RUNNING):
            raise AttemptOver(f"attempt {report.attempt} of run {self.run.name!r} is over")
        if report.attempt > status.attempt:
            raise NotPermitted(f"the token is of attempt {status.attempt} of run {self.run.name!r}")
        self.state.set(status_updates.apply_report(self.run, report, self._before, self._context.now()))
        if self.run.status.phase is not status.phase:
            self._log.info("trainer trains", attempt=report.attempt, timesteps=report.timesteps)

    async def supervise(self) -> None:
        """Has the run trained until it is done or :meth:`stop` is called. An error of our own fails the run."""
        try:
            await self._supervise()
        except Exception as error:
            self._log.exception("supervising the run has failed")
            failure = Failure(Reason.SERVICE_FAULT, f"the service failed to supervise the run: {error!r}; see its log")
            self.state.set(status_updates.finish(self.run, Phase.FAILED, self._context.now(), failure))
        await self.state.save_if_possible()

    async def recover(self) -> None:
        """Restores the run after a restart of the service; the termination message says how its attempt ended."""
        if self.run.status.phase not in (Phase.STARTING, Phase.RUNNING):
            return
        message = await asyncio.to_thread(read_termination_message, self._folder.logs_path, self.run.status.attempt)
        await self._read_artifacts()
        if message is not None:
            # It stopped because the service did, so it is no failure of the trainer and does not count as one.
            end = AttemptEnd(message.exit_code, message, stop_asked=True)
            self.state.set(status_updates.finish_attempt(self.run, end, self._context.now())[0])
        if not self.run.status.phase.is_done:
            self.state.set(status_updates.recover(self.run))

    async def _supervise(self) -> None:
        delay = 0.0
        while not self._stopping and not self._apply_spec():
            if self.run.status.phase is Phase.SUSPENDED:
                await self.state.save_if_possible()
                await self._stop_requested.wait()
                self._stop_requested.clear()
                delay, self._active_since = 0.0, None
            elif await self._unless_stopped(self._acquire_slot(delay)):
                self._context.slots.holders[self.run.name] = lambda: self.run.status.progress.activity
                try:
                    delay = await self._run_attempt()
                finally:
                    self._context.slots.holders.pop(self.run.name, None)
                    self._context.slots.release(owner_of(self.run))
            else:
                delay = 0.0

    def _apply_spec(self) -> bool:
        """Gives a run without a trainer the phase that its spec asks for; whether it is done."""
        run, phase = self.run, self.run.status.phase
        if not phase.is_done:
            if run.spec.cancel:
                self.state.set(status_updates.finish(run, Phase.CANCELLED, self._context.now()))
            elif run.spec.suspend and phase is not Phase.SUSPENDED:
                self.state.set(status_updates.pause(run, Phase.SUSPENDED))
            elif not run.spec.suspend and phase is not Phase.PENDING:
                self.state.set(status_updates.pause(run, Phase.PENDING))
        return self.run.status.phase.is_done

    async def _acquire_slot(self, delay: float) -> None:
        await asyncio.sleep(delay)
        notice = asyncio.ensure_future(self._show_what_it_waits_for())
        try:
            await self._context.slots.acquire(self.run.creation_time + self.run.name, owner_of(self.run))
        finally:
            notice.cancel()
        if self.run.status.progress.warning.startswith(status_updates.WAITING_FOR_A_SLOT):
            self.state.set(status_updates.with_warning(self.run, ""))

    async def _show_what_it_waits_for(self) -> None:
        """Keeps the status of a run without a slot up to date with those that have one."""
        while True:
            warning = status_updates.waiting_for_a_slot(self._context.slots.number, self._context.slots.holders)
            if warning != self.run.status.progress.warning:
                self.state.set(status_updates.with_warning(self.run, warning))
            await asyncio.sleep(WAIT_NOTICE_SECONDS)

    async def _run_attempt(self) -> float:
        """One attempt; the seconds to wait before the next one."""
        if self._is_stop_wanted():  # since the slot was assigned
            return 0.0
        self.state.set(status_updates.start_loading(self.run))
        if not await self._unless_stopped(self._context.launcher.ready()):
            return 0.0
        self._before = self.run.status
        self.state.set(status_updates.start_attempt(self.run, self._context.now()))
        try:
            attempt = await self._launch()
        except (ApiError, ModelStoreError, OSError) as error:
            end = not_started(error)
        else:
            end = await attempt.wait(
                self._unless_stopped, self._seconds_to_deadline(), self._context.stop_grace_seconds
            )
        self._token = ""
        await self._read_artifacts()
        after, delay = status_updates.finish_attempt(self.run, end, self._context.now())
        self.state.set(after)
        self._log_end(end, delay)
        await self.state.save_if_possible()
        return delay

    async def _launch(self) -> Attempt:
        environment = self._context.environment_of(self.run)
        if self._context.secret is not None:
            self.state.set(checkpoint_keys.with_key(self.run))
        await self.state.save()  # an attempt's number must never be used twice
        self._token = secrets.token_urlsafe(32)
        number, logs_path = self.run.status.attempt, self._folder.logs_path
        start = TrainerStart(
            run_id=self.run.name,
            attempt=number,
            spec=replace(self.run.spec, environment=environment),
            models_dir=self._context.store.models_dir,
            checkpoint_dir=self._context.store.checkpoint_dir,
            progress_address=self._context.progress_address,
            progress_token=self._token,
            session_socket=self._context.session_socket,
            termination_message_path=termination_message_path(logs_path, number),
            log_level=self._context.log_level,
            **self._checkpoint_key(),
        )
        return await Attempt.launch(self._context.launcher, start, number, logs_path)

    def _checkpoint_key(self) -> dict[str, Any]:
        """What its trainer signs checkpoints with, as fields of TrainerStart."""
        secret = self._context.secret
        if secret is None:
            return {}
        unsigned = checkpoint_keys.may_have_unsigned(self.run)
        return {"checkpoint_key": secret.key_of(self.run.name), "accept_unsigned_checkpoints": unsigned}

    def _seconds_to_deadline(self) -> float | None:
        """As a Job's, the deadline counts from the first attempt, and from the beginning after a pause."""
        now, limit = asyncio.get_running_loop().time(), self.run.spec.active_deadline_seconds
        self._active_since = now if self._active_since is None else self._active_since
        return None if limit is None else max(self._active_since + limit - now, 0.0)

    async def _read_artifacts(self) -> None:
        try:
            artifacts = await asyncio.to_thread(read_artifacts, self._folder)
        except OSError as error:
            self._log.warning("published artifacts cannot be read", error=str(error))
        else:
            self.state.set(replace(self.run, status=artifacts.recorded_in(self.run.status)))

    async def _unless_stopped(self, awaitable: Awaitable[object]) -> bool:
        """Whether ``awaitable`` finished before a stop was asked for; if not it is cancelled."""
        task = asyncio.ensure_future(awaitable)
        try:
            while not task.done() and not self._is_stop_wanted():
                requested = asyncio.ensure_future(self._stop_requested.wait())
                await asyncio.wait([task, requested], return_when=asyncio.FIRST_COMPLETED)
                requested.cancel()
                self._stop_requested.clear()
            if task.done():
                task.result()
                return True
            return False
        finally:
            if not task.done():
                await cancel(task)

    def _is_stop_wanted(self) -> bool:
        return self._stopping or self.run.spec.cancel or self.run.spec.suspend

    def _log_end(self, end: AttemptEnd, delay: float) -> None:
        status = self.run.status
        reason = status.failure.reason if status.failure else None
        self._log.info("attempt ended", attempt=status.attempt, exit_code=end.code, reason=reason, next_in=delay)
