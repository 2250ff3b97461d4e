"""A Job that has the run's name and belongs to something else; serves ``metadata.name``, which is also the Job's.

The run's own Job belongs to something else if it was created before the run got the status of a backup: its trainer
would set aside the files that the run has, and begin anew.
"""

from __future__ import annotations

from aisandbox_crds import KIND, Failure, Phase, Reason

from aisandbox_operator.decision import Decision, DeleteJob
from aisandbox_operator.observed_state import ObservedState

WAIT_SECONDS = 10.0


def check_job_name(state: ObservedState) -> Decision | None:
    """Waits for the Job of a deleted run of the same name; any other Job fails the run."""
    other, run, own = state.other_job, state.run, state.own_job
    if own is not None and state.job is None:
        message = "the run was restored from a backup; the Job that was created before that is being deleted"
        action = None if own.is_being_deleted else DeleteJob(own.uid)
        return Decision(run.status.phase, Reason.EARLIER_JOB_ENDING, message, action=action, requeue_after=WAIT_SECONDS)
    if other is None:
        return None
    if run.spec is not None and run.spec.cancel:
        return Decision(Phase.CANCELLED, Reason.CANCELLED, "the run was cancelled before it began")
    if other.is_being_deleted or other.owner_kind == KIND:
        message = "the Job of an earlier run of this name is still being deleted"
        return Decision(Phase.PENDING, Reason.EARLIER_JOB_ENDING, message, requeue_after=WAIT_SECONDS)
    message = (
        f"there is a Job {run.name!r} that does not belong to this run: delete that Job or choose another name, and "
        "create the run again"
    )
    return Decision(Phase.FAILED, Reason.JOB_NAME_TAKEN, message, Failure(Reason.JOB_NAME_TAKEN, message))
