"""What is to be done about a run: a pure function of what was seen, the settings and the time.

Level-triggered: it does not matter which events were seen, lost or doubled, nor what was planned before. A plan has at
most one action on the Job and one write of the status, and carrying it out leads to a situation with nothing to do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from aisandbox_crds.status import TrainingRunStatus

from aisandbox_operator.announcements import Announcement, announcements_of
from aisandbox_operator.decision import Action, Decision, DeleteJob, SuspendJob
from aisandbox_operator.policies import (
    completion,
    disruption,
    invalid_spec,
    job_loss,
    name_clash,
    start_trouble,
    suspension,
    time_to_live,
    training,
)
from aisandbox_operator.settings import Settings
from aisandbox_operator.situation import Situation
from aisandbox_operator.status_fields import own_fields, status_of
from aisandbox_operator.views import Observed, PodView, RunView

POLICIES: tuple[Callable[[Situation], Decision | None], ...] = (
    time_to_live.deleted,
    time_to_live.done,
    name_clash.name_taken,
    completion.finished,
    invalid_spec.invalid,
    job_loss.ending,
    suspension.cancelled,
    suspension.suspended,
    start_trouble.not_starting,
    training.created,
    training.admitted,
    training.followed,
)
"""In this order; the last one always decides."""


@dataclass(frozen=True, slots=True)
class Plan:
    """``disrupted``, a pod to be marked as that, comes first, then ``action``, then ``announcements``, then ``status``.

    ``status`` None: there is nothing to write. ``look_again``: seconds until time alone may change
    the plan; None: never.
    """

    action: Action | None = None
    announcements: tuple[Announcement, ...] = ()
    status: TrainingRunStatus | None = None
    look_again: float | None = None
    disrupted: PodView | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be done now."""
        return self.action is None and self.status is None and self.disrupted is None


def plan(run: RunView, observed: Observed, settings: Settings, now: datetime) -> Plan:
    """What is to be done about the run; never raises.

    A Job is deleted or suspended only when the status says already what it was the only record of, so that no crash in
    between can lose the end of a run, what it has spent of its backoff limit, or that a trainer was at work.
    """
    situation = Situation(run, observed, settings, now)
    decision = decide(situation)
    after = status_of(situation, decision)
    is_new = own_fields(after) != own_fields(run.status)
    told = announcements_of(situation, decision, after)
    if is_new and _loses_what_it_tells(decision.action, run.status, after):
        return Plan(None, told, after, 0.0)
    settled = decision.look_again
    if is_new and after.phase.is_done:
        settled = 0.0  # what is left of its Job
    disrupted = None if run.status.phase.is_done else disruption.unmarked(situation)
    return Plan(decision.action, told, after if is_new else None, settled, disrupted)


def _loses_what_it_tells(action: Action | None, before: TrainingRunStatus, after: TrainingRunStatus) -> bool:
    if isinstance(action, SuspendJob):
        return action.suspended and after.phase is not before.phase
    return isinstance(action, DeleteJob)


def decide(situation: Situation) -> Decision:
    """The decision of the first policy that has one."""
    decisions = (policy(situation) for policy in POLICIES)
    return next(decision for decision in decisions if decision is not None)
