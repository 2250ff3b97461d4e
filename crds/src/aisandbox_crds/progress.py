"""What a trainer's reports make of a run's status: pure functions, the same for every process that writes one.

A report is a snapshot of one attempt (:class:`~aisandbox_crds.status.ProgressReport`). It arrives while the trainer
works, over gRPC, or with its end, as the termination message. Fields are copied by their names, so a field that both a
report and the status have needs no line here. Must not know where runs are kept, who may report, or the time (``now``
is RFC 3339, passed in).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

from aisandbox_crds.conditions import Condition, ConditionStatus, ConditionType
from aisandbox_crds.errors import FieldError, printable
from aisandbox_crds.reasons import EARLY_STOPS, Reason
from aisandbox_crds.status import Progress, ProgressReport, TrainingRunStatus
from aisandbox_crds.status_values import Activity, Artifact, CloningProgress, EarlyStop, LessonProgress
from aisandbox_crds.times import later_time, parse_time

MAX_TEXT = 1000
"""Characters that are kept of each text of a report."""

PUBLISHED = ("latest_checkpoint", "latest_model", "best_model")
"""What a trainer publishes: fields of a report and of the status; one that a report lacks stays as it was."""

REPORTED = ("progress", *PUBLISHED, "resumed_from", "timesteps_lost", "early_stop", "started_from")
"""The fields of a status that follow from reports. Beside them, the condition CheckpointsSaved does."""

_MEASURED = tuple(
    field.name for field in fields(Progress) if field.name in {reported.name for reported in fields(ProgressReport)}
)
"""The fields that a report and the status's ``progress`` have in common."""

_EARLIEST = datetime.min.replace(tzinfo=UTC)


def report_errors(report: ProgressReport) -> Iterator[FieldError]:
    """What no trainer can mean: counts and rates below zero, numbers that are not finite."""
    for field in fields(report):
        value = getattr(report, field.name)
        if isinstance(value, float) and not math.isfinite(value):
            yield FieldError(field.name, f"must be finite, got {value}")
        elif (isinstance(value, int) or field.name == "fps") and value < 0:
            yield FieldError(field.name, f"must not be negative, got {value}")
    for part in ("lesson", "cloning"):
        if (numbers := getattr(report, part)) is not None:
            yield from _number_errors(part, numbers)


def _number_errors(part: str, numbers: LessonProgress | CloningProgress) -> Iterator[FieldError]:
    for field in fields(numbers):
        value = getattr(numbers, field.name)
        if isinstance(value, float) and not math.isfinite(value):
            yield FieldError(f"{part}.{field.name}", f"must be finite, got {value}")
        elif isinstance(value, int) and value < 0:
            yield FieldError(f"{part}.{field.name}", f"must not be negative, got {value}")


def truncate_texts(report: ProgressReport) -> ProgressReport:
    """The report with at most MAX_TEXT characters of each text, those that are not printable escaped."""
    texts: dict[str, Any] = {
        field.name: printable(value[:MAX_TEXT])[:MAX_TEXT]
        for field in fields(report)
        if isinstance(value := getattr(report, field.name), str) and not isinstance(value, Activity)
    }
    if (stop := report.early_stop) is not None:
        texts["early_stop"] = bounded_early_stop(stop)
    if (lesson := report.lesson) is not None:
        texts["lesson"] = replace(lesson, name=printable(lesson.name[:MAX_TEXT])[:MAX_TEXT])
    return replace(report, **texts)


def bounded_early_stop(stop: EarlyStop) -> EarlyStop:
    """The same with texts that the resource's schema takes, whatever a trainer has said."""
    reason = stop.reason if stop.reason in EARLY_STOPS else Reason.SUCCEEDED
    return EarlyStop(str(reason), printable(stop.message[:MAX_TEXT])[:MAX_TEXT])


def is_training(report: ProgressReport) -> bool:
    """Whether the trainer has everything loaded and is past its start."""
    return report.activity in (
        Activity.CLONING,
        Activity.TRAINING,
        Activity.EVALUATING,
        Activity.UPDATING,
        Activity.WAITING_FOR_STEP,
    )


def is_older(one: Progress, other: Progress) -> bool:
    """Whether ``other`` is newer: of a later attempt, or reported later by the same one.

    The time counts and not the timesteps, which fall when an attempt resumes. Whoever writes a progress makes its time
    later than that of the one it replaces (:func:`aisandbox_crds.times.later_time`).
    """
    return _order(one) < _order(other)


def with_newer_progress(status: TrainingRunStatus, other: TrainingRunStatus) -> TrainingRunStatus:
    """``status`` with all that follows from reports as it is in the one of the two with the newer progress."""
    if is_older(other.progress, status.progress):
        return status
    return replace(status, **{name: getattr(other, name) for name in REPORTED})


