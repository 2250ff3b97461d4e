"""What a rule decides about a run."""

from __future__ import annotations

from dataclasses import dataclass

from aisandbox_crds import Failure, Phase


@dataclass(frozen=True, slots=True)
class CreateJob:
    """Create the run's Job; ``failures_before`` is what earlier Jobs have spent of its backoff limit."""

    suspended: bool
    failures_before: int


@dataclass(frozen=True, slots=True)
class SuspendJob:
    """Set the Job's ``spec.suspend``. ``uid``: another Job of the same name is not changed."""

    uid: str
    suspended: bool


@dataclass(frozen=True, slots=True)
class DeleteJob:
    """Delete the Job and, first, its pods."""

    uid: str


@dataclass(frozen=True, slots=True)
class EndPod:
    """Give the pod its last phase, "Succeeded" or "Failed", because its trainer has exited; its node stops the rest."""

    name: str
    uid: str
    phase: str


Action = CreateJob | SuspendJob | DeleteJob | EndPod


@dataclass(frozen=True, slots=True)
class Decision:
    """The phase a run is in, why, and what is to be done.

    ``reason`` (a Reason, or Kubernetes' own word for a failure) and ``message`` are those of the condition Running.
    ``failure`` goes with Failed. ``requeue_after``: seconds after which time alone may change the decision.
    ``is_queued``: another controller decides when the run's Job may run. ``needs_attention``: a person may have to act.
    ``has_stalled``: no progress for too long. ``is_uncertain``: it is not known whether its trainer runs.
    ``keeps_status``: nothing is to be written, whatever the other fields say.
    """

    phase: Phase
    reason: str
    message: str = ""
    failure: Failure | None = None
    action: Action | None = None
    requeue_after: float | None = None
    is_queued: bool = False
    needs_attention: bool = False
    has_stalled: bool = False
    is_uncertain: bool = False
    keeps_status: bool = False
