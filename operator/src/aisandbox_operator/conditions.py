"""The conditions of a run, for programs; the operator's exist from the first reconcile on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from aisandbox_crds import Condition, ConditionStatus, ConditionType, Phase, Reason, format_time

from aisandbox_operator.decision import Decision
from aisandbox_operator.observed_state import ObservedState

OWN = frozenset(ConditionType) - {ConditionType.CHECKPOINTS_SAVED}
"""Those that the operator writes; the api-server writes the other one, from what trainers report."""


def conditions_of(state: ObservedState, decision: Decision) -> tuple[Condition, ...]:
    """The operator's conditions, and then those of others unchanged.

    ``last_transition_time`` changes with the status; ProgressStalled's also with the reason, as each has its own
    deadline.
    """
    before = {condition.type: condition for condition in state.run.status.conditions}
    now = format_time(state.now)
    result = []
    for condition in _conditions(decision):
        known = before.get(condition.type)
        kept = known is not None and _is_same(known, condition) and known.last_transition_time
        since = known.last_transition_time if known is not None and kept else now
        result.append(replace(condition, last_transition_time=since, observed_generation=state.run.generation))
    return (*result, *(condition for kind, condition in before.items() if kind not in OWN))


def _is_same(known: Condition, condition: Condition) -> bool:
    if condition.type is ConditionType.PROGRESS_STALLED and known.reason != condition.reason:
        return False
    return known.status is condition.status


def _conditions(decision: Decision) -> Iterable[Condition]:
    phase, reason, message = decision.phase, decision.reason, decision.message
    if phase is Phase.SUSPENDED or decision.is_queued:
        yield _condition(ConditionType.SUSPENDED, True, reason, message)
    else:
        yield _condition(ConditionType.SUSPENDED, False, Reason.NOT_SUSPENDED)
    running = _condition(ConditionType.RUNNING, phase is Phase.RUNNING, reason, message)
    yield replace(running, status=ConditionStatus.UNKNOWN) if decision.is_uncertain else running
    complete = phase is Phase.SUCCEEDED
    yield _condition(ConditionType.COMPLETE, complete, reason if complete else _end_reason(phase), message * complete)
    failed = phase is Phase.FAILED
    yield _condition(
        ConditionType.FAILED,
        failed,
        reason if failed else _end_reason(phase),
        message * failed,
    )
    stalled = decision.has_stalled
    if phase is Phase.RUNNING:
        why = Reason.NO_PROGRESS if stalled else Reason.PROGRESSING
    else:
        why = Reason.CANNOT_START if stalled else Reason.NOT_RUNNING
    yield _condition(ConditionType.PROGRESS_STALLED, stalled, why, message * stalled)
    yield from _kstatus_conditions(decision)


def _kstatus_conditions(decision: Decision) -> Iterable[Condition]:
    """What Flux and other tools read of any resource: whether it is as its spec asks, is getting there, or never will.

    Source: sigs.k8s.io/cli-utils, pkg/kstatus, "The ready condition" and the conditions Reconciling and Stalled.
    """
    phase, reason, message = decision.phase, decision.reason, decision.message
    has_settled, failed = phase.is_done or phase is Phase.SUSPENDED, phase is Phase.FAILED
    yield _condition(ConditionType.READY, has_settled and not failed, reason, message)
    state = reason if not has_settled else Reason(phase.value)
    yield _condition(ConditionType.RECONCILING, not has_settled, state, message * (not has_settled))
    yield _condition(ConditionType.STALLED, failed, reason if failed else _end_reason(phase), message * failed)


def _end_reason(phase: Phase) -> Reason:
    return Reason(phase.value) if phase.is_done else Reason.NOT_DONE


def _condition(kind: ConditionType, holds: bool, reason: str, message: str = "") -> Condition:
    return Condition(kind, ConditionStatus.TRUE if holds else ConditionStatus.FALSE, reason, message)
