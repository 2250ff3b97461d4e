"""Suspend and cancel: the trainer writes a checkpoint within its grace period, then nothing of it is left running.

Both stop the Job and differ in what follows. A Job is stopped by ``spec.suspend``; one that Kueue admits is deleted
instead, because Kueue sets a Job going again while its quota is granted, and takes the quota back when it is deleted.
"""

from __future__ import annotations

from aisandbox_crds.status import Phase

from aisandbox_operator.decision import Action, CreateJob, Decision, DeleteJob, SuspendJob
from aisandbox_operator.policies.completion import CANCELLED
from aisandbox_operator.situation import Situation

SUSPENDED = Decision(Phase.SUSPENDED, "Suspended", "the run is suspended; set spec.suspend to false to go on")


def cancelled(situation: Situation) -> Decision | None:
    """The run shall end."""
    spec, job = situation.run.spec, situation.job
    if spec is None or not spec.cancel:
        return None
    if job is None or situation.has_stopped:
        return CANCELLED
    return _stopping(situation, "Cancelling", "the run is being cancelled: its trainer writes a checkpoint")


def suspended(situation: Situation) -> Decision | None:
    """The run shall pause."""
    spec, job = situation.run.spec, situation.job
    if spec is None or not spec.suspend:
        return None
    if job is None:
        # A Job that is refused is asked for again when the run goes on, and told of then.
        no_job = situation.is_queued or bool(situation.observed.refused)
        return SUSPENDED if no_job else _suspended_with(situation)
    if situation.has_stopped and not situation.is_queued:
        return SUSPENDED
    return _stopping(situation, "Suspending", "the run is being suspended: its trainer writes a checkpoint")


def _suspended_with(situation: Situation) -> Decision:
    """A Job waits with the run, so that it goes on with one small write."""
    spent = situation.run.status.restarts_count_towards_max
    return Decision(
        Phase.SUSPENDED, SUSPENDED.reason, SUSPENDED.message, action=CreateJob(suspended=True, failures_before=spent)
    )


def _stopping(situation: Situation, reason: str, message: str) -> Decision:
    job = situation.job
    action: Action | None = None
    if job is not None and situation.is_queued:
        action = DeleteJob(job.uid)
    elif job is not None and not job.is_suspended:
        action = SuspendJob(job.uid, suspended=True)
    return Decision(situation.phase_at_work, reason, message, action=action)
