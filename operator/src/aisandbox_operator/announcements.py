"""Events for ``kubectl describe``: what has just become so, told once.

An event's name follows from what it tells, so that an operator that crashed after telling it, or a second one, tells it
into the same event; nothing is told of a state that lasts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from aisandbox_crds.status import ConditionStatus, ConditionType, Phase, TrainingRunStatus

from aisandbox_operator.decision import CreateJob, Decision
from aisandbox_operator.situation import Situation

LONGEST_NOTE = 1000
"""Of events.k8s.io/v1: under 1 kB."""

_OF_PHASES = {
    Phase.RUNNING: "TrainerRunning",
    Phase.SUSPENDED: "Suspended",
    Phase.SUCCEEDED: "Succeeded",
    Phase.CANCELLED: "Cancelled",
}


@dataclass(frozen=True, slots=True)
class Announcement:
    """One event about a run; ``is_warning``: a person may have to act."""

    name: str
    reason: str
    note: str
    is_warning: bool = False


def announcements_of(situation: Situation, decision: Decision, after: TrainingRunStatus) -> tuple[Announcement, ...]:
    """What the step from the run's present status to ``after`` has to tell."""
    return tuple(
        Announcement(_name(situation, reason, after), reason, note.encode()[:LONGEST_NOTE].decode(errors="ignore"), bad)
        for reason, note, bad in _told(situation, decision, after)
    )


def _told(situation: Situation, decision: Decision, after: TrainingRunStatus) -> Iterable[tuple[str, str, bool]]:
    before = situation.run.status
    if isinstance(decision.action, CreateJob):
        yield "JobCreated", f"the Job {situation.run.name!r} is made", False
    if after == before:
        return
    if after.phase is Phase.FAILED and before.phase is not Phase.FAILED:
        yield decision.reason, decision.message, True
    elif after.phase is not before.phase and after.phase in _OF_PHASES:
        yield _OF_PHASES[after.phase], decision.message, False
    elif decision.is_trouble and _reason(before) != decision.reason:
        yield decision.reason, decision.message, True
    if decision.has_stalled and after.phase is Phase.RUNNING and not _has_stalled(before):
        yield "ProgressStalled", decision.message, True


def _reason(status: TrainingRunStatus) -> str:
    return next((each.reason for each in status.conditions if each.type is ConditionType.RUNNING), "")


def _has_stalled(status: TrainingRunStatus) -> bool:
    return any(
        each.type is ConditionType.PROGRESS_STALLED and each.status is ConditionStatus.TRUE
        for each in status.conditions
    )


def _occasion(situation: Situation, after: TrainingRunStatus) -> tuple[int, ...]:
    """What tells apart two times of the same. A run ends once, whatever is wished of it before that is written."""
    counts = (after.attempt, after.suspensions, after.restarts, after.restarts_count_towards_max)
    return situation.run.generation, *counts


def _name(situation: Situation, reason: str, after: TrainingRunStatus) -> str:
    told = repr((situation.run.uid, reason, *(() if after.phase.is_done else _occasion(situation, after))))
    return f"{situation.run.name[:200]}.{hashlib.sha256(told.encode()).hexdigest()[:16]}"
