"""The conditions of a run: what is so, for programs; all five are always there once the run was looked at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from aisandbox_crds.status import Condition, ConditionStatus, ConditionType, Phase

from aisandbox_operator.decision import Decision
from aisandbox_operator.situation import Situation
from aisandbox_operator.times import format_time


def conditions_of(situation: Situation, decision: Decision) -> tuple[Condition, ...]:
    """The conditions by type; ``last_transition_time`` changes with the status only."""
    before = {condition.type: condition for condition in situation.run.status.conditions}
    now = format_time(situation.now)
    result = []
    for condition in _conditions(decision):
        known = before.get(condition.type)
        kept = known is not None and known.status is condition.status and known.last_transition_time
        since = known.last_transition_time if known is not None and kept else now
        result.append(replace(condition, last_transition_time=since, observed_generation=situation.run.generation))
    return tuple(result)


def _conditions(decision: Decision) -> Iterable[Condition]:
    phase, reason, message = decision.phase, decision.reason, decision.message
    if phase is Phase.SUSPENDED or decision.is_queued:
        yield _condition(ConditionType.SUSPENDED, True, reason, message)
    else:
        yield _condition(ConditionType.SUSPENDED, False, "NotSuspended")
    yield _condition(ConditionType.RUNNING, phase is Phase.RUNNING, reason, message)
    complete = phase is Phase.SUCCEEDED
    yield _condition(ConditionType.COMPLETE, complete, phase.value if phase.is_done else "NotDone", message * complete)
    failed = phase is Phase.FAILED
    yield _condition(
        ConditionType.FAILED,
        failed,
        reason if failed else phase.value if phase.is_done else "NotDone",
        message * failed,
    )
    stalled = decision.has_stalled
    why = "NoProgress" if stalled else "Progressing" if phase is Phase.RUNNING else "NotRunning"
    yield _condition(ConditionType.PROGRESS_STALLED, stalled, why, message * stalled)


def _condition(kind: ConditionType, holds: bool, reason: str, message: str = "") -> Condition:
    return Condition(kind, ConditionStatus.TRUE if holds else ConditionStatus.FALSE, reason, message)
