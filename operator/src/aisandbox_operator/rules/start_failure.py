"""A pod that does not start: what is reported, and when the run fails; serves the setting START_DEADLINE_SECONDS.

A pod for which no node has room waits for as long as it takes: room comes when another run ends. An image that cannot
be pulled or a volume that does not exist needs a person, who gets START_DEADLINE_SECONDS: from when it was first seen,
which is when the condition ProgressStalled became True, and not from when the pod got its node, because a large image
may have been pulled until then.
"""

from __future__ import annotations

from datetime import datetime

from aisandbox_crds import ConditionStatus, ConditionType, Failure, Phase, Reason, parse_time, seconds_since

from aisandbox_operator.decision import Decision
from aisandbox_operator.observed_objects import ObservedPod
from aisandbox_operator.observed_state import ObservedState

_IMAGE: dict[str, Reason] = {
    "ErrImagePull": Reason.IMAGE_PULL_BACK_OFF,  # alternates with ImagePullBackOff
    "RegistryUnavailable": Reason.IMAGE_PULL_BACK_OFF,
    **{
        reason.value: reason
        for reason in (
            Reason.IMAGE_PULL_BACK_OFF,
            Reason.ERR_IMAGE_NEVER_PULL,
            Reason.INVALID_IMAGE_NAME,
            Reason.IMAGE_INSPECT_ERROR,
        )
    },
}
_CONTAINER = (Reason.CREATE_CONTAINER_CONFIG_ERROR, Reason.CREATE_CONTAINER_ERROR, Reason.RUN_CONTAINER_ERROR)
_NO_CLAIM = "persistentvolumeclaim"


def handle_start_failure(state: ObservedState) -> Decision | None:
    """The current pod of the Job cannot start."""
    pod, job = state.current_pod, state.job
    if job is None or job.is_suspended or pod is None or pod.is_running or pod.deletion_time is not None:
        return None
    failure = _lasting_failure(pod)
    if failure is None:
        return _unschedulable(pod)
    deadline = state.settings.start_deadline_seconds
    waited = seconds_since(_first_seen(state), state.now) or 0.0
    if waited >= deadline:
        message = f"{failure.message} (given up after {deadline} s)"
        return Decision(Phase.FAILED, failure.reason, message, Failure(failure.reason, message))
    return Decision(
        Phase.STARTING,
        failure.reason,
        failure.message,
        needs_attention=True,
        has_stalled=True,
        requeue_after=max(deadline - waited, 1.0),
    )


def _first_seen(state: ObservedState) -> datetime | None:
    for condition in state.run.status.conditions:
        if condition.type is ConditionType.PROGRESS_STALLED and condition.status is ConditionStatus.TRUE:
            return parse_time(condition.last_transition_time) if condition.reason == Reason.CANNOT_START else None
    return None


def cannot_pull(pod: ObservedPod) -> bool:
    """Whether the pod waits for an image that cannot be pulled."""
    return pod.waits_for in _IMAGE


def _lasting_failure(pod: ObservedPod) -> Failure | None:
    """What a person has to repair."""
    detail = f": {pod.wait_message}" if pod.wait_message else ""
    if cannot_pull(pod):
        message = f"the trainer's image {pod.image!r} cannot be pulled{detail}"
        return Failure(_IMAGE[pod.waits_for], message)
    if pod.waits_for in _CONTAINER:
        return Failure(pod.waits_for, f"the trainer's container cannot be created{detail}")
    text = pod.unscheduled_message
    if pod.unscheduled and _NO_CLAIM in text and "not found" in text:
        message = f"the volume for models is missing (MODELS_CLAIM of the operator): {text}"
        return Failure(Reason.CLAIM_NOT_FOUND, message)
    return None


def _unschedulable(pod: ObservedPod) -> Decision | None:
    if not pod.unscheduled:
        return None
    message = f"no node has room for the trainer yet: {pod.unscheduled_message}"
    return Decision(Phase.STARTING, Reason.UNSCHEDULABLE, message, needs_attention=True)