def status_after_report(
    status: TrainingRunStatus,
    report: ProgressReport,
    before: TrainingRunStatus | None,
    *,
    running: bool,
    total: int,
    now: str,
) -> TrainingRunStatus:
    """The status after a report of its present attempt; the phase is the caller's to decide.

    ``before`` is the status at the beginning of that attempt; None: what the restart lost is counted already.
    ``running``: the attempt trains or has trained. While it starts, the count of timesteps stays where it was rather
    than falling to zero. ``total`` is the spec's. A measurement or artifact that the report lacks stays as it was.
    """
    said = {name: getattr(report, name) for name in _MEASURED}
    measured: dict[str, Any] = {
        name: getattr(status.progress, name) if value is None else value for name, value in said.items()
    }
    measured["timesteps"] = report.timesteps if running else max(report.timesteps, status.progress.timesteps)
    measured["fps"] = report.fps if running else 0.0
    progress = replace(status.progress, **measured, last_updated_time=now)
    progress = replace(progress, estimated_remaining_seconds=_remaining(total - progress.timesteps, progress.fps))
    lost = _lost_with_dropped(status, report)
    if running and before is not None:
        start = report.resumed_from.timesteps if report.resumed_from else 0
        lost = before.timesteps_lost + max(before.progress.timesteps - start, 0) + report.timesteps_dropped
    return replace(
        status,
        progress=_of_total(progress, total),
        resumed_from=report.resumed_from if running else status.resumed_from,
        timesteps_lost=lost,
        early_stop=report.early_stop or status.early_stop,
        started_from=report.started_from or status.started_from,
        conditions=_with_saved(status.conditions, report, now),
        **_published(report, status),
    )


def status_after_last_report(
    status: TrainingRunStatus, report: ProgressReport | None, *, total: int, now: datetime | str
) -> TrainingRunStatus:
    """The status with what a trainer reported at its end, in its termination message; None: it left none.

    The same status if the report is of an earlier attempt or says nothing new. Otherwise its time is later than that of
    every report before. A trainer that did not come to train reports the timesteps it began with: they take nothing
    back.
    """
    if report is None or report.attempt < status.progress.attempt:
        return status
    start = report.resumed_from.timesteps if report.resumed_from is not None else 0
    trained = report.timesteps > start or report.timesteps_dropped > 0
    timesteps = report.timesteps if trained else max(report.timesteps, status.progress.timesteps)
    dropped = report.timesteps_dropped
    progress = replace(status.progress, timesteps=timesteps, attempt=report.attempt, timesteps_dropped=dropped)
    lost = _lost_with_dropped(status, report)
    after = replace(
        status,
        progress=_of_total(progress, total),
        timesteps_lost=lost,
        early_stop=report.early_stop or status.early_stop,
        started_from=report.started_from or status.started_from,
        **_published(report, status),
    )
    if after == status:
        return status
    time = later_time(status.progress.last_updated_time, now)
    return replace(after, progress=replace(after.progress, last_updated_time=time))


def with_artifact_times(status: TrainingRunStatus, now: str) -> TrainingRunStatus:
    """The status with the time ``now`` at every published artifact that has none."""
    found = {name: getattr(status, name) for name in PUBLISHED}
    return replace(
        status,
        **{name: replace(artifact, time=now) for name, artifact in found.items() if artifact and not artifact.time},
    )


def idle(progress: Progress, activity: str = "") -> Progress:
    """The progress of a run without a running trainer: the same counts, and a speed of 0."""
    return replace(progress, fps=0.0, estimated_remaining_seconds=None, activity=activity)


def _lost_with_dropped(status: TrainingRunStatus, report: ProgressReport) -> int:
    """``timesteps_lost`` with what the attempt has dropped, of which a part may be counted already."""
    counted = status.progress.timesteps_dropped if status.progress.attempt == report.attempt else 0
    return status.timesteps_lost + max(report.timesteps_dropped - counted, 0)


def _order(progress: Progress) -> tuple[int, datetime]:
    return progress.attempt, parse_time(progress.last_updated_time) or _EARLIEST


def _of_total(progress: Progress, total: int) -> Progress:
    """With the percentage, 0 to 100 in hundredths; ``total`` 0: not known."""
    percentage = round(min(100.0 * progress.timesteps / total, 100.0), 2) if total > 0 else 0.0
    return replace(progress, total_timesteps=total, progress_percentage=percentage)


def _published(report: ProgressReport, status: TrainingRunStatus) -> dict[str, Any]:
    """The artifacts after the report; one that is known already keeps its time, which is when it was first reported."""
    return {name: _newer_artifact(getattr(report, name), getattr(status, name)) for name in PUBLISHED}


def _newer_artifact(artifact: Artifact | None, known: Artifact | None) -> Artifact | None:
    if artifact is None:
        return known
    if known is not None and (known.path, known.digest) == (artifact.path, artifact.digest):
        return replace(artifact, time=artifact.time or known.time)
    return artifact


def _with_saved(conditions: tuple[Condition, ...], report: ProgressReport, now: str) -> tuple[Condition, ...]:
    """The conditions with CheckpointsSaved: whether what was due last is saved; absent before anything was due."""
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


def _remaining(timesteps: int, fps: float) -> float | None:
    return max(timesteps, 0) / fps if fps > 0 else None
