"""What trainers have reported to this process, and what a run looks like with it.

Pure functions and values. The cluster says what phase a run is in; a trainer says how far it is; this is the one place
where both are put together, so that a status call answers as it would on one machine. Must not know calls or the cache.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from aisandbox_crds.effective_values import seed_of
from aisandbox_crds.reasons import Reason
from aisandbox_crds.status import (
    Artifact,
    ConditionStatus,
    ConditionType,
    Phase,
    Progress,
    TrainingRunStatus,
)
from aisandbox_crds.times import later_time
from aisandbox_crds.trainingrun import TrainingRun

from aisandbox_api.backend import Activity, ProgressReport
from aisandbox_api.errors import AttemptOver
from aisandbox_api.reports import is_training, reported, resting

NO_TROUBLE = frozenset({Reason.TRAINER_STARTING, Reason.CANCELLING})
"""Reasons of the condition Running for which a run without a running pod is as it should be."""


@dataclass(frozen=True, slots=True)
class Live:
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


def take(run: TrainingRun, live: Live | None, report: ProgressReport, now: str) -> Live:
    """The report, taken. ``run`` is as the cluster has it. Raises AttemptOver."""
    live = live if live is not None and live.uid == run.uid else None
    status = _newest(run.status, live)
    now = later_time(status.progress.last_updated_time, now)
    newest = max(status.progress.attempt, status.attempt)
    # A trainer that was suspended has said its last; what comes in late may be older than that.
    is_late = run.status.phase is Phase.SUSPENDED and (report.attempt, report.timesteps) < (
        newest,
        status.progress.timesteps,
    )
    if run.status.phase.is_done or report.attempt < newest or is_late:
        raise AttemptOver(f"attempt {report.attempt} of run {run.name!r} is over")
    if live is not None and live.attempt == report.attempt:
        before, trained = live.before, live.trained
    elif status.progress.attempt == report.attempt:  # reported to another process
        trained = status.progress.activity not in ("", Activity.STARTING)
        before = None if trained else status
    else:
        before, trained = status, False
    trained = trained or is_training(report)
    after = reported(status, report, before, running=trained, total=run.spec.total_timesteps, now=now)
    after = replace(
        after,
        latest_checkpoint=_dated(after.latest_checkpoint, status.latest_checkpoint, now),
        latest_model=_dated(after.latest_model, status.latest_model, now),
        best_model=_dated(after.best_model, status.best_model, now),
    )
    return Live(run.uid, after, before, trained)


def is_urgent(before: TrainingRunStatus, after: TrainingRunStatus) -> bool:
    """Whether others should know at once: another attempt, activity, warning or artefact, or the last timestep."""
    old, new = before.progress, after.progress
    return (
        (old.attempt, old.activity, old.warning) != (new.attempt, new.activity, new.warning)
        or before.latest_checkpoint != after.latest_checkpoint
        or before.latest_model != after.latest_model
        or before.best_model != after.best_model
        or old.timesteps < new.total_timesteps <= new.timesteps
    )


def view(run: TrainingRun, live: Live | None) -> TrainingRun:
    """The run as clients see it.

    While no trainer is at work there is no pace; what keeps a pod from starting is a warning. A container that runs is
    Running to Kubernetes; to a client the run is Starting until its trainer has loaded and connected, as the proto has
    it. A seed that nobody named is the one its trainers are given.
    """
    if run.spec.seed is None:
        run = replace(run, spec=replace(run.spec, seed=seed_of(run.uid)))
    status, phase = run.status, run.status.phase
    if phase.is_done:
        return replace(run, status=replace(status, progress=replace(resting(status.progress), warning="")))
    status = _newest(status, live if live is not None and live.uid == run.uid else None)
    progress = status.progress
    if phase in (Phase.PENDING, Phase.SUSPENDED):
        progress = resting(progress)
    elif phase is Phase.STARTING:
        progress = resting(progress, Activity.STARTING)
    elif progress.attempt >= status.attempt and progress.activity == Activity.STARTING:
        phase = Phase.STARTING
    if phase in (Phase.PENDING, Phase.STARTING):
        progress = _warned(progress, status)
    attempt = max(status.attempt, progress.attempt)
    return replace(run, status=replace(status, phase=phase, progress=progress, attempt=attempt))


def is_old(live: Live, status: TrainingRunStatus) -> bool:
    """Whether the cluster has something newer: from another replica, or the trainer's last words."""
    return _order(live.status.progress) < _order(status.progress)


def looks_same(one: TrainingRun, other: TrainingRun) -> bool:
    """Whether a client can see no difference: versions and conditions change without one."""
    return _shown(one) == _shown(other)


def _shown(run: TrainingRun) -> TrainingRun:
    progress = replace(run.status.progress, last_updated_time=None)
    status = replace(run.status, progress=progress, conditions=(), observed_generation=0)
    return replace(run, status=status, resource_version="", generation=0)


def _newest(status: TrainingRunStatus, live: Live | None) -> TrainingRunStatus:
    """The status with the newer progress of the two: the trainer may have gone over to another replica."""
    if live is None or is_old(live, status):
        return status
    return replace(
        status,
        progress=live.status.progress,
        latest_checkpoint=live.status.latest_checkpoint,
        latest_model=live.status.latest_model,
        best_model=live.status.best_model,
        resumed_from=live.status.resumed_from,
        timesteps_lost=live.status.timesteps_lost,
    )


def _order(progress: Progress) -> tuple[int, str]:
    return progress.attempt, progress.last_updated_time or ""


def _warned(progress: Progress, status: TrainingRunStatus) -> Progress:
    for condition in status.conditions:
        if condition.type is ConditionType.RUNNING and condition.status is ConditionStatus.FALSE:
            trouble = "" if condition.reason in NO_TROUBLE else condition.message
            return replace(progress, warning=trouble or progress.warning)
    return progress


def _dated(artifact: Artifact | None, known: Artifact | None, now: str) -> Artifact | None:
    """The artefact with the time it was first heard of."""
    if artifact is None or artifact.time is not None:
        return artifact
    if known is not None and (known.path, known.digest) == (artifact.path, artifact.digest):
        return replace(artifact, time=known.time)
    return replace(artifact, time=now)
