"""What trainers have reported to this process, and how a run is shown with it.

Pure functions and values. The resource has the phase of a run, reports have its progress; this module merges both, so
that a status call is answered as on one machine. What a report makes of a status is in :mod:`aisandbox_crds.progress`.
Must not know calls or the cache.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from aisandbox_crds import (
    PUBLISHED,
    Activity,
    ConditionStatus,
    ConditionType,
    Phase,
    Progress,
    ProgressReport,
    Reason,
    TrainingRun,
    TrainingRunStatus,
    idle,
    is_older,
    is_training,
    later_time,
    seed_of,
    status_after_report,
    with_artifact_times,
    with_newer_progress,
)

from aisandbox_api.errors import AttemptOver

NO_TROUBLE = frozenset({Reason.TRAINER_STARTING, Reason.CANCELLING})
"""Reasons of the condition Running for which a run without a running pod is as it should be."""


@dataclass(frozen=True, slots=True)
class LiveProgress:
    """The last report of a run, as the status it makes.

    ``before`` is the status at the beginning of its attempt; None: an earlier process has counted what was lost then.
    ``trained``: the attempt is past its start.
    """

    uid: str
    status: TrainingRunStatus
    before: TrainingRunStatus | None
    trained: bool

    @property
    def attempt(self) -> int:
        """Whose report it is."""
        return self.status.progress.attempt


def accept_report(run: TrainingRun, live: LiveProgress | None, report: ProgressReport, now: str) -> LiveProgress:
    """The progress after a report. ``run`` is as the cluster has it. Raises AttemptOver."""
    live = live if live is not None and live.uid == run.uid else None
    status = _with_live(run.status, live)
    now = later_time(status.progress.last_updated_time, now)
    latest = max(status.progress.attempt, status.attempt)
    # The last report of a suspended trainer is in its termination message; one that arrives late may be older.
    is_late = run.status.phase is Phase.SUSPENDED and (report.attempt, report.timesteps) < (
        latest,
        status.progress.timesteps,
    )
    if run.status.phase.is_done or report.attempt < latest or is_late:
        raise AttemptOver(f"attempt {report.attempt} of run {run.name!r} is over")
    if live is not None and live.attempt == report.attempt:
        before, trained = live.before, live.trained
    elif status.progress.attempt == report.attempt:  # reported to another process
        trained = status.progress.activity not in ("", Activity.STARTING)
        before = None if trained else status
    else:
        before, trained = status, False
    trained = trained or is_training(report)
    after = status_after_report(status, report, before, running=trained, total=run.spec.total_timesteps, now=now)
    after = with_artifact_times(after, now)
    return LiveProgress(run.uid, after, before, trained)


def is_urgent(before: TrainingRunStatus, after: TrainingRunStatus) -> bool:
    """Whether others should know at once: another attempt, activity, warning or artefact, or the last timestep."""
    old, new = before.progress, after.progress
    return (
        (old.attempt, old.activity, old.warning) != (new.attempt, new.activity, new.warning)
        or any(getattr(before, name) != getattr(after, name) for name in PUBLISHED)
        or old.timesteps < new.total_timesteps <= new.timesteps
    )


def shown_run(run: TrainingRun, live: LiveProgress | None) -> TrainingRun:
    """The run as clients see it.

    Without a running trainer there is no speed; what keeps a pod from starting, or a node that does not answer, is a
    warning. A container that runs is Running to Kubernetes; to a client the run is Starting until its trainer has
    loaded and connected, as the proto has it. A seed that was not requested is the one its trainers are given.
    """
    if run.spec.seed is None:
        run = replace(run, spec=replace(run.spec, seed=seed_of(run.files_uid)))
    status, phase = run.status, run.status.phase
    if phase.is_done:
        return replace(run, status=replace(status, progress=replace(idle(status.progress), warning="")))
    status = _with_live(status, live if live is not None and live.uid == run.uid else None)
    progress = status.progress
    if phase in (Phase.PENDING, Phase.SUSPENDED):
        progress = idle(progress)
    elif phase is Phase.STARTING:
        progress = idle(progress, Activity.STARTING)
    elif progress.attempt >= status.attempt and progress.activity == Activity.STARTING:
        phase = Phase.STARTING
    if phase in (Phase.PENDING, Phase.STARTING, Phase.RUNNING):
        progress = _with_condition_warning(progress, status)
    attempt = max(status.attempt, progress.attempt)
    return replace(run, status=replace(status, phase=phase, progress=progress, attempt=attempt))


def is_outdated(live: LiveProgress, status: TrainingRunStatus) -> bool:
    """Whether the cluster has something newer: from another replica, or from a termination message."""
    return is_older(live.status.progress, status.progress)


def looks_same(one: TrainingRun, other: TrainingRun) -> bool:
    """Whether a client can see no difference: versions and conditions change without one."""
    return _visible_part(one) == _visible_part(other)


def _visible_part(run: TrainingRun) -> TrainingRun:
    progress = replace(run.status.progress, last_updated_time=None)
    status = replace(run.status, progress=progress, conditions=(), observed_generation=0)
    return replace(run, status=status, resource_version="", generation=0)


def _with_live(status: TrainingRunStatus, live: LiveProgress | None) -> TrainingRunStatus:
    """The status with the newer progress of the two: the trainer may report to another replica now."""
    return status if live is None else with_newer_progress(status, live.status)


def _with_condition_warning(progress: Progress, status: TrainingRunStatus) -> Progress:
    for condition in status.conditions:
        if condition.type is ConditionType.RUNNING and condition.status is not ConditionStatus.TRUE:
            trouble = "" if condition.reason in NO_TROUBLE else condition.message
            return replace(progress, warning=trouble or progress.warning)
    return progress
