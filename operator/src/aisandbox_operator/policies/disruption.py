"""A trainer whose pod somebody deletes: not its own failure, however it ends.

Kubernetes marks the pods that it evicts, preempts or drains, and the Job does not count them. It does not mark one that
was deleted by hand, and where that leaves no time for a checkpoint (``--force``), the end counts as a failure.
"""

from __future__ import annotations

from aisandbox_operator.situation import Situation
from aisandbox_operator.views import PodView


def unmarked(situation: Situation) -> PodView | None:
    """The pod that is being deleted, while nothing else ends its Job, and is not marked as disrupted yet."""
    job, pod = situation.job, situation.present_pod
    if job is None or job.is_suspended or job.is_being_deleted or job.is_finishing or job.end or pod is None:
        return None
    return pod if pod.deletion_time is not None and not pod.was_disrupted else None
