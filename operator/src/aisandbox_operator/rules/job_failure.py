"""Why a pod or a Job has failed: what Kubernetes adds to :func:`aisandbox_crds.trainer_exit.explain_exit`."""

from __future__ import annotations

from aisandbox_crds import Failure, Reason, backoff_limit_failure, bounded_failure, deadline_failure, explain_exit

from aisandbox_operator.attempt_counts import AttemptCounts
from aisandbox_operator.observed_objects import ObservedJob, ObservedPod

_MORE_MEMORY = "a higher memory limit (spec.resources.limits.memory)"
_DISRUPTIONS = (Reason.EVICTED, "Preempting", Reason.NODE_LOST, "Terminated", "Shutdown")


def explain_pod(pod: ObservedPod) -> Failure:
    """Why the trainer of a finished pod did not finish the run."""
    message = pod.termination_message
    has_failure = message is not None and message.failure is not None
    was_oom_killed = pod.exit_reason == Reason.OOM_KILLED
    if not has_failure and not was_oom_killed:
        detail = f": {pod.message}" if pod.message else ""
        if pod.was_disrupted or pod.reason in _DISRUPTIONS:
            return bounded_failure(pod.reason or Reason.EVICTED, f"the trainer's pod was evicted{detail}")
        if pod.exit_code is None:
            text = f"the trainer's pod failed before its trainer exited{detail}"
            return bounded_failure(pod.reason or Reason.POD_FAILED, text)
        if pod.exit_reason in (Reason.CONTAINER_CANNOT_RUN, Reason.START_ERROR):
            tail = f"; its last lines: {pod.log_tail}" if pod.log_tail else ""
            return bounded_failure(pod.exit_reason, f"the trainer could not be started{tail}")
    return explain_exit(pod.exit_code, message, pod.log_tail, oom_killed=was_oom_killed, more_memory=_MORE_MEMORY)


def explain_job(job: ObservedJob, pod: ObservedPod | None, deadline: int | None, counts: AttemptCounts) -> Failure:
    """Why the Job failed; ``pod`` is its last one, if that still exists."""
    if job.end_reason == Reason.DEADLINE_EXCEEDED:
        return deadline_failure(deadline)
    if pod is None:
        text = f"the trainer failed and its pods no longer exist; the Job says: {job.end_message or job.end_reason}"
        failure = bounded_failure(Reason.TRAINER_CRASHED, text)
    else:
        failure = explain_pod(pod)
    if job.end_reason == "BackoffLimitExceeded":
        return backoff_limit_failure(failure, counts.attempt, counts.restarts)
    return failure
