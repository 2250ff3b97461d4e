"""A Job that is being deleted or has gone, by whomever: nothing is begun before all its pods have ended."""

from __future__ import annotations

from aisandbox_operator.decision import Decision
from aisandbox_operator.situation import Situation

WAIT_SECONDS = 30.0


def ending(situation: Situation) -> Decision | None:
    """Waits for the end of what may still be at work on the run's files."""
    job = situation.job
    if job is not None and not job.is_being_deleted:
        return None
    lingering = situation.lingering
    if job is None and not lingering:
        return None
    what = f"pod {lingering[0].name!r}" if lingering else "Job"
    message = f"the {what} of this run is ending; what comes next begins after it"
    return Decision(situation.phase_at_work, "Ending", message, look_again=WAIT_SECONDS)
