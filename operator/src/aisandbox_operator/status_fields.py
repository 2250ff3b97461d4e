"""The operator's part of a run's status: how it follows from a decision, and which fields it is.

Must not touch what is the api-server's, but at the run's end: then what the trainer said last is written with it, so
that a report that was lost is not missed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from aisandbox_crds.codec import camel_case, status_to_json
from aisandbox_crds.status import Phase, Progress, TrainingRunStatus
from aisandbox_crds.trainer_exit import TerminationMessage

from aisandbox_operator.accounting import account_of
from aisandbox_operator.conditions import conditions_of
from aisandbox_operator.decision import Decision
from aisandbox_operator.situation import Situation
from aisandbox_operator.times import format_time

_COUNTS = ("attempt", "suspensions", "restarts", "restarts_count_towards_max", "observed_generation")
_OWN = ("phase", "start_time", "completion_time", "failure", "conditions", *_COUNTS)
_AT_THE_END = ("latest_checkpoint", "latest_model", "best_model", "resumed_from")
_PROGRESS = ("timesteps", "total_timesteps", "progress_percentage")


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
    return _ended(after, situation) if decision.phase.is_done else after


def own_fields(status: TrainingRunStatus) -> dict[str, Any]:
    """What the operator applies of a status, as JSON; counts are said even when they are 0."""
    said = status_to_json(status)
    fields = {camel_case(name): said[camel_case(name)] for name in _OWN if camel_case(name) in said}
    for name in _COUNTS:
        fields[camel_case(name)] = getattr(status, name)
    if status.phase.is_done:
        fields |= {camel_case(name): said[camel_case(name)] for name in _AT_THE_END if camel_case(name) in said}
        fields["progress"] = {camel_case(name): getattr(status.progress, name) for name in _PROGRESS}
    return fields


def _start(situation: Situation, decision: Decision) -> str | None:
    pod = situation.present_pod or situation.last_ended
    if pod is not None and pod.started is not None:
        return format_time(pod.started)
    return format_time(situation.now) if decision.phase is Phase.RUNNING else None


def _ended(status: TrainingRunStatus, situation: Situation) -> TrainingRunStatus:
    job, spec = situation.job, situation.run.spec
    time = job.ended if job is not None and job.end and job.ended is not None else situation.now
    status = replace(status, completion_time=format_time(time))
    newest = max(situation.endings, key=lambda ending: ending.attempt, default=None)
    total = spec.total_timesteps if spec is not None else status.progress.total_timesteps
    if newest is None or newest.attempt < status.progress.attempt:
        return replace(status, progress=replace(status.progress, total_timesteps=total))
    return replace(
        status,
        progress=_progress(status.progress, newest, total),
        latest_checkpoint=newest.latest_checkpoint or status.latest_checkpoint,
        latest_model=newest.latest_model or status.latest_model,
        best_model=newest.best_model or status.best_model,
        resumed_from=newest.resumed_from or status.resumed_from,
    )


def _progress(progress: Progress, ending: TerminationMessage, total: int) -> Progress:
    percentage = round(min(100.0 * ending.timesteps / total, 100.0), 2) if total > 0 else 0.0
    return replace(progress, timesteps=ending.timesteps, total_timesteps=total, progress_percentage=percentage)
