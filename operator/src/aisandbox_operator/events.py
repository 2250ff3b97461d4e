"""Kubernetes events about a run (``kubectl describe``): what has changed, once.

An event's name follows from its content, so an operator that crashed after it created the event, or a second operator,
creates the same one; a state that lasts makes no further events.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from aisandbox_crds import ConditionStatus, ConditionType, Phase, Reason, TrainingRunStatus

from aisandbox_operator.decision import CreateJob, Decision, EndPod
from aisandbox_operator.observed_objects import ObservedRun
from aisandbox_operator.observed_state import ObservedState

LONGEST_NOTE = 1000
"""Of events.k8s.io/v1: under 1 kB."""

_OF_PHASES = {
    Phase.RUNNING: Reason.TRAINER_RUNNING,
    Phase.SUSPENDED: Reason.SUSPENDED,
    Phase.SUCCEEDED: Reason.SUCCEEDED,
    Phase.CANCELLED: Reason.CANCELLED,
}


@dataclass(frozen=True, slots=True)
class Event:
    """One event about a run; ``is_warning``: a person may have to act."""

    name: str
    reason: str
    note: str
    is_warning: bool = False


def events_of(state: ObservedState, decision: Decision, after: TrainingRunStatus) -> tuple[Event, ...]:
    """The events of the step from the run's present status to ``after``."""
    return tuple(
        Event(_name(state, reason, after), reason, _note(note), is_warning)
        for reason, note, is_warning in _changes(state, decision, after)
    )


def refusal_event(run: ObservedRun, why: str, is_webhook_down: bool) -> Event:
    """The API server does not let the operator change the run's Job."""
    reason = Reason.WEBHOOK_UNAVAILABLE if is_webhook_down else Reason.JOB_FORBIDDEN
    content = repr((run.uid, str(reason), run.generation))
    return Event(_name_of(run.name, content), reason, _note(f"the run's Job cannot be changed: {why}"), is_warning=True)


def _note(text: str) -> str:
    return text.encode()[:LONGEST_NOTE].decode(errors="ignore")


def _changes(state: ObservedState, decision: Decision, after: TrainingRunStatus) -> Iterable[tuple[str, str, bool]]:
    before = state.run.status
    if isinstance(decision.action, CreateJob):
        yield Reason.JOB_CREATED, f"created the Job {state.run.name!r}", False
    if isinstance(decision.action, EndPod):
        yield Reason.SIDECARS_STOPPED, decision.message, False
    if after == before:
        return
    if after.phase is Phase.FAILED and before.phase is not Phase.FAILED:
        yield decision.reason, decision.message, True
    elif after.phase is not before.phase and after.phase in _OF_PHASES:
        yield _OF_PHASES[after.phase], decision.message, False
    elif decision.needs_attention and _running_reason(before) != decision.reason:
        yield decision.reason, decision.message, True
    if decision.has_stalled and after.phase is Phase.RUNNING and not _has_stalled(before):
        yield Reason.PROGRESS_STALLED, decision.message, True


def _running_reason(status: TrainingRunStatus) -> str:
    return next((each.reason for each in status.conditions if each.type is ConditionType.RUNNING), "")


def _has_stalled(status: TrainingRunStatus) -> bool:
    return any(
        each.type is ConditionType.PROGRESS_STALLED and each.status is ConditionStatus.TRUE
        for each in status.conditions
    )


def _occurrence(state: ObservedState, after: TrainingRunStatus) -> tuple[int, ...]:
    """What distinguishes two events with the same reason."""
    counts = (after.attempt, after.suspensions, after.restarts, after.restarts_count_towards_max)
    return state.run.generation, *counts


def _name(state: ObservedState, reason: str, after: TrainingRunStatus) -> str:
    # A run ends once, whatever its spec says until that is written.
    occurrence = () if after.phase.is_done else _occurrence(state, after)
    content = repr((state.run.uid, str(reason), *occurrence))
    return _name_of(state.run.name, content)


def _name_of(run: str, content: str) -> str:
    return f"{run[:200]}.{hashlib.sha256(content.encode()).hexdigest()[:16]}"
