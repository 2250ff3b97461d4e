"""A trainer whose pod a person deletes: that must not count as its failure, so it serves ``spec.backoffLimit``.

Kubernetes marks the pods that it evicts, preempts or drains with the condition DisruptionTarget, and the Job does not
count them. It does not mark one that was deleted by hand, and where that leaves no time for a checkpoint (``--force``),
the end counts as a failure.
"""

from __future__ import annotations

from aisandbox_operator.observed_objects import ObservedPod
from aisandbox_operator.observed_state import ObservedState


def pod_to_mark(state: ObservedState) -> ObservedPod | None:
    """The pod that is being deleted, while nothing else ends its Job, and does not have the condition yet."""
    job, pod = state.job, state.current_pod
    if job is None or job.is_suspended or job.is_being_deleted or job.is_finishing or job.end or pod is None:
        return None
    return pod if pod.deletion_time is not None and not pod.was_disrupted else None
