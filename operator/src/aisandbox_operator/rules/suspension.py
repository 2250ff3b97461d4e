"""Suspend and cancel; serves ``spec.suspend`` and ``spec.cancel``.

Both stop the Job, so that the trainer writes a checkpoint within its grace period; they differ in what follows. A Job
is stopped by its own ``spec.suspend``. One that Kueue admits is deleted instead, because Kueue resumes a Job while its
quota is granted, and takes the quota back when the Job is deleted.
"""

from __future__ import annotations

from aisandbox_crds import Phase, Reason

from aisandbox_operator.decision import Action, CreateJob, Decision, DeleteJob, SuspendJob
from aisandbox_operator.observed_state import ObservedState
from aisandbox_operator.rules.completion import CANCELLED

SUSPENDED = Decision(Phase.SUSPENDED, Reason.SUSPENDED, "the run is suspended; set spec.suspend to false to resume it")


def cancel(state: ObservedState) -> Decision | None:
    """``spec.cancel``: the run ends when its trainer has stopped."""
    spec, job = state.run.spec, state.job
    if spec is None or not spec.cancel:
        return None
    if job is None or state.is_stopped:
        return CANCELLED
    return _stop(state, Reason.CANCELLING, "the run is being cancelled: its trainer writes a checkpoint")


def suspend(state: ObservedState) -> Decision | None:
    """``spec.suspend``: the run is suspended when its trainer has stopped."""
    spec, job = state.run.spec, state.job
    if spec is None or not spec.suspend:
        return None
    if job is None:
        # A Job that the API server refuses is created when the run is resumed, and the refusal is reported then.
        no_job = state.is_queued or bool(state.related.job_refusal)
        return SUSPENDED if no_job else _suspend_with_job(state)
    if state.is_stopped and not state.is_queued:
        return SUSPENDED
    return _stop(state, Reason.SUSPENDING, "the run is being suspended: its trainer writes a checkpoint")


def _suspend_with_job(state: ObservedState) -> Decision:
    """The run has a suspended Job, so that a resume is one small write."""
    spent = state.run.status.restarts_count_towards_max
    return Decision(
        Phase.SUSPENDED, SUSPENDED.reason, SUSPENDED.message, action=CreateJob(suspended=True, failures_before=spent)
    )


def _stop(state: ObservedState, reason: Reason, message: str) -> Decision:
    job = state.job
    action: Action | None = None
    if job is not None and state.is_queued:
        action = DeleteJob(job.uid)
    elif job is not None and not job.is_suspended:
        action = SuspendJob(job.uid, suspended=True)
    return Decision(state.last_known_phase, reason, message, action=action)
