"""The operator's part of a run's status: how it follows from a decision, and which fields it is.

Progress is the api-server's to tell. Only when no trainer is left, at the end and while the run is suspended, is what
the last one said written with the phase, so that a report that was lost or is late is not missed. In every other write
these fields are as they were read: a field that its last writer leaves out is removed (server-side apply,
https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from aisandbox_crds.codec import camel_case, status_to_json
from aisandbox_crds.status import (
    Artifact,
    Condition,
    ConditionStatus,
    ConditionType,
    Phase,
    Progress,
    TrainingRunStatus,
)
from aisandbox_crds.times import format_time, later_time
from aisandbox_crds.trainer_exit import TerminationMessage

from aisandbox_operator.accounting import account_of
from aisandbox_operator.conditions import OWN, conditions_of
from aisandbox_operator.decision import Decision
from aisandbox_operator.situation import Situation

_COUNTS = ("attempt", "suspensions", "restarts", "restarts_count_towards_max", "observed_generation")
_OWN = ("phase", "start_time", "completion_time", "failure", "conditions", *_COUNTS)
_PUBLISHED = ("latest_checkpoint", "latest_model", "best_model")
_PROGRESS = ("timesteps", "total_timesteps", "progress_percentage", "last_updated_time", "attempt")


def status_of(situation: Situation, decision: Decision) -> TrainingRunStatus:
    """The status that the decision means; equal to the present one when there is nothing to write."""
    status = situation.run.status
    if decision.keeps_status:
        return status
    account = account_of(situation, decision)
    after = replace(
        status,
        phase=decision.phase,
        failure=decision.failure,
        start_time=status.start_time or _start(situation, decision),
        attempt=account.attempt,
        suspensions=account.suspensions,
        restarts=account.restarts,
        restarts_count_towards_max=account.restarts_count_towards_max,
        observed_generation=situation.run.generation,
        conditions=conditions_of(situation, decision),
    )
    if decision.phase is Phase.SUSPENDED:
        return _with_last_words(after, situation)
    return _ended(after, situation) if decision.phase.is_done else after


def own_fields(status: TrainingRunStatus) -> dict[str, Any]:
    """What the operator applies of a status, as JSON; counts are said even when they are 0."""
    own = tuple(each for each in status.conditions if each.type in OWN or status.phase.is_done)
    said = status_to_json(replace(status, conditions=own))
    names = (*_OWN, *_PUBLISHED, *(("resumed_from",) if status.phase.is_done else ()))
    fields = {camel_case(name): said[camel_case(name)] for name in names if camel_case(name) in said}
    for name in _COUNTS:
        fields[camel_case(name)] = getattr(status, name)
    if status.progress != Progress():
        known = ((name, getattr(status.progress, name)) for name in _PROGRESS)
        fields["progress"] = {camel_case(name): value for name, value in known if value is not None}
    return fields


def _start(situation: Situation, decision: Decision) -> str | None:
    pod = situation.present_pod or situation.last_ended
    if pod is not None and pod.started is not None:
        return format_time(pod.started)
    return format_time(situation.now) if decision.phase is Phase.RUNNING else None


def _ended(status: TrainingRunStatus, situation: Situation) -> TrainingRunStatus:
    job = situation.job
    time = job.ended if job is not None and job.end and job.ended is not None else situation.now
    progress = replace(status.progress, total_timesteps=_total(status, situation))
    if status.phase is Phase.SUCCEEDED:  # with all that was due
        status = replace(status, conditions=tuple(_saved(each) for each in status.conditions))
    status = _with_last_words(replace(status, completion_time=format_time(time), progress=progress), situation)
    newest = _last_words(status, situation)
    return status if newest is None else replace(status, resumed_from=newest.resumed_from or status.resumed_from)


def _saved(condition: Condition) -> Condition:
    if condition.type is not ConditionType.CHECKPOINTS_SAVED or condition.status is ConditionStatus.TRUE:
        return condition
    return replace(condition, status=ConditionStatus.TRUE, reason="Saved", message="")


def _with_last_words(status: TrainingRunStatus, situation: Situation) -> TrainingRunStatus:
    """The status with what the last trainer said at its end; the same if that is known already, or was not heard."""
    newest = _last_words(status, situation)
    if newest is None:
        return status
    after = replace(
        status,
        progress=_reached(status.progress, newest, _total(status, situation)),
        latest_checkpoint=_published(newest.latest_checkpoint, status.latest_checkpoint),
        latest_model=_published(newest.latest_model, status.latest_model),
        best_model=_published(newest.best_model, status.best_model),
    )
    if after == status:
        return status
    # Newer than the reports that others may still hold.
    moment = later_time(status.progress.last_updated_time, situation.now)
    return replace(after, progress=replace(after.progress, last_updated_time=moment))


def _last_words(status: TrainingRunStatus, situation: Situation) -> TerminationMessage | None:
    newest = max(situation.endings, key=lambda ending: ending.attempt, default=None)
    return None if newest is None or newest.attempt < status.progress.attempt else newest


def _published(said: Artifact | None, known: Artifact | None) -> Artifact | None:
    """What was said, unless it is what is known: then with the time at which it was heard of first."""
    if said is None or (known is not None and (said.path, said.digest) == (known.path, known.digest)):
        return known
    return said


def _reached(progress: Progress, ending: TerminationMessage, total: int) -> Progress:
    """The steps of a trainer that came to train; one that says no more than what it began with takes nothing back."""
    began = ending.resumed_from.timesteps if ending.resumed_from is not None else 0
    timesteps = ending.timesteps if ending.timesteps > began else max(ending.timesteps, progress.timesteps)
    percentage = round(min(100.0 * timesteps / total, 100.0), 2) if total > 0 else 0.0
    attempt = max(progress.attempt, ending.attempt)
    return replace(
        progress, timesteps=timesteps, total_timesteps=total, progress_percentage=percentage, attempt=attempt
    )


def _total(status: TrainingRunStatus, situation: Situation) -> int:
    spec = situation.run.spec
    return spec.total_timesteps if spec is not None else status.progress.total_timesteps
