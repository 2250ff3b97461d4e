"""What a trainer's report makes of a run's status: pure functions, the same for every backend.

Must not know where runs are kept, who may report, or the time (``now`` is RFC 3339, passed in).
"""

from __future__ import annotations

from dataclasses import replace

from aisandbox_crds.reasons import Reason
from aisandbox_crds.status import Condition, ConditionStatus, ConditionType, Progress, TrainingRunStatus

from aisandbox_api.backend import Activity, ProgressReport


def is_training(report: ProgressReport) -> bool:
    """Whether the trainer has everything loaded and is past its start."""
    return report.activity in (Activity.TRAINING, Activity.EVALUATING)


def reported(
    status: TrainingRunStatus,
    report: ProgressReport,
    before: TrainingRunStatus | None,
    *,
    running: bool,
    total: int,
    now: str,
) -> TrainingRunStatus:
    """The status after a report of its present attempt; the phase is the backend's to decide.

    ``before`` is the status at the beginning of that attempt; None: what the restart lost is counted already.
    ``running``: the attempt trains or has trained. While it starts, the count of timesteps stays where it was rather
    than falling to zero. ``total`` is the spec's.
    """
    timesteps = report.timesteps if running else max(report.timesteps, status.progress.timesteps)
    lost = status.timesteps_lost
    if running and before is not None:
        from_ = report.resumed_from.timesteps if report.resumed_from else 0
        counted = max(before.progress.timesteps - from_, 0)
        lost = before.timesteps_lost + max(counted, report.timesteps_lost)
    progress = Progress(
        timesteps=timesteps,
        total_timesteps=total,
        progress_percentage=percentage(timesteps, total),
        fps=report.fps if running else 0.0,
        estimated_remaining_seconds=_remaining(total - timesteps, report.fps if running else 0.0),
        episode_reward_mean=_first(report.episode_reward_mean, status.progress.episode_reward_mean),
        episode_length_mean=_first(report.episode_length_mean, status.progress.episode_length_mean),
        evaluation_reward_mean=_first(report.evaluation_reward_mean, status.progress.evaluation_reward_mean),
        activity=report.activity,
        warning=report.warning,
        last_updated_time=now,
        attempt=report.attempt,
    )
    return replace(
        status,
        progress=progress,
        latest_checkpoint=report.latest_checkpoint or status.latest_checkpoint,
        latest_model=report.latest_model or status.latest_model,
        best_model=report.best_model or status.best_model,
        resumed_from=report.resumed_from if running else status.resumed_from,
        timesteps_lost=lost,
        conditions=_with_saved(status.conditions, report, now),
    )


def _with_saved(conditions: tuple[Condition, ...], report: ProgressReport, now: str) -> tuple[Condition, ...]:
    """The conditions with CheckpointsSaved: whether what was due last is saved; not said before anything was due."""
    if not (report.unsaved or report.latest_checkpoint):
        return conditions
    if report.unsaved:
        saved = Condition(ConditionType.CHECKPOINTS_SAVED, ConditionStatus.FALSE, Reason.DISK_FULL, report.unsaved, now)
    else:
        saved = Condition(ConditionType.CHECKPOINTS_SAVED, ConditionStatus.TRUE, Reason.SAVED, "", now)
    others = tuple(each for each in conditions if each.type is not saved.type)
    known = next((each for each in conditions if each.type is saved.type), None)
    if known is not None and known.status is saved.status:
        saved = replace(saved, last_transition_time=known.last_transition_time)
    return (*others, saved)


def resting(progress: Progress, activity: str = "") -> Progress:
    """The progress of a run without a trainer at work: what was reached, and no pace."""
    return replace(progress, fps=0.0, estimated_remaining_seconds=None, activity=activity)


def percentage(timesteps: int, total: int) -> float:
    """0 to 100, in hundredths."""
    return round(min(100.0 * timesteps / total, 100.0), 2)


def _remaining(timesteps: int, fps: float) -> float | None:
    return max(timesteps, 0) / fps if fps > 0 else None


def _first(value: float | None, otherwise: float | None) -> float | None:
    return otherwise if value is None else value
