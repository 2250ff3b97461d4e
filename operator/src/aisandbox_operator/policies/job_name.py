"""A Job that has the run's name and belongs to something else; serves ``metadata.name``, which is also the Job's."""

from __future__ import annotations

from aisandbox_crds import KIND, Failure, Phase, Reason

from aisandbox_operator.decision import Decision
from aisandbox_operator.observed_state import ObservedState

WAIT_SECONDS = 10.0


def check_job_name(state: ObservedState) -> Decision | None:
    """Waits for the Job of a deleted run of the same name; any other Job fails the run."""
    other, run = state.other_job, state.run
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
