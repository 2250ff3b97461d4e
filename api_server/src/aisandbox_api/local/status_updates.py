"""How the status of a run changes: pure functions from a run and an event to the run after it.

Owns the rules: which phase follows, what counts as a restart, the backoff before the next attempt. Must not know
processes, files or the clock (``now`` is RFC 3339, passed in). What a report makes of a status is
:mod:`aisandbox_crds.progress`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from aisandbox_crds import (
    Activity,
    ExitCode,
    Failure,
    Phase,
    ProgressReport,
    TerminationMessage,
    TrainingRun,
    TrainingRunStatus,
    backoff_limit_failure,
    deadline_failure,
    explain_exit,
    idle,
    is_training,
    status_after_last_report,
    status_after_report,
)

FIRST_BACKOFF_SECONDS = 1.0
LONGEST_BACKOFF_SECONDS = 60.0
SHOWN_HOLDERS = 5
WAITING_FOR_A_SLOT = "waiting for a trainer slot"
_MORE_MEMORY = "fewer concurrent runs (MAX_CONCURRENT_RUNS)"


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """How an attempt ended.

    ``code`` is 128 + the signal for a killed trainer, None if it is unknown. ``message`` is the trainer's termination
    message. ``log_tail``: the last lines of its log. ``stop_asked``: the service had asked it to stop.
    ``not_started``: why its trainer could not be started.
    """

    code: int | None
    message: TerminationMessage | None = None
    log_tail: Sequence[str] = ()
    stop_asked: bool = False
    deadline_passed: bool = False
    not_started: Failure | None = None


def start_loading(run: TrainingRun) -> TrainingRun:
    """The run with a slot, while the fork server that its trainer is forked from still loads."""
    progress = idle(run.status.progress, activity=Activity.STARTING)
    return _with(run, replace(run.status, phase=Phase.STARTING, progress=progress))


def start_attempt(run: TrainingRun, now: str) -> TrainingRun:
    """The run with its next attempt."""
    status = run.status
    return _with(
        run,
        replace(
            status,
            phase=Phase.STARTING,
            attempt=status.attempt + 1,
            start_time=status.start_time or now,
            resumed_from=status.latest_checkpoint,
            progress=idle(status.progress, activity=Activity.STARTING),
        ),
    )


def waiting_for_a_slot(number: int, holders: Mapping[str, Callable[[], str]]) -> str:
    """What a run without a trainer slot waits for: ``holders`` tell by their names what they do now."""
    shown = [f"{name} ({activity() or 'Starting'})" for name, activity in sorted(holders.items())[:SHOWN_HOLDERS]]
    others = f" and {len(holders) - len(shown)} more" if len(holders) > len(shown) else ""
    return f"{WAITING_FOR_A_SLOT}; all {number} (MAX_CONCURRENT_RUNS) are taken by: {', '.join(shown)}{others}"


def with_warning(run: TrainingRun, warning: str) -> TrainingRun:
    """The run with another warning."""
    return _with(run, replace(run.status, progress=replace(run.status.progress, warning=warning)))


def pause(run: TrainingRun, phase: Phase) -> TrainingRun:
    """The run without a trainer: Pending or Suspended."""
    return _with(run, replace(run.status, phase=phase, progress=idle(run.status.progress)))


def recover(run: TrainingRun) -> TrainingRun:
    """An unfinished run after a restart of the service, which its trainer did not survive."""
    if run.status.phase not in (Phase.STARTING, Phase.RUNNING):
        return run
    run = pause(run, Phase.PENDING)
    return _with(run, replace(run.status, restarts=run.status.restarts + (run.status.attempt > 0)))


def finish(run: TrainingRun, phase: Phase, now: str, failure: Failure | None = None) -> TrainingRun:
    """The run in a final phase."""
    progress = replace(idle(run.status.progress), warning="")
    return _with(run, replace(run.status, phase=phase, completion_time=now, failure=failure, progress=progress))


def finish_attempt(run: TrainingRun, end: AttemptEnd, now: str) -> tuple[TrainingRun, float]:
    """The run after an attempt, and the seconds to wait before the next one (if it is not done)."""
    run = _with(run, status_after_last_report(run.status, end.message, total=run.spec.total_timesteps, now=now))
    if end.code == ExitCode.DONE:
        return finish(run, Phase.SUCCEEDED, now), 0.0
    if run.spec.cancel:
        return finish(run, Phase.CANCELLED, now), 0.0
    if end.deadline_passed:
        return finish(run, Phase.FAILED, now, deadline_failure(run.spec.active_deadline_seconds)), 0.0
    failure = describe(end)
    if end.code == ExitCode.PERMANENT:
        return finish(run, Phase.FAILED, now, failure), 0.0
    if end.stop_asked:
        return pause(run, Phase.PENDING), 0.0
    return _restart(run, failure, counts=end.code != ExitCode.CANCELLED, now=now)


def _restart(run: TrainingRun, failure: Failure, counts: bool, now: str) -> tuple[TrainingRun, float]:
    counted = run.status.restarts_count_towards_max + counts
    if counted > run.spec.backoff_limit:
        return finish(
            run, Phase.FAILED, now, backoff_limit_failure(failure, run.status.attempt, run.status.restarts)
        ), 0.0
    delay = backoff_seconds(max(counted, 1))
    run = pause(run, Phase.PENDING)
    status = replace(
        run.status,
        restarts=run.status.restarts + 1,
        restarts_count_towards_max=counted,
        progress=replace(
            run.status.progress,
            warning=f"attempt {run.status.attempt} has ended: {failure.message}; the next one starts in {delay:g} s",
        ),
    )
    return _with(run, status), delay


def backoff_seconds(restart: int) -> float:
    """1, 2, 4, ... up to 60 seconds before the restart with that number."""
    return float(min(FIRST_BACKOFF_SECONDS * 2 ** min(restart - 1, 10), LONGEST_BACKOFF_SECONDS))


def describe(end: AttemptEnd) -> Failure:
    """Why an attempt that was not DONE has ended, for people."""
    if end.not_started is not None:
        return end.not_started
    return explain_exit(end.code, end.message, " | ".join(end.log_tail), more_memory=_MORE_MEMORY)


def apply_report(run: TrainingRun, report: ProgressReport, before: TrainingRunStatus, now: str) -> TrainingRun:
    """The run after a report of its present attempt; ``before`` is the status at the beginning of that attempt."""
    running = is_training(report) or run.status.phase is Phase.RUNNING
    status = status_after_report(run.status, report, before, running=running, total=run.spec.total_timesteps, now=now)
    return _with(run, replace(status, phase=Phase.RUNNING if running else Phase.STARTING))


def _with(run: TrainingRun, status: TrainingRunStatus) -> TrainingRun:
    return replace(run, status=status)
