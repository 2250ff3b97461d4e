"""The operator's part of a run's status: how it follows from a decision, and which fields it is.

The api-server writes the progress. Only when no trainer is left, at the end and while the run is suspended, the
operator writes what the last termination message says together with the phase, so that a lost or late report is made up
for. In every other write these fields are as they were read: a field that its last writer leaves out is removed
(server-side apply, https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from aisandbox_crds import (
    PUBLISHED,
    Condition,
    ConditionStatus,
    ConditionType,
    Phase,
    Progress,
    Reason,
    TrainingRunStatus,
    camel_case,
    format_time,
    status_after_last_report,
    status_to_json,
)

from aisandbox_operator.attempt_counts import count_attempts
from aisandbox_operator.conditions import OWN, conditions_of
from aisandbox_operator.decision import Decision
from aisandbox_operator.observed_state import ObservedState

_COUNTS = ("attempt", "suspensions", "restarts", "restarts_count_towards_max", "observed_generation")
_OWN = ("phase", "start_time", "completion_time", "failure", "files_uid", "conditions", *_COUNTS)
_PROGRESS = ("timesteps", "total_timesteps", "progress_percentage", "last_updated_time", "attempt")


def status_of(state: ObservedState, decision: Decision) -> TrainingRunStatus:
    """The status that follows from the decision; equal to the present one when there is nothing to write.

    Of a run that is done, only which generation of the spec was seen changes, because tools wait for that.
    """
    status = state.run.status
    if decision.keeps_status and status.phase.is_done and not state.run.is_being_deleted:
        return replace(status, observed_generation=state.run.generation)
    if decision.keeps_status:
        return status
    counts = count_attempts(state, decision)
    after = replace(
        status,
        phase=decision.phase,
        failure=decision.failure,
        start_time=status.start_time or _start(state, decision),
        attempt=counts.attempt,
        suspensions=counts.suspensions,
        restarts=counts.restarts,
        restarts_count_towards_max=counts.restarts_count_towards_max,
        files_uid=state.run.files_uid,
        observed_generation=state.run.generation,
        conditions=conditions_of(state, decision),
    )
    if decision.phase is Phase.SUSPENDED:
        return _with_final_progress(after, state)
    return _ended(after, state) if decision.phase.is_done else after


def own_fields(status: TrainingRunStatus) -> dict[str, Any]:
    """What the operator applies of a status, as JSON; counts are written even when they are 0."""
    own = tuple(each for each in status.conditions if each.type in OWN or status.phase.is_done)
    document = status_to_json(replace(status, conditions=own))
    names = (*_OWN, *PUBLISHED, "early_stop", "started_from", *(("resumed_from",) if status.phase.is_done else ()))
    fields = {camel_case(name): document[camel_case(name)] for name in names if camel_case(name) in document}
    for name in _COUNTS:
        fields[camel_case(name)] = getattr(status, name)
    if status.progress != Progress():
        known = ((name, getattr(status.progress, name)) for name in _PROGRESS)
        fields["progress"] = {camel_case(name): value for name, value in known if value is not None}
    return fields


def _start(state: ObservedState, decision: Decision) -> str | None:
    pod = state.current_pod or state.last_finished_pod
    if pod is not None and pod.started is not None:
        return format_time(pod.started)
    return format_time(state.now) if decision.phase is Phase.RUNNING else None


def _ended(status: TrainingRunStatus, state: ObservedState) -> TrainingRunStatus:
    job = state.job
    time = job.ended if job is not None and job.end and job.ended is not None else state.now
    progress = replace(status.progress, total_timesteps=_total(status, state))
    if status.phase is Phase.SUCCEEDED:  # which includes the last checkpoint
        status = replace(status, conditions=tuple(_saved(each) for each in status.conditions))
    status = _with_final_progress(replace(status, completion_time=format_time(time), progress=progress), state)
    last = state.newest_message
    if last is None or last.attempt < status.progress.attempt:
        return status
    return replace(status, resumed_from=last.resumed_from or status.resumed_from)


def _saved(condition: Condition) -> Condition:
    if condition.type is not ConditionType.CHECKPOINTS_SAVED or condition.status is ConditionStatus.TRUE:
        return condition
    return replace(condition, status=ConditionStatus.TRUE, reason=Reason.SAVED, message="")


def _with_final_progress(status: TrainingRunStatus, state: ObservedState) -> TrainingRunStatus:
    """The status with what the last termination message says; newer than the reports that others may still hold."""
    return status_after_last_report(status, state.newest_message, total=_total(status, state), now=state.now)


def _total(status: TrainingRunStatus, state: ObservedState) -> int:
    spec = state.run.spec
    return spec.total_timesteps if spec is not None else status.progress.total_timesteps
