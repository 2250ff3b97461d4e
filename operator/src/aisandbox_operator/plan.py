"""What is to be done about a run: a pure function of what was observed, the settings and the time.

Level-triggered: it does not matter which watch events were delivered, lost or repeated, nor what was planned before. A
plan has at most one action on the Job and one write of the status, and carrying out plans ends in a state with nothing
to do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from aisandbox_crds import TrainingRunStatus

from aisandbox_operator.decision import Action, Decision, DeleteJob, SuspendJob
from aisandbox_operator.events import Event, events_of
from aisandbox_operator.observed_objects import ObservedPod, ObservedRun, RelatedObjects
from aisandbox_operator.observed_state import ObservedState
from aisandbox_operator.rules import (
    completion,
    disruption,
    invalid_spec,
    job_deletion,
    job_name,
    outdated_job,
    start_failure,
    suspension,
    time_to_live,
    training,
)
from aisandbox_operator.settings import Settings
from aisandbox_operator.status_fields import own_fields, status_of

RULES: tuple[Callable[[ObservedState], Decision | None], ...] = (
    time_to_live.ignore_deleted_run,
    time_to_live.clean_up_done_run,
    job_name.check_job_name,
    completion.complete,
    invalid_spec.reject_invalid_spec,
    invalid_spec.reject_what_is_not_allowed,
    job_deletion.wait_for_deletion,
    suspension.cancel,
    suspension.suspend,
    outdated_job.replace_outdated_job,
    start_failure.handle_start_failure,
    training.create_job,
    training.resume_job,
    training.observe_trainer,
)
"""In this order; the last one always decides."""


@dataclass(frozen=True, slots=True)
class Plan:
    """In this order: mark ``disrupted_pod``, do ``action``, create ``events``, write ``status``.

    ``status`` None: there is nothing to write. ``requeue_after``: seconds until time alone may change the plan; None:
    never.
    """

    action: Action | None = None
    events: tuple[Event, ...] = ()
    status: TrainingRunStatus | None = None
    requeue_after: float | None = None
    disrupted_pod: ObservedPod | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be done now."""
        return self.action is None and self.status is None and self.disrupted_pod is None


def plan(run: ObservedRun, related: RelatedObjects, settings: Settings, now: datetime) -> Plan:
    """What is to be done about the run; never raises.

    A Job is deleted or suspended only when the status has what that Job was the only record of, so that no crash in
    between can lose the end of a run, what it has spent of its backoff limit, or that a trainer was running.
    """
    state = ObservedState(run, related, settings, now)
    decision = decide(state)
    after = status_of(state, decision)
    is_changed = own_fields(after) != own_fields(run.status)
    events = events_of(state, decision, after)
    if is_changed and _destroys_a_record(decision.action, run.status, after):
        return Plan(None, events, after, 0.0)
    requeue_after = decision.requeue_after
    if is_changed and after.phase.is_done:
        requeue_after = 0.0  # to clean up its Job
    disrupted_pod = None if run.status.phase.is_done else disruption.pod_to_mark(state)
    return Plan(decision.action, events, after if is_changed else None, requeue_after, disrupted_pod)


def _destroys_a_record(action: Action | None, before: TrainingRunStatus, after: TrainingRunStatus) -> bool:
    if isinstance(action, SuspendJob):
        return action.suspended and after.phase is not before.phase
    return isinstance(action, DeleteJob)


def decide(state: ObservedState) -> Decision:
    """The decision of the first rule that has one."""
    decisions = (rule(state) for rule in RULES)
    return next(decision for decision in decisions if decision is not None)
