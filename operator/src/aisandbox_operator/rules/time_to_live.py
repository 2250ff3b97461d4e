"""Runs that are deleted or done: only their Jobs are cleaned up; serves ``spec.ttlSecondsAfterFinished``.

A done run never gets a Job again. Its Job is deleted ``ttlSecondsAfterFinished`` after the end, and at once if it has
not finished, because it could still be resumed.
"""

from __future__ import annotations

from aisandbox_crds import Reason, seconds_since

from aisandbox_operator.decision import Decision, DeleteJob
from aisandbox_operator.observed_state import ObservedState


def ignore_deleted_run(state: ObservedState) -> Decision | None:
    """Kubernetes deletes the Job of a deleted run, by its owner reference."""
    if not state.run.is_being_deleted:
        return None
    return Decision(state.run.status.phase, Reason.DELETED, keeps_status=True)


def clean_up_done_run(state: ObservedState) -> Decision | None:
    """The run is in a terminal phase."""
    status, job = state.run.status, state.own_job
    if not status.phase.is_done:
        return None
    nothing = Decision(status.phase, Reason.DONE, keeps_status=True)
    if job is None or job.is_being_deleted:
        return nothing
    delete = Decision(status.phase, Reason.DONE, keeps_status=True, action=DeleteJob(job.uid))
    if not job.end or job is not state.job:
        return delete
    spec = state.run.spec
    seconds = spec.ttl_seconds_after_finished if spec is not None else None
    age = seconds_since(status.completion_time, state.now)
    if seconds is None or age is None:
        return nothing
    if age >= seconds:
        return delete
    return Decision(status.phase, Reason.DONE, keeps_status=True, requeue_after=seconds - age)
