"""A Job that has the run's name and is not the run's."""

from __future__ import annotations

from aisandbox_crds.status import Failure, Phase
from aisandbox_crds.trainingrun import KIND

from aisandbox_operator.decision import Decision
from aisandbox_operator.situation import Situation

WAIT_SECONDS = 10.0


def name_taken(situation: Situation) -> Decision | None:
    """Waits for the Job of a deleted run of the same name; somebody else's Job fails the run."""
    other, run = situation.other_job, situation.run
    if other is None:
        return None
    if run.spec is not None and run.spec.cancel:
        return Decision(Phase.CANCELLED, "Cancelled", "the run was cancelled before it began")
    if other.is_being_deleted or other.owner_kind == KIND:
        message = "the Job of an earlier run of this name is still being deleted"
        return Decision(Phase.PENDING, "EarlierJobEnding", message, look_again=WAIT_SECONDS)
    message = (
        f"there is a Job {run.name!r} that does not belong to this run: delete that Job or choose another name, and "
        "create the run again"
    )
    return Decision(Phase.FAILED, "JobNameTaken", message, Failure("JobNameTaken", message))
