"""A pod that does not start: what is told of it, and when the run fails for it.

Want of room cures itself when another run ends, so it never fails a run. An image that cannot be pulled or a volume
that is not there may be put right by a person, for a while: from when it was first seen, which is when the condition
ProgressStalled became true, not from when the pod got its node. A large image may have been on its way until then.
"""

from __future__ import annotations

from datetime import datetime

from aisandbox_crds.status import ConditionStatus, ConditionType, Failure, Phase
from aisandbox_crds.times import parse_time, seconds_since

from aisandbox_operator.conditions import CANNOT_START
from aisandbox_operator.decision import Decision
from aisandbox_operator.situation import Situation
from aisandbox_operator.views import PodView

_IMAGE = {
    "ErrImagePull": "ImagePullBackOff",  # the two take turns
    "ImagePullBackOff": "ImagePullBackOff",
    "ErrImageNeverPull": "ErrImageNeverPull",
    "InvalidImageName": "InvalidImageName",
    "ImageInspectError": "ImageInspectError",
    "RegistryUnavailable": "ImagePullBackOff",
}
_CONTAINER = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_NO_CLAIM = "persistentvolumeclaim"


def not_starting(situation: Situation) -> Decision | None:
    """The present pod of the Job has trouble starting."""
    pod, job = situation.present_pod, situation.job
    if job is None or job.is_suspended or pod is None or pod.is_running or pod.deletion_time is not None:
        return None
    failure = _lasting_trouble(pod, situation)
    if failure is None:
        return _unscheduled(pod)
    patience = situation.settings.start_deadline_seconds
    waited = seconds_since(_first_seen(situation), situation.now) or 0.0
    if waited >= patience:
        message = f"{failure.message} (given up after {patience} s)"
        return Decision(Phase.FAILED, failure.reason, message, Failure(failure.reason, message))
    return Decision(
        Phase.STARTING,
        failure.reason,
        failure.message,
        is_trouble=True,
        has_stalled=True,
        look_again=max(patience - waited, 1.0),
    )


def _first_seen(situation: Situation) -> datetime | None:
    for condition in situation.run.status.conditions:
        if condition.type is ConditionType.PROGRESS_STALLED and condition.status is ConditionStatus.TRUE:
            return parse_time(condition.last_transition_time) if condition.reason == CANNOT_START else None
    return None


def _lasting_trouble(pod: PodView, situation: Situation) -> Failure | None:
    """What a person has to put right."""
    settings = situation.settings
    said = f": {pod.wait_message}" if pod.wait_message else ""
    if pod.waits_for in _IMAGE:
        message = f"the trainer's image {settings.trainer_image!r} cannot be pulled{said}"
        return Failure(_IMAGE[pod.waits_for], message)
    if pod.waits_for in _CONTAINER:
        return Failure(pod.waits_for, f"the trainer's container cannot be made{said}")
    text = pod.unscheduled_message
    if pod.unscheduled and _NO_CLAIM in text and "not found" in text:
        message = f"the volume for models is missing (MODELS_CLAIM of the operator): {text}"
        return Failure("ClaimNotFound", message)
    return None


def _unscheduled(pod: PodView) -> Decision | None:
    if not pod.unscheduled:
        return None
    message = f"no node can take the trainer yet: {pod.unscheduled_message}"
    return Decision(Phase.STARTING, "Unschedulable", message, is_trouble=True)
