"""A Job that is being deleted or no longer exists: nothing is started before all its pods have ended.

Serves no field of the spec: two trainers of a run must not write its files at the same time.
"""

from __future__ import annotations

from aisandbox_crds import Reason

from aisandbox_operator.decision import Decision
from aisandbox_operator.observed_state import ObservedState

WAIT_SECONDS = 30.0


def wait_for_deletion(state: ObservedState) -> Decision | None:
    """Waits for the end of every pod that may still write the run's files."""
    job = state.job
    if job is not None and not job.is_being_deleted:
        return None
    active_pods = state.active_pods
    if job is None and not active_pods:
        return None
    what = f"pod {active_pods[0].name!r}" if active_pods else "Job"
    silent = [pod.node for pod in active_pods if state.lost_since(pod) is not None]
    detail = f" (the node {silent[0]!r} does not answer)" if silent else ""
    message = f"the {what} of this run is being deleted{detail}; the run continues after that"
    return Decision(state.last_known_phase, Reason.ENDING, message, requeue_after=WAIT_SECONDS)
