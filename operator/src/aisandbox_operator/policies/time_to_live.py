"""Runs that need nothing more: deleted ones, and done ones but for what is left of their Jobs.

A done run never makes a Job again. Its Job goes ``ttlSecondsAfterFinished`` after the end, and at once if it has not
finished: somebody could still set it going.
"""

from __future__ import annotations

from aisandbox_crds.times import seconds_since

from aisandbox_operator.decision import Decision, DeleteJob
from aisandbox_operator.situation import Situation


def deleted(situation: Situation) -> Decision | None:
    """Kubernetes deletes the Job of a deleted run, by its owner reference."""
    if not situation.run.is_being_deleted:
        return None
    return Decision(situation.run.status.phase, "Deleted", keeps_status=True)


def done(situation: Situation) -> Decision | None:
    """The run is in a terminal phase."""
    status, job = situation.run.status, situation.job
    if not status.phase.is_done:
        return None
    rests = Decision(status.phase, "Done", keeps_status=True)
    if job is None or job.is_being_deleted:
        return rests
    delete = Decision(status.phase, "Done", keeps_status=True, action=DeleteJob(job.uid))
    if not job.end:
        return delete
    spec = situation.run.spec
    seconds = spec.ttl_seconds_after_finished if spec is not None else None
    age = seconds_since(status.completion_time, situation.now)
    if seconds is None or age is None:
        return rests
    if age >= seconds:
        return delete
    return Decision(status.phase, "Done", keeps_status=True, look_again=seconds - age)
